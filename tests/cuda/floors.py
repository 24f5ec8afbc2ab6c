#!/usr/bin/env python3
"""floors.py -- the least time that a training step can take on a card, from its FLOPs and its bytes.

Arithmetic, not measurement: peaks and bandwidths are the makers', sizes are the published run's.
  floors.py          tables for people
  floors.py --tsv    name<TAB>value: what t-cuda.sh compares counted bytes with
"""
import sys

D, V, T, F = 128, 50304, 1024, 512  # width, padded vocabulary, context, MLP (= inputs of the autoencoder)
TOKENS = 200_000 * 491_520
CARDS = {  # FLOP/s in bf16 and TF32, bytes/s
    "A100": (312e12, 156e12, 2.0e12),
    "H100": (990e12, 495e12, 3.35e12),
}
GEMM_SHARE, HBM_SHARE = 0.6, 0.85  # of the peaks, for "expected"

# GPT: multiply-adds a token, forward
BLOCK = 3 * D * D + D * D + 2 * D * F
ATTENTION = 2 * (T + 1) / 2 * D  # causal
HEAD = D * V
GEMM_FLOP = 6 * (BLOCK + HEAD)  # forward and both gradients
ATTENTION_FLOP = 2 * ATTENTION * 3.5  # the backward pass makes the scores again
GPT_FLOP = GEMM_FLOP + ATTENTION_FLOP
LOGITS = 2 * V  # bytes of a row in bf16
HEAD_BYTES = 5 * LOGITS  # written; read and written by cross-entropy; read for dX; read for dW
OTHER_BYTES = 30e3
GPT_BYTES = HEAD_BYTES + OTHER_BYTES

# Autoencoder: a step of B rows
B, N, M = 8192, 512, 4096
SAE_FLOP = 5 * 2 * B * N * M


def sae_bytes(width):
    """f and its gradient: written, read and written, and read by five products; x, xhat, dxhat; Adam."""
    return 8 * B * M * width + 6 * B * N * width + 30 * 2 * N * M


def gpt_table():
    print(f"GPT: {GPT_FLOP / 1e6:.1f} MFLOP a token, {100 * 6 * HEAD / GPT_FLOP:.1f} % of them in the head; "
          f"{GPT_FLOP * TOKENS:.2g} FLOP for {TOKENS:.3g} tokens")
    print(f"     {GPT_BYTES / 1e3:.0f} KB a token, {HEAD_BYTES / 1e3:.0f} of them logits")
    print("card\tcompute ns/token\tmemory ns/token\tmemory hours\texpected ns/token\texpected hours")
    for name, (peak, _, bandwidth) in CARDS.items():
        flops, memory = peak * GEMM_SHARE, bandwidth * HBM_SHARE
        product = max(2 * HEAD / flops, LOGITS / memory)
        rest = max((6 * BLOCK + ATTENTION_FLOP) / (flops / 2), OTHER_BYTES / memory)
        expected = 3 * product + 2 * LOGITS / memory + rest
        print(f"{name}\t{GPT_FLOP / peak * 1e9:.0f}\t{GPT_BYTES / bandwidth * 1e9:.0f}"
              f"\t{GPT_BYTES / bandwidth * TOKENS / 3600:.1f}\t{expected * 1e9:.0f}\t{expected * TOKENS / 3600:.1f}")


def sae_table():
    print(f"\nSAE: {SAE_FLOP / 1e9:.0f} GFLOP a step of {B} rows, {N} inputs, {M} features")
    print("card\ttype\tGB/step\tcompute ms\tmemory ms\texpected ms\t500k steps, minutes")
    for name, (bf16, tf32, bandwidth) in CARDS.items():
        for kind, peak, width in (("bf16", bf16, 2), ("tf32", tf32, 4)):
            moved = sae_bytes(width)
            outside = 3 * B * M * width + 30 * 2 * N * M  # what the products do not overlap
            expected = SAE_FLOP / (peak * 0.65) + outside / (bandwidth * HBM_SHARE)
            print(f"{name}\t{kind}\t{moved / 1e9:.2f}\t{SAE_FLOP / peak * 1e3:.2f}\t{moved / bandwidth * 1e3:.2f}"
                  f"\t{expected * 1e3:.1f}\t{expected * 5e5 / 60:.0f}")


def tsv():
    for key, value in (("gpt-bytes-token", GPT_BYTES), ("gpt-flop-token", GPT_FLOP), ("sae-flop-step", SAE_FLOP),
                       ("sae-bytes-step-tf32", sae_bytes(4)), ("sae-bytes-step-bf16", sae_bytes(2))):
        print(f"{key}\t{value:.0f}")


# Cards by what nvidia-smi calls them, the more particular name first: TFLOP/s in bf16 (dense, summed in float), TF32
# and float without tensor cores; GB/s
KNOWN = (
    ("H200", 990, 495, 67, 4800), ("H100 PCIe", 756, 378, 51, 2000), ("H100", 990, 495, 67, 3350),
    ("A100-PCIE-40GB", 312, 156, 19.5, 1555), ("A100-SXM4-40GB", 312, 156, 19.5, 1555), ("A100", 312, 156, 19.5, 2000),
    ("B200", 2250, 1125, 75, 8000), ("L40S", 362, 183, 91.6, 864), ("L4", 121, 60, 30.3, 300), ("A10G", 70, 35, 31.2, 600),
    ("A10", 125, 62.5, 31.2, 600), ("A40", 150, 75, 37.4, 696), ("RTX 4090", 165, 82.6, 82.6, 1008),
    ("RTX 3090", 71, 35.6, 35.6, 936),
)


def peaks_of(card):
    """FLOP/s by precision and bytes/s of a card by its name; None: not known."""
    for name, bf16, tf32, f32, bandwidth in KNOWN:
        if name.lower() in card.lower():
            return {"name": name, "bf16": bf16 * 1e12, "tf32": tf32 * 1e12, "f32": f32 * 1e12, "bytes": bandwidth * 1e9}
    return None


if __name__ == "__main__":
    if sys.argv[1:] == ["--tsv"]:
        tsv()
    else:
        gpt_table()
        sae_table()
