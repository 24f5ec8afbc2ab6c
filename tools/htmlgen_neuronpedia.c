/* topk's directory as the batch-N.json of SAEDashboard, which Neuronpedia imports. */
#include "htmlgen.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bpe.h"
#include "pool.h"
#include "prog.h"
#include "utf8.h"

struct export {
	struct batch a;
	const struct neuronpedia *np;
	uint32_t *active;       /* (F) */
};

/* ---- JSON, in ASCII: readers open these files in whatever encoding their system has ---- */

static void json_character(struct buf *b, const unsigned char *p, int bytes)
{
	uint32_t c = bytes == 1 ? p[0] : p[0] & (0x7fU >> bytes);

	for (int i = 1; i < bytes; i++)
		c = c << 6 | (p[i] & 0x3f);
	if (c == '"' || c == '\\')
		buf_printf(b, "\\%c", (int)c);
	else if (c >= 0x20 && c < 0x7f)
		buf_add(b, p, 1);
	else if (c < 0x10000)
		buf_printf(b, "\\u%04x", c);
	else
		buf_printf(b, "\\u%04x\\u%04x", 0xd800 + ((c - 0x10000) >> 10), 0xdc00 + (c & 0x3ff));
}

/* A float for every reader: 0.0, not 0. */
static void json_float(struct buf *b, double x)
{
	const size_t at = b->n;

	if (x == 0) {
		buf_add(b, "0.0", 3);
		return;
	}
	if (!isfinite(x)) {
		buf_add(b, "null", 4);
		return;
	}
	buf_printf(b, "%.9g", x);
	if (!strpbrk(b->p + at, ".e"))
		buf_add(b, ".0", 2);
}

static void json_floats(struct buf *b, const char *key, const float *v, size_t n)
{
	buf_printf(b, ",\"%s\":[", key);
	for (size_t i = 0; i < n; i++) {
		if (i)
			buf_add(b, ",", 1);
		json_float(b, (double)v[i]);
	}
	buf_add(b, "]", 1);
}

/* The middles of n equal bars from lo to hi, and their heights. */
static void json_bars(struct buf *b, const char *name, const uint32_t *heights, size_t n, double lo, double hi)
{
	buf_printf(b, ",\"%s_hist_data_bar_values\":[", name);
	for (size_t i = 0; i < n; i++) {
		if (i)
			buf_add(b, ",", 1);
		json_float(b, lo + (hi - lo) * ((double)i + 0.5) / (double)n);
	}
	buf_printf(b, "],\"%s_hist_data_bar_heights\":[", name);
	for (size_t i = 0; i < n; i++)
		buf_printf(b, i ? ",%u" : "%u", heights[i]);
	buf_add(b, "]", 1);
}

/* ---- tokens as text ---- */

/* Strings of consecutive tokens, written as the text of each becomes known. */
struct strings {
	struct buf *b;
	size_t now;             /* the token whose string is open */
};

static void strings_go_to(struct strings *s, size_t token)
{
	for (; s->now < token; s->now++)
		buf_add(s->b, "\",\"", 3);
}

/* Bytes of tokens that follow one another, and whose each byte is. */
struct run {
	struct buf text, owner; /* bytes, size_t */
};

static void run_add(struct run *r, const struct bpe *v, unsigned id, size_t token)
{
	size_t bytes;
	const char *p = bpe_token(v, id, &bytes);

	if (!p) {               /* of the vocabulary's padding */
		p = "<|outofrange|>";
		bytes = strlen(p);
	}
	buf_add(&r->text, p, bytes);
	for (size_t i = 0; i < bytes; i++)
		buf_add(&r->owner, &token, sizeof(token));
}

/* Of tokens [from, to] that share a character, the one to show it at: where the feature is most active. */
static size_t shown_at(const float *acts, size_t from, size_t to)
{
	size_t best = from;

	for (size_t i = from + 1; acts && i <= to; i++)
		if (acts[i] > acts[best])
			best = i;
	return best;
}

static void run_flush(struct run *r, struct strings *s, const float *acts)
{
	const unsigned char *const text = (const unsigned char *)r->text.p, *const end = text + r->text.n;
	const size_t *owner = (const size_t *)(const void *)r->owner.p;

	for (const unsigned char *p = text; p < end;) {
		const int n = utf8_length(p, end);

		if (n > 0 && *p) {
			strings_go_to(s, shown_at(acts, owner[p - text], owner[p - text + n - 1]));
			json_character(s->b, p, n);
			p += n;
			continue;
		}
		for (const unsigned char *bad = p + (n < 0 ? -n : n); p < bad; p++) {
			strings_go_to(s, owner[p - text]);
			buf_printf(s->b, "<0x%02X>", *p);
		}
	}
	buf_clear(&r->text);
	buf_clear(&r->owner);
}

