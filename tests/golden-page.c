/* golden-page: feature page and logit weight fixtures */
#include "golden.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "attrib.h"
#include "bpe.h"
#include "heap.h"

/* ---- the page of a few features ---- */

struct page {
	struct golden *g;
	struct gpt *gpt;
	struct sae *s;
	struct attrib *a;
	size_t N, T, H, S, R, K;        /* contexts, tokens, features shown, positions sampled, radius, top */
	int32_t *X, *Y, *features, *token_idx;
	float *all;             /* (N·T,F) activations */
	float *acts, *logits, *logprobs;        /* (N·T,H) activations and ablation effects */
	float *mid;             /* (H,N·S) activations of sampled tokens */
};

static void open_page(struct page *p, struct golden *g)
{
	p->g = g;
	p->N = (size_t)golden_num(g, "num_contexts");
	p->T = (size_t)golden_num(g, "block_size");
	p->S = (size_t)golden_num(g, "S");
	p->R = (size_t)golden_num(g, "window_radius");
	p->K = (size_t)golden_num(g, "num_top_activations");
	p->X = golden_ints(g, "X", NULL);
	p->Y = golden_ints(g, "Y", NULL);
	p->features = golden_ints(g, "features", &p->H);
	p->token_idx = golden_ints(g, "token_idx", NULL);
	golden_pipeline(g, p->N, &p->gpt, &p->s);
	p->a = attrib_new(p->gpt, p->s, p->N * p->T);
}

static void close_page(struct page *p)
{
	attrib_free(p->a);
	gpt_free(p->gpt);
	sae_free(p->s);
	free(p->X), free(p->Y), free(p->features), free(p->token_idx);
	free(p->all), free(p->acts), free(p->logits), free(p->logprobs), free(p->mid);
}

static size_t row_of(const struct page *p, size_t r)
{
	return r / p->S * p->T + (size_t)p->token_idx[r];
}

/* Activations and effects of every (token, shown feature); activations of sampled tokens. */
static void compute(struct page *p)
{
	const size_t rows = p->N * p->T, n = rows * p->H, F = p->s->F;
	const struct gpt_hook h = gpt_forward_hook(p->gpt, p->X, p->N, p->T);
	uint32_t *row = xcalloc(n, sizeof(*row)), *feat = xcalloc(n, sizeof(*feat));

	p->all = xcalloc(rows * F, sizeof(*p->all));
	p->acts = xcalloc(n, sizeof(*p->acts));
	p->logits = xcalloc(n, sizeof(*p->logits));
	p->logprobs = xcalloc(n, sizeof(*p->logprobs));
	p->mid = xcalloc(p->H * p->N * p->S, sizeof(*p->mid));
	sae_encode(p->s, h.acts, rows);
	p->g->be->get(p->all, p->s->f, rows * F * sizeof(*p->all));
	for (size_t i = 0; i < n; i++) {
		row[i] = (uint32_t)(i / p->H);
		feat[i] = (uint32_t)p->features[i % p->H];
		p->acts[i] = p->all[row[i] * F + feat[i]];
	}
	const struct attrib_pairs pairs = { row, feat, p->acts, n };

	attrib_residual(p->a, &h, rows);
	attrib_logprob(p->a, &pairs, p->Y, p->logprobs);
	attrib_logit(p->a, &pairs, p->Y, p->logits);
	for (size_t k = 0; k < p->H; k++)
		for (size_t r = 0; r < p->N * p->S; r++)
			p->mid[k * p->N * p->S + r] = p->acts[row_of(p, r) * p->H + k];
	free(row), free(feat);
}

/* ---- lists of logit weights ---- */

/* Logit weights of H features and their lists. */
struct weights {
	size_t H, L, V;
	float *all, *median, *values;   /* (H,V) minus the median, (H), (H,2L) */
	uint16_t *ids;                  /* (H,2L) */
};

