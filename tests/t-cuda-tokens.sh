# saetrain --from-tokens on the emulated card: the pipe's tensors, to the bit, and steps that take nothing from the host.
. "$(dirname "$0")/cuda/needs.sh"
. "$(dirname "$0")/lib.sh"
cd "$TMP" || exit 1
export ASAN_OPTIONS=detect_leaks=0
ok "the emulated device is built" build -j2 "out/lib${BIN##*/bin}/cudasim.so"
DEVICE=cudasim
. "$TOP/tests/from-tokens.sh"

few="--contexts 41 --samples 12"
"$BIN/mlpdump" -q --gpt gpt.safetensors $device $few --window 15 -o - train.zst | "$BIN/shuffle" -q |
	"$BIN/resample-pick" -q -n 60 --events 1 -o want.zst
ok "a pick of tokens" "$BIN/resample-pick" -q -n 60 --events 1 $device --gpt gpt.safetensors $few --window 15 -o got.zst --from-tokens train.zst
same "... the same rows" <(rows_of want.zst) <(rows_of got.zst)
equal "window 15" "$few --window 15" "--pick got.zst --resample-events 1"
equal "window 16, f16, rows of the input" "$few --window 16 --dtype f16 --batch 5" "--pick-rows 100 --resample-events 1"
for n in 4 9; do
	CUSIM_COUNT=count$n "$BIN/saetrain" -q $device --gpt gpt.safetensors --features 96 --batch 48 --resample-every 0 $few \
		--steps $n -o s.safetensors --from-tokens train.zst
	grep -E 'host to device|cudaMalloc|cudaHostAlloc' count$n >taken$n
done
same "five steps more copy nothing to the card and allocate nothing" taken4 taken9
ok "... something was, before" test "$(wc -l <taken4)" = 3
ok "... they were five steps" awk '$1 == "kernel" && /adam/ { n[FILENAME] += $3 } END { exit n["count9"] - n["count4"] != 5 }' count4 count9
export CUSIM_SEED=3 CUSIM_LAZY=1
ok "threads, blocks and streams in another order" made again.safetensors "$few --window 16 --dtype f16 --batch 5" "--pick-rows 100 --resample-events 1"
same "... the same checkpoint" made.safetensors again.safetensors
done_testing
