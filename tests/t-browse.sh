# The site for a stranger: from any host and place, after another build, by keyboard alone, in both schemes, and made from
# a hostile corpus by the tools themselves.
. "$(dirname "$0")/lib.sh"
cd "$TMP" || exit 1
"$TOP/tests/make-top" . 40 || exit 1
make="$BIN/htmlgen -q --metrics sae.jsonl --gpt-metrics gpt.jsonl"

# ---- a hostile corpus, from text to pages ----
python3 - <<'P' || exit 1
import json
lines = [
    '<script>document.title="owned"</script><img src=x onerror=document.title=1>',
    '" onmouseover="document.title=2" \' onfocus=alert(1) autofocus x="</textarea></title></style></noscript>',
    'nul \0 bell \a esc \x1b[2J del \x7f cr \r tab \t nel \x85 ls \u2028 ps \u2029 bom \ufeff nbsp \xa0',
    'over \u202egnp.exe\u202c iso \u2067abc\u2069 mark \u200f\u200e join \u200d\u200c\u2060 shy \xad',
    'pair \U0001F469\u200d\U0001F4BB family \U0001F468\u200d\U0001F469\u200d\U0001F467\u200d\U0001F466 flag \U0001F1E9\U0001F1EA tone \U0001F44D\U0001F3FD',
    'zalgo z' + '\u0301\u0489\u0335' * 12 + 'a' + '\u0300' * 40 + ' e\u0301 \u0b95\u0bcd\u0bb7\u0bbf \u0e01\u0e33',
    'سلام العالم مرحبا שלום עולם <b>نص</b> 中文字符没有空格的一段话 日本語テキスト 한국어 텍스트',
    '-' * 300 + '=' * 200 + ' ' * 150 + '\n' * 40 + 'ÃÂ' * 60 + 'A' * 100,
    ']]> --> <!-- <![CDATA[ {{x}} ${x} `x` \\u003cscript\\u003e &lt;b&gt; &#60; javascript:alert(1) data:text/html,x //example.org/x.js',
    '"); alert(1); chunk("site", {}); //</script>\u0100 \u0100 import("x") */ /*',
]
with open('hostile.jsonl', 'w') as f:
    for i in range(60):
        f.write(json.dumps({'text': '\n'.join(lines[(i + k) % len(lines)] for k in range(4))}) + '\n')
    f.write('{"text": "alone \\ud800 \\udfff\\ud83d end"}\n')
    f.write(json.dumps({'text': 'q' * 100000}) + '\n')
    f.write('{"text": "' + ('\\ufffd' * 50 + '\\u0000') * 4 + '"}\n')
with open('hostile.txt', 'wb') as f:
    f.write((b'bytes \xff\xfe\xc0\xaf\xed\xa0\x80 cut \xf0\x9f\x98 \x80\x80 nul \0\0 <svg onload=alert(2)> ' * 40 + b'\n') * 2)
with open('samples.txt', 'w') as f:
    f.write('\n%\n'.join(line.replace('\0', '') for line in lines[:6]))
P
grind() { # the tools in a row, small
	"$BIN/tokenize" -q --val 0.2 --val-out val.zst -o train.zst hostile.jsonl hostile.txt &&
	"$BIN/gptrain" -q --n-head 2 --n-embd 16 --block 32 --batch 4 --iters 8 --eval-every 4 --eval-contexts 4 --val val.zst -o gpt.safetensors train.zst &&
	"$BIN/mlpdump" -q --gpt gpt.safetensors --contexts 64 --samples 16 --bins 1 -o acts.zst train.zst &&
	"$BIN/shuffle" -q -o mix.zst acts.zst && "$BIN/resample-pick" -q -n 64 --events 2 -o pick.zst mix.zst &&
	"$BIN/saetrain" -q --l1 3e-7 --gpt gpt.safetensors --val val.zst --pick pick.zst --features 64 --batch 32 --steps 20 --eval-every 10 \
		--eval-contexts 4 --resample-every 8 --resample-events 2 -o run.safetensors mix.zst &&
	"$BIN/topk" -q --gpt gpt.safetensors --sae run.safetensors --contexts 128 --k 6 --radius 6 --top-radius 12 -o run train.zst &&
	"$BIN/features" -q --gpt gpt.safetensors --sae run.safetensors --json --texts samples.txt -o texts.json &&
	"$BIN/htmlgen" -q --metrics run.jsonl --gpt-metrics gpt.jsonl --texts texts.json -o hostile run
}
mv gpt.jsonl gpt0.jsonl
ok "a hostile corpus, from text to pages" grind
ok "... its numbers" "$TOP/tests/check-site" hostile run texts.json
mv gpt0.jsonl gpt.jsonl

