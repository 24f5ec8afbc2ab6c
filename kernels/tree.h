#ifndef TREE_H
#define TREE_H
/*
 * tree: sums over a batch in an order that does not depend on how many
 * processes share it.  The batch is cut into `leaves` contiguous leaves, a
 * power of two; each of the P processes of a job owns leaves/P of them.  What a
 * leaf sums up itself is added in pairs: leaves 0 and 1, 2 and 3, then these
 * sums, up to one total -- within a process in memory, above between processes.
 *
 *	struct tree *t = tree_new(be, comm, leaves, total, n);
 *	for (size_t i = 0; i < tree_own(t); i++) {
 *		… leaf tree_first(t) + i sets tree_leaf(t) (n) …
 *		tree_add(t);
 *	}
 *	tree_finish(t);                 (total is the sum of all leaves, in every process)
 *
 * Between processes each pair shares the work: one adds the lower half of what
 * it has, the other the upper, half as much at each level; totals come back the
 * same way (recursive halving and doubling: Rabenseifner 2004).  Every element
 * still is the sum of the same pairs.  In memory log2(leaves/P) partial sums
 * wait beside the total.
 *
 * What is made of the total element by element can be made where its sums are,
 * and come back in its place:
 *
 *	const struct part own = tree_reduce(t);
 *	… weights [own.from, own.to) change …
 *	tree_gather(t, weights);
 */
#include "peers.h"

struct tree;
/* total (n), backend memory; both are borrowed.  Dies unless leaves is a power of two and P divides it. */
struct tree *tree_new(const struct backend *be, struct comm *c, size_t leaves, real *total, size_t n);
void tree_free(struct tree *t);
size_t tree_leaves(const struct tree *t);       /* of all processes */
size_t tree_own(const struct tree *t);          /* leaves of this process */
size_t tree_first(const struct tree *t);        /* the first of them */
real *tree_leaf(const struct tree *t);          /* where the next leaf's sums (n) go; holds anything */
void tree_add(struct tree *t);
void tree_finish(struct tree *t);
/* tree_finish in two halves: this process's part of the total alone; then, of any x (n) in backend memory, each
 * process's part to all. */
struct part tree_reduce(struct tree *t);
void tree_gather(struct tree *t, real *x);
/* Where a part [from, to) is to be divided between two processes, in place of its middle; before the first sum. */
typedef size_t tree_cut_fn(const void *arg, size_t from, size_t to);
void tree_cut(struct tree *t, tree_cut_fn *cut, const void *arg);
/* Any other array of n values that each process makes a part of: which this one's is, and all of it to all. */
struct tree_shares {
	size_t n;
	tree_cut_fn *cut;
	const void *arg;
};
struct part tree_part(const struct tree *t, const struct tree_shares *s);
void tree_gather_shares(struct tree *t, real *x, const struct tree_shares *s);
/* The sum in the same order of n numbers on the host, a power of two, one from each leaf, every
 * `stride`-th of x */
double tree_sum(const double *x, size_t n, size_t stride);

#endif
