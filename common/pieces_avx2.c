/* = piece_starts, 32 bytes at a time. */
#include "window.h"

#ifdef __AVX2__
#include <immintrin.h>

/* Bytes of first … last, all ASCII: the last becomes the largest signed number. */
static inline __m256i between(__m256i x, char first, char last)
{
	return _mm256_cmpgt_epi8(_mm256_add_epi8(x, _mm256_set1_epi8((char)(0x7F - last))),
				 _mm256_set1_epi8((char)(0x7F - last + first - 1)));
}

static inline uint64_t bits(__m256i low, __m256i high)
{
	return (uint32_t)_mm256_movemask_epi8(low) | (uint64_t)(uint32_t)_mm256_movemask_epi8(high) << 32;
}

static uint64_t starts(const unsigned char *p)
{
	const __m256i low = _mm256_loadu_si256((const void *)p), high = _mm256_loadu_si256((const void *)(p + 32));
	const __m256i to_lower = _mm256_set1_epi8(0x20), blank = _mm256_set1_epi8(' '), quote = _mm256_set1_epi8('\'');
	const uint64_t blanks = bits(_mm256_cmpeq_epi8(low, blank), _mm256_cmpeq_epi8(high, blank));
	const struct window w = {
		.letter = bits(between(_mm256_or_si256(low, to_lower), 'a', 'z'),
			       between(_mm256_or_si256(high, to_lower), 'a', 'z')),
		.number = bits(between(low, '0', '9'), between(high, '0', '9')),
		.space = bits(between(low, '\t', '\r'), between(high, '\t', '\r')) | blanks,
		.blank = blanks,
		.quote = bits(_mm256_cmpeq_epi8(low, quote), _mm256_cmpeq_epi8(high, quote)),
		.beyond = bits(low, high),
	};

	return window_starts(&w, p);
}

piece_starts_fn *piece_starts_avx2(void)
{
	return __builtin_cpu_supports("avx2") ? starts : NULL;
}
#else
piece_starts_fn *piece_starts_avx2(void)
{
	return NULL;
}
#endif
