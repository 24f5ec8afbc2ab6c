#ifndef CUDA_H
#define CUDA_H
/*
 * cuda: the backend of NVIDIA's cards, as its own files know it.  It is a
 * library of its own (plugin.h), so that nothing else needs CUDA's.
 *
 *	cuda.c             the device, its memory, the table of ops
 *	cuda_linear.c      products: cublasLt with its epilogues, else GemmEx and a kernel
 *	cuda_rows.cu       embedding, layernorm, GELU, copies of rows
 *	cuda_sums.cu       sums in double, clipping, AdamW: the one place where double is meant
 *	cuda_attention.cu  causal attention
 *	cuda_head.{c,cu}   the tied head with its cross-entropy
 *	cuda_sae.{c,cu}    the autoencoder's passes
 *	cuda_optim.cu      rows of the decoder: projected, normalised, measured
 *	cuda_nccl.c        cards of several processes
 *	cuda_attrib.cu     effect of an ablation on a logit
 *
 * All work goes to one stream in the order of the calls; an op returns when its
 * work is queued, `get` and what returns a value wait.  Nothing is allocated in
 * a step loop: what an op needs for itself it takes from cuda_scratch, which
 * grows in the first step and then stays.  Every sum has one order, that does
 * not depend on the device: no atomics on floats.
 *
 * A function here has the signature of its op in backend.h, where shapes are
 * stated, or is a launcher: it queues kernels and says what they move.
 */
#include <cuda_runtime_api.h>

