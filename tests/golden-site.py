"""golden-site.py make FIXTURES | check FIXTURES SITE -- the fixture feature_page as inputs of topk (gpt.safetensors,
sae.safetensors, tokens.zst), and what the site made of them says against the fixture.

The reference shows 9 features and looks at S sampled tokens of each context; topk takes every token.  With -k as large as
a feature has firings, all of them are listed with their windows, and those at sampled tokens must be the reference's.
The tokens are the fixture's contexts one after another, so the last token of a context is followed, and its effects are
measured at, the first of the next context rather than the reference's own target: there the number comes
from the formula, computed here in double.  A line is "ok NAME" or "not ok NAME".
Leaves the file marks: of each feature, where the page is to underline its strongest examples."""
import base64
import json
import sys

import numpy as np

from formats import read_chunk, write_shard, write_tensors
from gpt import Gpt, tensors

mode, folder = sys.argv[1:3]
about = json.load(open(folder + "/feature_page.json"))
model_about = json.load(open(folder + "/pipeline_model.json"))
fix = tensors(folder + "/feature_page.safetensors")
X, Y = fix["X"], fix["Y"]
N, T = X.shape


def make():
    weights = tensors(folder + "/pipeline_model.safetensors")

    def part(prefix):
        return {k[len(prefix):]: (v.shape, v) for k, v in weights.items() if k.startswith(prefix)}
    write_tensors("gpt.safetensors", part("gpt."), {"n_head": model_about["gpt"]["n_head"]})
    write_tensors("sae.safetensors", part("sae."), {})
    write_shard("tokens.zst", "u16", 1, np.append(X.ravel(), Y[-1, -1]).astype("<u2").tobytes())


failed = False


def check(ok, name):
    global failed
    print(("ok " if ok else "not ok ") + name)
    failed |= not ok


def near(got, want, name, rel, tol):
    """|got - want| <= tol + rel·|want| everywhere"""
    got, want = np.asarray(got, float), np.asarray(want, float)
    same = got.shape == want.shape
    worst = (np.abs(got - want) - rel * np.abs(want)).max(initial=0) if same else np.inf
    check(same and got.size > 0 and worst <= tol, "%s (%d numbers)" % (name, got.size))


LATENT, EFFECT, LOGIT = (1e-4, 5e-5), (0, 1e-4), (1e-4, 2e-5)   # relative, absolute: fixtures' tolerances


