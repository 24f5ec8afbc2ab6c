#include "feed.h"

#include <stdlib.h>
#include <string.h>

#include "pool.h"

struct feed {
	struct shards *in;
	enum dtype dtype;
	size_t batch, cols;
	size_t from, n;                 /* rows of a batch that are wanted */
	uint64_t steps, per_pass;       /* per_pass 0: a pipe */
	uint64_t next;                  /* step that the read under way, or the next one, is for */
	uint64_t position;              /* row of the input that is read next */
	struct task task;               /* fills x[next % 2] */
	bool reading, ended;
	char *stored;                   /* (batch, cols) in dtype */
	float *x[2];                    /* (batch, cols) */
	char *kept;                     /* (keep, cols) in dtype */
	uint64_t keep, have;            /* rows wanted, rows copied so far */
};

struct feed *feed_open(char *const *paths, size_t batch, uint64_t steps, uint64_t keep)
{
	struct feed *f = xcalloc(1, sizeof(*f));

	f->in = shards_open(paths);
	f->dtype = shards_dtype(f->in);
	f->cols = shards_cols(f->in);
	f->batch = f->n = batch;
	f->steps = steps;
	f->keep = keep;
	if (f->dtype == DT_U16 || f->dtype == DT_U32)
		die("the input holds %s; activations are f16, bf16 or f32", dtype_name(f->dtype));
	if (shards_seekable(f->in)) {
		f->per_pass = shards_rows(f->in) / batch;
		if (f->per_pass == 0)
			die("the input has %llu rows; a batch takes %zu",
			    (unsigned long long)shards_rows(f->in), batch);
		if (steps == 0)
			f->steps = f->per_pass;
	}
	f->stored = xcalloc(xmul(batch, f->cols), dtype_size(f->dtype));
	for (size_t i = 0; i < 2; i++)
		f->x[i] = xcalloc(xmul(batch, f->cols), sizeof(float));
	f->kept = keep ? xcalloc(xmul(keep, f->cols), dtype_size(f->dtype)) : NULL;
	return f;
}

struct shards *feed_shards(struct feed *f)
{
	return f->in;
}

uint64_t feed_steps(const struct feed *f)
{
	return f->steps;
}

void feed_id(struct feed *f, char hex[33])
{
	if (f->per_pass) {
		shards_id(f->in, hex);
		return;
	}
	struct recipe *r = recipe_new("pipe", 1);

	recipe_add(r, "meta", "%s", shards_meta(f->in)->text.p);
	recipe_hash(r, hex);
	recipe_free(r);
}

/* Up to n rows into f->stored, from there into what is kept; less only at the verified end. */
static size_t read_rows(struct feed *f, size_t n)
{
	const size_t bytes = f->cols * dtype_size(f->dtype);
	size_t have = 0, got;

	while (have < n && (got = shards_read(f->in, f->stored + have * bytes, n - have)) > 0)
		have += got;
	if (f->position == f->have && f->have < f->keep) { /* a first pass */
		const uint64_t room = f->keep - f->have, n_kept = room < have ? room : have;

		memcpy(f->kept + f->have * bytes, f->stored, n_kept * bytes);
		f->have += n_kept;
	}
	f->position += have;
	return have;
}

void feed_share(struct feed *f, size_t from, size_t n)
{
	f->from = from;
	f->n = n;
	if (f->per_pass)
		shards_want(f->in, f->batch, from, n, f->keep);
}

static void fill(void *arg)
{
	struct feed *f = arg;

	if (f->per_pass && f->next % f->per_pass == 0) {
		shards_seek(f->in, 0);
		f->position = 0;
	}
	const size_t from = f->from * f->cols;

	if (read_rows(f, f->batch) == f->batch)
		dtype_to_f32(f->dtype, f->x[f->next % 2] + from, f->stored + from * dtype_size(f->dtype),
			     f->n * f->cols);
	else
		f->ended = true;
}

static void read_ahead(struct feed *f)
{
	f->reading = !f->ended && (f->steps == 0 || f->next < f->steps);
	if (!f->reading)
		return;
	f->task.fn = fill;
	f->task.arg = f;
	task_post(&f->task);
}

/* Rows [0, end) of the input pass by. */
static void pass_over(struct feed *f, uint64_t end)
{
	while (f->position < end) {
		const uint64_t left = end - f->position;

		if (read_rows(f, left < f->batch ? left : f->batch) == 0)
			die("the input ends after %llu rows; %llu were read before",
			    (unsigned long long)f->position, (unsigned long long)end);
	}
}

void feed_start(struct feed *f, uint64_t done)
{
	f->next = done;
	if (f->per_pass == 0) {
		pass_over(f, done * f->batch);
	} else {
		const uint64_t row = done % f->per_pass * f->batch;
		const uint64_t before = done < f->per_pass ? row : f->per_pass * f->batch;

		pass_over(f, before < f->keep ? before : f->keep);
		shards_seek(f->in, row);
		f->position = row;
	}
	read_ahead(f);
}

const float *feed_next(struct feed *f)
{
	if (f->reading)
		task_wait(&f->task);
	f->reading = false;
	if (f->ended && f->steps)
		die("the input ends after %llu batches of %zu rows; --steps asks for %llu",
		    (unsigned long long)f->next, f->batch, (unsigned long long)f->steps);
	if (f->ended || (f->steps && f->next >= f->steps))
		return NULL;
	const float *x = f->x[f->next % 2];

	f->next++;
	read_ahead(f);
	return x;
}

uint64_t feed_kept_rows(const struct feed *f)
{
	const uint64_t steps = f->per_pass && f->next > f->per_pass ? f->per_pass : f->next;
	const uint64_t rows = steps * f->batch;

	return rows < f->keep ? rows : f->keep;
}

void feed_kept(const struct feed *f, uint64_t row, size_t n, float *x)
{
	dtype_to_f32(f->dtype, x, f->kept + row * f->cols * dtype_size(f->dtype), n * f->cols);
}

void feed_close(struct feed *f)
{
	if (f->reading)
		task_wait(&f->task);
	shards_close(f->in);
	free(f->stored);
	free(f->x[0]);
	free(f->x[1]);
	free(f->kept);
	free(f);
}
