/* shardls: what shards are, whether they are whole, their rows as text. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "inputs.h"
#include "opt.h"
#include "pool.h"
#include "prog.h"
#include "shard.h"

static const char usage[] =
	"usage: shardls [options] [FILE | DIR]…\n"
	"Lists shards; without operands, or for -, those on standard input, which are read and\n"
	"checked to their end.  Exit status 1 if any is damaged or no shard at all.\n"
	"e.g.:  shardls --check acts && shardls --rows 0:3 acts/000.zst\n";

static struct {
	struct opt_common c;
	const char *rows;
	bool check, meta, json;
} o = { .c = OPT_COMMON_INIT };

static const struct opt opts[] = {
	OPT_FLAG(0, "check", &o.check, "read and verify everything; of a directory, that no shard is missing"),
	OPT_FLAG(0, "meta", &o.meta, "show the lines of META too"),
	OPT_FLAG(0, "json", &o.json, "a line of JSON for each shard"),
	OPT_STR(0, "rows", &o.rows, "A:B", "print rows A to B-1 of the shards as text; A, :B, A: too"),
	OPT_THREADS(&o.c), OPT_QUIET(&o.c), OPT_END
};

/* ---- listing ---- */

static const char *size_text(char text[16], double bytes)
{
	static const char *const units[] = { "B", "K", "M", "G", "T", "P" };
	size_t u = 0;

	for (; bytes >= 1024 && u + 1 < ARRAY_LEN(units); u++)
		bytes /= 1024;
	snprintf(text, 16, u ? "%.1f%s" : "%.0f%s", bytes, units[u]);
	return text;
}

static uint64_t raw_bytes(const struct shard_info *s)
{
	return s->rows * s->cols * dtype_size(s->dtype);
}

static void print_lines(const struct meta *m)
{
	for (const char *line = m->text.p, *end; line && (end = strchr(line, '\n')); line = end + 1)
		printf("    %.*s\n", (int)(end - line), line);
}

static void print_head(void)
{
	if (!o.json && !o.c.quiet)
		printf("%12s %6s %-5s %-9s %-9s %8s %8s  %-32s  %s\n", "rows", "cols", "dtype", "shard", "order",
		       "packed", "raw", "id", "file");
}

static void print_shard(const struct shard_info *s, const char *path)
{
	char place[48], packed[16], raw[16], *order = meta_get(&s->meta, "order");

	snprintf(place, sizeof(place), "%llu/%llu", (unsigned long long)s->k, (unsigned long long)s->n);
	printf("%12llu %6zu %-5s %-9s %-9s %8s %8s  %s  %s\n", (unsigned long long)s->rows, s->cols,
	       dtype_name(s->dtype), place, order ? order : "-", size_text(packed, (double)s->bytes),
	       size_text(raw, (double)raw_bytes(s)), s->id, path);
	free(order);
	if (o.meta) {
		print_lines(&s->meta);
		print_lines(&s->stats);
	}
}

/* Text as JSON can hold it: what is no UTF-8 becomes '?'. */
static json_t *json_text(const char *p, size_t n)
{
	json_t *v = json_stringn(p, n);

	if (v)
		return v;
	char *copy = xformat("%.*s", (int)n, p);

	for (char *c = copy; *c; c++)
		if ((unsigned char)*c >= 0x80)
			*c = '?';
	v = json_string(copy);
	free(copy);
	return v;
}

/* Lines as an object; of keys that repeat, an array. */
static json_t *json_lines(const struct meta *m)
{
	json_t *all = json_object();

	for (const char *line = m->text.p, *end; line && (end = strchr(line, '\n')); line = end + 1) {
		const char *space = memchr(line, ' ', (size_t)(end - line));
		char *key = xformat("%.*s", (int)(space - line), line);
		json_t *value = json_text(space + 1, (size_t)(end - space - 1)), *old = json_object_get(all, key);

		if (json_is_array(old))
			json_array_append_new(old, value);
		else if (old)
			json_object_set_new(all, key, json_pack("[O, o]", old, value));
		else
			json_object_set_new(all, key, value);
		free(key);
	}
	return all;
}

static void print_json(const struct shard_info *s, const char *path)
{
	json_t *v = json_pack("{s:o, s:I, s:I, s:s, s:[I, I], s:I, s:I, s:I, s:I, s:s, s:o, s:o}",
		"file", json_text(path, strlen(path)), "rows", (json_int_t)s->rows, "cols", (json_int_t)s->cols,
		"dtype", dtype_name(s->dtype), "shard", (json_int_t)s->k, (json_int_t)s->n,
		"frames", (json_int_t)s->frames, "rows_per_frame", (json_int_t)s->rows_per_frame,
		"packed_bytes", (json_int_t)s->bytes, "raw_bytes", (json_int_t)raw_bytes(s), "id", s->id,
		"meta", json_lines(&s->meta), "stats", json_lines(&s->stats));
	char *text = v ? json_dumps(v, 0) : NULL;

	if (!text)
		die("out of memory");
	puts(text);
	free(text);
	json_decref(v);
}

