/* cpu_rows: embedding, layernorm and other ops that go row by row. */
#include "cpu.h"

#include <math.h>
#include <string.h>

enum { ROWS = 64 };             /* rows of a block */

struct rows {
	float *y, *mean, *rstd, *dw, *db;
	const float *x, *dy, *w, *b, *cmean, *crstd;
	const int32_t *idx;
	const uint32_t *rows;
	double *sums;
	size_t N, C, B, T, V;
};

static size_t rows_at(const struct rows *r, size_t block, size_t *from)
{
	*from = block * ROWS;
	return cpu_min(ROWS, r->N - *from);
}

static void for_rows(struct rows *r, void (*block)(void *arg, size_t i))
{
	pool_for(cpu_blocks(r->N, ROWS), block, r);
}

static void embed_fwd_block(void *arg, size_t i)
{
	const struct rows *r = arg;
	const size_t C = r->C;
	size_t from, n = rows_at(r, i, &from);

	for (size_t row = from; row < from + n; row++) {
		memcpy(r->y + row * C, r->w + (size_t)r->idx[row] * C, C * sizeof(float));
		cpu_k->axpy(r->y + row * C, 1, r->b + row % r->T * C, C);
	}
}

static void cpu_embed_fwd(float *x, const int32_t *idx, const float *wte, const float *wpe,
			  size_t B, size_t T, size_t C)
{
	for_rows(&(struct rows){ .y = x, .idx = idx, .w = wte, .b = wpe, .N = B * T, .T = T, .C = C }, embed_fwd_block);
}

enum { SHARES = 16 };           /* of the vocabulary: each scans all tokens and adds those it owns */

static void embed_bwd_share(void *arg, size_t share)
{
	const struct rows *r = arg;
	const size_t C = r->C, from = r->V * share / SHARES, to = r->V * (share + 1) / SHARES;

	for (size_t i = 0; i < r->N; i++)
		if ((size_t)r->idx[i] >= from && (size_t)r->idx[i] < to)
			cpu_k->axpy(r->dw + (size_t)r->idx[i] * C, 1, r->x + i * C, C);
}

static void embed_bwd_position(void *arg, size_t t)
{
	const struct rows *r = arg;

	for (size_t b = 0; b < r->B; b++)
		cpu_k->axpy(r->db + t * r->C, 1, r->x + (b * r->T + t) * r->C, r->C);
}

static void cpu_embed_bwd(float *dwte, float *dwpe, const float *dx, const int32_t *idx,
			  size_t B, size_t T, size_t C, size_t V)
{
	struct rows r = { .dw = dwte, .db = dwpe, .x = dx, .idx = idx, .N = B * T, .B = B, .T = T, .C = C, .V = V };

	pool_for(SHARES, embed_bwd_share, &r);
	pool_for(T, embed_bwd_position, &r);
}

static void layernorm_fwd_block(void *arg, size_t i)
{
	const struct rows *r = arg;
	size_t from, n = rows_at(r, i, &from);

	cpu_k->layernorm_fwd(r->y + from * r->C, r->mean + from, r->rstd + from, r->x + from * r->C,
			     r->w, r->b, n, r->C);
}

static void cpu_layernorm_fwd(float *y, float *mean, float *rstd, const float *x, const float *w,
			      const float *b, size_t N, size_t C)
{
	for_rows(&(struct rows){ .y = y, .mean = mean, .rstd = rstd, .x = x, .w = w, .b = b, .N = N, .C = C },
		 layernorm_fwd_block);
}

static void layernorm_bwd_block(void *arg, size_t i)
{
	const struct rows *r = arg;
	const size_t C = r->C;
	size_t from, n = rows_at(r, i, &from);

	cpu_k->layernorm_bwd(r->y + from * C, r->dw + i * 2 * C, r->dw + (i * 2 + 1) * C, r->dy + from * C,
			     r->x + from * C, r->w, r->cmean + from, r->crstd + from, n, C);
}

/* y (C) += the sum of `blocks` rows, `ld` apart */
static void add_partial(float *y, const float *part, size_t ld, size_t blocks, size_t C)
{
	for (size_t c = 0; c < C; c++) {
		double sum = 0;

		for (size_t i = 0; i < blocks; i++)
			sum += (double)part[i * ld + c];
		y[c] = (float)((double)y[c] + sum);
	}
}

static void cpu_layernorm_bwd(float *dx, float *dw, float *db, const float *dy, const float *x,
			      const float *w, const float *mean, const float *rstd, size_t N, size_t C)
{
	const size_t blocks = cpu_blocks(N, ROWS);
	struct rows r = { .y = dx, .dw = cpu_op_scratch(blocks * 2 * C), .dy = dy, .x = x, .w = w,
		.cmean = mean, .crstd = rstd, .N = N, .C = C };

	for_rows(&r, layernorm_bwd_block);
	add_partial(dw, r.dw, 2 * C, blocks, C);
	if (db)
		add_partial(db, r.dw + C, 2 * C, blocks, C);
}

static void fill_rows_block(void *arg, size_t i)
{
	const struct rows *r = arg;
	size_t from, n = rows_at(r, i, &from);

	for (size_t row = from; row < from + n; row++)
		memcpy(r->y + row * r->C, r->x, r->C * sizeof(float));
}

static void cpu_fill_rows(float *y, const float *row, size_t N, size_t C)
{
	for_rows(&(struct rows){ .y = y, .x = row, .N = N, .C = C }, fill_rows_block);
}

