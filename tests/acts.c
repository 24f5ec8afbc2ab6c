/*
 * acts: shards as mlpdump would write them, without a GPT, for tests of what comes after it.
 *
 *	acts DIR key=value…     contexts samples block windows window bins cols seed; dtype
 *
 * Writes DIR/000.zst …, their rows saying which they are: the first two 16-bit words are
 * (context, position), the others a hash of both.  With sorted=1 also DIR/sorted, the flat array of
 * all rows in the shuffled order, by a plain sort.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rng.h"
#include "rows.h"

static struct rows R = { .seed = 1, .contexts = 64, .samples = 8, .block = 32, .windows = 100, .bins = 1 };
static uint64_t cols = 8, sorted;
static enum dtype dtype = DT_F16;

static void set(const char *word)
{
	const struct { const char *key; uint64_t *v; } keys[] = {
		{ "contexts=", &R.contexts }, { "samples=", &R.samples }, { "block=", &R.block },
		{ "windows=", &R.windows }, { "window=", &R.window }, { "bins=", &R.bins },
		{ "cols=", &cols }, { "seed=", &R.seed }, { "sorted=", &sorted },
	};

	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		const size_t n = strlen(keys[i].key);

		if (!strncmp(word, keys[i].key, n) && parse_u64(word + n, keys[i].v))
			return;
	}
	if (strncmp(word, "dtype=", 6) || !dtype_parse(word + 6, &dtype))
		die_usage("what is '%s'?", word);
}

static void values(const struct row *row, uint16_t *x, size_t words)
{
	uint64_t h = 0;

	x[0] = (uint16_t)row->context;
	x[1] = (uint16_t)row->position;
	for (size_t i = 2; i < words; i++) {
		if (i % 4 == 0 || i == 2)
			h = rng_hash(R.seed, RNG_TEST, row->context << 32 | row->position, i / 4);
		x[i] = h >> 16 * (i % 4) & 0x3bff;      /* as f16: positive, below 1, like activations */
	}
}

static struct shard_writer **create(const char *dir)
{
	struct shard_writer **w = xcalloc(R.bins, sizeof(struct shard_writer *));

	for (uint64_t i = 0; i < R.bins; i++) {
		struct rows r = R;
		struct meta m = { 0 };
		char *path = xformat("%s/%03llu.zst", dir, (unsigned long long)i);
		const struct shard_spec spec = { dtype, cols, 0, i, R.bins, &m, 1 };

		file_mkdirs(path);
		r.bin = i;
		rows_to_meta(&r, &m);
		meta_add(&m, "gpt", "0123456789abcdef0123456789abcdef");
		meta_add(&m, "via", "mlpdump 1");
		w[i] = shard_create(path, &spec, 0);
		free(path);
		meta_free(&m);
	}
	return w;
}

static int compare(const void *a, const void *b)
{
	return row_compare(a, b);
}

static void write_sorted(const char *dir, struct row *row, size_t n, uint16_t *x, size_t words)
{
	char *path = xformat("%s/sorted", dir);
	struct out *f = out_open(path, 0);

	qsort(row, n, sizeof(*row), compare);
	for (size_t i = 0; i < n; i++) {
		values(&row[i], x, words);
		out_write(f, x, words * sizeof(*x));
	}
	out_commit(f);
	free(path);
}

int main(int argc, char **argv)
{
	base_tool = "acts";
	if (argc < 2)
		die_usage("a directory is missing");
	for (int i = 2; i < argc; i++)
		set(argv[i]);
	if (R.samples > R.block || R.contexts > R.windows)
		die_usage("more samples than tokens, or more contexts than windows");
	const size_t words = cols * dtype_size(dtype) / 2;
	uint16_t *x = xcalloc(words, sizeof(*x));
	uint32_t *position = xcalloc(R.samples, sizeof(*position));
	struct row *row = xcalloc(sorted ? R.contexts * R.samples : 1, sizeof(*row)), *at = row;

	struct shard_writer **w = create(argv[1]);

	for (uint64_t c = 0; c < R.contexts; c++) {
		rows_positions(&R, c, position);
		for (uint64_t j = 0; j < R.samples; j++, at += sorted) {
			*at = rows_row(&R, c, position[j]);
			values(at, x, words);
			shard_write(w[rows_bin(&R, at)], x, 1);
		}
	}
	for (uint64_t i = 0; i < R.bins; i++)
		shard_finish(w[i]);
	if (sorted)
		write_sorted(argv[1], row, (size_t)(at - row), x, words);
	free(w);
	free(x);
	free(position);
	free(row);
	return 0;
}
