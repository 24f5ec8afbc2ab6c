#ifndef PROG_H
#define PROG_H
/*
 * prog: progress on stderr while a tool works, and its last line.
 *
 *	prog_start("rows", total);              (0: unknown)
 *	prog_step(n);                           (cheap; call as often as you like)
 *	prog_note("loss %.3f", loss);           (shown behind the numbers)
 *	prog_finish(bytes_in, bytes_out);
 *
 * On a terminal one line is redrawn with rate and ETA, five times a second at
 * most; elsewhere a line a minute.  -q: nothing.
 */
#include "base.h"

void prog_start(const char *unit, uint64_t total);
void prog_step(uint64_t n);
void prog_note(const char *fmt, ...) PRINTF(1, 2);
/* A line that stays, above the progress line (evaluations); silent with -q. */
void prog_line(const char *fmt, ...) PRINTF(1, 2);
void prog_clear(void);          /* takes the progress line off a terminal: others write there now */
/* "tool: 12345 rows, 1.2 GB in, 0.6 GB out, 987 rows/s, 12.5 s wall, 20.1 s cpu, 345 MB peak" */
void prog_finish(uint64_t bytes_in, uint64_t bytes_out);

#endif
