/**
 * Verdicts of given policies for Pods, over all ports, without tables: for `policy diff`, which compares two sets
 * of policies on one cluster. Only enforced rules count; staged rules change nothing.
 *
 *  1. an end of a flow: the owner of an address; Pods that no policy can tell apart form one group
 *  2. the policies that select a group, as a rule list; equal selections share one list, also across the two sets
 *  3. a rule list and the other end: allowed or denied, as a line over all ports; equal lines are one object
 */
import { impliedNamespace, type NamespaceObject } from "../cluster/namespace_object.js";
import type { PodObject } from "../cluster/pod_object.js";
import { PROTOCOLS } from "../cluster/policy_fields.js";
import { matches } from "../cluster/selector.js";
import type { NodeObject } from "../cluster/snapshot.js";
import { atOnce, type Steps } from "../loop/turns.js";
import { parseAddress } from "../tables/address.js";
import { type Atom, Atoms, type NumberedAtom } from "./atoms.js";
import { Blocks } from "./blocks.js";
import { blockMatches, type Cluster, everyAddress } from "./interpreter.js";
import type { Judgement } from "./port_space.js";
import {
	buildRuleList,
	type Chosen,
	type Direction,
	hairpinList,
	judgeClass,
	type RuleList,
} from "./rule_list.js";

export type Policies = Pick<Cluster, "policies" | "clusterPolicies">;

/** Pods of one namespace with the same labels and ports, which the same blocks cover. */
export interface Group {
	pods: PodObject[];
	/** By family: one of its addresses stands for all. */
	addresses: Map<4 | 6, string>;
}

export interface End {
	address: string;
	/** The Pod that has it, and its group. */
	pod?: PodObject;
	group?: Group;
	/** The Node that has it. */
	node?: NodeObject;
}

/** From each of these positions on; the first is 0. */
export interface Line {
	starts: readonly number[];
	allows: readonly boolean[];
}

/** What is chosen for a group in a direction. Equal choices are the same object. */
export interface Choice {
	id: number;
	/** Undefined: every line is `always`. */
	list: RuleList | undefined;
	hairpin: RuleList | undefined;
	always: Line;
	lines: Map<string, Line>;
}

export class Sides {
	readonly groups: Group[] = [];
	readonly #nodes = new Map<string, NodeObject>();
	readonly #pods = new Map<string, { pod: PodObject; group: Group }>();
	readonly #namespaces: ReadonlyMap<string, NamespaceObject>;
	readonly #atoms = new Atoms();
	readonly #blocks = new Blocks();
	readonly #held = new WeakMap<Group, Map<number, boolean>>();
	readonly #byNamespace: Map<string, Cluster["policies"][number][]>[] = [];
	readonly #cluster: Cluster["clusterPolicies"][] = [];
	readonly #choices = new Map<string, Choice>();
	readonly #chosen = new WeakMap<Group, Map<string, Choice>>();
	readonly #versions = new WeakMap<object, number>();
	#version = 0;
	readonly #lines = new Map<string, Line>();
	readonly #open = this.#lineOf([{ from: 0, judgement: { allow: true, rule: 0 } }]);
	readonly #closed = this.#lineOf([{ from: 0, judgement: { allow: false, rule: 0 } }]);

	private constructor({ namespaces }: Pick<Cluster, "namespaces">) {
		this.#namespaces = new Map(namespaces.map((one) => [one.name, one]));
	}

	/** @param sides sets of policies, which are spoken of by their index */
	static *of(cluster: Omit<Cluster, keyof Policies>, sides: readonly Policies[]): Steps<Sides> {
		const made = new Sides(cluster);
		yield* made.#takePolicies(sides);
		yield* made.#takeEnds(cluster);
		return made;
	}

