/* = the loop of jsonl.c's string(), 64 bytes at a time. */
#include "jsonl_copy.h"

#ifdef __AVX2__
#include <immintrin.h>

enum { BLOCK = 64 };

/* Bit i: byte i is a quote, a backslash or a control character. */
static inline uint64_t special(__m256i x)
{
	const __m256i control = _mm256_cmpeq_epi8(_mm256_min_epu8(x, _mm256_set1_epi8(0x1F)), x);
	const __m256i quote = _mm256_cmpeq_epi8(x, _mm256_set1_epi8('"'));
	const __m256i slash = _mm256_cmpeq_epi8(x, _mm256_set1_epi8('\\'));

	return (uint32_t)_mm256_movemask_epi8(_mm256_or_si256(control, _mm256_or_si256(quote, slash)));
}

/* A block, whatever of it is wanted; which bytes of it are special. */
static inline uint64_t copy_block(char *to, const char *p)
{
	const __m256i low = _mm256_loadu_si256((const void *)p), high = _mm256_loadu_si256((const void *)(p + BLOCK / 2));

	_mm256_storeu_si256((void *)to, low);
	_mm256_storeu_si256((void *)(to + BLOCK / 2), high);
	return special(low) | special(high) << BLOCK / 2;
}

static void copy(const char **from, const char *end, struct buf *out)
{
	const char *p = *from;
	char *to = out->p + out->n;
	bool plain = true;

	while (plain && end - p >= 2 * BLOCK + 2) {
		const char *block = p, *next = p + BLOCK;
		uint64_t mask = copy_block(to, p);

		for (; mask; copy_block(to, p)) {
			const unsigned i = (unsigned)__builtin_ctzll(mask);
			const char letter = block[i] == '\\' ? jsonl_letter[(unsigned char)block[i + 1]] : 0;

			to += block + i - p;
			p = block + i;
			plain = letter != 0;
			if (!plain)
				break;
			*to++ = letter;
			p += 2;
			mask &= ~((uint64_t)3 << i);
		}
		if (plain && p < next) {
			to += next - p;
			p = next;
		}
	}
	out->n = (size_t)(to - out->p);
	*from = p;
}

jsonl_copy_fn *jsonl_copy_avx2(void)
{
	return __builtin_cpu_supports("avx2") ? copy : NULL;
}
#else
jsonl_copy_fn *jsonl_copy_avx2(void)
{
	return NULL;
}
#endif
