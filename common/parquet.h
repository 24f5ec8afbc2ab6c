#ifndef PARQUET_H
#define PARQUET_H
/*
 * parquet: a column of a Parquet file as JSON Lines {"text": …}, through the
 * filter parquet-text (Python over pyarrow) that lies beside this program.
 * Its Python is ../venv/bin/python3 from there, else the system's.
 */
#include "base.h"

struct parquet;
struct parquet *parquet_open(const char *path, const char *column);
/* 0 only after the filter ended well; dies with its message otherwise. */
size_t parquet_read(struct parquet *p, void *to, size_t bytes);
void parquet_close(struct parquet *p);          /* also before the end */

#endif
