#include "dnn.h"

#include <dnnl.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "base.h"
#include "shard.h"

enum { CACHE = 1024 };          /* primitives a thread keeps; a power of two */

struct key {                    /* what a primitive is made for */
	size_t M, N, K, ldc, a_row, a_col, b_row, b_col;
	bool bias, accumulate, relu, bf16;
};

struct primitive {
	struct key key;
	dnnl_primitive_t run;           /* NULL: free */
	dnnl_memory_t a, b, bias, c;
};

/* oneDNN's scratch memory belongs to the thread that made a primitive, so each thread has its own. */
static _Thread_local struct primitive *cache;
static _Thread_local size_t used;
static _Thread_local dnnl_engine_t engine;
static _Thread_local dnnl_stream_t stream;

static void must(dnnl_status_t status, const char *what)
{
	if (status != dnnl_success)
		die("oneDNN cannot %s: status %d", what, (int)status);
}

/* ---- the two interfaces ---- */

#if DNNL_VERSION_MAJOR < 3

typedef dnnl_memory_desc_t description;

static description describe(dnnl_dims_t dims, dnnl_dims_t strides, dnnl_data_type_t type)
{
	dnnl_memory_desc_t d;

	must(dnnl_memory_desc_init_by_strides(&d, 2, dims, type, strides), "describe a matrix");
	return d;
}

static void description_free(description d)
{
	(void)d;
}

static dnnl_memory_t memory_of(const description *d)
{
	dnnl_memory_t m;

	must(dnnl_memory_create(&m, d, engine, DNNL_MEMORY_NONE), "make a memory object");
	return m;
}

static dnnl_primitive_desc_t product_of(const description *a, const description *b, const description *bias,
					const description *c, dnnl_primitive_attr_t attr)
{
	dnnl_matmul_desc_t d;
	dnnl_primitive_desc_t pd;

	must(dnnl_matmul_desc_init(&d, a, b, bias, c), "describe a product");
	must(dnnl_primitive_desc_create(&pd, &d, attr, engine, NULL), "prepare a product");
	return pd;
}

static void append_sum(dnnl_post_ops_t ops)
{
	must(dnnl_post_ops_append_sum(ops, 1), "add to the result");
}

static void append_relu(dnnl_post_ops_t ops)
{
	must(dnnl_post_ops_append_eltwise(ops, 1, dnnl_eltwise_relu, 0, 0), "rectify");
}

#else

typedef dnnl_memory_desc_t description;

static description describe(dnnl_dims_t dims, dnnl_dims_t strides, dnnl_data_type_t type)
{
	dnnl_memory_desc_t d;

	must(dnnl_memory_desc_create_with_strides(&d, 2, dims, type, strides), "describe a matrix");
	return d;
}

static void description_free(description d)
{
	dnnl_memory_desc_destroy(d);
}

static dnnl_memory_t memory_of(const description *d)
{
	dnnl_memory_t m;

	must(dnnl_memory_create(&m, *d, engine, DNNL_MEMORY_NONE), "make a memory object");
	return m;
}

static dnnl_primitive_desc_t product_of(const description *a, const description *b, const description *bias,
					const description *c, dnnl_primitive_attr_t attr)
{
	dnnl_primitive_desc_t pd;

	must(dnnl_matmul_primitive_desc_create(&pd, engine, *a, *b, bias ? *bias : NULL, *c, attr),
	     "prepare a product");
	return pd;
}

static void append_sum(dnnl_post_ops_t ops)
{
	must(dnnl_post_ops_append_sum(ops, 1, 0, dnnl_data_type_undef), "add to the result");
}

static void append_relu(dnnl_post_ops_t ops)
{
	must(dnnl_post_ops_append_eltwise(ops, dnnl_eltwise_relu, 0, 0), "rectify");
}

#endif

/* ---- cache ---- */

