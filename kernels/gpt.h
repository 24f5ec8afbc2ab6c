#ifndef GPT_H
#define GPT_H
/*
 * gpt: nanoGPT's model (pre-norm blocks, exact GELU, learned positions, tied
 * head), forward and backward, written once over the backend table.
 *
 *	struct gpt *g = gpt_new(be, &cfg, B, GPT_TRAIN);
 *	gpt_init(g, seed);
 *	gpt_zero_grads(g);
 *	gpt_step(g, idx, targets, B, T, 1.0 / accum);
 *	gpt_update(g, &hyper, lr);
 *	struct gpt_tally t = gpt_tally(g);      (waits for the device)
 *
 * idx and targets are host int32 (B,T), T <= block_size; target -1 is ignored.
 * The hook point ("acts") is the output of the last block's GELU, (B·T, 4C).
 */
#include "backend.h"
#include "tensors.h"

/* name, checkpoint name (%zu: layer), rows, columns (0: a vector), per layer?, exists only with bias? */
#define GPT_PARAMS(X) \
	X(wte, "transformer.wte.weight", V, C, 0, 0) \
	X(wpe, "transformer.wpe.weight", T, C, 0, 0) \
	X(ln_1_w, "transformer.h.%zu.ln_1.weight", C, 0, 1, 0) \
	X(ln_1_b, "transformer.h.%zu.ln_1.bias", C, 0, 1, 1) \
	X(attn_w, "transformer.h.%zu.attn.c_attn.weight", 3 * C, C, 1, 0) \
	X(attn_b, "transformer.h.%zu.attn.c_attn.bias", 3 * C, 0, 1, 1) \
	X(proj_w, "transformer.h.%zu.attn.c_proj.weight", C, C, 1, 0) \
	X(proj_b, "transformer.h.%zu.attn.c_proj.bias", C, 0, 1, 1) \
	X(ln_2_w, "transformer.h.%zu.ln_2.weight", C, 0, 1, 0) \
	X(ln_2_b, "transformer.h.%zu.ln_2.bias", C, 0, 1, 1) \
	X(fc_w, "transformer.h.%zu.mlp.c_fc.weight", 4 * C, C, 1, 0) \
	X(fc_b, "transformer.h.%zu.mlp.c_fc.bias", 4 * C, 0, 1, 1) \
	X(out_w, "transformer.h.%zu.mlp.c_proj.weight", C, 4 * C, 1, 0) \
	X(out_b, "transformer.h.%zu.mlp.c_proj.bias", C, 0, 1, 1) \
	X(ln_f_w, "transformer.ln_f.weight", C, 0, 0, 0) \
	X(ln_f_b, "transformer.ln_f.bias", C, 0, 0, 1)

struct gpt_config {
	size_t n_layer, n_head, n_embd, block_size, vocab_size;
	bool bias;
};

struct gpt_weights {    /* each (L, rows, columns) or (rows, columns); NULL when it does not exist */
#define X(name, ...) real *name;
	GPT_PARAMS(X)
#undef X
};

struct gpt_hyper {      /* nanoGPT: .9 .95 1e-8 .1 1.0 */
	double beta1, beta2, eps, weight_decay, clip;   /* clip 0: none */
};

struct gpt_acts;        /* activations of a forward pass; private */
struct gpt {
	const struct backend *be;
	struct gpt_config c;
	size_t max_rows;                /* B·T that buffers were made for */
	size_t n_params;                /* in the one block behind each of these: */
	struct gpt_weights w, g, m, v;  /* g m v: NULL members unless GPT_TRAIN */
	uint64_t t;                     /* optimizer steps done */
	struct gpt_acts *a;
	size_t leaves, leaf;            /* of the batch, with a loss of their own each; the one under way */
	double *tally;                  /* backend memory: norm, clipping factor, losses (leaves) */
	void *host;                     /* copies of weights that gpt_store made */
};

enum { GPT_EVAL, GPT_TRAIN };
struct gpt *gpt_new(const struct backend *be, const struct gpt_config *c, size_t max_batch, int mode);
void gpt_free(struct gpt *g);

/* N(0,0.02), c_proj N(0, 0.02/sqrt(2L)), biases 0, LayerNorm 1; from rng_normal(seed, RNG_INIT, tensor, i) */
void gpt_init(struct gpt *g, uint64_t seed);
/* Calls fn for every tensor that exists: name, shape, decays (dim >= 2)?, and pointers into w g m v
 * (NULL where absent). */
