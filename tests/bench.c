/*
 * bench [threads [name [isa [bf16 units]]]] -- time of each op of the cpu backend at the sizes
 * of the demo and of the published run, in bf16 if asked (isa, units: "best" or a name), its rate, and its share of the
 * multiply-add limit of that precision measured in the same run; ref's rate beside it, on less.
 * Rates are per second of processor time, since others may share the machine.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backend.h"
#include "cpu_bf16.h"
#include "rng.h"

struct work {
	const struct backend *be;
	size_t N, C, V, T, NH, D, F;
	double at;              /* mean of b_enc */
	float *a[12];
	int32_t *idx;
	double l0;              /* found: active latents a row */
};

static float *values(size_t n, double scale, double shift)
{
	static uint64_t stream;
	float *p = xaligned(n * sizeof(*p));
	uint64_t h = rng_hash(1, RNG_TEST, stream++, 0);

	for (size_t i = 0; i < n; i++) {        /* about normal: the sum of four bytes */
		h = h * 6364136223846793005u + 1442695040888963407u;
		const uint64_t b = h >> 32;
		const double sum = (double)((b & 255) + (b >> 8 & 255) + (b >> 16 & 255) + (b >> 24));

		p[i] = (float)(shift + scale * (sum - 510) / 147.8);
	}
	return p;
}

static int32_t *tokens(size_t n, size_t V)
{
	int32_t *p = xaligned(n * sizeof(*p));

	for (size_t i = 0; i < n; i++)
		p[i] = (int32_t)rng_below(rng_hash(2, RNG_TEST, 0, i), V);
	return p;
}

/* ---- works: prepare fills w->a once; run is what is timed; flops of one run ---- */

static void head_prepare(struct work *w)
{
	w->a[0] = values(w->N, 0, 0), w->a[1] = values(w->N * w->C, 0, 0), w->a[2] = values(w->V * w->C, 0, 0);
	w->a[3] = values(w->N * w->C, 1, 0), w->a[4] = values(w->V * w->C, 0.1, 0);
	w->idx = tokens(w->N, w->V);
}

static void head_train(struct work *w)
{
	w->be->lmhead(w->a[0], w->a[1], w->a[2], w->a[3], w->a[4], w->idx, 1e-3, w->N, w->C, w->V);
}

static double head_train_flops(const struct work *w)
{
	return 6.0 * (double)w->N * (double)w->C * (double)w->V;
}

static void head_eval(struct work *w)
{
	w->be->lmhead(w->a[0], NULL, NULL, w->a[3], w->a[4], w->idx, 1, w->N, w->C, w->V);
}

static double head_eval_flops(const struct work *w)
{
	return head_train_flops(w) / 3;
}

static void attention_prepare(struct work *w)
{
	const size_t n = w->N * w->C;

	w->a[0] = values(n, 0, 0), w->a[1] = values(w->N * w->NH, 0, 0), w->a[2] = values(3 * n, 1, 0);
	w->a[3] = values(3 * n, 0, 0), w->a[4] = values(n, 1, 0);
}

static void attention_fwd(struct work *w)
{
	w->be->attention_fwd(w->a[0], w->a[1], w->a[2], w->N / w->T, w->T, w->C, w->NH);
}

static double attention_fwd_flops(const struct work *w)
{
	return 2.0 * (double)w->N * (double)w->C * (double)(w->T + 1);
}

static void attention_bwd(struct work *w)
{
	w->be->attention_bwd(w->a[3], w->a[4], w->a[0], w->a[1], w->a[2], w->N / w->T, w->T, w->C, w->NH);
}

static double attention_bwd_flops(const struct work *w)
{
	return 2.5 * attention_fwd_flops(w);
}

static void linear_prepare(struct work *w)
{
	w->a[0] = values(w->N * w->F, 0, 0), w->a[1] = values(w->N * w->D, 1, 0), w->a[2] = values(w->F * w->D, 1, 0);
	w->a[3] = values(w->F, 1, 0), w->a[4] = values(w->N * w->D, 0, 0), w->a[5] = values(w->F * w->D, 0, 0);
	w->a[6] = values(w->F, 0, 0), w->a[7] = values(w->N * w->F, 1, 0);
}

