#include "plugin.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "comm.h"

static char reason[PATH_MAX + 256];

static const char *because(const char *fmt, ...) PRINTF(1, 2);
static const char *because(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(reason, sizeof(reason), fmt, ap);
	va_end(ap);
	for (char *p = reason; *p; p++) /* the loader's words, on our one line */
		if (*p == '\n')
			*p = ' ';
	return reason;
}

/* Cuts the last name off and returns it; "" when there is none. */
static const char *cut(char *path)
{
	char *slash = strrchr(path, '/');

	if (!slash)
		return "";
	*slash = 0;
	return slash + 1;
}

/* X/bin-address/gptrain and X/bin-address/tests/ops: X/lib-address/NAME.so; X/other/gptrain: X/lib/NAME.so */
static bool library_path(char path[PATH_MAX], const char *name)
{
	char exe[PATH_MAX];
	const ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);

	if (n <= 0)
		return false;
	exe[n] = 0;
	cut(exe);
	const char *folder = cut(exe);

	if (!strcmp(folder, "tests"))
		folder = cut(exe);
	return snprintf(path, PATH_MAX, "%s/lib%s/%s.so", exe, strncmp(folder, "bin", 3) ? "" : folder + 3, name) <
	       PATH_MAX;
}

static const char *load(const char *path, const struct plugin **plugin)
{
	if (access(path, R_OK))
		return because("there is no '%s'", path);
	void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);

	if (!library)
		return because("%s", dlerror());
	const struct plugin *p = *plugin = dlsym(library, "featuremill_plugin");

	if (!p)
		return because("'%s' is no plugin of featuremill", path);
	if (p->abi != PLUGIN_ABI || p->backend_size != sizeof(struct backend))
		return because("'%s' is of another version (interface %u with a table of %u bytes, not %d with %zu)",
			       path, p->abi, p->backend_size, PLUGIN_ABI, sizeof(struct backend));
	return NULL;
}

const char *plugin_open(const char *name, const char *precision, struct backend *b, struct backend *exact)
{
	static struct plugin_host host = { .die = die };
	const struct plugin *plugin = NULL;
	char path[PATH_MAX];

	if (!library_path(path, name))
		return because("cannot tell the folder of this program");
	const char *why = load(path, &plugin);

	if (why)
		return why;
	host.local_rank = comm_local_rank();
	why = plugin->open(&host, precision, b, exact);
	if (why)
		return because("%s", why);
	b->name = exact->name = name;
	b->exact = strcmp(precision, "f32") ? exact : b;
	exact->exact = exact;
	return NULL;
}

bool plugin_has_driver(const char *library)
{
	void *p = dlopen(library, RTLD_LAZY | RTLD_LOCAL);

	if (p)
		dlclose(p);
	return p;
}
