#include "gpt.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rng.h"

/* ---- parameters ---- */

struct param {
	const char *name;       /* %zu: layer */
	size_t member;          /* offset in struct gpt_weights */
	size_t rows, cols;      /* cols 0: a vector */
	bool per_layer, with_bias;
};

enum {
#define X(name, ...) PARAM_##name,
	GPT_PARAMS(X)
#undef X
	N_PARAMS
};

/* Those that exist under this configuration, in the order of GPT_PARAMS. */
static size_t list_params(const struct gpt_config *c, struct param out[N_PARAMS])
{
	const size_t C = c->n_embd, V = c->vocab_size, T = c->block_size;
	const struct param all[N_PARAMS] = {
#define X(name, file_name, ...) { file_name, offsetof(struct gpt_weights, name), __VA_ARGS__ },
		GPT_PARAMS(X)
#undef X
	};
	size_t n = 0;

	for (size_t i = 0; i < N_PARAMS; i++)
		if (c->bias || !all[i].with_bias)
			out[n++] = all[i];
	return n;
}

static size_t param_size(const struct param *p)         /* of one layer */
{
	return xmul(p->rows, p->cols ? p->cols : 1);
}

static size_t param_layers(const struct gpt *g, const struct param *p)
{
	return p->per_layer ? g->c.n_layer : 1;
}

static real **member(struct gpt_weights *w, const struct param *p)
{
	return (real **)((char *)w + p->member);
}

static size_t count_params(const struct gpt *g)
{
	struct param p[N_PARAMS];
	const size_t k = list_params(&g->c, p);
	size_t n = 0;

	for (size_t i = 0; i < k; i++)
		n += xmul(param_size(&p[i]), param_layers(g, &p[i]));
	return n;
}

static struct gpt_weights weights_at(const struct gpt *g, real *next)
{
	struct gpt_weights w = { 0 };
	struct param p[N_PARAMS];
	const size_t k = list_params(&g->c, p);

	for (size_t i = 0; i < k; i++) {
		*member(&w, &p[i]) = next;
		next += param_size(&p[i]) * param_layers(g, &p[i]);
	}
	return w;
}

static struct gpt_weights new_weights(const struct gpt *g)
{
	return weights_at(g, g->be->alloc(xmul(g->n_params, sizeof(real))));
}

/* The pointers of one layer. */
static struct gpt_weights layer_weights(const struct gpt *g, struct gpt_weights w, size_t l)
{
	struct param p[N_PARAMS];
	const size_t k = list_params(&g->c, p);

	for (size_t i = 0; i < k; i++)
		if (p[i].per_layer)
			*member(&w, &p[i]) += l * param_size(&p[i]);
	return w;
}

static real *tensor_at(struct gpt_weights w, const struct param *p, size_t l)
{
	real *first = *member(&w, p);

	return first ? first + l * param_size(p) : NULL;
}

void gpt_each(struct gpt *g, void (*fn)(void *arg, const char *name, size_t ndim, const size_t *shape,
					real *w, real *dw, real *m, real *v), void *arg)
{
	struct param p[N_PARAMS];
	const size_t k = list_params(&g->c, p);
	char name[128];

	for (size_t i = 0; i < k; i++)
		for (size_t l = 0; l < param_layers(g, &p[i]); l++) {
			snprintf(name, sizeof(name), p[i].name, l);
			fn(arg, name, p[i].cols ? 2 : 1, (size_t[]){ p[i].rows, p[i].cols },
			   tensor_at(g->w, &p[i], l), tensor_at(g->g, &p[i], l),
			   tensor_at(g->m, &p[i], l), tensor_at(g->v, &p[i], l));
		}
}

/* ---- activations ---- */

/* name, values for each token; kept for every layer when training, shared by all layers otherwise */
#define LAYER_ACTS(X) \
	X(x, C) X(ln_1, C) X(mean_1, 1) X(rstd_1, 1) X(qkv, 3 * C) X(lse, NH) X(att, C) X(mid, C) \
	X(ln_2, C) X(mean_2, 1) X(rstd_2, 1) X(fc, 4 * C) X(gelu, 4 * C)
