/* examples: counts, histograms, strongest and sampled tokens against sorting everything */
#include "examples.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "dense.h"
#include "dies.h"
#include "pool.h"
#include "rng.h"

enum { CONTEXTS = 12, T = 20, F = 150, N = CONTEXTS * T, SEED = 5 };
static const struct top_shape shape = { .F = F, .K = 6, .I = 4, .M = 3, .R = 2, .RT = 5, .H = 9 };
enum { E = 6 + 4 * 3, CELLS = 6 * 11 + 4 * 3 * 5 };

/* Feature 0 is dead, 1 active once, 2 everywhere and always equal; others more or less often. */
static float *activations(void)
{
	float *f = xcalloc(N * F, sizeof(*f));

	for (size_t n = 0; n < N; n++)
		for (size_t k = 0; k < F; k++) {
			const double u = rng_uniform(rng_hash(1, RNG_TEST, n, k)) * 50;

			f[n * F + k] = k == 0 || (k == 1 && n != 77) ? 0 : k == 2 ? 0.7f :
				u < (double)k ? (float)(0.125 * floor(u) + 0.125) : 0;
		}
	return f;
}

static struct examples *run(const float *f, size_t block, size_t save_at)
{
	struct examples *x = examples_new(&shape, SEED);
	size_t steps = 0;

	for (int pass = 0; pass < 2; pass++)
		for (size_t c = 0; c < CONTEXTS; c += block) {
			const size_t n = CONTEXTS - c < block ? CONTEXTS - c : block;

			struct active *a = dense_active(f + c * T * F, n * T, F);

			if (pass == 0)
				examples_scan(x, a);
			else
				examples_pick(x, a, T, c * T);
			active_free(a);
			if (++steps == save_at) {
				struct buf st = { 0 };

				examples_save(x, &st);
				examples_free(x);
				x = examples_new(&shape, SEED);
				examples_load(x, &(struct cursor){ st.p, st.n });
				buf_free(&st);
			}
		}
	examples_finish(x);
	return x;
}

static bool same(const struct examples *x, const struct examples *y)
{
	return !memcmp(x->active, y->active, F * sizeof(*x->active)) &&
	       !memcmp(x->max, y->max, F * sizeof(*x->max)) && !memcmp(x->sum, y->sum, F * sizeof(*x->sum)) &&
	       !memcmp(x->effect, y->effect, 2 * F * sizeof(*x->effect)) &&
	       !memcmp(x->hist, y->hist, F * shape.H * sizeof(*x->hist)) &&
	       !memcmp(x->interval, y->interval, F * shape.I * sizeof(*x->interval)) &&
	       !memcmp(x->centre, y->centre, F * E * sizeof(*x->centre)) &&
	       !memcmp(x->acts, y->acts, F * CELLS * sizeof(*x->acts));
}

/* ---- the same by sorting everything ---- */

struct token {
	double score;
	float v;
	uint32_t token;
};

static int by_score(const void *a, const void *b)
{
	const struct token *x = a, *y = b;

	if (x->score != y->score)
		return x->score < y->score ? 1 : -1;
	return (x->token > y->token) - (x->token < y->token);
}

static bool statistics_right(const struct examples *x, const float *f, size_t k)
{
	uint32_t active = 0, hist[9] = { 0 }, interval[4] = { 0 };
	float max = 0;
	double sum = 0, effect = 0, size = 0;

	for (size_t n = 0; n < N; n++)
		max = fmaxf(max, f[n * F + k]);
	for (size_t n = 0; n < N; n++) {
		const double v = f[n * F + k];

		active += v > 0;
		sum += v;
		effect += (n * F + k) % 3 ? v : -2 * v;
		size += (n * F + k) % 3 ? v : 2 * v;
		for (size_t j = 0; j < 9; j++)
			hist[j] += v > (double)max * (double)j / 9 && v <= (double)max * (double)(j + 1) / 9;
		for (size_t i = 0; i < 4; i++)
			interval[i] += v > (double)max * (double)(3 - i) / 4 && v <= (double)max * (double)(4 - i) / 4;
	}
	return active == x->active[k] && max == x->max[k] && fabs(sum - x->sum[k]) < 1e-9 &&
	       fabs(effect - x->effect[2 * k]) < 1e-9 && fabs(size - x->effect[2 * k + 1]) < 1e-9 &&
	       !memcmp(hist, x->hist + k * 9, sizeof(hist)) &&
	       !memcmp(interval, x->interval + k * 4, sizeof(interval));
}

