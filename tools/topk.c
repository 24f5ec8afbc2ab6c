/* topk: statistics, examples in context, logit weights and ablation effects of every feature */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "active.h"
#include "attrib.h"
#include "bpe.h"
#include "examples.h"
#include "opt.h"
#include "pool.h"
#include "prog.h"
#include "rows.h"
#include "show.h"
#include "windows.h"

enum { OUTPUT_VERSION = 2 };

static const char usage[] =
	"usage: topk [options] --gpt GPT --sae SAE --contexts C -o DIR TOKENS…\n"
	"Runs every token of C contexts through the GPT and the autoencoder and keeps, of every\n"
	"feature, how often and how strongly it is active, what ablating it does to the logit of the\n"
	"next token, the strongest tokens, samples of equal intervals of activation, the logits it\n"
	"raises and lowers, and what ablating it does to the prediction at each token shown.  DIR gets a shard a field and index.json.\n"
	"e.g.:  topk --gpt gpt.safetensors --sae sae.safetensors --contexts 2000 --skip 16000 -o top train.zst\n";

static struct {
	struct opt_common c;
	const char *gpt, *sae;
	uint64_t contexts, skip, k, intervals, samples, radius, bins, logits, batch, cache;
	double save_every;
} o = {
	.c = OPT_COMMON_INIT, .k = 10, .intervals = 12, .samples = 5, .radius = 10, .bins = 50, .logits = 10, .batch = 4,
	.cache = 256 << 20, .save_every = 30,
};

static const struct opt opts[] = {
	OPT_STR('o', "output", &o.c.output, "DIR", "where the result goes"),
	OPT_STR(0, "gpt", &o.gpt, "GPT", "the checkpoint"),
	OPT_STR(0, "sae", &o.sae, "SAE", "the autoencoder"),
	OPT_U64(0, "contexts", &o.contexts, 1, 1e15, "contexts, each another window of the tokens"),
	OPT_U64(0, "skip", &o.skip, 0, 1e15, "contexts to pass over first: those trained on"),
	OPT_U64('k', "k", &o.k, 1, 1000, "strongest activations kept of each feature"),
	OPT_U64(0, "intervals", &o.intervals, 1, 1000, "equal parts of a feature's activations"),
	OPT_U64(0, "samples", &o.samples, 0, 1000, "tokens sampled from each interval"),
	OPT_U64(0, "radius", &o.radius, 0, 1000, "tokens shown on either side"),
	OPT_U64(0, "bins", &o.bins, 1, 10000, "bars of a histogram"),
	OPT_U64(0, "logits", &o.logits, 1, 1000, "largest and smallest logit weights kept"),
	OPT_U64(0, "batch", &o.batch, 1, 1 << 20, "contexts computed at once"),
	OPT_SIZE(0, "cache", &o.cache, 1 << 16, 1e18, "memory for decoded token frames"),
	OPT_SIZE('m', "memory", &o.c.memory, 0, 1e18, "memory for activations kept from pass to pass"),
	OPT_F64(0, "save-every", &o.save_every, 0, 1e9, "seconds between states to resume from"),
	OPT_THREADS(&o.c), OPT_SEED(&o.c), OPT_QUIET(&o.c), OPT_DEVICE(&o.c), OPT_END
};


enum pass { SCAN, PICK, SHOW, PASSES };

struct run {
	struct gpt *g;
	struct sae *s;
	struct windows tok;
	struct rows rows;
	struct top_shape shape;
	char gpt_id[33], sae_id[33];
	json_t *gpt_meta, *sae_meta;
	struct examples *x;
	struct attrib *a;
	struct show *w;         /* from the third pass on */
	uint64_t pass, next;    /* where the run is: pass, context to go on from */
	double saved;           /* when the last state was */
	/* one batch of contexts */
	size_t n;
	int32_t *idx, *targets;
	struct pairs {          /* active (token, feature) of it, host */
		uint32_t *rows, *feats;
		float *f, *effect;
		size_t cap;
	} p;
	/* What the first pass found, for the second: batches from context kept_from on, as many as memory holds */
	struct active **kept;
	size_t n_kept;
	uint64_t kept_from, kept_bytes;
	bool full;
};

