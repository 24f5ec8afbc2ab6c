/*
 * cpu_sparse: gradients of the autoencoder by active latents alone.
 *
 * Only the encoder is a dense product.  A block of ROWS rows (1) encodes, a chunk of features at a
 * time so that it stays in L2, and keeps what is positive as (feature, value), row after row;
 * (2) decodes each row and takes the latents' gradients while the decoder's rows are still near.
 * Then (3) all entries are sorted by feature, and (4) each feature sums its rows of dxhat and x.
 * For (4) these two stand in slabs of SLAB columns, of which NEAR rows stay in L2.
 */
#include "cpu_bf16.h"

#include <string.h>

enum { ROWS = 256, CHUNK = 256, FEATURES = 128 };       /* rows of a block, features of a chunk and of a block */
enum { SLAB = 64, NEAR = 2048 };                        /* columns; rows, a multiple of ROWS */

/* Of the latents of a block: above, dense products are faster.  Measured with AVX-512, batch 2048:
 * `make out/bin/tests/bench && out/bin/tests/bench 1 sae_grad` (two rows lie on either side).  AVX2 and
 * plain vectors cross at 0.45 (third argument avx2, DNNL_MAX_CPU_ISA=AVX2), but entries take memory. */
static const double dense_from = 0.25;

struct entries {                /* of a block, row after row */
	uint32_t *feature;
	float *f, *df;
	uint32_t *row_start;    /* (ROWS + 1) */
};

struct sparse {
	struct sae_pass s;
	size_t blocks, cap;             /* entries that a block may have */
	struct entries e;               /* (blocks,cap), row_start (blocks,ROWS+1) */
	size_t slabs;
	float *xc, *dxhat;              /* (slabs,N,SLAB) x - b_dec, and the gradient of xhat */
	float *dxhat_sum;               /* (blocks,D) */
	struct sae_sums *sums;          /* (blocks) */
	bool *full;                     /* (blocks) */
	uint32_t *place;                /* (blocks,F): number, then place, then end of a feature's entries */
	uint32_t *start;                /* (F+1) */
	uint32_t *row;                  /* by feature: (start[F]) */
	float *f, *df;
};

static struct entries block_entries(const struct sparse *p, size_t i)
{
	return (struct entries){ p->e.feature + i * p->cap, p->e.f + i * p->cap,
		p->e.df ? p->e.df + i * p->cap : NULL, p->e.row_start + i * (ROWS + 1) };
}

/* ---- encode ---- */

/* Entries of a block as they are found, chunk by chunk: piece (chunk,row) ends where the next starts. */
struct found {
	float *tile;            /* (ROWS,CHUNK) */
	uint16_t *x;            /* in bf16: x - b_dec packed */
	uint32_t *feature;      /* (cap + CHUNK) */
	float *f;
	uint32_t *piece;        /* (chunks,ROWS) + 1 */
};

static size_t unit_size(const struct sae_pass *s)
{
	return bf16_units(s->D) * BF16_BLOCK;
}

static size_t found_size(const struct sae_pass *s, size_t chunks, size_t cap)
{
	const size_t x = s->enc16 ? ROWS / BF16_UNIT * unit_size(s) / 2 : 0;

	return ROWS * CHUNK + 2 * cpu_pad(cap + CHUNK) + cpu_pad(chunks * ROWS + 1) + x;
}

static struct found found_at(float *p, size_t chunks, size_t cap)
{
	struct found w = { .tile = p };

	w.f = w.tile + ROWS * CHUNK;
	w.feature = (uint32_t *)(void *)(w.f + cpu_pad(cap + CHUNK));
	w.piece = w.feature + cpu_pad(cap + CHUNK);
	w.x = (uint16_t *)(void *)(w.piece + cpu_pad(chunks * ROWS + 1));
	return w;
}

/* ---- the encoder's products ---- */

static void pack_features(void *arg, size_t u)
{
	const struct sae_pass *s = arg;
	const size_t j = u * BF16_UNIT, n = cpu_min(BF16_UNIT, s->F - j);
	union { const uint16_t *in; uint16_t *out; } to = { s->enc16 + u * unit_size(s) };
	union { const float *in; float *out; } bias = { s->bias16 + j };

	cpu_16->pack_columns(to.out, s->p.enc + j * s->D, s->D, n, s->D);
	memset(bias.out, 0, BF16_UNIT * sizeof(float));
	memcpy(bias.out, s->p.b_enc + j, n * sizeof(float));
}

