/* u-gpt: the net's life, passes, checkpoints and states, on ref and cpu.  Numbers: golden; gradients: u-grad. */
#include "gpt.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "dies.h"
#include "pool.h"
#include "rng.h"

enum { B = 3, T = 9, V = 37 };
static const struct gpt_config small = { 2, 2, 64, T, V, true };
static int32_t idx[B * T], targets[B * T];

static bool same(const void *a, const void *b, size_t bytes)
{
	return memcmp(a, b, bytes) == 0;
}

static real *host_copy(const struct gpt *g, const real *x, size_t n)
{
	real *y = xcalloc(n, sizeof(*y));

	g->be->get(y, x, n * sizeof(*y));
	return y;
}

static bool same_weights(const struct gpt *a, const struct gpt *b)
{
	real *x = host_copy(a, a->w.wte, a->n_params), *y = host_copy(b, b->w.wte, b->n_params);
	const bool equal = a->n_params == b->n_params && same(x, y, a->n_params * sizeof(*x));

	free(x);
	free(y);
	return equal;
}

static struct gpt *trained(const struct backend *be, const struct gpt_config *c, size_t steps)
{
	const struct gpt_hyper h = { .9, .95, 1e-8, .1, 1 };
	struct gpt *g = gpt_new(be, c, B, GPT_TRAIN);

	gpt_init(g, 7);
	for (size_t i = 0; i < steps; i++) {
		gpt_zero_grads(g);
		gpt_step(g, idx, targets, B, T, 1);
		gpt_update(g, &h, 1e-2);
	}
	return g;
}

/* ---- beginning ---- */

static double spread(const struct gpt *g, const real *w, size_t n)
{
	real *x = host_copy(g, w, n);
	double sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += (double)x[i] * (double)x[i];
	free(x);
	return sqrt(sum / (double)n);
}

static void begin(const struct backend *be)
{
	const size_t C = small.n_embd;
	struct gpt *g = gpt_new(be, &small, B, GPT_EVAL), *same_seed = gpt_new(be, &small, 1, GPT_TRAIN);
	struct gpt *other = gpt_new(be, &small, 1, GPT_EVAL);

	gpt_init(g, 1);
	gpt_init(same_seed, 1);
	gpt_init(other, 2);
	check(same_weights(g, same_seed), "%s: weights depend on the seed", be->name);
	check(!same_weights(g, other), "%s: ... and on nothing else", be->name);
	check(fabs(spread(g, g->w.fc_w, 8 * C * C) / 0.02 - 1) < 0.02, "%s: N(0, 0.02)", be->name);
	check(fabs(spread(g, g->w.out_w, 8 * C * C) / 0.01 - 1) < 0.02, "%s: c_proj N(0, 0.02/sqrt(4))", be->name);
	check(spread(g, g->w.ln_2_w, 2 * C) == 1 && spread(g, g->w.ln_f_w, C) == 1, "%s: LayerNorms 1", be->name);
	check(spread(g, g->w.attn_b, 6 * C) == 0 && spread(g, g->w.ln_f_b, C) == 0, "%s: biases 0", be->name);
	check(fabs(gpt_loss(g, idx, targets, B, T) - log(V)) < 0.1, "%s: the first loss is that of a uniform guess",
	      be->name);
	gpt_free(g);
	gpt_free(same_seed);
	gpt_free(other);
}

/* ---- passes ---- */

