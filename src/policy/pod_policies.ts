/**
 * The policies of each Pod of this Node.
 *
 *  1. choose: rule lists of the Pods for which something else may be chosen now, before anything is made of them
 *  2. assign: the policies that are made of them; over a limit a Pod keeps the last whole ones, and a new Pod is closed
 *  3. write: which ids each address has
 */
import type { Steps } from "../loop/turns.js";
import type { InForce } from "./in_force.js";
import type { Plan, Policy } from "./policy.js";
import { type EndpointPolicies, NOT_READY, OPEN, type WriteTable } from "./policy_tables.js";
import type { Direction } from "./rule_list.js";
import { keyOf, type LocalEndpoint, type Subject, type Subjects } from "./subjects.js";

export interface PodPoliciesOptions {
	inForce: InForce;
	subjects: Subjects;
	/** See PolicyCompilerOptions. */
	unknownPods: "closed" | "unlabelled";
	write: WriteTable;
}

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

type Choice = "open" | "closed" | Plan | { problem: string };
type Choices = { [D in Direction]: Choice };
type Assigned = { [D in Direction]: Policy | undefined };

/** Local Pods that are looked at between two steps. */
const EVERY = 256;
const DIRECTIONS: readonly Direction[] = ["egress", "ingress"];

export class PodPolicies {
	readonly #options: PodPoliciesOptions;
	readonly #inForce: InForce;
	readonly #subjects: Subjects;
	readonly #write: WriteTable;
	readonly #policies = new Map<Subject, Assigned>();
	/** By address, as last written. */
	readonly #endpoints = new Map<string, string>();
	readonly #closed = new Map<Subject, Set<Direction>>();
	/** Pods whose policies exceed a limit, with the limits. */
	readonly #refused = new Map<Subject, Set<string>>();
	/** The room in the tables when they were refused; when it changes, they are tried again. */
	#refusedAt = 0;

	constructor(options: PodPoliciesOptions) {
		this.#options = options;
		this.#inForce = options.inForce;
		this.#subjects = options.subjects;
		this.#write = options.write;
	}

	/** As of the last update. */
	*all(): Generator<LocalPolicies, void> {
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

	/** Rule lists of the Pods for which something else may be chosen now. */
	*choose(removed: readonly Subject[]): Steps<Map<Subject, Choices>> {
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
		// Before anything is taken, so that their present entries make room for their new ones.
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
	*assign(choices: ReadonlyMap<Subject, Choices>): Steps<void> {
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
	*write(): Steps<boolean> {
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
}
