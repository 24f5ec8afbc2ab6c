/*
 * Causal attention without a matrix of scores: keys and values pass through
 * shared memory a tile at a time, a query keeps the running maximum and sum of
 * its softmax, and backward makes the scores again.
 *
 * A group of G neighbouring lanes shares a row of a head, P channels a lane, in
 * pieces of four that go round the lanes: what a warp reads of a tile at one
 * time are G neighbouring pieces, which lie in different banks.  Products of
 * rows end in log2 G shuffles, after which all lanes of the group hold the sum.
 * Channels past the head's and rows past the last are zeros in the tile.
 *
 * Each sum is made by one thread, in the order of the rows, or over the lanes
 * of a group: there is nothing that atomics would be needed for.
 */
#include "cu.h"

#include <float.h>

#include "cuda.h"

/* What the kernels need to know of the heads. */
struct attention_heads {
	size_t C;               /* from one head's rows of y to the next: all heads' channels */
	int size;               /* of a head, at most G·P */
	bool wide;              /* rows may be read as float4 */
	int T;
	float scale;            /* of scores: 1 / sqrt(size) */
};

static __device__ __forceinline__ float dot(float4 a, float4 b, float sum)
{
	return sum + a.x * b.x + a.y * b.y + a.z * b.z + a.w * b.w;
}

/* y += a x */
static __device__ __forceinline__ void axpy(float4 &y, float a, float4 x)
{
	y.x += a * x.x, y.y += a * x.y, y.z += a * x.z, y.w += a * x.w;
}

static __device__ __forceinline__ float4 scaled(float4 x, float a)
{
	return make_float4(a * x.x, a * x.y, a * x.z, a * x.w);
}

template <int G> static __device__ __forceinline__ float group_sum(float v)
{
	CU_UNROLL
	for (int o = G / 2; o; o /= 2)
		v += __shfl_xor_sync(0xffffffffu, v, o);
	return v;
}

static __device__ __forceinline__ int warp_max(int v)
{
	for (int o = 16; o; o /= 2)
		v = max(v, __shfl_xor_sync(0xffffffffu, v, o));
	return v;
}

/* Four channels from c of a head's row. */
static __device__ __forceinline__ float4 four(const float *row, int c, const attention_heads &a)
{
	float4 v = make_float4(0, 0, 0, 0);

	if (a.wide && c < a.size)
		return *reinterpret_cast<const float4 *>(row + c);
	v.x = c < a.size ? row[c] : 0;
	v.y = c + 1 < a.size ? row[c + 1] : 0;
	v.z = c + 2 < a.size ? row[c + 2] : 0;
	v.w = c + 3 < a.size ? row[c + 3] : 0;
	return v;
}

static __device__ __forceinline__ void put_four(float *row, int c, float4 v, const attention_heads &a)
{
	if (a.wide && c < a.size) {
		*reinterpret_cast<float4 *>(row + c) = v;
		return;
	}
	if (c < a.size)
		row[c] = v.x;
	if (c + 1 < a.size)
		row[c + 1] = v.y;
	if (c + 2 < a.size)
		row[c + 2] = v.z;
	if (c + 3 < a.size)
		row[c + 3] = v.w;
}

/* A lane's channels of a row, times by. */
template <int G, int P>
static __device__ __forceinline__ void take(float4 *to, const float *row, float by, const attention_heads &a)
{
	CU_UNROLL
	for (int i = 0; i < P / 4; i++)
		to[i] = scaled(four(row, (i * G + (int)threadIdx.x % G) * 4, a), by);
}

template <int G, int P>
static __device__ __forceinline__ void give(float *row, const float4 *from, float by, const attention_heads &a)
{
	CU_UNROLL
	for (int i = 0; i < P / 4; i++)
		put_four(row, (i * G + (int)threadIdx.x % G) * 4, scaled(from[i], by), a);
}

/* How a head size is worked on.  Tiles are 16 KiB, or 32 for the largest heads. */
template <int LANES, int CHANNELS> struct attention_shape {
	static constexpr int G = LANES, P = CHANNELS, WIDTH = G * P, PIECES = WIDTH / 4;
	static constexpr int THREADS = G < 4 ? 64 : 128;
	static constexpr int ROWS = WIDTH > 32 ? 32 : 64;       /* of a tile */
	static constexpr int GROUPS = THREADS / G;
	static constexpr int QUERIES = 2;                       /* of a group, forward */
	static constexpr int CHUNK = 4;                         /* keys between two looks at the maximum */
};

