/*
 * cpu_bf16_head: the tied head with softmax cross-entropy on blocks of bf16.
 *
 * As cpu_head.c, E = exp(logit - own) needs no pass for the maximum; unlike
 * there, E is not kept between the passes but made again, a fourth product
 * being cheaper than 2 bytes a logit to memory and back.  Pass 1 takes a chunk
 * of tokens through the whole vocabulary, pass 2 a chunk of the vocabulary
 * through all tokens: each sum belongs to one chunk, so that threads share
 * nothing.  Operands x log2 e, w, E, x scale / s are rounded to bf16; sums, nll
 * and the one-hot parts are float32.
 */
#include "cpu_bf16.h"

#include <math.h>
#include <string.h>

static const double overflow = 1e30, log2e = 1.4426950408889634;

struct head {
	float *nll, *dx, *dw;
	const float *x, *w;
	const int32_t *targets;
	float scale;
	size_t C, V, steps;
	size_t n;               /* tokens that have a target */
	size_t chunk;           /* units of a chunk */
	uint32_t *row;          /* (n) of x */
	uint16_t *wa, *wt;      /* w packed by rows, and across */
	uint16_t *xb, *xs;      /* x log2 e by columns, x scale / s across */
	float *negative;        /* (units·32) */
};

static size_t unit_size(const struct head *h)
{
	return h->steps * BF16_BLOCK;
}

static void pack_unit(void *arg, size_t v)
{
	const struct head *h = arg;
	const size_t rows = cpu_min(BF16_UNIT, h->V - v * BF16_UNIT);
	const float *w = h->w + v * BF16_UNIT * h->C;

	cpu_16->pack_rows(h->wa + v * unit_size(h), w, h->C, rows, h->C);
	if (h->dx)
		cpu_16->pack_rows_across(h->wt + v * unit_size(h), w, h->C, rows, h->C);
}

/* y (n) = a x, rounded to bf16 */
static void rounded(float *y, const float *x, float a, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const float v = a * x[i];
		uint32_t bits;

		memcpy(&bits, &v, sizeof(bits));
		bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000;
		memcpy(&y[i], &bits, sizeof(bits));
	}
}

/* ---- pass 1 ---- */

struct chunk {
	size_t first, n, units;         /* tokens */
	float *sum, *own;               /* (units·32) */
	float *target, *x, *out;        /* (C), (32,C), (units,steps,32,32) */
};

static struct chunk chunk_at(const struct head *h, size_t i)
{
	const size_t first = i * h->chunk * BF16_UNIT, n = cpu_min(h->chunk * BF16_UNIT, h->n - first);
	const size_t units = bf16_units(n), sums = units * BF16_UNIT, row = cpu_pad(h->C);
	float *p = cpu_block_scratch(2 * sums + (1 + BF16_UNIT) * row + (h->dx ? units * unit_size(h) : 0));
	float *target = p + 2 * sums;

	return (struct chunk){ first, n, units, p, p + sums, target, target + row, target + (1 + BF16_UNIT) * row };
}

/* Packs x and sets own logits and references, which are the same for now: both of rounded values. */
static void prepare(const struct head *h, const struct chunk *c)
{
	for (size_t u = 0; u < c->units; u++) {
		const size_t at = u * BF16_UNIT, n = cpu_min(BF16_UNIT, c->n - at);
		float *negative = h->negative + c->first + at;

		memset(negative, 0, BF16_UNIT * sizeof(*negative));
		for (size_t r = 0; r < n; r++) {
			const size_t row = h->row[c->first + at + r];
			float *x = c->x + r * h->C;

			rounded(c->target, h->w + (size_t)h->targets[row] * h->C, 1, h->C);
			rounded(x, h->x + row * h->C, (float)log2e, h->C);
			c->own[at + r] = cpu_k->dot(x, c->target, h->C);
			negative[r] = -c->own[at + r];
		}
		cpu_16->pack_columns(h->xb + (c->first / BF16_UNIT + u) * unit_size(h), c->x, h->C, n, h->C);
	}
}

static void forward(const struct head *h, const struct chunk *c)
{
	const struct bf16_pass p = { .w = h->wa, .x = h->xb + c->first / BF16_UNIT * unit_size(h),
		.second = h->dx ? h->wt : NULL, .negative = h->negative + c->first, .sum = c->sum, .out = c->out,
		.V = h->V, .tokens = c->units, .steps = h->steps };

	memset(c->sum, 0, c->units * BF16_UNIT * sizeof(*c->sum));
	if (h->dx)
		memset(c->out, 0, c->units * unit_size(h) * sizeof(*c->out));
	cpu_16->head_forward(&p);
}

/* Where s overflowed, the highest logit becomes the reference; false: nowhere. */
static bool raise_references(const struct head *h, const struct chunk *c)
{
	bool raised = false;

	for (size_t r = 0; r < c->n; r++) {
		const float *x = h->x + h->row[c->first + r] * h->C;
		float max = -INFINITY;

		if ((double)c->sum[r] < overflow)
			continue;
		for (size_t v = 0; v < h->V; v++)
			max = fmaxf(max, cpu_k->dot(x, h->w + v * h->C, h->C));
		h->negative[c->first + r] = -(float)((double)max * log2e);
		raised = true;
	}
	return raised;
}

