/*
 * cuda_sae: the autoencoder's passes as dense products, with what lies between
 * them in one kernel each (cuda_sae.cu).  Where latents of all rows would take
 * more than a quarter of the card's memory, rows go through some at a time.
 */
#include "cuda_sae.h"

enum { SHARE = 4, BF16 = 2, ALIGN = 256 };

/* A pass over N rows, some at a time, in memory of its own. */
struct pass {
	enum cuda_mode mode;
	bool narrow;            /* operands are bf16, and so are latents between products */
	const struct sae_params *p;
	size_t N, D, F, rows;   /* rows: at a time */
	size_t ld_d, ld_f;      /* of what is (rows,D) and (rows,F) here */
	struct cuda_operand enc, dec;   /* for products */
	void *xc, *dx;          /* (rows,D) x - b_dec, gradient of xhat */
	void *f, *dpre;         /* (rows,F) */
	float *xhat;            /* (rows,D) */
	struct sae_sums *sums;  /* when the caller's are on the host */
	float *err2, *l1, *l0, *columns_f, *columns_d;  /* partial sums of all N rows, as cuda_sae.h says */
};

static size_t up_to(size_t n, size_t unit)
{
	return (n + unit - 1) / unit * unit;
}

static size_t value_bytes(bool narrow)
{
	return narrow ? BF16 : sizeof(float);
}

/* How many of N rows at a time, of so many bytes of latents each.  Of the card it is its size that counts,
 * not what is free: the same card makes the same bytes. */
static size_t rows_at_once(size_t N, size_t bytes)
{
	const size_t fit = cuda_memory() / SHARE / bytes / SAE_STRIP * SAE_STRIP, rows = fit ? fit : SAE_STRIP;

	return rows < N ? rows : N;
}

static struct pass pass_of(enum cuda_mode mode, const struct sae_params *p, size_t N, size_t D, size_t F,
			   size_t latents)
{
	const bool narrow = mode == CUDA_BF16;
	const size_t ld_f = up_to(F, 8);

	return (struct pass){ .mode = mode, .narrow = narrow, .p = p, .N = N, .D = D, .F = F,
		.rows = rows_at_once(N, ld_f * latents), .ld_d = up_to(D, 8), .ld_f = ld_f };
}

/* Of SCRATCH_ROWS: centred rows, partial sums.  (SCRATCH_SUMS is taken by those who add these up.) */
static void take_rows(struct pass *s)
{
	const size_t strips = sae_strips(s->N), tiles = sae_latent_tiles(s->narrow, s->F);
	const size_t bytes[] = {
		sizeof(*s->sums), s->rows * s->ld_d * value_bytes(s->narrow), s->N * sae_tiles(s->D) * sizeof(float),
		s->N * tiles * sizeof(float), strips * tiles * SAE_WARPS * sizeof(float),
		strips * s->F * sizeof(float), (strips + sae_strips(s->F)) * s->D * sizeof(float),
	};
	enum { PARTS = sizeof(bytes) / sizeof(*bytes) };
	size_t at[PARTS + 1] = { 0 };

	for (size_t i = 0; i < PARTS; i++)
		at[i + 1] = at[i] + up_to(bytes[i], ALIGN);
	char *all = cuda_scratch(SCRATCH_ROWS, at[PARTS]);

	s->sums = (void *)all;
	s->xc = all + at[1];
	s->err2 = (void *)(all + at[2]);
	s->l1 = (void *)(all + at[3]);
	s->l0 = (void *)(all + at[4]);
	s->columns_f = (void *)(all + at[5]);
	s->columns_d = (void *)(all + at[6]);
}

static void take_encoder(struct pass *s)
{
	s->enc = cuda_operand(s->mode, SCRATCH_X, s->p->enc, s->F, s->D, true);
}

static void take_decoder(struct pass *s)
{
	s->dec = cuda_operand(s->mode, SCRATCH_W, s->p->dec, s->F, s->D, false);
}

/* Latents between two products. */
static void take_latents(struct pass *s)
{
	s->f = cuda_scratch(SCRATCH_F, s->rows * s->ld_f * value_bytes(s->narrow));
}

/* f (n,F), of rows ld apart, of x (n,D) */
static void encode(const struct pass *s, void *f, size_t ld, bool narrow_f, bool relu, const real *x, size_t n)
{
	sae_centre(s->xc, s->narrow, s->ld_d, x, s->p->b_dec, n, s->D);
	cuda_multiply(s->mode, &(struct cuda_product){ .c = f, .ldc = ld, .a = { s->xc, s->ld_d, false },
		.b = s->enc, .M = n, .N = s->F, .K = s->D, .alpha = 1, .bias = s->p->b_enc, .relu = relu,
		.narrow = s->narrow, .narrow_c = narrow_f });
}

