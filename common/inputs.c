#include "inputs.h"

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "pool.h"

enum { BLOCK = 4 << 20, PART = 1 << 18, PROBE = 4096 };

struct input {
	const char *path;
	uint64_t bytes;
	char hash[33];          /* "": not known yet */
	uint64_t probe;         /* the stamp has no names: another file of this size and age is known by it */
};

static bool earlier(struct timespec a, struct timespec b)
{
	return a.tv_sec != b.tv_sec ? a.tv_sec < b.tv_sec : a.tv_nsec < b.tv_nsec;
}

static void probe_file(void *arg, size_t i)
{
	struct input *in = (struct input *)arg + i;
	const int fd = open(in->path, O_RDONLY | O_CLOEXEC);
	const uint64_t last = in->bytes > PROBE ? in->bytes - PROBE : 0, at[] = { 0, last / 2, last };
	char part[ARRAY_LEN(at) * PROBE];
	size_t n = 0;

	if (fd < 0)
		die_errno("cannot open '%s'", in->path);
	for (size_t k = 0; k < ARRAY_LEN(at); k++)
		n += pread_full(fd, part + n, PROBE, at[k], in->path);
	in->probe = XXH3_64bits(part, n);
	close(fd);
}

/* A part of an input that one thread hashes. */
struct block {
	struct input *in;
	uint64_t at, bytes;
	bool last;              /* to the end, wherever that is by now */
	XXH128_hash_t hash;
};

static void hash_block(void *arg, size_t i)
{
	struct block *b = (struct block *)arg + i;
	const int fd = open(b->in->path, O_RDONLY | O_CLOEXEC);
	XXH3_state_t *h = XXH3_createState();
	char *part = xmalloc(PART);
	size_t n;

	if (fd < 0)
		die_errno("cannot open '%s'", b->in->path);
	XXH3_128bits_reset(h);
	for (b->bytes = 0; b->last || b->bytes < BLOCK; b->bytes += n) {
		n = pread_full(fd, part, PART, b->at + b->bytes, b->in->path);
		if (n == 0)
			break;
		XXH3_128bits_update(h, part, n);
	}
	b->hash = XXH3_128bits_digest(h);
	XXH3_freeState(h);
	free(part);
	close(fd);
}

/* Its blocks' hash: of one block its own, of several that of their hashes. */
static void hash_whole(struct input *in, const struct block *b, size_t n)
{
	XXH128_canonical_t *each = xcalloc(n, sizeof(*each));
	XXH128_hash_t x = b[0].hash;

	for (size_t i = 0; i < n; i++)
		XXH128_canonicalFromHash(&each[i], b[i].hash);
	if (n > 1)
		x = XXH3_128bits(each, n * sizeof(*each));
	in->bytes = b[n - 1].at + b[n - 1].bytes;
	snprintf(in->hash, sizeof(in->hash), "%016llx%016llx", (unsigned long long)x.high64,
		 (unsigned long long)x.low64);
	free(each);
}

static size_t blocks_of(const struct input *in)
{
	return in->hash[0] ? 0 : in->bytes <= BLOCK ? 1 : (size_t)((in->bytes - 1) / BLOCK + 1);
}

/* Of those whose hash is not known. */
static void hash_inputs(struct input *in, size_t n)
{
	size_t blocks = 0, at = 0;

	for (size_t i = 0; i < n; i++)
		blocks += blocks_of(&in[i]);
	struct block *b = xcalloc(blocks, sizeof(*b));

	for (size_t i = 0; i < n; i++)
		for (size_t k = 0, m = blocks_of(&in[i]); k < m; k++)
			b[at++] = (struct block){ .in = &in[i], .at = k * (uint64_t)BLOCK, .last = k + 1 == m };
	pool_for(blocks, hash_block, b);
	for (size_t i = 0; i < blocks; i += at) {
		for (at = 1; !b[i + at - 1].last; at++)
			;
		hash_whole(b[i].in, b + i, at);
	}
	free(b);
}

/* Hashes from the stamp's lines, in order, of inputs that did not change since.  The change
 * time of a file also tells of one that was moved there or had its times set. */
