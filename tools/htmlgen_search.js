/* ---- search: words in the texts of the examples, by an index in chunks ---- */
const RESULTS = 20;	/* on a page */
const WIDEST = 16;	/* chunks of the index that a beginning of words may take */
const PART = 0.8;	/* what a word counts of which only the beginning was asked for */
const SNIPPETS = 2;	/* of a result */

/* ---- terms, as common/lex.c tells them, by its tables ---- */
const LETTER = 1, PAIR = 2, SYMBOL = 3;
const encoder = new TextEncoder();
const toBytes = s => Array.from(encoder.encode(s), b => String.fromCharCode(b)).join("");
const fromBytes = s => utf8.decode(Uint8Array.from(s, c => c.charCodeAt(0)));

function lexer(tables) {
	const within = (ranges, c) => ranges.some(([first, last]) => c >= first && c <= last);
	const look = char => {
		const c = char.codePointAt(0), row = tables.fold.find(([first, last]) => c >= first && c <= last);
		const folded = row && (c - row[0]) % row[2] == 0 ? String.fromCodePoint(c + row[3]) : char;
		const letter = /[\p{L}\p{N}]/u.test(char) || within(tables.marks, c);
		const none = !letter && (/\p{White_Space}/u.test(char) || within(tables.unseen, c));
		return { folded, kind: none ? 0 : !letter ? SYMBOL : within(tables.pairs, c) ? PAIR : LETTER };
	};
	const known = new Map();
	return char => known.get(char) || (known.set(char, look(char)), known.get(char));
}

/* What of a run's text is indexed: whole characters of so many bytes. */
function cutTerm(text, bytes) {
	const chars = [...text];
	while (encoder.encode(chars.join("")).length > bytes)
		chars.pop();
	return chars.join("");
}

/*
 * Runs of one kind in a text: [{ kind, from, to, text (folded), ends [place behind each character] }].
 * Symbols end at the places in `cuts`, where tokens begin.
 */
function runsOf(text, lookUp, cuts) {
	const runs = [];
	let run = null, at = 0;
	for (const char of text) {
		const { kind, folded } = lookUp(char);
		if (!run || kind != run.kind || (kind == SYMBOL && cuts && cuts.has(at)))
			runs.push(run = { kind, from: at, to: at, text: "", ends: [] });
		at += char.length;
		run.to = at;
		run.text += folded;
		run.ends.push(at);
	}
	return runs.filter(r => r.kind);
}

/* A run's terms: [{ term, from, to }]; the last character of a run of pairs only if `tail`. */
function termsOfRun(run, bytes, tail) {
	const chars = [...run.text], from = i => i ? run.ends[i - 1] : run.from;
	const one = (i, j) => ({ term: chars.slice(i, j + 1).join(""), from: from(i), to: run.ends[j] });
	const whole = { term: cutTerm(run.text, bytes), from: run.from, to: run.to };
	if (run.kind == LETTER || chars.length == 1)
		return [whole];
	if (run.kind == SYMBOL)
		return [whole, ...chars.map((_, i) => one(i, i))];
	return [...chars.slice(1).map((_, i) => one(i, i + 1)), tail && one(chars.length - 1, chars.length - 1)].filter(t => t);
}

/*
 * What is asked for: [{ term, begins }], begins: words that begin so count too (the last word, while it is
 * being typed).  Symbols count where there are no words.
 */
async function askedFor(q) {
	const { words: tables } = await load("search"), all = runsOf(q, lexer(tables));
	const words = all.filter(r => r.kind != SYMBOL), runs = words.length ? words : all, out = [];
	runs.forEach((run, i) => {
		const last = i == runs.length - 1 && run.to == q.length;
		const terms = run.kind == SYMBOL ? termsOfRun(run, tables.bytes).slice(0, 1) : termsOfRun(run, tables.bytes, false);
		for (const { term } of terms)
			out.push({ term, begins: run.kind == LETTER ? last : run.kind == PAIR && [...run.text].length == 1 });
	});
	return out.filter((w, i) => out.findIndex(v => v.term == w.term) == i);
}

