#include "dtype.h"

#include <string.h>

#include "shard.h"

static const struct { const char *name; size_t size; unsigned digits; } known[] = {
	[DT_U16] = { "u16", 2, 0 }, [DT_U32] = { "u32", 4, 0 }, [DT_F16] = { "f16", 2, 11 },
	[DT_BF16] = { "bf16", 2, 8 }, [DT_F32] = { "f32", 4, 24 },
};

size_t dtype_size(enum dtype t)
{
	return known[t].size;
}

const char *dtype_name(enum dtype t)
{
	return known[t].name;
}

bool dtype_parse(const char *s, enum dtype *t)
{
	for (size_t i = 0; i < ARRAY_LEN(known); i++)
		if (!strcmp(s, known[i].name)) {
			*t = (enum dtype)i;
			return true;
		}
	return false;
}

unsigned dtype_digits(enum dtype t)
{
	return known[t].digits;
}

enum dtype dtype_of_digits(unsigned digits)
{
	for (size_t i = 0; i < ARRAY_LEN(known); i++)
		if (digits && known[i].digits == digits)
			return (enum dtype)i;
	BUG("no float has %u digits", digits);
}

static uint32_t bits_of(float x)
{
	uint32_t u;

	memcpy(&u, &x, sizeof(u));
	return u;
}

static float float_of(uint32_t u)
{
	float x;

	memcpy(&x, &u, sizeof(x));
	return x;
}

static float f16_value(uint16_t h)
{
	const uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31;
	const uint32_t mantissa = h & 0x3ff;

	if (exponent == 31)     /* infinity or NaN, made quiet */
		return float_of(sign | 0x7f800000 | mantissa << 13 | (mantissa ? 0x400000 : 0));
	if (exponent == 0) {    /* subnormal: mantissa · 2^-24, exact */
		const float x = (float)mantissa * 0x1p-24f;

		return sign ? -x : x;
	}
	return float_of(sign | (exponent + 112) << 23 | mantissa << 13);
}

static uint16_t f16_nearest(float x)
{
	const uint32_t u = bits_of(x), sign = u >> 16 & 0x8000, a = u & 0x7fffffff;

	if (a > 0x7f800000)
		return (uint16_t)(sign | 0x7e00 | (a >> 13 & 0x3ff));
	if (a >= 0x477ff000)    /* 65520 and above */
		return (uint16_t)(sign | 0x7c00);
	if (a < 0x38800000) {   /* below 2^-14: the float addition rounds to multiples of 2^-24 */
		const float shifted = float_of(a) + 0.5f;

		return (uint16_t)(sign | (bits_of(shifted) - 0x3f000000));
	}
	return (uint16_t)(sign | (a - 0x38000000 + 0xfff + (a >> 13 & 1)) >> 13);
}

static uint16_t bf16_nearest(float x)
{
	const uint32_t u = bits_of(x);

	if ((u & 0x7fffffff) > 0x7f800000)
		return (uint16_t)(u >> 16 | 0x40);
	return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

static void f16_to_f32(float *dst, const uint16_t *src, size_t n)
{
	for (size_t i = 0; i < n; i++)
		dst[i] = f16_value(src[i]);
}

static void f16_from_f32(uint16_t *dst, const float *src, size_t n)
{
	for (size_t i = 0; i < n; i++)
		dst[i] = f16_nearest(src[i]);
}

static void bf16_to_f32(float *dst, const uint16_t *src, size_t n)
{
	for (size_t i = 0; i < n; i++)
		dst[i] = float_of((uint32_t)src[i] << 16 | ((src[i] & 0x7fff) > 0x7f80 ? 0x400000 : 0));
}

static void bf16_from_f32(uint16_t *dst, const float *src, size_t n)
{
	for (size_t i = 0; i < n; i++)
		dst[i] = bf16_nearest(src[i]);
}

const struct dtype_ops dtype_plain = { f16_to_f32, f16_from_f32, bf16_to_f32, bf16_from_f32 };

static const struct dtype_ops *ops(void)
{
	const struct dtype_ops *fast = dtype_avx2();

	return fast ? fast : &dtype_plain;
}

void dtype_from_f32(enum dtype t, void *dst, const float *src, size_t n)
{
	if (t == DT_F32)
		memmove(dst, src, n * sizeof(*src));
	else if (t == DT_F16)
		ops()->f16_from_f32(dst, src, n);
	else if (t == DT_BF16)
		ops()->bf16_from_f32(dst, src, n);
	else
		BUG("%s is no float", dtype_name(t));
}

void dtype_to_f32(enum dtype t, float *dst, const void *src, size_t n)
{
	if (t == DT_F32)
		memmove(dst, src, n * sizeof(*dst));
	else if (t == DT_F16)
		ops()->f16_to_f32(dst, src, n);
	else if (t == DT_BF16)
		ops()->bf16_to_f32(dst, src, n);
	else
		BUG("%s is no float", dtype_name(t));
}
