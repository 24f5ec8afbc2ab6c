# topk: recomputed in double precision; same bytes however it is run; resumed after kills.
. "$(dirname "$0")/lib.sh"
cd "$TMP" || exit 1
"$BIN/tokenize" -q --val 0.5 --val-out val.zst -o train.zst "$TOP/tests/fixtures/tiny.jsonl" || exit 1
model() { python3 "$TOP/tests/make-model.py" "$@"; }
model gpt.safetensors sae.safetensors || exit 1
zstd -qdc train.zst >train.raw
windows=$((($(wc -c <train.raw) / 2 - 1) / 32))
top="$BIN/topk --gpt gpt.safetensors --sae sae.safetensors"
field() { zstd -qdc "$1" | od -An -v -w4 -tu4; } # u32, one a line

differing() { # two directories: the fields in which they differ
	local f
	for f in "$1"/*.zst; do
		cmp -s <(zstd -qdc "$f") <(zstd -qdc "$2/${f##*/}") || basename "${f%.*.zst}"
	done | paste -sd' '
}

recomputed() { # name, options of topk…: of all tokens, whole contexts shown
	local name=$1
	shift
	ok "$name" "$BIN/topk" -q --precision f32 --contexts "$windows" --radius 31 --top-radius 40 "$@" -o all train.zst
	ok "... recomputed in double precision" python3 "$TOP/tests/check-top.py" "$2" "$4" train.raw all
}
recomputed "every window" --gpt gpt.safetensors --sae sae.safetensors -j2 --k 5 --sampled 65536
ok "index and a shard a field" test "$(ls all | tr '\n' ' ')" = "active.u32.zst acts.f32.zst after.u16.zst after_count.u32.zst align.u32.zst \
align_l1.f32.zst align_value.f32.zst before.u16.zst before_count.u32.zst centre.u32.zst effects.f32.zst hist.u32.zst index.json interval.u32.zst \
logit_effect.f32.zst logit_effects.f32.zst logit_hist.u32.zst logit_ids.u16.zst logit_range.f32.zst logits.f32.zst max.f32.zst mean.f32.zst \
near.u32.zst near_cos.f32.zst on.u16.zst on_count.u32.zst sampled.u32.zst together.u32.zst together_share.f32.zst tokens.u16.zst "
model gpt2.safetensors sae2.safetensors layers=2 bias=0 width=12 heads=3 features=37 shift=2.0 seed=2
recomputed "two layers without biases" --gpt gpt2.safetensors --sae sae2.safetensors -j2 -k 3 --intervals 7 --samples 2 \
	--bins 11 --logits 4 --batch 5 --near 40 --align 60 --neighbours 300 --sampled 65536
recomputed "no samples, one of everything" --gpt gpt2.safetensors --sae sae2.safetensors -k 1 --intervals 1 --samples 0 --bins 1 --logits 1

small="$top --contexts 50 --radius 4"
ok "fifty contexts" $small -q -j2 -o top train.zst
ok "-j 1" $small -q -j1 -o j1 train.zst
ok "... and -j 2: the same bytes" diff -r top j1
ok "-j 3" $small -q -j3 -o j3 train.zst
ok "... the same bytes" diff -r top j3
ok "-m 0" $small -q -j2 -m 0 -o m0 train.zst
ok "... nothing is kept between passes: the same bytes" diff -r top m0
ok "-m 20K" $small -q -j2 -m 20K -o m20 train.zst
ok "... some of it: the same bytes" diff -r top m20
ok "a smaller sample" $small -q -j2 --sampled 3 -o few train.zst
ok "... changes what is counted on it, and nothing else" test "$(differing top few)" = \
	"after after_count before before_count on on_count sampled together together_share"
ok "wider windows of the strongest" $small -q -j2 --top-radius 40 -o wide train.zst
ok "... change the windows, and nothing else" test "$(differing top wide)" = "acts effects logit_effects tokens"
ok "another seed" $small -q -s 8 -o other train.zst
ok "... reads other contexts" eval '! cmp -s top/max.f32.zst other/max.f32.zst'
ok "thirty contexts" $top -q --contexts 30 --radius 4 -o a train.zst
ok "twenty behind them" $top -q --contexts 20 --skip 30 --radius 4 -o b train.zst
paste <(field a/active.u32.zst) <(field b/active.u32.zst) | awk '{ print $1 + $2 }' >sum
field top/active.u32.zst | awk '{ print $1 + 0 }' >whole
same "... together are the fifty" sum whole
ok "on ref" $top -q -j2 --device ref --contexts 3 --radius 2 --samples 1 -k 2 -o ref train.zst
ok "on cpu" $top -q -j2 --device cpu --precision f32 --contexts 3 --radius 2 --samples 1 -k 2 -o cpu train.zst
same "... the same tokens" ref/tokens.u16.zst cpu/tokens.u16.zst
ok "in bf16" $top -q -j2 --precision bf16 --contexts 5 --radius 2 --samples 1 -o half train.zst
ok "... and -j1" $top -q -j1 --precision bf16 --contexts 5 --radius 2 --samples 1 -o half1 train.zst
ok "... the same bytes" diff -r half half1

