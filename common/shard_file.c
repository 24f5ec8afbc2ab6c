/* The file half of shard_input.h. */
#include "shard_input.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pool.h"
#include "prog.h"

/* Exactly these bytes of the file. */
static bool get(const struct shard_file *s, void *p, size_t bytes, uint64_t at, struct fault *f)
{
	return pread_full(s->fd, p, bytes, at, s->name) == bytes || fault(f, "it shrank while being read");
}

/* The META that fills [at, at + bytes). */
static bool get_meta(const struct shard_file *s, struct meta *m, uint64_t at, size_t bytes, struct fault *f)
{
	char *p = xmalloc(bytes);
	const bool ok = get(s, p, bytes, at, f) &&
		((get_u32(p) == SHARD_META_MAGIC && get_u32(p + 4) == bytes - SHARD_SKIP_HEAD) ||
		 fault(f, "no META where its seek table says")) &&
		meta_parse(m, p + SHARD_SKIP_HEAD, bytes - SHARD_SKIP_HEAD, f);

	free(p);
	return ok;
}

static bool get_head(struct shard_file *s, size_t *bytes, struct fault *f)
{
	char p[SHARD_SKIP_HEAD];

	if (s->bytes < sizeof(p))
		return fault(f, s->bytes ? "truncated in its first bytes, or no shard" : "empty");
	if (!get(s, p, sizeof(p), 0, f))
		return false;
	if (get_u32(p) != SHARD_META_MAGIC || get_u32(p + 4) > SHARD_META_MAX)
		return fault(f, "no shard");
	*bytes = SHARD_SKIP_HEAD + get_u32(p + 4);
	if (*bytes > s->bytes)
		return fault(f, "truncated in its META");
	return get_meta(s, &s->head.meta, 0, *bytes, f) && head_parse(&s->head, f);
}

static bool get_table(struct shard_file *s, uint64_t *bytes, struct fault *f)
{
	char tail[SHARD_TABLE_TAIL];
	size_t n;

	if (s->bytes >= sizeof(tail) && !get(s, tail, sizeof(tail), s->bytes - sizeof(tail), f))
		return false;
	if (s->bytes < sizeof(tail) || !table_tail_parse(tail, &n))
		return fault(f, "truncated after %llu bytes, no end marker", (unsigned long long)s->bytes);
	*bytes = SHARD_SKIP_HEAD + n * sizeof(struct entry) + sizeof(tail);
	if (*bytes > s->bytes)
		return fault(f, "its seek table is damaged");
	char *p = xmalloc(*bytes);
	const bool ok = get(s, p, *bytes, s->bytes - *bytes, f) &&
		((get_u32(p) == SHARD_TABLE_MAGIC && get_u32(p + 4) == *bytes - SHARD_SKIP_HEAD) ||
		 fault(f, "its seek table is damaged")) &&
		table_parse(&s->table, &s->head, p + SHARD_SKIP_HEAD, n, f);

	free(p);
	return ok;
}

static bool check(struct shard_file *s, size_t meta_bytes, uint64_t table_bytes, struct fault *f)
{
	const struct table *t = &s->table;
	uint64_t at = 0;

	s->offset = xcalloc(t->n, sizeof(*s->offset));
	for (size_t i = 0; i < t->n; i++) {
		s->offset[i] = at;
		at += t->entry[i].packed;
	}
	if (t->entry[0].packed != meta_bytes || at != s->bytes - table_bytes)
		return fault(f, "its frames and its seek table do not add up");
	table_id(t, &s->head, s->id);
	return !t->closed || (get_meta(s, &s->stats, s->offset[t->n - 1], t->entry[t->n - 1].packed, f) &&
			      stats_check(&s->stats, t, &s->head, f));
}

bool shard_file_open(struct shard_file *s, const char *path, struct fault *f)
{
	struct stat st;
	size_t meta_bytes = 0;
	uint64_t table_bytes = 0;

	*s = (struct shard_file){ .name = xformat("'%s'", path) };
	s->fd = open(path, O_RDONLY | O_CLOEXEC);
	bool ok = s->fd >= 0 && fstat(s->fd, &st) == 0;

	if (!ok) {
		fault(f, "%s", strerror(errno));
	} else if (!S_ISREG(st.st_mode)) {
		ok = fault(f, "not a file");
	} else {
		s->bytes = (uint64_t)st.st_size;
		ok = get_head(s, &meta_bytes, f) && get_table(s, &table_bytes, f) &&
			check(s, meta_bytes, table_bytes, f);
	}
	if (!ok)
		shard_file_close(s);
	return ok;
}

bool shard_file_frame(const struct shard_file *s, size_t i, char *rows, struct fault *f)
{
	const struct entry *e = &s->table.entry[i + 1];
	const uint64_t at = s->offset[i + 1];
	char *packed = xmalloc(e->packed);
	struct fault why;
	const bool ok = get(s, packed, e->packed, at, &why) && frame_unpack(e, packed, rows, &why);

	free(packed);
	return ok || fault(f, "damaged frame %zu at byte %llu: %s", i + 1, (unsigned long long)at, why.text);
}

void shard_file_close(struct shard_file *s)
{
	if (s->fd >= 0)
		close(s->fd);
	free(s->name);
	free(s->offset);
	meta_free(&s->head.meta);
	meta_free(&s->stats);
	table_free(&s->table);
	*s = (struct shard_file){ .fd = -1 };
}

void shard_file_info(const struct shard_file *s, struct shard_info *info)
{
	shard_info_fill(info, &s->head, &s->table, &s->stats, s->bytes);
}

/* ---- all of a file ---- */

struct checking {
	const struct shard_file *s;
	pthread_mutex_t lock;
	size_t bad;             /* the first bad frame; table.frames when there is none */
	struct fault *f;        /* of that one */
};

static void check_frame(void *arg, size_t i)
{
	struct checking *c = arg;
	char *rows = xmalloc(c->s->table.entry[i + 1].bytes);
	struct fault f;
	const bool ok = shard_file_frame(c->s, i, rows, &f);

	free(rows);
	prog_step(c->s->table.entry[i + 1].packed);
	if (ok)
		return;
	pthread_mutex_lock(&c->lock);
	if (i < c->bad) {
		c->bad = i;
		*c->f = f;
	}
	pthread_mutex_unlock(&c->lock);
}

bool shard_file_check(const struct shard_file *s, struct fault *f)
{
	struct checking c = { s, PTHREAD_MUTEX_INITIALIZER, s->table.frames, f };

	pool_for(s->table.frames, check_frame, &c);
	return c.bad == s->table.frames;
}

/* ---- for the rest of the program ---- */

bool shard_check(const char *path, bool data, struct shard_info *info, char why[256])
{
	struct shard_file s;
	struct fault f;
	bool ok = shard_file_open(&s, path, &f);

	if (ok) {
		ok = !data || shard_file_check(&s, &f);
		if (ok)
			shard_file_info(&s, info);
		shard_file_close(&s);
	}
	if (!ok)
		snprintf(why, 256, "%s", f.text);
	return ok;
}

void shard_info(const char *path, struct shard_info *info)
{
	char why[256];

	if (!shard_check(path, false, info, why))
		die("cannot read '%s': %s", path, why);
}

void shard_file_id(const char *path, char hex[33])
{
	struct shard_info info;

	shard_info(path, &info);
	memcpy(hex, info.id, sizeof(info.id));
	shard_info_free(&info);
}
