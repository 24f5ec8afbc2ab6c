/* mlpdump: the GPT's activations (post-GELU of its last block) at sampled tokens, as rows of shards */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "acts.h"
#include "opt.h"
#include "pool.h"
#include "prog.h"

enum { OUTPUT_VERSION = 2 };

static const char usage[] =
	"usage: mlpdump [options] --gpt GPT [--contexts C] [--samples S] -o OUT TOKENS…\n"
	"Runs C contexts through the GPT and keeps the activations of S tokens of each.\n"
	"OUT is a shard, - (standard output) or, with --bins N or when it ends in /, a directory\n"
	"of N shards: consecutive ranges of the shuffled order, each in the order of the contexts.\n"
	"e.g.:  mlpdump --gpt gpt.safetensors --contexts 16000 --samples 100 --bins 4 -o acts train.zst\n";

static struct {
	struct opt_common c;
	struct acts_options acts;
	const char *gpt, *bin;
	uint64_t bins, level;
	double save_every;
} o = { .c = OPT_COMMON_INIT, .acts = ACTS_OPTIONS_INIT, .bins = 1, .level = 1, .save_every = 30 };

static const struct opt opts[] = {
	OPT_OUTPUT(&o.c),
	OPT_STR(0, "gpt", &o.gpt, "GPT", "the checkpoint"),
	OPT_ACTS(&o.acts, "batch"),
	OPT_U64(0, "bins", &o.bins, 1, 1000, "shards to write into the directory OUT"),
	OPT_STR(0, "bin", &o.bin, "I/N", "write shard I (from 0) of N alone"),
	OPT_U64(0, "level", &o.level, 1, 19, "zstd level"),
	OPT_F64(0, "save-every", &o.save_every, 0, 1e9, "seconds between states to resume from"),
	OPT_THREADS(&o.c), OPT_SEED(&o.c), OPT_QUIET(&o.c), OPT_DEVICE(&o.c), OPT_END
};

struct dump {
	struct acts *acts;
	struct rows rows;       /* rows.bin: the first of the bins written */
	size_t shards;          /* how many of them */
	bool directory;         /* the output is one */
	char **paths;           /* of the shards */
	struct shard_spec *spec;
	struct meta *meta;
	struct shard_writer **w;        /* NULL: already complete */
	uint64_t next;          /* context to go on from */
	struct batch {          /* of contexts: one is stored while the next is computed */
		const struct dump *d;
		struct task store;
		bool posted;
		uint64_t first;
		size_t n;               /* contexts in it */
		uint32_t *positions;    /* (n,S) sampled, in their contexts */
		uint32_t *picked, *shard_of;    /* (kept) rows of the shards written here, and which shard */
		size_t kept;
		float *acts;            /* (n,S,D) */
		char *stored;           /* (kept,D) in the shards' type */
	} batch[2];
	size_t turn;            /* the batch computed now */
};

/* Which samples of the batch are rows of the shards written here, in the order of enumeration. */
static void pick(struct batch *b)
{
	const struct dump *d = b->d;
	const size_t S = d->rows.samples;

	b->kept = 0;
	for (size_t i = 0; i < b->n * S; i++) {
		const struct row row = rows_row(&d->rows, b->first + i / S, b->positions[i]);
		const uint64_t bin = rows_bin(&d->rows, &row);

		if (bin < d->rows.bin || bin >= d->rows.bin + d->shards)
			continue;
		b->picked[b->kept] = (uint32_t)i;
		b->shard_of[b->kept++] = (uint32_t)(bin - d->rows.bin);
	}
}

static void store_row(void *arg, size_t i)
{
	struct batch *b = arg;
	const struct acts *a = b->d->acts;

	dtype_from_f32(a->dtype, b->stored + i * a->D * dtype_size(a->dtype), b->acts + b->picked[i] * a->D, a->D);
}

/* A task: from a batch's activations to the shards, which compress in the pool, too. */
static void store(void *arg)
{
	struct batch *b = arg;
	const struct dump *d = b->d;
	const size_t bytes = d->acts->D * dtype_size(d->acts->dtype);

	pick(b);
	pool_for(b->kept, store_row, b);
	for (size_t i = 0; i < b->kept; i++)
		shard_write(d->w[b->shard_of[i]], b->stored + i * bytes, 1);
}

