/**
 * Small values that thousands of records have in common, kept once: lists of ports, zones, flags.
 * A cluster with 100,000 endpoints has a few dozen different ones.
 */
import { intern } from "./labels.js";

/** Then it begins anew: what was shared stays valid, only no longer shared with what comes. */
const VALUES_MAX = 10_000;

/** Frozen values by their JSON text. */
export class Shared<T extends object> {
	#values = new Map<string, T>();

	/** The value that says the same as this one. It must not be changed any more. */
	one(value: T): T {
		const key = JSON.stringify(value);
		const known = this.#values.get(key);
		if (known !== undefined) return known;
		if (this.#values.size >= VALUES_MAX) this.#values = new Map();
		this.#values.set(key, value);
		return value;
	}
}

/** The one empty list of texts. */
export const NO_TEXTS: readonly string[] = Object.freeze([]);

const lists = new Shared<readonly string[]>();

/** Names that many records share: zones, Nodes. */
export function shareTexts(texts: readonly string[]): readonly string[] {
	if (texts.length === 0) return NO_TEXTS;
	return lists.one(texts.map(intern));
}
