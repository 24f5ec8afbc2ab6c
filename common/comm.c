#include "comm.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

struct comm {
	struct comm_ops ops;
	bool open;
};

/* One a process: what ends it must reach the job. */
static struct comm job = { .ops = { .rank = 0, .size = 1 } };

/* ---- the job ---- */

/* The first of these words (NULL-terminated) that is a number in the environment */
static bool launcher_says(const char *const *words, uint64_t *n)
{
	for (; *words; words++) {
		const char *text = getenv(*words);

		if (text && parse_u64(text, n))
			return true;
	}
	return false;
}

/* How many processes a launcher says that it started; 0: it does not say */
static uint64_t launched(void)
{
	static const char *const sizes[] = { "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE",
		"SLURM_STEP_NUM_TASKS", NULL };
	uint64_t n;

	return launcher_says(sizes, &n) ? n : 0;
}

static char *plugin_path(void)
{
	char exe[PATH_MAX];
	const ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);

	if (n < 0)
		die_errno("cannot read '/proc/self/exe'");
	exe[n] = '\0';
	char *slash = strrchr(exe, '/');

	*(slash ? slash : exe) = '\0';
	return xformat("%s/../lib/mpi.so", exe);
}

/* What all ranks have to say, the first says: its end ends the others while they wait. */
static void let_others_speak(void)
{
	const size_t turn = job.ops.rank < 8 ? job.ops.rank : 8;
	struct timespec wait = { .tv_sec = (time_t)(turn / 2), .tv_nsec = turn % 2 ? 500000000 : 0 };

	nanosleep(&wait, NULL);
}

static void end_job(int status)
{
	if (job.open)
		job.ops.abort(status);
}

static void finish(void)
{
	if (job.open)
		job.ops.finish();
	job.open = false;
}

static void no_stdout(void)
{
	const int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);

	if (fd < 0 || dup2(fd, STDOUT_FILENO) < 0)
		die_errno("cannot open '/dev/null'");
	close(fd);
}

static void start(void)
{
	job.open = true;
	base_of_many(let_others_speak, end_job);
	atexit(finish);
}

static void open_plugin(uint64_t n)
{
	char *path = plugin_path();
	/* global: what the library opens itself looks for its symbols there */
	void *lib = dlopen(path, RTLD_NOW | RTLD_GLOBAL);

	if (!lib)
		die("one of %llu processes, and no way to talk to the others: %s (make builds it where mpicc is)",
		    (unsigned long long)n, dlerror());
	union { void *p; comm_start_fn *fn; } sym = { dlsym(lib, "comm_start") };

	if (!sym.p || !sym.fn(&job.ops, COMM_ABI))
		die("'%s' is of another version; build it again", path);
	free(path);
	start();
}

struct comm *comm_open(const char *argv0)
{
	const char *slash = strrchr(argv0, '/');
	const uint64_t n = launched();

	base_tool = slash ? slash + 1 : argv0;
	if (n < 2)
		return &job;
	open_plugin(n);
	if (job.ops.size != n)
		die("the launcher started %llu processes, MPI sees %zu; srun needs --mpi=pmix or pmi2, mpirun that of "
		    "the same MPI", (unsigned long long)n, job.ops.size);
	if (job.ops.rank)
		no_stdout();
	return &job;
}

struct comm *comm_over(const struct comm_ops *ops)
{
	job.ops = *ops;
	start();
	return &job;
}

void comm_close(struct comm *c)
{
	comm_barrier(c);
	finish();
}

size_t comm_rank(const struct comm *c)
{
	return c->ops.rank;
}

size_t comm_size(const struct comm *c)
{
	return c->ops.size;
}

size_t comm_local_rank(void)
{
	static const char *const ranks[] = { "OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID",
		"MV2_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID", NULL };
	uint64_t n;

	if (job.ops.size == 1)
		return 0;
	return launcher_says(ranks, &n) ? n : job.ops.rank;
}

/* ---- between two ---- */

void comm_send(struct comm *c, size_t to, const void *p, size_t bytes)
{
	if (to >= c->ops.size || to == c->ops.rank)
		BUG("rank %zu of %zu sends to %zu", c->ops.rank, c->ops.size, to);
	c->ops.send(to, p, bytes);
}

void comm_recv(struct comm *c, size_t from, void *p, size_t bytes)
{
	if (from >= c->ops.size || from == c->ops.rank)
		BUG("rank %zu of %zu receives from %zu", c->ops.rank, c->ops.size, from);
	c->ops.recv(from, p, bytes);
}

void comm_exchange(struct comm *c, size_t peer, const void *mine, size_t bytes, void *theirs, size_t their_bytes)
{
	if (peer >= c->ops.size || peer == c->ops.rank)
		BUG("rank %zu of %zu exchanges with %zu", c->ops.rank, c->ops.size, peer);
	c->ops.exchange(peer, mine, bytes, theirs, their_bytes);
}

/* ---- among all ---- */

/* Down a binomial tree: who has it passes it on, half as far each time. */
void comm_broadcast(struct comm *c, void *p, size_t bytes)
{
	const size_t rank = c->ops.rank, size = c->ops.size;
	size_t far = 1;

	while (far < size && !(rank & far))
		far *= 2;
	if (rank)
		comm_recv(c, rank - far, p, bytes);
	while ((far /= 2) > 0)
		if (rank + far < size)
			comm_send(c, rank + far, p, bytes);
}

void comm_broadcast_buf(struct comm *c, struct buf *b)
{
	uint64_t n = b->n;

	comm_broadcast(c, &n, sizeof(n));
	if (c->ops.rank) {
		buf_clear(b);
		buf_reserve(b, n);
		b->n = n;
	}
	comm_broadcast(c, b->p, n);
}

bool comm_agree(struct comm *c, bool rank0s)
{
	comm_broadcast(c, &rank0s, sizeof(rank0s));
	return rank0s;
}

void comm_gather(struct comm *c, void *all, const void *mine, size_t bytes)
{
	memmove((char *)all + c->ops.rank * bytes, mine, bytes); /* where it often is already */
	if (c->ops.rank)
		comm_send(c, 0, mine, bytes);
	else
		for (size_t r = 1; r < c->ops.size; r++)
			comm_recv(c, r, (char *)all + r * bytes, bytes);
	comm_broadcast(c, all, c->ops.size * bytes);
}

void comm_and(struct comm *c, uint8_t *p, size_t n)
{
	if (c->ops.size == 1)
		return;
	uint8_t *all = xcalloc(c->ops.size, n);

	comm_gather(c, all, p, n);
	for (size_t i = 0; i < c->ops.size * n; i++)
		p[i % n] &= all[i];
	free(all);
}

void comm_same(struct comm *c, const void *p, size_t bytes, const char *what)
{
	if (c->ops.size == 1)
		return;
	const XXH128_hash_t mine = XXH3_128bits(p, bytes);
	XXH128_hash_t first = mine;

	comm_broadcast(c, &first, sizeof(first));
	if (!XXH128_isEqual(mine, first))
		die("%s of rank %zu and of rank 0 differ; are these other processors, or other programs?", what,
		    c->ops.rank);
}

void comm_barrier(struct comm *c)
{
	char none = 0;

	for (size_t r = 1; r < c->ops.size && c->ops.rank == 0; r++)
		comm_recv(c, r, &none, 0);
	if (c->ops.rank)
		comm_send(c, 0, &none, 0);
	comm_broadcast(c, &none, 0);
}
