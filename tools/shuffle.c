/*
 * shuffle: the rows of activation shards in one exact global permutation, in bounded memory
 *
 * Every row has a key, hash(seed, context, position), and the output is the rows
 * in the order of their keys (rows.h).  No shard stores a key: rows_walk replays
 * them in the order in which mlpdump wrote the rows.
 *
 * Rows that fit into -m are read, sorted and written.  More take two passes:
 *
 *	scatter   every row goes to one of n bins, equal ranges of the keys, set aside on disk;
 *	gather    bin after bin is read back, sorted in memory and written.
 *
 * The order is total and knows nothing of n: memory, threads and bins cannot change it.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "opt.h"
#include "pool.h"
#include "prog.h"
#include "rows.h"
#include "spill.h"

enum {
	OUTPUT_VERSION = 1,
	BATCH_BYTES = 1 << 18,  /* read at once; stays in cache until it is scattered */
	MIN_BUFFER = 1 << 16,   /* smaller writes would make a disk seek */
	PIECES = 256
};

static const char usage[] =
	"usage: shuffle [options] [SHARD…]\n"
	"Sorts mlpdump's rows by their hashed keys: bin i of n becomes shard i of n of the\n"
	"shuffled rows; all bins together (in order, or on standard input) become one shard.\n"
	"e.g.:  shuffle -m 2G -o mix/000.zst acts/000.zst\n"
	"       mlpdump … -o - train.zst | shuffle -m 2G -T /scratch | saetrain …\n";

static struct {
	struct opt_common c;
	const char *dir;
	uint64_t bins, level;
	double save_every;
} o = { .c = OPT_COMMON_INIT, .level = 3, .save_every = 30 };

static const struct opt opts[] = {
	OPT_OUTPUT(&o.c), OPT_THREADS(&o.c), OPT_MEMORY(&o.c),
	OPT_STR('T', "temporary", &o.dir, "DIR", "where rows are set aside; default: beside the output, or $TMPDIR"),
	OPT_U64(0, "bins", &o.bins, 0, 1e6, "sort in at least N bins; 0: as few as -m allows"),
	OPT_U64(0, "level", &o.level, 1, 19, "zstd level"),
	OPT_F64(0, "save-every", &o.save_every, 0, 1e9, "seconds between states to resume from"),
	OPT_QUIET(&o.c), OPT_END
};

/* A row as it is set aside and sorted. */
struct record {
	uint64_t block, key;
	char values[];          /* row_bytes */
};

/* What is sorted: a record's place in the order, and its place in memory. */
struct entry {
	uint64_t block, key, slot;
};

struct shuffle {
	struct shards *in;
	const char *name;       /* of the input, for messages */
	struct rows rows;       /* of the output: bin i of n of the order */
	struct rows rows_in;    /* of the input's first bin */
	uint64_t bins_in;       /* bins in the input, one after another */
	size_t row_bytes, record_bytes;
	size_t bins;            /* parts into which the output's range is cut; 1: all fits */
	size_t capacity;        /* rows in memory at once */
	char *memory;           /* (capacity) records: the bins' buffers, then one bin */
	struct entry *entry;    /* (capacity) */
	struct spill *spill;
	struct meta meta;       /* of the output */
	struct shard_spec spec;
	struct shard_writer *out;
	struct recipe *recipe;  /* NULL: a pipe, which cannot be resumed */
	struct progress {
		uint64_t read, scattered;       /* rows read; was that all of them? */
		uint64_t gathered;              /* bins written */
	} done;
	uint64_t forgotten;     /* bins whose disk space was given back */
	double saved;           /* when the last state was */
};

/* ---- states ---- */

static struct recipe *recipe(const struct shuffle *s)
{
	struct recipe *r = recipe_new("shuffle", OUTPUT_VERSION);
	char id[33];

	shards_id(s->in, id);
	recipe_add(r, "input", "%s", id);
	recipe_add(r, "level", "%llu", (unsigned long long)o.level);
	recipe_add(r, "meta", "%s", s->meta.text.p);
	return r;
}

