"""sae.py f32|bf16 SAE MIX BATCH -- a training step of the autoencoder in PyTorch: gradients of squared error and L1,
the part along the decoder's columns removed, Adam, columns normalised.  The rows are float32 in memory."""
import sys

from peer import activations, safetensors, serve, torch_setup

PRECISION, SAE, MIX, BATCH = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
torch, autocast = torch_setup(PRECISION)
F = torch.nn.functional
w = {k: torch.nn.Parameter(torch.from_numpy(v.copy())) for k, v in safetensors(SAE).items()}
encoder, b_enc, decoder, b_dec = (w[k] for k in ("encoder.weight", "encoder.bias", "decoder.weight", "decoder.bias"))
D = encoder.shape[1]
rows = torch.from_numpy(activations(MIX, 2 * BATCH * D).reshape(2, BATCH, D))
optimizer = torch.optim.Adam(w.values(), lr=1e-9)
LAMBDA = 8192 * 3e-7
count = 0


def step():
    global count
    count += 1
    x = rows[count % 2]
    with autocast():
        f = torch.relu(F.linear(x - b_dec, encoder, b_enc))
        loss = F.mse_loss(F.linear(f, decoder, b_dec).float(), x) + LAMBDA * f.float().sum(1).mean()
    loss.backward()
    with torch.no_grad():
        d = decoder / decoder.norm(dim=0)
        decoder.grad -= (decoder.grad * d).sum(0) * d
        optimizer.step()
        decoder.div_(decoder.norm(dim=0))
    optimizer.zero_grad(set_to_none=True)
    return 1, {"loss": loss.item(), "l0": (f > 0).sum().item() / BATCH}


serve(step, torch=torch.__version__)