/* Until the shards hold all that was computed */
static size_t wait_stored(struct dump *d)
{
	size_t rows = 0;

	for (size_t i = 0; i < ARRAY_LEN(d->batch); i++) {
		struct batch *b = &d->batch[i];

		if (!b->posted)
			continue;
		task_wait(&b->store);
		b->posted = false;
		rows += b->kept;
	}
	return rows;
}

/* Computes a batch while the one before is stored; returns the rows stored meanwhile. */
static size_t dump_batch(struct dump *d)
{
	struct batch *b = &d->batch[d->turn];
	struct acts *a = d->acts;
	const uint64_t i = d->next / a->batch;

	b->first = d->next;
	b->n = acts_contexts(a, i);
	const real *x = acts_batch(a, i, b->positions);

	a->g->be->get(b->acts, x, b->n * a->rows.samples * a->D * sizeof(*b->acts));
	acts_check(a);
	const size_t rows = wait_stored(d);

	task_post(&b->store);
	b->posted = true;
	d->next += b->n;
	d->turn = !d->turn;
	return rows;
}

/*
 * State: next context, then for each shard its writer's position.  Once all
 * contexts are done `finishing` is set, after older files under the shards'
 * names were removed: from then on a shard that is there is complete.
 */
static void save(struct dump *d, const struct recipe *p, uint64_t finishing)
{
	struct buf st = { 0 }, one = { 0 };
	const uint64_t head[2] = { d->next, finishing };

	buf_add(&st, head, sizeof(head));
	for (size_t i = 0; i < d->shards; i++) {
		buf_clear(&one);
		if (d->w[i])
			shard_save(d->w[i], &one);
		const uint64_t bytes = one.n;

		buf_add(&st, &bytes, sizeof(bytes));
		buf_add(&st, one.p, one.n);
	}
	state_save(o.c.output, p, &st);
	buf_free(&st);
	buf_free(&one);
}

/* Can every shard go on?  Otherwise the run starts anew. */
static bool parts_there(const struct dump *d, bool finishing)
{
	bool all = true;

	for (size_t i = 0; i < d->shards; i++) {
		char *part = xformat("%s.part", d->paths[i]);

		all = all && (file_exists(part) || (finishing && file_exists(d->paths[i])));
		free(part);
	}
	return all;
}

static bool resume(struct dump *d, const struct recipe *p, bool *finishing)
{
	struct buf st = { 0 };
	uint64_t head[2], bytes;

	if (!state_load(o.c.output, p, &st))
		return false;
	struct cursor c = { st.p, st.n };

	cursor_get(&c, head, sizeof(head));
	if (!parts_there(d, head[1])) {
		buf_free(&st);
		return false;
	}
	for (size_t i = 0; i < d->shards; i++) {
		cursor_get(&c, &bytes, sizeof(bytes));
		struct cursor one = { c.p, bytes };

		if (bytes > c.left)
			die("damaged state '%s.state'", o.c.output);
		c.p += bytes;
		c.left -= bytes;
		if (!bytes || (head[1] && file_exists(d->paths[i])))
			continue;
		if (!(d->w[i] = shard_restore(d->paths[i], &d->spec[i], OUT_KEEP, &one)))
			die("'%s.part' is shorter than '%s.state' says; remove the state to start anew",
			    d->paths[i], o.c.output);
	}
	d->next = head[0];
	*finishing = head[1];
	buf_free(&st);
	say("going on at context %llu", (unsigned long long)d->next);
	return true;
}

static struct recipe *recipe(const struct dump *d)
{
	struct recipe *p = recipe_new("mlpdump", OUTPUT_VERSION);

	recipe_add(p, "contexts", "%llu", (unsigned long long)d->rows.contexts);
	recipe_add(p, "samples", "%llu", (unsigned long long)d->rows.samples);
	recipe_add(p, "bins", "%llu+%zu/%llu", (unsigned long long)d->rows.bin, d->shards,
		   (unsigned long long)d->rows.bins);
	recipe_add(p, "window", "%llu", (unsigned long long)d->rows.window);
	recipe_add(p, "dtype", "%s", o.acts.dtype);
	recipe_add(p, "level", "%llu", (unsigned long long)o.level);
	recipe_add(p, "batch", "%llu", (unsigned long long)o.acts.batch);
	recipe_add(p, "seed", "%llu", (unsigned long long)o.c.seed);
	recipe_add(p, "device", "%s %s", o.c.device, backend_precision(o.c.device, o.c.precision));
	recipe_add(p, "gpt", "%s", d->acts->gpt_id);
	recipe_add(p, "tokens", "%s", d->acts->tok.id);
	return p;
}

