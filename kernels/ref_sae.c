/* ref_sae: the plain ops of the autoencoder */
#include "ref.h"

#include <math.h>
#include <string.h>

static const double norm_floor = 1e-12;

/* Before the ReLU; x (D) */
static double encoded(const real *x, const struct sae_params *p, size_t j, size_t D)
{
	double pre = p->b_enc[j];

	for (size_t d = 0; d < D; d++)
		pre += ((double)x[d] - (double)p->b_dec[d]) * (double)p->enc[j * D + d];
	return pre;
}

static void ref_sae_encode(real *f, const real *x, const struct sae_params *p, size_t N, size_t D, size_t F)
{
	for (size_t n = 0; n < N; n++)
		for (size_t j = 0; j < F; j++) {
			const double pre = encoded(x + n * D, p, j, D);

			f[n * F + j] = (real)(pre > 0 ? pre : 0);
		}
}

static size_t ref_sae_active(uint32_t *rows, uint32_t *feats, real *f, size_t cap, const real *x,
			     const struct sae_params *p, size_t N, size_t D, size_t F)
{
	size_t found = 0;

	for (size_t i = 0; i < N * F; i++) {
		const real v = (real)encoded(x + i / F * D, p, i % F, D);

		if (v <= 0)
			continue;
		if (found < cap) {
			rows[found] = (uint32_t)(i / F);
			feats[found] = (uint32_t)(i % F);
			f[found] = v;
		}
		found++;
	}
	return found;
}

static void ref_sae_decode(real *xhat, const real *f, const struct sae_params *p, size_t N, size_t D, size_t F)
{
	double *sum = doubles(D);

	for (size_t n = 0; n < N; n++) {
		for (size_t d = 0; d < D; d++)
			sum[d] = p->b_dec[d];
		for (size_t j = 0; j < F; j++)
			if (f[n * F + j] > 0)
				axpy(sum, f[n * F + j], p->dec + j * D, D);
		round_to(xhat + n * D, sum, D);
	}
	free(sum);
}

/* Adds one row to the sums and to fired; its own err2 and l1 where wanted. */
static void sae_count(struct sae_sums *sums, real *err2, real *l1, uint32_t *fired, const real *x,
		      const real *xhat, const real *f, size_t D, size_t F)
{
	double e = 0, a = 0;

	for (size_t d = 0; d < D; d++)
		e += ((double)xhat[d] - (double)x[d]) * ((double)xhat[d] - (double)x[d]);
	for (size_t j = 0; j < F; j++) {
		a += f[j];
		sums->l0 += f[j] > 0;
		if (fired)
			fired[j] += f[j] > 0;
	}
	sums->err2 += e;
	sums->l1 += a;
	if (err2)
		*err2 = (real)e;
	if (l1)
		*l1 = (real)a;
}

static void ref_sae_forward(struct sae_sums *sums, real *err2, real *l1, real *xhat, uint32_t *fired,
			    const real *x, const struct sae_params *p, size_t N, size_t D, size_t F)
{
	real *f = xcalloc(F, sizeof(*f)), *y = xcalloc(D, sizeof(*y));

	*sums = (struct sae_sums){ 0 };
	for (size_t n = 0; n < N; n++) {
		ref_sae_encode(f, x + n * D, p, 1, D, F);
		ref_sae_decode(y, f, p, 1, D, F);
		sae_count(sums, err2 ? err2 + n : NULL, l1 ? l1 + n : NULL, fired, x + n * D, y, f, D, F);
		if (xhat)
			memcpy(xhat + n * D, y, D * sizeof(*y));
	}
	free(f);
	free(y);
}

/*
 * Feature j over all rows: with dxhat = 2 (xhat - x) / (N D) and, where f > 0,
 * df = <dxhat, dec_j> + lambda / N:
 *	dec_j = Σ f dxhat, enc_j = Σ df (x - b_dec), b_enc_j = Σ df;
 * Σ df enc_j is taken from db_dec (D).  sum (2D): scratch
 */
