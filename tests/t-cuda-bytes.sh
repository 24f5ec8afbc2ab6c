# What full-size training steps move on a card, added up from what launches announce and products' shapes say, against
# the floors; and nvcc's own code, interpreted, touches what is announced.
. "$(dirname "$0")/cuda/needs.sh"
. "$(dirname "$0")/lib.sh"
export BIN ASAN_OPTIONS=detect_leaks=0
suffix=${BIN##*/bin}
ok "the emulated device and nvcc's PTX are built" build -j2 "out/lib$suffix/cudasim.so" kernel-ptx

moves() { # net precision most -- a table, and the sum within `most` of the floor
	python3 "$TOP/tests/cuda/step-bytes" $1 $2 >"$TMP/$1-$2" || return 1
	awk -F'\t' -v most=$3 '$1 == "all" { ratio = $3 } END { exit !(ratio > 0.9 && ratio <= most) }' "$TMP/$1-$2" ||
		{ cat "$TMP/$1-$2"; return 1; }
}
ratio() { awk '$1 == "all" { print $NF }' "$TMP/$1"; }
ok "a step of the autoencoder in TF32: at most 1.3 of 1.30 GB" moves sae tf32 1.3
ok "... in bf16: at most 1.3 of 0.71 GB" moves sae bf16 1.3
ok "a step of the GPT in bf16: at most 1.15 of 533 KB a token" moves gpt bf16 1.15
echo "# of the floors: $(ratio sae-tf32), $(ratio sae-bf16), $(ratio gpt-bf16)"
ok "the autoencoder's products are 172 GFLOP" grep -q "171\.8 GFLOP" "$TMP/sae-tf32"
launches() { awk -F'\t' -v k="$1" 'index($2, k) { n += $3 } END { print n + 0 }' "$TMP/$2"; }
ok "one pass over latents, one over what is wrong" eval '[ "$(launches latents sae-tf32) $(launches errors sae-tf32)" = "1 1" ]'
ok "nothing is narrowed in TF32" eval '[ "$(launches narrow sae-tf32)" = 0 ]'

# Small steps from PTX: of each kernel as much is touched as announced, within 2 % and 256 bytes a launch.  (Of the
# GPT not less than announced: tokens that repeat are announced each time.)
PTX=$(ls "$TOP"/out/cuda/cuda_*-80.ptx | paste -sd:)
touched() { # net precision steps exactly
	CUSIM_GUARD=0 CUSIM_PTX=$PTX CUSIM_COUNT=$TMP/tally "$BIN/tests/steps" $1 cudasim $2 $3 >/dev/null || return 1
	awk -F'\t' -v exactly=$4 'function less(a, b) { return b > 1.02 * a + 256 * $3 }
		$1 == "kernel" { n++; if (less($6, $8) || less($7, $9) || (exactly && (less($8, $6) || less($9, $7)))) { print; bad = 1 } }
		END { exit bad || n < 10 }' "$TMP/tally"
}
ok "bytes announced are bytes touched: the autoencoder, f32" touched sae f32 2 1
ok "... bf16" touched sae bf16 2 1
ok "... the GPT, bf16" touched gpt bf16 1 0
done_testing
