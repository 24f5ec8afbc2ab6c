#include "file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- what to remove when the tool ends before its outputs are complete ---- */

/* Slots are reused, never freed: the list may be walked at any time. */
struct debris {
	char *path;             /* NULL: free */
	bool dir, keep;
	struct debris *next;
};
static struct debris *all_debris;
static bool keeping;            /* there is a state */
static pthread_mutex_t debris_lock = PTHREAD_MUTEX_INITIALIZER;

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *where)
{
	(void)st, (void)kind, (void)where;
	return remove(path);
}

static int remove_inner(const char *path, const struct stat *st, int kind, struct FTW *where)
{
	(void)st, (void)kind;
	return where->level ? remove(path) : 0;
}

static void remove_tree(const char *path)
{
	nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static void remove_debris(void)
{
	pthread_mutex_lock(&debris_lock);
	for (struct debris *d = all_debris; d; d = d->next) {
		if (!d->path || (d->keep && keeping))
			continue;
		if (d->dir)
			remove_tree(d->path);
		else
			unlink(d->path);
	}
	pthread_mutex_unlock(&debris_lock);
}

static void clean_at_end(void)
{
	base_at_end(remove_debris);
}

void out_keep(void)
{
	pthread_mutex_lock(&debris_lock);
	keeping = true;
	pthread_mutex_unlock(&debris_lock);
}

static struct debris *debris_add(const char *path, bool dir, bool keep)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	char *copy = xstrdup(path);
	struct debris *fresh = xcalloc(1, sizeof(*fresh)), *d;

	pthread_once(&once, clean_at_end);
	pthread_mutex_lock(&debris_lock);
	for (d = all_debris; d && d->path; d = d->next)
		;
	if (!d) {
		d = fresh;
		d->next = all_debris;
		all_debris = d;
	}
	d->path = copy;
	d->dir = dir;
	d->keep = keep;
	pthread_mutex_unlock(&debris_lock);
	if (d != fresh)
		free(fresh);
	return d;
}

static void debris_drop(struct debris *d)
{
	char *path;

	if (!d)
		return;
	pthread_mutex_lock(&debris_lock);
	path = d->path;
	d->path = NULL;
	pthread_mutex_unlock(&debris_lock);
	free(path);
}

/* ---- one file ---- */

enum { BUFFER = 1 << 16, WRITE_BEHIND = 4 << 20 };

struct out {
	int fd;
	char *path, *part, *name;       /* X, X.part, "'X'"; path NULL: stdout */
	struct debris *debris;          /* NULL: resumed, or stdout */
	uint64_t flushed, begun;        /* bytes written; and on their way to the disk */
	size_t n;                       /* bytes in buffer */
	char buffer[BUFFER];
};

static struct out *out_new(const char *path)
{
	struct out *f = xcalloc(1, sizeof(*f));

	if (strcmp(path, "-")) {
		f->path = xstrdup(path);
		f->part = xformat("%s.part", path);
		f->name = xformat("'%s'", path);
	} else {
		f->fd = STDOUT_FILENO;
		f->name = xstrdup("<stdout>");
	}
	return f;
}

static void out_free(struct out *f)
{
	debris_drop(f->debris);
	free(f->path);
	free(f->part);
	free(f->name);
	free(f);
}

/* The lock of a process that was killed goes only when its memory is gone. */
static void lock(int fd, const char *part)
{
	const double patience = 0.5, began = now_secs();

	while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			die_errno("cannot lock '%s'", part);
		if (now_secs() - began > patience)
			die("'%s' is being written by another process", part);
		usleep(10000);
	}
}

/* Opens and locks; again when its last owner renamed it away meanwhile. */
static int open_locked(const char *part, int flags)
{
	struct stat mine, named;

	for (;;) {
		const int fd = open(part, flags | O_CLOEXEC, 0666);

		if (fd < 0)
			return -1;
		lock(fd, part);
		if (fstat(fd, &mine) == 0 && stat(part, &named) == 0 && mine.st_ino == named.st_ino &&
		    mine.st_dev == named.st_dev)
			return fd;
		close(fd);
	}
}

