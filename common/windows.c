#include "windows.h"

struct windows windows_open(char *const *paths, size_t T, size_t vocab, size_t cache_bytes)
{
	struct windows w = { .name = paths[0], .T = T, .vocab = vocab };

	w.cache = shard_cache_open(paths, cache_bytes);
	struct shards *s = shard_cache_shards(w.cache);

	if (shards_dtype(s) != DT_U16 || shards_cols(s) != 1)
		die("'%s' holds no tokens: %s, %zu columns", w.name, dtype_name(shards_dtype(s)),
		    shards_cols(s));
	w.tokens = shard_cache_rows(w.cache);
	if (w.tokens <= T)
		die("'%s' has %llu tokens; a context of %zu needs at least %zu", w.name,
		    (unsigned long long)w.tokens, T, T + 1);
	w.count = (w.tokens - 1) / T;
	shards_id(s, w.id);
	return w;
}

void windows_read(const struct windows *w, uint64_t start, int32_t *idx, int32_t *targets)
{
	uint16_t part[1024];
	size_t n;

	for (size_t at = 0; at < w->T; at += n) {
		n = w->T - at < ARRAY_LEN(part) ? w->T - at : ARRAY_LEN(part) - 1;
		shard_cache_get(w->cache, start + at, n + 1, part);
		for (size_t i = 0; i <= n; i++)
			if (part[i] >= w->vocab)
				die("'%s' has token %u at %llu; the vocabulary ends at %zu", w->name,
				    part[i], (unsigned long long)(start + at + i), w->vocab - 1);
		for (size_t i = 0; i < n; i++) {
			idx[at + i] = part[i];
			targets[at + i] = part[i + 1];
		}
	}
}

void windows_at(const struct windows *w, uint64_t i, int32_t *idx, int32_t *targets)
{
	if (i >= w->count)
		BUG("window %llu of %llu", (unsigned long long)i, (unsigned long long)w->count);
	windows_read(w, i * w->T, idx, targets);
}

void windows_close(struct windows *w)
{
	shard_cache_close(w->cache);
	w->cache = NULL;
}
