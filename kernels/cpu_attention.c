/*
 * cpu_attention: one head of one context is a block, gone through by panels of queries, which are
 * lanes.  Scores of a panel against all keys up to it, E = exp(score - own), are a strip of scratch
 * memory, so that (T,T) is never held; own is the query's score of its own key, so the sum over keys
 * is >= 1 and no pass for the maximum is needed.  Should another score exceed it by so much that
 * the sum overflows, the panel is done again relative to the maximum.
 *
 * Backward: p = exp(score - lse), dp = <dy, v> - <dy, y>, ds = scale p dp; dq = ds k, dk += ds q,
 * dv += p dy, the last two for QUERIES queries at a time.
 */
#include "cpu.h"

#include <math.h>
#include <string.h>

enum { QUERIES = 64 };          /* a multiple of CPU_PANEL_MAX */
static const float log2e = 1.44269504f, overflow = 1e30f;

struct attention {
	float *y, *dqkv, *lse_out;
	const float *q, *kv, *dy, *y_in, *lse;
	size_t T, C, NH, size, q_ld, kv_ld;
	const uint32_t *rows;           /* NULL: all are queries; otherwise n of them */
	size_t n;
	float scale;
};

/* One head: rows of q (ld q_ld), k, v (ld kv_ld) and of y, dy (ld C), and of the gradients. */
struct head {
	const struct attention *a;
	const float *q, *k, *v, *y_in, *dy, *lse;
	float *y, *dq, *dk, *dv, *lse_out;
};

/* Queries of a panel: consecutive rows of q, and their positions, ascending */
struct queries {
	size_t first, n;
	uint32_t at[CPU_PANEL_MAX];
};

static struct head head_at(const struct attention *a, size_t i)
{
	const size_t row = i / a->NH * a->T, col = i % a->NH * a->size, at = row * 3 * a->C + col;
	const size_t y_at = row * a->C + col;
	struct head h = { .a = a, .k = a->kv + row * a->kv_ld + col };

	h.v = h.k + a->C;
	if (a->rows) {
		h.q = a->q + col;
		h.y = a->y + col;
		return h;
	}
	h.q = a->q + at;

	if (a->dqkv) {
		h.dq = a->dqkv + at;
		h.dk = h.dq + a->C;
		h.dv = h.dk + a->C;
		h.y_in = a->y_in + y_at;
		h.dy = a->dy + y_at;
		h.lse = a->lse + i * a->T;
	} else {
		h.y = a->y + y_at;
		h.lse_out = a->lse_out + i * a->T;
	}
	return h;
}

/* ---- panels ---- */

/* xt (size,panel) = factor · n rows of x (ld apart), transposed; zeros where there is no row */
static void transpose(float *xt, const float *x, size_t ld, size_t n, size_t size, float factor)
{
	const size_t P = cpu_k->panel;

	for (size_t d = 0; d < size; d++) {
		for (size_t i = 0; i < n; i++)
			xt[d * P + i] = factor * x[i * ld + d];
		for (size_t i = n; i < P; i++)
			xt[d * P + i] = 0;
	}
}

/* n rows of y (ld apart) = factor (n) · xt (size,panel), transposed */
static void transpose_back(float *y, size_t ld, const float *xt, const float *factor, size_t n, size_t size)
{
	for (size_t i = 0; i < n; i++)
		for (size_t d = 0; d < size; d++)
			y[i * ld + d] = factor[i] * xt[d * cpu_k->panel + i];
}

static struct queries consecutive(size_t t, size_t n)
{
	struct queries q = { .first = t, .n = n };

	for (size_t i = 0; i < n; i++)
		q.at[i] = (uint32_t)(t + i);
	return q;
}

static size_t keys_of(const struct queries *q)
{
	return q->at[q->n - 1] + 1;
}

/* Column i of e (keys,panel) behind its query = with */
static void causal(float *e, const struct queries *q, float with)
{
	for (size_t key = q->at[0] + 1; key < keys_of(q); key++)
		for (size_t i = 0; q->at[i] < key; i++)
			e[key * cpu_k->panel + i] = with;
}

/* e (keys,panel) = 2^(score - reference) of the queries; later keys as good as 0; sum (panel) */
static void probabilities(const struct head *h, float *e, float *sum, const float *xt, const float *reference,
			  const struct queries *q)
{
	const size_t P = cpu_k->panel, keys = keys_of(q);
	struct cpu_fetch none = { 0 };

	memset(sum, 0, P * sizeof(*sum));
	cpu_k->panel_product(e, xt, reference, h->k, h->a->kv_ld, keys, h->a->size, &none);
	causal(e, q, -1e4f);    /* 2^-1e4 is 0, or as good as */
	cpu_k->panel_exp(e, sum, keys);
}

/* ---- forward ---- */

