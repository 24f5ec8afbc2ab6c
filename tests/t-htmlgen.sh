# htmlgen: the data are the shards', the site is the same however it is made, what is wrong is refused; and in
# a browser: views without an error, hostile text that stays text, keys, links, budgets.
. "$(dirname "$0")/lib.sh"
cd "$TMP" || exit 1
"$TOP/tests/make-top" . 40 || exit 1
metrics="--metrics sae.jsonl --gpt-metrics gpt.jsonl"
make="$BIN/htmlgen -q $metrics --texts texts.json"
digest() { (cd "$1" && find . -type f | LC_ALL=C sort | xargs sha256sum); }

ok "a site" $make -j2 -o html top
ok "its numbers are the shards'" "$TOP/tests/check-site" html top texts.json
ok "its search finds what a search through all windows does" "$TOP/tests/check-search" html top
ok "a policy that allows nothing but the site's own files" grep -qF "default-src 'none'; script-src 'self'; style-src 'self'; \
img-src data:; base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types site\"" html/index.html
ok "no script, style or handler in the page itself" eval '! grep -iE "<script>|<style|style=|[[:space:]]on[a-z]+=|https?:" html/index.html'
ok "no debris" test -z "$(find . -name '*.part')"
digest html >a
ok "-j 1" $make -j1 -o one top
digest one >b
same "-j 1 and -j 2: the same site" a b
inode=$(stat -c %i html)
touch -d '1 hour ago' html/index.html
ok "again" $make -o html/ top
ok "... makes nothing" test "$(stat -c %i html)" = "$inode"
ok "... but touches index.html" test "$(stat -c %Y html/index.html)" -gt $(($(date +%s) - 600))
rm html/index.html
ok "without index.html" $make -o html top
ok "... it is made again" test -s html/index.html
inode=$(stat -c %i html)
head -n -1 sae.jsonl >fewer.jsonl
ok "other metrics" "$BIN/htmlgen" -q --metrics fewer.jsonl --gpt-metrics gpt.jsonl -o html top
ok "... another site" test "$(stat -c %i html)" != "$inode"
ok "another cut" $make --ultra-low 0.01 -o html top
ok "... is in the data" grep -q '"cut":0.01[,}]' html/data/site.js
ok "no metrics" "$BIN/htmlgen" -q -o bare/html top
ok "... no curves" grep -q '"sae":null,"gpt":null' bare/html/data/site.js
for i in 1 2 3 4 5; do
	$make -o html top 2>/dev/null &
	sleep "0.0$((i * 7 % 10))"
	kill -KILL $! 2>/dev/null
	wait $! 2>/dev/null
done
ok "after five kills" $make -o html top
digest html >b
same "... the same site" a b
ok "... and no debris" test -z "$(find . -name '*.part')"

"$TOP/tests/make-top" edge 16500 K=1 I=2 M=1 R=0 RT=3 H=3 L=1 N=2 A=600 B=1 || exit 1
ok "another shape" "$BIN/htmlgen" -q -o edge/html edge/top
ok "... its numbers" "$TOP/tests/check-site" edge/html edge/top
ok "... its search" "$TOP/tests/check-search" edge/html edge/top
"$TOP/tests/make-top" many 36000 K=1 I=1 M=1 R=0 RT=3 H=3 L=1 N=1 A=1 B=1 || exit 1
ok "words of more features than are kept" "$BIN/htmlgen" -q -j2 -o many/html many/top
ok "... their search" "$TOP/tests/check-search" many/html many/top
"$TOP/tests/make-top" lone 1 K=3 I=1 M=1 L=1 || exit 1
ok "one feature" "$BIN/htmlgen" -q -o lone/html lone/top
ok "... its numbers" "$TOP/tests/check-site" lone/html lone/top
ok "... its search" "$TOP/tests/check-search" lone/html lone/top

# ---- figures ----
ok "--summary" eval '"$BIN/htmlgen" --summary sae.jsonl --gpt-metrics gpt.jsonl >summary'
for figure in 'validation loss 6.213, unigram baseline 7.140' '98.50 % against zero ablation' '97.77 % against mean' \
	'clean 5.7400, spliced 5.7725, zero-ablated 7.9000, mean-ablated 7.2000' '18.00 features active' '91.75 %' '40 of 40 alive'; do
	ok "... says: $figure" grep -qF "$figure" summary
done
echo '{"step": 1, "eval": {"dead": null' >cut.jsonl
fails 1 "a metrics line cut short" "cut.jsonl" "$BIN/htmlgen" --summary cut.jsonl
sed "s/, \"eval.*/}/" sae.jsonl >silent.jsonl
fails 1 "metrics without evaluation" "no evaluation" "$BIN/htmlgen" --summary silent.jsonl
ok "... make a site" "$BIN/htmlgen" -q --metrics silent.jsonl -o quiet/html top
fails 1 "metrics of another tool" "no evaluation" "$BIN/htmlgen" --summary gpt.jsonl
: >empty.jsonl
fails 1 "metrics with nothing in them" "empty.jsonl" "$BIN/htmlgen" -q --metrics empty.jsonl -o x top
fails 1 "no such metrics" "none.jsonl" "$BIN/htmlgen" -q --metrics none.jsonl -o x top

# ---- a sweep ----
sed 's/"l0": 18.0/"l0": 95.5/g; s/"loss_recovered": [0-9.]*/"loss_recovered": 0.995/' sae.jsonl >more.jsonl
ok "sweep" "$TOP/tools/sweep" s/sweep 3e-7=sae.jsonl 1e-7=more.jsonl
ok "... a table" test "$(cut -f1-3,7 s/sweep.tsv | paste -sd' ')" = "$(printf 'l1\tl0\tloss_recovered\talive 3e-7\t18\t0.9849537\t40 1e-7\t95.5\t0.995\t40')"
ok "... a plot of two points" test "$(grep -c '<circle' s/sweep.svg)" = 2
ok "... which is XML" python3 -c 'import sys, xml.dom.minidom; xml.dom.minidom.parse(sys.argv[1])' s/sweep.svg
fails 1 "a run without evaluation" "no l0" "$TOP/tools/sweep" s/bad 1=gpt.jsonl
fails 1 "a run without metrics" "none" "$TOP/tools/sweep" s/bad 1=none
ok "... leave nothing" test "$(ls s | paste -sd' ')" = "sweep.svg sweep.tsv"

