#ifndef INPUTS_H
#define INPUTS_H
/*
 * inputs: which bytes a corpus is.  A recipe gets a line "input BYTES HASH
 * PROBE" for each file.  Hashing 40 GB again because of a `touch` would be a
 * pity, so the hash of a file that is older than the output's stamp and has
 * the size and the probe -- a hash of its first, middle and last bytes --
 * recorded there is taken from the stamp.
 *
 *	const struct timespec began = inputs_recipe(recipe, paths, "train.zst");
 *	…
 *	recipe_stamp(recipe, "train.zst");
 *	inputs_remember("train.zst", began);
 */
#include <time.h>

#include "file.h"

/* Only regular files can be read twice. */
bool inputs_hashable(char *const *paths);
/* Returns when it began: inputs changed later are not what the recipe says. */
struct timespec inputs_recipe(struct recipe *r, char *const *paths, const char *output);
/* Dates X.stamp, which was written since, to when its inputs were known to be so. */
void inputs_remember(const char *output, struct timespec began);
/* Every file below the directories among paths, sorted; files as they are.  NULL-terminated;
 * free the strings and the array. */
char **inputs_expand(char *const *paths);
uint64_t inputs_bytes(char *const *paths);      /* size of all; 0 when it is not known */

#endif
