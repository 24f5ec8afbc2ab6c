/*
 * ops: every op of the backend table against ref over awkward shapes, on every
 * instruction set that this machine has; and the same bytes on one thread and
 * on two.  A case fills its inputs from rng_hash, so each backend sees the same.
 * In bf16 the same cases pass within what rounding an operand to 8 bits costs.
 *
 *	ops --device NAME [--precision P] [--most N] [OP…]
 *
 * does so on another device, whose table may lack what is not asked for; OP: a
 * case, or an op in it.  --most: elements of an array, of larger shapes none.
 */
#include <stdlib.h>
#include <string.h>

#include "amx.h"
#include "backend.h"
#include "check.h"
#include "cpu_bf16.h"
#include "opt.h"
#include "rng.h"

enum { ARRAYS = 16, THREADS = 2 };

/* One execution of a case: its arrays in backend memory, and what came out. */
struct run {
	const struct backend *be;
	const char *name;               /* the op, set by the case */
	void *memory[ARRAYS];
	size_t arrays;
	struct output {
		const char *name;
		void *device, *host;
		size_t n, size;         /* values, bytes of each */
		double tolerance;       /* ‖d‖ <= tolerance (‖ref‖ + floor) */
		double floor;           /* size of what cancels, where something does */
		double rounding;        /* allowed beside, for what products of this device round */
	} out[ARRAYS];
	size_t outs;
};

struct shape {
	size_t B, T, C, NH, V, N, D, F;
	double at;                      /* case's own: logit scale, bias that sets the density */
};

typedef void (*op_case)(struct run *r, const struct shape *s);

static const double tight = 3e-6;

/* ---- arrays ---- */

static void *put(struct run *r, const void *host, size_t bytes)
{
	void *p = r->be->alloc(bytes ? bytes : 1);

	if (r->arrays == ARRAYS)
		BUG("a case has too many arrays");
	r->be->put(p, host, bytes);
	r->memory[r->arrays++] = p;
	return p;
}

/* n values of mean `shift` and deviation `scale`, the same for every backend */
static float *values(struct run *r, size_t n, double scale, double shift)
{
	float *host = xcalloc(n + 1, sizeof(*host)), *p;

	for (size_t i = 0; i < n; i++)
		host[i] = (float)(shift + scale * rng_normal(7, RNG_TEST, r->arrays, i));
	p = put(r, host, n * sizeof(*host));
	free(host);
	return p;
}

/* n integers in [0, below); -1 where rng says so in one of `skip` cases (0: never) */
static int32_t *integers(struct run *r, size_t n, size_t below, size_t skip)
{
	int32_t *host = xcalloc(n + 1, sizeof(*host)), *p;

	for (size_t i = 0; i < n; i++) {
		host[i] = (int32_t)rng_below(rng_hash(8, RNG_TEST, r->arrays, i), below);
		if (skip && rng_below(rng_hash(9, RNG_TEST, r->arrays, i), skip) == 0)
			host[i] = -1;
	}
	p = put(r, host, n * sizeof(*host));
	free(host);
	return p;
}

static void *result(struct run *r, const char *name, void *device, size_t n, size_t size, double tolerance)
{
	r->out[r->outs++] = (struct output){ name, device, NULL, n, size, tolerance, 0, 0 };
	return device;
}

/* An output: what stands in it before shows in "+=" and must not show in "=". */
static float *output(struct run *r, const char *name, size_t n, double tolerance)
{
	return result(r, name, values(r, n, 1, 0), n, sizeof(float), tolerance);
}

/* A result in host memory, kept until the run is compared. */
static void host_result(struct run *r, const char *name, const double *v, size_t n, double tolerance)
{
	double *copy = xcalloc(n + 1, sizeof(*copy));

	memcpy(copy, v, n * sizeof(*v));
	r->out[r->outs++] = (struct output){ name, NULL, copy, n, sizeof(*v), tolerance, 0, 0 };
}

static void collect(struct run *r)
{
	r->be->sync();
	for (size_t i = 0; i < r->outs; i++)
		if (r->out[i].device) {
			r->out[i].host = xcalloc(r->out[i].n + 1, r->out[i].size);
			r->be->get(r->out[i].host, r->out[i].device, r->out[i].n * r->out[i].size);
		}
	for (size_t i = 0; i < r->arrays; i++)
		r->be->release(r->memory[i]);
}

static void discard(struct run *r)
{
	for (size_t i = 0; i < r->outs; i++)
		free(r->out[i].host);
}

/* ---- cases: transformer ---- */

static void embed(struct run *r, const struct shape *s)
{
	const size_t n = s->B * s->T;
	int32_t *idx = integers(r, n, s->V, 0);
	float *wte = values(r, s->V * s->C, 1, 0), *wpe = values(r, s->T * s->C, 1, 0);
	float *dx = values(r, n * s->C, 1, 0);

	r->be->embed_fwd(output(r, "x", n * s->C, tight), idx, wte, wpe, s->B, s->T, s->C);
	r->be->embed_bwd(output(r, "dwte", s->V * s->C, tight), output(r, "dwpe", s->T * s->C, tight),
			 dx, idx, s->B, s->T, s->C, s->V);
}

