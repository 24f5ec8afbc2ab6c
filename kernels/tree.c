#include "tree.h"

#include <stdlib.h>

enum { LEVELS = 40, LINE = 16 };        /* halves start on a cache line */

struct tree {
	const struct backend *be;
	struct comm *comm;
	size_t own, n;
	real *sum[LEVELS];      /* (n) partial sums that wait, the total's place first */
	size_t places, waiting, added;
	real *theirs;           /* (n / 2) from another process */
	char *host[2];          /* the same and what they get, where the device has memory of its own */
};

/* Places that n leaves take: one for each level, and one for the leaf under way */
static size_t places(size_t n)
{
	size_t k = 1;

	while (n > 1) {
		n /= 2;
		k++;
	}
	return k;
}

struct tree *tree_new(const struct backend *be, struct comm *c, size_t leaves, real *total, size_t n)
{
	const size_t P = comm_size(c), half = (n / 2 + LINE) * sizeof(real);

	if (leaves == 0 || leaves & (leaves - 1))
		die_usage("--leaves must be a power of two, not %zu", leaves);
	if (leaves % P)
		die("%zu processes cannot share %zu leaves of the batch; take a power of two, and --leaves of as many or more",
		    P, leaves);
	struct tree *t = xcalloc(1, sizeof(*t));

	t->be = be;
	t->comm = c;
	t->own = leaves / P;
	t->n = n;
	t->sum[0] = total;
	t->places = places(t->own);
	for (size_t i = 1; i < t->places; i++)
		t->sum[i] = be->alloc(xmul(n, sizeof(real)));
	if (P > 1)
		t->theirs = t->places > 1 ? t->sum[1] : be->alloc(half);
	for (size_t i = 0; P > 1 && !be->host && i < 2; i++)
		t->host[i] = xaligned(half);
	return t;
}

void tree_free(struct tree *t)
{
	for (size_t i = 1; i < t->places; i++)
		t->be->release(t->sum[i]);
	if (t->places == 1 && t->theirs)
		t->be->release(t->theirs);
	free(t->host[0]);
	free(t->host[1]);
	free(t);
}

size_t tree_own(const struct tree *t)
{
	return t->own;
}

size_t tree_first(const struct tree *t)
{
	return t->own * comm_rank(t->comm);
}

real *tree_leaf(const struct tree *t)
{
	if (t->waiting == t->places)
		BUG("more than %zu leaves", t->own);
	return t->sum[t->waiting];
}

/* As a binary counter carries. */
void tree_add(struct tree *t)
{
	t->added++;
	t->waiting++;
	for (size_t carry = t->added; carry % 2 == 0; carry /= 2) {
		t->waiting--;
		t->be->add(t->sum[t->waiting - 1], t->sum[t->waiting], t->n);
	}
}

/* ---- between processes ---- */

static void exchange(struct tree *t, size_t peer, const real *mine, size_t n, real *theirs, size_t their_n)
{
	if (t->be->host) {
		comm_exchange(t->comm, peer, mine, n * sizeof(real), theirs, their_n * sizeof(real));
		return;
	}
	t->be->get(t->host[0], mine, n * sizeof(real));
	comm_exchange(t->comm, peer, t->host[0], n * sizeof(real), t->host[1], their_n * sizeof(real));
	t->be->put(theirs, t->host[1], their_n * sizeof(real));
}

struct part {           /* of the total, that a process still adds to */
	size_t from, to;
};

/* The half of p that `upper` or not stands for */
static struct part half(struct part p, bool upper)
{
	const size_t mid = (p.from + (p.to - p.from) / 2 + LINE - 1) / LINE * LINE;
	const size_t at = mid < p.to ? mid : p.to;

	return upper ? (struct part){ at, p.to } : (struct part){ p.from, at };
}

/* With the process whose rank differs in bit `level`, who holds the other part of the pair's sum. */
static void share(struct tree *t, struct part p, size_t bit)
{
	const size_t rank = comm_rank(t->comm);
	const struct part keep = half(p, rank & bit), give = half(p, !(rank & bit));
	real *total = t->sum[0];

	exchange(t, rank ^ bit, total + give.from, give.to - give.from, t->theirs, keep.to - keep.from);
	t->be->add(total + keep.from, t->theirs, keep.to - keep.from);
	if (bit * 2 < comm_size(t->comm))
		share(t, keep, bit * 2);
	exchange(t, rank ^ bit, total + keep.from, keep.to - keep.from, total + give.from, give.to - give.from);
}

void tree_finish(struct tree *t)
{
	if (t->added != t->own)
		BUG("%zu leaves of %zu", t->added, t->own);
	t->added = t->waiting = 0;
	if (comm_size(t->comm) > 1)
		share(t, (struct part){ 0, t->n }, 1);
}

double tree_sum(const double *x, size_t n, size_t stride)
{
	return n == 1 ? *x : tree_sum(x, n / 2, stride) + tree_sum(x + n / 2 * stride, n / 2, stride);
}
