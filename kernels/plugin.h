#ifndef PLUGIN_H
#define PLUGIN_H
/*
 * plugin: a backend in a library of its own, opened when it is asked for, so
 * that one binary starts with and without what the library needs.  NAME.so
 * lies beside the programs: bin/gptrain opens lib/NAME.so, bin-address/gptrain
 * lib-address/NAME.so.
 *
 *	struct backend b, exact;
 *	const char *why = plugin_open("cuda", "bf16", &b, &exact);
 *	if (why)
 *		die("device cuda: %s", why);
 */
#include "backend.h"

/* Raised with every change of backend.h or of what follows. */
enum { PLUGIN_ABI = 2 };

/* What the library may call of the program that opened it. */
struct plugin_host {
	void (*die)(const char *fmt, ...) __attribute__((format(printf, 1, 2)));        /* does not return */
	size_t local_rank;      /* of this machine's processes of the job, which: it takes that card, modulo their number */
};

struct plugin {
	uint32_t abi, backend_size;     /* PLUGIN_ABI, sizeof(struct backend) */
	/* Fills both tables, `exact` in f32, but for name and exact; or returns in one line why there is no such
	 * device (static).  Called again for another precision; precision: f32, tf32 or bf16. */
	const char *(*open)(const struct plugin_host *host, const char *precision, struct backend *b,
			    struct backend *exact);
};

/* The one symbol that a library exports. */
extern const struct plugin featuremill_plugin __attribute__((visibility("default")));

/* NULL, or in one line why not (static, until the next call); b->exact becomes exact, names become `name`. */
const char *plugin_open(const char *name, const char *precision, struct backend *b, struct backend *exact);
/* Whether a library of the driver is there: opening the plugin takes a fifth of a second, this none. */
bool plugin_has_driver(const char *library);

#endif
