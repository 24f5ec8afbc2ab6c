#include "shard_format.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "shards are little-endian");

static const char tag[8] = { 'f', 'm', 'i', 'l', 'l', 0, 0, 1 };

enum {
	TABLE_FRAMES_MAX = 0x8000000,   /* ZSTD_SEEKABLE_MAXFRAMES */
	TABLE_CHECKSUMS = 0x80,         /* descriptor: entries have checksums, all other bits 0 */
	SUM_CHARS = 4 + 16 + 1,         /* "sum ", hex, newline */
	EXCESS = 64                     /* what a frame may be longer than zstd's bound: its largest header */
};

bool fault(struct fault *f, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(f->text, sizeof(f->text), fmt, ap);
	va_end(ap);
	return false;
}

uint32_t get_u32(const void *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static void put_u32(struct buf *b, uint32_t v)
{
	buf_add(b, &v, sizeof(v));
}

void hash_hex(const void *p, size_t bytes, char hex[33])
{
	const XXH128_hash_t h = XXH3_128bits(p, bytes);

	snprintf(hex, 33, "%016llx%016llx", (unsigned long long)h.high64, (unsigned long long)h.low64);
}

/* ---- META ---- */

static void sum_line(char line[SUM_CHARS + 1], const void *p, size_t bytes)
{
	snprintf(line, SUM_CHARS + 1, "sum %016llx\n", (unsigned long long)XXH64(p, bytes, 0));
}

void meta_frame(struct buf *out, const struct meta *m)
{
	struct buf body = { 0 };
	char sum[SUM_CHARS + 1];

	buf_add(&body, tag, sizeof(tag));
	buf_add(&body, m->text.p, m->text.n);
	sum_line(sum, body.p, body.n);
	buf_add(&body, sum, SUM_CHARS);
	put_u32(out, SHARD_META_MAGIC);
	put_u32(out, (uint32_t)body.n);
	buf_add(out, body.p, body.n);
	buf_free(&body);
}

/* Lines "key value" of printable text, so that they may be shown anywhere. */
static bool is_lines(const char *p, size_t bytes)
{
	size_t start = 0, space = 0;

	for (size_t i = 0; i < bytes; i++) {
		if (p[i] == ' ' && !space)
			space = i;
		if (p[i] == '\n') {
			if (space <= start)
				return false;
			start = i + 1;
			space = 0;
		} else if ((unsigned char)p[i] < ' ' || p[i] == 0x7f) {
			return false;
		}
	}
	return start == bytes;
}

bool meta_parse(struct meta *m, const char *p, size_t bytes, struct fault *f)
{
	char sum[SUM_CHARS + 1];

	if (bytes < sizeof(tag) + SUM_CHARS || memcmp(p, tag, sizeof(tag) - 1))
		return fault(f, "no META of a shard");
	const size_t body = bytes - SUM_CHARS;

	sum_line(sum, p, body);
	if (memcmp(sum, p + body, SUM_CHARS))
		return fault(f, "damaged META: its sum is another");
	if (p[7] != tag[7])
		return fault(f, "format version %d is not known", p[7]);
	if (!is_lines(p + sizeof(tag), body - sizeof(tag)))
		return fault(f, "META holds something else than lines of text");
	buf_clear(&m->text);
	buf_add(&m->text, p + sizeof(tag), body - sizeof(tag));
	return true;
}

static bool number(const struct meta *m, const char *key, uint64_t most, uint64_t *v)
{
	char *s = meta_get(m, key);
	const bool ok = s && parse_u64(s, v) && *v >= 1 && *v <= most;

	free(s);
	return ok;
}

static bool place(const struct meta *m, uint64_t *k, uint64_t *n)
{
	char *s = meta_get(m, "shard"), *slash = s ? strchr(s, '/') : NULL;

	if (slash)
		*slash++ = 0;
	const bool ok = slash && parse_u64(s, k) && parse_u64(slash, n) && *k < *n;

	free(s);
	return ok;
}

bool head_parse(struct head *h, struct fault *f)
{
	char *type = meta_get(&h->meta, "dtype");
	const bool known = type && dtype_parse(type, &h->dtype);
	uint64_t cols, rows;

	free(type);
	if (!known || !number(&h->meta, "cols", SHARD_FRAME_MAX, &cols) ||
	    !number(&h->meta, "rows-per-frame", SHARD_FRAME_MAX, &rows) || !place(&h->meta, &h->k, &h->n))
		return fault(f, "META lacks a usable dtype, cols, rows-per-frame or shard");
	h->cols = cols;
	h->rows_per_frame = rows;
	h->row_bytes = cols * dtype_size(h->dtype);
	if (h->row_bytes > SHARD_FRAME_MAX / rows)
		return fault(f, "its frames are larger than %d MiB", SHARD_FRAME_MAX >> 20);
	h->frame_bytes = h->row_bytes * rows;
	return true;
}

/* ---- the seek table ---- */

static void table_push(struct table *t, struct entry e)
{
	if (t->n == t->cap) {
		t->cap = t->cap ? 2 * t->cap : 16;
		t->entry = xrealloc(t->entry, t->cap, sizeof(*t->entry));
	}
	t->entry[t->n++] = e;
}

bool table_add(struct table *t, const struct head *h, struct entry e, struct fault *f)
{
	const size_t at = t->n;

	if (t->n >= TABLE_FRAMES_MAX)
		return fault(f, "more than %d frames", TABLE_FRAMES_MAX);
	if (t->closed)
		return fault(f, "frame %zu stands behind the closing META", at);
	if (at == 0 || e.bytes == 0) {
		if (e.bytes != 0 || e.sum != SHARD_EMPTY_SUM || e.packed < SHARD_SKIP_HEAD ||
		    e.packed > SHARD_SKIP_HEAD + SHARD_META_MAX)
			return fault(f, "frame %zu is no META", at);
		t->closed = at > 0;
	} else {
		if (t->frames && t->entry[at - 1].bytes != h->frame_bytes)
			return fault(f, "frame %zu is not full, though more follow", at - 1);
		if (e.bytes > h->frame_bytes || e.bytes % h->row_bytes)
			return fault(f, "frame %zu holds %u bytes, rows are %zu, frames %zu", at, e.bytes,
				     h->row_bytes, h->frame_bytes);
		if (e.packed > frame_bound(e.bytes))
			return fault(f, "frame %zu is larger than it can be", at);
		t->frames++;
		t->rows += e.bytes / h->row_bytes;
	}
	table_push(t, e);
	return true;
}

void table_frame(struct buf *out, const struct table *t)
{
	const unsigned char descriptor = TABLE_CHECKSUMS;
	const size_t bytes = t->n * sizeof(struct entry) + SHARD_TABLE_TAIL;

	put_u32(out, SHARD_TABLE_MAGIC);
	put_u32(out, (uint32_t)bytes);
	buf_add(out, t->entry, t->n * sizeof(struct entry));
	put_u32(out, (uint32_t)t->n);
	buf_add(out, &descriptor, 1);
	put_u32(out, SHARD_TABLE_END);
}

bool table_parse(struct table *t, const struct head *h, const char *p, size_t n, struct fault *f)
{
	for (size_t i = 0; i < n; i++) {
		struct entry e;

		memcpy(&e, p + i * sizeof(e), sizeof(e));
		if (!table_add(t, h, e, f))
			return false;
	}
	return n > 0 || fault(f, "its seek table is empty");
}

bool table_tail_parse(const char *p, size_t *n)
{
	*n = get_u32(p);
	return get_u32(p + 5) == SHARD_TABLE_END && (unsigned char)p[4] == TABLE_CHECKSUMS &&
		*n <= TABLE_FRAMES_MAX;
}

void table_free(struct table *t)
{
	free(t->entry);
	*t = (struct table){ 0 };
}

void table_id(const struct table *t, const struct head *h, char hex[33])
{
	struct buf b = { 0 };

	buf_printf(&b, "%s %zu %zu\n", dtype_name(h->dtype), h->cols, h->rows_per_frame);
	for (size_t i = 1; i <= t->frames; i++) {
		put_u32(&b, t->entry[i].bytes);
		put_u32(&b, t->entry[i].sum);
	}
	hash_hex(b.p, b.n, hex);
	buf_free(&b);
}

bool stats_check(const struct meta *stats, const struct table *t, const struct head *h, struct fault *f)
{
	char *rows = meta_get(stats, "rows"), *id = meta_get(stats, "id"), hex[33];
	uint64_t n = 0;

	table_id(t, h, hex);
	const bool same_rows = !rows || (parse_u64(rows, &n) && n == t->rows);
	const bool same_id = !id || !strcmp(id, hex);

	free(rows);
	free(id);
	if (!same_rows)
		return fault(f, "its closing META and its seek table disagree on the number of rows");
	return same_id || fault(f, "its frames are not those that its closing META names");
}

static struct meta meta_copy(const struct meta *m)
{
	struct meta copy = { { 0 } };

	buf_add(&copy.text, m->text.p, m->text.n);
	return copy;
}

void shard_info_fill(struct shard_info *info, const struct head *h, const struct table *t,
		     const struct meta *stats, uint64_t bytes)
{
	*info = (struct shard_info){
		.dtype = h->dtype, .cols = h->cols, .rows_per_frame = h->rows_per_frame,
		.frames = t->frames, .k = h->k, .n = h->n, .rows = t->rows, .bytes = bytes,
		.meta = meta_copy(&h->meta), .stats = meta_copy(stats),
	};
	table_id(t, h, info->id);
}

void shard_info_copy(struct shard_info *to, const struct shard_info *from)
{
	*to = *from;
	to->meta = meta_copy(&from->meta);
	to->stats = meta_copy(&from->stats);
}

void shard_info_free(struct shard_info *info)
{
	meta_free(&info->meta);
	meta_free(&info->stats);
}

/* ---- DATA ---- */

/* zstd's contexts, one of each a thread: large, and needed at a thousand places. */
struct contexts {
	ZSTD_CCtx *pack;
	ZSTD_DCtx *unpack;
};
static pthread_key_t contexts_key;

static void contexts_free(void *p)
{
	struct contexts *c = p;

	ZSTD_freeCCtx(c->pack);
	ZSTD_freeDCtx(c->unpack);
	free(c);
}

static void contexts_key_make(void)
{
	if (pthread_key_create(&contexts_key, contexts_free) != 0)
		die("cannot make a thread-specific key");
}

static struct contexts *contexts(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, contexts_key_make);
	struct contexts *c = pthread_getspecific(contexts_key);

	if (!c) {
		c = xcalloc(1, sizeof(*c));
		pthread_setspecific(contexts_key, c);
	}
	return c;
}

