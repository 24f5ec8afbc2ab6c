#include "layers.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BLOCK = 1 << 16, MAX_DEPTH = 16, LOOK = 512 };

/* One wrapping: the file itself (fd), or a reader of the present member of the layer below. */
struct layer {
	struct layers *all;
	struct layer *below;
	struct archive *a;      /* NULL: the file itself */
	bool raw;               /* no archive: one member without a name of its own */
	bool fresh;             /* the first header was read, nobody has seen it yet */
	char *name;             /* of the present member */
	struct buf head;        /* read ahead of it, from at on */
	size_t at;
	char block[BLOCK];      /* what libarchive was fed last */
};

struct layers {
	char *path;
	const struct opt_list *match;
	int fd;
	bool seekable;
	uint64_t consumed;
	struct layer *top;
	size_t depth;
	struct buf where;
};

const char *layers_where(struct layers *l)
{
	const char *names[MAX_DEPTH + 1];
	size_t n = 0;

	for (const struct layer *i = l->top; i; i = i->below)
		if (i->name)
			names[n++] = i->name;
	buf_clear(&l->where);
	buf_printf(&l->where, "'%s'", !strcmp(l->path, "-") ? "<stdin>" : l->path);
	if (n > 0)
		buf_printf(&l->where, " member '");
	while (n-- > 0)
		buf_printf(&l->where, "%s%s", names[n], n ? "/" : "'");
	return l->where.p;
}

static _Noreturn void damaged(struct layer *l)
{
	const char *why = archive_error_string(l->a);

	die("cannot read %s: %s", layers_where(l->all), why ? why : "damaged");
}

/* Past the bytes read ahead. */
static size_t read_more(struct layer *l, void *p, size_t bytes)
{
	if (!l->a) {
		const size_t n = read_full(l->all->fd, p, bytes, l->all->path);

		l->all->consumed += n;
		return n;
	}
	const la_ssize_t n = archive_read_data(l->a, p, bytes);

	if (n < 0)
		damaged(l);
	return (size_t)n;
}

static size_t layer_read(struct layer *l, void *p, size_t bytes)
{
	const size_t ahead = l->head.n - l->at;

	if (ahead == 0)
		return read_more(l, p, bytes);
	if (bytes > ahead)
		bytes = ahead;
	memcpy(p, l->head.p + l->at, bytes);
	l->at += bytes;
	return bytes;
}

static size_t layer_peek(struct layer *l, const char **p, size_t want)
{
	char block[1 << 14];    /* not l->block: libarchive may still be reading from that */
	size_t n = 1;

	while (l->head.n - l->at < want && n > 0) {
		n = read_more(l, block, want < sizeof(block) ? want : sizeof(block));
		buf_add(&l->head, block, n);
	}
	*p = l->head.p ? l->head.p + l->at : "";
	return l->head.n - l->at < want ? l->head.n - l->at : want;
}

/* ---- what libarchive reads from ---- */

static la_ssize_t feed(struct archive *a, void *data, const void **block)
{
	struct layer *l = data;

	(void)a;
	*block = l->block;
	return (la_ssize_t)layer_read(l->below, l->block, sizeof(l->block));
}

static la_int64_t seek_file(struct archive *a, void *data, la_int64_t offset, int whence)
{
	struct layer *file = ((struct layer *)data)->below;
	const off_t at = lseek(file->all->fd, offset, whence);

	(void)a;
	if (at < 0)
		return ARCHIVE_FATAL;
	file->at = file->head.n;
	return at;
}

/* All filters and formats but three kinds: uu and mtree take some plain texts for theirs, and
 * what runs other programs. */
static struct archive *reader(void)
{
	struct archive *a = archive_read_new();

