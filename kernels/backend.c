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

enum { AUTO, REF, CPU, CUDA, F32 = 1, BF16 };
static const char *const devices[] = { "auto", "ref", "cpu", "cuda", NULL };
static const char *const precisions[] = { "auto", "f32", "bf16", NULL };

static size_t precision_of(size_t device, const char *precision)
{
	const size_t p = opt_choice("--precision", precision, precisions);

	if (device == REF && p == BF16)
		die("device ref computes in f32 only, not in bf16");
	return p != AUTO ? p : device != REF && backend_cpu_has_tiles() ? BF16 : F32;
}

const char *backend_precision(const char *device, const char *precision)
{
	return precision_of(opt_choice("--device", device, devices), precision) == BF16 ? "bf16" : precision;
}

const struct backend *backend_open(const char *device, const char *precision)
{
	static struct backend ref, cpu, cpu_bf16;
	const size_t d = opt_choice("--device", device, devices), p = precision_of(d, precision);
	struct backend *b = d == REF ? &ref : &cpu;

	if (d == CUDA)
		die("no device cuda in this build; take auto, ref or cpu");
	if (d == REF)
		backend_ref(b);
	else
		backend_cpu(b);
	if (p == BF16) {
		b = &cpu_bf16;
		backend_cpu_bf16(b, &cpu);
	}
	check_complete(b);
	say("device %s, precision %s", b->name, b->precision);
	return b;
}
