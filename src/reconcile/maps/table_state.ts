/**
 * The content of the agent's BPF maps, and the writes that bring them to the desired state.
 *
 * Each table (owned_table.ts) knows what it holds, what is wanted, and the entries whose write is pending, so
 * that a pass costs what has changed. After a restart they start with the content of the maps.
 */
import { isDeepStrictEqual } from "node:util";
import { inTurns, type Steps } from "../../loop/turns.js";
import { DenseMap } from "../../tables/dense_map.js";
import {
	type Endpoint,
	type NodeConfig,
	type Peer,
	ProbeWay,
	type Route,
	type SourceAddress,
} from "../../tables/generated.js";
import type { HeldPeers, HeldServices, MapName, Tables } from "../../tables/tables.js";
import type { Links } from "../links.js";
import type { AgentTables, EntryFailure } from "./agent_tables.js";
import { EndpointEntries, type WantedEndpoint } from "./endpoint_entries.js";
import { NodeConfigState } from "./node_config.js";
import { type Batch, OwnedTable } from "./owned_table.js";
import { peerEntries } from "./peer_entries.js";
import { PolicyEpochs } from "./policy_epochs.js";
import { PolicyTables, type PolicyTarget } from "./policy_tables.js";
import { ServiceTables } from "./service_tables.js";

export interface TableOutcome {
	writes: number;
	problems: string[];
}

/** Endpoints are resolved anew with each apply. */
interface OwnedTables {
	peers: OwnedTable<number, Peer>;
	peerAddresses: OwnedTable<string, number>;
	peerPaths: OwnedTable<number, Peer>;
	peerGateways: OwnedTable<string, number>;
	sourceAddresses: OwnedTable<number, SourceAddress>;
	routes: OwnedTable<string, Route>;
	endpoints: OwnedTable<string, Endpoint>;
}

export class TableState {
	readonly #owned: OwnedTables;
	readonly #services: ServiceTables;
	readonly #all: OwnedTables & ServiceTables["owned"];
	readonly #nodeConfig: NodeConfigState;
	readonly #endpoints: EndpointEntries;
	readonly #policyEpochs = new PolicyEpochs();
	/** Of network policy. */
	readonly policies: PolicyTables;

	/**
	 * Reads the entries of an earlier agent, except the tables of Services, which `adopt` reads.
	 *
	 * @param peersEnd there are no peers from this index on; default: that is not known
	 */
	constructor(tables: AgentTables, peersEnd?: number) {
		const held = tables.peers.read(peersEnd);
		this.#policyEpochs.adopt(held);
		const peers = new OwnedTable(tables.peers, new DenseMap(held), this.#policyEpochs);
		// Only of peers with an entry: both are written and removed together.
		const ways = [...peers.held.keys()].flatMap((index) => [
			index * 2 + ProbeWay.DIRECT,
			index * 2 + ProbeWay.TUNNEL,
		]);
		this.#owned = {
			peers,
			peerAddresses: new OwnedTable(tables.peerAddresses),
			peerPaths: new OwnedTable(tables.peerPaths, new DenseMap(tables.peerPaths.readAt(ways))),
			peerGateways: new OwnedTable(tables.peerGateways),
			sourceAddresses: new OwnedTable(tables.sourceAddresses),
			routes: new OwnedTable(tables.routes),
			endpoints: new OwnedTable(tables.endpoints),
		};
		this.#services = new ServiceTables(tables);
		this.#all = { ...this.#owned, ...this.#services.owned };
		this.#nodeConfig = new NodeConfigState(tables);
		this.#endpoints = new EndpointEntries(this.#owned.endpoints, (address, name) =>
			this.policies.policiesOf(address, name),
		);
		this.policies = new PolicyTables(tables, this.#policyTarget());
	}

	/** Reads the tables of Services that an earlier agent wrote, in slices, before anything is applied. */
	adopt(): Promise<void> {
		return this.#services.adopt();
	}

	get peers(): ReadonlyMap<number, Peer> {
		return this.#owned.peers.held;
	}

