#ifndef VOCAB_H
#define VOCAB_H
/*
 * vocab: what is inside a struct bpe, for the modules that encode: the tokens'
 * bytes, the merges, the classes of characters.
 *
 *	const uint16_t id = pair_find(v, left, right);
 *	if (id != NO_MERGE)
 *		… id is also the merge's rank …
 */
#include "bpe.h"
#include "pieces.h"

enum { BYTES = 256, PAIR_BITS = 16, NO_MERGE = UINT16_MAX };

/* The merges are a cuckoo hash of two tables.  Multiplying by an odd number is a bijection, so the
 * half of the product that is not the slot tells the key: an entry is that half and the id. */
#define PAIR_HASH_0 2654435769u
#define PAIR_HASH_1 2246822519u

struct bpe {
	char *bytes;            /* of all tokens, one after another */
	uint32_t at[BPE_TOKENS + 1];
	uint16_t byte_id[BYTES];
	struct classes classes;
	uint32_t *pair;         /* (2, 2^PAIR_BITS) low half of the hash · 2^16 + id */
	uint16_t *byte_pair;    /* (BYTES, BYTES) what the first tokens, the single bytes, merge into */
};

/* The same of a pair that is not of two single bytes. */
static inline uint16_t pair_find_far(const struct bpe *v, uint16_t left, uint16_t right)
{
	const uint32_t key = (uint32_t)left << 16 | right, h = key * PAIR_HASH_0, g = key * PAIR_HASH_1;
	const uint32_t a = v->pair[h >> 16], b = v->pair[(1u << PAIR_BITS) + (g >> 16)];
	const uint16_t second = (uint16_t)(((b >> 16) ^ g) << 16 ? NO_MERGE : b);

	return (uint16_t)(((a >> 16) ^ h) << 16 ? second : a);
}

/* The token that left and right merge into, which is also the merge's rank, or NO_MERGE. */
static inline uint16_t pair_find(const struct bpe *v, uint16_t left, uint16_t right)
{
	return (left | right) < BYTES ? v->byte_pair[left * BYTES + right] : pair_find_far(v, left, right);
}

#endif
