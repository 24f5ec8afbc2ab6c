/* cuda_optim: rows of the decoder, one warp each: projected, normalised, measured */
#include "cuda.h"

#include "cu_sum.h"

static const float norm_floor = 1e-12f;

// <a,b> over row's C columns, in every lane
__device__ __forceinline__ float row_dot(const float *a, const float *b, size_t C, bool aligned)
{
	float s = 0;

	CU_UNROLL_BY(4)
	for (size_t c = own_column(); c < C; c += TILE)
		s += dot4(load4(a, c, C, aligned), load4(b, c, C, aligned));
	return warp_sum(s);
}

__global__ void __launch_bounds__(THREADS)
project_rows_kernel(float *__restrict__ g, const float *__restrict__ w, size_t F, size_t D, float least, bool aligned)
{
	const size_t row = own_row();

	if (row >= F)
		return;
	float *to = g + row * D;
	const float *from = w + row * D;
	const float norm = fmaxf(sqrtf(row_dot(from, from, D, aligned)), least);
	const float along = row_dot(to, from, D, aligned) / norm / norm;

	for (size_t c = own_column(); c < D; c += TILE)
		store4(to, c, D, aligned, each4(load4(to, c, D, aligned), load4(from, c, D, aligned),
						[along](float a, float b) { return a - along * b; }));
}

// g and w once, g back
void cuda_project_rows(real *g, const real *w, size_t F, size_t D)
{
	if (F * D == 0)
		return;
	CU_TRAFFIC(2 * F * D * sizeof(*g), F * D * sizeof(*g));
	LAUNCH(project_rows_kernel, row_grid(F), row_block(), 0, cuda_stream(), g, w, F, D, norm_floor,
	       aligned(D, g, w));
	cuda_launched("project_rows");
}

__global__ void __launch_bounds__(THREADS)
normalise_rows_kernel(float *w, size_t F, size_t D, float least, bool aligned)
{
	const size_t row = own_row();

	if (row >= F)
		return;
	float *own = w + row * D;
	const float norm = fmaxf(sqrtf(row_dot(own, own, D, aligned)), least);

	for (size_t c = own_column(); c < D; c += TILE)
		store4(own, c, D, aligned, each4(load4(own, c, D, aligned), [norm](float a) { return a / norm; }));
}

// w once and back
void cuda_normalise_rows(real *w, size_t F, size_t D)
{
	if (F * D == 0)
		return;
	CU_TRAFFIC(F * D * sizeof(*w), F * D * sizeof(*w));
	LAUNCH(normalise_rows_kernel, row_grid(F), row_block(), 0, cuda_stream(), w, F, D, norm_floor, aligned(D, w));
	cuda_launched("normalise_rows");
}

__global__ void __launch_bounds__(THREADS)
row_norms_kernel(float *__restrict__ norm, const float *__restrict__ w, size_t F, size_t D, bool aligned)
{
	const size_t row = own_row();

	if (row >= F)
		return;
	const float s = row_dot(w + row * D, w + row * D, D, aligned);

	if (threadIdx.x == 0)
		norm[row] = sqrtf(s);
}

// w once
void cuda_row_norms(real *norm, const real *w, size_t F, size_t D)
{
	if (F == 0)
		return;
	CU_TRAFFIC(F * D * sizeof(*w), F * sizeof(*norm));
	LAUNCH(row_norms_kernel, row_grid(F), row_block(), 0, cuda_stream(), norm, w, F, D, aligned(D, w));
	cuda_launched("row_norms");
}