static void layernorm(struct run *r, const struct shape *s)
{
	const size_t N = s->B * s->T, C = s->C;
	const bool bias = s->B % 2;
	float *x = values(r, N * C, 2, 1), *w = values(r, C, 1, 1), *b = values(r, C, 1, 0);
	float *dy = values(r, N * C, 1, 0);
	float *mean = output(r, "mean", N, tight), *rstd = output(r, "rstd", N, tight);

	r->be->layernorm_fwd(output(r, "y", N * C, tight), mean, rstd, x, w, bias ? b : NULL, N, C);
	r->be->layernorm_bwd(output(r, "dx", N * C, tight), output(r, "dw", C, tight),
			     bias ? output(r, "db", C, tight) : NULL, dy, x, w, mean, rstd, N, C);
}

static void linear(struct run *r, const struct shape *s)
{
	const size_t N = s->N, I = s->D, O = s->F;
	float *x = values(r, N * I, 1, 0), *w = values(r, O * I, 1, 0), *b = values(r, O, 1, 0);
	float *dy = values(r, N * O, 1, 0);

	r->be->linear_fwd(output(r, "y", N * O, tight), x, w, b, N, I, O);
	r->be->linear_fwd(output(r, "y without bias", N * O, tight), x, w, NULL, N, I, O);
	r->be->linear_bwd(output(r, "dx", N * I, tight), output(r, "dw", O * I, tight),
			  output(r, "db", O, tight), dy, x, w, N, I, O);
	r->be->linear_bwd(NULL, output(r, "dw alone", O * I, tight), NULL, dy, x, w, N, I, O);
}

static void attention(struct run *r, const struct shape *s)
{
	const size_t n = s->B * s->T * s->C;
	const double scale = s->at > 0 ? s->at : 1.5, tolerance = tight * (1 + s->at * s->at);
	float *qkv = values(r, 3 * n, scale, 0), *dy = values(r, n, 1, 0);
	float *y = output(r, "y", n, tolerance), *lse = output(r, "lse", s->B * s->NH * s->T, tight);

	r->be->attention_fwd(y, lse, qkv, s->B, s->T, s->C, s->NH);
	r->be->attention_bwd(output(r, "dqkv", 3 * n, tolerance), dy, y, lse, qkv, s->B, s->T, s->C, s->NH);
}

/* Some rows, as many as one in B + 1; of several contexts one may have none. */
static void attention_rows(struct run *r, const struct shape *s)
{
	const size_t N = s->B * s->T, C = s->C;
	const double scale = s->at > 0 ? s->at : 1.5;
	uint32_t *rows = xcalloc(N, sizeof(*rows));
	size_t n = 0;

	for (size_t i = 0; i < N; i++)
		if ((s->B < 3 || i / s->T != 1) && rng_below(rng_hash(3, RNG_TEST, 0, i), s->B + 1) == 0)
			rows[n++] = (uint32_t)i;
	float *q = values(r, n * C, scale, 0), *kv = values(r, 2 * N * C, scale, 0);
	const uint32_t *which = put(r, rows, n * sizeof(*rows));

	r->be->attention_rows(output(r, "y", n * C, tight * (1 + s->at * s->at)), q, kv, which, n,
			      s->B, s->T, C, s->NH);
	free(rows);
}

static void gelu(struct run *r, const struct shape *s)
{
	const size_t n = s->N;
	float *x = values(r, n, 3, 0), *dy = values(r, n, 1, 0);

	r->be->gelu_fwd(output(r, "y", n, tight), x, n);
	r->be->gelu_bwd(output(r, "dx", n, tight), dy, x, n);
	r->be->gelu_bwd(dy, dy, x, n);
	result(r, "dx in place", dy, n, sizeof(float), tight);
}

/* Values of all sizes that the types have, ties, and those that they cannot hold */
static float *wide_values(struct run *r, size_t n)
{
	float *host = xcalloc(n + 1, sizeof(*host)), *p;

	for (size_t i = 0; i < n; i++) {
		const uint64_t h = rng_hash(10, RNG_TEST, r->arrays, i);
		const int e = (int)(h % 300) - 160;

		host[i] = (float)ldexp(1 + (double)(h >> 40) / 0x1p24, h >> 16 & 1 ? e / 8 : e);
		if (h >> 17 & 1)        /* between two float16 or bfloat16 */
			host[i] = (float)ldexp(2049 + 2 * (double)(h >> 52), h >> 18 & 1 ? e / 8 : e / 2);
		host[i] = h >> 19 & 1 ? host[i] : -host[i];
	}
	const float special[] = { 65519.996f, 65520, -65520, 0x1.fefffep127f, 0x1.ffp127f, INFINITY, NAN, -0.0f,
		0x1p-25f, 0x1.8p-25f, 0x1p-149f, 0x1p-133f, 0x1p-134f, 0x1.8p-134f };

	memcpy(host, special, (n < ARRAY_LEN(special) ? n : ARRAY_LEN(special)) * sizeof(*host));
	p = put(r, host, n * sizeof(*host));
	free(host);
	return p;
}

