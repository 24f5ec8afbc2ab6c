/* gptrain: nanoGPT's training loop over token shards.  Iterations are 0 … iters-1; a line of metrics
 * after every --eval-every of them says how many are done. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "comm.h"
#include "gpt.h"
#include "metrics.h"
#include "opt.h"
#include "pool.h"
#include "prog.h"
#include "rng.h"
#include "tree.h"
#include "windows.h"

enum { OUTPUT_VERSION = 3, TOKEN_IDS = 50257 };

static const char usage[] =
	"usage: gptrain [options] --val VAL -o GPT TRAIN…\n"
	"       gptrain --eval GPT --val VAL [TRAIN…]\n"
	"Trains nanoGPT's model on token shards; writes a safetensors checkpoint.\n"
	"e.g.:  gptrain --n-embd 128 --block 256 --batch 16 --accum 1 --iters 600 --lr 2e-3 "
	"--val val.zst -o gpt.safetensors train.zst\n";

static struct {
	struct opt_common c;
	uint64_t n_layer, n_head, n_embd, block, vocab, batch, accum, leaves, iters, warmup, decay_iters;
	uint64_t eval_every, eval_contexts, cache;
	double save_every, lr, min_lr, beta1, beta2, weight_decay, clip;
	bool bias;
	const char *val, *metrics, *init, *eval;
} o = {
	.c = OPT_COMMON_INIT, .n_layer = 1, .n_head = 4, .n_embd = 128, .block = 1024, .vocab = 50304,
	.batch = 12, .accum = 40, .leaves = 1, .iters = 200000, .warmup = 2000, .eval_every = 2000,
	.eval_contexts = 200, .save_every = 30, .cache = 256 << 20, .lr = 6e-4, .min_lr = 6e-5,
	.beta1 = .9, .beta2 = .95, .weight_decay = .1, .clip = 1,
};

static const struct opt opts[] = {
	OPT_OUTPUT(&o.c),
	OPT_STR(0, "val", &o.val, "VAL", "token shard to validate on"),
	OPT_U64(0, "n-layer", &o.n_layer, 1, 1000, "layers"),
	OPT_U64(0, "n-head", &o.n_head, 1, 1000, "attention heads"),
	OPT_U64(0, "n-embd", &o.n_embd, 1, 1 << 20, "width"),
	OPT_U64(0, "block", &o.block, 1, 1 << 20, "context length"),
	OPT_U64(0, "vocab", &o.vocab, 2, 65536, "rows of the embedding"),
	OPT_FLAG(0, "bias", &o.bias, "biases in linear layers and LayerNorms"),
	OPT_U64(0, "batch", &o.batch, 1, 1 << 20, "contexts in a micro-batch"),
	OPT_U64(0, "accum", &o.accum, 1, 1 << 20, "micro-batches in an iteration"),
	OPT_U64(0, "leaves", &o.leaves, 1, 1 << 20, "parts that an iteration's contexts are summed in; processes share them"),
	OPT_U64(0, "iters", &o.iters, 1, 1e12, "iterations"),
	OPT_F64(0, "lr", &o.lr, 0, 1e3, "highest learning rate"),
	OPT_F64(0, "min-lr", &o.min_lr, 0, 1e3, "learning rate at the end of the decay"),
	OPT_U64(0, "warmup", &o.warmup, 0, 1e12, "warm-up iterations"),
	OPT_U64(0, "decay-iters", &o.decay_iters, 0, 1e12, "iterations until --min-lr; 0: --iters"),
	OPT_F64(0, "beta1", &o.beta1, 0, 1, "AdamW: decay of the first moment"),
	OPT_F64(0, "beta2", &o.beta2, 0, 1, "AdamW: decay of the second moment"),
	OPT_F64(0, "weight-decay", &o.weight_decay, 0, 1e3, "AdamW: decay of matrices"),
	OPT_F64(0, "clip", &o.clip, 0, 1e9, "highest gradient norm; 0: any"),
	OPT_U64(0, "eval-every", &o.eval_every, 1, 1e12, "iterations between evaluations"),
	OPT_U64(0, "eval-contexts", &o.eval_contexts, 1, 1e12, "windows of VAL evaluated, from its start"),
	OPT_F64(0, "save-every", &o.save_every, 0, 1e9, "seconds between states to resume from"),
	OPT_SIZE(0, "cache", &o.cache, 1 << 16, 1e18, "memory for decoded token frames"),
	OPT_STR(0, "metrics", &o.metrics, "FILE", "JSON Lines, one an evaluation; default: GPT's name with .jsonl"),
	OPT_STR(0, "init", &o.init, "FILE", "start from this checkpoint's weights"),
	OPT_STR(0, "eval", &o.eval, "FILE", "train nothing, print this checkpoint's loss"),
	OPT_THREADS(&o.c), OPT_SEED(&o.c), OPT_QUIET(&o.c), OPT_DEVICE(&o.c), OPT_END
};

/* Beside the net itself, all that a run carries from one iteration to the next. */
struct saved {
	uint64_t it;            /* iterations done */
	double loss_n;          /* iterations since the last evaluation, that training losses are summed over */
	double unigram, val_loss, norm;
};

