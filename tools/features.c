/* features: which features of an autoencoder are active on a text, token by token */
#include "features.h"

#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "opt.h"
#include "pool.h"
#include "prog.h"

enum {
	OUTPUT_VERSION = 1,
	TABLE_K = 5,
	LONGEST = 16 << 20,     /* bytes of text: what is to be looked at, not a corpus */
	LONG = 8                /* contexts: from here on progress is worth telling */
};

static const char usage[] =
	"usage: features [options] --gpt GPT --sae SAE [TEXT…]\n"
	"Prints the tokens of each TEXT (or of standard input, also -) with the features that are active\n"
	"on them: the strongest of each token, or the whole text shaded by one, --feature N.  A text\n"
	"longer than the GPT's context is read in consecutive contexts, each without what came before.\n"
	"--json: {\"format\": 1, \"gpt\": ID, \"sae\": ID, \"features\": how many there are, \"block\": tokens of a\n"
	"context, \"texts\": [{\"loss\": mean next-token loss in nats, \"tokens\": [{\"id\": N, \"text\": \"…\" (\"bytes\":\n"
	"HEX of one that is no whole characters), \"logprob\": of this token after those before it, \"features\":\n"
	"[[index, activation, with --top also the feature's maximum], …] strongest first}, …]}, …]}\n"
	"e.g.:  features --gpt gpt.safetensors --sae sae.safetensors --top top 'It was a bright cold day in April'\n";

static struct {
	struct opt_common c;
	const char *gpt, *sae, *top, *texts, *color, *feature;
	uint64_t k;
	bool json;
} o = { .c = OPT_COMMON_INIT, .color = "auto" };

static const struct opt opts[] = {
	OPT_OUTPUT(&o.c),
	OPT_STR(0, "gpt", &o.gpt, "GPT", "the checkpoint"),
	OPT_STR(0, "sae", &o.sae, "SAE", "the autoencoder"),
	OPT_STR(0, "top", &o.top, "DIR", "topk's directory: says what a feature is strongest on, and its maximum"),
	OPT_STR(0, "feature", &o.feature, "N", "this one alone: the text shaded by it"),
	OPT_U64('k', "k", &o.k, 0, 1e9, "strongest features of each token; 0: with --json all, else 5"),
	OPT_FLAG(0, "json", &o.json, "one JSON document, as above"),
	OPT_STR(0, "texts", &o.texts, "FILE", "the texts of FILE, with a line of % between one and the next"),
	OPT_STR(0, "color", &o.color, "WHEN", "auto (on a terminal, unless NO_COLOR is set), always or never"),
	OPT_THREADS(&o.c), OPT_QUIET(&o.c), OPT_DEVICE(&o.c), OPT_END
};

/* ---- texts ---- */

struct texts {
	struct ids ids;         /* of all, one behind another */
	size_t *end, n;
};

static void add_text(struct texts *t, const char *p, size_t bytes, const char *name)
{
	struct bpe_scratch *s = bpe_scratch(bpe_gpt2());

	if (!bytes)
		die("%s is empty", name);
	if (bytes > LONGEST)
		die("%s has more than %d bytes", name, LONGEST);
	bpe_encode(s, p, bytes, &t->ids);
	t->end = xrealloc(t->end, t->n + 1, sizeof(*t->end));
	t->end[t->n++] = t->ids.n;
	bpe_scratch_free(s);
}

/* Texts are apart by lines of "%"; the line end before that, or at the end, is not theirs. */
static void split_texts(struct texts *t, const struct buf *b)
{
	const char *p = b->p, *const end = b->p + b->n;

	for (const char *line = p, *next; line < end; line = next) {
		const char *newline = memchr(line, '\n', (size_t)(end - line)), *stop = newline ? newline : end;
		const bool mark = stop - line == 1 && *line == '%';

		next = newline ? newline + 1 : end;
		if (!mark && next < end)
			continue;
		stop = mark ? line : end;
		stop -= stop > p && stop[-1] == '\n';
		if (stop > p)
			add_text(t, p, (size_t)(stop - p), o.texts);
		p = next;
	}
	if (!t->n)
		die("'%s' has no text", o.texts);
}

static void read_input(struct texts *t)
{
	struct buf b = { 0 };

	read_file("-", &b, LONGEST);
	add_text(t, b.p, b.n, "<stdin>");
	buf_free(&b);
}

