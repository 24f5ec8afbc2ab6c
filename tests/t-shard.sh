# shard: the format as other programs see it, and damage as the tools see it.
. "$(dirname "$0")/lib.sh"
cd "$TMP" || exit 1
"$BIN/tokenize" -q -o train.zst "$TOP/tests/fixtures/tiny.jsonl" || exit 1
printf '{"text": "one two three"}\n' >small.jsonl
"$BIN/tokenize" -q -o small.zst small.jsonl || exit 1

# Frames, META and seek table by the two specifications alone: zstd's RFC 8878 and contrib/seekable_format.
cat >look.py <<'PY'
import array, struct, subprocess, sys
b = open(sys.argv[1], 'rb').read()
flat = array.array('H', subprocess.run(['zstd', '-dc', sys.argv[1]], stdout=subprocess.PIPE, check=True).stdout)
def skippable(at, magic):
    m, n = struct.unpack_from('<II', b, at)
    assert m == magic, hex(m)
    return b[at + 8:at + 8 + n]
def meta(at):
    body = skippable(at, 0x184D2A57)
    assert body[:8] == b'fmill\0\0\1'
    lines = [l.split(' ', 1) for l in body[8:].decode().splitlines()]
    assert lines[-1][0] == 'sum' and len(lines[-1][1]) == 16
    return dict(lines)
n, descriptor, magic = struct.unpack('<IBI', b[-9:])
assert magic == 0x8F92EAB1 and descriptor == 0x80
table = skippable(len(b) - 8 - 12 * n - 9, 0x184D2A5E)
assert len(table) == 12 * n + 9
entries = [struct.unpack_from('<III', table, 12 * i) for i in range(n)]
at, rows = 0, 0
head, R = meta(0), 0
for i, (packed, raw, check) in enumerate(entries):
    frame = b[at:at + packed]
    if i in (0, n - 1):
        assert raw == 0 and check == 0x51D8E999 and len(skippable(at, 0x184D2A57)) == packed - 8
    else:
        assert struct.unpack('<I', frame[-4:])[0] == check and frame[4] & 4 and frame[:4] == b'\x28\xb5\x2f\xfd'
        alone = subprocess.run(['zstd', '-dc'], input=frame, stdout=subprocess.PIPE, check=True).stdout
        assert len(alone) == raw and alone == flat[rows:rows + raw // 2].tobytes()
        assert i == n - 2 or raw == 2 * int(head['rows-per-frame'])
        rows += raw // 2
    at += packed
assert at == len(b) - 8 - len(table)
stats = meta(at - entries[-1][0])
assert rows == len(flat) == int(stats['rows']) and int(stats['min']) == min(flat) and int(stats['max']) == max(flat)
assert abs(float(stats['mean']) * rows - sum(flat)) < 1e-3 and float(stats['sumsq']) == sum(x * x for x in flat)
PY
ok "a shard is a seekable zstd file to the letter, and flat" python3 look.py train.zst
ok "numpy reads a shard in one line" python3 -c 'import numpy, subprocess
x = numpy.frombuffer(subprocess.check_output(["zstd", "-dc", "train.zst"]), "<u2")
assert len(x) > 1000 and (x == 50256).sum() > 1'
ok "zstd -t" zstd -qt train.zst
ok "zstd -l counts its frames" eval 'zstd -lv train.zst 2>&1 | grep -q "Skippable Frames: 3"'
ok "a shard written by another program" eval '"$TOP/tests/make-top" made 64 && "$BIN/shardls" --check made/top'

# Through the tools; tests/u-shard does every length and every bit.
n=$(wc -c <small.zst)
cut_refused() {
	local i
	for i in $(seq 0 37 $((n - 1))) $((n - 1)); do
		head -c "$i" small.zst >cut.zst
		refused cut.zst || { echo "cut at $i"; return 1; }
	done
}
refused() { # by file and by pipe, in one line
	! "$BIN/shardls" --check -q "$1" 2>said && [ "$(wc -l <said)" = 1 ] &&
		! "$BIN/shardls" -q <"$1" 2>said && [ "$(wc -l <said)" = 1 ]
}
# shardls without what names the file
shown() { "$BIN/shardls" --check --json "$1" | sed 's/"file": "[^"]*", //'; "$BIN/shardls" --rows : "$1"; }
shown small.zst >right
python3 - <<'PY'
b = open('small.zst', 'rb').read()
for bit in range(3, 8 * len(b), 97):
    flipped = bytearray(b)
    flipped[bit // 8] ^= 1 << bit % 8
    open('flip.%d' % bit, 'wb').write(flipped)
PY
flipped_harmless() {
	local f
	for f in flip.*; do
		refused "$f" || shown "$f" 2>said | cmp -s - right || { echo "$f"; return 1; }
	done
}
ok "cut anywhere: refused by file and by pipe" cut_refused
ok "a bit flipped: refused, or the same rows and META" flipped_harmless
done_testing
