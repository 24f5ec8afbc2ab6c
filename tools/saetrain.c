/* saetrain: trains the sparse autoencoder on shuffled activations, resamples dead neurons, evaluates on
 * validation text.  Steps are 0 … steps-1; a line of metrics says how many are done. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm.h"
#include "metrics.h"
#include "opt.h"
#include "pool.h"
#include "prog.h"
#include "resample.h"
#include "saetrain.h"
#include "tree.h"

enum { OUTPUT_VERSION = 4, L1_BATCH = 8192 };

static const char usage[] =
	"usage: saetrain [options] --gpt GPT --val VAL -o SAE [ACTS…]\n"
	"       saetrain [options] --gpt GPT --val VAL -o SAE --from-tokens --window W TOKENS…\n"
	"       saetrain --eval SAE --gpt GPT --val VAL\n"
	"Trains a sparse autoencoder on shuffled activation shards (or a pipe of them), or on rows that\n"
	"it makes of tokens itself: those of mlpdump with the same options, shuffled.  Writes a\n"
	"safetensors checkpoint and, beside it, metrics as JSON Lines.\n"
	"e.g.:  saetrain --l1 3e-7 --gpt gpt.safetensors --val val.zst --pick pick.zst -o sae.safetensors mix/*.zst\n"
	"       saetrain --gpt gpt.safetensors --val val.zst --contexts 16000 --samples 100 --window 2000 \\\n"
	"               --pick pick.zst -o sae.safetensors --from-tokens train.zst\n";

static const char default_l1[] = "3e-7";

static struct {
	struct opt_common c;
	struct acts_options acts;
	bool from_tokens;
	const char *gpt, *val, *pick, *l1, *l1_mean, *metrics, *init, *eval;
	uint64_t features, batch, leaves, steps, normalise_every, resample_every, resample_events, pick_rows;
	uint64_t eval_every, eval_contexts, log_every;
	double lr, ultra_low, save_every;
} o = {
	.c = OPT_COMMON_INIT, .acts = ACTS_OPTIONS_INIT, .l1 = default_l1, .features = 4096, .batch = 8192, .leaves = 1, .normalise_every = 1000,
	.resample_every = 25000, .resample_events = 4, .pick_rows = 819200, .eval_every = 1000,
	.eval_contexts = 2000, .save_every = 30, .lr = 3e-4, .ultra_low = 1e-3,
};

static const struct opt opts[] = {
	OPT_OUTPUT(&o.c),
	OPT_STR(0, "gpt", &o.gpt, "GPT", "the checkpoint the activations come from"),
	OPT_STR(0, "val", &o.val, "VAL", "token shard to evaluate on"),
	OPT_STR(0, "pick", &o.pick, "PICK", "rows for resampling; default: the first rows of the input"),
	OPT_U64(0, "pick-rows", &o.pick_rows, 1, 1e12, "without --pick: how many"),
	OPT_STR(0, "l1", &o.l1, "X", "L1 coefficient summed over a batch of 8192, whatever --batch"),
	OPT_STR(0, "l1-mean", &o.l1_mean, "X", "in place of --l1: coefficient of the mean over rows"),
	OPT_U64(0, "features", &o.features, 1, 1 << 24, "features of the dictionary"),
	OPT_U64(0, "batch", &o.batch, 1, 1 << 24, "rows in a step"),
	OPT_U64(0, "leaves", &o.leaves, 1, 1 << 20, "parts that a step's rows are summed in; processes share them"),
	OPT_U64(0, "steps", &o.steps, 0, 1e12, "steps; 0: one pass over the input"),
	OPT_F64(0, "lr", &o.lr, 0, 1e3, "Adam's learning rate"),
	OPT_U64(0, "normalise-every", &o.normalise_every, 1, 1e12, "steps between decoder normalisations"),
	OPT_U64(0, "resample-every", &o.resample_every, 0, 1e12, "steps between resamplings; 0: none"),
	OPT_U64(0, "resample-events", &o.resample_events, 0, 1e6, "resamplings"),
	OPT_U64(0, "eval-every", &o.eval_every, 1, 1e12, "steps between evaluations"),
	OPT_U64(0, "eval-contexts", &o.eval_contexts, 1, 1e12, "windows of VAL evaluated, from its start"),
	OPT_F64(0, "ultra-low", &o.ultra_low, 0, 1, "density below which a feature counts as ultra-low"),
	OPT_U64(0, "log-every", &o.log_every, 0, 1e12, "steps between lines of metrics; 0: a tenth of --eval-every"),
	OPT_F64(0, "save-every", &o.save_every, 0, 1e9, "seconds between states to resume from"),
	OPT_STR(0, "metrics", &o.metrics, "FILE", "JSON Lines; default: SAE's name with .jsonl"),
	OPT_STR(0, "init", &o.init, "FILE", "start from this checkpoint's weights"),
	OPT_STR(0, "eval", &o.eval, "FILE", "train nothing, print this checkpoint's figures"),
	OPT_FLAG(0, "from-tokens", &o.from_tokens, "make the rows of TOKENS with GPT, where they are used:"),
	OPT_ACTS(&o.acts, "gpt-batch"),
	OPT_THREADS(&o.c), OPT_MEMORY(&o.c), OPT_SEED(&o.c), OPT_QUIET(&o.c), OPT_DEVICE(&o.c), OPT_END
};

/* Beside weights, metrics and who is presumed dead: all that a run carries from step to step. */
struct saved {
	uint64_t step;          /* steps done */
	uint64_t rows;          /* since the last line of metrics, that sums are over */
	uint64_t resampled;     /* neurons since the last line */
	struct eval_result eval;        /* the last; fired is not kept */
};

