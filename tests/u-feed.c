/* u-feed: which rows come in which batch, from any step on; rows kept */
#include "feed.h"

#include <stdlib.h>
#include <unistd.h>

#include "check.h"
#include "dies.h"
#include "pool.h"

enum { ROWS = 50, COLS = 3, BATCH = 7, PASS = ROWS / BATCH, STEPS = 2 * PASS + 3, KEEP = 12 };
static char dir[] = "/tmp/u-feed.XXXXXX", *paths[3];

/* Two shards of 20 and 30 rows, frames of 4; column c of row r is r + c/4. */
static void write_shards(enum dtype t)
{
	for (size_t k = 0; k < 2; k++) {
		const struct shard_spec spec = { t, COLS, 4, k, 2, NULL, 0 };
		struct shard_writer *w = shard_create(paths[k], &spec, 0);

		for (size_t r = k ? 20 : 0; r < (k ? ROWS : 20); r++) {
			const float x[COLS] = { (float)r, (float)r + 0.25f, (float)r + 0.5f };

			shard_write_f32(w, x, 1);
		}
		shard_finish(w);
	}
}

static bool are_rows(const float *x, size_t from, size_t n)
{
	for (size_t i = 0; i < n; i++)
		for (size_t c = 0; c < COLS; c++)
			if (x[i * COLS + c] != (float)(from + i) + (float)c / 4)
				return false;
	return true;
}

/* From step `done` on: batches, and what is kept after each. */
static bool goes_on(uint64_t done)
{
	struct feed *f = feed_open(paths, BATCH, STEPS, KEEP);
	float kept[KEEP * COLS];
	bool ok = feed_steps(f) == STEPS;

	feed_start(f, done);
	for (uint64_t k = done; k < STEPS && ok; k++) {
		const float *x = feed_next(f);
		const uint64_t want = k == 0 ? BATCH : KEEP;

		ok = x && are_rows(x, k % PASS * BATCH, BATCH) && feed_kept_rows(f) == want;
		feed_kept(f, 0, want, kept);
		ok = ok && are_rows(kept, 0, want);
		feed_kept(f, 3, 2, kept);
		ok = ok && are_rows(kept, 3, 2);
	}
	ok = ok && !feed_next(f) && !feed_next(f);
	feed_close(f);
	return ok;
}

/* n rows of each batch, the others are 0; rows kept are whole. */
static bool shares(size_t from, size_t n, uint64_t keep, uint64_t done)
{
	struct feed *f = feed_open(paths, BATCH, STEPS, keep);
	float kept[KEEP * COLS];
	bool ok = true;

	feed_share(f, from, n);
	feed_start(f, done);
	for (uint64_t k = done; k < STEPS && ok; k++) {
		const float *x = feed_next(f);

		ok = are_rows(x + from * COLS, k % PASS * BATCH + from, n);
		for (size_t i = 0; i < BATCH * COLS; i++)
			ok &= (i >= from * COLS && i < (from + n) * COLS) || x[i] == 0;
	}
	feed_kept(f, 0, keep, kept);
	ok = ok && are_rows(kept, 0, keep);
	feed_close(f);
	return ok;
}

static void test_share(void)
{
	for (size_t from = 0; from < BATCH; from++) {
		bool ok = true;

		for (size_t n = 1; from + n <= BATCH; n++)
			for (uint64_t done = 0; done < STEPS; done += 4)
				ok = ok && shares(from, n, 0, done) && shares(from, n, KEEP, done);
		check(ok, "rows of each batch from %zu on", from);
	}
}

static void test_one_pass(void)
{
	struct feed *f = feed_open(paths, BATCH, 0, 0);
	size_t n = 0;
	char id[33];

	check(feed_steps(f) == PASS && feed_kept_rows(f) == 0, "without a number of steps: one pass");
	feed_id(f, id);
	check(strlen(id) == 32, "an id");
	feed_start(f, 0);
	while (feed_next(f))
		n++;
	check(n == PASS, "the last partial batch is dropped");
	feed_close(f);
	f = feed_open(paths, BATCH, 0, 1000);
	feed_start(f, 3);
	feed_next(f);
	check(feed_kept_rows(f) == 4 * BATCH, "rows kept: those of batches handed out, here 4");
	feed_close(f);
}

static void too_large(void *arg)
{
	(void)arg;
	feed_open(paths, ROWS + 1, 0, 0);
}

int main(void)
{
	static const enum dtype types[] = { DT_F32, DT_F16, DT_BF16 };

	if (!mkdtemp(dir))
		die_errno("cannot make '%s'", dir);
	for (size_t k = 0; k < 2; k++)
		paths[k] = xformat("%s/%zu.zst", dir, k);
	pool_start(2);
	for (size_t t = 0; t < ARRAY_LEN(types); t++) {
		bool ok = true;

		write_shards(types[t]);
		for (uint64_t done = 0; done <= STEPS; done++)
			ok = ok && goes_on(done);
		check(ok, "%s: from every step on, the batches of an uninterrupted run", dtype_name(types[t]));
	}
	test_share();
	test_one_pass();
	dies("a batch larger than the input", "a batch takes 51", too_large, NULL);
	for (size_t k = 0; k < 2; k++) {
		unlink(paths[k]);
		free(paths[k]);
	}
	check(rmdir(dir) == 0, "no debris");
	return check_done();
}
