#include "shard_stats.h"

#include <math.h>
#include <string.h>

enum { LANES = 8, CHUNK = 512 };

/* Partial results of every LANES-th value. */
struct lanes {
	double min[LANES], max[LANES], sum[LANES], sumsq[LANES];
	uint64_t nan[LANES];
};

static void add_chunk(struct lanes *l, const double *x, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const size_t k = i % LANES;
		const double y = x[i] == x[i] ? x[i] : 0.0;

		l->nan[k] += x[i] != x[i];
		l->sum[k] += y;
		l->sumsq[k] += y * y;
		l->min[k] = x[i] < l->min[k] ? x[i] : l->min[k];
		l->max[k] = x[i] > l->max[k] ? x[i] : l->max[k];
	}
}

static void to_double(double *x, enum dtype t, const char *values, size_t n)
{
	float f[CHUNK];
	uint32_t u;
	uint16_t h;

	switch (t) {
	case DT_U16:
		for (size_t i = 0; i < n; i++) {
			memcpy(&h, values + i * sizeof(h), sizeof(h));
			x[i] = h;
		}
		break;
	case DT_U32:
		for (size_t i = 0; i < n; i++) {
			memcpy(&u, values + i * sizeof(u), sizeof(u));
			x[i] = u;
		}
		break;
	default:
		dtype_to_f32(t, f, values, n);
		for (size_t i = 0; i < n; i++)
			x[i] = (double)f[i];
	}
}

void stats_of(struct stats *s, enum dtype t, const void *values, size_t n)
{
	const char *p = values;
	double x[CHUNK];
	struct lanes l;

	memset(&l, 0, sizeof(l));
	for (size_t k = 0; k < LANES; k++)
		l.min[k] = HUGE_VAL, l.max[k] = -HUGE_VAL;
	for (size_t i = 0; i < n; i += CHUNK) {
		const size_t m = n - i < CHUNK ? n - i : CHUNK;

		to_double(x, t, p + i * dtype_size(t), m);
		add_chunk(&l, x, m);
	}
	*s = (struct stats){ .n = 0, .min = HUGE_VAL, .max = -HUGE_VAL };
	for (size_t k = 0; k < LANES; k++)
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