/* The tile's rows from `at`, `ld` apart; those from `end` are zeros. */
template <class S>
static __device__ __forceinline__ void stage(float4 *tile, const float *x, size_t ld, int at, int end,
					     const attention_heads &a)
{
	for (int i = (int)threadIdx.x; i < S::ROWS * S::PIECES; i += S::THREADS) {
		const int row = at + i / S::PIECES;

		tile[i] = row < end ? four(x + (size_t)row * ld, i % S::PIECES * 4, a) : make_float4(0, 0, 0, 0);
	}
}

/* A query of the forward pass: its channels, scaled; Σ p v and Σ p so far, where p = exp(score - max). */
template <int P> struct query {
	float4 own[P / 4], sum[P / 4];
	float max, z;
};

/* Nothing seen.  The maximum begins below any score, not at -infinity, so that keys that are all masked
 * leave everything as it is. */
template <int G, int P>
static __device__ __forceinline__ void begin(query<P> &q, const float *row, const attention_heads &a)
{
	take<G, P>(q.own, row, a.scale, a);
	q.max = -FLT_MAX;
	q.z = 0;
	CU_UNROLL
	for (int i = 0; i < P / 4; i++)
		q.sum[i] = make_float4(0, 0, 0, 0);
}

/* p: scores, of which the query sees the first; then their weights */
template <int G, int P, int CHUNK>
static __device__ __forceinline__ void soften(query<P> &q, float (&p)[CHUNK], int seen)
{
	float top = q.max, more = 0;

	CU_UNROLL
	for (int e = 0; e < CHUNK; e++) {
		p[e] = group_sum<G>(p[e]);
		if (e >= seen)
			p[e] = -INFINITY;
		top = fmaxf(top, p[e]);
	}
	const float keep = __expf(q.max - top);
	CU_UNROLL
	for (int e = 0; e < CHUNK; e++)
		more += p[e] = __expf(p[e] - top);
	q.z = q.z * keep + more;
	q.max = top;
	CU_UNROLL
	for (int i = 0; i < P / 4; i++)
		q.sum[i] = scaled(q.sum[i], keep);
}

/* A chunk of keys and values, of which query j sees the first seen[j].  k, v: this lane's first pieces */
template <class S>
static __device__ __forceinline__ void attend(query<S::P> (&q)[S::QUERIES], const float4 *k, const float4 *v,
					      const int (&seen)[S::QUERIES])
{
	float p[S::QUERIES][S::CHUNK] = {};

	CU_UNROLL
	for (int e = 0; e < S::CHUNK; e++)
		CU_UNROLL
		for (int i = 0; i < S::P / 4; i++) {
			const float4 piece = k[e * S::PIECES + i * S::G];
			CU_UNROLL
			for (int j = 0; j < S::QUERIES; j++)
				p[j][e] = dot(q[j].own[i], piece, p[j][e]);
		}
	CU_UNROLL
	for (int j = 0; j < S::QUERIES; j++)
		soften<S::G>(q[j], p[j], seen[j]);
	CU_UNROLL
	for (int e = 0; e < S::CHUNK; e++)
		CU_UNROLL
		for (int i = 0; i < S::P / 4; i++) {
			const float4 piece = v[e * S::PIECES + i * S::G];
			CU_UNROLL
			for (int j = 0; j < S::QUERIES; j++)
				axpy(q[j].sum[i], p[j][e], piece);
		}
}

/*
 * y (n,C) = softmax(q kᵀ scale) v of n of the B·T rows: those that `rows` names,
 * ascending, or the first n where it is NULL; lse (B,NH,T), or NULL.  q: n rows,
 * ldq apart; k: B·T rows, ldkv apart, v begins C behind k.
 *
 * A block takes neighbouring rows, and the contexts that they lie in one by one.
 */