struct run {
	struct comm *comm;
	struct sae *s;
	struct tree *tree;
	real *total;            /* the net's own gradients */
	struct sae_sums *sums;  /* (leaves) gathered from all processes */
	struct input *in;
	struct resample_plan plan;
	struct judge judge;
	struct resampler *resampler;
	struct shards *pick;    /* NULL: rows kept from the input */
	uint64_t picked;        /* rows of an event in it */
	double lambda;
	struct saved now;
	double looked;          /* when the device was last waited for */
	struct metrics *metrics;
	struct buf line, state; /* under way */
	char pick_id[33], init_id[33];
};

static bool lead(const struct run *r)
{
	return comm_rank(r->comm) == 0;
}

/* The sums of all leaves, in all processes. */
static void gather_sums(struct run *r)
{
	const size_t own = tree_own(r->tree);

	sae_leaf_sums(r->s, r->sums + tree_first(r->tree));
	comm_gather(r->comm, r->sums, r->sums + tree_first(r->tree), own * sizeof(*r->sums));
	r->now.rows = r->s->rows * comm_size(r->comm);
}

static void put_sums(struct run *r)
{
	sae_set_leaf_sums(r->s, r->sums + tree_first(r->tree), r->now.rows / comm_size(r->comm));
}

/* ---- metrics ---- */

static void show(const struct run *r, const struct eval_result *e)
{
	prog_line("step %llu: L0 %.1f, loss recovered %.1f %% (mean-ablated %.1f %%), explained variance %.3f, "
		  "alive %zu of %zu (%zu ultra-low); next-token loss %.3f, spliced %.3f; on %llu tokens",
		  (unsigned long long)r->now.step, e->l0, 100 * e->loss_recovered,
		  100 * e->loss_recovered_mean, e->explained_variance, e->alive, r->s->F, e->ultra_low,
		  e->loss_clean, e->loss_spliced, (unsigned long long)e->tokens);
}

/* Of rank 0: a line of metrics, training since the line before, and an evaluation when asked for. */
static void report(struct run *r, bool evaluated)
{
	struct saved *now = &r->now;
	const struct sae_tally tally = { sae_add_leaves(r->sums, o.leaves), now->rows };
	const struct sae_loss loss = sae_means(&tally, r->s->D, r->lambda);
	const struct { const char *key; double v; } train[] = {
		{ "loss", loss.loss }, { "mse", loss.mse }, { "l1", loss.l1 }, { "l0", loss.l0 },
	};
	struct buf *b = &r->line;

	buf_clear(b);
	buf_printf(b, "{\"step\": %llu, \"rows\": %llu, \"lr\": %.9g, \"lambda\": %.9g, \"train\": {",
		   (unsigned long long)now->step, (unsigned long long)(now->step * o.batch), o.lr, r->lambda);
	for (size_t i = 0; i < ARRAY_LEN(train); i++) {
		buf_printf(b, "%s", i ? ", " : "");
		metrics_number(b, train[i].key, train[i].v);
	}
	buf_printf(b, "}, \"resampled\": %llu", (unsigned long long)now->resampled);
	if (evaluated) {
		now->eval = judge_figures(&r->judge, r->s, o.ultra_low);
		buf_printf(b, ", \"eval\": ");
		eval_json(&now->eval, r->s->F, b);
		show(r, &now->eval);
		now->eval.fired = NULL;
	}
	buf_printf(b, "}");
	metrics_add(r->metrics, b->p);
}

