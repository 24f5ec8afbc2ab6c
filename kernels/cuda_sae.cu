// cuda_sae: kernels of the autoencoder around its products
#include "cu.h"

#include "cuda_sae.h"

enum { WARPS = SAE_WARPS, THREADS = 32 * WARPS, TILE = 128, SCAN = 1024 };

// ---- types

// What a lane reads at once of rows that begin at 16 bytes.
template <class T> struct alignas(16) pack {
	static const int N = 16 / sizeof(T);
	T v[N];
};

static __device__ __forceinline__ float widen(float x) { return x; }
static __device__ __forceinline__ float widen(__nv_bfloat16 x) { return __bfloat162float(x); }
static __device__ __forceinline__ void narrow_to(float &to, float x) { to = x; }
static __device__ __forceinline__ void narrow_to(__nv_bfloat16 &to, float x) { to = __float2bfloat16(x); }

template <class T> static __device__ __forceinline__ T warp_total(T v)
{
	for (int o = 16; o; o >>= 1)
		v += __shfl_xor_sync(0xffffffffu, v, o);
	return v;
}

static __device__ __forceinline__ size_t strip_end(size_t strip, size_t rows)
{
	return (strip + 1) * SAE_STRIP < rows ? (strip + 1) * SAE_STRIP : rows;
}

// Is it one of the latents that are listed?  What is no number is, so that it shows.
static __device__ __forceinline__ bool listed(float v) { return !(v <= 0); }

// ---- rows

// A warp a row.
template <class T>
__global__ void __launch_bounds__(THREADS)
sae_centre_kernel(T *__restrict__ xc, size_t ld, const float *__restrict__ x, const float *__restrict__ b, size_t N,
		  size_t D)
{
	const size_t row = (size_t)blockIdx.x * WARPS + (threadIdx.x >> 5);

	if (row < N)
		for (size_t d = threadIdx.x & 31; d < D; d += 32)
			narrow_to(xc[row * ld + d], x[row * D + d] - b[d]);
}

// A warp a row.
__global__ void __launch_bounds__(THREADS)
sae_add_tiles_kernel(float *__restrict__ y, const float *__restrict__ part, size_t N, size_t tiles)
{
	const size_t row = (size_t)blockIdx.x * WARPS + (threadIdx.x >> 5);
	float sum = 0;

	if (row >= N)
		return;
	for (size_t i = threadIdx.x & 31; i < tiles; i += 32)
		sum += part[row * tiles + i];
	sum = warp_total(sum);
	if ((threadIdx.x & 31) == 0)
		y[row] = sum;
}

// ---- tiles: a block's warps take its rows in turn, then the columns of the warps are added in order

// The sum over the warps of column c of own, each lane's COLUMNS sums at columns[lane + 32 k] of its warp.
template <int COLUMNS> static __device__ float add_warps(float *sums, const float (&own)[COLUMNS])
{
	const int lane = (int)threadIdx.x & 31, warp = (int)threadIdx.x >> 5, width = 32 * COLUMNS;
	float sum = 0;

	for (int k = 0; k < COLUMNS; k++)
		sums[warp * width + lane + 32 * k] = own[k];
	__syncthreads();
	if ((int)threadIdx.x < width)
		for (int w = 0; w < WARPS; w++)
			sum += sums[w * width + (int)threadIdx.x];
	return sum;
}

// dx NULL: errors alone
template <class T>
__global__ void __launch_bounds__(THREADS)
sae_errors_kernel(T *__restrict__ dx, size_t ld, float *__restrict__ err2, float *__restrict__ columns,
		  const float *__restrict__ xhat, const float *__restrict__ x, float scale, size_t N, size_t D,
		  size_t tiles)
{
	CU_SHARED(float, sums, WARPS * TILE);
	const int lane = (int)threadIdx.x & 31;
	const size_t tile = blockIdx.x % tiles, strip = blockIdx.x / tiles, end = strip_end(strip, N);
	float own[TILE / 32] = {};

	for (size_t row = strip * SAE_STRIP + (threadIdx.x >> 5); row < end; row += WARPS) {
		float squares = 0;
		for (int k = 0; k < TILE / 32; k++) {
			const size_t d = tile * TILE + (size_t)(lane + 32 * k);
			if (d >= D)
				continue;
			const float e = xhat[row * D + d] - x[row * D + d];
			squares += e * e;
			own[k] += scale * e;
			if (dx)
				narrow_to(dx[row * ld + d], scale * e);
		}
		squares = warp_total(squares);
		if (lane == 0)
			err2[row * tiles + tile] = squares;
	}
	if (!dx)
		return;
	const float sum = add_warps(sums, own);
	const size_t d = tile * TILE + threadIdx.x;
	if (threadIdx.x < TILE && d < D)
		columns[strip * D + d] = sum;
}

