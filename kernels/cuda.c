#include "cuda.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plugin.h"

/* Host copies go through pinned memory in pieces of SLOT.  What is put crosses the bus on a stream of its own
 * into device memory beside the slot, while kernels run, and from there, in the order of all work, to where it
 * belongs.  So many slots hold two batches of an autoencoder. */
enum { MB = 1 << 20, SLOT = 2 * MB, SLOTS = 16, OLDEST = 8 };

struct slot {
	char *pinned, *device;
	cudaEvent_t arrived;    /* what went through `pinned` has */
	cudaEvent_t taken;      /* `device` may be filled again */
};

static struct {
	const struct plugin_host *host;
	cudaStream_t stream, copies;
	size_t memory;          /* 0: not opened yet */
	struct slot slots[SLOTS];
	size_t next;            /* of slots */
	struct {
		void *p;
		size_t bytes;
	} scratch[CUDA_SLOTS];
} card;

/* ---- errors ---- */

void cuda_die(const char *what, const char *why)
{
	card.host->die("device cuda: %s: %s", what, why);
	abort();
}

void cuda_check(cudaError_t e, const char *what)
{
	if (e)
		cuda_die(what, cudaGetErrorString(e));
}

void cuda_launched(const char *op)
{
	cuda_check(cudaGetLastError(), op);
}

const char *cuda_because(const char *what, const char *why)
{
	static char reason[256];

	snprintf(reason, sizeof(reason), "%s: %s", what, why);
	return reason;
}

/* ---- memory ---- */

cudaStream_t cuda_stream(void)
{
	return card.stream;
}

size_t cuda_memory(void)
{
	return card.memory;
}

static void *device_memory(size_t bytes)
{
	void *p;
	size_t left = 0, all;
	const cudaError_t e = cudaMalloc(&p, bytes ? bytes : 1);

	if (e == cudaErrorMemoryAllocation) {
		cudaMemGetInfo(&left, &all);
		card.host->die("device cuda: out of memory (%zu MB asked, %zu free)",
			       (bytes + MB - 1) / MB, left / MB);
	}
	cuda_check(e, "cudaMalloc");
	return p;
}

void *cuda_scratch(enum cuda_slot slot, size_t bytes)
{
	if (bytes > card.scratch[slot].bytes || !card.scratch[slot].p) {
		cuda_check(cudaFree(card.scratch[slot].p), "cudaFree");
		card.scratch[slot].p = device_memory(bytes);
		card.scratch[slot].bytes = bytes;
	}
	return card.scratch[slot].p;
}

static void *take(size_t bytes)
{
	void *p = device_memory(bytes);

	cuda_check(cudaMemsetAsync(p, 0, bytes, card.stream), "alloc");
	return p;
}

static void release(void *p)
{
	cuda_check(cudaFree(p), "release");
}

static void zero(void *p, size_t bytes)
{
	cuda_check(cudaMemsetAsync(p, 0, bytes, card.stream), "zero");
}

static void wait_for_all(void)
{
	cuda_check(cudaStreamSynchronize(card.stream), "sync");
}

/* ---- copies ---- */

static void open_slot(struct slot *s)
{
	void *p;

	cuda_check(cudaHostAlloc(&p, SLOT, cudaHostAllocDefault), "pinned memory");
	s->pinned = p;
	s->device = device_memory(SLOT);
	cuda_check(cudaEventCreateWithFlags(&s->arrived, cudaEventDisableTiming), "cudaEventCreate");
	cuda_check(cudaEventCreateWithFlags(&s->taken, cudaEventDisableTiming), "cudaEventCreate");
}

/* The slot whose use lies longest ago; its pinned memory is free. */
static struct slot *next_slot(void)
{
	struct slot *s = &card.slots[card.next++ % SLOTS];

	if (!s->pinned)
		open_slot(s);
	cuda_check(cudaEventSynchronize(s->arrived), "put");
	return s;
}

