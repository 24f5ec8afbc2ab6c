/* golden-gpt: GPT forward, training and learning-rate fixtures */
#include "golden.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct gpt_config config_of(const struct golden *g)
{
	json_t *c = json_object_get(g->j, "config");
	const char *const keys[] = { "n_layer", "n_head", "n_embd", "block_size", "vocab_size" };
	size_t v[5];

	for (size_t i = 0; i < 5; i++)
		v[i] = (size_t)json_integer_value(json_object_get(c, keys[i]));
	return (struct gpt_config){ v[0], v[1], v[2], v[3], v[4],
		json_is_true(json_object_get(c, "bias")) };
}

struct each {
	const struct golden *g;
	const char *prefix;
	enum { SET, GRAD, UPDATE, MOMENT_M, MOMENT_V } what;
};

static void each_tensor(void *arg, const char *name, size_t ndim, const size_t *shape,
			real *w, real *dw, real *m, real *v)
{
	const struct each *e = arg;
	const size_t n = shape[0] * (ndim > 1 ? shape[1] : 1);
	char *full = xformat("%s%s", e->prefix, name), *init = xformat("init.%s", name);
	/* The key part of c_attn.bias has an exactly zero gradient: never compared. */
	const bool key = strstr(name, "c_attn.bias") != NULL;

	if (e->what == SET) {
		float *x = golden_floats(e->g, full, NULL);

		e->g->be->put(w, x, n * sizeof(*x));
		free(x);
	} else if (e->what == UPDATE) {
		golden_update(e->g, full, init, w, n, key ? n / 3 : 0, key ? 2 * n / 3 : 0);
	} else {
		const real *x = e->what == GRAD ? dw : e->what == MOMENT_M ? m : v;

		golden_device(e->g, full, x, n, e->what != GRAD ? tol_moments :
			      key ? tol_zero_grad : tol_gpt_grad);
	}
	free(full);
	free(init);
}

static void each(const struct golden *g, struct gpt *gpt, const char *prefix, int what)
{
	struct each e = { g, prefix, what };

	gpt_each(gpt, each_tensor, &e);
}

static void ones(const struct golden *g, const char *what, double got, double ref, struct tolerance tol)
{
	golden_values(g, what, &got, &ref, 1, tol);
}

static double mean_nll(struct gpt *gpt, const real *acts, const int32_t *targets, size_t n, float *nll)
{
	const double sum = gpt_finish(gpt, acts, targets, nll);
	size_t used = 0;

	for (size_t i = 0; i < n; i++)
		used += targets[i] >= 0;
	return sum / (double)used;
}

static void replaced(const struct golden *g, struct gpt *gpt, const int32_t *targets, size_t rows,
		     size_t B, size_t T, float *nll)
{
	const size_t C4 = 4 * gpt->c.n_embd, V = gpt->c.vocab_size, L = gpt->c.n_layer;
	float *r = golden_floats(g, "replacement", NULL);
	real *acts = g->be->alloc(rows * C4 * sizeof(*acts));
	real *logits = g->be->alloc(2 * V * sizeof(*logits));

	ones(g, "loss_ablated", mean_nll(gpt, acts, targets, rows, nll), golden_num(g, "loss_ablated"), tol_gpt_loss);
	g->be->put(acts, r, rows * C4 * sizeof(*acts));
	ones(g, "loss_replaced", mean_nll(gpt, acts, targets, rows, nll), golden_num(g, "loss_replaced"), tol_gpt_loss);
	gpt_logits(gpt, logits, gpt_ln_f_out(gpt), 2);
	golden_device(g, "logits_replaced_row0", logits, 2 * V, tol_acts);
	if (gpt->c.bias)        /* January skipped the block, its output bias too */
		g->be->zero(gpt->w.out_b + (L - 1) * gpt->c.n_embd, gpt->c.n_embd * sizeof(real));
	g->be->zero(acts, rows * C4 * sizeof(*acts));
	ones(g, "loss_ablated_jan2024", mean_nll(gpt, acts, targets, rows, nll),
	     golden_num(g, "loss_ablated_jan2024"), tol_gpt_loss);
	g->be->release(acts);
	g->be->release(logits);
	free(r);
	(void)B, (void)T;
}

