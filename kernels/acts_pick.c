/* acts_pick: single rows of the shuffled order, of no more batches than they lie in */
#include <stdlib.h>
#include <string.h>

#include "acts.h"

struct wanted {
	uint32_t place;         /* in its block, in the order of enumeration */
	size_t i;               /* which of the rows asked for */
};

struct picking {
	struct acts *a;
	const struct backend *be;
	struct acts_want want;
	uint64_t skip;          /* rows not to be handed out again */
	uint64_t batch;         /* made last, UINT64_MAX: none */
	const real *made;
	uint32_t *positions;    /* (B,S) */
	uint32_t *at;           /* (B·S) rows of the batch that are wanted */
	uint32_t *dev_at;       /* the same and … */
	real *x;                /* … (B·S,D) these rows, backend memory */
	float *host;            /* (B·S,D) */
	struct wanted *wanted;  /* of a block */
};

static int by_place(const void *pa, const void *pb)
{
	const struct wanted *a = pa, *b = pb;

	return (a->place > b->place) - (a->place < b->place);
}

/* Of batch i, which begins at `offset` of the block's places: n rows */
static void hand_out(struct picking *p, uint64_t i, int64_t offset, const struct wanted *w, size_t n)
{
	const size_t D = p->a->D;

	if (n <= p->skip) {
		p->skip -= n;
		return;
	}
	if (i != p->batch)
		p->made = acts_batch(p->a, p->batch = i, p->positions);
	for (size_t k = 0; k < n; k++)
		p->at[k] = (uint32_t)((int64_t)w[k].place - offset);
	p->be->put(p->dev_at, p->at, n * sizeof(*p->at));
	p->be->gather_rows(p->x, p->made, p->dev_at, n, D);
	p->be->get(p->host, p->x, n * D * sizeof(*p->host));
	acts_check(p->a);
	for (size_t k = (size_t)p->skip; k < n; k++)
		p->want.take(p->want.arg, w[k].i, p->host + k * D);
	p->skip = 0;
}

/* Rows [from, to) of those asked for are in this block, whose first row is number `start`. */
static void pick_block(struct picking *p, struct rows_order *order, uint64_t block, size_t from, size_t to,
		       uint64_t start)
{
	const size_t S = p->a->rows.samples, B = p->a->batch;
	const uint32_t *place = rows_order_of(order, block);
	struct wanted *w = p->wanted;
	const size_t n = to - from;
	uint64_t first;

	rows_block(&p->a->rows, block, &first);
	for (size_t k = 0; k < n; k++)
		w[k] = (struct wanted){ place[p->want.row[from + k] - start], from + k };
	qsort(w, n, sizeof(*w), by_place);
	for (size_t k = 0, end; k < n; k = end) {
		const uint64_t i = (first + w[k].place / S) / B;

		for (end = k + 1; end < n && (first + w[end].place / S) / B == i; )
			end++;
		hand_out(p, i, ((int64_t)(i * B) - (int64_t)first) * (int64_t)S, w + k, end - k);
	}
}

static void each_block(struct picking *p)
{
	const struct rows *r = &p->a->rows;
	struct rows_order *order = rows_order_new(r);
	uint64_t first, start = 0, block = 0;

	for (size_t at = 0, end; at < p->want.n; at = end, block++) {
		const uint64_t rows = rows_block(r, block, &first) * r->samples;

		for (end = at; end < p->want.n && p->want.row[end] < start + rows; )
			end++;
		if (end - at <= p->skip)
			p->skip -= end - at;
		else
			pick_block(p, order, block, at, end, start);
		start += rows;
	}
	rows_order_free(order);
}

void acts_pick(struct acts *a, const struct acts_want *want, uint64_t skip)
{
	const struct backend *be = a->g->be;
	const size_t rows = xmul(a->batch, a->rows.samples), values = xmul(rows, a->D);
	struct picking p = { .a = a, .be = be, .want = *want, .skip = skip, .batch = UINT64_MAX };

	p.positions = xcalloc(rows, sizeof(*p.positions));
	p.at = xcalloc(rows, sizeof(*p.at));
	p.dev_at = be->alloc(xmul(rows, sizeof(*p.dev_at)));
	p.x = be->alloc(xmul(values, sizeof(*p.x)));
	p.host = xcalloc(values, sizeof(*p.host));
	p.wanted = xcalloc(want->n, sizeof(*p.wanted));
	each_block(&p);
	free(p.positions);
	free(p.at);
	be->release(p.dev_at);
	be->release(p.x);
	free(p.host);
	free(p.wanted);
}
