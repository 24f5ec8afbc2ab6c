#ifndef FEED_H
#define FEED_H
/*
 * feed: rows of shards in batches for training, read ahead by the pool while
 * the batch before is computed on.  Files are read again from the start for
 * as many steps as asked (a last partial batch is dropped each time); a pipe
 * is read once.
 *
 *	struct feed *f = feed_open(paths, batch, steps, keep);
 *	feed_start(f, done);                    (steps of an earlier run: passed over)
 *	for (const float *x = feed_next(f); x; x = feed_next(f))
 *		… x (batch, cols), valid until the call after …
 *	feed_close(f);
 */
#include "shard.h"

struct feed;
/* steps 0: one pass.  keep: how many of the first rows stay in memory, as stored, for feed_kept. */
struct feed *feed_open(char *const *paths, size_t batch, uint64_t steps, uint64_t keep);
struct shards *feed_shards(struct feed *f);     /* dtype, cols, meta; not to be read from */
/* Steps there will be; 0: unknown (a pipe to its end). */
uint64_t feed_steps(const struct feed *f);
/* What the data is: the set's id, or of a pipe the hash of its META. */
void feed_id(struct feed *f, char hex[33]);
/* Only rows [from, from + n) of each batch are wanted: the others of x hold 0. */
void feed_share(struct feed *f, size_t from, size_t n);
void feed_start(struct feed *f, uint64_t done);
/* NULL after the last batch; of a pipe read to its end, after that was verified. */
const float *feed_next(struct feed *f);
/* How many of the rows to keep have been handed out in batches so far: a function of steps alone. */
uint64_t feed_kept_rows(const struct feed *f);
/* Of those, n from `row` on as float32 (n, cols). */
void feed_kept(const struct feed *f, uint64_t row, size_t n, float *x);
void feed_close(struct feed *f);

#endif