static void linear_fwd(struct work *w)
{
	w->be->linear_fwd(w->a[0], w->a[1], w->a[2], w->a[3], w->N, w->D, w->F);
}

static double linear_fwd_flops(const struct work *w)
{
	return 2.0 * (double)w->N * (double)w->D * (double)w->F;
}

static void linear_bwd(struct work *w)
{
	w->be->linear_bwd(w->a[4], w->a[5], w->a[6], w->a[7], w->a[1], w->a[2], w->N, w->D, w->F);
}

static double linear_bwd_flops(const struct work *w)
{
	return 2 * linear_fwd_flops(w);
}

static void gelu_prepare(struct work *w)
{
	w->a[0] = values(w->N, 0, 0), w->a[1] = values(w->N, 2, 0), w->a[2] = values(w->N, 2, 0);
}

static void gelu_fwd(struct work *w)
{
	w->be->gelu_fwd(w->a[0], w->a[1], w->N);
}

static void gelu_bwd(struct work *w)
{
	w->be->gelu_bwd(w->a[0], w->a[2], w->a[1], w->N);
}

static double values_done(const struct work *w)
{
	return (double)w->N;
}

static void layernorm_prepare(struct work *w)
{
	for (size_t i = 0; i < 4; i++)
		w->a[i] = values(w->N * w->C, 1, 0);
	for (size_t i = 4; i < 8; i++)
		w->a[i] = values(w->N + w->C, 1, 1);
}

static void layernorm_fwd(struct work *w)
{
	w->be->layernorm_fwd(w->a[0], w->a[4], w->a[5], w->a[1], w->a[6], NULL, w->N, w->C);
}

static void layernorm_bwd(struct work *w)
{
	w->be->layernorm_bwd(w->a[2], w->a[7], NULL, w->a[3], w->a[1], w->a[6], w->a[4], w->a[5], w->N, w->C);
}

static double elements_done(const struct work *w)
{
	return (double)w->N * (double)w->C;
}

static void adamw_prepare(struct work *w)
{
	for (size_t i = 0; i < 4; i++)
		w->a[i] = values(w->N, i == 3 ? 0 : 1e-2, i == 3 ? 1e-4 : 0);
}

static void adamw(struct work *w)
{
	w->be->adamw(w->a[0], w->a[1], w->a[2], w->a[3], w->N, NULL, 1e-3, 0.9, 0.95, 1e-8, 0.1, 10);
}

static void sumsq(struct work *w)
{
	const volatile double sink = w->be->sumsq(w->a[0], w->N);

	(void)sink;
}

static struct sae_params sae_at(const struct work *w, size_t i)
{
	return (struct sae_params){ w->a[i], w->a[i + 1], w->a[i + 2], w->a[i + 3] };
}

static void sae_prepare(struct work *w)
{
	struct sae_sums s;

	w->a[0] = values(w->F * w->D, 0.044, 0), w->a[1] = values(w->F, 0.01, w->at);
	w->a[2] = values(w->F * w->D, 0.044, 0), w->a[3] = values(w->D, 0.01, 0);
	for (size_t i = 0; i < 4; i++)
		w->a[4 + i] = values(i % 2 ? w->F + w->D : w->F * w->D, 0, 0);
	w->a[8] = values(w->N * w->D, 1, 0), w->a[9] = values(w->N * w->D, 0, 0);
	w->idx = tokens(w->F, 1);
	const struct sae_params p = sae_at(w, 0);

	w->be->sae_forward(&s, NULL, NULL, NULL, NULL, w->a[8], &p, w->N, w->D, w->F);
	w->l0 = s.l0 / (double)w->N;
}

static void sae_grad(struct work *w)
{
	const struct sae_params p = sae_at(w, 0), g = sae_at(w, 4);
	struct sae_sums s;

	w->be->sae_grad(&s, (uint32_t *)w->idx, &g, w->a[8], &p, 2e-3, w->N, w->D, w->F);
}

static double sae_grad_flops(const struct work *w)
{
	return 5 * linear_fwd_flops(w);
}

