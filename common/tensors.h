#ifndef TENSORS_H
#define TENSORS_H
/*
 * tensors: safetensors files (8-byte header length, JSON header, raw data):
 * the checkpoints, under nanoGPT's names, with parameters and root ids as
 * strings in __metadata__.
 *
 *	struct tensors *t = tensors_open("gpt.safetensors");
 *	const struct tensor *wte = tensors_get(t, "transformer.wte.weight", 2, (size_t[]){V, C});
 *	tensors_f32(wte, dst);
 *
 * https://github.com/huggingface/safetensors (format); offsets, sizes and
 * shapes of a file are checked before any is used.
 */
#include "file.h"

enum { TENSOR_MAX_DIMS = 8 };

struct tensor {
	char *name;
	char dtype[8];          /* "F32", "F64", "F16", "BF16", "I32", "I64", "U8", "BOOL", … */
	size_t ndim, shape[TENSOR_MAX_DIMS];
	size_t count;           /* product of shape */
	const void *data;       /* in the mapped or read file; aligned where the file's layout is */
};

struct tensors;
struct tensors *tensors_open(const char *path);
size_t tensors_count(const struct tensors *t);
const struct tensor *tensors_at(const struct tensors *t, size_t i);     /* by name, ascending */
const struct tensor *tensors_find(const struct tensors *t, const char *name);   /* or NULL */
/* Dies unless it is there with this shape. */
const struct tensor *tensors_get(const struct tensors *t, const char *name, size_t ndim,
				 const size_t *shape);
/* All values as float32 (F32, F16, BF16, F64 accepted; else dies). */
void tensors_f32(const struct tensor *t, float *dst);
/* Both at once, for a model's weights: dies also when a value is no finite number. */
void tensors_weights(const struct tensors *t, const char *name, size_t ndim, const size_t *shape, float *dst);
const char *tensors_meta(const struct tensors *t, const char *key);     /* or NULL */
void tensors_meta_each(const struct tensors *t, void (*fn)(void *arg, const char *key, const char *value),
		       void *arg);
uint64_t tensors_meta_u64(const struct tensors *t, const char *key);    /* dies when missing */
/* XXH3-128 of all names, dtypes, shapes and data (not metadata), computed once. */
void tensors_id(struct tensors *t, char hex[33]);
void tensors_close(struct tensors *t);

/* Writing float32 tensors: declare all, then write. */
struct tensors_writer;
struct tensors_writer *tensors_create(void);
void tensors_set(struct tensors_writer *w, const char *key, const char *fmt, ...) PRINTF(3, 4);
/* data is borrowed until tensors_write */
void tensors_put(struct tensors_writer *w, const char *name, size_t ndim, const size_t *shape,
		 const float *data);
void tensors_write(struct tensors_writer *w, const char *path); /* atomic; "-": stdout; frees w */

#endif
