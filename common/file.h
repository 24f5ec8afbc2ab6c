#ifndef FILE_H
#define FILE_H
/*
 * file: outputs that appear whole or not at all, states to resume from, and
 * recipes that tell whether an output is still the one asked for.
 *
 *	struct recipe *r = recipe_new("shuffle", 1);
 *	recipe_add(r, "seed", "%llu", seed);
 *	recipe_add(r, "input", "%s", id);
 *	if (recipe_fresh(r, path))
 *		return 0;               (path and its stamp match; it was touched)
 *	struct out *f = out_open(path, 0);
 *	out_write(f, p, n);
 *	out_commit(f);                  (synced, renamed)
 *	recipe_stamp(r, path);
 *
 * Output X grows as X.part, one fixed name held by an exclusive lock: a second
 * writer dies (after half a second: the lock of a process that was killed goes
 * when its memory is gone), a left-over is reclaimed.  It is removed at exit and on INT,
 * TERM and HUP unless a state (below) may go on with it.  "-" is
 * standard output: no lock, no rename; a closed pipe ends the tool quietly
 * (SIGPIPE), a full disk is an error at the latest in out_commit.
 */
#include "base.h"

struct out;
enum {
	OUT_KEEP = 1,   /* once there is a state, leave X.part behind on failure, for a later out_resume */
	OUT_TEXT = 2    /* fit for a terminal; other outputs refuse one */
};

struct out *out_open(const char *path, int flags);      /* truncates X.part */
/* Goes on with X.part cut back to `bytes`; NULL when it is missing or shorter. */
struct out *out_resume(const char *path, uint64_t bytes);
void out_write(struct out *f, const void *p, size_t bytes);
uint64_t out_tell(const struct out *f);
void out_sync(struct out *f);           /* what was written is on the disk (before a state is saved) */
void out_keep(void);    /* there is a state: outputs opened with OUT_KEEP stay (state_save and state_load say so) */
void out_commit(struct out *f);         /* sync, close, rename, sync directory; frees f */
void out_abandon(struct out *f);        /* close and remove X.part; frees f */
bool out_is_stdout(const struct out *f);
/* Its descriptor, everything written so far passed to it: for reading back with pread. */
int out_fd(struct out *f);
const char *out_name(const struct out *f);      /* for messages: "'X'" without .part, or "<stdout>" */

/* Same for a whole directory: files are made in outdir_part(d); commit swaps it in. */
struct outdir;
/* An empty, locked X.part/.  Dies when X is there, is not empty and lacks `mark`, a file that
 * every such directory has: it is something else of the user's, and would be lost. */
struct outdir *outdir_open(const char *path, const char *mark);
const char *outdir_part(const struct outdir *d);
void outdir_commit(struct outdir *d);           /* replaces X if there; frees d */

/* Whole-file convenience over out_*. */
void file_write(const char *path, const void *p, size_t bytes);
bool file_exists(const char *path);
void file_mkdirs(const char *path);     /* the directories above path's last component */
void file_touch(const char *path);
char *file_plain(const char *path);     /* without the slashes at its end; caller frees */

/*
 * Recipe: all that shapes an output, as text lines "key value": tool, its
 * output-version, parameters, ids of inputs.  Never paths, times or threads.
 */
struct recipe;
struct recipe *recipe_new(const char *tool, unsigned output_version);
void recipe_add(struct recipe *r, const char *key, const char *fmt, ...) PRINTF(3, 4);
const char *recipe_text(const struct recipe *r);
void recipe_hash(const struct recipe *r, char hex[33]);         /* XXH3-128 of the text */
/* X is there and X.stamp says this recipe: touches X, says so, returns true. */
bool recipe_fresh(const struct recipe *r, const char *path);
void recipe_stamp(const struct recipe *r, const char *path);    /* writes X.stamp, atomically */
void recipe_unstamp(const char *path);  /* before X is replaced: no stamp tells of another X */
void recipe_free(struct recipe *r);

/*
 * State: X.state, replaced atomically, of one run (recipe).  The body is the
 * stage's own bytes, checksummed.  state_load: true and fills *body; false
 * when there is none.  One of another recipe, or damaged, is named and moved
 * to X.state.old, and false is returned.
 */
bool state_load(const char *path, const struct recipe *r, struct buf *body);
void state_save(const char *path, const struct recipe *r, const struct buf *body);
void state_drop(const char *path);      /* the run is complete: X.state is removed */

/* Read position in a state's body; dies ("damaged state") past its end. */
struct cursor {
	const char *p;
	size_t left;
};
void cursor_get(struct cursor *c, void *p, size_t bytes);

#endif
