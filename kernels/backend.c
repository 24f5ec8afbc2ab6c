#include "backend.h"

#include <string.h>

#include "opt.h"

/* A table is functions behind a name; an empty slot is an op that its backend forgot. */
static void check_complete(const struct backend *b)
{
	typedef void (*op)(void);
	const size_t from = offsetof(struct backend, alloc) / sizeof(op), n = sizeof(*b) / sizeof(op);
	op ops[sizeof(*b) / sizeof(op)];

	_Static_assert(sizeof(*b) % sizeof(op) == 0, "the table holds pointers only");
	memcpy(ops, b, sizeof(ops));
	for (size_t i = from; i < n; i++)
		if (!ops[i])
			die("device %s lacks op %zu of its table", b->name, i - from);
}

const struct backend *backend_open(const char *device, const char *precision)
{
	enum { AUTO, REF, CPU, CUDA };
	static const char *const devices[] = { "auto", "ref", "cpu", "cuda", NULL };
	static const char *const precisions[] = { "auto", "f32", "bf16", NULL };
	static struct backend ref, cpu;
	const size_t d = opt_choice("--device", device, devices);
	const bool bf16 = opt_choice("--precision", precision, precisions) == 2;
	struct backend *b = d == REF ? &ref : &cpu;

	if (d == CUDA)
		die("no device cuda in this build; take auto, ref or cpu");
	if (bf16)
		die("device %s computes in f32 only, not in bf16", d == REF ? "ref" : "cpu");
	if (d == REF)
		backend_ref(b);
	else
		backend_cpu(b);
	check_complete(b);
	say("device %s, precision f32", b->name);
	return b;
}
