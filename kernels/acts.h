#ifndef ACTS_H
#define ACTS_H
/*
 * acts: the rows that an autoencoder learns from, made of tokens by a GPT: its
 * activations (post-GELU of the last block) at the sampled tokens of contexts
 * (rows.h), rounded to the type that a shard stores.
 *
 *	struct acts *a = acts_open(&o.acts, o.c.seed, "gpt.safetensors", paths);
 *	… a->rows, a->D, a->gpt_id: recipes, sizes …
 *	acts_start(a, backend_open("auto", "auto"));
 *	for (uint64_t i = 0; i < acts_batches(a); i++)
 *		x = acts_batch(a, i, positions);
 *	acts_close(a);
 *
 * Batch i is the contexts from i·B on with all samples of each, whatever part
 * of it is wanted: what a product makes of a row may depend on its company.
 */
#include "gpt.h"
#include "rows.h"
#include "windows.h"

struct acts_options {           /* of the tools that make rows */
	const char *dtype;
	uint64_t contexts, samples, window, batch, cache;
};
#define ACTS_OPTIONS_INIT { .dtype = "bf16", .samples = 200, .batch = 8, .cache = 256 << 20 }
/* for an option table (opt.h); how many contexts are computed at once is --`word` */
#define OPT_ACTS(a, word) \
	OPT_U64(0, "contexts", &(a)->contexts, 0, 1e15, "contexts, each another window of the tokens; 0: all"), \
	OPT_U64(0, "samples", &(a)->samples, 1, 1 << 20, "tokens kept of each context"), \
	OPT_U64(0, "window", &(a)->window, 0, 1e15, "shuffle within this many contexts; 0: all"), \
	OPT_STR(0, "dtype", &(a)->dtype, "TYPE", "f16, bf16 or f32"), \
	OPT_U64(0, word, &(a)->batch, 1, 1 << 20, "contexts computed at once"), \
	OPT_SIZE(0, "cache", &(a)->cache, 1 << 16, 1e18, "memory for decoded token frames")

/* Dies of misuse when one of them is given and rows are not to be made. */
void acts_options_check(const struct acts_options *o, bool made);

struct acts {
	struct tensors *t;      /* the checkpoint */
	struct gpt_config c;
	char gpt_id[33];
	struct windows tok;
	struct rows rows;       /* all of them: one bin */
	enum dtype dtype;
	size_t D, batch;        /* columns; contexts computed at once */
	struct gpt *g;          /* from acts_start on, as all below */
	int32_t *idx, *targets; /* (B,T) of the batch under way */
	uint64_t first;         /* its first context */
	uint32_t *positions;    /* (B,S) lent by the caller */
	uint32_t *at;           /* (B,S) the same in the batch */
	uint64_t *unfit;        /* backend memory: values that dtype cannot hold, … */
	uint64_t from, to;      /* … of these contexts, since the last check */
};

/* Dies unless the tokens have that many contexts, of that many tokens. */
struct acts *acts_open(const struct acts_options *o, uint64_t seed, const char *gpt, char *const *tokens);
void acts_start(struct acts *a, const struct backend *be);
uint64_t acts_batches(const struct acts *a);
size_t acts_contexts(const struct acts *a, uint64_t i);         /* of batch i: B, the last time fewer */
/* Its activations (contexts·S, D), backend memory, until the next batch; the positions (contexts,S) they are from. */
real *acts_batch(struct acts *a, uint64_t i, uint32_t *positions);
/* Dies when dtype could not hold a value since the last time.  Waits for the device. */
void acts_check(struct acts *a);
void acts_close(struct acts *a);
/* Of all that the rows depend on, their order included */
void acts_id(const struct acts *a, const char *device, const char *precision, char hex[33]);

/* Rows by their numbers in the shuffled order, ascending; take is handed row[i] (D) as its type holds it. */
struct acts_want {
	const uint64_t *row;
	size_t n;
	void (*take)(void *arg, size_t i, const float *x);
	void *arg;
};
/* In the order in which they are made, block by block, without the first `skip`; makes the batches that have
 * some.  a was started. */
void acts_pick(struct acts *a, const struct acts_want *want, uint64_t skip);

#endif
