"use strict";
/* The site: chunks of data, elements, routes, keys.  Text enters the page through text nodes alone. */

/* ---- data: scripts that call chunk(), added when needed ---- */
const chunks = new Map();	/* name -> { promise, resolve, reject, script, done }, the last used last */
const kept = { f: 24, r: 256, s: 64 };	/* how many of a letter stay in memory; of others all */
const build = document.documentElement.dataset.build;

function slot(name) {
	const s = chunks.get(name) || {};
	if (!s.promise) {
		s.promise = new Promise((resolve, reject) => Object.assign(s, { resolve, reject }));
		s.promise.then(() => s.done = true, () => chunks.delete(name));	/* what failed may be tried again */
	}
	chunks.delete(name);
	chunks.set(name, s);
	return s;
}

function forget(letter) {
	const done = [...chunks].filter(([name, s]) => name[0] == letter && s.done);
	done.slice(0, -kept[letter] || 0).forEach(([name]) => chunks.delete(name));
}

/* What a page that was opened, or kept by the browser, before the site was made anew must not show. */
function chunk(name, value, of) {
	if (of == build)
		slot(name).resolve(value);
	else
		slot(name).reject(new Error(`The site was made anew (data/${name}.js is of another build than this page): load the page again.`));
}

const chunkUrl = (() => {
	const make = (name) => {
		if (!/^[a-z]+[0-9]*$/.test(name))
			throw new Error("no chunk's name: " + name);
		return "data/" + name + ".js?" + build;
	};
	return window.trustedTypes ? (policy => name => policy.createScriptURL(name))(
		trustedTypes.createPolicy("site", { createScriptURL: make })) : make;
})();

function load(name) {
	const s = slot(name);
	if (!s.script) {
		s.script = document.createElement("script");
		s.script.src = chunkUrl(name);
		const end = trouble => {
			s.reject(new Error(trouble));	/* too late if the script called chunk() */
			s.script.remove();
			forget(name[0]);
		};
		s.script.onload = () => end(`data/${name}.js does not hold what it should`);
		s.script.onerror = () => end(`cannot load data/${name}.js`);
		document.head.append(s.script);
	}
	return s.promise;
}

function bytesOf(base64) {
	const s = atob(base64), bytes = new Uint8Array(s.length);
	for (let i = 0; i < s.length; i++)
		bytes[i] = s.charCodeAt(i);
	return bytes;
}

const arrayOf = (type, base64) => new type(bytesOf(base64).buffer);

/* ---- elements ---- */
function fill(node, attributes, children) {
	for (const [key, value] of Object.entries(attributes || {})) {
		if (typeof value == "function")
			node.addEventListener(key, value);
		else if (value === true)
			node.setAttribute(key, "");
		else if (value !== false && value != null)
			node.setAttribute(key, value);
	}
	node.append(...children.flat(Infinity).filter(c => c != null && c !== false));
	return node;
}

const el = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) =>
	fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
const $ = id => document.getElementById(id);

/* ---- numbers for people ---- */
const whole = n => n == null ? "–" : Math.round(n).toLocaleString("en");
const minus = s => s.replace("-", "−");

function short(x, digits = 3) {
	if (x == null || !isFinite(x))
		return "–";
	if (x == 0)
		return "0";
	const a = Math.abs(x);
	if (a >= 1e5 || a < 1e-3)
		return minus(Number(x.toPrecision(digits)).toExponential().replace("e+", "e"));
	return minus(String(Number(x.toPrecision(digits))));
}

const signed = (x, digits) => (x > 0 ? "+" : "") + short(x, digits);
const percent = (x, digits = 3) => x == null || !isFinite(x) ? "–" : short(100 * x, digits) + " %";
const plural = (n, one) => `${whole(n)} ${one}${n == 1 ? "" : "s"}`;

/* ---- what the site is about; filled by start() ---- */
let site;

function kindOf(density) {
	return density == 0 ? "dead" : density < site.density.cut ? "ultra" : "high";
}

const kindName = { dead: "dead", ultra: "ultra-low density", high: "high density" };