static void put_piece(char *dst, const char *host, size_t bytes)
{
	struct slot *s = next_slot();

	memcpy(s->pinned, host, bytes);
	cuda_check(cudaStreamWaitEvent(card.copies, s->taken, 0), "put");
	cuda_check(cudaMemcpyAsync(s->device, s->pinned, bytes, cudaMemcpyHostToDevice, card.copies), "put");
	cuda_check(cudaEventRecord(s->arrived, card.copies), "put");
	cuda_check(cudaStreamWaitEvent(card.stream, s->arrived, 0), "put");
	cuda_check(cudaMemcpyAsync(dst, s->device, bytes, cudaMemcpyDeviceToDevice, card.stream), "put");
	cuda_check(cudaEventRecord(s->taken, card.stream), "put");
}

static size_t piece(size_t bytes)
{
	return bytes < SLOT ? bytes : SLOT;
}

static void put(void *dst, const void *host, size_t bytes)
{
	for (size_t at = 0; at < bytes; at += SLOT)
		put_piece((char *)dst + at, (const char *)host + at, piece(bytes - at));
}

static void fetch(char *host, const struct slot *s, size_t bytes)
{
	cuda_check(cudaEventSynchronize(s->arrived), "get");
	memcpy(host, s->pinned, bytes);
}

/* One piece is on its way while the one before is copied on. */
void cuda_get(void *host, const void *src, size_t bytes)
{
	const struct slot *before = NULL;

	for (size_t at = 0; at < bytes; at += SLOT) {
		struct slot *s = next_slot();

		cuda_check(cudaMemcpyAsync(s->pinned, (const char *)src + at, piece(bytes - at), cudaMemcpyDeviceToHost,
					   card.stream), "get");
		cuda_check(cudaEventRecord(s->arrived, card.stream), "get");
		if (before)
			fetch((char *)host + at - SLOT, before, SLOT);
		before = s;
	}
	if (before)
		fetch((char *)host + (bytes - 1) / SLOT * SLOT, before, (bytes - 1) % SLOT + 1);
}

/* ---- tables ---- */

#define PRODUCTS(tag, mode)                                                                                           \
	static void linear_fwd_##tag(real *y, const real *x, const real *w, const real *b, size_t N, size_t I, size_t O) \
	{                                                                                                             \
		cuda_linear_fwd(mode, y, x, w, b, N, I, O);                                                           \
	}                                                                                                             \
	static void linear_bwd_##tag(real *dx, real *dw, real *db, const real *dy, const real *x, const real *w,      \
				     size_t N, size_t I, size_t O)                                                    \
	{                                                                                                             \
		cuda_linear_bwd(mode, dx, dw, db, dy, x, w, N, I, O);                                                 \
	}                                                                                                             \
	static void lmhead_##tag(real *nll, real *dx, real *dw, const real *x, const real *w, const int32_t *targets, \
				 double scale, size_t N, size_t C, size_t V)                                          \
	{                                                                                                             \
		cuda_lmhead(mode, nll, dx, dw, x, w, targets, scale, N, C, V);                                        \
	}                                                                                                             \
	static void sae_encode_##tag(real *f, const real *x, const struct sae_params *p, size_t N, size_t D, size_t F) \
	{                                                                                                             \
		cuda_sae_encode(mode, f, x, p, N, D, F);                                                              \
	}                                                                                                             \
	static size_t sae_active_##tag(uint32_t *rows, uint32_t *feats, real *f, size_t cap, const real *x,           \
				       const struct sae_params *p, size_t N, size_t D, size_t F)                      \
	{                                                                                                             \
		return cuda_sae_active(mode, rows, feats, f, cap, x, p, N, D, F);                                     \
	}                                                                                                             \
	static void sae_decode_##tag(real *xhat, const real *f, const struct sae_params *p, size_t N, size_t D,       \
				     size_t F)                                                                        \
	{                                                                                                             \
		cuda_sae_decode(mode, xhat, f, p, N, D, F);                                                           \
	}                                                                                                             \
	static void sae_forward_##tag(struct sae_sums *sums, real *err2, real *l1, real *xhat, uint32_t *fired,       \
				      const real *x, const struct sae_params *p, size_t N, size_t D, size_t F)        \
	{                                                                                                             \
		cuda_sae_forward(mode, sums, err2, l1, xhat, fired, x, p, N, D, F);                                   \
	}                                                                                                             \
	static void sae_grad_##tag(struct sae_sums *sums, uint32_t *fired, const struct sae_params *g, const real *x, \
				   const struct sae_params *p, double lambda, size_t N, size_t D, size_t F)           \
	{                                                                                                             \
		cuda_sae_grad(mode, sums, fired, g, x, p, lambda, N, D, F);                                           \
	}                                                                                                             \
	static void products_##tag(struct backend *b)                                                                 \
	{                                                                                                             \
		b->precision = #tag;                                                                                  \
		b->linear_fwd = linear_fwd_##tag;                                                                     \
		b->linear_bwd = linear_bwd_##tag;                                                                     \
		b->lmhead = lmhead_##tag;                                                                             \
		b->sae_encode = sae_encode_##tag;                                                                     \
		b->sae_active = sae_active_##tag;                                                                     \
		b->sae_decode = sae_decode_##tag;                                                                     \
		b->sae_forward = sae_forward_##tag;                                                                   \
		b->sae_grad = sae_grad_##tag;                                                                         \
	}
