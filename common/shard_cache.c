/* The random-access part of shard.h. */
#include "shard.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "pool.h"
#include "shard_set.h"

#define NONE UINT32_MAX

/* A decoded frame.  Linked from the least to the most recently used. */
struct kept {
	char *rows;
	size_t cap;
	size_t frame;           /* in the numbering of the whole set */
	size_t users;           /* readers inside; in use it is not evicted */
	bool ready;             /* decoded */
	uint32_t older, newer;
};

struct shard_cache {
	struct shards *shards;
	const struct shard_set *set;
	size_t *first_frame;    /* of each file; [n] is the number of frames */
	uint32_t *where;        /* which kept frame holds frame i, or NONE */
	struct kept *kept;
	uint32_t n, most;       /* in use, allowed */
	uint32_t oldest, newest;
	pthread_mutex_t lock;
	pthread_cond_t changed; /* a frame became ready or unused */
};

struct shard_cache *shard_cache_open(char *const *paths, size_t cache_bytes)
{
	struct shard_cache *c = xcalloc(1, sizeof(*c));
	size_t frame_bytes = 1;

	if (!paths[0] || !strcmp(paths[0], "-"))
		die("cannot read <stdin>: a file is needed, to read from any place of it");
	c->shards = shards_open(paths);
	if (!shards_seekable(c->shards))
		die("cannot read '%s': a file is needed, to read from any place of it", paths[0]);
	c->set = shards_set(c->shards);
	c->first_frame = xcalloc(c->set->n + 1, sizeof(*c->first_frame));
	for (size_t i = 0; i < c->set->n; i++) {
		const struct shard_file *f = &c->set->file[i];

		c->first_frame[i + 1] = c->first_frame[i] + f->table.frames;
		if (f->table.frames && f->table.entry[1].bytes > frame_bytes)
			frame_bytes = f->table.entry[1].bytes;
	}
	const size_t frames = c->first_frame[c->set->n], fit = cache_bytes / frame_bytes;
	const size_t least = fit > pool_threads() ? fit : pool_threads();      /* each thread holds one */

	if (frames >= NONE)
		die("'%s' and its set have too many frames", paths[0]);
	c->most = (uint32_t)(least < frames ? least : frames);
	c->where = xcalloc(frames + 1, sizeof(*c->where));
	memset(c->where, 0xff, (frames + 1) * sizeof(*c->where));
	c->kept = xcalloc(c->most + 1, sizeof(*c->kept));
	c->oldest = c->newest = NONE;
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->changed, NULL);
	return c;
}

uint64_t shard_cache_rows(const struct shard_cache *c)
{
	return shards_rows(c->shards);
}

struct shards *shard_cache_shards(struct shard_cache *c)
{
	return c->shards;
}

/* ---- the list, lock held ---- */

static void unlink_kept(struct shard_cache *c, uint32_t i)
{
	const struct kept *k = &c->kept[i];

	*(k->older == NONE ? &c->oldest : &c->kept[k->older].newer) = k->newer;
	*(k->newer == NONE ? &c->newest : &c->kept[k->newer].older) = k->older;
}

static void link_newest(struct shard_cache *c, uint32_t i)
{
	c->kept[i].older = c->newest;
	c->kept[i].newer = NONE;
	*(c->newest == NONE ? &c->oldest : &c->kept[c->newest].newer) = i;
	c->newest = i;
}

/* A place for one more frame, unlinked; NONE when all are in use. */
static uint32_t free_place(struct shard_cache *c)
{
	if (c->n < c->most)
		return c->n++;
	uint32_t i = c->oldest;

	while (i != NONE && c->kept[i].users)
		i = c->kept[i].newer;
	if (i != NONE) {
		unlink_kept(c, i);
		c->where[c->kept[i].frame] = NONE;
	}
	return i;
}

/* ---- frames ---- */

static void load(struct shard_cache *c, struct kept *k, size_t file)
{
	const struct shard_file *f = &c->set->file[file];
	const size_t frame = k->frame - c->first_frame[file], bytes = f->table.entry[frame + 1].bytes;
	struct fault why;

	if (k->cap < bytes) {
		free(k->rows);
		k->rows = xmalloc(bytes);
		k->cap = bytes;
	}
	if (!shard_file_frame(f, frame, k->rows, &why))
		die("cannot read %s: %s", f->name, why.text);
}

/* The frame, decoded and held until let_go; decoding happens outside the lock. */
static struct kept *hold(struct shard_cache *c, size_t file, size_t frame)
{
	uint32_t i;

	pthread_mutex_lock(&c->lock);
	while ((i = c->where[frame]) == NONE && (i = free_place(c)) == NONE)
		pthread_cond_wait(&c->changed, &c->lock);
	struct kept *k = &c->kept[i];

	if (c->where[frame] != NONE) {
		k->users++;
		unlink_kept(c, i);
		link_newest(c, i);
		while (!k->ready)
			pthread_cond_wait(&c->changed, &c->lock);
		pthread_mutex_unlock(&c->lock);
		return k;
	}
	c->where[frame] = i;
	k->frame = frame;
	k->users = 1;
	k->ready = false;
	link_newest(c, i);
	pthread_mutex_unlock(&c->lock);
	load(c, k, file);
	pthread_mutex_lock(&c->lock);
	k->ready = true;
	pthread_cond_broadcast(&c->changed);
	pthread_mutex_unlock(&c->lock);
	return k;
}

static void let_go(struct shard_cache *c, struct kept *k)
{
	pthread_mutex_lock(&c->lock);
	if (--k->users == 0)
		pthread_cond_broadcast(&c->changed);
	pthread_mutex_unlock(&c->lock);
}

void shard_cache_get(struct shard_cache *c, uint64_t row, size_t n, void *rows)
{
	const size_t row_bytes = c->set->file[0].head.row_bytes;
	char *to = rows;

	if (row > shard_cache_rows(c) || n > shard_cache_rows(c) - row)
		BUG("rows %llu to %llu of %llu", (unsigned long long)row, (unsigned long long)(row + n),
		    (unsigned long long)shard_cache_rows(c));
	while (n > 0) {
		const size_t file = shard_set_find(c->set, row);
		const size_t per_frame = c->set->file[file].head.rows_per_frame;
		const uint64_t inside = row - c->set->start[file];
		const uint64_t left = c->set->start[file + 1] - row;
		const size_t skip = inside % per_frame;
		size_t part = per_frame - skip < n ? per_frame - skip : n;

		if (part > left)
			part = left;
		struct kept *k = hold(c, file, c->first_frame[file] + inside / per_frame);

		memcpy(to, k->rows + skip * row_bytes, part * row_bytes);
		let_go(c, k);
		to += part * row_bytes;
		row += part;
		n -= part;
	}
}

void shard_cache_close(struct shard_cache *c)
{
	for (uint32_t i = 0; i < c->n; i++)
		free(c->kept[i].rows);
	free(c->kept);
	free(c->where);
	free(c->first_frame);
	pthread_mutex_destroy(&c->lock);
	pthread_cond_destroy(&c->changed);
	shards_close(c->shards);
	free(c);
}
