/* ---- overview: what was trained, densities, the table of features, curves, parameters ---- */
const PAGE = 50;

const words = [
	["feature", "A direction in the activations of the language model that the autoencoder learned; it is active on a token when its activation there is above 0."],
	["density", "The share of all tokens on which a feature is active."],
	["L0", "How many features are active on a token, on average; the fewer, the sparser the description."],
	["activation", "How strongly a feature is present at a token; the decoder adds its direction that many times."],
	["logit weight", "How much one unit of a feature, read directly by the output layer, raises the score of a token as the next one, above that of the median token."],
	["ablation effect", "How much better the model predicts the next token with the feature than with the feature taken out at that place: in blue where taking it out hurts, in red where it helps."],
	["ultra-low density", () => `A feature that is active, but on less than ${percent(site.density.cut)} of tokens; most of these say little.`],
	["high density", () => `A feature that is active on at least ${percent(site.density.cut)} of tokens.`],
	["dead", "A feature that was never active on the tokens that were read."],
	["loss recovered", "How much of the model's prediction survives when the activations are replaced by their reconstruction: 100 % is as good as the original, 0 % as bad as zeros."],
	["explained variance", "The share of the activations' variance about their mean that the reconstruction keeps."],
];

function card(name, value, note) {
	return el("div", { class: "card" }, el("dt", {}, name), el("dd", {}, el("b", {}, value), note && el("span", {}, note)));
}

function summaryCards() {
	const e = site.sae && site.sae.last.eval, g = site.gpt && site.gpt.last, d = site.density, F = site.index.features;
	const loss = n => n == null ? "–" : n.toFixed(3);
	return el("dl", { class: "cards" },
		e && card("Loss recovered", percent(e.loss_recovered, 4), `against zeros; ${percent(e.loss_recovered_mean, 4)} against the mean. Next-token loss ${loss(e.loss_clean)} as trained, ${loss(e.loss_spliced)} through the autoencoder, ${loss(e.loss_zero)} with zeros`),
		e && card("L0", short(e.l0, 3), `of ${whole(F)} features active on a token`),
		e && card("Explained variance", percent(e.explained_variance, 4), `mean squared error ${short(e.mse)}`),
		card("Alive features", whole(F - d.dead), `of ${whole(F)} (${percent((F - d.dead) / F)}) on ${whole(site.index.tokens)} tokens: ${whole(d.high)} high, ${whole(d.ultraLow)} ultra-low density, ${whole(d.dead)} dead`),
		g && card("Language model", loss(g.val_loss), `nats a token on validation text; ${loss(g.unigram)} for the unigram baseline`));
}

function densityChart() {
	const d = site.density, logCut = Math.log10(d.cut), used = d.bins.map((n, i) => n ? i : -1).filter(i => i >= 0);
	if (!used.length)
		return el("p", {}, "No feature was active on the tokens that were read.");
	const place = Math.round((logCut - d.from) / d.width);
	const first = Math.max(0, Math.min(used[0], place - 8) - 1), last = Math.min(d.bins.length - 1, Math.max(used[used.length - 1], place + 8) + 1);
	const edges = Array.from({ length: last - first + 2 }, (_, i) => d.from + d.width * (first + i)), counts = d.bins.slice(first, last + 1);
	return bars(edges, counts, {
		W: 1100, H: 260, label: "Histogram of log10 density",
		xTicks: powers(edges[0], edges[edges.length - 1]).map(p => [p, powerOf10(p)]),
		xLabel: "density: share of tokens on which a feature is active (log scale)", yLabel: "features",
		lines: [[logCut, "high →", "start"], [logCut, "← ultra-low", "end"]],
		bar: i => ({
			cls: edges[i + 1] <= logCut + 1e-9 ? "ultra" : "high",
			title: `${plural(counts[i], "feature")} of density ${short(10 ** edges[i])} to ${short(10 ** edges[i + 1])}: click to list`,
			click: () => go("features?" + new URLSearchParams({ from: edges[i].toFixed(3), to: edges[i + 1].toFixed(3) })),
		}),
	});
}

