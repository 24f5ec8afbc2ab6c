/* Readings as one JSON document; features.c tells its keys. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "features.h"
#include "utf8.h"

static void add_string(struct buf *b, const char *p, size_t bytes)
{
	json_t *s = json_stringn(p, bytes);
	char *text = s ? json_dumps(s, JSON_ENCODE_ANY) : NULL;

	if (!text)
		BUG("no string of %zu bytes", bytes);
	buf_add(b, text, strlen(text));
	free(text);
	json_decref(s);
}

static void flush(const struct printer *p, struct buf *b)
{
	out_write(p->out, b->p, b->n);
	buf_clear(b);
}

void json_begin(struct printer *p, const struct models *m)
{
	struct buf b = { 0 };

	buf_printf(&b, "{\"format\": 1, \"gpt\": \"%s\", \"sae\": \"%s\", \"features\": %zu, \"block\": %zu, \"texts\": [",
		   m->gpt_id, m->sae_id, m->F, m->c.block_size);
	flush(p, &b);
	buf_free(&b);
}

/* Nine digits tell any two float32 values apart; NAN is null. */
static void add_number(struct buf *b, double v)
{
	if (isnan(v))
		buf_add(b, "null", 4);
	else
		buf_printf(b, "%.9g", v);
}

static bool is_utf8(const char *p, size_t bytes)
{
	const unsigned char *s = (const unsigned char *)p, *end = s + bytes;

	for (int n; s < end; s += n)
		if ((n = utf8_length(s, end)) < 0)
			return false;
	return true;
}

/* "text": "…", or "bytes": "hex" when they are no whole characters */
static void add_bytes(struct buf *b, uint16_t id)
{
	size_t bytes;
	const char *p = bpe_token(bpe_gpt2(), id, &bytes);

	if (is_utf8(p, bytes)) {
		buf_printf(b, "\"text\": ");
		add_string(b, p, bytes);
		return;
	}
	buf_printf(b, "\"bytes\": \"");
	for (size_t i = 0; i < bytes; i++)
		buf_printf(b, "%02x", (unsigned char)p[i]);
	buf_add(b, "\"", 1);
}

static void add_token(const struct printer *p, const struct reading *x, size_t t, struct buf *b)
{
	buf_printf(b, "%s\n  {\"id\": %u, ", t ? "," : "", x->ids[t]);
	add_bytes(b, x->ids[t]);
	buf_printf(b, ", \"logprob\": ");
	add_number(b, (double)x->logprob[t]);
	buf_printf(b, ", \"features\": [");
	for (size_t i = x->start[t]; i < x->start[t + 1]; i++) {
		const struct firing *e = &x->at[i];

		buf_printf(b, "%s[%u, %.9g", i > x->start[t] ? ", " : "", e->feature, (double)e->f);
		if (p->labels)
			buf_printf(b, ", %.9g", (double)labels_max(p->labels, e->feature));
		buf_add(b, "]", 1);
	}
	buf_add(b, "]}", 2);
}

static double loss(const struct reading *x)
{
	double sum = 0;
	size_t n = 0;

	for (size_t t = 0; t < x->n; t++)
		if (!isnan(x->logprob[t])) {
			sum -= (double)x->logprob[t];
			n++;
		}
	return n ? sum / (double)n : NAN;
}

void json_reading(struct printer *p, const struct reading *x)
{
	struct buf b = { 0 };

	buf_printf(&b, "%s\n {\"loss\": ", p->done ? "," : "");
	add_number(&b, loss(x));
	buf_printf(&b, ", \"tokens\": [");
	for (size_t t = 0; t < x->n; t++) {
		add_token(p, x, t, &b);
		if (b.n > 1 << 16)
			flush(p, &b);
	}
	buf_printf(&b, "]}");
	flush(p, &b);
	buf_free(&b);
}

void json_end(struct printer *p)
{
	out_write(p->out, "\n]}\n", 4);
}
