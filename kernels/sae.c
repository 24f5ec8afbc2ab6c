#include "sae.h"

#include <math.h>
#include <stdlib.h>

#include "rng.h"
#include "tree.h"

enum { LINE = 16 };

/* Tensors follow one another in a block, each from a 64-byte boundary; what lies between stays 0. */
static size_t padded(size_t n)
{
	return (n + LINE - 1) / LINE * LINE;
}

static size_t block_size(const struct sae *s)
{
	return 2 * padded(xmul(s->D, s->F)) + padded(s->F) + padded(s->D);
}

static struct sae_params params_at(const struct sae *s, real *p)
{
	const size_t matrix = padded(s->D * s->F);

	return (struct sae_params){ p, p + matrix, p + matrix + padded(s->F),
		p + 2 * matrix + padded(s->F) };
}

static struct sae_params carve(const struct sae *s)
{
	return params_at(s, s->be->alloc(xmul(s->n_block, sizeof(real))));
}

struct sae *sae_new(const struct backend *be, size_t D, size_t F, size_t max_rows, int mode)
{
	struct sae *s = xcalloc(1, sizeof(*s));

	s->be = be;
	s->D = D;
	s->F = F;
	s->max_rows = max_rows;
	s->n_block = block_size(s);
	s->p = carve(s);
	if (mode == SAE_TRAIN) {
		s->g = carve(s);
		s->m = carve(s);
		s->v = carve(s);
		s->trained = be->alloc(xmul(F, sizeof(*s->trained)));
		sae_set_leaves(s, 1, 1);
	}
	s->x = be->alloc(xmul(xmul(max_rows, D), sizeof(*s->x)));
	s->xhat = be->alloc(xmul(xmul(max_rows, D), sizeof(*s->xhat)));
	s->seen = s->fired = be->alloc(xmul(F, sizeof(*s->seen)));
	return s;
}

static void release_active(struct sae *s)
{
	if (!s->active.cap)
		return;
	s->be->release(s->active.rows);
	s->be->release(s->active.feats);
	s->be->release(s->active.f);
}

void sae_free(struct sae *s)
{
	real *const blocks[] = { s->p.enc, s->g.enc, s->m.enc, s->v.enc, s->x, s->xhat, s->f, s->err2, s->l1 };

	for (size_t i = 0; i < ARRAY_LEN(blocks); i++)
		if (blocks[i])
			s->be->release(blocks[i]);
	release_active(s);
	s->be->release(s->sums);
	s->be->release(s->share);
	s->be->release(s->trained);
	s->be->release(s->seen);
	free(s->host);
	free(s);
}

/* Host floats to backend memory and back, whatever real is. */
static void put_floats(const struct sae *s, real *dst, const float *x, size_t n)
{
	if (sizeof(real) == sizeof(*x)) {
		s->be->put(dst, x, n * sizeof(*x));
		return;
	}
	real *wide = xcalloc(n, sizeof(*wide));

	for (size_t i = 0; i < n; i++)
		wide[i] = (real)x[i];
	s->be->put(dst, wide, n * sizeof(*wide));
	free(wide);
}

static void get_floats(const struct sae *s, float *dst, const real *x, size_t n)
{
	if (sizeof(real) == sizeof(*dst)) {
		s->be->get(dst, x, n * sizeof(*dst));
		return;
	}
	real *wide = xcalloc(n, sizeof(*wide));

	s->be->get(wide, x, n * sizeof(*wide));
	for (size_t i = 0; i < n; i++)
		dst[i] = (float)wide[i];
	free(wide);
}

/* n values of U(-bound, bound) */
static void init_uniform(struct sae *s, real *dst, uint64_t seed, uint64_t tensor, size_t n, double bound)
{
	float *x = xcalloc(n, sizeof(*x));

	for (size_t i = 0; i < n; i++)
		x[i] = (float)(bound * (2 * rng_uniform(rng_hash(seed, RNG_INIT, tensor, i)) - 1));
	put_floats(s, dst, x, n);
	free(x);
}

void sae_init(struct sae *s, uint64_t seed)
{
	enum { FIRST_TENSOR = 1 << 20 };        /* a GPT of the same seed has the numbers below */
	const double in = 1 / sqrt((double)s->D), hidden = 1 / sqrt((double)s->F);

	init_uniform(s, s->p.enc, seed, FIRST_TENSOR, s->F * s->D, in);
	init_uniform(s, s->p.b_enc, seed, FIRST_TENSOR + 1, s->F, in);
	init_uniform(s, s->p.dec, seed, FIRST_TENSOR + 2, s->F * s->D, hidden);
	init_uniform(s, s->p.b_dec, seed, FIRST_TENSOR + 3, s->D, hidden);
	sae_normalise(s);
}

static void check_rows(const struct sae *s, size_t N)
{
	if (N == 0 || N > s->max_rows)
		BUG("%zu rows; buffers hold 1 to %zu", N, s->max_rows);
}

