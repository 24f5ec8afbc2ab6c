/* u-sae: initial weights, steps, checkpoints and states of the autoencoder, on ref and cpu.
 * Numbers against the reference: golden; gradients: u-grad. */
#include "sae.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "dies.h"
#include "pool.h"
#include "rng.h"

enum { D = 6, F = 11, N = 5 };
static const struct backend *be;
static char dir[] = "/tmp/u-sae.XXXXXX";

static struct sae_params host(const struct sae *s, const struct sae_params *p)
{
	const size_t n[4] = { s->F * s->D, s->F, s->F * s->D, s->D };
	const real *from[4] = { p->enc, p->b_enc, p->dec, p->b_dec };
	real *to[4];

	for (size_t i = 0; i < 4; i++) {
		to[i] = xcalloc(n[i], sizeof(real));
		be->get(to[i], from[i], n[i] * sizeof(real));
	}
	return (struct sae_params){ to[0], to[1], to[2], to[3] };
}

static void host_free(struct sae_params h)
{
	free(h.enc), free(h.b_enc), free(h.dec), free(h.b_dec);
}

static bool equal(const struct sae *a, const struct sae_params *pa, const struct sae *b, const struct sae_params *pb)
{
	struct sae_params x = host(a, pa), y = host(b, pb);
	const bool same = !memcmp(x.enc, y.enc, F * D * sizeof(real)) && !memcmp(x.dec, y.dec, F * D * sizeof(real)) &&
			  !memcmp(x.b_enc, y.b_enc, F * sizeof(real)) && !memcmp(x.b_dec, y.b_dec, D * sizeof(real));

	host_free(x), host_free(y);
	return same;
}

static bool all_equal(const struct sae *a, const struct sae *b)
{
	return equal(a, &a->p, b, &b->p) && equal(a, &a->m, b, &b->m) && equal(a, &a->v, b, &b->v) && a->t == b->t;
}

static void rows(float *x, size_t n, uint64_t seed)
{
	for (size_t i = 0; i < n * D; i++)
		x[i] = (float)rng_normal(seed, RNG_TEST, 0, i);
}

static double largest(const real *x, size_t n)
{
	double most = 0;

	for (size_t i = 0; i < n; i++)
		most = fmax(most, fabs((double)x[i]));
	return most;
}

static double worst_norm(const real *w, size_t rows_of_w, size_t cols)
{
	double worst = 0;

	for (size_t f = 0; f < rows_of_w; f++) {
		double sum = 0;

		for (size_t d = 0; d < cols; d++)
			sum += (double)w[f * cols + d] * (double)w[f * cols + d];
		worst = fmax(worst, fabs(sqrt(sum) - 1));
	}
	return worst;
}

static void test_init(void)
{
	struct sae *a = sae_new(be, 64, 400, 1, SAE_EVAL), *b = sae_new(be, 64, 400, 1, SAE_EVAL);

	sae_init(a, 1);
	struct sae_params h = host(a, &a->p);
	const double enc = largest(h.enc, 64 * 400), b_enc = largest(h.b_enc, 400), b_dec = largest(h.b_dec, 64);
	double mean = 0, square = 0;

	check(enc <= 0.125 && enc > 0.1249, "encoder within 1/sqrt(D) (%.4f)", enc);
	check(b_enc <= 0.125 && b_enc > 0.12, "encoder bias within 1/sqrt(D) (%.4f)", b_enc);
	check(b_dec <= 0.05 && b_dec > 0.045, "decoder bias within 1/sqrt(F) (%.4f)", b_dec);
	check(worst_norm(h.dec, 400, 64) < 1e-6, "decoder of unit norm");
	for (size_t i = 0; i < 64 * 400; i++) {
		mean += (double)h.enc[i] / (64 * 400);
		square += (double)h.enc[i] * (double)h.enc[i] / (64 * 400);
	}
	check(fabs(mean) < 3e-3 && fabs(square - 0.125 * 0.125 / 3) < 1e-4, "uniform");
	sae_init(b, 2);
	struct sae_params other = host(b, &b->p);
	check(memcmp(h.enc, other.enc, 64 * 400 * sizeof(real)) != 0, "another seed, other weights");
	host_free(h), host_free(other);
	sae_free(a), sae_free(b);
}