static void sae_forward(struct work *w)
{
	const struct sae_params p = sae_at(w, 0);
	struct sae_sums s;

	w->be->sae_forward(&s, NULL, NULL, w->a[9], (uint32_t *)w->idx, w->a[8], &p, w->N, w->D, w->F);
}

static double sae_forward_flops(const struct work *w)
{
	return 2 * linear_fwd_flops(w);
}

#define WORK(op, ...) #op, op, __VA_ARGS__
static const struct {
	const char *name;
	void (*run)(struct work *w);
	void (*prepare)(struct work *w);
	double (*amount)(const struct work *w);
	bool flops;                     /* else values */
	struct work size;
	size_t small;                   /* N for ref */
} works[] = {
	{ WORK(head_train, head_prepare, head_train_flops), true, { .N = 4096, .C = 128, .V = 50304 }, 2 },
	{ WORK(head_eval, head_prepare, head_eval_flops), true, { .N = 4096, .C = 128, .V = 50304 }, 2 },
	{ WORK(attention_fwd, attention_prepare, attention_fwd_flops), true, { .N = 4096, .C = 128, .T = 256, .NH = 4 }, 256 },
	{ WORK(attention_bwd, attention_prepare, attention_bwd_flops), true, { .N = 4096, .C = 128, .T = 256, .NH = 4 }, 256 },
	{ WORK(attention_fwd, attention_prepare, attention_fwd_flops), true, { .N = 4096, .C = 128, .T = 1024, .NH = 4 }, 1024 },
	{ WORK(attention_bwd, attention_prepare, attention_bwd_flops), true, { .N = 4096, .C = 128, .T = 1024, .NH = 4 }, 1024 },
	{ WORK(linear_fwd, linear_prepare, linear_fwd_flops), true, { .N = 4096, .D = 128, .F = 512 }, 64 },
	{ WORK(linear_bwd, linear_prepare, linear_bwd_flops), true, { .N = 4096, .D = 128, .F = 512 }, 64 },
	{ WORK(linear_bwd, linear_prepare, linear_bwd_flops), true, { .N = 4096, .D = 512, .F = 128 }, 64 },
	{ WORK(layernorm_fwd, layernorm_prepare, elements_done), false, { .N = 4096, .C = 128 }, 512 },
	{ WORK(layernorm_bwd, layernorm_prepare, elements_done), false, { .N = 4096, .C = 128 }, 512 },
	{ WORK(gelu_fwd, gelu_prepare, values_done), false, { .N = 4096 * 512 }, 65536 },
	{ WORK(gelu_bwd, gelu_prepare, values_done), false, { .N = 4096 * 512 }, 65536 },
	{ WORK(adamw, adamw_prepare, values_done), false, { .N = 50304 * 128 }, 65536 },
	{ WORK(sumsq, adamw_prepare, values_done), false, { .N = 50304 * 128 }, 65536 },
	{ WORK(sae_forward, sae_prepare, sae_forward_flops), true, { .N = 2048, .D = 512, .F = 4096, .at = -2.3 }, 8 },
	{ WORK(sae_grad, sae_prepare, sae_grad_flops), true, { .N = 2048, .D = 512, .F = 4096, .at = 0 }, 8 },
	{ WORK(sae_grad, sae_prepare, sae_grad_flops), true, { .N = 2048, .D = 512, .F = 4096, .at = -0.6 }, 8 },
	{ WORK(sae_grad, sae_prepare, sae_grad_flops), true, { .N = 2048, .D = 512, .F = 4096, .at = -0.75 }, 8 },
	{ WORK(sae_grad, sae_prepare, sae_grad_flops), true, { .N = 2048, .D = 512, .F = 4096, .at = -2 }, 8 },
	{ WORK(sae_grad, sae_prepare, sae_grad_flops), true, { .N = 2048, .D = 512, .F = 4096, .at = -2.7 }, 8 },
	{ WORK(sae_grad, sae_prepare, sae_grad_flops), true, { .N = 8192, .D = 512, .F = 4096, .at = -2 }, 8 },
};

/* ---- measurement ---- */

struct times {
	double wall, cpu;       /* seconds; of all threads */
};

