/* ---- sample texts: the features active on each token, the whole shaded by one of them ---- */
const LISTED = 30;	/* features of a whole text that are listed */
const COMPARED = 32;	/* texts that are loaded to tell where a feature is active */

/* What stands behind "#texts?": the text's number, a feature to shade it by, a token of it. */
function textState(query) {
	const p = new URLSearchParams(query), number = k => /^\d+$/.test(p.get(k)) ? Number(p.get(k)) : null;
	return { t: number("t") || 0, f: number("f"), w: number("w") };
}

function textHash({ t, f, w }) {
	const given = Object.entries({ t, f, w }).filter(([key, value]) => value != null && (key != "t" || value));
	return "texts" + (given.length ? "?" + new URLSearchParams(given) : "");
}

async function sampleText(t) {
	const part = await load("text" + t);
	return part.ready ||= {
		ids: Array.from(arrayOf(Uint16Array, part.ids)), logprob: part.logprob, start: arrayOf(Uint32Array, part.start),
		features: arrayOf(Uint32Array, part.features), acts: arrayOf(Float32Array, part.acts),
	};
}

/* [feature, activation] of token w, strongest first. */
const activeOn = (x, w) => Array.from(x.features.subarray(x.start[w], x.start[w + 1]), (f, i) => [f, x.acts[x.start[w] + i]]);

/* The activation of feature f on each token. */
const actsOf = (x, f) => x.ids.map((_, w) => (activeOn(x, w).find(([g]) => g == f) || [f, 0])[1]);

/* The largest activation in the text of each feature, as a share of its maximum elsewhere; largest first. */
function strongestIn(x, c) {
	const most = new Map();
	x.features.forEach((f, i) => most.set(f, Math.max(most.get(f) || 0, x.acts[i])));
	return [...most].map(([f, a]) => [f, a, a / (c.max[f] || a)]).sort((a, b) => b[2] - a[2] || a[0] - b[0]).slice(0, LISTED);
}

/* ---- the text ---- */
const nats = v => v == null ? "–" : signed(v, 4) + " nats";

function textTip(x, w, names, acts, f) {
	const row = (name, value) => el("div", {}, el("dt", {}, name), el("dd", {}, value)), p = x.logprob[w];
	return [
		el("p", {}, tokenNode(x.ids[w], names), el("span", {}, ` token ${x.ids[w]}, place ${w}`)),
		el("dl", {}, f == null ? null : row(`activation of feature ${f}`, short(acts[w], 5)),
			row("active features", whole(x.start[w + 1] - x.start[w])),
			row("its log-probability", p == null ? "nothing before it" : `${nats(p)} (${percent(Math.exp(p))})`)),
	];
}

/* Lines end and tabs jump where they do in the text, behind their marks. */
const laidOut = list => list.flatMap(p => [...pieceNodes([p]), p.kind == "mark" ? { "↵": "\n", "⇥": "\t" }[p.text] || "" : ""]);

/* The line of tokens: a click or Enter chooses one. */
function sampleLine(view, x, names) {
	const lists = piecesOf(x.ids, names), tokens = lists.map(list => el("span", { class: "tok" }, laidOut(list)));
	const line = el("p", {
		class: "context", tabindex: 0, role: "group", translate: "no", dir: direction(lists), "aria-label": lists.map(plain).join(""),
	}, tokens);
	const showAt = w => tipAt(tokens[view.at = w], textTip(x, w, names, view.acts, view.f));
	const choose = w => go(textHash({ t: view.t, f: view.f, w: w == view.w ? null : w }));
	line.addEventListener("pointerover", event => {
		const token = event.target.closest(".tok");
		if (token)
			showAt(tokens.indexOf(token));
	});
	line.addEventListener("pointerleave", event => event.pointerType == "touch" || hideTip());
	line.addEventListener("click", event => {
		const token = event.target.closest(".tok");
		if (token && !String(getSelection()))
			choose(tokens.indexOf(token));
	});
	walkTokens(line, tokens, 0, showAt);
	line.addEventListener("keydown", event => event.key == "Enter" && choose(view.at || 0));
	view.tokens = tokens;
	return line;
}

function shade(view, c) {
	const max = view.f == null ? 1 : Math.max(c.max[view.f], ...view.acts) || 1;
	view.tokens.forEach((token, w) => {
		const a = view.f == null ? 0 : view.acts[w];
		token.classList.toggle("centre", w == view.w);
		token.style.setProperty("--a", a > 0 ? (8 + 92 * a / max).toFixed(1) + "%" : "0%");
	});
}

function shadeLegend({ t, f, w, acts, x }, c) {
	if (f == null)
		return ["Choose a token to see which features are active on it, or a feature to shade the text by it."];
	const most = Math.max(...acts), n = acts.filter(a => a > 0).length;
	return [el("span", { class: "ramp" }, "stronger activation →"), " Shaded by ", el("a", { href: "#f=" + f }, `feature ${f}`),
		n ? `: active on ${whole(n)} of ${plural(x.ids.length, "token")}, at most ${short(most)}` +
			(c.max[f] ? `, ${percent(most / c.max[f], 2)} of its maximum. ` : ". ") : ", which is not active on this text. ",
		el("a", { class: "chip", href: "#" + textHash({ t, w }), title: "no shading", "aria-label": "no shading" }, "✕")];
}