struct batch {          /* read ahead by the pool while the one before is computed */
	struct task task;
	const struct windows *train;
	uint64_t micro;         /* that this process computes */
	uint64_t it, row;       /* its iteration, and the first of its contexts there */
	size_t n;               /* contexts */
	int32_t *idx, *targets;
};

struct run {
	struct comm *comm;
	struct gpt *g;
	struct tree *tree;
	real *total;            /* the net's own gradients */
	double *losses;         /* (leaves) gathered from all processes */
	size_t micro;           /* contexts in a micro-batch */
	size_t per_leaf, micros;        /* micro-batches of a leaf; of an iteration's leaves of this process */
	struct windows train, val;
	struct batch batch[2];
	struct saved s;
	struct metrics *metrics;
	double looked;          /* when the device was last waited for */
};

static bool lead(const struct run *r)
{
	return comm_rank(r->comm) == 0;
}

static void batch_fill(void *arg)
{
	struct batch *b = arg;

	for (size_t i = 0; i < b->n; i++) {
		const uint64_t h = rng_hash(o.c.seed, RNG_BATCH, b->it, b->row + i);

		windows_read(b->train, rng_below(h, b->train->tokens - o.block), b->idx + i * o.block,
			     b->targets + i * o.block);
	}
}

static void batch_ahead(struct run *r, uint64_t micro)
{
	struct batch *b = &r->batch[micro % 2];

	if (micro >= o.iters * r->micros)
		return;
	b->micro = micro;
	b->it = micro / r->micros;
	b->n = r->micro;
	b->row = (tree_first(r->tree) * r->per_leaf + micro % r->micros) * r->micro;
	b->task.fn = batch_fill;
	b->task.arg = b;
	task_post(&b->task);
}

/* Gradients of this process's share of the batch. */
static void gradients(struct run *r)
{
	uint64_t micro = r->s.it * r->micros;

	for (size_t leaf = 0; leaf < tree_own(r->tree); leaf++) {
		gpt_at_leaf(r->g, leaf, tree_leaf(r->tree));
		gpt_zero_grads(r->g);
		for (size_t i = 0; i < r->per_leaf; i++, micro++) {
			struct batch *b = &r->batch[micro % 2];

			task_wait(&b->task);
			batch_ahead(r, micro + 1);
			gpt_step(r->g, b->idx, b->targets, b->n, o.block, (double)b->n / (double)(o.accum * o.batch));
			prog_step(b->n * o.block * comm_size(r->comm));
		}
		tree_add(r->tree);
	}
}

/* One iteration of nanoGPT's loop; the learning rate that it used. */
static double iterate(struct run *r)
{
	const struct gpt_hyper h = { o.beta1, o.beta2, 1e-8, o.weight_decay, o.clip };
	const double lr = gpt_lr(r->s.it, o.lr, o.min_lr, o.warmup, o.decay_iters);

	gradients(r);
	gpt_at_leaf(r->g, 0, r->total);
	tree_finish(r->tree);
	gpt_update(r->g, &h, lr);
	r->s.loss_n += 1;
	r->s.it++;
	return lr;
}

#define LOOK_EVERY 0.5  /* seconds */

/* Waits for the device, and dies when the loss has become no number. */
static void look(struct run *r)
{
	const struct gpt_tally t = gpt_tally(r->g);

	r->looked = now_secs();
	if (!isfinite(t.loss) || !isfinite(t.norm))
		die("the loss is not a number at iteration %llu; try a lower --lr",
		    (unsigned long long)r->s.it - 1);
	r->s.norm = t.norm;
	/* of the first leaf, as if the others were like it */
	prog_note("loss %.3f", t.loss * (double)o.leaves / r->s.loss_n);
}

