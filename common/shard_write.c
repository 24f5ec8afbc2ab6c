/* The writing half of shard.h. */
#include "shard.h"

#include <stdlib.h>
#include <string.h>

#include "pool.h"
#include "shard_format.h"
#include "shard_stats.h"

enum { FRAME_BYTES = 1 << 20, LEVEL = 1 };

/* A full frame on its way through the pool. */
struct job {
	struct task task;
	const struct shard_writer *w;
	char *rows;             /* freed once packed */
	size_t bytes;
	char *packed;
	struct entry entry;
	struct stats stats;
};

struct shard_writer {
	struct head head;
	int level;
	struct out *out;
	struct table table;     /* of what was written to out */
	struct meta closing;    /* lines of shard_stat */
	struct stats stats;
	char *rows;             /* the frame under way; NULL: none */
	size_t fill;            /* bytes in it */
	uint64_t n_rows;
	struct job *ring;       /* jobs first … first + under_way - 1, modulo depth */
	size_t depth, first, under_way;
};

static struct shard_writer *writer_new(const struct shard_spec *spec, const char *path)
{
	struct shard_writer *w = xcalloc(1, sizeof(*w));
	const size_t row_bytes = xmul(spec->cols, dtype_size(spec->dtype));
	const size_t about = row_bytes && row_bytes < FRAME_BYTES ? FRAME_BYTES / row_bytes : 1;
	const size_t rows = spec->rows_per_frame ? spec->rows_per_frame : about;
	struct meta *m = &w->head.meta;
	struct fault f;

	meta_add(m, "dtype", "%s", dtype_name(spec->dtype));
	meta_add(m, "cols", "%zu", spec->cols);
	meta_add(m, "rows-per-frame", "%zu", rows);
	meta_add(m, "shard", "%llu/%llu", (unsigned long long)spec->k,
		 (unsigned long long)(spec->n ? spec->n : 1));
	if (spec->meta)
		buf_add(&m->text, spec->meta->text.p, spec->meta->text.n);
	if (!head_parse(&w->head, &f))
		die("cannot write '%s': %s", path, f.text);
	w->level = spec->level ? spec->level : LEVEL;
	w->depth = pool_threads() > 1 ? pool_threads() + 1 : 1;
	w->ring = xcalloc(w->depth, sizeof(*w->ring));
	return w;
}

static void writer_free(struct shard_writer *w)
{
	meta_free(&w->head.meta);
	meta_free(&w->closing);
	table_free(&w->table);
	free(w->rows);
	free(w->ring);
	free(w);
}

static void append(struct shard_writer *w, const void *frame, struct entry e)
{
	struct fault f;

	if (!table_add(&w->table, &w->head, e, &f))
		die("cannot write %s: %s", out_name(w->out), f.text);
	out_write(w->out, frame, e.packed);
}

static void append_meta(struct shard_writer *w, const struct meta *m)
{
	struct buf frame = { 0 };

	meta_frame(&frame, m);
	if (frame.n > SHARD_SKIP_HEAD + SHARD_META_MAX)
		die("cannot write %s: META of %zu bytes, more than %d", out_name(w->out),
		    frame.n - SHARD_SKIP_HEAD, SHARD_META_MAX);
	append(w, frame.p, (struct entry){ (uint32_t)frame.n, 0, SHARD_EMPTY_SUM });
	buf_free(&frame);
}

struct shard_writer *shard_create(const char *path, const struct shard_spec *spec, int out_flags)
{
	struct shard_writer *w = writer_new(spec, path);

	w->out = out_open(path, out_flags);
	append_meta(w, &w->head.meta);
	return w;
}

/* ---- frames through the pool ---- */

static void pack(void *arg)
{
	struct job *j = arg;
	const struct head *h = &j->w->head;

	stats_of(&j->stats, h->dtype, j->rows, j->bytes / dtype_size(h->dtype));
	j->packed = xmalloc(frame_bound(j->bytes));
	j->entry = frame_pack(j->packed, j->rows, j->bytes, j->w->level);
	j->packed = xrealloc(j->packed, j->entry.packed, 1);
	free(j->rows);
	j->rows = NULL;
}

/* Waits for the oldest job and writes its frame. */
static void take(struct shard_writer *w)
{
	struct job *j = &w->ring[w->first];

	task_wait(&j->task);
	append(w, j->packed, j->entry);
	stats_merge(&w->stats, &j->stats);
	free(j->packed);
	j->packed = NULL;
	w->first = (w->first + 1) % w->depth;
	w->under_way--;
}

static void drain(struct shard_writer *w)
{
	while (w->under_way)
		take(w);
}

static void submit(struct shard_writer *w)
{
	while (w->under_way && (w->under_way == w->depth || task_done(&w->ring[w->first].task)))
		take(w);
	struct job *j = &w->ring[(w->first + w->under_way++) % w->depth];

	*j = (struct job){ .task = { .fn = pack, .arg = j }, .w = w, .rows = w->rows, .bytes = w->fill };
	w->rows = NULL;
	w->fill = 0;
	task_post(&j->task);
	if (w->depth == 1)
		take(w);
}