function densitySection() {
	const d = site.density, link = (list, n, what) => el("a", { href: "#features?list=" + list }, `${whole(n)} ${what}`);
	return el("section", { "aria-labelledby": "h-density" }, el("h2", { id: "h-density" }, "Densities"),
		el("p", {}, `Of ${whole(site.index.features)} features `, link("high", d.high, "are of high density"), ", ", link("ultra", d.ultraLow, "of ultra-low density"), " and ",
			link("dead", d.dead, "dead"), ". Each bar counts the features of one tenth of a decade; a click lists them."),
		el("div", { class: "wide" }, densityChart()));
}

/* ---- curves ---- */
function column(run, key) {
	return run.curves[key];
}

/* plot(title, note, [[name, key]…], more): a chart of columns of a run */
const plotter = (run, x, common) => (title, note, names, more) =>
	curves(x, names.map(([name, key]) => ({ name, values: column(run, key) })), { ...common, title, note, ...more });

function saeCurves() {
	const run = site.sae, x = column(run, "step"), resampled = column(run, "resampled") || [];
	const plot = plotter(run, x, { xLabel: "step", marks: x.filter((_, i) => resampled[i] > 0) });
	return [
		plot("Loss recovered", "", [["against zeros", "eval.loss_recovered"], ["against the mean", "eval.loss_recovered_mean"]], { format: percent }),
		plot("L0", "features active on a token", [["validation", "eval.l0"], ["training", "train.l0"]]),
		plot("Explained variance", "", [["validation", "eval.explained_variance"]], { format: percent }),
		plot("Mean squared error", "log scale", [["validation", "eval.mse"], ["training", "train.mse"]], { log: true }),
		plot("L1", "sum of activations on a token", [["validation", "eval.l1"], ["training", "train.l1"]]),
		plot("Training loss", "error and penalty, log scale", [["loss", "train.loss"]], { log: true }),
		plot("Features", "on validation text", [["dead", "eval.dead"], ["ultra-low", "eval.ultra_low"], ["high", "eval.high"]]),
		plot("Next-token loss", "nats", [["clean", "eval.loss_clean"], ["spliced", "eval.loss_spliced"], ["mean-ablated", "eval.loss_mean"], ["zero-ablated", "eval.loss_zero"]]),
		densityOverTraining(run, x),
		plot("Learning rate", "", [["rate", "lr"]]),
	];
}

function gptCurves() {
	const run = site.gpt, plot = plotter(run, column(run, "iter"), { xLabel: "iteration" });
	return [
		plot("Loss", "nats a token", [["validation", "val_loss"], ["training", "train_loss"], ["unigram baseline", "unigram"]]),
		plot("Learning rate", "", [["rate", "lr"]]),
		plot("Gradient norm", "before clipping", [["norm", "grad_norm"]]),
	];
}

/* Each column an evaluation, each row a bin of log10 density; darker: more features. */
function densityOverTraining(run, x) {
	const all = column(run, "eval.density_bins") || [], places = x.map((_, i) => i).filter(i => all[i]), bins = places.map(i => all[i]);
	const used = Array.from(bins[0] || [], (_, b) => b).filter(b => bins.some(row => row[b]));
	if (!used.length)
		return null;
	const from = column(run, "eval.density_from")[places[0]], width = column(run, "eval.density_width")[places[0]], first = used[0], rows = used[used.length - 1] - first + 1;
	const { W, H, left, right, top, bottom } = plotBox, base = H - bottom, cw = (W - left - right) / bins.length, rh = (base - top) / rows;
	const most = Math.max(...bins.flat());
	const cell = (c, i, b) => c ? svg("rect", {
		x: (left + i * cw).toFixed(2), y: (base - (b + 1) * rh).toFixed(2), width: (cw + 0.3).toFixed(2), height: (rh + 0.3).toFixed(2),
		class: "cell", "fill-opacity": (0.08 + 0.92 * Math.log1p(c) / Math.log1p(most)).toFixed(3),
	}) : null;
	const y = v => base - (v - from - first * width) / (rows * width) * (base - top);
	return figure({ title: "Densities", note: "on validation text; darker: more features" },
		frame(W, H, "Histogram of log10 density at each evaluation", bins.map((row, i) => row.slice(first, first + rows).map((c, b) => cell(c, i, b))),
			line(left, base, W - right, base, "axis"), powers(from + first * width, from + (first + rows) * width).map(p => text(left - 6, y(p) + 4, powerOf10(p), "end")),
			text(left, base + 15, whole(x[places[0]]), "start"), text(W - right, base + 15, whole(x[places[places.length - 1]]), "end"), text((left + W - right) / 2, H - 2, "step", "middle", "label")));
}

