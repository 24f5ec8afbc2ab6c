/* ---- a feature: where it is active, and what it speaks for ---- */

/* An example as arrays over its window. */
function unpack(example) {
	const W = 2 * site.index.radius + 1, [centre, tokens, sparse] = example;
	const x = { centre, tokens: Array.from(arrayOf(Uint16Array, tokens)), acts: new Array(W).fill(0), effects: new Array(W).fill(0) };
	for (let i = 0; i < sparse.length; i += 3) {
		x.acts[sparse[i]] = sparse[i + 1];
		x.effects[sparse[i]] = sparse[i + 2];
	}
	return x;
}

/* ---- what is said of the token under the pointer or in focus ---- */
function hideTip() {
	$("tip").hidden = true;
	document.querySelectorAll(".tok.at").forEach(t => t.classList.remove("at"));
}

function showTip(node, example, w, names, max) {
	hideTip();
	const a = example.acts[w], before = w > 0 && example.tokens[w - 1] != NO_TOKEN, effect = before ? example.effects[w - 1] : 0, next = example.effects[w];
	const verdict = e => e > 0 ? "taking the feature out hurts" : "taking the feature out helps";
	const row = (name, ...value) => el("div", {}, el("dt", {}, name), el("dd", {}, value));
	$("tip").replaceChildren(el("p", {}, tokenNode(example.tokens[w], names), el("span", {}, ` token ${example.tokens[w]}`)),
		el("dl", {}, row("activation", short(a, 5), a ? el("span", {}, ` ${percent(a / max, 2)} of the maximum`) : ""),
			before && row("effect on it as the next token", signed(effect, 4), effect ? el("span", { class: effect > 0 ? "hurts" : "helps" }, " " + verdict(effect)) : ""),
			row("effect on the one after", signed(next, 4))));
	node.classList.add("at");
	$("tip").hidden = false;
	const box = node.getBoundingClientRect(), tip = $("tip").getBoundingClientRect();
	const left = Math.max(6, Math.min(box.left, document.documentElement.clientWidth - tip.width - 6));
	const above = box.top - tip.height - 6;
	$("tip").style.left = left + window.scrollX + "px";
	$("tip").style.top = (above < 60 ? box.bottom + 6 : above) + window.scrollY + "px";
}

/* ---- examples ---- */
function exampleLine(example, names, scale) {
	const lists = piecesOf(example.tokens, names), centre = site.index.radius;
	const tokens = example.tokens.map((id, w) => {
		if (id == NO_TOKEN)
			return null;
		const effect = w ? example.effects[w - 1] : 0, strength = Math.min(1, Math.abs(effect) / scale.effect);
		const node = el("span", { class: "tok" + (w == centre ? " centre" : "") + (strength > 0.02 ? effect > 0 ? " hurts" : " helps" : "") }, pieceNodes(lists[w]));
		if (example.acts[w] > 0)
			node.style.setProperty("--a", (8 + 92 * Math.min(1, example.acts[w] / scale.max)).toFixed(1) + "%");
		if (strength > 0.02)
			node.style.setProperty("--e", (20 + 80 * strength).toFixed(1) + "%");
		return node;
	});
	const context = Math.floor(example.centre / site.index.block), place = example.centre % site.index.block;
	const line = el("p", { class: "context", tabindex: 0, dir: direction(lists), "aria-label": `activation ${short(example.acts[centre])}: ` + lists.map(plain).join("") }, tokens);
	const over = event => tokens.indexOf(event.target.closest(".tok"));
	line.addEventListener("pointerover", event => over(event) >= 0 && showTip(tokens[over(event)], example, over(event), names, scale.max));
	line.addEventListener("pointerleave", hideTip);
	walkTokens(line, tokens, w => showTip(tokens[w], example, w, names, scale.max), centre);
	return el("li", { class: "example" }, el("span", { class: "value", title: `context ${context}, token ${place}` }, short(example.acts[centre])), line);
}

/* Arrow keys go along the tokens of a line in focus. */
function walkTokens(line, tokens, showAt, centre) {
	let at = centre;
	line.addEventListener("focus", () => line.matches(":focus-visible") && showAt(at = centre));
	line.addEventListener("blur", hideTip);
	line.addEventListener("keydown", event => {
		const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key] * (line.dir == "rtl" ? -1 : 1);
		if (!by)
			return;
		event.preventDefault();
		if (tokens[at + by]) {
			at += by;
			showAt(at);
		}
	});
}

function exampleList(examples, names, scale) {
	return el("ol", { class: "examples" }, examples.map(x => exampleLine(x, names, scale)));
}

function intervals(feature, examples, names, scale, active) {
	const { top_k: K, intervals: I, samples: M } = site.index;
	return Array.from({ length: I }, (_, i) => {
		const hi = scale.max * (I - i) / I, lo = scale.max * (I - 1 - i) / I, n = feature.interval[i];
		const samples = examples.slice(K + i * M, K + (i + 1) * M).filter(x => x);
		return el("section", { class: "interval" }, el("h3", {}, `${short(lo)} to ${short(hi)}`, el("span", {}, n ? ` ${percent(n / active)} of its activations (${whole(n)})` : " none")),
			samples.length ? exampleList(samples, names, scale) : null);
	});
}

