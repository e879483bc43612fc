/** Which machines of a lab reach each other: an echo request for every pair. */

import { framedTable, painters } from "../text/table.js";
import { echo } from "./echo.js";
import type { Lab } from "./lab.js";
import { allPairs, type Pair } from "./pairs.js";

export interface Reach {
	pair: Pair;
	/** Milliseconds; undefined: no answer. */
	roundTrip: number | undefined;
}

/** Concurrent pings: enough to be quick, few enough not to disturb each other. */
const AT_ONCE = 8;

export async function pingAll(lab: Lab): Promise<Reach[]> {
	const waiting = allPairs(lab).reverse();
	const reaches: Reach[] = [];
	const worker = async (): Promise<void> => {
		for (let pair = waiting.pop(); pair !== undefined; pair = waiting.pop()) {
			const { roundTrip } = await echo(lab, pair.from, lab.address(pair.to, pair.family), 1);
			reaches.push({ pair, roundTrip });
		}
	};
	await Promise.all(Array.from({ length: AT_ONCE }, worker));
	return reaches;
}

/** A row for each sender, a column for each receiver, a table for each family. Milliseconds. */
export function reachTable(reaches: readonly Reach[], colours: boolean): string {
	const paint = painters(colours);
	return ([4, 6] as const)
		.flatMap((family) => {
			const of = reaches.filter(({ pair }) => pair.family === family);
			if (of.length === 0) return [];
			const names = (end: "from" | "to"): string[] =>
				[...new Set(of.map(({ pair }) => pair[end]))].sort();
			const cell = (from: string, to: string): string => {
				const reach = of.find(({ pair }) => pair.from === from && pair.to === to);
				return reach === undefined ? "" : (reach.roundTrip?.toFixed(2) ?? "lost");
			};
			const columns = [
				{ heading: `IPv${family}, ms`, cell: (from: string) => from },
				...names("to").map((to) => ({
					heading: to,
					align: "right" as const,
					cell: (from: string) => cell(from, to),
					paint: (text: string) => (text.trim() === "lost" ? paint.red(text) : text),
				})),
			];
			return [framedTable(columns, [{ rows: names("from") }], paint)];
		})
		.join("\n\n");
}