static uint64_t min64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* ---- three passes over the same contexts ---- */

static void read_context(void *arg, size_t b)
{
	struct run *r = arg;
	const size_t T = r->tok.T;

	windows_read(&r->tok, rows_window(&r->rows, o.skip + r->next + b), r->idx + b * T, r->targets + b * T);
}

static struct gpt_hook forward(struct run *r)
{
	pool_for(r->n, read_context, r);
	return gpt_forward_hook(r->g, r->idx, r->n, r->tok.T);
}

static void grow(struct pairs *p, size_t n)
{
	if (n <= p->cap)
		return;
	p->cap = n + n / 4;
	p->rows = xrealloc(p->rows, p->cap, sizeof(*p->rows));
	p->feats = xrealloc(p->feats, p->cap, sizeof(*p->feats));
	p->f = xrealloc(p->f, p->cap, sizeof(*p->f));
	p->effect = xrealloc(p->effect, p->cap, sizeof(*p->effect));
}

/* What is active in a batch, and its effects on logits */
static struct active *encode(struct run *r)
{
	const struct backend *be = r->g->be;
	const struct gpt_hook h = forward(r);
	const size_t rows = r->n * r->tok.T;
	const struct sae_active *found = &r->s->active;
	struct pairs *p = &r->p;

	sae_find_active(r->s, h.acts, rows);
	attrib_residual(r->a, &h, rows);
	struct active *a = active_new(r->shape.F, found->n);

	grow(p, found->n);
	be->get(p->rows, found->rows, found->n * sizeof(*p->rows));
	be->get(p->feats, found->feats, found->n * sizeof(*p->feats));
	be->get(p->f, found->f, found->n * sizeof(*p->f));
	attrib_logit_active(r->a, found, r->targets, rows, p->effect);
	active_fill(a, p->rows, p->feats, p->f, p->effect, found->n);
	return a;
}

/* Keeps what the first pass found or, once memory is full, forgets it. */
static void keep(struct run *r, struct active *a)
{
	r->full = r->full || r->kept_bytes + active_bytes(a) > o.c.memory;
	if (r->full) {
		active_free(a);
		return;
	}
	if (!r->n_kept)
		r->kept_from = r->next;
	r->kept = xrealloc(r->kept, r->n_kept + 1, sizeof(struct active *));
	r->kept[r->n_kept++] = a;
	r->kept_bytes += active_bytes(a);
}

static void scan(struct run *r)
{
	struct active *a = encode(r);

	examples_scan(r->x, a);
	keep(r, a);
}

static void pick(struct run *r)
{
	const size_t i = (r->next - r->kept_from) / o.batch;
	const bool known = r->next >= r->kept_from && i < r->n_kept;
	struct active *a = known ? r->kept[i] : encode(r);

	examples_pick(r->x, a, r->tok.T, r->next * r->tok.T);
	active_free(a);
	if (known)
		r->kept[i] = NULL;
}

static void show(struct run *r)
{
	const size_t T = r->tok.T, rows = r->n * T;
	const uint64_t first = r->next * T;

	if (!show_wants(r->w, first, rows))
		return;
	const struct gpt_hook h = forward(r);

	attrib_residual(r->a, &h, rows);
	show_block(r->w, r->idx, r->targets, r->n, T, first);
}

static void one_batch(struct run *r)
{
	static void (*const of_pass[PASSES])(struct run *r) = { scan, pick, show };

	r->n = min64(o.batch, o.contexts - r->next);
	of_pass[r->pass](r);
	r->next += r->n;
	prog_step(r->n);
}

static void save(const struct run *r, const struct recipe *p)
{
	const uint64_t head[2] = { r->pass, r->next };
	struct buf st = { 0 };

	buf_add(&st, head, sizeof(head));
	examples_save(r->x, &st);
	if (r->pass == SHOW)
		show_save(r->w, &st);
	state_save(o.c.output, p, &st);
	buf_free(&st);
}

