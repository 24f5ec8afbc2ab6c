#ifndef HTMLGEN_H
#define HTMLGEN_H
/*
 * htmlgen: the site's data.  A page opened from a file cannot fetch, so data
 * are scripts that the page adds when it needs them: data/NAME.js is
 *
 *	chunk("NAME", VALUE);
 *
 *	site    what was trained, figures, curves, density histogram (the first thing loaded)
 *	vocab   text of all tokens, one string: a byte a character, tokens apart by U+0100
 *	nI      active, max, mean of SITE_NUMBERS features from I·SITE_NUMBERS on, as base64 arrays
 *	rI      top tokens, top logits, small histogram of SITE_ROWS features: a table's rows
 *	fI      everything else of SITE_GROUP features
 */
#include "top_dir.h"

enum {
	SITE_GROUP = 16, SITE_ROWS = 1024, SITE_NUMBERS = 16384,
	SITE_BATCH = SITE_ROWS, /* features read at once: a bound on memory */
	SITE_TOPS = 4,          /* tokens and logits shown in a table's row */
	SITE_SPARK = 25         /* columns of its histogram */
};

/* The directory under way; several threads write files of it. */
struct site {
	const char *dir;
	_Atomic uint64_t bytes; /* written */
};

/* Features [first, first + n) of topk's directory, and where they go. */
struct batch {
	struct site *site;
	const struct top *t;
	struct shards *in[TOP_N_FIELDS];
	void *data[TOP_N_FIELDS];       /* each field's rows of these features */
	size_t first, n;
};
#define U32(b, id) ((const uint32_t *)(b)->data[TOP_##id])
#define U16(b, id) ((const uint16_t *)(b)->data[TOP_##id])
#define F32(b, id) ((const float *)(b)->data[TOP_##id])
void batch_open(struct batch *b);       /* site and t are set, the rest is zero */
void batch_read(struct batch *b);       /* those from first on; at the end of a field also its end mark */
void batch_close(struct batch *b);

/* Log10 density of features that fire, and how many there are of each kind. */
enum { SITE_DENSITY_BINS = 80 };
#define SITE_DENSITY_FROM (-8.0)
#define SITE_DENSITY_WIDTH 0.1
struct density {
	uint64_t bins[SITE_DENSITY_BINS];
	uint64_t dead, ultra_low, high;
	double cut;
};
/* Writes nI, rI and fI; features with 0 < density < cut are ultra-low. */
struct density features_write(struct site *site, const struct top *t, double cut);
void vocab_write(struct site *site);

/* Metrics, JSON Lines: {"key": [values…]}, keys of nested objects joined by a dot; line count
 * thinned to about `limit` with an evaluation and as many without, the last and those that resampled kept. */
json_t *metrics_columns(const char *path, size_t limit);
json_t *metrics_last(const char *path); /* the last line with an evaluation, else the last */
/* Final figures in a few lines on stdout; either path may be NULL. */
void metrics_summary(const char *sae, const char *gpt);

/* JavaScript text: bytes as characters U+0000 to U+00FF in quotes; a number (null when not finite). */
void js_string(struct buf *b, const char *p, size_t bytes);
void js_number(struct buf *b, double x);
void js_base64(struct buf *b, const void *p, size_t bytes);     /* in quotes */
void chunk_begin(struct buf *b, const char *name);
void chunk_write(struct site *site, const char *name, struct buf *b);    /* ends it, writes the file, clears b */
void site_file(struct site *site, const char *name, const void *p, size_t bytes);

#endif
