#ifndef SINK_H
#define SINK_H
/*
 * sink: where a stream of tokens goes -- a token shard, nanoGPT's .bin
 * (headerless little-endian uint16) or llm.c's (256 int32 in front: 20240520,
 * 1, the number of tokens, zeros).
 *
 *	struct sink *s = sink_open("train.zst", SINK_SHARD, &meta, OUT_KEEP);
 *	sink_write(s, ids, n);
 *	sink_finish(s);
 */
#include "shard.h"

enum sink_format { SINK_SHARD, SINK_NANOGPT, SINK_LLMC };

struct sink;
/* meta: further lines of a shard, copied; unused by the others.  flags: file.h's. */
struct sink *sink_open(const char *path, enum sink_format format, const struct meta *meta, int flags);
void sink_write(struct sink *s, const uint16_t *ids, size_t n);
uint64_t sink_tokens(const struct sink *s);
uint64_t sink_bytes(const struct sink *s);      /* on the disk, so far */
/* Closing line of a shard; nothing in the others. */
void sink_stat(struct sink *s, const char *key, uint64_t value);
void sink_finish(struct sink *s);               /* complete, synced, renamed; frees s */
/* For states, as shard_save and shard_restore. */
void sink_save(struct sink *s, struct buf *state);
struct sink *sink_restore(const char *path, enum sink_format format, const struct meta *meta, int flags,
			  struct cursor *state);        /* NULL: X.part is missing or shorter */

#endif
