/* bpe: against hand-computed tokens and a plain quadratic twin. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bpe.h"
#include "check.h"
#include "merge.h"
#include "pieces.h"
#include "rng.h"

static const struct bpe *v;
static struct bpe_scratch *s;

static bool encodes(const char *text, size_t bytes, const uint16_t *want, size_t n)
{
	struct ids ids = { 0 };

	bpe_encode(s, text, bytes, &ids);
	const bool same = ids.n == n && (n == 0 || !memcmp(ids.v, want, n * sizeof(*want)));

	free(ids.v);
	return same;
}
#define GIVES(text, ...) check(encodes(text, sizeof(text) - 1, (const uint16_t[]){ __VA_ARGS__ }, \
	sizeof((const uint16_t[]){ __VA_ARGS__ }) / 2), "%s gives %s", #text, #__VA_ARGS__)

/* ---- the twin: tokens sorted by their bytes, every pair looked up at every step ---- */

static uint16_t sorted[BPE_EOT];

static int by_bytes(const void *a, const void *b)
{
	size_t m, n;
	const char *p = bpe_token(v, *(const uint16_t *)a, &m), *q = bpe_token(v, *(const uint16_t *)b, &n);
	const int c = memcmp(p, q, m < n ? m : n);

	return c ? c : m < n ? -1 : m > n;
}

static int rank_of(const char *p, size_t n)
{
	size_t lo = 0, hi = BPE_EOT, m;

	while (lo < hi) {
		const size_t mid = (lo + hi) / 2;
		const char *q = bpe_token(v, sorted[mid], &m);
		int c = memcmp(p, q, n < m ? n : m);

		c = c ? c : n < m ? -1 : n > m;
		if (c == 0)
			return sorted[mid];
		if (c < 0)
			hi = mid;
		else
			lo = mid + 1;
	}
	return -1;
}

/* One piece. */
static size_t twin(const char *p, size_t n, uint16_t *ids)
{
	size_t *at = xcalloc(n + 1, sizeof(*at)), m = n;

	for (size_t i = 0; i <= n; i++)
		at[i] = i;
	for (;;) {
		int best = -1;
		size_t where = 0;

		for (size_t i = 0; i + 2 <= m; i++) {
			const int r = rank_of(p + at[i], at[i + 2] - at[i]);

			if (r >= 0 && (best < 0 || r < best))
				best = r, where = i;
		}
		if (best < 0)
			break;
		memmove(at + where + 1, at + where + 2, (m - where - 1) * sizeof(*at));
		m--;
	}
	for (size_t i = 0; i < m; i++)
		ids[i] = (uint16_t)rank_of(p + at[i], at[i + 1] - at[i]);
	free(at);
	return m;
}

/* Words of n letters out of the first `letters`: few letters make many equal pairs. */
static bool words_agree(size_t n, unsigned letters, unsigned count)
{
	char word[512];
	uint16_t want[512];

	for (unsigned k = 0; k < count; k++) {
		for (size_t i = 0; i < n; i++)
			word[i] = (char)('a' + rng_below(rng_hash(n * 1000 + letters, RNG_TEST, k, i), letters));
		/* twice: the second time out of the cache, where it is short */
		const size_t m = twin(word, n, want);

		if (!encodes(word, n, want, m) || !encodes(word, n, want, m))
			return false;
	}
	return true;
}

static void test_merging(void)
{
	static const size_t lengths[] = { 1, 2, 7, 8, 9, 14, 15, 16, 17, 31, 46, 47, 48, 49, 64, 200 };

	for (uint16_t i = 0; i < BPE_EOT; i++)
		sorted[i] = i;
	qsort(sorted, BPE_EOT, sizeof(*sorted), by_bytes);
	for (size_t i = 0; i < sizeof(lengths) / sizeof(*lengths); i++) {
		const size_t n = lengths[i];

		check(words_agree(n, 2, 20) && words_agree(n, 26, n < 100 ? 40 : 5),
		      "words of %zu letters as the plain twin merges them", n);
	}
}

/* ---- pieces ---- */

