/* Terms of any script. */
#include "lex.h"

#include <string.h>

#include "pieces.h"
#include "utf8.h"

struct range {
	uint32_t first, last;
};

/* From an upper-case letter to its lower-case one: every step-th of first to last, plus add. */
static const struct fold {
	uint32_t first, last, step;
	int32_t add;
} folds[] = {
	{ 0x41, 0x5A, 1, 32 }, { 0xC0, 0xD6, 1, 32 }, { 0xD8, 0xDE, 1, 32 }, { 0x100, 0x12E, 2, 1 },
	{ 0x130, 0x130, 1, 0x69 - 0x130 }, { 0x132, 0x136, 2, 1 }, { 0x139, 0x147, 2, 1 }, { 0x14A, 0x176, 2, 1 },
	{ 0x178, 0x178, 1, -121 }, { 0x179, 0x17D, 2, 1 }, { 0x1CD, 0x1DB, 2, 1 }, { 0x1DE, 0x1EE, 2, 1 },
	{ 0x1F8, 0x21E, 2, 1 }, { 0x222, 0x232, 2, 1 },
	{ 0x386, 0x386, 1, 38 }, { 0x388, 0x38A, 1, 37 }, { 0x38C, 0x38C, 1, 64 }, { 0x38E, 0x38F, 1, 63 },
	{ 0x391, 0x3A1, 1, 32 }, { 0x3A3, 0x3AB, 1, 32 }, { 0x3C2, 0x3C2, 1, 1 },
	{ 0x400, 0x40F, 1, 80 }, { 0x410, 0x42F, 1, 32 }, { 0x460, 0x480, 2, 1 }, { 0x48A, 0x4BE, 2, 1 },
	{ 0x4C0, 0x4C0, 1, 15 }, { 0x4C1, 0x4CD, 2, 1 }, { 0x4D0, 0x52E, 2, 1 }, { 0x531, 0x556, 1, 48 },
	{ 0x1E00, 0x1E94, 2, 1 }, { 0x1E9E, 0x1E9E, 1, 0xDF - 0x1E9E }, { 0x1EA0, 0x1EFE, 2, 1 },
	{ 0x1F08, 0x1F0F, 1, -8 }, { 0x1F18, 0x1F1D, 1, -8 }, { 0x1F28, 0x1F2F, 1, -8 }, { 0x1F38, 0x1F3F, 1, -8 },
	{ 0x1F48, 0x1F4D, 1, -8 }, { 0x1F59, 0x1F5F, 2, -8 }, { 0x1F68, 0x1F6F, 1, -8 }, { 0xFF21, 0xFF3A, 1, 32 },
};

/* Signs that belong to the letters before them: accents, vowel signs, points. */
static const struct range marks[] = {
	{ 0x300, 0x36F }, { 0x483, 0x489 }, { 0x591, 0x5BD }, { 0x5BF, 0x5BF }, { 0x5C1, 0x5C2 }, { 0x5C4, 0x5C5 },
	{ 0x5C7, 0x5C7 }, { 0x610, 0x61A }, { 0x64B, 0x65F }, { 0x670, 0x670 }, { 0x6D6, 0x6DC }, { 0x6DF, 0x6E8 },
	{ 0x6EA, 0x6ED }, { 0x711, 0x711 }, { 0x730, 0x74A }, { 0x7A6, 0x7B0 }, { 0x7EB, 0x7F3 }, { 0x816, 0x82D },
	{ 0x859, 0x85B }, { 0x8CA, 0x903 }, { 0x93A, 0x963 }, { 0x981, 0x9F1 }, { 0x9FE, 0xAEF }, { 0xAFA, 0xB6F },
	{ 0xB82, 0xBEF }, { 0xC00, 0xC76 }, { 0xC81, 0xD4E }, { 0xD57, 0xDF3 }, { 0xE31, 0xE3A }, { 0xE47, 0xE4E },
	{ 0xEB1, 0xEBC }, { 0xEC8, 0xECE }, { 0xF18, 0xF19 }, { 0xF35, 0xF35 }, { 0xF37, 0xF37 }, { 0xF39, 0xF39 },
	{ 0xF3E, 0xF84 }, { 0xF86, 0xFBC }, { 0x102B, 0x103E }, { 0x1056, 0x109D }, { 0x135D, 0x135F },
	{ 0x1712, 0x1715 }, { 0x17B4, 0x17D3 }, { 0x1A55, 0x1A7F }, { 0x1AB0, 0x1B4C }, { 0x1B6B, 0x1BF3 },
	{ 0x1C24, 0x1C37 }, { 0x1CD0, 0x1CF9 }, { 0x1DC0, 0x1DFF }, { 0x20D0, 0x20F0 }, { 0x302A, 0x302F },
	{ 0x3099, 0x309A }, { 0xFE20, 0xFE2F },
};
/* Scripts written without spaces: Thai, Lao, Tibetan, Myanmar, Khmer, kana, bopomofo, Han. */
static const struct range pairs[] = {
	{ 0xE00, 0xEFF }, { 0xF00, 0xFFF }, { 0x1000, 0x109F }, { 0x1780, 0x17FF }, { 0x2E80, 0x2FDF },
	{ 0x3005, 0x3007 }, { 0x3021, 0x3029 }, { 0x3031, 0x312F }, { 0x31A0, 0x31FF }, { 0x3400, 0x9FFF },
	{ 0xF900, 0xFAFF }, { 0xFF66, 0xFF9F }, { 0x1AFF0, 0x1B16F }, { 0x20000, 0x3FFFF },
};

