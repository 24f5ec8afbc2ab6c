#include "cu.h"

#include "demo.h"

struct alignas(16) eight {
	__nv_bfloat16 v[8];
};

__device__ __forceinline__ float warp_sum(float v)
{
	for (int o = 16; o; o >>= 1)
		v += __shfl_xor_sync(0xffffffffu, v, o);
	return v;
}

__device__ __forceinline__ float warp_max(float v)
{
	for (int o = 16; o; o >>= 1)
		v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, o));
	return v;
}

// The sum or maximum over the block, in every thread.
template <bool MAX> __device__ float block_reduce(float v)
{
	CU_SHARED(float, part, 32);
	const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = (int)blockDim.x >> 5;

	v = MAX ? warp_max(v) : warp_sum(v);
	__syncthreads();        // part may still be read from the call before
	if (lane == 0)
		part[warp] = v;
	__syncthreads();
	v = lane < warps ? part[lane] : MAX ? -INFINITY : 0.0f;
	return MAX ? warp_max(v) : warp_sum(v);
}

// One warp a row.
__global__ void __launch_bounds__(128)
layernorm_kernel(__nv_bfloat16 *__restrict__ y, float *mean, float *rstd, const __nv_bfloat16 *__restrict__ x,
		 const float *__restrict__ w, const float *__restrict__ b, int rows, int d)
{
	const int row = (int)(blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5)), lane = threadIdx.x & 31;

	if (row >= rows)
		return;
	const eight *from = reinterpret_cast<const eight *>(x + (size_t)row * (size_t)d);
	float sum = 0, squares = 0;
	for (int i = lane; i < d / 8; i += 32) {
		const eight p = from[i];
		for (int j = 0; j < 8; j++)
			sum += __bfloat162float(p.v[j]);
	}
	const float m = warp_sum(sum) / (float)d;
	for (int i = lane; i < d / 8; i += 32) {
		const eight p = from[i];
		for (int j = 0; j < 8; j++) {
			const float t = __bfloat162float(p.v[j]) - m;
			squares += t * t;
		}
	}
	const float r = rsqrtf(warp_sum(squares) / (float)d + 1e-5f);
	eight *to = reinterpret_cast<eight *>(y + (size_t)row * (size_t)d);
	for (int i = lane; i < d / 8; i += 32) {
		eight p = from[i];
		for (int j = 0; j < 8; j++)
			p.v[j] = __float2bfloat16((__bfloat162float(p.v[j]) - m) * r * w[i * 8 + j] + b[i * 8 + j]);
		to[i] = p;
	}
	if (lane == 0) {
		mean[row] = m;
		rstd[row] = r;
	}
}

// One block a row; an online maximum and sum, then the gradient in place.
__global__ void __launch_bounds__(256)
xent_kernel(float *__restrict__ loss, __nv_bfloat16 *logits, const int *__restrict__ target, int V, float scale)
{
	__nv_bfloat16 *row = logits + (size_t)blockIdx.x * (size_t)V;
	const int t = target[blockIdx.x];
	float m = -INFINITY, s = 0;

	for (int i = (int)threadIdx.x; i < V; i += (int)blockDim.x) {
		const float v = __bfloat162float(row[i]);
		if (v > m) {
			s *= __expf(m - v);
			m = v;
		}
		s += __expf(v - m);
	}
	const float max = block_reduce<true>(m);
	const float sum = block_reduce<false>(s * __expf(m - max));
	if (threadIdx.x == 0)
		loss[blockIdx.x] = __logf(sum) + max - __bfloat162float(row[t]);
	__syncthreads();        // thread 0 has read row[t] before anyone overwrites it
	for (int i = (int)threadIdx.x; i < V; i += (int)blockDim.x)
		row[i] = __float2bfloat16(scale * (__expf(__bfloat162float(row[i]) - max) / sum - (i == t ? 1.0f : 0.0f)));
}

__global__ void histogram_kernel(unsigned *count, const int *__restrict__ x, int n, int bins)
{
	CU_SHARED_DYN(unsigned, own);

	for (int i = (int)threadIdx.x; i < bins; i += (int)blockDim.x)
		own[i] = 0;
	__syncthreads();
	for (int i = (int)(blockIdx.x * blockDim.x + threadIdx.x); i < n; i += (int)(gridDim.x * blockDim.x))
		atomicAdd(&own[x[i]], 1u);
	__syncthreads();
	for (int i = (int)threadIdx.x; i < bins; i += (int)blockDim.x)
		if (own[i])
			atomicAdd(&count[i], own[i]);
}

// The last block to finish adds the partial sums.
__global__ void sum_kernel(float *out, float *part, unsigned *ticket, const float *__restrict__ x, int n)
{
	CU_SHARED(int, last, 1);
	float s = 0;

	for (int i = (int)(blockIdx.x * blockDim.x + threadIdx.x); i < n; i += (int)(gridDim.x * blockDim.x))
		s += x[i];
	s = block_reduce<false>(s);
	if (threadIdx.x == 0) {
		part[blockIdx.x] = s;
		__threadfence();
		last[0] = atomicAdd(ticket, 1u) == gridDim.x - 1;
		if (last[0])
			__threadfence();
	}
	__syncthreads();
	if (last[0]) {
		float t = 0;
		for (int i = (int)threadIdx.x; i < (int)gridDim.x; i += (int)blockDim.x)
			t += part[i];
		t = block_reduce<false>(t);
		if (threadIdx.x == 0) {
			*out = t;
			*ticket = 0;
		}
	}
}

