#include "relate.h"

#include <math.h>
#include <string.h>

#include "pool.h"

static void *filled(size_t n, size_t size)
{
	void *p = xcalloc(n, size);

	memset(p, 0xFF, n * size);
	return p;
}

struct relate relate_new(const struct top_shape *s)
{
	struct relate r = { .s = *s };
	const size_t N = xmul(s->F, s->N), A = xmul(s->F, s->A), B = xmul(s->F, s->B);

	r.near = filled(N, sizeof(*r.near));
	r.near_cos = xcalloc(N, sizeof(*r.near_cos));
	r.together = filled(N, sizeof(*r.together));
	r.together_share = xcalloc(N, sizeof(*r.together_share));
	r.align = filled(A, sizeof(*r.align));
	r.align_value = xcalloc(A, sizeof(*r.align_value));
	r.align_l1 = xcalloc(s->F, sizeof(*r.align_l1));
	r.sampled = xcalloc(s->F, sizeof(*r.sampled));
	for (size_t i = 0; i < 3; i++) {
		r.around[i] = filled(B, sizeof(*r.around[i]));
		r.around_count[i] = xcalloc(B, sizeof(*r.around_count[i]));
	}
	return r;
}

void relate_free(struct relate *r)
{
	void *const parts[] = { r->near, r->near_cos, r->together, r->together_share, r->align, r->align_value, r->align_l1,
		r->sampled, r->around[0], r->around[1], r->around[2], r->around_count[0], r->around_count[1],
		r->around_count[2] };

	for (size_t i = 0; i < ARRAY_LEN(parts); i++)
		free(parts[i]);
}

/* ---- decoder columns ---- */

enum { ROWS = 128 };            /* of a block of cosines */

struct columns {
	struct relate *r;
	size_t D, from;
	float *norm;            /* (F) of the columns as they are */
	float *unit, *cos;      /* (ROWS,D), (ROWS,F) of features from `from` on */
};

static void align(const struct columns *c, size_t i)
{
	const size_t A = c->r->s.A, at = (c->from + i) * A;
	const float *u = c->unit + i * c->D;
	struct heap h = heap_new(A);
	double l1 = 0;

	for (size_t d = 0; d < c->D; d++) {
		heap_push(&h, fabsf(u[d]), d, d);
		l1 += (double)fabsf(u[d]);
	}
	c->r->align_l1[c->from + i] = (float)l1;
	heap_sort(&h);
	for (size_t j = 0; j < h.n; j++) {
		c->r->align[at + j] = (uint32_t)h.item[j].payload;
		c->r->align_value[at + j] = u[h.item[j].payload];
	}
	heap_free(&h);
}

static void nearest(const struct columns *c, size_t i)
{
	const size_t F = c->r->s.F, N = c->r->s.N, k = c->from + i, at = k * N;
	const float *cos = c->cos + i * F;
	struct heap h = heap_new(N);
	float least = -INFINITY;        /* of a full heap: most are below it */

	for (size_t g = 0; g < F; g++) {
		if (cos[g] <= least || g == k || !(c->norm[g] > 0))
			continue;
		heap_push(&h, cos[g], g, g);
		least = h.n == N ? (float)h.item[0].score : least;
	}
	heap_sort(&h);
	for (size_t j = 0; j < h.n; j++) {
		c->r->near[at + j] = (uint32_t)h.item[j].payload;
		c->r->near_cos[at + j] = (float)h.item[j].score;
	}
	heap_free(&h);
}

static void decoder_feature(void *arg, size_t i)
{
	const struct columns *c = arg;

	if (c->norm[c->from + i] > 0) {
		align(c, i);
		nearest(c, i);
	}
}

void relate_decoder(struct relate *r, const struct sae *s)
{
	const struct backend *be = s->be->exact;
	const size_t F = s->F, D = s->D;
	real *unit = be->alloc(xmul(F, D) * sizeof(*unit)), *norm = be->alloc(F * sizeof(*norm));
	real *cos = be->alloc(xmul(ROWS, F) * sizeof(*cos));
	struct columns c = { .r = r, .D = D };

	c.norm = xcalloc(F, sizeof(*c.norm));
	c.unit = xcalloc(ROWS, D * sizeof(*c.unit));
	c.cos = xcalloc(ROWS, F * sizeof(*c.cos));
	be->row_norms(norm, s->p.dec, F, D);
	be->get(c.norm, norm, F * sizeof(*norm));
	be->add(unit, s->p.dec, F * D);
	be->normalise_rows(unit, F, D);
	for (size_t n; c.from < F; c.from += n) {
		n = F - c.from < ROWS ? F - c.from : ROWS;
		be->linear_fwd(cos, unit + c.from * D, unit, NULL, n, D, F);
		be->get(c.cos, cos, n * F * sizeof(*cos));
		be->get(c.unit, unit + c.from * D, n * D * sizeof(*unit));
		pool_for(n, decoder_feature, &c);
	}
	be->release(unit);
	be->release(norm);
	be->release(cos);
	free(c.norm);
	free(c.unit);
	free(c.cos);
}