/* What a pass must give, in double: loss parts, firing counts, reconstruction. */
struct pass {
	double err2[N], l1[N], l0;
	uint32_t fired[F];
	double xhat[N * D];
};

static struct pass recompute(const struct sae_params *h, const float *x)
{
	struct pass p = { 0 };

	for (size_t n = 0; n < N; n++) {
		for (size_t d = 0; d < D; d++)
			p.xhat[n * D + d] = (double)h->b_dec[d];
		for (size_t f = 0; f < F; f++) {
			double a = (double)h->b_enc[f];

			for (size_t d = 0; d < D; d++)
				a += ((double)x[n * D + d] - (double)h->b_dec[d]) * (double)h->enc[f * D + d];
			if (a <= 0)
				continue;
			p.l1[n] += a;
			p.l0++;
			p.fired[f]++;
			for (size_t d = 0; d < D; d++)
				p.xhat[n * D + d] += a * (double)h->dec[f * D + d];
		}
		for (size_t d = 0; d < D; d++)
			p.err2[n] += pow(p.xhat[n * D + d] - (double)x[n * D + d], 2);
	}
	return p;
}

static bool near(double a, double b)
{
	return fabs(a - b) <= 1e-5 + 1e-5 * fabs(b);
}

static double sum(const double *x, size_t n)
{
	double s = 0;

	for (size_t i = 0; i < n; i++)
		s += x[i];
	return s;
}

static void test_passes(void)
{
	struct sae *s = sae_new(be, D, F, N, SAE_TRAIN);
	float x[N * D], err2[N], l1[N];
	real xhat[N * D];
	uint32_t fired[F];
	bool same = true, split = true;

	sae_init(s, 3);
	rows(x, N, 1);
	struct sae_params h = host(s, &s->p);
	const struct pass p = recompute(&h, x);
	sae_gradients(s, x, N, 0.25);
	const struct sae_loss loss = sae_take_loss(s, 0.25);

	check(near(loss.mse, sum(p.err2, N) / (N * D)), "mse is the mean over rows and inputs");
	check(near(loss.l1, sum(p.l1, N) / N) && near(loss.l0, p.l0 / N), "l1 and l0 are means over rows");
	check(near(loss.loss, loss.mse + 0.25 * loss.l1), "loss = mse + lambda l1");
	sae_fired(s, fired);
	check(!memcmp(fired, p.fired, sizeof(fired)), "rows each feature fired on");
	sae_row_losses(s, x, N, err2, l1);
	for (size_t n = 0; n < N; n++)
		same = same && near((double)err2[n], p.err2[n]) && near((double)l1[n], p.l1[n]);
	check(same, "losses row by row");
	struct sae *small = sae_new(be, D, F, 2, SAE_EVAL);
	float err2_split[N], l1_split[N];
	sae_init(small, 3);
	sae_row_losses(small, x, N, err2_split, l1_split);
	for (size_t n = 0; n < N; n++)
		split = split && near((double)err2[n], (double)err2_split[n]) && near((double)l1[n], (double)l1_split[n]);
	check(split, "... also two at a time");
	be->put(s->x, x, sizeof(x));
	struct sae_sums sums = { 1, 2, 3 };
	sae_reconstruct(s, s->x, N, &sums);
	check(near(sums.err2, 1 + sum(p.err2, N)) && near(sums.l1, 2 + sum(p.l1, N)) && near(sums.l0, 3 + p.l0),
	      "reconstruction adds to the sums");
	be->get(xhat, s->xhat, sizeof(xhat));
	same = true;
	for (size_t i = 0; i < N * D; i++)
		same = same && near((double)xhat[i], p.xhat[i]);
	check(same, "reconstruction");
	host_free(h);
	sae_free(s), sae_free(small);
}

