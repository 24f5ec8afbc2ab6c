/*
 * cpu_sae: the sparse autoencoder by dense products, which suit its first steps; where few latents
 * are active, cpu_sparse.c.
 */
#include "cpu.h"

#include <string.h>

/* Rows of a block without and with gradients, features of a block of gradients */
enum { ROWS = 128, GRAD_ROWS = 256, FEATURES = 128 };

struct dense {
	struct sae_pass s;
	float *f, *df;                  /* (N,F) */
	float *xc, *dxhat, *dxhat_sum;  /* (N,D) x - b_dec, (N,D), (blocks,D) */
	struct sae_sums *sums;          /* (blocks) */
};

/* f (n,F) of n rows; xc (n,D) is x - b_dec */
static void encode(const struct sae_pass *s, float *f, float *xc, const float *x, size_t n)
{
	for (size_t r = 0; r < n; r++)
		cpu_k->sub(xc + r * s->D, x + r * s->D, s->p.b_dec, s->D);
	dnn_gemm(&(struct dnn_gemm){ .M = n, .N = s->F, .K = s->D, .c = f, .ldc = s->F,
		.a = { xc, s->D, 1 }, .b = { s->p.enc, 1, s->D }, .bias = s->p.b_enc, .relu = true,
		.bf16 = s->bf16 });
}