/* once for the net */
#define NET_ACTS(X) \
	X(attn_out, C) X(final, C) X(ln_f, C) X(mean_f, 1) X(rstd_f, 1) X(nll, 1)
/* only when training: gradients of the residual stream, of something C wide and of something 4C wide */
#define GRAD_ACTS(X) \
	X(dresid, C) X(dnarrow, C) X(dwide, 4 * C)

#define X(name, size) real *name;
struct layer_acts {
	LAYER_ACTS(X)
};

struct gpt_acts {
	NET_ACTS(X)
	GRAD_ACTS(X)
	struct layer_acts *layer;       /* (layers kept) */
	size_t layers;
	real *block;                    /* all of the above */
	int32_t *idx, *targets;         /* (max_rows) backend memory */
	real *host_nll;                 /* (max_rows) */
	size_t B, T;                    /* of the last pass */
};
#undef X

struct carver {
	real *base;     /* NULL: only count */
	size_t used;
};

static real *carve(struct carver *c, size_t n)
{
	const size_t at = c->used, line = 64 / sizeof(real);

	c->used += (n + line - 1) / line * line;
	return c->base ? c->base + at : NULL;
}

static void carve_acts(const struct gpt *g, struct gpt_acts *a, struct carver *c, int mode)
{
	const size_t C = g->c.n_embd, NH = g->c.n_head, rows = g->max_rows;

#define X(name, size) a->layer[l].name = carve(c, xmul(rows, size));
	for (size_t l = 0; l < a->layers; l++) {
		LAYER_ACTS(X)
	}
#undef X
#define X(name, size) a->name = carve(c, xmul(rows, size));
	NET_ACTS(X)
	if (mode == GPT_TRAIN) {
		GRAD_ACTS(X)
	}
#undef X
}

static struct gpt_acts *new_acts(const struct gpt *g, int mode)
{
	struct gpt_acts *a = xcalloc(1, sizeof(*a));
	struct carver count = { NULL, 0 };

	a->layers = mode == GPT_TRAIN ? g->c.n_layer : 1;
	a->layer = xcalloc(a->layers, sizeof(*a->layer));
	carve_acts(g, a, &count, mode);
	a->block = g->be->alloc(xmul(count.used, sizeof(real)));
	carve_acts(g, a, &(struct carver){ a->block, 0 }, mode);
	a->idx = g->be->alloc(xmul(g->max_rows, sizeof(*a->idx)));
	a->targets = g->be->alloc(xmul(g->max_rows, sizeof(*a->targets)));
	a->host_nll = xcalloc(g->max_rows, sizeof(*a->host_nll));
	return a;
}

static struct layer_acts *layer_acts(const struct gpt *g, size_t l)
{
	return &g->a->layer[g->a->layers > 1 ? l : 0];
}

static struct layer_acts *last_layer(const struct gpt *g)
{
	return layer_acts(g, g->c.n_layer - 1);
}

/* ---- life ---- */

enum { NORM, COEF, LOSS };      /* of the tally; losses to its end */

struct gpt *gpt_new(const struct backend *be, const struct gpt_config *c, size_t max_batch, int mode)
{
	struct gpt *g = xcalloc(1, sizeof(*g));

	if (!c->n_layer || !c->n_head || !c->n_embd || c->n_embd % c->n_head)
		BUG("%zu layers of width %zu with %zu heads", c->n_layer, c->n_embd, c->n_head);
	g->be = be;
	g->c = *c;
	g->max_rows = xmul(max_batch, c->block_size);
	g->n_params = count_params(g);
	g->w = new_weights(g);
	if (mode == GPT_TRAIN) {
		g->g = new_weights(g);
		g->m = new_weights(g);
		g->v = new_weights(g);
		gpt_set_leaves(g, 1);
	}
	g->a = new_acts(g, mode);
	return g;
}

void gpt_free(struct gpt *g)
{
	const struct backend *be = g->be;

	be->release(g->w.wte); /* wte is first in each block */
	be->release(g->g.wte);
	be->release(g->m.wte);
	be->release(g->v.wte);
	be->release(g->tally);
	be->release(g->a->block);
	be->release(g->a->idx);
	be->release(g->a->targets);
	free(g->a->layer);
	free(g->a->host_nll);
	free(g->a);
	free(g->host);
	free(g);
}

