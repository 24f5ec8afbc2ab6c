// cuBLAS and cublasLt: what the program asks for is checked, more strictly than a real library
// would, and goes to the stream as a product.
#include "cusim_gemm.h"

#include <cublasLt.h>
#include <cublas_v2.h>

using namespace cusim;

#define BLAS extern "C" cublasStatus_t
#define BLAS_MAY_FAIL(status)           \
	do {                            \
		if (planned_failure(__func__)) \
			return status;  \
	} while (0)

struct cublasContext {
	cudaStream_t stream;
	cublasPointerMode_t pointers;
	cublasMath_t math;
};

static bool rounding_of(cublasComputeType_t compute, cublasMath_t math, operand_rounding *how)
{
	switch (compute) {
	case CUBLAS_COMPUTE_32F:
		*how = math == CUBLAS_TF32_TENSOR_OP_MATH ? TO_TF32 : EXACT;
		return true;
	case CUBLAS_COMPUTE_32F_PEDANTIC: *how = EXACT; return true;
	case CUBLAS_COMPUTE_32F_FAST_TF32: *how = TO_TF32; return true;
	case CUBLAS_COMPUTE_32F_FAST_16BF: *how = TO_BF16; return true;
	default: return false;
	}
}

static bool types_supported(const product &p)
{
	return p.a.type == p.b.type && p.c.type == p.d.type &&
	       (p.a.type != CUDA_R_32F || p.d.type == CUDA_R_32F);
}

static cublasStatus_t enqueue(cudaStream_t stream, const product &p)
{
	check_operands(p);
	push(stream, [p] { multiply(p); });
	return CUBLAS_STATUS_SUCCESS;
}

// ---- cuBLAS

BLAS cublasCreate_v2(cublasHandle_t *handle)
{
	*handle = nullptr;
	BLAS_MAY_FAIL(CUBLAS_STATUS_NOT_INITIALIZED);
	*handle = new cublasContext{ nullptr, CUBLAS_POINTER_MODE_HOST, CUBLAS_DEFAULT_MATH };
	return CUBLAS_STATUS_SUCCESS;
}

BLAS cublasDestroy_v2(cublasHandle_t handle)
{
	delete handle;
	return CUBLAS_STATUS_SUCCESS;
}

BLAS cublasSetStream_v2(cublasHandle_t handle, cudaStream_t stream)
{
	BLAS_MAY_FAIL(CUBLAS_STATUS_NOT_INITIALIZED);
	handle->stream = stream;
	return CUBLAS_STATUS_SUCCESS;
}

BLAS cublasSetMathMode(cublasHandle_t handle, cublasMath_t mode)
{
	BLAS_MAY_FAIL(CUBLAS_STATUS_NOT_INITIALIZED);
	handle->math = mode;
	return CUBLAS_STATUS_SUCCESS;
}

BLAS cublasSetPointerMode_v2(cublasHandle_t handle, cublasPointerMode_t mode)
{
	BLAS_MAY_FAIL(CUBLAS_STATUS_NOT_INITIALIZED);
	handle->pointers = mode;
	return CUBLAS_STATUS_SUCCESS;
}

BLAS cublasSetWorkspace_v2(cublasHandle_t, void *workspace, size_t bytes)
{
	BLAS_MAY_FAIL(CUBLAS_STATUS_NOT_INITIALIZED);
	need_device(workspace, bytes, "cublas workspace");
	return CUBLAS_STATUS_SUCCESS;
}

BLAS cublasGemmStridedBatchedEx(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, int m, int n,
				int k, const void *alpha, const void *a, cudaDataType a_type, int lda,
				long long a_stride, const void *b, cudaDataType b_type, int ldb,
				long long b_stride, const void *beta, void *c, cudaDataType c_type, int ldc,
				long long c_stride, int batch, cublasComputeType_t compute, cublasGemmAlgo_t)
{
	BLAS_MAY_FAIL(CUBLAS_STATUS_EXECUTION_FAILED);
	if (handle->pointers != CUBLAS_POINTER_MODE_HOST)
		die("cublas: device pointer mode is not emulated");
	if (m < 0 || n < 0 || k < 0 || batch < 0)
		return CUBLAS_STATUS_INVALID_VALUE;
	const bool ta = op_a != CUBLAS_OP_N, tb = op_b != CUBLAS_OP_N;
	product p = {};
	p.transpose_a = ta;
	p.transpose_b = tb;
	p.m = (size_t)m;
	p.n = (size_t)n;
	p.k = (size_t)k;
	p.batch = batch;
	p.alpha = *(const float *)alpha;
	p.beta = *(const float *)beta;
	p.a = { a, a_type, ta ? p.k : p.m, ta ? p.m : p.k, (size_t)lda, a_stride };
	p.b = { b, b_type, tb ? p.n : p.k, tb ? p.k : p.n, (size_t)ldb, b_stride };
	p.c = p.d = { c, c_type, p.m, p.n, (size_t)ldc, c_stride };
	if (!rounding_of(compute, handle->math, &p.rounding) || !types_supported(p))
		return CUBLAS_STATUS_NOT_SUPPORTED;
	return m && n && batch ? enqueue(handle->stream, p) : CUBLAS_STATUS_SUCCESS;
}

