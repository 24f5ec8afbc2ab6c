#include "attrib.h"

#include <stdlib.h>
#include <string.h>

#include "base.h"
#include "heap.h"
#include "pool.h"

enum { CHUNK = 4096 };  /* rows handed to the head at once */

struct attrib {
	struct gpt *g;
	size_t F, max_rows;
	real *dir, *r;                  /* (F,C), (max_rows,C) in backend memory */
	float *host_dir, *host_r;       /* the same on the host */
	real *x, *y, *mean, *rstd;      /* (CHUNK,C) in and out of ln_f; (CHUNK) */
	real *logits;                   /* (ATTRIB_BLOCK,V) */
	real *nll, *f;                  /* (CHUNK) */
	int32_t *targets;               /* (max(CHUNK, max_rows)) */
	uint32_t *rows, *feats;         /* (CHUNK) */
	/* host, one an entry of a chunk */
	float *host_x, *host_nll, *host_f;
	int32_t *host_targets;
	uint32_t *from_row, *from_feat; /* x = r[from_row] - host_f · dir[from_feat] */
	size_t *base;                   /* of a pair: the entry of its row as it is */
};

static void allocate(struct attrib *a, size_t C, size_t V)
{
	const struct backend *be = a->g->be;

	a->dir = be->alloc(xmul(a->F, C) * sizeof(real));
	a->r = be->alloc(xmul(a->max_rows, C) * sizeof(real));
	a->x = be->alloc(CHUNK * C * sizeof(real));
	a->y = be->alloc(CHUNK * C * sizeof(real));
	a->mean = be->alloc(CHUNK * sizeof(real));
	a->rstd = be->alloc(CHUNK * sizeof(real));
	a->logits = be->alloc(ATTRIB_BLOCK * V * sizeof(real));
	a->nll = be->alloc(CHUNK * sizeof(real));
	a->f = be->alloc(CHUNK * sizeof(real));
	a->targets = be->alloc((a->max_rows > CHUNK ? a->max_rows : CHUNK) * sizeof(int32_t));
	a->rows = be->alloc(CHUNK * sizeof(uint32_t));
	a->feats = be->alloc(CHUNK * sizeof(uint32_t));
	a->host_dir = xcalloc(a->F, C * sizeof(float));
	a->host_r = xcalloc(a->max_rows, C * sizeof(float));
	a->host_x = xcalloc(CHUNK, C * sizeof(float));
	a->host_nll = xcalloc(CHUNK, sizeof(float));
	a->host_f = xcalloc(CHUNK, sizeof(float));
	a->host_targets = xcalloc(CHUNK, sizeof(int32_t));
	a->from_row = xcalloc(CHUNK, sizeof(uint32_t));
	a->from_feat = xcalloc(CHUNK, sizeof(uint32_t));
	a->base = xcalloc(CHUNK, sizeof(size_t));
}

/* Of the last block: c_proj's weight (C,4C) and bias (C) or NULL. */
static const real *proj_weight(const struct gpt *g)
{
	return g->w.out_w + (g->c.n_layer - 1) * 4 * g->c.n_embd * g->c.n_embd;
}

static const real *proj_bias(const struct gpt *g)
{
	return g->w.out_b ? g->w.out_b + (g->c.n_layer - 1) * g->c.n_embd : NULL;
}

struct attrib *attrib_new(struct gpt *g, const struct sae *s, size_t max_rows)
{
	struct attrib *a = xcalloc(1, sizeof(*a));
	const size_t C = g->c.n_embd;

	if (s->D != 4 * C)
		BUG("%zu inputs, %zu activations", s->D, 4 * C);
	a->g = g;
	a->F = s->F;
	a->max_rows = max_rows;
	allocate(a, C, g->c.vocab_size);
	g->be->linear_fwd(a->dir, s->p.dec, proj_weight(g), NULL, a->F, 4 * C, C);
	g->be->get(a->host_dir, a->dir, a->F * C * sizeof(float));
	return a;
}

void attrib_free(struct attrib *a)
{
	void *const device[] = { a->dir, a->r, a->x, a->y, a->mean, a->rstd, a->logits, a->nll, a->f,
		a->targets, a->rows, a->feats };
	void *const host[] = { a->host_dir, a->host_r, a->host_x, a->host_nll, a->host_f,
		a->host_targets, a->from_row, a->from_feat, a->base };

	for (size_t i = 0; i < ARRAY_LEN(device); i++)
		a->g->be->release(device[i]);
	for (size_t i = 0; i < ARRAY_LEN(host); i++)
		free(host[i]);
	free(a);
}

