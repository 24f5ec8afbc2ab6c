# shuffle: the exact order, the same bytes in any memory, from any pipe, after any kill; refuses what is wrong.
. "$(dirname "$0")/lib.sh"
cd "$TMP" || exit 1
shuffle="$BIN/shuffle"
acts="$BIN/tests/acts"
flat() { zstd -qdc "$1"; } # by another program than ours

# The order is that of a plain sort of (block, key, context, position).
shape="contexts=1200 windows=1500 samples=20 cols=40"
$acts one $shape sorted=1 || exit 1
ok "a shuffle" $shuffle -q -o mix.zst one/000.zst
flat mix.zst >mix
same "rows are in the order of a plain sort" mix one/sorted
flat one/000.zst >rows
ok "META says what happened" eval 'head -c 1000 mix.zst | grep -aq "^order shuffled" && head -c 1000 mix.zst | grep -aq "^via shuffle"'
ok "META keeps where the rows come from" eval 'head -c 1000 mix.zst | grep -aq "^gpt 0123" && head -c 1000 mix.zst | grep -aq "^via mlpdump"'

cat >check.py <<'P'
# The rows are those of the input, and their order tells nothing of where they came from.
import sys, numpy as np
a, b = (np.fromfile(f, "<u2").reshape(-1, 40) for f in sys.argv[1:3])
assert a.shape == b.shape
row = lambda x: np.sort(x.view("V80").ravel())
assert (row(a) == row(b)).all(), "not the same rows"
n, g = len(a), 20
c = b[:, 0].astype(int)                        # context at each place of the output
place = np.arange(n) * g // n
table = np.zeros((g, g))
np.add.at(table, (place, c * g // (c.max() + 1)), 1)
chi2 = ((table - n / g**2) ** 2 / (n / g**2)).sum()
df = (g - 1) ** 2
print("chi2 %.0f of %d degrees" % (chi2, df))
assert df - 5 * (2 * df) ** .5 < chi2 < df + 5 * (2 * df) ** .5
pairs = (c[1:] == c[:-1]).mean() * (c.max() + 1)  # neighbours of one context: as often as by chance
assert 0 < pairs < 3, pairs
r = np.corrcoef(c[1:], c[:-1])[0, 1]
assert abs(r) < 5 / n ** .5, r
P
ok "numpy: the same rows, places independent of contexts" python3 check.py rows mix

for how in "-j1" "-j2" "-m 64M" "-m 1G" "-m 1M" "-m 1M -j1" "--bins 2" "--bins 7" "--bins 50 -j1" "--save-every 0 --bins 9" "-T $TMP -m 1M"; do
	$shuffle -q $how -o other.zst one/000.zst || echo "# failed: $how"
	same "$how: the same bytes" mix.zst other.zst
	rm -f other.zst*
done
ok "file to pipe" eval '$shuffle -q --bins 3 -o - one/000.zst >other.zst'
same "... the same bytes" mix.zst other.zst
ok "pipe to pipe" eval 'cat one/000.zst | $shuffle -q -m 1M | cat >other.zst'
same "... the same bytes" mix.zst other.zst
ok "a reader that goes away" eval '$shuffle -q one/000.zst | head -c 100 >head; test "${PIPESTATUS[0]}" != 0 && cmp -n 100 head mix.zst'
ok "pipe to file" eval '$shuffle -q -m 1M -o other.zst - <one/000.zst'
same "... the same bytes" mix.zst other.zst
rm -f other.zst*

# Bins, one by one, are consecutive parts of the same order; windows bound it.
for more in "" "window=64"; do
	$acts one $more $shape sorted=1 && $acts bins $more $shape bins=5 || exit 1
	for i in 0 1 2 3 4; do $shuffle -q -m 1M -o mix$i.zst bins/00$i.zst && flat mix$i.zst; done >pieces
	same "${more:-no window}: bins one by one" pieces one/sorted
	ok "bins together" $shuffle -q --bins 3 -o whole.zst bins/00?.zst
	flat whole.zst >whole
	same "... one order" whole one/sorted
	ok "bins on a pipe" eval 'cat bins/00?.zst | $shuffle -q -m 1M >piped.zst'
	same "... the same bytes" whole.zst piped.zst
	rm -f mix?.zst whole.zst piped.zst
done
ok "rows of one window stay together" python3 -c '
import numpy as np
c = np.fromfile("one/sorted", "<u2").reshape(-1, 40)[:, 0] // 64
assert (np.diff(c.astype(int)) >= 0).all() and c.max() == 1199 // 64'
for type in bf16 f32; do
	$acts types dtype=$type sorted=1 cols=6 && $shuffle -q -o type.zst types/000.zst && flat type.zst >type
	same "$type" type types/sorted
	rm -f type.zst*
done
$acts wide contexts=50 samples=4 cols=50000 sorted=1 && $shuffle -q -m 4M -o wide.zst wide/000.zst && flat wide.zst >wide.flat
same "rows of 100 kB" wide.flat wide/sorted
$acts least contexts=1 windows=1 samples=1 cols=1 sorted=1 dtype=f32 && $shuffle -q -o least.zst least/000.zst && flat least.zst >least.flat
same "one row of one value" least.flat least/sorted
rm -rf wide* type* least*

# Stages: up to date, and what makes them stale.
$acts one $shape
inode=$(stat -c %i mix.zst)
ok "the same command again" $shuffle -q -m 1M -j1 -o mix.zst one/000.zst
ok "... does nothing" test "$(stat -c %i mix.zst)" = "$inode"
ok "another level" $shuffle -q --level 3 -o mix.zst one/000.zst
ok "... writes it again" test "$(stat -c %i mix.zst)" != "$inode"
$acts one $shape seed=2
ok "other rows" $shuffle -q -o mix.zst one/000.zst
flat mix.zst >seed2
ok "... other output" eval '! cmp -s seed2 mix'

# Killed anywhere and started again: the same bytes, no debris.
$acts big contexts=4000 windows=4000 samples=25 cols=100
$shuffle -q --bins 12 -o want.zst big/000.zst
again="$shuffle -q --save-every 0 --bins 12 -o k.zst big/000.zst"
survives want.zst k.zst "0.02,0.17 0.04,0.24 0.06,0.31 0.08,0.38" $again
killed 0.2 $shuffle -q --save-every 0 --bins 12 -o k2.zst big/000.zst
ok "killed, then with memory for all rows" $shuffle -q -o k2.zst big/000.zst
same "... the same bytes" want.zst k2.zst
ok "... no debris" test -z "$(ls | grep -E 'part|state|bins\.')"
killed 0.2 $shuffle -q --save-every 0 --bins 12 -o k3.zst big/000.zst
ok "killed, then from a pipe" eval '$shuffle -q -o k3.zst <big/000.zst'
same "... the same bytes" want.zst k3.zst
ok "... no debris" test -z "$(ls | grep -E 'part|state|bins\.')"
mkdir aside a b
ready() { compgen -G "aside/$1*.part" >/dev/null; }
{ cat big/000.zst; sleep 1; } | $shuffle -q --bins 12 -T aside -o a/m.zst &
for _ in $(seq 100); do ready m.zst && break; sleep 0.01; done
ok "outputs of one name set rows aside in one place" $shuffle -q --bins 12 -T aside -o b/m.zst big/000.zst
ok "... at once" ready m.zst
wait
same "... the same bytes" want.zst a/m.zst
same "... the same bytes" want.zst b/m.zst
{ head -c 12000000 big/000.zst; sleep 1; } | TMPDIR=aside sh -c "echo \$\$ >pid; exec $shuffle -q -m 4M" >aside.out 2>&1 &
for _ in $(seq 100); do [ -s pid ] && ls -l "/proc/$(cat pid)/fd" 2>/dev/null | grep -q "aside/.*deleted" && break; sleep 0.01; done
ok "a pipe sets rows aside" eval 'ls -l /proc/$(cat pid)/fd | grep "aside/.*deleted"'
kill -KILL "$(cat pid)"
wait 2>/dev/null
ok "... and killed leaves nothing" test -z "$(ls aside)"

fails 1 "shuffled already" "'mix.zst' is shuffled already" $shuffle -o x.zst mix.zst
fails 1 "shuffled already, by pipe" "is shuffled already" sh -c "cat mix.zst | $shuffle -o x.zst"
fails 1 "no such file" "none.zst" $shuffle -o x.zst none.zst
fails 1 "not all of the bins" "bins/001.zst" $shuffle -o x.zst bins/000.zst bins/001.zst
fails 1 "bins in another order" "bins/00" $shuffle -o x.zst bins/001.zst bins/000.zst bins/002.zst bins/003.zst bins/004.zst
fails 1 "not all of the bins, by pipe" "<stdin>" sh -c "cat bins/000.zst bins/001.zst | $shuffle -o x.zst"
"$BIN/tokenize" -q -o tokens.zst "$TOP/tests/fixtures/tiny.jsonl" &&
	fails 1 "tokens" "tokens.zst" $shuffle -o x.zst tokens.zst
head -c 20000 one/000.zst >cut.zst
fails 1 "a cut file" "cut.zst" $shuffle -o x.zst cut.zst
fails 1 "a cut pipe" "truncated" sh -c "head -c 20000 one/000.zst | $shuffle -o x.zst"
echo hello >text
fails 1 "a text" "text" $shuffle -o x.zst text
$acts fewer $shape contexts=1199 && python3 - <<'P'
# the META of 1200 contexts before the rows of 1199
one, fewer = (open(f, "rb").read() for f in ("one/000.zst", "fewer/000.zst"))
end = lambda x: 8 + int.from_bytes(x[4:8], "little")
assert end(one) == end(fewer)
open("less.zst", "wb").write(one[:end(one)] + fewer[end(fewer):])
open("more.zst", "wb").write(fewer[:end(fewer)] + one[end(one):])
P
fails 1 "fewer rows than described" "fewer rows than" $shuffle -o x.zst less.zst
fails 1 "... in bins" "fewer rows than" $shuffle --bins 4 -o x.zst less.zst
fails 1 "more rows than described" "more rows than" $shuffle -o x.zst more.zst
fails 1 "too little memory for so many bins" "to sort 2M of rows in 1000 bins; need at least" $shuffle -m 1M --bins 1000 -o x.zst one/000.zst
fails 1 "a full disk" "No space left" sh -c "$shuffle -q one/000.zst >/dev/full"
fails 2 "-m 10" "-m" $shuffle -m 10 -o x.zst one/000.zst
fails 2 "an unknown option" "--no-such" $shuffle --no-such
fails 1 "nowhere to set rows aside" "nowhere" $shuffle --bins 2 -T nowhere -o x.zst one/000.zst
ok "nothing is left of failures" test -z "$(ls | grep -E '^x\.')"

# Memory: ten times -m.  A sanitizer keeps freed memory, so it is not measured there.
peak() { # command…: kB
	python3 -c 'import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)' "$@"
}
case $BIN in
*-address | *-thread) skip "peak memory" "sanitized" ;;
*)
	$acts large contexts=8000 windows=8000 block=64 samples=40 cols=1024 seed=5
	kb=$(peak $shuffle -q -m 64M -o large.zst large/000.zst)
	ok "peak memory $((kb / 1024))M of 655 MB with -m 64M" test "$kb" -lt $((128 * 1024))
	;;
esac
done_testing