void cpu_sae_pack(struct sae_pass *s)
{
	const size_t units = bf16_units(s->F), enc = units * unit_size(s) / 2;
	float *p = cpu_operand_scratch(enc + units * BF16_UNIT);

	s->enc16 = (const uint16_t *)(const void *)p;
	s->bias16 = p + enc;
	pool_for(units, pack_features, s);
}

static void pack_x(const struct sae_pass *s, const struct found *w, const float *xc, size_t n)
{
	for (size_t r = 0; r < n; r += BF16_UNIT)
		cpu_16->pack_rows(w->x + r / BF16_UNIT * unit_size(s), xc + r * s->D, s->D,
				  cpu_min(BF16_UNIT, n - r), s->D);
}

/* w->tile = n rows from r of features [j,j+cols) before they are rectified; returns how far rows are apart */
static size_t encode_tile(const struct sae_pass *s, const struct found *w, const float *xc, size_t r, size_t n,
			  size_t j, size_t cols)
{
	const size_t units = bf16_units(cols);

	if (!s->enc16) {
		dnn_gemm(&(struct dnn_gemm){ .M = n, .N = cols, .K = s->D, .c = w->tile, .ldc = CHUNK,
			.a = { xc + r * s->D, s->D, 1 }, .b = { s->p.enc + j * s->D, 1, s->D },
			.bias = s->p.b_enc + j });
		return CHUNK;
	}
	cpu_16->strip(w->tile, w->x + r / BF16_UNIT * unit_size(s), s->enc16 + j / BF16_UNIT * unit_size(s),
		      s->bias16 + j, units, bf16_units(s->D));
	return units * BF16_UNIT;
}

/* Fills w from xc (n,D); false when there are more than cap. */
static bool find_active(const struct sae_pass *s, struct found *w, const float *xc, size_t n, size_t cap)
{
	const size_t strip = s->enc16 ? BF16_UNIT : ROWS;
	uint32_t total = 0;
	size_t piece = 0, ld = 0;

	if (s->enc16)
		pack_x(s, w, xc, n);
	for (size_t j = 0; j < s->F; j += CHUNK)
		for (size_t r = 0; r < n; r++) {
			const size_t cols = cpu_min(CHUNK, s->F - j);

			if (r % strip == 0)
				ld = encode_tile(s, w, xc, r, cpu_min(strip, n - r), j, cols);
			w->piece[piece++] = total;
			total += (uint32_t)cpu_k->compact(w->feature + total, w->f + total,
				w->tile + r % strip * ld, (uint32_t)j, cols);
			if (total > cap)
				return false;
		}
	w->piece[piece] = total;
	return true;
}

/* From chunk after chunk to row after row. */
static void regroup(const struct entries *e, const struct found *w, size_t n, size_t chunks)
{
	uint32_t at = 0;

	for (size_t r = 0; r < n; r++) {
		e->row_start[r] = at;
		for (size_t c = 0; c < chunks; c++) {
			const uint32_t from = w->piece[c * n + r], k = w->piece[c * n + r + 1] - from;

			memcpy(e->feature + at, w->feature + from, k * sizeof(*e->feature));
			memcpy(e->f + at, w->f + from, k * sizeof(*e->f));
			at += k;
		}
	}
	e->row_start[n] = at;
}

/* ---- rows ---- */

/* Row r's error and penalty; d (D) = xhat - x */
static void row_sums(const struct sae_pass *s, struct sae_sums *sums, const struct entries *e, size_t r,
		     const float *d, size_t row)
{
	double l1 = 0;

	for (uint32_t i = e->row_start[r]; i < e->row_start[r + 1]; i++)
		l1 += (double)e->f[i];
	const double err2 = (double)cpu_k->dot(d, d, s->D);

	sums->err2 += err2;
	sums->l1 += l1;
	sums->l0 += e->row_start[r + 1] - e->row_start[r];
	if (s->err2)
		s->err2[row] = (float)err2;
	if (s->l1)
		s->l1[row] = (float)l1;
}

static void decode_row(const struct sae_pass *s, float *xhat, const struct entries *e, size_t r)
{
	const uint32_t from = e->row_start[r];

	cpu_k->gather_sum(xhat, s->p.b_dec, e->feature + from, e->f + from, e->row_start[r + 1] - from,
			  s->p.dec, s->D, s->D);
}

