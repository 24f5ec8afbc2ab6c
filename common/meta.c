/* The META lines of shard.h. */
#include "shard.h"

#include <stdlib.h>
#include <string.h>

void meta_add(struct meta *m, const char *key, const char *fmt, ...)
{
	va_list ap;

	if (!*key || strpbrk(key, " \n"))
		BUG("'%s' is no META key", key);
	buf_printf(&m->text, "%s ", key);
	const size_t from = m->text.n;

	va_start(ap, fmt);
	buf_vprintf(&m->text, fmt, ap);
	va_end(ap);
	for (size_t i = from; i < m->text.n; i++) /* a line is a line */
		if ((unsigned char)m->text.p[i] < ' ' || m->text.p[i] == 0x7f)
			m->text.p[i] = ' ';
	buf_add(&m->text, "\n", 1);
}

char *meta_get(const struct meta *m, const char *key)
{
	const size_t n = strlen(key);
	const char *line = m->text.p, *end;

	for (; line && (end = strchr(line, '\n')); line = end + 1)
		if (!strncmp(line, key, n) && line[n] == ' ')
			return xformat("%.*s", (int)(end - line - (ptrdiff_t)n - 1), line + n + 1);
	return NULL;
}

uint64_t meta_u64(const struct meta *m, const char *key, const char *name)
{
	char *s = meta_get(m, key);
	uint64_t v;

	if (!s || !parse_u64(s, &v))
		die("'%s' has no number '%s' in its META", name, key);
	free(s);
	return v;
}

void meta_free(struct meta *m)
{
	buf_free(&m->text);
}
