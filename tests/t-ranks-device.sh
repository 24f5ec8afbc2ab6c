# Training shared by processes with a device each: DEVICE, else the emulated one with its stand-in for NCCL.
. "$(dirname "$0")/lib.sh"
cd "$TMP" || exit 1
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

DEVICE=${DEVICE:-cudasim}
LIB=$(dirname "$BIN")/lib$(basename "$BIN" | sed 's/^bin//')
[ $DEVICE = cuda ] || [ -e "$LIB/libnccl-cudasim.so" ] || { skip "processes with a device each" "no $LIB/libnccl-cudasim.so"; done_testing; }
. "$TOP/tests/ranks.sh"
export CUSIM_DEVICES=4 CUSIM_GUARD=0 CUSIM_LAZY=1
"$BIN/tokenize" -q --val 0.1 --val-out val.zst -o train.zst "$TOP/tests/fixtures/tiny.jsonl" || exit 1
net="--n-head 2 --n-embd 16 --block 8 --batch 4 --accum 1 --warmup 2 --lr 1e-2 --min-lr 1e-3 --eval-contexts 2 --eval-every 4
	--iters 8 --val val.zst"
"$BIN/gptrain" -q --device cpu $net -o gpt.safetensors train.zst || exit 1
"$BIN/mlpdump" -q --device cpu --gpt gpt.safetensors --contexts 400 --samples 4 --bins 2 -o acts train.zst || exit 1
mkdir mix
for i in 000 001; do "$BIN/shuffle" -q -o mix/$i.zst acts/$i.zst || exit 1; done
"$BIN/resample-pick" -q -n 100 --events 1 -o pick.zst mix/*.zst || exit 1

there="-q -j1 --device $DEVICE --precision f32 --leaves 4 --save-every 0"
gpt="$BIN/gptrain $there $net"
sae="$BIN/saetrain $there --features 96 --batch 32 --steps 60 --lr 1e-2 --l1-mean 0.001953125 --normalise-every 5
	--resample-every 20 --resample-events 1 --pick pick.zst"
shared gpt $gpt train.zst
shared sae $sae mix/*.zst
taken_over gpt 1 2 4 $gpt train.zst
taken_over sae 2 4 2 $sae mix/*.zst

cards=$([ $DEVICE = cuda ] && ls /dev/nvidia[0-9]* 2>/dev/null | wc -l || echo 4)
if [ "$cards" -ge 2 ]; then
	ok "two processes on two cards" ranks 2 ${sae/-q/} -o two-cards.safetensors mix/*.zst
	cp .err log
	ok "... need no host" eval '! grep "through host memory" log'
fi
export CUSIM_DEVICES=1 CUDA_VISIBLE_DEVICES=0
ok "two processes on one card" ranks 2 ${sae/-q/} -o one-card.safetensors mix/*.zst
cp .err log
ok "... send through the host, and say so" grep -q "through host memory: ncclCommInitRank: invalid usage" log
same "... the same bytes" sae-1.safetensors one-card.safetensors
ok "no debris" eval '! ls | grep -E "\.(part|state)"'
done_testing