# ---- refusals ----
fails 2 "no directory" "topk" "$BIN/htmlgen" -o x
fails 2 "two directories" "topk" "$BIN/htmlgen" -o x top top
fails 2 "no -o" "-o SITE" "$BIN/htmlgen" top
fails 2 "an unknown option" "--no-such" "$BIN/htmlgen" --no-such
fails 1 "no such directory" "none/index.json" "$BIN/htmlgen" -o x none
broken() { # name text: "$1: $2" of the copy bad/, changed by stdin's commands
	rm -rf bad && cp -r top bad && (cd bad && bash -s) && fails 1 "$1" "$2" "$BIN/htmlgen" -q -o x bad
}
broken "index.json is missing" "index.json" <<<'rm index.json'
broken "index.json is cut" "index.json" <<<'truncate -s 100 index.json'
broken "index.json is an array" "not an object" <<<'echo [] >index.json'
broken "another format" "format" <<<'sed -i "s/\"format\": 3/\"format\": 2/" index.json'
broken "a number is missing" '"radius"' <<<'sed -i "/\"radius/d" index.json'
broken "a number is none" '"bins"' <<<'sed -i "s/\"bins\": 50/\"bins\": \"many\"/" index.json'
broken "no feature" '"features"' <<<'sed -i "s/\"features\": 40/\"features\": 0/" index.json'
broken "more features than there are" "shard" <<<'sed -i "s/\"features\": 40/\"features\": 41/" index.json'
broken "another radius" "tokens.u16.zst" <<<'sed -i "s/\"radius\": 10/\"radius\": 9/" index.json'
broken "another top radius" "tokens.u16.zst" <<<'sed -i "s/\"top_radius\": 32/\"top_radius\": 31/" index.json'
broken "more neighbours" "before.u16.zst" <<<'sed -i "s/\"neighbours\": 5/\"neighbours\": 6/" index.json'
broken "text that is not UTF-8" "index.json" <<<'printf "\377" >>index.json'
broken "a field is missing" "acts.f32.zst" <<<'rm acts.f32.zst'
broken "a field is cut" "effects.f32.zst" <<<'truncate -s -9 effects.f32.zst'
broken "two fields exchanged" "max.f32.zst" <<<'mv hist.u32.zst max.f32.zst'
broken "a byte is wrong" "acts.f32.zst" <<<'printf X | dd of=acts.f32.zst bs=1 seek=9000 conv=notrunc status=none'
broken "made from another autoencoder" "fedcba9876543210, not 0edcba9876543210" <<<'sed -i "s/\"sae\": \"fedc/\"sae\": \"0edc/" index.json'
ok "nothing is left of failures" test ! -e x -a ! -e x.part
: >file
fails 1 "-o names a file" "file" "$BIN/htmlgen" -q -o file top

# ---- sample texts ----
texts() { # name text: "$1: $2" of sample texts changed by stdin's Python, of d
	python3 -c 'import json, sys; d = json.load(open("texts.json")); exec(sys.stdin.read()); json.dump(d, open("bad.json", "w"))' &&
		fails 1 "$1" "$2" "$BIN/htmlgen" -q --texts bad.json -o x top
}
texts "texts of another GPT" "'bad.json' was made with gpt 00" <<<'d["gpt"] = "00"'
texts "texts of another autoencoder" "'bad.json' was made with sae none" <<<'del d["sae"]'
texts "texts of another format" '"format": 2' <<<'d["format"] = 2'
texts "no texts" "has no texts" <<<'d["texts"] = []'
texts "a text without tokens" "text 2 has no tokens" <<<'d["texts"][1]["tokens"] = []'
texts "a token that is not there" "text 1, token 3: no id" <<<'d["texts"][0]["tokens"][3]["id"] = 50257'
texts "a feature that is not there" "text 1, token 2: no feature" <<<'d["texts"][0]["tokens"][2]["features"] = [[40, 1.5]]'
texts "an activation of 0" "text 1, token 2: no feature" <<<'d["texts"][0]["tokens"][2]["features"] = [[4, 0]]'
texts "no features" "text 8, token 0: no features" <<<'d["texts"][7]["tokens"][0]["features"] = 5'
echo '{"texts": [' >cut.json
fails 1 "texts cut short" "cut.json" "$BIN/htmlgen" -q --texts cut.json -o x top
ok "nothing is left of these" test ! -e x -a ! -e x.part

# ---- in a browser: one, with all that is to be looked at in a row ----
steps=()
step() { steps+=("$@"); }
is() { steps+=(is "$@"); } # name want expression
at='location.hash'

for f in $(seq 0 39); do step goto "f=$f"; done
for t in $(seq 0 7); do step goto "texts?t=$t" goto "texts?t=$t&w=2&f=5"; done
step silent "every feature's view and text, without an error"
step goto '' goto 'features?list=ultra&sort=-max' goto 'features?list=dead' goto 'features?q=owned' goto 'features?from=-3&to=-2&page=99'
step goto training goto about goto 'features?q=%E0%A4%A&list=x&sort=y&page=-3' goto f=99999999999 silent "overview, lists, search, addresses that make no sense"
step goto f=3 key '?' key Escape key r key j key k key i silent "keys"
step open lone/html/index.html goto f=0 goto training silent "a dictionary of one feature"
step open bare/html/index.html goto training goto about open quiet/html/index.html goto training silent "sites without metrics or evaluation"
step open html/index.html#f=2 dark size 380x800 print silent "dark, narrow, printed" light size 1400x1000