size_t frame_bound(size_t bytes)
{
	return ZSTD_compressBound(bytes) + EXCESS;
}

static size_t checked(size_t r, const char *what)
{
	if (ZSTD_isError(r))
		die("%s: %s", what, ZSTD_getErrorName(r));
	return r;
}

struct entry frame_pack(char *packed, const char *rows, size_t bytes, int level)
{
	struct contexts *c = contexts();

	/* The row match finder of higher levels salts the tables of a context that
	 * is used again: frames would depend on what was packed before. */
	if (c->pack && level > 3) {
		ZSTD_freeCCtx(c->pack);
		c->pack = NULL;
	}
	if (!c->pack && !(c->pack = ZSTD_createCCtx()))
		die("out of memory");
	checked(ZSTD_CCtx_reset(c->pack, ZSTD_reset_session_and_parameters), "zstd");
	checked(ZSTD_CCtx_setParameter(c->pack, ZSTD_c_compressionLevel, level), "zstd level");
	checked(ZSTD_CCtx_setParameter(c->pack, ZSTD_c_checksumFlag, 1), "zstd checksum");
	const size_t n = checked(ZSTD_compress2(c->pack, packed, frame_bound(bytes), rows, bytes), "zstd");

	return (struct entry){ (uint32_t)n, (uint32_t)bytes, get_u32(packed + n - 4) };
}

