/*
 * cuda_head: softmax cross-entropy of a row of logits, and its gradient in place.
 *
 * A block has one row.  It is read once, 16 bytes at a time, while every thread
 * keeps a running maximum and sum; what it read it holds until the block knows
 * the whole sum: HELD reads of a thread in registers, the others in shared
 * memory, so that a row of 50,304 in bf16 (100.6 KB) takes 48 KiB of registers
 * and 50 KiB of shared memory and two blocks fit a multiprocessor.  Where
 * the shared part is more than the card has, the row is read twice.
 *
 * The target's logit is made again from x and w in float, exact beside others
 * that are rounded to bf16: it stands alone in nll, where rounding errors do not
 * average out.  It takes its place in the sum too, so that nll >= 0.
 */
#include "cu_sum.h"
#include "cuda.h"

#include <float.h>

enum { HELD = 6, MOST_THREADS = 512, MOST_WARPS = MOST_THREADS / LANES };
enum { STATIC_SHARED = 3 * MOST_WARPS * sizeof(float), UNASKED_SHARED = 48 << 10 };       // bytes of a block
enum pass { NLL_ALONE, READ_ONCE, READ_TWICE };

// logits in 16 bytes
template <bool NARROW> __host__ __device__ constexpr int width()
{
	return NARROW ? 8 : 4;
}

template <bool NARROW> __device__ __forceinline__ void unpack(float *v, const uint4 &bits)
{
	const unsigned word[4] = { bits.x, bits.y, bits.z, bits.w };

	CU_UNROLL
	for (int i = 0; i < 4; i++)
		if (NARROW) {
			v[2 * i] = __uint_as_float(word[i] << 16);
			v[2 * i + 1] = __uint_as_float(word[i] & 0xffff0000u);
		} else {
			v[i] = __uint_as_float(word[i]);
		}
}

__device__ __forceinline__ unsigned two(float low, float high)
{
	return (unsigned)__bfloat16_as_ushort(__float2bfloat16(low)) |
	       (unsigned)__bfloat16_as_ushort(__float2bfloat16(high)) << 16;
}

template <bool NARROW> __device__ __forceinline__ uint4 pack(const float *v)
{
	if (NARROW)
		return make_uint4(two(v[0], v[1]), two(v[2], v[3]), two(v[4], v[5]), two(v[6], v[7]));
	return make_uint4(__float_as_uint(v[0]), __float_as_uint(v[1]), __float_as_uint(v[2]), __float_as_uint(v[3]));
}

// Σ exp(logit - max) of the logits so far
struct running {
	float max, sum;
};

// The columns from `first` on that are padding or the target's count for nothing.
template <bool NARROW>
__device__ __forceinline__ void online(running &r, const uint4 &bits, int first, int target, int V)
{
	const int W = width<NARROW>();
	float v[W], max = r.max;

	unpack<NARROW>(v, bits);
	if (first + W > V || (unsigned)(target - first) < (unsigned)W) {
		CU_UNROLL
		for (int k = 0; k < W; k++)
			if (first + k >= V || first + k == target)
				v[k] = -INFINITY;
	}
	CU_UNROLL
	for (int k = 0; k < W; k++)
		max = fmaxf(max, v[k]);
	r.sum *= __expf(r.max - max);
	CU_UNROLL
	for (int k = 0; k < W; k++)
		r.sum += __expf(v[k] - max);
	r.max = max;
}

// What the gradient of a row needs: factor exp(logit - max), but `own` at the target.
struct softmax {
	float max, factor, own;
};

template <bool NARROW>
__device__ __forceinline__ uint4 gradient(const softmax &s, const uint4 &bits, int first, int target, int V)
{
	const int W = width<NARROW>();
	float v[W];

	unpack<NARROW>(v, bits);
	CU_UNROLL
	for (int k = 0; k < W; k++)
		v[k] = s.factor * __expf(v[k] - s.max);
	if (first + W > V || (unsigned)(target - first) < (unsigned)W) {
		CU_UNROLL
		for (int k = 0; k < W; k++)
			if (first + k == target)
				v[k] = s.own;
			else if (first + k >= V)
				v[k] = 0;
	}
	return pack<NARROW>(v);
}

/* The block's running sums and the target's logit, of which each thread has a part, in every thread: *nll, and
 * the softmax whose gradient is scaled. */
__device__ softmax finish(float *nll, running r, float part_of_own, float scale)
{
	CU_SHARED(float, maxima, MOST_WARPS);
	CU_SHARED(float, sums, MOST_WARPS);
	CU_SHARED(float, owns, MOST_WARPS);
	const int lane = (int)threadIdx.x % LANES, warp = (int)threadIdx.x / LANES, warps = (int)blockDim.x / LANES;
	float max = warp_max(r.max), sum = warp_sum(r.sum * __expf(r.max - max)), own = warp_sum(part_of_own);

	if (lane == 0) {
		maxima[warp] = max;
		sums[warp] = sum;
		owns[warp] = own;
	}
	__syncthreads();
	r.max = lane < warps ? maxima[lane] : -FLT_MAX;
	r.sum = lane < warps ? sums[lane] : 0.0f;
	own = warp_sum(lane < warps ? owns[lane] : 0.0f);
	max = fmaxf(warp_max(r.max), own);
	const float others = warp_sum(r.sum * __expf(r.max - max)), all = others + __expf(own - max);
	*nll = max - own + logf(all);
	return { max, scale / all, -scale * (others / all) };   // p - 1 is what the others have
}