# Nothing of the texts became an element, an attribute or code.
hostile='[document.title, document.querySelectorAll("main img, main iframe, main textarea, main script, main style, main meta, main link, [onmouseover], [onerror], [onload], main svg [href], main a:not([href^=\"#\"])").length,
	[...document.scripts].every(s => /^(site|data\/[a-z]+[0-9]*).js\?[0-9a-f]{12}$/.test(s.getAttribute("src")) && !s.text)].join()'
for t in 1 2 6 7; do
	step goto "texts?t=$t" hover .tok
	is "hostile text $t is text" "Sample texts – featuremill,0,true" "$hostile"
done
for f in 1 2 6 7; do
	step goto "f=$f" hover .tok
	is "hostile text in feature $f is text" "Feature $f – featuremill,0,true" "$hostile"
done
step goto about
is "hostile parameters are text" "About – featuremill,0,true" "$hostile"
is "... and can be read" true 'document.querySelector("#about").textContent.includes("</script><script>document.title=\"owned\"</script>")'
step goto f=1
is "the words of a script can be read" true 'document.querySelector(".texts").textContent.includes("<script>document.title=\"owned\"</script><img src=x")'
step silent "nothing tried to run"
is "an inline script is refused" "refused" '(() => { const s = document.createElement("script"); try { s.text = "document.title = 1"; document.head.append(s); } catch (e) {} return document.title == "1" ? "ran" : "refused"; })()'
is "so is markup" "refused" '(() => { try { document.querySelector("#tip").innerHTML = "<b>x</b>"; return "taken"; } catch (e) { return "refused"; } })()'
step console
is "no override, mark or control reaches the page" true '(async () => {
	for (const f of [4, 5, 6, 13, 14]) { history.replaceState(null, "", "#f=" + f); await showFeature(f);
		if (/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufffd]/.test(document.querySelector("article").textContent)) return f; }
	return true; })()'

# Characters across tokens: pieces of given bytes.
pieces() { # name want tokens, as JavaScript strings
	local name=$1 want=$2
	shift 2
	is "$name" "$want" "piecesOf([$(seq -s, 0 $(($# - 1)))], [$(IFS=,; echo "$*")]).map(l => l.map(p => p.kind + ':' + p.text).join('+')).join(' ')"
}
pieces "a character in three tokens" "whole:🎉 rest:· rest:·+text: ok" '"\xf0\x9f"' '"\x8e"' '"\x89 ok"'
pieces "two characters, the first in two tokens" "text:a+whole:é rest:·+text:é" '"a\xc3"' '"\xa9\xc3\xa9"'
pieces "a character cut at the end" "text:x+bytes:E2 82" '"x\xe2\x82"'
pieces "a character cut at the beginning" "bytes:82 AC+text:x" '"\x82\xacx"'
pieces "a lone surrogate, an overlong form" "bytes:ED A0 80+text:a+bytes:C0 AF" '"\xed\xa0\x80a\xc0\xaf"'
pieces "controls and white space" "mark:↵+mark:⇥+name:NUL+name:ESC+name:DEL+name:NBSP+name:RLO" '"\n\t\0\x1b\x7f\xc2\xa0\xe2\x80\xae"'
pieces "spaces that are no plain ones between words" "text:a space:   space: +text:b text: c space: +mark:↵ space: +text:x" '"a"' '"  "' '" b"' '" c"' '" \n"' '" x"'
pieces "a space that is a token, and one within a token" "text:a space:  text:b c" '"a"' '" "' '"b c"'
pieces "what would not be seen, or seen as something else" "text:a+name:VS16+name:CGJ+name:U+2800+name:U+3164+name:U+FFFD+name:U+3000" \
	'"a\xef\xb8\x8f\xcd\x8f\xe2\xa0\x80\xe3\x85\xa4\xef\xbf\xbd\xe3\x80\x80"'
is "a mark that joins a letter stands on a circle" "◌́ ␣a" '[tokenNode(0, ["\xcc\x81"]).textContent, tokenNode(0, [" a"]).textContent].join(" ")'
is "the end of a text keeps characters apart" "bytes:C3 name:end of text bytes:A9" \
	'piecesOf([0, 50256, 1], ["\xc3", "\xa9"]).map(l => l.map(p => p.kind + ":" + p.text).join("+")).join(" ")'
is "Hebrew runs from right to left" "rtl ltr" 'direction([[{ kind: "text", text: "שלום עולם abc" }]]) + " " + direction([[{ kind: "text", text: "abc שלום xyz" }]])'

# Shading is activation over the maximum; underlines stand on the predicted token: effect w on token w + 1, blue above 0.
step goto f=0 click .all
is "shades and underlines follow the numbers" "true" '(async () => {
	const part = (await load("f0"))[0], max = (await columns()).max[0], R = site.index.top_radius, lines = document.querySelector(".examples").querySelectorAll(".context");
	const most = Math.max(0.1, ...part.examples.flatMap(x => x ? unpack(x).effects.map(Math.abs) : []));
	return lines.length == 10 && part.examples.slice(0, 10).map(unpack).every((x, n) => {
		const spans = [...lines[n].children];
		return x.tokens.every((id, w) => {
			if (id == 65535) return true;
			const s = spans.shift(), e = (w ? x.effects[w - 1] : 0) / most, a = parseFloat(s.style.getPropertyValue("--a"));
			return (w == R) == s.classList.contains("centre") && (x.acts[w] > 0 ? Math.abs(a - (8 + 92 * x.acts[w] / max)) < 0.06 : isNaN(a)) &&
				s.classList.contains("hurts") == (e > 0.02) && s.classList.contains("helps") == (-e > 0.02); }) && !spans.length; }); })()'
step click .all
step hover .centre
is "pointing at a token tells its numbers" true '(t => /token \d+/.test(t) && /activation0\.\d/.test(t) && /effect/.test(t) && /on its logit/.test(t))(document.querySelector("#tip").textContent)'
step do 'document.querySelector(".context").focus({ focusVisible: true })' key ArrowRight
is "so does the keyboard" "true #f=0" '[!$("tip").hidden && document.querySelector(".context .centre + .tok").classList.contains("at"), location.hash].join(" ")'
step do 'document.activeElement.blur()'

