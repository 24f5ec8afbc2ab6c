#include "json.h"

json_t *json_read(const char *path, size_t limit)
{
	struct buf text = { 0 };
	json_error_t e;

	read_file(path, &text, limit);
	json_t *j = json_loadb(text.p, text.n, JSON_REJECT_DUPLICATES, &e);

	if (!j)
		die("cannot read '%s': line %d: %s", path, e.line, e.text);
	if (!json_is_object(j))
		die("cannot read '%s': not an object", path);
	buf_free(&text);
	return j;
}

uint64_t json_number(const json_t *j, const char *key, double min, double max, const char *path)
{
	const json_t *v = json_object_get(j, key);

	if (!json_is_integer(v))
		die("'%s' has no number \"%s\"", path, key);
	if ((double)json_integer_value(v) < min || (double)json_integer_value(v) > max)
		die("'%s' has \"%s\": %lld; from %.0f to %.0f is possible", path, key,
		    (long long)json_integer_value(v), min, max);
	return (uint64_t)json_integer_value(v);
}