__global__ void __launch_bounds__(THREADS)
sae_through_encoder_kernel(float *__restrict__ part, const float *__restrict__ b, const float *__restrict__ enc,
			   size_t F, size_t D, size_t tiles)
{
	CU_SHARED(float, sums, WARPS * TILE);
	const int lane = (int)threadIdx.x & 31;
	const size_t tile = blockIdx.x % tiles, strip = blockIdx.x / tiles, end = strip_end(strip, F);
	float own[TILE / 32] = {};

	for (size_t j = strip * SAE_STRIP + (threadIdx.x >> 5); j < end; j += WARPS) {
		const float factor = b[j];
		for (int k = 0; k < TILE / 32; k++) {
			const size_t d = tile * TILE + (size_t)(lane + 32 * k);
			if (d < D)
				own[k] -= factor * enc[j * D + d];
		}
	}
	const float sum = add_warps(sums, own);
	const size_t d = tile * TILE + threadIdx.x;
	if (threadIdx.x < TILE && d < D)
		part[strip * D + d] = sum;
}

// The one pass over latents: a lane has the same pack of columns in each of its rows.
template <class T, bool GRAD>
__global__ void __launch_bounds__(THREADS)
sae_latents_kernel(T *__restrict__ dpre, const T *__restrict__ f, size_t ld, float *__restrict__ l1,
		   float *__restrict__ l0, float *__restrict__ columns, unsigned *__restrict__ fired, float penalty,
		   size_t N, size_t F, size_t tiles)
{
	typedef pack<T> several;
	const int P = several::N, WIDTH = 32 * P;
	CU_SHARED(float, sums, WARPS * WIDTH);
	CU_SHARED(unsigned, counts, WARPS * WIDTH);
	const int lane = (int)threadIdx.x & 31, warp = (int)threadIdx.x >> 5;
	const size_t tile = blockIdx.x % tiles, strip = blockIdx.x / tiles, end = strip_end(strip, N);
	const size_t first = tile * WIDTH + (size_t)(lane * P);
	float own[P] = {};
	unsigned count[P] = {};

	for (size_t row = strip * SAE_STRIP + (size_t)warp; row < end; row += WARPS) {
		float sum = 0;
		if (first < F) {
			const several v = *reinterpret_cast<const several *>(f + row * ld + first);
			several d;
			if (GRAD)
				d = *reinterpret_cast<const several *>(dpre + row * ld + first);
			for (int k = 0; k < P; k++) {
				const float value = widen(v.v[k]);
				const bool within = first + (size_t)k < F, on = within && value > 0;
				sum += within ? value : 0.0f;
				count[k] += on;
				if (GRAD) {
					const float g = on ? widen(d.v[k]) + penalty : 0.0f;
					own[k] += g;
					narrow_to(d.v[k], g);
				}
			}
			if (GRAD)
				*reinterpret_cast<several *>(dpre + row * ld + first) = d;
		}
		sum = warp_total(sum);
		if (lane == 0)
			l1[row * tiles + tile] = sum;
	}
	for (int k = 0; k < P; k++) {
		counts[warp * WIDTH + lane * P + k] = count[k];
		if (GRAD)
			sums[warp * WIDTH + lane * P + k] = own[k];
	}
	__syncthreads();
	const size_t j = tile * WIDTH + threadIdx.x;
	unsigned active = 0;
	if ((int)threadIdx.x < WIDTH && j < F) {
		float sum = 0;
		for (int w = 0; w < WARPS; w++) {
			active += counts[w * WIDTH + (int)threadIdx.x];
			if (GRAD)
				sum += sums[w * WIDTH + (int)threadIdx.x];
		}
		if (GRAD)
			columns[strip * F + j] = sum;
		if (fired && active)
			atomicAdd(&fired[j], active);
	}
	active = warp_total(active);
	if (lane == 0)
		l0[(size_t)blockIdx.x * WARPS + (size_t)warp] = (float)active;
}

// ---- the list of active latents

// A warp a row.
__global__ void __launch_bounds__(THREADS)
sae_count_kernel(unsigned *__restrict__ count, const float *__restrict__ f, size_t ld, size_t N, size_t F)
{
	const size_t row = (size_t)blockIdx.x * WARPS + (threadIdx.x >> 5);
	unsigned n = 0;

	if (row >= N)
		return;
	for (size_t j = threadIdx.x & 31; j < F; j += 32)
		n += listed(f[row * ld + j]);
	n = warp_total(n);
	if ((threadIdx.x & 31) == 0)
		count[row] = n;
}

