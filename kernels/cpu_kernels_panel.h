/*
 * cpu_kernels_panel: products of the head and of attention on tiles of TILE_ROWS x 2 vectors that
 * stay in registers; part of cpu_kernels.h.
 *
 * One operand is a panel, PANEL values wide, packed so that it stays in L1; of the other, single
 * values are broadcast, which needs no packing.
 */

enum { TILE_ROWS = LANES == 16 ? 12 : LANES == 8 ? 6 : 4, PANEL = 2 * LANES };

INLINE void fetch_lines(struct cpu_fetch *f, size_t lines)
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

INLINE void load_tile(vec c[][2], size_t rows, const float *p)
{
	for (size_t r = 0; r < rows; r++)
		c[r][0] = v_load(p + r * PANEL), c[r][1] = v_load(p + r * PANEL + LANES);
}

INLINE void store_tile(float *p, vec c[][2], size_t rows)
{
	for (size_t r = 0; r < rows; r++)
		v_store(p + r * PANEL, c[r][0]), v_store(p + r * PANEL + LANES, c[r][1]);
}

/* Rows of the next tile: few sizes, each compiled with its loops unrolled. */
INLINE size_t tile_rows(size_t left)
{
	return left >= TILE_ROWS ? TILE_ROWS : left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
}

#define AT_MOST_TILE(n) ((n) < TILE_ROWS ? (n) : TILE_ROWS)
/* tile(n, …) with n known when it is compiled */
#define BY_TILE_SIZE(n, tile, ...) \
	do { \
		if ((n) == TILE_ROWS) \
			tile(TILE_ROWS, __VA_ARGS__); \
		else if ((n) == 8) \
			tile(AT_MOST_TILE(8), __VA_ARGS__); \
		else if ((n) == 4) \
			tile(AT_MOST_TILE(4), __VA_ARGS__); \
		else if ((n) == 2) \
			tile(2, __VA_ARGS__); \
		else \
			tile(1, __VA_ARGS__); \
	} while (0)

INLINE void product_tile(size_t rows, float *e, const float *xt, const float *reference, const float *w,
			 size_t ld, size_t depth)
{
	const vec first = v_set(0) - v_load(reference), second = v_set(0) - v_load(reference + LANES);
	vec c[TILE_ROWS][2];

	for (size_t r = 0; r < rows; r++)
		c[r][0] = first, c[r][1] = second;
	multiply(c, rows, w, ld, 1, xt, depth);
	store_tile(e, c, rows);
}

static void panel_product(float *e, const float *xt, const float *reference, const float *w, size_t ld,
			  size_t rows, size_t depth, struct cpu_fetch *f)
{
	for (size_t v = 0, n; v < rows; v += n) {
		n = tile_rows(rows - v);
		fetch_lines(f, 12);
		BY_TILE_SIZE(n, product_tile, e + v * PANEL, xt, reference, w + v * ld, ld, depth);
	}
}

static void panel_exp(float *e, float *sum, size_t rows)
{
	vec s[2] = { v_load(sum), v_load(sum + LANES) };

	for (size_t v = 0; v < rows; v++)
		for (size_t j = 0; j < 2; j++) {
			const vec x = v_exp2(v_load(e + v * PANEL + j * LANES));

			v_store(e + v * PANEL + j * LANES, x);
			s[j] += x;
		}
	v_store(sum, s[0]);
	v_store(sum + LANES, s[1]);
}

/* Row v keeps lanes v and later; the others become `with`. */
static void panel_causal(float *e, size_t rows, float with)
{
	for (size_t v = 0; v < rows; v++)
		for (size_t i = 0; i < v && i < PANEL; i++)
			e[v * PANEL + i] = with;
}

INLINE void sum_tile(size_t rows, float *part, const float *e, const float *w, size_t ld, size_t depth)
{
	vec c[TILE_ROWS][2];

	load_tile(c, rows, part);
	multiply(c, rows, w, 1, ld, e, depth);
	store_tile(part, c, rows);
}

static void panel_sum(float *part, const float *e, const float *w, size_t ld, size_t depth, size_t cols)
{
	for (size_t k = 0, n; k < cols; k += n) {
		n = tile_rows(cols - k);
		BY_TILE_SIZE(n, sum_tile, part + k * PANEL, e, w + k, ld, depth);
	}
}

/* n <= PANEL columns of dw */
INLINE void outer_tile(size_t rows, float *dw, size_t ld, const float *e, size_t e_panel, const float *xs,
		       size_t panels, size_t n)
{
	const size_t n0 = n < LANES ? n : LANES, n1 = n - n0;
	vec c[TILE_ROWS][2];

	for (size_t r = 0; r < rows; r++)
		c[r][0] = load_k(dw + r * ld, n0), c[r][1] = n1 ? load_k(dw + r * ld + LANES, n1) : v_set(0);
	for (size_t p = 0; p < panels; p++)
		multiply(c, rows, e + p * e_panel, PANEL, 1, xs + p * PANEL * PANEL, PANEL);
	for (size_t r = 0; r < rows; r++) {
		store_k(dw + r * ld, c[r][0], n0);
		if (n1)
			store_k(dw + r * ld + LANES, c[r][1], n1);
	}
}

static void panel_outer(float *dw, size_t ld, const float *e, size_t e_panel, const float *xs, size_t xs_panel,
			size_t panels, size_t rows, size_t cols, struct cpu_fetch *f, struct cpu_fetch *g)
{
	for (size_t k = 0; k < cols; k += PANEL, xs += xs_panel)
		for (size_t v = 0, n; v < rows; v += n) {
			const size_t width = cols - k < PANEL ? cols - k : PANEL;

			n = tile_rows(rows - v);
			fetch_lines(f, 48);
			fetch_lines(g, 24);
			BY_TILE_SIZE(n, outer_tile, dw + v * ld + k, ld, e + v * PANEL, e_panel, xs, panels, width);
		}
}
