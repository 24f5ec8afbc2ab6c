#ifndef SHARD_FORMAT_H
#define SHARD_FORMAT_H
/*
 * shard_format: the bytes of a shard, shared by the modules that write and
 * read them (shard.h has the picture).  Nothing here dies on bad input: what
 * is wrong goes into a fault, and the caller, who knows the name, tells it.
 */
#include <zstd.h>

#include "shard.h"

#define SHARD_META_MAGIC UINT32_C(0x184D2A57)
#define SHARD_TABLE_MAGIC UINT32_C(0x184D2A5E)
#define SHARD_TABLE_END UINT32_C(0x8F92EAB1)
#define SHARD_EMPTY_SUM UINT32_C(0x51D8E999)    /* checksum of no data: of META entries */
enum {
	SHARD_META_MAX = 64 << 10,      /* content of a META */
	SHARD_FRAME_MAX = 256 << 20,    /* decompressed bytes of a DATA frame */
	SHARD_SKIP_HEAD = 8,            /* magic and size of a skippable frame */
	SHARD_TABLE_TAIL = 9            /* number of frames, descriptor, end magic */
};

struct fault {
	char text[240];
};
bool fault(struct fault *f, const char *fmt, ...) PRINTF(2, 3); /* false */

/* What the opening META says. */
struct head {
	enum dtype dtype;
	size_t cols, rows_per_frame;
	size_t row_bytes, frame_bytes;
	uint64_t k, n;
	struct meta meta;       /* all lines but the sum */
};
/* Appends the META frame of these lines, sum added. */
void meta_frame(struct buf *out, const struct meta *m);
/* Content of a META frame to lines without the sum. */
bool meta_parse(struct meta *m, const char *p, size_t bytes, struct fault *f);
/* Fills the rest of h from h->meta. */
bool head_parse(struct head *h, struct fault *f);

/* An entry of the seek table, as stored. */
struct entry {
	uint32_t packed, bytes, sum;    /* sizes of the whole frame and of its content, checksum */
};
struct table {
	struct entry *entry;    /* META, frames x DATA, META (stats) or not */
	size_t n, cap;
	size_t frames;
	uint64_t rows;
	bool closed;            /* the closing META came */
};
/* Adds the next frame; a fault when it cannot follow those before. */
bool table_add(struct table *t, const struct head *h, struct entry e, struct fault *f);
void table_frame(struct buf *out, const struct table *t);
/* Content of a table's frame, without its last 9 bytes, to entries. */
bool table_parse(struct table *t, const struct head *h, const char *p, size_t n, struct fault *f);
/* The last 9 bytes; the number of entries into *n. */
bool table_tail_parse(const char *p, size_t *n);
void table_free(struct table *t);
/* id of dtype, cols, rows per frame and DATA entries. */
void table_id(const struct table *t, const struct head *h, char hex[33]);
/* Do the closing META and the table agree on rows and id? */
bool stats_check(const struct meta *stats, const struct table *t, const struct head *h, struct fault *f);

/* What shardls tells; texts are copies.  Freed with shard_info_free. */
void shard_info_fill(struct shard_info *info, const struct head *h, const struct table *t,
		     const struct meta *stats, uint64_t bytes);
void shard_info_copy(struct shard_info *to, const struct shard_info *from);

/* Largest DATA frame that can hold so many bytes. */
size_t frame_bound(size_t bytes);
/* Unpacks a DATA frame that must be exactly what its entry says. */
bool frame_unpack(const struct entry *e, const char *packed, char *rows, struct fault *f);
/* Packs into a buffer of frame_bound(bytes). */
struct entry frame_pack(char *packed, const char *rows, size_t bytes, int level);
/* Length of a DATA frame's header from its first 5 bytes; 0 and a fault when
 * it lacks content size or checksum. */
size_t frame_head_bytes(const unsigned char *p, struct fault *f);

uint32_t get_u32(const void *p);        /* little-endian */
void hash_hex(const void *p, size_t bytes, char hex[33]);       /* XXH3-128 */

#endif
