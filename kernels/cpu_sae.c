/* cpu_sae: the sparse autoencoder with dense products. */
#include "cpu.h"

#include <stdlib.h>
#include <string.h>

enum { ROWS = 256, FEATURES = 128 };    /* rows of a block forward, features of a block of gradients */

struct pass {
	const float *x;
	struct sae_params p, g;
	size_t N, D, F;
	float lambda_n;                 /* lambda / N */
	float *f, *df;                  /* (N,F) */
	float *xc, *dxhat, *dxhat_sum;  /* (N,D) x - b_dec, (N,D), (blocks,D) */
	float *err2, *l1, *xhat;        /* wanted of a forward pass */
	uint32_t *fired;
	struct sae_sums *sums;          /* (blocks) */
};

/* f (n,F) of n rows; xc (n,D) is x - b_dec */
static void encode(const struct pass *s, float *f, float *xc, const float *x, size_t n)
{
	for (size_t r = 0; r < n; r++)
		cpu_k->sub(xc + r * s->D, x + r * s->D, s->p.b_dec, s->D);
	dnn_gemm(&(struct dnn_gemm){ .M = n, .N = s->F, .K = s->D, .c = f, .ldc = s->F,
		.a = { xc, s->D, 1 }, .b = { s->p.enc, 1, s->D }, .bias = s->p.b_enc, .relu = true });
}

static void decode(const struct pass *s, float *xhat, const float *f, size_t n)
{
	dnn_gemm(&(struct dnn_gemm){ .M = n, .N = s->D, .K = s->F, .c = xhat, .ldc = s->D,
		.a = { f, s->F, 1 }, .b = { s->p.dec, s->D, 1 }, .bias = s->p.b_dec });
}

static void count_fired(uint32_t *fired, const float *f, size_t n, size_t F)
{
	for (size_t j = 0; j < F; j++) {
		uint32_t count = 0;

		for (size_t r = 0; r < n; r++)
			count += f[r * F + j] > 0;
		if (count)      /* integers: the order of blocks does not show */
			__atomic_fetch_add(&fired[j], count, __ATOMIC_RELAXED);
	}
}

/* The block's sums; d (n,D) = xhat - x. */
static void count(const struct pass *s, struct sae_sums *sums, float *d, const float *f,
		  const float *xhat, size_t from, size_t n)
{
	*sums = (struct sae_sums){ 0 };
	for (size_t r = 0; r < n; r++) {
		float *dr = d + r * s->D;
		double l1 = 0;
		size_t l0 = 0;

		cpu_k->sub(dr, xhat + r * s->D, s->x + (from + r) * s->D, s->D);
		const double e = (double)cpu_k->dot(dr, dr, s->D);

		for (size_t j = 0; j < s->F; j++) {
			l1 += (double)f[r * s->F + j];
			l0 += f[r * s->F + j] > 0;
		}
		sums->err2 += e;
		sums->l1 += l1;
		sums->l0 += (double)l0;
		if (s->err2)
			s->err2[from + r] = (float)e;
		if (s->l1)
			s->l1[from + r] = (float)l1;
	}
	if (s->fired)
		count_fired(s->fired, f, n, s->F);
}

static struct sae_sums add_up(const struct sae_sums *sums, size_t blocks)
{
	struct sae_sums all = { 0 };

	for (size_t i = 0; i < blocks; i++) {
		all.err2 += sums[i].err2;
		all.l1 += sums[i].l1;
		all.l0 += sums[i].l0;
	}
	return all;
}

static void encode_block(void *arg, size_t i)
{
	const struct pass *s = arg;
	const size_t from = i * ROWS, n = cpu_min(ROWS, s->N - from);

	encode(s, s->f + from * s->F, cpu_block_scratch(ROWS * s->D), s->x + from * s->D, n);
}

static void cpu_sae_encode(float *f, const float *x, const struct sae_params *p, size_t N, size_t D, size_t F)
{
	struct pass s = { .x = x, .p = *p, .N = N, .D = D, .F = F, .f = f };

	pool_for(cpu_blocks(N, ROWS), encode_block, &s);
}

static void decode_block(void *arg, size_t i)
{
	const struct pass *s = arg;
	const size_t from = i * ROWS, n = cpu_min(ROWS, s->N - from);

	decode(s, s->xhat + from * s->D, s->x + from * s->F, n);
}

static void cpu_sae_decode(float *xhat, const float *f, const struct sae_params *p, size_t N, size_t D, size_t F)
{
	struct pass s = { .x = f, .p = *p, .N = N, .D = D, .F = F, .xhat = xhat };

	pool_for(cpu_blocks(N, ROWS), decode_block, &s);
}

static void forward_block(void *arg, size_t i)
{
	const struct pass *s = arg;
	const size_t from = i * ROWS, n = cpu_min(ROWS, s->N - from), D = s->D;
	float *f = cpu_block_scratch(ROWS * (s->F + 2 * D)), *d = f + ROWS * s->F;
	float *xhat = s->xhat ? s->xhat + from * D : d + ROWS * D;

	encode(s, f, d, s->x + from * D, n);
	decode(s, xhat, f, n);
	count(s, &s->sums[i], d, f, xhat, from, n);
}