# ---- a host, odd paths, builds ----
odd='a b#c%41&é'
mkdir -p "host/$odd"
ok "a site at an odd path" $make -o "host/$odd/site" top
ln -s "$odd/site" host/link
$make -o host/gap top && rm host/gap/data/f1.js
sed 's/"l0": 18.0/"l0": 19.0/' sae.jsonl >other.jsonl
"$BIN/htmlgen" -q --metrics other.jsonl -o other top
$make -o host/stale top && cp other/data/*.js host/stale/data/	# index.html and site.js as a browser kept them
$make -o top.html top
"$PYTHON" -u -m http.server 0 --bind 127.0.0.1 --directory host >serving 2>&1 &
server=$!
trap 'kill $server 2>/dev/null; rm -rf "$TMP"' EXIT
for i in $(seq 100); do
	port=$(sed -n 's/^Serving HTTP on .* port \([0-9]*\).*/\1/p' serving)
	[ -n "$port" ] && break
	sleep 0.1
done
http=http://127.0.0.1:$port
quoted=$(python3 -c 'import sys, urllib.parse; print(urllib.parse.quote(sys.argv[1]))' "$odd")

steps=()
step() { steps+=("$@"); }
is() { steps+=(is "$@"); } # name want expression
said='$("trouble").hidden ? "" : $("trouble").textContent'
views=('' features 'features?list=ultra&sort=-max' 'features?q=owned' 'search?q=owned' texts f=0 f=39 training about)

for page in "$http/$quoted/site/" "$http/link/index.html" "$TMP/host/link/index.html" "file://$TMP/host/$quoted/site/index.html"; do
	step open "$page"
	for view in features 'search?q=owned' f=0 f=39 about; do step goto "$view"; done
	is "every view from ${page//$TMP/…}" "featuremill About true" '[document.title.slice(-11), document.querySelector("#h-about").textContent.slice(0, 5),
		performance.getEntriesByType("resource").every(e => e.name.startsWith(new URL(".", location.href.split("#")[0])) || e.name.startsWith("data:"))].join(" ")'
	step silent "... without a word" open "$page#f=7"
	is "... and a link into it" "Feature 7" 'document.querySelector("h1").textContent'
done
step open "$http/gap/index.html#f=20"
is "a file that the host lacks is told" "cannot load data/f1.js" "$said"
step console
step open "$http/stale/index.html"
is "a page of another build than its data says so" true "/made anew/.test($said)"
step console

# ---- scripts off ----
step scripts off open "$http/link/index.html"
is "without JavaScript, a line that says so" true '/JavaScript is off/.test(document.querySelector("main").innerText)'
step shot noscript.png scripts on silent "... and nothing else"

# ---- addresses ----
for hash in f=40 f=99999999999 texts?t=99 'texts?f=12345678'; do
	step open "$TMP/hostile/index.html" open "$TMP/hostile/index.html#${hash/40/64}"
	is "#$hash is answered by a line" true "($said).length > 9"
done
for hash in nonsense 'f=' 'f=-1' 'f=1e3' 'f=<b>' '%E0%A4%A' 'features?page=-3&sort=x&list=y&from=a' 'search?q=' 'search?q=%00%FF' 'texts?t=x&w=-1'; do
	step open "$TMP/hostile/index.html#$hash"
	is "#$hash is answered by a view" true 'document.querySelector("main :is(h1, h2)") != null'
	case $hash in *\?*) ;; *) is "... and by a line" true "/^There is no view/.test($said) && \$('trouble').getBoundingClientRect().top < innerHeight" ;; esac
done
step silent "no address is an error"
for hash in f=5 'features?list=ultra&sort=-max' 'search?q=onmouseover' 'texts?t=2'; do
	step open "$TMP/hostile/index.html" goto "$hash" do 'window.name = [document.title, location.hash, document.querySelector("main").textContent.length].join()' reload
	is "#$hash is the same when loaded again" true 'window.name == [document.title, location.hash, document.querySelector("main").textContent.length].join()'
done
step open top.html/index.html goto 'features?list=high&sort=max' do 'scrollTo(0, 700)' do 'window.y = scrollY' do 'document.querySelector(".features tbody tr:nth-child(9) a").click()' back
is "back from a feature to the table: order, list, place" "#features?list=high&sort=max true ascending" \
	'[location.hash, y > 300 && Math.abs(scrollY - y) < 3, document.querySelector("th[aria-sort]:not([aria-sort=none])").ariaSort].join(" ")'

step goto f=1 do 'scrollTo(0, 400)' goto f=2
is "a feature begins at its top" 0 'scrollY'
step back
is "... and is come back to where it was left" "#f=1 400" '[location.hash, scrollY].join(" ")'
step goto 'features?sort=max' do 'window.first = document.title' goto training
is "titles tell views apart" "Features – featuremill, Training – featuremill" '[first, document.title].join(", ")'

# ---- what can be told apart ----
contrast=$(cat "$TOP/tests/contrast.js")
for look in light dark; do
	step $look open "$TMP/hostile/index.html"
	for view in "${views[@]}"; do
		step goto "$view"
		is "$look: all of #$view stands out" "" "$contrast"
	done
	step key '?'
	is "$look: keys and words stand out" "" "$contrast"
	step key Escape
done
step light

# ---- zoom, narrow, forced colours, less motion ----
wider='document.documentElement.scrollWidth - innerWidth'
for view in "${views[@]}"; do
	step size 320x640 goto "$view"
	is "#$view fits 320 pixels" 0 "$wider"
	step size 700x500x2 do 'document.documentElement.style.fontSize = "30px"'
	is "#$view fits twice the size" 0 "$wider"
	step do 'document.documentElement.style.fontSize = ""' size 1400x1000
