/* golden-eval: the reference's last evaluation (fixture sae_eval) */
#include "golden.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "eval.h"

struct batches {
	size_t n, B, T;
	int32_t *x, *y;         /* (n,B,T) */
};

static struct eval_result evaluate(struct gpt *gpt, struct sae *s, const struct batches *b, size_t from, size_t to,
				   uint64_t *fired)
{
	struct eval *e = eval_new(gpt, s, b->B, b->T);
	const size_t size = b->B * b->T;

	for (size_t i = from; i < to; i++)
		eval_clean(e, b->x + i * size, b->y + i * size, b->B);
	for (size_t i = from; i < to; i++)
		eval_about_mean(e, b->x + i * size, b->y + i * size, b->B);
	eval_begin(e);
	for (size_t i = from; i < to; i++)
		eval_spliced(e, b->x + i * size, b->y + i * size, b->B);
	const struct eval_result r = eval_end(e, 1e-3);

	if (fired)
		memcpy(fired, r.fired, s->F * sizeof(*fired));
	eval_free(e);
	return r;
}

static void compare(const struct golden *g, const char *name, const double *got, struct tolerance tol)
{
	size_t n;
	float *ref = golden_floats(g, name, &n);
	double *r = xcalloc(n, sizeof(*r));

	for (size_t i = 0; i < n; i++)
		r[i] = (double)ref[i];
	golden_values(g, name, got, r, n, tol);
	free(ref), free(r);
}

/* The reference averaged each batch by itself. */
static void each_batch(const struct golden *g, struct gpt *gpt, struct sae *s, const struct batches *b)
{
	enum { NLL, ABLATED, SPLICED, MSE, L1, L0, LOST, N_FIGURES };
	const char *const names[N_FIGURES] = { "nll", "ablated_nll", "reconstructed_nll", "mse", "l1_per_token", "l0",
		"nll_score" };
	/* as many latents may fall on the other side of 0 as the counts may differ by */
	const struct tolerance tol[N_FIGURES] = { tol_nll, tol_nll, tol_nll, tol_mse, tol_mse,
		{ TOL_ELEMENT, 2.0 / (double)(b->B * b->T), .bf16 = &tol_share }, tol_score };
	double *got = xcalloc(N_FIGURES * b->n, sizeof(*got));

	for (size_t i = 0; i < b->n; i++) {
		const struct eval_result r = evaluate(gpt, s, b, i, i + 1, NULL);
		const double v[N_FIGURES] = { r.loss_clean, r.loss_zero, r.loss_spliced, r.mse, r.l1, r.l0,
			1 - r.loss_recovered };

		for (size_t k = 0; k < N_FIGURES; k++)
			got[k * b->n + i] = v[k];
	}
	for (size_t k = 0; k < N_FIGURES; k++)
		compare(g, names[k], got + k * b->n, tol[k]);
	free(got);
}

static void all_batches(const struct golden *g, struct gpt *gpt, struct sae *s, const struct batches *b)
{
	uint64_t *fired = xcalloc(s->F, sizeof(*fired));
	double *count = xcalloc(s->F, sizeof(*count)), *density = xcalloc(s->F, sizeof(*density));
	const struct eval_result r = evaluate(gpt, s, b, 0, b->n, fired);
	const double tokens = (double)r.tokens, lost = 1 - r.loss_recovered;
	const double want = golden_num(g, "nll_score_ratio_of_means_jan2024");

	for (size_t f = 0; f < s->F; f++) {
		count[f] = (double)fired[f];
		density[f] = count[f] / tokens;
	}
	compare(g, "feature_counts", count, tol_count_eval);
	compare(g, "feature_density", density, (struct tolerance){ TOL_ELEMENT, 2.01 / tokens, .bf16 = &tol_share });
	golden_values(g, "nll_score_ratio_of_means", &lost, &want, 1, tol_score);

	const struct tensor *alive = golden_find(g, "alive");
	size_t n = 0;
	for (size_t f = 0; f < s->F; f++)
		n += ((const uint8_t *)alive->data)[f];
	golden_check(g, "alive", r.alive == n && r.dead == s->F - n);
	free(fired), free(count), free(density);
}

/* Activations, latents and reconstruction of context 0. */
static void first_context(const struct golden *g, struct gpt *gpt, struct sae *s, const struct batches *b)
{
	const size_t T = b->T;
	const struct gpt_hook h = gpt_forward_hook(gpt, b->x, 1, T);
	struct sae_sums unused = { 0 };

	golden_device(g, "mlp_acts_0_0", h.acts, T * s->D, tol_acts);
	sae_encode(s, h.acts, T);
	golden_device(g, "latents_0_0", s->f, T * s->F, tol_latents);
	sae_reconstruct(s, h.acts, T, &unused);
	golden_device(g, "reconstruction_0_0", s->xhat, T * s->D, tol_latents);
}

void golden_sae_eval(struct golden *g)
{
	const struct tensor *x = golden_find(g, "x");
	const struct batches b = { x->shape[0], x->shape[1], x->shape[2], golden_ints(g, "x", NULL),
		golden_ints(g, "y", NULL) };
	struct gpt *gpt;
	struct sae *s;

	golden_pipeline(g, b.B, &gpt, &s);
	each_batch(g, gpt, s, &b);
	all_batches(g, gpt, s, &b);
	first_context(g, gpt, s, &b);
	gpt_free(gpt);
	sae_free(s);
	free(b.x), free(b.y);
}
