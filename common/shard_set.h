#ifndef SHARD_SET_H
#define SHARD_SET_H
/* shard_set: files that together are the shards 0/n … n-1/n, or one of them. */
#include "shard_input.h"

struct shard_set {
	struct shard_file *file;
	size_t n;
	uint64_t *start;        /* first row of each file; start[n] is the number of rows */
};
/* Paths of files, and of directories for their *.zst; dies on what is no set. */
void shard_set_open(struct shard_set *s, char *const *paths);
size_t shard_set_find(const struct shard_set *s, uint64_t row);         /* the file with that row */
void shard_set_close(struct shard_set *s);

/* Of shards that are seekable. */
const struct shard_set *shards_set(const struct shards *s);

#endif
