#ifndef CPU_BF16_H
#define CPU_BF16_H
/*
 * cpu_bf16: products of bf16 operands on 32 x 32 blocks (cpu_tile.h), written
 * once in cpu_bf16.inc and compiled for each kind of unit.  Operands are packed
 * first: a matrix of N rows and `depth` columns becomes units of 32 rows, each
 * `steps` steps of 32 columns, zeros where there is none.
 */
#include "cpu.h"

enum { BF16_UNIT = 32, BF16_BLOCK = BF16_UNIT * BF16_UNIT };

static inline size_t bf16_units(size_t n)
{
	return cpu_blocks(n, BF16_UNIT);
}

/*
 * One of the head's two passes over vocabulary and tokens.  Logits are taken in blocks of 32 x 32,
 * logit = w x - reference, in powers of 2, and E = 2^logit:
 *	forward: sum (tokens) += E, and for every unit of tokens  out (depth,32) += wᵀ E
 *	weights: for every unit of the vocabulary  out (steps,32,32) += E xs
 */
struct bf16_pass {
	const uint16_t *w, *x;          /* packed by rows and by columns */
	const uint16_t *second;         /* forward: wᵀ, or NULL without gradients; weights: xs */
	const float *negative;          /* (tokens) the reference, negated */
	float *sum, *out;
	size_t V, tokens, steps;        /* rows of w; units of x; steps of the depth */
};

struct cpu_bf16 {
	const char *name;
	/* A unit of `rows` <= 32 rows x, ld apart: as rows of the first operand, as columns of the second; and
	 * transposed, step by step of its columns, where rows i and i + 16 make a pair: as the first, the second. */
	void (*pack_rows)(uint16_t *to, const float *x, size_t ld, size_t rows, size_t depth);
	void (*pack_columns)(uint16_t *to, const float *x, size_t ld, size_t rows, size_t depth);
	void (*pack_rows_across)(uint16_t *to, const float *x, size_t ld, size_t rows, size_t depth);
	void (*pack_columns_across)(uint16_t *to, const float *x, size_t ld, size_t rows, size_t depth);
	void (*head_forward)(const struct bf16_pass *p);
	void (*head_weights)(const struct bf16_pass *p);
	/* c (32,32·units) = a b + bias (32·units): a unit of rows by units of columns */
	void (*strip)(float *c, const uint16_t *a, const uint16_t *b, const float *bias, size_t units, size_t steps);
	/* The units' limit, for measurements: n steps on operands in L1; returns the floating-point
	 * operations done. */
	double (*probe)(size_t n);
};

extern const struct cpu_bf16 cpu_bf16_plain, cpu_bf16_avx2, cpu_bf16_avx512bf16, cpu_bf16_amx;
/* The kind in use: the best that the processor has, or what cpu_bf16_use took. */
extern const struct cpu_bf16 *cpu_16;
/* For tests and measurements: "plain", "avx2", "avx512bf16", "amx"; false when the processor lacks it. */
bool cpu_bf16_use(const char *name);
void cpu_bf16_best(void);

#endif
