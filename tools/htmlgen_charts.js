/* ---- charts: SVG, drawn once, coloured by the style sheet ---- */

/* About n round values from lo to hi. */
function ticks(lo, hi, n) {
	const raw = (hi - lo) / n || 1, power = 10 ** Math.floor(Math.log10(raw));
	const step = power * [1, 2, 5, 10].find(m => m * power >= raw * 0.999);
	const out = [];
	for (let i = Math.ceil(lo / step - 1e-9); i * step <= hi + step * 1e-9; i++)
		out.push(Number((i * step).toPrecision(12)));
	return out;
}

const powers = (lo, hi) => Array.from({ length: Math.floor(hi + 1e-9) - Math.ceil(lo - 1e-9) + 1 }, (_, i) => Math.ceil(lo - 1e-9) + i);
const superscript = n => String(n).replace(/./g, c => c == "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[c]);
const powerOf10 = n => n == 0 ? "1" : n == 1 ? "10" : "10" + superscript(n);

const frame = (W, H, label, ...inside) =>
	svg("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": label, class: "chart" }, inside);
const text = (x, y, s, anchor = "middle", cls = "tick") => svg("text", { x, y, "text-anchor": anchor, class: cls }, s);
const line = (x1, y1, x2, y2, cls) => svg("line", { x1, y1, x2, y2, class: cls });

/* Round values from lo to hi on a logarithmic scale: more of them where the range is short. */
function logTicks(lo, hi) {
	const decades = Math.log10(hi / lo), factors = decades > 3 ? [1] : decades > 1.2 ? [1, 3] : [1, 2, 5];
	const all = powers(Math.floor(Math.log10(lo)), Math.log10(hi)).flatMap(p => factors.map(m => [m * 10 ** p, m == 1 ? powerOf10(p) : short(m * 10 ** p)]));
	const inside = all.filter(([v]) => v >= lo && v <= hi * 1.0001), each = Math.ceil(inside.length / 6);
	return inside.length > 1 ? inside.filter((_, i) => i % each == 0) : ticks(lo, hi, 3).map(v => [v, short(v)]);
}

/*
 * Bars of counts.  edges (n + 1) on the x axis, counts (n); o: { W, H, label, log, xTicks [[x, text]…], xLabel, yLabel,
 * lines [[x, text, anchor]…], bar(i) -> { cls, title, click } }
 */
function bars(edges, counts, o) {
	const W = o.W || 460, H = o.H || 180, left = 44, right = 10, top = o.lines ? 24 : 10, bottom = 36, base = H - bottom;
	const most = Math.max(1, ...counts);
	const x = v => left + (v - edges[0]) / (edges[counts.length] - edges[0]) * (W - left - right);
	const up = o.log ? c => (Math.log10(c) + 0.3) / (Math.log10(most) + 0.4) : c => c / most / 1.05;
	const y = c => c ? base - up(c) * (base - top) : base;
	const yTicks = o.log ? logTicks(1, Math.max(2, most)) : ticks(0, most, 4).filter(v => v == Math.round(v)).map(v => [v, whole(v)]);
	const one = (c, i) => {
		const a = x(edges[i]), b = x(edges[i + 1]), gap = Math.min(1, (b - a) / 5), look = o.bar(i);
		return c ? svg("rect", { x: a + gap / 2, y: y(c), width: Math.max(0.5, b - a - gap), height: base - y(c), class: "bar " + look.cls, click: look.click },
			svg("title", {}, look.title)) : null;
	};
	return frame(W, H, o.label,
		yTicks.map(([v, s]) => [line(left, y(v), W - right, y(v), "grid"), text(left - 6, y(v) + 4, s, "end")]),
		counts.map(one), line(left, base, W - right, base, "axis"),
		(o.xTicks || []).map(([v, s]) => [line(x(v), base, x(v), base + 4, "axis"), text(x(v), base + 16, s)]),
		(o.lines || []).map(([v, s, anchor]) => [line(x(v), 6, x(v), base, "cut"), text(x(v) + (anchor == "end" ? -6 : 6), 15, s, anchor)]),
		text((left + W - right) / 2, H - 3, o.xLabel, "middle", "label"),
		svg("text", { transform: `translate(10 ${(base + top) / 2}) rotate(-90)`, "text-anchor": "middle", class: "label" }, o.yLabel));
}

/* Small histogram of heights 0…255. */
function sparkline(heights) {
	const w = 3, H = 22;
	return svg("svg", { viewBox: `0 0 ${heights.length * w} ${H}`, class: "spark", "aria-hidden": "true" },
		svg("path", { d: Array.from(heights, (h, i) => h ? `M${i * w} ${H}v${-(h / 255 * H).toFixed(1)}h${w - 0.6}V${H}z` : "").join("") }));
}

/* ---- curves over the steps of a training ---- */
const plotBox = { W: 420, H: 190, left: 52, right: 12, top: 8, bottom: 32 };
const latest = (values, i) => i < 0 || finite(values[i]) ? values[i] : latest(values, i - 1);
const finite = v => v != null && isFinite(v);