struct init {
	const struct gpt *g;
	uint64_t seed, tensor;
	real *x;        /* scratch */
};

static bool ends_with(const char *s, const char *end)
{
	const size_t n = strlen(s), m = strlen(end);

	return n >= m && !strcmp(s + n - m, end);
}

static void init_tensor(void *arg, const char *name, size_t ndim, const size_t *shape,
			real *w, real *dw, real *m, real *v)
{
	struct init *in = arg;
	const size_t n = shape[0] * (ndim > 1 ? shape[1] : 1);
	const bool residual = ends_with(name, "c_proj.weight");
	const double std = 0.02 / (residual ? sqrt(2.0 * (double)in->g->c.n_layer) : 1);
	const real one = ends_with(name, ".weight");

	for (size_t i = 0; i < n; i++)
		in->x[i] = ndim > 1 ? (real)(std * rng_normal(in->seed, RNG_INIT, in->tensor, i)) : one;
	in->g->be->put(w, in->x, n * sizeof(*w));
	in->tensor++;
	(void)dw, (void)m, (void)v;
}

void gpt_init(struct gpt *g, uint64_t seed)
{
	struct init in = { g, seed, 0, xcalloc(g->n_params, sizeof(real)) };

	gpt_each(g, init_tensor, &in);
	free(in.x);
}

/* ---- forward ---- */

/* mid = x + attention(ln_1(x)) */
static void attention_fwd(struct gpt *g, size_t l)
{
	const struct backend *be = g->be;
	const struct gpt_weights w = layer_weights(g, g->w, l);
	const struct layer_acts *a = layer_acts(g, l);
	const size_t B = g->a->B, T = g->a->T, N = B * T, C = g->c.n_embd;

	be->layernorm_fwd(a->ln_1, a->mean_1, a->rstd_1, a->x, w.ln_1_w, w.ln_1_b, N, C);
	be->linear_fwd(a->qkv, a->ln_1, w.attn_w, w.attn_b, N, C, 3 * C);
	be->attention_fwd(a->att, a->lse, a->qkv, B, T, C, g->c.n_head);
	be->linear_fwd(a->mid, a->att, w.proj_w, w.proj_b, N, C, C);
	if (l + 1 == g->c.n_layer)
		be->fill_rows(g->a->attn_out, a->mid, 1, N * C);
	be->add(a->mid, a->x, N * C);
}

/* mid (n,C) = x + attention(ln_1(x)) of n rows of the last block: keys and values are those of all rows,
 * queries and what follows theirs alone.  Buffers hold fewer values than usual, in other places. */
static void attention_rows(struct gpt *g, const uint32_t *rows, size_t n)
{
	const struct backend *be = g->be;
	const size_t l = g->c.n_layer - 1, B = g->a->B, T = g->a->T, N = B * T, C = g->c.n_embd;
	const struct gpt_weights w = layer_weights(g, g->w, l);
	const struct layer_acts *a = layer_acts(g, l);
	real *kv = a->qkv, *q = a->qkv + 2 * N * C, *x = a->ln_2;
	uint32_t *dev_rows = (uint32_t *)g->a->targets;

	be->put(dev_rows, rows, n * sizeof(*rows));
	be->layernorm_fwd(a->ln_1, a->mean_1, a->rstd_1, a->x, w.ln_1_w, w.ln_1_b, N, C);
	be->linear_fwd(kv, a->ln_1, w.attn_w + C * C, w.attn_b ? w.attn_b + C : NULL, N, C, 2 * C);
	be->gather_rows(x, a->ln_1, dev_rows, n, C);
	be->linear_fwd(q, x, w.attn_w, w.attn_b, n, C, C);
	be->attention_rows(a->att, q, kv, dev_rows, n, B, T, C, g->c.n_head);
	be->linear_fwd(g->a->attn_out, a->att, w.proj_w, w.proj_b, n, C, C);
	be->gather_rows(a->mid, a->x, dev_rows, n, C);
	be->add(a->mid, g->a->attn_out, n * C);
}

