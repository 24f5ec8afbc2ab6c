/* source: which documents a file's content makes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "file.h"
#include "source.h"

static char dir[] = "/tmp/u-source.XXXXXX";

/* A list of documents as one line: texts in <>, tokens as numbers. */
static void listed(const char *path, struct buf *list)
{
	struct source *s = source_open(path, &(struct source_opts){ 0 });
	struct doc d;

	buf_clear(list);
	buf_add(list, "", 0);
	while (source_next(s, &d)) {
		buf_printf(list, "<");
		if (d.text)
			buf_add(list, d.text, d.bytes);
		for (size_t i = 0; !d.text && i < d.n_ids; i++)
			buf_printf(list, "%s%u", i ? " " : "", d.ids[i]);
		buf_printf(list, ">");
	}
	if (source_next(s, &d))
		buf_printf(list, " and more after the end");
	source_close(s);
}

static void gives_named(const char *name, const void *file, size_t bytes, const char *want, size_t n, const char *what)
{
	char *path = xformat("%s/%s", dir, name);
	struct buf list = { 0 };

	file_write(path, file, bytes);
	listed(path, &list);
	if (!check(list.n == n && !memcmp(list.p, want, n), "%s", what))
		printf("#   got %s\n", list.p);
	unlink(path);
	free(path);
	buf_free(&list);
}
#define GIVES(what, file, want) gives_named("f", file, sizeof(file) - 1, want, sizeof(want) - 1, what)

static void test_text(void)
{
	GIVES("text", "a b\n", "<a b\n>");
	GIVES("no byte, no document", "", "");
	GIVES("text with NUL, tabs and escapes", "a\0\tb\x1b[0m", "<a\0\tb\x1b[0m>");
	GIVES("text that is not UTF-8", "caf\xE9 au lait", "<caf\xE9 au lait>");
	GIVES("Polish, every second byte a possible high one", "P\xC4\x85ki", "<P\xC4\x85ki>");
	GIVES("UTF-16 without a mark is text too", "a\0b\0", "<a\0b\0>");
	GIVES("pretty-printed JSON is text", "{\n \"text\": 1\n}\n", "<{\n \"text\": 1\n}\n>");
	GIVES("text with a line of JSON", "As in\n{\"text\": 1}\nor so.\n", "<As in\n{\"text\": 1}\nor so.\n>");
	GIVES("a text that begins like an archive", "BZh is no bzip2\n", "<BZh is no bzip2\n>");
	GIVES("an mtree is text", "#mtree\n./a type=file\n", "<#mtree\n./a type=file\n>");
	GIVES("uuencode is text", "begin 644 a\n#0V%T\n`\nend\n", "<begin 644 a\n#0V%T\n`\nend\n>");
	GIVES("whitespace stays", "\n\n\n\n a \n", "<\n\n\n\n a \n>");
#define OWT "\n\n a\n\n\n\n\nb \xC2\xA0\n"
	gives_named("0000001-f47cd6c6418f5fd91391e08e247e7202.txt", OWT, sizeof(OWT) - 1, "<a\n\nb>", 6,
		    "... but not in a file of OpenWebText");
}

static void test_json(void)
{
	GIVES("JSON Lines", "{\"text\": \"a\"}\n{\"text\": \"b\"}\n", "<a><b>");
	GIVES("no last newline", "{\"text\": \"a\"}\n{\"text\": \"b\"}", "<a><b>");
	GIVES("empty lines, CRLF", "\r\n{\"text\": \"a\"}\r\n\r\n \t\n{\"text\": \"\"}\r\n", "<a><>");
	GIVES("a byte order mark", "\xEF\xBB\xBF{\"text\": \"a\"}\n", "<a>");
}

static void test_long_lines(void)
{
	enum { N = 3 << 18 };
	struct buf file = { 0 }, want = { 0 };

	for (unsigned k = 0; k < 3; k++) {
		buf_printf(&file, "{\"text\": \"");
		buf_printf(&want, "<");
		for (unsigned i = 0; i < N + k; i++) {
			buf_add(&file, &(char){ (char)('a' + i % 26) }, 1);
			buf_add(&want, &(char){ (char)('a' + i % 26) }, 1);
		}
		buf_printf(&file, "\"}\n");
		buf_printf(&want, ">");
	}
	gives_named("f", file.p, file.n, want.p, want.n, "lines longer than what is read at once");
	buf_free(&file);
	buf_free(&want);
}

static void test_tokens(void)
{
	static const uint16_t ids[] = { 262, 11, 50256, 50256, 9000, 50256 };
	static const uint16_t open_end[] = { 50256, 262, 11, 13, 50256, 7 };
	int32_t llmc[256 + 3] = { 20240520, 1, 6 };

	gives_named("f", ids, sizeof(ids), "<262 11><><9000>", 16, "nanoGPT's file: end tokens behind documents");
	gives_named("f", (uint16_t[]){ 15496, 50256 }, 4, "<15496>", 7, "... of one token");
	gives_named("f", ids, 4, "<\x06\x01\x0B\0>", 6, "... too short to tell from a text");
	gives_named("f", open_end, sizeof(open_end), "<><262 11 13><7>", 16, "... without a last end token");
	memcpy(llmc + 256, open_end, sizeof(open_end));
	gives_named("f", llmc, sizeof(llmc), "<262 11 13><7>", 14, "llm.c's file: end tokens before documents");
	memcpy(llmc + 256, ids, sizeof(ids));
	gives_named("f", llmc, sizeof(llmc), "<262 11><><9000><>", 18, "... that begins inside a document");
}

int main(void)
{
	if (!mkdtemp(dir))
		die_errno("cannot make '%s'", dir);
	test_text();
	test_json();
	test_long_lines();
	test_tokens();
	rmdir(dir);
	return check_done();
}
