#ifndef TOPK_H
#define TOPK_H
/*
 * topk: what its files share -- a run over contexts in three passes, and the
 * directory that comes of it.
 *
 *	struct run r = { .contexts = 2000, .batch = 4, … };
 *	passes_start(&r, device, precision);
 *	passes_run(&r, state);                  (resumes; saves states)
 *	bytes = dir_write(&r, "topk 3", part);
 *	passes_end(&r);
 */
#include <jansson.h>

#include "active.h"
#include "attrib.h"
#include "examples.h"
#include "firings.h"
#include "models.h"
#include "rows.h"
#include "show.h"
#include "windows.h"

enum pass { SCAN, PICK, SHOW, PASSES };

struct run {
	/* what was asked for */
	const char *output;
	struct top_shape shape;
	uint64_t contexts, skip, batch, seed, memory;   /* memory: bytes of activations kept from pass to pass */
	double save_every;      /* seconds */
	/* inputs */
	struct models m;
	struct windows tok;
	struct rows rows;
	json_t *gpt_meta, *sae_meta;
	/* nets and results */
	struct gpt *g;
	struct sae *s;
	struct examples *x;
	struct firings *fired;
	struct attrib *a;
	struct show *w;         /* from the third pass on */
	uint64_t pass, next;    /* where the run is: pass, context to go on from */
	double saved;           /* when the last state was */
	/* one batch of contexts */
	size_t n;
	int32_t *idx, *targets;
	struct sae_found found; /* active (token, feature) of it, on the host, … */
	float *effect;          /* … and its effect on the logit */
	/* What the first pass found, for the second: batches from context kept_from on, as many as memory holds */
	struct active **kept;
	size_t n_kept;
	uint64_t kept_from, kept_bytes;
	bool full;
};

/* The nets of both checkpoints and room for results, in shape's sizes */
void passes_start(struct run *r, const char *device, const char *precision);
/* Goes on from a state of this recipe, if there is one. */
void passes_run(struct run *r, const struct recipe *p);
void passes_end(struct run *r);

/* A shard a field and index.json into dir; tool: name and output-version.  Returns the compressed bytes. */
uint64_t dir_write(struct run *r, const char *tool, const char *dir);

#endif
