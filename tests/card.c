/*
 * card DEVICE PRECISION [OP…] -- ops of a device at the sizes of the published run, a line each: name, milliseconds,
 * FLOPs that no product does (attention's).  card … --once: each runs once, untimed, for an emulator that counts.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base.h"
#include "backend.h"
#include "pool.h"
#include "rng.h"

enum { B = 12, T = 1024, C = 128, NH = 4, V = 50304, N = B * T, PARAMS = V * C + T * C + 12 * C * C };
enum { R = 8192, D = 512, F = 4096 };
enum { ARRAYS = 16, WARM = 2, NOISE = 1 << 20 };

struct timing {
	const struct backend *be;
	char **names;                   /* NULL-terminated; none: all */
	bool once;
	size_t calls, batch;            /* of the op at hand */
	double from, flops;
	void *arrays[ARRAYS];
	size_t n;
};

/* ---- arrays, one op's at a time ---- */

static void *device_array(struct timing *t, const void *pattern, size_t pattern_bytes, size_t bytes)
{
	char *p = t->be->alloc(bytes);

	if (t->n == ARRAYS)
		BUG("an op has too many arrays");
	for (size_t at = 0; at < bytes; at += pattern_bytes)
		t->be->put(p + at, pattern, bytes - at < pattern_bytes ? bytes - at : pattern_bytes);
	return t->arrays[t->n++] = p;
}

/* n values in ±scale around shift, which repeat */
static float *floats(struct timing *t, size_t n, double scale, double shift)
{
	float *noise = xcalloc(NOISE, sizeof(*noise)), *p;

	for (size_t i = 0; i < NOISE; i++)
		noise[i] = (float)(shift + scale * ((double)(rng_hash(1, RNG_TEST, t->n, i) >> 40) * 0x1p-23 - 1));
	p = device_array(t, noise, NOISE * sizeof(*noise), n * sizeof(*p));
	free(noise);
	return p;
}

/* integers in [0,below), which repeat */
static uint32_t *integers(struct timing *t, size_t n, size_t below)
{
	uint32_t *noise = xcalloc(NOISE, sizeof(*noise)), *p;

	for (size_t i = 0; i < NOISE; i++)
		noise[i] = (uint32_t)rng_below(rng_hash(2, RNG_TEST, t->n, i), below);
	p = device_array(t, noise, NOISE * sizeof(*noise), n * sizeof(*p));
	free(noise);
	return p;
}

static void release_all(struct timing *t)
{
	while (t->n > 0)
		t->be->release(t->arrays[--t->n]);
}

/* ---- the clock ---- */

static bool chosen(const struct timing *t, const char *name)
{
	bool any = !*t->names;

	for (char **n = t->names; *n; n++)
		any |= !strcmp(*n, name);
	return any;
}

static bool finished(struct timing *t, const char *name, double ms)
{
	printf("%s\t%.4f\t%.0f\n", name, ms, t->flops);
	fflush(stdout);
	t->calls = 0;
	t->flops = 0;
	return false;
}

/* while (again(t, "op")) be->op(…): some calls to warm up, then twice as many in a row until they take 0.1 s. */
static bool again(struct timing *t, const char *name)
{
	if (!chosen(t, name) || (t->once && t->calls == 1))
		return t->calls ? finished(t, name, 0) : false;
	if (t->calls < WARM || t->once) {
		t->batch = 1;
	} else if (t->calls == WARM + t->batch) {
		t->be->sync();
		const double secs = now_secs() - t->from;

		if (secs > 0.1)
			return finished(t, name, 1e3 * secs / (double)t->batch);
		t->calls = WARM;
		t->batch *= 2;
	}
	if (t->calls == WARM) {
		t->be->sync();
		t->from = now_secs();
	}
	t->calls++;
	return true;
}

/* ---- the net of nanoGPT: a micro-batch of N = B·T tokens ---- */

