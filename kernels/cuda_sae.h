#ifndef CUDA_SAE_H
#define CUDA_SAE_H
/*
 * cuda_sae: what the autoencoder's host side asks of its kernels.
 *
 * Sums are over tiles: a strip of SAE_STRIP rows by so many columns, the rows
 * of an array in order of their strips, whatever the number of rows in a call;
 * calls on rows 0 … n and n … N leave the partial sums of one on 0 … N when n
 * is a multiple of SAE_STRIP.  Arrays called void are bf16 when narrow, else
 * float, and lie with their rows ld elements apart, ld a multiple of 8.
 */
#include "cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { SAE_STRIP = 128, SAE_WARPS = 8 };

size_t sae_strips(size_t rows);
size_t sae_tiles(size_t columns);               /* of an array of floats as it came */
size_t sae_latent_tiles(bool narrow, size_t F); /* of latents */

/* xc (N,D) = x - b_dec */
void sae_centre(void *xc, bool narrow, size_t ld, const float *x, const float *b_dec, size_t N, size_t D);
/* err2 (N,tiles) of (xhat - x)²; unless dx is NULL also dx (N,D) = scale (xhat - x) and its sums over
 * strips, columns (strips,D) */
void sae_errors(void *dx, bool narrow, size_t ld, float *err2, float *columns, const float *xhat, const float *x,
		float scale, size_t N, size_t D);
/* Of f (N,F) after the ReLU: l1 (N,tiles) sums of f, l0 (strips,tiles,SAE_WARPS) numbers of f > 0, fired (F)
 * += (or NULL).  Unless dpre is NULL it goes from the gradient of f to that before the ReLU,
 * f > 0 ? dpre + penalty : 0, with its sums over strips, columns (strips,F). */
void sae_latents(void *dpre, bool narrow, const void *f, size_t ld, float *l1, float *l0, float *columns,
		 uint32_t *fired, float penalty, size_t N, size_t F);
/* part (strips of F,D) = -(b enc) over each strip of features */
void sae_through_encoder(float *part, const float *b, const float *enc, size_t F, size_t D);
/* y (N) = sums of the rows of part (N,tiles) */
void sae_add_tiles(float *y, const float *part, size_t N, size_t tiles);

/* offset (N): *found + how many v of the rows before are not <= 0; *found then counts all of f (N,F) too */
void sae_offsets(uint64_t *offset, uint64_t *found, uint32_t *count, const float *f, size_t ld, size_t N, size_t F);
/* Those latents with their row, counted from `row` on, and column: from each row's offset on, below cap. */
void sae_compact(uint32_t *rows, uint32_t *feats, float *v, size_t cap, const uint64_t *offset, const float *f,
		 size_t ld, size_t row, size_t N, size_t F);

#ifdef __cplusplus
}
#endif

#endif
