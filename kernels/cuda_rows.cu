/* cuda_rows: embedding, layernorm, GELU, copies and sums of rows.  All are bound by bytes: each is
 * read once and written once, 16 at a time where rows are aligned. */
#include "cuda.h"

#include "cu_sum.h"

static const float layernorm_eps = 1e-5f;

// ---- embedding

__global__ void __launch_bounds__(THREADS)
embed_fwd_kernel(float *__restrict__ x, const int32_t *__restrict__ idx, const float *__restrict__ wte,
		 const float *__restrict__ wpe, size_t N, size_t T, size_t C, bool aligned)
{
	const size_t row = own_row();

	if (row >= N)
		return;
	const float *token = wte + (size_t)idx[row] * C, *position = wpe + row % T * C;

	for (size_t c = first_column(); c < C; c += next_column())
		store4(x + row * C, c, C, aligned,
		       add4(load4(token, c, C, aligned), load4(position, c, C, aligned)));
}

// x and idx once, wpe once, of wte at most as many rows as x has
void cuda_embed_fwd(real *x, const int32_t *idx, const real *wte, const real *wpe, size_t B, size_t T, size_t C)
{
	const size_t N = B * T;

	if (N * C == 0)
		return;
	CU_TRAFFIC(N * sizeof(*idx) + (N + T) * C * sizeof(*x), N * C * sizeof(*x));
	LAUNCH(embed_fwd_kernel, row_grid(N, C), row_block(), 0, cuda_stream(), x, idx, wte, wpe, N, T, C,
	       aligned(C, x, wte, wpe));
	cuda_launched("embed_fwd");
}

/*
 * The gradient of wte adds up rows of equal tokens in the order of their
 * positions.  token_sort and token_rank sort the pairs (token, position): in
 * pieces of SORT, then by counting what is less in the other pieces.  They move
 * 36 bytes a position, the sums 4C.
 */
enum { SORT = 1024, RUN_WARPS = TILE / LANES };
typedef unsigned long long token_key;   // token << 32 | position

// key, ascending in each piece of SORT (bitonic); each thread has two
__global__ void __launch_bounds__(SORT / 2)
token_sort_kernel(token_key *__restrict__ key, const int32_t *__restrict__ idx, unsigned N)
{
	CU_SHARED(token_key, own, SORT);
	const unsigned t = threadIdx.x, first = blockIdx.x * SORT;

	for (unsigned k = t; k < SORT; k += SORT / 2)
		own[k] = first + k < N ? (token_key)(unsigned)idx[first + k] << 32 | (first + k) : ~0ull;
	for (unsigned size = 2; size <= SORT; size *= 2)
		for (unsigned step = size / 2; step; step /= 2) {
			const unsigned a = 2 * t - (t & (step - 1)), b = a + step;

			__syncthreads();
			const token_key low = own[a], high = own[b];

			if ((low > high) == !(a & size)) {
				own[a] = high;
				own[b] = low;
			}
		}
	__syncthreads();
	for (unsigned k = t; k < SORT && first + k < N; k += SORT / 2)
		key[first + k] = own[k];
}

// sorted (N): key's place is the number of lesser ones, found by bisection in each piece
__global__ void __launch_bounds__(THREADS)
token_rank_kernel(token_key *__restrict__ sorted, const token_key *__restrict__ key, unsigned N)
{
	const unsigned i = blockIdx.x * THREADS + threadIdx.x;
	unsigned place = 0;

	if (i >= N)
		return;
	const token_key own = key[i];

	CU_UNROLL_BY(4)
	for (unsigned first = 0; first < N; first += SORT) {
		unsigned less = 0;

		CU_UNROLL
		for (unsigned step = SORT; step; step /= 2)
			if (less + step <= SORT && first + less + step <= N && key[first + less + step - 1] < own)
				less += step;
		place += less;
	}
	sorted[place] = own;
}

