/* tensors: safetensors written, read back, and refused when anything about them is wrong. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "dies.h"
#include "shard.h"
#include "tensors.h"

/* A file with this header and n bytes of data. */
static void write_raw(const char *path, const char *header, const void *data, size_t n)
{
	const uint64_t bytes = strlen(header);
	struct out *f = out_open(path, 0);

	out_write(f, &bytes, sizeof(bytes));
	out_write(f, header, bytes);
	out_write(f, data, n);
	out_commit(f);
}

/* Opens path in a child: true when it ends with exit 1 and one line that contains text. */
static bool refused(const char *path, const char *text)
{
	char line[1024];
	int fd[2], status;

	fflush(stdout);
	if (pipe(fd) != 0)
		die_errno("cannot make a pipe");
	const pid_t pid = fork();

	if (pid == 0) {
		dup2(fd[1], STDERR_FILENO);
		tensors_close(tensors_open(path));
		_exit(0);
	}
	close(fd[1]);
	const size_t n = read_full(fd[0], line, sizeof(line) - 1, "pipe");

	line[n] = 0;
	close(fd[0]);
	waitpid(pid, &status, 0);
	const bool right = WIFEXITED(status) && WEXITSTATUS(status) == 1 && strstr(line, text) &&
		strchr(line, '\n') == line + n - 1;

	if (!right)
		printf("# status %d, said '%s', not '%s'\n", status, line, text);
	return right;
}

static void round_trip(void)
{
	const float a[6] = { 1, -2, 3.5f, INFINITY, -0.0f, 1e-40f }, b[2] = { 7, 8 };
	float got[6];
	char id[33], again[33];
	struct tensors_writer *w = tensors_create();

	tensors_set(w, "n_layer", "%d", 3);
	tensors_set(w, "text", "a \"quoted\" line\n");
	tensors_put(w, "z.weight", 2, (size_t[]){ 2, 3 }, a);
	tensors_put(w, "a.bias", 1, (size_t[]){ 2 }, b);
	tensors_put(w, "none", 2, (size_t[]){ 0, 4 }, NULL);
	tensors_write(w, "t.safetensors");

	struct tensors *t = tensors_open("t.safetensors");

	check(tensors_count(t) == 3 && !strcmp(tensors_at(t, 0)->name, "a.bias"), "three tensors, by name");
	tensors_f32(tensors_get(t, "z.weight", 2, (size_t[]){ 2, 3 }), got);
	check(!memcmp(got, a, sizeof(a)), "values to the bit");
	check((uintptr_t)tensors_find(t, "z.weight")->data % 8 == 0, "data are aligned");
	check(!strcmp(tensors_meta(t, "text"), "a \"quoted\" line\n") && tensors_meta_u64(t, "n_layer") == 3, "metadata");
	check(!tensors_find(t, "zz") && !tensors_meta(t, "zz"), "what is not there");
	tensors_id(t, id);
	tensors_close(t);

	w = tensors_create();
	tensors_put(w, "none", 2, (size_t[]){ 0, 4 }, NULL);
	tensors_put(w, "a.bias", 1, (size_t[]){ 2 }, b);
	tensors_put(w, "z.weight", 2, (size_t[]){ 2, 3 }, a);
	tensors_write(w, "u.safetensors");
	t = tensors_open("u.safetensors");
	tensors_id(t, again);
	tensors_close(t);
	check(!strcmp(id, again), "the id is that of the tensors, not of their order or metadata");
}

static void take_weights(void *t)
{
	float x[2];

	tensors_weights(t, "b", 1, (size_t[]){ 2 }, x);
}

