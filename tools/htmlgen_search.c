/* The index for the search: gathered by groups of features, set aside by ranges of terms, written by range. */
#include "htmlgen_search.h"

#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "bpe.h"
#include "lex.h"
#include "pool.h"

/* Features of one table of terms; ranges of terms at most; bytes at which a chunk is full. */
enum { GROUP = 64, RANGES = 64, FULL = 32 << 10 };
enum { TOKEN_BYTES = 256 };     /* of tokens that may be one word */
_Static_assert(SITE_BATCH % GROUP == 0, "groups must tile batches");
#define NONE UINT32_MAX

/* What is known of a token by itself. */
struct token {
	bool begins, ends;      /* with a character of a word, or what may be part of one */
	bool blank;             /* no word in it */
	bool symbols;
	bool one;               /* exactly one word, not of pairs */
	uint16_t to;            /* where its last word ends */
};

/* A term of a group, and its sum over the examples of the feature at hand. */
struct term {
	uint64_t hash;
	uint32_t text, bytes;   /* place in the group's text */
	uint32_t feature, example;
	uint32_t features;      /* that know it */
	double sum, most;       /* over the examples; in this example */
};

struct group {
	struct buf text;
	struct term *term;
	size_t terms, cap;
	uint32_t *slot;         /* (slots) numbers of terms by hash */
	size_t slots;
	uint32_t *touched;      /* terms of the feature at hand */
	size_t n_touched, touched_cap;
	uint64_t *posting;      /* term << 32 | feature of the group << 4 | level */
	size_t postings, postings_cap;
	struct buf out;         /* by ranges, then terms: bytes, text, how many, postings */
	size_t at[RANGES + 1];  /* where each range begins in it */
};

struct scratch {                /* of a thread */
	uint32_t *term;         /* (BPE_TOKENS) of a token that is one word, in this group */
	unsigned char *text;
	uint16_t *owner;
	size_t bytes, cap;
};

struct search {
	struct site *site;
	struct top_shape shape;
	struct token *token;    /* (BPE_TOKENS) */
	struct scratch *scratch;
	struct group group[SITE_BATCH / GROUP];
	const struct batch *batch;
	size_t ranges;
	char *bound[RANGES];    /* first terms of ranges 1…, NUL-terminated */
	int fd;                 /* the groups' outputs, one after the other */
	uint64_t bytes;
	struct buf index;       /* (ranges + 1) places in it, of each group */
	struct piece *piece;    /* what search_write made of each range */
};

/* ---- tokens by themselves ---- */
static void see_word(void *arg, const struct lex_term *t)
{
	struct token *k = arg;

	if (t->symbol) {
		k->symbols = true;
		return;
	}
	k->one = k->blank;
	k->blank = false;
	k->to = (uint16_t)t->to;
}

/* Whether the bytes are UTF-8, none of them a pair's. */
static bool plain(const struct lex *v, const unsigned char *p, size_t bytes)
{
	for (size_t i = 0, n; i < bytes; i += n) {
		const enum lex_kind kind = lex_at(v, p + i, p + bytes, &n);

		if (kind == LEX_BROKEN || kind == LEX_PAIR)
			return false;
	}
	return true;
}

static struct token *tokens_new(void)
{
	const struct lex *v = lex_tables();
	struct token *token = xcalloc(BPE_TOKENS, sizeof(*token));
	static const uint16_t owner[TOKEN_BYTES];

	for (unsigned id = 0; id < BPE_TOKENS; id++) {
		struct token *k = &token[id];
		size_t bytes, n;
		const unsigned char *p = (const unsigned char *)bpe_token(bpe_gpt2(), id, &bytes);

		k->begins = k->ends = true;
		if (bytes > TOKEN_BYTES || !plain(v, p, bytes))
			continue;
		k->blank = true;
		lex_scan(v, p, bytes, owner, see_word, k);
		k->begins = lex_at(v, p, p + bytes, &n) == LEX_LETTER;
		k->ends = !k->blank && k->to == bytes;
	}
	return token;
}

/* ---- a group's table of terms ---- */
static void grow(struct group *g)
{
	g->slots = g->slots ? 2 * g->slots : 1 << 12;
	g->slot = xrealloc(g->slot, g->slots, sizeof(*g->slot));
	memset(g->slot, 0xFF, g->slots * sizeof(*g->slot));
	for (size_t i = 0; i < g->terms; i++) {
		size_t at = g->term[i].hash & (g->slots - 1);

		while (g->slot[at] != NONE)
			at = (at + 1) & (g->slots - 1);
		g->slot[at] = (uint32_t)i;
	}
}

