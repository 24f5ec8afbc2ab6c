#include "examples.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "pool.h"
#include "rng.h"

struct examples *examples_new(const struct top_shape *s, uint64_t seed)
{
	struct examples *x = xcalloc(1, sizeof(*x));
	const size_t E = top_examples(s), n = xmul(s->F, E);

	x->s = *s;
	x->seed = seed;
	x->active = xcalloc(s->F, sizeof(*x->active));
	x->max = xcalloc(s->F, sizeof(*x->max));
	x->sum = xcalloc(s->F, sizeof(*x->sum));
	x->effect = xcalloc(s->F, 2 * sizeof(*x->effect));
	x->hist = xcalloc(xmul(s->F, s->H), sizeof(*x->hist));
	x->interval = xcalloc(xmul(s->F, s->I), sizeof(*x->interval));
	x->centre = xcalloc(n, sizeof(*x->centre));
	x->acts = xcalloc(xmul(s->F, top_cells(s)), sizeof(*x->acts));
	x->heaps = xcalloc(xmul(s->F, s->I + 1), sizeof(*x->heaps));
	x->items = xcalloc(n, sizeof(*x->items));
	x->bad = xcalloc(s->F, sizeof(*x->bad));
	for (size_t k = 0; k < s->F; k++)
		for (size_t h = 0; h <= s->I; h++)
			x->heaps[k * (s->I + 1) + h] = (struct heap){
				x->items + k * E + (h ? s->K + (h - 1) * s->M : 0), 0, h ? s->M : s->K };
	return x;
}

void examples_free(struct examples *x)
{
	void *const parts[] = { x->active, x->max, x->sum, x->effect, x->hist, x->interval, x->centre, x->acts,
		x->heaps, x->items, x->bad, x };

	for (size_t i = 0; i < ARRAY_LEN(parts); i++)
		free(parts[i]);
}

size_t examples_bin(double v, double max, size_t n)
{
	const double parts = (double)n;
	size_t j = (size_t)(v * parts / max);

	j = j < n ? j : n - 1;
	while (j > 0 && v <= max * (double)j / parts)
		j--;
	while (j + 1 < n && v > max * (double)(j + 1) / parts)
		j++;
	return j;
}

/* ---- walking over what is active, some features at a time ---- */

enum { FEATURES = 32 };         /* of a block */

struct walk {
	struct examples *x;
	const struct active *a;
	size_t T;
	uint64_t first;
};

static void for_features(struct walk *w, void (*block)(void *arg, size_t i))
{
	pool_for((w->x->s.F + FEATURES - 1) / FEATURES, block, w);
}

static size_t block_end(const struct walk *w, size_t i)
{
	return (i + 1) * FEATURES < w->x->s.F ? (i + 1) * FEATURES : w->x->s.F;
}

/* ---- first pass ---- */

static void count(struct examples *x, size_t k, float v, float effect)
{
	x->active[k]++;
	x->sum[k] += v;
	x->effect[2 * k] += effect;
	x->effect[2 * k + 1] += fabsf(effect);
	if (v > x->max[k])
		x->max[k] = v;
	if (!(v <= FLT_MAX))
		x->bad[k] = true;
}

static void scan_block(void *arg, size_t i)
{
	const struct walk *w = arg;
	const struct active *a = w->a;

	for (size_t k = i * FEATURES; k < block_end(w, i); k++)
		for (uint32_t e = a->start[k]; e < a->start[k + 1]; e++)
			count(w->x, k, a->f[e], a->effect[e]);
}

void examples_scan(struct examples *x, const struct active *a)
{
	struct walk w = { .x = x, .a = a };

	for_features(&w, scan_block);
	for (size_t k = 0; k < x->s.F; k++)
		if (x->bad[k])
			die("an activation of feature %zu is not finite", k);
}

/* ---- second pass ---- */

/* Feature k's activations around entry e, 0 outside of its context: entries near it are its neighbours. */
static void copy_window(const struct walk *w, size_t k, uint32_t e, size_t slot)
{
	const struct active *a = w->a;
	const struct top_window at = top_window(&w->x->s, slot);
	const size_t R = at.width / 2, row = a->row[e], context = row / w->T;
	float *out = w->x->acts + k * top_cells(&w->x->s) + at.at;
	uint32_t i = e;

	memset(out, 0, at.width * sizeof(*out));
	while (i > a->start[k] && a->row[i - 1] + R >= row && a->row[i - 1] / w->T == context)
		i--;
	for (; i < a->start[k + 1] && a->row[i] <= row + R && a->row[i] / w->T == context; i++)
		out[a->row[i] + R - row] = a->f[i];
}

/* Example slots of a heap are its own: those in use are the payloads of its items. */
static void offer(const struct walk *w, size_t heap, size_t k, uint32_t e, double score)
{
	const struct top_shape *s = &w->x->s;
	struct heap *h = &w->x->heaps[k * (s->I + 1) + heap];
	const size_t base = (size_t)(h->item - w->x->items) - k * top_examples(s);
	const uint64_t slot = h->n < h->cap ? base + h->n : h->cap ? h->item[0].payload : 0;

	if (heap_push(h, score, w->first + w->a->row[e], slot))
		copy_window(w, k, e, slot);
}

