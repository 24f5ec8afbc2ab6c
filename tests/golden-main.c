/* golden [--isas | --device NAME [--precision P]] DIR [PREFIX…] -- replays every fixture of a folder (whose name
 * starts so) on ref and the cpu, with --isas also on instruction sets of the cpu that it would not take here and in
 * bf16, or on that device alone; TAP, exit 1 on any failure */
#include "golden.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "amx.h"
#include "check.h"
#include "cpu_bf16.h"
#include "opt.h"
#include "pool.h"

/* In bf16, and in tf32 */
static const struct tolerance
	half_values = { TOL_L2, 0, 2e-2, .max = 0.2 }, half_gpt_loss = { TOL_ELEMENT, 0, .rel = 2e-3 },
	half_gpt_grad = { TOL_L2, 0, .rel = 6e-2 }, half_update = { TOL_UPDATE, 0, .rel = 0.15 },
	half_sae_loss = { TOL_ELEMENT, 0, .rel = 2e-3 }, half_sae_grad = { TOL_L2, 0, .rel = 0.1 },
	half_sae_weights = { TOL_L2, 0, .rel = 2e-2 }, half_probs = { TOL_ELEMENT, 0, .rel = 2e-2 },
	half_score = { TOL_ELEMENT, 2e-3, .rel = 0 }, half_count = { TOL_ELEMENT, 25, .rel = 0 },
	half_attributed = { TOL_ELEMENT, 6e-2, .rel = 0 }, half_l0 = { TOL_ELEMENT, 0, .rel = 1e-2 },
	not_in_half = { .kind = TOL_NONE };

const struct tolerance
	tol_acts = { TOL_ELEMENT, 2e-5, 1e-4, .bf16 = &half_values },
	tol_latents = { TOL_ELEMENT, 5e-5, 1e-4, .bf16 = &half_values },
	tol_gpt_loss = { TOL_ELEMENT, 0, 2e-6, .bf16 = &half_gpt_loss },
	tol_gpt_losses = { TOL_ELEMENT, 0, 5e-5, .bf16 = &half_gpt_loss },
	tol_grad_norm = { TOL_ELEMENT, 0, 5e-5, .bf16 = &half_gpt_grad },
	tol_gpt_grad = { TOL_L2, 0, 2e-5, .bf16 = &half_gpt_grad },
	tol_zero_grad = { TOL_L2, 1e-6, 2e-5, .bf16 = &not_in_half },
	tol_update = { TOL_UPDATE, 0, 5e-3, .bf16 = &half_update },
	tol_sae_loss = { TOL_ELEMENT, 0, 1e-5, .bf16 = &half_sae_loss },
	tol_sae_losses = { TOL_ELEMENT, 0, 2e-5, .bf16 = &half_sae_loss },
	tol_l0 = { TOL_ELEMENT, 3.0 / 64, 0, .bf16 = &half_l0 },
	tol_sae_grad = { TOL_L2, 0, 2e-5, .bf16 = &half_sae_grad },
	tol_sae_weights = { TOL_ELEMENT, 1e-5, 0, .bf16 = &half_sae_weights },
	tol_sae_loop = { TOL_ELEMENT, 3e-5, 0, .bf16 = &half_sae_weights },
	tol_probs = { TOL_ELEMENT, 0, 5e-5, .bf16 = &half_probs },
	tol_probs_loop = { TOL_ELEMENT, 0, 2e-4, .bf16 = &half_probs },
	tol_resampled = { TOL_ELEMENT, 1e-30, .rel = 1e-6 },
	tol_nll = { TOL_ELEMENT, 0, 1e-5, .bf16 = &half_gpt_loss },
	tol_mse = { TOL_ELEMENT, 0, 1e-4, .bf16 = &half_gpt_loss },
	tol_score = { TOL_ELEMENT, 1e-4, 0, .bf16 = &half_score },
	tol_count = { TOL_ELEMENT, 3, 0, .bf16 = &half_count },
	tol_count_eval = { TOL_ELEMENT, 2, 0, .bf16 = &half_count },
	tol_ablation = { TOL_ELEMENT, 1e-4, 0, .bf16 = &not_in_half },
	tol_attributed = { TOL_ELEMENT, 2e-5, 1e-4, .bf16 = &half_attributed },
	tol_share = { TOL_ELEMENT, 1e-2, .rel = 1e-2 }, tol_exact = { TOL_ELEMENT, 0, .rel = 0 },
	tol_lr = { TOL_ELEMENT, 0, .rel = 1e-12 },
	tol_moments = { TOL_L2, 1e-9, 1e-3, .bf16 = &not_in_half };

