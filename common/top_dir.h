#ifndef TOP_DIR_H
#define TOP_DIR_H
/*
 * top_dir: topk's directory as others read it: index.json and the shards' ids,
 * checked against each other.
 *
 *	struct top t = top_read("top");
 *	… t.s.F features; top_field(&t.s, TOP_MAX) …
 *	top_release(&t);
 */
#include "json.h"
#include "top.h"

struct top {
	const char *dir;
	struct top_shape s;
	uint64_t tokens;        /* read to find the examples */
	uint64_t contexts, block;       /* which are so many of so many tokens */
	uint64_t bytes;         /* of its shards */
	json_t *index;
	char ids[TOP_N_FIELDS][33];
};
struct top top_read(const char *dir);   /* dies with one line on anything amiss */
void top_release(struct top *t);

#endif