/* The bits themselves, as two numbers each: a NaN is as good as another, -0 is not 0. */
static void rounding(struct run *r, const struct shape *s)
{
	static const unsigned digits[] = { 8, 11, 24 };
	const size_t n = s->N;
	float *host = xcalloc(n, sizeof(*host));
	double *bits = xcalloc(2 * n, sizeof(*bits));

	for (size_t t = 0; t < ARRAY_LEN(digits); t++) {
		float *x = wide_values(r, n);
		uint64_t *unfit = put(r, &(uint64_t){ 3 }, sizeof(*unfit)), count;

		r->be->round_rows(x, n, digits[t], unfit);
		r->be->get(host, x, n * sizeof(*host));
		r->be->get(&count, unfit, sizeof(count));
		for (size_t i = 0; i < n; i++) {
			uint32_t u;

			memcpy(&u, host + i, sizeof(u));
			bits[2 * i] = isnan(host[i]) ? 0x7fff : u >> 16;
			bits[2 * i + 1] = isnan(host[i]) ? 0xffff : u & 0xffff;
		}
		host_result(r, "rounded", bits, 2 * n, 0);
		host_result(r, "unfit", &(double){ (double)count }, 1, 0);
	}
	free(host);
	free(bits);
}

/* What is allocated is zeros, and what is put can be got. */
static void memory(struct run *r, const struct shape *s)
{
	const size_t n = s->N;
	float *p = r->be->alloc(n * sizeof(*p)), *q = r->be->alloc(n * sizeof(*q));

	if ((uintptr_t)p % 64 || (uintptr_t)q % 64)
		BUG("alloc gave %p and %p", (void *)p, (void *)q);
	r->memory[r->arrays++] = p;
	r->memory[r->arrays++] = q;
	r->be->zero(q, n * sizeof(*q));
	result(r, "alloc", p, n, sizeof(float), 0);
	result(r, "zero", q, n, sizeof(float), 0);
	result(r, "put", values(r, n, 1, 0), n, sizeof(float), 0);
}

static void rows(struct run *r, const struct shape *s)
{
	const size_t N = s->N, C = s->D, n = N / 2 + 1;
	float *x = values(r, N * C, 1, 0.5);
	uint32_t *which = (uint32_t *)integers(r, n, N, 0);

	r->be->add(output(r, "add", N * C, tight), x, N * C);
	r->be->fill_rows(output(r, "fill_rows", N * C, 0), x, N, C);
	r->be->gather_rows(output(r, "gather_rows", n * C, 0), x, which, n, C);
}

static void sums(struct run *r, const struct shape *s)
{
	const size_t N = s->N, C = s->D;
	float *x = values(r, N * C, 1, 0.5);
	double *sum = xcalloc(C, sizeof(*sum)), square;

	r->be->column_sums(sum, x, N, C);
	r->be->column_sums(sum, x, N, C);
	host_result(r, "column_sums", sum, C, tight);
	square = r->be->sumsq(x, N * C);
	host_result(r, "sumsq", &square, 1, tight);
	free(sum);
}

static void directions(struct run *r, const struct shape *s)
{
	const size_t N = s->N, C = s->D;
	float *x = values(r, N * C, 1, 0.5);

	r->be->row_norms(output(r, "row_norms", N, tight), x, N, C);
	r->be->project_rows(output(r, "project_rows", N * C, tight), x, N, C);
	r->out[r->outs - 1].floor = sqrt((double)(N * C));      /* one column: all cancels */
	r->be->normalise_rows(x, N, C);
	result(r, "normalise_rows", x, N * C, sizeof(float), tight);
}

/* n doubles in backend memory, and what became of them */
static double *scalars(struct run *r, const double *v, size_t n)
{
	return put(r, v, n * sizeof(*v));
}

static void scalars_result(struct run *r, const char *name, const double *p, size_t n)
{
	double v[8] = { 0 };

	r->be->get(v, p, n * sizeof(*v));
	host_result(r, name, v, n, tight);
}

static void adamw(struct run *r, const struct shape *s)
{
	const size_t n = s->N;
	float *g = values(r, n, 1e-3, 0), *v = values(r, n, 0, 1e-6);
	float *p = output(r, "p", n, tight), *m = output(r, "m", n, tight);
	double *clip = scalars(r, (const double[2]){ 1, 1 }, 2), *all = scalars(r, (const double[2]){ 1, 3 }, 2);
	double *sum = scalars(r, (const double[1]){ 3 }, 1);

	result(r, "v", v, n, sizeof(float), tight);
	r->be->clip(clip, g, n, 5e-4);
	scalars_result(r, "clip", clip, 2);
	r->be->clip(all, g, n, 0);
	scalars_result(r, "clip of nothing", all, 2);
	r->be->add_sum(sum, p, n, 0.25);
	scalars_result(r, "add_sum", sum, 1);
	for (uint64_t t = 1; t <= 3; t++)
		r->be->adamw(p, g, m, v, n, t < 3 ? clip + 1 : NULL, 1e-2, 0.9, 0.95, 1e-8, 0.1, t);
	r->be->zero(g, n * sizeof(*g));
	result(r, "zero", g, n, sizeof(float), 0);
}

