#include "seen.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HEAD = 4096 };           /* bytes before the memory proper: a page, with `is` of its place */

struct block {
	char *p;                /* the head's start */
	size_t bytes;           /* with it */
	int fd;
	struct block *next;
};

static struct block *blocks;    /* of this process; one thread makes and frees them */

static bool map(struct block *b, uint64_t is[2])
{
	b->fd = memfd_create("featuremill", MFD_CLOEXEC);
	if (b->fd < 0)
		return false;
	if (ftruncate(b->fd, (off_t)b->bytes) == 0)
		b->p = mmap(NULL, b->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, b->fd, 0);
	if (b->p && b->p != MAP_FAILED && getrandom(is, 2 * sizeof(*is), 0) == 2 * sizeof(*is))
		return true;
	close(b->fd);
	return false;
}

void *seen_alloc(size_t bytes)
{
	struct block *b = xcalloc(1, sizeof(*b));
	struct seen_place at;

	b->bytes = bytes + HEAD;
	if (bytes > b->bytes || !map(b, at.is)) {
		free(b);
		return NULL;
	}
	memcpy(b->p, at.is, sizeof(at.is));
	b->next = blocks;
	blocks = b;
	return b->p + HEAD;
}

/* The block that p lies in: what points to it */
static struct block **find(const void *p)
{
	struct block **b = &blocks;

	while (*b && !((const char *)p >= (*b)->p + HEAD && (const char *)p < (*b)->p + (*b)->bytes))
		b = &(*b)->next;
	return b;
}

bool seen_release(void *p)
{
	struct block **at = find(p), *b = *at;

	if (!b)
		return false;
	*at = b->next;
	munmap(b->p, b->bytes);
	close(b->fd);
	free(b);
	return true;
}

struct seen_place seen_place(const void *p)
{
	const struct block *b = *find(p);
	struct seen_place at = { .process = (int32_t)getpid() };

	if (!b)
		return at;
	memcpy(at.is, b->p, sizeof(at.is));
	at.offset = (uint64_t)((const char *)p - b->p);
	at.file = b->fd;
	return at;
}

const void *seen_open(const struct seen_place *at)
{
	char *path = xformat("/proc/%d/fd/%d", (int)at->process, (int)at->file);
	const int fd = at->is[0] | at->is[1] ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	const char *p = MAP_FAILED;
	struct stat s;

	if (fd >= 0 && fstat(fd, &s) == 0 && (uint64_t)s.st_size > at->offset)
		p = mmap(NULL, (size_t)s.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (fd >= 0)
		close(fd);
	free(path);
	/* another machine may have a process and file of these numbers, not that word */
	if (p != MAP_FAILED && memcmp(p, at->is, sizeof(at->is)) != 0) {
		munmap((void *)(uintptr_t)p, (size_t)s.st_size);
		p = MAP_FAILED;
	}
	return p == MAP_FAILED ? NULL : p + at->offset;
}
