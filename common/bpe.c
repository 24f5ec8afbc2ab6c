#include "bpe.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "utf8.h"

/*
 * A piece goes from its bytes to its tokens through three doors: the cache of
 * short pieces (nearly all of a text), a scan over all pairs (pieces of a few
 * bytes), a heap of pairs (anything: n log n in the length of the piece).
 */

enum {
	BYTES = 256,
	PAIR_SLOTS = 1 << 17,   /* 50,000 merges: under half full */
	NO_MERGE = UINT16_MAX,
	SHORT = 15,             /* longest cached piece in bytes … */
	SHORT_IDS = 7,          /* … and in tokens */
	CACHE_SETS = 1 << 15,   /* of two ways: 2 MiB a thread */
	SCAN = 48,              /* below it comparing all pairs beats a heap */
	PAD = 16                /* bytes behind the text that may be read */
};

extern const char vocab_tiktoken[], vocab_tiktoken_end[], vocab_classes[], vocab_classes_end[];

/* What the pattern tells apart.  The first four are classes of code points, the rest of bytes. */
enum { OTHER, LETTER, NUMBER, SPACE, MULTI, END };
enum { CODE_POINTS = 0x110000, REPLACEMENT = 0xFFFD };

struct pair {
	uint32_t key;           /* left id · 2^16 + right id */
	uint16_t id, used;
};

struct bpe {
	char *bytes;            /* of all tokens, one after another */
	uint32_t at[BPE_TOKENS + 1];
	uint16_t byte_id[BYTES];
	uint8_t byte_class[BYTES];
	uint8_t *class;         /* of every code point */
	struct pair *pair;
};

/* Two ways of one set lie side by side: one cache line.  Bytes are zero-padded, the last holds
 * the length, so that no two pieces share a key and none is all zero. */
struct cached {
	uint64_t key[2];
	uint16_t ids[SHORT_IDS], n;
};

/* A piece under merging: a list of symbols, and the pairs that may merge, lowest rank first. */
struct links {
	uint32_t *prev, *next;
	uint16_t *id;
	uint64_t *heap;         /* rank · 2^32 + position of the left symbol */
	size_t n, cap, n_heap;
};

struct bpe_scratch {
	const struct bpe *v;
	struct cached *cache;
	struct buf text;
	struct links l;
};

/* ---- the vocabulary ---- */

static uint32_t pair_slot(uint32_t key)
{
	return (key * 2654435769u) >> (32 - 17);
}

/* The token that left and right merge into, which is also the merge's rank, or NO_MERGE. */
static uint16_t pair_find(const struct bpe *v, uint16_t left, uint16_t right)
{
	const uint32_t key = (uint32_t)left << 16 | right;

	for (uint32_t i = pair_slot(key);; i = (i + 1) % PAIR_SLOTS) {
		if (!v->pair[i].used)
			return NO_MERGE;
		if (v->pair[i].key == key)
			return v->pair[i].id;
	}
}

static void pair_add(struct bpe *v, uint16_t left, uint16_t right, uint16_t id)
{
	const uint32_t key = (uint32_t)left << 16 | right;
	uint32_t i = pair_slot(key);

	while (v->pair[i].used)
		i = (i + 1) % PAIR_SLOTS;
	v->pair[i] = (struct pair){ key, id, 1 };
}

static const char *decode_base64(const char *s, struct buf *out)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	unsigned bits = 0, n = 0;

	for (; *s != ' ' && *s != '='; s++) {
		const char *d = strchr(digits, *s);

		if (!*s || !d)
			BUG("the vocabulary has no base64 at %zu", (size_t)(s - vocab_tiktoken));
		bits = bits << 6 | (unsigned)(d - digits);
		n += 6;
		if (n >= 8) {
			n -= 8;
			buf_add(out, &(char){ (char)(bits >> n) }, 1);
		}
	}
	return s + strspn(s, "=");
}

static size_t merge_scan(const struct bpe *v, uint16_t *id, size_t n);

