/*
 * nccl: a stand-in for NCCL beside the emulator, between processes of this
 * machine over sockets.  It has what cuda_nccl.c uses, and reports what the real
 * one answers by waiting for ever, or by wrong numbers: who sends to whom does
 * not fit, sizes that differ, memory that is not the device's, a second stream,
 * messages that nobody took, two ranks on one card.
 *
 *   CUSIM_PATIENCE=n  a wait of n seconds, 10, is one for ever
 */
#include "emulator.h"

#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <map>
#include <memory>

using cusim::die;

enum result { SUCCESS = 0, UNHANDLED_CUDA_ERROR = 1, SYSTEM_ERROR = 2, INVALID_ARGUMENT = 4, INVALID_USAGE = 5 };
enum { FLOAT32 = 7 };

struct unique_id {
	char text[128];
};

struct header {         // before each message
	uint32_t from, to;
	uint64_t number;        // of the messages between these two
	uint64_t count;
};

struct message {        // sent or to be received, within a group
	bool out;
	int peer;
	char *data;
	uint64_t count, number;
};

struct nccl_comm {
	int rank, size, listening;
	std::vector<int> peer;  // sockets; of itself -1
	std::vector<uint64_t> sent, received;   // messages
	cudaStream_t stream;
	bool used;
};

static std::vector<message> group;
static nccl_comm *group_comm;
static int depth;

#define NCCL extern "C" __attribute__((visibility("default"))) int
#define MAY_FAIL_NCCL()                              \
	do {                                         \
		if (cusim::planned_failure(__func__)) \
			return UNHANDLED_CUDA_ERROR; \
	} while (0)

static int patience()
{
	const char *text = getenv("CUSIM_PATIENCE");

	return text ? atoi(text) : 10;
}

// ---- sockets

static double now()
{
	timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static sockaddr_un address(const unique_id &id, int rank, socklen_t *bytes)
{
	sockaddr_un a;

	memset(&a, 0, sizeof(a));
	a.sun_family = AF_UNIX; // a name that begins with 0 is in no file system
	const int n = snprintf(a.sun_path + 1, sizeof(a.sun_path) - 1, "%.64s.%d", id.text, rank);
	*bytes = (socklen_t)(offsetof(sockaddr_un, sun_path) + 1 + (size_t)n);
	return a;
}

static void whole(bool out, int fd, void *p, size_t bytes)
{
	for (size_t done = 0; done < bytes;) {
		const ssize_t n = out ? send(fd, (char *)p + done, bytes - done, MSG_NOSIGNAL)
				      : recv(fd, (char *)p + done, bytes - done, 0);
		if (n <= 0 && errno != EINTR)
			die("nccl: another rank has gone");
		done += n > 0 ? (size_t)n : 0;
	}
}

// Who is above connects.
static int connect_to(const unique_id &id, int peer, int rank)
{
	socklen_t bytes;
	const sockaddr_un a = address(id, peer, &bytes);
	const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	for (const double from = now(); connect(fd, (const sockaddr *)&a, bytes);) {
		if (now() - from > patience())
			die("nccl: rank %d does not join", peer);
		usleep(1000);
	}
	whole(true, fd, &rank, sizeof(rank));
	return fd;
}

static void join(nccl_comm *c, const unique_id &id)
{
	socklen_t bytes;
	const sockaddr_un a = address(id, c->rank, &bytes);

	c->listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(c->listening, (const sockaddr *)&a, bytes) || listen(c->listening, c->size))
		die("nccl: rank %d joins twice, or the id is old", c->rank);
	for (int peer = 0; peer < c->rank; peer++)
		c->peer[peer] = connect_to(id, peer, c->rank);
	for (int i = c->rank + 1; i < c->size; i++) {
		pollfd wait = { c->listening, POLLIN, 0 };
		int rank;

		if (poll(&wait, 1, patience() * 1000) != 1)
			die("nccl: rank %d waits for %d others to join", c->rank, c->size - i);
		const int fd = accept4(c->listening, nullptr, nullptr, SOCK_CLOEXEC);
		whole(false, fd, &rank, sizeof(rank));
		c->peer[rank] = fd;
	}
}

