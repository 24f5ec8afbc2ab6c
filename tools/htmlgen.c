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

enum { OUTPUT_VERSION = 8, NEURONPEDIA_VERSION = 1, CURVE_POINTS = 1000 };

static const char usage[] =
	"usage: htmlgen [options] [-o SITE] [--neuronpedia DIR] TOP\n"
	"       htmlgen --summary SAE.jsonl [--gpt-metrics GPT.jsonl]\n"
	"Makes from TOP, topk's directory, the directory SITE, to be opened at SITE/index.html,\n"
	"and the directory DIR of batch-N.json as SAEDashboard writes them for Neuronpedia: one or both.\n"
	"e.g.:  htmlgen --metrics sae.jsonl --gpt-metrics gpt.jsonl -o html top\n";

static struct {
	struct opt_common c;
	const char *metrics, *gpt_metrics, *summary, *texts;
	const char *neuronpedia, *np_model, *np_layer, *np_set, *np_dataset;
	double cut;
} o = { .c = OPT_COMMON_INIT, .np_model = "featuremill", .np_dataset = "" };

static const struct opt opts[] = {
	OPT_STR('o', "output", &o.c.output, "SITE", "the directory to make"),
	OPT_STR(0, "metrics", &o.metrics, "FILE", "saetrain's metrics: curves and figures"),
	OPT_STR(0, "gpt-metrics", &o.gpt_metrics, "FILE", "gptrain's metrics"),
	OPT_STR(0, "texts", &o.texts, "FILE", "sample texts, as features --json wrote them"),
	OPT_STR(0, "summary", &o.summary, "FILE", "print saetrain's final figures; make nothing"),
	OPT_F64(0, "ultra-low", &o.cut, 0, 1, "density below which a feature counts as ultra-low; 0: as in saetrain"),
	OPT_STR(0, "neuronpedia", &o.neuronpedia, "DIR", "the directory to make of Neuronpedia's files"),
	OPT_STR(0, "np-model", &o.np_model, "ID", "for Neuronpedia: model_id"),
	OPT_STR(0, "np-layer", &o.np_layer, "N", "for Neuronpedia: layer; default: the model's last"),
	OPT_STR(0, "np-set", &o.np_set, "ID", "for Neuronpedia: sae_set; default: mlp-FEATURES-l1-COEFFICIENT"),
	OPT_STR(0, "np-dataset", &o.np_dataset, "ID", "for Neuronpedia: dataset, a name at Hugging Face"),
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

/* What all outputs are made of. */
static struct recipe *recipe(const char *what, unsigned version, const struct top *t)
{
	struct recipe *r = recipe_new(what, version);
	char *index = xformat("%s/index.json", t->dir);

	for (int i = 0; i < TOP_N_FIELDS; i++)
		recipe_add(r, "field", "%s", t->ids[i]);
	add_file(r, "index", index);
	free(index);
	return r;
}

/* data, all: short names of what is in the files, to tell one build from another */
static struct recipe *site_recipe(const struct top *t, char data[33], char all[33])
{
	struct recipe *r = recipe("htmlgen", OUTPUT_VERSION, t);

	recipe_add(r, "ultra-low", "%.17g", cut_of(t));
	add_file(r, "metrics", o.metrics);
	add_file(r, "gpt-metrics", o.gpt_metrics);
	add_file(r, "texts", o.texts);
	recipe_hash(r, data);
	for (size_t i = 0; i < ARRAY_LEN(assets); i++)
		recipe_add(r, assets[i].name, "%016llx", (unsigned long long)
			   XXH3_64bits(assets[i].from, (size_t)(assets[i].to - assets[i].from)));
	recipe_hash(r, all);
	data[12] = all[12] = '\0';
	return r;
}

static struct recipe *neuronpedia_recipe(const struct top *t, const struct neuronpedia *np)
{
	struct recipe *r = recipe("htmlgen --neuronpedia", NEURONPEDIA_VERSION, t);

	recipe_add(r, "names", "%s %llu %s %s", np->model, (unsigned long long)np->layer, np->set, np->dataset);
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

static void write_site(struct site *site, const struct top *t, const struct density *d, size_t texts)
{
	json_t *j = json_pack("{s:O,s:o,s:o,s:o,s:I,s:{s:i,s:i,s:i,s:i,s:i}}", "index", t->index,
			      "density", density_json(d), "sae", run_json(o.metrics), "gpt", run_json(o.gpt_metrics),
			      "texts", (json_int_t)texts, "chunks", "group", SITE_GROUP, "rows", SITE_ROWS, "numbers", SITE_NUMBERS,
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

/* One of the directories: made, or only touched. */
struct product {
	const char *output;
	const char *mark;       /* a file of every such directory */
	const char *face;       /* the file whose time counts */
	void (*fill)(const struct product *p, struct site *site, const struct top *t);
	const struct neuronpedia *np;
	char data[33], all[33]; /* see site_recipe */
};

/* index.html, with the names of the data and of all for @DATA@ and @ALL@ */
static void write_page(struct site *site, const struct product *p, const struct asset *page)
{
	struct buf b = { 0 };

	for (const char *at = page->from; at < page->to;) {
		const bool data = !strncmp(at, "@DATA@", 6), all = !strncmp(at, "@ALL@", 5);

		if (data || all)
			buf_printf(&b, "%s", data ? p->data : p->all);
		else
			buf_add(&b, at, 1);
		at += data ? 6 : all ? 5 : 1;
	}
	site_file(site, page->name, b.p, b.n);
	buf_free(&b);
}

static void fill_site(const struct product *p, struct site *site, const struct top *t)
{
	char *data = xformat("%s/data", site->dir);

	if (mkdir(data, 0777) != 0)
		die_errno("cannot make '%s'", data);
	write_page(site, p, &assets[0]);
	for (size_t i = 1; i < ARRAY_LEN(assets); i++)
		site_file(site, assets[i].name, assets[i].from, (size_t)(assets[i].to - assets[i].from));
	vocab_write(site);
	const struct density d = features_write(site, t, cut_of(t));

	write_site(site, t, &d, texts_write(site, t, o.texts));
	free(data);
}

static void fill_neuronpedia(const struct product *p, struct site *site, const struct top *t)
{
	neuronpedia_write(site, t, p->np);
}

static void make(const struct product *p, const struct top *t, struct recipe *r)
{
	char *face = xformat("%s/%s", p->output, p->face);

	if (file_exists(face) && recipe_fresh(r, p->output)) {
		file_touch(face);
	} else {
		struct outdir *dir = outdir_open(p->output, p->mark);
		struct site site = { .dir = outdir_part(dir), .build = p->data };

		p->fill(p, &site, t);
		sync_site(site.dir);
		recipe_unstamp(p->output);
		outdir_commit(dir);
		recipe_stamp(r, p->output);
		prog_finish(t->bytes, site.bytes);
	}
	recipe_free(r);
	free(face);
}

/* "" and "-" are no directories. */
static const char *directory(const char *path)
{
	return !path || !*path || !strcmp(path, "-") ? NULL : file_plain(path);
}

static void check_options(char **paths)
{
	if (!paths[0] || paths[1])
		die_usage("one directory of topk is needed");
	o.c.output = directory(o.c.output);
	o.neuronpedia = directory(o.neuronpedia);
	if (!o.c.output && !o.neuronpedia)
		die_usage("-o SITE or --neuronpedia DIR is needed: what is made is a directory");
	if (o.c.output && o.neuronpedia && !strcmp(o.c.output, o.neuronpedia))
		die_usage("-o and --neuronpedia name the same directory");
}

int main(int argc, char **argv)
{
	char **paths = opt_parse(argc, argv, opts, usage, &o.c);

	if (o.summary) {
		metrics_summary(o.summary, o.gpt_metrics);
		return 0;
	}
	check_options(paths);
	pool_start(o.c.threads);
	struct top t = top_read(paths[0]);

	struct neuronpedia np = neuronpedia_names(&t, o.np_model, o.np_layer, o.np_set, o.np_dataset);

	if (o.c.output) {
		struct product p = { o.c.output, "data/vocab.js", "index.html", fill_site, .data = "" };
		struct recipe *r = site_recipe(&t, p.data, p.all);

		make(&p, &t, r);
	}
	if (o.neuronpedia) {
		const struct product p = { o.neuronpedia, "skipped_indexes.json", "skipped_indexes.json", fill_neuronpedia,
					   .np = &np };

		make(&p, &t, neuronpedia_recipe(&t, &np));
	}
	free(np.set);
	top_release(&t);
	return 0;
}
