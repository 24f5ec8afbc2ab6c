#include "show.h"

#include <string.h>

struct show_place {
	uint32_t token, example;
};

struct show_want {
	uint32_t row, feat;
	float f;
	size_t to;              /* index into effects */
};

static size_t cells(const struct show *w)
{
	return xmul(w->x->s.F, top_cells(&w->x->s));
}

static int by_token(const void *a, const void *b)
{
	const struct show_place *x = a, *y = b;

	if (x->token != y->token)
		return x->token < y->token ? -1 : 1;
	return (x->example > y->example) - (x->example < y->example);
}

struct show *show_new(const struct examples *x, struct attrib *a)
{
	struct show *w = xcalloc(1, sizeof(*w));

	w->x = x;
	w->a = a;
	const size_t n = x->s.F * top_examples(&x->s);

	if (n > UINT32_MAX)
		die("%zu examples are too many", n);
	w->tokens = xcalloc(cells(w), sizeof(*w->tokens));
	memset(w->tokens, 0xFF, cells(w) * sizeof(*w->tokens));
	w->effects = xcalloc(cells(w), sizeof(*w->effects));
	w->logit_effects = xcalloc(cells(w), sizeof(*w->logit_effects));
	w->order = xcalloc(n, sizeof(*w->order));
	for (size_t i = 0; i < n; i++)
		if (x->centre[i] != TOP_NO_EXAMPLE)
			w->order[w->n++] = (struct show_place){ x->centre[i], (uint32_t)i };
	qsort(w->order, w->n, sizeof(*w->order), by_token);
	return w;
}

void show_free(struct show *w)
{
	void *const parts[] = { w->tokens, w->effects, w->logit_effects, w->order, w->want, w->rows,
		w->feats, w->f, w->effect, w->logit_effect, w };

	for (size_t i = 0; i < ARRAY_LEN(parts); i++)
		free(parts[i]);
}

bool show_wants(const struct show *w, uint64_t first, size_t tokens)
{
	return w->done < w->n && w->order[w->done].token < first + tokens;
}

static void grow(struct show *w, size_t n)
{
	if (n <= w->cap)
		return;
	w->cap = 2 * n;
	w->want = xrealloc(w->want, w->cap, sizeof(*w->want));
	w->rows = xrealloc(w->rows, w->cap, sizeof(*w->rows));
	w->feats = xrealloc(w->feats, w->cap, sizeof(*w->feats));
	w->f = xrealloc(w->f, w->cap, sizeof(*w->f));
	w->effect = xrealloc(w->effect, w->cap, sizeof(*w->effect));
	w->logit_effect = xrealloc(w->logit_effect, w->cap, sizeof(*w->logit_effect));
}

/* Tokens of an example; its active ones join what is wanted.  row: of the centre, t: its place. */
static void add_example(struct show *w, uint32_t example, size_t row, size_t t, size_t T, const int32_t *idx)
{
	const struct top_shape *s = &w->x->s;
	const uint32_t feat = (uint32_t)(example / top_examples(s));
	const struct top_window win = top_window(s, example % top_examples(s));
	const size_t R = win.width / 2, at = feat * top_cells(s) + win.at;

	grow(w, w->wants + win.width);
	for (size_t i = 0; i < win.width; i++) {
		if (t + i < R || t + i >= T + R)
			continue;
		w->tokens[at + i] = (uint16_t)idx[row + i - R];
		if (w->x->acts[at + i] > 0)
			w->want[w->wants++] = (struct show_want){ (uint32_t)(row + i - R), feat,
				w->x->acts[at + i], at + i };
	}
}

static int by_row(const void *a, const void *b)
{
	const struct show_want *x = a, *y = b;

	if (x->row != y->row)
		return x->row < y->row ? -1 : 1;
	if (x->feat != y->feat)
		return x->feat < y->feat ? -1 : 1;
	return (x->to > y->to) - (x->to < y->to);
}

static bool repeats(const struct show *w, size_t i)
{
	return i > 0 && w->want[i].row == w->want[i - 1].row && w->want[i].feat == w->want[i - 1].feat;
}

void show_block(struct show *w, const int32_t *idx, const int32_t *targets, size_t B, size_t T,
		uint64_t first)
{
	size_t n = 0;

	w->wants = 0;
	for (; show_wants(w, first, B * T); w->done++) {
		const struct show_place *e = &w->order[w->done];

		add_example(w, e->example, e->token - first, e->token % T, T, idx);
	}
	qsort(w->want, w->wants, sizeof(*w->want), by_row);
	for (size_t i = 0; i < w->wants; i++) {
		if (repeats(w, i))
			continue;
		w->rows[n] = w->want[i].row;
		w->feats[n] = w->want[i].feat;
		w->f[n++] = w->want[i].f;
	}
	const struct attrib_pairs pairs = { w->rows, w->feats, w->f, n };

	attrib_logprob(w->a, &pairs, targets, w->effect);
	attrib_logit(w->a, &pairs, targets, w->logit_effect);
	for (size_t i = 0, k = 0; i < w->wants; i++) {
		k += !repeats(w, i);
		w->effects[w->want[i].to] = w->effect[k - 1];
		w->logit_effects[w->want[i].to] = w->logit_effect[k - 1];
	}
}

void show_save(const struct show *w, struct buf *st)
{
	buf_add(st, w->tokens, cells(w) * sizeof(*w->tokens));
	buf_add(st, w->effects, cells(w) * sizeof(*w->effects));
	buf_add(st, w->logit_effects, cells(w) * sizeof(*w->logit_effects));
}

void show_load(struct show *w, struct cursor *st, uint64_t next)
{
	cursor_get(st, w->tokens, cells(w) * sizeof(*w->tokens));
	cursor_get(st, w->effects, cells(w) * sizeof(*w->effects));
	cursor_get(st, w->logit_effects, cells(w) * sizeof(*w->logit_effects));
	while (w->done < w->n && w->order[w->done].token < next)
		w->done++;
}
