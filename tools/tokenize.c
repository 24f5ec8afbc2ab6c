/* tokenize: text to GPT-2's tokens, split into training and validation. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "bpe.h"
#include "encoder.h"
#include "heldout.h"
#include "inputs.h"
#include "jsonl.h"
#include "opt.h"
#include "pool.h"
#include "prog.h"
#include "sink.h"

enum { OUTPUT_VERSION = 2 };

static const char usage[] =
	"usage: tokenize [options] [FILE|DIR]…\n"
	"       tokenize -d [--jsonl] [TOKENS]…\n"
	"Encodes the documents of text files, JSON Lines, archives of them (nested, compressed), Parquet and\n"
	"token files as GPT-2 does, <|endoftext|> behind each; writes a token shard.  -d: the text again.\n"
	"e.g.:  tokenize --val 0.0005 --val-out val.zst -o train.zst openwebtext.tar.xz\n"
	"       tokenize corpus.jsonl.zst | zstd -dc >corpus.u16\n";

static struct {
	struct opt_common c;
	const char *field, *val_rows, *val_out, *to;
	struct opt_list match;
	double val;
	uint64_t save_every;
	bool decode, jsonl;
} o = { .c = OPT_COMMON_INIT, .field = "text", .to = "shard", .save_every = 256 << 20 };

static const struct opt opts[] = {
	OPT_OUTPUT(&o.c),
	OPT_STR(0, "field", &o.field, "KEY", "the text in a JSON line or Parquet row"),
	OPT_LIST(0, "match", &o.match, "GLOB", "members of archives to read, * crosses /; default: all"),
	OPT_F64(0, "val", &o.val, 0, 1, "share of documents, chosen by hash, that goes to --val-out"),
	OPT_STR(0, "val-rows", &o.val_rows, "FILE", "numbers of the documents that go to --val-out, in this order"),
	OPT_STR(0, "val-out", &o.val_out, "FILE", "where validation documents go"),
	OPT_STR(0, "to", &o.to, "KIND", "shard, nanogpt or llmc: what is written"),
	OPT_FLAG('d', "decode", &o.decode, "tokens to text, <|endoftext|> between documents"),
	OPT_FLAG(0, "jsonl", &o.jsonl, "with -d: a JSON line for each document"),
	OPT_SIZE(0, "save-every", &o.save_every, 1, 1e18, "text between states to resume from"),
	OPT_THREADS(&o.c), OPT_SEED(&o.c), OPT_QUIET(&o.c), OPT_END
};

struct val_row {
	uint64_t doc, rank;
};

struct totals {
	struct place done;      /* written up to here */
	uint64_t docs, text_bytes;
};

struct run {
	char **paths;
	struct encoder *encoder;
	enum sink_format format;
	struct val_row *rows;
	size_t n_rows;
	struct sink *train;
	struct heldout *val;            /* NULL: no split */
	struct totals t;
	bool resumable;                 /* a state may be kept */
	struct timespec began;
	uint64_t unsaved;               /* bytes of text since the last state */
};
static struct run run;

/* ---- the split ---- */

static int by_doc(const void *a, const void *b)
{
	const struct val_row *x = a, *y = b;

	return x->doc < y->doc ? -1 : x->doc > y->doc;
}

static void read_val_rows(struct recipe *r)
{
	struct buf text = { 0 };
	size_t cap = 0;

	read_file(o.val_rows, &text, SIZE_MAX / 2);
	for (char *save, *s = strtok_r(text.p, " \t\r\n", &save); s; s = strtok_r(NULL, " \t\r\n", &save)) {
		if (run.n_rows == cap) {
			cap = cap ? 2 * cap : 4096;
			run.rows = xrealloc(run.rows, cap, sizeof(*run.rows));
		}
		if (!parse_u64(s, &run.rows[run.n_rows].doc))
			die("'%s': '%s' is not the number of a document", o.val_rows, s);
		run.rows[run.n_rows].rank = run.n_rows;
		run.n_rows++;
	}
	recipe_add(r, "val-rows", "%016llx", (unsigned long long)XXH3_64bits(run.rows, run.n_rows * sizeof(*run.rows)));
	buf_free(&text);
	if (!run.n_rows)
		die("'%s' has no numbers of documents", o.val_rows);
	qsort(run.rows, run.n_rows, sizeof(*run.rows), by_doc);
	for (size_t i = 1; i < run.n_rows; i++)
		if (run.rows[i].doc == run.rows[i - 1].doc)
			die("'%s' has document %llu twice", o.val_rows, (unsigned long long)run.rows[i].doc);
}

/* Whether the document goes to validation; *key: its place there. */
static bool held_out(uint64_t doc, uint64_t *key)
{
	const struct val_row want = { doc, 0 }, *row;

	if (!run.val)
		return false;
	if (!run.rows)
		return (double)(*key >> 11) * 0x1p-53 < o.val;
	row = bsearch(&want, run.rows, run.n_rows, sizeof(want), by_doc);
	if (row)
		*key = row->rank;
	return row != NULL;
}

/* ---- writing ---- */