// What each other rank has of it
static std::vector<int> from_all(const nccl_comm *c, int mine)
{
	std::vector<int> all;

	for (int fd : c->peer)
		if (fd >= 0)
			whole(true, fd, &mine, sizeof(mine));
	for (int fd : c->peer)
		if (fd >= 0) {
			all.push_back(0);
			whole(false, fd, &all.back(), sizeof(int));
		}
	return all;
}

// ---- a group under way

struct transfer {
	message m;
	header head;
	size_t done, bytes;     // with the header
};

// Up to what the socket takes or has; whether anything went.
static bool advance(const nccl_comm *c, transfer *t)
{
	const bool in_head = t->done < sizeof(t->head);
	char *at = in_head ? (char *)&t->head + t->done : t->m.data + (t->done - sizeof(t->head));
	const size_t n = (in_head ? sizeof(t->head) : t->bytes) - t->done;
	const int fd = c->peer[t->m.peer];
	const ssize_t k = t->m.out ? send(fd, at, n, MSG_DONTWAIT | MSG_NOSIGNAL) : recv(fd, at, n, MSG_DONTWAIT);

	if (k == 0 || (k < 0 && errno != EAGAIN && errno != EINTR))
		die("nccl: rank %d is gone, and rank %d %s it", t->m.peer, c->rank, t->m.out ? "sends to" : "receives from");
	t->done += k > 0 ? (size_t)k : 0;
	if (!t->m.out && in_head && t->done == sizeof(t->head)) {
		if (t->head.count != t->m.count)
			die("nccl: rank %d receives %llu values from rank %d, which sends %llu", c->rank,
			    (unsigned long long)t->m.count, t->m.peer, (unsigned long long)t->head.count);
		if (t->head.to != (uint32_t)c->rank || t->head.number != t->m.number)
			die("nccl: rank %d receives message %llu of rank %d, not %llu", c->rank,
			    (unsigned long long)t->head.number, t->m.peer, (unsigned long long)t->m.number);
	}
	return k > 0;
}

static void run(const nccl_comm *c, const std::vector<message> &what)
{
	std::vector<transfer> all;
	double moved = now();

	for (const message &m : what)
		all.push_back({ m, { (uint32_t)c->rank, (uint32_t)m.peer, m.number, m.count }, 0,
			sizeof(header) + m.count * sizeof(float) });
	for (bool done = false; !done;) {
		std::map<std::pair<int, bool>, bool> busy;      // messages of a pair go one after the other
		bool went = false;

		done = true;
		for (transfer &t : all) {
			if (t.done == t.bytes)
				continue;
			done = false;
			if (!busy[{ t.m.peer, t.m.out }])
				went |= advance(c, &t);
			busy[{ t.m.peer, t.m.out }] = true;
		}
		if (went)
			moved = now();
		else if (!done && now() - moved > patience())
			for (const transfer &t : all)
				if (t.done < t.bytes)
					die("nccl: rank %d has waited %d s to %s rank %d, which does not do the same",
					    c->rank, patience(), t.m.out ? "send to" : "receive from", t.m.peer);
		if (!went && !done)
			usleep(20);
	}
}

static void run_group(void *p)
{
	std::unique_ptr<std::pair<nccl_comm *, std::vector<message>>> work((std::pair<nccl_comm *, std::vector<message>> *)p);

	run(work->first, work->second);
}

// ---- as nccl.h has it

NCCL ncclGetUniqueId(unique_id *id)
{
	timespec t;

	MAY_FAIL_NCCL();
	memset(id, 0, sizeof(*id));
	clock_gettime(CLOCK_MONOTONIC, &t);
	snprintf(id->text, sizeof(id->text), "featuremill-%d-%ld-%ld", (int)getpid(), (long)t.tv_sec, t.tv_nsec);
	return SUCCESS;
}

NCCL ncclCommInitRank(nccl_comm **comm, int size, unique_id id, int rank)
{
	int device, same = 0;

	MAY_FAIL_NCCL();
	if (size < 1 || rank < 0 || rank >= size || !id.text[0])
		return INVALID_ARGUMENT;
	nccl_comm *c = new nccl_comm{ rank, size, -1, std::vector<int>((size_t)size, -1), std::vector<uint64_t>((size_t)size),
		std::vector<uint64_t>((size_t)size), nullptr, false };
	join(c, id);
	cudaGetDevice(&device);
	for (int other : from_all(c, device))
		same += other == device;
	for (int others : from_all(c, same))
		same += others;
	*comm = c;
	return same ? INVALID_USAGE : SUCCESS;
}