	*#takePolicies(sides: readonly Policies[]): Steps<void> {
		const blocks: Extract<NumberedAtom, { kind: "block" }>[] = [];
		const add = (block: string, except: readonly string[]) =>
			this.#atoms.number({ kind: "block", block, except }, (atom) => {
				if (atom.kind === "block") blocks.push(atom);
			});
		for (const { policies, clusterPolicies } of sides) {
			const byNamespace = new Map<string, Cluster["policies"][number][]>();
			for (const policy of policies) {
				yield;
				for (const { peers } of [...(policy.ingress ?? []), ...(policy.egress ?? [])])
					for (const peer of peers ?? []) if ("block" in peer) add(peer.block, peer.except);
				if (policy.audit || this.namespace(policy.namespace).audit) continue;
				const known = byNamespace.get(policy.namespace);
				if (known === undefined) byNamespace.set(policy.namespace, [policy]);
				else known.push(policy);
			}
			this.#byNamespace.push(byNamespace);
			for (const { egress } of clusterPolicies) {
				yield;
				for (const { peers } of egress)
					for (const peer of peers)
						if ("networks" in peer) for (const network of peer.networks) add(network, []);
			}
			const enforced = clusterPolicies.filter(({ audit }) => !audit);
			this.#cluster.push(
				enforced.sort((a, b) => a.priority - b.priority || (a.name < b.name ? -1 : 1)),
			);
		}
		if (blocks.length > 0) yield* this.#blocks.add(blocks);
	}

	*#takeEnds({ nodes, pods }: Pick<Cluster, "nodes" | "pods">): Steps<void> {
		for (const node of nodes) {
			yield;
			for (const address of everyAddress(node)) {
				const known = this.#nodes.get(address);
				if (known === undefined || node.name < known.name) this.#nodes.set(address, node);
			}
		}
		const owners = new Map<string, PodObject>();
		for (const pod of pods) {
			yield;
			if (pod.hostNetwork || pod.ended) continue;
			for (const address of pod.addresses) {
				const known = owners.get(address);
				if (!this.#nodes.has(address) && (known === undefined || isNewer(pod, known)))
					owners.set(address, pod);
			}
		}
		const groups = new Map<string, Group>();
		for (const pod of pods) {
			yield;
			const own = pod.addresses.filter((address) => owners.get(address) === pod);
			if (own.length === 0) continue;
			const covers = own.map((one) => `${familyOf(one)}/${this.#cover(one).id}`);
			const { namespace, labels, ports } = pod;
			const key = JSON.stringify([namespace, labels, ports, covers]);
			let group = groups.get(key);
			if (group === undefined) {
				group = { pods: [], addresses: new Map(own.map((one) => [familyOf(one), one])) };
				groups.set(key, group);
				this.groups.push(group);
			}
			group.pods.push(pod);
			for (const address of own) this.#pods.set(address, { pod, group });
		}
	}

	namespace(name: string): NamespaceObject {
		return this.#namespaces.get(name) ?? impliedNamespace(name);
	}

	/** The owner of an address: a Node, else the newest Pod. */
	at(address: string): End {
		const node = this.#nodes.get(address);
		return node !== undefined ? { address, node } : { address, ...this.#pods.get(address) };
	}

	/** The rules of a set of policies for a group's Pods in a direction. */
	choice(side: number, group: Group, direction: Direction): Choice {
		let known = this.#chosen.get(group);
		if (known === undefined) {
			known = new Map();
			this.#chosen.set(group, known);
		}
		const key = `${side} ${direction}`;
		let choice = known.get(key);
		if (choice === undefined) {
			choice = this.#choose(side, group.pods[0]!, direction);
			known.set(key, choice);
		}
		return choice;
	}

	/** What a choice makes of flows with this other end, over all positions of ports. */
	line(choice: Choice, other: End, isItself = false): Line {
		const list = isItself ? choice.hairpin : choice.list;
		if (list === undefined) return choice.list === undefined ? choice.always : this.#open;
		const atoms = this.#atomsOf(list, other);
		const ports = (other.pod?.ports ?? []).flatMap(({ name, port, protocol }) => {
			const number = PROTOCOLS.get(protocol);
			return number !== undefined && list.names.has(name) ? [{ name, port, protocol: number }] : [];
		});
		const named = ports.map(({ name, port, protocol }) => `${name}/${protocol}/${port}`);
		const key = `${isItself ? "itself " : ""}${atoms.join()} ${named.join()}`;
		let line = choice.lines.get(key);
		if (line === undefined) {
			line = this.#lineOf(judgeClass(list, { atoms, ports }));
			choice.lines.set(key, line);
		}
		return line;
	}

	// ------------------------------------------------------------ choices

	#choose(side: number, pod: PodObject, direction: Direction): Choice {
		const network = (this.#byNamespace[side]!.get(pod.namespace) ?? [])
			.filter((one) => one[direction] !== undefined && matches(one.pods, pod.labels))
			.sort((a, b) => (a.name < b.name ? -1 : 1));
		const { labels } = this.namespace(pod.namespace);
		const cluster = this.#cluster[side]!.filter(
			({ subject, [direction]: rules }) =>
				rules.length > 0 &&
				matches(subject.namespaces, labels) &&
				matches(subject.pods, pod.labels),
		);
		const all = [...network, ...cluster];
		const isClosed = all.some(({ unusable }) => unusable !== undefined);
		// Names of ports are the receiving Pod's own.
		const ports = direction === "ingress" ? pod.ports : [];
		const named = ports.map(({ name, protocol, port }) => `${name}/${protocol}/${port}`);
		const versions = all.map((policy) => this.#versionOf(policy));
		const key =
			all.length === 0 ? "open" : isClosed ? "closed" : `${direction} ${versions} ${named}`;
		let choice = this.#choices.get(key);
		if (choice === undefined) {
			const chosen: Chosen = {
				...{ direction, cluster, ownPorts: ports },
				network: network.map((policy) => ({ policy, audit: false })),
			};
			const list = key === "open" || key === "closed" ? undefined : this.#listOf(chosen);
			choice = {
				...{ id: this.#choices.size, list, hairpin: list && atOnce(hairpinList(list)) },
				...{ always: isClosed ? this.#closed : this.#open, lines: new Map() },
			};
			this.#choices.set(key, choice);
		}
		return choice;
	}

	#listOf(chosen: Chosen): RuleList {
		const atom = (one: Atom) => this.#atoms.number(one, () => {});
		// Which rule decides makes no difference here.
		return buildRuleList(chosen, { atom, rule: () => 1 });
	}

	#versionOf(policy: object): number {
		let version = this.#versions.get(policy);
		if (version === undefined) {
			version = ++this.#version;
			this.#versions.set(policy, version);
		}
		return version;
	}

	// ------------------------------------------------------------ the other end

	#atomsOf(list: RuleList, other: End): number[] {
		const found: number[] = [];
		const covers = other.node === undefined ? this.#cover(other.address).atoms : [];
		for (const atom of covers) if (list.atoms.has(atom)) found.push(atom);
		for (const id of list.atoms) {
			const atom = this.#atoms.get(id)!;
			if (atom.kind === "block" && other.node === undefined) continue;
			if (this.#holds(atom, other)) found.push(id);
		}
		return found;
	}

	#holds(atom: NumberedAtom, { address, group, node }: End): boolean {
		if (atom.kind === "block")
			return (
				node !== undefined && blockMatches({ nodes: [node] }, atom.block, atom.except, address)
			);
		if (atom.kind === "nodes") return node !== undefined && matches(atom.nodes, node.labels ?? []);
		if (atom.kind === "port" || group === undefined) return false;
		let held = this.#held.get(group);
		if (held === undefined) {
			held = new Map();
			this.#held.set(group, held);
		}
		let holds = held.get(atom.id);
		if (holds === undefined) {
			const { namespace, labels } = group.pods[0]!;
			const isThere =
				atom.namespace === undefined
					? matches(atom.namespaces, this.namespace(namespace).labels)
					: atom.namespace === namespace;
			holds = isThere && matches(atom.pods, labels);
			held.set(atom.id, holds);
		}
		return holds;
	}

	#cover(address: string) {
		return this.#blocks.coverAt(parseAddress(address)!);
	}

	// ------------------------------------------------------------ lines

	#lineOf(segments: readonly { from: number; judgement: Judgement }[]): Line {
		const starts: number[] = [];
		const allows: boolean[] = [];
		for (const { from, judgement } of segments) {
			if (allows.at(-1) === judgement.allow) continue;
			starts.push(from);
			allows.push(judgement.allow);
		}
		const key = `${allows[0]} ${starts}`;
		const known = this.#lines.get(key);
		if (known !== undefined) return known;
		const line = { starts, allows };
		this.#lines.set(key, line);
		return line;
	}
}

export function allowsAt({ starts, allows }: Line, position: number): boolean {
	let at = starts.length - 1;
	while (starts[at]! > position) at--;
	return allows[at]!;
}

function isNewer(a: PodObject, b: PodObject): boolean {
	const [one, two] = [a.created ?? 0, b.created ?? 0];
	return one === two ? nameOf(a) < nameOf(b) : one > two;
}

/** "namespace/name" */
export function nameOf({ namespace, name }: PodObject): string {
	return `${namespace}/${name}`;
}

function familyOf(address: string): 4 | 6 {
	return address.includes(":") ? 6 : 4;
}
