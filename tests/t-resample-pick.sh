# resample-pick: distinct rows, drawn evenly, the same however they come; refuses what is wrong.
. "$(dirname "$0")/lib.sh"
cd "$TMP" || exit 1
pick="$BIN/resample-pick"
shape="contexts=1500 windows=1500 samples=20 cols=12"
for bins in 1 3; do
	"$BIN/tests/acts" acts $shape bins=$bins && mkdir -p mix$bins || exit 1
	for i in acts/*.zst; do "$BIN/shuffle" -q -o mix$bins/"${i#acts/}" $i || exit 1; done
done
one=mix1/000.zst
ok "a pick" $pick -q -n 500 --events 4 -o pick.zst $one
ok "META says how many" eval 'head -c 1000 pick.zst | grep -aq "^events 4" && head -c 1000 pick.zst | grep -aq "^pick 500"'
ok "META keeps where they come from" eval 'head -c 1000 pick.zst | grep -aq "^gpt 0123"'
cat >check.py <<'P'
# Of E·n distinct rows each event has n, in the order of the source; draws are even over it.
import subprocess, sys, numpy as np
def rows(f):
    flat = subprocess.run(["zstd", "-qdc", f], stdout=subprocess.PIPE, check=True).stdout
    return np.frombuffer(flat, "V24")
source, picked, n, E = rows(sys.argv[1]), rows(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
place = {r.tobytes(): i for i, r in enumerate(source)}
at = np.array([place[r.tobytes()] for r in picked]).reshape(E, n)
assert len(set(at.ravel())) == E * n, "a row twice"
assert (np.diff(at, axis=1) > 0).all(), "not in the order of the source"
for a in list(at) + [at.ravel()]:
    count = np.histogram(a, 20, (0, len(source)))[0]
    chi2 = ((count - len(a) / 20) ** 2 / (len(a) / 20)).sum()
    assert 19 - 3 * 38 ** .5 < chi2 < 19 + 5 * 38 ** .5, chi2
P
ok "numpy: distinct, in order, even" python3 check.py $one pick.zst 500 4

for how in "-j1" "-j2" "-m 1M" "-m 1G" "-T $TMP"; do
	$pick -q $how -n 500 --events 4 -o other.zst $one
	same "$how: the same bytes" pick.zst other.zst
	rm -f other.zst*
done
$pick -q -n 500 --events 4 mix3/00?.zst >other.zst
same "three shards: the same bytes" pick.zst other.zst
$pick -q -n 500 --events 4 mix3 >other.zst
same "a directory: the same bytes" pick.zst other.zst
cat mix3/00?.zst | $pick -q -n 500 --events 4 >other.zst
same "three shards on a pipe: the same bytes" pick.zst other.zst
$pick -q -n 500 --events 4 -o other.zst - <$one
same "one shard on a pipe: the same bytes" pick.zst other.zst
$pick -q -s 7 -n 500 --events 4 $one >other.zst
ok "another seed: other rows" eval '! cmp -s pick.zst other.zst'
sets() { # file: its rows, sorted
	python3 -c 'import sys, subprocess, numpy as np
np.sort(np.frombuffer(subprocess.run(["zstd", "-qdc", sys.argv[1]], stdout=subprocess.PIPE).stdout, "V24")).tofile(sys.argv[2])' "$1" "$2"
}
$pick -q -n 2000 --events 1 $one >other.zst && sets pick.zst a && sets other.zst b
same "the rows do not depend on how they are dealt out" a b
$pick -q -n 500 --events 1 $one >other.zst && zstd -qdc other.zst >a && zstd -qdc pick.zst | head -c $((500 * 24)) >b
ok "they are dealt out by another hash than they are drawn by" eval '! cmp -s a b'
$pick -q -n 30000 --events 1 $one >other.zst && zstd -qdc other.zst >a && zstd -qdc $one >b
same "all rows can be had" a b
"$BIN/tests/acts" big contexts=1000 windows=1000 block=128 samples=100 cols=600 && "$BIN/shuffle" -q -o bigmix.zst big/000.zst && rm -rf big
$pick -q -n 3 --events 2 bigmix.zst >other.zst && cat bigmix.zst | $pick -q -n 3 --events 2 >piped.zst
same "few rows, far apart: sought or streamed, the same bytes" other.zst piped.zst

inode=$(stat -c %i pick.zst)
ok "the same command again" $pick -q -n 500 --events 4 -o pick.zst $one
ok "... does nothing" test "$(stat -c %i pick.zst)" = "$inode"
ok "fewer rows" $pick -q -n 400 --events 4 -o pick.zst $one
ok "... are picked anew" python3 check.py $one pick.zst 400 4

again="$pick -q -m 3M -n 5000 --events 4 --save-every 0 -o k.zst bigmix.zst"
$pick -q -n 5000 --events 4 -o want.zst bigmix.zst
survives want.zst k.zst "0.02,0.18 0.04,0.26 0.06,0.34 0.08,0.42" $again

fails 1 "too few rows" "has 30000 rows; 4 events of 7501 need 30004" $pick -n 7501 --events 4 -o x.zst $one
fails 1 "too few rows, by pipe" "has 30000 rows" sh -c "cat $one | $pick -n 7501 --events 4 -o x.zst"
fails 1 "rows that are not shuffled" "not shuffled" $pick -n 5 --events 1 -o x.zst acts/000.zst acts/001.zst acts/002.zst
fails 1 "picked already" "picked" $pick -n 5 --events 1 -o x.zst pick.zst
fails 1 "a shard of several, by pipe" "by itself" sh -c "cat mix3/001.zst | $pick -n 5 --events 1 -o x.zst"
fails 1 "one of several is missing" "mix3/002.zst" $pick -n 5 --events 1 -o x.zst mix3/000.zst mix3/002.zst
fails 1 "no such file" "none.zst" $pick -n 5 --events 1 -o x.zst none.zst
fails 1 "no memory for the numbers of the rows" "-m 1M is too small to draw 40000 rows; need at least 2M" \
	$pick -m 1M -n 10000 --events 4 -o x.zst bigmix.zst
head -c 30000 $one >cut.zst
fails 1 "a cut file" "cut.zst" $pick -n 5 --events 1 -o x.zst cut.zst
fails 1 "a cut pipe" "truncated" sh -c "cat cut.zst | $pick -n 5 --events 1 -o x.zst"
fails 2 "-n 0" "--rows" $pick --rows 0 -o x.zst $one
fails 2 "an unknown option" "--no-such" $pick --no-such
ok "nothing is left of failures" test -z "$(ls | grep '^x\.')"
done_testing
