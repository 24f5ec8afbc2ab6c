#include "shard_set.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

bool shard_fits(const struct head *first, const struct head *h, uint64_t k, struct fault *f)
{
	char *contexts[2];

	if (h->k != k || h->n != first->n)
		return fault(f, "shard %llu/%llu where %llu/%llu should be", (unsigned long long)h->k,
			     (unsigned long long)h->n, (unsigned long long)k, (unsigned long long)first->n);
	if (h->dtype != first->dtype || h->cols != first->cols)
		return fault(f, "%s with %zu columns among shards of %s with %zu", dtype_name(h->dtype),
			     h->cols, dtype_name(first->dtype), first->cols);
	contexts[0] = meta_get(&first->meta, "contexts");
	contexts[1] = meta_get(&h->meta, "contexts");
	const bool ok = !contexts[0] || !contexts[1] || !strcmp(contexts[0], contexts[1]);

	free(contexts[0]);
	free(contexts[1]);
	return ok || fault(f, "of another run: its contexts are not those of the first shard");
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

struct names {
	char **v;               /* NULL-terminated */
	size_t n;
};

static void names_add(struct names *l, char *name)
{
	l->v = xrealloc(l->v, l->n + 2, sizeof(*l->v));
	l->v[l->n++] = name;
	l->v[l->n] = NULL;
}

static void names_add_directory(struct names *l, DIR *d, const char *path)
{
	const size_t from = l->n;
	const char *slash = path[strlen(path) - 1] == '/' ? "" : "/";

	for (struct dirent *e; (e = readdir(d)); ) {
		const size_t n = strlen(e->d_name);

		if (n > 4 && e->d_name[0] != '.' && !strcmp(e->d_name + n - 4, ".zst"))
			names_add(l, xformat("%s%s%s", path, slash, e->d_name));
	}
	if (l->n == from)
		die("cannot read '%s': a directory without shards (*.zst)", path);
	qsort(l->v + from, l->n - from, sizeof(*l->v), by_name);
}

char **shard_paths(char *const *paths)
{
	struct names l = { 0 };

	for (; *paths; paths++) {
		DIR *d = opendir(*paths);

		if (d) {
			names_add_directory(&l, d, *paths);
			closedir(d);
		} else {
			names_add(&l, xstrdup(*paths));
		}
	}
	return l.v;
}

void shard_paths_free(char **paths)
{
	for (char **p = paths; p && *p; p++)
		free(*p);
	free(paths);
}

/* Hundreds of shards are open at once. */
static void allow_files(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur < r.rlim_max) {
		r.rlim_cur = r.rlim_max;
		setrlimit(RLIMIT_NOFILE, &r);
	}
}

static void set_add(struct shard_set *s, const char *path, bool alone)
{
	struct shard_file *one = &s->file[s->n];
	struct fault f;

	if (!shard_file_open(one, path, &f) ||
	    (!alone && !shard_fits(&s->file[0].head, &one->head, s->n, &f)))
		die("cannot read '%s': %s", path, f.text);
	s->start[s->n + 1] = s->start[s->n] + one->table.rows;
	s->n++;
}

void shard_set_open(struct shard_set *s, char *const *paths)
{
	char **all = shard_paths(paths);
	size_t n = 0;

	while (all[n])
		n++;
	if (n > 64)
		allow_files();
	*s = (struct shard_set){ .file = xcalloc(n, sizeof(*s->file)), .start = xcalloc(n + 1, sizeof(*s->start)) };
	for (size_t i = 0; i < n; i++)
		set_add(s, all[i], n == 1);
	const uint64_t whole = s->file[0].head.n;

	if (n > 1 && n != whole)
		die("cannot read %s: the set ends after shard %zu/%llu", s->file[n - 1].name, n - 1,
		    (unsigned long long)whole);
	shard_paths_free(all);
}

size_t shard_set_find(const struct shard_set *s, uint64_t row)
{
	size_t low = 0, high = s->n;

	while (high - low > 1) {
		const size_t middle = (low + high) / 2;

		if (s->start[middle] <= row)
			low = middle;
		else
			high = middle;
	}
	return low;
}

void shard_set_close(struct shard_set *s)
{
	for (size_t i = 0; i < s->n; i++)
		shard_file_close(&s->file[i]);
	free(s->file);
	free(s->start);
}
