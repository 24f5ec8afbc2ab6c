/*
 * cpu_kernels: bodies of struct cpu_kernels for the instruction set of the
 * file that includes this once, and its table CPU_KERNELS.  ref.c has the
 * plain twins of the ops they serve.
 */
#include "cpu.h"
#include "cpu_vec.h"

/* n values in vectors: BODY sees i and the lanes it may touch, `k` (LANES or fewer). */
INLINE vec load_k(const float *p, size_t k)
{
	return k == LANES ? v_load(p) : v_load_n(p, k);
}

INLINE void store_k(float *p, vec a, size_t k)
{
	if (k == LANES)
		v_store(p, a);
	else
		v_store_n(p, a, k);
}

INLINE size_t lanes_at(size_t i, size_t n)
{
	return n - i < LANES ? n - i : LANES;
}

/*
 * Phi(-|x|) = exp(-x²/2) P(q) / (1 + 0.8 |x|), q = (|x| - 3.6) / (|x| + 3.6); P fitted at
 * Chebyshev nodes over |x| <= 14.5, relative error 5e-9.  *density = exp(-x²/2).
 */
INLINE vec lower_tail(vec x, vec *density)
{
	static const float P[] = {
		1.2877871951e-4f, 2.2412864714e-4f, -1.0132354341e-3f, -7.5670002100e-4f, 9.1141398862e-3f,
		-2.0516446647e-2f, 1.6196503132e-2f, 2.8148724593e-2f, -1.1483786881e-1f, 4.0248860959e-1f,
	};
	const vec z = v_min(v_abs(x), v_set(14.5f)), h = z * z;
	const vec low = v_fma(z, z, v_set(0) - h);      /* the square's rounding: exp would magnify it */
	const vec e = v_exp(h * v_set(-0.5f));
	const vec q = (z - v_set(3.6f)) / (z + v_set(3.6f));
	vec p = v_set(P[0]);

	for (size_t i = 1; i < sizeof(P) / sizeof(*P); i++)
		p = v_fma(p, q, v_set(P[i]));
	*density = v_fma(e, low * v_set(-0.5f), e);
	return *density * p / v_fma(z, v_set(0.8f), v_set(1));
}

static void gelu_fwd(float *y, const float *x, size_t n)
{
	for (size_t i = 0; i < n; i += LANES) {
		const size_t k = lanes_at(i, n);
		const vec a = load_k(x + i, k);
		vec density;
		const vec tail = lower_tail(a, &density);

		store_k(y + i, a * v_where_negative(a, tail, v_set(1) - tail), k);
	}
}

static void gelu_bwd(float *dx, const float *dy, const float *x, size_t n)
{
	for (size_t i = 0; i < n; i += LANES) {
		const size_t k = lanes_at(i, n);
		const vec a = load_k(x + i, k);
		vec density;
		const vec tail = lower_tail(a, &density);
		const vec cdf = v_where_negative(a, tail, v_set(1) - tail);

		store_k(dx + i, load_k(dy + i, k) * v_fma(a * density, v_set(0.398942280f), cdf), k);
	}
}

static float sum_of(const float *x, size_t n)
{
	vec s = v_set(0);

	for (size_t i = 0; i < n; i += LANES)
		s += load_k(x + i, lanes_at(i, n));
	return v_sum(s);
}

/* Σ (x - m)²; lanes past the end count nothing */
static float spread(const float *x, float m, size_t n)
{
	const vec mean = v_set(m);
	const size_t whole = n / LANES * LANES;
	vec s = v_set(0);
	float tail = 0;

	for (size_t i = 0; i < whole; i += LANES) {
		const vec d = v_load(x + i) - mean;

		s = v_fma(d, d, s);
	}
	for (size_t i = whole; i < n; i++)
		tail += (x[i] - m) * (x[i] - m);
	return v_sum(s) + tail;
}

static void layernorm_fwd(float *y, float *mean, float *rstd, const float *x, const float *w,
			  const float *b, size_t N, size_t C)
{
	for (size_t n = 0; n < N; n++, x += C, y += C) {
		const float m = sum_of(x, C) / (float)C;
		const float r = 1 / sqrtf(spread(x, m, C) / (float)C + 1e-5f);

		for (size_t i = 0; i < C; i += LANES) {
			const size_t k = lanes_at(i, C);
			const vec xn = (load_k(x + i, k) - v_set(m)) * v_set(r);

			store_k(y + i, v_fma(xn, load_k(w + i, k), b ? load_k(b + i, k) : v_set(0)), k);
		}
		mean[n] = m;
		rstd[n] = r;
	}
}

