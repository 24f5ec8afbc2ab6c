#include "pool.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { IDLE, QUEUED, RUNNING, DONE };

/* A pool_for under way; lives on its caller's stack while it is in the list. */
struct loop {
	void (*fn)(void *arg, size_t i);
	void *arg;
	size_t n;
	atomic_size_t next;     /* first block nobody has taken */
	size_t helpers;         /* threads inside, beside the caller; under the lock */
	struct loop *link;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t work = PTHREAD_COND_INITIALIZER;          /* a loop or a task came */
static pthread_cond_t ended = PTHREAD_COND_INITIALIZER;         /* a helper left or a task is done */
static struct loop *loops;
static struct task *head, **tail = &head;
static size_t n_threads = 1;

static _Thread_local size_t self;
static _Thread_local bool inside;       /* of a block or a task: loops run in place */

static void loop_run(struct loop *l)
{
	const bool was = inside;

	inside = true;
	for (size_t i; (i = atomic_fetch_add(&l->next, 1)) < l->n; )
		l->fn(l->arg, i);
	inside = was;
}

/* The first loop that has blocks left, or NULL; lock held. */
static struct loop *open_loop(void)
{
	struct loop *l = loops;

	while (l && atomic_load(&l->next) >= l->n)
		l = l->link;
	return l;
}

/* Runs t, which is RUNNING already; called and left with the lock held. */
static void run_task(struct task *t)
{
	const bool was = inside;

	pthread_mutex_unlock(&lock);
	inside = true;
	t->fn(t->arg);
	inside = was;
	pthread_mutex_lock(&lock);
	t->state = DONE;
	pthread_cond_broadcast(&ended);
}

static void *thread_main(void *arg)
{
	self = (size_t)(uintptr_t)arg;
	pthread_mutex_lock(&lock);
	for (;;) {
		struct loop *l = open_loop();

		if (l) {
			l->helpers++;
			pthread_mutex_unlock(&lock);
			loop_run(l);
			pthread_mutex_lock(&lock);
			if (--l->helpers == 0)
				pthread_cond_broadcast(&ended);
		} else if (head) {
			struct task *t = head;

			head = t->next;
			if (!head)
				tail = &head;
			t->state = RUNNING;
			run_task(t);
		} else {
			pthread_cond_wait(&work, &lock);
		}
	}
	return NULL;
}

static pthread_t spawn(void *(*fn)(void *), void *arg)
{
	pthread_t id;

	if ((errno = pthread_create(&id, NULL, fn, arg)) != 0)
		die_errno("cannot start a thread");
	return id;
}

void pool_start(size_t threads)
{
	if (n_threads != 1)
		BUG("pool_start called twice");
	for (size_t i = 1; i < threads; i++)
		pthread_detach(spawn(thread_main, (void *)(uintptr_t)i));
	n_threads = threads ? threads : 1;
}

size_t pool_threads(void)
{
	return n_threads;
}

size_t pool_self(void)
{
	return self;
}

void pool_for(size_t n, void (*fn)(void *arg, size_t i), void *arg)
{
	if (inside || n_threads == 1 || n < 2) {
		for (size_t i = 0; i < n; i++)
			fn(arg, i);
		return;
	}

	struct loop l = { .fn = fn, .arg = arg, .n = n };

	pthread_mutex_lock(&lock);
	l.link = loops;
	loops = &l;
	pthread_cond_broadcast(&work);
	pthread_mutex_unlock(&lock);

	loop_run(&l);

	pthread_mutex_lock(&lock);
	for (struct loop **p = &loops; *p; p = &(*p)->link)
		if (*p == &l) {
			*p = l.link;
			break;
		}
	while (l.helpers > 0)
		pthread_cond_wait(&ended, &lock);
	pthread_mutex_unlock(&lock);
}

void task_post(struct task *t)
{
	pthread_mutex_lock(&lock);
	if (t->state == QUEUED || t->state == RUNNING)
		BUG("a task was posted twice");
	t->state = QUEUED;
	t->next = NULL;
	*tail = t;
	tail = &t->next;
	pthread_cond_signal(&work);
	pthread_mutex_unlock(&lock);
}

void task_wait(struct task *t)
{
	pthread_mutex_lock(&lock);
	if (t->state == QUEUED) {       /* nobody took it yet: do it here */
		struct task **p = &head;

		while (*p != t)
			p = &(*p)->next;
		*p = t->next;
		if (tail == &t->next)
			tail = p;
		t->state = RUNNING;
		run_task(t);
	}
	while (t->state == RUNNING)
		pthread_cond_wait(&ended, &lock);
	t->state = IDLE;
	pthread_mutex_unlock(&lock);
}

bool task_done(struct task *t)
{
	pthread_mutex_lock(&lock);
	const bool done = t->state == DONE || t->state == IDLE;
	pthread_mutex_unlock(&lock);
	return done;
}

struct worker {
	pthread_t id;
	void (*fn)(void *arg);
	void *arg;
};

static void *worker_main(void *arg)
{
	struct worker *w = arg;

	inside = true;          /* it owns no pool_self(): its loops run in place */
	self = SIZE_MAX;
	w->fn(w->arg);
	return NULL;
}

struct worker *worker_start(void (*fn)(void *arg), void *arg)
{
	struct worker *w = xcalloc(1, sizeof(*w));

	w->fn = fn;
	w->arg = arg;
	w->id = spawn(worker_main, w);
	return w;
}

void worker_join(struct worker *w)
{
	pthread_join(w->id, NULL);
	free(w);
}