/* The other types, laid out by hand. */
static void other_types(void)
{
	const struct { double d; uint16_t h[2], b[2]; } data = { 0.1, { 0x3c00, 0xfbff }, { 0x3f80, 0x7f80 } };
	float x[2];

	write_raw("h", "{\"d\":{\"dtype\":\"F64\",\"shape\":[],\"data_offsets\":[0,8]},"
		  "\"h\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[8,12]},"
		  "\"b\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[12,16]}}", &data, 16);
	struct tensors *t = tensors_open("h");

	tensors_f32(tensors_get(t, "d", 0, NULL), x);
	check(x[0] == 0.1f, "F64, a scalar");
	tensors_f32(tensors_get(t, "h", 1, (size_t[]){ 2 }), x);
	check(x[0] == 1 && x[1] == -65504, "F16");
	tensors_f32(tensors_get(t, "b", 1, (size_t[]){ 2 }), x);
	check(x[0] == 1 && isinf(x[1]), "BF16");
	dies("weights must be finite", "'h': value 1 of tensor 'b' is not finite", take_weights, t);
	tensors_weights(t, "h", 1, (size_t[]){ 2 }, x);
	check(x[0] == 1 && x[1] == -65504, "... and these are");
	tensors_close(t);
}

static void hostile(void)
{
#define ONE(dtype, shape, at) "{\"x\":{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" at "}}"
	static const struct { const char *header, *text; } cases[] = {
		{ "[]", "no safetensors file" },
		{ "{", "not JSON" },
		{ "{\"x\":1,\"x\":2}", "not JSON" },
		{ "{\"x\":7}", "are not all there" },
		{ ONE("\"F32\"", "[2]", "[0]"), "are not all there" },
		{ ONE("\"F31\"", "[2]", "[0,8]"), "unknown dtype" },
		{ ONE("\"F32\"", "[3]", "[0,8]"), "disagree" },
		{ ONE("\"F32\"", "[4]", "[0,16]"), "beyond the file" },
		{ ONE("\"F32\"", "[-2]", "[0,8]"), "whole number" },
		{ ONE("\"F32\"", "[2.0]", "[0,8]"), "whole number" },
		{ ONE("\"F32\"", "[2]", "[-8,0]"), "whole number" },
		{ ONE("\"F32\"", "[2]", "[8,0]"), "beyond the file" },
		{ ONE("\"F32\"", "[4294967296,4294967296,2]", "[0,8]"), "too large" },
		{ ONE("\"F32\"", "[9223372036854775807]", "[0,8]"), "too large" },
		{ ONE("\"F32\"", "[1,1,1,1,1,1,1,1,2]", "[0,8]"), "dimensions" },
		{ ONE("\"F32\"", "[1]", "[4,8]"), "a hole" },
		{ ONE("\"F32\"", "[1]", "[0,4]"), "behind the last" },
		{ "{}", "behind the last" },
		{ "{\"__metadata__\":{\"a\":1}," "\"x\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", "strings" },
		{ "{\"__metadata__\":[]}", "not an object" },
		{ "{\"x\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
		  "\"y\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", "overlap" },
	};
	const char data[8] = { 0 };

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		write_raw("bad", cases[i].header, data, sizeof(data));
		check(refused("bad", cases[i].text), "refused: %s", cases[i].text);
	}
	const uint64_t huge = UINT64_MAX;

	file_write("bad", &huge, sizeof(huge));
	check(refused("bad", "truncated"), "refused: a header of 2^64 bytes");
	file_write("bad", "", 0);
	check(refused("bad", "too short"), "refused: an empty file");
	check(refused("none", "cannot open 'none'"), "refused: no file");

	struct buf whole = { 0 };
	size_t cut = 0;

	read_file("t.safetensors", &whole, 1 << 20);
	for (; cut < whole.n; cut++) {
		file_write("bad", whole.p, cut);
		if (!refused("bad", "'bad'"))
			break;
	}
	check(cut == whole.n, "cut at every one of %zu bytes: refused", whole.n);
	buf_free(&whole);
}

int main(void)
{
	char dir[] = "/tmp/featuremill.XXXXXX";

	base_tool = "u-tensors";
	if (!mkdtemp(dir) || chdir(dir) != 0)
		die_errno("cannot make '%s'", dir);
	round_trip();
	other_types();
	hostile();
	char *rm = xformat("rm -rf %s", dir);
	const int gone = system(rm);

	free(rm);
	return gone != 0 || check_done();
}
