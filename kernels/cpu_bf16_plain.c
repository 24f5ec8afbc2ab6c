/* Blocks of bf16 in vectors of four that every compiler knows how to lower. */
#include "cpu_bf16.h"

#define CPU_BF16 cpu_bf16_plain
#define CPU_BF16_NAME "plain"
#include "cpu_bf16.inc"