void sae_gradients_at(struct sae *s, const real *x, size_t N, double lambda)
{
	check_rows(s, N);
	if (s->leaf == 0 && !s->count_on)
		s->be->zero(s->trained, s->F * sizeof(*s->trained));
	s->fired = s->trained;
	s->be->sae_grad(s->sums + s->leaf, s->trained, &s->g, x, &s->p, lambda, N, s->D, s->F);
	s->rows += N;
}

void sae_gradients(struct sae *s, const float *x, size_t N, double lambda)
{
	check_rows(s, N);
	put_floats(s, s->x, x, N * s->D);
	sae_gradients_at(s, s->x, N, lambda);
}

void sae_set_leaves(struct sae *s, size_t leaves, size_t all)
{
	const double share = 1 / (double)all;

	s->be->release(s->sums);
	s->sums = s->be->alloc(xmul(leaves, sizeof(*s->sums)));
	s->leaves = leaves;
	s->leaf = 0;
	if (all > 1 && !s->share)
		s->share = s->be->alloc(sizeof(*s->share));
	if (s->share)
		s->be->put(s->share, &share, sizeof(share));
}

void sae_at_leaf(struct sae *s, size_t leaf, real *grads)
{
	if (leaf >= s->leaves)
		BUG("leaf %zu of %zu", leaf, s->leaves);
	s->leaf = leaf;
	s->g = params_at(s, grads);
}

void sae_leaf_sums(const struct sae *s, struct sae_sums *sums)
{
	s->be->get(sums, s->sums, s->leaves * sizeof(*sums));
}

void sae_set_leaf_sums(struct sae *s, const struct sae_sums *sums, uint64_t rows)
{
	s->be->put(s->sums, sums, s->leaves * sizeof(*sums));
	s->rows = rows;
}

struct sae_sums sae_add_leaves(const struct sae_sums *sums, size_t n)
{
	const double *x = &sums->err2;
	const size_t stride = sizeof(*sums) / sizeof(*x);

	return (struct sae_sums){ tree_sum(x, n, stride), tree_sum(x + 1, n, stride), tree_sum(x + 2, n, stride) };
}

struct sae_tally sae_tally(const struct sae *s)
{
	struct sae_sums *sums = xcalloc(s->leaves, sizeof(*sums));

	sae_leaf_sums(s, sums);
	const struct sae_tally t = { sae_add_leaves(sums, s->leaves), s->rows };

	free(sums);
	return t;
}

void sae_set_tally(struct sae *s, const struct sae_tally *t)
{
	s->be->zero(s->sums, s->leaves * sizeof(*s->sums));
	s->be->put(s->sums, &t->sums, sizeof(t->sums));
	s->rows = t->rows;
}

struct sae_loss sae_means(const struct sae_tally *t, size_t D, double lambda)
{
	const double rows = (double)t->rows, mse = t->sums.err2 / (rows * (double)D), l1 = t->sums.l1 / rows;

	return (struct sae_loss){ mse + lambda * l1, mse, l1, t->sums.l0 / rows };
}

struct sae_loss sae_loss(const struct sae *s, double lambda)
{
	const struct sae_tally t = sae_tally(s);

	return sae_means(&t, s->D, lambda);
}

struct sae_loss sae_take_loss(struct sae *s, double lambda)
{
	const struct sae_loss l = sae_loss(s, lambda);

	sae_set_tally(s, &(struct sae_tally){ 0 });
	return l;
}

/* ---- weights ---- */

/* Rows of the decoder among the values [from, to) */
static size_t rows_within(const struct sae *s, size_t from, size_t to, size_t *first)
{
	const size_t dec = (size_t)(s->p.dec - s->p.enc), end = dec + s->F * s->D;
	const size_t a = from < dec ? dec : from < end ? from : end, b = to < dec ? dec : to < end ? to : end;

	if ((a - dec) % s->D || (b - dec) % s->D)
		BUG("part of a feature's row in [%zu,%zu)", from, to);
	*first = (a - dec) / s->D;
	return (b - a) / s->D;
}

static void project_part(struct sae *s, size_t from, size_t to)
{
	size_t first, n = rows_within(s, from, to, &first);

	if (n)
		s->be->project_rows(s->g.dec + first * s->D, s->p.dec + first * s->D, n, s->D);
}

static void adam_part(struct sae *s, size_t from, size_t to, double lr)
{
	s->t++;
	if (to > from)
		s->be->adamw(s->p.enc + from, s->g.enc + from, s->m.enc + from, s->v.enc + from, to - from, s->share,
			     lr, .9, .999, 1e-8, 0, s->t);
}

void sae_project(struct sae *s)
{
	project_part(s, 0, s->n_block);
}

void sae_adam(struct sae *s, double lr)
{
	adam_part(s, 0, s->n_block, lr);
}

void sae_update_part(struct sae *s, size_t from, size_t to, double lr)
{
	project_part(s, from, to);
	adam_part(s, from, to, lr);
}