static void resume(struct run *r, const struct recipe *p)
{
	struct buf st = { 0 };
	uint64_t head[2];

	if (!state_load(o.c.output, p, &st))
		return;
	struct cursor c = { st.p, st.n };

	cursor_get(&c, head, sizeof(head));
	examples_load(r->x, &c);
	r->pass = head[0];
	r->next = head[1];
	if (r->pass == SHOW) {
		r->w = show_new(r->x, r->a);
		show_load(r->w, &c, r->next * r->tok.T);
	}
	buf_free(&st);
	say("going on at context %llu of pass %llu", (unsigned long long)r->next, (unsigned long long)r->pass + 1);
}

static void begin_pass(struct run *r)
{
	static const char *const notes[PASSES] = { "maxima", "examples", "effects" };

	if (r->pass == SHOW && !r->w) {
		examples_finish(r->x);
		r->w = show_new(r->x, r->a);
	}
	prog_note("%s", notes[r->pass]);
}

static void run_passes(struct run *r, const struct recipe *p)
{
	r->saved = now_secs();
	prog_start("context passes", PASSES * o.contexts - r->pass * o.contexts - r->next);
	for (; r->pass < PASSES; r->pass++, r->next = 0) {
		begin_pass(r);
		while (r->next < o.contexts) {
			one_batch(r);
			if (now_secs() - r->saved < o.save_every)
				continue;
			save(r, p);
			r->saved = now_secs();
		}
	}
}

/* ---- logit weights ---- */

struct logits {
	struct run *r;
	size_t from;
	float *w;               /* (ATTRIB_BLOCK,V) */
	uint16_t *ids;          /* (F,2L) */
	float *values, *range;  /* (F,2L), (F,2) */
	uint32_t *hist;         /* (F,H) */
};

static size_t real_tokens(const struct run *r)
{
	return min64(r->g->c.vocab_size, BPE_TOKENS);
}

static void logits_feature(void *arg, size_t i)
{
	const struct logits *l = arg;
	const struct top_shape *s = &l->r->shape;
	const size_t V = l->r->g->c.vocab_size, k = l->from + i;
	struct attrib_words out = { s->L, s->H, 0, l->ids + k * 2 * s->L, l->values + k * 2 * s->L,
		l->range + k * 2, l->hist + k * s->H };

	attrib_words(&out, l->w + i * V, V, real_tokens(l->r));
}

static struct logits logits_all(struct run *r)
{
	const struct top_shape *s = &r->shape;
	struct logits l = { .r = r };

	l.w = xcalloc(ATTRIB_BLOCK, r->g->c.vocab_size * sizeof(*l.w));
	l.ids = xcalloc(s->F, 2 * s->L * sizeof(*l.ids));
	l.values = xcalloc(s->F, 2 * s->L * sizeof(*l.values));
	l.range = xcalloc(s->F, 2 * sizeof(*l.range));
	l.hist = xcalloc(s->F, s->H * sizeof(*l.hist));
	prog_note("logit weights");
	for (size_t n; l.from < s->F; l.from += n) {
		n = min64(ATTRIB_BLOCK, s->F - l.from);
		attrib_logits(r->a, l.from, n, l.w);
		pool_for(n, logits_feature, &l);
	}
	return l;
}

static void logits_free(struct logits *l)
{
	free(l->w);
	free(l->ids);
	free(l->values);
	free(l->range);
	free(l->hist);
}

/* ---- the directory ---- */

static struct meta provenance(const struct run *r)
{
	struct meta m = { 0 };

	meta_add(&m, "gpt", "%s", r->gpt_id);
	meta_add(&m, "sae", "%s", r->sae_id);
	meta_add(&m, "tokens", "%s", r->tok.id);
	meta_add(&m, "via", "topk %d --contexts %llu --skip %llu --radius %llu --seed %llu", OUTPUT_VERSION,
		 (unsigned long long)o.contexts, (unsigned long long)o.skip, (unsigned long long)o.radius,
		 (unsigned long long)o.c.seed);
	return m;
}