// One block: an exclusive scan that goes on from *found.
__global__ void __launch_bounds__(SCAN)
sae_offsets_kernel(unsigned long long *__restrict__ offset, unsigned long long *found,
		   const unsigned *__restrict__ count, size_t N)
{
	CU_SHARED(unsigned long long, ends, SCAN / 32);
	const int lane = (int)threadIdx.x & 31, warp = (int)threadIdx.x >> 5;
	unsigned long long base = *found;

	for (size_t from = 0; from < N; from += SCAN) {
		const size_t i = from + threadIdx.x;
		const unsigned long long own = i < N ? count[i] : 0;
		unsigned long long sum = own, before = base;
		for (int by = 1; by < 32; by <<= 1) {
			const unsigned long long left = __shfl_up_sync(0xffffffffu, sum, (unsigned)by);
			if (lane >= by)
				sum += left;
		}
		if (lane == 31)
			ends[warp] = sum;
		__syncthreads();
		for (int w = 0; w < SCAN / 32; w++) {
			if (w < warp)
				before += ends[w];
			base += ends[w];
		}
		if (i < N)
			offset[i] = before + sum - own;
		__syncthreads();        // all have read ends
	}
	if (threadIdx.x == 0)
		*found = base;
}

// A warp a row.
__global__ void __launch_bounds__(THREADS)
sae_compact_kernel(unsigned *__restrict__ rows, unsigned *__restrict__ feats, float *__restrict__ v, size_t cap,
		   const unsigned long long *__restrict__ offset, const float *__restrict__ f, size_t ld,
		   size_t first, size_t N, size_t F)
{
	const unsigned lane = threadIdx.x & 31;
	const size_t row = (size_t)blockIdx.x * WARPS + (threadIdx.x >> 5);

	if (row >= N)
		return;
	size_t at = offset[row];
	for (size_t from = 0; from < F; from += 32) {
		const size_t j = from + lane;
		const float value = j < F ? f[row * ld + j] : 0.0f;
		const unsigned which = __ballot_sync(0xffffffffu, listed(value));
		const size_t to = at + (size_t)__popc(which & ((1u << lane) - 1));
		if (listed(value) && to < cap) {
			rows[to] = (unsigned)(first + row);
			feats[to] = (unsigned)j;
			v[to] = value;
		}
		at += (size_t)__popc(which);
	}
}

// ---- launchers

static size_t parts(size_t n, size_t size) { return (n + size - 1) / size; }

size_t sae_strips(size_t rows) { return parts(rows, SAE_STRIP); }
size_t sae_tiles(size_t columns) { return parts(columns, TILE); }
size_t sae_latent_tiles(bool narrow, size_t F)
{
	return parts(F, 32 * (size_t)(narrow ? pack<__nv_bfloat16>::N : pack<float>::N));
}

template <class T>
static void launch_centre(T *xc, size_t ld, const float *x, const float *b_dec, size_t N, size_t D)
{
	CU_TRAFFIC((N * D + D) * sizeof(float), N * D * sizeof(T));
	LAUNCH(sae_centre_kernel<T>, (unsigned)parts(N, WARPS), THREADS, 0, cuda_stream(), xc, ld, x, b_dec, N, D);
}

void sae_centre(void *xc, bool narrow, size_t ld, const float *x, const float *b_dec, size_t N, size_t D)
{
	if (narrow)
		launch_centre((__nv_bfloat16 *)xc, ld, x, b_dec, N, D);
	else
		launch_centre((float *)xc, ld, x, b_dec, N, D);
	cuda_launched("sae: centre");
}

template <class T>
static void launch_errors(T *dx, size_t ld, float *err2, float *columns, const float *xhat, const float *x,
			  float scale, size_t N, size_t D)
{
	const size_t tiles = sae_tiles(D), strips = sae_strips(N);

	CU_TRAFFIC(2 * N * D * sizeof(float),
		   N * tiles * sizeof(float) + (dx ? N * D * sizeof(T) + strips * D * sizeof(float) : 0));
	LAUNCH(sae_errors_kernel<T>, (unsigned)(tiles * strips), THREADS, 0, cuda_stream(), dx, ld, err2, columns,
	       xhat, x, scale, N, D, tiles);
}