/* Scales of a plot: x, y: value -> place; at: place -> value of x; yTicks, xTicks. */
function plotScales(x, values, o) {
	const { W, H, left, right, top, bottom } = plotBox, map = o.log ? Math.log10 : v => v;
	let lo = map(Math.min(...values)), hi = map(Math.max(...values));
	if (hi - lo < 1e-9 * Math.max(1, Math.abs(hi)))
		[lo, hi] = [lo - (Math.abs(lo) || 1) * 0.1, hi + (Math.abs(hi) || 1) * 0.1];
	[lo, hi] = [lo - (hi - lo) * 0.05, hi + (hi - lo) * 0.05];
	const x0 = x[0], x1 = x[x.length - 1], wide = W - left - right, tell = o.format || short;
	return {
		x: v => left + (x1 > x0 ? (v - x0) / (x1 - x0) : 0.5) * wide,
		y: v => H - bottom - (map(v) - lo) / (hi - lo) * (H - top - bottom),
		at: place => x0 + (place - left) / wide * (x1 - x0),
		xTicks: ticks(x0, x1, 4).map(v => [v, v >= 1e4 ? v / 1000 + "k" : String(v)]),
		yTicks: o.log ? logTicks(10 ** lo, 10 ** hi) : ticks(lo, hi, 4).map(v => [v, tell(v, 4)]),
	};
}

/* Not every line of metrics has every value: the curve goes on to the next that has. */
function pathOf(x, values, s, log) {
	const places = x.map((_, i) => i).filter(i => finite(values[i]) && (!log || values[i] > 0));
	return places.map((i, k) => `${k ? "L" : "M"}${s.x(x[i]).toFixed(1)} ${s.y(values[i]).toFixed(1)}`).join("");
}

function plotPicture(x, series, s, o, inside) {
	const { W, H, left, right, top, bottom } = plotBox, base = H - bottom;
	return frame(W, H, `${o.title}: ` + series.map(one => `${one.name} ends at ${short(latest(one.values, x.length - 1), 4)}`).join(", "),
		s.yTicks.map(([v, t]) => [line(left, s.y(v), W - right, s.y(v), "grid"), text(left - 6, s.y(v) + 4, t, "end")]),
		s.xTicks.map(([v, t]) => [line(s.x(v), base, s.x(v), base + 4, "axis"), text(s.x(v), base + 15, t)]),
		(o.marks || []).map(v => line(s.x(v), top, s.x(v), base, "resampled")),
		line(left, base, W - right, base, "axis"), inside, text((left + W - right) / 2, H - 2, o.xLabel, "middle", "label"));
}

const figure = (o, ...inside) => el("figure", { class: "plot" }, el("figcaption", {}, el("h4", {}, o.title), o.note && el("p", {}, o.note)), inside);

/*
 * series: [{ name, values (null: none) }]; o: { title, note, log, format, marks [x…], xLabel }.
 * Under the curves stand the last values; those of the place pointed at while there is one.
 */
function curves(x, series, o) {
	series = series.filter(one => one.values && one.values.some(finite));
	const all = series.flatMap(one => one.values.filter(v => finite(v) && (!o.log || v > 0)));
	if (!all.length)
		return null;
	const s = plotScales(x, all, o), { W, H, top, bottom } = plotBox, readout = el("p", { class: "readout" }), cursor = line(0, top, 0, H - bottom, "cursor");
	const tell = i => readout.replaceChildren(...series.map((one, k) => el("span", {}, el("i", { class: "key s" + k }), ` ${one.name} `,
		el("b", {}, (o.format || short)(latest(one.values, i), 4)))), el("span", { class: "at" }, `${o.xLabel} ${whole(x[i])}`));
	const dots = (one, k) => one.values.filter(finite).length > 1 ? null : one.values.map((v, i) =>
		finite(v) && (!o.log || v > 0) ? svg("circle", { cx: s.x(x[i]), cy: s.y(v), r: 3, class: "dot s" + k }) : null);
	const picture = plotPicture(x, series, s, o, [series.map((one, k) => svg("path", { class: "curve s" + k, d: pathOf(x, one.values, s, o.log) })), series.map(dots), cursor]);
	picture.addEventListener("pointermove", event => {
		const box = picture.getBoundingClientRect(), v = s.at((event.clientX - box.left) * W / box.width);
		const i = x.reduce((best, xi, k) => Math.abs(xi - v) < Math.abs(x[best] - v) ? k : best, 0);
		tell(i);
		cursor.setAttribute("transform", `translate(${s.x(x[i])} 0)`);
		cursor.classList.add("on");
	});
	picture.addEventListener("pointerleave", () => {
		tell(x.length - 1);
		cursor.classList.remove("on");
	});
	tell(x.length - 1);
	return figure(o, picture, readout);
}

