/* ---- a feature: where it is active, what it speaks for, what it is like ---- */

/* ---- left column ---- */
/* Histogram of `counts` in equal bins from lo to hi; cls(middle of a bar). */
function histogram(counts, lo, hi, label, xLabel, cls) {
	const edges = Array.from({ length: counts.length + 1 }, (_, i) => lo + (hi - lo) * i / counts.length);
	return bars(edges, counts, {
		W: 400, H: 170, log: true, label: `${label}: ${counts.length} bins from ${short(lo)} to ${short(hi)}, ` +
			`${plural(Math.max(...counts), "token")} in the fullest`,
		xLabel, yLabel: "tokens (log scale)", xTicks: ticks(lo, hi, 5).map(v => [v, short(v)]),
		bar: i => ({
			cls: cls((edges[i] + edges[i + 1]) / 2),
			title: `${short(edges[i])} to ${short(edges[i + 1])}: ${plural(counts[i], "token")}`,
		}),
	});
}

function activationSection(feature, max, active) {
	const silent = site.index.tokens - active;
	return el("section", {}, heading("h2", "Activations", "activation"),
		histogram(feature.hist, 0, max, "Histogram of activations above 0", "activation", () => "act"),
		el("p", { class: "note" }, `Silent on the other ${whole(silent)} tokens (${silent / site.index.tokens >= 0.99995 && active ? "over 99.99 %" : percent(silent / site.index.tokens, 4)}), ` +
			`which are not drawn. The ${site.index.intervals} intervals of the samples divide this axis evenly.`));
}

/* A short table of tokens: cell(i) -> { text, title, share of a full bar, cls }. */
function tokenTable(caption, ids, names, cell) {
	const row = (id, i) => {
		if (id == NO_TOKEN)
			return null;
		const { text: value, title, share, cls } = cell(i), bar = el("i", { class: "meter " + cls });
		bar.style.width = 100 * share + "%";
		return el("tr", { title }, el("th", { scope: "row", title: "token " + id }, tokenNode(id, names)), el("td", { class: "n" }, value, bar));
	};
	return el("table", { class: "ranked" }, el("caption", {}, caption), el("tbody", {}, ids.map(row)));
}

/* Values of one table, with as many decimals as make three digits of the largest. */
function alike(values) {
	const most = Math.max(...values.map(Math.abs)), decimals = 2 - Math.floor(Math.log10(most));
	return decimals >= 0 && decimals <= 5 ? v => (v > 0 ? "+" : "") + minus(v.toFixed(decimals)) : v => signed(v);
}

function logitSection(feature, names) {
	const ids = Array.from(arrayOf(Uint16Array, feature.logitIds)), L = ids.length / 2, [lo, hi] = feature.logitRange;
	const most = Math.max(1e-30, ...feature.logits.map(Math.abs));
	const table = (caption, from, cls) => {
		const values = feature.logits.slice(from, from + L), tell = alike(values);
		return tokenTable(caption, ids.slice(from, from + L), names,
			i => ({ text: tell(values[i]), share: Math.abs(values[i]) / most, cls }));
	};
	return el("section", {}, heading("h2", "Logit weights", "logit weight"),
		hi > lo ? histogram(feature.logitHist, lo, hi, "Histogram of logit weights of all tokens", "logit weight",
			v => v > 0 ? "up" : "down") : null,
		el("p", { class: "note" },
			"Over the whole vocabulary; below, the next tokens that it makes likelier and less likely the most."),
		el("div", { class: "pair" }, table("Speaks for", 0, "up"), table("Speaks against", L, "down")));
}

const firings = (feature, active) => feature.sampled == active ?
	active == 1 ? "its one firing" : `all its ${whole(active)} firings` : `${whole(feature.sampled)} of its ${whole(active)} firings, drawn at random`;