/* dx += rstd (g - mean(g) - xn mean(g xn)), g = dy w, xn = (x - mean) rstd */
static void layernorm_bwd_row(float *dx, float *dw, float *db, const float *dy, const float *x,
			      const float *w, float mean, float rstd, size_t C)
{
	vec g_sum = v_set(0), gx_sum = v_set(0);

	for (size_t i = 0; i < C; i += LANES) {
		const size_t k = lanes_at(i, C);
		const vec d = load_k(dy + i, k), g = d * load_k(w + i, k);
		const vec xn = (load_k(x + i, k) - v_set(mean)) * v_set(rstd);

		g_sum += g;
		gx_sum = v_fma(g, xn, gx_sum);
		store_k(dw + i, v_fma(d, xn, load_k(dw + i, k)), k);
		store_k(db + i, d + load_k(db + i, k), k);
	}
	const vec g_mean = v_set(v_sum(g_sum) / (float)C), gx_mean = v_set(v_sum(gx_sum) / (float)C);

	for (size_t i = 0; i < C; i += LANES) {
		const size_t k = lanes_at(i, C);
		const vec g = load_k(dy + i, k) * load_k(w + i, k);
		const vec xn = (load_k(x + i, k) - v_set(mean)) * v_set(rstd);

		store_k(dx + i, v_fma(g - g_mean - xn * gx_mean, v_set(rstd), load_k(dx + i, k)), k);
	}
}

static void layernorm_bwd(float *dx, float *dw, float *db, const float *dy, const float *x,
			  const float *w, const float *mean, const float *rstd, size_t N, size_t C)
{
	memset(dw, 0, C * sizeof(*dw));
	memset(db, 0, C * sizeof(*db));
	for (size_t n = 0; n < N; n++)
		layernorm_bwd_row(dx + n * C, dw, db, dy + n * C, x + n * C, w, mean[n], rstd[n], C);
}

static float dot(const float *a, const float *b, size_t n)
{
	const size_t step = 4 * LANES, whole = n / step * step;
	vec s[4] = { v_set(0), v_set(0), v_set(0), v_set(0) };

	for (size_t i = 0; i < whole; i += step)
		for (size_t j = 0; j < 4; j++)
			s[j] = v_fma(v_load(a + i + j * LANES), v_load(b + i + j * LANES), s[j]);
	for (size_t i = whole; i < n; i += LANES) {
		const size_t k = lanes_at(i, n);

		s[0] = v_fma(load_k(a + i, k), load_k(b + i, k), s[0]);
	}
	return v_sum((s[0] + s[1]) + (s[2] + s[3]));
}

static void axpy(float *y, float a, const float *x, size_t n)
{
	for (size_t i = 0; i < n; i += LANES) {
		const size_t k = lanes_at(i, n);

		store_k(y + i, v_fma(v_set(a), load_k(x + i, k), load_k(y + i, k)), k);
	}
}

static void scale(float *y, const float *x, float a, size_t n)
{
	for (size_t i = 0; i < n; i += LANES) {
		const size_t k = lanes_at(i, n);

		store_k(y + i, v_set(a) * load_k(x + i, k), k);
	}
}

static void sub(float *y, const float *a, const float *b, size_t n)
{
	for (size_t i = 0; i < n; i += LANES) {
		const size_t k = lanes_at(i, n);

		store_k(y + i, load_k(a + i, k) - load_k(b + i, k), k);
	}
}

static void mul(float *y, const float *x, float a, size_t n)
{
	for (size_t i = 0; i < n; i += LANES) {
		const size_t k = lanes_at(i, n);

		store_k(y + i, v_set(a) * load_k(x + i, k) * load_k(y + i, k), k);
	}
}

