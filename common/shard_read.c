/* The reading half of shard.h: sets of shards as one array of rows. */
#include "shard.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pool.h"
#include "shard_input.h"
#include "shard_set.h"

/* A frame being unpacked by the pool, or waiting to be read. */
struct slot {
	struct task task;
	const struct shard_file *file;  /* NULL: packed is filled in already */
	size_t frame;
	struct entry entry;
	char *packed;
	char *rows;             /* cap bytes */
	size_t cap, n;          /* n rows */
	bool waited, ok;
	struct fault fault;
};

struct shards {
	struct shard_set set;   /* files; or */
	struct shard_pipe *pipe;
	size_t next_file, next_frame;   /* to be posted */
	bool ended;             /* nothing left to post */
	struct slot *ring;      /* slots first … first + under_way - 1, modulo depth */
	size_t depth, first, under_way;
	size_t row;             /* next row of the first slot */
};

/* ---- sets of files ---- */

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
	char **v;
	size_t n;
};

static void names_add(struct names *l, char *name)
{
	l->v = xrealloc(l->v, l->n + 1, sizeof(*l->v));
	l->v[l->n++] = name;
}

/* A directory stands for its files *.zst, by name. */
static void names_add_path(struct names *l, const char *path)
{
	DIR *d = opendir(path);
	const size_t from = l->n;

	if (!d) {
		names_add(l, xstrdup(path));
		return;
	}
	for (struct dirent *e; (e = readdir(d)); ) {
		const size_t n = strlen(e->d_name);

		if (n > 4 && e->d_name[0] != '.' && !strcmp(e->d_name + n - 4, ".zst"))
			names_add(l, xformat("%s/%s", path, e->d_name));
	}
	closedir(d);
	if (l->n == from)
		die("cannot read '%s': a directory without shards (*.zst)", path);
	qsort(l->v + from, l->n - from, sizeof(*l->v), by_name);
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

void shard_set_open(struct shard_set *s, char *const *paths)
{
	struct names l = { 0 };
	struct fault f;

	for (; *paths; paths++)
		names_add_path(&l, *paths);
	if (l.n > 64)
		allow_files();
	*s = (struct shard_set){ .file = xcalloc(l.n, sizeof(*s->file)), .n = l.n };
	s->start = xcalloc(l.n + 1, sizeof(*s->start));
	for (size_t i = 0; i < l.n; i++) {
		const struct shard_file *one = &s->file[i];

		if (!shard_file_open(&s->file[i], l.v[i], &f))
			die("cannot read '%s': %s", l.v[i], f.text);
		if (l.n > 1 && !shard_fits(&s->file[0].head, &one->head, i, &f))
			die("cannot read '%s': %s", l.v[i], f.text);
		s->start[i + 1] = s->start[i] + one->table.rows;
		free(l.v[i]);
	}
	if (l.n > 1 && l.n != s->file[0].head.n)
		die("cannot read %s: the last of %zu shards, %llu make the set", s->file[l.n - 1].name, l.n,
		    (unsigned long long)s->file[0].head.n);
	free(l.v);
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

/* ---- opening ---- */

static struct shard_pipe *pipe_open(int fd, const char *name)
{
	struct shard_pipe *p = xcalloc(1, sizeof(*p));

	p->fd = fd;
	p->name = name;
	return p;
}

/* A path that is a pipe, as <(…) of a shell gives; or -1. */
static int open_fifo(const char *path)
{
	struct stat st;

	if (stat(path, &st) != 0 || S_ISREG(st.st_mode) || S_ISDIR(st.st_mode))
		return -1;
	const int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		die_errno("cannot open '%s'", path);
	return fd;
}

static const char *name_of(const struct shards *s)
{
	return s->pipe ? s->pipe->name : s->set.file[0].name;
}

static _Noreturn void refuse(const char *name, const struct fault *f)
{
	die("cannot read %s: %s", name, f->text);
}

static void pipe_begin(struct shards *s, int fd, const char *name)
{
	struct fault f;

	s->pipe = pipe_open(fd, name);
	if (shard_pipe_next(s->pipe, &f) != PIPE_BEGIN)
		refuse(s->pipe->name, &f);
}

struct shards *shards_open(char *const *paths)
{
	struct shards *s = xcalloc(1, sizeof(*s));
	const bool one = paths[0] && !paths[1];
	int fd;

	if (!paths[0] || (one && !strcmp(paths[0], "-")))
		pipe_begin(s, STDIN_FILENO, "<stdin>");
	else if (one && (fd = open_fifo(paths[0])) >= 0)
		pipe_begin(s, fd, paths[0]);
	else
		shard_set_open(&s->set, paths);
	s->depth = pool_threads() > 1 ? pool_threads() + 1 : 1;
	s->ring = xcalloc(s->depth, sizeof(*s->ring));
	return s;
}

static const struct head *head_of(const struct shards *s)
{
	return s->pipe ? &s->pipe->first : &s->set.file[0].head;
}

enum dtype shards_dtype(const struct shards *s)
{
	return head_of(s)->dtype;
}

size_t shards_cols(const struct shards *s)
{
	return head_of(s)->cols;
}

const struct meta *shards_meta(const struct shards *s)
{
	return &head_of(s)->meta;
}

uint64_t shards_k(const struct shards *s)
{
	return head_of(s)->k;
}

uint64_t shards_n(const struct shards *s)
{
	return head_of(s)->n;
}

bool shards_seekable(const struct shards *s)
{
	return !s->pipe;
}

uint64_t shards_rows(const struct shards *s)
{
	if (s->pipe)
		die("cannot tell the rows of %s before its end", name_of(s));
	return s->set.start[s->set.n];
}

const struct shard_set *shards_set(const struct shards *s)
{
	return &s->set;
}

void shards_id(struct shards *s, char hex[33])
{
	struct buf ids = { 0 };

	if (s->pipe && !s->ended)
		die("cannot tell the id of %s before its end", name_of(s));
	if (s->pipe)
		buf_add(&ids, s->pipe->ids.p, s->pipe->ids.n);
	for (size_t i = 0; i < s->set.n; i++)
		buf_add(&ids, s->set.file[i].id, 32);
	if (ids.n == 32)
		memcpy(hex, ids.p, 33);
	else
		hash_hex(ids.p, ids.n, hex);
	buf_free(&ids);
}

/* ---- frames through the pool ---- */

static void unpack(void *arg)
{
	struct slot *t = arg;

	if (t->file)
		t->ok = shard_file_frame(t->file, t->frame, t->rows, &t->fault);
	else
		t->ok = frame_unpack(&t->entry, t->packed, t->rows, &t->fault);
}

/* The next DATA frame of the files into *t; false at the end. */
static bool next_of_files(struct shards *s, struct slot *t)
{
	while (s->next_file < s->set.n && s->next_frame == s->set.file[s->next_file].table.frames) {
		s->next_file++;
		s->next_frame = 0;
	}
	if (s->next_file == s->set.n)
		return false;
	t->file = &s->set.file[s->next_file];
	t->frame = s->next_frame++;
	t->entry = t->file->table.entry[t->frame + 1];
	return true;
}

static bool next_of_pipe(struct shards *s, struct slot *t)
{
	struct shard_pipe *p = s->pipe;

	for (;;) {
		switch (shard_pipe_next(p, &t->fault)) {
		case PIPE_FAULT:
			refuse(p->name, &t->fault);
		case PIPE_END:
			return false;
		case PIPE_FRAME:
			t->entry = p->table.entry[p->table.n - 1];
			t->frame = p->table.n - 2;
			free(t->packed);
			t->packed = p->packed.p;
			p->packed = (struct buf){ 0 };
			return true;
		default:
			break;
		}
	}
}

static void top_up(struct shards *s)
{
	while (!s->ended && s->under_way < s->depth) {
		struct slot *t = &s->ring[(s->first + s->under_way) % s->depth];

		s->ended = !(s->pipe ? next_of_pipe(s, t) : next_of_files(s, t));
		if (s->ended)
			return;
		if (t->cap < t->entry.bytes) {
			free(t->rows);
			t->cap = t->entry.bytes;
			t->rows = xmalloc(t->cap);
		}
		t->n = t->entry.bytes / head_of(s)->row_bytes;
		t->waited = false;
		t->task = (struct task){ .fn = unpack, .arg = t };
		task_post(&t->task);
		s->under_way++;
	}
}

/* The frame that holds the next row; NULL at the verified end. */
static struct slot *front(struct shards *s)
{
	for (;;) {
		struct slot *t = &s->ring[s->first];

		top_up(s);
		if (!s->under_way)
			return NULL;
		if (!t->waited) {
			task_wait(&t->task);
			t->waited = true;
			if (!t->ok)
				refuse(t->file ? t->file->name : s->pipe->name, &t->fault);
		}
		if (s->row < t->n)
			return t;
		s->row -= t->n;
		s->first = (s->first + 1) % s->depth;
		s->under_way--;
	}
}

size_t shards_read(struct shards *s, void *rows, size_t max)
{
	const size_t row_bytes = head_of(s)->row_bytes;
	struct slot *t;
	size_t done = 0;

	while (done < max && (t = front(s))) {
		const size_t n = t->n - s->row < max - done ? t->n - s->row : max - done;

		memcpy((char *)rows + done * row_bytes, t->rows + s->row * row_bytes, n * row_bytes);
		s->row += n;
		done += n;
	}
	return done;
}

size_t shards_read_f32(struct shards *s, float *rows, size_t max)
{
	const struct head *h = head_of(s);
	struct slot *t;
	size_t done = 0;

	while (done < max && (t = front(s))) {
		const size_t n = t->n - s->row < max - done ? t->n - s->row : max - done;

		dtype_to_f32(h->dtype, rows + done * h->cols, t->rows + s->row * h->row_bytes, n * h->cols);
		s->row += n;
		done += n;
	}
	return done;
}

static void forget(struct shards *s)
{
	for (; s->under_way; s->under_way--) {
		struct slot *t = &s->ring[s->first];

		if (!t->waited)
			task_wait(&t->task);
		s->first = (s->first + 1) % s->depth;
	}
}

void shards_seek(struct shards *s, uint64_t row)
{
	if (s->pipe || row > shards_rows(s))
		BUG("%s: no seek to row %llu", name_of(s), (unsigned long long)row);
	forget(s);
	s->next_file = shard_set_find(&s->set, row);
	const struct head *h = &s->set.file[s->next_file].head;
	const uint64_t inside = row - s->set.start[s->next_file];

	s->next_frame = inside / h->rows_per_frame;
	s->row = inside % h->rows_per_frame;
	s->ended = false;
}

void shards_close(struct shards *s)
{
	forget(s);
	for (size_t i = 0; i < s->depth; i++) {
		free(s->ring[i].packed);
		free(s->ring[i].rows);
	}
	free(s->ring);
	if (s->pipe) {
		shard_pipe_close(s->pipe);
		free(s->pipe);
	}
	shard_set_close(&s->set);
	free(s);
}

/* ---- one file ---- */

static void open_one(struct shard_file *one, const char *path)
{
	struct fault f;

	if (!shard_file_open(one, path, &f))
		die("cannot read '%s': %s", path, f.text);
}

void shard_file_id(const char *path, char hex[33])
{
	struct shard_file one;

	open_one(&one, path);
	memcpy(hex, one.id, sizeof(one.id));
	shard_file_close(&one);
}

void shard_info(const char *path, struct shard_info *info)
{
	struct shard_file one;

	open_one(&one, path);
	*info = (struct shard_info){
		.dtype = one.head.dtype, .cols = one.head.cols, .rows_per_frame = one.head.rows_per_frame,
		.frames = one.table.frames, .k = one.head.k, .n = one.head.n, .rows = one.table.rows,
		.bytes = one.bytes, .meta = one.head.meta, .stats = one.stats,
	};
	memcpy(info->id, one.id, sizeof(one.id));
	one.head.meta = one.stats = (struct meta){ { 0 } };
	shard_file_close(&one);
}