static void write_batch(const struct encoded_batch *b)
{
	size_t from = 0, at = 0; /* ids from … at go to train in one write */

	for (size_t i = 0; i < b->n; i++) {
		const size_t end = b->doc[i].end;
		uint64_t key = b->doc[i].key;

		if (held_out(run.t.docs++, &key)) {
			sink_write(run.train, b->ids + from, at - from);
			heldout_add(run.val, key, b->ids + at, end - at);
			from = end;
		}
		at = end;
	}
	if (at > from)
		sink_write(run.train, b->ids + from, at - from);
	run.t.done = b->behind;
	run.t.text_bytes += b->text_bytes;
	run.unsaved += b->text_bytes;
	prog_note("%llu documents, %llu tokens", (unsigned long long)run.t.docs,
		  (unsigned long long)(sink_tokens(run.train) + (run.val ? heldout_tokens(run.val) : 0)));
}

static void save(const struct recipe *r)
{
	struct buf st = { 0 };

	buf_add(&st, &run.t, sizeof(run.t));
	if (run.val)
		heldout_save(run.val, &st);
	sink_save(run.train, &st);
	state_save(o.c.output, r, &st);
	buf_free(&st);
	run.unsaved = 0;
}

static void meta_of(struct meta *m, const char *split)
{
	struct buf b = { 0 };

	buf_printf(&b, "tokenize %d --field %s", OUTPUT_VERSION, o.field);
	for (size_t i = 0; i < o.match.n; i++)
		buf_printf(&b, " --match %s", o.match.v[i]);
	if (o.val_rows)
		buf_printf(&b, " --val-rows %zu", run.n_rows);
	else if (o.val_out)
		buf_printf(&b, " --val %.17g --seed %llu", o.val, (unsigned long long)o.c.seed);
	meta_add(m, "vocab", "gpt2");
	meta_add(m, "split", "%s", split);
	meta_add(m, "via", "%s", b.p);
	buf_free(&b);
}

/* On from where the state says; false when there is none, or a kill at the very end took its files. */
static bool resume(const struct recipe *r, const struct meta *m)
{
	struct buf st = { 0 };
	struct cursor c;

	if (!state_load(o.c.output, r, &st))
		return false;
	c = (struct cursor){ st.p, st.n };
	cursor_get(&c, &run.t, sizeof(run.t));
	if (o.val_out)
		run.val = heldout_restore(o.val_out, &c);
	if (!o.val_out || run.val)
		run.train = sink_restore(o.c.output, run.format, m, OUT_KEEP, &c);
	buf_free(&st);
	if (!run.train) {
		if (run.val)
			heldout_close(run.val);
		run.val = NULL;
		run.t = (struct totals){ 0 };
		return false;
	}
	say("going on after %llu documents", (unsigned long long)run.t.docs);
	encoder_skip(run.encoder, run.t.done);
	return true;
}

static void open_outputs(const struct recipe *r)
{
	const int flags = run.resumable ? OUT_KEEP : 0;
	struct meta m = { 0 };

	meta_of(&m, o.val_out ? "train" : "all");
	if (!run.resumable || !resume(r, &m)) {
		run.train = sink_open(o.c.output, run.format, &m, flags);
		if (o.val_out)
			run.val = heldout_open(o.val_out, flags);
	}
	meta_free(&m);
}

static void write_val(void)
{
	struct meta m = { 0 };
	struct sink *s;

	meta_of(&m, "val");
	s = sink_open(o.val_out, run.format, &m, 0);
	heldout_drain(run.val, s);
	sink_stat(s, "documents", heldout_count(run.val));
	sink_finish(s);
	meta_free(&m);
}

/* Train is renamed after val: once it has its name and stamp, all is there. */
static void finish(const struct recipe *r)
{
	const uint64_t val_docs = run.val ? heldout_count(run.val) : 0;
	const uint64_t val_tokens = run.val ? heldout_tokens(run.val) : 0, train_tokens = sink_tokens(run.train);

	if (run.t.docs == 0)
		die("there are no documents in the input");
	if (run.n_rows && run.rows[run.n_rows - 1].doc >= run.t.docs)
		die("'%s' has document %llu, but there are %llu", o.val_rows,
		    (unsigned long long)run.rows[run.n_rows - 1].doc, (unsigned long long)run.t.docs);
	if (run.val)
		write_val();
	sink_stat(run.train, "documents", run.t.docs - val_docs);
	sink_finish(run.train);
	if (run.resumable) {
		recipe_stamp(r, o.c.output);
		inputs_remember(o.c.output, run.began);
	}
	if (run.val)
		heldout_close(run.val);
	if (run.resumable)
		state_drop(o.c.output);
	prog_line("%llu documents, %llu tokens; for validation %llu documents, %llu tokens",
		  (unsigned long long)(run.t.docs - val_docs), (unsigned long long)train_tokens,
		  (unsigned long long)val_docs, (unsigned long long)val_tokens);
	if (o.val > 0 && val_docs == 0)
		warn("no document went to '%s': cut the text into more documents or take more for --val", o.val_out);
	prog_finish(run.t.text_bytes, (train_tokens + val_tokens) * sizeof(uint16_t));
}

/* ---- the whole ---- */