is "ticks of a logarithmic scale are numbers, or powers, of one kind" "3 10 30 100 300, 10⁻⁷ 10⁻⁵ 10⁻³ 10⁻¹, 10⁻⁴ 3·10⁻⁴ 10⁻³ 3·10⁻³" \
	'[[3, 300], [1e-7, 0.1], [1e-4, 3e-3]].map(r => logTicks(...r).map(t => t[1]).join(" ")).join(", ")'

# ---- moving about ----
is "nothing of a chart lies outside of it" "" '(async () => { for (let f = 0; f < 40; f++) { history.replaceState(null, "", "#f=" + f); await showFeature(f);
	for (const s of document.querySelectorAll(".chart")) { const b = s.getBoundingClientRect(); for (const n of s.querySelectorAll("line, rect, text")) { const c = n.getBoundingClientRect();
		if (c.top < b.top - 2 || c.bottom > b.bottom + 4 || c.left < b.left - 4 || c.right > b.right + 8) return f + " " + n.outerHTML; } } } return ""; })()'
step goto f=0
step key ArrowRight
is "→" "#f=1" "$at"
step key ArrowLeft key ArrowLeft
is "← around the end" "#f=39" "$at"
step back back
is "back" "#f=1" "$at"
step key / type 12 key Enter
is "a number in the search opens the feature" "#f=12" "$at"
step goto features do 'document.querySelector(".filter").focus()' type owned key Enter
is "text in the table's box filters" "#features?q=owned true" '(rows => location.hash + " " + (rows.length > 0 && rows.every(r => /owned/.test(r.textContent))))([...document.querySelectorAll(".features tbody tr")])'
first='document.querySelector(".features tbody th").textContent'
step goto 'features?list=dead'
is "a list" "1 feature: 3" "document.querySelector('.count').textContent + ': ' + $first"
step goto features
is "opens by density" "descending 1 true" "(async () => [document.querySelector('th:nth-child(2)').ariaSort, (await rowOf(Number($first))).rank,
	String(await listed()) == String((await load('first')).features && arrayOf(Uint32Array, (await load('first')).features))].join(' '))()"
step click 'th:nth-child(2) button'
is "... the other way" "ascending 3" "document.querySelector('th:nth-child(2)').ariaSort + ' ' + $first"
step click '.features tbody td'
is "a row opens its feature" "#f=3" "$at"
step key i
is "i goes back to the table" "#features?sort=density" "$at"
step goto 'features?sort=-max' key j key j
is "j goes along the table" true 'listed().then(o => location.hash == "#f=" + o[1])'
step goto '' click '.index .bar'
is "a bar lists its features" true '/from=/.test(location.hash) && document.querySelectorAll(".features tbody tr").length > 0'
step goto '' hover '.scatter canvas'
is "a dot of the scatter is a feature" true '(async () => { const c = document.querySelector(".scatter canvas"), b = c.getBoundingClientRect(), note = document.querySelector(".scatter + .note");
	const f = arrayOf(Uint32Array, (await load("first")).features)[0], all = await columns(), x = Array.from(all.density, Math.log10).filter(isFinite);
	const lo = Math.min(...x), hi = Math.max(...x), at = b.left + b.width * (Math.log10(all.density[f]) - lo + (hi - lo) * 0.03 + 0.02) / ((hi - lo) * 1.06 + 0.04);
	for (let y = b.top; y < b.bottom; y += 4) { c.dispatchEvent(new PointerEvent("pointermove", { clientX: at, clientY: y })); await rowOf(f); await new Promise(r => setTimeout(r, 5));
		if (note.textContent.startsWith(`Feature ${f}: density ${percent(all.density[f])}, largest activation ${short(all.max[f])}; on `)) {
			c.dispatchEvent(new MouseEvent("click", { clientX: at, clientY: y })); return location.hash == "#f=" + f; } }
	return note.textContent; })()'
step goto f=007
is "zeros before a number" "Feature 7" 'document.querySelector("h1").textContent'
step goto f=3
is "a dead feature has no rank" "dead density ? 0 % 0 tokens" '[".badge", ".facts"].map(s => document.querySelector(s).innerText.replace(/\s+/g, " ").replace(/ of .*/, "")).join(" ")'
step goto f=40
is "a feature that is not there" "There is no feature 40: they are 0 to 39." '$("trouble").hidden || $("trouble").textContent'
step goto f=4 click '#theme'
is "dark by choice" "dark rgb(20, 22, 26)" 'document.documentElement.dataset.theme + " " + getComputedStyle(document.documentElement).backgroundColor'
step click '#theme' size 360x800
is "narrow: a feature" 0 'document.documentElement.scrollWidth - innerWidth'
step goto about
is "narrow: the overview" 0 'document.documentElement.scrollWidth - innerWidth'
step size 1400x1000 silent "no error on the way"

# ---- search ----
step open html/index.html key / type 'NHL ' key Enter
is "a word in the search box: its features" "#search?q=NHL+ true false" '(async () => { const want = [], all = [...document.querySelectorAll(".result a")].map(a => a.getAttribute("href")), names = await vocab();
	for (let f = 0; f < 40; f++) if ((await load("f" + Math.floor(f / 16)))[f % 16].examples.some(x => x && /(?<![\p{L}\p{N}])NHL(?![\p{L}\p{N}])/ui.test(flatten(piecesOf(unpack(x).tokens, names)).text))) want.push("#f=" + f);
	return [location.hash, want.length > 3 && String(all.slice().sort()) == String(want.sort()), document.activeElement == $("query")].join(" "); })()'