static void gather_rows_block(void *arg, size_t i)
{
	const struct rows *r = arg;
	size_t from, n = rows_at(r, i, &from);

	for (size_t row = from; row < from + n; row++)
		memcpy(r->y + row * r->C, r->x + r->rows[row] * r->C, r->C * sizeof(float));
}

static void cpu_gather_rows(float *y, const float *x, const uint32_t *rows, size_t n, size_t C)
{
	for_rows(&(struct rows){ .y = y, .x = x, .rows = rows, .N = n, .C = C }, gather_rows_block);
}

static void column_sums_block(void *arg, size_t i)
{
	const struct rows *r = arg;
	double *sum = r->sums + i * r->C;
	size_t from, n = rows_at(r, i, &from);

	memset(sum, 0, r->C * sizeof(*sum));
	for (size_t row = from; row < from + n; row++)
		for (size_t c = 0; c < r->C; c++)
			sum[c] += (double)r->x[row * r->C + c];
}

static void cpu_column_sums(double *sum, const float *x, size_t N, size_t C)
{
	const size_t blocks = cpu_blocks(N, ROWS);
	struct rows r = { .x = x, .N = N, .C = C, .sums = (double *)(void *)cpu_op_scratch(2 * blocks * C) };

	for_rows(&r, column_sums_block);
	for (size_t i = 0; i < blocks; i++)
		for (size_t c = 0; c < C; c++)
			sum[c] += r.sums[i * C + c];
}

struct ablation {
	float *effect;
	const uint32_t *rows, *feats;
	const float *f, *r, *dir, *ln_w, *wte;
	const int32_t *targets;
	size_t n, C;
};

enum { ABLATIONS = 1024 };      /* of a block */

static void ablate_block(void *arg, size_t block)
{
	const struct ablation *a = arg;
	float *scratch = cpu_block_scratch(2 * CPU_ABLATE_PAD(a->C));
	const size_t C = a->C, from = block * ABLATIONS, to = cpu_min(from + ABLATIONS, a->n);

	for (size_t i = from, n; i < to; i += n) { /* entries of a row follow one another */
		const int32_t target = a->targets[a->rows[i]];

		for (n = 1; i + n < to && a->rows[i + n] == a->rows[i]; )
			n++;
		if (target < 0)
			memset(a->effect + i, 0, n * sizeof(*a->effect));
		else
			cpu_k->ablate(a->effect + i, a->r + a->rows[i] * C, a->dir, a->feats + i, a->f + i, n,
				      a->ln_w, a->wte + (size_t)target * C, C, scratch);
	}
}

static void cpu_ablate_logit(float *effect, const uint32_t *rows, const uint32_t *feats, const float *f,
			     size_t n, const float *r, const float *dir, const float *ln_w,
			     const float *ln_b, const float *wte, const int32_t *targets, size_t C)
{
	struct ablation a = { effect, rows, feats, f, r, dir, ln_w, wte, targets, n, C };

	pool_for(cpu_blocks(n, ABLATIONS), ablate_block, &a);
	(void)ln_b;     /* shifts both logits alike */
}

/* ---- rows of unit norm ---- */

static float length(const float *w, size_t n)
{
	return fmaxf(sqrtf(cpu_k->dot(w, w, n)), 1e-12f);
}

static void project_block(void *arg, size_t i)
{
	const struct rows *r = arg;
	size_t from, n = rows_at(r, i, &from);

	for (size_t row = from; row < from + n; row++) {
		const float *w = r->w + row * r->C, norm = length(w, r->C);
		float *g = r->y + row * r->C;

		cpu_k->axpy(g, -(cpu_k->dot(g, w, r->C) / norm) / norm, w, r->C);
	}
}

static void cpu_project_rows(float *g, const float *w, size_t F, size_t D)
{
	for_rows(&(struct rows){ .y = g, .w = w, .N = F, .C = D }, project_block);
}

static void normalise_block(void *arg, size_t i)
{
	const struct rows *r = arg;
	size_t from, n = rows_at(r, i, &from);

	for (size_t row = from; row < from + n; row++) {
		float *w = r->y + row * r->C;

		cpu_k->scale(w, w, 1 / length(w, r->C), r->C);
	}
}

static void cpu_normalise_rows(float *w, size_t F, size_t D)
{
	for_rows(&(struct rows){ .y = w, .N = F, .C = D }, normalise_block);
}

static void row_norms_block(void *arg, size_t i)
{
	const struct rows *r = arg;
	size_t from, n = rows_at(r, i, &from);

	for (size_t row = from; row < from + n; row++)
		r->y[row] = sqrtf(cpu_k->dot(r->w + row * r->C, r->w + row * r->C, r->C));
}

static void cpu_row_norms(float *norm, const float *w, size_t F, size_t D)
{
	for_rows(&(struct rows){ .y = norm, .w = w, .N = F, .C = D }, row_norms_block);
}

void cpu_rows(struct backend *b)
{
	b->embed_fwd = cpu_embed_fwd;
	b->embed_bwd = cpu_embed_bwd;
	b->layernorm_fwd = cpu_layernorm_fwd;
	b->layernorm_bwd = cpu_layernorm_bwd;
	b->fill_rows = cpu_fill_rows;
	b->gather_rows = cpu_gather_rows;
	b->column_sums = cpu_column_sums;
	b->ablate_logit = cpu_ablate_logit;
	b->project_rows = cpu_project_rows;
	b->normalise_rows = cpu_normalise_rows;
	b->row_norms = cpu_row_norms;
}
