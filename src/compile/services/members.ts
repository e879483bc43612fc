/** The backends of a set in their places. Pure. */

/**
 * Orders the members so that as few places as possible change: members that stay keep their places, new ones take
 * the places of those that left or are appended, and remaining gaps are filled from the end.
 *
 * @param before in the order of their places
 */
export function arrange(before: readonly number[], wanted: ReadonlySet<number>): number[] {
	const stays = new Set<number>();
	const places: (number | undefined)[] = before.map((id) => {
		if (!wanted.has(id) || stays.has(id)) return undefined;
		stays.add(id);
		return id;
	});
	let hole = 0;
	for (const id of wanted) {
		if (stays.has(id)) continue;
		while (hole < places.length && places[hole] !== undefined) hole++;
		places[hole] = id;
	}
	for (let at = 0; at < places.length; at++) {
		while (places.length > 0 && places.at(-1) === undefined) places.pop();
		if (at < places.length && places[at] === undefined) places[at] = places.pop();
	}
	return places as number[];
}
