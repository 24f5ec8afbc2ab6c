#ifndef CPU_H
#define CPU_H
/*
 * cpu: what the files of the cpu backend share.  Ops split their work into
 * blocks whose sizes depend on shapes alone, run them through the pool, and
 * add partial sums in block order.  Matrix products are oneDNN's (dnn.h);
 * what happens to a row or a range of values is a kernel of cpu_kernels,
 * written once in cpu_kernels.inc and compiled for each instruction set.
 */
#include "backend.h"
#include "base.h"
#include "dnn.h"
#include "pool.h"

struct adamw {                  /* constants of a step */
	float gscale, beta1, keep1, beta2, keep2, step, inv_root, eps, decay;   /* keep: 1 - beta; decay: 1 - lr wd */
};

/* What will be needed soon: kernels that are given one fetch it into L2, a few lines at a time. */
struct cpu_fetch {
	const char *at, *end;   /* equal: nothing */
};

enum { CPU_PANEL_MAX = 32 };
#define CPU_ABLATE_PAD(C) (((C) + 15) / 16 * 16)

struct cpu_kernels {
	const char *name;
	void (*gelu_fwd)(float *y, const float *x, size_t n);
	void (*gelu_bwd)(float *dx, const float *dy, const float *x, size_t n);
	/* rows of layernorm */
	void (*layernorm_fwd)(float *y, float *mean, float *rstd, const float *x, const float *w,
			      const float *b, size_t N, size_t C);
	/* dx += ; dw, db (C) = sums over these rows */
	void (*layernorm_bwd)(float *dx, float *dw, float *db, const float *dy, const float *x,
			      const float *w, const float *mean, const float *rstd, size_t N, size_t C);
	float (*dot)(const float *a, const float *b, size_t n);
	void (*axpy)(float *y, float a, const float *x, size_t n);      /* y += a x */
	void (*scale)(float *y, const float *x, float a, size_t n);     /* y = a x (y may be x) */
	void (*sub)(float *y, const float *a, const float *b, size_t n);        /* y = a - b */
	void (*mul)(float *y, const float *x, float a, size_t n);       /* y = a x y */
	void (*adamw)(float *p, const float *g, float *m, float *v, size_t n, const struct adamw *k);
	/* x (n) = f > 0 ? x + a : 0 */
	void (*relu_bwd)(float *x, const float *f, float a, size_t n);
	/* What is positive or no number of x (n): index (from `first` on) and value; returns how many */
	size_t (*compact)(uint32_t *index, float *value, const float *x, uint32_t first, size_t n);
	/* y (width) = base + Σ coef[i] m[index[i]], rows of m ld apart; base NULL: 0; base may be y */
	void (*gather_sum)(float *y, const float *base, const uint32_t *index, const float *coef, size_t n,
			   const float *m, size_t ld, size_t width);
	/* y (n) = <x, m[index[i]]> + a, x (D) */
	void (*gather_dots)(float *y, const float *x, float a, const uint32_t *index, size_t n,
			    const float *m, size_t D);
	/* y (n) = <ln_f(r), w> - <ln_f(r - f[i] dir[index[i]]), w>, rows of C; scratch (2 CPU_ABLATE_PAD(C)) */
	void (*ablate)(float *y, const float *r, const float *dir, const uint32_t *index, const float *f, size_t n,
		       const float *ln_w, const float *w, size_t C, float *scratch);
	/* Products with one panel: `panel` values (tokens, queries) side by side in each row.  w: rows ld apart.
	 * e (rows,panel) = w (rows,depth) xt (depth,panel) - reference (panel) */
	size_t panel;                   /* at most CPU_PANEL_MAX; divides CPU_PANEL_MAX */
	void (*panel_product)(float *e, const float *xt, const float *reference, const float *w, size_t ld,
			      size_t rows, size_t depth, struct cpu_fetch *f);
	/* e (rows,panel) = 2^e; sum (panel) += the column sums */
	void (*panel_exp)(float *e, float *sum, size_t rows);
	/* part (cols,panel) += wᵀ e; w (depth,cols), e (depth,panel) */
	void (*panel_sum)(float *part, const float *e, const float *w, size_t ld, size_t depth, size_t cols);
	/* dw (rows,cols) += Σ over panels of e xs: panels of e (rows,panel) are e_panel apart; xs is packed by
	 * panels of columns, xs_panel apart, each (panels·panel,panel), zeros where there is no column or token */
	void (*panel_outer)(float *dw, size_t ld, const float *e, size_t e_panel, const float *xs, size_t xs_panel,
			    size_t panels, size_t rows, size_t cols, struct cpu_fetch *f, struct cpu_fetch *g);
	/* The processor's limit, for measurements: n rounds of independent multiply-adds; returns the
	 * floating-point operations done. */
	double (*probe)(size_t n);
};

