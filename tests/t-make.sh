# The tiny pipeline under make: what runs, what does not, and the same bytes however it is run.
. "$(dirname "$0")/lib.sh"
cd "$TOP" || exit 1
unset MAKEFLAGS MFLAGS MAKELEVEL # of the make that runs this test
checkout=$TOP out=$TMP/tiny
tiny() { make --no-print-directory -C "$checkout" PRESET=tiny OUT="$out" "$@"; }
sums() { (cd "$1" && find . -type f ! -path './knobs/*' ! -name knobs -print0 | sort -z | xargs -0 sha256sum); }
# Which stages a make really ran: their outputs are new files (a stage that is up to date is only touched).
inodes() { (cd "$out" && find . -type f \( -name '*.zst' -o -name '*.safetensors' -o -name '*.json' -o -name index.html \) \
	-printf '%p %i\n' | sort); }
ran() { # make words… -- changed outputs to stdout
	inodes >"$TMP/before"
	tiny "$@" >"$TMP/log" 2>&1 || { cat "$TMP/log" >&2; return 1; }
	inodes >"$TMP/after"
	comm -13 "$TMP/before" "$TMP/after" | sed 's/ .*//'
}
nothing_ran() { local r; r=$(ran "$@") && [ -z "$r" ] || { echo "ran: $r"; return 1; }; }
only() { # pattern make-words…: something ran, and all of it matches
	local r pattern=$1
	shift
	r=$(ran "$@") && [ -n "$r" ] && ! grep -vE "$pattern" <<<"$r" || { echo "ran: $r"; return 1; }
}

ok "tiny: text to pages" tiny html
ok "the page is there" test -s "$TMP/tiny/sae/l1-3e-7/html/index.html"
sums "$TMP/tiny" >"$TMP/first"
ok "make again: nothing to do" tiny -q html
ok "demo ends with the path of the site" test "$(tiny demo | tail -n 1)" = "site: $TMP/tiny/sae/l1-3e-7/html/index.html"
ok "no debris" test -z "$(find "$TMP/tiny" -name '*.part*' -o -name '*.state*')"
ok "every input touched: no stage reruns" eval 'touch tests/fixtures/tiny.jsonl out/bin/*; nothing_ran html'
ok "... and the make after that does nothing" tiny -q html
ok "outputs touched: no stage reruns" eval 'find "$TMP/tiny" -name "*.zst" -exec touch {} +; nothing_ran html'
unnoticed() { # knobs whose change make does not see
	local knob
	for knob in $(tiny help | sed -n 's/^  \([A-Z][A-Z0-9_]*\) .*/\1/p') MATCH FIELD DEVICE PRECISION; do
		tiny -q html "$knob=77" && echo "$knob"
	done
}
ok "every knob makes a stage stale" test "$(unnoticed)" = ""
ok "threads and memory make none" tiny -q -j3 html THREADS=7 MEMORY=5G V=1
ok "L1=1e-6: a second autoencoder and nothing else" only '^./sae/l1-1e-6/' sae L1=1e-6
ok "TOP_K=3: pages again, nothing before" only '^./sae/l1-3e-7/(top|html)/' html TOP_K=3
echo "Another text." >"$TMP/own.txt"
ok "TEXTS=own.txt: those texts and pages" only '^./sae/l1-3e-7/(texts.json|html/)' html TOP_K=3 TEXTS="$TMP/own.txt"
ok "... are what the pages show" grep -q '"texts":1,' "$TMP/tiny/sae/l1-3e-7/html/data/site.js"
ok "SHARDS=1: activations in one shard" only '^./(acts|mix|pick.zst|sae)' sae SHARDS=1
ok "... the mix too" test "$(cd "$TMP/tiny/mix" && echo *)" = "000.zst 000.zst.stamp"
ok "SAMPLES=12: activations and what follows" only '^./(acts|mix|pick.zst|sae)' html SAMPLES=12
ok "back to the preset" tiny html
sums "$TMP/tiny" | grep -v l1-1e-6 >"$TMP/again"
same "the same bytes as at first" "$TMP/first" "$TMP/again"
rm "$TMP"/tiny/{gpt.safetensors,acts,mix/001.zst,pick.zst,sae/l1-3e-7/{sae.safetensors,top,texts.json,html}}.stamp
ok "killed between an output and its stamp: only that is finished" eval 'tiny html && ! tiny html | grep -v "Nothing to be done"'
sums "$TMP/tiny" | grep -v l1-1e-6 >"$TMP/again"
same "the same files as at first" "$TMP/first" "$TMP/again"
ok "a stage that fails leaves what was made" eval '! tiny acts DTYPE=f8; test -s "$TMP/tiny/acts/002.zst"'
ok "... and nothing reruns" nothing_ran html
ok "FROM_TOKENS=1: a pick and an autoencoder of rows stored nowhere" only '^./(pick-made.zst|sae/l1-3e-7-from-tokens-1/)' sae FROM_TOKENS=1
ok "... is done once" tiny -q sae FROM_TOKENS=1
tensors() { tail -c +$(($(od -An -tu8 -N8 "$1") + 9)) "$1"; } # without the header
ok "... has the tensors of the other" cmp <(tensors "$out/sae/l1-3e-7/sae.safetensors") <(tensors "$out/sae/l1-3e-7-from-tokens-1/sae.safetensors")
ok "... and its metrics" cmp "$out"/sae/l1-3e-7{,-from-tokens-1}/sae.jsonl
ok "... follows the knobs of rows" only '^./(pick-made.zst|sae/l1-3e-7-from-tokens-1/)' sae FROM_TOKENS=1 WINDOW=20
ok "... and needs no stored rows" eval 'rm -rf "$out"/acts "$out"/mix "$out"/pick.zst && tiny -q sae FROM_TOKENS=1 WINDOW=20'
ok "make -j2 THREADS=1 MEMORY=64M" eval 'rm -rf "$TMP/tiny"; tiny -j2 THREADS=1 MEMORY=64M html'
sums "$TMP/tiny" >"$TMP/parallel"
same "the same bytes with -j2, one thread and less memory a tool" "$TMP/first" "$TMP/parallel"
rm -rf "$TMP/tiny"
tiny html >/dev/null 2>&1 &
tiny html >/dev/null 2>&1
wait $!
ok "two makes at once: neither deletes what the other made" tiny html
sums "$TMP/tiny" >"$TMP/two"
same "the same bytes as one alone" "$TMP/first" "$TMP/two"