static void test_pieces(void)
{
	GIVES("hello world", 31373, 995);
	GIVES(" the", 262);
	GIVES("\n", 198);
	GIVES("a  b", 64, 220, 275);
	GIVES("a \n b", 64, 220, 198, 275);
	GIVES("a\n\nb", 64, 198, 198, 65);
	GIVES("a   ", 64, 220, 220, 220);
	GIVES("don't", 9099, 470);
	GIVES("'sx", 338, 87);
	GIVES(" 'sx", 705, 82, 87);
	GIVES("'Sx", 6, 50, 87);
	GIVES("we'll've", 732, 1183, 1053);
	GIVES("x''s", 87, 7061, 82);
	GIVES("a1b", 64, 16, 65);
	GIVES("<|endoftext|>", 27, 91, 437, 1659, 5239, 91, 29);
	GIVES("\0", 188);
	check(encodes("", 0, NULL, 0), "no text gives no tokens");
	GIVES("\xC2\xA0" "a", 1849, 64);
	GIVES("\xE3\x80\x80\xE3\x80\x80" "a", 5099, 222, 5099, 222, 64);
}

/* Random text of `kinds` of these, each as often as the others; the pad behind it. */
static size_t random_text(char *text, size_t most, unsigned kinds, uint64_t seed)
{
	static const char *const parts[] = { "a", "b", "e", "s", "t", "v", "l", " ", "'", "1", "!", "  ", "\n", "'s", "'re",
		"word", "\t", " x", "a bird in the hand is worth two in the bush", "\xC3\xA9", "\xC2\xA0",
		"\xE3\x80\x80", "\xE6\xBC\xA2" };
	size_t n = 0;

	for (uint64_t i = 0; n + 48 < most; i++) {
		const char *p = parts[rng_below(rng_hash(seed, RNG_TEST, kinds, i), kinds)];

		memcpy(text + n, p, strlen(p));
		n += strlen(p);
	}
	memset(text + n, 0xFF, PIECE_PAD);
	return n;
}

/* The whole text gives what its pieces give one by one, as piece_end cuts them. */
static bool pieces_agree(const char *text, size_t bytes)
{
	const unsigned char *p = (const unsigned char *)text, *end = p + bytes, *next;
	struct ids all = { 0 }, one = { 0 };

	bpe_encode(s, text, bytes, &all);
	for (; p < end; p = next) {
		next = piece_end(classes_gpt2(), p);
		bpe_encode(s, (const char *)p, (size_t)(next - p), &one);
	}
	const bool same = all.n == one.n && !memcmp(all.v, one.v, all.n * sizeof(*all.v));

	free(all.v);
	free(one.v);
	return same;
}

static void test_windows(void)
{
	static const unsigned kinds[] = { 7, 9, 15, 19, 23 };
	char *text = xmalloc((1 << 19) + PIECE_PAD);

	for (size_t k = 0; k < sizeof(kinds) / sizeof(*kinds); k++) {
		bool same = pieces_agree(text, random_text(text, 1 << 19, kinds[k], 0));

		for (uint64_t seed = 1; seed < 40; seed++)
			same = same && pieces_agree(text, random_text(text, 48 + 8 * seed, kinds[k], seed));
		check(same, "text of %u kinds of parts, in windows and piece by piece", kinds[k]);
	}
	free(text);
}

/* The vectors say what the plain ones say, of any bytes. */
static void test_vectors(void)
{
	static const unsigned kinds[] = { 7, 15, 23 };
	piece_starts_fn *starts = piece_starts_avx2();
	merge_short_fn *merge = merge_short_avx2();
	unsigned char *text = xmalloc((1 << 16) + PIECE_PAD);
	uint16_t a[BYTES], b[BYTES];
	bool same = true;

	if (!starts || !merge) {
		check(true, "no AVX2 here # SKIP");
		return;
	}
	for (unsigned k = 0; k <= ARRAY_LEN(kinds); k++) {
		size_t n = 1 << 16;

		if (k < ARRAY_LEN(kinds))
			n = random_text((char *)text, n, kinds[k], 77);
		else
			for (size_t i = 0; i < n + PIECE_PAD; i++)
				text[i] = (unsigned char)rng_hash(5, RNG_TEST, k, i) & (i % 4096 < 2048 ? 0x7F : 0xFF);
		for (size_t i = 0; i < n && same; i++)
			same = piece_starts(text + i) == starts(text + i);
		check(same, "windows as bits: AVX2 and plain, text %u", k);
		for (size_t i = 0; i + 16 < n && same; i += 3) {
			const size_t bytes = 1 + rng_below(rng_hash(6, RNG_TEST, k, i), MERGE_SHORT);
			const size_t m = merge(v, text + i, bytes, a);

			same = m == merge_scan(v, text + i, bytes, b) && !memcmp(a, b, m * sizeof(*a));
		}
		check(same, "short pieces merged: AVX2 and plain, text %u", k);
	}
	free(text);
}

