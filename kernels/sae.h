#ifndef SAE_H
#define SAE_H
/*
 * sae: the sparse autoencoder of Bricken et al. 2023 as the reproduction
 * trains it.  f = relu((x - b_dec) W_encᵀ + b_enc), xhat = f W_decᵀ + b_dec,
 * loss = mean over rows and inputs of (xhat-x)² + lambda · mean over rows of Σ f.
 *
 *	struct sae *s = sae_new(be, D, F, batch, SAE_TRAIN);
 *	sae_init(s, seed);
 *	sae_step(s, x, N, lambda, lr);                  (x: host float32 (N,D))
 *	struct sae_loss l = sae_loss(s, lambda);        (waits for the device)
 *	if (step % 1000 == 0)
 *		sae_normalise(s);
 */
#include "backend.h"
#include "tensors.h"

struct sae_loss {
	double loss, mse, l1, l0;       /* l1, l0: means over rows */
};

struct sae {
	const struct backend *be;
	size_t D, F, max_rows;
	size_t n_block;                 /* values in the one block behind each of these: */
	struct sae_params p, g, m, v;   /* g m v: NULL members unless SAE_TRAIN */
	uint64_t t;                     /* Adam steps done */
	real *x, *xhat, *f;             /* (max_rows, D), (max_rows, D); f (max_rows, F) made when first asked for */
	struct sae_active {             /* of sae_find_active, in backend memory: n entries by row, then feature */
		uint32_t *rows, *feats;
		real *f;
		size_t n, cap;
	} active;
	size_t leaves, leaf;            /* of the batch, with sums of their own each; the one under way */
	struct sae_sums *sums;          /* (leaves) backend memory: over `rows` rows of training; NULL unless SAE_TRAIN */
	uint64_t rows;
	double *share;                  /* backend memory: of a leaf in the batch, that gradients are means over;
					   NULL: they are of it all */
	uint32_t *fired;        /* (F) backend memory: rows with f > 0 in the last pass, one of: */
	uint32_t *trained, *seen;       /* a batch, or several (sae_count_on); an evaluation */
	bool count_on;          /* the next batch adds to trained */
	real *err2, *l1;                /* (max_rows) of sae_row_losses, made when first asked for */
	float *host;                    /* what sae_store lends; its size is that of the weights */
};

enum { SAE_EVAL, SAE_TRAIN };
struct sae *sae_new(const struct backend *be, size_t D, size_t F, size_t max_rows, int mode);
void sae_free(struct sae *s);
/* torch's nn.Linear defaults U(±1/sqrt(fan_in)), decoder columns of unit norm. */
void sae_init(struct sae *s, uint64_t seed);
#ifndef REAL_IS_DOUBLE
/* decoder.weight is (D,F) in files, (F,D) in memory. */
void sae_load(struct sae *s, const struct tensors *t);
void sae_store(struct sae *s, struct tensors_writer *w);        /* borrows until sae_free */
struct sae *sae_open(const struct backend *be, const char *path, size_t max_rows, char id[33]);
/* How many features it has.  Dies when it is no autoencoder of D inputs, or its metadata name the GPT
 * that it was trained on, and that is another than gpt. */
size_t sae_check_gpt(const struct tensors *t, const char *path, size_t D, const char *gpt_id, const char *gpt);
void sae_save_state(struct sae *s, struct buf *st);
void sae_load_state(struct sae *s, struct cursor *st);
#endif

/* Gradients of a batch (host x); s->fired is set, the batch's sums are added to the tally. */
void sae_gradients(struct sae *s, const float *x, size_t N, double lambda);
void sae_gradients_at(struct sae *s, const real *x, size_t N, double lambda);   /* x in backend memory */
/* A batch summed leaf by leaf (tree.h).  So many of the `all` equal leaves are here; their sums are 0: */
void sae_set_leaves(struct sae *s, size_t leaves, size_t all);
/* From now on gradients are those at grads (n_block, backend memory; at first s's own), sums are added to this
 * leaf's.  Leaf 0 begins a batch: what fired is counted from there on, unless sae_count_on. */
void sae_at_leaf(struct sae *s, size_t leaf, real *grads);
/* (leaves), host; `rows` rows in all of them together */
void sae_leaf_sums(const struct sae *s, struct sae_sums *sums);
void sae_set_leaf_sums(struct sae *s, const struct sae_sums *sums, uint64_t rows);
void sae_project(struct sae *s);                /* parallel part of the decoder's gradient removed */
void sae_adam(struct sae *s, double lr);        /* betas .9 .999, eps 1e-8; t += 1 */
void sae_normalise(struct sae *s);              /* decoder columns to unit norm */
/* project and adam, or normalise, of the values [from, to) of the block alone: whole rows of the decoder, as
 * sae_cut divides it (tree.h) in parts of equal work. */
void sae_update_part(struct sae *s, size_t from, size_t to, double lr);
void sae_normalise_part(struct sae *s, size_t from, size_t to);
size_t sae_cut(const void *sae, size_t from, size_t to);
/* gradients, project, adam: one training step without normalisation. */
void sae_step(struct sae *s, const float *x, size_t N, double lambda, double lr);
/* What batches left behind, in backend memory until it is asked for: sums over `rows` rows, of all leaves here. */
struct sae_tally {
	struct sae_sums sums;
	uint64_t rows;
};
struct sae_tally sae_tally(const struct sae *s);
struct sae_sums sae_add_leaves(const struct sae_sums *sums, size_t n);  /* pairwise, n a power of two */
void sae_set_tally(struct sae *s, const struct sae_tally *t);
/* The tally as means over its rows; the same, and it is empty again */
struct sae_loss sae_means(const struct sae_tally *t, size_t D, double lambda);
struct sae_loss sae_loss(const struct sae *s, double lambda);
struct sae_loss sae_take_loss(struct sae *s, double lambda);
/* Rows with f > 0 per feature in the last pass, to the host (F). */
void sae_fired(struct sae *s, uint32_t *count);
/* Or over batches, whatever was evaluated since: shall the next one add to those before, and their counts. */
void sae_count_on(struct sae *s, bool on);
void sae_batches_fired(const struct sae *s, uint32_t *count);

/* Evaluation: x in backend memory (N,D), N <= max_rows.  sums +=; fired is reset first. */
void sae_encode(struct sae *s, const real *x, size_t N);        /* s->f */
void sae_find_active(struct sae *s, const real *x, size_t N);   /* s->active: what is > 0 of it, or no number */
struct sae_found {              /* the same on the host; zero-initialise, grows, sae_found_free */
	uint32_t *rows, *feats;
	real *f;
	size_t n, cap;
};
void sae_get_active(const struct sae *s, struct sae_found *out);
void sae_found_free(struct sae_found *p);
void sae_reconstruct(struct sae *s, const real *x, size_t N, struct sae_sums *sums);    /* s->xhat, fired */
/* host rows in, host err2 (N) and l1 (N) out: what resampling weighs rows by */
void sae_row_losses(struct sae *s, const float *x, size_t N, float *err2, float *l1);

#endif
