#ifndef SHARD_H
#define SHARD_H
/*
 * shard: zstd-compressed flat arrays that say what they are and know whether
 * they are whole.  `zstd -dc X.zst` is the little-endian array and nothing
 * else.  Layout (zstd frames; skippable ones in brackets):
 *
 *	[META] DATA 0  DATA 1 … [META (stats)] [SEEK TABLE]
 *
 * META 0x184D2A57: an 8-byte tag "fmill\0\0\1" (name and format version),
 * then text lines "key value", the last "sum <XXH64 of what precedes, hex>".
 * DATA: exactly rows_per_frame rows a frame (the last may be shorter), with
 * content size and checksum.  SEEK TABLE 0x184D2A5E: zstd seekable format
 * 0.1.0, an entry for every preceding frame; it is the end marker.
 *
 *	struct shard_spec spec = { DT_F16, 512, 0, 0, 1, NULL };
 *	struct shard_writer *w = shard_create("x.zst", &spec, 0);
 *	shard_write(w, rows, n);
 *	shard_finish(w);
 *
 *	struct shards *in = shards_open(paths);         (files, or "-": a pipe)
 *	while ((n = shards_read(in, rows, max)) > 0) …  (0 only after the end was verified)
 *	shards_close(in);
 *
 * Whatever is truncated, damaged, mixed up or foreign dies with one line that
 * names the file and the place.
 */
#include "file.h"

enum dtype { DT_U16, DT_U32, DT_F16, DT_BF16, DT_F32 };
size_t dtype_size(enum dtype t);
const char *dtype_name(enum dtype t);
bool dtype_parse(const char *s, enum dtype *t);
/* Binary digits of a float type's numbers (11, 8, 24), and the type that has so many */
unsigned dtype_digits(enum dtype t);
enum dtype dtype_of_digits(unsigned digits);
/* n values between float32 and a float dtype (round to nearest even; NaN stays NaN). */
void dtype_from_f32(enum dtype t, void *dst, const float *src, size_t n);
void dtype_to_f32(enum dtype t, float *dst, const void *src, size_t n);

/* Text of a META: lines "key value\n" in order; keys may repeat ("via"). */
struct meta {
	struct buf text;
};
void meta_add(struct meta *m, const char *key, const char *fmt, ...) PRINTF(3, 4);
/* First value of key as a new string, or NULL. */
char *meta_get(const struct meta *m, const char *key);
/* Its value as a number; dies, naming `name`, when missing or no number. */
uint64_t meta_u64(const struct meta *m, const char *key, const char *name);
void meta_free(struct meta *m);

struct shard_spec {
	enum dtype dtype;
	size_t cols;
	size_t rows_per_frame;          /* 0: about 1 MiB of rows; tokens use 32768 */
	uint64_t k, n;                  /* shard k of n */
	const struct meta *meta;        /* further lines, provenance included; NULL: none.
	                                 * dtype, cols, rows-per-frame, shard are written by the module */
	int level;                      /* zstd level; 0: 1 */
};

/* ---- writing: rows are buffered into frames, compressed by the pool, written in order ---- */
struct shard_writer;
struct shard_writer *shard_create(const char *path, const struct shard_spec *spec, int out_flags);
/* rows: n x cols of the shard's dtype, little-endian */
void shard_write(struct shard_writer *w, const void *rows, size_t n);
/* float rows into a float shard: converted on the way */
void shard_write_f32(struct shard_writer *w, const float *rows, size_t n);
/* Extra lines for the closing META, beside rows, id, min, max, mean, sumsq, nan. */
void shard_stat(struct shard_writer *w, const char *key, const char *fmt, ...) PRINTF(3, 4);
uint64_t shard_finish(struct shard_writer *w);  /* stats, table, sync, rename; frees w; its compressed bytes */
uint64_t shard_rows(const struct shard_writer *w);      /* written so far */
uint64_t shard_bytes(const struct shard_writer *w);     /* compressed, so far */
/* For states: the writer's position, synced to disk, appended to *st (frame
 * table, statistics and the rows of the frame under way); and back again. */