/* A row (D) to its place in the slabs */
static void spread(const struct sparse *p, float *slabs, size_t row, const float *x)
{
	for (size_t c = 0; c < p->s.D; c += SLAB)
		memcpy(slabs + (c / SLAB * p->s.N + row) * SLAB, x + c, cpu_min(SLAB, p->s.D - c) * sizeof(*x));
}

/* dxhat, df and sums of block i; d (D): scratch */
static void decode_block(const struct sparse *p, const struct entries *e, size_t i, size_t n, float *d)
{
	const struct sae_pass *s = &p->s;
	const size_t D = s->D, from = i * ROWS;
	const float scale = 2 / ((float)s->N * (float)D);
	float *sum = p->dxhat_sum + i * D;

	memset(sum, 0, D * sizeof(*sum));
	p->sums[i] = (struct sae_sums){ 0 };
	for (size_t r = 0; r < n; r++) {
		const uint32_t at = e->row_start[r];

		decode_row(s, d, e, r);
		cpu_k->sub(d, d, s->x + (from + r) * D, D);
		row_sums(s, &p->sums[i], e, r, d, from + r);
		cpu_k->scale(d, d, scale, D);
		cpu_k->axpy(sum, 1, d, D);
		spread(p, p->dxhat, from + r, d);
		cpu_k->gather_dots(e->df + at, d, s->lambda_n, e->feature + at, e->row_start[r + 1] - at,
				   s->p.dec, D);
	}
}

static void rows_block(void *arg, size_t i)
{
	const struct sparse *p = arg;
	const struct sae_pass *s = &p->s;
	const size_t from = i * ROWS, n = cpu_min(ROWS, s->N - from), chunks = cpu_blocks(s->F, CHUNK);
	const struct entries e = block_entries(p, i);
	float *xc = cpu_block_scratch(ROWS * cpu_pad(s->D) + found_size(s, chunks, p->cap));
	struct found w = found_at(xc + ROWS * cpu_pad(s->D), chunks, p->cap);
	uint32_t *count = p->place + i * s->F;

	for (size_t r = 0; r < n; r++) {
		cpu_k->sub(xc + r * s->D, s->x + (from + r) * s->D, s->p.b_dec, s->D);
		spread(p, p->xc, from + r, xc + r * s->D);
	}
	p->full[i] = !find_active(s, &w, xc, n, p->cap);
	if (p->full[i])
		return;
	regroup(&e, &w, n, chunks);
	decode_block(p, &e, i, n, xc);
	memset(count, 0, s->F * sizeof(*count));
	for (uint32_t k = 0; k < e.row_start[n]; k++)
		count[e.feature[k]]++;
}

/* ---- features ---- */

/* place[i][j]: where block i's entries of feature j go */
static void place_entries(struct sparse *p)
{
	const size_t F = p->s.F;
	uint32_t at = 0;

	memset(p->start, 0, (F + 1) * sizeof(*p->start));
	for (size_t i = 0; i < p->blocks; i++)
		for (size_t j = 0; j < F; j++) {
			const uint32_t k = p->place[i * F + j];

			p->place[i * F + j] = p->start[j];
			p->start[j] += k;
		}
	for (size_t j = 0; j <= F; j++) {
		const uint32_t k = p->start[j];

		p->start[j] = at;
		at += k;
	}
}

static void sort_block(void *arg, size_t i)
{
	const struct sparse *p = arg;
	const size_t from = i * ROWS, n = cpu_min(ROWS, p->s.N - from);
	const struct entries e = block_entries(p, i);
	uint32_t *place = p->place + i * p->s.F;

	for (size_t r = 0; r < n; r++)
		for (uint32_t k = e.row_start[r]; k < e.row_start[r + 1]; k++) {
			const uint32_t j = e.feature[k], at = p->start[j] + place[j]++;

			p->row[at] = (uint32_t)(from + r);
			p->f[at] = e.f[k];
			p->df[at] = e.df[k];
		}
}

/* Feature j's entries among the NEAR rows from `row`: their places */
static uint32_t entries_near(const struct sparse *p, size_t j, size_t row, uint32_t *from)
{
	const size_t first = row / ROWS, end = cpu_min(row + NEAR, p->s.N), last = (end - 1) / ROWS;

	*from = p->start[j] + (first ? p->place[(first - 1) * p->s.F + j] : 0);
	return p->start[j] + p->place[last * p->s.F + j] - *from;
}

