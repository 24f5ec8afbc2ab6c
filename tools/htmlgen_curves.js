/* ---- curves over the steps of a training ---- */
const plotBox = { W: 420, H: 190, left: 52, right: 12, top: 8, bottom: 36 };
const finite = v => v != null && isFinite(v);
/* Not every line of metrics has every value: the last up to place i. */
const latest = (values, i) => i < 0 || finite(values[i]) ? values[i] : latest(values, i - 1);

/* Scales of a plot: x, y: value -> place; at: place -> value of x; xTicks, yTicks. */
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

const figure = (o, ...inside) => el("figure", { class: "plot" },
	el("figcaption", {}, el("h4", {}, o.title), o.note && el("p", {}, o.note)), inside);

/* One curve: a path through what there is, or a dot where there is but one value. */
function curve(x, values, s, log, cls) {
	const places = x.map((_, i) => i).filter(i => finite(values[i]) && (!log || values[i] > 0));
	if (places.length == 1)
		return svg("circle", { cx: s.x(x[places[0]]), cy: s.y(values[places[0]]), r: 3, class: "dot " + cls });
	const point = (i, k) => `${k ? "L" : "M"}${s.x(x[i]).toFixed(1)} ${s.y(values[i]).toFixed(1)}`;
	return svg("path", { class: "curve " + cls, d: places.map(point).join("") });
}

/*
 * series: [{ name, values (null: none) }]; o: { title, note, log, format, marks [x…], xLabel }.
 * Under the curves stand the last values; those of the place pointed at while there is one.
 */
function curves(x, series, o) {
	series = series.filter(one => one.values && one.values.some(finite));
	const all = series.flatMap(one => one.values.filter(v => finite(v) && (!o.log || v > 0)));
	if (!all.length)
		return null;
	const s = plotScales(x, all, o), { W, H, top, bottom } = plotBox, last = x.length - 1, format = o.format || short;
	const readout = el("p", { class: "readout" }), cursor = line(0, top, 0, H - bottom, "cursor");
	const value = i => (one, k) => el("span", {}, el("i", { class: "key s" + k }), ` ${one.name} `,
		el("b", {}, format(latest(one.values, i), 4)));
	const tell = i => readout.replaceChildren(...series.map(value(i)),
		el("span", { class: "at" }, `${o.xLabel} ${whole(x[i])}`));
	const ends = series.map(one => `${one.name} ends at ${format(latest(one.values, last), 4)}`).join(", ");
	const picture = frame(W, H, `${o.title}: ${ends}`, axes(plotBox, s.x, s.y, s.xTicks, s.yTicks, o.xLabel),
		(o.marks || []).map(v => line(s.x(v), top, s.x(v), H - bottom, "resampled")),
		series.map((one, k) => curve(x, one.values, s, o.log, "s" + k)), cursor);
	picture.addEventListener("pointermove", event => {
		const box = picture.getBoundingClientRect(), v = s.at((event.clientX - box.left) * W / box.width);
		const i = x.reduce((best, xi, k) => Math.abs(xi - v) < Math.abs(x[best] - v) ? k : best, 0);
		tell(i);
		cursor.setAttribute("transform", `translate(${s.x(x[i])} 0)`);
		cursor.classList.add("on");
	});
	picture.addEventListener("pointerleave", () => {
		tell(last);
		cursor.classList.remove("on");
	});
	tell(last);
	return figure(o, picture, readout);
}

/* plot(title, note, [[name, key]…], more): a chart of columns of a run */
const plotter = (run, x, common) => (title, note, names, more) =>
	curves(x, names.map(([name, key]) => ({ name, values: run.curves[key] })), { ...common, title, note, ...more });