/* ---- logit weights ---- */

void attrib_logits(struct attrib *a, size_t from, size_t n, float *out)
{
	const struct gpt *g = a->g;
	const size_t C = g->c.n_embd;

	if (n > ATTRIB_BLOCK || from + n > a->F)
		BUG("features %zu + %zu", from, n);
	g->be->zero(a->x, n * C * sizeof(real));
	if (proj_bias(g))
		g->be->fill_rows(a->x, proj_bias(g), n, C);
	g->be->add(a->x, a->dir + from * C, n * C);
	g->be->layernorm_fwd(a->y, a->mean, a->rstd, a->x, g->w.ln_f_w, g->w.ln_f_b, n, C);
	gpt_logits(a->g, a->logits, a->y, n);
	g->be->get(out, a->logits, n * g->c.vocab_size * sizeof(*out));
}

/* Bits that order as the values do. */
static uint32_t ordered(float v)
{
	uint32_t u;

	memcpy(&u, &v, sizeof(u));
	return u & 0x80000000u ? ~u : u | 0x80000000u;
}

/* The value of rank k, ascending: one digit of its bits after another, linear whatever the values. */
static float select_rank(const float *w, size_t n, size_t k)
{
	static const struct { unsigned shift, bits; } digits[] = { { 21, 11 }, { 10, 11 }, { 0, 10 } };
	uint32_t count[1 << 11], prefix = 0;

	for (size_t d = 0; d < ARRAY_LEN(digits); d++) {
		const unsigned shift = digits[d].shift, above = shift + digits[d].bits;
		const uint32_t mask = (1u << digits[d].bits) - 1;
		uint32_t digit = 0;

		memset(count, 0, sizeof(count));
		for (size_t i = 0; i < n; i++) {
			const uint32_t u = ordered(w[i]);

			if (above == 32 || u >> above == prefix >> above)
				count[u >> shift & mask]++;
		}
		for (; k >= count[digit]; digit++)
			k -= count[digit];
		prefix |= digit << shift;
	}
	const uint32_t u = prefix & 0x80000000u ? prefix & 0x7FFFFFFFu : ~prefix;
	float v;

	memcpy(&v, &u, sizeof(v));
	return v;
}

/* The L largest of sign · w[0 … n) */
static void list(const float *w, size_t n, float sign, struct heap *h, const struct attrib_words *out,
		 size_t at)
{
	h->n = 0;
	for (size_t v = 0; v < n; v++)
		heap_push(h, sign * w[v], v, v);
	heap_sort(h);
	for (size_t i = 0; i < h->n; i++) {
		out->ids[at + i] = (uint16_t)h->item[i].payload;
		out->values[at + i] = w[h->item[i].payload] - out->median;
	}
}

static void spread(const float *w, size_t n, const struct attrib_words *out)
{
	float lo = w[0], hi = w[0];

	for (size_t v = 1; v < n; v++) {
		lo = w[v] < lo ? w[v] : lo;
		hi = w[v] > hi ? w[v] : hi;
	}
	const double scale = hi > lo ? (double)out->H / ((double)hi - lo) : 0;

	memset(out->hist, 0, out->H * sizeof(*out->hist));
	for (size_t v = 0; v < n; v++) {
		const size_t bin = (size_t)(((double)w[v] - lo) * scale);

		out->hist[bin < out->H ? bin : out->H - 1]++;
	}
	out->range[0] = lo - out->median;
	out->range[1] = hi - out->median;
}

void attrib_words(struct attrib_words *out, const float *w, size_t V, size_t real_tokens)
{
	struct heap h = heap_new(out->L);

	out->median = select_rank(w, V, (V - 1) / 2);
	list(w, real_tokens, 1, &h, out, 0);
	list(w, real_tokens, -1, &h, out, out->L);
	spread(w, real_tokens, out);
	heap_free(&h);
}

/* ---- ablation ---- */

void attrib_residual(struct attrib *a, const struct gpt_hook *h, size_t N)
{
	const struct gpt *g = a->g;
	const size_t C = g->c.n_embd;

	if (N > a->max_rows)
		BUG("%zu rows of %zu", N, a->max_rows);
	g->be->linear_fwd(a->r, h->acts, proj_weight(g), proj_bias(g), N, 4 * C, C);
	g->be->add(a->r, h->resid, N * C);
	g->be->get(a->host_r, a->r, N * C * sizeof(float));
}

