# mlpdump: which rows, in which shard; same bytes however it is run; resumed after kills.
. "$(dirname "$0")/lib.sh"
cd "$TMP" || exit 1
"$BIN/tokenize" -q --val 0.1 --val-out val.zst -o train.zst "$TOP/tests/fixtures/tiny.jsonl" || exit 1
"$BIN/gptrain" -q --n-head 2 --n-embd 16 --block 32 --batch 2 --accum 1 --iters 2 --eval-contexts 2 \
	--val val.zst -o gpt.safetensors train.zst || exit 1
dump="$BIN/mlpdump --gpt gpt.safetensors --contexts 60 --samples 12"
rows() { for f in "$@"; do zstd -qdc "$f"; done | od -An -v -tx2 -w128; } # bf16, 64 columns: one row a line

ok "one shard" $dump -q -j2 -o one.zst train.zst
ok "contexts x samples rows" test "$(rows one.zst | wc -l)" = 720
ok "rows differ" test "$(rows one.zst | sort -u | wc -l)" -gt 700
ok "on stdout" eval '$dump -q -o - train.zst >stdout.zst'
same "stdout and file: the same bytes" one.zst stdout.zst
ok "-j 1" $dump -q -j1 -o j1.zst train.zst
same "-j 1 and -j 2: the same bytes" one.zst j1.zst
ok "three bins" $dump -q -j2 --bins 3 -o bins train.zst
ok "three files" test "$(ls bins | tr '\n' ' ')" = "000.zst 001.zst 002.zst "
rows one.zst | sort >a
rows bins/*.zst | sort >b
same "bins hold the rows of the one shard" a b
for i in 0 1 2; do
	ok "no bin holds nearly all or nothing ($i)" eval 'n=$(rows bins/00$i.zst | wc -l); [ $n -gt 150 ] && [ $n -lt 350 ]'
	ok "--bin $i/3" $dump -q --bin $i/3 -o bin$i.zst train.zst
	same "... is file $i of --bins 3" bins/00$i.zst bin$i.zst
done
ok "another seed" $dump -q -s 7 -o seed.zst train.zst
ok "... samples other rows" eval '! cmp -s one.zst seed.zst'
ok "--samples of the whole context" "$BIN/mlpdump" -q --gpt gpt.safetensors --contexts 60 --samples 32 -o all.zst train.zst
rows all.zst >all
rows one.zst >some
ok "... contains the sampled rows" eval '[ "$(grep -cxFf all some)" = 720 ]'
ok "--samples of the whole context, f32" "$BIN/mlpdump" -q --gpt gpt.safetensors --precision f32 --contexts 60 --samples 32 --dtype f32 -o all32.zst train.zst
cat >check.py <<'P'
# Every dumped context is a window of the tokens, no two the same one, its rows are that window's
# activations; sampled rows are some of them, in order.
from gpt import *

T = 32
tokens = flat('train.zst', '<u2')
acts = Gpt('gpt.safetensors', heads=2).acts(tokens[:(len(tokens) - 1) // T * T].reshape(-1, T))
dumped = flat('all32.zst', '<f4').reshape(60, T, -1)
some = (flat('one.zst', '<u2').astype('<u4') << 16).view('<f4').reshape(60, 12, -1)    # bf16
windows = set()
for c in range(60):
    off = np.abs(acts - dumped[c]).max((1, 2))
    assert off.min() < 1e-5, (c, off.min())
    windows.add(int(off.argmin()))
    rows = np.abs(some[c][:, None] - dumped[c][None]).max(2)
    assert (rows.min(1) < 1e-3).all(), (c, rows.min(1))
    assert (np.diff(rows.argmin(1)) > 0).all(), (c, rows.argmin(1))
assert len(windows) == 60, windows
P
export PYTHONPATH=$TOP/tests PYTHONDONTWRITEBYTECODE=1
ok "the same activations by numpy" python3 check.py
for t in f16:2 f32:4; do
	ok "--dtype ${t%:*}" eval '$dump -q --dtype ${t%:*} -o t.zst train.zst && [ $(zstd -qdc t.zst | wc -c) = $((720 * 64 * ${t#*:})) ]'
done
ok "--window 20" $dump -q --window 20 --bins 3 -o windowed train.zst
rows windowed/*.zst | sort >b
ok "... fills bins with as many rows" test "$(wc -l <b)" = 720

inode=$(stat -c %i bins/001.zst)
touch -d '2001-01-01' bins/*
ok "the same command again" $dump -q --bins 3 -o bins train.zst
ok "... computes nothing" test "$(stat -c %i bins/001.zst)" = "$inode"
ok "... touches every shard" test -z "$(find bins -name '*.zst' ! -newermt '2002-01-01')"
ok "--level 3" $dump -q --bins 3 --level 3 -o bins train.zst
ok "... is another file" test "$(stat -c %i bins/001.zst)" != "$inode"
ok "two bins in the same folder" $dump -q --bins 2 -o bins train.zst
ok "... leave no third" test "$(ls bins | wc -l)" = 2
ok "three again, then one in the same folder" eval '$dump -q --bins 3 -o bins train.zst && $dump -q -o bins/ train.zst'
ok "... is alone there" test "$(ls bins)" = 000.zst
same "... and the one shard" one.zst bins/000.zst
ok "three once more are written anew" eval '$dump -q --bins 3 -o bins train.zst && cmp bins/000.zst bin0.zst'
ok "all contexts without --contexts" "$BIN/mlpdump" -q --gpt gpt.safetensors --samples 1 -o every.zst train.zst
ok "... is a row of each window" test "$(rows every.zst | wc -l)" = $((($(zstd -qdc train.zst | wc -c) / 2 - 1) / 32))
ok "more bins than files may be open" eval '(ulimit -S -n 40 && $dump -q --bins 50 -o fifty train.zst)'
ok "no debris" test -z "$(find . -name '*.part' -o -name '*.state*')"

# Killed as soon as there is a state, then at any time.
big="$BIN/mlpdump --gpt gpt.safetensors --contexts 150 --samples 30 --batch 2 --save-every 0"
ok "an uninterrupted run" $big -q --bins 3 -o whole train.zst
ok "states at other times" "$BIN/mlpdump" -q --gpt gpt.safetensors --contexts 150 --samples 30 --batch 2 --bins 3 -o never train.zst
ok "... change nothing" diff -r whole never
$big -q --bins 3 -o k train.zst &
pid=$!
for _ in $(seq 500); do [ -e k.state ] && break; sleep 0.01; done
kill -KILL $pid 2>/dev/null
wait $pid 2>/dev/null
interrupted=$([ -e k.state ] && echo yes)
ok "goes on after a kill" $big --bins 3 -o k train.zst
cp .err log
if [ "$interrupted" ]; then ok "... where it was" grep -q "going on at context" log; else skip "... where it was" "the run was over too soon"; fi
ok "... with the same bytes" diff -r whole k
rm -rf k k.*
for i in 1 2 3 4 5 6 7 8; do
	$big -q --bins 3 -o k train.zst &
	pid=$!
	sleep "0.0$((i * 3 % 10))$i"
	kill -KILL $pid 2>/dev/null
	wait $pid 2>/dev/null
done
ok "eight kills" $big -q --bins 3 -o k train.zst
ok "... the same bytes" diff -r whole k
ok "no debris after kills" test -z "$(find . -name '*.part' -o -name '*.state*')"

fails 2 "--gpt is needed" "--gpt" "$BIN/mlpdump" --contexts 5 -o x train.zst
fails 2 "tokens are needed" "tokens" "$BIN/mlpdump" --gpt gpt.safetensors --contexts 5 -o x
fails 2 "--bin 3/3" "--bin" $dump --bin 3/3 -o x train.zst
fails 2 "--bin x" "--bin" $dump --bin x -o x train.zst
fails 2 "--bin with --bins" "exclude" $dump --bin 0/3 --bins 3 -o x train.zst
fails 2 "--bins on stdout" "-o DIR" $dump --bins 3 train.zst
fails 2 "--dtype u16" "--dtype" $dump --dtype u16 -o x train.zst
windows=$((($(zstd -qdc train.zst | wc -c) / 2 - 1) / 32))
fails 1 "more contexts than windows" "has $windows windows of 32 tokens; --contexts asks for $((windows + 1))" \
	"$BIN/mlpdump" --gpt gpt.safetensors --contexts $((windows + 1)) --samples 2 -o x train.zst
ok "exactly as many" "$BIN/mlpdump" -q --gpt gpt.safetensors --contexts $windows --samples 1 -o x.zst train.zst
fails 1 "more samples than tokens" "--samples asks for 33" "$BIN/mlpdump" --gpt gpt.safetensors --contexts 5 --samples 33 -o x train.zst
fails 1 "a checkpoint that is none" "train.zst" "$BIN/mlpdump" --gpt train.zst --contexts 5 -o x train.zst
fails 1 "activations as tokens" "no tokens" $dump -o x one.zst
head -c 1000 train.zst >cut.zst
fails 1 "cut tokens" "cut.zst" $dump -o x cut.zst
if python3 - <<'P'
import array, json, struct
b = bytearray(open('gpt.safetensors', 'rb').read())
n, = struct.unpack('<Q', b[:8])
at, end = json.loads(b[8:8 + n])['transformer.h.0.mlp.c_fc.weight']['data_offsets']
w = array.array('f', b[8 + n + at:8 + n + end])
b[8 + n + at:8 + n + end] = array.array('f', [x * 1e7 for x in w]).tobytes()
open('big.safetensors', 'wb').write(b)
P
then
	fails 1 "values beyond f16" "use --dtype bf16" "$BIN/mlpdump" -q --gpt big.safetensors --contexts 5 --samples 2 --dtype f16 -o x train.zst
	ok "... fit bf16" "$BIN/mlpdump" -q --gpt big.safetensors --contexts 5 --samples 2 --dtype bf16 -o y.zst train.zst
else
	skip "values beyond f16" "no python3"
fi
ok "nothing is left of failures" test ! -e x
done_testing
