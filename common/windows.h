#ifndef WINDOWS_H
#define WINDOWS_H
/*
 * windows: stretches of T tokens of a token set, with the token that follows
 * each as its target, through a bounded cache of decoded frames.
 *
 *	struct windows w = windows_open(paths, T, gpt.vocab_size, 256 << 20);
 *	windows_at(&w, i, idx, targets);        (window i: tokens [i·T, i·T + T])
 *	windows_read(&w, start, idx, targets);  (from any token)
 *	windows_close(&w);
 *
 * Windows i = 0 … count-1 do not overlap; the last token of the set is never
 * an input, so that every input has a target.  Reads may run in several pool
 * threads at once.
 */
#include "shard.h"

struct windows {
	struct shard_cache *cache;
	const char *name;       /* of the first file, for messages */
	size_t T, vocab;
	uint64_t tokens, count; /* count = (tokens - 1) / T */
	char id[33];            /* of the token set */
};

/* Dies unless paths hold one column of u16 and more than T tokens. */
struct windows windows_open(char *const *paths, size_t T, size_t vocab, size_t cache_bytes);
/* idx and targets (T) from token `start`, start < tokens - T; dies when an id is not below vocab. */
void windows_read(const struct windows *w, uint64_t start, int32_t *idx, int32_t *targets);
void windows_at(const struct windows *w, uint64_t i, int32_t *idx, int32_t *targets);
void windows_close(struct windows *w);

#endif
