"""peer: what the peers' scripts share.  A peer prepares, runs its work once to warm up, and then measures one
repetition for each line on standard input: {"seconds", "amount", "peak_mb", …} as JSON, so that repetitions of
several programs can alternate."""
import json
import os
import resource
import struct
import subprocess
import sys
import time

import numpy as np


def serve(work, **about):
    """work() -> (amount, {more}) is one repetition; about: said once it is warm."""
    work()
    print(json.dumps(about), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        amount, more = work()
        print(json.dumps({"seconds": time.perf_counter() - start, "amount": amount, **more,
                          "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}), flush=True)


def shard(path, dtype, values):
    """The first values of a shard, as any reader of zstd sees it."""
    size = values * np.dtype(dtype).itemsize
    with subprocess.Popen(["zstd", "-qdc", path], stdout=subprocess.PIPE) as zstd:
        data = zstd.stdout.read(size)
        zstd.stdout.close()
    return np.frombuffer(data, dtype)


def activations(path, values):
    """The same of a shard of bf16 or f16, as float32."""
    if b"dtype bf16" in open(path, "rb").read(4096):
        return (shard(path, "<u2", values).astype("<u4") << 16).view("<f4")
    return shard(path, "<f2", values).astype("<f4")


def safetensors(path):
    raw = open(path, "rb").read()
    n, = struct.unpack("<Q", raw[:8])
    return {k: np.frombuffer(raw[8 + n:][slice(*v["data_offsets"])], "<f4").reshape(v["shape"])
            for k, v in json.loads(raw[8:8 + n]).items() if k != "__metadata__"}


def write_safetensors(path, tensors, meta):
    header, at = {"__metadata__": {k: str(v) for k, v in meta.items()}}, 0
    for name, t in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(t.shape), "data_offsets": [at, at + t.nbytes]}
        at += t.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for t in tensors.values():
            f.write(np.ascontiguousarray(t, "<f4").tobytes())


def torch_setup(precision):
    """torch with a thread for each processor this process may use, and the context to compute in."""
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.manual_seed(1)
    return torch, lambda: torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")