static void sae_grad_feature(const struct sae_params *g, double *db_dec, double *sum, size_t j, const real *f,
			     const real *dxhat, const real *x, const struct sae_params *p,
			     double lambda, size_t N, size_t D, size_t F)
{
	double bias = 0;

	memset(sum, 0, 2 * D * sizeof(*sum));
	for (size_t n = 0; n < N; n++) {
		const double fn = f[n * F + j];

		if (!(fn > 0))
			continue;
		const double df = dot(dxhat + n * D, p->dec + j * D, D) + lambda / (double)N;

		axpy(sum, fn, dxhat + n * D, D);
		for (size_t d = 0; d < D; d++)
			sum[D + d] += df * ((double)x[n * D + d] - (double)p->b_dec[d]);
		bias += df;
	}
	round_to(g->dec + j * D, sum, D);
	round_to(g->enc + j * D, sum + D, D);
	g->b_enc[j] = (real)bias;
	axpy(db_dec, -bias, p->enc + j * D, D);
}

static void ref_sae_grad(struct sae_sums *sums, uint32_t *fired, const struct sae_params *g,
			 const real *x, const struct sae_params *p, double lambda,
			 size_t N, size_t D, size_t F)
{
	real *f = xcalloc(xmul(N, F), sizeof(*f)), *dxhat = xcalloc(xmul(N, D), sizeof(*dxhat));
	double *sum = doubles(2 * D), *db_dec = doubles(D);

	ref_sae_encode(f, x, p, N, D, F);
	ref_sae_decode(dxhat, f, p, N, D, F);
	for (size_t n = 0; n < N; n++) {
		real *y = dxhat + n * D;

		sae_count(sums, NULL, NULL, fired, x + n * D, y, f + n * F, D, F);
		for (size_t d = 0; d < D; d++) {
			y[d] = (real)(2 * ((double)y[d] - (double)x[n * D + d]) / (double)N / (double)D);
			db_dec[d] += y[d];
		}
	}
	for (size_t j = 0; j < F; j++)
		sae_grad_feature(g, db_dec, sum, j, f, dxhat, x, p, lambda, N, D, F);
	round_to(g->b_dec, db_dec, D);
	free(f);
	free(dxhat);
	free(sum);
	free(db_dec);
}

static double length(const real *w, size_t n)      /* never 0: a divisor */
{
	const double norm = sqrt(dot(w, w, n));

	return norm > norm_floor ? norm : norm_floor;
}

static void ref_project_rows(real *g, const real *w, size_t F, size_t D)
{
	for (size_t j = 0; j < F; j++) {
		const double norm = length(w + j * D, D), along = dot(g + j * D, w + j * D, D) / norm;

		for (size_t d = 0; d < D; d++)
			g[j * D + d] = (real)((double)g[j * D + d] - along * ((double)w[j * D + d] / norm));
	}
}

static void ref_normalise_rows(real *w, size_t F, size_t D)
{
	for (size_t j = 0; j < F; j++) {
		const double norm = length(w + j * D, D);

		for (size_t d = 0; d < D; d++)
			w[j * D + d] = (real)((double)w[j * D + d] / norm);
	}
}

static void ref_row_norms(real *norm, const real *w, size_t F, size_t D)
{
	for (size_t j = 0; j < F; j++)
		norm[j] = (real)sqrt(dot(w + j * D, w + j * D, D));
}

void ref_sae(struct backend *b)
{
	b->sae_encode = ref_sae_encode;
	b->sae_active = ref_sae_active;
	b->sae_decode = ref_sae_decode;
	b->sae_forward = ref_sae_forward;
	b->sae_grad = ref_sae_grad;
	b->project_rows = ref_project_rows;
	b->normalise_rows = ref_normalise_rows;
	b->row_norms = ref_row_norms;
}