struct out *out_open(const char *path, int flags)
{
	struct out *f = out_new(path);
	struct stat st;

	if (!f->path) {
		if (!(flags & OUT_TEXT) && isatty(STDOUT_FILENO))
			die("will not write binary data to a terminal; use -o FILE or a pipe");
		return f;
	}
	if (stat(path, &st) == 0 && !S_ISREG(st.st_mode))
		die("cannot write '%s': %s", path, S_ISDIR(st.st_mode) ? "is a directory" : "is no file");
	f->fd = open_locked(f->part, O_RDWR | O_CREAT);
	if (f->fd < 0)
		die_errno("cannot create '%s'", f->part);
	f->debris = debris_add(f->part, false, flags & OUT_KEEP);
	if (ftruncate(f->fd, 0) != 0)
		die_errno("cannot write '%s'", f->part);
	return f;
}

struct out *out_resume(const char *path, uint64_t bytes)
{
	struct out *f = out_new(path);
	struct stat st;

	if (!f->path)
		BUG("standard output cannot be resumed");
	f->fd = open_locked(f->part, O_RDWR);
	if (f->fd < 0 && errno != ENOENT)
		die_errno("cannot open '%s'", f->part);
	if (f->fd < 0 || fstat(f->fd, &st) != 0 || (uint64_t)st.st_size < bytes) {
		if (f->fd >= 0)
			close(f->fd);
		out_free(f);
		return NULL;
	}
	if (ftruncate(f->fd, (off_t)bytes) != 0 || lseek(f->fd, (off_t)bytes, SEEK_SET) < 0)
		die_errno("cannot write '%s'", f->part);
	f->flushed = f->begun = bytes;
	return f;
}

/* The disk begins early, so that little is left to wait for at the end; what is no file refuses. */
static void put(struct out *f, const void *p, size_t bytes)
{
	write_full(f->fd, p, bytes, f->path ? f->path : "<stdout>");
	f->flushed += bytes;
	if (f->path && f->flushed - f->begun >= WRITE_BEHIND) {
		sync_file_range(f->fd, (off_t)f->begun, (off_t)(f->flushed - f->begun), SYNC_FILE_RANGE_WRITE);
		f->begun = f->flushed;
	}
}

static void out_flush(struct out *f)
{
	put(f, f->buffer, f->n);
	f->n = 0;
}

void out_write(struct out *f, const void *p, size_t bytes)
{
	if (bytes > BUFFER - f->n || bytes > BUFFER / 2)
		out_flush(f);
	if (bytes > BUFFER / 2) {
		put(f, p, bytes);
	} else if (bytes) {
		memcpy(f->buffer + f->n, p, bytes);
		f->n += bytes;
	}
}

uint64_t out_tell(const struct out *f)
{
	return f->flushed + f->n;
}

void out_sync(struct out *f)
{
	out_flush(f);
	if (fsync(f->fd) != 0 && errno != EINVAL && errno != EROFS && errno != ENOTSUP)
		die_errno("cannot write %s", f->name);
}

static void sync_directory(const char *path)
{
	char *dir = xstrdup(path), *slash = strrchr(dir, '/');

	if (slash)
		slash[slash == dir] = 0;
	const int fd = open(slash ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd >= 0) {
		fsync(fd);
		close(fd);
	}
	free(dir);
}

void out_commit(struct out *f)
{
	out_sync(f);
	if (!f->path) { /* a copy is closed: what only shows at close shows, and fd 1 stays taken */
		const int copy = dup(f->fd);

		if (copy >= 0 && close(copy) != 0)
			die_errno("cannot write <stdout>");
		out_free(f);
		return;
	}
	if (rename(f->part, f->path) != 0)
		die_errno("cannot rename '%s' to '%s'", f->part, f->path);
	debris_drop(f->debris);
	f->debris = NULL;
	if (close(f->fd) != 0)
		die_errno("cannot write %s", f->name);
	sync_directory(f->path);
	out_free(f);
}

void out_abandon(struct out *f)
{
	if (f->path) {
		unlink(f->part);
		close(f->fd);
	}
	out_free(f);
}

