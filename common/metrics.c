#include "metrics.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct metrics {
	char *path;
	struct buf lines;
	struct out *out;
};

struct metrics *metrics_new(const char *path, const char *output)
{
	static const char suffix[] = ".safetensors";
	struct metrics *m = xcalloc(1, sizeof(*m));
	const size_t n = strlen(output), k = strlen(suffix);
	const bool named = n > k && !strcmp(output + n - k, suffix);

	if (path)
		m->path = xstrdup(path);
	else if (strcmp(output, "-"))
		m->path = xformat("%.*s.jsonl", (int)(named ? n - k : n), output);
	return m;
}

const char *metrics_path(const struct metrics *m)
{
	return m->path;
}

void metrics_start(struct metrics *m)
{
	if (!m->path)
		return;
	m->out = out_open(m->path, OUT_TEXT);
	out_write(m->out, m->lines.p, m->lines.n);
}

void metrics_add(struct metrics *m, const char *line)
{
	const size_t before = m->lines.n;

	buf_printf(&m->lines, "%s\n", line);
	if (m->out)
		out_write(m->out, m->lines.p + before, m->lines.n - before);
}

void metrics_save(struct metrics *m, struct buf *st)
{
	const uint64_t bytes = m->lines.n;

	if (m->out)
		out_sync(m->out);
	buf_add(st, &bytes, sizeof(bytes));
	buf_add(st, m->lines.p, m->lines.n);
}

void metrics_load(struct metrics *m, struct cursor *st)
{
	uint64_t bytes;

	cursor_get(st, &bytes, sizeof(bytes));
	if (bytes > st->left)
		die("damaged state: its metrics are cut");
	buf_clear(&m->lines);
	buf_add(&m->lines, st->p, bytes);
	st->p += bytes;
	st->left -= bytes;
}

void metrics_commit(struct metrics *m)
{
	if (m->out)
		out_commit(m->out);
	m->out = NULL;
}

void metrics_free(struct metrics *m)
{
	if (m->out)
		out_abandon(m->out);
	buf_free(&m->lines);
	free(m->path);
	free(m);
}

void metrics_number(struct buf *b, const char *key, double v)
{
	if (isfinite(v))
		buf_printf(b, "\"%s\": %.9g", key, v);
	else
		buf_printf(b, "\"%s\": null", key);
}
