/* shard: what is written is read, in any way; what is damaged is refused */
#include "shard.h"

#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "check.h"
#include "dies.h"
#include "dtype.h"
#include "pool.h"
#include "rng.h"
#include "shard_input.h"
#include "shard_stats.h"

/* Children of this test, which has a thread already, start threads of their own. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
	return "die_after_fork=0:atexit_sleep_ms=0";
}

static char dir[] = "/tmp/u-shard.XXXXXX";

static char *in_dir(const char *name)
{
	return xformat("%s/%s", dir, name);
}

/* ---- dtypes ---- */

static float float_of(uint32_t u)
{
	float x;

	memcpy(&x, &u, sizeof(x));
	return x;
}

/* By the definition, in double: sign, exponent, mantissa. */
static double f16_meaning(unsigned h)
{
	const int e = h >> 10 & 31, m = h & 1023;
	const double x = e == 31 ? (m ? NAN : INFINITY) : e ? ldexp(1024 + m, e - 25) : ldexp(m, -24);

	return h & 0x8000 ? -x : x;
}

static bool same_f32(float a, double b)
{
	return isnan(b) ? isnan(a) : (double)a == b && !signbit(a) == !signbit(b);
}

static void check_f16_values(const struct dtype_ops *ops, const char *name)
{
	size_t wrong = 0, back = 0;

	for (unsigned i = 0; i < 65536; i += 8) {
		uint16_t h[8], again[8];
		float x[8];

		for (unsigned k = 0; k < 8; k++)
			h[k] = (uint16_t)(i + k);
		ops->f16_to_f32(x, h, 8);
		ops->f16_from_f32(again, x, 8);
		for (unsigned k = 0; k < 8; k++) {
			const unsigned quiet = isnan(x[k]) ? 0x200 : 0;

			wrong += !same_f32(x[k], f16_meaning(h[k]));
			back += again[k] != (h[k] | quiet);
		}
	}
	check(!wrong, "%s: all 65536 float16 mean what they should", name);
	check(!back, "%s: and come back as they were", name);
}

/* Between two neighbours: the half way goes to the even one, a little more or less to the nearer. */
static void check_rounding(const struct dtype_ops *ops, const char *name)
{
	size_t wrong = 0;

	for (unsigned h = 0; h < 0x7c00; h++) {
		/* the neighbour of the largest is what infinity stands for: 2^16 */
		const double next = h == 0x7bff ? 65536 : f16_meaning(h + 1);
		const float half = (float)((f16_meaning(h) + next) / 2);
		const float x[8] = { half, nextafterf(half, 0), nextafterf(half, 1e9f), -half,
			-nextafterf(half, 0), -nextafterf(half, 1e9f), (float)f16_meaning(h), 0 };
		const unsigned even = h + (h & 1);
		const unsigned want[7] = { even, h, h + 1, even | 0x8000, h | 0x8000, (h + 1) | 0x8000, h };
		uint16_t got[8];

		ops->f16_from_f32(got, x, 8);
		for (int k = 0; k < 7; k++)
			wrong += got[k] != want[k];
	}
	check(!wrong, "%s: float16 round to nearest, ties to even", name);
	for (uint32_t u = 1, n = 0; n < 1 << 20; n++, u = u * 1664525 + 1013904223) {
		const float x[8] = { float_of(u) };
		uint16_t got[8];
		float low, high;

		if (isnan(x[0]))
			continue;
		ops->bf16_from_f32(got, x, 8);
		low = float_of(u & 0xffff0000);
		high = float_of((u & 0xffff0000) + 0x10000);
		const double to_low = fabs((double)x[0] - low);
		const double to_high = fabs((isinf(high) ? copysign(ldexp(1, 128), high) : (double)high) - x[0]);
		const uint32_t up = to_high < to_low || (to_high == to_low && (u >> 16 & 1));

		wrong += isinf(x[0]) ? got[0] != u >> 16 : got[0] != (u >> 16) + up;
	}
	check(!wrong, "%s: bfloat16 round to nearest, ties to even", name);
}

/* The fast conversions are the plain ones, bit for bit, at any length. */
static void check_twins(const struct dtype_ops *fast)
{
	enum { N = 64 };
	float x[N], a32[N], b32[N];
	uint16_t h[N], a16[N], b16[N];
	size_t wrong = 0;
	uint32_t u = 12345;

	for (int round = 0; round < 40000; round++) {
		const size_t n = (size_t)round % N;

		for (size_t i = 0; i < N; i++) {
			u = u * 1664525 + 1013904223;
			/* all exponents, and often the narrow range where float16 live */
			x[i] = float_of(round & 1 ? u : (u & 0x8fffffff) | 0x30000000);
			h[i] = (uint16_t)(u >> 16);
		}
		dtype_plain.f16_from_f32(a16, x, n);
		fast->f16_from_f32(b16, x, n);
		wrong += memcmp(a16, b16, n * 2) != 0;
		dtype_plain.bf16_from_f32(a16, x, n);
		fast->bf16_from_f32(b16, x, n);
		wrong += memcmp(a16, b16, n * 2) != 0;
		dtype_plain.f16_to_f32(a32, h, n);
		fast->f16_to_f32(b32, h, n);
		wrong += memcmp(a32, b32, n * 4) != 0;
		dtype_plain.bf16_to_f32(a32, h, n);
		fast->bf16_to_f32(b32, h, n);
		wrong += memcmp(a32, b32, n * 4) != 0;
	}
	check(!wrong, "avx2: the plain conversions, bit for bit");
}

static void check_sums(void)
{
	struct stats_lanes a, b;
	float x[1003];
	uint32_t u = 1;

	memset(&a, 0, sizeof(a));
	for (size_t i = 0; i < ARRAY_LEN(x); i++, u = u * 1664525 + 1013904223)
		x[i] = i % 101 == 7 ? NAN : i % 50 == 3 ? -0.0f : float_of((u & 0x9fffffff) | 0x20000000);
	for (size_t k = 0; k < STATS_LANES; k++)
		a.min[k] = HUGE_VAL, a.max[k] = -HUGE_VAL;
	b = a;
	for (size_t n = 0; n < ARRAY_LEN(x); n += 59) {
		stats_add_plain(&a, x, n);
		stats_add_avx2(&b, x, n);
	}
	check(a.nan[0] && !memcmp(&a, &b, sizeof(a)), "avx2: the plain statistics, bit for bit");
}

