#ifndef LAYERS_H
#define LAYERS_H
/*
 * layers: the files inside a file, however often they are wrapped: archives
 * in archives, compressed or not, all through libarchive.  What is an archive
 * is found by content, never by name.  A file that is none is its own single
 * member.
 *
 *	struct layers *l = layers_open("x.deb", &match);
 *	while (layers_next(l))
 *		while ((n = layers_read(l, p, max)) > 0) …
 *	layers_close(l);
 *
 * Members that are not regular files, or whose last component starts with "."
 * or "__", are passed over.  Truncated or damaged input dies with one line
 * that names file and member.
 */
#include "opt.h"

struct layers;
/* "-": standard input.  match: globs ("*" crosses "/") on members' names
 * without "./"; NULL or empty: all.  A compressed member has its own name. */
struct layers *layers_open(const char *path, const struct opt_list *match);
bool layers_next(struct layers *l);             /* false at the verified end */
/* Of the present member: its name, NULL outside archives; "'x.deb' member 'data.tar/…'" for messages. */
const char *layers_name(const struct layers *l);
const char *layers_where(struct layers *l);
bool layers_plain(const struct layers *l);      /* the file itself: not a member, not compressed */
/* The next bytes without consuming them: `want`, or less at the end; *p until the next call. */
size_t layers_peek(struct layers *l, const char **p, size_t want);
size_t layers_read(struct layers *l, void *p, size_t bytes);    /* 0 only at the end */
uint64_t layers_consumed(const struct layers *l);       /* bytes of the outermost file */
void layers_close(struct layers *l);

#endif
