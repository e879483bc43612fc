/**
 * Compiles policies, Pods, Namespaces and Nodes into the tables of network policy: what has changed, at the
 * cost of what has changed. Pure: no I/O, no clock.
 *
 *  1. what was unused since the round before goes
 *  2. Namespaces, Nodes and policies that changed
 *  3. local Pods: which policies select them, as rule lists with an id
 *  4. what their rules say of peers, as atoms: selectors on groups of Pods, blocks as prefixes
 *  5. other Pods that changed
 *  6. addresses that may mean something else: their classes
 *  7. all writes in the order that keeps each state true (policy_tables.ts)
 *
 * An atom that no policy uses any more stays where it is, since it changes no verdict; when there are many, the
 * classes are made anew.
 */
import type { ClusterPolicyObject } from "../cluster/cluster_policy_object.js";
import { NO_LABELS } from "../cluster/labels.js";
import { impliedNamespace, type NamespaceObject } from "../cluster/namespace_object.js";
import type { NetworkPolicyObject } from "../cluster/network_policy_object.js";
import type { PodObject } from "../cluster/pod_object.js";
import { matches } from "../cluster/selector.js";
import type { NodeObject } from "../cluster/snapshot.js";
import type { Steps } from "../loop/turns.js";
import { familyOf, parseAddress, writeAddress } from "../tables/address.js";
import { type NumberedAtom, union } from "./atoms.js";
import { type BlockEntry, Blocks, type Cover } from "./blocks.js";
import { type Group, Groups } from "./groups.js";
import { InForce, LIMITS, type Policy } from "./in_force.js";
import {
	isAnother,
	type NodeOwner,
	nodeOwner,
	type Owner,
	Owners,
	type PodOwner,
	podOwner,
} from "./owners.js";
import {
	NOT_READY,
	OPEN,
	type PolicyChanges,
	type PolicyTableName,
	type PolicyWrite,
} from "./policy_tables.js";
import type { Direction } from "./rule_list.js";
import { keyOf, type LocalEndpoint, type Subject, Subjects } from "./subjects.js";

/** What is known of the cluster; the store of src/cluster has it. */
export interface PolicyObjects {
	Node: NodeObject;
	Namespace: NamespaceObject;
	Pod: PodObject;
	NetworkPolicy: NetworkPolicyObject;
	ClusterNetworkPolicy: ClusterPolicyObject;
}
export type PolicyKind = keyof PolicyObjects;

export interface PolicySource {
	get<K extends PolicyKind>(kind: K, key: string): PolicyObjects[K] | undefined;
}

export interface PolicyInput {
	/** Keys of objects that came, changed or went since the last update; at first all there are. */
	changed: { readonly [K in PolicyKind]?: Iterable<string> };
	/** All that there are; absent: the same as before. */
	endpoints?: Iterable<LocalEndpoint>;
}

export interface PolicyCompilerOptions {
	source: PolicySource;
	nodeName: string;
	/**
	 * A local Pod that the source does not know: closed until it does (the Kubernetes API), or without labels
	 * in the namespace that the CNI named (a directory of manifests).
	 */
	unknownPods: "closed" | "unlabelled";
	/** Unused atoms that may stay before classes are made anew. Default: 1024. */
	staleAtoms?: number;
}

const STALE_ATOMS = 1024;
/** Classes that may come beside as many as there were. */
const STALE_CLASSES = 8192;
const STEPS = [1, 2, 3, 4, 5, 7];
const NO_ENDPOINTS = { added: [], removed: [] };
const DIRECTIONS: readonly Direction[] = ["egress", "ingress"];

type Assigned = { [D in Direction]: Policy | undefined };

/** Of whoever is not known: nothing selects it. */
const NOBODY: Group = {
	...{ key: "", namespace: "", labels: [], ports: [], atoms: [], members: new Set(), users: 0 },
	classes: new Map(),
};

export class PolicyCompiler {
	readonly #options: PolicyCompilerOptions;
	readonly #inForce: InForce;
	readonly #subjects: Subjects;
	readonly #groups: Groups;
	readonly #owners = new Owners();
	#blocks = new Blocks();
	readonly #pods = new Map<string, PodOwner>();
	readonly #nodes = new Map<string, NodeOwner>();
	readonly #local = new Map<string, PodOwner>();
	readonly #identities = new Map<string, number>();
	readonly #prefixes = new Map<string, number>();
	#coverClasses = new Map<number, number>();
	readonly #policies = new Map<Subject, Assigned>();
	/** Of addresses; as they were written. */
	readonly #endpoints = new Map<string, string>();
	readonly #closed = new Map<Subject, Set<Direction>>();
	/** Their policies were over a limit. */
	#refused = new Set<Subject>();
	#writes: PolicyWrite[][] = [];
	#written = 0;
	#classesAtRestart = 0;

