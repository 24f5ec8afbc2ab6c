#include "cpu.h"

#include "cpu_bf16.h"
#include "ref.h"
#include "shard.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- instruction sets ---- */

const struct cpu_kernels *cpu_k = &cpu_kernels_plain;

static const struct cpu_kernels *usable(size_t level)
{
#if defined(__x86_64__)
	if (level == 2)
		return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
			__builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") ?
			&cpu_kernels_avx512 : NULL;
	if (level == 1)
		return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? &cpu_kernels_avx2 : NULL;
#endif
	return level == 0 ? &cpu_kernels_plain : NULL;
}

bool cpu_use_isa(const char *name)
{
	for (size_t level = 0; level < 3; level++) {
		const struct cpu_kernels *k = usable(level);

		if (k && !strcmp(k->name, name)) {
			cpu_k = k;
			return true;
		}
	}
	return false;
}

/* ---- scratch ---- */

struct arena {
	float *p;
	size_t n;
};

static float *grow(struct arena *a, size_t floats)
{
	if (a->n < floats) {
		free(a->p);
		a->p = xaligned(xmul(floats, sizeof(float)));
		a->n = floats;
	}
	return a->p;
}

float *cpu_op_scratch(size_t floats)
{
	static _Thread_local struct arena a;

	return grow(&a, floats);
}

float *cpu_operand_scratch(size_t floats)
{
	static _Thread_local struct arena a;

	return grow(&a, floats);
}

float *cpu_block_scratch(size_t floats)
{
	static _Thread_local struct arena a;

	return grow(&a, floats);
}

/* ---- ranges of values ---- */

enum { RANGE = 16384 };         /* values of a block */

struct range {
	float *y, *m, *v;
	const float *x, *z;
	size_t n;
	struct adamw k;
	enum dtype type;
	double *sums;
};

static size_t range_at(const struct range *r, size_t block, size_t *from)
{
	*from = block * RANGE;
	return cpu_min(RANGE, r->n - *from);
}

static void for_ranges(struct range *r, void (*block)(void *arg, size_t i))
{
	pool_for(cpu_blocks(r->n, RANGE), block, r);
}

static void gelu_fwd_block(void *arg, size_t i)
{
	const struct range *r = arg;
	size_t from, n = range_at(r, i, &from);

	cpu_k->gelu_fwd(r->y + from, r->x + from, n);
}

static void cpu_gelu_fwd(float *y, const float *x, size_t n)
{
	for_ranges(&(struct range){ .y = y, .x = x, .n = n }, gelu_fwd_block);
}

static void gelu_bwd_block(void *arg, size_t i)
{
	const struct range *r = arg;
	size_t from, n = range_at(r, i, &from);

	cpu_k->gelu_bwd(r->y + from, r->x + from, r->z + from, n);
}

static void cpu_gelu_bwd(float *dx, const float *dy, const float *x, size_t n)
{
	for_ranges(&(struct range){ .y = dx, .x = dy, .z = x, .n = n }, gelu_bwd_block);
}

static void add_block(void *arg, size_t i)
{
	const struct range *r = arg;
	size_t from, n = range_at(r, i, &from);

	cpu_k->axpy(r->y + from, 1, r->x + from, n);
}

static void cpu_add(float *y, const float *x, size_t n)
{
	for_ranges(&(struct range){ .y = y, .x = x, .n = n }, add_block);
}

/* Of a range, through the type itself; *count = how many do not fit */
static void round_range(float *x, size_t n, enum dtype t, double *count)
{
	uint16_t stored[1024];
	size_t bad = 0;

	for (size_t at = 0, k; at < n; at += k) {
		k = cpu_min(ARRAY_LEN(stored), n - at);
		if (t != DT_F32) {
			dtype_from_f32(t, stored, x + at, k);
			dtype_to_f32(t, x + at, stored, k);
		}
	}
	for (size_t i = 0; i < n; i++)
		bad += !(fabsf(x[i]) < INFINITY);
	*count = (double)bad;
}

static void round_block(void *arg, size_t i)
{
	const struct range *r = arg;
	size_t from, n = range_at(r, i, &from);

	round_range(r->y + from, n, r->type, r->sums + i);
}

