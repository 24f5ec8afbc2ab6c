/*
 * golden-tokens FILE… -- encodes every line of token files and compares; TAP.
 * A line is JSON: {"text", "ids"} or, for bytes that are not UTF-8,
 * {"b64", "ids_replace"}.  Files may be compressed.
 */
#include <archive.h>
#include <archive_entry.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "bpe.h"
#include "check.h"

static void read_all(const char *path, struct buf *b)
{
	struct archive *a = archive_read_new();
	struct archive_entry *e;
	char block[1 << 16];
	la_ssize_t n = -1;

	archive_read_support_filter_all(a);
	archive_read_support_format_raw(a);
	if (archive_read_open_filename(a, path, sizeof(block)) == ARCHIVE_OK &&
	    archive_read_next_header(a, &e) == ARCHIVE_OK)
		while ((n = archive_read_data(a, block, sizeof(block))) > 0)
			buf_add(b, block, (size_t)n);
	if (n < 0)
		die("cannot read '%s': %s", path, archive_error_string(a));
	archive_read_free(a);
}

static void decode_base64(const char *s, struct buf *out)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	unsigned bits = 0, n = 0;

	for (const char *d; *s && (d = strchr(digits, *s)); s++) {
		bits = bits << 6 | (unsigned)(d - digits);
		if ((n += 6) >= 8)
			buf_add(out, &(char){ (char)(bits >> (n -= 8)) }, 1);
	}
}

/* The line's text and the tokens it should give; false when it is not of this form. */
static bool parse(const json_t *line, struct buf *text, const json_t **want)
{
	const json_t *plain = json_object_get(line, "text"), *b64 = json_object_get(line, "b64");

	buf_clear(text);
	if (b64)
		decode_base64(json_string_value(b64), text);
	else if (plain)
		buf_add(text, json_string_value(plain), json_string_length(plain));
	*want = json_object_get(line, b64 ? "ids_replace" : "ids");
	return (b64 || plain) && json_is_array(*want);
}

/* First token that differs, or -1. */
static long difference(const struct ids *got, const json_t *want)
{
	const size_t n = json_array_size(want);

	for (size_t i = 0; i < n || i < got->n; i++)
		if (i >= n || i >= got->n || json_integer_value(json_array_get(want, i)) != got->v[i])
			return (long)i;
	return -1;
}

static void check_line(struct bpe_scratch *s, const char *file, size_t number, const char *p, size_t bytes)
{
	json_t *line = json_loadb(p, bytes, JSON_ALLOW_NUL, NULL);
	const json_t *want;
	struct buf text = { 0 };
	struct ids got = { 0 };

	if (!parse(line, &text, &want)) {
		check(false, "%s line %zu is a token line", file, number);
	} else {
		const char *name = json_string_value(json_object_get(line, "name"));

		bpe_encode(s, text.p ? text.p : "", text.n, &got);

		const long at = difference(&got, want);

		check(at < 0, "%s line %zu%s%s", file, number, name ? " " : "", name ? name : "");
		if (at >= 0)
			printf("#   token %ld of %zu: got %d, want %d\n", at, json_array_size(want),
			       (size_t)at < got.n ? got.v[at] : -1,
			       (int)json_integer_value(json_array_get(want, (size_t)at)));
	}
	json_decref(line);
	buf_free(&text);
	free(got.v);
}

int main(int argc, char **argv)
{
	struct bpe_scratch *s = bpe_scratch(bpe_gpt2());

	for (int i = 1; i < argc; i++) {
		struct buf all = { 0 };
		const char *base = strrchr(argv[i], '/');
		size_t number = 0;

		read_all(argv[i], &all);
		for (char *p = all.p, *end; p && *p; p = end + 1) {
			end = strchr(p, '\n');
			if (!end)
				end = all.p + all.n;
			check_line(s, base ? base + 1 : argv[i], ++number, p, (size_t)(end - p));
			if (end == all.p + all.n)
				break;
		}
		buf_free(&all);
	}
	bpe_scratch_free(s);
	return check_done();
}