/* Tokens in order of rank; the merge that makes one is what the merges before it leave of its bytes. */
static void load_tokens(struct bpe *v)
{
	const char *s = vocab_tiktoken;
	struct buf bytes = { 0 };
	uint16_t id[256];

	for (unsigned t = 0; t < BPE_EOT; t++) {
		char *end;

		v->at[t] = (uint32_t)bytes.n;
		s = decode_base64(s, &bytes);
		if (strtoul(s, &end, 10) != t || *end != '\n')
			BUG("the vocabulary is not in order at %u", t);
		s = end + 1;

		const unsigned char *p = (unsigned char *)bytes.p + v->at[t];
		const size_t n = bytes.n - v->at[t];

		if (n == 1) {
			v->byte_id[p[0]] = (uint16_t)t;
			continue;
		}
		for (size_t i = 0; i < n; i++)
			id[i] = v->byte_id[p[i]];
		if (merge_scan(v, id, n) != 2)
			BUG("token %u is not one merge", t);
		pair_add(v, id[0], id[1], (uint16_t)t);
	}
	if (s != vocab_tiktoken_end)
		BUG("the vocabulary has more than %d tokens", BPE_EOT);
	v->at[BPE_EOT] = (uint32_t)bytes.n;
	buf_add(&bytes, "<|endoftext|>", 13);
	v->at[BPE_TOKENS] = (uint32_t)bytes.n;
	v->bytes = bytes.p;
}

/* Lines "class first last version"; the rows of version 16.0 are those of the published tokenizers. */
static void load_classes(struct bpe *v)
{
	v->class = xcalloc(CODE_POINTS, 1);
	for (const char *s = vocab_classes; s < vocab_classes_end; s = strchr(s, '\n') + 1) {
		char class, version[16];
		unsigned first, last;

		if (*s == '#')
			continue;
		if (sscanf(s, "%c %x %x %15s", &class, &first, &last, version) != 4 || last >= CODE_POINTS)
			BUG("classes: no row at %zu", (size_t)(s - vocab_classes));
		if (!strcmp(version, "16.0"))
			memset(v->class + first, class == 'L' ? LETTER : class == 'N' ? NUMBER : SPACE,
			       last - first + 1);
	}
	for (unsigned b = 0; b < BYTES; b++)
		v->byte_class[b] = b < 0x80 ? v->class[b] : b < 0xFF ? MULTI : END;
}

static struct bpe *gpt2;

static void load(void)
{
	struct bpe *v = xcalloc(1, sizeof(*v));

	v->pair = xcalloc(PAIR_SLOTS, sizeof(*v->pair));
	load_tokens(v);
	load_classes(v);
	gpt2 = v;
}

const struct bpe *bpe_gpt2(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, load);
	return gpt2;
}

const char *bpe_token(const struct bpe *v, unsigned id, size_t *bytes)
{
	if (id >= BPE_TOKENS)
		return NULL;
	*bytes = v->at[id + 1] - v->at[id];
	return v->bytes + v->at[id];
}

struct bpe_scratch *bpe_scratch(const struct bpe *v)
{
	struct bpe_scratch *s = xcalloc(1, sizeof(*s));

	s->v = v;
	s->cache = xaligned(2 * CACHE_SETS * sizeof(*s->cache));
	return s;
}

void bpe_scratch_free(struct bpe_scratch *s)
{
	free(s->cache);
	buf_free(&s->text);
	free(s->l.prev);
	free(s->l.next);
	free(s->l.id);
	free(s->l.heap);
	free(s);
}

/* ---- merging: the leftmost pair of lowest rank first, until none is left ---- */

/* n symbols in place, n below 256; how many are left. */
static size_t merge_scan(const struct bpe *v, uint16_t *id, size_t n)
{
	uint16_t rank[256];

	for (size_t i = 0; i + 1 < n; i++)
		rank[i] = pair_find(v, id[i], id[i + 1]);
	while (n > 1) {
		size_t best = 0;

		for (size_t i = 1; i + 1 < n; i++)
			if (rank[i] < rank[best])
				best = i;
		if (rank[best] == NO_MERGE)
			break;
		id[best] = rank[best];
		n--;
		memmove(id + best + 1, id + best + 2, (n - best - 1) * sizeof(*id));
		memmove(rank + best, rank + best + 1, (n - best - 1) * sizeof(*rank));
		if (best + 1 < n)
			rank[best] = pair_find(v, id[best], id[best + 1]);
		if (best > 0)
			rank[best - 1] = pair_find(v, id[best - 1], id[best]);
	}
	return n;
}

static void heap_up(uint64_t *h, size_t i)
{
	const uint64_t x = h[i];

	for (; i > 0 && x < h[(i - 1) / 2]; i = (i - 1) / 2)
		h[i] = h[(i - 1) / 2];
	h[i] = x;
}

