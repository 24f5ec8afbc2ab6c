/* Blocks of bf16 in AVX-512 with its dot products of pairs; on other architectures nothing. */
#include "cpu_bf16.h"

#if defined(__AVX512BF16__)
#define CPU_BF16 cpu_bf16_avx512bf16
#define CPU_BF16_NAME "avx512bf16"
#include "cpu_bf16.inc"
#endif