done
step prefer prefers-reduced-motion=reduce goto f=1
is "nothing moves by itself" 0 'document.getAnimations().length'
step prefer forced-colors=active goto f=1
is "forced colours keep what colours say" true '[".tok", ".meter"].every(s => [...document.querySelectorAll(s)].some(n => !/, 0\)$|transparent/.test(getComputedStyle(n).backgroundColor)))'
step goto 'features?list=high'
is "... and what is chosen" true '(s => /underline/.test(s.textDecorationLine))(getComputedStyle(document.querySelector(".segments [aria-current]")))'
step prefer forced-colors=none

# ---- by keyboard alone ----
walk='(() => { const n = document.activeElement; if (n == document.body) { window.walked.push("END"); return; }
	n.scrollIntoView({ block: "nearest" }); const b = n.getBoundingClientRect(), s = getComputedStyle(n), bar = $("bar").contains(n) ? 0 : getComputedStyle($("bar")).position == "sticky" ? $("bar").offsetHeight : 0;
	const seen = b.width > 0 && b.height > 0 && b.bottom > 0 && b.top < innerHeight && b.left < innerWidth && b.right > 0;
	const ring = s.outlineStyle != "none" && parseFloat(s.outlineWidth) >= 2 || n.id == "main";
	const name = n.ariaLabel || n.textContent.trim() || n.id;
	window.walked.push([n.id || n.className.baseVal || n.className || n.tagName, seen ? "" : "unseen", ring ? "" : "no ring", name ? "" : "no name"].filter(x => x).join(" ")); })()'
for view in "" f=1; do
	step open "$TMP/hostile/index.html#$view" do 'window.walked = []'
	for i in $(seq 16); do step key Tab do "$walk"; done
	is "Tab goes on in #$view, seen, ringed and named" "skip true" '[walked[0], walked.filter(w => / (unseen|no ring|no name)/.test(w)).join() || new Set(walked).size > 5].join(" ")'
done
step open "$TMP/hostile/index.html" key Tab key Enter
is "the first stop skips to the content" main 'document.activeElement.id'
step do 'document.querySelector(".index .bar").focus()' key ArrowRight
is "arrows go along bars" bar 'document.activeElement.classList[0]'
step key Enter
is "... and Enter lists their features" true '/from=/.test(location.hash)'
step do 'document.querySelector(".scatter").focus()' key ArrowRight key PageDown
is "arrows go along dots" true '/^Feature \d+: density/.test(document.querySelector(".scatter + .note").textContent) && !document.querySelector(".ring").hidden'
step do 'window.dot = document.querySelector(".scatter + .note").textContent.match(/\d+/)[0]' key Enter
is "... and Enter opens one" true 'location.hash == "#f=" + dot'

# ---- nothing of the corpus runs ----
step open "$http/link/index.html" console
for f in $(seq 0 9 63); do step open "$TMP/hostile/index.html#f=$f"; done
inert='[document.querySelectorAll("main :is(img, iframe, textarea, script, style, meta, link, object, embed, svg image, svg a), [onmouseover], [onerror], [onload], [onfocus], [autofocus]").length,
	[...document.scripts].every(s => /^(site|data\/[a-z]+[0-9]*).js\?[0-9a-f]{12}$/.test(s.getAttribute("src")) && !s.text),
	performance.getEntriesByType("resource").every(e => e.name.startsWith(new URL(".", location.href.split("#")[0])) || e.name.startsWith("data:")),
	/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufffd]/.test(document.body.textContent)].join()'
step open "$TMP/hostile/index.html"
for view in "${views[@]}" 'search?q=%3Cscript' 'features?q=%3Cimg src=x onerror=alert(1)%3E' 'texts?t=1' 'texts?t=2' f=11 f=23 f=31 f=47; do
	step goto "$view"
	is "#$view of a hostile corpus is text" "0,true,true,false" "$inert"
done
step silent "... and runs nothing"
is "... which can be read" true '(async () => { let all = ""; for (let t = 0; t < site.texts; t++) { history.replaceState(null, "", "#texts?t=" + t); await showTexts("t=" + t); all += document.querySelector(".sample .context").textContent; }
	return ["<script>document.title=", " onmouseover=", "</textarea>", "<img src=x onerror", "RLO", "ZWJ", "BEL", "ESC", "BOM"].filter(s => !all.includes(s)).join() || true; })()'

if "$TOP/tests/browse" "$TMP/top.html/index.html" >/dev/null 2>&1; then
	"$TOP/tests/browse" "$TMP/top.html/index.html" "${steps[@]}" >seen 2>trouble
	status=$?
	while IFS= read -r line; do
		case $line in
		'ok '*) result 0 "${line#ok }" ;;
		'not ok '*) result 1 "${line#not ok }" ;;
		'#'*) echo "$line" ;;
		esac
	done <seen
	ok "the browser went to the end" test $status = 0
	sed 's/^/#   /' trouble
else
	skip "in a browser" "no chromium"
fi
done_testing
