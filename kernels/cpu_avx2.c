/* The kernels in AVX2 and FMA; on other architectures nothing. */
#include "cpu.h"

#if defined(__AVX2__) && defined(__FMA__)
#define CPU_KERNELS cpu_kernels_avx2
#define CPU_KERNELS_NAME "avx2"
#include "cpu_kernels.inc"
#endif
