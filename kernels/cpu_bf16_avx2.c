/* Blocks of bf16 in AVX2 and FMA; on other architectures nothing. */
#include "cpu_bf16.h"

#if defined(__AVX2__) && defined(__FMA__)
#define CPU_BF16 cpu_bf16_avx2
#define CPU_BF16_NAME "avx2"
#include "cpu_bf16.inc"
#endif
