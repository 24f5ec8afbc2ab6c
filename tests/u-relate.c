/* firings and relate: samples, what was there, whom a feature goes with -- against sorting everything */
#include "relate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "dense.h"
#include "pool.h"
#include "rng.h"

enum { CONTEXTS = 12, T = 20, F = 75, N = CONTEXTS * T, P = 30, IDS = 7, SEED = 5, MANY = 1 << 20 };
static const struct top_shape shape = { .F = F, .N = 6, .A = 4, .B = 3, .P = P };

static struct {
	float f[N * F];
	int32_t idx[N];
} world;

/* Feature 0 is dead, 1 active once, 2 everywhere; every fifth is active where the one before it is. */
static void fill_world(void)
{
	for (size_t n = 0; n < N; n++) {
		world.idx[n] = (int32_t)rng_below(rng_hash(2, RNG_TEST, n, 0), IDS);
		for (size_t k = 0; k < F; k++) {
			const double u = rng_uniform(rng_hash(1, RNG_TEST, n, k)) * 90;

			world.f[n * F + k] = k == 0 || (k == 1 && n != 77) ? 0 : k == 2 ? 1 :
				k % 5 == 4 ? world.f[n * F + k - 1] : u < (double)k ? 1 : 0;
		}
	}
}

static bool fires(size_t n, size_t k)
{
	return world.f[n * F + k] > 0;
}

/* Two passes, `block` contexts at once; saved and loaded behind step save_at. */
static struct firings *run(size_t block, uint64_t limit, size_t save_at)
{
	struct firings *w = firings_new(F, P, SEED, limit);
	size_t steps = 0;

	for (int pass = 0; pass < 2; pass++) {
		if (pass)
			firings_seal(w);
		for (size_t c = 0; c < CONTEXTS; c += block) {
			const size_t rows = (CONTEXTS - c < block ? CONTEXTS - c : block) * T, first = c * T;
			struct active *a = dense_active(world.f + first * F, rows, F);

			if (pass)
				firings_gather(w, a, world.idx + first, rows, T, first);
			else
				firings_scan(w, a, first);
			active_free(a);
			if (++steps != save_at)
				continue;
			struct buf st = { 0 };

			firings_save(w, &st);
			firings_free(w);
			w = firings_new(F, P, SEED, limit);
			firings_load(w, &(struct cursor){ st.p, st.n });
			buf_free(&st);
		}
	}
	return w;
}

static bool same(size_t block, uint64_t limit, size_t save_at)
{
	struct firings *x = run(CONTEXTS, limit, 0), *y = run(block, limit, save_at);
	struct buf a = { 0 }, b = { 0 };

	firings_save(x, &a);
	firings_save(y, &b);
	const bool equal = a.n == b.n && !memcmp(a.p, b.p, a.n);

	buf_free(&a), buf_free(&b);
	firings_free(x), firings_free(y);
	return equal;
}

/* ---- the sample ---- */

struct token {
	double hash;
	size_t n;
};

static int by_hash(const void *a, const void *b)
{
	const struct token *x = a, *y = b;

	return (x->hash > y->hash) - (x->hash < y->hash);
}

/* The `most` firings of smallest hash; how many there are. */
static size_t sample(size_t k, size_t most, struct token t[N])
{
	size_t found = 0;

	for (size_t n = 0; n < N; n++)
		if (fires(n, k))
			t[found++] = (struct token){ rng_uniform(rng_hash(SEED, RNG_SAMPLE, k, n)), n };
	qsort(t, found, sizeof(*t), by_hash);
	return found < most ? found : most;
}

static bool firing_right(const struct firing *x, size_t n)
{
	size_t at = 0;
	bool ok = x->around[1] == world.idx[n];

	ok = ok && x->around[0] == (n % T ? world.idx[n - 1] : TOP_NO_TOKEN);
	ok = ok && x->around[2] == (n % T + 1 < T ? world.idx[n + 1] : TOP_NO_TOKEN);
	for (size_t k = 0; k < F; k++)
		if (fires(n, k))
			ok = ok && at < x->n && x->who[at++] == k;
	return ok && at == x->n;
}

static bool firings_right(const struct firings *w)
{
	struct token t[N];
	bool ok = true;

	for (size_t k = 0; k < F; k++) {
		const size_t m = sample(k, w->P, t);

		ok = ok && firings_count(w, k) == m;
		for (size_t i = 0; ok && i < m; i++) {
			const struct firing x = firings_at(w, k, i);

			ok = w->heaps[k].item[i].tie == t[i].n && firing_right(&x, t[i].n);
		}
	}
	return ok;
}

