# features: activations recomputed in double precision and by topk; texts of any kind; what a terminal gets.
. "$(dirname "$0")/lib.sh"
cd "$TMP" || exit 1
model() { python3 "$TOP/tests/make-model.py" "$@"; }
model gpt.safetensors sae.safetensors bias=0 || exit 1
features="$BIN/features --gpt gpt.safetensors --sae sae.safetensors"
check() { python3 "$TOP/tests/check-features.py" gpt.safetensors sae.safetensors "$1"; }
of() { python3 -c 'import json, sys; d = json.load(open(sys.argv[1])); print(eval(sys.argv[2]))' "$@"; } # JSON expression

# ---- numbers ----
hostile=$'Ünïcode 🎉 \e[31mred\e]0;title\a\r\n\t<script>\u202e\u200b\u009b1mא' # and no NUL, which no argument can hold
ok "some texts" $features --json -o a.json "The cat sat on the mat." "$hostile" x
ok "... recomputed in double precision" check a.json
ok "... joined, they are the texts" test "$(of a.json '"".join(t["text"] if "text" in t else bytes.fromhex(t["bytes"]).decode("latin1") for t in d["texts"][0]["tokens"])')" = "The cat sat on the mat."
ok "... byte for byte" eval 'printf %s "$hostile" | cmp - <(of a.json "sys.stdout.buffer.write(b\"\".join(t[\"text\"].encode() if \"text\" in t else bytes.fromhex(t[\"bytes\"]) for t in d[\"texts\"][1][\"tokens\"])) and \"\"" | head -c -1)'
head -c 3000 "$TOP/tests/fixtures/tiny.jsonl" | tr '{}' '()' >long.txt # plain text for tokenize
ok "a text longer than the context" eval '$features --json <long.txt >long.json'
ok "... in contexts one after another" check long.json
"$BIN/tokenize" -q -o long.zst long.txt || exit 1
ok "tokens are tokenize's" eval 'zstd -qdc long.zst | od -An -v -w2 -tu2 | tr -d " " | head -n -1 | cmp - <(of long.json "\"\\n\".join(str(t[\"id\"]) for t in d[\"texts\"][0][\"tokens\"])")'
windows=$((($(zstd -qdc long.zst | wc -c) / 2 - 1) / 32))
ok "topk reads the same contexts" "$BIN/topk" -q --precision f32 --gpt gpt.safetensors --sae sae.safetensors --contexts $windows -o top long.zst
totals() { # of the tokens that topk read: active and maximum of each feature
	python3 - long.json "$1" $((windows * 32)) <<'P'
import collections, json, struct, sys
tokens = json.load(open(sys.argv[1]))['texts'][0]['tokens'][:int(sys.argv[3])]
F = json.load(open(sys.argv[1]))['features']
active, most = collections.Counter(), collections.defaultdict(float)
for t in tokens:
    for k, f in t['features']:
        active[k] += 1
        most[k] = max(most[k], f)
import subprocess
def field(n, code): return struct.unpack('<%d%s' % (F, code), subprocess.run(['zstd', '-qdc', sys.argv[2] + '/' + n], stdout=subprocess.PIPE).stdout)
assert field('active.u32.zst', 'I') == tuple(active[k] for k in range(F))
for k, v in enumerate(field('max.f32.zst', 'f')):
    assert abs(v - most[k]) <= 1e-5 * (1 + v), (k, v, most[k])
P
}
ok "... finds as many of each feature, as strong" totals top
ok "-k 2" $features --json -k 2 -o two.json "The cat sat on the mat." "$hostile" x
ok "... the strongest two" test "$(of two.json '[[t["features"] for t in x["tokens"]] for x in d["texts"]]')" = \
	"$(of a.json '[[t["features"][:2] for t in x["tokens"]] for x in d["texts"]]')"
