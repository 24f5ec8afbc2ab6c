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

/*
 * Bars of counts on a logarithmic scale.
 *   edges (n + 1) on the x axis, counts (n); o: { W, H, label, xTicks [[x, text]…], xLabel, yLabel,
 *   bar(i) -> { cls, title, click } }
 */
function bars(edges, counts, o) {
	const W = o.W || 460, H = o.H || 180, left = 44, right = 10, top = 10, bottom = 36;
	const most = Math.max(1, ...counts), height = Math.log10(most) + 0.3;
	const x = v => left + (v - edges[0]) / (edges[counts.length] - edges[0]) * (W - left - right);
	const y = c => c ? H - bottom - (Math.log10(c) + 0.3) / (height + 0.1) * (H - top - bottom) : H - bottom;
	const decades = powers(0, Math.log10(most)), each = Math.ceil(decades.length / 5);
	return frame(W, H, o.label,
		decades.filter(d => d % each == 0).map(d => [line(left, y(10 ** d), W - right, y(10 ** d), "grid"), text(left - 6, y(10 ** d) + 4, powerOf10(d), "end")]),
		counts.map((c, i) => {
			const a = x(edges[i]), b = x(edges[i + 1]), look = o.bar ? o.bar(i) : {};
			const gap = Math.min(1, (b - a) / 5);
			return c ? svg("rect", { x: a + gap / 2, y: y(c), width: Math.max(0.5, b - a - gap), height: H - bottom - y(c), class: "bar " + (look.cls || ""), click: look.click },
				svg("title", {}, look.title || whole(c))) : null;
		}),
		line(left, H - bottom, W - right, H - bottom, "axis"),
		(o.xTicks || []).map(([v, s]) => [line(x(v), H - bottom, x(v), H - bottom + 4, "axis"), text(x(v), H - bottom + 16, s)]),
		(o.lines || []).map(([v, s]) => [line(x(v), top, x(v), H - bottom, "cut"), text(x(v) + 4, top + 9, s, "start")]),
		o.xLabel && text((left + W - right) / 2, H - 3, o.xLabel, "middle", "label"),
		o.yLabel && svg("text", { transform: `translate(11 ${(H - bottom + top) / 2}) rotate(-90)`, "text-anchor": "middle", class: "label" }, o.yLabel));
}

/* Small histogram of heights 0…255. */
function sparkline(heights) {
	const w = 3, H = 22;
	return svg("svg", { viewBox: `0 0 ${heights.length * w} ${H}`, class: "spark", "aria-hidden": "true" },
		svg("path", { d: Array.from(heights, (h, i) => h ? `M${i * w} ${H}v${-(h / 255 * H).toFixed(1)}h${w - 0.6}V${H}z` : "").join("") }));
}

/*
 * Curves over x.  series: [{ name, values (null: none), format }]; o: { title, note, log, marks [x…], xLabel }
 * Moving over the chart shows the values at that place.
 */
function curves(x, series, o) {
	const W = 420, H = 190, left = 52, right = 12, top = 8, bottom = 32;
	series = series.filter(s => s.values && s.values.some(v => v != null && isFinite(v)));
	if (!series.length)
		return null;
	const all = series.flatMap(s => s.values.filter(v => v != null && isFinite(v) && (!o.log || v > 0)));
	if (!all.length)
		return null;
	const map = o.log ? Math.log10 : v => v;
	let lo = map(Math.min(...all)), hi = map(Math.max(...all));
	if (hi - lo < 1e-9 * Math.max(1, Math.abs(hi)))
		[lo, hi] = [lo - (Math.abs(lo) || 1) * 0.1, hi + (Math.abs(hi) || 1) * 0.1];
	[lo, hi] = [lo - (hi - lo) * 0.05, hi + (hi - lo) * 0.05];
	const x0 = Math.min(x[0], o.from ?? x[0]), x1 = x[x.length - 1];
	const px = v => left + (x1 > x0 ? (v - x0) / (x1 - x0) : 0.5) * (W - left - right);
	const py = v => H - bottom - (map(v) - lo) / (hi - lo) * (H - top - bottom);
	const yTicks = o.log && hi - lo > 1 ? powers(lo, hi).map(p => [10 ** p, powerOf10(p)]) :
		o.log ? ticks(10 ** lo, 10 ** hi, 3).filter(v => v > 0).map(v => [v, short(v)]) :
		ticks(lo, hi, 4).map(v => [v, short(v, 4)]);
	const readout = el("p", { class: "readout" }), cursor = line(0, top, 0, H - bottom, "cursor");
	const tell = i => readout.replaceChildren(...series.map((s, k) => el("span", {}, el("i", { class: "key s" + k }), ` ${s.name} `,
		el("b", {}, s.values[i] == null ? "–" : (s.format || short)(s.values[i], 4)))), el("span", { class: "at" }, `${o.xLabel} ${whole(x[i])}`));
	const picture = frame(W, H, `${o.title}: ` + series.map(s => `${s.name} ends at ${short(s.values[x.length - 1], 4)}`).join(", "),
		yTicks.map(([v, s]) => [line(left, py(v), W - right, py(v), "grid"), text(left - 6, py(v) + 4, s, "end")]),
		ticks(x0, x1, 4).map(v => [line(px(v), H - bottom, px(v), H - bottom + 4, "axis"), text(px(v), H - bottom + 15, v >= 1e4 ? v / 1000 + "k" : String(v))]),
		(o.marks || []).map(v => line(px(v), top, px(v), H - bottom, "resampled")),
		line(left, H - bottom, W - right, H - bottom, "axis"),
		series.map((s, k) => svg("path", { class: "curve s" + k, d: pathOf(x, s.values, px, py, o.log) })),
		series.map((s, k) => x.length == 1 && s.values[0] != null && (!o.log || s.values[0] > 0) ? svg("circle", { cx: px(x[0]), cy: py(s.values[0]), r: 3, class: "dot s" + k }) : null),
		text((left + W - right) / 2, H - 2, o.xLabel, "middle", "label"), cursor);
	const at = event => {
		const box = picture.getBoundingClientRect(), v = x0 + ((event.clientX - box.left) * W / box.width - left) / (W - left - right) * (x1 - x0);
		return x.reduce((best, xi, i) => Math.abs(xi - v) < Math.abs(x[best] - v) ? i : best, 0);
	};
	picture.addEventListener("pointermove", event => {
		const i = at(event);
		tell(i);
		cursor.setAttribute("transform", `translate(${px(x[i])} 0)`);
		cursor.classList.add("on");
	});
	picture.addEventListener("pointerleave", () => {
		tell(x.length - 1);
		cursor.classList.remove("on");
	});
	tell(x.length - 1);
	return el("figure", { class: "plot" }, el("figcaption", {}, el("h3", {}, o.title), o.note && el("p", {}, o.note)), picture, readout);
}

function pathOf(x, values, px, py, log) {
	let d = "", pen = "M";
	values.forEach((v, i) => {
		if (v == null || !isFinite(v) || (log && v <= 0)) {
			pen = "M";
			return;
		}
		d += `${pen}${px(x[i]).toFixed(1)} ${py(v).toFixed(1)}`;
		pen = "L";
	});
	return d;
}

