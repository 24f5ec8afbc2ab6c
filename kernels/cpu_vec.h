#ifndef CPU_VEC_H
#define CPU_VEC_H
/*
 * cpu_vec: a vector of LANES floats in the instruction set that the file is
 * compiled for, so that a kernel is written once and compiled for each.
 * + - * / are the compiler's; the rest has a name:
 *
 *	vec y = v_fma(v_set(a), v_load(x), v_load(y));          a x + y
 *
 * *_n take the first n < LANES lanes; the others load as 0, are not stored.
 */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline, unused))

#if defined(__AVX512F__) && defined(__AVX512DQ__)

#include <immintrin.h>

enum { LANES = 16 };
typedef __m512 vec;

INLINE vec v_load(const float *p) { return _mm512_loadu_ps(p); }
INLINE void v_store(float *p, vec a) { _mm512_storeu_ps(p, a); }
INLINE __mmask16 v_first(size_t n) { return (__mmask16)((1u << n) - 1); }
INLINE vec v_load_n(const float *p, size_t n) { return _mm512_maskz_loadu_ps(v_first(n), p); }
INLINE void v_store_n(float *p, vec a, size_t n) { _mm512_mask_storeu_ps(p, v_first(n), a); }
INLINE vec v_set(float a) { return _mm512_set1_ps(a); }
INLINE vec v_fma(vec a, vec b, vec c) { return _mm512_fmadd_ps(a, b, c); }
INLINE vec v_max(vec a, vec b) { return _mm512_max_ps(a, b); }
INLINE vec v_min(vec a, vec b) { return _mm512_min_ps(a, b); }
INLINE vec v_sqrt(vec a) { return _mm512_sqrt_ps(a); }
INLINE vec v_abs(vec a) { return _mm512_abs_ps(a); }
/* x < 0 ? a : b */
INLINE vec v_where_negative(vec x, vec a, vec b)
{
	return _mm512_mask_blend_ps(_mm512_movepi32_mask(_mm512_castps_si512(x)), b, a);
}
/* x > 0 ? a : 0 */
INLINE vec v_where_positive(vec x, vec a)
{
	return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_GT_OQ), a);
}
/* bit i: lane i > 0 */
INLINE uint32_t v_active(vec x) { return _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_NLE_UQ); }
/* a 2^n for the integer n in the low bits of m, as v_exp makes it */
INLINE vec v_scale(vec a, vec m)
{
	return (vec)_mm512_add_epi32((__m512i)a, _mm512_slli_epi32((__m512i)m, 23));
}
INLINE vec v_round(vec a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
/* a 2^n, n integral */
INLINE vec v_ldexp(vec a, vec n) { return _mm512_scalef_ps(a, n); }
INLINE float v_sum(vec a) { return _mm512_reduce_add_ps(a); }
/* bf16 in pairs: the low and the high halves of lanes as floats; and two vectors rounded and joined */
INLINE vec v_low_half(vec a) { return (vec)_mm512_slli_epi32((__m512i)a, 16); }
INLINE vec v_high_half(vec a) { return (vec)_mm512_and_si512((__m512i)a, _mm512_set1_epi32((int)0xffff0000)); }
INLINE vec v_join_halves(vec low, vec high)
{
	const __m512i half = _mm512_set1_epi32(0x8000);

	low = (vec)_mm512_srli_epi32(_mm512_add_epi32((__m512i)low, half), 16);
	return (vec)_mm512_mask_blend_epi16(0xaaaaaaaau, (__m512i)low, _mm512_add_epi32((__m512i)high, half));
}

#elif defined(__AVX2__) && defined(__FMA__)

#include <immintrin.h>

enum { LANES = 8 };
typedef __m256 vec;

INLINE vec v_load(const float *p) { return _mm256_loadu_ps(p); }
INLINE void v_store(float *p, vec a) { _mm256_storeu_ps(p, a); }
INLINE __m256i v_first(size_t n)
{
	static const int32_t ones[2 * LANES] = { -1, -1, -1, -1, -1, -1, -1, -1 };

	return _mm256_loadu_si256((const __m256i_u *)(ones + LANES - n));
}
INLINE vec v_load_n(const float *p, size_t n) { return _mm256_maskload_ps(p, v_first(n)); }
INLINE void v_store_n(float *p, vec a, size_t n) { _mm256_maskstore_ps(p, v_first(n), a); }
INLINE vec v_set(float a) { return _mm256_set1_ps(a); }
INLINE vec v_fma(vec a, vec b, vec c) { return _mm256_fmadd_ps(a, b, c); }
INLINE vec v_max(vec a, vec b) { return _mm256_max_ps(a, b); }
INLINE vec v_min(vec a, vec b) { return _mm256_min_ps(a, b); }
INLINE vec v_sqrt(vec a) { return _mm256_sqrt_ps(a); }
INLINE vec v_abs(vec a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
INLINE vec v_where_negative(vec x, vec a, vec b) { return _mm256_blendv_ps(b, a, x); }
INLINE vec v_where_positive(vec x, vec a)
{
	return _mm256_and_ps(_mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_GT_OQ), a);
}
INLINE uint32_t v_active(vec x)
{
	return (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_NLE_UQ));
}
INLINE vec v_scale(vec a, vec m)
{
	return (vec)_mm256_add_epi32((__m256i)a, _mm256_slli_epi32((__m256i)m, 23));
}
INLINE vec v_round(vec a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
INLINE vec v_ldexp(vec a, vec n)
{
	n = _mm256_min_ps(_mm256_set1_ps(127), _mm256_max_ps(_mm256_set1_ps(-126), n));
	return (vec)_mm256_add_epi32((__m256i)a, _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23));
}
INLINE vec v_low_half(vec a) { return (vec)_mm256_slli_epi32((__m256i)a, 16); }
INLINE vec v_high_half(vec a) { return (vec)_mm256_and_si256((__m256i)a, _mm256_set1_epi32((int)0xffff0000)); }
INLINE vec v_join_halves(vec low, vec high)
{
	const __m256i half = _mm256_set1_epi32(0x8000);

	low = (vec)_mm256_srli_epi32(_mm256_add_epi32((__m256i)low, half), 16);
	return (vec)_mm256_blend_epi16((__m256i)low, _mm256_add_epi32((__m256i)high, half), 0xaa);
}
INLINE float v_sum(vec a)
{
	__m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));

	s = _mm_add_ps(s, _mm_movehl_ps(s, s));
	return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

