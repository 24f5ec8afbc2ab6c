#include "shard_stats.h"

#include <math.h>
#include <string.h>

#include "dtype.h"

enum { CHUNK = 512 };

static void add(struct stats_lanes *l, size_t k, double x)
{
	const bool nan = isnan(x);
	const double y = nan ? 0.0 : x;

	l->nan[k] += nan;
	l->sum[k] += y;
	l->sumsq[k] += y * y;
	l->min[k] = x < l->min[k] ? x : l->min[k];      /* not for a NaN */
	l->max[k] = x > l->max[k] ? x : l->max[k];
}

void stats_add_plain(struct stats_lanes *l, const float *x, size_t n)
{
	for (size_t i = 0; i < n; i++)
		add(l, i % STATS_LANES, (double)x[i]);
}

static void add_floats(struct stats_lanes *l, enum dtype t, const char *values, size_t n)
{
	float x[CHUNK];

	dtype_to_f32(t, x, values, n);
	(dtype_avx2() ? stats_add_avx2 : stats_add_plain)(l, x, n);
}

void stats_add_u16_plain(struct stats_lanes *l, const char *values, size_t n)
{
	uint16_t x;

	for (size_t i = 0; i < n; i++) {
		memcpy(&x, values + i * sizeof(x), sizeof(x));
		add(l, i % STATS_LANES, x);
	}
}

static void add_u16(struct stats_lanes *l, enum dtype t, const char *values, size_t n)
{
	(void)t;
	(dtype_avx2() ? stats_add_u16_avx2 : stats_add_u16_plain)(l, values, n);
}

static void add_u32(struct stats_lanes *l, enum dtype t, const char *values, size_t n)
{
	uint32_t x;

	(void)t;
	for (size_t i = 0; i < n; i++) {
		memcpy(&x, values + i * sizeof(x), sizeof(x));
		add(l, i % STATS_LANES, x);
	}
}

void stats_of(struct stats *s, enum dtype t, const void *values, size_t n)
{
	const char *p = values;
	struct stats_lanes l;

	memset(&l, 0, sizeof(l));
	for (size_t k = 0; k < STATS_LANES; k++)
		l.min[k] = HUGE_VAL, l.max[k] = -HUGE_VAL;
	for (size_t i = 0; i < n; i += CHUNK) {
		const size_t m = n - i < CHUNK ? n - i : CHUNK;

		(t == DT_U16 ? add_u16 : t == DT_U32 ? add_u32 : add_floats)(&l, t, p + i * dtype_size(t), m);
	}
	*s = (struct stats){ .n = 0, .min = HUGE_VAL, .max = -HUGE_VAL };
	for (size_t k = 0; k < STATS_LANES; k++)
		stats_merge(s, &(struct stats){ 1, l.nan[k], l.min[k], l.max[k], l.sum[k], l.sumsq[k] });
	s->n = n;
}

void stats_merge(struct stats *s, const struct stats *next)
{
	const bool first = s->n == 0;

	s->min = first || next->min < s->min ? next->min : s->min;
	s->max = first || next->max > s->max ? next->max : s->max;
	s->n += next->n;
	s->nan += next->nan;
	s->sum += next->sum;
	s->sumsq += next->sumsq;
}

static void add_number(struct meta *m, const char *key, double x)
{
	if (isnan(x))
		meta_add(m, key, "nan");        /* whatever its sign */
	else
		meta_add(m, key, "%.17g", x);
}

void stats_to_meta(const struct stats *s, struct meta *m)
{
	const uint64_t n = s->n - s->nan;

	add_number(m, "min", n ? s->min : NAN);
	add_number(m, "max", n ? s->max : NAN);
	add_number(m, "mean", n ? s->sum / (double)n : NAN);
	add_number(m, "sumsq", s->sumsq);
	meta_add(m, "nan", "%llu", (unsigned long long)s->nan);
}
