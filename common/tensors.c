#include "tensors.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "shard.h"

enum { MAX_HEADER = 100 << 20 };        /* as the format's own reader allows */

struct tensors {
	const char *path;
	char *map;              /* the file, or a copy of standard input */
	size_t bytes;
	bool mapped;
	json_t *meta;           /* __metadata__, or NULL */
	struct tensor *t;
	size_t n;
	char id[33];            /* "" until asked for */
};

static size_t element_size(const char *dtype)
{
	static const struct { const char *name; size_t size; } known[] = {
		{ "F64", 8 }, { "I64", 8 }, { "U64", 8 }, { "F32", 4 }, { "I32", 4 }, { "U32", 4 },
		{ "F16", 2 }, { "BF16", 2 }, { "I16", 2 }, { "U16", 2 }, { "I8", 1 }, { "U8", 1 },
		{ "BOOL", 1 }, { "F8_E4M3", 1 }, { "F8_E5M2", 1 },
	};

	for (size_t i = 0; i < ARRAY_LEN(known); i++)
		if (!strcmp(dtype, known[i].name))
			return known[i].size;
	return 0;
}

static _Noreturn void refuse(const struct tensors *f, const char *what, const char *name)
{
	if (name)
		die("cannot read '%s': tensor '%s': %s", f->path, name, what);
	die("cannot read '%s': %s", f->path, what);
}

static void load_file(struct tensors *f)
{
	struct stat st;
	struct buf b = { 0 };
	const int fd = strcmp(f->path, "-") ? open(f->path, O_RDONLY | O_CLOEXEC) : STDIN_FILENO;

	if (fd < 0)
		die_errno("cannot open '%s'", f->path);
	f->mapped = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0 && fd != STDIN_FILENO;
	if (f->mapped) {
		f->bytes = (size_t)st.st_size;
		f->map = mmap(NULL, f->bytes, PROT_READ, MAP_PRIVATE, fd, 0);
		if (f->map == MAP_FAILED)
			die_errno("cannot read '%s'", f->path);
	} else {
		read_file(f->path, &b, SIZE_MAX / 2);
		f->bytes = b.n;
		f->map = b.p;
	}
	if (fd != STDIN_FILENO)
		close(fd);
}

static size_t whole(const struct tensors *f, const json_t *v, const char *name)
{
	if (!json_is_integer(v) || json_integer_value(v) < 0)
		refuse(f, "a size is not a whole number", name);
	return (size_t)json_integer_value(v);
}

static size_t overflow_checked(const struct tensors *f, size_t a, size_t b, const char *name)
{
	size_t c;

	if (__builtin_mul_overflow(a, b, &c))
		refuse(f, "its shape is too large", name);
	return c;
}

/* Begin and end are checked against the data that is there. */
static struct tensor parse_one(const struct tensors *f, const char *name, json_t *v, const char *data,
			       size_t data_bytes)
{
	struct tensor t = { .name = xstrdup(name), .count = 1 };
	json_t *shape = json_object_get(v, "shape"), *at = json_object_get(v, "data_offsets"), *dim;
	const char *dtype = json_string_value(json_object_get(v, "dtype"));
	size_t i;

	if (!dtype || !json_is_array(shape) || json_array_size(at) != 2)
		refuse(f, "dtype, shape and data_offsets are not all there", name);
	if (!element_size(dtype))
		refuse(f, "unknown dtype", name);
	if (json_array_size(shape) > TENSOR_MAX_DIMS)
		refuse(f, "it has too many dimensions", name);
	snprintf(t.dtype, sizeof(t.dtype), "%s", dtype);
	json_array_foreach(shape, i, dim) {
		t.shape[t.ndim++] = whole(f, dim, name);
		t.count = overflow_checked(f, t.count, t.shape[i], name);
	}
	const size_t from = whole(f, json_array_get(at, 0), name), to = whole(f, json_array_get(at, 1), name);
	const size_t bytes = overflow_checked(f, t.count, element_size(dtype), name);

	if (from > to || to > data_bytes)
		refuse(f, "its data end beyond the file", name);
	if (to - from != bytes)
		refuse(f, "its shape and the size of its data disagree", name);
	t.data = data + from;
	return t;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct tensor *)a)->name, ((const struct tensor *)b)->name);
}

static int by_place(const void *a, const void *b)
{
	const struct tensor *const x = a, *const y = b;

	return ((const char *)x->data > (const char *)y->data) - ((const char *)x->data < (const char *)y->data);
}

/* No hole, no overlap, nothing behind: every byte belongs to one tensor. */
static void check_cover(const struct tensors *f, const char *data, size_t data_bytes)
{
	const char *at = data;

	qsort(f->t, f->n, sizeof(*f->t), by_place);
	for (size_t i = 0; i < f->n; i++) {
		const size_t bytes = f->t[i].count * element_size(f->t[i].dtype);

		if (bytes && f->t[i].data != at)
			refuse(f, "its data overlap another's or leave a hole", f->t[i].name);
		at += bytes;
	}
	if (at != data + data_bytes)
		refuse(f, "truncated, or data behind the last tensor", NULL);
}

