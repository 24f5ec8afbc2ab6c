/* golden-sae: autoencoder training, resampling, loop and schedule fixtures */
#include "golden.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool.h"
#include "gpt.h"
#include "resample.h"

static const char *const parts[] = { "encoder.weight", "encoder.bias", "decoder.weight", "decoder.bias" };

/* (rows, cols) -> (cols, rows): files hold decoder.weight as (D,F), memory as (F,D) */
static void transpose(float *dst, const float *src, size_t rows, size_t cols)
{
	for (size_t i = 0; i < rows; i++)
		for (size_t j = 0; j < cols; j++)
			dst[j * rows + i] = src[i * cols + j];
}

static real *part_of(const struct sae_params *p, size_t i)
{
	return i == 0 ? p->enc : i == 1 ? p->b_enc : i == 2 ? p->dec : p->b_dec;
}

static size_t part_size(const struct sae *s, size_t i)
{
	return i == 0 || i == 2 ? s->D * s->F : i == 1 ? s->F : s->D;
}

static void set_part(const struct golden *g, struct sae *s, const struct sae_params *p, const char *prefix, size_t i)
{
	char *name = xformat("%s%s", prefix, parts[i]);
	const size_t n = part_size(s, i);
	float *x = golden_floats(g, name, NULL), *y = xcalloc(n, sizeof(*y));

	if (i == 2)
		transpose(y, x, s->D, s->F);
	g->be->put(part_of(p, i), i == 2 ? y : x, n * sizeof(*x));
	free(x), free(y), free(name);
}

void golden_set_sae(const struct golden *g, struct sae *s, const struct sae_params *p, const char *prefix)
{
	for (size_t i = 0; i < 4; i++)
		set_part(g, s, p, prefix, i);
}

static void same_part(const struct golden *g, struct sae *s, const struct sae_params *p, const char *prefix, size_t i,
		      struct tolerance tol)
{
	char *name = xformat("%s%s", prefix, parts[i]);
	const size_t n = part_size(s, i);
	float *x = xcalloc(n, sizeof(*x)), *y = xcalloc(n, sizeof(*y));

	g->be->get(x, part_of(p, i), n * sizeof(*x));
	if (i == 2)
		transpose(y, x, s->F, s->D);
	golden_tensor(g, name, i == 2 ? y : x, n, tol);
	free(x), free(y), free(name);
}

static void same(const struct golden *g, struct sae *s, const struct sae_params *p, const char *prefix, struct tolerance tol)
{
	for (size_t i = 0; i < 4; i++)
		same_part(g, s, p, prefix, i, tol);
}

static bool has(const struct golden *g, const char *name)
{
	return tensors_find(g->t, name) != NULL;
}

/* The fixtures' coefficient per row: January's sums over the batch. */
static bool sums(const struct golden *g)
{
	return !strcmp(json_string_value(json_object_get(g->j, "convention")), "sum");
}

static struct sae *make(const struct golden *g, size_t max_rows)
{
	return sae_new(g->be, (size_t)golden_num(g, "n_inputs"), (size_t)golden_num(g, "n_latents"), max_rows, SAE_TRAIN);
}

static float *train_data(const struct golden *g)
{
	char *path = xformat("%s/sae_train_data.safetensors", g->dir);
	struct tensors *t = tensors_open(path);
	const struct tensor *d = tensors_find(t, "data");
	float *x = xcalloc(d->count, sizeof(*x));

	tensors_f32(d, x);
	tensors_close(t);
	free(path);
	return x;
}

struct curves {
	double *loss, *mse, *l1, *l0;
};

static struct curves curves_new(size_t n)
{
	return (struct curves){ xcalloc(n, 8), xcalloc(n, 8), xcalloc(n, 8), xcalloc(n, 8) };
}

static void curve_compare(const struct golden *g, const char *name, double *got, struct tolerance tol)
{
	size_t n;
	float *ref = golden_floats(g, name, &n);
	double *r = xcalloc(n, sizeof(*r));

	for (size_t i = 0; i < n; i++)
		r[i] = ref[i];
	golden_values(g, name, got, r, n, tol);
	free(ref), free(r), free(got);
}

static void curves_compare(const struct golden *g, struct curves c, struct tolerance tol)
{
	curve_compare(g, "loss", c.loss, tol);
	curve_compare(g, "mse", c.mse, tol);
	curve_compare(g, "l1", c.l1, tol);
	curve_compare(g, "l0", c.l0, tol_l0);
}