static void embeddings(struct timing *t)
{
	const int32_t *idx = (const int32_t *)integers(t, N, V);
	float *x = floats(t, (size_t)N * C, 1, 0), *wte = floats(t, (size_t)V * C, 1, 0), *wpe = floats(t, T * C, 1, 0);

	while (again(t, "embed_fwd"))
		t->be->embed_fwd(x, idx, wte, wpe, B, T, C);
	while (again(t, "embed_bwd"))
		t->be->embed_bwd(wte, wpe, x, idx, B, T, C, V);
}

static void layernorms(struct timing *t)
{
	float *x = floats(t, (size_t)N * C, 1, 0), *y = floats(t, (size_t)N * C, 1, 0), *dx = floats(t, (size_t)N * C, 1, 0);
	float *mean = floats(t, N, 1, 0), *rstd = floats(t, N, 1, 0), *w = floats(t, C, 1, 1), *dw = floats(t, C, 1, 0);

	while (again(t, "layernorm_fwd"))
		t->be->layernorm_fwd(y, mean, rstd, x, w, NULL, N, C);
	while (again(t, "layernorm_bwd"))
		t->be->layernorm_bwd(dx, dw, NULL, y, x, w, mean, rstd, N, C);
}

static void linear(struct timing *t, const char *forward, const char *backward, size_t in, size_t out)
{
	float *x = floats(t, N * in, 1, 0), *y = floats(t, N * out, 1, 0), *w = floats(t, out * in, 0.1, 0);
	float *dx = floats(t, N * in, 0, 0), *dw = floats(t, out * in, 0, 0);

	while (again(t, forward))
		t->be->linear_fwd(y, x, w, NULL, N, in, out);
	while (again(t, backward))
		t->be->linear_bwd(dx, dw, NULL, y, x, w, N, in, out);
}

static void linears(struct timing *t)
{
	linear(t, "linear_fwd qkv", "linear_bwd qkv", C, 3 * C);
	release_all(t);
	linear(t, "linear_fwd up", "linear_bwd up", C, 4 * C);
	release_all(t);
	linear(t, "linear_fwd down", "linear_bwd down", 4 * C, C);
}

static void attentions(struct timing *t)
{
	const double flops = 2.0 * N * C * (T + 1);
	const size_t n = (size_t)N * C;
	float *y = floats(t, n, 1, 0), *lse = floats(t, N * NH, 1, 0), *qkv = floats(t, 3 * n, 1, 0), *d = floats(t, 3 * n, 1, 0);

	t->flops = flops;
	while (again(t, "attention_fwd"))
		t->be->attention_fwd(y, lse, qkv, B, T, C, NH);
	t->flops = 2.5 * flops;
	while (again(t, "attention_bwd"))
		t->be->attention_bwd(d, y, y, lse, qkv, B, T, C, NH);
	t->flops = 0;
}

static void pointwise(struct timing *t)
{
	const size_t n = (size_t)N * 4 * C;
	float *x = floats(t, n, 3, 0), *y = floats(t, n, 1, 0);

	while (again(t, "gelu_fwd"))
		t->be->gelu_fwd(y, x, n);
	while (again(t, "gelu_bwd"))
		t->be->gelu_bwd(y, y, x, n);
	while (again(t, "add"))
		t->be->add(y, x, (size_t)N * C);
}

static void head(struct timing *t)
{
	float *nll = floats(t, N, 0, 0), *dx = floats(t, (size_t)N * C, 0, 0), *dw = floats(t, (size_t)V * C, 0, 0);
	float *x = floats(t, (size_t)N * C, 1, 0), *w = floats(t, (size_t)V * C, 0.1, 0);
	const int32_t *targets = (const int32_t *)integers(t, N, V);

	while (again(t, "lmhead"))
		t->be->lmhead(nll, dx, dw, x, w, targets, 1e-3, N, C, V);
	while (again(t, "lmhead nll"))
		t->be->lmhead(nll, NULL, NULL, x, w, targets, 1, N, C, V);
}