static void ablate_row(void *arg, size_t i)
{
	const struct attrib *a = arg;
	const size_t C = a->g->c.n_embd;
	const float *r = a->host_r + a->from_row[i] * C, *d = a->host_dir + a->from_feat[i] * C;
	const float f = a->host_f[i];

	for (size_t c = 0; c < C; c++)
		a->host_x[i * C + c] = r[c] - f * d[c];
}

static size_t entry(struct attrib *a, size_t n, uint32_t row, uint32_t feat, float f, int32_t target)
{
	a->from_row[n] = row;
	a->from_feat[n] = feat;
	a->host_f[n] = f;
	a->host_targets[n] = target;
	return n;
}

/* nll of the chunk's n entries, from host_x to host_nll; in float32: effects are small differences */
static void run_head(struct attrib *a, size_t n)
{
	const struct gpt *g = a->g;
	const size_t C = g->c.n_embd;

	pool_for(n, ablate_row, a);
	g->be->put(a->x, a->host_x, n * C * sizeof(float));
	g->be->put(a->targets, a->host_targets, n * sizeof(int32_t));
	g->be->layernorm_fwd(a->y, a->mean, a->rstd, a->x, g->w.ln_f_w, g->w.ln_f_b, n, C);
	g->be->exact->lmhead(a->nll, NULL, NULL, a->y, g->w.wte, a->targets, 1, n, C, g->c.vocab_size);
	g->be->get(a->host_nll, a->nll, n * sizeof(float));
}

/* As many pairs from `from` on as a chunk holds; each is the entry after its base or a later one. */
static size_t logprob_chunk(struct attrib *a, const struct attrib_pairs *p, size_t from,
			    const int32_t *targets, float *effect)
{
	size_t n = 0, base = 0, i;

	for (i = from; i < p->n && n + 2 <= CHUNK; i++) {
		const uint32_t row = p->rows[i];

		if (i == from || row != p->rows[i - 1])
			base = entry(a, n++, row, p->feats[i], 0, targets[row]);
		a->base[entry(a, n, row, p->feats[i], p->f[i], targets[row])] = base;
		n++;
	}
	run_head(a, n);
	for (size_t k = from, e = 0; k < i; k++) {
		if (k == from || p->rows[k] != p->rows[k - 1])
			e++;
		effect[k] = a->host_nll[e] - a->host_nll[a->base[e]];
		e++;
	}
	return i - from;
}

void attrib_logprob(struct attrib *a, const struct attrib_pairs *p, const int32_t *targets, float *effect)
{
	for (size_t from = 0; from < p->n; )
		from += logprob_chunk(a, p, from, targets, effect);
}

/* n entries in backend memory, n <= CHUNK; a->targets is set */
static void logit_chunk(struct attrib *a, const uint32_t *rows, const uint32_t *feats, const real *f, size_t n,
			float *effect)
{
	const struct gpt *g = a->g;

	g->be->ablate_logit(a->nll, rows, feats, f, n, a->r, a->dir, g->w.ln_f_w, g->w.ln_f_b, g->w.wte,
			    a->targets, g->c.n_embd);
	g->be->get(effect, a->nll, n * sizeof(*effect));
}

void attrib_logit_active(struct attrib *a, const struct sae_active *p, const int32_t *targets, size_t rows,
			 float *effect)
{
	a->g->be->put(a->targets, targets, rows * sizeof(*targets));
	for (size_t from = 0, n; from < p->n; from += n) {
		n = p->n - from < CHUNK ? p->n - from : CHUNK;
		logit_chunk(a, p->rows + from, p->feats + from, p->f + from, n, effect + from);
	}
}

void attrib_logit(struct attrib *a, const struct attrib_pairs *p, const int32_t *targets, float *effect)
{
	const struct gpt *g = a->g;
	size_t rows = 0;

	for (size_t i = 0; i < p->n; i++)
		rows = p->rows[i] >= rows ? p->rows[i] + 1 : rows;
	g->be->put(a->targets, targets, rows * sizeof(*targets));
	for (size_t from = 0, n; from < p->n; from += n) {
		n = p->n - from < CHUNK ? p->n - from : CHUNK;
		g->be->put(a->rows, p->rows + from, n * sizeof(*p->rows));
		g->be->put(a->feats, p->feats + from, n * sizeof(*p->feats));
		g->be->put(a->f, p->f + from, n * sizeof(*p->f));
		logit_chunk(a, a->rows, a->feats, a->f, n, effect + from);
	}
}
