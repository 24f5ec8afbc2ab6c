# gptrain: same bytes however it is run, resumed after kills, refuses what is wrong.
. "$(dirname "$0")/lib.sh"
cd "$TMP" || exit 1
"$BIN/tokenize" -q --val 0.1 --val-out val.zst -o train.zst "$TOP/tests/fixtures/tiny.jsonl" || exit 1
net="--n-head 2 --n-embd 16 --block 32 --batch 2 --accum 2"
common="$net --warmup 2 --lr 1e-2 --min-lr 1e-3 --eval-contexts 5 --save-every 0 --val val.zst"
train="$BIN/gptrain $common --iters 12 --eval-every 4"
last() { tail -1 "$1" | grep -o "\"$2\": [^,}]*"; } # file key
value() { last "$1" "$2" | cut -d' ' -f2; }
less() { awk "BEGIN { exit !($1 < $2) }"; }

ok "a run" $train -q -j2 -o a.safetensors train.zst
ok "a line of metrics an evaluation" test "$(grep -c '^{"iter": [0-9]*, .*"val_loss": .*}$' a.jsonl)" = 3
ok "iterations 4, 8, 12" test "$(grep -o '"iter": [0-9]*' a.jsonl | tr -dc '0-9\n' | paste -sd,)" = 4,8,12
ok "the loss falls" less "$(value a.jsonl val_loss)" "$(head -1 a.jsonl | grep -o '"val_loss": [^,]*' | cut -d' ' -f2)"
ok "the unigram is below a uniform guess" less "$(value a.jsonl unigram)" 10.826
ok "no debris" test -z "$(ls | grep -E 'part|state')"
ok "-j 1" $train -q -j1 -o b.safetensors train.zst
same "-j 1 and -j 2: the same checkpoint" a.safetensors b.safetensors
same "-j 1 and -j 2: the same metrics" a.jsonl b.jsonl
ok "-j 3" $train -q -j3 -o j3.safetensors train.zst
same "... too" a.safetensors j3.safetensors
ok "checkpoint on stdout" eval '$train -q -o - train.zst >c.safetensors'
same "stdout and file: the same bytes" a.safetensors c.safetensors
ok "saving less often" $train -q --save-every 100 --cache 64K --metrics d.txt -o d.safetensors train.zst
same "--save-every and --cache change nothing" a.safetensors d.safetensors
same "--metrics names the file" a.jsonl d.txt

ok "the learning rate of iteration 11: nearly at the end of the cosine" python3 -c 'import json, math, sys
lr = [json.loads(l)["lr"] for l in open("a.jsonl")]
want = [1e-3 + 9e-3 * (1 + math.cos(math.pi * (it - 2) / 10)) / 2 for it in (3, 7, 11)]
assert all(abs(a / b - 1) < 1e-8 for a, b in zip(lr, want)), (lr, want)'
ok "four contexts in two micro-batches" $train -q --iters 3 --eval-every 1 -o micro.safetensors train.zst
ok "... or in one" $train -q --iters 3 --eval-every 1 --batch 4 --accum 1 -o macro.safetensors train.zst
ok "... are the same but for rounding" python3 -c 'import json
a, b = ([json.loads(l) for l in open(f)] for f in ("micro.jsonl", "macro.jsonl"))
assert all(abs(x[k] / y[k] - 1) < 1e-5 for x, y in zip(a, b) for k in ("train_loss", "val_loss", "grad_norm")), (a, b)'
inode=$(stat -c %i a.safetensors)
ok "the same command again" $train -q -o a.safetensors train.zst
ok "... trains nothing" test "$(stat -c %i a.safetensors)" = "$inode"
ok "another seed" $train -q -s 7 -o a.safetensors train.zst
ok "... gives other weights" eval '! cmp -s a.safetensors b.safetensors'

# Killed as soon as there is a state, then at any time.
killed() { # seconds, command…
	local delay=$1 pid
	shift
	"$@" -q >/dev/null 2>&1 &
	pid=$!
	sleep "$delay"
	kill -KILL $pid 2>/dev/null
	wait $pid 2>/dev/null
}
$train -q -o k.safetensors train.zst &
pid=$!
for _ in $(seq 500); do [ -e k.safetensors.state ] && break; sleep 0.01; done
kill -KILL $pid 2>/dev/null
wait $pid 2>/dev/null
interrupted=$([ -e k.safetensors.state ] && echo yes)
ok "goes on after a kill" $train -o k.safetensors train.zst
cp .err log
if [ "$interrupted" ]; then ok "... where it was" grep -q "going on after iteration" log; else skip "... where it was" "the run was over too soon"; fi
same "... with the same checkpoint" b.safetensors k.safetensors
same "... and metrics" b.jsonl k.jsonl
rm -f k.*
for i in 1 2 3 4 5 6; do killed "0.$i" $train -o k.safetensors train.zst; done
ok "six kills" $train -q -o k.safetensors train.zst
same "... the same checkpoint" b.safetensors k.safetensors
same "... the same metrics" b.jsonl k.jsonl
ok "no debris after kills" test -z "$(ls | grep -E 'part|state')"

