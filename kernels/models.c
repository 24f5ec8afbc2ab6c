#include "models.h"

struct models models_open(const char *gpt, const char *sae)
{
	struct models m = { .gpt = tensors_open(gpt), .sae = tensors_open(sae) };

	m.c = gpt_config_from(m.gpt, gpt);
	tensors_id(m.gpt, m.gpt_id);
	tensors_id(m.sae, m.sae_id);
	m.F = sae_check_gpt(m.sae, sae, 4 * m.c.n_embd, m.gpt_id, gpt);
	return m;
}

void models_load(const struct models *m, const struct backend *be, size_t B, size_t rows, struct gpt **g,
		 struct sae **s)
{
	*g = gpt_new(be, &m->c, B, GPT_EVAL);
	gpt_load(*g, m->gpt);
	*s = sae_new(be, 4 * m->c.n_embd, m->F, rows, SAE_EVAL);
	sae_load(*s, m->sae);
}

void models_close(struct models *m)
{
	tensors_close(m->gpt);
	tensors_close(m->sae);
}
