#include "source.h"

#include <stdlib.h>
#include <string.h>

#include "bpe.h"
#include "jsonl.h"
#include "layers.h"
#include "parquet.h"
#include "shard.h"
#include "utf8.h"

enum kind { NO_FILE, TEXT, JSON_LINES, TOKENS, PARQUET, SHARD };
static const char BOM[] = "\xEF\xBB\xBF";
enum { CHUNK = 1 << 18, LLMC_HEADER = 1024, LLMC_MAGIC = 20240520, NAME_DIGITS = 7, NAME_HASH = 32 };

struct source {
	char *path;
	struct source_opts o;
	struct layers *layers;
	enum kind kind;         /* of the present file; NO_FILE: on to the next */
	struct buf in;          /* its bytes read and not yet used: [at, in.n) */
	size_t at;
	bool ended;             /* all of the file is in `in` */
	uint64_t files;         /* begun */
	uint64_t line;          /* JSON Lines: lines seen */
	struct buf text;
	uint16_t *ids;          /* of a document of tokens */
	size_t ids_cap;
	uint64_t ids_left;      /* llm.c: tokens its header still promises */
	bool leading;           /* the end token stands before the document (llm.c) */
	struct shards *shards;
	struct parquet *parquet;
};

/* ---- bytes of the present file ---- */

static size_t file_read(struct source *s, void *p, size_t bytes)
{
	if (s->kind == PARQUET)
		return parquet_read(s->parquet, p, bytes);
	if (s->kind == SHARD)
		return shards_read(s->shards, p, bytes / sizeof(uint16_t)) * sizeof(uint16_t);
	return layers_read(s->layers, p, bytes);
}

/* More of the file behind what is in s->in; false at its end. */
static bool fill(struct source *s)
{
	if (s->ended)
		return false;
	if (s->at > 0 && s->at >= s->in.n / 2) {
		memmove(s->in.p, s->in.p + s->at, s->in.n - s->at);
		s->in.n -= s->at;
		s->at = 0;
	}
	buf_reserve(&s->in, CHUNK);
	const size_t n = file_read(s, s->in.p + s->in.n, CHUNK);

	s->in.n += n;
	s->in.p[s->in.n] = 0;
	s->ended = n == 0;
	return n > 0;
}

static bool have(struct source *s, size_t bytes)
{
	while (s->in.n - s->at < bytes)
		if (!fill(s))
			return false;
	return true;
}

static uint32_t le32(const char *p)
{
	const unsigned char *u = (const unsigned char *)p;

	return (uint32_t)u[0] | (uint32_t)u[1] << 8 | (uint32_t)u[2] << 16 | (uint32_t)u[3] << 24;
}

static uint16_t le16(const char *p)
{
	return (uint16_t)((unsigned char)p[0] | (unsigned char)p[1] << 8);
}

/* ---- text ---- */

/* What Python's str.strip takes away: White_Space and the separators 1C-1F.  Length at p, or 0. */
static size_t blank(const char *p, size_t n)
{
	const unsigned char *u = (const unsigned char *)p;

	if (n > 0 && ((u[0] >= 9 && u[0] <= 13) || (u[0] >= 0x1C && u[0] <= 0x20)))
		return 1;
	if (n > 1 && u[0] == 0xC2 && (u[1] == 0x85 || u[1] == 0xA0))
		return 2;
	if (n > 2 && (!memcmp(p, "\xE1\x9A\x80", 3) || !memcmp(p, "\xE2\x81\x9F", 3) || !memcmp(p, "\xE3\x80\x80", 3)))
		return 3;
	if (n > 2 && u[0] == 0xE2 && u[1] == 0x80 &&
	    ((u[2] >= 0x80 && u[2] <= 0x8A) || u[2] == 0xA8 || u[2] == 0xA9 || u[2] == 0xAF))
		return 3;
	return 0;
}

/* As the loader of OpenWebText leaves it: three or more newlines become two, then blanks are
 * stripped at both ends. */
static void normalise(struct buf *b)
{
	size_t from = 0, to = 0, run = 0, n;

	for (size_t i = 0; i < b->n; i++) {
		run = b->p[i] == '\n' ? run + 1 : 0;
		if (run <= 2)
			b->p[to++] = b->p[i];
	}
	while ((n = blank(b->p + from, to - from)) > 0)
		from += n;
	for (n = 1; n > 0 && to > from; to -= n) {
		n = 0;
		for (size_t k = 1; k <= 3 && k <= to - from && n == 0; k++)
			n = blank(b->p + to - k, k) == k ? k : 0;
	}
	memmove(b->p, b->p + from, to - from);
	b->n = to - from;
	b->p[b->n] = 0;
}

/* NNNNNNN-<32 hex>.txt: a file of OpenWebText, also when it was unpacked. */
static bool openwebtext_name(const char *path)
{
	const char *slash = strrchr(path, '/'), *p = slash ? slash + 1 : path;

	return strspn(p, "0123456789") == NAME_DIGITS && p[NAME_DIGITS] == '-' &&
		strspn(p + NAME_DIGITS + 1, "0123456789abcdef") == NAME_HASH &&
		!strcmp(p + NAME_DIGITS + 1 + NAME_HASH, ".txt");
}

