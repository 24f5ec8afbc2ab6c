#include "parquet.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

struct parquet {
	char *path;
	pid_t child;            /* 0: it has ended */
	int out, err;           /* its standard output, a pipe; its standard error, a file in memory */
};

static char *beside_me(const char *name)
{
	char me[4096];
	const ssize_t n = readlink("/proc/self/exe", me, sizeof(me) - 1);

	if (n < 0)
		die_errno("cannot find where this program lies");
	me[n] = 0;
	*strrchr(me, '/') = 0;
	return xformat("%s/%s", me, name);
}

struct parquet *parquet_open(const char *path, const char *column)
{
	extern char **environ;
	struct parquet *p = xcalloc(1, sizeof(*p));
	char *script = beside_me("parquet-text"), *venv = beside_me("../venv/bin/python3");
	char *python = access(venv, X_OK) == 0 ? venv : (char *)"python3";
	char *argv[] = { python, script, (char *)column, (char *)path, NULL };
	posix_spawn_file_actions_t fa;
	int out[2];

	p->path = xstrdup(path);
	if (pipe2(out, O_CLOEXEC) != 0 || (p->err = memfd_create("stderr", MFD_CLOEXEC)) < 0)
		die_errno("cannot make a pipe");
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_adddup2(&fa, out[1], STDOUT_FILENO);
	posix_spawn_file_actions_adddup2(&fa, p->err, STDERR_FILENO);
	if ((errno = posix_spawnp(&p->child, python, &fa, NULL, argv, environ)) != 0)
		die_errno("cannot read Parquet '%s': cannot run '%s'", path, python);
	posix_spawn_file_actions_destroy(&fa);
	close(out[1]);
	p->out = out[0];
	free(script);
	free(venv);
	return p;
}

static int child_wait(struct parquet *p)
{
	int status = 0;

	while (waitpid(p->child, &status, 0) < 0 && errno == EINTR)
		;
	p->child = 0;
	return status;
}

size_t parquet_read(struct parquet *p, void *to, size_t bytes)
{
	const size_t n = read_full(p->out, to, bytes, p->path);
	char why[512];

	if (n > 0 || !p->child || child_wait(p) == 0)
		return n;
	const size_t m = pread_full(p->err, why, sizeof(why) - 1, 0, p->path);

	why[m] = 0;
	why[strcspn(why, "\n")] = 0;
	die("cannot read Parquet '%s': %s", p->path, m ? why : "parquet-text failed");
}

void parquet_close(struct parquet *p)
{
	close(p->out);
	if (p->child) {
		kill(p->child, SIGTERM);
		child_wait(p);
	}
	close(p->err);
	free(p->path);
	free(p);
}
