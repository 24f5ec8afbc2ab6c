#include "firings.h"

#include <string.h>

#include "pool.h"
#include "rng.h"
#include "top.h"

enum { FEATURES = 32 };         /* of a block */

size_t firings_fit(size_t F, size_t want)
{
	const size_t most = ((size_t)256 << 20) / sizeof(struct heap_item) / F;

	return want < most ? want : most ? most : 1;
}

struct firings *firings_new(size_t F, size_t P, uint64_t seed, uint64_t limit)
{
	struct firings *w = xcalloc(1, sizeof(*w));

	w->F = F;
	w->P = P;
	w->seed = seed;
	w->limit = limit;
	w->heaps = xcalloc(F, sizeof(*w->heaps));
	w->items = xcalloc(xmul(F, P), sizeof(*w->items));
	for (size_t k = 0; k < F; k++)
		w->heaps[k] = (struct heap){ w->items + k * P, 0, P };
	return w;
}

void firings_free(struct firings *w)
{
	if (!w)
		return;
	free(w->heaps);
	free(w->items);
	free(w->place);
	free(w->start);
	free(w->who);
	free(w->around);
	free(w);
}

/* ---- which ---- */

struct scan {
	struct firings *w;
	const struct active *a;
	uint64_t first;
};

static void scan_block(void *arg, size_t i)
{
	const struct scan *s = arg;
	const struct active *a = s->a;
	const size_t end = (i + 1) * FEATURES < a->F ? (i + 1) * FEATURES : a->F;

	for (size_t k = i * FEATURES; k < end; k++)
		for (uint32_t e = a->start[k]; e < a->start[k + 1]; e++) {
			const uint64_t token = s->first + a->row[e];

			heap_push(&s->w->heaps[k], -rng_uniform(rng_hash(s->w->seed, RNG_SAMPLE, k, token)), token, 0);
		}
}

void firings_scan(struct firings *w, const struct active *a, uint64_t first)
{
	pool_for((w->F + FEATURES - 1) / FEATURES, scan_block, &(struct scan){ w, a, first });
}

/* ---- where ---- */

size_t firings_count(const struct firings *w, size_t k)
{
	return w->heaps[k].n < w->P ? w->heaps[k].n : w->P;
}

static int by_token(const void *a, const void *b)
{
	const struct firings_place *x = a, *y = b;

	if (x->token != y->token)
		return x->token < y->token ? -1 : 1;
	return (x->rank > y->rank) - (x->rank < y->rank);
}

static void list_places(struct firings *w)
{
	size_t n = 0, all = 0;

	for (size_t k = 0; k < w->F; k++)
		all += firings_count(w, k);
	w->place = xcalloc(all, sizeof(*w->place));
	for (size_t k = 0; k < w->F; k++)
		for (size_t i = 0; i < firings_count(w, k); i++)
			w->place[n++] = (struct firings_place){ (uint32_t)w->heaps[k].item[i].tie, (uint32_t)i };
	qsort(w->place, n, sizeof(*w->place), by_token);
	for (size_t i = 0; i < n; i++)
		if (!i || w->place[i].token != w->place[i - 1].token)
			w->place[w->n++] = w->place[i];
	w->start = xcalloc(w->n + 1, sizeof(*w->start));
	w->around = xcalloc(w->n, sizeof(*w->around));
	w->sealed = true;
}

static void sort_feature(void *arg, size_t k)
{
	struct firings *w = arg;

	heap_sort(&w->heaps[k]);
}

void firings_seal(struct firings *w)
{
	pool_for(w->F, sort_feature, w);
	list_places(w);
}

/* ---- what was there ---- */

static void copy_around(const int32_t *idx, size_t row, size_t T, uint16_t out[3])
{
	out[0] = row % T ? (uint16_t)idx[row - 1] : TOP_NO_TOKEN;
	out[1] = (uint16_t)idx[row];
	out[2] = (row + 1) % T ? (uint16_t)idx[row + 1] : TOP_NO_TOKEN;
}