/*
 * What rounding costs dx and dw on a device, whose products round operands and in bf16 logits, too.
 * Logits are of deviation L = at √C, the greatest of V about L m, m = √(2 ln V).  An error of e in a logit
 * that is p of the softmax moves it by e p (1 - p): where logits are small, a row by e of its length.  Where
 * they are large almost every row is one logit's; the gap to the next has density m / L at 0, and over such
 * gaps the mean of (p (1 - p))² 4 e² is m e² / 3 L.  One value is off by 0.4 u of its size, where u is half a
 * unit of its last place at 1: an operand's error is in all logits, a logit's own counts where it is greatest.
 */
static double head_rounding(const struct backend *be, const struct shape *s)
{
	const bool narrow = !strcmp(be->precision, "bf16");
	const double L = s->at * sqrt((double)s->C), m = fmax(1, sqrt(2 * log((double)s->V)));
	const double u = ldexp(1, narrow ? -8 : -11), e = 0.4 * u * L * sqrt(2 + (narrow ? m * m : 0));

	return be->host || !strcmp(be->precision, "f32") ? 0 : 2 * e * fmin(1, sqrt(m / (3 * L)));
}

static void lmhead(struct run *r, const struct shape *s)
{
	const size_t N = s->N, C = s->C, V = s->V;
	float *x = values(r, N * C, s->at, 0), *w = values(r, V * C, 1, 0);
	int32_t *targets = integers(r, N, V, s->B);

	r->be->lmhead(output(r, "nll alone", N, tight), NULL, NULL, x, w, targets, 1, N, C, V);
	r->be->lmhead(output(r, "nll", N, tight), output(r, "dx", N * C, 2 * tight),
		      output(r, "dw", V * C, 2 * tight), x, w, targets, 0.25, N, C, V);
	for (size_t i = 0; i < r->outs; i++) {
		r->out[i].floor = V == 1 || r->out[i].name[0] == 'n';   /* V = 1: all cancels */
		r->out[i].rounding = r->out[i].name[0] == 'd' ? head_rounding(r->be, s) : 0;
	}
}

static void ablate(struct run *r, const struct shape *s)
{
	const size_t N = s->N, C = s->C, V = s->V, F = s->F, n = 3 * N;
	uint32_t *which = (uint32_t *)integers(r, n, N, 0), *feats = (uint32_t *)integers(r, n, F, 0);
	float *f = values(r, n, 1, 0), *x = values(r, N * C, 1, 0.3), *dir = values(r, F * C, 1, 0.1);
	float *ln_w = values(r, C, 1, 1), *ln_b = values(r, C, 1, 0), *wte = values(r, V * C, 1, 0);
	int32_t *targets = integers(r, N, V, 4);

	r->be->ablate_logit(output(r, "effect", n, 1e-5), which, feats, f, n, x, dir, ln_w,
			    s->B % 2 ? ln_b : NULL, wte, targets, C);
	r->out[r->outs - 1].floor = 100;        /* one column: all cancels, and eps magnifies what does not */
}

/* ---- cases: autoencoder ---- */

static struct sae_params sae_weights(struct run *r, const struct shape *s)
{
	struct sae_params p;

	p.enc = values(r, s->F * s->D, 0.3, 0);
	p.b_enc = values(r, s->F, 0.1, s->at);
	p.dec = values(r, s->F * s->D, 0.3, 0);
	p.b_dec = values(r, s->D, 0.5, 0);
	return p;
}

static uint32_t *counters(struct run *r, size_t F)
{
	uint32_t *p = (uint32_t *)integers(r, F, 10, 0);

	return result(r, "fired", p, F, sizeof(*p), 0);
}

static void sums_result(struct run *r, const struct sae_sums *s)
{
	const double v[3] = { s->err2, s->l1, s->l0 };

	host_result(r, "sums", v, 3, tight);
}

static void sae_codes(struct run *r, const struct shape *s)
{
	const struct sae_params p = sae_weights(r, s);
	float *x = values(r, s->N * s->D, 1, 0.2), *f = output(r, "f", s->N * s->F, tight);

	r->be->sae_encode(f, x, &p, s->N, s->D, s->F);
	r->be->sae_decode(output(r, "xhat", s->N * s->D, tight), f, &p, s->N, s->D, s->F);
}

