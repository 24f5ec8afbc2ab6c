#include "spill.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

/* Records of one bin that lie together in the log; chunks follow one another without gaps. */
struct chunk {
	uint64_t bin, records;
};

struct spill {
	struct spill_shape shape;
	char *path;             /* of the log, without .part */
	bool unnamed;
	struct out *log;        /* NULL: nothing written yet */
	size_t room;            /* records in a buffer */
	size_t *buffered;       /* (bins) records in each buffer */
	uint64_t *count;        /* (bins) records put */
	struct chunk *chunk;
	size_t chunks, cap;
};

/* Of the folder that holds path, wherever the process stands. */
static uint64_t place_hash(const char *path)
{
	const char *slash = strrchr(path, '/');
	char *folder = slash ? xformat("%.*s", (int)(slash - path) + 1, path) : xstrdup(".");
	char *real = realpath(folder, NULL), *of = real ? real : folder;
	const uint64_t hash = XXH3_64bits(of, strlen(of));

	free(real);
	free(folder);
	return hash;
}

static char *log_path(const char *output, const char *dir)
{
	const char *slash = strrchr(output, '/');

	if (strcmp(output, "-"))
		return dir ? xformat("%s/%s.%016llx.bins", dir, slash ? slash + 1 : output,
				     (unsigned long long)place_hash(output))
			   : xformat("%s.bins", output);
	if (!dir)
		dir = getenv("TMPDIR");
	return xformat("%s/%s.%ld.bins", dir && *dir ? dir : "/tmp", base_tool, (long)getpid());
}

static void drop_name(const char *path)
{
	char *part = xformat("%s.part", path);

	unlink(part);
	free(part);
}

static void open_log(struct spill *s)
{
	s->log = out_open(s->path, s->unnamed ? 0 : OUT_KEEP);
	if (s->unnamed)
		drop_name(s->path);
}

static struct spill *spill_new(const char *output, const char *dir, struct spill_shape shape)
{
	struct spill *s = xcalloc(1, sizeof(*s));

	s->shape = shape;
	s->path = log_path(output, dir);
	s->unnamed = !strcmp(output, "-");
	s->room = shape.bytes / shape.bins / shape.record;
	if (s->room == 0)
		BUG("%zu bytes are no buffers for %zu bins", shape.bytes, shape.bins);
	s->buffered = xcalloc(shape.bins, sizeof(*s->buffered));
	s->count = xcalloc(shape.bins, sizeof(*s->count));
	return s;
}

struct spill *spill_open(const char *output, const char *dir, struct spill_shape shape)
{
	struct spill *s = spill_new(output, dir, shape);

	if (shape.bins > 1)
		open_log(s);    /* now, so that a wrong dir is known before any work is done */
	return s;
}

static char *buffer_of(const struct spill *s, size_t bin)
{
	return (char *)s->shape.memory + bin * s->room * s->shape.record;
}

static void write_chunk(struct spill *s, size_t bin)
{
	const size_t records = s->buffered[bin];

	if (!records)
		return;
	if (!s->log)
		open_log(s);
	if (s->chunks == s->cap) {
		s->cap = s->cap ? 2 * s->cap : 64;
		s->chunk = xrealloc(s->chunk, s->cap, sizeof(*s->chunk));
	}
	s->chunk[s->chunks++] = (struct chunk){ bin, records };
	out_write(s->log, buffer_of(s, bin), records * s->shape.record);
	s->buffered[bin] = 0;
}

void *spill_put(struct spill *s, size_t bin)
{
	if (s->buffered[bin] == s->room)
		write_chunk(s, bin);
	s->count[bin]++;
	return buffer_of(s, bin) + s->buffered[bin]++ * s->shape.record;
}

uint64_t spill_count(const struct spill *s, size_t bin)
{
	return s->count[bin];
}

void spill_flush(struct spill *s)
{
	for (size_t b = 0; b < s->shape.bins; b++)
		write_chunk(s, b);
}

/* One chunk's place in the log. */
struct place {
	size_t next;            /* first chunk not yet looked at */
	uint64_t at, end;       /* bytes */
};

/* The bin's first chunk behind p; false: there is none. */
static bool next_chunk(const struct spill *s, size_t bin, struct place *p)
{
	while (p->next < s->chunks) {
		const struct chunk *c = &s->chunk[p->next++];

		p->at = p->end;
		p->end += c->records * s->shape.record;
		if (c->bin == bin)
			return true;
	}
	return false;
}

void spill_get(struct spill *s, size_t bin, void *dst)
{
	char *to = dst;

	for (struct place p = { 0 }; next_chunk(s, bin, &p); to += p.end - p.at)
		if (pread_full(out_fd(s->log), to, p.end - p.at, p.at, s->path) != p.end - p.at)
			die("'%s.part' was cut short by someone", s->path);
}

void spill_ahead(struct spill *s, size_t bin)
{
	for (struct place p = { 0 }; next_chunk(s, bin, &p); )
		posix_fadvise(out_fd(s->log), (off_t)p.at, (off_t)(p.end - p.at), POSIX_FADV_WILLNEED);
}

/* A file system that cannot punch holes keeps the space until the end. */
void spill_forget(struct spill *s, size_t bin)
{
	for (struct place p = { 0 }; next_chunk(s, bin, &p); )
		fallocate(out_fd(s->log), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)p.at,
			  (off_t)(p.end - p.at));
}

uint64_t spill_bytes(const struct spill *s)
{
	return s->log ? out_tell(s->log) : 0;
}

/* ---- states: bins and bytes of a record, to know the shape by; bytes of the log; its chunks ---- */

void spill_save(struct spill *s, struct buf *st)
{
	spill_flush(s);
	if (s->log)
		out_sync(s->log);
	const uint64_t head[4] = { s->shape.bins, s->room, spill_bytes(s), s->chunks };

	buf_add(st, head, sizeof(head));
	buf_add(st, s->chunk, s->chunks * sizeof(*s->chunk));
}

/* The chunks of a state; false when they do not add up to the log. */
static bool take_chunks(struct spill *s, uint64_t log_bytes, struct cursor *st)
{
	uint64_t sum = 0;

	s->chunk = xcalloc(s->cap, sizeof(*s->chunk));
	cursor_get(st, s->chunk, s->chunks * sizeof(*s->chunk));
	for (size_t i = 0; i < s->chunks; i++) {
		if (s->chunk[i].bin >= s->shape.bins || s->chunk[i].records > s->room)
			return false;
		s->count[s->chunk[i].bin] += s->chunk[i].records;
		sum += s->chunk[i].records * s->shape.record;
	}
	return sum == log_bytes;
}

struct spill *spill_restore(const char *output, const char *dir, struct spill_shape shape,
			    struct cursor *st)
{
	struct spill *s = spill_new(output, dir, shape);
	uint64_t head[4];

	cursor_get(st, head, sizeof(head));
	s->chunks = s->cap = (size_t)head[3];
	if (s->chunks > st->left / sizeof(*s->chunk) || head[0] != shape.bins || head[1] != s->room ||
	    !take_chunks(s, head[2], st) || (s->log = out_resume(s->path, head[2])) == NULL) {
		spill_close(s);
		return NULL;
	}
	return s;
}

void spill_close(struct spill *s)
{
	if (s->log)
		out_abandon(s->log);
	else
		drop_name(s->path);
	free(s->path);
	free(s->buffered);
	free(s->count);
	free(s->chunk);
	free(s);
}