/* Comma-separated strings of n > 0 tokens of a text; acts (n) may be NULL. */
static void json_tokens(struct buf *b, const uint16_t *ids, const float *acts, size_t n)
{
	const struct bpe *v = bpe_gpt2();
	struct strings s = { b, 0 };
	struct run r = { 0 };

	buf_add(b, "\"", 1);
	for (size_t i = 0; i < n; i++) {
		if (ids[i] >= BPE_EOT)          /* no character goes across it */
			run_flush(&r, &s, acts);
		run_add(&r, v, ids[i], i);
		if (ids[i] >= BPE_EOT)
			run_flush(&r, &s, acts);
	}
	run_flush(&r, &s, acts);
	strings_go_to(&s, n - 1);
	buf_add(b, "\"", 1);
	buf_free(&r.text);
	buf_free(&r.owner);
}

/* ---- a feature ---- */

static void json_logits(struct buf *b, const char *name, const uint16_t *ids, const float *values, size_t n)
{
	char *key = xformat("%s_values", name);

	buf_printf(b, ",\"%s_str\":[", name);
	for (size_t i = 0; i < n; i++) {
		if (i)
			buf_add(b, ",", 1);
		json_tokens(b, ids + i, NULL, 1);
	}
	buf_add(b, "]", 1);
	json_floats(b, key, values, n);
	free(key);
}

/* Example e of feature i, if there is one; true when it was written. */
static bool json_example(struct buf *b, const struct batch *a, size_t i, size_t e, bool first)
{
	const struct top_shape *s = &a->t->s;
	const struct top_window win = top_window(s, e);
	const uint16_t *ids = U16(a, TOKENS) + i * top_cells(s) + win.at;
	const float *acts = F32(a, ACTS) + i * top_cells(s) + win.at;
	const double max = (double)F32(a, MAX)[i];
	size_t from = 0, to = win.width;

	if (U32(a, CENTRE)[i * top_examples(s) + e] == TOP_NO_EXAMPLE)
		return false;
	while (from < win.width / 2 && ids[from] == TOP_NO_TOKEN)
		from++;
	while (to > win.width / 2 + 1 && ids[to - 1] == TOP_NO_TOKEN)
		to--;
	buf_printf(b, first ? "{\"bin_min\":" : ",{\"bin_min\":");
	if (e < s->K) {
		buf_printf(b, "-1,\"bin_max\":");
		json_float(b, max);
		buf_printf(b, ",\"bin_contains\":-1");
	} else {
		const size_t j = (e - s->K) / s->M;

		json_float(b, max * (double)(s->I - 1 - j) / (double)s->I);
		buf_printf(b, ",\"bin_max\":");
		json_float(b, max * (double)(s->I - j) / (double)s->I);
		buf_printf(b, ",\"bin_contains\":");
		json_float(b, U32(a, INTERVAL)[i * s->I + j] / (double)a->t->tokens);
	}
	buf_printf(b, ",\"tokens\":[");
	json_tokens(b, ids + from, acts + from, to - from);
	buf_add(b, "]", 1);
	json_floats(b, "values", acts + from, to - from);
	buf_printf(b, ",\"qualifying_token_index\":%zu,\"dfa_values\":[],\"dfa_maxValue\":0.0,\"dfa_targetIndex\":-1}",
		   win.width / 2 - from);
	return true;
}

enum { TABLE = 3 };             /* rows of the format's small tables */

static void json_indices(struct buf *b, const char *key, const uint32_t *v, size_t n)
{
	buf_printf(b, ",\"%s\":[", key);
	for (size_t i = 0; i < n; i++)
		buf_printf(b, i ? ",%u" : "%u", v[i]);
	buf_add(b, "]", 1);
}

static void json_alignment(struct buf *b, const struct batch *a, size_t i)
{
	const size_t A = a->t->s.A;
	const uint32_t *who = U32(a, ALIGN) + i * A;
	const float *value = F32(a, ALIGN_VALUE) + i * A;
	float share[TABLE];
	size_t n = 0;

	for (; n < TABLE && n < A && who[n] != TOP_NONE; n++)
		share[n] = fabsf(value[n]) / F32(a, ALIGN_L1)[i];
	json_indices(b, "neuron_alignment_indices", who, n);
	json_floats(b, "neuron_alignment_values", value, n);
	json_floats(b, "neuron_alignment_l1", share, n);
}

/* Two features' firings as columns of 0 and 1: how they correlate. */
struct kin {
	uint32_t who[TABLE];
	float pearson[TABLE], cosine[TABLE];
	size_t n;
};

