/* Metrics of gptrain and saetrain: curves for the site, final figures for a terminal. */
#include "htmlgen.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* All lines as an array of objects. */
static json_t *lines(const char *path)
{
	struct buf text = { 0 };
	json_t *all = json_array();
	size_t number = 0;

	read_file(path, &text, (size_t)1 << 30);
	for (char *at = text.p, *end; at && *at; at = end + 1) {
		json_error_t e;

		number++;
		if (!(end = strchr(at, '\n')))
			die("cannot read '%s': line %zu does not end", path, number);
		json_t *line = json_loadb(at, (size_t)(end - at), 0, &e);

		if (!json_is_object(line))
			die("cannot read '%s': line %zu: %s", path, number, line ? "not an object" : e.text);
		json_array_append_new(all, line);
	}
	if (!json_array_size(all))
		die("cannot read '%s': it is empty", path);
	buf_free(&text);
	return all;
}

static void put_value(json_t *columns, const char *key, json_t *value, size_t row)
{
	json_t *column = json_object_get(columns, key);

	if (!column)
		json_object_set_new(columns, key, column = json_array());
	while (json_array_size(column) < row)
		json_array_append_new(column, json_null());
	json_array_append(column, value);
}

static void put_row(json_t *columns, const char *prefix, json_t *object, size_t row)
{
	const char *key;
	json_t *value;

	json_object_foreach(object, key, value) {
		char *name = xformat("%s%s", prefix, key), *deeper = xformat("%s.", name);

		if (json_is_object(value))
			put_row(columns, deeper, value, row);
		else
			put_value(columns, name, value, row);
		free(name);
		free(deeper);
	}
}

static bool evaluated(const json_t *line)
{
	return json_object_get(line, "eval") != NULL;
}

/* Every how manieth line to keep of n. */
static size_t stride(size_t n, size_t limit)
{
	return n > limit ? (n + limit - 1) / limit : 1;
}

json_t *metrics_columns(const char *path, size_t limit)
{
	json_t *all = lines(path), *columns = json_object(), *line;
	const size_t n = json_array_size(all);
	size_t i, row = 0, seen[2] = { 0 }, of[2] = { 0 };

	json_array_foreach(all, i, line)
		of[evaluated(line)]++;
	json_array_foreach(all, i, line) {
		const bool e = evaluated(line);
		const bool kept = seen[e]++ % stride(of[e], limit) == 0 || i + 1 == n ||
			json_integer_value(json_object_get(line, "resampled")) > 0;

		if (kept)
			put_row(columns, "", line, row++);
	}
	json_decref(all);
	return columns;
}

json_t *metrics_last(const char *path)
{
	json_t *all = lines(path);
	size_t i = json_array_size(all);

	while (i && !evaluated(json_array_get(all, i - 1)))
		i--;
	json_t *last = json_incref(json_array_get(all, (i ? i : json_array_size(all)) - 1));

	json_decref(all);
	return last;
}

static double figure(const json_t *j, const char *key, const char *path)
{
	const json_t *v = json_object_get(j, key);

	if (json_is_null(v)) /* written for what is not finite */
		return NAN;
	if (!json_is_number(v))
		die("'%s' has no number \"%s\" in its last line", path, key);
	return json_number_value(v);
}

static void summarise_gpt(const char *path)
{
	json_t *j = metrics_last(path);
	const double loss = figure(j, "val_loss", path), unigram = figure(j, "unigram", path);

	printf("language model   validation loss %.3f, unigram baseline %.3f (%.3f %s), after %.0f iterations\n",
	       loss, unigram, fabs(unigram - loss), loss > unigram ? "above" : "below", figure(j, "iter", path));
	json_decref(j);
}

static void summarise_sae(const char *path)
{
	json_t *j = metrics_last(path);
	const json_t *e = json_object_get(j, "eval");

	if (!e)
		die("'%s' has no evaluation", path);
	const double alive = figure(e, "alive", path), dead = figure(e, "dead", path);

	printf("loss recovered   %.2f %% against zero ablation, %.2f %% against mean ablation\n",
	       100 * figure(e, "loss_recovered", path), 100 * figure(e, "loss_recovered_mean", path));
	printf("next-token loss  clean %.4f, spliced %.4f, zero-ablated %.4f, mean-ablated %.4f (%.0f validation tokens)\n",
	       figure(e, "loss_clean", path), figure(e, "loss_spliced", path), figure(e, "loss_zero", path),
	       figure(e, "loss_mean", path), figure(e, "tokens", path));
	printf("L0               %.2f features active on a token\n", figure(e, "l0", path));
	printf("explained        %.2f %% of the variance\n", 100 * figure(e, "explained_variance", path));
	printf("features         %.0f of %.0f alive (%.2f %%): %.0f high, %.0f ultra-low density; %.0f dead\n",
	       alive, alive + dead, alive + dead > 0 ? 100 * alive / (alive + dead) : 0,
	       figure(e, "high", path), figure(e, "ultra_low", path), dead);
	json_decref(j);
}

void metrics_summary(const char *sae, const char *gpt)
{
	if (gpt)
		summarise_gpt(gpt);
	if (sae)
		summarise_sae(sae);
	if (fflush(stdout) != 0)
		die_errno("cannot write <stdout>");
}
