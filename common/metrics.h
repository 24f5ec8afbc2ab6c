#ifndef METRICS_H
#define METRICS_H
/*
 * metrics: the JSON Lines a training writes beside its checkpoint: X.jsonl for
 * X.safetensors.  No times; resumed with the run's state, whole or not there.
 *
 *	struct metrics *m = metrics_new(o.metrics, o.c.output);
 *	metrics_load(m, &cursor);               (going on from a state)
 *	metrics_start(m);
 *	metrics_add(m, line.p);                 ("{…}", without the newline)
 *	metrics_commit(m);
 */
#include "file.h"

struct metrics;
/* path: NULL for the output's name with .jsonl; an output on stdout has none. */
struct metrics *metrics_new(const char *path, const char *output);
const char *metrics_path(const struct metrics *m);      /* NULL: none */
void metrics_start(struct metrics *m);                  /* opens the file, writes the lines so far */
void metrics_add(struct metrics *m, const char *line);
/* All lines so far: they are few.  X.part shows them too, to who watches the run. */
void metrics_save(struct metrics *m, struct buf *st);
void metrics_load(struct metrics *m, struct cursor *st);
void metrics_commit(struct metrics *m);                 /* the file appears */
void metrics_free(struct metrics *m);

/* "key": v, nine digits; null when v is not finite, for which JSON has no number. */
void metrics_number(struct buf *b, const char *key, double v);

#endif
