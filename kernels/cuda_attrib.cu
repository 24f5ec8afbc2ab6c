/* cuda_attrib: what an ablation does to a logit, one warp a (row, feature) */
#include "cuda.h"

#include "cu_sum.h"

static const float layernorm_eps = 1e-5f;

/*
 * With x = r - mean(r), d = f (dir - mean(dir)), q = ln_w wte[target] and
 * s = 1/sqrt(mean(x²) + eps), the logit is s <x,q> + <ln_b,wte>, and after the
 * ablation s' <x - d,q> + <ln_b,wte>.  So the effect is
 *	(s - s') <x,q> + s' <d,q>,  s - s' = s s' (1/s' - 1/s),
 *	1/s' - 1/s = mean(d (d - 2x)) / (1/s' + 1/s),
 * where nothing large cancels: two logits in float would leave few digits.
 */
__global__ void __launch_bounds__(THREADS)
ablate_logit_kernel(float *__restrict__ effect, const uint32_t *__restrict__ rows, const uint32_t *__restrict__ feats,
		    const float *__restrict__ f, size_t n, const float *__restrict__ r, const float *__restrict__ dir,
		    const float *__restrict__ ln_w, const float *__restrict__ wte,
		    const int32_t *__restrict__ targets, size_t C, float eps, bool aligned)
{
	const size_t i = own_row();

	if (i >= n)
		return;
	const int target = targets[rows[i]];

	if (target < 0) {
		if (threadIdx.x == 0)
			effect[i] = 0;
		return;
	}
	const float *ri = r + (size_t)rows[i] * C, *di = dir + (size_t)feats[i] * C, *w = wte + (size_t)target * C;
	const float fi = f[i];
	float x_mean = 0, d_mean = 0;

	for (size_t c = own_column(); c < C; c += TILE) {
		x_mean += sum4(load4(ri, c, C, aligned));
		d_mean += sum4(load4(di, c, C, aligned));
	}
	x_mean = warp_sum(x_mean) / (float)C;
	d_mean = warp_sum(d_mean) / (float)C;
	float before = 0, after = 0, change = 0, x_along = 0, d_along = 0;

	for (size_t c = own_column(); c < C; c += TILE) {
		const float4 x = cut4(each4(load4(ri, c, C, aligned), [x_mean](float a) { return a - x_mean; }), c, C);
		const float4 d = cut4(each4(load4(di, c, C, aligned), [d_mean, fi](float a) { return fi * (a - d_mean); }),
				      c, C);
		const float4 q = each4(load4(ln_w, c, C, aligned), load4(w, c, C, aligned),
				       [](float a, float b) { return a * b; });
		const float4 rest = each4(x, d, [](float a, float b) { return a - b; });

		before += dot4(x, x);
		after += dot4(rest, rest);
		change += dot4(d, each4(d, x, [](float a, float b) { return a - 2 * b; }));
		x_along += dot4(x, q);
		d_along += dot4(d, q);
	}
	const float root = sqrtf(warp_sum(before) / (float)C + eps), root_after = sqrtf(warp_sum(after) / (float)C + eps);
	const float roots = warp_sum(change) / (float)C / (root_after + root);
	const float whole = roots / (root * root_after) * warp_sum(x_along) + warp_sum(d_along) / root_after;

	if (threadIdx.x == 0)
		effect[i] = whole;
}

// Of each pair a row of r, of dir and of wte: announced as read once each, they mostly lie in L2
void cuda_ablate_logit(real *effect, const uint32_t *rows, const uint32_t *feats, const real *f, size_t n,
		       const real *r, const real *dir, const real *ln_w, const real *ln_b, const real *wte,
		       const int32_t *targets, size_t C)
{
	(void)ln_b;     // it cancels
	if (n * C == 0)
		return;
	CU_TRAFFIC((3 * n + 1) * C * sizeof(*r) + n * (3 * sizeof(*f) + sizeof(*targets)), n * sizeof(*effect));
	LAUNCH(ablate_logit_kernel, row_grid(n), row_block(), 0, cuda_stream(), effect, rows, feats, f, n, r, dir, ln_w,
	       wte, targets, C, layernorm_eps, aligned(C, r, dir, ln_w, wte));
	cuda_launched("ablate_logit");
}
