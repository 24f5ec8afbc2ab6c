/* u-resample: schedules, draws by their distribution, the change itself */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "pool.h"
#include "resample.h"

static const struct backend *be;

/* ---- when ---- */

static void test_schedule(void)
{
	const struct resample_plan head = { 25000, 4, RESAMPLE_HEAD }, jan = { 25000, 4, RESAMPLE_JAN2024 };
	uint64_t starts = 0, counts = 0, events = 0;
	bool alike = true;

	check(resample_event(&head, 24999) == 0 && resample_event(&head, 99999) == 3 &&
	      resample_event(&head, 124999) == -1, "events end with the last");
	check(resample_event(&jan, 25000) == 0 && resample_event(&jan, 24999) == -1 &&
	      resample_event(&jan, 0) == -1, "January's event is a step later, and none at 0");
	for (uint64_t k = 0; k < 200000; k++) {
		starts += resample_starts(&head, k);
		counts += resample_counts(&head, k);
		events += resample_event(&head, k) >= 0;
		alike = alike && resample_starts(&head, k) == resample_starts(&jan, k) &&
			resample_counts(&head, k) == resample_counts(&jan, k);
	}
	check(starts == 4 && counts == 4 * 12500 && events == 4, "4 starts, 4 windows of 12500 steps, 4 events");
	check(alike, "windows of both versions are alike");
	for (size_t i = 0; i < 3; i++) {
		const struct resample_plan none = { i == 0 ? 0 : i == 1 ? 10 : 1, i == 1 ? 0 : 5, RESAMPLE_HEAD };
		bool any = false;

		for (uint64_t k = 0; k < 100; k++)
			any = any || resample_starts(&none, k) || resample_counts(&none, k) || resample_event(&none, k) >= 0;
		check(!any, "interval %d, %d events: never", (int)none.interval, (int)none.events);
	}
}

/* ---- which rows ---- */

/* D = 1 and no features: row x is reconstructed as 0, so that its weight is x^4 (a = 1). */
static void read_rows(void *arg, uint64_t row, size_t n, float *x)
{
	memcpy(x, (const float *)arg + row, n * sizeof(*x));
}

enum { ROWS = 6, DRAWS = 20000 };
static const double weight[ROWS] = { 1, 4, 0, 2, 8, 1 };

static void test_draw_one(struct resampler *r, const struct resample_rows *rows)
{
	double count[ROWS] = { 0 }, chi2 = 0, total = 0;
	const float *drawn, *all = rows->arg;

	for (size_t i = 0; i < ROWS; i++)
		total += weight[i];
	for (uint64_t e = 0; e < DRAWS; e++) {
		const size_t n = resampler_draw(r, rows, 1, 0, 7, e, 1, &drawn);

		for (size_t i = 0; n == 1 && i < ROWS; i++)
			if (drawn[0] == all[i]) {
				count[i]++;
				break;
			}
	}
	count[0] /= 2; /* rows 0 and 5 are equal, and were counted together */
	count[5] = count[0];
	for (size_t i = 0; i < ROWS; i++) {
		const double want = DRAWS * weight[i] / total;

		if (want > 0)
			chi2 += (count[i] - want) * (count[i] - want) / want;
	}
	check(count[2] == 0, "a row of weight 0 is never drawn");
	check(chi2 < 20, "one row: probability proportional to weight (chi2 %.1f)", chi2);
}

/* Without replacement, one after the other: P(i in the first two). */
static double included(size_t i, double total)
{
	double p = weight[i] / total;

	for (size_t j = 0; j < ROWS; j++)
		if (j != i)
			p += weight[j] / total * weight[i] / (total - weight[j]);
	return p;
}

static void test_draw_two(struct resampler *r, const struct resample_rows *rows)
{
	double count[ROWS] = { 0 }, worst = 0;
	const float *drawn, *all = rows->arg;
	size_t twice = 0;

	for (uint64_t e = 0; e < DRAWS; e++) {
		resampler_draw(r, rows, 1, 0, 8, e, 2, &drawn);
		for (size_t i = 1; i < 5; i++) /* rows 0 and 5 cannot be told apart */
			count[i] += (drawn[0] == all[i]) + (drawn[1] == all[i]);
		twice += drawn[0] == drawn[1] && drawn[0] != all[0];
	}
	for (size_t i = 1; i < 5; i++) {
		const double p = included(i, 16), sigma = sqrt(DRAWS * p * (1 - p)) + 1e-9;

		worst = fmax(worst, fabs(count[i] - DRAWS * p) / sigma);
	}
	check(twice == 0, "no row is drawn twice");
	check(worst < 4, "two rows: without replacement (worst %.1f sigma)", worst);
}

