/** Keeps nothing: calls back whenever something may have changed. */
import type { Mirror } from "./mirror.js";

export class NoticeMirror implements Mirror {
	readonly #onChange: () => void;

	constructor(onChange: () => void) {
		this.#onChange = onChange;
	}

	begin(): void {}

	list(): void {}

	unlist(): void {}

	async end(): Promise<void> {
		this.#onChange();
	}

	change(): void {
		this.#onChange();
	}

	remove(): void {
		this.#onChange();
	}
}
