#ifndef HELDOUT_H
#define HELDOUT_H
/*
 * heldout: documents set aside for validation, given back in the order of
 * their keys.  They wait in a file, X.docs.part, so that memory holds only
 * 32 bytes of each.
 *
 *	struct heldout *h = heldout_open("val.zst", OUT_KEEP);
 *	heldout_add(h, key, ids, n);
 *	heldout_drain(h, sink);
 *	heldout_close(h);               (removes the file)
 */
#include "sink.h"

struct heldout;
struct heldout *heldout_open(const char *path, int flags);       /* flags: file.h's */
void heldout_add(struct heldout *h, uint64_t key, const uint16_t *ids, size_t n);
uint64_t heldout_count(const struct heldout *h);
uint64_t heldout_tokens(const struct heldout *h);
/* All documents to the sink, by key; equal keys in order of arrival. */
void heldout_drain(struct heldout *h, struct sink *to);
void heldout_save(struct heldout *h, struct buf *state);
struct heldout *heldout_restore(const char *path, struct cursor *state);        /* NULL: the file is missing or shorter */
void heldout_close(struct heldout *h);

#endif
