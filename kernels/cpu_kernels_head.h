/*
 * cpu_kernels_head: the three products of the head on tiles of ROWS x 2 vectors that stay in
 * registers; part of cpu_kernels.h.  ref_lmhead is the plain twin.
 *
 * One operand is a panel, PANEL values wide, packed so that it stays in L1; of the other, single
 * values are broadcast, which needs no packing.
 */

enum { TILE_ROWS = LANES == 16 ? 12 : LANES == 8 ? 6 : 4, PANEL = 2 * LANES };

/* What will be needed soon, fetched into L2 a few lines at a time. */
struct fetch {
	const char *at, *end;
};

INLINE void fetch_lines(struct fetch *f, size_t lines)
{
	for (size_t i = 0; i < lines && f->at < f->end; i++, f->at += 64)
		__builtin_prefetch(f->at, 0, 2);
}

/* c (rows,2) += a (rows,depth) b (depth,PANEL): a[r·a_row + t·a_step] */
INLINE void multiply(vec c[][2], size_t rows, const float *a, size_t a_row, size_t a_step, const float *b, size_t depth)
{
	for (size_t t = 0; t < depth; t++, a += a_step, b += PANEL) {
		const vec b0 = v_load(b), b1 = v_load(b + LANES);

#pragma GCC unroll 12
		for (size_t r = 0; r < rows; r++) {
			const vec x = v_set(a[r * a_row]);

			c[r][0] = v_fma(x, b0, c[r][0]);
			c[r][1] = v_fma(x, b1, c[r][1]);
		}
	}
}

/* Rows of the next tile: few sizes, each compiled with its loop unrolled. */
INLINE size_t tile_rows(size_t left)
{
	return left >= TILE_ROWS ? TILE_ROWS : left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
}

#define EACH_TILE_SIZE(rows, call) \
	switch (rows) { \
	case TILE_ROWS: { enum { R = TILE_ROWS }; call; break; } \
	case TILE_ROWS == 12 ? 8 : 100: { enum { R = 8 }; call; break; } \
	case TILE_ROWS > 4 ? 4 : 101: { enum { R = 4 }; call; break; } \
	case 2: { enum { R = 2 }; call; break; } \
	default: { enum { R = 1 }; call; break; } \
	}

/* e (rows,PANEL) = w xt - reference */
INLINE void logits_tile(size_t rows, float *e, const float *xt, const float *reference, const float *w, size_t C)
{
	const vec first = v_set(0) - v_load(reference), second = v_set(0) - v_load(reference + LANES);
	vec c[TILE_ROWS][2];

	for (size_t r = 0; r < rows; r++)
		c[r][0] = first, c[r][1] = second;
	multiply(c, rows, w, C, 1, xt, C);
	for (size_t r = 0; r < rows; r++)
		v_store(e + r * PANEL, c[r][0]), v_store(e + r * PANEL + LANES, c[r][1]);
}

static void head_exp(float *e, float *sum, const float *xt, const float *reference, const float *w,
		     size_t cols, size_t C, const float *next, size_t lines)
{
	struct fetch f = { (const char *)next, (const char *)next + 64 * lines };
	vec s[2] = { v_set(0), v_set(0) };

	for (size_t v = 0, rows; v < cols; v += rows) {
		rows = tile_rows(cols - v);
		fetch_lines(&f, 12);
		EACH_TILE_SIZE(rows, logits_tile(R, e + v * PANEL, xt, reference, w + v * C, C))
	}
	for (size_t v = 0; v < cols; v++)       /* apart: the constants of exp need registers */
		for (size_t j = 0; j < 2; j++) {
			const vec x = v_exp2(v_load(e + v * PANEL + j * LANES));

			v_store(e + v * PANEL + j * LANES, x);
			s[j] += x;
		}
	v_store(sum, s[0]);
	v_store(sum + LANES, s[1]);
}

INLINE void dx_tile(size_t rows, float *part, const float *e, const float *w, size_t cols, size_t C)
{
	vec c[TILE_ROWS][2];

	for (size_t r = 0; r < rows; r++)
		c[r][0] = v_load(part + r * PANEL), c[r][1] = v_load(part + r * PANEL + LANES);
	multiply(c, rows, w, 1, C, e, cols);
	for (size_t r = 0; r < rows; r++)
		v_store(part + r * PANEL, c[r][0]), v_store(part + r * PANEL + LANES, c[r][1]);
}

static void head_dx(float *part, const float *e, const float *w, size_t cols, size_t C)
{
	for (size_t k = 0, rows; k < C; k += rows) {
		rows = tile_rows(C - k);
		EACH_TILE_SIZE(rows, dx_tile(R, part + k * PANEL, e, w + k, cols, C))
	}
}

/* dw (R,n), n <= PANEL columns; e: panels of PANEL tokens, e_panel apart; xs (panels·PANEL,PANEL) */
INLINE void dw_tile(size_t rows, float *dw, const float *e, size_t e_panel, const float *xs, size_t panels,
		    size_t n, size_t C)
{
	const size_t n0 = n < LANES ? n : LANES, n1 = n - n0;
	vec c[TILE_ROWS][2];

	for (size_t r = 0; r < rows; r++)
		c[r][0] = load_k(dw + r * C, n0), c[r][1] = n1 ? load_k(dw + r * C + LANES, n1) : v_set(0);
	for (size_t p = 0; p < panels; p++)
		multiply(c, rows, e + p * e_panel, PANEL, 1, xs + p * PANEL * PANEL, PANEL);
	for (size_t r = 0; r < rows; r++) {
		store_k(dw + r * C, c[r][0], n0);
		if (n1)
			store_k(dw + r * C + LANES, c[r][1], n1);
	}
}

static void head_dw(float *dw, const float *e, size_t e_panel, const float *xs, size_t xs_panel, size_t panels,
		    size_t cols, size_t C, const float *next_e, size_t e_lines, const float *next_dw, size_t dw_lines)
{
	struct fetch fe = { (const char *)next_e, (const char *)next_e + 64 * e_lines };
	struct fetch fw = { (const char *)next_dw, (const char *)next_dw + 64 * dw_lines };

	for (size_t k = 0; k < C; k += PANEL, xs += xs_panel)
		for (size_t v = 0, rows; v < cols; v += rows) {
			const size_t n = C - k < PANEL ? C - k : PANEL;

			rows = tile_rows(cols - v);
			fetch_lines(&fe, 48);
			fetch_lines(&fw, 24);
			EACH_TILE_SIZE(rows, dw_tile(R, dw + v * C + k, e + v * PANEL, e_panel, xs, panels, n, C))
		}
}