static uint32_t intern(struct group *g, const char *text, size_t bytes)
{
	const uint64_t hash = XXH3_64bits(text, bytes);

	if (2 * (g->terms + 1) > g->slots)
		grow(g);
	size_t at = hash & (g->slots - 1);

	for (; g->slot[at] != NONE; at = (at + 1) & (g->slots - 1)) {
		const struct term *t = &g->term[g->slot[at]];

		if (t->hash == hash && t->bytes == bytes && !memcmp(g->text.p + t->text, text, bytes))
			return g->slot[at];
	}
	if (g->terms == g->cap) {
		g->cap = g->cap ? 2 * g->cap : 1 << 11;
		g->term = xrealloc(g->term, g->cap, sizeof(*g->term));
	}
	g->term[g->terms] = (struct term){ .hash = hash, .text = (uint32_t)g->text.n, .bytes = (uint32_t)bytes,
		.feature = NONE };
	buf_add(&g->text, text, bytes);
	g->slot[at] = (uint32_t)g->terms;
	return (uint32_t)g->terms++;
}

static void reserve_postings(struct group *g, size_t more)
{
	if (g->postings + more <= g->postings_cap)
		return;
	g->postings_cap = 2 * (g->postings + more);
	g->posting = xrealloc(g->posting, g->postings_cap, sizeof(*g->posting));
}

static void group_free(struct group *g)
{
	buf_free(&g->text);
	buf_free(&g->out);
	free(g->term);
	free(g->slot);
	free(g->touched);
	free(g->posting);
}

/* ---- windows ---- */
struct window {
	struct search *s;
	struct group *g;
	struct scratch *own;
	const uint16_t *tokens;
	const float *acts;
	uint32_t feature, example;      /* of the group; of the feature */
	size_t width;
};

static void count(const struct window *w, uint32_t i, double act)
{
	struct group *g = w->g;
	struct term *t = &g->term[i];

	if (t->feature != w->feature) {
		t->feature = w->feature;
		t->example = NONE;
		t->sum = 0;
		t->features++;
		if (g->n_touched == g->touched_cap) {
			g->touched_cap = g->touched_cap ? 2 * g->touched_cap : 1 << 10;
			g->touched = xrealloc(g->touched, g->touched_cap, sizeof(*g->touched));
		}
		g->touched[g->n_touched++] = i;
	}
	if (t->example != w->example) {
		t->example = w->example;
		t->most = 0;
	}
	if (act > t->most) {
		t->sum += act - t->most;
		t->most = act;
	}
}

static void found(void *arg, const struct lex_term *t)
{
	const struct window *w = arg;
	double act = 0;

	for (size_t at = w->own->owner[t->from]; at <= w->own->owner[t->to - 1]; at++)
		act = fmax(act, (double)w->acts[at]);
	if (!t->symbol || act > 0)
		count(w, intern(w->g, t->text, t->bytes), act);
}

static void scan_gathered(struct window *w)
{
	if (w->own->bytes > 0)
		lex_scan(lex_tables(), w->own->text, w->own->bytes, w->own->owner, found, w);
	w->own->bytes = 0;
}

static void gather(struct scratch *own, const char *p, size_t bytes, size_t place)
{
	if (own->bytes + bytes > own->cap) {
		own->cap = 2 * (own->bytes + bytes);
		own->text = xrealloc(own->text, own->cap, 1);
		own->owner = xrealloc(own->owner, own->cap, sizeof(*own->owner));
	}
	memcpy(own->text + own->bytes, p, bytes);
	for (size_t i = 0; i < bytes; i++)
		own->owner[own->bytes + i] = (uint16_t)place;
	own->bytes += bytes;
}

static void keep_word(void *arg, const struct lex_term *t)
{
	if (!t->symbol)
		*(struct lex_term *)arg = *t;
}

/* The term of a token that is one word. */
static uint32_t own_term(const struct window *w, unsigned id)
{
	static const uint16_t owner[TOKEN_BYTES];
	uint32_t *term = &w->own->term[id];

	if (*term == NONE) {
		size_t bytes;
		const char *p = bpe_token(bpe_gpt2(), id, &bytes);
		struct lex_term t;

		lex_scan(lex_tables(), (const unsigned char *)p, bytes, owner, keep_word, &t);
		*term = intern(w->g, t.text, t.bytes);
	}
	return *term;
}

