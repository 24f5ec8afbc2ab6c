#ifndef CU_H
#define CU_H
/*
 * cu: what every .cu includes first.  nvcc sees CUDA; any other C++ compiler
 * sees an emulation in which the threads of a block are fibers (cusim.h, found
 * in emulated builds only).  These macros are all that differs from plain CUDA
 * C++; threadIdx, __shfl_xor_sync, atomicAdd and the rest are as usual.
 *
 *	CU_TRAFFIC(n * sizeof(*x), n * sizeof(*y));
 *	LAUNCH(scale_kernel, blocks, 256, 0, stream, y, x, n);
 *
 * Kernels are not static: the emulator finds their PTX by name.
 */
#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#define LAUNCH(kernel, grid, block, shared, stream, ...) \
	kernel<<<(grid), (block), (shared), (stream)>>>(__VA_ARGS__)
/* T name[n] in shared memory; n is a constant */
#define CU_SHARED(T, name, n) __shared__ T name[n]
/* T *name: the launch's dynamic shared memory */
#define CU_SHARED_DYN(T, name)                                         \
	extern __shared__ __align__(16) unsigned char cu_dynamic_shared[]; \
	T *name = reinterpret_cast<T *>(cu_dynamic_shared)
/* Before a LAUNCH: bytes of device memory that it must read and write, each counted once; for a
 * template's name in parentheses LAUNCH((kernel<1, 2>), …) */
#define CU_TRAFFIC(bytes_read, bytes_written) ((void)(bytes_read), (void)(bytes_written))
/* Before a loop: its body once for each time, so that an array that it indexes is in registers */
#define CU_UNROLL _Pragma("unroll")
/* n times, of a loop that runs who knows how often: so many loads are on their way at once */
#define CU_UNROLL_BY(n) CU_PRAGMA(unroll n)
#define CU_PRAGMA(text) _Pragma(#text)
#else
#define CU_UNROLL
#define CU_UNROLL_BY(n)
#include <cusim.h>
#endif

#endif
