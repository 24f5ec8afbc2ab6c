#ifndef CUSIM_GEMM_H
#define CUSIM_GEMM_H
/*
 * gemm: the arithmetic behind cuBLAS.  Matrices are column-major, as there.
 * Sums are in double in one fixed order: the same operands give the same bytes.
 */
#include "emulator.h"

#include <library_types.h>

namespace cusim {

// What the device's matrix units would see of a float operand.
enum operand_rounding { EXACT, TO_TF32, TO_BF16 };

struct matrix {
	const void *data;
	cudaDataType type;
	size_t rows, columns, leading;
	long long stride;       // elements from one of the batch to the next
};

struct product {                // D = activation(alpha op(A) op(B) + beta C + bias)
	bool transpose_a, transpose_b;
	size_t m, n, k;         // D is m by n
	int batch;
	float alpha, beta;
	matrix a, b, c, d;
	operand_rounding rounding;
	const void *bias;       // m values of bias_type, or NULL
	cudaDataType bias_type;
	bool relu;
};

size_t element_bytes(cudaDataType type);
void check_operands(const product &p);  // dies when one runs past its allocation
void multiply(const product &p);        // one launch, counted

} // namespace cusim

#endif