static const struct token *token_at(const struct window *w, size_t i)
{
	static const struct token gap = { .blank = true };

	return i < w->width && w->tokens[i] < BPE_EOT ? &w->s->token[w->tokens[i]] : &gap;
}

/*
 * Most tokens are a word each, between tokens that do not go on with it, or
 * have none: these need no look at their bytes.  What stands between them is
 * gathered and scanned.
 */
static void scan_window(struct window *w)
{
	const struct token *before = token_at(w, w->width), *k = token_at(w, 0);

	for (size_t i = 0; i < w->width; i++) {
		const struct token *after = token_at(w, i + 1);
		const bool alone = !(k->begins && before->ends) && !(k->ends && after->begins);
		const bool silent = !k->symbols || w->acts[i] == 0;

		if (silent && k->blank) {
			scan_gathered(w);
		} else if (silent && k->one && alone) {
			scan_gathered(w);
			count(w, own_term(w, w->tokens[i]), (double)w->acts[i]);
		} else {
			size_t bytes;
			const char *p = bpe_token(bpe_gpt2(), w->tokens[i], &bytes);

			gather(w->own, p, bytes, i);
		}
		before = k;
		k = after;
	}
	scan_gathered(w);
}

/* ---- features ---- */
static unsigned level_of(double sum, double centres, double max)
{
	return sum > 0 ? 1 + (unsigned)fmin(14, floor(15 * sqrt(sum / (centres + 2 * max)))) : 0;
}

static void end_feature(struct group *g, uint32_t feature, double centres, double max)
{
	reserve_postings(g, g->n_touched);
	for (size_t i = 0; i < g->n_touched; i++) {
		const uint64_t term = g->touched[i];

		g->posting[g->postings++] = term << 32 | feature << 4 | level_of(g->term[term].sum, centres, max);
	}
	g->n_touched = 0;
}

static void gather_feature(struct window *w, const struct batch *b, size_t f)
{
	const struct top_shape *s = &w->s->shape;
	const size_t E = top_examples(s), cells = f * top_cells(s);
	double centres = 0;

	for (size_t e = 0; e < E; e++) {
		const struct top_window win = top_window(s, e);

		if (U32(b, CENTRE)[f * E + e] == TOP_NO_EXAMPLE)
			continue;
		w->example = (uint32_t)e;
		w->tokens = U16(b, TOKENS) + cells + win.at;
		w->acts = F32(b, ACTS) + cells + win.at;
		w->width = win.width;
		centres += (double)w->acts[win.width / 2];
		scan_window(w);
	}
	end_feature(w->g, w->feature, centres, (double)F32(b, MAX)[f]);
}

static void gather_group(void *arg, size_t number)
{
	struct search *s = arg;
	const size_t from = number * GROUP, left = s->batch->n - from, n = left < GROUP ? left : GROUP;
	struct group *g = &s->group[number];
	struct window w = { .s = s, .g = g, .own = &s->scratch[pool_self()] };

	buf_clear(&g->text);
	g->terms = g->postings = 0;
	if (g->slots)
		memset(g->slot, 0xFF, g->slots * sizeof(*g->slot));
	memset(w.own->term, 0xFF, BPE_TOKENS * sizeof(*w.own->term));
	for (; w.feature < n; w.feature++)
		gather_feature(&w, s->batch, from + w.feature);
}

/* ---- setting aside ---- */
static void add_number(struct buf *b, uint64_t x)
{
	for (; x >= 0x80; x >>= 7)
		buf_add(b, (const char[]){ (char)(0x80 | (x & 0x7F)) }, 1);
	buf_add(b, (const char[]){ (char)x }, 1);
}

static uint64_t number_at(const unsigned char **p)
{
	uint64_t x = 0;

	for (unsigned shift = 0;; shift += 7) {
		const unsigned char c = *(*p)++;

		x |= (uint64_t)(c & 0x7F) << shift;
		if (c < 0x80)
			return x;
	}
}

static int compare(const char *a, size_t a_bytes, const char *b, size_t b_bytes)
{
	const int way = memcmp(a, b, a_bytes < b_bytes ? a_bytes : b_bytes);

	return way ? way : (a_bytes > b_bytes) - (a_bytes < b_bytes);
}