static struct weights weights_new(struct attrib *a, const int32_t *features, size_t H, size_t L,
				  size_t V, size_t real_tokens)
{
	struct weights w = { H, L, V, xcalloc(H, V * sizeof(float)), xcalloc(H, sizeof(float)),
		xcalloc(H, 2 * L * sizeof(float)), xcalloc(H, 2 * L * sizeof(uint16_t)) };
	uint32_t hist[50];
	float range[2];

	for (size_t k = 0; k < H; k++) {
		struct attrib_words o = { L, ARRAY_LEN(hist), 0, w.ids + k * 2 * L, w.values + k * 2 * L, range, hist };

		attrib_logits(a, features ? (size_t)features[k] : k, 1, w.all + k * V);
		attrib_words(&o, w.all + k * V, V, real_tokens);
		w.median[k] = o.median;
		for (size_t v = 0; v < V; v++)
			w.all[k * V + v] -= o.median;
	}
	return w;
}

static void weights_free(struct weights *w)
{
	free(w->all), free(w->median), free(w->values), free(w->ids);
}

/* Lists of top and bottom against the fixture's: values, and ids of features whose values are clearly apart. */
static void compare_lists(const struct golden *g, const struct weights *w, const bool *clear)
{
	static const char *const names[] = { "top", "bottom" };
	const size_t n = w->H * w->L;

	for (size_t e = 0; e < 2; e++) {
		float *x = xcalloc(n, sizeof(*x));
		char *logits = xformat("%s_logits", names[e]), *id = xformat("%s_logit_ids", names[e]);
		int32_t *want = golden_ints(g, id, NULL);
		bool same = true;

		for (size_t i = 0; i < n; i++) {
			const size_t at = (i / w->L * 2 + e) * w->L + i % w->L;

			x[i] = w->values[at];
			same = same && (!clear[i / w->L] || w->ids[at] == want[i]);
		}
		golden_tensor(g, logits, x, n, tol_attributed);
		golden_check(g, id, same);
		free(x), free(logits), free(id), free(want);
	}
}

/* ---- what the fixture's json says of a shown feature ---- */

static json_t *feature(const struct page *p, size_t k)
{
	char *id = xformat("%d", p->features[k]);
	json_t *f = json_object_get(json_object_get(p->g->j, "features"), id);

	free(id);
	return f;
}

static bool clear_gap(const struct page *p, size_t k, const char *key)
{
	return json_number_value(json_object_get(feature(p, k), key)) > 1e-4;
}

static void attributed_lists(const struct page *p)
{
	const size_t V = p->gpt->c.vocab_size, L = golden_find(p->g, "top_logits")->shape[1];
	struct weights w = weights_new(p->a, p->features, p->H, L, V, V < BPE_TOKENS ? V : BPE_TOKENS);
	bool *clear = xcalloc(p->H, sizeof(*clear));

	for (size_t k = 0; k < p->H; k++)
		clear[k] = clear_gap(p, k, "min_gap_in_logit_lists");
	compare_lists(p->g, &w, clear);
	golden_tensor(p->g, "attributed_logits", w.all, p->H * V, tol_attributed);
	weights_free(&w);
	free(clear);
}

/* ---- strongest examples ---- */

/* got (H,K,W) of clear features against the fixture's (K,W,H); W 1 also stands for (K,H) */
static void compare_windows(const struct page *p, const char *name, const float *got, size_t W,
			    const bool *clear, struct tolerance tol)
{
	const size_t n = p->H * p->K * W;
	float *want = golden_floats(p->g, name, NULL);
	double *x = xcalloc(n, sizeof(*x)), *y = xcalloc(n, sizeof(*y));

	for (size_t i = 0; i < n; i++) {
		const size_t k = i / (p->K * W);

		if (!clear[k])
			continue;
		x[i] = got[i];
		y[i] = want[i % (p->K * W) * p->H + k];
	}
	golden_values(p->g, name, x, y, n, tol);
	free(want), free(x), free(y);
}

