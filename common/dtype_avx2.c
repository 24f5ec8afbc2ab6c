/* The conversions of dtype.c, eight values at a time. */
#include "dtype.h"

#if defined(__AVX2__) && defined(__F16C__)
#include <immintrin.h>

/* = f16_to_f32 */
static void f16_to_f32(float *dst, const uint16_t *src, size_t n)
{
	size_t i = 0;

	for (; i + 8 <= n; i += 8)
		_mm256_storeu_ps(dst + i, _mm256_cvtph_ps(_mm_loadu_si128((const void *)(src + i))));
	dtype_plain.f16_to_f32(dst + i, src + i, n - i);
}

/* = f16_from_f32 */
static void f16_from_f32(uint16_t *dst, const float *src, size_t n)
{
	size_t i = 0;

	for (; i + 8 <= n; i += 8)
		_mm_storeu_si128((void *)(dst + i),
				 _mm256_cvtps_ph(_mm256_loadu_ps(src + i), _MM_FROUND_TO_NEAREST_INT));
	dtype_plain.f16_from_f32(dst + i, src + i, n - i);
}

/* = bf16_to_f32 */
static void bf16_to_f32(float *dst, const uint16_t *src, size_t n)
{
	const __m256i infinity = _mm256_set1_epi32(0x7f800000), quiet = _mm256_set1_epi32(0x400000);
	const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
	size_t i = 0;

	for (; i + 8 <= n; i += 8) {
		const __m256i half = _mm256_cvtepu16_epi32(_mm_loadu_si128((const void *)(src + i)));
		const __m256i u = _mm256_slli_epi32(half, 16);
		const __m256i nan = _mm256_cmpgt_epi32(_mm256_and_si256(u, magnitude), infinity);

		_mm256_storeu_si256((void *)(dst + i), _mm256_or_si256(u, _mm256_and_si256(nan, quiet)));
	}
	dtype_plain.bf16_to_f32(dst + i, src + i, n - i);
}

/* = bf16_from_f32 */
static void bf16_from_f32(uint16_t *dst, const float *src, size_t n)
{
	const __m256i infinity = _mm256_set1_epi32(0x7f800000), quiet = _mm256_set1_epi32(0x40);
	const __m256i magnitude = _mm256_set1_epi32(0x7fffffff), one = _mm256_set1_epi32(1);
	const __m256i half = _mm256_set1_epi32(0x7fff);
	size_t i = 0;

	for (; i + 8 <= n; i += 8) {
		const __m256i u = _mm256_loadu_si256((const void *)(src + i));
		const __m256i nan = _mm256_cmpgt_epi32(_mm256_and_si256(u, magnitude), infinity);
		const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), one);
		const __m256i up = _mm256_add_epi32(u, _mm256_add_epi32(half, odd));
		const __m256i kept = _mm256_or_si256(_mm256_srli_epi32(u, 16), quiet);
		const __m256i r = _mm256_blendv_epi8(_mm256_srli_epi32(up, 16), kept, nan);
		const __m128i packed = _mm_packus_epi32(_mm256_castsi256_si128(r), _mm256_extracti128_si256(r, 1));

		_mm_storeu_si128((void *)(dst + i), packed);
	}
	dtype_plain.bf16_from_f32(dst + i, src + i, n - i);
}

static const struct dtype_ops avx2 = { f16_to_f32, f16_from_f32, bf16_to_f32, bf16_from_f32 };

/* F16C is older than AVX2: a processor with the latter has both. */
const struct dtype_ops *dtype_avx2(void)
{
	return __builtin_cpu_supports("avx2") ? &avx2 : NULL;
}
#else
const struct dtype_ops *dtype_avx2(void)
{
	return NULL;
}
#endif
