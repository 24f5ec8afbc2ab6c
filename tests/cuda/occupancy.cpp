// occupancy -- reads lines "kernel registers shared-bytes threads", writes how many blocks of it a
// multiprocessor holds and which share of its threads that is, for each kind of card; no card is needed.
// As a filter of what ptxas -v says it is part of the checked-in table of kernels.
#include <stdio.h>
#include <string.h>

#define CUDA_OCC_NO_CUDA_RT 1
#include <cuda_occupancy.h>

struct card {
	const char *name;
	int major, minor, multiprocessors, shared, threads;
};

// NVIDIA's tables of compute capabilities: shared memory and threads are of a multiprocessor.
static const card cards[] = {
	{ "A100", 8, 0, 108, 164 << 10, 2048 },
	{ "H100", 9, 0, 132, 228 << 10, 2048 },
	{ "RTX3090", 8, 6, 82, 100 << 10, 1536 },
	{ "L4", 8, 9, 58, 100 << 10, 1536 },
};

static int blocks_on(const card &c, int registers, int shared, int threads)
{
	cudaOccDeviceProp device;
	cudaOccFuncAttributes function;
	cudaOccDeviceState state;
	cudaOccResult result;

	memset((void *)&device, 0, sizeof(device));
	device.computeMajor = c.major;
	device.computeMinor = c.minor;
	device.maxThreadsPerBlock = 1024;
	device.maxThreadsPerMultiprocessor = c.threads;
	device.regsPerBlock = device.regsPerMultiprocessor = 65536;
	device.warpSize = 32;
	device.sharedMemPerBlock = 48 << 10;
	device.sharedMemPerMultiprocessor = (size_t)c.shared;
	device.sharedMemPerBlockOptin = (size_t)c.shared - 1024;
	device.reservedSharedMemPerBlock = 1024;
	device.numSms = c.multiprocessors;
	memset((void *)&function, 0, sizeof(function));
	function.maxThreadsPerBlock = 1024;
	function.numRegs = registers;
	function.sharedSizeBytes = (size_t)shared;
	function.partitionedGCConfig = PARTITIONED_GC_OFF;
	function.shmemLimitConfig = FUNC_SHMEM_LIMIT_OPTIN;
	function.maxDynamicSharedSizeBytes = (size_t)c.shared;
	memset((void *)&state, 0, sizeof(state));
	state.carveoutConfig = SHAREDMEM_CARVEOUT_DEFAULT;      // as much as the kernel needs, which 0 does not mean
	if (cudaOccMaxActiveBlocksPerMultiprocessor(&result, &device, &function, &state, threads, 0) != CUDA_OCC_SUCCESS)
		return -1;
	return result.activeBlocksPerMultiprocessor;
}

int main()
{
	char kernel[256];
	int registers, shared, threads, lines = 0;

	while (scanf("%255s %d %d %d", kernel, &registers, &shared, &threads) == 4) {
		printf("%s\t%d\t%d\t%d", kernel, registers, shared, threads);
		for (const card &c : cards) {
			const int blocks = blocks_on(c, registers, shared, threads);
			if (blocks < 0)
				return 1;
			printf("\t%s %d %d%%", c.name, blocks, 100 * blocks * threads / c.threads);
		}
		putchar('\n');
		lines++;
	}
	return !lines;
}
