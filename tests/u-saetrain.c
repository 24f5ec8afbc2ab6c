/* u-saetrain: the program itself against recorded training: data and initial weights of the fixtures
 * sae_train_* go in as a shard and a checkpoint, 40 steps later its checkpoint and curves come out. */
#include <jansson.h>    /* before backend.h, whose "real" is a name in it */

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "pool.h"
#include "shard.h"
#include "tensors.h"

static char dir[] = "/tmp/u-saetrain.XXXXXX";
static const char *const parts[] = { "encoder.weight", "encoder.bias", "decoder.weight", "decoder.bias" };

static float *floats(const struct tensors *t, const char *prefix, const char *name, const struct tensor **at)
{
	char *full = xformat("%s%s", prefix, name);

	*at = tensors_find(t, full);
	if (!*at)
		die("no tensor '%s'", full);
	float *x = xcalloc((*at)->count, sizeof(*x));

	tensors_f32(*at, x);
	free(full);
	return x;
}

static void write_shard(const char *fixtures, const char *path)
{
	char *from = xformat("%s/sae_train_data.safetensors", fixtures);
	struct tensors *t = tensors_open(from);
	const struct tensor *data;
	float *x = floats(t, "", "data", &data);
	const struct shard_spec spec = { DT_F32, data->shape[1], 0, 0, 1, NULL, 0 };
	struct shard_writer *w = shard_create(path, &spec, 0);

	shard_write(w, x, data->shape[0]);
	shard_finish(w);
	tensors_close(t);
	free(x), free(from);
}

static void write_init(const struct tensors *t, const char *path)
{
	struct tensors_writer *w = tensors_create();
	float *x[4];

	for (size_t i = 0; i < 4; i++) {
		const struct tensor *at;

		x[i] = floats(t, "init.", parts[i], &at);
		tensors_put(w, parts[i], at->ndim, at->shape, x[i]);
	}
	tensors_write(w, path);
	for (size_t i = 0; i < 4; i++)
		free(x[i]);
}

static double number(json_t *j, const char *key)
{
	return json_number_value(json_object_get(j, key));
}

static bool run(const char *bin, const char *device, json_t *j)
{
	const bool sum = !strcmp(json_string_value(json_object_get(j, "convention")), "sum");
	const double batch = number(j, "batch");
	char *command = xformat("%s/saetrain -q --device %s --features %g --batch %g --lr %.17g --l1-mean %.17g "
				"--normalise-every %g --resample-every 0 --eval-every 10 --init %s/init.safetensors "
				"-o %s/out.safetensors %s/data.zst", bin, device, number(j, "n_latents"), batch,
				number(j, "lr"), number(j, "lam") * (sum ? batch : 1), number(j, "normalise_period"),
				dir, dir, dir);
	const bool ok = system(command) == 0;

	free(command);
	return ok;
}

static double worst(const struct tensors *got, const struct tensors *want, const char *part)
{
	const struct tensor *a, *b;
	float *x = floats(got, "", part, &a), *y = floats(want, "final.", part, &b);
	double d = a->count == b->count ? 0 : INFINITY;

	for (size_t i = 0; d < INFINITY && i < a->count; i++)
		d = fmax(d, fabs((double)x[i] - (double)y[i]));
	free(x), free(y);
	return d;
}

/* One line a step (a tenth of --eval-every): its loss, mse, l1 per row and l0. */
static double worst_curve(const char *name, const struct tensors *want, double scale, double steps)
{
	char *path = xformat("%s/out.jsonl", dir);
	const struct tensor *at;
	float *ref = floats(want, "", name, &at);
	FILE *f = fopen(path, "r");
	double d = at->count == (size_t)steps && f ? 0 : INFINITY;

	for (size_t i = 0; d < INFINITY && i < at->count; i++) {
		json_t *line = json_loadf(f, JSON_DISABLE_EOF_CHECK, NULL);
		const double got = line ? number(json_object_get(line, "train"), name) : NAN;

		d = isfinite(got) ? fmax(d, fabs(got * scale / (double)ref[i] - 1)) : INFINITY;
		json_decref(line);
	}
	if (f)
		fclose(f);
	free(ref), free(path);
	return d;
}

static void compare(const char *what, const struct tensors *want, json_t *j)
{
	char *path = xformat("%s/out.safetensors", dir);
	struct tensors *got = tensors_open(path);
	const bool sum = !strcmp(json_string_value(json_object_get(j, "convention")), "sum");

	for (size_t i = 0; i < 4; i++) {
		const double d = worst(got, want, parts[i]);

		check(d <= 1e-5, "%s %s (%.1e)", what, parts[i], d);
	}
	const double loss = worst_curve("loss", want, 1, number(j, "steps"));
	const double l1 = worst_curve("l1", want, sum ? number(j, "batch") : 1, number(j, "steps"));
	check(loss <= 1e-5 && l1 <= 1e-5, "%s loss and l1 of every step (%.1e %.1e)", what, loss, l1);
	tensors_close(got);
	free(path);
}

/* 8 rows of 4, of which row 6 holds what is no number. */
static void bad_row(const char *bin)
{
	char *path = xformat("%s/data.zst", dir), *said = xformat("%s/said", dir);
	char *command = xformat("%s/saetrain -q --features 3 --batch 4 --resample-every 0 -o %s/out.safetensors %s 2>%s",
				bin, dir, path, said);
	float x[32] = { 1 };
	struct buf text = { 0 };
	const struct shard_spec spec = { DT_F32, 4, 0, 0, 1, NULL, 0 };
	struct shard_writer *w = shard_create(path, &spec, 0);

	x[6 * 4 + 1] = NAN;
	shard_write(w, x, 8);
	shard_finish(w);
	check(system(command) != 0, "rows that are no numbers are refused");
	read_file(said, &text, 4096);
	check(text.p && strstr(text.p, "row 6 has a value that is not finite, in column 1"), "... by name");
	unlink(said);
	buf_free(&text);
	free(path), free(said), free(command);
}

int main(void)
{
	static const char *const names[] = { "sae_train_mean_10", "sae_train_sum_1000" };
	static const char *const devices[] = { "ref", "cpu" };
	const char *bin = getenv("BIN") ? getenv("BIN") : "out/bin", *fixtures = "tests/fixtures/golden";

	if (!mkdtemp(dir))
		die_errno("cannot make '%s'", dir);
	pool_start(1);
	char *data = xformat("%s/data.zst", dir), *init = xformat("%s/init.safetensors", dir);
	write_shard(fixtures, data);
	for (size_t i = 0; i < 4; i++) {
		const char *name = names[i / 2], *device = devices[i % 2];
		char *path = xformat("%s/%s.safetensors", fixtures, name), *config = xformat("%s/%s.json", fixtures, name);
		char *what = xformat("%s %s", device, name);
		struct tensors *t = tensors_open(path);
		json_t *j = json_load_file(config, 0, NULL);

		write_init(t, init);
		if (check(j && run(bin, device, j), "%s runs", what))
			compare(what, t, j);
		json_decref(j);
		tensors_close(t);
		free(path), free(config), free(what);
	}
	bad_row(bin);
	const char *const left[] = { "data.zst", "init.safetensors", "out.safetensors", "out.safetensors.stamp", "out.jsonl" };
	for (size_t i = 0; i < ARRAY_LEN(left); i++) {
		char *path = xformat("%s/%s", dir, left[i]);

		unlink(path);
		free(path);
	}
	check(rmdir(dir) == 0, "no debris");
	free(data), free(init);
	return check_done();
}