/* nll, dx, and the unit's xs */
static void finish_unit(const struct head *h, const struct chunk *c, size_t u)
{
	const size_t at = u * BF16_UNIT, n = cpu_min(BF16_UNIT, c->n - at);
	const float *out = c->out + u * unit_size(h);

	for (size_t r = 0; r < n; r++) {
		const size_t row = h->row[c->first + at + r];
		const double s = (double)c->sum[at + r];
		const double above = -(double)h->negative[c->first + at + r] - (double)c->own[at + r];

		h->nll[row] = (float)(log(s) + above / log2e);
		if (!h->dx)
			continue;
		const float *target = h->w + (size_t)h->targets[row] * h->C, by = (float)((double)h->scale / s);

		for (size_t k = 0; k < h->C; k++) {
			h->dx[row * h->C + k] = by * out[k * BF16_UNIT + r] - h->scale * target[k];
			c->x[r * h->C + k] = by * h->x[row * h->C + k];
		}
	}
	if (h->dx)
		cpu_16->pack_columns_across(h->xs + (c->first / BF16_UNIT + u) * unit_size(h), c->x, h->C, n, h->C);
}

static void tokens_chunk(void *arg, size_t i)
{
	const struct head *h = arg;
	const struct chunk c = chunk_at(h, i);

	prepare(h, &c);
	forward(h, &c);
	if (raise_references(h, &c))
		forward(h, &c);
	for (size_t u = 0; u < c.units; u++)
		finish_unit(h, &c, u);
}

/* ---- pass 2 ---- */

static void weights_chunk(void *arg, size_t i)
{
	const struct head *h = arg;
	const size_t from = i * h->chunk * BF16_UNIT, to = cpu_min(from + h->chunk * BF16_UNIT, h->V);
	const size_t values = bf16_units(to - from) * unit_size(h);
	float *out = cpu_block_scratch(values);

	memset(out, 0, values * sizeof(*out));
	cpu_16->head_weights(&(struct bf16_pass){ .w = h->wa + from / BF16_UNIT * unit_size(h), .x = h->xb,
		.second = h->xs, .negative = h->negative, .out = out, .V = to - from,
		.tokens = bf16_units(h->n), .steps = h->steps });
	for (size_t v = from; v < to; v++) {
		const float *row = out + (v - from) / BF16_UNIT * unit_size(h) + v % BF16_UNIT * BF16_UNIT;

		for (size_t k = 0; k < h->C; k += BF16_UNIT)
			cpu_k->axpy(h->dw + v * h->C + k, 1, row + k * BF16_UNIT, cpu_min(BF16_UNIT, h->C - k));
	}
	for (size_t r = 0; r < h->n; r++) {
		const size_t target = (size_t)h->targets[h->row[r]];

		if (target >= from && target < to)
			cpu_k->axpy(h->dw + target * h->C, -h->scale, h->x + h->row[r] * h->C, h->C);
	}
}

/* ---- the op ---- */

static void *take(float **p, size_t values, size_t size)
{
	void *at = *p;

	*p += cpu_pad(cpu_blocks(values * size, sizeof(**p)));
	return at;
}

static void carve(struct head *h, size_t N)
{
	const size_t w = bf16_units(h->V) * unit_size(h), x = bf16_units(N) * unit_size(h);
	const size_t wt = h->dx ? w : 0, xs = h->dx ? x : 0, half = sizeof(uint16_t);
	float *p = cpu_op_scratch((w + wt + x + xs) / 2 + 2 * cpu_pad(N + BF16_UNIT) + 5 * cpu_pad(1));

	h->wa = take(&p, w, half);
	h->wt = take(&p, wt, half);
	h->xb = take(&p, x, half);
	h->xs = take(&p, xs, half);
	h->negative = take(&p, bf16_units(N) * BF16_UNIT, sizeof(float));
	h->row = take(&p, N, sizeof(uint32_t));
}

void cpu_bf16_lmhead(float *nll, float *dx, float *dw, const float *x, const float *w,
		     const int32_t *targets, double scale, size_t N, size_t C, size_t V)
{
	struct head h = { .nll = nll, .dx = dx, .dw = dw, .x = x, .w = w, .targets = targets,
		.scale = (float)scale, .C = C, .V = V, .steps = bf16_units(C) };

	/* of a chunk: out in half of L2, and enough work for what it reads */
	h.chunk = h.steps < 4 ? 16 : h.steps < 64 ? 64 / h.steps : 1;
	carve(&h, N);
	for (size_t i = 0; i < N; i++)
		if (targets[i] >= 0)
			h.row[h.n++] = (uint32_t)i;
	memset(nll, 0, N * sizeof(*nll));
	if (dx)
		memset(dx, 0, N * C * sizeof(*dx));
	if (h.n == 0)
		return;
	pool_for(bf16_units(V), pack_unit, &h);
	pool_for(cpu_blocks(h.n, h.chunk * BF16_UNIT), tokens_chunk, &h);
	if (dx)
		pool_for(cpu_blocks(V, h.chunk * BF16_UNIT), weights_chunk, &h);
}
