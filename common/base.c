#include "base.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <sys/mman.h>
#include <unistd.h>

const char *base_tool = "featuremill";
bool base_quiet;

/* One line, one write, so that lines of several processes do not mix.  On a terminal it takes
 * the place of a progress line. */
static void emit(const char *tail, const char *fmt, va_list ap)
{
	char line[4096];
	const char *clear = isatty(STDERR_FILENO) ? "\r\033[K" : "";
	const int start = snprintf(line, sizeof(line), "%s%.99s: ", clear, base_tool);
	int n = start;

	n += vsnprintf(line + n, sizeof(line) - (size_t)n - 1, fmt, ap);
	if (tail && n < (int)sizeof(line) - 1)
		n += snprintf(line + n, sizeof(line) - (size_t)n - 1, ": %s", tail);
	if (n > (int)sizeof(line) - 2)
		n = (int)sizeof(line) - 2;
	for (int i = start; i < n; i++) /* names of files may hold anything */
		if ((unsigned char)line[i] < ' ' || line[i] == 0x7f)
			line[i] = ' ';
	line[n++] = '\n';
	(void)!write(STDERR_FILENO, line, (size_t)n);
}

/* ---- the end ---- */

static struct {
	void (*fn[8])(void);
	size_t n;
} ends;

/* The first thread to fail says why and ends the process; others wait for the end. */
static void only_one(void)
{
	static pthread_mutex_t once = PTHREAD_MUTEX_INITIALIZER;

	pthread_mutex_lock(&once);
}

static struct {
	void (*before)(void);
	void (*after)(int status);
} many;

void base_of_many(void (*before)(void), void (*after)(int status))
{
	many.before = before;
	many.after = after;
}

static void last_line(void)
{
	if (many.before)
		many.before();
	only_one();
}

static void run_ends(void)
{
	while (ends.n > 0)
		ends.fn[--ends.n]();
}

/* Not exit: it would take libraries down under the threads that are still at work in them. */
static _Noreturn void leave(int status)
{
	run_ends();
	fflush(stdout);
	if (many.after)
		many.after(status);
	_exit(status);
}

/* Of a signal: it takes its usual course, only later. */
static _Noreturn void die_signal(int signo)
{
	only_one();
	run_ends();
	signal(signo, SIG_DFL);
	raise(signo);
	_exit(128 + signo);     /* it is blocked */
}

static int signal_pipe[2] = { -1, -1 };

/* The handler only passes the signal on; a thread may do what a handler may not. */
static void on_signal(int signo)
{
	const unsigned char s = (unsigned char)signo;

	(void)!write(signal_pipe[1], &s, 1);
}

static void *signal_thread(void *arg)
{
	unsigned char s;

	while (read(signal_pipe[0], &s, 1) != 1)
		;
	die_signal(s);
	return arg;
}

/* A write to a closed pipe returns, so that write_full ends the process in good order. */
static void on_closed_pipe(int signo)
{
	(void)signo;
}

static void watch_signal(int signo, void (*fn)(int))
{
	struct sigaction now, act = { .sa_handler = fn, .sa_flags = SA_RESTART };

	if (sigaction(signo, NULL, &now) == 0 && now.sa_handler != SIG_IGN)
		sigaction(signo, &act, NULL);
}

static void watch_signals(void)
{
	static const int fatal[] = { SIGINT, SIGTERM, SIGHUP };
	pthread_t id;

	if (pipe2(signal_pipe, O_CLOEXEC) != 0)
		die_errno("cannot make a pipe");
	if ((errno = pthread_create(&id, NULL, signal_thread, NULL)) != 0)
		die_errno("cannot start a thread");
	pthread_detach(id);
	for (size_t i = 0; i < ARRAY_LEN(fatal); i++)
		watch_signal(fatal[i], on_signal);
	watch_signal(SIGPIPE, on_closed_pipe);
}

void base_at_end(void (*fn)(void))
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	if (ends.n == ARRAY_LEN(ends.fn) || atexit(fn) != 0)
		BUG("too many functions for the end");
	ends.fn[ends.n++] = fn;
	pthread_once(&once, watch_signals);
}

