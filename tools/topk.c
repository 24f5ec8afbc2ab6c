/* topk: statistics, examples in context, logit weights and ablation effects of every feature */
#include "topk.h"

#include <string.h>

#include "bpe.h"
#include "opt.h"
#include "pool.h"
#include "prog.h"

enum { OUTPUT_VERSION = 4 };

static const char usage[] =
	"usage: topk [options] --gpt GPT --sae SAE --contexts C -o DIR TOKENS…\n"
	"Runs every token of C contexts through the GPT and the autoencoder and keeps, of every\n"
	"feature, how often and how strongly it is active, what ablating it does to the logit of the\n"
	"next token, the strongest tokens, samples of equal intervals of activation, the logits it\n"
	"raises and lowers, what ablating it does to the prediction at each token shown, the features\n"
	"and neurons most like it, and the tokens around it.  DIR gets a shard a field and index.json.\n"
	"e.g.:  topk --gpt gpt.safetensors --sae sae.safetensors --contexts 2000 --skip 16000 -o top train.zst\n";

static struct {
	struct opt_common c;
	const char *gpt, *sae;
	uint64_t contexts, skip, k, intervals, samples, radius, top_radius, bins, logits, near, align, neighbours, sampled,
		batch, cache;
	double save_every;
} o = {
	.c = OPT_COMMON_INIT, .k = 10, .intervals = 12, .samples = 5, .radius = 10, .top_radius = 32, .bins = 50,
	.logits = 10, .near = 8, .align = 5, .neighbours = 5, .sampled = 256, .batch = 4,
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
	OPT_U64(0, "radius", &o.radius, 0, 1000, "tokens shown on either side of a sampled one"),
	OPT_U64(0, "top-radius", &o.top_radius, 0, 1000, "tokens shown on either side of the strongest"),
	OPT_U64(0, "bins", &o.bins, 1, 10000, "bars of a histogram"),
	OPT_U64(0, "logits", &o.logits, 1, 1000, "largest and smallest logit weights kept"),
	OPT_U64(0, "near", &o.near, 1, 1000, "most similar features listed, by decoder and by company"),
	OPT_U64(0, "align", &o.align, 1, 1000, "most aligned neurons listed"),
	OPT_U64(0, "neighbours", &o.neighbours, 1, 1000, "tokens listed before, at and after"),
	OPT_U64(0, "sampled", &o.sampled, 1, 65536, "firings of a feature that company and neighbours are counted on"),
	OPT_U64(0, "batch", &o.batch, 1, 1 << 20, "contexts computed at once"),
	OPT_SIZE(0, "cache", &o.cache, 1 << 16, 1e18, "memory for decoded token frames"),
	OPT_SIZE('m', "memory", &o.c.memory, 0, 1e18, "memory for activations kept from pass to pass"),
	OPT_F64(0, "save-every", &o.save_every, 0, 1e9, "seconds between states to resume from"),
	OPT_THREADS(&o.c), OPT_SEED(&o.c), OPT_QUIET(&o.c), OPT_DEVICE(&o.c), OPT_END
};

static uint64_t min64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* ---- what was asked for ---- */

static struct recipe *recipe(const struct run *r)
{
	const struct { const char *key; uint64_t v; } numbers[] = {
		{ "contexts", o.contexts }, { "skip", o.skip }, { "k", o.k }, { "intervals", o.intervals },
		{ "samples", o.samples }, { "radius", o.radius }, { "top_radius", o.top_radius }, { "bins", o.bins },
		{ "logits", o.logits }, { "near", o.near }, { "align", o.align }, { "neighbours", o.neighbours },
		{ "sampled", o.sampled }, { "batch", o.batch }, { "seed", o.c.seed },
	};
	struct recipe *p = recipe_new("topk", OUTPUT_VERSION);

	for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
		recipe_add(p, numbers[i].key, "%llu", (unsigned long long)numbers[i].v);
	recipe_add(p, "device", "%s %s", o.c.device, backend_precision(o.c.device, o.c.precision));
	recipe_add(p, "gpt", "%s", r->m.gpt_id);
	recipe_add(p, "sae", "%s", r->m.sae_id);
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

static void check_sizes(const struct run *r, const struct gpt_config *c)
{
	const uint64_t left = r->tok.count - min64(o.skip, r->tok.count);

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

static void open_inputs(struct run *r, char **paths)
{
	const struct gpt_config *c = &r->m.c;

	r->tok = windows_open(paths, c->block_size, c->vocab_size, o.cache);
	r->rows = (struct rows){ .seed = o.c.seed, .contexts = o.contexts, .block = c->block_size,
		.windows = r->tok.count };
	check_sizes(r, c);
	r->shape = (struct top_shape){ .F = r->m.F, .K = o.k, .I = o.intervals, .M = o.samples, .R = o.radius,
		.RT = o.top_radius, .H = o.bins, .L = o.logits, .N = o.near, .A = o.align, .B = o.neighbours,
		.P = firings_fit(r->m.F, o.sampled) };
	r->gpt_meta = json_object();
	r->sae_meta = json_object();
	tensors_meta_each(r->m.gpt, add_meta, r->gpt_meta);
	tensors_meta_each(r->m.sae, add_meta, r->sae_meta);
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

static void summary(const struct run *r)
{
	size_t active = 0;

	for (size_t k = 0; k < r->shape.F; k++)
		active += r->x->active[k] > 0;
	say("%zu of %zu features active on %llu tokens, %zu examples", active, r->shape.F,
	    (unsigned long long)(o.contexts * r->tok.T), r->w->n);
	if (r->fired->P < o.sampled)
		say("%zu firings of each are sampled, not %llu: so many fit", r->fired->P,
		    (unsigned long long)o.sampled);
}

static void make(struct run *r)
{
	struct outdir *dir = outdir_open(o.c.output, "index.json");
	struct recipe *p = recipe(r), *state = recipe(r);
	char *tool = xformat("topk %d", OUTPUT_VERSION);

	passes_start(r, o.c.device, o.c.precision);
	recipe_add(state, "backend", "%s %s", r->g->be->name, r->g->be->precision); /* a run goes on only where it began */
	passes_run(r, state);
	const uint64_t bytes = dir_write(r, tool, outdir_part(dir));

	recipe_unstamp(o.c.output);
	outdir_commit(dir);
	state_drop(o.c.output);
	recipe_stamp(p, o.c.output);
	summary(r);
	prog_finish(o.contexts * r->tok.T * sizeof(uint16_t), bytes);
	free(tool);
	recipe_free(p);
	recipe_free(state);
	passes_end(r);
}

int main(int argc, char **argv)
{
	char **paths = opt_parse(argc, argv, opts, usage, &o.c);

	check_options(paths);
	pool_start(o.c.threads);
	struct run r = { .m = models_open(o.gpt, o.sae), .output = o.c.output, .contexts = o.contexts, .skip = o.skip, .batch = o.batch,
		.seed = o.c.seed, .memory = o.c.memory, .save_every = o.save_every };

	open_inputs(&r, paths);
	struct recipe *p = recipe(&r);

	if (!is_fresh(&r, p))
		make(&r);
	recipe_free(p);
	json_decref(r.gpt_meta);
	json_decref(r.sae_meta);
	windows_close(&r.tok);
	models_close(&r.m);
	return 0;
}
