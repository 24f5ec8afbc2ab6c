#ifndef RESAMPLE_H
#define RESAMPLE_H
/*
 * resample: neuron resampling (Bricken et al. 2023, appendix), in separate
 * steps: when (schedule), who (dead), with what weight (weights), which rows
 * (draw), and the change itself (apply).
 *
 * Steps count from 0.  Of interval I and R events: at odd multiples of I/2
 * (below R·I) all neurons are presumed dead; each step of the window removes
 * those with f > 0 on any row of its batch; the change follows the step given
 * by the schedule.
 *	RESAMPLE_HEAD: windows [m, m + I/2 …) end at step e·I - 1, where the
 *	change happens (24,999, 49,999, …); RESAMPLE_JAN2024: at e·I, that step's
 *	activity not counted.
 */
#include "sae.h"

enum resample_version { RESAMPLE_HEAD, RESAMPLE_JAN2024 };
struct resample_plan {
	uint64_t interval, events;      /* interval 0 or events 0: never */
	enum resample_version version;
};
bool resample_starts(const struct resample_plan *p, uint64_t step);     /* all presumed dead, before the step counts */
bool resample_counts(const struct resample_plan *p, uint64_t step);     /* the step's activity counts */
/* Event number 0 … R-1 when the change follows this step, else -1. */
int64_t resample_event(const struct resample_plan *p, uint64_t step);

/* weight of a row = (a·err2 + lambda·l1)²; default a = 1/D; the reference used a = 1 */
double resample_weight(double a, double lambda, double err2, double l1);
/* Key of a row in a draw without replacement with probability proportional to weight: the n smallest
 * keys win (Efraimidis and Spirakis 2006: -log(u)/w).  weight 0: +inf. */
double resample_key(uint64_t seed, uint64_t event, uint64_t row, double weight);

/* dead (n_dead) ascending, rows (n,D) host, n <= n_dead: row i goes to neuron dead[i]; where rows are
 * short, the last of the dead stay as they are.  Decoder row = x/max(|x|,1e-12);
 * encoder row = that · 0.2 · mean norm of alive encoder rows (1 when none is alive); b_enc = 0; Adam
 * moments of these rows and entries = 0; b_dec and t untouched.  Returns the mean alive norm. */
double resample_apply(struct sae *s, const uint32_t *dead, size_t n_dead, const float *rows, size_t n);

/*
 * All of it for a training: who is presumed dead, and buffers made once.
 *
 *	struct resampler *r = resampler_new(sae, &plan, 2048);
 *	for each step:
 *		sae_step(…);
 *		resampler_watch(r, step);
 *		if ((event = resample_event(&plan, step)) >= 0)
 *			n = resampler_change(r, &rows, 1.0 / D, lambda, seed, event, &dead);
 */
struct resample_rows {          /* what to draw from */
	uint64_t n;
	void (*read)(void *arg, uint64_t row, size_t n, float *x);      /* in order, blocks; x (n,D) */
	void *arg;
};
struct resampler;
struct resampler *resampler_new(struct sae *s, const struct resample_plan *p, size_t block);    /* borrows s */
void resampler_free(struct resampler *r);
/* After the step's update.  Does not wait for the device but at a window's end and once in a while. */
void resampler_watch(struct resampler *r, uint64_t step);
/* (F) 1: dead so far in this window; waits for the device. */
uint8_t *resampler_presumed(struct resampler *r);
/* Draws up to n rows without replacement; *drawn (n,D), until the next call.  Returns how many: fewer
 * where fewer have a weight above 0. */
size_t resampler_draw(struct resampler *r, const struct resample_rows *from, double a, double lambda,
		      uint64_t seed, uint64_t event, size_t n, const float **drawn);
/* The dead are given rows drawn, the first of them when rows are short; none is presumed dead any
 * more.  Returns how many were changed. */
size_t resampler_change(struct resampler *r, const struct resample_rows *from, double a, double lambda,
			uint64_t seed, uint64_t event, size_t *dead);

#endif
