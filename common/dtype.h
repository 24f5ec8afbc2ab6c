#ifndef DTYPE_H
#define DTYPE_H
/*
 * dtype: the conversions of shard.h by themselves, plain and with AVX2 and
 * F16C, so that a test can hold one against the other.  Every float16 and
 * bfloat16 is exact in float32; the way back rounds to nearest, ties to even.
 * A NaN keeps its sign and upper payload bits and becomes quiet.
 */
#include "base.h"

struct dtype_ops {
	void (*f16_to_f32)(float *dst, const uint16_t *src, size_t n);
	void (*f16_from_f32)(uint16_t *dst, const float *src, size_t n);
	void (*bf16_to_f32)(float *dst, const uint16_t *src, size_t n);
	void (*bf16_from_f32)(uint16_t *dst, const float *src, size_t n);
};
extern const struct dtype_ops dtype_plain;
const struct dtype_ops *dtype_avx2(void);       /* NULL: not on this processor */

#endif