static void forget_sums(struct run *r)
{
	memset(r->sums, 0, o.leaves * sizeof(*r->sums));
	r->now.rows = r->now.resampled = 0;
	put_sums(r);
}

/* ---- resampling ---- */

/* Rows of the event under way, from --pick or from those kept of the input. */
static void pick_rows(void *arg, uint64_t row, size_t n, float *x)
{
	struct run *r = arg;

	if (!r->pick) {
		input_kept(r->in, row, n, x);
		return;
	}
	for (size_t have = 0, got; have < n; have += got)
		if (!(got = shards_read_f32(r->pick, x + have * r->s->D, n - have)))
			die("'%s' ends within its rows", o.pick);
}

/* The bookkeeping that follows step k: each process knows what fired in its own leaves.  The change itself
 * all make, of the same rows and weights. */
static void resample(struct run *r, uint64_t k)
{
	const int64_t event = resample_event(&r->plan, k);
	const struct resample_rows rows = { r->pick ? r->picked : input_kept_rows(r->in), pick_rows, r };
	size_t dead;

	resampler_watch(r->resampler, k);
	if (event < 0)
		return;
	comm_and(r->comm, resampler_presumed(r->resampler), r->s->F);
	if (r->pick)
		shards_seek(r->pick, (uint64_t)event * r->picked);
	const size_t n = resampler_change(r->resampler, &rows, 1 / (double)r->s->D, r->lambda, o.c.seed,
					  (uint64_t)event, &dead);

	r->now.resampled += n;
	prog_line("step %llu: %zu dead of %zu, %zu resampled", (unsigned long long)r->now.step, dead, r->s->F, n);
}

/* ---- states ---- */

static struct recipe *recipe(const struct run *r)
{
	struct recipe *p = recipe_new("saetrain", OUTPUT_VERSION);
	const struct { const char *key; uint64_t v; } whole[] = {
		{ "features", o.features }, { "batch", o.batch }, { "leaves", o.leaves }, { "steps", o.steps },
		{ "normalise_every", o.normalise_every }, { "resample_every", o.resample_every },
		{ "resample_events", o.resample_events }, { "eval_every", o.eval_every },
		{ "eval_contexts", o.eval_contexts }, { "log_every", o.log_every }, { "seed", o.c.seed },
		{ "pick_rows", o.pick ? 0 : o.pick_rows },
	};

	for (size_t i = 0; i < ARRAY_LEN(whole); i++)
		recipe_add(p, whole[i].key, "%llu", (unsigned long long)whole[i].v);
	recipe_add(p, "lambda", "%.17g", r->lambda);
	recipe_add(p, "lr", "%.17g", o.lr);
	recipe_add(p, "ultra_low", "%.17g", o.ultra_low);
	recipe_add(p, "device", "%s %s", o.c.device, backend_precision(o.c.device, o.c.precision));
	recipe_add(p, "gpt", "%s", r->judge.id);
	recipe_add(p, "val", "%s", r->judge.val.id);
	recipe_add(p, "pick", "%s", r->pick_id);
	recipe_add(p, "input", "%s", r->in->id);
	recipe_add(p, "init", "%s", r->init_id);
	return p;
}

/* All processes hold the same, and compare it; rank 0 writes. */
static void save(struct run *r, const struct recipe *p)
{
	struct buf *st = &r->state;

	buf_clear(st);
	comm_broadcast(r->comm, &r->now, sizeof(r->now));
	comm_and(r->comm, resampler_presumed(r->resampler), r->s->F);
	buf_add(st, &r->now, sizeof(r->now));
	buf_add(st, r->sums, o.leaves * sizeof(*r->sums));
	buf_add(st, resampler_presumed(r->resampler), r->s->F);
	tree_gather(r->tree, r->s->m.enc);
	tree_gather(r->tree, r->s->v.enc);
	sae_save_state(r->s, st);
	comm_same(r->comm, st->p, st->n, "the weights");
	if (!lead(r))
		return;
	metrics_save(r->metrics, st);
	state_save(o.c.output, p, st);
}

