/* cpu_bf16: which kind of units multiplies. */
#include "cpu_bf16.h"

#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

const struct cpu_bf16 *cpu_16 = &cpu_bf16_plain;

#if defined(__x86_64__)
#include <cpuid.h>

/* The kernel hands out the tiles' 8 KB of a thread's state on request. */
static bool tiles_granted(void)
{
	enum { REQUEST = 0x1023, TILE_DATA = 18 };      /* ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA */

	return syscall(SYS_arch_prctl, REQUEST, TILE_DATA) == 0;
}

static bool has_amx(void)
{
	const unsigned bf16 = 1u << 22, tile = 1u << 24;
	unsigned a, b, c, d;

	return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & bf16) && (d & tile) &&
		__builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512bw") && tiles_granted();
}

static const struct cpu_bf16 *usable(size_t level)
{
	switch (level) {
	case 3:
		return has_amx() ? &cpu_bf16_amx : NULL;
	case 2:
		return __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512bw") &&
			__builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") ?
			&cpu_bf16_avx512bf16 : NULL;
	case 1:
		return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? &cpu_bf16_avx2 : NULL;
	default:
		return &cpu_bf16_plain;
	}
}

bool backend_cpu_has_tiles(void)
{
	return has_amx();
}

#else

static const struct cpu_bf16 *usable(size_t level)
{
	return level == 0 ? &cpu_bf16_plain : NULL;
}

bool backend_cpu_has_tiles(void)
{
	return false;
}

#endif

enum { LEVELS = 4 };

bool cpu_bf16_use(const char *name)
{
	for (size_t level = 0; level < LEVELS; level++) {
		const struct cpu_bf16 *k = usable(level);

		if (k && !strcmp(k->name, name)) {
			cpu_16 = k;
			return true;
		}
	}
	return false;
}

void cpu_bf16_best(void)
{
	for (size_t level = 0; level < LEVELS; level++)
		if (usable(level))
			cpu_16 = usable(level);
}
