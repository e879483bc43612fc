/**
 * Splits a list of the API into its items while it arrives, so that it is never in memory as a whole:
 *
 *   {"kind":"NodeList","apiVersion":"v1","metadata":{...},"items":[{...},{...}]}
 *
 * It parses only as much JSON as this needs: depth, strings, and the key before a value. The caller parses the
 * items; the text around them is parsed at the end.
 */

const [QUOTE, BACKSLASH, COMMA, COLON] = [0x22, 0x5c, 0x2c, 0x3a];
const [BRACE, BRACE_END, BRACKET, BRACKET_END] = [0x7b, 0x7d, 0x5b, 0x5d];

/** The most bytes of one item, and of everything outside the items. */
const TEXT_MAX = 8 << 20;

export interface ListHead {
	kind: string;
	resourceVersion: string;
	/** "": this was the last page. */
	continue: string;
}

export class ListItems {
	/** Number of open braces and brackets. */
	#depth = 0;
	#inString = false;
	#escaped = false;
	/** The string that ended last at depth 1, with its quotes: a key, if a colon follows. */
	#text: number[] = [];
	#key = "";
	/** Inside the brackets of "items". */
	#inItems = false;
	/** Parts of the present item. */
	#item: Buffer[] = [];
	#itemLength = 0;
	/** Everything but the items. */
	#head: Buffer[] = [];
	#headLength = 0;

	/** The items that end in this chunk. All are to be taken before the next chunk. @throws Error */
	*take(chunk: Buffer): Generator<string, void> {
		/** Where in this chunk the present item, or the present piece of the head, begins. */
		let from = 0;
		const inItem = () => this.#inItems && this.#depth > 2;
		for (let at = 0; at < chunk.length; at++) {
			const byte = chunk[at]!;
			if (this.#inString) {
				if (this.#escaped) this.#escaped = false;
				else if (byte === BACKSLASH) this.#escaped = true;
				else if (byte === QUOTE) this.#inString = false;
				if (this.#depth === 1 && this.#text.length < 64) this.#text.push(byte);
				continue;
			}
			switch (byte) {
				case QUOTE:
					this.#inString = true;
					if (this.#depth === 1) this.#text = [];
					break;
				case COLON:
					if (this.#depth === 1) this.#key = String.fromCharCode(...this.#text.slice(0, -1));
					break;
				case COMMA:
					if (this.#inItems && this.#depth === 2) from = at + 1;
					break;
				case BRACE:
				case BRACKET:
					this.#depth++;
					if (byte === BRACKET && this.#depth === 2 && this.#key === "items") {
						this.#keepHead(chunk.subarray(from, at + 1));
						this.#inItems = true;
						from = at + 1;
					} else if (this.#inItems && this.#depth === 3) from = at;
					break;
				case BRACE_END:
				case BRACKET_END:
					this.#depth--;
					if (this.#inItems && this.#depth === 2) {
						const text = this.#takeItem(chunk.subarray(from, at + 1));
						from = at + 1;
						yield text;
					} else if (this.#inItems && this.#depth === 1) {
						this.#inItems = false;
						this.#key = "";
						from = at;
					}
					break;
			}
		}
		if (inItem()) this.#keepItem(chunk.subarray(from));
		else if (!this.#inItems) this.#keepHead(chunk.subarray(from));
	}

	/** To be called after the last chunk. @throws Error if the list is incomplete */
	end(): ListHead {
		let head: unknown;
		try {
			head = JSON.parse(Buffer.concat(this.#head).toString("utf8"));
		} catch {
			throw new Error("expected a list, got something that is not JSON");
		}
		const { kind, metadata, items } = (head ?? {}) as Record<string, unknown>;
		const { resourceVersion, continue: rest } = (metadata ?? {}) as Record<string, unknown>;
		if (typeof kind !== "string" || !kind.endsWith("List") || items === undefined)
			throw new Error(`expected a list, got ${JSON.stringify(kind ?? null)}`);
		if (typeof resourceVersion !== "string" || resourceVersion === "")
			throw new Error("expected a list with a resourceVersion, got none");
		return { kind, resourceVersion, continue: typeof rest === "string" ? rest : "" };
	}

	#keepHead(part: Buffer): void {
		this.#head.push(part);
		this.#headLength += part.length;
		if (this.#headLength > TEXT_MAX) throw new Error("expected a list, got something larger");
	}

	#keepItem(part: Buffer): void {
		this.#item.push(part);
		this.#itemLength += part.length;
		if (this.#itemLength > TEXT_MAX)
			throw new Error(`expected objects of at most ${TEXT_MAX} bytes, got more`);
	}

	#takeItem(part: Buffer): string {
		if (this.#item.length === 0) return part.toString("utf8");
		const text = Buffer.concat([...this.#item, part]).toString("utf8");
		this.#item = [];
		this.#itemLength = 0;
		return text;
	}
}