static void optimiser(struct timing *t)
{
	float *p = floats(t, PARAMS, 1, 0), *g = floats(t, PARAMS, 1e-3, 0), *m = floats(t, PARAMS, 1e-3, 0);
	float *v = floats(t, PARAMS, 1e-6, 2e-6);
	double *norm = device_array(t, (const double[2]){ 1, 1 }, 16, 16);

	while (again(t, "clip"))
		t->be->clip(norm, g, PARAMS, 1);
	while (again(t, "adamw"))
		t->be->adamw(p, g, m, v, PARAMS, norm + 1, 1e-3, 0.9, 0.95, 1e-8, 0.1, 10);
	while (again(t, "add_sum"))
		t->be->add_sum(norm, p, N, 1);
}

/* ---- the autoencoder: R rows of D inputs, F features, a tenth of them active ---- */

static struct sae_params dictionary(struct timing *t)
{
	struct sae_params p;

	p.enc = floats(t, (size_t)F * D, 0.08, 0);
	p.b_enc = floats(t, F, 0.01, -1.3);
	p.dec = floats(t, (size_t)F * D, 0.08, 0);
	p.b_dec = floats(t, D, 0.01, 0);
	return p;
}

static void sae_training(struct timing *t)
{
	const struct sae_params p = dictionary(t), g = dictionary(t);
	float *x = floats(t, (size_t)R * D, 1.7, 0);
	uint32_t *fired = integers(t, F, 1);
	struct sae_sums *sums = device_array(t, (const double[3]){ 0 }, sizeof(*sums), sizeof(*sums));

	while (again(t, "sae_grad"))
		t->be->sae_grad(sums, fired, &g, x, &p, 2e-3, R, D, F);
	while (again(t, "project_rows"))
		t->be->project_rows(g.dec, p.dec, F, D);
	while (again(t, "normalise_rows"))
		t->be->normalise_rows(p.dec, F, D);
	while (again(t, "row_norms"))
		t->be->row_norms(p.b_enc, p.dec, F, D);
}

static void sae_reading(struct timing *t)
{
	const size_t cap = (size_t)R * F / 2;
	const struct sae_params p = dictionary(t);
	float *x = floats(t, (size_t)R * D, 1.7, 0), *xhat = floats(t, (size_t)R * D, 1, 0), *f = floats(t, (size_t)R * F, 1, 0);
	uint32_t *fired = integers(t, F, 1), *rows = integers(t, cap, R), *feats = integers(t, cap, F);
	uint64_t *unfit = device_array(t, (const uint64_t[1]){ 0 }, 8, 8);
	struct sae_sums sums;
	double column[D];

	while (again(t, "sae_encode"))
		t->be->sae_encode(f, x, &p, R, D, F);
	while (again(t, "sae_decode"))
		t->be->sae_decode(xhat, f, &p, R, D, F);
	while (again(t, "sae_forward"))
		t->be->sae_forward(&sums, NULL, NULL, xhat, fired, x, &p, R, D, F);
	while (again(t, "sae_active"))
		t->be->sae_active(rows, feats, f, cap, x, &p, R, D, F);
	while (again(t, "fill_rows"))
		t->be->fill_rows(xhat, p.b_dec, R, D);
	while (again(t, "gather_rows"))
		t->be->gather_rows(xhat, x, rows, R, D);
	while (again(t, "round_rows"))
		t->be->round_rows(x, (size_t)R * D, 8, unfit);
	while (again(t, "column_sums"))
		t->be->column_sums(column, x, R, D);
}

static void (*const groups[])(struct timing *t) = {
	embeddings, layernorms, linears, attentions, pointwise, head, optimiser, sae_training, sae_reading,
};

int main(int argc, char **argv)
{
	base_tool = "card";
	base_quiet = true;
	if (argc < 3)
		die_usage("usage: card DEVICE PRECISION [OP…] [--once]");
	pool_start(1);
	struct timing t = { .be = backend_open(argv[1], argv[2]), .names = argv + 3 };

	if (!strcmp(argv[argc - 1], "--once")) {
		t.once = true;
		argv[argc - 1] = NULL;
	}
	for (size_t i = 0; i < ARRAY_LEN(groups); i++) {
		groups[i](&t);
		release_all(&t);
	}
	return 0;
}
