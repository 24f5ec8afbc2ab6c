#ifndef LEX_H
#define LEX_H
/*
 * lex: the terms by which a text is found, of whatever script.
 *
 *	lex_scan(lex_tables(), text, bytes, owner, found, &args);
 *
 * A term is, in UTF-8 and at most LEX_BYTES long (cut between characters):
 * - a run of letters, digits and the marks that go with them, case folded;
 * - of scripts written without spaces, each two neighbours in such a run, and its last character;
 * - a run of punctuation and symbols within one token, and, if it is longer, each character of it.
 * Everything else separates.  The page splits what is asked for by the same tables: lex_json.
 */
#include <jansson.h>

#include "base.h"

enum { LEX_BYTES = 32 };
enum lex_kind { LEX_NONE, LEX_LETTER, LEX_PAIR, LEX_SYMBOL, LEX_BROKEN };

struct lex {
	uint8_t *kind;          /* of every code point; never freed */
};
const struct lex *lex_tables(void);         /* built once, before threads; never freed */

/* Of the character at p < end, and its bytes; of bytes that are none LEX_BROKEN. */
enum lex_kind lex_at(const struct lex *v, const unsigned char *p, const unsigned char *end, size_t *bytes);

/* Of text[from, to); `bytes` of the folded term. */
struct lex_term {
	char text[LEX_BYTES];
	size_t bytes, from, to;
	bool symbol;
};
/* Calls found for each term in turn; owner: of each byte, the token that it comes from.
 * Bytes that are no UTF-8 separate. */
void lex_scan(const struct lex *v, const unsigned char *text, size_t bytes, const uint16_t *owner,
		void (*found)(void *arg, const struct lex_term *t), void *arg);

json_t *lex_json(void);       /* {"fold": [[first, last, step, add]…], "marks": [[first, last]…], "pairs", "unseen", "bytes": LEX_BYTES} */

#endif