static void cpu_sae_forward(struct sae_sums *sums, float *err2, float *l1, float *xhat, uint32_t *fired,
			    const float *x, const struct sae_params *p, size_t N, size_t D, size_t F)
{
	const size_t blocks = cpu_blocks(N, ROWS);
	struct pass s = { .x = x, .p = *p, .N = N, .D = D, .F = F,
		.err2 = err2, .l1 = l1, .xhat = xhat, .fired = fired };

	s.sums = (struct sae_sums *)(void *)cpu_op_scratch(blocks * sizeof(*s.sums) / sizeof(float));
	pool_for(blocks, forward_block, &s);
	*sums = add_up(s.sums, blocks);
}

/* f, df, dxhat and their sums of a block of rows */
static void grad_rows(void *arg, size_t i)
{
	const struct pass *s = arg;
	const size_t from = i * ROWS, n = cpu_min(ROWS, s->N - from), D = s->D, F = s->F;
	float *f = s->f + from * F, *df = s->df + from * F, *d = s->dxhat + from * D;
	float *xhat = cpu_block_scratch(ROWS * D), *sum = s->dxhat_sum + i * D;

	encode(s, f, s->xc + from * D, s->x + from * D, n);
	decode(s, xhat, f, n);
	count(s, &s->sums[i], d, f, xhat, from, n);
	memset(sum, 0, D * sizeof(*sum));
	for (size_t r = 0; r < n; r++) {
		cpu_k->scale(d + r * D, d + r * D, 2 / ((float)s->N * (float)D), D);
		cpu_k->axpy(sum, 1, d + r * D, D);
	}
	dnn_gemm(&(struct dnn_gemm){ .M = n, .N = F, .K = D, .c = df, .ldc = F,
		.a = { d, D, 1 }, .b = { s->p.dec, 1, D } });
	cpu_k->relu_bwd(df, f, s->lambda_n, n * F);
}

/* gradients of a block of features */
static void grad_features(void *arg, size_t i)
{
	const struct pass *s = arg;
	const size_t j = i * FEATURES, n = cpu_min(FEATURES, s->F - j), D = s->D;

	dnn_gemm(&(struct dnn_gemm){ .M = n, .N = D, .K = s->N, .c = s->g.dec + j * D, .ldc = D,
		.a = { s->f + j, 1, s->F }, .b = { s->dxhat, D, 1 } });
	dnn_gemm(&(struct dnn_gemm){ .M = n, .N = D, .K = s->N, .c = s->g.enc + j * D, .ldc = D,
		.a = { s->df + j, 1, s->F }, .b = { s->xc, D, 1 } });
	memset(s->g.b_enc + j, 0, n * sizeof(float));
	for (size_t r = 0; r < s->N; r++)
		cpu_k->axpy(s->g.b_enc + j, 1, s->df + r * s->F + j, n);
}

/* d/db_dec = Σ dxhat - encᵀ Σ df: through the decoder's bias and through x - b_dec */
static void grad_bias(const struct pass *s)
{
	const size_t blocks = cpu_blocks(s->N, ROWS);
	float *b = s->g.b_dec;

	dnn_gemm(&(struct dnn_gemm){ .M = 1, .N = s->D, .K = s->F, .c = b, .ldc = s->D,
		.a = { s->g.b_enc, s->F, 1 }, .b = { s->p.enc, s->D, 1 } });
	cpu_k->scale(b, b, -1, s->D);
	for (size_t i = 0; i < blocks; i++)
		cpu_k->axpy(b, 1, s->dxhat_sum + i * s->D, s->D);
}

static void carve(struct pass *s)
{
	const size_t blocks = cpu_blocks(s->N, ROWS), NF = cpu_pad(s->N * s->F), ND = cpu_pad(s->N * s->D);
	const size_t sums = cpu_pad(blocks * sizeof(*s->sums) / sizeof(float));
	float *p = cpu_op_scratch(sums + 2 * NF + 2 * ND + blocks * s->D);

	s->sums = (struct sae_sums *)(void *)p;
	s->f = p + sums;
	s->df = s->f + NF;
	s->xc = s->df + NF;
	s->dxhat = s->xc + ND;
	s->dxhat_sum = s->dxhat + ND;
}

static void cpu_sae_grad(struct sae_sums *sums, uint32_t *fired, const struct sae_params *g,
			 const float *x, const struct sae_params *p, double lambda,
			 size_t N, size_t D, size_t F)
{
	const size_t blocks = cpu_blocks(N, ROWS);
	struct pass s = { .x = x, .p = *p, .g = *g, .N = N, .D = D, .F = F,
		.lambda_n = (float)(lambda / (double)N), .fired = fired };

	carve(&s);
	pool_for(blocks, grad_rows, &s);
	pool_for(cpu_blocks(F, FEATURES), grad_features, &s);
	grad_bias(&s);
	*sums = add_up(s.sums, blocks);
}

void cpu_sae(struct backend *b)
{
	b->sae_encode = cpu_sae_encode;
	b->sae_decode = cpu_sae_decode;
	b->sae_forward = cpu_sae_forward;
	b->sae_grad = cpu_sae_grad;
}
