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