/* The losses of all leaves, in all processes. */
static void gather_losses(struct run *r)
{
	const size_t own = tree_own(r->tree);

	gpt_losses(r->g, r->losses + tree_first(r->tree));
	comm_gather(r->comm, r->losses, r->losses + tree_first(r->tree), own * sizeof(*r->losses));
}

static uint64_t eval_windows(const struct windows *val)
{
	return val->count < o.eval_contexts ? val->count : o.eval_contexts;
}

/* Mean loss over all positions of the first windows, in float32 whatever the training's precision. */
static double evaluate(struct gpt *g, const struct windows *val)
{
	const struct backend *training = g->be;
	const size_t T = val->T;
	int32_t *idx = xcalloc(xmul(o.batch, T), sizeof(*idx));
	int32_t *targets = xcalloc(xmul(o.batch, T), sizeof(*targets));
	const uint64_t windows = eval_windows(val);
	double sum = 0;
	size_t n;

	g->be = training->exact;
	for (uint64_t i = 0; i < windows; i += n) {
		n = windows - i < o.batch ? windows - i : o.batch;
		for (size_t b = 0; b < n; b++)
			windows_at(val, i + b, idx + b * T, targets + b * T);
		sum += gpt_loss(g, idx, targets, n, T) * (double)n;
	}
	g->be = training;
	free(idx);
	free(targets);
	if (!isfinite(sum))
		die("the validation loss is not a number");
	return sum / (double)windows;
}

/* Frequencies of all ids of the training tokens, in one pass. */
static uint64_t *count_tokens(char *const *paths, uint64_t tokens)
{
	enum { CHUNK = 32768 };
	uint64_t *count = xcalloc(65536, sizeof(*count));
	uint16_t *ids = xmalloc(CHUNK * sizeof(*ids));
	struct shards *s = shards_open(paths);
	size_t n;

	prog_start("tokens counted", tokens);
	while ((n = shards_read(s, ids, CHUNK)) > 0) {
		for (size_t i = 0; i < n; i++)
			count[ids[i]]++;
		prog_step(n);
	}
	shards_close(s);
	free(ids);
	return count;
}

/* Cross-entropy of the evaluated targets under the training tokens' add-one unigram. */
static double unigram(char *const *paths, const struct windows *train, const struct windows *val)
{
	const size_t V = train->vocab < TOKEN_IDS ? train->vocab : TOKEN_IDS, T = val->T;
	uint64_t *count = count_tokens(paths, train->tokens);
	int32_t *idx = xcalloc(T, sizeof(*idx)), *targets = xcalloc(T, sizeof(*targets));
	const uint64_t windows = eval_windows(val);
	double sum = 0;

	for (uint64_t i = 0; i < windows; i++) {
		windows_at(val, i, idx, targets);
		for (size_t t = 0; t < T; t++)
			sum -= log((double)(count[targets[t]] + 1) / (double)(train->tokens + V));
	}
	free(count);
	free(idx);
	free(targets);
	return sum / (double)(windows * T);
}

static struct recipe *recipe(const struct run *r, const char *init_id)
{
	struct recipe *p = recipe_new("gptrain", OUTPUT_VERSION);
	const struct { const char *key; uint64_t v; } whole[] = {
		{ "n_layer", o.n_layer }, { "n_head", o.n_head }, { "n_embd", o.n_embd },
		{ "block", o.block }, { "vocab", o.vocab }, { "bias", o.bias }, { "batch", o.batch },
		{ "accum", o.accum }, { "leaves", o.leaves }, { "iters", o.iters }, { "warmup", o.warmup },
		{ "decay_iters", o.decay_iters }, { "eval_every", o.eval_every },
		{ "eval_contexts", o.eval_contexts }, { "seed", o.c.seed },
	};
	const struct { const char *key; double v; } reals[] = {
		{ "lr", o.lr }, { "min_lr", o.min_lr }, { "beta1", o.beta1 }, { "beta2", o.beta2 },
		{ "weight_decay", o.weight_decay }, { "clip", o.clip },
	};

