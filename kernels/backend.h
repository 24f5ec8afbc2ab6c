#ifndef BACKEND_H
#define BACKEND_H
/*
 * backend: one flat table of functions at the level of a layer.  Nets (gpt.c,
 * sae.c) are written once over it; ref fills the whole table with plain loops
 * (sums in double, the definition of correct), cpu starts as ref and overrides.
 *
 *	const struct backend *be = backend_open("auto", "f32");
 *	float *y = be->alloc(rows * cols * sizeof(*y));
 *	be->linear_fwd(y, x, w, b, rows, cols, k);
 *
 * Every array is row-major `real` in the backend's memory; inside an op a
 * backend is free (tiles, bf16 operands, sparsity, fusion).  "+=" ops
 * accumulate.  Dims: B batch, T time, C channels, V vocab, N rows, D inputs,
 * F features.  Equal inputs give equal bytes for any number of threads.
 * real is double only where tests recompute ref and the nets for central
 * differences.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifndef real
#define real float
#endif

/* Sums over rows of autoencoder passes, all in double. */
struct sae_sums {
	double err2;    /* sum over rows and inputs of (xhat - x)^2 */
	double l1;      /* sum over rows and features of f */
	double l0;      /* number of f > 0 */
};

struct sae_params {     /* weights, or their gradients or moments */
	real *enc;      /* (F,D) encoder.weight */
	real *b_enc;    /* (F)   encoder.bias */
	real *dec;      /* (F,D) decoder.weight transposed: one row a feature */
	real *b_dec;    /* (D)   decoder.bias */
};

enum { DEVICE_LINK_ID = 128 };

/* What devices of several processes, one each, send one another without the host.  All of the job call, in the
 * same order; a text is one line that says why not (static). */
struct device_link {
	const char *(*find)(void);              /* NULL, or there is none here; does not wait for others */
	const char *(*make_id)(void *id);       /* (DEVICE_LINK_ID bytes) of a link to be: one of them, for all */
	const char *(*join)(const void *id, size_t rank, size_t size);
	/* An op as others: n values to the peer, its_n from it; both are backend memory and lie apart */
	void (*exchange)(size_t peer, const real *mine, size_t n, real *its, size_t its_n);
	void (*leave)(void);
};

struct backend {
	const char *name;       /* "ref", "cpu", "cuda" */
	const char *precision;  /* "f32"; "bf16", "tf32": operands of products are rounded, sums and weights are not */
	const struct backend *exact;    /* the same device in f32, for evaluation; itself when it is that */
	bool host;              /* its memory is the host's: to look at it waits for no device */
	const struct device_link *link; /* NULL: processes exchange through host memory */

	/* memory: alloc gives zeros, 64-byte aligned, and dies when there is none */
	void *(*alloc)(size_t bytes);
	void (*release)(void *p);
	void (*put)(void *dst, const void *host, size_t bytes);
	void (*get)(void *host, const void *src, size_t bytes);
	void (*zero)(void *p, size_t bytes);
	void (*sync)(void);

	/* x (B·T,C) = wte[idx] + wpe[t]; idx int32 (B,T) in backend memory, as all idx and targets */
	void (*embed_fwd)(real *x, const int32_t *idx, const real *wte, const real *wpe,
			  size_t B, size_t T, size_t C);
	/* dwte (V,C) += , dwpe (T,C) += */
	void (*embed_bwd)(real *dwte, real *dwpe, const real *dx, const int32_t *idx,
			  size_t B, size_t T, size_t C, size_t V);
	/* y (N,C) = (x - mean)·rstd·w + b, eps 1e-5, biased variance; b may be NULL; mean, rstd (N) kept */
	void (*layernorm_fwd)(real *y, real *mean, real *rstd, const real *x, const real *w,
			      const real *b, size_t N, size_t C);
	/* dx (N,C) += , dw (C) += , db (C) += (NULL without bias) */
	void (*layernorm_bwd)(real *dx, real *dw, real *db, const real *dy, const real *x,
			      const real *w, const real *mean, const real *rstd, size_t N, size_t C);
	/* y (N,O) = x (N,I) wᵀ (O,I) + b (O); b may be NULL */
	void (*linear_fwd)(real *y, const real *x, const real *w, const real *b,
			   size_t N, size_t I, size_t O);
	/* dx (N,I) = dy w (NULL: not wanted); dw (O,I) += dyᵀ x; db (O) += (NULL without bias) */
	void (*linear_bwd)(real *dx, real *dw, real *db, const real *dy, const real *x,
			   const real *w, size_t N, size_t I, size_t O);
	/* Causal self-attention, scores / sqrt(C/NH).  qkv (B·T,3C) = q|k|v, y (B·T,C),
	 * lse (B,NH,T) log-sum-exp of the scaled scores, kept for backward */
	void (*attention_fwd)(real *y, real *lse, const real *qkv, size_t B, size_t T, size_t C, size_t NH);
	/* The same of n of the B·T rows alone (ascending): y, q (n,C) are theirs, kv (B·T,2C) = k|v of all */
	void (*attention_rows)(real *y, const real *q, const real *kv, const uint32_t *rows, size_t n,
			       size_t B, size_t T, size_t C, size_t NH);
	/* dqkv (B·T,3C) = */
	void (*attention_bwd)(real *dqkv, const real *dy, const real *y, const real *lse,
			      const real *qkv, size_t B, size_t T, size_t C, size_t NH);
	/* exact erf GELU: y = x Phi(x); dx = dy (Phi(x) + x phi(x)) (dx may be dy) */
	void (*gelu_fwd)(real *y, const real *x, size_t n);
	void (*gelu_bwd)(real *dx, const real *dy, const real *x, size_t n);
	void (*add)(real *y, const real *x, size_t n);  /* y += x */
	void (*fill_rows)(real *y, const real *row, size_t N, size_t C);        /* every row of y = row */
	void (*gather_rows)(real *y, const real *x, const uint32_t *rows, size_t n, size_t C);
	/* Every value of x (n) to the nearest of a type with so many binary digits, ties to even: 11 float16,
	 * 8 bfloat16, 24 float32.  *unfit (backend memory) += values that it cannot hold: infinite, or no number. */
	void (*round_rows)(real *x, size_t n, unsigned digits, uint64_t *unfit);
	/* sum (C), double, host memory += column sums of x (N,C) */
	void (*column_sums)(double *sum, const real *x, size_t N, size_t C);

