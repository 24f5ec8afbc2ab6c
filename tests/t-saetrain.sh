# saetrain: same bytes however it is run and fed, resumed after kills, refuses what is wrong.
. "$(dirname "$0")/lib.sh"
cd "$TMP" || exit 1
"$BIN/tokenize" -q --val 0.1 --val-out val.zst -o train.zst "$TOP/tests/fixtures/tiny.jsonl" || exit 1
gptrain="$BIN/gptrain -q --n-head 2 --block 32 --batch 2 --accum 1 --iters 2 --eval-contexts 2 --val val.zst"
$gptrain --n-embd 16 -o gpt.safetensors train.zst || exit 1
$gptrain --n-embd 8 -o other.safetensors train.zst || exit 1
"$BIN/mlpdump" -q --gpt gpt.safetensors --contexts 128 --samples 16 --bins 2 -o acts train.zst || exit 1
mkdir mix
for i in 000 001; do "$BIN/shuffle" -q -o mix/$i.zst acts/$i.zst || exit 1; done
"$BIN/resample-pick" -q -n 100 --events 2 -o pick.zst mix/*.zst || exit 1

# 2048 rows, 64 steps a pass; events after steps 20 and 40
eval="--gpt gpt.safetensors --val val.zst --eval-every 20 --eval-contexts 11"
own="$eval --features 96 --batch 32 --lr 1e-2 --l1-mean 0.001953125 --normalise-every 10 --resample-every 20 --resample-events 2"
base="$BIN/saetrain $own --pick pick.zst"
train="$base --save-every 0"
tensors() { tail -c +$(($(od -An -tu8 -N8 "$1") + 9)) "$1"; } # without the header
state() { # command…: killed as soon as there is k.safetensors.state, and once more later
	"$@" <&0 & pid=$!
	for _ in $(seq 500); do [ -e k.safetensors.state ] && break; sleep 0.01; done
	kill -KILL $pid 2>/dev/null
	wait $pid 2>/dev/null
	[ -e k.safetensors.state ]
}
debris() { find . -name '*.part' -o -name '*.state*'; }

ok "a run" $train -q -j2 -o a.safetensors mix/*.zst
ok "lines of metrics" python3 - <<'EOF'
import json
lines = [json.loads(l) for l in open("a.jsonl")]
assert [l["step"] for l in lines] == [*range(2, 65, 2)]
assert all(l["rows"] == 32 * l["step"] and l["lr"] == 0.01 and l["lambda"] == 0.001953125 for l in lines)
assert [l["step"] for l in lines if "eval" in l] == [20, 40, 60, 64]
assert all(abs(l["train"]["loss"] - l["train"]["mse"] - 0.001953125 * l["train"]["l1"]) < 1e-6 for l in lines)
assert lines[-1]["train"]["loss"] < lines[0]["train"]["loss"]
assert [l["step"] for l in lines if l["resampled"]] == [20, 40]
for e in (l["eval"] for l in lines if "eval" in l):
    assert e["tokens"] == 352 and e["dead"] + e["alive"] == 96 and e["ultra_low"] + e["high"] == e["alive"]
    assert sum(e["density_bins"]) == e["alive"] and len(e["density_bins"]) == 32
    z, m, s, c = e["loss_zero"], e["loss_mean"], e["loss_spliced"], e["loss_clean"]
    for name, base in ("loss_recovered", z), ("loss_recovered_mean", m):
        r = (base - s) / (base - c)    # of losses printed with nine digits
        assert abs(e[name] - r) <= 1e-7 / abs(base - c) * (1 + abs(r))
EOF
ok "no debris" test -z "$(debris)"
ok "-j 1" $base -q -j1 --metrics b.txt -o b.safetensors mix/*.zst
same "-j 1, fewer states: the same checkpoint" a.safetensors b.safetensors
same "... and metrics, in the file named" a.jsonl b.txt
ok "-j 3" $base -q -j3 -o j3.safetensors mix/*.zst
same "... too" a.safetensors j3.safetensors
ok "on stdout" eval '$base -q -o - mix/*.zst >c.safetensors'
same "stdout and file: the same bytes" a.safetensors c.safetensors
ok "from a pipe" eval 'cat mix/*.zst | $base -q -o p.safetensors'
tensors a.safetensors >a.raw
tensors p.safetensors >p.raw
same "pipe and files: the same tensors" a.raw p.raw
same "... and metrics" a.jsonl p.jsonl
ok "--l1 counts a sum over 8192 rows" "$BIN/saetrain" -q ${own/--l1-mean 0.001953125/--l1 2.384185791015625e-07} --pick pick.zst -o l.safetensors mix/*.zst
same "... 8192 · 2^-22 = 2^-9" a.safetensors l.safetensors

inode=$(stat -c %i a.safetensors)
touch mix/*.zst pick.zst gpt.safetensors val.zst
ok "the same command again" $train -q -o a.safetensors mix/*.zst
ok "... trains nothing" test "$(stat -c %i a.safetensors)" = "$inode"
ok "another seed" $base -q -s 7 -o seed.safetensors mix/*.zst
ok "... gives other weights" eval '! cmp -s a.safetensors seed.safetensors'

ok "two passes" $base -q --steps 128 -o twice.safetensors mix/*.zst
ok "... begin as one" cmp <(head -30 a.jsonl) <(head -30 twice.jsonl)
ok "... and go on" test "$(tail -1 twice.jsonl | grep -o '"step": 128, "rows": 4096')"
ok "fewer steps" $base -q --steps 30 -o few.safetensors mix/*.zst
ok "... the same curve" cmp <(head -14 a.jsonl) <(head -14 few.jsonl)
ok "a batch that does not divide" "$BIN/saetrain" -q --batch 1000 --features 8 --resample-every 0 -o - mix/*.zst
ok "without a GPT no figures" eval '"$BIN/saetrain" -q --batch 32 --features 8 --resample-every 0 --steps 9 -o n.safetensors mix/*.zst && ! grep -q eval n.jsonl'

# What a neuron resampled after the last step looks like, from the rows themselves.
zstd -qdc pick.zst >pick.raw
zstd -qdc mix/*.zst >mix.raw
points() { # rows, first of them, last + 1: the last step resampled neurons, and they are made of rows among these
	python3 - "$@" <<'EOF'
import json, struct, sys
first, last = int(sys.argv[2]), int(sys.argv[3])
raw = open("r.safetensors", "rb").read()
n = struct.unpack("<Q", raw[:8])[0]
head = json.loads(raw[8:8 + n])
def tensor(name):
    a, b = head[name]["data_offsets"]
    return struct.unpack("<%df" % ((b - a) // 4), raw[8 + n + a:8 + n + b])
enc, b_enc, dec = tensor("encoder.weight"), tensor("encoder.bias"), tensor("decoder.weight")
D, F = 64, 96
stored = struct.unpack("<%dH" % (last * D), open(sys.argv[1], "rb").read(last * D * 2))
pick = struct.unpack("<%df" % (last * D), struct.pack("<%dI" % (last * D), *(v << 16 for v in stored))) # bf16
norm = lambda x: sum(v * v for v in x) ** 0.5
unit = lambda x: [v / norm(x) for v in x]
rows = [unit(pick[i * D:i * D + D]) for i in range(first, last)]
near = lambda x, y: max(abs(a - b) for a, b in zip(x, y)) < 1e-6
encs = [enc[f * D:f * D + D] for f in range(F)]
new = [f for f in range(F) if b_enc[f] == 0]
alive = sum(norm(encs[f]) for f in range(F) if f not in new) / (F - len(new))
used = set()
for f in new:
    col = [dec[d * F + f] for d in range(D)]
    hit = [i for i, r in enumerate(rows) if near(col, r)]
    assert hit, "decoder column %d" % f
    used.add(hit[0])
    assert abs(norm(encs[f]) / alive - 0.2) < 1e-5 and near(unit(encs[f]), col), "encoder row %d" % f
assert len(used) == len(new) == json.loads(open("r.jsonl").readlines()[-1])["resampled"] > 5
assert max(used) > (last - first) / 2
EOF
}
ok "a run that ends with a resampling" $base -q --steps 20 -o r.safetensors mix/*.zst
ok "... whose neurons point at rows of the event" points pick.raw 0 100
ok "a run that ends with the second" $base -q --steps 40 -o r.safetensors mix/*.zst
ok "... whose neurons point at rows of that event" points pick.raw 100 200
ok "a run without rows picked" "$BIN/saetrain" $own -q --pick-rows 150 --steps 20 -o r.safetensors mix/*.zst
ok "... whose neurons point at the first rows" points mix.raw 0 150

# Killed anywhere, by file and by pipe.
if state $train -q -o k.safetensors mix/*.zst; then ok "goes on after a kill" eval '$train -o k.safetensors mix/*.zst 2>log && grep -q "going on after step" log'; fi
for i in 1 2 3 4 5; do
	$train -q -o k.safetensors mix/*.zst & pid=$!
	sleep "0.0$i"
	kill -KILL $pid 2>/dev/null
	wait $pid 2>/dev/null
done
ok "after kills" $train -q -o k.safetensors mix/*.zst
same "... the same checkpoint" a.safetensors k.safetensors
same "... the same metrics" a.jsonl k.jsonl
rm -f k.*
cat mix/*.zst >all.zst
piped() { cat mix/*.zst | $train -q -o k.safetensors; }
first="$BIN/saetrain $own -q --pick-rows 150 --save-every 0"
# The first shard, and no more: the run waits in the window before the second event until it is killed.
# (A state's 56 bytes of head are followed by the steps done.)
mkfifo stalled
(cat mix/000.zst; exec sleep 60) >stalled & feeder=$!
$train -q -o k.safetensors <stalled & pid=$!
for _ in $(seq 1000); do [ "$(od -An -tu8 -j56 -N8 k.safetensors.state 2>&1)" -ge 31 ] 2>/dev/null && break; sleep 0.01; done
kill -KILL $pid $feeder 2>/dev/null
wait $pid $feeder 2>/dev/null
ok "a pipe killed and fed again" piped
same "... the same checkpoint" p.safetensors k.safetensors
same "... the same metrics" a.jsonl k.jsonl
rm -f k.*
ok "rows for resampling from the input itself" $first -o f.safetensors mix/*.zst
ok "... are others than those picked" eval '! cmp -s a.jsonl f.jsonl'
ok "... also from a pipe" eval 'cat mix/*.zst | $first -o fp.safetensors'
same "... of the same metrics" f.jsonl fp.jsonl
state $first -o k.safetensors mix/*.zst
ok "... also after a kill" $first -o k.safetensors mix/*.zst
same "... the same checkpoint" f.safetensors k.safetensors
rm -f k.*
state $first -o k.safetensors <all.zst
ok "... of a pipe" eval 'cat mix/*.zst | $first -o k.safetensors'
same "... the same checkpoint" fp.safetensors k.safetensors
ok "no debris after kills" test -z "$(debris)"
state $train -q -s 7 -o k.safetensors mix/*.zst
ok "a state of another run" $train -o k.safetensors mix/*.zst
ok "... is set aside" eval 'ls k.safetensors.state.old'
same "... and not used" a.safetensors k.safetensors

ok "--eval" eval '"$BIN/saetrain" -q $eval --eval a.safetensors >eval.json'
ok "... prints the figures of the last evaluation" eval 'grep -qF "\"eval\": $(cat eval.json)" a.jsonl'
ok "... with gptrain's loss of the same windows" eval '"$BIN/gptrain" -q --eval gpt.safetensors --val val.zst --eval-contexts 11 >g.json &&
	python3 -c "import json; a, b = (json.load(open(f)) for f in (\"eval.json\", \"g.json\")); assert abs(a[\"loss_clean\"] - b[\"val_loss\"]) < 1e-6"'
ok "--init, no step" "$BIN/saetrain" -q $own --lr 0 --steps 1 --resample-every 0 --normalise-every 1000 --init a.safetensors -o i.safetensors mix/*.zst
ok "... keeps the encoder" python3 - <<'EOF'
def part(path):    # tensors: decoder.bias, decoder.weight, encoder.bias, encoder.weight or otherwise; encoder.weight found by name
    import json, struct
    raw = open(path, "rb").read()
    n = struct.unpack("<Q", raw[:8])[0]
    a, b = json.loads(raw[8:8 + n])["encoder.weight"]["data_offsets"]
    return raw[8 + n + a:8 + n + b]
assert part("a.safetensors") == part("i.safetensors")
EOF

fails 2 "--gpt needs --val" "--val is missing" "$BIN/saetrain" --gpt gpt.safetensors -o x mix/000.zst
fails 2 "one L1" "exclude each other" "$BIN/saetrain" --l1 1e-7 --l1-mean 1 -o x mix/000.zst
fails 2 "an L1 that is none" "--l1" "$BIN/saetrain" --l1 few -o x mix/000.zst
fails 2 "--eval takes no rows" "--eval" "$BIN/saetrain" $eval --eval a.safetensors mix/000.zst
fails 2 "--resample-every 1" "--resample-every" "$BIN/saetrain" --resample-every 1 -o x mix/000.zst
fails 2 "an unknown option" "--no-such" "$BIN/saetrain" --no-such
fails 1 "no such rows" "none.zst" $base -o x none.zst
fails 1 "half of the shards" "mix/000.zst" $base -o x mix/000.zst mix/000.zst
fails 1 "tokens are no activations" "activations" "$BIN/saetrain" -o x train.zst
fails 1 "a batch larger than the input" "batch" "$BIN/saetrain" --batch 3000 -o x mix/*.zst
fails 1 "a shard of rows is no pick" "mix/001.zst" "$BIN/saetrain" --batch 32 --pick mix/001.zst -o x mix/*.zst
fails 1 "a pick of fewer events" "--resample-events" "$BIN/saetrain" --batch 32 --resample-events 3 --pick pick.zst -o x mix/*.zst
fails 1 "another GPT's width" "activations" "$BIN/saetrain" --batch 32 --gpt other.safetensors --val val.zst -o x mix/*.zst
$gptrain --n-embd 16 -s 7 -o other.safetensors train.zst
fails 1 "another GPT of the same shape" "another GPT" "$BIN/saetrain" --batch 32 --gpt other.safetensors --val val.zst -o x mix/*.zst
fails 1 "--eval with another GPT" "'a.safetensors' was trained on activations of another GPT than 'other.safetensors'" \
	"$BIN/saetrain" -q --gpt other.safetensors --val val.zst --eval a.safetensors
fails 1 "topk with another GPT" "another GPT" "$BIN/topk" -q --gpt other.safetensors --sae a.safetensors --contexts 5 -o x train.zst
fails 1 "-m too small for the rows kept" "-m" "$BIN/saetrain" -m 1M --batch 32 --pick-rows 10000 -o x mix/*.zst
fails 1 "--init of another shape" "encoder.weight" "$BIN/saetrain" -q --batch 32 --features 97 --resample-every 0 --init a.safetensors -o x mix/*.zst
fails 1 "a pipe shorter than --steps" "--steps" eval 'cat mix/*.zst | $BIN/saetrain -q --batch 32 --features 8 --resample-every 0 --steps 70 -o x'
fails 1 "a pipe that is cut" "<stdin>" eval 'head -c 40000 mix/000.zst | $BIN/saetrain -q --batch 32 --features 8 --resample-every 0 -o x'
fails 1 "a pipe without its last shard" "<stdin>" eval 'cat mix/000.zst | $BIN/saetrain -q --batch 32 --features 8 --resample-every 0 -o x'
head -c 40000 mix/000.zst >cut.zst
fails 1 "a shard that is cut" "cut.zst" "$BIN/saetrain" -q --batch 32 --resample-every 0 -o x cut.zst
fails 1 "a loss that explodes" "not a number" "$BIN/saetrain" -q --batch 32 --features 96 --resample-every 0 --l1-mean 1.7e308 -o x mix/*.zst
ok "nothing is left of failures" test -z "$(ls | grep -E '^x(\.jsonl|\.safetensors)?(\.part)?$')"
done_testing
