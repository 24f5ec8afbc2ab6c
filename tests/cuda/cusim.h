#ifndef CUSIM_H
#define CUSIM_H
/*
 * cusim: CUDA C++ for a compiler that is not nvcc.  NVIDIA's own headers give
 * the types and prototypes of the host side; this one gives the device side:
 * launches, shared memory, barriers, shuffles, votes, atomics, intrinsics.
 * libcusim (cusim_*.cpp) stands in for libcudart, libcublas and libcublasLt.
 *
 * Every barrier and warp operation knows the line it was called from, so that
 * a divergent barrier is reported with both places.
 *
 *   CUSIM_SEED=n    0: threads and blocks in index order; n: a random order of
 *                   threads, blocks and streams, the same for the same n
 *   CUSIM_LAZY=1    stream work runs as late as the program's waits allow
 *   CUSIM_GUARD=0   host code may touch device memory (else it is reported)
 *   CUSIM_FAIL=n    the n-th call of the runtime fails
 *   CUSIM_NOLT=1    cublasLt supports nothing, as it may on a real device
 *   CUSIM_MEM_MB=n  size of the device's memory, 4096
 *   CUSIM_DEVICES=n how many devices there are, 1; nccl.cpp wants one for each process
 *   CUSIM_PTX=file  kernels run from nvcc's PTX (ptx.h), not as compiled here
 *   CUSIM_COUNT=file  a tally of calls, launches, FLOPs and bytes, written at exit
 *   CUSIM_DRY=1     launches, copies and products are counted, not executed
 */
#include <cuda_runtime_api.h>
#include <vector_functions.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include <functional>
#include <string>
#include <tuple>
#include <type_traits>

#undef __global__
#undef __device__
#undef __host__
#undef __constant__
#undef __shared__
#undef __forceinline__
#undef __launch_bounds__
#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __shared__ use_CU_SHARED_instead        // a bare __shared__ must not compile
#define __forceinline__ inline
#define __launch_bounds__(...)

static const int warpSize = 32;
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

namespace cusim {

typedef unsigned long long u64;

// What the lanes of a warp can do together.
enum warp_kind { SHUFFLE, VOTE, SYNCWARP };

struct place {
	const char *file;
	int line;
};

int barrier(int predicate, place from);         // how many threads of the block gave a true predicate
u64 warp_meet(warp_kind kind, unsigned mask, u64 value, int source, place from);
unsigned lane();
void *shared_static(const void *key, size_t bytes, size_t align);
void *shared_dynamic();
void fence();
bool fenced();                                  // has this thread called a fence?
void check_argument(const void *p, const char *kernel, int index);
void traffic(size_t bytes_read, size_t bytes_written);
[[noreturn]] void trap(const char *what);

// One launch: `run` is the kernel with its arguments bound, for one thread; `parameters` are the
// arguments as the hardware lays them out, for the PTX interpreter.
struct kernel_launch {
	const char *name;
	const void *function;
	dim3 grid, block;
	size_t shared;
	std::function<void()> run;
	std::string parameters;
};
void launch(const kernel_launch &what, cudaStream_t stream);

template <class T> void check_value(T value, const char *kernel, int index)
{
	if constexpr (std::is_pointer_v<T>)
		check_argument((const void *)value, kernel, index);
	else
		(void)value, (void)kernel, (void)index;
}

template <class T> void append_parameter(std::string &to, const T &value)
{
	to.resize((to.size() + alignof(T) - 1) & ~(alignof(T) - 1));
	to.append((const char *)&value, sizeof(value));
}

template <class... P, class... A>
void launch_kernel(const char *name, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared,
		   cudaStream_t stream, A &&...arguments)
{
	// by value and converted to the parameters' types, as the hardware takes them
	std::tuple<std::decay_t<P>...> values(static_cast<P>(arguments)...);
	std::string parameters;

	std::apply([&](auto... v) {
		int index = 0;
		(check_value(v, name, index++), ...);
		(append_parameter(parameters, v), ...);
		(void)index;
	}, values);
	launch({ name, (const void *)kernel, grid, block, shared,
		 [kernel, values] { std::apply(kernel, values); }, parameters }, stream);
}

template <class T> T shuffle(unsigned mask, T value, int source, place from)
{
	static_assert(sizeof(T) <= 8, "a shuffle moves at most 8 bytes");
	u64 bits = 0;

	memcpy(&bits, &value, sizeof(value));
	bits = warp_meet(SHUFFLE, mask, bits, source, from);
	memcpy(&value, &bits, sizeof(value));
	return value;
}

// Relaxed until the thread has fenced, then acquire-release: so a thread sanitizer accepts the
// "last block adds up" idiom and reports it when the fence is missing.
template <class T, class F> T atomic(T *p, F change)
{
	using bits = std::conditional_t<sizeof(T) == 8, u64,
		     std::conditional_t<sizeof(T) == 4, unsigned, unsigned short>>;
	bits was = __atomic_load_n((bits *)p, __ATOMIC_RELAXED), next;
	const bool ordered = fenced();
	bool stored;
	T old_value, new_value;

	do {
		memcpy(&old_value, &was, sizeof(was));
		new_value = change(old_value);
		memcpy(&next, &new_value, sizeof(next));
		// the orders must be constants: a variable one counts as sequentially consistent
		stored = ordered ? __atomic_compare_exchange_n((bits *)p, &was, next, false,
							       __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)
				 : __atomic_compare_exchange_n((bits *)p, &was, next, false,
							       __ATOMIC_RELAXED, __ATOMIC_RELAXED);
	} while (!stored);
	return old_value;
}

} // namespace cusim