static int by_text(const void *a, const void *b, void *arg)
{
	const struct group *g = arg;
	const struct term *s = &g->term[*(const uint32_t *)a], *t = &g->term[*(const uint32_t *)b];

	return compare(g->text.p + s->text, s->bytes, g->text.p + t->text, t->bytes);
}

/* Numbers of the terms in the order of their bytes; caller frees. */
static uint32_t *sorted(struct group *g)
{
	uint32_t *order = xcalloc(g->terms + 1, sizeof(*order));

	for (size_t i = 0; i < g->terms; i++)
		order[i] = (uint32_t)i;
	qsort_r(order, g->terms, sizeof(*order), by_text, g);
	return order;
}

/* The first batch tells which terms bound ranges of about equal weight. */
static void choose_bounds(struct search *s, size_t groups)
{
	struct group all = { 0 };
	uint64_t total = 0, sum = 0;

	for (size_t i = 0; i < groups; i++)
		for (size_t k = 0; k < s->group[i].terms; k++) {
			const struct term *t = &s->group[i].term[k];
			const uint32_t own = intern(&all, s->group[i].text.p + t->text, t->bytes);

			all.term[own].features += t->features;
			total += t->features;
		}
	uint32_t *order = sorted(&all);
	size_t r = 1;

	for (size_t k = 0; k < all.terms && r < s->ranges; k++) {
		const struct term *t = &all.term[order[k]];

		for (; r < s->ranges && sum * s->ranges >= total * r; r++)
			s->bound[r] = xformat("%.*s", (int)t->bytes, all.text.p + t->text);
		sum += t->features;
	}
	s->ranges = r;
	free(order);
	group_free(&all);
}

static size_t range_of(const struct search *s, const char *text, size_t bytes)
{
	size_t lo = 0, hi = s->ranges;

	while (hi - lo > 1) {
		const size_t mid = (lo + hi) / 2;

		if (compare(text, bytes, s->bound[mid], strlen(s->bound[mid])) < 0)
			hi = mid;
		else
			lo = mid;
	}
	return lo;
}

/* Numbers of the terms by range, where each range begins in at; caller frees. */
static uint32_t *by_range(const struct search *s, const struct group *g, size_t at[RANGES + 1])
{
	uint32_t *order = xcalloc(g->terms + 1, sizeof(*order));
	uint8_t *range = xcalloc(g->terms + 1, 1);
	size_t next[RANGES];

	memset(at, 0, (RANGES + 1) * sizeof(*at));
	for (size_t i = 0; i < g->terms; i++) {
		range[i] = (uint8_t)range_of(s, g->text.p + g->term[i].text, g->term[i].bytes);
		at[range[i] + 1]++;
	}
	for (size_t r = 0; r < RANGES; r++) {
		at[r + 1] += at[r];
		next[r] = at[r];
	}
	for (size_t i = 0; i < g->terms; i++)
		order[next[range[i]]++] = (uint32_t)i;
	free(range);
	return order;
}

/* Postings by term, ascending features; term i's begin at at[i]; caller frees both. */
static uint32_t *by_term(const struct group *g, size_t **at)
{
	uint32_t *out = xcalloc(g->postings + 1, sizeof(*out));
	size_t *begin = xcalloc(g->terms + 1, sizeof(*begin)), *next = xcalloc(g->terms + 1, sizeof(*next));

	for (size_t i = 0; i < g->terms; i++)
		begin[i + 1] = next[i + 1] = begin[i] + g->term[i].features;
	for (size_t i = 0; i < g->postings; i++)
		out[next[g->posting[i] >> 32]++] = (uint32_t)g->posting[i];
	free(next);
	*at = begin;
	return out;
}

static void write_group(void *arg, size_t number)
{
	struct search *s = arg;
	struct group *g = &s->group[number];
	size_t from[RANGES + 1], *at;
	uint32_t *order = by_range(s, g, from), *posting = by_term(g, &at);

	buf_clear(&g->out);
	for (size_t r = 0; r < s->ranges; r++) {
		g->at[r] = g->out.n;
		for (size_t k = from[r]; k < from[r + 1]; k++) {
			const struct term *t = &g->term[order[k]];
			uint32_t before = 0;

			add_number(&g->out, t->bytes);
			buf_add(&g->out, g->text.p + t->text, t->bytes);
			add_number(&g->out, t->features);
			for (size_t i = at[order[k]]; i < at[order[k] + 1]; i++) {
				add_number(&g->out, posting[i] - (before & ~15u));
				before = posting[i];
			}
		}
	}
	g->at[s->ranges] = g->out.n;
	free(order);
	free(posting);
	free(at);
}

