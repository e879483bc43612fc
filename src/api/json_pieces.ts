/**
 * JSON text in pieces, for answers whose lists have an entry for each peer or Pod: written in one
 * piece, ten thousand of them would hold the event loop for a tenth of a second.
 */

/** Entries of a list in one piece: some 100 µs. */
const ENTRIES = 100;

/**
 * What JSON.stringify gives, cut between the entries of a list and of the lists that an object has.
 * Nothing comes of undefined. All other values are one piece.
 */
export function* jsonPieces(value: unknown): Generator<string, void, void> {
	if (value === undefined) return;
	if (Array.isArray(value)) {
		yield* listPieces(value, "[", "]");
		return;
	}
	const lists = isObject(value) ? Object.entries(value).filter(([, item]) => isLong(item)) : [];
	if (!isObject(value) || lists.length === 0) {
		yield JSON.stringify(value);
		return;
	}
	const names = new Set(lists.map(([name]) => name));
	const rest = Object.entries(value).filter(([name]) => !names.has(name));
	let before = `${JSON.stringify(Object.fromEntries(rest)).slice(0, -1)}${rest.some(([, item]) => item !== undefined) ? "," : ""}`;
	for (const [i, [name, list]] of lists.entries()) {
		const last = i === lists.length - 1;
		yield* listPieces(list as unknown[], `${before}${JSON.stringify(name)}:[`, last ? "]}" : "]");
		before = ",";
	}
}

function* listPieces(list: readonly unknown[], open: string, close: string) {
	for (let at = 0; at < list.length || at === 0; at += ENTRIES) {
		const entries = JSON.stringify(list.slice(at, at + ENTRIES)).slice(1, -1);
		const isLast = at + ENTRIES >= list.length;
		yield `${at === 0 ? open : ","}${entries}${isLast ? close : ""}`;
	}
}

function isLong(value: unknown): boolean {
	return Array.isArray(value) && value.length > ENTRIES;
}

function isObject(value: unknown): value is Record<string, unknown> {
	return (
		typeof value === "object" && value !== null && !Array.isArray(value) && !("toJSON" in value)
	);
}
