/* u-eval: what the figures must be for autoencoders whose answer is known, on ref and cpu */
#include <jansson.h>    /* before backend.h, whose "real" is a name in it */

#include "eval.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "pool.h"
#include "rng.h"

enum { B = 3, T = 8, V = 40, C = 8, D = 4 * C, BATCHES = 2, TOKENS = BATCHES * B * T };
static const struct gpt_config config = { 1, 2, C, T, V, true };
static const struct backend *be;
static int32_t idx[TOKENS], targets[TOKENS];

static struct gpt *model(void)
{
	struct gpt *g = gpt_new(be, &config, B, GPT_EVAL);
	float *w = xcalloc(g->n_params, sizeof(*w));

	gpt_init(g, 1);
	be->get(w, g->w.wte, g->n_params * sizeof(*w));
	for (size_t i = 0; i < g->n_params; i++) /* larger than at the start, so that all losses differ */
		w[i] *= 20;
	be->put(g->w.wte, w, g->n_params * sizeof(*w));
	free(w);
	for (size_t i = 0; i < TOKENS; i++) {
		idx[i] = (int32_t)rng_below(rng_hash(1, RNG_TEST, 1, i), V);
		targets[i] = (int32_t)rng_below(rng_hash(1, RNG_TEST, 2, i), V);
	}
	return g;
}

/* per: contexts at once */
static struct eval_result run(struct eval *e, size_t per)
{
	eval_begin(e);
	for (size_t b = 0; b < BATCHES * B; b += per)
		eval_spliced(e, idx + b * T, targets + b * T, per);
	return eval_end(e, 1e-3);
}

static struct eval *begin(struct gpt *g, struct sae *s, size_t per)
{
	struct eval *e = eval_new(g, s, B, T);

	for (size_t b = 0; b < BATCHES * B; b += per)
		eval_clean(e, idx + b * T, targets + b * T, per);
	for (size_t b = 0; b < BATCHES * B; b += per)
		eval_about_mean(e, idx + b * T, targets + b * T, per);
	return e;
}

static void put(real *dst, const float *x, size_t n)
{
	be->put(dst, x, n * sizeof(*x));
}

/* enc = dec = I, b_dec = shift: f = relu(x - shift), xhat = f + shift; b_enc 0 */
static struct sae *identity(double shift)
{
	struct sae *s = sae_new(be, D, D, B * T, SAE_EVAL);
	float one[D * D] = { 0 }, b[D];

	for (size_t d = 0; d < D; d++) {
		one[d * D + d] = 1;
		b[d] = (float)shift;
	}
	put(s->p.enc, one, D * D);
	put(s->p.dec, one, D * D);
	put(s->p.b_dec, b, D);
	return s;
}

static bool near(double a, double b, double rel)
{
	return fabs(a - b) <= rel * fmax(1, fabs(b));
}

static void test_splice(struct gpt *g)
{
	float nll[B * T];
	const size_t n = (size_t)B * T * D;
	const struct gpt_hook h = gpt_forward_hook(g, idx, B, T);
	real *copy = be->alloc(n * sizeof(*copy)), *host = xcalloc(n, sizeof(*host));

	be->get(host, h.acts, n * sizeof(*host));
	be->put(copy, host, n * sizeof(*host));
	const double clean = gpt_finish(g, h.acts, targets, nll);
	check(gpt_finish(g, copy, targets, nll) == clean, "splicing x itself gives the clean loss to the bit");
	host[5] += 1;
	be->put(copy, host, n * sizeof(*host));
	check(gpt_finish(g, copy, targets, nll) != clean, "... and something else does not");
	be->release(copy);
	free(host);
}

static void test_identity(struct gpt *g)
{
	struct sae *s = identity(-8); /* GELU stays above -0.17: every f is positive */
	struct eval *e = begin(g, s, B);
	const struct eval_result r = run(e, B);

	check(r.tokens == TOKENS, "all positions count");
	check(near(r.loss_spliced, r.loss_clean, 1e-4) && near(r.loss_recovered, 1, 1e-3) &&
	      near(r.loss_recovered_mean, 1, 1e-2), "a perfect autoencoder recovers all (%.6f %.6f)",
	      r.loss_recovered, r.loss_recovered_mean);
	check(near(r.explained_variance, 1, 1e-6) && r.mse < 1e-9, "... and explains all");
	check(r.l0 == D && r.alive == D && r.high == D && r.dead == 0 && r.ultra_low == 0, "... with all features on");
	check(fabs(r.loss_zero - r.loss_clean) > 0.01 && fabs(r.loss_mean - r.loss_clean) > 0.001 &&
	      fabs(r.loss_zero - r.loss_mean) > 0.001, "the losses to compare with differ (%.4f %.4f %.4f)",
	      r.loss_clean, r.loss_zero, r.loss_mean);
	eval_free(e);
	sae_free(s);
}

