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
 * other and the size of the file.  On a fault f is as good as new. */
bool shard_file_open(struct shard_file *s, const char *path, struct fault *f);
/* Rows of DATA frame i into rows, which must hold entry[i + 1].bytes. */
bool shard_file_frame(const struct shard_file *s, size_t i, char *rows, struct fault *f);
void shard_file_close(struct shard_file *s);

enum pipe_event { PIPE_FAULT, PIPE_BEGIN, PIPE_FRAME, PIPE_SHARD, PIPE_END };
struct shard_pipe {
	int fd;
	const char *name;       /* for messages: "<stdin>" */
	uint64_t at;            /* bytes read */
	uint64_t shards;        /* ended */
	bool inside;            /* of a shard: its end has not come */
	struct head first;      /* the first shard's; its meta is kept */
	struct head head;       /* of the shard under way or just ended */
	struct table table;
	struct meta stats;
	struct buf ids;         /* hex ids of the shards ended */
	struct buf packed;      /* the frame that PIPE_FRAME tells of */
};
/* What comes next: a shard, with its head; a DATA frame in p->packed, its entry being the table's
 * last; the verified end of a shard; the verified end of all. */
enum pipe_event shard_pipe_next(struct shard_pipe *p, struct fault *f);
void shard_pipe_close(struct shard_pipe *p);

/* May h, shard k, stand in a set whose first shard is `first`? */
bool shard_fits(const struct head *first, const struct head *h, uint64_t k, struct fault *f);

#endif