void die(const char *fmt, ...)
{
	va_list ap;

	last_line();
	va_start(ap, fmt);
	emit(NULL, fmt, ap);
	va_end(ap);
	leave(1);
}

void die_errno(const char *fmt, ...)
{
	const char *why = strerror(errno);
	va_list ap;

	last_line();
	va_start(ap, fmt);
	emit(why, fmt, ap);
	va_end(ap);
	leave(1);
}

void die_usage(const char *fmt, ...)
{
	va_list ap;

	last_line();
	va_start(ap, fmt);
	emit("see --help", fmt, ap);
	va_end(ap);
	leave(2);
}

void base_bug(const char *file, int line, const char *fmt, ...)
{
	char at[256];
	va_list ap;

	snprintf(at, sizeof(at), "a bug at %s:%d", file, line);
	va_start(ap, fmt);
	emit(at, fmt, ap);
	va_end(ap);
	abort();
}

void warn(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	emit(NULL, fmt, ap);
	va_end(ap);
}

void say(const char *fmt, ...)
{
	va_list ap;

	if (base_quiet)
		return;
	va_start(ap, fmt);
	emit(NULL, fmt, ap);
	va_end(ap);
}

static void *some(void *p, size_t bytes)
{
	if (!p)
		die("out of memory: %zu bytes more are not to be had", bytes);
	return p;
}

/* Frames of a megabyte come and go; page by page from the system they cost a tenth of shuffle's time. */
void keep_freed(void)
{
	mallopt(M_MMAP_THRESHOLD, 32 << 20);
	mallopt(M_TRIM_THRESHOLD, 64 << 20);
}

size_t xmul(size_t a, size_t b)
{
	size_t c;

	if (__builtin_mul_overflow(a, b, &c))
		die("out of memory: %zu times %zu bytes are more than can be addressed", a, b);
	return c;
}

void *xmalloc(size_t bytes)
{
	return some(malloc(bytes ? bytes : 1), bytes);
}

void *xcalloc(size_t n, size_t size)
{
	const size_t bytes = xmul(n, size);

	return some(calloc(bytes ? bytes : 1, 1), bytes);
}

void *xrealloc(void *p, size_t n, size_t size)
{
	const size_t bytes = xmul(n, size);

	return some(realloc(p, bytes ? bytes : 1), bytes);
}

void *xtable(size_t bytes)
{
	enum { PAGE = 2 << 20 };
	void *p = NULL;

	bytes = (bytes + PAGE - 1) / PAGE * PAGE;
	if (posix_memalign(&p, PAGE, bytes) != 0)
		p = NULL;
	madvise(some(p, bytes), bytes, MADV_HUGEPAGE); /* slower without, not wrong */
	return memset(p, 0, bytes);
}

void *xaligned(size_t bytes)
{
	void *p = NULL;

	if (posix_memalign(&p, 64, bytes ? bytes : 64) != 0)
		p = NULL;
	return memset(some(p, bytes), 0, bytes);
}

char *xstrdup(const char *s)
{
	return some(strdup(s), strlen(s));
}

char *xformat(const char *fmt, ...)
{
	char *s = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&s, fmt, ap) < 0)
		s = NULL;
	va_end(ap);
	return some(s, strlen(fmt));
}

void buf_reserve(struct buf *b, size_t more)
{
	if (more + 1 <= b->cap - b->n)
		return;
	size_t cap = b->cap ? b->cap : 64;

	while (cap - b->n < more + 1)
		cap = xmul(cap, 2);
	b->p = xrealloc(b->p, cap, 1);
	b->cap = cap;
}

void buf_add(struct buf *b, const void *p, size_t bytes)
{
	buf_reserve(b, bytes);
	if (bytes)
		memcpy(b->p + b->n, p, bytes);
	b->n += bytes;
	b->p[b->n] = 0;
}

