/**
 * Which selectors match an object's labels: by a label that a selector requires, so that the cost is that of
 * the selectors which may match, not of all.
 */
import type { Labels } from "../cluster/labels.js";
import { matches, type Selector } from "../cluster/selector.js";

interface Entry<T> {
	selector: Selector;
	value: T;
}

export class SelectorIndex<T> {
	/** By "key\0value" of a label that the selector requires. */
	readonly #byLabel = new Map<string, Entry<T>[]>();
	/** Those that require none in particular. */
	readonly #others: Entry<T>[] = [];

	add(selector: Selector, value: T): void {
		const entry = { selector, value };
		const required = selector
			.filter(({ operator }) => operator === "In")
			.sort((a, b) => a.values.length - b.values.length)[0];
		if (required === undefined) this.#others.push(entry);
		for (const text of required?.values ?? []) {
			const key = `${required!.key}\0${text}`;
			const entries = this.#byLabel.get(key);
			if (entries === undefined) this.#byLabel.set(key, [entry]);
			else entries.push(entry);
		}
	}

	/** Values of all that match, each once, in no particular order. */
	*matching(labels: Labels): Generator<T> {
		for (const { selector, value } of this.#others) if (matches(selector, labels)) yield value;
		if (this.#byLabel.size === 0) return;
		for (let at = 0; at < labels.length; at += 2)
			for (const { selector, value } of this.#byLabel.get(`${labels[at]}\0${labels[at + 1]}`) ?? [])
				if (matches(selector, labels)) yield value;
	}
}
