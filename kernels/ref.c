/* ref: the definition of correct.  Plain loops in the order of the formulas, sums in double, one
 * thread; no op keeps anything between calls. */
#include "ref.h"

#include <math.h>
#include <string.h>

static const double layernorm_eps = 1e-5;

/* ---- memory ---- */

static void ref_put(void *dst, const void *host, size_t bytes)
{
	memcpy(dst, host, bytes);
}

static void ref_zero(void *p, size_t bytes)
{
	memset(p, 0, bytes);
}

static void ref_sync(void)
{
}

/* ---- transformer ---- */

static void ref_embed_fwd(real *x, const int32_t *idx, const real *wte, const real *wpe,
			  size_t B, size_t T, size_t C)
{
	for (size_t i = 0; i < B * T; i++)
		for (size_t c = 0; c < C; c++)
			x[i * C + c] = wte[(size_t)idx[i] * C + c] + wpe[i % T * C + c];
}

static void ref_embed_bwd(real *dwte, real *dwpe, const real *dx, const int32_t *idx,
			  size_t B, size_t T, size_t C, size_t V)
{
	double *sum = doubles(V * C);

	for (size_t i = 0; i < B * T; i++)
		axpy(sum + (size_t)idx[i] * C, 1, dx + i * C, C);
	round_onto(dwte, sum, V * C);
	free(sum);
	sum = doubles(T * C);
	for (size_t i = 0; i < B * T; i++)
		axpy(sum + i % T * C, 1, dx + i * C, C);
	round_onto(dwpe, sum, T * C);
	free(sum);
}

static void ref_layernorm_fwd(real *y, real *mean, real *rstd, const real *x, const real *w,
			      const real *b, size_t N, size_t C)
{
	for (size_t i = 0; i < N; i++) {
		const real *xi = x + i * C;
		double m = 0, v = 0;

		for (size_t c = 0; c < C; c++)
			m += xi[c];
		m /= (double)C;
		for (size_t c = 0; c < C; c++)
			v += (xi[c] - m) * (xi[c] - m);
		const double s = 1 / sqrt(v / (double)C + layernorm_eps);

		for (size_t c = 0; c < C; c++)
			y[i * C + c] = (real)((xi[c] - m) * s * w[c] + (b ? (double)b[c] : 0));
		mean[i] = (real)m;
		rstd[i] = (real)s;
	}
}

/* dx = rstd (g - mean(g) - xn mean(g xn)), g = dy w, xn = (x - mean) rstd */
static void layernorm_bwd_row(real *dx, double *dw, double *db, const real *dy, const real *x,
			      const real *w, double mean, double rstd, size_t C)
{
	double g_mean = 0, gx_mean = 0;

	for (size_t c = 0; c < C; c++) {
		const double xn = (x[c] - mean) * rstd, g = (double)dy[c] * (double)w[c];

		g_mean += g / (double)C;
		gx_mean += g * xn / (double)C;
		dw[c] += dy[c] * xn;
		db[c] += dy[c];
	}
	for (size_t c = 0; c < C; c++) {
		const double xn = (x[c] - mean) * rstd, g = (double)dy[c] * (double)w[c];

		dx[c] = (real)((double)dx[c] + rstd * (g - g_mean - xn * gx_mean));
	}
}

static void ref_layernorm_bwd(real *dx, real *dw, real *db, const real *dy, const real *x,
			      const real *w, const real *mean, const real *rstd, size_t N, size_t C)
{
	double *sum = doubles(2 * C);

	for (size_t i = 0; i < N; i++)
		layernorm_bwd_row(dx + i * C, sum, sum + C, dy + i * C, x + i * C, w, mean[i], rstd[i], C);
	round_onto(dw, sum, C);
	if (db)
		round_onto(db, sum + C, C);
	free(sum);
}

static void ref_linear_fwd(real *y, const real *x, const real *w, const real *b,
			   size_t N, size_t I, size_t O)
{
	for (size_t n = 0; n < N; n++)
		for (size_t j = 0; j < O; j++)
			y[n * O + j] = (real)(dot(x + n * I, w + j * I, I) + (b ? (double)b[j] : 0));
}

static void ref_linear_bwd(real *dx, real *dw, real *db, const real *dy, const real *x,
			   const real *w, size_t N, size_t I, size_t O)
{
	double *sum = doubles(I);

	for (size_t n = 0; dx && n < N; n++) {
		memset(sum, 0, I * sizeof(*sum));
		for (size_t j = 0; j < O; j++)
			axpy(sum, dy[n * O + j], w + j * I, I);
		round_to(dx + n * I, sum, I);
	}
	for (size_t j = 0; j < O; j++) {
		double bias = 0;

		memset(sum, 0, I * sizeof(*sum));
		for (size_t n = 0; n < N; n++) {
			axpy(sum, dy[n * O + j], x + n * I, I);
			bias += dy[n * O + j];
		}
		round_onto(dw + j * I, sum, I);
		if (db)
			db[j] = (real)((double)db[j] + bias);
	}
	free(sum);
}