/* Of integers the lanes may differ, but not what they sum up to. */
static void check_integer_sums(void)
{
	struct stats plain, s;
	struct stats_lanes l;
	uint16_t x[1003];
	uint32_t u = 1;

	for (size_t i = 0; i < ARRAY_LEN(x); i++, u = u * 1664525 + 1013904223)
		x[i] = (uint16_t)(u >> 16 | (i % 7 == 0 ? 0xFF00 : 0));
	stats_of(&s, DT_U16, x, ARRAY_LEN(x));
	memset(&l, 0, sizeof(l));
	for (size_t k = 0; k < STATS_LANES; k++)
		l.min[k] = HUGE_VAL, l.max[k] = -HUGE_VAL;
	stats_add_u16_plain(&l, (const char *)x, ARRAY_LEN(x));
	plain = (struct stats){ .min = HUGE_VAL, .max = -HUGE_VAL };
	for (size_t k = 0; k < STATS_LANES; k++)
		stats_merge(&plain, &(struct stats){ 1, l.nan[k], l.min[k], l.max[k], l.sum[k], l.sumsq[k] });
	check(s.sum == plain.sum && s.sumsq == plain.sumsq && s.min == plain.min && s.max == plain.max && s.min < s.max,
	      "u16: the plain statistics, to the last bit");
}

static void check_awkward(const struct dtype_ops *ops, const char *name)
{
	static const struct { uint32_t f32; uint16_t f16, bf16; } cases[] = {
		{ 0x00000000, 0x0000, 0x0000 }, { 0x80000000, 0x8000, 0x8000 }, /* zeros */
		{ 0x7f800000, 0x7c00, 0x7f80 }, { 0xff800000, 0xfc00, 0xff80 }, /* infinities */
		{ 0x7f800001, 0x7e00, 0x7fc0 }, { 0xffc00000, 0xfe00, 0xffc0 }, /* NaN, signalling too */
		{ 0x7fffffff, 0x7fff, 0x7fff }, { 0x7fbfe000, 0x7fff, 0x7fff },
		{ 0x477fefff, 0x7bff, 0x4780 }, { 0x477ff000, 0x7c00, 0x4780 }, /* 65520 is infinite */
		{ 0x33000000, 0x0000, 0x3300 }, { 0x33000001, 0x0001, 0x3300 }, /* 2^-25 is zero */
		{ 0x387fe000, 0x0400, 0x3880 }, { 0x387fc000, 0x03ff, 0x3880 }, /* subnormal to normal */
		{ 0x00000001, 0x0000, 0x0000 }, { 0x7f7fffff, 0x7c00, 0x7f80 },
	};
	float x[ARRAY_LEN(cases)];
	uint16_t f16[ARRAY_LEN(cases)], bf16[ARRAY_LEN(cases)];
	size_t wrong = 0;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		memcpy(&x[i], &cases[i].f32, 4);
	ops->f16_from_f32(f16, x, ARRAY_LEN(cases));
	ops->bf16_from_f32(bf16, x, ARRAY_LEN(cases));
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		if (f16[i] != cases[i].f16 || bf16[i] != cases[i].bf16) {
			printf("# %08x: f16 %04x, bf16 %04x\n", cases[i].f32, f16[i], bf16[i]);
			wrong++;
		}
	check(!wrong, "%s: zeros, infinities, NaN, limits", name);
}

static void check_dtypes(void)
{
	const struct dtype_ops *fast = dtype_avx2();
	enum dtype t;

	check_f16_values(&dtype_plain, "plain");
	check_rounding(&dtype_plain, "plain");
	check_awkward(&dtype_plain, "plain");
	if (fast) {
		check_f16_values(fast, "avx2");
		check_rounding(fast, "avx2");
		check_awkward(fast, "avx2");
		check_twins(fast);
		check_sums();
	check_integer_sums();
	}
	check(dtype_parse("bf16", &t) && t == DT_BF16 && !dtype_parse("f64", &t) && !dtype_parse("", &t),
	      "names of dtypes");
}

/* ---- META ---- */

static void missing_number(void *arg)
{
	meta_u64(arg, "via", "x.zst");
}

static void check_meta(void)
{
	struct meta m = { { 0 } };

	meta_add(&m, "via", "first %d", 1);
	meta_add(&m, "via", "second\nline");
	meta_add(&m, "viab", "17");
	meta_add(&m, "empty", "%s", "");
	char *via = meta_get(&m, "via"), *vi = meta_get(&m, "vi"), *empty = meta_get(&m, "empty");

	check(via && !strcmp(via, "first 1"), "the first value of a key");
	check(!vi, "the beginning of a key is no key");
	check(empty && !*empty, "an empty value");
	check(meta_u64(&m, "viab", "x") == 17, "a number");
	check(strstr(m.text.p, "via second line\n") != NULL, "a line is a line");
	dies("no number", "'x.zst' has no number 'via'", missing_number, &m);
	free(via);
	free(vi);
	free(empty);
	meta_free(&m);
}

/* ---- round trips ---- */

/* Rows of a shard that look like what they are, different for every seed. */
static void fill(char *rows, enum dtype t, size_t values, uint64_t seed)
{
	for (size_t i = 0; i < values; i++) {
		const uint64_t r = rng_hash(seed, 1, i, 0);
		const float x = r % 3 ? 0.0f : (float)(r >> 40) / 1e6f - 3;
		const uint32_t u = (uint32_t)(r >> 45);

		if (t == DT_U16 || t == DT_U32)
			memcpy(rows + i * dtype_size(t), &u, dtype_size(t));
		else
			dtype_from_f32(t, rows + i * dtype_size(t), &x, 1);
	}
}

