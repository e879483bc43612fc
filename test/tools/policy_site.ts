/** A Node of a random cluster: the compiler's tables of its Pods, and what the interpreter says they should mean. */
import assert from "node:assert/strict";
import { atOnce } from "../../src/loop/turns.js";
import { PolicyCompiler } from "../../src/policy/compiler.js";
import { Evaluator, type PolicyAnswer } from "../../src/policy/evaluator.js";
import { type Flow, interpret, type Opinion, podAt } from "../../src/policy/interpreter.js";
import type { Limits } from "../../src/policy/limits.js";
import type {
	HeldPolicyTables,
	PolicyChanges,
	PolicyWrite,
} from "../../src/policy/policy_tables.js";
import type { LocalEndpoint } from "../../src/policy/subjects.js";
import { type Change, HERE, Objects } from "./policy_clusters.js";

export class PolicySite {
	readonly objects: Objects;
	readonly evaluator: Evaluator;
	readonly compiler: PolicyCompiler;
	readonly nodeName: string;

	constructor(
		objects = new Objects(),
		staleAtoms?: number,
		held?: HeldPolicyTables,
		evaluator = new Evaluator(),
		limits?: Partial<Limits>,
		nodeName = HERE,
	) {
		this.objects = objects;
		this.nodeName = nodeName;
		this.evaluator = evaluator;
		this.compiler = new PolicyCompiler({
			...{ source: objects, nodeName, unknownPods: "unlabelled" },
			...(held === undefined ? {} : { held }),
			...(staleAtoms === undefined ? {} : { staleAtoms }),
			...(limits === undefined ? {} : { limits }),
		});
	}

	/** Its Pods as the CNI has them: those that their addresses belong to. */
	endpoints(): LocalEndpoint[] {
		const cluster = this.objects.cluster();
		return cluster.pods
			.filter(({ node, hostNetwork, ended }) => node === this.nodeName && !hostNetwork && !ended)
			.filter((pod) => pod.addresses.every((address) => podAt(cluster, address) === pod))
			.map(({ namespace, name, uid = "", addresses }) => ({
				...{ id: `${namespace}/${name} ${uid} ${addresses}`, namespace, name, uid, addresses },
			}));
	}

	/** What changes the tables; not yet in them. */
	compile(changes: readonly Change[], inUse?: ReadonlySet<number>): PolicyChanges {
		const changed: Record<string, Set<string>> = {};
		for (const change of changes) {
			changed[change.kind] ??= new Set();
			changed[change.kind]!.add(this.objects.apply(change));
		}
		const more = inUse === undefined ? {} : { inUse };
		return atOnce(this.compiler.update({ changed, endpoints: this.endpoints(), ...more }));
	}

	/** As after a start. */
	compileAll(): PolicyChanges {
		const kinds = ["Node", "Namespace", "Pod", "NetworkPolicy", "ClusterNetworkPolicy"] as const;
		const changed = Object.fromEntries(kinds.map((kind) => [kind, this.objects.of(kind).keys()]));
		return atOnce(this.compiler.update({ changed, endpoints: this.endpoints() }));
	}

	/** The Nodes of both ends, as far as they are known. */
	nodesOf({ source, destination }: Flow): string[] {
		const cluster = this.objects.cluster();
		return [source, destination].flatMap((address) => {
			const node = cluster.nodes.find((one) => isOf(one, address))?.name;
			return node ?? podAt(cluster, address)?.node ?? [];
		});
	}

	take(writes: Iterable<PolicyWrite>): void {
		for (const write of writes) this.evaluator.apply(write);
	}

	/** Whose both addresses are, as text. */
	ownersOf({ source, destination }: Flow): string[] {
		const cluster = this.objects.cluster();
		return [source, destination].map((address) => JSON.stringify(podAt(cluster, address) ?? ""));
	}

	isHairpin({ source, destination }: Flow): boolean {
		const from = podAt(this.objects.cluster(), source);
		return from !== undefined && from === podAt(this.objects.cluster(), destination);
	}

	/** What the tables say of both ends, as far as they are Pods of this Node. */
	verdicts(
		flow: Flow,
		hairpin = this.isHairpin(flow),
	): { egress: string | undefined; ingress: string | undefined } {
		const { protocol, port, source, destination } = flow;
		const ask = (direction: "egress" | "ingress", local: string, peer: string) =>
			this.textOf(this.evaluator.judge({ direction, local, peer, hairpin, protocol, port }));
		return {
			egress: ask("egress", source, destination),
			// The Node's own packets are not judged.
			ingress: this.#isOwn(source) ? undefined : ask("ingress", destination, source),
		};
	}

	/** What they should say: undefined where they say nothing. */
	expected(flow: Flow): { egress: string | undefined; ingress: string | undefined } {
		const cluster = this.objects.cluster();
		const now = interpret(cluster, flow);
		const then = interpret(cluster, flow, true);
		const isOwn = this.#isOwn(flow.source);
		const endpoints = new Set(this.endpoints().flatMap(({ addresses }) => addresses));
		const unusable = new Set(
			[...cluster.policies, ...cluster.clusterPolicies]
				.filter((policy) => policy.unusable !== undefined)
				.map((policy) =>
					"namespace" in policy ? `${policy.namespace}/${policy.name}` : policy.name,
				),
		);
		const textOfOpinion = ({ verdict, policy, rule }: Opinion): string => {
			if (verdict === "none") return verdict;
			return policy !== null && unusable.has(policy) ? "closed" : `${verdict} ${policy} ${rule}`;
		};
		const text = (a: Opinion, b: Opinion) => {
			const [one, two] = [textOfOpinion(a), textOfOpinion(b)];
			return one === two || one === "closed" ? one : `${one}, staged ${two}`;
		};
		if (isOwn && endpoints.has(flow.destination)) assert.equal(now.ingress.verdict, "none");
		return {
			egress: endpoints.has(flow.source) ? text(now.egress, then.egress) : undefined,
			ingress:
				endpoints.has(flow.destination) && !isOwn ? text(now.ingress, then.ingress) : undefined,
		};
	}

	check(flow: Flow): void {
		assert.deepEqual(this.verdicts(flow), this.expected(flow), JSON.stringify(flow));
	}

	#isOwn(address: string): boolean {
		const own = this.objects.get("Node", this.nodeName);
		return own !== undefined && isOf(own, address);
	}

	/** An answer of its tables, in words. */
	textOf(answer: PolicyAnswer | undefined): string | undefined {
		if (answer === undefined) return undefined;
		if (answer === "policy_not_ready") return "closed";
		if (typeof answer === "string") return answer;
		const one = ({ allow, rule }: { allow: boolean; rule: number }) => {
			const verdict = allow ? "allow" : "deny";
			const name = this.evaluator.tables.rules.get(rule);
			if (rule === 0) return allow ? "none" : verdict;
			return name === undefined ? "no such rule" : `${verdict} ${name.policies[0]} ${name.rule}`;
		};
		const { staged } = answer;
		return staged === undefined ? one(answer) : `${one(answer)}, staged ${one(staged)}`;
	}
}

function isOf(
	node: { internalIPs: readonly string[]; externalIPs?: readonly string[]; name: string },
	address: string,
): boolean {
	const number = node.name.slice(1);
	const gateways = [`10.244.${number}.1`, `fd00:${number}::1`];
	return [...node.internalIPs, ...(node.externalIPs ?? []), ...gateways].includes(address);
}
