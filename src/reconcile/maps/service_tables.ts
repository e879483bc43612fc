/**
 * The tables of Services, and the order of writes that keeps every intermediate state valid: a look-up between two
 * writes finds a backend that the Service had before or has now.
 *
 *  1. referenced entries are written before those that refer to them: backends, the states of joining backends,
 *     source ranges, places of sets, Services, frontends
 *  2. removals follow, in the reverse order: frontends, Services, places, source ranges, the states of leaving
 *     backends, backends
 *
 * A set is one word of `services`, so it changes with one write. Routes stand between 1 and 2.
 */
import type { Steps } from "../../loop/turns.js";
import { type Backend, BackendState, type Frontend, type Service } from "../../tables/generated.js";
import type { HeldServiceMaps, ServiceMaps } from "../../tables/tables.js";
import type { AgentTables, EntryFailure } from "./agent_tables.js";
import { type Batch, OwnedTable } from "./owned_table.js";

/** Writes batches between turns and notes what came of them; `effect` for each batch of which something was written. */
export type Write = <K, V>(
	batches: Iterable<Batch<K, V>>,
	effect?: (batch: Batch<K, V>) => void,
) => Steps<EntryFailure<K>[]>;

export class ServiceTables {
	readonly owned: {
		frontends: OwnedTable<string, Frontend>;
		services: OwnedTable<number, Service>;
		serviceSlots: OwnedTable<number, number>;
		backends: OwnedTable<number, Backend>;
		backendStates: OwnedTable<number, bigint>;
		serviceRanges: OwnedTable<string, number>;
	};

	/** Nothing of it is read yet. */
	constructor(tables: AgentTables) {
		this.owned = {
			frontends: OwnedTable.unread(tables.frontends),
			services: OwnedTable.unreadArray(tables.services),
			serviceSlots: OwnedTable.unreadArray(tables.serviceSlots),
			backends: OwnedTable.unreadArray(tables.backends),
			backendStates: OwnedTable.unreadArray(tables.backendStates),
			serviceRanges: OwnedTable.unread(tables.serviceRanges),
		};
	}

	/** Reads what an earlier agent wrote, in slices; the largest arrays only as far as the other tables use them. */
	async adopt(): Promise<void> {
		const { frontends, services, serviceSlots, backends, backendStates, serviceRanges } =
			this.owned;
		for (const table of [frontends, serviceRanges, backendStates]) await table.read();
		let words = 0;
		for (const word of backendStates.held.keys()) words = Math.max(words, word + 1);
		await backends.read(words * Number(STATES_A_WORD));
		// The core looks up no Service that none of these entries names.
		let named = 0;
		for (const { service } of frontends.held.values()) named = Math.max(named, service + 1);
		for (const { service } of backends.held.values()) named = Math.max(named, service + 1);
		for (const range of serviceRanges.held.keys()) named = Math.max(named, serviceOf(range) + 1);
		await services.read(named);
		let places = 0;
		for (const { clusterSet, localSet } of services.held.values())
			places = Math.max(places, endOf(clusterSet), endOf(localSet));
		await serviceSlots.read(places);
		for (const table of [services, serviceSlots, backends, backendStates]) table.readOnlyUsed();
	}

	/** What the maps hold. */
	get held(): HeldServiceMaps {
		const { frontends, services, serviceSlots, backends, backendStates, serviceRanges } =
			this.owned;
		return {
			frontends: frontends.held,
			services: services.held,
			serviceSlots: serviceSlots.held,
			backends: backends.held,
			backendStates: backendStates.held,
			serviceRanges: serviceRanges.held,
		};
	}

	/** Sets the desired content. */
	*want(wanted: ServiceMaps): Steps<void> {
		yield* this.owned.frontends.want(wanted.frontends);
		yield* this.owned.services.want(wanted.services);
		yield* this.owned.serviceSlots.want(wanted.serviceSlots);
		yield* this.owned.backends.want(wanted.backends);
		yield* this.owned.backendStates.want(wanted.backendStates);
		yield* this.owned.serviceRanges.want(wanted.serviceRanges);
	}

	/** @param route called when the destination of a frontend's flows has changed */
	*put(write: Write, route: () => void): Steps<void> {
		const { frontends, services, serviceSlots, backends, backendStates, serviceRanges } =
			this.owned;
		yield* write(backends.put());
		yield* write(backendStates.approach(withThoseThatJoin));
		yield* write(serviceRanges.put());
		yield* write(serviceSlots.put());
		yield* write(services.put());
		yield* write(frontends.put(), route);
	}

	*remove(write: Write, route: () => void): Steps<void> {
		const { frontends, services, serviceSlots, backends, backendStates, serviceRanges } =
			this.owned;
		yield* write(frontends.remove(), route);
		yield* write(services.remove());
		yield* write(serviceSlots.remove());
		yield* write(serviceRanges.remove());
		yield* write(backendStates.put());
		yield* write(backendStates.remove());
		yield* write(backends.remove());
	}
}

/** The Service index in a key of service_ranges. */
function serviceOf(range: string): number {
	return Number.parseInt(range, 10);
}

/** The place behind a set. */
function endOf(set: bigint): number {
	return Number(set & 0xffffffffn) + Number(set >> 32n);
}

const STATES_A_WORD = 8n;
const STATE_BITS = 8n;
const STATE_MASK = 0xffn;

/** The states of eight backends when those that join have joined, and none has left a set yet. */
export function withThoseThatJoin(held: bigint | undefined, wanted: bigint): bigint {
	let word = 0n;
	for (let at = 0n; at < STATES_A_WORD * STATE_BITS; at += STATE_BITS) {
		const before = Number(((held ?? 0n) >> at) & STATE_MASK);
		const now = Number((wanted >> at) & STATE_MASK);
		const joins = (now & BackendState.SERVES) !== 0;
		const state = joins ? (before | now) & ~BackendState.RESTS : before;
		word |= BigInt(state) << at;
	}
	return word;
}
