#ifndef SPILL_H
#define SPILL_H
/*
 * spill: records of one size set aside on disk in bins, for what is sorted in
 * less memory than it takes.
 *
 *	struct spill *s = spill_open("mix.zst", NULL, shape);
 *	memcpy(spill_put(s, bin), record, shape.record);        (any number of times)
 *	spill_flush(s);                 (shape.memory is free for other use now)
 *	spill_get(s, bin, dst);         (its spill_count(s, bin) records, in order of arrival)
 *	spill_forget(s, bin);           (gives the disk space back)
 *	spill_close(s);                 (removes the file)
 *
 * A bin's buffer is an equal part of the memory given; when full it is appended
 * to one log, so every write is sequential and as large as the memory allows,
 * and no number of bins runs out of descriptors.  A single bin stays in memory
 * and touches no disk while it fits.
 *
 * The log of output X is X.bins.part, or in `dir`, if given, X's name and a hash
 * of where X lies (others may set aside there too).  It is kept when the tool is
 * killed, so that a state may go on from it.  For standard output it has no
 * name and vanishes with the process.
 */
#include "file.h"

struct spill_shape {
	size_t bins, record;    /* bytes of a record */
	void *memory;           /* the caller's; at least bins · record bytes */
	size_t bytes;
};

struct spill;
/* output: of the tool; "-": an unnamed log in dir, or in $TMPDIR, or in /tmp. */
struct spill *spill_open(const char *output, const char *dir, struct spill_shape shape);
/* Where the bin's next record is to be copied, at once. */
void *spill_put(struct spill *s, size_t bin);
uint64_t spill_count(const struct spill *s, size_t bin);
void spill_flush(struct spill *s);
void spill_get(struct spill *s, size_t bin, void *dst);         /* after spill_flush */
void spill_ahead(struct spill *s, size_t bin);            /* it will be wanted soon */
void spill_forget(struct spill *s, size_t bin);
uint64_t spill_bytes(const struct spill *s);                    /* of the log */
/* All that was put, synced, and its index appended to *st; and back again, or
 * NULL when the log is missing, shorter, or of another shape. */
void spill_save(struct spill *s, struct buf *st);
struct spill *spill_restore(const char *output, const char *dir, struct spill_shape shape,
			    struct cursor *st);
void spill_close(struct spill *s);      /* removes the log, even one that only a killed run left */

#endif