static void check_metadata(struct tensors *f, json_t *v)
{
	const char *key;
	json_t *s;

	if (!json_is_object(v))
		refuse(f, "__metadata__ is not an object", NULL);
	json_object_foreach(v, key, s)
		if (!json_is_string(s))
			refuse(f, "__metadata__ holds something else than strings", NULL);
	f->meta = json_incref(v);
}

static void parse(struct tensors *f)
{
	uint64_t header;
	json_error_t error;
	const char *name;
	json_t *v;

	if (f->bytes < sizeof(header))
		refuse(f, "no safetensors file: too short", NULL);
	memcpy(&header, f->map, sizeof(header));
	if (header > MAX_HEADER || header > f->bytes - sizeof(header) || f->map[8] != '{')
		refuse(f, "no safetensors file, or truncated in its header", NULL);
	json_t *root = json_loadb(f->map + 8, header, JSON_REJECT_DUPLICATES, &error);

	if (!json_is_object(root))
		refuse(f, "its header is not JSON", NULL);
	const char *data = f->map + 8 + header;
	const size_t data_bytes = f->bytes - 8 - header;

	f->t = xcalloc(json_object_size(root) + 1, sizeof(*f->t));
	json_object_foreach(root, name, v) {
		if (!strcmp(name, "__metadata__"))
			check_metadata(f, v);
		else
			f->t[f->n++] = parse_one(f, name, v, data, data_bytes);
	}
	json_decref(root);
	check_cover(f, data, data_bytes);
	qsort(f->t, f->n, sizeof(*f->t), by_name);
}

struct tensors *tensors_open(const char *path)
{
	struct tensors *f = xcalloc(1, sizeof(*f));

	f->path = path;
	load_file(f);
	parse(f);
	return f;
}

size_t tensors_count(const struct tensors *t)
{
	return t->n;
}

const struct tensor *tensors_at(const struct tensors *t, size_t i)
{
	return &t->t[i];
}

const struct tensor *tensors_find(const struct tensors *t, const char *name)
{
	const struct tensor key = { .name = (char *)(uintptr_t)name };

	return t->n ? bsearch(&key, t->t, t->n, sizeof(*t->t), by_name) : NULL;
}

static void shape_text(char text[160], size_t ndim, const size_t *shape)
{
	size_t n = 0;

	text[0] = 0;
	for (size_t i = 0; i < ndim && n < 140; i++)
		n += (size_t)snprintf(text + n, 160 - n, "%s%zu", i ? "x" : "", shape[i]);
}

const struct tensor *tensors_get(const struct tensors *t, const char *name, size_t ndim,
				 const size_t *shape)
{
	const struct tensor *x = tensors_find(t, name);
	char is[160], should[160];

	if (!x)
		die("'%s' has no tensor '%s'", t->path, name);
	if (x->ndim == ndim && (!ndim || !memcmp(x->shape, shape, ndim * sizeof(*shape))))
		return x;
	shape_text(is, x->ndim, x->shape);
	shape_text(should, ndim, shape);
	die("'%s': tensor '%s' is %s, not %s", t->path, name, is, should);
}

/* A header of odd length leaves data at odd addresses. */
static void widen(enum dtype type, float *dst, const char *src, size_t n)
{
	uint16_t part[1024];

	for (size_t i = 0, m; i < n; i += m) {
		m = n - i < ARRAY_LEN(part) ? n - i : ARRAY_LEN(part);
		memcpy(part, src + i * sizeof(*part), m * sizeof(*part));
		dtype_to_f32(type, dst + i, part, m);
	}
}

void tensors_f32(const struct tensor *t, float *dst)
{
	if (!t->count)
		return;
	if (!strcmp(t->dtype, "F32")) {
		memcpy(dst, t->data, t->count * sizeof(*dst));
	} else if (!strcmp(t->dtype, "F16")) {
		widen(DT_F16, dst, t->data, t->count);
	} else if (!strcmp(t->dtype, "BF16")) {
		widen(DT_BF16, dst, t->data, t->count);
	} else if (!strcmp(t->dtype, "F64")) {
		for (size_t i = 0; i < t->count; i++) {
			double x;

			memcpy(&x, (const char *)t->data + i * sizeof(x), sizeof(x));
			dst[i] = (float)x;
		}
	} else {
		die("tensor '%s' holds %s, not floats", t->name, t->dtype);
	}
}

