/**
 * The same text in one piece. What templates and `+` make V8 keeps as a tree of its parts, several times as large;
 * for texts that stay by the thousand.
 */
export function flat(text: string): string {
	const half = text.length >> 1;
	return half === 0 ? text : [text.slice(0, half), text.slice(half)].join("");
}