// dwte (V,C) +=; one block a token, at the first of its keys; warp w takes runs w, w + RUN_WARPS, … of 32 keys
__global__ void __launch_bounds__(RUN_WARPS * LANES)
token_sums_kernel(float *__restrict__ dwte, const float *__restrict__ dx, const token_key *__restrict__ sorted,
		  size_t N, size_t C, bool aligned)
{
	CU_SHARED(float4, sums, RUN_WARPS * LANES);
	const size_t head = blockIdx.x, tile = (size_t)blockIdx.y * TILE, c = tile + own_column();
	const unsigned token = (unsigned)(sorted[head] >> 32);
	float4 sum = make_float4(0, 0, 0, 0);

	if (head && (unsigned)(sorted[head - 1] >> 32) == token)
		return;
	for (size_t at = head + threadIdx.y * LANES; at < N; at += RUN_WARPS * LANES) {
		const token_key own = at + threadIdx.x < N ? sorted[at + threadIdx.x] : ~0ull;
		const int run = __popc(__ballot_sync(0xffffffffu, (unsigned)(own >> 32) == token));
		float4 s = make_float4(0, 0, 0, 0);

		if (run == 0)
			break;
		CU_UNROLL_BY(4)
		for (int k = 0; k < run; k++)
			s = add4(s, load4(dx + (size_t)__shfl_sync(0xffffffffu, (unsigned)own, k) * C, c, C, aligned));
		sum = add4(sum, s);
	}
	const unsigned t = threadIdx.y * LANES + threadIdx.x;

	sums[t] = sum;
	__syncthreads();
	if (tile + t >= C)
		return;
	float total = 0;

	for (unsigned w = 0; w < RUN_WARPS; w++)
		total += reinterpret_cast<const float *>(sums)[w * TILE + t];
	dwte[(size_t)token * C + tile + t] += total;
}

// dwpe (T,C) += sums over contexts
__global__ void __launch_bounds__(THREADS)
position_sums_kernel(float *__restrict__ dwpe, const float *__restrict__ dx, size_t B, size_t T, size_t C,
		     bool aligned)
{
	const size_t t = own_row();

	if (t >= T)
		return;
	for (size_t c = first_column(); c < C; c += next_column()) {
		float4 sum = make_float4(0, 0, 0, 0);

		CU_UNROLL_BY(4)
		for (size_t b = 0; b < B; b++)
			sum = add4(sum, load4(dx + (b * T + t) * C, c, C, aligned));
		store4(dwpe + t * C, c, C, aligned, add4(load4(dwpe + t * C, c, C, aligned), sum));
	}
}

// dx twice, of dwte at most as many rows as dx has
void cuda_embed_bwd(real *dwte, real *dwpe, const real *dx, const int32_t *idx, size_t B, size_t T, size_t C, size_t V)
{
	const size_t N = B * T;
	[[maybe_unused]] const size_t touched = N < V ? N : V;
	const bool whole = aligned(C, dwte, dwpe, dx);

	if (N * C == 0)
		return;
	token_key *key = static_cast<token_key *>(cuda_scratch(SCRATCH_SUMS, 2 * N * sizeof(*key))), *sorted = key + N;

	CU_TRAFFIC(N * sizeof(*idx), N * sizeof(*key));
	LAUNCH(token_sort_kernel, (unsigned)parts(N, SORT), SORT / 2, 0, cuda_stream(), key, idx, (unsigned)N);
	CU_TRAFFIC(N * sizeof(*key), N * sizeof(*key));
	LAUNCH(token_rank_kernel, (unsigned)parts(N, THREADS), THREADS, 0, cuda_stream(), sorted, key, (unsigned)N);
	CU_TRAFFIC(N * sizeof(*key) + (N + touched) * C * sizeof(*dx), touched * C * sizeof(*dx));
	LAUNCH(token_sums_kernel, dim3((unsigned)N, (unsigned)parts(C, TILE)), dim3(LANES, RUN_WARPS), 0, cuda_stream(),
	       dwte, dx, sorted, N, C, whole);
	CU_TRAFFIC((N + T) * C * sizeof(*dx), T * C * sizeof(*dx));
	LAUNCH(position_sums_kernel, row_grid(T, C), row_block(), 0, cuda_stream(), dwpe, dx, B, T, C, whole);
	cuda_launched("embed_bwd");
}

// ---- layernorm