/* ---- beside it: features of the chosen token, or of the whole text ---- */
function sideList(view, c, names) {
	const { t, w, x } = view, href = f => "#" + textHash({ t, w, f });
	const list = w == null ? strongestIn(x, c) : activeOn(x, w).map(([f, a]) => [f, a, a / (c.max[f] || a)]);
	const tell = i => ({
		href: href(list[i][0]), value: short(list[i][1]), share: Math.min(1, list[i][2]),
		title: `activation ${short(list[i][1], 5)}, ${percent(list[i][2], 2)} of the maximum of feature ${list[i][0]}; click to shade the text by it`,
	});
	const [links, filled] = featureLinks(list.map(([f]) => f), names, tell), p = w == null ? null : x.logprob[w];
	const note = w == null ? "The strongest by their share of their own maxima." : `${plural(list.length, "active feature")}, strongest first` +
		(p == null ? "." : `; the token's own log-probability was ${nats(p)}.`);
	return [[w == null ? heading("h2", "Features of this text", "feature") :
		heading("h2", "Features on token " + w, "feature", tokenNode(x.ids[w], names)), el("p", { class: "note" }, note), links], filled];
}

/* ---- the view ---- */
const titleOf = (summary, names) => {
	const text = plain(piecesOf(Array.from(arrayOf(Uint16Array, summary.head)), names).flat()).replace(/[\s↵⇥]+/g, " ").trim();
	return text.length > 26 ? text.slice(0, 25).trim() + "…" : text;
};

function makeTexts(all, names) {
	const link = (summary, i) => el("a", { class: "chip", "data-text": i, dir: "auto" }, titleOf(summary, names));
	const view = {
		choice: el("nav", { class: "controls", "aria-label": "Texts" }, all.map(link)), legend: el("p", { class: "legend", "aria-live": "polite" }),
		line: el("div", {}), facts: el("p", { class: "note" }), side: el("section", { class: "side", "aria-live": "polite" }),
	};
	view.node = el("article", { class: "samples" }, el("h1", {}, "Sample texts"), view.choice,
		el("div", { class: "sample" }, el("div", {}, view.legend, view.line, view.facts), view.side));
	return view;
}

function textFacts({ t, x }, all) {
	const n = x.ids.length, { block } = site.index;
	return [`${plural(n, "token")}; next-token loss `, short(all[t].loss, 4), " ", ...why("next-token loss"),
		n > block ? ` Read ${block} tokens at a time, each time without those before.` : ""];
}

async function showTexts(query) {
	const s = textState(query), asked = location.hash, trouble = !site.texts ? "This site was made without sample texts." :
		s.t >= site.texts ? `There is no text ${s.t}: they are 0 to ${site.texts - 1}.` :
		s.f >= site.index.features ? `There is no feature ${s.f}: they are 0 to ${site.index.features - 1}.` : "";
	if (trouble)
		return say(trouble);
	const [all, x, c, names] = await Promise.all([load("texts"), sampleText(s.t), columns(), vocab()]);
	if (location.hash != asked)
		return;		/* overtaken */
	const view = parts.texts ||= makeTexts(all, names), other = view.x != x;
	s.w = s.w < x.ids.length ? s.w : null;
	const news = other || view.w != s.w;
	Object.assign(view, s, { x, acts: s.f == null ? [] : actsOf(x, s.f) });
	document.title = "Sample texts – featuremill";
	if (other) {
		view.at = 0;
		view.line.replaceChildren(sampleLine(view, x, names));
		view.facts.replaceChildren(...textFacts(view, all));
	}
	shade(view, c);
	view.legend.replaceChildren(...shadeLegend(view, c));
	const [side, filled] = news ? sideList(view, c, names) : [null, null];
	if (side)
		view.side.replaceChildren(...side);
	if (show("texts", view.node) || other)
		window.scrollTo(0, 0);
	markChosen(view);
	await Promise.all([filled, shadeChoice(view, c)]);
}

function markChosen({ choice, side, t, f }) {
	const current = (link, on) => on ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current");
	for (const link of choice.children) {
		link.href = "#" + textHash({ t: Number(link.dataset.text), f });
		current(link, Number(link.dataset.text) == t);
		if (Number(link.dataset.text) == t)
			choice.scrollLeft = link.offsetLeft - choice.offsetLeft - (choice.clientWidth - link.offsetWidth) / 2;
	}
	for (const link of side.querySelectorAll(".links a"))
		current(link, f != null && textState(link.hash.split("?")[1]).f == f);
}

/* Where else the feature is active. */
async function shadeChoice({ choice, f }, c) {
	const links = [...choice.children];
	const most = f == null || links.length > COMPARED ? links.map(() => 0) :
		await Promise.all(links.map(async (_, t) => Math.max(...actsOf(await sampleText(t), f))));
	if (parts.texts.f != f)
		return;		/* overtaken */
	links.forEach((link, t) => {
		link.style.setProperty("--a", most[t] > 0 ? 8 + 92 * Math.min(1, most[t] / (c.max[f] || most[t])) + "%" : "0%");
		link.title = f == null || links.length > COMPARED ? "" : `feature ${f}: at most ${short(most[t])}`;
	});
}

function stepText(by) {
	const { t, f } = parts.texts;
	go(textHash({ t: (t + by + site.texts) % site.texts, f }));
}
