#ifndef MODELS_H
#define MODELS_H
/*
 * models: a GPT and an autoencoder of its activations, opened together: known
 * to fit before anything is computed.
 *
 *	struct models m = models_open("gpt.safetensors", "sae.safetensors");
 *	… m.c, m.F, m.gpt_id, m.sae_id: recipes, sizes …
 *	models_load(&m, backend_open("auto", "auto"), B, B * T, &gpt, &sae);
 *	models_close(&m);               (the nets stay)
 */
#include "gpt.h"
#include "sae.h"

struct models {
	struct tensors *gpt, *sae;
	struct gpt_config c;
	size_t F;                       /* features; the autoencoder reads 4 · c.n_embd inputs */
	char gpt_id[33], sae_id[33];
};

/* Dies when either is not what it should be, or the autoencoder is not one of this GPT. */
struct models models_open(const char *gpt, const char *sae);
/* The nets, for evaluation: of up to B contexts, and up to `rows` tokens for the autoencoder. */
void models_load(const struct models *m, const struct backend *be, size_t B, size_t rows, struct gpt **g,
		 struct sae **s);
void models_close(struct models *m);

#endif
