/*
 * kill-at: a program killed at its N-th change of the file system, whatever it does meanwhile
 *
 *	kill-at N COMMAND…      SIGKILL before its N-th call that writes, syncs, renames or removes
 *	kill-at 0 COMMAND…      lets it end and prints how many such calls it made
 *
 * All threads are followed (ptrace); exits 137 when it killed, else as the command did.  Every state in which
 * a power cut or kill could leave the files is one that lies before such a call.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base.h"

/* linux/ptrace.h's, which does not go together with sys/ptrace.h everywhere */
struct syscall_info {
	uint8_t op, pad[3];
	uint32_t arch;
	uint64_t instruction, stack, nr, args[6];
};
enum { ENTRY = 1 };

static const long changes[] = {
	SYS_write, SYS_pwrite64, SYS_writev, SYS_fsync, SYS_fdatasync, SYS_ftruncate, SYS_fallocate,
	SYS_renameat, SYS_renameat2, SYS_unlinkat, SYS_mkdirat, SYS_utimensat,
#ifdef SYS_rename
	SYS_rename, SYS_unlink, SYS_mkdir, SYS_rmdir,
#endif
};

static bool enters_change(pid_t thread)
{
	struct syscall_info info = { 0 };

	if (ptrace(PTRACE_GET_SYSCALL_INFO, thread, (void *)sizeof(info), &info) <= 0 || info.op != ENTRY)
		return false;
	for (size_t i = 0; i < ARRAY_LEN(changes); i++)
		if (info.nr == (uint64_t)changes[i])
			return true;
	return false;
}

static pid_t start(char **argv)
{
	const pid_t child = fork();

	if (child == 0) {
		if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0)
			raise(SIGSTOP);
		execvp(argv[0], argv);
		die_errno("cannot run '%s'", argv[0]);
	}
	if (child < 0 || waitpid(child, &(int){ 0 }, 0) != child ||
	    ptrace(PTRACE_SETOPTIONS, child, NULL,
		   (void *)(PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_EXITKILL)))
		die_errno("cannot trace");
	ptrace(PTRACE_SYSCALL, child, NULL, NULL);
	return child;
}

/* The signal to pass on to a thread that stopped: none for ptrace's own stops. */
static long passed_on(int status)
{
	const int signo = WSTOPSIG(status);

	return status >> 16 || signo == SIGSTOP || signo == SIGTRAP || signo == (SIGTRAP | 0x80) ? 0 : signo;
}

int main(int argc, char **argv)
{
	uint64_t at, seen = 0;
	int status;
	pid_t thread;

	base_tool = "kill-at";
	if (argc < 3 || !parse_u64(argv[1], &at))
		die_usage("a number and a command are needed");
	const pid_t child = start(argv + 2);

	while ((thread = waitpid(-1, &status, __WALL)) > 0) {
		if (!WIFSTOPPED(status)) {
			if (thread != child)
				continue;
			if (!at)
				printf("%llu\n", (unsigned long long)seen);
			return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
		}
		if (WSTOPSIG(status) == (SIGTRAP | 0x80) && enters_change(thread) && ++seen == at)
			kill(child, SIGKILL);
		else
			ptrace(PTRACE_SYSCALL, thread, NULL, (void *)passed_on(status));
	}
	die_errno("cannot wait");
}
