/* The recipes and states of file.h. */
#include "file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

struct recipe {
	struct buf text;
};

struct recipe *recipe_new(const char *tool, unsigned output_version)
{
	struct recipe *r = xcalloc(1, sizeof(*r));

	buf_printf(&r->text, "%s %u\n", tool, output_version);
	return r;
}

void recipe_add(struct recipe *r, const char *key, const char *fmt, ...)
{
	va_list ap;

	buf_printf(&r->text, "%s ", key);
	va_start(ap, fmt);
	buf_vprintf(&r->text, fmt, ap);
	va_end(ap);
	buf_add(&r->text, "\n", 1);
}

const char *recipe_text(const struct recipe *r)
{
	return r->text.p;
}

static void hash_hex(const void *p, size_t bytes, char hex[33])
{
	const XXH128_hash_t h = XXH3_128bits(p, bytes);

	snprintf(hex, 33, "%016llx%016llx", (unsigned long long)h.high64, (unsigned long long)h.low64);
}

void recipe_hash(const struct recipe *r, char hex[33])
{
	hash_hex(r->text.p, r->text.n, hex);
}

bool recipe_fresh(const struct recipe *r, const char *path)
{
	char *stamp = xformat("%s.stamp", path);
	struct buf text = { 0 };
	bool fresh = false;

	if (strcmp(path, "-") && file_exists(path) && file_exists(stamp)) {
		read_file(stamp, &text, (size_t)1 << 24);
		fresh = text.n == r->text.n && !memcmp(text.p, r->text.p, text.n);
	}
	if (fresh) {
		file_touch(path);
		say("'%s' is up to date", path);
	}
	buf_free(&text);
	free(stamp);
	return fresh;
}

void recipe_stamp(const struct recipe *r, const char *path)
{
	char *stamp = xformat("%s.stamp", path);

	if (strcmp(path, "-"))
		file_write(stamp, r->text.p, r->text.n);
	free(stamp);
}

void recipe_unstamp(const char *path)
{
	char *stamp = xformat("%s.stamp", path);

	if (strcmp(path, "-"))
		unlink(stamp);
	free(stamp);
}

void recipe_free(struct recipe *r)
{
	buf_free(&r->text);
	free(r);
}

/* ---- states: head, then the stage's own bytes ---- */

struct state_head {
	char tag[8];
	char recipe[32];        /* its hash, hex */
	uint64_t bytes, sum;    /* XXH3-64 of the body */
};
static const char state_tag[8] = "fmstate\1";

static char *state_path(const char *path)
{
	return xformat("%s.state", path);
}

static struct state_head head_of(const struct recipe *r, const void *body, size_t bytes)
{
	struct state_head h = { .bytes = bytes, .sum = XXH3_64bits(body, bytes) };
	char hex[33];

	recipe_hash(r, hex);
	memcpy(h.tag, state_tag, sizeof(h.tag));
	memcpy(h.recipe, hex, sizeof(h.recipe));
	return h;
}

bool state_load(const char *path, const struct recipe *r, struct buf *body)
{
	char *state = state_path(path);
	struct state_head h, want;
	struct buf file = { 0 };
	const char *trouble = NULL;

	if (!file_exists(state)) {
		free(state);
		return false;
	}
	read_file(state, &file, SIZE_MAX / 2);
	if (file.n < sizeof(h)) {
		trouble = "damaged";
	} else {
		memcpy(&h, file.p, sizeof(h));
		want = head_of(r, file.p + sizeof(h), file.n - sizeof(h));
		if (memcmp(h.tag, want.tag, sizeof(h.tag)) || h.bytes != want.bytes || h.sum != want.sum)
			trouble = "damaged";
		else if (memcmp(h.recipe, want.recipe, sizeof(h.recipe)))
			trouble = "of another run";
	}
	if (trouble) {
		char *old = xformat("%s.old", state);

		warn("'%s' is %s; set aside as '%s'", state, trouble, old);
		if (rename(state, old) != 0)
			die_errno("cannot rename '%s'", state);
		free(old);
	} else {
		buf_clear(body);
		buf_add(body, file.p + sizeof(h), file.n - sizeof(h));
		out_keep();
	}
	buf_free(&file);
	free(state);
	return !trouble;
}

void state_save(const char *path, const struct recipe *r, const struct buf *body)
{
	const struct state_head h = head_of(r, body->p, body->n);
	char *state = state_path(path);
	struct out *f = out_open(state, 0);

	out_write(f, &h, sizeof(h));
	out_write(f, body->p, body->n);
	out_commit(f);
	out_keep();
	free(state);
}

void state_drop(const char *path)
{
	char *state = state_path(path), *part = xformat("%s.part", state);

	unlink(state);
	unlink(part);   /* of a save that was killed */
	free(part);
	free(state);
}

void cursor_get(struct cursor *c, void *p, size_t bytes)
{
	if (bytes > c->left)
		die("damaged state: %zu bytes more were expected", bytes - c->left);
	if (bytes)
		memcpy(p, c->p, bytes);
	c->p += bytes;
	c->left -= bytes;
}