void sae_errors(void *dx, bool narrow, size_t ld, float *err2, float *columns, const float *xhat, const float *x,
		float scale, size_t N, size_t D)
{
	if (narrow)
		launch_errors((__nv_bfloat16 *)dx, ld, err2, columns, xhat, x, scale, N, D);
	else
		launch_errors((float *)dx, ld, err2, columns, xhat, x, scale, N, D);
	cuda_launched("sae: errors");
}

template <class T>
static void launch_latents(T *dpre, const T *f, size_t ld, float *l1, float *l0, float *columns, uint32_t *fired,
			   float penalty, size_t N, size_t F)
{
	const size_t tiles = sae_latent_tiles(sizeof(T) < sizeof(float), F), strips = sae_strips(N);
	const unsigned grid = (unsigned)(tiles * strips);
	const size_t all = N * F * sizeof(T), counters = fired ? F * sizeof(*fired) : 0;
	const size_t small = (N * tiles + tiles * strips * WARPS) * sizeof(float) + counters;

	if (!dpre) {
		CU_TRAFFIC(all + counters, small);
		LAUNCH((sae_latents_kernel<T, false>), grid, THREADS, 0, cuda_stream(), dpre, f, ld, l1, l0, columns,
		       fired, penalty, N, F, tiles);
		return;
	}
	CU_TRAFFIC(2 * all + counters, all + small + strips * F * sizeof(float));
	LAUNCH((sae_latents_kernel<T, true>), grid, THREADS, 0, cuda_stream(), dpre, f, ld, l1, l0, columns, fired,
	       penalty, N, F, tiles);
}

void sae_latents(void *dpre, bool narrow, const void *f, size_t ld, float *l1, float *l0, float *columns,
		 uint32_t *fired, float penalty, size_t N, size_t F)
{
	if (narrow)
		launch_latents((__nv_bfloat16 *)dpre, (const __nv_bfloat16 *)f, ld, l1, l0, columns, fired, penalty,
			       N, F);
	else
		launch_latents((float *)dpre, (const float *)f, ld, l1, l0, columns, fired, penalty, N, F);
	cuda_launched("sae: latents");
}

void sae_through_encoder(float *part, const float *b, const float *enc, size_t F, size_t D)
{
	const size_t tiles = sae_tiles(D), strips = sae_strips(F);

	CU_TRAFFIC((F * D + F) * sizeof(float), strips * D * sizeof(float));
	LAUNCH(sae_through_encoder_kernel, (unsigned)(tiles * strips), THREADS, 0, cuda_stream(), part, b, enc, F, D,
	       tiles);
	cuda_launched("sae: gradient through the encoder");
}

void sae_add_tiles(float *y, const float *part, size_t N, size_t tiles)
{
	CU_TRAFFIC(N * tiles * sizeof(float), N * sizeof(float));
	LAUNCH(sae_add_tiles_kernel, (unsigned)parts(N, WARPS), THREADS, 0, cuda_stream(), y, part, N, tiles);
	cuda_launched("sae: sums of rows");
}

void sae_offsets(uint64_t *offset, uint64_t *found, uint32_t *count, const float *f, size_t ld, size_t N, size_t F)
{
	static_assert(sizeof(unsigned long long) == sizeof(uint64_t), "one type under two names");

	CU_TRAFFIC(N * F * sizeof(float), N * sizeof(*count));
	LAUNCH(sae_count_kernel, (unsigned)parts(N, WARPS), THREADS, 0, cuda_stream(), count, f, ld, N, F);
	cuda_launched("sae: count");
	CU_TRAFFIC(N * sizeof(*count) + sizeof(*found), N * sizeof(*offset) + sizeof(*found));
	LAUNCH(sae_offsets_kernel, 1, SCAN, 0, cuda_stream(), reinterpret_cast<unsigned long long *>(offset),
	       reinterpret_cast<unsigned long long *>(found), count, N);
	cuda_launched("sae: offsets");
}

// What it writes depends on the data and is not in the tally.
void sae_compact(uint32_t *rows, uint32_t *feats, float *v, size_t cap, const uint64_t *offset, const float *f,
		 size_t ld, size_t row, size_t N, size_t F)
{
	CU_TRAFFIC(N * F * sizeof(float) + N * sizeof(*offset), 0);
	LAUNCH(sae_compact_kernel, (unsigned)parts(N, WARPS), THREADS, 0, cuda_stream(), rows, feats, v, cap,
	       reinterpret_cast<const unsigned long long *>(offset), f, ld, row, N, F);
	cuda_launched("sae: compact");
}
