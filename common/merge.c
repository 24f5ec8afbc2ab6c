#include "merge.h"

#include <stdlib.h>
#include <string.h>

enum { SCAN = 48 };     /* bytes below which comparing all pairs beats a heap */

size_t merge_scan(const struct bpe *v, const unsigned char *p, size_t n, uint16_t *id)
{
	uint16_t rank[256];

	for (size_t i = 0; i < n; i++)
		id[i] = v->byte_id[p[i]];
	for (size_t i = 0; i + 1 < n; i++)
		rank[i] = pair_find(v, id[i], id[i + 1]);
	while (n > 1) {
		size_t best = 0;

		for (size_t i = 1; i + 1 < n; i++)
			if (rank[i] < rank[best])
				best = i;
		if (rank[best] == NO_MERGE)
			break;
		id[best] = rank[best];
		n--;
		memmove(id + best + 1, id + best + 2, (n - best - 1) * sizeof(*id));
		memmove(rank + best, rank + best + 1, (n - best - 1) * sizeof(*rank));
		if (best + 1 < n)
			rank[best] = pair_find(v, id[best], id[best + 1]);
		if (best > 0)
			rank[best - 1] = pair_find(v, id[best - 1], id[best]);
	}
	return n;
}

static void heap_up(uint64_t *h, size_t i)
{
	const uint64_t x = h[i];

	for (; i > 0 && x < h[(i - 1) / 2]; i = (i - 1) / 2)
		h[i] = h[(i - 1) / 2];
	h[i] = x;
}

static void heap_down(uint64_t *h, size_t n)
{
	const uint64_t x = h[0];
	size_t i = 0, child;

	for (; (child = 2 * i + 1) < n; i = child) {
		if (child + 1 < n && h[child + 1] < h[child])
			child++;
		if (x <= h[child])
			break;
		h[i] = h[child];
	}
	h[i] = x;
}

static void links_reserve(struct links *l, size_t n)
{
	if (n <= l->cap)
		return;
	if (n > UINT32_MAX)
		die("a word of %zu bytes is too long", n);
	l->cap = n + n / 2;
	l->prev = xrealloc(l->prev, l->cap, sizeof(*l->prev));
	l->next = xrealloc(l->next, l->cap, sizeof(*l->next));
	l->id = xrealloc(l->id, l->cap, sizeof(*l->id));
	/* n - 1 pairs, and a merge takes one out before it puts two in */
	l->heap = xrealloc(l->heap, xmul(l->cap, 2), sizeof(*l->heap));
}

/* The pair that begins at position i, if it merges. */
static void links_push(const struct bpe *v, struct links *l, uint32_t i)
{
	const uint32_t next = l->next[i];
	const uint16_t rank = next < l->n ? pair_find(v, l->id[i], l->id[next]) : NO_MERGE;

	if (rank == NO_MERGE)
		return;
	l->heap[l->n_heap] = (uint64_t)rank << 32 | i;
	heap_up(l->heap, l->n_heap++);
}

static void merge_heap(const struct bpe *v, struct links *l, const unsigned char *p, size_t n)
{
	links_reserve(l, n);
	l->n = n;
	l->n_heap = 0;
	for (uint32_t i = 0; i < n; i++) {
		l->id[i] = v->byte_id[p[i]];
		l->prev[i] = i - 1;
		l->next[i] = i + 1;
	}
	for (uint32_t i = 0; i < n; i++)
		links_push(v, l, i);
	while (l->n_heap > 0) {
		const uint32_t i = (uint32_t)l->heap[0], right = l->next[i];
		const uint16_t rank = (uint16_t)(l->heap[0] >> 32);

		l->heap[0] = l->heap[--l->n_heap];
		heap_down(l->heap, l->n_heap);
		/* entries whose pair is gone are left in the heap and fail here */
		if (l->id[i] == NO_MERGE || right >= n || pair_find(v, l->id[i], l->id[right]) != rank)
			continue;
		l->id[i] = rank;
		l->id[right] = NO_MERGE;
		l->next[i] = l->next[right];
		if (l->next[i] < n)
			l->prev[l->next[i]] = i;
		links_push(v, l, i);
		if (i > 0)
			links_push(v, l, l->prev[i]);
	}
}

size_t merge_piece(const struct bpe *v, struct links *l, const unsigned char *p, size_t n, uint16_t *ids)
{
	size_t m = 0;

	if (n < SCAN)
		return merge_scan(v, p, n, ids);
	merge_heap(v, l, p, n);
	for (size_t i = 0; i < n; i = l->next[i])
		ids[m++] = l->id[i];
	return m;
}

void links_free(struct links *l)
{
	free(l->prev);
	free(l->next);
	free(l->id);
	free(l->heap);
}
