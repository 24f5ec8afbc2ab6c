/* topk's directory: the fields that are made at the end, a shard each, and index.json. */
#include "topk.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "bpe.h"
#include "pool.h"
#include "prog.h"
#include "relate.h"

/* ---- logit weights ---- */

struct logits {
	struct run *r;
	size_t from;
	float *w;               /* (ATTRIB_BLOCK,V) */
	uint16_t *ids;          /* (F,2L) */
	float *values, *range;  /* (F,2L), (F,2) */
	uint32_t *hist;         /* (F,H) */
};

static size_t real_tokens(const struct run *r)
{
	return r->g->c.vocab_size < BPE_TOKENS ? r->g->c.vocab_size : BPE_TOKENS;
}

static void logits_feature(void *arg, size_t i)
{
	const struct logits *l = arg;
	const struct top_shape *s = &l->r->shape;
	const size_t V = l->r->g->c.vocab_size, k = l->from + i;
	struct attrib_words out = { s->L, s->H, 0, l->ids + k * 2 * s->L, l->values + k * 2 * s->L,
		l->range + k * 2, l->hist + k * s->H };

	attrib_words(&out, l->w + i * V, V, real_tokens(l->r));
}

static struct logits logits_all(struct run *r)
{
	const struct top_shape *s = &r->shape;
	struct logits l = { .r = r };

	l.w = xcalloc(ATTRIB_BLOCK, r->g->c.vocab_size * sizeof(*l.w));
	l.ids = xcalloc(s->F, 2 * s->L * sizeof(*l.ids));
	l.values = xcalloc(s->F, 2 * s->L * sizeof(*l.values));
	l.range = xcalloc(s->F, 2 * sizeof(*l.range));
	l.hist = xcalloc(s->F, s->H * sizeof(*l.hist));
	prog_note("logit weights");
	for (size_t n; l.from < s->F; l.from += n) {
		n = s->F - l.from < ATTRIB_BLOCK ? s->F - l.from : ATTRIB_BLOCK;
		attrib_logits(r->a, l.from, n, l.w);
		pool_for(n, logits_feature, &l);
	}
	return l;
}

static void logits_free(struct logits *l)
{
	free(l->w);
	free(l->ids);
	free(l->values);
	free(l->range);
	free(l->hist);
}

/* ---- the directory ---- */

static struct meta provenance(const struct run *r, const char *tool)
{
	struct meta m = { 0 };

	meta_add(&m, "gpt", "%s", r->m.gpt_id);
	meta_add(&m, "sae", "%s", r->m.sae_id);
	meta_add(&m, "tokens", "%s", r->tok.id);
	meta_add(&m, "via", "%s --contexts %llu --skip %llu --radius %zu --top-radius %zu --seed %llu", tool,
		 (unsigned long long)r->contexts, (unsigned long long)r->skip, r->shape.R, r->shape.RT,
		 (unsigned long long)r->seed);
	return m;
}

/* One shard; its line in the index.  Returns the compressed bytes. */
static uint64_t write_field(const struct run *r, const char *tool, const char *dir, enum top_name which,
			    const void *data, json_t *fields)
{
	const struct top_field f = top_field(&r->shape, which);
	struct meta m = provenance(r, tool);
	const struct shard_spec spec = { f.dtype, f.cols, 0, 0, 1, &m, 0 };
	char *path = top_path(dir, &f);
	struct shard_writer *w = shard_create(path, &spec, 0);
	struct stat st;

	shard_write(w, data, f.rows);
	shard_finish(w);
	json_object_set_new(fields, f.name, json_pack("{s:s, s:s, s:I, s:I}", "file", strrchr(path, '/') + 1,
		"dtype", dtype_name(f.dtype), "rows", (json_int_t)f.rows, "cols", (json_int_t)f.cols));
	if (stat(path, &st) != 0)
		die_errno("cannot read '%s'", path);
	meta_free(&m);
	free(path);
	return (uint64_t)st.st_size;
}

static float *means(const struct examples *x)
{
	float *mean = xcalloc(x->s.F, sizeof(*mean));

	for (size_t k = 0; k < x->s.F; k++)
		mean[k] = x->active[k] ? (float)(x->sum[k] / x->active[k]) : 0;
	return mean;
}