static bool resume(struct run *r, const struct recipe *p)
{
	struct buf st = { 0 };

	if (!comm_agree(r->comm, lead(r) && state_load(o.c.output, p, &st)))
		return false;
	comm_broadcast_buf(r->comm, &st);
	struct cursor c = { st.p, st.n };

	cursor_get(&c, &r->now, sizeof(r->now));
	cursor_get(&c, r->sums, o.leaves * sizeof(*r->sums));
	cursor_get(&c, resampler_presumed(r->resampler), r->s->F);
	sae_load_state(r->s, &c);
	metrics_load(r->metrics, &c);
	put_sums(r);
	buf_free(&st);
	say("going on after step %llu", (unsigned long long)r->now.step);
	return true;
}

/* ---- the run ---- */

/* The loss of step k is not a number: is it the input's fault? */
static void blame(const struct run *r, uint64_t k, const float *x)
{
	const size_t D = r->s->D, n = o.batch * D;
	float *host = xcalloc(n, sizeof(*host));

	if (r->in->made)
		r->s->be->get(host, x, n * sizeof(*host));
	else
		memcpy(host, x, n * sizeof(*host));
	for (size_t i = 0; i < n; i++)
		if (!isfinite(host[i]))
			die("the input's row %llu has a value that is not finite, in column %zu",
			    (unsigned long long)(k * o.batch + i / D), i % D);
	die("the loss is not a number at step %llu; try a lower --lr", (unsigned long long)k);
}

#define LOOK_EVERY 0.5  /* seconds */

/* Waits for the device. */
static void look(struct run *r, uint64_t k, const float *x)
{
	const struct sae_loss loss = sae_loss(r->s, r->lambda);

	r->looked = now_secs();
	if (!isfinite(loss.loss))
		blame(r, k, x);
	prog_note("loss %.4f, L0 %.1f", loss.loss, loss.l0);
}

/* Gradients of this process's share of the batch x. */
static void gradients(struct run *r, const float *x)
{
	const size_t rows = o.batch / o.leaves;

	for (size_t leaf = 0; leaf < tree_own(r->tree); leaf++) {
		const float *part = x + (tree_first(r->tree) + leaf) * rows * r->s->D;

		sae_at_leaf(r->s, leaf, tree_leaf(r->tree));
		(r->in->made ? sae_gradients_at : sae_gradients)(r->s, part, rows, r->lambda);
		tree_add(r->tree);
	}
	sae_at_leaf(r->s, 0, r->total);
}

static void step(struct run *r, const float *x)
{
	struct saved *now = &r->now;
	const uint64_t k = now->step++;

	gradients(r, x);
	if (r->s->be->host || now_secs() - r->looked > LOOK_EVERY)
		look(r, k, x); /* before others take part in what is no number */
	const struct part own = tree_reduce(r->tree);

	sae_update_part(r->s, own.from, own.to, o.lr);
	if (k % o.normalise_every == 0)
		sae_normalise_part(r->s, own.from, own.to);
	tree_gather(r->tree, r->s->p.enc);
	resample(r, k);
}

/* What follows some steps: metrics, states. */
static void mark(struct run *r, bool last, bool keep)
{
	const bool judged = last || r->now.step % o.eval_every == 0;
	const bool line = judged || r->now.step % o.log_every == 0;

	if (line || keep)
		gather_sums(r);
	if (line && lead(r))
		report(r, judged && r->judge.t);
	if (line)
		forget_sums(r);
}

static void train(struct run *r, const struct recipe *state, bool resumable)
{
	const uint64_t steps = r->in->steps;
	double saved = now_secs();

	input_start(r->in, r->s->be, r->now.step);
	prog_start("rows", steps ? (steps - r->now.step) * o.batch : 0);
	for (const float *x = input_next(r->in); x; ) {
		step(r, x);
		x = input_next(r->in);
		const bool due = !x || r->now.step % o.eval_every == 0 || now_secs() - saved >= o.save_every;
		const bool keep = comm_agree(r->comm, resumable && due);

		mark(r, !x, keep);
		if (keep) {
			save(r, state);
			saved = now_secs();
		}
		prog_step(o.batch);
	}
	if (r->now.step == 0)
		die("the input has less than a batch of %llu rows", (unsigned long long)o.batch);
}

