/*
 * cuda_linear: products.
 *
 * cuBLAS thinks in columns: a row-major (M,N) is a column-major (N,M), so
 * c = a b is asked for as cᵀ = bᵀ aᵀ, and a bias of c's columns is one of cᵀ's
 * rows, which is what cublasLt adds.  It is asked where there is an epilogue;
 * what it does not take goes to cublasGemmEx and a kernel.  Both have one order
 * of sums for one shape on one card.
 */
#include "cuda.h"

#include <cublasLt.h>
#include <cublas_v2.h>
#include <limits.h>
#include <string.h>

enum { PLANS = 32, ALIGN = 16, NARROW_LD = 8 };

/* What cublasLt's choice depends on; compared as bytes, so without gaps. */
struct shape {
	size_t M, N, K, lda, ldb, ldc;
	uint32_t compute;
	uint8_t transpose_a, transpose_b, narrow, narrow_c, epilogue, accumulate, unused[2];
};

struct plan {
	struct shape s;
	bool used, supported;
	cublasLtMatmulDesc_t what;
	cublasLtMatrixLayout_t a, b, c;
	cublasLtMatmulAlgo_t how;
};

static struct {
	cublasHandle_t cublas;
	cublasLtHandle_t lt;
	cublasLtMatmulPreference_t wish;
	void *workspace;        /* of both: their work is in one stream */
	size_t workspace_bytes;
	struct plan plans[PLANS];
	size_t next;            /* of plans, to be forgotten when all are used */
} blas;

static void check(cublasStatus_t s, const char *what)
{
	if (s)
		cuda_die(what, cublasGetStatusString(s));
}

/* ---- opening ---- */

/* Split-K of long sums wants 32 to 64 MB; a small card's memory has better uses. */
static size_t workspace_size(void)
{
	const size_t share = cuda_memory() / 256, most = (size_t)64 << 20;

	return share < most ? share / 256 * 256 : most;
}

static const char *refusal(cublasStatus_t s, const char *what)
{
	return s ? cuda_because(what, cublasGetStatusString(s)) : NULL;
}

/* Operands as aligned as cuda_multiply asks of them; sums in parts that are added up afterwards, never in place. */
static const char *open_wish(void)
{
	const uint32_t align = ALIGN, apart = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
	const struct {
		cublasLtMatmulPreferenceAttributes_t name;
		const void *value;
		size_t bytes;
	} set[] = {
		{ CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &blas.workspace_bytes, sizeof(blas.workspace_bytes) },
		{ CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &apart, sizeof(apart) },
		{ CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &align, sizeof(align) },
		{ CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &align, sizeof(align) },
		{ CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &align, sizeof(align) },
		{ CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &align, sizeof(align) },
	};
	const char *why = refusal(cublasLtMatmulPreferenceCreate(&blas.wish), "cublasLtMatmulPreferenceCreate");

	for (size_t i = 0; !why && i < sizeof(set) / sizeof(*set); i++)
		why = refusal(cublasLtMatmulPreferenceSetAttribute(blas.wish, set[i].name, set[i].value, set[i].bytes),
			      "cublasLtMatmulPreferenceSetAttribute");
	return why;
}

const char *cuda_open_products(void)
{
	/* parts of a sum stay float, also where the result is bf16 */
	const cublasMath_t in_float = (cublasMath_t)(CUBLAS_DEFAULT_MATH | CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION);
	const char *why;

	blas.workspace_bytes = workspace_size();
	const cudaError_t e = cudaMalloc(&blas.workspace, blas.workspace_bytes);

	if (e)
		return cuda_because("workspace of cuBLAS", cudaGetErrorString(e));
	/* the workspace after the stream, which takes the library's own */
	if ((why = refusal(cublasCreate(&blas.cublas), "cublasCreate")) ||
	    (why = refusal(cublasSetStream(blas.cublas, cuda_stream()), "cublasSetStream")) ||
	    (why = refusal(cublasSetWorkspace(blas.cublas, blas.workspace, blas.workspace_bytes), "cublasSetWorkspace")) ||
	    (why = refusal(cublasSetMathMode(blas.cublas, in_float), "cublasSetMathMode")) ||
	    (why = refusal(cublasLtCreate(&blas.lt), "cublasLtCreate")))
		return why;
	return open_wish();
}

/* ---- types ---- */

static cudaDataType_t type_of(bool narrow)
{
	return narrow ? CUDA_R_16BF : CUDA_R_32F;
}

