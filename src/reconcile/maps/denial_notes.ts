/** What the core has noted of denied packets since it was last asked. */
import type { BpfMap } from "#native";
import { PolicyDenial } from "../../tables/generated.js";
import { mapSlices } from "./map_slices.js";

export class DenialNotes {
	readonly #map: () => BpfMap;
	/** As it was last read, slice by slice. */
	#before: Buffer[] = [];

	constructor(map: () => BpfMap) {
		this.#map = map;
	}

	/** In slices. One that is being written may be of two packets. */
	async take(): Promise<PolicyDenial[]> {
		const found: PolicyDenial[] = [];
		const now: Buffer[] = [];
		for await (const { values } of mapSlices(this.#map())) {
			const before = this.#before[now.length];
			now.push(values);
			// Most of them never change.
			if (before?.equals(values)) continue;
			for (let at = 0; at < values.length; at += PolicyDenial.size) {
				const end = at + PolicyDenial.size;
				if (before?.compare(values, at, end, at, end) === 0) continue;
				const note = PolicyDenial.decode(values, at);
				if (note.at !== 0n) found.push(note);
			}
		}
		this.#before = now;
		return found;
	}
}