	for (size_t i = 0; i < ARRAY_LEN(whole); i++)
		recipe_add(p, whole[i].key, "%llu", (unsigned long long)whole[i].v);
	for (size_t i = 0; i < ARRAY_LEN(reals); i++)
		recipe_add(p, reals[i].key, "%.17g", reals[i].v);
	recipe_add(p, "device", "%s %s", o.c.device, backend_precision(o.c.device, o.c.precision));
	recipe_add(p, "train", "%s", r->train.id);
	recipe_add(p, "val", "%s", r->val.id);
	recipe_add(p, "init", "%s", init_id);
	return p;
}

/* Of rank 0: an evaluation, and its line of metrics. */
static void report(struct run *r, double lr)
{
	struct saved *s = &r->s;
	const double train = tree_sum(r->losses, o.leaves, 1) / s->loss_n;
	struct buf line = { 0 };

	s->val_loss = evaluate(r->g, &r->val);
	buf_printf(&line, "{\"iter\": %llu, \"tokens\": %llu, \"lr\": %.9g, \"train_loss\": %.9g, "
		   "\"val_loss\": %.9g, \"unigram\": %.9g, \"grad_norm\": %.9g}",
		   (unsigned long long)s->it, (unsigned long long)(s->it * o.accum * o.batch * o.block),
		   lr, train, s->val_loss, s->unigram, s->norm);
	metrics_add(r->metrics, line.p);
	buf_free(&line);
	prog_line("iter %llu: validation %.3f (unigram %.3f), train %.3f, lr %.3g",
		  (unsigned long long)s->it, s->val_loss, s->unigram, train, lr);
}

static void forget_losses(struct run *r)
{
	memset(r->losses, 0, o.leaves * sizeof(*r->losses));
	gpt_set_losses(r->g, r->losses);
	r->s.loss_n = 0;
}

/* All processes hold the same, and compare it; rank 0 writes. */
static void save(struct run *r, const struct recipe *p)
{
	struct buf st = { 0 };

	comm_broadcast(r->comm, &r->s, sizeof(r->s));
	buf_add(&st, &r->s, sizeof(r->s));
	buf_add(&st, r->losses, o.leaves * sizeof(*r->losses));
	gpt_save_state(r->g, &st);
	comm_same(r->comm, st.p, st.n, "the weights");
	if (lead(r)) {
		metrics_save(r->metrics, &st);
		state_save(o.c.output, p, &st);
	}
	buf_free(&st);
}

static bool resume(struct run *r, const struct recipe *p)
{
	struct buf st = { 0 };

	if (!comm_agree(r->comm, lead(r) && state_load(o.c.output, p, &st)))
		return false;
	comm_broadcast_buf(r->comm, &st);
	struct cursor c = { st.p, st.n };

	cursor_get(&c, &r->s, sizeof(r->s));
	cursor_get(&c, r->losses, o.leaves * sizeof(*r->losses));
	gpt_load_state(r->g, &c);
	metrics_load(r->metrics, &c);
	gpt_set_losses(r->g, r->losses + tree_first(r->tree));
	buf_free(&st);
	say("going on after iteration %llu", (unsigned long long)r->s.it);
	return true;
}

static void train(struct run *r, const struct recipe *state, bool resumable)
{
	for (size_t i = 0; i < 2; i++) {
		r->batch[i].train = &r->train;
		r->batch[i].idx = xcalloc(xmul(r->micro, o.block), sizeof(int32_t));
		r->batch[i].targets = xcalloc(xmul(r->micro, o.block), sizeof(int32_t));
	}
	prog_start("tokens", (o.iters - r->s.it) * o.accum * o.batch * o.block);
	batch_ahead(r, r->s.it * r->micros);
	double saved = now_secs();

	while (r->s.it < o.iters) {
		const double lr = iterate(r);
		const bool eval = r->s.it % o.eval_every == 0 || r->s.it == o.iters;
		const bool keep = comm_agree(r->comm, resumable && (eval || now_secs() - saved >= o.save_every));

		if (eval || keep || r->g->be->host || now_secs() - r->looked > LOOK_EVERY)
			look(r);
		if (eval || keep)
			gather_losses(r);
		if (eval && lead(r))
			report(r, lr);
		if (eval)
			forget_losses(r);
		if (keep) {
			save(r, state);
			saved = now_secs();
		}
	}
	for (size_t i = 0; i < 2; i++) {
		free(r->batch[i].idx);
		free(r->batch[i].targets);
	}
}

