#ifndef WINDOW_H
#define WINDOW_H
/*
 * window: a stretch of ASCII as bits, and where pieces begin in it; for the
 * plain and the vectorised side of pieces.h.
 *
 *	struct window w = { … };        (the bits of PIECE_WINDOW bytes from p)
 *	starts = window_starts(&w, p);
 */
#include "pieces.h"

/* Bit i for byte i of the window. */
struct window {
	uint64_t letter, number, space, blank, quote, beyond;   /* blank: 20; beyond ASCII */
};

/* 's 't 're 've 'm 'll 'd: length at p, or 0. */
static inline size_t contraction(const unsigned char *p)
{
	switch (p[1]) {
	case 's': case 't': case 'm': case 'd':
		return 2;
	case 'r': case 'v':
		return p[2] == 'e' ? 3 : 0;
	case 'l':
		return p[2] == 'l' ? 3 : 0;
	}
	return 0;
}

/* = piece_starts */
static inline uint64_t window_starts(const struct window *w, const unsigned char *p)
{
	const uint64_t other = ~(w->letter | w->number | w->space);
	const uint64_t on = (w->letter & w->letter << 1) | (w->number & w->number << 1) | (other & other << 1);
	/* a blank goes with what follows; of other white space only the last before something is cut off */
	uint64_t starts = (~w->space & ~on & ~(w->blank << 1)) | (w->space & ~(w->space << 1 & w->space >> 1)) | 1;

	for (uint64_t q = starts & w->quote; q; q &= q - 1) {
		const unsigned at = (unsigned)__builtin_ctzll(q);
		const size_t n = contraction(p + at);

		if (n)
			starts &= ~(((((uint64_t)1 << n) - 1) & ~(uint64_t)1) << at);
		if (n && at + n < PIECE_WINDOW)
			starts |= (uint64_t)1 << (at + n);
	}
	/* white space asks what follows it: the last character known says nothing of itself */
	const unsigned known = w->beyond ? (unsigned)__builtin_ctzll(w->beyond) : PIECE_WINDOW;

	return known < 2 ? 0 : starts & (((uint64_t)1 << (known - 1)) - 1) & ~(uint64_t)1;
}

#endif
