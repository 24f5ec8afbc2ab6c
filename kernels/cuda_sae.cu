/* cuda_sae: kernels of the autoencoder around its products */
#include "cuda_sae.h"

#include "cu_sum.h"

enum { SCAN = 1024 };
static_assert((int)SAE_WARPS == WARPS && (int)SAE_STRIP == PART_ROWS, "strips are those of column sums");

// What a lane reads at once of rows that begin at 16 bytes.
template <class T> struct alignas(16) pack {
	static const int N = 16 / sizeof(T);
	T v[N];
};

__device__ __forceinline__ float widened(float x) { return x; }
__device__ __forceinline__ float widened(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ __forceinline__ void narrow_to(float &to, float x) { to = x; }
__device__ __forceinline__ void narrow_to(__nv_bfloat16 &to, float x) { to = __float2bfloat16(x); }

// Four from x[i] on, of rows that begin at 16 bytes and have room for them
template <class T> __device__ __forceinline__ void put4(T *x, size_t i, float4 v)
{
	struct alignas(4 * sizeof(T)) four {
		T x, y, z, w;
	} to;

	narrow_to(to.x, v.x), narrow_to(to.y, v.y), narrow_to(to.z, v.z), narrow_to(to.w, v.w);
	*reinterpret_cast<four *>(x + i) = to;
}

// ---- rows

template <class T> __global__ void __launch_bounds__(THREADS)
sae_centre_kernel(T *__restrict__ xc, size_t ld, const float *__restrict__ x, const float *__restrict__ b, size_t N,
		  size_t D, bool aligned)
{
	const size_t r = own_row();

	for (size_t d = first_column(); r < N && d < D; d += next_column())
		put4(xc + r * ld, d, each4(load4(x + r * D, d, D, aligned), load4(b, d, D, aligned),
					   [](float value, float mean) { return value - mean; }));
}

__global__ void __launch_bounds__(THREADS)
sae_add_tiles_kernel(float *__restrict__ y, const float *__restrict__ part, size_t N, size_t tiles)
{
	const size_t r = own_row();
	float sum = 0;

	if (r >= N)
		return;
	for (size_t i = threadIdx.x; i < tiles; i += LANES)
		sum += part[r * tiles + i];
	sum = warp_sum(sum);
	if (threadIdx.x == 0)
		y[r] = sum;
}

// ---- tiles: of TILE columns, a block's warps take the rows of a strip in turn

struct place {
	size_t tile, strip, first, end; // rows first, first + WARPS, … are this warp's
};

__device__ __forceinline__ place own_place(size_t tiles, size_t rows)
{
	const size_t strip = blockIdx.x / tiles, end = (strip + 1) * SAE_STRIP;

	return { blockIdx.x % tiles, strip, strip * SAE_STRIP + threadIdx.y, end < rows ? end : rows };
}

// to (C): the four sums of columns from c on of each lane, added up over the warps in order
__device__ __forceinline__ void store_columns(float *sums, float *to, const place &at, float4 own, size_t C)
{
	const unsigned t = threadIdx.y * LANES + threadIdx.x;
	const size_t c = at.tile * TILE + t;
	float total = 0;

	*reinterpret_cast<float4 *>(sums + threadIdx.y * TILE + own_column()) = own;
	__syncthreads();
	if (t >= TILE || c >= C)
		return;
	for (int w = 0; w < WARPS; w++)
		total += sums[w * TILE + t];
	to[c] = total;
}

// dx NULL: errors alone
template <class T> __global__ void __launch_bounds__(THREADS)
sae_errors_kernel(T *__restrict__ dx, size_t ld, float *__restrict__ err2, float *__restrict__ columns,
		  const float *__restrict__ xhat, const float *__restrict__ x, float scale, size_t N, size_t D,
		  size_t tiles, bool aligned)
{
	CU_SHARED(float4, sums, WARPS * LANES);
	const place at = own_place(tiles, N);
	const size_t d = at.tile * TILE + own_column();
	float4 own = make_float4(0, 0, 0, 0);

	CU_UNROLL_BY(2)
	for (size_t r = at.first; r < at.end; r += WARPS) {
		const float4 e = each4(load4(xhat + r * D, d, D, aligned), load4(x + r * D, d, D, aligned),
				       [](float got, float want) { return got - want; });
		const float4 g = each4(e, [scale](float v) { return scale * v; });
		const float squares = warp_sum(dot4(e, e));

		own = add4(own, g);
		if (dx && d < D)
			put4(dx + r * ld, d, g);
		if (threadIdx.x == 0)
			err2[r * tiles + at.tile] = squares;
	}
	if (dx)
		store_columns(&sums[0].x, columns + at.strip * D, at, own, D);
}

__global__ void __launch_bounds__(THREADS)
sae_through_encoder_kernel(float *__restrict__ part, const float *__restrict__ b, const float *__restrict__ enc,
			   size_t F, size_t D, size_t tiles, bool aligned)
{
	CU_SHARED(float4, sums, WARPS * LANES);
	const place at = own_place(tiles, F);
	const size_t d = at.tile * TILE + own_column();
	float4 own = make_float4(0, 0, 0, 0);

	CU_UNROLL_BY(4)
	for (size_t j = at.first; j < at.end; j += WARPS) {
		const float factor = b[j];

		own = each4(own, load4(enc + j * D, d, D, aligned),
			    [factor](float sum, float v) { return sum - factor * v; });
	}
	store_columns(&sums[0].x, part + at.strip * D, at, own, D);
}

// What a lane adds up of its columns, a pack of them.
template <class T> struct latents {
	static const int P = pack<T>::N, WIDTH = LANES * P;
	float own[P];           // gradients before the ReLU
	unsigned count[P];      // of f > 0
};

// A lane's pack of a row, f and dpre, from column `first` on; its sum of f
template <bool GRAD, class T>
__device__ __forceinline__ float add_row(latents<T> &sums, T *dpre, const T *f, size_t first, size_t F, float penalty)
{
	float l1 = 0;

	if (first >= F)
		return 0;
	const pack<T> v = *reinterpret_cast<const pack<T> *>(f);
	pack<T> d;

	if (GRAD)
		d = *reinterpret_cast<const pack<T> *>(dpre);
	CU_UNROLL
	for (int k = 0; k < pack<T>::N; k++) {
		const float value = widened(v.v[k]);
		const bool within = first + k < F, on = within && value > 0;

		l1 += within ? value : 0;
		sums.count[k] += on;
		if (GRAD) {
			const float g = on ? widened(d.v[k]) + penalty : 0;

			sums.own[k] += g;
			narrow_to(d.v[k], g);
		}
	}
	if (GRAD)
		*reinterpret_cast<pack<T> *>(dpre) = d;
	return l1;
}

// The tile's columns, added up over the warps in order, to columns (F) and fired (F); this thread's number of f > 0
template <bool GRAD, class T>
__device__ __forceinline__ unsigned store_latents(const latents<T> &sums, float *gradients, unsigned *counts,
						   float *columns, unsigned *fired, const place &at, size_t F)
{
	const int P = latents<T>::P, WIDTH = latents<T>::WIDTH;
	const unsigned t = threadIdx.y * LANES + threadIdx.x;
	const size_t j = at.tile * WIDTH + t;
	unsigned active = 0;
	float sum = 0;

	CU_UNROLL
	for (int k = 0; k < P; k++) {
		counts[threadIdx.y * WIDTH + P * threadIdx.x + k] = sums.count[k];
		if (GRAD)
			gradients[threadIdx.y * WIDTH + P * threadIdx.x + k] = sums.own[k];
	}
	__syncthreads();
	if (t >= WIDTH || j >= F)
		return 0;
	for (int w = 0; w < WARPS; w++) {
		active += counts[w * WIDTH + t];
		if (GRAD)
			sum += gradients[w * WIDTH + t];
	}
	if (GRAD)
		columns[j] = sum;
	if (fired && active)
		atomicAdd(&fired[j], active);
	return active;
}

// The one pass over latents: a lane has the same pack of columns in each of its rows.
template <class T, bool GRAD> __global__ void __launch_bounds__(THREADS)
sae_latents_kernel(T *__restrict__ dpre, const T *__restrict__ f, size_t ld, float *__restrict__ l1,
		   float *__restrict__ l0, float *__restrict__ columns, unsigned *__restrict__ fired, float penalty,
		   size_t N, size_t F, size_t tiles)
{
	CU_SHARED(float, gradients, GRAD ? WARPS * latents<T>::WIDTH : 1);
	CU_SHARED(unsigned, counts, WARPS * latents<T>::WIDTH);
	const place at = own_place(tiles, N);
	const size_t first = at.tile * latents<T>::WIDTH + latents<T>::P * (size_t)threadIdx.x;
	latents<T> sums = {};

	CU_UNROLL_BY(2)
	for (size_t r = at.first; r < at.end; r += WARPS) {
		const size_t i = r * ld + first;
		const float sum = warp_sum(add_row<GRAD>(sums, GRAD ? dpre + i : NULL, f + i, first, F, penalty));

		if (threadIdx.x == 0)
			l1[r * tiles + at.tile] = sum;
	}
	const unsigned active = warp_sum(store_latents<GRAD>(sums, gradients, counts,
							      GRAD ? columns + at.strip * F : NULL, fired, at, F));

	if (threadIdx.x == 0)
		l0[(size_t)blockIdx.x * WARPS + threadIdx.y] = (float)active;
}

// ---- the list of active latents

// Is it one of those listed?  What is no number is, so that it shows.
__device__ __forceinline__ bool listed(float v) { return !(v <= 0); }

__global__ void __launch_bounds__(THREADS)
sae_count_kernel(unsigned *__restrict__ count, const float *__restrict__ f, size_t ld, size_t N, size_t F)
{
	const size_t r = own_row();
	unsigned n = 0;

	if (r >= N)
		return;
	CU_UNROLL_BY(4)
	for (size_t j = threadIdx.x; j < F; j += LANES)
		n += listed(f[r * ld + j]);
	n = warp_sum(n);
	if (threadIdx.x == 0)
		count[r] = n;
}

// One block: an exclusive scan that goes on from *found.
__global__ void __launch_bounds__(SCAN)
sae_offsets_kernel(unsigned long long *__restrict__ offset, unsigned long long *found,
		   const unsigned *__restrict__ count, size_t N)
{
	CU_SHARED(unsigned long long, ends, SCAN / LANES);
	const int lane = (int)threadIdx.x % LANES, warp = (int)threadIdx.x / LANES;
	unsigned long long base = *found;

	for (size_t from = 0; from < N; from += SCAN) {
		const size_t i = from + threadIdx.x;
		const unsigned long long own = i < N ? count[i] : 0;
		unsigned long long sum = own, before = base;

		for (int by = 1; by < LANES; by *= 2) {
			const unsigned long long left = __shfl_up_sync(0xffffffffu, sum, (unsigned)by);

			sum += lane >= by ? left : 0;
		}
		if (lane == LANES - 1)
			ends[warp] = sum;
		__syncthreads();
		for (int w = 0; w < SCAN / LANES; w++) {
			before += w < warp ? ends[w] : 0;
			base += ends[w];
		}
		if (i < N)
			offset[i] = before + sum - own;
		__syncthreads();        // all have read ends
	}
	if (threadIdx.x == 0)
		*found = base;
}

__global__ void __launch_bounds__(THREADS)
sae_compact_kernel(unsigned *__restrict__ rows, unsigned *__restrict__ feats, float *__restrict__ v, size_t cap,
		   const unsigned long long *__restrict__ offset, const float *__restrict__ f, size_t ld,
		   size_t first, size_t N, size_t F)
{
	const unsigned lane = threadIdx.x;
	const size_t r = own_row();

	if (r >= N)
		return;
	size_t at = offset[r];
	for (size_t from = 0; from < F; from += LANES) {
		const size_t j = from + lane;
		const float value = j < F ? f[r * ld + j] : 0;
		const unsigned which = __ballot_sync(0xffffffffu, listed(value));
		const size_t to = at + (size_t)__popc(which & ((1u << lane) - 1));

		if (listed(value) && to < cap) {
			rows[to] = (unsigned)(first + r);
			feats[to] = (unsigned)j;
			v[to] = value;
		}
		at += (size_t)__popc(which);
	}
}

// ---- launchers

size_t sae_strips(size_t rows) { return parts(rows, SAE_STRIP); }
size_t sae_tiles(size_t columns) { return parts(columns, TILE); }
size_t sae_latent_tiles(bool narrow, size_t F)
{
	return parts(F, LANES * (size_t)(narrow ? pack<__nv_bfloat16>::N : pack<float>::N));
}

template <class T>
static void launch_centre(T *xc, size_t ld, const float *x, const float *b_dec, size_t N, size_t D)
{
	CU_TRAFFIC((N * D + D) * sizeof(float), N * D * sizeof(T));
	LAUNCH(sae_centre_kernel<T>, row_grid(N, D), row_block(), 0, cuda_stream(), xc, ld, x, b_dec, N, D,
	       aligned(D, x, b_dec));
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
	LAUNCH(sae_errors_kernel<T>, dim3((unsigned)(tiles * strips)), row_block(), 0, cuda_stream(), dx, ld, err2, columns,
	       xhat, x, scale, N, D, tiles, aligned(D, xhat, x));
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
	const dim3 grid((unsigned)(tiles * strips));
	const size_t all = N * F * sizeof(T), counters = fired ? F * sizeof(*fired) : 0;
	const size_t small = (N * tiles + tiles * strips * WARPS) * sizeof(float) + counters;

	if (!dpre) {
		CU_TRAFFIC(all + counters, small);
		LAUNCH((sae_latents_kernel<T, false>), grid, row_block(), 0, cuda_stream(), dpre, f, ld, l1, l0, columns,
		       fired, penalty, N, F, tiles);
		return;
	}
	CU_TRAFFIC(2 * all + counters, all + small + strips * F * sizeof(float));
	LAUNCH((sae_latents_kernel<T, true>), grid, row_block(), 0, cuda_stream(), dpre, f, ld, l1, l0, columns, fired,
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
	LAUNCH(sae_through_encoder_kernel, dim3((unsigned)(tiles * strips)), row_block(), 0, cuda_stream(), part, b,
	       enc, F, D, tiles, aligned(D, enc));
	cuda_launched("sae: gradient through the encoder");
}

void sae_add_tiles(float *y, const float *part, size_t N, size_t tiles)
{
	CU_TRAFFIC(N * tiles * sizeof(float), N * sizeof(float));
	LAUNCH(sae_add_tiles_kernel, row_grid(N), row_block(), 0, cuda_stream(), y, part, N, tiles);
	cuda_launched("sae: sums of rows");
}

void sae_offsets(uint64_t *offset, uint64_t *found, uint32_t *count, const float *f, size_t ld, size_t N, size_t F)
{
	static_assert(sizeof(unsigned long long) == sizeof(uint64_t), "one type under two names");

	CU_TRAFFIC(N * F * sizeof(float), N * sizeof(*count));
	LAUNCH(sae_count_kernel, row_grid(N), row_block(), 0, cuda_stream(), count, f, ld, N, F);
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
	LAUNCH(sae_compact_kernel, row_grid(N), row_block(), 0, cuda_stream(), rows, feats, v, cap,
	       reinterpret_cast<const unsigned long long *>(offset), f, ld, row, N, F);
	cuda_launched("sae: compact");
}
