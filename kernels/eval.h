#ifndef EVAL_H
#define EVAL_H
/*
 * eval: every reported figure of an autoencoder, defined once.  Always
 * float32, on all positions of the windows given, the same each time; ratios
 * of sums, never means of ratios.
 *
 *	struct eval *e = eval_new(gpt, sae, B, T);
 *	for each batch: eval_clean(e, idx, targets, n);         (once: losses clean and zero-ablated, mean of x)
 *	for each batch: eval_about_mean(e, idx, targets, n);    (once: loss mean-ablated, variance about the mean)
 *	eval_begin(e);
 *	for each batch: eval_spliced(e, idx, targets, n);       (each time the autoencoder has changed)
 *	struct eval_result r = eval_end(e, 1e-3);
 *
 * Spliced: the post-GELU activations x of the last block are replaced by xhat
 * (zero-ablated: by zeros, mean-ablated: by their mean); c_proj.bias is kept.
 */
#include "gpt.h"
#include "sae.h"

struct eval_result {
	uint64_t tokens;
	double l0;                      /* sum of (f > 0) / tokens */
	double l1;                      /* sum of f / tokens */
	double mse;                     /* sum of (xhat - x)² / (tokens · D) */
	double explained_variance;      /* 1 - sum (xhat - x)² / sum (x - mean x)² */
	double loss_clean, loss_spliced, loss_zero, loss_mean;  /* next-token nats */
	double loss_recovered;          /* (zero - spliced) / (zero - clean); 1 is perfect */
	double loss_recovered_mean;     /* (mean - spliced) / (mean - clean) */
	size_t dead;                    /* features that never fired */
	size_t ultra_low;               /* 0 < density < cut */
	size_t high;                    /* density >= cut */
	size_t alive;                   /* ultra_low + high */
	const uint64_t *fired;          /* (F) tokens with f > 0; owned by the eval, until the next eval_begin */
};

/* Density histogram: log10 of the density of alive features, bins of 1/4 decade from 1e-8 to 1. */
enum { EVAL_BINS = 32 };
#define EVAL_BIN_FROM (-8.0)
#define EVAL_BIN_WIDTH 0.25
void eval_histogram(const struct eval_result *r, size_t F, uint64_t bins[EVAL_BINS]);
/* All of it as one JSON object: the fields' names, density_bins, density_from, density_width. */
void eval_json(const struct eval_result *r, size_t F, struct buf *b);

struct eval;
struct eval *eval_new(struct gpt *g, struct sae *s, size_t max_batch, size_t T);        /* borrows g and s */
void eval_free(struct eval *e);
void eval_clean(struct eval *e, const int32_t *idx, const int32_t *targets, size_t B);
void eval_about_mean(struct eval *e, const int32_t *idx, const int32_t *targets, size_t B);
void eval_begin(struct eval *e);
void eval_spliced(struct eval *e, const int32_t *idx, const int32_t *targets, size_t B);
struct eval_result eval_end(struct eval *e, double ultra_low_cut);

#endif
