/**
 * The clock of the periodic full look: what others do to links, tables and devices of ours without
 * any message of the kernel's (a removed filter, a detached tcx link, a written map) is found and put right.
 */

const EVERY_MS = 60_000;

export class FullLook {
	readonly #look: () => Promise<unknown>;
	readonly #everyMs: number;
	#timer: NodeJS.Timeout | undefined;
	#closed = false;

	/** @param look never more than one at a time; one that rejects is made again at its time */
	constructor(look: () => Promise<unknown>, everyMs = EVERY_MS) {
		this.#look = look;
		this.#everyMs = everyMs;
		this.#schedule();
	}

	close(): void {
		this.#closed = true;
		clearTimeout(this.#timer);
	}

	#schedule(): void {
		if (this.#closed) return;
		this.#timer = setTimeout(() => {
			void this.#look()
				.catch(() => {})
				.finally(() => this.#schedule());
		}, this.#everyMs);
		this.#timer.unref();
	}
}
