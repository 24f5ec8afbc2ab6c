/* ---- text: bytes of tokens as whole characters, whatever is invisible made visible ---- */
const NO_TOKEN = 0xFFFF, END_OF_TEXT = 50256;

const vocab = (() => {
	let promise;
	return () => promise ||= load("vocab").then(text => text.split("\u0100"));
})();

/* Bytes of the character that begins at bytes[i], 0 when there is no whole one (RFC 3629). */
function charLength(bytes, i) {
	const b = bytes[i], n = b < 0x80 ? 1 : b < 0xC2 ? 0 : b < 0xE0 ? 2 : b < 0xF0 ? 3 : b < 0xF5 ? 4 : 0;
	const low = { 0xE0: 0xA0, 0xF0: 0x90 }[b] || 0x80, high = { 0xED: 0x9F, 0xF4: 0x8F }[b] || 0xBF;
	for (let k = 1; k < n; k++)
		if (!(bytes[i + k] >= (k == 1 ? low : 0x80) && bytes[i + k] <= (k == 1 ? high : 0xBF)))
			return 0;
	return n;
}

const utf8 = new TextDecoder("utf-8", { ignoreBOM: true });
const charNames = {
	0xA0: "NBSP", 0xAD: "SHY", 0x34F: "CGJ", 0x61C: "ALM", 0x200B: "ZWSP", 0x200C: "ZWNJ", 0x200D: "ZWJ", 0x200E: "LRM", 0x200F: "RLM",
	0x2028: "LS", 0x2029: "PS", 0x202A: "LRE", 0x202B: "RLE", 0x202C: "PDF", 0x202D: "LRO", 0x202E: "RLO",
	0x2060: "WJ", 0x2066: "LRI", 0x2067: "RLI", 0x2068: "FSI", 0x2069: "PDI", 0xFEFF: "BOM", 0x85: "NEL", 0x7F: "DEL",
};
const controlNames = "NUL SOH STX ETX EOT ENQ ACK BEL BS HT LF VT FF CR SO SI DLE DC1 DC2 DC3 DC4 NAK SYN ETB CAN EM SUB ESC FS GS RS US".split(" ");
const marks = { 9: "⇥", 10: "↵" };	/* signs that every font has, unlike pictures of the other controls */
const unseen = /[\p{C}\p{Zl}\p{Zp}\p{DI}\u2800\uFFFD]|(?! )\s/u;	/* U+FFFD looks like a failure to decode */

function charName(code) {
	const selector = code >= 0xFE00 && code <= 0xFE0F && code - 0xFDFF;
	return controlNames[code] || charNames[code] || (selector ? "VS" + selector : "U+" + code.toString(16).toUpperCase().padStart(4, "0"));
}

/* A character as { kind, text }: text, mark (tab and newline), name (others that would not be seen). */
function seen(char) {
	const code = char.codePointAt(0);
	if (code >= 32 && code < 127)
		return { kind: "text", text: char };
	if (marks[code])
		return { kind: "mark", text: marks[code] };
	if (unseen.test(char))
		return { kind: "name", text: charName(code) };
	return { kind: "text", text: char };
}

function addPiece(list, piece) {
	const last = list[list.length - 1];
	if (last && last.kind == piece.kind && /^(text|space|bytes)$/.test(piece.kind))
		last.text += (piece.kind == "bytes" ? " " : "") + piece.text;
	else if (!(last && piece.kind == "rest" && last.kind == "rest"))
		list.push(piece);
}

/* A space that is not plainly one between two words: beside another or a line's end, or a token by itself. */
function isSpaceToSee(bytes, owner, i) {
	const blank = k => bytes[k] == 32 || bytes[k] >= 9 && bytes[k] <= 13;
	return bytes[i] == 32 && (blank(i - 1) || blank(i + 1) || owner[i] != owner[i - 1] && owner[i] != owner[i + 1]);
}

/*
 * For each of consecutive tokens its pieces.  A character whose bytes lie in
 * several tokens stands whole in the first ("whole"); the others have a
 * "rest".  Bytes of no whole character are "bytes", in hex.  A "space" is one
 * that is to be seen.
 */
function piecesOf(ids, words) {
	const lists = ids.map(() => []), bytes = [], owner = [];
	ids.forEach((id, t) => {
		if (id == NO_TOKEN)
			return;
		if (id == END_OF_TEXT || words[id] == null) {
			lists[t].push({ kind: "name", text: id == END_OF_TEXT ? "end of text" : "no token " + id });
			bytes.push(-1);	/* keeps characters from running across */
			owner.push(-1);
			return;
		}
		for (let i = 0; i < words[id].length; i++) {
			bytes.push(words[id].charCodeAt(i));
			owner.push(t);
		}
	});
	for (let i = 0, n; i < bytes.length; i += n || 1) {
		n = bytes[i] < 0 ? 0 : charLength(bytes, i);
		if (isSpaceToSee(bytes, owner, i)) {
			addPiece(lists[owner[i]], { kind: "space", text: " " });
		} else if (n) {
			const piece = seen(n == 1 ? String.fromCharCode(bytes[i]) : utf8.decode(Uint8Array.from(bytes.slice(i, i + n))));
			const across = owner[i] != owner[i + n - 1];
			addPiece(lists[owner[i]], across && piece.kind == "text" ? { kind: "whole", text: piece.text } : piece);
			for (let k = 1; across && k < n; k++)
				if (owner[i + k] != owner[i])
					addPiece(lists[owner[i + k]], { kind: "rest", text: "·" });
		} else if (bytes[i] >= 0) {
			addPiece(lists[owner[i]], { kind: "bytes", text: bytes[i].toString(16).toUpperCase().padStart(2, "0") });
		}
	}
	return lists;
}

const pieceTitle = {
	whole: "a character that goes on in the next token", rest: "the rest of the character before",
	bytes: "bytes of a character that is not whole here",
};

function pieceNodes(list) {
	return list.map(p => p.kind == "text" ? p.text : p.kind == "space" ? el("span", { class: "p-mark" }, "␣".repeat(p.text.length)) :
		el("span", { class: "p-" + p.kind, title: pieceTitle[p.kind] }, p.text));
}

/* A token by itself: isolated, its spaces visible, on a circle what joins the letter before. */
function tokenNode(id, words) {
	if (id == NO_TOKEN)
		return null;
	const list = piecesOf([id], words)[0].flatMap(p => p.kind != "text" ? [p] :
		p.text.split(/( +)/).filter(s => s).map(s => ({ kind: s[0] == " " ? "space" : "text", text: s })));
	if (list.length && /^\p{M}/u.test(list[0].text))
		list.unshift({ kind: "text", text: "◌" });
	return el("bdi", { class: "token", translate: "no" }, pieceNodes(list));
}

/* Pieces as plain characters, for searching and labels. */
const plain = list => list.map(p => p.kind == "bytes" || p.kind == "rest" ? "" : p.text).join("");

const rtlChars = /[\u0590-\u08FF\uFB1D-\uFDFF\uFE70-\uFEFC\u{10800}-\u{10FFF}\u{1E800}-\u{1EFFF}]/gu;
const ltrChars = /[A-Za-z\u00C0-\u024F\u0370-\u058F\u0900-\u1FFF\u3040-\u9FFF\uAC00-\uD7A3]/g;

/* The direction in which a line of tokens is read: that of most of its letters. */
function direction(lists) {
	const text = lists.flat().filter(p => p.kind == "text" || p.kind == "whole").map(p => p.text).join("");
	return (text.match(rtlChars) || []).length > (text.match(ltrChars) || []).length ? "rtl" : "ltr";
}

