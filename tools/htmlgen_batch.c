/* Features of topk's directory, some of each field at a time. */
#include "htmlgen.h"

#include <stdlib.h>

_Static_assert(SITE_BATCH % SITE_GROUP == 0 && SITE_BATCH % NEURONPEDIA_BATCH == 0, "files must tile batches");

/* Exactly `rows` rows of a field and, when they are its last, its end mark. */
static void read_rows(const struct top *t, struct shards *in, const struct top_field *f, void *p, size_t rows, bool last)
{
	const size_t bytes = f->cols * dtype_size(f->dtype);
	char *more = xmalloc(bytes);
	size_t got = 0, n;

	while (got < rows && (n = shards_read(in, (char *)p + got * bytes, rows - got)) > 0)
		got += n;
	if (got < rows || (last && shards_read(in, more, 1) > 0))
		die("'%s': field '%s' has not the %zu rows that it says", t->dir, f->name, f->rows);
	free(more);
}

static struct shards *open_field(const struct top *t, const struct top_field *f)
{
	char *path = top_path(t->dir, f);
	struct shards *in = shards_open((char *[]){ path, NULL });

	free(path);
	return in;
}

void *top_load(const struct top *t, enum top_name which)
{
	const struct top_field f = top_field(&t->s, which);
	void *p = xcalloc(f.rows, xmul(f.cols, dtype_size(f.dtype)));
	struct shards *in = open_field(t, &f);

	read_rows(t, in, &f, p, f.rows, true);
	shards_close(in);
	return p;
}

void batch_open(struct batch *b)
{
	for (int i = 0; i < TOP_N_FIELDS; i++) {
		const struct top_field f = top_field(&b->t->s, (enum top_name)i);

		b->in[i] = open_field(b->t, &f);
		b->data[i] = xcalloc(xmul(f.rows / b->t->s.F, SITE_BATCH), xmul(f.cols, dtype_size(f.dtype)));
	}
}

void batch_read(struct batch *b)
{
	const size_t left = b->t->s.F - b->first;

	b->n = left < SITE_BATCH ? left : SITE_BATCH;
	for (int i = 0; i < TOP_N_FIELDS; i++) {
		const struct top_field f = top_field(&b->t->s, (enum top_name)i);

		read_rows(b->t, b->in[i], &f, b->data[i], f.rows / b->t->s.F * b->n, b->n == left);
	}
}

void batch_close(struct batch *b)
{
	for (int i = 0; i < TOP_N_FIELDS; i++) {
		shards_close(b->in[i]);
		free(b->data[i]);
	}
}
