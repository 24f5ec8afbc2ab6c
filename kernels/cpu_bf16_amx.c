/* Blocks of bf16 in the matrix units of AMX; on other architectures nothing. */
#include "cpu_bf16.h"

#ifdef __x86_64__
#define CPU_BF16 cpu_bf16_amx
#define CPU_BF16_NAME "amx"
#include "cpu_bf16.inc"
#endif