/* ---- firings ---- */

struct company {
	struct relate *r;
	const struct firings *w;
	const uint32_t *active;
	uint32_t **count, **who;        /* (threads) of (F): sampled firings with a feature, and with whom there are any */
};

/* count and who of the thread; all counts are 0 before and after. */
static void together(const struct company *c, size_t k, const struct firing *f, size_t m)
{
	const size_t N = c->r->s.N;
	uint32_t *count = c->count[pool_self()], *who = c->who[pool_self()];
	struct heap h = heap_new(N);
	size_t n = 0;

	for (size_t i = 0; i < m; i++)
		for (size_t j = 0; j < f[i].n; j++)
			if (f[i].who[j] != k && !count[f[i].who[j]]++)
				who[n++] = f[i].who[j];
	for (size_t i = 0; i < n; i++) {
		const uint32_t g = who[i];
		const double both = (double)count[g] / (double)m * c->active[k];

		heap_push(&h, both / ((double)c->active[k] + c->active[g] - both), g, count[g]);
		count[g] = 0;
	}
	heap_sort(&h);
	for (size_t j = 0; j < h.n; j++) {
		c->r->together[k * N + j] = (uint32_t)h.item[j].tie;
		c->r->together_share[k * N + j] = (float)((double)h.item[j].payload / (double)m);
	}
	heap_free(&h);
}

static int by_id(const void *a, const void *b)
{
	return *(const uint16_t *)a - *(const uint16_t *)b;
}

/* The most frequent of n ids, which are sorted here. */
static void frequent(uint16_t *ids, size_t n, struct heap *h, uint16_t *out, uint32_t *counts)
{
	h->n = 0;
	qsort(ids, n, sizeof(*ids), by_id);
	for (size_t i = 0, run; i < n; i += run) {
		for (run = 1; i + run < n && ids[i + run] == ids[i]; run++)
			;
		heap_push(h, (double)run, ids[i], ids[i]);
	}
	heap_sort(h);
	for (size_t i = 0; i < h->n; i++) {
		out[i] = (uint16_t)h->item[i].payload;
		counts[i] = (uint32_t)h->item[i].score;
	}
}

static void tokens_around(const struct company *c, size_t k, const struct firing *f, size_t m)
{
	const size_t B = c->r->s.B;
	uint16_t *ids = xcalloc(m, sizeof(*ids));
	struct heap h = heap_new(B);

	for (size_t side = 0; side < 3; side++) {
		size_t n = 0;

		for (size_t i = 0; i < m; i++)
			if (f[i].around[side] != TOP_NO_TOKEN)
				ids[n++] = f[i].around[side];
		frequent(ids, n, &h, c->r->around[side] + k * B, c->r->around_count[side] + k * B);
	}
	heap_free(&h);
	free(ids);
}

static void firings_feature(void *arg, size_t k)
{
	const struct company *c = arg;
	const size_t m = firings_count(c->w, k);
	struct firing *f = xcalloc(m, sizeof(*f));

	for (size_t i = 0; i < m; i++)
		f[i] = firings_at(c->w, k, i);
	c->r->sampled[k] = (uint32_t)m;
	together(c, k, f, m);
	tokens_around(c, k, f, m);
	free(f);
}

void relate_firings(struct relate *r, const struct firings *w, const uint32_t *active)
{
	const size_t threads = pool_threads();
	struct company c = { r, w, active, xcalloc(threads, sizeof(uint32_t *)), xcalloc(threads, sizeof(uint32_t *)) };

	for (size_t i = 0; i < threads; i++) {
		c.count[i] = xcalloc(w->F, sizeof(uint32_t));
		c.who[i] = xcalloc(w->F, sizeof(uint32_t));
	}
	pool_for(w->F, firings_feature, &c);
	for (size_t i = 0; i < threads; i++) {
		free(c.count[i]);
		free(c.who[i]);
	}
	free(c.count);
	free(c.who);
}
