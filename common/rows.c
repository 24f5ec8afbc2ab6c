#include "rows.h"

#include <stdlib.h>
#include <string.h>

#include "pool.h"
#include "rng.h"

/* Far above any use, low enough that no product below overflows. */
#define MAX_CONTEXTS ((uint64_t)1 << 50)
#define MAX_BLOCK ((uint64_t)1 << 31)
#define MAX_ROWS ((uint64_t)1 << 60)
#define MAX_BINS ((uint64_t)1 << 20)

__extension__ typedef unsigned __int128 u128;

uint64_t rows_window(const struct rows *r, uint64_t c)
{
	return rng_permute(r->seed, RNG_WINDOW, 0, r->windows, c) * r->block;
}

/* Selection sampling (Knuth, volume 2, algorithm S): in order, so nothing need be sorted or remembered. */
void rows_positions(const struct rows *r, uint64_t c, uint32_t *pos)
{
	uint64_t wanted = r->samples;

	for (uint64_t t = 0; wanted > 0; t++)
		if (rng_below(rng_hash(r->seed, RNG_POSITION, c, t), r->block - t) < wanted) {
			*pos++ = (uint32_t)t;
			wanted--;
		}
}

static uint64_t window_of(const struct rows *r)
{
	return r->window && r->window < r->contexts ? r->window : r->contexts;
}

struct row rows_row(const struct rows *r, uint64_t c, uint32_t position)
{
	return (struct row){ c / window_of(r), rng_hash(r->seed, RNG_ROW, c, position), c, position };
}

int row_compare(const struct row *a, const struct row *b)
{
	if (a->block != b->block)
		return a->block < b->block ? -1 : 1;
	if (a->key != b->key)
		return a->key < b->key ? -1 : 1;
	if (a->context != b->context)
		return a->context < b->context ? -1 : 1;
	return (a->position > b->position) - (a->position < b->position);
}

/*
 * Place on the order's axis, in contexts: a block begins at its first context
 * and is as long as it has contexts, the key says how far into it.  The bin is
 * floor(place · bins / contexts), exactly, so that bins · m refines bins.
 */
uint64_t rows_bin(const struct rows *r, const struct row *row)
{
	const uint64_t w = window_of(r), start = row->block * w;
	const uint64_t length = r->contexts - start < w ? r->contexts - start : w;
	const u128 offset = (u128)row->key * length;
	const uint64_t whole = start + (uint64_t)(offset >> 64), fraction = (uint64_t)offset;
	const u128 scaled = (u128)whole * r->bins + (uint64_t)((u128)fraction * r->bins >> 64);

	/* most often both fit 64 bits, whose division is ten times as fast */
	return scaled >> 64 ? (uint64_t)(scaled / r->contexts) : (uint64_t)scaled / r->contexts;
}

/* ---- replay ---- */

/* Rows enumerated at once, unless one context has more. */
#define WALK_ROWS ((uint64_t)1 << 15)

struct rows_walk {
	struct rows r;          /* r.bin: the bin under way */
	uint64_t end;           /* first bin that is not walked */
	uint64_t next;          /* first context not enumerated */
	size_t contexts;        /* enumerated at once, the last time fewer */
	uint32_t *position;     /* (contexts, S) */
	struct row *row;        /* (contexts, S): those in the bin first */
	size_t *kept;           /* (contexts): how many those are */
	size_t n, c, j;         /* contexts enumerated; next row: number j of the c-th */
};

struct rows_walk *rows_walk_open(const struct rows *r, uint64_t bins)
{
	struct rows_walk *w = xcalloc(1, sizeof(*w));

	w->r = *r;
	w->end = r->bin + bins;
	w->contexts = r->samples < WALK_ROWS ? (size_t)(WALK_ROWS / r->samples) : 1;
	if (w->contexts > r->contexts)
		w->contexts = (size_t)r->contexts;
	w->position = xcalloc(xmul(w->contexts, r->samples), sizeof(*w->position));
	w->row = xcalloc(xmul(w->contexts, r->samples), sizeof(*w->row));
	w->kept = xcalloc(w->contexts, sizeof(*w->kept));
	return w;
}

