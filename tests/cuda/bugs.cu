// Planted bugs, one a kernel.  demo.c plants the others, which are the host's.
#include "cu.h"

#include "demo.h"

__global__ void missing_syncthreads(float *y, const float *x)
{
	CU_SHARED(float, s, 256);
	const int t = (int)threadIdx.x, i = (int)(blockIdx.x * blockDim.x) + t;

	s[t] = x[i];
	y[i] = s[255 - t];
}

__global__ void global_out_of_bounds(float *y, const float *x, int n)
{
	const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);

	if (i <= n)
		y[i] = x[i];
}

__global__ void shared_out_of_bounds(float *y, const float *x)
{
	CU_SHARED(float, s, 256);
	const int t = (int)threadIdx.x, i = (int)(blockIdx.x * blockDim.x) + t;

	s[t + 1] = x[i];
	__syncthreads();
	y[i] = s[t];
}

__global__ void plain_add_to_one_place(float *y, const float *x)
{
	y[0] += x[blockIdx.x * blockDim.x + threadIdx.x];
}

__global__ void mask_names_absent_lanes(float *y, const float *x)
{
	const int t = (int)threadIdx.x, i = (int)(blockIdx.x * blockDim.x) + t;

	if (t < 16)
		y[i] = __shfl_xor_sync(0xffffffffu, x[i], 1);
	__syncthreads();
}

__global__ void divergent_barriers(float *y)
{
	if (threadIdx.x < 128) {
		__syncthreads();
	} else {
		y[blockIdx.x * blockDim.x + threadIdx.x] = 0;
		__syncthreads();
	}
}

__global__ void misaligned_vector(float *y, const float *x)
{
	const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
	const float4 v = *reinterpret_cast<const float4 *>(x + (i & 63) + 1);

	y[i] = v.x + v.y + v.z + v.w;   // all four, or nvcc loads one alone
}

__global__ void uninitialised_shared(float *y)
{
	CU_SHARED(float, s, 256);

	y[blockIdx.x * blockDim.x + threadIdx.x] = s[threadIdx.x];
}

__global__ void missing_syncwarp(float *y, const float *x)
{
	CU_SHARED(float, s, 256);
	const int t = (int)threadIdx.x, i = (int)(blockIdx.x * blockDim.x) + t;

	s[t] = x[i];
	y[i] = s[t ^ 1];
}

__global__ void reads_another_block(float *y, const float *x)
{
	const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);

	y[i] = x[i];
	if (blockIdx.x > 0)
		y[i] += y[i - (int)blockDim.x];
}

__global__ void too_much_shared(float *y)
{
	CU_SHARED_DYN(float, s);

	s[threadIdx.x] = 0;
	y[threadIdx.x] = s[threadIdx.x];
}

cudaError_t demo_bug(int which, float *y, const float *x, int n, cudaStream_t stream)
{
	const unsigned blocks = (unsigned)n / 256;

	switch (which) {
	case 1: LAUNCH(missing_syncthreads, blocks, 256, 0, stream, y, x); break;
	case 2: LAUNCH(global_out_of_bounds, blocks + 1, 256, 0, stream, y, x, n); break;
	case 3: LAUNCH(shared_out_of_bounds, blocks, 256, 0, stream, y, x); break;
	case 4: LAUNCH(plain_add_to_one_place, blocks, 256, 0, stream, y, x); break;
	case 5: LAUNCH(mask_names_absent_lanes, blocks, 256, 0, stream, y, x); break;
	case 6: LAUNCH(divergent_barriers, blocks, 256, 0, stream, y); break;
	case 7: LAUNCH(misaligned_vector, blocks, 256, 0, stream, y, x); break;
	case 8: LAUNCH(uninitialised_shared, blocks, 256, 0, stream, y); break;
	case 9: LAUNCH(missing_syncwarp, blocks, 256, 0, stream, y, x); break;
	case 10: LAUNCH(reads_another_block, blocks, 256, 0, stream, y, x); break;
	case 11: LAUNCH(too_much_shared, 1, 256, 100 << 10, stream, y); break;   // without opting in
	default: return cudaErrorInvalidValue;
	}
	return cudaGetLastError();
}