static void fail_where(const char *what, size_t i, double got, double ref)
{
	printf("#   %s: first at %zu: got %.9g, want %.9g\n", what, i, got, ref);
}

void golden_check(const struct golden *g, const char *what, bool ok)
{
	check(ok, "%s %s %s", g->path, g->name, what);
}

static bool in_bf16(const struct golden *g)
{
	return strcmp(g->be->precision, "f32");
}

static bool within(const double *got, const double *ref, size_t n, struct tolerance tol, size_t *at)
{
	double d2 = 0, r2 = 0;

	for (size_t i = 0; i < n; i++) {
		const double d = fabs(got[i] - ref[i]);

		if (!isfinite(got[i]) || (tol.max > 0 && d > tol.max) ||
		    (tol.kind == TOL_ELEMENT && d > tol.abs + tol.rel * fabs(ref[i]))) {
			*at = i;
			return false;
		}
		d2 += d * d;
		r2 += ref[i] * ref[i];
	}
	*at = 0;
	return tol.kind == TOL_ELEMENT || sqrt(d2) <= tol.abs + tol.rel * sqrt(r2);
}

void golden_values(const struct golden *g, const char *what, const double *got, const double *ref,
		   size_t n, struct tolerance tol)
{
	size_t at;

	if (in_bf16(g) && tol.bf16)
		tol = *tol.bf16;
	if (tol.kind == TOL_NONE)
		return;
	const bool ok = within(got, ref, n, tol, &at);

	golden_check(g, what, ok);
	if (!ok)
		fail_where(what, at, got[at], ref[at]);
}