static struct texts read_texts(char **words)
{
	struct texts t = { 0 };
	struct buf b = { 0 };

	if (o.texts) {
		read_file(o.texts, &b, LONGEST);
		split_texts(&t, &b);
		buf_free(&b);
	} else if (!words[0]) {
		read_input(&t);
	}
	for (; *words; words++)
		if (!strcmp(*words, "-"))
			read_input(&t);
		else
			add_text(&t, *words, strlen(*words), "the text");
	return t;
}

static void check_tokens(const struct texts *t, size_t vocab)
{
	for (size_t i = 0; i < t->ids.n; i++)
		if (t->ids.v[i] >= vocab)
			die("the text has token %u; the vocabulary of '%s' ends at %zu", t->ids.v[i], o.gpt, vocab - 1);
}

/* ---- reading: contexts one after another ---- */

struct run {
	struct gpt *g;
	struct sae *s;
	uint64_t feature;
	size_t k;               /* of a token; 0: all */
	int32_t *idx, *targets; /* (block) */
	float *nll;
	struct sae_found found;
};

static int stronger(const void *a, const void *b)
{
	const struct firing *x = a, *y = b;

	return x->f != y->f ? (x->f < y->f ? 1 : -1) : (x->feature > y->feature) - (x->feature < y->feature);
}

/* What is found from entry i on at its row, as token t's.  Returns the entry behind it. */
static size_t add_firings(const struct run *r, struct reading *x, size_t t, size_t i, uint32_t row)
{
	const struct sae_found *p = &r->found;
	size_t n = x->start[t];

	for (; i < p->n && p->rows[i] == row; i++) {
		if (!isfinite(p->f[i]))
			die("feature %u is no finite number at token %zu", p->feats[i], t);
		if (r->feature != FEATURE_ANY && p->feats[i] != r->feature)
			continue;
		if (n == x->cap)
			x->at = xrealloc(x->at, x->cap = 2 * x->cap + 64, sizeof(*x->at));
		x->at[n++] = (struct firing){ p->feats[i], p->f[i] };
	}
	n -= x->start[t];
	if (n)
		qsort(x->at + x->start[t], n, sizeof(*x->at), stronger);
	x->start[t + 1] = x->start[t] + (r->k && n > r->k ? r->k : n);
	return i;
}

/* Tokens [from, from + n) as a context. */
static void read_context(struct run *r, struct reading *x, size_t from, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		r->idx[i] = x->ids[from + i];
		r->targets[i] = from + i + 1 < x->n ? x->ids[from + i + 1] : -1;
	}
	const struct gpt_hook h = gpt_forward_hook(r->g, r->idx, 1, n);

	sae_find_active(r->s, h.acts, n);
	sae_get_active(r->s, &r->found);
	gpt_finish(r->g, h.acts, r->targets, r->nll);
	for (size_t i = 0, e = 0; i < n; i++) {
		e = add_firings(r, x, from + i, e, (uint32_t)i);
		if (from + i + 1 < x->n)
			x->logprob[from + i + 1] = -r->nll[i];
	}
	prog_step(n);
}

static struct reading read_text(struct run *r, const uint16_t *ids, size_t n)
{
	const size_t T = r->g->c.block_size;
	struct reading x = { ids, n, xcalloc(n, sizeof(float)), xcalloc(n + 1, sizeof(size_t)), NULL, 0 };

	x.logprob[0] = NAN;
	for (size_t from = 0; from < n; from += T)
		read_context(r, &x, from, n - from < T ? n - from : T);
	return x;
}

static void reading_free(struct reading *x)
{
	free(x->logprob);
	free(x->start);
	free(x->at);
}

static struct run start(const struct models *m)
{
	const size_t T = m->c.block_size;
	struct run r = { .k = o.k || o.json ? o.k : TABLE_K, .feature = FEATURE_ANY };

	if (o.feature)
		parse_u64(o.feature, &r.feature);
	if (r.feature != FEATURE_ANY && r.feature >= m->F)
		die("'%s' has features 0 to %zu, no %s", o.sae, m->F - 1, o.feature);
	models_load(m, backend_open(o.c.device, o.c.precision), 1, T, &r.g, &r.s);
	r.idx = xcalloc(T, sizeof(*r.idx));
	r.targets = xcalloc(T, sizeof(*r.targets));
	r.nll = xcalloc(T, sizeof(*r.nll));
	return r;
}

