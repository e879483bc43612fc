/**
 * The maps of the BPF object, pinned for the next agent:
 *
 *  1. open    adopts the pinned maps whose layout fits, and creates the others; the maps that the agent alone
 *             writes take over the entries of those they replace
 *  2. commit  copies the entries that the core writes, and pins the new maps in place of the old ones
 *  3. settle  copies the flows that the old programs made until the links were updated
 */
import { renameSync } from "node:fs";
import { BpfMap, BpfObject, possibleCpus } from "#native";
import { Endpoint, EndpointPolicy, FlowPair, Limit } from "../../tables/generated.js";
import { type MapDefinition, sameLayout } from "../../tables/layout.js";
import type { Log } from "../../text/log.js";
import { type MapMemory, mapMemory, peerSlotsFor } from "../maps/map_sizes.js";
import { copyFlows, type FlowTable, type MovedFlows } from "./flow_migration.js";
import { MapLayouts } from "./map_layouts.js";
import { copyEntries, copyPlan, endOf, isPerCpu, type MapCopy } from "./migration.js";
import type { ObjectFile } from "./object_file.js";
import type { Pins } from "./pins.js";

/** Written only by the reconciler; copied at open, so that it starts from the existing content. */
const agentMaps: readonly string[] = [
	"node_config",
	"peers",
	"peer_addresses",
	"peer_paths",
	"peer_gateways",
	"source_addresses",
	"routes",
	"endpoints",
	"frontends",
	"services",
	"service_slots",
	"backends",
	"backend_states",
	"service_ranges",
	"identities",
	"blocks",
	"class_limit",
	"policies",
	"policy_verdicts",
	"port_sets",
	"element_writes",
];

/** Scratch space and caches, which start empty if their layout has changed. */
const forgottenMaps: readonly string[] = [
	"fragment_places",
	"fragment_turns",
	"fragments",
	"next_hops",
	"next_hop_settle",
	"path_proofs",
	"peer_activity",
	"policy_denials",
	"probe_events",
	"scratch",
	"slow_path",
	"slow_path_buckets",
	"verdicts",
];

/** They refer to each other, and are replaced together. */
const flowTable: readonly string[] = [
	"flows",
	"flow_index",
	"flow_hints",
	"flow_counts",
	"flow_rules",
];

/** Their sizes are not the object's. */
const sizedMaps: readonly string[] = [...flowTable, "peer_counters"];

/** More than the core will ever take away: none of the entries that were copied is counted. */
const UNCOUNTED_ENTRIES = 1 << 30;

export interface MapSetOptions {
	pins: Pins;
	/** Slots of the flow table. */
	flowsMax: number;
	/** Peer ids that are counted; none given: as many as the pinned tables need. */
	peerSlots?: number;
	/** Maps are sized as for a machine of so many CPUs; default: this one's possible CPUs. */
	cpus?: number;
	log: Log;
}

export class MapSet {
	readonly flowSlots: number;
	readonly peerSlots: number;
	/** What was pinned has no peers from this index on, in `peers`. */
	readonly peersEnd: number;
	readonly #pins: Pins;
	readonly #log: Log;
	readonly #object: ObjectFile;
	/** Maps of an earlier agent by name, adopted or outdated. */
	readonly #pinned = new Map<string, BpfMap>();
	readonly #maps = new Map<string, BpfMap>();
	/** Pinned maps with another layout, by name; kept open until settle. */
	readonly #outdated = new Map<string, BpfMap>();
	readonly #unpinned = new Set<string>();
	#moved: { table: FlowTable; flows: MovedFlows } | undefined;

