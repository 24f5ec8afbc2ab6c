/* What a table and a scatter show of every feature: a few bytes each, kept until all are known. */
#include "htmlgen.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bpe.h"
#include "pool.h"

struct rows rows_new(size_t F)
{
	return (struct rows){
		.F = F, .active = xcalloc(F, sizeof(uint32_t)), .max = xcalloc(F, sizeof(float)),
		.mean = xcalloc(F, sizeof(float)), .rank = xcalloc(F, sizeof(uint32_t)),
		.tokens = xcalloc(xmul(F, SITE_TOPS), sizeof(uint16_t)),
		.logits = xcalloc(xmul(F, SITE_TOPS), sizeof(uint16_t)), .spark = xcalloc(F, SITE_SPARK),
	};
}

void rows_free(struct rows *r)
{
	free(r->active);
	free(r->max);
	free(r->mean);
	free(r->rank);
	free(r->tokens);
	free(r->logits);
	free(r->spark);
}

static int denser(const void *a, const void *b, void *arg)
{
	const struct rows *r = arg;
	const uint32_t f = *(const uint32_t *)a, g = *(const uint32_t *)b;

	return r->active[f] != r->active[g] ? (r->active[f] < r->active[g]) - (r->active[f] > r->active[g]) :
		(f > g) - (f < g);
}

/* Features by density, descending; fills ranks; caller frees. */
static uint32_t *by_density(struct rows *r)
{
	uint32_t *order = xcalloc(r->F, sizeof(*order));

	for (size_t f = 0; f < r->F; f++)
		order[f] = (uint32_t)f;
	qsort_r(order, r->F, sizeof(*order), denser, r);
	for (size_t i = 0; i < r->F; i++)
		r->rank[order[i]] = (uint32_t)i + 1;
	return order;
}

static void column(struct buf *b, const char *key, const void *p, size_t bytes)
{
	buf_printf(b, "%s\"%s\":", b->p[b->n - 1] == '{' ? "" : ",", key);
	js_base64(b, p, bytes);
}

static void numbers(struct buf *b, const struct rows *r, size_t from, size_t n)
{
	column(b, "active", r->active + from, n * sizeof(*r->active));
	column(b, "max", r->max + from, n * sizeof(*r->max));
	column(b, "mean", r->mean + from, n * sizeof(*r->mean));
}

static void texts(struct buf *b, const struct rows *r, size_t from, size_t n)
{
	column(b, "tokens", r->tokens + from * SITE_TOPS, n * SITE_TOPS * sizeof(*r->tokens));
	column(b, "logits", r->logits + from * SITE_TOPS, n * SITE_TOPS * sizeof(*r->logits));
}

static void shown(struct buf *b, const struct rows *r, size_t from, size_t n)
{
	numbers(b, r, from, n);
	column(b, "rank", r->rank + from, n * sizeof(*r->rank));
	texts(b, r, from, n);
	column(b, "spark", r->spark + from * SITE_SPARK, n * SITE_SPARK);
}

struct writing {
	struct site *site;
	const struct rows *r;
	char letter;
	size_t each;
	void (*fill)(struct buf *b, const struct rows *r, size_t from, size_t n);
};

static void write_chunk(void *arg, size_t i)
{
	const struct writing *w = arg;
	const size_t from = i * w->each, left = w->r->F - from;
	char *name = xformat("%c%zu", w->letter, i);
	struct buf b = { 0 };

	chunk_begin(&b, name);
	buf_add(&b, "{", 1);
	w->fill(&b, w->r, from, left < w->each ? left : w->each);
	buf_add(&b, "}", 1);
	chunk_write(w->site, name, &b);
	buf_free(&b);
	free(name);
}

static void write_chunks(struct writing w)
{
	pool_for((w.r->F + w.each - 1) / w.each, write_chunk, &w);
}

/* ---- the scatter ---- */
struct range {
	double lo, hi;
};

static void widen(struct range *g, double x)
{
	g->lo = fmin(g->lo, x);
	g->hi = fmax(g->hi, x);
}

static unsigned step_of(struct range g, double x, unsigned steps)
{
	return g.hi > g.lo ? (unsigned)lround((x - g.lo) / (g.hi - g.lo) * (steps - 1)) : 0;
}

