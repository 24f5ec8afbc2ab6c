#include "sink.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LLMC_HEADER = 1024, LLMC_MAGIC = 20240520, ROWS_PER_FRAME = 32768 };
enum { LEVEL = -3 };    /* of zstd: packs 1.6 times as fast as 1, which takes a fifth less */

struct sink {
	enum sink_format format;
	struct shard_writer *w;         /* SINK_SHARD */
	struct out *f;                  /* the others */
	char *path;
	uint64_t tokens;
};

static struct sink *sink_new(const char *path, enum sink_format format)
{
	struct sink *s = xcalloc(1, sizeof(*s));

	s->format = format;
	s->path = xstrdup(path);
	return s;
}

static struct shard_spec shard_of(const struct meta *meta)
{
	return (struct shard_spec){ DT_U16, 1, ROWS_PER_FRAME, 0, 1, meta, LEVEL };
}

struct sink *sink_open(const char *path, enum sink_format format, const struct meta *meta, int flags)
{
	struct sink *s = sink_new(path, format);
	const struct shard_spec spec = shard_of(meta);
	static const char header[LLMC_HEADER];

	if (format == SINK_SHARD) {
		s->w = shard_create(path, &spec, flags);
		return s;
	}
	s->f = out_open(path, flags);
	if (format == SINK_LLMC) /* filled in at the end */
		out_write(s->f, header, sizeof(header));
	return s;
}

void sink_write(struct sink *s, const uint16_t *ids, size_t n)
{
	s->tokens += n;
	if (s->w)
		shard_write(s->w, ids, n);
	else
		out_write(s->f, ids, n * sizeof(*ids));
}

uint64_t sink_tokens(const struct sink *s)
{
	return s->tokens;
}

uint64_t sink_bytes(const struct sink *s)
{
	return s->w ? shard_bytes(s->w) : out_tell(s->f);
}

void sink_stat(struct sink *s, const char *key, uint64_t value)
{
	if (s->w)
		shard_stat(s->w, key, "%llu", (unsigned long long)value);
}

/* The header says how many tokens there are, which only the end knows. */
static void fill_header(struct sink *s)
{
	const int32_t h[3] = { LLMC_MAGIC, 1, (int32_t)s->tokens };

	if (s->tokens > INT32_MAX)
		die("cannot write '%s': llm.c's files hold at most %d tokens", s->path, INT32_MAX);
	if (pwrite(out_fd(s->f), h, sizeof(h), 0) != sizeof(h))
		die_errno("cannot write '%s'", s->path);
}

void sink_finish(struct sink *s)
{
	if (s->w) {
		shard_finish(s->w);
	} else {
		if (s->format == SINK_LLMC)
			fill_header(s);
		out_commit(s->f);
	}
	free(s->path);
	free(s);
}

void sink_save(struct sink *s, struct buf *state)
{
	buf_add(state, &s->tokens, sizeof(s->tokens));
	if (s->w) {
		shard_save(s->w, state);
		return;
	}
	out_sync(s->f);
	buf_add(state, &(uint64_t){ out_tell(s->f) }, sizeof(uint64_t));
}

struct sink *sink_restore(const char *path, enum sink_format format, const struct meta *meta, int flags,
			  struct cursor *state)
{
	struct sink *s = sink_new(path, format);
	const struct shard_spec spec = shard_of(meta);
	uint64_t bytes;

	cursor_get(state, &s->tokens, sizeof(s->tokens));
	if (format == SINK_SHARD) {
		s->w = shard_restore(path, &spec, flags, state);
	} else {
		cursor_get(state, &bytes, sizeof(bytes));
		s->f = out_resume(path, bytes);
	}
	if (s->w || s->f)
		return s;
	free(s->path);
	free(s);
	return NULL;
}