__global__ void __launch_bounds__(THREADS)
layernorm_fwd_kernel(float *__restrict__ y, float *__restrict__ mean, float *__restrict__ rstd,
		     const float *__restrict__ x, const float *__restrict__ w, const float *__restrict__ b, size_t N,
		     size_t C, float eps, bool aligned)
{
	const size_t row = own_row();
	float sum = 0, squares = 0;

	if (row >= N)
		return;
	const float *from = x + row * C;

	for (size_t c = own_column(); c < C; c += TILE)
		sum += sum4(load4(from, c, C, aligned));
	const float m = warp_sum(sum) / (float)C;

	for (size_t c = own_column(); c < C; c += TILE) {
		const float4 d = cut4(each4(load4(from, c, C, aligned), [m](float e) { return e - m; }), c, C);

		squares += dot4(d, d);
	}
	const float s = 1 / sqrtf(warp_sum(squares) / (float)C + eps);

	for (size_t c = own_column(); c < C; c += TILE) {
		const float4 xn = each4(load4(from, c, C, aligned), [m, s](float e) { return (e - m) * s; });
		const float4 scaled = each4(xn, load4(w, c, C, aligned), [](float e, float f) { return e * f; });

		store4(y + row * C, c, C, aligned, b ? add4(scaled, load4(b, c, C, aligned)) : scaled);
	}
	if (threadIdx.x == 0) {
		mean[row] = m;
		rstd[row] = s;
	}
}

// x and y once: what a warp reads again lies in its L1
void cuda_layernorm_fwd(real *y, real *mean, real *rstd, const real *x, const real *w, const real *b, size_t N,
			size_t C)
{
	if (N * C == 0)
		return;
	CU_TRAFFIC((N + 1 + (b != NULL)) * C * sizeof(*x), N * (C + 2) * sizeof(*x));
	LAUNCH(layernorm_fwd_kernel, row_grid(N), row_block(), 0, cuda_stream(), y, mean, rstd, x, w, b, N, C,
	       layernorm_eps, aligned(C, y, x, w, b));
	cuda_launched("layernorm_fwd");
}

enum { LAYERNORM_ROWS = 32 };   // of a block: few, so that 12,288 rows fill a card; 1/32 is the partial sums' share

// dx (C) += rstd (g - mean(g) - xn mean(g xn)), g = dy w, xn = (x - mean) rstd
__device__ __forceinline__ void layernorm_bwd_row(float *dx, const float *dy, const float *x, const float *w, float m,
						  float s, size_t C, bool aligned)
{
	float sum = 0, along = 0;

	for (size_t c = own_column(); c < C; c += TILE) {
		const float4 g = each4(load4(dy, c, C, aligned), load4(w, c, C, aligned),
				       [](float e, float f) { return e * f; });
		const float4 xn = each4(load4(x, c, C, aligned), [m, s](float e) { return (e - m) * s; });

		sum += sum4(g);
		along += dot4(g, xn);
	}
	const float g_mean = warp_sum(sum) / (float)C, gx_mean = warp_sum(along) / (float)C;

	for (size_t c = own_column(); c < C; c += TILE) {
		const float4 g = each4(load4(dy, c, C, aligned), load4(w, c, C, aligned),
				       [g_mean](float e, float f) { return e * f - g_mean; });
		const float4 d = each4(g, load4(x, c, C, aligned), [m, s, gx_mean](float e, float f) {
			return s * (e - (f - m) * s * gx_mean);
		});

		store4(dx, c, C, aligned, add4(load4(dx, c, C, aligned), d));
	}
}

// Of LAYERNORM_ROWS rows dx +=, and part (gridDim.x,outs,C): this block's share of dw and, where outs is 2, db
__global__ void __launch_bounds__(THREADS)
layernorm_bwd_kernel(float *__restrict__ dx, float *__restrict__ part, const float *__restrict__ dy,
		     const float *__restrict__ x, const float *__restrict__ w, const float *__restrict__ mean,
		     const float *__restrict__ rstd, size_t N, size_t C, unsigned outs, bool aligned)
{
	CU_SHARED(float4, sums, 2 * WARPS * LANES);     // of dw, of db
	const size_t first = (size_t)blockIdx.x * LAYERNORM_ROWS;
	const size_t end = first + LAYERNORM_ROWS < N ? first + LAYERNORM_ROWS : N;
	const unsigned t = threadIdx.y * LANES + threadIdx.x, which = t / TILE, column = t % TILE;

	for (size_t r = first + threadIdx.y; r < end; r += WARPS)
		layernorm_bwd_row(dx + r * C, dy + r * C, x + r * C, w, mean[r], rstd[r], C, aligned);
	for (size_t tile = 0; tile < C; tile += TILE) {
		float4 dw = make_float4(0, 0, 0, 0), db = make_float4(0, 0, 0, 0);

		for (size_t r = first + threadIdx.y; r < end; r += WARPS) {
			const float m = mean[r], s = rstd[r];
			const float4 d = load4(dy + r * C, tile + own_column(), C, aligned);
			const float4 v = load4(x + r * C, tile + own_column(), C, aligned);

			dw = add4(dw, each4(d, v, [m, s](float e, float f) { return e * ((f - m) * s); }));
			db = add4(db, d);
		}
		__syncthreads();        // the tile before has been added up
		sums[t] = dw;
		sums[THREADS + t] = db;
		__syncthreads();
		float total = 0;

		for (unsigned i = 0; i < WARPS; i++)
			total += reinterpret_cast<const float *>(sums)[(which * WARPS + i) * TILE + column];
		if (which < outs && tile + column < C)
			part[((size_t)blockIdx.x * outs + which) * C + tile + column] = total;
	}
}