static void write_pieces(const char *path, const struct shard_spec *spec, const char *rows, size_t n)
{
	struct shard_writer *w = shard_create(path, spec, 0);
	const size_t row_bytes = spec->cols * dtype_size(spec->dtype);

	for (size_t i = 0, piece = 1; i < n; i += piece, piece = piece * 2 % 13 + 1) {
		piece = piece < n - i ? piece : n - i;
		shard_write(w, rows + i * row_bytes, piece);
	}
	shard_finish(w);
}

/* Does s hold just these rows? */
static bool reads_as(struct shards *s, const char *rows, size_t n)
{
	const size_t row_bytes = shards_cols(s) * dtype_size(shards_dtype(s));
	char *got = xmalloc(17 * row_bytes);
	size_t at = 0, piece = 1, r;
	bool ok = true;

	while ((r = shards_read(s, got, piece)) > 0) {
		ok = ok && at + r <= n && !memcmp(got, rows + at * row_bytes, r * row_bytes);
		at += r;
		piece = piece * 2 % 17 + 1;
	}
	ok = ok && shards_read(s, got, 1) == 0;
	free(got);
	return ok && at == n;
}

/* A pipe out of which the files come, one after the other, on the place of stdin. */
struct feed {
	char *const *paths;
	int to;
};

static void feed_main(void *arg)
{
	struct feed *f = arg;
	struct buf b = { 0 };

	for (char *const *path = f->paths; *path; path++) {
		read_file(*path, &b, SIZE_MAX / 2);
		write_full(f->to, b.p, b.n, "a pipe");
	}
	close(f->to);
	buf_free(&b);
}

static struct worker *feed_start(struct feed *f, char *const *paths)
{
	int fd[2];

	if (pipe2(fd, O_CLOEXEC) != 0)
		die_errno("cannot make a pipe");
	dup2(fd[0], STDIN_FILENO);
	close(fd[0]);
	*f = (struct feed){ paths, fd[1] };
	return worker_start(feed_main, f);
}

static bool pipe_reads_as(char *const *paths, const char *rows, size_t n, char id[33])
{
	struct feed f;
	struct worker *feeder = feed_start(&f, paths);
	struct shards *s = shards_open((char *const[]){ NULL });
	const bool ok = reads_as(s, rows, n);

	shards_id(s, id);
	shards_close(s);
	worker_join(feeder);
	return ok;
}

/* Whoever has enough closes a pipe, though its writer is silent and holds it open. */
static void check_early_close(const char *path)
{
	struct buf b = { 0 };
	char row[64];
	int fd[2];

	read_file(path, &b, 1 << 16);
	if (pipe2(fd, O_CLOEXEC) != 0)
		die_errno("cannot make a pipe");
	write_full(fd[1], b.p, b.n - 30, "a pipe");
	dup2(fd[0], STDIN_FILENO);
	close(fd[0]);
	alarm(20);
	struct shards *s = shards_open((char *const[]){ NULL });
	const bool ok = shards_read(s, row, 1) == 1;

	shards_close(s);
	alarm(0);
	check(ok, "a pipe closed before its end");
	close(fd[1]);
	buf_free(&b);
}

/* As zstd -dc does: all frames, skippable ones skipped. */
static bool zstd_gives(const char *path, const char *rows, size_t bytes)
{
	struct buf b = { 0 };
	char *got = xmalloc(bytes + 1);

	read_file(path, &b, SIZE_MAX / 2);
	const size_t n = ZSTD_decompress(got, bytes + 1, b.p, b.n);
	const bool ok = n == bytes && !memcmp(got, rows, bytes);

	buf_free(&b);
	free(got);
	return ok;
}

static void check_round_trip(enum dtype t, size_t cols, size_t per_frame, size_t n)
{
	const struct shard_spec spec = { .dtype = t, .cols = cols, .rows_per_frame = per_frame, .n = 1 };
	const size_t bytes = n * cols * dtype_size(t);
	char *rows = xmalloc(bytes), *path = in_dir("trip.zst"), file_id[33], pipe_id[33];

	fill(rows, t, n * cols, n + cols);
	write_pieces(path, &spec, rows, n);
	struct shards *s = shards_open((char *const[]){ path, NULL });
	const bool meta_ok = shards_rows(s) == n && shards_cols(s) == cols && shards_dtype(s) == t &&
		shards_k(s) == 0 && shards_n(s) == 1 && shards_seekable(s);
	const bool file_ok = reads_as(s, rows, n);

	shards_id(s, file_id);
	shards_close(s);
	const bool pipe_ok = pipe_reads_as((char *const[]){ path, NULL }, rows, n, pipe_id);

	check(meta_ok && file_ok && pipe_ok && !strcmp(file_id, pipe_id) && zstd_gives(path, rows, bytes),
	      "%zu rows of %zu %s, %zu a frame: by file, by pipe, by zstd", n, cols, dtype_name(t), per_frame);
	free(rows);
	free(path);
}

static void check_round_trips(void)
{
	static const size_t rows[] = { 0, 1, 6, 7, 8, 50 };

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		for (enum dtype t = DT_U16; t <= DT_F32; t++)
			check_round_trip(t, t == DT_U16 ? 1 : 5, 7, rows[i]);
	check_round_trip(DT_F16, 512, 0, 5000);
	check_round_trip(DT_F32, 3, 1, 9);
}

static void check_floats(void)
{
	const struct shard_spec spec = { .dtype = DT_F16, .cols = 4, .rows_per_frame = 3, .n = 1 };
	char *path = in_dir("floats.zst");
	struct shard_writer *w = shard_create(path, &spec, 0);
	float x[8][4], got[8][4];

	for (int i = 0; i < 32; i++)
		x[i / 4][i % 4] = (float)(i - 7) / 4;
	shard_write_f32(w, x[0], 5);
	shard_write_f32(w, x[5], 3);
	shard_finish(w);
	struct shards *s = shards_open((char *const[]){ path, NULL });

	check(shards_read_f32(s, got[0], 8) == 8 && !memcmp(x, got, sizeof(x)), "float rows, converted both ways");
	shards_close(s);
	free(path);
}

/* ---- the letter of the format ---- */

