/* ---- examples: tokens of a context, shaded and underlined, each with its numbers ---- */

/* An example as arrays over its window. */
function unpack(example) {
	const [centre, tokens, sparse] = example, ids = Array.from(arrayOf(Uint16Array, tokens));
	const x = { centre, tokens: ids, acts: ids.map(() => 0), effects: ids.map(() => 0), logits: ids.map(() => 0) };
	for (let i = 0; i < sparse.length; i += 4) {
		x.acts[sparse[i]] = sparse[i + 1];
		x.effects[sparse[i]] = sparse[i + 2];
		x.logits[sparse[i]] = sparse[i + 3];
	}
	return x;
}

const middle = x => (x.tokens.length - 1) / 2;

function placeOf(x, w) {
	const place = x.centre + w - middle(x), { block } = site.index;
	return `place ${place % block} of context ${Math.floor(place / block)}`;
}

/* The effect on token w as the next one: that of the feature at the token before. */
const effectOn = (x, w, of = x.effects) => w ? of[w - 1] : 0;

/* ---- what is said of the token under the pointer or in focus ---- */
function hideTip() {
	$("tip").hidden = true;
	document.querySelectorAll(".tok.at").forEach(t => t.classList.remove("at"));
}

/* Token w of an example: where it is, and its numbers. */
function tipText(x, w, names, max) {
	const row = (name, ...value) => el("div", {}, el("dt", {}, name), el("dd", {}, value));
	const effect = e => [signed(e, 4) + " nats", e ? el("span", { class: e > 0 ? "hurts" : "helps" },
		e > 0 ? " taking the feature out hurts" : " taking the feature out helps") : ""];
	return [
		el("p", {}, tokenNode(x.tokens[w], names), el("span", {}, ` token ${x.tokens[w]}, ${placeOf(x, w)}`)),
		el("dl", {}, row("activation", short(x.acts[w], 5), x.acts[w] ? ` (${percent(x.acts[w] / max, 2)} of the maximum)` : ""),
			w && x.tokens[w - 1] != NO_TOKEN ? [row("effect on it as the next token", effect(effectOn(x, w))),
				row("… on its logit", signed(effectOn(x, w, x.logits), 4))] : null,
			row("effect on the one after it", effect(x.effects[w])), row("… on its logit", signed(x.logits[w], 4))),
	];
}

function tipAt(node, content) {
	hideTip();
	$("tip").replaceChildren(...content);
	node.classList.add("at");
	$("tip").hidden = false;
	const box = node.getBoundingClientRect(), tip = $("tip").getBoundingClientRect(), above = box.top - tip.height - 6;
	const left = Math.max(6, Math.min(box.left, document.documentElement.clientWidth - tip.width - 6));
	$("tip").style.left = left + window.scrollX + "px";
	$("tip").style.top = (above < 60 ? box.bottom + 6 : above) + window.scrollY + "px";
}

/* Arrow keys go along the tokens of a line in focus, as far as they are shown. */
function walkTokens(line, tokens, centre, showAt) {
	let at = centre;
	line.addEventListener("focus", () => line.matches(":focus-visible") && showAt(at = centre));
	line.addEventListener("blur", hideTip);
	line.addEventListener("keydown", event => {
		const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key] * (line.dir == "rtl" ? -1 : 1);
		if (!by)
			return;
		event.preventDefault();
		if (!tokens[at].isConnected)
			at = centre;		/* less is shown than before */
		if (tokens[at + by] && tokens[at + by].isConnected)
			showAt(at += by);
	});
}

/* ---- an example ---- */
const NEAR = 10;	/* tokens to either side that are shown before it is expanded */

function exampleToken(x, w, pieces, scale) {
	const effect = effectOn(x, w), strength = Math.min(1, Math.abs(effect) / scale.effect), marked = strength > 0.02;
	const node = el("span", {
		class: "tok" + (w == middle(x) ? " centre" : "") + (marked ? effect > 0 ? " hurts" : " helps" : ""),
	}, pieceNodes(pieces));
	if (x.acts[w] > 0)
		node.style.setProperty("--a", (8 + 92 * Math.min(1, x.acts[w] / scale.max)).toFixed(1) + "%");
	if (marked)
		node.style.setProperty("--e", (20 + 80 * strength).toFixed(1) + "%");
	return node;
}

/* Its tokens near the middle, or all: from the first to the last that there is. */
function reach(x, whole) {
	const near = whole ? Infinity : NEAR, there = (_, w) => x.tokens[w] != NO_TOKEN && Math.abs(w - middle(x)) <= near;
	return [x.tokens.findIndex(there), x.tokens.findLastIndex(there)];
}

/* The line of an example's tokens, and open(whole) which shows more or less of it. */
function exampleText(x, names, scale) {
	const lists = piecesOf(x.tokens, names), value = short(x.acts[middle(x)]);
	const tokens = [];		/* made when they are first shown */
	const line = el("p", { class: "context", tabindex: 0, role: "group", translate: "no", dir: direction(lists) });
	const showAt = w => tipAt(tokens[w], tipText(x, w, names, scale.max)), [first, last] = reach(x, true);
	line.addEventListener("pointerover", event => {
		const token = event.target.closest(".tok");
		if (token)
			showAt(tokens.indexOf(token));
	});
	/* a finger leaves as soon as it has tapped */
	line.addEventListener("pointerleave", event => event.pointerType == "touch" || hideTip());
	walkTokens(line, tokens, middle(x), showAt);
	return [line, whole => {
		const [from, to] = reach(x, whole);
		for (let w = from; w <= to; w++)
			tokens[w] ||= exampleToken(x, w, lists[w], scale);
		line.replaceChildren(...tokens.slice(from, to + 1));
		line.classList.toggle("cut-before", from > first);
		line.classList.toggle("cut-after", to < last);
		line.setAttribute("aria-label", `activation ${value}: ${lists.slice(from, to + 1).map(plain).join("")}`);
	}];
}

const isWider = x => String(reach(x, true)) != String(reach(x, false));

/* With a button that expands it, where there is more to show; Enter in the line does the same. */
function exampleLine(x, names, scale) {
	const [line, open] = exampleText(x, names, scale), value = short(x.acts[middle(x)]);
	const more = isWider(x) && el("button", { class: "more", type: "button", "aria-label": "Whole context", title: "Whole context (Enter)" });
	const toggle = whole => {
		open(whole);
		if (more) {
			more.setAttribute("aria-expanded", whole);
			more.textContent = whole ? "−" : "+";
		}
	};
	if (more) {
		more.addEventListener("click", () => {
			hideTip();
			toggle(more.ariaExpanded == "false");
		});
		line.addEventListener("keydown", event => event.key == "Enter" && more.click());
	}
	toggle(Boolean(parts.whole));
	return el("li", { class: "example" }, el("span", { class: "value", title: placeOf(x, middle(x)) }, value), line, more);
}

const exampleList = (examples, names, scale) =>
	el("ol", { class: "examples" }, examples.map(x => exampleLine(x, names, scale)));

/* A button that shows more or less of all examples, also of those of the features that follow. */
function expandAll() {
	const name = () => parts.whole ? "Collapse all" : "Expand all";
	const click = event => {
		parts.whole = !parts.whole;
		document.querySelectorAll(`.more[aria-expanded=${!parts.whole}]`).forEach(more => more.click());
		event.target.textContent = name();
	};
	return el("button", { class: "all", type: "button", click }, name());
}