/* gelu = the block's hidden activations of ln_2(mid), N rows */
static void hidden_fwd(struct gpt *g, size_t l, size_t N)
{
	const struct backend *be = g->be;
	const struct gpt_weights w = layer_weights(g, g->w, l);
	const struct layer_acts *a = layer_acts(g, l);
	const size_t C = g->c.n_embd;

	be->layernorm_fwd(a->ln_2, a->mean_2, a->rstd_2, a->mid, w.ln_2_w, w.ln_2_b, N, C);
	be->linear_fwd(a->fc, a->ln_2, w.fc_w, w.fc_b, N, C, 4 * C);
	be->gelu_fwd(a->gelu, a->fc, 4 * N * C);
}

/* The block's output (N,C) = mid + c_proj(acts) */
static void output_fwd(struct gpt *g, size_t l, const real *acts)
{
	const struct backend *be = g->be;
	const struct gpt_weights w = layer_weights(g, g->w, l);
	const size_t N = g->a->B * g->a->T, C = g->c.n_embd;
	real *out = l + 1 == g->c.n_layer ? g->a->final : layer_acts(g, l + 1)->x;

	be->linear_fwd(out, acts, w.out_w, w.out_b, N, 4 * C, C);
	be->add(out, layer_acts(g, l)->mid, N * C);
}

/* From tokens to what enters the last block. */
static void forward_blocks(struct gpt *g, const int32_t *idx, size_t B, size_t T)
{
	struct gpt_acts *a = g->a;

	if (T > g->c.block_size || B * T > g->max_rows)
		BUG("%zu contexts of %zu tokens", B, T);
	a->B = B;
	a->T = T;
	g->be->put(a->idx, idx, B * T * sizeof(*idx));
	g->be->embed_fwd(layer_acts(g, 0)->x, a->idx, g->w.wte, g->w.wpe, B, T, g->c.n_embd);
	for (size_t l = 0; l + 1 < g->c.n_layer; l++) {
		attention_fwd(g, l);
		hidden_fwd(g, l, B * T);
		output_fwd(g, l, layer_acts(g, l)->gelu);
	}
}

/* From tokens to the hidden activations of the last block. */
static void forward(struct gpt *g, const int32_t *idx, size_t B, size_t T)
{
	forward_blocks(g, idx, B, T);
	attention_fwd(g, g->c.n_layer - 1);
	hidden_fwd(g, g->c.n_layer - 1, B * T);
}

/* From there to ln_f's output. */
static void forward_rest(struct gpt *g, const real *acts)
{
	struct gpt_acts *a = g->a;

	output_fwd(g, g->c.n_layer - 1, acts);
	g->be->layernorm_fwd(a->ln_f, a->mean_f, a->rstd_f, a->final, g->w.ln_f_w, g->w.ln_f_b,
			     a->B * a->T, g->c.n_embd);
}

/* The head; unless dx is NULL also scale · d(sum nll): dx that of ln_f's output. */
static void head(struct gpt *g, const int32_t *targets, real *dx, double scale)
{
	struct gpt_acts *a = g->a;
	const size_t N = a->B * a->T;

	g->be->put(a->targets, targets, N * sizeof(*targets));
	g->be->lmhead(a->nll, dx, g->g.wte, a->ln_f, g->w.wte, a->targets, scale, N, g->c.n_embd,
		      g->c.vocab_size);
}

static double sum_nll(struct gpt *g, float *nll)
{
	const size_t N = g->a->B * g->a->T;
	real *host = g->a->host_nll;
	double sum = 0;

	g->be->get(host, g->a->nll, N * sizeof(*host));
	for (size_t i = 0; i < N; i++) {
		sum += (double)host[i];
		if (nll)
			nll[i] = (float)host[i];
	}
	return sum;
}

static double count_targets(const int32_t *targets, size_t N)   /* at least 1: a divisor */
{
	size_t n = 0;

	for (size_t i = 0; i < N; i++)
		n += targets[i] >= 0;
	return n ? (double)n : 1;
}

