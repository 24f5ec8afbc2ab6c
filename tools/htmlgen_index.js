/* ---- overview: what was trained, densities, the table of features, curves, parameters ---- */
function summaryCards() {
	const e = site.sae && site.sae.last.eval, g = site.gpt && site.gpt.last, d = site.density, F = site.index.features;
	const loss = n => n == null ? "–" : n.toFixed(3);
	const card = (name, word, value, note) => el("div", { class: "card" }, el("dt", {}, name, " ", why(word)),
		el("dd", {}, el("b", {}, value), el("span", {}, note)));
	return el("dl", { class: "cards" },
		e && card("Loss recovered", "loss recovered", percent(e.loss_recovered, 4),
			`against zeros; ${percent(e.loss_recovered_mean, 4)} against the mean. Next-token loss ${loss(e.loss_clean)} ` +
			`as trained, ${loss(e.loss_spliced)} through the autoencoder, ${loss(e.loss_zero)} with zeros`),
		e && card("L0", "L0", short(e.l0), `of ${whole(F)} features active on a token`),
		e && card("Explained variance", "explained variance", percent(e.explained_variance, 4), `mean squared error ${short(e.mse)}`),
		card("Alive features", "dead", whole(F - d.dead), `of ${whole(F)} (${percent((F - d.dead) / F)}) on the ` +
			`${whole(site.index.tokens)} tokens read for these pages: ${whole(d.high)} high, ${whole(d.ultraLow)} ultra-low density, ${whole(d.dead)} dead`),
		g && card("Language model", "next-token loss", loss(g.val_loss),
			`nats a token on validation text; ${loss(g.unigram)} for the unigram baseline`));
}

/* ---- densities ---- */
function densityChart() {
	const d = site.density, logCut = Math.log10(d.cut), used = d.bins.map((n, i) => n ? i : -1).filter(i => i >= 0);
	if (!used.length)
		return el("p", {}, "No feature was active on the tokens that were read.");
	const place = Math.round((logCut - d.from) / d.width);
	const first = Math.max(0, Math.min(used[0], place - 8) - 1);
	const last = Math.min(d.bins.length - 1, Math.max(used[used.length - 1], place + 8) + 1);
	const edges = Array.from({ length: last - first + 2 }, (_, i) => d.from + d.width * (first + i));
	const counts = d.bins.slice(first, last + 1), bound = i => short(10 ** edges[i]);
	return bars(edges, counts, {
		W: wideWidth(), H: 260, label: "Histogram of log10 density",
		xTicks: powers(edges[0], edges[edges.length - 1]).map(p => [p, powerOf10(p)]),
		xLabel: "density: share of tokens on which a feature is active (log scale)", yLabel: "features",
		lines: [[logCut, "high →", "start"], [logCut, "← ultra-low", "end"]],
		bar: i => ({
			cls: edges[i + 1] <= logCut + 1e-9 ? "ultra" : "high",
			title: `${plural(counts[i], "feature")} of density ${bound(i)} to ${bound(i + 1)}: click to list`,
			click: () => go(tableHash({ ...tableState(""), from: Number(edges[i].toFixed(3)), to: Number(edges[i + 1].toFixed(3)) })),
		}),
	});
}

/* Each feature a dot: density against maximum, in steps; the numbers themselves come with the pointer. */
async function densityScatter(place) {
	const dots = await load("dots"), at = arrayOf(Uint16Array, dots.at), alive = Uint32Array.from(at.keys()).filter(f => at[f] != 0xFFFF);
	if (alive.length < 2)
		return;
	const value = ([lo, hi], steps) => step => lo + (hi - lo) * step / (steps - 1);
	const [nx, ny] = dots.steps, x = value(dots.x, nx), y = value(dots.y, ny), logCut = Math.log10(site.density.cut);
	const points = {
		x: Float32Array.from(alive, f => x(Math.floor(at[f] / ny))), y: Float32Array.from(alive, f => y(at[f] % ny)),
		colour: i => points.x[i] < logCut ? "--ultra" : "--high",
	};
	place.replaceChildren(...scatter(points, alive.length, {
		label: "Each dot a feature: point at one for its numbers, click to open it.",
		xLabel: "density (log scale)", yLabel: "largest activation (log scale)",
		say: i => sayDot(alive[i]), click: i => go("f=" + alive[i]),
	}));
}

