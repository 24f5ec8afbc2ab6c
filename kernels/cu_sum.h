#ifndef CU_SUM_H
#define CU_SUM_H
/*
 * cu_sum: what kernels over rows share: four columns at a time, sums over a
 * warp, a block, the rows of a matrix.  Every sum has one order, whatever the
 * card.
 *
 *	LAUNCH(scale_rows_kernel, row_grid(N, C), row_block(), 0, cuda_stream(), y, x, N, C, aligned(C, y, x));
 *
 * A row is one warp's, which goes through it TILE columns at a time: lane l has
 * columns 4l … 4l+3, as one access of 16 bytes where rows are aligned.
 */
#include <stdint.h>

#include "cu.h"

enum { LANES = 32, WARPS = 8, THREADS = LANES * WARPS, TILE = 4 * LANES };

// May rows of C floats from these addresses be read 16 bytes at a time?
template <class... P> static inline bool aligned(size_t C, const P *...p)
{
	return C % 4 == 0 && ((reinterpret_cast<uintptr_t>(p) % 16 == 0) && ...);
}

static inline size_t parts(size_t n, size_t size) { return (n + size - 1) / size; }

// One warp a row; where rows are long, several, each with every gridDim.y-th of some tiles.
static inline dim3 row_block() { return dim3(LANES, WARPS); }
static inline dim3 row_grid(size_t N) { return dim3((unsigned)parts(N, WARPS)); }
static inline dim3 row_grid(size_t N, size_t C)
{
	const size_t across = parts(C, 8 * TILE);

	return dim3((unsigned)parts(N, WARPS), (unsigned)(across < 65535 ? across : 65535));
}

__device__ __forceinline__ size_t own_row() { return (size_t)blockIdx.x * WARPS + threadIdx.y; }
__device__ __forceinline__ size_t own_column() { return 4 * (size_t)threadIdx.x; }
__device__ __forceinline__ size_t first_column() { return ((size_t)blockIdx.y * LANES + threadIdx.x) * 4; }
__device__ __forceinline__ size_t next_column() { return (size_t)gridDim.y * TILE; }

// x[i] … x[i + 3] of n; what lies behind the end is 0
__device__ __forceinline__ float4 load4(const float *x, size_t i, size_t n, bool aligned)
{
	if (aligned && i + 4 <= n)
		return *reinterpret_cast<const float4 *>(x + i);
	return make_float4(i < n ? x[i] : 0, i + 1 < n ? x[i + 1] : 0, i + 2 < n ? x[i + 2] : 0,
			   i + 3 < n ? x[i + 3] : 0);
}

__device__ __forceinline__ void store4(float *x, size_t i, size_t n, bool aligned, float4 v)
{
	if (aligned && i + 4 <= n) {
		*reinterpret_cast<float4 *>(x + i) = v;
		return;
	}
	if (i < n)
		x[i] = v.x;
	if (i + 1 < n)
		x[i + 1] = v.y;
	if (i + 2 < n)
		x[i + 2] = v.z;
	if (i + 3 < n)
		x[i + 3] = v.w;
}

// f of each of the four
template <class F> __device__ __forceinline__ float4 each4(float4 a, F f)
{
	return make_float4(f(a.x), f(a.y), f(a.z), f(a.w));
}

template <class F> __device__ __forceinline__ float4 each4(float4 a, float4 b, F f)
{
	return make_float4(f(a.x, b.x), f(a.y, b.y), f(a.z, b.z), f(a.w, b.w));
}

__device__ __forceinline__ float4 add4(float4 a, float4 b)
{
	return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
}

// v of x[i] … x[i + 3], 0 behind the end of n
__device__ __forceinline__ float4 cut4(float4 v, size_t i, size_t n)
{
	return make_float4(i < n ? v.x : 0, i + 1 < n ? v.y : 0, i + 2 < n ? v.z : 0, i + 3 < n ? v.w : 0);
}

__device__ __forceinline__ float sum4(float4 v) { return (v.x + v.y) + (v.z + v.w); }
__device__ __forceinline__ float dot4(float4 a, float4 b)
{
	return (a.x * b.x + a.y * b.y) + (a.z * b.z + a.w * b.w);
}

// In every lane; all 32 must come.
template <class S> __device__ __forceinline__ S warp_sum(S v)
{
	for (int o = LANES / 2; o; o /= 2)
		v += __shfl_xor_sync(0xffffffffu, v, o);
	return v;
}

