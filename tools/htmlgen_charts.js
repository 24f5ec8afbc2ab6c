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

const superscript = n => String(n).replace(/./g, c => c == "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[c]);
const powerOf10 = n => n == 0 ? "1" : n == 1 ? "10" : "10" + superscript(n);

/* The whole numbers from lo to hi. */
function powers(lo, hi) {
	const first = Math.ceil(lo - 1e-9);
	return Array.from({ length: Math.max(0, Math.floor(hi + 1e-9) - first + 1) }, (_, i) => first + i);
}

/*
 * [value, text] of round values on a logarithmic scale: more to the decade where the range is short.
 * All are powers of 10 where some would be long as numbers.
 */
function logTicks(lo, hi) {
	const decades = Math.log10(hi / lo), factors = decades > 3 ? [1] : decades > 1.2 ? [1, 3] : [1, 2, 5];
	const plain = lo >= 0.0009 && hi < 1e5;
	const tell = (m, p) => plain ? short(m * 10 ** p) : (m == 1 ? "" : m + "·") + powerOf10(p);
	const inside = powers(Math.floor(Math.log10(lo)), Math.log10(hi))
		.flatMap(p => factors.map(m => [m * 10 ** p, tell(m, p)]))
		.filter(([v]) => v >= lo * 0.9999 && v <= hi * 1.0001);
	const each = Math.ceil(inside.length / 6);
	return inside.length > 1 ? inside.filter((_, i) => i % each == 0) : ticks(lo, hi, 3).map(v => [v, short(v)]);
}

const frame = (W, H, label, ...inside) =>
	svg("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": label, class: "chart" }, inside);

/* How far an arrow key goes, 0 for other keys. */
const arrowStep = event => ({ ArrowLeft: -1, ArrowRight: 1 })[event.key] || 0;
const text = (x, y, s, anchor = "middle", cls = "tick") => svg("text", { x, y, "text-anchor": anchor, class: cls }, s);
const line = (x1, y1, x2, y2, cls) => svg("line", { x1, y1, x2, y2, class: cls });

/* Axes of a box { W, H, left, right, top, bottom }: ticks [value, text] at places x(value), y(value). */
function axes(box, x, y, xTicks, yTicks, xLabel, yLabel) {
	const base = box.H - box.bottom, end = box.W - box.right, middle = (base + box.top) / 2;
	return [
		yTicks.map(([v, s]) => [line(box.left, y(v), end, y(v), "grid"), text(box.left - 6, y(v) + 4, s, "end")]),
		xTicks.map(([v, s]) => [line(x(v), base, x(v), base + 4, "axis"), text(x(v), base + 16, s)]),
		line(box.left, base, end, base, "axis"),
		text((box.left + end) / 2, box.H - 3, xLabel, "middle", "label"),
		yLabel && svg("text", {
			transform: `translate(10 ${middle}) rotate(-90)`, "text-anchor": "middle", class: "label",
		}, yLabel),
	];
}

/* Of a chart as wide as the page, in units of about a pixel, so that its text stays legible. */
const wideWidth = () => Math.min(1100, Math.max(400, $("main").clientWidth - 30));

/*
 * Bars of counts.  edges (n + 1) on the x axis, counts (n); o: { W, H, label, log, xTicks [[x, text]…],
 * xLabel, yLabel, lines [[x, text, anchor]…], bar(i) -> { cls, title, click } }
 */
function bars(edges, counts, o) {
	const box = { W: o.W, H: o.H, left: 58, right: 10, top: o.lines ? 24 : 10, bottom: 36 };
	const base = box.H - box.bottom, most = Math.max(2, ...counts), n = counts.length;
	const x = v => box.left + (v - edges[0]) / (edges[n] - edges[0]) * (box.W - box.left - box.right);
	const up = o.log ? c => (Math.log10(c) + 0.3) / (Math.log10(most) + 0.4) : c => c / most / 1.05;
	const y = c => c ? base - up(c) * (base - box.top) : base;
	const yTicks = o.log ? logTicks(1, most) :
		ticks(0, most, 4).filter(v => v == Math.round(v)).map(v => [v, whole(v)]);
	const one = (c, i) => {
		const a = x(edges[i]), b = x(edges[i + 1]), gap = Math.min(1, (b - a) / 5), look = o.bar(i);
		return c ? svg("rect", {
			x: a + gap / 2, y: y(c), width: Math.max(0.5, b - a - gap), height: base - y(c),
			class: "bar " + look.cls, click: look.click,
		}, svg("title", {}, look.title)) : null;
	};
	const mark = ([v, s, anchor]) => [
		line(x(v), 6, x(v), base, "cut"), text(x(v) + (anchor == "end" ? -6 : 6), 15, s, anchor),
	];
	const all = counts.map(one), picture = frame(box.W, box.H, o.label,
		axes(box, x, y, o.xTicks, yTicks, o.xLabel, o.yLabel), all, (o.lines || []).map(mark));
	const links = all.filter((bar, i) => bar && o.bar(i).click);
	return links.length ? linked(picture, links) : picture;
}

/* Bars that open something, without a mouse: one stop for Tab, arrows go along them, Enter opens. */
function linked(picture, links) {
	picture.setAttribute("role", "group");
	links.forEach((bar, i) => fill(bar, { role: "link", tabindex: i ? -1 : 0, "aria-label": bar.textContent }, []));
	picture.addEventListener("keydown", event => {
		const at = links.indexOf(event.target), next = links[at + arrowStep(event)];
		if (event.key == "Enter")
			event.target.dispatchEvent(new MouseEvent("click"));
		else if (!arrowStep(event))
			return;
		event.preventDefault();
		links[at].tabIndex = -1;
		(next || links[at]).tabIndex = 0;
		(next || links[at]).focus();
	});
	return picture;
}

