#ifndef SORTER_H
#define SORTER_H
/*
 * sorter: rows into a shard in the order of a key, in bounded memory.
 *
 *	struct sorter *s = sorter_open(&spec);
 *	for (i = sorter_rows(s); i < n; i++)    (not from 0: the run may go on from a state)
 *		sorter_put(s, key[i], row[i]);
 *	bytes = sorter_finish(s);               (the shard is complete)
 *
 * Rows that fit into memory are sorted there.  More take two passes:
 *
 *	scatter   each row put goes to one of n bins, equal ranges of the order, set aside on disk;
 *	gather    bin after bin is read back, sorted in memory and written.
 *
 * Rows of equal keys keep the order in which they were put, so the order is
 * total and knows nothing of n: memory and threads cannot change it.
 */
#include "shard.h"

struct sort_key {
	uint64_t major, minor;
};

struct sorter_spec {
	const char *output;             /* path, or "-" */
	const char *dir;                /* for what is set aside; NULL: see spill.h */
	const struct shard_spec *shard;
	const struct recipe *recipe;    /* resumes from states and stamps the output; NULL: neither */
	double save_every;              /* seconds between states */
	uint64_t memory;                /* bytes; buffers of shards come on top */
	uint64_t rows;                  /* about so many will be put, */
	bool exact;                     /* or exactly so many */
	size_t bins;                    /* at least; 0: as few as the memory allows */
	/* Which of `parts` consecutive ranges of the order has the key: of equal
	 * share, and parts · m refine parts. */
	size_t (*part)(const void *arg, struct sort_key key, size_t parts);
	const void *arg;
};

struct sorter;
/* Dies when the memory is too small, naming what is needed.  *spec must outlive the sorter. */
struct sorter *sorter_open(const struct sorter_spec *spec);
uint64_t sorter_rows(const struct sorter *s);   /* put so far, those of a resumed run included */
bool sorter_full(const struct sorter *s);       /* resumed in its second pass: nothing is to be put */
void sorter_put(struct sorter *s, struct sort_key key, const void *row);
/* Between two rows, now and then: saves a state if it is time. */
void sorter_checkpoint(struct sorter *s);
/* Writes and completes the shard, stamps it, frees s; its compressed bytes.  Steps prog a row at a time. */
uint64_t sorter_finish(struct sorter *s);

#endif
