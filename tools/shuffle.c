/*
 * shuffle: the rows of activation shards in one exact global permutation, in bounded memory
 *
 * Every row has a key, hash(seed, context, position); the shuffled order is the order of the keys.  The
 * shards store no keys: rows.h replays them in the order in which mlpdump wrote the rows, and a sorter puts
 * the rows in the order of their keys.  Nothing here knows how many rows there are in memory at once, how
 * they arrive or on how many threads, so nothing of that can change the order.
 */
#include <stdlib.h>
#include <string.h>

#include "opt.h"
#include "pool.h"
#include "prog.h"
#include "rows.h"
#include "sorter.h"

enum {
	OUTPUT_VERSION = 1,
	BATCH_BYTES = 1 << 18   /* read at once; still in cache when it is sorted in */
};

static const char usage[] =
	"usage: shuffle [options] [SHARD…]\n"
	"Sorts mlpdump's rows by their hashed keys.  Bin i of n alone becomes shard i of n of the\n"
	"shuffled rows; all bins together, or standard input, become one shard.\n"
	"e.g.:  shuffle -m 2G -o mix/000.zst acts/000.zst\n"
	"       mlpdump … -o - train.zst | shuffle -m 2G -T /scratch | saetrain …\n";

static struct {
	struct opt_common c;
	const char *dir;
	uint64_t bins, level;
	double save_every;
} o = { .c = OPT_COMMON_INIT, .level = 1, .save_every = 30 };

static const struct opt opts[] = {
	OPT_OUTPUT(&o.c), OPT_THREADS(&o.c), OPT_MEMORY(&o.c),
	OPT_STR('T', "temporary", &o.dir, "DIR", "where rows are set aside; default: beside the output, or $TMPDIR"),
	OPT_U64(0, "bins", &o.bins, 0, 1e6, "set them aside in at least N bins; 0: as few as -m allows"),
	OPT_U64(0, "level", &o.level, 1, 19, "zstd level"),
	OPT_F64(0, "save-every", &o.save_every, 0, 1e9, "seconds between states to resume from"),
	OPT_QUIET(&o.c), OPT_END
};

struct shuffle {
	struct shards *in;
	const char *name;       /* of the input, for messages */
	struct rows rows_in;    /* of the input's first bin; bins_in of them follow one another */
	uint64_t bins_in;
	struct rows rows;       /* of the output: bin i of n of the order */
	struct meta meta;       /* of the output */
	struct shard_spec shard;
	struct recipe *recipe;  /* NULL: from or to a pipe, which neither resumes nor is up to date */
};

/* Which of `parts` ranges of the output has the row. */
static size_t part_of(const void *arg, struct sort_key key, size_t parts)
{
	struct rows fine = *(const struct rows *)arg;
	const struct row row = { .block = key.major, .key = key.minor };
	const uint64_t first = fine.bin * parts;

	fine.bins *= parts;
	return rows_bin(&fine, &row) - first;
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
	s->rows = s->rows_in = rows_from_meta(m, s->name);
	s->bins_in = 1;
	if (s->rows.bin != shards_k(s->in) || s->rows.bins != shards_n(s->in))
		die("'%s' is shard %llu of %llu but holds bin %llu of %llu", s->name,
		    (unsigned long long)shards_k(s->in), (unsigned long long)shards_n(s->in),
		    (unsigned long long)s->rows.bin, (unsigned long long)s->rows.bins);
	if (shards_whole(s->in)) {
		s->bins_in = s->rows.bins;
		s->rows.bin = 0;
		s->rows.bins = 1;
	}
}

/* All that shapes the output: the data, what it says of itself, the level. */
static struct recipe *recipe(const struct shuffle *s)
{
	struct recipe *r = recipe_new("shuffle", OUTPUT_VERSION);
	char id[33];

	shards_id(s->in, id);
	recipe_add(r, "input", "%s", id);
	recipe_add(r, "meta", "%s", s->meta.text.p);
	recipe_add(r, "level", "%llu", (unsigned long long)o.level);
	return r;
}

static void specify_output(struct shuffle *s)
{
	rows_pass_meta(shards_meta(s->in), &s->meta);
	rows_to_meta(&s->rows, &s->meta);
	meta_add(&s->meta, "order", "shuffled");
	meta_add(&s->meta, "via", "shuffle %d", OUTPUT_VERSION);
	s->shard = (struct shard_spec){ shards_dtype(s->in), shards_cols(s->in), 0, s->rows.bin, s->rows.bins,
		&s->meta, (int)o.level };
	if (strcmp(o.c.output, "-") && shards_seekable(s->in))
		s->recipe = recipe(s);
}

static struct sorter *open_sorter(const struct shuffle *s, struct sorter_spec *spec)
{
	*spec = (struct sorter_spec){
		.output = o.c.output, .dir = o.dir, .shard = &s->shard,
		.recipe = s->recipe, .save_every = o.save_every,
		.memory = o.c.memory, .bins = o.bins,
		.rows = s->rows.contexts * s->rows.samples / s->rows.bins, .exact = s->rows.bins == 1,
		.part = part_of, .arg = &s->rows,
	};
	file_mkdirs(o.c.output);
	return sorter_open(spec);
}

/* ---- the work ---- */

static struct sort_key next_key(const struct shuffle *s, struct rows_walk *walk, uint64_t before)
{
	struct row row;

	if (!rows_walk_next(walk, &row))
		die("'%s' has more rows than the %llu that it describes", s->name, (unsigned long long)before);
	return (struct sort_key){ row.block, row.key };
}

/* Every row with its key into the sorter. */
static void read_rows(const struct shuffle *s, struct sorter *sorter)
{
	const size_t row_bytes = s->shard.cols * dtype_size(s->shard.dtype), batch = BATCH_BYTES / row_bytes + 1;
	struct rows_walk *walk = rows_walk_open(&s->rows_in, s->bins_in);
	char *values = xmalloc(xmul(batch, row_bytes));
	struct row row;
	uint64_t at = 0;

	for (; at < sorter_rows(sorter); at++)  /* those of a run that was killed */
		next_key(s, walk, at);
	if (at)
		shards_seek(s->in, at);
	for (size_t n; (n = shards_read(s->in, values, batch)) > 0; ) {
		for (size_t i = 0; i < n; i++)
			sorter_put(sorter, next_key(s, walk, at++), values + i * row_bytes);
		prog_note("%llu rows read", (unsigned long long)at);
		prog_step(0);
		sorter_checkpoint(sorter);
	}
	if (rows_walk_next(walk, &row))
		die("'%s' has fewer rows than it describes: %llu", s->name, (unsigned long long)at);
	rows_walk_close(walk);
	free(values);
}

static void run(const struct shuffle *s)
{
	struct sorter_spec spec;
	struct sorter *sorter = open_sorter(s, &spec);

	prog_start("rows", spec.rows);
	if (!sorter_full(sorter))
		read_rows(s, sorter);
	const uint64_t rows = sorter_rows(sorter), bytes = sorter_finish(sorter);

	prog_finish(rows * s->shard.cols * dtype_size(s->shard.dtype), bytes);
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