/* One shard; its line in the index.  Returns the compressed bytes. */
static uint64_t write_field(const struct run *r, const char *dir, enum top_name which, const void *data,
			    json_t *fields)
{
	const struct top_field f = top_field(&r->shape, which);
	struct meta m = provenance(r);
	const struct shard_spec spec = { f.dtype, f.cols, 0, 0, 1, &m, 0 };
	char *path = top_path(dir, &f);
	struct shard_writer *w = shard_create(path, &spec, 0);
	struct stat st;

	shard_write(w, data, f.rows);
	shard_finish(w);
	json_object_set_new(fields, f.name, json_pack("{s:s, s:s, s:I, s:I}", "file", strrchr(path, '/') + 1,
		"dtype", dtype_name(f.dtype), "rows", (json_int_t)f.rows, "cols", (json_int_t)f.cols));
	if (stat(path, &st) != 0)
		die_errno("cannot read '%s'", path);
	meta_free(&m);
	free(path);
	return (uint64_t)st.st_size;
}

static float *means(const struct examples *x)
{
	float *mean = xcalloc(x->s.F, sizeof(*mean));

	for (size_t k = 0; k < x->s.F; k++)
		mean[k] = x->active[k] ? (float)(x->sum[k] / x->active[k]) : 0;
	return mean;
}

static float *mean_effects(const struct examples *x)
{
	float *mean = xcalloc(x->s.F, 2 * sizeof(*mean));

	for (size_t i = 0; i < 2 * x->s.F; i++)
		mean[i] = x->active[i / 2] ? (float)(x->effect[i] / x->active[i / 2]) : 0;
	return mean;
}

static uint64_t write_fields(struct run *r, const char *dir, json_t *fields)
{
	struct logits l = logits_all(r);
	float *mean = means(r->x), *effect = mean_effects(r->x);
	const void *const data[TOP_N_FIELDS] = {
		[TOP_ACTIVE] = r->x->active, [TOP_MAX] = r->x->max, [TOP_MEAN] = mean,
		[TOP_HIST] = r->x->hist, [TOP_INTERVAL] = r->x->interval, [TOP_CENTRE] = r->x->centre,
		[TOP_TOKENS] = r->w->tokens, [TOP_ACTS] = r->x->acts, [TOP_EFFECTS] = r->w->effects,
		[TOP_LOGIT_EFFECTS] = r->w->logit_effects, [TOP_LOGIT_EFFECT] = effect,
		[TOP_LOGIT_IDS] = l.ids, [TOP_LOGITS] = l.values, [TOP_LOGIT_RANGE] = l.range,
		[TOP_LOGIT_HIST] = l.hist,
	};
	uint64_t bytes = 0;

	for (size_t i = 0; i < TOP_N_FIELDS; i++)
		bytes += write_field(r, dir, (enum top_name)i, data[i], fields);
	free(mean);
	free(effect);
	logits_free(&l);
	return bytes;
}

static void write_index(struct run *r, const char *dir, json_t *fields)
{
	const struct top_shape *s = &r->shape;
	const struct { const char *key; uint64_t v; } numbers[] = {
		{ "format", TOP_FORMAT }, { "features", s->F }, { "inputs", r->s->D }, { "top_k", s->K },
		{ "intervals", s->I }, { "samples", s->M }, { "radius", s->R }, { "bins", s->H },
		{ "logits", s->L }, { "tokens", o.contexts * r->tok.T }, { "contexts", o.contexts },
		{ "skip", o.skip }, { "block", r->tok.T }, { "vocab", r->g->c.vocab_size }, { "seed", o.c.seed },
	};
	json_t *index = json_object();
	char *path = xformat("%s/index.json", dir);

	for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
		json_object_set_new(index, numbers[i].key, json_integer((json_int_t)numbers[i].v));
	json_object_set(index, "gpt", r->gpt_meta);
	json_object_set(index, "sae", r->sae_meta);
	json_object_set_new(index, "ids", json_pack("{s:s, s:s, s:s}", "gpt", r->gpt_id, "sae", r->sae_id,
						    "tokens", r->tok.id));
	json_object_set(index, "fields", fields);
	char *text = json_dumps(index, JSON_INDENT(1) | JSON_PRESERVE_ORDER);

	if (!text)
		BUG("index.json cannot be written");
	file_write(path, text, strlen(text));
	free(text);
	free(path);
	json_decref(index);
}