#define LAUNCH(kernel, grid, block, shared, stream, ...) \
	cusim::launch_kernel(#kernel, kernel, grid, block, shared, stream, __VA_ARGS__)
#define CU_SHARED(T, name, n)                \
	static const char name##_key = 0;    \
	T(&name)[n] = *reinterpret_cast<T(*)[n]>(cusim::shared_static(&name##_key, sizeof(T) * (n), alignof(T)))
#define CU_SHARED_DYN(T, name) T *name = reinterpret_cast<T *>(cusim::shared_dynamic())
#define CU_TRAFFIC(bytes_read, bytes_written) cusim::traffic(bytes_read, bytes_written)

// The caller's place, as the last and defaulted argument of what follows.
#define CUSIM_FROM cusim::place from = { __builtin_FILE(), __builtin_LINE() }

static inline void __syncthreads(CUSIM_FROM) { cusim::barrier(0, from); }
static inline int __syncthreads_count(int p, CUSIM_FROM) { return cusim::barrier(p, from); }
static inline int __syncthreads_or(int p, CUSIM_FROM) { return cusim::barrier(p, from) > 0; }
static inline int __syncthreads_and(int p, CUSIM_FROM) { return cusim::barrier(!p, from) == 0; }

static inline void __syncwarp(unsigned mask = ~0u, CUSIM_FROM)
{
	cusim::warp_meet(cusim::SYNCWARP, mask, 0, 0, from);
}
static inline unsigned __ballot_sync(unsigned mask, int p, CUSIM_FROM)
{
	return (unsigned)cusim::warp_meet(cusim::VOTE, mask, p != 0, 0, from);
}
static inline int __any_sync(unsigned mask, int p, CUSIM_FROM)
{
	return cusim::warp_meet(cusim::VOTE, mask, p != 0, 0, from) != 0;
}
static inline int __all_sync(unsigned mask, int p, CUSIM_FROM)
{
	return cusim::warp_meet(cusim::VOTE, mask, p == 0, 0, from) == 0;
}

// Shuffles within groups of `width` lanes; a source outside the group leaves the value as it is.
template <class T> T __shfl_sync(unsigned mask, T value, int source, int width = 32, CUSIM_FROM)
{
	const int first = (int)cusim::lane() & ~(width - 1);

	return cusim::shuffle(mask, value, first | (source & (width - 1)), from);
}
template <class T> T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, CUSIM_FROM)
{
	const int lane = (int)cusim::lane(), first = lane & ~(width - 1), source = lane ^ bits;

	return cusim::shuffle(mask, value, source >= first + width ? lane : source, from);
}
template <class T> T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32, CUSIM_FROM)
{
	const int lane = (int)cusim::lane(), last = lane | (width - 1), source = lane + (int)by;

	return cusim::shuffle(mask, value, source > last ? lane : source, from);
}
template <class T> T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32, CUSIM_FROM)
{
	const int lane = (int)cusim::lane(), first = lane & ~(width - 1), source = lane - (int)by;

	return cusim::shuffle(mask, value, source < first ? lane : source, from);
}

