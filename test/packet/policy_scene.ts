/**
 * A Node whose Pods have network policies, as the core's tables: a test says what each policy makes of a class
 * of addresses and of ports, sends packets, and looks at flows, rules and counters.
 */
import { equal } from "node:assert/strict";
import {
	Action,
	ActionName,
	DropReason,
	DropReasonName,
	EndpointPolicy,
	type Flow,
	FlowFlag,
	type FlowRules,
	JudgementFlag,
	Limit,
	type PolicyVerdict,
	RuleCounter,
	SlowPathKindName,
} from "../../src/tables/generated.js";
import { check, type Input } from "./check.js";
import type { DataPath, Outcome } from "./data_path.js";
import { type Family, renewTrust } from "./fast_path.js";
import type { MemoryTables } from "./memory_tables.js";
import type { Protocol, Tuple } from "./service_scene.js";
import { fresh } from "./table.js";
import type * as world from "./world.js";

export const OPEN = EndpointPolicy.OPEN;
export const NOT_READY = EndpointPolicy.NOT_READY;

/** Allow or deny by a rule; `staged`: what staged policies say. */
export interface Judged {
	allow: boolean;
	rule: number;
	staged?: { allow: boolean; rule: number };
}

export const allow = (rule: number): Judged => ({ allow: true, rule });
export const deny = (rule: number): Judged => ({ allow: false, rule });

/** Of a policy for a class: in place, or the id of a port set. */
export type Said = Judged | { ports: number };

type Segments = readonly (readonly [from: number, judged: Judged])[];

export class PolicyScene {
	readonly family: Family;
	readonly tables: MemoryTables;
	readonly #dataPath: DataPath;

	constructor(dataPath: DataPath, tables: MemoryTables, family: Family) {
		this.#dataPath = dataPath;
		this.tables = tables;
		this.family = family;
	}

	static async begin(
		dataPath: DataPath,
		family: Family,
		variation: world.Variation = {},
	): Promise<PolicyScene> {
		const scene = new PolicyScene(dataPath, await fresh(dataPath, variation), family);
		const none = Buffer.alloc(RuleCounter.size);
		for (let rule = 0; rule < RULES; rule++) dataPath.map("rule_counters").update(u32(rule), none);
		return scene.classLimit(100);
	}

	/** The policies of a Pod, of both its addresses; absent: open. */
	pod(pod: world.Pod, policies: { egress?: number; ingress?: number }): this {
		for (const family of [4, 6] as const) {
			const endpoint = this.tables.endpoints.get(pod[family])!;
			this.tables.endpoints.set(pod[family], {
				...endpoint,
				egressPolicy: policies.egress ?? OPEN,
				ingressPolicy: policies.ingress ?? OPEN,
			});
		}
		return this.#write();
	}

	/** What a policy makes of every class that `verdict` does not name. */
	policy(id: number, said: Said, hairpin: number = OPEN): this {
		this.tables.policies.set(id, { verdict: verdictOf(said), hairpin });
		return this.#write();
	}

	verdict(policy: number, classNumber: number, said: Said): this {
		this.tables.policyVerdicts.set(policy * 2 ** 32 + classNumber, verdictOf(said));
		return this.#write();
	}

	noVerdict(policy: number, classNumber: number): this {
		this.tables.policyVerdicts.delete(policy * 2 ** 32 + classNumber);
		return this.#write();
	}

	identity(address: string, classNumber: number): this {
		this.tables.identities.set(address, classNumber);
		return this.#write();
	}

	block(prefix: string, classNumber: number): this {
		this.tables.blocks.set(prefix, classNumber);
		return this.#write();
	}

	classLimit(limit: number): this {
		this.tables.limit = limit;
		return this.#write();
	}

	/** A part of a port set. */
	ports(id: number, segments: Segments, nextFrom = 0, next = 0): this {
		const empty = { from: 0, judgement: { rule: 0, stagedRule: 0, flags: 0 } };
		this.tables.portSets.set(id, {
			...{ nextFrom, next, count: segments.length },
			segments: Array.from({ length: Limit.PORT_SET_SEGMENTS }, (_, place) => {
				const segment = segments[place];
				return segment ? { from: segment[0], judgement: judgementOf(segment[1]) } : empty;
			}),
		});
		return this.#write();
	}

	/** What the agent does last when policies of this Node's Pods have changed. */
	raiseEpoch(): this {
		this.tables.config.routeEpoch++;
		return this.#write();
	}

	/** What it does when only addresses of a peer mean something else. */
	raisePeerEpoch({ id }: world.PeerFacts): this {
		for (const index of [id * 2, id * 2 + 1]) {
			const peer = this.tables.peers.get(index)!;
			this.tables.peers.set(index, { ...peer, policyEpoch: (peer.policyEpoch + 1) & 0xffff });
		}
		return this.#write();
	}

