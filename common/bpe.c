#include "bpe.h"

#include <stdlib.h>
#include <string.h>

#include "merge.h"
#include "utf8.h"
#include "vocab.h"

/*
 * A piece goes from its bytes to its tokens through three doors: the cache of
 * short pieces (nearly all of a text), the one of others, and merging.
 */

enum {
	SHORT = MERGE_SHORT,    /* longest piece of the first cache in bytes … */
	SHORT_IDS = 7,          /* … and in tokens */
	SET_BITS = 17,          /* sets of that cache, of two ways: 8 MiB a thread */
	LONG = 128,              /* longest piece of the second cache in bytes … */
	LONG_IDS = 60,          /* … and in tokens */
	AHEAD = 64,             /* pieces looked up before the first of them is needed */
	LONG_BITS = 11          /* places of that cache: 512 KiB */
};

/* Two ways of one set lie side by side: one cache line.  Bytes are zero-padded, the last holds
 * the length, so that no two pieces share a key and none is all zero. */
struct cached {
	uint64_t key[2];
	uint16_t ids[SHORT_IDS], n;
};

struct cached_long {
	uint16_t n_bytes, n;
	unsigned char bytes[LONG];
	uint16_t ids[LONG_IDS];
};

struct bpe_scratch {
	const struct bpe *v;
	merge_short_fn *merge_short;
	piece_starts_fn *piece_starts;
	struct cached *cache;
	struct cached_long *cache_long;
	struct buf text;
	struct links l;
};

/* ---- short pieces ---- */

/* Its bytes, zero-padded, and its length. */
static inline void short_key(const unsigned char *p, size_t n, uint64_t key[2])
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
	uint64_t key[2];        /* of a long one: its length, and what no short one has */
	struct cached *set;
	const unsigned char *p;
};
#define LONG_KEY (~(uint64_t)0)

/* 16 bytes of p can be read.  The set is fetched while others are looked at. */
static inline void look_up(const struct bpe_scratch *s, const unsigned char *p, size_t bytes, struct lookup *l)
{
	l->p = p;
	l->set = s->cache;
	if (bytes > SHORT) {
		l->key[0] = bytes;
		l->key[1] = LONG_KEY;
		return;
	}
	short_key(p, bytes, l->key);
	l->set += 2 * ((l->key[0] * 0xD6E8FEB86659FD93 + l->key[1] * 0x9E3779B97F4A7C15) >> (64 - SET_BITS));
	__builtin_prefetch(l->set);
}

static inline bool holds(const struct cached *c, const uint64_t key[2])
{
	return ((c->key[0] ^ key[0]) | (c->key[1] ^ key[1])) == 0;
}

/* New ones come second; those that are seen again, first. */
static void remember(struct cached *set, const uint64_t key[2], const uint16_t *ids, size_t n)
{
	memcpy(set[1].key, key, sizeof(set->key));
	memcpy(set[1].ids, ids, n * sizeof(*ids));
	set[1].n = (uint16_t)n;
}

/* All short tokens are pieces that are themselves. */
static void remember_tokens(struct bpe_scratch *s)
{
	unsigned char padded[2 * SHORT + 1] = { 0 };
	struct lookup l;
	size_t n;

	for (unsigned t = BPE_EOT; t-- > 0; ) {
		const uint16_t id = (uint16_t)t;
		const char *p = bpe_token(s->v, t, &n);

		if (n > SHORT)
			continue;
		look_up(s, memcpy(padded, p, n), n, &l);
		l.set[1] = l.set[0];
		l.set[0] = (struct cached){ { l.key[0], l.key[1] }, { id }, 1 };
	}
}

/* ---- other pieces ---- */

static struct cached_long *long_place(const struct bpe_scratch *s, const unsigned char *p, size_t n)
{
	uint64_t first, middle, last;