BLAS cublasGemmEx(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, int m, int n, int k,
		  const void *alpha, const void *a, cudaDataType a_type, int lda, const void *b,
		  cudaDataType b_type, int ldb, const void *beta, void *c, cudaDataType c_type, int ldc,
		  cublasComputeType_t compute, cublasGemmAlgo_t algorithm)
{
	return cublasGemmStridedBatchedEx(handle, op_a, op_b, m, n, k, alpha, a, a_type, lda, 0, b, b_type, ldb, 0,
					  beta, c, c_type, ldc, 0, 1, compute, algorithm);
}

BLAS cublasSgemm_v2(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, int m, int n, int k,
		    const float *alpha, const float *a, int lda, const float *b, int ldb, const float *beta,
		    float *c, int ldc)
{
	return cublasGemmEx(handle, op_a, op_b, m, n, k, alpha, a, CUDA_R_32F, lda, b, CUDA_R_32F, ldb, beta, c,
			    CUDA_R_32F, ldc, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
}

BLAS cublasSgemmStridedBatched(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, int m, int n,
			       int k, const float *alpha, const float *a, int lda, long long a_stride,
			       const float *b, int ldb, long long b_stride, const float *beta, float *c, int ldc,
			       long long c_stride, int batch)
{
	return cublasGemmStridedBatchedEx(handle, op_a, op_b, m, n, k, alpha, a, CUDA_R_32F, lda, a_stride, b,
					  CUDA_R_32F, ldb, b_stride, beta, c, CUDA_R_32F, ldc, c_stride, batch,
					  CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
}

extern "C" const char *cublasGetStatusString(cublasStatus_t status)
{
	switch (status) {
	case CUBLAS_STATUS_SUCCESS: return "success";
	case CUBLAS_STATUS_NOT_INITIALIZED: return "the library was not initialized";
	case CUBLAS_STATUS_INVALID_VALUE: return "an unsupported value or parameter was passed";
	case CUBLAS_STATUS_EXECUTION_FAILED: return "the function failed to launch on the GPU";
	case CUBLAS_STATUS_NOT_SUPPORTED: return "the functionality requested is not supported";
	default: return "another cuBLAS status";
	}
}

extern "C" const char *cublasGetStatusName(cublasStatus_t status) { return cublasGetStatusString(status); }

// ---- cublasLt.  Its descriptors are small opaque arrays in the header; ours live inside them.

struct lt_description {
	int transpose_a, transpose_b, epilogue;
	cublasComputeType_t compute;
	cudaDataType bias_type;
	bool has_bias_type;
	const void *bias;
};
struct lt_layout {
	cudaDataType type;
	int batch;
	u64 rows, columns;
	long long leading, stride;
};
struct lt_promise {             // what an algorithm was chosen for: a preference, then also the algorithm
	u64 workspace;
	unsigned alignment[4];  // bytes, of A, B, C, D
};
static_assert(sizeof(lt_promise) <= sizeof(cublasLtMatmulPreferenceOpaque_t), "fits");
static_assert(sizeof(lt_promise) <= sizeof(cublasLtMatmulAlgo_t), "fits");
static_assert(sizeof(lt_description) <= sizeof(cublasLtMatmulDescOpaque_t), "fits");
static_assert(sizeof(lt_layout) <= sizeof(cublasLtMatrixLayoutOpaque_t), "fits");

static lt_description *of(cublasLtMatmulDesc_t d) { return (lt_description *)d; }
static lt_layout *of(cublasLtMatrixLayout_t l) { return (lt_layout *)l; }

BLAS cublasLtCreate(cublasLtHandle_t *handle)
{
	*handle = nullptr;
	BLAS_MAY_FAIL(CUBLAS_STATUS_NOT_INITIALIZED);
	*handle = (cublasLtHandle_t)new cublasContext();
	return CUBLAS_STATUS_SUCCESS;
}

BLAS cublasLtDestroy(cublasLtHandle_t handle)
{
	delete (cublasContext *)handle;
	return CUBLAS_STATUS_SUCCESS;
}

BLAS cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *d, cublasComputeType_t compute, cudaDataType_t)
{
	*d = nullptr;
	BLAS_MAY_FAIL(CUBLAS_STATUS_ALLOC_FAILED);
	*d = new cublasLtMatmulDescOpaque_t();
	of(*d)->epilogue = CUBLASLT_EPILOGUE_DEFAULT;
	of(*d)->compute = compute;
	return CUBLAS_STATUS_SUCCESS;
}

BLAS cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t d)
{
	delete d;
	return CUBLAS_STATUS_SUCCESS;
}

