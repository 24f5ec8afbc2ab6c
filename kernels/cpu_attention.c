/*
 * cpu_attention: one head of one context is a block.  It goes over tiles of
 * QUERIES rows; a tile's scores against all earlier keys are a strip of
 * scratch memory, so that (T,T) is never held.
 */
#include "cpu.h"

#include <math.h>
#include <string.h>

enum { QUERIES = 64 };

struct attention {
	float *y, *dqkv;
	float *lse_out;
	const float *qkv, *dy, *cy, *lse;
	size_t T, C, NH, size;
	float scale;
};

/* Where head i's rows start: of qkv (ld 3C) and of y (ld C). */
static size_t qkv_at(const struct attention *a, size_t i, size_t t)
{
	return (i / a->NH * a->T + t) * 3 * a->C + i % a->NH * a->size;
}

static size_t y_at(const struct attention *a, size_t i, size_t t)
{
	return (i / a->NH * a->T + t) * a->C + i % a->NH * a->size;
}

/* s (n,keys) = rows a (n,size) · rows b (keys,size) */
static void scores(float *s, size_t ld, const float *a, size_t a_ld, const float *b, size_t b_ld,
		   size_t n, size_t keys, size_t size)
{
	dnn_gemm(&(struct dnn_gemm){ .M = n, .N = keys, .K = size, .c = s, .ldc = ld,
		.a = { a, a_ld, 1 }, .b = { b, 1, b_ld } });
}

static void fwd_tile(const struct attention *a, size_t i, size_t t, float *s)
{
	const size_t n = cpu_min(QUERIES, a->T - t), keys = t + n, ld = cpu_pad(a->T), C3 = 3 * a->C;
	const float *q = a->qkv + qkv_at(a, i, t), *k = a->qkv + qkv_at(a, i, 0) + a->C, *v = k + a->C;
	float *y = a->y + y_at(a, i, t), sum[QUERIES];

	scores(s, ld, q, C3, k, C3, n, keys, a->size);
	for (size_t r = 0; r < n; r++) {
		float *row = s + r * ld;
		const size_t seen = t + r + 1;
		const float max = cpu_k->highest(row, seen) * a->scale;

		sum[r] = cpu_k->exp_sum(row, a->scale, max, seen);
		memset(row + seen, 0, (keys - seen) * sizeof(*row));
		a->lse_out[i * a->T + t + r] = max + logf(sum[r]);
	}
	dnn_gemm(&(struct dnn_gemm){ .M = n, .N = a->size, .K = keys, .c = y, .ldc = a->C,
		.a = { s, ld, 1 }, .b = { v, C3, 1 } });
	for (size_t r = 0; r < n; r++)
		cpu_k->scale(y + r * a->C, y + r * a->C, 1 / sum[r], a->size);
}

static void fwd_head(void *arg, size_t i)
{
	const struct attention *a = arg;
	float *s = cpu_block_scratch(QUERIES * cpu_pad(a->T));

	for (size_t t = 0; t < a->T; t += QUERIES)
		fwd_tile(a, i, t, s);
}

static struct attention attention_of(const float *qkv, size_t T, size_t C, size_t NH)
{
	return (struct attention){ .qkv = qkv, .T = T, .C = C, .NH = NH, .size = C / NH,
		.scale = 1 / sqrtf((float)(C / NH)) };
}

static void cpu_attention_fwd(float *y, float *lse, const float *qkv, size_t B, size_t T, size_t C, size_t NH)
{
	struct attention a = attention_of(qkv, T, C, NH);

	a.y = y;
	a.lse_out = lse;
	pool_for(B * NH, fwd_head, &a);
}

/* p and ds (n,keys): probabilities and the gradient of the scaled products q k */
static void bwd_scores(const struct attention *a, size_t i, size_t t, float *p, float *ds)
{
	const size_t n = cpu_min(QUERIES, a->T - t), keys = t + n, ld = cpu_pad(a->T), C3 = 3 * a->C;
	const float *q = a->qkv + qkv_at(a, i, t), *k = a->qkv + qkv_at(a, i, 0) + a->C, *v = k + a->C;
	const float *dy = a->dy + y_at(a, i, t), *y = a->cy + y_at(a, i, t);

	scores(p, ld, q, C3, k, C3, n, keys, a->size);
	scores(ds, ld, dy, a->C, v, C3, n, keys, a->size);
	for (size_t r = 0; r < n; r++) {
		const size_t seen = t + r + 1, rest = keys - seen;
		const float delta = cpu_k->dot(dy + r * a->C, y + r * a->C, a->size);

		cpu_k->exp_sum(p + r * ld, a->scale, a->lse[i * a->T + t + r], seen);
		cpu_k->softmax_bwd(ds + r * ld, p + r * ld, delta, a->scale, seen);
		memset(p + r * ld + seen, 0, rest * sizeof(*p));
		memset(ds + r * ld + seen, 0, rest * sizeof(*ds));
	}
}

static void bwd_tile(const struct attention *a, size_t i, size_t t, float *p, float *ds)
{
	const size_t n = cpu_min(QUERIES, a->T - t), keys = t + n, ld = cpu_pad(a->T), C3 = 3 * a->C;
	const float *q = a->qkv + qkv_at(a, i, t), *k = a->qkv + qkv_at(a, i, 0) + a->C;
	float *dq = a->dqkv + qkv_at(a, i, t), *dk = a->dqkv + qkv_at(a, i, 0) + a->C, *dv = dk + a->C;

	bwd_scores(a, i, t, p, ds);
	dnn_gemm(&(struct dnn_gemm){ .M = n, .N = a->size, .K = keys, .c = dq, .ldc = C3,
		.a = { ds, ld, 1 }, .b = { k, C3, 1 } });
	dnn_gemm(&(struct dnn_gemm){ .M = keys, .N = a->size, .K = n, .c = dk, .ldc = C3,
		.a = { ds, 1, ld }, .b = { q, C3, 1 }, .accumulate = true });
	dnn_gemm(&(struct dnn_gemm){ .M = keys, .N = a->size, .K = n, .c = dv, .ldc = C3,
		.a = { p, 1, ld }, .b = { a->dy + y_at(a, i, t), a->C, 1 }, .accumulate = true });
}

static void bwd_head(void *arg, size_t i)
{
	const struct attention *a = arg;
	const size_t strip = QUERIES * cpu_pad(a->T);
	float *s = cpu_block_scratch(2 * strip);

	for (size_t t = 0; t < a->T; t++) {
		float *dk = a->dqkv + qkv_at(a, i, t) + a->C;

		memset(dk, 0, a->size * sizeof(*dk));
		memset(dk + a->C, 0, a->size * sizeof(*dk));
	}
	for (size_t t = 0; t < a->T; t += QUERIES)
		bwd_tile(a, i, t, s, s + strip);
}

static void cpu_attention_bwd(float *dqkv, const float *dy, const float *y, const float *lse,
			      const float *qkv, size_t B, size_t T, size_t C, size_t NH)
{
	struct attention a = attention_of(qkv, T, C, NH);

	a.dqkv = dqkv;
	a.dy = dy;
	a.cy = y;
	a.lse = lse;
	pool_for(B * NH, bwd_head, &a);
}

void cpu_attention(struct backend *b)
{
	b->attention_fwd = cpu_attention_fwd;
	b->attention_bwd = cpu_attention_bwd;
}
