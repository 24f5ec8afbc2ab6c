/* ---- the table of features ---- */
const PAGE = 50;
const lists = { all: "all", high: "high density", ultra: "ultra-low density", dead: "dead" };
const sortKeys = {	/* name, value by which to sort */
	feature: ["Feature", f => f],
	density: ["Density", (f, c) => c.active[f]],
	max: ["Max", (f, c) => c.max[f]],
	mean: ["Mean", (f, c) => c.mean[f]],
};

/* What stands behind "#features?": list, text, range of log10 density, order, page. */
function tableState(query) {
	const p = new URLSearchParams(query), sort = p.get("sort") || "feature", key = sort.replace("-", "");
	const number = k => p.has(k) && isFinite(Number(p.get(k))) ? Number(p.get(k)) : null;
	return {
		list: Object.hasOwn(lists, p.get("list")) ? p.get("list") : "all", q: p.get("q") || "",
		from: number("from"), to: number("to"), sort: Object.hasOwn(sortKeys, key) ? key : "feature",
		down: sort.startsWith("-"), page: Math.max(1, Math.floor(number("page") || 1)),
	};
}

function tableHash(state) {
	const p = new URLSearchParams(), put = (there, key, value) => there && p.set(key, value);
	put(state.list != "all", "list", state.list);
	put(state.q, "q", state.q);
	put(state.from != null, "from", state.from);
	put(state.to != null, "to", state.to);
	put(state.sort != "feature" || state.down, "sort", (state.down ? "-" : "") + state.sort);
	put(state.page > 1, "page", state.page);
	return "features" + (String(p) ? "?" + p : "");
}

/* Top tokens, top logits and small histogram of a feature. */
async function rowOf(f) {
	const part = await load("r" + Math.floor(f / site.chunks.rows));
	part.ready ||= {
		tokens: arrayOf(Uint16Array, part.tokens), logits: arrayOf(Uint16Array, part.logits), spark: bytesOf(part.spark),
	};
	const cut = (all, n) => all.subarray(f % site.chunks.rows * n, (f % site.chunks.rows + 1) * n);
	const { tops, spark } = site.chunks;
	return { tokens: cut(part.ready.tokens, tops), logits: cut(part.ready.logits, tops), spark: cut(part.ready.spark, spark) };
}

/* Features with a top token or top logit that contains the text. */
async function withText(q) {
	const names = await vocab(), want = q.toLowerCase(), hit = new Uint8Array(65536), out = [];
	names.forEach((_, id) => hit[id] = plain(piecesOf([id], names)[0]).toLowerCase().includes(want));
	for (let f = 0; f < site.index.features; f++) {
		const row = await rowOf(f);
		if (row.tokens.some(id => hit[id]) || row.logits.some(id => hit[id]))
			out.push(f);
	}
	return out;
}

async function select(s) {
	const c = await columns(), value = sortKeys[s.sort][1], way = s.down ? -1 : 1;
	const inRange = f => c.active[f] && Math.log10(c.density[f]) >= (s.from ?? -Infinity) &&
		Math.log10(c.density[f]) < (s.to ?? Infinity);
	let list = s.q ? await withText(s.q) : Array.from(c.active.keys());
	if (s.list != "all")
		list = list.filter(f => kindOf(c.density[f]) == s.list);
	if (s.from != null || s.to != null)
		list = list.filter(inRange);
	return list.sort((a, b) => way * (value(a, c) - value(b, c)) || a - b);
}

/* The features of the table as it is filtered and sorted, all pages. */
const listed = (() => {
	let known, result;
	return () => {
		const s = parts.state || tableState(""), key = tableHash({ ...s, page: 1 });
		if (known != key)
			[known, result] = [key, select(s)];
		return result;
	};
})();

/* ---- its elements ---- */
function tokenList(ids, names) {
	return Array.from(ids).filter(id => id != NO_TOKEN).map(id => [tokenNode(id, names), " "]);
}

