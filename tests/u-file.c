/* file: whole or nothing, locks, kills, recipes and states. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "file.h"

static bool holds(const char *path, const char *text)
{
	struct buf b = { 0 };
	const bool equal = file_exists(path) && (read_file(path, &b, 1 << 20), !strcmp(b.p, text));

	buf_free(&b);
	return equal;
}

static void write_and_fail(void)
{
	struct out *f = out_open("x", 0);

	out_write(f, "half", 4);
	out_sync(f);
	die("a failure");
}

static void write_kept_and_fail(void)
{
	struct out *f = out_open("k", OUT_KEEP);

	out_write(f, "abcdef", 6);
	out_sync(f);
	die("a failure");
}

static void save_and_fail(void)
{
	struct recipe *r = recipe_new("tool", 1);

	state_save("k", r, &(struct buf){ .p = (char *)"", .n = 0 });
	recipe_free(r);
	write_kept_and_fail();
}

static void write_and_be_told(void)
{
	struct out *f = out_open("t", 0);

	out_write(f, "half", 4);
	out_sync(f);
	raise(SIGTERM);
	for (;;)
		pause();
}

static void write_to_nobody(void)
{
	static char mib[1 << 20];
	int fd[2];

	if (pipe(fd) != 0 || close(fd[0]) != 0 || dup2(fd[1], STDOUT_FILENO) < 0)
		die_errno("cannot make a pipe");
	struct out *f = out_open("t", 0), *o = out_open("-", 0);

	out_write(f, "half", 4);
	out_sync(f);
	out_write(o, mib, sizeof(mib));
	die("a closed pipe was written to");
}

static void hold_for_a_while(void)
{
	struct out *f = out_open("x", OUT_KEEP);

	out_sync(f);
	usleep(200000);
	raise(SIGKILL);
}

static void leave_a_note(void)
{
	file_write("note", "x", 1);
}

static void note_and_be_told(void)
{
	base_at_end(leave_a_note);
	raise(SIGINT);
	for (;;)
		pause();
}

static void open_second(void)
{
	out_abandon(out_open("x", 0));
}

static void dir_and_fail(void)
{
	struct outdir *d = outdir_open("dir", "f1");
	char *name = xformat("%s/new", outdir_part(d));

	file_write(name, "n", 1);
	free(name);
	die("a failure");
}

static void dir_of_others(void)
{
	outdir_commit(outdir_open("dir", "index"));
}

static void dir_void(void)
{
	outdir_commit(outdir_open("void", "index"));
}

static void full_disk(void)
{
	const int fd = open("/dev/full", O_WRONLY);
	static char mib[1 << 20];

	dup2(fd, STDOUT_FILENO);
	struct out *f = out_open("-", 0);

	out_write(f, mib, sizeof(mib));
	out_commit(f);
}

static const struct { const char *name; void (*fn)(void); } roles[] = {
	{ "fail", write_and_fail }, { "fail-kept", write_kept_and_fail }, { "fail-saved", save_and_fail }, { "told", write_and_be_told },
	{ "nobody", write_to_nobody }, { "hold", hold_for_a_while }, { "note", note_and_be_told },
	{ "second", open_second }, { "dir-fail", dir_and_fail },
	{ "dir-other", dir_of_others }, { "dir-void", dir_void }, { "full", full_disk },
};
static char *program;     /* this one, to play a role in a process of its own */