/* Neither text nor symbol: controls, formats, surrogates, private use, variation selectors. */
static const struct range unseen[] = {
	{ 0x0, 0x20 }, { 0x7F, 0xA0 }, { 0xAD, 0xAD }, { 0x61C, 0x61C }, { 0x180B, 0x180F }, { 0x200B, 0x200F },
	{ 0x2028, 0x202E }, { 0x2060, 0x206F }, { 0xD800, 0xF8FF }, { 0xFE00, 0xFE0F }, { 0xFEFF, 0xFEFF },
	{ 0xFFF0, 0xFFFF }, { 0xE0000, 0x10FFFF },
};

static void set(uint8_t *kind, const struct range *r, size_t n, enum lex_kind from, enum lex_kind to)
{
	for (size_t i = 0; i < n; i++)
		for (uint32_t c = r[i].first; c <= r[i].last; c++)
			if (kind[c] == from)
				kind[c] = (uint8_t)to;
}

const struct lex *lex_tables(void)
{
	static struct lex v;

	if (v.kind)
		return &v;
	v.kind = memcpy(xmalloc(CODE_POINTS), classes_gpt2()->point, CODE_POINTS);
	for (uint32_t c = 0; c < CODE_POINTS; c++)
		v.kind[c] = v.kind[c] == CLASS_LETTER || v.kind[c] == CLASS_NUMBER ? LEX_LETTER :
			v.kind[c] == CLASS_SPACE ? LEX_NONE : LEX_SYMBOL;
	set(v.kind, marks, ARRAY_LEN(marks), LEX_SYMBOL, LEX_LETTER);
	set(v.kind, pairs, ARRAY_LEN(pairs), LEX_LETTER, LEX_PAIR);
	set(v.kind, unseen, ARRAY_LEN(unseen), LEX_SYMBOL, LEX_NONE);
	return &v;
}

static uint32_t fold(uint32_t c)
{
	if (c < 0x80)
		return c - 'A' < 26 ? c + 32 : c;
	for (size_t i = 0; i < ARRAY_LEN(folds); i++)
		if (c >= folds[i].first && c <= folds[i].last)
			return (c - folds[i].first) % folds[i].step ? c : (uint32_t)((int32_t)c + folds[i].add);
	return c;
}

static size_t encode(uint32_t c, char out[4])
{
	if (c < 0x80) {
		out[0] = (char)c;
		return 1;
	}
	const size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;

	for (size_t i = n; i-- > 1; c >>= 6)
		out[i] = (char)(0x80 | (c & 0x3F));
	out[0] = (char)(0xF00 >> n | c);        /* C0, E0, F0 */
	return n;
}