static void curves_set(struct curves *c, size_t k, struct sae_loss l, double l1_scale)
{
	c->loss[k] = l.loss;
	c->mse[k] = l.mse;
	c->l1[k] = l.l1 * l1_scale;
	c->l0[k] = l.l0;
}

static void first_gradients(struct golden *g, struct sae *s, const float *x, size_t B, double lambda)
{
	sae_gradients(s, x, B, lambda);
	sae_set_tally(s, &(struct sae_tally){ 0 });
	same_part(g, s, &s->g, "grad0.", 0, tol_sae_grad);
	same_part(g, s, &s->g, "grad0.", 1, tol_sae_grad);
	same_part(g, s, &s->g, "grad0.", 3, tol_sae_grad);
	same_part(g, s, &s->g, "grad0_raw.", 2, tol_sae_grad);
	sae_project(s);
	same_part(g, s, &s->g, "grad0_proj.", 2, tol_sae_grad);
}

static void counts_compare(const struct golden *g, const char *name, const uint32_t *count, size_t F, struct tolerance tol)
{
	float *f = xcalloc(F, sizeof(*f));

	for (size_t i = 0; i < F; i++)
		f[i] = (float)count[i];
	golden_tensor(g, name, f, F, tol);
	free(f);
}

static void add_fired(struct sae *s, uint32_t *total)
{
	uint32_t *fired = xcalloc(s->F, sizeof(*fired));

	sae_fired(s, fired);
	for (size_t i = 0; i < s->F; i++)
		total[i] += fired[i];
	free(fired);
}

void golden_sae_train(struct golden *g)
{
	const size_t B = (size_t)golden_num(g, "batch"), steps = (size_t)golden_num(g, "steps");
	const size_t period = (size_t)golden_num(g, "normalise_period");
	const double scale = sums(g) ? (double)B : 1, lambda = golden_num(g, "lam") * scale;
	struct sae *s = make(g, B * steps);
	float *x = train_data(g);
	uint32_t *count = xcalloc(s->F, sizeof(*count));
	struct curves c = curves_new(steps);

	golden_set_sae(g, s, &s->p, "init.");
	if (has(g, "grad0.encoder.weight"))
		first_gradients(g, s, x, B, lambda);
	for (size_t k = 0; k < steps; k++) {
		sae_step(s, x + k * B * s->D, B, lambda, golden_num(g, "lr"));
		curves_set(&c, k, sae_take_loss(s, lambda), scale);
		if (k % period == 0)
			sae_normalise(s);
		add_fired(s, count);
		if (k == 0)
			same(g, s, &s->p, "after1.", tol_sae_weights);
	}
	curves_compare(g, c, tol_sae_loss);
	same(g, s, &s->p, "final.", tol_sae_weights);
	if (has(g, "final_m.encoder.weight")) {
		same(g, s, &s->m, "final_m.", tol_moments);
		same(g, s, &s->v, "final_v.", tol_moments);
	}
	counts_compare(g, "train_activation_counts", count, s->F, tol_count);
	memset(count, 0, s->F * sizeof(*count));
	g->be->put(s->x, x, B * steps * s->D * sizeof(*x));
	struct sae_sums unused = { 0 };
	sae_reconstruct(s, s->x, B * steps, &unused);
	add_fired(s, count);
	counts_compare(g, "final_activation_counts", count, s->F, tol_count);
	sae_free(s);
	free(x), free(count);
}

static void probs_compare(const struct golden *g, struct sae *s, const char *name, const float *rows, size_t n,
			  struct tolerance tol)
{
	float *err2 = xcalloc(n, sizeof(*err2)), *l1 = xcalloc(n, sizeof(*l1));

	sae_row_losses(s, rows, n, err2, l1);
	for (size_t i = 0; i < n; i++)          /* the reference: a = 1 and its raw coefficient */
		err2[i] = (float)resample_weight(1, golden_num(g, "lam"), err2[i], l1[i]);
	golden_tensor(g, name, err2, n, tol);
	free(err2), free(l1);
}

