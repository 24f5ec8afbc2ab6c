/* = merge_scan of a short piece: ranks in one register, the lowest by one instruction. */
#include "merge.h"

#ifdef __AVX2__
#include <immintrin.h>
#include <string.h>

enum { LANES = MERGE_SHORT + 1 };

/* Positions 1 … n are the bytes'; 0 and n + 1, which merge with nothing, stand for the ends.  What
 * was merged into its left neighbour is no longer alive. */
struct symbols {
	uint16_t id[LANES + 1];
	uint32_t alive;
	__m256i rank;           /* of the pair that begins at each position */
};

/* All ones in lane i. */
static inline __m256i lane(unsigned i)
{
	static const uint16_t ones[2 * LANES] = { [LANES] = 0xFFFF };

	return _mm256_loadu_si256((const void *)(ones + LANES - i));
}

static inline void set_rank(struct symbols *s, unsigned i, uint16_t rank)
{
	s->rank = _mm256_blendv_epi8(s->rank, _mm256_set1_epi16((short)rank), lane(i));
}

/* The first of the lowest ranks; *at: where. */
static inline uint16_t lowest(__m256i rank, unsigned *at)
{
	const __m128i low = _mm_minpos_epu16(_mm256_castsi256_si128(rank));
	const __m128i high = _mm_minpos_epu16(_mm256_extracti128_si256(rank, 1));
	const uint32_t a = (uint32_t)_mm_cvtsi128_si32(low), b = (uint32_t)_mm_cvtsi128_si32(high) | LANES / 2 << 16;
	const uint32_t best = (uint16_t)b < (uint16_t)a ? b : a;

	*at = best >> 16;
	return (uint16_t)best;
}

static inline void start(const struct bpe *v, struct symbols *s, const unsigned char *p, size_t n)
{
	uint16_t rank[LANES];

	memset(rank, 0xFF, sizeof(rank));
	s->id[0] = s->id[n + 1] = NO_MERGE;
	for (size_t i = 0; i < n; i++)
		s->id[i + 1] = v->byte_id[p[i]];
	for (size_t i = 1; i < n; i++)
		rank[i] = v->byte_pair[s->id[i] * BYTES + s->id[i + 1]];
	s->rank = _mm256_loadu_si256((const void *)rank);
	s->alive = (4u << n) - 1;
}

static inline void merge_at(const struct bpe *v, struct symbols *s, unsigned i, uint16_t id)
{
	const unsigned right = (unsigned)__builtin_ctz(s->alive & (~1u << i));

	s->alive &= ~(1u << right);
	const unsigned next = (unsigned)__builtin_ctz(s->alive & (~1u << i));
	const unsigned prev = 31 - (unsigned)__builtin_clz(s->alive & ((1u << i) - 1));

	s->id[i] = id;
	s->rank = _mm256_or_si256(s->rank, lane(right));
	set_rank(s, i, pair_find_far(v, id, s->id[next]));
	set_rank(s, prev, pair_find_far(v, s->id[prev], id));
}

static size_t merge_short(const struct bpe *v, const unsigned char *p, size_t n, uint16_t *ids)
{
	struct symbols s;
	unsigned i;
	uint16_t rank;
	size_t m = 0;

	start(v, &s, p, n);
	while ((rank = lowest(s.rank, &i)) != NO_MERGE)
		merge_at(v, &s, i, rank);
	for (uint32_t left = s.alive & ((2u << n) - 2); left; left &= left - 1)
		ids[m++] = s.id[__builtin_ctz(left)];
	return m;
}

merge_short_fn *merge_short_avx2(void)
{
	return __builtin_cpu_supports("avx2") ? merge_short : NULL;
}
#else
merge_short_fn *merge_short_avx2(void)
{
	return NULL;
}
#endif
