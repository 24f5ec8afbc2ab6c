/* What of the page is too faint, as an expression: "" or "TAG.CLASS,RATIO …".  Text against what is behind it: a ratio of
 * 4.5 at least, 3 when large; marks that mean something and the bounds of fields: 3 (WCAG 2, relative luminance). */
(() => {
	const pen = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
	const rgba = css => {
		pen.clearRect(0, 0, 1, 1);
		pen.fillStyle = css;
		pen.fillRect(0, 0, 1, 1);
		return [...pen.getImageData(0, 0, 1, 1).data].map(v => v / 255);
	};
	const over = (a, b) => b.map((v, i) => i < 3 ? a[i] * a[3] + v * (1 - a[3]) : 1);
	const light = c => [0.2126, 0.7152, 0.0722].reduce((s, w, i) => s + w * (c[i] <= 0.04045 ? c[i] / 12.92 : ((c[i] + 0.055) / 1.055) ** 2.4), 0);
	const behind = n => n ? over(rgba(getComputedStyle(n).backgroundColor), behind(n.parentElement)) : [1, 1, 1, 1];
	const ratio = (css, under) => {
		const [a, b] = [light(over(rgba(css), under)), light(under)].sort((x, y) => y - x);
		return (a + 0.05) / (b + 0.05);
	};
	const faint = new Map();
	const note = (n, what, found, least) => {
		const key = n.tagName + "." + (n.className.baseVal ?? n.className) + what;
		if (found < least && !(faint.get(key) <= found))
			faint.set(key, Number(found.toFixed(2)));
	};
	for (const n of document.querySelectorAll("body *")) {
		const s = getComputedStyle(n), size = parseFloat(s.fontSize);
		if (!n.getClientRects().length || s.visibility == "hidden" || n.closest("[aria-hidden=true]") && !n.closest(".spark"))
			continue;
		if ([...n.childNodes].some(t => t.nodeType == 3 && t.data.trim()) && n.tagName != "title")
			note(n, "", ratio(n.ownerSVGElement ? s.fill : s.color, behind(n)), size >= 24 || size >= 18.66 && s.fontWeight >= 700 ? 3 : 4.5);
		if (n.tagName == "INPUT")
			[[":border", s.borderTopColor, 3], ["::placeholder", getComputedStyle(n, "::placeholder").color, 4.5]].forEach(([what, css, least]) =>
				note(n, what, ratio(css, what == ":border" ? behind(n.parentElement) : behind(n)), least));
		if (n.matches(".meter, .key, .entry"))
			note(n, "", ratio(s.backgroundColor, behind(n.parentElement)), 3);
		if (n.matches(".bar, .dot, .spark path"))
			note(n, "", ratio(s.fill, behind(n.parentElement)), 3);
		if (n.ownerSVGElement && n.matches(".curve, .axis, .resampled"))
			note(n, "", ratio(s.stroke, behind(n.parentElement)), 3);
	}
	for (const name of ["--high", "--ultra", "--link", "--hurts", "--helps"]) {	/* dots of the canvas, rings of the focus, underlines */
		const probe = document.body.appendChild(document.createElement("i"));
		probe.style.color = `var(${name})`;
		note(probe, name, ratio(getComputedStyle(probe).color, behind(document.body)), 3);
		probe.remove();
	}
	return [...faint].join(" ");
})()
