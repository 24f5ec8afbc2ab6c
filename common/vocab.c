#include "vocab.h"

extern const struct bpe vocab_gpt2;     /* vocab_data.S */

const struct bpe *bpe_gpt2(void)
{
	return &vocab_gpt2;
}

const struct classes *classes_gpt2(void)
{
	return &vocab_gpt2.classes;
}

const char *bpe_token(const struct bpe *v, unsigned id, size_t *bytes)
{
	if (id >= BPE_TOKENS)
		return NULL;
	*bytes = v->at[id + 1] - v->at[id];
	return v->bytes + v->at[id];
}