BLAS cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t d, cublasLtMatmulDescAttributes_t attribute,
				    const void *value, size_t)
{
	BLAS_MAY_FAIL(CUBLAS_STATUS_INVALID_VALUE);
	switch (attribute) {
	case CUBLASLT_MATMUL_DESC_TRANSA: of(d)->transpose_a = *(const int *)value; break;
	case CUBLASLT_MATMUL_DESC_TRANSB: of(d)->transpose_b = *(const int *)value; break;
	case CUBLASLT_MATMUL_DESC_EPILOGUE: of(d)->epilogue = *(const int *)value; break;
	case CUBLASLT_MATMUL_DESC_BIAS_POINTER: of(d)->bias = *(void *const *)value; break;
	case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
		of(d)->bias_type = *(const cudaDataType *)value;
		of(d)->has_bias_type = true;
		break;
	default: return CUBLAS_STATUS_NOT_SUPPORTED;
	}
	return CUBLAS_STATUS_SUCCESS;
}

BLAS cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *l, cudaDataType type, uint64_t rows, uint64_t columns,
				int64_t leading)
{
	*l = nullptr;
	BLAS_MAY_FAIL(CUBLAS_STATUS_ALLOC_FAILED);
	*l = new cublasLtMatrixLayoutOpaque_t();
	*of(*l) = { type, 1, rows, columns, leading, 0 };
	return CUBLAS_STATUS_SUCCESS;
}

BLAS cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t l, cublasLtMatrixLayoutAttribute_t attribute,
				      const void *value, size_t)
{
	BLAS_MAY_FAIL(CUBLAS_STATUS_INVALID_VALUE);
	switch (attribute) {
	case CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT: of(l)->batch = *(const int32_t *)value; break;
	case CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET: of(l)->stride = *(const int64_t *)value; break;
	default: return CUBLAS_STATUS_NOT_SUPPORTED;
	}
	return CUBLAS_STATUS_SUCCESS;
}

BLAS cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t l)
{
	delete l;
	return CUBLAS_STATUS_SUCCESS;
}

BLAS cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *preference)
{
	*preference = nullptr;
	BLAS_MAY_FAIL(CUBLAS_STATUS_ALLOC_FAILED);
	*preference = new cublasLtMatmulPreferenceOpaque_t();
	*(lt_promise *)*preference = { 0, { 256, 256, 256, 256 } };
	return CUBLAS_STATUS_SUCCESS;
}

BLAS cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference)
{
	delete preference;
	return CUBLAS_STATUS_SUCCESS;
}

BLAS cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
					  cublasLtMatmulPreferenceAttributes_t attribute, const void *value, size_t)
{
	lt_promise *p = (lt_promise *)preference;

	BLAS_MAY_FAIL(CUBLAS_STATUS_INVALID_VALUE);
	switch (attribute) {
	case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES: p->workspace = *(const u64 *)value; break;
	case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES: p->alignment[0] = *(const uint32_t *)value; break;
	case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES: p->alignment[1] = *(const uint32_t *)value; break;
	case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES: p->alignment[2] = *(const uint32_t *)value; break;
	case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES: p->alignment[3] = *(const uint32_t *)value; break;
	case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK: break;
	default: return CUBLAS_STATUS_NOT_SUPPORTED;
	}
	return CUBLAS_STATUS_SUCCESS;
}

static matrix matrix_of(const void *data, cublasLtMatrixLayout_t l)
{
	return { data, of(l)->type, of(l)->rows, of(l)->columns, (size_t)of(l)->leading, of(l)->stride };
}

static bool aligned(const matrix &m)
{
	return (uintptr_t)m.data % 16 == 0 && m.leading * element_bytes(m.type) % 16 == 0;
}

