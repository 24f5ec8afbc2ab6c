// Device memory: one arena in which no address is given out twice.  Every allocation starts as NaN
// (in float, bf16 and half), ends in a redzone, and turns into NaN when freed; host code that
// touches any of it while no work runs is stopped.
#include "emulator.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <map>
#include <memory>

namespace cusim {

// The arena is made of huge pages where the kernel has them: protecting it again and again costs by the page.
static const size_t PAGE = 4096, HUGE_PAGE = 2 << 20, REDZONE = 256;
struct allocation {
	size_t bytes;
	bool live;
};
static std::map<char *, allocation> allocations;
static std::map<char *, size_t> pinned;
static char *arena, *arena_end;
static size_t in_use;
static int accesses;

// Freed addresses are not used again, so the arena is larger than the memory.
static size_t arena_bytes() { return set().memory + (12ull << 30); }

static void on_fault(int, siginfo_t *info, void *)
{
	static const char message[] = "cusim: error: host code touched device memory\n";
	const char *at = (const char *)info->si_addr;

	if (at >= arena && at < arena_end && !accesses && write(2, message, sizeof(message) - 1) < 0)
		_exit(1);
	signal(SIGSEGV, SIG_DFL);
	raise(SIGSEGV);
}

static void open_arena()
{
	arena = map_memory(nullptr, arena_bytes() + HUGE_PAGE);
	arena += (HUGE_PAGE - (uintptr_t)arena % HUGE_PAGE) % HUGE_PAGE;
	madvise(arena, arena_bytes(), MADV_HUGEPAGE);
	arena_end = arena + PAGE;       // the first page stays unused: a pointer just below an array
	POISON(arena, PAGE);
	struct sigaction action;
	memset(&action, 0, sizeof(action));
	action.sa_sigaction = on_fault;
	action.sa_flags = SA_SIGINFO;
	if (set().guard TSAN(&& false)) // TSan reports the fault by itself
		sigaction(SIGSEGV, &action, nullptr);
}

static void protect(int how)
{
	if (set().guard && arena)
		mprotect(arena, ((size_t)(arena_end - arena) + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1), how);
}

device_access::device_access()
{
	if (!accesses++)
		protect(PROT_READ | PROT_WRITE);
}

device_access::~device_access()
{
	if (!--accesses)
		protect(PROT_NONE);
}

bool is_device(const void *p)
{
	return arena && (const char *)p >= arena && (const char *)p < arena_end;
}

u64 arena_offset(const void *p) { return (u64)((const char *)p - arena); }

bool is_pinned(const void *p)
{
	auto after = pinned.upper_bound((char *)const_cast<void *>(p));

	if (after == pinned.begin())
		return false;
	const auto &block = *--after;
	return (const char *)p < block.first + block.second;
}

const char *range_problem(const void *p, size_t bytes)
{
	auto after = allocations.upper_bound((char *)const_cast<void *>(p));

	if (after == allocations.begin())
		return "is not device memory";
	const auto &block = *--after;
	const char *end = block.first + block.second.bytes;
	if ((const char *)p > end)
		return "is not device memory";
	if (!block.second.live)
		return "is freed device memory";
	return (const char *)p + bytes > end ? "runs past the end of its device allocation" : nullptr;
}

void need_device(const void *p, size_t bytes, const char *what)
{
	const char *problem = bytes ? range_problem(p, bytes) : nullptr;

	if (problem)
		die("%s: %p (+%zu) %s", what, p, bytes, problem);
}

void check_argument(const void *p, const char *kernel, int index)
{
	if (!p || is_pinned(p))
		return;
	if (const char *problem = range_problem(p, 0))
		die("kernel %s: pointer argument %d (%p) %s", kernel, index, p, problem);
}

// A dry run has allocations of full size, of which not one page is to be touched.
static void fill_with_nan(void *p, size_t bytes)
{
	if (!set().dry)
		memset(p, 0xff, bytes);
}

static void check_end(const void *p, size_t bytes, bool on_device, const char *what)
{
	if (on_device)
		need_device(p, bytes, what);
	else if (is_device(p))
		die("%s is device memory, the kind of copy says host", what);
}

static void check_copy(const void *to, const void *from, size_t bytes, cudaMemcpyKind kind)
{
	const bool any = kind == cudaMemcpyDefault, both = kind == cudaMemcpyDeviceToDevice;

	check_end(to, bytes, any ? is_device(to) : both || kind == cudaMemcpyHostToDevice,
		  "cudaMemcpy: the destination");
	check_end(from, bytes, any ? is_device(from) : both || kind == cudaMemcpyDeviceToHost,
		  "cudaMemcpy: the source");
}

static void copy(void *to, const void *from, size_t bytes)
{
	if (!set().dry)
		memmove(to, from, bytes);
	else if (!is_device(to))        // what the device would have computed: zeros
		memset(to, 0, bytes);
	const bool reads = is_device(from), writes = is_device(to);
	traffic_sum &sum = tally("copy", reads && writes ? "device to device" : reads ? "device to host" : "host to device");

	sum.launches++;
	sum.read += reads ? bytes : 0;
	sum.written += writes ? bytes : 0;
}

} // namespace cusim

