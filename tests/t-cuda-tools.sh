# The mill on the emulated device, from tokens to pages: near the processor's numbers, the same bytes twice, and steps
# that neither wait for the device nor allocate.
. "$(dirname "$0")/cuda/needs.sh"
. "$(dirname "$0")/lib.sh"
cd "$TMP" || exit 1
export ASAN_OPTIONS=detect_leaks=0
suffix=${BIN##*/bin}
ok "the emulated device is built" build -j2 "out/lib$suffix/cudasim.so"
"$BIN/tokenize" -q --val 0.1 --val-out val.zst -o train.zst "$TOP/tests/fixtures/tiny.jsonl" || exit 1
echo "The mill grinds text." >texts
gptrain="$BIN/gptrain -q -j2 --n-layer 2 --bias --n-head 2 --n-embd 16 --block 32 --batch 2 --accum 2 --leaves 2
	--warmup 2 --lr 1e-2 --min-lr 1e-3 --eval-contexts 2 --save-every 1000 --val val.zst"
saetrain="$BIN/saetrain -q -j2 --val val.zst --features 96 --batch 32 --leaves 2 --lr 1e-2 --l1-mean 0.001953125
	--normalise-every 10 --eval-contexts 2 --resample-events 1 --save-every 1000"

# Every stage in its folder: trained step by step, with states and a resampling.
mill() { # folder device words…
	local d=$1
	shift
	mkdir "$d" && $gptrain "$@" --iters 6 --eval-every 1 -o $d/gpt.safetensors train.zst &&
	"$BIN/mlpdump" -q -j2 "$@" --gpt $d/gpt.safetensors --contexts 64 --samples 10 --dtype f32 -o $d/acts.zst train.zst &&
	"$BIN/shuffle" -q -o $d/mix.zst $d/acts.zst &&
	"$BIN/resample-pick" -q -n 100 --events 1 -o $d/pick.zst $d/mix.zst &&
	$saetrain "$@" --gpt $d/gpt.safetensors --pick $d/pick.zst --resample-every 8 --eval-every 4 --log-every 1 \
		-o $d/sae.safetensors $d/mix.zst &&
	"$BIN/topk" -q -j2 "$@" --gpt $d/gpt.safetensors --sae $d/sae.safetensors --contexts 16 --radius 4 --top-radius 6 \
		--k 3 --samples 2 -o $d/top train.zst &&
	"$BIN/features" -q -j2 "$@" --gpt $d/gpt.safetensors --sae $d/sae.safetensors --json --texts texts -o $d/texts.json &&
	"$BIN/htmlgen" -q --metrics $d/sae.jsonl --gpt-metrics $d/gpt.jsonl --texts $d/texts.json -o $d/html $d/top
}
ok "the mill on the processor" mill cpu --device cpu --precision f32
ok "the mill on the device" mill sim --device cudasim --precision f32
near() { python3 "$TOP/tests/cuda/near.py" "$@"; } # two folders, tolerance, share that may differ by more, files
ok "training: every step's losses, norm and figures" near cpu sim 1e-4 0 gpt.jsonl sae.jsonl
ok "... of which one resampled neurons" grep -q '"resampled": [1-9]' sim/sae.jsonl
ok "a text's losses and features" near cpu sim 1e-4 0 texts.json
ok "rows, shuffled and picked" near cpu sim 1e-4 0 acts.zst mix.zst pick.zst
ok "topk: how often features are active, how strongly, what they do" near cpu sim 1e-3 0.01 \
	top/{active.u32,max.f32,mean.f32,logits.f32,logit_effect.f32,near_cos.f32}.zst
ok "... and on which tokens" near cpu sim 0 0.05 top/{tokens.u16,on.u16,logit_ids.u16}.zst
judged() { # folder device
	"$BIN/gptrain" -q --device $2 --precision f32 --eval cpu/gpt.safetensors --batch 2 --eval-contexts 5 --val val.zst >$1/gpt-eval.json &&
		"$BIN/saetrain" -q --device $2 --precision f32 --eval cpu/sae.safetensors --gpt cpu/gpt.safetensors --eval-contexts 5 \
			--val val.zst >$1/sae-eval.json
}
ok "the same checkpoints, judged by both" eval 'judged cpu cpu && judged sim cudasim'
ok "... alike" near cpu sim 1e-5 0 gpt-eval.json sae-eval.json
rm sim/*-eval.json
ok "the pages have the same files" diff <(cd cpu/html && find . | sort) <(cd sim/html && find . | sort)

export CUSIM_SEED=3 CUSIM_LAZY=1
ok "again, with threads, blocks and streams in another order" mill again --device cudasim --precision f32
ok "... the same bytes" diff -r sim again
unset CUSIM_SEED CUSIM_LAZY

# Killed when there is a state, then run to its end.
goes_on() { # OUT command…
	local out=$1 pid
	shift
	"$@" -q --save-every 0 -o "k-$out" & pid=$!
	for _ in $(seq 2000); do [ -e "k-$out.state" ] && break; sleep 0.01; done
	kill -KILL $pid 2>/dev/null
	wait $pid 2>/dev/null
	[ -e "k-$out.state" ] && "$@" --save-every 1000 -o "k-$out" 2>err && grep "going on" err
}
device="--device cudasim --precision f32"
ok "gptrain goes on after a kill" goes_on gpt.safetensors ${gptrain/-q/} $device --iters 6 --eval-every 1 train.zst
same "... the same checkpoint" sim/gpt.safetensors k-gpt.safetensors
same "... the same metrics" sim/gpt.jsonl k-gpt.jsonl
ok "saetrain goes on after a kill" goes_on sae.safetensors ${saetrain/-q/} $device --gpt sim/gpt.safetensors --pick sim/pick.zst \
	--resample-every 8 --eval-every 4 --log-every 1 sim/mix.zst
same "... the same checkpoint" sim/sae.safetensors k-sae.safetensors
same "... the same metrics" sim/sae.jsonl k-sae.jsonl

# The other precisions, and a card so small that the head takes half of a batch's rows at a time.
narrower() { # precision tolerance
	mkdir $1 && $gptrain --device cudasim --precision $1 --iters 6 --eval-every 1 -o $1/gpt.safetensors train.zst &&
		near sim $1 $2 0 gpt.jsonl
}
ok "in tf32 the same losses, nearly" narrower tf32 1e-3
ok "in bf16 the same losses, roughly" narrower bf16 1e-2
launches() { awk -F'\t' -v k="$1" '$1 == "kernel" && index($2, k) { n += $3 } END { print n + 0 }' $2; } # in a tally
small_card() { # kernel metrics command… -- launched more often on a small card, for the same figures
	local mb kernel=$1 metrics=$2
	shift 2
	for mb in 512 96; do
		mkdir -p m$mb && CUSIM_COUNT=m$mb/tally CUSIM_MEM_MB=$mb "$@" -o m$mb/${metrics%.jsonl}.safetensors || return 1
	done
	[ "$(launches $kernel m96/tally)" -gt "$(launches $kernel m512/tally)" ] && near m512 m96 1e-6 0 $metrics
}
gpt_small() { $gptrain $device --batch 4 --accum 1 --leaves 1 --iters 3 --eval-every 3 "$@" train.zst; }
ok "on a small card, the same but for rounding" small_card cross_entropy gpt.jsonl gpt_small
sae_small() { "$BIN/saetrain" -q $device --features 8192 --batch 512 --steps 2 --resample-every 0 --log-every 1 --save-every 1000 \
	"$@" sim/mix.zst; }
ok "... so is an autoencoder of 8192 features" small_card sae_latents sae.jsonl sae_small
fails 1 "on one that is too small, a line" "out of memory" env CUSIM_MEM_MB=20 $gptrain $device -o x.safetensors train.zst

# What a training asks of the device beside launches and products, by a dry run of 4 and of 20 steps.
tally() { # name command…
	local name=$1
	shift
	CUSIM_DRY=1 CUSIM_COUNT=$name "$@" && awk -F'\t' '$1 == "call" || $1 == "copy" { print $1, $2, $3 }' $name | sort >$name.calls
}
more() { # what -- how many more of it in 20 steps than in 4
	join -t: -a1 <(sed 's/ \([0-9]*\)$/:\1/' long.calls) <(sed 's/ \([0-9]*\)$/:\1/' short.calls) | awk -F: -v w="$1" \
		'$1 == w { n = $2 - $3 } END { print n + 0 }'
}
steps_do() { # steps neither allocate nor wait for what is queued; a copy of many steps ago may have to be over
	local what n
	for what in cudaMalloc cudaFree cudaHostAlloc cudaFreeHost cudaStreamSynchronize cudaDeviceSynchronize; do
		n=$(more "call $what")
		[ "$n" = 0 ] || { echo "$what: $n more in 16 steps"; return 1; }
	done
	n=$(more "copy device to host")
	[ "$n" -le 3 ] || { echo "$n more copies to the host"; return 1; } # a look now and then, by the clock
	[ "$(more "call launch")" -ge 160 ] || { echo "no launches?"; return 1; }
}
gpt_steps() { tally $1 $gptrain $device --accum 1 --leaves 1 --iters $2 --eval-every 100 -o d.safetensors train.zst; }
ok "gptrain, 4 steps and 20" eval 'gpt_steps short 4 && gpt_steps long 20'
ok "... a step neither waits nor allocates" steps_do
sae_steps() { tally $1 $saetrain $device --gpt sim/gpt.safetensors --pick sim/pick.zst --steps $2 --eval-every 100 \
	--resample-every 0 --log-every $3 -o d.safetensors sim/mix.zst; }
ok "saetrain, 4 steps and 20" eval 'sae_steps short 4 100 && sae_steps long 20 100'
ok "... a step neither waits nor allocates" steps_do
ok "saetrain, a line of metrics and 20" eval 'sae_steps short 20 100 && sae_steps long 20 1'
lines_do() { local n; n=$(more "copy device to host"); [ "$n" -ge 19 ] && [ "$n" -le 22 ] || { echo "$n copies for 19 lines"; return 1; }; }
ok "... a line waits once" lines_do
done_testing