static void store(struct run *r, const char *init_id)
{
	struct tensors_writer *w = tensors_create();

	gpt_store(r->g, w);
	tensors_set(w, "tool", "gptrain %d", OUTPUT_VERSION);
	tensors_set(w, "iters", "%llu", (unsigned long long)o.iters);
	tensors_set(w, "batch", "%llu", (unsigned long long)o.batch);
	tensors_set(w, "accum", "%llu", (unsigned long long)o.accum);
	tensors_set(w, "leaves", "%llu", (unsigned long long)o.leaves);
	tensors_set(w, "lr", "%.9g", o.lr);
	tensors_set(w, "min_lr", "%.9g", o.min_lr);
	tensors_set(w, "warmup", "%llu", (unsigned long long)o.warmup);
	tensors_set(w, "decay_iters", "%llu", (unsigned long long)o.decay_iters);
	tensors_set(w, "beta1", "%.9g", o.beta1);
	tensors_set(w, "beta2", "%.9g", o.beta2);
	tensors_set(w, "weight_decay", "%.9g", o.weight_decay);
	tensors_set(w, "clip", "%.9g", o.clip);
	tensors_set(w, "seed", "%llu", (unsigned long long)o.c.seed);
	tensors_set(w, "train", "%s", r->train.id);
	tensors_set(w, "val", "%s", r->val.id);
	tensors_set(w, "init", "%s", init_id);
	tensors_set(w, "val_loss", "%.9g", r->s.val_loss);
	tensors_set(w, "unigram", "%.9g", r->s.unigram);
	tensors_write(w, o.c.output);
}

/* The options' shape; a checkpoint to start from must have the same. */
static struct gpt_config config(const struct tensors *init)
{
	const struct gpt_config c = { o.n_layer, o.n_head, o.n_embd, o.block, o.vocab, o.bias };

	if (c.n_embd % c.n_head)
		die_usage("--n-embd %zu cannot be split over --n-head %zu", c.n_embd, c.n_head);
	if (!init)
		return c;
	const struct gpt_config f = gpt_config_from(init, o.init);
	const struct { const char *word; size_t file, option; } same[] = {
		{ "n-layer", f.n_layer, c.n_layer }, { "n-embd", f.n_embd, c.n_embd },
		{ "block", f.block_size, c.block_size }, { "vocab", f.vocab_size, c.vocab_size },
		{ "bias", f.bias, c.bias },
		{ "n-head", tensors_meta(init, "n_head") ? f.n_head : c.n_head, c.n_head },
	};

	for (size_t i = 0; i < ARRAY_LEN(same); i++)
		if (same[i].file != same[i].option)
			die("'%s' has %s %zu; the options say %zu", o.init, same[i].word, same[i].file,
			    same[i].option);
	return c;
}

static void finish(struct run *r, const struct recipe *p, const char *init_id, bool resumable)
{
	recipe_unstamp(o.c.output);
	metrics_commit(r->metrics);
	store(r, init_id);
	if (resumable) { /* in this order: a stamp beside a state would keep the state for ever */
		state_drop(o.c.output);
		recipe_stamp(p, o.c.output);
	}
}

static size_t common_divisor(size_t a, size_t b)
{
	return b ? common_divisor(b, a % b) : a;
}

/* A leaf is a run of whole contexts, computed in micro-batches as large as divide it. */
static void cut(struct run *r)
{
	const size_t contexts = o.accum * o.batch, leaf = contexts / o.leaves;

	if (contexts % o.leaves)
		die_usage("--leaves %llu does not divide the %zu contexts of an iteration", (unsigned long long)o.leaves,
			  contexts);
	r->tree = tree_new(r->g->be, r->comm, o.leaves, r->total = r->g->g.wte, r->g->n_params);
	r->losses = xcalloc(o.leaves, sizeof(*r->losses));
	r->micro = common_divisor(leaf, o.batch);
	r->per_leaf = leaf / r->micro;
	r->micros = tree_own(r->tree) * r->per_leaf;
	gpt_set_leaves(r->g, tree_own(r->tree));
}