/* A state if it is time for one; what it needs no more is given back to the disk. */
static void checkpoint(struct shuffle *s)
{
	struct buf st = { 0 };

	if (s->bins == 1)
		return;
	if (s->recipe && now_secs() - s->saved < o.save_every)
		return;
	if (s->recipe) {
		buf_add(&st, &s->done, sizeof(s->done));
		spill_save(s->spill, &st);
		shard_save(s->out, &st);
		state_save(o.c.output, s->recipe, &st);
		buf_free(&st);
	}
	while (s->forgotten < s->done.gathered)
		spill_forget(s->spill, s->forgotten++);
	s->saved = now_secs();
}

static struct spill_shape spill_shape(const struct shuffle *s)
{
	return (struct spill_shape){ s->bins, s->record_bytes, s->memory, s->capacity * s->record_bytes };
}

/* false: there is no state, or what it needs is gone, or -m now asks for other bins. */
static bool resume(struct shuffle *s)
{
	struct buf st = { 0 };

	if (!s->recipe || !state_load(o.c.output, s->recipe, &st))
		return false;
	struct cursor c = { st.p, st.n };

	cursor_get(&c, &s->done, sizeof(s->done));
	if ((s->spill = spill_restore(o.c.output, o.dir, spill_shape(s), &c)) != NULL &&
	    (s->out = shard_restore(o.c.output, &s->spec, OUT_KEEP, &c)) == NULL)
		spill_close(s->spill);
	buf_free(&st);
	if (s->out)
		say("going on after %llu rows read, %llu of %zu bins written", (unsigned long long)s->done.read,
		    (unsigned long long)s->done.gathered, s->bins);
	return s->out != NULL;
}

static void begin(struct shuffle *s)
{
	s->done = (struct progress){ 0 };
	s->out = shard_create(o.c.output, &s->spec, s->recipe && s->bins > 1 ? OUT_KEEP : 0);
	s->spill = spill_open(o.c.output, o.dir, spill_shape(s));
}

/* ---- scatter ---- */

/* Which of `parts` equal ranges of the output's part of the order the row belongs to. */
static size_t part_of(const struct shuffle *s, const struct row *row, size_t parts)
{
	struct rows fine = s->rows;

	fine.bins *= parts;
	return rows_bin(&fine, row) - s->rows.bin * parts;
}

static void scatter_row(struct shuffle *s, const struct row *row, const char *values)
{
	struct record *r = spill_put(s->spill, part_of(s, row, s->bins));

	r->block = row->block;
	r->key = row->key;
	memcpy(r->values, values, s->row_bytes);
}

static void next_row(struct shuffle *s, struct rows_walk *walk, struct row *row)
{
	if (!rows_walk_next(walk, row))
		die("'%s' has more rows than the %llu that it describes", s->name,
		    (unsigned long long)s->done.read);
}

static void scatter(struct shuffle *s)
{
	struct rows_walk *walk = rows_walk_open(&s->rows_in, s->bins_in);
	const size_t batch = BATCH_BYTES / s->row_bytes + 1;
	char *values = xmalloc(xmul(batch, s->row_bytes));
	struct row row;
	size_t n;

	for (uint64_t i = 0; i < s->done.read; i++)
		next_row(s, walk, &row);
	if (s->done.read)
		shards_seek(s->in, s->done.read);
	while ((n = shards_read(s->in, values, batch)) > 0) {
		for (size_t i = 0; i < n; i++, s->done.read++) {
			next_row(s, walk, &row);
			scatter_row(s, &row, values + i * s->row_bytes);
		}
		prog_note("%llu rows read", (unsigned long long)s->done.read);
		checkpoint(s);
	}
	if (rows_walk_next(walk, &row))
		die("'%s' has fewer rows than it describes: %llu", s->name, (unsigned long long)s->done.read);
	s->done.scattered = true;
	rows_walk_close(walk);
	free(values);
}

/* ---- gather ---- */