using namespace cusim;

RUNTIME cudaMalloc(void **p, size_t bytes)
{
	*p = nullptr;
	MAY_FAIL(cudaErrorMemoryAllocation);
	if (!arena)
		open_arena();
	const size_t whole = ((bytes + 255) & ~(size_t)255) + REDZONE;
	if (in_use + bytes > set().memory || (size_t)(arena_end - arena) + whole + PAGE > arena_bytes())
		return error(cudaErrorMemoryAllocation);
	device_access open;
	char *at = arena_end;
	arena_end += whole;
	protect(PROT_READ | PROT_WRITE);        // the new end, too
	fill_with_nan(at, bytes);
	POISON(at + bytes, whole - bytes);
	allocations[at] = { bytes, true };
	in_use += bytes;
	*p = at;
	return cudaSuccess;
}

RUNTIME cudaFree(void *p)
{
	if (!p)
		return cudaSuccess;
	drain_all();
	auto block = allocations.find((char *)p);
	if (block == allocations.end() || !block->second.live)
		die("cudaFree of %p, which is no live allocation", p);
	block->second.live = false;
	in_use -= block->second.bytes;
	device_access open;
	fill_with_nan(p, block->second.bytes);
	POISON(p, block->second.bytes);
	MAY_FAIL(cudaErrorIllegalAddress);
	return cudaSuccess;
}

RUNTIME cudaMallocAsync(void **p, size_t bytes, cudaStream_t) { return cudaMalloc(p, bytes); }
RUNTIME cudaFreeAsync(void *p, cudaStream_t) { return cudaFree(p); }

RUNTIME cudaHostAlloc(void **p, size_t bytes, unsigned)
{
	*p = nullptr;
	MAY_FAIL(cudaErrorMemoryAllocation);
	*p = aligned_alloc(PAGE, (bytes + PAGE - 1) & ~(PAGE - 1));
	if (!*p)
		return error(cudaErrorMemoryAllocation);
	fill_with_nan(*p, bytes);
	pinned[(char *)*p] = bytes;
	return cudaSuccess;
}

RUNTIME cudaMallocHost(void **p, size_t bytes) { return cudaHostAlloc(p, bytes, 0); }

RUNTIME cudaFreeHost(void *p)
{
	if (p && !pinned.erase((char *)p))
		die("cudaFreeHost of %p, which is not pinned memory", p);
	free(p);
	MAY_FAIL(cudaErrorIllegalAddress);
	return cudaSuccess;
}

RUNTIME cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream)
{
	MAY_FAIL(cudaErrorIllegalAddress);
	check_copy(to, from, bytes, kind);
	cudaStreamCaptureStatus capture;
	cudaStreamIsCapturing(stream, &capture);
	if (!set().lazy || is_device(from) || is_pinned(from) || capture != cudaStreamCaptureStatusNone) {
		push(stream, [=] { copy(to, from, bytes); });
		return cudaSuccess;
	}
	// CUDA takes a pageable source before the call returns: so may the program change it then
	auto staged = std::make_shared<std::string>((const char *)from, bytes);
	push(stream, [=] { copy(to, staged->data(), bytes); });
	return cudaSuccess;
}

RUNTIME cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind)
{
	const cudaError_t e = cudaMemcpyAsync(to, from, bytes, kind, nullptr);

	return e ? e : cudaStreamSynchronize(nullptr);
}

RUNTIME cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width,
			  size_t height, cudaMemcpyKind kind, cudaStream_t stream)
{
	for (size_t i = 0; i < height; i++) {
		const cudaError_t e = cudaMemcpyAsync((char *)to + i * to_pitch,
						      (const char *)from + i * from_pitch, width, kind, stream);
		if (e)
			return e;
	}
	return cudaSuccess;
}

RUNTIME cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t stream)
{
	MAY_FAIL(cudaErrorIllegalAddress);
	need_device(p, bytes, "cudaMemset");
	push(stream, [=] {
		if (!set().dry)
			memset(p, value, bytes);
		traffic_sum &sum = tally("copy", "memset");
		sum.launches++;
		sum.written += bytes;
	});
	return cudaSuccess;
}

RUNTIME cudaMemset(void *p, int value, size_t bytes) { return cudaMemsetAsync(p, value, bytes, nullptr); }

RUNTIME cudaMemGetInfo(size_t *free_bytes, size_t *total)
{
	MAY_FAIL(cudaErrorIllegalAddress);
	*total = set().memory;
	*free_bytes = set().memory - in_use;
	return cudaSuccess;
}