	if (!a)
		die("out of memory: no archive reader");
	archive_read_support_filter_bzip2(a);
	archive_read_support_filter_compress(a);
	archive_read_support_filter_gzip(a);
	archive_read_support_filter_lz4(a);
	archive_read_support_filter_lzip(a);
	archive_read_support_filter_lzma(a);
	archive_read_support_filter_rpm(a);
	archive_read_support_filter_xz(a);
	archive_read_support_filter_zstd(a);
	archive_read_support_format_7zip(a);
	archive_read_support_format_ar(a);
	archive_read_support_format_cab(a);
	archive_read_support_format_cpio(a);
	archive_read_support_format_iso9660(a);
	archive_read_support_format_lha(a);
	archive_read_support_format_rar(a);
	archive_read_support_format_rar5(a);
	archive_read_support_format_tar(a);
	archive_read_support_format_warc(a);
	archive_read_support_format_xar(a);
	archive_read_support_format_zip(a);
	archive_read_support_format_raw(a);
	return a;
}

/* ---- members ---- */

static const char *last_component(const char *name)
{
	const char *slash = strrchr(name, '/');

	return slash ? slash + 1 : name;
}

/* The name in any locale; "" when there is none. */
static const char *entry_name(struct archive_entry *e)
{
	const char *name = archive_entry_pathname_utf8(e);

	if (!name)
		name = archive_entry_pathname(e);
	while (name && name[0] == '.' && name[1] == '/')
		name += 2;
	return name ? name : "";
}

static bool passed_over(struct archive_entry *e)
{
	const char *last = last_component(entry_name(e));

	return archive_entry_filetype(e) != AE_IFREG || (archive_entry_hardlink(e) && archive_entry_size(e) == 0) ||
		last[0] == '.' || !strncmp(last, "__", 2);
}

/* The header of the next entry; false at the end of the archive. */
static bool next_header(struct layer *l, struct archive_entry **e)
{
	const int r = archive_read_next_header(l->a, e);

	if (r != ARCHIVE_OK && r != ARCHIVE_WARN && r != ARCHIVE_EOF)
		damaged(l);
	return r != ARCHIVE_EOF;
}

static void take_name(struct layer *l, struct archive_entry *e)
{
	l->raw = archive_format(l->a) == ARCHIVE_FORMAT_RAW;
	if (!l->raw)
		l->name = xstrdup(entry_name(e));
}

/* On to the next member of one layer. */
static bool layer_next(struct layer *l)
{
	struct archive_entry *e;

	if (l->fresh) {
		l->fresh = false;
		return true;
	}
	free(l->name);
	l->name = NULL;
	if (!l->a)
		return false;
	do {
		if (!next_header(l, &e))
			return false;
	} while (passed_over(e));
	buf_clear(&l->head);
	l->at = 0;
	take_name(l, e);
	return true;
}

static struct layer *push(struct layers *all)
{
	struct layer *l = xcalloc(1, sizeof(*l));

	if (++all->depth > MAX_DEPTH)
		die("cannot read %s: archives are nested more than %d deep", layers_where(all), MAX_DEPTH);
	l->all = all;
	l->below = all->top;
	l->fresh = true;
	all->top = l;
	return l;
}

static bool pop(struct layers *all)
{
	struct layer *l = all->top;

	all->top = l->below;
	all->depth--;
	if (l->a)
		archive_read_free(l->a);
	buf_free(&l->head);
	free(l->name);
	free(l);
	return all->top != NULL;
}

/* ---- archives in members ---- */

static bool starts(const char *p, size_t n, const char *magic, size_t bytes)
{
	return n >= bytes && !memcmp(p, magic, bytes);
}

/* Cheap and never false for an archive: they begin with control characters, or these words. */
static bool may_be_archive(const char *p, size_t n)
{
	static const char *const words[] = { "\x28\xb5\x2f\xfd", "BZh", "!<arch>\n", "07070", "Rar!", "WARC/", "xar!",
		"MSCF", "LZIP", "PK" };

	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		if (starts(p, n, words[i], strlen(words[i])))
			return true;
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)p[i] < 0x20 && !strchr("\b\t\n\v\f\r", p[i] ? p[i] : 1))
			return true;
	return false;
}

