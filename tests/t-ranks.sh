# Training shared by processes over MPI: any number of them writes the same bytes, takes over from any other, and ends as one.
. "$(dirname "$0")/lib.sh"
cd "$TMP" || exit 1
for t in gptrain saetrain tokenize; do
	ok "$t links no MPI" eval '! ldd "$BIN/$t" | grep -i mpi'
done
fails 1 "one of many, without a plugin: a line" "no way to talk to the others" \
	env OMPI_COMM_WORLD_SIZE=2 bash -c 'mkdir -p alone/bin && cp "$0/gptrain" alone/bin && alone/bin/gptrain --help' "$BIN"
if ! command -v mpirun >/dev/null || [ ! -e "$BIN/../lib/mpi.so" ]; then
	skip "several processes" "no mpirun, or no mpicc when the tools were built"
	done_testing
fi
# All in this machine, more of them than processors, whoever runs the test; and no word but the tools'.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export OMPI_MCA_btl=self,vader OMPI_MCA_btl_vader_single_copy_mechanism=none OMPI_MCA_hwloc_base_binding_policy=none
export ASAN_OPTIONS=detect_leaks=0 # MPI's
ranks() { local n=$1; shift; mpirun -q -n "$n" "$@"; }

"$BIN/tokenize" -q --val 0.1 --val-out val.zst -o train.zst "$TOP/tests/fixtures/tiny.jsonl" || exit 1
gpt="$BIN/gptrain -q -j1 --device cpu --n-head 2 --n-embd 16 --block 32 --batch 4 --accum 2 --leaves 4 --warmup 2 --lr 1e-2
	--min-lr 1e-3 --eval-contexts 5 --eval-every 4 --iters 12 --save-every 0 --val val.zst"

