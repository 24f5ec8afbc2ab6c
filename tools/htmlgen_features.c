/* Features as scripts: read a batch of each field, write its chunks side by side. */
#include "htmlgen.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bpe.h"
#include "htmlgen_search.h"
#include "pool.h"
#include "prog.h"

/* How many of a list are there: what is missing would be at its end. */
static size_t listed(const uint32_t *v, size_t n)
{
	while (n && v[n - 1] == TOP_NONE)
		n--;
	return n;
}

static void numbers_u32(struct buf *b, const uint32_t *v, size_t n)
{
	buf_add(b, "[", 1);
	for (size_t i = 0; i < n; i++)
		buf_printf(b, i ? ",%u" : "%u", v[i]);
	buf_add(b, "]", 1);
}

static void numbers_f32(struct buf *b, const float *v, size_t n)
{
	buf_add(b, "[", 1);
	for (size_t i = 0; i < n; i++) {
		if (i)
			buf_add(b, ",", 1);
		js_number(b, (double)v[i]);
	}
	buf_add(b, "]", 1);
}

/* [centre, "tokens", [place, activation, effect, effect on the logit, …]]: most places are 0 and left out; 0: no example. */
static void example(struct buf *b, const struct batch *a, size_t i, size_t e)
{
	const struct top_shape *s = &a->t->s;
	const struct top_window win = top_window(s, e);
	const size_t at = i * top_cells(s) + win.at;
	const uint32_t centre = U32(a, CENTRE)[i * top_examples(s) + e];
	const float *acts = F32(a, ACTS) + at, *effects = F32(a, EFFECTS) + at, *logits = F32(a, LOGIT_EFFECTS) + at;
	bool first = true;

	if (centre == TOP_NO_EXAMPLE) {
		buf_add(b, "0", 1);
		return;
	}
	buf_printf(b, "[%u,", centre);
	js_base64(b, U16(a, TOKENS) + at, win.width * sizeof(uint16_t));
	buf_add(b, ",[", 2);
	for (size_t w = 0; w < win.width; w++)
		if (acts[w] != 0 || effects[w] != 0 || logits[w] != 0) {
			buf_printf(b, first ? "%zu," : ",%zu,", w);
			js_number(b, (double)acts[w]);
			buf_add(b, ",", 1);
			js_number(b, (double)effects[w]);
			buf_add(b, ",", 1);
			js_number(b, (double)logits[w]);
			first = false;
		}
	buf_add(b, "]]", 2);
}

/* ,"name":[indices],"value":[theirs] */
static void relatives(struct buf *b, const char *name, const uint32_t *who, const char *value, const float *what, size_t n)
{
	n = listed(who, n);
	buf_printf(b, ",\"%s\":", name);
	numbers_u32(b, who, n);
	buf_printf(b, ",\"%s\":", value);
	numbers_f32(b, what, n);
}

/* ,"name":[ids],"nameCount":[theirs] */
static void neighbours(struct buf *b, const char *name, const uint16_t *ids, const uint32_t *counts, size_t n)
{
	size_t i = 0;

	buf_printf(b, ",\"%s\":[", name);
	for (; i < n && ids[i] != TOP_NO_TOKEN; i++)
		buf_printf(b, i ? ",%u" : "%u", ids[i]);
	buf_printf(b, "],\"%sCount\":", name);
	numbers_u32(b, counts, i);
}

static void company(struct buf *b, const struct batch *a, size_t i)
{
	const size_t N = a->t->s.N, A = a->t->s.A, B = a->t->s.B;

	relatives(b, "near", U32(a, NEAR) + i * N, "nearCos", F32(a, NEAR_COS) + i * N, N);
	relatives(b, "together", U32(a, TOGETHER) + i * N, "togetherShare", F32(a, TOGETHER_SHARE) + i * N, N);
	relatives(b, "align", U32(a, ALIGN) + i * A, "alignValue", F32(a, ALIGN_VALUE) + i * A, A);
	buf_printf(b, ",\"sampled\":%u", U32(a, SAMPLED)[i]);
	neighbours(b, "before", U16(a, BEFORE) + i * B, U32(a, BEFORE_COUNT) + i * B, B);
	neighbours(b, "on", U16(a, ON) + i * B, U32(a, ON_COUNT) + i * B, B);
	neighbours(b, "after", U16(a, AFTER) + i * B, U32(a, AFTER_COUNT) + i * B, B);
}

static void feature(struct buf *b, const struct batch *a, size_t i)
{
	const struct top_shape *s = &a->t->s;

	buf_printf(b, "{\"hist\":");
	numbers_u32(b, U32(a, HIST) + i * s->H, s->H);
	buf_printf(b, ",\"interval\":");
	numbers_u32(b, U32(a, INTERVAL) + i * s->I, s->I);
	buf_printf(b, ",\"logitEffect\":");
	numbers_f32(b, F32(a, LOGIT_EFFECT) + i * 2, 2);
	buf_printf(b, ",\"logitHist\":");
	numbers_u32(b, U32(a, LOGIT_HIST) + i * s->H, s->H);
	buf_printf(b, ",\"logitRange\":");
	numbers_f32(b, F32(a, LOGIT_RANGE) + i * 2, 2);
	buf_printf(b, ",\"logitIds\":");
	js_base64(b, U16(a, LOGIT_IDS) + i * 2 * s->L, 2 * s->L * sizeof(uint16_t));
	buf_printf(b, ",\"logits\":");
	numbers_f32(b, F32(a, LOGITS) + i * 2 * s->L, 2 * s->L);
	company(b, a, i);
	buf_printf(b, ",\"examples\":[");
	for (size_t e = 0; e < top_examples(s); e++) {
		if (e)
			buf_add(b, ",", 1);
		example(b, a, i, e);
	}
	buf_add(b, "]}", 2);
}

