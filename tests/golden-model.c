/* golden-model: the GPT and the autoencoder of fixture pipeline_model, which other fixtures were made with */
#include "golden.h"

#include <stdlib.h>

struct source_of {
	const struct golden *g;
	const char *prefix;
};

static void set_weight(void *arg, const char *name, size_t ndim, const size_t *shape, real *w, real *dw,
		       real *m, real *v)
{
	const struct source_of *from = arg;
	char *full = xformat("%s%s", from->prefix, name);
	float *x = golden_floats(from->g, full, NULL);

	from->g->be->put(w, x, shape[0] * (ndim > 1 ? shape[1] : 1) * sizeof(*x));
	free(x);
	free(full);
	(void)dw, (void)m, (void)v;
}

static struct gpt *gpt_of(const struct golden *m, size_t max_batch)
{
	json_t *c = json_object_get(m->j, "gpt");
	const char *const keys[] = { "n_layer", "n_head", "n_embd", "block_size", "vocab_size" };
	size_t v[5];

	for (size_t i = 0; i < ARRAY_LEN(keys); i++)
		v[i] = (size_t)json_integer_value(json_object_get(c, keys[i]));
	const struct gpt_config config = { v[0], v[1], v[2], v[3], v[4], json_is_true(json_object_get(c, "bias")) };
	struct gpt *gpt = gpt_new(m->be, &config, max_batch, GPT_EVAL);

	gpt_each(gpt, set_weight, &(struct source_of){ m, "gpt." });
	return gpt;
}

static struct sae *sae_of(const struct golden *m, size_t max_rows)
{
	const struct tensor *enc = golden_find(m, "sae.encoder.weight");
	struct sae *s = sae_new(m->be, enc->shape[1], enc->shape[0], max_rows, SAE_EVAL);

	golden_set_sae(m, s, &s->p, "sae.");
	return s;
}

void golden_pipeline(const struct golden *g, size_t max_batch, struct gpt **gpt, struct sae **s)
{
	char *path = xformat("%s/pipeline_model.safetensors", g->dir);
	char *config = xformat("%s/pipeline_model.json", g->dir);
	struct golden m = { g->path, g->dir, "pipeline_model", g->be, tensors_open(path),
		json_load_file(config, 0, NULL) };

	if (!m.j)
		die("cannot read '%s'", config);
	*gpt = gpt_of(&m, max_batch);
	*s = sae_of(&m, max_batch * (*gpt)->c.block_size);
	tensors_close(m.t);
	json_decref(m.j);
	free(path);
	free(config);
}
