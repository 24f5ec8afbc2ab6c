# saetrain --from-tokens: the tensors of mlpdump | shuffle | saetrain, to the bit, however it is run.
. "$(dirname "$0")/lib.sh"
cd "$TMP" || exit 1
"$BIN/tokenize" -q --val 0.1 --val-out val.zst -o train.zst "$TOP/tests/fixtures/tiny.jsonl" || exit 1
"$BIN/gptrain" -q -j2 --n-head 2 --n-embd 16 --block 32 --batch 2 --accum 1 --iters 2 --eval-every 2 --eval-contexts 2 \
	--val val.zst -o gpt.safetensors train.zst || exit 1
device=${DEVICE:+--device $DEVICE}

own="--gpt gpt.safetensors --val val.zst --l1-mean 0.001953125 --lr 1e-2 --features 96 --batch 48 --eval-every 10 --eval-contexts 4
	--normalise-every 10 --resample-every 8 --resample-events 2 $device"
tensors() { tail -c +$(($(od -An -tu8 -N8 "$1") + 9)) "$1"; } # without the header
piped() { # output, rows' options, saetrain's options
	"$BIN/mlpdump" -q --gpt gpt.safetensors $device $2 -o - train.zst | "$BIN/shuffle" -q | "$BIN/saetrain" -q $own $3 -o $1
}
made() { "$BIN/saetrain" -q $own ${2/--batch/--gpt-batch} $3 -o $1 --from-tokens train.zst; }
both() { piped pipe.safetensors "$1" "$2" && made made.safetensors "$1" "$2 $3"; }
equal() { # name, rows' options, saetrain's options, of the one that makes its rows alone
	rm -f pipe.* made.*
	ok "$1" both "$2" "$3" "${4:-}"
	tensors pipe.safetensors >pipe.raw
	tensors made.safetensors >made.raw
	ok "... tensors of some size" test "$(stat -c %s made.raw)" -gt 49000
	same "... the same tensors" pipe.raw made.raw
	same "... the same metrics" pipe.jsonl made.jsonl
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
done_testing
