#ifndef ROWS_H
#define ROWS_H
/*
 * rows: which tokens become activation rows, and their order (DESIGN: rows,
 * order, shuffle).  mlpdump enumerates with it, shuffle replays it.
 *
 * Context c is the window rows_window(c)·T … +T of the token stream; its S
 * sampled positions are distinct and ascending.  Row (c, j) has a key; the
 * shuffled order is the order of (block, key, c, j), where block = c / W (all
 * contexts are one block by default).  Bin i of n holds one contiguous range
 * of that order.
 */
#include "shard.h"

struct rows {
	uint64_t seed;
	uint64_t contexts;      /* C */
	uint64_t samples;       /* S positions kept of each context */
	uint64_t block;         /* T */
	uint64_t windows;       /* of the token set: (tokens - 1) / T, C + skipped <= windows */
	uint64_t window;        /* W of --window; 0: all contexts are one block */
	uint64_t bin, bins;     /* i of n */
};

struct row {
	uint64_t block, key, context;
	uint32_t position;
};

/* First token of context c: pi(c)·T. */
uint64_t rows_window(const struct rows *r, uint64_t c);
/* The S positions of context c, ascending, into pos. */
void rows_positions(const struct rows *r, uint64_t c, uint32_t *pos);
struct row rows_row(const struct rows *r, uint64_t c, uint32_t position);
int row_compare(const struct row *a, const struct row *b);
/* Which of r->bins bins the row belongs to. */
uint64_t rows_bin(const struct rows *r, const struct row *row);
/*
 * Replay: the rows of `bins` bins from r->bin on, bin after bin, each in the
 * order of enumeration (context, position) -- as mlpdump writes them.  Contexts
 * are hashed ahead by the pool.
 */
struct rows_walk;
struct rows_walk *rows_walk_open(const struct rows *r, uint64_t bins);
bool rows_walk_next(struct rows_walk *w, struct row *row);      /* false: no more */
void rows_walk_close(struct rows_walk *w);
/* A block: how many contexts, *first the first; of block 0, none has more. */
uint64_t rows_block(const struct rows *r, uint64_t block, uint64_t *first);
/*
 * The shuffled order within a block.  order[i] is the place of the i-th row in
 * the order of enumeration from the block's first context on, (context, j); rows
 * (contexts · S, below 2^32) and keys are hashed and sorted by the pool.
 */
struct rows_order;
struct rows_order *rows_order_new(const struct rows *r);
uint64_t rows_order_bytes(const struct rows *r);        /* memory that takes */
const uint32_t *rows_order_of(struct rows_order *o, uint64_t block);    /* until the next call */
void rows_order_free(struct rows_order *o);
/* META lines "contexts samples block windows window seed bin", and back
 * (dies, naming `name`, when they are missing). */
void rows_to_meta(const struct rows *r, struct meta *m);
struct rows rows_from_meta(const struct meta *m, const char *name);
/* What the next stage keeps of a META: all lines but the shard's own, the rows' (rows_to_meta) and their order. */
void rows_pass_meta(const struct meta *from, struct meta *to);

#endif
