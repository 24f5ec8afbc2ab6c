#ifndef RELATE_H
#define RELATE_H
/*
 * relate: what a feature goes with -- features of nearly its decoder column,
 * features active on the same tokens, neurons, tokens before, at and after.
 *
 *	struct relate r = relate_new(&shape);
 *	relate_decoder(&r, sae);                (near, align)
 *	relate_firings(&r, firings, active);    (the others)
 *	relate_free(&r);
 *
 * Members are those of top.h, (F,N), (F,A), (F,B) or (F).
 */
#include "firings.h"
#include "sae.h"
#include "top.h"

struct relate {
	struct top_shape s;
	uint32_t *near, *together, *align, *sampled;
	float *near_cos, *together_share, *align_value, *align_l1;
	uint16_t *around[3];            /* before, on, after */
	uint32_t *around_count[3];
};

struct relate relate_new(const struct top_shape *s);    /* nothing listed yet */
void relate_free(struct relate *r);
/* Cosines of all pairs of columns, in float32, a block of rows at a time: 2·F²·D operations.
 * A column of zeros is near nothing. */
void relate_decoder(struct relate *r, const struct sae *s);
/* active (F): firings there are of each; w: all gathered */
void relate_firings(struct relate *r, const struct firings *w, const uint32_t *active);

#endif
