#ifndef BPE_H
#define BPE_H
/*
 * bpe: GPT-2's byte-pair encoding (Radford et al. 2019): the published pattern
 * cuts text into pieces, each piece is merged by rank.  The vocabulary
 * (data/gpt2.tiktoken: base64 of the bytes, rank) and the classes of Unicode
 * 16.0 (data/unicode_classes.tsv) are linked into the program.
 *
 *	const struct bpe *v = bpe_gpt2();
 *	struct bpe_scratch *s = bpe_scratch(v);         (one a thread)
 *	struct ids ids = { 0 };
 *	bpe_encode(s, text, bytes, &ids);
 *
 * Bytes that are not UTF-8: each maximal invalid subpart becomes U+FFFD.
 */
#include "base.h"

enum { BPE_EOT = 50256, BPE_TOKENS = 50257, BPE_PAD = 72 };

struct ids {
	uint16_t *v;
	size_t n, cap;
};

struct bpe;
struct bpe_scratch;
const struct bpe *bpe_gpt2(void);       /* built once, thread-safe after that; never freed */
struct bpe_scratch *bpe_scratch(const struct bpe *v);
void bpe_scratch_free(struct bpe_scratch *s);
/* Appends the tokens of text ("<|endoftext|>" is plain text here). */
void bpe_encode(struct bpe_scratch *s, const char *text, size_t bytes, struct ids *ids);
/* The same of text that has BPE_PAD bytes of 0xFF behind it: no copy is made. */
void bpe_encode_padded(struct bpe_scratch *s, const char *text, size_t bytes, struct ids *ids);
void bpe_pad(struct buf *text);         /* appends them */
/* The token's bytes (not NUL-terminated); BPE_EOT gives "<|endoftext|>"; NULL above. */
const char *bpe_token(const struct bpe *v, unsigned id, size_t *bytes);

#endif
