#ifndef OPT_H
#define OPT_H
/*
 * opt: a tool's options as one table -- letter, word, variable with its
 * default, one phrase -- from which the help is generated.
 *
 *	static struct { struct opt_common c; uint64_t n; } o = { .c = OPT_COMMON_INIT, .n = 1024 };
 *	static const struct opt opts[] = {
 *		OPT_U64('n', "rows", &o.n, 1, UINT64_MAX, "how many rows to pick"),
 *		OPT_COMMON(&o.c), OPT_END
 *	};
 *	char **paths = opt_parse(argc, argv, opts, usage, &o.c);
 *
 * The common letters mean the same in every tool: -o -j -m -s -q, --help,
 * --version.  Words may be written --word VALUE or --word=VALUE; options and
 * operands mix; "--" ends options; "-" is an operand.  Misuse (unknown word,
 * missing or out-of-range value) is one line and exit 2; --help goes to
 * stdout and exits 0.
 */
#include "base.h"

#define FEATUREMILL_VERSION "0.1"

enum opt_type { OPT_T_END, OPT_T_FLAG, OPT_T_U64, OPT_T_SIZE, OPT_T_F64, OPT_T_STR, OPT_T_LIST };

struct opt_list {               /* every value of a repeatable option, in order */
	const char **v;
	size_t n;
};

struct opt {
	enum opt_type type;
	char letter;            /* 0: none */
	const char *word;
	void *var;              /* bool, uint64_t, uint64_t, double, const char *, struct opt_list */
	double min, max;        /* U64, SIZE and F64; inclusive */
	const char *arg;        /* placeholder in the help: N, FILE, … */
	const char *help;       /* one phrase; the default is appended from *var */
};

#define OPT_FLAG(l, w, v, h) { OPT_T_FLAG, l, w, v, 0, 0, NULL, h }
#define OPT_U64(l, w, v, lo, hi, h) { OPT_T_U64, l, w, v, (double)(lo), (double)(hi), "N", h }
#define OPT_SIZE(l, w, v, lo, hi, h) { OPT_T_SIZE, l, w, v, (double)(lo), (double)(hi), "SIZE", h }
#define OPT_F64(l, w, v, lo, hi, h) { OPT_T_F64, l, w, v, lo, hi, "X", h }
#define OPT_STR(l, w, v, a, h) { OPT_T_STR, l, w, v, 0, 0, a, h }
#define OPT_LIST(l, w, v, a, h) { OPT_T_LIST, l, w, v, 0, 0, a, h }
#define OPT_END { OPT_T_END, 0, NULL, NULL, 0, 0, NULL, NULL }

struct opt_common {
	const char *output;     /* -o; "-" = stdout */
	uint64_t threads;       /* -j; default: the processors this process may use */
	uint64_t memory;        /* -m, bytes */
	uint64_t seed;          /* -s */
	bool quiet;             /* -q */
	const char *device;     /* --device auto|ref|cpu|cuda|cudasim */
	const char *precision;  /* --precision auto|f32|bf16|tf32 */
};
#define OPT_COMMON_INIT { .output = "-", .threads = 0, .memory = (uint64_t)2 << 30, .seed = 1337, \
	.device = "auto", .precision = "auto" }

#define OPT_OUTPUT(c) OPT_STR('o', "output", &(c)->output, "FILE", "where the result goes")
#define OPT_THREADS(c) OPT_U64('j', "threads", &(c)->threads, 0, 4096, "threads; 0: all processors")
#define OPT_MEMORY(c) OPT_SIZE('m', "memory", &(c)->memory, 1 << 20, 1e18, "memory limit")
#define OPT_SEED(c) OPT_U64('s', "seed", &(c)->seed, 0, 9007199254740992.0, "seed of every random choice")
#define OPT_QUIET(c) OPT_FLAG('q', "quiet", &(c)->quiet, "say nothing but errors")
#define OPT_DEVICE(c) OPT_STR(0, "device", &(c)->device, "NAME", "auto, ref, cpu or cuda"), \
	OPT_STR(0, "precision", &(c)->precision, "NAME", "auto, f32, bf16; tf32 on cuda")

/*
 * Parses; sets base_tool, base_quiet and c->threads (0 becomes the number of
 * processors allowed); --help and --version are always understood.  An output
 * that is a device or a pipe (-o /dev/null) is opened as standard output, and
 * c->output "-": nothing may be renamed to its name.
 * usage: "usage: …\n…e.g.:  …\n", shown on top of the generated table.
 * Returns the operands, NULL-terminated (argv's own strings).
 */
char **opt_parse(int argc, char **argv, const struct opt *opts, const char *usage,
		 struct opt_common *c);
/* Misuse noticed by the tool itself: dies unless exactly one of the words is v. */
size_t opt_choice(const char *word, const char *v, const char *const *choices);

#endif