/* g (F,D) of features [j,to) in the columns of a slab: Σ coef · rows of the slab */
static void sum_slab(const struct sparse *p, float *g, size_t slab, const float *coef, const float *rows,
		     size_t j, size_t to)
{
	const size_t D = p->s.D, c = slab * SLAB, width = cpu_min(SLAB, D - c);

	for (size_t row = 0; row < p->s.N; row += NEAR)
		for (size_t k = j; k < to; k++) {
			uint32_t from, n = entries_near(p, k, row, &from);
			float *y = g + k * D + c;

			if (n > 0 || row == 0)
				cpu_k->gather_sum(y, row ? y : NULL, p->row + from, coef + from, n,
						  rows + slab * p->s.N * SLAB, SLAB, width);
		}
}

/* Gradients of a block of features in the columns of a slab */
static void features_block(void *arg, size_t i)
{
	const struct sparse *p = arg;
	const struct sae_pass *s = &p->s;
	const size_t blocks = cpu_blocks(s->F, FEATURES), slab = i / blocks;
	const size_t j = i % blocks * FEATURES, to = cpu_min(j + FEATURES, s->F);

	sum_slab(p, s->g.dec, slab, p->f, p->dxhat, j, to);
	sum_slab(p, s->g.enc, slab, p->df, p->xc, j, to);
	for (size_t k = j; slab == 0 && k < to; k++) {
		double bias = 0;

		for (uint32_t at = p->start[k]; at < p->start[k + 1]; at++)
			bias += (double)p->df[at];
		s->g.b_enc[k] = (float)bias;
		if (s->fired)
			s->fired[k] += p->start[k + 1] - p->start[k];
	}
}

/* ---- passes ---- */

static uint32_t *take_ints(float **p, size_t n)
{
	uint32_t *at = (uint32_t *)(void *)*p;

	*p += cpu_pad(n);
	return at;
}

static float *take(float **p, size_t n)
{
	float *at = *p;

	*p += cpu_pad(n);
	return at;
}

static void carve(struct sparse *p)
{
	const size_t N = p->s.N, D = p->s.D, F = p->s.F, b = p->blocks, all = b * p->cap;
	const size_t sums = b * sizeof(struct sae_sums) / sizeof(float);
	float *at = cpu_op_scratch(6 * cpu_pad(all) + 2 * p->slabs * N * SLAB + cpu_pad(b * (ROWS + 1)) +
				   cpu_pad(b * D) + cpu_pad(sums) + cpu_pad(b * F) + cpu_pad(F + 1) + cpu_pad(b));

	p->sums = (struct sae_sums *)(void *)take(&at, sums);
	p->e = (struct entries){ take_ints(&at, all), take(&at, all), take(&at, all), take_ints(&at, b * (ROWS + 1)) };
	p->row = take_ints(&at, all);
	p->f = take(&at, all);
	p->df = take(&at, all);
	p->xc = take(&at, p->slabs * N * SLAB);
	p->dxhat = take(&at, p->slabs * N * SLAB);
	p->dxhat_sum = take(&at, b * D);
	p->place = take_ints(&at, b * F);
	p->start = take_ints(&at, F + 1);
	p->full = (bool *)(void *)take(&at, b);
}

static size_t most_entries(size_t F)
{
	return (size_t)((double)(ROWS * F) * dense_from) + 1;
}

bool cpu_sae_grad_sparse(struct sae_sums *sums, const struct sae_pass *s)
{
	struct sparse p = { .s = *s, .blocks = cpu_blocks(s->N, ROWS), .cap = most_entries(s->F),
		.slabs = cpu_blocks(s->D, SLAB) };

	carve(&p);
	pool_for(p.blocks, rows_block, &p);
	for (size_t i = 0; i < p.blocks; i++)
		if (p.full[i])
			return false;
	place_entries(&p);
	pool_for(p.blocks, sort_block, &p);
	pool_for(p.slabs * cpu_blocks(s->F, FEATURES), features_block, &p);
	cpu_sae_grad_bias(s, p.dxhat_sum, p.blocks);
	cpu_sae_add_up(sums, p.sums, p.blocks);
	return true;
}