is "... each shown with it marked" true '[...document.querySelectorAll(".result")].every(r => [...r.querySelectorAll("mark")].map(m => m.textContent).join("").replaceAll("NHL", "") == "" && r.querySelector("mark") && r.querySelector(".tok[style]"))'
is "... those that fire on it first, the more the sooner" true '(async () => { const shares = [], names = await vocab();
	for (const a of document.querySelectorAll(".result h2 a")) { const f = Number(a.textContent.slice(8)), row = await rowOf(f); let on = 0, all = 0;
		for (const x of (await load("f" + Math.floor(f / 16)))[f % 16].examples.filter(x => x).map(unpack)) { const lists = piecesOf(x.tokens, names).map(plain);
			all += x.acts[middle(x)]; on += Math.max(0, ...lists.map((t, w) => /NHL/.test(t) || (/N$/.test(t) && /^HL/.test(lists[w + 1])) ? x.acts[w] : 0)); }
		shares.push(Math.floor(15 * Math.sqrt(on / (all + 2 * row.max)))); }
	return shares[0] > 0 && shares.every((s, i) => !i || s <= shares[i - 1]); })()'
results='[...document.querySelectorAll(".result h2")].map(h => h.textContent.slice(8)).join()'
step do "window.nhl = $results" goto 'search?q=nh'
is "the beginning of a word finds it" "true nhl" "[String($results) == nhl, parts.results.words[0].terms.map(t => t.term)].join(' ')"
step goto 'search?q=nh+'
is "... not where a space ends it" "No feature has “nh” in the texts that were kept of it." 'document.querySelector(".count").textContent'
step goto 'search?q=season+the+nhl'
is "several words: all of them" true "$results.split(',').every(f => nhl.split(',').includes(f)) && document.querySelectorAll('.result').length > 0"
step goto 'search?q=nhl+%D0%BC%D0%B8%D1%80'
is "... or nothing" "No feature has “nhl” and words that begin with “мир” in the texts that were kept of it." 'document.querySelector(".count").textContent'
for q in 'МИР здравствуй' 'κόσμε' '世界' '界' '日本' 'العالم' 'טקסט' '🎉' 'NAÏVE'; do
	step goto '' do "go(searchHash('$q', 1))"
	is "found: $q" "$(case $q in 日本) echo false ;; *) echo true ;; esac)" '[...document.querySelectorAll(".result")].some(r => r.querySelector("mark"))'
done
step goto 'search?q=%22+%3C%2F'
is "punctuation by itself: where a feature fires on it" true '(n => n > 0 && [...document.querySelectorAll(".result mark")].every(m => /^["<\/]+$/.test(m.textContent)))(document.querySelectorAll(".result").length)'
step silent "no error in searching"
for q in '<script>document.title="owned"</script>' '"><img src=x onerror=document.title=1>' "</textarea><svg/onload=alert(1)>" 'a\\u202eb \\0 \\ud800 %' '__proto__ constructor' '${x} `x` \\\\' ' ' '٣٤ 12,34'; do
	step do "$(printf '$("query").value = %s; $("query").focus()' "$(python3 -c 'import json,sys; print(json.dumps(json.loads("\"" + sys.argv[1].replace("\"", "\\\"") + "\"") if "\\u" in sys.argv[1] else sys.argv[1]))' "$q")")" key Enter
	is "asked for $q: it is text" "true,0,true" "$hostile.replace(/^.*featuremill/, 'true')"
done
step silent "... and nothing tried to run"
step goto 'search?q=x' goto 'search?q=%E0%A4%A&page=-3' goto 'search?page=99' goto search silent "searches that make no sense"
step goto '' key / type 77 key Enter
is "a number of no feature is searched for" "#search?q=77" "$at"
step key / type '"12"' key Enter
is "... and so is one in quotes" "#search?q=%2212%22" "$at"
step key / type '' do '$("query").value = ""' type nhl wait 'document.querySelectorAll(".result").length > 0'
is "results follow what is typed" "true true" "[String($results) == nhl, document.activeElement == \$('query')].join(' ')"
step key Escape
is "Escape leaves the box" false 'document.activeElement == $("query")'
step key j key j
is "j goes along the results" true 'location.hash == "#f=" + nhl.split(",")[1]'
step goto 'search?q=e' size 1400x400 do 'window.scrollTo(0, 500)' do 'document.querySelectorAll(".result a")[9].click()' back
is "back: the results, where they were" "#search?q=e 500" 'location.hash + " " + Math.round(scrollY)'
step size 360x800 goto 'search?q=nhl'
is "narrow: results" 0 'document.documentElement.scrollWidth - innerWidth'
step size 1400x1000 open many/html/index.html#search?q=the+on+
is "a word of too many features only ranks" "“the” stands in the texts of 4,500 features; kept are the 4,096 that fire on it most. It only ranks those that have the other words." \
	'document.querySelector(".search > .note").textContent'
is "... those that have the other" true '(n => n > 100 && n < 4096 && parts.results.list.every(f => parts.results.words[1].score[f]))(parts.results.list.length)'
step goto 'search?q=the+title+' silent "no error in the search"
is "all words so: the rarest counts" "4,096 features with “the”, those that fire on it first." 'document.querySelector(".count").textContent'
step open html/index.html

# ---- a feature's view: words, contexts that expand, legibility ----
step goto f=0 do 'document.querySelector(".facts .why").focus()' key Enter
is "a word tells what it means, by keyboard" "density: The share of all tokens on which a feature is active." 'document.querySelector(":popover-open").textContent'
step key Escape
is "... until Escape" 0 'document.querySelectorAll(":popover-open").length'
step click '.aside .why'
is "... by a click or a tap" true '(b => b.left >= 0 && b.right <= innerWidth && b.height > 20)(document.querySelector(".aside .meaning:popover-open").getBoundingClientRect())'
step click h1
is "... until one elsewhere" 0 'document.querySelectorAll(":popover-open").length'
is "words that a stranger needs are explained where they stand" "" '[document.querySelector(".badge").textContent, "density", "activation", "effect on the logit", "logit weight", "ablation effect", "interval"]
	.filter(w => ![...document.querySelectorAll("main .meaning b")].some(b => b.textContent == w)).join()'