bool out_is_stdout(const struct out *f)
{
	return !f->path;
}

int out_fd(struct out *f)
{
	out_flush(f);
	return f->fd;
}

const char *out_name(const struct out *f)
{
	return f->name;
}

/* ---- a directory ---- */

struct outdir {
	int fd;                 /* holds the lock */
	char *path, *part;
	struct debris *debris;
};

static void make_directory(const char *path)
{
	if (mkdir(path, 0777) != 0 && errno != EEXIST)
		die_errno("cannot make '%s'", path);
}

static bool is_empty(const char *path)
{
	DIR *d = opendir(path);
	bool empty = d != NULL;

	for (const struct dirent *e; empty && (e = readdir(d)) != NULL; )
		empty = !strcmp(e->d_name, ".") || !strcmp(e->d_name, "..");
	if (d)
		closedir(d);
	return empty;
}

/* Only what an earlier run made is replaced. */
static void check_replaceable(const char *path, const char *mark)
{
	char *marked = xformat("%s/%s", path, mark);
	struct stat st;

	if (stat(path, &st) == 0) {
		if (!S_ISDIR(st.st_mode))
			die("cannot make '%s': a file of this name is there", path);
		if (!file_exists(marked) && !is_empty(path))
			die("will not replace '%s': it holds other files, and no '%s'", path, mark);
	}
	free(marked);
}

struct outdir *outdir_open(const char *path, const char *mark)
{
	struct outdir *d = xcalloc(1, sizeof(*d));

	d->path = xstrdup(path);
	for (size_t n = strlen(path); n > 1 && d->path[n - 1] == '/'; n--)
		d->path[n - 1] = 0;
	check_replaceable(d->path, mark);
	d->part = xformat("%s.part", d->path);
	file_mkdirs(d->part);
	make_directory(d->part);
	if ((d->fd = open_locked(d->part, O_RDONLY | O_DIRECTORY)) < 0) /* dies when another run is at it */
		die_errno("cannot open '%s'", d->part);
	nftw(d->part, remove_inner, 16, FTW_DEPTH | FTW_PHYS);
	d->debris = debris_add(d->part, true, false);
	return d;
}

const char *outdir_part(const struct outdir *d)
{
	return d->part;
}

void outdir_commit(struct outdir *d)
{
	struct stat st;
	const bool there = stat(d->path, &st) == 0;

	fsync(d->fd);
	if (there && renameat2(AT_FDCWD, d->part, AT_FDCWD, d->path, RENAME_EXCHANGE) != 0) {
		if (errno != EINVAL && errno != ENOSYS)
			die_errno("cannot rename '%s' to '%s'", d->part, d->path);
		remove_tree(d->path); /* a file system that cannot exchange */
		if (rename(d->part, d->path) != 0)
			die_errno("cannot rename '%s' to '%s'", d->part, d->path);
	} else if (!there && rename(d->part, d->path) != 0) {
		die_errno("cannot rename '%s' to '%s'", d->part, d->path);
	}
	sync_directory(d->path);
	if (there)
		remove_tree(d->part);
	debris_drop(d->debris);
	close(d->fd);
	free(d->path);
	free(d->part);
	free(d);
}

/* ---- conveniences ---- */

void file_write(const char *path, const void *p, size_t bytes)
{
	struct out *f = out_open(path, OUT_TEXT);

	out_write(f, p, bytes);
	out_commit(f);
}

bool file_exists(const char *path)
{
	return access(path, F_OK) == 0;
}

char *file_plain(const char *path)
{
	char *plain = xstrdup(path);

	for (size_t n = strlen(plain); n > 1 && plain[n - 1] == '/'; n--)
		plain[n - 1] = 0;
	return plain;
}

void file_mkdirs(const char *path)
{
	char *copy = xstrdup(path);

	for (char *slash = copy; (slash = strchr(slash + 1, '/')); ) {
		*slash = 0;
		make_directory(copy);
		*slash = '/';
	}
	free(copy);
}

void file_touch(const char *path)
{
	if (utimensat(AT_FDCWD, path, NULL, 0) != 0)
		die_errno("cannot touch '%s'", path);
}