/* One head of one context: q, k, v point to its first row, rows are `ld` apart. */
struct head {
	const real *q, *k, *v;
	size_t ld, T, size;
	double scale;
};

static struct head head_at(const real *qkv, size_t b, size_t h, size_t T, size_t C, size_t NH)
{
	const real *q = qkv + b * T * 3 * C + h * (C / NH);

	return (struct head){ q, q + C, q + 2 * C, 3 * C, T, C / NH, 1 / sqrt((double)(C / NH)) };
}

/* y = softmax(q kᵀ scale) v for query q at position t; returns the log-sum-exp.  p (T), sum (size): scratch */
static double attend(const struct head *a, const real *q, size_t t, real *y, double *p, double *sum)
{
	double max = -INFINITY, z = 0;

	for (size_t j = 0; j <= t; j++) {
		p[j] = a->scale * dot(q, a->k + j * a->ld, a->size);
		max = p[j] > max ? p[j] : max;
	}
	for (size_t j = 0; j <= t; j++)
		z += p[j] = exp(p[j] - max);
	memset(sum, 0, a->size * sizeof(*sum));
	for (size_t j = 0; j <= t; j++)
		axpy(sum, p[j] / z, a->v + j * a->ld, a->size);
	round_to(y, sum, a->size);
	return max + log(z);
}

static void ref_attention_fwd(real *y, real *lse, const real *qkv, size_t B, size_t T, size_t C, size_t NH)
{
	double *p = doubles(T), *sum = doubles(C);

	for (size_t b = 0; b < B; b++)
		for (size_t h = 0; h < NH; h++) {
			const struct head a = head_at(qkv, b, h, T, C, NH);

			for (size_t t = 0; t < T; t++)
				lse[(b * NH + h) * T + t] = (real)attend(&a, a.q + t * a.ld, t,
					y + (b * T + t) * C + h * a.size, p, sum);
		}
	free(p);
	free(sum);
}

static void ref_attention_rows(real *y, const real *q, const real *kv, const uint32_t *rows, size_t n,
			       size_t B, size_t T, size_t C, size_t NH)
{
	double *p = doubles(T), *sum = doubles(C);
	const size_t size = C / NH;

	for (size_t i = 0; i < n * NH; i++) {
		const size_t r = i / NH, at = i % NH * size, b = rows[r] / T;
		const real *k = kv + b * T * 2 * C + at;
		const struct head a = { NULL, k, k + C, 2 * C, T, size, 1 / sqrt((double)size) };

		if (b >= B)
			BUG("row %u of %zu contexts", rows[r], B);
		attend(&a, q + r * C + at, rows[r] % T, y + r * C + at, p, sum);
	}
	free(p);
	free(sum);
}

/*
 * Position t of one head: with p = softmax and dp_j = <dy, v_j>,
 *	dv_j += p_j dy, ds_j = p_j (dp_j - Σ p dp), dq = scale Σ ds_j k_j, dk_j += scale ds_j q.
 * d (3,T,size): the sums for q, k and v; p (2,T): scratch
 */
static void attend_bwd(const struct head *a, size_t t, const real *dy, double lse, double *d, double *p)
{
	const size_t n = a->T * a->size;
	double *dp = p + a->T, mean = 0;

	for (size_t j = 0; j <= t; j++) {
		p[j] = exp(a->scale * dot(a->q + t * a->ld, a->k + j * a->ld, a->size) - lse);
		dp[j] = dot(dy, a->v + j * a->ld, a->size);
		mean += p[j] * dp[j];
	}
	for (size_t j = 0; j <= t; j++) {
		const double ds = a->scale * p[j] * (dp[j] - mean);

		axpy(d + t * a->size, ds, a->k + j * a->ld, a->size);
		axpy(d + n + j * a->size, ds, a->q + t * a->ld, a->size);
		axpy(d + 2 * n + j * a->size, p[j], dy, a->size);
	}
}