static bool entry_is(const char *table, size_t i, uint32_t packed, uint32_t bytes, uint32_t sum)
{
	const char *e = table + 8 + 12 * i;

	return get_u32(e) == packed && get_u32(e + 4) == bytes && get_u32(e + 8) == sum;
}

static void check_letter(void)
{
	const struct shard_spec spec = { .dtype = DT_U32, .cols = 2, .rows_per_frame = 4, .k = 1, .n = 3 };
	static const char head[] = "dtype u32\ncols 2\nrows-per-frame 4\nshard 1/3\n";
	uint32_t rows[6][2] = { { 0 } };
	char *path = in_dir("letter.zst"), sum[32];
	struct buf b = { 0 };

	write_pieces(path, &spec, (char *)rows, 6);
	read_file(path, &b, 1 << 20);
	const char *const table = b.p + b.n - (8 + 4 * 12 + 9), *p = b.p;
	const uint32_t meta = 8 + get_u32(p + 4);

	check(get_u32(p) == 0x184D2A57 && !memcmp(p + 8, "fmill\0\0\1", 8) && !memcmp(p + 16, head, strlen(head)),
	      "META: magic, tag, lines");
	snprintf(sum, sizeof(sum), "sum %016llx\n", (unsigned long long)XXH64(p + 8, meta - 8 - 21, 0));
	check(!memcmp(p + meta - 21, sum, 21), "META: the sum of what precedes");
	check(get_u32(table) == 0x184D2A5E && get_u32(table + 4) == 4 * 12 + 9 && get_u32(table + 56) == 4 &&
	      (unsigned char)table[60] == 0x80 && get_u32(table + 61) == 0x8F92EAB1, "seek table: head and foot");

	const size_t one = ZSTD_findFrameCompressedSize(p + meta, b.n - meta);
	const size_t two = ZSTD_findFrameCompressedSize(p + meta + one, b.n - meta - one);
	const char *const stats = p + meta + one + two;

	check(entry_is(table, 0, meta, 0, 0x51D8E999) &&
	      entry_is(table, 3, 8 + get_u32(stats + 4), 0, 0x51D8E999), "seek table: META");
	check(entry_is(table, 1, (uint32_t)one, 32, (uint32_t)XXH64(rows, 32, 0)) &&
	      entry_is(table, 2, (uint32_t)two, 16, (uint32_t)XXH64(rows, 16, 0)), "seek table: DATA");
	check(stats + 8 + get_u32(stats + 4) == table && strstr(stats + 16, "rows 6\n"), "closing META");
	buf_free(&b);
	free(path);
}

static void check_statistics(void)
{
	const struct shard_spec spec = { .dtype = DT_F32, .cols = 1, .rows_per_frame = 3, .n = 1 };
	const float x[8] = { 1, -2, 3, NAN, 0.5f, 4, -0.25f, 1 };
	char *path = in_dir("stats.zst");
	struct shard_writer *w = shard_create(path, &spec, 0);
	struct shard_info info;

	shard_write(w, x, 8);
	shard_stat(w, "answer", "%d", 42);
	shard_finish(w);
	shard_info(path, &info);
	check(!strcmp(strchr(strstr(info.stats.text.p, "id "), '\n'),
		      "\nmin -2\nmax 4\nmean 1.0357142857142858\nsumsq 31.3125\nnan 1\nanswer 42\n"),
	      "statistics and a line of the tool's own");
	shard_info_free(&info);
	free(path);
}

static void check_id(void)
{
	struct shard_spec spec = { .dtype = DT_U16, .cols = 1, .rows_per_frame = 32768, .n = 1 };
	const size_t n = 70000;
	char *rows = xmalloc(2 * n), *path = in_dir("id.zst"), a[33], b[33], c[33], d[33];

	fill(rows, DT_U16, n, 5);
	write_pieces(path, &spec, rows, n);
	shard_file_id(path, a);
	spec.level = 19;
	write_pieces(path, &spec, rows, n);
	shard_file_id(path, b);
	spec.dtype = DT_BF16;
	write_pieces(path, &spec, rows, n);
	shard_file_id(path, c);
	spec.dtype = DT_U16;
	rows[99] ^= 1;
	write_pieces(path, &spec, rows, n);
	shard_file_id(path, d);
	check(!strcmp(a, b), "equal data have one id at any level");
	check(strcmp(a, c) && strcmp(a, d), "other types and other data have others");
	free(rows);
	free(path);
}

/* ---- sets, seeks, random access ---- */

enum { SET = 3, SET_COLS = 3 };
static const size_t set_rows[SET] = { 10, 0, 25 };
struct set {
	char *paths[SET + 1];
	char *rows;             /* of all shards, SET_COLS x f16 */
	size_t n;
};

static char *write_member(const char *name, struct shard_spec spec, const char *contexts, const char *rows, size_t n)
{
	struct meta m = { { 0 } };
	char *path = in_dir(name);

	meta_add(&m, "contexts", "%s", contexts);
	spec.meta = &m;
	write_pieces(path, &spec, rows, n);
	meta_free(&m);
	return path;
}

static struct set set_make(void)
{
	struct set s = { .n = 0 };
	char *sub = in_dir("set");
	size_t at = 0;

	mkdir(sub, 0777);
	for (size_t k = 0; k < SET; k++)
		s.n += set_rows[k];
	s.rows = xmalloc(s.n * SET_COLS * 2);
	fill(s.rows, DT_F16, s.n * SET_COLS, 77);
	for (size_t k = 0; k < SET; k++) {
		const struct shard_spec spec = { DT_F16, SET_COLS, 4, k, SET, NULL, 0 };
		char name[32];

		snprintf(name, sizeof(name), "set/%03zu.zst", k);
		s.paths[k] = write_member(name, spec, "99", s.rows + at * SET_COLS * 2, set_rows[k]);
		at += set_rows[k];
	}
	free(sub);
	return s;
}

static void open_all(void *arg)
{
	struct shards *s = shards_open(arg);
	char row[64];

	while (shards_read(s, row, 1))
		;
	shards_close(s);
}

static void pipe_all(void *arg)
{
	struct feed f;

	feed_start(&f, arg);
	open_all((char *[]){ NULL });
}

