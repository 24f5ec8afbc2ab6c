/* The pipe half of shard_input.h. */
#include "shard_input.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct shard_pipe *shard_pipe_open(int fd, const char *path)
{
	struct shard_pipe *p = xcalloc(1, sizeof(*p));

	p->fd = fd;
	p->name = strcmp(path, "-") ? xformat("'%s'", path) : xstrdup("<stdin>");
	if ((p->wake = eventfd(0, EFD_CLOEXEC)) < 0)
		die_errno("cannot make an event");
	return p;
}

void shard_pipe_wake(struct shard_pipe *p)
{
	const uint64_t one = 1;

	(void)!write(p->wake, &one, sizeof(one));
}

void shard_pipe_close(struct shard_pipe *p)
{
	for (size_t i = 0; i < p->shards; i++)
		shard_info_free(&p->done[i]);
	free(p->done);
	meta_free(&p->first.meta);
	meta_free(&p->head.meta);
	meta_free(&p->stats);
	table_free(&p->table);
	buf_free(&p->packed);
	close(p->wake);
	if (p->fd != STDIN_FILENO)
		close(p->fd);
	free(p->name);
	free(p);
}

static bool truncated(const struct shard_pipe *p, struct fault *f)
{
	if (p->inside)
		return fault(f, "truncated after %llu rows of shard %llu/%llu, no end marker",
			     (unsigned long long)p->table.rows, (unsigned long long)p->head.k,
			     (unsigned long long)p->head.n);
	return fault(f, p->at ? "truncated in its first bytes, or no shard" : "empty");
}

/* = read_full, but ends when woken. */
static size_t read_or_wake(struct shard_pipe *p, char *to, size_t bytes)
{
	struct pollfd wait[2] = { { p->fd, POLLIN, 0 }, { p->wake, POLLIN, 0 } };
	size_t done = 0;

	while (done < bytes) {
		if (poll(wait, 2, -1) < 0 && errno != EINTR)
			die_errno("cannot read %s", p->name);
		if (wait[1].revents)
			break;
		const ssize_t n = read(p->fd, to + done, bytes - done);

		if (n == 0)
			break;
		if (n > 0)
			done += (size_t)n;
		else if (errno != EINTR && errno != EAGAIN)
			die_errno("cannot read %s", p->name);
	}
	p->at += done;
	return done;
}

/* Appends so many bytes to p->packed; memory follows what really comes. */
static bool get(struct shard_pipe *p, size_t bytes, struct fault *f)
{
	enum { STEP = 1 << 18 };
	struct buf *b = &p->packed;

	while (bytes > 0) {
		const size_t want = bytes < STEP ? bytes : STEP;

		if (b->cap - b->n < want) {
			b->cap = b->n + want > 2 * b->cap ? b->n + want : 2 * b->cap;
			b->p = xrealloc(b->p, b->cap, 1);
		}
		const size_t n = read_or_wake(p, b->p + b->n, want);

		b->n += n;
		bytes -= n;
		if (n < want)
			return truncated(p, f);
	}
	return true;
}

/* The rest of a skippable frame whose magic was read: size, content. */
static bool get_skippable(struct shard_pipe *p, size_t most, struct fault *f)
{
	if (!get(p, 4, f))
		return false;
	const size_t bytes = get_u32(p->packed.p + 4);

	return bytes <= most ? get(p, bytes, f) : fault(f, "a skippable frame of %zu bytes is foreign", bytes);
}

static bool get_meta(struct shard_pipe *p, struct meta *m, struct fault *f)
{
	return get_skippable(p, SHARD_META_MAX, f) &&
		meta_parse(m, p->packed.p + SHARD_SKIP_HEAD, p->packed.n - SHARD_SKIP_HEAD, f);
}

static bool add_meta(struct shard_pipe *p, struct fault *f)
{
	return table_add(&p->table, &p->head, (struct entry){ (uint32_t)p->packed.n, 0, SHARD_EMPTY_SUM }, f);
}

/* ---- the parts of a shard, their magic being in p->packed ---- */

static bool shard_begins(struct shard_pipe *p, struct fault *f)
{
	struct head h = { .n = 0 };

	p->start = p->at - 4;
	table_free(&p->table);
	meta_free(&p->stats);
	if (!get_meta(p, &h.meta, f) || !head_parse(&h, f) ||
	    (p->shards && !shard_fits(&p->first, &h, p->first.k + p->shards, f))) {
		meta_free(&h.meta);
		return false;
	}
	meta_free(&p->head.meta);
	p->head = h;
	if (!p->shards) {
		p->first = h;
		p->first.meta = (struct meta){ { 0 } };
		buf_add(&p->first.meta.text, h.meta.text.p, h.meta.text.n);
	}
	p->inside = true;
	return add_meta(p, f);
}