// The shapes and options that matter to whether the library takes the product at all.
static cublasStatus_t describe(const lt_description *d, cublasLtMatrixLayout_t la, cublasLtMatrixLayout_t lb,
			       cublasLtMatrixLayout_t lc, cublasLtMatrixLayout_t ld, product *p)
{
	p->transpose_a = d->transpose_a;
	p->transpose_b = d->transpose_b;
	p->a = matrix_of(nullptr, la);
	p->b = matrix_of(nullptr, lb);
	p->c = matrix_of(nullptr, lc);
	p->d = matrix_of(nullptr, ld);
	p->m = d->transpose_a ? p->a.columns : p->a.rows;
	p->k = d->transpose_a ? p->a.rows : p->a.columns;
	p->n = d->transpose_b ? p->b.rows : p->b.columns;
	p->batch = of(ld)->batch;
	p->relu = d->epilogue & CUBLASLT_EPILOGUE_RELU;
	if (d->epilogue & CUBLASLT_EPILOGUE_BIAS) {
		if (!d->bias)           // also where an algorithm is asked for: it depends on the pointer
			return CUBLAS_STATUS_INVALID_VALUE;
		p->bias = d->bias;
		p->bias_type = d->has_bias_type ? d->bias_type : p->d.type;
	}
	if (p->k != (d->transpose_b ? p->b.columns : p->b.rows) || p->d.rows != p->m || p->d.columns != p->n)
		return CUBLAS_STATUS_INVALID_VALUE;
	if (set().no_lt || d->epilogue & ~(CUBLASLT_EPILOGUE_DEFAULT | CUBLASLT_EPILOGUE_RELU_BIAS))
		return CUBLAS_STATUS_NOT_SUPPORTED;
	// What is written about it: a bias has the type of the result.
	if (p->bias && p->bias_type != p->d.type)
		return CUBLAS_STATUS_NOT_SUPPORTED;
	// Stricter than the library: its epilogues are fast, and sometimes there, for aligned operands only.
	if (!aligned(p->a) || !aligned(p->b) || !aligned(p->c) || !aligned(p->d))
		return CUBLAS_STATUS_NOT_SUPPORTED;
	return rounding_of(d->compute, CUBLAS_DEFAULT_MATH, &p->rounding) && types_supported(*p)
		? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

BLAS cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t d, cublasLtMatrixLayout_t la,
				    cublasLtMatrixLayout_t lb, cublasLtMatrixLayout_t lc, cublasLtMatrixLayout_t ld,
				    cublasLtMatmulPreference_t preference, int wanted,
				    cublasLtMatmulHeuristicResult_t results[], int *found)
{
	product p = {};

	*found = 0;
	BLAS_MAY_FAIL(CUBLAS_STATUS_NOT_INITIALIZED);
	const cublasStatus_t status = describe(of(d), la, lb, lc, ld, &p);
	if (status != CUBLAS_STATUS_SUCCESS || wanted < 1)
		return status;
	memset(&results[0], 0, sizeof(results[0]));
	memcpy(&results[0].algo, preference, sizeof(lt_promise));
	*found = 1;
	return CUBLAS_STATUS_SUCCESS;
}

static void check_promise(const lt_promise *made, const void *const operands[4], size_t workspace)
{
	for (int i = 0; i < 4; i++)
		if ((uintptr_t)operands[i] % made->alignment[i])
			die("cublasLt: %c is not aligned to the %u bytes that its algorithm was chosen for", "ABCD"[i],
			    made->alignment[i]);
	if (workspace < made->workspace)
		die("cublasLt: a workspace of %zu bytes for an algorithm that may take %llu", workspace, made->workspace);
}

BLAS cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t d, const void *alpha, const void *a,
		    cublasLtMatrixLayout_t la, const void *b, cublasLtMatrixLayout_t lb, const void *beta,
		    const void *c, cublasLtMatrixLayout_t lc, void *out, cublasLtMatrixLayout_t ld,
		    const cublasLtMatmulAlgo_t *how, void *workspace, size_t workspace_bytes, cudaStream_t stream)
{
	product p = {};

	BLAS_MAY_FAIL(CUBLAS_STATUS_EXECUTION_FAILED);
	need_device(workspace, workspace_bytes, "cublasLt workspace");
	const cublasStatus_t status = describe(of(d), la, lb, lc, ld, &p);
	if (status != CUBLAS_STATUS_SUCCESS)
		return status;
	const void *operands[4] = { a, b, c, out };
	if (how)
		check_promise((const lt_promise *)how, operands, workspace_bytes);
	p.alpha = *(const float *)alpha;
	p.beta = *(const float *)beta;
	p.a.data = a;
	p.b.data = b;
	p.c.data = c;
	p.d.data = out;
	if ((uintptr_t)a % 16 || (uintptr_t)b % 16 || (uintptr_t)out % 16 || (uintptr_t)p.bias % 16)
		return CUBLAS_STATUS_NOT_SUPPORTED;
	return enqueue(stream, p);
}