inode=$(stat -c %i top/max.f32.zst)
touch -d '2001-01-01' top/index.json
ok "the same command again" $small -q -j1 -o top/ train.zst
ok "... computes nothing" test "$(stat -c %i top/max.f32.zst)" = "$inode"
ok "... touches the index" test -n "$(find top/index.json -newermt '2002-01-01')"
rm top/hist.u32.zst
ok "a shard is missing" $small -q -o top train.zst
ok "... computed again" diff -r top j1
ok "another radius" $top -q --contexts 50 --radius 3 -o top train.zst
ok "... is another result" eval '! cmp -s top/acts.f32.zst j1/acts.f32.zst'
ok "no debris" test -z "$(find . -name '*.part' -o -name '*.state*')"

# Killed as soon as there is a state, then at any time.
big="$BIN/topk --gpt gpt.safetensors --sae sae.safetensors --contexts 60 --radius 4 --batch 1 --save-every 0"
ok "an uninterrupted run" $big -q -o whole.d train.zst
ok "states at other times" "$BIN/topk" -q --gpt gpt.safetensors --sae sae.safetensors --contexts 60 --radius 4 --batch 1 -o never train.zst
ok "... change nothing" diff -r whole.d never
$big -q -o k train.zst &
pid=$!
for _ in $(seq 500); do [ -e k.state ] && break; sleep 0.01; done
kill -KILL $pid 2>/dev/null
wait $pid 2>/dev/null
interrupted=$([ -e k.state ] && echo yes)
ok "nothing under the name of a killed run" test ! -e k
ok "goes on after a kill" $big -o k train.zst
cp .err log
if [ "$interrupted" ]; then ok "... where it was" grep -q "going on at context" log; else skip "... where it was" "the run was over too soon"; fi
ok "... with the same bytes" diff -r whole.d k
rm -rf k k.*
passes=
for i in 1 2 3 4 5 6 7 8; do
	$big -o k train.zst 2>>kills &
	pid=$!
	sleep "0.$((i * 3 % 10))$i"
	kill -KILL $pid 2>/dev/null
	wait $pid 2>/dev/null
done
ok "eight kills" $big -q -o k train.zst
ok "... the same bytes" diff -r whole.d k
ok "no debris after kills" test -z "$(find . -name '*.part' -o -name '*.state*')"

fails 2 "--gpt is needed" "--gpt" "$BIN/topk" --sae sae.safetensors --contexts 5 -o x train.zst
fails 2 "--sae is needed" "--sae" "$BIN/topk" --gpt gpt.safetensors --contexts 5 -o x train.zst
fails 2 "--contexts is needed" "--contexts" $top -o x train.zst
fails 2 "-o is needed" "-o DIR" $top --contexts 5 train.zst
fails 2 "not to stdout" "-o DIR" $top --contexts 5 -o - train.zst
fails 2 "tokens are needed" "tokens" $top --contexts 5 -o x
fails 2 "-k 0" "-k" $top --contexts 5 -k 0 -o x train.zst
fails 1 "more contexts than windows" "has $windows windows of 32 tokens behind the 0 skipped; --contexts asks for $((windows + 1))" \
	$top --contexts $((windows + 1)) -o x train.zst
fails 1 "skipped too many" "has 0 windows" $top --contexts 1 --skip $windows -o x train.zst
ok "the last one" $top -q --contexts 1 --skip $((windows - 1)) -o last train.zst
fails 1 "an autoencoder of another width" "reads 48 activations; 'gpt.safetensors' has 64" \
	"$BIN/topk" --gpt gpt.safetensors --sae sae2.safetensors --contexts 5 -o x train.zst
fails 1 "a GPT as autoencoder" "no autoencoder" "$BIN/topk" --gpt gpt.safetensors --sae gpt.safetensors --contexts 5 -o x train.zst
fails 1 "a file under the name" "is there" $top --contexts 5 -o train.raw train.zst
fails 1 "activations as tokens" "no tokens" $top --contexts 5 -o x all/acts.f32.zst
head -c 1000 train.zst >cut.zst
fails 1 "cut tokens" "cut.zst" $top --contexts 5 -o x cut.zst
for shift in nan -inf; do
	model any.safetensors bad.safetensors shift=$shift seed=3
	fails 1 "weights of $shift" "tensor 'encoder.bias' is not finite" \
		"$BIN/topk" -q --gpt gpt.safetensors --sae bad.safetensors --contexts 5 -o x train.zst
done
model few.safetensors few-sae.safetensors vocab=300
fails 1 "tokens beyond the vocabulary" "the vocabulary ends at 299" \
	"$BIN/topk" -q --gpt few.safetensors --sae few-sae.safetensors --contexts 5 -o x train.zst
ok "nothing is left of failures" test -z "$(ls -d x* 2>/dev/null)"
done_testing
