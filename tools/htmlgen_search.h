#ifndef HTMLGEN_SEARCH_H
#define HTMLGEN_SEARCH_H
/*
 * search: an inverted index of the words in the examples' windows, as chunks
 * that a page opened from a file can load a few of.
 *
 *	struct search *s = search_new(site, &t.s);
 *	search_add(s, &batch);          (features in order, a batch at a time)
 *	search_write(s);                (writes the chunks; frees s)
 *
 * A term (lex.h) has with each feature that knows it a level:
 * 0      it stands in a window, on no token on which the feature is active;
 * 1…15   1 + floor(15·sqrt(S / (C + 2))), where S sums over the examples the
 *        feature's largest activation on the term, C that on the centre, both
 *        as shares of the feature's maximum: the higher, the more of what the
 *        feature fires on is this word; the 2 keeps low who has few examples.
 * A term of punctuation counts only where it is not 0.
 *
 *	search  {"terms": how many, "features", "cap", "words": the tables of lex_json,
 *	         "chunks": [[I, "first term of sI"]…]}   terms sorted by their bytes, sI in order
 *	sI      {"terms": "text", "data": base64}
 *
 * Terms are bytes as characters, apart by spaces: '@' plus the number of bytes that
 * are those of the term before, and the rest.  Data are base-128 numbers, low
 * digits first: for each term the number n of its features; then until the
 * SEARCH_CAP or n are reached, of high levels first, level + 16·how many, and
 * their features, ascending, each less the one before (the first: itself).
 */
#include "htmlgen.h"

enum { SEARCH_CAP = 4096, SEARCH_LEVELS = 16 };

struct search;
struct search *search_new(struct site *site, const struct top_shape *shape);
void search_add(struct search *s, const struct batch *batch);
void search_write(struct search *s);

#endif