/* nll (rows) and, but for NLL_ALONE, logits (rows,ld) = scale · (softmax - onehot); x (rows,C), w (V,C).
 * vectors: of 16 bytes in ld logits. */
template <bool NARROW, int PASS>
__global__ void __launch_bounds__(MOST_THREADS, 2)
cross_entropy_kernel(float *__restrict__ nll, uint4 *logits, const float *__restrict__ x,
		     const float *__restrict__ w, const int32_t *__restrict__ targets, float scale, int C, int V,
		     int vectors)
{
	CU_SHARED_DYN(uint4, shared);
	const int W = width<NARROW>(), T = (int)blockDim.x, me = (int)threadIdx.x, target = targets[blockIdx.x];
	uint4 *row = logits + blockIdx.x * (size_t)vectors, held[HELD];
	running r = { -FLT_MAX, 0 };
	float own = 0, loss;

	if (target < 0) {
		for (int i = me; PASS != NLL_ALONE && i < vectors; i += T)
			row[i] = make_uint4(0, 0, 0, 0);
		if (me == 0)
			nll[blockIdx.x] = 0;
		return;
	}
	CU_UNROLL
	for (int k = 0; k < HELD; k++)
		if (me + k * T < vectors)
			held[k] = row[me + k * T];
	if (PASS == READ_ONCE) {        // a thread reads again what it wrote itself
		CU_UNROLL_BY(4)
		for (int i = me + HELD * T; i < vectors; i += T)
			shared[i - HELD * T] = row[i];
	}
	for (int c = me; c < C; c += T)
		own += x[blockIdx.x * (size_t)C + (size_t)c] * w[(size_t)target * (size_t)C + (size_t)c];
	CU_UNROLL
	for (int k = 0; k < HELD; k++)
		if (me + k * T < vectors)
			online<NARROW>(r, held[k], (me + k * T) * W, target, V);
	for (int i = me + HELD * T; i < vectors; i += T)
		online<NARROW>(r, PASS == READ_ONCE ? shared[i - HELD * T] : row[i], i * W, target, V);
	const softmax s = finish(&loss, r, own, scale);
	if (me == 0)
		nll[blockIdx.x] = loss;
	if (PASS != NLL_ALONE) {
		CU_UNROLL
		for (int k = 0; k < HELD; k++)
			if (me + k * T < vectors)
				row[me + k * T] = gradient<NARROW>(s, held[k], (me + k * T) * W, target, V);
		for (int i = me + HELD * T; i < vectors; i += T)
			row[i] = gradient<NARROW>(s, PASS == READ_ONCE ? shared[i - HELD * T] : row[i], i * W,
						  target, V);
	}
}

/* ---- launcher ---- */

struct rows {
	float *nll;
	uint4 *logits;
	const float *x, *w;
	const int32_t *targets;
	float scale;
	size_t n, C, V, vectors;
};

template <bool NARROW, int PASS> static void set(cudaFuncAttribute what, int value)
{
	cuda_check(cudaFuncSetAttribute((const void *)cross_entropy_kernel<NARROW, PASS>, what, value), "lmhead");
}

template <bool NARROW, int PASS>
static void launch(const struct rows *h, unsigned threads, size_t shared)
{
	const size_t bytes = h->n * h->vectors * sizeof(uint4);

	if (shared + STATIC_SHARED > UNASKED_SHARED) {        // as much as is asked for; and as it can be, or one block alone may be given room
		set<NARROW, PASS>(cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared);
		set<NARROW, PASS>(cudaFuncAttributePreferredSharedMemoryCarveout, cudaSharedmemCarveoutMaxShared);
	}
	CU_TRAFFIC(bytes + h->n * (2 * h->C + 1) * sizeof(float),
		   (PASS == NLL_ALONE ? 0 : bytes) + h->n * sizeof(float));
	LAUNCH((cross_entropy_kernel<NARROW, PASS>), (unsigned)h->n, threads, shared, cuda_stream(), h->nll, h->logits,
	       h->x, h->w, h->targets, h->scale, (int)h->C, (int)h->V, (int)h->vectors);
	cuda_launched("lmhead");
}

// Shared memory that a block may have beside its static part.
static size_t shared_at_most()
{
	int device, bytes;

	cuda_check(cudaGetDevice(&device), "lmhead");
	cuda_check(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device), "lmhead");
	return (size_t)bytes - STATIC_SHARED;
}

template <bool NARROW> static void launch_rows(const struct rows *h, bool gradient)
{
	unsigned threads = LANES;

	while (threads < MOST_THREADS && threads * HELD < h->vectors)
		threads *= 2;
	const size_t held = (size_t)threads * HELD;
	const size_t shared = h->vectors > held ? (h->vectors - held) * sizeof(uint4) : 0;

	if (!gradient)
		launch<NARROW, NLL_ALONE>(h, threads, 0);
	else if (shared <= shared_at_most())
		launch<NARROW, READ_ONCE>(h, threads, shared);
	else
		launch<NARROW, READ_TWICE>(h, threads, 0);
}

void cuda_cross_entropy(float *nll, void *logits, bool narrow, size_t ld, const float *x, const float *w,
			const int32_t *targets, float scale, bool gradient, size_t n, size_t C, size_t V)
{
	const struct rows h = {
		nll, static_cast<uint4 *>(logits), x, w, targets, scale, n, C, V, ld / (narrow ? 8 : 4),
	};

	if (narrow)
		launch_rows<true>(&h, gradient);
	else
		launch_rows<false>(&h, gradient);
}
