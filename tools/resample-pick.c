/*
 * resample-pick: rows drawn by hash, kept for the events of neuron resampling
 *
 * Of all rows, in order 0 … N - 1 over the shards, those with the E·n smallest hashes of their number are
 * drawn, and a second hash deals them out to the E events, n each.  So the draw does not depend on how the
 * rows are cut into shards, nor on how they arrive.  The result: event after event, each in the order of the rows.
 * With --from-tokens the rows are nowhere: those drawn are made, and what else is in their batches of contexts.
 */
#include <stdlib.h>
#include <string.h>

#include "acts.h"
#include "opt.h"
#include "pool.h"
#include "prog.h"
#include "rng.h"
#include "sorter.h"

enum {
	OUTPUT_VERSION = 1,
	BATCH_BYTES = 1 << 18,  /* read at once; still in cache when it is looked through */
	FAR_BYTES = 1 << 24     /* seeking over less saves nothing: frames are read ahead */
};
enum { DRAW, DEAL };    /* the two hashes of a row */
enum { MADE_BYTES = 3 * sizeof(uint64_t) };     /* of a row drawn, when it is made: its number, its place */

static const char usage[] =
	"usage: resample-pick [options] -n ROWS --events E [SHARD…]\n"
	"       resample-pick [options] -n ROWS --events E --from-tokens --gpt GPT --window W TOKENS…\n"
	"Draws E times ROWS distinct rows of the shuffled shards (in order, or standard input) for\n"
	"saetrain to resample dead neurons from; or of the rows that saetrain --from-tokens makes.\n"
	"e.g.:  resample-pick -n 16384 --events 4 -o pick.zst mix/*.zst\n";

static struct {
	struct opt_common c;
	struct acts_options acts;
	bool from_tokens;
	const char *dir, *gpt;
	uint64_t rows, events, level;
	double save_every;
} o = { .c = OPT_COMMON_INIT, .acts = ACTS_OPTIONS_INIT, .rows = 819200, .events = 4, .level = 1, .save_every = 30 };

static const struct opt opts[] = {
	OPT_OUTPUT(&o.c),
	OPT_U64('n', "rows", &o.rows, 1, 1e12, "rows of an event"),
	OPT_U64(0, "events", &o.events, 1, 1e6, "events"),
	OPT_THREADS(&o.c), OPT_MEMORY(&o.c), OPT_SEED(&o.c),
	OPT_STR('T', "temporary", &o.dir, "DIR", "where rows are set aside; default: beside the output, or $TMPDIR"),
	OPT_U64(0, "level", &o.level, 1, 19, "zstd level"),
	OPT_F64(0, "save-every", &o.save_every, 0, 1e9, "seconds between states to resume from"),
	OPT_FLAG(0, "from-tokens", &o.from_tokens, "make the rows of TOKENS with GPT:"),
	OPT_STR(0, "gpt", &o.gpt, "GPT", "the checkpoint"),
	OPT_ACTS(&o.acts, "gpt-batch"),
	OPT_QUIET(&o.c), OPT_DEVICE(&o.c), OPT_END
};

struct drawn {
	uint64_t row;
	union {
		uint64_t hash;  /* until all are dealt */
		uint64_t event;
	};
};

struct pick {
	struct shards *in;      /* NULL: the rows are made by … */
	struct acts *acts;
	const char *name;       /* of the input, for messages */
	uint64_t rows;          /* N, in the input */
	struct drawn *drawn;    /* (n_drawn), by row */
	size_t n_drawn;         /* E·n */
	struct meta meta;       /* of the output */
	struct shard_spec shard;
	struct recipe *recipe;  /* NULL: from or to a pipe, which neither resumes nor is up to date */
};

/* ---- the draw ---- */

enum { HASH_BITS = 53, BIN_BITS = 16 };

static uint64_t hash_of(uint64_t which, uint64_t row)
{
	return rng_hash(o.c.seed, RNG_PICK, which, row) >> (64 - HASH_BITS);
}

