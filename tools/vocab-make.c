/*
 * vocab-make TOKENS CLASSES -- GPT-2's vocabulary as it lies in memory (struct bpe of vocab.h), for the programs to
 * be linked with: from the tokens' bytes in base64 and ranks (data/gpt2.tiktoken) and the classes of Unicode
 * (data/unicode_classes.tsv).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base.h"
#include "vocab.h"

static struct bpe v;

/* ---- tokens ---- */

/* The value of each digit and 1 more; 0: none. */
static void base64_values(uint8_t value[BYTES])
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	for (uint8_t i = 0; digits[i]; i++)
		value[(unsigned char)digits[i]] = (uint8_t)(i + 1);
}

/* Behind the digits; what they stand for to out, the number of its bytes to *n. */
static const char *decode_base64(const char *s, char *out, size_t most, size_t *n)
{
	static uint8_t value[BYTES];
	unsigned bits = 0, have = 0;

	if (!value['A'])
		base64_values(value);
	for (*n = 0; *s != ' ' && *s != '='; s++) {
		const unsigned d = value[(unsigned char)*s];

		if (!d)
			die("no base64 in the vocabulary: '%.20s'", s);
		bits = bits << 6 | (d - 1);
		have += 6;
		if (have < 8)
			continue;
		have -= 8;
		if (*n == most)
			die("the vocabulary has more than %d bytes", VOCAB_BYTES);
		out[(*n)++] = (char)(bits >> have);
	}
	return s + strspn(s, "=");
}

static void read_tokens(const char *path)
{
	struct buf text = { 0 };
	size_t at = 0, n;

	read_file(path, &text, SIZE_MAX / 2);
	const char *s = text.p;

	for (unsigned t = 0; t < BPE_EOT; t++, at += n) {
		char *end;

		v.at[t] = (uint32_t)at;
		s = decode_base64(s, v.bytes + at, VOCAB_BYTES - at, &n);
		if (strtoul(s, &end, 10) != t || *end != '\n')
			die("'%s' is not in order at token %u", path, t);
		s = end + 1;
		if (n == 1)
			v.byte_id[(unsigned char)v.bytes[at]] = (uint16_t)t;
	}
	if (s != text.p + text.n || at + 13 != VOCAB_BYTES)
		die("'%s' has not %d tokens of %d bytes", path, BPE_EOT, VOCAB_BYTES);
	v.at[BPE_EOT] = (uint32_t)at;
	memcpy(v.bytes + at, "<|endoftext|>", 13);
	v.at[BPE_TOKENS] = VOCAB_BYTES;
	buf_free(&text);
}

/* ---- merges ---- */

enum { SLOTS = 1 << 17 };
static uint32_t by_bytes[SLOTS];        /* ids + 1 of the tokens so far; 0: none */

/* Where the token of these bytes is, or would be. */
static uint32_t *slot_of(const char *p, size_t n)
{
	uint32_t h = 0;
	size_t bytes;

	for (size_t i = 0; i < n; i++)
		h = (h ^ (unsigned char)p[i]) * 16777619;
	for (h = (h ^ h >> 15) % SLOTS; by_bytes[h]; h = (h + 1) % SLOTS) {
		const char *q = v.bytes + v.at[by_bytes[h] - 1];

		bytes = v.at[by_bytes[h]] - v.at[by_bytes[h] - 1];
		if (bytes == n && !memcmp(p, q, n))
			break;
	}
	return &by_bytes[h];
}

/* What the merges so far leave of token t: of two parts their ids, and true. */
static bool merge_token(unsigned t, uint16_t *left, uint16_t *right)
{
	const char *p = v.bytes + v.at[t];
	size_t cut[BYTES], n = v.at[t + 1] - v.at[t];

	if (n >= BYTES)
		return false;
	for (size_t i = 0; i <= n; i++)
		cut[i] = i;
	for (size_t best; n > 2; n--, memmove(cut + best + 1, cut + best + 2, (n - best) * sizeof(*cut))) {
		uint32_t lowest = 0;

		for (size_t i = best = 0; i + 2 <= n; i++) {
			const uint32_t id = *slot_of(p + cut[i], cut[i + 2] - cut[i]);

			if (id && (!lowest || id < lowest)) {
				lowest = id;
				best = i;
			}
		}
		if (!lowest)
			return false;
	}
	*left = (uint16_t)(*slot_of(p, cut[1]) - 1);
	*right = (uint16_t)(*slot_of(p + cut[1], cut[2] - cut[1]) - 1);
	return true;
}

