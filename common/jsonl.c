#include "jsonl.h"

#include <string.h>

#include "jsonl_copy.h"

enum { DEPTH = 512 };   /* of nested values */

struct json {
	const char *p, *end;
};

static int peek(const struct json *j)
{
	return j->p < j->end ? (unsigned char)*j->p : -1;
}

static void blanks(struct json *j)
{
	while (j->p < j->end && (*j->p == ' ' || *j->p == '\t' || *j->p == '\n' || *j->p == '\r'))
		j->p++;
}

static bool take(struct json *j, char c)
{
	if (peek(j) != c)
		return false;
	j->p++;
	return true;
}

static void add_utf8(struct buf *out, unsigned c)
{
	char u[4];
	size_t n = 0;

	if (c < 0x80) {
		u[n++] = (char)c;
	} else if (c < 0x800) {
		u[n++] = (char)(0xC0 | c >> 6);
	} else if (c < 0x10000) {
		u[n++] = (char)(0xE0 | c >> 12);
		u[n++] = (char)(0x80 | (c >> 6 & 0x3F));
	} else {
		u[n++] = (char)(0xF0 | c >> 18);
		u[n++] = (char)(0x80 | (c >> 12 & 0x3F));
		u[n++] = (char)(0x80 | (c >> 6 & 0x3F));
	}
	if (c >= 0x80)
		u[n++] = (char)(0x80 | (c & 0x3F));
	buf_add(out, u, n);
}

/* Four hexadecimal digits, or -1. */
static int hex4(struct json *j)
{
	int v = 0;

	if (j->end - j->p < 4)
		return -1;
	for (int i = 0; i < 4; i++) {
		const char c = *j->p++;
		const int d = c >= '0' && c <= '9' ? c - '0' : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10 : -1;

		if (d < 0)
			return -1;
		v = v << 4 | d;
	}
	return v;
}

/* Behind "\u": one character, of a pair of surrogates if there is one. */
static bool unicode_escape(struct json *j, struct buf *out)
{
	const int high = hex4(j);
	int c = high;

	if (high < 0)
		return false;
	if (high >= 0xD800 && high < 0xE000) {
		struct json next = *j;

		c = 0xFFFD;
		if (high < 0xDC00 && take(&next, '\\') && take(&next, 'u')) {
			const int low = hex4(&next);

			if (low >= 0xDC00 && low < 0xE000) {
				c = 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
				*j = next;
			}
		}
	}
	if (out)
		add_utf8(out, (unsigned)c);
	return true;
}

const char jsonl_letter[256] = { ['"'] = '"', ['\\'] = '\\', ['/'] = '/', ['b'] = '\b', ['f'] = '\f', ['n'] = '\n',
	['r'] = '\r', ['t'] = '\t' };

static bool escape(struct json *j, struct buf *out)
{
	const int c = peek(j);
	const char letter = c < 0 ? 0 : jsonl_letter[c];

	j->p++;
	if (c == 'u')
		return unicode_escape(j, out);
	if (letter && out)
		buf_add(out, &letter, 1);
	return letter != 0;
}

/* Up to the next byte that is not itself: a quote, a backslash or a control character. */
static const char *plain(const char *p, const char *end)
{
	while (end - p >= 8) {
		const uint64_t ones = 0x0101010101010101, highs = 0x8080808080808080;
		uint64_t x;

		memcpy(&x, p, 8);
		const uint64_t quote = x ^ ones * '"', slash = x ^ ones * '\\';

		/* a zero byte in x - 0x20…, quote or slash; false hits only end the stride early */
		if ((((x - ones * 0x20) & ~x) | ((quote - ones) & ~quote) | ((slash - ones) & ~slash)) & highs)
			break;
		p += 8;
	}
	while (p < end && *p != '"' && *p != '\\' && (unsigned char)*p >= 0x20)
		p++;
	return p;
}

/* Behind the opening quote, to the one that closes. */
static bool skip_string(struct json *j)
{
	for (;;) {
		j->p = plain(j->p, j->end);
		if (take(j, '"'))
			return true;
		if (!take(j, '\\') || !escape(j, NULL))
			return false;
	}
}

/* The same; appends what it stands for to out. */
static bool string(struct json *j, struct buf *out)
{
	jsonl_copy_fn *copy = jsonl_copy_avx2();

	buf_reserve(out, (size_t)(j->end - j->p) + JSONL_PAD); /* escapes are longer than what they stand for */
	for (;;) {
		if (copy)
			copy(&j->p, j->end, out);
		const char *from = j->p;

		j->p = plain(j->p, j->end);
		buf_add(out, from, (size_t)(j->p - from));
		if (take(j, '"'))
			return true;
		if (!take(j, '\\') || !escape(j, out))
			return false;
	}
}

