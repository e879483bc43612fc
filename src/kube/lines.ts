/** Splits the bytes of a watch into its lines, each a JSON document. */

/** An object of the API has 1.5 MB at most. */
const LINE_MAX = 8 << 20;

export class Lines {
	#begun: Buffer[] = [];
	#length = 0;

	/**
	 * The lines that end in this chunk, without their ends. All are to be taken before the next chunk.
	 *
	 * @throws Error for a line that is longer than any object
	 */
	*take(chunk: Buffer): Generator<string, void> {
		let from = 0;
		for (;;) {
			const end = chunk.indexOf(0x0a, from);
			if (end < 0) break;
			const last = chunk.subarray(from, end);
			from = end + 1;
			const line =
				this.#begun.length === 0
					? last.toString("utf8")
					: Buffer.concat([...this.#begun, last]).toString("utf8");
			this.#begun = [];
			this.#length = 0;
			if (line.trim() !== "") yield line;
		}
		if (from === chunk.length) return;
		this.#begun.push(chunk.subarray(from));
		this.#length += chunk.length - from;
		if (this.#length > LINE_MAX)
			throw new Error(`expected lines of at most ${LINE_MAX} bytes, got more`);
	}
}
