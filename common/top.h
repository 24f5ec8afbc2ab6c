#ifndef TOP_H
#define TOP_H
/*
 * top: the directory that topk writes and htmlgen reads -- one shard a field,
 * features in order, and index.json, written last.
 *
 *	struct top_shape s = { .F = 4096, .K = 10, .I = 12, .M = 5, .R = 10, .H = 50, .L = 10 };
 *	struct top_field f = top_field(&s, TOP_ACTS);
 *	char *path = top_path("top", &f);       ("top/acts.f32.zst": f.rows x f.cols)
 *
 * Of F features each has E = K + I·M examples: the K strongest activations,
 * descending, then M samples of each of I intervals, strongest interval first
 * and descending within one.  Interval i of a feature with maximum a is
 * (a·(I-1-i)/I, a·(I-i)/I].  An example is a window of W = 2R+1 tokens around
 * its centre; places outside of the context, and whole missing examples, hold
 * token TOP_NO_TOKEN, activation 0 and effect 0.
 */
#include "shard.h"

enum { TOP_FORMAT = 2 };        /* "format" of index.json */
enum { TOP_NO_TOKEN = 0xFFFF };
#define TOP_NO_EXAMPLE UINT32_MAX

/* name, dtype, rows a feature, columns */
#define TOP_FIELDS(X) \
	X(ACTIVE, "active", DT_U32, 1, 1)               /* tokens with f > 0 */ \
	X(MAX, "max", DT_F32, 1, 1)                     /* largest f; 0: dead */ \
	X(MEAN, "mean", DT_F32, 1, 1)                   /* mean f over active tokens; 0: dead */ \
	X(HIST, "hist", DT_U32, 1, s->H)                /* active tokens in H equal bins of (0, max] */ \
	X(INTERVAL, "interval", DT_U32, 1, s->I)        /* active tokens in each interval */ \
	X(CENTRE, "centre", DT_U32, s->K + s->I * s->M, 1)      /* token number c·T + t of context c read, or TOP_NO_EXAMPLE */ \
	X(TOKENS, "tokens", DT_U16, s->K + s->I * s->M, 2 * s->R + 1) \
	X(ACTS, "acts", DT_F32, s->K + s->I * s->M, 2 * s->R + 1)       /* f at each token of the window */ \
	X(EFFECTS, "effects", DT_F32, s->K + s->I * s->M, 2 * s->R + 1) /* log-probability of the token after it, \
									 * minus that with the feature ablated */ \
	X(LOGIT_EFFECTS, "logit_effects", DT_F32, s->K + s->I * s->M, 2 * s->R + 1)     /* the same of its logit */ \
	X(LOGIT_EFFECT, "logit_effect", DT_F32, 1, 2)   /* over active tokens, mean of that and of its absolute value */ \
	X(LOGIT_IDS, "logit_ids", DT_U16, 1, 2 * s->L)  /* L largest logit weights descending, L smallest ascending */ \
	X(LOGITS, "logits", DT_F32, 1, 2 * s->L)        /* their values, minus the median over the vocabulary */ \
	X(LOGIT_RANGE, "logit_range", DT_F32, 1, 2)     /* smallest and largest of real tokens, minus the median */ \
	X(LOGIT_HIST, "logit_hist", DT_U32, 1, s->H)    /* real tokens in H equal bins of that range */

enum top_name {
#define X(id, ...) TOP_##id,
	TOP_FIELDS(X)
#undef X
	TOP_N_FIELDS
};

struct top_shape {
	size_t F;       /* features */
	size_t K;       /* strongest activations kept of each */
	size_t I, M;    /* intervals, samples of each */
	size_t R;       /* tokens on either side of a centre */
	size_t H;       /* histogram bins */
	size_t L;       /* top and bottom logit weights */
};

struct top_field {
	const char *name;
	enum dtype dtype;
	size_t rows, cols;
};

struct top_field top_field(const struct top_shape *s, enum top_name which);
char *top_path(const char *dir, const struct top_field *f);     /* caller frees */

#endif
