/* nccl-bugs NAME: three processes that exchange by the stand-in for NCCL, right ("none") or with one mistake.  What
 * each says goes to stderr; ends with the status of the worst. */
#include <cuda_runtime_api.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>

struct unique_id {
	char text[128];
};
extern "C" {
int ncclGetUniqueId(unique_id *id);
int ncclCommInitRank(void **comm, int size, unique_id id, int rank);
int ncclCommDestroy(void *comm);
int ncclGroupStart(void);
int ncclGroupEnd(void);
int ncclSend(const void *from, size_t n, int type, int peer, void *comm, cudaStream_t stream);
int ncclRecv(void *to, size_t n, int type, int peer, void *comm, cudaStream_t stream);
}

enum { N = 100000, FLOAT32 = 7, RANKS = 3 };

struct sides {          // what is exchanged
	void *mine;
	size_t n;
	void *its;
	size_t its_n;
	int to, from;
};

static int exchange(const sides &s, void *comm, cudaStream_t stream)
{
	int e = ncclGroupStart();

	if (!e && s.n)
		e = ncclSend(s.mine, s.n, FLOAT32, s.to, comm, stream);
	if (!e && s.its_n)
		e = ncclRecv(s.its, s.its_n, FLOAT32, s.from, comm, stream);
	return e ? e : ncclGroupEnd();
}

// Round a ring, twice.
static int run(int rank, const unique_id &id, const std::string &bug)
{
	static float host[N];
	float *mine, *its;
	void *comm;
	cudaStream_t stream, other;
	const bool at_fault = rank == 1;

	cudaSetDevice(bug == "card" && at_fault ? 0 : rank);
	cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
	cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking);
	cudaMalloc((void **)&mine, sizeof(host));
	cudaMalloc((void **)&its, sizeof(host));
	const int e = ncclCommInitRank(&comm, RANKS, id, rank);
	if (e) {
		fprintf(stderr, "rank %d: ncclCommInitRank: %d\n", rank, e);
		return 1;
	}
	for (int i = 0; i < N; i++)
		host[i] = (float)(rank * N + i);
	cudaMemcpy(mine, host, sizeof(host), cudaMemcpyHostToDevice);
	sides s = { mine, N, its, N, (rank + 1) % RANKS, (rank + RANKS - 1) % RANKS };
	if (exchange(s, comm, stream))
		return 1;
	cudaMemcpy(host, its, sizeof(host), cudaMemcpyDeviceToHost);
	for (int i = 0; i < N; i++)
		if (host[i] != (float)(s.from * N + i))
			return 1;
	if (at_fault && bug == "late")
		sleep(3);
	if (at_fault) {
		s.n -= bug == "size" ? 1 : 0;
		s.its_n = bug == "untaken" ? 0 : N;
		s.to = bug == "itself" ? rank : bug == "peer" ? 0 : s.to;
		s.mine = bug == "host" ? host : bug == "past" ? mine + 1 : s.mine;
		s.its = bug == "overlap" ? mine + N / 2 : s.its;
		s.its_n = bug == "overlap" ? N / 2 : s.its_n;
		if (bug == "freed")
			cudaFree(mine);
	}
	if (exchange(s, comm, bug == "stream" && at_fault ? other : stream))
		return 1;
	return ncclCommDestroy(comm);
}

int main(int argc, char **argv)
{
	unique_id id;
	int status, worst = 0;

	if (argc != 2 || ncclGetUniqueId(&id))
		return 2;
	for (int rank = 0; rank < RANKS; rank++)
		if (fork() == 0)
			_exit(run(rank, id, argv[1]));
	for (int rank = 0; rank < RANKS; rank++)
		if (wait(&status) < 0 || status)
			worst = 1;
	return worst;
}
