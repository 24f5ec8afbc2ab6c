# The reference's page of a few features, through the real tools: what the site's data say.
. "$(dirname "$0")/lib.sh"
cd "$TMP" || exit 1
export PYTHONDONTWRITEBYTECODE=1
fixtures=$TOP/tests/fixtures/golden
golden() { python3 "$TOP/tests/golden-site.py" "$@"; }
ok "the fixture as weights and tokens" golden make "$fixtures"
ok "topk" "$BIN/topk" -q -j2 --precision f32 --gpt gpt.safetensors --sae sae.safetensors --contexts 68 --radius 4 --top-radius 4 \
	-k 1000 -o top tokens.zst
ok "htmlgen" "$BIN/htmlgen" -q -j2 -o html top
tap() { # its lines "ok NAME", "not ok NAME" are results
	local line
	while IFS= read -r line; do
		case $line in
		'ok '*) result 0 "${line#ok }" ;;
		'not ok '*) result 1 "${line#not ok }" ;;
		esac
	done <"$1"
}
golden check "$fixtures" html >seen 2>trouble
status=$?
tap seen
ok "to the end" test $status = 0
sed 's/^/#   /' trouble

# ---- the page itself: underlined is the token that the feature predicts, not the one it is active on ----
drawn='[...document.querySelector(".examples").querySelectorAll(".context")].slice(0, 10).map(line => [...line.querySelectorAll(".tok")].map(t =>
	t.classList.contains("hurts") ? "-" : t.classList.contains("helps") ? "+" : "o").join("")).join(" ")'
steps=()
while IFS=$'\t' read -r f marks; do
	steps+=(goto "f=$f" is "feature $f: underlined as the fixture's effects say" true \
		"(drawn => /^$marks\$/.test(drawn) || drawn)($drawn)")
done <marks
if "$TOP/tests/browse" html/index.html >/dev/null 2>&1; then
	"$TOP/tests/browse" html/index.html "${steps[@]}" >seen 2>trouble
	ok "the browser went to the end" test $? = 0
	tap seen
	ok "... marks of every kind were there" grep -q '+.*-.*+' marks
	sed 's/^/#   /' trouble
else
	skip "in a browser" "no chromium"
fi
done_testing