void shard_save(struct shard_writer *w, struct buf *st);
struct shard_writer *shard_restore(const char *path, const struct shard_spec *spec, int out_flags,
				   struct cursor *st);  /* NULL: X.part is missing or shorter */

/* ---- reading a sequence of shards k = 0 … n-1 as one array of rows ---- */
struct shards;
/* paths: NULL-terminated; none or "-" alone is standard input, on which
 * several shards may follow one another; a directory stands for its *.zst in
 * the order of their names.  Files must be one complete set in
 * order (0/n … n-1/n) with equal dtype, cols and, where present, equal
 * "contexts" lines -- or a single shard k/n by itself.  A pipe that begins with
 * shard 0 must go on to the last: a single 0/n with n > 1 is taken for cut off. */
struct shards *shards_open(char *const *paths);
enum dtype shards_dtype(const struct shards *s);
size_t shards_cols(const struct shards *s);
const struct meta *shards_meta(const struct shards *s); /* of the first shard */
uint64_t shards_k(const struct shards *s);              /* of the first shard */
uint64_t shards_n(const struct shards *s);
/* All n shards (of a pipe that begins with the first: promised); false: one of several by itself. */
bool shards_whole(const struct shards *s);
bool shards_seekable(const struct shards *s);           /* files; a pipe is not */
uint64_t shards_rows(const struct shards *s);           /* total; only when seekable */
/* max rows in the shards' dtype; fewer, at last 0, only at the verified end.
 * Decompresses ahead through the pool; a pipe is read by a thread of its own. */
size_t shards_read(struct shards *s, void *rows, size_t max);
size_t shards_read_f32(struct shards *s, float *rows, size_t max);      /* float dtypes */
void shards_seek(struct shards *s, uint64_t row);       /* next row to read; seekable only */
/* Before the first read, seekable only: of every `period` rows only those from `from` on, n of them, are wanted, and
 * the first `all` of the set.  Frames without any are not unpacked; their rows are read as anything. */
void shards_want(struct shards *s, uint64_t period, uint64_t from, uint64_t n, uint64_t all);
/* id of the whole set, 32 hex digits: of one shard its id, of several the
 * XXH3-128 of their ids.  On a pipe only after the end; else dies. */
void shards_id(struct shards *s, char hex[33]);
void shards_close(struct shards *s);

/* ---- random access through a bounded cache of decoded frames (least recently used) ---- */
struct shard_cache;
struct shard_cache *shard_cache_open(char *const *paths, size_t cache_bytes);   /* files only */
uint64_t shard_cache_rows(const struct shard_cache *c);
/* rows [row, row + n); safe to call from several pool threads at once */
void shard_cache_get(struct shard_cache *c, uint64_t row, size_t n, void *rows);
struct shards *shard_cache_shards(struct shard_cache *c);       /* dtype, cols, meta, id */
void shard_cache_close(struct shard_cache *c);

/* id of a shard file from its end, without reading data: XXH3-128 of dtype,
 * cols, rows per frame and the data frames' sizes and checksums. */
void shard_file_id(const char *path, char hex[33]);
/* For shardls: all that can be known without reading data. */
struct shard_info {
	enum dtype dtype;
	size_t cols, rows_per_frame, frames;
	uint64_t k, n, rows, bytes;
	char id[33];
	struct meta meta, stats;
};
void shard_info(const char *path, struct shard_info *info);
void shard_info_free(struct shard_info *info);
/* paths with every directory replaced by its *.zst, by name. */
char **shard_paths(char *const *paths);
void shard_paths_free(char **paths);
/* Like shard_info, but trouble is a line in `why` and false; data: every row is read and checked,
 * prog stepping by compressed bytes. */
bool shard_check(const char *path, bool data, struct shard_info *info, char why[256]);
/* Of shards being read: how many, and which; on a pipe only after the end. */
size_t shards_count(const struct shards *s);
void shards_info(const struct shards *s, size_t i, struct shard_info *info);

#endif