void golden_gpt_forward(struct golden *g)
{
	const struct gpt_config c = config_of(g);
	const size_t B = (size_t)golden_num(g, "B"), T = (size_t)golden_num(g, "T"), rows = B * T;
	struct gpt *gpt = gpt_new(g->be, &c, B, GPT_EVAL);
	int32_t *idx = golden_ints(g, "idx", NULL), *targets = golden_ints(g, "targets", NULL);
	float *nll = xcalloc(rows, sizeof(*nll)), *logits = xcalloc(rows * c.vocab_size, sizeof(*logits));
	float *last = xcalloc(B * c.vocab_size, sizeof(*last));
	real *out = g->be->alloc(rows * c.vocab_size * sizeof(*out));

	each(g, gpt, "", SET);
	const struct gpt_hook h = gpt_forward_hook(gpt, idx, B, T);
	golden_device(g, "attn_out", h.attn_out, rows * c.n_embd, tol_acts);
	golden_device(g, "resid_before_mlp", h.resid, rows * c.n_embd, tol_acts);
	golden_device(g, "mlp_pre_gelu", h.pre_gelu, rows * 4 * c.n_embd, tol_acts);
	golden_device(g, "mlp_acts", h.acts, rows * 4 * c.n_embd, tol_acts);
	ones(g, "loss", mean_nll(gpt, h.acts, targets, rows, nll), golden_num(g, "loss"), tol_gpt_loss);
	golden_tensor(g, "nll_per_token", nll, rows, tol_acts);
	golden_device(g, "ln_f_out", gpt_ln_f_out(gpt), rows * c.n_embd, tol_acts);
	gpt_logits(gpt, out, gpt_ln_f_out(gpt), rows);
	g->be->get(logits, out, rows * c.vocab_size * sizeof(*out));
	golden_tensor(g, "logits", logits, rows * c.vocab_size, tol_acts);
	for (size_t b = 0; b < B; b++)
		memcpy(last + b * c.vocab_size, logits + ((b + 1) * T - 1) * c.vocab_size,
		       c.vocab_size * sizeof(*last));
	golden_tensor(g, "logits_last", last, B * c.vocab_size, tol_acts);
	ones(g, "loss by gpt_loss", gpt_loss(gpt, idx, targets, B, T), golden_num(g, "loss"), tol_gpt_loss);
	replaced(g, gpt, targets, rows, B, T, nll);
	g->be->release(out);
	gpt_free(gpt);
	free(idx), free(targets), free(nll), free(logits), free(last);
}

/* One iteration of train.py; losses of its micro-batches into loss. */
static double iteration(struct golden *g, struct gpt *gpt, const int32_t *idx, const int32_t *targets,
			size_t B, size_t accum, double lr, double *loss, bool first)
{
	const size_t T = gpt->c.block_size;
	json_t *betas = json_object_get(g->j, "betas");
	const struct gpt_hyper h = { json_number_value(json_array_get(betas, 0)),
		json_number_value(json_array_get(betas, 1)), golden_num(g, "eps"),
		golden_num(g, "weight_decay"), golden_num(g, "grad_clip") };

	if (first) {
		gpt_zero_grads(gpt);
		gpt_step(gpt, idx, targets, B, T, 1.0);
		each(g, gpt, "grad_micro0.", GRAD);
	}
	gpt_zero_grads(gpt);
	gpt_set_loss(gpt, 0);
	for (size_t a = 0; a < accum; a++) {
		gpt_step(gpt, idx + a * B * T, targets + a * B * T, B, T, 1.0 / (double)accum);
		loss[a] = gpt_take_loss(gpt) * (double)accum;
	}
	if (first && tensors_find(g->t, "grad_accum0.transformer.wte.weight"))
		each(g, gpt, "grad_accum0.", GRAD);
	gpt_update(gpt, &h, lr);
	return gpt_tally(gpt).norm;
}

void golden_gpt_train(struct golden *g)
{
	const struct gpt_config c = config_of(g);
	const size_t B = (size_t)golden_num(g, "batch_size"), A = (size_t)golden_num(g, "grad_accum");
	size_t iters, n;
	double *lr = golden_nums(g, "lr", &iters), *norm = golden_nums(g, "grad_norm", &n);
	double *ref = golden_nums(g, "loss_micro", &n), *loss = xcalloc(n, sizeof(*loss));
	double *got = xcalloc(iters, sizeof(*got)), *mine = xcalloc(iters, sizeof(*mine));
	int32_t *idx = golden_ints(g, "idx", NULL), *targets = golden_ints(g, "targets", NULL);
	struct gpt *gpt = gpt_new(g->be, &c, B, GPT_TRAIN);
	const size_t step = A * B * c.block_size;

	each(g, gpt, "init.", SET);
	for (size_t i = 0; i < iters; i++) {
		char after[32];

		mine[i] = gpt_lr(i, golden_num(g, "learning_rate"), golden_num(g, "min_lr"),
				 (uint64_t)golden_num(g, "warmup_iters"), (uint64_t)golden_num(g, "lr_decay_iters"));
		got[i] = iteration(g, gpt, idx + i * step, targets + i * step, B, A, mine[i], loss + i * A, i == 0);
		snprintf(after, sizeof(after), "after%zu.", i + 1);
		char *probe = xformat("%stransformer.wte.weight", after);
		if (tensors_find(g->t, probe))
			each(g, gpt, after, UPDATE);
		free(probe);
	}
	golden_values(g, "lr", mine, lr, iters, tol_lr);
	golden_values(g, "loss_micro of the first iteration", loss, ref, A, tol_gpt_loss);
	golden_values(g, "loss_micro", loss, ref, n, tol_gpt_losses);
	golden_values(g, "grad_norm", got, norm, iters, tol_grad_norm);
	each(g, gpt, "final.", UPDATE);
	if (tensors_find(g->t, "final_m.transformer.wte.weight")) {
		each(g, gpt, "final_m.", MOMENT_M);
		each(g, gpt, "final_v.", MOMENT_V);
	}
	gpt_free(gpt);
	free(lr), free(norm), free(ref), free(loss), free(got), free(mine), free(idx), free(targets);
}
