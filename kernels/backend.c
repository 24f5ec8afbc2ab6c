#include "backend.h"

#include <stdio.h>
#include <string.h>

#include "opt.h"
#include "plugin.h"

#define OPS(X) \
	X(alloc) X(release) X(put) X(get) X(zero) X(sync) X(embed_fwd) X(embed_bwd) X(layernorm_fwd) X(layernorm_bwd) \
	X(linear_fwd) X(linear_bwd) X(attention_fwd) X(attention_rows) X(attention_bwd) X(gelu_fwd) X(gelu_bwd) X(add) \
	X(fill_rows) X(gather_rows) X(round_rows) X(column_sums) X(lmhead) X(ablate_logit) X(sae_encode) X(sae_active) \
	X(sae_decode) X(sae_forward) X(sae_grad) X(project_rows) X(normalise_rows) X(row_norms) X(add_sum) X(clip) \
	X(adamw) X(sumsq)
typedef void (*op)(void);

static const struct {
	const char *name;
	size_t at;
} ops[] = {
#define X(name) { #name, offsetof(struct backend, name) },
	OPS(X)
#undef X
};
_Static_assert(offsetof(struct backend, alloc) + ARRAY_LEN(ops) * sizeof(op) == sizeof(struct backend),
	       "OPS names every op of the table");

static bool among(const char *name, const char *words)
{
	const size_t n = strlen(name);

	for (const char *p = words; (p = strstr(p, name)); p += n)
		if ((p == words || p[-1] == ' ') && (p[n] == ' ' || !p[n]))
			return true;
	return false;
}

const char *backend_lacks(const struct backend *b, const char *names)
{
	for (size_t i = 0; i < ARRAY_LEN(ops); i++) {
		op f;

		memcpy(&f, (const char *)b + ops[i].at, sizeof(f));
		if (!f && (!names || among(ops[i].name, names)))
			return ops[i].name;
	}
	return NULL;
}

/* A table is functions behind a name; an empty slot is an op that its backend forgot. */
static void check_complete(const struct backend *b)
{
	const char *missing = backend_lacks(b, NULL);

	if (missing)
		die("device %s lacks %s", b->name, missing);
}

enum { AUTO, REF, CPU, CUDA, CUDASIM, F32 = 1, BF16, TF32 };
static const char *const devices[] = { "auto", "ref", "cpu", "cuda", "cudasim", NULL };
static const char *const precisions[] = { "auto", "f32", "bf16", "tf32", NULL };

static bool is_plugin(size_t device)
{
	return device == CUDA || device == CUDASIM;
}

static size_t precision_of(size_t device, const char *precision)
{
	const size_t p = opt_choice("--precision", precision, precisions);

	if (p == TF32 && !is_plugin(device))
		die("device %s does not compute in tf32; take f32 or bf16", devices[device]);
	if (device == REF && p == BF16)
		die("device ref computes in f32 only, not in bf16");
	if (p != AUTO)
		return p;
	return is_plugin(device) || (device != REF && backend_cpu_has_tiles()) ? BF16 : F32;
}

/* The tables of a plugin's device, opened once for each precision; NULL: *why says why there is none. */
static struct backend *open_plugin(size_t device, const char *precision, const char **why)
{
	static struct {
		struct backend b, exact;
		bool opened;
	} slots[ARRAY_LEN(devices)][ARRAY_LEN(precisions)], *s;
	const size_t p = precision_of(device, precision);

	s = &slots[device][p];
	*why = s->opened ? NULL : plugin_open(devices[device], precisions[p], &s->b, &s->exact);
	s->opened = !*why;
	return s->opened ? &s->b : NULL;
}

/* auto: cuda where there are a driver, a card and the plugin, else cpu, and *why; nothing is loaded where no
 * driver is. */
static size_t resolve(size_t device, const char *precision, const char **why)
{
	*why = NULL;
	if (device != AUTO)
		return device;
	if (!plugin_has_driver("libcuda.so.1"))
		*why = "no driver";
	else
		open_plugin(CUDA, precision, why);
	return *why ? CPU : CUDA;
}

const char *backend_precision(const char *device, const char *precision)
{
	static char words[32];
	const char *no_card;
	const size_t asked = opt_choice("--device", device, devices), d = resolve(asked, precision, &no_card);
	const size_t p = precision_of(d, precision);

	if (!is_plugin(d))
		return p == BF16 ? "bf16" : precision;
	snprintf(words, sizeof(words), "%s%s", asked == AUTO ? "cuda " : "", precisions[p]);
	return words;
}

static struct backend *open_host(size_t device, const char *precision)
{
	static struct backend ref, cpu, cpu_bf16;
	const size_t p = precision_of(device, precision);

	if (device == REF) {
		backend_ref(&ref);
		return &ref;
	}
	backend_cpu(&cpu);
	if (p != BF16)
		return &cpu;
	backend_cpu_bf16(&cpu_bf16, &cpu);
	return &cpu_bf16;
}

const struct backend *backend_open_part(const char *device, const char *precision)
{
	const char *why;
	const size_t d = opt_choice("--device", device, devices);

	if (!is_plugin(d))
		return open_host(d == AUTO ? CPU : d, precision);
	const struct backend *b = open_plugin(d, precision, &why);

	if (!b)
		die("device %s: %s", devices[d], why);
	return b;
}

const struct backend *backend_open(const char *device, const char *precision)
{
	const char *no_card;
	const size_t d = resolve(opt_choice("--device", device, devices), precision, &no_card);
	const struct backend *b = backend_open_part(devices[d], precision);

	check_complete(b);
	check_complete(b->exact);
	say("device %s, precision %s%s%s", b->name, b->precision, no_card ? "; no cuda: " : "", no_card ? no_card : "");
	return b;
}
