#ifndef CPU_TILE_H
#define CPU_TILE_H
/*
 * cpu_tile: a block of 32 x 32 float32 sums of products of bf16, in the
 * matrix units (AMX) where the file is compiled for them, else in vectors.
 *
 *	struct tiles t;
 *	tiles_start();
 *	tiles_zero(&t);
 *	for (s = 0; s < steps; s++)
 *		tiles_step(&t, a + s * TILE_STEP, b + s * TILE_STEP);   c += a b
 *	tiles_store(&t, c, ld);
 *	tiles_stop();
 *
 * A step is 32 values deep.  Operand a of a step is 32 rows of 32 values; b is
 * 16 pairs of rows, columns 0-15 of all pairs before 16-31, a pair's two values
 * of a column side by side: value (k,j) at j/16·512 + k/2·32 + j%16·2 + k%2.
 * A thread has one block at a time.
 */
#include "cpu_vec.h"

enum { TILE = 32, TILE_STEP = TILE * TILE };

typedef uint32_t word __attribute__((may_alias));       /* a pair */

INLINE float bf16_value(uint16_t b)
{
	const uint32_t bits = (uint32_t)b << 16;
	float x;

	memcpy(&x, &bits, sizeof(x));
	return x;
}

/* to the nearest, ties to even; a NaN whose low bits are all set would become a zero: none is made here */
INLINE uint16_t bf16_of(float x)
{
	uint32_t bits;

	memcpy(&bits, &x, sizeof(bits));
	return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

#if defined(__AMX_TILE__) || defined(__AMXTILE__)     /* clang 14 spells it so */

/* tmm0-3 hold the block, a quarter each; tmm4-5 rows of a, tmm6-7 columns of b. */
struct tiles {
	char in_registers;
};

/* The instructions' operands in memory are unknown to the compiler. */
#define TILES_SEE_MEMORY() __asm__ volatile("" ::: "memory")

INLINE void tiles_start(void)
{
	static const struct {
		uint8_t palette, start_row, reserved[14];
		uint16_t bytes[16];             /* of a row */
		uint8_t rows[16];
	} config = { 1, 0, { 0 }, { 64, 64, 64, 64, 64, 64, 64, 64 }, { 16, 16, 16, 16, 16, 16, 16, 16 } };

	_tile_loadconfig(&config);
}

INLINE void tiles_stop(void) { _tile_release(); }

INLINE void tiles_zero(struct tiles *t)
{
	(void)t;
	_tile_zero(0);
	_tile_zero(1);
	_tile_zero(2);
	_tile_zero(3);
}

/* rows ld apart; ld 0: the same row in all */
INLINE void tiles_load(struct tiles *t, const float *c, size_t ld)
{
	const size_t bytes = ld * sizeof(*c);

	(void)t;
	TILES_SEE_MEMORY();
	_tile_loadd(0, c, bytes);
	_tile_loadd(1, c + 16, bytes);
	_tile_loadd(2, c + 16 * ld, bytes);
	_tile_loadd(3, c + 16 * ld + 16, bytes);
}

INLINE void tiles_step(struct tiles *t, const uint16_t *a, const uint16_t *b)
{
	(void)t;
	TILES_SEE_MEMORY();
	_tile_loadd(4, a, 64);
	_tile_loadd(6, b, 64);
	_tile_dpbf16ps(0, 4, 6);
	_tile_loadd(7, b + TILE_STEP / 2, 64);
	_tile_dpbf16ps(1, 4, 7);
	_tile_loadd(5, a + TILE_STEP / 2, 64);
	_tile_dpbf16ps(2, 5, 6);
	_tile_dpbf16ps(3, 5, 7);
}

INLINE void tiles_store(struct tiles *t, float *c, size_t ld)
{
	const size_t bytes = ld * sizeof(*c);

	(void)t;
	_tile_stored(0, c, bytes);
	_tile_stored(1, c + 16, bytes);
	_tile_stored(2, c + 16 * ld, bytes);
	_tile_stored(3, c + 16 * ld + 16, bytes);
	TILES_SEE_MEMORY();
}

#else

struct tiles {
	float c[TILE * TILE];
};

INLINE void tiles_start(void) { }
INLINE void tiles_stop(void) { }

INLINE void tiles_zero(struct tiles *t) { memset(t->c, 0, sizeof(t->c)); }

INLINE void tiles_load(struct tiles *t, const float *c, size_t ld)
{
	for (size_t r = 0; r < TILE; r++)
		memcpy(t->c + r * TILE, c + r * ld, TILE * sizeof(*c));
}

INLINE void tiles_store(struct tiles *t, float *c, size_t ld)
{
	for (size_t r = 0; r < TILE; r++)
		memcpy(c + r * ld, t->c + r * TILE, TILE * sizeof(*c));
}

/* s += the products of pairs; pair: the pair in all lanes */
#if defined(__AVX512BF16__)
INLINE vec v_pair(word pair) { return (vec)_mm512_set1_epi32((int)pair); }
INLINE vec v_dot_pairs(vec a, vec b, vec s) { return _mm512_dpbf16_ps(s, (__m512bh)a, (__m512bh)b); }
#else
INLINE vec v_pair(word pair)
{
	float bits;

	memcpy(&bits, &pair, sizeof(bits));
	return v_set(bits);
}
INLINE vec v_dot_pairs(vec a, vec b, vec s)
{
	return v_fma(v_high_half(a), v_high_half(b), v_fma(v_low_half(a), v_low_half(b), s));
}
#endif

enum { TILE_ROWS_AT_ONCE = LANES == 16 ? 8 : 4 };

/* rows x 2 vectors of the block, in registers */
INLINE void tiles_part(float *c, const uint16_t *a, const uint16_t *b0, const uint16_t *b1)
{
	vec s[TILE_ROWS_AT_ONCE][2];

	for (size_t r = 0; r < TILE_ROWS_AT_ONCE; r++)
		s[r][0] = v_load(c + r * TILE), s[r][1] = v_load(c + r * TILE + LANES);
	for (size_t k = 0; k < TILE / 2; k++) {
		const vec x0 = v_load((const float *)(const void *)(b0 + k * 32));
		const vec x1 = v_load((const float *)(const void *)(b1 + k * 32));

#pragma GCC unroll 8
		for (size_t r = 0; r < TILE_ROWS_AT_ONCE; r++) {
			const vec y = v_pair(((const word *)(const void *)(a + r * TILE))[k]);

			s[r][0] = v_dot_pairs(y, x0, s[r][0]);
			s[r][1] = v_dot_pairs(y, x1, s[r][1]);
		}
	}
	for (size_t r = 0; r < TILE_ROWS_AT_ONCE; r++)
		v_store(c + r * TILE, s[r][0]), v_store(c + r * TILE + LANES, s[r][1]);
}

INLINE void tiles_step(struct tiles *t, const uint16_t *a, const uint16_t *b)
{
	for (size_t j = 0; j < TILE; j += 2 * LANES) {
		const size_t second = j + LANES;
		const uint16_t *b0 = b + j / 16 * (TILE_STEP / 2) + j % 16 * 2;
		const uint16_t *b1 = b + second / 16 * (TILE_STEP / 2) + second % 16 * 2;

		for (size_t r = 0; r < TILE; r += TILE_ROWS_AT_ONCE)
			tiles_part(t->c + r * TILE + j, a + r * TILE, b0, b1);
	}
}

#endif
#endif
