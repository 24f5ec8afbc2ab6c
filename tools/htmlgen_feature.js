/* ---- a feature: where it is active, and what it speaks for ---- */

/* An example as arrays over its window. */
function unpack(example) {
	const [centre, tokens, sparse] = example, ids = Array.from(arrayOf(Uint16Array, tokens));
	const x = { centre, tokens: ids, acts: ids.map(() => 0), effects: ids.map(() => 0), logits: ids.map(() => 0) };
	for (let i = 0; i < sparse.length; i += 4) {
		x.acts[sparse[i]] = sparse[i + 1];
		x.effects[sparse[i]] = sparse[i + 2];
		x.logits[sparse[i]] = sparse[i + 3];
	}
	return x;
}

/* The effect on token w as the next one: that of the feature at the token before. */
const effectOn = (x, w, of = x.effects) => w ? of[w - 1] : 0;

/* ---- what is said of the token under the pointer or in focus ---- */
function hideTip() {
	$("tip").hidden = true;
	document.querySelectorAll(".tok.at").forEach(t => t.classList.remove("at"));
}

function tipText(x, w, names, max) {
	const row = (name, ...value) => el("div", {}, el("dt", {}, name), el("dd", {}, value));
	const effect = e => [signed(e, 4) + " nats", e ? el("span", { class: e > 0 ? "hurts" : "helps" },
		e > 0 ? " taking the feature out hurts" : " taking the feature out helps") : ""];
	return [
		el("p", {}, tokenNode(x.tokens[w], names), el("span", {}, ` token ${x.tokens[w]}`)),
		el("dl", {}, row("activation", short(x.acts[w], 5), x.acts[w] ? ` (${percent(x.acts[w] / max, 2)} of the maximum)` : ""),
			w && x.tokens[w - 1] != NO_TOKEN ? [row("effect on it as the next token", effect(effectOn(x, w))),
				row("… on its logit", signed(effectOn(x, w, x.logits), 4))] : null,
			row("effect on the one after it", effect(x.effects[w])), row("… on its logit", signed(x.logits[w], 4))),
	];
}

function showTip(node, x, w, names, max) {
	hideTip();
	$("tip").replaceChildren(...tipText(x, w, names, max));
	node.classList.add("at");
	$("tip").hidden = false;
	const box = node.getBoundingClientRect(), tip = $("tip").getBoundingClientRect(), above = box.top - tip.height - 6;
	const left = Math.max(6, Math.min(box.left, document.documentElement.clientWidth - tip.width - 6));
	$("tip").style.left = left + window.scrollX + "px";
	$("tip").style.top = (above < 60 ? box.bottom + 6 : above) + window.scrollY + "px";
}

/* Arrow keys go along the tokens of a line in focus. */
function walkTokens(line, tokens, centre, showAt) {
	let at = centre;
	line.addEventListener("focus", () => line.matches(":focus-visible") && showAt(at = centre));
	line.addEventListener("blur", hideTip);
	line.addEventListener("keydown", event => {
		const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key] * (line.dir == "rtl" ? -1 : 1);
		if (!by)
			return;
		event.preventDefault();
		if (tokens[at + by])
			showAt(at += by);
	});
}

/* ---- examples ---- */
function exampleToken(x, w, pieces, scale) {
	const effect = effectOn(x, w), strength = Math.min(1, Math.abs(effect) / scale.effect), marked = strength > 0.02;
	const node = el("span", {
		class: "tok" + (w == x.tokens.length >> 1 ? " centre" : "") + (marked ? effect > 0 ? " hurts" : " helps" : ""),
	}, pieceNodes(pieces));
	if (x.acts[w] > 0)
		node.style.setProperty("--a", (8 + 92 * Math.min(1, x.acts[w] / scale.max)).toFixed(1) + "%");
	if (marked)
		node.style.setProperty("--e", (20 + 80 * strength).toFixed(1) + "%");
	return node;
}

