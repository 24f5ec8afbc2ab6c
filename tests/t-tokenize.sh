# tokenize: one corpus in every wrapping, splits, resumption, refusals.
. "$(dirname "$0")/lib.sh"
cd "$TMP" || exit 1
tok="$BIN/tokenize -q"
flat() { zstd -qdc "$1"; }

# The corpus wrapped by Python's own modules, never by ours.
cat >wrap.py <<'PY'
import bz2, gzip, io, json, lzma, os, re, struct, sys, tarfile, zipfile
texts = [json.loads(l)["text"] for l in open(sys.argv[1], encoding="utf-8")]
texts = [re.sub("\n\n\n+", "\n\n", t).strip() for t in texts] # so that a tar changes nothing
lines = [json.dumps({"text": t}, ensure_ascii=False) + "\n" for t in texts]
data, half = "".join(lines).encode(), len("".join(lines[:20]).encode())
def put(name, b):
    open(name, "wb").write(b)
def tar(members, **kw):
    f = io.BytesIO()
    with tarfile.open(fileobj=f, mode="w", **kw) as t:
        for name, b in members:
            i = tarfile.TarInfo(name)
            if b is None:
                i.type, i.linkname = tarfile.SYMTYPE, "x"
            else:
                i.size = len(b)
            t.addfile(i, None if b is None else io.BytesIO(b))
    return f.getvalue()
def ar(members):
    out = b"!<arch>\n"
    for name, b in members:
        out += f"{name + '/':<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(b):<10}`\n".encode() + b + b"\n" * (len(b) % 2)
    return out
docs = [(f"{i:07}-{i:032x}.txt", t.encode()) for i, t in enumerate(texts)]
put("c.jsonl", data)
put("members.jsonl.gz", gzip.compress(data[:half]) + gzip.compress(data[half:]))
put("c.jsonl.xz", lzma.compress(data[:half]) + lzma.compress(data[half:]))
put("c.bz2", bz2.compress(data))
put("bom.jsonl", b"\xef\xbb\xbf" + data.replace(b"\n", b"\r\n\r\n").rstrip())
put("ascii.jsonl", "".join(json.dumps({"id": 1, "meta": {"text": "decoy"}, "text": t}) + "\n" for t in texts).encode())
put("content.jsonl", "".join(json.dumps({"content": t, "text": 1}) + "\n" for t in texts).encode())
put("t.tar", tar(docs))
put("long.tar", tar([("d" * 120 + "/n\u00e9 " + n, b) for n, b in docs], format=tarfile.PAX_FORMAT))
inner = [lzma.compress(tar(docs[:20])), lzma.compress(tar(docs[20:]))]
put("owt.tar.xz", lzma.compress(tar([("openwebtext/a_data.xz", inner[0]), ("openwebtext/._b", b"junk"), ("openwebtext/b_data.xz", inner[1])])))
put("junk.tar", tar([("__x.txt", b"junk"), (".x.txt", b"junk"), ("link.txt", None)] + docs + [("__MACOSX/._y", b"junk")]))
mds = [(f"./usr/share/doc/p/{n[:7]}.md.gz", gzip.compress(b)) for n, b in docs]
data_tar = lzma.compress(tar([("./usr/bin/p", b"\x7fELF\0junk"), ("./usr/share/doc/p/copyright", b"junk")] + mds))
put("p.deb", ar([("debian-binary", b"2.0\n"), ("control.tar.gz", gzip.compress(tar([("./control", b"Package: p\n")]))), ("data.tar.xz", data_tar)]))
z = io.BytesIO()
with zipfile.ZipFile(z, "w", zipfile.ZIP_DEFLATED) as f:
    for n, b in docs:
        f.writestr(n, b)
put("z", z.getvalue())
put("in.tar", tar([("lines.json", data)]))
os.makedirs("dir/sub")
for i, (n, b) in enumerate(docs):
    put(("dir/" if i < 20 else "dir/sub/") + n, b)