/* All chunks of a letter, each with the number of its first feature as it comes; says how far it is. */
async function loadAll(letter, what, use) {
	const each = site.chunks.numbers, n = Math.ceil(site.index.features / each);
	let done = 0;
	await Promise.all(Array.from({ length: n }, async (_, i) => {
		use(await load(letter + i), i * each);
		done++;
		$("progress").textContent = `Loading ${what} of ${whole(site.index.features)} features: ${done} of ${n} parts`;
		$("progress").hidden = done == n;
	}));
}

/* active, max, mean and density of all features: to sort and to filter by. */
const columns = (() => {
	let promise;
	return () => promise ||= (async () => {
		const F = site.index.features;
		const c = { active: new Uint32Array(F), max: new Float32Array(F), mean: new Float32Array(F) };
		await loadAll("n", "numbers", (part, at) => {
			c.active.set(arrayOf(Uint32Array, part.active), at);
			c.max.set(arrayOf(Float32Array, part.max), at);
			c.mean.set(arrayOf(Float32Array, part.mean), at);
		});
		c.density = Float64Array.from(c.active, n => n / site.index.tokens);
		return c;
	})();
})();

/* The i-th feature of a chunk of rows: its numbers, top tokens, top logits, small histogram. */
function rowAt(part, i) {
	const { tops, spark } = site.chunks;
	const r = part.ready ||= {
		active: arrayOf(Uint32Array, part.active), rank: arrayOf(Uint32Array, part.rank),
		max: arrayOf(Float32Array, part.max), mean: arrayOf(Float32Array, part.mean),
		tokens: arrayOf(Uint16Array, part.tokens), logits: arrayOf(Uint16Array, part.logits), spark: bytesOf(part.spark),
	};
	return {
		active: r.active[i], rank: r.rank[i], max: r.max[i], mean: r.mean[i], density: r.active[i] / site.index.tokens,
		tokens: r.tokens.subarray(i * tops, (i + 1) * tops), logits: r.logits.subarray(i * tops, (i + 1) * tops),
		spark: r.spark.subarray(i * spark, (i + 1) * spark),
	};
}

const rowOf = async f => rowAt(await load("r" + Math.floor(f / site.chunks.rows)), f % site.chunks.rows);

/* ---- routes: "", features?…, training, about, f=N, search?q=…, texts?… ---- */
const featureOf = hash => /^#f=\d+$/.test(hash) ? Number(hash.slice(3)) : null;

/* list: the features that j and k go along; places: where a view of results was scrolled to */
const parts = { view: null, index: null, feature: null, list: () => listed(), places: new Map(), hash: "" };

/* By what stands before "?"; all else is in the overview. */
const views = { search: hash => showSearch(hash), texts: hash => showTexts(hash.slice("texts?".length)) };

function route() {
	hideTip();
	const f = featureOf(location.hash);
	if (parts.view == "index")
		parts.scroll = window.scrollY;
	else
		parts.places.set(parts.hash, window.scrollY);
	parts.hash = location.hash;
	enter();
	$("trouble").hidden = true;
	const hash = location.hash.slice(1), view = views[hash.replace(/\?.*/s, "")] || showIndex;
	draw(f == null ? view(hash) : showFeature(f));
}

/* Where each entry of the history was scrolled to; parts.place: where the one that is entered was, 0 when it is new. */
const entries = new Map();

function enter() {
	entries.set(parts.entry, window.scrollY);
	parts.place = entries.get(history.state) || 0;
	parts.entry = history.state || `${performance.timeOrigin} ${entries.size}`;
	if (!history.state)
		history.replaceState(parts.entry, "");
}

/* The view is busy until the last drawing asked for is done. */
let drawings = 0;

async function draw(drawing) {
	const mine = ++drawings;
	$("main").setAttribute("aria-busy", true);
	try {
		await drawing;
	} catch (error) {
		trouble(error);
	}
	if (mine == drawings)
		$("main").setAttribute("aria-busy", false);
}

