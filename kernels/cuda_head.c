/*
 * cuda_head: the tied head with softmax cross-entropy, rows at a time.
 *
 * The logits of some rows lie whole in memory: x wᵀ is written by a product,
 * becomes its gradient P in place in one pass that yields nll (cuda_head.cu),
 * and is read by the products dx = P w and dw += Pᵀ x.  That is five times a
 * row of logits over the memory's bus, which is what the head costs; to cut the
 * vocabulary or few rows at a time would move more.  In CUDA_BF16 logits and P
 * are bf16, and all sums are float.
 */
#include "cuda.h"

/* Rows whose logits take a quarter of the card at most: they depend on the card, the mode and V alone, and
 * so does the order of dw's sums. */
static size_t rows_at_a_time(size_t row_bytes)
{
	size_t rows = 65536;

	while (rows > 64 && rows * row_bytes > cuda_memory() / 4)
		rows /= 2;
	return rows;
}

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* What the rows of a chunk share. */
struct head {
	enum cuda_mode mode;
	bool narrow;
	struct cuda_operand x, w;       /* (N,C), (V,C) */
	void *logits;
	size_t ld, C, V;                /* ld: V rounded up, so that rows are of 16 bytes */
};

/* the n rows of m from `start` on */
static struct cuda_operand rows_of(const struct head *h, struct cuda_operand m, size_t start)
{
	const size_t at = start * m.ld * (h->narrow ? 2 : sizeof(float));

	m.p = (const char *)m.p + at;
	return m;
}

static struct cuda_operand transposed(struct cuda_operand m)
{
	m.transposed = !m.transposed;
	return m;
}

static struct cuda_operand logits_of(const struct head *h)
{
	return (struct cuda_operand){ h->logits, h->ld, false };
}

/* logits (n,V) = x wᵀ */
static void forward(const struct head *h, size_t start, size_t n)
{
	const struct cuda_product p = {
		.c = h->logits, .ldc = h->ld, .a = rows_of(h, h->x, start), .b = transposed(h->w),
		.M = n, .N = h->V, .K = h->C, .alpha = 1, .narrow = h->narrow, .narrow_c = h->narrow,
	};

	cuda_multiply(h->mode, &p);
}

/* dx (n,C) = P w, dw (V,C) += Pᵀ x */
static void backward(const struct head *h, float *dx, float *dw, size_t start, size_t n)
{
	const struct cuda_product of_x = {
		.c = dx + start * h->C, .ldc = h->C, .a = logits_of(h), .b = h->w,
		.M = n, .N = h->C, .K = h->V, .alpha = 1, .narrow = h->narrow,
	};
	const struct cuda_product of_w = {
		.c = dw, .ldc = h->C, .a = transposed(logits_of(h)), .b = rows_of(h, h->x, start),
		.M = h->V, .N = h->C, .K = n, .alpha = 1, .beta = 1, .narrow = h->narrow,
	};

	cuda_multiply(h->mode, &of_x);
	cuda_multiply(h->mode, &of_w);
}

void cuda_lmhead(enum cuda_mode mode, real *nll, real *dx, real *dw, const real *x, const real *w,
		 const int32_t *targets, double scale, size_t N, size_t C, size_t V)
{
	const bool narrow = mode == CUDA_BF16;
	const size_t row_bytes = (V * (narrow ? 2 : sizeof(float)) + 15) / 16 * 16;
	const size_t rows = least(N, rows_at_a_time(row_bytes)), ld = row_bytes / (narrow ? 2 : sizeof(float));
	const struct head h = {
		mode, narrow, cuda_operand(mode, SCRATCH_X, x, N, C, false),
		cuda_operand(mode, SCRATCH_W, w, V, C, false), cuda_scratch(SCRATCH_LOGITS, rows * row_bytes),
		ld, C, V,
	};

	for (size_t start = 0; start < N; start += rows) {
		const size_t n = least(rows, N - start);

		forward(&h, start, n);
		cuda_cross_entropy(nll + start, h.logits, narrow, ld, x + start * C, w, targets + start,
				   (float)scale, dx != NULL, n, C, V);
		if (dx)
			backward(&h, dx, dw, start, n);
	}
}
