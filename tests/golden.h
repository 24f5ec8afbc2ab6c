#ifndef GOLDEN_H
#define GOLDEN_H
/*
 * golden: replay of recorded reference numbers.  A fixture is NAME.json
 * (configuration, scalars) and NAME.safetensors; each compared quantity is
 * one TAP line "ok 12 - cpu sae_train_sum_10 final.encoder.weight".
 * Tolerances are those of the backend's precision (fixtures' README, section 6).
 */
#include <jansson.h>

#include "gpt.h"
#include "sae.h"

struct golden {
	const char *path;               /* backend, and instruction set, for the lines */
	const char *dir, *name;         /* folder; fixture under replay */
	const struct backend *be;
	struct tensors *t;              /* NULL for fixtures without tensors */
	json_t *j;
};

/* How two arrays may differ. */
struct tolerance {
	enum { TOL_ELEMENT, TOL_L2, TOL_UPDATE, TOL_NONE } kind;        /* NONE: not compared */
	double abs, rel;        /* ELEMENT: |d| <= abs + rel·|ref|; L2: ‖d‖ <= rel·‖ref‖ + abs */
	double max;             /* L2: and |d| <= max; 0: any */
	const struct tolerance *bf16;   /* NULL: the same */
};
extern const struct tolerance tol_acts, tol_latents, tol_gpt_loss, tol_gpt_losses, tol_gpt_grad,
	tol_update, tol_sae_loss, tol_sae_losses, tol_sae_grad, tol_sae_weights, tol_sae_loop,
	tol_probs, tol_probs_loop, tol_resampled, tol_nll, tol_mse, tol_score, tol_count,
	tol_count_eval, tol_ablation, tol_attributed, tol_exact, tol_lr, tol_moments,
	tol_zero_grad, tol_grad_norm, tol_l0, tol_share;

/* One TAP line: got (n, host) against the fixture's tensor, or against ref. */
void golden_tensor(const struct golden *g, const char *tensor, const float *got, size_t n, struct tolerance tol);
void golden_values(const struct golden *g, const char *what, const double *got, const double *ref,
		   size_t n, struct tolerance tol);
void golden_check(const struct golden *g, const char *what, bool ok);
/* Same, for tensors in backend memory. */
void golden_device(const struct golden *g, const char *tensor, const real *got, size_t n, struct tolerance tol);
/* ‖got - ref‖ <= rel·‖ref - init‖ */
void golden_update(const struct golden *g, const char *tensor, const char *init, const real *got, size_t n,
		   size_t skip_from, size_t skip_to);

/* Fixture access; die when missing. */
const struct tensor *golden_find(const struct golden *g, const char *fmt, ...) PRINTF(2, 3);
float *golden_floats(const struct golden *g, const char *name, size_t *n);      /* caller frees */
int32_t *golden_ints(const struct golden *g, const char *name, size_t *n);      /* caller frees */
double golden_num(const struct golden *g, const char *key);
double *golden_nums(const struct golden *g, const char *key, size_t *n);        /* nested arrays flattened */

/* Weights, or the like, from tensors prefix + encoder.weight, … */
void golden_set_sae(const struct golden *g, struct sae *s, const struct sae_params *p, const char *prefix);
/* The models of fixture pipeline_model in the same folder, for max_batch contexts; caller frees both. */
void golden_pipeline(const struct golden *g, size_t max_batch, struct gpt **gpt, struct sae **s);

void golden_gpt_forward(struct golden *g);
void golden_gpt_train(struct golden *g);
void golden_sae_train(struct golden *g);
void golden_sae_resample(struct golden *g);
void golden_sae_loop(struct golden *g);
void golden_sae_eval(struct golden *g);
void golden_feature_page(struct golden *g);
void golden_attributed(struct golden *g);
void golden_schedules(struct golden *g);

#endif
