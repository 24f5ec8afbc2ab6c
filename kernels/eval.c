#include "eval.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "metrics.h"

struct eval {
	struct gpt *g;
	struct sae *s;
	size_t D, T, max_batch;
	real *buffer;           /* (max_batch·T, D) zeros, the mean, distances from it */
	real *row, *host_row;   /* (D) the mean, negated or not */
	float *nll;             /* (max_batch·T) of gpt_finish; only its sums are used */
	double *mean;           /* (D) sum of x, from the first eval_about_mean on its mean */
	bool averaged;
	uint64_t clean_tokens;  /* positions seen by eval_clean */
	uint64_t clean_targets; /* those with a target */
	double clean, zero, ablated;    /* sums of nll */
	double variance;        /* sum of (x - mean x)² */
	/* since eval_begin */
	struct sae_sums sums;
	uint64_t tokens, targets;
	double spliced;
	uint64_t *fired;        /* (F) */
	uint32_t *batch_fired;  /* (F) */
};

struct eval *eval_new(struct gpt *g, struct sae *s, size_t max_batch, size_t T)
{
	struct eval *e = xcalloc(1, sizeof(*e));
	const size_t rows = xmul(max_batch, T), D = 4 * g->c.n_embd;

	if (s->D != D || s->max_rows < rows || g->max_rows < rows)
		BUG("a GPT of %zu x %zu, an autoencoder of %zu x %zu, %zu rows", g->max_rows, D,
		    s->max_rows, s->D, rows);
	*e = (struct eval){ .g = g, .s = s, .D = D, .T = T, .max_batch = max_batch };
	e->buffer = g->be->alloc(xmul(rows, D) * sizeof(*e->buffer));
	e->row = g->be->alloc(D * sizeof(*e->row));
	e->host_row = xcalloc(D, sizeof(*e->host_row));
	e->nll = xcalloc(rows, sizeof(*e->nll));
	e->mean = xcalloc(D, sizeof(*e->mean));
	e->fired = xcalloc(s->F, sizeof(*e->fired));
	e->batch_fired = xcalloc(s->F, sizeof(*e->batch_fired));
	return e;
}

void eval_free(struct eval *e)
{
	e->g->be->release(e->buffer);
	e->g->be->release(e->row);
	free(e->host_row);
	free(e->nll);
	free(e->mean);
	free(e->fired);
	free(e->batch_fired);
	free(e);
}

static uint64_t count_targets(const struct eval *e, const int32_t *targets, size_t B)
{
	uint64_t n = 0;

	if (B == 0 || B > e->max_batch)
		BUG("%zu contexts; buffers hold 1 to %zu", B, e->max_batch);
	for (size_t i = 0; i < B * e->T; i++)
		n += targets[i] != -1;
	return n;
}

void eval_clean(struct eval *e, const int32_t *idx, const int32_t *targets, size_t B)
{
	const size_t N = B * e->T;

	e->clean_targets += count_targets(e, targets, B);
	e->clean_tokens += N;
	const struct gpt_hook h = gpt_forward_hook(e->g, idx, B, e->T);

	e->g->be->column_sums(e->mean, h.acts, N, e->D);
	e->clean += gpt_finish(e->g, h.acts, targets, e->nll);
	e->g->be->zero(e->buffer, N * e->D * sizeof(*e->buffer));
	e->zero += gpt_finish(e->g, e->buffer, targets, e->nll);
}

/* Every row of the buffer becomes sign · mean. */
static void fill_mean(struct eval *e, double sign, size_t N)
{
	for (size_t d = 0; d < e->D; d++)
		e->host_row[d] = (real)(sign * e->mean[d]);
	e->g->be->put(e->row, e->host_row, e->D * sizeof(*e->row));
	e->g->be->fill_rows(e->buffer, e->row, N, e->D);
}

void eval_about_mean(struct eval *e, const int32_t *idx, const int32_t *targets, size_t B)
{
	const size_t N = B * e->T;

	count_targets(e, targets, B);
	if (!e->averaged)
		for (size_t d = 0; d < e->D; d++)
			e->mean[d] /= (double)e->clean_tokens;
	e->averaged = true;
	const struct gpt_hook h = gpt_forward_hook(e->g, idx, B, e->T);

	fill_mean(e, -1, N);
	e->g->be->add(e->buffer, h.acts, N * e->D);
	e->variance += e->g->be->sumsq(e->buffer, N * e->D);
	fill_mean(e, 1, N);
	e->ablated += gpt_finish(e->g, e->buffer, targets, e->nll);
}