static void set_eval(struct tensors_writer *w, const struct eval_result *e)
{
	tensors_set(w, "eval_tokens", "%llu", (unsigned long long)e->tokens);
	tensors_set(w, "l0", "%.9g", e->l0);
	tensors_set(w, "mse", "%.9g", e->mse);
	tensors_set(w, "explained_variance", "%.9g", e->explained_variance);
	tensors_set(w, "loss_recovered", "%.9g", e->loss_recovered);
	tensors_set(w, "loss_recovered_mean", "%.9g", e->loss_recovered_mean);
	tensors_set(w, "alive", "%zu", e->alive);
}

static void store(struct run *r)
{
	struct tensors_writer *w = tensors_create();
	const struct { const char *key; uint64_t v; } whole[] = {
		{ "features", o.features }, { "batch", o.batch }, { "leaves", o.leaves }, { "steps", r->now.step },
		{ "normalise_every", o.normalise_every }, { "resample_every", o.resample_every },
		{ "resample_events", o.resample_events }, { "seed", o.c.seed },
		{ "eval_contexts", o.eval_contexts },
	};

	sae_store(r->s, w);
	tensors_set(w, "tool", "saetrain %d", OUTPUT_VERSION);
	for (size_t i = 0; i < ARRAY_LEN(whole); i++)
		tensors_set(w, whole[i].key, "%llu", (unsigned long long)whole[i].v);
	tensors_set(w, "inputs", "%zu", r->s->D);
	tensors_set(w, "l1", "%.9g", r->lambda / L1_BATCH);
	tensors_set(w, "lambda", "%.9g", r->lambda);
	tensors_set(w, "lr", "%.9g", o.lr);
	tensors_set(w, "ultra_low", "%.9g", o.ultra_low);
	tensors_set(w, "gpt", "%s", r->judge.id);
	tensors_set(w, "tokens", "%s", r->in->tokens ? r->in->tokens : "unknown");
	tensors_set(w, "val", "%s", r->judge.val.id);
	tensors_set(w, "pick", "%s", r->pick_id);
	tensors_set(w, "input", "%s", r->in->id);
	tensors_set(w, "init", "%s", r->init_id);
	if (r->judge.t)
		set_eval(w, &r->now.eval);
	tensors_write(w, o.c.output);
}

static void finish(struct run *r, const struct recipe *p, bool resumable)
{
	if (resumable)
		recipe_unstamp(o.c.output);
	metrics_commit(r->metrics);
	store(r);
	if (resumable) { /* in this order: a stamp beside a state would keep the state for ever */
		state_drop(o.c.output);
		recipe_stamp(p, o.c.output);
	}
}

static void init(struct run *r)
{
	if (!o.init) {
		sae_init(r->s, o.c.seed);
		return;
	}
	struct tensors *t = tensors_open(o.init);

	sae_load(r->s, t);
	tensors_close(t);
}

/* A leaf is a run of the batch's rows. */
static void cut(struct run *r)
{
	if (o.batch % o.leaves)
		die_usage("--leaves %llu does not divide --batch %llu", (unsigned long long)o.leaves,
			  (unsigned long long)o.batch);
	r->tree = tree_new(r->s->be, r->comm, o.leaves, r->total = r->s->g.enc, r->s->n_block);
	tree_cut(r->tree, sae_cut, r->s);
	r->sums = xcalloc(o.leaves, sizeof(*r->sums));
	sae_set_leaves(r->s, tree_own(r->tree), o.leaves);
	input_share(r->in, r->tree);
}

/* From --init, a state or the seed to the last step. */
static void run(struct run *r, bool resumable)
{
	struct recipe *state = recipe(r);

	recipe_add(state, "backend", "%s %s", r->s->be->name, r->s->be->precision); /* a run goes on only where it began */
	if (!resumable || !resume(r, state))
		init(r);
	if (lead(r))
		metrics_start(r->metrics);
	say("lambda %.9g for the mean over inputs and rows, %.9g where inputs are summed; --l1 %.9g", r->lambda,
	    r->lambda * (double)r->s->D, r->lambda / L1_BATCH);
	train(r, state, resumable);
	recipe_free(state);
}

