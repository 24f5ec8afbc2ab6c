/* u-comm: processes of one job over pairs of sockets, and the order of the tree's sums. */
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "rng.h"
#include "tree.h"

enum { MOST = 8, N = 1003 };

static struct {
	int fd[MOST][MOST];     /* of row's rank to column's */
	size_t rank;
} net;

static void net_send(size_t to, const void *p, size_t bytes)
{
	write_full(net.fd[net.rank][to], p, bytes, "peer");
}

static void net_recv(size_t from, void *p, size_t bytes)
{
	if (read_full(net.fd[net.rank][from], p, bytes, "peer") != bytes)
		die("the peer is gone");
}

static void net_exchange(size_t peer, const void *mine, size_t bytes, void *theirs, size_t their_bytes)
{
	net_send(peer, mine, bytes);
	net_recv(peer, theirs, their_bytes);
}

static void net_abort(int status)
{
	_exit(status);
}

static void net_finish(void)
{
}

/* fn in each of P processes; how many did not end with this status */
static size_t in_processes(size_t P, bool (*fn)(struct comm *c, const void *arg), const void *arg, int status)
{
	size_t wrong = 0;
	int got;

	fflush(stdout);
	for (size_t a = 0; a < P; a++)
		for (size_t b = 0; b < a; b++) {
			int pair[2];

			if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
				die_errno("no sockets");
			net.fd[a][b] = pair[0];
			net.fd[b][a] = pair[1];
		}
	for (size_t r = 0; r < P; r++)
		if (fork() == 0) {
			net.rank = r;
			for (size_t a = 0; a < P; a++) /* so that who is gone is missed */
				for (size_t b = 0; b < P; b++)
					if (a != r && a != b)
						close(net.fd[a][b]);
			struct comm *c = comm_over(&(struct comm_ops){ r, P, net_send, net_recv, net_exchange,
				net_abort, net_finish });
			const bool right = fn(c, arg);

			comm_close(c);
			_exit(!right);
		}
	for (size_t a = 0; a < P; a++)
		for (size_t b = 0; b < P; b++)
			if (a != b)
				close(net.fd[a][b]);
	for (size_t r = 0; r < P; r++)
		if (wait(&got) < 0 || !WIFEXITED(got) || WEXITSTATUS(got) != status)
			wrong++;
	return wrong;
}

/* ---- the tree ---- */

struct sums {
	const struct backend *be;
	size_t leaves, n;
};

/* Magnitudes differ so that any other order gives another sum. */
static real leaf_value(size_t leaf, size_t i)
{
	const uint64_t h = rng_hash(1, RNG_INIT, leaf, i);

	return (real)((rng_uniform(h) - 0.5) * pow(10, (double)(h % 7)));
}

static real pairs(size_t leaf, size_t n, size_t i)
{
	return n == 1 ? leaf_value(leaf, i) : pairs(leaf, n / 2, i) + pairs(leaf + n / 2, n / 2, i);
}

static void add_leaves(struct tree *t, size_t n)
{
	for (size_t leaf = 0; leaf < tree_own(t); leaf++) {
		real *x = tree_leaf(t);

		for (size_t i = 0; i < n; i++)
			x[i] = leaf_value(tree_first(t) + leaf, i);
		tree_add(t);
	}
}

/* Each process's part alone, of which then all have all */
static bool in_parts(struct tree *t, const real *total, real *x, const struct sums *s)
{
	bool right = true;

	add_leaves(t, s->n);
	const struct tree_part own = tree_reduce(t);

	for (size_t i = 0; i < s->n; i++)
		x[i] = i >= own.from && i < own.to ? 2 * total[i] : NAN;
	tree_gather(t, x);
	for (size_t i = 0; i < s->n; i++)
		right &= x[i] == 2 * pairs(0, s->leaves, i);
	return right;
}

/* Uneven, and at multiples of 7 values */
static size_t a_third(const void *arg, size_t from, size_t to)
{
	const size_t at = (from + (to - from) / 3 + 6) / 7 * 7;

	(void)arg;
	return at < to ? at : to;
}