static void write_group(void *arg, size_t g)
{
	const struct batch *a = arg;
	const size_t from = g * SITE_GROUP, to = from + SITE_GROUP < a->n ? from + SITE_GROUP : a->n;
	char *name = xformat("f%zu", (a->first + from) / SITE_GROUP);
	struct buf b = { 0 };

	chunk_begin(&b, name);
	for (size_t i = from; i < to; i++) {
		buf_add(&b, i == from ? "[\n" : ",\n", 2);
		feature(&b, a, i);
	}
	buf_add(&b, "]", 1);
	chunk_write(a->site, name, &b);
	buf_free(&b);
	free(name);
}

/* H bins in SITE_SPARK columns, heights on a log scale: 0 to 255. */
static void spark(const uint32_t *hist, size_t H, uint8_t out[SITE_SPARK])
{
	double sum[SITE_SPARK] = { 0 }, most = 0;

	for (size_t h = 0; h < H; h++)
		sum[h * SITE_SPARK / H] += hist[h];
	for (size_t c = 0; c < SITE_SPARK; c++)
		most = sum[c] > most ? sum[c] : most;
	for (size_t c = 0; c < SITE_SPARK; c++)
		out[c] = most > 0 ? (uint8_t)lround(255 * log1p(sum[c]) / log1p(most)) : 0;
}

struct rows_arg {
	const struct batch *a;
	struct rows *rows;
};

static void fill_row(void *arg, size_t i)
{
	const struct batch *a = ((struct rows_arg *)arg)->a;
	const struct top_shape *s = &a->t->s;
	const struct rows *r = ((struct rows_arg *)arg)->rows;
	const size_t f = a->first + i;

	r->active[f] = U32(a, ACTIVE)[i];
	r->max[f] = F32(a, MAX)[i];
	r->mean[f] = F32(a, MEAN)[i];
	top_tokens(s, U32(a, CENTRE) + i * top_examples(s), U16(a, TOKENS) + i * top_cells(s), r->tokens + f * SITE_TOPS,
		   SITE_TOPS);
	for (size_t j = 0; j < SITE_TOPS; j++)
		r->logits[f * SITE_TOPS + j] = j < s->L ? U16(a, LOGIT_IDS)[i * 2 * s->L + j] : TOP_NO_TOKEN;
	spark(U32(a, HIST) + i * s->H, s->H, r->spark + f * SITE_SPARK);
}

static void count(const struct batch *a, struct density *d)
{
	for (size_t i = 0; i < a->n; i++) {
		const double density = U32(a, ACTIVE)[i] / (double)a->t->tokens;

		if (density <= 0) {
			d->dead++;
			continue;
		}
		const double bin = floor((log10(density) - SITE_DENSITY_FROM) / SITE_DENSITY_WIDTH);

		d->bins[(size_t)fmin(fmax(bin, 0), SITE_DENSITY_BINS - 1)]++;
		*(density < d->cut ? &d->ultra_low : &d->high) += 1;
	}
}

struct density features_write(struct site *site, const struct top *t, double cut)
{
	struct batch a = { .site = site, .t = t };
	struct search *search = search_new(site, &t->s);
	struct rows rows = rows_new(t->s.F);
	struct density d = { .cut = cut };

	batch_open(&a);
	prog_start("features", t->s.F);
	for (; a.first < t->s.F; a.first += a.n) {
		batch_read(&a);
		count(&a, &d);
		pool_for((a.n + SITE_GROUP - 1) / SITE_GROUP, write_group, &a);
		search_add(search, &a);
		pool_for(a.n, fill_row, &(struct rows_arg){ &a, &rows });
		prog_step(a.n);
	}
	batch_close(&a);
	search_write(search);
	rows_write(site, &rows, t->tokens);
	rows_free(&rows);
	return d;
}

void vocab_write(struct site *site)
{
	const struct bpe *v = bpe_gpt2();
	struct buf b = { 0 }, one = { 0 };

	chunk_begin(&b, "vocab");
	buf_add(&b, "\"", 1);
	for (unsigned id = 0; id < BPE_TOKENS; id++) {
		size_t bytes;
		const char *p = bpe_token(v, id, &bytes);

		buf_clear(&one);
		js_string(&one, p, bytes);
		if (id)
			buf_add(&b, "\xc4\x80", 2);     /* U+0100 */
		buf_add(&b, one.p + 1, one.n - 2);
	}
	buf_add(&b, "\"", 1);
	chunk_write(site, "vocab", &b);
	buf_free(&b);
	buf_free(&one);
}
