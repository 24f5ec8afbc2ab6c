/* Data as scripts. */
#include "htmlgen.h"

#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

void js_string(struct buf *b, const char *p, size_t bytes)
{
	buf_add(b, "\"", 1);
	for (size_t i = 0; i < bytes; i++) {
		const unsigned char c = (unsigned char)p[i];

		if (c < 0x20 || c == '"' || c == '\\' || c == '<' || c == 0x7f)
			buf_printf(b, "\\u%04x", c);
		else if (c < 0x80)
			buf_add(b, &p[i], 1);
		else
			buf_add(b, (const char[]){ (char)(0xc0 | c >> 6), (char)(0x80 | (c & 0x3f)) }, 2);
	}
	buf_add(b, "\"", 1);
}

/* = printf("%.6g"), which takes most of the time of a large site: six digits as a whole number.  false: it is so near
 * to the middle of two that their order is for printf to find, or out of the table's range. */
static bool six_digits(double x, uint32_t *digits, int *exponent)
{
	static const double power[] = { 1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
					1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22 };
	int e = (int)floor(log10(x));
	const int by = 5 - e;

	if (by > 22 || by < -22)
		return false;
	const double scaled = by >= 0 ? x * power[by] : x / power[-by], whole = floor(scaled), rest = scaled - whole;

	if (fabs(rest - 0.5) < 1e-6 || whole < 100000 || whole >= 999999)
		return false;
	*digits = (uint32_t)whole + (rest > 0.5);
	*exponent = e;
	return true;
}

void js_number(struct buf *b, double x)
{
	char text[16], *end = text + sizeof(text), *p = end;
	uint32_t d;
	int e;

	if (x == 0) {
		buf_add(b, "0", 1);
	} else if (!isfinite(x)) {
		buf_add(b, "null", 4);
	} else if (fabs(x) < 1e-4 || fabs(x) >= 1e6 || !six_digits(fabs(x), &d, &e)) {
		buf_printf(b, "%.6g", x);
	} else {
		bool any = false;       /* digits behind the point */

		for (int place = e - 5; place <= 0 || place <= e; place++) {
			if (place == 0 && any)
				*--p = '.';
			const char c = (char)('0' + d % 10);

			d /= 10;
			any = any || c != '0';
			if (place >= 0 || any)
				*--p = c;
		}
		if (x < 0)
			*--p = '-';
		buf_add(b, p, (size_t)(end - p));
	}
}

void js_base64(struct buf *b, const void *p, size_t bytes)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const unsigned char *s = p;

	buf_add(b, "\"", 1);
	for (size_t i = 0; i < bytes; i += 3) {
		const size_t n = bytes - i < 3 ? bytes - i : 3;
		const uint32_t v = (uint32_t)s[i] << 16 | (n > 1 ? (uint32_t)s[i + 1] << 8 : 0) |
			(n > 2 ? s[i + 2] : 0);

		buf_add(b, (const char[]){ digits[v >> 18], digits[v >> 12 & 63],
			n > 1 ? digits[v >> 6 & 63] : '=', n > 2 ? digits[v & 63] : '=' }, 4);
	}
	buf_add(b, "\"", 1);
}

void chunk_begin(struct buf *b, const char *name)
{
	buf_printf(b, "chunk(\"%s\",", name);
}

void chunk_write(struct site *site, const char *name, struct buf *b)
{
	char *file = xformat("data/%s.js", name);

	buf_printf(b, ",\"%s\");\n", site->build);
	site_file(site, file, b->p, b->n);
	buf_clear(b);
	free(file);
}

/* Not out_*: the site's directory appears as a whole, and is synced as one. */
void site_file(struct site *site, const char *name, const void *p, size_t bytes)
{
	char *path = xformat("%s/%s", site->dir, name);
	const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);

	if (fd < 0)
		die_errno("cannot make '%s'", path);
	write_full(fd, p, bytes, path);
	if (close(fd) != 0)
		die_errno("cannot write '%s'", path);
	site->bytes += bytes;
	free(path);
}