static void ref_attention_bwd(real *dqkv, const real *dy, const real *y, const real *lse,
			      const real *qkv, size_t B, size_t T, size_t C, size_t NH)
{
	double *p = doubles(2 * T), *d = doubles(3 * T * (C / NH));

	for (size_t i = 0; i < B * NH; i++) {
		const size_t b = i / NH, h = i % NH;
		const struct head a = head_at(qkv, b, h, T, C, NH);

		memset(d, 0, 3 * T * a.size * sizeof(*d));
		for (size_t t = 0; t < T; t++)
			attend_bwd(&a, t, dy + (b * T + t) * C + h * a.size, lse[i * T + t], d, p);
		for (size_t part = 0; part < 3; part++)
			for (size_t t = 0; t < T; t++)
				round_to(dqkv + (b * T + t) * 3 * C + part * C + h * a.size,
					 d + (part * T + t) * a.size, a.size);
	}
	(void)y;        /* for backends that take Σ p dp = <dy, y> */
	free(p);
	free(d);
}

static double normal_cdf(double x)
{
	return 0.5 * (1 + erf(x * M_SQRT1_2));
}

static void ref_gelu_fwd(real *y, const real *x, size_t n)
{
	for (size_t i = 0; i < n; i++)
		y[i] = (real)((double)x[i] * normal_cdf(x[i]));
}

static void ref_gelu_bwd(real *dx, const real *dy, const real *x, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const double xi = x[i], density = exp(-0.5 * xi * xi) / sqrt(2 * M_PI);

		dx[i] = (real)((double)dy[i] * (normal_cdf(xi) + xi * density));
	}
}

static void ref_add(real *y, const real *x, size_t n)
{
	for (size_t i = 0; i < n; i++)
		y[i] += x[i];
}

static void ref_fill_rows(real *y, const real *row, size_t N, size_t C)
{
	for (size_t n = 0; n < N; n++)
		memcpy(y + n * C, row, C * sizeof(*y));
}

static void ref_gather_rows(real *y, const real *x, const uint32_t *rows, size_t n, size_t C)
{
	for (size_t i = 0; i < n; i++)
		memcpy(y + i * C, x + rows[i] * C, C * sizeof(*y));
}

/* Nearest multiple of the unit in x's last place; below `least` the exponent stays. */
static double rounded(double x, int digits, int least, double largest)
{
	int exponent;

	if (!isfinite(x) || x == 0)
		return x;
	frexp(x, &exponent);
	const int unit = (exponent - 1 > least ? exponent - 1 : least) - digits + 1;
	const double y = ldexp(nearbyint(ldexp(x, -unit)), unit);

	return fabs(y) > largest ? copysign(INFINITY, y) : y;
}

static void ref_round_rows(real *x, size_t n, unsigned digits, uint64_t *unfit)
{
	static const struct { unsigned digits; int least; double largest; } types[] = {
		{ 11, -14, 65504 }, { 8, -126, 0x1.fep127 }, { 24, -126, 0x1.fffffep127 },
	};
	size_t t = 0;

	while (types[t].digits != digits)
		if (++t == ARRAY_LEN(types))
			BUG("no type of %u digits", digits);
	for (size_t i = 0; i < n; i++) {
		x[i] = (real)rounded((double)x[i], (int)digits, types[t].least, types[t].largest);
		*unfit += !isfinite(x[i]);
	}
}

static void ref_column_sums(double *sum, const real *x, size_t N, size_t C)
{
	for (size_t n = 0; n < N; n++)
		axpy(sum, 1, x + n * C, C);
}

/* ---- the tied head ---- */

/* log-sum-exp of one row's logits, which are left in logits (V) */
static double head_row(double *logits, const real *x, const real *w, size_t C, size_t V)
{
	double max = -INFINITY, z = 0;

	for (size_t v = 0; v < V; v++) {
		logits[v] = dot(x, w + v * C, C);
		max = logits[v] > max ? logits[v] : max;
	}
	for (size_t v = 0; v < V; v++)
		z += exp(logits[v] - max);
	return max + log(z);
}

/* Forward and dx, row by row; lse (N) is kept for dw. */
static void head_rows(real *nll, real *dx, double *lse, const real *x, const real *w,
		      const int32_t *targets, double scale, size_t N, size_t C, size_t V)
{
	double *logits = doubles(V), *sum = doubles(C);

	for (size_t n = 0; n < N; n++) {
		nll[n] = 0;
		memset(sum, 0, C * sizeof(*sum));
		if (targets[n] >= 0) {
			lse[n] = head_row(logits, x + n * C, w, C, V);
			nll[n] = (real)(lse[n] - logits[targets[n]]);
			for (size_t v = 0; dx && v < V; v++)
				axpy(sum, scale * (exp(logits[v] - lse[n]) - (targets[n] == (int32_t)v)),
				     w + v * C, C);
		}
		if (dx)
			round_to(dx + n * C, sum, C);
	}
	free(logits);
	free(sum);
}

