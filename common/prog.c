#include "prog.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static struct {
	pthread_mutex_t lock;
	const char *unit;
	uint64_t done, total;
	double start, next;     /* seconds: when it began, when to show again */
	char note[120];
	bool tty, shown;        /* a progress line stands on the terminal */
} p = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* "1.2 GB" */
static void human(char out[16], double bytes)
{
	static const char *const unit[] = { "B", "kB", "MB", "GB", "TB", "PB" };
	size_t u = 0;

	for (; bytes >= 1000 && u + 1 < ARRAY_LEN(unit); u++)
		bytes /= 1000;
	snprintf(out, 16, bytes < 10 && u ? "%.1f %s" : "%.0f %s", bytes, unit[u]);
}

static void clear_line(void)
{
	if (p.shown)
		fputs("\r\033[K", stderr);
	p.shown = false;
}

void prog_clear(void)
{
	pthread_mutex_lock(&p.lock);
	clear_line();
	pthread_mutex_unlock(&p.lock);
}

static void show(double now)
{
	const double secs = now - p.start, rate = secs > 0 ? (double)p.done / secs : 0;
	char line[256];
	int n = snprintf(line, sizeof(line), "%.99s: %llu", base_tool, (unsigned long long)p.done);

	if (p.total)
		n += snprintf(line + n, sizeof(line) - (size_t)n, "/%llu", (unsigned long long)p.total);
	n += snprintf(line + n, sizeof(line) - (size_t)n, " %s, %.4g/s", p.unit, rate);
	if (p.total && p.done && rate > 0 && p.done <= p.total) {
		const unsigned long left = (unsigned long)((double)(p.total - p.done) / rate);

		n += snprintf(line + n, sizeof(line) - (size_t)n, ", %lu:%02lu:%02lu left",
			      left / 3600, left / 60 % 60, left % 60);
	}
	fprintf(stderr, "%s%s%s%s%s", p.tty ? "\r" : "", line, p.note[0] ? "  " : "", p.note,
		p.tty ? "\033[K" : "\n");
	p.shown = p.tty;
	p.next = now + (p.tty ? 0.2 : 60);
}

void prog_start(const char *unit, uint64_t total)
{
	pthread_mutex_lock(&p.lock);
	clear_line();
	p.unit = unit;
	p.done = 0;
	p.total = total;
	p.start = now_secs();
	p.tty = isatty(STDERR_FILENO);
	p.next = p.start + (p.tty ? 0.2 : 60);
	p.note[0] = 0;
	pthread_mutex_unlock(&p.lock);
}

void prog_step(uint64_t n)
{
	pthread_mutex_lock(&p.lock);
	p.done += n;
	if (!base_quiet && p.unit) {
		const double now = now_secs();

		if (now >= p.next)
			show(now);
	}
	pthread_mutex_unlock(&p.lock);
}

void prog_note(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	pthread_mutex_lock(&p.lock);
	vsnprintf(p.note, sizeof(p.note), fmt, ap);
	pthread_mutex_unlock(&p.lock);
	va_end(ap);
}

void prog_line(const char *fmt, ...)
{
	struct buf b = { 0 };
	va_list ap;

	if (base_quiet)
		return;
	va_start(ap, fmt);
	buf_printf(&b, "%s: ", base_tool);
	buf_vprintf(&b, fmt, ap);
	buf_add(&b, "\n", 1);
	va_end(ap);
	pthread_mutex_lock(&p.lock);
	clear_line();
	fputs(b.p, stderr);
	pthread_mutex_unlock(&p.lock);
	buf_free(&b);
}

void prog_finish(uint64_t bytes_in, uint64_t bytes_out)
{
	struct rusage r;
	char in[16], out[16], peak[16];
	const double wall = now_secs() - p.start;

	getrusage(RUSAGE_SELF, &r);
	human(in, (double)bytes_in);
	human(out, (double)bytes_out);
	human(peak, (double)r.ru_maxrss * 1024);
	prog_line("%llu %s, %s in, %s out, %.4g %s/s, %.1f s wall, %.1f s cpu, %s peak",
		  (unsigned long long)p.done, p.unit ? p.unit : "rows", in, out,
		  wall > 0 ? (double)p.done / wall : 0, p.unit ? p.unit : "rows", wall,
		  (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) +
			  (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) * 1e-6, peak);
	p.unit = NULL;
}
