/** Sequences of packets as files, with what they show. */
import { readFileSync } from "node:fs";
import { Hook, HookName } from "../../src/tables/generated.js";
import type { Input } from "./check.js";
import { ifindex, indexOf, type Variation } from "./world.js";

export interface Row {
	shows: string;
	/** Differences of the Node from that of world.ts. */
	variation?: Variation;
	/** The packets, in order, starting with an empty flow table. */
	inputs: Input[];
}

export function rowText({ shows, variation, inputs }: Row): string {
	const lines = inputs.map(
		({ hook, packet, changes, context: { ifindex: index, ...context } }) => ({
			...(changes && { changes }),
			hook: HookName[hook],
			interface: Object.keys(ifindex).find((name) => ifindex[name] === index),
			...context,
			packet: packet.toString("hex"),
		}),
	);
	return `${JSON.stringify({ shows, variation, inputs: lines }, null, 2)}\n`;
}

export function readRow(path: string): Row {
	const { shows, variation, inputs } = JSON.parse(readFileSync(path, "utf8")) as {
		shows: string;
		variation?: Variation;
		inputs: ({
			hook: string;
			interface: string;
			packet: string;
			changes?: Input["changes"];
		} & Omit<Input["context"], "ifindex">)[];
	};
	return {
		shows,
		...(variation && { variation }),
		inputs: inputs.map(({ hook, interface: name, packet, changes, ...context }) => ({
			...(changes && { changes }),
			hook: Hook[hook.toUpperCase() as keyof typeof Hook],
			context: { ...context, ifindex: indexOf(name) },
			packet: Buffer.from(packet, "hex"),
		})),
	};
}

/** Minimises a failing sequence by removing halves, quarters, ... and single packets. */
export async function minimised(
	inputs: Input[],
	fails: (inputs: Input[]) => Promise<boolean>,
): Promise<Input[]> {
	let least = inputs;
	for (let size = Math.ceil(least.length / 2); size >= 1; ) {
		let start = 0;
		let shorter = false;
		// The last packet is the one that differs.
		while (start < least.length - 1) {
			const without = [
				...least.slice(0, start),
				...least.slice(Math.min(start + size, least.length - 1)),
			];
			if (await fails(without)) {
				least = without;
				shorter = true;
			} else {
				start += size;
			}
		}
		if (size === 1 && !shorter) break;
		size = size > 1 ? Math.ceil(size / 2) : 1;
	}
	return least;
}
