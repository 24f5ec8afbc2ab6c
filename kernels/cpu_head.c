/*
 * cpu_head: the tied head with softmax cross-entropy, ROWS tokens at a time.
 *
 * Pass 1, by chunks of the vocabulary: E = exp(logit - own), where own is the logit of the token's
 * target, its sums s over the vocabulary, and the unnormalised dx += E w.  Then nll = log s: no pass
 * for the maximum, because s >= 1.  Pass 2: dw += Eᵀ (x scale / s).  The one-hot part of both
 * gradients is a sparse update.  Logits stay in L1, where they become E; E of ROWS tokens is kept between
 * the passes: recomputing it costs a fourth product, reading it back a few GB/s.
 *
 * Tokens are lanes: E and x stand transposed, in panels of cpu_k->panel tokens.  Should a logit
 * exceed its token's own by so much that s overflows, the block is done again relative to the
 * token's highest logit.
 */
#include "cpu.h"

#include <math.h>
#include <string.h>

enum { ROWS = 256, COLS = 96, GROUP = 16 };     /* tokens; columns of a chunk; chunks of a group */
static const double overflow = 1e30, log2e = 1.4426950408889634;

struct head {
	float *nll, *dx, *dw;
	const float *x, *w;
	const int32_t *targets;
	float scale;
	size_t N, C, V, groups;

	/* the block: its tokens are those with a target */
	size_t n, panels;
	uint32_t row[ROWS];
	float own[ROWS], reference[ROWS];       /* reference: in powers of 2 */
	float *xt;              /* (panels,C,panel) x log2 e */
	float *xs;              /* (column panels,ROWS,panel) x scale / s */
	float *e;               /* (chunks,panels,COLS,panel), or NULL without gradients */
	float *part;            /* (groups,panels,C,panel) of dx */
	double *sum;            /* (groups,ROWS) of s, or maxima */
};

static size_t chunk_floats(const struct head *h)
{
	return h->panels * COLS * cpu_k->panel;
}

static float *chunk_of(const struct head *h, size_t v)
{
	return h->e ? h->e + v / COLS * chunk_floats(h) : cpu_block_scratch(chunk_floats(h));
}

/* ---- pass 1 ---- */

static struct cpu_fetch fetch(const float *p, size_t floats)
{
	return (struct cpu_fetch){ (const char *)p, (const char *)(p + floats) };
}

static void forward_chunk(const struct head *h, float *part, double *sum, size_t v, size_t cols, size_t next)
{
	const size_t P = cpu_k->panel, C = h->C;
	const float *w = h->w + v * C;
	struct cpu_fetch f = fetch(w + cols * C, next * C);
	float *e = chunk_of(h, v);

	for (size_t p = 0; p < h->panels; p++, e += COLS * P) {
		float s[CPU_PANEL_MAX] = { 0 };

		cpu_k->panel_product(e, h->xt + p * C * P, h->reference + p * P, w, C, cols, C, &f);
		cpu_k->panel_exp(e, s, cols);
		for (size_t i = 0; i < P; i++)
			sum[p * P + i] += (double)s[i];
		if (h->e)
			cpu_k->panel_sum(part + p * C * P, e, w, C, cols, C);
	}
}

static void forward_group(void *arg, size_t g)
{
	const struct head *h = arg;
	const size_t all = h->panels * h->C * cpu_k->panel;
	const size_t from = g * GROUP * COLS, to = cpu_min(from + GROUP * COLS, h->V);
	double *sum = h->sum + g * ROWS;
	float *part = h->e ? h->part + g * all : NULL;

	memset(sum, 0, ROWS * sizeof(*sum));
	if (part)
		memset(part, 0, all * sizeof(*part));
	for (size_t v = from; v < to; v += COLS) {
		const size_t cols = cpu_min(COLS, to - v);

		forward_chunk(h, part, sum, v, cols, cpu_min(COLS, to - v - cols));
	}
}

static void highest_group(void *arg, size_t g)
{
	const struct head *h = arg;
	const size_t from = g * GROUP * COLS, to = cpu_min(from + GROUP * COLS, h->V);
	double *max = h->sum + g * ROWS;

	for (size_t r = 0; r < h->n; r++) {
		max[r] = -INFINITY;
		for (size_t v = from; v < to; v++)
			max[r] = fmax(max[r], (double)cpu_k->dot(h->x + h->row[r] * h->C, h->w + v * h->C, h->C));
	}
}

static double total(const struct head *h, size_t r)
{
	double s = 0;

	for (size_t g = 0; g < h->groups; g++)
		s += h->sum[g * ROWS + r];
	return s;
}

/* The next up to ROWS tokens that have a target, from row `at`; returns where to go on. */
static size_t gather(struct head *h, size_t at)
{
	const size_t P = cpu_k->panel, C = h->C;

	memset(h->reference, 0, sizeof(h->reference));
	for (h->n = 0; at < h->N && h->n < ROWS; at++) {
		const size_t r = h->n;
		float *column = h->xt + r / P * C * P + r % P;

		if (h->targets[at] < 0)
			continue;
		if (r % P == 0)
			memset(column, 0, C * P * sizeof(*column));
		for (size_t k = 0; k < C; k++)
			column[k * P] = (float)((double)h->x[at * C + k] * log2e);
		h->row[r] = (uint32_t)at;
		h->own[r] = cpu_k->dot(h->x + at * C, h->w + (size_t)h->targets[at] * C, C);
		h->reference[r] = (float)((double)h->own[r] * log2e);
		h->n++;
	}
	h->panels = cpu_blocks(h->n, P);
	return at;
}

