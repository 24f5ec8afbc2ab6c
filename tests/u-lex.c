/* lex: terms of texts in many scripts, told with their places */
#include "lex.h"

#include <string.h>

#include "check.h"

struct told {
	struct buf text;
};

/* "term:from-to", symbols with a '!' */
static void tell(void *arg, const struct lex_term *t)
{
	struct told *b = arg;

	buf_printf(&b->text, "%s%s%.*s:%zu-%zu", b->text.n ? " " : "", t->symbol ? "!" : "", (int)t->bytes, t->text,
		   t->from, t->to);
}

/* tokens: bytes of each, as digits; "": all one */
static void is(const char *name, const char *text, const char *tokens, const char *want)
{
	uint16_t owner[256] = { 0 };
	struct told b = { 0 };
	size_t at = 0;

	for (size_t k = 0; k < strlen(tokens); k++)
		for (int i = 0; i < tokens[k] - '0'; i++)
			owner[at++] = (uint16_t)k;
	buf_add(&b.text, "", 0);
	lex_scan(lex_tables(), (const unsigned char *)text, strlen(text), owner, tell, &b);
	if (!check(!strcmp(b.text.p, want), "%s", name))
		printf("#   %s\n", b.text.p);
	buf_free(&b.text);
}

int main(void)
{
	is("words", "The NHL's 2nd!", "", "the:0-3 nhl:4-7 !':7-8 s:8-9 2nd:10-13 !!:13-14");
	is("nothing", " \t\n", "", "");
	is("Latin with accents", "Über ÇA İ ÿŸ ſ ß ẞ", "", "über:0-5 ça:6-9 i:10-12 ÿÿ:13-17 ſ:18-20 ß:21-23 ß:24-27");
	is("Greek", "ΟΔΟΣ ὁδός Ἀθῆναι", "", "οδοσ:0-8 ὁδόσ:9-18 ἀθῆναι:19-33");
	is("Cyrillic", "Привет ЁЖ Ґ", "", "привет:0-12 ёж:13-17 ґ:18-20");
	is("accents that combine", "cafe\u0301!", "", "cafe\u0301:0-6 !!:6-7");
	is("Devanagari keeps its vowel signs; a danda ends", "हिन्दी।", "", "हिन्दी:0-18 !।:18-21");
	is("Arabic with points, Hebrew, Hangul", "سَلام שלום 안녕", "", "سَلام:0-10 שלום:11-19 안녕:20-26");
	is("two by two where no spaces are", "世界杯 界", "", "世界:0-6 界杯:3-9 杯:6-9 界:10-13");
	is("Thai", "ไทย", "", "ไท:0-6 ทย:3-9 ย:6-9");
	is("scripts side by side", "Go言語x", "", "go:0-2 言語:2-8 語:5-8 x:8-9");
	is("full width", "ＡＢ１", "", "ａｂ１:0-9");
	is("symbols", "a->b", "", "a:0-1 !-:1-2 !>:2-3 !->:1-3 b:3-4");
	is("... of tokens", "});", "21", "!}:0-1 !):1-2 !}):0-2 !;:2-3");
	is("... across them", "🎉🎉", "26", "!🎉:0-4 !🎉:4-8 !🎉🎉:0-8");
	is("what cannot be seen separates", "a\u200bb\u202ec\x7f\xef\xbb\xbf" "d\u00a0e", "",
	   "a:0-1 b:4-5 c:8-9 d:13-14 e:16-17");
	is("bytes that are none separate", "x\xed\xa0\x80y\xe2\x82z\xc0\xaf", "", "x:0-1 y:4-5 z:7-8");
	is("a long word is cut", "aaaaaaaaaabbbbbbbbbbccccccccccdéeee", "",
	   "aaaaaaaaaabbbbbbbbbbccccccccccd:0-36");
	return check_done();
}