#else

enum { LANES = 4 };
typedef float vec __attribute__((vector_size(16)));
typedef int32_t vec_int __attribute__((vector_size(16)));

INLINE vec v_load(const float *p) { vec a; memcpy(&a, p, sizeof(a)); return a; }
INLINE void v_store(float *p, vec a) { memcpy(p, &a, sizeof(a)); }
INLINE vec v_load_n(const float *p, size_t n) { vec a = { 0 }; memcpy(&a, p, n * sizeof(*p)); return a; }
INLINE void v_store_n(float *p, vec a, size_t n) { memcpy(p, &a, n * sizeof(*p)); }
INLINE vec v_set(float a) { return (vec){ a, a, a, a }; }
INLINE vec v_fma(vec a, vec b, vec c) { return a * b + c; }
INLINE vec v_pick(vec_int m, vec a, vec b) { return (vec)((m & (vec_int)a) | (~m & (vec_int)b)); }
INLINE vec v_max(vec a, vec b) { return v_pick((vec_int)(a > b), a, b); }
INLINE vec v_min(vec a, vec b) { return v_pick((vec_int)(a < b), a, b); }
INLINE vec v_sqrt(vec a) { return (vec){ sqrtf(a[0]), sqrtf(a[1]), sqrtf(a[2]), sqrtf(a[3]) }; }
INLINE vec v_abs(vec a) { return (vec)((vec_int)a & INT32_MAX); }
INLINE vec v_where_negative(vec x, vec a, vec b) { return v_pick((vec_int)x >> 31, a, b); }
INLINE vec v_where_positive(vec x, vec a) { return (vec)((vec_int)(x > 0) & (vec_int)a); }
INLINE uint32_t v_active(vec x)
{
	const vec_int not = ~(vec_int)(x <= 0) & 1;

	return (uint32_t)(not[0] | not[1] << 1 | not[2] << 2 | not[3] << 3);
}
INLINE vec v_scale(vec a, vec m) { return (vec)((vec_int)a + ((vec_int)m << 23)); }
INLINE vec v_round(vec a)
{
	const vec shift = v_set(12582912.0f);           /* 1.5·2^23 */

	a = v_min(v_set(4e6f), v_max(v_set(-4e6f), a));
	return (a + shift) - shift;
}
INLINE vec v_ldexp(vec a, vec n)
{
	n = v_min(v_set(127), v_max(v_set(-126), n));
	return (vec)((vec_int)a + (__builtin_convertvector(n, vec_int) << 23));
}
INLINE vec v_low_half(vec a) { return (vec)((vec_int)a << 16); }
INLINE vec v_high_half(vec a) { return (vec)((vec_int)a & (int32_t)0xffff0000); }
INLINE vec v_join_halves(vec low, vec high)
{
	typedef uint32_t vec_bits __attribute__((vector_size(16)));

	return (vec)(((vec_bits)low + 0x8000) >> 16 | (((vec_bits)high + 0x8000) & 0xffff0000));
}
INLINE float v_sum(vec a) { return (a[0] + a[2]) + (a[1] + a[3]); }

#endif

/* e^x to about an ulp for x in [-87, 88], clamped outside (Moshier, Cephes expf) */
INLINE vec v_exp(vec x)
{
	x = v_min(v_set(88.0f), v_max(v_set(-87.0f), x));         /* in this order a NaN stays */
	const vec shift = v_set(12582912.0f);           /* 1.5·2^23: leaves n in the low bits */
	const vec m = v_fma(x, v_set(1.44269504f), shift), n = m - shift;
	const vec r = v_fma(n, v_set(2.12194440e-4f), v_fma(n, v_set(-0.693359375f), x));
	vec p = v_set(1.9875691500e-4f);

	p = v_fma(p, r, v_set(1.3981999507e-3f));
	p = v_fma(p, r, v_set(8.3334519073e-3f));
	p = v_fma(p, r, v_set(4.1665795894e-2f));
	p = v_fma(p, r, v_set(1.6666665459e-1f));
	p = v_fma(p, r, v_set(5.0000001201e-1f));
	return v_scale(v_fma(p * r, r, r) + v_set(1), m);
}

/* 2^x, relative error 1e-7: fitted at Chebyshev nodes.  Beyond the range of floats it saturates, or
 * overflows to infinity. */
INLINE vec v_exp2(vec x)
{
	const vec n = v_round(x), r = x - n;
	vec p = v_set(1.3400432165e-3f);

	p = v_fma(p, r, v_set(9.6760370978e-3f));
	p = v_fma(p, r, v_set(5.5503272142e-2f));
	p = v_fma(p, r, v_set(2.4022107356e-1f));
	p = v_fma(p, r, v_set(6.9314720671e-1f));
	p = v_fma(p, r, v_set(1.0000000755f));
	return v_ldexp(p, n);
}

#endif
