#ifndef DEMO_H
#define DEMO_H
/*
 * demo: kernels that use what the backend's kernels use (shuffles, barriers,
 * dynamic shared memory, atomics, the last block, bf16), to test the emulator;
 * and kernels with a bug each, to see which check finds which.
 */
#include <cuda_runtime_api.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef uint16_t bf16_bits;

/* y (rows,d) = layernorm of x; d a multiple of 8 */
cudaError_t demo_layernorm(bf16_bits *y, float *mean, float *rstd, const bf16_bits *x, const float *w,
			   const float *b, int rows, int d, cudaStream_t stream);
/* loss (rows), and logits (rows,V) = scale (softmax - onehot of target) */
cudaError_t demo_xent(float *loss, bf16_bits *logits, const int *target, int rows, int V, float scale,
		      cudaStream_t stream);
cudaError_t demo_histogram(unsigned *count, const int *x, int n, int bins, cudaStream_t stream);
/* *out = sum of x, in an order that does not depend on the device; part (40), *ticket 0 */
cudaError_t demo_sum(float *out, float *part, unsigned *ticket, const float *x, int n, cudaStream_t stream);
cudaError_t demo_transpose(float *y, const float *x, int rows, int columns, cudaStream_t stream);
cudaError_t demo_saxpy(float *y, const float *x, float a, int n, cudaStream_t stream);
/* y = a mix of rotations, shifts, masks and counts of bits of x */
cudaError_t demo_bits(unsigned *y, const unsigned *x, int n, cudaStream_t stream);
/* n a multiple of 256 */
cudaError_t demo_bug(int which, float *y, const float *x, int n, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