/* Blocks up to the last, then the checksum. */
static bool get_blocks(struct shard_pipe *p, size_t most, struct fault *f)
{
	bool last;

	do {
		if (!get(p, 3, f))
			return false;
		const unsigned char *b = (const unsigned char *)p->packed.p + p->packed.n - 3;
		const uint32_t head = b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16;
		const unsigned type = head >> 1 & 3;
		const size_t bytes = type == 1 ? 1 : head >> 3;

		last = head & 1;
		if (type == 3 || p->packed.n + bytes > most)
			return fault(f, "frame %zu is damaged in its blocks", p->table.n);
		if (!get(p, bytes, f))
			return false;
	} while (!last);
	return get(p, 4, f);
}

static bool get_frame(struct shard_pipe *p, struct fault *f)
{
	struct fault why;

	if (!get(p, 1, f))
		return false;
	const size_t head = frame_head_bytes((const unsigned char *)p->packed.p, &why);

	if (!head)
		return fault(f, "frame %zu: %s", p->table.n, why.text);
	if (!get(p, head - p->packed.n, f))
		return false;
	const unsigned long long bytes = ZSTD_getFrameContentSize(p->packed.p, p->packed.n);

	if (bytes == 0 || bytes > p->head.frame_bytes)
		return fault(f, "frame %zu is damaged: its size cannot be", p->table.n);
	if (!get_blocks(p, frame_bound(bytes), f))
		return false;
	const struct entry e = { (uint32_t)p->packed.n, (uint32_t)bytes,
		get_u32(p->packed.p + p->packed.n - 4) };

	return table_add(&p->table, &p->head, e, f);
}

/* The table must list what came. */
static bool shard_ends(struct shard_pipe *p, struct fault *f)
{
	struct buf want = { 0 };

	table_frame(&want, &p->table);
	bool ok = get_skippable(p, want.n - SHARD_SKIP_HEAD, f);

	if (ok && (p->packed.n != want.n || memcmp(p->packed.p, want.p, want.n)))
		ok = fault(f, "shard %llu/%llu and its seek table disagree", (unsigned long long)p->head.k,
			   (unsigned long long)p->head.n);
	buf_free(&want);
	if (!ok || (p->table.closed && !stats_check(&p->stats, &p->table, &p->head, f)))
		return false;
	p->done = xrealloc(p->done, p->shards + 1, sizeof(*p->done));
	shard_info_fill(&p->done[p->shards++], &p->head, &p->table, &p->stats, p->at - p->start);
	p->inside = false;
	return true;
}

/* ---- what comes next ---- */

static enum pipe_event between_shards(struct shard_pipe *p, struct fault *f)
{
	/* a shard from within a set may come alone; a first one promises the others */
	const bool all = p->shards && (p->first.k > 0 || p->head.k + 1 == p->head.n);
	const uint64_t at = p->at;
	const bool more = get(p, 4, f);

	if (all && p->at == at)
		return PIPE_END;
	if (all)
		fault(f, "something follows shard %llu/%llu", (unsigned long long)p->head.k,
		      (unsigned long long)p->head.n);
	else if (p->shards && (!more || get_u32(p->packed.p) != SHARD_META_MAGIC))
		fault(f, "no shard follows shard %llu/%llu", (unsigned long long)p->head.k,
		      (unsigned long long)p->head.n);
	else if (more && get_u32(p->packed.p) != SHARD_META_MAGIC)
		fault(f, "no shard");
	else if (more && shard_begins(p, f))
		return PIPE_BEGIN;
	return PIPE_FAULT;
}

static enum pipe_event inside_shard(struct shard_pipe *p, struct fault *f)
{
	const uint64_t at = p->at;

	if (!get(p, 4, f))
		return PIPE_FAULT;
	switch (get_u32(p->packed.p)) {
	case ZSTD_MAGICNUMBER:
		return get_frame(p, f) ? PIPE_FRAME : PIPE_FAULT;
	case SHARD_TABLE_MAGIC:
		return shard_ends(p, f) ? PIPE_SHARD : PIPE_FAULT;
	case SHARD_META_MAGIC:
		if (!get_meta(p, &p->stats, f) || !add_meta(p, f))
			return PIPE_FAULT;
		buf_clear(&p->packed);
		return inside_shard(p, f);
	default:
		fault(f, "something foreign at byte %llu of the stream", (unsigned long long)at);
		return PIPE_FAULT;
	}
}

enum pipe_event shard_pipe_next(struct shard_pipe *p, struct fault *f)
{
	buf_clear(&p->packed);
	return p->inside ? inside_shard(p, f) : between_shards(p, f);
}