static void check_sets(struct set *set)
{
	char *const *p = set->paths, *sub = in_dir("set"), a[33], b[33];
	struct shards *s = shards_open(p);

	check(shards_rows(s) == set->n && reads_as(s, set->rows, set->n) && shards_count(s) == SET, "a set of files");
	shards_id(s, a);
	shards_close(s);
	check(pipe_reads_as(p, set->rows, set->n, b) && !strcmp(a, b), "a set on a pipe, of the same id");
	s = shards_open((char *[]){ sub, NULL });
	check(reads_as(s, set->rows, set->n), "a set as a directory");
	shards_close(s);
	s = shards_open((char *[]){ p[2], NULL });
	check(shards_k(s) == 2 && shards_n(s) == 3 && reads_as(s, set->rows + 10 * SET_COLS * 2, 25), "one shard of a set");
	shards_close(s);
	check(pipe_reads_as((char *[]){ p[2], NULL }, set->rows + 10 * SET_COLS * 2, 25, b), "one shard on a pipe");
	free(sub);
}

static void check_misfits(struct set *set)
{
	char *const *p = set->paths;
	const struct shard_spec second = { DT_F16, SET_COLS, 4, 1, SET, NULL, 0 };
	struct shard_spec other_type = second, other_cols = second;

	other_type.dtype = DT_BF16;
	other_cols.cols = 2;
	char *type = write_member("type.zst", other_type, "99", set->rows, 2);
	char *cols = write_member("cols.zst", other_cols, "99", set->rows, 2);
	char *run = write_member("run.zst", second, "98", set->rows, 2);
	const struct { const char *name, *text; char *paths[5]; } cases[] = {
		{ "the order is wrong", "shard 2/3 where 1/3 should be", { p[0], p[2], p[1], NULL } },
		{ "the first is missing", "shard 1/3 where 0/3", { p[1], p[2], NULL } },
		{ "the last is missing", "shard 1/3", { p[0], p[1], NULL } },
		{ "one twice", "shard 0/3 where 1/3", { p[0], p[0], p[2], NULL } },
		{ "one too many", "shard 0/3 where 3/3", { p[0], p[1], p[2], p[0], NULL } },
		{ "another dtype", "bf16 with 3 columns", { p[0], type, p[2], NULL } },
		{ "another width", "f16 with 2 columns", { p[0], cols, p[2], NULL } },
		{ "another run", "of another run", { p[0], run, p[2], NULL } },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char name[64];

		snprintf(name, sizeof(name), "by file: %s", cases[i].name);
		dies(name, cases[i].text, open_all, (void *)(uintptr_t)cases[i].paths);
		/* on a pipe what follows the last shard is foreign */
		snprintf(name, sizeof(name), "by pipe: %s", cases[i].name);
		dies(name, i == 1 || i == 4 ? "something follows shard" : cases[i].text, pipe_all,
		     (void *)(uintptr_t)cases[i].paths);
	}
	free(type);
	free(cols);
	free(run);
}

static void check_seeks(struct set *set)
{
	struct shards *s = shards_open(set->paths);
	const size_t row_bytes = SET_COLS * 2;
	char row[3 * SET_COLS * 2];
	bool ok = true;

	for (uint64_t i = 0; i < 200; i++) {
		const uint64_t at = rng_below(rng_hash(3, 1, i, 0), set->n + 1);
		const size_t want = set->n - at < 3 ? set->n - at : 3;

		shards_seek(s, at);
		ok = ok && shards_read(s, row, 3) == want && !memcmp(row, set->rows + at * row_bytes, want * row_bytes);
	}
	check(ok, "seeks");
	shards_seek(s, 0);
	check(reads_as(s, set->rows, set->n), "and back to the start");
	shards_close(s);
}

struct random_reads {
	struct shard_cache *c;
	const struct set *set;
	size_t wrong[64];
};

static void read_some_rows(void *arg, size_t i)
{
	struct random_reads *r = arg;
	const size_t row_bytes = SET_COLS * 2;
	char rows[35 * SET_COLS * 2];

	for (uint64_t k = 0; k < 200; k++) {
		const uint64_t at = rng_below(rng_hash(9, 1, i, k), r->set->n);
		const size_t n = rng_below(rng_hash(9, 2, i, k), r->set->n - at + 1);

		shard_cache_get(r->c, at, n, rows);
		r->wrong[i] += memcmp(rows, r->set->rows + at * row_bytes, n * row_bytes) != 0;
	}
}

static void check_cache(const struct set *set, size_t bytes)
{
	struct random_reads r = { .c = shard_cache_open(set->paths, bytes), .set = set };
	size_t wrong = 0;
	char a[33], b[33];
	struct shards *s = shards_open(set->paths);

	check(shard_cache_rows(r.c) == set->n, "rows of a cache");
	pool_for(ARRAY_LEN(r.wrong), read_some_rows, &r);
	for (size_t i = 0; i < ARRAY_LEN(r.wrong); i++)
		wrong += r.wrong[i];
	check(!wrong, "random access by %zu threads with %zu bytes", pool_threads(), bytes);
	shards_id(shard_cache_shards(r.c), a);
	shards_id(s, b);
	check(!strcmp(a, b), "id of a cache");
	shards_close(s);
	shard_cache_close(r.c);
}

/* ---- states ---- */

static const struct shard_spec state_spec = { DT_F32, 2, 5, 0, 1, NULL, 0 };

/* A run that is killed: what it wrote after its state is lost.  The state comes in shared memory. */
static void killed_at(const char *path, const char *rows, size_t kept, size_t lost, struct buf *st)
{
	struct { size_t n; char p[4000]; } *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int status;
	const pid_t pid = fork();

	if (pid == 0) {
		struct shard_writer *w = shard_create(path, &state_spec, OUT_KEEP);
		struct buf b = { 0 };

		shard_stat(w, "note", "of the %s", "tool");
		shard_write(w, rows, kept);
		shard_save(w, &b);
		memcpy(shared->p, b.p, shared->n = b.n);
		shard_write(w, rows + kept * 8, lost);
		shard_save(w, &b);      /* the rows after the state reach the disk */
		_exit(0);
	}
	waitpid(pid, &status, 0);
	buf_clear(st);
	buf_add(st, shared->p, shared->n);
	munmap(shared, 4096);
}