static void test_nothing(struct gpt *g)
{
	struct sae *s = sae_new(be, D, D, B * T, SAE_EVAL);
	struct eval *e = begin(g, s, B);
	struct eval_result r = run(e, B);
	float mean[D];
	double square = 0;

	check(r.loss_spliced == r.loss_zero && r.loss_recovered == 0, "an autoencoder of zeros is zero-ablation");
	check(r.l0 == 0 && r.l1 == 0 && r.dead == D && r.alive == 0, "... with all features dead");
	eval_free(e);

	double sums[D] = { 0 };
	real x[B * T * D];
	for (size_t b = 0; b < BATCHES; b++) {
		const struct gpt_hook h = gpt_forward_hook(g, idx + b * B * T, B, T);

		be->get(x, h.acts, sizeof(x));
		for (size_t i = 0; i < B * T * D; i++) {
			sums[i % D] += (double)x[i];
			square += (double)x[i] * (double)x[i];
		}
	}
	check(near(r.mse, square / (TOKENS * D), 1e-6), "... and of the error of zeros");
	for (size_t d = 0; d < D; d++)
		mean[d] = (float)(sums[d] / TOKENS);
	put(s->p.b_dec, mean, D);
	e = begin(g, s, B);
	r = run(e, B);
	check(near(r.loss_spliced, r.loss_mean, 1e-6) && near(r.loss_recovered_mean, 0, 1e-5),
	      "an autoencoder of the mean is mean-ablation");
	check(near(r.explained_variance, 0, 1e-6), "... and explains nothing");
	eval_free(e);
	sae_free(s);
}

static bool same_figures(const struct eval_result *a, const struct eval_result *b, double rel)
{
	return near(a->l0, b->l0, rel) && near(a->l1, b->l1, rel) && near(a->mse, b->mse, rel) &&
	       near(a->explained_variance, b->explained_variance, rel) && near(a->loss_clean, b->loss_clean, rel) &&
	       near(a->loss_spliced, b->loss_spliced, rel) && near(a->loss_zero, b->loss_zero, rel) &&
	       near(a->loss_mean, b->loss_mean, rel) && a->dead == b->dead && a->high == b->high;
}

static void test_batches(struct gpt *g)
{
	struct sae *s = identity(0.05);
	struct eval *e = begin(g, s, B), *one = begin(g, s, 1);
	const struct eval_result r = run(e, B), single = run(one, 1), again = run(e, B);

	check(r.mse > 0 && r.loss_spliced != r.loss_clean && r.l0 > 0 && r.l0 < D, "an autoencoder in between");
	check(same_figures(&r, &single, 1e-6), "one context at a time: the same figures");
	check(same_figures(&r, &again, 0), "evaluated again: the same to the bit");
	for (size_t i = 0; i < TOKENS; i += 2)
		targets[i] = -1;
	struct eval *half = begin(g, s, B);
	const struct eval_result h = run(half, B);
	check(h.tokens == TOKENS && h.mse == r.mse && !near(h.loss_clean, r.loss_clean, 1e-9),
	      "targets of -1 count in no loss, but in all else");
	eval_free(e), eval_free(one), eval_free(half);
	sae_free(s);
}

static void test_density(void)
{
	enum { FEATURES = 7 };
	const uint64_t fired[FEATURES] = { 0, 1, 999, 1000, 1001, 1000000, 10 };
	const struct eval_result r = { .tokens = 1000000, .fired = fired, .explained_variance = NAN };
	const uint64_t want[EVAL_BINS] = { [8] = 1, [12] = 1, [19] = 1, [20] = 2, [31] = 1 };
	uint64_t bins[EVAL_BINS];
	struct buf b = { 0 };

	eval_histogram(&r, FEATURES, bins);
	check(!memcmp(bins, want, sizeof(bins)), "histogram of log10 density, edges included");
	eval_json(&r, FEATURES, &b);
	json_t *j = json_loads(b.p, 0, NULL);
	check(j && json_is_null(json_object_get(j, "explained_variance")), "JSON; null where there is no number");
	check(j && json_object_size(j) == 18 && json_array_size(json_object_get(j, "density_bins")) == EVAL_BINS &&
	      json_number_value(json_object_get(j, "density_from")) == -8 &&
	      json_number_value(json_object_get(j, "density_width")) == 0.25, "... with every figure");
	json_decref(j);
	buf_free(&b);
}

/* Features that fire on all tokens or on none, by b_enc alone. */
static void test_cut(struct gpt *g)
{
	struct sae *s = sae_new(be, D, 3, B * T, SAE_EVAL);
	const float b_enc[3] = { 1, -1, 1 };
	struct eval *e;

	put(s->p.b_enc, b_enc, 3);
	e = begin(g, s, B);
	eval_begin(e);
	for (size_t b = 0; b < BATCHES; b++)
		eval_spliced(e, idx + b * B * T, targets + b * B * T, B);
	struct eval_result r = eval_end(e, 1.0);
	check(r.fired[0] == TOKENS && r.fired[1] == 0 && r.fired[2] == TOKENS, "tokens that each feature fires on");
	check(r.high == 2 && r.dead == 1 && r.alive == 2 && r.ultra_low == 0, "a density equal to the cut is high");
	r = eval_end(e, 1.1);
	check(r.ultra_low == 2 && r.high == 0, "... below it ultra-low");
	eval_free(e);
	sae_free(s);
}

int main(void)
{
	static const char *const backends[] = { "ref", "cpu" };

	pool_start(2);
	base_quiet = true;
	test_density();
	for (size_t b = 0; b < ARRAY_LEN(backends); b++) {
		be = backend_open(backends[b], "f32");
		struct gpt *g = model();

		test_splice(g);
		test_identity(g);
		test_nothing(g);
		test_cut(g);
		test_batches(g);
		gpt_free(g);
	}
	return check_done();
}