static uint64_t bin_of(uint64_t hash)
{
	return hash >> (HASH_BITS - BIN_BITS);
}

static int by_row(const void *pa, const void *pb)
{
	const struct drawn *a = pa, *b = pb;

	return (a->row > b->row) - (a->row < b->row);
}

static int by_hash(const void *pa, const void *pb)
{
	const struct drawn *a = pa, *b = pb;

	return a->hash != b->hash ? (a->hash > b->hash) - (a->hash < b->hash) : by_row(a, b);
}

/* The bin of hashes in which the last of the n_drawn smallest lies; *below: how many rows the bins
 * before it have, *inside: how many it has itself. */
static uint64_t last_bin(const struct pick *p, uint64_t *below, uint64_t *inside)
{
	uint64_t *count = xcalloc((size_t)1 << BIN_BITS, sizeof(*count)), bin = 0;

	for (uint64_t row = 0; row < p->rows; row++)
		count[bin_of(hash_of(DRAW, row))]++;
	for (*below = 0; *below + count[bin] < p->n_drawn; bin++)
		*below += count[bin];
	*inside = count[bin];
	free(count);
	return bin;
}

/* The rows with the smallest hashes, in any order.  Nothing but they, and those of one bin of
 * hashes, is in memory. */
static void draw(struct pick *p)
{
	uint64_t below, inside, n = 0, m = 0;
	const uint64_t last = last_bin(p, &below, &inside);
	struct drawn *edge = xcalloc(inside, sizeof(*edge));

	for (uint64_t row = 0; row < p->rows; row++) {
		const uint64_t hash = hash_of(DRAW, row), bin = bin_of(hash);

		if (bin < last)
			p->drawn[n++].row = row;
		else if (bin == last)
			edge[m++] = (struct drawn){ row, { hash } };
	}
	qsort(edge, inside, sizeof(*edge), by_hash);
	memcpy(p->drawn + below, edge, (p->n_drawn - below) * sizeof(*edge));
	free(edge);
}

/* Of all rows drawn, those with the n smallest second hashes are event 0's, the next n event 1's, … */
static void deal(struct pick *p)
{
	p->drawn = xcalloc(p->n_drawn, sizeof(*p->drawn));
	draw(p);
	for (size_t i = 0; i < p->n_drawn; i++)
		p->drawn[i].hash = hash_of(DEAL, p->drawn[i].row);
	qsort(p->drawn, p->n_drawn, sizeof(*p->drawn), by_hash);
	for (size_t i = 0; i < p->n_drawn; i++)
		p->drawn[i].event = i / o.rows;
	qsort(p->drawn, p->n_drawn, sizeof(*p->drawn), by_row);
}

__extension__ typedef unsigned __int128 u128;

/* Ranges of (event, row): of E·N places, the key's is event·N + row. */
static size_t part_of(const void *arg, struct sort_key key, size_t parts)
{
	const struct pick *p = arg;
	const u128 place = (u128)key.major * p->rows + key.minor;

	return (size_t)(place * parts / ((u128)o.events * p->rows));
}

/* ---- input and output ---- */

/* A pipe does not say how many rows will come, but which: all samples of all contexts. */
static uint64_t count_rows(const struct pick *p)
{
	if (shards_seekable(p->in))
		return shards_rows(p->in);
	const struct rows r = rows_from_meta(shards_meta(p->in), p->name);

	if (!shards_whole(p->in))
		die("'%s' is shard %llu of %llu by itself, which only as a file tells its rows", p->name,
		    (unsigned long long)shards_k(p->in), (unsigned long long)shards_n(p->in));
	return r.contexts * r.samples;
}

static void open_shards(struct pick *p, char **paths)
{
	p->in = shards_open(paths);
	p->name = paths[0] && strcmp(paths[0], "-") ? paths[0] : "<stdin>";
	char *order = meta_get(shards_meta(p->in), "order");

	if (!order || strcmp(order, "shuffled"))
		die("'%s' is not shuffled%s%s", p->name, order ? " but " : "", order ? order : "");
	free(order);
	p->rows = count_rows(p);
}