static uint32_t decode(const unsigned char *p, size_t n)
{
	uint32_t c = n == 1 ? p[0] : p[0] & (0xFFu >> (n + 1));

	for (size_t i = 1; i < n; i++)
		c = c << 6 | (p[i] & 0x3F);
	return c;
}

enum lex_kind lex_at(const struct lex *v, const unsigned char *p, const unsigned char *end, size_t *bytes)
{
	const int n = utf8_length(p, end);

	*bytes = (size_t)(n > 0 ? n : -n);
	return n > 0 ? (enum lex_kind)v->kind[decode(p, *bytes)] : LEX_BROKEN;
}

/* The run of characters of one kind under way, and whom to tell of its terms. */
struct scan {
	void (*found)(void *arg, const struct lex_term *t);
	void *arg;
	enum lex_kind kind;
	struct lex_term run;
	struct lex_term last;           /* its last character; bytes 0: none yet */
	size_t chars;
	bool full;                      /* of the run's term */
};

/* false: it does not fit */
static bool append(struct lex_term *t, const struct lex_term *more)
{
	if (t->bytes + more->bytes > LEX_BYTES)
		return false;
	memcpy(t->text + t->bytes, more->text, more->bytes);
	t->bytes += more->bytes;
	return true;
}

static void end_run(struct scan *s)
{
	if (s->kind == LEX_PAIR)
		s->found(s->arg, &s->last);
	else if (s->kind == LEX_LETTER || s->kind == LEX_SYMBOL)
		s->found(s->arg, &s->run);
	s->kind = LEX_NONE;
}

/* One more character of the run: the second of a pair, or a symbol, tells of terms at once. */
static void add_char(struct scan *s, uint32_t c, size_t from, size_t to)
{
	struct lex_term one = { .from = from, .to = to, .symbol = s->kind == LEX_SYMBOL };

	one.bytes = encode(fold(c), one.text);
	s->run.to = to;
	if (s->kind == LEX_PAIR && s->chars > 0) {
		append(&s->last, &one);
		s->last.to = to;
		s->found(s->arg, &s->last);
	} else if (s->kind == LEX_SYMBOL && s->chars > 0) {
		if (s->chars == 1)
			s->found(s->arg, &s->last);
		s->found(s->arg, &one);
	}
	s->full = s->full || !append(&s->run, &one);
	s->last = one;
	s->chars++;
}

void lex_scan(const struct lex *v, const unsigned char *text, size_t bytes, const uint16_t *owner,
	      void (*found)(void *arg, const struct lex_term *t), void *arg)
{
	struct scan s = { .found = found, .arg = arg, .kind = LEX_NONE };

	for (size_t i = 0, step; i < bytes; i += step) {
		const enum lex_kind kind = lex_at(v, text + i, text + bytes, &step);

		if (kind != s.kind || (kind == LEX_SYMBOL && owner[i] != owner[i - 1])) {
			end_run(&s);
			s.kind = kind;
			s.run = (struct lex_term){ .from = i, .symbol = kind == LEX_SYMBOL };
			s.chars = 0;
			s.full = false;
		}
		if (kind != LEX_NONE && kind != LEX_BROKEN)
			add_char(&s, decode(text + i, step), i, i + step);
	}
	end_run(&s);
}

static json_t *range_json(const struct range *r, size_t n)
{
	json_t *a = json_array();

	for (size_t i = 0; i < n; i++)
		json_array_append_new(a, json_pack("[i,i]", (int)r[i].first, (int)r[i].last));
	return a;
}

json_t *lex_json(void)
{
	json_t *f = json_array();

	for (size_t i = 0; i < ARRAY_LEN(folds); i++)
		json_array_append_new(f, json_pack("[i,i,i,i]", (int)folds[i].first, (int)folds[i].last,
						   (int)folds[i].step, (int)folds[i].add));
	return json_pack("{s:o,s:o,s:o,s:o,s:i}", "fold", f, "marks", range_json(marks, ARRAY_LEN(marks)),
			 "pairs", range_json(pairs, ARRAY_LEN(pairs)), "unseen", range_json(unseen, ARRAY_LEN(unseen)),
			 "bytes", (int)LEX_BYTES);
}