/* The tokens just before, at and just after its firings. */
function aroundSection(feature, names, active) {
	const m = feature.sampled, table = (caption, ids, counts) => ids.length ? tokenTable(caption, ids, names, i => ({
		text: whole(counts[i]), title: `${whole(counts[i])} of ${plural(m, "firing")}: ${percent(counts[i] / m)}`, share: counts[i] / m, cls: "act",
	})) : el("p", { class: "note" }, caption + ": none");
	return el("section", {}, heading("h2", "Tokens around its firings", "firing"),
		el("p", { class: "note" }, `Counted over ${firings(feature, active)}; the most frequent are shown.`),
		el("div", { class: "three" }, table("Just before", feature.before, feature.beforeCount),
			table("At the firing", feature.on, feature.onCount), table("Just after", feature.after, feature.afterCount)));
}

/* Links to features with a value each; resolves as soon as their top tokens are known too, of which a dead one has none. */
function featureLinks(list, names, tell) {
	const places = list.map(() => el("span", { class: "tokens" }));
	const filled = Promise.all(list.map(async (g, i) => {
		const tokens = tokenList((await rowOf(g)).tokens, names);
		places[i].append(...tokens.length ? tokens.flat() : [el("span", { class: "note" }, "dead")]);
	}));
	const item = (g, i) => {
		const { value, title, href, share } = tell(i), bar = share != null && el("i", { class: "meter act" });
		if (bar)
			bar.style.width = 100 * share + "%";
		return el("li", { title }, el("a", { href: href || "#f=" + g }, el("span", { class: "number" }, g), places[i]), el("span", { class: "n" }, value, bar));
	};
	return [el("ol", { class: "links" }, list.map(item)), filled];
}

function similarSection(f, feature, names, active) {
	const { near, nearCos, together, togetherShare, sampled: m } = feature;
	const [cosines, first] = featureLinks(near, names, i => ({
		value: nearCos[i].toFixed(3).replace("-", "−"),
		title: `cosine of the decoder directions of ${f} and ${near[i]}: 1 where they are the same`,
	}));
	const [shares, second] = featureLinks(together, names, i => ({
		value: percent(togetherShare[i]),
		title: `feature ${together[i]} is active on ${whole(togetherShare[i] * m)} of these ${plural(m, "firing")} of feature ${f}`,
	}));
	const note = text => el("p", { class: "note" }, text);
	const section = el("section", {}, el("h2", {}, "Similar features"),
		heading("h3", "By decoder cosine", "cosine"), near.length ? cosines : note("There is no other."),
		heading("h3", "By co-activation", "co-activation"), together.length ?
			[note(`Share of ${firings(feature, active)}, in the order of how much of both overlaps.`), shares] :
			note(active ? "No other is active where this one is." : "It is never active."));
	return [section, Promise.all([first, second])];
}

/* Entries of its direction, as bars to both sides of 0. */
function neuronSection(feature) {
	const { align, alignValue } = feature, sum = alignValue.reduce((s, v) => s + v * v, 0);
	const row = (neuron, i) => {
		const v = alignValue[i], bar = el("i", { class: "entry " + (v < 0 ? "down" : "up") });
		bar.style.width = 50 * Math.min(1, Math.abs(v)) + "%";
		return el("tr", { title: `Its square, ${percent(v * v)}, is the neuron's share of the direction` },
			el("th", { scope: "row" }, "neuron " + neuron), el("td", { class: "axis" }, bar), el("td", { class: "n" }, signed(v)));
	};
	return el("section", {}, heading("h2", "Neuron alignment", "neuron alignment"),
		el("p", { class: "note" }, `The largest entries of its direction: together ${percent(sum)} of it.`),
		el("table", { class: "neurons" }, el("tbody", {}, align.map(row))));
}

/* ---- right column ---- */
function legend() {
	return el("p", { class: "legend" }, el("span", { class: "ramp" }, "stronger activation →"), " Underlined is a predicted token, in ",
		el("span", { class: "tok hurts full" }, "blue"), " where taking the feature out at the one before hurts the prediction, in ",
		el("span", { class: "tok helps full" }, "red"), " where it helps. ", why("ablation effect"),
		" The token in a frame is the example's own; point at any token, or go along them with arrow keys, for its numbers.");
}