/* zstd's skippable frames in front of the data (pzstd writes them), for which libarchive has no eye. */
static void skip_frames(struct layer *l)
{
	const char *p;
	unsigned char size[4];
	char skipped[1 << 14];
	while (layer_peek(l, &p, 16) == 16 && (p[0] & 0xF0) == 0x50 && starts(p + 1, 15, "\x2a\x4d\x18", 3) &&
	       !starts(p + 8, 8, "fmill", 5)) {
		memcpy(size, p + 4, 4);
		uint64_t left = 8 + ((uint64_t)size[0] | (uint64_t)size[1] << 8 | (uint64_t)size[2] << 16 |
				     (uint64_t)size[3] << 24);
		size_t n = 1;

		l->all->seekable = false;
		for (; left > 0 && n > 0; left -= n)
			n = layer_read(l, skipped, left < sizeof(skipped) ? left : sizeof(skipped));
	}
}

/* Opens the present member as an archive or compressed data, if it looks like one. */
static bool descend(struct layers *all)
{
	struct layer *l = all->top;
	struct archive_entry *e;
	const char *p;

	if (l->a && l->raw)
		return false;
	skip_frames(l);
	const size_t n = layer_peek(l, &p, LOOK);

	if (!may_be_archive(p, n))
		return false;
	l = push(all);
	l->a = reader();
	if (!l->below->a && all->seekable)
		archive_read_set_seek_callback(l->a, seek_file);
	if (archive_read_open(l->a, l, NULL, feed, NULL) != ARCHIVE_OK)
		damaged(l);
	do {
		if (!next_header(l, &e)) {
			l->fresh = false;
			return true;
		}
	} while (archive_format(l->a) != ARCHIVE_FORMAT_RAW && passed_over(e));
	take_name(l, e);
	return true;
}

static bool wanted(const struct layers *l)
{
	const char *name = layers_name(l);

	if (!name || !l->match || l->match->n == 0)
		return true;
	for (size_t i = 0; i < l->match->n; i++)
		if (fnmatch(l->match->v[i], name, 0) == 0)
			return true;
	return false;
}

bool layers_next(struct layers *l)
{
	while (l->top) {
		if (!layer_next(l->top))
			pop(l);
		else if (!descend(l) && wanted(l))
			return true;
	}
	return false;
}

/* ---- the whole ---- */

struct layers *layers_open(const char *path, const struct opt_list *match)
{
	struct layers *l = xcalloc(1, sizeof(*l));
	struct stat st;

	l->path = xstrdup(path);
	l->match = match;
	l->fd = !strcmp(path, "-") ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
	if (l->fd < 0 || fstat(l->fd, &st) != 0)
		die_errno("cannot open '%s'", path);
	if (S_ISDIR(st.st_mode))
		die("cannot read '%s': is a directory", path);
	l->seekable = S_ISREG(st.st_mode) && l->fd != STDIN_FILENO;
	push(l)->raw = true;
	return l;
}

const char *layers_name(const struct layers *l)
{
	const struct layer *i = l->top;

	while (i && !i->name)
		i = i->below;
	return i ? i->name : NULL;
}

bool layers_plain(const struct layers *l)
{
	return l->depth == 1 || (l->depth == 2 && l->top->raw && archive_filter_count(l->top->a) == 1);
}

size_t layers_peek(struct layers *l, const char **p, size_t want)
{
	return layer_peek(l->top, p, want);
}

size_t layers_read(struct layers *l, void *p, size_t bytes)
{
	return layer_read(l->top, p, bytes);
}

uint64_t layers_consumed(const struct layers *l)
{
	return l->consumed;
}

void layers_close(struct layers *l)
{
	while (l->top)
		pop(l);
	if (l->fd != STDIN_FILENO)
		close(l->fd);
	buf_free(&l->where);
	free(l->path);
	free(l);
}
