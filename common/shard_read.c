/* The reading part of shard.h: shards one after the other, unpacked ahead. */
#include "shard.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pool.h"
#include "shard_set.h"

/* A frame being unpacked by the pool, or being read from. */
struct slot {
	struct task task;
	const struct shard_file *file;  /* NULL: it came through a pipe, in packed */
	size_t frame;
	struct entry entry;
	struct buf packed;
	char *rows;             /* cap bytes */
	size_t cap, n;          /* n rows */
	bool waited, ok;
	bool unwanted;          /* rows hold nothing */
	struct fault fault;
};

/*
 * A ring of frames between who finds the next one -- the caller for files, a
 * thread of its own for a pipe, where that may block -- and who reads rows.
 */
struct shards {
	struct shard_set set;   /* files; or */
	struct shard_pipe *pipe;
	struct worker *reader;  /* of the pipe */
	size_t next_file, next_frame;   /* of the files */
	struct slot *ring;      /* slots first … first + under_way - 1, modulo depth */
	size_t depth;
	size_t row;             /* next row of the first slot */
	bool finished;          /* the verified end was reached */
	struct {                /* period 0: every row; else see shards_want */
		uint64_t period, from, n, all;
	} want;
	/* shared with the reader, under the lock */
	pthread_mutex_t lock;
	pthread_cond_t moved;
	size_t first, under_way;
	bool ended, closing;    /* nothing comes any more; nobody reads any more */
	bool failed;            /* it ended so: */
	struct fault fault;
};

static _Noreturn void refuse(const char *name, const struct fault *f)
{
	die("cannot read %s: %s", name, f->text);
}

/* ---- what shards are ---- */

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

bool shards_whole(const struct shards *s)
{
	return s->pipe ? shards_k(s) == 0 : s->set.n == shards_n(s);
}

bool shards_seekable(const struct shards *s)
{
	return !s->pipe;
}

uint64_t shards_rows(const struct shards *s)
{
	if (s->pipe)
		BUG("the rows of %s are not known before its end", s->pipe->name);
	return s->set.start[s->set.n];
}

const struct shard_set *shards_set(const struct shards *s)
{
	return &s->set;
}

size_t shards_count(const struct shards *s)
{
	if (s->pipe && !s->finished)
		BUG("the shards of %s are not known before its end", s->pipe->name);
	return s->pipe ? s->pipe->shards : s->set.n;
}

void shards_info(const struct shards *s, size_t i, struct shard_info *info)
{
	if (i >= shards_count(s))
		BUG("shard %zu of %zu", i, shards_count(s));
	if (s->pipe)
		shard_info_copy(info, &s->pipe->done[i]);
	else
		shard_file_info(&s->set.file[i], info);
}

void shards_id(struct shards *s, char hex[33])
{
	struct buf ids = { 0 };
	const size_t n = shards_count(s);

	for (size_t i = 0; i < n; i++)
		buf_add(&ids, s->pipe ? s->pipe->done[i].id : s->set.file[i].id, 32);
	if (n == 1)
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
		t->ok = frame_unpack(&t->entry, t->packed.p, t->rows, &t->fault);
}

static void post(const struct shards *s, struct slot *t)
{
	if (t->cap < t->entry.bytes) {
		free(t->rows);
		t->cap = t->entry.bytes;
		t->rows = xmalloc(t->cap);
	}
	t->n = t->entry.bytes / head_of(s)->row_bytes;
	t->waited = false;
	t->task = (struct task){ .fn = unpack, .arg = t };
	task_post(&t->task);
}

void shards_want(struct shards *s, uint64_t period, uint64_t from, uint64_t n, uint64_t all)
{
	if (s->pipe || s->under_way || n > period || from > period - n)
		BUG("rows %llu to %llu of %llu", (unsigned long long)from, (unsigned long long)(from + n),
		    (unsigned long long)period);
	s->want.period = period;
	s->want.from = from;
	s->want.n = n;
	s->want.all = all;
}

/* Any of rows [row, row + n)? */
static bool wanted(const struct shards *s, uint64_t row, uint64_t n)
{
	if (s->want.period == 0 || row < s->want.all || n >= s->want.period)
		return true;
	const uint64_t at = row % s->want.period, end = s->want.from + s->want.n;

	return (at < end && at + n > s->want.from) || at + n > s->want.from + s->want.period;
}

/* Fills the ring from the files. */
static void top_up(struct shards *s)
{
	while (!s->ended && s->under_way < s->depth) {
		while (s->next_file < s->set.n && s->next_frame == s->set.file[s->next_file].table.frames) {
			s->next_file++;
			s->next_frame = 0;
		}
		s->ended = s->next_file == s->set.n;
		if (s->ended)
			return;
		struct slot *t = &s->ring[(s->first + s->under_way++) % s->depth];

		t->file = &s->set.file[s->next_file];
		t->frame = s->next_frame++;
		t->entry = t->file->table.entry[t->frame + 1];
		t->n = t->entry.bytes / head_of(s)->row_bytes;
		t->unwanted = !wanted(s, s->set.start[s->next_file] + t->frame * t->file->head.rows_per_frame, t->n);
		if (t->unwanted)
			t->waited = t->ok = true;
		else
			post(s, t);
	}
}

/* The next frame of the pipe into t; otherwise it is over. */
static bool pipe_frame(struct shard_pipe *p, struct slot *t, enum pipe_event *how, struct fault *f)
{
	do
		*how = shard_pipe_next(p, f);
	while (*how == PIPE_BEGIN || *how == PIPE_SHARD);
	if (*how != PIPE_FRAME)
		return false;
	const struct buf empty = t->packed;

	t->entry = p->table.entry[p->table.n - 1];
	t->frame = p->table.n - 2;
	t->packed = p->packed;
	p->packed = empty;
	return true;
}