/* Room for at least one and at most *n further rows; fewer into *n when the frame ends. */
static char *room(struct shard_writer *w, size_t *n)
{
	const size_t left = (w->head.frame_bytes - w->fill) / w->head.row_bytes;

	if (!w->rows)
		w->rows = xmalloc(w->head.frame_bytes);
	if (*n > left)
		*n = left;
	return w->rows + w->fill;
}

static void added(struct shard_writer *w, size_t n)
{
	w->fill += n * w->head.row_bytes;
	w->n_rows += n;
	if (w->fill == w->head.frame_bytes)
		submit(w);
}

void shard_write(struct shard_writer *w, const void *rows, size_t n)
{
	const char *from = rows;

	for (size_t part; n > 0; n -= part, from += part * w->head.row_bytes) {
		part = n;
		char *to = room(w, &part);

		memcpy(to, from, part * w->head.row_bytes);
		added(w, part);
	}
}

void shard_write_f32(struct shard_writer *w, const float *rows, size_t n)
{
	for (size_t part; n > 0; n -= part, rows += part * w->head.cols) {
		part = n;
		char *to = room(w, &part);

		dtype_from_f32(w->head.dtype, to, rows, part * w->head.cols);
		added(w, part);
	}
}

void shard_stat(struct shard_writer *w, const char *key, const char *fmt, ...)
{
	struct buf b = { 0 };
	va_list ap;

	va_start(ap, fmt);
	buf_vprintf(&b, fmt, ap);
	va_end(ap);
	meta_add(&w->closing, key, "%s", b.p);
	buf_free(&b);
}

uint64_t shard_rows(const struct shard_writer *w)
{
	return w->n_rows;
}

uint64_t shard_bytes(const struct shard_writer *w)
{
	return out_tell(w->out);
}

static void append_stats(struct shard_writer *w)
{
	struct meta m = { 0 };
	char id[33];

	table_id(&w->table, &w->head, id);
	meta_add(&m, "rows", "%llu", (unsigned long long)w->n_rows);
	meta_add(&m, "id", "%s", id);
	stats_to_meta(&w->stats, &m);
	buf_add(&m.text, w->closing.text.p, w->closing.text.n);
	append_meta(w, &m);
	meta_free(&m);
}

uint64_t shard_finish(struct shard_writer *w)
{
	struct buf frame = { 0 };

	if (w->fill)
		submit(w);
	drain(w);
	append_stats(w);
	table_frame(&frame, &w->table);
	out_write(w->out, frame.p, frame.n);
	const uint64_t bytes = out_tell(w->out);

	out_commit(w->out);
	buf_free(&frame);
	writer_free(w);
	return bytes;
}

/* ---- states ---- */

struct saved {
	uint64_t position, entries, fill, closing;      /* bytes but for entries */
	struct stats stats;
};

void shard_save(struct shard_writer *w, struct buf *st)
{
	drain(w);
	out_sync(w->out);
	const struct saved s = { out_tell(w->out), w->table.n, w->fill, w->closing.text.n, w->stats };

	buf_add(st, &s, sizeof(s));
	buf_add(st, w->table.entry, w->table.n * sizeof(*w->table.entry));
	buf_add(st, w->rows, w->fill);
	buf_add(st, w->closing.text.p, w->closing.text.n);
}

static void restore_table(struct shard_writer *w, const struct saved *s, struct cursor *st, const char *path)
{
	uint64_t position = 0;
	struct fault f;

	for (uint64_t i = 0; i < s->entries; i++) {
		struct entry e;

		cursor_get(st, &e, sizeof(e));
		position += e.packed;
		if (!table_add(&w->table, &w->head, e, &f))
			die("damaged state of '%s': %s", path, f.text);
	}
	if (!s->entries || position != s->position)
		die("damaged state of '%s': its frames do not add up", path);
}

static void restore_rows(struct shard_writer *w, const struct saved *s, struct cursor *st, const char *path)
{
	if (s->fill >= w->head.frame_bytes || s->fill % w->head.row_bytes)
		die("damaged state of '%s': %llu bytes of a frame of %zu", path, (unsigned long long)s->fill,
		    w->head.frame_bytes);
	if (s->fill) {
		w->rows = xmalloc(w->head.frame_bytes);
		cursor_get(st, w->rows, s->fill);
	}
	w->fill = s->fill;
	w->n_rows = w->table.rows + s->fill / w->head.row_bytes;
}

struct shard_writer *shard_restore(const char *path, const struct shard_spec *spec, int out_flags,
				   struct cursor *st)
{
	struct shard_writer *w = writer_new(spec, path);
	struct saved s;

	(void)out_flags; /* what is resumed is kept */
	cursor_get(st, &s, sizeof(s));
	restore_table(w, &s, st, path);
	restore_rows(w, &s, st, path);
	if (s.closing > st->left)
		die("damaged state of '%s': it ends too soon", path);
	buf_add(&w->closing.text, st->p, s.closing);
	st->p += s.closing;
	st->left -= s.closing;
	w->stats = s.stats;
	if ((w->out = out_resume(path, s.position)))
		return w;
	writer_free(w);
	return NULL;
}