function trainingSection() {
	const part = (title, note, plots) => [el("h3", { class: "run" }, title), note && el("p", {}, note), el("div", { class: "plots" }, plots)];
	const dashed = site.sae && (column(site.sae, "resampled") || []).some(n => n > 0);
	return el("section", { id: "training", "aria-labelledby": "h-training" }, el("h2", { id: "h-training" }, "Training"),
		site.sae ? part("Autoencoder", dashed && "Dashed lines: dead features were given new directions (resampling).", saeCurves()) : el("p", {}, "The autoencoder's metrics were not given."),
		site.gpt ? part("Language model", null, gptCurves()) : null);
}

/* ---- parameters ---- */
function pairs(object, prefix = "") {
	return Object.entries(object || {}).flatMap(([k, v]) => v && typeof v == "object" && !Array.isArray(v) ? pairs(v, prefix + k + ".") :
		Array.isArray(v) ? [] : [[prefix + k, Number.isSafeInteger(v) ? whole(v) : typeof v == "number" ? short(v, 6) : String(v)]]);
}

function parameterTable(caption, object) {
	const rows = pairs(object).filter(([k]) => !/density_(from|width)$/.test(k));
	return rows.length ? el("div", { class: "parameters" }, el("table", {}, el("caption", {}, caption),
		el("tbody", {}, rows.map(([k, v]) => el("tr", {}, el("th", { scope: "row" }, el("bdi", {}, k)), el("td", {}, el("bdi", {}, v))))))) : null;
}

function aboutSection() {
	const { gpt, sae, ids, fields, ...own } = site.index;
	return el("section", { id: "about", "aria-labelledby": "h-about" }, el("h2", { id: "h-about" }, "About"),
		el("h3", {}, "Words"), el("dl", { class: "words" }, words.map(([word, meaning]) => [el("dt", {}, word), el("dd", {}, typeof meaning == "function" ? meaning() : meaning)])),
		el("h3", {}, "Parameters"),
		el("div", { class: "tables" }, parameterTable("Final evaluation", site.sae && site.sae.last), parameterTable("Language model", gpt),
			parameterTable("Autoencoder", sae), parameterTable("Pages", own), parameterTable("Provenance: ids of what went in", ids)));
}

/* ---- the table of features ---- */
const rowsOf = index => load("r" + Math.floor(index / site.chunks.rows)).then(part => {
	part.ready ||= { tokens: arrayOf(Uint16Array, part.tokens), logits: arrayOf(Uint16Array, part.logits), spark: bytesOf(part.spark) };
	const at = index % site.chunks.rows, n = site.chunks.tops, s = site.chunks.spark;
	return { tokens: part.ready.tokens.subarray(at * n, at * n + n), logits: part.ready.logits.subarray(at * n, at * n + n), spark: part.ready.spark.subarray(at * s, at * s + s) };
});

const lists = { all: "all", high: "high density", ultra: "ultra-low density", dead: "dead" };
const sortKeys = {
	feature: ["Feature", f => f], density: ["Density", (f, c) => c.active[f]], max: ["Max", (f, c) => c.max[f]], mean: ["Mean", (f, c) => c.mean[f]],
};