/* Keeps the largest correlations in order, of equal ones the earlier. */
static void kin_add(struct kin *k, uint32_t who, double pearson, double cosine)
{
	size_t at = k->n;

	if (at < TABLE)
		k->n++;
	else if ((float)pearson <= k->pearson[--at])
		return;
	for (; at && k->pearson[at - 1] < (float)pearson; at--) {
		k->who[at] = k->who[at - 1];
		k->pearson[at] = k->pearson[at - 1];
		k->cosine[at] = k->cosine[at - 1];
	}
	k->who[at] = who;
	k->pearson[at] = (float)pearson;
	k->cosine[at] = (float)cosine;
}

static struct kin kin_of(const struct export *x, size_t i)
{
	const struct batch *a = &x->a;
	const size_t N = a->t->s.N;
	const uint32_t *together = U32(a, TOGETHER) + i * N;
	const double T = (double)a->t->tokens, mine = U32(a, ACTIVE)[i];
	struct kin k = { 0 };

	for (size_t j = 0; j < N && together[j] != TOP_NONE; j++) {
		if (together[j] >= a->t->s.F)
			die("'%s': feature %zu is said to fire with feature %u of %zu", a->t->dir, a->first + i, together[j], a->t->s.F);
		const double other = x->active[together[j]], share = (double)F32(a, TOGETHER_SHARE)[i * N + j];
		const double both = fmax(fmin(share * mine, other), mine + other - T);  /* share is of a sample */
		const double spread = sqrt(mine * (T - mine) * other * (T - other));

		kin_add(&k, together[j], spread > 0 ? (both * T - mine * other) / spread : 0,
			other > 0 ? both / sqrt(mine * other) : 0);
	}
	return k;
}

static void json_tables(struct buf *b, const struct export *x, size_t i)
{
	const struct kin k = kin_of(x, i);

	json_alignment(b, &x->a, i);
	buf_printf(b, ",\"correlated_neurons_indices\":[],\"correlated_neurons_l1\":[],\"correlated_neurons_pearson\":[]");
	json_indices(b, "correlated_features_indices", k.who, k.n);
	json_floats(b, "correlated_features_l1", k.cosine, k.n);
	json_floats(b, "correlated_features_pearson", k.pearson, k.n);
}

static void json_feature(struct buf *b, const struct export *x, size_t i)
{
	const struct batch *a = &x->a;
	const struct top *t = a->t;
	const size_t L = t->s.L, H = t->s.H;
	const uint16_t *ids = U16(a, LOGIT_IDS) + i * 2 * L;
	const float *values = F32(a, LOGITS) + i * 2 * L, *range = F32(a, LOGIT_RANGE) + i * 2;
	bool first = true;

	buf_printf(b, "{\"feature_index\":%zu", a->first + i);
	json_tables(b, x, i);
	json_logits(b, "neg", ids + L, values + L, L);
	json_logits(b, "pos", ids, values, L);
	buf_printf(b, ",\"frac_nonzero\":");
	json_float(b, U32(a, ACTIVE)[i] / (double)t->tokens);
	json_bars(b, "freq", U32(a, HIST) + i * H, H, 0, (double)F32(a, MAX)[i]);
	json_bars(b, "logits", U32(a, LOGIT_HIST) + i * H, H, (double)range[0], (double)range[1]);
	buf_printf(b, ",\"n_prompts_total\":%llu,\"n_tokens_in_prompt\":%llu,\"dataset\":\"%s\""
		   ",\"decoder_weights_dist\":[],\"activations\":[", (unsigned long long)t->contexts,
		   (unsigned long long)t->block, x->np->dataset);
	for (size_t e = 0; e < top_examples(&t->s); e++)
		if (json_example(b, a, i, e, first))
			first = false;
	buf_add(b, "]}", 2);
}

/* ---- names ---- */