/* reference (panel) = the highest score of each query; e: scratch */
static void highest(const struct head *h, float *e, float *reference, const float *xt, const struct queries *q)
{
	const size_t P = cpu_k->panel, keys = keys_of(q);
	struct cpu_fetch none = { 0 };

	memset(reference, 0, P * sizeof(*reference));
	cpu_k->panel_product(e, xt, reference, h->k, h->a->kv_ld, keys, h->a->size, &none);
	causal(e, q, -INFINITY);
	for (size_t i = 0; i < q->n; i++) {
		reference[i] = -INFINITY;
		for (size_t j = 0; j < keys; j++)
			reference[i] = fmaxf(reference[i], e[j * P + i]);
	}
}

static void fwd_panel(const struct head *h, const struct queries *p, float *xt, float *part, float *e)
{
	const struct attention *a = h->a;
	const size_t P = cpu_k->panel, size = a->size;
	const float *q = h->q + p->first * a->q_ld;
	float sum[CPU_PANEL_MAX], reference[CPU_PANEL_MAX] = { 0 };
	bool safe = true;

	transpose(xt, q, a->q_ld, p->n, size, a->scale * log2e);
	for (size_t i = 0; i < p->n; i++)
		reference[i] = cpu_k->dot(q + i * a->q_ld, h->k + p->at[i] * a->kv_ld, size) * a->scale * log2e;
	probabilities(h, e, sum, xt, reference, p);
	for (size_t i = 0; i < p->n; i++)
		safe = safe && sum[i] < overflow;
	if (!safe) {
		highest(h, e, reference, xt, p);
		probabilities(h, e, sum, xt, reference, p);
	}
	memset(part, 0, size * P * sizeof(*part));
	cpu_k->panel_sum(part, e, h->v, a->kv_ld, keys_of(p), size);
	for (size_t i = 0; i < p->n; i++) {
		if (h->lse_out)
			h->lse_out[p->at[i]] = reference[i] / log2e + logf(sum[i]);
		sum[i] = 1 / sum[i];
	}
	transpose_back(h->y + p->first * a->C, a->C, part, sum, p->n, size);
}

static float *fwd_scratch(const struct attention *a)
{
	return cpu_block_scratch((2 * a->size + a->T) * cpu_k->panel);
}

static void fwd_head(void *arg, size_t i)
{
	const struct attention *a = arg;
	const struct head h = head_at(a, i);
	const size_t P = cpu_k->panel;
	float *xt = fwd_scratch(a), *part = xt + a->size * P, *e = part + a->size * P;

	for (size_t t = 0; t < a->T; t += P) {
		const struct queries q = consecutive(t, cpu_min(P, a->T - t));

		fwd_panel(&h, &q, xt, part, e);
	}
}

static struct attention attention_of(size_t T, size_t C, size_t NH)
{
	return (struct attention){ .T = T, .C = C, .NH = NH, .size = C / NH, .q_ld = 3 * C, .kv_ld = 3 * C,
		.scale = 1 / sqrtf((float)(C / NH)) };
}

static void cpu_attention_fwd(float *y, float *lse, const float *qkv, size_t B, size_t T, size_t C, size_t NH)
{
	struct attention a = attention_of(T, C, NH);

	a.q = qkv;
	a.kv = qkv + C;
	a.y = y;
	a.lse_out = lse;
	pool_for(B * NH, fwd_head, &a);
}

/* ---- forward, of some rows ---- */

/* The first of the rows that is not below `row` */
static size_t lower_bound(const struct attention *a, size_t row)
{
	size_t from = 0, to = a->n;

	while (from < to) {
		const size_t middle = from + (to - from) / 2;

		if (a->rows[middle] < row)
			from = middle + 1;
		else
			to = middle;
	}
	return from;
}

static void rows_head(void *arg, size_t i)
{
	const struct attention *a = arg;
	const struct head h = head_at(a, i);
	const size_t P = cpu_k->panel, first = i / a->NH * a->T, end = lower_bound(a, first + a->T);
	float *xt = fwd_scratch(a), *part = xt + a->size * P, *e = part + a->size * P;

	for (size_t r = lower_bound(a, first); r < end; r += P) {
		struct queries q = { .first = r, .n = cpu_min(P, end - r) };

		for (size_t j = 0; j < q.n; j++)
			q.at[j] = a->rows[r + j] - (uint32_t)first;
		fwd_panel(&h, &q, xt, part, e);
	}
}

static void cpu_attention_rows(float *y, const float *q, const float *kv, const uint32_t *rows, size_t n,
			       size_t B, size_t T, size_t C, size_t NH)
{
	struct attention a = attention_of(T, C, NH);

	a.q = q;
	a.q_ld = C;
	a.kv = kv;
	a.kv_ld = 2 * C;
	a.rows = rows;
	a.n = n;
	a.y = y;
	pool_for(B * NH, rows_head, &a);
}

/* ---- backward ---- */