__device__ __forceinline__ float warp_max(float v)
{
	for (int o = LANES / 2; o; o /= 2)
		v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, o));
	return v;
}

// In every thread of a block of THREADS; once in a kernel.
template <class S> __device__ __forceinline__ S block_sum(S v)
{
	CU_SHARED(S, part, WARPS);
	const unsigned lane = threadIdx.x % LANES, warp = threadIdx.x / LANES;

	v = warp_sum(v);
	if (lane == 0)
		part[warp] = v;
	__syncthreads();
	return warp_sum(lane < WARPS ? part[lane] : 0);
}

// ---- sums of columns, in S.  First the rows in parts of PART_ROWS, then the parts.

enum { PART_ROWS = 128 };

// part (gridDim.x,C): each block adds up PART_ROWS rows of TILE columns; its warp w takes rows w, w + WARPS, …
template <class S> __global__ void __launch_bounds__(THREADS)
column_parts_kernel(S *__restrict__ part, const float *__restrict__ x, size_t N, size_t C, bool aligned)
{
	CU_SHARED(S, sums, WARPS * TILE);
	const size_t tile = (size_t)blockIdx.y * TILE, c = tile + own_column();
	const size_t first = (size_t)blockIdx.x * PART_ROWS, end = first + PART_ROWS < N ? first + PART_ROWS : N;
	S a = 0, b = 0, d = 0, e = 0;

	CU_UNROLL_BY(4)
	for (size_t r = first + threadIdx.y; r < end; r += WARPS) {
		const float4 v = load4(x + r * C, c, C, aligned);

		a += v.x, b += v.y, d += v.z, e += v.w;
	}
	S *own = sums + threadIdx.y * TILE + own_column();

	own[0] = a, own[1] = b, own[2] = d, own[3] = e;
	__syncthreads();
	const unsigned t = threadIdx.y * LANES + threadIdx.x;

	if (t >= TILE || tile + t >= C)
		return;
	S total = 0;

	for (unsigned w = 0; w < WARPS; w++)
		total += sums[w * TILE + t];
	part[blockIdx.x * C + tile + t] = total;
}

// a (C) and, where gridDim.y is 2, b (C) = or += (add) column sums of part (P,C·gridDim.y); warp w takes
// rows w, w + WARPS, … of 32 columns
template <class S> __global__ void __launch_bounds__(THREADS)
column_totals_kernel(S *a, S *b, const S *__restrict__ part, size_t P, size_t C, bool add)
{
	CU_SHARED(S, sums, WARPS * LANES);
	const size_t c = (size_t)blockIdx.x * LANES + threadIdx.x;
	S s = 0;

	CU_UNROLL_BY(4)
	for (size_t r = threadIdx.y; r < P && c < C; r += WARPS)
		s += part[(r * gridDim.y + blockIdx.y) * C + c];
	sums[threadIdx.y * LANES + threadIdx.x] = s;
	__syncthreads();
	if (threadIdx.y > 0 || c >= C)
		return;
	for (unsigned w = 1; w < WARPS; w++)
		s += sums[w * LANES + threadIdx.x];
	S *to = (blockIdx.y ? b : a) + c;

	*to = add ? *to + s : s;
}

// Both kernels on x (N,C); part: room for parts(N, PART_ROWS)·C
template <class S>
static inline void sum_columns(S *sum, S *part, const float *x, size_t N, size_t C, bool add, cudaStream_t stream)
{
	const size_t P = parts(N, PART_ROWS);

	if (P == 0) {   // no parts: nothing is added
		if (!add)
			cudaMemsetAsync(sum, 0, C * sizeof(S), stream);
		return;
	}
	CU_TRAFFIC(N * C * sizeof(*x), P * C * sizeof(S));
	LAUNCH((column_parts_kernel<S>), dim3((unsigned)P, (unsigned)parts(C, TILE)), row_block(), 0, stream, part, x,
	       N, C, aligned(C, x));
	CU_TRAFFIC((P + add) * C * sizeof(S), C * sizeof(S));
	LAUNCH((column_totals_kernel<S>), dim3((unsigned)parts(C, LANES)), row_block(), 0, stream, sum, (S *)NULL,
	       part, P, C, add);
}

#endif
