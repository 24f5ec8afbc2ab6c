/*
 * feeds [threads] -- what training can be fed with against what it consumes: random windows of a
 * token set of 2 GB, as gptrain draws them, beside its own steps; rows of shards, as saetrain reads
 * them, alone and under its steps.  Writes 2 GB below TMPDIR and removes them.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "feed.h"
#include "gpt.h"
#include "pool.h"
#include "rng.h"
#include "sae.h"
#include "windows.h"

static char *files[2];

static void remove_files(void)
{
	for (size_t i = 0; i < ARRAY_LEN(files); i++)
		if (files[i])
			unlink(files[i]);
}

static char *scratch(size_t i, const char *name)
{
	const char *dir = getenv("TMPDIR");

	return files[i] = xformat("%s/feeds.%ld.%s.zst", dir && *dir ? dir : "/tmp", (long)getpid(), name);
}

static double cpu_secs(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static uint64_t next_random(uint64_t *h)
{
	*h = *h * 6364136223846793005u + 1442695040888963407u;
	return *h >> 40;        /* 24 bits */
}

/* A shard of so many tokens, the low ones common as in text. */
static void make_tokens(const char *path, uint64_t n)
{
	const struct shard_spec spec = { DT_U16, 1, 32768, 0, 1, NULL, 0 };
	struct shard_writer *w = shard_create(path, &spec, 0);
	static uint16_t part[32768];
	uint64_t h = 1;

	for (uint64_t done = 0; done < n; done += ARRAY_LEN(part)) {
		for (size_t i = 0; i < ARRAY_LEN(part); i++) {
			const uint64_t u = next_random(&h);

			part[i] = (uint16_t)((u * u >> 24) * u >> 24 >> 9);
		}
		shard_write(w, part, ARRAY_LEN(part));
	}
	shard_finish(w);
}

/* About normal: the sum of three uniform numbers. */
static void make_rows(const char *path, size_t rows, size_t cols)
{
	const struct shard_spec spec = { DT_BF16, cols, 0, 0, 1, NULL, 0 };
	struct shard_writer *w = shard_create(path, &spec, 0);
	float *x = xcalloc(cols, sizeof(*x));
	uint64_t h = 1;

	for (size_t r = 0; r < rows; r++) {
		for (size_t i = 0; i < cols; i++) {
			const uint64_t sum = next_random(&h) + next_random(&h) + next_random(&h);

			x[i] = (float)(2 * ((double)sum / 0x1p24 - 1.5));
		}
		shard_write_f32(w, x, 1);
	}
	shard_finish(w);
	free(x);
}

static void feed_gptrain(const struct backend *be)
{
	enum { B = 12, T = 1024, READ = 4000 };
	const struct gpt_config c = { 1, 4, 128, T, 50304, false };
	const char *path = scratch(0, "tokens");

	make_tokens(path, (uint64_t)1 << 30);
	struct windows w = windows_open((char *[]){ (char *)path, NULL }, T, c.vocab_size, 256 << 20);
	struct gpt *g = gpt_new(be, &c, B, GPT_TRAIN);
	int32_t *idx = xcalloc(B * T, sizeof(*idx)), *targets = xcalloc(B * T, sizeof(*targets));
	double from = cpu_secs(), step = INFINITY;

	for (uint64_t i = 0; i < READ; i++)
		windows_read(&w, rng_below(rng_hash(3, RNG_TEST, 0, i), w.tokens - T), idx + i % B * T,
			     targets + i % B * T);
	const double read = READ * (double)T / (cpu_secs() - from);

	gpt_init(g, 1);
	for (size_t i = 0; i < 3; i++) {
		from = now_secs();
		gpt_step(g, idx, targets, B, T, 1);
		step = fmin(step, now_secs() - from);
	}
	printf("gptrain: windows of %d from 2 GB of tokens %.3g tokens/s on one core; training takes %.3g tokens/s: "
	       "%.0f times\n", T, read, B * T / step, read * step / (B * T));
	gpt_free(g);
	windows_close(&w);
	free(idx);
	free(targets);
}

enum { ROWS = 8192, D = 512, F = 4096, STEPS = 12 };

/* Seconds of the fastest step, its reading included, on the rows at `same`, or if that is NULL on those
 * of the shard; without s of reading alone. */
static double seconds_a_step(struct sae *s, const char *path, const float *same, double *l0)
{
	struct feed *f = feed_open((char *[]){ (char *)path, NULL }, ROWS, STEPS, 0);
	double from = now_secs(), best = INFINITY, all = 0;
	const float *x;

	feed_start(f, 0);
	for (size_t i = 0; i < STEPS && (x = same ? same : feed_next(f)) != NULL; i++) {
		if (s)
			sae_step(s, x, ROWS, 2e-3, 0);
			*l0 = sae_take_loss(s, 2e-3).l0;
		const double secs = now_secs() - from;

		from += secs;
		all += secs;
		best = fmin(best, secs);
	}
	feed_close(f);
	return s ? best : all / STEPS;
}

static void feed_saetrain(const struct backend *be)
{
	const char *path = scratch(1, "rows");
	struct sae *s = sae_new(be, D, F, ROWS, SAE_TRAIN);
	float *x = xcalloc((size_t)ROWS * D, sizeof(*x)), *bias = xcalloc(F, sizeof(*bias));
	double l0 = 0;

	make_rows(path, (size_t)STEPS * ROWS, D);
	struct shards *in = shards_open((char *[]){ (char *)path, NULL });

	shards_read_f32(in, x, ROWS);
	shards_close(in);
	for (size_t i = 0; i < F; i++)
		bias[i] = -1.2f;
	sae_init(s, 1);
	be->put(s->p.b_enc, bias, F * sizeof(*bias));
	const double alone = seconds_a_step(NULL, path, NULL, &l0);
	double memory = INFINITY, shards = INFINITY;

	for (size_t i = 0; i < 3; i++) { /* in turn: others may use the machine too */
		memory = fmin(memory, seconds_a_step(s, path, x, &l0));
		shards = fmin(shards, seconds_a_step(s, path, NULL, &l0));
	}

	printf("saetrain: a step of %d rows at L0 %.0f %.1f ms on rows in memory, %.1f ms on rows of shards; "
	       "reading alone %.1f ms a batch\n", ROWS, l0, 1e3 * memory, 1e3 * shards, 1e3 * alone);
	sae_free(s);
	free(x);
	free(bias);
}

int main(int argc, char **argv)
{
	base_tool = "feeds";
	base_at_end(remove_files);
	pool_start(argc > 1 ? strtoul(argv[1], NULL, 10) : 1);
	const struct backend *be = backend_open("cpu", "auto");

	feed_saetrain(be);
	feed_gptrain(be);
	remove_files();
	for (size_t i = 0; i < ARRAY_LEN(files); i++)
		free(files[i]);
	return 0;
}