function exampleLine(x, names, scale) {
	const lists = piecesOf(x.tokens, names), centre = x.tokens.length >> 1, block = site.index.block;
	const tokens = x.tokens.map((id, w) => id == NO_TOKEN ? null : exampleToken(x, w, lists[w], scale));
	const value = short(x.acts[centre]), line = el("p", {
		class: "context", tabindex: 0, role: "group", dir: direction(lists),
		"aria-label": `activation ${value}: ${lists.map(plain).join("")}`,
	}, tokens);
	const showAt = w => showTip(tokens[w], x, w, names, scale.max);
	line.addEventListener("pointerover", event => {
		const w = tokens.indexOf(event.target.closest(".tok"));
		if (w >= 0)
			showAt(w);
	});
	line.addEventListener("pointerleave", hideTip);
	walkTokens(line, tokens, centre, showAt);
	const place = `context ${Math.floor(x.centre / block)}, token ${x.centre % block}`;
	return el("li", { class: "example" }, el("span", { class: "value", title: place }, value), line);
}

const exampleList = (examples, names, scale) =>
	el("ol", { class: "examples" }, examples.map(x => exampleLine(x, names, scale)));

function intervals(feature, examples, names, scale, active) {
	const { top_k: K, intervals: I, samples: M } = site.index;
	return feature.interval.map((n, i) => {
		const hi = scale.max * (I - i) / I, lo = scale.max * (I - 1 - i) / I;
		const samples = examples.slice(K + i * M, K + (i + 1) * M).filter(x => x);
		return el("section", { class: "interval" }, el("h3", {}, `${short(lo)} to ${short(hi)}`,
			el("span", {}, n ? ` ${percent(n / active)} of its activations (${whole(n)})` : " none")),
			samples.length ? exampleList(samples, names, scale) : null);
	});
}

/* ---- left column ---- */
/* Histogram of `counts` in equal bins from lo to hi; cls(middle of a bar). */
function histogram(counts, lo, hi, label, xLabel, cls) {
	const edges = Array.from({ length: counts.length + 1 }, (_, i) => lo + (hi - lo) * i / counts.length);
	return bars(edges, counts, {
		W: 400, H: 170, log: true, label, xLabel, yLabel: "tokens (log scale)",
		xTicks: ticks(lo, hi, 5).map(v => [v, short(v)]),
		bar: i => ({
			cls: cls((edges[i] + edges[i + 1]) / 2),
			title: `${short(edges[i])} to ${short(edges[i + 1])}: ${plural(counts[i], "token")}`,
		}),
	});
}

function activationSection(feature, max, active) {
	const silent = site.index.tokens - active;
	return el("section", {}, el("h2", {}, "Activations"),
		histogram(feature.hist, 0, max, "Histogram of activations above 0", "activation", () => "act"),
		el("p", { class: "note" }, `Silent on the other ${whole(silent)} tokens (${silent / site.index.tokens >= 0.99995 && active ? "over 99.99 %" : percent(silent / site.index.tokens, 4)}), ` +
			`which are not drawn. The ${site.index.intervals} intervals of the samples divide this axis evenly.`));
}

function logitTable(caption, ids, values, names, most, cls) {
	const row = (id, i) => {
		const bar = el("i", { class: "meter " + cls });
		bar.style.width = 100 * Math.abs(values[i]) / most + "%";
		return id == NO_TOKEN ? null : el("tr", {}, el("th", { scope: "row", title: "token " + id }, tokenNode(id, names)),
			el("td", { class: "n" }, signed(values[i]), bar));
	};
	return el("table", { class: "logits" }, el("caption", {}, caption), el("tbody", {}, ids.map(row)));
}