static double apply(struct sae *s, const int32_t *dead, const int32_t *picks, size_t n, const float *rows)
{
	uint32_t *who = xcalloc(n + 1, sizeof(*who));
	float *x = xcalloc(n * s->D + 1, sizeof(*x));

	for (size_t i = 0; i < n; i++) {
		who[i] = (uint32_t)dead[i];
		memcpy(x + i * s->D, rows + (size_t)picks[i] * s->D, s->D * sizeof(*x));
	}
	const double norm = resample_apply(s, who, n, x, n);

	free(who), free(x);
	return norm;
}

void golden_sae_resample(struct golden *g)
{
	size_t n, rows;
	int32_t *dead = golden_ints(g, "dead", &n), *picks = golden_ints(g, "picks", NULL);
	float *data = golden_floats(g, "resample_data", &rows), *next = golden_floats(g, "next_batch", NULL);
	const size_t B = golden_find(g, "next_batch")->shape[0];
	struct sae *s = make(g, rows);

	rows /= s->D;
	golden_set_sae(g, s, &s->p, "before.");
	golden_set_sae(g, s, &s->m, "before_m.");
	golden_set_sae(g, s, &s->v, "before_v.");
	s->t = (uint64_t)golden_num(g, "adam_step_before");
	probs_compare(g, s, "probs", data, rows, tol_probs);
	const double norm = apply(s, dead, picks, n, data), want = golden_num(g, "average_alive_encoder_norm");
	golden_values(g, "average_alive_encoder_norm", &norm, &want, 1, tol_resampled);
	golden_check(g, "adam_step_after", s->t == (uint64_t)golden_num(g, "adam_step_after"));
	same(g, s, &s->p, "after.", tol_resampled);
	same(g, s, &s->m, "after_m.", tol_exact);
	same(g, s, &s->v, "after_v.", tol_exact);
	const double lambda = golden_num(g, "lam") * (sums(g) ? (double)B : 1);
	sae_set_tally(s, &(struct sae_tally){ 0 });
	sae_step(s, next, B, lambda, golden_num(g, "lr"));
	const double loss = sae_take_loss(s, lambda).loss;
	const double next_loss = golden_num(g, "next_loss");
	golden_values(g, "next_loss", &loss, &next_loss, 1, tol_sae_loss);
	same(g, s, &s->p, "next.", tol_sae_weights);
	sae_free(s);
	free(dead), free(picks), free(data), free(next);
}

/* Event e of a loop: the dead set found against the recorded one, then the recorded picks. */
static void loop_event(struct golden *g, struct sae *s, size_t e, const uint8_t *presumed)
{
	char name[64], data[64];
	size_t n, rows, found = 0;
	bool equal = true;

	snprintf(name, sizeof(name), "resample%zu.dead", e);
	int32_t *dead = golden_ints(g, name, &n);
	snprintf(data, sizeof(data), "resample%zu.picks", e);
	int32_t *picks = golden_ints(g, data, NULL);
	for (size_t f = 0; f < s->F; f++)
		if (presumed[f]) {
			equal = equal && found < n && dead[found] == (int32_t)f;
			found++;
		}
	golden_check(g, name, equal && found == n);
	snprintf(data, sizeof(data), "resample%zu.data", has(g, "resample1.data") ? e : (size_t)0);
	float *x = golden_floats(g, data, &rows);
	snprintf(name, sizeof(name), "resample%zu.probs", e);
	probs_compare(g, s, name, x, rows / s->D, tol_probs_loop);
	apply(s, dead, picks, n, x);
	snprintf(name, sizeof(name), "resample%zu.after.", e);
	same(g, s, &s->p, name, tol_sae_loop);
	free(dead), free(picks), free(x);
}

