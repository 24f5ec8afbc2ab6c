#ifndef PIECES_H
#define PIECES_H
/*
 * pieces: where GPT-2's pattern cuts text,
 * 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
 * (Radford et al. 2019; classes of Unicode 16.0, data/unicode_classes.tsv).
 * Text is valid UTF-8 with PIECE_PAD bytes of 0xFF behind it.
 */
#include "base.h"

enum { PIECE_PAD = 72, PIECE_WINDOW = 64 };

struct classes {
	uint8_t byte[256];      /* of ASCII; the rest: several bytes, or the end */
	uint8_t *point;         /* of every code point */
};
struct classes classes_load(void);      /* point is never freed */
/* Behind the piece that begins at p. */
const unsigned char *piece_end(const struct classes *c, const unsigned char *p);
/* Where pieces begin behind p, at which one does: bit i for p + i, as far as a window
 * of ASCII tells; 0: piece_end must say. */
uint64_t piece_starts(const unsigned char *p);

#endif
