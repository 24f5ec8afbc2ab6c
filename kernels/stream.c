#include "stream.h"

#include <stdlib.h>

#define NONE UINT64_MAX

struct stream {
	struct acts *a;
	const struct backend *be;
	struct tree *tree;
	size_t S, D;
	uint64_t next;          /* row to read */
	uint64_t block;         /* in memory, or NONE: */
	uint64_t from, to;      /* its rows */
	uint64_t first;         /* its first context */
	real *window;           /* (rows of a block, D) in the order of enumeration, backend memory */
	uint32_t *order;        /* (rows of a block) backend memory: the i-th row's place in window */
	struct rows_order *sort;
	uint64_t batch;         /* made last, or NONE */
	const real *made;       /* (B·S, D) of it */
	uint32_t *positions;    /* (B·S) */
	uint32_t *each;         /* (B·S) backend memory: 0, 1, 2, … */
};

static uint64_t block_rows(const struct acts *a)
{
	uint64_t first;

	return xmul(rows_block(&a->rows, 0, &first), a->rows.samples);
}

uint64_t stream_bytes(const struct acts *a)
{
	const uint64_t rows = block_rows(a);

	if (rows > UINT32_MAX)
		die("a window of %llu rows is too large to shuffle in memory; --window says of how many contexts",
		    (unsigned long long)rows);
	return rows * (a->D * sizeof(real) + sizeof(uint32_t)) + rows_order_bytes(&a->rows);
}

struct stream *stream_new(struct acts *a, struct tree *t)
{
	struct stream *s = xcalloc(1, sizeof(*s));
	const size_t rows = block_rows(a), made = xmul(a->batch, a->rows.samples);

	*s = (struct stream){ .a = a, .be = a->g->be, .tree = t, .S = a->rows.samples, .D = a->D, .block = NONE, .batch = NONE };
	s->window = s->be->alloc(xmul(xmul(rows, s->D), sizeof(*s->window)));
	s->order = s->be->alloc(xmul(rows, sizeof(*s->order)));
	s->sort = rows_order_new(&a->rows);
	s->positions = xcalloc(made, sizeof(*s->positions));
	s->each = s->be->alloc(xmul(made, sizeof(*s->each)));
	for (size_t i = 0; i < made; i++)
		s->positions[i] = (uint32_t)i;
	s->be->put(s->each, s->positions, made * sizeof(*s->each));
	return s;
}

void stream_free(struct stream *s)
{
	s->be->release(s->window);
	s->be->release(s->order);
	s->be->release(s->each);
	rows_order_free(s->sort);
	free(s->positions);
	free(s);
}

uint64_t stream_rows(const struct stream *s)
{
	return s->a->rows.contexts * s->S;
}

void stream_seek(struct stream *s, uint64_t row)
{
	s->next = row;
}

/* Contexts [c, end) into the window.  A batch may reach into another window, or begin in one. */
static void make(struct stream *s, uint64_t c, uint64_t end)
{
	for (size_t n; c < end; c += n) {
		const uint64_t i = c / s->a->batch;
		const size_t skip = c % s->a->batch, left = acts_contexts(s->a, i) - skip;

		if (i != s->batch)
			s->made = acts_batch(s->a, s->batch = i, s->positions);
		n = end - c < left ? (size_t)(end - c) : left;
		s->be->gather_rows(s->window + (c - s->first) * s->S * s->D, s->made, s->each + skip * s->S, n * s->S,
				   s->D);
	}
}

/* tree.h's cut of a window's values: between two batches of contexts, where there are two */
static size_t between_batches(const void *arg, size_t from, size_t to)
{
	const struct stream *s = arg;
	const size_t B = s->a->batch, values = s->S * s->D;
	const uint64_t a = s->first + from / values, b = s->first + to / values;
	const uint64_t mid = (a + (b - a) / 2 + B / 2) / B * B;

	return (size_t)((mid < a ? a : mid > b ? b : mid) - s->first) * values;
}

/* The block that has row `next` */
static void load(struct stream *s)
{
	const uint64_t block = s->next / block_rows(s->a), n = rows_block(&s->a->rows, block, &s->first);
	const size_t values = s->S * s->D;
	const struct tree_shares shares = { n * values, between_batches, s };
	const struct part own = tree_part(s->tree, &shares);

	s->be->put(s->order, rows_order_of(s->sort, block), n * s->S * sizeof(*s->order));
	make(s, s->first + own.from / values, s->first + own.to / values);
	acts_check(s->a);
	tree_gather_shares(s->tree, s->window, &shares);
	s->block = block;
	s->from = s->first * s->S;
	s->to = s->from + n * s->S;
}

void stream_read(struct stream *s, real *x, size_t n)
{
	if (s->next + n > stream_rows(s))
		BUG("rows %llu to %llu of %llu", (unsigned long long)s->next, (unsigned long long)(s->next + n),
		    (unsigned long long)stream_rows(s));
	for (size_t have = 0, k; have < n; have += k, s->next += k) {
		if (s->block == NONE || s->next < s->from || s->next >= s->to)
			load(s);
		k = s->to - s->next < n - have ? (size_t)(s->to - s->next) : n - have;
		s->be->gather_rows(x + have * s->D, s->window, s->order + (s->next - s->from), k, s->D);
	}
}