static void ref_lmhead(real *nll, real *dx, real *dw, const real *x, const real *w,
		       const int32_t *targets, double scale, size_t N, size_t C, size_t V)
{
	double *lse = doubles(N), *sum = doubles(C);

	head_rows(nll, dx, lse, x, w, targets, scale, N, C, V);
	for (size_t v = 0; dx && v < V; v++) {
		memset(sum, 0, C * sizeof(*sum));
		for (size_t n = 0; n < N; n++)
			if (targets[n] >= 0)
				axpy(sum, scale * (exp(dot(x + n * C, w + v * C, C) - lse[n]) -
						   (targets[n] == (int32_t)v)), x + n * C, C);
		round_onto(dw + v * C, sum, C);
	}
	free(lse);
	free(sum);
}

/* <ln_f(r - f dir), wte_row> */
static double final_logit(const real *r, double f, const real *dir, const real *ln_w, const real *ln_b,
			  const real *wte_row, size_t C)
{
	double m = 0, v = 0, logit = 0;

	for (size_t c = 0; c < C; c++)
		m += (r[c] - f * dir[c]) / (double)C;
	for (size_t c = 0; c < C; c++) {
		const double x = r[c] - f * dir[c] - m;

		v += x * x / (double)C;
	}
	const double s = 1 / sqrt(v + layernorm_eps);

	for (size_t c = 0; c < C; c++)
		logit += ((r[c] - f * dir[c] - m) * s * ln_w[c] + (ln_b ? (double)ln_b[c] : 0)) * wte_row[c];
	return logit;
}

static void ref_ablate_logit(real *effect, const uint32_t *rows, const uint32_t *feats, const real *f,
			     size_t n, const real *r, const real *dir, const real *ln_w,
			     const real *ln_b, const real *wte, const int32_t *targets, size_t C)
{
	for (size_t i = 0; i < n; i++) {
		const real *ri = r + rows[i] * C, *d = dir + feats[i] * C;
		const int32_t target = targets[rows[i]];

		effect[i] = 0;
		if (target >= 0)
			effect[i] = (real)(final_logit(ri, 0, d, ln_w, ln_b, wte + (size_t)target * C, C) -
					   final_logit(ri, f[i], d, ln_w, ln_b, wte + (size_t)target * C, C));
	}
}

/* ---- optimizer ---- */

static void ref_add_sum(double *sum, const real *x, size_t n, double scale)
{
	double s = 0;

	for (size_t i = 0; i < n; i++)
		s += (double)x[i];
	*sum += scale * s;
}

static void ref_clip(double norm[2], const real *g, size_t n, double max)
{
	clip_to(norm, dot(g, g, n), max);
}

static void ref_adamw(real *p, const real *g, real *m, real *v, size_t n, const double *gscale, double lr,
		      double beta1, double beta2, double eps, double wd, uint64_t t)
{
	const double step = lr / (1 - pow(beta1, (double)t)), root = sqrt(1 - pow(beta2, (double)t));
	const double scale = gscale ? *gscale : 1;

	for (size_t i = 0; i < n; i++) {
		const double gi = scale * (double)g[i];
		const double mi = beta1 * (double)m[i] + (1 - beta1) * gi;
		const double vi = beta2 * (double)v[i] + (1 - beta2) * gi * gi;

		m[i] = (real)mi;
		v[i] = (real)vi;
		p[i] = (real)((double)p[i] * (1 - lr * wd) - step * mi / (sqrt(vi) / root + eps));
	}
}

static double ref_sumsq(const real *x, size_t n)
{
	return dot(x, x, n);
}

void backend_ref(struct backend *b)
{
	*b = (struct backend){
		.name = "ref", .precision = "f32", .exact = b, .host = true,
		.alloc = xaligned, .release = free, .put = ref_put, .get = ref_put,
		.zero = ref_zero, .sync = ref_sync,
		.embed_fwd = ref_embed_fwd, .embed_bwd = ref_embed_bwd,
		.layernorm_fwd = ref_layernorm_fwd, .layernorm_bwd = ref_layernorm_bwd,
		.linear_fwd = ref_linear_fwd, .linear_bwd = ref_linear_bwd,
		.attention_fwd = ref_attention_fwd, .attention_rows = ref_attention_rows,
		.attention_bwd = ref_attention_bwd,
		.gelu_fwd = ref_gelu_fwd, .gelu_bwd = ref_gelu_bwd,
		.add = ref_add, .fill_rows = ref_fill_rows, .gather_rows = ref_gather_rows,
		.round_rows = ref_round_rows, .column_sums = ref_column_sums,
		.lmhead = ref_lmhead, .ablate_logit = ref_ablate_logit,
		.add_sum = ref_add_sum, .clip = ref_clip, .adamw = ref_adamw, .sumsq = ref_sumsq,
	};
	ref_sae(b);
}
