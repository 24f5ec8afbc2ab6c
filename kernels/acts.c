#include "acts.h"

#include <stdlib.h>
#include <string.h>

#include "pool.h"

void acts_options_check(const struct acts_options *o, bool made)
{
	static const struct acts_options none = ACTS_OPTIONS_INIT;
	const struct { const char *word; bool given; } options[] = {
		{ "--contexts", o->contexts != none.contexts }, { "--samples", o->samples != none.samples },
		{ "--window", o->window != none.window }, { "--dtype", strcmp(o->dtype, none.dtype) != 0 },
		{ "--gpt-batch", o->batch != none.batch }, { "--cache", o->cache != none.cache },
	};

	for (size_t i = 0; i < ARRAY_LEN(options); i++)
		if (options[i].given && !made)
			die_usage("%s goes with --from-tokens; shards are what they are", options[i].word);
}

static struct rows plan(const struct acts_options *o, uint64_t seed, const struct windows *tok)
{
	if (o->contexts > tok->count)
		die("'%s' has %llu windows of %zu tokens; --contexts asks for %llu", tok->name,
		    (unsigned long long)tok->count, tok->T, (unsigned long long)o->contexts);
	if (o->samples > tok->T)
		die("a context has %zu tokens; --samples asks for %llu", tok->T, (unsigned long long)o->samples);
	return (struct rows){ .seed = seed, .contexts = o->contexts ? o->contexts : tok->count, .samples = o->samples,
		.block = tok->T, .windows = tok->count, .window = o->window, .bins = 1 };
}

struct acts *acts_open(const struct acts_options *o, uint64_t seed, const char *gpt, char *const *tokens)
{
	struct acts *a = xcalloc(1, sizeof(*a));

	if (!dtype_parse(o->dtype, &a->dtype) || !dtype_digits(a->dtype))
		die_usage("--dtype is f16, bf16 or f32, not '%s'", o->dtype);
	a->t = tensors_open(gpt);
	a->c = gpt_config_from(a->t, gpt);
	tensors_id(a->t, a->gpt_id);
	a->tok = windows_open(tokens, a->c.block_size, a->c.vocab_size, o->cache);
	a->rows = plan(o, seed, &a->tok);
	a->D = 4 * a->c.n_embd;
	a->batch = o->batch;
	return a;
}

void acts_start(struct acts *a, const struct backend *be)
{
	const size_t tokens = xmul(a->batch, a->tok.T), rows = xmul(a->batch, a->rows.samples);

	a->g = gpt_new(be, &a->c, a->batch, GPT_EVAL);
	gpt_load(a->g, a->t);
	a->idx = xcalloc(tokens, sizeof(*a->idx));
	a->targets = xcalloc(tokens, sizeof(*a->targets));
	a->at = xcalloc(rows, sizeof(*a->at));
	a->unfit = be->alloc(sizeof(*a->unfit));
}

uint64_t acts_batches(const struct acts *a)
{
	return (a->rows.contexts + a->batch - 1) / a->batch;
}

size_t acts_contexts(const struct acts *a, uint64_t i)
{
	const uint64_t left = a->rows.contexts - i * a->batch;

	return left < a->batch ? (size_t)left : a->batch;
}

static void read_context(void *arg, size_t i)
{
	const struct acts *a = arg;
	const uint64_t c = a->first + i;
	const size_t T = a->tok.T, S = a->rows.samples;

	windows_read(&a->tok, rows_window(&a->rows, c), a->idx + i * T, a->targets + i * T);
	rows_positions(&a->rows, c, a->positions + i * S);
	for (size_t j = 0; j < S; j++)
		a->at[i * S + j] = (uint32_t)(i * T) + a->positions[i * S + j];
}

real *acts_batch(struct acts *a, uint64_t i, uint32_t *positions)
{
	const size_t n = acts_contexts(a, i), rows = n * a->rows.samples;

	a->first = i * a->batch;
	a->positions = positions;
	pool_for(n, read_context, a);
	const struct gpt_hook h = gpt_forward_rows(a->g, a->idx, n, a->tok.T, a->at, rows);

	a->g->be->round_rows(h.acts, rows * a->D, dtype_digits(a->dtype), a->unfit);
	if (a->from == a->to)
		a->from = a->first;
	a->to = a->first + n;
	return h.acts;
}

void acts_check(struct acts *a)
{
	uint64_t unfit;

	a->g->be->get(&unfit, a->unfit, sizeof(unfit));
	if (unfit)
		die("%llu activations of contexts %llu to %llu do not fit %s%s", (unsigned long long)unfit,
		    (unsigned long long)a->from, (unsigned long long)(a->to - 1), dtype_name(a->dtype),
		    a->dtype == DT_F16 ? "; use --dtype bf16" : "");
	a->from = a->to;
}

void acts_id(const struct acts *a, const char *device, const char *precision, char hex[33])
{
	struct recipe *p = recipe_new("rows of tokens", 1);

	recipe_add(p, "contexts", "%llu", (unsigned long long)a->rows.contexts);
	recipe_add(p, "samples", "%llu", (unsigned long long)a->rows.samples);
	recipe_add(p, "window", "%llu", (unsigned long long)a->rows.window);
	recipe_add(p, "dtype", "%s", dtype_name(a->dtype));
	recipe_add(p, "batch", "%zu", a->batch);
	recipe_add(p, "seed", "%llu", (unsigned long long)a->rows.seed);
	recipe_add(p, "device", "%s %s", device, backend_precision(device, precision));
	recipe_add(p, "gpt", "%s", a->gpt_id);
	recipe_add(p, "tokens", "%s", a->tok.id);
	recipe_hash(p, hex);
	recipe_free(p);
}

void acts_close(struct acts *a)
{
	if (a->g) {
		a->g->be->release(a->unfit);
		gpt_free(a->g);
	}
	free(a->idx);
	free(a->targets);
	free(a->at);
	windows_close(&a->tok);
	tensors_close(a->t);
	free(a);
}