NCCL ncclCommDestroy(nccl_comm *c)
{
	if (depth)
		die("nccl: destroyed within a group");
	if (c->used)
		cudaStreamSynchronize(c->stream);
	for (size_t i = 0; i < c->peer.size(); i++) {
		char byte;

		if (c->peer[i] >= 0 && recv(c->peer[i], &byte, 1, MSG_DONTWAIT) > 0)
			die("nccl: nobody takes what rank %zu sent to rank %d", i, c->rank);
		close(c->peer[i]);
	}
	close(c->listening);
	delete c;
	return SUCCESS;
}

NCCL ncclGroupStart(void)
{
	depth++;
	return SUCCESS;
}

static void check_apart(const message &m)
{
	for (const message &other : group)
		if ((!m.out || !other.out) && m.data < other.data + other.count * sizeof(float) &&
		    other.data < m.data + m.count * sizeof(float))
			die("nccl: what is received overlaps what is %s in the same group", other.out ? "sent" : "received");
}

static int add(bool out, const void *data, size_t count, int type, int peer, nccl_comm *c, cudaStream_t stream)
{
	MAY_FAIL_NCCL();
	if (type != FLOAT32 || peer < 0 || peer >= c->size)
		return INVALID_ARGUMENT;
	if (peer == c->rank)
		die("nccl: rank %d %s itself", peer, out ? "sends to" : "receives from");
	cusim::need_device(data, count * sizeof(float), out ? "nccl: what is sent" : "nccl: what is received");
	if (c->used && stream != c->stream)
		die("nccl: rank %d uses a second stream", c->rank);
	if (group_comm && group_comm != c)
		die("nccl: two communicators in one group");
	c->stream = stream;
	c->used = true;
	group_comm = c;
	const message m = { out, peer, (char *)const_cast<void *>(data), count,
		(out ? c->sent : c->received)[(size_t)peer]++ };
	check_apart(m);
	group.push_back(m);
	return SUCCESS;
}

NCCL ncclGroupEnd(void)
{
	if (!depth)
		return INVALID_USAGE;
	if (--depth || group.empty())
		return SUCCESS;
	auto *work = new std::pair<nccl_comm *, std::vector<message>>(group_comm, group);
	const cudaStream_t stream = group_comm->stream;

	group.clear();
	group_comm = nullptr;
	if (cudaLaunchHostFunc(stream, run_group, work) != cudaSuccess) {
		delete work;
		return UNHANDLED_CUDA_ERROR;
	}
	// A card goes on while its host waits for the other host; the emulator's lazy stream would not.
	return cudaStreamSynchronize(stream) == cudaSuccess ? SUCCESS : UNHANDLED_CUDA_ERROR;
}

static int alone(bool out, const void *data, size_t count, int type, int peer, nccl_comm *c, cudaStream_t stream)
{
	ncclGroupStart();
	const int e = add(out, data, count, type, peer, c, stream);

	return e ? e : ncclGroupEnd();
}

NCCL ncclSend(const void *data, size_t count, int type, int peer, nccl_comm *c, cudaStream_t stream)
{
	return depth ? add(true, data, count, type, peer, c, stream) : alone(true, data, count, type, peer, c, stream);
}

NCCL ncclRecv(void *data, size_t count, int type, int peer, nccl_comm *c, cudaStream_t stream)
{
	return depth ? add(false, data, count, type, peer, c, stream) : alone(false, data, count, type, peer, c, stream);
}

extern "C" __attribute__((visibility("default"))) const char *ncclGetErrorString(int e)
{
	switch (e) {
	case SUCCESS: return "no error";
	case UNHANDLED_CUDA_ERROR: return "unhandled cuda error";
	case SYSTEM_ERROR: return "unhandled system error";
	case INVALID_ARGUMENT: return "invalid argument";
	case INVALID_USAGE: return "invalid usage";
	default: return "another error";
	}
}