static void finish(struct run *r)
{
	free(r->idx);
	free(r->targets);
	free(r->nll);
	sae_found_free(&r->found);
	gpt_free(r->g);
	sae_free(r->s);
}

/* ---- the whole ---- */

static bool wants_colour(void)
{
	static const char *const when[] = { "auto", "always", "never", NULL };
	const size_t choice = opt_choice("--color", o.color, when);
	const char *no = getenv("NO_COLOR"), *term = getenv("TERM");

	return choice ? choice == 1 : !strcmp(o.c.output, "-") && isatty(STDOUT_FILENO) && !(no && *no) &&
		term && strcmp(term, "dumb") != 0;
}

static void check_options(char **words)
{
	uint64_t n;

	if (!o.gpt || !o.sae)
		die_usage("--%s is missing", o.gpt ? "sae" : "gpt");
	if (o.texts && *words)
		die_usage("either --texts or TEXT");
	if (!o.texts && !*words && isatty(STDIN_FILENO))
		die_usage("no text given; say - for what you type");
	if (o.feature && !parse_u64(o.feature, &n))
		die_usage("--feature takes a whole number, not '%s'", o.feature);
}

static struct recipe *recipe(const struct models *m, const struct texts *t, const struct labels *l, bool colour)
{
	struct recipe *p = recipe_new("features", OUTPUT_VERSION);

	recipe_add(p, "gpt", "%s", m->gpt_id);
	recipe_add(p, "sae", "%s", m->sae_id);
	recipe_add(p, "device", "%s %s", o.c.device, backend_precision(o.c.device, o.c.precision));
	recipe_add(p, "texts", "%016llx %016llx", (unsigned long long)XXH3_64bits(t->ids.v, t->ids.n * sizeof(*t->ids.v)),
		   (unsigned long long)XXH3_64bits(t->end, t->n * sizeof(*t->end)));
	recipe_add(p, "form", "%s %llu %s %d", o.json ? "json" : "text", (unsigned long long)o.k,
		   o.feature ? o.feature : "all", colour);
	if (l)
		labels_recipe(l, p);
	return p;
}

static void print_all(struct printer *p, struct run *r, const struct models *m, const struct texts *t)
{
	if (o.json)
		json_begin(p, m);
	for (size_t from = 0; p->done < t->n; from = t->end[p->done++]) {
		struct reading x = read_text(r, t->ids.v + from, t->end[p->done] - from);

		if (o.json)
			json_reading(p, &x);
		else
			(p->feature == FEATURE_ANY ? show_table : show_text)(p, &x);
		reading_free(&x);
	}
	if (o.json)
		json_end(p);
}

static void make(const struct models *m, const struct texts *t, struct labels *labels, bool colour)
{
	struct run r = start(m);
	struct printer p = { out_open(o.c.output, OUT_TEXT), labels, colour, t->n, 0, r.feature, m->c.block_size };

	prog_start("tokens", t->ids.n);
	print_all(&p, &r, m, t);
	const uint64_t bytes = out_tell(p.out);

	if (!out_is_stdout(p.out))
		recipe_unstamp(o.c.output);
	out_commit(p.out);
	prog_finish(t->ids.n * sizeof(*t->ids.v), bytes);
	finish(&r);
}

int main(int argc, char **argv)
{
	o.c.precision = "f32";
	char **words = opt_parse(argc, argv, opts, usage, &o.c);

	check_options(words);
	setlocale(LC_CTYPE, "C.UTF-8");
	pool_start(o.c.threads);
	const bool colour = wants_colour(), file = strcmp(o.c.output, "-") != 0;
	struct models m = models_open(o.gpt, o.sae);
	struct labels *labels = o.top ? labels_open(o.top, &m) : NULL;
	struct texts t = read_texts(words);

	check_tokens(&t, m.c.vocab_size);
	base_quiet = base_quiet || (!file && t.ids.n <= LONG * m.c.block_size);
	struct recipe *p = recipe(&m, &t, labels, colour);

	if (!file || !recipe_fresh(p, o.c.output)) {
		make(&m, &t, labels, colour);
		if (file)
			recipe_stamp(p, o.c.output);
	}
	recipe_free(p);
	labels_close(labels);
	models_close(&m);
	free(t.ids.v);
	free(t.end);
	return 0;
}