static void thread_start(void)
{
	omp_set_num_threads(1);         /* of this thread; the library looks there */
	must(dnnl_engine_create(&engine, dnnl_cpu, 0), "start");
	must(dnnl_stream_create(&stream, engine, dnnl_stream_default_flags), "start");
	cache = xcalloc(CACHE, sizeof(*cache));
}

static description matrix(size_t rows, size_t cols, size_t row, size_t col, bool bf16)
{
	dnnl_dims_t dims = { (dnnl_dim_t)rows, (dnnl_dim_t)cols };
	dnnl_dims_t strides = { (dnnl_dim_t)row, (dnnl_dim_t)col };

	return describe(dims, strides, bf16 ? dnnl_bf16 : dnnl_f32);
}

static dnnl_primitive_attr_t attributes(const struct key *k)
{
	dnnl_primitive_attr_t attr;
	dnnl_post_ops_t ops;

	must(dnnl_primitive_attr_create(&attr), "make attributes");
	must(dnnl_post_ops_create(&ops), "make attributes");
	if (k->accumulate)
		append_sum(ops);
	if (k->relu)
		append_relu(ops);
	must(dnnl_primitive_attr_set_post_ops(attr, ops), "make attributes");
	dnnl_post_ops_destroy(ops);
	return attr;
}

static void make(struct primitive *p, const struct key *k)
{
	description a = matrix(k->M, k->K, k->a_row, k->a_col, k->bf16);
	description b = matrix(k->K, k->N, k->b_row, k->b_col, k->bf16);
	description c = matrix(k->M, k->N, k->ldc, 1, false), bias = matrix(1, k->N, k->N, 1, false);
	dnnl_primitive_attr_t attr = attributes(k);
	dnnl_primitive_desc_t pd = product_of(&a, &b, k->bias ? &bias : NULL, &c, attr);

	p->key = *k;
	must(dnnl_primitive_create(&p->run, pd), "make a product");
	p->a = memory_of(&a);
	p->b = memory_of(&b);
	p->c = memory_of(&c);
	p->bias = memory_of(&bias);
	dnnl_primitive_desc_destroy(pd);
	dnnl_primitive_attr_destroy(attr);
	description_free(a);
	description_free(b);
	description_free(c);
	description_free(bias);
}

static void clear_cache(void)
{
	for (size_t i = 0; i < CACHE; i++)
		if (cache[i].run) {
			dnnl_primitive_destroy(cache[i].run);
			dnnl_memory_destroy(cache[i].a);
			dnnl_memory_destroy(cache[i].b);
			dnnl_memory_destroy(cache[i].c);
			dnnl_memory_destroy(cache[i].bias);
		}
	memset(cache, 0, CACHE * sizeof(*cache));
	used = 0;
}

static size_t slot(const struct key *k)
{
	uint64_t h = 0;
	const size_t parts[] = { k->M, k->N, k->K, k->ldc, k->a_row, k->a_col, k->b_row, k->b_col,
		(size_t)k->bf16 * 8 + (size_t)k->bias * 4 + (size_t)k->accumulate * 2 + k->relu };

	for (size_t i = 0; i < ARRAY_LEN(parts); i++)
		h = (h ^ parts[i]) * 0x9e3779b97f4a7c15u, h ^= h >> 29;
	return h % CACHE;
}

static bool same(const struct key *a, const struct key *b)
{
	return a->M == b->M && a->N == b->N && a->K == b->K && a->ldc == b->ldc && a->a_row == b->a_row &&
		a->a_col == b->a_col && a->b_row == b->b_row && a->b_col == b->b_col && a->bias == b->bias &&
		a->accumulate == b->accumulate && a->relu == b->relu && a->bf16 == b->bf16;
}

static struct primitive *find(const struct key *k)
{
	if (!cache)
		thread_start();
	if (used > CACHE / 2)
		clear_cache();
	size_t i = slot(k);

