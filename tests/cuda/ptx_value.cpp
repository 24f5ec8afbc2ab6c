// Arithmetic of PTX on registers.
#include "ptx_code.h"

namespace cusim {

u64 truncate(u64 v, int bits) { return bits >= 64 ? v : v & ((1ull << bits) - 1); }
int64_t extend_sign(u64 v, int bits) { return bits >= 64 ? (int64_t)v : (int64_t)(v << (64 - bits)) >> (64 - bits); }
float to_float(u64 v) { return cusim_bits<float>((unsigned)v); }
u64 from_float(float f) { return cusim_bits<unsigned>(f); }

// One value of a narrow type; the other half of the register is left alone by the callers.
static float narrow_to_float(u64 v, ptx_type t)
{
	if (t.kind == 'B')
		return to_float((v & 0xffff) << 16);
	if (t.kind == 'h')
		return __half2float(cusim_bits<__half>((uint16_t)v));
	return to_float(v);
}

static u64 float_to_narrow(float f, ptx_type t)
{
	if (t.kind == 'B') {
		const unsigned u = (unsigned)from_float(f);
		return f != f ? 0x7fff : (u + 0x7fff + (u >> 16 & 1)) >> 16;
	}
	if (t.kind == 'h')
		return cusim_bits<uint16_t>(__float2half(f));
	return from_float(f);
}

double to_double(u64 v, ptx_type t)
{
	return t.bits == 64 ? cusim_bits<double>(v) : narrow_to_float(v, t);
}

u64 from_double(double x, ptx_type t)
{
	return t.bits == 64 ? cusim_bits<u64>(x) : float_to_narrow((float)x, t);
}

template <class T> static T of_numbers(opcode op, T x, T y)
{
	switch (op) {
	case OP_ADD: return x + y;
	case OP_SUB: return x - y;
	case OP_MUL: return x * y;
	case OP_DIV: return x / y;
	case OP_MIN: return fmin(x, y);
	default: return fmax(x, y);
	}
}

static bool is_pair(ptx_type t) { return t.bits == 32 && (t.kind == 'B' || t.kind == 'h'); }

static u64 of_signed(opcode op, int64_t x, int64_t y)
{
	switch (op) {
	case OP_DIV: return y == -1 ? 0 - (u64)x : (u64)(x / y);
	case OP_REM: return y == -1 ? 0 : (u64)(x % y);
	case OP_MIN: return (u64)(x < y ? x : y);
	default: return (u64)(x > y ? x : y);
	}
}

static u64 of_unsigned(opcode op, u64 x, u64 y)
{
	switch (op) {
	case OP_DIV: return x / y;
	case OP_REM: return x % y;
	case OP_MIN: return x < y ? x : y;
	default: return x > y ? x : y;
	}
}

static u64 of_integers(opcode op, u64 a, u64 b, ptx_type t)
{
	if (op == OP_ADD)
		return a + b;
	if (op == OP_SUB)
		return a - b;
	if (op == OP_MUL)
		return a * b;
	if ((op == OP_DIV || op == OP_REM) && !truncate(b, t.bits))
		return ~0ull;
	return t.kind == 's' ? of_signed(op, extend_sign(a, t.bits), extend_sign(b, t.bits))
			     : of_unsigned(op, truncate(a, t.bits), truncate(b, t.bits));
}

u64 binary(opcode op, u64 a, u64 b, ptx_type t)
{
	if (is_pair(t)) {
		const ptx_type half = { t.kind, 16 };
		return binary(op, a & 0xffff, b & 0xffff, half) |
		       binary(op, a >> 16 & 0xffff, b >> 16 & 0xffff, half) << 16;
	}
	if (!is_float(t))
		return of_integers(op, a, b, t);
	if (t.bits == 64)
		return from_double(of_numbers(op, to_double(a, t), to_double(b, t)), t);
	return float_to_narrow(of_numbers(op, narrow_to_float(a, t), narrow_to_float(b, t)), t);
}

u64 fused(u64 a, u64 b, u64 c, ptx_type t)
{
	if (is_pair(t)) {
		const ptx_type half = { t.kind, 16 };
		return fused(a & 0xffff, b & 0xffff, c & 0xffff, half) |
		       fused(a >> 16 & 0xffff, b >> 16 & 0xffff, c >> 16 & 0xffff, half) << 16;
	}
	if (t.bits == 64)
		return from_double(fma(to_double(a, t), to_double(b, t), to_double(c, t)), t);
	return float_to_narrow(fmaf(narrow_to_float(a, t), narrow_to_float(b, t), narrow_to_float(c, t)), t);
}

u64 multiply_integers(const std::string &part, u64 a, u64 b, ptx_type t)
{
	__extension__ typedef unsigned __int128 u128;
	__extension__ typedef __int128 i128;
	const u128 product = t.kind == 's' ? (u128)((i128)extend_sign(a, t.bits) * extend_sign(b, t.bits))
					   : (u128)truncate(a, t.bits) * truncate(b, t.bits);

	return (u64)(part == "hi" ? product >> t.bits : product);
}

template <class T> static bool ordered(const std::string &how, T x, T y)
{
	if (how == "eq")
		return x == y;
	if (how == "ne")
		return x != y;
	if (how == "lt" || how == "lo")
		return x < y;
	if (how == "le" || how == "ls")
		return x <= y;
	if (how == "gt" || how == "hi")
		return x > y;
	return x >= y;  // ge, hs
}

static bool compare_numbers(const std::string &how, double x, double y)
{
	const bool unordered = x != x || y != y;

	if (how == "num" || how == "nan")
		return unordered == (how == "nan");
	if (unordered)
		return how.size() == 3; // equ, neu, ltu …: true when unordered
	return ordered(how.substr(0, 2), x, y);
}

bool compare(const std::string &how, u64 a, u64 b, ptx_type t)
{
	if (is_float(t))
		return compare_numbers(how, to_double(a, t), to_double(b, t));
	if (t.kind == 's')
		return ordered(how, extend_sign(a, t.bits), extend_sign(b, t.bits));
	return ordered(how, truncate(a, t.bits), truncate(b, t.bits));
}

static double rounded_to_integer(const std::vector<std::string> &words, double x)
{
	for (const std::string &w : words) {
		if (w == "rni")
			return nearbyint(x);
		if (w == "rzi")
			return trunc(x);
		if (w == "rmi")
			return floor(x);
		if (w == "rpi")
			return ceil(x);
	}
	return x;
}

static u64 saturated_integer(double x, ptx_type t)
{
	const double above = ldexp(1, t.kind == 's' ? t.bits - 1 : t.bits);

	if (x != x)
		return 0;
	if (t.kind == 's')
		return x <= -above ? 1ull << (t.bits - 1) : x >= above ? (1ull << (t.bits - 1)) - 1 : (u64)(int64_t)x;
	return x <= 0 ? 0 : x >= above ? ~0ull : (u64)x;
}

static u64 convert_number(const ptx_instruction &i, u64 v)
{
	double x = rounded_to_integer(i.words, to_double(v, i.source_type));

	if (!is_float(i.type))
		return saturated_integer(x, i.type);
	for (const std::string &w : i.words)
		if (w == "sat")
			x = x > 0 ? fmin(x, 1) : 0;     // NaN to 0
	return from_double(x, i.type);
}

u64 convert(const ptx_instruction &i, u64 v)
{
	const ptx_type from = i.source_type;
	const bool negative = from.kind == 's';

	if (is_float(from))
		return convert_number(i, v);
	const int64_t s = extend_sign(v, from.bits);
	const u64 u = truncate(v, from.bits);
	if (!is_float(i.type))
		return negative ? (u64)s : u;
	if (i.type.bits == 64)
		return from_double(negative ? (double)s : (double)u, i.type);
	return from_double(negative ? (float)s : (float)u, i.type);     // one rounding, to float
}

static u64 leading_zeros(u64 v, int bits)
{
	return v ? (u64)(__builtin_clzll(v) - (64 - bits)) : (u64)bits;
}

static float float_function(opcode op, float x)
{
	switch (op) {
	case OP_EX2: return exp2f(x);
	case OP_LG2: return log2f(x);
	case OP_RCP: return 1.0f / x;
	case OP_SQRT: return sqrtf(x);
	case OP_RSQRT: return 1.0f / sqrtf(x);
	default: return tanhf(x);
	}
}

// abs and neg of floats change the sign bit alone, of each half of a pair
static u64 sign_bits(ptx_type t)
{
	return is_pair(t) ? 0x80008000u : 1ull << (t.bits - 1);
}

u64 unary(opcode op, u64 a, ptx_type t)
{
	switch (op) {
	case OP_ABS: return is_float(t) ? a & ~sign_bits(t) : (u64)llabs(extend_sign(a, t.bits));
	case OP_NEG: return is_float(t) ? a ^ sign_bits(t) : 0 - a;
	case OP_NOT: return ~a;
	case OP_POPC: return (u64)__builtin_popcountll(truncate(a, t.bits));
	case OP_CLZ: return leading_zeros(truncate(a, t.bits), t.bits);
	case OP_RCP:
	case OP_SQRT:
	case OP_RSQRT:
		if (t.bits == 64) {
			const double x = to_double(a, t), root = op == OP_RCP ? x : sqrt(x);
			return from_double(op == OP_SQRT ? root : 1 / root, t);
		}
		// fall through
	default: return from_float(float_function(op, to_float(a)));
	}
}

} // namespace cusim