/* ---- the index ---- */
/* Terms of a chunk, and where the features of each stand in its bytes. */
function unfoldTerms(part) {
	const bytes = bytesOf(part.data), list = [], at = [];
	let term = "", p = 0;
	const number = () => {
		for (let x = 0, unit = 1;; unit *= 128) {
			const b = bytes[p++];
			x += (b & 127) * unit;
			if (b < 128)
				return x;
		}
	};
	const features = use => {
		const n = number();
		for (let left = Math.min(n, parts.lexicon.cap); left > 0;) {
			const head = number(), level = head % 16;
			for (let k = Math.floor(head / 16), f = 0; k > 0; k--, left--) {
				f += number();
				if (use)
					use(f, level);
			}
		}
		return n;
	};
	for (const entry of part.terms.split(" ")) {
		list.push(term = term.slice(0, entry.charCodeAt(0) - 64) + entry.slice(1));
		at.push(p);
		features();
	}
	return { list, read: (i, use) => (p = at[i], features(use)) };
}

/* The place of the last chunk whose first term is not behind this one. */
function chunkOf(lexicon, term) {
	let lo = 0, hi = lexicon.chunks.length;
	while (hi - lo > 1) {
		const mid = (lo + hi) >> 1;
		if (lexicon.chunks[mid][1] <= term)
			lo = mid;
		else
			hi = mid;
	}
	return lo;
}

/* Terms that are, or begin with, this one: [{ term, n, read(use) }]; too many chunks: only itself, { narrow }. */
async function matching({ term, begins }) {
	const lexicon = parts.lexicon = await load("search"), want = toBytes(term), first = chunkOf(lexicon, want);
	const last = begins ? chunkOf(lexicon, want + "\u00ff") : first, narrow = last - first >= WIDEST;
	const names = lexicon.chunks.slice(first, (narrow ? first : last) + 1).map(([n]) => "s" + n), found = [];
	for (const part of await Promise.all(names.map(load))) {
		part.ready ||= unfoldTerms(part);
		part.ready.list.forEach((t, i) => {
			if (t == want || (begins && !narrow && t.startsWith(want)))
				found.push({ term: fromBytes(t), exact: t == want, read: use => part.ready.read(i, use) });
		});
	}
	return { found, narrow };
}

/*
 * Of one word what its terms say of all features: level (F) 0 none, else 1 to 16; n features at least; the terms; and
 * whether some features of the word are not among those the index keeps.
 */
async function scoreWord(asked) {
	const { found, narrow } = await matching(asked), score = new Float32Array(site.index.features);
	let n = 0, cut = false;
	for (const t of found) {
		t.n = t.read((f, level) => {
			/* the word itself before those that it begins; standing near before nothing */
			const value = (level + 1) * (t.exact ? 1 : PART);
			n += score[f] == 0;
			score[f] = Math.max(score[f], value);
		});
		cut = cut || t.n > parts.lexicon.cap;
	}
	return { ...asked, narrow, score, cut, n: Math.max(n, ...found.map(t => t.n), 0), terms: found.sort((a, b) => b.exact - a.exact || b.n - a.n) };
}

/*
 * Features with all the words, the best first: rare words weigh more.  Of a word of which not all features are kept
 * it is not known who has it: beside others it only ranks.
 */
async function searchFor(q) {
	const asked = await askedFor(q), F = site.index.features, list = [], total = new Float32Array(F);
	const words = await Promise.all(asked.map(scoreWord)), sure = words.filter(w => !w.cut);
	const needed = sure.length ? sure : words.toSorted((a, b) => a.n - b.n).slice(0, 1);
	for (let f = 0; f < F && words.length; f++)
		if (needed.every(w => w.score[f])) {
			list.push(f);
			total[f] = words.reduce((sum, w) => sum + w.score[f] * Math.log(2 + F / (1 + w.n)), 0);
		}
	return { q, words, needed, list: list.sort((a, b) => total[b] - total[a] || a - b) };
}

/* ---- an example as text, and where the words stand in it ---- */
/* Its text, and for each piece of each token where it stands there. */
function flatten(lists) {
	const places = [], cuts = new Set();
	let text = "";
	for (const list of lists) {
		cuts.add(text.length);
		places.push(list.map(p => {
			const from = text.length;
			text += p.kind == "text" || p.kind == "whole" ? p.text : p.kind == "rest" ? "" : " ";
			return [from, text.length];
		}));
	}
	return { text, places, cuts };
}