void eval_begin(struct eval *e)
{
	e->sums = (struct sae_sums){ 0 };
	e->tokens = e->targets = 0;
	e->spliced = 0;
	memset(e->fired, 0, e->s->F * sizeof(*e->fired));
}

void eval_spliced(struct eval *e, const int32_t *idx, const int32_t *targets, size_t B)
{
	const size_t N = B * e->T;

	e->targets += count_targets(e, targets, B);
	e->tokens += N;
	const struct gpt_hook h = gpt_forward_hook(e->g, idx, B, e->T);

	sae_reconstruct(e->s, h.acts, N, &e->sums);
	sae_fired(e->s, e->batch_fired);
	for (size_t f = 0; f < e->s->F; f++)
		e->fired[f] += e->batch_fired[f];
	e->spliced += gpt_finish(e->g, e->s->xhat, targets, e->nll);
}

struct eval_result eval_end(struct eval *e, double ultra_low_cut)
{
	const double tokens = (double)e->tokens, targets = (double)e->targets;
	struct eval_result r = {
		.tokens = e->tokens,
		.l0 = e->sums.l0 / tokens,
		.l1 = e->sums.l1 / tokens,
		.mse = e->sums.err2 / (tokens * (double)e->D),
		.explained_variance = 1 - e->sums.err2 / e->variance,
		.loss_clean = e->clean / (double)e->clean_targets,
		.loss_spliced = e->spliced / targets,
		.loss_zero = e->zero / (double)e->clean_targets,
		.loss_mean = e->ablated / (double)e->clean_targets,
		.fired = e->fired,
	};

	r.loss_recovered = (r.loss_zero - r.loss_spliced) / (r.loss_zero - r.loss_clean);
	r.loss_recovered_mean = (r.loss_mean - r.loss_spliced) / (r.loss_mean - r.loss_clean);
	for (size_t f = 0; f < e->s->F; f++) {
		const bool high = (double)e->fired[f] >= ultra_low_cut * tokens;

		if (e->fired[f] == 0)
			r.dead++;
		else if (high)
			r.high++;
		else
			r.ultra_low++;
	}
	r.alive = r.high + r.ultra_low;
	return r;
}

void eval_histogram(const struct eval_result *r, size_t F, uint64_t bins[EVAL_BINS])
{
	memset(bins, 0, EVAL_BINS * sizeof(*bins));
	for (size_t f = 0; f < F; f++) {
		if (r->fired[f] == 0)
			continue;
		const double place = (log10((double)r->fired[f] / (double)r->tokens) - EVAL_BIN_FROM) / EVAL_BIN_WIDTH;

		bins[place < 0 ? 0 : place >= EVAL_BINS ? EVAL_BINS - 1 : (size_t)place]++;
	}
}

void eval_json(const struct eval_result *r, size_t F, struct buf *b)
{
	const struct { const char *key; double v; } reals[] = {
		{ "l0", r->l0 }, { "l1", r->l1 }, { "mse", r->mse },
		{ "explained_variance", r->explained_variance }, { "loss_clean", r->loss_clean },
		{ "loss_spliced", r->loss_spliced }, { "loss_zero", r->loss_zero },
		{ "loss_mean", r->loss_mean }, { "loss_recovered", r->loss_recovered },
		{ "loss_recovered_mean", r->loss_recovered_mean },
	};
	uint64_t bins[EVAL_BINS];

	buf_printf(b, "{\"tokens\": %llu, ", (unsigned long long)r->tokens);
	for (size_t i = 0; i < ARRAY_LEN(reals); i++) {
		metrics_number(b, reals[i].key, reals[i].v);
		buf_printf(b, ", ");
	}
	buf_printf(b, "\"dead\": %zu, \"ultra_low\": %zu, \"high\": %zu, \"alive\": %zu, \"density_bins\": [",
		   r->dead, r->ultra_low, r->high, r->alive);
	eval_histogram(r, F, bins);
	for (size_t i = 0; i < EVAL_BINS; i++)
		buf_printf(b, "%s%llu", i ? ", " : "", (unsigned long long)bins[i]);
	buf_printf(b, "], \"density_from\": %g, \"density_width\": %g}", EVAL_BIN_FROM, EVAL_BIN_WIDTH);
}