shared() { # OUT command…: 1, 2 and 4 processes, the same bytes
	local out=$1 n
	shift
	ok "$out: one process" "$@" -o $out-1.safetensors
	for n in 2 4; do
		ok "$out: $n processes" ranks $n "$@" -o $out-$n.safetensors
		same "... the same checkpoint" $out-1.safetensors $out-$n.safetensors
		same "... the same metrics" $out-1.jsonl $out-$n.jsonl
	done
}
rank_pid() { # OUT rank: who of mpirun's children writes OUT and has this rank
	local p
	for p in $(pgrep -f -- "-o $1"); do
		tr '\0' '\n' <"/proc/$p/environ" 2>/dev/null | grep -qx "OMPI_COMM_WORLD_RANK=$2" && echo "$p" && return
	done
}
taken_over() { # OUT killed-rank n m command…: one of n is killed when there is a state, m go on
	local out=$1 rank=$2 n=$3 m=$4 pid status
	shift 4
	ranks "$n" "$@" -o k-$out.safetensors 2>err &
	pid=$!
	for _ in $(seq 1000); do [ -e k-$out.safetensors.state ] && break; sleep 0.01; done
	kill -KILL "$(rank_pid k-$out.safetensors "$rank")" 2>/dev/null
	wait $pid
	status=$?
	ok "$out: rank $rank of $n killed: the job has failed" test $status != 0 -a ! -e k-$out.safetensors
	ok "... and left a state" test -e k-$out.safetensors.state
	ok "... $m go on" ranks "$m" "${@/-q/--save-every=1}" -o k-$out.safetensors
	cp .err log
	ok "... from there" grep -q "going on after" log
	same "... the same checkpoint" $out-1.safetensors k-$out.safetensors
	same "... the same metrics" $out-1.jsonl k-$out.jsonl
	rm -f k-$out.*
}
shared gpt $gpt train.zst
taken_over gpt 1 2 4 $gpt train.zst
taken_over gpt 0 4 1 $gpt train.zst
"$BIN/mlpdump" -q --gpt gpt-1.safetensors --contexts 128 --samples 16 --bins 2 -o acts train.zst || exit 1
mkdir mix
for i in 000 001; do "$BIN/shuffle" -q -o mix/$i.zst acts/$i.zst || exit 1; done
"$BIN/resample-pick" -q -n 100 --events 2 -o pick.zst mix/*.zst || exit 1
sae="$BIN/saetrain -q -j1 --device cpu --gpt gpt-1.safetensors --val val.zst --eval-every 20 --eval-contexts 11 --features 96
	--batch 32 --leaves 4 --lr 1e-2 --l1-mean 0.001953125 --normalise-every 10 --resample-every 20 --resample-events 2 --save-every 0"
shared sae $sae --pick pick.zst mix/*.zst
ok "... neurons were resampled" grep -q '"resampled": [1-9]' sae-1.jsonl
taken_over sae 1 2 4 $sae --pick pick.zst mix/*.zst
taken_over sae 2 4 1 $sae --pick pick.zst mix/*.zst
ok "without --pick, one process" $sae --pick-rows 200 -o kept-1.safetensors mix/*.zst
ok "... or two" ranks 2 $sae --pick-rows 200 -o kept-2.safetensors mix/*.zst
same "... the same" kept-1.safetensors kept-2.safetensors
# rows made of tokens, in windows that neither batches of contexts nor processes divide; resampled from the first rows
made="$sae --pick-rows 150 --contexts 128 --samples 16 --window 37"
shared made $made --from-tokens train.zst
taken_over made 1 2 4 $made --from-tokens train.zst
fails 2 "a pipe has one reader" "not a pipe" ranks 2 $sae -o x -
fails 2 "leaves divide the rows" "does not divide" $sae --batch 36 --leaves 8 -o x mix/*.zst

# What cuda_nccl.c takes NCCL to be, against its header.
CUDA=$(dirname "$(dirname "$(realpath "$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)")")")
if [ -e "$CUDA/include/nccl.h" ]; then
	ok "NCCL's functions are what they are taken for" gcc -fsyntax-only -Wall -Werror -I"$CUDA/include" -xc - <<'END'
#include <nccl.h>
_Static_assert(ncclSuccess == 0 && ncclFloat32 == 7 && sizeof(ncclUniqueId) == 128 && sizeof(ncclResult_t) == sizeof(int) &&
	sizeof(ncclDataType_t) == sizeof(int) && sizeof(ncclComm_t) == sizeof(void *), "");
ncclResult_t (*get_unique_id)(ncclUniqueId *) = ncclGetUniqueId;
ncclResult_t (*comm_init_rank)(ncclComm_t *, int, ncclUniqueId, int) = ncclCommInitRank;
ncclResult_t (*comm_destroy)(ncclComm_t) = ncclCommDestroy;
ncclResult_t (*group_start)(void) = ncclGroupStart, (*group_end)(void) = ncclGroupEnd;
ncclResult_t (*send)(const void *, size_t, ncclDataType_t, int, ncclComm_t, cudaStream_t) = ncclSend;
ncclResult_t (*recv)(void *, size_t, ncclDataType_t, int, ncclComm_t, cudaStream_t) = ncclRecv;
const char *(*get_error_string)(ncclResult_t) = ncclGetErrorString;
END
else
	skip "NCCL's functions are what they are taken for" "no nccl.h beside nvcc"
fi

# On a device, each process with one of its own.
LIB=$(dirname "$BIN")/lib$(basename "$BIN" | sed 's/^bin//')
if [ -e "$LIB/libnccl-cudasim.so" ]; then
	export CUSIM_DEVICES=4 CUSIM_GUARD=0 CUSIM_LAZY=1
	device="-q -j1 --device cudasim --precision f32 --leaves 4 --save-every 0"
	gpt_there="$BIN/gptrain $device --n-head 2 --n-embd 16 --block 8 --batch 4 --accum 1 --warmup 2 --lr 1e-2 --min-lr 1e-3
		--eval-contexts 2 --eval-every 4 --iters 8 --val val.zst"
	sae_there="$BIN/saetrain $device --features 96 --batch 32 --steps 60 --lr 1e-2 --l1-mean 0.001953125 --normalise-every 5
		--resample-every 20 --resample-events 1 --pick pick.zst"
	shared gpt-there $gpt_there train.zst
	shared sae-there $sae_there mix/*.zst
	taken_over gpt-there 1 2 4 $gpt_there train.zst
	taken_over sae-there 2 4 2 $sae_there mix/*.zst
	made_there="${sae_there/--steps 60/--steps 30} --gpt gpt-1.safetensors --contexts 64 --samples 16 --window 21"
	shared made-there $made_there --from-tokens train.zst
	for n in 1 2; do
		ranks $n bash -c 'CUSIM_COUNT=count-'$n'.$OMPI_COMM_WORLD_RANK exec "$@"' - $made_there --gpt-batch 2 -o counted.safetensors --from-tokens train.zst
		rm -f counted.*
	done
	batches() { awk '$1 == "kernel" && /gelu/ { n += $3 } END { print n + 0 }' $1; }
	ok "of batches of contexts $(batches count-1.0) alone, $(batches count-2.0) and $(batches count-2.1) by two" \
		eval '[ $(batches count-2.0) -lt $(($(batches count-1.0) * 3 / 4)) ] && [ $(batches count-2.1) -lt $(($(batches count-1.0) * 3 / 4)) ]'
	export CUSIM_DEVICES=1
	ok "two processes on one card, rows of tokens" ranks 2 $made_there -o made-card.safetensors --from-tokens train.zst
	same "... the same bytes" made-there-1.safetensors made-card.safetensors
	ok "two processes on one card" ranks 2 ${sae_there/-q/} -o one-card.safetensors mix/*.zst
	cp .err log
	ok "... send through the host, and say so" grep -q "through host memory: ncclCommInitRank: invalid usage" log
	same "... the same bytes" sae-there-1.safetensors one-card.safetensors
	unset CUSIM_DEVICES CUSIM_GUARD CUSIM_LAZY
else
	skip "processes with a device each" "no $LIB/libnccl-cudasim.so"
fi

ok "other leaves" $gpt --leaves 8 -o eight.safetensors train.zst
ok "... are another order of sums" eval '! cmp -s gpt-1.safetensors eight.safetensors'
ok "the same command again, by two" ranks 2 $gpt -o gpt-1.safetensors train.zst
ok "--eval by two prints once" eval 'test $(ranks 2 "$BIN/gptrain" -q --batch 2 --eval-contexts 5 --val val.zst --eval gpt-1.safetensors | wc -l) = 1'
fails 1 "to standard output, which mpirun makes a terminal" "will not write binary data" ranks 2 $gpt -o - train.zst

fails 1 "three cannot share four leaves" "3 processes cannot share 4 leaves" ranks 3 $gpt -o x train.zst
fails 1 "nor can eight" "8 processes cannot share 4 leaves" ranks 8 $gpt -o x train.zst
fails 2 "leaves are a power of two" "power of two" $gpt --accum 3 --leaves 3 -o x train.zst
fails 2 "... and divide the batch" "does not divide the 8 contexts" $gpt --leaves 16 -o x train.zst
fails 2 "misuse is told once" "--nope" ranks 4 $gpt --nope
fails 1 "so is a missing file" "none.zst" ranks 4 $gpt -o x none.zst
fails 1 "and a loss that explodes" "not a number" ranks 2 $gpt --iters 50 --eval-every 50 --save-every 1000 --warmup 0 --lr 1000 --weight-decay 1000 --clip 0 -o x train.zst
ok "no debris" eval '! ls | grep -E "\.(part|state)|^x"'
done_testing
