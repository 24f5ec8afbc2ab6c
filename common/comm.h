#ifndef COMM_H
#define COMM_H
/*
 * comm: the processes of one job -- a launcher (mpirun, srun) started the same
 * command several times; alone, it is a job of one.
 *
 *	struct comm *c = comm_open(argv[0]);            (before anything is said)
 *	if (comm_rank(c) == 0)
 *		read_it(&x);
 *	comm_broadcast(c, &x, sizeof(x));
 *	comm_close(c);
 *
 * The tools link no MPI: where a launcher's environment says that there are
 * others, ../lib/mpi.so beside the program is opened, and dies where there is
 * none.  Rank 0 alone has a standard output; the caller makes the others quiet.
 * Whoever dies ends the job, with the status of its own exit.  What all ranks
 * find wrong, rank 0 says for all.
 *
 * All calls are made by one thread, with host memory.  They wait without
 * keeping a processor busy, and die when the job is broken.
 */
#include "base.h"

struct comm;
struct comm_ops;
struct comm *comm_open(const char *argv0);      /* argv0: the tool's name in messages */
struct comm *comm_over(const struct comm_ops *ops);     /* the same over other means than MPI */
size_t comm_rank(const struct comm *c);
size_t comm_size(const struct comm *c);
size_t comm_local_rank(void);   /* among this machine's processes of the job, as the launcher says */
void comm_send(struct comm *c, size_t to, const void *p, size_t bytes);
void comm_recv(struct comm *c, size_t from, void *p, size_t bytes);
/* Both at once with one peer, who does the same; mine and theirs are apart. */
void comm_exchange(struct comm *c, size_t peer, const void *mine, size_t bytes, void *theirs, size_t their_bytes);
/* To be called by all ranks: */
void comm_broadcast(struct comm *c, void *p, size_t bytes);     /* rank 0's to all */
void comm_broadcast_buf(struct comm *c, struct buf *b);         /* the same of any length */
bool comm_agree(struct comm *c, bool rank0s);                   /* rank 0's word */
/* all (size, bytes) of every rank = what each gave */
void comm_gather(struct comm *c, void *all, const void *mine, size_t bytes);
void comm_and(struct comm *c, uint8_t *p, size_t n);            /* p (n) of every rank = & of all */
/* Dies when a rank's bytes are not those of rank 0: what is computed everywhere must be the same. */
void comm_same(struct comm *c, const void *p, size_t bytes, const char *what);
void comm_barrier(struct comm *c);
void comm_close(struct comm *c);                                /* waits for all */

/* What mpi.so fills, each as the function above; recv and exchange get what send and exchange sent, whole.
 * COMM_ABI counts the changes of this struct. */
enum { COMM_ABI = 1 };
struct comm_ops {
	size_t rank, size;
	void (*send)(size_t to, const void *p, size_t bytes);
	void (*recv)(size_t from, void *p, size_t bytes);
	void (*exchange)(size_t peer, const void *mine, size_t bytes, void *theirs, size_t their_bytes);
	void (*abort)(int status);      /* of the whole job */
	void (*finish)(void);
};
/* false, with nothing done, when the plugin's COMM_ABI is another */
typedef bool comm_start_fn(struct comm_ops *ops, unsigned abi);

#endif
