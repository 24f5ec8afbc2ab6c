/*
 * bench-bpe REPETITIONS DOCUMENTS -- the encoding alone: documents (JSON Lines, "text") that are in memory, to ids,
 * one thread, once to warm up, the caches anew each time; prints bytes of text, tokens, and seconds of each repetition.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base.h"
#include "bpe.h"
#include "jsonl.h"

struct docs {
	struct buf *v;
	size_t n;
};

static struct docs read_docs(const char *path)
{
	struct buf file = { 0 };
	struct docs d = { 0 };

	read_file(path, &file, SIZE_MAX / 2);
	for (char *p = file.p, *end; (end = memchr(p, '\n', (size_t)(file.p + file.n - p))); p = end + 1) {
		if ((d.n & (d.n - 1)) == 0)
			d.v = xrealloc(d.v, 2 * d.n + 1, sizeof(*d.v));
		d.v[d.n] = (struct buf){ 0 };
		const char *wrong = jsonl_string(p, (size_t)(end - p), "text", &d.v[d.n++]);

		if (wrong)
			die("'%s' line %zu: %s", path, d.n, wrong);
	}
	buf_free(&file);
	return d;
}

int main(int argc, char **argv)
{
	uint64_t repetitions, bytes = 0, tokens = 0;
	struct ids ids = { 0 };

	if (argc != 3 || !parse_u64(argv[1], &repetitions))
		die("REPETITIONS and DOCUMENTS are missing");
	struct docs d = read_docs(argv[2]);
	const struct bpe *v = bpe_gpt2();
	double *secs = xcalloc(repetitions + 1, sizeof(*secs));

	for (uint64_t r = 0; r <= repetitions; r++) {
		const double from = now_secs();
		struct bpe_scratch *s = bpe_scratch(v);

		bytes = tokens = 0;
		for (size_t i = 0; i < d.n; i++) {
			ids.n = 0;
			bpe_encode(s, d.v[i].p, d.v[i].n, &ids);
			bytes += d.v[i].n;
			tokens += ids.n;
		}
		bpe_scratch_free(s);
		secs[r] = now_secs() - from;
	}
	printf("%llu %llu", (unsigned long long)bytes, (unsigned long long)tokens);
	for (uint64_t r = 1; r <= repetitions; r++)
		printf(" %.6f", secs[r]);
	printf("\n");
	for (size_t i = 0; i < d.n; i++)
		buf_free(&d.v[i]);
	free(d.v);
	free(secs);
	free(ids.v);
	return 0;
}