void search_add(struct search *s, const struct batch *batch)
{
	const size_t groups = (batch->n + GROUP - 1) / GROUP;

	s->batch = batch;
	pool_for(groups, gather_group, s);
	if (batch->first == 0)
		choose_bounds(s, groups);
	pool_for(groups, write_group, s);
	for (size_t i = 0; i < groups; i++) {
		struct group *g = &s->group[i];

		for (size_t r = 0; r <= s->ranges; r++)
			buf_add(&s->index, &(uint64_t){ s->bytes + g->at[r] }, sizeof(uint64_t));
		write_full(s->fd, g->out.p, g->out.n, "the index of the search");
		s->bytes += g->out.n;
	}
}

/* ---- the chunks of a range ---- */
struct piece {
	uint64_t terms;
	struct buf chunks;      /* of the directory: [I,"first term"],… */
};

struct chunk {
	struct search *s;
	struct piece *piece;
	size_t number;
	struct buf terms, data;
	char before[LEX_BYTES];
	size_t before_bytes;
};

static void chunk_end(struct chunk *c)
{
	char *name = xformat("s%zu", c->number++);
	struct buf b = { 0 };

	chunk_begin(&b, name);
	buf_printf(&b, "{\"terms\":");
	js_string(&b, c->terms.p, c->terms.n);
	buf_printf(&b, ",\"data\":");
	js_base64(&b, c->data.p, c->data.n);
	buf_add(&b, "}", 1);
	chunk_write(c->s->site, name, &b);
	buf_clear(&c->terms);
	buf_clear(&c->data);
	c->before_bytes = 0;
	buf_free(&b);
	free(name);
}

static void chunk_term(struct chunk *c, const char *text, size_t bytes)
{
	size_t same = 0;

	if (c->terms.n == 0) {
		buf_printf(&c->piece->chunks, "[%zu,", c->number);
		js_string(&c->piece->chunks, text, bytes);
		buf_add(&c->piece->chunks, "],\n", 3);
	}
	while (same < bytes && same < c->before_bytes && text[same] == c->before[same])
		same++;
	buf_printf(&c->terms, "%s%c%.*s", c->terms.n ? " " : "", (int)('@' + same), (int)(bytes - same), text + same);
	memcpy(c->before, text, bytes);
	c->before_bytes = bytes;
}

/* n postings, features ascending: high levels first, as far as the cap goes. */
static void chunk_postings(struct chunk *c, const uint32_t *posting, size_t n)
{
	size_t of[SEARCH_LEVELS] = { 0 }, left = n < SEARCH_CAP ? n : SEARCH_CAP;

	add_number(&c->data, n);
	for (size_t i = 0; i < n; i++)
		of[posting[i] % SEARCH_LEVELS]++;
	for (unsigned level = SEARCH_LEVELS; level-- > 0 && left > 0;) {
		size_t take = of[level] < left ? of[level] : left;
		uint32_t before = 0;

		if (!take)
			continue;
		add_number(&c->data, level + SEARCH_LEVELS * take);
		left -= take;
		for (size_t i = 0; take > 0; i++)
			if (posting[i] % SEARCH_LEVELS == level) {
				add_number(&c->data, posting[i] / SEARCH_LEVELS - before);
				before = posting[i] / SEARCH_LEVELS;
				take--;
			}
	}
}

/* What the groups set aside of range r, one after the other; how much of each in `bytes`. */
static unsigned char *read_range(const struct search *s, size_t r, size_t groups, size_t *bytes)
{
	const uint64_t *index = (const uint64_t *)s->index.p;
	size_t total = 0;

	for (size_t i = 0; i < groups; i++)
		total += bytes[i] = index[i * (s->ranges + 1) + r + 1] - index[i * (s->ranges + 1) + r];
	unsigned char *data = xmalloc(total + 1), *p = data;

	for (size_t i = 0; i < groups; p += bytes[i++])
		if (pread_full(s->fd, p, bytes[i], index[i * (s->ranges + 1) + r], "the index of the search") < bytes[i])
			die("the index of the search was cut short while it was made");
	return data;
}