// 32 x 8 threads, a 32 x 33 tile: no two lanes in one bank.
__global__ void transpose_kernel(float *__restrict__ y, const float *__restrict__ x, int rows, int columns)
{
	CU_SHARED(float, tile, 32 * 33);
	const int across = (int)threadIdx.x, column0 = (int)blockIdx.x * 32, row0 = (int)blockIdx.y * 32;

	for (int k = (int)threadIdx.y; k < 32; k += 8)
		if (column0 + across < columns && row0 + k < rows)
			tile[k * 33 + across] = x[(size_t)(row0 + k) * (size_t)columns + (size_t)(column0 + across)];
	__syncthreads();
	for (int k = (int)threadIdx.y; k < 32; k += 8)
		if (row0 + across < rows && column0 + k < columns)
			y[(size_t)(column0 + k) * (size_t)rows + (size_t)(row0 + across)] = tile[across * 33 + k];
}

__global__ void saxpy_kernel(float *__restrict__ y, const float *__restrict__ x, float a, int n)
{
	const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);

	if (i < n)
		y[i] += a * x[i];
}

// Bit operations that compilers make of shifts and masks.
__global__ void bits_kernel(unsigned *__restrict__ y, const unsigned *__restrict__ x, int n)
{
	const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);

	if (i >= n)
		return;
	const unsigned v = x[i], by = v & 31;
	const unsigned rotated = v << by | v >> ((32 - by) & 31);
	const unsigned long long wide = (unsigned long long)v * 0x9E3779B97F4A7C15ull;
	y[i] = rotated ^ (unsigned)(wide >> 32) ^ (v >> 3 & 0x1ffu) ^ (unsigned)__popc(v) << 7 ^ (unsigned)__clz((int)v) ^
	       __brev(v);
}

static const __nv_bfloat16 *bf16(const bf16_bits *p) { return reinterpret_cast<const __nv_bfloat16 *>(p); }
static __nv_bfloat16 *bf16(bf16_bits *p) { return reinterpret_cast<__nv_bfloat16 *>(p); }

cudaError_t demo_layernorm(bf16_bits *y, float *mean, float *rstd, const bf16_bits *x, const float *w,
			   const float *b, int rows, int d, cudaStream_t stream)
{
	CU_TRAFFIC((size_t)rows * (size_t)d * 2 + (size_t)d * 8, (size_t)rows * (size_t)d * 2 + (size_t)rows * 8);
	LAUNCH(layernorm_kernel, (unsigned)(rows + 3) / 4, 128, 0, stream, bf16(y), mean, rstd, bf16(x), w, b, rows, d);
	return cudaGetLastError();
}

cudaError_t demo_xent(float *loss, bf16_bits *logits, const int *target, int rows, int V, float scale,
		      cudaStream_t stream)
{
	CU_TRAFFIC((size_t)rows * (size_t)V * 2 + (size_t)rows * 4, (size_t)rows * (size_t)V * 2 + (size_t)rows * 4);
	LAUNCH(xent_kernel, (unsigned)rows, 256, 0, stream, loss, bf16(logits), target, V, scale);
	return cudaGetLastError();
}

cudaError_t demo_histogram(unsigned *count, const int *x, int n, int bins, cudaStream_t stream)
{
	CU_TRAFFIC((size_t)n * 4 + (size_t)bins * 4, (size_t)bins * 4);
	LAUNCH(histogram_kernel, 8, 256, sizeof(unsigned) * (size_t)bins, stream, count, x, n, bins);
	return cudaGetLastError();
}

cudaError_t demo_sum(float *out, float *part, unsigned *ticket, const float *x, int n, cudaStream_t stream)
{
	CU_TRAFFIC((size_t)n * 4 + 41 * 4, 42 * 4);
	// 64 threads: TSan remembers too little to see a missing fence among larger blocks
	LAUNCH(sum_kernel, 40, 64, 0, stream, out, part, ticket, x, n);
	return cudaGetLastError();
}

cudaError_t demo_transpose(float *y, const float *x, int rows, int columns, cudaStream_t stream)
{
	const dim3 grid((unsigned)(columns + 31) / 32, (unsigned)(rows + 31) / 32);

	CU_TRAFFIC((size_t)rows * (size_t)columns * 4, (size_t)rows * (size_t)columns * 4);
	LAUNCH(transpose_kernel, grid, dim3(32, 8), 0, stream, y, x, rows, columns);
	return cudaGetLastError();
}

cudaError_t demo_saxpy(float *y, const float *x, float a, int n, cudaStream_t stream)
{
	CU_TRAFFIC((size_t)n * 8, (size_t)n * 4);
	LAUNCH(saxpy_kernel, (unsigned)(n + 255) / 256, 256, 0, stream, y, x, a, n);
	return cudaGetLastError();
}

cudaError_t demo_bits(unsigned *y, const unsigned *x, int n, cudaStream_t stream)
{
	CU_TRAFFIC((size_t)n * 4, (size_t)n * 4);
	LAUNCH(bits_kernel, (unsigned)(n + 255) / 256, 256, 0, stream, y, x, n);
	return cudaGetLastError();
}