static void specify(struct dump *d)
{
	const struct acts *a = d->acts;

	d->spec = xcalloc(d->shards, sizeof(*d->spec));
	d->meta = xcalloc(d->shards, sizeof(*d->meta));
	d->w = xcalloc(d->shards, sizeof(struct shard_writer *));
	for (size_t i = 0; i < d->shards; i++) {
		struct rows r = d->rows;

		r.bin += i;
		rows_to_meta(&r, &d->meta[i]);
		meta_add(&d->meta[i], "gpt", "%s", a->gpt_id);
		meta_add(&d->meta[i], "tokens", "%s", a->tok.id);
		meta_add(&d->meta[i], "via", "mlpdump %d --contexts %llu --samples %llu --window %llu "
			 "--dtype %s --seed %llu", OUTPUT_VERSION, (unsigned long long)r.contexts,
			 (unsigned long long)r.samples, (unsigned long long)r.window, o.acts.dtype,
			 (unsigned long long)r.seed);
		d->spec[i] = (struct shard_spec){ a->dtype, a->D, 0, r.bin, r.bins, &d->meta[i], (int)o.level };
	}
}

static void name_shards(struct dump *d)
{
	d->paths = xcalloc(d->shards, sizeof(*d->paths));
	for (size_t i = 0; i < d->shards; i++)
		d->paths[i] = d->directory ? xformat("%s/%03zu.zst", o.c.output, i) : xstrdup(o.c.output);
}

static bool is_fresh(const struct dump *d, const struct recipe *p)
{
	for (size_t i = 0; i < d->shards; i++)
		if (!file_exists(d->paths[i]))
			return false;
	if (!recipe_fresh(p, o.c.output))
		return false;
	for (size_t i = 0; i < d->shards; i++)
		file_touch(d->paths[i]);
	return true;
}

static void allocate(struct dump *d)
{
	const size_t rows = xmul(o.acts.batch, d->rows.samples), values = xmul(rows, d->acts->D);

	for (size_t i = 0; i < ARRAY_LEN(d->batch); i++) {
		struct batch *b = &d->batch[i];

		*b = (struct batch){ .d = d, .store = { .fn = store, .arg = b } };
		b->positions = xcalloc(rows, sizeof(*b->positions));
		b->picked = xcalloc(rows, sizeof(*b->picked));
		b->shard_of = xcalloc(rows, sizeof(*b->shard_of));
		b->acts = xcalloc(values, sizeof(*b->acts));
		b->stored = xcalloc(values, dtype_size(d->acts->dtype));
	}
}

static void release(struct dump *d)
{
	for (size_t i = 0; i < ARRAY_LEN(d->batch); i++) {
		const struct batch *b = &d->batch[i];
		void *const parts[] = { b->positions, b->picked, b->shard_of, b->acts, b->stored };

		for (size_t k = 0; k < ARRAY_LEN(parts); k++)
			free(parts[k]);
	}
	for (size_t i = 0; i < d->shards; i++)
		meta_free(&d->meta[i]);
	free(d->spec);
	free(d->meta);
	free(d->w);
}

static void remove_older(const struct dump *d)
{
	recipe_unstamp(o.c.output);
	for (size_t i = 0; i < d->shards; i++)
		unlink(d->paths[i]);
	for (size_t i = d->shards; d->directory; i++) { /* of a run with more bins */
		char *extra = xformat("%s/%03zu.zst", o.c.output, i);
		char *part = xformat("%s.part", extra);
		const int missing = (unlink(extra) != 0) + (unlink(part) != 0);

		free(extra);
		free(part);
		if (missing == 2)
			break;
	}
}

/* Completes every shard; the compressed bytes. */
static uint64_t finish(struct dump *d)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < d->shards; i++) {
		if (!d->w[i])
			continue;
		bytes += shard_finish(d->w[i]);
	}
	return bytes;
}

