/* The kernels in AVX-512 (F, BW, VL, DQ); on other architectures nothing. */
#include "cpu.h"

#if defined(__AVX512F__) && defined(__AVX512DQ__)
#define CPU_KERNELS cpu_kernels_avx512
#define CPU_KERNELS_NAME "avx512"
#include "cpu_kernels.inc"
#endif
