/* u-grad: gradients against central differences, everything compiled in double: each op of ref that
 * has a backward, then whole nets.  The other backends are held against ref in float. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base.h"
#include "check.h"
#include "gpt.h"
#include "rng.h"
#include "sae.h"

static struct backend be;

static real *noise(size_t n, double scale)
{
	static uint64_t tensor;
	real *x = be.alloc(n * sizeof(*x));

	for (size_t i = 0; i < n; i++)
		x[i] = scale * rng_normal(1, RNG_TEST, tensor, i);
	tensor++;
	return x;
}

/* ---- the comparison ---- */

struct slope {
	double worst, largest;
	size_t at;
};

/* dx (n): gradient of loss(arg) with respect to x (n), which loss reads. */
static struct slope compare(double (*loss)(void *arg), void *arg, real *x, const real *dx, size_t n)
{
	const double h = 1e-5;
	struct slope s = { 0, 0, 0 };

	for (size_t i = 0; i < n; i++) {
		const real keep = x[i];

		x[i] = keep + h;
		const double up = loss(arg);
		x[i] = keep - h;
		const double slope = (up - loss(arg)) / (2 * h);
		x[i] = keep;
		const double off = fabs(slope - dx[i]);

		if (!(off <= s.worst)) {
			s.worst = off;
			s.at = i;
		}
		s.largest = fmax(s.largest, fabs(slope));
	}
	return s;
}

static void check_gradient(const char *what, double (*loss)(void *arg), void *arg, real *x, const real *dx,
			   size_t n)
{
	const struct slope s = compare(loss, arg, x, dx, n);

	if (!check(s.worst <= 1e-7 * s.largest + 1e-9, "%s", what))
		printf("#   off by %.3g at %zu of %zu; the largest slope is %.3g\n", s.worst, s.at, n, s.largest);
}

/* ---- ops: the loss is <y, dy> ---- */

struct op {
	size_t B, T, C, NH, O, V;       /* N = B T rows */
	real *x, *w, *b, *y, *dy, *mean, *rstd, *lse;
	real *dx, *dw, *db;             /* filled with noise: what "+=" must keep */
	real *dx0, *dw0, *db0;          /* that noise */
	int32_t *idx;
	const char *name;
};

static double inner(const real *a, const real *b, size_t n)
{
	double sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += a[i] * b[i];
	return sum;
}

static real *copy(const real *x, size_t n)
{
	real *y = be.alloc(n * sizeof(*y));

	memcpy(y, x, n * sizeof(*y));
	return y;
}

static void subtract(real *x, const real *y, size_t n)
{
	for (size_t i = 0; i < n; i++)
		x[i] -= y[i];
}

static struct op op_new(const char *name, size_t B, size_t T, size_t C, size_t NH, size_t O, size_t V)
{
	const size_t N = B * T, wide = C > O ? C : O, in = 3 * N * C, weights = (O > V ? O : V) * C;
	struct op p = { B, T, C, NH, O, V, noise(in, 1), noise(weights, 1), noise(T * C + wide, 1),
		noise(3 * N * wide, 1), noise(3 * N * wide, 1), noise(N, 1), noise(N, 1), noise(N * NH, 1),
		noise(in, 1), noise(weights, 1), noise(T * C + wide, 1), NULL, NULL, NULL,
		xcalloc(N, sizeof(int32_t)), name };

	p.dx0 = copy(p.dx, in);
	p.dw0 = copy(p.dw, weights);
	p.db0 = copy(p.db, T * C + wide);
	for (size_t i = 0; i < N; i++)
		p.idx[i] = (int32_t)rng_below(rng_hash(2, RNG_TEST, V, i), V);
	return p;
}

static void op_free(struct op *p)
{
	real *const all[] = { p->x, p->w, p->b, p->y, p->dy, p->mean, p->rstd, p->lse, p->dx, p->dw, p->db,
		p->dx0, p->dw0, p->db0 };

	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		be.release(all[i]);
	free(p->idx);
}

static void check_op(const struct op *p, const char *which, double (*loss)(void *), real *x, real *dx,
		     const real *before, size_t n)
{
	char *what = xformat("%s %zu,%zu,%zu,%zu,%zu,%zu: %s", p->name, p->B, p->T, p->C, p->NH, p->O,
			     p->V, which);

	if (before)
		subtract(dx, before, n);
	check_gradient(what, loss, (void *)p, x, dx, n);
	free(what);
}

static double embed_loss(void *arg)
{
	struct op *p = arg;

	be.embed_fwd(p->y, p->idx, p->w, p->b, p->B, p->T, p->C);
	return inner(p->y, p->dy, p->B * p->T * p->C);
}

static void embed(struct op *p)
{
	be.embed_bwd(p->dw, p->db, p->dy, p->idx, p->B, p->T, p->C, p->V);
	check_op(p, "dwte", embed_loss, p->w, p->dw, p->dw0, p->V * p->C);
	check_op(p, "dwpe", embed_loss, p->b, p->db, p->db0, p->T * p->C);
}

