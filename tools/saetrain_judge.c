#include "saetrain.h"

#include <math.h>
#include <stdlib.h>

enum { BATCH = 8, CACHE = 32 << 20 };

void judge_open(struct judge *j, const char *gpt, const char *val, uint64_t contexts)
{
	j->t = tensors_open(gpt);
	j->c = gpt_config_from(j->t, gpt);
	tensors_id(j->t, j->id);
	j->val = windows_open((char *[]){ (char *)val, NULL }, j->c.block_size, j->c.vocab_size, CACHE);
	j->windows = j->val.count < contexts ? j->val.count : contexts;
}

size_t judge_rows(const struct judge *j)
{
	return j->t ? BATCH * j->c.block_size : 0;
}

void judge_start(struct judge *j, const struct backend *be)
{
	if (!j->t)
		return;
	j->g = gpt_new(be->exact, &j->c, BATCH, GPT_EVAL);
	gpt_load(j->g, j->t);
	j->idx = xcalloc(judge_rows(j), sizeof(*j->idx));
	j->targets = xcalloc(judge_rows(j), sizeof(*j->targets));
}

void judge_close(struct judge *j)
{
	if (!j->t)
		return;
	windows_close(&j->val);
	tensors_close(j->t);
	if (!j->g)
		return;
	if (j->e)
		eval_free(j->e);
	gpt_free(j->g);
	free(j->idx);
	free(j->targets);
}

static void each_batch(struct judge *j, void (*fn)(struct eval *, const int32_t *, const int32_t *, size_t))
{
	const size_t T = j->val.T;
	size_t n;

	for (uint64_t i = 0; i < j->windows; i += n) {
		n = j->windows - i < BATCH ? j->windows - i : BATCH;
		for (size_t b = 0; b < n; b++)
			windows_at(&j->val, i + b, j->idx + b * T, j->targets + b * T);
		fn(j->e, j->idx, j->targets, n);
	}
}

struct eval_result judge_figures(struct judge *j, struct sae *s, double ultra_low)
{
	const struct backend *training = s->be;

	s->be = training->exact;
	if (!j->e) {
		j->e = eval_new(j->g, s, BATCH, j->val.T);
		each_batch(j, eval_clean);
		each_batch(j, eval_about_mean);
	}
	eval_begin(j->e);
	each_batch(j, eval_spliced);
	const struct eval_result r = eval_end(j->e, ultra_low);

	s->be = training;
	if (!isfinite(r.loss_spliced) || !isfinite(r.mse))
		die("the validation loss is not a number");
	return r;
}
