/* attrib: ablation effects against the whole model run again, logit weights against plain sums */
#include "attrib.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "pool.h"
#include "rng.h"

enum { B = 3, T = 16, C = 12, F = 120, V = 101, D = 4 * C, ROWS = B * T };

static float value(uint64_t what, uint64_t i)
{
	return (float)rng_normal(1, RNG_TEST, what, i);
}

static void fill(const struct backend *be, real *p, size_t n, uint64_t what, float scale)
{
	float *x = xcalloc(n, sizeof(*x));

	for (size_t i = 0; i < n; i++)
		x[i] = scale * value(what, i);
	be->put(p, x, n * sizeof(*x));
	free(x);
}

/* Weights large enough that a feature matters, biases and gains away from 0 and 1. */
static void set_weight(void *arg, const char *name, size_t ndim, const size_t *shape, real *w, real *dw,
		       real *m, real *v)
{
	fill(arg, w, shape[0] * (ndim > 1 ? shape[1] : 1), XXH3_64bits(name, strlen(name)), 0.4f);
	(void)dw, (void)m, (void)v;
}

struct world {
	const struct backend *be;
	struct gpt *g;
	struct sae *s;
	struct attrib *a;
	int32_t idx[ROWS], targets[ROWS];
	struct gpt_hook h;
	float acts[ROWS * D], dec[F * D], nll[ROWS];
	uint32_t rows[ROWS * F], feats[ROWS * F];
	float f[ROWS * F], effect[ROWS * F];
};

static struct world *world_new(const char *device, bool bias)
{
	struct world *w = xcalloc(1, sizeof(*w));
	const struct gpt_config c = { 2, 3, C, T, V, bias };

	w->be = backend_open(device, "f32");
	w->g = gpt_new(w->be, &c, B, GPT_EVAL);
	gpt_each(w->g, set_weight, (void *)w->be);
	w->s = sae_new(w->be, D, F, ROWS, SAE_EVAL);
	sae_init(w->s, 7);
	w->be->get(w->dec, w->s->p.dec, sizeof(w->dec));
	w->a = attrib_new(w->g, w->s, ROWS);
	for (size_t i = 0; i < ROWS; i++) {
		w->idx[i] = (int32_t)rng_below(rng_hash(2, RNG_TEST, 0, i), V);
		w->targets[i] = i % 11 == 5 ? -1 : (int32_t)rng_below(rng_hash(3, RNG_TEST, 0, i), V);
	}
	w->h = gpt_forward_hook(w->g, w->idx, B, T);
	w->be->get(w->acts, w->h.acts, sizeof(w->acts));
	return w;
}

static void world_free(struct world *w)
{
	attrib_free(w->a);
	sae_free(w->s);
	gpt_free(w->g);
	free(w);
}

/* Every pair of row and feature, with made-up activations, some of them 0. */
static struct attrib_pairs all_pairs(struct world *w)
{
	for (size_t i = 0; i < ROWS * F; i++) {
		w->rows[i] = (uint32_t)(i / F);
		w->feats[i] = (uint32_t)(i % F);
		w->f[i] = fmaxf(0, 2 * value(9, i));
	}
	return (struct attrib_pairs){ w->rows, w->feats, w->f, ROWS * F };
}

static void logits_of(struct world *w, float *out)
{
	real *p = w->be->alloc(ROWS * V * sizeof(*p));

	gpt_logits(w->g, p, gpt_ln_f_out(w->g), ROWS);
	w->be->get(out, p, ROWS * V * sizeof(*p));
	w->be->release(p);
}

/* nll and logits of the whole model with feature k taken out at every position */
static void run_ablated(struct world *w, size_t k, float *nll, float *logits)
{
	float *x = xcalloc(ROWS * D, sizeof(*x));
	real *acts = w->be->alloc(ROWS * D * sizeof(*acts));

	for (size_t i = 0; i < ROWS * D; i++)
		x[i] = w->acts[i] - w->f[i / D * F + k] * w->dec[k * D + i % D];
	w->be->put(acts, x, ROWS * D * sizeof(*x));
	gpt_finish(w->g, acts, w->targets, nll);
	logits_of(w, logits);
	w->be->release(acts);
	free(x);
}