static double layernorm_loss(void *arg)
{
	struct op *p = arg;
	const size_t N = p->B * p->T;

	be.layernorm_fwd(p->y, p->mean, p->rstd, p->x, p->w, p->b, N, p->C);
	return inner(p->y, p->dy, N * p->C);
}

static void layernorm(struct op *p)
{
	const size_t N = p->B * p->T;

	layernorm_loss(p);
	be.layernorm_bwd(p->dx, p->dw, p->db, p->dy, p->x, p->w, p->mean, p->rstd, N, p->C);
	check_op(p, "dx", layernorm_loss, p->x, p->dx, p->dx0, N * p->C);
	check_op(p, "dw", layernorm_loss, p->w, p->dw, p->dw0, p->C);
	check_op(p, "db", layernorm_loss, p->b, p->db, p->db0, p->C);
}

static double linear_loss(void *arg)
{
	struct op *p = arg;
	const size_t N = p->B * p->T;

	be.linear_fwd(p->y, p->x, p->w, p->b, N, p->C, p->O);
	return inner(p->y, p->dy, N * p->O);
}

static void linear(struct op *p)
{
	const size_t N = p->B * p->T;

	be.linear_bwd(p->dx, p->dw, p->db, p->dy, p->x, p->w, N, p->C, p->O);
	check_op(p, "dx", linear_loss, p->x, p->dx, NULL, N * p->C);
	check_op(p, "dw", linear_loss, p->w, p->dw, p->dw0, p->O * p->C);
	check_op(p, "db", linear_loss, p->b, p->db, p->db0, p->O);
}

static double attention_loss(void *arg)
{
	struct op *p = arg;

	be.attention_fwd(p->y, p->lse, p->x, p->B, p->T, p->C, p->NH);
	return inner(p->y, p->dy, p->B * p->T * p->C);
}

static void attention(struct op *p)
{
	attention_loss(p);
	be.attention_bwd(p->dx, p->dy, p->y, p->lse, p->x, p->B, p->T, p->C, p->NH);
	check_op(p, "dqkv", attention_loss, p->x, p->dx, NULL, 3 * p->B * p->T * p->C);
}

static double gelu_loss(void *arg)
{
	struct op *p = arg;
	const size_t n = p->B * p->T * p->C;

	be.gelu_fwd(p->y, p->x, n);
	return inner(p->y, p->dy, n);
}

static void gelu(struct op *p)
{
	const size_t n = p->B * p->T * p->C;

	be.gelu_bwd(p->dx, p->dy, p->x, n);
	check_op(p, "dx", gelu_loss, p->x, p->dx, NULL, n);
}

static const double head_scale = 0.7;

static double lmhead_loss(void *arg)
{
	struct op *p = arg;
	const size_t N = p->B * p->T;
	double sum = 0;

	be.lmhead(p->y, NULL, NULL, p->x, p->w, p->idx, 0, N, p->C, p->V);
	for (size_t i = 0; i < N; i++)
		sum += head_scale * p->y[i];
	return sum;
}

static void lmhead(struct op *p)
{
	const size_t N = p->B * p->T;

	p->idx[N / 2] = -1;
	be.lmhead(p->y, p->dx, p->dw, p->x, p->w, p->idx, head_scale, N, p->C, p->V);
	check_op(p, "dx", lmhead_loss, p->x, p->dx, NULL, N * p->C);
	check_op(p, "dw", lmhead_loss, p->w, p->dw, p->dw0, p->V * p->C);
}

static void ops(void)
{
	static const struct {
		const char *name;
		void (*run)(struct op *p);
	} kinds[] = {
		{ "embed", embed }, { "layernorm", layernorm }, { "linear", linear },
		{ "attention", attention }, { "gelu", gelu }, { "lmhead", lmhead },
	};
	static const size_t dims[][6] = { /* B T C NH O V */
		{ 1, 1, 1, 1, 1, 2 }, { 2, 5, 6, 2, 7, 11 }, { 3, 7, 10, 5, 3, 29 }, { 1, 13, 4, 1, 16, 5 },
	};

	for (size_t k = 0; k < ARRAY_LEN(kinds); k++)
		for (size_t s = 0; s < ARRAY_LEN(dims); s++) {
			const size_t *d = dims[s];
			struct op p = op_new(kinds[k].name, d[0], d[1], d[2], d[3], d[4], d[5]);

			kinds[k].run(&p);
			op_free(&p);
		}
}

/* ---- the GPT ---- */

struct net {
	struct gpt *g;
	size_t B, T;
	int32_t *idx, *targets;
	const char *name;
};

static double net_loss(void *arg)
{
	const struct net *n = arg;

	return gpt_loss(n->g, n->idx, n->targets, n->B, n->T);
}

static void jitter(void *arg, const char *name, size_t ndim, const size_t *shape,
		   real *w, real *dw, real *m, real *v)
{
	const size_t n = shape[0] * (ndim > 1 ? shape[1] : 1);
	real *by = noise(n, 0.3);

	be.add(w, by, n);
	be.release(by);
	(void)arg, (void)name, (void)dw, (void)m, (void)v;
}

