#ifndef DNN_H
#define DNN_H
/*
 * dnn: float32 matrix products of oneDNN (2.x or 3.x), on the calling thread
 * alone, so that a product of a given block is the same bytes whoever runs it.
 *
 *	dnn_gemm(&(struct dnn_gemm){ .M = n, .N = o, .K = i, .c = y, .ldc = o,
 *		.a = { x, i, 1 }, .b = { w, 1, i }, .bias = b });       y = x wᵀ + b
 *
 * Primitives are made at the first call of a shape and kept by the thread.
 */
#include <stdbool.h>
#include <stddef.h>

struct dnn_matrix {     /* element (i,j) is p[i·row + j·col]; one of the strides is 1 */
	const float *p;
	size_t row, col;
};

struct dnn_gemm {       /* c (M,N) = or += a (M,K) b (K,N) [+ bias (N)], then [relu] */
	size_t M, N, K;
	float *c;
	size_t ldc;
	struct dnn_matrix a, b;
	const float *bias;      /* NULL: none */
	bool accumulate, relu;
	bool bf16;              /* a and b rounded to bf16 first; products and sums stay float32 */
};

void dnn_gemm(const struct dnn_gemm *g);

#endif