static void decode(const struct sae_pass *s, float *xhat, const float *f, size_t n)
{
	dnn_gemm(&(struct dnn_gemm){ .M = n, .N = s->D, .K = s->F, .c = xhat, .ldc = s->D,
		.a = { f, s->F, 1 }, .b = { s->p.dec, s->D, 1 }, .bias = s->p.b_dec, .bf16 = s->bf16 });
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

/* Adds a block's rows to sums; d (n,D) = xhat - x. */
static void count(const struct sae_pass *s, struct sae_sums *sums, float *d, const float *f,
		  const float *xhat, size_t from, size_t n)
{
	for (size_t r = 0; r < n; r++) {
		float *dr = d + r * s->D;
		double l1 = 0;
		size_t l0 = 0;

		cpu_k->sub(dr, xhat + r * s->D, s->x + (from + r) * s->D, s->D);
		const double err2 = (double)cpu_k->dot(dr, dr, s->D);

		for (size_t j = 0; j < s->F; j++) {
			l1 += (double)f[r * s->F + j];
			l0 += f[r * s->F + j] > 0;
		}
		sums->err2 += err2;
		sums->l1 += l1;
		sums->l0 += (double)l0;
		if (s->err2)
			s->err2[from + r] = (float)err2;
		if (s->l1)
			s->l1[from + r] = (float)l1;
	}
	if (s->fired)
		count_fired(s->fired, f, n, s->F);
}

void cpu_sae_add_up(struct sae_sums *all, const struct sae_sums *sums, size_t blocks)
{
	for (size_t i = 0; i < blocks; i++) {
		all->err2 += sums[i].err2;
		all->l1 += sums[i].l1;
		all->l0 += sums[i].l0;
	}
}

/* ---- without gradients ---- */

static void encode_block(void *arg, size_t i)
{
	const struct dense *d = arg;
	const struct sae_pass *s = &d->s;
	const size_t from = i * ROWS, n = cpu_min(ROWS, s->N - from);

	encode(s, d->f + from * s->F, cpu_block_scratch(ROWS * s->D), s->x + from * s->D, n);
}

static void encode_all(const struct sae_pass *s, float *f)
{
	pool_for(cpu_blocks(s->N, ROWS), encode_block, &(struct dense){ .s = *s, .f = f });
}

static void decode_block(void *arg, size_t i)
{
	const struct dense *d = arg;
	const struct sae_pass *s = &d->s;
	const size_t from = i * ROWS, n = cpu_min(ROWS, s->N - from);
	const float *f = d->f + from * s->F;

	if (!cpu_sae_decode_sparse(s->xhat + from * s->D, s, f, n))
		decode(s, s->xhat + from * s->D, f, n);
}

static void decode_all(const struct sae_pass *s, const float *f)
{
	union { const float *in; float *f; } u = { f };         /* only read */

	pool_for(cpu_blocks(s->N, ROWS), decode_block, &(struct dense){ .s = *s, .f = u.f });
}

static void forward_block(void *arg, size_t i)
{
	const struct dense *a = arg;
	const struct sae_pass *s = &a->s;
	const size_t from = i * ROWS, n = cpu_min(ROWS, s->N - from), D = s->D;

	a->sums[i] = (struct sae_sums){ 0 };
	if (cpu_sae_forward_sparse(&a->sums[i], s, from, n))
		return;
	float *f = cpu_block_scratch(ROWS * (s->F + 2 * D)), *d = f + ROWS * s->F;
	float *xhat = s->xhat ? s->xhat + from * D : d + ROWS * D;

	encode(s, f, d, s->x + from * D, n);
	decode(s, xhat, f, n);
	count(s, &a->sums[i], d, f, xhat, from, n);
}

static void forward_all(struct sae_sums *sums, struct sae_pass *s)
{
	const size_t blocks = cpu_blocks(s->N, ROWS);

	if (s->bf16)
		cpu_sae_pack(s);
	struct dense d = { .s = *s };

	d.sums = (struct sae_sums *)(void *)cpu_op_scratch(blocks * sizeof(*d.sums) / sizeof(float));
	pool_for(blocks, forward_block, &d);
	*sums = (struct sae_sums){ 0 };
	cpu_sae_add_up(sums, d.sums, blocks);
}

/* ---- gradients ---- */

/* f, df, dxhat and their sums of a block of rows */
static void grad_rows(void *arg, size_t i)
{
	const struct dense *a = arg;
	const struct sae_pass *s = &a->s;
	const size_t from = i * GRAD_ROWS, n = cpu_min(GRAD_ROWS, s->N - from), D = s->D, F = s->F;
	float *f = a->f + from * F, *df = a->df + from * F, *d = a->dxhat + from * D;
	float *xhat = cpu_block_scratch(GRAD_ROWS * D), *sum = a->dxhat_sum + i * D;

	encode(s, f, a->xc + from * D, s->x + from * D, n);
	decode(s, xhat, f, n);
	a->sums[i] = (struct sae_sums){ 0 };
	count(s, &a->sums[i], d, f, xhat, from, n);
	memset(sum, 0, D * sizeof(*sum));
	for (size_t r = 0; r < n; r++) {
		cpu_k->scale(d + r * D, d + r * D, 2 / ((float)s->N * (float)D), D);
		cpu_k->axpy(sum, 1, d + r * D, D);
	}
	dnn_gemm(&(struct dnn_gemm){ .M = n, .N = F, .K = D, .c = df, .ldc = F,
		.a = { d, D, 1 }, .b = { s->p.dec, 1, D }, .bf16 = s->bf16 });
	cpu_k->relu_bwd(df, f, s->lambda_n, n * F);
}

/* gradients of a block of features */
static void grad_features(void *arg, size_t i)
{
	const struct dense *a = arg;
	const struct sae_pass *s = &a->s;
	const size_t j = i * FEATURES, n = cpu_min(FEATURES, s->F - j), D = s->D;

	dnn_gemm(&(struct dnn_gemm){ .M = n, .N = D, .K = s->N, .c = s->g.dec + j * D, .ldc = D,
		.a = { a->f + j, 1, s->F }, .b = { a->dxhat, D, 1 }, .bf16 = s->bf16 });
	dnn_gemm(&(struct dnn_gemm){ .M = n, .N = D, .K = s->N, .c = s->g.enc + j * D, .ldc = D,
		.a = { a->df + j, 1, s->F }, .b = { a->xc, D, 1 }, .bf16 = s->bf16 });
	memset(s->g.b_enc + j, 0, n * sizeof(float));
	for (size_t r = 0; r < s->N; r++)
		cpu_k->axpy(s->g.b_enc + j, 1, a->df + r * s->F + j, n);
}

void cpu_sae_grad_bias(const struct sae_pass *s, const float *dxhat_sum, size_t blocks)
{
	float *b = s->g.b_dec;

	dnn_gemm(&(struct dnn_gemm){ .M = 1, .N = s->D, .K = s->F, .c = b, .ldc = s->D,
		.a = { s->g.b_enc, s->F, 1 }, .b = { s->p.enc, s->D, 1 } });
	cpu_k->scale(b, b, -1, s->D);
	for (size_t i = 0; i < blocks; i++)
		cpu_k->axpy(b, 1, dxhat_sum + i * s->D, s->D);
}

static void grad_dense(struct sae_sums *sums, const struct sae_pass *s)
{
	const size_t blocks = cpu_blocks(s->N, GRAD_ROWS), NF = cpu_pad(s->N * s->F), ND = cpu_pad(s->N * s->D);
	const size_t sum = cpu_pad(blocks * sizeof(*sums) / sizeof(float));
	float *p = cpu_op_scratch(sum + 2 * NF + 2 * ND + blocks * s->D);
	struct dense d = { .s = *s, .sums = (struct sae_sums *)(void *)p, .f = p + sum, .df = p + sum + NF };

	d.xc = d.df + NF;
	d.dxhat = d.xc + ND;
	d.dxhat_sum = d.dxhat + ND;
	pool_for(blocks, grad_rows, &d);
	pool_for(cpu_blocks(s->F, FEATURES), grad_features, &d);
	cpu_sae_grad_bias(s, d.dxhat_sum, blocks);
	cpu_sae_add_up(sums, d.sums, blocks);
}

static void grad_all(struct sae_sums *sums, struct sae_pass *s)
{
	if (s->bf16)
		cpu_sae_pack(s);
	if (!cpu_sae_grad_sparse(sums, s))
		grad_dense(sums, s);
}

/* ---- the ops, with operands in float32 and in bf16 ---- */

#define OPS(kind, in_bf16) \
static void kind##_encode(float *f, const float *x, const struct sae_params *p, size_t N, size_t D, size_t F) \
{ \
	encode_all(&(struct sae_pass){ .x = x, .p = *p, .N = N, .D = D, .F = F, .bf16 = in_bf16 }, f); \
} \
static size_t kind##_active(uint32_t *rows, uint32_t *feats, float *f, size_t cap, const float *x, \
			    const struct sae_params *p, size_t N, size_t D, size_t F) \
{ \
	return cpu_sae_active(&(struct sae_pass){ .x = x, .p = *p, .N = N, .D = D, .F = F, .bf16 = in_bf16 }, \
			      rows, feats, f, cap); \
} \
static void kind##_decode(float *xhat, const float *f, const struct sae_params *p, size_t N, size_t D, size_t F) \
{ \
	decode_all(&(struct sae_pass){ .p = *p, .N = N, .D = D, .F = F, .xhat = xhat, .bf16 = in_bf16 }, f); \
} \
static void kind##_forward(struct sae_sums *sums, float *err2, float *l1, float *xhat, uint32_t *fired, \
			   const float *x, const struct sae_params *p, size_t N, size_t D, size_t F) \
{ \
	forward_all(sums, &(struct sae_pass){ .x = x, .p = *p, .N = N, .D = D, .F = F, \
		.err2 = err2, .l1 = l1, .xhat = xhat, .fired = fired, .bf16 = in_bf16 }); \
} \
static void kind##_grad(struct sae_sums *sums, uint32_t *fired, const struct sae_params *g, const float *x, \
			const struct sae_params *p, double lambda, size_t N, size_t D, size_t F) \
{ \
	grad_all(sums, &(struct sae_pass){ .x = x, .p = *p, .g = *g, .N = N, .D = D, .F = F, \
		.lambda_n = (float)(lambda / (double)N), .fired = fired, .bf16 = in_bf16 }); \
}

OPS(f32, false)
OPS(bf16, true)

void cpu_sae(struct backend *b, bool bf16)
{
	b->sae_encode = bf16 ? bf16_encode : f32_encode;
	b->sae_active = bf16 ? bf16_active : f32_active;
	b->sae_decode = bf16 ? bf16_decode : f32_decode;
	b->sae_forward = bf16 ? bf16_forward : f32_forward;
	b->sae_grad = bf16 ? bf16_grad : f32_grad;
}