static void passes(const struct backend *be)
{
	struct gpt *g = trained(be, &small, 3), *e = gpt_new(be, &small, B, GPT_EVAL);
	const size_t D = 4 * small.n_embd;
	float nll[B * T], again[B * T], alone[T];
	real *zeros = be->alloc(B * T * D * sizeof(*zeros));
	double alone_off = 0;

	be->put(e->w.wte, g->w.wte, g->n_params * sizeof(real));
	const double loss = gpt_loss(e, idx, targets, B, T);

	check(gpt_loss(g, idx, targets, B, T) == loss, "%s: nets for training and evaluation agree", be->name);
	const struct gpt_hook h = gpt_forward_hook(e, idx, B, T);
	const double sum = gpt_finish(e, h.acts, targets, nll);

	check(sum / (B * T - 1) == loss, "%s: a pass in two parts", be->name);
	check(nll[4] == 0, "%s: no loss without a target", be->name);
	check(gpt_finish(e, zeros, targets, again) != sum, "%s: replaced activations", be->name);
	check(gpt_finish(e, h.acts, targets, again) == sum && same(nll, again, sizeof(nll)),
	      "%s: its own activations spliced in: the same bits", be->name);
	for (size_t b = 0; b < B; b++) {
		const struct gpt_hook one = gpt_forward_hook(e, idx + b * T, 1, T);

		gpt_finish(e, one.acts, targets + b * T, alone);
		for (size_t t = 0; t < T; t++)
			alone_off = fmax(alone_off, fabs(alone[t] - nll[b * T + t]));
	}
	check(alone_off < 1e-5, "%s: a context alone", be->name);
	const struct gpt_hook half = gpt_forward_hook(e, idx, 1, T / 2);

	gpt_finish(e, half.acts, targets, alone);
	for (size_t t = 0; t < T / 2; t++)
		alone_off = fmax(alone_off, fabs(alone[t] - nll[t]));
	check(alone_off < 1e-5, "%s: no position sees a later one", be->name);
	be->release(zeros);
	gpt_free(g);
	gpt_free(e);
}

/* Some rows (of the second context none) are those of the whole pass. */
static void some_rows(const struct backend *be)
{
	static const uint32_t rows[] = { 0, 3, 4, 8, 2 * T + 5, 3 * T - 1 };
	enum { N = ARRAY_LEN(rows), C = 64, D = 4 * C };
	struct gpt *g = trained(be, &small, 3);
	const struct gpt_hook all = gpt_forward_hook(g, idx, B, T);
	real *acts = host_copy(g, all.acts, B * T * D), *fc = host_copy(g, all.pre_gelu, B * T * D);
	real *resid = host_copy(g, all.resid, B * T * C), *attn = host_copy(g, all.attn_out, B * T * C);
	const struct gpt_hook some = gpt_forward_rows(g, idx, B, T, rows, N);
	const struct { const real *some; real *all; size_t width; } pairs[] = {
		{ some.acts, acts, D }, { some.pre_gelu, fc, D }, { some.resid, resid, C }, { some.attn_out, attn, C } };
	double off = 0;

	for (size_t p = 0; p < ARRAY_LEN(pairs); p++) {
		const size_t w = pairs[p].width;
		real *got = host_copy(g, pairs[p].some, N * w);

		for (size_t i = 0; i < N * w; i++)
			off = fmax(off, fabs((double)got[i] - (double)pairs[p].all[rows[i / w] * w + i % w]));
		free(got);
		free(pairs[p].all);
	}
	check(off < 2e-5, "%s: some rows alone (off by %g)", be->name, off);
	gpt_free(g);
}

static void training(const struct backend *be)
{
	struct gpt *g = trained(be, &small, 40), *twin = trained(be, &small, 40);
	const struct gpt_hyper h = { .9, .95, 1e-8, .1, 1 };
	const double loss = gpt_loss(g, idx, targets, B, T);

	check(loss < 0.5, "%s: a batch is learned by heart (loss %.3f)", be->name, loss);
	check(same_weights(g, twin), "%s: twice the same bits", be->name);
	gpt_zero_grads(g);
	check(gpt_grad_norm(g) == 0, "%s: gradients zeroed", be->name);
	gpt_step(g, idx, targets, B, T, 1);
	const double norm = gpt_grad_norm(g);

	gpt_update(g, &h, 0);
	check(gpt_tally(g).norm == norm && same_weights(g, twin), "%s: a learning rate of 0", be->name);
	gpt_free(g);
	gpt_free(twin);
}