struct gpt_hook gpt_forward_hook(struct gpt *g, const int32_t *idx, size_t B, size_t T)
{
	const struct layer_acts *a = last_layer(g);

	forward(g, idx, B, T);
	return (struct gpt_hook){ a->gelu, a->fc, a->mid, g->a->attn_out };
}

struct gpt_hook gpt_forward_rows(struct gpt *g, const int32_t *idx, size_t B, size_t T,
				 const uint32_t *rows, size_t n)
{
	const struct layer_acts *a = last_layer(g);

	if (n > B * T)
		BUG("%zu rows of %zu", n, B * T);
	forward_blocks(g, idx, B, T);
	attention_rows(g, rows, n);
	hidden_fwd(g, g->c.n_layer - 1, n);
	return (struct gpt_hook){ a->gelu, a->fc, a->mid, g->a->attn_out };
}

double gpt_finish(struct gpt *g, const real *acts, const int32_t *targets, float *nll)
{
	forward_rest(g, acts);
	head(g, targets, NULL, 0);
	return sum_nll(g, nll);
}

const real *gpt_final_resid(const struct gpt *g)
{
	return g->a->final;
}

const real *gpt_ln_f_out(const struct gpt *g)
{
	return g->a->ln_f;
}

void gpt_logits(struct gpt *g, real *out, const real *ln_f_out, size_t n)
{
	g->be->linear_fwd(out, ln_f_out, g->w.wte, NULL, n, g->c.n_embd, g->c.vocab_size);
}

double gpt_loss(struct gpt *g, const int32_t *idx, const int32_t *targets, size_t B, size_t T)
{
	forward(g, idx, B, T);
	return gpt_finish(g, last_layer(g)->gelu, targets, NULL) / count_targets(targets, B * T);
}

/* ---- backward ---- */

/* dresid: from the gradient of the block's output to that of mid */
static void mlp_bwd(struct gpt *g, size_t l)
{
	const struct backend *be = g->be;
	const struct gpt_weights w = layer_weights(g, g->w, l), d = layer_weights(g, g->g, l);
	const struct layer_acts *a = layer_acts(g, l);
	const size_t N = g->a->B * g->a->T, C = g->c.n_embd;
	real *dresid = g->a->dresid, *dnarrow = g->a->dnarrow, *dwide = g->a->dwide;

	be->linear_bwd(dwide, d.out_w, d.out_b, dresid, a->gelu, w.out_w, N, 4 * C, C);
	be->gelu_bwd(dwide, dwide, a->fc, 4 * N * C);
	be->linear_bwd(dnarrow, d.fc_w, d.fc_b, dwide, a->ln_2, w.fc_w, N, C, 4 * C);
	be->layernorm_bwd(dresid, d.ln_2_w, d.ln_2_b, dnarrow, a->mid, w.ln_2_w, a->mean_2, a->rstd_2, N, C);
}

/* dresid: from the gradient of mid to that of x */
static void attention_bwd(struct gpt *g, size_t l)
{
	const struct backend *be = g->be;
	const struct gpt_weights w = layer_weights(g, g->w, l), d = layer_weights(g, g->g, l);
	const struct layer_acts *a = layer_acts(g, l);
	const size_t B = g->a->B, T = g->a->T, N = B * T, C = g->c.n_embd;
	real *dresid = g->a->dresid, *dnarrow = g->a->dnarrow, *dwide = g->a->dwide;

	be->linear_bwd(dnarrow, d.proj_w, d.proj_b, dresid, a->att, w.proj_w, N, C, C);
	be->attention_bwd(dwide, dnarrow, a->att, a->lse, a->qkv, B, T, C, g->c.n_head);
	be->linear_bwd(dnarrow, d.attn_w, d.attn_b, dwide, a->ln_1, w.attn_w, N, C, 3 * C);
	be->layernorm_bwd(dresid, d.ln_1_w, d.ln_1_b, dnarrow, a->x, w.ln_1_w, a->mean_1, a->rstd_1, N, C);
}