static void check_ablation(struct world *w)
{
	static const size_t features[] = { 0, 1, 17, F - 1 };
	const struct attrib_pairs p = all_pairs(w);
	float nll[ROWS], ablated[ROWS], *logits = xcalloc(ROWS * V, sizeof(*logits));
	float *without = xcalloc(ROWS * V, sizeof(*without)), *shortcut = xcalloc(p.n, sizeof(*shortcut));
	double worst = 0, worst_logit = 0, largest = 0;

	gpt_finish(w->g, w->h.acts, w->targets, nll);
	logits_of(w, logits);
	attrib_residual(w->a, &w->h, ROWS);
	attrib_logprob(w->a, &p, w->targets, w->effect);
	attrib_logit(w->a, &p, w->targets, shortcut);
	for (size_t j = 0; j < 4; j++) {
		const size_t k = features[j];

		run_ablated(w, k, ablated, without);
		for (size_t r = 0; r < ROWS; r++) {
			const size_t at = r * V + (size_t)(w->targets[r] < 0 ? 0 : w->targets[r]);
			const double want = ablated[r] - nll[r];
			const double logit = w->targets[r] < 0 ? 0 : logits[at] - without[at];

			worst = fmax(worst, fabs(w->effect[r * F + k] - want));
			worst_logit = fmax(worst_logit, fabs(shortcut[r * F + k] - logit));
			largest = fmax(largest, fabs(want));
		}
	}
	check(largest > 0.1, "%s: features matter (largest effect %.3f)", w->be->name, largest);
	check(worst < 5e-5, "%s: log-probability effects are those of the model run again (off by %.2g)",
	      w->be->name, worst);
	check(worst_logit < 5e-5, "%s: logit effects are those of the model run again (off by %.2g)",
	      w->be->name, worst_logit);
	free(logits), free(without), free(shortcut);
}

static void check_zeros(struct world *w)
{
	bool inactive = true, ignored = true;

	for (size_t i = 0; i < ROWS * F; i++) {
		inactive = inactive && (w->f[i] > 0 || fabsf(w->effect[i]) < 1e-6f);
		ignored = ignored && (w->targets[w->rows[i]] >= 0 || w->effect[i] == 0);
	}
	check(inactive, "%s: no effect without activation", w->be->name);
	check(ignored, "%s: no effect on an ignored target", w->be->name);
}

/* Pairs in other numbers and from the middle of a row give the same. */
static void check_parts(struct world *w)
{
	float *again = xcalloc(ROWS * F, sizeof(*again));
	double worst = 0;

	for (size_t from = 0, n = 1; from < ROWS * F; from += n, n = 3 * n + 1) {
		n = n < ROWS * F - from ? n : ROWS * F - from;
		attrib_logprob(w->a, &(struct attrib_pairs){ w->rows + from, w->feats + from, w->f + from, n },
			       w->targets, again + from);
	}
	for (size_t i = 0; i < ROWS * F; i++)
		worst = fmax(worst, fabs(again[i] - w->effect[i]));
	check(worst < 1e-5, "%s: pairs by parts (off by %.2g)", w->be->name, worst);
	free(again);
}

/* <ln_f(W_proj d + b), wte[v]> by plain sums */
static void plain_logits(struct world *w, size_t k, double *out)
{
	double x[C], mean = 0, var = 0;
	const real *proj = w->g->w.out_w + C * D;

	for (size_t c = 0; c < C; c++) {
		x[c] = w->g->w.out_b ? w->g->w.out_b[C + c] : 0;
		for (size_t d = 0; d < D; d++)
			x[c] += (double)w->dec[k * D + d] * proj[c * D + d];
		mean += x[c] / C;
	}
	for (size_t c = 0; c < C; c++)
		var += (x[c] - mean) * (x[c] - mean) / C;
	for (size_t v = 0; v < V; v++) {
		out[v] = 0;
		for (size_t c = 0; c < C; c++)
			out[v] += ((x[c] - mean) / sqrt(var + 1e-5) * w->g->w.ln_f_w[c] +
				   (w->g->w.ln_f_b ? w->g->w.ln_f_b[c] : 0)) * w->g->w.wte[v * C + c];
	}
}

