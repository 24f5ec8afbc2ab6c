/* cuda_sums: sums in double and what is made of them; AdamW.  The one place where double is meant.
 * A sum of n is cut into pieces of PIECE whatever the card, which one block then adds up. */
#include "cuda.h"

#include <math.h>

#include "cu_sum.h"

enum { PIECE = 4096 };

// part (gridDim.x): sums of x or, if SQUARE, of x² over a piece
template <bool SQUARE> __global__ void __launch_bounds__(THREADS)
sum_parts_kernel(double *__restrict__ part, const float *__restrict__ x, size_t n, bool aligned)
{
	const size_t first = (size_t)blockIdx.x * PIECE + 4 * threadIdx.x;
	double a = 0, b = 0, c = 0, d = 0;

	CU_UNROLL
	for (int k = 0; k < PIECE; k += 4 * THREADS) {
		const float4 v = load4(x, first + k, n, aligned);

		a += SQUARE ? (double)v.x * v.x : v.x;
		b += SQUARE ? (double)v.y * v.y : v.y;
		c += SQUARE ? (double)v.z * v.z : v.z;
		d += SQUARE ? (double)v.w * v.w : v.w;
	}
	const double sum = block_sum((a + b) + (c + d));

	if (threadIdx.x == 0)
		part[blockIdx.x] = sum;
}

// In every thread of the one block.
__device__ __forceinline__ double sum_of(const double *__restrict__ part, size_t n)
{
	double s = 0;

	CU_UNROLL_BY(4)
	for (size_t i = threadIdx.x; i < n; i += THREADS)
		s += part[i];
	return block_sum(s);
}

// *sum = or += (add) scale · sum of part (n)
__global__ void __launch_bounds__(THREADS)
sum_doubles_kernel(double *sum, const double *__restrict__ part, size_t n, double scale, bool add)
{
	const double s = scale * sum_of(part, n);

	if (threadIdx.x == 0)
		*sum = add ? *sum + s : s;
}

// norm = backend.h's clip of values whose squares add up to the sum of part (n)
__global__ void __launch_bounds__(THREADS)
clip_kernel(double *norm, const double *__restrict__ part, size_t n, double max)
{
	const double length = sqrt(sum_of(part, n));

	if (threadIdx.x == 0) {
		norm[0] = length;
		norm[1] = max > 0 ? fmin(1.0, max / (length + 1e-6)) : 1;
	}
}

// part (parts(n, PIECE)), with room for one more behind; x once
template <bool SQUARE> static double *sum_parts(const float *x, size_t n)
{
	const size_t P = parts(n, PIECE);
	double *part = static_cast<double *>(cuda_scratch(SCRATCH_SUMS, (P + 1) * sizeof(*part)));

	if (P == 0)
		return part;
	CU_TRAFFIC(n * sizeof(*x), P * sizeof(*part));
	LAUNCH((sum_parts_kernel<SQUARE>), (unsigned)P, THREADS, 0, cuda_stream(), part, x, n, aligned(0, x));
	return part;
}

static void total(double *sum, const double *part, size_t n, double scale, bool add)
{
	CU_TRAFFIC((n + add) * sizeof(*part), sizeof(*sum));
	LAUNCH(sum_doubles_kernel, 1, THREADS, 0, cuda_stream(), sum, part, n, scale, add);
}

void cuda_sum_doubles(double *sum, const double *part, size_t n, bool add)
{
	total(sum, part, n, 1, add);
	cuda_launched("sum_doubles");
}

void cuda_add_sum(double *sum, const real *x, size_t n, double scale)
{
	total(sum, sum_parts<false>(x, n), parts(n, PIECE), scale, true);
	cuda_launched("add_sum");
}

void cuda_clip(double norm[2], const real *g, size_t n, double max)
{
	const size_t P = parts(n, PIECE);
	const double *part = sum_parts<true>(g, n);

	CU_TRAFFIC(P * sizeof(*part), 2 * sizeof(*norm));
	LAUNCH(clip_kernel, 1, THREADS, 0, cuda_stream(), norm, part, P, max);
	cuda_launched("clip");
}

