/** What the core counts and notes, and what an earlier agent left in the maps, read from those in force. */
import type { BpfMap } from "#native";
import type { NodeConfig, Peer, PolicyDenial } from "../../tables/generated.js";
import type { HeldServices } from "../../tables/tables.js";
import { type AdoptedPath, adoptedPaths } from "./adopted_paths.js";
import {
	type Counters,
	type PeerCounters,
	readCounters,
	readPeerCounter,
	readPeerCounters,
} from "./counters.js";
import { DenialNotes } from "./denial_notes.js";
import { flowsInUse } from "./flow_count.js";
import { type FlowUsage, readFlowUsage } from "./flow_usage.js";
import { type LiveFlow, liveFlows } from "./live_flows.js";

export interface ReadingsOptions {
	/** The map of this name that is in force. */
	map: (name: string) => BpfMap;
	nodeConfig: () => NodeConfig | undefined;
	/** The table of peers, by index. */
	peers: () => ReadonlyMap<number, Peer>;
	/** What the tables of Services hold. */
	services: () => Pick<HeldServices, "backends">;
}

export class Readings {
	readonly #options: ReadingsOptions;
	readonly #denialNotes: DenialNotes;

	constructor(options: ReadingsOptions) {
		this.#options = options;
		this.#denialNotes = new DenialNotes(() => options.map("policy_denials"));
	}

	counters(): Counters {
		return readCounters(this.#options.map);
	}

	/** Counters of every peer. Reads in pieces, yielding to the event loop in between. */
	peerCounters(): Promise<PeerCounters> {
		const { map, peers } = this.#options;
		return readPeerCounters(() => map("peer_counters"), peers().keys());
	}

	/** Total packets to and from a peer, on both paths. */
	peerTotals(index: number): { sent: number; received: number } {
		const counter = readPeerCounter(this.#options.map("peer_counters"), index);
		return {
			sent: Number(counter.directPackets + counter.tunnelPackets),
			received: Number(counter.receivedPackets),
		};
	}

	/** Number of flows in the table, including expired ones whose slots have not been needed. */
	flowsUsed(): number {
		return flowsInUse(this.#options.map("flow_counts"));
	}

	/** Flows that have not expired, as network policy judges them. */
	liveFlows(): AsyncGenerator<LiveFlow[]> {
		const { map, nodeConfig } = this.#options;
		return liveFlows(map("flows"), nodeConfig(), process.hrtime.bigint());
	}

	/**
	 * What the flows that have not expired use. In slices.
	 *
	 * @param services by index in `services`: those whose flows are counted
	 */
	flowUsage(services: ReadonlyMap<number, string>): Promise<FlowUsage> {
		const { map, nodeConfig } = this.#options;
		const { backends } = this.#options.services();
		return readFlowUsage(map("flows"), nodeConfig(), process.hrtime.bigint(), (id) =>
			services.get(backends.get(id)?.service ?? 0),
		);
	}

	/** What the core has noted of denied packets since the last call. In slices. */
	denialNotes(): Promise<PolicyDenial[]> {
		return this.#denialNotes.take();
	}

	/** The owners of peer ids before a restart, for PeerIds. */
	adoptedPeers(): { id: number; nodeHash: bigint }[] {
		const owners = new Map<number, bigint>();
		for (const [index, { nodeHash }] of this.#options.peers()) owners.set(index >> 1, nodeHash);
		return [...owners].map(([id, nodeHash]) => ({ id, nodeHash }));
	}

	/** Direct paths that were in force before a restart, and how old their proofs are; by index of peers. */
	adoptedPaths(): Map<number, AdoptedPath> {
		return adoptedPaths(this.#options.peers(), this.#options.map("path_proofs"));
	}
}