bool cpu_sae_forward_sparse(struct sae_sums *sums, const struct sae_pass *s, size_t from, size_t n)
{
	const size_t chunks = cpu_blocks(s->F, CHUNK), cap = most_entries(s->F), D = s->D;
	float *at = cpu_block_scratch(found_size(s, chunks, cap) + 2 * cpu_pad(cap) + cpu_pad(ROWS + 1) +
				      cpu_pad(D) + ROWS * D);
	struct found w = found_at(at, chunks, cap);

	if (n > ROWS)
		BUG("%zu rows in a block", n);
	at += found_size(s, chunks, cap);
	const struct entries e = { take_ints(&at, cap), take(&at, cap), NULL, take_ints(&at, ROWS + 1) };
	float *d = take(&at, D), *xc = at;

	for (size_t r = 0; r < n; r++)
		cpu_k->sub(xc + r * D, s->x + (from + r) * D, s->p.b_dec, D);
	if (!find_active(s, &w, xc, n, cap))
		return false;
	regroup(&e, &w, n, chunks);
	for (size_t r = 0; r < n; r++) {
		float *xhat = s->xhat ? s->xhat + (from + r) * D : d;

		decode_row(s, xhat, &e, r);
		cpu_k->sub(d, xhat, s->x + (from + r) * D, D);
		row_sums(s, sums, &e, r, d, from + r);
	}
	for (uint32_t k = 0; s->fired && k < e.row_start[n]; k++)
		__atomic_fetch_add(&s->fired[e.feature[k]], 1, __ATOMIC_RELAXED);
	return true;
}

bool cpu_sae_decode_sparse(float *xhat, const struct sae_pass *s, const float *f, size_t n)
{
	const size_t most = (size_t)((double)(n * s->F) * dense_from) + 1;
	float *value = cpu_block_scratch(2 * cpu_pad(s->F));
	uint32_t *feature = (uint32_t *)(void *)(value + cpu_pad(s->F));
	size_t total = 0;

	for (size_t r = 0; r < n; r++) {
		const size_t k = cpu_k->compact(feature, value, f + r * s->F, 0, s->F);

		total += k;
		if (total > most)
			return false;
		cpu_k->gather_sum(xhat + r * s->D, s->p.b_dec, feature, value, k, s->p.dec, s->D, s->D);
	}
	return true;
}

/* ---- active latents alone ---- */

struct search {
	struct sae_pass s;
	uint32_t *rows, *feats;         /* (cap): a block's from block · share on */
	float *f;
	size_t share, *count;           /* (blocks) */
};

static void search_block(void *arg, size_t i)
{
	const struct search *p = arg;
	const struct sae_pass *s = &p->s;
	const size_t from = i * ROWS, n = cpu_min(ROWS, s->N - from), D = s->D, chunks = cpu_blocks(s->F, CHUNK);
	const size_t cap = cpu_min(p->share, n * s->F);
	float *at = cpu_block_scratch(found_size(s, chunks, cap) + cpu_pad(ROWS + 1) + ROWS * D);
	struct found w = found_at(at, chunks, cap);

	at += found_size(s, chunks, cap);
	const struct entries e = { p->feats + i * p->share, p->f + i * p->share, NULL, take_ints(&at, ROWS + 1) };

	for (size_t r = 0; r < n; r++)
		cpu_k->sub(at + r * D, s->x + (from + r) * D, s->p.b_dec, D);
	p->count[i] = SIZE_MAX;
	if (!find_active(s, &w, at, n, cap))
		return;
	regroup(&e, &w, n, chunks);
	for (size_t r = 0; r < n; r++)
		for (uint32_t k = e.row_start[r]; k < e.row_start[r + 1]; k++)
			p->rows[i * p->share + k] = (uint32_t)(from + r);
	p->count[i] = e.row_start[n];
}

size_t cpu_sae_active(struct sae_pass *s, uint32_t *rows, uint32_t *feats, float *f, size_t cap)
{
	const size_t blocks = cpu_blocks(s->N, ROWS);
	if (s->bf16)
		cpu_sae_pack(s);
	struct search p = { *s, rows, feats, f, cap / blocks, NULL };
	size_t total = 0;

	if (p.share == 0)
		return 2 * blocks;
	p.count = (size_t *)(void *)cpu_op_scratch(blocks * sizeof(*p.count) / sizeof(float));
	pool_for(blocks, search_block, &p);
	for (size_t i = 0; i < blocks; i++) {
		if (p.count[i] == SIZE_MAX)
			return 2 * cap;
		memmove(rows + total, rows + i * p.share, p.count[i] * sizeof(*rows));
		memmove(feats + total, feats + i * p.share, p.count[i] * sizeof(*feats));
		memmove(f + total, f + i * p.share, p.count[i] * sizeof(*f));
		total += p.count[i];
	}
	return total;
}
