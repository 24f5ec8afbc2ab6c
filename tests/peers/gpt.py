"""gpt.py train|acts|page f32|bf16 GPT TOKENS [BATCH] -- the GPT's works in PyTorch, as nanoGPT does them: a training
step; activations of 200 tokens of each context to a file; the ablation effects of one feature (page)."""
import math
import os
import sys
import tempfile

from peer import safetensors, serve, shard, torch_setup

WORK, PRECISION, GPT, TOKENS = sys.argv[1:5]
BATCH = int(sys.argv[5]) if len(sys.argv) > 5 else 12
HEADS, KEPT = 4, 200
torch, autocast = torch_setup(PRECISION)
F = torch.nn.functional
FUSED = hasattr(F, "scaled_dot_product_attention")
tokens = torch.from_numpy(shard(TOKENS, "<u2", 4 << 20).astype("i8"))
w = {k.replace("transformer.", "").replace("h.0.", "").replace(".weight", ""): torch.nn.Parameter(torch.from_numpy(v.copy()))
     for k, v in safetensors(GPT).items()}
T, C = w["wpe"].shape
mask = torch.tril(torch.ones(T, T, dtype=torch.bool))


def norm(x, name):
    return F.layer_norm(x, (C,), w[name], None, 1e-5)


def attention(x):
    B = x.shape[0]
    q, k, v = (a.view(B, T, HEADS, C // HEADS).transpose(1, 2) for a in F.linear(x, w["attn.c_attn"]).split(C, 2))
    if FUSED:
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    else:
        s = (q @ k.transpose(2, 3)) * (1 / math.sqrt(C // HEADS))
        y = F.softmax(s.masked_fill(~mask, float("-inf")), -1) @ v
    return F.linear(y.transpose(1, 2).reshape(B, T, C), w["attn.c_proj"])


def middle(idx):
    x = F.embedding(idx, w["wte"]) + w["wpe"]
    return x + attention(norm(x, "ln_1"))


def hidden(x):
    return F.gelu(F.linear(norm(x, "ln_2"), w["mlp.c_fc"]))


def loss_of(idx, targets):
    x = middle(idx)
    x = norm(x + F.linear(hidden(x), w["mlp.c_proj"]), "ln_f")
    return F.cross_entropy(F.linear(x, w["wte"]).view(-1, w["wte"].shape[0]), targets.view(-1))


def windows(n):
    at = torch.randint(len(tokens) - T - 1, (n,))
    return torch.stack([tokens[a:a + T] for a in at]), torch.stack([tokens[a + 1:a + T + 1] for a in at])


def training():
    decay = [p for p in w.values() if p.dim() > 1]
    optimizer = torch.optim.AdamW([{"params": decay, "weight_decay": 0.1},
                                   {"params": [p for p in w.values() if p.dim() < 2], "weight_decay": 0}],
                                  lr=1e-6, betas=(0.9, 0.95))
    loss_fn = compiled(loss_of)

    def step():
        with autocast():
            loss = loss_fn(*windows(BATCH))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(w.values(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return BATCH * T, {"loss": loss.item()}
    return step


def activations():
    out = tempfile.TemporaryFile(dir=os.environ.get("TMPDIR", "."))
    forward = compiled(lambda idx: hidden(middle(idx)))

    @torch.no_grad()
    def dump():
        out.seek(0)
        for _ in range(2):
            with autocast():
                acts = forward(windows(BATCH)[0])
            kept = torch.stack([a[torch.randperm(T)[:KEPT]] for a in acts])
            out.write(kept.half().numpy().tobytes())
        return 2 * BATCH, {}
    return dump


def page():
    """What one feature's ablation does to the log-probability of each next token."""
    direction, encoder = torch.randn(4 * C) / math.sqrt(4 * C), torch.randn(4 * C) / math.sqrt(4 * C)

    @torch.no_grad()
    def effects():
        with autocast():
            idx, targets = windows(BATCH)
            x = middle(idx)
            h = hidden(x)
            h = h - torch.relu(h @ encoder)[..., None] * direction
            x = norm(x + F.linear(h, w["mlp.c_proj"]), "ln_f")
            F.cross_entropy(F.linear(x, w["wte"]).view(-1, w["wte"].shape[0]), targets.view(-1), reduction="none")
        return BATCH, {}
    return effects


def compiled(f):
    """torch.compile'd where that works and was asked for."""
    if not os.environ.get("COMPILE") or not hasattr(torch, "compile"):
        return f
    return torch.compile(f)


serve({"train": training, "acts": activations, "page": page}[WORK](), torch=torch.__version__,
      isa=getattr(torch.backends.cpu, "get_cpu_capability", lambda: os.environ.get("ATEN_CPU_CAPABILITY", "?"))()
      if hasattr(torch.backends, "cpu") else os.environ.get("ATEN_CPU_CAPABILITY", "?"))