static void walk_context(void *arg, size_t i)
{
	struct rows_walk *w = arg;
	const size_t S = (size_t)w->r.samples;
	uint32_t *position = w->position + i * S;
	struct row *kept = w->row + i * S;

	rows_positions(&w->r, w->next + i, position);
	for (size_t j = 0; j < S; j++) {
		*kept = rows_row(&w->r, w->next + i, position[j]);
		kept += w->r.bins == 1 || rows_bin(&w->r, kept) == w->r.bin;
	}
	w->kept[i] = (size_t)(kept - (w->row + i * S));
}

/* The next contexts of the bin, or the first ones of the next bin; false: no bin is left. */
static bool walk_on(struct rows_walk *w)
{
	if (w->next == w->r.contexts) {
		w->next = 0;
		w->r.bin++;
	}
	if (w->r.bin >= w->end)
		return false;
	w->n = w->contexts;
	if (w->n > w->r.contexts - w->next)
		w->n = (size_t)(w->r.contexts - w->next);
	pool_for(w->n, walk_context, w);
	w->next += w->n;
	w->c = w->j = 0;
	return true;
}

bool rows_walk_next(struct rows_walk *w, struct row *row)
{
	for (;;) {
		for (; w->c < w->n; w->c++, w->j = 0)
			if (w->j < w->kept[w->c]) {
				*row = w->row[w->c * w->r.samples + w->j++];
				return true;
			}
		if (!walk_on(w))
			return false;
	}
}

void rows_walk_close(struct rows_walk *w)
{
	free(w->position);
	free(w->row);
	free(w->kept);
	free(w);
}

/* ---- the order within a block ---- */

/* Rows that a bucket of keys has, about: keys are hashes, so buckets are even. */
#define BUCKET_ROWS 256

struct rows_order {
	struct rows r;
	uint64_t first;                 /* context of the block under way */
	unsigned bits;                  /* of a key that are its bucket */
	uint32_t *position;             /* (threads, S) */
	uint64_t *key;                  /* of each row, in the order of enumeration */
	struct keyed {
		uint64_t key;
		uint32_t place;
	} *sorted;
	uint32_t *start;                /* (2^bits + 1) of each bucket, in sorted */
	uint32_t *order;
};

uint64_t rows_block(const struct rows *r, uint64_t block, uint64_t *first)
{
	const uint64_t w = window_of(r), start = block * w;

	if (start >= r->contexts)
		BUG("block %llu", (unsigned long long)block);
	*first = start;
	return r->contexts - start < w ? r->contexts - start : w;
}

static unsigned bucket_bits(uint64_t rows)
{
	unsigned bits = 1;

	while (bits < 24 && rows >> bits > BUCKET_ROWS)
		bits++;
	return bits;
}

uint64_t rows_order_bytes(const struct rows *r)
{
	const uint64_t rows = window_of(r) * r->samples;

	return rows * (sizeof(uint64_t) + sizeof(struct keyed) + sizeof(uint32_t)) + (sizeof(uint32_t) << bucket_bits(rows));
}

struct rows_order *rows_order_new(const struct rows *r)
{
	struct rows_order *o = xcalloc(1, sizeof(*o));
	const size_t rows = xmul(window_of(r), r->samples);

	if (rows > UINT32_MAX)
		BUG("%zu rows in a block", rows);
	o->r = *r;
	o->bits = bucket_bits(rows);
	o->position = xcalloc(xmul(pool_threads(), r->samples), sizeof(*o->position));
	o->key = xcalloc(rows, sizeof(*o->key));
	o->sorted = xcalloc(rows, sizeof(*o->sorted));
	o->start = xcalloc(((size_t)1 << o->bits) + 1, sizeof(*o->start));
	o->order = xcalloc(rows, sizeof(*o->order));
	return o;
}

static size_t bucket(const struct rows_order *o, uint64_t key)
{
	return (size_t)(key >> (64 - o->bits));
}

static void key_context(void *arg, size_t i)
{
	struct rows_order *o = arg;
	const size_t S = (size_t)o->r.samples;
	uint32_t *position = o->position + pool_self() * S;

	rows_positions(&o->r, o->first + i, position);
	for (size_t j = 0; j < S; j++)
		o->key[i * S + j] = rows_row(&o->r, o->first + i, position[j]).key;
}

/* = row_compare within a block: places ascend as (context, position) does */
static int keyed_compare(const void *pa, const void *pb)
{
	const struct keyed *a = pa, *b = pb;

	if (a->key != b->key)
		return a->key < b->key ? -1 : 1;
	return (a->place > b->place) - (a->place < b->place);
}

