"""check-top.py GPT SAE TOKENS DIR -- recomputes a directory of topk in double precision from the checkpoints and the
raw uint16 tokens; TAP.  The windows of the run must cover all tokens and its examples whole contexts (radius and top radius >= T - 1):
then nothing need be known about the order in which contexts are read."""
import json
import math
import os
import struct
import subprocess
import sys

import numpy as np


def tensors(path):
    raw = open(path, "rb").read()
    n, = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8:8 + n])
    return {name: np.frombuffer(raw, "<f4", (t["data_offsets"][1] - t["data_offsets"][0]) // 4, 8 + n + t["data_offsets"][0])
            .reshape(t["shape"]).astype(float) for name, t in header.items() if name != "__metadata__"}, \
        header.get("__metadata__", {})


gpt_path, sae_path, tokens_path, out = sys.argv[1:]
g, gpt_meta = tensors(gpt_path)
s, sae_meta = tensors(sae_path)
index = json.load(open(os.path.join(out, "index.json")))
L, NH = int(gpt_meta["n_layer"]), int(gpt_meta["n_head"])
T, K, I, M, H, N, A, B, P = (index[k] for k in ("block", "top_k", "intervals", "samples", "bins", "near", "align",
                                                "neighbours", "sampled"))
wte = g["transformer.wte.weight"]
V, C = wte.shape
F, E, R, W = index["features"], K + I * M, T - 1, 2 * T - 1
count = 0


def field(name):
    f = index["fields"][name]
    data = subprocess.run(["zstd", "-qdc", os.path.join(out, f["file"])], stdout=subprocess.PIPE, check=True).stdout
    return np.frombuffer(data, {"u16": "<u2", "u32": "<u4", "f32": "<f4"}[f["dtype"]]).reshape(f["rows"], f["cols"])


def check(ok, name):
    global count
    count += 1
    print("%sok %d - %s" % ("" if ok else "not ", count, name))
    check.failed |= not ok


check.failed = False


def norm(x, name):
    m = x.mean(-1, keepdims=True)
    y = (x - m) / np.sqrt(((x - m) ** 2).mean(-1, keepdims=True) + 1e-5) * g[name + ".weight"]
    return y + g.get(name + ".bias", 0)


def linear(x, name):
    return x @ g[name + ".weight"].T + g.get(name + ".bias", 0)


def attention(x, h):
    q, k, v = np.split(linear(x, h + "attn.c_attn"), 3, -1)
    q, k, v = (a.reshape(T, NH, C // NH).transpose(1, 0, 2) for a in (q, k, v))
    score = q @ k.transpose(0, 2, 1) / math.sqrt(C // NH)
    score[:, np.triu(np.ones((T, T), bool), 1)] = -np.inf
    p = np.exp(score - score.max(-1, keepdims=True))
    return linear((p / p.sum(-1, keepdims=True) @ v).transpose(1, 0, 2).reshape(T, C), h + "attn.c_proj")


erf = np.vectorize(math.erf)


def forward(ids):
    """activations behind the last GELU (T,4C) and the final residual stream (T,C)"""
    x = wte[ids] + g["transformer.wpe.weight"][:T]
    for i in range(L):
        h = "transformer.h.%d." % i
        x = x + attention(norm(x, h + "ln_1"), h)
        u = linear(norm(x, h + "ln_2"), h + "mlp.c_fc")
        acts = u * 0.5 * (1 + erf(u / math.sqrt(2)))
        x = x + linear(acts, h + "mlp.c_proj")
    return acts, x


def logits(x):
    return norm(x, "transformer.ln_f") @ wte.T


def log_softmax(x, target):
    z = logits(x)
    return z[target] - z.max() - math.log(np.exp(z - z.max()).sum())


stream = np.fromfile(tokens_path, "<u2").astype(int)
n = (len(stream) - 1) // T
windows = [stream[i * T:i * T + T] for i in range(n)]
following = [stream[i * T + T] for i in range(n)]
ran = [forward(w) for w in windows]
acts = np.stack([np.maximum((a - s["decoder.bias"]) @ s["encoder.weight"].T + s["encoder.bias"], 0) for a, _ in ran])
flat = acts.reshape(n * T, F)
check(index["contexts"] == n and index["tokens"] == n * T, "all windows were read")
check(index["gpt"] == gpt_meta and index["sae"] == sae_meta, "metadata of both models")
check(min(index["radius"], index["top_radius"]) >= T - 1, "examples show whole contexts")

# ---- statistics
close = 1e-5 * (1 + flat.max(0))                # how far float32 may be away
active, top, mean = field("active")[:, 0], field("max")[:, 0], field("mean")[:, 0]
doubtful = (np.abs(np.stack([(a - s["decoder.bias"]) @ s["encoder.weight"].T + s["encoder.bias"] for a, _ in ran])
                   .reshape(n * T, F)) < close).sum(0)
check((np.abs(active.astype(int) - (flat > 0).sum(0)) <= doubtful).all(), "active tokens")
check((np.abs(top - flat.max(0)) <= close).all(), "maxima")
with np.errstate(invalid="ignore"):
    mean_ref = np.where(active > 0, flat.sum(0) / np.maximum(active, 1), 0)
check((np.abs(mean - mean_ref) <= close + 1e-5).all(), "means of active tokens")
check((active == 0).any() and (active > 300).any(), "features are dead and frequent")


def counts(k, parts):
    """tokens of feature k in equal parts of (0, max], and how many are too near an edge to tell"""
    edges = top[k] * np.arange(parts + 1) / parts
    v = flat[:, k][flat[:, k] > 0]
    near = (np.abs(v[:, None] - edges[None, :-1]) < close[k]).sum() + (v > edges[-1]).sum()
    part = np.clip(np.searchsorted(edges, np.minimum(v, edges[-1]), "left") - 1, 0, parts - 1)
    return np.bincount(part, minlength=parts), near


def counted(name, got, parts, backwards):
    ok = True
    for k in range(F):
        want, near = counts(k, parts) if top[k] > 0 else (np.zeros(parts, int), 0)
        ok &= np.abs(got[k].astype(int) - (want[::-1] if backwards else want)).sum() <= 2 * near
        ok &= got[k].sum() == active[k]
    check(ok, name)


counted("histogram", field("hist"), H, False)
intervals = field("interval")
counted("intervals", intervals, I, True)

# ---- examples
centre = field("centre").reshape(F, E)
RADII = [index["top_radius"]] * K + [index["radius"]] * (I * M)


def examples(name, nothing):
    """(F,E,W): R = T - 1 places on either side of each centre; those further out hold nothing."""
    cells, at, empty, parts = field(name), 0, True, []
    for radius in RADII:
        window = cells[:, at:at + 2 * radius + 1]
        parts.append(window[:, radius - R:radius + R + 1])
        empty &= (window[:, :radius - R] == nothing).all() and (window[:, radius + R + 1:] == nothing).all()
        at += 2 * radius + 1
    check(empty and at == cells.shape[1], "%s: strongest in wide windows, samples in narrow ones" % name)
    return np.stack(parts, 1)


shown, f_shown, effects, logit_effects = (examples(*x) for x in (
    ("tokens", 0xFFFF), ("acts", 0), ("effects", 0), ("logit_effects", 0)))
is_there = centre != 0xFFFFFFFF
by_content = {}
for c, w in enumerate(windows):
    by_content.setdefault(w.tobytes(), []).append(c)
context_of, ok_tokens, ok_acts, ok_empty, ok_one = {}, True, True, True, True
for k in range(F):
    for e in range(E):
        t = int(centre[k, e]) % T
        inside = slice(R - t, R - t + T)
        outside = np.r_[0:R - t, R - t + T:W]
        if not is_there[k, e]:
            ok_empty &= (shown[k, e] == 0xFFFF).all() and (f_shown[k, e] == 0).all() and (effects[k, e] == 0).all() and \
                (logit_effects[k, e] == 0).all()
            continue
        found = by_content.get(shown[k, e, inside].astype(int).tobytes())
        ok_tokens &= found is not None and (shown[k, e, outside] == 0xFFFF).all()
        if not found:
            continue
        c = found[0]
        ok_one &= context_of.setdefault(int(centre[k, e]) // T, c) == c
        ok_acts &= (np.abs(f_shown[k, e, inside] - acts[c, :, k]) <= close[k]).all() and \
            (f_shown[k, e, outside] == 0).all() and (effects[k, e, outside] == 0).all()
check(ok_tokens, "tokens of examples are windows of the stream")
check(ok_one, "a context's number stands for one window")
check(ok_acts, "activations of examples")
check(ok_empty, "missing examples are empty")

ok_top, ok_order, ok_inside, ok_number, ok_distinct = True, True, True, True, True
for k in range(F):
    at = f_shown[k, :, R]
    best = np.sort(flat[:, k])[::-1][:K]
    here = is_there[k, :K]
    ok_top &= here.sum() == min(K, active[k]) and (np.abs(at[:K][here] - best[:here.sum()]) <= close[k]).all()
    ok_top &= top[k] == 0 or at[0] == top[k]
    groups = [slice(0, K)] + [slice(K + i * M, K + (i + 1) * M) for i in range(I)]
    for j, group in enumerate(groups[:1 + I * (M > 0)]):
        here = is_there[k, group]
        v, who = at[group][here], centre[k, group][here].astype(int)
        ok_order &= all(v[i] > v[i + 1] or (v[i] == v[i + 1] and who[i] < who[i + 1]) for i in range(len(v) - 1))
        ok_order &= not (np.diff(here.astype(int)) > 0).any()       # the missing ones are last
        ok_distinct &= len(set(who)) == len(who)
        if j:
            ok_number &= here.sum() == min(M, intervals[k, j - 1])
            lo, hi = float(top[k]) * (I - j) / I, float(top[k]) * (I - j + 1) / I
            ok_inside &= ((v > lo) & (v <= hi)).all()
check(ok_top, "strongest activations")
check(ok_order, "groups descend, ties by token")
check(ok_number, "samples of an interval: as many as there are")
check(ok_inside, "samples lie in their interval")
check(ok_distinct, "no token twice in a group")

# ---- effects: the model with the feature taken out, head and all
proj = g["transformer.h.%d.mlp.c_proj.weight" % (L - 1)]
places = [(k, e, i) for k in range(F) for e in range(E) for i in range(W) if f_shown[k, e, i] > 0]
check((effects[f_shown == 0] == 0).all() and (logit_effects[f_shown == 0] == 0).all(), "no effect where the feature is not active")
worst = largest = worst_logit = largest_logit = 0
for k, e, i in places[::max(1, len(places) // 400)]:
    t = int(centre[k, e]) % T - R + i
    c = by_content[shown[k, e, R - int(centre[k, e]) % T:][:T].astype(int).tobytes()]
    r = ran[c[0]][1][t]
    target = windows[c[0]][t + 1] if t + 1 < T else None
    without = r - float(f_shown[k, e, i]) * (proj @ s["decoder.weight"][:, k])
    nexts = [target] if target is not None else [following[x] for x in c]
    wants = [log_softmax(r, y) - log_softmax(without, y) for y in nexts]
    change = norm(r, "transformer.ln_f") - norm(without, "transformer.ln_f")
    worst_logit = max(worst_logit, min(abs(logit_effects[k, e, i] - change @ wte[y]) for y in nexts))
    largest_logit = max(largest_logit, abs(change @ wte[nexts[0]]))
    worst = max(worst, min(abs(effects[k, e, i] - w) for w in wants))
    largest = max(largest, abs(wants[0]))
check(worst < 1e-4 and largest > 0.1, "effects (off by %.2g, largest %.2g)" % (worst, largest))
check(worst_logit < 1e-4 and largest_logit > 0.1, "effects on logits (off by %.2g, largest %.2g)" % (worst_logit, largest_logit))

# ---- effects on logits where active: of some features, all tokens
mean_effect = field("logit_effect")
ok_mean = True
resid = np.concatenate([r for _, r in ran])
targets = np.concatenate([np.r_[w[1:], y] for w, y in zip(windows, following)])
for k in np.nonzero(active)[0][:12]:
    on = np.nonzero(flat[:, k] > 0)[0]
    with_f, without = resid[on], resid[on] - flat[on, k][:, None] * (proj @ s["decoder.weight"][:, k])
    found = ((norm(with_f, "transformer.ln_f") - norm(without, "transformer.ln_f")) * wte[targets[on]]).sum(1)
    ok_mean &= np.abs(mean_effect[k] - [found.mean(), np.abs(found).mean()]).max() < 1e-4
check(ok_mean and (mean_effect[active == 0] == 0).all(), "mean effects on logits")

# ---- logit weights
real, listed = min(V, 50257), index["logits"]
ids, values, ranges, bars = (field(x) for x in ("logit_ids", "logits", "logit_range", "logit_hist"))
direction = s["decoder.weight"].T @ proj.T + g.get("transformer.h.%d.mlp.c_proj.bias" % (L - 1), 0)
ok_values, ok_ids, ok_range, ok_bars = True, True, True, True
for k in range(F):
    w = logits(direction[k])
    w = w - np.sort(w)[(V - 1) // 2]
    order = np.argsort(w[:real], kind="stable")
    want = np.r_[order[::-1][:listed], order[:listed]]
    ok_values &= (np.abs(values[k] - w[want]) < 1e-4).all()
    ok_ids &= (np.abs(w[ids[k]] - w[want]) < 1e-4).all() and len(set(ids[k])) == 2 * listed and (ids[k] < real).all()
    ok_range &= abs(ranges[k, 0] - w[:real].min()) < 1e-4 and abs(ranges[k, 1] - w[:real].max()) < 1e-4
    want, _ = np.histogram(w[:real], H, (w[:real].min(), w[:real].max()))
    ok_bars &= bars[k].sum() == real and np.abs(bars[k].astype(int) - want).sum() <= 0.002 * real
check(ok_values, "largest and smallest logit weights")
check(ok_ids, "their tokens, padding left out")
check(ok_range, "range of logit weights")
check(ok_bars, "histogram of logit weights")

# ---- neurons and features of nearly the same decoder column
NONE = 0xFFFFFFFF
column = s["decoder.weight"] / np.linalg.norm(s["decoder.weight"], axis=0)
cos = column.T @ column
np.fill_diagonal(cos, -2)


def largest_of(who, value, all_of, key, want_size, name):
    """Each row lists the want_size largest of all_of (F,n) by key, which descend; to 1e-5"""
    there = who != NONE
    ok = (there.sum(1) == want_size).all() and (value[~there] == 0).all() and (np.diff(there.astype(int)) <= 0).all()
    for k in range(F):
        mine, v = who[k][there[k]], value[k][there[k]]
        ok &= len(set(mine)) == len(mine) and np.abs(v - all_of[k][mine]).max(initial=0) < 1e-5
        ok &= np.abs(key(v) - np.sort(key(all_of[k]))[::-1][:len(v)]).max(initial=0) < 1e-5
        ok &= all(key(v[i]) > key(v[i + 1]) or (key(v[i]) == key(v[i + 1]) and mine[i] < mine[i + 1]) for i in range(len(v) - 1))
    check(ok, name)


near, near_cos, align, align_value = (field(x) for x in ("near", "near_cos", "align", "align_value"))
largest_of(near, near_cos, cos, lambda v: v, min(N, F - 1), "features of largest cosine")
largest_of(align, align_value, column.T, abs, min(A, len(column)), "neurons of largest weight")
check(np.abs(field("align_l1")[:, 0] - np.abs(column).sum(0)).max() < 1e-4, "sums of all weights' sizes")

# ---- company on sampled firings; what they are is known where all are sampled
on_tokens = (flat > 0).astype(np.int64)
sampled, together, share = field("sampled")[:, 0], field("together"), field("together_share")
check((sampled == np.minimum(active, P)).all(), "sampled firings")
both = on_tokens.T @ on_tokens
known = np.nonzero((active == sampled) & (active == np.diag(both)) & (doubtful == 0))[0]
check(len(known) > 10 or P < 1000, "many features have all firings sampled (%d)" % len(known))
ok_share, ok_rank = True, True
for k in range(F):
    here = together[k] != NONE
    who, part = together[k][here].astype(int), share[k][here].astype(float)
    seen = np.round(part * max(1, sampled[k]))
    ok_share &= (share[k][~here] == 0).all() and k not in who and np.abs(part * sampled[k] - seen).max(initial=0) < 1e-3
    ok_share &= (part > 0).all() and (part <= 1).all() and len(set(who)) == len(who)
    n_both = part * active[k]
    score = n_both / (active[k] + active[who] - n_both)
    ok_rank &= (np.diff(score) < 1e-6).all()
    if k not in known:
        continue
    ok_share &= (np.abs(seen - both[k][who]) <= doubtful[who]).all()
    scores = both[k] / (active[k] + active.astype(float) - both[k])
    scores[k] = -1
    order = np.argsort(-scores, kind="stable")[:min(N, (scores > 0).sum())]
    ok_rank &= list(order) == list(who) or doubtful.any() and np.abs(scores[order] - scores[who]).max() < 0.02
check(ok_share, "shares of sampled firings")
check(ok_rank, "features most often together, by Jaccard index")
texts = np.stack(windows)
beside = {"before": np.c_[np.full(n, -1), texts[:, :-1]], "on": texts, "after": np.c_[texts[:, 1:], np.full(n, -1)]}
for name, tokens_there in beside.items():
    ids, counts = field(name), field(name + "_count")
    ok = True
    for k in range(F):
        here = ids[k] != 0xFFFF
        ok &= (counts[k][~here] == 0).all() and (counts[k][here] > 0).all() and counts[k].sum() <= sampled[k]
        ok &= list(zip(-counts[k][here].astype(int), ids[k][here])) == sorted(zip(-counts[k][here].astype(int), ids[k][here]))
        if k in known:
            found = tokens_there.reshape(-1)[on_tokens[:, k] > 0]
            of, times = np.unique(found[found >= 0], return_counts=True)
            order = np.argsort(-times, kind="stable")[:B]
            ok &= list(of[order]) == list(ids[k][here]) and list(times[order]) == list(counts[k][here])
    check(ok, "tokens %s sampled firings" % name)
print("1..%d" % count)
sys.exit(check.failed)
