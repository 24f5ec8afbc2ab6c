#ifndef DIES_H
#define DIES_H
/*
 * dies: check that fn(arg) ends its process with exit status 1 and one line on
 * stderr that contains text.
 *
 *	dies("a file that is cut", "truncated", read_cut, "x.zst");
 */
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base.h"
#include "check.h"

static inline void dies(const char *name, const char *text, void (*fn)(void *arg), void *arg)
{
	char said[4096];
	int fd[2], status;

	if (pipe(fd) != 0)
		die_errno("cannot make a pipe");
	const pid_t pid = fork();

	if (pid == 0) {
		dup2(fd[1], STDERR_FILENO);
		fn(arg);
		_exit(0);
	}
	close(fd[1]);
	said[read_full(fd[0], said, sizeof(said) - 1, "a pipe")] = 0;
	close(fd[0]);
	waitpid(pid, &status, 0);
	char *sanitizer = strstr(said, "\n=="), *end = strchr(said, '\n');

	if (sanitizer) /* its remarks on a process that ends after a fork */
		sanitizer[1] = 0;

	if (!check(WIFEXITED(status) && WEXITSTATUS(status) == 1 && end && !end[1] && strstr(said, text),
		   "%s", name))
		printf("#   status %#x, '%s'\n", (unsigned)status, said);
}

#endif