double cuda_sumsq(const real *x, size_t n)
{
	const size_t P = parts(n, PIECE);
	double *part = sum_parts<true>(x, n), sum;

	total(part + P, part, P, 1, false);
	cuda_launched("sumsq");
	cuda_get(&sum, part + P, sizeof(sum));
	return sum;
}

// x once; a 64th of it as partial sums
void cuda_column_sums(double *sum, const real *x, size_t N, size_t C)
{
	const size_t P = parts(N, PART_ROWS);
	double *part = static_cast<double *>(cuda_scratch(SCRATCH_SUMS, (P + 1) * C * sizeof(*part)));
	double own[512];

	if (N * C == 0)
		return;
	sum_columns(part + P * C, part, x, N, C, false, cuda_stream());
	cuda_launched("column_sums");
	for (size_t c = 0; c < C; c += 512) {
		const size_t n = C - c < 512 ? C - c : 512;

		cuda_get(own, part + P * C + c, n * sizeof(*own));
		for (size_t i = 0; i < n; i++)
			sum[c + i] += own[i];
	}
}

// ---- AdamW

// From the doubles.  A moment takes its share of what it lacks: beta2 itself, rounded, would settle
// at another mean.
struct adamw_constants {
	float share1, share2;   // 1 - beta
	float keep;             // 1 - lr wd
	float step;             // lr / (1 - beta1^t)
	float root;             // 1 / sqrt(1 - beta2^t)
	float eps;
};

__device__ __forceinline__ void adamw_one(float *p, float g, float *m, float *v, const adamw_constants &k)
{
	*m += k.share1 * (g - *m);
	*v += k.share2 * (g * g - *v);
	*p = *p * k.keep - k.step * *m / (sqrtf(*v) * k.root + k.eps);
}

__global__ void __launch_bounds__(THREADS)
adamw_kernel(float *__restrict__ p, const float *__restrict__ g, float *__restrict__ m, float *__restrict__ v, size_t n,
	     const double *__restrict__ gscale, adamw_constants k, bool aligned)
{
	const size_t i = 4 * ((size_t)blockIdx.x * THREADS + threadIdx.x);

	if (i >= n)
		return;
	const float scale = gscale ? (float)*gscale : 1;
	float4 pi = load4(p, i, n, aligned), mi = load4(m, i, n, aligned), vi = load4(v, i, n, aligned);
	const float4 gi = load4(g, i, n, aligned);

	adamw_one(&pi.x, scale * gi.x, &mi.x, &vi.x, k);
	adamw_one(&pi.y, scale * gi.y, &mi.y, &vi.y, k);
	adamw_one(&pi.z, scale * gi.z, &mi.z, &vi.z, k);
	adamw_one(&pi.w, scale * gi.w, &mi.w, &vi.w, k);
	store4(p, i, n, aligned, pi);
	store4(m, i, n, aligned, mi);
	store4(v, i, n, aligned, vi);
}

// p, g, m and v once, p, m and v back: 28 bytes a weight
void cuda_adamw(real *p, const real *g, real *m, real *v, size_t n, const double *gscale, double lr, double beta1,
		double beta2, double eps, double wd, uint64_t t)
{
	const adamw_constants k = {
		(float)(1 - beta1), (float)(1 - beta2), (float)(1 - lr * wd),
		(float)(lr / (1 - pow(beta1, (double)t))), (float)(1 / sqrt(1 - pow(beta2, (double)t))), (float)eps,
	};

	if (n == 0)
		return;
	CU_TRAFFIC(4 * n * sizeof(*p) + (gscale ? sizeof(*gscale) : 0), 3 * n * sizeof(*p));
	LAUNCH(adamw_kernel, (unsigned)parts(n, 4 * THREADS), THREADS, 0, cuda_stream(), p, g, m, v, n, gscale, k,
	       aligned(0, p, g, m, v));
	cuda_launched("adamw");
}
