#include "sorter.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool.h"
#include "prog.h"
#include "spill.h"

enum {
	MIN_BUFFER = 1 << 16,   /* of a bin: shorter writes and reads would make a disk seek */
	PIECES = 256
};

/* A row as it is set aside. */
struct record {
	struct sort_key key;
	char row[];
};

/* What is sorted: keys, and which record of memory they belong to. */
struct entry {
	struct sort_key key;
	uint64_t slot;
};

struct sorter {
	const struct sorter_spec *spec;
	size_t row_bytes, record_bytes;
	size_t bins;            /* 1: all rows fit into memory, nothing is set aside */
	size_t capacity;        /* rows in memory at once */
	char *memory;           /* (capacity) records: the bins' buffers, then one bin */
	struct entry *entry;    /* (capacity) */
	struct spill *spill;
	struct shard_writer *out;
	struct position {
		uint64_t put, full;     /* rows put; was that all? */
		uint64_t gathered;      /* bins written */
	} at;
	size_t forgotten;       /* bins whose disk space was given back */
	double saved;           /* when the last state was */
};

/* ---- sizes ---- */

/* Rows in a bin at most: eight standard deviations above its share never happen. */
static double most_rows(const struct sorter *s, size_t bins)
{
	const double rows = (double)s->spec->rows, mean = rows / (double)bins;

	if (bins == 1 && s->spec->exact)
		return rows;
	return mean + 8 * sqrt(mean) + 8;
}

/* Shards buffer about 8 MiB for a thread.  That of 8 threads comes on top of the limit, that of more out of it. */
static uint64_t usable(uint64_t memory)
{
	const uint64_t threads = pool_threads(), buffers = threads > 8 ? (threads - 8) << 23 : 0;

	return memory - (buffers < memory / 2 ? buffers : memory / 2);
}

/* How many bins so much memory asks for; 0: they or their buffers have no room in it. */
static size_t bins_for(const struct sorter *s, uint64_t memory)
{
	const uint64_t capacity = usable(memory) / (s->record_bytes + sizeof(struct entry));
	size_t bins = s->spec->bins ? s->spec->bins : 1;

	while (most_rows(s, bins) > (double)capacity) {
		if (bins > capacity)
			return 0;
		bins += bins / 16 + 1;
	}
	const uint64_t room = capacity / bins;

	return bins == 1 || (room && room * s->record_bytes >= MIN_BUFFER) ? bins : 0;
}

static _Noreturn void refuse_memory(const struct sorter *s)
{
	const uint64_t memory = s->spec->memory;
	uint64_t need = memory;
	char in_bins[40] = "";

	while (!bins_for(s, need))
		need += need / 16 + 1;
	if (s->spec->bins > 1)
		snprintf(in_bins, sizeof(in_bins), " in %zu bins", s->spec->bins);
	die("-m %lluM is too small to sort %.0fM of rows%s; need at least %lluM", (unsigned long long)(memory >> 20),
	    ceil((double)s->spec->rows * (double)s->row_bytes / 0x1p20), in_bins,
	    (unsigned long long)(need >> 20) + 1);
}

static void plan_memory(struct sorter *s)
{
	s->bins = bins_for(s, s->spec->memory);
	if (!s->bins)
		refuse_memory(s);
	s->capacity = (size_t)(usable(s->spec->memory) / (s->record_bytes + sizeof(struct entry)));
	if ((double)s->capacity > most_rows(s, 1)) /* address space is not free either */
		s->capacity = (size_t)most_rows(s, 1);
	if (s->capacity < s->bins)
		s->capacity = s->bins;
	s->memory = xmalloc(xmul(s->capacity, s->record_bytes));
	s->entry = xmalloc(xmul(s->capacity, sizeof(*s->entry)));
}

/* ---- states: position, spill, shard ---- */

void sorter_checkpoint(struct sorter *s)
{
	const struct recipe *r = s->spec->recipe;
	struct buf st = { 0 };

	if (s->bins == 1 || (r && now_secs() - s->saved < s->spec->save_every))
		return;
	if (r) {
		buf_add(&st, &s->at, sizeof(s->at));
		spill_save(s->spill, &st);
		shard_save(s->out, &st);
		state_save(s->spec->output, r, &st);
		buf_free(&st);
		s->saved = now_secs();
	}
	while (s->forgotten < s->at.gathered)
		spill_forget(s->spill, s->forgotten++);
}

static struct spill_shape spill_shape(const struct sorter *s)
{
	return (struct spill_shape){ s->bins, s->record_bytes, s->memory, s->capacity * s->record_bytes };
}

/* false: there is no state, or what it needs is gone, or the memory now asks for other bins. */
static bool resume(struct sorter *s)
{
	const struct sorter_spec *spec = s->spec;
	struct buf st = { 0 };

	if (!spec->recipe || !state_load(spec->output, spec->recipe, &st))
		return false;
	struct cursor c = { st.p, st.n };

	cursor_get(&c, &s->at, sizeof(s->at));
	s->spill = spill_restore(spec->output, spec->dir, spill_shape(s), &c);
	if (s->spill)
		s->out = shard_restore(spec->output, spec->shard, OUT_KEEP, &c);
	if (s->spill && !s->out)
		spill_close(s->spill);
	buf_free(&st);
	return s->out != NULL;
}