size_t frame_head_bytes(const unsigned char *p, struct fault *f)
{
	static const unsigned char size_bytes[4] = { 0, 2, 4, 8 };
	const unsigned d = p[4];
	const bool single = d & 0x20, sum = d & 4;
	const size_t size = single && !(d >> 6) ? 1 : size_bytes[d >> 6];

	if (get_u32(p) != ZSTD_MAGICNUMBER || (d & 0x0b) || !sum || !size) {
		fault(f, "its header is not that of a frame with content size and checksum");
		return 0;
	}
	return (single ? 5 : 6) + size;
}

bool frame_unpack(const struct entry *e, const char *packed, char *rows, struct fault *f)
{
	struct contexts *c = contexts();
	enum { LEAST = 5 + 1 + 3 + 4 };

	if (e->packed < LEAST || !frame_head_bytes((const unsigned char *)packed, f))
		return fault(f, "its header is not that of a frame with content size and checksum");
	if (ZSTD_getFrameContentSize(packed, e->packed) != e->bytes ||
	    ZSTD_findFrameCompressedSize(packed, e->packed) != e->packed ||
	    get_u32(packed + e->packed - 4) != e->sum)
		return fault(f, "it is not the frame of the seek table");
	if (!c->unpack && !(c->unpack = ZSTD_createDCtx()))
		die("out of memory");
	const size_t n = ZSTD_decompressDCtx(c->unpack, rows, e->bytes, packed, e->packed);

	if (ZSTD_isError(n))
		return fault(f, "%s", ZSTD_getErrorName(n));
	return n == e->bytes || fault(f, "it is shorter than it says");
}
