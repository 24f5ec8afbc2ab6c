#ifndef MERGE_H
#define MERGE_H
/*
 * merge: the pairs of a piece merged by rank, the leftmost of the lowest rank
 * first, until none is left.  Three ways of one meaning: all ranks of a short
 * piece in one register, a scan over all pairs, a heap of pairs (n log n).
 *
 *	struct links l = { 0 };
 *	n = merge_piece(v, &l, p, bytes, ids);
 *	links_free(&l);
 */
#include "vocab.h"

enum { MERGE_SHORT = 15 };      /* bytes that a register has room for */

/* A piece under merging: a list of symbols, and the pairs that may merge, lowest rank first. */
struct links {
	uint32_t *prev, *next;
	uint16_t *id;
	uint64_t *heap;         /* rank · 2^32 + position of the left symbol */
	size_t n, cap, n_heap;
};
void links_free(struct links *l);

/* The tokens of the bytes to ids, which has room for one a byte; their number. */
size_t merge_piece(const struct bpe *v, struct links *l, const unsigned char *p, size_t bytes, uint16_t *ids);
/* Plain: bytes below 256. */
size_t merge_scan(const struct bpe *v, const unsigned char *p, size_t bytes, uint16_t *ids);
/* At most MERGE_SHORT bytes; NULL where the processor has no AVX2. */
typedef size_t merge_short_fn(const struct bpe *v, const unsigned char *p, size_t bytes, uint16_t *ids);
merge_short_fn *merge_short_avx2(void);

#endif
