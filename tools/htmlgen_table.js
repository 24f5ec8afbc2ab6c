/* ---- the table of features ---- */
const PAGE = 50;	/* at most as many as the chunk "first" has */
const opening = "-density";
const lists = { all: "all", high: "high density", ultra: "ultra-low density", dead: "dead" };
const sortKeys = {	/* name, value by which to sort */
	feature: ["Feature", f => f],
	density: ["Density", (f, c) => c.active[f]],
	max: ["Max", (f, c) => c.max[f]],
	mean: ["Mean", (f, c) => c.mean[f]],
};

/* What stands behind "#features?": list, text, range of log10 density, order, page. */
function tableState(query) {
	const p = new URLSearchParams(query), sort = p.get("sort") || opening, key = sort.replace("-", "");
	const number = k => p.has(k) && isFinite(Number(p.get(k))) ? Number(p.get(k)) : null;
	return {
		...Object.hasOwn(sortKeys, key) ? { sort: key, down: sort.startsWith("-") } : { sort: opening.slice(1), down: true },
		list: Object.hasOwn(lists, p.get("list")) ? p.get("list") : "all", q: p.get("q") || "",
		from: number("from"), to: number("to"), page: Math.max(1, Math.floor(number("page") || 1)),
	};
}

function tableHash(state) {
	const p = new URLSearchParams(), put = (there, key, value) => there && p.set(key, value);
	put(state.list != "all", "list", state.list);
	put(state.q, "q", state.q);
	put(state.from != null, "from", state.from);
	put(state.to != null, "to", state.to);
	const sort = (state.down ? "-" : "") + state.sort;
	put(sort != opening, "sort", sort);
	put(state.page > 1, "page", state.page);
	return "features" + (String(p) ? "?" + p : "");
}

/* Features with a top token or top logit that contains the text. */
async function withText(q) {
	const names = await vocab(), want = q.toLowerCase(), hit = new Uint8Array(65536), out = [], { tops } = site.chunks;
	const hits = ids => ids.reduce((a, id, i) => (hit[id] && a.add(Math.floor(i / tops)), a), new Set());
	names.forEach((_, id) => hit[id] = plain(piecesOf([id], names)[0]).toLowerCase().includes(want));
	await loadAll("t", "top tokens", (part, at) => {
		const found = new Set([...hits(arrayOf(Uint16Array, part.tokens)), ...hits(arrayOf(Uint16Array, part.logits))]);
		found.forEach(f => out.push(at + f));
	});
	return out;
}

async function select(s) {
	const c = await columns(), value = sortKeys[s.sort][1], way = s.down ? -1 : 1;
	const inRange = f => c.active[f] && Math.log10(c.density[f]) >= (s.from ?? -Infinity) &&
		Math.log10(c.density[f]) < (s.to ?? Infinity);
	let list = Uint32Array.from(s.q ? await withText(s.q) : c.active.keys());
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

function densityCell({ density, active, rank }) {
	const meter = el("i", { class: "meter " + kindOf(density) });
	meter.style.width = density ? Math.max(2, 100 + 100 * Math.log10(density) / 6) + "%" : 0;
	return el("td", { class: "n density", title: plural(active, "token") + (density ? `; rank ${whole(rank)}` : "") },
		density ? percent(density) : "dead", meter);
}

function tableRow(f, row, names) {
	const number = v => el("td", { class: "n" }, row.active ? short(v) : "–");
	const open = event => event.target.closest("a") || String(getSelection()) || go("f=" + f);
	return el("tr", { click: open }, el("th", { scope: "row" }, el("a", { href: "#f=" + f }, f)),
		densityCell(row), number(row.max), number(row.mean),
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

/* Enter filters by a text that a top token or top logit contains. */
function filterForm(state) {
	const box = el("input", { type: "search", class: "filter", autocomplete: "off", spellcheck: "false", value: state.q,
		"aria-label": "Filter by the text of a top token or top logit", placeholder: "filter by token" });
	return el("form", { submit: event => {
		event.preventDefault();
		go(tableHash({ ...state, q: box.value, page: 1 }));
	} }, box);
}

function tableControls(state, total) {
	const chip = (without, ...what) => el("a", {
		class: "chip", title: "remove this filter", href: "#" + tableHash({ ...state, ...without, page: 1 }),
	}, what, " ✕");
	const bound = v => v == null ? "any" : short(10 ** v), range = state.from != null || state.to != null;
	return el("div", { class: "controls" },
		el("div", { class: "segments", role: "group", "aria-label": "Which features" }, Object.entries(lists).map(([list, name]) =>
			el("a", { href: "#" + tableHash({ ...state, list, page: 1 }), "aria-current": state.list == list ? "true" : null }, name))),
		filterForm(state),
		state.q && chip({ q: "" }, "with ", el("bdi", {}, `“${state.q}”`)),
		range && chip({ from: null, to: null }, `density ${bound(state.from)} to ${bound(state.to)}`),
		el("span", { class: "count" }, plural(total, "feature")), pager(state, total));
}

/* The table's page of a state: { now: the state, total, shown, rows, names }.  As it opens it needs one small chunk. */
async function tablePage(state) {
	if (tableHash(state) == tableHash(tableState(""))) {
		const part = await load("first"), shown = Array.from(arrayOf(Uint32Array, part.features)).slice(0, PAGE);
		return {
			now: state, total: site.index.features, shown, rows: shown.map((_, i) => rowAt(part, i)),
			names: Object.assign({}, ...part.names),
		};
	}
	const list = await listed(), pages = Math.max(1, Math.ceil(list.length / PAGE));
	const now = { ...state, page: Math.min(state.page, pages) }, shown = list.slice((now.page - 1) * PAGE, now.page * PAGE);
	const [names, rows] = await Promise.all([vocab(), Promise.all(Array.from(shown, rowOf))]);
	return { now, total: list.length, shown: Array.from(shown), rows, names };
}

async function showTable(state) {
	parts.state = state;
	parts.list = listed;
	const { now, total, shown, rows, names } = await tablePage(state);
	if (parts.state != state)
		return;		/* overtaken by another choice */
	const heads = ["Top tokens", "Top logits", "Activations"].map(name => el("th", { scope: "col" }, name));
	const table = el("table", { class: "features" },
		el("thead", {}, el("tr", {}, Object.keys(sortKeys).map(key => sortHeader(key, now)), heads)),
		el("tbody", {}, shown.map((f, i) => tableRow(f, rows[i], names))));
	parts.table.replaceChildren(tableControls(now, total), el("div", { class: "wide" }, table),
		total ? pager(now, total) : el("p", {}, "No feature is like that."));
}
