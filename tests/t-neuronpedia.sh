# htmlgen --neuronpedia: every field is the shards', hostile text is JSON and true, the files are the same however made.
. "$(dirname "$0")/lib.sh"
cd "$TMP" || exit 1
"$TOP/tests/make-top" . 300 || exit 1
make="$BIN/htmlgen -q --neuronpedia np top"
digest() { (cd "$1" && find . -type f | LC_ALL=C sort | xargs sha256sum); }
check() { "$TOP/tests/check-neuronpedia" "$@"; }

ok "files alone" $make -j2
ok "... are batches and companions" test "$(ls np | paste -sd' ')" = "batch-0.json batch-1.json batch-2.json run_settings.json skipped_indexes.json"
ok "... every field is the shards'" check np top featuremill 0 mlp-300-l1-3e-07 ''
cp .out seen
for kind in 'characters cut into tokens' 'shown behind their first' 'single bytes' 'NUL'; do
	ok "... among them texts with $kind" grep -qE "$kind [1-9]" seen
done
ok "... no site" test ! -e html -a ! -e index.html
digest np >a
ok "-j 1" "$BIN/htmlgen" -q -j1 --neuronpedia one top
digest one >b
same "-j 1 and -j 2: the same files" a b
inode=$(stat -c %i np)
touch -d '1 hour ago' np/skipped_indexes.json
ok "again" $make
ok "... makes nothing" test "$(stat -c %i np)" = "$inode"
ok "... but touches a file" test "$(stat -c %Y np/skipped_indexes.json)" -gt $(($(date +%s) - 600))
ok "other names" $make/ --np-model openai/gpt2 --np-layer 7 --np-set my-mlp.v2 --np-dataset a/b
ok "... are other files" check np top openai/gpt2 7 my-mlp.v2 a/b 16
ok "with the site" "$BIN/htmlgen" -q --metrics sae.jsonl --gpt-metrics gpt.jsonl --neuronpedia np -o html top
digest np >b
same "... the same files" a b
ok "... and the site" "$TOP/tests/check-site" html top
inode=$(stat -c %i np)
ok "other metrics" "$BIN/htmlgen" -q --metrics sae.jsonl --neuronpedia np -o html top
ok "... change only the site" test "$(stat -c %i np)" = "$inode"
for i in 1 2 3 4 5 6; do
	[ $i = 4 ] && rm -rf np np.stamp
	$make --np-set "set-$i" 2>/dev/null &
	sleep "0.0$((i * 3 % 7))"
	kill -KILL $! 2>/dev/null
	wait $! 2>/dev/null
done
ok "after six kills" $make
digest np >b
same "... the same files" a b
ok "... and no debris" test -z "$(find . -name '*.part')"

# ---- shapes ----
"$TOP/tests/make-top" edge 130 K=1 I=1 M=1 R=0 RT=0 H=3 L=1 N=1 A=1 B=1 || exit 1
ok "another shape" "$BIN/htmlgen" -q --neuronpedia edge/np edge/top
ok "... its fields" check edge/np edge/top featuremill 0 mlp-130-l1-3e-07 ''
"$TOP/tests/make-top" lone 1 || exit 1
sed -i '/"l1"/d; s/"n_layer": "1"/"n_layer": "3"/' lone/top/index.json
ok "one feature, no L1 coefficient, three layers" "$BIN/htmlgen" -q --neuronpedia lone/np lone/top
ok "... its fields" check lone/np lone/top featuremill 2 mlp-1 ''
"$TOP/tests/make-top" big 4096 || exit 1
begin=$(date +%s%N)
ok "4096 features" "$BIN/htmlgen" -q --neuronpedia big/np big/top
took=$((($(date +%s%N) - begin) / 1000000))
ok "... in less than 10 s" test $took -lt 10000
ok "... their fields" check big/np big/top featuremill 0 mlp-4096-l1-3e-07 '' 61
size=$(du -sb big/np | cut -f1)
echo "# 4096 features: $took ms, $((size >> 20)) MiB"
ok "... in at most 40 KiB each" test "$size" -lt $((4096 * 40960))

# ---- refusals ----
fails 2 "no output" "-o SITE or --neuronpedia DIR" "$BIN/htmlgen" top
fails 2 "not to stdout" "--neuronpedia DIR" "$BIN/htmlgen" --neuronpedia - top
fails 2 "one name for both" "the same directory" "$BIN/htmlgen" --neuronpedia x -o x/ top
fails 2 "a name with a quote" "--np-set 'a\"b'" "$BIN/htmlgen" --np-set 'a"b' --neuronpedia x top
fails 2 "no name" "--np-model" "$BIN/htmlgen" --np-model '' --neuronpedia x top
fails 2 "a layer that is none" "--np-layer '-1'" "$BIN/htmlgen" --np-layer=-1 --neuronpedia x top
fails 1 "a site under the name" "no 'skipped_indexes.json'" "$BIN/htmlgen" -q --neuronpedia html top
fails 1 "files under the site's name" "no 'data/vocab.js'" "$BIN/htmlgen" -q -o np top
cp -r top bad && truncate -s -9 bad/acts.f32.zst
fails 1 "a field is cut" "acts.f32.zst" "$BIN/htmlgen" -q --neuronpedia x bad
ok "nothing is left of failures" test ! -e x -a ! -e x.part
done_testing
