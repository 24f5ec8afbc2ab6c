#ifndef FEATURES_H
#define FEATURES_H
/*
 * features: what its files share -- texts read token by token, labels from
 * topk's directory, and the two kinds of output.
 */
#include "top_dir.h"    /* Jansson's parameters before backend.h's macro */

#include "bpe.h"
#include "models.h"

/* A text: its n tokens and the features active on each. */
struct firing {
	uint32_t feature;
	float f;
};

struct reading {
	const uint16_t *ids;    /* (n) */
	size_t n;
	float *logprob;         /* (n) of the token, given those before it; the first has none: NAN */
	size_t *start;          /* (n+1) token t's are at[start[t]] … at[start[t+1] - 1], strongest first */
	struct firing *at;
	size_t cap;
};

/* ---- features_text.c: tokens as a terminal can show them ---- */
enum text_style { TEXT_RUNNING, TEXT_ALONE };   /* ALONE: in a cell of a table; all blanks can be seen */
/* Appends; token t is [at[t], at[t + 1]) of b.  A character of several tokens stands whole in the first of
 * them and as a dot in the others, one that is not whole as hex, what cannot be seen as a mark or a name. */
void text_tokens(struct buf *b, size_t *at, const uint16_t *ids, size_t n, enum text_style style);
size_t text_columns(const char *p, size_t bytes);       /* as wide as a terminal shows it; LC_CTYPE is set */

/* ---- features_top.c: what topk knows of features ---- */
enum { LABEL_TOKENS = 3 };
struct labels;
/* Dies unless the directory was made with these checkpoints. */
struct labels *labels_open(const char *dir, const struct models *m);
void labels_recipe(const struct labels *l, struct recipe *r);
float labels_max(const struct labels *l, size_t feature);       /* 0: it was never active */
void labels_tokens(struct labels *l, size_t feature, uint16_t out[LABEL_TOKENS]);       /* TOP_NO_TOKEN: fewer */
void labels_close(struct labels *l);

/* ---- what is printed; labels may be NULL ---- */
struct printer {
	struct out *out;
	struct labels *labels;
	bool colour;
	size_t texts, done;     /* how many there are, which one comes */
	uint64_t feature;       /* the only one wanted, or FEATURE_ANY */
	size_t block;           /* tokens read at once */
};
#define FEATURE_ANY UINT64_MAX
void show_text(const struct printer *p, const struct reading *x);       /* features_show.c: shaded by a feature */
void show_table(const struct printer *p, const struct reading *x);      /* features of each token */
void json_begin(struct printer *p, const struct models *m);             /* features_json.c */
void json_reading(struct printer *p, const struct reading *x);
void json_end(struct printer *p);

#endif
