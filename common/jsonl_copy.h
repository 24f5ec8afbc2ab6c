#ifndef JSONL_COPY_H
#define JSONL_COPY_H
/*
 * jsonl_copy: the inside of a JSON string in large steps, for jsonl.c.
 *
 *	buf_reserve(out, (size_t)(end - p) + JSONL_PAD);
 *	copy(&p, end, out);     (then look at *p: it is close to the end, or no plain byte)
 */
#include "base.h"

enum { JSONL_PAD = 64 };

/* What a letter behind a backslash stands for; 0: nothing, or more letters follow. */
extern const char jsonl_letter[256];
/* Appends plain bytes and escapes of one letter up to anything else, or near the end. */
typedef void jsonl_copy_fn(const char **p, const char *end, struct buf *out);
jsonl_copy_fn *jsonl_copy_avx2(void);   /* NULL where the processor has none */

#endif
