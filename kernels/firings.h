#ifndef FIRINGS_H
#define FIRINGS_H
/*
 * firings: of every feature a sample of the tokens on which it is active, and
 * what was there: the tokens before, at and after, and every feature active.
 * Two passes over the same contexts in order:
 *
 *	struct firings *w = firings_new(F, P, seed, FIRINGS_LIMIT);
 *	for each block of contexts: firings_scan(w, a, first);                  (which tokens)
 *	firings_seal(w);
 *	for each block of contexts: firings_gather(w, a, idx, rows, T, first);  (what was there)
 *	for (size_t i = 0; i < w->heaps[k].n && i < w->P; i++) {
 *		const struct firing f = firings_at(w, k, i);
 *		…
 *	}
 *
 * Sampled are the P firings of smallest hash(seed, feature, token), so that
 * neither blocks nor threads matter.  Memory: 24 bytes a firing sampled, 22 a
 * token among them, and 4 for each feature active on such a token -- `limit`
 * of these at most, and a block's on top while it is added: when there are
 * more, P is halved and what only the dropped firings needed is forgotten,
 * until they fit.  So the final P, too, depends on nothing but the activations.
 */
#include "active.h"
#include "base.h"
#include "file.h"
#include "heap.h"

enum { FIRINGS_LIMIT = 64 << 20 };      /* 256 MiB */

struct firings_place {          /* a token that is sampled */
	uint32_t token;
	uint32_t rank;          /* the smallest that it has among a feature's firings */
};

struct firings {
	size_t F, P;
	uint64_t seed, limit;
	struct heap *heaps;     /* (F) smallest hash first once sealed; tie: the token */
	struct heap_item *items;        /* (F,P as it was at first) theirs */
	bool sealed;
	struct firings_place *place;    /* (n) by token, each once */
	size_t n, done;         /* gathered of them */
	uint64_t *start;        /* (n+1) of a place's part of who */
	uint32_t *who;          /* (start[done]) features active there, ascending */
	size_t cap;
	uint16_t (*around)[3];  /* (n) tokens before, at and after; TOP_NO_TOKEN: the context begins or ends */
};

struct firing {
	const uint16_t *around; /* (3) */
	const uint32_t *who;    /* (n) */
	size_t n;
};

/* The largest P up to `want` whose items fit 256 MiB */
size_t firings_fit(size_t F, size_t want);
struct firings *firings_new(size_t F, size_t P, uint64_t seed, uint64_t limit);
void firings_free(struct firings *w);
void firings_scan(struct firings *w, const struct active *a, uint64_t first);
void firings_seal(struct firings *w);
/* idx: host (rows), whole contexts of T tokens from token number `first` on */
void firings_gather(struct firings *w, const struct active *a, const int32_t *idx, size_t rows, size_t T,
		    uint64_t first);
/* How many are sampled of feature k, and firing i of them; all gathered */
size_t firings_count(const struct firings *w, size_t k);
struct firing firings_at(const struct firings *w, size_t k, size_t i);
/* All of it for a state, and back, in any of the passes. */
void firings_save(const struct firings *w, struct buf *st);
void firings_load(struct firings *w, struct cursor *st);

#endif
