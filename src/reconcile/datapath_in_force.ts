/**
 * The data path in force, and its replacement by one whose maps have other sizes:
 *
 *  1. open     the pinned maps, or new ones; a size that the kernel refuses does not keep the agent from starting
 *  2. fit      compares the sizes with the wanted ones at each apply
 *  3. replace  makes the next data path and attaches its programs, with the former in force until then;
 *              entries are kept, as far as they fit; where a step fails the former stays in force
 */
import { type BpfMap, possibleCpus } from "#native";
import { Limit } from "../tables/generated.js";
import type { Log } from "../text/log.js";
import { type MapMemory, peerSlotsFor } from "./maps/map_sizes.js";
import { Pass } from "./pass.js";
import { Datapath, type DatapathOptions } from "./programs/datapath.js";
import { MapSet } from "./programs/map_set.js";

/** A refused size is tried again after this time, not with every apply: making the maps can take a second. */
const REFUSED_MS = 30_000;

/** These rings are read for as long as the agent lives. */
const RINGS = ["slow_path", "probe_events"];

type Sizes = { flowsMax: number } | { peerSlots: number };

export class DatapathInForce {
	readonly #options: DatapathOptions;
	readonly #log: Log;
	#current: Datapath;
	/** Slots of the flow table that are wanted. */
	#flowsMax: number;
	#slotsInForce: number;
	/** By what was to have another size. */
	readonly #refused = new Map<string, { size: number; until: number; message: string }>();

	/**
	 * Where the kernel has no room for the wanted flow table this goes on with the pinned one, or with one of the
	 * default size, and the first `fit` reports it.
	 */
	constructor(options: DatapathOptions) {
		this.#options = options;
		this.#log = options.log;
		this.#flowsMax = options.flowsMax;
		this.#current = this.#open();
		this.#slotsInForce = this.#current.flowSlots;
	}

	#open(): Datapath {
		const flowsMax = this.#flowsMax;
		try {
			return Datapath.open(this.#options);
		} catch (error) {
			const fallback =
				MapSet.pinnedFlowSlots(this.#options.pins) ?? Math.min(flowsMax, Limit.FLOWS_DEFAULT);
			if (fallback === flowsMax) throw error;
			return Datapath.open({ ...this.#options, flowsMax: fallback });
		}
	}

	/** During a replacement this is the next one, whose programs are being attached. */
	get current(): Datapath {
		return this.#current;
	}

	map(name: string): BpfMap {
		return this.#current.map(name);
	}

	/** The memory that the maps in force take in the kernel. */
	memory(): MapMemory {
		return this.#current.memory();
	}

	/** Slots of the flow table that packets meet: a new table is in force once its programs are attached. */
	get flowSlots(): number {
		return this.#slotsInForce;
	}

	/** From the next `fit` on the flow table is to have so many slots. Returns whether it was to have others. */
	wantFlows(flowsMax: number): boolean {
		const isNew = flowsMax !== this.#flowsMax;
		this.#flowsMax = flowsMax;
		return isNew;
	}

	/** The programs of the current data path are attached. */
	attached(): void {
		this.#slotsInForce = this.#current.flowSlots;
	}

	/**
	 * Brings the maps to the wanted sizes, under traffic. A size that the kernel refuses is a problem of the pass,
	 * the map stays as it is, and it is tried again later.
	 *
	 * @param peerIds the highest peer id in use, plus one
	 * @param attach attaches the programs of `current`
	 * @returns whether a map had another size
	 */
	async fit(
		peerIds: number,
		pass: Pass,
		attach: (pass: Pass) => Promise<unknown>,
	): Promise<boolean> {
		const flowsMax = this.#flowsMax;
		const hasOtherFlows = flowsMax !== this.#current.flowSlots;
		if (hasOtherFlows) await this.#replace("the flow table", { flowsMax }, pass, attach);
		if (peerIds <= this.#current.peerSlots) return hasOtherFlows;
		const peerSlots = peerSlotsFor(peerIds, this.#options.cpus ?? possibleCpus());
		await this.#replace("the peers' counters", { peerSlots }, pass, attach);
		return true;
	}

	/** Where it fails, what was in force stays so. */
	async #replace(
		what: string,
		sizes: Sizes,
		pass: Pass,
		attach: (pass: Pass) => Promise<unknown>,
	): Promise<void> {
		const [size = 0] = Object.values(sizes) as number[];
		const refused = this.#refused.get(what);
		if (refused?.size === size && refused.until > performance.now()) {
			pass.problems.push(refused.message);
			return;
		}
		const before = this.#current;
		try {
			const { flowSlots: flowsMax, peerSlots } = before;
			const next = Datapath.open({ ...this.#options, flowsMax, peerSlots, ...sizes });
			this.#current = next;
			const swap = new Pass(this.#log);
			await swap.try(false, () => attach(swap));
			pass.writes += swap.writes;
			if (next.hasNewMaps) {
				this.#current = before;
				await next.idle();
				next.close();
				throw new Error(swap.problems.join("; "));
			}
			this.#refused.delete(what);
		} catch (error) {
			const message = `Cannot resize ${what} to ${size}: ${(error as Error).message}`;
			this.#refused.set(what, { size, until: performance.now() + REFUSED_MS, message });
			pass.problems.push(message);
			return;
		}
		await before.idle();
		before.close(RINGS);
	}

	/** Resolves when no program is being loaded. */
	idle(): Promise<void> {
		return this.#current.idle();
	}

	/** Closes descriptors. Forwarding continues. */
	close(): void {
		this.#current.close();
	}
}