/* xhat (n,D) of f (n,F), of rows ld apart */
static void decode(const struct pass *s, real *xhat, const void *f, size_t ld, size_t n)
{
	cuda_multiply(s->mode, &(struct cuda_product){ .c = xhat, .ldc = s->D, .a = { f, ld, false }, .b = s->dec,
		.M = n, .N = s->D, .K = s->F, .alpha = 1, .bias = s->p->b_dec, .narrow = s->narrow });
}

static size_t rows_from(const struct pass *s, size_t from)
{
	return s->N - from < s->rows ? s->N - from : s->rows;
}

void cuda_sae_encode(enum cuda_mode mode, real *f, const real *x, const struct sae_params *p, size_t N, size_t D,
		     size_t F)
{
	struct pass s = pass_of(mode, p, N, D, F, sizeof(*f));

	take_rows(&s);
	take_encoder(&s);
	for (size_t i = 0; i < N; i += s.rows)
		encode(&s, f + i * F, F, false, true, x + i * D, rows_from(&s, i));
}

void cuda_sae_decode(enum cuda_mode mode, real *xhat, const real *f, const struct sae_params *p, size_t N, size_t D,
		     size_t F)
{
	struct pass s = pass_of(mode, p, N, D, F, BF16);

	take_decoder(&s);
	for (size_t i = 0; i < N; i += s.rows) {
		const size_t n = rows_from(&s, i);
		const struct cuda_operand a = cuda_operand(mode, SCRATCH_F, f + i * F, n, F, false);

		decode(&s, xhat + i * D, a.p, a.ld, n);
	}
}

/* ---- passes with sums ---- */

/* The whole of N rows, from partial sums, in double */
static void add_sums(const struct pass *s, struct sae_sums *sums)
{
	const size_t tiles = sae_latent_tiles(s->narrow, s->F);

	cuda_add_sum(&sums->err2, s->err2, s->N * sae_tiles(s->D), 1);
	cuda_add_sum(&sums->l1, s->l1, s->N * tiles, 1);
	cuda_add_sum(&sums->l0, s->l0, sae_strips(s->N) * tiles * SAE_WARPS, 1);
}

/* Rows from `from` on, n of them: f, then xhat and what it is wrong by; scale 0: no gradient of xhat. */
static void reconstruct(const struct pass *s, float *xhat, const real *x, float scale, size_t from, size_t n)
{
	encode(s, s->f, s->ld_f, s->narrow, true, x, n);
	decode(s, xhat, s->f, s->ld_f, n);
	sae_errors(s->dx, s->narrow, s->ld_d, s->err2 + from * sae_tiles(s->D),
		   s->columns_d + sae_strips(from) * s->D, xhat, x, scale, n, s->D);
}

/* … then their latents' sums, and the gradient before the ReLU unless s->dpre is NULL. */
static void count(const struct pass *s, uint32_t *fired, float penalty, size_t from, size_t n)
{
	const size_t tiles = sae_latent_tiles(s->narrow, s->F), strip = sae_strips(from);

	sae_latents(s->dpre, s->narrow, s->f, s->ld_f, s->l1 + from * tiles, s->l0 + strip * tiles * SAE_WARPS,
		    s->columns_f + strip * s->F, fired, penalty, n, s->F);
}

void cuda_sae_forward(enum cuda_mode mode, struct sae_sums *sums, real *err2, real *l1, real *xhat, uint32_t *fired,
		      const real *x, const struct sae_params *p, size_t N, size_t D, size_t F)
{
	struct pass s = pass_of(mode, p, N, D, F, value_bytes(mode == CUDA_BF16));

	take_rows(&s);
	take_encoder(&s);
	take_decoder(&s);
	take_latents(&s);
	if (!xhat)
		s.xhat = cuda_scratch(SCRATCH_DX, s.rows * D * sizeof(*s.xhat));
	for (size_t i = 0; i < N; i += s.rows) {
		const size_t n = rows_from(&s, i);

		reconstruct(&s, xhat ? xhat + i * D : s.xhat, x + i * D, 0, i, n);
		count(&s, fired, 0, i, n);
	}
	if (err2)
		sae_add_tiles(err2, s.err2, N, sae_tiles(D));
	if (l1)
		sae_add_tiles(l1, s.l1, N, sae_latent_tiles(s.narrow, F));
	cuda_check(cudaMemsetAsync(s.sums, 0, sizeof(*s.sums), cuda_stream()), "sae_forward");
	add_sums(&s, s.sums);
	cuda_get(sums, s.sums, sizeof(*sums));
}