/* Tokens of (lo, hi], those of the n largest scores, then by activation; against examples from `at`. */
static bool group_right(const struct examples *x, const float *f, size_t k, double lo, double hi, bool sample,
			size_t n, size_t at)
{
	struct token t[N];
	size_t found = 0;
	bool ok = true;

	for (uint32_t i = 0; i < N; i++) {
		const float v = f[i * F + k];
		const double hash = rng_uniform(rng_hash(SEED, RNG_SAMPLE, k, i));

		if (v > lo && v <= hi)
			t[found++] = (struct token){ sample ? 1 - hash : v, v, i };
	}
	qsort(t, found, sizeof(*t), by_score);
	found = found < n ? found : n;
	for (size_t i = 0; i < found; i++)
		t[i].score = t[i].v;
	qsort(t, found, sizeof(*t), by_score);
	for (size_t i = 0; i < n; i++)
		ok = ok && x->centre[k * E + at + i] == (i < found ? t[i].token : TOP_NO_EXAMPLE);
	return ok;
}

static bool windows_right(const struct examples *x, const float *f, size_t k)
{
	const float *acts = x->acts + k * CELLS;
	bool ok = true;

	for (size_t e = 0; e < E; e++) {
		const uint32_t centre = x->centre[k * E + e];
		const int64_t radius = e < shape.K ? 5 : 2;

		for (int64_t n = (int64_t)centre - radius; n <= (int64_t)centre + radius; n++) {
			const bool inside = centre != TOP_NO_EXAMPLE && n >= 0 && n / T == centre / T;

			ok = ok && *acts++ == (inside ? f[(size_t)n * F + k] : 0);
		}
	}
	return ok && acts == x->acts + (k + 1) * CELLS;
}

static void check_all(const struct examples *x, const float *f)
{
	bool statistics = true, strongest = true, samples = true, windows = true;

	for (size_t k = 0; k < F; k++) {
		const double a = x->max[k];

		statistics = statistics && statistics_right(x, f, k);
		strongest = strongest && group_right(x, f, k, 0, INFINITY, false, shape.K, 0);
		for (size_t i = 0; i < shape.I; i++)
			samples = samples && group_right(x, f, k, a * (double)(3 - i) / 4, a * (double)(4 - i) / 4,
				true, shape.M, shape.K + i * shape.M);
		windows = windows && windows_right(x, f, k);
	}
	check(statistics, "counts, maxima, histograms, intervals");
	check(strongest, "strongest tokens");
	check(samples, "samples of intervals");
	check(windows, "windows");
}

static void check_bins(void)
{
	bool ok = true;

	for (size_t n = 1; n < 60; n++)
		for (uint64_t i = 1; i < 200; i++) {
			const float max = (float)exp(20 * rng_uniform(rng_hash(8, RNG_TEST, n, i)) - 10);
			const float v = i % 3 ? max * (float)rng_uniform(rng_hash(9, RNG_TEST, n, i)) :
				max * (float)(i % n + 1) / (float)n;
			const size_t j = examples_bin(v, max, n);

			ok = ok && j < n && v > max * (double)j / (double)n - (v > 0 ? 0 : 1) &&
			     (v <= (double)max * (double)(j + 1) / (double)n || (j == n - 1 && v > max));
		}
	check(ok, "bins are half open");
	check(examples_bin(3, 3, 12) == 11, "the maximum is in the last bin");
	check(examples_bin(1.5, 3, 12) == 5, "an upper edge belongs to its bin");
	check(examples_bin(nextafter(1.5, 2), 3, 12) == 6, "what is above it to the next");
	check(examples_bin(1e-45f, 3, 12) == 0, "the smallest number is in the first");
}

static void scan_with(void *value)
{
	float *f = activations();

	f[7 * F + 3] = *(float *)value;
	examples_scan(examples_new(&shape, SEED), dense_active(f, N, F));
}

int main(void)
{
	float *f = activations(), bad[2] = { NAN, INFINITY };

	for (size_t i = 0; i < 2; i++)
		dies("an activation that is not finite", "activation of feature 3 is not finite", scan_with, &bad[i]);

	pool_start(3);
	struct examples *x = run(f, 1, 0), *y = run(f, 5, 0), *z = run(f, 2, 3), *u = run(f, 2, 9);

	check_all(x, f);
	check(same(x, y), "blocks of another size: the same");
	check(same(x, z), "saved and loaded in the first pass: the same");
	check(same(x, u), "saved and loaded in the second: the same");
	check_bins();
	examples_free(x), examples_free(y), examples_free(z), examples_free(u);
	free(f);
	return check_done();
}
