#include "active.h"

#include <stdlib.h>
#include <string.h>

#include "base.h"

struct active *active_new(size_t F, size_t n)
{
	struct active *a = xcalloc(1, sizeof(*a));

	if (n > UINT32_MAX)
		die("%zu activations in a batch are too many", n);
	a->F = F;
	a->start = xcalloc(F + 1, sizeof(*a->start));
	a->row = xcalloc(n, sizeof(*a->row));
	a->f = xcalloc(n, sizeof(*a->f));
	a->effect = xcalloc(n, sizeof(*a->effect));
	return a;
}

void active_free(struct active *a)
{
	if (!a)
		return;
	free(a->start);
	free(a->row);
	free(a->f);
	free(a->effect);
	free(a);
}

size_t active_bytes(const struct active *a)
{
	return sizeof(*a) + (a->F + 1) * sizeof(*a->start) +
		a->start[a->F] * (sizeof(*a->row) + sizeof(*a->f) + sizeof(*a->effect));
}

/* By counting: start[k + 1] is first the number of feature k's entries, then where its next one goes. */
void active_fill(struct active *a, const uint32_t *rows, const uint32_t *feats, const float *f,
		 const float *effect, size_t n)
{
	uint32_t *next = a->start + 1, at = 0;

	memset(a->start, 0, (a->F + 1) * sizeof(*a->start));
	for (size_t i = 0; i < n; i++)
		next[feats[i]]++;
	for (size_t k = 0; k < a->F; k++) {
		const uint32_t count = next[k];

		next[k] = at;
		at += count;
	}
	for (size_t i = 0; i < n; i++) {
		const uint32_t to = next[feats[i]]++;

		a->row[to] = rows[i];
		a->f[to] = f[i];
		a->effect[to] = effect[i];
	}
}