/* The reader's thread: fills the ring from the pipe. */
static void read_pipe(void *arg)
{
	struct shards *s = arg;
	enum pipe_event how = PIPE_FRAME;
	struct fault f = { "" };

	pthread_mutex_lock(&s->lock);
	while (how == PIPE_FRAME) {
		while (s->under_way == s->depth && !s->closing)
			pthread_cond_wait(&s->moved, &s->lock);
		if (s->closing)
			break;
		struct slot *t = &s->ring[(s->first + s->under_way) % s->depth];

		pthread_mutex_unlock(&s->lock);
		if (pipe_frame(s->pipe, t, &how, &f))
			post(s, t);
		pthread_mutex_lock(&s->lock);
		if (how == PIPE_FRAME)
			s->under_way++;
		pthread_cond_broadcast(&s->moved);
	}
	s->ended = true;
	s->failed = how == PIPE_FAULT;
	s->fault = f;
	pthread_mutex_unlock(&s->lock);
}

/* The first slot, or NULL when nothing more comes. */
static struct slot *first_slot(struct shards *s)
{
	if (!s->pipe)
		top_up(s);
	pthread_mutex_lock(&s->lock);
	while (!s->under_way && !s->ended)
		pthread_cond_wait(&s->moved, &s->lock);
	struct slot *t = s->under_way ? &s->ring[s->first] : NULL;

	pthread_mutex_unlock(&s->lock);
	return t;
}

static void drop_first(struct shards *s)
{
	pthread_mutex_lock(&s->lock);
	s->first = (s->first + 1) % s->depth;
	s->under_way--;
	pthread_cond_broadcast(&s->moved);
	pthread_mutex_unlock(&s->lock);
}

/* The frame that holds the next row; NULL at the verified end. */
static struct slot *front(struct shards *s)
{
	struct slot *t;

	while ((t = first_slot(s))) {
		if (!t->waited) {
			task_wait(&t->task);
			t->waited = true;
			if (!t->ok && t->file)
				refuse(t->file->name, &t->fault);
			if (!t->ok)
				die("cannot read %s: damaged frame %zu: %s", s->pipe->name, t->frame + 1,
				    t->fault.text);
		}
		if (s->row < t->n)
			return t;
		s->row -= t->n;
		drop_first(s);
	}
	if (s->failed)
		refuse(s->pipe->name, &s->fault);
	s->finished = true;
	return NULL;
}

size_t shards_read(struct shards *s, void *rows, size_t max)
{
	const size_t row_bytes = head_of(s)->row_bytes;
	struct slot *t;
	size_t done = 0;

	while (done < max && (t = front(s))) {
		const size_t n = t->n - s->row < max - done ? t->n - s->row : max - done;

		if (!t->unwanted)
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

		if (!t->unwanted)
			dtype_to_f32(h->dtype, rows + done * h->cols, t->rows + s->row * h->row_bytes, n * h->cols);
		s->row += n;
		done += n;
	}
	return done;
}

static void forget(struct shards *s)
{
	for (; s->under_way; drop_first(s))
		if (!s->ring[s->first].waited)
			task_wait(&s->ring[s->first].task);
}

void shards_seek(struct shards *s, uint64_t row)
{
	if (row > shards_rows(s))
		BUG("no row %llu of %llu", (unsigned long long)row, (unsigned long long)shards_rows(s));
	forget(s);
	s->next_file = shard_set_find(&s->set, row);
	const struct head *h = &s->set.file[s->next_file].head;
	const uint64_t inside = row - s->set.start[s->next_file];

	s->next_frame = inside / h->rows_per_frame;
	s->row = inside % h->rows_per_frame;
	s->ended = s->finished = false;
}

/* ---- opening and closing ---- */

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

static void begin_pipe(struct shards *s, int fd, const char *name)
{
	struct fault f;

	s->pipe = shard_pipe_open(fd, name);
	if (shard_pipe_next(s->pipe, &f) != PIPE_BEGIN)
		refuse(s->pipe->name, &f);
	s->reader = worker_start(read_pipe, s);
}

struct shards *shards_open(char *const *paths)
{
	struct shards *s = xcalloc(1, sizeof(*s));
	const bool one = paths[0] && !paths[1], std = !paths[0] || (one && !strcmp(paths[0], "-"));
	const int fd = std ? STDIN_FILENO : one ? open_fifo(paths[0]) : -1;

	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->moved, NULL);
	s->depth = fd >= 0 || pool_threads() > 1 ? pool_threads() + 1 : 1;
	s->ring = xcalloc(s->depth, sizeof(*s->ring));
	if (fd >= 0)
		begin_pipe(s, fd, std ? "-" : paths[0]);
	else
		shard_set_open(&s->set, paths);
	return s;
}

static void end_pipe(struct shards *s)
{
	pthread_mutex_lock(&s->lock);
	s->closing = true;
	pthread_cond_broadcast(&s->moved);
	pthread_mutex_unlock(&s->lock);
	shard_pipe_wake(s->pipe);
	worker_join(s->reader);
}

void shards_close(struct shards *s)
{
	if (s->pipe)
		end_pipe(s);
	forget(s);
	for (size_t i = 0; i < s->depth; i++) {
		buf_free(&s->ring[i].packed);
		free(s->ring[i].rows);
	}
	free(s->ring);
	if (s->pipe)
		shard_pipe_close(s->pipe);
	shard_set_close(&s->set);
	pthread_mutex_destroy(&s->lock);
	pthread_cond_destroy(&s->moved);
	free(s);
}