static void check_states(void)
{
	const size_t n = 33;
	char rows[33 * 8], *path = in_dir("state.zst"), *whole = in_dir("whole.zst"), *part = in_dir("state.zst.part");
	struct buf st = { 0 }, a = { 0 }, b = { 0 };
	size_t wrong = 0;

	fill(rows, DT_F32, 2 * n, 4);
	struct shard_writer *w = shard_create(whole, &state_spec, 0);

	shard_stat(w, "note", "of the tool");
	shard_write(w, rows, n);
	shard_finish(w);
	read_file(whole, &a, 1 << 20);
	for (size_t kept = 0; kept <= n; kept += 4) {
		killed_at(path, rows, kept, n - kept < 9 ? n - kept : 9, &st);
		struct cursor c = { st.p, st.n };

		w = shard_restore(path, &state_spec, OUT_KEEP, &c);
		wrong += !w || c.left || shard_rows(w) != kept;
		shard_write(w, rows + kept * 8, n - kept);
		shard_finish(w);
		read_file(path, &b, 1 << 20);
		wrong += a.n != b.n || memcmp(a.p, b.p, a.n);
	}
	check(!wrong, "resumed from a state: the same bytes");
	killed_at(path, rows, 20, 9, &st);
	if (truncate(part, 100) != 0)
		die_errno("truncate");
	check(!shard_restore(path, &state_spec, OUT_KEEP, &(struct cursor){ st.p, st.n }), "a part that is too short");
	unlink(part);
	check(!shard_restore(path, &state_spec, OUT_KEEP, &(struct cursor){ st.p, st.n }), "no part");
	buf_free(&st);
	buf_free(&a);
	buf_free(&b);
	free(path);
	free(whole);
	free(part);
}

/* ---- damage ---- */

/* What a reader got: hash of rows and META, or 0 when it refused. */
static uint64_t hash_into(XXH3_state_t *x, const struct meta *m)
{
	return m->text.n && XXH3_64bits_update(x, m->text.p, m->text.n);
}

static uint64_t by_file(const char *path, struct fault *f)
{
	struct shard_file s;
	XXH3_state_t x;

	if (!shard_file_open(&s, path, f))
		return 0;
	XXH3_64bits_reset(&x);
	hash_into(&x, &s.head.meta);
	bool ok = true;

	for (size_t i = 0; ok && i < s.table.frames; i++) {
		const size_t bytes = s.table.entry[i + 1].bytes;
		char *rows = xmalloc(bytes);

		ok = shard_file_frame(&s, i, rows, f);
		if (ok)
			XXH3_64bits_update(&x, rows, bytes);
		free(rows);
	}
	hash_into(&x, &s.stats);
	shard_file_close(&s);
	return ok ? XXH3_64bits_digest(&x) | 1 : 0;
}

static uint64_t by_pipe(const char *p, size_t n, struct fault *f)
{
	int fd[2];

	if (pipe(fd) != 0)
		die_errno("cannot make a pipe");
	write_full(fd[1], p, n, "a pipe");
	close(fd[1]);
	struct shard_pipe *s = shard_pipe_open(fd[0], "a pipe");
	enum pipe_event e;
	XXH3_state_t x;

	XXH3_64bits_reset(&x);
	while ((e = shard_pipe_next(s, f)) != PIPE_END && e != PIPE_FAULT) {
		if (e == PIPE_BEGIN)
			hash_into(&x, &s->head.meta);
		if (e == PIPE_SHARD)
			hash_into(&x, &s->stats);
		if (e != PIPE_FRAME)
			continue;
		const struct entry last = s->table.entry[s->table.n - 1];
		char *rows = xmalloc(last.bytes);
		const bool ok = frame_unpack(&last, s->packed.p, rows, f);

		if (ok)
			XXH3_64bits_update(&x, rows, last.bytes);
		free(rows);
		if (!ok)
			break;
	}
	shard_pipe_close(s);
	return e == PIPE_END ? XXH3_64bits_digest(&x) | 1 : 0;
}

/* A file in memory that is rewritten for every case. */
struct victim {
	int fd;
	char path[32];
};

static struct victim victim_make(void)
{
	struct victim v = { .fd = memfd_create("shard", 0) };

	snprintf(v.path, sizeof(v.path), "/proc/self/fd/%d", v.fd);
	return v;
}

static uint64_t victim_read(const struct victim *v, const char *p, size_t n, struct fault *f)
{
	if (v->fd < 0 || ftruncate(v->fd, 0) != 0 || pwrite(v->fd, p, n, 0) != (ssize_t)n)
		die_errno("cannot write a file in memory");
	return by_file(v->path, f);
}

static bool told(const struct fault *f)
{
	return strlen(f->text) > 3 && !strchr(f->text, '\n');
}

/* Bytes overwritten, taken out and put in at random: no other rows, no crash. */
static void check_fuzz(const struct buf *whole, const struct victim *v, uint64_t right, const char *name)
{
	size_t wrong = 0;
	struct buf b = { 0 };
	struct fault f;

	for (uint64_t i = 0; i < 3000; i++) {
		const uint64_t at = rng_below(rng_hash(1, 1, i, 0), whole->n), what = rng_hash(1, 2, i, 0);
		const size_t left = whole->n - at, n = 1 + what % 12 < left ? 1 + what % 12 : left;
		const uint64_t noise[2] = { rng_hash(1, 3, i, 0), what & 256 ? 0 : rng_hash(1, 4, i, 0) };
		const size_t taken = what & 512 || what & 1024 ? n : 0, put = what & 512 || !taken ? n : 0;

		buf_clear(&b);
		buf_add(&b, whole->p, at);
		buf_add(&b, noise, put);
		buf_add(&b, whole->p + at + taken, left - taken);
		const uint64_t one = victim_read(v, b.p, b.n, &f), two = by_pipe(b.p, b.n, &f);

		wrong += (one && one != right) || (two && two != right);
	}
	check(!wrong, "%s: random damage", name);
	buf_free(&b);
}

