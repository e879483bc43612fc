/**
 * Labels of objects: keys and values in turn, by key. An array, not an object: labels have thousands of
 * shapes, and V8 gives each one a hidden class of its own.
 */
export type Labels = readonly string[];

export const NO_LABELS: Labels = [];

/** `metadata.labels`; values that are not strings, which the API never has, are left out. */
export function readLabels(value: unknown): Labels {
	if (typeof value !== "object" || value === null || Array.isArray(value)) return NO_LABELS;
	const labels: string[] = [];
	for (const key of Object.keys(value).sort()) {
		const text = (value as Record<string, unknown>)[key];
		if (typeof text === "string") labels.push(intern(key), intern(text));
	}
	return labels.length === 0 ? NO_LABELS : labels;
}

export function labelOf(labels: Labels, key: string): string | undefined {
	for (let at = 0; at < labels.length; at += 2) if (labels[at] === key) return labels[at + 1];
	return undefined;
}

/** Texts that are kept once, for all objects that say the same. */
let texts = new Map<string, string>();
/** Then it begins anew: what was interned stays valid, only no longer shared with what comes. */
const TEXTS_MAX = 50_000;

export function intern(text: string): string {
	const known = texts.get(text);
	if (known !== undefined) return known;
	if (texts.size >= TEXTS_MAX) texts = new Map();
	texts.set(text, text);
	return text;
}