step key '?'
is "? tells the words" true '(text => $("keys").open && ["L0", "ultra-low density", "ablation effect", "cosine", "neuron alignment"].every(w => text.includes(w)))($("words").innerText)'
step key Escape goto ''
is "the overview's words are explained there" "" '["loss recovered", "L0", "explained variance", "dead", "next-token loss", "density", "ultra-low density"]
	.filter(w => ![...document.querySelectorAll("main .meaning b")].some(b => b.textContent == w)).join()'
# What is like it and around it, against the data; features that have less of it.
alike='(async f => { const g = (await load("f" + Math.floor(f / site.chunks.group)))[f % site.chunks.group], texts = css => [...document.querySelectorAll(css)].map(n => n.textContent), names = await vocab();
	const said = (ids, counts) => ids.map((id, i) => tokenNode(id, names).textContent + counts[i]).join();
	return { g, texts, names, said, lists: [...document.querySelectorAll(".links")].map(l => [...l.querySelectorAll("a")].map(a => a.hash.slice(3)).join()) }; })'
for f in 0 12 39; do
	step goto f=$f
	is "features like $f, by cosine and co-activation, are linked" true "$alike($f).then(({ g, lists }) => g.near.length == 8 && lists.join(' ') == [g.near, g.together].join(' '))"
	is "... with their values" true "$alike($f).then(({ g, texts }) => texts('.links .n').join() == [...g.nearCos.map(v => v.toFixed(3)), ...g.togetherShare.map(v => percent(v))].join())"
	is "... and their top tokens" true "$alike($f).then(async ({ g, texts, names }) => texts('.links .tokens').join() == (await Promise.all([...g.near, ...g.together].map(async k =>
		k == 3 ? 'dead' : Array.from((await rowOf(k)).tokens).filter(id => id != NO_TOKEN).map(id => tokenNode(id, names).textContent + ' ').join('')))).join())"
	is "tokens before, at and after, with counts" true "$alike($f).then(({ g, texts, said }) => texts('.three tr').join() == [said(g.before, g.beforeCount), said(g.on, g.onCount), said(g.after, g.afterCount)].join())"
	is "neurons, as bars to the side of their sign" true "$alike($f).then(({ g, texts }) => texts('.neurons tr').join() == g.align.map((n, i) => 'neuron ' + n + signed(g.alignValue[i])).join() &&
		[...document.querySelectorAll('.neurons .entry')].every((b, i) => { const e = b.getBoundingClientRect(), a = b.parentElement.getBoundingClientRect(), middle = (a.left + a.right) / 2, v = Math.max(-1, Math.min(1, g.alignValue[i]));
			return Math.abs((v < 0 ? e.left : e.right) - middle - v * a.width / 2) < 1 && Math.abs((v < 0 ? e.right : e.left) - middle) < 1; }))"
done
is "words that came with them" "" '["cosine", "co-activation", "neuron alignment", "firing"].filter(w => ![...document.querySelectorAll("main .meaning b")].some(b => b.textContent == w)).join()'
step click '.links a'
is "a link opens the other" true "load('f2').then(p => location.hash == '#f=' + p[39 % 16].near[0])"
is "... and the focus to its heading" true 'document.activeElement == document.querySelector("h1") && getComputedStyle(document.activeElement).outlineStyle == "none"'
is "no token is for a translator" "" '[...document.querySelectorAll(".context, .token")].filter(n => n.translate).map(n => n.outerHTML).join()'
step goto f=3
is "a dead feature: what its direction tells, nothing of firings" "Logit weights,Similar features,Neuron alignment It is never active." \
	'[[...document.querySelectorAll("main h2")].map(h => h.textContent).join(), document.querySelector(".aside > section:nth-child(2) > .note").textContent].join(" ")'
step goto f=4
is "a feature of one firing" "Counted over its one firing" 'document.querySelector(".three").previousElementSibling.textContent.split(";")[0]'
is "... which is all of an interval" "100 % of its activations (1)" '[...document.querySelectorAll(".interval h3 span")].map(s => s.textContent.trim()).filter(s => s != "none").join()'
step goto f=12
is "twelve intervals, evenly spaced, with the share of each" true '(async () => { const g = (await load("f0"))[12], c = await columns(), heads = [...document.querySelectorAll(".interval h3")].map(h => h.textContent);
	return heads.length == 12 && g.interval.reduce((a, b) => a + b) == c.active[12] && heads.every((h, i) => h == `${short(c.max[12] * (11 - i) / 12)} to ${short(c.max[12] * (12 - i) / 12)} ` +
		(g.interval[i] ? `${percent(g.interval[i] / c.active[12])} of its activations (${whole(g.interval[i])})` : "none")); })()'
is "histograms hold every firing and every token" true '(async () => { const g = (await load("f0"))[12], bars = [...document.querySelectorAll(".aside .chart")].map(s => [...s.querySelectorAll(".bar title")].map(t => Number(t.textContent.match(/: ([\d,]+) token/)[1].replace(/,/g, ""))));
	return bars[0].join() == g.hist.filter(n => n).join() && bars[1].join() == g.logitHist.filter(n => n).join() && bars[0].reduce((a, b) => a + b) == (await columns()).active[12] && bars[1].reduce((a, b) => a + b) == 50257; })()'
is "logits with their values, descending and ascending" true '(async () => { const g = (await load("f0"))[12], tables = [...document.querySelectorAll(".pair table")].map(t => [...t.querySelectorAll("td")].map(d => Number(d.textContent.replace("−", "-"))));
	return tables.every((t, k) => t.length == 10 && t.every((v, i) => Math.abs(v - g.logits[10 * k + i]) < 0.006 && (!i || (k ? v >= t[i - 1] : v <= t[i - 1])))); })()'
