# gpt: nanoGPT's forward pass of one layer without biases in numpy, in double, for tests
import json, math, struct, subprocess

import numpy as np


def flat(path, dtype):
    """A shard as any reader of zstd sees it."""
    return np.frombuffer(subprocess.run(['zstd', '-qdc', path], stdout=subprocess.PIPE, check=True).stdout, dtype)


def tensors(path):
    """Those of a safetensors file by name, as they are."""
    with open(path, 'rb') as f:
        raw = f.read()
    n, = struct.unpack('<Q', raw[:8])
    return {k: np.frombuffer(raw[8 + n:][slice(*v['data_offsets'])], {'F32': '<f4', 'I32': '<i4'}[v['dtype']]).reshape(v['shape'])
            for k, v in json.loads(raw[8:8 + n]).items() if k != '__metadata__'}


class Gpt:
    def __init__(self, path, heads):
        self.heads = heads
        self.w = {k: v.astype(float) for k, v in tensors(path).items()}

    def layer(self, name):
        return self.w['transformer.h.0.' + name + '.weight']

    @staticmethod
    def norm(x, g):
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * g

    def middle(self, idx):
        """idx (N,T) -> the residual stream after attention (N,T,C)"""
        w, (N, T) = self.w, idx.shape
        x = w['transformer.wte.weight'][idx] + w['transformer.wpe.weight'][:T]
        C = x.shape[2]
        q, k, v = (a.reshape(N, T, self.heads, C // self.heads).swapaxes(1, 2)
                   for a in np.split(self.norm(x, self.layer('ln_1')) @ self.layer('attn.c_attn').T, 3, -1))
        s = q @ k.swapaxes(2, 3) / math.sqrt(C // self.heads)
        s = np.exp(np.where(np.tri(T) > 0, s, -np.inf))
        y = (s / s.sum(-1, keepdims=True) @ v).swapaxes(1, 2).reshape(N, T, C)
        return x + y @ self.layer('attn.c_proj').T

    def hidden(self, middle):
        h = self.norm(middle, self.layer('ln_2')) @ self.layer('mlp.c_fc').T
        return h * (1 + np.vectorize(math.erf)(h / math.sqrt(2))) / 2

    def acts(self, idx):
        return self.hidden(self.middle(idx))

    def nll(self, idx, targets):
        m = self.middle(idx)
        x = self.norm(m + self.hidden(m) @ self.layer('mlp.c_proj').T, self.w['transformer.ln_f.weight'])
        logits = x @ self.w['transformer.wte.weight'].T
        top = logits.max(-1, keepdims=True)
        lse = np.log(np.exp(logits - top).sum(-1)) + top[..., 0]
        return lse - np.take_along_axis(logits, targets[..., None].astype(int), -1)[..., 0]