extern const struct cpu_kernels cpu_kernels_plain, cpu_kernels_avx2, cpu_kernels_avx512;
/* The kernels in use: the best that the processor has, or what cpu_use_isa took. */
extern const struct cpu_kernels *cpu_k;
/* For tests and measurements: "plain", "avx2" or "avx512"; false when the processor lacks it.
 * oneDNN makes its own choice. */
bool cpu_use_isa(const char *name);

/* Scratch memory that a thread keeps and grows, 64-byte aligned, not cleared: of an op between its
 * blocks, and of a block.  Valid until the same thread asks again. */
float *cpu_op_scratch(size_t floats);
float *cpu_operand_scratch(size_t floats);      /* beside an op's: operands packed once */
float *cpu_block_scratch(size_t floats);

static inline size_t cpu_blocks(size_t n, size_t size)
{
	return (n + size - 1) / size;
}

static inline size_t cpu_min(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* floats of a row that starts on a cache line */
static inline size_t cpu_pad(size_t n)
{
	return (n + 15) / 16 * 16;
}

/* Each fills its ops; bf16: with products of operands rounded to bf16. */
void cpu_linear(struct backend *b, bool bf16);
void cpu_attention(struct backend *b);
void cpu_head(struct backend *b, bool bf16);
void cpu_bf16_lmhead(float *nll, float *dx, float *dw, const float *x, const float *w, const int32_t *targets,
		     double scale, size_t N, size_t C, size_t V);
void cpu_sae(struct backend *b, bool bf16);

/* One pass of the autoencoder; which members are set depends on the op. */
struct sae_pass {
	const float *x;                 /* (N,D) */
	struct sae_params p, g;
	size_t N, D, F;
	float lambda_n;                 /* lambda / N */
	float *err2, *l1, *xhat;        /* wanted: (N), (N), (N,D); or NULL */
	uint32_t *fired;                /* (F) or NULL */
	bool bf16;                      /* operands of dense products rounded to bf16 */
	const uint16_t *enc16;          /* p.enc packed, and p.b_enc (32·units), by cpu_sae_pack; NULL in float32 */
	const float *bias16;
};
/* In bf16: packs what the encoder reads; before any of these: */
void cpu_sae_pack(struct sae_pass *s);
/* The gradients by active latents alone; false, with nothing changed but g, when a block of rows has
 * more of them than pays. */
bool cpu_sae_grad_sparse(struct sae_sums *sums, const struct sae_pass *s);
/* A block of n <= 128 rows from `from`: adds to sums and sets what is wanted; false as above. */
bool cpu_sae_forward_sparse(struct sae_sums *sums, const struct sae_pass *s, size_t from, size_t n);
/* The active latents of all rows, as the op of that name */
size_t cpu_sae_active(struct sae_pass *s, uint32_t *rows, uint32_t *feats, float *f, size_t cap);
/* xhat (n,D) of f (n,F); false as above */
bool cpu_sae_decode_sparse(float *xhat, const struct sae_pass *s, const float *f, size_t n);
/* g.b_dec = Σ dxhat - encᵀ Σ df: through the decoder's bias and through x - b_dec.  dxhat_sum (blocks,D);
 * Σ df is g.b_enc */
void cpu_sae_grad_bias(const struct sae_pass *s, const float *dxhat_sum, size_t blocks);
void cpu_sae_add_up(struct sae_sums *all, const struct sae_sums *sums, size_t blocks);      /* all += */
void cpu_rows(struct backend *b);

#endif