ok "--feature 7" $features --json --feature 7 -o seven.json "The cat sat on the mat." "$hostile" x
ok "... it alone" test "$(of seven.json '[[t["features"] for t in x["tokens"]] for x in d["texts"]]')" = \
	"$(of a.json '[[[e for e in t["features"] if e[0] == 7] for t in x["tokens"]] for x in d["texts"]]')"
ok "-j 1" eval '$features -j1 --json <long.txt | cmp - long.json'
ok "-j 3: the same bytes" eval '$features -j3 --json <long.txt | cmp - long.json'
ok "--device ref" eval '$features --device ref --json "The cat sat" >ref.json && check ref.json'
ok "bf16" eval '$features --precision bf16 --json "The cat sat" >half.json'
model wide.safetensors wide-sae.safetensors layers=2 width=12 heads=3 features=37
ok "two layers with biases" "$BIN/features" --gpt wide.safetensors --sae wide-sae.safetensors "some text"

# ---- labels ----
ok "--top" $features --top top --json -o labelled.json "The cat sat"
maxima=$(zstd -qdc top/max.f32.zst | od -An -v -w4 -tf4 | tr '\n' ,)
ok "... the maximum of each feature" test "$(of labelled.json "max(abs([$maxima][e[0]] - e[2]) for t in d['texts'][0]['tokens'] for e in t['features']) < 1e-5")" = True
strongest=$(of a.json 'd["texts"][0]["tokens"][1]["features"][0][0]')
ok "a table" eval '$features --top top "The cat sat on the mat." >table'
ok "... the token's strongest feature, as a share of its maximum" grep -qE "^ +1  ␣cat +$strongest +[0-9.]+ +[0-9.]+ %  " table
ok "... five of each token" test "$(awk 'NR > 1' table | wc -l)" = "$(of a.json 'sum(min(5, max(1, len(t["features"]))) for t in d["texts"][0]["tokens"])')"
model other.safetensors other-sae.safetensors bias=0 seed=5
fails 1 "topk's directory of other checkpoints" "'top' was made with another GPT" \
	"$BIN/features" --gpt other.safetensors --sae other-sae.safetensors --top top x
fails 1 "no directory of topk" "none/index.json" $features --top none x

# ---- what a terminal gets ----
ok "shaded by a feature" eval '$features --feature $strongest "The cat sat" >text'
ok "... a number where it is active" grep -qE '^The.* cat\{[0-9.]+\}' text
ok "... and what was seen" grep -qE "^feature $strongest: active on [1-3] of 3 tokens, at most [0-9.]+$" text
ok "in colour when asked" eval '$features --feature $strongest --color always "The cat sat" | grep -qE "\[48;5;[0-9]+;38;5;16m cat.\[0m"'
ok "... in the table" eval '$features --color always "The cat sat" | grep -q "\[48;5;"'
ok "no colour in a file" eval '! $features --feature $strongest "The cat sat" | grep -q "\["'
on_terminal() { # command…: its output through a terminal
	TERM=xterm python3 -c 'import os, pty, sys; os.environ.pop("NO_COLOR", None); os.environ.update(a.split("=") for a in sys.argv[1].split()); sys.exit(pty.spawn(sys.argv[2:]) >> 8)' "$@" </dev/null
}
ok "colour on a terminal" eval 'on_terminal "" $features --feature $strongest "The cat sat" | grep -q "\[48;5;"'
ok "... not when NO_COLOR is set" eval '! on_terminal NO_COLOR=1 $features --feature $strongest "The cat sat" | grep -q "\[48;5;"'
ok "... not on a dumb one" eval '! on_terminal TERM=dumb $features --feature $strongest "The cat sat" | grep -q "\[48;5;"'
ok "... not when told never" eval '! on_terminal "" $features --color never --feature $strongest "The cat sat" | grep -q "\[48;5;"'
$features "$hostile" >table
$features --feature 7 "$hostile" >text
printf 'a\0b\377\355\240\200c' >bytes
$features - <bytes >>table
$features --feature 7 <bytes >>text
ok "no control, override or blank reaches the terminal" eval '! LC_ALL=C.UTF-8 grep -P "[\x00-\x08\x0b-\x1f\x7f-\x9f\x{200b}-\x{200f}\x{202a}-\x{202e}]" table text'
for seen in '␛' '[U+202E]' '[U+009B]' '␀' '[U+FFFD]' '␍' '⇥' '🎉'; do
	ok "... $seen can be seen" eval 'grep -qF "$seen" table && grep -qF "$seen" text'
