#ifndef HEAP_H
#define HEAP_H
/*
 * heap: keep the n largest of many (score, tie) pairs, each with an index.
 * Order: larger score first, then smaller tie -- total, so that the result
 * does not depend on the order of arrival.
 *
 *	struct heap h = heap_new(10);
 *	heap_push(&h, score, tie, payload);
 *	heap_sort(&h);                  (h.item[0] is the largest; no more pushes)
 */
#include <stdlib.h>

#include "base.h"

struct heap_item {
	double score;
	uint64_t tie;           /* unique: makes the order total */
	uint64_t payload;
};
struct heap {
	struct heap_item *item;
	size_t n, cap;
};

static inline bool heap_less(const struct heap_item *a, const struct heap_item *b)
{
	return a->score != b->score ? a->score < b->score : a->tie > b->tie;
}

static inline struct heap heap_new(size_t cap)
{
	return (struct heap){ xcalloc(cap ? cap : 1, sizeof(struct heap_item)), 0, cap };
}

static inline void heap_free(struct heap *h)
{
	free(h->item);
	*h = (struct heap){ 0 };
}

static inline void heap_sift(struct heap *h, size_t i, size_t n)
{
	for (;;) {
		size_t least = i, l = 2 * i + 1, r = l + 1;

		if (l < n && heap_less(&h->item[l], &h->item[least]))
			least = l;
		if (r < n && heap_less(&h->item[r], &h->item[least]))
			least = r;
		if (least == i)
			return;
		const struct heap_item t = h->item[i];
		h->item[i] = h->item[least];
		h->item[least] = t;
		i = least;
	}
}

/* false: too small to be kept */
static inline bool heap_push(struct heap *h, double score, uint64_t tie, uint64_t payload)
{
	const struct heap_item x = { score, tie, payload };

	if (h->n < h->cap) {
		size_t i = h->n++;

		for (; i > 0 && heap_less(&x, &h->item[(i - 1) / 2]); i = (i - 1) / 2)
			h->item[i] = h->item[(i - 1) / 2];
		h->item[i] = x;
		return true;
	}
	if (h->cap == 0 || !heap_less(&h->item[0], &x))
		return false;
	h->item[0] = x;
	heap_sift(h, 0, h->n);
	return true;
}

static inline void heap_sort(struct heap *h)
{
	for (size_t n = h->n; n > 1; n--) {
		const struct heap_item t = h->item[0];

		h->item[0] = h->item[n - 1];
		h->item[n - 1] = t;
		heap_sift(h, 0, n - 1);
	}
}

#endif