	private constructor(object: ObjectFile, options: MapSetOptions) {
		const { pins, flowsMax, log, cpus = possibleCpus() } = options;
		this.flowSlots = flowsMax;
		this.#pins = pins;
		this.#log = log;
		this.#object = object;
		for (const name of pins.mapNames())
			if (this.#object.maps.has(name)) this.#pinned.set(name, BpfMap.openPinned(pins.map(name)));
		const peers = this.#pinned.get("peers");
		this.peersEnd = peers === undefined ? 0 : endOf(peers);
		this.peerSlots = options.peerSlots ?? this.#pinnedPeerSlots(cpus);
	}

	/** @throws Error if the kernel refuses a map */
	static open(object: ObjectFile, options: MapSetOptions): MapSet {
		const maps = new MapSet(object, options);
		try {
			maps.#openMaps();
		} catch (error) {
			maps.close();
			throw error;
		}
		return maps;
	}

	/** By name. */
	[Symbol.iterator](): IterableIterator<[string, BpfMap]> {
		return this.#maps.entries();
	}

	map(name: string): BpfMap {
		const map = this.#maps.get(name);
		if (map !== undefined) return map;
		throw new Error(`Cannot open map ${name}: the BPF object has no map of that name`);
	}

	/** The memory of these maps, as the kernel accounts for it. */
	memory(): MapMemory {
		const infos = new Map([...this.#maps].map(([name, map]) => [name, map.info]));
		return mapMemory(infos, possibleCpus());
	}

	/** Slots of the flow table that is pinned; undefined: there is none. */
	static pinnedFlowSlots(pins: Pins): number | undefined {
		if (!pins.mapNames().includes("flows")) return undefined;
		const map = BpfMap.openPinned(pins.map("flows"));
		try {
			return map.info.maxEntries;
		} finally {
			map.close();
		}
	}

	/** What is pinned stays while it is not far too large: programs are loaded for it. */
	#pinnedPeerSlots(cpus: number): number {
		const needed = peerSlotsFor(Math.ceil(this.peersEnd / 2), cpus);
		const pinned = (this.#pinned.get("peer_counters")?.info.maxEntries ?? 0) / 2;
		return pinned >= needed && pinned <= needed * 4 ? pinned : needed;
	}

	/** True until commit, when maps were made that no attached program uses yet. */
	get hasNew(): boolean {
		return this.#unpinned.size > 0;
	}

	#definition(name: string): MapDefinition {
		const definition = this.#object.maps.get(name);
		if (definition === undefined)
			throw new Error(`Cannot define map ${name}: the object's BTF does not have it`);
		if (name === "flows" || name === "flow_rules")
			return { ...definition, maxEntries: this.flowSlots };
		if (name === "flow_hints") return { ...definition, maxEntries: Math.ceil(this.flowSlots / 2) };
		if (name === "flow_index")
			return { ...definition, maxEntries: this.flowSlots * 2 + Limit.FLOW_INDEX_SPARE };
		if (name === "peer_counters") return { ...definition, maxEntries: this.peerSlots * 2 };
		return definition;
	}

	#openMaps(): void {
		const layouts = new MapLayouts();
		for (const name of this.#pinned.keys()) this.#adopt(name, layouts);
		const missing = [...this.#object.maps.keys()].filter((name) => !this.#maps.has(name));
		if (missing.length > 0) this.#make(missing);
		for (const name of agentMaps) this.#copy(name);
	}

	#adopt(name: string, layouts: MapLayouts): void {
		const map = this.#pinned.get(name)!;
		// A stale reference to a slot of another table would block a new flow with that tuple.
		const together = flowTable.includes(name) ? flowTable : [name];
		const difference = together.map((one) => this.#differenceOf(one, layouts)).find(Boolean);
		if (difference === undefined) {
			this.#maps.set(name, map);
			return;
		}
		this.#log.info({ map: name, difference }, "pinned map has another layout");
		this.#outdated.set(name, map);
	}

	/** Makes these maps; the others of the object are there. */
	#make(names: readonly string[]): void {
		const object = BpfObject.open(this.#object.path);
		try {
			for (const program of object.programNames) object.setAutoload(program, false);
			for (const name of sizedMaps) object.setMaxEntries(name, this.#definition(name).maxEntries);
			for (const [name, map] of this.#maps) object.reuseMap(name, map);
			object.load();
			for (const name of names) {
				this.#maps.set(name, object.map(name));
				this.#unpinned.add(name);
			}
		} finally {
			object.close();
		}
	}

	/** How the pinned map differs from its definition; undefined: it can be used. */
	#differenceOf(name: string, layouts: MapLayouts): string | undefined {
		const map = this.#pinned.get(name);
		if (map === undefined) return "presence";
		const { type, flags, maxEntries, key, value } = this.#definition(name);
		const { info } = map;
		if (info.type !== type || info.flags !== flags) return "type";
		if (info.maxEntries !== maxEntries) return "size";
		if (info.keySize !== (key?.size ?? 0) || info.valueSize !== (value?.size ?? 0)) return "layout";
		// Ring buffers have neither keys nor values.
		if (key === undefined || value === undefined) return undefined;
		const layout = layouts.of(map);
		if (layout === undefined) return "no type information";
		if (!sameLayout(layout.key, key) || !sameLayout(layout.value, value)) return "layout";
		return undefined;
	}

	/** Copies the entries of replaced maps into the new ones, and pins these. */
	commit(): void {
		for (const name of this.#unpinned) if (!agentMaps.includes(name)) this.#copy(name);
		for (const name of this.#unpinned) {
			const path = this.#pins.map(name);
			const fresh = `${path}_new`;
			this.#pins.remove(fresh);
			this.map(name).pin(fresh);
			renameSync(fresh, path);
		}
		this.#unpinned.clear();
	}

	/** After the links were updated: copies the last flows of the old maps and closes these. */
	settle(): void {
		if (this.#moved !== undefined) {
			const before = this.#moved.flows.size;
			const { size } = copyFlows(this.#moved.table, this.#moved.flows);
			this.#log.info({ flows: size, late: size - before }, "migrated flows");
		}
		this.#moved = undefined;
		for (const map of this.#outdated.values()) map.close();
		this.#outdated.clear();
		for (const name of this.#pins.mapNames())
			if (!this.#maps.has(name)) this.#pins.remove(this.#pins.map(name));
	}

	/** Closes descriptors, except those of the maps in `keep`. Pins stay. */
	close(keep: readonly string[] = []): void {
		for (const [name, map] of this.#maps) if (!keep.includes(name)) map.close();
		for (const map of this.#outdated.values()) map.close();
	}

	#copy(name: string): void {
		const old = this.#outdated.get(name);
		if (old === undefined || forgottenMaps.includes(name)) return;
		if (flowTable.includes(name)) {
			if (name === "flows") this.#copyFlowTable();
			return;
		}
		const copy = this.#planOf(name, old);
		if (copy === undefined) {
			this.#log.warn({ map: name }, "cannot migrate a map, starting empty");
			return;
		}
		this.#log.info({ map: name, ...copyEntries(copy) }, "migrated a map");
	}

	#copyFlowTable(): void {
		const old = this.#outdated.get("flows");
		const flows = old && this.#planOf("flows", old);
		const [flowLayout, refLayout] = ["flows", "flow_index"].map(
			(name) => this.#definition(name).value,
		);
		const oldLayout = flows && new MapLayouts().of(flows.from)?.value;
		if (
			!flows ||
			oldLayout?.kind !== "struct" ||
			flowLayout?.kind !== "struct" ||
			refLayout?.kind !== "struct"
		) {
			this.#log.warn({ map: "flows" }, "cannot migrate the flow table, starting empty");
			return;
		}
		const [index, counts] = [this.map("flow_index"), this.map("flow_counts")];
		const table = { flows, index, oldLayout, flowLayout, refLayout, counts };
		this.#expectEntries();
		this.#moved = { table, flows: copyFlows(table) };
	}

	/** Any tuple of a copied flow may be in flow_index: makes the core look there. */
	#expectEntries(): void {
		const map = this.map("flow_hints");
		const { maxEntries } = map.info;
		const keys = Buffer.alloc(maxEntries * 4);
		const values = Buffer.alloc(maxEntries * FlowPair.size);
		const expected = FlowPair.encode({ owner: [0, 0], indexed: UNCOUNTED_ENTRIES, atHome: 0 });
		for (let pair = 0; pair < maxEntries; pair++) {
			keys.writeUInt32LE(pair, pair * 4);
			expected.copy(values, pair * FlowPair.size);
		}
		map.updateBatch(keys, values);
	}

	#planOf(name: string, old: BpfMap): MapCopy | undefined {
		const before = new MapLayouts().of(old);
		const { key: wantedKey, value: wantedValue, type } = this.#definition(name);
		if (before === undefined || wantedKey === undefined || wantedValue === undefined)
			return undefined;
		if (isPerCpu(old.info.type) !== isPerCpu(type)) return undefined;
		const key = copyPlan(before.key, wantedKey, true);
		const value = copyPlan(before.value, wantedValue, false);
		if (value !== undefined && name === "endpoints") value.preset = OPEN_ENDPOINT;
		return key && value && { from: old, to: this.map(name), key, value };
	}
}

/** A version without policies let everything pass: so do its Pods until their policies are known. */
const OPEN_ENDPOINT = Endpoint.encode({
	...Endpoint.decode(Buffer.alloc(Endpoint.size)),
	egressPolicy: EndpointPolicy.OPEN,
	ingressPolicy: EndpointPolicy.OPEN,
});
