/* ---- words: what a reader who has not seen the paper must know, each in a sentence or two ---- */
const words = [
	["token", "A piece of text as the language model reads it, a word or a part of one; ␣ is a space that belongs to it."],
	["feature", "A direction in the activations of the language model that the autoencoder learned; it is active on a " +
		"token when its activation there is above 0."],
	["firing", "A token on which a feature is active."],
	["density", "The share of all tokens on which a feature is active."],
	["L0", "How many features are active on a token, on average: the sum of all densities; the fewer, the sparser " +
		"the description."],
	["activation", "How strongly a feature is present at a token, 0 where it is not; the decoder adds its direction that many times."],
	["logit weight", "How much one unit of a feature, read directly by the output layer, raises the score of a token as " +
		"the next one, above that of the median token."],
	["ablation effect", "By how much the log-probability of the next token is higher with the feature than with the feature " +
		"taken out at that place; it stands under the token that was to be predicted, in blue where taking the feature out " +
		"hurts, in red where it helps."],
	["effect on the logit", "The same of the next token's logit, its score before those of all tokens are weighed against each " +
		"other: known of every token that was read; a feature's mean and mean size are over those on which it is active."],
	["interval", () => `One of ${whole(site.index.intervals)} equal parts of the range from 0 to the feature's largest activation; from each, ` +
		"firings are drawn at random, so that weak ones are seen too, not the strongest alone."],
	["cosine", "Of the angle between the decoder directions of two features: 1 when they are the same, 0 when they have nothing in " +
		"common, −1 when they are opposite."],
	["co-activation", "The share of this feature's firings (of a random sample, where there are many) on which the other feature is " +
		"active too. Features are listed by the overlap of both beside how often either fires, so that those that are always on do not win."],
	["neuron alignment", "Neurons are the inputs of the autoencoder; a feature's direction, of length 1, has an entry for each, whose " +
		"square is the neuron's share. Near 1 or −1 the feature is little else than that neuron; small entries alone mean that it is " +
		"spread over many."],
	["ultra-low density", () => `A feature that is active, but on less than ${percent(site.density.cut)} of tokens; ` +
		"most of these say little."],
	["high density", () => `A feature that is active on at least ${percent(site.density.cut)} of tokens.`],
	["dead", "A feature that was never active on the tokens that were read."],
	["next-token loss", "Minus the logarithm of the probability that the model gave to the token that came next, on average, " +
		"in nats (natural logarithm): the lower, the better it predicts."],
	["unigram baseline", "The next-token loss of a guess that knows nothing but how frequent each token is."],
	["spliced, ablated", "The model with its activations replaced: spliced, by the autoencoder's reconstruction; zero- and " +
		"mean-ablated, by zeros and by their mean."],
	["loss recovered", "How much of the model's prediction survives when the activations are replaced by their " +
		"reconstruction: 100 % is as good as the original, 0 % as bad as zeros."],
	["explained variance", "The share of the activations' variance about their mean that the reconstruction keeps."],
	["L1, lambda", "The sum of a token's activations; training charges lambda times its mean beside the mean squared error, " +
		"which keeps L0 low."],
	["resampling", "During training, features long silent are given new directions: those of inputs that were " +
		"reconstructed badly."],
];

function meaningOf(word) {
	const meaning = words.find(([name]) => name == word)[1];
	return typeof meaning == "function" ? meaning() : meaning;
}

/* All of them, as children of a list. */
const wordList = () => words.map(([word]) => [el("dt", {}, word), el("dd", {}, meaningOf(word))]).flat();

/* A small button that opens what a word means beside it. */
function why(word) {
	const note = el("span", { class: "meaning", popover: "auto", role: "note" }, el("b", {}, word), ": ", meaningOf(word));
	const button = el("button", { type: "button", class: "why", "aria-label": `What is ${word}?` }, "?");
	button.popoverTargetElement = note;
	note.addEventListener("beforetoggle", event => event.newState == "open" && placeBelow(note, button));
	note.addEventListener("toggle", event => event.newState == "open" && note.scrollIntoView({ block: "nearest" }));
	return [button, note];
}

/* Below the button, within the page's width; .meaning is 24rem wide where there is room. */
function placeBelow(note, button) {
	const box = button.getBoundingClientRect(), room = document.documentElement.clientWidth;
	const width = Math.min(24 * parseFloat(getComputedStyle(document.documentElement).fontSize), room - 16);
	note.style.width = width + "px";
	note.style.left = Math.max(8, Math.min(box.left - 16, room - width - 8)) + window.scrollX + "px";
	note.style.top = box.bottom + 6 + window.scrollY + "px";
}


/* A heading and beside it, so that its name stays its own: the button of a word, or other elements. */
const heading = (tag, text, word, ...more) => el("div", { class: "titled" }, el(tag, {}, text), word && why(word), more);