static void top_windows(const struct page *p)
{
	const size_t W = 2 * p->R + 1, n = p->H * p->K;
	float *tokens = xcalloc(n * W, sizeof(*tokens)), *acts = xcalloc(n * W, sizeof(*acts));
	float *effects = xcalloc(n * W, sizeof(*effects)), *rows = xcalloc(n, sizeof(*rows));
	bool *clear = xcalloc(p->H, sizeof(*clear));
	struct heap h = heap_new(p->K);

	for (size_t k = 0; k < p->H; k++) {
		clear[k] = clear_gap(p, k, "min_gap_in_top_activations");
		h.n = 0;
		for (size_t r = 0; r < p->N * p->S; r++)
			heap_push(&h, p->mid[k * p->N * p->S + r], r, r);
		heap_sort(&h);
		for (size_t i = 0; i < p->K * W; i++) {
			const size_t r = h.item[i / W].payload, at = row_of(p, r) + i % W - p->R;

			rows[k * p->K + i / W] = (float)r;
			tokens[k * p->K * W + i] = (float)p->X[at];
			acts[k * p->K * W + i] = p->acts[at * p->H + k];
			effects[k * p->K * W + i] = p->logits[at * p->H + k];
		}
	}
	compare_windows(p, "top_rows", rows, 1, clear, tol_exact);
	compare_windows(p, "top_tokens", tokens, W, clear, tol_exact);
	compare_windows(p, "top_feature_acts", acts, W, clear, tol_latents);
	compare_windows(p, "top_logits_diff", effects, W, clear, tol_ablation);
	heap_free(&h);
	free(tokens), free(acts), free(effects), free(rows), free(clear);
}

/* ---- statistics ---- */

static int descending(const void *a, const void *b)
{
	const float x = *(const float *)a, y = *(const float *)b;

	return (x < y) - (x > y);
}

static void interval_bounds(const struct page *p, const float *sorted)
{
	size_t i, k;
	json_t *interval;
	bool ok = true;

	for (k = 0; k < p->H; k++)
		json_array_foreach(json_object_get(feature(p, k), "intervals"), i, interval) {
			const size_t start = (size_t)json_integer_value(json_object_get(interval, "start"));
			const size_t stop = (size_t)json_integer_value(json_object_get(interval, "stop"));
			const float *m = sorted + k * p->N * p->S;
			const double hi = m[start] - json_number_value(json_object_get(interval, "max_act"));
			const double lo = m[stop - 1] - json_number_value(json_object_get(interval, "min_act"));

			ok = ok && stop > start && hi < 1e-4 && hi > -1e-4 && lo < 1e-4 && lo > -1e-4;
		}
	golden_check(p->g, "intervals", ok);
}

static void sorted_acts(const struct page *p)
{
	const size_t n = p->N * p->S;
	float *sorted = xcalloc(p->H * n, sizeof(*sorted)), *columns = xcalloc(p->H * n, sizeof(*columns));
	float *nonzero = xcalloc(p->H, sizeof(*nonzero));

	memcpy(sorted, p->mid, p->H * n * sizeof(*sorted));
	for (size_t k = 0; k < p->H; k++) {
		qsort(sorted + k * n, n, sizeof(*sorted), descending);
		for (size_t r = 0; r < n; r++) {
			columns[r * p->H + k] = sorted[k * n + r];
			nonzero[k] += sorted[k * n + r] > 0;
		}
	}
	golden_tensor(p->g, "sorted_mid_acts", columns, p->H * n, tol_latents);
	golden_tensor(p->g, "num_nonzero_mid", nonzero, p->H, tol_count);
	interval_bounds(p, sorted);
	free(sorted), free(columns), free(nonzero);
}

