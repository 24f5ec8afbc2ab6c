#include "pieces.h"

#include <string.h>

#include "window.h"

/* ---- a piece, of any characters ---- */

/* Class of the character at p (valid UTF-8, CLASS_END behind it) and its length. */
static unsigned class_at(const struct classes *c, const unsigned char *p, size_t *bytes)
{
	const unsigned class = c->byte[p[0]];

	*bytes = 1;
	if (class != CLASS_MULTI)
		return class;
	if (p[0] < 0xE0) {
		*bytes = 2;
		return c->point[(p[0] & 0x1Fu) << 6 | (p[1] & 0x3Fu)];
	}
	if (p[0] < 0xF0) {
		*bytes = 3;
		return c->point[(p[0] & 0x0Fu) << 12 | (p[1] & 0x3Fu) << 6 | (p[2] & 0x3Fu)];
	}
	*bytes = 4;
	return c->point[(p[0] & 0x07u) << 18 | (p[1] & 0x3Fu) << 12 | (p[2] & 0x3Fu) << 6 | (p[3] & 0x3Fu)];
}

/* Behind the run of characters of this class. */
static const unsigned char *run_end(const struct classes *c, const unsigned char *p, unsigned class)
{
	size_t bytes;

	for (;;) {
		while (c->byte[*p] == class)
			p++;
		if (c->byte[*p] != CLASS_MULTI || class_at(c, p, &bytes) != class)
			return p;
		p += bytes;
	}
}

/* White space: all of it at the end of the text, else all but its last character, if there are several. */
static const unsigned char *space_end(const struct classes *c, const unsigned char *p)
{
	const unsigned char *end = run_end(c, p, CLASS_SPACE), *last = end - 1;

	if (c->byte[*end] == CLASS_END)
		return end;
	while ((*last & 0xC0) == 0x80)
		last--;
	return last > p ? last : end;
}

const unsigned char *piece_end(const struct classes *c, const unsigned char *p)
{
	const unsigned char *run = p + (*p == ' ');
	size_t bytes;
	const unsigned class = class_at(c, run, &bytes);

	if (class == CLASS_SPACE || class == CLASS_END)
		return space_end(c, p);
	if (*p == '\'' && (bytes = contraction(p)) > 0)
		return p + bytes;
	return run_end(c, run + bytes, class);
}

/* ---- all pieces of a window of ASCII, by bits: = piece_end ---- */

#define BYTES_OF(x) (0x0101010101010101 * (uint64_t)(x))
#define HIGH BYTES_OF(0x80)

/* The high bits of eight bytes, side by side. */
static uint64_t gather(uint64_t high)
{
	return (high & HIGH) * 0x0002040810204081 >> 56;
}

/* High bits where a byte (below 80) is at least `least`. */
static uint64_t from(uint64_t x, unsigned least)
{
	return x + BYTES_OF(0x80 - least);
}

static uint64_t equal(uint64_t x, unsigned byte)
{
	return ~((x ^ BYTES_OF(byte)) + BYTES_OF(0x7F));
}

static void window_add(struct window *w, const unsigned char *p, unsigned at)
{
	uint64_t x;

	memcpy(&x, p, sizeof(x));
	w->beyond |= gather(x) << at;
	x &= ~HIGH;
	const uint64_t lower = x | BYTES_OF(0x20), blank = equal(x, ' ');

	w->letter |= gather(from(lower, 'a') & ~from(lower, 'z' + 1)) << at;
	w->number |= gather(from(x, '0') & ~from(x, '9' + 1)) << at;
	w->blank |= gather(blank) << at;
	w->space |= gather(blank | (from(x, 9) & ~from(x, 14))) << at;
	w->quote |= gather(equal(x, '\'')) << at;
}

uint64_t piece_starts(const unsigned char *p)
{
	struct window w = { 0 };

	for (unsigned i = 0; i < PIECE_WINDOW; i += 8)
		window_add(&w, p + i, i);
	return window_starts(&w, p);
}