static void write_dots(struct site *site, const struct rows *r, uint64_t tokens)
{
	struct range x = { INFINITY, -INFINITY }, y = x;
	uint16_t *at = xcalloc(r->F, sizeof(*at));
	struct buf b = { 0 };

	for (size_t f = 0; f < r->F; f++)
		if (r->active[f] && r->max[f] > 0) {
			widen(&x, log10(r->active[f] / (double)tokens));
			widen(&y, log10((double)r->max[f]));
		}
	for (size_t f = 0; f < r->F; f++)
		at[f] = !(r->active[f] && r->max[f] > 0) ? UINT16_MAX :
			(uint16_t)(step_of(x, log10(r->active[f] / (double)tokens), SITE_DOTS_X) * SITE_DOTS_Y +
				   step_of(y, log10((double)r->max[f]), SITE_DOTS_Y));
	chunk_begin(&b, "dots");
	if (x.lo <= x.hi)
		buf_printf(&b, "{\"x\":[%.17g,%.17g],\"y\":[%.17g,%.17g],\"steps\":[%d,%d],\"at\":", x.lo, x.hi, y.lo, y.hi,
			   SITE_DOTS_X, SITE_DOTS_Y);
	else
		buf_printf(&b, "{\"at\":");
	js_base64(&b, at, r->F * sizeof(*at));
	buf_add(&b, "}", 1);
	chunk_write(site, "dots", &b);
	buf_free(&b);
	free(at);
}

/* ---- the table as it opens ---- */
/* The texts of these tokens, by number. */
static void names(struct buf *b, const uint16_t *ids, size_t n)
{
	bool *done = xcalloc(BPE_TOKENS, sizeof(*done)), first = true;

	buf_add(b, "{", 1);
	for (size_t i = 0; i < n; i++) {
		size_t bytes;

		if (ids[i] >= BPE_TOKENS || done[ids[i]])
			continue;
		const char *p = bpe_token(bpe_gpt2(), ids[i], &bytes);

		done[ids[i]] = true;
		buf_printf(b, first ? "\"%u\":" : ",\"%u\":", ids[i]);
		js_string(b, p, bytes);
		first = false;
	}
	buf_add(b, "}", 1);
	free(done);
}

static void write_first(struct site *site, const struct rows *all, const uint32_t *order)
{
	struct rows r = rows_new(all->F < SITE_FIRST ? all->F : SITE_FIRST);
	struct buf b = { 0 };

	for (size_t i = 0; i < r.F; i++) {
		const size_t f = order[i];

		r.active[i] = all->active[f];
		r.max[i] = all->max[f];
		r.mean[i] = all->mean[f];
		r.rank[i] = all->rank[f];
		memcpy(r.tokens + i * SITE_TOPS, all->tokens + f * SITE_TOPS, SITE_TOPS * sizeof(*r.tokens));
		memcpy(r.logits + i * SITE_TOPS, all->logits + f * SITE_TOPS, SITE_TOPS * sizeof(*r.logits));
		memcpy(r.spark + i * SITE_SPARK, all->spark + f * SITE_SPARK, SITE_SPARK);
	}
	chunk_begin(&b, "first");
	buf_add(&b, "{", 1);
	column(&b, "features", order, r.F * sizeof(*order));
	shown(&b, &r, 0, r.F);
	buf_printf(&b, ",\"names\":[");
	names(&b, r.tokens, r.F * SITE_TOPS);
	buf_add(&b, ",", 1);
	names(&b, r.logits, r.F * SITE_TOPS);
	buf_add(&b, "]}", 2);
	chunk_write(site, "first", &b);
	buf_free(&b);
	rows_free(&r);
}

void rows_write(struct site *site, struct rows *r, uint64_t tokens)
{
	uint32_t *order = by_density(r);

	write_chunks((struct writing){ site, r, 'n', SITE_NUMBERS, numbers });
	write_chunks((struct writing){ site, r, 't', SITE_NUMBERS, texts });
	write_chunks((struct writing){ site, r, 'r', SITE_ROWS, shown });
	write_dots(site, r, tokens);
	write_first(site, r, order);
	free(order);
}