	/* Tied head with softmax cross-entropy; logits x wteᵀ are never held whole.
	 * nll (N) = -log softmax(x wteᵀ)[target], 0 where target = -1.  Unless dx is NULL also
	 * dx (N,C) = scale · d(sum nll)/dx and dw (V,C) += scale · d(sum nll)/dw.  All V columns count. */
	void (*lmhead)(real *nll, real *dx, real *dw, const real *x, const real *w,
		       const int32_t *targets, double scale, size_t N, size_t C, size_t V);
	/* effect (n) = logit of targets[rows[i]] with the final residual r (N,C) minus that with
	 * r - f[i]·dir[feats[i]] (dir (F,C)), logit = <ln_f(r), wte[target]>; 0 where target = -1 */
	void (*ablate_logit)(real *effect, const uint32_t *rows, const uint32_t *feats, const real *f,
			     size_t n, const real *r, const real *dir, const real *ln_w,
			     const real *ln_b, const real *wte, const int32_t *targets, size_t C);

	/* f (N,F) = relu((x - b_dec) encᵀ + b_enc); what is no number before relu is none or 0 after */
	void (*sae_encode)(real *f, const real *x, const struct sae_params *p, size_t N, size_t D, size_t F);
	/* The active latents alone, row by row and ascending in each: entry i is feature feats[i] at row
	 * rows[i], f[i] > 0 (or no number).  Returns how many; when that is more than cap, the three arrays
	 * hold nothing, and it is a cap to try again with. */
	size_t (*sae_active)(uint32_t *rows, uint32_t *feats, real *f, size_t cap, const real *x,
			     const struct sae_params *p, size_t N, size_t D, size_t F);
	/* xhat (N,D) = f dec + b_dec */
	void (*sae_decode)(real *xhat, const real *f, const struct sae_params *p, size_t N, size_t D, size_t F);
	/* One pass without gradients; *sums = .  Any of err2 (N), l1 (N) and xhat (N,D) may be NULL;
	 * fired (F), uint32, backend memory: += rows with f > 0, NULL: not wanted */
	void (*sae_forward)(struct sae_sums *sums, real *err2, real *l1, real *xhat, uint32_t *fired,
			    const real *x, const struct sae_params *p, size_t N, size_t D, size_t F);
	/* The training pass: *sums (backend memory) += , fired += (or NULL), gradients g = of
	 * sum err2 / (N·D)  +  lambda · sum f / N */
	void (*sae_grad)(struct sae_sums *sums, uint32_t *fired, const struct sae_params *g,
			 const real *x, const struct sae_params *p, double lambda,
			 size_t N, size_t D, size_t F);
	/* g -= <g,u> u for every row, u = w / max(|w|, 1e-12); g and w (F,D) */
	void (*project_rows)(real *g, const real *w, size_t F, size_t D);
	void (*normalise_rows)(real *w, size_t F, size_t D);    /* w /= max(|w|, 1e-12) */
	void (*row_norms)(real *norm, const real *w, size_t F, size_t D);

	/* What a step leaves behind stays in backend memory, so that the next need not wait for it.
	 * *sum += scale · sum of x, in double */
	void (*add_sum)(double *sum, const real *x, size_t n, double scale);
	/* norm[0] = |g| of n values; norm[1] = min(1, max / (|g| + 1e-6)), or 1 where max = 0 */
	void (*clip)(double norm[2], const real *g, size_t n, double max);
	/* AdamW on n values; g is first multiplied by *gscale (backend memory; NULL: 1).  t counts from 1:
	 * p -= lr wd p; p -= lr/(1-b1^t) m / (sqrt(v)/sqrt(1-b2^t) + eps) */
	void (*adamw)(real *p, const real *g, real *m, real *v, size_t n, const double *gscale, double lr,
		      double beta1, double beta2, double eps, double wd, uint64_t t);
	double (*sumsq)(const real *x, size_t n);
};

/* device: auto ref cpu cuda cudasim (the last two from plugins; auto: cuda where there is a card, else
 * cpu); precision: auto f32 bf16, and tf32 on cuda; auto is bf16 on processors with matrix units for it
 * and on cuda, else f32.  Dies when it cannot be had or an op is missing; says which it took.
 * The table is static. */
const struct backend *backend_open(const char *device, const char *precision);
/* For tests of single ops: the same table, complete or not, and nothing is said. */
const struct backend *backend_open_part(const char *device, const char *precision);
/* The first op that b lacks of these (names and spaces; NULL: of all), or NULL. */
const char *backend_lacks(const struct backend *b, const char *names);
/* The words for recipes: what will be computed in ("cuda bf16" where auto found a card), else `precision`
 * as it was given; so that what auto made on one machine is not taken for what it would make on another. */
const char *backend_precision(const char *device, const char *precision);
void backend_ref(struct backend *b);    /* fills every member */
void backend_cpu(struct backend *b);    /* ref, then what cpu.c does better */
void backend_cpu_bf16(struct backend *b, const struct backend *exact);
bool backend_cpu_has_tiles(void);       /* AMX with bf16, and the kernel lets us */

#endif