static bool digits(struct json *j)
{
	const char *from = j->p;

	while (j->p < j->end && *j->p >= '0' && *j->p <= '9')
		j->p++;
	return j->p > from;
}

static bool number(struct json *j)
{
	take(j, '-');
	if (!take(j, '0') && !digits(j))
		return false;
	if (take(j, '.') && !digits(j))
		return false;
	if (take(j, 'e') || take(j, 'E')) {
		if (!take(j, '+'))
			take(j, '-');
		return digits(j);
	}
	return true;
}

static bool word(struct json *j, const char *w)
{
	const size_t n = strlen(w);

	if ((size_t)(j->end - j->p) < n || memcmp(j->p, w, n))
		return false;
	j->p += n;
	return true;
}

static bool value(struct json *j, int depth);

/* Behind the opening bracket: values up to the closing one, with keys in an object. */
static bool members(struct json *j, char close, int depth)
{
	blanks(j);
	if (take(j, close))
		return true;
	do {
		blanks(j);
		if (close == '}') {
			if (!take(j, '"') || !skip_string(j))
				return false;
			blanks(j);
			if (!take(j, ':'))
				return false;
		}
		if (!value(j, depth + 1))
			return false;
		blanks(j);
	} while (take(j, ','));
	return take(j, close);
}

static bool value(struct json *j, int depth)
{
	blanks(j);
	if (depth > DEPTH)
		return false;
	switch (peek(j)) {
	case '"': j->p++; return skip_string(j);
	case '{': j->p++; return members(j, '}', depth);
	case '[': j->p++; return members(j, ']', depth);
	case 't': return word(j, "true");
	case 'f': return word(j, "false");
	case 'n': return word(j, "null");
	default: return number(j);
	}
}

/* A key behind its opening quote; *same: it is the one looked for. */
static bool key_string(struct json *j, const char *key, bool *same)
{
	const char *from = j->p;
	struct buf name = { 0 };

	if (!skip_string(j))
		return false;
	if (memchr(from, '\\', (size_t)(j->p - from))) {
		struct json again = { from, j->p };

		string(&again, &name);
		*same = name.n == strlen(key) && (!name.n || !memcmp(name.p, key, name.n));
		buf_free(&name);
		return true;
	}
	const size_t n = (size_t)(j->p - from) - 1;

	*same = n == strlen(key) && !memcmp(from, key, n);
	return true;
}

/* One `"key": value`; the value to *text when it is a string under this key. */
static bool pair(struct json *j, const char *key, struct buf *text, int *found)
{
	bool same;

	blanks(j);
	if (!take(j, '"') || !key_string(j, key, &same))
		return false;
	blanks(j);
	if (!take(j, ':'))
		return false;
	blanks(j);
	if (!same)
		return value(j, 0);
	*found = peek(j) == '"' ? 1 : -1;
	if (*found < 0)
		return value(j, 0);
	buf_clear(text);
	j->p++;
	return string(j, text);
}

const char *jsonl_string(const char *line, size_t bytes, const char *key, struct buf *text)
{
	struct json j = { line, line + bytes };
	int found = 0;

	buf_clear(text);
	blanks(&j);
	if (!take(&j, '{'))
		return "not a JSON object";
	blanks(&j);
	if (!take(&j, '}')) {
		do {
			if (!pair(&j, key, text, &found))
				return "damaged JSON";
			blanks(&j);
		} while (take(&j, ','));
		if (!take(&j, '}'))
			return "damaged JSON";
	}
	blanks(&j);
	if (j.p < j.end)
		return "more than one JSON value";
	return found > 0 ? NULL : found < 0 ? "the field is not a string" : "no such field";
}

void jsonl_quote(struct buf *out, const char *s, size_t bytes)
{
	const char *end = s + bytes, *p;

	buf_add(out, "\"", 1);
	for (; s < end; s = p + 1) {
		p = plain(s, end);
		buf_add(out, s, (size_t)(p - s));
		if (p == end)
			break;
		if (*p == '\n')
			buf_add(out, "\\n", 2);
		else if (*p == '"' || *p == '\\')
			buf_printf(out, "\\%c", *p);
		else
			buf_printf(out, "\\u%04x", (unsigned char)*p);
	}
	buf_add(out, "\"", 1);
}
