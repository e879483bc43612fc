/**
 * Compiles policies, Pods, Namespaces and Nodes into the tables of network policy: what has changed, at the
 * cost of what has changed. Pure: no I/O, no clock.
 *
 *  1. what was unused since the round before goes
 *  2. Namespaces, Nodes and policies that changed
 *  3. local Pods: which policies select them, as rule lists
 *  4. what their rules say of peers, as atoms: selectors on groups of Pods, blocks as prefixes
 *  5. other Pods that changed
 *  6. addresses that may mean something else: their classes
 *  7. policies of the rule lists, with their verdicts for all classes; the local Pods that have them
 *  8. epochs of flows for which an address means something else
 *  9. all writes in the order that keeps each state true (policy_tables.ts)
 *
 * An atom that no policy uses any more stays where it is, since it changes no verdict; when there are many, the
 * classes are made anew.
 */
import type { ClusterPolicyObject } from "../cluster/cluster_policy_object.js";
import { impliedNamespace, type NamespaceObject } from "../cluster/namespace_object.js";
import type { NetworkPolicyObject } from "../cluster/network_policy_object.js";
import type { PodObject } from "../cluster/pod_object.js";
import type { NodeObject } from "../cluster/snapshot.js";
import type { Steps } from "../loop/turns.js";
import { Addresses } from "./addresses.js";
import type { Atom } from "./atoms.js";
import { InForce } from "./in_force.js";
import { LIMITS, type Limits } from "./limits.js";
import type { Plan, Policy } from "./policy.js";
import {
	type EndpointPolicies,
	type HeldPolicyTables,
	NOT_READY,
	OPEN,
	type PolicyChanges,
	type PolicyTableName,
	type WriteTable,
} from "./policy_tables.js";
import { RoundWrites } from "./policy_writes.js";
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

/** Which can be asked for one: a Set, or what has every key and lists all when it is gone through. */
export interface ChangedKeys extends Iterable<string> {
	has(key: string): boolean;
}

export interface PolicyInput {
	/** Keys of objects that came, changed or went since the last update; at first all there are. */
	changed: { readonly [K in PolicyKind]?: Iterable<string> | ChangedKeys };
	/** All that there are; absent: the same as before. */
	endpoints?: Iterable<LocalEndpoint>;
	/** Ids of policies that local Pods have for want of what they are to have; absent: none. */
	inUse?: ReadonlySet<number>;
}

export interface PolicyCompilerOptions {
	source: PolicySource;
	nodeName: string;
	/**
	 * A local Pod that the source does not know: closed until it does (the Kubernetes API), or without labels
	 * in the namespace that the CNI named (a directory of manifests).
	 */
	unknownPods: "closed" | "unlabelled";
	/** What an earlier agent left in the kernel's tables. */
	held?: HeldPolicyTables;
	/** Other limits than the tables have. */
	limits?: Partial<Limits>;
	/** Unused atoms that may stay before classes are made anew. Default: 1024. */
	staleAtoms?: number;
}

const STALE_ATOMS = 1024;
/** Classes that may come beside as many as there were. */
const STALE_CLASSES = 8192;
/** Local Pods that are looked at between two steps. */
const EVERY = 256;
const NO_ENDPOINTS = { added: [], removed: [] };
const NONE: ReadonlySet<number> = new Set();
const DIRECTIONS: readonly Direction[] = ["egress", "ingress"];

type Choice = "open" | "closed" | Plan | { problem: string };
type Choices = { [D in Direction]: Choice };
type Assigned = { [D in Direction]: Policy | undefined };

/** What the policies are to one local Pod. */
export interface LocalPolicies {
	endpoint: LocalEndpoint;
	/** Its labels are; until then it is closed. */
	isKnown: boolean;
	/** "namespace/name" of all that select it, in any direction, also of those that are staged. */
	networkPolicies: ReadonlySet<string>;
	/** Names. */
	clusterPolicies: ReadonlySet<string>;
	/** Ids of policies; NOT_READY, OPEN. */
	egress: number;
	ingress: number;
}

/** Entries that the tables have. */
export interface PolicyUsage {
	identities: number;
	blocks: number;
	policies: number;
	policyVerdicts: number;
	portSets: number;
	rules: number;
}

export class PolicyCompiler {
	readonly #options: PolicyCompilerOptions;
	readonly #inForce: InForce;
	readonly #subjects: Subjects;
	readonly #addresses: Addresses;
	readonly #policies = new Map<Subject, Assigned>();
	/** By address, as last written. */
	readonly #endpoints = new Map<string, string>();
	readonly #closed = new Map<Subject, Set<Direction>>();
	/** Pods whose policies exceed a limit, with the limits. */
	readonly #refused = new Map<Subject, Set<string>>();
	/** The room in the tables when they were refused; when it changes, they are tried again. */
	#refusedAt = 0;
	#writes = new RoundWrites();
	#written = 0;
	#classesAtRestart = 0;