static void test_step(void)
{
	struct sae *s = sae_new(be, D, F, N, SAE_TRAIN);
	float x[N * D];
	bool tangent = true, first = true;

	sae_init(s, 4);
	rows(x, N, 2);
	struct sae_params before = host(s, &s->p);
	sae_gradients(s, x, N, 0.1);
	sae_project(s);
	struct sae_params g = host(s, &s->g);
	for (size_t f = 0; f < F; f++) {
		double dot = 0;

		for (size_t d = 0; d < D; d++)
			dot += (double)g.dec[f * D + d] * (double)before.dec[f * D + d];
		tangent = tangent && fabs(dot) < 1e-6;
	}
	check(tangent, "the gradient's parallel part is removed");
	sae_adam(s, 0.01);
	struct sae_params after = host(s, &s->p);
	for (size_t i = 0; i < F * D; i++) /* m/(1-b1) = g, sqrt(v/(1-b2)) = |g| */
		first = first && fabs((double)before.enc[i] - (double)after.enc[i] -
				      0.01 * (double)g.enc[i] / (fabs((double)g.enc[i]) + 1e-8)) < 1e-6;
	check(first && s->t == 1, "Adam's first step is lr · sign of the gradient");
	check(worst_norm(after.dec, F, D) > 1e-7, "columns leave unit norm");
	sae_normalise(s);
	struct sae_params unit = host(s, &s->p);
	check(worst_norm(unit.dec, F, D) < 1e-6, "... and are brought back");
	host_free(before), host_free(g), host_free(after), host_free(unit);
	sae_free(s);
}

/* As `parts` processes would share it, one after the other; the smallest and largest part's size. */
static void update_in_parts(struct sae *s, size_t from, size_t to, size_t parts, size_t sizes[2])
{
	if (parts > 1) {
		const size_t at = sae_cut(s, from, to);

		update_in_parts(s, from, at, parts / 2, sizes);
		update_in_parts(s, at, to, parts / 2, sizes);
		return;
	}
	sae_update_part(s, from, to, 0.01);
	sae_normalise_part(s, from, to);
	s->t--;
	sizes[0] = to - from < sizes[0] ? to - from : sizes[0];
	sizes[1] = to - from > sizes[1] ? to - from : sizes[1];
}

static void test_parts(void)
{
	for (size_t parts = 1; parts <= 8; parts *= 2) {
		struct sae *s[2] = { sae_new(be, D, F, N, SAE_TRAIN), sae_new(be, D, F, N, SAE_TRAIN) };
		struct buf st[2] = { { 0 }, { 0 } };
		size_t sizes[2] = { SIZE_MAX, 0 };
		float x[N * D];

		rows(x, N, 2);
		for (size_t i = 0; i < 2; i++) {
			sae_init(s[i], 4);
			sae_gradients(s[i], x, N, 0.1);
		}
		sae_update_part(s[0], 0, s[0]->n_block, 0.01);
		sae_normalise(s[0]);
		update_in_parts(s[1], 0, s[1]->n_block, parts, sizes);
		s[1]->t++;
		for (size_t i = 0; i < 2; i++)
			sae_save_state(s[i], &st[i]);
		check(st[0].n == st[1].n && !memcmp(st[0].p, st[1].p, st[0].n), "weights and moments made in %zu parts", parts);
		check(parts > 4 || (sizes[0] * parts * 3 > s[0]->n_block && sizes[1] * parts < 2 * s[0]->n_block), "... of like work");
		for (size_t i = 0; i < 2; i++) {
			buf_free(&st[i]);
			sae_free(s[i]);
		}
	}
}