/* The whole file; one without a byte is an empty document only as a member. */
static bool next_text(struct source *s, struct doc *d)
{
	const bool member = layers_name(s->layers) != NULL;

	while (fill(s))
		;
	s->kind = NO_FILE;
	if (member || openwebtext_name(s->path))
		normalise(&s->in);
	*d = (struct doc){ .text = s->in.p, .bytes = s->in.n };
	return member || s->in.n > 0;
}

/* ---- JSON Lines ---- */

/* The next line, without its newline; false at the end. */
static bool next_line(struct source *s, const char **line, size_t *bytes)
{
	size_t seen = 0;
	const char *end = NULL;

	do {
		const char *from = s->in.p + s->at + seen;

		if (s->in.n > s->at + seen)
			end = memchr(from, '\n', s->in.n - s->at - seen);
		seen = s->in.n - s->at;
	} while (!end && fill(s));
	*line = s->in.p + s->at;
	*bytes = end ? (size_t)(end - *line) : seen;
	s->at += *bytes + (end != NULL);
	s->line++;
	return end || seen > 0;
}

static bool only_blanks(const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!strchr(" \t\r", p[i] ? p[i] : 1))
			return false;
	return true;
}

const char *source_where(struct source *s)
{
	return s->layers ? layers_where(s->layers) : "'<stdin>'";
}

static bool next_json(struct source *s, struct doc *d)
{
	const char *field = s->kind == PARQUET ? "text" : s->o.field, *line, *wrong;
	size_t bytes;

	do {
		if (!next_line(s, &line, &bytes)) {
			s->kind = NO_FILE;
			return false;
		}
	} while (only_blanks(line, bytes));
	if (s->o.lines) {
		*d = (struct doc){ .text = line, .bytes = bytes, .line = s->line, .field = field, .file = s->files };
		return true;
	}
	if ((wrong = jsonl_string(line, bytes, field, &s->text)) != NULL)
		die("%s line %llu: %s ('%s' is wanted)", source_where(s), (unsigned long long)s->line, wrong, field);
	*d = (struct doc){ .text = s->text.p, .bytes = s->text.n };
	return true;
}

/* ---- tokens: documents end at (llm.c: begin with) the end token ---- */

/* The next token of the file, or -1. */
static int next_id(struct source *s)
{
	uint16_t id;

	if (!have(s, 2)) {
		if (s->in.n > s->at || (s->leading && s->ids_left > 0))
			die("cannot read %s: truncated tokens", source_where(s));
		return -1;
	}
	if (s->leading && s->ids_left-- == 0)
		die("cannot read %s: more tokens than its header says", source_where(s));
	id = le16(s->in.p + s->at);
	s->at += 2;
	return id;
}

static bool next_tokens(struct source *s, struct doc *d)
{
	size_t n = 0;
	int id;

	while ((id = next_id(s)) >= 0 && id != BPE_EOT) {
		if (id > BPE_EOT)
			die("cannot read %s: token %d is beyond GPT-2's", source_where(s), id);
		if (n == s->ids_cap) {
			s->ids_cap = n ? 2 * n : 1024;
			s->ids = xrealloc(s->ids, s->ids_cap, sizeof(*s->ids));
		}
		s->ids[n++] = (uint16_t)id;
	}
	if (id < 0)
		s->kind = NO_FILE;
	if (id < 0 && n == 0 && !s->leading)
		return false;
	*d = (struct doc){ .ids = s->ids, .n_ids = n };
	return true;
}

static void llmc_header(struct source *s)
{
	if (!have(s, LLMC_HEADER))
		die("cannot read %s: truncated header", source_where(s));
	const char *h = s->in.p + s->at;

	if (le32(h + 4) != 1)
		die("cannot read %s: llm.c version %u; only 1 (GPT-2 tokens) is known", source_where(s), le32(h + 4));
	s->ids_left = le32(h + 8);
	s->at += LLMC_HEADER;
	/* the first document's end token stands in front; what precedes it belongs to another file */
	s->leading = true;
	if (have(s, 2) && le16(s->in.p + s->at) == BPE_EOT)
		next_id(s);
}

/* ---- what a file is ---- */

static bool starts(const char *p, size_t n, const char *magic, size_t bytes)
{
	return n >= bytes && !memcmp(p, magic, bytes);
}

/* `{"` or `{}`, with blanks: an object begins. */
static bool object_start(const char *p, const char *end)
{
	p++;
	while (p < end && (*p == ' ' || *p == '\t'))
		p++;
	return p < end && (*p == '"' || *p == '}');
}

/* Most lines begin an object: JSON Lines, also when some are damaged. */
static bool json_start(const char *p, size_t n)
{
	const char *end = p + n;
	size_t objects = 0, others = 0;

	if (starts(p, n, BOM, 3))
		p += 3;
	while (p < end) {
		while (p < end && (*p == ' ' || *p == '\t' || *p == '\r' || *p == '\n'))
			p++;
		if (p == end)
			break;
		if (*p == '{' && object_start(p, end))
			objects++;
		else
			others++;
		p = memchr(p, '\n', (size_t)(end - p));
		if (!p)
			break;
	}
	return objects > others;
}