static void test_draw(void)
{
	struct sae *s = sae_new(be, 1, 8, 4, SAE_TRAIN);
	const struct resample_plan plan = { 10, 2, RESAMPLE_HEAD };
	float x[ROWS];
	const struct resample_rows rows = { ROWS, read_rows, x };
	const float *drawn;

	for (size_t i = 0; i < ROWS; i++)
		x[i] = (float)pow(weight[i], 0.25);
	for (size_t block = 3; block <= 4; block++) {
		struct resampler *r = resampler_new(s, &plan, block);

		test_draw_one(r, &rows);
		test_draw_two(r, &rows);
		check(resampler_draw(r, &rows, 1, 0, 1, 0, 8, &drawn) == 5, "no more than there are rows with weight");
		resampler_free(r);
	}
	sae_free(s);
	check(resample_weight(0.5, 0.25, 4, 8) == 16, "weight is (a err2 + lambda l1)²");
	check(isinf(resample_key(1, 2, 3, 0)) && resample_key(1, 2, 3, 0) > 0, "weight 0: key +inf");
}

/* ---- the change ---- */

enum { D = 5, F = 7 };

static void randomise(struct sae *s)
{
	const size_t n[4] = { F * D, F, F * D, D };
	real *const part[3][4] = { { s->p.enc, s->p.b_enc, s->p.dec, s->p.b_dec },
		{ s->m.enc, s->m.b_enc, s->m.dec, s->m.b_dec }, { s->v.enc, s->v.b_enc, s->v.dec, s->v.b_dec } };
	float x[F * D];

	for (size_t k = 0; k < 3; k++)
		for (size_t p = 0; p < 4; p++) {
			for (size_t i = 0; i < n[p]; i++)
				x[i] = (float)sin((double)(1 + i + 100 * p + 1000 * k));
			be->put(part[k][p], x, n[p] * sizeof(*x));
		}
	s->t = 12;
}

struct copy {
	float enc[F * D], b_enc[F], dec[F * D], b_dec[D];
};

static struct copy copy(const struct sae_params *p)
{
	struct copy c;

	be->get(c.enc, p->enc, sizeof(c.enc));
	be->get(c.b_enc, p->b_enc, sizeof(c.b_enc));
	be->get(c.dec, p->dec, sizeof(c.dec));
	be->get(c.b_dec, p->b_dec, sizeof(c.b_dec));
	return c;
}

static double norm(const float *x)
{
	double sum = 0;

	for (size_t d = 0; d < D; d++)
		sum += (double)x[d] * (double)x[d];
	return sqrt(sum);
}

static bool is_zero(const float *x, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (x[i] != 0)
			return false;
	return true;
}

/* Row f of the copies is as in `before`, in weights and both moments. */
static bool untouched(const struct copy before[3], const struct copy after[3], size_t f)
{
	bool same = true;

	for (size_t k = 0; k < 3; k++)
		same = same && !memcmp(before[k].enc + f * D, after[k].enc + f * D, D * 4) &&
		       !memcmp(before[k].dec + f * D, after[k].dec + f * D, D * 4) &&
		       before[k].b_enc[f] == after[k].b_enc[f] && !memcmp(before[k].b_dec, after[k].b_dec, D * 4);
	return same;
}

static bool forgotten(const struct copy *m, size_t f)
{
	return is_zero(m->enc + f * D, D) && is_zero(m->dec + f * D, D) && m->b_enc[f] == 0;
}

static void test_apply(void)
{
	struct sae *s = sae_new(be, D, F, 4, SAE_TRAIN);
	const uint32_t dead[2] = { 1, 4 };
	float rows[2 * D];
	double mean = 0;
	bool others = true;

	randomise(s);
	for (size_t i = 0; i < 2 * D; i++)
		rows[i] = (float)i - 3;
	const struct copy before[3] = { copy(&s->p), copy(&s->m), copy(&s->v) };
	const double got = resample_apply(s, dead, 2, rows, 2);
	const struct copy after[3] = { copy(&s->p), copy(&s->m), copy(&s->v) };

	for (size_t f = 0; f < F; f++)
		if (f != 1 && f != 4) {
			mean += norm(before[0].enc + f * D) / (F - 2);
			others = others && untouched(before, after, f);
		}
	check(fabs(got - mean) < 1e-6, "mean norm of alive encoder rows");
	check(others, "living neurons, b_dec and its moments untouched");
	check(s->t == 12, "Adam's step counter untouched");
	for (size_t i = 0; i < 2; i++) {
		const size_t f = dead[i];
		const double scale = norm(rows + i * D);
		bool along = true;

		for (size_t d = 0; d < D; d++)
			along = along && fabs((double)after[0].dec[f * D + d] - (double)rows[i * D + d] / scale) < 1e-6;
		check(along, "decoder row %zu is its row's direction", f);
		check(fabs(norm(after[0].enc + f * D) - 0.2 * mean) < 1e-6, "encoder row %zu has 0.2 of the mean norm", f);
		check(after[0].b_enc[f] == 0, "encoder bias %zu is 0", f);
		check(forgotten(&after[1], f) && forgotten(&after[2], f), "moments of %zu are 0", f);
	}
	sae_free(s);
}