/* Parameters of the table, from what stands behind "#features?". */
function tableState(query) {
	const p = new URLSearchParams(query), sort = p.get("sort") || "feature", number = k => p.has(k) && isFinite(Number(p.get(k))) ? Number(p.get(k)) : null;
	const key = sort.replace("-", "");
	return {
		list: lists[p.get("list")] ? p.get("list") : "all", q: p.get("q") || "", from: number("from"), to: number("to"),
		sort: sortKeys[key] ? key : "feature", down: sort.startsWith("-"), page: Math.max(1, Math.floor(number("page") || 1)),
	};
}

function tableHash(state) {
	const p = new URLSearchParams();
	if (state.list != "all")
		p.set("list", state.list);
	if (state.q)
		p.set("q", state.q);
	for (const k of ["from", "to"])
		if (state[k] != null)
			p.set(k, state[k]);
	if (state.sort != "feature" || state.down)
		p.set("sort", (state.down ? "-" : "") + state.sort);
	if (state.page > 1)
		p.set("page", state.page);
	return "features" + (String(p) ? "?" + p : "");
}

/* Features with a top token or top logit that contains the text. */
async function withText(q) {
	const [names] = await Promise.all([vocab()]), F = site.index.features, want = q.toLowerCase(), hit = new Uint8Array(65536), out = [];
	names.forEach((_, id) => hit[id] = plain(piecesOf([id], names)[0]).toLowerCase().includes(want));
	for (let f = 0; f < F; f++) {
		const row = await rowsOf(f);
		if (row.tokens.some(id => hit[id]) || row.logits.some(id => hit[id]))
			out.push(f);
	}
	return out;
}

const listed = (() => {
	let known, result;
	return async () => {
		const s = parts.state || tableState(""), key = tableHash({ ...s, page: 1 });
		if (known == key)
			return result;
		const c = await columns();
		let list = s.q ? await withText(s.q) : Array.from(c.active.keys());
		if (s.list != "all")
			list = list.filter(f => kindOf(c.density[f]) == s.list);
		if (s.from != null || s.to != null)
			list = list.filter(f => c.active[f] && Math.log10(c.density[f]) >= (s.from ?? -Infinity) && Math.log10(c.density[f]) < (s.to ?? Infinity));
		const value = sortKeys[s.sort][1], way = s.down ? -1 : 1;
		list.sort((a, b) => way * (value(a, c) - value(b, c)) || a - b);
		known = key;
		return result = list;
	};
})();

function tableRow(f, c, row, names) {
	const tokens = ids => Array.from(ids).filter(id => id != NO_TOKEN).map(id => [tokenNode(id, names), " "]);
	const density = c.density[f], width = density ? Math.max(0.02, 1 + Math.log10(density) / 6) : 0, meter = el("i", { class: "meter " + kindOf(density) });
	meter.style.width = 100 * width + "%";
	return el("tr", { click: event => event.target.closest("a") || String(getSelection()) || go("f=" + f) },
		el("th", { scope: "row" }, el("a", { href: "#f=" + f }, f)),
		el("td", { class: "n density", title: `${plural(c.active[f], "token")}; rank ${whole(c.rank[f])}` }, density ? percent(density) : "dead", meter),
		el("td", { class: "n" }, c.active[f] ? short(c.max[f]) : "–"), el("td", { class: "n" }, c.active[f] ? short(c.mean[f]) : "–"),
		el("td", { class: "tokens" }, tokens(row.tokens)), el("td", { class: "tokens" }, tokens(row.logits)), el("td", { class: "histogram" }, sparkline(row.spark)));
}

function sortHeader(key, state) {
	const on = state.sort == key, down = on ? !state.down : key != "feature";
	return el("th", { scope: "col", "aria-sort": on ? (state.down ? "descending" : "ascending") : "none", class: key == "feature" ? "" : "n" },
		el("button", { click: () => go(tableHash({ ...state, sort: key, down, page: 1 })) }, sortKeys[key][0], el("span", { class: "arrow", "aria-hidden": "true" }, on ? (state.down ? "▾" : "▴") : "")));
}