os.makedirs("dir/.hidden")
put("dir/.hidden/x.txt", b"junk")
odd = ["a\n\n\n\nb", "\n\u3000\u00a0 c\n\n\nd \x1c\u2028\t", "   ", "", "e\r\n\r\n\r\nf"]
put("odd.tar", tar([(f"{i}.txt", t.encode()) for i, t in enumerate(odd)]))
put("odd.jsonl", "".join(json.dumps({"text": t}) + "\n" for t in ["a\n\nb", "c\n\nd", "", "", odd[4]]).encode())
put("big.jsonl", b"".join(json.dumps({"text": f"{i} {t}"}).encode() + b"\n" for i in range(150) for t in texts))
put("word", b"".join(bytes([97 + i * i % 26, 97 + i * 7919 % 23]) for i in range(1 << 20)))
blob = bytearray(data_tar)
blob[len(blob) // 2] ^= 0x40
put("bad.deb", ar([("debian-binary", b"2.0\n"), ("data.tar.xz", bytes(blob))]))
put("lines.bad", b"".join(l.encode() for l in lines[:6]) + b'{"text": "cut\n' + lines[7].encode())
put("first.bad", b"x" + data[1:])
many = open("big.jsonl", "rb").read().splitlines(keepends=True)
put("twice.bad", b"".join(many[:3000]) + b'{"text": 1}\n' + b"".join(many[:900]) + b"x\n" + b"".join(many))
put("bad.tar", tar([("a.json", data), ("b.json", data + b'{"text": "\\x"}\n'), ("c.json", b"".join(many))]))
put("nofield.jsonl", lines[0].encode() + b'{"id": 7}\n')
put("v7.bin", struct.pack("<256i", 20240520, 7, 2, *[0] * 253) + b"\1\0\2\0")
put("beyond.bin", struct.pack("<256i", 20240520, 1, 2, *[0] * 253) + b"\1\0\xff\xff")
put("deep", tar([("x", b"bottom")]))
for _ in range(20):
    put("deep", tar([("x", open("deep", "rb").read())]))
PY
python3 wrap.py "$TOP/tests/fixtures/tiny.jsonl" || exit 1
tiny=c.jsonl

$tok -o want.zst "$tiny" || exit 1
flat want.zst >want
ok "there are tokens" test "$(wc -c <want)" -gt 30000
ok "each document ends with the end token" test "$(od -An -v -tu2 -w2 want | grep -cw 50256)" = 40
$tok --to nanogpt -o n.bin "$tiny" && $tok --to llmc -o l.bin "$tiny" || exit 1
same "nanoGPT's file is the flat array" want n.bin
ok "llm.c's file: magic, version, count" test "$(od -An -td4 -N12 l.bin | xargs)" = "20240520 1 $(($(wc -c <want) / 2))"
tail -c +1025 l.bin >l.ids
ok "... the end token in front" test "$(od -An -tu2 -N2 l.ids | xargs)" = 50256
zstd -q -c <(head -20 "$tiny") >c.jsonl.zst && zstd -q -c <(tail -20 "$tiny") >>c.jsonl.zst
{ printf '\120\052\115\030\003\0\0\0abc'; cat c.jsonl.zst; } >skip.zst # a skippable frame in front, as pzstd has
wraps() { # name, what to give tokenize
	local name=$1
	shift
	ok "$name" wrapped "$@"
}
wrapped() { $tok -o got.zst "$@" && flat got.zst >got && cmp want got; }
wraps "frames of zstd" c.jsonl.zst
wraps "a skippable frame in front" skip.zst
wraps "members of gzip" members.jsonl.gz
wraps "streams of xz" c.jsonl.xz
wraps "bzip2, no extension" c.bz2
wraps "a byte order mark, CRLF, empty lines, no last newline" bom.jsonl
wraps "escapes, nested decoys" ascii.jsonl
wraps "--field" --field content content.jsonl
wraps "a tar" t.tar
wraps "a tar with long names" long.tar
wraps "a tar of xz of tars in xz" owt.tar.xz
wraps "what is passed over in a tar" junk.tar
wraps "a Debian package" --match '*/doc/*.md.gz' p.deb
wraps "a zip" z
wraps "JSON Lines in a tar" in.tar
wraps "a directory" dir
wraps "files of text" dir/*.txt dir/sub/*.txt
wraps "nanoGPT's file" n.bin
wraps "llm.c's file" l.bin
wraps "a shard" want.zst
ok "standard input" eval '$tok -o - - <c.jsonl.zst | cmp - want.zst'
ok "... by default, to standard output" eval '$tok <owt.tar.xz | cmp - want.zst'
ok "odd whitespace in tars is normalised as OpenWebText's loader does" eval \
	'$tok -o a.zst odd.tar && $tok -o b.zst odd.jsonl && cmp a.zst b.zst'
mkfifo named
timeout 20 cat named >got.zst &
ok "to a named pipe" $tok -o named "$tiny"
wait $!
same "... the same shard" want.zst got.zst
ok "... the pipe stays, without a stamp" test -p named -a ! -e named.stamp
fails 1 "validation to a pipe" "is no file" $tok --val 0.1 --val-out named -o x "$tiny"
fails 2 "no name" "needs a name" $tok -o "" "$tiny"
if "$TOP/out/venv/bin/python3" -c 'import pyarrow' 2>/dev/null; then
	"$TOP/out/venv/bin/python3" -c '
import json, sys, pyarrow as pa, pyarrow.parquet as pq
t = [json.loads(l)["text"] for l in open(sys.argv[1], encoding="utf-8")]
pq.write_table(pa.table({"id": list(range(len(t))), "text": t}), "c.parquet", compression="zstd")' "$tiny"
	wraps "Parquet" c.parquet
	fails 1 "Parquet without the column" "no column 'body'" $tok --field body -o x c.parquet
	head -c 5000 c.parquet >cut.parquet
	fails 1 "cut Parquet" "cut.parquet" $tok -o x cut.parquet
else
	skip "Parquet" "no pyarrow under out/venv"
fi

# Same bytes.
for j in 1 2 3; do $tok -j$j --val 0.1 --val-out v$j.zst -o t$j.zst big.jsonl || exit 1; done
same "-j 1 and -j 2: the same bytes" t1.zst t2.zst
same "-j 1 and -j 3: the same bytes" t1.zst t3.zst
same "... for validation" v1.zst v3.zst
ok "the end counts the documents" test "$("$BIN/tokenize" -o u.zst big.jsonl 2>&1 | grep -o '^tokenize: 6000 documents')"

# The split.
docs() { "$BIN/tokenize" -d --jsonl "$1"; }
docs t1.zst >t.jsonl
docs v1.zst >v.jsonl
n=$(wc -l <v.jsonl)
ok "about a tenth is held out ($n of 6000)" test "$n" -gt 500 -a "$n" -lt 700
ok "train and validation together are all" eval 'cmp <(sort t.jsonl v.jsonl) <("$BIN/tokenize" -q -o - big.jsonl | "$BIN/tokenize" -d --jsonl - | sort)'
tac big.jsonl >reversed.jsonl
ok "another order of documents" $tok --val 0.1 --val-out v4.zst -o t4.zst reversed.jsonl
same "... the same validation" v1.zst v4.zst
ok "... in tars too" $tok --val 0.2 --val-out v5.zst -o t5.zst owt.tar.xz
$tok --val 0.2 --val-out v6.zst -o t6.zst "$tiny"
same "... the same split" v5.zst v6.zst
ok "validation is not in the order of the corpus" eval '! cmp -s <(grep -Fxf v.jsonl <(docs u.zst)) v.jsonl'
ok "another seed, another split" eval '$tok -s 7 --val 0.1 --val-out v7.zst -o t7.zst big.jsonl && ! cmp -s v1.zst v7.zst'
printf '17\n3\n39\n' >rows
ok "--val-rows" $tok --val-rows rows --val-out rv.zst -o rt.zst "$tiny"
docs want.zst >all
ok "... in the order of the file" cmp <(sed -n 18p all; sed -n 4p all; sed -n 40p all) <(docs rv.zst)
ok "... the rest in the order of the corpus" cmp <(sed '4d;18d;40d' all) <(docs rt.zst)
ok "validation as nanoGPT's file" eval '$tok --to nanogpt --val-rows rows --val-out v.bin -o t.bin "$tiny" && flat rv.zst | cmp - v.bin'

# And back.
ok "-d gives back a text" eval 'head -c 20000 "$tiny" | tr "{" "(" >text; $tok text | $tok -d | cmp - text'
ok "-d --jsonl gives back the documents" cmp <(python3 -c 'import json,sys
for l in sys.stdin: print(json.loads(l)["text"])' <all) <(python3 -c 'import json,sys
for l in sys.stdin: print(json.loads(l)["text"])' <"$tiny")
ok "-d separates documents" test "$("$BIN/tokenize" -d want.zst | grep -o '<|endoftext|>' | wc -l)" = 39
ok "-d reads .bin" eval '"$BIN/tokenize" -d n.bin | cmp - <("$BIN/tokenize" -d want.zst)'
printf 'a\377b\0c' >bytes
ok "bytes that are no text" eval '$tok bytes | $tok -d | cmp - <(printf "a\357\277\275b\0c")'
ok "a word of 2 MB" eval '$tok word | $tok -d | cmp - word'

# Nothing reruns for nothing.
ran() { # does the command make new files?
	local before
	before=$(stat -c %i t1.zst v1.zst)
	"$@" >log 2>&1 || return 2
	[ "$before" != "$(stat -c %i t1.zst v1.zst)" ]
}
again="$BIN/tokenize -j2 --val 0.1 --val-out v1.zst -o t1.zst big.jsonl"
ok "the same command again does nothing" eval '! ran $again && grep -q "up to date" log'
ok "a touched input reruns nothing" eval 'touch big.jsonl; ! ran $again'
ok "a renamed input reruns nothing" eval 'mv big.jsonl other; ! ran ${again%big.jsonl}other; mv other big.jsonl'
ok "another share reruns" ran ${again/0.1/0.11}
ok "the first share again" $again
same "... the same bytes" t1.zst t2.zst
ok "a byte changed, size and time kept, reruns" eval 'touch -r big.jsonl when; sed -i "1s/0/1/" big.jsonl; touch -r when big.jsonl; ran $again'
sed -i '1s/1/0/' big.jsonl
for i in 1 2 3; do echo "{\"text\": \"number $i\"}" >n$i.jsonl; done
sleep 0.1 # the stamp is younger than all of them
$tok -o n.zst n1.jsonl n2.jsonl
ok "inputs of one size in another order rerun" eval '$tok -o n.zst n2.jsonl n1.jsonl && test "$($tok -d n.zst)" = "number 2<|endoftext|>number 1"'
ok "another input of the same size reruns" eval '$tok -o n.zst n3.jsonl n1.jsonl && test "$($tok -d n.zst)" = "number 3<|endoftext|>number 1"'
ok "a missing validation file is made again" eval 'rm v1.zst; $again && cmp v1.zst v2.zst'

# Ended early.
none() { ! compgen -G "$1*" >/dev/null; }
fails 1 "a place for validation that is not there" "no/v.zst" $tok --val 0.1 --val-out no/v.zst -o early.zst big.jsonl
ok "... leaves nothing" none early
cat big.jsonl big.jsonl big.jsonl >bigger.jsonl
$tok --save-every 1T --val 0.1 --val-out early.val -o early.zst bigger.jsonl &
pid=$!
for _ in $(seq 1000); do [ -e early.val.docs.part ] && break; sleep 0.005; done
kill -TERM $pid
wait $pid 2>/dev/null
ok "a signal ends it" test $? = 143
ok "... and before its first state leaves nothing" none early
rm bigger.jsonl

# Killed anywhere.
resumable="$BIN/tokenize --save-every 256K --val 0.1 --val-out kv.zst -o k.zst big.jsonl"
$resumable -q &
pid=$!
for _ in $(seq 1000); do [ -e k.zst.state ] && break; sleep 0.005; done
kill -KILL $pid 2>/dev/null
wait $pid 2>/dev/null
interrupted=$([ -e k.zst.state ] && echo yes)
ok "goes on after a kill" eval '$resumable 2>log'
if [ "$interrupted" ]; then ok "... where it was" grep -q "going on after" log; else skip "... where it was" "the run was over too soon"; fi
same "... with the same bytes" t2.zst k.zst
same "... of validation" v2.zst kv.zst
rm -f k.zst* kv.zst*
for i in 05 10 15 20 30 40; do
	$resumable -q &
	pid=$!
	sleep 0.$i
	kill -KILL $pid 2>/dev/null
	wait $pid 2>/dev/null
done
ok "six kills" $resumable -q
same "... the same bytes" t2.zst k.zst
same "... of validation" v2.zst kv.zst
ok "no debris" test -z "$(ls | grep -E 'part|state')"
ok "nanoGPT's format resumes too" eval '
	$BIN/tokenize -q --to nanogpt --save-every 256K -o kn.bin big.jsonl & pid=$!
	for _ in $(seq 1000); do [ -e kn.bin.state ] && break; sleep 0.005; done
	kill -KILL $pid; wait $pid; $tok --to nanogpt -o kn.bin big.jsonl && flat u.zst | cmp - kn.bin'

# What is refused.
fails 1 "a cut line" "'lines.bad' line 7" $tok -o x lines.bad
fails 1 "two bad lines: the first is named, whatever the threads" "'twice.bad' line 3001: the field is not a string" $tok -j 3 -o x twice.bad
fails 1 "a bad line in a member" "'bad.tar' member 'b.json' line 41: damaged JSON" $tok -j 3 -o x bad.tar
fails 1 "a damaged first line" "'first.bad' line 1" $tok -o x first.bad
fails 1 "a line without the field" "'nofield.jsonl' line 2: no such field ('text' is wanted)" $tok -o x nofield.jsonl
fails 1 "a field that is not there" "('body' is wanted)" $tok --field body -o x "$tiny"
fails 1 "no such file" "none.jsonl" $tok -o x none.jsonl
fails 1 "a damaged member" "'bad.deb' member 'data.tar.xz" $tok -o x bad.deb
fails 1 "archives without a bottom" "nested" $tok -o x deep
echo "one document" >one.txt
ok "one document and --val: said" eval '$tok --val 0.1 --val-out one-val.zst -o one.zst one.txt 2>&1 | grep -q "no document went to .one-val.zst.: cut the text"'
fails 1 "llm.c's file of another version" "version 7" $tok -o x v7.bin
fails 1 "a token beyond the vocabulary" "65535" $tok -o x beyond.bin
head -c -2 l.bin >cut.bin
fails 1 "a cut llm.c file" "truncated" $tok -o x cut.bin
for f in members.jsonl.gz c.jsonl.xz c.bz2 c.jsonl.zst owt.tar.xz z want.zst; do
	head -c $(($(stat -c %s $f) * 2 / 3)) $f >cut.$f
	fails 1 "a cut $f" "cut.$f" $tok -o x cut.$f
done
fails 1 "nothing to read" "no documents" $tok -o x --match none t.tar
: >empty
fails 1 "an empty file" "no documents" $tok -o x empty
echo 40 >rows
fails 1 "a row that is not there" "document 40" $tok --val-rows rows --val-out y -o x "$tiny"
echo 1 1 >rows
fails 1 "a row twice" "twice" $tok --val-rows rows --val-out y -o x "$tiny"
echo one >rows
fails 1 "no row" "'one'" $tok --val-rows rows --val-out y -o x "$tiny"
fails 1 "text to decode" "not tokens" $tok -d "$tiny"
fails 1 "a full disk" "write" eval '$tok -o - "$tiny" >/dev/full'
ok "nothing is left of failures" test -z "$(ls | grep -E '^[xy]($|\.)|part|state')"
fails 2 "--val without --val-out" "--val-out" $tok --val 0.1 -o x "$tiny"
fails 2 "--val and --val-rows" "exclude" $tok --val 0.1 --val-rows rows --val-out y -o x "$tiny"
fails 2 "--val 2" "--val" $tok --val 2 --val-out y -o x "$tiny"
fails 2 "--to elsewhere" "--to" $tok --to elsewhere -o x "$tiny"
fails 2 "--to llmc on a pipe" "llmc" eval '$tok --to llmc "$tiny"'
done_testing