static void forward(struct head *h)
{
	bool safe = true;

	pool_for(h->groups, forward_group, h);
	for (size_t r = 0; r < h->n; r++)
		safe = safe && total(h, r) < overflow;
	if (safe)
		return;
	pool_for(h->groups, highest_group, h);
	for (size_t r = 0; r < h->n; r++) {
		double max = -INFINITY;

		for (size_t g = 0; g < h->groups; g++)
			max = fmax(max, h->sum[g * ROWS + r]);
		h->reference[r] = (float)(max * log2e);
	}
	pool_for(h->groups, forward_group, h);
}

/* ---- between ---- */

/* dx (C) of token r = scale (E w / s - w[target]); its column of xs */
static void finish_row(const struct head *h, const float *sum, size_t r, double s)
{
	const size_t P = cpu_k->panel, C = h->C;
	const float *target = h->w + (size_t)h->targets[h->row[r]] * C, *x = h->x + h->row[r] * C;
	const float by = (float)(h->scale / s);
	float *dx = h->dx + h->row[r] * C;

	for (size_t k = 0; k < C; k++) {
		dx[k] = by * sum[k * P + r % P] - h->scale * target[k];
		h->xs[(k / P * ROWS + r) * P + k % P] = by * x[k];
	}
}

static void finish_panel(void *arg, size_t p)
{
	const struct head *h = arg;
	const size_t P = cpu_k->panel, all = h->panels * h->C * P, to = cpu_min((p + 1) * P, h->n);
	float *sum = cpu_block_scratch(h->C * P);

	memset(sum, 0, h->C * P * sizeof(*sum));
	for (size_t g = 0; h->e && g < h->groups; g++)
		cpu_k->axpy(sum, 1, h->part + g * all + p * h->C * P, h->C * P);
	for (size_t r = to; h->e && r < (p + 1) * P; r++)       /* no token */
		for (size_t k = 0; k < h->C; k++)
			h->xs[(k / P * ROWS + r) * P + k % P] = 0;
	for (size_t r = p * P; r < to; r++) {
		const double s = total(h, r);

		h->nll[h->row[r]] = (float)(log(s) + (double)h->reference[r] / log2e - (double)h->own[r]);
		if (h->e)
			finish_row(h, sum, r, s);
	}
}

/* ---- pass 2 ---- */

static void weights_group(void *arg, size_t g)
{
	const struct head *h = arg;
	const size_t P = cpu_k->panel, C = h->C, from = g * GROUP * COLS, to = cpu_min(from + GROUP * COLS, h->V);

	for (size_t v = from; v < to; v += COLS) {
		const size_t cols = cpu_min(COLS, to - v), next = cpu_min(COLS, to - v - cols);
		const float *e = chunk_of(h, v);

		struct cpu_fetch fe = fetch(e + chunk_floats(h), next ? chunk_floats(h) : 0);
		struct cpu_fetch fw = fetch(h->dw + (v + cols) * C, next * C);

		cpu_k->panel_outer(h->dw + v * C, C, e, COLS * P, h->xs, ROWS * P, h->panels, cols, C, &fe, &fw);
	}
	for (size_t r = 0; r < h->n; r++) {
		const size_t target = (size_t)h->targets[h->row[r]];

		if (target >= from && target < to)
			cpu_k->axpy(h->dw + target * C, -h->scale, h->x + h->row[r] * C, C);
	}
}

/* ---- the op ---- */

static void carve(struct head *h, bool gradients)
{
	const size_t P = cpu_k->panel, panels = cpu_blocks(ROWS, P), x = cpu_pad(ROWS * h->C);
	const size_t xs = cpu_blocks(h->C, P) * ROWS * P, part = gradients ? h->groups * x : 0;
	const size_t e = gradients ? cpu_blocks(h->V, COLS) * panels * COLS * P : 0;
	float *p = cpu_op_scratch(2 * h->groups * ROWS + x + xs + part + e);

	h->sum = (double *)(void *)p;
	h->xt = p + 2 * h->groups * ROWS;
	h->xs = h->xt + x;
	h->part = h->xs + xs;
	h->e = gradients ? h->part + part : NULL;
	memset(h->xs, 0, xs * sizeof(*h->xs));
}

static void cpu_lmhead(float *nll, float *dx, float *dw, const float *x, const float *w,
		       const int32_t *targets, double scale, size_t N, size_t C, size_t V)
{
	struct head h = { .nll = nll, .dx = dx, .dw = dw, .x = x, .w = w, .targets = targets,
		.scale = (float)scale, .N = N, .C = C, .V = V, .groups = cpu_blocks(V, GROUP * COLS) };

	carve(&h, dx != NULL);
	memset(nll, 0, N * sizeof(*nll));
	if (dx)
		memset(dx, 0, N * C * sizeof(*dx));
	for (size_t at = 0; at < N; ) {
		at = gather(&h, at);
		if (h.n == 0)
			break;
		forward(&h);
		pool_for(h.panels, finish_panel, &h);
		if (dx)
			pool_for(h.groups, weights_group, &h);
	}
}

void cpu_head(struct backend *b, bool bf16)
{
	b->lmhead = bf16 ? cpu_bf16_lmhead : cpu_lmhead;
}