/* start[i + 1] of places [done, end) first counts, then is where the next entry goes, as in active_fill. */
static void list_active(struct firings *w, const struct active *a, const uint32_t *place_of, size_t end)
{
	uint64_t *next = w->start + 1, at = w->start[w->done];

	for (uint32_t e = 0; e < a->start[a->F]; e++)
		if (place_of[a->row[e]] != UINT32_MAX)
			next[place_of[a->row[e]]]++;
	for (size_t i = w->done; i < end; i++) {
		const uint64_t count = next[i];

		next[i] = at;
		at += count;
	}
	if (at > w->cap) {
		w->cap = at + at / 4;
		w->who = xrealloc(w->who, w->cap, sizeof(*w->who));
	}
	for (size_t k = 0; k < a->F; k++)
		for (uint32_t e = a->start[k]; e < a->start[k + 1]; e++)
			if (place_of[a->row[e]] != UINT32_MAX)
				w->who[next[place_of[a->row[e]]]++] = (uint32_t)k;
}

/* Half the firings of each; their places move up. */
static void halve(struct firings *w)
{
	size_t n = 0, done = 0;
	uint64_t at = 0;

	w->P /= 2;
	for (size_t i = 0; i < w->n; i++) {
		if (w->place[i].rank >= w->P)
			continue;
		w->place[n] = w->place[i];
		if (i < w->done) {
			const uint64_t from = w->start[i], count = w->start[i + 1] - from;

			memmove(w->who + at, w->who + from, count * sizeof(*w->who));
			memcpy(w->around[n], w->around[i], sizeof(*w->around));
			w->start[n] = at;
			at += count;
			done++;
		}
		n++;
	}
	w->n = n;
	w->done = done;
	memset(w->start + done, 0, (n + 1 - done) * sizeof(*w->start));
	w->start[done] = at;
}

void firings_gather(struct firings *w, const struct active *a, const int32_t *idx, size_t rows, size_t T,
		    uint64_t first)
{
	uint32_t *place_of = xmalloc(xmul(rows, sizeof(*place_of)));
	size_t end = w->done;

	memset(place_of, 0xFF, rows * sizeof(*place_of));
	for (; end < w->n && w->place[end].token < first + rows; end++) {
		const size_t row = w->place[end].token - first;

		place_of[row] = (uint32_t)end;
		copy_around(idx, row, T, w->around[end]);
	}
	list_active(w, a, place_of, end);
	w->done = end;
	while (w->P > 1 && w->start[w->done] > w->limit)
		halve(w);
	free(place_of);
}

struct firing firings_at(const struct firings *w, size_t k, size_t i)
{
	const uint32_t token = (uint32_t)w->heaps[k].item[i].tie;
	size_t lo = 0, hi = w->n;

	while (lo + 1 < hi) {
		const size_t mid = lo + (hi - lo) / 2;

		if (w->place[mid].token <= token)
			lo = mid;
		else
			hi = mid;
	}
	return (struct firing){ w->around[lo], w->who + w->start[lo], w->start[lo + 1] - w->start[lo] };
}

/* ---- states ---- */

void firings_save(const struct firings *w, struct buf *st)
{
	const uint64_t head[3] = { w->P, w->sealed, w->done };

	buf_add(st, head, sizeof(head));
	for (size_t k = 0; k < w->F; k++) {
		const uint64_t n = w->heaps[k].n;

		buf_add(st, &n, sizeof(n));
		buf_add(st, w->heaps[k].item, n * sizeof(*w->items));
	}
	if (!w->sealed)
		return;
	buf_add(st, w->start, (w->done + 1) * sizeof(*w->start));
	buf_add(st, w->who, w->start[w->done] * sizeof(*w->who));
	buf_add(st, w->around, w->done * sizeof(*w->around));
}

static void load_gathered(struct firings *w, struct cursor *st, uint64_t done)
{
	list_places(w);
	if (done > w->n)
		die("damaged state");
	w->done = done;
	cursor_get(st, w->start, (done + 1) * sizeof(*w->start));
	w->cap = w->start[done];
	w->who = xcalloc(w->cap, sizeof(*w->who));
	cursor_get(st, w->who, w->cap * sizeof(*w->who));
	cursor_get(st, w->around, done * sizeof(*w->around));
}

void firings_load(struct firings *w, struct cursor *st)
{
	uint64_t head[3], n;

	cursor_get(st, head, sizeof(head));
	w->P = head[0];
	for (size_t k = 0; k < w->F; k++) {
		cursor_get(st, &n, sizeof(n));
		if (n > w->heaps[k].cap)
			die("damaged state");
		w->heaps[k].n = n;
		cursor_get(st, w->heaps[k].item, n * sizeof(*w->items));
	}
	if (head[1])
		load_gathered(w, st, head[2]);
}