static double cpu_secs(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The shortest of runs that fill about a second. */
static struct times seconds(void (*run)(struct work *w), struct work *w)
{
	struct times best = { INFINITY, INFINITY };
	double spent = 0;

	for (size_t i = 0; (i < 3 || spent < 0.7) && i < 200 && spent < 8; i++) {
		const double from = now_secs(), cpu = cpu_secs();

		run(w);
		const double t = now_secs() - from, busy = cpu_secs() - cpu;

		best.wall = t < best.wall ? t : best.wall;
		best.cpu = busy < best.cpu ? busy : best.cpu;
		spent += t;
	}
	return best;
}

static void probe_block(void *arg, size_t i)
{
	((double *)arg)[i] = cpu_k->probe(20000000);
}

static void probe_block_bf16(void *arg, size_t i)
{
	((double *)arg)[i] = cpu_16->probe(1000000);
}

/* Multiply-adds a second by processor time; *clock: by the clock, others' work included. */
static double limit(void (*block)(void *arg, size_t i), double *clock)
{
	double done[64] = { 0 }, best = 0;

	*clock = 0;
	for (size_t i = 0; i < 5; i++) {
		const double from = cpu_secs(), start = now_secs();
		double sum = 0;

		pool_for(pool_threads(), block, done);
		const double wall = now_secs() - start;

		for (size_t j = 0; j < pool_threads(); j++)
			sum += done[j];
		const double rate = sum / (cpu_secs() - from) * (double)pool_threads();

		best = rate > best ? rate : best;
		*clock = sum / wall > *clock ? sum / wall : *clock;
	}
	return best;
}

static void work_free(struct work *w)
{
	for (size_t i = 0; i < ARRAY_LEN(w->a); i++)
		free(w->a[i]);
	free(w->idx);
}

static void measure(size_t i, const struct backend *cpu, const struct backend *ref, double peak)
{
	struct work w = works[i].size, small = works[i].size;
	char size[96] = "";

	w.be = cpu;
	small.be = ref;
	small.N = works[i].small;
	works[i].prepare(&w);
	works[i].prepare(&small);
	const struct times t = seconds(works[i].run, &w);
	const double rate = works[i].amount(&w) * (double)pool_threads() / t.cpu;
	const double twin = works[i].amount(&small) / seconds(works[i].run, &small).cpu;

	for (size_t n = 0, j = 0; j < 7; j++) {
		const size_t dims[7] = { w.N, w.C, w.V, w.T, w.NH, w.D, w.F };

		if (dims[j])
			n += (size_t)snprintf(size + n, sizeof(size) - n, "%s%zu", n ? "x" : "", dims[j]);
	}
	printf("%-14s %-18s %8.2f ms %8.2f cpu %7.2f %-9s", works[i].name, size, t.wall * 1e3, t.cpu * 1e3, rate / 1e9,
	       works[i].flops ? "GFLOP/s" : "Gvalues/s");
	if (works[i].flops)
		printf(" %3.0f%% of the limit", 100 * rate / peak);
	printf("  %6.1f times ref", rate / twin);
	if (w.l0 > 0)
		printf("  L0 %.1f", w.l0);
	printf("\n");
	fflush(stdout);
	work_free(&w);
	work_free(&small);
}

int main(int argc, char **argv)
{
	const size_t threads = argc > 1 ? strtoul(argv[1], NULL, 10) : 1;
	const bool bf16 = argc > 4;
	struct backend cpu, ref, half;

	pool_start(threads);
	backend_cpu(&cpu);
	backend_cpu_bf16(&half, &cpu);
	backend_ref(&ref);
	if (argc > 3 && strcmp(argv[3], "best") && !cpu_use_isa(argv[3]))
		die("no %s on this machine", argv[3]);
	double clock;
	const double peak = limit(bf16 ? probe_block_bf16 : probe_block, &clock);

	printf("%s, %s%s, %zu threads: limit %.1f GFLOP/s, by the clock %.1f\n", cpu_k->name,
	       bf16 ? "bf16 in " : "f32", bf16 ? cpu_16->name : "", threads, peak / 1e9, clock / 1e9);
	for (size_t i = 0; i < ARRAY_LEN(works); i++)
		if (argc < 3 || strstr(works[i].name, argv[2]))
			measure(i, bf16 ? &half : &cpu, &ref, peak);
	return 0;
}
