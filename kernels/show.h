#ifndef SHOW_H
#define SHOW_H
/*
 * show: what is displayed of every example's window beside activations -- its
 * tokens, and what ablating the feature does to the prediction at each.
 *
 *	struct show *w = show_new(x, a);                (x after examples_finish)
 *	for each block of contexts: if (show_wants(w, first, B * T)) {
 *		attrib_residual(a, &hook, B * T);
 *		show_block(w, idx, targets, B, T, first);
 *	}
 *
 * The head runs for each shown token with f > 0, once however many windows
 * of a feature share it.  Blocks come in order.
 */
#include "attrib.h"
#include "examples.h"

struct show {
	const struct examples *x;
	struct attrib *a;
	uint16_t *tokens;       /* (F,cells); TOP_NO_TOKEN outside of the context and without example */
	float *effects;         /* (F,cells) log p(next token) minus that with the feature ablated */
	float *logit_effects;   /* (F,cells) the same of its logit */
	struct show_place *order;       /* examples by token */
	size_t n, done;
	struct show_want *want; /* (cap) effects to compute in a block */
	size_t wants, cap;
	uint32_t *rows, *feats; /* (cap) each once, and their results */
	float *f, *effect, *logit_effect;
};

struct show *show_new(const struct examples *x, struct attrib *a);      /* borrows both */
void show_free(struct show *w);
bool show_wants(const struct show *w, uint64_t first, size_t tokens);
/* idx, targets: host (B,T), the contexts from token number `first` on; a holds their residual. */
void show_block(struct show *w, const int32_t *idx, const int32_t *targets, size_t B, size_t T,
		uint64_t first);
/* What is done of a state up to token number `next`, and back. */
void show_save(const struct show *w, struct buf *st);
void show_load(struct show *w, struct cursor *st, uint64_t next);

#endif