static float *mean_effects(const struct examples *x)
{
	float *mean = xcalloc(x->s.F, 2 * sizeof(*mean));

	for (size_t i = 0; i < 2 * x->s.F; i++)
		mean[i] = x->active[i / 2] ? (float)(x->effect[i] / x->active[i / 2]) : 0;
	return mean;
}

static struct relate relate_all(struct run *r)
{
	struct relate e = relate_new(&r->shape);

	prog_note("relatives");
	relate_decoder(&e, r->s);
	relate_firings(&e, r->fired, r->x->active);
	return e;
}

static uint64_t write_fields(struct run *r, const char *tool, const char *dir, json_t *fields)
{
	struct logits l = logits_all(r);
	struct relate e = relate_all(r);
	float *mean = means(r->x), *effect = mean_effects(r->x);
	const void *const data[TOP_N_FIELDS] = {
		[TOP_ACTIVE] = r->x->active, [TOP_MAX] = r->x->max, [TOP_MEAN] = mean,
		[TOP_HIST] = r->x->hist, [TOP_INTERVAL] = r->x->interval, [TOP_CENTRE] = r->x->centre,
		[TOP_TOKENS] = r->w->tokens, [TOP_ACTS] = r->x->acts, [TOP_EFFECTS] = r->w->effects,
		[TOP_LOGIT_EFFECTS] = r->w->logit_effects, [TOP_LOGIT_EFFECT] = effect,
		[TOP_LOGIT_IDS] = l.ids, [TOP_LOGITS] = l.values, [TOP_LOGIT_RANGE] = l.range,
		[TOP_LOGIT_HIST] = l.hist, [TOP_NEAR] = e.near, [TOP_NEAR_COS] = e.near_cos,
		[TOP_TOGETHER] = e.together, [TOP_TOGETHER_SHARE] = e.together_share, [TOP_SAMPLED] = e.sampled,
		[TOP_ALIGN] = e.align, [TOP_ALIGN_VALUE] = e.align_value, [TOP_ALIGN_L1] = e.align_l1,
		[TOP_BEFORE] = e.around[0], [TOP_BEFORE_COUNT] = e.around_count[0],
		[TOP_ON] = e.around[1], [TOP_ON_COUNT] = e.around_count[1],
		[TOP_AFTER] = e.around[2], [TOP_AFTER_COUNT] = e.around_count[2],
	};
	uint64_t bytes = 0;

	for (size_t i = 0; i < TOP_N_FIELDS; i++)
		bytes += write_field(r, tool, dir, (enum top_name)i, data[i], fields);
	free(mean);
	free(effect);
	logits_free(&l);
	relate_free(&e);
	return bytes;
}

static void write_index(struct run *r, const char *dir, json_t *fields)
{
	const struct top_shape *s = &r->shape;
	const struct { const char *key; uint64_t v; } numbers[] = {
		{ "format", TOP_FORMAT }, { "features", s->F }, { "inputs", r->s->D }, { "top_k", s->K },
		{ "intervals", s->I }, { "samples", s->M }, { "radius", s->R }, { "top_radius", s->RT },
		{ "bins", s->H }, { "logits", s->L }, { "near", s->N }, { "align", s->A }, { "neighbours", s->B },
		{ "sampled", r->fired->P }, { "tokens", r->contexts * r->tok.T }, { "contexts", r->contexts },
		{ "skip", r->skip }, { "block", r->tok.T }, { "vocab", r->g->c.vocab_size }, { "seed", r->seed },
	};
	json_t *index = json_object();
	char *path = xformat("%s/index.json", dir);

	for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
		json_object_set_new(index, numbers[i].key, json_integer((json_int_t)numbers[i].v));
	json_object_set(index, "gpt", r->gpt_meta);
	json_object_set(index, "sae", r->sae_meta);
	json_object_set_new(index, "ids", json_pack("{s:s, s:s, s:s}", "gpt", r->m.gpt_id, "sae", r->m.sae_id,
						    "tokens", r->tok.id));
	json_object_set(index, "fields", fields);
	char *text = json_dumps(index, JSON_INDENT(1) | JSON_PRESERVE_ORDER);

	if (!text)
		BUG("index.json cannot be written");
	file_write(path, text, strlen(text));
	free(text);
	free(path);
	json_decref(index);
}

uint64_t dir_write(struct run *r, const char *tool, const char *dir)
{
	json_t *fields = json_object();
	const uint64_t bytes = write_fields(r, tool, dir, fields);

	write_index(r, dir, fields);
	json_decref(fields);
	return bytes;
}
