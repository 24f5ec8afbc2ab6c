#include "top_dir.h"

#include <stdlib.h>
#include <string.h>

/* A shard names what went into it; one of another run has no place here. */
static void check_origin(const struct top *t, const struct meta *m, const char *path, const char *index_path)
{
	const char *key;
	json_t *id;

	json_object_foreach(json_object_get(t->index, "ids"), key, id) {
		char *own = meta_get(m, key);

		if (own && json_is_string(id) && strcmp(own, json_string_value(id)))
			die("'%s' was made from %s %s, not %s as '%s' says", path, key, own,
			    json_string_value(id), index_path);
		free(own);
	}
}

static void check_field(struct top *t, enum top_name which, const char *index_path)
{
	const struct top_field f = top_field(&t->s, which);
	char *path = top_path(t->dir, &f);
	struct shard_info info;

	shard_info(path, &info);
	if (info.dtype != f.dtype || info.cols != f.cols || info.rows != f.rows || info.n != 1)
		die("'%s' is shard %llu/%llu of %llu x %zu %s; '%s' says %zu x %zu %s", path,
		    (unsigned long long)info.k, (unsigned long long)info.n, (unsigned long long)info.rows,
		    info.cols, dtype_name(info.dtype), index_path, f.rows, f.cols, dtype_name(f.dtype));
	check_origin(t, &info.meta, path, index_path);
	t->bytes += info.bytes;
	memcpy(t->ids[which], info.id, sizeof(t->ids[which]));
	meta_free(&info.meta);
	meta_free(&info.stats);
	free(path);
}

struct top top_read(const char *dir)
{
	struct top t = { .dir = dir };
	char *path = xformat("%s/index.json", dir);

	t.index = json_read(path, (size_t)16 << 20);
	if (json_number(t.index, "format", 0, 1e9, path) != TOP_FORMAT)
		die("'%s' is of a format that this program does not know", path);
	t.s = (struct top_shape){
		.F = json_number(t.index, "features", 1, 1 << 28, path),
		.K = json_number(t.index, "top_k", 1, 10000, path),
		.I = json_number(t.index, "intervals", 1, 1000, path),
		.M = json_number(t.index, "samples", 1, 10000, path),
		.R = json_number(t.index, "radius", 0, 10000, path),
		.RT = json_number(t.index, "top_radius", 0, 10000, path),
		.H = json_number(t.index, "bins", 1, 10000, path),
		.L = json_number(t.index, "logits", 1, 10000, path),
		.N = json_number(t.index, "near", 1, 10000, path),
		.A = json_number(t.index, "align", 1, 10000, path),
		.B = json_number(t.index, "neighbours", 1, 10000, path),
		.P = json_number(t.index, "sampled", 1, 1 << 30, path),
	};
	t.tokens = json_number(t.index, "tokens", 1, 1e18, path);
	t.contexts = json_number(t.index, "contexts", 1, 1e18, path);
	t.block = json_number(t.index, "block", 1, 1 << 30, path);
	for (int i = 0; i < TOP_N_FIELDS; i++)
		check_field(&t, (enum top_name)i, path);
	free(path);
	return t;
}

void top_release(struct top *t)
{
	json_decref(t->index);
}
