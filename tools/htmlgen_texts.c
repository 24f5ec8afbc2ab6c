/* Sample texts as scripts, from what features --json wrote of them. */
#include "htmlgen.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bpe.h"

enum { LIMIT = 1 << 30, HEAD = 16 };    /* bytes of JSON; tokens by which a text is known */

struct text {
	const char *path;       /* for messages, with its number from 1 on */
	size_t number, F, n;    /* features there can be; tokens */
	double loss;            /* NAN: none */
	uint16_t *ids;          /* (n) */
	double *logprob;        /* (n) NAN: none */
	uint32_t *start;        /* (n+1) */
	struct buf features, acts;      /* uint32, float; start[n] of each */
};

static _Noreturn void bad(const struct text *x, size_t token, const char *what)
{
	die("'%s': text %zu, token %zu: %s", x->path, x->number, token, what);
}

static double number_or_nan(const json_t *v)
{
	return json_is_number(v) ? json_number_value(v) : NAN;
}

static void read_token(struct text *x, size_t t, const json_t *token)
{
	const json_t *id = json_object_get(token, "id"), *features = json_object_get(token, "features"), *pair;
	size_t i;

	if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) >= BPE_TOKENS)
		bad(x, t, "no id of a token");
	if (!json_is_array(features))
		bad(x, t, "no features");
	x->ids[t] = (uint16_t)json_integer_value(id);
	x->logprob[t] = number_or_nan(json_object_get(token, "logprob"));
	json_array_foreach(features, i, pair) {
		const json_t *index = json_array_get(pair, 0);
		const json_int_t k = json_integer_value(index);
		const float f = (float)number_or_nan(json_array_get(pair, 1));

		if (!json_is_integer(index) || k < 0 || (uint64_t)k >= x->F || !(f > 0) || !isfinite(f))
			bad(x, t, "no feature and its activation");
		buf_add(&x->features, &(uint32_t){ (uint32_t)k }, sizeof(uint32_t));
		buf_add(&x->acts, &f, sizeof(f));
	}
	x->start[t + 1] = (uint32_t)(x->features.n / sizeof(uint32_t));
}

static struct text read_text(const json_t *j, const char *path, size_t number, size_t F)
{
	const json_t *tokens = json_object_get(j, "tokens"), *token;
	struct text x = { .path = path, .number = number, .F = F, .n = json_array_size(tokens),
		.loss = number_or_nan(json_object_get(j, "loss")) };
	size_t t;

	if (!x.n)
		die("'%s': text %zu has no tokens", path, number);
	x.ids = xcalloc(x.n, sizeof(*x.ids));
	x.logprob = xcalloc(x.n, sizeof(*x.logprob));
	x.start = xcalloc(x.n + 1, sizeof(*x.start));
	json_array_foreach(tokens, t, token)
		read_token(&x, t, token);
	return x;
}

static void text_free(struct text *x)
{
	free(x->ids);
	free(x->logprob);
	free(x->start);
	buf_free(&x->features);
	buf_free(&x->acts);
}

static void write_text(struct site *site, const struct text *x)
{
	char *name = xformat("text%zu", x->number - 1);
	struct buf b = { 0 };

	chunk_begin(&b, name);
	buf_printf(&b, "{\"ids\":");
	js_base64(&b, x->ids, x->n * sizeof(*x->ids));
	buf_printf(&b, ",\"logprob\":[");
	for (size_t t = 0; t < x->n; t++) {
		if (t)
			buf_add(&b, ",", 1);
		js_number(&b, x->logprob[t]);
	}
	buf_printf(&b, "],\"start\":");
	js_base64(&b, x->start, (x->n + 1) * sizeof(*x->start));
	buf_printf(&b, ",\"features\":");
	js_base64(&b, x->features.p, x->features.n);
	buf_printf(&b, ",\"acts\":");
	js_base64(&b, x->acts.p, x->acts.n);
	buf_add(&b, "}", 1);
	chunk_write(site, name, &b);
	buf_free(&b);
	free(name);
}

/* {"head": first tokens, "tokens": how many, "loss": …} */
static void summarise(struct buf *b, const struct text *x)
{
	buf_printf(b, "%s{\"head\":", x->number > 1 ? ",\n" : "");
	js_base64(b, x->ids, (x->n < HEAD ? x->n : HEAD) * sizeof(*x->ids));
	buf_printf(b, ",\"tokens\":%zu,\"loss\":", x->n);
	js_number(b, x->loss);
	buf_add(b, "}", 1);
}

static void check_id(const json_t *j, const struct top *t, const char *key, const char *path)
{
	const char *id = json_string_value(json_object_get(j, key));
	const char *own = json_string_value(json_object_get(json_object_get(t->index, "ids"), key));

	if (!id || !own || strcmp(id, own))
		die("'%s' was made with %s %s, '%s' with %s", path, key, id ? id : "none", t->dir, own ? own : "none");
}

size_t texts_write(struct site *site, const struct top *t, const char *path)
{
	if (!path)
		return 0;
	json_t *j = json_read(path, LIMIT);
	const json_t *texts = json_object_get(j, "texts"), *one;
	const size_t n = json_array_size(texts);
	struct buf b = { 0 };
	size_t i;

	json_number(j, "format", 1, 1, path);
	json_number(j, "features", (double)t->s.F, (double)t->s.F, path);
	check_id(j, t, "gpt", path);
	check_id(j, t, "sae", path);
	if (!n)
		die("'%s' has no texts", path);
	chunk_begin(&b, "texts");
	buf_add(&b, "[", 1);
	json_array_foreach(texts, i, one) {
		struct text x = read_text(one, path, i + 1, t->s.F);

		write_text(site, &x);
		summarise(&b, &x);
		text_free(&x);
	}
	buf_add(&b, "]", 1);
	chunk_write(site, "texts", &b);
	buf_free(&b);
	json_decref(j);
	return n;
}