void golden_sae_loop(struct golden *g)
{
	const size_t B = (size_t)golden_num(g, "batch"), steps = (size_t)golden_num(g, "steps");
	const double scale = sums(g) ? (double)B : 1, lambda = golden_num(g, "lam") * scale;
	const struct resample_plan plan = { (uint64_t)golden_num(g, "interval"), sums(g) ? 4 : 2,
		sums(g) ? RESAMPLE_JAN2024 : RESAMPLE_HEAD };
	struct sae *s = make(g, 256);
	float *x = train_data(g);
	struct resampler *r = resampler_new(s, &plan, 64);
	struct curves c = curves_new(steps);

	golden_set_sae(g, s, &s->p, "init.");
	for (size_t k = 0; k < steps; k++) {
		sae_step(s, x + k * B * s->D, B, lambda, golden_num(g, "lr"));
		curves_set(&c, k, sae_take_loss(s, lambda), scale);
		if (k % (size_t)golden_num(g, "normalise_period") == 0)
			sae_normalise(s);
		resampler_watch(r, k);
		const int64_t e = resample_event(&plan, k);
		if (e >= 0 && e < 2) {
			loop_event(g, s, (size_t)e, resampler_presumed(r));
			memset(resampler_presumed(r), 0, s->F);
		}
	}
	curves_compare(g, c, tol_sae_losses);
	same(g, s, &s->p, "final.", tol_sae_loop);
	same(g, s, &s->m, "final_m.", tol_moments);
	same(g, s, &s->v, "final_v.", tol_moments);
	resampler_free(r);
	sae_free(s);
	free(x);
}

static bool steps_equal(json_t *want, const struct resample_plan *p, uint64_t steps, bool (*is)(const struct resample_plan *, uint64_t))
{
	size_t found = 0;

	for (uint64_t k = 0; k < steps; k++)
		if (is(p, k) && json_integer_value(json_array_get(want, found++)) != (json_int_t)k)
			return false;
	return found == json_array_size(want);
}

static bool in_ranges(json_t *ranges, uint64_t k)
{
	size_t i;
	json_t *r;

	json_array_foreach(ranges, i, r)
		if ((json_int_t)k >= json_integer_value(json_array_get(r, 0)) &&
		    (json_int_t)k < json_integer_value(json_array_get(r, 1)))
			return true;
	return false;
}

static bool is_event(const struct resample_plan *p, uint64_t k)
{
	return resample_event(p, k) >= 0;
}

static void schedule_version(struct golden *g, json_t *s, const char *version, enum resample_version v)
{
	json_t *want = json_object_get(s, version), *calls = json_object_get(want, v == RESAMPLE_HEAD ? "resample" : "resample_calls");
	const uint64_t interval = (uint64_t)json_integer_value(json_object_get(s, "interval"));
	const uint64_t steps = (uint64_t)json_integer_value(json_object_get(s, "steps"));
	/* January recurred for ever, as no-ops after its fourth window. */
	const uint64_t events = v == RESAMPLE_HEAD ? (uint64_t)json_integer_value(json_object_get(s, "num_resamples")) : 4;
	const struct resample_plan p = { interval, events, v };
	bool counts = true;
	char what[96];

	while (json_array_size(calls) > events)
		json_array_remove(calls, json_array_size(calls) - 1);
	for (uint64_t k = 0; k < steps; k++)
		counts = counts && resample_counts(&p, k) == in_ranges(json_object_get(want, "update_ranges"), k);
	snprintf(what, sizeof(what), "%s interval %llu", version, (unsigned long long)interval);
	char *line = xformat("%s initiate", what);
	golden_check(g, line, steps_equal(json_object_get(want, "initiate"), &p, steps, resample_starts));
	free(line);
	line = xformat("%s update_ranges", what);
	golden_check(g, line, counts);
	free(line);
	line = xformat("%s resample", what);
	golden_check(g, line, steps_equal(calls, &p, steps, is_event));
	free(line);
}

void golden_schedules(struct golden *g)
{
	size_t i, k;
	json_t *s, *it;

	json_array_foreach(json_object_get(g->j, "lr"), i, s) {
		json_t *want = json_object_get(s, "lr");
		double ok = 1;

		json_array_foreach(json_object_get(s, "it"), k, it) {
			const double lr = gpt_lr((uint64_t)json_integer_value(it), json_number_value(json_object_get(s, "learning_rate")),
				json_number_value(json_object_get(s, "min_lr")), (uint64_t)json_integer_value(json_object_get(s, "warmup_iters")),
				(uint64_t)json_integer_value(json_object_get(s, "lr_decay_iters")));
			const double ref = json_number_value(json_array_get(want, k));
			ok = ok && fabs(lr - ref) <= 1e-12 * ref;
		}
		golden_check(g, i ? "lr second schedule" : "lr first schedule", ok);
	}
	json_array_foreach(json_object_get(g->j, "resampling"), i, s) {
		schedule_version(g, s, "head", RESAMPLE_HEAD);
		schedule_version(g, s, "jan2024", RESAMPLE_JAN2024);
	}
}
