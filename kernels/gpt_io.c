/* gpt_io: checkpoints and states of a GPT */
#include <stdlib.h>
#include <string.h>

#include "gpt.h"

struct io {
	struct gpt *g;
	const struct tensors *t;
	struct tensors_writer *w;
	float *host;            /* what is free of the host copy */
};

static size_t count(size_t ndim, const size_t *shape)
{
	return ndim > 1 ? shape[0] * shape[1] : shape[0];
}

/* ---- configuration ---- */

static const struct tensor *matrix(const struct tensors *t, const char *name, const char *path)
{
	const struct tensor *x = tensors_find(t, name);

	if (!x)
		die("'%s' is no GPT: it has no tensor '%s'", path, name);
	if (x->ndim != 2 || !x->count)
		die("'%s': tensor '%s' is no matrix", path, name);
	return x;
}

static size_t count_layers(const struct tensors *t)
{
	for (size_t n = 0;; n++) {
		char *name = xformat("transformer.h.%zu.ln_1.weight", n);
		const bool there = tensors_find(t, name) != NULL;

		free(name);
		if (!there)
			return n;
	}
}

static struct gpt_config config_from_shapes(const struct tensors *t, const char *path)
{
	const struct tensor *wte = matrix(t, "transformer.wte.weight", path);
	const struct tensor *wpe = matrix(t, "transformer.wpe.weight", path);
	const size_t C = wte->shape[1], L = count_layers(t);

	if (!L)
		die("'%s' is no GPT: it has no tensor 'transformer.h.0.ln_1.weight'", path);
	return (struct gpt_config){ L, C < 32 ? 1 : C / 32, C, wpe->shape[0], wte->shape[0],
		tensors_find(t, "transformer.ln_f.bias") != NULL };
}

static void check_tensor(void *arg, const char *name, size_t ndim, const size_t *shape,
			 real *w, real *dw, real *m, real *v)
{
	const struct io *io = arg;

	tensors_get(io->t, name, ndim, shape);
	(void)w, (void)dw, (void)m, (void)v;
}

/* The head is the embedding: a file with weights of the head's own must say the same. */
static void check_tied(const struct tensors *t, const char *path)
{
	const struct tensor *wte = matrix(t, "transformer.wte.weight", path);
	const struct tensor *head = tensors_find(t, "lm_head.weight");

	if (!head)
		return;
	float *x = xcalloc(wte->count + head->count, sizeof(*x));

	tensors_f32(wte, x);
	tensors_f32(head, x + wte->count);
	if (head->count != wte->count || memcmp(x, x + wte->count, wte->count * sizeof(*x)) != 0)
		die("'%s': lm_head.weight is not transformer.wte.weight; heads of their own are not known", path);
	free(x);
}

struct gpt_config gpt_config_from(const struct tensors *t, const char *path)
{
	struct gpt_config c = config_from_shapes(t, path);
	const struct { const char *key; size_t shape; } meta[] = {
		{ "n_layer", c.n_layer }, { "n_embd", c.n_embd }, { "block_size", c.block_size },
		{ "vocab_size", c.vocab_size }, { "bias", c.bias },
	};

	for (size_t i = 0; i < ARRAY_LEN(meta); i++)
		if (tensors_meta(t, meta[i].key) && tensors_meta_u64(t, meta[i].key) != meta[i].shape)
			die("'%s': %s is %s in its metadata, %zu by its tensors", path, meta[i].key,
			    tensors_meta(t, meta[i].key), meta[i].shape);
	if (tensors_meta(t, "n_head"))
		c.n_head = tensors_meta_u64(t, "n_head");
	if (!c.n_head || c.n_embd % c.n_head)
		die("'%s': width %zu cannot be split over %zu heads", path, c.n_embd, c.n_head);
	gpt_each(&(struct gpt){ .c = c }, check_tensor, &(struct io){ .t = t });
	check_tied(t, path);
	return c;
}

/* ---- checkpoints ---- */

static void load_tensor(void *arg, const char *name, size_t ndim, const size_t *shape,
			real *w, real *dw, real *m, real *v)
{
	struct io *io = arg;

	tensors_weights(io->t, name, ndim, shape, io->host);
	io->g->be->put(w, io->host, count(ndim, shape) * sizeof(*w));
	(void)dw, (void)m, (void)v;
}

void gpt_load(struct gpt *g, const struct tensors *t)
{
	struct io io = { g, t, NULL, xcalloc(g->n_params, sizeof(float)) };

	gpt_each(g, load_tensor, &io);
	free(io.host);
}

static void store_tensor(void *arg, const char *name, size_t ndim, const size_t *shape,
			 real *w, real *dw, real *m, real *v)
{
	struct io *io = arg;
	const size_t n = count(ndim, shape);

	io->g->be->get(io->host, w, n * sizeof(*w));
	tensors_put(io->w, name, ndim, shape, io->host);
	io->host += n;
	(void)dw, (void)m, (void)v;
}

void gpt_store(struct gpt *g, struct tensors_writer *w)
{
	if (!g->host)
		g->host = xcalloc(g->n_params, sizeof(float));
	tensors_set(w, "n_layer", "%zu", g->c.n_layer);
	tensors_set(w, "n_head", "%zu", g->c.n_head);
	tensors_set(w, "n_embd", "%zu", g->c.n_embd);
	tensors_set(w, "block_size", "%zu", g->c.block_size);
	tensors_set(w, "vocab_size", "%zu", g->c.vocab_size);
	tensors_set(w, "bias", "%d", g->c.bias);
	gpt_each(g, store_tensor, &(struct io){ g, NULL, w, g->host });
}

struct gpt *gpt_open(const struct backend *be, const char *path, size_t max_batch, char id[33])
{
	struct tensors *t = tensors_open(path);
	const struct gpt_config c = gpt_config_from(t, path);
	struct gpt *g = gpt_new(be, &c, max_batch, GPT_EVAL);

	gpt_load(g, t);
	tensors_id(t, id);
	tensors_close(t);
	return g;
}

/* ---- states ---- */

void gpt_save_state(struct gpt *g, struct buf *st)
{
	const real *const blocks[] = { g->w.wte, g->m.wte, g->v.wte };
	float *host = xcalloc(g->n_params, sizeof(*host));

	buf_add(st, &g->t, sizeof(g->t));
	for (size_t i = 0; i < ARRAY_LEN(blocks); i++) {
		g->be->get(host, blocks[i], g->n_params * sizeof(*host));
		buf_add(st, host, g->n_params * sizeof(*host));
	}
	free(host);
}

void gpt_load_state(struct gpt *g, struct cursor *st)
{
	real *const blocks[] = { g->w.wte, g->m.wte, g->v.wte };
	float *host = xcalloc(g->n_params, sizeof(*host));

	cursor_get(st, &g->t, sizeof(g->t));
	for (size_t i = 0; i < ARRAY_LEN(blocks); i++) {
		cursor_get(st, host, g->n_params * sizeof(*host));
		g->be->put(blocks[i], host, g->n_params * sizeof(*host));
	}
	free(host);
}