struct scratch {                /* of a block */
	float *xt, *part;               /* (size,panel) */
	float *rows;                    /* (column panels,QUERIES,panel) rows of q or of dy */
	float *p, *ds;                  /* (QUERIES/panel,keys,panel), keys <= T */
};

/* p and ds of the panel at t, of keys keys, and dq */
static void bwd_panel(const struct head *h, size_t t, size_t keys, const struct scratch *s, float *p, float *ds)
{
	const struct attention *a = h->a;
	const size_t P = cpu_k->panel, n = cpu_min(P, a->T - t), ld = 3 * a->C, size = a->size;
	const struct queries q = consecutive(t, n);
	float sum[CPU_PANEL_MAX], reference[CPU_PANEL_MAX] = { 0 }, one[CPU_PANEL_MAX];
	struct cpu_fetch none = { 0 };

	for (size_t i = 0; i < n; i++)
		reference[i] = h->lse[t + i] * log2e;
	transpose(s->xt, h->q + t * ld, ld, n, size, a->scale * log2e);
	probabilities(h, p, sum, s->xt, reference, &q);
	for (size_t i = 0; i < n; i++) {
		const float *dy = h->dy + (t + i) * a->C;

		reference[i] = cpu_k->dot(dy, h->y_in + (t + i) * a->C, size);
		one[i] = 1;
	}
	transpose(s->xt, h->dy + t * a->C, a->C, n, size, 1);
	cpu_k->panel_product(ds, s->xt, reference, h->v, ld, t + n, size, &none);
	cpu_k->mul(ds, p, a->scale, (t + n) * P);
	memset(p + (t + n) * P, 0, (keys - t - n) * P * sizeof(*p));
	memset(ds + (t + n) * P, 0, (keys - t - n) * P * sizeof(*ds));
	memset(s->part, 0, size * P * sizeof(*s->part));
	cpu_k->panel_sum(s->part, ds, h->k, ld, t + n, size);
	transpose_back(h->dq + t * ld, ld, s->part, one, n, size);
}

/* dw (keys,size) += eᵀ · n rows of x, ld apart; dw's are 3C apart */
static void outer(const struct head *h, float *dw, const float *e, const float *x, size_t ld, size_t n,
		  size_t keys, const struct scratch *s)
{
	const size_t P = cpu_k->panel, size = h->a->size, panels = cpu_blocks(n, P);
	struct cpu_fetch none = { 0 };

	for (size_t d = 0; d < size; d += P)
		for (size_t i = 0; i < panels * P; i++) {
			const size_t width = i < n ? cpu_min(P, size - d) : 0;
			float *to = s->rows + (d / P * QUERIES + i) * P;

			memcpy(to, x + i * ld + d, width * sizeof(*to));
			memset(to + width, 0, (P - width) * sizeof(*to));
		}
	cpu_k->panel_outer(dw, 3 * h->a->C, e, keys * P, s->rows, QUERIES * P, panels, keys, size, &none, &none);
}

static void bwd_head(void *arg, size_t i)
{
	const struct attention *a = arg;
	const struct head h = head_at(a, i);
	const size_t P = cpu_k->panel, ld = 3 * a->C, rows = cpu_blocks(a->size, P) * QUERIES * P;
	struct scratch s = { .xt = cpu_block_scratch(2 * a->size * P + rows + 2 * QUERIES * a->T) };

	s.part = s.xt + a->size * P;
	s.rows = s.part + a->size * P;
	s.p = s.rows + rows;
	s.ds = s.p + QUERIES * a->T;
	for (size_t t = 0; t < a->T; t++) {
		memset(h.dk + t * ld, 0, a->size * sizeof(*h.dk));
		memset(h.dv + t * ld, 0, a->size * sizeof(*h.dv));
	}
	for (size_t t = 0; t < a->T; t += QUERIES) {
		const size_t n = cpu_min(QUERIES, a->T - t), keys = t + n;

		for (size_t j = 0; j < n; j += P)
			bwd_panel(&h, t + j, keys, &s, s.p + j * keys, s.ds + j * keys);
		outer(&h, h.dk, s.ds, h.q + t * ld, ld, n, keys, &s);
		outer(&h, h.dv, s.p, h.dy + t * a->C, a->C, n, keys, &s);
	}
}

static void cpu_attention_bwd(float *dqkv, const float *dy, const float *y, const float *lse,
			      const float *qkv, size_t B, size_t T, size_t C, size_t NH)
{
	struct attention a = attention_of(T, C, NH);

	a.q = qkv;
	a.kv = qkv + C;
	a.dqkv = dqkv;
	a.dy = dy;
	a.y_in = y;
	a.lse = lse;
	pool_for(B * NH, bwd_head, &a);
}

void cpu_attention(struct backend *b)
{
	b->attention_fwd = cpu_attention_fwd;
	b->attention_rows = cpu_attention_rows;
	b->attention_bwd = cpu_attention_bwd;
}
