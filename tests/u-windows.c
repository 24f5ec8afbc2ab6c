/* windows: stretches of a token set with their targets, and what is refused */
#include "windows.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "pool.h"
#include "rng.h"

enum { TOKENS = 10000, VOCAB = 50257 };

static uint16_t token(uint64_t i)
{
	return (uint16_t)rng_below(rng_hash(1, RNG_TEST, 0, i), VOCAB);
}

static char *write_tokens(const char *dir, const char *name, uint64_t n, enum dtype dtype)
{
	char *path = xformat("%s/%s", dir, name);
	const struct shard_spec spec = { .dtype = dtype, .cols = 1, .rows_per_frame = 700, .n = 1 };
	struct shard_writer *w = shard_create(path, &spec, 0);

	for (uint64_t i = 0; i < n; i++) {
		const uint32_t t = token(i);

		shard_write(w, &t, 1);
	}
	shard_finish(w);
	return path;
}

struct reader {
	const struct windows *w;
	int32_t *idx, *targets; /* (count, T) */
};

static void read_window(void *arg, size_t i)
{
	const struct reader *r = arg;

	windows_at(r->w, i, r->idx + i * r->w->T, r->targets + i * r->w->T);
}

static void check_windows(char *path, size_t T, size_t cache)
{
	struct windows w = windows_open((char *[]){ path, NULL }, T, VOCAB, cache);
	const size_t n = (size_t)w.count * T;
	struct reader r = { &w, xcalloc(n, sizeof(int32_t)), xcalloc(n, sizeof(int32_t)) };
	bool same = true;

	check(w.tokens == TOKENS && w.count == (TOKENS - 1) / T, "T %zu: %d windows", T, (int)w.count);
	pool_for(w.count, read_window, &r);
	for (size_t i = 0; i < n; i++)
		same = same && r.idx[i] == token(i) && r.targets[i] == token(i + 1);
	check(same, "... of tokens and the tokens behind, cache %zu", cache);
	windows_read(&w, TOKENS - 1 - T, r.idx, r.targets);
	check(r.idx[0] == token(TOKENS - 1 - T) && r.targets[T - 1] == token(TOKENS - 1), "... up to the last token");
	windows_close(&w);
	free(r.idx);
	free(r.targets);
}

/* It ends the process with status 1 and says why. */
static void check_dies(char *path, size_t T, size_t vocab, const char *why)
{
	int status;

	fflush(stdout);
	const pid_t child = fork();

	if (child == 0) {
		int32_t idx[64], targets[64];

		if (!freopen("/dev/null", "w", stderr))
			_exit(2);
		struct windows w = windows_open((char *[]){ path, NULL }, T, vocab, 1 << 20);

		windows_at(&w, 0, idx, targets);
		_exit(0);
	}
	check(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 1, "refused: %s", why);
}

int main(void)
{
	char dir[] = "/tmp/featuremill-u-windows.XXXXXX";

	if (!mkdtemp(dir))
		die_errno("cannot make '%s'", dir);
	char *path = write_tokens(dir, "tokens.zst", TOKENS, DT_U16), *few = write_tokens(dir, "few.zst", 32, DT_U16),
	     *other = write_tokens(dir, "other.zst", 100, DT_U32);

	check_dies(path, 32, 200, "a token beyond the vocabulary");
	check_dies(few, 32, VOCAB, "no more tokens than a context");
	check_dies(other, 32, VOCAB, "no tokens");
	pool_start(2);
	check_windows(path, 1, 1 << 20);
	check_windows(path, 32, 1 << 20);
	check_windows(path, 1023, 1);
	check_windows(path, 1024, 1 << 13);
	check_windows(path, 3000, 1 << 20);
	check_windows(path, TOKENS - 1, 1 << 20);
	unlink(path);
	unlink(few);
	unlink(other);
	rmdir(dir);
	free(path);
	free(few);
	free(other);
	return check_done();
}