static void read_ones(void *arg, uint64_t row, size_t n, float *x)
{
	(void)arg, (void)row;
	for (size_t i = 0; i < n * D; i++)
		x[i] = 1;
}

/* A neuron fires where b_enc is positive: weights are 0. */
static void set_firing(struct sae *s, const float *b_enc)
{
	be->put(s->p.b_enc, b_enc, F * sizeof(*b_enc));
}

static void test_watch(void)
{
	struct sae *s = sae_new(be, D, F, 4, SAE_TRAIN);
	const struct resample_plan plan = { 6, 2, RESAMPLE_HEAD };
	struct resampler *r = resampler_new(s, &plan, 2);
	const float x[2 * D] = { 1, 2, 3, 4, 5, 6 };
	const uint8_t want[F] = { 1, 0, 1, 0, 1, 1, 1 }, none[F] = { 0 };
	const struct resample_rows rows = { 3, read_ones, NULL };
	size_t dead;

	for (uint64_t k = 0; k < 6; k++) { /* 0 fires before the window, 1 and 3 within, 2 never */
		const float b[F] = { k < 3 ? 1 : -1, k == 3 ? 1 : -1, -1, k == 5 ? 1 : -1, -1, -1, -1 };

		set_firing(s, b);
		sae_gradients(s, x, 2, 0);
		resampler_watch(r, k);
	}
	check(!memcmp(resampler_presumed(r), want, F), "dead: who fired in no batch of the window");
	check(resampler_change(r, &rows, 1, 0, 1, 0, &dead) == 3 && dead == 5, "more dead than rows: the first of them");
	const struct copy after = copy(&s->p);
	check(norm(after.dec) > 0.99 && norm(after.dec + 2 * D) > 0.99 && norm(after.dec + 4 * D) > 0.99 &&
	      is_zero(after.dec + 5 * D, 2 * D), "... are changed, the others not");
	check(!memcmp(resampler_presumed(r), none, F), "nobody is presumed dead afterwards");
	check(resampler_change(r, &rows, 1, 0, 1, 1, &dead) == 0 && dead == 0, "no dead: no change");
	resampler_free(r);
	sae_free(s);
}

/* Of three dead one gets a row: the two others are no living neurons, and stay as they are. */
static void test_short_of_rows(void)
{
	struct sae *s = sae_new(be, D, F, 4, SAE_TRAIN);
	const uint32_t dead[3] = { 0, 2, 5 };
	const float row[D] = { 1 };
	double mean = 0;

	randomise(s);
	const struct copy before[3] = { copy(&s->p), copy(&s->m), copy(&s->v) };
	const double got = resample_apply(s, dead, 3, row, 1);
	const struct copy after[3] = { copy(&s->p), copy(&s->m), copy(&s->v) };

	for (size_t f = 0; f < F; f++)
		mean += f == 0 || f == 2 || f == 5 ? 0 : norm(before[0].enc + f * D) / (F - 3);
	check(fabs(got - mean) < 1e-6, "rows are short: the dead without one are not alive");
	check(untouched(before, after, 2) && untouched(before, after, 5) && !untouched(before, after, 0),
	      "... and stay as they are");
	sae_free(s);
}

static void test_all_dead(void)
{
	struct sae *s = sae_new(be, D, F, 4, SAE_TRAIN);
	uint32_t dead[F];
	float rows[F * D];

	for (uint32_t i = 0; i < F; i++)
		dead[i] = i;
	for (size_t i = 0; i < F * D; i++)
		rows[i] = 2;
	check(resample_apply(s, dead, F, rows, F) == 1, "all dead: the mean norm counts as 1");
	check(fabs(norm(copy(&s->p).enc) - 0.2) < 1e-6, "... encoder rows of norm 0.2");
	sae_free(s);
}

int main(void)
{
	static const char *const backends[] = { "ref", "cpu" };

	pool_start(2);
	base_quiet = true;
	test_schedule();
	for (size_t b = 0; b < ARRAY_LEN(backends); b++) {
		be = backend_open(backends[b], "f32");
		test_draw();
		test_apply();
		test_watch();
		test_short_of_rows();
		test_all_dead();
	}
	return check_done();
}