static void recall(struct input *in, size_t n, const char *output)
{
	char *stamp = xformat("%s.stamp", output), *line;
	struct buf text = { 0 };
	struct stat st, of;
	unsigned long long bytes, probe;
	size_t i = 0;

	if (stat(stamp, &st) == 0) {
		read_file(stamp, &text, SIZE_MAX / 2);
		for (line = strstr(text.p, "\ninput "); line && i < n; line = strstr(line + 1, "\ninput "), i++) {
			char hash[33];

			if (sscanf(line, "\ninput %llu %32[0-9a-f] %llx", &bytes, hash, &probe) == 3 &&
			    bytes == in[i].bytes && probe == in[i].probe && stat(in[i].path, &of) == 0 &&
			    earlier(of.st_mtim, st.st_mtim) && earlier(of.st_ctim, st.st_mtim))
				memcpy(in[i].hash, hash, sizeof(hash));
		}
	}
	buf_free(&text);
	free(stamp);
}

bool inputs_hashable(char *const *paths)
{
	struct stat st;

	for (; *paths; paths++)
		if (!strcmp(*paths, "-") || (stat(*paths, &st) == 0 && !S_ISREG(st.st_mode)))
			return false;
	return true;
}

uint64_t inputs_bytes(char *const *paths)
{
	uint64_t bytes = 0;
	struct stat st;

	for (; *paths; paths++)
		if (stat(*paths, &st) == 0 && S_ISREG(st.st_mode))
			bytes += (uint64_t)st.st_size;
	return bytes;
}

struct timespec inputs_recipe(struct recipe *r, char *const *paths, const char *output)
{
	struct timespec began;
	struct input *in;
	struct stat st;
	size_t n = 0;

	clock_gettime(CLOCK_REALTIME_COARSE, &began);
	while (paths[n])
		n++;
	in = xcalloc(n, sizeof(*in));
	for (size_t i = 0; i < n; i++) {
		in[i].path = paths[i];
		if (stat(paths[i], &st) != 0)
			die_errno("cannot open '%s'", paths[i]);
		in[i].bytes = (uint64_t)st.st_size;
	}
	pool_for(n, probe_file, in);
	recall(in, n, output);
	hash_inputs(in, n);
	for (size_t i = 0; i < n; i++)
		recipe_add(r, "input", "%llu %s %016llx", (unsigned long long)in[i].bytes, in[i].hash,
			   (unsigned long long)in[i].probe);
	free(in);
	return began;
}

void inputs_remember(const char *output, struct timespec began)
{
	char *stamp = xformat("%s.stamp", output);

	if (utimensat(AT_FDCWD, stamp, (struct timespec[]){ began, began }, 0) != 0)
		die_errno("cannot write '%s'", stamp);
	free(stamp);
}

/* ---- directories ---- */

struct list {
	char **v;
	size_t n;
};

static void list_add(struct list *l, const char *path)
{
	l->v = xrealloc(l->v, l->n + 2, sizeof(*l->v));
	l->v[l->n++] = xstrdup(path);
	l->v[l->n] = NULL;
}

static int by_name(const FTSENT **a, const FTSENT **b)
{
	return strcmp((*a)->fts_name, (*b)->fts_name);
}

static bool hidden(const FTSENT *e)
{
	return e->fts_level > 0 && (e->fts_name[0] == '.' || !strncmp(e->fts_name, "__", 2));
}

static void walk(struct list *l, char *path)
{
	FTS *t = fts_open((char *[]){ path, NULL }, FTS_LOGICAL | FTS_NOCHDIR, by_name);
	FTSENT *e;

	if (!t)
		die_errno("cannot read '%s'", path);
	while ((e = fts_read(t)) != NULL) {
		errno = e->fts_errno;
		if (e->fts_info == FTS_DNR || e->fts_info == FTS_ERR || e->fts_info == FTS_NS)
			die_errno("cannot read '%s'", e->fts_path);
		if (hidden(e))
			fts_set(t, e, FTS_SKIP);
		else if (e->fts_info == FTS_F)
			list_add(l, e->fts_path);
	}
	fts_close(t);
}

char **inputs_expand(char *const *paths)
{
	struct list l = { xcalloc(1, sizeof(char *)), 0 };
	struct stat st;

	for (; *paths; paths++) {
		if (stat(*paths, &st) == 0 && S_ISDIR(st.st_mode))
			walk(&l, *paths);
		else
			list_add(&l, *paths);
	}
	return l.v;
}
