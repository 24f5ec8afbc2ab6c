#include "tree.h"

#include <stdio.h>
#include <stdlib.h>

enum { LEVELS = 40, LINE = 16 };        /* halves start on a cache line */

struct tree {
	const struct backend *be;
	struct comm *comm;
	size_t own, n;
	real *sum[LEVELS];      /* (n) partial sums that wait, the total's place first */
	size_t places, waiting, added;
	size_t (*cut)(const void *arg, size_t from, size_t to);
	const void *cut_arg;
	const struct device_link *link; /* to the other processes' devices, or NULL: through the host */
	real *theirs;           /* (the larger half) from another process */
	char *host[2];          /* the same and what they get, where the device has memory of its own */
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
	t->cut = middle;
	return t;
}

/* Did all do that?  The first reason why not is told. */
static bool all_could(struct comm *c, const char *why)
{
	enum { WHY = 200 };
	char *whys = xcalloc(comm_size(c), WHY), *mine = whys + comm_rank(c) * WHY;
	size_t i = 0;

	snprintf(mine, WHY, "%s", why ? why : "");
	comm_gather(c, whys, mine, WHY);
	while (i < comm_size(c) && !whys[i * WHY])
		i++;
	if (i < comm_size(c))
		say("sums between devices go through host memory: %s (rank %zu)", whys + i * WHY, i);
	free(whys);
	return i == comm_size(c);
}

/* The devices' own way to one another, or NULL. */
static const struct device_link *join(const struct backend *be, struct comm *c)
{
	unsigned char id[DEVICE_LINK_ID] = { 0 };
	const struct device_link *link = be->link;

	if (!all_could(c, link ? link->find() : "the backend has no other way") ||
	    !all_could(c, comm_rank(c) == 0 ? link->make_id(id) : NULL))
		return NULL;
	comm_broadcast(c, id, sizeof(id));
	if (all_could(c, link->join(id, comm_rank(c), comm_size(c))))
		return link;
	link->leave();
	return NULL;
}

/* Room for what another process sends. */
static void make_room(struct tree *t)
{
	const size_t mid = t->cut(t->cut_arg, 0, t->n), larger = mid > t->n - mid ? mid : t->n - mid;

	t->theirs = t->places > 1 ? t->sum[1] : t->be->alloc(xmul(larger, sizeof(real)));
	if (!t->be->host)
		t->link = join(t->be, t->comm);
	for (size_t i = 0; !t->be->host && !t->link && i < 2; i++)
		t->host[i] = xaligned(larger * sizeof(real));
}

void tree_cut(struct tree *t, size_t (*cut)(const void *arg, size_t from, size_t to), const void *arg)
{
	if (t->theirs)
		BUG("a tree that is in use");
	t->cut = cut;
	t->cut_arg = arg;
}

void tree_free(struct tree *t)
{
	for (size_t i = 1; i < t->places; i++)
		t->be->release(t->sum[i]);
	if (t->places == 1 && t->theirs)
		t->be->release(t->theirs);
	free(t->host[0]);
	free(t->host[1]);
	if (t->link)
		t->link->leave();
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
	if (t->link) {
		t->link->exchange(peer, mine, n, theirs, their_n);
		return;
	}
	t->be->get(t->host[0], mine, n * sizeof(real));
	comm_exchange(t->comm, peer, t->host[0], n * sizeof(real), t->host[1], their_n * sizeof(real));
	t->be->put(theirs, t->host[1], their_n * sizeof(real));
}

/* The half of p that `upper` or not stands for */
static struct tree_part half(const struct tree *t, struct tree_part p, bool upper)
{
	const size_t mid = t->cut(t->cut_arg, p.from, p.to);

	return upper ? (struct tree_part){ mid, p.to } : (struct tree_part){ p.from, mid };
}

/* At each level with the process whose rank differs in that bit, who holds the other part of the pair's sum. */
struct tree_part tree_reduce(struct tree *t)
{
	const size_t rank = comm_rank(t->comm);
	struct tree_part p = { 0, t->n };
	real *total = t->sum[0];

	if (t->added != t->own)
		BUG("%zu leaves of %zu", t->added, t->own);
	t->added = t->waiting = 0;
	if (comm_size(t->comm) > 1 && !t->theirs)
		make_room(t);
	for (size_t bit = 1; bit < comm_size(t->comm); bit *= 2) {
		const struct tree_part keep = half(t, p, rank & bit), give = half(t, p, !(rank & bit));

		exchange(t, rank ^ bit, total + give.from, give.to - give.from, t->theirs, keep.to - keep.from);
		t->be->add(total + keep.from, t->theirs, keep.to - keep.from);
		p = keep;
	}
	return p;
}

/* What p was divided into from level `bit` on comes together again. */
static void gather(struct tree *t, real *x, struct tree_part p, size_t bit)
{
	const size_t rank = comm_rank(t->comm);

	if (bit >= comm_size(t->comm))
		return;
	const struct tree_part keep = half(t, p, rank & bit), give = half(t, p, !(rank & bit));

	gather(t, x, keep, bit * 2);
	exchange(t, rank ^ bit, x + keep.from, keep.to - keep.from, x + give.from, give.to - give.from);
}

void tree_gather(struct tree *t, real *x)
{
	if (comm_size(t->comm) > 1 && !t->theirs)
		make_room(t);
	gather(t, x, (struct tree_part){ 0, t->n }, 1);
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
