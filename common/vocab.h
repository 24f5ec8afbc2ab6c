#ifndef VOCAB_H
#define VOCAB_H
/*
 * vocab: what is inside a struct bpe, for the modules that encode: the tokens'
 * bytes, the merges, the classes of characters.  tools/vocab-make fills it in
 * when the program is built, so that it is there when the program starts.
 *
 *	const uint16_t id = pair_find(v, left, right);
 *	if (id != NO_MERGE)
 *		… id is also the merge's rank …
 */
#include "bpe.h"
#include "pieces.h"

enum { BYTES = 256, NO_MERGE = UINT16_MAX, PAIR_BITS = 16, DISPLACE_BITS = 13, VOCAB_BYTES = 320827 };

struct bpe {
	uint32_t at[BPE_TOKENS + 1];            /* where each token's bytes begin */
	uint32_t pair[1 << PAIR_BITS];          /* low half of the hash · 2^16 + id */
	uint16_t displace[1 << DISPLACE_BITS];
	uint16_t byte_id[BYTES];
	uint16_t byte_pair[BYTES * BYTES];      /* (left, right) what the first tokens, the single bytes, merge into */
	struct classes classes;
	char bytes[VOCAB_BYTES];
};

/* The merges are a perfect hash (Fox et al. 1992).  The hash is a bijection of the pair: its high half, displaced by
 * what the low half points to, is the place; the low half, which is stored there beside the id, is the
 * rest of the key. */
static inline uint32_t pair_hash(uint16_t left, uint16_t right)
{
	const uint32_t h = ((uint32_t)left << 16 | right) * 2654435769u;

	return h ^ h >> 16;
}

static inline uint32_t pair_place(uint32_t hash, uint32_t displace)
{
	return hash >> 16 ^ displace;
}

static inline uint32_t pair_group(uint32_t hash)
{
	return (uint16_t)hash >> (16 - DISPLACE_BITS);
}

/* pair_find of a pair that is not of two single bytes. */
static inline uint16_t pair_find_far(const struct bpe *v, uint16_t left, uint16_t right)
{
	const uint32_t hash = pair_hash(left, right), entry = v->pair[pair_place(hash, v->displace[pair_group(hash)])];

	return (uint16_t)(((entry >> 16) ^ hash) << 16 ? NO_MERGE : entry);
}

/* The token that left and right merge into, which is also the merge's rank, or NO_MERGE. */
static inline uint16_t pair_find(const struct bpe *v, uint16_t left, uint16_t right)
{
	return (left | right) < BYTES ? v->byte_pair[left * BYTES + right] : pair_find_far(v, left, right);
}

#endif
