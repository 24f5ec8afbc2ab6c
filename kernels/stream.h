#ifndef STREAM_H
#define STREAM_H
/*
 * stream: the rows of acts.h in their shuffled order, in backend memory: a
 * block (rows.h: --window contexts) at a time is made, kept there and gathered
 * from, so that no row goes through the host.
 *
 *	struct stream *s = stream_new(a, tree); (acts_start was called)
 *	stream_seek(s, row);
 *	stream_read(s, x, n);
 *	stream_free(s);
 *
 * Of several processes each makes its part of a window, in whole batches of contexts, and has the
 * others' from them.  What a row is and where it comes is what `mlpdump | shuffle` would say.
 */
#include "acts.h"
#include "tree.h"

struct stream;
/* Bytes that a block takes, in backend memory and beside it.  Dies when it has more rows than can be counted. */
uint64_t stream_bytes(const struct acts *a);
/* Borrows both; makes all of a's batches from then on.  All processes read the same. */
struct stream *stream_new(struct acts *a, struct tree *t);
uint64_t stream_rows(const struct stream *s);   /* there are in all */
void stream_seek(struct stream *s, uint64_t row);       /* makes nothing yet */
/* x (n,D), backend memory = the next n rows, which there must be.  Where a block begins it waits for the device. */
void stream_read(struct stream *s, real *x, size_t n);
void stream_free(struct stream *s);

#endif
