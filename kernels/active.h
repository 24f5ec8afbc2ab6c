#ifndef ACTIVE_H
#define ACTIVE_H
/*
 * active: activations of some rows, feature by feature, without those that
 * are 0: what statistics and examples walk over.
 *
 *	struct active *a = active_new(F, n);
 *	active_fill(a, rows, feats, f, effect, n);      (entries by row, then feature)
 *	for (uint32_t i = a->start[k]; i < a->start[k + 1]; i++)
 *		… a->f[i] of feature k at row a->row[i], ascending
 *	active_free(a);
 */
#include <stddef.h>
#include <stdint.h>

struct active {
	size_t F;
	uint32_t *start;        /* (F+1) */
	uint32_t *row;          /* (start[F]) */
	float *f, *effect;      /* its activation, and what that does to the next token's logit */
};

struct active *active_new(size_t F, size_t n);
void active_free(struct active *a);     /* NULL: nothing */
/* n entries, as many as it was made for */
void active_fill(struct active *a, const uint32_t *rows, const uint32_t *feats, const float *f,
		 const float *effect, size_t n);
size_t active_bytes(const struct active *a);

#endif