static void check_tensor(void *arg, const char *name, size_t ndim, const size_t *shape,
			 real *w, real *dw, real *m, real *v)
{
	struct net *n = arg;
	char *what = xformat("%s: %s", n->name, name);

	check_gradient(what, net_loss, n, w, dw, shape[0] * (ndim > 1 ? shape[1] : 1));
	free(what);
	(void)m, (void)v;
}

static void gpt_net(const char *name, struct gpt_config c, size_t B, size_t T)
{
	struct net n = { gpt_new(&be, &c, B, GPT_TRAIN), B, T, xcalloc(B * T, sizeof(int32_t)),
		xcalloc(B * T, sizeof(int32_t)), name };

	for (size_t i = 0; i < B * T; i++) {
		n.idx[i] = (int32_t)rng_below(rng_hash(3, RNG_TEST, 0, i), c.vocab_size);
		n.targets[i] = (int32_t)rng_below(rng_hash(3, RNG_TEST, 1, i), c.vocab_size);
	}
	n.targets[B * T / 2] = -1;
	gpt_init(n.g, 4);
	gpt_each(n.g, jitter, NULL);
	gpt_zero_grads(n.g);
	const double loss = net_loss(&n);

	gpt_step(n.g, n.idx, n.targets, B, T, 0.25);
	check(fabs(gpt_take_loss(n.g) - loss / 4) <= 1e-12, "%s: loss of a step", name);
	gpt_step(n.g, n.idx, n.targets, B, T, 0.75); /* the two add up to the gradient */
	gpt_each(n.g, check_tensor, &n);
	gpt_free(n.g);
	free(n.idx);
	free(n.targets);
}

/* ---- the autoencoder ---- */

struct auto_encoder {
	struct sae *s;
	const float *x;
	size_t N;
	double lambda;
};

static double autoencoder_loss(void *arg)
{
	const struct auto_encoder *a = arg;

	sae_gradients(a->s, a->x, a->N, a->lambda);
	return sae_take_loss(a->s, a->lambda).loss;
}

static void check_params(const char *name, struct auto_encoder *a)
{
	const size_t D = a->s->D, F = a->s->F;
	struct sae_params *p = &a->s->p, *g = &a->s->g;
	const struct { const char *name; real *x, *dx; size_t n; } all[] = {
		{ "enc", p->enc, g->enc, F * D }, { "b_enc", p->b_enc, g->b_enc, F },
		{ "dec", p->dec, g->dec, F * D }, { "b_dec", p->b_dec, g->b_dec, D },
	};

	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		char *what = xformat("%s: %s", name, all[i].name);

		autoencoder_loss(a);
		real *dx = copy(all[i].dx, all[i].n); /* the loss overwrites the gradients */

		check_gradient(what, autoencoder_loss, a, all[i].x, dx, all[i].n);
		be.release(dx);
		free(what);
	}
}

/* Σ over rows of the gradient of a decoder row, less what is parallel to the row. */
static void check_projection(const char *name, struct auto_encoder *a)
{
	const size_t D = a->s->D, F = a->s->F;
	double along = 0, norms = 0;

	autoencoder_loss(a);
	real *g = copy(a->s->g.dec, F * D);

	sae_project(a->s);
	for (size_t j = 0; j < F; j++) {
		const real *w = a->s->p.dec + j * D, *after = a->s->g.dec + j * D;
		const double part = inner(g + j * D, w, D) / inner(w, w, D);

		along = fmax(along, fabs(inner(after, w, D)));
		for (size_t d = 0; d < D; d++)
			norms = fmax(norms, fabs(after[d] - (g[j * D + d] - part * w[d])));
	}
	check(along < 1e-14 && norms < 1e-14, "%s: parallel part removed", name);
	be.release(g);
}

static void sae_net(const char *name, size_t N, size_t D, size_t F, double lambda)
{
	struct auto_encoder a = { sae_new(&be, D, F, N, SAE_TRAIN), NULL, N, lambda };
	float *x = xcalloc(N * D, sizeof(*x));

	for (size_t i = 0; i < N * D; i++)
		x[i] = (float)rng_normal(5, RNG_TEST, D, i);
	a.x = x;
	sae_init(a.s, 6);
	check_params(name, &a);
	check_projection(name, &a);
	sae_free(a.s);
	free(x);
}

int main(void)
{
	backend_ref(&be);
	ops();
	gpt_net("gpt of 1 layer", (struct gpt_config){ 1, 2, 6, 7, 11, false }, 2, 7);
	gpt_net("gpt of 2 layers with biases", (struct gpt_config){ 2, 3, 6, 8, 13, true }, 2, 5);
	sae_net("sae of 5 inputs", 7, 5, 12, 0.1);
	sae_net("sae of 1 input and feature", 1, 1, 1, 0);
	return check_done();
}