/* ---- gradients ---- */

/* The decoder's gradient of xhat goes where latents' will be: it is done with before. */
static void take_gradients(struct pass *s)
{
	const size_t latents = s->rows * s->ld_f * value_bytes(s->narrow), wide = s->rows * s->D * sizeof(*s->xhat);

	s->dx = cuda_scratch(SCRATCH_DX, s->rows * s->ld_d * value_bytes(s->narrow));
	s->dpre = cuda_scratch(SCRATCH_DPRE, latents > wide ? latents : wide);
	s->xhat = s->dpre;
}

/* g (F,D) = (first) or += aᵀ b, of n rows */
static void outer(const struct pass *s, real *g, const void *a, const void *b, size_t n, bool first)
{
	cuda_multiply(s->mode, &(struct cuda_product){ .c = g, .ldc = s->D, .a = { a, s->ld_f, true },
		.b = { b, s->ld_d, false }, .M = s->F, .N = s->D, .K = n, .alpha = 1, .beta = !first,
		.narrow = s->narrow });
}

static void backward(const struct pass *s, const struct sae_params *g, uint32_t *fired, double lambda, size_t from,
		     size_t n)
{
	const struct cuda_operand back = { s->dec.p, s->dec.ld, true };

	cuda_multiply(s->mode, &(struct cuda_product){ .c = s->dpre, .ldc = s->ld_f, .a = { s->dx, s->ld_d, false },
		.b = back, .M = n, .N = s->F, .K = s->D, .alpha = 1, .narrow = s->narrow, .narrow_c = s->narrow });
	count(s, fired, (float)(lambda / (double)s->N), from, n);
	outer(s, g->dec, s->f, s->dx, n, from == 0);
	outer(s, g->enc, s->dpre, s->xc, n, from == 0);
}

void cuda_sae_grad(enum cuda_mode mode, struct sae_sums *sums, uint32_t *fired, const struct sae_params *g,
		   const real *x, const struct sae_params *p, double lambda, size_t N, size_t D, size_t F)
{
	struct pass s = pass_of(mode, p, N, D, F, 2 * value_bytes(mode == CUDA_BF16));
	const float scale = (float)(2 / (double)N / (double)D);
	const size_t strips = sae_strips(N);

	take_rows(&s);
	take_encoder(&s);
	take_decoder(&s);
	take_latents(&s);
	take_gradients(&s);
	for (size_t i = 0; i < N; i += s.rows) {
		const size_t n = rows_from(&s, i);

		reconstruct(&s, s.xhat, x + i * D, scale, i, n);
		backward(&s, g, fired, lambda, i, n);
	}
	add_sums(&s, sums);
	cuda_float_column_sums(g->b_enc, s.columns_f, strips, F, false);
	/* b_dec is subtracted from x and added to xhat */
	sae_through_encoder(s.columns_d + strips * D, g->b_enc, p->enc, F, D);
	cuda_float_column_sums(g->b_dec, s.columns_d, strips + sae_strips(F), D, false);
}

/* ---- the active latents ---- */

size_t cuda_sae_active(enum cuda_mode mode, uint32_t *rows, uint32_t *feats, real *f, size_t cap, const real *x,
		       const struct sae_params *p, size_t N, size_t D, size_t F)
{
	struct pass s = pass_of(mode, p, N, D, F, sizeof(*f));
	uint64_t *found, *offset, n_found;

	take_rows(&s);
	take_encoder(&s);
	s.f = cuda_scratch(SCRATCH_F, s.rows * s.ld_f * sizeof(*f));
	found = cuda_scratch(SCRATCH_DX, (1 + s.rows) * sizeof(*found) + s.rows * sizeof(uint32_t));
	offset = found + 1;
	cuda_check(cudaMemsetAsync(found, 0, sizeof(*found), cuda_stream()), "sae_active");
	for (size_t i = 0; i < N; i += s.rows) {
		const size_t n = rows_from(&s, i);

		/* without the ReLU, that might lose what is no number */
		encode(&s, s.f, s.ld_f, false, false, x + i * D, n);
		sae_offsets(offset, found, (uint32_t *)(offset + s.rows), s.f, s.ld_f, n, F);
		sae_compact(rows, feats, f, cap, offset, s.f, s.ld_f, i, n, F);
	}
	cuda_get(&n_found, found, sizeof(n_found));
	return (size_t)n_found;
}
