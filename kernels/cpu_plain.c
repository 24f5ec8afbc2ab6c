/* The kernels in vectors of four that every compiler knows how to lower. */
#define CPU_KERNELS cpu_kernels_plain
#define CPU_KERNELS_NAME "plain"
#include "cpu_kernels.inc"