static cublasComputeType_t compute_of(enum cuda_mode mode, bool narrow)
{
	if (narrow)
		return CUBLAS_COMPUTE_32F;
	return mode == CUDA_TF32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F_PEDANTIC;
}

static cublasOperation_t op_of(const struct cuda_operand *m)
{
	return m->transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
}

/* ---- with an epilogue ---- */

static cublasLtMatrixLayout_t layout(bool narrow, size_t columns, size_t rows, size_t ld)
{
	cublasLtMatrixLayout_t l;

	check(cublasLtMatrixLayoutCreate(&l, type_of(narrow), columns, rows, (int64_t)ld), "cublasLtMatrixLayoutCreate");
	return l;
}

static void describe(cublasLtMatmulDesc_t d, cublasLtMatmulDescAttributes_t name, const void *value, size_t bytes)
{
	check(cublasLtMatmulDescSetAttribute(d, name, value, bytes), "cublasLtMatmulDescSetAttribute");
}

static void set_bias(const struct plan *p, const void *bias)
{
	if (bias)
		describe(p->what, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof(bias));
}

/* Layouts of operands as they lie */
static void make_plan(struct plan *p, const struct shape *s, const void *bias)
{
	const int32_t op_a = s->transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N, op_b = s->transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N;
	const uint32_t epilogue = s->epilogue;
	const cudaDataType_t bias_type = type_of(s->narrow_c);
	cublasLtMatmulHeuristicResult_t found;
	int n = 0;

	*p = (struct plan){ .s = *s, .used = true };
	check(cublasLtMatmulDescCreate(&p->what, (cublasComputeType_t)s->compute, CUDA_R_32F), "cublasLtMatmulDescCreate");
	describe(p->what, CUBLASLT_MATMUL_DESC_TRANSA, &op_b, sizeof(op_b));
	describe(p->what, CUBLASLT_MATMUL_DESC_TRANSB, &op_a, sizeof(op_a));
	describe(p->what, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof(epilogue));
	describe(p->what, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &bias_type, sizeof(bias_type));
	set_bias(p, bias);
	p->a = s->transpose_a ? layout(s->narrow, s->M, s->K, s->lda) : layout(s->narrow, s->K, s->M, s->lda);
	p->b = s->transpose_b ? layout(s->narrow, s->K, s->N, s->ldb) : layout(s->narrow, s->N, s->K, s->ldb);
	p->c = layout(s->narrow_c, s->N, s->M, s->ldc);
	const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(blas.lt, p->what, p->b, p->a, p->c, p->c, blas.wish, 1,
								     &found, &n);

	if (status != CUBLAS_STATUS_NOT_SUPPORTED)
		check(status, "cublasLtMatmulAlgoGetHeuristic");
	p->supported = !status && n > 0;
	if (p->supported)
		p->how = found.algo;
}

static void forget(struct plan *p)
{
	if (!p->used)
		return;
	cublasLtMatmulDescDestroy(p->what);
	cublasLtMatrixLayoutDestroy(p->a);
	cublasLtMatrixLayoutDestroy(p->b);
	cublasLtMatrixLayoutDestroy(p->c);
}

static struct plan *plan_of(const struct shape *s, const void *bias)
{
	for (size_t i = 0; i < PLANS; i++)
		if (blas.plans[i].used && !memcmp(&blas.plans[i].s, s, sizeof(*s))) {
			set_bias(&blas.plans[i], bias);
			return &blas.plans[i];
		}
	struct plan *p = &blas.plans[blas.next++ % PLANS];

	forget(p);
	make_plan(p, s, bias);
	return p;
}

static struct shape shape_of(enum cuda_mode mode, const struct cuda_product *p)
{
	struct shape s;

	memset(&s, 0, sizeof(s));
	s.M = p->M, s.N = p->N, s.K = p->K;
	s.lda = p->a.ld, s.ldb = p->b.ld, s.ldc = p->ldc;
	s.compute = (uint32_t)compute_of(mode, p->narrow);
	s.transpose_a = p->a.transposed, s.transpose_b = p->b.transposed;
	s.narrow = p->narrow, s.narrow_c = p->narrow_c;
	s.epilogue = p->relu ? p->bias ? CUBLASLT_EPILOGUE_RELU_BIAS : CUBLASLT_EPILOGUE_RELU : CUBLASLT_EPILOGUE_BIAS;
	s.accumulate = p->beta != 0;
	return s;
}

static bool aligned(const void *p)
{
	return (uintptr_t)p % ALIGN == 0;
}

/* cublasLt's bias has the type of c. */
static const void *bias_of(const struct cuda_product *p)
{
	size_t ld;

	return p->bias && p->narrow_c ? cuda_narrow(SCRATCH_BIAS, &ld, p->bias, 1, p->N) : p->bias;
}