static void sort_bucket(void *arg, size_t i)
{
	struct rows_order *o = arg;
	const size_t from = o->start[i], to = o->start[i + 1];

	qsort(o->sorted + from, to - from, sizeof(*o->sorted), keyed_compare);
	for (size_t k = from; k < to; k++)
		o->order[k] = o->sorted[k].place;
}

/* Rows into their buckets; start[i + 1] first counts bucket i, then is where its next row goes. */
static void scatter(struct rows_order *o, size_t rows)
{
	const size_t buckets = (size_t)1 << o->bits;
	uint32_t before = 0;

	memset(o->start, 0, (buckets + 1) * sizeof(*o->start));
	for (size_t i = 0; i < rows; i++)
		o->start[bucket(o, o->key[i]) + 1]++;
	for (size_t b = 1; b <= buckets; b++) {
		const uint32_t n = o->start[b];

		o->start[b] = before;
		before += n;
	}
	for (size_t i = 0; i < rows; i++)
		o->sorted[o->start[bucket(o, o->key[i]) + 1]++] = (struct keyed){ o->key[i], (uint32_t)i };
}

const uint32_t *rows_order_of(struct rows_order *o, uint64_t block)
{
	const size_t contexts = (size_t)rows_block(&o->r, block, &o->first);

	pool_for(contexts, key_context, o);
	scatter(o, contexts * o->r.samples);
	pool_for((size_t)1 << o->bits, sort_bucket, o);
	return o->order;
}

void rows_order_free(struct rows_order *o)
{
	free(o->position);
	free(o->key);
	free(o->sorted);
	free(o->start);
	free(o->order);
	free(o);
}

/* ---- META ---- */

void rows_to_meta(const struct rows *r, struct meta *m)
{
	meta_add(m, "contexts", "%llu", (unsigned long long)r->contexts);
	meta_add(m, "samples", "%llu", (unsigned long long)r->samples);
	meta_add(m, "block", "%llu", (unsigned long long)r->block);
	meta_add(m, "windows", "%llu", (unsigned long long)r->windows);
	meta_add(m, "window", "%llu", (unsigned long long)r->window);
	meta_add(m, "seed", "%llu", (unsigned long long)r->seed);
	meta_add(m, "bin", "%llu/%llu", (unsigned long long)r->bin, (unsigned long long)r->bins);
}

static bool is_line_of(const char *line, const char *const *keys)
{
	for (; *keys; keys++)
		if (!strncmp(line, *keys, strlen(*keys)) && line[strlen(*keys)] == ' ')
			return true;
	return false;
}

void rows_pass_meta(const struct meta *from, struct meta *to)
{
	static const char *const own[] = { "dtype", "cols", "rows-per-frame", "shard", "contexts", "samples",
		"block", "windows", "window", "seed", "bin", "order", NULL };
	size_t n;

	for (const char *line = from->text.p; line && *line; line += n) {
		n = strcspn(line, "\n");
		n += line[n] == '\n';
		if (!is_line_of(line, own))
			buf_add(&to->text, line, n);
	}
}

static void bin_from_meta(struct rows *r, const struct meta *m, const char *name)
{
	char *bin = meta_get(m, "bin"), *slash = bin ? strchr(bin, '/') : NULL;

	if (slash)
		*slash = 0;
	if (!slash || !parse_u64(bin, &r->bin) || !parse_u64(slash + 1, &r->bins) || r->bin >= r->bins)
		die("'%s' does not say which bin of its rows it holds", name);
	free(bin);
}

struct rows rows_from_meta(const struct meta *m, const char *name)
{
	struct rows r = {
		.seed = meta_u64(m, "seed", name),
		.contexts = meta_u64(m, "contexts", name),
		.samples = meta_u64(m, "samples", name),
		.block = meta_u64(m, "block", name),
		.windows = meta_u64(m, "windows", name),
		.window = meta_u64(m, "window", name),
	};

	bin_from_meta(&r, m, name);
	if (r.contexts < 1 || r.contexts > r.windows || r.windows > MAX_CONTEXTS || r.samples < 1 ||
	    r.samples > r.block || r.block > MAX_BLOCK || r.samples > MAX_ROWS / r.contexts ||
	    r.bins > MAX_BINS)
		die("'%s' describes rows that cannot be: %llu of %llu tokens in %llu of %llu contexts", name,
		    (unsigned long long)r.samples, (unsigned long long)r.block,
		    (unsigned long long)r.contexts, (unsigned long long)r.windows);
	return r;
}
