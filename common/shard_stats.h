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

/* Partial results: lane k has the values k, k + LANES, … */
enum { STATS_LANES = 8 };
struct stats_lanes {
	double min[STATS_LANES], max[STATS_LANES], sum[STATS_LANES], sumsq[STATS_LANES];
	uint64_t nan[STATS_LANES];
};
void stats_add_plain(struct stats_lanes *l, const float *x, size_t n);
void stats_add_avx2(struct stats_lanes *l, const float *x, size_t n);   /* where dtype_avx2() is */
/* u16, at most 2^16 of them; sums of integers are exact: any order gives the same. */
void stats_add_u16_plain(struct stats_lanes *l, const char *values, size_t n);
void stats_add_u16_avx2(struct stats_lanes *l, const char *values, size_t n);

#endif
