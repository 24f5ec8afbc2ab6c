/* jsonl: one field out of a line, and what is refused. */
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "jsonl.h"
#include "rng.h"

static const char *read_line(const char *line, struct buf *text)
{
	/* an exact copy, so that the address sanitizer sees a read behind the end */
	const size_t n = strlen(line);
	char *copy = memcpy(xmalloc(n), line, n);
	const char *wrong = jsonl_string(copy, n, "text", text);

	free(copy);
	return wrong;
}

static void gives(const char *line, const char *want, size_t bytes)
{
	struct buf text = { 0 };
	const char *wrong = read_line(line, &text);

	check(!wrong && text.n == bytes && !memcmp(text.n ? text.p : "", want, bytes), "%s", line);
	buf_free(&text);
}
#define GIVES(line, want) gives(line, want, sizeof(want) - 1)

static void refused(const char *line, const char *why)
{
	struct buf text = { 0 };
	const char *wrong = read_line(line, &text);

	const bool shown = !strpbrk(line, "\n\t");

	check(wrong && strstr(wrong, why), "refused (%s): %s", wrong ? wrong : "not", shown ? line : "control character");
	buf_free(&text);
}

static void test_refused(void)
{
	static const char *const damaged[] = { "{", "{\"", "{\"text", "{\"text\"", "{\"text\":", "{\"text\": \"a", "{\"text\": \"a\"",
		"{\"text\": \"a\\\"}", "{\"text\": \"a\\x\"}", "{\"text\": \"a\\u12g4\"}", "{\"text\": \"a\\u12\"}",
		"{\"text\": \"a\",}", "{\"text\": \"a\" \"b\": 1}", "{\"text\": \"a\", b: 1}", "{\"a\": [1, 2, \"text\": \"a\"}",
		"{\"a\": tru, \"text\": \"a\"}", "{\"a\": 01, \"text\": \"a\"}", "{\"a\": 1., \"text\": \"a\"}",
		"{\"a\": -, \"text\": \"a\"}", "{\"a\": 1e, \"text\": \"a\"}", "{\"a\": [1,], \"text\": \"a\"}",
		"{\"a\": {\"b\"}, \"text\": \"a\"}", "{\"text\": \"a\"]" };

	for (size_t i = 0; i < ARRAY_LEN(damaged); i++)
		refused(damaged[i], "damaged");
	refused("{\"text\": \"a\nb\"}", "damaged");
	refused("{\"text\": \"a tab behind a stride\tb\"}", "damaged");
	refused("[1]", "not a JSON object");
	refused("", "not a JSON object");
	refused("{\"text\": \"a\"} x", "more than one");
	refused("{\"text\": \"a\"}{\"text\": \"b\"}", "more than one");
	refused("{}", "no such field");
	refused("{\"Text\": \"a\", \"meta\": {\"text\": \"b\"}}", "no such field");
	refused("{\"text\": null}", "not a string");
	refused("{\"text\": {\"text\": \"a\"}}", "not a string");
	refused("{\"text\": \"a\", \"text\": 1}", "not a string");
}

static void test_depth(void)
{
	enum { N = 100000 };
	char *line = xmalloc(N + 32);
	struct buf text = { 0 };
	int n = sprintf(line, "{\"text\": \"a\", \"b\": ");

	memset(line + n, '[', N);
	line[n + N] = 0;
	check(read_line(line, &text) != NULL, "%d open brackets are refused", N);
	free(line);
	buf_free(&text);
}

static void test_quote(void)
{
	static const char text[] = "a\"b\\c\nd\te\0f\x1f \xC3\xA9";
	struct buf q = { 0 }, line = { 0 }, back = { 0 };

	jsonl_quote(&q, text, sizeof(text) - 1);
	check(!strcmp(q.p, "\"a\\\"b\\\\c\\nd\\u0009e\\u0000f\\u001f \xC3\xA9\""), "quoted: %s", q.p);
	buf_printf(&line, "{\"text\": %s}", q.p);
	check(!jsonl_string(line.p, line.n, "text", &back) && back.n == sizeof(text) - 1 &&
	      !memcmp(back.p, text, back.n), "what was quoted comes back");
	buf_free(&q);
	buf_free(&line);
	buf_free(&back);
}

/* Long strings of escapes and plain bytes, damaged or not, at all offsets to the steps of the copier. */
static void test_long(void)
{
	static const char *const quoted[] = { "a", "\\n", "\\\"", "\\\\", "plain words of a text, some of them", "\\u00e9", "\xC3\xA9",
		"\\/", "\\t" };
	static const char *const plain[] = { "a", "\n", "\"", "\\", "plain words of a text, some of them", "\xC3\xA9", "\xC3\xA9", "/",
		"\t" };
	struct buf line = { 0 }, want = { 0 }, text = { 0 };
	bool right = true;

	for (uint64_t k = 0; k < 3000; k++) {
		buf_clear(&line);
		buf_clear(&want);
		buf_printf(&line, "{\"text\": \"");
		for (uint64_t i = 0; i < k % 150; i++) {
			const size_t part = rng_below(rng_hash(1, RNG_TEST, k, i), ARRAY_LEN(quoted));

			buf_printf(&line, "%s", quoted[part]);
			buf_printf(&want, "%s", plain[part]);
		}
		buf_printf(&line, "%s\"%s}", k % 5 ? "" : k % 2 ? "\\x" : "\x1f", k % 3 ? "" : ", \"z\": \"some more, some more, some more, "
			   "some more, some more, some more, some more, some more, some more, some more, some more\"");
		const char *wrong = read_line(line.p, &text);

		right = right && (k % 5 ? !wrong && text.n == want.n && !memcmp(text.p, want.n ? want.p : "", want.n)
					      : wrong != NULL);
	}
	check(right, "long strings come out, or are refused");
	buf_free(&line);
	buf_free(&want);
	buf_free(&text);
}

int main(void)
{
	GIVES("{\"text\": \"a b\"}", "a b");
	GIVES(" { \"text\" : \"\" } \r", "");
	GIVES("{\"id\": 1.5e-3, \"text\": \"long enough for a stride of eight\", \"x\": [true, false, null, {}, []]}",
	      "long enough for a stride of eight");
	GIVES("{\"meta\": {\"text\": \"decoy\"}, \"text\": \"a\", \"z\": [{\"text\": \"decoy\"}]}", "a");
	GIVES("{\"text\": \"first\", \"text\": \"last\"}", "last");
	GIVES("{\"te\\u0078t\": \"escaped key\"}", "escaped key");
	GIVES("{\"text\": \"\\\"\\\\\\/\\b\\f\\n\\r\\t\"}", "\"\\/\b\f\n\r\t");
	GIVES("{\"text\": \"\\u0041\\u00e9\\u20AC\\uD83D\\uDE00\\u0000\"}", "A\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\0");
	GIVES("{\"text\": \"\\uD83D\"}", "\xEF\xBF\xBD");
	GIVES("{\"text\": \"\\uDE00\\uD83Dx\"}", "\xEF\xBF\xBD\xEF\xBF\xBDx");
	GIVES("{\"text\": \"\\uD83D\\uD83D\\uDE00\"}", "\xEF\xBF\xBD\xF0\x9F\x98\x80");
	GIVES("{\"text\": \"\xC3\xA9\xFF\x7F plain bytes\"}", "\xC3\xA9\xFF\x7F plain bytes");
	test_refused();
	test_depth();
	test_long();
	test_quote();
	return check_done();
}
