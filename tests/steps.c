/* steps gpt|sae DEVICE PRECISION STEPS [full] -- training steps of a net on a device: the loss of each, a hash
 * of the weights at the end.  Sizes are those of a test, or of the published run; batches are made of hashes. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "base.h"
#include "gpt.h"
#include "pool.h"
#include "rng.h"
#include "sae.h"

static void print_hash(const void *p, size_t bytes)
{
	printf("weights\t%016llx\n", (unsigned long long)XXH3_64bits(p, bytes));
}

/* ---- the net of nanoGPT ---- */

/* Tokens that follow one another by a rule four times in five, so that there is something to learn. */
static void fill_tokens(int32_t *idx, int32_t *targets, size_t B, size_t T, size_t V, uint64_t step)
{
	for (size_t b = 0; b < B; b++) {
		uint64_t token = rng_below(rng_hash(1, RNG_TEST, step, b), V);

		for (size_t t = 0; t < T; t++) {
			const uint64_t h = rng_hash(2, RNG_TEST, step * B + b, t);

			idx[b * T + t] = (int32_t)token;
			token = h % 5 ? (token * 5 + 7) % V : rng_below(h, V);
			targets[b * T + t] = (int32_t)token;
		}
	}
}

static void gpt_steps(const struct backend *be, uint64_t steps, bool full)
{
	const struct gpt_config c = full ? (struct gpt_config){ 1, 4, 128, 1024, 50304, false } :
		(struct gpt_config){ 2, 2, 64, 64, 1000, true };
	const struct gpt_hyper h = { .9, .95, 1e-8, .1, 1 };
	const size_t B = full ? 12 : 2, T = c.block_size, accum = full ? 40 : 2;
	struct gpt *g = gpt_new(be, &c, B, GPT_TRAIN);
	int32_t *idx = xcalloc(B * T, sizeof(*idx)), *targets = xcalloc(B * T, sizeof(*targets));

	gpt_init(g, 1);
	for (uint64_t step = 0; step < steps; step++) {
		gpt_zero_grads(g);
		for (size_t i = 0; i < accum; i++) {
			fill_tokens(idx, targets, B, T, c.vocab_size, step * accum + i);
			gpt_step(g, idx, targets, B, T, 1.0 / (double)accum);
		}
		gpt_update(g, &h, 1e-3);
		const struct gpt_tally t = gpt_tally(g);

		printf("%llu\t%.9g\t%.9g\n", (unsigned long long)step, t.loss, t.norm);
		gpt_set_loss(g, 0);
	}
	float *host = xcalloc(g->n_params, sizeof(*host));

	be->get(host, g->w.wte, g->n_params * sizeof(*host));
	print_hash(host, g->n_params * sizeof(*host));
	free(host), free(idx), free(targets);
	gpt_free(g);
}

/* ---- the autoencoder ---- */

/* Rows of few directions each, with some noise. */
static void fill_rows(float *x, size_t N, size_t D, uint64_t step)
{
	enum { DIRECTIONS = 64 };

	for (size_t i = 0; i < N; i++) {
		const uint64_t row = step * N + i, a = rng_below(rng_hash(3, RNG_TEST, row, 0), DIRECTIONS);
		const uint64_t b = rng_below(rng_hash(3, RNG_TEST, row, 1), DIRECTIONS);

		for (size_t d = 0; d < D; d++)
			x[i * D + d] = (float)(rng_normal(4, RNG_TEST, a, d) + 0.5 * rng_normal(4, RNG_TEST, b, d) +
					       0.1 * rng_normal(5, RNG_TEST, row, d));
	}
}

static void sae_steps(const struct backend *be, uint64_t steps, bool full)
{
	const size_t N = full ? 8192 : 128, D = full ? 512 : 64, F = full ? 4096 : 256, every = 10;
	const double lambda = 1e-3;
	struct sae *s = sae_new(be, D, F, N, SAE_TRAIN);
	float *x = xcalloc(N * D, sizeof(*x));

	sae_init(s, 1);
	for (uint64_t step = 0; step < steps; step++) {
		if (!full)
			fill_rows(x, N, D, step);
		sae_step(s, x, N, lambda, 1e-3);
		const struct sae_loss l = sae_take_loss(s, lambda);

		printf("%llu\t%.9g\t%.9g\n", (unsigned long long)step, l.loss, l.l0);
		if ((step + 1) % every == 0)
			sae_normalise(s);
	}
	float *host = xcalloc(s->n_block, sizeof(*host));

	be->get(host, s->p.enc, s->n_block * sizeof(*host));
	print_hash(host, s->n_block * sizeof(*host));
	free(host), free(x);
	sae_free(s);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*steps)(const struct backend *be, uint64_t steps, bool full);
	} nets[] = { { "gpt", gpt_steps }, { "sae", sae_steps } };
	const bool full = argc == 6 && !strcmp(argv[5], "full");

	base_tool = "steps";
	base_quiet = true;
	for (size_t i = 0; i < ARRAY_LEN(nets) && (argc == 5 || full); i++)
		if (!strcmp(argv[1], nets[i].name)) {
			pool_start(2);
			nets[i].steps(backend_open(argv[2], argv[3]), strtoull(argv[4], NULL, 10), full);
			return 0;
		}
	die_usage("usage: steps gpt|sae DEVICE PRECISION STEPS [full]");
}
