/* saetrain_input: the rows of a training, from shards or made of tokens where they are used */
#include <stdlib.h>
#include <string.h>

#include "feed.h"
#include "saetrain.h"
#include "stream.h"

struct made {
	struct acts *acts;
	const struct backend *be;
	struct tree *tree;
	struct stream *stream;
	uint64_t rows, next;    /* rows of a pass; step that the next batch is for */
	real *x;                /* (batch,D) backend memory */
	float *host;            /* (batch,D) on its way to what is kept */
	char *kept;             /* (keep,D) as stored */
	uint64_t have;          /* of them */
};

/* ---- shards ---- */

struct input *input_shards(char *const *paths, const struct input_spec *spec)
{
	struct input *in = xcalloc(1, sizeof(*in));

	in->spec = *spec;
	in->name = paths[0] && strcmp(paths[0], "-") ? paths[0] : "<stdin>";
	in->feed = feed_open(paths, spec->batch, spec->steps, spec->keep);
	const struct shards *s = feed_shards(in->feed);

	in->dtype = shards_dtype(s);
	in->D = shards_cols(s);
	in->gpt = meta_get(shards_meta(s), "gpt");
	in->tokens = meta_get(shards_meta(s), "tokens");
	in->lasting = shards_seekable(s);
	in->steps = feed_steps(in->feed);
	feed_id(in->feed, in->id);
	return in;
}

/* ---- made of tokens ---- */

/* The window and the rows kept, or one line that says what would fit. */
static void check_memory(const struct input *in, uint64_t memory)
{
	const struct acts *a = in->made->acts;
	uint64_t first;
	const uint64_t window = stream_bytes(a), contexts = rows_block(&a->rows, 0, &first);
	const uint64_t kept = xmul(in->spec.keep, in->D * dtype_size(in->dtype)), each = window / contexts + 1;

	if (window + kept <= memory)
		return;
	if (memory < kept + each)
		die("-m %lluM is too small for %llu rows kept and a window of one context; need at least %lluM",
		    (unsigned long long)(memory >> 20), (unsigned long long)in->spec.keep,
		    (unsigned long long)((kept + each) >> 20) + 1);
	die("-m %lluM is too small for a window of %llu contexts; need at least %lluM, or --window %llu",
	    (unsigned long long)(memory >> 20), (unsigned long long)contexts,
	    (unsigned long long)((window + kept) >> 20) + 1, (unsigned long long)((memory - kept) / each));
}

struct input *input_tokens(struct acts *a, const struct input_spec *spec, const struct opt_common *c)
{
	struct input *in = xcalloc(1, sizeof(*in));
	const uint64_t rows = a->rows.contexts * a->rows.samples;

	*in = (struct input){ .spec = *spec, .name = a->tok.name, .dtype = a->dtype, .D = a->D,
		.gpt = xstrdup(a->gpt_id), .tokens = xstrdup(a->tok.id), .lasting = true };
	if (rows < spec->batch)
		die("%llu contexts of %llu samples are %llu rows; a batch takes %zu", (unsigned long long)a->rows.contexts,
		    (unsigned long long)a->rows.samples, (unsigned long long)rows, spec->batch);
	in->made = xcalloc(1, sizeof(*in->made));
	*in->made = (struct made){ .acts = a, .rows = rows };
	in->steps = spec->steps ? spec->steps : rows / spec->batch;
	check_memory(in, c->memory);
	acts_id(a, c->device, c->precision, in->id);
	return in;
}

static void read_made(struct input *in, size_t n)
{
	struct made *m = in->made;
	const size_t bytes = in->D * dtype_size(in->dtype);
	const uint64_t room = in->spec.keep - m->have, keep = room < n ? room : n;

	stream_read(m->stream, m->x, n);
	if (!keep)
		return;
	m->be->get(m->host, m->x, keep * in->D * sizeof(*m->host));
	dtype_from_f32(in->dtype, m->kept + m->have * bytes, m->host, keep * in->D);
	m->have += keep;
}

static uint64_t passed(const struct input *in, uint64_t steps)
{
	const uint64_t pass = in->made->rows / in->spec.batch;

	return (steps < pass ? steps : pass) * in->spec.batch;
}

static void start_made(struct input *in, const struct backend *be, uint64_t done)
{
	struct made *m = in->made;
	const size_t values = xmul(in->spec.batch, in->D);

	acts_start(m->acts, be);
	m->be = be;
	m->stream = stream_new(m->acts, m->tree);
	m->x = be->alloc(xmul(values, sizeof(*m->x)));
	if (in->spec.keep) {
		m->host = xcalloc(values, sizeof(*m->host));
		m->kept = xcalloc(xmul(in->spec.keep, in->D), dtype_size(in->dtype));
	}
	m->next = done;
	while (m->have < in->spec.keep && m->have < passed(in, done))  /* what an earlier run kept */
		read_made(in, in->spec.batch);
	stream_seek(m->stream, done % (m->rows / in->spec.batch) * in->spec.batch);
}

static const float *next_made(struct input *in)
{
	struct made *m = in->made;

	if (m->next >= in->steps)
		return NULL;
	if (m->next % (m->rows / in->spec.batch) == 0)
		stream_seek(m->stream, 0);
	read_made(in, in->spec.batch);
	m->next++;
	return m->x;
}

static void close_made(struct made *m)
{
	if (m->stream) {
		stream_free(m->stream);
		m->be->release(m->x);
	}
	free(m->host);
	free(m->kept);
	acts_close(m->acts);
	free(m);
}

/* ---- either ---- */

void input_share(struct input *in, struct tree *t)
{
	const size_t rows = in->spec.batch / tree_leaves(t);

	if (in->feed)
		feed_share(in->feed, tree_first(t) * rows, tree_own(t) * rows);
	else
		in->made->tree = t;
}

void input_start(struct input *in, const struct backend *be, uint64_t done)
{
	if (in->made)
		start_made(in, be, done);
	else
		feed_start(in->feed, done);
}

const float *input_next(struct input *in)
{
	return in->made ? next_made(in) : feed_next(in->feed);
}

uint64_t input_kept_rows(const struct input *in)
{
	if (!in->made)
		return feed_kept_rows(in->feed);
	const uint64_t rows = passed(in, in->made->next);

	return rows < in->spec.keep ? rows : in->spec.keep;
}

void input_kept(const struct input *in, uint64_t row, size_t n, float *x)
{
	if (in->made)
		dtype_to_f32(in->dtype, x, in->made->kept + row * in->D * dtype_size(in->dtype), n * in->D);
	else
		feed_kept(in->feed, row, n, x);
}

void input_close(struct input *in)
{
	if (in->made)
		close_made(in->made);
	else
		feed_close(in->feed);
	free(in->gpt);
	free(in->tokens);
	free(in);
}
