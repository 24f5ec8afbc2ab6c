#ifndef SEEN_H
#define SEEN_H
/*
 * seen: memory that other processes of this machine can read where it lies.
 * It has no name in any file system and is gone with the last who maps it.
 *
 *	float *x = seen_alloc(bytes);           (here)
 *	struct seen_place at = seen_place(x);
 *	… at goes to the other process …
 *	const float *its = seen_open(&at);      (there; NULL: another machine)
 *
 * Who may read when is the processes' own affair (comm.h).
 */
#include "base.h"

void *seen_alloc(size_t bytes);         /* zeros, 64-byte aligned; NULL when there is none to be had */
bool seen_release(void *p);             /* false: p is not of seen_alloc */
struct seen_place {
	uint64_t is[2];         /* what lies at the memory's start, 0 0: no place */
	uint64_t offset;
	int32_t process, file;
};
/* Of p, anywhere in such memory; else no place. */
struct seen_place seen_place(const void *p);
/* What lies there, for the rest of this process; NULL where that cannot be seen. */
const void *seen_open(const struct seen_place *at);

#endif
