#ifndef UTF8_H
#define UTF8_H
/*
 * utf8: where characters end, and where bytes are none.
 *
 *	for (; p < end; p += n < 0 ? -n : n)
 *		n = utf8_length(p, end);
 */
#include "base.h"

/* Length of the character at p < end, or minus that of the maximal invalid subpart (Unicode,
 * table 3-7), each of which a reader replaces by one U+FFFD. */
static inline int utf8_length(const unsigned char *p, const unsigned char *end)
{
	const unsigned b = p[0];
	const int n = b < 0x80 ? 1 : b < 0xC2 ? 0 : b < 0xE0 ? 2 : b < 0xF0 ? 3 : b < 0xF5 ? 4 : 0;
	unsigned low = b == 0xE0 ? 0xA0 : b == 0xF0 ? 0x90 : 0x80;
	unsigned high = b == 0xED ? 0x9F : b == 0xF4 ? 0x8F : 0xBF;

	if (n == 0)
		return -1;
	for (int i = 1; i < n; i++, low = 0x80, high = 0xBF)
		if (p + i >= end || p[i] < low || p[i] > high)
			return -i;
	return n;
}

#endif