/* The n entries as a dense matrix: NaN where they are not in order. */
static float *dense_of(const uint32_t *rows, const uint32_t *feats, const float *f, size_t n, const struct shape *s)
{
	float *dense = xcalloc(s->N * s->F, sizeof(*dense));

	for (size_t i = 0; i < n; i++) {
		const bool ordered = i == 0 || rows[i] > rows[i - 1] ||
			(rows[i] == rows[i - 1] && feats[i] > feats[i - 1]);

		if (rows[i] >= s->N || feats[i] >= s->F)
			BUG("row %u, feature %u", rows[i], feats[i]);
		dense[rows[i] * s->F + feats[i]] = ordered ? f[i] : NAN;
	}
	return dense;
}

static void *fetched(const struct backend *be, void *p, size_t bytes)
{
	void *host = xmalloc(bytes + 1);

	be->get(host, p, bytes);
	be->release(p);
	return host;
}

/* What is active of x, as a dense matrix; room for half of it at first. */
static float *active_latents(const struct backend *be, const float *x, const struct sae_params *p, const struct shape *s)
{
	uint32_t *rows, *feats;
	size_t cap = s->N * s->F / 2 + 1, n;
	float *f;

	for (;;) {
		rows = be->alloc(cap * sizeof(*rows));
		feats = be->alloc(cap * sizeof(*feats));
		f = be->alloc(cap * sizeof(*f));
		n = be->sae_active(rows, feats, f, cap, x, p, s->N, s->D, s->F);
		if (n <= cap)
			break;
		be->release(rows), be->release(feats), be->release(f);
		cap = n;
	}
	rows = fetched(be, rows, n * sizeof(*rows));
	feats = fetched(be, feats, n * sizeof(*feats));
	f = fetched(be, f, n * sizeof(*f));
	float *dense = dense_of(rows, feats, f, n, s);

	free(rows), free(feats), free(f);
	return dense;
}

static void sae_active(struct run *r, const struct shape *s)
{
	const struct sae_params p = sae_weights(r, s);
	const size_t all = s->N * s->F;
	float *dense = active_latents(r->be, values(r, s->N * s->D, 1, 0.2), &p, s);

	result(r, "f", put(r, dense, all * sizeof(*dense)), all, sizeof(float), tight);
	free(dense);
}

/* One input of one row is no number: that row's latents are listed, all of them, and the sums are none. */
static void sae_unknown(struct run *r, const struct shape *s)
{
	const struct backend *be = r->be;
	const struct sae_params p = sae_weights(r, s);
	const size_t row = s->N / 2;
	float *x = values(r, s->N * s->D, 1, 0.2);
	double *listed = xcalloc(s->N * s->F, sizeof(*listed)), told[2];
	struct sae_sums sums = { 0 };

	be->put(x + row * s->D, &(float){ NAN }, sizeof(float));
	float *dense = active_latents(be, x, &p, s);

	for (size_t i = 0; i < s->N * s->F; i++)
		listed[i] = isnan(dense[i]);
	host_result(r, "listed as no number", listed, s->N * s->F, 0);
	be->sae_forward(&sums, NULL, NULL, NULL, NULL, x, &p, s->N, s->D, s->F);
	told[0] = isnan(sums.err2);
	told[1] = isfinite(sums.l0);
	host_result(r, "told", told, 2, 0);
	free(listed), free(dense);
}

static void sae_forward(struct run *r, const struct shape *s)
{
	const struct sae_params p = sae_weights(r, s);
	float *x = values(r, s->N * s->D, 1, 0.2);
	struct sae_sums sums = { 1, 1, 1 };

	r->be->sae_forward(&sums, output(r, "err2", s->N, tight), output(r, "l1", s->N, tight),
			   output(r, "xhat", s->N * s->D, tight), counters(r, s->F), x, &p, s->N, s->D, s->F);
	sums_result(r, &sums);
	r->be->sae_forward(&sums, NULL, NULL, NULL, NULL, x, &p, s->N, s->D, s->F);
	sums_result(r, &sums);
}

static void sae_grad(struct run *r, const struct shape *s)
{
	const struct sae_params p = sae_weights(r, s);
	float *x = values(r, s->N * s->D, 1, 0.2);
	double *sums = scalars(r, (const double[3]){ 1, 2, 3 }, 3);
	const struct sae_params g = {
		.enc = output(r, "enc", s->F * s->D, 2 * tight), .b_enc = output(r, "b_enc", s->F, 2 * tight),
		.dec = output(r, "dec", s->F * s->D, 2 * tight), .b_dec = output(r, "b_dec", s->D, 1e-5),
	};

	r->be->sae_grad((struct sae_sums *)(void *)sums, counters(r, s->F), &g, x, &p, 2e-3, s->N, s->D, s->F);
	scalars_result(r, "sums", sums, 3);
}

/* ---- the table of cases ---- */

