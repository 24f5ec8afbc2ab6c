/* heap: the n largest of many, whatever the order of arrival */
#include "heap.h"

#include <math.h>
#include <stdlib.h>

#include "check.h"
#include "rng.h"

/* The plain twin: larger score first, then smaller tie. */
static int compare(const void *pa, const void *pb)
{
	const struct heap_item *a = pa, *b = pb;

	if (a->score != b->score)
		return a->score > b->score ? -1 : 1;
	return (a->tie > b->tie) - (a->tie < b->tie);
}

/* n items of few different scores, so that ties decide; arrival: in the order of a permutation. */
static void fill(struct heap_item *item, size_t n, uint64_t scores, uint64_t arrival)
{
	for (size_t i = 0; i < n; i++) {
		const uint64_t which = rng_permute(arrival, RNG_TEST, 1, n, i);
		const double score = (double)rng_below(rng_hash(5, RNG_TEST, 2, which), scores) - 2;

		item[i] = (struct heap_item){ score, which, 3 * which };
	}
}

static void check_keeps(size_t n, size_t cap, uint64_t scores)
{
	struct heap_item *item = xcalloc(n + 1, sizeof(*item));
	bool same = true, told = true;

	for (uint64_t arrival = 1; arrival <= 5; arrival++) {
		struct heap h = heap_new(cap);
		size_t kept = 0;

		fill(item, n, scores, arrival);
		for (size_t i = 0; i < n; i++)
			kept += heap_push(&h, item[i].score, item[i].tie, item[i].payload);
		told = told && kept >= h.n && h.n == (n < cap ? n : cap);
		heap_sort(&h);
		qsort(item, n, sizeof(*item), compare);
		for (size_t i = 0; i < h.n; i++)
			same = same && !compare(&h.item[i], &item[i]) && h.item[i].payload == item[i].payload;
		heap_free(&h);
	}
	check(same && told, "the %zu largest of %zu with %d scores", cap, n, (int)scores);
	free(item);
}

int main(void)
{
	static const size_t sizes[] = { 0, 1, 2, 3, 10, 31, 1000 };

	for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
		for (size_t j = 0; j < ARRAY_LEN(sizes); j++) {
			check_keeps(sizes[i], sizes[j], 3);
			check_keeps(sizes[i], sizes[j], 1 << 20);
		}

	struct heap h = heap_new(2);

	check(heap_push(&h, -INFINITY, 1, 0) && heap_push(&h, INFINITY, 2, 0), "infinities are scores");
	check(!heap_push(&h, -INFINITY, 3, 0) && heap_push(&h, -INFINITY, 0, 0), "ties: the smaller stays");
	heap_sort(&h);
	check(h.item[0].tie == 2 && h.item[1].tie == 0, "... and sorts behind the larger score");
	heap_free(&h);
	return check_done();
}
