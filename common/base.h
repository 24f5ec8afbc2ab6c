#ifndef BASE_H
#define BASE_H
/*
 * base: what every file needs -- ending with one clear line, memory that is
 * never NULL, reads and writes that are never short.
 *
 *	float *x = xcalloc(rows, sizeof(*x));
 *	if (rows > limit)
 *		die("'%s' has %llu rows; at most %llu fit", path, rows, limit);
 *
 * Messages go to stderr as "<tool>: <text>\n" in a single write.
 */
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PRINTF(f, a) __attribute__((format(printf, f, a)))
#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

extern const char *base_tool;   /* name in messages; set by opt_parse */
extern bool base_quiet;         /* -q: say() is silent */

/* The user's trouble: one line, exit 1.  die_errno appends ": strerror(errno)". */
_Noreturn void die(const char *fmt, ...) PRINTF(1, 2);
_Noreturn void die_errno(const char *fmt, ...) PRINTF(1, 2);
/* Misuse of the command line: one line, exit 2. */
_Noreturn void die_usage(const char *fmt, ...) PRINTF(1, 2);
/* Our trouble: file and line, abort. */
#define BUG(...) base_bug(__FILE__, __LINE__, __VA_ARGS__)
_Noreturn void base_bug(const char *file, int line, const char *fmt, ...) PRINTF(3, 4);
/* fn runs when the process ends, by exit, die, INT, TERM, HUP or a closed pipe; the last one first. */
void base_at_end(void (*fn)(void));
/* Of a process that is one of many: `before` runs before a last line is said, `after` with the status
 * when everything else is done. */
void base_of_many(void (*before)(void), void (*after)(int status));
void warn(const char *fmt, ...) PRINTF(1, 2);
void say(const char *fmt, ...) PRINTF(1, 2);    /* information; silent with -q */

/* Memory: die when there is none; products are checked for overflow. */
void *xmalloc(size_t bytes);
void *xcalloc(size_t n, size_t size);           /* zeroed */
void *xrealloc(void *p, size_t n, size_t size);
void *xaligned(size_t bytes);                   /* 64-byte aligned, zeroed; free() it */
void *xtable(size_t bytes);                     /* zeroed, in large pages where there are some; free() it */
char *xstrdup(const char *s);
char *xformat(const char *fmt, ...) PRINTF(1, 2);       /* caller frees */
void keep_freed(void);                          /* up to 64 MB stay, for the next of the same size */
size_t xmul(size_t a, size_t b);

/* A growing byte buffer; p stays NUL-terminated behind n.  Zero-initialise; free with buf_free. */
struct buf {
	char *p;
	size_t n, cap;
};
void buf_add(struct buf *b, const void *p, size_t bytes);
void buf_reserve(struct buf *b, size_t more);    /* room for so many bytes behind n */
void buf_printf(struct buf *b, const char *fmt, ...) PRINTF(2, 3);
void buf_vprintf(struct buf *b, const char *fmt, va_list ap) PRINTF(2, 0);
void buf_clear(struct buf *b);          /* keeps the memory */
void buf_free(struct buf *b);

/* Descriptor I/O, restarted on EINTR and short counts.  name: for the message.  A pipe that
 * nobody reads any more ends the process quietly, unless SIGPIPE is ignored. */
size_t read_full(int fd, void *p, size_t bytes, const char *name);      /* less only at the end */
size_t pread_full(int fd, void *p, size_t bytes, uint64_t at, const char *name);
void write_full(int fd, const void *p, size_t bytes, const char *name);
/* The whole of a file ("-": stdin) in *b; dies when it cannot be read or exceeds limit bytes. */
void read_file(const char *path, struct buf *b, size_t limit);

/* Numbers from text: whole string, range-checked; false when it is not one. */
bool parse_u64(const char *s, uint64_t *v);     /* decimal */
bool parse_size(const char *s, uint64_t *v);    /* decimal with K M G T, powers of 1024 */
bool parse_double(const char *s, double *v);    /* finite */

double now_secs(void);          /* monotonic */
size_t processors(void);        /* that this process may run on */

#endif