	memcpy(&first, p, 8);
	memcpy(&middle, p + n / 2 - 4, 8);
	memcpy(&last, p + n - 8, 8);
	first = ((first * 0xD6E8FEB86659FD93 ^ middle) * 0x9E3779B97F4A7C15 ^ last ^ n) * 0xD6E8FEB86659FD93;
	return s->cache_long + (first >> (64 - LONG_BITS));
}

/* Of 8 bytes or more: what the cache knows, or what merging gives. */
static size_t encode_long(struct bpe_scratch *s, const unsigned char *p, size_t n, uint16_t *ids)
{
	struct cached_long *c = n <= LONG ? long_place(s, p, n) : NULL;

	if (c && c->n_bytes == n && !memcmp(c->bytes, p, n)) {
		memcpy(ids, c->ids, c->n * sizeof(*ids));
		return c->n;
	}
	const size_t m = n <= MERGE_SHORT && s->merge_short ? s->merge_short(s->v, p, n, ids)
							    : merge_piece(s->v, &s->l, p, n, ids);

	if (c && (n > SHORT || m > SHORT_IDS) && m <= LONG_IDS) {
		memcpy(c->bytes, p, n);
		memcpy(c->ids, ids, m * sizeof(*ids));
		c->n = (uint16_t)m;
		c->n_bytes = (uint16_t)n;
	}
	return m;
}

/* What is not the first of its set. */
static __attribute__((noinline)) size_t encode_other(struct bpe_scratch *s, const struct lookup *l, uint16_t *ids)
{
	struct cached *set = l->set, first = set[0];
	size_t n = l->key[1] >> 56, m;

	if (l->key[1] == LONG_KEY)
		return encode_long(s, l->p, l->key[0], ids);
	if (holds(set + 1, l->key)) {
		set[0] = set[1];
		set[1] = first;
		memcpy(ids, set->ids, sizeof(set->ids));
		return set->n;
	}
	if (n > SHORT_IDS)
		m = encode_long(s, l->p, n, ids);
	else
		m = s->merge_short ? s->merge_short(s->v, l->p, n, ids) : merge_piece(s->v, &s->l, l->p, n, ids);
	if (m <= SHORT_IDS)
		remember(set, l->key, ids, m);
	return m;
}

/* The piece's tokens to ids, of which SHORT_IDS + 1 are written whatever their number. */
static inline uint16_t *encode_piece(struct bpe_scratch *s, const struct lookup *l, uint16_t *ids)
{
	const struct cached *c = l->set;

	if (!holds(c, l->key))
		return ids + encode_other(s, l, ids);
	memcpy(ids, c->ids, sizeof(c->ids) + sizeof(c->n));
	return ids + c->n;
}

/* ---- scratch ---- */

struct bpe_scratch *bpe_scratch(const struct bpe *v)
{
	struct bpe_scratch *s = xcalloc(1, sizeof(*s));

	s->v = v;
	s->merge_short = merge_short_avx2();
	s->piece_starts = piece_starts_avx2() ? piece_starts_avx2() : piece_starts;
	s->cache = xtable(((size_t)2 << SET_BITS) * sizeof(*s->cache));
	s->cache_long = xcalloc((size_t)1 << LONG_BITS, sizeof(*s->cache_long));
	remember_tokens(s);
	return s;
}

void bpe_scratch_free(struct bpe_scratch *s)
{
	free(s->cache);
	free(s->cache_long);
	buf_free(&s->text);
	links_free(&s->l);
	free(s);
}

/* ---- text ---- */

/* Behind what is ASCII, in steps of a block. */
static const unsigned char *skip_ascii(const unsigned char *p, const unsigned char *end)
{
	enum { WORDS = 8 };
	uint64_t block[WORDS];

	for (; end - p >= (ptrdiff_t)sizeof(block); p += sizeof(block)) {
		memcpy(block, p, sizeof(block));
		for (size_t i = 1; i < WORDS; i++)
			block[0] |= block[i];
		if (block[0] & 0x8080808080808080)
			break;
	}
	return p;
}

