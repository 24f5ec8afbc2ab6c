# The pipe of the tools gives the tensors of the stages, to the bit.
. "$(dirname "$0")/lib.sh"
cd "$TMP" || exit 1
"$BIN/tokenize" -q --val 0.1 --val-out val.zst -o train.zst "$TOP/tests/fixtures/tiny.jsonl" || exit 1
"$BIN/gptrain" -q -j2 --n-head 2 --n-embd 16 --block 32 --batch 2 --accum 1 --iters 2 --eval-every 2 --eval-contexts 2 \
	--val val.zst -o gpt.safetensors train.zst || exit 1
dump="$BIN/mlpdump -q --gpt gpt.safetensors --contexts 64 --samples 12"
train="$BIN/saetrain -q --l1 3e-7 --gpt gpt.safetensors --val val.zst --features 96 --batch 32 --steps 20 --eval-every 10
	--eval-contexts 4 --resample-every 8 --resample-events 2"
stages() {
	$dump --bins 3 -o acts train.zst && mkdir -p mix || return 1
	for i in 000 001 002; do "$BIN/shuffle" -q -o mix/$i.zst acts/$i.zst || return 1; done
	"$BIN/resample-pick" -q -n 64 --events 2 -o pick.zst mix/*.zst && $train --pick pick.zst -o sae.safetensors mix/*.zst
}
piped() { $dump -o - train.zst | "$BIN/shuffle" -q -m 64M | $train --pick pick.zst -o - - >piped.safetensors; }
piped_small() { $dump -o - train.zst | "$BIN/shuffle" -q --bins 5 | $train --pick pick.zst -o - - >small.safetensors; }
tensors() { # the data of a safetensors file, without its header
	local n
	n=$(od -An -tu8 -N8 "$1")
	tail -c +$((n + 9)) "$1"
}
ok "stages" stages
ok "the same as a pipe" piped
tensors sae.safetensors >a
tensors piped.safetensors >b
ok "tensors are not empty" test -s a
same "pipe and stages: the same tensors" a b
ok "a pipe that sets rows aside" piped_small
same "... the same file" piped.safetensors small.safetensors
ok "a pick from the pipe" eval '$dump -o - train.zst | "$BIN/shuffle" -q | "$BIN/resample-pick" -q -n 64 --events 2 >pick2.zst'
same "... the same file" pick.zst pick2.zst
done_testing
