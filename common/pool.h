#ifndef POOL_H
#define POOL_H
/*
 * pool: the one thread system.  Started once with -j threads (the caller is
 * one of them); everything parallel is either a loop over fixed blocks or an
 * ordered ring of tasks.
 *
 *	pool_start(o.c.threads);
 *	pool_for(blocks, layernorm_block, &args);
 *
 * Results must not depend on the number of threads: block i does the same
 * work whoever runs it, and partial sums are added up in block order.
 */
#include "base.h"

void pool_start(size_t threads);        /* at least 1; once per process */
size_t pool_threads(void);              /* 1 before pool_start */
/* Runs fn(arg, i) for i in [0,n) and returns when all are done; the caller
 * helps.  From inside a task or block it runs the loop in place. */
void pool_for(size_t n, void (*fn)(void *arg, size_t i), void *arg);
/* Which thread this is, in [0, pool_threads()): an index for scratch memory. */
size_t pool_self(void);

/* One task: fill in fn and arg, post it, wait for it (a task not yet started
 * is run by the waiter).  The struct must live until task_wait returns. */
struct task {
	void (*fn)(void *arg);
	void *arg;
	struct task *next;
	int state;
};
void task_post(struct task *t);
void task_wait(struct task *t);
bool task_done(struct task *t);         /* without waiting */

/* A thread of its own for blocking work (reading ahead): not counted in -j. */
struct worker;
struct worker *worker_start(void (*fn)(void *arg), void *arg);
void worker_join(struct worker *w);

#endif
