#ifndef RNG_H
#define RNG_H
/*
 * rng: every random choice is hash(seed, purpose, a, b), never the state of a
 * stream, so any row, batch or weight can be recomputed alone.
 *
 *	uint64_t start = rng_below(rng_hash(seed, RNG_BATCH, iter, row), tokens - T);
 */
#include <math.h>
#include <stdint.h>
#include <xxhash.h>

enum rng_purpose {
	RNG_WINDOW = 1,         /* permutation of a token set's windows */
	RNG_POSITION,           /* which positions of a context are kept */
	RNG_ROW,                /* sort key of activation row (context, position) */
	RNG_BATCH,              /* gptrain's windows */
	RNG_INIT,               /* initial weights: a = tensor, b = element */
	RNG_PICK,               /* resample-pick */
	RNG_DRAW,               /* neuron resampling: a = event, b = row */
	RNG_SAMPLE,             /* interval examples: a = feature, b = token */
	RNG_VAL,                /* document split */
	RNG_TEST
};

static inline uint64_t rng_hash(uint64_t seed, enum rng_purpose purpose, uint64_t a, uint64_t b)
{
	const uint64_t key[4] = { seed, (uint64_t)purpose, a, b };

	return XXH3_64bits(key, sizeof(key));
}

/* [0, n) from 64 random bits; bias below n/2^64 */
static inline uint64_t rng_below(uint64_t h, uint64_t n)
{
	return (uint64_t)(__extension__ (unsigned __int128)h * n >> 64);
}

/* (0, 1): never 0, never 1 */
static inline double rng_uniform(uint64_t h)
{
	return ((double)(h >> 12) + 0.5) * 0x1p-52;
}

/* Standard normal (Box and Muller) for element i of a tensor */
static inline double rng_normal(uint64_t seed, enum rng_purpose purpose, uint64_t a, uint64_t i)
{
	const double u = rng_uniform(rng_hash(seed, purpose, a, 2 * i));
	const double v = rng_uniform(rng_hash(seed, purpose, a, 2 * i + 1));

	return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v);
}

/* A permutation of [0, n): four-round Feistel network over the next even
 * power of two, walked until it falls inside (Black and Rogaway 2002). */
static inline uint64_t rng_permute(uint64_t seed, enum rng_purpose purpose, uint64_t a,
				   uint64_t n, uint64_t i)
{
	unsigned half = 1;

	while (half < 32 && ((uint64_t)1 << (2 * half)) < n)
		half++;
	const uint64_t mask = ((uint64_t)1 << half) - 1;
	const uint64_t base = rng_hash(seed, purpose, a, n);

	do {
		uint64_t l = i >> half, r = i & mask;

		for (uint64_t round = 0; round < 4; round++) {
			const uint64_t t = l ^ (rng_hash(base, purpose, round, r) & mask);

			l = r;
			r = t;
		}
		i = l << half | r;
	} while (i >= n);
	return i;
}

#endif
