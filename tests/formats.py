# formats: the files that tests write and read in Python, from the formats' descriptions alone
import json, re, struct, subprocess, tempfile


def xxh64(data):
    p1, p2, p3, p4, p5 = (0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9,
                          0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5)
    mask = (1 << 64) - 1
    rot = lambda x, r: ((x << r) | (x >> (64 - r))) & mask
    rnd = lambda acc, lane: rot((acc + lane * p2) & mask, 31) * p1 & mask
    at, n = 0, len(data)
    if n >= 32:
        v = [(p1 + p2) & mask, p2, 0, -p1 & mask]
        while at + 32 <= n:
            v = [rnd(a, x) for a, x in zip(v, struct.unpack_from('<4Q', data, at))]
            at += 32
        h = sum(rot(a, r) for a, r in zip(v, (1, 7, 12, 18))) & mask
        for a in v:
            h = ((h ^ rnd(0, a)) * p1 + p4) & mask
    else:
        h = p5
    h = (h + n) & mask
    while at + 8 <= n:
        h = (rot(h ^ rnd(0, struct.unpack_from('<Q', data, at)[0]), 27) * p1 + p4) & mask
        at += 8
    if at + 4 <= n:
        h = (rot(h ^ struct.unpack_from('<I', data, at)[0] * p1 & mask, 23) * p2 + p3) & mask
        at += 4
    for byte in data[at:]:
        h = rot(h ^ byte * p5 & mask, 11) * p1 & mask
    h = (h ^ h >> 33) * p2 & mask
    h = (h ^ h >> 29) * p3 & mask
    return h ^ h >> 32


def meta_frame(lines):
    text = b'fmill\0\0\1' + ''.join(line + '\n' for line in lines).encode()
    text += b'sum %016x\n' % xxh64(text)
    return struct.pack('<II', 0x184D2A57, len(text)) + text


def write_shard(path, dtype, cols, data, lines=()):
    """One shard 0/1: META (with further lines), frames of about 1 MiB, statistics, seek table."""
    size = {'u16': 2, 'u32': 4, 'f32': 4}[dtype] * cols
    rows = len(data) // size
    per = max(1, (1 << 20) // size)
    frames = []
    with tempfile.TemporaryDirectory() as tmp:
        names = []
        for i in range(0, rows, per):
            names.append('%s/%06d' % (tmp, len(names)))
            with open(names[-1], 'wb') as f:
                f.write(data[i * size:(i + per) * size])
        subprocess.run(['zstd', '-q', '-1', '--check'] + names, check=True)
        for i, name in enumerate(names):
            with open(name + '.zst', 'rb') as f:
                frames.append((f.read(), min(per, rows - i * per) * size))
    head = meta_frame(['dtype ' + dtype, 'cols %d' % cols, 'rows-per-frame %d' % per, 'shard 0/1'] + list(lines))
    tail = meta_frame(['rows %d' % rows])
    table = struct.pack('<III', len(head), 0, 0x51D8E999)
    for frame, bytes_ in frames:
        table += struct.pack('<II', len(frame), bytes_) + frame[-4:]
    table += struct.pack('<III', len(tail), 0, 0x51D8E999)
    table += struct.pack('<IBI', len(frames) + 2, 0x80, 0x8F92EAB1)
    with open(path, 'wb') as f:
        f.write(head + b''.join(frame for frame, _ in frames) + tail)
        f.write(struct.pack('<II', 0x184D2A5E, len(table)) + table)


def write_tensors(path, tensors, meta):
    """safetensors of F32: {name: (shape, array of float)}, {key: value}."""
    header, at = {'__metadata__': {k: str(v) for k, v in meta.items()}}, 0
    for name, (shape, data) in tensors.items():
        header[name] = {'dtype': 'F32', 'shape': shape, 'data_offsets': [at, at + len(data.tobytes())]}
        at += len(data.tobytes())
    text = json.dumps(header).encode()
    text += b' ' * (-len(text) % 8)
    with open(path, 'wb') as f:
        f.write(struct.pack('<Q', len(text)) + text)
        for _, data in tensors.values():
            f.write(data.tobytes())


def read_chunk(site, name):
    """What data/NAME.js of a site hands to the page, which is of the same build."""
    with open(site + '/index.html', encoding='utf-8') as f:
        build = re.search('data-build="([0-9a-f]{12})"', f.read())[1]
    with open('%s/data/%s.js' % (site, name), encoding='utf-8') as f:
        text = f.read()
    head, tail = 'chunk("%s",' % name, ',"%s");\n' % build
    assert text.startswith(head) and text.endswith(tail), name
    return json.loads(text[len(head):-len(tail)])