static void list(struct shard_info *s, const char *path)
{
	if (o.json)
		print_json(s, path);
	else if (!o.c.quiet)
		print_shard(s, path);
	shard_info_free(s);
}

static bool is_kind(const char *path, bool regular, bool directory)
{
	struct stat st;

	if (stat(path, &st) != 0)
		return false;
	return S_ISREG(st.st_mode) ? regular : S_ISDIR(st.st_mode) ? directory : !regular && !directory;
}

/* Every file is looked at, whatever the others are. */
static bool list_files(char *const *paths)
{
	char **all = shard_paths(paths);
	struct shard_info info;
	char why[256];
	bool good = true, parts = false;

	print_head();
	if (o.check)
		prog_start("bytes checked", inputs_bytes(all));
	for (char **p = all; *p; p++) {
		const bool whole = shard_check(*p, o.check, &info, why);

		prog_clear();
		if (whole) {
			parts = info.n > 1;
			list(&info, *p);
		} else {
			fflush(stdout);
			warn("cannot read '%s': %s", *p, why);
			good = false;
		}
	}
	shard_paths_free(all);
	if (good && o.check && parts && !paths[1] && is_kind(paths[0], false, true))
		shards_close(shards_open(paths));       /* dies unless the directory is a whole set */
	return good;
}

static void list_stream(char *const *paths)
{
	struct shards *s = shards_open(paths);
	const size_t row_bytes = shards_cols(s) * dtype_size(shards_dtype(s)), n = (1 << 20) / row_bytes + 1;
	struct shard_info info;
	char *rows = xmalloc(n * row_bytes);

	while (shards_read(s, rows, n) > 0)
		;
	print_head();
	for (size_t i = 0; i < shards_count(s); i++) {
		shards_info(s, i, &info);
		list(&info, "-");
	}
	free(rows);
	shards_close(s);
}

/* ---- rows ---- */

static void print_value(enum dtype t, const char *p)
{
	uint16_t h;
	uint32_t u;
	float x;

	if (t == DT_U16) {
		memcpy(&h, p, sizeof(h));
		printf("%u", h);
	} else if (t == DT_U32) {
		memcpy(&u, p, sizeof(u));
		printf("%u", (unsigned)u);
	} else {        /* as many digits as tell any two values apart */
		dtype_to_f32(t, &x, p, 1);
		printf("%.*g", t == DT_F16 ? 5 : t == DT_BF16 ? 4 : 9, (double)x);
	}
}

/* Rows from, … to-1 of the range, as far as there are rows. */
static void parse_range(uint64_t *from, uint64_t *to)
{
	char *text = xstrdup(o.rows), *colon = strchr(text, ':');
	bool ok;

	*from = 0;
	*to = UINT64_MAX;
	if (colon) {
		*colon = 0;
		ok = (!*text || parse_u64(text, from)) && (!colon[1] || parse_u64(colon + 1, to)) && *from <= *to;
	} else {
		ok = parse_u64(text, from) && *from < UINT64_MAX;
		*to = *from + 1;
	}
	if (!ok)
		die_usage("--rows takes A:B with A not above B, not '%s'", o.rows);
	free(text);
}

static void print_rows(char *const *paths)
{
	uint64_t from, to, at = 0;

	parse_range(&from, &to);
	struct shards *s = shards_open(paths);
	const size_t cols = shards_cols(s), size = dtype_size(shards_dtype(s));
	char *row = xmalloc(cols * size);

	if (shards_seekable(s)) {
		at = from < shards_rows(s) ? from : shards_rows(s);
		shards_seek(s, at);
	}
	for (; (at < to || !shards_seekable(s)) && shards_read(s, row, 1); at++) {
		if (at < from || at >= to)
			continue;       /* a stream is read to its end, so that its writer is not cut off */
		for (size_t k = 0; k < cols; k++) {
			print_value(shards_dtype(s), row + k * size);
			putchar(k + 1 < cols ? '\t' : '\n');
		}
	}
	free(row);
	shards_close(s);
}

/* ---- all ---- */

static bool is_stream(char *const *paths)
{
	if (!paths[0] && isatty(STDIN_FILENO))
		die_usage("no shards given");
	return !paths[0] || (!paths[1] && (!strcmp(paths[0], "-") || is_kind(paths[0], false, false)));
}

int main(int argc, char **argv)
{
	char **paths = opt_parse(argc, argv, opts, usage, &o.c);
	bool good = true;

	if (o.rows && (o.json || o.check || o.meta))
		die_usage("--rows excludes --json, --check and --meta");
	pool_start(o.c.threads);
	if (o.rows)
		print_rows(paths);
	else if (is_stream(paths))
		list_stream(paths);
	else
		good = list_files(paths);
	if (fflush(stdout) || ferror(stdout))
		die_errno("cannot write <stdout>");
	return good ? 0 : 1;
}