static const struct shape texts[] = {
	{ .B = 1, .T = 1, .C = 1, .NH = 1, .V = 1 },
	{ .B = 2, .T = 1, .C = 8, .NH = 2, .V = 3 },
	{ .B = 1, .T = 7, .C = 36, .NH = 3, .V = 229 },
	{ .B = 3, .T = 65, .C = 20, .NH = 5, .V = 17 },
	{ .B = 2, .T = 130, .C = 64, .NH = 2, .V = 1000 },
	{ .B = 1, .T = 257, .C = 34, .NH = 1, .V = 2 },
	{ .B = 5, .T = 33, .C = 144, .NH = 3, .V = 30 }, { .B = 2, .T = 40, .C = 192, .NH = 2, .V = 7 },
	{ .B = 2, .T = 19, .C = 254, .NH = 2, .V = 5 },         /* heads up to the widest that cuda takes */
	{ .B = 1, .T = 70, .C = 64, .NH = 2, .V = 9, .at = 7 }, /* scores exceed a query's own by hundreds */
};
/* thousands of positions of which many, at last all, have one token */
static const struct shape sequences[] = {
	{ .B = 1, .T = 1, .C = 1, .V = 1 }, { .B = 2, .T = 1, .C = 8, .V = 3 }, { .B = 1, .T = 7, .C = 36, .V = 229 },
	{ .B = 3, .T = 65, .C = 20, .V = 17 }, { .B = 2, .T = 19, .C = 254, .V = 5 },
	{ .B = 3, .T = 700, .C = 8, .V = 40 }, { .B = 1, .T = 1100, .C = 5, .V = 1 },
};
static const struct shape matrices[] = {
	{ .N = 1, .D = 1, .F = 1 }, { .N = 1, .D = 300, .F = 2 }, { .N = 3, .D = 1, .F = 7 },
	{ .N = 5, .D = 7, .F = 1 }, { .N = 257, .D = 33, .F = 130 }, { .N = 64, .D = 128, .F = 513 },
	{ .N = 259, .D = 515, .F = 19 }, { .N = 1100, .D = 3, .F = 2 },
};
static const struct shape lengths[] = { { .N = 1 }, { .N = 15 }, { .N = 16 }, { .N = 33 }, { .N = 40001 } };
/* at: deviation of x; 20 and 40 make logits exceed the target's by hundreds.  B: one in B targets is -1. */
static const struct shape heads[] = {
	/* cuda: what a block may have of shared memory without asking, but for its static part, in bf16 and in f32;
	 * first of all, since a kernel that asked once may have more ever after */
	{ .N = 2, .C = 2, .V = 24576, .at = 0.5 }, { .N = 2, .C = 2, .V = 49152, .at = 0.5 },
	{ .N = 1, .C = 1, .V = 1, .at = 1 }, { .N = 3, .C = 7, .V = 2, .at = 1, .B = 2 },
	{ .N = 17, .C = 36, .V = 229, .at = 0.3, .B = 5 }, { .N = 4, .C = 16, .V = 5000, .at = 0.1, .B = 1 },
	{ .N = 300, .C = 20, .V = 513, .at = 0.2, .B = 9 }, { .N = 259, .C = 24, .V = 2049, .at = 0.1 },
	{ .N = 5, .C = 8, .V = 50304, .at = 0.3 }, { .N = 33, .C = 40, .V = 700, .at = 20 },
	{ .N = 6, .C = 128, .V = 3001, .at = 40, .B = 3 },
	/* cuda: past what a block of one warp, and one of sixteen, holds in registers; past shared memory */
	{ .N = 3, .C = 9, .V = 1537, .at = 0.2 }, { .N = 2, .C = 5, .V = 24577, .at = 0.3 },
	{ .N = 2, .C = 3, .V = 60001, .at = 0.5 }, { .N = 2, .C = 2, .V = 120001, .at = 0.5 },
};
static const struct shape ablations[] = {
	{ .N = 1, .C = 1, .V = 1, .F = 1, .B = 1 }, { .N = 9, .C = 36, .V = 50, .F = 11, .B = 1 },
	{ .N = 70, .C = 128, .V = 20, .F = 300, .B = 2 }, { .N = 5, .C = 203, .V = 3, .F = 4, .B = 1 },
};
/* at: mean of b_enc, from no active latent to all of them */
static const struct shape dictionaries[] = {
	{ .N = 1, .D = 1, .F = 1, .at = 1 }, { .N = 3, .D = 5, .F = 7, .at = 0 },
	{ .N = 257, .D = 32, .F = 130, .at = -1 }, { .N = 70, .D = 33, .F = 67, .at = -1e3 },
	{ .N = 70, .D = 33, .F = 67, .at = 1e2 }, { .N = 300, .D = 48, .F = 700, .at = -4 },
	{ .N = 130, .D = 100, .F = 1025, .at = -6 }, { .N = 513, .D = 16, .F = 64, .at = 0 },
	{ .N = 4100, .D = 70, .F = 20, .at = -4 }, { .N = 2049, .D = 129, .F = 9, .at = -5 },
};

