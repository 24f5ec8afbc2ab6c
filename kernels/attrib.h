#ifndef ATTRIB_H
#define ATTRIB_H
/*
 * attrib: what a feature does to the model's predictions.  dir_k = W_proj d_k
 * (d_k the feature's decoder row, W_proj the last block's mlp.c_proj) is what
 * one unit of feature k adds to the final residual stream r.
 *
 *	struct attrib *a = attrib_new(gpt, sae, B * T);
 *	struct gpt_hook h = gpt_forward_hook(gpt, idx, B, T);
 *	attrib_residual(a, &h, B * T);
 *	attrib_logprob(a, &(struct attrib_pairs){ rows, feats, f, n }, targets, effect);
 *	attrib_free(a);
 *
 * The hook is behind the last attention, so ablating a feature at all
 * positions changes the prediction at position t by f_t alone: an effect
 * belongs to one token and feature, and concerns the token predicted there
 * (target t).  Positive: the feature helps.  The direct effect on logits
 * follows the reproduction: the whole final layernorm of the lone direction,
 * c_proj.bias included.
 */
#include "gpt.h"
#include "sae.h"

struct attrib;
/* Directions of all features; borrows g and s.  max_rows: tokens of one attrib_residual.
 * s->D must be 4 · n_embd. */
struct attrib *attrib_new(struct gpt *g, const struct sae *s, size_t max_rows);
void attrib_free(struct attrib *a);

/* ---- logit weights: <ln_f(dir_k + c_proj.bias), wte[v]> ---- */
enum { ATTRIB_BLOCK = 64 };
/* out (n,V), host: features from … from + n - 1, n <= ATTRIB_BLOCK */
void attrib_logits(struct attrib *a, size_t from, size_t n, float *out);

struct attrib_words {           /* arrays are the caller's */
	size_t L, H;
	float median;           /* lower middle of all V weights */
	uint16_t *ids;          /* (2L) largest descending, then smallest ascending; ties: smaller id first */
	float *values;          /* (2L) of these, minus the median */
	float *range;           /* (2)  smallest and largest of real tokens, minus the median */
	uint32_t *hist;         /* (H)  real tokens in H equal bins of range */
};
/* w (V): a row of attrib_logits; ids below `real_tokens` are listed, 2L <= real_tokens */
void attrib_words(struct attrib_words *out, const float *w, size_t V, size_t real_tokens);

/* ---- ablation: r - f dir_k in place of r ---- */
/* r = h->resid + h->acts W_projᵀ + b_proj of N rows, kept for the calls below */
void attrib_residual(struct attrib *a, const struct gpt_hook *h, size_t N);

struct attrib_pairs {           /* host; row of the residual, feature, its activation there */
	const uint32_t *rows, *feats;
	const float *f;
	size_t n;
};
/* effect (n), host: log p(target) with the feature minus without.  Exact: the head runs once for
 * every pair and once for every run of equal rows.  targets: host, one a row; -1: effect 0. */
void attrib_logprob(struct attrib *a, const struct attrib_pairs *p, const int32_t *targets, float *effect);
/* The same of the target's logit, which needs no head: <ln_f(r) - ln_f(r - f dir_k), wte[target]> */
void attrib_logit(struct attrib *a, const struct attrib_pairs *p, const int32_t *targets, float *effect);
/* The same of all that sae_find_active found; rows: targets */
void attrib_logit_active(struct attrib *a, const struct sae_active *p, const int32_t *targets, size_t rows,
			 float *effect);

#endif
