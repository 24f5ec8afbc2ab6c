#ifndef SHARD_STATS_H
#define SHARD_STATS_H
/*
 * shard_stats: extremes and sums of a shard's values, frame by frame, merged
 * in the order of the frames.  NaN are counted and otherwise left out.
 */
#include "shard.h"

struct stats {
	uint64_t n, nan;        /* values, those that are NaN */
	double min, max, sum, sumsq;    /* of the others; min > max: there are none */
};
/* Of n values; sums in a fixed order. */
void stats_of(struct stats *s, enum dtype t, const void *values, size_t n);
void stats_merge(struct stats *s, const struct stats *next);
/* Lines "min max mean sumsq nan". */
void stats_to_meta(const struct stats *s, struct meta *m);

#endif
