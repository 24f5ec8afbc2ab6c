/* spill and sorter: bins, order, ties, states after a kill */
#include "sorter.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "rng.h"
#include "spill.h"

static char dir[] = "/tmp/featuremill-u-sorter.XXXXXX";

static char *in_dir(const char *name)
{
	return xformat("%s/%s", dir, name);
}

/* Runs fn in a process of its own that is killed where fn returns; true: it got there. */
static bool killed_after(void (*fn)(const char *path), const char *path)
{
	const pid_t child = fork();
	int status;

	if (child == 0) {
		fn(path);
		raise(SIGKILL);
	}
	return child > 0 && waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

/* ---- spill ---- */

enum { BINS = 7, RECORDS = 1000 };
static uint64_t memory[BINS * 3 * 2];  /* room for three records of two words in each bin */
static const struct spill_shape shape = { BINS, 16, memory, sizeof(memory) };

static size_t bin_of(uint64_t i)
{
	return i % 5 ? (size_t)(i % 3) : 5;    /* bins 3, 4 and 6 stay empty */
}

static void put(struct spill *s, uint64_t from, uint64_t to)
{
	for (uint64_t i = from; i < to; i++) {
		const uint64_t record[2] = { i, ~i };

		memcpy(spill_put(s, bin_of(i)), record, sizeof(record));
	}
}

/* Every bin has its records, in order of arrival. */
static bool holds(struct spill *s, uint64_t n)
{
	uint64_t got[2 * RECORDS], *at;
	bool same = true;

	spill_flush(s);
	for (size_t b = 0; b < BINS; b++) {
		spill_ahead(s, b);
		spill_get(s, b, at = got);
		for (uint64_t i = 0; i < n; i++)
			if (bin_of(i) == b) {
				same = same && at[0] == i && at[1] == ~i;
				at += 2;
			}
		same = same && (uint64_t)(at - got) == 2 * spill_count(s, b);
	}
	return same;
}

static void save_half(const char *path)
{
	struct spill *s = spill_open(path, NULL, shape);
	struct buf st = { 0 };
	char *state = xformat("%s.test", path);

	put(s, 0, RECORDS / 2);
	spill_save(s, &st);
	put(s, RECORDS / 2, RECORDS / 2 + 100); /* written behind the state: cut back */
	spill_flush(s);
	file_write(state, st.p, st.n);
}

static void check_spill(void)
{
	char *path = in_dir("x"), *part = in_dir("x.bins.part"), *state = in_dir("x.test");
	struct spill *s = spill_open(path, NULL, shape);
	struct buf st = { 0 };

	put(s, 0, RECORDS);
	check(holds(s, RECORDS), "bins give back what was put");
	spill_forget(s, 0);
	check(spill_count(s, 1) && file_exists(part), "a log beside the output");
	spill_close(s);
	check(!file_exists(part), "... is removed");
	s = spill_open("-", dir, shape);
	put(s, 0, RECORDS);
	check(holds(s, RECORDS), "a log without a name");
	spill_close(s);

	check(killed_after(save_half, path) && file_exists(part), "a killed run leaves its log");
	read_file(state, &st, 1 << 20);
	struct cursor c = { st.p, st.n };

	s = spill_restore(path, NULL, shape, &c);
	if (check(s && c.left == 0, "... which is taken up again")) {
		put(s, RECORDS / 2, RECORDS);
		check(holds(s, RECORDS), "... without a gap");
		spill_close(s);
	}
	c = (struct cursor){ st.p, st.n };
	check(!spill_restore(path, NULL, shape, &c), "a log that is gone is not taken up");
	killed_after(save_half, path);
	c = (struct cursor){ st.p, st.n };
	struct spill_shape other = shape;

	other.bins = 6;
	check(!spill_restore(path, NULL, other, &c), "nor one of other bins");
	unlink(state);
	buf_free(&st);
	free(path);
	free(part);
	free(state);
}

/* ---- sorter ---- */

enum { ROWS = 3000 };
static struct sort_key key_of(uint64_t i)       /* many ties */
{
	return (struct sort_key){ i % 4, rng_below(rng_hash(1, RNG_TEST, 0, i), 500) };
}

/* Of 4 · 500 places. */
static size_t part_of(const void *arg, struct sort_key key, size_t parts)
{
	(void)arg;
	return (size_t)((key.major * 500 + key.minor) * parts / 2000);
}

static const struct shard_spec shard = { .dtype = DT_U32, .cols = 2, .rows_per_frame = 100, .n = 1 };
static struct sorter_spec spec = { .shard = &shard, .memory = 8 << 20, .rows = ROWS, .part = part_of };

static void put_rows(struct sorter *s, uint64_t to)
{
	for (uint64_t i = sorter_rows(s); i < to; i++) {
		const uint32_t row[2] = { (uint32_t)i, (uint32_t)(7 * i) };

		sorter_put(s, key_of(i), row);
		if (i % 500 == 0)
			sorter_checkpoint(s);
	}
}

/* Ascending keys, ties in the order of arrival, every row once. */
static bool is_sorted(const char *path)
{
	static uint32_t row[ROWS + 1][2];
	struct shards *in = shards_open((char *[]){ (char *)path, NULL });
	size_t have = 0, n;
	bool ok = true;

	while ((n = shards_read(in, row[have], ROWS + 1 - have)) > 0)
		have += n;
	shards_close(in);
	for (size_t i = 1; i < have; i++) {
		const struct sort_key a = key_of(row[i - 1][0]), b = key_of(row[i][0]);

		ok = ok && (a.major < b.major || (a.major == b.major && (a.minor < b.minor ||
			(a.minor == b.minor && row[i - 1][0] < row[i][0])))) && row[i][1] == 7 * row[i][0];
	}
	return ok && have == ROWS;
}

static void sort_half(const char *path)
{
	spec.output = path;
	put_rows(sorter_open(&spec), ROWS / 2);
}

static void check_sorter(void)
{
	char *path = in_dir("sorted"), *state = in_dir("sorted.state"), *bins = in_dir("sorted.bins.part");
	struct recipe *r = recipe_new("test", 1);

	spec.output = path;
	for (size_t n = 0; n <= 40; n += n < 2 ? 1 : 19) {
		spec.bins = n;
		struct sorter *s = sorter_open(&spec);

		put_rows(s, ROWS);
		const uint64_t bytes = sorter_finish(s);

		check(is_sorted(path) && bytes > 0, "%zu bins: in order", n);
	}
	spec.recipe = r;
	spec.bins = 6;
	check(killed_after(sort_half, path) && file_exists(state) && file_exists(bins), "killed half way");
	struct sorter *s = sorter_open(&spec);

	check(sorter_rows(s) == 1001 && !sorter_full(s), "... it goes on after the rows of its last state");
	put_rows(s, ROWS);
	sorter_finish(s);
	check(is_sorted(path) && !file_exists(state) && !file_exists(bins), "... in order, no debris");
	check(recipe_fresh(r, path), "... and stamped");
	killed_after(sort_half, path);
	spec.bins = 0;
	s = sorter_open(&spec);
	check(sorter_rows(s) == 0, "a state of other bins is not taken up");
	put_rows(s, ROWS);
	sorter_finish(s);
	check(is_sorted(path) && !file_exists(state) && !file_exists(bins), "... in order, no debris");
	recipe_free(r);
	free(path);
	free(state);
	free(bins);
}

int main(void)
{
	base_quiet = true;
	if (!mkdtemp(dir))
		die_errno("cannot make '%s'", dir);
	check_spill();
	check_sorter();
	for (const char *const *name = (const char *const[]){ "x.bins.part", "sorted", "sorted.stamp", NULL }; *name; name++) {
		char *path = in_dir(*name);

		unlink(path);
		free(path);
	}
	check(rmdir(dir) == 0, "nothing else is left");
	return check_done();
}