static void check_damage(const struct shard_spec *spec, size_t n, bool noise, const char *name)
{
	char rows[512], *path = in_dir("victim.zst");
	struct buf b = { 0 };
	const struct victim v = victim_make();
	struct fault f;
	size_t cut = 0, other = 0, silent = 0, same = 0;

	for (size_t i = 0; i < sizeof(rows); i++)
		rows[i] = (char)(i * i % 11);
	if (noise)
		fill(rows, spec->dtype, n * spec->cols, 8);
	write_pieces(path, spec, rows, n);
	read_file(path, &b, 1 << 16);
	const uint64_t right[2] = { victim_read(&v, b.p, b.n, &f), by_pipe(b.p, b.n, &f) };

	check(right[0] && right[0] == right[1], "%s: %zu bytes, whole", name, b.n);
	for (size_t bytes = 0; bytes < b.n; bytes++) {
		f.text[0] = 0;
		cut += victim_read(&v, b.p, bytes, &f) != 0 || !told(&f);
		f.text[0] = 0;
		cut += by_pipe(b.p, bytes, &f) != 0 || !told(&f);
	}
	check(!cut, "%s: refused at every length, by file and by pipe", name);
	for (size_t bit = 0; bit < 8 * b.n; bit++) {
		b.p[bit / 8] = (char)(b.p[bit / 8] ^ 1 << bit % 8);
		for (int k = 0; k < 2; k++) {
			f.text[0] = 0;
			const uint64_t got = k ? by_pipe(b.p, b.n, &f) : victim_read(&v, b.p, b.n, &f);

			other += got && got != right[0];
			same += got == right[0];
			silent += !got && !told(&f);
		}
		b.p[bit / 8] = (char)(b.p[bit / 8] ^ 1 << bit % 8);
	}
	check(!other && !silent, "%s: any bit flipped: refused, or nothing changed (%zu of %zu)", name, same, 16 * b.n);
	check_fuzz(&b, &v, right[0], name);
	close(v.fd);
	buf_free(&b);
	free(path);
}

/* ---- shards made by hand ---- */

struct craft {
	struct buf b;
	struct entry entry[8];
	size_t n;
};

static void craft_add(struct craft *c, const void *p, size_t n, uint32_t bytes, uint32_t sum)
{
	buf_add(&c->b, p, n);
	c->entry[c->n++] = (struct entry){ (uint32_t)n, bytes, sum };
}

static void craft_meta(struct craft *c, const char *lines)
{
	struct meta m = { { 0 } };
	struct buf frame = { 0 };

	buf_add(&m.text, lines, strlen(lines));
	meta_frame(&frame, &m);
	craft_add(c, frame.p, frame.n, 0, SHARD_EMPTY_SUM);
	buf_free(&frame);
	meta_free(&m);
}

enum { WITH_SUM = 1, WITH_SIZE = 2 };

static void craft_data(struct craft *c, const void *rows, size_t bytes, int with)
{
	char packed[512];
	ZSTD_CCtx *z = ZSTD_createCCtx();

	ZSTD_CCtx_setParameter(z, ZSTD_c_checksumFlag, with & WITH_SUM);
	ZSTD_CCtx_setParameter(z, ZSTD_c_contentSizeFlag, (with & WITH_SIZE) / WITH_SIZE);
	const size_t n = ZSTD_compress2(z, packed, sizeof(packed), rows, bytes);

	ZSTD_freeCCtx(z);
	craft_add(c, packed, n, (uint32_t)bytes, get_u32(packed + n - 4));
}

static void craft_table(struct craft *c)
{
	struct table t = { .entry = c->entry, .n = c->n };

	table_frame(&c->b, &t);
}

static void refused(struct craft *c, const char *name, const char *text)
{
	const struct victim v = victim_make();
	struct fault file = { "" }, pipe = { "" };
	const bool both = !victim_read(&v, c->b.p, c->b.n, &file) && !by_pipe(c->b.p, c->b.n, &pipe);

	if (!check(both && strstr(file.text, text) && strstr(pipe.text, text), "refused: %s", name))
		printf("# by file '%s', by pipe '%s'\n", file.text, pipe.text);
	close(v.fd);
	buf_free(&c->b);
}

#define GOOD "dtype u16\ncols 1\nrows-per-frame 4\nshard 0/1\n"

static void check_crafted_meta(void)
{
	static const struct { const char *name, *lines, *text; } cases[] = {
		{ "no dtype", "cols 1\nrows-per-frame 4\nshard 0/1\n", "lacks" },
		{ "an unknown dtype", "dtype f64\ncols 1\nrows-per-frame 4\nshard 0/1\n", "lacks" },
		{ "no column", "dtype u16\ncols 0\nrows-per-frame 4\nshard 0/1\n", "lacks" },
		{ "no rows in a frame", "dtype u16\ncols 1\nrows-per-frame 0\nshard 0/1\n", "lacks" },
		{ "columns beyond measure", "dtype u16\ncols 18446744073709551615\nrows-per-frame 4\nshard 0/1\n", "lacks" },
		{ "frames beyond measure", "dtype u32\ncols 100000000\nrows-per-frame 100000000\nshard 0/1\n", "larger than" },
		{ "shard 1 of 1", "dtype u16\ncols 1\nrows-per-frame 4\nshard 1/1\n", "lacks" },
		{ "a shard of what", "dtype u16\ncols 1\nrows-per-frame 4\nshard 0\n", "lacks" },
		{ "a key without value", GOOD "key\n", "lines of text" },
		{ "a line without key", GOOD " value\n", "lines of text" },
		{ "an escape sequence", GOOD "key \033[2J\n", "lines of text" },
		{ "no line end", GOOD "key value", "lines of text" },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct craft c = { .n = 0 };

		craft_meta(&c, cases[i].lines);
		craft_table(&c);
		refused(&c, cases[i].name, cases[i].text);
	}
}