class Site:
    def __init__(self, path):
        self.path, self.index = path, read_chunk(path, "site")["index"]
        self.sizes = read_chunk(path, "site")["chunks"]

    def numbers(self, name, dtype):
        return np.concatenate([self.packed(read_chunk(self.path, "n%d" % i)[name], dtype)
                               for i in range(-(-self.index["features"] // self.sizes["numbers"]))])

    @staticmethod
    def packed(text, dtype):
        return np.frombuffer(base64.b64decode(text), dtype)

    def feature(self, f):
        group = self.sizes["group"]
        return read_chunk(self.path, "f%d" % (f // group))[f % group]

    def examples(self, f):
        """centre, tokens, activations, effects on log-probability, on logits; None where there is none"""
        for x in self.feature(f)["examples"]:
            if not x:
                yield None
                continue
            tokens = self.packed(x[1], "<u2").astype(int)
            values = np.zeros((3, len(tokens)))
            for w, *v in zip(*[iter(x[2])] * 4):
                values[:, w] = v
            yield (x[0], tokens, *values)


class Truth:
    """What the fixture says of every token, in order of contexts; effects at their last tokens from the formula."""
    def __init__(self):
        self.acts = fix["feature_acts"].astype(float)
        self.logit, self.logprob = (fix[k].astype(float) for k in ("logits_diff", "logprob_diff"))
        self.following = np.append(X[1:, 0], Y[-1, -1])
        gpt = Gpt("gpt.safetensors", heads=model_about["gpt"]["n_head"])
        decoder = tensors("sae.safetensors")["decoder.weight"].astype(float)
        middle = gpt.middle(X)
        hidden = gpt.hidden(middle)
        resid = (middle + hidden @ gpt.layer("mlp.c_proj").T)[:, -1]
        head = [gpt.w["transformer.wte.weight"], gpt.w["transformer.ln_f.weight"]]
        for h, f in enumerate(fix["features"]):
            without = (hidden[:, -1] - self.acts[:, -1, h, None] * decoder[:, f]) @ gpt.layer("mlp.c_proj").T + middle[:, -1]
            z = [gpt.norm(x, head[1]) @ head[0].T for x in (resid, without)]
            own = [a[np.arange(N), Y[:, -1]] for a in z]
            mine = [a[np.arange(N), self.following] for a in z]
            lse = [np.log(np.exp(a).sum(1)) for a in z]
            # the formula itself, at the reference's targets
            near(own[0] - own[1], self.logit[:, -1, h], "formula of effects on logits, feature %d" % f, *EFFECT)
            near(own[0] - own[1] - lse[0] + lse[1], self.logprob[:, -1, h], "formula of effects, feature %d" % f, *EFFECT)
            self.logit[:, -1, h] = mine[0] - mine[1]
            self.logprob[:, -1, h] = mine[0] - mine[1] - lse[0] + lse[1]


def contexts(site, features, R):
    """Which of the fixture's contexts the c-th that topk read is: from the tokens shown."""
    left = {}
    for f in features:
        for x in site.examples(f):
            if x:
                c, t = divmod(x[0], T)
                at = [(t - R + w, i) for w, i in enumerate(x[1]) if i != 0xFFFF]
                fits = left.setdefault(c, set(range(N)))
                fits &= {r for r in fits if all(X[r, p] == i for p, i in at)}
    check(sorted(left) == list(range(N)) and sorted(min(v) for v in left.values()) == list(range(N)) and
          all(len(v) == 1 for v in left.values()), "every context was read, once")
    return {c: min(v) for c, v in left.items() if v}


def whole(site, truth, row, f, h, R):
    """All firings of a feature are listed, with the fixture's numbers in their windows; returns (context, token, example)."""
    K = site.index["top_k"]
    got, want, seen, tokens_ok, centred = [], [], [], True, True
    for x in list(site.examples(f))[:K]:
        if not x:
            continue
        c, t = divmod(x[0], T)
        r = row[c]
        seen.append((r, t, x))
        for w in range(2 * R + 1):
            p = t - R + w
            inside = 0 <= p < T
            tokens_ok &= x[1][w] == (X[r, p] if inside else 0xFFFF)
            got.append([a[w] for a in x[2:]])
            want.append([a[r, p, h] if inside else 0 for a in (truth.acts, truth.logprob, truth.logit)])
    got, want = np.reshape(got, (-1, 3)), np.reshape(want, (-1, 3))
    fires = {tuple(i) for i in np.argwhere(truth.acts[:, :, h] > 5e-5)}
    listed = {(r, t) for r, t, _ in seen}
    near_zero = {tuple(i) for i in np.argwhere(truth.acts[:, :, h] > 0)} - fires
    check(fires <= listed <= fires | near_zero and len(listed) == len(seen), "feature %d: all %d firings are listed" % (f, len(seen)))
    if not seen:
        return seen
    check(tokens_ok, "feature %d: tokens of their windows" % f)
    near(got[:, 0], want[:, 0], "feature %d: activations in windows" % f, *LATENT)
    near(got[:, 1], want[:, 1], "feature %d: effects on log-probability of the next token, at the token before it" % f, *EFFECT)
    near(got[:, 2], want[:, 2], "feature %d: effects on its logit" % f, *EFFECT)
    return seen


def as_reference(seen, f, h, R):
    """Of all firings, those at sampled tokens: the reference's lists."""
    S, K = fix["token_idx"].shape[1], about["num_top_activations"]
    place = {(r, t): r * S + j for r, row in enumerate(fix["token_idx"]) for j, t in enumerate(row)}
    mid = [(place[r, t], x) for r, t, x in seen if (r, t) in place]
    n = len(mid)
    facts = about["features"][str(f)]
    check(abs(n - fix["num_nonzero_mid"][h]) <= 3, "feature %d: firings at sampled tokens" % f)
    if not n:
        return
    acts = np.array([x[2][R] for _, x in mid])
    near(acts, fix["sorted_mid_acts"][:n, h], "feature %d: activations at sampled tokens, descending" % f, *LATENT)
    k = min(n, K)
    if facts["min_gap_in_top_activations"] > 1e-4:
        check([i for i, _ in mid[:k]] == list(fix["top_rows"][:k, h]), "feature %d: top activations" % f)
        check((np.array([x[1] for _, x in mid[:k]]) == fix["top_tokens"][:k, :, h]).all(), "feature %d: their tokens" % f)
        near([x[2] for _, x in mid[:k]], fix["top_feature_acts"][:k, :, h], "feature %d: their activations" % f, *LATENT)
        last = np.array([[t - R + w == T - 1 for w in range(2 * R + 1)] for r, t, x in seen if (r, t) in place][:k])
        near(np.where(last, 0, [x[4] for _, x in mid[:k]]), np.where(last, 0, fix["top_logits_diff"][:k, :, h]),
             "feature %d: their effects on logits" % f, *EFFECT)
    # equal counts: not on the page, but the same numbers from it
    for i in facts.get("intervals", []):
        j, I = i["j"], about["num_intervals"]
        start = j * n // I
        part = acts[start:start + n // I]
        near([start, start + n // I, part[0], part[-1]], [i[k] for k in ("start", "stop", "max_act", "min_act")],
             "feature %d: reference's interval %d, by rank" % (f, j), *LATENT)


def statistics(site, truth, f, h):
    a = truth.acts[:, :, h].ravel()
    a = a[a > 0]
    page, I, H, M, K = site.feature(f), site.index["intervals"], site.index["bins"], site.index["samples"], site.index["top_k"]
    numbers = [site.numbers(k, d)[f] for k, d in (("active", "<u4"), ("max", "<f4"), ("mean", "<f4"))]
    near(numbers, [len(a), a.max(initial=0), a.mean() if len(a) else 0], "feature %d: firings, maximum, mean" % f, *LATENT)
    check(abs(numbers[0] / site.index["tokens"] - len(a) / (N * T)) < 1e-9, "feature %d: density is firings over all tokens read" % f)
    most = a.max(initial=0)
    doubt = lambda edges: sum((np.abs(a - e) < 5e-5 + 1e-4 * e).sum() for e in edges)     # too near an edge to tell
    for name, parts, got in (("histogram: equal bars of (0, max]", H, page["hist"]),
                             ("intervals are equal in activation: (max·(I-1-i)/I, max·(I-i)/I]", I, page["interval"][::-1])):
        want = [((a > most * j / parts) & (a <= most * (j + 1) / parts)).sum() if j + 1 < parts else (a > most * j / parts).sum()
                for j in range(parts)]
        check(np.abs(np.array(got) - want).sum() <= 2 * doubt(most * np.arange(parts) / parts) and sum(got) == len(a),
              "feature %d: %s" % (f, name))
    ok, shown = True, 0
    for e, x in enumerate(list(site.examples(f))[K:]):
        i = e // M
        shown += x is not None
        if x:
            mine = x[2][len(x[2]) // 2]
            ok &= most * (I - 1 - i) / I * (1 - 1e-4) < mine <= most * (I - i) / I * (1 + 1e-4)
    check(ok and shown == sum(min(M, n) for n in page["interval"]), "feature %d: samples lie in them, as many as there are" % f)
    effects = truth.logit[:, :, h][truth.acts[:, :, h] > 0]
    near(page["logitEffect"], [effects.mean(), np.abs(effects).mean()] if len(effects) else [0, 0],
         "feature %d: mean effect on the next token's logit" % f, *EFFECT)


def reference_density(f, h, R):
    """The reference's: of all tokens of the sampled windows, neighbours and overlaps counted."""
    windows = [fix["feature_acts"][r, t - R:t + R + 1, h] for r, row in enumerate(fix["token_idx"]) for t in row]
    near([100 * (np.array(windows) > 0).mean()], [about["features"][str(f)]["density_percent_over_windows"]],
         "feature %d: the reference's density counts windows" % f, 1e-6, 0)


def logit_weights(site, f, h):
    page, L, H = site.feature(f), site.index["logits"], site.index["bins"]
    all_of = fix["attributed_logits"][h].astype(float)
    want = np.append(fix["top_logits"][h], fix["bottom_logits"][h])
    near(page["logits"], want, "feature %d: top and bottom logits" % f, *LOGIT)
    if about["features"][str(f)]["min_gap_in_logit_lists"] > 1e-4:
        check(list(site.packed(page["logitIds"], "<u2")) == [*fix["top_logit_ids"][h], *fix["bottom_logit_ids"][h]],
              "feature %d: their tokens" % f)
    near(page["logitRange"], [all_of.min(), all_of.max()], "feature %d: range of logit weights" % f, *LOGIT)
    bars, edges = np.histogram(all_of, H, (all_of.min(), all_of.max()))
    doubt = sum((np.abs(all_of - e) < 1e-4).sum() for e in edges[1:-1])
    check(np.abs(np.array(page["logitHist"]) - bars).sum() <= 2 * doubt and sum(page["logitHist"]) == len(all_of),
          "feature %d: histogram of logit weights" % f)


def marks(truth, seen, h, R):
    """What the page draws of the ten strongest: of each token shown o or, where taking the feature out makes this very
    token, as the next one, less or more likely, - or +; any character where that is too near the page's threshold."""
    most = max(0.1, max(abs(truth.logprob[r, t, h]) for r, t, _ in seen))
    lines = []
    for r, t, _ in seen[:10]:
        line = ""
        for p in range(max(0, t - R), min(T, t + R + 1)):
            e = truth.logprob[r, p - 1, h] / most if p > t - R and p else 0
            line += "." if abs(abs(e) - 0.02) < 1e-3 else "-" if e > 0.02 else "[+]" if e < -0.02 else "o"
        lines.append(line)
    return " ".join(lines)


def kinds(site, row):
    """Of all features, from their listed firings: the reference's counts at sampled tokens, and its kinds."""
    F, K = site.index["features"], site.index["top_k"]
    sampled = {(r, t) for r, ts in enumerate(fix["token_idx"]) for t in ts}
    count = np.zeros(F, int)
    for f in range(F):
        count[f] = sum((row[x[0] // T], x[0] % T) in sampled for x in list(site.examples(f))[:K] if x)
    check((site.numbers("active", "<u4") <= K).all(), "no feature has more firings than are listed")
    check(np.abs(count - fix["num_nonzero_mid_all"]).max() <= 3 and (count != fix["num_nonzero_mid_all"]).sum() <= 5,
          "firings at sampled tokens, all features")
    few = about["num_intervals"] * about["samples_per_interval"]
    near([(count == 0).sum(), ((count > 0) & (count < few)).sum(), (count >= few).sum()],
         [about["kinds"][k] for k in ("dead", "ultralow", "alive")], "the reference's kinds, by firings at sampled tokens", 0, 3)
    active = site.numbers("active", "<u4") / site.index["tokens"]
    d = read_chunk(site.path, "site")["density"]
    check([d["dead"], d["ultraLow"], d["high"]] == [(active == 0).sum(), ((active > 0) & (active < d["cut"])).sum(),
                                                    (active >= d["cut"]).sum()], "kinds of the page: by density over all tokens")


def main():
    if mode == "make":
        return make()
    site, truth = Site(sys.argv[3]), Truth()
    R = about["window_radius"]
    drawn = []
    check((site.index["contexts"], site.index["block"], site.index["radius"], site.index["top_radius"]) == (N, T, R, R), "shape")
    row = contexts(site, range(site.index["features"]), R)
    for h, f in enumerate(fix["features"]):
        seen = whole(site, truth, row, f, h, R)
        as_reference(seen, f, h, R)
        if seen:
            drawn.append("%d\t%s" % (f, marks(truth, seen, h, R)))
        statistics(site, truth, f, h)
        reference_density(f, h, R)
        logit_weights(site, f, h)
    kinds(site, row)
    open("marks", "w").write("\n".join(drawn) + "\n")
    return failed


sys.exit(main())