// dy and x once, dx in place; partial sums of dw and db, then these
void cuda_layernorm_bwd(real *dx, real *dw, real *db, const real *dy, const real *x, const real *w, const real *mean,
			const real *rstd, size_t N, size_t C)
{
	const size_t P = parts(N, LAYERNORM_ROWS), outs = db ? 2 : 1;

	if (N * C == 0)
		return;
	float *part = static_cast<float *>(cuda_scratch(SCRATCH_SUMS, P * outs * C * sizeof(*part)));

	CU_TRAFFIC(((3 * N + 1) * C + 2 * N) * sizeof(*x), (N + P * outs) * C * sizeof(*x));
	LAUNCH(layernorm_bwd_kernel, (unsigned)P, row_block(), 0, cuda_stream(), dx, part, dy, x, w, mean, rstd, N, C,
	       (unsigned)outs, aligned(C, dx, dy, x, w));
	CU_TRAFFIC((P + 1) * outs * C * sizeof(*x), outs * C * sizeof(*x));
	LAUNCH((column_totals_kernel<float>), dim3((unsigned)parts(C, LANES), (unsigned)outs), row_block(), 0,
	       cuda_stream(), dw, db, part, P, C, true);
	cuda_launched("layernorm_bwd");
}

// ---- GELU, without the cancellation of 1 + erf and without what a square loses before exp

// Phi(x)
__device__ __forceinline__ float normal_cdf(float x)
{
	const float z = -0.70710678f * x;
	// what the product's rounding and the constant's leave, of which erfc's tail makes 2z times as much
	const float low = fmaf(-0.70710678f, x, -z) - 1.21016175e-8f * x;

	return 0.5f * erfcf(z) * (z > 1 ? 1 - 2 * fminf(z, 16) * low : 1);
}

// Phi(x) + x phi(x)
__device__ __forceinline__ float gelu_slope(float x)
{
	const float square = x * x, low = square < 256 ? fmaf(x, x, -square) : 0;
	const float density = 0.39894228f * expf(-0.5f * square) * (1 - 0.5f * low);

	return normal_cdf(x) + x * density;
}

__device__ __forceinline__ size_t own_four() { return 4 * ((size_t)blockIdx.x * THREADS + threadIdx.x); }
static unsigned blocks_of(size_t n) { return (unsigned)parts(n, 4 * THREADS); }

__global__ void __launch_bounds__(THREADS)
gelu_fwd_kernel(float *__restrict__ y, const float *__restrict__ x, size_t n, bool aligned)
{
	const size_t i = own_four();

	if (i < n)
		store4(y, i, n, aligned, each4(load4(x, i, n, aligned), [](float v) { return v * normal_cdf(v); }));
}

void cuda_gelu_fwd(real *y, const real *x, size_t n)
{
	if (n == 0)
		return;
	CU_TRAFFIC(n * sizeof(*x), n * sizeof(*y));
	LAUNCH(gelu_fwd_kernel, blocks_of(n), THREADS, 0, cuda_stream(), y, x, n, aligned(0, y, x));
	cuda_launched("gelu_fwd");
}

// dx may be dy
__global__ void __launch_bounds__(THREADS)
gelu_bwd_kernel(float *dx, const float *dy, const float *__restrict__ x, size_t n, bool aligned)
{
	const size_t i = own_four();

	if (i < n)
		store4(dx, i, n, aligned, each4(load4(dy, i, n, aligned), load4(x, i, n, aligned),
			[](float d, float v) { return d * gelu_slope(v); }));
}

void cuda_gelu_bwd(real *dx, const real *dy, const real *x, size_t n)
{
	if (n == 0)
		return;
	CU_TRAFFIC(2 * n * sizeof(*x), n * sizeof(*dx));
	LAUNCH(gelu_bwd_kernel, blocks_of(n), THREADS, 0, cuda_stream(), dx, dy, x, n, aligned(0, dx, dy, x));
	cuda_launched("gelu_bwd");
}