void sae_normalise_part(struct sae *s, size_t from, size_t to)
{
	size_t first, n = rows_within(s, from, to, &first);

	if (n)
		s->be->normalise_rows(s->p.dec + first * s->D, n, s->D);
}

void sae_normalise(struct sae *s)
{
	sae_normalise_part(s, 0, s->n_block);
}

/* Work that the values before `at` are: of the decoder's, projection takes as long as all the rest. */
static size_t work_before(size_t at, size_t dec, size_t end)
{
	return at + (at < dec ? 0 : at < end ? at - dec : end - dec);
}

size_t sae_cut(const void *sae, size_t from, size_t to)
{
	const struct sae *s = sae;
	const size_t dec = (size_t)(s->p.dec - s->p.enc), end = dec + s->F * s->D, D = s->D;
	const size_t half = (work_before(from, dec, end) + work_before(to, dec, end)) / 2;
	size_t at = half;

	if (half > work_before(end, dec, end))
		at = half - (end - dec);
	else if (half > dec)
		at = dec + (half - dec) / 2;
	at = at > dec && at < end ? dec + (at - dec + D - 1) / D * D : padded(at);
	return at < to ? at : to;
}

void sae_step(struct sae *s, const float *x, size_t N, double lambda, double lr)
{
	sae_gradients(s, x, N, lambda);
	sae_update_part(s, 0, s->n_block, lr);
}

void sae_fired(struct sae *s, uint32_t *count)
{
	s->be->get(count, s->fired, s->F * sizeof(*count));
}

void sae_count_on(struct sae *s, bool on)
{
	s->count_on = on;
}

void sae_batches_fired(const struct sae *s, uint32_t *count)
{
	s->be->get(count, s->trained, s->F * sizeof(*count));
}

void sae_encode(struct sae *s, const real *x, size_t N)
{
	check_rows(s, N);
	if (!s->f)
		s->f = s->be->alloc(xmul(xmul(s->max_rows, s->F), sizeof(*s->f)));
	s->be->sae_encode(s->f, x, &s->p, N, s->D, s->F);
}

static void make_active(struct sae *s, size_t cap)
{
	release_active(s);
	s->active.rows = s->be->alloc(xmul(cap, sizeof(*s->active.rows)));
	s->active.feats = s->be->alloc(xmul(cap, sizeof(*s->active.feats)));
	s->active.f = s->be->alloc(xmul(cap, sizeof(*s->active.f)));
	s->active.cap = cap;
}

void sae_find_active(struct sae *s, const real *x, size_t N)
{
	struct sae_active *a = &s->active;

	check_rows(s, N);
	if (!a->cap)
		make_active(s, s->max_rows * s->F / 32 + 1024);
	while ((a->n = s->be->sae_active(a->rows, a->feats, a->f, a->cap, x, &s->p, N, s->D, s->F)) > a->cap)
		make_active(s, a->n);
}

void sae_get_active(const struct sae *s, struct sae_found *p)
{
	const struct sae_active *a = &s->active;

	if (a->n > p->cap) {
		p->cap = a->n + a->n / 4;
		p->rows = xrealloc(p->rows, p->cap, sizeof(*p->rows));
		p->feats = xrealloc(p->feats, p->cap, sizeof(*p->feats));
		p->f = xrealloc(p->f, p->cap, sizeof(*p->f));
	}
	p->n = a->n;
	s->be->get(p->rows, a->rows, a->n * sizeof(*p->rows));
	s->be->get(p->feats, a->feats, a->n * sizeof(*p->feats));
	s->be->get(p->f, a->f, a->n * sizeof(*p->f));
}

void sae_found_free(struct sae_found *p)
{
	free(p->rows);
	free(p->feats);
	free(p->f);
	*p = (struct sae_found){ 0 };
}

void sae_reconstruct(struct sae *s, const real *x, size_t N, struct sae_sums *sums)
{
	struct sae_sums own = { 0 };

	check_rows(s, N);
	s->fired = s->seen;
	s->be->zero(s->seen, s->F * sizeof(*s->seen));
	s->be->sae_forward(&own, NULL, NULL, s->xhat, s->seen, x, &s->p, N, s->D, s->F);
	sums->err2 += own.err2;
	sums->l1 += own.l1;
	sums->l0 += own.l0;
}

void sae_row_losses(struct sae *s, const float *x, size_t N, float *err2, float *l1)
{
	struct sae_sums unused = { 0 };

	if (!s->err2) {
		s->err2 = s->be->alloc(xmul(s->max_rows, sizeof(*s->err2)));
		s->l1 = s->be->alloc(xmul(s->max_rows, sizeof(*s->l1)));
	}
	for (size_t i = 0, n; i < N; i += n) {
		n = N - i < s->max_rows ? N - i : s->max_rows;
		put_floats(s, s->x, x + i * s->D, n * s->D);
		s->be->sae_forward(&unused, s->err2, s->l1, NULL, NULL, s->x, &s->p, n, s->D, s->F);
		get_floats(s, err2 + i, s->err2, n);
		get_floats(s, l1 + i, s->l1, n);
	}
}