template <class S>
__global__ void __launch_bounds__(S::THREADS, 384 / S::THREADS)
attention_fwd_kernel(float *__restrict__ y, float *__restrict__ lse, const float *__restrict__ q, size_t ldq,
		     const float *__restrict__ kv, size_t ldkv, const uint32_t *__restrict__ rows, size_t n,
		     attention_heads a)
{
	constexpr int QUERIES = S::QUERIES, BLOCK = S::GROUPS * QUERIES;
	CU_SHARED(float4, k, S::ROWS * S::PIECES);
	CU_SHARED(float4, v, S::ROWS * S::PIECES);
	CU_SHARED(int, context, BLOCK);
	CU_SHARED(int, position, BLOCK);
	const size_t first = (size_t)blockIdx.x * BLOCK, head = blockIdx.y * (size_t)a.size;
	const int count = n - first < BLOCK ? (int)(n - first) : BLOCK;
	const int lane = (int)threadIdx.x % S::G, own = (int)threadIdx.x / S::G * QUERIES;
	query<S::P> own_q[QUERIES];
	int at[QUERIES], seen[QUERIES];

	for (int i = (int)threadIdx.x; i < count; i += S::THREADS) {
		const unsigned row = rows ? rows[first + (size_t)i] : (unsigned)first + (unsigned)i;

		context[i] = (int)(row / (unsigned)a.T);
		position[i] = (int)(row % (unsigned)a.T);
	}
	__syncthreads();
	CU_UNROLL
	for (int j = 0; j < QUERIES; j++) {
		at[j] = min(own + j, count - 1);
		begin<S::G>(own_q[j], q + (first + (size_t)at[j]) * ldq + head, a);
	}
	for (int from = 0, to; from < count; from = to) {
		const float *keys = kv + (size_t)context[from] * (size_t)a.T * ldkv + head;
		int longest = 0;

		for (to = from + 1; to < count && context[to] == context[from];)
			to++;
		CU_UNROLL
		for (int j = 0; j < QUERIES; j++) {
			seen[j] = context[at[j]] == context[from] ? position[at[j]] + 1 : 0;
			longest = max(longest, seen[j]);
		}
		longest = warp_max(longest);
		for (int key = 0, end = position[to - 1] + 1; key < end; key += S::ROWS) {
			__syncthreads();        // the tile before has been read
			stage<S>(k, keys, ldkv, key, end, a);
			stage<S>(v, keys + a.C, ldkv, key, end, a);
			__syncthreads();
			for (int c = 0; c < S::ROWS && key + c < longest; c += S::CHUNK) {
				attend<S>(own_q, k + c * S::PIECES + lane, v + c * S::PIECES + lane, seen);
				CU_UNROLL
				for (int j = 0; j < QUERIES; j++)
					seen[j] -= S::CHUNK;
			}
		}
	}
	CU_UNROLL
	for (int j = 0; j < QUERIES; j++) {
		if (own + j >= count)
			continue;
		give<S::G, S::P>(y + (first + (size_t)at[j]) * a.C + head, own_q[j].sum, 1 / own_q[j].z, a);
		if (lse && lane == 0)
			lse[((size_t)context[at[j]] * gridDim.y + blockIdx.y) * (size_t)a.T + (size_t)position[at[j]]] =
				own_q[j].max + __logf(own_q[j].z);
	}
}

/* Where a group of the backward kernels works: row t of context b, and the same clamped to one that is there. */
struct place {
	int first, t, there;            /* the block's first row; the group's */
	size_t row, score, head;        /* of the context's rows 0 (B·T,·) and of its scores 0 (B,NH,T); channel */
};

template <class S> static __device__ __forceinline__ place locate(const attention_heads &a)
{
	const unsigned blocks = ((unsigned)a.T + S::GROUPS - 1) / S::GROUPS;
	const size_t b = blockIdx.x / blocks;
	place p;

	p.first = (int)(blockIdx.x % blocks) * S::GROUPS;
	p.t = p.first + (int)threadIdx.x / S::G;
	p.there = min(p.t, a.T - 1);
	p.row = b * (size_t)a.T;
	p.score = (b * gridDim.y + blockIdx.y) * (size_t)a.T;
	p.head = blockIdx.y * (size_t)a.size;
	return p;
}

/*
 * dq of dqkv (B·T,3C) = , and total (B,NH,T) = <dy, y> = Σ p dp, for the other
 * half.  With p = exp(scale <q, k_j> - lse) and dp = <dy, v_j>:
 * dq = scale Σ p (dp - total) k_j.  One query a group.
 */