static void check_crafted_data(void)
{
	const uint16_t rows[16] = { 1, 2, 3, 4, 5, 6 };
	static const struct { const char *name, *text, *closing; size_t bytes[3]; int with; } cases[] = {
		{ "a frame without checksum", "content size and checksum", NULL, { 8 }, WITH_SIZE },
		{ "a frame without size", "content size and checksum", NULL, { 8 }, WITH_SUM },
		{ "a frame too long", "frame 1", NULL, { 10 }, WITH_SUM | WITH_SIZE },
		{ "half a row", "frame 1 holds 7 bytes", NULL, { 7 }, WITH_SUM | WITH_SIZE },
		{ "a short frame in the middle", "not full", NULL, { 8, 6, 8 }, WITH_SUM | WITH_SIZE },
		{ "other rows in the closing META", "number of rows", "rows 5\n", { 8 }, WITH_SUM | WITH_SIZE },
		{ "another id in the closing META", "closing META names", "id 00\n", { 8 }, WITH_SUM | WITH_SIZE },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct craft c = { .n = 0 };

		craft_meta(&c, GOOD);
		for (size_t k = 0; k < 3 && cases[i].bytes[k]; k++)
			craft_data(&c, rows, cases[i].bytes[k], cases[i].with);
		if (cases[i].closing)
			craft_meta(&c, cases[i].closing);
		craft_table(&c);
		refused(&c, cases[i].name, cases[i].text);
	}
}

static void check_crafted_order(void)
{
	const uint16_t rows[4] = { 1, 2, 3, 4 };
	struct craft c = { .n = 0 };
	const uint32_t bomb[2] = { SHARD_META_MAGIC, UINT32_MAX }, foreign[3] = { 0x184D2A50, 4, 0 };

	craft_meta(&c, GOOD);
	craft_data(&c, rows, 8, WITH_SUM | WITH_SIZE);
	craft_table(&c);
	buf_add(&c.b, "", 1);
	refused(&c, "a byte behind the table", "");
	c = (struct craft){ .n = 0 };
	craft_meta(&c, GOOD);
	craft_meta(&c, "rows 4\n");
	craft_data(&c, rows, 8, WITH_SUM | WITH_SIZE);
	craft_table(&c);
	refused(&c, "DATA behind the closing META", "behind the closing META");
	c = (struct craft){ .n = 0 };
	craft_table(&c);
	refused(&c, "a table alone", "no shard");
	c = (struct craft){ .n = 0 };
	craft_data(&c, rows, 8, WITH_SUM | WITH_SIZE);
	refused(&c, "any zstd file", "no shard");
	c = (struct craft){ .n = 0 };
	buf_add(&c.b, bomb, sizeof(bomb));
	craft_table(&c);
	refused(&c, "META of 4 GiB", "");
	c = (struct craft){ .n = 0 };
	craft_meta(&c, GOOD);
	craft_data(&c, rows, 8, WITH_SUM | WITH_SIZE);
	c.entry[1].sum ^= 1;
	craft_table(&c);
	refused(&c, "a table with another checksum", "seek table");
	c = (struct craft){ .n = 0 };
	craft_meta(&c, GOOD);
	craft_data(&c, rows, 8, WITH_SUM | WITH_SIZE);
	buf_add(&c.b, foreign, sizeof(foreign));
	craft_table(&c);
	refused(&c, "a frame that the table does not list", "");
}

/* ---- all ---- */

static const int levels[] = { 3, 7 };

/* One shard a level, of rows that compress; the bytes of all into *b. */
static void write_levels(struct buf *b)
{
	enum { ROWS = 5000, COLS = 64 };
	char *rows = xmalloc(ROWS * COLS * 2), *path = in_dir("level.zst");
	struct buf one = { 0 };

	fill(rows, DT_F16, ROWS * COLS, 6);
	for (size_t i = 0; i < ARRAY_LEN(levels); i++) {
		const struct shard_spec spec = { DT_F16, COLS, 100, 0, 1, NULL, levels[i] };

		write_pieces(path, &spec, rows, ROWS);
		read_file(path, &one, SIZE_MAX / 2);
		buf_add(b, one.p, one.n);
	}
	free(rows);
	free(path);
	buf_free(&one);
}

/* What must come before the pool has threads: forks, and work by one thread. */
static void check_alone(struct set *set)
{
	check_meta();
	check_misfits(set);
	check_states();
	dies("no such file", "'none.zst': No such file", open_all, (char *[]){ (char *)"none.zst", NULL });
	dies("no set in a directory", "without shards", open_all, (char *[]){ (char *)"/proc", NULL });
	check_cache(set, 0);
}

static void remove_all(struct set *set)
{
	char *command = xformat("rm -rf %s", dir);

	if (system(command) != 0)
		warn("cannot remove %s", dir);
	for (size_t k = 0; k < SET; k++)
		free(set->paths[k]);
	free(set->rows);
	free(command);
}

int main(void)
{
	const struct shard_spec plain = { .dtype = DT_F16, .cols = 3, .rows_per_frame = 4, .n = 1 };
	const struct shard_spec tokens = { .dtype = DT_U16, .cols = 1, .rows_per_frame = 200, .n = 1, .level = 9 };
	struct buf one = { 0 }, many = { 0 };

	if (!mkdtemp(dir))
		die_errno("cannot make '%s'", dir);
	struct set set = set_make();

	write_levels(&one);
	check_alone(&set);
	check_dtypes();
	pool_start(4);
	write_levels(&many);
	check(one.n == many.n && !memcmp(one.p, many.p, one.n), "one thread or many: the same bytes");
	check_round_trips();
	check_floats();
	check_letter();
	check_statistics();
	check_id();
	check_early_close(set.paths[2]);
	check_sets(&set);
	check_seeks(&set);
	check_cache(&set, 0);
	check_cache(&set, 1 << 20);
	check_damage(&plain, 6, true, "two small frames");
	check_damage(&tokens, 250, false, "compressed blocks");
	check_damage(&plain, 0, true, "no rows");
	check_crafted_meta();
	check_crafted_data();
	check_crafted_order();
	remove_all(&set);
	buf_free(&one);
	buf_free(&many);
	return check_done();
}