static inline void __threadfence() { cusim::fence(); }
static inline void __threadfence_block() { cusim::fence(); }
#define __trap() cusim::trap("__trap()")

template <class T> using cusim_same = std::common_type_t<T>;    // the argument does not decide T
template <class T> T atomicAdd(T *p, cusim_same<T> v)
{
	return cusim::atomic(p, [=](T was) { return (T)(was + v); });
}
template <class T> T atomicMax(T *p, cusim_same<T> v)
{
	return cusim::atomic(p, [=](T was) { return was > v ? was : v; });
}
template <class T> T atomicMin(T *p, cusim_same<T> v)
{
	return cusim::atomic(p, [=](T was) { return was < v ? was : v; });
}
template <class T> T atomicOr(T *p, cusim_same<T> v)
{
	return cusim::atomic(p, [=](T was) { return (T)(was | v); });
}
template <class T> T atomicAnd(T *p, cusim_same<T> v)
{
	return cusim::atomic(p, [=](T was) { return (T)(was & v); });
}
template <class T> T atomicExch(T *p, cusim_same<T> v)
{
	return cusim::atomic(p, [=](T) { return v; });
}
template <class T> T atomicCAS(T *p, cusim_same<T> expected, cusim_same<T> v)
{
	return cusim::atomic(p, [=](T was) { return was == expected ? v : was; });
}

template <class T> T __ldg(const T *p) { return *p; }
template <class T> T __ldcs(const T *p) { return *p; }
template <class T> T __ldcg(const T *p) { return *p; }
template <class T> void __stcs(T *p, cusim_same<T> v) { *p = v; }
template <class T> void __stcg(T *p, cusim_same<T> v) { *p = v; }

// The fast forms run at full precision.  Macros where glibc has functions of these names.
#define __expf(x) expf(x)
#define __logf(x) logf(x)
#define __powf(x, y) powf(x, y)
static inline float __fdividef(float a, float b) { return a / b; }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline float __fsqrt_rn(float x) { return sqrtf(x); }
static inline float __frcp_rn(float x) { return 1.0f / x; }
static inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }

static inline unsigned __brev(unsigned x)
{
	unsigned reversed = 0;

	for (int i = 0; i < 32; i++, x >>= 1)
		reversed = reversed << 1 | (x & 1);
	return reversed;
}

template <class To, class From> To cusim_bits(From from)
{
	static_assert(sizeof(To) == sizeof(From), "the same bits under another type");
	To to;

	memcpy((void *)&to, (const void *)&from, sizeof(to));
	return to;
}
static inline unsigned __float_as_uint(float f) { return cusim_bits<unsigned>(f); }
static inline float __uint_as_float(unsigned u) { return cusim_bits<float>(u); }
static inline int __float_as_int(float f) { return cusim_bits<int>(f); }
static inline float __int_as_float(int i) { return cusim_bits<float>(i); }

template <class T> auto min(T a, T b) -> std::enable_if_t<std::is_arithmetic_v<T>, T>
{
	return b < a ? b : a;
}
template <class T> auto max(T a, T b) -> std::enable_if_t<std::is_arithmetic_v<T>, T>
{
	return a < b ? b : a;
}

#endif