	/** What the tables of Services hold. */
	get services(): HeldServices {
		return { ...this.#services.held, routes: this.#owned.routes.held };
	}

	/** What is held of these peers, by id. */
	peerEntries(ids: ReadonlySet<number>): HeldPeers {
		const { peers, peerPaths, peerAddresses, peerGateways, routes } = this.#owned;
		return peerEntries(
			{
				peers: peers.held,
				peerPaths: peerPaths.held,
				peerAddresses: peerAddresses.held,
				peerGateways: peerGateways.held,
				routes: routes.held,
			},
			ids,
		);
	}

	/** The policies that the element of an address has; undefined: it has none. */
	endpointPolicies(address: string): { egress: number; ingress: number } | undefined {
		const held = this.#owned.endpoints.held.get(address);
		return held && { egress: held.egressPolicy, ingress: held.ingressPolicy };
	}

	/** Epochs and the rest, as it was last written. */
	get nodeConfig(): NodeConfig {
		return this.#nodeConfig.held;
	}

	/**
	 * Writes the difference, in this order, with turns of the event loop between:
	 *
	 *  1. what differs is found, at the cost of what is new in `wanted`
	 *  2. puts: peers, then the addresses and routes that refer to them; of Services see service_tables.ts
	 *  3. removals in reverse: references before their targets
	 *  4. node_config: with a new route epoch if a route, a frontend, an endpoint, a peer's address or the owner
	 *     of a peer id has changed, and a new next hop epoch if a peer has moved. A change of path needs neither,
	 *     because flows read it fresh.
	 *
	 * @param wanted maps that are replaced, never changed, but for keys that `check` and `putPath` are told
	 * @param links current names and indexes. An endpoint without its interface is left out.
	 */
	apply(wanted: Tables, links: Links, hostIfindex: number): Promise<TableOutcome> {
		return inTurns(this.applySteps(wanted, links, hostIfindex));
	}

	/** The same in steps. */
	*applySteps(wanted: Tables, links: Links, hostIfindex: number): Steps<TableOutcome> {
		const problems: string[] = [];
		let writes = 0;
		const note = (count: number, failures: readonly EntryFailure<unknown>[]) => {
			writes += count - failures.length;
			problems.push(...summary(failures));
		};
		function* write<K, V>(
			batches: Iterable<Batch<K, V>>,
			effect: (batch: Batch<K, V>) => void = () => {},
		): Steps<EntryFailure<K>[]> {
			let count = 0;
			const failures: EntryFailure<K>[] = [];
			for (const batch of batches) {
				count += batch.entries.length;
				failures.push(...batch.failures);
				if (batch.failures.length < batch.entries.length) effect(batch);
				yield;
			}
			note(count, failures);
			return failures;
		}
		const route = (): void => {
			this.#nodeConfig.owe("route");
		};

		for (const steps of [
			this.#owned.peerPaths.want(wanted.peerPaths),
			this.#owned.peers.want(wanted.peers),
			this.#owned.peerAddresses.want(wanted.peerAddresses),
			this.#owned.peerGateways.want(wanted.peerGateways),
			this.#owned.sourceAddresses.want(wanted.sourceAddresses),
			this.#endpoints.want(wanted.endpoints, links),
			this.#services.want(wanted),
			this.#owned.routes.want(wanted.routes),
		])
			yield* steps;
		this.#endpoints.begin();

		// Every probe looks up both again.
		yield* write(this.#owned.peerPaths.put());
		yield* write(this.#owned.peers.put(), ({ entries }) => {
			for (const { before, now } of entries) {
				if (newOwner(before, now)) this.#nodeConfig.owe("route");
				if (moved(before, now)) this.#nodeConfig.owe("nextHop");
			}
		});
		// A flow remembers whether its remote side is a tunnel endpoint of a peer.
		yield* write(this.#owned.peerAddresses.put(), route);
		yield* write(this.#owned.peerGateways.put());
		// Flows keep what they began with.
		yield* write(this.#owned.sourceAddresses.put());
		this.#endpoints.refused(yield* write(this.#owned.endpoints.put(), route));
		yield* this.#services.put(write, route);
		yield* write(this.#owned.routes.put(), route);

		yield* write(this.#owned.routes.remove(), route);
		yield* this.#services.remove(write, route);
		this.#endpoints.refused(yield* write(this.#owned.endpoints.remove(), route));
		yield* write(this.#owned.sourceAddresses.remove());
		yield* write(this.#owned.peerGateways.remove());
		yield* write(this.#owned.peerAddresses.remove(), route);
		yield* write(this.#owned.peers.remove(), route);
		yield* write(this.#owned.peerPaths.remove());

		const refusals = this.#nodeConfig.write(wanted.nodeConfig, hostIfindex);
		if (refusals !== undefined) note(1, refusals);
		return { writes, problems };
	}

	/** What is wanted for this key has changed, in the map that was wanted last. */
	check(table: Exclude<MapName, "endpoints" | "hostRoutes">, key: number | string): void {
		(this.#all[table] as OwnedTable<unknown, unknown>).check(key);
	}

	/** One peer's path, if the entry is that peer's already. */
	putPath(index: number, peer: Peer): void {
		const before = this.#owned.peers.held.get(index);
		if (before?.nodeHash !== peer.nodeHash || isDeepStrictEqual(before, peer)) {
			this.#owned.peers.check(index);
			return;
		}
		const failures = this.#owned.peers.write(index, peer);
		if (moved(before, peer) && failures.length === 0) this.raiseNextHopEpoch();
	}

	/** Flows look again at everything. What cannot be written now is written with the next apply. */
	raiseRouteEpoch(): EntryFailure<unknown>[] {
		return this.#nodeConfig.raiseRouteEpoch();
	}

	/** Cached next hops are asked for again. What cannot be written now is written with the next apply. */
	raiseNextHopEpoch(): void {
		this.#nodeConfig.raiseNextHopEpoch();
	}

	/** Why this address has no entry, or not the one that is wanted; undefined: it has. */
	endpointProblem(address: string, wanted: WantedEndpoint, links: Links): string | undefined {
		return this.#endpoints.problem(address, wanted, links);
	}

	/**
	 * Reads the maps again, each with one of these and in slices. Entries that someone else changed are differences for
	 * the next apply, and those that nobody wants are as well. Each returns how many there are. Applies may run
	 * between them, not meanwhile.
	 */
	readings(): (() => Promise<number>)[] {
		return [
			...Object.values(this.#all).map((table) => () => table.readAgain()),
			async () => (this.#nodeConfig.readAgain() ? 1 : 0),
		];
	}

	#policyTarget(): PolicyTarget {
		return {
			putEndpoint: (address) => this.#endpoints.renew(address),
			raiseRouteEpoch: () => this.raiseRouteEpoch(),
			raisePolicyEpochs: (ids) => this.#raisePolicyEpochs(ids),
			endpointPolicies: (address) => this.endpointPolicies(address),
			policiesInUse: () =>
				[...this.#owned.endpoints.held.values()].flatMap((one) => [
					one.egressPolicy,
					one.ingressPolicy,
				]),
		};
	}

	#raisePolicyEpochs(ids: Iterable<number>): EntryFailure<unknown>[] {
		const failures: EntryFailure<unknown>[] = [];
		const { peers } = this.#owned;
		let covers = true;
		for (const id of ids) {
			let isPeer = false;
			for (const index of [id * 2, id * 2 + 1]) {
				const held = peers.held.get(index);
				// An epoch of long ago would pass for current.
				if (this.#policyEpochs.raise(index)) covers = false;
				if (held === undefined) continue;
				isPeer = true;
				failures.push(...peers.write(index, held));
			}
			// Flows with its addresses began when it was none.
			if (!isPeer) covers = false;
		}
		return covers ? failures : [...failures, ...this.raiseRouteEpoch()];
	}
}

function newOwner(before: Peer | undefined, now: Peer | undefined): boolean {
	return before !== undefined && before.nodeHash !== now?.nodeHash;
}

/** True if the cached next hop for this index belongs to another address. */
function moved(before: Peer | undefined, now: Peer | undefined): boolean {
	return (before?.remote ?? "") !== (now?.remote ?? "");
}

/** Summarizes failures: a full map refuses thousands alike, so the first is shown with a count of the rest. */
function summary(failures: readonly EntryFailure<unknown>[]): string[] {
	const [first, ...rest] = failures;
	if (first === undefined) return [];
	return [rest.length === 0 ? first.message : `${first.message} (and ${rest.length} more)`];
}
