/*
 * storage: what a stored type and a zstd level cost and save, on rows of
 * activations.  `storage ACTS [ROWS]`, ACTS a float32 shard; prints a Markdown
 * table: size, MB/s of one core (of the bytes that the filters exchange), and
 * the error of rounding relative to the root mean square of the values.
 * Planes (all first bytes of a frame, then all second ones) and 8 bits a value
 * are no formats of the mill: they say what it gives up by being flat.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "shard.h"
#include "shard_format.h"

enum { FRAME_BYTES = 1 << 20, REPEATS = 3, COLS_MOST = 65536 };

struct data {                   /* what is packed, as if it were all of a shard */
	char *p;
	size_t bytes;
};

static double cpu_secs(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

struct cost {
	uint64_t bytes;         /* packed */
	double pack, unpack;    /* seconds, the shortest */
};

/* All frames there and back, as shards do it. */
static struct cost cost(const struct data *d, int level)
{
	const size_t frames = (d->bytes + FRAME_BYTES - 1) / FRAME_BYTES, bound = frame_bound(FRAME_BYTES);
	struct entry *entry = xcalloc(frames, sizeof(*entry));
	char *packed = xmalloc(xmul(frames, bound)), *back = xmalloc(FRAME_BYTES);
	struct cost c = { 0, INFINITY, INFINITY };
	struct fault why;

	for (size_t r = 0; r < REPEATS; r++) {
		const double from = cpu_secs();

		for (size_t i = 0; i < frames; i++) {
			const size_t left = d->bytes - i * FRAME_BYTES;

			entry[i] = frame_pack(packed + i * bound, d->p + i * FRAME_BYTES,
					      left < FRAME_BYTES ? left : FRAME_BYTES, level);
		}
		const double middle = cpu_secs();

		for (size_t i = 0; i < frames; i++)
			if (!frame_unpack(&entry[i], packed + i * bound, back, &why))
				die("frame %zu: %s", i, why.text);
		c.pack = fmin(c.pack, middle - from);
		c.unpack = fmin(c.unpack, cpu_secs() - middle);
	}
	for (size_t i = 0; i < frames; i++)
		c.bytes += entry[i].packed;
	free(entry);
	free(packed);
	free(back);
	return c;
}

/* First bytes of all values of a frame, second bytes, … */
static struct data planes(const struct data *d, size_t size)
{
	struct data to = { xmalloc(d->bytes), d->bytes };

	for (size_t at = 0; at < d->bytes; at += FRAME_BYTES) {
		const size_t bytes = d->bytes - at < FRAME_BYTES ? d->bytes - at : FRAME_BYTES, n = bytes / size;

		for (size_t i = 0; i < n; i++)
			for (size_t b = 0; b < size; b++)
				to.p[at + b * n + i] = d->p[at + i * size + b];
	}
	return to;
}

/* Each row's minimum and step as float32, then a byte a value; *error: relative. */
static struct data eight_bits(const float *x, size_t rows, size_t cols, double *error)
{
	struct data to = { xmalloc(xmul(rows, cols + 8)), rows * (cols + 8) };
	double wrong = 0, all = 0;

	for (size_t r = 0; r < rows; r++, x += cols) {
		char *p = to.p + r * (cols + 8);
		float low = x[0], high = x[0];

		for (size_t i = 1; i < cols; i++) {
			low = fminf(low, x[i]);
			high = fmaxf(high, x[i]);
		}
		const float step = high > low ? (high - low) / 255 : 1;

		memcpy(p, &low, 4);
		memcpy(p + 4, &step, 4);
		for (size_t i = 0; i < cols; i++) {
			const float q = rintf((x[i] - low) / step), e = low + q * step - x[i];

			p[8 + i] = (char)(unsigned char)q;
			wrong += (double)e * e;
			all += (double)x[i] * x[i];
		}
	}
	*error = sqrt(wrong / all);
	return to;
}

static struct data stored(enum dtype t, const float *x, size_t n, double *error)
{
	struct data to = { xmalloc(xmul(n, dtype_size(t))), n * dtype_size(t) };
	float *back = xmalloc(xmul(n, sizeof(*back)));
	double wrong = 0, all = 0;

	dtype_from_f32(t, to.p, x, n);
	dtype_to_f32(t, back, to.p, n);
	for (size_t i = 0; i < n; i++) {
		wrong += ((double)back[i] - x[i]) * ((double)back[i] - x[i]);
		all += (double)x[i] * x[i];
	}
	free(back);
	*error = sqrt(wrong / all);
	return to;
}

static void row(const char *name, const struct data *d, int level, size_t values, double error)
{
	const struct cost c = cost(d, level);
	const double mb = (double)d->bytes / 1e6, bytes = (double)c.bytes;

	printf("| %s | %d | %.3f | %.2f | %.2f | %.0f | %.0f | %.1e |\n", name, level, (double)d->bytes / bytes,
	       bytes / (double)values, 4 * (double)values / bytes, mb / c.pack, mb / c.unpack, error);
	fflush(stdout);
}

static void rows_of(const float *x, size_t rows, size_t cols)
{
	static const enum dtype types[] = { DT_F32, DT_F16, DT_BF16 };
	static const int levels[] = { 1, 3, 6, 9 };
	const size_t n = rows * cols;
	double error;

	for (size_t t = 0; t < ARRAY_LEN(types); t++) {
		const struct data d = stored(types[t], x, n, &error), split = planes(&d, dtype_size(types[t]));
		char *name = xformat("%s in planes", dtype_name(types[t]));

		for (size_t l = 0; l < ARRAY_LEN(levels); l++)
			row(dtype_name(types[t]), &d, levels[l], n, error);
		row(name, &split, 1, n, error);
		row(name, &split, 3, n, error);
		free(d.p);
		free(split.p);
		free(name);
	}
	const struct data d = eight_bits(x, rows, cols, &error);

	row("8 bits, scaled by row", &d, 1, n, error);
	row("8 bits, scaled by row", &d, 3, n, error);
	free(d.p);
}

int main(int argc, char **argv)
{
	uint64_t want = 32768;

	base_tool = "storage";
	if (argc < 2 || (argc > 2 && !parse_u64(argv[2], &want)))
		die_usage("usage: storage ACTS [ROWS]");
	struct shards *s = shards_open((char *[]){ argv[1], NULL });
	const size_t cols = shards_cols(s);

	if (shards_dtype(s) != DT_F32 || cols > COLS_MOST || !want)
		die("'%s' holds %s; float32 activations are needed", argv[1], dtype_name(shards_dtype(s)));
	float *x = xmalloc(xmul(xmul(want, cols), sizeof(*x)));
	size_t rows = 0;

	for (size_t n; rows < want && (n = shards_read(s, x + rows * cols, want - rows)) > 0; )
		rows += n;
	if (rows == 0)
		die("'%s' has no rows", argv[1]);
	printf("| stored as | zstd level | ratio | bytes a value | against raw f32 | pack MB/s | unpack MB/s | rounding |\n"
	       "|---|---|---|---|---|---|---|---|\n");
	rows_of(x, rows, cols);
	free(x);
	shards_close(s);
	return 0;
}
