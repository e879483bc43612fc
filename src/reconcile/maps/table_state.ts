/**
 * The content of the agent's BPF maps, and the writes that bring them to the desired state.
 *
 * `#actual` holds only what the kernel accepted, so an entry whose write failed is still a difference the next
 * time. After a restart it starts with the content of the maps.
 */
import { randomBytes } from "node:crypto";
import { isDeepStrictEqual } from "node:util";
import { diff } from "../../tables/diff.js";
import {
	type Endpoint,
	type HashKey,
	NodeConfig,
	type Peer,
	ProbeWay,
} from "../../tables/generated.js";
import type { HeldPeers, Tables } from "../../tables/tables.js";
import type { Links } from "../links.js";
import type { AgentTables, EntryFailure, Table } from "./agent_tables.js";
import { endpointIndexes } from "./endpoint_indexes.js";
import { peerEntries } from "./peer_entries.js";

type WantedEndpoint = Tables["endpoints"] extends Map<string, infer E> ? E : never;

export interface TableOutcome {
	writes: number;
	problems: string[];
}

export class TableState {
	readonly #tables: AgentTables;
	readonly #peers: Map<number, Peer>;
	readonly #peerAddresses: Map<string, number>;
	readonly #peerPaths: Map<number, Peer>;
	readonly #peerGateways: Map<string, number>;
	readonly #sourceAddresses: Tables["sourceAddresses"];
	readonly #routes: Tables["routes"];
	readonly #endpoints: Map<string, Endpoint>;
	#nodeConfig: NodeConfig;
	/** Entries of these kinds were written, and node_config has not yet said so to flows. */
	#pendingEpochs = { route: false, nextHop: false };
	/** Why an endpoint's entry is not as wanted, by address. */
	#endpointRefusals = new Map<string, string>();

