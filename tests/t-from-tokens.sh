# saetrain --from-tokens: the tensors of mlpdump | shuffle | saetrain, to the bit, however it is run.
. "$(dirname "$0")/lib.sh"
cd "$TMP" || exit 1
. "$TOP/tests/from-tokens.sh"

killed_at() { # step command…: killed once its state says so many steps (behind 56 bytes of head), if it has not ended by then
	local step=$1 pid
	shift
	"$@" 2>/dev/null & pid=$!
	for _ in $(seq 500); do
		[ "$(od -An -tu8 -j56 -N8 k.safetensors.state 2>&1)" -ge "$step" ] 2>/dev/null && break
		sleep 0.01
	done
	kill -KILL $pid 2>/dev/null
	wait $pid 2>/dev/null
}

rows="--contexts 100 --samples 12"
"$BIN/mlpdump" -q --gpt gpt.safetensors $device $rows --window 30 -o - train.zst | "$BIN/shuffle" -q -o mix.zst || exit 1
"$BIN/resample-pick" -q -n 60 --events 2 -o pick.zst mix.zst || exit 1
pick="--pick pick.zst"
# batches of rows and of contexts that end within windows, and beyond several
equal "window 30" "$rows --window 30" "$pick" -j1
equal "window 1, f16" "$rows --window 1 --dtype f16" "$pick" -j3
equal "window 8: a batch of contexts; f32" "$rows --window 8 --dtype f32" "$pick" -j2
equal "window 33, contexts by 7" "$rows --window 33 --batch 7" "$pick"
equal "one window, all samples" "--contexts 20 --samples 32" "--batch 37 $pick"
equal "a window beyond the contexts" "--contexts 20 --samples 9 --window 1000" "--batch 16 $pick"
equal "rows of the input for resampling" "$rows --window 30" "--pick-rows 150"
equal "fewer steps" "$rows --window 30" "--steps 11 $pick"

ok "two passes and a part" "$BIN/saetrain" -q $own $pick --steps 60 -o files.safetensors mix.zst
ok "... of tokens" made twice.safetensors "$rows --window 30" "$pick --steps 60"
tensors files.safetensors >files.raw
tensors twice.safetensors >twice.raw
same "... the same tensors" files.raw twice.raw

# resample-pick of the same rows
picks() { "$BIN/resample-pick" -q -n 60 --events 2 $device --gpt gpt.safetensors "$@" --from-tokens train.zst; }
shard_id() { "$BIN/shardls" "$1" | grep -oE '[0-9a-f]{32}'; }
for how in "--window 30" "--window 1 --dtype f16 -j1" "--window 33 --batch 7 -j3" "--window 0 -m 2M"; do
	"$BIN/mlpdump" -q --gpt gpt.safetensors $device $rows ${how/-m 2M/} -o - train.zst | "$BIN/shuffle" -q |
		"$BIN/resample-pick" -q -n 60 --events 2 -o want.zst
	ok "a pick of tokens, $how" picks $rows ${how/--batch/--gpt-batch} -o got.zst
	same "... the rows of the pipe's" <(rows_of want.zst) <(rows_of got.zst)
done
"$BIN/mlpdump" -q --gpt gpt.safetensors $device $rows -o - train.zst | "$BIN/shuffle" -q | "$BIN/resample-pick" -q -n 3 --events 1 -o want.zst
ok "few rows, of few batches" "$BIN/resample-pick" -q -n 3 --events 1 $device --gpt gpt.safetensors $rows -o got.zst --from-tokens train.zst
same "... the pipe's" <(rows_of want.zst) <(rows_of got.zst)
ok "the pick of window 30" picks $rows --window 30 -o made.zst
ok "... to the same id" test "$(shard_id pick.zst)" = "$(shard_id made.zst)"
inode=$(stat -c %i made.zst)
ok "... again" picks $rows --window 30 -o made.zst
ok "... makes nothing" test "$(stat -c %i made.zst)" = "$inode"
ok "a run with it" made b.safetensors "$rows --window 30" "--pick made.zst --steps 60"
same "... the same checkpoint" twice.safetensors b.safetensors
big="--contexts 500 --samples 32 -n 4000 --events 2 -m 1M --save-every 0.02 -q --gpt gpt.safetensors $device"
ok "a pick set aside" "$BIN/resample-pick" ${big/-m 1M/} -o whole.zst --from-tokens train.zst
for i in 1 3 5 7 9; do killed "0.0$i" "$BIN/resample-pick" ${big/-m 1M/-m 2M} -o k.zst --from-tokens train.zst; done
ok "... killed and resumed" "$BIN/resample-pick" ${big/-m 1M/-m 2M} -o k.zst --from-tokens train.zst
same "... the same file" whole.zst k.zst

# Rows kept of a run that has passed its first rows, and none
full="--contexts 100 --samples 12 --window 30"
"$BIN/gptrain" -q -j2 --n-head 2 --n-embd 16 --block 32 --batch 2 --accum 1 --iters 2 --eval-every 2 --eval-contexts 2 \
	-s 7 --val val.zst -o other.safetensors train.zst || exit 1