function show(view, node) {
	const changed = parts.view != view, first = !parts.view;
	parts.view = view;
	if ($("main").firstElementChild != node || $("main").childElementCount != 1) {
		$("main").replaceChildren(node);
		if (!first && document.activeElement == document.body)
			focusHeading(node);
	}
	return changed;
}

/* What had the focus went with the view before: readers of the screen and the Tab key go on from here. */
function focusHeading(node) {
	const h1 = node.querySelector("h1");
	if (h1) {
		h1.tabIndex = -1;
		h1.focus({ preventScroll: true });
	}
}

function go(hash) {
	if (location.hash == "#" + hash)
		route();
	else
		location.hash = hash;
}

function say(text) {
	$("trouble").textContent = text;
	$("trouble").hidden = false;
}

function trouble(error) {
	say(error.message);
	console.error(error);
}

/* ---- keys ---- */
const keys = {
	"/": () => { $("query").focus(); $("query").select(); },
	"?": showHelp,
	i: () => go(parts.index ? parts.index.hash : ""),
	e: () => document.querySelector(".all")?.click(),
	r: () => go("f=" + Math.floor(Math.random() * site.index.features)),
	ArrowLeft: () => stepFeature(-1),
	ArrowRight: () => stepFeature(1),
	k: () => stepList(-1),
	j: () => stepList(1),
};

function onKey(event) {
	const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName);
	if (event.key == "Escape") {
		hideTip();
		if (event.target.id == "query")
			event.target.blur();
	}
	if (typing || event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || $("keys").open || !site)
		return;
	const act = keys[event.key];
	if (act) {
		event.preventDefault();
		act();
	}
}

function showHelp() {
	$("words").replaceChildren(...wordList());
	$("keys").showModal();
}

function stepFeature(by) {
	if (parts.view == "feature")
		go("f=" + (parts.feature + by + site.index.features) % site.index.features);
	else if (parts.view == "texts")
		stepText(by);
}

/* The next feature of the table as it is filtered and sorted, or of the results of the search. */
async function stepList(by) {
	const list = await parts.list();
	if (!list.length)
		return;
	const at = parts.view == "feature" ? list.indexOf(parts.feature) : -1;
	go("f=" + list[at < 0 ? (by > 0 ? 0 : list.length - 1) : (at + by + list.length) % list.length]);
}

function onSearch(event) {
	event.preventDefault();
	const text = $("query").value, number = /^\s*#?\d+\s*$/.test(text) ? Number(text.replace(/[#\s]/g, "")) : NaN;
	if (number < site.index.features)
		go("f=" + number);
	else
		go(searchHash(text, 1));
	$("query").blur();
}

/* While results are shown they follow what is typed. */
function onTyping() {
	if (parts.view != "search")
		return;
	clearTimeout(parts.typing);
	parts.typing = setTimeout(() => {
		history.replaceState(null, "", "#" + searchHash($("query").value, 1));
		route();
	}, 150);
}

function setTheme() {
	const dark = matchMedia("(prefers-color-scheme: dark)").matches;
	const now = document.documentElement.dataset.theme || (dark ? "dark" : "light");
	document.documentElement.dataset.theme = now == "dark" ? "light" : "dark";
	document.dispatchEvent(new Event("theme"));
	try {
		localStorage.setItem("theme", document.documentElement.dataset.theme);
	} catch (e) { /* storage may be forbidden to files */ }
}

async function start() {
	try {
		const theme = localStorage.getItem("theme");
		if (theme)
			document.documentElement.dataset.theme = theme;
	} catch (e) { /* as above */ }
	try {
		history.scrollRestoration = "manual";
		site = await load("site");
		$("to-texts").hidden = !site.texts;
		document.addEventListener("keydown", onKey);
		$("search").addEventListener("submit", onSearch);
		$("query").addEventListener("input", onTyping);
		$("help").addEventListener("click", showHelp);
		$("theme").addEventListener("click", setTheme);
		$("skip").addEventListener("click", () => $("main").focus());
		window.addEventListener("hashchange", route);
		route();
	} catch (e) {
		trouble(e);
		$("main").setAttribute("aria-busy", false);
	}
}

document.addEventListener("DOMContentLoaded", start);

