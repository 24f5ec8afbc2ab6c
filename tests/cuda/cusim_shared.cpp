// Shared memory of the block that runs: filled with NaN when it starts, redzones between the arrays.
#include "emulator.h"

namespace cusim {

static const size_t POOL = 256 << 10, REDZONE = 32;
static const int MAX_ARRAYS = 64;
struct shared_array {
	const void *key;        // the address of a static variable beside the declaration
	char *data;
	size_t bytes;
};
static shared_array arrays[MAX_ARRAYS];
static int array_count;
static char *pool, *dynamic;
static size_t used, dynamic_size, allowed = DEFAULT_SHARED;

static char *take(size_t bytes, size_t align)
{
	if (align < 16)
		align = 16;
	const size_t from = (used + REDZONE + align - 1) & ~(align - 1);

	if (from + bytes + REDZONE > POOL)
		die("no room for %zu bytes of shared memory", bytes);
	used = from + bytes;
	UNPOISON(pool + from, bytes);
	// TSan sees memset wherever it is called; this one is nobody's write
	TSAN(AnnotateIgnoreWritesBegin("", 0));
	memset(pool + from, 0xff, bytes);
	TSAN(AnnotateIgnoreWritesEnd("", 0));
	return pool + from;
}

void shared_allow(size_t bytes) { allowed = bytes; }

void shared_begin(size_t dynamic_bytes)
{
	if (!pool)
		pool = map_memory(nullptr, POOL);
	TSAN(map_memory(pool, POOL));   // fresh: the last block's accesses are no race with this one's
	POISON(pool, POOL);
	array_count = 0;
	used = 0;
	dynamic_size = dynamic_bytes;
	dynamic = dynamic_bytes ? take(dynamic_bytes, 128) : nullptr;
}

void shared_end()
{
	UNPOISON(pool, POOL);
}

void *shared_static(const void *key, size_t bytes, size_t align)
{
	size_t total = bytes;

	for (int i = 0; i < array_count; i++) {
		if (arrays[i].key == key)
			return arrays[i].data;
		total += arrays[i].bytes;
	}
	if (total > DEFAULT_SHARED)
		die("%zu bytes of static shared memory; a block has %zu", total, DEFAULT_SHARED);
	if (total + dynamic_size > allowed)
		die("%zu bytes of static and %zu of dynamic shared memory; the kernel may have %zu", total,
		    dynamic_size, allowed);
	if (array_count == MAX_ARRAYS)
		die("more than %d shared arrays", MAX_ARRAYS);
	shared_array &a = arrays[array_count++];
	a.key = key;
	a.data = take(bytes, align);
	a.bytes = bytes;
	return a.data;
}

void *shared_dynamic() { return dynamic; }

} // namespace cusim