/* The first byte that is no UTF-8, or the end. */
static const unsigned char *valid_end(const unsigned char *p, const unsigned char *end)
{
	while ((p = skip_ascii(p, end)) < end)
		for (const unsigned char *stop = p + PIECE_WINDOW; p < stop && p < end; ) {
			const int n = utf8_length(p, end);

			if (n < 0)
				return p;
			p += n;
		}
	return end;
}

/* A copy of the text that is valid UTF-8, padded. */
static void clean_copy(struct buf *to, const char *text, size_t bytes)
{
	const unsigned char *p = (const unsigned char *)text, *end = p + bytes;

	buf_clear(to);
	while (p < end) {
		const unsigned char *from = p;

		p = valid_end(p, end);
		buf_add(to, from, (size_t)(p - from));
		if (p < end) {
			buf_add(to, "\xEF\xBF\xBD", 3);
			p -= utf8_length(p, end);
		}
	}
	bpe_pad(to);
}

/* The next pieces of the text from *p to end; *p behind them. */
static size_t next_pieces(const struct bpe_scratch *s, const unsigned char **p, const unsigned char *end,
			  struct lookup *l)
{
	const unsigned char *at = *p, *next;
	uint64_t starts = s->piece_starts(at);
	size_t n = 0;

	if (!starts) /* other characters than ASCII, or a long piece: go on without for a while */
		for (; at < end && at < *p + PIECE_WINDOW / 2; at = next) {
			next = piece_end(&s->v->classes, at);
			look_up(s, at, (size_t)(next - at), &l[n++]);
		}
	for (; starts; starts &= starts - 1, at = next) {
		next = *p + __builtin_ctzll(starts);
		look_up(s, at, (size_t)(next - at), &l[n++]);
	}
	*p = at;
	return n;
}

static uint16_t *encode_pieces(struct bpe_scratch *s, const unsigned char *p, const unsigned char *end, uint16_t *ids)
{
	struct lookup l[2][AHEAD + PIECE_WINDOW];       /* the next ones are fetched meanwhile */
	size_t n = 0, n_next;

	for (size_t turn = 0; n > 0 || p < end; turn = !turn, n = n_next) {
		for (n_next = 0; n_next < AHEAD && p < end; )
			n_next += next_pieces(s, &p, end, l[!turn] + n_next);
		for (size_t i = 0; i < n; i++)
			ids = encode_piece(s, &l[turn][i], ids);
	}
	return ids;
}

/* Of valid UTF-8, padded. */
static void encode_valid(struct bpe_scratch *s, const unsigned char *p, size_t bytes, struct ids *ids)
{
	const size_t room = ids->n + bytes + SHORT_IDS + 1;

	if (room > ids->cap) {
		ids->cap = room + room / 2;
		ids->v = xrealloc(ids->v, ids->cap, sizeof(*ids->v));
	}
	ids->n = (size_t)(encode_pieces(s, p, p + bytes, ids->v + ids->n) - ids->v);
}

void bpe_pad(struct buf *text)
{
	char pad[PIECE_PAD];

	_Static_assert((int)PIECE_PAD == (int)BPE_PAD, "a window behind the text");
	buf_add(text, memset(pad, 0xFF, sizeof(pad)), sizeof(pad));
}

void bpe_encode(struct bpe_scratch *s, const char *text, size_t bytes, struct ids *ids)
{
	clean_copy(&s->text, text, bytes);
	encode_valid(s, (const unsigned char *)s->text.p, s->text.n - PIECE_PAD, ids);
}

void bpe_encode_padded(struct bpe_scratch *s, const char *text, size_t bytes, struct ids *ids)
{
	const unsigned char *p = (const unsigned char *)text, *end = p + bytes;

	if (valid_end(p, end) < end)
		bpe_encode(s, text, bytes, ids);
	else
		encode_valid(s, p, bytes, ids);
}