static void adamw(float *p, const float *g, float *m, float *v, size_t n, const struct adamw *c)
{
	const vec b1 = v_set(c->beta1), c1 = v_set(c->keep1), b2 = v_set(c->beta2), c2 = v_set(c->keep2);

	for (size_t i = 0; i < n; i += LANES) {
		const size_t k = lanes_at(i, n);
		const vec gi = load_k(g + i, k) * v_set(c->gscale);
		const vec mi = v_fma(b1, load_k(m + i, k), c1 * gi);
		const vec vi = v_fma(b2, load_k(v + i, k), c2 * gi * gi);
		const vec denominator = v_fma(v_sqrt(vi), v_set(c->inv_root), v_set(c->eps));

		store_k(m + i, mi, k);
		store_k(v + i, vi, k);
		store_k(p + i, load_k(p + i, k) * v_set(c->decay) - v_set(c->step) * mi / denominator, k);
	}
}

static void relu_bwd(float *x, const float *f, float a, size_t n)
{
	for (size_t i = 0; i < n; i += LANES) {
		const size_t k = lanes_at(i, n);

		store_k(x + i, v_where_positive(load_k(f + i, k), load_k(x + i, k) + v_set(a)), k);
	}
}

static size_t compact(uint32_t *index, float *value, const float *x, uint32_t first, size_t n)
{
	size_t found = 0;

	for (size_t i = 0; i < n; i += LANES) {
		const size_t k = lanes_at(i, n);

		for (uint32_t m = v_positive(load_k(x + i, k)); m; m &= m - 1) {
			const size_t at = i + (size_t)__builtin_ctz(m);

			index[found] = first + (uint32_t)at;
			value[found++] = x[at];
		}
	}
	return found;
}

/* Rows fetched ahead: a dictionary's come from beyond L2 */
enum { AHEAD = 4 };

/* One tile of `vecs` vectors, summed in registers */
INLINE void gather_tile(size_t vecs, float *y, const float *base, const uint32_t *index, const float *coef,
			size_t n, const float *m, size_t ld)
{
	vec s[16];

	for (size_t j = 0; j < vecs; j++)
		s[j] = base ? v_load(base + j * LANES) : v_set(0);
	for (size_t i = 0; i < n; i++) {
		const float *row = m + index[i] * ld, *later = m + index[i + AHEAD < n ? i + AHEAD : n - 1] * ld;
		const vec a = v_set(coef[i]);

		for (size_t j = 0; j < vecs * LANES; j += 16)
			__builtin_prefetch(later + j, 0, 3);
		for (size_t j = 0; j < vecs; j++)
			s[j] = v_fma(a, v_load(row + j * LANES), s[j]);
	}
	for (size_t j = 0; j < vecs; j++)
		v_store(y + j * LANES, s[j]);
}

static void gather_sum(float *y, const float *base, const uint32_t *index, const float *coef, size_t n,
		       const float *m, size_t ld, size_t width)
{
	enum { WIDE = LANES == 16 ? 16 : 8, NARROW = 4 };
	size_t c = 0;

	for (; c + WIDE * LANES <= width; c += WIDE * LANES)
		gather_tile(WIDE, y + c, base ? base + c : NULL, index, coef, n, m + c, ld);
	for (; c + NARROW * LANES <= width; c += NARROW * LANES)
		gather_tile(NARROW, y + c, base ? base + c : NULL, index, coef, n, m + c, ld);
	for (; c < width; c += LANES) {
		const size_t k = lanes_at(c, width);
		vec s = base ? load_k(base + c, k) : v_set(0);

		for (size_t i = 0; i < n; i++)
			s = v_fma(v_set(coef[i]), load_k(m + index[i] * ld + c, k), s);
		store_k(y + c, s, k);
	}
}

static void gather_dots(float *y, const float *x, float a, const uint32_t *index, size_t n,
			const float *m, size_t D)
{
	const size_t fours = n / 4 * 4;

	for (size_t i = 0; i < fours; i += 4) {
		const float *r0 = m + index[i] * D, *r1 = m + index[i + 1] * D;
		const float *r2 = m + index[i + 2] * D, *r3 = m + index[i + 3] * D;
		vec s0 = v_set(0), s1 = s0, s2 = s0, s3 = s0;

		for (size_t c = 0; c < D; c += LANES) {
			const size_t k = lanes_at(c, D);
			const vec xc = load_k(x + c, k);

			s0 = v_fma(xc, load_k(r0 + c, k), s0);
			s1 = v_fma(xc, load_k(r1 + c, k), s1);
			s2 = v_fma(xc, load_k(r2 + c, k), s2);
			s3 = v_fma(xc, load_k(r3 + c, k), s3);
		}
		y[i] = v_sum(s0) + a;
		y[i + 1] = v_sum(s1) + a;
		y[i + 2] = v_sum(s2) + a;
		y[i + 3] = v_sum(s3) + a;
	}
	for (size_t i = fours; i < n; i++)
		y[i] = dot(x, m + index[i] * D, D) + a;
}

