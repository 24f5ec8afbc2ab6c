#include "peers.h"

#include <stdio.h>
#include <stdlib.h>

#include "rng.h"
#include "seen.h"

/* An array of a peer that is read where it lies */
struct view {
	size_t peer;
	const real *mine, *its; /* the same array; its NULL: cannot be seen */
	struct view *next;
};

struct peers {
	const struct backend *be;
	struct comm *comm;
	const struct device_link *link; /* to the other processes' devices, or NULL: through the host */
	size_t most;            /* values at once */
	real *theirs;           /* (most) from another process */
	bool spare;             /* it is another's */
	char *host[2];          /* what goes and comes, where the device has memory of its own */
	struct view *views;
};

/* ---- memory that is seen ---- */

enum { MUCH = 1 << 15 };        /* bytes; less may as well be sent */

static void *alloc(size_t bytes)
{
	void *p = bytes < MUCH ? NULL : seen_alloc(bytes);

	return p ? p : xaligned(bytes);
}

static void release(void *p)
{
	if (!seen_release(p))
		free(p);
}

const struct backend *peers_backend(const struct backend *be, struct comm *c)
{
	static struct backend seen, exact;

	if (comm_size(c) == 1 || !be->host)
		return be;
	seen = *be;
	exact = *be->exact;
	seen.alloc = exact.alloc = alloc;
	seen.release = exact.release = release;
	seen.exact = be->exact == be ? &seen : &exact;
	exact.exact = &exact;
	return &seen;
}

/* Where the peer's x can be read, or NULL; asked of it once. */
static const real *view(struct peers *p, size_t peer, const real *x)
{
	struct view *v = p->views;
	while (v && (v->peer != peer || v->mine != x))
		v = v->next;
	if (v || !p->be->host)
		return v ? v->its : NULL;
	const struct seen_place mine = seen_place(x);
	struct seen_place its;
	bool seen, both;

	comm_exchange(p->comm, peer, &mine, sizeof(mine), &its, sizeof(its));
	v = xcalloc(1, sizeof(*v));
	*v = (struct view){ peer, x, seen_open(&its), p->views };
	p->views = v;
	seen = v->its;
	comm_exchange(p->comm, peer, &seen, sizeof(seen), &both, sizeof(both));
	if (!both)
		v->its = NULL;
	return v->its;
}

/* Both are here. */
static void meet(struct peers *p, size_t peer)
{
	char none = 0, nothing;

	comm_exchange(p->comm, peer, &none, sizeof(none), &nothing, sizeof(nothing));
}

/* ---- what all compute ---- */

/* n values of U(-1,1) in backend memory */
static real *noise(const struct backend *be, uint64_t which, size_t n)
{
	real *host = xcalloc(n, sizeof(*host)), *x = be->alloc(n * sizeof(*x));

	for (size_t i = 0; i < n; i++)
		host[i] = (real)(2 * rng_uniform(rng_hash(0, RNG_INIT, which, i)) - 1);
	be->put(x, host, n * sizeof(*x));
	free(host);
	return x;
}

void peers_compare(const struct backend *be, struct comm *c)
{
	enum { ROWS = 67, IN = 193, OUT = 129, Y = ROWS * OUT, W = OUT * IN };
	enum { B = Y, M = B + OUT, V = M + Y, G = V + Y };      /* places behind y */

	if (comm_size(c) == 1)
		return;
	real *x = noise(be, 0, ROWS * IN), *w = noise(be, 1, W), *y = noise(be, 2, G + Y);
	real *host = xcalloc(Y, sizeof(*host));

	be->zero(y + M, 2 * Y * sizeof(*y));
	be->linear_fwd(y, x, w, y + B, ROWS, IN, OUT);
	be->gelu_fwd(y + G, y, Y);
	be->adamw(y + G, w, y + M, y + V, Y, NULL, 1e-3, .9, .95, 1e-8, .1, 1);
	be->get(host, y + G, Y * sizeof(*host));
	comm_same(c, host, Y * sizeof(*host), "what a processor computes");
	free(host);
	be->release(x);
	be->release(w);
	be->release(y);
}

/* ---- devices ---- */

