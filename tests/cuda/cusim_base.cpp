// Settings, errors, random order, planned failures.
#include "emulator.h"

#include <stdarg.h>
#include <stdlib.h>

namespace cusim {

static unsigned long number(const char *name, unsigned long otherwise)
{
	const char *text = getenv(name);

	return text ? strtoul(text, nullptr, 10) : otherwise;
}

static settings read_settings()
{
	settings s;

	s.seed = number("CUSIM_SEED", 0);
	s.lazy = number("CUSIM_LAZY", 0) != 0;
	s.guard = number("CUSIM_GUARD", 1) != 0;
	s.dry = number("CUSIM_DRY", 0) != 0;
	s.no_lt = number("CUSIM_NOLT", 0) != 0;
	s.memory = number("CUSIM_MEM_MB", 4096) << 20;
	s.devices = (int)number("CUSIM_DEVICES", 1);
	s.ptx = getenv("CUSIM_PTX");
	s.count = getenv("CUSIM_COUNT");
	return s;
}

const settings &set()
{
	static const settings s = read_settings();

	return s;
}

unsigned random_below(unsigned n)
{
	static u64 state = 0x9E3779B97F4A7C15ull ^ set().seed;

	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return n ? (unsigned)((state >> 16) % n) : 0;
}

void die(const char *format, ...)
{
	va_list ap;

	fflush(stdout);
	fprintf(stderr, "cusim: error: ");
	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	if (on_thread())
		fprintf(stderr, " [kernel %s block (%u,%u,%u) thread (%u,%u,%u)]", kernel_name, blockIdx.x,
			blockIdx.y, blockIdx.z, threadIdx.x, threadIdx.y, threadIdx.z);
	fputc('\n', stderr);
	abort();
}

static size_t calls;

bool planned_failure(const char *call)
{
	static const size_t fails = number("CUSIM_FAIL", 0);

	if (set().count)
		tally("call", call).launches++;
	return ++calls == fails;
}

size_t calls_counted() { return calls; }

static cudaError_t last;

cudaError_t error(cudaError_t e)
{
	if (e != cudaSuccess)
		last = e;
	return e;
}

cudaError_t last_error(bool forget)
{
	const cudaError_t e = last;

	if (forget)
		last = cudaSuccess;
	return e;
}

} // namespace cusim