/* dead: no sampled token active; ultralow: fewer than the intervals' samples; else alive */
static void kinds(const struct page *p)
{
	const size_t F = p->s->F;
	const float few = (float)(golden_num(p->g, "num_intervals") * golden_num(p->g, "samples_per_interval"));
	float *count = xcalloc(F, sizeof(*count));
	double got[3] = { 0 }, want[3];

	for (size_t r = 0; r < p->N * p->S; r++)
		for (size_t k = 0; k < F; k++)
			count[k] += p->all[row_of(p, r) * F + k] > 0;
	for (size_t k = 0; k < F; k++)
		got[count[k] <= 0 ? 0 : count[k] < few ? 1 : 2]++;
	golden_tensor(p->g, "num_nonzero_mid_all", count, F, tol_count);
	want[0] = json_number_value(json_object_get(json_object_get(p->g->j, "kinds"), "dead"));
	want[1] = json_number_value(json_object_get(json_object_get(p->g->j, "kinds"), "ultralow"));
	want[2] = json_number_value(json_object_get(json_object_get(p->g->j, "kinds"), "alive"));
	golden_values(p->g, "kinds", got, want, 3, tol_count);
	free(count);
}

void golden_feature_page(struct golden *g)
{
	struct page p = { 0 };

	open_page(&p, g);
	compute(&p);
	golden_tensor(g, "feature_acts", p.acts, p.N * p.T * p.H, tol_latents);
	golden_tensor(g, "logits_diff", p.logits, p.N * p.T * p.H, tol_ablation);
	golden_tensor(g, "logprob_diff", p.logprobs, p.N * p.T * p.H, tol_ablation);
	attributed_lists(&p);
	top_windows(&p);
	sorted_acts(&p);
	kinds(&p);
	close_page(&p);
}

/* Of each feature: do the listed values lie so far apart that no two ids may swap? */
static bool *far_apart(const struct golden *g, size_t H, size_t L)
{
	float *top = golden_floats(g, "top_logits", NULL), *bottom = golden_floats(g, "bottom_logits", NULL);
	bool *clear = xcalloc(H, sizeof(*clear));

	for (size_t k = 0; k < H; k++) {
		clear[k] = true;
		for (size_t i = k * L + 1; i < (k + 1) * L; i++)
			clear[k] = clear[k] && top[i - 1] - top[i] > 1e-4f && bottom[i] - bottom[i - 1] > 1e-4f;
	}
	free(top), free(bottom);
	return clear;
}

static void set_weight(void *arg, const char *name, size_t ndim, const size_t *shape, real *w, real *dw,
		       real *m, real *v)
{
	const struct golden *g = arg;

	if (tensors_find(g->t, name)) { /* attention's and the like are not there */
		float *x = golden_floats(g, name, NULL);

		g->be->put(w, x, shape[0] * (ndim > 1 ? shape[1] : 1) * sizeof(*x));
		free(x);
	}
	(void)dw, (void)m, (void)v;
}

/* The fixture holds a decoder (D,F) and no encoder. */
static void set_decoder(const struct golden *g, struct sae *s)
{
	float *w = golden_floats(g, "decoder.weight", NULL), *t = xcalloc(s->F * s->D, sizeof(*t));

	for (size_t i = 0; i < s->F * s->D; i++)
		t[i] = w[i % s->D * s->F + i / s->D];
	g->be->put(s->p.dec, t, s->F * s->D * sizeof(*t));
	free(w), free(t);
}

void golden_attributed(struct golden *g)
{
	const size_t V = (size_t)golden_num(g, "vocab_size"), C = (size_t)golden_num(g, "n_embd");
	const size_t H = (size_t)golden_num(g, "n_latents"), L = golden_find(g, "top_logits")->shape[1];
	const struct gpt_config c = { 1, 1, C, 1, V, tensors_find(g->t, "transformer.ln_f.bias") != NULL };
	struct gpt *gpt = gpt_new(g->be, &c, 1, GPT_EVAL);
	struct sae *s = sae_new(g->be, 4 * C, H, 1, SAE_EVAL);
	bool *clear = far_apart(g, H, L);

	gpt_each(gpt, set_weight, g);
	set_decoder(g, s);
	struct attrib *a = attrib_new(gpt, s, 1);
	struct weights w = weights_new(a, NULL, H, L, V, (size_t)golden_num(g, "usable_vocab"));

	compare_lists(g, &w, clear);
	golden_tensor(g, "median", w.median, H, tol_attributed);
	weights_free(&w);
	attrib_free(a);
	gpt_free(gpt);
	sae_free(s);
	free(clear);
}
