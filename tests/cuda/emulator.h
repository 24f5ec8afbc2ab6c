#ifndef EMULATOR_H
#define EMULATOR_H
/*
 * emulator: what the parts of libcusim know of one another.
 *
 *	cusim_base.cpp     settings, errors, random order, planned failures
 *	cusim_fiber.cpp    stacks and the switch between them, for the sanitizers too
 *	cusim_block.cpp    the threads of a block: barriers, warps, the scheduler
 *	cusim_shared.cpp   shared memory
 *	cusim_memory.cpp   device memory, pinned memory, copies
 *	cusim_stream.cpp   streams, events, graphs
 *	cusim_runtime.cpp  launches, devices, errors
 *	cusim_blas.cpp     cuBLAS and cublasLt; cusim_gemm.cpp their arithmetic
 *	cusim_count.cpp    the tally of launches, FLOPs and bytes
 *	ptx_parse.cpp, ptx_run.cpp   nvcc's own code, interpreted
 *
 * Not emulated: cooperative groups, cp.async, mma, inline PTX, printf on the
 * device, device pointer mode of cuBLAS; approximate functions are exact ones;
 * memory is sequentially consistent (TSan tells what leans on that); speed.
 *
 * One OS thread runs everything.  None of it is instrumented by a sanitizer,
 * also where the kernels are: the emulator's own accesses are not the program's.
 */
#include "cusim.h"

#include <stdint.h>

#include <vector>

#ifdef CUSIM_ASAN
#include <sanitizer/asan_interface.h>
#define POISON(p, bytes) __asan_poison_memory_region(p, bytes)
#define UNPOISON(p, bytes) __asan_unpoison_memory_region(p, bytes)
#else
#define POISON(p, bytes) ((void)0)
#define UNPOISON(p, bytes) ((void)0)
#endif

#ifdef CUSIM_TSAN
extern "C" {
void *__tsan_get_current_fiber(void);
void *__tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void *fiber);
void __tsan_switch_to_fiber(void *fiber, unsigned flags);
void __tsan_acquire(void *address);
void __tsan_release(void *address);
void AnnotateIgnoreWritesBegin(const char *file, int line);
void AnnotateIgnoreWritesEnd(const char *file, int line);
}
#define TSAN(...) __VA_ARGS__
#else
#define TSAN(...)
#endif
enum { NO_SYNC = 1 };   // flag of a TSan switch: the fibers are not ordered by it

namespace cusim {

// ---- base
struct settings {
	bool lazy, guard, dry, no_lt;
	u64 seed;
	size_t memory;          // bytes of the device
	int devices;            // that there are; they have their memory in common
	const char *ptx, *count;        // files, or NULL
};
const settings &set();
unsigned random_below(unsigned n);      // in [0,n), 0 for n = 0; of CUSIM_SEED alone
[[noreturn]] void die(const char *format, ...) __attribute__((format(printf, 1, 2)));
bool planned_failure(const char *call); // true for the CUSIM_FAIL-th of the calls that may fail; each is tallied
size_t calls_counted();
cudaError_t error(cudaError_t e);       // kept for cudaGetLastError unless it is success
cudaError_t last_error(bool forget);
const size_t DEFAULT_SHARED = 48 << 10, OPT_IN_SHARED = 163 << 10;

// The first statement of every runtime call that can fail.
#define MAY_FAIL(code)                            \
	do {                                      \
		if (cusim::planned_failure(__func__)) \
			return cusim::error(code); \
	} while (0)
#define RUNTIME extern "C" cudaError_t

// ---- fibers
struct fiber {
	void *stack_pointer;    // while it is not running
	char *stack;            // lowest byte
	size_t bytes;
	void *fake_stack;       // ASan's, while it is not running
};
fiber *fiber_take();                    // a free one, ready to be entered at fiber_main
void fiber_give(fiber *f);              // finished with; call before the last fiber_leave
void fiber_renew_all(int n);            // TSan: n of them on fresh memory, all free
void fiber_enter(fiber *f);             // from the scheduler; returns when the fiber leaves
void fiber_leave(fiber *f);             // back to the scheduler; returns when entered again
void fiber_main(fiber *f);              // cusim_block.cpp: never returns
char *map_memory(void *at, size_t bytes);       // fresh pages, at `at` unless NULL

// ---- blocks
const int MAX_THREADS = 1024, WARP = 32;
extern const char *kernel_name;         // of the running grid, else NULL
bool on_thread();                       // inside a kernel?
void run_grid(const char *name, dim3 grid, dim3 block, size_t shared, const std::function<void()> &body);

// ---- shared memory
void shared_allow(size_t bytes);          // static and dynamic together, in blocks from now on
void shared_begin(size_t dynamic_bytes);        // of a block: filled with NaN, unusable but for what is taken
void shared_end();

// ---- memory
bool is_device(const void *p);
bool is_pinned(const void *p);
const char *range_problem(const void *p, size_t bytes); // NULL, or why it is not inside one live allocation
void need_device(const void *p, size_t bytes, const char *what);        // dies with that
u64 arena_offset(const void *p);        // of device memory, from the first byte of all
struct device_access {                  // device memory is readable while one of these lives
	device_access();
	~device_access();
	device_access(const device_access &) = delete;
};

// ---- streams
typedef std::function<void()> work;
void push(cudaStream_t stream, work what);
void drain_all();

// ---- the tally
struct traffic_sum {
	u64 launches, threads, flops, read, written;
	u64 touched_read, touched_written;      // PTX only: bytes of the 32-byte sectors really accessed
};
traffic_sum &tally(const char *kind, const std::string &name);
void tally_launch(const kernel_launch &what);   // with what CU_TRAFFIC announced

} // namespace cusim

#endif
