#include "vocab.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "merge.h"

extern const char vocab_tiktoken[], vocab_tiktoken_end[];

/* ---- the vocabulary ---- */

/* What undoes multiplying by an odd number, by Newton's iteration. */
static uint32_t inverse(uint32_t odd)
{
	uint32_t x = odd;       /* right in 3 bits, then in 6, 12, 24, 48 */

	for (int i = 0; i < 4; i++)
		x *= 2 - odd * x;
	return x;
}

/* Cuckoo hashing (Pagh & Rodler 2001): who is pushed out goes to its place in the other table. */
static void pair_add(struct bpe *v, uint16_t left, uint16_t right, uint16_t id)
{
	static const uint32_t hash[2] = { PAIR_HASH_0, PAIR_HASH_1 };
	uint32_t key = (uint32_t)left << 16 | right;

	if ((left | right) < BYTES)
		v->byte_pair[left * BYTES + right] = id;
	for (unsigned turn = 0; turn < 500; turn++) {
		const uint32_t h = key * hash[turn % 2];
		uint32_t *slot = v->pair + (turn % 2 << PAIR_BITS) + (h >> 16), old = *slot;

		*slot = h << 16 | id;
		id = (uint16_t)old;
		if (id == NO_MERGE)
			return;
		key = ((h & 0xFFFF0000) | old >> 16) * inverse(hash[turn % 2]);
	}
	BUG("the merges have no place");
}

/* The value of each digit and 1 more; 0: none. */
static void base64_values(uint8_t value[BYTES])
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	memset(value, 0, BYTES);
	for (uint8_t i = 0; digits[i]; i++)
		value[(unsigned char)digits[i]] = (uint8_t)(i + 1);
}

static const char *decode_base64(const uint8_t value[BYTES], const char *s, struct buf *out)
{
	unsigned bits = 0, n = 0;

	for (; *s != ' ' && *s != '='; s++) {
		const unsigned d = value[(unsigned char)*s];

		if (!d)
			BUG("the vocabulary has no base64 at %zu", (size_t)(s - vocab_tiktoken));
		bits = bits << 6 | (d - 1);
		n += 6;
		if (n >= 8) {
			n -= 8;
			out->p[out->n++] = (char)(bits >> n);
		}
	}
	return s + strspn(s, "=");
}

/* Tokens in order of rank; the merge that makes one is what the merges before it leave of its bytes. */
static void load_tokens(struct bpe *v)
{
	const char *s = vocab_tiktoken;
	struct buf bytes = { xmalloc((size_t)(vocab_tiktoken_end - s)), 0, (size_t)(vocab_tiktoken_end - s) };
	merge_short_fn *merge_short = merge_short_avx2();
	uint8_t value[BYTES];
	uint16_t id[BYTES];

	base64_values(value);

	for (unsigned t = 0; t < BPE_EOT; t++) {
		char *end;

		v->at[t] = (uint32_t)bytes.n;
		s = decode_base64(value, s, &bytes);
		if (strtoul(s, &end, 10) != t || *end != '\n')
			BUG("the vocabulary is not in order at %u", t);
		s = end + 1;

		const unsigned char *p = (unsigned char *)bytes.p + v->at[t];
		const size_t n = bytes.n - v->at[t];

		if (n == 1) {
			v->byte_id[p[0]] = (uint16_t)t;
			continue;
		}
		if ((merge_short && n <= MERGE_SHORT ? merge_short : merge_scan)(v, p, n, id) != 2)
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

	v->pair = xmalloc((2 << PAIR_BITS) * sizeof(*v->pair));
	memset(v->pair, 0xFF, (2 << PAIR_BITS) * sizeof(*v->pair));    /* NO_MERGE */
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