#define CASE(fn, shapes, bf16, ops) { #fn, ops, fn, shapes, ARRAY_LEN(shapes), bf16 }
static const struct op_test {
	const char *name, *ops;
	op_case fn;
	const struct shape *shapes;
	size_t n;
	double bf16;                    /* what rounding to bf16 may cost */
} cases[] = {
	CASE(memory, lengths, 0, "alloc release put get zero sync"),
	CASE(embed, sequences, 0, "embed_fwd embed_bwd"),
	CASE(layernorm, texts, 0, "layernorm_fwd layernorm_bwd"),
	CASE(attention, texts, 0, "attention_fwd attention_bwd"),
	CASE(attention_rows, texts, 0, "attention_rows"),
	CASE(linear, matrices, 1e-2, "linear_fwd linear_bwd"),
	CASE(rows, matrices, 0, "add fill_rows gather_rows"),
	CASE(rounding, lengths, 0, "round_rows"),
	CASE(sums, matrices, 0, "column_sums sumsq"),
	CASE(directions, matrices, 0, "row_norms project_rows normalise_rows"),
	CASE(gelu, lengths, 0, "gelu_fwd gelu_bwd"),
	CASE(adamw, lengths, 0, "clip add_sum adamw zero"),
	CASE(lmhead, heads, 1e-2, "lmhead"),
	CASE(ablate, ablations, 0, "ablate_logit"),
	CASE(sae_codes, dictionaries, 1e-2, "sae_encode sae_decode"),
	CASE(sae_active, dictionaries, 1e-2, "sae_active"),
	CASE(sae_unknown, dictionaries, 1e-2, "sae_active sae_forward"),
	CASE(sae_forward, dictionaries, 2e-2, "sae_forward"),
	CASE(sae_grad, dictionaries, 4e-2, "sae_grad"),
};

/* ---- comparison ---- */

static double value(const struct output *o, size_t i, bool counts)
{
	if (o->size == sizeof(double))
		return ((const double *)o->host)[i];
	return counts ? ((const uint32_t *)o->host)[i] : (double)((const float *)o->host)[i];
}

static bool close_to(const struct output *got, const struct output *want, const char *op, double loose)
{
	const bool counts = !strcmp(want->name, "fired");
	const double tolerance = want->tolerance > 0 || counts ? fmax(loose, want->tolerance) + got->rounding : 0;
	double d2 = 0, n2 = 0;

	for (size_t i = 0; i < want->n; i++) {
		const double w = value(want, i, counts), d = value(got, i, counts) - w;

		d2 += d * d;
		n2 += w * w;
	}
	if (sqrt(d2) <= tolerance * (sqrt(n2) + want->floor))     /* false with a NaN */
		return true;
	printf("# %s %s: off by %g of the norm, %g allowed\n", op, want->name, sqrt(d2 / n2), tolerance);
	return false;
}

/* loose: allowed in place of anything tighter; what is to be equal stays equal */
static bool all_close(const struct run *got, const struct run *want, const char *op, double loose)
{
	bool ok = got->outs == want->outs;

	for (size_t i = 0; ok && i < want->outs; i++)
		ok &= close_to(&got->out[i], &want->out[i], op, loose);
	return ok;
}

static bool all_equal(const struct run *a, const struct run *b)
{
	bool ok = true;

	for (size_t i = 0; i < a->outs; i++)
		ok &= !memcmp(a->out[i].host, b->out[i].host, a->out[i].n * a->out[i].size);
	return ok;
}

struct job {
	struct run *r;
	op_case fn;
	const struct shape *s;
};

static void execute(void *arg, size_t i)
{
	const struct job *j = arg;

	if (i > 0)
		return;
	j->fn(j->r, j->s);
	collect(j->r);
}

/* From inside a block the pool's loops run in place: on one thread. */
static struct run run_on(const struct backend *be, op_case fn, const struct shape *s, bool alone)
{
	struct run r = { .be = be };
	struct job j = { &r, fn, s };

	if (alone)
		pool_for(2, execute, &j);
	else
		execute(&j, 0);
	return r;
}

/* alone: once on one thread, once on all; else twice.  TF32 has 11 digits to bf16's 8; but how many latents near 0
 * change sides goes with the rounding, and what that is in the norm with its root. */
static void compare_shape(const struct backend *be, const struct backend *ref, const char *path, const struct op_test *t,
			  size_t shape, bool alone)
{
	const struct shape *s = &t->shapes[shape];
	const double loose = !strcmp(be->precision, "bf16") ? t->bf16 : !strcmp(be->precision, "tf32") ? t->bf16 / 2 : 0;
	struct run want = run_on(ref, t->fn, s, true);
	struct run one = run_on(be, t->fn, s, alone), two = run_on(be, t->fn, s, false);

	check(all_close(&two, &want, t->name, loose), "%s %s %s %s: shape %zu as ref", be->name, be->precision, path, t->name,
	      shape);
	check(all_equal(&one, &two), "%s %s %s %s: shape %zu, the same bytes %s", be->name, be->precision, path, t->name,
	      shape, alone ? "on 1 and 2 threads" : "twice");
	discard(&want);
	discard(&one);
	discard(&two);
}

