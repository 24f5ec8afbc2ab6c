#ifndef PEERS_H
#define PEERS_H
/*
 * peers: arrays between processes that all have them, parts of which go from
 * one to the other: read where they lie by processes of one machine, sent from
 * device to device, or through MPI, whichever is to be had.
 *
 *	be = peers_backend(be, comm);
 *	peers_compare(be, comm);
 *	real *x = be->alloc(n * sizeof(*x));
 *	struct peers *p = peers_new(be, comm, n, NULL);
 *	peers_add(p, peer, x, mine, its);       (while the peer adds the other part)
 */
#include "backend.h"
#include "comm.h"

/* The same backend, or one like it whose memory is seen by other processes. */
const struct backend *peers_backend(const struct backend *be, struct comm *c);
/* Dies unless all compute the same: whose sums a leaf is must not matter. */
void peers_compare(const struct backend *be, struct comm *c);
struct peers;
/* most: values at once; spare (most) may be used at any call, NULL: memory of its own.  All are borrowed. */
struct peers *peers_new(const struct backend *be, struct comm *c, size_t most, real *spare);
void peers_free(struct peers *p);
struct part {           /* values [from, to) */
	size_t from, to;
};
/* Both call the same of two parts that lie apart, `mine` of one being `its` of the other. */
/* x[mine] += its x[mine].  The peer may read x[its] until the next call with it. */
void peers_add(struct peers *p, size_t peer, real *x, struct part mine, struct part its);
/* x[its] = its x[its]; parts of any length */
void peers_copy(struct peers *p, size_t peer, real *x, struct part mine, struct part its);

#endif