	/** Reads what an earlier agent wrote. */
	constructor(tables: AgentTables) {
		this.#tables = tables;
		this.#peers = tables.peers.read();
		this.#peerAddresses = tables.peerAddresses.read();
		// Only of peers with an entry: both are written and removed together.
		this.#peerPaths = tables.peerPaths.readAt(
			[...this.#peers.keys()].flatMap((index) => [
				index * 2 + ProbeWay.DIRECT,
				index * 2 + ProbeWay.TUNNEL,
			]),
		);
		this.#peerGateways = tables.peerGateways.read();
		this.#sourceAddresses = tables.sourceAddresses.read();
		this.#routes = tables.routes.read();
		this.#endpoints = tables.endpoints.read();
		this.#nodeConfig = tables.readNodeConfig();
	}

	get peers(): ReadonlyMap<number, Peer> {
		return this.#peers;
	}

	/** What is held of these peers, by id. */
	peerEntries(ids: ReadonlySet<number>): HeldPeers {
		return peerEntries(
			{
				peers: this.#peers,
				peerPaths: this.#peerPaths,
				peerAddresses: this.#peerAddresses,
				peerGateways: this.#peerGateways,
				routes: this.#routes,
			},
			ids,
		);
	}

	/** Epochs and the rest, as it was last written. */
	get nodeConfig(): NodeConfig {
		return this.#nodeConfig;
	}

	/**
	 * Writes the difference, then node_config: with a new route epoch if a route, an endpoint, a peer's
	 * address or the owner of a peer id has changed, and a new next hop epoch if a peer has moved. A change of
	 * path needs neither, because flows read it fresh.
	 *
	 * @param links current names and indexes. An endpoint without its interface is left out.
	 */
	apply(wanted: Tables, links: Links, hostIfindex: number): TableOutcome {
		const problems: string[] = [];
		let writes = 0;
		const pending = this.#pendingEpochs;
		const note = (count: number, failures: EntryFailure<unknown>[]): boolean => {
			writes += count - failures.length;
			problems.push(...summary(failures));
			return failures.length < count;
		};
		this.#endpointRefusals.clear();
		const actual = this.#asTables(wanted, links);
		for (const step of diff(actual, resolved(wanted, links, actual.endpoints))) {
			switch (step.table) {
				case "peers": {
					const [table, state] = [this.#tables.peers, this.#peers];
					if (step.op === "put") {
						const owners = step.entries.some(([index, peer]) => this.#newOwner(index, peer));
						const moved = step.entries.some(([index, peer]) => this.#moved(index, peer));
						if (note(step.entries.length, put(table, state, step.entries))) {
							pending.route ||= owners;
							pending.nextHop ||= moved;
						}
					} else if (note(step.keys.length, remove(table, state, step.keys))) pending.route = true;
					break;
				}
				// Every probe looks up both again.
				case "peerPaths":
					note(...write(this.#tables.peerPaths, this.#peerPaths, step));
					break;
				case "peerGateways":
					note(...write(this.#tables.peerGateways, this.#peerGateways, step));
					break;
				case "peerAddresses":
					// A flow remembers whether its remote side is a tunnel endpoint of a peer.
					if (note(...write(this.#tables.peerAddresses, this.#peerAddresses, step)))
						pending.route = true;
					break;
				// Flows keep what they began with.
				case "sourceAddresses":
					note(...write(this.#tables.sourceAddresses, this.#sourceAddresses, step));
					break;
				case "routes":
					if (note(...write(this.#tables.routes, this.#routes, step))) pending.route = true;
					break;
				case "endpoints": {
					const entries = step.op === "put" ? withIndexes(step.entries, links) : [];
					const indexed = step.op === "put" ? { op: step.op, entries } : step;
					const [count, failures] = write(this.#tables.endpoints, this.#endpoints, indexed);
					for (const { key, message } of failures) this.#endpointRefusals.set(key, message);
					if (note(count, failures)) pending.route = true;
					break;
				}
				default:
			}
		}
		const config: NodeConfig = {
			...wanted.nodeConfig,
			routeEpoch: increment(this.#nodeConfig.routeEpoch, pending.route) || 1,
			nextHopEpoch: increment(this.#nodeConfig.nextHopEpoch, pending.nextHop),
			hostIfindex,
			flowHash: secret(this.#nodeConfig.flowHash),
			portHash: secret(this.#nodeConfig.portHash),
			probeKey: this.#nodeConfig.probeKey.some((half) => half !== 0n)
				? this.#nodeConfig.probeKey
				: [randomBytes(8).readBigUInt64LE(), randomBytes(8).readBigUInt64LE()],
			strippedMac: this.#nodeConfig.strippedMac || secretMac(),
		};
		if (!NodeConfig.encode(config).equals(NodeConfig.encode(this.#nodeConfig)))
			note(1, this.#writeNodeConfig(config));
		return { writes, problems };
	}

	/** One peer's path, if the entry is that peer's already. */
	putPath(index: number, peer: Peer): void {
		const before = this.#peers.get(index);
		if (before?.nodeHash !== peer.nodeHash || isDeepStrictEqual(before, peer)) return;
		const moved = this.#moved(index, peer);
		const failures = put(this.#tables.peers, this.#peers, [[index, peer]]);
		if (moved && failures.length === 0) this.raiseNextHopEpoch();
	}

	/**
	 * Cached next hops are asked for again. Nothing to do while nothing is configured. What cannot be
	 * written now is written with the next apply.
	 */
	raiseNextHopEpoch(): void {
		if (this.#nodeConfig.flags === 0) return;
		this.#pendingEpochs.nextHop = true;
		this.#writeNodeConfig({
			...this.#nodeConfig,
			routeEpoch: increment(this.#nodeConfig.routeEpoch, this.#pendingEpochs.route),
			nextHopEpoch: increment(this.#nodeConfig.nextHopEpoch, true),
		});
	}

	/** Why this address has no entry, or not the one that is wanted; undefined: it has. */
	endpointProblem(address: string, wanted: WantedEndpoint, links: Links): string | undefined {
		const refusal = this.#endpointRefusals.get(address);
		if (refusal !== undefined) return refusal;
		const written = this.#endpoints.get(address);
		const device = links.named(wanted.interface);
		if (written !== undefined && written.ifindex === device?.ifindex && written.mac === wanted.mac)
			return undefined;
		return `Cannot find an entry for ${address} in the endpoints table: its interface is gone`;
	}

	/**
	 * Reads the maps again, in slices. Entries that someone else changed are differences for the next
	 * apply, and those that nobody wants are as well. Returns how many there are.
	 */
	async readAgain(): Promise<number> {
		const tables = this.#tables;
		let differing = 0;
		const again = async <K, V>(table: Table<K, V>, state: Map<K, V>) => {
			if (!(await table.hasChanged())) return;
			const seen = new Set<K>();
			for await (const slice of table.readInSlices())
				for (const [key, value] of slice) {
					seen.add(key);
					if (isDeepStrictEqual(state.get(key), value)) continue;
					state.set(key, value);
					differing++;
				}
			for (const key of state.keys()) if (!seen.has(key) && state.delete(key)) differing++;
		};
		await again(tables.peers, this.#peers);
		await again(tables.peerAddresses, this.#peerAddresses);
		await again(tables.peerPaths, this.#peerPaths);
		await again(tables.peerGateways, this.#peerGateways);
		await again(tables.sourceAddresses, this.#sourceAddresses);
		await again(tables.routes, this.#routes);
		await again(tables.endpoints, this.#endpoints);
		const config = tables.readNodeConfig();
		if (!isDeepStrictEqual(config, this.#nodeConfig)) {
			// Keys and epochs are this agent's own knowledge: what was lost is written as it was.
			const { routeEpoch, nextHopEpoch, flowHash, portHash, probeKey } = this.#nodeConfig;
			const own = { routeEpoch, nextHopEpoch, flowHash, portHash, probeKey };
			this.#nodeConfig = { ...config, ...own };
			this.#pendingEpochs = { route: true, nextHop: true };
			differing++;
		}
		return differing;
	}

	#writeNodeConfig(config: NodeConfig): EntryFailure<unknown>[] {
		const failures = this.#tables.nodeConfig.put([[0, config]]);
		if (failures.length === 0) {
			this.#nodeConfig = config;
			this.#pendingEpochs = { route: false, nextHop: false };
		}
		return failures;
	}

	#newOwner(index: number, { nodeHash }: Peer): boolean {
		const before = this.#peers.get(index)?.nodeHash;
		return before !== undefined && before !== nodeHash;
	}

	/** True if the cached next hop for this index belongs to another address. */
	#moved(index: number, { remote }: Peer): boolean {
		return (this.#peers.get(index)?.remote ?? "") !== remote;
	}

	/** The content of the maps as Tables; other fields are as desired, so that they are no difference. */
	#asTables(wanted: Tables, links: Links): Tables {
		const endpoints = new Map<string, WantedEndpoint>();
		// A device that no longer exists, or was replaced by one of the same name, has no name here.
		for (const [address, { ifindex, mac, index }] of this.#endpoints)
			endpoints.set(address, { interface: links.at(ifindex)?.name ?? "", mac, index });
		return {
			...wanted,
			peers: this.#peers,
			peerAddresses: this.#peerAddresses,
			peerPaths: this.#peerPaths,
			peerGateways: this.#peerGateways,
			sourceAddresses: this.#sourceAddresses,
			routes: this.#routes,
			endpoints,
		};
	}
}

/** The one that there is, or a new one. */
function secret(key: HashKey): HashKey {
	if (key.word.some((word) => word !== 0)) return key;
	return { word: key.word.map(() => randomBytes(4).readUInt32LE()) };
}

/** Epochs wrap: they are compared for equality only. */
function increment(epoch: number, really: boolean): number {
	return really ? (epoch + 1) >>> 0 : epoch;
}

/** The endpoints whose interface exists, each with its Pod's index. */
function resolved(wanted: Tables, links: Links, actual: Tables["endpoints"]): Tables {
	const present = [...wanted.endpoints].filter(
		([, endpoint]) => links.named(endpoint.interface) !== undefined,
	);
	const indexes = endpointIndexes(
		present.map(([, endpoint]) => endpoint.interface),
		[...actual.values()],
	);
	const endpoints = present.map(
		([address, endpoint]) =>
			[address, { ...endpoint, index: indexes.get(endpoint.interface) ?? 0 }] as const,
	);
	return { ...wanted, endpoints: new Map(endpoints) };
}

function withIndexes(
	entries: readonly (readonly [string, WantedEndpoint])[],
	links: Links,
): [string, Endpoint][] {
	return entries.map(([address, { interface: name, mac, index = 0 }]) => [
		address,
		{ ifindex: links.named(name)?.ifindex ?? 0, mac, index },
	]);
}

type Write<K, V> =
	| { op: "put"; entries: readonly (readonly [K, V])[] }
	| { op: "remove"; keys: readonly K[] };

/** Writes a step. Returns the number of entries, and those that the kernel refused. */
function write<K, V>(
	table: Table<K, V>,
	state: Map<K, V>,
	step: Write<K, V>,
): [count: number, failures: EntryFailure<K>[]] {
	return step.op === "put"
		? [step.entries.length, put(table, state, step.entries)]
		: [step.keys.length, remove(table, state, step.keys)];
}

function put<K, V>(
	table: Table<K, V>,
	state: Map<K, V>,
	entries: readonly (readonly [K, V])[],
): EntryFailure<K>[] {
	const failures = table.put(entries);
	const failed = new Set(failures.map(({ key }) => key));
	for (const [key, value] of entries) if (!failed.has(key)) state.set(key, value);
	return failures;
}

function remove<K, V>(table: Table<K, V>, state: Map<K, V>, keys: readonly K[]): EntryFailure<K>[] {
	const failures = table.remove(keys);
	const failed = new Set(failures.map(({ key }) => key));
	for (const key of keys) if (!failed.has(key)) state.delete(key);
	return failures;
}

/** Summarizes failures: a full map refuses thousands alike, so the first is shown with a count of the rest. */
function summary(failures: EntryFailure<unknown>[]): string[] {
	const [first, ...rest] = failures;
	if (first === undefined) return [];
	return [rest.length === 0 ? first.message : `${first.message} (and ${rest.length} more)`];
}

/** A unicast MAC that is locally administered (IEEE 802, 8.2), as `struct next_hop` has them. */
function secretMac(): bigint {
	const bytes = randomBytes(8).fill(0, 6);
	bytes[0] = (bytes[0]! & 0xfc) | 0x02;
	return bytes.readBigUInt64LE();
}
