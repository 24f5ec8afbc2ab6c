/* pool: every block once, loops inside loops, tasks in order, workers. */
#include <stdatomic.h>
#include <stdlib.h>

#include "check.h"
#include "pool.h"

enum { N = 10000 };
static atomic_uint hits[N];
static atomic_uint bad_self, total;

static void hit(void *arg, size_t i)
{
	atomic_fetch_add((atomic_uint *)arg + i, 1);
	if (pool_self() >= pool_threads())
		atomic_fetch_add(&bad_self, 1);
}

static bool each_once(size_t n)
{
	bool once = true;

	for (size_t i = 0; i < N; i++)
		once &= atomic_exchange(&hits[i], 0) == (i < n);
	return once;
}

static void add_one(void *arg, size_t i)
{
	(void)i;
	atomic_fetch_add((atomic_uint *)arg, 1);
}

static void nest(void *arg, size_t i)
{
	(void)i;
	pool_for(50, add_one, arg);
}

struct square { struct task task; unsigned in, out; };

static void square(void *arg)
{
	struct square *s = arg;

	pool_for(1, add_one, &total);
	s->out = s->in * s->in;
}

/* A ring as the shard writer uses it: posted in order, waited for in order. */
static bool ring(void)
{
	enum { DEPTH = 5 };
	struct square slot[DEPTH] = { 0 };
	bool right = true;

	for (unsigned i = 0; i < 2000 + DEPTH; i++) {
		struct square *s = &slot[i % DEPTH];

		if (i >= DEPTH) {
			task_wait(&s->task);
			right &= s->out == (i - DEPTH) * (i - DEPTH) && task_done(&s->task);
		}
		if (i < 2000) {
			*s = (struct square){ .in = i, .task = { .fn = square } };
			s->task.arg = s;
			task_post(&s->task);
		}
	}
	return right;
}

/* Two threads beside the pool, each with loops of its own, as a reader beside a trainer. */
static void looper(void *arg)
{
	for (int k = 0; k < 200; k++)
		pool_for(20, add_one, arg);
}

int main(void)
{
	check(pool_threads() == 1 && pool_self() == 0, "one thread before the start");
	pool_for(N, hit, hits);
	check(each_once(N), "a loop before the start");
	pool_start(4);
	check(pool_threads() == 4, "four threads");
	for (size_t n = 0; n < 40; n++) {
		pool_for(n, hit, hits);
		if (!each_once(n)) {
			check(false, "a loop of %zu", n);
			return check_done();
		}
	}
	pool_for(N, hit, hits);
	check(each_once(N), "every block once");
	check(bad_self == 0, "pool_self is below pool_threads");

	atomic_uint count = 0;

	pool_for(30, nest, &count);
	check(count == 30 * 50, "loops inside loops");
	check(ring(), "a ring of tasks gives its results in order");
	check(total == 2000, "loops inside tasks");

	count = 0;
	struct worker *a = worker_start(looper, &count), *b = worker_start(looper, &count);

	looper(&count);
	worker_join(a);
	worker_join(b);
	check(count == 3 * 200 * 20, "loops of workers beside those of the caller");
	return check_done();
}