function densityCell(f, c) {
	const density = c.density[f], meter = el("i", { class: "meter " + kindOf(density) });
	meter.style.width = density ? Math.max(2, 100 + 100 * Math.log10(density) / 6) + "%" : 0;
	return el("td", { class: "n density", title: plural(c.active[f], "token") + (density ? `; rank ${whole(c.rank[f])}` : "") },
		density ? percent(density) : "dead", meter);
}

function tableRow(f, c, row, names) {
	const number = v => el("td", { class: "n" }, c.active[f] ? short(v) : "–");
	const open = event => event.target.closest("a") || String(getSelection()) || go("f=" + f);
	return el("tr", { click: open }, el("th", { scope: "row" }, el("a", { href: "#f=" + f }, f)),
		densityCell(f, c), number(c.max[f]), number(c.mean[f]),
		el("td", { class: "tokens" }, tokenList(row.tokens, names)),
		el("td", { class: "tokens" }, tokenList(row.logits, names)),
		el("td", { class: "histogram" }, sparkline(row.spark)));
}

function sortHeader(key, state) {
	const on = state.sort == key, down = on ? !state.down : key != "feature";
	const order = on ? state.down ? "descending" : "ascending" : "none";
	const arrow = { descending: "▾", ascending: "▴", none: "" }[order];
	return el("th", { scope: "col", "aria-sort": order, class: key == "feature" ? "" : "n" },
		el("button", { click: () => go(tableHash({ ...state, sort: key, down, page: 1 })) }, sortKeys[key][0],
			el("span", { class: "arrow", "aria-hidden": "true" }, arrow)));
}

function pager(state, total) {
	const pages = Math.max(1, Math.ceil(total / PAGE));
	const link = (page, sign, label) => page >= 1 && page <= pages && page != state.page ?
		el("a", { href: "#" + tableHash({ ...state, page }), "aria-label": label }, sign) :
		el("span", { "aria-hidden": "true" }, sign);
	return el("nav", { class: "pager", "aria-label": "Pages of the table" },
		link(1, "«", "first page"), link(state.page - 1, "‹", "page before"),
		el("span", {}, `page ${whole(state.page)} of ${whole(pages)}`),
		link(state.page + 1, "›", "next page"), link(pages, "»", "last page"));
}

function tableControls(state, total) {
	const chip = (without, ...what) => el("a", {
		class: "chip", title: "remove this filter", href: "#" + tableHash({ ...state, ...without, page: 1 }),
	}, what, " ✕");
	const bound = v => v == null ? "any" : short(10 ** v), range = state.from != null || state.to != null;
	return el("div", { class: "controls" },
		el("div", { class: "segments", role: "group", "aria-label": "Which features" }, Object.entries(lists).map(([list, name]) =>
			el("a", { href: "#" + tableHash({ ...state, list, page: 1 }), "aria-current": state.list == list ? "true" : null }, name))),
		state.q && chip({ q: "" }, "with ", el("bdi", {}, `“${state.q}”`)),
		range && chip({ from: null, to: null }, `density ${bound(state.from)} to ${bound(state.to)}`),
		el("span", { class: "count" }, plural(total, "feature")), pager(state, total));
}

async function showTable(state) {
	parts.state = state;
	const list = await listed(), c = await columns(), pages = Math.max(1, Math.ceil(list.length / PAGE));
	const now = { ...state, page: Math.min(state.page, pages) }, shown = list.slice((now.page - 1) * PAGE, now.page * PAGE);
	const [names, rows] = await Promise.all([vocab(), Promise.all(shown.map(rowOf))]);
	if (parts.state != state)
		return;		/* overtaken by another choice */
	const heads = ["Top tokens", "Top logits", "Activations"].map(name => el("th", { scope: "col" }, name));
	const table = el("table", { class: "features" },
		el("thead", {}, el("tr", {}, Object.keys(sortKeys).map(key => sortHeader(key, now)), heads)),
		el("tbody", {}, shown.map((f, i) => tableRow(f, c, rows[i], names))));
	parts.table.replaceChildren(tableControls(now, list.length), el("div", { class: "wide" }, table),
		list.length ? pager(now, list.length) : el("p", {}, "No feature is like that."));
}