template <class S>
__global__ void __launch_bounds__(S::THREADS, 512 / S::THREADS)
attention_bwd_q_kernel(float *__restrict__ dqkv, float *__restrict__ total, const float *__restrict__ dy,
		       const float *__restrict__ y, const float *__restrict__ lse, const float *__restrict__ qkv,
		       attention_heads a)
{
	constexpr int G = S::G, P = S::P, TOGETHER = 2;
	CU_SHARED(float4, k, S::ROWS * S::PIECES);
	CU_SHARED(float4, v, S::ROWS * S::PIECES);
	const place at = locate<S>(a);
	const size_t ld = 3 * a.C, row = at.row + (size_t)at.there, score = at.score + (size_t)at.there;
	const int end = min(at.first + S::GROUPS, a.T), lane = (int)threadIdx.x % G;
	const int mine = at.t < a.T ? at.t + 1 : 0, longest = warp_max(mine);
	const float *keys = qkv + at.row * ld + a.C + at.head;
	float4 q[P / 4], g[P / 4], sum[P / 4];
	float mean = 0;

	take<G, P>(q, y + row * a.C + at.head, 1, a);
	take<G, P>(g, dy + row * a.C + at.head, 1, a);
	CU_UNROLL
	for (int i = 0; i < P / 4; i++) {
		mean = dot(q[i], g[i], mean);
		sum[i] = make_float4(0, 0, 0, 0);
	}
	mean = group_sum<G>(mean);
	take<G, P>(q, qkv + row * ld + at.head, a.scale, a);
	const float offset = lse[score];
	for (int key = 0; key < end; key += S::ROWS) {
		__syncthreads();        // the tile before has been read
		stage<S>(k, keys, ld, key, end, a);
		stage<S>(v, keys + a.C, ld, key, end, a);
		__syncthreads();
		for (int c = 0; c < S::ROWS && key + c < longest; c += TOGETHER) {
			float4 ks[TOGETHER][P / 4];
			float s[TOGETHER] = {}, dp[TOGETHER] = {};

			CU_UNROLL
			for (int e = 0; e < TOGETHER; e++)
				CU_UNROLL
				for (int i = 0; i < P / 4; i++) {
					ks[e][i] = k[(c + e) * S::PIECES + i * G + lane];
					s[e] = dot(q[i], ks[e][i], s[e]);
					dp[e] = dot(g[i], v[(c + e) * S::PIECES + i * G + lane], dp[e]);
				}
			CU_UNROLL
			for (int e = 0; e < TOGETHER; e++) {
				s[e] = group_sum<G>(s[e]);
				dp[e] = group_sum<G>(dp[e]);
				const float p = key + c + e < mine ? __expf(s[e] - offset) : 0;
				CU_UNROLL
				for (int i = 0; i < P / 4; i++)
					axpy(sum[i], p * (dp[e] - mean), ks[e][i]);
			}
		}
	}
	if (at.t >= a.T)
		return;
	give<G, P>(dqkv + row * ld + at.head, sum, a.scale, a);
	if (lane == 0)
		total[score] = mean;
}

/*
 * dk and dv of dqkv (B·T,3C) = : dv_j = Σ p dy, dk_j = scale Σ p (dp - total) q
 * over the queries from j on.  One key a group.
 */
template <class S>
__global__ void __launch_bounds__(S::THREADS, 512 / S::THREADS)
attention_bwd_kv_kernel(float *__restrict__ dqkv, const float *__restrict__ total, const float *__restrict__ dy,
			const float *__restrict__ lse, const float *__restrict__ qkv,
			attention_heads a)
{
	constexpr int G = S::G, P = S::P;
	CU_SHARED(float4, q, S::ROWS * S::PIECES);
	CU_SHARED(float4, g, S::ROWS * S::PIECES);
	CU_SHARED(float, offset, S::ROWS);
	CU_SHARED(float, mean, S::ROWS);
	const place at = locate<S>(a);
	const size_t ld = 3 * a.C, row = (at.row + (size_t)at.there) * ld + at.head;
	const int lane = (int)threadIdx.x % G, earliest = at.first + (int)threadIdx.x / 32 * (32 / G);
	float4 k[P / 4], v[P / 4], dk[P / 4], dv[P / 4];

	take<G, P>(k, qkv + row + a.C, a.scale, a);
	take<G, P>(v, qkv + row + 2 * a.C, 1, a);
	CU_UNROLL
	for (int i = 0; i < P / 4; i++)
		dk[i] = dv[i] = make_float4(0, 0, 0, 0);
	for (int query = at.first; query < a.T; query += S::ROWS) {
		__syncthreads();        // the tile before has been read
		stage<S>(q, qkv + at.row * ld + at.head, ld, query, a.T, a);
		stage<S>(g, dy + at.row * a.C + at.head, a.C, query, a.T, a);
		for (int i = (int)threadIdx.x; i < S::ROWS; i += S::THREADS) {
			const bool there = query + i < a.T;

			offset[i] = there ? lse[at.score + (size_t)(query + i)] : INFINITY;     // p = 0
			mean[i] = there ? total[at.score + (size_t)(query + i)] : 0;
		}
		__syncthreads();
		for (int c = max(earliest - query, 0); c < S::ROWS; c++) {
			float4 qs[P / 4], gs[P / 4];
			float s = 0, dp = 0;

			CU_UNROLL
			for (int i = 0; i < P / 4; i++) {
				qs[i] = q[c * S::PIECES + i * G + lane];
				gs[i] = g[c * S::PIECES + i * G + lane];
				s = dot(k[i], qs[i], s);
				dp = dot(v[i], gs[i], dp);
			}
			s = group_sum<G>(s);
			dp = group_sum<G>(dp);
			const float p = query + c >= at.t ? __expf(s - offset[c]) : 0;
			const float ds = p * (dp - mean[c]);
			CU_UNROLL
			for (int i = 0; i < P / 4; i++) {
				axpy(dv[i], p, gs[i]);
				axpy(dk[i], ds, qs[i]);
			}
		}
	}
	if (at.t >= a.T)
		return;
	give<G, P>(dqkv + row + a.C, dk, a.scale, a);
	give<G, P>(dqkv + row + 2 * a.C, dv, 1, a);
}