/* A thousand bins are a thousand open files; the usual limit is about as many. */
static void allow_files(size_t n)
{
	struct rlimit l;
	const rlim_t want = n + 100;

	if (getrlimit(RLIMIT_NOFILE, &l) != 0 || l.rlim_cur >= want)
		return;
	l.rlim_cur = want < l.rlim_max ? want : l.rlim_max;
	setrlimit(RLIMIT_NOFILE, &l); /* in vain: the file that is too many says so */
}

static void run(struct dump *d, const struct recipe *state)
{
	const bool resumable = strcmp(o.c.output, "-") != 0;
	bool finishing = false;

	allow_files(d->shards);
	if (!resumable || !resume(d, state, &finishing))
		for (size_t i = 0; i < d->shards; i++)
			d->w[i] = shard_create(d->paths[i], &d->spec[i], resumable ? OUT_KEEP : 0);
	double saved = now_secs();

	prog_start("rows", (d->rows.contexts - d->next) * d->rows.samples / d->rows.bins * d->shards);
	while (d->next < d->rows.contexts) {
		prog_step(dump_batch(d));
		if (resumable && now_secs() - saved >= o.save_every) {
			prog_step(wait_stored(d));
			save(d, state, 0);
			saved = now_secs();
		}
	}
	prog_step(wait_stored(d));
	if (resumable && !finishing) {
		remove_older(d);
		save(d, state, 1);
	}
}

/* "I/N" */
static void parse_bin(struct dump *d)
{
	char *text = xstrdup(o.bin), *slash = strchr(text, '/');

	if (slash)
		*slash = 0;
	if (!slash || !parse_u64(text, &d->rows.bin) || !parse_u64(slash + 1, &d->rows.bins) ||
	    d->rows.bin >= d->rows.bins || d->rows.bins > 1000)
		die_usage("--bin takes I/N with I from 0 to N-1, not '%s'", o.bin);
	free(text);
}

static void check_options(struct dump *d, char **paths)
{
	const size_t length = strlen(o.c.output);

	if (!o.gpt || !paths[0])
		die_usage("%s missing", !o.gpt ? "--gpt is" : "tokens are");
	if (o.bin && o.bins > 1)
		die_usage("--bin and --bins exclude each other");
	d->rows.bins = d->shards = o.bins;
	if (o.bin)
		parse_bin(d);
	d->directory = d->shards > 1 || (length && o.c.output[length - 1] == '/');
	o.c.output = file_plain(o.c.output);
	if (d->shards > 1 && !strcmp(o.c.output, "-"))
		die_usage("--bins %llu needs -o DIR", (unsigned long long)o.bins);
}

static void open_inputs(struct dump *d, char **paths)
{
	const struct rows bins = d->rows;

	d->acts = acts_open(&o.acts, o.c.seed, o.gpt, paths);
	d->rows = d->acts->rows;
	d->rows.bin = bins.bin;
	d->rows.bins = bins.bins;
	name_shards(d);
}

static void make(struct dump *d)
{
	const struct backend *be = backend_open(o.c.device, o.c.precision);
	const bool to_file = strcmp(o.c.output, "-") != 0;
	struct recipe *p = recipe(d), *state = recipe(d);

	recipe_add(state, "backend", "%s %s", be->name, be->precision); /* a run goes on only where it began */
	acts_start(d->acts, be);
	specify(d);
	allocate(d);
	if (to_file)
		file_mkdirs(d->paths[0]);
	run(d, state);
	const uint64_t bytes = finish(d);

	if (to_file) { /* in this order: a stamp beside a state would keep the state for ever */
		state_drop(o.c.output);
		recipe_stamp(p, o.c.output);
	}
	prog_finish(d->rows.contexts * d->rows.block * sizeof(uint16_t), bytes);
	recipe_free(p);
	recipe_free(state);
	release(d);
}

int main(int argc, char **argv)
{
	struct dump d = { 0 };
	char **paths = opt_parse(argc, argv, opts, usage, &o.c);

	check_options(&d, paths);
	pool_start(o.c.threads);
	open_inputs(&d, paths);
	struct recipe *p = recipe(&d);

	if (!strcmp(o.c.output, "-") || !is_fresh(&d, p))
		make(&d);
	for (size_t i = 0; i < d.shards; i++)
		free(d.paths[i]);
	free(d.paths);
	recipe_free(p);
	acts_close(d.acts);
	return 0;
}
