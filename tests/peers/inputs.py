"""inputs.py stretch GPT OUT POSITIONS -- the GPT with its positions' embeddings interpolated to more of them
inputs.py slice SAE OUT FEATURES      -- the autoencoder's first features alone"""
import json
import struct
import sys

import numpy as np
from peer import safetensors, write_safetensors

action, source, out, count = *sys.argv[1:4], int(sys.argv[4])
with open(source, "rb") as f:
    meta = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))["__metadata__"]
tensors = safetensors(source)
if action == "stretch":
    name = "transformer.wpe.weight"
    wpe = tensors[name]
    at = np.linspace(0, len(wpe) - 1, count)
    tensors[name] = np.stack([np.interp(at, np.arange(len(wpe)), column) for column in wpe.T], 1).astype("<f4")
    meta["block_size"] = count
else:
    for name, axis in ("encoder.weight", 0), ("encoder.bias", 0), ("decoder.weight", 1):
        tensors[name] = np.take(tensors[name], range(count), axis)
    meta["features"] = count
    meta.pop("gpt", None)   # it is to be looked at with the stretched GPT
write_safetensors(out, tensors, meta)