/* Slots follow the order of enumeration, so they settle equal keys as (context, position) does. */
static int entry_compare(const void *pa, const void *pb)
{
	const struct entry *a = pa, *b = pb;

	if (a->block != b->block)
		return a->block < b->block ? -1 : 1;
	if (a->key != b->key)
		return a->key < b->key ? -1 : 1;
	return (a->slot > b->slot) - (a->slot < b->slot);
}

/* A bin's entries fall into pieces, ranges of the order once more, that threads sort one by one. */
struct pieces {
	struct entry *entry;
	size_t end[PIECES];
};

static void sort_piece(void *arg, size_t i)
{
	const struct pieces *p = arg;
	const size_t start = i ? p->end[i - 1] : 0;

	qsort(p->entry + start, p->end[i] - start, sizeof(*p->entry), entry_compare);
}

static const struct record *record_at(const struct shuffle *s, size_t slot)
{
	return (const struct record *)(s->memory + slot * s->record_bytes);
}

static size_t piece_of(const struct shuffle *s, size_t bin, size_t slot)
{
	const struct record *r = record_at(s, slot);
	const struct row row = { .block = r->block, .key = r->key };

	return part_of(s, &row, s->bins * PIECES) - bin * PIECES;
}

static void sort_bin(struct shuffle *s, size_t bin, size_t rows)
{
	struct pieces p = { .entry = s->entry };
	size_t start = 0;

	for (size_t i = 0; i < rows; i++)
		p.end[piece_of(s, bin, i)]++;
	for (size_t i = 0; i < PIECES; i++) {
		const size_t n = p.end[i];

		p.end[i] = start;       /* and grows to its end below */
		start += n;
	}
	for (size_t i = 0; i < rows; i++) {
		const struct record *r = record_at(s, i);

		p.entry[p.end[piece_of(s, bin, i)]++] = (struct entry){ r->block, r->key, i };
	}
	pool_for(PIECES, sort_piece, &p);
}

static void gather_bin(struct shuffle *s, size_t bin)
{
	const uint64_t rows = spill_count(s->spill, bin);

	if (rows > s->capacity)
		BUG("bin %zu of %zu has %llu rows", bin, s->bins, (unsigned long long)rows);
	if (s->bins > 1)
		spill_get(s->spill, bin, s->memory);
	if (bin + 1 < s->bins)
		spill_ahead(s->spill, bin + 1);
	sort_bin(s, bin, rows);
	for (size_t i = 0; i < rows; i++)
		shard_write(s->out, record_at(s, s->entry[i].slot)->values, 1);
	prog_step(rows);
}

static void gather(struct shuffle *s)
{
	if (s->bins > 1)
		spill_flush(s->spill);  /* its buffers' memory takes the bins now */
	for (size_t bin = s->done.gathered; bin < s->bins; bin++) {
		gather_bin(s, bin);
		s->done.gathered++;
		checkpoint(s);
	}
}

/* ---- sizes ---- */

/* Rows in one of `parts` parts, at most: keys are uniform, and eight deviations above the mean never happen. */
static double most_rows(const struct shuffle *s, size_t parts)
{
	const double all = (double)s->rows.contexts * (double)s->rows.samples;
	const double mean = all / (double)s->rows.bins / (double)parts;

	return fmin(all, mean + 8 * sqrt(mean) + 8);
}

/* How many bins that much memory asks for; 0: they would have no decent buffers. */
static size_t bins_for(const struct shuffle *s, uint64_t memory)
{
	const double capacity = (double)(memory / (s->record_bytes + sizeof(struct entry)));
	size_t bins = o.bins ? o.bins : 1;

	while (most_rows(s, bins) > capacity && (double)bins < capacity)
		bins += bins / 16 + 1;
	const double buffer = capacity / (double)bins * (double)s->record_bytes;

	return bins == 1 || buffer >= fmax((double)s->record_bytes, MIN_BUFFER) ? bins : 0;
}