function intervals(feature, examples, names, scale, active) {
	const { top_k: K, intervals: I, samples: M } = site.index;
	return feature.interval.map((n, i) => {
		const hi = scale.max * (I - i) / I, lo = scale.max * (I - 1 - i) / I;
		const samples = examples.slice(K + i * M, K + (i + 1) * M).filter(x => x);
		return el("section", { class: n ? "interval" : "interval none" }, el("h3", {}, `${short(lo)} to ${short(hi)}`,
			el("span", {}, n ? ` ${percent(n / active)} of its activations (${whole(n)})` : " none")),
			samples.length ? exampleList(samples, names, scale) : null);
	});
}

function strongest(examples, names, scale, active) {
	if (!active)
		return el("p", {}, `Dead: it was not active on any of the ${whole(site.index.tokens)} tokens that were read. ` +
			"What its direction would speak for, and what is like it, is shown all the same.");
	const top = examples.slice(0, site.index.top_k).filter(x => x);
	return [legend(), el("section", {}, heading("h2", "Top activations", null, examples.some(x => x && isWider(x)) && expandAll()),
		exampleList(top, names, scale))];
}

/* ---- the view ---- */
function featureHead(f, c, [logit, size]) {
	const F = site.index.features, kind = kindOf(c.density);
	const step = (g, sign, rel) => el("a", { class: "step", href: "#f=" + g, "aria-label": `Feature ${g}`, title: `Feature ${g}`, rel }, sign);
	const fact = (name, word, value, note) => el("div", {}, el("dt", {}, name, " ", word && why(word)),
		el("dd", {}, el("b", {}, value), note && el("span", {}, " " + note)));
	return el("div", { class: "head" },
		el("div", { class: "title" }, step((f + F - 1) % F, "‹", "prev"), el("h1", {}, `Feature ${f}`), step((f + 1) % F, "›", "next"),
			el("a", { class: "badge " + kind, href: "#features?list=" + kind }, kindName[kind]), why(kindName[kind]),
			site.texts ? el("a", { class: "chip", href: "#texts?f=" + f }, "on sample texts") : null),
		el("dl", { class: "facts" },
			fact("density", "density", percent(c.density), `${plural(c.active, "token")} of ${whole(site.index.tokens)}`),
			c.active ? [fact("rank by density", null, whole(c.rank), `of ${whole(F)}`), fact("maximum", "activation", short(c.max, 4)),
				fact("mean where active", null, short(c.mean, 4)),
				fact("effect on the next logit", "effect on the logit", signed(logit, 3), `mean where active; mean size ${short(size)}`)] : null));
}

async function showFeature(f) {
	if (f >= site.index.features)
		return say(`There is no feature ${f}: they are 0 to ${site.index.features - 1}.`);
	const group = site.chunks.group;
	const [part, c, names] = await Promise.all([load("f" + Math.floor(f / group)), rowOf(f), vocab()]);
	if (featureOf(location.hash) != f)
		return;		/* overtaken */
	const feature = part[f % group], examples = feature.examples.map(x => x && unpack(x)), active = c.active;
	const effect = examples.reduce((most, x) => x ? x.effects.reduce((m, e) => Math.max(m, Math.abs(e)), most) : most, 0.1);
	const scale = { max: c.max || 1, effect }, [similar, filled] = similarSection(f, feature, names, active);
	parts.feature = f;
	document.title = `Feature ${f} – featuremill`;
	show("feature", el("article", { class: "feature" }, featureHead(f, c, feature.logitEffect), el("div", { class: "columns" },
		el("div", { class: "texts strongest" }, strongest(examples, names, scale, active)),
		el("div", { class: "aside" }, active ? activationSection(feature, scale.max, active) : null, logitSection(feature, names),
			active ? aroundSection(feature, names, active) : null, similar, neuronSection(feature)),
		active ? el("div", { class: "texts" }, el("section", {},
			heading("h2", `Samples of ${plural(site.index.intervals, "interval")}`, "interval"),
			intervals(feature, examples, names, scale, active))) : null)));
	window.scrollTo(0, parts.place);
	await filled;
}
