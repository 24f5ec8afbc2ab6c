/* rows: windows, positions, order, bins, replay */
#include "rows.h"

#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "pool.h"

static const struct rows base = {
	.seed = 7, .contexts = 300, .samples = 5, .block = 40, .windows = 1000, .bins = 1
};

static void check_windows(void)
{
	const struct rows r = { .seed = 3, .contexts = 100, .samples = 1, .block = 8, .windows = 100, .bins = 1 };
	bool seen[100] = { false }, distinct = true, aligned = true;
	size_t fixed = 0;

	for (uint64_t c = 0; c < r.contexts; c++) {
		const uint64_t at = rows_window(&r, c);

		aligned = aligned && at % r.block == 0 && at / r.block < r.windows;
		distinct = distinct && !seen[at / r.block];
		seen[at / r.block] = true;
		fixed += at == c * r.block;
	}
	check(aligned && distinct, "contexts are distinct windows");
	check(fixed < 8, "in another order than the text's: %zu of 100 in place", fixed);
}

/* Every position of a context is as likely as any other. */
static void check_positions(void)
{
	const struct rows r = { .seed = 3, .contexts = 20000, .samples = 5, .block = 40, .windows = 20000, .bins = 1 };
	uint64_t count[40] = { 0 };
	uint32_t pos[40];
	bool ascending = true;
	double chi2 = 0;

	for (uint64_t c = 0; c < r.contexts; c++) {
		rows_positions(&r, c, pos);
		for (size_t j = 0; j < r.samples; j++) {
			ascending = ascending && pos[j] < r.block && (j == 0 || pos[j] > pos[j - 1]);
			count[pos[j]]++;
		}
	}
	check(ascending, "positions are distinct and ascending");
	for (size_t t = 0; t < r.block; t++) {
		const double mean = (double)(r.contexts * r.samples) / (double)r.block;

		chi2 += ((double)count[t] - mean) * ((double)count[t] - mean) / mean;
	}
	check(chi2 > 15 && chi2 < 75, "positions are uniform: chi2 %.1f of 39 degrees", chi2);

	const struct rows all = { .seed = 3, .contexts = 1, .samples = 40, .block = 40, .windows = 1, .bins = 1 };
	size_t own = 0;

	rows_positions(&all, 0, pos);
	for (size_t t = 0; t < all.block; t++)
		own += pos[t] == t;
	check(own == 40, "all of a context can be kept");
}

/* The rows of r, all bins, in the order of enumeration; caller frees. */
static struct row *enumerate(const struct rows *r)
{
	struct row *all = xcalloc(r->contexts * r->samples, sizeof(*all)), *at = all;
	uint32_t *pos = xcalloc(r->samples, sizeof(*pos));

	for (uint64_t c = 0; c < r->contexts; c++) {
		rows_positions(r, c, pos);
		for (size_t j = 0; j < r->samples; j++)
			*at++ = rows_row(r, c, pos[j]);
	}
	free(pos);
	return all;
}

static int compare(const void *a, const void *b)
{
	return row_compare(a, b);
}

/* Sorted, the rows' bins ascend, whatever n; n · m bins refine n; each has its share. */
static void check_bins(uint64_t window, uint64_t bins)
{
	struct rows r = base, fine;
	const size_t n = r.contexts * r.samples;
	uint64_t last = 0, share[64] = { 0 };
	bool ascending = true, refined = true, even = true;

	r.window = window;
	r.bins = bins;
	fine = r;
	fine.bins *= 7;
	struct row *row = enumerate(&r);

	qsort(row, n, sizeof(*row), compare);
	for (size_t i = 0; i < n; i++) {
		const uint64_t b = rows_bin(&r, &row[i]);

		ascending = ascending && b >= last && b < bins;
		refined = refined && rows_bin(&fine, &row[i]) / 7 == b;
		last = b;
		share[b]++;
	}
	for (size_t b = 0; b < bins; b++) {
		const double mean = (double)n / (double)bins;

		even = even && ((double)share[b] - mean) * ((double)share[b] - mean) < 36 * mean;
	}
	check(ascending, "window %d, %d bins: consecutive ranges of the order", (int)window, (int)bins);
	check(refined, "... refined by 7 times as many");
	check(even, "... of even size");
	free(row);
}

