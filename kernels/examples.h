#ifndef EXAMPLES_H
#define EXAMPLES_H
/*
 * examples: statistics of every feature over a stream of activations, and the
 * tokens to show for it, in two passes over the same contexts in order:
 *
 *	struct examples *x = examples_new(&shape, seed);
 *	for each block of contexts: examples_scan(x, a);                (counts, sums, maxima)
 *	for each block of contexts: examples_pick(x, a, T, first);      (histograms, strongest, samples)
 *	examples_finish(x);                                             (centres and windows in final order)
 *
 * a holds the activations of whole contexts of T tokens; `first` is the
 * number of its first token.  Strongest: larger activation, then smaller
 * token number.  Samples of an interval: smallest hash(seed, feature, token),
 * so neither depends on blocks or threads.  Every token counts, those near
 * the ends of a context too.
 */
#include "active.h"
#include "base.h"
#include "file.h"
#include "heap.h"
#include "top.h"

struct examples {
	struct top_shape s;
	uint64_t seed;
	uint32_t *active;       /* (F) tokens with f > 0 */
	float *max;             /* (F) */
	double *sum;            /* (F) of f */
	double *effect;         /* (F,2) of effects on the next token's logit, and of their absolute values */
	uint32_t *hist;         /* (F,H) */
	uint32_t *interval;     /* (F,I) */
	uint32_t *centre;       /* (F·E) token number or TOP_NO_EXAMPLE; after examples_finish */
	float *acts;            /* (F,cells) windows; in that order after examples_finish, before that in the heaps' */
	struct heap *heaps;     /* (F,1+I) strongest, then samples; payload: example of its feature */
	struct heap_item *items;        /* (F·E) theirs */
	bool *bad;              /* (F) an activation was no number or infinite */
};

struct examples *examples_new(const struct top_shape *s, uint64_t seed);
void examples_free(struct examples *x);
/* Dies when an activation is no finite number. */
void examples_scan(struct examples *x, const struct active *a);
void examples_pick(struct examples *x, const struct active *a, size_t T, uint64_t first);
void examples_finish(struct examples *x);
/* All of it for a state, and back, in any of the passes. */
void examples_save(const struct examples *x, struct buf *st);
void examples_load(struct examples *x, struct cursor *st);

/* Which of n equal parts of (0, max] holds v: j with max·j/n < v <= max·(j+1)/n. */
size_t examples_bin(double v, double max, size_t n);

#endif