static void heap_down(uint64_t *h, size_t n)
{
	const uint64_t x = h[0];
	size_t i = 0, child;

	for (; (child = 2 * i + 1) < n; i = child) {
		if (child + 1 < n && h[child + 1] < h[child])
			child++;
		if (x <= h[child])
			break;
		h[i] = h[child];
	}
	h[i] = x;
}

static void links_reserve(struct links *l, size_t n)
{
	if (n <= l->cap)
		return;
	if (n > UINT32_MAX)
		die("a word of %zu bytes is too long", n);
	l->cap = n + n / 2;
	l->prev = xrealloc(l->prev, l->cap, sizeof(*l->prev));
	l->next = xrealloc(l->next, l->cap, sizeof(*l->next));
	l->id = xrealloc(l->id, l->cap, sizeof(*l->id));
	/* n - 1 pairs, and a merge takes one out before it puts two in */
	l->heap = xrealloc(l->heap, xmul(l->cap, 2), sizeof(*l->heap));
}

/* The pair that begins at position i, if it merges. */
static void links_push(const struct bpe *v, struct links *l, uint32_t i)
{
	const uint32_t next = l->next[i];
	const uint16_t rank = next < l->n ? pair_find(v, l->id[i], l->id[next]) : NO_MERGE;

	if (rank == NO_MERGE)
		return;
	l->heap[l->n_heap] = (uint64_t)rank << 32 | i;
	heap_up(l->heap, l->n_heap++);
}

static void merge_heap(const struct bpe *v, struct links *l, const unsigned char *p, size_t n)
{
	links_reserve(l, n);
	l->n = n;
	l->n_heap = 0;
	for (uint32_t i = 0; i < n; i++) {
		l->id[i] = v->byte_id[p[i]];
		l->prev[i] = i - 1;
		l->next[i] = i + 1;
	}
	for (uint32_t i = 0; i < n; i++)
		links_push(v, l, i);
	while (l->n_heap > 0) {
		const uint32_t i = (uint32_t)l->heap[0], right = l->next[i];
		const uint16_t rank = (uint16_t)(l->heap[0] >> 32);

		l->heap[0] = l->heap[--l->n_heap];
		heap_down(l->heap, l->n_heap);
		/* entries whose pair is gone are left in the heap and fail here */
		if (l->id[i] == NO_MERGE || right >= n || pair_find(v, l->id[i], l->id[right]) != rank)
			continue;
		l->id[i] = rank;
		l->id[right] = NO_MERGE;
		l->next[i] = l->next[right];
		if (l->next[i] < n)
			l->prev[l->next[i]] = i;
		links_push(v, l, i);
		if (i > 0)
			links_push(v, l, l->prev[i]);
	}
}

/* The piece's tokens to ids, which has room for one a byte; their number. */
static size_t merge(struct bpe_scratch *s, const unsigned char *p, size_t n, uint16_t *ids)
{
	size_t m = 0;

	if (n < SCAN) {
		for (size_t i = 0; i < n; i++)
			ids[i] = s->v->byte_id[p[i]];
		return merge_scan(s->v, ids, n);
	}
	merge_heap(s->v, &s->l, p, n);
	for (size_t i = 0; i < n; i = s->l.next[i])
		ids[m++] = s->l.id[i];
	return m;
}

/* ---- pieces ---- */

/* Same for short pieces, of which PAD bytes can be read.  Writes SHORT_IDS + 1 ids whatever their number. */
static size_t encode_short(struct bpe_scratch *s, const unsigned char *p, size_t n, uint16_t *ids)
{
	uint64_t key[2];
	struct cached *set;

	memcpy(key, p, sizeof(key));
	if (n < 8) {
		key[0] &= ((uint64_t)1 << 8 * n) - 1;
		key[1] = 0;
	} else {
		key[1] &= ((uint64_t)1 << 8 * (n - 8)) - 1;
	}
	key[1] |= (uint64_t)n << 56;
	set = s->cache + 2 * (((key[0] ^ key[1] * 0x9E3779B97F4A7C15) * 0xD6E8FEB86659FD93) >> (64 - 15));
	for (size_t way = 0; way < 2; way++)
		if (set[way].key[0] == key[0] && set[way].key[1] == key[1]) {
			memcpy(ids, set[way].ids, sizeof(set->ids) + sizeof(set->n));
			return set[way].n;
		}

	const size_t m = merge(s, p, n, ids);

	if (m <= SHORT_IDS) {
		set[1] = set[0];
		memcpy(set->key, key, sizeof(key));
		memcpy(set->ids, ids, m * sizeof(*ids));
		set->n = (uint16_t)m;
	}
	return m;
}

