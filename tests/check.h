#ifndef CHECK_H
#define CHECK_H
/*
 * check: TAP from a C test.  check(cond, "name", …) is one test line;
 * `return check_done();` prints the plan and is the exit status.
 */
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

static int check_count, check_failed;

__attribute__((format(printf, 2, 3)))
static inline bool check(bool cond, const char *fmt, ...)
{
	va_list ap;

	printf("%sok %d - ", cond ? "" : "not ", ++check_count);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	fflush(stdout);
	check_failed += !cond;
	return cond;
}

static inline int check_done(void)
{
	printf("1..%d\n", check_count);
	return check_failed > 0 || check_count == 0;
}

#endif