// ---- sums and copies

__global__ void __launch_bounds__(THREADS)
add_kernel(float *__restrict__ y, const float *__restrict__ x, size_t n, bool aligned)
{
	const size_t i = own_four();

	if (i < n)
		store4(y, i, n, aligned, add4(load4(y, i, n, aligned), load4(x, i, n, aligned)));
}

void cuda_add(real *y, const real *x, size_t n)
{
	if (n == 0)
		return;
	CU_TRAFFIC(2 * n * sizeof(*x), n * sizeof(*y));
	LAUNCH(add_kernel, blocks_of(n), THREADS, 0, cuda_stream(), y, x, n, aligned(0, y, x));
	cuda_launched("add");
}

__global__ void __launch_bounds__(THREADS)
fill_rows_kernel(float *__restrict__ y, const float *__restrict__ row, size_t N, size_t C, bool aligned)
{
	const size_t r = own_row();

	for (size_t c = first_column(); r < N && c < C; c += next_column())
		store4(y + r * C, c, C, aligned, load4(row, c, C, aligned));
}

void cuda_fill_rows(real *y, const real *row, size_t N, size_t C)
{
	if (N * C == 0)
		return;
	CU_TRAFFIC(C * sizeof(*row), N * C * sizeof(*y));
	LAUNCH(fill_rows_kernel, row_grid(N, C), row_block(), 0, cuda_stream(), y, row, N, C, aligned(C, y, row));
	cuda_launched("fill_rows");
}

__global__ void __launch_bounds__(THREADS)
gather_rows_kernel(float *__restrict__ y, const float *__restrict__ x, const uint32_t *__restrict__ rows, size_t n,
		   size_t C, bool aligned)
{
	const size_t r = own_row();

	if (r >= n)
		return;
	const float *from = x + (size_t)rows[r] * C;

	for (size_t c = first_column(); c < C; c += next_column())
		store4(y + r * C, c, C, aligned, load4(from, c, C, aligned));
}

void cuda_gather_rows(real *y, const real *x, const uint32_t *rows, size_t n, size_t C)
{
	if (n * C == 0)
		return;
	CU_TRAFFIC(n * (C * sizeof(*x) + sizeof(*rows)), n * C * sizeof(*y));
	LAUNCH(gather_rows_kernel, row_grid(n, C), row_block(), 0, cuda_stream(), y, x, rows, n, C, aligned(C, y, x));
	cuda_launched("gather_rows");
}

__device__ __forceinline__ float rounded(float v, unsigned digits)
{
	return digits == 11 ? __half2float(__float2half_rn(v)) : digits == 8 ? __bfloat162float(__float2bfloat16_rn(v)) : v;
}

__global__ void __launch_bounds__(THREADS)
round_rows_kernel(float *__restrict__ x, size_t n, unsigned digits, unsigned long long *unfit, bool aligned)
{
	const size_t i = own_four();

	if (i >= n)
		return;
	const float4 v = each4(load4(x, i, n, aligned), [digits](float e) { return rounded(e, digits); });
	const int bad = !isfinite(v.x) + !isfinite(v.y) + !isfinite(v.z) + !isfinite(v.w);

	if (digits < 24)
		store4(x, i, n, aligned, v);
	if (bad)
		atomicAdd(unfit, (unsigned long long)bad);
}

// x once and back, but for float32, which is only looked at
void cuda_round_rows(real *x, size_t n, unsigned digits, uint64_t *unfit)
{
	if (n == 0)
		return;
	CU_TRAFFIC(n * sizeof(*x), digits < 24 ? n * sizeof(*x) : 0);
	LAUNCH(round_rows_kernel, blocks_of(n), THREADS, 0, cuda_stream(), x, n, digits,
	       reinterpret_cast<unsigned long long *>(unfit), aligned(0, x));
	cuda_launched("round_rows");
}

// ---- before and after products

struct alignas(8) narrow4 {
	__nv_bfloat16 x, y, z, w;
};

__device__ __forceinline__ narrow4 narrowed(float4 v)
{
	return { __float2bfloat16(v.x), __float2bfloat16(v.y), __float2bfloat16(v.z), __float2bfloat16(v.w) };
}

