# Training shared by processes over MPI: any number of them writes the same bytes, takes over from any other, and ends as one.
. "$(dirname "$0")/lib.sh"
cd "$TMP" || exit 1
for t in gptrain saetrain tokenize; do
	ok "$t links no MPI" eval '! ldd "$BIN/$t" | grep -i mpi'
done
fails 1 "one of many, without a plugin: a line" "no way to talk to the others" \
	env OMPI_COMM_WORLD_SIZE=2 bash -c 'mkdir -p alone/bin && cp "$0/gptrain" alone/bin && alone/bin/gptrain --help' "$BIN"
. "$TOP/tests/ranks.sh"

"$BIN/tokenize" -q --val 0.1 --val-out val.zst -o train.zst "$TOP/tests/fixtures/tiny.jsonl" || exit 1
gpt="$BIN/gptrain -q -j1 --device cpu --n-head 2 --n-embd 16 --block 32 --batch 4 --accum 2 --leaves 4 --warmup 2 --lr 1e-2
	--min-lr 1e-3 --eval-contexts 5 --eval-every 4 --iters 12 --save-every 0 --val val.zst"

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