$train -q -s 7 -o s.safetensors train.zst &
pid=$!
for _ in $(seq 500); do [ -e s.safetensors.state ] && break; sleep 0.01; done
kill -KILL $pid 2>/dev/null
wait $pid 2>/dev/null
if [ -e s.safetensors.state ]; then
	ok "a state of another run" $train -o s.safetensors train.zst
	ok "... is set aside" test -s s.safetensors.state.old
	same "... and not used" b.safetensors s.safetensors
else
	skip "a state of another run" "the run was over too soon"
fi

ok "--eval" eval '"$BIN/gptrain" -q --batch 2 --eval-contexts 5 --val val.zst --eval b.safetensors train.zst >eval'
ok "... prints the loss of the last evaluation" test "$(last eval val_loss)" = "$(last b.jsonl val_loss)"
ok "... and the unigram" test "$(last eval unigram)" = "$(last b.jsonl unigram)"
ok "--eval without training tokens" eval '"$BIN/gptrain" -q --val val.zst --eval b.safetensors >eval && ! grep -q unigram eval'
cat >check.py <<'P'
# The last line of metrics: validation loss and add-one unigram of the first five windows of val.
from gpt import *

T, said = 32, json.loads(open('b.jsonl').read().splitlines()[-1])
val, train = flat('val.zst', '<u2'), flat('train.zst', '<u2')
idx, targets = val[:5 * T].reshape(5, T), val[1:5 * T + 1].reshape(5, T)
loss = Gpt('b.safetensors', heads=2).nll(idx, targets).mean()
assert abs(said['val_loss'] / loss - 1) < 1e-5, (said, loss)
count = np.bincount(train, minlength=50257)
unigram = -np.log((count[targets] + 1) / (len(train) + 50257)).mean()
assert abs(said['unigram'] / unigram - 1) < 1e-8, (said, unigram)
P
export PYTHONPATH=$TOP/tests PYTHONDONTWRITEBYTECODE=1
ok "... and both by numpy" python3 check.py
ok "--init, no step" "$BIN/gptrain" -q $common --lr 0 --min-lr 0 --iters 1 --init b.safetensors -o i.safetensors train.zst
ok "... keeps the weights" test "$(last i.jsonl val_loss)" = "$(last b.jsonl val_loss)"
ok "two layers, biases" "$BIN/gptrain" -q $common --n-layer 2 --bias --iters 2 -o two.safetensors train.zst
ok "... are evaluated" eval '"$BIN/gptrain" -q --batch 2 --eval-contexts 5 --val val.zst --eval two.safetensors >eval &&
	test "$(last eval val_loss)" = "$(last two.jsonl val_loss)"'

fails 2 "--val is needed" "--val" "$BIN/gptrain" -o x train.zst
fails 2 "training tokens are needed" "training tokens" "$BIN/gptrain" --val val.zst -o x
fails 2 "heads must divide the width" "--n-head" "$BIN/gptrain" $common --n-head 3 -o x train.zst
fails 2 "--iters 0" "--iters" "$BIN/gptrain" $common --iters 0 -o x train.zst
fails 2 "an unknown option" "--no-such" "$BIN/gptrain" --no-such
fails 1 "no such tokens" "none.zst" "$BIN/gptrain" $common -o x none.zst
fails 1 "a context longer than the tokens" "needs at least" "$BIN/gptrain" $common --block 1000000 -o x train.zst
fails 1 "a token beyond the vocabulary" "vocabulary" "$BIN/gptrain" -q $common --vocab 50 --iters 2 -o x train.zst
fails 1 "--init of another shape" "n-layer 2" "$BIN/gptrain" $common --init two.safetensors --bias -o x train.zst
head -c 1000 train.zst >cut.zst
fails 1 "cut tokens" "cut.zst" "$BIN/gptrain" $common -o x cut.zst
fails 1 "a checkpoint that is none" "val.zst" "$BIN/gptrain" -q --val val.zst --eval val.zst
fails 1 "a loss that explodes" "not a number" "$BIN/gptrain" -q $common --iters 50 --warmup 0 --lr 1000 --weight-decay 1000 --clip 0 -o x train.zst
ok "nothing is left of failures" test ! -e x
done_testing