static void open_tokens(struct pick *p, char **paths)
{
	if (!o.gpt || !paths[0] || !strcmp(paths[0], "-"))
		die_usage("--from-tokens needs %s", o.gpt ? "files of tokens" : "--gpt");
	p->acts = acts_open(&o.acts, o.c.seed, o.gpt, paths);
	p->name = p->acts->tok.name;
	p->rows = p->acts->rows.contexts * p->acts->rows.samples;
}

static void open_input(struct pick *p, char **paths)
{
	acts_options_check(&o.acts, o.from_tokens);
	if (o.gpt && !o.from_tokens)
		die_usage("--gpt goes with --from-tokens");
	(o.from_tokens ? open_tokens : open_shards)(p, paths);
	if (o.rows > p->rows / o.events)
		die("'%s' %s %llu rows; %llu events of %llu need %llu", p->name,
		    p->in && shards_n(p->in) > 1 && shards_whole(p->in) ? "and the others have" : "has",
		    (unsigned long long)p->rows, (unsigned long long)o.events, (unsigned long long)o.rows,
		    (unsigned long long)(o.events * o.rows));
	p->n_drawn = o.events * o.rows;
}

static struct recipe *recipe(const struct pick *p)
{
	struct recipe *r = recipe_new("resample-pick", OUTPUT_VERSION);
	char id[33];

	if (p->in)
		shards_id(p->in, id);
	else
		acts_id(p->acts, o.c.device, o.c.precision, id);
	recipe_add(r, "input", "%s", id);
	recipe_add(r, "meta", "%s", p->meta.text.p);
	recipe_add(r, "level", "%llu", (unsigned long long)o.level);
	return r;
}

static void specify_output(struct pick *p)
{
	const struct acts *a = p->acts;

	if (p->in) {
		rows_pass_meta(shards_meta(p->in), &p->meta);
	} else {
		meta_add(&p->meta, "gpt", "%s", a->gpt_id);
		meta_add(&p->meta, "tokens", "%s", a->tok.id);
	}
	meta_add(&p->meta, "order", "picked");
	meta_add(&p->meta, "events", "%llu", (unsigned long long)o.events);
	meta_add(&p->meta, "pick", "%llu", (unsigned long long)o.rows);
	meta_add(&p->meta, "via", "resample-pick %d --events %llu --rows %llu --seed %llu", OUTPUT_VERSION,
		 (unsigned long long)o.events, (unsigned long long)o.rows, (unsigned long long)o.c.seed);
	p->shard = (struct shard_spec){ a ? a->dtype : shards_dtype(p->in), a ? a->D : shards_cols(p->in), 0, 0, 1,
		&p->meta, (int)o.level };
	if (strcmp(o.c.output, "-") && (a || shards_seekable(p->in)))
		p->recipe = recipe(p);
}

/* What is left for rows; qsort takes as much again as it sorts. */
static uint64_t memory_left(const struct pick *p)
{
	const uint64_t order = p->acts ? rows_order_bytes(&p->acts->rows) + p->n_drawn * MADE_BYTES : 0;
	const uint64_t own = p->n_drawn * sizeof(*p->drawn) + order;

	if (o.c.memory / 2 < own)
		die("-m %lluM is too small to draw %zu rows; need at least %lluM", (unsigned long long)(o.c.memory >> 20),
		    p->n_drawn, (unsigned long long)(2 * own >> 20) + 1);
	return o.c.memory - own;
}

static struct sorter *open_sorter(const struct pick *p, struct sorter_spec *spec)
{
	*spec = (struct sorter_spec){
		.output = o.c.output, .dir = o.dir, .shard = &p->shard,
		.recipe = p->recipe, .save_every = o.save_every,
		.memory = memory_left(p), .rows = p->n_drawn, .exact = true,
		.part = part_of, .arg = p,
	};
	file_mkdirs(o.c.output);
	return sorter_open(spec);
}