	#write(): this {
		this.#dataPath.write(this.tables);
		return this;
	}

	/** Through the data path and the forwarder, which say the same. */
	async send(input: Input): Promise<Outcome> {
		const { outcome, differences } = await check(this.#dataPath, this.tables, input);
		equal(differences.join("; "), "", "the forwarder says the same");
		return outcome;
	}

	/** Through the data path alone: its action and drop reason. */
	alone({ hook, packet, context }: Input): string {
		const { verdict } = this.#dataPath.run(hook, packet, {
			...context,
			now: process.hrtime.bigint(),
		});
		return `${ActionName[verdict.action]} ${DropReasonName[verdict.dropReason]}`;
	}

	/** The packet goes on like this. */
	async goes(
		input: Input,
		action: "pass" | "endpoint" | "wire" | "host",
		what?: string,
	): Promise<Outcome> {
		const outcome = await this.send(input);
		const { action: done, dropReason } = outcome.verdict;
		const name = ActionName[done === Action.WIRE_NEIGHBOUR ? Action.WIRE : done];
		const reason = DropReasonName[dropReason];
		equal(`${name} ${reason}`, `${action} none`, what);
		return outcome;
	}

	/** It ends here, and nothing is said to anybody. */
	async drops(input: Input, reason: string, what?: string): Promise<Outcome> {
		const before = this.dropped(reason);
		const outcome = await this.send(input);
		const { action, dropReason, slowPathKind } = outcome.verdict;
		const name = `${ActionName[action]} ${DropReasonName[dropReason]}`;
		equal(name, `drop ${reason}`, what);
		equal(slowPathKind, 0, "nothing goes up");
		equal(this.dropped(reason), before + 1n, "counted");
		return outcome;
	}

	/** A later fragment waits for its first one on the slow path. */
	async isHeld(input: Input): Promise<void> {
		const { verdict } = await this.send(input);
		equal(ActionName[verdict.action], "slow_path");
		equal(SlowPathKindName[verdict.slowPathKind], "hold");
	}

	dropped(reason: string): bigint {
		return this.#dataPath.drops(DropReason[reason.toUpperCase() as keyof typeof DropReason]);
	}

	counter(rule: number): { flows: number; packets: number; staged: number } {
		const read = RuleCounter.decode(this.#dataPath.map("rule_counters").lookup(u32(rule))!);
		return {
			...{ flows: Number(read.flows), packets: Number(read.packets) },
			staged: Number(read.staged),
		};
	}

	flow(
		[source, destination]: Tuple,
		protocol: number,
	): { flow: Flow; rules: FlowRules; isDenied: boolean } | undefined {
		const found = this.#dataPath.flow({
			source: source[0],
			destination: destination[0],
			sourcePort: source[1],
			destinationPort: destination[1],
			protocol,
		});
		if (found === undefined) return undefined;
		const rules = this.#dataPath.flowRules(found.slot);
		return { flow: found.flow, rules, isDenied: (found.flow.flags & FlowFlag.DENIED) !== 0 };
	}

	flows(): number {
		return this.#dataPath.flows().length;
	}

	/** The flow was last seen this many seconds ago; `change`: what else is different about it. */
	age(
		[source, destination]: Tuple,
		protocol: Protocol,
		seconds: number,
		change: Partial<Flow> = {},
	): void {
		const key = {
			...{ source: source[0], destination: destination[0], protocol },
			...{ sourcePort: source[1], destinationPort: destination[1] },
		};
		const lastSeen = process.hrtime.bigint() - BigInt(seconds) * 1_000_000_000n;
		this.#dataPath.writeFlow(key, { ...change, lastSeen });
		const entry = this.tables.flow(key);
		if (entry) this.tables.slots[entry.slot] = { ...entry.flow, ...change, lastSeen };
	}

	/** The packet takes the fast path, which does not touch `scratch`. A next hop is resolved again now and then,
	 * on the full path: `again`, by the next packet. */
	isFast({ hook, packet, context }: Input, again = true): boolean {
		renewTrust(this.#dataPath);
		const scratch = this.#dataPath.map("scratch");
		const untouched = Buffer.alloc(scratch.lookup(u32(0))!.length, 0xa5);
		scratch.update(u32(0), untouched);
		const { verdict } = this.#dataPath.run(hook, packet, {
			...context,
			now: process.hrtime.bigint(),
		});
		if (again && verdict.action === Action.WIRE_NEIGHBOUR)
			return this.isFast({ hook, packet, context });
		return scratch.lookup(u32(0))!.subarray(0, 64).equals(untouched.subarray(0, 64));
	}
}

/** Above every rule of the tests. */
const RULES = 64;

function verdictOf(said: Said): PolicyVerdict {
	return "ports" in said
		? { judgement: { rule: 0, stagedRule: 0, flags: 0 }, portSet: said.ports }
		: { judgement: judgementOf(said), portSet: 0 };
}

function judgementOf({ allow, rule, staged }: Judged): PolicyVerdict["judgement"] {
	const then = staged ? JudgementFlag.STAGED | (staged.allow ? JudgementFlag.STAGED_ALLOW : 0) : 0;
	return {
		...{ rule, stagedRule: staged?.rule ?? 0 },
		flags: (allow ? JudgementFlag.ALLOW : 0) | then,
	};
}

export function u32(value: number): Buffer {
	const buffer = Buffer.alloc(4);
	buffer.writeUInt32LE(value);
	return buffer;
}
