/* The tokens of a text in a terminal: shaded by a feature, or with the strongest features of each. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "features.h"

/* From grey to orange at about one lightness, so that stronger reads as stronger on light and on dark. */
static const int ramp[] = { 252, 187, 222, 221, 214, 208 };

/* share: of the maximum */
static void colour_begin(struct buf *b, double share)
{
	const double step = ceil(share * (double)ARRAY_LEN(ramp)) - 1;
	const size_t i = step <= 0 ? 0 : step >= (double)ARRAY_LEN(ramp) ? ARRAY_LEN(ramp) - 1 : (size_t)step;

	buf_printf(b, "\033[48;5;%d;38;5;16m", ramp[i]);
}

static void colour_end(struct buf *b)
{
	buf_printf(b, "\033[0m");
}

static void flush(const struct printer *p, struct buf *b)
{
	out_write(p->out, b->p, b->n);
	buf_clear(b);
}

static void add_label(const struct printer *p, struct buf *b, size_t feature)
{
	uint16_t ids[LABEL_TOKENS];

	labels_tokens(p->labels, feature, ids);
	for (size_t i = 0; i < LABEL_TOKENS && ids[i] != TOP_NO_TOKEN; i++) {
		size_t at[2];

		if (ids[i] >= BPE_TOKENS)
			continue;
		if (i)
			buf_add(b, " ", 1);
		text_tokens(b, at, &ids[i], 1, TEXT_ALONE);
	}
}

static float largest(const struct reading *x)
{
	float most = 0;

	for (size_t i = 0; i < x->start[x->n]; i++)
		most = x->at[i].f > most ? x->at[i].f : most;
	return most;
}

static void head(const struct printer *p, struct buf *b)
{
	if (p->texts > 1)
		buf_printf(b, "%stext %zu of %zu\n", p->done ? "\n" : "", p->done + 1, p->texts);
}

static void tail(const struct printer *p, const struct reading *x, struct buf *b)
{
	if (x->n > p->block)
		buf_printf(b, "%zu tokens, read %zu at a time, each time without those before\n", x->n, p->block);
	flush(p, b);
	buf_free(b);
}

/* ---- shaded by one feature ---- */

/* A token of running text: colour ends before a line does, the number stands before that. */
static void add_shaded(const struct printer *p, struct buf *b, const char *s, size_t bytes, float f, double share)
{
	const char *const newline = memchr(s, '\n', bytes);
	const size_t first = newline ? (size_t)(newline - s) : bytes;

	if (p->colour && f > 0)
		colour_begin(b, share);
	buf_add(b, s, first);
	if (p->colour && f > 0)
		colour_end(b);
	else if (f > 0)
		buf_printf(b, "{%.3g}", (double)f);
	if (!newline)
		return;
	buf_add(b, "\n", 1);
	if (p->colour)  /* what else the token has of lines */
		add_shaded(p, b, newline + 1, bytes - first - 1, first + 1 < bytes ? f : 0, share);
	else
		buf_add(b, newline + 1, bytes - first - 1);
}

static void add_verdict(const struct printer *p, const struct reading *x, float most, struct buf *b)
{
	const size_t k = (size_t)p->feature;
	const float max = p->labels ? labels_max(p->labels, k) : 0;

	buf_printf(b, "feature %zu: active on %zu of %zu tokens", k, x->start[x->n], x->n);
	if (most > 0)
		buf_printf(b, ", at most %.4g", (double)most);
	if (most > 0 && max > 0)
		buf_printf(b, ", %.3g %% of its maximum", 100 * (double)most / (double)max);
	if (max > 0) {
		buf_printf(b, " (elsewhere up to %.4g, on ", (double)max);
		add_label(p, b, k);
		buf_add(b, ")", 1);
	}
	buf_add(b, "\n", 1);
}

void show_text(const struct printer *p, const struct reading *x)
{
	const float most = largest(x), max = p->labels ? labels_max(p->labels, (size_t)p->feature) : 0;
	const double scale = max > most ? (double)max : (double)most;
	size_t *at = xcalloc(x->n + 1, sizeof(*at));
	struct buf text = { 0 }, b = { 0 };

	head(p, &b);
	text_tokens(&text, at, x->ids, x->n, TEXT_RUNNING);
	for (size_t t = 0; t < x->n; t++) {
		const float f = x->start[t] < x->start[t + 1] ? x->at[x->start[t]].f : 0;

		add_shaded(p, &b, text.p + at[t], at[t + 1] - at[t], f, scale > 0 ? (double)f / scale : 0);
	}
	if (b.n && b.p[b.n - 1] != '\n')
		buf_add(&b, "\n", 1);
	add_verdict(p, x, most, &b);
	tail(p, x, &b);
	buf_free(&text);
	free(at);
}

/* ---- a table ---- */

enum { TOKEN_COLUMNS = 16 };

static void pad(struct buf *b, size_t columns, size_t want)
{
	buf_printf(b, "%*s", columns < want ? (int)(want - columns) : 0, "");
}

static void add_firing(const struct printer *p, struct buf *b, const struct firing *e, double scale)
{
	const double max = p->labels ? (double)labels_max(p->labels, e->feature) : 0;

	buf_printf(b, "  %7u  ", e->feature);
	if (p->colour)
		colour_begin(b, (double)e->f / (max > 0 ? max : scale));
	buf_printf(b, "%10.4g", (double)e->f);
	if (p->colour)
		colour_end(b);
	if (p->labels && max > 0) {
		buf_printf(b, "  %5.1f %%  ", 100 * (double)e->f / max);
		add_label(p, b, e->feature);
	}
	buf_add(b, "\n", 1);
}

static void add_row(const struct printer *p, const struct reading *x, size_t t, const char *s, size_t bytes, double scale,
		    struct buf *b)
{
	buf_printf(b, "%5zu  ", t);
	buf_add(b, s, bytes);
	pad(b, text_columns(s, bytes), TOKEN_COLUMNS);
	for (size_t i = x->start[t]; i < x->start[t + 1]; i++) {
		if (i > x->start[t])
			pad(b, 0, 7 + TOKEN_COLUMNS);
		add_firing(p, b, &x->at[i], scale);
	}
	if (x->start[t] == x->start[t + 1])
		buf_printf(b, "        –\n");
}

void show_table(const struct printer *p, const struct reading *x)
{
	const double scale = (double)largest(x);
	size_t *at = xcalloc(x->n + 1, sizeof(*at));
	struct buf text = { 0 }, b = { 0 };

	head(p, &b);
	buf_printf(&b, "%5s  %-16s  %7s  %10s%s\n", "", "token", "feature", "activation",
		   p->labels ? "   of max  strongest on" : "");
	text_tokens(&text, at, x->ids, x->n, TEXT_ALONE);
	for (size_t t = 0; t < x->n; t++) {
		add_row(p, x, t, text.p + at[t], at[t + 1] - at[t], scale, &b);
		if (b.n > 1 << 16)
			flush(p, &b);
	}
	tail(p, x, &b);
	buf_free(&text);
	free(at);
}