static void plan_memory(struct shuffle *s)
{
	const uint64_t per_row = s->record_bytes + sizeof(struct entry);
	uint64_t need = o.c.memory;

	if ((s->bins = bins_for(s, o.c.memory)) == 0) {
		while (!bins_for(s, need))
			need += (need >> 4) + 1;
		die("-m %lluM is too small for %.4g GB of rows; need at least %lluM",
		    (unsigned long long)(o.c.memory >> 20), most_rows(s, 1) * (double)s->row_bytes * 1e-9,
		    (unsigned long long)(need >> 20) + 1);
	}
	s->capacity = (size_t)fmin((double)(o.c.memory / per_row), most_rows(s, 1));
	if (s->capacity < s->bins)
		s->capacity = s->bins;
	s->memory = xmalloc(xmul(s->capacity, s->record_bytes));
	s->entry = xmalloc(xmul(s->capacity, sizeof(*s->entry)));
}

/* ---- input and output ---- */

static void open_input(struct shuffle *s, char **paths)
{
	s->in = shards_open(paths);
	s->name = paths[0] && strcmp(paths[0], "-") ? paths[0] : "<stdin>";
	const struct meta *m = shards_meta(s->in);
	char *order = meta_get(m, "order");

	if (order)
		die("'%s' is %s already", s->name, order);
	s->rows_in = s->rows = rows_from_meta(m, s->name);
	if (s->rows.bin != shards_k(s->in) || s->rows.bins != shards_n(s->in))
		die("'%s' is shard %llu of %llu but holds bin %llu of %llu", s->name,
		    (unsigned long long)shards_k(s->in), (unsigned long long)shards_n(s->in),
		    (unsigned long long)s->rows.bin, (unsigned long long)s->rows.bins);
	s->bins_in = 1;
	if (s->rows.bins > 1 && !(paths[0] && !paths[1] && shards_seekable(s->in))) {
		s->bins_in = s->rows.bins;
		s->rows.bin = 0;
		s->rows.bins = 1;
	}
	s->row_bytes = shards_cols(s->in) * dtype_size(shards_dtype(s->in));
	s->record_bytes = (sizeof(struct record) + s->row_bytes + 7) / 8 * 8;
}

static void specify_output(struct shuffle *s)
{
	rows_pass_meta(shards_meta(s->in), &s->meta);
	rows_to_meta(&s->rows, &s->meta);
	meta_add(&s->meta, "order", "shuffled");
	meta_add(&s->meta, "via", "shuffle %d", OUTPUT_VERSION);
	s->spec = (struct shard_spec){ shards_dtype(s->in), shards_cols(s->in), 0, s->rows.bin, s->rows.bins,
		&s->meta, (int)o.level };
	if (strcmp(o.c.output, "-") && shards_seekable(s->in))
		s->recipe = recipe(s);
}

/* The spill goes before the output appears, and the stamp comes last: killed anywhere, a run leaves what
 * the next one reclaims. */
static void finish(struct shuffle *s)
{
	const uint64_t rows = s->done.read, bytes = shard_bytes(s->out);

	spill_close(s->spill);
	recipe_unstamp(o.c.output);
	shard_finish(s->out);
	if (s->recipe) {
		state_drop(o.c.output);
		recipe_stamp(s->recipe, o.c.output);
	}
	prog_finish(rows * s->row_bytes, bytes);
}

static void run(struct shuffle *s)
{
	plan_memory(s);
	if (!resume(s))
		begin(s);
	s->saved = now_secs();
	prog_start("rows", (uint64_t)((double)s->rows.contexts * (double)s->rows.samples / (double)s->rows.bins));
	if (!s->done.scattered)
		scatter(s);
	gather(s);
	finish(s);
	free(s->memory);
	free(s->entry);
}

int main(int argc, char **argv)
{
	struct shuffle s = { 0 };
	char **paths = opt_parse(argc, argv, opts, usage, &o.c);

	pool_start(o.c.threads);
	open_input(&s, paths);
	specify_output(&s);
	if (!s.recipe || !recipe_fresh(s.recipe, o.c.output))
		run(&s);
	if (s.recipe)
		recipe_free(s.recipe);
	meta_free(&s.meta);
	shards_close(s.in);
	return 0;
}
