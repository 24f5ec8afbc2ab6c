#include "resample.h"

#include <math.h>
#include <stdlib.h>

#include "rng.h"

static bool never(const struct resample_plan *p)
{
	return p->interval < 2 || p->events == 0;
}

bool resample_starts(const struct resample_plan *p, uint64_t step)
{
	const uint64_t half = p->interval / 2;

	return !never(p) && step < p->interval * p->events && step % half == 0 && step / half % 2 == 1;
}

bool resample_counts(const struct resample_plan *p, uint64_t step)
{
	return !never(p) && step < p->interval * p->events &&
	       step % p->interval >= p->interval - p->interval / 2;
}

int64_t resample_event(const struct resample_plan *p, uint64_t step)
{
	const uint64_t after = step + (p->version == RESAMPLE_HEAD);

	if (never(p) || after == 0 || after % p->interval || after / p->interval > p->events)
		return -1;
	return (int64_t)(after / p->interval) - 1;
}

double resample_weight(double a, double lambda, double err2, double l1)
{
	const double loss = a * err2 + lambda * l1;

	return loss * loss;
}

double resample_key(uint64_t seed, uint64_t event, uint64_t row, double weight)
{
	return weight > 0 ? -log(rng_uniform(rng_hash(seed, RNG_DRAW, event, row))) / weight : INFINITY;
}

/* Mean norm of the encoder rows of neurons not in dead (n, ascending); 1 when there is none. */
static double mean_alive_norm(struct sae *s, const uint32_t *dead, size_t n)
{
	const struct backend *be = s->be;
	real *norm = be->alloc(s->F * sizeof(*norm)), *host = xcalloc(s->F, sizeof(*host));
	double sum = 0;

	be->row_norms(norm, s->p.enc, s->F, s->D);
	be->get(host, norm, s->F * sizeof(*host));
	for (size_t f = 0, i = 0; f < s->F; f++) {
		if (i < n && dead[i] == f)
			i++;
		else
			sum += (double)host[f];
	}
	be->release(norm);
	free(host);
	return n < s->F ? sum / (double)(s->F - n) : 1;
}

static void forget_moments(struct sae *s, const struct sae_params *moment, size_t f)
{
	s->be->zero(moment->enc + f * s->D, s->D * sizeof(real));
	s->be->zero(moment->dec + f * s->D, s->D * sizeof(real));
	s->be->zero(moment->b_enc + f, sizeof(real));
}

double resample_apply(struct sae *s, const uint32_t *dead, size_t n, const float *rows)
{
	const size_t D = s->D;
	const double mean = mean_alive_norm(s, dead, n);
	real *unit = xcalloc(2 * D, sizeof(*unit)), *scaled = unit + D;

	for (size_t i = 0; i < n; i++) {
		const float *x = rows + i * D;
		const size_t f = dead[i];
		double norm2 = 0;

		for (size_t d = 0; d < D; d++)
			norm2 += (double)x[d] * (double)x[d];
		const double norm = fmax(sqrt(norm2), 1e-12);
		for (size_t d = 0; d < D; d++) {
			unit[d] = (real)((double)x[d] / norm);
			scaled[d] = (real)((double)x[d] / norm * mean * 0.2);
		}
		s->be->put(s->p.dec + f * D, unit, D * sizeof(*unit));
		s->be->put(s->p.enc + f * D, scaled, D * sizeof(*scaled));
		s->be->zero(s->p.b_enc + f, sizeof(real));
		forget_moments(s, &s->m, f);
		forget_moments(s, &s->v, f);
	}
	free(unit);
	return mean;
}