static void schedule(void)
{
	check(gpt_lr(0, 1, .1, 0, 10) == 1, "no warm-up");
	check(gpt_lr(0, 1, .1, 5, 10) == 0 && gpt_lr(1, 1, .1, 5, 10) == 0.2, "warm-up from 0");
	check(gpt_lr(5, 1, .1, 5, 5) == 1 && gpt_lr(6, 1, .1, 5, 5) == .1, "no decay");
	check(fabs(gpt_lr(10, 1, .1, 0, 20) - .55) < 1e-15, "half way down");
	check(fabs(gpt_lr(20, 1, .1, 0, 20) - .1) < 1e-15 && gpt_lr(21, 1, .1, 0, 20) == .1, "the end of the decay");
}

/* ---- files ---- */

static void write_gpt(struct gpt *g, const char *path)
{
	struct tensors_writer *w = tensors_create();

	gpt_store(g, w);
	tensors_write(w, path);
}

static bool equal_config(const struct gpt_config *a, const struct gpt_config *b)
{
	return a->n_layer == b->n_layer && a->n_head == b->n_head && a->n_embd == b->n_embd &&
	       a->block_size == b->block_size && a->vocab_size == b->vocab_size && a->bias == b->bias;
}

/* g's tensors as zeros, without "without", "reshaped" in another shape, with one line of metadata */
struct edit {
	struct tensors_writer *w;
	const char *without, *reshaped;
	real *host;
};

static void put_edited(void *arg, const char *name, size_t ndim, const size_t *shape,
		       real *w, real *dw, real *m, real *v)
{
	struct edit *e = arg;
	const size_t n = shape[0] * (ndim > 1 ? shape[1] : 1);

	if (e->without && !strcmp(name, e->without))
		return;
	const bool flat = e->reshaped && !strcmp(name, e->reshaped);

	tensors_put(e->w, name, flat ? 1 : ndim, flat ? &n : shape, e->host);
	(void)w, (void)dw, (void)m, (void)v;
}

static void write_edited(struct gpt *g, const char *path, const char *without, const char *reshaped,
			 const char *key, const char *value)
{
	struct edit e = { tensors_create(), without, reshaped, xcalloc(g->n_params, sizeof(real)) };

	gpt_each(g, put_edited, &e);
	if (key)
		tensors_set(e.w, key, "%s", value);
	tensors_write(e.w, path);
	free(e.host);
}

static void open_gpt(void *path)
{
	char id[33];

	gpt_free(gpt_open(backend_open("ref", "f32"), path, 1, id));
}

static void files(const struct backend *be)
{
	struct gpt *g = trained(be, &small, 2);
	char id[33];

	write_gpt(g, "gpt");
	struct gpt *back = gpt_open(be, "gpt", B, id);

	check(equal_config(&back->c, &small), "%s: configuration read back", be->name);
	check(same_weights(g, back), "%s: weights read back", be->name);
	check(strlen(id) == 32, "%s: id", be->name);
	gpt_free(back);
	write_edited(g, "bare", NULL, NULL, NULL, NULL);
	back = gpt_open(be, "bare", B, id);
	check(equal_config(&back->c, &small), "%s: configuration by shapes, heads of 32", be->name);
	gpt_free(back);
	write_edited(g, "heads", NULL, NULL, "n_head", "8");
	back = gpt_open(be, "heads", B, id);
	check(back->c.n_head == 8, "%s: heads by metadata", be->name);
	gpt_free(back);
	gpt_free(g);
}

/* nanoGPT's files hold the tied weights once or twice. */
static void heads(struct gpt *g)
{
	const size_t C = small.n_embd;
	struct edit e = { .host = xcalloc(g->n_params, sizeof(*e.host)) };
	float *head = xcalloc(V * C, sizeof(*head));

	for (size_t i = 0; i < 3; i++) {
		e.w = tensors_create();
		gpt_each(g, put_edited, &e);
		head[V * C - 1] = i == 1;
		tensors_put(e.w, "lm_head.weight", 2, (size_t[]){ V - (i == 2), C }, head);
		tensors_write(e.w, "bad");
		if (i > 0)
			dies("a head of its own", "'bad': lm_head.weight is not transformer.wte.weight", open_gpt, "bad");
		else
			open_gpt("bad");
	}
	free(e.host), free(head);
}