/* Class of the character at p (valid UTF-8, END behind it) and its length. */
static unsigned class_at(const struct bpe *v, const unsigned char *p, size_t *bytes)
{
	const unsigned class = v->byte_class[p[0]];

	*bytes = 1;
	if (class != MULTI)
		return class;
	if (p[0] < 0xE0) {
		*bytes = 2;
		return v->class[(p[0] & 0x1Fu) << 6 | (p[1] & 0x3Fu)];
	}
	if (p[0] < 0xF0) {
		*bytes = 3;
		return v->class[(p[0] & 0x0Fu) << 12 | (p[1] & 0x3Fu) << 6 | (p[2] & 0x3Fu)];
	}
	*bytes = 4;
	return v->class[(p[0] & 0x07u) << 18 | (p[1] & 0x3Fu) << 12 | (p[2] & 0x3Fu) << 6 | (p[3] & 0x3Fu)];
}

/* Behind the run of characters of this class. */
static const unsigned char *run_end(const struct bpe *v, const unsigned char *p, unsigned class)
{
	size_t bytes;

	for (;;) {
		while (v->byte_class[*p] == class)
			p++;
		if (v->byte_class[*p] != MULTI || class_at(v, p, &bytes) != class)
			return p;
		p += bytes;
	}
}

/* 's 't 're 've 'm 'll 'd: length at p, or 0. */
static size_t contraction(const unsigned char *p)
{
	switch (p[1]) {
	case 's': case 't': case 'm': case 'd':
		return 2;
	case 'r': case 'v':
		return p[2] == 'e' ? 3 : 0;
	case 'l':
		return p[2] == 'l' ? 3 : 0;
	}
	return 0;
}

/* White space: all of it at the end of the text, else all but its last character, if there are several. */
static const unsigned char *space_end(const struct bpe *v, const unsigned char *p)
{
	const unsigned char *end = run_end(v, p, SPACE), *last = end - 1;

	if (v->byte_class[*end] == END)
		return end;
	while ((*last & 0xC0) == 0x80)
		last--;
	return last > p ? last : end;
}

/* Behind the piece that begins at p:
 * 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
static const unsigned char *piece_end(const struct bpe *v, const unsigned char *p)
{
	const unsigned char *run = p + (*p == ' ');
	size_t bytes;
	const unsigned class = class_at(v, run, &bytes);

	if (class == SPACE || class == END)
		return space_end(v, p);
	if (*p == '\'' && (bytes = contraction(p)) > 0)
		return p + bytes;
	return run_end(v, run + bytes, class);
}

/* ---- text ---- */

/* A copy of the text that is valid UTF-8, END behind it. */
static const unsigned char *clean_copy(struct buf *to, const char *text, size_t bytes)
{
	const unsigned char *p = (const unsigned char *)text, *end = p + bytes, *from = p;
	char pad[PAD];

	buf_clear(to);
	while (p < end) {
		uint64_t eight;

		if (end - p >= 8 && (memcpy(&eight, p, 8), !(eight & 0x8080808080808080))) {
			p += 8;
			continue;
		}
		const int n = utf8_length(p, end);

		if (n > 0) {
			p += n;
			continue;
		}
		buf_add(to, from, (size_t)(p - from));
		buf_add(to, "\xEF\xBF\xBD", 3);
		p -= n;
		from = p;
	}
	buf_add(to, from, (size_t)(p - from));
	buf_add(to, memset(pad, 0xFF, sizeof(pad)), sizeof(pad));
	return (const unsigned char *)to->p;
}

void bpe_encode(struct bpe_scratch *s, const char *text, size_t bytes, struct ids *ids)
{
	const unsigned char *p = clean_copy(&s->text, text, bytes), *end = p + s->text.n - PAD;
	const size_t room = ids->n + (size_t)(end - p) + SHORT_IDS + 1;

	if (room > ids->cap) {
		ids->cap = room + room / 2;
		ids->v = xrealloc(ids->v, ids->cap, sizeof(*ids->v));
	}
	while (p < end) {
		const unsigned char *next = piece_end(s->v, p);
		const size_t n = (size_t)(next - p);
		uint16_t *to = ids->v + ids->n;

		ids->n += n <= SHORT ? encode_short(s, p, n, to) : merge(s, p, n, to);
		p = next;
	}
}