/* A token as a piece is itself: the cache may begin with all of them. */
static void test_tokens(void)
{
	bool same = true;
	size_t n;

	for (uint16_t t = 0; t < BPE_EOT && same; t++) {
		const char *p = bpe_token(v, t, &n);
		uint16_t *ids = xmalloc(n * sizeof(*ids));

		same = twin(p, n, ids) == 1 && ids[0] == t;
		free(ids);
	}
	check(same, "every token's bytes merge to it alone");
}

static void test_invalid(void)
{
	GIVES("\xFF", 4210);
	GIVES("abc\xFF", 39305, 4210);
	GIVES("\x80\x80", 6353);
	GIVES("hello \xE4\xB8", 31373, 20543);
	static const char surrogate[] = "\xED\xA0\x80", replaced[] = "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD";
	struct ids a = { 0 }, b = { 0 };

	bpe_encode(s, surrogate, 3, &a);
	bpe_encode(s, replaced, 9, &b);
	check(a.n == b.n && !memcmp(a.v, b.v, a.n * 2), "a surrogate is three invalid bytes");
	free(a.v);
	free(b.v);
}

/* ---- whole texts ---- */

/* Tokens of the text, decoded, are the text. */
static bool round_trip(const char *text, size_t bytes)
{
	struct ids ids = { 0 };
	size_t at = 0, n;

	bpe_encode(s, text, bytes, &ids);
	for (size_t i = 0; i < ids.n; i++) {
		const char *p = bpe_token(v, ids.v[i], &n);

		if (!p || at + n > bytes || memcmp(p, text + at, n))
			break;
		at += n;
	}
	free(ids.v);
	return at == bytes;
}

static void test_texts(void)
{
	enum { N = 1 << 21 };
	char *text = xmalloc(N);
	size_t n;

	for (size_t i = 0; i < N; i++)
		text[i] = (char)rng_below(rng_hash(1, RNG_TEST, 0, i), 128);
	check(round_trip(text, N), "random ASCII comes back");
	for (size_t i = 0; i < N; i++)
		text[i] = (char)('a' + rng_below(rng_hash(2, RNG_TEST, 0, i), 26));
	check(round_trip(text, N), "a word of 2 MiB comes back");
	memset(text, ' ', N);
	check(round_trip(text, N), "2 MiB of blanks come back");
	memset(text, 'a', N);
	check(round_trip(text, N), "2 MiB of one letter come back");
	for (size_t cut = 0; cut < 40; cut++)
		if (!round_trip(text, cut))
			check(false, "%zu letters come back", cut);
	free(text);
	check(!bpe_token(v, BPE_TOKENS, &n), "there is no token 50257");
	check(!memcmp(bpe_token(v, BPE_EOT, &n), "<|endoftext|>", 13) && n == 13, "token 50256");

	struct ids ids = { 0 };

	bpe_encode(s, "hello", 5, &ids);
	bpe_encode(s, " world", 6, &ids);
	check(ids.n == 2 && ids.v[0] == 31373 && ids.v[1] == 995, "tokens are appended");
	free(ids.v);
}

/* CPU seconds for one word of n letters. */
static double word_secs(const char *letters, size_t n)
{
	struct ids ids = { 0 };
	const clock_t began = clock();

	bpe_encode(s, letters, n, &ids);
	free(ids.v);
	return (double)(clock() - began) / CLOCKS_PER_SEC;
}

static void test_long_word(void)
{
	const size_t n = 1 << 19;
	char *letters = xmalloc(4 * n);

	for (size_t i = 0; i < 4 * n; i++)
		letters[i] = (char)('a' + rng_below(rng_hash(3, RNG_TEST, 0, i), 26));
	word_secs(letters, 4 * n);      /* the memory is there */
	const double one = word_secs(letters, n), four = word_secs(letters, 4 * n);

	check(four < 10 * one, "four times the letters take %.1f times as long (their square: 16)", four / one);
	free(letters);
}

int main(void)
{
	v = bpe_gpt2();
	s = bpe_scratch(v);
	test_pieces();
	test_windows();
	test_invalid();
	test_merging();
	test_vectors();
	test_tokens();
	test_texts();
	test_long_word();
	bpe_scratch_free(s);
	return check_done();
}