static void encode_to(const struct recipe *r)
{
	const struct source_opts so = { .field = o.field, .match = &o.match };
	const struct encoded_batch *b;

	run.encoder = encoder_open(run.paths, &so, o.c.seed, run.format == SINK_LLMC);
	open_outputs(r);
	prog_start("bytes read", inputs_bytes(run.paths));
	while ((b = encoder_next(run.encoder)) != NULL) {
		write_batch(b);
		if (run.resumable && run.unsaved >= o.save_every)
			save(r);
	}
	finish(r);
	encoder_close(run.encoder);
}

static struct recipe *recipe(void)
{
	struct recipe *r = recipe_new("tokenize", OUTPUT_VERSION);

	recipe_add(r, "field", "%s", o.field);
	for (size_t i = 0; i < o.match.n; i++)
		recipe_add(r, "match", "%s", o.match.v[i]);
	recipe_add(r, "to", "%s", o.to);
	if (o.val_out && !o.val_rows)
		recipe_add(r, "val", "%.17g %llu", o.val, (unsigned long long)o.c.seed);
	if (o.val_rows)
		read_val_rows(r);
	return r;
}

/* Of a run killed after its last output had its name. */
static void remove_rest(void)
{
	char *docs = o.val_out ? xformat("%s.docs.part", o.val_out) : NULL;

	if (docs)
		unlink(docs);
	state_drop(o.c.output);
	free(docs);
}

static bool is_fresh(const struct recipe *r)
{
	if ((o.val_out && !file_exists(o.val_out)) || !recipe_fresh(r, o.c.output))
		return false;
	if (o.val_out)
		file_touch(o.val_out);
	inputs_remember(o.c.output, run.began);
	remove_rest();
	return true;
}

static int run_encode(void)
{
	const bool file = strcmp(o.c.output, "-") != 0;
	struct recipe *r = recipe();

	run.resumable = file && inputs_hashable(run.paths);
	if (run.resumable)
		run.began = inputs_recipe(r, run.paths, o.c.output);
	if (!run.resumable || !is_fresh(r)) {
		if (file)
			recipe_unstamp(o.c.output);
		if (file && !run.resumable)
			state_drop(o.c.output); /* of another run, whose part this one overwrites */
		encode_to(r);
	}
	free(run.rows);
	recipe_free(r);
	return 0;
}

/* ---- and back ---- */

static void decode_doc(struct out *out, const struct doc *d, bool first)
{
	struct buf text = { 0 }, line = { 0 };
	size_t n;

	if (!first && !o.jsonl)
		buf_add(&text, "<|endoftext|>", 13);
	for (size_t i = 0; i < d->n_ids; i++) {
		const char *p = bpe_token(bpe_gpt2(), d->ids[i], &n);

		buf_add(&text, p, n);
	}
	if (o.jsonl) {
		buf_printf(&line, "{\"text\": ");
		jsonl_quote(&line, text.n ? text.p : "", text.n);
		buf_printf(&line, "}\n");
		out_write(out, line.p, line.n);
	} else if (text.n) {
		out_write(out, text.p, text.n);
	}
	buf_free(&text);
	buf_free(&line);
}

static int run_decode(void)
{
	const struct source_opts so = { .field = o.field, .match = &o.match, .shards = true };
	struct out *out = out_open(o.c.output, OUT_TEXT);
	uint64_t docs = 0;
	struct doc d;

	for (char **p = run.paths; *p; p++) {
		struct source *s = source_open(*p, &so);

		while (source_next(s, &d)) {
			if (d.text)
				die("cannot decode '%s': text, not tokens", *p);
			decode_doc(out, &d, docs++ == 0);
		}
		source_close(s);
	}
	out_commit(out);
	return 0;
}

int main(int argc, char **argv)
{
	static const char *const formats[] = { [SINK_SHARD] = "shard", [SINK_NANOGPT] = "nanogpt",
		[SINK_LLMC] = "llmc", NULL };
	char **paths = opt_parse(argc, argv, opts, usage, &o.c);

	run.format = (enum sink_format)opt_choice("--to", o.to, formats);
	if (o.val > 0 && o.val_rows)
		die_usage("--val and --val-rows exclude each other");
	if ((o.val > 0 || o.val_rows) && !o.val_out)
		die_usage("--val-out is missing: where validation documents go");
	if (o.val_out && !strcmp(o.val_out, "-"))
		die_usage("--val-out must be a file");
	if (o.val_out && !strcmp(o.val_out, o.c.output))
		die_usage("-o and --val-out are the same file");
	if (run.format == SINK_LLMC && !strcmp(o.c.output, "-") && !o.decode)
		die_usage("--to llmc needs -o FILE: its header holds the number of tokens");
	if (o.jsonl && !o.decode)
		die_usage("--jsonl goes with -d");
	pool_start(o.c.threads);
	run.paths = inputs_expand(paths[0] ? paths : (char *[]){ (char *)"-", NULL });
	const int status = o.decode ? run_decode() : run_encode();

	for (char **p = run.paths; *p; p++)
		free(*p);
	free(run.paths);
	free(o.match.v);
	return status;
}