/* ---- what was asked for ---- */

static struct recipe *recipe(const struct run *r)
{
	const struct { const char *key; uint64_t v; } numbers[] = {
		{ "contexts", o.contexts }, { "skip", o.skip }, { "k", o.k }, { "intervals", o.intervals },
		{ "samples", o.samples }, { "radius", o.radius }, { "bins", o.bins }, { "logits", o.logits },
		{ "batch", o.batch }, { "seed", o.c.seed },
	};
	struct recipe *p = recipe_new("topk", OUTPUT_VERSION);

	for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
		recipe_add(p, numbers[i].key, "%llu", (unsigned long long)numbers[i].v);
	recipe_add(p, "device", "%s %s", o.c.device, backend_precision(o.c.device, o.c.precision));
	recipe_add(p, "gpt", "%s", r->gpt_id);
	recipe_add(p, "sae", "%s", r->sae_id);
	recipe_add(p, "tokens", "%s", r->tok.id);
	return p;
}

/* "top/" is top: its stamp and state lie beside it. */
static void check_options(char **paths)
{
	const char *missing = !o.gpt ? "--gpt is" : !o.sae ? "--sae is" : !o.contexts ? "--contexts is" :
		!paths[0] ? "tokens are" : NULL;

	if (missing)
		die_usage("%s missing", missing);
	if (!strcmp(o.c.output, "-"))
		die_usage("the result is a directory; say -o DIR");
	o.c.output = file_plain(o.c.output);
}

static void check_sizes(const struct run *r, const struct gpt_config *c, const struct tensor *enc)
{
	const uint64_t left = r->tok.count - min64(o.skip, r->tok.count);

	if (!enc || enc->ndim != 2 || !enc->shape[0] || !enc->shape[1])
		die("'%s' is no autoencoder: no matrix encoder.weight", o.sae);
	if (enc->shape[1] != 4 * c->n_embd)
		die("'%s' reads %zu activations; '%s' has %zu", o.sae, enc->shape[1], o.gpt, 4 * c->n_embd);
	if (o.contexts > left)
		die("'%s' has %llu windows of %zu tokens behind the %llu skipped; --contexts asks for %llu",
		    r->tok.name, (unsigned long long)left, r->tok.T, (unsigned long long)o.skip,
		    (unsigned long long)o.contexts);
	if (o.contexts >= TOP_NO_EXAMPLE / r->tok.T)
		die("--contexts %llu: %llu tokens at most can be numbered", (unsigned long long)o.contexts,
		    (unsigned long long)TOP_NO_EXAMPLE);
	if (c->vocab_size > TOP_NO_TOKEN)
		die("'%s' has a vocabulary of %zu; at most %d can be shown", o.gpt, c->vocab_size, TOP_NO_TOKEN);
	if (2 * o.logits > min64(c->vocab_size, BPE_TOKENS))
		die("--logits %llu: a vocabulary of %zu has not twice as many tokens",
		    (unsigned long long)o.logits, c->vocab_size);
}

static void add_meta(void *arg, const char *key, const char *value)
{
	json_object_set_new(arg, key, json_string(value));
}

static void open_inputs(struct run *r, const struct tensors *gpt, struct tensors *sae,
			const struct gpt_config *c, char **paths)
{
	const struct tensor *enc = tensors_find(sae, "encoder.weight");

	r->tok = windows_open(paths, c->block_size, c->vocab_size, o.cache);
	r->rows = (struct rows){ .seed = o.c.seed, .contexts = o.contexts, .block = c->block_size,
		.windows = r->tok.count };
	check_sizes(r, c, enc);
	sae_check_gpt(sae, o.sae, r->gpt_id, o.gpt);
	r->shape = (struct top_shape){ enc->shape[0], o.k, o.intervals, o.samples, o.radius, o.bins, o.logits };
	r->gpt_meta = json_object();
	r->sae_meta = json_object();
	tensors_meta_each(gpt, add_meta, r->gpt_meta);
	tensors_meta_each(sae, add_meta, r->sae_meta);
}

