#ifndef DENSE_H
#define DENSE_H
/*
 * dense: what is active in a dense matrix (rows,F) of activations, with an
 * effect of each: f, or -2f where the entry's number is a multiple of 3.
 *
 *	struct active *a = dense_active(f, rows, F);
 */
#include <stdlib.h>

#include "active.h"
#include "base.h"

static inline struct active *dense_active(const float *f, size_t rows, size_t F)
{
	uint32_t *row = xcalloc(rows * F, sizeof(*row)), *feat = xcalloc(rows * F, sizeof(*feat));
	float *v = xcalloc(rows * F, sizeof(*v)), *effect = xcalloc(rows * F, sizeof(*effect));
	size_t n = 0;

	for (size_t i = 0; i < rows * F; i++)
		if (!(f[i] <= 0)) {
			row[n] = (uint32_t)(i / F);
			feat[n] = (uint32_t)(i % F);
			v[n] = f[i];
			effect[n++] = i % 3 ? f[i] : -2 * f[i];
		}
	struct active *a = active_new(F, n);

	active_fill(a, row, feat, v, effect, n);
	free(row), free(feat), free(v), free(effect);
	return a;
}

#endif
