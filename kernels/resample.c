#include "resample.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "heap.h"
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

double resample_apply(struct sae *s, const uint32_t *dead, size_t n_dead, const float *rows, size_t n)
{
	const size_t D = s->D;
	const double mean = mean_alive_norm(s, dead, n_dead);
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

struct resampler {
	struct sae *s;
	struct resample_plan plan;
	size_t block;           /* rows weighed at once */
	uint8_t *presumed;      /* (F) but for what fired in */
	uint64_t unseen;        /* batches since, counted on the device */
	uint32_t *fired, *dead; /* (F) */
	float *x;               /* (block, D) */
	float *err2, *l1;       /* (block) */
	float *drawn;           /* (F, D) */
	struct heap best;       /* the smallest keys, as negated scores */
};

struct resampler *resampler_new(struct sae *s, const struct resample_plan *p, size_t block)
{
	struct resampler *r = xcalloc(1, sizeof(*r));

	r->s = s;
	r->plan = *p;
	r->block = block;
	r->presumed = xcalloc(s->F, sizeof(*r->presumed));
	r->fired = xcalloc(s->F, sizeof(*r->fired));
	r->dead = xcalloc(s->F, sizeof(*r->dead));
	r->x = xcalloc(xmul(block, s->D), sizeof(*r->x));
	r->err2 = xcalloc(block, sizeof(*r->err2));
	r->l1 = xcalloc(block, sizeof(*r->l1));
	r->drawn = xcalloc(xmul(s->F, s->D), sizeof(*r->drawn));
	r->best = heap_new(s->F);
	return r;
}

void resampler_free(struct resampler *r)
{
	free(r->presumed);
	free(r->fired);
	free(r->dead);
	free(r->x);
	free(r->err2);
	free(r->l1);
	free(r->drawn);
	heap_free(&r->best);
	free(r);
}

/* Who fired in the batches counted on the device is not dead. */
uint8_t *resampler_presumed(struct resampler *r)
{
	if (r->unseen)
		sae_batches_fired(r->s, r->fired);
	for (size_t f = 0; r->unseen && f < r->s->F; f++)
		r->presumed[f] &= r->fired[f] == 0;
	return r->presumed;
}

void resampler_watch(struct resampler *r, uint64_t step)
{
	enum { MOST = 255 };    /* batches whose rows 32 bits can count: of 2^24 at most */
	const bool counts = resample_counts(&r->plan, step);
	bool on = counts && resample_counts(&r->plan, step + 1) && !resample_starts(&r->plan, step + 1);

	if (resample_starts(&r->plan, step))
		memset(r->presumed, 1, r->s->F);
	r->unseen += counts;
	if (!on || r->unseen >= MOST) {
		resampler_presumed(r);
		r->unseen = 0;
		on = false;
	}
	sae_count_on(r->s, on);
}

size_t resampler_draw(struct resampler *r, const struct resample_rows *from, double a, double lambda,
		      uint64_t seed, uint64_t event, size_t n, const float **drawn)
{
	const size_t D = r->s->D;

	if (n > r->s->F)
		BUG("%zu rows wanted of at most %zu", n, r->s->F);
	r->best.n = 0;
	r->best.cap = n;
	for (uint64_t row = 0; row < from->n; row += r->block) {
		const size_t block = from->n - row < r->block ? from->n - row : r->block;

		from->read(from->arg, row, block, r->x);
		sae_row_losses(r->s, r->x, block, r->err2, r->l1);
		for (size_t i = 0; i < block; i++) {
			const double w = resample_weight(a, lambda, (double)r->err2[i], (double)r->l1[i]);
			const double key = resample_key(seed, event, row + i, w);
			/* the place of the row that this one would push out */
			const uint64_t place = r->best.n < n ? r->best.n : r->best.item[0].payload;

			if (isfinite(key) && heap_push(&r->best, -key, row + i, place))
				memcpy(r->drawn + place * D, r->x + i * D, D * sizeof(*r->x));
		}
	}
	*drawn = r->drawn;
	return r->best.n;
}

size_t resampler_change(struct resampler *r, const struct resample_rows *from, double a, double lambda,
			uint64_t seed, uint64_t event, size_t *dead)
{
	const float *drawn;

	*dead = 0;
	for (size_t f = 0; f < r->s->F; f++)
		if (r->presumed[f])
			r->dead[(*dead)++] = (uint32_t)f;
	memset(r->presumed, 0, r->s->F);
	if (*dead == 0)
		return 0;
	const size_t n = resampler_draw(r, from, a, lambda, seed, event, *dead, &drawn);

	resample_apply(r->s, r->dead, *dead, drawn, n);
	return n;
}
