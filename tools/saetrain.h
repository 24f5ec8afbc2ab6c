#ifndef SAETRAIN_H
#define SAETRAIN_H
/*
 * saetrain: what its files share -- the judge, who evaluates autoencoders on
 * the first windows of the validation tokens with the GPT they belong to.
 *
 *	struct judge j = { 0 };
 *	judge_open(&j, "gpt.safetensors", "val.zst", 2000);
 *	judge_start(&j, be);
 *	struct eval_result r = judge_figures(&j, sae, 1e-3);
 *	judge_close(&j);
 */
#include "eval.h"
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

#endif