static void bad_files(void)
{
	struct gpt *g = gpt_new(backend_open("ref", "f32"), &small, 1, GPT_EVAL);
	static const struct { const char *without, *reshaped, *key, *value, *text; } bad[] = {
		{ "transformer.h.1.mlp.c_fc.bias", NULL, NULL, NULL, "'bad' has no tensor 'transformer.h.1.mlp.c_fc.bias'" },
		{ "transformer.wte.weight", NULL, NULL, NULL, "'bad' is no GPT" },
		{ "transformer.h.0.ln_1.weight", NULL, NULL, NULL, "'bad' is no GPT" },
		{ NULL, "transformer.wpe.weight", NULL, NULL, "'bad': tensor 'transformer.wpe.weight' is no matrix" },
		{ NULL, "transformer.h.0.attn.c_proj.weight", NULL, NULL, "'bad': tensor 'transformer.h.0.attn.c_proj.weight'" },
		{ NULL, NULL, "n_layer", "1", "'bad': n_layer is 1 in its metadata, 2 by its tensors" },
		{ NULL, NULL, "vocab_size", "999999999999", "'bad': vocab_size" },
		{ NULL, NULL, "block_size", "many", "'bad' has no number 'block_size'" },
		{ NULL, NULL, "n_head", "3", "'bad': width 64 cannot be split over 3 heads" },
		{ NULL, NULL, "n_head", "0", "'bad': width 64 cannot be split over 0 heads" },
	};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		write_edited(g, "bad", bad[i].without, bad[i].reshaped, bad[i].key, bad[i].value);
		dies(bad[i].text, bad[i].text, open_gpt, "bad");
	}
	heads(g);
	gpt_free(g);
}

/* ---- states ---- */

static void load_short(void *arg)
{
	struct buf *st = arg;

	gpt_load_state(gpt_new(backend_open("ref", "f32"), &small, B, GPT_TRAIN), &(struct cursor){ st->p, st->n - 1 });
}

static void states(const struct backend *be)
{
	const struct gpt_hyper h = { .9, .95, 1e-8, .1, 1 };
	struct gpt *whole = trained(be, &small, 5), *first = trained(be, &small, 2);
	struct gpt *next = gpt_new(be, &small, B, GPT_TRAIN);
	struct buf st = { 0 };

	gpt_save_state(first, &st);
	struct cursor c = { st.p, st.n };

	gpt_load_state(next, &c);
	check(c.left == 0 && next->t == 2, "%s: a state is read whole", be->name);
	for (size_t i = 2; i < 5; i++) {
		gpt_zero_grads(next);
		gpt_step(next, idx, targets, B, T, 1);
		gpt_update(next, &h, 1e-2);
	}
	check(same_weights(whole, next), "%s: a run goes on from a state", be->name);
	dies("a state that is cut", "state", load_short, &st);
	buf_free(&st);
	gpt_free(whole);
	gpt_free(first);
	gpt_free(next);
}

int main(void)
{
	static const char *const devices[] = { "ref", "cpu" };
	char dir[] = "/tmp/u-gpt.XXXXXX";

	base_tool = "u-gpt";
	base_quiet = true;
	if (!mkdtemp(dir) || chdir(dir) != 0)
		die_errno("cannot enter '%s'", dir);
	for (size_t i = 0; i < B * T; i++) {
		idx[i] = (int32_t)rng_below(rng_hash(1, RNG_TEST, 0, i), V);
		targets[i] = i == 4 ? -1 : (int32_t)rng_below(rng_hash(1, RNG_TEST, 1, i), V);
	}
	schedule();
	bad_files();
	pool_start(2);
	for (size_t d = 0; d < ARRAY_LEN(devices); d++) {
		const struct backend *be = backend_open(devices[d], "f32");

		begin(be);
		passes(be);
		some_rows(be);
		training(be);
		files(be);
		states(be);
	}
	static const char *const files_made[] = { "gpt", "bare", "heads", "bad" };

	for (size_t i = 0; i < ARRAY_LEN(files_made); i++)
		unlink(files_made[i]);
	if (chdir("/") != 0 || rmdir(dir) != 0)
		warn("'%s' is left behind", dir);
	return check_done();
}