/* ---- the work ---- */

/* The drawn rows, passing over files where none is near, into the sorter; how many rows were passed by. */
static uint64_t read_drawn(const struct pick *p, struct sorter *sorter)
{
	const size_t row_bytes = p->shard.cols * dtype_size(p->shard.dtype), batch = BATCH_BYTES / row_bytes + 1;
	char *values = xmalloc(xmul(batch, row_bytes));
	uint64_t at = 0;

	for (size_t next = sorter_rows(sorter), n; next < p->n_drawn; at += n) {
		const struct drawn *d = &p->drawn[next];

		if (shards_seekable(p->in) && (d->row - at) * row_bytes > FAR_BYTES)
			shards_seek(p->in, at = d->row);
		if ((n = shards_read(p->in, values, batch)) == 0)
			break;
		for (; next < p->n_drawn && d->row < at + n; d = &p->drawn[++next])
			sorter_put(sorter, (struct sort_key){ d->event, d->row }, values + (d->row - at) * row_bytes);
		prog_note("%llu of %llu rows read", (unsigned long long)(at + n), (unsigned long long)p->rows);
		prog_step(0);
		sorter_checkpoint(sorter);
	}
	if (!shards_seekable(p->in)) /* what is behind the last one counts */
		for (size_t n; (n = shards_read(p->in, values, batch)) > 0; )
			at += n;
	free(values);
	return at;
}

struct made {
	const struct pick *p;
	struct sorter *sorter;
	char *values;           /* a row as stored */
};

static void take(void *arg, size_t i, const float *x)
{
	const struct made *m = arg;
	const struct drawn *d = &m->p->drawn[i];

	dtype_from_f32(m->p->shard.dtype, m->values, x, m->p->shard.cols);
	sorter_put(m->sorter, (struct sort_key){ d->event, d->row }, m->values);
	prog_note("%llu of %zu rows made", (unsigned long long)sorter_rows(m->sorter), m->p->n_drawn);
	prog_step(0);
	sorter_checkpoint(m->sorter);
}

static void make_drawn(const struct pick *p, struct sorter *sorter)
{
	struct made m = { p, sorter, xmalloc(xmul(p->shard.cols, sizeof(float))) };
	uint64_t *row = xcalloc(p->n_drawn, sizeof(*row));

	for (size_t i = 0; i < p->n_drawn; i++)
		row[i] = p->drawn[i].row;
	acts_start(p->acts, backend_open(o.c.device, o.c.precision));
	acts_pick(p->acts, &(struct acts_want){ row, p->n_drawn, take, &m }, sorter_rows(sorter));
	free(row);
	free(m.values);
}

static void run(struct pick *p)
{
	struct sorter_spec spec;
	struct sorter *sorter = open_sorter(p, &spec);

	deal(p);
	prog_start("rows", p->n_drawn);
	if (p->acts && !sorter_full(sorter)) {
		make_drawn(p, sorter);
	} else if (!sorter_full(sorter)) {
		const uint64_t rows = read_drawn(p, sorter);

		if (!shards_seekable(p->in) && rows != p->rows)
			die("'%s' has %llu rows; its META describes %llu", p->name, (unsigned long long)rows,
			    (unsigned long long)p->rows);
	}
	const uint64_t bytes = sorter_finish(sorter);

	prog_finish(p->rows * p->shard.cols * dtype_size(p->shard.dtype), bytes);
	free(p->drawn);
}

int main(int argc, char **argv)
{
	struct pick p = { 0 };
	char **paths = opt_parse(argc, argv, opts, usage, &o.c);

	pool_start(o.c.threads);
	open_input(&p, paths);
	specify_output(&p);
	if (!p.recipe || !recipe_fresh(p.recipe, o.c.output))
		run(&p);
	if (p.recipe)
		recipe_free(p.recipe);
	meta_free(&p.meta);
	if (p.in)
		shards_close(p.in);
	else
		acts_close(p.acts);
	return 0;
}
