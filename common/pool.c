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

/* What threads wait for: a condition, and how often it came about. */
struct event {
	pthread_cond_t cond;
	atomic_size_t times;    /* changed under the lock */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct event work = { .cond = PTHREAD_COND_INITIALIZER };        /* a loop or a task came */
static struct event ended = { .cond = PTHREAD_COND_INITIALIZER };       /* the last helper left or a task is done */
static struct loop *loops;
static struct task *head, **tail = &head;
static size_t n_threads = 1;
static bool spare;                      /* a processor for every thread */

static _Thread_local size_t self;
static _Thread_local bool inside;       /* of a block or a task: loops run in place */

static void event_tell(struct event *e)
{
	atomic_fetch_add(&e->times, 1);
	pthread_cond_broadcast(&e->cond);
}

/*
 * Called and left with the lock held.  Soon: waking a sleeper takes 50 to 100 us, and the loops of a net
 * follow one another faster, so stay awake that long first where nobody else needs the processor.
 */
static void event_await(struct event *e, bool soon)
{
	const size_t seen = atomic_load(&e->times);

	if (soon && spare) {
		pthread_mutex_unlock(&lock);
		for (const double from = now_secs(); atomic_load(&e->times) == seen && now_secs() - from < 1e-4;)
			;
		pthread_mutex_lock(&lock);
	}
	if (atomic_load(&e->times) == seen)
		pthread_cond_wait(&e->cond, &lock);
}

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
	event_tell(&ended);
}

static void *thread_main(void *arg)
{
	bool looped = false;

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
				event_tell(&ended);
			looped = true;
		} else if (head) {
			struct task *t = head;

			head = t->next;
			if (!head)
				tail = &head;
			t->state = RUNNING;
			run_task(t);
		} else {
			event_await(&work, looped);
			looped = false;
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
	spare = threads <= processors();
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
	event_tell(&work);
	pthread_mutex_unlock(&lock);

	loop_run(&l);

	pthread_mutex_lock(&lock);
	for (struct loop **p = &loops; *p; p = &(*p)->link)
		if (*p == &l) {
			*p = l.link;
			break;
		}
	for (bool soon = true; l.helpers > 0; soon = false)
		event_await(&ended, soon);
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
	atomic_fetch_add(&work.times, 1);
	pthread_cond_signal(&work.cond);
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
		event_await(&ended, false);
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
