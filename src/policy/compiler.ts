/**
 * Compiles policies, Pods, Namespaces and Nodes into the tables of network policy: only what has changed, in time
 * proportional to that. Pure: no I/O, no clock.
 *
 *  1. entries that were unused since the round before are removed
 *  2. Namespaces, Nodes and policies that changed
 *  3. local Pods: which policies select them, as rule lists
 *  4. the peers of their rules, as atoms: selectors on groups of Pods, blocks as prefixes
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
import { type LocalPolicies, PodPolicies } from "./pod_policies.js";
import type {
	HeldPolicyTables,
	PolicyChanges,
	PolicyTableName,
	WriteTable,
} from "./policy_tables.js";
import { RoundWrites } from "./policy_writes.js";
import { type LocalEndpoint, Subjects } from "./subjects.js";

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

/** Keys that can be looked up: a Set, or an object that has every key and lists all when it is iterated. */
export interface ChangedKeys extends Iterable<string> {
	has(key: string): boolean;
}

export interface PolicyInput {
	/** Keys of objects that came, changed or went since the last update; at first all there are. */
	changed: { readonly [K in PolicyKind]?: Iterable<string> | ChangedKeys };
	/** All that there are; absent: the same as before. */
	endpoints?: Iterable<LocalEndpoint>;
	/** Ids of policies that local Pods keep because their new ones cannot be written; absent: none. */
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
	/** Unused atoms that may stay before all classes get new numbers. Default: 1024. */
	staleAtoms?: number;
}

const STALE_ATOMS = 1024;
/** Classes that may come beside as many as there were. */
const STALE_CLASSES = 8192;
const NO_ENDPOINTS = { added: [], removed: [] };
const NONE: ReadonlySet<number> = new Set();
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
	readonly #pods: PodPolicies;
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
		this.#pods = new PodPolicies({
			...{ inForce: this.#inForce, subjects: this.#subjects, unknownPods, write },
		});
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
	local(): Generator<LocalPolicies, void> {
		return this.#pods.all();
	}

	/** False: no policy in force depends on Pods of other Nodes. */
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
		if (this.#written === 0) yield* this.#addresses.readHeld();
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
		const choices = yield* this.#pods.choose(removed);
		yield* this.#addresses.takeNew();
		for (const subject of removed) this.#addresses.pods.setLocal(subject, false);
		yield;
		for (const subject of renewed) {
			this.#addresses.pods.setLocal(subject, true);
			yield;
		}
		for (const key of pods) {
			this.#addresses.pods.set(key, source.get("Pod", key));
			yield;
		}
		yield* this.#addresses.classify();
		yield* this.#pods.assign(choices);
		const isOther = choices.size > 0 || removed.length > 0;
		const epochs = yield* this.#addresses.epochs(isOther && (yield* this.#pods.write()));
		this.#inForce.reportLasting();
		if (isStale || this.#written === 0) this.#classesAtRestart = this.#inForce.classCount;
		return this.#result(epochs);
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
