#ifndef SOURCE_H
#define SOURCE_H
/*
 * source: the documents of a corpus, whatever it is wrapped in.  The kind is
 * found by content, never by name: plain text (one document a file or
 * member), JSON Lines, any of libarchive's filters and formats, nested
 * (.deb, tar of .xz of tar, .json.gz of several members, …), nanoGPT's and
 * llm.c's token files, Parquet through tools/parquet-text.
 *
 *	struct source *s = source_open("corpus.jsonl.zst", &(struct source_opts){ .field = "text" });
 *	struct doc d;
 *	while (source_next(s, &d))
 *		… d.text, d.bytes …
 *	source_close(s);
 */
#include "base.h"
#include "opt.h"

struct source_opts {
	const char *field;              /* JSON key of the text; default "text" */
	const struct opt_list *match;   /* globs on member names inside archives; none: all regular
	                                 * members whose name does not start with "." or "__" */
	bool lines;                     /* documents of JSON Lines come as their lines, not looked into */
	bool shards;                    /* standard input holds token shards: a pipe cannot be looked at first */
};

struct doc {
	const char *text;       /* valid until the next call; NULL when the source holds tokens */
	size_t bytes;
	uint64_t line;          /* > 0: the text is this line of JSON Lines */
	const char *field;      /* of a line: its key */
	uint64_t file;          /* counts the files in the source */
	const uint16_t *ids;    /* of a .bin source: one document, without its end token */
	size_t n_ids;
};

struct source;
struct source *source_open(const char *path, const struct source_opts *o);      /* "-": stdin */
bool source_next(struct source *s, struct doc *d);      /* false at the verified end */
const char *source_where(struct source *s);             /* the present file, for messages; until the next call */
uint64_t source_bytes(const struct source *s);          /* consumed of the file, for progress */
void source_close(struct source *s);

#endif
