"""make-model.py GPT SAE [key=value…] -- random checkpoints, larger weights than training starts with, so that
features differ: dead ones, rare ones, frequent ones."""
import array
import random
import sys

sys.dont_write_bytecode = True
from formats import write_tensors

p = dict(layers=1, heads=2, width=16, block=32, vocab=50304, features=96, bias=1, seed=1, floor=0.0, shift=3.0)
for word in sys.argv[3:]:
    key, value = word.split("=")
    p[key] = type(p[key])(value)
rng = random.Random(p["seed"])
C, T, V, F = p["width"], p["block"], p["vocab"], p["features"]
D = 4 * C


def normal(n, scale, mean=0.0):
    return array.array("f", [rng.gauss(mean, scale) for _ in range(n)])


gpt = {"transformer.wte.weight": ([V, C], normal(V * C, 0.5)), "transformer.wpe.weight": ([T, C], normal(T * C, 0.3))}


def layer(name, rows, cols, scale, mean=0.0):
    gpt[name + ".weight"] = ([rows, cols] if cols else [rows], normal(rows * (cols or 1), scale, mean))
    if p["bias"]:
        gpt[name + ".bias"] = ([rows], normal(rows, 0.2))


for i in range(p["layers"]):
    h = "transformer.h.%d." % i
    layer(h + "ln_1", C, 0, 0.1, 1.0)
    layer(h + "attn.c_attn", 3 * C, C, 0.4)
    layer(h + "attn.c_proj", C, C, 0.3)
    layer(h + "ln_2", C, 0, 0.1, 1.0)
    layer(h + "mlp.c_fc", D, C, 0.4)
    layer(h + "mlp.c_proj", C, D, 0.3)
layer("transformer.ln_f", C, 0, 0.1, 1.0)
write_tensors(sys.argv[1], gpt, {"n_layer": p["layers"], "n_head": p["heads"], "n_embd": C, "block_size": T,
                         "vocab_size": V, "bias": p["bias"]})

decoder = []
for f in range(F):
    row = normal(D, 1.0)
    norm = sum(x * x for x in row) ** 0.5
    decoder.append([x / norm for x in row])
write_tensors(sys.argv[2], {
    "encoder.weight": ([F, D], array.array("f", [x * rng.uniform(0.5, 1.5) for row in decoder for x in row])),
    "encoder.bias": ([F], array.array("f", [-p["floor"] - p["shift"] * f / F for f in range(F)])),
    "decoder.weight": ([D, F], array.array("f", [decoder[f][d] * (0.5 + f % 3) for d in range(D) for f in range(F)])),
    "decoder.bias": ([D], normal(D, 0.1)),
}, {"tool": "make-model", "features": F, "inputs": D})
