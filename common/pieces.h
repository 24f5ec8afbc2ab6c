#ifndef PIECES_H
#define PIECES_H
/*
 * pieces: where GPT-2's pattern cuts text,
 * 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
 * (Radford et al. 2019; classes of Unicode 16.0, data/unicode_classes.tsv).
 * Text is valid UTF-8 with PIECE_PAD bytes of 0xFF behind it.
 */
#include "base.h"

enum { PIECE_WINDOW = 64, PIECE_PAD = PIECE_WINDOW + 8 };

/* What the pattern tells apart.  The first four are classes of code points, the rest of bytes. */
enum { CLASS_OTHER, CLASS_LETTER, CLASS_NUMBER, CLASS_SPACE, CLASS_MULTI, CLASS_END };
enum { CODE_POINTS = 0x110000 };
struct classes {
	uint8_t byte[256];      /* of ASCII; the rest: several bytes, or the end */
	uint8_t point[CODE_POINTS];
};
const struct classes *classes_gpt2(void);
/* Behind the piece that begins at p. */
const unsigned char *piece_end(const struct classes *c, const unsigned char *p);
/* Where pieces begin behind p, at which one does: bit i for p + i, as far as a window
 * of ASCII tells; 0: piece_end must say. */
typedef uint64_t piece_starts_fn(const unsigned char *p);
piece_starts_fn piece_starts;
piece_starts_fn *piece_starts_avx2(void);       /* the same; NULL where the processor has none */

#endif
