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
golden check "$fixtures" html >seen 2>trouble
status=$?
while IFS= read -r line; do
	case $line in
	'ok '*) result 0 "${line#ok }" ;;
	'not ok '*) result 1 "${line#not ok }" ;;
	esac
done <seen
ok "to the end" test $status = 0
sed 's/^/#   /' trouble
done_testing