/* Did all do that?  The first reason why not is told. */
static bool all_could(struct comm *c, const char *why)
{
	enum { WHY = 200 };
	char *whys = xcalloc(comm_size(c), WHY), *mine = whys + comm_rank(c) * WHY;
	size_t i = 0;

	snprintf(mine, WHY, "%s", why ? why : "");
	comm_gather(c, whys, mine, WHY);
	while (i < comm_size(c) && !whys[i * WHY])
		i++;
	if (i < comm_size(c))
		say("sums between devices go through host memory: %s (rank %zu)", whys + i * WHY, i);
	free(whys);
	return i == comm_size(c);
}

/* The devices' own way to one another, or NULL. */
static const struct device_link *join(const struct backend *be, struct comm *c)
{
	unsigned char id[DEVICE_LINK_ID] = { 0 };
	const struct device_link *link = be->link;

	if (!all_could(c, link ? link->find() : "the backend has no other way") ||
	    !all_could(c, comm_rank(c) == 0 ? link->make_id(id) : NULL))
		return NULL;
	comm_broadcast(c, id, sizeof(id));
	if (all_could(c, link->join(id, comm_rank(c), comm_size(c))))
		return link;
	link->leave();
	return NULL;
}

/* ---- all of it ---- */

struct peers *peers_new(const struct backend *be, struct comm *c, size_t most, real *spare)
{
	struct peers *p = xcalloc(1, sizeof(*p));

	p->be = be;
	p->comm = c;
	p->most = most;
	p->spare = spare;
	p->theirs = spare ? spare : be->alloc(xmul(most, sizeof(real)));
	if (!be->host)
		p->link = join(be, c);
	for (size_t i = 0; !be->host && !p->link && i < 2; i++)
		p->host[i] = xaligned(most * sizeof(real));
	return p;
}

void peers_free(struct peers *p)
{
	if (!p->spare)
		p->be->release(p->theirs);
	for (struct view *v = p->views, *next; v; v = next) {
		next = v->next;
		free(v);
	}
	free(p->host[0]);
	free(p->host[1]);
	if (p->link)
		p->link->leave();
	free(p);
}

static size_t part_bytes(const struct peers *p, size_t n, size_t at)
{
	const size_t left = n > at ? n - at : 0;

	return (left < p->most ? left : p->most) * sizeof(real);
}

/* From device to device, `most` values at once: out (n) goes, in (m) comes. */
static void through_host(struct peers *p, size_t peer, const real *out, size_t n, real *in, size_t m)
{
	for (size_t at = 0; at < n || at < m; at += p->most) {
		const size_t go = part_bytes(p, n, at), come = part_bytes(p, m, at);

		if (go)
			p->be->get(p->host[0], out + at, go);
		comm_exchange(p->comm, peer, p->host[0], go, p->host[1], come);
		if (come)
			p->be->put(in + at, p->host[1], come);
	}
}

/* x[out] goes, `in` (n) comes. */
static void exchange(struct peers *p, size_t peer, const real *x, struct part out, real *in, size_t n)
{
	const real *from = x + out.from;
	const size_t bytes = (out.to - out.from) * sizeof(real);

	if (p->link) {
		p->link->exchange(peer, from, out.to - out.from, in, n);
		return;
	}
	if (p->be->host) {
		comm_exchange(p->comm, peer, from, bytes, in, n * sizeof(real));
		return;
	}
	through_host(p, peer, from, out.to - out.from, in, n);
}

void peers_add(struct peers *p, size_t peer, real *x, struct part mine, struct part its)
{
	const size_t n = mine.to - mine.from;
	const real *there = view(p, peer, x);

	if (there)
		meet(p, peer);
	else
		exchange(p, peer, x, its, p->theirs, n);
	p->be->add(x + mine.from, there ? there + mine.from : p->theirs, n);
}

void peers_copy(struct peers *p, size_t peer, real *x, struct part mine, struct part its)
{
	const real *there = view(p, peer, x);

	if (!there) {
		exchange(p, peer, x, mine, x + its.from, its.to - its.from);
		return;
	}
	meet(p, peer);
	p->be->put(x + its.from, there + its.from, (its.to - its.from) * sizeof(real));
	meet(p, peer);
}