	constructor(options: PolicyCompilerOptions) {
		this.#options = options;
		const { source } = options;
		this.#inForce = new InForce((step, table, key, value) => this.#write(step, table, key, value));
		const namespace = (name: string) => source.get("Namespace", name) ?? impliedNamespace(name);
		this.#subjects = new Subjects({ pod: (key) => source.get("Pod", key), namespace });
		this.#groups = new Groups({
			labelsOf: (name) => namespace(name).labels,
			portAtom: this.#inForce.numberOf,
			onChange: ({ members }) => {
				for (const address of members) this.#owners.touch(address);
			},
		});
	}

	/** False: nothing in force asks about other Pods than those of this Node. */
	get needsPods(): boolean {
		for (const { list, users } of this.#inForce.policies())
			if (users > 0)
				for (const id of list.atoms) if (this.#inForce.atoms.get(id)?.kind === "pods") return true;
		return false;
	}

	/** One ends before the next begins. */
	*update({ changed, endpoints }: PolicyInput): Steps<PolicyChanges> {
		this.#writes = [];
		this.#inForce.problems.clear();
		const { source } = this.#options;
		this.#inForce.sweep();
		if (this.#isStale()) yield* this.#restart();

		const pods = new Set(changed.Pod ?? []);
		for (const name of changed.Namespace ?? []) {
			this.#groups.renewNamespace(name);
			this.#subjects.renewNamespace(name);
			yield;
		}
		for (const name of changed.Node ?? []) {
			this.#setNode(name, source.get("Node", name));
			yield;
		}
		for (const key of changed.NetworkPolicy ?? []) {
			this.#subjects.setNetworkPolicy(key, source.get("NetworkPolicy", key));
			yield;
		}
		for (const key of changed.ClusterNetworkPolicy ?? []) {
			this.#subjects.setClusterPolicy(key, source.get("ClusterNetworkPolicy", key));
			yield;
		}
		const { added, removed } =
			endpoints === undefined ? NO_ENDPOINTS : this.#subjects.setEndpoints(endpoints);
		const renewed = new Set(added);
		this.#subjects.renewPods(pods, (subject) => renewed.add(subject));
		yield;
		const isOther = yield* this.#choose(removed);
		yield* this.#takeNew();
		for (const subject of removed) this.#setLocal(subject, false);
		for (const subject of renewed) this.#setLocal(subject, true);
		for (const key of pods) {
			this.#setPod(key, source.get("Pod", key));
			yield;
		}
		const route = isOther && this.#writeEndpoints();
		const peers = new Set<string>();
		const isRoute = yield* this.#classify(route, peers);
		return this.#result({ route: isRoute, peers });
	}

	// ------------------------------------------------------------ local Pods

	/** Returns whether anything may be chosen otherwise now. */
	*#choose(removed: readonly Subject[]): Steps<boolean> {
		for (const subject of removed) {
			const policies = this.#policies.get(subject);
			for (const direction of DIRECTIONS) this.#release(policies?.[direction]);
			this.#policies.delete(subject);
			this.#closed.delete(subject);
			this.#refused.delete(subject);
		}
		const dirty = new Set([...this.#subjects.take(), ...this.#refused]);
		this.#refused = new Set();
		for (const subject of dirty) {
			if (removed.includes(subject)) continue;
			const before = this.#policies.get(subject);
			const now = { egress: before?.egress, ingress: before?.ingress };
			for (const direction of DIRECTIONS)
				now[direction] = yield* this.#chooseFor(subject, direction, now);
			this.#policies.set(subject, now);
			yield;
		}
		return dirty.size > 0 || removed.length > 0;
	}

	/** Undefined: it is open, or closed as `#closed` says. */
	*#chooseFor(subject: Subject, direction: Direction, before: Assigned): Steps<Policy | undefined> {
		const { pod, endpoint } = subject;
		const isUnknown = pod === undefined && this.#options.unknownPods === "closed";
		const choice =
			isUnknown || pod?.ended === true ? "closed" : this.#subjects.choose(subject, direction);
		if (typeof choice === "string") {
			this.#release(before[direction]);
			this.#setState(subject, direction, choice);
			return undefined;
		}
		const policy = yield* this.#inForce.take(choice.chosen, choice.key, keyOf(endpoint));
		if (policy === undefined) {
			// Its last whole policies stay; a new Pod stays closed.
			this.#refused.add(subject);
			if (!this.#policies.has(subject)) this.#setState(subject, direction, "closed");
			return before[direction];
		}
		this.#release(before[direction]);
		this.#setState(subject, direction, "open");
		return policy;
	}

	#setState(subject: Subject, direction: Direction, state: "open" | "closed"): void {
		const closed = this.#closed.get(subject) ?? new Set();
		if (state === "closed") closed.add(direction);
		else closed.delete(direction);
		if (closed.size === 0) this.#closed.delete(subject);
		else this.#closed.set(subject, closed);
	}

	#release(policy: Policy | undefined): void {
		if (policy !== undefined) this.#inForce.release(policy);
	}

	/** Returns whether one that was there has others now. */
	#writeEndpoints(): boolean {
		let route = false;
		const wanted = new Map<string, { egress: number; ingress: number }>();
		for (const subject of this.#subjects.all()) {
			const policies = this.#policies.get(subject);
			const closed = this.#closed.get(subject);
			const idOf = (direction: Direction) =>
				closed?.has(direction) ? NOT_READY : (policies?.[direction]?.id ?? OPEN);
			const ids = { egress: idOf("egress"), ingress: idOf("ingress") };
			for (const address of subject.endpoint.addresses)
				if (!wanted.has(address)) wanted.set(address, ids);
		}
		for (const address of this.#endpoints.keys())
			if (!wanted.has(address)) {
				this.#endpoints.delete(address);
				this.#write(5, "endpointPolicies", address, undefined);
			}
		for (const [address, ids] of wanted) {
			const text = `${ids.egress} ${ids.ingress}`;
			const before = this.#endpoints.get(address);
			if (before === text) continue;
			if (before !== undefined) route = true;
			this.#endpoints.set(address, text);
			this.#write(5, "endpointPolicies", address, ids);
		}
		return route;
	}

	// ------------------------------------------------------------ owners of addresses

	#setNode(name: string, node: NodeObject | undefined): void {
		const before = this.#nodes.get(name);
		if (before !== undefined) this.#owners.remove(before);
		this.#nodes.delete(name);
		if (node === undefined) return;
		const owner = nodeOwner(node);
		this.#nodes.set(name, owner);
		this.#owners.add(owner);
	}

	#setPod(key: string, pod: PodObject | undefined): void {
		const before = this.#pods.get(key);
		const has = pod !== undefined && !pod.hostNetwork && !pod.ended && pod.addresses.length > 0;
		const now = has
			? podOwner(key, pod, this.#groups.take(pod.namespace, pod.labels, pod.ports))
			: undefined;
		const stays = this.#replace(before, now);
		if (stays === undefined) this.#pods.delete(key);
		else this.#pods.set(key, stays);
	}

	/** As the CNI has it: whatever its object says, and before its object says anything. */
	#setLocal(subject: Subject, isThere: boolean): void {
		const { endpoint, pod, labels, ports } = subject;
		const before = this.#local.get(endpoint.id);
		if (!isThere) {
			this.#replace(before, undefined);
			this.#local.delete(endpoint.id);
			return;
		}
		const isUnknown = pod === undefined && this.#options.unknownPods === "closed";
		const isNobody = isUnknown || pod?.ended === true || pod?.hostNetwork === true;
		const group = isNobody ? NOBODY : this.#groups.take(endpoint.namespace, labels, ports);
		const now: PodOwner = {
			...{ kind: "pod", key: keyOf(endpoint), uid: endpoint.uid ?? pod?.uid ?? endpoint.id },
			...{ node: this.#options.nodeName, group, created: Number.POSITIVE_INFINITY },
			addresses: [...new Set(endpoint.addresses)],
		};
		this.#local.set(endpoint.id, this.#replace(before, now)!);
	}

	/** Returns the one that stays: the former, where they are alike. */
	#replace(before: PodOwner | undefined, now: PodOwner | undefined): PodOwner | undefined {
		const isSame =
			before !== undefined &&
			now !== undefined &&
			before.group === now.group &&
			before.uid === now.uid &&
			before.node === now.node &&
			before.created === now.created &&
			before.addresses.join() === now.addresses.join();
		if (!isSame) {
			if (before !== undefined) this.#owners.remove(before);
			if (now !== undefined) this.#owners.add(now);
		}
		if (before !== undefined && before.group !== NOBODY) this.#groups.release(before.group);
		return isSame ? before : now;
	}

	// ------------------------------------------------------------ atoms

	*#takeNew(): Steps<void> {
		const { atoms, names } = this.#inForce.takeNew();
		const pods = atoms.filter((atom) => atom.kind === "pods");
		const blocks = atoms.filter((atom) => atom.kind === "block");
		yield* this.#groups.add(pods, names);
		if (blocks.length > 0) {
			const { changed, within } = yield* this.#blocks.add(blocks);
			for (const entry of changed) this.#changedBlocks.add(entry);
			yield* this.#owners.touchWithin(within);
		}
		const nodes = atoms.filter((atom) => atom.kind === "nodes");
		this.#nodeSelectors.push(...nodes);
		if (nodes.length > 0)
			for (const { addresses } of this.#nodes.values())
				for (const address of addresses) this.#owners.touch(address);
	}

	#nodeSelectors: Extract<NumberedAtom, { kind: "nodes" }>[] = [];
	readonly #changedBlocks = new Set<BlockEntry>();

	/** Too much of what there is has no use any more. */
	#isStale(): boolean {
		const { unusedAtoms, classCount } = this.#inForce;
		if (this.#refused.size > 0 && unusedAtoms > 0) return true;
		if (this.#blocks.size > LIMITS.prefixes && unusedAtoms > 0) return true;
		return (
			unusedAtoms > (this.#options.staleAtoms ?? STALE_ATOMS) ||
			classCount > 2 * this.#classesAtRestart + STALE_CLASSES
		);
	}

	/** Makes all classes anew, of the atoms that are used. Policies stay. */
	*#restart(): Steps<void> {
		const used = new Set<number>();
		const names = new Set<string>();
		for (const { list } of this.#inForce.policies()) {
			for (const id of list.atoms) used.add(id);
			for (const name of list.names) names.add(name);
		}
		const { atoms } = this.#inForce;
		atoms.retain(({ id }) => used.has(id));
		this.#inForce.restartClasses();
		this.#coverClasses = new Map();
		NOBODY.classes.clear();
		const all = [...atoms.all()];
		yield;
		yield* this.#groups.restart(
			all.filter((atom) => atom.kind === "pods"),
			names,
		);
		this.#nodeSelectors = all.filter((atom) => atom.kind === "nodes");
		this.#blocks = new Blocks();
		this.#changedBlocks.clear();
		yield* this.#blocks.add(all.filter((atom) => atom.kind === "block"));
		const kept = new Set(this.#blocks.entries().map(({ prefix }) => prefix.text));
		for (const text of this.#prefixes.keys())
			if (!kept.has(text)) {
				this.#prefixes.delete(text);
				this.#write(4, "blocks", text, undefined);
			}
		for (const entry of this.#blocks.entries()) this.#changedBlocks.add(entry);
		this.#owners.touchAll();
		this.#restarted = true;
	}

	#restarted = false;
	/** Flows of an earlier agent may be there: all of them look again. */
	#isFirst = true;

	// ------------------------------------------------------------ classes

	/** Returns whether something of this Node has changed. */
	*#classify(route: boolean, peers: Set<string>): Steps<boolean> {
		for (const entry of this.#changedBlocks) {
			const { text } = entry.prefix;
			const number = this.#coverClass(entry.cover);
			if (this.#prefixes.get(text) !== number) {
				this.#prefixes.set(text, number);
				this.#write(4, "blocks", text, number);
			}
			yield;
		}
		this.#changedBlocks.clear();
		const dirty = this.#owners.take();
		for (const address of [...dirty.keys()]) {
			const owner = this.#owners.at(address);
			if (owner?.kind !== "node") continue;
			// What covers one of a Node's addresses means all of them.
			for (const other of owner.addresses) if (!dirty.has(other)) dirty.set(other, owner);
		}
		let isRoute = route || this.#isFirst;
		for (const [address, former] of dirty) {
			yield;
			const owner = this.#owners.at(address);
			const cover = this.#blocks.coverAt(bytesOf(address));
			const before = this.#identities.get(address);
			const now = this.#classOf(address, owner, cover);
			if (before !== now) {
				if (now === undefined) this.#identities.delete(address);
				else this.#identities.set(address, now);
				this.#write(4, "identities", address, now);
			}
			// The whole epoch has been raised: every flow looks again.
			if (isRoute) continue;
			const plain = this.#coverClass(cover);
			const fresh = former === undefined && !this.#restarted;
			const isOther =
				isAnother(former, owner) ||
				(!this.#restarted && this.#inForce.differ(before ?? plain, now ?? plain, fresh));
			if (!isOther) continue;
			const node = owner?.node ?? former?.node ?? "";
			if (node === this.#options.nodeName || !this.#nodes.has(node)) isRoute = true;
			else peers.add(node);
		}
		if (isRoute) peers.clear();
		if (this.#restarted || this.#isFirst) this.#classesAtRestart = this.#inForce.classCount;
		this.#isFirst = false;
		this.#restarted = false;
		if (this.#identities.size > LIMITS.identities)
			this.#inForce.problems.add(
				`Cannot write all addresses: expected at most ${LIMITS.identities}, got ${this.#identities.size}`,
			);
		return isRoute;
	}

	/** Undefined: that of its prefix. */
	#classOf(address: string, owner: Owner | undefined, cover: Cover): number | undefined {
		if (owner === undefined) return undefined;
		if (owner.kind === "node") {
			const atoms = this.#nodeAtoms(owner, address, cover);
			return atoms.join() === cover.atoms.join() ? undefined : this.#inForce.classOf(atoms);
		}
		const { group } = owner;
		if (group.atoms.length === 0) return undefined;
		let number = group.classes.get(cover.id);
		if (number === undefined) {
			number = this.#inForce.classOf(union(group.atoms, cover.atoms));
			group.classes.set(cover.id, number);
		}
		return number;
	}

	/**
	 * A block with any of a Node's addresses means the Node: its InternalIPs decide where the block's prefix has
	 * any, and an except of one of them excepts the Node; else its gateway does.
	 */
	#nodeAtoms({ object, gateways }: NodeOwner, address: string, cover: Cover): readonly number[] {
		const same = (one: string) => familyOf(one) === familyOf(address);
		const atoms = new Set<number>();
		const within = new Set<number>();
		const excepted = new Set<number>();
		for (const one of object.internalIPs.filter(same)) {
			const bytes = parseAddress(one)!;
			const held = new Set(this.#blocks.coverAt(bytes).atoms);
			for (const atom of this.#blocks.over(bytes)) {
				within.add(atom);
				if (!held.has(atom)) excepted.add(atom);
			}
		}
		for (const atom of within) if (!excepted.has(atom)) atoms.add(atom);
		for (const one of gateways.filter(same))
			for (const atom of this.#blocks.coverAt(parseAddress(one)!).atoms)
				if (!within.has(atom)) atoms.add(atom);
		if (object.externalIPs?.includes(address)) for (const atom of cover.atoms) atoms.add(atom);
		for (const atom of this.#nodeSelectors)
			if (matches(atom.nodes, object.labels ?? NO_LABELS)) atoms.add(atom.id);
		return [...atoms].sort((a, b) => a - b);
	}

	#coverClass(cover: Cover): number {
		let number = this.#coverClasses.get(cover.id);
		if (number === undefined) {
			number = this.#inForce.classOf(cover.atoms);
			this.#coverClasses.set(cover.id, number);
		}
		return number;
	}

	// ------------------------------------------------------------ writes

	#write(step: number, table: PolicyTableName, key: number | string, value: unknown): void {
		this.#writes[step] ??= [];
		this.#writes[step].push({ step, table, key, value });
	}

	#result(epochs: PolicyChanges["epochs"]): PolicyChanges {
		const { nextClass, problems } = this.#inForce;
		if (this.#written !== nextClass) this.#write(3, "classLimit", 0, nextClass);
		this.#written = nextClass;
		return {
			writes: STEPS.flatMap((step) => this.#writes[step] ?? []),
			epochs,
			hasGarbage: this.#inForce.hasGarbage,
			problems: [...problems].sort(),
		};
	}
}

const SCRATCH = Buffer.alloc(16);

/** Valid until the next call. */
function bytesOf(address: string): Uint8Array {
	writeAddress(SCRATCH, 0, address);
	return SCRATCH;
}