/* Lanes past the end of a row repeat nothing: they load as 0 and are cleared after centring. */
INLINE vec centred(const float *x, float mean, size_t k)
{
	float lanes[LANES];

	if (k == LANES)
		return v_load(x) - v_set(mean);
	v_store(lanes, v_load_n(x, k) - v_set(mean));
	return v_load_n(lanes, k);
}

/*
 * With r and d centred and g = ln_w w: <ln_f(r - f d), w> = (Σ r g - f Σ d g) / sqrt(var) + Σ ln_b w,
 * var = (Σ r² - 2 f Σ r d + f² Σ d²) / C + eps.
 */
static float ablate(const float *r, const float *d, float f, const float *ln_w, const float *w, size_t C)
{
	const float r_mean = sum_of(r, C) / (float)C, d_mean = sum_of(d, C) / (float)C;
	vec rr = v_set(0), rd = rr, dd = rr, rg = rr, dg = rr;

	for (size_t i = 0; i < C; i += LANES) {
		const size_t k = lanes_at(i, C);
		const vec a = centred(r + i, r_mean, k), b = centred(d + i, d_mean, k);
		const vec g = load_k(ln_w + i, k) * load_k(w + i, k);

		rr = v_fma(a, a, rr);
		rd = v_fma(a, b, rd);
		dd = v_fma(b, b, dd);
		rg = v_fma(a, g, rg);
		dg = v_fma(b, g, dg);
	}
	const double n = (double)C, r2 = (double)v_sum(rr), by = (double)f, along = (double)v_sum(rg);
	const double left = r2 + by * (by * (double)v_sum(dd) - 2 * (double)v_sum(rd));

	return (float)(along / sqrt(r2 / n + 1e-5) -
		       (along - by * (double)v_sum(dg)) / sqrt((left > 0 ? left : 0) / n + 1e-5));
}

static double probe(size_t n)
{
	vec a0 = v_set(0), a1 = v_set(1), a2 = v_set(2), a3 = v_set(3), a4 = v_set(4);
	vec a5 = v_set(5), a6 = v_set(6), a7 = v_set(7), a8 = v_set(8), a9 = v_set(9);
	const vec x = v_set(0.999f), y = v_set(1e-3f);

	for (size_t i = 0; i < n; i++) {
		a0 = v_fma(a0, x, y), a1 = v_fma(a1, x, y), a2 = v_fma(a2, x, y), a3 = v_fma(a3, x, y);
		a4 = v_fma(a4, x, y), a5 = v_fma(a5, x, y), a6 = v_fma(a6, x, y), a7 = v_fma(a7, x, y);
		a8 = v_fma(a8, x, y), a9 = v_fma(a9, x, y);
	}
	const volatile float sink = v_sum(a0 + a1 + a2 + a3 + a4 + a5 + a6 + a7 + a8 + a9);

	(void)sink;
	return 2.0 * 10 * LANES * (double)n;
}

#include "cpu_kernels_panel.h"

const struct cpu_kernels CPU_KERNELS = {
	.name = CPU_KERNELS_NAME,
	.gelu_fwd = gelu_fwd, .gelu_bwd = gelu_bwd,
	.layernorm_fwd = layernorm_fwd, .layernorm_bwd = layernorm_bwd,
	.dot = dot, .axpy = axpy, .scale = scale, .sub = sub, 
	.mul = mul, .adamw = adamw, .relu_bwd = relu_bwd,
	.compact = compact, .gather_sum = gather_sum, .gather_dots = gather_dots, .ablate = ablate, .probe = probe,
	.panel = PANEL, .panel_product = panel_product, .panel_exp = panel_exp, .panel_causal = panel_causal,
	.panel_sum = panel_sum, .panel_outer = panel_outer,
};