async function sayDot(f) {
	const [row, names] = await Promise.all([rowOf(f), vocab()]);
	return [`Feature ${f}: density ${percent(row.density)}, largest activation ${short(row.max)}; on `, tokenList(row.tokens, names)];
}

function densitySection() {
	const d = site.density, dots = el("div", {});
	const link = (list, n, what) => el("a", { href: "#features?list=" + list }, `${whole(n)} ${what}`);
	densityScatter(dots).catch(trouble);
	return el("section", { "aria-labelledby": "h-density" },
		el("div", { class: "titled" }, el("h2", { id: "h-density" }, "Densities"), why("density")),
		el("p", {}, `Of ${whole(site.index.features)} features `, link("high", d.high, "are of high density"), ", ",
			link("ultra", d.ultraLow, "of ultra-low density"), " ", why("ultra-low density"), " and ", link("dead", d.dead, "dead"),
			d.high + d.ultraLow ? ". Each bar counts the features of one tenth of a decade; a click lists them." : "."),
		densityChart(), dots);
}

/* ---- words and parameters ---- */
function pairs(object, prefix = "") {
	const tell = v => Number.isSafeInteger(v) ? whole(v) : typeof v == "number" ? short(v, 6) : String(v);
	return Object.entries(object || {}).flatMap(([k, v]) => Array.isArray(v) ? [] :
		v && typeof v == "object" ? pairs(v, prefix + k + ".") : [[prefix + k, tell(v)]]);
}

function parameterTable(caption, object) {
	const rows = pairs(object).filter(([k]) => !/density_(from|width)$/.test(k));
	const row = ([k, v]) => el("tr", {}, el("th", { scope: "row" }, el("bdi", {}, k)), el("td", {}, el("bdi", {}, v)));
	return rows.length ? el("div", { class: "parameters" },
		el("table", {}, el("caption", {}, caption), el("tbody", {}, rows.map(row)))) : null;
}

function aboutSection() {
	const { gpt, sae, ids, fields, ...own } = site.index;
	return el("section", { id: "about", "aria-labelledby": "h-about" }, el("h2", { id: "h-about" }, "About"),
		el("h3", {}, "Words"), el("dl", { class: "words" }, wordList()), el("h3", {}, "Parameters"),
		el("div", { class: "tables" }, parameterTable("Final evaluation", site.sae && site.sae.last),
			parameterTable("Language model", gpt), parameterTable("Autoencoder", sae), parameterTable("Pages", own),
			parameterTable("Provenance: ids of what went in", ids)));
}

/* ---- the view ---- */
function makeIndex() {
	const { features, inputs, gpt } = site.index, layers = gpt && gpt.n_layer;
	const mlp = layers > 1 ? `the last MLP of a ${layers}-layer GPT` : `a ${layers ? "1-layer " : ""}GPT's MLP`;
	parts.table = el("div", {});
	return el("div", { class: "index" },
		el("section", {}, el("h1", {}, `${whole(features)} features of a language model`),
			el("p", { class: "lead" }, `A sparse autoencoder took the ${inputs ? whole(inputs) + " " : ""}activations of ` +
				`${mlp} apart into features. Each has a page: where in the text ` +
				"it is active, and which next tokens it speaks for."),
			summaryCards()),
		densitySection(),
		el("section", { id: "features", "aria-labelledby": "h-features" }, el("h2", { id: "h-features" }, "Features"), parts.table),
		trainingSection(), aboutSection());
}

/*
 * hash: a section, for the table with its state.  Coming back to where one
 * was keeps the place; a link to a section goes to it; a change of the
 * table's state leaves the page where it is.
 */
async function showIndex(hash) {
	const [section, query] = hash.split(/\?(.*)/s), known = parts.index && parts.index.hash == hash;
	const same = parts.index && parts.index.section == section;
	parts.index = { node: parts.index ? parts.index.node : makeIndex(), hash, section };
	const changed = show("index", parts.index.node), target = section && parts.index.node.querySelector("#" + CSS.escape(section));
	document.title = (target ? target.querySelector("h2").textContent.replace("?", "").trim() + " – " : "") + "featuremill";
	if (section && !target)
		say(`There is no view “#${hash}”; this is the overview.`);
	if (known && changed)
		window.scrollTo(0, parts.scroll || 0);
	await showTable(section == "features" ? tableState(query) : parts.state || tableState(""));
	if (known && changed)
		window.scrollTo(0, parts.scroll || 0);
	else if (!target)
		window.scrollTo(0, 0);
	else if (changed || !same)
		target.scrollIntoView();
}