#ifdef __cplusplus
#include <stddef.h>
#include <stdint.h>
extern "C" {
typedef float real;
struct sae_sums;
struct sae_params;
#else
#include "backend.h"
#endif

/* ---- the device (cuda.c) ---- */

/* What products are computed in. */
enum cuda_mode { CUDA_F32, CUDA_TF32, CUDA_BF16 };

/* The stream of every launch. */
cudaStream_t cuda_stream(void);
/* Ends the program with one line: "device cuda: WHAT: WHY". */
void cuda_die(const char *what, const char *why) __attribute__((noreturn));
/* The same unless e is cudaSuccess: "device cuda: lmhead: out of memory". */
void cuda_check(cudaError_t e, const char *what);
/* "WHAT: WHY", static, as a reason why there is no device. */
const char *cuda_because(const char *what, const char *why);
/* After a launcher's LAUNCH. */
void cuda_launched(const char *op);

/* An op's own memory, kept between calls and shared by all ops: its contents are gone at the next call
 * that takes the same slot.  256-byte aligned; larger than before waits for the device. */
enum cuda_slot {
	SCRATCH_X,      /* an operand of a product as bf16 … */
	SCRATCH_W,      /* … and the other */
	SCRATCH_Y,      /* a third; a result before its epilogue */
	SCRATCH_BIAS,   /* a bias as bf16 */
	SCRATCH_SUMS,   /* partial sums of a reduction */
	SCRATCH_LOGITS, /* of the head's rows at a time */
	SCRATCH_F,      /* (N,F) latents */
	SCRATCH_DPRE,   /* (N,F) gradients before the ReLU */
	SCRATCH_DX,     /* (N,D) gradients of what is reconstructed */
	SCRATCH_ROWS,   /* (N,D) centred rows; attention's row sums; offsets of active latents */
	CUDA_SLOTS
};
void *cuda_scratch(enum cuda_slot slot, size_t bytes);
/* Bytes of the card's memory, all of it: what a size may depend on without that bytes depend on the hour. */
size_t cuda_memory(void);
/* host (pageable) <- device, waits */
void cuda_get(void *host, const void *src, size_t bytes);

/* ---- products (cuda_linear.c) ---- */

/* NULL, or why not. */
const char *cuda_open_products(void);

struct cuda_operand {
	const void *p;
	size_t ld;              /* elements from one row to the next as it lies */
	bool transposed;        /* it lies as (columns,rows) of what is meant */
};
struct cuda_product {
	void *c;                /* (M,N) row-major, from row to row ldc */
	size_t ldc;
	struct cuda_operand a, b;       /* (M,K), (K,N) */
	size_t M, N, K;
	float alpha, beta;      /* c = epilogue(alpha a b + beta c) */
	const float *bias;      /* (N), or NULL */
	bool relu;              /* of all that */
	bool narrow;            /* a and b are bf16 (leading dimensions multiples of 8), else float */
	bool narrow_c;          /* c is bf16 */
};
void cuda_multiply(enum cuda_mode mode, const struct cuda_product *p);

/* x (N,C) float as bf16, into slot: rows of *ld = C rounded up to 8, zeros behind */
const void *cuda_narrow(enum cuda_slot slot, size_t *ld, const float *x, size_t N, size_t C);
#ifndef __cplusplus     /* which warns of a function that hides a struct */
/* An operand for `mode`: x itself, or narrowed into slot in CUDA_BF16. */
struct cuda_operand cuda_operand(enum cuda_mode mode, enum cuda_slot slot, const float *x, size_t N, size_t C,
				 bool transposed);
#endif

void cuda_linear_fwd(enum cuda_mode mode, real *y, const real *x, const real *w, const real *b, size_t N, size_t I,
		     size_t O);
void cuda_linear_bwd(enum cuda_mode mode, real *dx, real *dw, real *db, const real *dy, const real *x, const real *w,
		     size_t N, size_t I, size_t O);

/* ---- several processes (cuda_nccl.c) ---- */

#ifndef __cplusplus
extern const struct device_link cuda_link;
#endif

/* ---- rows (cuda_rows.cu) ---- */

void cuda_embed_fwd(real *x, const int32_t *idx, const real *wte, const real *wpe, size_t B, size_t T, size_t C);
void cuda_embed_bwd(real *dwte, real *dwpe, const real *dx, const int32_t *idx, size_t B, size_t T, size_t C, size_t V);
void cuda_layernorm_fwd(real *y, real *mean, real *rstd, const real *x, const real *w, const real *b, size_t N,
			size_t C);
void cuda_layernorm_bwd(real *dx, real *dw, real *db, const real *dy, const real *x, const real *w, const real *mean,
			const real *rstd, size_t N, size_t C);
void cuda_gelu_fwd(real *y, const real *x, size_t n);
void cuda_gelu_bwd(real *dx, const real *dy, const real *x, size_t n);
void cuda_add(real *y, const real *x, size_t n);
void cuda_fill_rows(real *y, const real *row, size_t N, size_t C);
void cuda_gather_rows(real *y, const real *x, const uint32_t *rows, size_t n, size_t C);
void cuda_round_rows(real *x, size_t n, unsigned digits, uint64_t *unfit);
/* y (N,ld) bf16 = x (N,C), zeros behind; ld a multiple of 8 */
void cuda_narrow_rows(void *y, const float *x, size_t N, size_t C, size_t ld);
/* y (N,C) = epilogue of what is there: + bias (NULL: none), ReLU; y float or bf16, from row to row ld */
void cuda_bias_relu(void *y, bool narrow, const float *bias, bool relu, size_t N, size_t C, size_t ld);
/* sum (C) += scale · column sums of x (N,C), in float, in one order; sum = when !add.  Uses SCRATCH_SUMS. */
void cuda_float_column_sums(float *sum, const float *x, size_t N, size_t C, bool add);

/* ---- sums in double (cuda_sums.cu) ---- */

void cuda_column_sums(double *sum, const real *x, size_t N, size_t C);
void cuda_add_sum(double *sum, const real *x, size_t n, double scale);
void cuda_clip(double norm[2], const real *g, size_t n, double max);
double cuda_sumsq(const real *x, size_t n);
void cuda_adamw(real *p, const real *g, real *m, real *v, size_t n, const double *gscale, double lr, double beta1,
		double beta2, double eps, double wd, uint64_t t);
/* *sum += (add) or = sum of part (n) double, in one order */
void cuda_sum_doubles(double *sum, const double *part, size_t n, bool add);

/* ---- attention (cuda_attention.cu) ---- */

void cuda_attention_fwd(real *y, real *lse, const real *qkv, size_t B, size_t T, size_t C, size_t NH);
void cuda_attention_rows(real *y, const real *q, const real *kv, const uint32_t *rows, size_t n, size_t B, size_t T,
			 size_t C, size_t NH);
void cuda_attention_bwd(real *dqkv, const real *dy, const real *y, const real *lse, const real *qkv, size_t B,
			size_t T, size_t C, size_t NH);

/* ---- head (cuda_head.c) ---- */

void cuda_lmhead(enum cuda_mode mode, real *nll, real *dx, real *dw, const real *x, const real *w,
		 const int32_t *targets, double scale, size_t N, size_t C, size_t V);
/* nll (n) of logits (n,ld), float or bf16, of which V columns count; with `gradient` they become
 * scale · (softmax - onehot), 0 behind V.  x (n,C), w (V,C): what they are made of.  ld: V up to the next
 * 16 bytes. */
void cuda_cross_entropy(float *nll, void *logits, bool narrow, size_t ld, const float *x, const float *w,
			const int32_t *targets, float scale, bool gradient, size_t n, size_t C, size_t V);

/* ---- autoencoder (cuda_sae.c) ---- */

void cuda_sae_encode(enum cuda_mode mode, real *f, const real *x, const struct sae_params *p, size_t N, size_t D,
		     size_t F);
size_t cuda_sae_active(enum cuda_mode mode, uint32_t *rows, uint32_t *feats, real *f, size_t cap, const real *x,
		       const struct sae_params *p, size_t N, size_t D, size_t F);
void cuda_sae_decode(enum cuda_mode mode, real *xhat, const real *f, const struct sae_params *p, size_t N, size_t D,
		     size_t F);
void cuda_sae_forward(enum cuda_mode mode, struct sae_sums *sums, real *err2, real *l1, real *xhat, uint32_t *fired,
		      const real *x, const struct sae_params *p, size_t N, size_t D, size_t F);
void cuda_sae_grad(enum cuda_mode mode, struct sae_sums *sums, uint32_t *fired, const struct sae_params *g,
		   const real *x, const struct sae_params *p, double lambda, size_t N, size_t D, size_t F);

/* ---- rows of the decoder (cuda_optim.cu) ---- */

void cuda_project_rows(real *g, const real *w, size_t F, size_t D);
void cuda_normalise_rows(real *w, size_t F, size_t D);
void cuda_row_norms(real *norm, const real *w, size_t F, size_t D);

/* ---- attribution (cuda_attrib.cu) ---- */

void cuda_ablate_logit(real *effect, const uint32_t *rows, const uint32_t *feats, const real *f, size_t n,
		       const real *r, const real *dir, const real *ln_w, const real *ln_b, const real *wte,
		       const int32_t *targets, size_t C);

#ifdef __cplusplus
}
#endif

#endif