function pager(state, total) {
	const pages = Math.max(1, Math.ceil(total / PAGE)), link = (page, name, label) =>
		page >= 1 && page <= pages && page != state.page ? el("a", { href: "#" + tableHash({ ...state, page }), "aria-label": label }, name) : el("span", { "aria-hidden": "true" }, name);
	return el("nav", { class: "pager", "aria-label": "Pages of the table" }, link(1, "«", "first page"), link(state.page - 1, "‹", "page before"),
		el("span", {}, `page ${whole(state.page)} of ${whole(pages)}`), link(state.page + 1, "›", "next page"), link(pages, "»", "last page"));
}

function tableControls(state, total) {
	const range = state.from != null || state.to != null;
	return el("div", { class: "controls" },
		el("div", { class: "segments", role: "group", "aria-label": "Which features" }, Object.entries(lists).map(([key, name]) =>
			el("a", { href: "#" + tableHash({ ...state, list: key, page: 1 }), "aria-current": state.list == key ? "true" : null }, name))),
		state.q && el("a", { class: "chip", href: "#" + tableHash({ ...state, q: "", page: 1 }), title: "remove this filter" }, "with ", el("bdi", {}, `“${state.q}”`), " ✕"),
		range && el("a", { class: "chip", href: "#" + tableHash({ ...state, from: null, to: null, page: 1 }), title: "remove this filter" },
			`density ${state.from == null ? "" : short(10 ** state.from)} to ${state.to == null ? "" : short(10 ** state.to)} ✕`),
		el("span", { class: "count" }, plural(total, "feature")), pager(state, total));
}

async function showTable(state) {
	parts.state = state;
	const list = await listed(), c = await columns(), pages = Math.max(1, Math.ceil(list.length / PAGE));
	const now = { ...state, page: Math.min(state.page, pages) }, shown = list.slice((now.page - 1) * PAGE, now.page * PAGE);
	const [names, rows] = await Promise.all([vocab(), Promise.all(shown.map(rowsOf))]);
	if (parts.state != state)
		return;		/* overtaken by another choice */
	const table = el("table", { class: "features" }, el("thead", {}, el("tr", {}, Object.keys(sortKeys).map(k => sortHeader(k, now)),
		el("th", { scope: "col" }, "Top tokens"), el("th", { scope: "col" }, "Top logits"), el("th", { scope: "col" }, "Activations"))),
		el("tbody", {}, shown.map((f, i) => tableRow(f, c, rows[i], names))));
	parts.table.replaceChildren(tableControls(now, list.length), el("div", { class: "wide" }, table),
		list.length ? pager(now, list.length) : el("p", {}, "No feature is like that."));
}

/* ---- the view ---- */
function makeIndex() {
	parts.table = el("div", {});
	const kind = site.index.gpt && site.index.gpt.n_layer;
	return el("div", { class: "index" },
		el("section", {}, el("h1", {}, `${whole(site.index.features)} features of a language model`),
			el("p", { class: "lead" }, `A sparse autoencoder took the ${site.index.inputs ? whole(site.index.inputs) + " " : ""}activations of ${kind ? `a ${kind}-layer ` : "a "}GPT's MLP apart into features. Each has a page: where in the text it is active, and which next tokens it speaks for.`),
			summaryCards()),
		densitySection(),
		el("section", { id: "features", "aria-labelledby": "h-features" }, el("h2", { id: "h-features" }, "Features"), parts.table),
		trainingSection(), aboutSection());
}

async function showIndex(hash) {
	const [section, query] = [hash.replace(/\?.*/, ""), hash.includes("?") ? hash.slice(hash.indexOf("?") + 1) : ""];
	const known = parts.index && parts.index.hash == hash;
	parts.index ||= { node: makeIndex() };
	document.title = "featuremill";
	const changed = show("index", parts.index.node), same = parts.index.section == section;
	const state = section == "features" ? tableState(query) : parts.state || tableState("");
	parts.index.hash = hash;
	parts.index.section = section;
	if (changed && known)
		window.scrollTo(0, parts.scroll || 0);
	const table = showTable(state);
	if (!known || !parts.state)
		await table;
	if (known && changed)
		return;
	const target = section && document.getElementById(section);
	if (target && !(same && !changed))
		target.scrollIntoView();
	else if (!target)
		window.scrollTo(0, 0);
	await table;
}

