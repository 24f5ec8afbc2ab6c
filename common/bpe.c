#include "bpe.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pieces.h"
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
	SET_BITS = 16,          /* sets of the cache, of two ways: 4 MiB a thread */
	SCAN = 48,              /* below it comparing all pairs beats a heap */
	CHUNK = 1 << 16         /* text encoded at once; longer only where no blank lies between letters */
};

extern const char vocab_tiktoken[], vocab_tiktoken_end[];

struct pair {
	uint32_t key;           /* left id · 2^16 + right id */
	uint16_t id, used;
};

struct bpe {
	char *bytes;            /* of all tokens, one after another */
	uint32_t at[BPE_TOKENS + 1];
	uint16_t byte_id[BYTES];
	struct classes classes;
	struct pair *pair;      /* (PAIR_SLOTS) */
	uint16_t *byte_pair;    /* (BYTES, BYTES) what the first tokens, the single bytes, merge into */
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

	if ((left | right) < BYTES)
		return v->byte_pair[left * BYTES + right];
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
	if ((left | right) < BYTES)
		v->byte_pair[left * BYTES + right] = id;
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

static struct bpe *gpt2;

static void load(void)
{
	struct bpe *v = xcalloc(1, sizeof(*v));

	v->pair = xcalloc(PAIR_SLOTS, sizeof(*v->pair));
	v->byte_pair = xmalloc(BYTES * BYTES * sizeof(*v->byte_pair));
	memset(v->byte_pair, 0xFF, BYTES * BYTES * sizeof(*v->byte_pair));     /* NO_MERGE */
	load_tokens(v);
	v->classes = classes_load();
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
	s->cache = xaligned(((size_t)2 << SET_BITS) * sizeof(*s->cache));
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

/* Its bytes, zero-padded, and its length. */
static void short_key(const unsigned char *p, size_t n, uint64_t key[2])
{
#define FIRST(n) { (n) < 8 ? ((uint64_t)1 << (n) % 8 * 8) - 1 : ~(uint64_t)0, (n) > 8 ? ((uint64_t)1 << (n) % 8 * 8) - 1 : 0 }
	static const uint64_t mask[SHORT + 1][2] = { FIRST(0), FIRST(1), FIRST(2), FIRST(3), FIRST(4), FIRST(5),
		FIRST(6), FIRST(7), FIRST(8), FIRST(9), FIRST(10), FIRST(11), FIRST(12), FIRST(13), FIRST(14),
		FIRST(15) };

	memcpy(key, p, 2 * sizeof(*key));
	key[0] &= mask[n][0];
	key[1] = (key[1] & mask[n][1]) | (uint64_t)n << 56;
}

/* A piece on its way through the cache. */
struct lookup {
	const unsigned char *p;
	size_t bytes;
	uint64_t key[2];        /* of a short one */
	struct cached *set;
};

/* 16 bytes of p can be read.  The set is fetched while others are looked at. */
static struct lookup look_up(const struct bpe_scratch *s, const unsigned char *p, size_t bytes)
{
	struct lookup l = { p, bytes, { 0 }, s->cache };

	if (bytes <= SHORT) {
		short_key(p, bytes, l.key);
		l.set += 2 * (((l.key[0] ^ l.key[1] * 0x9E3779B97F4A7C15) * 0xD6E8FEB86659FD93) >> (64 - SET_BITS));
		__builtin_prefetch(l.set);
	}
	return l;
}

static bool holds(const struct cached *c, const uint64_t key[2])
{
	return ((c->key[0] ^ key[0]) | (c->key[1] ^ key[1])) == 0;
}

/* The piece's tokens to ids, of which SHORT_IDS + 1 are written whatever their number. */
static size_t encode_piece(struct bpe_scratch *s, const struct lookup *l, uint16_t *ids)
{
	struct cached *set = l->set;
	const struct cached *c = set + !holds(set, l->key);

	if (l->bytes > SHORT)
		return merge(s, l->p, l->bytes, ids);
	if (holds(c, l->key)) {
		memcpy(ids, c->ids, sizeof(c->ids) + sizeof(c->n));
		return c->n;
	}
	const size_t m = merge(s, l->p, l->bytes, ids);

	if (m <= SHORT_IDS) {
		set[1] = set[0];
		memcpy(set->key, l->key, sizeof(l->key));
		memcpy(set->ids, ids, m * sizeof(*ids));
		set->n = (uint16_t)m;
	}
	return m;
}

/* ---- text ---- */

/* A copy of the text that is valid UTF-8, padded. */
static const unsigned char *clean_copy(struct buf *to, const char *text, size_t bytes)
{
	const unsigned char *p = (const unsigned char *)text, *end = p + bytes, *from = p;
	char pad[PIECE_PAD];

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

/* The next pieces of the text from *p to end; *p behind them. */
static size_t next_pieces(const struct bpe_scratch *s, const unsigned char **p, const unsigned char *end,
			  struct lookup *l)
{
	const unsigned char *at = *p, *next;
	uint64_t starts = piece_starts(at);
	size_t n = 0;

	if (!starts) /* other characters than ASCII, or a long piece: go on without for a while */
		for (; at < end && at < *p + PIECE_WINDOW / 2; at = next) {
			next = piece_end(&s->v->classes, at);
			l[n++] = look_up(s, at, (size_t)(next - at));
		}
	for (; starts; starts &= starts - 1, at = next) {
		next = *p + __builtin_ctzll(starts);
		l[n++] = look_up(s, at, (size_t)(next - at));
	}
	*p = at;
	return n;
}

static uint16_t *encode_pieces(struct bpe_scratch *s, const unsigned char *p, const unsigned char *end, uint16_t *ids)
{
	struct lookup l[2][PIECE_WINDOW];       /* the next ones are fetched meanwhile */
	size_t n = next_pieces(s, &p, end, l[0]), n_next;

	for (size_t turn = 0; n > 0; turn = !turn, n = n_next) {
		n_next = p < end ? next_pieces(s, &p, end, l[!turn]) : 0;
		for (size_t i = 0; i < n; i++)
			ids += encode_piece(s, &l[turn][i], ids);
	}
	return ids;
}

static bool alphanumeric(char c)
{
	return (unsigned)(c | 0x20) - 'a' < 26 || (unsigned)c - '0' < 10;
}

/* A piece begins at a blank between letters or digits, whatever lies farther away. */
static size_t chunk_bytes(const char *text, size_t bytes)
{
	for (size_t i = CHUNK; i + 1 < bytes; i++)
		if (text[i] == ' ' && alphanumeric(text[i - 1]) && alphanumeric(text[i + 1]))
			return i;
	return bytes;
}

void bpe_encode(struct bpe_scratch *s, const char *text, size_t bytes, struct ids *ids)
{
	while (bytes > 0) {
		const size_t n = chunk_bytes(text, bytes);
		const unsigned char *p = clean_copy(&s->text, text, n), *end = p + s->text.n - PIECE_PAD;
		const size_t room = ids->n + (size_t)(end - p) + SHORT_IDS + 1;

		if (room > ids->cap) {
			ids->cap = room + room / 2;
			ids->v = xrealloc(ids->v, ids->cap, sizeof(*ids->v));
		}
		ids->n = (size_t)(encode_pieces(s, p, end, ids->v + ids->n) - ids->v);
		text += n;
		bytes -= n;
	}
}