static void begin(struct sorter *s)
{
	const bool kept = s->spec->recipe && s->bins > 1;

	s->at = (struct position){ 0 };
	if (!s->spec->recipe && strcmp(s->spec->output, "-"))
		state_drop(s->spec->output);    /* of another run, whose part this one overwrites */
	s->spill = spill_open(s->spec->output, s->spec->dir, spill_shape(s));
	s->out = shard_create(s->spec->output, s->spec->shard, kept ? OUT_KEEP : 0);
}

struct sorter *sorter_open(const struct sorter_spec *spec)
{
	struct sorter *s = xcalloc(1, sizeof(*s));

	s->spec = spec;
	s->row_bytes = xmul(spec->shard->cols, dtype_size(spec->shard->dtype));
	s->record_bytes = (sizeof(struct record) + s->row_bytes + 7) / 8 * 8;
	plan_memory(s);
	if (resume(s))
		say("going on: %llu rows read, %llu of %zu bins written", (unsigned long long)s->at.put,
		    (unsigned long long)s->at.gathered, s->bins);
	else
		begin(s);
	s->saved = now_secs();
	return s;
}

uint64_t sorter_rows(const struct sorter *s)
{
	return s->at.put;
}

bool sorter_full(const struct sorter *s)
{
	return s->at.full;
}

/* ---- scatter ---- */

static size_t part_of(const struct sorter *s, struct sort_key key, size_t parts)
{
	return s->spec->part(s->spec->arg, key, parts);
}

void sorter_put(struct sorter *s, struct sort_key key, const void *row)
{
	struct record *r = spill_put(s->spill, part_of(s, key, s->bins));

	r->key = key;
	memcpy(r->row, row, s->row_bytes);
	s->at.put++;
}

/* ---- gather ---- */

/* Slots are in the order in which rows were put. */
static int entry_compare(const void *pa, const void *pb)
{
	const struct entry *a = pa, *b = pb;

	if (a->key.major != b->key.major)
		return a->key.major < b->key.major ? -1 : 1;
	if (a->key.minor != b->key.minor)
		return a->key.minor < b->key.minor ? -1 : 1;
	return (a->slot > b->slot) - (a->slot < b->slot);
}

/* Piece i: entries end[i - 1] … end[i] - 1, one range of the order, sorted by one thread. */
struct pieces {
	struct entry *entry;
	size_t end[PIECES];
};

static void sort_piece(void *arg, size_t i)
{
	const struct pieces *p = arg;
	const size_t start = i ? p->end[i - 1] : 0;

	qsort(p->entry + start, p->end[i] - start, sizeof(*p->entry), entry_compare);
}

static const struct record *record_at(const struct sorter *s, uint64_t slot)
{
	return (const struct record *)(const void *)(s->memory + slot * s->record_bytes);
}

static size_t piece_of(const struct sorter *s, size_t bin, const struct record *r)
{
	return part_of(s, r->key, s->bins * PIECES) - bin * PIECES;
}

/* The entries of a bin's records, which lie in memory, in order. */
static void sort_bin(struct sorter *s, size_t bin, size_t rows)
{
	struct pieces p = { .entry = s->entry };
	size_t start = 0;

	for (size_t i = 0; i < rows; i++)
		p.end[piece_of(s, bin, record_at(s, i))]++;
	for (size_t i = 0; i < PIECES; i++) {
		const size_t n = p.end[i];

		p.end[i] = start;       /* for now; the loop below moves it to the end */
		start += n;
	}
	for (size_t i = 0; i < rows; i++) {
		const struct record *r = record_at(s, i);

		p.entry[p.end[piece_of(s, bin, r)]++] = (struct entry){ r->key, i };
	}
	pool_for(PIECES, sort_piece, &p);
}

static void gather_bin(struct sorter *s, size_t bin)
{
	const uint64_t rows = spill_count(s->spill, bin);

	if (rows > s->capacity)
		BUG("bin %zu of %zu has %llu rows", bin, s->bins, (unsigned long long)rows);
	if (s->bins > 1)
		spill_get(s->spill, bin, s->memory);
	if (bin + 1 < s->bins)
		spill_ahead(s->spill, bin + 1);
	sort_bin(s, bin, rows);
	for (size_t i = 0; i < rows; i++) {
		shard_write(s->out, record_at(s, s->entry[i].slot)->row, 1);
		prog_step(1);
	}
}

static void gather(struct sorter *s)
{
	if (s->bins > 1)
		spill_flush(s->spill);  /* its buffers' memory takes the bins now */
	s->at.full = true;
	while (s->at.gathered < s->bins) {
		sorter_checkpoint(s);
		gather_bin(s, s->at.gathered++);
	}
}

/* What was set aside goes before the shard appears, the stamp comes last: killed
 * at any point, a run leaves only what the next one takes up or replaces. */
uint64_t sorter_finish(struct sorter *s)
{
	const char *output = s->spec->output;

	gather(s);
	spill_close(s->spill);
	recipe_unstamp(output);
	const uint64_t bytes = shard_finish(s->out);

	if (s->spec->recipe) {
		state_drop(output);
		recipe_stamp(s->spec->recipe, output);
	}
	free(s->memory);
	free(s->entry);
	free(s);
	return bytes;
}