static const char *checked(const char *option, const char *name)
{
	if (name[strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_./")])
		die_usage("%s '%s': letters, digits and -_./ make a name", option, name);
	return name;
}

static const char *given(const struct top *t, const char *of, const char *key)
{
	return json_string_value(json_object_get(json_object_get(t->index, of), key));
}

struct neuronpedia neuronpedia_names(const struct top *t, const char *model, const char *layer, const char *set,
				     const char *dataset)
{
	struct neuronpedia np = { .model = checked("--np-model", model), .dataset = checked("--np-dataset", dataset) };
	const char *layers = given(t, "gpt", "n_layer"), *l1 = given(t, "sae", "l1");

	if (!*model)
		die_usage("--np-model has no name");
	if (layer && (!parse_u64(layer, &np.layer) || np.layer > 9999))
		die_usage("--np-layer '%s': a number from 0 to 9999 is needed", layer);
	if (!layer && layers && parse_u64(layers, &np.layer) && np.layer)
		np.layer--;
	np.set = set && *set ? xstrdup(checked("--np-set", set)) :
		l1 ? xformat("mlp-%zu-l1-%s", t->s.F, checked("l1", l1)) : xformat("mlp-%zu", t->s.F);
	return np;
}

/* ---- the files ---- */

static void write_batch(void *arg, size_t g)
{
	const struct export *x = arg;
	const struct batch *a = &x->a;
	const size_t from = g * NEURONPEDIA_BATCH, to = from + NEURONPEDIA_BATCH < a->n ? from + NEURONPEDIA_BATCH : a->n;
	char *name = xformat("batch-%zu.json", (a->first + from) / NEURONPEDIA_BATCH);
	struct buf b = { 0 };
	bool first = true;

	buf_printf(&b, "{\"model_id\":\"%s\",\"layer\":%llu,\"sae_set\":\"%s\",\"sae_id_suffix\":null,\"features\":[",
		   x->np->model, (unsigned long long)x->np->layer, x->np->set);
	for (size_t i = from; i < to; i++) {
		if (!U32(a, ACTIVE)[i])
			continue;
		buf_add(&b, ",\n", first ? 0 : 2);
		json_feature(&b, x, i);
		first = false;
	}
	buf_add(&b, "]}\n", 3);
	site_file(a->site, name, b.p, b.n);
	buf_free(&b);
	free(name);
}

static void write_json(struct site *site, const char *name, json_t *j)
{
	char *text = j ? json_dumps(j, JSON_INDENT(1) | JSON_ENSURE_ASCII) : NULL;
	struct buf b = { 0 };

	if (!text)
		die("out of memory");
	buf_printf(&b, "%s\n", text);
	site_file(site, name, b.p, b.n);
	buf_free(&b);
	free(text);
	json_decref(j);
}

/* log10 of a density that all features above it, and no dead one, have: one firing of all tokens, rounded down */
static json_int_t least_density(const struct top *t)
{
	return (json_int_t)floor(-log10((double)t->tokens));
}

static void write_skipped(struct site *site, const struct export *x)
{
	const struct top *t = x->a.t;
	char *layer = xformat("%llu", (unsigned long long)x->np->layer);
	json_t *dead = json_array();

	for (size_t f = 0; f < t->s.F; f++)
		if (!x->active[f])
			json_array_append_new(dead, json_integer((json_int_t)f));
	write_json(site, "skipped_indexes.json", json_pack("{s:s,s:s,s:s,s:I,s:o}", "model_id", x->np->model,
		"layer", layer, "sae_set", x->np->set, "log_sparsity", least_density(t), "skipped_indexes", dead));
	free(layer);
}

/* What NeuronpediaRunnerConfig holds, as far as it has a meaning here. */
static void write_settings(struct site *site, const struct export *x)
{
	const struct top *t = x->a.t;
	const char *sae = json_string_value(json_object_get(json_object_get(t->index, "ids"), "sae"));

	write_json(site, "run_settings.json", json_pack("{s:s,s:s,s:s,s:n,s:I,s:s,s:I,s:I,s:i,s:I,s:I,s:I,s:b,s:s,s:I}",
		"sae_set", x->np->set, "sae_path", sae ? sae : "", "outputs_dir", ".", "np_sae_id_suffix",
		"sparsity_threshold", least_density(t), "huggingface_dataset_path", x->np->dataset,
		"n_prompts_total", (json_int_t)t->contexts, "n_tokens_in_prompt", (json_int_t)t->block,
		"n_features_at_a_time", NEURONPEDIA_BATCH, "n_quantiles", (json_int_t)t->s.I,
		"top_acts_group_size", (json_int_t)t->s.K, "quantile_group_size", (json_int_t)t->s.M,
		"use_dfa", 0, "model_id", x->np->model, "layer", (json_int_t)x->np->layer));
}

void neuronpedia_write(struct site *site, const struct top *t, const struct neuronpedia *np)
{
	struct export x = { .a = { .site = site, .t = t }, .np = np, .active = top_load(t, TOP_ACTIVE) };
	struct batch *a = &x.a;

	batch_open(a);
	prog_start("features", t->s.F);
	for (; a->first < t->s.F; a->first += a->n) {
		batch_read(a);
		pool_for((a->n + NEURONPEDIA_BATCH - 1) / NEURONPEDIA_BATCH, write_batch, &x);
		prog_step(a->n);
	}
	batch_close(a);
	write_settings(site, &x);
	write_skipped(site, &x);
	free(x.active);
}