/* Where words of the search stand in an example: { hits [[from, to]…], found (words), act, at (a token) }. */
function findIn(x, lists, flat, words, lookUp) {
	const hits = [], found = new Set(), { bytes } = parts.lexicon.words;
	let act = -1, at = middle(x);
	const tokenOf = place => flat.places.findIndex(list => list.some(([, to]) => to > place));
	for (const run of runsOf(flat.text, lookUp, flat.cuts))
		for (const t of termsOfRun(run, bytes, true)) {
			const exact = words.find(w => w.term == t.term);
			const word = exact || words.find(w => w.begins && !w.narrow && t.term.startsWith(w.term));
			if (!word)
				continue;
			const a = tokenOf(t.from), b = tokenOf(t.to - 1), most = Math.max(...x.acts.slice(a, b + 1));
			if (run.kind == SYMBOL && !most)
				continue;
			hits.push([t.from, t.to]);
			found.add(word);
			if (most * (exact ? 1 : PART) > act)
				[act, at] = [most * (exact ? 1 : PART), a];
		}
	return { hits, found, act, at };
}

/* A token's pieces, what belongs to hits marked. */
function markedNodes(list, places, hits) {
	return list.flatMap((p, i) => {
		const [from, to] = places[i];
		if (p.kind != "text" && p.kind != "whole")
			return pieceNodes([p]);
		const cuts = [...new Set([from, to, ...hits.flat().filter(c => c > from && c < to)])].sort((a, b) => a - b);
		return cuts.slice(1).map((end, k) => {
			const node = pieceNodes([{ ...p, text: p.text.slice(cuts[k] - from, end - from) }]);
			return hits.some(([a, b]) => a <= cuts[k] && end <= b) ? el("mark", {}, node) : node;
		}).flat();
	});
}

/* A line of an example's tokens around the place found. */
function snippet(x, lists, flat, hit, names, scale) {
	const from = Math.max(0, hit.at - 14), tokens = [];
	for (let w = from; w < x.tokens.length && tokens.length < 29; w++)
		tokens.push(x.tokens[w] == NO_TOKEN ? null : exampleToken(x, w, [], scale));
	tokens.forEach((node, i) => node && node.append(...markedNodes(lists[from + i], flat.places[from + i], hit.hits)));
	const line = el("p", { class: "context", translate: "no", dir: direction(lists) }, tokens);
	line.addEventListener("pointerover", event => {
		const i = tokens.indexOf(event.target.closest(".tok"));
		if (i >= 0)
			showTip(tokens[i], x, from + i, names, scale.max);
	});
	line.addEventListener("pointerleave", event => event.pointerType == "touch" || hideTip());
	return line;
}

/* The examples of a feature that show the words best. */
async function snippets(f, words, row, names, lookUp) {
	const { group } = site.chunks, feature = (await load("f" + Math.floor(f / group)))[f % group], seen = new Set();
	const examples = feature.examples.filter(x => x).map(unpack);
	const scale = { max: row.max, effect: examples.reduce((m, x) => Math.max(m, ...x.effects.map(Math.abs)), 0.1) };
	const all = examples.map(x => {
		const lists = piecesOf(x.tokens, names), flat = flatten(lists);
		return { x, lists, flat, hit: findIn(x, lists, flat, words, lookUp) };
	}).filter(s => s.hit.found.size && !seen.has(s.flat.text) && seen.add(s.flat.text));
	const worth = s => s.hit.found.size * 10 + s.hit.act / scale.max + 0.01 * s.x.acts[middle(s.x)] / scale.max;
	return all.sort((a, b) => worth(b) - worth(a)).slice(0, SNIPPETS).map(s => snippet(s.x, s.lists, s.flat, s.hit, names, scale));
}

/* ---- the view ---- */
const searchHash = (q, page) => "search?" + new URLSearchParams(page > 1 ? { q, page } : { q });

/* How much of what the feature fires on the word is. */
function wordMeter(word, f) {
	const level = word.score[f] / (word.score[f] > 0 ? 1 : Infinity), strong = Math.max(0, level - 1) / 15;
	const meter = el("i", { class: "meter" });
	meter.style.width = 100 * Math.min(1, strong) + "%";
	return el("span", { class: "strength" }, strong > 0 ? ["fires on ", el("bdi", {}, `“${word.term}”`), el("span", { class: "track" }, meter)] :
		[level ? "near " : "perhaps near ", el("bdi", {}, `“${word.term}”`)]);
}

async function resultItem(f, words, names, lookUp) {
	const row = await rowOf(f), kind = kindOf(row.density), lines = await snippets(f, words, row, names, lookUp);
	return el("li", { class: "result" },
		el("div", { class: "who" }, el("h2", {}, el("a", { href: "#f=" + f }, `Feature ${f}`)),
			el("span", { class: "badge " + kind }, kindName[kind]), words.map(w => wordMeter(w, f)),
			el("span", { class: "note" }, `density ${percent(row.density)}, largest activation ${short(row.max)}`),
			el("span", { class: "tokens" }, tokenList(row.tokens, names))),
		lines.length ? lines : el("p", { class: "note" }, "No example that was kept has these words."));
}

