/* base, opt, heap and rng: numbers from text, buffers, option tables, order and randomness. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base.h"
#include "check.h"
#include "dies.h"
#include "heap.h"
#include "opt.h"
#include "rng.h"

static void numbers(void)
{
	static const char *const bad_u64[] = { "", "-1", "+1", " 1", "1 ", "1x", "0x10", "1e3", "18446744073709551616" };
	static const char *const bad_size[] = { "", "K", "1k", "1KB", "1.5G", "-1M", "16777216T", "99999999999999999999999999" };
	static const char *const bad_double[] = { "", " 1", "1 ", "nan", "inf", "1e999", "1,5" };
	uint64_t u = 7;
	double x = 7;

	check(parse_u64("18446744073709551615", &u) && u == UINT64_MAX, "the largest number");
	check(parse_u64("0", &u) && u == 0, "zero");
	for (size_t i = 0; i < ARRAY_LEN(bad_u64); i++)
		check(!parse_u64(bad_u64[i], &u), "'%s' is no whole number", bad_u64[i]);
	check(parse_size("64M", &u) && u == 64 << 20, "64M");
	check(parse_size("3T", &u) && u == (uint64_t)3 << 40, "3T");
	check(parse_size("17", &u) && u == 17, "bytes without a unit");
	for (size_t i = 0; i < ARRAY_LEN(bad_size); i++)
		check(!parse_size(bad_size[i], &u), "'%s' is no size", bad_size[i]);
	check(parse_double("3e-7", &x) && x == 3e-7, "3e-7");
	check(parse_double("-.5", &x) && x == -.5, "-.5");
	for (size_t i = 0; i < ARRAY_LEN(bad_double); i++)
		check(!parse_double(bad_double[i], &x), "'%s' is no number", bad_double[i]);
}

static void buffers(void)
{
	struct buf b = { 0 };
	char want[3000];

	buf_add(&b, "", 0);
	check(b.n == 0 && b.p[0] == 0, "an empty buffer ends in NUL");
	memset(want, 'x', sizeof(want) - 1);
	want[sizeof(want) - 1] = 0;
	buf_printf(&b, "%d:", 42);
	buf_printf(&b, "%s", want);
	check(b.n == 3 + sizeof(want) - 1 && !strncmp(b.p, "42:", 3) && !strcmp(b.p + 3, want),
	      "text longer than the room there was");
	for (size_t n = 0; n < 300; n++) {      /* every amount of room left */
		buf_clear(&b);
		buf_add(&b, want, n);
		buf_printf(&b, "<%s>", want + sizeof(want) - 64);
		if (b.n != n + 65 || b.p[n] != '<' || b.p[b.n - 1] != '>' || b.p[b.n])
			break;
		if (n == 299)
			check(true, "text added at every offset");
	}
	buf_free(&b);
	check(!b.p && !b.n, "freed");
}

/* What opt_parse makes of a command line, in a child: its exit status and the values as text. */
static struct parsed { int status; char text[256]; } parse(char **argv)
{
	struct parsed r = { 0 };
	int fd[2];

	fflush(stdout);
	if (pipe(fd) != 0)
		die_errno("cannot make a pipe");
	const pid_t pid = fork();

	if (pid == 0) {
		struct opt_common c = OPT_COMMON_INIT;
		uint64_t rows = 5;
		double x = 1;
		bool flag = false;
		const char *name = "none";
		struct opt_list list = { 0 };
		const struct opt opts[] = {
			OPT_U64('n', "rows", &rows, 1, 100, "how many"), OPT_F64(0, "rate", &x, 0, 1, "how fast"),
			OPT_FLAG('f', "flag", &flag, "a flag"), OPT_STR(0, "name", &name, "NAME", "a name"),
			OPT_LIST(0, "match", &list, "GLOB", "which"), OPT_MEMORY(&c), OPT_THREADS(&c), OPT_QUIET(&c), OPT_END
		};
		int argc = 0;

		dup2(fd[1], STDERR_FILENO);
		dup2(fd[1], STDOUT_FILENO);
		while (argv[argc])
			argc++;
		char **operand = opt_parse(argc, argv, opts, "usage: tool\ne.g.: tool\n", &c);

		printf("%llu %g %d %s %zu", (unsigned long long)rows, x, flag, name, list.n);
		for (size_t i = 0; i < list.n; i++)
			printf(" +%s", list.v[i]);
		for (; *operand; operand++)
			printf(" %s", *operand);
		fflush(stdout);
		free(list.v);
		_exit(0);
	}
	close(fd[1]);
	r.text[read_full(fd[0], r.text, sizeof(r.text) - 1, "pipe")] = 0;
	close(fd[0]);
	waitpid(pid, &r.status, 0);
	r.status = WEXITSTATUS(r.status);
	return r;
}

