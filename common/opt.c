#include "opt.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void print_default(const struct opt *p)
{
	switch (p->type) {
	case OPT_T_U64:
		printf(" [%llu]", (unsigned long long)*(const uint64_t *)p->var);
		break;
	case OPT_T_SIZE: {
		uint64_t v = *(const uint64_t *)p->var;
		size_t unit = 0;

		while (v && v % 1024 == 0 && unit < 4)
			v /= 1024, unit++;
		printf(" [%llu%.1s]", (unsigned long long)v, &"\0KMGT"[unit]);
		break;
	}
	case OPT_T_F64:
		printf(" [%g]", *(const double *)p->var);
		break;
	case OPT_T_STR:
		if (*(const char *const *)p->var)
			printf(" [%s]", *(const char *const *)p->var);
		break;
	default:
		break;
	}
}

static _Noreturn void print_help(const struct opt *opts, const char *usage)
{
	fputs(usage, stdout);
	putchar('\n');
	for (const struct opt *p = opts; p->type != OPT_T_END; p++) {
		char left[64];

		if (p->letter)
			snprintf(left, sizeof(left), "-%c, --%s%s%s", p->letter, p->word, p->arg ? " " : "", p->arg ? p->arg : "");
		else
			snprintf(left, sizeof(left), "    --%s%s%s", p->word, p->arg ? " " : "", p->arg ? p->arg : "");
		printf("  %-28s %s", left, p->help);
		print_default(p);
		putchar('\n');
	}
	printf("  %-28s %s\n  %-28s %s\n", "    --help", "this text", "    --version", "the version");
	if (fflush(stdout) || ferror(stdout))
		die_errno("cannot write '<stdout>'");
	exit(0);
}

static void set_number(const struct opt *p, const char *name, const char *v)
{
	uint64_t u = 0;
	double x = 0;
	const bool ok = p->type == OPT_T_U64 ? parse_u64(v, &u) :
		p->type == OPT_T_SIZE ? parse_size(v, &u) : parse_double(v, &x);

	if (!ok)
		die_usage("%s takes %s, not '%s'", name, p->type == OPT_T_U64 ? "a whole number" :
			  p->type == OPT_T_SIZE ? "a size such as 512M" : "a number", v);
	const double value = p->type == OPT_T_F64 ? x : (double)u;

	if (value < p->min || value > p->max)
		die_usage("%s must be from %.15g to %.15g, not %s", name, p->min, p->max, v);
	if (p->type == OPT_T_F64)
		*(double *)p->var = x;
	else
		*(uint64_t *)p->var = u;
}

static void set(const struct opt *p, const char *name, const char *v)
{
	if (p->type == OPT_T_STR) {
		*(const char **)p->var = v;
	} else if (p->type == OPT_T_LIST) {
		struct opt_list *l = p->var;

		l->v = xrealloc(l->v, l->n + 1, sizeof(*l->v));
		l->v[l->n++] = v;
	} else {
		set_number(p, name, v);
	}
}

static const struct opt *find_word(const struct opt *opts, const char *word, size_t n)
{
	for (const struct opt *p = opts; p->type != OPT_T_END; p++)
		if (strlen(p->word) == n && !strncmp(p->word, word, n))
			return p;
	return NULL;
}

static const struct opt *find_letter(const struct opt *opts, char letter)
{
	for (const struct opt *p = opts; p->type != OPT_T_END; p++)
		if (p->letter == letter)
			return p;
	return NULL;
}

static bool word_option(const struct opt *opts, const char *usage, const char *arg, const char *next)
{
	const char *equals = strchr(arg, '=');
	const size_t n = equals ? (size_t)(equals - arg) : strlen(arg);
	const struct opt *p = find_word(opts, arg, n);
	char name[64];

	if (!strcmp(arg, "help"))
		print_help(opts, usage);
	if (!strcmp(arg, "version")) {
		printf("featuremill %s\n", FEATUREMILL_VERSION);
		exit(fflush(stdout) ? 1 : 0);
	}
	snprintf(name, sizeof(name), "--%.*s", (int)n, arg);
	if (!p)
		die_usage("unknown option '%s'", name);
	if (p->type == OPT_T_FLAG) {
		if (equals)
			die_usage("%s takes no value", name);
		*(bool *)p->var = true;
		return false;
	}
	if (!equals && !next)
		die_usage("%s needs a value", name);
	set(p, name, equals ? equals + 1 : next);
	return !equals;
}

/* A cluster such as -qj4: flags, then at most one option with its value. */
static bool letter_options(const struct opt *opts, const char *arg, const char *next)
{
	for (; *arg; arg++) {
		const struct opt *p = find_letter(opts, *arg);
		const char name[3] = { '-', *arg, 0 };

		if (!p)
			die_usage("unknown option '%s'", name);
		if (p->type == OPT_T_FLAG) {
			*(bool *)p->var = true;
			continue;
		}
		if (!arg[1] && !next)
			die_usage("%s needs a value", name);
		set(p, name, arg[1] ? arg + 1 : next);
		return !arg[1];
	}
	return false;
}

/* Is path there, and neither a file nor a folder? */
static bool is_stream(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode);
}

static void set_output(struct opt_common *c)
{
	if (!c->output) /* of a tool that has no default */
		return;
	if (!*c->output)
		die_usage("-o needs a name");
	if (!strcmp(c->output, "/dev/stdout")) {
		c->output = "-";
	} else if (is_stream(c->output)) {
		const int fd = open(c->output, O_WRONLY);

		if (fd < 0 || dup2(fd, STDOUT_FILENO) < 0)
			die_errno("cannot open '%s'", c->output);
		close(fd);
		c->output = "-";
	}
}

char **opt_parse(int argc, char **argv, const struct opt *opts, const char *usage,
		 struct opt_common *c)
{
	const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;
	int n = 0;
	bool options = true;

	if (argc > 0)
		base_tool = slash ? slash + 1 : argv[0];
	for (int i = 1; i < argc; i++) {
		const char *a = argv[i];

		if (options && !strcmp(a, "--"))
			options = false;
		else if (options && a[0] == '-' && a[1] == '-')
			i += word_option(opts, usage, a + 2, argv[i + 1]);
		else if (options && a[0] == '-' && a[1])
			i += letter_options(opts, a + 1, argv[i + 1]);
		else
			argv[n++] = argv[i];
	}
	if (n < argc)
		argv[n] = NULL;
	keep_freed();
	base_quiet = c->quiet;
	if (c->threads == 0)
		c->threads = processors();
	set_output(c);
	return argv;
}

size_t opt_choice(const char *word, const char *v, const char *const *choices)
{
	char all[256] = "";
	size_t n = 0;

	for (size_t i = 0; choices[i]; i++) {
		if (!strcmp(v, choices[i]))
			return i;
		n += (size_t)snprintf(all + n, sizeof(all) - n, "%s%s", i ? ", " : "", choices[i]);
	}
	die_usage("%s is one of %s, not '%s'", word, all, v);
}
