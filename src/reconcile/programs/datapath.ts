/**
 * The BPF object in the kernel: its maps and its programs.
 *
 *  1. open      adopts or creates the maps (map_set.ts)
 *  2. programs  loads the programs for a set of knobs, or finds them pinned; the verifier runs on
 *               another thread and can be started early (prepare)
 *  3. commit    copies entries into the new maps and pins these; then the links are updated
 *  4. settle    copies what the old programs wrote until the update
 *
 * Until commit, the attached programs and their maps are not touched.
 */
import { createHash } from "node:crypto";
import { mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { type BpfMap, BpfObject, BpfProgram } from "#native";
import type { Log } from "../../text/log.js";
import type { MapMemory } from "../maps/map_sizes.js";
import { MapSet, type MapSetOptions } from "./map_set.js";
import { type Knobs, ObjectFile } from "./object_file.js";
import type { Pins } from "./pins.js";

export const programNames = [
	"from_pod",
	"from_wire",
	"from_wire_xdp",
	"to_pod",
	"from_host",
	"from_link",
	"to_wire",
	"from_loopback",
] as const;
export type ProgramName = (typeof programNames)[number];
export type Programs = ReadonlyMap<ProgramName, BpfProgram>;

const REFUSED_MS = 30_000;

export interface DatapathOptions extends MapSetOptions {
	objectPath: string;
}

export class Datapath {
	readonly #pins: Pins;
	readonly #log: Log;
	readonly #object: ObjectFile;
	readonly #maps: MapSet;
	#refused: { identity: string; error: Error; until: number } | undefined;
	#programs: { identity: string; programs: Programs } | undefined;
	/** The current load; never rejects. */
	#loading: Promise<void> | undefined;
	/** Identities of the programs loaded by this process. */
	readonly #loaded = new Set<string>();

	private constructor(options: DatapathOptions) {
		this.#pins = options.pins;
		this.#log = options.log;
		this.#object = ObjectFile.read(options.objectPath);
		this.#maps = MapSet.open(this.#object, options);
	}

	/** @throws Error if the kernel refuses a map */
	static open(options: DatapathOptions): Datapath {
		return new Datapath(options);
	}

	/** Slots of the flow table. */
	get flowSlots(): number {
		return this.#maps.flowSlots;
	}

	/** Peer ids that are counted. */
	get peerSlots(): number {
		return this.#maps.peerSlots;
	}

	/** What was pinned has no peers from this index on, in `peers`. */
	get peersEnd(): number {
		return this.#maps.peersEnd;
	}

	/** True until commit, when maps were made that no attached program uses yet. */
	get hasNewMaps(): boolean {
		return this.#maps.hasNew;
	}

	map(name: string): BpfMap {
		return this.#maps.map(name);
	}

	/** The memory of the maps, as the kernel accounts for it. */
	memory(): MapMemory {
		return this.#maps.memory();
	}

	/** Starts to load the programs for these knobs, which will probably be needed. */
	prepare(knobs: Omit<Knobs, "flowSlots">): void {
		const all: Knobs = { ...knobs, flowSlots: this.flowSlots };
		const identity = this.#identity(all);
		if (this.#loading === undefined && !this.#arePinned(identity)) this.#load(all, identity);
	}

	/** Rejects with the verifier's log if the kernel refuses a program. */
	async programs(knobs: Omit<Knobs, "flowSlots">): Promise<Programs> {
		const all: Knobs = { ...knobs, flowSlots: this.flowSlots };
		const identity = this.#identity(all);
		if (this.#programs?.identity === identity) return this.#programs.programs;
		await this.#loading;
		// Verification takes about a second: refused programs are not tried again with every apply.
		const isRefused = () =>
			this.#refused?.identity === identity && this.#refused.until > performance.now();
		if (!isRefused() && !this.#arePinned(identity)) await this.#load(all, identity);
		if (this.#refused !== undefined && isRefused()) throw this.#refused.error;
		const directory = this.#pins.programs(identity);
		const programs = new Map(
			programNames.map((name) => [name, BpfProgram.openPinned(join(directory, name))]),
		);
		this.#closePrograms();
		this.#programs = { identity, programs };
		return programs;
	}

	/** Resolves when no load is in progress. */
	async idle(): Promise<void> {
		await this.#loading;
	}

	#arePinned(identity: string): boolean {
		return pinnedPrograms(this.#pins.programs(identity)).length === programNames.length;
	}

	/** Ends with pinned programs or with a refusal. */
	#load(knobs: Knobs, identity: string): Promise<void> {
		this.#loaded.add(identity);
		this.#loading = this.#loadPrograms(knobs, this.#pins.programs(identity))
			.catch((error: Error) => {
				this.#refused = { identity, error, until: performance.now() + REFUSED_MS };
			})
			.finally(() => {
				this.#loading = undefined;
			});
		return this.#loading;
	}

	/** The identity of programs: code, knobs and maps. A program tag covers neither knobs nor maps. */
	#identity(knobs: Knobs): string {
		const maps = [...this.#maps].map(([name, map]) => `${name} ${map.info.id}`).sort();
		const text = JSON.stringify([this.#object.digest, knobs, maps]);
		return createHash("sha256").update(text).digest("hex").slice(0, 16);
	}

	async #loadPrograms(knobs: Knobs, directory: string): Promise<void> {
		const started = performance.now();
		this.#pins.remove(directory);
		const object = BpfObject.open(this.#object.path);
		try {
			for (const [name, map] of this.#maps) object.reuseMap(name, map);
			for (const { offset, value } of this.#object.knobBytes(knobs))
				object.setReadOnlyData(offset, value);
			await object.loadAsync();
			mkdirSync(directory, { mode: 0o700 });
			for (const name of programNames) object.program(name).pin(join(directory, name));
		} finally {
			object.close();
		}
		const milliseconds = Math.round(performance.now() - started);
		this.#log.info({ ...knobs, milliseconds }, "loaded BPF programs");
	}

	/** Copies the entries of replaced maps into the new ones, and pins these. */
	commit(): void {
		this.#maps.commit();
	}

	/** After the links were updated: copies the last flows of the old maps, and removes outdated pins. */
	settle(): void {
		this.#maps.settle();
		for (const identity of this.#pins.programIdentities())
			if (identity !== this.#programs?.identity) this.#pins.remove(this.#pins.programs(identity));
	}

	/** Closes descriptors, except those of the maps in `keep`. Pins stay. */
	close(keep: readonly string[] = []): void {
		// Programs of maps that were never pinned are of no further use.
		if (this.hasNewMaps)
			for (const identity of this.#loaded) this.#pins.remove(this.#pins.programs(identity));
		this.#maps.close(keep);
		this.#closePrograms();
	}

	#closePrograms(): void {
		for (const program of this.#programs?.programs.values() ?? []) program.close();
		this.#programs = undefined;
	}
}

function pinnedPrograms(directory: string): string[] {
	try {
		return readdirSync(directory);
	} catch {
		return [];
	}
}
