/* The sums of shard_stats.c, eight values at a time. */
#include "shard_stats.h"

#include <string.h>

#ifdef __AVX2__
#include <immintrin.h>

/* Half of the lanes in registers. */
struct half {
	__m256d min, max, sum, sumsq;
	__m256i nan;
};

static inline struct half load(const struct stats_lanes *l, size_t k)
{
	return (struct half){ _mm256_loadu_pd(l->min + k), _mm256_loadu_pd(l->max + k),
		_mm256_loadu_pd(l->sum + k), _mm256_loadu_pd(l->sumsq + k),
		_mm256_loadu_si256((const void *)(l->nan + k)) };
}

static inline void store(struct stats_lanes *l, size_t k, const struct half *h)
{
	_mm256_storeu_pd(l->min + k, h->min);
	_mm256_storeu_pd(l->max + k, h->max);
	_mm256_storeu_pd(l->sum + k, h->sum);
	_mm256_storeu_pd(l->sumsq + k, h->sumsq);
	_mm256_storeu_si256((void *)(l->nan + k), h->nan);
}

static inline void add(struct half *h, __m256d x)
{
	const __m256d number = _mm256_cmp_pd(x, x, _CMP_ORD_Q), y = _mm256_and_pd(x, number);
	const __m256d nan = _mm256_cmp_pd(x, x, _CMP_UNORD_Q);

	h->nan = _mm256_sub_epi64(h->nan, _mm256_castpd_si256(nan));
	h->sum = _mm256_add_pd(h->sum, y);
	/* squares of floats are exact in double: fused or not, the sum is the same */
	h->sumsq = _mm256_add_pd(h->sumsq, _mm256_mul_pd(y, y));
	h->min = _mm256_min_pd(x, h->min);      /* the second for a NaN */
	h->max = _mm256_max_pd(x, h->max);
}

/* = stats_add_plain */
void stats_add_avx2(struct stats_lanes *l, const float *x, size_t n)
{
	struct half low = load(l, 0), high = load(l, 4);
	size_t i = 0;

	for (; i + STATS_LANES <= n; i += STATS_LANES) {
		const __m256 eight = _mm256_loadu_ps(x + i);

		add(&low, _mm256_cvtps_pd(_mm256_castps256_ps128(eight)));
		add(&high, _mm256_cvtps_pd(_mm256_extractf128_ps(eight, 1)));
	}
	store(l, 0, &low);
	store(l, 4, &high);
	stats_add_plain(l, x + i, n - i);
}

/* = stats_add_u16_plain, in the first lane alone */
void stats_add_u16_avx2(struct stats_lanes *l, const char *values, size_t n)
{
	uint32_t sum = 0;
	uint64_t sumsq = 0;
	uint16_t least = UINT16_MAX, most = 0;

	for (size_t i = 0; i < n; i++) {
		uint16_t x;

		memcpy(&x, values + i * sizeof(x), sizeof(x));
		sum += x;
		sumsq += (uint32_t)x * x;
		least = x < least ? x : least;
		most = x > most ? x : most;
	}
	if (n == 0)
		return;
	l->sum[0] += sum;
	l->sumsq[0] += (double)sumsq;
	l->min[0] = least < l->min[0] ? least : l->min[0];
	l->max[0] = most > l->max[0] ? most : l->max[0];
}
#else
void stats_add_avx2(struct stats_lanes *l, const float *x, size_t n)
{
	stats_add_plain(l, x, n);
}

void stats_add_u16_avx2(struct stats_lanes *l, const char *values, size_t n)
{
	stats_add_u16_plain(l, values, n);
}
#endif
