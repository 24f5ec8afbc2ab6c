# shardls: lists, checks, prints; says what is wrong and goes on.
. "$(dirname "$0")/lib.sh"
cd "$TMP" || exit 1
ls=$BIN/shardls
printf '%s\n' '{"text": "one two three"}' '{"text": "four five"}' >a.jsonl
"$BIN/tokenize" -q -o a.zst a.jsonl || exit 1
rows=$(($(zstd -dc a.zst | wc -c) / 2))
flat() { zstd -dc "$1" | od -An -v -tu2 -w2 | tr -d ' '; }
gives() { diff "$1" <("${@:2}"); } # file command…
has() { grep -qE -- "$1" <("${@:2}"); } # pattern command…
json() { "$ls" --json "$1" | python3 -c "import json, sys; v = json.loads(sys.stdin.readline()); print($2)"; }
flat a.zst >all
head -c 40 a.zst >cut.zst
head -c -1 a.zst >short.zst
cp a.zst bad.zst
printf '\377' | dd of=bad.zst bs=1 seek=$(($(wc -c <a.zst) - 20)) conv=notrunc status=none
mkdir dir empty
cp a.zst dir/000.zst
cp a.zst dir/001.zst

ok "lists a file" has "^ +$rows +1 u16 +0/1 .* a.zst$" "$ls" a.zst
ok "lists a directory" test "$("$ls" dir | tail -n +2 | wc -l)" = 2
ok "lists standard input" has "^ +$rows +1 u16 +0/1 .* -$" "$ls" - <a.zst
ok "... without operands too" has "^ +$rows +1 u16" "$ls" <a.zst
ok "... the id is the same" test "$(json a.zst 'v["id"]')" = "$(json - 'v["id"]' <a.zst)"
ok "lists a named pipe" has "^ +$rows +1 u16" "$ls" <(cat a.zst)
ok "--check of what is whole" "$ls" --check a.zst dir
ok "--check -q says nothing" test -z "$("$ls" --check -q a.zst 2>&1)"
"$BIN/tests/acts" long contexts=4000 windows=4000 block=64 samples=64 cols=128 || exit 1
terminal() { python3 -c 'import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))' "$@" </dev/null | tr '\r' '\n'; }
terminal "$ls" --check -j1 long long long long long long >seen
ok "--check shows its progress on a terminal" grep -qE "shardls: [0-9]+/$((6 * $(stat -c %s long/000.zst))) bytes checked, .* left" seen
ok "... and takes it away for the list" grep -qE "^.\[K *256000 +128 f16" seen
rm -r long
ok "--meta" has "^    via tokenize" "$ls" --meta a.zst
ok "--json is what the file is" test "$(json a.zst '[v["rows"], v["cols"], v["dtype"], v["shard"], v["packed_bytes"], v["raw_bytes"], v["frames"]]')" \
	= "[$rows, 1, 'u16', [0, 1], $(wc -c <a.zst), $((2 * rows)), 1]"
ok "--json has META and statistics" test "$(json a.zst 'v["meta"]["dtype"] + v["stats"]["max"]')" = "u16$(sort -n all | tail -1)"

ok "--rows :" gives all "$ls" --rows : a.zst
ok "--rows 2:5" gives <(sed -n 3,5p all) "$ls" --rows 2:5 a.zst
ok "--rows of a pipe" gives <(sed -n 3,5p all) "$ls" --rows 2:5 <a.zst
ok "--rows 3" gives <(sed -n 4p all) "$ls" --rows 3 a.zst
ok "--rows beyond the end" gives <(tail -1 all) "$ls" --rows $((rows - 1)):999 a.zst
ok "--rows after the end" gives /dev/null "$ls" --rows 99999: a.zst

fails 1 "no such file" "'none.zst': No such file" "$ls" none.zst
fails 1 "an empty file" "empty" "$ls" /dev/null
fails 1 "a directory without shards" "without shards" "$ls" empty
fails 1 "something else" "no shard" "$ls" a.jsonl
fails 1 "something else on a pipe" "no shard" eval '"$ls" <a.jsonl'
fails 1 "a cut file" "truncated" "$ls" cut.zst
fails 1 "a cut pipe" "truncated" eval '"$ls" <cut.zst'
fails 1 "a last byte missing" "truncated" "$ls" short.zst
fails 1 "a last byte missing on a pipe" "truncated" eval '"$ls" <short.zst'
fails 1 "a damaged table" "bad.zst" "$ls" bad.zst
fails 1 "two whole shards on a pipe that are no set" "something follows" eval 'cat a.zst a.zst | "$ls"'
"$ls" a.zst cut.zst dir/000.zst >list 2>said
ok "one bad among good: exit 1" test $? = 1
ok "... named in one line" test "$(wc -l <said) $(cut -d"'" -f2 said)" = "1 cut.zst"
ok "... and the others listed" test "$(tail -n +2 list | wc -l)" = 2
fails 2 "a range upside down" "--rows" "$ls" --rows 5:2 a.zst
fails 2 "no range" "--rows" "$ls" --rows x a.zst
fails 2 "rows and JSON" "excludes" "$ls" --rows 1 --json a.zst
[ -e /dev/full ] && fails 1 "a full disk" "No space" eval '"$ls" a.zst >/dev/full'
done_testing