/* What was understood, and what of it does not show all. */
function searchNotes({ q, words, needed, list }) {
	const quoted = w => el("bdi", {}, `“${w}”`), { cap } = parts.lexicon, shown = 12;
	const note = (...what) => el("p", { class: "note" }, what);
	return [
		el("p", { class: "count", role: "status" }, list.length ? `${plural(list.length, "feature")} with ` : "No feature has ",
			needed.map((w, i) => [i ? " and " : "", w.begins ? "words that begin with " : "", quoted(w.term)]),
			list.length ? ", those that fire on it first." : " in the texts that were kept of it."),
		words.filter(w => w.narrow).map(w => note("More words begin with ", quoted(w.term), " than can be looked through at once: only the word itself was; type on.")),
		words.filter(w => w.cut).map(w => note(quoted(w.term), ` stands in the texts of ${whole(w.n)} features; kept are the ${whole(cap)} that fire on it most.`,
			needed.includes(w) ? "" : " It only ranks those that have the other words.")),
		words.filter(w => w.begins && w.terms.length > 1).map(w => note("Words: ", w.terms.slice(0, shown).map((t, i) => [i ? " · " : "",
			el("a", { href: "#" + searchHash(q.slice(0, q.length - w.term.length) + t.term + " ") }, el("bdi", {}, t.term)), " " + whole(t.n)]),
		w.terms.length > shown && ` and ${whole(w.terms.length - shown)} more`)),
	];
}

function searchHelp() {
	const { top_k: K, intervals: I, samples: M, radius, top_radius: wide } = site.index;
	return el("p", { class: "lead" }, "Searched are the texts kept of each feature: its ", `${K} strongest activations with ${wide} tokens to either side, and `,
		`up to ${I * M} samples with ${radius}. All words must be there; of the last one a beginning is enough (a space ends it). `,
		"A feature stands higher the more of what it fires on is the word. Punctuation by itself finds features that fire on it.");
}

function searchPager(q, page, pages) {
	const link = (to, sign, label) => to >= 1 && to <= pages ? el("a", { href: "#" + searchHash(q, to), "aria-label": label }, sign) :
		el("span", { "aria-hidden": "true" }, sign);
	return pages > 1 && el("nav", { class: "pager", "aria-label": "Pages of results" }, link(page - 1, "‹", "page before"),
		el("span", {}, `page ${whole(page)} of ${whole(pages)}`), link(page + 1, "›", "next page"));
}

/* Results of the last search: kept while one looks at features and comes back. */
async function searched(q) {
	if (!parts.results || parts.results.q != q)
		parts.results = await searchFor(q);
	return parts.results;
}

async function showSearch(hash) {
	const p = new URLSearchParams(hash.split(/\?(.*)/s)[1]), q = p.get("q") || "", mine = location.hash;
	const r = await searched(q), pages = Math.max(1, Math.ceil(r.list.length / RESULTS));
	const page = Math.min(pages, Math.max(1, Math.floor(Number(p.get("page")) || 1))), names = await vocab();
	const lookUp = lexer((parts.lexicon = await load("search")).words);
	const items = await Promise.all(r.list.slice((page - 1) * RESULTS, page * RESULTS).map(f => resultItem(f, r.words, names, lookUp)));
	if (location.hash != mine)
		return;		/* overtaken */
	parts.list = async () => r.list;
	if ($("query") != document.activeElement)
		$("query").value = q;
	document.title = (q.trim() ? `“${q.trim()}” – ` : "") + "search – featuremill";
	show("search", el("div", { class: "search" },
		el("h1", {}, q.trim() ? ["Features with ", el("bdi", {}, `“${q.trim()}”`)] : "Search"),
		r.words.length ? searchNotes(r) : searchHelp(), el("ol", { class: "results" }, items), searchPager(q, page, pages),
		r.words.length ? el("div", { class: "after" }, searchHelp(), el("p", {}, "Or ", el("a", { href: "#" + tableHash({ ...tableState(""), q: q.trim() }) },
			"list features with a top token or top logit that contains ", el("bdi", {}, `“${q.trim()}”`)), ".")) : null));
	window.scrollTo(0, parts.places.get(mine) || 0);
}
