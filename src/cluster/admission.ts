/**
 * Which Nodes are in the cluster, where pod CIDRs or addresses collide: the one that was there first
 * stays, the other is refused.
 *
 *  1. Nodes that say when they were created (those of the Kubernetes API do): the oldest first, then
 *     by uid and name. All agents decide alike, whatever they saw before.
 *  2. All others, after those: what is in stays in; what an agent before this one had comes before
 *     what is new; then by name. One of them that changes into a conflict keeps what it said before.
 *
 * `admitAll` is the obvious way. `Admission` does the same at the cost of what has changed, as long as
 * no conflict is touched.
 */
import { isDeepStrictEqual } from "node:util";
import type { Prefix } from "../tables/prefix.js";
import { Claims } from "./claims.js";
import { STAYS } from "./file_objects.js";
import { olderFirst } from "./seniority.js";
import { ServiceAddresses } from "./service_addresses.js";
import { ServiceCatalog } from "./service_catalog.js";
import type { NodeObject, Problem, Snapshot } from "./snapshot.js";
import type { Store, StoreReader } from "./store.js";

/** Prefixes of Services: a quarter of the routes that there can be. */
const SERVICES_MAX = 16_384;

/** Why a Node is not in as it would be, and the Node that it conflicts with. */
interface Refusal {
	with: string;
	message: string;
}

export interface Admitted {
	nodes: Map<string, NodeObject>;
	/** By name. */
	refused: Map<string, Refusal>;
}

/**
 * @param before what was in the last time
 * @param wasThere of a Node without a date: an earlier agent of this Node had it
 */
export function admitAll(
	records: Iterable<NodeObject>,
	before: ReadonlyMap<string, NodeObject> = new Map(),
	wasThere: (name: string) => boolean = () => false,
): Admitted {
	const dated: NodeObject[] = [];
	const staying: NodeObject[] = [];
	const changed: [was: NodeObject, is: NodeObject][] = [];
	const fresh: NodeObject[] = [];
	for (const node of records) {
		const was = before.get(node.name);
		if (node.created !== undefined) dated.push(node);
		else if (was !== undefined && isDeepStrictEqual(was, node)) staying.push(was);
		else if (was !== undefined) changed.push([was, node]);
		else fresh.push(node);
	}
	dated.sort((a, b) => olderFirst(a, b) || byName(a, b));
	changed.sort(([, a], [, b]) => byName(a, b));
	const rank = new Map(fresh.map(({ name }) => [name, wasThere(name) ? 0 : 1]));
	fresh.sort((a, b) => rank.get(a.name)! - rank.get(b.name)! || byName(a, b));

	const claims = new Claims();
	const nodes = new Map<string, NodeObject>();
	const refused = new Map<string, Refusal>();
	const admit = (node: NodeObject): void => {
		claims.add(node);
		nodes.set(node.name, node);
	};
	const consider = (node: NodeObject, otherwise?: NodeObject): void => {
		const conflict = claims.conflict(node);
		if (conflict === undefined) {
			admit(node);
			return;
		}
		const stays = otherwise !== undefined && claims.conflict(otherwise) === undefined;
		if (stays) admit(otherwise);
		refused.set(node.name, {
			with: conflict.with,
			message: `Cannot accept Node ${node.name}: ${conflict.why}${stays ? `; ${STAYS}` : ""}`,
		});
	};
	for (const node of dated) consider(node);
	for (const node of staying) consider(node);
	for (const [was, node] of changed) consider(node, was);
	for (const node of fresh) consider(node);
	return { nodes, refused };
}

function byName(a: NodeObject, b: NodeObject): number {
	return a.name < b.name ? -1 : 1;
}