static void check_firings(void)
{
	struct firings *w = run(1, MANY, 0);

	check(firings_right(w) && w->P == P, "the firings of smallest hash, what was there");
	const uint64_t all = w->start[w->done];

	firings_free(w);
	for (size_t limit = all; limit > 0; limit = limit * 2 / 3) {
		w = run(2, limit, 0);
		if (!firings_right(w) || (w->P > 1 && w->start[w->done] > limit) || (limit == all && w->P < P))
			break;
		firings_free(w);
		w = NULL;
	}
	check(!w, "less memory, a smaller sample");
	firings_free(w);
	w = run(3, 0, 0);
	check(w->P == 1 && firings_right(w), "one of each at least");
	firings_free(w);
	check(same(1, MANY, 0) && same(5, MANY, 0), "blocks of another size: the same");
	check(same(1, all / 3, 0) && same(5, all / 3, 0), "... with little memory, too");
	check(same(2, MANY, 3), "saved and loaded in the first pass: the same");
	check(same(2, MANY, 6) && same(2, MANY, 9), "... in the second");
	check(same(1, all / 3, 14) && same(1, all / 3, 20), "... with little memory");
	check(firings_fit(4096, 256) == 256 && firings_fit(1 << 17, 256) == 85 && firings_fit(1 << 28, 256) == 1,
	      "the more features, the smaller the sample");
}

/* ---- company ---- */

struct ranked {
	double score;
	uint32_t id, count;
};

static int by_score(const void *a, const void *b)
{
	const struct ranked *x = a, *y = b;

	if (x->score != y->score)
		return x->score < y->score ? 1 : -1;
	return (x->id > y->id) - (x->id < y->id);
}

static bool together_right(const struct relate *r, size_t k, const uint32_t *active)
{
	struct token t[N];
	struct ranked g[F];
	const size_t m = sample(k, P, t);
	size_t n = 0;
	bool ok = r->sampled[k] == m;

	for (uint32_t j = 0; j < F; j++) {
		uint32_t count = 0;

		for (size_t i = 0; i < m; i++)
			count += fires(t[i].n, j);
		const double both = (double)count / (double)(m ? m : 1) * active[k];

		if (count && j != k)
			g[n++] = (struct ranked){ both / ((double)active[k] + active[j] - both), j, count };
	}
	qsort(g, n, sizeof(*g), by_score);
	for (size_t i = 0; i < shape.N; i++) {
		const uint32_t who = r->together[k * shape.N + i];
		const float share = r->together_share[k * shape.N + i];

		ok = ok && (i < n ? who == g[i].id && share == (float)((double)g[i].count / (double)m) :
			who == TOP_NONE && share == 0);
	}
	return ok;
}

static bool around_right(const struct relate *r, size_t k, int side)
{
	struct token t[N];
	struct ranked g[IDS];
	const size_t m = sample(k, P, t);
	size_t n = 0;
	bool ok = true;

	for (uint32_t id = 0; id < IDS; id++) {
		uint32_t count = 0;

		for (size_t i = 0; i < m; i++) {
			const size_t place = t[i].n % T;

			if (side == 0 ? place > 0 : side == 2 ? place + 1 < T : true)
				count += world.idx[t[i].n + (size_t)side - 1] == (int32_t)id;
		}
		if (count)
			g[n++] = (struct ranked){ count, id, count };
	}
	qsort(g, n, sizeof(*g), by_score);
	for (size_t i = 0; i < shape.B; i++) {
		const uint16_t id = r->around[side][k * shape.B + i];
		const uint32_t count = r->around_count[side][k * shape.B + i];

		ok = ok && (i < n ? id == g[i].id && count == g[i].count : id == TOP_NO_TOKEN && count == 0);
	}
	return ok;
}

static void check_company(void)
{
	static const char *const names[] = { "before", "at", "after" };
	struct firings *w = run(4, MANY, 0);
	struct relate r = relate_new(&shape);
	uint32_t active[F] = { 0 };
	bool together = true;

	for (size_t i = 0; i < N * F; i++)
		active[i % F] += fires(i / F, i % F);
	relate_firings(&r, w, active);
	for (size_t k = 0; k < F; k++)
		together = together && together_right(&r, k, active);
	check(together, "features most often together");
	for (int side = 0; side < 3; side++) {
		bool ok = true;

		for (size_t k = 0; k < F; k++)
			ok = ok && around_right(&r, k, side);
		check(ok, "tokens most often %s", names[side]);
	}
	relate_free(&r);
	firings_free(w);
}