done
ok "two texts" eval '$features one two | grep -q "^text 2 of 2"'
ok "an emoji stands in its first token" eval '$features "🎉" | grep -qE "^    0  🎉 "; $features "🎉" | grep -qE "^    1  · "'

# ---- input and output ----
ok "standard input and operands" eval 'test "$(echo -n second | $features --json first - | grep -c "\"loss\"")" = 2'
printf '%%\none\n\nmore of it\n%%\n%% no mark\n%%\n%%\nlast\n\n' >texts
ok "--texts" $features --json --texts texts -o texts.json
ok "... apart by lines of %" test "$(of texts.json '["".join(t["text"] for t in x["tokens"]) for x in d["texts"]]')" = \
	"['one\\n\\nmore of it', '% no mark', 'last\\n']"
inode=$(stat -c %i texts.json)
ok "again" $features -q --json --texts texts -o texts.json
ok "... nothing is made" test "$(stat -c %i texts.json)" = "$inode"
ok "other texts" eval '$features -q --json -o texts.json last && test "$(of texts.json "len(d[\"texts\"])")" = 1'
ok "a reader that goes away" eval '$features --json <long.txt | head -n 1 >/dev/null; test ${PIPESTATUS[0]} != 1'
yes "A long text, again and again." | head -c 100000 >huge
ok "a hundred thousand bytes" eval '$features -q -k 1 <huge >table'
ok "... with a word on what is read at once" grep -qE '^[0-9]+ tokens, read 32 at a time' table
ok "nothing on stderr for a short text" eval '$features x 2>err >/dev/null && test ! -s err'
ok "no debris" test -z "$(find . -name '*.part')"

# ---- refusals ----
fails 2 "no GPT" "--gpt" "$BIN/features" --sae sae.safetensors x
fails 2 "no autoencoder" "--sae" "$BIN/features" --gpt gpt.safetensors x
fails 2 "--texts and TEXT" "--texts" $features --texts texts x
fails 2 "--color of no kind" "--color is one of auto, always, never" $features --color red x
fails 2 "a feature that is no number" "--feature" $features --feature x y
fails 1 "a feature that is not there" "features 0 to 95, no 96" $features --feature 96 y
fails 1 "an empty text" "empty" $features ""
fails 1 "an empty input" "empty" $features -q - </dev/null
fails 1 "no text in a file" "'nothing' has no text" eval 'printf "%%\n\n" >nothing; $features --texts nothing'
fails 1 "no such file" "none" $features --texts none
fails 1 "a text too long to look at" "larger than 16777216 bytes" eval 'yes | head -c 17M | $features'
fails 1 "a GPT as autoencoder" "no autoencoder" "$BIN/features" --gpt gpt.safetensors --sae gpt.safetensors x
fails 1 "an autoencoder of another width" "reads 48 activations" "$BIN/features" --gpt gpt.safetensors --sae wide-sae.safetensors x
model few.safetensors few-sae.safetensors vocab=300
fails 1 "a GPT of a smaller vocabulary" "the vocabulary of 'few.safetensors' ends at 299" \
	"$BIN/features" --gpt few.safetensors --sae few-sae.safetensors "The cat"
ok "... reads what it knows" "$BIN/features" --gpt few.safetensors --sae few-sae.safetensors "a b"
fails 1 "activations that are no number" "not finite" eval 'model any.safetensors bad.safetensors bias=0 shift=nan seed=3; "$BIN/features" --gpt any.safetensors --sae bad.safetensors x'
done_testing