static void test_checkpoint(void)
{
	struct sae *a = sae_new(be, D, F, N, SAE_TRAIN);
	char *path = xformat("%s/x.safetensors", dir), id[33];
	float dec[D * F];
	bool transposed = true;

	sae_init(a, 5);
	struct tensors_writer *w = tensors_create();
	sae_store(a, w);
	tensors_write(w, path);
	struct tensors *t = tensors_open(path);
	const struct tensor *file = tensors_get(t, "decoder.weight", 2, (size_t[]){ D, F });
	struct sae_params h = host(a, &a->p);
	tensors_f32(file, dec);
	for (size_t f = 0; f < F; f++)
		for (size_t d = 0; d < D; d++)
			transposed = transposed && dec[d * F + f] == (float)h.dec[f * D + d];
	check(transposed, "files hold decoder.weight as (D,F)");
	tensors_get(t, "encoder.weight", 2, (size_t[]){ F, D });
	tensors_close(t);
	struct sae *b = sae_open(be, path, N, id);
	check(b->D == D && b->F == F && strlen(id) == 32 && equal(a, &a->p, b, &b->p), "written and read back");
	host_free(h);
	sae_free(a), sae_free(b);
	unlink(path);
	free(path);
}

static void steps(struct sae *s, uint64_t from, uint64_t to)
{
	float x[N * D];

	for (uint64_t k = from; k < to; k++) {
		rows(x, N, 100 + k);
		sae_step(s, x, N, 0.05, 1e-2);
	}
}

static void test_state(void)
{
	struct sae *a = sae_new(be, D, F, N, SAE_TRAIN), *b = sae_new(be, D, F, N, SAE_TRAIN);
	struct buf st = { 0 };

	sae_init(a, 6);
	steps(a, 0, 5);
	sae_save_state(a, &st);
	struct cursor c = { st.p, st.n };
	sae_load_state(b, &c);
	check(c.left == 0 && all_equal(a, b), "a state holds weights, moments and the step counter");
	steps(a, 5, 8);
	steps(b, 5, 8);
	check(all_equal(a, b), "training goes on as if nothing had happened");
	buf_free(&st);
	sae_free(a), sae_free(b);
}

static void open_it(void *path)
{
	sae_open(be, path, 1, NULL);
}

static void cut_state(void *arg)
{
	struct sae *s = sae_new(be, D, F, N, SAE_TRAIN);
	struct buf st = { 0 };

	sae_save_state(s, &st);
	struct cursor c = { st.p, st.n - *(size_t *)arg };
	sae_load_state(s, &c);
}

static void write_one(const char *path, const char *name, size_t ndim, const size_t *shape, const float *x)
{
	struct tensors_writer *w = tensors_create();

	tensors_put(w, name, ndim, shape, x);
	tensors_write(w, path);
}

static void test_refusals(void)
{
	char *path = xformat("%s/y.safetensors", dir);
	const float x[8] = { 0 };
	size_t cut = 1;

	write_one(path, "transformer.wte.weight", 2, (size_t[]){ 2, 4 }, x);
	dies("a GPT is no autoencoder", "no autoencoder", open_it, path);
	write_one(path, "encoder.weight", 1, (size_t[]){ 8 }, x);
	dies("an encoder that is no matrix", "no autoencoder", open_it, path);
	write_one(path, "encoder.weight", 2, (size_t[]){ 2, 4 }, x);
	dies("a part that is missing", "encoder.bias", open_it, path);
	dies("a state that is cut", "damaged state", cut_state, &cut);
	unlink(path);
	free(path);
}

int main(void)
{
	static const char *const backends[] = { "ref", "cpu" };

	if (!mkdtemp(dir))
		die_errno("cannot make '%s'", dir);
	pool_start(2);
	base_quiet = true;
	for (size_t b = 0; b < ARRAY_LEN(backends); b++) {
		be = backend_open(backends[b], "f32");
		test_init();
		test_passes();
		test_step();
		test_parts();
		test_checkpoint();
		test_state();
		test_refusals();
	}
	rmdir(dir);
	return check_done();
}
