/* cpu_linear: products of rows with weights, in blocks of the result. */
#include "cpu.h"

#include <string.h>

enum { ROWS = 256, COLS = 512, GRAD_ROWS = 128, GRAD_COLS = 256, SUM_ROWS = 256 };

struct linear {
	float *y, *dx, *dw, *db;
	const float *x, *dy, *w, *b;
	size_t N, I, O, cols;   /* cols: blocks of columns */
	float *part;
	bool bf16;
};

static void fwd_block(void *arg, size_t i)
{
	const struct linear *l = arg;
	const size_t n = i / l->cols * ROWS, o = i % l->cols * COLS;

	dnn_gemm(&(struct dnn_gemm){
		.M = cpu_min(ROWS, l->N - n), .N = cpu_min(COLS, l->O - o), .K = l->I,
		.c = l->y + n * l->O + o, .ldc = l->O,
		.a = { l->x + n * l->I, l->I, 1 }, .b = { l->w + o * l->I, 1, l->I },
		.bias = l->b ? l->b + o : NULL, .bf16 = l->bf16 });
}

static void forward(struct linear *l)
{
	l->cols = cpu_blocks(l->O, COLS);
	pool_for(cpu_blocks(l->N, ROWS) * l->cols, fwd_block, l);
}

static void cpu_linear_fwd(float *y, const float *x, const float *w, const float *b,
			   size_t N, size_t I, size_t O)
{
	forward(&(struct linear){ .y = y, .x = x, .w = w, .b = b, .N = N, .I = I, .O = O });
}

static void bf16_linear_fwd(float *y, const float *x, const float *w, const float *b,
			    size_t N, size_t I, size_t O)
{
	forward(&(struct linear){ .y = y, .x = x, .w = w, .b = b, .N = N, .I = I, .O = O, .bf16 = true });
}

static void dx_block(void *arg, size_t i)
{
	const struct linear *l = arg;
	const size_t n = i / l->cols * ROWS, k = i % l->cols * COLS;

	dnn_gemm(&(struct dnn_gemm){
		.M = cpu_min(ROWS, l->N - n), .N = cpu_min(COLS, l->I - k), .K = l->O,
		.c = l->dx + n * l->I + k, .ldc = l->I,
		.a = { l->dy + n * l->O, l->O, 1 }, .b = { l->w + k, l->I, 1 }, .bf16 = l->bf16 });
}

static void dw_block(void *arg, size_t i)
{
	const struct linear *l = arg;
	const size_t o = i / l->cols * GRAD_ROWS, k = i % l->cols * GRAD_COLS;

	dnn_gemm(&(struct dnn_gemm){
		.M = cpu_min(GRAD_ROWS, l->O - o), .N = cpu_min(GRAD_COLS, l->I - k), .K = l->N,
		.c = l->dw + o * l->I + k, .ldc = l->I,
		.a = { l->dy + o, 1, l->O }, .b = { l->x + k, l->I, 1 }, .accumulate = true,
		.bf16 = l->bf16 });
}

static void db_block(void *arg, size_t i)
{
	const struct linear *l = arg;
	float *sum = l->part + i * l->O;
	const size_t from = i * SUM_ROWS, to = cpu_min(from + SUM_ROWS, l->N);

	memset(sum, 0, l->O * sizeof(*sum));
	for (size_t n = from; n < to; n++)
		cpu_k->axpy(sum, 1, l->dy + n * l->O, l->O);
}

static void add_bias(struct linear *l)
{
	const size_t blocks = cpu_blocks(l->N, SUM_ROWS);

	l->part = cpu_op_scratch(blocks * l->O);
	pool_for(blocks, db_block, l);
	for (size_t i = 0; i < blocks; i++)
		cpu_k->axpy(l->db, 1, l->part + i * l->O, l->O);
}

static void backward(struct linear *l)
{
	l->cols = cpu_blocks(l->I, COLS);
	if (l->dx)
		pool_for(cpu_blocks(l->N, ROWS) * l->cols, dx_block, l);
	l->cols = cpu_blocks(l->I, GRAD_COLS);
	pool_for(cpu_blocks(l->O, GRAD_ROWS) * l->cols, dw_block, l);
	if (l->db)
		add_bias(l);
}

static void cpu_linear_bwd(float *dx, float *dw, float *db, const float *dy, const float *x,
			   const float *w, size_t N, size_t I, size_t O)
{
	backward(&(struct linear){ .dx = dx, .dw = dw, .db = db, .dy = dy, .x = x, .w = w, .N = N, .I = I, .O = O });
}

static void bf16_linear_bwd(float *dx, float *dw, float *db, const float *dy, const float *x,
			    const float *w, size_t N, size_t I, size_t O)
{
	backward(&(struct linear){ .dx = dx, .dw = dw, .db = db, .dy = dy, .x = x, .w = w, .N = N, .I = I, .O = O,
		.bf16 = true });
}

void cpu_linear(struct backend *b, bool bf16)
{
	b->linear_fwd = bf16 ? bf16_linear_fwd : cpu_linear_fwd;
	b->linear_bwd = bf16 ? bf16_linear_bwd : cpu_linear_bwd;
}