const struct tensor *golden_find(const struct golden *g, const char *fmt, ...)
{
	char name[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(name, sizeof(name), fmt, ap);
	va_end(ap);
	const struct tensor *t = tensors_find(g->t, name);

	if (!t)
		die("%s/%s.safetensors has no tensor '%s'", g->dir, g->name, name);
	return t;
}

static double *doubles(const struct golden *g, const char *name, size_t *n)
{
	const struct tensor *t = golden_find(g, "%s", name);
	double *v = xcalloc(t->count + 1, sizeof(*v));

	*n = t->count;
	for (size_t i = 0; i < t->count; i++) {
		if (!strcmp(t->dtype, "F32"))
			v[i] = ((const float *)t->data)[i];
		else if (!strcmp(t->dtype, "F64"))
			v[i] = ((const double *)t->data)[i];
		else if (!strcmp(t->dtype, "I32"))
			v[i] = ((const int32_t *)t->data)[i];
		else
			v[i] = ((const uint8_t *)t->data)[i];
	}
	return v;
}

float *golden_floats(const struct golden *g, const char *name, size_t *n)
{
	size_t count;
	double *v = doubles(g, name, &count);
	float *f = xcalloc(count + 1, sizeof(*f));

	for (size_t i = 0; i < count; i++)
		f[i] = (float)v[i];
	free(v);
	if (n)
		*n = count;
	return f;
}

int32_t *golden_ints(const struct golden *g, const char *name, size_t *n)
{
	size_t count;
	double *v = doubles(g, name, &count);
	int32_t *f = xcalloc(count + 1, sizeof(*f));

	for (size_t i = 0; i < count; i++)
		f[i] = (int32_t)v[i];
	free(v);
	if (n)
		*n = count;
	return f;
}

void golden_tensor(const struct golden *g, const char *tensor, const float *got, size_t n, struct tolerance tol)
{
	size_t count;
	double *ref = doubles(g, tensor, &count), *v = xcalloc(n + 1, sizeof(*v));

	for (size_t i = 0; i < n; i++)
		v[i] = got[i];
	if (count != n)
		die("%s %s: %zu values, %zu expected", g->name, tensor, n, count);
	golden_values(g, tensor, v, ref, n, tol);
	free(ref);
	free(v);
}

void golden_device(const struct golden *g, const char *tensor, const real *got, size_t n, struct tolerance tol)
{
	float *host = xcalloc(n + 1, sizeof(*host));

	g->be->get(host, got, n * sizeof(*host));
	golden_tensor(g, tensor, host, n, tol);
	free(host);
}

void golden_update(const struct golden *g, const char *tensor, const char *init, const real *got, size_t n,
		   size_t skip_from, size_t skip_to)
{
	const double rel = in_bf16(g) ? half_update.rel : tol_update.rel;
	size_t count;

	if (in_bf16(g) && !strncmp(tensor, "after", 5))         /* Adam's first steps: signs of gradients */
		return;
	double *ref = doubles(g, tensor, &count), *from = doubles(g, init, &count), d2 = 0, u2 = 0;
	float *host = xcalloc(n + 1, sizeof(*host));

	g->be->get(host, got, n * sizeof(*host));
	for (size_t i = 0; i < n; i++) {
		if (i >= skip_from && i < skip_to)
			continue;
		d2 += (host[i] - ref[i]) * (host[i] - ref[i]);
		u2 += (ref[i] - from[i]) * (ref[i] - from[i]);
	}
	golden_check(g, tensor, sqrt(d2) <= rel * sqrt(u2));
	if (!(sqrt(d2) <= rel * sqrt(u2)))
		printf("#   %s: update-relative error %.3g\n", tensor, sqrt(d2 / u2));
	free(host);
	free(ref);
	free(from);
}

static json_t *member(const struct golden *g, const char *key)
{
	json_t *v = json_object_get(g->j, key);

	if (!v)
		die("%s/%s.json has no '%s'", g->dir, g->name, key);
	return v;
}

double golden_num(const struct golden *g, const char *key)
{
	return json_number_value(member(g, key));
}

static void flatten(json_t *v, double **out, size_t *n)
{
	size_t i;
	json_t *x;

	if (!json_is_array(v)) {
		*out = xrealloc(*out, *n + 1, sizeof(**out));
		(*out)[(*n)++] = json_number_value(v);
		return;
	}
	json_array_foreach(v, i, x)
		flatten(x, out, n);
}

double *golden_nums(const struct golden *g, const char *key, size_t *n)
{
	double *out = xcalloc(1, sizeof(*out));

	*n = 0;
	flatten(member(g, key), &out, n);
	return out;
}

static const struct {
	const char *prefix;
	void (*replay)(struct golden *g);
	bool bf16;              /* there too; the pages' lists are compared entry by entry */
} kinds[] = {
	{ "gpt_forward_", golden_gpt_forward, true }, { "gpt_train_", golden_gpt_train, true },
	{ "sae_train_data", NULL, false }, { "sae_train_", golden_sae_train, true },
	{ "sae_resample_", golden_sae_resample, true }, { "sae_loop_", golden_sae_loop, true },
	{ "sae_eval", golden_sae_eval, true }, { "feature_page", golden_feature_page, false },
	{ "attributed_", golden_attributed, true }, { "schedules", golden_schedules, false },
	{ "pipeline_model", NULL, false },
};

static void replay(struct golden *g, const char *name)
{
	size_t k = 0;
	json_error_t error;

	while (k < ARRAY_LEN(kinds) && strncmp(name, kinds[k].prefix, strlen(kinds[k].prefix)))
		k++;
	if (k == ARRAY_LEN(kinds))
		die("'%s/%s.json' is of no known kind", g->dir, name);
	if (!kinds[k].replay || (in_bf16(g) && !kinds[k].bf16))
		return;
	g->name = name;
	char *path = xformat("%s/%s.json", g->dir, name);
	if (!(g->j = json_load_file(path, 0, &error)))
		die("cannot read '%s': %s", path, error.text);
	free(path);
	path = xformat("%s/%s.safetensors", g->dir, name);
	g->t = file_exists(path) ? tensors_open(path) : NULL;
	kinds[k].replay(g);
	if (g->t)
		tensors_close(g->t);
	json_decref(g->j);
	free(path);
}

static int is_json(const struct dirent *d)
{
	const char *dot = strrchr(d->d_name, '.');

	return dot && !strcmp(dot, ".json");
}

static bool chosen(const char *name, char **prefixes)
{
	for (char **p = prefixes; *p; p++)
		if (!strncmp(name, *p, strlen(*p)))
			return true;
	return !*prefixes;
}

/* Backends, and what a backend chooses by the processor. */
static const struct {
	const char *name, *device, *isa, *units;        /* units: of products in bf16 */
} paths[] = {
	{ "ref", "ref", NULL, NULL }, { "cpu", "cpu", NULL, NULL },
	{ "cpu-avx2", "cpu", "avx2", NULL }, { "cpu-plain", "cpu", "plain", NULL },
	{ "bf16-amx", "cpu", NULL, "amx" }, { "bf16-avx512", "cpu", NULL, "avx512bf16" },
	{ "bf16-avx2", "cpu", "avx2", "avx2" }, { "bf16-plain", "cpu", "plain", "plain" },
};

static bool take_units(const char *units)
{
	return cpu_bf16_use(units) || (!strcmp(units, "amx") && amx_emulate());
}

/* The chosen ones of a folder's fixtures. */
static void replay_all(struct golden *g, struct dirent **list, int n, char **prefixes)
{
	for (int i = 0; i < n; i++) {
		char *name = xstrdup(list[i]->d_name);

		*strrchr(name, '.') = 0;
		if (chosen(name, prefixes))
			replay(g, name);
		free(name);
	}
}

int main(int argc, char **argv)
{
	static struct opt_common c = OPT_COMMON_INIT;
	static bool isas;
	const struct opt opts[] = { OPT_FLAG(0, "isas", &isas, "all instruction sets"), OPT_DEVICE(&c), OPT_END };
	char **args = opt_parse(argc, argv, opts, "usage: golden [options] DIR [PREFIX…]\n", &c);
	struct dirent **list;

	base_quiet = true;
	const int n = *args ? scandir(*args, &list, is_json, alphasort) : 0;

	if (n <= 0)
		die("no fixtures in '%s'", *args ? *args : "");
	pool_start(2);
	for (size_t p = 0; p < ARRAY_LEN(paths) && !strcmp(c.device, "auto"); p++) {
		const char *isa = paths[p].isa, *units = paths[p].units;
		struct golden g = { .path = paths[p].name, .dir = *args,
			.be = backend_open(paths[p].device, units ? "bf16" : "f32") };

		if ((!isa || (isas && cpu_use_isa(isa))) && (!units || (isas && take_units(units))))
			replay_all(&g, list, n, args + 1);
	}
	if (strcmp(c.device, "auto")) {
		const struct backend *be = backend_open(c.device, c.precision);
		char *path = xformat("%s-%s", be->name, be->precision);

		replay_all(&(struct golden){ .path = path, .dir = *args, .be = be }, list, n, args + 1);
		free(path);
	}
	for (int i = 0; i < n; i++)
		free(list[i]);
	free(list);
	return check_done();
}
