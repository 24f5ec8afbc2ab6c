#include "heldout.h"

#include <stdlib.h>
#include <string.h>

struct entry {
	uint64_t key, number, at, n;    /* arrival; offset in the file, tokens */
};

struct heldout {
	char *path;             /* of the waiting file, without .part */
	struct out *f;
	struct entry *e;
	size_t n, cap;
	uint64_t tokens;
};

static struct heldout *heldout_new(const char *path)
{
	struct heldout *h = xcalloc(1, sizeof(*h));

	h->path = xformat("%s.docs", path);
	return h;
}

static void heldout_free(struct heldout *h)
{
	free(h->path);
	free(h->e);
	free(h);
}

struct heldout *heldout_open(const char *path, int flags)
{
	struct heldout *h = heldout_new(path);

	h->f = out_open(h->path, flags);
	return h;
}

static struct entry *one_more(struct heldout *h)
{
	if (h->n == h->cap) {
		h->cap = h->cap ? 2 * h->cap : 256;
		h->e = xrealloc(h->e, h->cap, sizeof(*h->e));
	}
	return &h->e[h->n++];
}

void heldout_add(struct heldout *h, uint64_t key, const uint16_t *ids, size_t n)
{
	*one_more(h) = (struct entry){ key, h->n, out_tell(h->f), n };
	out_write(h->f, ids, n * sizeof(*ids));
	h->tokens += n;
}

uint64_t heldout_count(const struct heldout *h)
{
	return h->n;
}

uint64_t heldout_tokens(const struct heldout *h)
{
	return h->tokens;
}

static int by_key(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	if (x->key != y->key)
		return x->key < y->key ? -1 : 1;
	return x->number < y->number ? -1 : x->number > y->number;
}

void heldout_drain(struct heldout *h, struct sink *to)
{
	const int fd = out_fd(h->f);
	struct buf b = { 0 };

	if (h->n > 0)
		qsort(h->e, h->n, sizeof(*h->e), by_key);
	for (size_t i = 0; i < h->n; i++) {
		const size_t bytes = h->e[i].n * sizeof(uint16_t);

		buf_clear(&b);
		if (b.cap <= bytes) {
			b.cap = 2 * bytes + 1;
			b.p = xrealloc(b.p, b.cap, 1);
		}
		if (pread_full(fd, b.p, bytes, h->e[i].at, h->path) != bytes)
			die("'%s.part' was cut short by someone", h->path);
		sink_write(to, (const uint16_t *)(const void *)b.p, h->e[i].n);
	}
	buf_free(&b);
}

void heldout_save(struct heldout *h, struct buf *state)
{
	out_sync(h->f);
	const uint64_t head[3] = { h->n, h->tokens, out_tell(h->f) };

	buf_add(state, head, sizeof(head));
	buf_add(state, h->e, h->n * sizeof(*h->e));
}

struct heldout *heldout_restore(const char *path, struct cursor *state)
{
	struct heldout *h = heldout_new(path);
	uint64_t head[3];

	cursor_get(state, head, sizeof(head));
	h->n = h->cap = head[0];
	h->tokens = head[1];
	h->e = xmalloc(xmul(h->cap, sizeof(*h->e)));
	cursor_get(state, h->e, h->n * sizeof(*h->e));
	if ((h->f = out_resume(h->path, head[2])) != NULL)
		return h;
	heldout_free(h);
	return NULL;
}

void heldout_close(struct heldout *h)
{
	out_abandon(h->f);
	heldout_free(h);
}