static void make(struct run *r, const struct recipe *p)
{
	const struct backend *be = peers_backend(backend_open(o.c.device, o.c.precision), r->comm);
	const bool resumable = strcmp(o.c.output, "-") != 0;
	const size_t D = r->in->D, eval_rows = judge_rows(&r->judge);

	peers_compare(be, r->comm);
	r->s = sae_new(be, D, o.features, o.batch > eval_rows ? o.batch : eval_rows, SAE_TRAIN);
	r->resampler = resampler_new(r->s, &r->plan, o.batch);
	cut(r);
	if (lead(r))
		judge_start(&r->judge, be);
	run(r, resumable);
	if (lead(r))
		finish(r, p, resumable);
	prog_finish(r->now.step * o.batch * D * dtype_size(r->in->dtype),
		    2 * o.features * D * sizeof(float));
	tree_free(r->tree);
	free(r->sums);
	resampler_free(r->resampler);
	sae_free(r->s);
}

/* ---- inputs ---- */

/* The rows' own word on the GPT they come from must agree with --gpt, and stands in for it. */
static void check_gpt(struct run *r, const char *id, const char *name)
{
	char was[33];

	memcpy(was, r->judge.id, sizeof(was));
	if (id)
		snprintf(r->judge.id, sizeof(r->judge.id), "%s", id);
	if (strcmp(was, "none") && strcmp(was, r->judge.id))
		die("'%s' was made with another GPT than '%s'", name, o.gpt ? o.gpt : "the input");
}

static void open_pick(struct run *r, size_t D)
{
	r->pick = shards_open((char *[]){ (char *)o.pick, NULL });
	if (!shards_seekable(r->pick))
		die_usage("--pick takes a file");
	if (shards_cols(r->pick) != D)
		die("'%s' has %zu columns, the input %zu", o.pick, shards_cols(r->pick), D);
	const uint64_t events = meta_u64(shards_meta(r->pick), "events", o.pick);

	r->picked = meta_u64(shards_meta(r->pick), "pick", o.pick);
	if (!r->picked || events > shards_rows(r->pick) / r->picked || events * r->picked != shards_rows(r->pick))
		die("'%s' has %llu rows, not %llu times %llu", o.pick, (unsigned long long)shards_rows(r->pick),
		    (unsigned long long)events, (unsigned long long)r->picked);
	if (o.resample_every && events < o.resample_events)
		die("'%s' has rows for %llu resamplings; --resample-events asks for %llu", o.pick,
		    (unsigned long long)events, (unsigned long long)o.resample_events);
	char *gpt = meta_get(shards_meta(r->pick), "gpt");

	check_gpt(r, gpt, o.pick);
	free(gpt);
	shards_id(r->pick, r->pick_id);
}

/* Without --pick rows are kept in memory, as they are stored. */
static uint64_t rows_to_keep(void)
{
	return o.pick || !o.resample_every || !o.resample_events ? 0 : o.pick_rows;
}

static struct input *open_shards(const struct run *r, char **paths, const struct input_spec *spec)
{
	if (comm_size(r->comm) > 1 && (!paths[0] || !strcmp(paths[0], "-")))
		die_usage("several processes read files, not a pipe");
	struct input *in = input_shards(paths, spec);
	const size_t bytes = in->D * dtype_size(in->dtype);

	if (spec->keep > o.c.memory / 2 / bytes)
		die("-m %llu is too small for --pick-rows %llu; need at least %llu", (unsigned long long)o.c.memory,
		    (unsigned long long)o.pick_rows, (unsigned long long)(2 * o.pick_rows * bytes));
	return in;
}

static void open_input(struct run *r, char **paths)
{
	const struct input_spec spec = { o.batch, o.steps, rows_to_keep() };

	r->in = o.from_tokens ? input_tokens(acts_open(&o.acts, o.c.seed, o.gpt, paths), &spec, &o.c) :
		open_shards(r, paths, &spec);
	if (o.gpt && !o.from_tokens && 4 * r->judge.c.n_embd != r->in->D)
		die("'%s' has %zu activations, '%s' %zu", o.gpt, 4 * r->judge.c.n_embd, r->in->name, r->in->D);
	check_gpt(r, r->in->gpt, r->in->name);
	if (o.pick)
		open_pick(r, r->in->D);
}

