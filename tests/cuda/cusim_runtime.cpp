// Launches, devices, errors.
#include "emulator.h"
#include "ptx.h"

#include <dlfcn.h>

#include <map>

namespace cusim {

static std::map<const void *, size_t> dynamic_limit;    // kernels that opted in to more than the default

static bool shape_is_valid(const kernel_launch &l)
{
	const u64 threads = (u64)l.block.x * l.block.y * l.block.z;

	return threads && threads <= MAX_THREADS && l.block.z <= 64 && l.grid.x && l.grid.y && l.grid.z &&
	       l.grid.x <= 0x7fffffff && l.grid.y <= 65535 && l.grid.z <= 65535;
}

static size_t limit_of(const void *function)
{
	auto at = dynamic_limit.find(function);

	return at == dynamic_limit.end() ? DEFAULT_SHARED : at->second;
}

// A kernel's mangled name is also the name of its .entry; it must be exported (-rdynamic).
static std::string entry_of(const kernel_launch &l)
{
	Dl_info info;

	if (!dladdr(l.function, &info) || !info.dli_sname)
		die("kernel %s has no exported name to look its PTX up by", l.name);
	return info.dli_sname;
}

static void execute(const kernel_launch &l)
{
	tally_launch(l);
	if (set().dry)
		return;
	if (set().ptx) {
		ptx_run(entry_of(l).c_str(), l);
	} else {
		shared_allow(dynamic_limit.count(l.function) ? OPT_IN_SHARED : DEFAULT_SHARED);
		run_grid(l.name, l.grid, l.block, l.shared, l.run);
	}
}

static int current_device;
static size_t pending_read, pending_written;    // announced for the launch to come

void traffic(size_t bytes_read, size_t bytes_written)
{
	pending_read += bytes_read;
	pending_written += bytes_written;
}

void launch(const kernel_launch &l, cudaStream_t stream)
{
	const size_t bytes_read = pending_read, bytes_written = pending_written;

	pending_read = pending_written = 0;
	if (planned_failure("launch"))
		error(cudaErrorLaunchFailure);
	else if (last_error(false) == cudaErrorLaunchFailure)
		return;                         // a context in which one failed runs nothing more
	else if (!shape_is_valid(l))
		error(cudaErrorInvalidConfiguration);
	else if (l.shared > limit_of(l.function))
		error(cudaErrorInvalidValue);
	else
		push(stream, [=] {
			traffic_sum &sum = tally("kernel", l.name);
			sum.read += bytes_read;
			sum.written += bytes_written;
			execute(l);
		});
}

} // namespace cusim

using namespace cusim;

RUNTIME cudaGetDeviceCount(int *count)
{
	*count = 0;
	MAY_FAIL(cudaErrorInsufficientDriver);  // what a machine without a card says
	*count = set().devices;
	return cudaSuccess;
}

RUNTIME cudaSetDevice(int device)
{
	MAY_FAIL(cudaErrorDevicesUnavailable);
	if (device < 0 || device >= set().devices)
		return error(cudaErrorInvalidDevice);
	current_device = device;
	return cudaSuccess;
}

RUNTIME cudaGetDevice(int *device)
{
	MAY_FAIL(cudaErrorDevicesUnavailable);
	*device = current_device;
	return cudaSuccess;
}

// Much of an A100, but four multiprocessors: grids sized by their number stay small.
RUNTIME cudaGetDeviceProperties(cudaDeviceProp *p, int device)
{
	MAY_FAIL(cudaErrorInvalidDevice);
	if (device < 0 || device >= set().devices)
		return error(cudaErrorInvalidDevice);
	memset(p, 0, sizeof(*p));
	snprintf(p->name, sizeof(p->name), "cusim (CPU emulation)");
	p->major = 8;
	p->multiProcessorCount = set().dry ? 108 : 4;
	p->warpSize = WARP;
	p->totalGlobalMem = set().memory;
	p->l2CacheSize = 40 << 20;
	p->sharedMemPerBlock = DEFAULT_SHARED;
	p->sharedMemPerBlockOptin = OPT_IN_SHARED;
	p->sharedMemPerMultiprocessor = OPT_IN_SHARED + 1024;
	p->maxThreadsPerBlock = MAX_THREADS;
	p->maxThreadsPerMultiProcessor = 2048;
	p->regsPerBlock = p->regsPerMultiprocessor = 65536;
	return cudaSuccess;
}

RUNTIME cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device)
{
	cudaDeviceProp p;
	const cudaError_t e = cudaGetDeviceProperties(&p, device);

	if (e)
		return e;
	switch (attribute) {
	case cudaDevAttrMultiProcessorCount: *value = p.multiProcessorCount; break;
	case cudaDevAttrComputeCapabilityMajor: *value = p.major; break;
	case cudaDevAttrComputeCapabilityMinor: *value = p.minor; break;
	case cudaDevAttrMaxSharedMemoryPerBlock: *value = (int)p.sharedMemPerBlock; break;
	case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = (int)p.sharedMemPerBlockOptin; break;
	case cudaDevAttrMaxThreadsPerBlock: *value = p.maxThreadsPerBlock; break;
	case cudaDevAttrL2CacheSize: *value = p.l2CacheSize; break;
	default: die("device attribute %d is not emulated", attribute);
	}
	return cudaSuccess;
}

RUNTIME cudaFuncSetAttribute(const void *function, cudaFuncAttribute attribute, int value)
{
	MAY_FAIL(cudaErrorInvalidDeviceFunction);
	if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize)
		return cudaSuccess;
	if (value < 0 || (size_t)value > OPT_IN_SHARED)
		return error(cudaErrorInvalidValue);
	dynamic_limit[function] = (size_t)value;
	return cudaSuccess;
}

RUNTIME cudaGetLastError(void) { return last_error(true); }
RUNTIME cudaPeekAtLastError(void) { return last_error(false); }

RUNTIME cudaRuntimeGetVersion(int *version)
{
	MAY_FAIL(cudaErrorIllegalAddress);
	*version = CUDART_VERSION;
	return cudaSuccess;
}

RUNTIME cudaDriverGetVersion(int *version)
{
	MAY_FAIL(cudaErrorIllegalAddress);
	*version = CUDART_VERSION;
	return cudaSuccess;
}

RUNTIME cudaDeviceReset(void)
{
	drain_all();
	return cudaSuccess;
}

extern "C" const char *cudaGetErrorString(cudaError_t e)
{
	switch (e) {
	case cudaSuccess: return "no error";
	case cudaErrorInvalidValue: return "invalid argument";
	case cudaErrorMemoryAllocation: return "out of memory";
	case cudaErrorInvalidConfiguration: return "invalid configuration argument";
	case cudaErrorInsufficientDriver: return "CUDA driver version is insufficient for CUDA runtime version";
	case cudaErrorNoDevice: return "no CUDA-capable device is detected";
	case cudaErrorInvalidDevice: return "invalid device ordinal";
	case cudaErrorIllegalAddress: return "an illegal memory access was encountered";
	case cudaErrorLaunchFailure: return "unspecified launch failure";
	case cudaErrorNotReady: return "device not ready";
	default: return "another CUDA error";
	}
}

extern "C" const char *cudaGetErrorName(cudaError_t e)
{
	static char name[40];

	snprintf(name, sizeof(name), "cudaError %d", (int)e);
	return name;
}
