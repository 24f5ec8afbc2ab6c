#ifndef SHARD_INPUT_H
#define SHARD_INPUT_H
/*
 * shard_input: one shard as a file, which is known from its end, and shards
 * on a pipe, frame by frame.  As in shard_format nothing dies on bad input.
 */
#include "shard_format.h"

struct shard_file {
	char *name;             /* for messages: "'x.zst'" */
	int fd;
	struct head head;
	struct table table;
	struct meta stats;      /* closing META, empty when there is none */
	uint64_t *offset;       /* of every frame of the table */
	uint64_t bytes;
	char id[33];
};
/* Reads the two META and the table; what they say is checked against each
 * other and the size of the file.  On a fault nothing is left open. */
bool shard_file_open(struct shard_file *s, const char *path, struct fault *f);
/* Rows of DATA frame i into rows, which must hold entry[i + 1].bytes. */
bool shard_file_frame(const struct shard_file *s, size_t i, char *rows, struct fault *f);
void shard_file_close(struct shard_file *s);

/* Everything of one file is read and checked, in parallel. */
bool shard_file_check(const struct shard_file *s, struct fault *f);
/* Texts are copies. */
void shard_file_info(const struct shard_file *s, struct shard_info *info);

enum pipe_event { PIPE_FAULT, PIPE_BEGIN, PIPE_FRAME, PIPE_SHARD, PIPE_END };
struct shard_pipe {
	int fd, wake;           /* an eventfd: somebody wants reading to end */
	char *name;             /* for messages: "<stdin>" */
	uint64_t at, start;     /* bytes read, those before this shard */
	bool inside;            /* of a shard: its end has not come */
	struct head first;      /* of the first shard, to stay */
	struct head head;       /* of the shard under way or just ended */
	struct table table;
	struct meta stats;
	struct buf packed;      /* the frame that PIPE_FRAME tells of */
	struct shard_info *done;        /* the shards ended */
	size_t shards;
};
/* path "-": standard input; otherwise the descriptor is closed at the end. */
struct shard_pipe *shard_pipe_open(int fd, const char *path);
/* What comes next: a shard, with its head; a DATA frame in p->packed, its
 * entry being the table's last; the verified end of a shard, and of all. */
enum pipe_event shard_pipe_next(struct shard_pipe *p, struct fault *f);
/* From another thread: shard_pipe_next returns soon, with a fault. */
void shard_pipe_wake(struct shard_pipe *p);
void shard_pipe_close(struct shard_pipe *p);

/* May h, shard k, stand in a set whose first shard is `first`? */
bool shard_fits(const struct head *first, const struct head *h, uint64_t k, struct fault *f);

#endif