/* ---- left column ---- */
function activationHistogram(feature, max, active) {
	const H = feature.hist.length, edges = Array.from({ length: H + 1 }, (_, i) => max * i / H), I = site.index.intervals;
	return el("section", {}, el("h2", {}, "Activations"),
		bars(edges, feature.hist, {
			W: 400, H: 170, log: true, label: "Histogram of activations above 0", xTicks: ticks(0, max, 4).map(v => [v, short(v)]), xLabel: "activation", yLabel: "tokens (log scale)",
			bar: i => ({ cls: "act", title: `${short(edges[i])} to ${short(edges[i + 1])}: ${plural(feature.hist[i], "token")}` }),
		}),
		el("p", { class: "note" }, `Silent on the other ${whole(site.index.tokens - active)} tokens (${percent(1 - active / site.index.tokens, 4)}), which are not drawn. `,
			I ? `The ${I} intervals of the examples divide this axis evenly.` : ""));
}

function logitHistogram(feature) {
	const H = feature.logitHist.length, [lo, hi] = feature.logitRange;
	if (!(hi > lo))
		return null;
	const edges = Array.from({ length: H + 1 }, (_, i) => lo + (hi - lo) * i / H);
	return bars(edges, feature.logitHist, {
		W: 400, H: 160, log: true, label: "Histogram of logit weights of all tokens", xTicks: ticks(lo, hi, 5).map(v => [v, short(v)]), xLabel: "logit weight", yLabel: "tokens (log scale)",
		bar: i => ({ cls: edges[i] + edges[i + 1] > 0 ? "up" : "down", title: `${short(edges[i])} to ${short(edges[i + 1])}: ${plural(feature.logitHist[i], "token")}` }),
	});
}

function logitTable(caption, ids, values, names, most, cls) {
	return el("table", { class: "logits" }, el("caption", {}, caption), el("tbody", {}, ids.map((id, i) => {
		const bar = el("i", { class: "meter " + cls });
		bar.style.width = 100 * Math.abs(values[i]) / most + "%";
		return id == NO_TOKEN ? null : el("tr", {}, el("th", { scope: "row", title: "token " + id }, tokenNode(id, names)), el("td", { class: "n" }, signed(values[i]), bar));
	})));
}

function logitSection(feature, names) {
	const ids = Array.from(arrayOf(Uint16Array, feature.logitIds)), L = ids.length / 2, most = Math.max(1e-30, ...feature.logits.map(Math.abs));
	return el("section", {}, el("h2", {}, "Logit weights"), logitHistogram(feature), el("p", { class: "note" }, "Over the whole vocabulary; below, the next tokens that it makes likelier and less likely the most."),
		el("div", { class: "pair" }, logitTable("Speaks for", ids.slice(0, L), feature.logits.slice(0, L), names, most, "up"),
			logitTable("Speaks against", ids.slice(L), feature.logits.slice(L), names, most, "down")));
}

/* ---- the view ---- */
function featureHead(f, c) {
	const F = site.index.features, kind = kindOf(c.density[f]), to = (g, name, label, rel) => el("a", { class: "step", href: "#f=" + (g + F) % F, "aria-label": label, title: label, rel }, name);
	const fact = (name, value, note) => el("div", {}, el("dt", {}, name), el("dd", {}, el("b", {}, value), note && el("span", {}, " " + note)));
	return el("div", { class: "head" },
		el("div", { class: "title" }, to(f - 1, "‹", `Feature ${(f - 1 + F) % F}`, "prev"), el("h1", {}, `Feature ${f}`), to(f + 1, "›", `Feature ${(f + 1) % F}`, "next"),
			el("a", { class: "badge " + kind, href: "#features?list=" + kind }, kindName[kind])),
		el("dl", { class: "facts" }, fact("density", percent(c.density[f]), `${plural(c.active[f], "token")} of ${whole(site.index.tokens)}`),
			fact("rank by density", whole(c.rank[f]), `of ${whole(F)}`), c.active[f] ? [fact("maximum", short(c.max[f], 4)), fact("mean where active", short(c.mean[f], 4))] : null));
}

function legend() {
	return el("p", { class: "legend" }, el("span", { class: "ramp" }, "stronger activation →"), " ",
		el("span", { class: "tok hurts full" }, "blue"), ": a predicted token that taking the feature out hurts; ", el("span", { class: "tok helps full" }, "red"), ": that it helps. ",
		"The token in a frame is the example's own; point at any token for its numbers.");
}

async function showFeature(f) {
	if (f >= site.index.features)
		return say(`There is no feature ${f}: they are 0 to ${site.index.features - 1}.`);
	const group = site.chunks.group;
	const [part, c, names] = await Promise.all([load("f" + Math.floor(f / group)), columns(), vocab()]);
	if (location.hash != "#f=" + f)
		return;		/* overtaken */
	const feature = part[f % group], examples = feature.examples.map(x => x && unpack(x));
	const scale = { max: c.max[f] || 1, effect: Math.max(0.1, ...examples.flatMap(x => x ? x.effects.map(Math.abs) : [])) };
	const top = examples.slice(0, site.index.top_k).filter(x => x);
	parts.feature = f;
	document.title = `Feature ${f} – featuremill`;
	show("feature", el("article", { class: "feature" }, featureHead(f, c),
		el("div", { class: "columns" },
			el("div", { class: "aside" }, c.active[f] ? activationHistogram(feature, scale.max, c.active[f]) : null, logitSection(feature, names)),
			el("div", { class: "texts" }, c.active[f] ? [
				legend(), el("section", {}, el("h2", {}, "Top activations"), exampleList(top, names, scale)),
				el("section", {}, el("h2", {}, `Samples of ${site.index.intervals} intervals`), intervals(feature, examples, names, scale, c.active[f])),
			] : el("p", {}, `Dead: it was not active on any of the ${whole(site.index.tokens)} tokens that were read.`)))));
	window.scrollTo(0, 0);
}
