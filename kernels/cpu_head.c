/*
 * cpu_head: the tied head with softmax cross-entropy, ROWS tokens at a time.
 *
 * Pass 1, by groups of vocabulary: logits of a chunk (they stay in L2), E = exp(logit - own), where
 * own is the logit of the token's target, their row sums s and the unnormalised dx += E w.  Then
 * nll = log s: no pass for the maximum, because s >= 1.  Pass 2: dw += Eᵀ (x scale / s).  The
 * one-hot part of both gradients is a sparse update.  E of ROWS tokens is kept between the passes:
 * recomputing it costs a fourth product, reading it back a few GB/s.
 *
 * Should a logit exceed its row's own by so much that s overflows, the block is done again
 * relative to the row's maximum.
 */
#include "cpu.h"

#include <math.h>
#include <string.h>

enum { ROWS = 256, COLS = 512, GROUP = 4 };     /* tokens; columns of a chunk; chunks of a group */
static const double overflow = 1e30;

struct head {
	float *nll, *dx, *dw;
	const float *x, *w;
	const int32_t *targets;
	float scale;
	size_t N, C, V, groups;

	/* the block: its tokens are those with a target */
	size_t n;
	uint32_t row[ROWS];
	float own[ROWS], reference[ROWS];
	float *xb, *xs;         /* (ROWS,C) x; x scale / s */
	float *e;               /* (chunks,ROWS,COLS), or NULL without gradients */
	float *part;            /* (groups,ROWS,C) of dx */
	double *sum;            /* (groups,ROWS) of s, or maxima */
};

static float *chunk_of(const struct head *h, size_t v)
{
	return h->e ? h->e + v / COLS * ROWS * COLS : cpu_block_scratch(ROWS * COLS);
}

static void logits(const struct head *h, float *e, size_t v, size_t cols)
{
	dnn_gemm(&(struct dnn_gemm){ .M = h->n, .N = cols, .K = h->C, .c = e, .ldc = COLS,
		.a = { h->xb, h->C, 1 }, .b = { h->w + v * h->C, 1, h->C } });
}

static void forward_group(void *arg, size_t g)
{
	const struct head *h = arg;
	double *sum = h->sum + g * ROWS;
	const size_t from = g * GROUP * COLS, to = cpu_min(from + GROUP * COLS, h->V);

	memset(sum, 0, ROWS * sizeof(*sum));
	for (size_t v = from; v < to; v += COLS) {
		const size_t cols = cpu_min(COLS, to - v);
		float *e = chunk_of(h, v);

		logits(h, e, v, cols);
		for (size_t r = 0; r < h->n; r++)
			sum[r] += (double)cpu_k->exp_sum(e + r * COLS, 1, h->reference[r], cols);
		if (h->e)
			dnn_gemm(&(struct dnn_gemm){ .M = h->n, .N = h->C, .K = cols,
				.c = h->part + g * ROWS * h->C, .ldc = h->C, .a = { e, COLS, 1 },
				.b = { h->w + v * h->C, h->C, 1 }, .accumulate = v > from });
	}
}

static void highest_group(void *arg, size_t g)
{
	const struct head *h = arg;
	double *max = h->sum + g * ROWS;
	const size_t from = g * GROUP * COLS, to = cpu_min(from + GROUP * COLS, h->V);

	for (size_t r = 0; r < h->n; r++)
		max[r] = -INFINITY;
	for (size_t v = from; v < to; v += COLS) {
		const size_t cols = cpu_min(COLS, to - v);
		float *e = chunk_of(h, v);

		logits(h, e, v, cols);
		for (size_t r = 0; r < h->n; r++)
			max[r] = fmax(max[r], (double)cpu_k->highest(e + r * COLS, cols));
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
	for (h->n = 0; at < h->N && h->n < ROWS; at++) {
		const size_t r = h->n;

		if (h->targets[at] < 0)
			continue;
		h->row[r] = (uint32_t)at;
		memcpy(h->xb + r * h->C, h->x + at * h->C, h->C * sizeof(float));
		h->own[r] = cpu_k->dot(h->xb + r * h->C, h->w + (size_t)h->targets[at] * h->C, h->C);
		h->reference[r] = h->own[r];
		h->n++;
	}
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
		h->reference[r] = (float)max;
	}
	pool_for(h->groups, forward_group, h);
}

enum { FINISH = 16 };           /* tokens of a block of finish_rows */

/* nll; dx = scale (E w / s - w[target]); xs = x scale / s */
static void finish_rows(void *arg, size_t i)
{
	const struct head *h = arg;
	const size_t C = h->C, to = cpu_min((i + 1) * FINISH, h->n);

	for (size_t r = i * FINISH; r < to; r++) {
		const double s = total(h, r);
		const float *target = h->w + (size_t)h->targets[h->row[r]] * C;
		float *dx = h->dx + h->row[r] * C;

		h->nll[h->row[r]] = (float)(log(s) + (double)h->reference[r] - (double)h->own[r]);
		if (!h->e)
			continue;
		cpu_k->scale(h->xs + r * C, h->xb + r * C, (float)(h->scale / s), C);
		cpu_k->scale(dx, target, -h->scale, C);
		for (size_t g = 0; g < h->groups; g++)
			cpu_k->axpy(dx, (float)(h->scale / s), h->part + (g * ROWS + r) * C, C);
	}
}

static void weights_chunk(void *arg, size_t i)
{
	const struct head *h = arg;
	const size_t v = i * COLS, cols = cpu_min(COLS, h->V - v), C = h->C;

	dnn_gemm(&(struct dnn_gemm){ .M = cols, .N = C, .K = h->n, .c = h->dw + v * C, .ldc = C,
		.a = { chunk_of(h, v), 1, COLS }, .b = { h->xs, C, 1 }, .accumulate = true });
	for (size_t r = 0; r < h->n; r++) {
		const size_t target = (size_t)h->targets[h->row[r]];

		if (target >= v && target < v + cols)
			cpu_k->axpy(h->dw + target * C, -h->scale, h->xb + r * C, C);
	}
}

static void carve(struct head *h, bool gradients)
{
	const size_t x = cpu_pad(ROWS * h->C), part = gradients ? h->groups * x : 0;
	const size_t e = gradients ? cpu_blocks(h->V, COLS) * ROWS * COLS : 0;
	float *p = cpu_op_scratch(2 * h->groups * ROWS + 2 * x + part + e);

	h->sum = (double *)(void *)p;
	h->xb = p + 2 * h->groups * ROWS;
	h->xs = h->xb + x;
	h->part = h->xs + x;
	h->e = gradients ? h->part + part : NULL;
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
		pool_for(cpu_blocks(h.n, FINISH), finish_rows, &h);
		if (dx)
			pool_for(cpu_blocks(V, COLS), weights_chunk, &h);
	}
}

void cpu_head(struct backend *b)
{
	b->lmhead = cpu_lmhead;
}