export class Admission {
	readonly #store: Store;
	readonly #reader: StoreReader;
	readonly #wasThere: (name: string) => boolean;
	#claims = new Claims();
	#refused: ReadonlyMap<string, Refusal> = new Map();
	/** Names for which another object was refused. */
	#blockers: ReadonlySet<string> = new Set();
	/** Shared by every snapshot: the same map, changed in place. */
	readonly #nodes = new Map<string, NodeObject>();
	#changed = new Set<string>();
	readonly #services: ServiceAddresses;
	#admittedServices: { of: readonly Prefix[]; prefixes: readonly Prefix[]; count: number } = {
		...{ of: [], prefixes: [], count: 0 },
	};
	readonly #catalog: ServiceCatalog;
	#snapshot: Snapshot;
	#revision = -1;

	/** @param wasThere an earlier agent of this Node had a Node of that name */
	constructor(store: Store, wasThere: (name: string) => boolean = () => false) {
		this.#store = store;
		this.#reader = store.reader("Node");
		this.#services = new ServiceAddresses(store);
		this.#catalog = new ServiceCatalog(store);
		this.#snapshot = {
			...{ nodes: this.#nodes, services: [], catalog: this.#catalog, problems: [], synced: false },
		};
		this.#wasThere = wasThere;
	}

	/** As the store is now; the same object as before when nothing has changed. Its Nodes are those of now. */
	update(): Snapshot {
		const store = this.#store;
		if (this.#revision === store.revision) return this.#snapshot;
		this.#revision = store.revision;
		const names = this.#reader.take();
		if (names.size > 0) this.#admit(names);
		this.#catalog.update();
		const refusals = [...this.#refused].map(([name, { message }]): Problem => {
			const file = store.fileOf("Node", name);
			return file === undefined ? { message } : { file, message };
		});
		const problems = [...store.problems(), ...refusals, ...this.#catalog.problems()];
		const services = this.#admitServices(names.size > 0, problems);
		const synced = store.isSynced("Node");
		this.#snapshot = { nodes: this.#nodes, services, catalog: this.#catalog, problems, synced };
		return this.#snapshot;
	}

	/** The Nodes that have come, gone or changed since the last call. */
	takeChanged(): ReadonlySet<string> {
		const changed = this.#changed;
		this.#changed = new Set();
		return changed;
	}

	/** The Services that have come, gone or changed, or whose endpoints have, since the last call: "namespace/name". */
	takeChangedServices(): ReadonlySet<string> {
		return this.#catalog.takeChanged();
	}

	/**
	 * Anyone who may create Services can give one any address. So an address of a Node or Pod stays theirs, and
	 * their number is limited to what the tables of Nodes can hold.
	 */
	#admitServices(nodesChanged: boolean, problems: Problem[]): readonly Prefix[] {
		const before = this.#admittedServices;
		const all = this.#services.update();
		if (all !== before.of || nodesChanged) {
			const admitted = all.filter((prefix) => !this.#claims.has(prefix));
			const prefixes = admitted.slice(0, SERVICES_MAX);
			// The same array while it has the same: much is made of it.
			const same =
				prefixes.length === before.prefixes.length &&
				prefixes.every((prefix, i) => prefix.text === before.prefixes[i]?.text);
			this.#admittedServices = {
				of: all,
				prefixes: same ? before.prefixes : prefixes,
				count: admitted.length,
			};
		}
		const { prefixes, count } = this.#admittedServices;
		if (count > SERVICES_MAX)
			problems.push({
				message: `Cannot serve all addresses of Services: expected at most ${SERVICES_MAX}, got ${count}`,
			});
		return prefixes;
	}

	#admit(names: ReadonlySet<string>): void {
		const removed: NodeObject[] = [];
		const added: NodeObject[] = [];
		let simple = true;
		for (const name of names) {
			if (this.#refused.has(name) || this.#blockers.has(name)) simple = false;
			const [was, is] = [this.#nodes.get(name), this.#store.get("Node", name)];
			if (was === is) continue;
			if (was !== undefined) removed.push(was);
			if (is !== undefined) added.push(is);
		}
		if (simple) {
			for (const node of removed) this.#claims.remove(node);
			for (const node of added) {
				if (this.#claims.conflict(node) !== undefined) simple = false;
				else this.#claims.add(node);
			}
		}
		if (!simple) {
			this.#admitAll();
			return;
		}
		for (const { name } of removed) this.#set(name, undefined);
		for (const node of added) this.#set(node.name, node);
	}

	#admitAll(): void {
		const records = [...this.#store.keys("Node")].map((name) => this.#store.get("Node", name)!);
		const { nodes, refused } = admitAll(records, this.#nodes, this.#wasThere);
		this.#claims = new Claims();
		for (const node of nodes.values()) this.#claims.add(node);
		this.#refused = refused;
		this.#blockers = new Set([...refused.values()].map((refusal) => refusal.with));
		for (const name of this.#nodes.keys()) if (!nodes.has(name)) this.#set(name, undefined);
		for (const node of nodes.values()) this.#set(node.name, node);
	}

	#set(name: string, node: NodeObject | undefined): void {
		if (this.#nodes.get(name) === node) return;
		if (node === undefined) this.#nodes.delete(name);
		else this.#nodes.set(name, node);
		this.#changed.add(name);
	}
}
