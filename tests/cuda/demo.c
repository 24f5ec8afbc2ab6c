/*
 * demo: a whole CUDA program in C over cudart, cuBLAS and cublasLt, checked against double arithmetic.
 *	demo            tests, in TAP
 *	demo bug N      exits 0 only if the planted bug N went unnoticed
 */
#include "demo.h"

#include <cublasLt.h>
#include <cublas_v2.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../check.h"

static void fail_at(const char *call, const char *why)
{
	fprintf(stderr, "demo: %s: %s\n", call, why);
	exit(3);
}

#define CU(call)                                                  \
	do {                                                      \
		const cudaError_t e_ = (call);                    \
		if (e_ != cudaSuccess)                            \
			fail_at(#call, cudaGetErrorString(e_));   \
	} while (0)
#define BLAS(call)                                                \
	do {                                                      \
		const cublasStatus_t e_ = (call);                 \
		if (e_ != CUBLAS_STATUS_SUCCESS)                  \
			fail_at(#call, cublasGetStatusString(e_)); \
	} while (0)

static const float one = 1, zero = 0;

static float from_bf16(bf16_bits b)
{
	const uint32_t u = (uint32_t)b << 16;
	float f;

	memcpy(&f, &u, sizeof(f));
	return f;
}

static bf16_bits to_bf16(float f)
{
	uint32_t u;

	memcpy(&u, &f, sizeof(u));
	return (bf16_bits)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

static float random_value(void) /* in [-1,1) */
{
	static uint32_t state = 12345;

	state = state * 1664525u + 1013904223u;
	return (float)(state >> 8) / 8388608.0f - 1.0f;
}

/* Keeps a NaN, which fmax drops: with fmax a deleted barrier once went unnoticed. */
static double worse(double a, double b) { return b > a || b != b ? b : a; }

static void *device(size_t bytes, const void *from)
{
	void *p;

	CU(cudaMalloc(&p, bytes));
	if (from)
		CU(cudaMemcpy(p, from, bytes, cudaMemcpyHostToDevice));
	return p;
}

static void fetch(void *to, const void *from, size_t bytes, cudaStream_t s)
{
	CU(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, s));
}

/* ---- layernorm, head, cross-entropy */

enum { R = 37, D = 256, V = 1003 };
static bf16_bits x[R * D], y[R * D], w[V * D], logits[R * V], dlogits[R * V];
static float gain[D], bias[D], loss[R];
static int target[R];

static void run_head(cublasHandle_t blas, cudaStream_t s)
{
	bf16_bits *dev_x = device(sizeof(x), x), *dev_y = device(sizeof(y), NULL);
	bf16_bits *dev_w = device(sizeof(w), w), *dev_logits = device(sizeof(logits), NULL);
	float *dev_gain = device(sizeof(gain), gain), *dev_bias = device(sizeof(bias), bias);
	float *mean = device(R * 4, NULL), *rstd = device(R * 4, NULL), *dev_loss = device(sizeof(loss), NULL);
	int *dev_target = device(sizeof(target), target);

	CU(demo_layernorm(dev_y, mean, rstd, dev_x, dev_gain, dev_bias, R, D, s));
	/* row-major logits (R,V) = y (R,D) w (V,D)' */
	BLAS(cublasGemmEx(blas, CUBLAS_OP_T, CUBLAS_OP_N, V, R, D, &one, dev_w, CUDA_R_16BF, D, dev_y, CUDA_R_16BF,
			  D, &zero, dev_logits, CUDA_R_16BF, V, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
	fetch(logits, dev_logits, sizeof(logits), s);
	CU(demo_xent(dev_loss, dev_logits, dev_target, R, V, 1.0f / R, s));
	fetch(y, dev_y, sizeof(y), s);
	fetch(loss, dev_loss, sizeof(loss), s);
	fetch(dlogits, dev_logits, sizeof(dlogits), s);
	CU(cudaStreamSynchronize(s));
	void *all[] = { dev_x, dev_y, dev_w, dev_logits, dev_gain, dev_bias, mean, rstd, dev_loss, dev_target };
	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
		CU(cudaFree(all[i]));
}

static double layernorm_error(int r)
{
	double mean = 0, variance = 0, error = 0;

	for (int i = 0; i < D; i++)
		mean += from_bf16(x[r * D + i]) / (double)D;
	for (int i = 0; i < D; i++)
		variance += pow(from_bf16(x[r * D + i]) - mean, 2) / D;
	for (int i = 0; i < D; i++) {
		const double want = (from_bf16(x[r * D + i]) - mean) / sqrt(variance + 1e-5) * gain[i] + bias[i];
		error = worse(error, fabs(want - from_bf16(y[r * D + i])));
	}
	return error;
}

static double product_error(int r)
{
	double error = 0;

	for (int j = 0; j < V; j++) {
		double want = 0;
		for (int i = 0; i < D; i++)
			want += (double)from_bf16(y[r * D + i]) * from_bf16(w[j * D + i]);
		error = worse(error, fabs(want - from_bf16(logits[r * V + j])));
	}
	return error;
}

static double xent_error(int r, double *gradient_error)
{
	const bf16_bits *row = logits + r * V;
	double max = -INFINITY, sum = 0;

	for (int j = 0; j < V; j++)
		max = worse(max, from_bf16(row[j]));
	for (int j = 0; j < V; j++)
		sum += exp(from_bf16(row[j]) - max);
	for (int j = 0; j < V; j++) {
		const double want = (exp(from_bf16(row[j]) - max) / sum - (j == target[r])) / R;
		*gradient_error = worse(*gradient_error, fabs(want - from_bf16(dlogits[r * V + j])));
	}
	return fabs(log(sum) + max - from_bf16(row[target[r]]) - loss[r]);
}

static void test_head(cublasHandle_t blas, cudaStream_t s)
{
	double norm = 0, product = 0, xent = 0, gradient = 0;

	for (int i = 0; i < R * D; i++)
		x[i] = to_bf16(random_value() * 2);
	for (int i = 0; i < V * D; i++)
		w[i] = to_bf16(random_value() * 0.1f);
	for (int i = 0; i < D; i++) {
		gain[i] = 1 + 0.1f * random_value();
		bias[i] = 0.1f * random_value();
	}
	for (int i = 0; i < R; i++)
		target[i] = i * 131 % V;
	run_head(blas, s);
	for (int r = 0; r < R; r++) {
		norm = worse(norm, layernorm_error(r));
		product = worse(product, product_error(r));
		xent = worse(xent, xent_error(r, &gradient));
	}
	check(norm <= 0.02, "layernorm in bf16: error %.2g", norm);
	check(product <= 0.02, "cublasGemmEx in bf16: error %.2g", product);
	check(xent <= 1e-5, "cross-entropy: error %.2g", xent);
	check(gradient <= 1e-4, "its gradient in bf16: error %.2g", gradient);
}

/* ---- the encoder of an autoencoder: an epilogue of cublasLt */

enum { LT_N = 19, LT_D = 24, LT_F = 52 };

/* The best algorithm for operands aligned to so many bytes and no workspace */
static cublasStatus_t choose(cublasLtMatmulAlgo_t *how, uint32_t alignment, cublasLtHandle_t lt, cublasLtMatmulDesc_t d,
			     cublasLtMatrixLayout_t la, cublasLtMatrixLayout_t lb, cublasLtMatrixLayout_t lc)
{
	static const cublasLtMatmulPreferenceAttributes_t names[] = {
		CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
		CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES,
	};
	cublasLtMatmulHeuristicResult_t result = { 0 };
	cublasLtMatmulPreference_t preference;
	int found;

	BLAS(cublasLtMatmulPreferenceCreate(&preference));
	for (int i = 0; i < 4; i++)
		BLAS(cublasLtMatmulPreferenceSetAttribute(preference, names[i], &alignment, sizeof(alignment)));
	const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(lt, d, la, lb, lc, lc, preference, 1, &result, &found);
	*how = result.algo;
	cublasLtMatmulPreferenceDestroy(preference);
	return status;
}

static cublasStatus_t run_lt(float *out, const float *in, const float *weights, const float *b, uint32_t alignment,
			     cudaStream_t s)
{
	cublasLtMatmulAlgo_t how;
	const cublasOperation_t transposed = CUBLAS_OP_T;
	const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_RELU_BIAS;
	cublasLtHandle_t lt;
	cublasLtMatmulDesc_t d;
	cublasLtMatrixLayout_t la, lb, lc;

	BLAS(cublasLtCreate(&lt));
	BLAS(cublasLtMatmulDescCreate(&d, CUBLAS_COMPUTE_32F, CUDA_R_32F));
	BLAS(cublasLtMatmulDescSetAttribute(d, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof(transposed)));
	BLAS(cublasLtMatmulDescSetAttribute(d, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof(epilogue)));
	BLAS(cublasLtMatmulDescSetAttribute(d, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &b, sizeof(b)));
	BLAS(cublasLtMatrixLayoutCreate(&la, CUDA_R_32F, LT_D, LT_F, LT_D));
	BLAS(cublasLtMatrixLayoutCreate(&lb, CUDA_R_32F, LT_D, LT_N, LT_D));
	BLAS(cublasLtMatrixLayoutCreate(&lc, CUDA_R_32F, LT_F, LT_N, LT_F));
	cublasStatus_t status = choose(&how, alignment, lt, d, la, lb, lc);
	if (!status)
		status = cublasLtMatmul(lt, d, &one, weights, la, in, lb, &zero, out, lc, out, lc, &how, NULL, 0, s);
	cublasLtMatrixLayoutDestroy(la);
	cublasLtMatrixLayoutDestroy(lb);
	cublasLtMatrixLayoutDestroy(lc);
	cublasLtMatmulDescDestroy(d);
	cublasLtDestroy(lt);
	return status;
}

static void test_lt(cudaStream_t s)
{
	float in[LT_N * LT_D], weights[LT_F * LT_D], b[LT_F], out[LT_N * LT_F];
	double error = 0;

	for (int i = 0; i < LT_N * LT_D; i++)
		in[i] = random_value();
	for (int i = 0; i < LT_F * LT_D; i++)
		weights[i] = random_value();
	for (int i = 0; i < LT_F; i++)
		b[i] = random_value();
	float *dev_in = device(sizeof(in), in), *dev_w = device(sizeof(weights), weights);
	float *dev_b = device(sizeof(b), b), *dev_out = device(sizeof(out), NULL);
	if (getenv("CUSIM_NOLT")) {
		check(run_lt(dev_out, dev_in, dev_w, dev_b, 16, s) == CUBLAS_STATUS_NOT_SUPPORTED, "cublasLt refuses");
		return;
	}
	BLAS(run_lt(dev_out, dev_in, dev_w, dev_b, 16, s));
	fetch(out, dev_out, sizeof(out), s);
	CU(cudaStreamSynchronize(s));
	for (int n = 0; n < LT_N; n++)
		for (int f = 0; f < LT_F; f++) {
			double want = b[f];
			for (int i = 0; i < LT_D; i++)
				want += (double)in[n * LT_D + i] * weights[f * LT_D + i];
			error = worse(error, fabs((want > 0 ? want : 0) - out[n * LT_F + f]));
		}
	check(error <= 1e-5, "cublasLt with bias and relu: error %.2g", error);
}

/* ---- histogram, sum, transpose */

enum { N = 30000, BINS = 97, ROWS = 45, COLUMNS = 70 };

static void test_histogram_and_sum(cudaStream_t s)
{
	static int bin[N];
	static float value[N];
	static unsigned want[BINS], got[BINS];
	double sum = 0;
	float out;

	for (int i = 0; i < N; i++) {
		bin[i] = (int)((random_value() + 1) * 48);
		value[i] = random_value();
		want[bin[i]]++;
		sum += value[i];
	}
	int *dev_bin = device(sizeof(bin), bin);
	unsigned *dev_count = device(sizeof(got), NULL), *ticket = device(4, NULL);
	float *dev_value = device(sizeof(value), value), *part = device(40 * 4, NULL), *dev_out = device(4, NULL);
	CU(cudaMemsetAsync(dev_count, 0, sizeof(got), s));
	CU(cudaMemsetAsync(ticket, 0, 4, s));
	CU(demo_histogram(dev_count, dev_bin, N, BINS, s));
	CU(demo_sum(dev_out, part, ticket, dev_value, N, s));
	fetch(got, dev_count, sizeof(got), s);
	fetch(&out, dev_out, 4, s);
	CU(cudaStreamSynchronize(s));
	check(!memcmp(got, want, sizeof(got)), "histogram");
	check(fabs(out - sum) <= 1e-2, "sum by the last block: error %.2g", fabs(out - sum));
}

static void test_transpose(cudaStream_t s)
{
	static float in[ROWS * COLUMNS], out[ROWS * COLUMNS];
	double error = 0;

	for (int i = 0; i < ROWS * COLUMNS; i++)
		in[i] = random_value();
	float *dev_in = device(sizeof(in), in), *dev_out = device(sizeof(out), NULL);
	CU(demo_transpose(dev_out, dev_in, ROWS, COLUMNS, s));
	fetch(out, dev_out, sizeof(out), s);
	CU(cudaStreamSynchronize(s));
	for (int r = 0; r < ROWS; r++)
		for (int c = 0; c < COLUMNS; c++)
			error = worse(error, fabs(out[c * ROWS + r] - in[r * COLUMNS + c]));
	check(error == 0, "transpose");
}

static unsigned mixed_bits(unsigned v)
{
	const unsigned by = v & 31, rotated = by ? v << by | v >> (32 - by) : v;
	const uint64_t wide = v * 0x9E3779B97F4A7C15ull;
	unsigned ones = 0, zeros = 0, reversed = 0;

	for (int i = 0; i < 32; i++) {
		ones += v >> i & 1;
		reversed |= (v >> i & 1) << (31 - i);
	}
	while (zeros < 32 && !(v >> (31 - zeros) & 1))
		zeros++;
	return rotated ^ (unsigned)(wide >> 32) ^ (v >> 3 & 0x1ffu) ^ ones << 7 ^ zeros ^ reversed;
}

static void test_bits(cudaStream_t s)
{
	enum { COUNT = 1000 };
	unsigned in[COUNT], out[COUNT], wrong = 0;

	for (unsigned i = 0; i < COUNT; i++)
		in[i] = i < 33 ? (i ? 1u << (i - 1) : 0) : i * 2654435761u;
	unsigned *dev_in = device(sizeof(in), in), *dev_out = device(sizeof(out), NULL);
	CU(demo_bits(dev_out, dev_in, COUNT, s));
	fetch(out, dev_out, sizeof(out), s);
	CU(cudaStreamSynchronize(s));
	for (int i = 0; i < COUNT; i++)
		wrong += out[i] != mixed_bits(in[i]);
	check(wrong == 0, "bits: %u wrong", wrong);
}

/* Operands of 1 + 2^-12: TF32 has no room for the last bit, float has. */
static void test_precisions(cublasHandle_t blas, cudaStream_t s)
{
	enum { SIDE = 16 };
	const cublasComputeType_t compute[2] = { CUBLAS_COMPUTE_32F_PEDANTIC, CUBLAS_COMPUTE_32F_FAST_TF32 };
	float in[SIDE * SIDE], out[2][SIDE * SIDE];

	for (int i = 0; i < SIDE * SIDE; i++)
		in[i] = 1 + 0x1p-12f;
	float *dev_in = device(sizeof(in), in), *dev_out = device(sizeof(in), NULL);
	for (int i = 0; i < 2; i++) {
		BLAS(cublasGemmEx(blas, CUBLAS_OP_N, CUBLAS_OP_T, SIDE, SIDE, SIDE, &one, dev_in, CUDA_R_32F, SIDE, dev_in,
				  CUDA_R_32F, SIDE, &zero, dev_out, CUDA_R_32F, SIDE, compute[i], CUBLAS_GEMM_DEFAULT));
		fetch(out[i], dev_out, sizeof(in), s);
		CU(cudaStreamSynchronize(s));
	}
	check(out[0][5] == (float)(SIDE * (1 + 0x1p-12) * (1 + 0x1p-12)), "a product in float: %.9g", out[0][5]);
	check(out[1][5] == SIDE, "the same in TF32: %.9g", out[1][5]);
}

/* ---- double-buffered copies on one stream, work and a captured graph on another */

enum { SLOT = 1000, STEPS = 6, NO_WAIT = 21, EARLY_REFILL, EARLY_COPY, NO_SYNC };

struct pipeline {
	float *pinned[2], *dev[2], *sum;
	cudaStream_t copies, work;
	cudaEvent_t full[2], empty[2];
};

static void pipeline_start(struct pipeline *p)
{
	CU(cudaStreamCreateWithFlags(&p->copies, cudaStreamNonBlocking));
	CU(cudaStreamCreateWithFlags(&p->work, cudaStreamNonBlocking));
	for (int i = 0; i < 2; i++) {
		CU(cudaMallocHost((void **)&p->pinned[i], SLOT * 4));
		p->dev[i] = device(SLOT * 4, NULL);
		CU(cudaEventCreateWithFlags(&p->full[i], cudaEventDisableTiming));
		CU(cudaEventCreateWithFlags(&p->empty[i], cudaEventDisableTiming));
	}
	p->sum = device(SLOT * 4, NULL);
	CU(cudaMemsetAsync(p->sum, 0, SLOT * 4, p->work));
}

static void pipeline_step(struct pipeline *p, int t, int bug)
{
	const int b = t & 1;

	if (t > 1 && bug != EARLY_REFILL)
		CU(cudaEventSynchronize(p->full[b]));
	for (int i = 0; i < SLOT; i++)
		p->pinned[b][i] = (float)(t + 1);
	if (t > 1 && bug != EARLY_COPY)
		CU(cudaStreamWaitEvent(p->copies, p->empty[b], 0));
	CU(cudaMemcpyAsync(p->dev[b], p->pinned[b], SLOT * 4, cudaMemcpyHostToDevice, p->copies));
	CU(cudaEventRecord(p->full[b], p->copies));
	if (bug != NO_WAIT)
		CU(cudaStreamWaitEvent(p->work, p->full[b], 0));
	CU(demo_saxpy(p->sum, p->dev[b], 1.0f, SLOT, p->work));
	CU(cudaEventRecord(p->empty[b], p->work));
}

static void run_graph(struct pipeline *p) /* 3 times: sum += 1.5 of the last step's values */
{
	cudaGraph_t graph;
	cudaGraphExec_t executable;

	CU(cudaStreamBeginCapture(p->work, cudaStreamCaptureModeGlobal));
	CU(demo_saxpy(p->sum, p->dev[1], 1.0f, SLOT, p->work));
	CU(demo_saxpy(p->sum, p->dev[1], 0.5f, SLOT, p->work));
	CU(cudaStreamEndCapture(p->work, &graph));
	CU(cudaGraphInstantiate(&executable, graph, 0));
	for (int t = 0; t < 3; t++)
		CU(cudaGraphLaunch(executable, p->work));
	CU(cudaGraphExecDestroy(executable));
	CU(cudaGraphDestroy(graph));
}

static void pipeline_end(struct pipeline *p)
{
	CU(cudaDeviceSynchronize());
	CU(cudaStreamDestroy(p->copies));
	CU(cudaStreamDestroy(p->work));
	CU(cudaFree(p->sum));
	for (int i = 0; i < 2; i++) {
		CU(cudaFree(p->dev[i]));
		CU(cudaFreeHost(p->pinned[i]));
		CU(cudaEventDestroy(p->full[i]));
		CU(cudaEventDestroy(p->empty[i]));
	}
}

static void test_streams(int bug)
{
	struct pipeline p;
	float got[SLOT];
	double error = 0;

	pipeline_start(&p);
	for (int t = 0; t < STEPS; t++)
		pipeline_step(&p, t, bug);
	run_graph(&p);
	fetch(got, p.sum, sizeof(got), p.work);
	if (bug != NO_SYNC)
		CU(cudaStreamSynchronize(p.work));
	for (int i = 0; i < SLOT; i++)
		error = worse(error, fabs(got[i] - (21 + 3 * 1.5 * 6)));
	check(error == 0, "streams, events and a graph: error %g", error);
	pipeline_end(&p);
}

/* ---- planted bugs */

enum { BUG_N = 1024, HOST_POINTER = 20, HOST_READ = 25, SHORT_OPERAND = 26, BROKEN_PROMISE = 27 };

static int run_bug(int which, cudaStream_t s)
{
	static float in[BUG_N], out[BUG_N];
	double sum = 0;

	for (int i = 0; i < BUG_N; i++)
		in[i] = (float)(i + 1);
	float *dev_in = device(sizeof(in), in), *dev_out = device(sizeof(out), NULL);
	CU(cudaMemset(dev_out, 0, sizeof(out)));
	if (which == HOST_READ)
		return dev_in[0] < 0;
	if (which == HOST_POINTER) {
		CU(demo_saxpy(dev_out, in, 1, BUG_N, s));
	} else if (which == SHORT_OPERAND) {
		cublasHandle_t blas;
		BLAS(cublasCreate(&blas));
		BLAS(cublasSgemm(blas, CUBLAS_OP_N, CUBLAS_OP_N, 32, 32, 33, &one, dev_in, 32, dev_in, 33, &one,
				 dev_out, 32));
	} else if (which == BROKEN_PROMISE) {
		if (run_lt(device(4 * sizeof(out), NULL), dev_in + 4, device(4 * sizeof(in), NULL), dev_in, 256, s))
			return 0;
	} else if (which > HOST_POINTER) {
		test_streams(which);
		return check_failed != 0;
	} else {
		CU(demo_bug(which, dev_out, dev_in, BUG_N, s));
	}
	fetch(out, dev_out, sizeof(out), s);
	CU(cudaStreamSynchronize(s));
	for (int i = 0; i < BUG_N; i++)
		sum += out[i];
	printf("sum %.9g\n", sum);
	return isnan(sum);
}

int main(int argc, char **argv)
{
	cudaStream_t s;
	cublasHandle_t blas;
	int devices = 0;

	CU(cudaGetDeviceCount(&devices));
	CU(cudaStreamCreate(&s));
	if (argc == 3 && !strcmp(argv[1], "bug"))
		return run_bug(atoi(argv[2]), s);
	BLAS(cublasCreate(&blas));
	BLAS(cublasSetStream(blas, s));
	test_head(blas, s);
	test_lt(s);
	test_histogram_and_sum(s);
	test_transpose(s);
	test_bits(s);
	test_precisions(blas, s);
	test_streams(0);
	BLAS(cublasDestroy(blas));
	CU(cudaStreamDestroy(s));
	return check_done();
}