/* ---- decoder columns ---- */

enum { D = 36, COLUMNS = 150 };

static double cosine(const float *a, const float *b)
{
	double ab = 0, aa = 0, bb = 0;

	for (size_t d = 0; d < D; d++) {
		ab += (double)a[d] * b[d];
		aa += (double)a[d] * a[d];
		bb += (double)b[d] * b[d];
	}
	return ab / sqrt(aa * bb);
}

/* Listed are N others, values theirs and descending; whoever is not listed is no larger. */
static bool near_right(const struct relate *r, const float *dec, size_t k, size_t zero)
{
	const uint32_t *who = r->near + k * r->s.N;
	const float *cos = r->near_cos + k * r->s.N;
	const size_t others = k == zero ? 0 : COLUMNS - 2, n = others < r->s.N ? others : r->s.N;
	bool listed[COLUMNS] = { false }, ok = true;

	for (size_t i = 0; i < r->s.N; i++) {
		if (i >= n) {
			ok = ok && who[i] == TOP_NONE && cos[i] == 0;
			continue;
		}
		ok = ok && who[i] < COLUMNS && who[i] != k && who[i] != zero && !listed[who[i]];
		ok = ok && fabs(cos[i] - cosine(dec + k * D, dec + who[i] * D)) < 1e-5 && (!i || cos[i] <= cos[i - 1]);
		if (ok)
			listed[who[i]] = true;
	}
	for (size_t g = 0; ok && n && g < COLUMNS; g++)
		ok = listed[g] || g == k || g == zero || cosine(dec + k * D, dec + g * D) < (double)cos[n - 1] + 1e-5;
	return ok;
}

static bool align_right(const struct relate *r, const float *dec, size_t k, size_t zero)
{
	const uint32_t *which = r->align + k * r->s.A;
	const float *value = r->align_value + k * r->s.A, *column = dec + k * D;
	const size_t n = k == zero ? 0 : r->s.A < D ? r->s.A : D;
	double length = 0;
	bool ok = true;

	for (size_t d = 0; d < D; d++)
		length += (double)column[d] * column[d];
	for (size_t i = 0; i < r->s.A; i++) {
		size_t before = 0;

		if (i >= n) {
			ok = ok && which[i] == TOP_NONE && value[i] == 0;
			continue;
		}
		for (size_t d = 0; d < D; d++)
			before += fabsf(column[d]) > fabsf(column[which[i]]) ||
				(fabsf(column[d]) == fabsf(column[which[i]]) && d < which[i]);
		ok = ok && before == i && fabs(value[i] - column[which[i]] / sqrt(length)) < 1e-6;
	}
	return ok;
}

static void check_decoder(const char *device, size_t near, size_t align)
{
	const struct backend *be = backend_open(device, "auto");
	const struct top_shape s = { .F = COLUMNS, .N = near, .A = align, .B = 1 };
	struct sae *net = sae_new(be, D, COLUMNS, 1, SAE_EVAL);
	struct relate r = relate_new(&s);
	float *dec = xcalloc(COLUMNS * D, sizeof(*dec));
	enum { ZERO = 40 };
	bool near_ok = true, align_ok = true;

	for (size_t i = 0; i < COLUMNS * D; i++)        /* of few values, so that sizes are equal; of any norm */
		dec[i] = i / D == ZERO ? 0 : (float)((double)rng_below(rng_hash(3, RNG_TEST, i, 0), 21) - 10) * (float)(1 + i / D % 7);
	be->put(net->p.dec, dec, COLUMNS * D * sizeof(*dec));
	relate_decoder(&r, net);
	for (size_t k = 0; k < COLUMNS; k++) {
		near_ok = near_ok && near_right(&r, dec, k, ZERO);
		align_ok = align_ok && align_right(&r, dec, k, ZERO);
	}
	check(near_ok, "%s: the %zu nearest columns", device, near);
	check(align_ok, "%s: the %zu largest entries", device, align);
	free(dec);
	relate_free(&r);
	sae_free(net);
}

int main(void)
{
	pool_start(3);
	base_quiet = true;
	fill_world();
	check_firings();
	check_company();
	check_decoder("ref", 8, 5);
	check_decoder("cpu", 8, 5);
	check_decoder("cpu", 200, 50);
	return check_done();
}
