/* sae_io: autoencoders in checkpoints and states */
#include <stdlib.h>
#include <string.h>

#include "sae.h"

/* dst (cols,rows) = src (rows,cols) transposed, in tiles that fit the first cache */
static void transpose(float *dst, const float *src, size_t rows, size_t cols)
{
	enum { TILE = 32 };

	for (size_t i0 = 0; i0 < rows; i0 += TILE)
		for (size_t j0 = 0; j0 < cols; j0 += TILE)
			for (size_t i = i0; i < rows && i < i0 + TILE; i++)
				for (size_t j = j0; j < cols && j < j0 + TILE; j++)
					dst[j * rows + i] = src[i * cols + j];
}

void sae_load(struct sae *s, const struct tensors *t)
{
	const size_t D = s->D, F = s->F;
	float *x = xcalloc(xmul(D, F), sizeof(*x)), *y = xcalloc(xmul(D, F), sizeof(*y));

	tensors_weights(t, "encoder.weight", 2, (size_t[]){ F, D }, x);
	s->be->put(s->p.enc, x, F * D * sizeof(*x));
	tensors_weights(t, "encoder.bias", 1, (size_t[]){ F }, x);
	s->be->put(s->p.b_enc, x, F * sizeof(*x));
	tensors_weights(t, "decoder.weight", 2, (size_t[]){ D, F }, x);
	transpose(y, x, D, F);
	s->be->put(s->p.dec, y, F * D * sizeof(*y));
	tensors_weights(t, "decoder.bias", 1, (size_t[]){ D }, x);
	s->be->put(s->p.b_dec, x, D * sizeof(*x));
	free(x);
	free(y);
}

void sae_store(struct sae *s, struct tensors_writer *w)
{
	const size_t D = s->D, F = s->F;
	float *x = xcalloc(xmul(D, F), sizeof(*x));

	free(s->host);
	s->host = xcalloc(2 * D * F + F + D, sizeof(*s->host));
	float *enc = s->host, *dec = enc + F * D, *b_enc = dec + D * F, *b_dec = b_enc + F;

	s->be->get(enc, s->p.enc, F * D * sizeof(*enc));
	s->be->get(x, s->p.dec, F * D * sizeof(*x));
	transpose(dec, x, F, D);
	s->be->get(b_enc, s->p.b_enc, F * sizeof(*b_enc));
	s->be->get(b_dec, s->p.b_dec, D * sizeof(*b_dec));
	tensors_put(w, "encoder.weight", 2, (size_t[]){ F, D }, enc);
	tensors_put(w, "encoder.bias", 1, (size_t[]){ F }, b_enc);
	tensors_put(w, "decoder.weight", 2, (size_t[]){ D, F }, dec);
	tensors_put(w, "decoder.bias", 1, (size_t[]){ D }, b_dec);
	free(x);
}

/* (F,D) */
static const struct tensor *encoder(const struct tensors *t, const char *path)
{
	const struct tensor *enc = tensors_find(t, "encoder.weight");

	if (!enc || enc->ndim != 2 || !enc->shape[0] || !enc->shape[1])
		die("'%s' is no autoencoder: no matrix encoder.weight", path);
	return enc;
}

struct sae *sae_open(const struct backend *be, const char *path, size_t max_rows, char id[33])
{
	struct tensors *t = tensors_open(path);
	const struct tensor *enc = encoder(t, path);
	struct sae *s = sae_new(be, enc->shape[1], enc->shape[0], max_rows, SAE_EVAL);

	sae_load(s, t);
	if (id)
		tensors_id(t, id);
	tensors_close(t);
	return s;
}

size_t sae_check_gpt(const struct tensors *t, const char *path, size_t D, const char *gpt_id, const char *gpt)
{
	const struct tensor *enc = encoder(t, path);
	const char *id = tensors_meta(t, "gpt");

	if (enc->shape[1] != D)
		die("'%s' reads %zu activations; '%s' has %zu", path, enc->shape[1], gpt, D);
	if (id && strcmp(id, "none") && strcmp(id, gpt_id))
		die("'%s' was trained on activations of another GPT than '%s'", path, gpt);
	return enc->shape[0];
}

static size_t sizes(const struct sae *s, real *const parts[12], size_t n[12])
{
	size_t most = 0;

	for (size_t i = 0; i < 12; i++) {
		n[i] = i % 4 == 1 ? s->F : i % 4 == 3 ? s->D : s->F * s->D;
		most = n[i] > most ? n[i] : most;
		if (!parts[i])
			BUG("state of an autoencoder made for evaluation");
	}
	return most;
}

#define STATE_PARTS(s) { \
	(s)->p.enc, (s)->p.b_enc, (s)->p.dec, (s)->p.b_dec, (s)->m.enc, (s)->m.b_enc, (s)->m.dec, \
	(s)->m.b_dec, (s)->v.enc, (s)->v.b_enc, (s)->v.dec, (s)->v.b_dec }

void sae_save_state(struct sae *s, struct buf *st)
{
	real *const parts[12] = STATE_PARTS(s);
	size_t n[12], most = sizes(s, parts, n);
	real *x = xcalloc(most, sizeof(*x));

	buf_add(st, &s->t, sizeof(s->t));
	for (size_t i = 0; i < 12; i++) {
		s->be->get(x, parts[i], n[i] * sizeof(*x));
		buf_add(st, x, n[i] * sizeof(*x));
	}
	free(x);
}

void sae_load_state(struct sae *s, struct cursor *st)
{
	real *const parts[12] = STATE_PARTS(s);
	size_t n[12], most = sizes(s, parts, n);
	real *x = xcalloc(most, sizeof(*x));

	cursor_get(st, &s->t, sizeof(s->t));
	for (size_t i = 0; i < 12; i++) {
		cursor_get(st, x, n[i] * sizeof(*x));
		s->be->put(parts[i], x, n[i] * sizeof(*x));
	}
	free(x);
}