/* The same directory is there: make looks at index.json. */
static bool is_fresh(const struct run *r, const struct recipe *p)
{
	char *index = xformat("%s/index.json", o.c.output);
	bool fresh = file_exists(index);

	for (size_t i = 0; i < TOP_N_FIELDS; i++) {
		const struct top_field f = top_field(&r->shape, (enum top_name)i);
		char *path = top_path(o.c.output, &f);

		fresh = fresh && file_exists(path);
		free(path);
	}
	fresh = fresh && recipe_fresh(p, o.c.output);
	if (fresh)
		file_touch(index);
	free(index);
	return fresh;
}

/* ---- the whole ---- */

static void allocate(struct run *r, const struct gpt_config *c, const struct tensors *gpt,
		     const struct tensors *sae)
{
	const struct backend *be = backend_open(o.c.device, o.c.precision);
	const size_t rows = xmul(o.batch, r->tok.T);

	r->g = gpt_new(be, c, o.batch, GPT_EVAL);
	gpt_load(r->g, gpt);
	r->s = sae_new(be, 4 * c->n_embd, r->shape.F, rows, SAE_EVAL);
	sae_load(r->s, sae);
	r->x = examples_new(&r->shape, o.c.seed);
	r->a = attrib_new(r->g, r->s, rows);
	r->idx = xcalloc(rows, sizeof(*r->idx));
	r->targets = xcalloc(rows, sizeof(*r->targets));
}

static void release(struct run *r)
{
	free(r->idx);
	free(r->targets);
	free(r->p.rows);
	free(r->p.feats);
	free(r->p.f);
	free(r->p.effect);
	for (size_t i = 0; i < r->n_kept; i++)
		active_free(r->kept[i]);
	free(r->kept);
	show_free(r->w);
	attrib_free(r->a);
	examples_free(r->x);
	sae_free(r->s);
	gpt_free(r->g);
}

static void summary(const struct run *r)
{
	size_t active = 0;

	for (size_t k = 0; k < r->shape.F; k++)
		active += r->x->active[k] > 0;
	say("%zu of %zu features active on %llu tokens, %zu examples", active, r->shape.F,
	    (unsigned long long)(o.contexts * r->tok.T), r->w->n);
}

static void make(struct run *r, const struct gpt_config *c, const struct tensors *gpt,
		 const struct tensors *sae)
{
	struct outdir *dir = outdir_open(o.c.output, "index.json");
	struct recipe *p = recipe(r), *state = recipe(r);
	json_t *fields = json_object();

	allocate(r, c, gpt, sae);
	recipe_add(state, "backend", "%s %s", r->g->be->name, r->g->be->precision); /* a run goes on only where it began */
	resume(r, state);
	run_passes(r, state);
	const uint64_t bytes = write_fields(r, outdir_part(dir), fields);

	write_index(r, outdir_part(dir), fields);
	recipe_unstamp(o.c.output);
	outdir_commit(dir);
	state_drop(o.c.output);
	recipe_stamp(p, o.c.output);
	summary(r);
	prog_finish(o.contexts * r->tok.T * sizeof(uint16_t), bytes);
	json_decref(fields);
	recipe_free(p);
	recipe_free(state);
	release(r);
}

int main(int argc, char **argv)
{
	struct run r = { 0 };
	char **paths = opt_parse(argc, argv, opts, usage, &o.c);

	check_options(paths);
	pool_start(o.c.threads);
	struct tensors *gpt = tensors_open(o.gpt), *sae = tensors_open(o.sae);
	const struct gpt_config c = gpt_config_from(gpt, o.gpt);

	tensors_id(gpt, r.gpt_id);
	tensors_id(sae, r.sae_id);
	open_inputs(&r, gpt, sae, &c, paths);
	struct recipe *p = recipe(&r);

	if (!is_fresh(&r, p))
		make(&r, &c, gpt, sae);
	recipe_free(p);
	json_decref(r.gpt_meta);
	json_decref(r.sae_meta);
	windows_close(&r.tok);
	tensors_close(gpt);
	tensors_close(sae);
	return 0;
}
