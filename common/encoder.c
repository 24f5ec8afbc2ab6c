#include "encoder.h"

#include <stdlib.h>
#include <string.h>

#include "bpe.h"
#include "jsonl.h"
#include "pool.h"
#include "prog.h"
#include "rng.h"

enum { BATCH_BYTES = 1 << 18, BATCH_DOCS = 4096 };     /* a batch and what it becomes stay in the cache */

struct item {                   /* a document before it is encoded */
	size_t at, bytes;       /* in the batch's text */
	bool tokens;            /* the "text" is ids already */
	uint64_t line;          /* > 0: it is this line of JSON Lines … */
	const char *field;      /* … and the document is under this key … */
	size_t where;           /* … of the file named here in the batch's names */
};

/* What a thread needs. */
struct desk {
	struct bpe_scratch *bpe;
	struct buf text;        /* of a JSON line */
};

struct batch {
	struct task task;
	const struct encoder *e;
	struct buf text;
	struct item *item;
	struct encoded *doc;
	size_t n;
	struct ids ids;
	uint64_t text_bytes;
	struct place behind;
	struct buf names;       /* of the files that lines are from, each ended by NUL */
	size_t name;            /* the last */
	uint64_t file;          /* … and which it is; 0: none yet */
	const char *wrong;      /* with its first bad line, item[n_encoded] */
	size_t n_encoded;
};

struct encoder {
	char *const *paths;
	struct source_opts o;
	uint64_t seed;
	bool leading;
	struct source *source;          /* of paths[at.input] */
	struct place at;                /* read up to here */
	uint64_t seen;                  /* bytes of the source, for progress */
	struct desk *desk;             /* one a thread */
	struct batch *ring;
	size_t slots, posted, taken;    /* counts of batches, modulo slots */
	struct encoded_batch out;
};

struct encoder *encoder_open(char *const *paths, const struct source_opts *o, uint64_t seed, bool leading)
{
	struct encoder *e = xcalloc(1, sizeof(*e));

	e->paths = paths;
	e->o = *o;
	e->o.lines = true;
	e->seed = seed;
	e->leading = leading;
	e->desk = xcalloc(pool_threads(), sizeof(*e->desk));
	e->slots = pool_threads() > 1 ? 2 * pool_threads() + 1 : 2;
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

/* The text under the line's key to *text, padded; false when there is none. */
static bool parse_line(struct batch *b, const struct item *d, struct buf *text)
{
	b->wrong = jsonl_string(b->text.p + d->at, d->bytes, d->field, text);
	if (b->wrong)
		return false;
	b->text_bytes += text->n;
	bpe_pad(text);
	return true;
}

/* The document's tokens behind the others; false when it is not one. */
static bool encode_doc(struct batch *b, const struct item *d, struct desk *at)
{
	const char *text = b->text.p + d->at;

	if (d->line) {
		if (!parse_line(b, d, &at->text))
			return false;
		bpe_encode_padded(at->bpe, at->text.p, at->text.n - BPE_PAD, &b->ids);
		return true;
	}
	b->text_bytes += d->bytes;
	if (d->tokens)
		put(&b->ids, text, d->bytes / sizeof(uint16_t));
	else
		bpe_encode_padded(at->bpe, text, d->bytes, &b->ids);
	return true;
}

static void encode_batch(void *arg)
{
	static const uint16_t eot = BPE_EOT;
	struct batch *b = arg;
	const struct encoder *e = b->e;
	struct desk *at = &e->desk[pool_self()];

	if (!at->bpe)
		at->bpe = bpe_scratch(bpe_gpt2());
	b->ids.n = 0;
	b->text_bytes = 0;
	for (b->n_encoded = 0; b->n_encoded < b->n; b->n_encoded++) {
		if (e->leading)
			put(&b->ids, &eot, 1);
		const size_t from = b->ids.n;

		if (!encode_doc(b, &b->item[b->n_encoded], at))
			return;
		const uint64_t hash = XXH3_64bits(b->ids.v + from, (b->ids.n - from) * sizeof(uint16_t));

		if (!e->leading)
			put(&b->ids, &eot, 1);
		b->doc[b->n_encoded] = (struct encoded){ rng_hash(e->seed, RNG_VAL, hash, 0), b->ids.n };
	}
}

/* ---- reading ---- */

/* Place in the batch's names of the file that is read now. */
static size_t name_of(const struct encoder *e, struct batch *b, const struct doc *d)
{
	const uint64_t file = e->at.input << 32 | (uint32_t)d->file;

	if (b->file != file) {
		const char *where = source_where(e->source);

		b->name = b->names.n;
		buf_add(&b->names, where, strlen(where) + 1);
		b->file = file;
	}
	return b->name;
}

static void batch_add(const struct encoder *e, struct batch *b, const struct doc *d)
{
	const size_t bytes = d->text ? d->bytes : d->n_ids * sizeof(*d->ids);

	b->item[b->n++] = (struct item){ b->text.n, bytes, !d->text, d->line, d->field, d->line ? name_of(e, b, d) : 0 };
	buf_add(&b->text, d->text ? d->text : (const char *)d->ids, bytes);
	if (d->text && !d->line)
		bpe_pad(&b->text);
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
	b->file = 0;
	buf_clear(&b->text);
	buf_clear(&b->names);
	while (b->n < BATCH_DOCS && b->text.n < BATCH_BYTES && next_doc(e, &d))
		batch_add(e, b, &d);
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

/* While another thread is at the batch that is wanted, the last of those that wait is encoded here. */
static void help(struct encoder *e, struct batch *wanted)
{
	for (size_t i = e->posted; i > e->taken && !task_done(&wanted->task); i--) {
		struct batch *b = &e->ring[(i - 1) % e->slots];

		if (b != wanted && !task_done(&b->task)) {
			task_wait(&b->task);
			return;
		}
	}
}

static _Noreturn void die_bad_line(const struct batch *b)
{
	const struct item *d = &b->item[b->n_encoded];

	die("%s line %llu: %s ('%s' is wanted)", b->names.p + d->where, (unsigned long long)d->line, b->wrong, d->field);
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

	help(e, b);
	task_wait(&b->task);
	if (b->wrong)
		die_bad_line(b);
	e->out = (struct encoded_batch){ b->doc, b->n, b->ids.v, b->text_bytes, b->behind };
	return &e->out;
}

void encoder_close(struct encoder *e)
{
	if (e->source)
		source_close(e->source);
	for (size_t i = 0; i < e->slots; i++) {
		buf_free(&e->ring[i].text);
		buf_free(&e->ring[i].names);
		free(e->ring[i].item);
		free(e->ring[i].doc);
		free(e->ring[i].ids.v);
	}
	for (size_t i = 0; i < pool_threads(); i++) {
		if (e->desk[i].bpe)
			bpe_scratch_free(e->desk[i].bpe);
		buf_free(&e->desk[i].text);
	}
	free(e->desk);
	free(e->ring);
	free(e);
}
