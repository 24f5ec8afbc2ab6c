#ifndef JSON_H
#define JSON_H
/*
 * json: whole JSON files that a program wrote and another reads.
 *
 *	json_t *j = json_read("top/index.json", 16 << 20);
 *	uint64_t features = json_number(j, "features", 1, 1 << 28, "top/index.json");
 *	json_decref(j);
 */
#include <jansson.h>

#include "base.h"

/* The object in a file of at most `limit` bytes; dies when there is none, naming line and trouble. */
json_t *json_read(const char *path, size_t limit);
/* A whole number from min to max; dies, naming the file, when it is none. */
uint64_t json_number(const json_t *j, const char *key, double min, double max, const char *path);

#endif
