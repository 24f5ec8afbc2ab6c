/* What topk's directory knows of features: maxima, and the tokens on which they are strongest. */
#include <stdlib.h>
#include <string.h>

#include "features.h"

enum { CACHE = 32 << 20 };

struct labels {
	struct top t;
	float *max;             /* (F) */
	struct shard_cache *centre, *tokens;
	uint32_t *of_centre;    /* (E), (cells): a feature's */
	uint16_t *of_tokens;
};

static void check_id(const struct top *t, const char *key, const char *id)
{
	const char *own = json_string_value(json_object_get(json_object_get(t->index, "ids"), key));

	if (!own || strcmp(own, id))
		die("'%s' was made with another %s: %s, not %s", t->dir, !strcmp(key, "gpt") ? "GPT" : "autoencoder",
		    own ? own : "none", id);
}

static struct shard_cache *open_field(const struct top *t, enum top_name which)
{
	const struct top_field f = top_field(&t->s, which);
	char *path = top_path(t->dir, &f);
	struct shard_cache *c = shard_cache_open((char *[]){ path, NULL }, CACHE);

	free(path);
	return c;
}

struct labels *labels_open(const char *dir, const struct models *m)
{
	struct labels *l = xcalloc(1, sizeof(*l));

	l->t = top_read(dir);
	check_id(&l->t, "gpt", m->gpt_id);
	check_id(&l->t, "sae", m->sae_id);
	if (l->t.s.F != m->F)
		die("'%s' knows %zu features, the autoencoder has %zu", dir, l->t.s.F, m->F);
	struct shard_cache *max = open_field(&l->t, TOP_MAX);

	l->max = xcalloc(m->F, sizeof(*l->max));
	shard_cache_get(max, 0, m->F, l->max);
	shard_cache_close(max);
	l->centre = open_field(&l->t, TOP_CENTRE);
	l->tokens = open_field(&l->t, TOP_TOKENS);
	l->of_centre = xcalloc(top_examples(&l->t.s), sizeof(*l->of_centre));
	l->of_tokens = xcalloc(top_cells(&l->t.s), sizeof(*l->of_tokens));
	return l;
}

void labels_recipe(const struct labels *l, struct recipe *r)
{
	recipe_add(r, "max", "%s", l->t.ids[TOP_MAX]);
	recipe_add(r, "centre", "%s", l->t.ids[TOP_CENTRE]);
	recipe_add(r, "tokens", "%s", l->t.ids[TOP_TOKENS]);
}

float labels_max(const struct labels *l, size_t feature)
{
	return l->max[feature];
}

void labels_tokens(struct labels *l, size_t feature, uint16_t out[LABEL_TOKENS])
{
	const size_t E = top_examples(&l->t.s);

	shard_cache_get(l->centre, feature * E, E, l->of_centre);
	shard_cache_get(l->tokens, feature, 1, l->of_tokens);
	top_tokens(&l->t.s, l->of_centre, l->of_tokens, out, LABEL_TOKENS);
}

void labels_close(struct labels *l)
{
	if (!l)
		return;
	shard_cache_close(l->centre);
	shard_cache_close(l->tokens);
	top_release(&l->t);
	free(l->max);
	free(l->of_centre);
	free(l->of_tokens);
	free(l);
}