static bool is_utf8(const char *text, size_t n)
{
	const unsigned char *p = (const unsigned char *)text, *end = p + n;

	while (p < end) {
		const int length = utf8_length(p, end);

		if (length < 0)
			return false;
		p += length;
	}
	return true;
}

/* Headerless uint16: no text, all in the vocabulary, control characters as the high bytes of common
 * tokens.  A file of rare tokens alone is known by its end. */
static bool token_start(const char *p, size_t n)
{
	size_t common = 0, ends = 0, controls = 0;
	unsigned id = 0;

	for (size_t i = 0; i < n; i++)
		controls += (unsigned char)p[i] < 9;
	for (size_t i = 0; i + 1 < n; i += 2) {
		id = le16(p + i);
		if (id > BPE_EOT)
			return false;
		ends += id == BPE_EOT;
		common += id < 1024;
	}
	return ((controls && (ends || common * 16 >= n / 2)) || (n % 2 == 0 && id == BPE_EOT)) && !is_utf8(p, n);
}

static enum kind kind_of(struct source *s)
{
	const char *p;
	const size_t n = layers_peek(s->layers, &p, CHUNK);

	if (starts(p, n, "PAR1", 4) && n > 4 && (unsigned char)p[4] < 0x20) {
		if (!layers_plain(s->layers) || !strcmp(s->path, "-"))
			die("cannot read %s: Parquet must be a file of its own", source_where(s));
		return PARQUET;
	}
	if (n > 16 && !memcmp(p + 1, "\x2a\x4d\x18", 3) && !memcmp(p + 8, "fmill", 5)) {
		if (!layers_plain(s->layers) || !strcmp(s->path, "-"))
			die("cannot read %s: a token shard must be a file of its own", source_where(s));
		return SHARD;
	}
	if (n >= 4 && le32(p) == LLMC_MAGIC)
		return TOKENS;
	if (json_start(p, n))
		return JSON_LINES;
	return token_start(p, n) ? TOKENS : TEXT;
}

static void shards_start(struct source *s)
{
	s->shards = shards_open((char *[]){ s->path, NULL });
	if (shards_dtype(s->shards) != DT_U16 || shards_cols(s->shards) != 1)
		die("cannot read '%s': a shard, but not of tokens", s->path);
}

/* On to the next file; false when there is none. */
static bool next_file(struct source *s)
{
	const char *p;
	char mark[3];

	if (!s->layers || !layers_next(s->layers))
		return false;
	buf_clear(&s->in);
	s->at = 0;
	s->ended = s->leading = false;
	s->line = 0;
	s->files++;
	s->kind = kind_of(s);
	if (s->kind == PARQUET)
		s->parquet = parquet_open(s->path, s->o.field);
	if (s->kind == SHARD)
		shards_start(s);
	if (s->kind == JSON_LINES && layers_peek(s->layers, &p, 3) == 3 && !memcmp(p, BOM, 3))
		layers_read(s->layers, mark, 3);
	if (s->kind == TOKENS && have(s, 4) && le32(s->in.p) == LLMC_MAGIC)
		llmc_header(s);
	return true;
}

/* ---- the whole ---- */

struct source *source_open(const char *path, const struct source_opts *o)
{
	struct source *s = xcalloc(1, sizeof(*s));

	s->path = xstrdup(path);
	s->o = *o;
	if (!s->o.field)
		s->o.field = "text";
	buf_add(&s->in, "", 0);
	buf_add(&s->text, "", 0);
	if (o->shards && !strcmp(path, "-")) {
		s->kind = SHARD;
		shards_start(s);
	} else {
		s->layers = layers_open(path, o->match);
	}
	return s;
}

/* What reads a file beside its bytes. */
static void close_readers(struct source *s)
{
	if (s->shards)
		shards_close(s->shards);
	if (s->parquet)
		parquet_close(s->parquet);
	s->shards = NULL;
	s->parquet = NULL;
}

bool source_next(struct source *s, struct doc *d)
{
	for (;;) {
		switch (s->kind) {
		case NO_FILE:
			close_readers(s);
			if (!next_file(s))
				return false;
			continue;
		case TEXT:
			if (next_text(s, d))
				return true;
			continue;
		case JSON_LINES:
		case PARQUET:
			if (next_json(s, d))
				return true;
			continue;
		case TOKENS:
		case SHARD:
			if (next_tokens(s, d))
				return true;
			continue;
		}
	}
}

uint64_t source_bytes(const struct source *s)
{
	return s->layers ? layers_consumed(s->layers) : 0;
}

void source_close(struct source *s)
{
	close_readers(s);
	if (s->layers)
		layers_close(s->layers);
	buf_free(&s->in);
	buf_free(&s->text);
	free(s->ids);
	free(s->path);
	free(s);
}