/* What the recipe says is already there. */
static bool made(const struct run *r, const struct recipe *p)
{
	const char *metrics = metrics_path(r->metrics);
	const bool again = r->in->lasting && (!metrics || file_exists(metrics));

	return again && recipe_fresh(p, o.c.output);
}

static void run_train(struct comm *comm, char **paths, double lambda)
{
	struct run r = { .comm = comm, .lambda = lambda, .plan = { o.resample_every, o.resample_events, RESAMPLE_HEAD },
		.judge = { .id = "none", .val.id = "none" }, .pick_id = "none", .init_id = "none" };

	r.metrics = metrics_new(o.metrics, o.c.output);
	if (o.val)
		judge_open(&r.judge, o.gpt, o.val, o.eval_contexts);
	if (o.init) {
		struct tensors *t = tensors_open(o.init);

		tensors_id(t, r.init_id);
		tensors_close(t);
	}
	open_input(&r, paths);
	struct recipe *p = recipe(&r);

	if (!comm_agree(comm, lead(&r) && made(&r, p)))
		make(&r, p);
	judge_close(&r.judge);
	if (r.pick)
		shards_close(r.pick);
	input_close(r.in);
	recipe_free(p);
	metrics_free(r.metrics);
	buf_free(&r.line);
	buf_free(&r.state);
}

static void run_eval(void)
{
	struct judge j = { 0 };
	struct buf b = { 0 };

	judge_open(&j, o.gpt, o.val, o.eval_contexts);
	struct tensors *t = tensors_open(o.eval);

	sae_check_gpt(t, o.eval, 4 * j.c.n_embd, j.id, o.gpt);
	tensors_close(t);
	const struct backend *be = backend_open(o.c.device, o.c.precision);
	struct sae *s = sae_open(be, o.eval, judge_rows(&j), NULL);

	judge_start(&j, be);
	const struct eval_result e = judge_figures(&j, s, o.ultra_low);

	eval_json(&e, s->F, &b);
	printf("%s\n", b.p);
	if (fflush(stdout))
		die_errno("cannot write '<stdout>'");
	buf_free(&b);
	judge_close(&j);
	sae_free(s);
}

/* lambda of DESIGN's loss, from --l1 (units of the reproduction) or --l1-mean */
static double parse_lambda(void)
{
	const char *word = o.l1_mean ? "--l1-mean" : "--l1", *text = o.l1_mean ? o.l1_mean : o.l1;
	double v;

	if (o.l1_mean && o.l1 != default_l1)
		die_usage("--l1 and --l1-mean exclude each other");
	if (!parse_double(text, &v) || v < 0)
		die_usage("%s takes a number from 0 up, not '%s'", word, text);
	return o.l1_mean ? v : L1_BATCH * v;
}

static void check_from_tokens(char **paths)
{
	acts_options_check(&o.acts, o.from_tokens);
	if (!o.from_tokens)
		return;
	if (!o.gpt || !paths[0] || !strcmp(paths[0], "-"))
		die_usage("--from-tokens needs %s", o.gpt ? "files of tokens" : "--gpt");
	if (o.eval)
		die_usage("--eval reads a checkpoint, and no tokens");
}

int main(int argc, char **argv)
{
	struct comm *comm = comm_open(argv[0]);

	o.c.quiet = comm_rank(comm) != 0;
	char **paths = opt_parse(argc, argv, opts, usage, &o.c);
	const double lambda = parse_lambda();

	check_from_tokens(paths);
	if ((!o.gpt != !o.val && !o.from_tokens) || (o.eval && !o.gpt))
		die_usage("%s is missing; an evaluation needs --gpt and --val", o.gpt ? "--val" : "--gpt");
	if (o.eval && (o.init || paths[0]))
		die_usage("--eval reads a checkpoint, and neither %s", o.init ? "--init" : paths[0]);
	if (o.resample_every == 1)
		die_usage("--resample-every must be 0 or from 2 up, not 1");
	if (!o.log_every)
		o.log_every = o.eval_every >= 10 ? o.eval_every / 10 : 1;
	pool_start(o.c.threads);
	if (!o.eval)
		run_train(comm, paths, lambda);
	else if (comm_rank(comm) == 0)
		run_eval();
	comm_close(comm);
	return 0;
}