step open lone/html/index.html#f=0
is "a dictionary of one: no other feature" "There is no other." 'document.querySelector(".titled:has(h3) + .note").textContent'
step open wide/html/index.html#f=0
shown='[...document.querySelectorAll(".context")].map(l => l.childElementCount).join()'
reach() { # feature tokens: how many of each example are within so many tokens of its own
	echo "load('f0').then(p => p[$1].examples.filter(x => x).map(unpack).map(x => x.tokens.filter((id, w) => id != NO_TOKEN && Math.abs(w - middle(x)) <= $2).length).join())"
}
is "examples show ten tokens to either side" true "(async () => $shown == await $(reach 0 10))()"
is "... and there are more" true "(async () => $shown != await $(reach 0 999))()"
line='document.querySelector(".context")'
step do "window.few = $line.childElementCount" click '.more'
is "a button shows the rest" "true true" "[$line.childElementCount > few, document.querySelector('.more').ariaExpanded].join(' ')"
step do "$line.focus()" key Enter
is "Enter in an example does, too" "true false" "[$line.childElementCount == few, document.querySelector('.more').ariaExpanded].join(' ')"
for i in 1 2 3 4 5 6 7 8 9 10 11 12; do step key ArrowRight; done
is "arrows end where what is shown ends" "#f=0 true" "[location.hash, $line.lastElementChild.classList.contains('at')].join(' ')"
step do 'document.activeElement.blur()' click .all
is "all at once" true "(async () => $shown == await $(reach 0 999))()"
is "... with a name that is what is shown" true "$line.ariaLabel.includes($line.textContent.replace(/[·␣]/g, ' ').trim().slice(0, 5))"
step key ArrowRight
is "... of the next feature, too" "true true Collapse all" "(async () => [location.hash == '#f=1' && $shown == await $(reach 1 999),
	[...document.querySelectorAll('.more')].every(m => m.ariaExpanded == 'true'), document.querySelector('.all').textContent].join(' '))()"
step key e
is "... and back, by a key" true "(async () => $shown == await $(reach 1 10))()"
is "headings are in order" "" '[...document.querySelectorAll("main :is(h1, h2, h3, h4)")].map(h => Number(h.tagName[1])).filter((n, i, all) => n > (all[i - 1] ?? 0) + 1).join()'
is "what has the focus shows it" "" '[...document.querySelectorAll("main a, main button, main .context")].filter(n => { n.focus({ focusVisible: true });
	const s = getComputedStyle(n); return document.activeElement != n || s.outlineStyle == "none" || parseFloat(s.outlineWidth) < 2; }).map(n => n.outerHTML).join()'
step do 'document.activeElement.blur()' size 390x800
is "narrow: nothing to the side" 0 'document.documentElement.scrollWidth - innerWidth'
step tap .tok.centre
is "a tap tells a token's numbers" true '!$("tip").hidden && /activation/.test($("tip").textContent)'
step tap h2
is "... until the next one" true '$("tip").hidden'
step size 1400x1000 print
is "on paper there is nothing to press" "" '[...document.querySelectorAll("button, .step, #bar, #tip")].filter(n => n.getClientRects().length).map(n => n.outerHTML).join()'
is "... but all intervals" true '[...document.querySelectorAll(".interval .context")].every(n => n.checkVisibility({ contentVisibilityAuto: true }) && n.getBoundingClientRect().height > 10)'
# Text and what is behind it: a ratio of 4.5 at least (WCAG 2, relative luminance).
faint='(() => {
	const pen = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
	const rgba = css => { pen.clearRect(0, 0, 1, 1); pen.fillStyle = css; pen.fillRect(0, 0, 1, 1); return [...pen.getImageData(0, 0, 1, 1).data].map(v => v / 255); };
	const over = (a, b) => b.map((v, i) => i < 3 ? a[i] * a[3] + v * (1 - a[3]) : 1);
	const light = c => [0.2126, 0.7152, 0.0722].reduce((s, w, i) => s + w * (c[i] <= 0.04045 ? c[i] / 12.92 : ((c[i] + 0.055) / 1.055) ** 2.4), 0);
	const behind = n => n ? over(rgba(getComputedStyle(n).backgroundColor), behind(n.parentElement)) : [1, 1, 1, 1];
	const faint = new Map();
	for (const n of document.querySelectorAll("body *")) {
		if (![...n.childNodes].some(t => t.nodeType == 3 && t.data.trim()) || !n.getClientRects().length || n.closest("[aria-hidden=true]")) continue;
		const s = getComputedStyle(n), under = behind(n), ink = over(rgba(n.ownerSVGElement ? s.fill : s.color), under);
		const [a, b] = [light(ink), light(under)].sort((x, y) => y - x), ratio = (a + 0.05) / (b + 0.05);
		const key = n.tagName + "." + (n.className.baseVal ?? n.className);
		if (ratio < 4.5 && !(faint.get(key) <= ratio)) faint.set(key, Number(ratio.toFixed(2)));
	}
	return [...faint].join(" ");
})()'
for look in light dark; do
	step $look
	for f in 0 3 4 5; do
		step goto f=$f
		is "$look: text of feature $f stands out" "" "$faint"
	done
done
step light silent "nor was there any here"

step open gap/index.html#f=20
is "a chunk that is missing" "cannot load data/f1.js" '$("trouble").textContent'
step goto f=39
is "a chunk that holds another" "data/f2.js does not hold what it should" '$("trouble").textContent'

# ---- sample texts ----
step console open html/index.html click '#to-texts'
is "the bar leads to the sample texts" "#texts 8" "[$at, document.querySelectorAll('.samples nav a').length].join(' ')"
is "the first is shown, its features beside it" "The game was Features of this text" '[document.querySelector(".sample .context").textContent.slice(0, 12), document.querySelector(".side h2").textContent].join(" ")'
step click '.sample .tok:nth-child(4)'
is "a token's features" "#texts?w=3 Features on token 3 true" '(async () => { const x = await sampleText(0), links = [...document.querySelectorAll(".side .links a")];
	return [location.hash, document.querySelector(".side h2").textContent, String(links.map(a => Number(a.querySelector(".number").textContent))) == String(activeOn(x, 3).map(e => e[0]))].join(" "); })()'
