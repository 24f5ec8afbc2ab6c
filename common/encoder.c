#include "encoder.h"

#include <stdlib.h>
#include <string.h>

#include "bpe.h"
#include "pool.h"
#include "prog.h"
#include "rng.h"

enum { BATCH_BYTES = 1 << 20, BATCH_DOCS = 4096 };

struct item {                   /* a document before it is encoded */
	size_t at, bytes;       /* in the batch's text */
	bool tokens;            /* the "text" is ids already */
};

struct batch {
	struct task task;
	const struct encoder *e;
	struct buf text;
	struct item *item;
	struct encoded *doc;
	size_t n;
	struct ids ids;
	struct place behind;
};

struct encoder {
	char *const *paths;
	struct source_opts o;
	uint64_t seed;
	bool leading;
	struct source *source;          /* of paths[at.input] */
	struct place at;                /* read up to here */
	uint64_t seen;                  /* bytes of the source, for progress */
	struct bpe_scratch **scratch;   /* one a thread */
	struct batch *ring;
	size_t slots, posted, taken;    /* counts of batches, modulo slots */
	struct encoded_batch out;
};

struct encoder *encoder_open(char *const *paths, const struct source_opts *o, uint64_t seed, bool leading)
{
	struct encoder *e = xcalloc(1, sizeof(*e));

	e->paths = paths;
	e->o = *o;
	e->seed = seed;
	e->leading = leading;
	e->scratch = xcalloc(pool_threads(), sizeof(struct bpe_scratch *));
	for (size_t i = 0; i < pool_threads(); i++)
		e->scratch[i] = bpe_scratch(bpe_gpt2());
	e->slots = 2 * pool_threads() + 1;
	e->ring = xcalloc(e->slots, sizeof(*e->ring));
	for (size_t i = 0; i < e->slots; i++) {
		e->ring[i].e = e;
		e->ring[i].item = xcalloc(BATCH_DOCS, sizeof(struct item));
		e->ring[i].doc = xcalloc(BATCH_DOCS, sizeof(struct encoded));
	}
	return e;
}

/* ---- encoding, on any thread ---- */

static void put(struct ids *ids, const void *v, size_t n)
{
	if (ids->n + n > ids->cap) {
		ids->cap = 2 * (ids->n + n) + 64;
		ids->v = xrealloc(ids->v, ids->cap, sizeof(*ids->v));
	}
	if (n)
		memcpy(ids->v + ids->n, v, n * sizeof(*ids->v));
	ids->n += n;
}

static void encode_batch(void *arg)
{
	static const uint16_t eot = BPE_EOT;
	struct batch *b = arg;
	const struct encoder *e = b->e;

	b->ids.n = 0;
	for (size_t i = 0; i < b->n; i++) {
		const struct item *d = &b->item[i];
		const char *text = b->text.p + d->at;

		if (e->leading)
			put(&b->ids, &eot, 1);
		const size_t from = b->ids.n;

		if (d->tokens)
			put(&b->ids, text, d->bytes / sizeof(uint16_t));
		else
			bpe_encode(e->scratch[pool_self()], text, d->bytes, &b->ids);
		const uint64_t hash = XXH3_64bits(b->ids.v + from, (b->ids.n - from) * sizeof(uint16_t));

		if (!e->leading)
			put(&b->ids, &eot, 1);
		b->doc[i] = (struct encoded){ rng_hash(e->seed, RNG_VAL, hash, 0), b->ids.n };
	}
}

/* ---- reading ---- */

static void batch_add(struct batch *b, const struct doc *d)
{
	const size_t bytes = d->text ? d->bytes : d->n_ids * sizeof(*d->ids);

	b->item[b->n++] = (struct item){ b->text.n, bytes, !d->text };
	buf_add(&b->text, d->text ? d->text : (const char *)d->ids, bytes);
}

static void report(struct encoder *e)
{
	const uint64_t seen = source_bytes(e->source);

	prog_step(seen > e->seen ? seen - e->seen : 0);
	e->seen = seen;
}

/* The next document of all inputs. */
static bool next_doc(struct encoder *e, struct doc *d)
{
	while (e->paths[e->at.input]) {
		if (!e->source) {
			e->source = source_open(e->paths[e->at.input], &e->o);
			e->seen = 0;
		}
		if (source_next(e->source, d)) {
			e->at.docs++;
			return true;
		}
		report(e);
		source_close(e->source);
		e->source = NULL;
		e->at = (struct place){ e->at.input + 1, 0 };
	}
	return false;
}

static bool read_batch(struct encoder *e, struct batch *b)
{
	struct doc d;

	b->n = 0;
	buf_clear(&b->text);
	while (b->n < BATCH_DOCS && b->text.n < BATCH_BYTES && next_doc(e, &d))
		batch_add(b, &d);
	b->behind = e->at;
	if (e->source)
		report(e);
	return b->n > 0;
}

void encoder_skip(struct encoder *e, struct place done)
{
	struct doc d;

	e->at = (struct place){ done.input, 0 };
	while (e->at.docs < done.docs)
		if (!next_doc(e, &d) || e->at.input != done.input)
			die("'%s' has fewer documents than before", e->paths[done.input]);
}

const struct encoded_batch *encoder_next(struct encoder *e)
{
	/* one slot stays free: the batch the caller still looks at */
	for (; e->posted - e->taken < e->slots - 1; e->posted++) {
		struct batch *b = &e->ring[e->posted % e->slots];

		if (!read_batch(e, b))
			break;
		b->task.fn = encode_batch;
		b->task.arg = b;
		task_post(&b->task);
	}
	if (e->taken == e->posted)
		return NULL;
	struct batch *b = &e->ring[e->taken++ % e->slots];

	task_wait(&b->task);
	e->out = (struct encoded_batch){ b->doc, b->n, b->ids.v, b->text.n, b->behind };
	return &e->out;
}

void encoder_close(struct encoder *e)
{
	if (e->source)
		source_close(e->source);
	for (size_t i = 0; i < e->slots; i++) {
		buf_free(&e->ring[i].text);
		free(e->ring[i].item);
		free(e->ring[i].doc);
		free(e->ring[i].ids.v);
	}
	for (size_t i = 0; i < pool_threads(); i++)
		bpe_scratch_free(e->scratch[i]);
	free(e->scratch);
	free(e->ring);
	free(e);
}
