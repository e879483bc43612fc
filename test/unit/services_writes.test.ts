/**
 * Every state between two writes is true: whoever looks a Service up then finds a backend that it had before or has
 * after, or what is right before or after.
 */
import assert from "node:assert/strict";
import fc from "fast-check";
import t from "tap";
import { atOnce } from "../../src/loop/turns.js";
import { Links } from "../../src/reconcile/links.js";
import type { AgentTables, EntryFailure } from "../../src/reconcile/maps/agent_tables.js";
import { TableState } from "../../src/reconcile/maps/table_state.js";
import { Wanted } from "../../src/reconcile/wanted.js";
import { BackendState, FrontendKind, NodeConfig } from "../../src/tables/generated.js";
import { type HeldServiceMaps, SERVICE_MAPS } from "../../src/tables/tables.js";
import { meaningOfServices, type ServicesMeaning } from "../tools/services.js";
import { ServicesWorld, serviceChanges } from "../tools/services_world.js";

/** A table on paper that calls back after each single write. */
class PaperTable<K, V> {
	readonly entries = new Map<K, V>();
	readonly #written: () => void;

	constructor(written: () => void) {
		this.#written = written;
	}
	read() {
		return new Map(this.entries);
	}
	readAt() {
		return new Map(this.entries);
	}
	put(entries: readonly (readonly [K, V])[]): EntryFailure<K>[] {
		for (const [key, value] of entries) {
			this.entries.set(key, value);
			this.#written();
		}
		return [];
	}
	remove(keys: readonly K[]): EntryFailure<K>[] {
		for (const key of keys) {
			this.entries.delete(key);
			this.#written();
		}
		return [];
	}
}

/** The reconciler's half: what a compiler's changes write, one after another. */
class Kernel {
	writes = 0;
	onWrite: () => void = () => {};
	readonly tables: Record<string, PaperTable<never, never>>;
	readonly #state: TableState;
	readonly #wanted: Wanted;

	constructor() {
		const names = ["peers", "peerAddresses", "peerPaths", "peerGateways", "sourceAddresses"];
		const written = () => {
			this.writes++;
			this.onWrite();
		};
		this.tables = Object.fromEntries(
			[...names, "routes", "endpoints", "nodeConfig", ...SERVICE_MAPS].map((name) => [
				name,
				new PaperTable<never, never>(written),
			]),
		);
		const nothing = NodeConfig.decode(Buffer.alloc(NodeConfig.size));
		const tables = { ...this.tables, readNodeConfig: () => nothing };
		this.#state = new TableState(tables as unknown as AgentTables);
		this.#wanted = new Wanted((table, key) => {
			if (table !== "hostRoutes" && table !== "endpoints") this.#state.check(table, key);
		});
	}

	get services(): HeldServiceMaps {
		return Object.fromEntries(
			SERVICE_MAPS.map((name) => [name, this.tables[name]!.entries]),
		) as unknown as HeldServiceMaps;
	}

	take(changes: Parameters<Wanted["take"]>[0]): void {
		this.writes = 0;
		atOnce(this.#wanted.take(changes));
		atOnce(this.#state.applySteps(this.#wanted.tables!, new Links([]), 1));
	}
}

/** Throws where a look-up finds what is right neither before nor after. */
function checkState(maps: HeldServiceMaps, before: ServicesMeaning, after: ServicesMeaning): void {
	const keys = new Set([...before.frontends.keys(), ...after.frontends.keys()]);
	for (const key of maps.frontends.keys()) assert.ok(keys.has(key), `${key} is nobody's`);
	for (const key of keys) {
		const [was, is] = [before.frontends.get(key), after.frontends.get(key)];
		const frontend = maps.frontends.get(key);
		if (frontend === undefined) {
			assert.ok(was === undefined || is === undefined, `${key} is missing`);
			continue;
		}
		if (frontend.kind === FrontendKind.ADDRESS) continue;
		const service = maps.services.get(frontend.service);
		assert.ok(service !== undefined, `${key} leads to no Service`);
		const hash = service.nameHash;
		assert.ok([was?.hash, is?.hash].includes(hash), `${key} leads to another Service`);
		const [old, now] = [before.ports.get(hash), after.ports.get(hash)];
		for (const [set, name] of [
			[service.clusterSet, "cluster"],
			[service.localSet, "local"],
		] as const) {
			const [first, count] = [Number(set & 0xffffffffn), Number(set >> 32n)];
			const empty = (old?.[name].length ?? 0) === 0 || (now?.[name].length ?? 0) === 0;
			if (count === 0) assert.ok(empty, `the ${name} set of ${key} is empty`);
			for (let place = first; place < first + count; place++) {
				const id = maps.serviceSlots.get(place) ?? 0;
				const backend = maps.backends.get(id);
				assert.equal(backend?.service, frontend.service, `${key}: a backend of its own`);
				const text = `${backend?.address} ${backend?.port}`;
				assert.ok(old?.[name].includes(text) || now?.[name].includes(text), `${key}: ${text}`);
				const states = maps.backendStates.get(id >> 3) ?? 0n;
				const state = Number((states >> BigInt((id & 7) * 8)) & 0xffn);
				assert.ok((state & BackendState.SERVES) !== 0, `${key}: ${text} serves`);
			}
		}
	}
}

t.test("every state between two writes is true", async () => {
	let writes = 0;
	fc.assert(
		fc.property(serviceChanges, (sequence) => {
			const world = new ServicesWorld();
			const kernel = new Kernel();
			let before = meaningOfServices(kernel.services);
			for (const together of [[], ...sequence]) {
				for (const change of together) world.make(change);
				const { tables } = world.update();
				const after = meaningOfServices(world.tables!);
				kernel.onWrite = () => checkState(kernel.services, before, after);
				kernel.take(tables);
				writes += kernel.writes;
				world.compiler.applied();
				assert.deepEqual(meaningOfServices(kernel.services), after);
				before = after;
			}
		}),
		{ numRuns: 1000 },
	);
	assert.ok(writes > 10_000, `only ${writes} writes`);
});