void tensors_weights(const struct tensors *t, const char *name, size_t ndim, const size_t *shape, float *dst)
{
	const struct tensor *x = tensors_get(t, name, ndim, shape);

	tensors_f32(x, dst);
	for (size_t i = 0; i < x->count; i++)
		if (!isfinite(dst[i]))
			die("'%s': value %zu of tensor '%s' is not finite", t->path, i, name);
}

const char *tensors_meta(const struct tensors *t, const char *key)
{
	return json_string_value(json_object_get(t->meta, key));
}

uint64_t tensors_meta_u64(const struct tensors *t, const char *key)
{
	const char *s = tensors_meta(t, key);
	uint64_t v;

	if (!s || !parse_u64(s, &v))
		die("'%s' has no number '%s' in its metadata", t->path, key);
	return v;
}

void tensors_meta_each(const struct tensors *t, void (*fn)(void *arg, const char *key, const char *value),
		       void *arg)
{
	const char *key;
	json_t *v;

	json_object_foreach(t->meta, key, v)
		fn(arg, key, json_string_value(v));
}

void tensors_id(struct tensors *t, char hex[33])
{
	if (!t->id[0]) {
		XXH3_state_t *x = XXH3_createState();

		if (!x)
			die("out of memory");
		XXH3_128bits_reset(x);
		for (size_t i = 0; i < t->n; i++) {
			const struct tensor *const e = &t->t[i];

			XXH3_128bits_update(x, e->name, strlen(e->name) + 1);
			XXH3_128bits_update(x, e->dtype, strlen(e->dtype) + 1);
			for (size_t k = 0; k < e->ndim; k++) {
				const uint64_t dim = e->shape[k];

				XXH3_128bits_update(x, &dim, sizeof(dim));
			}
			XXH3_128bits_update(x, e->data, e->count * element_size(e->dtype));
		}
		const XXH128_hash_t h = XXH3_128bits_digest(x);

		XXH3_freeState(x);
		snprintf(t->id, sizeof(t->id), "%016llx%016llx", (unsigned long long)h.high64,
			 (unsigned long long)h.low64);
	}
	memcpy(hex, t->id, sizeof(t->id));
}

void tensors_close(struct tensors *t)
{
	for (size_t i = 0; i < t->n; i++)
		free(t->t[i].name);
	free(t->t);
	json_decref(t->meta);
	if (t->mapped)
		munmap(t->map, t->bytes);
	else
		free(t->map);
	free(t);
}

/* ---- writing ---- */

struct tensors_writer {
	json_t *root, *meta;
	struct pending { const float *data; size_t bytes; } *put;
	size_t n;
	uint64_t at;            /* bytes of data declared so far */
};

static json_t *made(json_t *v)
{
	if (!v)
		die("out of memory, or text that is not UTF-8 in a checkpoint's header");
	return v;
}

struct tensors_writer *tensors_create(void)
{
	struct tensors_writer *w = xcalloc(1, sizeof(*w));

	w->root = made(json_object());
	w->meta = made(json_object());
	json_object_set_new(w->root, "__metadata__", w->meta);
	return w;
}

void tensors_set(struct tensors_writer *w, const char *key, const char *fmt, ...)
{
	struct buf b = { 0 };
	va_list ap;

	va_start(ap, fmt);
	buf_vprintf(&b, fmt, ap);
	va_end(ap);
	json_object_set_new(w->meta, key, made(json_string(b.p)));
	buf_free(&b);
}

void tensors_put(struct tensors_writer *w, const char *name, size_t ndim, const size_t *shape,
		 const float *data)
{
	json_t *dims = made(json_array());
	size_t bytes = sizeof(*data);

	for (size_t i = 0; i < ndim; i++) {
		bytes = xmul(bytes, shape[i]);
		json_array_append_new(dims, json_integer((json_int_t)shape[i]));
	}
	json_object_set_new(w->root, name, made(json_pack("{s:s, s:o, s:[I, I]}", "dtype", "F32", "shape", dims,
		"data_offsets", (json_int_t)w->at, (json_int_t)(w->at + bytes))));
	w->put = xrealloc(w->put, w->n + 1, sizeof(*w->put));
	w->put[w->n++] = (struct pending){ data, bytes };
	w->at += bytes;
}

void tensors_write(struct tensors_writer *w, const char *path)
{
	static const char pad[8] = "        ";
	char *header = json_dumps(w->root, JSON_COMPACT);

	if (!header)
		die("out of memory");
	const size_t n = strlen(header);
	const uint64_t padded = (n + 7) / 8 * 8;        /* so that the data are aligned */
	struct out *f = out_open(path, 0);

	out_write(f, &padded, sizeof(padded));
	out_write(f, header, n);
	out_write(f, pad, padded - n);
	for (size_t i = 0; i < w->n; i++)
		out_write(f, w->put[i].data, w->put[i].bytes);
	out_commit(f);
	free(header);
	json_decref(w->root);
	free(w->put);
	free(w);
}