/* The groups' terms and postings as one table. */
static void merge(const struct search *s, size_t r, struct group *all)
{
	const size_t groups = s->index.n / sizeof(uint64_t) / (s->ranges + 1);
	size_t *bytes = xcalloc(groups + 1, sizeof(*bytes));
	unsigned char *data = read_range(s, r, groups, bytes);
	const unsigned char *p = data, *end = data;

	for (size_t i = 0; i < groups; i++)
		for (end += bytes[i]; p < end;) {
			const size_t n = number_at(&p);
			const uint32_t term = intern(all, (const char *)p, n);

			p += n;
			uint64_t features = number_at(&p), x = 0;

			all->term[term].features += (uint32_t)features;
			reserve_postings(all, features);
			for (; features > 0; features--) {
				x = (x & ~(uint64_t)15) + number_at(&p);
				all->posting[all->postings++] = (uint64_t)term << 32 | (x + i * GROUP * SEARCH_LEVELS);
			}
		}
	free(bytes);
	free(data);
}

static void write_range(void *arg, size_t r)
{
	struct search *s = arg;
	struct group all = { 0 };
	struct chunk c = { .s = s, .piece = &s->piece[r], .number = r * 100000 };
	size_t *at;

	merge(s, r, &all);
	uint32_t *posting = by_term(&all, &at), *order = sorted(&all);

	for (size_t k = 0; k < all.terms; k++) {
		const struct term *t = &all.term[order[k]];

		chunk_term(&c, all.text.p + t->text, t->bytes);
		chunk_postings(&c, posting + at[order[k]], t->features);
		if (c.terms.n + c.data.n / 3 * 4 >= FULL || k + 1 == all.terms)
			chunk_end(&c);
	}
	s->piece[r].terms = all.terms;
	buf_free(&c.terms);
	buf_free(&c.data);
	free(order);
	free(posting);
	free(at);
	group_free(&all);
}

static void write_directory(struct search *s)
{
	json_t *words = lex_json();
	char *tables = json_dumps(words, JSON_COMPACT);
	struct buf b = { 0 }, chunks = { 0 };
	uint64_t terms = 0;

	for (size_t r = 0; r < s->ranges; r++) {
		terms += s->piece[r].terms;
		buf_add(&chunks, s->piece[r].chunks.p, s->piece[r].chunks.n);
	}
	chunk_begin(&b, "search");
	buf_printf(&b, "{\"terms\":%llu,\"cap\":%d,\"words\":%s,\"chunks\":[", (unsigned long long)terms, SEARCH_CAP, tables);
	buf_add(&b, chunks.p, chunks.n > 2 ? chunks.n - 2 : 0);         /* without the last comma */
	buf_add(&b, "]}", 2);
	chunk_write(s->site, "search", &b);
	buf_free(&b);
	buf_free(&chunks);
	free(tables);
	json_decref(words);
}

struct search *search_new(struct site *site, const struct top_shape *shape)
{
	struct search *s = xcalloc(1, sizeof(*s));
	char *path = xformat("%s/search.part", site->dir);

	s->site = site;
	s->shape = *shape;
	s->token = tokens_new();
	s->scratch = xcalloc(pool_threads(), sizeof(*s->scratch));
	for (size_t i = 0; i < pool_threads(); i++)
		s->scratch[i].term = xcalloc(BPE_TOKENS, sizeof(*s->scratch[i].term));
	s->ranges = shape->F / SITE_BATCH < 1 ? 1 : shape->F / SITE_BATCH < RANGES ? shape->F / SITE_BATCH : RANGES;
	s->fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	if (s->fd < 0 || unlink(path) != 0)
		die_errno("cannot make '%s'", path);
	free(path);
	return s;
}

void search_write(struct search *s)
{
	s->piece = xcalloc(s->ranges, sizeof(*s->piece));
	pool_for(s->ranges, write_range, s);
	write_directory(s);
	for (size_t r = 0; r < s->ranges; r++) {
		buf_free(&s->piece[r].chunks);
		free(s->bound[r]);
	}
	for (size_t i = 0; i < pool_threads(); i++) {
		free(s->scratch[i].term);
		free(s->scratch[i].text);
		free(s->scratch[i].owner);
	}
	for (size_t i = 0; i < ARRAY_LEN(s->group); i++)
		group_free(&s->group[i]);
	close(s->fd);
	free(s->piece);
	free(s->scratch);
	free(s->token);
	buf_free(&s->index);
	free(s);
}