function saeCurves() {
	const run = site.sae, x = run.curves.step, resampled = run.curves.resampled || [];
	const plot = plotter(run, x, { xLabel: "step", marks: x.filter((_, i) => resampled[i] > 0) });
	return [
		plot("Loss recovered", "", [["against zeros", "eval.loss_recovered"], ["against the mean", "eval.loss_recovered_mean"]],
			{ format: percent }),
		plot("L0", "features active on a token, log scale", [["validation", "eval.l0"], ["training", "train.l0"]], { log: true }),
		plot("Explained variance", "", [["validation", "eval.explained_variance"]], { format: percent }),
		plot("Mean squared error", "log scale", [["validation", "eval.mse"], ["training", "train.mse"]], { log: true }),
		plot("L1", "sum of activations on a token, log scale", [["validation", "eval.l1"], ["training", "train.l1"]], { log: true }),
		plot("Training loss", "error and penalty, log scale", [["loss", "train.loss"]], { log: true }),
		plot("Features", "on validation text",
			[["dead", "eval.dead"], ["ultra-low", "eval.ultra_low"], ["high", "eval.high"]]),
		plot("Next-token loss", "nats", [["clean", "eval.loss_clean"], ["spliced", "eval.loss_spliced"],
			["mean-ablated", "eval.loss_mean"], ["zero-ablated", "eval.loss_zero"]]),
		densityOverTraining(run, x),
		plot("Learning rate", "", [["rate", "lr"]]),
	];
}

function gptCurves() {
	const plot = plotter(site.gpt, site.gpt.curves.iter, { xLabel: "iteration" });
	return [
		plot("Loss", "nats a token",
			[["validation", "val_loss"], ["training", "train_loss"], ["unigram baseline", "unigram"]]),
		plot("Learning rate", "", [["rate", "lr"]]),
		plot("Gradient norm", "before clipping", [["norm", "grad_norm"]]),
	];
}

/* Each column an evaluation, each row a bin of log10 density; darker: more features. */
function densityOverTraining(run, x) {
	const all = run.curves["eval.density_bins"] || [], places = x.map((_, i) => i).filter(i => all[i]);
	const bins = places.map(i => all[i]), used = Array.from(bins[0] || [], (_, b) => b).filter(b => bins.some(row => row[b]));
	if (!used.length)
		return null;
	const width = run.curves["eval.density_width"][places[0]], first = used[0];
	const lo = run.curves["eval.density_from"][places[0]] + first * width, rows = used[used.length - 1] - first + 1;
	const { W, H, left, right, top, bottom } = plotBox, base = H - bottom, most = Math.max(...bins.flat());
	const cw = (W - left - right) / bins.length, rh = (base - top) / rows;
	const cell = (c, i, b) => c ? svg("rect", {
		x: (left + i * cw).toFixed(2), y: (base - (b + 1) * rh).toFixed(2), class: "cell",
		width: (cw + 0.3).toFixed(2), height: (rh + 0.3).toFixed(2),
		"fill-opacity": (0.08 + 0.92 * Math.log1p(c) / Math.log1p(most)).toFixed(3),
	}) : null;
	const y = p => base - (p - lo) / (rows * width) * (base - top);
	return figure({ title: "Densities", note: "on validation text; darker: more features" },
		frame(W, H, "Histogram of log10 density at each evaluation",
			axes(plotBox, v => v, y, [], powers(lo, lo + rows * width).map(p => [p, powerOf10(p)]), "step"),
			bins.map((row, i) => row.slice(first, first + rows).map((c, b) => cell(c, i, b))),
			text(left, base + 16, whole(x[places[0]]), "start"),
			text(W - right, base + 16, whole(x[places[places.length - 1]]), "end")));
}

function trainingSection() {
	const part = (title, note, plots) =>
		[el("h3", { class: "run" }, title), note && el("p", {}, note), el("div", { class: "plots" }, plots)];
	const dashed = site.sae && (site.sae.curves.resampled || []).some(n => n > 0);
	return el("section", { id: "training", "aria-labelledby": "h-training" }, el("h2", { id: "h-training" }, "Training"),
		site.sae ? part("Autoencoder",
			dashed && "Dashed lines: dead features were given new directions (resampling).", saeCurves()) :
			el("p", {}, "The autoencoder's metrics were not given."),
		site.gpt ? part("Language model", null, gptCurves()) : null);
}