/* ---- the perfect hash: keys of one displacement find free places together, the largest groups first ---- */

enum { GROUPS = 1 << DISPLACE_BITS, GROUP_MOST = 32 };

struct group {
	uint32_t entry[GROUP_MOST], hash[GROUP_MOST];
	size_t n;
};
static struct group group[GROUPS];

static void add_pair(uint16_t left, uint16_t right, uint16_t id)
{
	const uint32_t hash = pair_hash(left, right);
	struct group *g = &group[pair_group(hash)];

	if ((left | right) < BYTES)
		v.byte_pair[left * BYTES + right] = id;
	if (g->n == GROUP_MOST)
		die("a group of more than %d merges", GROUP_MOST);
	g->hash[g->n] = hash;
	g->entry[g->n++] = hash << 16 | id;
}

static bool place(const struct group *g, uint16_t displace)
{
	for (size_t i = 0; i < g->n; i++) {
		uint32_t *at = &v.pair[pair_place(g->hash[i], displace)];

		if ((uint16_t)*at != NO_MERGE) {
			while (i-- > 0)
				v.pair[pair_place(g->hash[i], displace)] = UINT32_MAX;
			return false;
		}
		*at = g->entry[i];
	}
	return true;
}

static void place_all(void)
{
	for (size_t n = GROUP_MOST; n > 0; n--)
		for (size_t k = 0; k < GROUPS; k++) {
			uint32_t d = 0;

			if (group[k].n != n)
				continue;
			while (!place(&group[k], (uint16_t)d))
				if (++d >> 16)
					die("group %zu of %zu merges finds no place", k, n);
			v.displace[k] = (uint16_t)d;
		}
}

static void make_pairs(void)
{
	uint16_t left, right;

	memset(v.pair, 0xFF, sizeof(v.pair));
	memset(v.byte_pair, 0xFF, sizeof(v.byte_pair));
	for (unsigned t = 0; t < BPE_EOT; t++) {
		const size_t n = v.at[t + 1] - v.at[t];

		if (n > 1) {
			if (!merge_token(t, &left, &right))
				die("token %u is not one merge", t);
			add_pair(left, right, (uint16_t)t);
		}
		*slot_of(v.bytes + v.at[t], n) = t + 1;
	}
	place_all();
}

/* ---- classes ---- */

/* Lines "class first last version"; the rows of version 16.0 are those of the published tokenizers. */
static void read_classes(const char *path)
{
	struct buf text = { 0 };

	read_file(path, &text, SIZE_MAX / 2);
	for (const char *s = text.p; *s; s = strchr(s, '\n') + 1) {
		char class, version[16];
		unsigned first, last;

		if (*s == '#')
			continue;
		if (sscanf(s, "%c %x %x %15s", &class, &first, &last, version) != 4 || last >= CODE_POINTS)
			die("'%s' has no row: '%.30s'", path, s);
		if (!strcmp(version, "16.0"))
			memset(v.classes.point + first, class == 'L' ? CLASS_LETTER : class == 'N' ? CLASS_NUMBER : CLASS_SPACE,
			       last - first + 1);
	}
	for (unsigned b = 0; b < BYTES; b++)
		v.classes.byte[b] = b < 0x80 ? v.classes.point[b] : b < 0xFF ? CLASS_MULTI : CLASS_END;
	buf_free(&text);
}

int main(int argc, char **argv)
{
	if (argc != 3)
		die_usage("TOKENS and CLASSES are missing");
	read_tokens(argv[1]);
	make_pairs();
	read_classes(argv[2]);
	write_full(STDOUT_FILENO, &v, sizeof(v), "<stdout>");
	return 0;
}