static bool add_up(struct comm *c, const void *arg)
{
	const struct sums *s = arg;
	real *total = s->be->alloc(s->n * sizeof(*total)), *x = s->be->alloc(s->n * sizeof(*x));
	bool right = true;

	for (size_t cut = 0; cut < 2; cut++) {
		struct tree *t = tree_new(s->be, c, s->leaves, total, s->n);

		if (cut)
			tree_cut(t, a_third, NULL);
		right &= tree_own(t) * comm_size(c) == s->leaves;
		for (size_t round = 0; round < 2; round++) { /* buffers hold anything the second time */
			add_leaves(t, s->n);
			tree_finish(t);
			for (size_t i = 0; i < s->n; i++)
				right &= total[i] == pairs(0, s->leaves, i);
			right &= in_parts(t, total, x, s);
		}
		tree_free(t);
	}
	s->be->release(total);
	s->be->release(x);
	return right;
}

static void test_tree(const struct backend *be, const char *what)
{
	for (size_t leaves = 1; leaves <= 16; leaves *= 4)
		for (size_t P = 1; P <= MOST && P <= leaves; P *= 2)
			check(in_processes(P, add_up, &(struct sums){ be, leaves, N }, 0) == 0,
			      "%s: %zu leaves in %zu processes", what, leaves, P);
	for (size_t n = 1; n < 70; n += 17)
		check(in_processes(4, add_up, &(struct sums){ be, 4, n }, 0) == 0, "%s: of %zu values", what, n);
}

static void test_order(void)
{
	size_t other = 0;
	double x[16][2];

	for (size_t i = 0; i < N; i++) {
		real forth = 0;

		for (size_t leaf = 0; leaf < 16; leaf++)
			forth += leaf_value(leaf, i);
		other += forth != pairs(0, 16, i);
	}
	check(other > N / 4, "the order of sums matters for %zu of %d", other, N);
	for (size_t i = 0; i < 16; i++) {
		x[i][0] = 1;
		x[i][1] = (double)leaf_value(i, 1);
	}
	double a[16];

	for (size_t i = 0; i < 16; i++)
		a[i] = x[i][1];
	for (size_t n = 16; n > 1; n /= 2)
		for (size_t i = 0; i < n / 2; i++)
			a[i] = a[2 * i] + a[2 * i + 1];
	check(tree_sum(&x[0][0], 16, 2) == 16 && tree_sum(&x[0][1], 16, 2) == a[0], "numbers on the host");
}

/* ---- all to all ---- */

static bool talk(struct comm *c, const void *arg)
{
	const size_t P = comm_size(c), r = comm_rank(c);
	uint64_t word = r == 0 ? 77 : r, all[MOST] = { 0 }, mine = 10 + r;
	uint8_t bits[3] = { 0xff, (uint8_t)~(1u << r), r == P - 1 ? 0 : 1 };
	struct buf b = { 0 };
	bool right = true;

	comm_broadcast(c, &word, sizeof(word));
	comm_gather(c, all, &mine, sizeof(mine));
	for (size_t i = 0; i < P; i++)
		right &= all[i] == 10 + i;
	comm_and(c, bits, sizeof(bits));
	right &= bits[0] == 0xff && bits[1] == (uint8_t)~((1u << P) - 1) && bits[2] == 0;
	if (r == 0)
		buf_printf(&b, "%s", "a state");
	comm_broadcast_buf(c, &b);
	right &= b.n == 7 && !memcmp(b.p, "a state", 7);
	buf_free(&b);
	comm_same(c, &word, sizeof(word), "words");
	right &= comm_agree(c, r == 0) && !comm_agree(c, r != 0);
	(void)arg;
	return right && word == 77;
}

static bool differ(struct comm *c, const void *arg)
{
	const uint64_t word = comm_rank(c) == 1;

	dup2(open("/dev/null", O_WRONLY), STDERR_FILENO);
	comm_same(c, &word, sizeof(word), "words");
	comm_recv(c, 1, &(char){ 0 }, 1); /* who waits for the dead dies, too */
	(void)arg;
	return true;
}

int main(void)
{
	struct backend cpu, far;

	backend_cpu(&cpu);
	far = cpu;
	base_quiet = true;      /* of how sums go */
	far.host = false;
	test_order();
	test_tree(&cpu, "cpu");
	test_tree(&far, "through the host");
	for (size_t P = 2; P <= MOST; P++)
		check(in_processes(P, talk, NULL, 0) == 0, "%zu processes talk", P);
	check(in_processes(2, differ, NULL, 1) == 0, "what differs ends the job");
	return check_done();
}