static void place(const struct walk *w, size_t k, uint32_t e)
{
	struct examples *x = w->x;
	const struct top_shape *s = &x->s;
	const float v = w->a->f[e];
	const size_t i = s->I - 1 - examples_bin(v, x->max[k], s->I);
	const uint64_t h = rng_hash(x->seed, RNG_SAMPLE, k, w->first + w->a->row[e]);

	x->hist[k * s->H + examples_bin(v, x->max[k], s->H)]++;
	x->interval[k * s->I + i]++;
	offer(w, 0, k, e, v);
	offer(w, 1 + i, k, e, -rng_uniform(h));
}

static void pick_block(void *arg, size_t i)
{
	const struct walk *w = arg;

	for (size_t k = i * FEATURES; k < block_end(w, i); k++)
		for (uint32_t e = w->a->start[k]; e < w->a->start[k + 1]; e++)
			place(w, k, e);
}

void examples_pick(struct examples *x, const struct active *a, size_t T, uint64_t first)
{
	for_features(&(struct walk){ x, a, T, first }, pick_block);
}

/* ---- final order ---- */

static int by_strength(const void *a, const void *b)
{
	const struct heap_item *x = a, *y = b;

	if (x->score != y->score)
		return x->score < y->score ? 1 : -1;
	return (x->tie > y->tie) - (x->tie < y->tie);
}

/* The items of one heap, whose first example is `base`, and their windows from old to acts. */
static void finish_heap(const struct top_shape *s, struct heap *h, size_t base, uint32_t *centre, float *acts,
			const float *old)
{
	for (size_t i = 0; i < h->n; i++) {
		const struct top_window w = top_window(s, h->item[i].payload);

		h->item[i].score = old[w.at + w.width / 2];
	}
	qsort(h->item, h->n, sizeof(*h->item), by_strength);
	for (size_t i = 0; i < h->n; i++) {
		const struct top_window from = top_window(s, h->item[i].payload), to = top_window(s, base + i);

		centre[base + i] = (uint32_t)h->item[i].tie;
		memcpy(acts + to.at, old + from.at, to.width * sizeof(*acts));
		h->item[i].payload = base + i;
	}
}

static void finish_feature(void *arg, size_t k)
{
	struct examples *x = arg;
	const struct top_shape *s = &x->s;
	const size_t E = top_examples(s), cells = top_cells(s);
	float *acts = x->acts + k * cells, *old = xcalloc(cells, sizeof(*old));
	uint32_t *centre = x->centre + k * E;

	memcpy(old, acts, cells * sizeof(*old));
	memset(acts, 0, cells * sizeof(*acts));
	memset(centre, 0xFF, E * sizeof(*centre));
	for (size_t h = 0; h <= s->I; h++) {
		struct heap *p = &x->heaps[k * (s->I + 1) + h];

		finish_heap(s, p, (size_t)(p->item - x->items) - k * E, centre, acts, old);
	}
	free(old);
}

void examples_finish(struct examples *x)
{
	pool_for(x->s.F, finish_feature, x);
}

/* ---- states ---- */

struct part {
	void *p;
	size_t bytes;
};

enum { PARTS = 9 };
static void list_parts(const struct examples *x, struct part parts[PARTS])
{
	const size_t F = x->s.F, n = F * top_examples(&x->s);
	const struct part all[PARTS] = {
		{ x->active, F * sizeof(*x->active) },
		{ x->max, F * sizeof(*x->max) },
		{ x->sum, F * sizeof(*x->sum) },
		{ x->effect, 2 * F * sizeof(*x->effect) },
		{ x->hist, F * x->s.H * sizeof(*x->hist) },
		{ x->interval, F * x->s.I * sizeof(*x->interval) },
		{ x->centre, n * sizeof(*x->centre) },
		{ x->acts, F * top_cells(&x->s) * sizeof(*x->acts) },
		{ x->items, n * sizeof(*x->items) },
	};

	memcpy(parts, all, sizeof(all));
}

void examples_save(const struct examples *x, struct buf *st)
{
	struct part parts[PARTS];

	list_parts(x, parts);
	for (size_t i = 0; i < PARTS; i++)
		buf_add(st, parts[i].p, parts[i].bytes);
	for (size_t i = 0; i < x->s.F * (x->s.I + 1); i++) {
		const uint64_t n = x->heaps[i].n;

		buf_add(st, &n, sizeof(n));
	}
}

void examples_load(struct examples *x, struct cursor *st)
{
	struct part parts[PARTS];
	uint64_t n;

	list_parts(x, parts);
	for (size_t i = 0; i < PARTS; i++)
		cursor_get(st, parts[i].p, parts[i].bytes);
	for (size_t i = 0; i < x->s.F * (x->s.I + 1); i++) {
		cursor_get(st, &n, sizeof(n));
		if (n > x->heaps[i].cap)
			die("damaged state");
		x->heaps[i].n = n;
	}
}
