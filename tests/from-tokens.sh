# from-tokens.sh -- for tests of saetrain --from-tokens: tokens, a GPT, and both ways to an autoencoder; source it in TMP.
#   piped OUT ROWS TRAINING         by mlpdump | shuffle | saetrain; mlpdump's options, saetrain's
#   made OUT ROWS TRAINING          the same by saetrain alone
#   equal "name" ROWS TRAINING [ALONE]      both, the second with options of its own: the same tensors and metrics
# DEVICE: of all of it
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
making() { exec "$BIN/saetrain" -q $own ${2/--batch/--gpt-batch} $3 -o $1 --from-tokens train.zst; } # in a process of its own
made() { (making "$@"); }
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
rows_of() { zstd -qdc "$1"; }
