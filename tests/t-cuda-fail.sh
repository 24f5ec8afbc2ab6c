# Each call of CUDA's runtime and of cuBLAS may fail: a tool then ends with one line that says which, and leaves its whole
# output or none.  Of the calls of a training the first 40 and every EVERY-th fail in turn (1: all).
. "$(dirname "$0")/cuda/needs.sh"
. "$(dirname "$0")/lib.sh"
cd "$TMP" || exit 1
export ASAN_OPTIONS=detect_leaks=0
suffix=${BIN##*/bin}
ok "the emulated device is built" build -j2 "out/lib$suffix/cudasim.so"
"$BIN/tokenize" -q --val 0.1 --val-out val.zst -o train.zst "$TOP/tests/fixtures/tiny.jsonl" || exit 1
gptrain="$BIN/gptrain -q -j1 --n-head 2 --n-embd 8 --block 16 --batch 2 --accum 1 --leaves 1 --iters 1 --warmup 1 --eval-contexts 1
	--eval-every 1 --val val.zst"
$gptrain --device cpu -o cpu.safetensors train.zst
"$BIN/mlpdump" -q -j1 --device cpu --gpt cpu.safetensors --contexts 16 --samples 8 --dtype f32 -o acts.zst train.zst
saetrain="$BIN/saetrain -q -j1 --gpt cpu.safetensors --val val.zst --features 24 --batch 32 --leaves 1 --steps 3 --l1-mean 0.002
	--normalise-every 2 --eval-every 3 --eval-contexts 1"

calls() { # command… -- how many of its calls can fail
	CUSIM_COUNT=tally "$@" >/dev/null && awk -F'\t' '$1 == "calls" { print $3 }' tally
}
dies_at() { # n OUT command… -- when the n-th fails
	local n=$1 out=$2 status
	shift 2
	rm -f ${out%.*}.*       # a state of the run before, too
	CUSIM_FAIL=$n "$@" -o $out >/dev/null 2>why
	status=$?
	[ $status = 1 ] && [ "$(wc -l <why)" = 1 ] && grep -Eq '^[a-z]+: device cuda(sim)?: [^ ].' why &&
		{ [ ! -e $out ] || cmp $out ok.safetensors; } && return
	echo "call $n: status $status: $(cat why)"
	return 1
}
dies_everywhere() { # OUT command…
	local all n
	rm -f ok.*
	all=$(calls "${@:2}" -o ok.safetensors) && [ "$all" -gt 200 ] || return 1
	for ((n = 1; n <= all; n += n < 40 ? 1 : ${EVERY:-11})); do dies_at $n "$@" || return 1; done
}
ok "gptrain, in bf16" dies_everywhere g.safetensors $gptrain --device cudasim --precision bf16 train.zst
ok "saetrain, in tf32" dies_everywhere s.safetensors $saetrain --device cudasim --precision tf32 acts.zst
export CUSIM_NOLT=1
ok "... where cublasLt refuses" dies_everywhere s.safetensors $saetrain --device cudasim --precision bf16 acts.zst
done_testing
