#include "top.h"

struct top_field top_field(const struct top_shape *s, enum top_name which)
{
	const struct top_field f[] = {
#define X(id, name, dtype, rows, cols) { name, dtype, s->F * (rows), cols },
		TOP_FIELDS(X)
#undef X
	};

	if ((size_t)which >= ARRAY_LEN(f))
		BUG("field %d of %d", (int)which, (int)TOP_N_FIELDS);
	return f[which];
}

char *top_path(const char *dir, const struct top_field *f)
{
	return xformat("%s/%s.%s.zst", dir, f->name, dtype_name(f->dtype));
}

void top_tokens(const struct top_shape *s, const uint32_t *centre, const uint16_t *tokens, uint16_t *out, size_t n)
{
	uint16_t ids[64];
	size_t count[64], m = 0;

	for (size_t k = 0; k < s->K && k < 64 && centre[k] != TOP_NO_EXAMPLE; k++) {
		const struct top_window w = top_window(s, k);
		const uint16_t id = tokens[w.at + w.width / 2];
		size_t at = 0;

		while (at < m && ids[at] != id)
			at++;
		if (at == m) {
			ids[m] = id;
			count[m++] = 0;
		}
		count[at]++;
	}
	for (size_t j = 0; j < n; j++) {
		size_t best = 0;

		for (size_t at = 1; at < m; at++)
			if (count[at] > count[best])
				best = at;
		out[j] = m && count[best] ? ids[best] : TOP_NO_TOKEN;
		if (m)
			count[best] = 0;
	}
}