__global__ void __launch_bounds__(THREADS)
narrow_rows_kernel(__nv_bfloat16 *__restrict__ y, const float *__restrict__ x, size_t N, size_t C, size_t ld,
		   bool aligned)
{
	const size_t r = own_row();

	for (size_t c = first_column(); r < N && c < ld; c += next_column())
		*reinterpret_cast<narrow4 *>(y + r * ld + c) = narrowed(load4(x + r * C, c, C, aligned));
}

void cuda_narrow_rows(void *y, const float *x, size_t N, size_t C, size_t ld)
{
	if (N * ld == 0)
		return;
	CU_TRAFFIC(N * C * sizeof(*x), N * ld * sizeof(__nv_bfloat16));
	LAUNCH(narrow_rows_kernel, row_grid(N, ld), row_block(), 0, cuda_stream(), static_cast<__nv_bfloat16 *>(y), x,
	       N, C, ld, aligned(C, x));
	cuda_launched("narrow_rows");
}

// What is no number becomes 0, as in ref
__device__ __forceinline__ float4 relu4(float4 v)
{
	return each4(v, [](float e) { return fmaxf(e, 0); });
}

__device__ __forceinline__ float4 load4(const __nv_bfloat16 *x, size_t i, size_t n, bool aligned)
{
	if (aligned && i + 4 <= n) {
		const narrow4 v = *reinterpret_cast<const narrow4 *>(x + i);

		return make_float4(__bfloat162float(v.x), __bfloat162float(v.y), __bfloat162float(v.z),
				   __bfloat162float(v.w));
	}
	return make_float4(i < n ? __bfloat162float(x[i]) : 0, i + 1 < n ? __bfloat162float(x[i + 1]) : 0,
			   i + 2 < n ? __bfloat162float(x[i + 2]) : 0, i + 3 < n ? __bfloat162float(x[i + 3]) : 0);
}

__device__ __forceinline__ void store4(__nv_bfloat16 *x, size_t i, size_t n, bool aligned, float4 v)
{
	const narrow4 to = narrowed(v);

	if (aligned && i + 4 <= n) {
		*reinterpret_cast<narrow4 *>(x + i) = to;
		return;
	}
	if (i < n)
		x[i] = to.x;
	if (i + 1 < n)
		x[i + 1] = to.y;
	if (i + 2 < n)
		x[i + 2] = to.z;
	if (i + 3 < n)
		x[i + 3] = to.w;
}

template <class Y> __global__ void __launch_bounds__(THREADS)
bias_relu_kernel(Y *__restrict__ y, const float *__restrict__ bias, bool relu, size_t N, size_t C, size_t ld,
		 bool aligned)
{
	const size_t r = own_row();

	for (size_t c = first_column(); r < N && c < C; c += next_column()) {
		float4 v = load4(y + r * ld, c, C, aligned);

		if (bias)
			v = add4(v, load4(bias, c, C, aligned));
		store4(y + r * ld, c, C, aligned, relu ? relu4(v) : v);
	}
}

template <class Y> static void bias_relu(Y *y, const float *bias, bool relu, size_t N, size_t C, size_t ld)
{
	// of bf16, 8 bytes at a time
	const bool whole = ld % 4 == 0 && aligned(0, bias) && reinterpret_cast<uintptr_t>(y) % (4 * sizeof(*y)) == 0;

	CU_TRAFFIC(N * C * sizeof(*y) + (bias ? C * sizeof(*bias) : 0), N * C * sizeof(*y));
	LAUNCH((bias_relu_kernel<Y>), row_grid(N, C), row_block(), 0, cuda_stream(), y, bias, relu, N, C, ld, whole);
	cuda_launched("bias_relu");
}

void cuda_bias_relu(void *y, bool narrow, const float *bias, bool relu, size_t N, size_t C, size_t ld)
{
	if (N * C == 0 || (!bias && !relu))
		return;
	if (narrow)
		bias_relu(static_cast<__nv_bfloat16 *>(y), bias, relu, N, C, ld);
	else
		bias_relu(static_cast<float *>(y), bias, relu, N, C, ld);
}

// x once; a 128th of it as partial sums
void cuda_float_column_sums(float *sum, const float *x, size_t N, size_t C, bool add)
{
	if (C == 0)
		return;
	float *part = static_cast<float *>(cuda_scratch(SCRATCH_SUMS, (parts(N, PART_ROWS) * C + 1) * sizeof(*part)));

	sum_columns(sum, part, x, N, C, add, cuda_stream());
	cuda_launched("column_sums");
}