/* Exit status of a role, or 128 + signal; what it said is in "stderr". */
static int child(const char *role)
{
	int status;

	fflush(stdout);
	const pid_t pid = fork();

	if (pid == 0) {
		dup2(open("stderr", O_WRONLY | O_CREAT | O_TRUNC, 0600), STDERR_FILENO);
		execl(program, program, role, (char *)NULL);
		_exit(99);
	}
	waitpid(pid, &status, 0);
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static void outputs(void)
{
	file_write("x", "old", 3);
	check(holds("x", "old"), "a file is written");
	check(child("fail") == 1 && holds("x", "old") && !file_exists("x.part"),
	      "a failure leaves the old file and no debris");
	check(child("fail-kept") == 1 && !file_exists("k") && !file_exists("k.part"),
	      "... of a resumable output before its first state too");
	check(child("fail-saved") == 1 && !file_exists("k") && file_exists("k.part"),
	      "... and after that leaves its part");

	struct out *f = out_resume("k", 7);

	check(!f, "a part that is too short is not resumed");
	f = out_resume("k", 3);
	check(f && out_tell(f) == 3, "a part is cut back");
	out_write(f, "XYZ", 3);
	out_commit(f);
	check(holds("k", "abcXYZ") && !file_exists("k.part"), "... and goes on");
	check(child("told") == 128 + SIGTERM && !file_exists("t.part"), "SIGTERM removes the part");
	check(child("note") == 128 + SIGINT && file_exists("note"), "what runs at the end runs on SIGINT");
	check(child("nobody") == 128 + SIGPIPE && !file_exists("t.part") && holds("stderr", ""),
	      "a reader that goes away: other outputs are removed, nothing is said");

	f = out_open("x", 0);
	check(child("second") == 1 && holds("stderr", "") == false, "a second writer is refused");
	out_write(f, "new", 3);
	out_commit(f);
	check(holds("x", "new"), "... and the first goes on");
	if (fork() == 0) {
		execl(program, program, "hold", (char *)NULL);
		_exit(99);
	}
	while (!file_exists("x.part"))
		usleep(1000);
	file_write("x", "next", 4);
	check(holds("x", "next"), "a writer that is about to end is waited for");
	wait(NULL);
	file_write("x", "new", 3);
	f = out_open("x", 0);
	out_write(f, "never", 5);
	out_abandon(f);
	check(holds("x", "new") && !file_exists("x.part"), "abandoned");
	check(child("full") == 1, "a full disk is an error");
}

static void directories(void)
{
	file_mkdirs("a/b/c/file");
	check(file_exists("a/b/c") && !file_exists("a/b/c/file"), "the folders above");
	for (int round = 0; round < 2; round++) {
		struct outdir *d = outdir_open("dir", "f0");
		char *name = xformat("%s/f%d", outdir_part(d), round);

		file_write(name, "1", 1);
		free(name);
		outdir_commit(d);
	}
	check(holds("dir/f1", "1") && !file_exists("dir/f0") && !file_exists("dir.part"), "a folder replaces another whole");
	check(child("dir-fail") == 1 && holds("dir/f1", "1") && !file_exists("dir/new"), "a failure keeps the old folder");
	struct outdir *d = outdir_open("dir", "f1");
	char *left = xformat("%s/new", outdir_part(d));

	check(!file_exists(left), "what a failure left is not taken over");
	free(left);
	left = xformat("%s/f1", outdir_part(d));
	file_write(left, "2", 1);
	free(left);
	outdir_commit(d);
	check(child("dir-other") == 1 && holds("dir/f1", "2") && !file_exists("dir.part"), "a folder of something else stays");
	check(mkdir("void", 0700) == 0 && child("dir-void") == 0, "an empty one is replaced");
}

static struct recipe *recipe_of(unsigned version, const char *value)
{
	struct recipe *r = recipe_new("tool", version);

	recipe_add(r, "key", "%s", value);
	return r;
}

static void recipes(void)
{
	struct recipe *r = recipe_of(1, "a"), *other = recipe_of(1, "b"), *newer = recipe_of(2, "a");
	struct stat before, after;

	base_quiet = true;
	check(!strcmp(recipe_text(r), "tool 1\nkey a\n"), "a recipe as text");
	file_write("r", "result", 6);
	check(!recipe_fresh(r, "r"), "no stamp: not fresh");
	recipe_stamp(r, "r");
	const struct timespec past[2] = { { 1000, 0 }, { 1000, 0 } };

	utimensat(AT_FDCWD, "r", past, 0);
	check(recipe_fresh(r, "r") && stat("r", &after) == 0 && after.st_mtime > 1000, "fresh: touched");
	check(!recipe_fresh(other, "r") && !recipe_fresh(newer, "r"), "another value, another version: not fresh");
	stat("r", &before);
	unlink("r");
	check(!recipe_fresh(r, "r"), "no output: not fresh");

	struct buf body = { 0 }, got = { 0 };

	check(!state_load("s", r, &got), "no state yet");
	buf_add(&body, "12345678", 8);
	state_save("s", r, &body);
	check(state_load("s", r, &got) && got.n == 8 && !memcmp(got.p, "12345678", 8), "a state comes back");
	uint32_t half;
	struct cursor c = { got.p, got.n };

	cursor_get(&c, &half, 4);
	check(!memcmp(&half, "1234", 4) && c.left == 4, "a cursor reads it");
	if (!freopen("stderr", "w", stderr))
		die_errno("cannot write 'stderr'");
	check(!state_load("s", other, &got) && file_exists("s.state.old") && !file_exists("s.state"),
	      "the state of another run is set aside");
	state_save("s", r, &body);
	const int fd = open("s.state", O_RDWR);

	(void)!pwrite(fd, "X", 1, lseek(fd, 0, SEEK_END) - 1);
	close(fd);
	check(!state_load("s", r, &got), "a damaged state is not used");
	state_save("s", r, &body);
	state_drop("s");
	check(!file_exists("s.state"), "dropped");
	buf_free(&body);
	buf_free(&got);
	recipe_free(r);
	recipe_free(other);
	recipe_free(newer);
}

int main(int argc, char **argv)
{
	char dir[] = "/tmp/featuremill.XXXXXX";

	base_tool = "u-file";
	for (size_t i = 0; argc > 1 && i < ARRAY_LEN(roles); i++)
		if (!strcmp(argv[1], roles[i].name)) {
			roles[i].fn();
			return 0;
		}
	program = realpath("/proc/self/exe", NULL);
	if (!program || !mkdtemp(dir) || chdir(dir) != 0)
		die_errno("cannot make '%s'", dir);
	outputs();
	directories();
	recipes();
	char *rm = xformat("rm -rf %s", dir);
	const int gone = system(rm);

	free(rm);
	free(program);
	return gone != 0 || check_done();
}