function logitSection(feature, names) {
	const ids = Array.from(arrayOf(Uint16Array, feature.logitIds)), L = ids.length / 2, [lo, hi] = feature.logitRange;
	const most = Math.max(1e-30, ...feature.logits.map(Math.abs));
	const table = (caption, from, cls) =>
		logitTable(caption, ids.slice(from, from + L), feature.logits.slice(from, from + L), names, most, cls);
	return el("section", {}, el("h2", {}, "Logit weights"),
		hi > lo ? histogram(feature.logitHist, lo, hi, "Histogram of logit weights of all tokens", "logit weight",
			v => v > 0 ? "up" : "down") : null,
		el("p", { class: "note" },
			"Over the whole vocabulary; below, the next tokens that it makes likelier and less likely the most."),
		el("div", { class: "pair" }, table("Speaks for", 0, "up"), table("Speaks against", L, "down")));
}

/* ---- the view ---- */
function featureHead(f, c, [logit, size]) {
	const F = site.index.features, kind = kindOf(c.density[f]);
	const step = (g, sign, rel) => el("a", { class: "step", href: "#f=" + g, "aria-label": `Feature ${g}`, title: `Feature ${g}`, rel }, sign);
	const fact = (name, value, note) => el("div", {}, el("dt", {}, name),
		el("dd", {}, el("b", {}, value), note && el("span", {}, " " + note)));
	return el("div", { class: "head" },
		el("div", { class: "title" }, step((f + F - 1) % F, "‹", "prev"), el("h1", {}, `Feature ${f}`), step((f + 1) % F, "›", "next"),
			el("a", { class: "badge " + kind, href: "#features?list=" + kind }, kindName[kind])),
		el("dl", { class: "facts" },
			fact("density", percent(c.density[f]), `${plural(c.active[f], "token")} of ${whole(site.index.tokens)}`),
			c.active[f] ? [fact("rank by density", whole(c.rank[f]), `of ${whole(F)}`), fact("maximum", short(c.max[f], 4)), fact("mean where active", short(c.mean[f], 4)),
				fact("effect on the next logit", signed(logit, 3), `mean where active; size ${short(size)}`)] : null));
}

function legend() {
	return el("p", { class: "legend" }, el("span", { class: "ramp" }, "stronger activation →"), " ",
		el("span", { class: "tok hurts full" }, "blue"), ": a predicted token that taking the feature out hurts; ",
		el("span", { class: "tok helps full" }, "red"), ": that it helps. ",
		"The token in a frame is the example's own; point at any token for its numbers.");
}

function featureTexts(feature, examples, names, scale, active) {
	if (!active)
		return el("p", {}, `Dead: it was not active on any of the ${whole(site.index.tokens)} tokens that were read.`);
	const top = examples.slice(0, site.index.top_k).filter(x => x);
	return [
		legend(), el("section", {}, el("h2", {}, "Top activations"), exampleList(top, names, scale)),
		el("section", {}, el("h2", {}, `Samples of ${plural(site.index.intervals, "interval")}`),
			intervals(feature, examples, names, scale, active)),
	];
}

async function showFeature(f) {
	if (f >= site.index.features)
		return say(`There is no feature ${f}: they are 0 to ${site.index.features - 1}.`);
	const group = site.chunks.group;
	const [part, c, names] = await Promise.all([load("f" + Math.floor(f / group)), columns(), vocab()]);
	if (featureOf(location.hash) != f)
		return;		/* overtaken */
	const feature = part[f % group], examples = feature.examples.map(x => x && unpack(x)), active = c.active[f];
	const effect = examples.reduce((most, x) => x ? x.effects.reduce((m, e) => Math.max(m, Math.abs(e)), most) : most, 0.1);
	const scale = { max: c.max[f] || 1, effect };
	parts.feature = f;
	document.title = `Feature ${f} – featuremill`;
	show("feature", el("article", { class: "feature" }, featureHead(f, c, feature.logitEffect), el("div", { class: "columns" },
		el("div", { class: "aside" }, active ? activationSection(feature, scale.max, active) : null, logitSection(feature, names)),
		el("div", { class: "texts" }, featureTexts(feature, examples, names, scale, active)))));
	window.scrollTo(0, 0);
}
