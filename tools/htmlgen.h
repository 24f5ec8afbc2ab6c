#ifndef HTMLGEN_H
#define HTMLGEN_H
/*
 * htmlgen: the site's data.  A page opened from a file cannot fetch, so data
 * are scripts that the page adds when it needs them: data/NAME.js is
 *
 *	chunk("NAME", VALUE, "BUILD");
 *
 * BUILD is the same in all files and in index.html: a page of another build notices.
 *
 *	site    what was trained, figures, curves, density histogram (the first thing loaded)
 *	vocab   text of all tokens, one string: a byte a character, tokens apart by U+0100
 *	dots    the scatter: of each feature x·SITE_DOTS_Y + y in u16, steps of its log10 density and log10
 *	        maximum between the least and the greatest; 0xFFFF: dead
 *	first   the rows of the SITE_FIRST densest features, as in rI, and the texts of their tokens
 *	nI      active, max, mean of SITE_NUMBERS features from I·SITE_NUMBERS on, as base64 arrays: to sort by
 *	tI      top tokens, top logits of SITE_NUMBERS features: to filter by
 *	rI      all of these, rank by density and small histogram of SITE_ROWS features: rows of a table
 *	fI      everything else of SITE_GROUP features
 *	search, sI      htmlgen_search.h
 *	texts   of each sample text its first tokens, their number, its loss
 *	textI   the whole of text I: tokens, their log-probabilities, the features active on each
 *
 * Or, for Neuronpedia and what else reads SAEDashboard's files, batch-N.json and its companions (below).
 */
#include "top_dir.h"

enum {
	SITE_GROUP = 16, SITE_ROWS = 128, SITE_NUMBERS = 16384,
	SITE_FIRST = 50,        /* rows of the table as it opens */
	SITE_DOTS_X = 512, SITE_DOTS_Y = 127,
	SITE_BATCH = 1024,      /* features read at once: a bound on memory */
	SITE_TOPS = 4,          /* tokens and logits shown in a table's row */
	SITE_SPARK = 25         /* columns of its histogram */
};

/* The directory under way; several threads write files of it. */
struct site {
	const char *dir;
	const char *build;      /* name of the data, in each chunk */
	_Atomic uint64_t bytes; /* written */
};

void *top_load(const struct top *t, enum top_name which);       /* all of a field; caller frees */

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
/* Writes all that is of single features; those with 0 < density < cut are ultra-low. */
struct density features_write(struct site *site, const struct top *t, double cut);
void vocab_write(struct site *site);
/* Writes texts and textI from what features --json wrote; how many texts there are, 0 when path is NULL.
 * Dies unless it was made with t's checkpoints. */
size_t texts_write(struct site *site, const struct top *t, const char *path);

/* What a table shows of F features. */
struct rows {
	size_t F;
	uint32_t *active, *rank;        /* rank: by density, from 1; filled in by rows_write */
	float *max, *mean;
	uint16_t *tokens, *logits;      /* (F,SITE_TOPS) ids or TOP_NO_TOKEN */
	uint8_t *spark;                 /* (F,SITE_SPARK) heights */
};
struct rows rows_new(size_t F);
void rows_write(struct site *site, struct rows *r, uint64_t tokens);    /* dots, first, nI, tI, rI */
void rows_free(struct rows *r);

/*
 * Files batch-N.json, features [128·N, 128·N + 128) without dead ones, with skipped_indexes.json
 * (the dead ones) and run_settings.json beside them; ASCII throughout.  Where SAEDashboard's fields and
 * topk's differ, the fields hold:
 *
 *	neuron_alignment_*      inputs of the autoencoder whose entries in the decoder column of unit norm are largest by size;
 *	                        _values: the entries, _l1: their share of the sum of all entries' sizes
 *	correlated_features_*   of features often active on the same tokens, those most correlated with this one, firings
 *	                        taken as 0 and 1: _pearson is their correlation, _l1 (as in SAEDashboard) their
 *	                        cosine, both from the share of sampled firings; decoder cosines have no field
 *	correlated_neurons_*    empty: topk does not compare features with neurons
 *	frac_nonzero            active tokens over tokens read, 0 to 1
 *	freq_hist_*             bars of (0, max], dead tokens apart; values are the bars' middles
 *	pos_*, neg_*, logits_hist_*     logit weights through the final layernorm, minus their median
 *	activations             the strongest (bin_min -1, bin_max the feature's maximum, bin_contains -1), then samples of
 *	                        equal intervals of activation (bin_contains: the interval's active tokens over all
 *	                        tokens read); values are activations; the centre is qualifying_token_index
 *	dfa_*, decoder_weights_dist     empty: of attention
 *
 * A string is a token's text.  A character cut into several tokens stands whole at that one of them where the
 * feature is most active (the first if at none) and the others' strings are empty, so that strings joined
 * are the text.  Bytes that belong to no whole character in the window are written <0xE2>; so is NUL, <0x00>,
 * which databases refuse.
 */
enum { NEURONPEDIA_BATCH = 128 };
struct neuronpedia {
	const char *model, *dataset;
	char *set;              /* caller frees */
	uint64_t layer;
};
/* layer NULL: the last of the model's; set NULL or "": mlp-F-l1-L.  Dies (usage) on what is no name. */
struct neuronpedia neuronpedia_names(const struct top *t, const char *model, const char *layer, const char *set,
				     const char *dataset);
void neuronpedia_write(struct site *site, const struct top *t, const struct neuronpedia *np);

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