/* ---- launchers ---- */

/* rows: arrays in which a head's row begins at a multiple of its size */
template <class... A> static attention_heads heads_of(size_t T, size_t C, size_t NH, A... rows)
{
	const size_t size = C / NH;

	if (size > 128)
		cuda_check(cudaErrorInvalidValue, "attention: heads of more than 128 channels");
	return { C, (int)size, size % 4 == 0 && ((uintptr_t)rows | ...) % 16 == 0, (int)T, 1 / sqrtf((float)size) };
}

/* The smallest shape that holds a head. */
template <class F> static void with_shape(int size, F launch)
{
	if (size <= 16)
		launch(attention_shape<1, 16>());
	else if (size <= 32)
		launch(attention_shape<2, 16>());
	else if (size <= 48)
		launch(attention_shape<4, 12>());
	else if (size <= 64)
		launch(attention_shape<4, 16>());
	else if (size <= 96)
		launch(attention_shape<8, 12>());
	else
		launch(attention_shape<8, 16>());
}

static void forward(float *y, float *lse, const float *q, size_t ldq, const float *kv, size_t ldkv,
		    const uint32_t *rows, size_t n, size_t NH, const attention_heads &a)
{
	with_shape(a.size, [&](auto s) {
		typedef decltype(s) S;
		const size_t block = S::GROUPS * S::QUERIES;

		LAUNCH((attention_fwd_kernel<S>), dim3((unsigned)((n + block - 1) / block), (unsigned)NH), S::THREADS, 0,
		       cuda_stream(), y, lse, q, ldq, kv, ldkv, rows, n, a);
	});
}

void cuda_attention_fwd(real *y, real *lse, const real *qkv, size_t B, size_t T, size_t C, size_t NH)
{
	const attention_heads a = heads_of(T, C, NH, y, qkv);

	if (B * T == 0)
		return;
	CU_TRAFFIC(B * T * 3 * C * sizeof(*qkv), B * T * (C + NH) * sizeof(*y));
	forward(y, lse, qkv, 3 * C, qkv + C, 3 * C, NULL, B * T, NH, a);
	cuda_launched("attention_fwd");
}

void cuda_attention_rows(real *y, const real *q, const real *kv, const uint32_t *rows, size_t n, size_t B, size_t T,
			 size_t C, size_t NH)
{
	const attention_heads a = heads_of(T, C, NH, y, q, kv);

	if (n == 0)
		return;
	CU_TRAFFIC((n * C + B * T * 2 * C) * sizeof(*q) + n * sizeof(*rows), n * C * sizeof(*y));
	forward(y, NULL, q, C, kv, 2 * C, rows, n, NH, a);
	cuda_launched("attention_rows");
}

void cuda_attention_bwd(real *dqkv, const real *dy, const real *y, const real *lse, const real *qkv, size_t B,
			size_t T, size_t C, size_t NH)
{
	const attention_heads a = heads_of(T, C, NH, dqkv, dy, y, qkv);
	float *total = (float *)cuda_scratch(SCRATCH_ROWS, B * NH * T * sizeof(*total));
	const size_t row = C * sizeof(*qkv), score = NH * sizeof(*lse);

	if (B * T == 0)
		return;
	with_shape(a.size, [&](auto s) {
		typedef decltype(s) S;
		const dim3 grid((unsigned)(B * ((T + S::GROUPS - 1) / S::GROUPS)), (unsigned)NH);

		CU_TRAFFIC(B * T * (5 * row + score), B * T * (row + score));
		LAUNCH((attention_bwd_q_kernel<S>), grid, S::THREADS, 0, cuda_stream(), dqkv, total, dy, y, lse, qkv, a);
		cuda_launched("attention_bwd");
		CU_TRAFFIC(B * T * (4 * row + 2 * score), B * T * 2 * row);
		LAUNCH((attention_bwd_kv_kernel<S>), grid, S::THREADS, 0, cuda_stream(), dqkv, total, dy, lse, qkv, a);
		cuda_launched("attention_bwd");
	});
}
