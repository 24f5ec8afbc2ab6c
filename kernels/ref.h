#ifndef REF_H
#define REF_H
/*
 * ref: pieces of the plain backend that its two files share.  Inline, so that
 * tests can compile both once more with real = double.
 */
#include <math.h>
#include <stdlib.h>

#include "backend.h"
#include "base.h"

void ref_sae(struct backend *b);        /* fills the ops of the autoencoder */

static inline double *doubles(size_t n)        /* zeros; free() them */
{
	return xcalloc(n, sizeof(double));
}

static inline double dot(const real *a, const real *b, size_t n)
{
	double sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += (double)a[i] * (double)b[i];
	return sum;
}

/* y += a x */
static inline void axpy(double *y, double a, const real *x, size_t n)
{
	for (size_t i = 0; i < n; i++)
		y[i] += a * (double)x[i];
}

/* backend.h's clip of values whose squares add up to sumsq */
static inline void clip_to(double norm[2], double sumsq, double max)
{
	norm[0] = sqrt(sumsq);
	norm[1] = max > 0 ? fmin(1, max / (norm[0] + 1e-6)) : 1;
}

static inline void round_to(real *y, const double *x, size_t n)        /* y = x */
{
	for (size_t i = 0; i < n; i++)
		y[i] = (real)x[i];
}

static inline void round_onto(real *y, const double *x, size_t n)      /* y += x */
{
	for (size_t i = 0; i < n; i++)
		y[i] = (real)((double)y[i] + x[i]);
}

#endif
