#ifndef TOP_H
#define TOP_H
/*
 * top: the directory that topk writes and htmlgen reads -- one shard a field,
 * features in order, and index.json, written last.
 *
 *	struct top_shape s = { .F = 4096, .K = 10, .I = 12, .M = 5, .R = 10, .RT = 32, … };
 *	struct top_field f = top_field(&s, TOP_ACTS);
 *	char *path = top_path("top", &f);       ("top/acts.f32.zst": f.rows x f.cols)
 *	struct top_window w = top_window(&s, e);        (cells [w.at, w.at + w.width) of feature k's row)
 *
 * Of F features each has E = K + I·M examples: the K strongest activations,
 * descending, then M samples of each of I intervals, strongest interval first
 * and descending within one.  Interval i of a feature with maximum a is
 * (a·(I-1-i)/I, a·(I-i)/I].  An example is a window of tokens around its
 * centre, RT on either side of a strongest activation's, R of a sample's;
 * places outside of the context, and whole missing examples, hold token
 * TOP_NO_TOKEN, activation 0 and effect 0.
 *
 * Of a feature's firings (tokens with f > 0) m = min(active, P) are sampled:
 * those of smallest hash(seed, feature, token).  What is said of them are
 * counts; the share of m on which another feature g is active too estimates
 * the Jaccard index of both that TOGETHER is ordered by: with c = share · n_f,
 * c / (n_f + n_g - c).  Lists are shorter than their N, A or B where there is
 * no more to list: index TOP_NONE or token TOP_NO_TOKEN, value 0.
 */
#include "shard.h"

enum { TOP_FORMAT = 3 };        /* "format" of index.json */
enum { TOP_NO_TOKEN = 0xFFFF };
#define TOP_NO_EXAMPLE UINT32_MAX
#define TOP_NONE UINT32_MAX     /* no feature, no neuron */

/* name, dtype, rows a feature, columns */
#define TOP_FIELDS(X) \
	X(ACTIVE, "active", DT_U32, 1, 1)               /* tokens with f > 0 */ \
	X(MAX, "max", DT_F32, 1, 1)                     /* largest f; 0: dead */ \
	X(MEAN, "mean", DT_F32, 1, 1)                   /* mean f over active tokens; 0: dead */ \
	X(HIST, "hist", DT_U32, 1, s->H)                /* active tokens in H equal bins of (0, max] */ \
	X(INTERVAL, "interval", DT_U32, 1, s->I)        /* active tokens in each interval */ \
	X(CENTRE, "centre", DT_U32, top_examples(s), 1)      /* token number c·T + t of context c read, or TOP_NO_EXAMPLE */ \
	X(TOKENS, "tokens", DT_U16, 1, top_cells(s))    /* of the windows, one behind another */ \
	X(ACTS, "acts", DT_F32, 1, top_cells(s))        /* f at each of them */ \
	X(EFFECTS, "effects", DT_F32, 1, top_cells(s))  /* log-probability of the token after it, \
							 * minus that with the feature ablated */ \
	X(LOGIT_EFFECTS, "logit_effects", DT_F32, 1, top_cells(s))      /* the same of its logit */ \
	X(LOGIT_EFFECT, "logit_effect", DT_F32, 1, 2)   /* over active tokens, mean of that and of its absolute value */ \
	X(LOGIT_IDS, "logit_ids", DT_U16, 1, 2 * s->L)  /* L largest logit weights descending, L smallest ascending */ \
	X(LOGITS, "logits", DT_F32, 1, 2 * s->L)        /* their values, minus the median over the vocabulary */ \
	X(LOGIT_RANGE, "logit_range", DT_F32, 1, 2)     /* smallest and largest of real tokens, minus the median */ \
	X(LOGIT_HIST, "logit_hist", DT_U32, 1, s->H)    /* real tokens in H equal bins of that range */ \
	X(NEAR, "near", DT_U32, 1, s->N)                /* features whose decoder columns have the largest cosines … */ \
	X(NEAR_COS, "near_cos", DT_F32, 1, s->N)        /* … with this one's, descending; ties: smaller index */ \
	X(TOGETHER, "together", DT_U32, 1, s->N)        /* features most often active on the same tokens … */ \
	X(TOGETHER_SHARE, "together_share", DT_F32, 1, s->N)    /* … and on what part of the sampled firings */ \
	X(SAMPLED, "sampled", DT_U32, 1, 1)             /* firings sampled */ \
	X(ALIGN, "align", DT_U32, 1, s->A)              /* inputs where the decoder column is largest, by size … */ \
	X(ALIGN_VALUE, "align_value", DT_F32, 1, s->A)  /* … and what it is there; columns of unit norm */ \
	X(ALIGN_L1, "align_l1", DT_F32, 1, 1)           /* sum of the sizes of all entries; 0: a column of zeros */ \
	X(BEFORE, "before", DT_U16, 1, s->B)            /* tokens most often just before sampled firings; ties: smaller id */ \
	X(BEFORE_COUNT, "before_count", DT_U32, 1, s->B) \
	X(ON, "on", DT_U16, 1, s->B)                    /* … under them */ \
	X(ON_COUNT, "on_count", DT_U32, 1, s->B) \
	X(AFTER, "after", DT_U16, 1, s->B)              /* … just after them */ \
	X(AFTER_COUNT, "after_count", DT_U32, 1, s->B)

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
	size_t R, RT;   /* tokens on either side of a sample's centre, of a strongest activation's */
	size_t H;       /* histogram bins */
	size_t L;       /* top and bottom logit weights */
	size_t N;       /* similar features, of either kind */
	size_t A;       /* aligned neurons */
	size_t B;       /* tokens before, at and after */
	size_t P;       /* firings sampled of each, at most */
};

static inline size_t top_examples(const struct top_shape *s)
{
	return s->K + s->I * s->M;
}

/* Where example e < top_examples(s) lies in its feature's row; its centre is the middle one. */
struct top_window {
	size_t at, width;
};

static inline struct top_window top_window(const struct top_shape *s, size_t e)
{
	const size_t wide = 2 * s->RT + 1, narrow = 2 * s->R + 1;

	return e < s->K ? (struct top_window){ e * wide, wide } :
		(struct top_window){ s->K * wide + (e - s->K) * narrow, narrow };
}

/* Tokens of all windows of a feature */
static inline size_t top_cells(const struct top_shape *s)
{
	return top_window(s, top_examples(s)).at;
}

struct top_field {
	const char *name;
	enum dtype dtype;
	size_t rows, cols;
};

struct top_field top_field(const struct top_shape *s, enum top_name which);
char *top_path(const char *dir, const struct top_field *f);     /* caller frees */
/* The n tokens on which a feature is strongest, from its rows of CENTRE and TOKENS: those of its strongest
 * activations (of the first 64), the more frequent first; TOP_NO_TOKEN where there are fewer. */
void top_tokens(const struct top_shape *s, const uint32_t *centre, const uint16_t *tokens, uint16_t *out, size_t n);

#endif
