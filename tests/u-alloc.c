/*
 * Steps allocate nothing: our calls of malloc and its kin are counted over steps after the first.
 * Those of the library of matrix products, which makes handles and room of its own at every call,
 * are not ours.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "gpt.h"
#include "pool.h"
#include "sae.h"

static atomic_size_t calls;

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && defined(__GLIBC__)
enum { COUNTS = 1 };
void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t bytes);
void *__libc_memalign(size_t align, size_t bytes);

extern const char __executable_start[], etext[];

static void count(const void *caller)
{
	const uintptr_t at = (uintptr_t)caller;

	if (at >= (uintptr_t)__executable_start && at < (uintptr_t)etext)
		atomic_fetch_add(&calls, 1);
}
#define COUNT() count(__builtin_return_address(0))

void *malloc(size_t bytes)
{
	COUNT();
	return __libc_malloc(bytes);
}

void *calloc(size_t n, size_t size)
{
	COUNT();
	return __libc_calloc(n, size);
}

void *realloc(void *p, size_t bytes)
{
	COUNT();
	return __libc_realloc(p, bytes);
}

void *aligned_alloc(size_t align, size_t bytes)
{
	COUNT();
	return __libc_memalign(align, bytes);
}

int posix_memalign(void **p, size_t align, size_t bytes)
{
	COUNT();
	*p = __libc_memalign(align, bytes);
	return *p ? 0 : ENOMEM;
}
#else
enum { COUNTS = 0 };    /* malloc is the sanitizer's */
#endif

enum { B = 2, T = 96, V = 1000, N = 700, D = 64, F = 300, STEPS = 3 };

static void gpt_steps(struct gpt *g, const int32_t *idx)
{
	static const struct gpt_hyper h = { 0.9, 0.95, 1e-8, 0.1, 1 };

	gpt_zero_grads(g);
	gpt_step(g, idx, idx + 1, B, T, 0.5);
	gpt_step(g, idx, idx + 1, B, T, 0.5);
	gpt_update(g, &h, 1e-3);
}

static size_t in_gpt(const struct backend *be)
{
	const struct gpt_config c = { 2, 2, 32, T, V, true };
	struct gpt *g = gpt_new(be, &c, B, GPT_TRAIN);
	int32_t idx[B * T + 1];

	for (size_t i = 0; i < ARRAY_LEN(idx); i++)
		idx[i] = (int32_t)(i * 7 % V);
	gpt_init(g, 1);
	gpt_steps(g, idx);      /* the first may make scratch memory */
	const size_t before = atomic_load(&calls);

	for (size_t i = 0; i < STEPS; i++)
		gpt_steps(g, idx);
	const size_t n = atomic_load(&calls) - before;

	gpt_free(g);
	return n;
}

/* shift: of the encoder's bias; few latents are active, or about half. */
static size_t in_sae(const struct backend *be, float shift)
{
	struct sae *s = sae_new(be, D, F, N, SAE_TRAIN);
	float *x = xcalloc(N * D, sizeof(*x)), bias[F];

	for (size_t i = 0; i < N * D; i++)
		x[i] = (float)(i * 37 % 101) / 50 - 1;
	for (size_t i = 0; i < F; i++)
		bias[i] = shift;
	sae_init(s, 1);
	be->put(s->p.b_enc, bias, sizeof(bias));
	sae_step(s, x, N, 2e-3, 1e-4);
	sae_normalise(s);
	const size_t before = atomic_load(&calls);

	for (size_t i = 0; i < STEPS; i++) {
		sae_step(s, x, N, 2e-3, 1e-4);
		sae_normalise(s);
	}
	const size_t n = atomic_load(&calls) - before;

	sae_free(s);
	free(x);
	return n;
}

int main(void)
{
	const char *const precision[] = { "f32", "bf16" };

	base_quiet = true;
	pool_start(1);  /* a thread makes its scratch memory with its first block, whenever that comes */
	free(xmalloc(1));
	check(!COUNTS || atomic_load(&calls) > 0, "calls are counted");
	for (size_t i = 0; i < ARRAY_LEN(precision); i++) {
		const struct backend *be = backend_open("cpu", precision[i]);

		check(in_gpt(be) == 0, "gpt_step and gpt_update allocate nothing, %s", precision[i]);
		check(in_sae(be, -1) == 0, "sae_step allocates nothing, sparse, %s", precision[i]);
		check(in_sae(be, 0) == 0, "sae_step allocates nothing, dense, %s", precision[i]);
	}
	return check_done();
}