# A checkout elsewhere, built as this one is and with what was made here.
objects=$(make -s --eval='objects:; @echo $(OBJ)' objects)
mkdir -p "$TMP/built/out/obj" && cp -a Makefile common kernels tools data tests "$TMP/built" && cp -a out/bin "$TMP/built/out" &&
	cp -a "$objects" "$TMP/built/out/obj" && cp -a "$TMP/tiny" "$TMP/built/out" && mv "$TMP/built" "$TMP/moved"
checkout=$TMP/moved out=out/tiny
cd "$checkout" || exit 1
ok "a moved checkout: nothing to do" tiny -q html
find . -type f ! -name '*.[chS]' ! -name '*.inc' ! -path './out/obj/*' -exec touch {} +
ok "... every file of it touched: no stage reruns" nothing_ran html
sed -i 's/^\t"Sorts mlpdump/\t"Orders mlpdump/' tools/shuffle.c
ok "a changed help text: no stage reruns" nothing_ran html
ok "... of a tool that was built" eval 'out/bin/shuffle --help | grep -q "^Orders mlpdump"'
ok "... and the make after that does nothing" tiny -q html
sed -i 's/OUTPUT_VERSION = /&1/' tools/shuffle.c
ok "another output-version: its stage, and what carries its name on" only '^./(mix/|pick)' html
checkout=$TOP out=$TMP/tiny
cd "$TOP" || exit 1

# Killed anywhere, made again: the same bytes.
rm -rf "$TMP/tiny"
for i in 1 2 3 4 5 6 7 8 9 10 11 12; do
	setsid make --no-print-directory PRESET=tiny OUT="$TMP/tiny" html >"$TMP/log" 2>&1 &
	pid=$!
	sleep "0.$((i * 7 % 10))$((i % 2))"
	kill -KILL -- -$pid 2>/dev/null
	wait $pid 2>/dev/null