step click '.side .links a'
is "one of them shades the text" "true" '(async () => { const x = await sampleText(0), f = textState(location.hash.split("?")[1]).f, acts = actsOf(x, f), max = Math.max((await columns()).max[f], ...acts);
	return acts[3] > 0 && f == activeOn(x, 3)[0][0] && [...document.querySelectorAll(".sample .tok")].every((n, w) => Math.abs(parseFloat(n.style.getPropertyValue("--a")) - (acts[w] && 8 + 92 * acts[w] / max)) < 0.06); })()'
is "... is marked, and leads to its page" "true" '(f => document.querySelector(".side [aria-current] .number").textContent == f && document.querySelector(".legend a").getAttribute("href") == "#f=" + f)(String(textState(location.hash.split("?")[1]).f))'
is "... and tells where else it is active" "true" '(async () => { const f = textState(location.hash.split("?")[1]).f, links = [...document.querySelectorAll(".samples nav a")];
	return (await Promise.all(links.map(async (a, t) => parseFloat(a.style.getPropertyValue("--a")) > 0 == actsOf(await sampleText(t), f).some(v => v > 0)))).every(v => v); })()'
step key ArrowRight
is "→ goes to the next text, shaded by the same" "1 true" '(s => [s.t, s.f != null && s.w == null].join(" "))(textState(location.hash.split("?")[1]))'
step back
is "back" "0 3" '(s => [s.t, s.w].join(" "))(textState(location.hash.split("?")[1]))'
step goto 'texts?t=0' do 'document.querySelector(".sample .context").focus({ focusVisible: true })' key ArrowRight key ArrowRight key Enter
is "the keyboard goes along the tokens, chooses one and stays there" "#texts?w=2 context 2" '[location.hash, document.activeElement.className, [...document.querySelectorAll(".sample .tok")].findIndex(t => t.classList.contains("centre"))].join(" ")'
step key Enter
is "... and lets it go" "#texts Features of this text" '[location.hash, document.querySelector(".side h2").textContent].join(" ")'
step hover '.sample .tok:nth-child(2)'
is "pointing at a token tells its numbers" true '/token \d+, place 1.*active features\d.*log-probability.*nats \(.*%\)/.test($("tip").textContent)'
step goto 'f=7' click '.head .chip'
is "a feature leads to the texts" "#texts?f=7" "$at"
step goto 'texts?t=6'
is "lines end where they do" true '(s => s.includes("\n") && /LF|↵/.test(s))(document.querySelector(".sample .context").textContent)'
step goto 'texts?t=8'
is "a text that is not there" "There is no text 8: they are 0 to 7." '$("trouble").textContent'
step goto 'texts?f=40'
is "a feature that is not there" "There is no feature 40: they are 0 to 39." '$("trouble").textContent'
step goto 'texts?t=x&f=-1&w=99999'
is "an address that makes no sense" "Features of this text" 'document.querySelector(".side h2").textContent'
step size 360x800 goto 'texts?t=4&w=5&f=2'
is "narrow: a text" 0 'document.documentElement.scrollWidth - innerWidth'
step dark print light size 1400x1000 silent "no error among the texts" open bare/html/index.html#texts
is "a site without texts" "This site was made without sample texts. true" '$("trouble").textContent + " " + $("to-texts").hidden'

# Budgets; the promise is 1 s and 200 ms, but a test has neighbours.
step open big/html/index.html
is "4096 features: drawn soon" true '(window.first = performance.now()) < 3000'
step eval '"# loaded at first:"' requests eval '"# loaded later:"'
step do '(async () => { window.times = []; for (const f of [2011, 77, 3000, 4095, 1234]) { const t = performance.now();
	history.replaceState(null, "", "#f=" + f); await showFeature(f); document.body.offsetHeight; times.push(performance.now() - t); } times.sort((a, b) => a - b); })()'
is "... any feature soon after" true 'times[2] < 600'
step eval '"# loaded by a search:"' do '(async () => { const t = performance.now(); history.replaceState(null, "", "#search?q=the+nhl"); await showSearch("search?q=the+nhl"); window.search = performance.now() - t; })()'
is "... a search, by a file or two of the index" true 'search < 3000 && document.querySelectorAll(".result").length == 20 && [...chunks.keys()].filter(n => /^s[0-9]/.test(n)).length <= 3'
step eval '`# search ${Math.round(search)} ms, first view ${Math.round(first)} ms, a feature ${Math.round(times[2])} ms`' requests

"$TOP/tests/make-top" big 4096 || exit 1
begin=$(date +%s%N)
ok "a site of 4096 features" "$BIN/htmlgen" -q --metrics big/sae.jsonl --gpt-metrics big/gpt.jsonl -o big/html big/top
took=$((($(date +%s%N) - begin) / 1000000))
ok "... in less than 10 s" test $took -lt 10000
"$TOP/tests/make-top" wide 8 R=16 || exit 1
ok "a site of wide windows" "$BIN/htmlgen" -q -o wide/html wide/top
cp -r html gap && rm gap/data/f1.js && echo 'chunk("f7", 1);' >gap/data/f2.js
if "$TOP/tests/browse" html/index.html >/dev/null 2>&1; then
	"$TOP/tests/browse" html/index.html "${steps[@]}" >seen 2>trouble
	status=$?
	while IFS= read -r line; do
		case $line in
		'ok '*) result 0 "${line#ok }" ;;
		'not ok '*) result 1 "${line#not ok }" ;;
		'#'*) echo "$line" ;;
		esac
	done <seen
	ok "... first view below 300 kB" test "$(awk '/# loaded/ { first = /first/ } first && /file:/ { n += $1 } END { print n + 0 }' seen)" -lt 300000
	ok "the browser went to the end" test $status = 0
	sed 's/^/#   /' trouble
else
	skip "in a browser" "no chromium"
fi
done_testing
