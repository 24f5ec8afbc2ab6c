/*
 * bench-feed SECONDS TOKENS… -- gptrain's feed alone: micro-batches of 12 random windows of 1024 tokens,
 * one thread; prints tokens in the set, its bytes, and tokens fed in a second.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base.h"
#include "pool.h"
#include "rng.h"
#include "windows.h"

enum { T = 1024, BATCH = 12 };

int main(int argc, char **argv)
{
	static int32_t idx[BATCH * T], targets[BATCH * T];
	uint64_t fed = 0;

	if (argc < 3)
		die("SECONDS and TOKENS are missing");
	pool_start(1);
	struct windows w = windows_open(argv + 2, T, 50304, 256 << 20);
	const double from = now_secs(), limit = strtod(argv[1], NULL);

	for (uint64_t micro = 0; now_secs() - from < limit; micro++)
		for (uint64_t r = 0; r < BATCH; r++, fed += T)
			windows_read(&w, rng_below(rng_hash(1, RNG_BATCH, micro, r), w.tokens - T), idx + r * T,
				     targets + r * T);
	printf("%llu %llu %.0f\n", (unsigned long long)w.tokens, (unsigned long long)w.tokens * 2,
	       (double)fed / (now_secs() - from));
	windows_close(&w);
	return 0;
}