	constructor(options: PolicyCompilerOptions) {
		this.#options = options;
		const { source, held } = options;
		const write: WriteTable = (step, table, key, value) => this.#write(step, table, key, value);
		this.#inForce = new InForce(write, held, { ...LIMITS, ...options.limits });
		const namespace = (name: string) => source.get("Namespace", name) ?? impliedNamespace(name);
		this.#subjects = new Subjects({
			pod: (key) => source.get("Pod", key),
			networkPolicy: (key) => source.get("NetworkPolicy", key),
			namespace,
		});
		const { nodeName, unknownPods } = options;
		const labelsOf = (name: string) => namespace(name).labels;
		this.#addresses = new Addresses({
			inForce: this.#inForce,
			nodeName,
			unknownPods,
			labelsOf,
			write,
			writeIdentity: (addresses, id, number) =>
				this.#writes.identities.addOf(addresses, id, number),
			held,
		});
	}

	/** The local Pods as of the last update. */
	*local(): Generator<LocalPolicies, void> {
		for (const subject of this.#subjects.all()) {
			const { endpoint, network, cluster } = subject;
			yield {
				endpoint,
				isKnown: subject.pod !== undefined || this.#options.unknownPods === "unlabelled",
				networkPolicies: network,
				clusterPolicies: cluster,
				egress: this.#idOf(subject, "egress"),
				ingress: this.#idOf(subject, "ingress"),
			};
		}
	}

	/** False: nothing in force asks about other Pods than those of this Node. */
	get needsPods(): boolean {
		for (const { list, users } of this.#inForce.policies())
			if (users > 0 && list.names.size > 0) return true;
			else if (users > 0)
				for (const id of list.atoms) if (this.#inForce.atoms.get(id)?.kind === "pods") return true;
		return false;
	}

	/** Entries of the tables, by table. */
	get usage(): PolicyUsage {
		return { ...this.#addresses.usage, ...this.#inForce.usage };
	}

	/** What holds for the addresses of a class; undefined: there is none with this number. */
	atomsOf(number: number): readonly Atom[] | undefined {
		return this.#inForce.atomsOf(number);
	}

	/** One ends before the next begins. */
	*update({ changed, endpoints, inUse = NONE }: PolicyInput): Steps<PolicyChanges> {
		this.#writes = new RoundWrites();
		this.#inForce.inUse = inUse;
		this.#inForce.problems.clear();
		const { source } = this.#options;
		yield* this.#inForce.sweep();
		const isStale = this.#isStale();
		if (isStale) yield* this.#addresses.restart();

		const { Pod: some = [] } = changed;
		const pods = "has" in some ? (some as ChangedKeys) : new Set(some);
		for (const name of changed.Namespace ?? []) {
			yield* this.#addresses.renewNamespace(name);
			yield* this.#subjects.renewNamespace(name);
			yield;
		}
		for (const name of changed.Node ?? []) {
			this.#addresses.setNode(name, source.get("Node", name));
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
			endpoints === undefined ? NO_ENDPOINTS : yield* this.#subjects.setEndpoints(endpoints);
		const renewed = new Set(added);
		yield* this.#subjects.renewPods(pods, (subject) => renewed.add(subject));
		yield;
		const choices = yield* this.#choose(removed);
		yield* this.#addresses.takeNew();
		for (const subject of removed) this.#addresses.setLocal(subject, false);
		yield;
		for (const subject of renewed) {
			this.#addresses.setLocal(subject, true);
			yield;
		}
		for (const key of pods) {
			this.#addresses.setPod(key, source.get("Pod", key));
			yield;
		}
		yield* this.#addresses.classify();
		yield* this.#assign(choices);
		const isOther = choices.size > 0 || removed.length > 0;
		const epochs = yield* this.#addresses.epochs(isOther && (yield* this.#writeEndpoints()));
		this.#inForce.reportLasting();
		if (isStale || this.#written === 0) this.#classesAtRestart = this.#inForce.classCount;
		return this.#result(epochs);
	}

	// ------------------------------------------------------------ local Pods

	/** Rule lists of the Pods for which something else may be chosen now. */
	*#choose(removed: readonly Subject[]): Steps<Map<Subject, Choices>> {
		for (const subject of removed) {
			const policies = this.#policies.get(subject);
			for (const direction of DIRECTIONS) this.#release(policies?.[direction]);
			this.#policies.delete(subject);
			this.#closed.delete(subject);
			this.#refused.delete(subject);
		}
		const dirty = this.#subjects.take();
		const { room } = this.#inForce;
		if (room !== this.#refusedAt) for (const subject of this.#refused.keys()) dirty.add(subject);
		for (const subject of removed) dirty.delete(subject);
		// Before anything is taken, so that what they have now leaves room for what they are to have.
		for (const subject of dirty) {
			const policies = this.#policies.get(subject);
			for (const direction of DIRECTIONS) this.#release(policies?.[direction]);
			this.#refused.delete(subject);
		}
		const choices = new Map<Subject, Choices>();
		const plans = new Map<string, Plan | string>();
		for (const subject of dirty) {
			choices.set(subject, {
				egress: yield* this.#chooseFor(subject, "egress", plans),
				ingress: yield* this.#chooseFor(subject, "ingress", plans),
			});
			yield;
		}
		return choices;
	}

	*#chooseFor(
		subject: Subject,
		direction: Direction,
		plans: Map<string, Plan | string>,
	): Steps<Choice> {
		const { pod } = subject;
		const isUnknown = pod === undefined && this.#options.unknownPods === "closed";
		if (isUnknown || pod?.ended === true) return "closed";
		const choice = this.#subjects.choose(subject, direction);
		if (typeof choice === "string") return choice;
		let plan = plans.get(choice.key);
		if (plan === undefined) {
			plan = yield* this.#inForce.plans.plan(choice.chosen, choice.key);
			plans.set(choice.key, plan);
		}
		return typeof plan === "string" ? { problem: plan } : plan;
	}

	/** Over a limit a Pod's last whole policies stay, and a new Pod stays closed. */
	*#assign(choices: ReadonlyMap<Subject, Choices>): Steps<void> {
		for (const [subject, chosen] of choices) {
			const before = this.#policies.get(subject);
			const now: Assigned = { egress: undefined, ingress: undefined };
			const problems = new Set<string>();
			for (const direction of DIRECTIONS) {
				const choice = chosen[direction];
				if (typeof choice === "string") {
					this.#setState(subject, direction, choice);
					continue;
				}
				const policy = "problem" in choice ? choice.problem : yield* this.#inForce.make(choice);
				if (typeof policy !== "string") {
					now[direction] = policy;
					this.#setState(subject, direction, "open");
					continue;
				}
				const what = `${direction} policies of ${keyOf(subject.endpoint)}`;
				problems.add(`Cannot enforce the ${what}: ${policy}`);
				const last = before?.[direction];
				if (last !== undefined) this.#inForce.retain(last);
				now[direction] = last;
				if (before === undefined) this.#setState(subject, direction, "closed");
			}
			if (problems.size > 0) this.#refused.set(subject, problems);
			this.#policies.set(subject, now);
			yield;
		}
		this.#inForce.plans.end();
		this.#refusedAt = this.#inForce.room;
		for (const problems of this.#refused.values())
			for (const problem of problems) this.#inForce.problems.add(problem);
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
	*#writeEndpoints(): Steps<boolean> {
		let [route, looked] = [false, 0];
		const wanted = new Map<string, EndpointPolicies>();
		for (const subject of this.#subjects.all()) {
			const ids: EndpointPolicies = {
				egress: this.#idOf(subject, "egress"),
				ingress: this.#idOf(subject, "ingress"),
				endpoint: subject.endpoint.id,
			};
			for (const address of subject.endpoint.addresses)
				if (!wanted.has(address)) wanted.set(address, ids);
			if (++looked % EVERY === 0) yield;
		}
		for (const address of this.#endpoints.keys())
			if (!wanted.has(address)) {
				this.#endpoints.delete(address);
				this.#write(5, "endpointPolicies", address, undefined);
			}
		for (const [address, ids] of wanted) {
			if (++looked % EVERY === 0) yield;
			const text = `${ids.egress} ${ids.ingress} ${ids.endpoint}`;
			const before = this.#endpoints.get(address);
			if (before === text) continue;
			if (before !== undefined) route = true;
			this.#endpoints.set(address, text);
			this.#write(5, "endpointPolicies", address, ids);
		}
		return route;
	}

	#idOf(subject: Subject, direction: Direction): number {
		if (this.#closed.get(subject)?.has(direction)) return NOT_READY;
		return this.#policies.get(subject)?.[direction]?.id ?? OPEN;
	}

	/** Too many atoms or classes are no longer used. */
	#isStale(): boolean {
		const { unusedAtoms, classCount, isFull } = this.#inForce;
		this.#inForce.isFull = false;
		const [few, many] = [STALE_ATOMS / 8, this.#options.staleAtoms ?? STALE_ATOMS];
		// Only when much is unused: otherwise a tenant over a limit could cause a restart with each change.
		if (isFull && (unusedAtoms > Math.min(few, many) || classCount > 2 * this.#classesAtRestart))
			return true;
		return unusedAtoms > many || classCount > 2 * this.#classesAtRestart + STALE_CLASSES;
	}

	// ------------------------------------------------------------ writes

	#write(step: number, table: PolicyTableName, key: number | string, value: unknown): void {
		this.#writes.add(step, table, key, value);
	}

	#result(epochs: PolicyChanges["epochs"]): PolicyChanges {
		const { nextClass, problems } = this.#inForce;
		if (this.#written !== nextClass) this.#write(3, "classLimit", 0, nextClass);
		this.#written = nextClass;
		return {
			writes: this.#writes,
			epochs,
			hasGarbage: this.#inForce.hasGarbage || this.#addresses.hasLeft,
			problems: [...problems].sort(),
		};
	}
}