resumed=0
for how in "$pick" "--pick-rows 150"; do
	ok "a run with $how" made a.safetensors "$full" "$how --steps 60"
	rm -f k.*
	killed_at 1 making k.safetensors "$full" "$how --steps 60 --save-every 0"
	killed_at 30 making k.safetensors "$full" "$how --steps 60 --save-every 0"
	[ -e k.safetensors.state ] && resumed=$((resumed + 1))
	ok "... killed twice, goes on" eval 'made k.safetensors "$full" "$how --steps 60 --save-every 0" 2>log'
	same "... the same checkpoint" a.safetensors k.safetensors
	same "... the same metrics" a.jsonl k.jsonl
	rm -f k.*
	for i in 1 2 3 4 5 6; do killed "0.0$i" making k.safetensors "$full" "$how --steps 60 --save-every 0"; done
	ok "... killed anywhere" made k.safetensors "$full" "$how --steps 60 --save-every 0"
	same "... the same checkpoint" a.safetensors k.safetensors
done
ok "went on from $resumed states" test $resumed -gt 0
ok "no debris" test -z "$(ls | grep -E '\.(part|state)')"
inode=$(stat -c %i a.safetensors)
ok "the same command again" made a.safetensors "$full" "--pick-rows 150 --steps 60"
ok "... trains nothing" test "$(stat -c %i a.safetensors)" = "$inode"
ok "another window" made w.safetensors "--contexts 100 --samples 12 --window 31" "--pick-rows 150 --steps 60"
ok "... other weights" eval '! cmp -s a.safetensors w.safetensors'
ok "no figures without --val" "$BIN/saetrain" -q --gpt gpt.safetensors --features 96 --batch 48 --resample-every 0 $device \
	--contexts 100 --samples 12 --window 30 -o n.safetensors --from-tokens train.zst
ok "... lines without them" eval 'grep -q step n.jsonl && ! grep -q eval n.jsonl'

refused() { # text, options…
	local text=$1
	shift
	fails 2 "refused: $*" "$text" "$BIN/saetrain" "$@" -o x
}
refused "--from-tokens needs --gpt" --from-tokens train.zst
refused "--from-tokens needs files of tokens" --gpt gpt.safetensors --from-tokens
refused "--from-tokens needs files of tokens" --gpt gpt.safetensors --from-tokens -
refused "and no tokens" $own --eval made.safetensors --from-tokens train.zst
refused "--window goes with --from-tokens" $own --window 5 mix.zst
refused "--dtype goes with --from-tokens" $own --dtype f32 mix.zst
refused "--gpt-batch goes with --from-tokens" $own --gpt-batch 3 mix.zst
refused "--dtype is f16, bf16 or f32, not 'u16'" $own --dtype u16 --from-tokens train.zst
dies() { # text, options…
	local text=$1
	shift
	fails 1 "refused: $*" "$text" "$BIN/saetrain" $own "$@" -o x
}
dies "holds no tokens" $full --from-tokens mix.zst
dies "--contexts asks for 100000" --contexts 100000 --from-tokens train.zst
dies "--samples asks for 33" --contexts 10 --samples 33 --from-tokens train.zst
dies "10 contexts of 2 samples are 20 rows; a batch takes 48" --contexts 10 --samples 2 --from-tokens train.zst
dies "or --window " -m 1M --contexts 500 --samples 32 $pick --from-tokens train.zst
fits=$(sed -n 's/.*or --window //p' .err)
ok "the window named fits" "$BIN/saetrain" -q $own -m 1M --contexts 500 --samples 32 --window "$fits" $pick --steps 2 -o fits.safetensors --from-tokens train.zst
fails 1 "... and is the largest" "--window $fits" "$BIN/saetrain" $own -m 1M --contexts 500 --samples 32 --window $((fits + 1)) \
	$pick --steps 2 -o y.safetensors --from-tokens train.zst
dies "rows kept and a window of one context" -m 1M $full --pick-rows 10000 --from-tokens train.zst
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
	huge="--gpt big.safetensors $full --dtype f16 -o x"
	fails 1 "values beyond f16" "of contexts 0 to 31 do not fit f16; use --dtype bf16" "$BIN/saetrain" --batch 48 --resample-every 0 -q $huge --from-tokens train.zst
	fails 1 "pick: values beyond f16" "do not fit f16; use --dtype bf16" "$BIN/resample-pick" -q -n 10 --events 1 $huge --from-tokens train.zst
else
	skip "values beyond f16" "no python3"
fi
fails 2 "pick: --window" "goes with --from-tokens" "$BIN/resample-pick" -n 6 --window 5 -o x mix.zst
fails 2 "pick: --gpt" "goes with --from-tokens" "$BIN/resample-pick" -n 6 --gpt gpt.safetensors -o x mix.zst
fails 2 "pick: no --gpt" "--from-tokens needs --gpt" "$BIN/resample-pick" -n 6 -o x --from-tokens train.zst
fails 1 "pick: too many rows" "has 1200 rows" "$BIN/resample-pick" -q -n 601 --events 2 --gpt gpt.safetensors $full -o x --from-tokens train.zst
fails 1 "pick: too little memory" "-m 1M is too small" "$BIN/resample-pick" $big -o x --from-tokens train.zst
fails 1 "a pick of another GPT" "another GPT" "$BIN/saetrain" ${own/gpt.safe/other.safe} $full $pick -o x --from-tokens train.zst
ok "nothing is left of failures" test -z "$(ls | grep -E '^x(\.jsonl|\.safetensors)?(\.part)?$')"
done_testing
