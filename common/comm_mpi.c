/* mpi.so: comm.h over MPI, whichever mpicc stands for. */
#include <mpi.h>
#include <sched.h>
#include <time.h>

#include "comm.h"

enum { READY, DATA };   /* tags */

/* MPI waits at full speed.  So each side first waits here for the other to be there, politely, and
 * then lets MPI have the processor for the transfer itself. */
static void await(int from, int tag)
{
	enum { EAGER = 200, LONGEST = 100000 };
	struct timespec nap = { .tv_nsec = 10000 };
	int there = 0;

	for (int i = 0; ; i++) {
		MPI_Iprobe(from, tag, MPI_COMM_WORLD, &there, MPI_STATUS_IGNORE);
		if (there)
			return;
		if (i < EAGER) {
			sched_yield();
			continue;
		}
		nanosleep(&nap, NULL);
		nap.tv_nsec = nap.tv_nsec * 2 < LONGEST ? nap.tv_nsec * 2 : LONGEST;
	}
}

static void tell_ready(int peer)
{
	MPI_Send(NULL, 0, MPI_BYTE, peer, READY, MPI_COMM_WORLD);
}

static void await_ready(int peer)
{
	await(peer, READY);
	MPI_Recv(NULL, 0, MPI_BYTE, peer, READY, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
}

/* MPI counts in int. */
static int piece(size_t bytes, size_t at)
{
	const size_t most = 1 << 30;

	return at >= bytes ? 0 : (int)(bytes - at < most ? bytes - at : most);
}

static void send(size_t to, const void *p, size_t bytes)
{
	size_t at = 0;

	await_ready((int)to);
	do {
		const int n = piece(bytes, at);

		MPI_Send((const char *)p + at, n, MPI_BYTE, (int)to, DATA, MPI_COMM_WORLD);
		at += (size_t)n;
	} while (at < bytes);
}

static void recv(size_t from, void *p, size_t bytes)
{
	size_t at = 0;

	tell_ready((int)from);
	await((int)from, DATA);
	do {
		const int n = piece(bytes, at);

		MPI_Recv((char *)p + at, n, MPI_BYTE, (int)from, DATA, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
		at += (size_t)n;
	} while (at < bytes);
}

static void exchange(size_t peer, const void *mine, size_t bytes, void *theirs, size_t their_bytes)
{
	size_t at = 0;

	tell_ready((int)peer);
	await_ready((int)peer);
	do {
		const int out = piece(bytes, at), in = piece(their_bytes, at);

		MPI_Sendrecv((const char *)mine + at, out, MPI_BYTE, (int)peer, DATA, (char *)theirs + at, in,
			     MPI_BYTE, (int)peer, DATA, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
		at += (size_t)(out > in ? out : in);
	} while (at < bytes || at < their_bytes);
}

static void abort_job(int status)
{
	MPI_Abort(MPI_COMM_WORLD, status);
}

static void finish(void)
{
	MPI_Finalize();
}

bool comm_start(struct comm_ops *ops, unsigned abi);
bool comm_start(struct comm_ops *ops, unsigned abi)
{
	int rank, size, level;

	if (abi != COMM_ABI)
		return false;
	/* one thread calls, but any may end the job */
	MPI_Init_thread(NULL, NULL, MPI_THREAD_MULTIPLE, &level);
	MPI_Comm_rank(MPI_COMM_WORLD, &rank);
	MPI_Comm_size(MPI_COMM_WORLD, &size);
	*ops = (struct comm_ops){ (size_t)rank, (size_t)size, send, recv, exchange, abort_job, finish };
	return true;
}