/* cases whose name starts so */
static void compare(const struct backend *be, const struct backend *ref, const char *path, const char *start)
{
	for (size_t c = 0; c < ARRAY_LEN(cases); c++)
		for (size_t i = 0; i < cases[c].n && !strncmp(cases[c].name, start, strlen(start)); i++)
			compare_shape(be, ref, path, &cases[c], i, true);
}

/* Everywhere, also where 1 + erf would cancel. */
static void gelu_accuracy(const struct backend *be, const char *path, double most, double allowed)
{
	const size_t N = (size_t)fmin(200000, most);
	const double unit = ldexp(1, -23);
	float *host = xaligned(N * sizeof(*host)), *x = be->alloc(N * sizeof(*x)), *y = be->alloc(N * sizeof(*y));
	double worst = 0;

	for (size_t i = 0; i < N; i++)
		host[i] = (float)(-12.5 + 25.0 * (double)i / (double)N);
	be->put(x, host, N * sizeof(*x));
	be->gelu_fwd(y, x, N);
	be->get(host, y, N * sizeof(*y));
	for (size_t i = 0; i < N; i++) {
		const double v = (float)(-12.5 + 25.0 * (double)i / (double)N), want = 0.5 * v * erfc(-v * M_SQRT1_2);

		worst = fmax(worst, fabs(host[i] - want) / (fabs(want) + 1e-37) / unit);
	}
	check(worst <= allowed, "%s %s gelu: within %g units in the last place", be->name, path, allowed);
	free(host);
	be->release(x);
	be->release(y);
}

/* ---- another device ---- */

/* The elements of the largest array, about. */
static double elements(const struct shape *s)
{
	const double T = (double)(s->B * s->T), N = (double)(T > 0 ? s->B * s->T : s->N), V = (double)s->V;

	return fmax(fmax(3 * N * (double)s->C, fmax(N * (double)s->D, N * (double)s->F)),
		    fmax(fmax(T > 0 ? 0 : N * V, V * (double)s->C), fmax((double)(s->F * s->D), N)));
}

static bool asked(const struct op_test *t, char **names)
{
	bool any = !*names;
	char *ops = xformat(" %s %s ", t->name, t->ops);

	for (; *names; names++) {
		char *word = xformat(" %s ", *names);

		any |= strstr(ops, word) != NULL;
		free(word);
	}
	free(ops);
	return any;
}

static void on_device(const struct backend *be, const struct backend *ref, char **names, double most)
{
	for (size_t c = 0; c < ARRAY_LEN(cases); c++) {
		const struct op_test *t = &cases[c];
		const char *missing = backend_lacks(be, t->ops);

		if (!asked(t, names))
			continue;
		if (missing)
			check(false, "%s %s: there is no %s", be->name, t->name, missing);
		for (size_t i = 0; i < t->n && !missing; i++)
			if (elements(&t->shapes[i]) <= most)
				compare_shape(be, ref, "", t, i, false);
		if (t->fn == gelu && !missing)
			gelu_accuracy(be, "", most, 6);
	}
}

static void on_cpu(const struct backend *ref)
{
	static const char *const paths[] = { "plain", "avx2", "avx512" };
	static const char *const units[] = { "plain", "avx2", "avx512bf16", "amx" };
	struct backend cpu, bf16;

	backend_cpu(&cpu);
	backend_cpu_bf16(&bf16, &cpu);
	for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
		if (!cpu_use_isa(paths[i])) {
			printf("# no %s on this machine\n", paths[i]);
			continue;
		}
		compare(&cpu, ref, paths[i], "");
		/* Without fused multiply-adds x² loses its low part, which exp(-x²/2) magnifies in the far tail. */
		gelu_accuracy(&cpu, paths[i], 1e18, strcmp(paths[i], "plain") ? 4 : 40);
	}
	for (size_t i = 0; i < ARRAY_LEN(units); i++)
		if (cpu_bf16_use(units[i]))
			compare(&bf16, ref, units[i], "");
		else
			printf("# no %s on this machine\n", units[i]);
	if (!backend_cpu_has_tiles() && amx_emulate()) {
		compare(&bf16, ref, "amx, emulated,", "lmhead");
		compare(&bf16, ref, "amx, emulated,", "sae");
	}
}

int main(int argc, char **argv)
{
	static struct opt_common c = OPT_COMMON_INIT;
	static double most = 1e18;
	const struct opt opts[] = {
		OPT_DEVICE(&c), OPT_F64(0, "most", &most, 1, 1e18, "elements of an array, of larger shapes none"), OPT_END
	};
	char **names = opt_parse(argc, argv, opts, "usage: ops [options] [OP...]\n\te.g.:  ops --device cudasim linear\n", &c);
	struct backend ref;

	pool_start(THREADS);
	backend_ref(&ref);
	if (strcmp(c.device, "auto"))
		on_device(backend_open_part(c.device, c.precision), &ref, names, most);
	else
		on_cpu(&ref);
	return check_done();
}