/* false: not this one */
static bool multiply_with_epilogue(enum cuda_mode mode, const struct cuda_product *p)
{
	if (!aligned(p->c) || !aligned(p->a.p) || !aligned(p->b.p))
		return false;
	const void *bias = bias_of(p);

	if (!aligned(bias))
		return false;
	const struct shape s = shape_of(mode, p);
	struct plan *plan = plan_of(&s, bias);

	if (!plan->supported)
		return false;
	const cublasStatus_t status = cublasLtMatmul(blas.lt, plan->what, &p->alpha, p->b.p, plan->b, p->a.p, plan->a,
		&p->beta, p->c, plan->c, p->c, plan->c, &plan->how, blas.workspace, blas.workspace_bytes, cuda_stream());

	if (status != CUBLAS_STATUS_NOT_SUPPORTED)
		check(status, "cublasLtMatmul");
	return plan->supported = !status;
}

/* ---- all products ---- */

static int dimension(size_t n)
{
	if (n > INT_MAX)
		cuda_die("cublasGemmEx", "a matrix of more than 2147483647 rows or columns");
	return (int)n;
}

void cuda_multiply(enum cuda_mode mode, const struct cuda_product *p)
{
	const cudaDataType_t type = type_of(p->narrow);
	const bool epilogue = p->bias || p->relu;

	if (p->M == 0 || p->N == 0 || (epilogue && multiply_with_epilogue(mode, p)))
		return;
	check(cublasGemmEx(blas.cublas, op_of(&p->b), op_of(&p->a), dimension(p->N), dimension(p->M), dimension(p->K),
			   &p->alpha, p->b.p, type, dimension(p->b.ld), p->a.p, type, dimension(p->a.ld), &p->beta,
			   p->c, type_of(p->narrow_c), dimension(p->ldc), compute_of(mode, p->narrow), CUBLAS_GEMM_DEFAULT),
	      "cublasGemmEx");
	if (epilogue)
		cuda_bias_relu(p->c, p->narrow_c, p->bias, p->relu, p->M, p->N, p->ldc);
}

const void *cuda_narrow(enum cuda_slot slot, size_t *ld, const float *x, size_t N, size_t C)
{
	*ld = (C + NARROW_LD - 1) / NARROW_LD * NARROW_LD;
	void *y = cuda_scratch(slot, N * *ld * 2);

	cuda_narrow_rows(y, x, N, C, *ld);
	return y;
}

struct cuda_operand cuda_operand(enum cuda_mode mode, enum cuda_slot slot, const float *x, size_t N, size_t C,
				 bool transposed)
{
	struct cuda_operand m = { x, C, transposed };

	if (mode == CUDA_BF16)
		m.p = cuda_narrow(slot, &m.ld, x, N, C);
	return m;
}

/* ---- the linear layer ---- */

void cuda_linear_fwd(enum cuda_mode mode, real *y, const real *x, const real *w, const real *b, size_t N, size_t I,
		     size_t O)
{
	const struct cuda_product p = {
		.c = y, .ldc = O, .a = cuda_operand(mode, SCRATCH_X, x, N, I, false),
		.b = cuda_operand(mode, SCRATCH_W, w, O, I, true), .M = N, .N = O, .K = I, .alpha = 1, .bias = b,
		.narrow = mode == CUDA_BF16,
	};

	cuda_multiply(mode, &p);
}

void cuda_linear_bwd(enum cuda_mode mode, real *dx, real *dw, real *db, const real *dy, const real *x, const real *w,
		     size_t N, size_t I, size_t O)
{
	const struct cuda_operand rows = cuda_operand(mode, SCRATCH_Y, dy, N, O, false);
	const struct cuda_product of_w = {
		.c = dw, .ldc = I, .a = { rows.p, rows.ld, true }, .b = cuda_operand(mode, SCRATCH_X, x, N, I, false),
		.M = O, .N = I, .K = N, .alpha = 1, .beta = 1, .narrow = mode == CUDA_BF16,
	};

	if (dx)
		cuda_multiply(mode, &(struct cuda_product){
			.c = dx, .ldc = I, .a = rows, .b = cuda_operand(mode, SCRATCH_W, w, O, I, false),
			.M = N, .N = I, .K = O, .alpha = 1, .narrow = mode == CUDA_BF16,
		});
	cuda_multiply(mode, &of_w);
	if (db)
		cuda_float_column_sums(db, dy, N, O, true);
}
