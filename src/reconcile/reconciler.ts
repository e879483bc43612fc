/**
 * Brings the kernel to what the tables say.
 */
import type { BpfMap } from "#native";
import type { Network } from "../compile/network.js";
import type { Tables } from "../tables/tables.js";

export interface Log {
	debug(facts: object, message: string): void;
	info(facts: object, message: string): void;
	warn(facts: object, message: string): void;
	error(facts: object, message: string): void;
}

export interface ReconcilerOptions {
	/** Maps, links and programs are pinned here; made with its parents, bpffs mounted if need be. */
	pinDir: string;
	/** Made with its parents. */
	runDir: string;
	/** build/bpf/fairway.bpf.o */
	objectPath: string;
	/** Slots of the flow table. */
	flowsMax: number;
	log: Log;
}

export type XdpMode = "native" | "generic" | "off";

export interface Counters {
	/** Packets by reason ("spoofed_mac"), all reasons, zero included. */
	drops: Record<string, bigint>;
	/** By event ("untracked"). */
	events: Record<string, bigint>;
	/** By index in peers: peer id * 2 + (1 for IPv6); only those that are not all zero. */
	peers: Map<
		number,
		{ directPackets: bigint; directBytes: bigint; tunnelPackets: bigint; tunnelBytes: bigint }
	>;
}

export class Reconciler {
	/**
	 * Adopts what an earlier agent left pinned, loads the programs, swaps them in atomically. No
	 * packet is lost. Nothing is swept before the first apply.
	 */
	static async open(_options: ReconcilerOptions): Promise<Reconciler> {
		throw new Error("Cannot open the reconciler: it is being written");
	}

	/**
	 * Writes the difference between these tables and the kernel. Never rejects for what the kernel
	 * refuses: that stays pending, is retried with backoff, and is a problem meanwhile.
	 */
	apply(_tables: Tables): Promise<{ pending: number }> {
		throw new Error("Cannot apply: the reconciler is being written");
	}

	/** Live change of the flow table's size; flows are kept. */
	resizeFlows(_flowsMax: number): Promise<void> {
		throw new Error("Cannot resize: the reconciler is being written");
	}

	/** Sentences for `fairway status`: what the kernel refused and what is being retried. */
	problems(): string[] {
		return [];
	}

	/** What from_wire_xdp runs as; with several wire interfaces the least of them. */
	xdpMode(): XdpMode {
		return "off";
	}

	counters(): Counters {
		throw new Error("Cannot count: the reconciler is being written");
	}

	/** Which Node owned which peer id before a restart: seed of PeerIds. */
	adoptedPeers(): { id: number; nodeHash: bigint }[] {
		return [];
	}

	readNetwork(): Promise<Network> {
		throw new Error("Cannot read the network: the reconciler is being written");
	}

	/** Calls back (debounced) when links, addresses or routes change in this namespace. */
	watchNetwork(_onChange: () => void): { close(): void } {
		throw new Error("Cannot watch: the reconciler is being written");
	}

	/** The ring buffer of the slow path. */
	get slowPathMap(): BpfMap {
		throw new Error("Cannot open the slow path: the reconciler is being written");
	}

	/** Stops retries and watches, closes file descriptors. Forwarding goes on. */
	close(): void {}

	/** Removes every kernel object that Fairway made in this namespace and under these directories. */
	static async cleanup(_options: { pinDir: string; runDir: string; log: Log }): Promise<void> {}
}