void gpt_step(struct gpt *g, const int32_t *idx, const int32_t *targets, size_t B, size_t T, double scale)
{
	const struct backend *be = g->be;
	struct gpt_acts *a = g->a;
	const size_t N = B * T, C = g->c.n_embd;
	const double n = count_targets(targets, N);

	forward(g, idx, B, T);
	forward_rest(g, last_layer(g)->gelu);
	head(g, targets, a->dnarrow, scale / n);
	be->zero(a->dresid, N * C * sizeof(real));
	be->layernorm_bwd(a->dresid, g->g.ln_f_w, g->g.ln_f_b, a->dnarrow, a->final, g->w.ln_f_w,
			  a->mean_f, a->rstd_f, N, C);
	for (size_t l = g->c.n_layer; l-- > 0; ) {
		mlp_bwd(g, l);
		attention_bwd(g, l);
	}
	be->embed_bwd(g->g.wte, g->g.wpe, a->dresid, a->idx, B, T, C, g->c.vocab_size);
	be->add_sum(g->tally + LOSS + g->leaf, a->nll, N, scale / n);
}

/* ---- optimizer ---- */

void gpt_zero_grads(struct gpt *g)
{
	g->be->zero(g->g.wte, g->n_params * sizeof(real));
}

double gpt_grad_norm(struct gpt *g)
{
	return sqrt(g->be->sumsq(g->g.wte, g->n_params));
}

void gpt_update(struct gpt *g, const struct gpt_hyper *h, double lr)
{
	struct param p[N_PARAMS];
	const size_t k = list_params(&g->c, p);

	g->t++;
	g->be->clip(g->tally + NORM, g->g.wte, g->n_params, h->clip);
	for (size_t i = 0; i < k; i++) /* matrices decay, vectors do not */
		g->be->adamw(*member(&g->w, &p[i]), *member(&g->g, &p[i]), *member(&g->m, &p[i]),
			     *member(&g->v, &p[i]), param_size(&p[i]) * param_layers(g, &p[i]),
			     g->tally + COEF, lr, h->beta1, h->beta2, h->eps,
			     p[i].cols ? h->weight_decay : 0, g->t);
}

void gpt_set_leaves(struct gpt *g, size_t leaves)
{
	g->be->release(g->tally);
	g->tally = g->be->alloc(xmul(LOSS + leaves, sizeof(*g->tally)));
	g->leaves = leaves;
	g->leaf = 0;
}

void gpt_at_leaf(struct gpt *g, size_t leaf, real *grads)
{
	if (leaf >= g->leaves)
		BUG("leaf %zu of %zu", leaf, g->leaves);
	g->leaf = leaf;
	g->g = weights_at(g, grads);
}

void gpt_losses(const struct gpt *g, double *loss)
{
	g->be->get(loss, g->tally + LOSS, g->leaves * sizeof(*loss));
}

void gpt_set_losses(struct gpt *g, const double *loss)
{
	g->be->put(g->tally + LOSS, loss, g->leaves * sizeof(*loss));
}

struct gpt_tally gpt_tally(const struct gpt *g)
{
	double *all = xcalloc(LOSS + g->leaf + 1, sizeof(*all));

	g->be->get(all, g->tally, (LOSS + g->leaf + 1) * sizeof(*all)); /* at once: a device is waited for */
	const struct gpt_tally t = { all[LOSS + g->leaf], all[NORM] };

	free(all);
	return t;
}

void gpt_set_loss(struct gpt *g, double loss)
{
	g->be->put(g->tally + LOSS + g->leaf, &loss, sizeof(loss));
}

double gpt_take_loss(struct gpt *g)
{
	const double loss = gpt_tally(g).loss;

	gpt_set_loss(g, 0);
	return loss;
}

double gpt_lr(uint64_t it, double lr, double min_lr, uint64_t warmup, uint64_t decay_iters)
{
	if (it < warmup)
		return lr * (double)it / (double)warmup;
	if (it > decay_iters)
		return min_lr;
	const double span = (double)(decay_iters - warmup);
	const double progress = span > 0 ? (double)(it - warmup) / span : 0;

	return min_lr + 0.5 * (1 + cos(M_PI * progress)) * (lr - min_lr);
}