static void check_logits(struct world *w)
{
	float out[ATTRIB_BLOCK * V];
	double worst = 0;

	for (size_t from = 0; from < F; from += ATTRIB_BLOCK) {
		const size_t n = F - from < ATTRIB_BLOCK ? F - from : ATTRIB_BLOCK;

		attrib_logits(w->a, from, n, out);
		for (size_t i = 0; i < n; i++) {
			double want[V];

			plain_logits(w, from + i, want);
			for (size_t v = 0; v < V; v++)
				worst = fmax(worst, fabs(out[i * V + v] - want[v]));
		}
	}
	check(worst < 2e-5, "%s: logit weights (off by %.2g)", w->be->name, worst);
}

/* ---- lists, median, histogram ---- */

struct word {
	float v;
	size_t id;
};

static int descending(const void *a, const void *b)
{
	const struct word *x = a, *y = b;

	return x->v != y->v ? (x->v < y->v) - (x->v > y->v) : (x->id > y->id) - (x->id < y->id);
}

static bool lists_right(const float *w, size_t n, const struct attrib_words *o)
{
	struct word *s = xcalloc(n, sizeof(*s));
	bool ok = true;

	for (int sign = 1; sign >= -1; sign -= 2) {
		const size_t at = sign > 0 ? 0 : o->L;

		for (size_t i = 0; i < n; i++)
			s[i] = (struct word){ (float)sign * w[i], i };
		qsort(s, n, sizeof(*s), descending);
		for (size_t i = 0; i < o->L; i++)
			ok = ok && o->ids[at + i] == s[i].id && o->values[at + i] == w[s[i].id] - o->median;
	}
	free(s);
	return ok;
}

static int ascending(const void *a, const void *b)
{
	const float x = *(const float *)a, y = *(const float *)b;

	return (x > y) - (x < y);
}

static void check_words(const char *name, const float *w, size_t n, size_t real_tokens)
{
	uint16_t ids[10];
	float values[10], range[2], *sorted = xcalloc(n, sizeof(*sorted));
	uint32_t hist[7], total = 0;
	struct attrib_words o = { 5, 7, 0, ids, values, range, hist };

	attrib_words(&o, w, n, real_tokens);
	memcpy(sorted, w, n * sizeof(*w));
	qsort(sorted, n, sizeof(*sorted), ascending);
	check(o.median == sorted[(n - 1) / 2], "%s: lower median", name);
	check(lists_right(w, real_tokens, &o), "%s: lists", name);
	check(range[0] == values[5] && range[1] == values[0], "%s: range", name);
	for (size_t i = 0; i < 7; i++)
		total += hist[i];
	check(total == real_tokens && hist[6] > 0, "%s: histogram", name);
	free(sorted);
}

static void check_lists(void)
{
	enum { N = 1000 };
	float w[N];

	for (size_t i = 0; i < N; i++)
		w[i] = value(4, i);
	check_words("even", w, N, N);
	check_words("odd", w, N - 1, N - 1);
	check_words("padded", w, N, N - 100);
	for (size_t i = 0; i < N; i++)
		w[i] = floorf(4 * w[i]);
	check_words("ties", w, N, N - 1);
	for (size_t i = 0; i < N; i++)
		w[i] = i % 2 ? 0.0f : -0.0f;
	w[3] = 1;
	check_words("zeros", w, N, N);
	for (size_t i = 0; i < 10; i++)
		w[i] = -1e30f * (float)(i + 1);
	check_words("few and large", w, 10, 10);
}

int main(void)
{
	static const char *const devices[] = { "ref", "cpu" };

	base_quiet = true;
	pool_start(2);
	for (size_t i = 0; i < 4; i++) {
		struct world *w = world_new(devices[i / 2], i % 2);

		check_ablation(w);
		check_zeros(w);
		check_parts(w);
		check_logits(w);
		world_free(w);
	}
	check_lists();
	return check_done();
}