done
ok "after twelve kills: make completes" tiny html
sums "$TMP/tiny" >"$TMP/killed"
same "the same bytes as an uninterrupted run" "$TMP/first" "$TMP/killed"
ok "no debris after kills" test -z "$(find "$TMP/tiny" -name '*.part*' -o -name '*.state')"

# Output-versions: the tiny run's bytes on ref are pinned; a change of results needs a new version.
ok "tiny on ref" eval 'rm -rf "$TMP/tiny"; tiny html DEVICE=ref TOP_CONTEXTS=6 TOP_K=2 RADIUS=2'
digest() { # of a file, or of all files of a directory
	(cd "$TMP/tiny" && if [ -d "$1" ]; then find "$1" -type f | LC_ALL=C sort | xargs sha256sum; else cat "$1"; fi) | sha256sum | cut -c1-16
}
pins() { # output:stamp (the site's own files are in its stamp; its data are not)
	for f in tokens/train.zst gpt.safetensors acts/000.zst:acts mix/000.zst pick.zst sae/l1-3e-7/sae.safetensors \
		sae/l1-3e-7/top sae/l1-3e-7/texts.json sae/l1-3e-7/html/data:sae/l1-3e-7/html; do
		printf '%s\t%s\t%s\n' ${f%:*} "$(head -1 "$TMP/tiny/${f#*:}.stamp")" "$(digest ${f%:*})"
	done
}
pins >"$TMP/pins"
[ -n "${UPDATE_PINS:-}" ] && cp "$TMP/pins" tests/fixtures/pins.tsv
ok "bytes of the tiny run on ref are those of these output-versions (tests/fixtures/pins.tsv)" \
	diff tests/fixtures/pins.tsv "$TMP/pins"

fails 2 "seed without CORPUS says what to fetch" "fetch the 80 parquet files" make --no-print-directory PRESET=seed OUT="$TMP/seed" tokens
ok "... but shows its knobs" make --no-print-directory PRESET=seed help
fails 2 "an unknown preset is refused" "PRESET is one of" make --no-print-directory PRESET=huge help
quick() { make --no-print-directory PRESET=tiny OUT="$TMP/quick" "$@"; }
fails 2 "a misspelt knob is refused" "no knob LI" quick sae LI=1e-6
fails 2 "a knob of two values is refused" "L1 takes one value, not '1e-6 3e-7'" quick sae L1="1e-6 3e-7"
fails 2 "a knob of none is refused" "L1 takes one value, not ''" quick sae L1=
for n in 0 x 2.5 ''; do
	fails 2 "SHARDS=$n is refused" "SHARDS" quick acts "SHARDS=$n"
done
ok "... and nothing was begun" test ! -e "$TMP/quick"
# A corpus of one's own: how often tokenize reads it.
reads() { quick tokens "$@" 2>&1 | grep -c 'bytes read'; }
mkdir -p "$TMP/my text" && head -n 20 tests/fixtures/tiny.jsonl >"$TMP/my text/it's.jsonl"
fails 2 "CORPUS is not there" "CORPUS: ls: cannot access 'none.txt'" quick tokens CORPUS=none.txt
ok "CORPUS with a space in its name" test "$(reads CORPUS="'$TMP/my text/'*.jsonl")" = 1
ok "... again: nothing to do" test "$(reads CORPUS="'$TMP/my text/'*.jsonl")" = 0
tail -n 20 tests/fixtures/tiny.jsonl >"$TMP/my text/b.jsonl" && touch -d 2001-01-01 "$TMP/my text/b.jsonl"
ok "an older file more: read again" test "$(reads CORPUS="'$TMP/my text/'*.jsonl")" = 1
ok "a folder of the same files: nothing to do" test "$(reads CORPUS="'$TMP/my text'")" = 0
tail -n 15 tests/fixtures/tiny.jsonl >"$TMP/my text/b.jsonl"
ok "a file in it is another: read again" test "$(reads CORPUS="'$TMP/my text'")" = 1
ok "sweep ends in a table and a plot" eval 'tiny sweep L1S="1e-7 1e-6" >"$TMP/sweep.log" 2>&1 && grep -q recovered "$TMP/sweep.log" && test -s "$TMP/tiny/sweep.svg"'
done_testing
