// Matrix products in double, in one fixed order.
#include "cusim_gemm.h"

#include <algorithm>

namespace cusim {

size_t element_bytes(cudaDataType type)
{
	switch (type) {
	case CUDA_R_32F: return 4;
	case CUDA_R_16BF:
	case CUDA_R_16F: return 2;
	default: die("data type %d is not emulated", type);
	}
}

static float load(const void *data, size_t i, cudaDataType type)
{
	if (type == CUDA_R_32F)
		return ((const float *)data)[i];
	if (type == CUDA_R_16BF)
		return __bfloat162float(((const __nv_bfloat16 *)data)[i]);
	return __half2float(((const __half *)data)[i]);
}

static void store(void *data, size_t i, cudaDataType type, float value)
{
	if (type == CUDA_R_32F)
		((float *)data)[i] = value;
	else if (type == CUDA_R_16BF)
		((__nv_bfloat16 *)data)[i] = __float2bfloat16(value);
	else
		((__half *)data)[i] = __float2half(value);
}

static float rounded(float x, operand_rounding how)
{
	if (how == EXACT || !isfinite(x))
		return x;
	if (how == TO_BF16)
		return __bfloat162float(__float2bfloat16(x));
	// TF32 keeps 10 bits of the mantissa; ties away from zero, as cvt.rna does
	return cusim_bits<float>((cusim_bits<unsigned>(x) + 0x1000u) & ~0x1fffu);
}

static const void *of_batch(const matrix &m, int i)
{
	return (const char *)m.data + (long long)element_bytes(m.type) * m.stride * i;
}

// op(matrix) as doubles: `rows` is of the result, whose columns are contiguous.
static std::vector<double> operand(const matrix &m, int batch, bool transpose, operand_rounding how)
{
	const void *data = of_batch(m, batch);
	const size_t rows = transpose ? m.columns : m.rows, columns = transpose ? m.rows : m.columns;
	std::vector<double> out(rows * columns);

	for (size_t j = 0; j < columns; j++)
		for (size_t i = 0; i < rows; i++) {
			const size_t from = transpose ? i * m.leading + j : j * m.leading + i;
			out[j * rows + i] = rounded(load(data, from, m.type), how);
		}
	return out;
}

static float finished(const product &p, double sum, size_t i, size_t j, const void *c)
{
	double value = (double)p.alpha * sum;

	if (p.beta != 0)        // with beta 0 C is not read: it may hold NaN
		value += (double)p.beta * load(c, j * p.c.leading + i, p.c.type);
	if (p.bias)
		value += load(p.bias, i, p.bias_type);
	return p.relu && !(value > 0) && value == value ? 0.0f : (float)value;
}

// Every element is summed over k in ascending order, whatever the tile.
static void multiply_one(const product &p, int batch)
{
	const size_t TILE = 256;
	const std::vector<double> a = operand(p.a, batch, p.transpose_a, p.rounding);
	const std::vector<double> b = operand(p.b, batch, p.transpose_b, p.rounding);
	const void *c = of_batch(p.c, batch);
	void *d = const_cast<void *>(of_batch(p.d, batch));
	double sums[TILE];

	for (size_t from = 0; from < p.m; from += TILE) {
		const size_t count = std::min(TILE, p.m - from);
		for (size_t j = 0; j < p.n; j++) {
			std::fill(sums, sums + count, 0.0);
			for (size_t k = 0; k < p.k; k++) {
				const double factor = b[j * p.k + k];
				const double *column = a.data() + k * p.m + from;
				for (size_t i = 0; i < count; i++)
					sums[i] += factor * column[i];
			}
			for (size_t i = 0; i < count; i++)
				store(d, j * p.d.leading + from + i, p.d.type,
				      finished(p, sums[i], from + i, j, c));
		}
	}
}

static void check_matrix(const matrix &m, int batch, const char *what)
{
	if (m.leading < m.rows)
		die("%s: a leading dimension of %zu for %zu rows", what, m.leading, m.rows);
	if (m.rows && m.columns)
		need_device(m.data, ((size_t)(m.stride * (batch - 1)) + (m.columns - 1) * m.leading + m.rows) *
			    element_bytes(m.type), what);
}

void check_operands(const product &p)
{
	check_matrix(p.a, p.batch, "cublas A");
	check_matrix(p.b, p.batch, "cublas B");
	check_matrix(p.d, p.batch, "cublas D");
	if (p.beta != 0)
		check_matrix(p.c, p.batch, "cublas C");
	if (p.bias)
		need_device(p.bias, p.m * element_bytes(p.bias_type), "cublas bias");
}

static size_t bytes(const matrix &m) { return m.rows * m.columns * element_bytes(m.type); }

static const char *type_name(cudaDataType type)
{
	return type == CUDA_R_32F ? "f32" : type == CUDA_R_16BF ? "bf16" : "f16";
}

static void count(const product &p)
{
	const u64 batch = (u64)p.batch;
	traffic_sum &sum = tally("gemm", std::to_string(p.m) + " " + std::to_string(p.n) + " " +
				 std::to_string(p.k) + " " + type_name(p.a.type) + " " + type_name(p.d.type) +
				 (p.beta != 0 ? " +=" : ""));

	sum.launches++;
	sum.flops += 2 * batch * p.m * p.n * p.k;
	sum.read += batch * (bytes(p.a) + bytes(p.b) + (p.beta != 0 ? bytes(p.c) : 0));
	sum.read += p.bias ? p.m * element_bytes(p.bias_type) : 0;
	sum.written += batch * bytes(p.d);
}

void multiply(const product &p)
{
	count(p);
	if (!set().dry)
		for (int i = 0; i < p.batch; i++)
			multiply_one(p, i);
}

} // namespace cusim
