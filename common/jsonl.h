#ifndef JSONL_H
#define JSONL_H
/*
 * jsonl: one string out of a line of JSON Lines, without building the rest.
 * The whole line is checked against the grammar (RFC 8259), so that a damaged
 * one is noticed; bytes above 0x7F pass as they are.
 *
 *	const char *wrong = jsonl_string(line, bytes, "text", &text);
 *	if (wrong)
 *		die("'%s' line %llu: %s", path, n, wrong);
 */
#include "base.h"

/*
 * Value of the top-level key, unescaped, to *text (replaced); the last one if
 * there are several, as in Python.  A lone surrogate becomes U+FFFD.  Returns
 * NULL, or what is wrong: no JSON object, no such key, or not a string.
 */
const char *jsonl_string(const char *line, size_t bytes, const char *key, struct buf *text);
/* Appends "…", escaped where JSON asks for it. */
void jsonl_quote(struct buf *out, const char *s, size_t bytes);

#endif