void gpt_each(struct gpt *g, void (*fn)(void *arg, const char *name, size_t ndim, const size_t *shape,
					real *w, real *dw, real *m, real *v), void *arg);

#ifndef REAL_IS_DOUBLE
/* Config from __metadata__ (n_layer n_head n_embd block_size vocab_size bias), else from shapes and
 * n_head = n_embd / 32; dies with the file's name when a tensor is missing or misshapen. */
struct gpt_config gpt_config_from(const struct tensors *t, const char *path);
void gpt_load(struct gpt *g, const struct tensors *t);
void gpt_store(struct gpt *g, struct tensors_writer *w);        /* metadata and tensors; borrows host copies
								   until gpt_free */
/* Open a checkpoint for evaluation: config, weights, max_batch. */
struct gpt *gpt_open(const struct backend *be, const char *path, size_t max_batch, char id[33]);
/* Weights, moments and t for a state, in gpt_each's order; and back. */
void gpt_save_state(struct gpt *g, struct buf *st);
void gpt_load_state(struct gpt *g, struct cursor *st);
#endif

void gpt_zero_grads(struct gpt *g);
/* Forward and backward; grads += scale · d(mean nll over targets != -1), the tally's loss += scale · that mean. */
void gpt_step(struct gpt *g, const int32_t *idx, const int32_t *targets, size_t B, size_t T, double scale);
/* A batch summed leaf by leaf (tree.h).  How many; their losses are 0: */
void gpt_set_leaves(struct gpt *g, size_t leaves);
/* From now on gradients are those at grads (n_params, backend memory; at first g's own), and losses are
 * added to this leaf's. */
void gpt_at_leaf(struct gpt *g, size_t leaf, real *grads);
/* (leaves), host */
void gpt_losses(const struct gpt *g, double *loss);
void gpt_set_losses(struct gpt *g, const double *loss);
double gpt_grad_norm(struct gpt *g);
/* Clip by total norm (coef = min(1, clip/(norm+1e-6))), AdamW. */
void gpt_update(struct gpt *g, const struct gpt_hyper *h, double lr);
/* What steps left behind, in backend memory until it is asked for. */
struct gpt_tally {
	double loss;    /* of this leaf: sum over steps since it was last set */
	double norm;    /* of the gradient before the last update clipped it */
};
struct gpt_tally gpt_tally(const struct gpt *g);
void gpt_set_loss(struct gpt *g, double loss);
double gpt_take_loss(struct gpt *g);    /* the tally's, which is 0 again */

/* Forward up to the hook: acts and the residual stream entering the last ln_2, both in backend memory
 * and owned by g, valid until the next pass. */
struct gpt_hook {
	real *acts;             /* (B·T, 4C) post-GELU of the last block */
	const real *pre_gelu;   /* (B·T, 4C) */
	const real *resid;      /* (B·T, C) residual entering the last block's ln_2 */
	const real *attn_out;   /* (B·T, C) output of the last block's attention (after c_proj) */
};
struct gpt_hook gpt_forward_hook(struct gpt *g, const int32_t *idx, size_t B, size_t T);
/* The same of n tokens alone, at a fraction of the cost: rows (host, ascending, below B·T) tells which.
 * acts, pre_gelu, resid and attn_out have n rows; gpt_finish takes no part in it. */
struct gpt_hook gpt_forward_rows(struct gpt *g, const int32_t *idx, size_t B, size_t T,
				 const uint32_t *rows, size_t n);
/* From acts (backend memory, (B·T,4C); the hook's own or replacements) to per-token nll (host, B·T;
 * 0 where target = -1).  Returns the sum of nll; may be called repeatedly after one gpt_forward_hook. */
double gpt_finish(struct gpt *g, const real *acts, const int32_t *targets, float *nll);
const real *gpt_final_resid(const struct gpt *g);       /* (B·T,C) entering ln_f, of the last gpt_finish */
const real *gpt_ln_f_out(const struct gpt *g);          /* (B·T,C) after ln_f */
/* Dense logits of rows of ln_f output: out (n,V), backend memory; for tests and small n. */
void gpt_logits(struct gpt *g, real *out, const real *ln_f_out, size_t n);
double gpt_loss(struct gpt *g, const int32_t *idx, const int32_t *targets, size_t B, size_t T); /* mean nll */

/* nanoGPT's schedule: lr·it/warmup; cosine to min_lr at decay_iters; min_lr after (it > decay_iters). */
double gpt_lr(uint64_t it, double lr, double min_lr, uint64_t warmup, uint64_t decay_iters);

#endif
