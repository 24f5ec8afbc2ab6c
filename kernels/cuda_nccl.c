/*
 * cuda_nccl: memory of cards exchanged by NVIDIA's NCCL, which is opened when
 * there are several processes, and not needed otherwise.  Sends and receives
 * alone: who adds what to what is tree.c's business, and NCCL's own sums have an
 * order that depends on the machines.  They are queued on the stream of the ops.
 */
#include <dlfcn.h>
#include <string.h>

#include "cuda.h"

#ifndef NCCL_LIBRARY
#define NCCL_LIBRARY "libnccl.so.2"
#endif

/* What is used of NCCL 2.7 or later, as its documentation says it; its header may be missing. */
struct nccl_id {
	char bytes[DEVICE_LINK_ID];
};
typedef void *nccl_comm;
enum { NCCL_SUCCESS = 0, NCCL_FLOAT32 = 7 };
static struct {
	int (*GetUniqueId)(struct nccl_id *id);
	int (*CommInitRank)(nccl_comm *comm, int ranks, struct nccl_id id, int rank);
	int (*CommDestroy)(nccl_comm comm);
	int (*GroupStart)(void);
	int (*GroupEnd)(void);
	int (*Send)(const void *from, size_t n, int type, int peer, nccl_comm comm, cudaStream_t stream);
	int (*Recv)(void *to, size_t n, int type, int peer, nccl_comm comm, cudaStream_t stream);
	const char *(*GetErrorString)(int e);
} nccl;
static nccl_comm comm;

static const char *failure(int e, const char *what)
{
	return e == NCCL_SUCCESS ? NULL : cuda_because(what, nccl.GetErrorString(e));
}

/* Beside this library, or where the system looks. */
static void *open_library(void)
{
	static const char name[] = NCCL_LIBRARY;
	char path[4096];
	Dl_info here;

	if (dladdr(&nccl, &here) && here.dli_fname && strlen(here.dli_fname) + sizeof(name) < sizeof(path)) {
		strcpy(path, here.dli_fname);
		strcpy(strrchr(path, '/') ? strrchr(path, '/') + 1 : path, name);
		void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);

		if (library)
			return library;
	}
	return dlopen(name, RTLD_NOW | RTLD_LOCAL);
}

static const char *find(void)
{
	static const char *const names[] = { "ncclGetUniqueId", "ncclCommInitRank", "ncclCommDestroy", "ncclGroupStart",
		"ncclGroupEnd", "ncclSend", "ncclRecv", "ncclGetErrorString" };
	void *library = open_library(), *at;
	_Static_assert(sizeof(nccl) == sizeof(names) / sizeof(*names) * sizeof(at), "a name for each function");

	if (!library)
		return "there is no " NCCL_LIBRARY;
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		if (!(at = dlsym(library, names[i])))
			return cuda_because(NCCL_LIBRARY " lacks", names[i]);
		memcpy((char *)&nccl + i * sizeof(at), &at, sizeof(at));
	}
	return NULL;
}

static const char *make_id(void *id)
{
	return failure(nccl.GetUniqueId(id), "ncclGetUniqueId");
}

static const char *join(const void *id, size_t rank, size_t size)
{
	struct nccl_id its;

	memcpy(&its, id, sizeof(its));
	const int e = nccl.CommInitRank(&comm, (int)size, its, (int)rank);

	if (e)
		comm = NULL;
	return failure(e, "ncclCommInitRank");
}

static void exchange(size_t peer, const real *mine, size_t n, real *its, size_t its_n)
{
	int e = nccl.GroupStart();

	if (n && !e)
		e = nccl.Send(mine, n, NCCL_FLOAT32, (int)peer, comm, cuda_stream());
	if (its_n && !e)
		e = nccl.Recv(its, its_n, NCCL_FLOAT32, (int)peer, comm, cuda_stream());
	if (!e)
		e = nccl.GroupEnd();
	if (e)
		cuda_die("NCCL", nccl.GetErrorString(e));
}

static void leave(void)
{
	if (comm)
		nccl.CommDestroy(comm);
	comm = NULL;
}

const struct device_link cuda_link = { find, make_id, join, exchange, leave };
