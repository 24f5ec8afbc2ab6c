/* htmlgen: topk's directory and the metrics as a static site that opens from a file. */
#include "htmlgen.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "opt.h"
#include "pool.h"
#include "prog.h"

enum { OUTPUT_VERSION = 3, CURVE_POINTS = 1000 };

static const char usage[] =
	"usage: htmlgen [options] -o SITE TOP\n"
	"       htmlgen --summary SAE.jsonl [--gpt-metrics GPT.jsonl]\n"
	"Makes the directory SITE, to be opened at SITE/index.html, from TOP, topk's directory.\n"
	"e.g.:  htmlgen --metrics sae.jsonl --gpt-metrics gpt.jsonl -o html top\n";

static struct {
	struct opt_common c;
	const char *metrics, *gpt_metrics, *summary;
	double cut;
} o = { .c = OPT_COMMON_INIT };

static const struct opt opts[] = {
	OPT_STR('o', "output", &o.c.output, "SITE", "the directory to make"),
	OPT_STR(0, "metrics", &o.metrics, "FILE", "saetrain's metrics: curves and figures"),
	OPT_STR(0, "gpt-metrics", &o.gpt_metrics, "FILE", "gptrain's metrics"),
	OPT_STR(0, "summary", &o.summary, "FILE", "print saetrain's final figures; make nothing"),
	OPT_F64(0, "ultra-low", &o.cut, 0, 1, "density below which a feature counts as ultra-low; 0: as in saetrain"),
	OPT_THREADS(&o.c), OPT_QUIET(&o.c), OPT_END
};

/* htmlgen_assets.S */
extern const char site_html[], site_html_end[], site_css[], site_css_end[], site_js[], site_js_end[];

static const struct asset {
	const char *name, *from, *to;
} assets[] = {
	{ "index.html", site_html, site_html_end },
	{ "site.css", site_css, site_css_end },
	{ "site.js", site_js, site_js_end },
};

/* saetrain's knob unless another was given. */
static double cut_of(const struct top *t)
{
	const char *text = json_string_value(json_object_get(json_object_get(t->index, "sae"), "ultra_low"));
	double cut;

	return o.cut > 0 ? o.cut : text && parse_double(text, &cut) && cut > 0 && cut < 1 ? cut : 1e-3;
}

static void add_file(struct recipe *r, const char *key, const char *path)
{
	struct buf text = { 0 };

	if (!path)
		return;
	read_file(path, &text, (size_t)1 << 30);
	recipe_add(r, key, "%016llx", (unsigned long long)XXH3_64bits(text.p, text.n));
	buf_free(&text);
}

static struct recipe *recipe(const struct top *t)
{
	struct recipe *r = recipe_new("htmlgen", OUTPUT_VERSION);
	char *index = xformat("%s/index.json", t->dir);

	for (size_t i = 0; i < ARRAY_LEN(assets); i++)
		recipe_add(r, assets[i].name, "%016llx", (unsigned long long)
			   XXH3_64bits(assets[i].from, (size_t)(assets[i].to - assets[i].from)));
	for (int i = 0; i < TOP_N_FIELDS; i++)
		recipe_add(r, "field", "%s", t->ids[i]);
	recipe_add(r, "ultra-low", "%.17g", cut_of(t));
	add_file(r, "index", index);
	add_file(r, "metrics", o.metrics);
	add_file(r, "gpt-metrics", o.gpt_metrics);
	free(index);
	return r;
}

static json_t *density_json(const struct density *d)
{
	json_t *bins = json_array();

	for (size_t i = 0; i < SITE_DENSITY_BINS; i++)
		json_array_append_new(bins, json_integer((json_int_t)d->bins[i]));
	return json_pack("{s:f,s:f,s:o,s:f,s:I,s:I,s:I}", "from", SITE_DENSITY_FROM, "width", SITE_DENSITY_WIDTH,
			 "bins", bins, "cut", d->cut, "dead", (json_int_t)d->dead,
			 "ultraLow", (json_int_t)d->ultra_low, "high", (json_int_t)d->high);
}

/* curves and last line of a file of metrics; null without one */
static json_t *run_json(const char *path)
{
	return path ? json_pack("{s:o,s:o}", "curves", metrics_columns(path, CURVE_POINTS), "last",
				metrics_last(path)) : json_null();
}

static void write_site(struct site *site, const struct top *t, const struct density *d)
{
	json_t *j = json_pack("{s:O,s:o,s:o,s:o,s:{s:i,s:i,s:i,s:i,s:i}}", "index", t->index,
			      "density", density_json(d), "sae", run_json(o.metrics), "gpt", run_json(o.gpt_metrics),
			      "chunks", "group", SITE_GROUP, "rows", SITE_ROWS, "numbers", SITE_NUMBERS,
			      "tops", SITE_TOPS, "spark", SITE_SPARK);
	char *text = j ? json_dumps(j, JSON_COMPACT | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(9)) : NULL;
	struct buf b = { 0 };

	if (!text)
		die("out of memory");
	chunk_begin(&b, "site");
	buf_add(&b, text, strlen(text));
	chunk_write(site, "site", &b);
	buf_free(&b);
	free(text);
	json_decref(j);
}

static void sync_site(const char *site)
{
	const int fd = open(site, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || syncfs(fd) != 0 || close(fd) != 0)
		die_errno("cannot sync '%s'", site);
}

static void make(const struct top *t)
{
	struct outdir *dir = outdir_open(o.c.output, "data/vocab.js");
	struct site site = { .dir = outdir_part(dir) };
	char *data = xformat("%s/data", site.dir);

	if (mkdir(data, 0777) != 0)
		die_errno("cannot make '%s'", data);
	for (size_t i = 0; i < ARRAY_LEN(assets); i++)
		site_file(&site, assets[i].name, assets[i].from, (size_t)(assets[i].to - assets[i].from));
	vocab_write(&site);
	const struct density d = features_write(&site, t, cut_of(t));

	write_site(&site, t, &d);
	sync_site(site.dir);
	recipe_unstamp(o.c.output);
	outdir_commit(dir);
	prog_finish(t->bytes, site.bytes);
	free(data);
}

int main(int argc, char **argv)
{
	char **paths = opt_parse(argc, argv, opts, usage, &o.c);

	if (o.summary) {
		metrics_summary(o.summary, o.gpt_metrics);
		return 0;
	}
	if (!paths[0] || paths[1])
		die_usage("one directory of topk is needed");
	if (!strcmp(o.c.output, "-"))
		die_usage("-o SITE is needed: the site is a directory");
	o.c.output = file_plain(o.c.output);
	pool_start(o.c.threads);
	struct top t = top_read(paths[0]);
	struct recipe *r = recipe(&t);
	char *page = xformat("%s/index.html", o.c.output);

	if (file_exists(page) && recipe_fresh(r, o.c.output)) {
		file_touch(page);
	} else {
		make(&t);
		recipe_stamp(r, o.c.output);
	}
	free(page);
	recipe_free(r);
	top_release(&t);
	return 0;
}