static void options(void)
{
	static const struct { const char *argv[10]; int status; const char *text; } cases[] = {
		{ { "tool" }, 0, "5 1 0 none 0" },
		{ { "tool", "-n", "7", "a", "--rate=.5", "-", "--flag" }, 0, "7 0.5 1 none 0 a -" },
		{ { "tool", "-fn9", "--", "-n" }, 0, "9 1 1 none 0 -n" },
		{ { "tool", "--match", "a*", "--match=b", "--name", "x=y" }, 0, "5 1 0 x=y 2 +a* +b" },
		{ { "tool", "-m", "64M", "-j", "3", "-q" }, 0, "5 1 0 none 0" },
		{ { "tool", "--rows", "101" }, 2, "tool: --rows must be from 1 to 100, not 101: see --help\n" },
		{ { "tool", "-n" }, 2, "tool: -n needs a value: see --help\n" },
		{ { "tool", "-n", "x" }, 2, "tool: -n takes a whole number, not 'x': see --help\n" },
		{ { "tool", "--row", "1" }, 2, "tool: unknown option '--row': see --help\n" },
		{ { "tool", "-z" }, 2, "tool: unknown option '-z': see --help\n" },
		{ { "tool", "--flag=1" }, 2, "tool: --flag takes no value: see --help\n" },
		{ { "tool", "-m", "1" }, 2, "tool: -m must be from 1048576 to 1e+18, not 1: see --help\n" },
		{ { "tool", "--version" }, 0, "featuremill " FEATUREMILL_VERSION "\n" },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char *argv[ARRAY_LEN(cases[i].argv)];

		memcpy(argv, cases[i].argv, sizeof(argv));
		const struct parsed r = parse(argv);

		if (!check(r.status == cases[i].status && (!cases[i].text || !strcmp(r.text, cases[i].text)),
			   "options: case %zu", i))
			printf("# exit %d, '%s'\n", r.status, r.text);
	}
	const struct parsed help = parse((char *[]){ "tool", "--help", NULL });

	check(help.status == 0 && strstr(help.text, "-n, --rows N") && strstr(help.text, "[5]"),
	      "--help shows option, meaning and default");
}

static void complain(void *name)
{
	die("cannot open '%s'", (char *)name);
}

static void messages(void)
{
	static char longest[5000];

	dies("a message is one line of text", "cannot open 'a [31mb c'", complain, "a\033[31mb\nc");
	memset(longest, 'x', sizeof(longest) - 1);
	base_tool = longest;
	dies("a tool by a very long name", "xxxx: cannot open 'y'", complain, "y");
	base_tool = "u-base";
}

static void heaps(void)
{
	struct heap h = heap_new(10), none = heap_new(0);
	bool right = true;

	for (uint64_t i = 0; i < 1000; i++) {
		const uint64_t k = rng_permute(1, RNG_TEST, 0, 1000, i);

		heap_push(&h, (double)(k / 4), k, i);   /* four of each score */
		heap_push(&none, 1, i, i);
	}
	heap_sort(&h);
	for (uint64_t i = 0; i < 10; i++)
		right &= h.item[i].score == (double)(249 - i / 4) && h.item[i].tie == (249 - i / 4) * 4 + i % 4;
	check(h.n == 10 && right, "heap: the ten largest, ties by their number");
	check(none.n == 0, "heap of none");
	heap_free(&h);
	heap_free(&none);
}

static bool is_permutation(uint64_t n)
{
	char *seen = xcalloc(n, 1);
	bool right = true;

	for (uint64_t i = 0; i < n; i++) {
		const uint64_t k = rng_permute(5, RNG_WINDOW, 9, n, i);

		right &= k < n && !seen[k];
		if (k < n)
			seen[k] = 1;
	}
	free(seen);
	return right;
}

static void randomness(void)
{
	double sum = 0, sum2 = 0, sum4 = 0;
	uint64_t bins[16] = { 0 };
	double chi2 = 0;
	const double n = 200000;

	for (uint64_t m = 1; m < 70; m++)
		if (!is_permutation(m)) {
			check(false, "permutation of %llu", (unsigned long long)m);
			return;
		}
	check(is_permutation(65537) && is_permutation(65536), "permutations of 1 to 69, 65536, 65537");
	for (uint64_t i = 0; i < (uint64_t)n; i++) {
		const double z = rng_normal(3, RNG_TEST, 1, i);

		sum += z, sum2 += z * z, sum4 += z * z * z * z;
		bins[rng_below(rng_hash(3, RNG_TEST, 2, i), 16)]++;
	}
	check(fabs(sum / n) < .01 && fabs(sum2 / n - 1) < .015 && fabs(sum4 / n - 3) < .15,
	      "normal: mean %.4f, variance %.4f, fourth moment %.3f", sum / n, sum2 / n, sum4 / n);
	for (size_t b = 0; b < 16; b++)
		chi2 += ((double)bins[b] - n / 16) * ((double)bins[b] - n / 16) / (n / 16);
	check(chi2 < 37.7, "uniform: chi-squared %.1f of 15 degrees is below its 99.9 %% point", chi2);
	check(rng_uniform(0) > 0 && rng_uniform(UINT64_MAX) < 1, "uniform: never 0, never 1");
	check(rng_below(UINT64_MAX, 7) == 6 && rng_below(0, 7) == 0, "below");
}

int main(void)
{
	numbers();
	buffers();
	options();
	messages();
	heaps();
	randomness();
	return check_done();
}
