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

void js_number(struct buf *b, double x)
{
	if (x == 0)
		buf_add(b, "0", 1);
	else if (isfinite(x))
		buf_printf(b, "%.6g", x);
	else
		buf_add(b, "null", 4);
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