/* From --init, a state or the seed. */
static void begin(struct run *r, char **paths, const struct tensors *init, const struct recipe *state, bool resumable)
{
	if (resumable && resume(r, state))
		return;
	if (init)
		gpt_load(r->g, init);
	else
		gpt_init(r->g, o.c.seed);
	if (lead(r))
		r->s.unigram = unigram(paths, &r->train, &r->val);
}

static void make(struct run *r, char **paths, const struct gpt_config *c, const struct tensors *init,
		 const char *init_id)
{
	const struct backend *be = peers_backend(backend_open(o.c.device, o.c.precision), r->comm);
	const bool resumable = strcmp(o.c.output, "-") != 0;
	struct recipe *p = recipe(r, init_id), *state = recipe(r, init_id);

	recipe_add(state, "backend", "%s %s", be->name, be->precision); /* a run goes on only where it began */
	peers_compare(be, r->comm);
	r->g = gpt_new(be, c, o.batch, GPT_TRAIN);
	cut(r);
	begin(r, paths, init, state, resumable);
	if (lead(r))
		metrics_start(r->metrics);
	say("%zu parameters, %llu training tokens; validation on %llu tokens", r->g->n_params,
	    (unsigned long long)r->train.tokens, (unsigned long long)(eval_windows(&r->val) * o.block));
	train(r, state, resumable);
	if (lead(r))
		finish(r, p, init_id, resumable);
	prog_finish(r->train.tokens * sizeof(uint16_t), r->g->n_params * sizeof(float));
	tree_free(r->tree);
	free(r->losses);
	gpt_free(r->g);
	recipe_free(p);
	recipe_free(state);
}

/* What the recipe says is already there. */
static bool made(const struct run *r, const struct recipe *p)
{
	const char *metrics = metrics_path(r->metrics);

	return strcmp(o.c.output, "-") && (!metrics || file_exists(metrics)) && recipe_fresh(p, o.c.output);
}

static void run_train(struct comm *comm, char **paths)
{
	struct run r = { .comm = comm, .metrics = metrics_new(o.metrics, o.c.output) };
	struct tensors *init = o.init ? tensors_open(o.init) : NULL;
	const struct gpt_config c = config(init);
	char init_id[33] = "none";

	if (init)
		tensors_id(init, init_id);
	r.train = windows_open(paths, o.block, o.vocab, o.cache);
	r.val = windows_open((char *[]){ (char *)o.val, NULL }, o.block, o.vocab, o.cache);
	struct recipe *p = recipe(&r, init_id);

	if (!comm_agree(comm, lead(&r) && made(&r, p)))
		make(&r, paths, &c, init, init_id);
	windows_close(&r.train);
	windows_close(&r.val);
	recipe_free(p);
	metrics_free(r.metrics);
	if (init)
		tensors_close(init);
}

static void run_eval(char **paths)
{
	char id[33];
	struct gpt *g = gpt_open(backend_open(o.c.device, o.c.precision), o.eval, o.batch, id);
	const size_t T = g->c.block_size, V = g->c.vocab_size;
	struct windows val = windows_open((char *[]){ (char *)o.val, NULL }, T, V, o.cache);
	const double loss = evaluate(g, &val);

	printf("{\"val_loss\": %.9g, ", loss);
	if (paths[0]) {
		struct windows tok = windows_open(paths, T, V, o.cache);

		printf("\"unigram\": %.9g, ", unigram(paths, &tok, &val));
		windows_close(&tok);
	}
	printf("\"val_tokens\": %llu}\n", (unsigned long long)(eval_windows(&val) * T));
	if (fflush(stdout))
		die_errno("cannot write '<stdout>'");
	windows_close(&val);
	gpt_free(g);
}

int main(int argc, char **argv)
{
	struct comm *comm = comm_open(argv[0]);

	o.c.quiet = comm_rank(comm) != 0;
	char **paths = opt_parse(argc, argv, opts, usage, &o.c);

	if (!o.val)
		die_usage("--val is missing: the token shard to validate on");
	if (!o.eval && !paths[0])
		die_usage("a shard of training tokens is missing");
	if (o.eval && o.init)
		die_usage("--eval and --init exclude each other");
	if (!o.decay_iters)
		o.decay_iters = o.iters;
	pool_start(o.c.threads);
	if (!o.eval)
		run_train(comm, paths);
	else if (comm_rank(comm) == 0)
		run_eval(paths);
	comm_close(comm);
	return 0;
}
