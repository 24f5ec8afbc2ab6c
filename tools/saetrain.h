#ifndef SAETRAIN_H
#define SAETRAIN_H
/*
 * saetrain: what its files share.
 *
 * The judge evaluates autoencoders on the first windows of the validation
 * tokens with the GPT they belong to:
 *
 *	struct judge j = { 0 };
 *	judge_open(&j, "gpt.safetensors", "val.zst", 2000);
 *	judge_start(&j, be);
 *	struct eval_result r = judge_figures(&j, sae, 1e-3);
 *	judge_close(&j);
 *
 * The input is the rows of a training in their order, batch by batch: those of
 * shards, or made of tokens where they are used:
 *
 *	struct input *in = input_shards(paths, &spec);  (or input_tokens)
 *	input_start(in, be, done);
 *	for (const float *x = input_next(in); x; x = input_next(in))
 *		… in->made ? sae_gradients_at(…, x, …) : sae_gradients(…, x, …) …
 *	input_close(in);
 */
#include "acts.h"
#include "eval.h"
#include "opt.h"
#include "tree.h"
#include "windows.h"

struct judge {
	struct tensors *t;      /* the GPT's checkpoint; NULL: not opened, no evaluations */
	struct gpt_config c;
	char id[33];            /* of the checkpoint */
	struct windows val;
	uint64_t windows;       /* how many of val are evaluated */
	struct gpt *g;
	struct eval *e;         /* NULL: not yet used */
	int32_t *idx, *targets; /* a batch of windows */
};

void judge_open(struct judge *j, const char *gpt, const char *val, uint64_t contexts);
size_t judge_rows(const struct judge *j);       /* put through the autoencoder at once; 0: not opened */
void judge_start(struct judge *j, const struct backend *be);    /* nothing when not opened */
/* The first time also what does not depend on the autoencoder: always give the same one. */
struct eval_result judge_figures(struct judge *j, struct sae *s, double ultra_low);
void judge_close(struct judge *j);

struct input_spec {
	size_t batch;
	uint64_t steps;         /* 0: one pass */
	uint64_t keep;          /* of the first rows, as stored, for input_kept */
};
struct input {
	struct input_spec spec;
	const char *name;       /* for messages */
	enum dtype dtype;
	size_t D;
	uint64_t steps;         /* there will be; 0: unknown (a pipe to its end) */
	char id[33];            /* of the data */
	char *gpt, *tokens;     /* ids of what it was made of, or NULL */
	bool lasting;           /* it can be read again: no pipe */
	struct feed *feed;      /* batches in host memory, or … */
	struct made *made;      /* … in the backend's */
};
struct input *input_shards(char *const *paths, const struct input_spec *spec);
/* Takes a over.  Rows made of tokens are those of `mlpdump | shuffle` on the same device, to the bit.
 * Dies when their window and what is kept exceed c->memory. */
struct input *input_tokens(struct acts *a, const struct input_spec *spec, const struct opt_common *c);
/* Before the start: this process needs its leaves of each batch alone, or makes its part of windows (stream.h). */
void input_share(struct input *in, struct tree *t);
void input_start(struct input *in, const struct backend *be, uint64_t done);
/* (batch,D), until the next call; NULL: there are no more */
const float *input_next(struct input *in);
uint64_t input_kept_rows(const struct input *in);       /* = feed_kept_rows */
void input_kept(const struct input *in, uint64_t row, size_t n, float *x);
void input_close(struct input *in);

#endif
