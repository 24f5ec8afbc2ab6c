#!/usr/bin/env python3
"""near.py A B TOLERANCE SHARE FILE... -- whether two runs' files, of folders A and B, hold the same numbers.

Numbers agree within TOLERANCE of their size and 1e-2 of it absolutely; all but SHARE of them must.
  X.json, X.jsonl        numbers at any depth; words, but not ids, are equal and all else is, too
  X.TYPE.zst, X.zst      values of a shard: u16, u32 or f32 (without TYPE)
"""
import json
import subprocess
import sys

import numpy as np

folders, tolerance, share = sys.argv[1:3], float(sys.argv[3]), float(sys.argv[4])
# ids; quotients of small differences of losses that are compared themselves
LEFT_OUT = {"gpt", "sae", "loss_recovered", "loss_recovered_mean"}
TYPES = {"u16": "<u2", "u32": "<u4", "f32": "<f4"}


def numbers(value, at, out):
    """Appends (place, number); what is no number becomes part of the place."""
    if isinstance(value, dict):
        for key in sorted(value):
            if key not in LEFT_OUT:
                numbers(value[key], f"{at}.{key}", out)
    elif isinstance(value, list):
        for i, x in enumerate(value):
            numbers(x, f"{at}[{i}]", out)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        out.append((at, value))
    else:
        out.append((f"{at}={value}", 0))


def read(path):
    if path.endswith(".zst"):
        raw = subprocess.run(["zstd", "-qdc", path], stdout=subprocess.PIPE, check=True).stdout
        values = np.frombuffer(raw, TYPES.get(path.split(".")[-2], "<f4")).astype(float)
        return None, values
    out = []
    with open(path, encoding="utf-8") as f:
        numbers([json.loads(line) for line in f] if path.endswith(".jsonl") else json.load(f), "", out)
    return [at for at, _ in out], np.array([x for _, x in out], float)


for file in sys.argv[5:]:
    (places, a), (other, b) = (read(f"{d}/{file}") for d in folders)
    assert places == other, f"{file}: other words or entries"
    assert a.shape == b.shape and a.any(), f"{file}: {a.shape} and {b.shape} values, or all 0"
    far = ~(np.abs(a - b) <= tolerance * (np.abs(a) + 1e-2))
    which = np.flatnonzero(far)[:5]
    assert far.mean() <= share, f"{file}: {far.sum()} of {far.size} differ: " + ", ".join(
        f"{places[i] if places else i}: {a[i]:g} {b[i]:g}" for i in which)