	while (cache[i].run && !same(&cache[i].key, k))
		i = (i + 1) % CACHE;
	if (!cache[i].run) {
		make(&cache[i], k);
		used++;
	}
	return &cache[i];
}

static dnnl_memory_t at(dnnl_memory_t m, const void *p)
{
	/* One object serves inputs and outputs; the library writes to c alone. */
	union { const void *in; void *out; } u = { p };

	must(dnnl_memory_set_data_handle(m, u.out), "take a matrix");
	return m;
}

static void multiply(const struct key *k, const void *a, const void *b, const float *bias, float *c)
{
	struct primitive *p = find(k);
	const dnnl_exec_arg_t args[] = {
		{ DNNL_ARG_SRC, at(p->a, a) }, { DNNL_ARG_WEIGHTS, at(p->b, b) },
		{ DNNL_ARG_DST, at(p->c, c) }, { DNNL_ARG_BIAS, at(p->bias, bias) },
	};

	must(dnnl_primitive_execute(p->run, stream, bias ? 4 : 3, args), "multiply");
	must(dnnl_stream_wait(stream), "multiply");
}

/* ---- operands in bf16 ---- */

/* Does the library multiply bf16 with instructions of its own?  Elsewhere rounded values are
 * multiplied as float32, which gives the same sums but for their order. */
static bool native_bf16(void)
{
	const unsigned need = dnnl_cpu_isa_avx512_core_bf16;

	return ((unsigned)dnnl_get_effective_cpu_isa() & need) == need;
}

static void *operand_scratch(size_t bytes)
{
	static _Thread_local void *p;
	static _Thread_local size_t n;

	if (n < bytes) {
		free(p);
		p = xaligned(bytes);
		n = bytes;
	}
	return p;
}

/* m (rows,cols) rounded, its lines packed one after another at `to`, as bf16 or else as float32;
 * sets the strides.  half: room for a line */
static void round_matrix(void *to, const struct dnn_matrix *m, size_t rows, size_t cols, uint16_t *half,
			 bool native, size_t *row, size_t *col)
{
	const bool by_rows = m->col == 1;
	const size_t lines = by_rows ? rows : cols, n = by_rows ? cols : rows, ld = by_rows ? m->row : m->col;

	for (size_t i = 0; i < lines; i++) {
		dtype_from_f32(DT_BF16, native ? (uint16_t *)to + i * n : half, m->p + i * ld, n);
		if (!native)
			dtype_to_f32(DT_BF16, (float *)to + i * n, half, n);
	}
	*row = by_rows ? n : 1;
	*col = by_rows ? 1 : n;
}

static size_t lines_up(size_t bytes)
{
	return (bytes + 63) / 64 * 64;
}

static void multiply_bf16(const struct dnn_gemm *g, struct key *k)
{
	const bool native = native_bf16();
	const size_t size = native ? sizeof(uint16_t) : sizeof(float), longest = g->M + g->N + g->K;
	const size_t a_bytes = lines_up(g->M * g->K * size), b_bytes = lines_up(g->K * g->N * size);
	char *a = operand_scratch(a_bytes + b_bytes + longest * sizeof(uint16_t)), *b = a + a_bytes;
	uint16_t *half = (uint16_t *)(void *)(b + b_bytes);

	k->bf16 = native;
	round_matrix(a, &g->a, g->M, g->K, half, native, &k->a_row, &k->a_col);
	round_matrix(b, &g->b, g->K, g->N, half, native, &k->b_row, &k->b_col);
	multiply(k, a, b, g->bias, g->c);
}

void dnn_gemm(const struct dnn_gemm *g)
{
	struct key k = { g->M, g->N, g->K, g->ldc, g->a.row, g->a.col, g->b.row, g->b.col,
		g->bias != NULL, g->accumulate, g->relu, false };

	if (g->M == 0 || g->N == 0)
		return;
	if (g->bf16)
		multiply_bf16(g, &k);
	else
		multiply(&k, g->a.p, g->b.p, g->bias, g->c);
}