void buf_vprintf(struct buf *b, const char *fmt, va_list ap)
{
	va_list again;

	buf_reserve(b, 64);
	va_copy(again, ap);
	const size_t n = (size_t)vsnprintf(b->p + b->n, b->cap - b->n, fmt, again);
	va_end(again);
	if (n >= b->cap - b->n) {       /* it did not fit: once more, now that its length is known */
		buf_reserve(b, n);
		vsnprintf(b->p + b->n, n + 1, fmt, ap);
	}
	b->n += n;
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	buf_vprintf(b, fmt, ap);
	va_end(ap);
}

void buf_clear(struct buf *b)
{
	b->n = 0;
	if (b->p)
		b->p[0] = 0;
}

void buf_free(struct buf *b)
{
	free(b->p);
	*b = (struct buf){ 0 };
}

static size_t read_some(int fd, void *p, size_t bytes, const uint64_t *at, const char *name)
{
	size_t done = 0;

	while (done < bytes) {
		char *to = (char *)p + done;
		const ssize_t n = at ? pread(fd, to, bytes - done, (off_t)(*at + done))
				     : read(fd, to, bytes - done);

		if (n == 0)
			break;
		if (n > 0)
			done += (size_t)n;
		else if (errno != EINTR)
			die_errno("cannot read '%s'", name);
	}
	return done;
}

size_t read_full(int fd, void *p, size_t bytes, const char *name)
{
	return read_some(fd, p, bytes, NULL, name);
}

size_t pread_full(int fd, void *p, size_t bytes, uint64_t at, const char *name)
{
	return read_some(fd, p, bytes, &at, name);
}

/* Reached only when something stands in for SIGPIPE's default, which ends the process at once. */
static void pipe_closed(void)
{
	struct sigaction now;

	if (sigaction(SIGPIPE, NULL, &now) == 0 && now.sa_handler != SIG_IGN)
		die_signal(SIGPIPE);
}

void write_full(int fd, const void *p, size_t bytes, const char *name)
{
	size_t done = 0;

	while (done < bytes) {
		const ssize_t n = write(fd, (const char *)p + done, bytes - done);

		if (n >= 0)
			done += (size_t)n;
		else if (errno == EPIPE)
			pipe_closed();
		if (n < 0 && errno != EINTR)
			die_errno("cannot write '%s'", name);
	}
}

void read_file(const char *path, struct buf *b, size_t limit)
{
	const bool std = !strcmp(path, "-");
	const int fd = std ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
	size_t n;

	if (fd < 0)
		die_errno("cannot open '%s'", path);
	buf_clear(b);
	do {
		buf_reserve(b, 1 << 16);
		n = read_full(fd, b->p + b->n, b->cap - b->n - 1, path);
		b->n += n;
		if (b->n > limit)
			die("'%s' is larger than %zu bytes", path, limit);
	} while (n > 0);
	b->p[b->n] = 0;
	if (!std)
		close(fd);
}

bool parse_u64(const char *s, uint64_t *v)
{
	char *end;

	if (*s < '0' || *s > '9')
		return false;
	errno = 0;
	const unsigned long long x = strtoull(s, &end, 10);

	if (errno || *end)
		return false;
	*v = x;
	return true;
}

bool parse_size(const char *s, uint64_t *v)
{
	static const char units[] = "KMGT";
	const size_t n = strlen(s);
	const char *unit = n > 1 ? strchr(units, s[n - 1]) : NULL;
	const unsigned shift = unit ? 10 * (unsigned)(unit - units + 1) : 0;
	char digits[24];
	uint64_t x;

	if (n - (unit != NULL) >= sizeof(digits))
		return false;
	memcpy(digits, s, n - (unit != NULL));
	digits[n - (unit != NULL)] = 0;
	if (!parse_u64(digits, &x) || (x << shift) >> shift != x)
		return false;
	*v = x << shift;
	return true;
}

bool parse_double(const char *s, double *v)
{
	char *end;
	const double x = strtod(s, &end);

	if (!*s || *end || !isfinite(x) || *s == ' ')
		return false;
	*v = x;
	return true;
}

double now_secs(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

size_t processors(void)
{
	cpu_set_t set_of;

	return sched_getaffinity(0, sizeof(set_of), &set_of) == 0 ? (size_t)CPU_COUNT(&set_of) : 1;
}
