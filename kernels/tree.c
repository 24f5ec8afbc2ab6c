#include "tree.h"

#include <stdlib.h>

enum { LEVELS = 40, LINE = 16 };        /* halves start on a cache line */

struct tree {
	const struct backend *be;
	struct comm *comm;
	size_t own, n;          /* n = shares.n */
	real *sum[LEVELS];      /* (n) partial sums that wait, the total's place first */
	size_t places, waiting, added;
	struct tree_shares shares;      /* of the total */
	struct peers *peers;    /* NULL: not yet asked */
};

static size_t middle(const void *arg, size_t from, size_t to)
{
	const size_t mid = (from + (to - from) / 2 + LINE - 1) / LINE * LINE;

	(void)arg;
	return mid < to ? mid : to;
}

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
	const size_t P = comm_size(c);

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
	t->shares = (struct tree_shares){ n, middle, NULL };
	return t;
}

static void find_peers(struct tree *t)
{
	const size_t mid = t->shares.cut(t->shares.arg, 0, t->n);

	if (!t->peers && comm_size(t->comm) > 1)
		t->peers = peers_new(t->be, t->comm, mid > t->n - mid ? mid : t->n - mid,
				     t->places > 1 ? t->sum[1] : NULL);
}

void tree_cut(struct tree *t, tree_cut_fn *cut, const void *arg)
{
	if (t->peers)
		BUG("a tree that is in use");
	t->shares.cut = cut;
	t->shares.arg = arg;
}

void tree_free(struct tree *t)
{
	for (size_t i = 1; i < t->places; i++)
		t->be->release(t->sum[i]);
	if (t->peers)
		peers_free(t->peers);
	free(t);
}

size_t tree_leaves(const struct tree *t)
{
	return t->own * comm_size(t->comm);
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

/* The half of p that `upper` or not stands for */
static struct part half(const struct tree_shares *s, struct part p, bool upper)
{
	const size_t mid = s->cut(s->arg, p.from, p.to);

	return upper ? (struct part){ mid, p.to } : (struct part){ p.from, mid };
}

/* At each level with the process whose rank differs in that bit, who holds the other part of the pair's sum. */
struct part tree_reduce(struct tree *t)
{
	const size_t rank = comm_rank(t->comm);
	struct part p = { 0, t->n };

	if (t->added != t->own)
		BUG("%zu leaves of %zu", t->added, t->own);
	t->added = t->waiting = 0;
	find_peers(t);
	for (size_t bit = 1; bit < comm_size(t->comm); bit *= 2) {
		const struct part keep = half(&t->shares, p, rank & bit);

		peers_add(t->peers, rank ^ bit, t->sum[0], keep, half(&t->shares, p, !(rank & bit)));
		p = keep;
	}
	return p;
}

/* What p was divided into from level `bit` on comes together again. */
static void gather(struct tree *t, real *x, const struct tree_shares *s, struct part p, size_t bit)
{
	const size_t rank = comm_rank(t->comm);

	if (bit >= comm_size(t->comm))
		return;
	const struct part keep = half(s, p, rank & bit);

	gather(t, x, s, keep, bit * 2);
	peers_copy(t->peers, rank ^ bit, x, keep, half(s, p, !(rank & bit)));
}

void tree_gather(struct tree *t, real *x)
{
	tree_gather_shares(t, x, &t->shares);
}

void tree_gather_shares(struct tree *t, real *x, const struct tree_shares *s)
{
	find_peers(t);
	gather(t, x, s, (struct part){ 0, s->n }, 1);
}

struct part tree_part(const struct tree *t, const struct tree_shares *s)
{
	struct part p = { 0, s->n };

	for (size_t bit = 1; bit < comm_size(t->comm); bit *= 2)
		p = half(s, p, comm_rank(t->comm) & bit);
	return p;
}

void tree_finish(struct tree *t)
{
	tree_reduce(t);
	tree_gather(t, t->sum[0]);
}

double tree_sum(const double *x, size_t n, size_t stride)
{
	return n == 1 ? *x : tree_sum(x, n / 2, stride) + tree_sum(x + n / 2 * stride, n / 2, stride);
}