static bool same_row(const struct row *a, const struct row *b)
{
	return a->block == b->block && a->key == b->key && a->context == b->context && a->position == b->position;
}

/* Block after block, the order is that of all rows. */
static void check_order(uint64_t contexts, uint64_t samples, uint64_t window)
{
	struct rows r = base;

	r.contexts = contexts;
	r.windows = contexts;
	r.samples = samples;
	r.window = window;
	const size_t n = contexts * samples;
	struct row *want = enumerate(&r), *made = enumerate(&r);
	struct rows_order *o = rows_order_new(&r);
	size_t differ = 0, at = 0;
	uint64_t first, c;

	qsort(want, n, sizeof(*want), compare);
	for (uint64_t block = 0; at < n; block++) {
		const uint32_t *order = rows_order_of(o, block);

		c = rows_block(&r, block, &first);
		for (size_t i = 0; i < c * samples; i++, at++)
			differ += !same_row(&want[at], &made[first * samples + order[i]]);
	}
	check(at == n && differ == 0, "%d contexts of %d, window %d: %zu of %zu rows out of order", (int)contexts,
	      (int)samples, (int)window, differ, n);
	rows_order_free(o);
	free(want);
	free(made);
}

/* Bin after bin, the replay is the enumeration. */
static void check_walk(uint64_t contexts, uint64_t samples, uint64_t window, uint64_t bins)
{
	struct rows r = base;
	bool same = true;

	r.contexts = contexts;
	r.samples = samples;
	r.window = window;
	r.bins = bins;
	const size_t n = contexts * samples;
	struct row *row = enumerate(&r), got;
	struct rows_walk *w = rows_walk_open(&r, bins);

	for (uint64_t b = 0; b < bins; b++) {
		struct rows one = r;

		one.bin = b;
		struct rows_walk *alone = rows_walk_open(&one, 1);

		for (size_t i = 0; i < n; i++)
			if (rows_bin(&r, &row[i]) == b) {
				same = same && rows_walk_next(w, &got) && same_row(&got, &row[i]);
				same = same && rows_walk_next(alone, &got) && same_row(&got, &row[i]);
			}
		same = same && !rows_walk_next(alone, &got);
		rows_walk_close(alone);
	}
	same = same && !rows_walk_next(w, &got) && !rows_walk_next(w, &got);
	check(same, "replay of %zu rows, window %d, %d bins", n, (int)window, (int)bins);
	rows_walk_close(w);
	free(row);
}

static void check_meta(void)
{
	struct meta m = { 0 }, kept = { 0 };
	struct rows r = base;

	meta_add(&m, "dtype", "f16");
	meta_add(&m, "shard", "2/9");
	meta_add(&m, "gpt", "abc");
	r.bin = 2;
	r.bins = 9;
	r.window = 16;
	rows_to_meta(&r, &m);
	meta_add(&m, "order", "shuffled");
	meta_add(&m, "binary", "x");
	meta_add(&m, "via", "one");
	meta_add(&m, "via", "two");
	const struct rows back = rows_from_meta(&m, "x");

	check(back.seed == r.seed && back.contexts == r.contexts && back.samples == r.samples &&
	      back.block == r.block && back.windows == r.windows && back.window == r.window &&
	      back.bin == 2 && back.bins == 9, "META and back");
	rows_pass_meta(&m, &kept);
	check(!strcmp(kept.text.p, "gpt abc\nbinary x\nvia one\nvia two\n"), "META passed on");
	meta_free(&m);
	meta_free(&kept);
}

int main(void)
{
	pool_start(2);
	check_windows();
	check_positions();
	check_bins(0, 1);
	check_bins(0, 3);
	check_bins(0, 64);
	check_bins(7, 5);
	check_bins(1, 64);
	check_bins(299, 2);
	check_bins(1000, 2);
	check_walk(1, 1, 0, 1);
	check_walk(300, 5, 0, 1);
	check_walk(300, 5, 0, 9);
	check_walk(300, 5, 16, 9);
	check_walk(3, 40, 0, 40);
	check_walk(20000, 3, 0, 2);
	check_order(1, 1, 0);
	check_order(300, 5, 0);
	check_order(300, 5, 7);
	check_order(300, 5, 1);
	check_order(20000, 3, 0);
	check_order(20000, 3, 6000);
	check_meta();
	return check_done();
}
