#ifndef ENCODER_H
#define ENCODER_H
/*
 * encoder: the documents of a corpus as tokens, in order.  The calling thread
 * reads ahead, the pool encodes batches of documents; the number of threads
 * changes nothing in what comes out.
 *
 *	struct encoder *e = encoder_open(paths, &opts, seed, false);
 *	while ((b = encoder_next(e)) != NULL)
 *		for (size_t i = 0; i < b->n; i++)
 *			… ids[i ? b->doc[i - 1].end : 0] up to ids[b->doc[i].end] …
 *	encoder_close(e);
 */
#include "source.h"

struct encoded {                /* a document of a batch */
	uint64_t key;           /* hash of seed and tokens: the same for the same text, whatever it came in */
	size_t end;             /* its ids, end token included, begin where the last one's end */
};

struct place {                  /* in the inputs */
	uint64_t input, docs;   /* file; documents read of it */
};

struct encoded_batch {
	const struct encoded *doc;
	size_t n;
	const uint16_t *ids;
	uint64_t text_bytes;
	struct place behind;    /* where the next batch begins */
};

struct encoder;
/* paths: NULL-terminated, kept by the caller.  leading: the end token comes first (llm.c). */
struct encoder *encoder_open(char *const *paths, const struct source_opts *o, uint64_t seed, bool leading);
/* Before the first batch: passes over what a batch's `behind` says is done. */
void encoder_skip(struct encoder *e, struct place done);
/* The next documents, valid until the call after this; NULL at the end.  Counts the bytes read as
 * steps of progress. */
const struct encoded_batch *encoder_next(struct encoder *e);
void encoder_close(struct encoder *e);

#endif
