/* Tokens as a terminal can show them. */
#include <string.h>
#include <wchar.h>

#include "features.h"
#include "utf8.h"

/* Characters that are not seen, or steer a terminal or the order of what is: they go by name. */
static const struct { uint32_t from, to; } unseen[] = {
	{ 0x80, 0xA0 }, { 0xAD, 0xAD }, { 0x34F, 0x34F }, { 0x61C, 0x61C }, { 0x115F, 0x1160 }, { 0x1680, 0x1680 },
	{ 0x17B4, 0x17B5 }, { 0x180B, 0x180F }, { 0x2000, 0x200F }, { 0x2028, 0x202F }, { 0x205F, 0x206F },
	{ 0x2800, 0x2800 }, { 0x3000, 0x3000 }, { 0x3164, 0x3164 }, { 0xFE00, 0xFE0F }, { 0xFEFF, 0xFEFF },
	{ 0xFFA0, 0xFFA0 }, { 0xFFF0, 0xFFFD }, { 0x1BCA0, 0x1BCA3 }, { 0x1D173, 0x1D17A }, { 0xE0000, 0xE0FFF },
};

static bool is_unseen(uint32_t code)
{
	for (size_t i = 0; i < ARRAY_LEN(unseen); i++)
		if (code >= unseen[i].from && code <= unseen[i].to)
			return true;
	return false;
}

static uint32_t code_of(const unsigned char *p, int n)
{
	uint32_t code = n == 1 ? p[0] : p[0] & (0x7Fu >> n);

	for (int i = 1; i < n; i++)
		code = code << 6 | (p[i] & 0x3F);
	return code;
}

static void add_char(struct buf *b, const unsigned char *p, int n, enum text_style style)
{
	const uint32_t code = code_of(p, n);

	if (code == '\n')
		buf_printf(b, style == TEXT_RUNNING ? "↵\n" : "↵");
	else if (code == '\t' || code == '\r' || code == 0x7F)
		buf_printf(b, "%s", code == '\t' ? "⇥" : code == '\r' ? "␍" : "␡");
	else if (code < 0x20)
		buf_add(b, (const char[]){ '\xE2', '\x90', (char)(0x80 | code) }, 3);   /* U+2400 … */
	else if (code == ' ' && style == TEXT_ALONE)
		buf_printf(b, "␣");
	else if (is_unseen(code))
		buf_printf(b, "[U+%04X]", code);
	else
		buf_add(b, p, (size_t)n);
}

/* Does it join the character before? */
static bool is_mark(const unsigned char *p, int n)
{
	return n > 1 && !is_unseen(code_of(p, n)) && wcwidth((wchar_t)code_of(p, n)) == 0;
}

static const char *bytes_of(uint16_t id, size_t *bytes)
{
	const char *p = bpe_token(bpe_gpt2(), id, bytes);

	if (!p)
		BUG("token %u", id);
	return p;
}

void text_tokens(struct buf *b, size_t *at, const uint16_t *ids, size_t n, enum text_style style)
{
	struct buf all = { 0 };
	size_t *end = xcalloc(n + 1, sizeof(*end)), t = 0;

	for (size_t i = 0; i < n; i++) {
		size_t bytes;
		const char *p = bytes_of(ids[i], &bytes);

		buf_add(&all, p, bytes);
		end[i] = all.n;
	}
	const unsigned char *const text = (const unsigned char *)all.p;

	at[0] = b->n;
	for (size_t i = 0; i < all.n; ) {
		const int length = utf8_length(text + i, text + all.n);

		if (style == TEXT_ALONE && b->n == at[t] && is_mark(text + i, length))
			buf_printf(b, "◌");
		if (length < 0)
			buf_printf(b, "\\x%02X", text[i]);
		else
			add_char(b, text + i, length, style);
		for (i += length < 0 ? 1 : (size_t)length; t < n && end[t] <= i; ) {
			at[++t] = b->n;
			if (t < n && end[t - 1] < i)
				buf_printf(b, "·");     /* the rest of that character */
		}
	}
	buf_free(&all);
	free(end);
}

size_t text_columns(const char *p, size_t bytes)
{
	const unsigned char *s = (const unsigned char *)p, *end = s + bytes;
	size_t columns = 0;

	for (int n; s < end; s += n) {
		n = utf8_length(s, end);
		const int width = n < 0 ? 1 : wcwidth((wchar_t)code_of(s, n));

		n = n < 0 ? 1 : n;
		columns += width < 0 ? 1 : (size_t)width;
	}
	return columns;
}