/* Small histogram of heights 0…255. */
function sparkline(heights) {
	const w = 3, H = 22;
	const bar = (h, i) => h ? `M${i * w} ${H}v${-(h / 255 * H).toFixed(1)}h${w - 0.6}V${H}z` : "";
	return svg("svg", { viewBox: `0 0 ${heights.length * w} ${H}`, class: "spark", "aria-hidden": "true" },
		svg("path", { d: Array.from(heights, bar).join("") }));
}

/*
 * Many dots, on a canvas over its axes.  points: { x, y (n), colour(i): name of a style sheet's variable },
 * x and y given as their logarithms to base 10; o: { label, xLabel, yLabel, say(i): promise of nodes, click(i) }
 */
function scatter(points, n, o) {
	const box = { W: wideWidth(), H: 300, left: 52, right: 12, top: 8, bottom: 36 };
	const range = v => {
		let lo = Infinity, hi = -Infinity;
		for (let i = 0; i < n; i++)
			[lo, hi] = [Math.min(lo, v[i]), Math.max(hi, v[i])];
		return [lo - (hi - lo) * 0.03 - 0.02, hi + (hi - lo) * 0.03 + 0.02];
	};
	const [x0, x1] = range(points.x), [y0, y1] = range(points.y);
	const wide = box.W - box.left - box.right, high = box.H - box.top - box.bottom;
	const fx = v => (v - x0) / (x1 - x0), fy = v => (y1 - v) / (y1 - y0);
	const picture = frame(box.W, box.H, o.label, axes(box, v => box.left + fx(Math.log10(v)) * wide,
		v => box.top + fy(Math.log10(v)) * high, logTicks(10 ** x0, 10 ** x1), logTicks(10 ** y0, 10 ** y1),
		o.xLabel, o.yLabel));
	const canvas = el("canvas", { "aria-hidden": "true" }), ring = el("i", { class: "ring", hidden: true });
	const note = el("p", { class: "note", role: "status" }, o.label);
	Object.assign(canvas.style, {
		left: 100 * box.left / box.W + "%", top: 100 * box.top / box.H + "%",
		width: 100 * wide / box.W + "%", height: 100 * high / box.H + "%",
	});
	const draw = () => drawDots(canvas, points, n, fx, fy);
	const nearest = event => {
		const b = canvas.getBoundingClientRect();
		let best = -1, least = 12 ** 2;
		for (let i = 0; i < n; i++) {
			const dx = fx(points.x[i]) * b.width - (event.clientX - b.left);
			const dy = fy(points.y[i]) * b.height - (event.clientY - b.top), d = dx * dx + dy * dy;
			if (d < least)
				[best, least] = [i, d];
		}
		return best;
	};
	let told = -1;
	const tell = async i => {
		canvas.classList.toggle("on", i >= 0);
		ring.hidden = i < 0;
		if (told == i)
			return;
		told = i;
		if (i >= 0)
			Object.assign(ring.style, {
				left: 100 * (box.left + fx(points.x[i]) * wide) / box.W + "%",
				top: 100 * (box.top + fy(points.y[i]) * high) / box.H + "%",
			});
		const say = i >= 0 ? await o.say(i) : [o.label];
		if (told == i)
			note.replaceChildren(...say.flat(Infinity));
	};
	canvas.addEventListener("pointermove", event => tell(nearest(event)));
	canvas.addEventListener("click", event => {
		const i = nearest(event);
		if (i >= 0)
			o.click(i);
	});
	new ResizeObserver(draw).observe(canvas);
	document.addEventListener("theme", draw);
	matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
	const place = el("div", { class: "scatter", tabindex: 0, role: "group", "aria-label": o.label }, picture, canvas, ring);
	walkDots(place, points, n, tell, o.click);
	return [place, note];
}

/* Without a mouse: arrows go along the dots by their x, Page Up and Down by a twentieth of them, Enter opens. */
function walkDots(place, points, n, tell, click) {
	let order, at = 0;
	place.addEventListener("focus", () => {
		order ||= Uint32Array.from({ length: n }, (_, i) => i).sort((a, b) => points.x[a] - points.x[b] || points.y[a] - points.y[b]);
		tell(order[at]);
	});
	place.addEventListener("blur", () => tell(-1));
	place.addEventListener("keydown", event => {
		const by = arrowStep(event) || ({ PageUp: -1, PageDown: 1 })[event.key] * Math.ceil(n / 20) || 0;
		if (event.key == "Enter")
			click(order[at]);
		else if (by)
			tell(order[at = Math.max(0, Math.min(n - 1, at + by))]);
		else
			return;
		event.preventDefault();
	});
}

function drawDots(canvas, points, n, fx, fy) {
	const scale = window.devicePixelRatio || 1, w = canvas.clientWidth, h = canvas.clientHeight;
	const style = getComputedStyle(canvas), r = n > 20000 ? 1 : n > 2000 ? 1.7 : 2.5;
	canvas.width = w * scale;
	canvas.height = h * scale;
	const pen = canvas.getContext("2d"), paths = {};
	pen.scale(scale, scale);
	for (let i = 0; i < n; i++) {
		const path = paths[points.colour(i)] ||= new Path2D(), x = fx(points.x[i]) * w, y = fy(points.y[i]) * h;
		if (r > 1) {
			path.moveTo(x + r, y);
			path.arc(x, y, r, 0, 7);
		} else {
			path.rect(x - r, y - r, 2 * r, 2 * r);
		}
	}
	pen.globalAlpha = 0.7;
	for (const [name, path] of Object.entries(paths)) {
		/* a canvas knows no light-dark(): take the colour that the element has for now */
		canvas.style.color = `var(${name})`;
		pen.fillStyle = style.color;
		pen.fill(path);
	}
}