PRODUCTS(f32, CUDA_F32)
PRODUCTS(tf32, CUDA_TF32)
PRODUCTS(bf16, CUDA_BF16)

static void fill(struct backend *b, const char *precision)
{
	*b = (struct backend){
		.name = "cuda", .host = false, .link = &cuda_link,
		.alloc = take, .release = release, .put = put, .get = cuda_get, .zero = zero, .sync = wait_for_all,
		.embed_fwd = cuda_embed_fwd, .embed_bwd = cuda_embed_bwd,
		.layernorm_fwd = cuda_layernorm_fwd, .layernorm_bwd = cuda_layernorm_bwd,
		.attention_fwd = cuda_attention_fwd, .attention_rows = cuda_attention_rows,
		.attention_bwd = cuda_attention_bwd,
		.gelu_fwd = cuda_gelu_fwd, .gelu_bwd = cuda_gelu_bwd,
		.add = cuda_add, .fill_rows = cuda_fill_rows, .gather_rows = cuda_gather_rows,
		.round_rows = cuda_round_rows, .column_sums = cuda_column_sums,
		.ablate_logit = cuda_ablate_logit,
		.project_rows = cuda_project_rows, .normalise_rows = cuda_normalise_rows, .row_norms = cuda_row_norms,
		.add_sum = cuda_add_sum, .clip = cuda_clip, .adamw = cuda_adamw, .sumsq = cuda_sumsq,
	};
	if (!strcmp(precision, "bf16"))
		products_bf16(b);
	else if (!strcmp(precision, "tf32"))
		products_tf32(b);
	else
		products_f32(b);
}

/* ---- opening ---- */

static const char *no_card(cudaError_t e)
{
	return cuda_because("no usable card", cudaGetErrorString(e));
}

/* This process's card, where there are several; bf16 products came with 8.0. */
static const char *choose_card(void)
{
	static char reason[400];
	struct cudaDeviceProp p;
	int n;
	cudaError_t e = cudaGetDeviceCount(&n);

	if (e || n < 1)
		return no_card(e ? e : cudaErrorNoDevice);
	const int own = (int)(card.host->local_rank % (size_t)n);

	e = cudaGetDeviceProperties(&p, own);
	if (e)
		return no_card(e);
	if (p.major < OLDEST) {
		snprintf(reason, sizeof(reason), "the card, %s, is of compute capability %d.%d; 8.0 is needed", p.name,
			 p.major, p.minor);
		return reason;
	}
	e = cudaSetDevice(own);
	if (e)
		return no_card(e);
	card.memory = p.totalGlobalMem;
	return NULL;
}

static const char *open_card(void)
{
	const char *why = choose_card();

	if (why)
		return why;
	cudaError_t e = cudaStreamCreateWithFlags(&card.stream, cudaStreamNonBlocking);

	if (!e)
		e = cudaStreamCreateWithFlags(&card.copies, cudaStreamNonBlocking);
	return e ? cuda_because("cudaStreamCreate", cudaGetErrorString(e)) : cuda_open_products();
}

static const char *open_tables(const struct plugin_host *host, const char *precision, struct backend *b,
			       struct backend *exact)
{
	static bool opened;

	card.host = host;
	if (!opened) {
		const char *why = open_card();

		if (why)
			return why;
		opened = true;
	}
	fill(b, precision);
	fill(exact, "f32");
	return NULL;
}

const struct plugin featuremill_plugin = { PLUGIN_ABI, sizeof(struct backend), open_tables };
