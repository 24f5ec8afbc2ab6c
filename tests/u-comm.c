/* u-comm: processes of one job over pairs of sockets, and the order of the tree's sums. */
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "plugin.h"
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
	unsigned seen;          /* bits: ranks whose memory is that of peers_backend */
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

static void add_leaves(struct tree *t, const struct backend *be, size_t n)
{
	real *x = xcalloc(n, sizeof(*x));

	for (size_t leaf = 0; leaf < tree_own(t); leaf++) {
		for (size_t i = 0; i < n; i++)
			x[i] = leaf_value(tree_first(t) + leaf, i);
		be->put(tree_leaf(t), x, n * sizeof(*x));
		tree_add(t);
	}
	free(x);
}

/* Are the sums at x `times` what they should be? */
static bool are_sums(const struct sums *s, const real *x, real times)
{
	real *host = xcalloc(s->n, sizeof(*host));
	bool right = true;

	s->be->get(host, x, s->n * sizeof(*host));
	for (size_t i = 0; i < s->n; i++)
		right &= host[i] == times * pairs(0, s->leaves, i);
	free(host);
	return right;
}

/* Each process's part alone, of which then all have all */
static bool in_parts(struct tree *t, const real *total, real *x, const struct sums *s)
{
	real *host = xcalloc(s->n, sizeof(*host));

	add_leaves(t, s->be, s->n);
	const struct part own = tree_reduce(t);

	s->be->get(host, total, s->n * sizeof(*host));
	for (size_t i = 0; i < s->n; i++)
		host[i] = i >= own.from && i < own.to ? 2 * host[i] : NAN;
	s->be->put(x, host, s->n * sizeof(*host));
	free(host);
	tree_gather(t, x);
	return are_sums(s, x, 2);
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
	const struct sums *s = arg, seen = { peers_backend(s->be, c), s->leaves, s->n, s->seen };

	s = s->seen >> comm_rank(c) & 1 ? &seen : s;
	real *total = s->be->alloc(s->n * sizeof(*total)), *x = s->be->alloc(s->n * sizeof(*x));
	bool right = true;

	for (size_t cut = 0; cut < 2; cut++) {
		struct tree *t = tree_new(s->be, c, s->leaves, total, s->n);

		if (cut)
			tree_cut(t, a_third, NULL);
		right &= tree_own(t) * comm_size(c) == s->leaves;
		for (size_t round = 0; round < 2; round++) { /* buffers hold anything the second time */
			add_leaves(t, s->be, s->n);
			tree_finish(t);
			right &= are_sums(s, total, 1) && in_parts(t, total, x, s);
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
			check(in_processes(P, add_up, &(struct sums){ be, leaves, N, 0 }, 0) == 0,
			      "%s: %zu leaves in %zu processes", what, leaves, P);
	for (size_t n = 1; n < 70; n += 17)
		check(in_processes(4, add_up, &(struct sums){ be, 4, n, 0 }, 0) == 0, "%s: of %zu values", what, n);
}

/* Arrays that are read in place, and in one case those of a process whom the others do not see */
static void test_seen(const struct backend *be)
{
	enum { LARGE = 50000 };

	for (size_t P = 2; P <= MOST; P *= 2)
		check(in_processes(P, add_up, &(struct sums){ be, 8, LARGE, 0xff }, 0) == 0, "%zu processes see", P);
	check(in_processes(4, add_up, &(struct sums){ be, 8, LARGE, 0xff & ~2u }, 0) == 0, "... all but one");
}

/* ---- devices ---- */

static const struct device_link *real_link;
static size_t exchanged;        /* through it */

static void counted_exchange(size_t peer, const real *mine, size_t n, real *its, size_t its_n)
{
	real_link->exchange(peer, mine, n, its, its_n);
	exchanged++;
}

struct devices {
	const char *how_many;   /* cards of the machine */
	size_t n;
	bool linked;            /* with one for each process they need no host */
};

static bool add_up_on_devices(struct comm *c, const void *arg)
{
	const struct devices *d = arg;
	struct device_link link;
	struct backend b;

	setenv("CUSIM_DEVICES", d->how_many, 1);
	if (comm_size(c) > 2) /* a second for each process otherwise */
		setenv("CUSIM_GUARD", "0", 1);
	b = *backend_open_part("cudasim", "f32");
	real_link = b.link;
	link = *b.link;
	link.exchange = counted_exchange;
	b.link = &link;
	const bool right = add_up(c, &(struct sums){ &b, 8, d->n, 0 });

	return right && (exchanged > 0) == d->linked;
}

/* In a process of its own: what is opened stays in those to come. */
static bool opens(struct comm *c, const void *arg)
{
	struct backend b, exact;
	const char *why = plugin_open("cudasim", "f32", &b, &exact);

	(void)c, (void)arg;
	if (why)
		printf("# %s\n", why);
	return !why && !backend_lacks(&b, "alloc release put get add");
}

static void test_devices(void)
{
	if (in_processes(1, opens, NULL, 0)) {
		check(true, "sums between devices # SKIP no cudasim");
		return;
	}
	for (size_t P = 2; P <= MOST; P *= 2)
		check(in_processes(P, add_up_on_devices, &(struct devices){ "8", N, true }, 0) == 0,
		      "%zu devices send one another", P);
	check(in_processes(2, add_up_on_devices, &(struct devices){ "1", N, 0 }, 0) == 0,
	      "two processes on one device go through the host");
	check(in_processes(4, add_up_on_devices, &(struct devices){ "4", 17, true }, 0) == 0, "some with nothing to send");
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

/* arg: the rank whose backend is another, or nobody's */
static bool compare(struct comm *c, const void *arg)
{
	struct backend b;

	dup2(open("/dev/null", O_WRONLY), STDERR_FILENO);
	if (comm_rank(c) == *(const size_t *)arg)
		backend_ref(&b);
	else
		backend_cpu(&b);
	peers_compare(&b, c);
	comm_gather(c, (char[MOST]){ 0 }, &(char){ 0 }, 1); /* who waits for the dead dies, too */
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
	test_seen(&cpu);
	test_devices();
	for (size_t P = 2; P <= MOST; P++)
		check(in_processes(P, talk, NULL, 0) == 0, "%zu processes talk", P);
	check(in_processes(2, differ, NULL, 1) == 0, "what differs ends the job");
	check(in_processes(3, compare, &(size_t){ 3 }, 0) == 0, "processors that compute the same");
	check(in_processes(2, compare, &(size_t){ 1 }, 1) == 0, "... and others");
	return check_done();
}