static void cpu_round_rows(float *x, size_t n, unsigned digits, uint64_t *unfit)
{
	const size_t blocks = cpu_blocks(n, RANGE);
	struct range r = { .y = x, .n = n, .type = dtype_of_digits(digits),
		.sums = (double *)(void *)cpu_op_scratch(2 * blocks) };

	for_ranges(&r, round_block);
	for (size_t i = 0; i < blocks; i++)
		*unfit += (uint64_t)r.sums[i];
}

static void zero_block(void *arg, size_t i)
{
	const struct range *r = arg;
	size_t from, n = range_at(r, i, &from);

	memset(r->y + from, 0, n * sizeof(float));
}

static void cpu_zero(void *p, size_t bytes)
{
	const size_t whole = bytes / sizeof(float);

	for_ranges(&(struct range){ .y = p, .n = whole }, zero_block);
	memset((char *)p + whole * sizeof(float), 0, bytes - whole * sizeof(float));
}

static void adamw_block(void *arg, size_t i)
{
	const struct range *r = arg;
	size_t from, n = range_at(r, i, &from);

	cpu_k->adamw(r->y + from, r->x + from, r->m + from, r->v + from, n, &r->k);
}

static void cpu_adamw(float *p, const float *g, float *m, float *v, size_t n, const double *gscale, double lr,
		      double beta1, double beta2, double eps, double wd, uint64_t t)
{
	struct range r = { .y = p, .x = g, .m = m, .v = v, .n = n };

	r.k.gscale = gscale ? (float)*gscale : 1;
	r.k.beta1 = (float)beta1;
	r.k.keep1 = (float)(1 - beta1);
	r.k.beta2 = (float)beta2;
	r.k.keep2 = (float)(1 - beta2);
	r.k.step = (float)(lr / (1 - pow(beta1, (double)t)));
	r.k.inv_root = (float)(1 / sqrt(1 - pow(beta2, (double)t)));
	r.k.eps = (float)eps;
	r.k.decay = (float)(1 - lr * wd);
	for_ranges(&r, adamw_block);
}

static void sumsq_block(void *arg, size_t i)
{
	const struct range *r = arg;
	size_t from, n = range_at(r, i, &from);

	for (size_t at = from; at < from + n; at += 1024) {
		const size_t k = cpu_min(1024, from + n - at);

		r->sums[i] += (double)cpu_k->dot(r->x + at, r->x + at, k);
	}
}

static double cpu_sumsq(const float *x, size_t n)
{
	const size_t blocks = cpu_blocks(n, RANGE);
	struct range r = { .x = x, .n = n, .sums = (double *)(void *)cpu_op_scratch(2 * blocks) };
	double sum = 0;

	memset(r.sums, 0, blocks * sizeof(*r.sums));
	for_ranges(&r, sumsq_block);
	for (size_t i = 0; i < blocks; i++)
		sum += r.sums[i];
	return sum;
}

static void cpu_clip(double norm[2], const float *g, size_t n, double max)
{
	clip_to(norm, cpu_sumsq(g, n), max);
}

static void fill(struct backend *b, bool bf16)
{
	backend_ref(b);
	b->name = "cpu";
	b->precision = bf16 ? "bf16" : "f32";
	for (size_t level = 0; level < 3; level++)
		if (usable(level))
			cpu_k = usable(level);
	b->zero = cpu_zero;
	b->gelu_fwd = cpu_gelu_fwd;
	b->gelu_bwd = cpu_gelu_bwd;
	b->add = cpu_add;
	b->round_rows = cpu_round_rows;
	b->adamw = cpu_adamw;
	b->clip = cpu_clip;
	b->sumsq = cpu_sumsq;
	cpu_rows(b);
	cpu_linear(b, bf16);
	cpu_attention(b);
	cpu_head(b, bf16);
	cpu_sae(b, bf16);
}

void backend_cpu(struct backend *b)
{
	fill(b, false);
}

void backend_cpu_bf16(struct backend *b, const struct backend *exact)
{
	cpu_bf16_best();
	fill(b, true);
	b->exact = exact;
}
