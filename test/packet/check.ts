/**
 * One packet through the eBPF programs and through the forwarder, and what is different.
 */

import { originalKey, replyKey } from "../../src/forwarder/flow.js";
import { type Decision, forward, type PacketContext } from "../../src/forwarder/forwarder.js";
import { parse } from "../../src/forwarder/packet.js";
import { sentAt, stampQuestion } from "../../src/forwarder/probe.js";
import { backendIdOf } from "../../src/forwarder/service.js";
import { readMac } from "../../src/tables/address.js";
import {
	Action,
	ActionName,
	DropReasonName,
	type Flow,
	FlowFlag,
	FlowStateName,
	Hook,
	type NodeConfig,
	ProbeEvent,
	type ProbeRecord,
	SlowPathKind,
	type Verdict,
} from "../../src/tables/generated.js";
import type { DataPath, Outcome } from "./data_path.js";
import type { MemoryTables } from "./memory_tables.js";
import { apply, type TableChange } from "./table_change.js";
import { NODE_MAC } from "./world.js";

export interface Input {
	hook: number;
	packet: Buffer;
	context: Omit<PacketContext, "now">;
	/** What the agent has written since the packet before. */
	changes?: TableChange[];
	/** False: the slow path itself reads the ring. */
	readsRecord?: boolean;
}

export interface Checked {
	decision: Decision;
	outcome: Outcome;
	/** The test run could not write a tunnel's headers, and dropped the packet for that. */
	refused: boolean;
	/** "what: the forwarder says this, the data path that"; empty: they agree. */
	differences: string[];
}

/** Runs a packet through both, makes the forwarder's changes, and compares everything. */
export async function check(
	dataPath: DataPath,
	tables: MemoryTables,
	{ hook, packet, context, changes, readsRecord = true }: Input,
): Promise<Checked> {
	if (changes !== undefined) {
		for (const change of changes) apply(tables, change);
		dataPath.write(tables);
	}
	// A test run looks at the destination, as the kernel does (eth_type_trans).
	const otherHost = isForAnother(hook, packet);
	const complete = { ...context, otherHost, now: process.hrtime.bigint() };
	// The forwarder knows no rates.
	if (hook === Hook.FROM_POD) dataPath.fillShares();
	const outcome = dataPath.run(hook, packet, complete);
	const { backend } = outcome.verdict;
	const strange: string[] = [];
	const decision = forward(
		hook,
		packet,
		{ ...complete, choose: likeCore(backend, strange) },
		tables,
	);
	const refused = isRefusedByTestRun(decision, complete);
	tables.apply(decision, refused);
	if (hook === Hook.FROM_HOST && decision.probeOffset !== undefined) {
		takeTime(decision, outcome.packet, decision.probeOffset, tables.config);
	}

	const differences = strange;
	const differ = (what: string, model: unknown, core: unknown) => {
		if (model !== core)
			differences.push(`${what}: the forwarder says ${model}, the data path ${core}`);
	};
	if (refused) {
		differ("drop reason", "rewrite_failed", DropReasonName[outcome.verdict.dropReason]);
	} else {
		compareVerdicts(decision, outcome.verdict, differ);
	}
	if (leaves(decision.action) && !refused) {
		compareBytes("packet", decision.packet, outcome.packet, differ);
	}
	compareFlow(decision, dataPath, differ);
	if (decision.affinity) {
		const { client, service, affinity } = decision.affinity;
		differ("affinity", affinity.backend, dataPath.affinity(client, service)?.backend);
	}
	if (decision.fragment) {
		const ports = dataPath.fragment(decision.fragment.key);
		differ("fragment's ports", JSON.stringify(decision.fragment.ports), JSON.stringify(ports));
	}
	if (decision.slowPathPacket && readsRecord && differences.length === 0) {
		const record = await dataPath.slowPathRecord();
		const { slowPathPacket, mtu } = decision;
		const limit = isAnswer(decision.slowPathKind) ? 1536 : slowPathPacket.length;
		compareBytes("record", slowPathPacket.subarray(0, limit), record.packet, differ);
		differ("record's kind", decision.slowPathKind, record.header.kind);
		differ("record's hook", hook, record.header.hook);
		differ("record's interface", context.ifindex, record.header.ifindex);
		differ("record's MTU", hasNoMtu(decision.slowPathKind) ? 0 : mtu, record.header.mtu);
	}
	await compareProbes(decision, dataPath, complete.now, differ);
	return { decision, outcome, refused, differences };
}

/** The data path's choice, which is by chance, but of the same backends. */
function likeCore(backend: number, strange: string[]): NonNullable<PacketContext["choose"]> {
	return (candidates) => {
		const chosen = candidates.find(({ id }) => id === backend);
		const ids = candidates.map(({ id }) => id);
		if (chosen === undefined)
			strange.push(
				`backend: the forwarder says one of ${ids.join(", ")}, the data path ${backend}`,
			);
		return chosen ?? candidates[0]!;
	};
}

function isForAnother(hook: number, frame: Buffer): boolean {
	const isGroup = (frame[0]! & 1) !== 0;
	return hook === Hook.FROM_WIRE && !isGroup && readMac(frame, 0) !== NODE_MAC;
}

/** When a question leaves is the data path's to say; everything else is not. */
function takeTime(decision: Decision, core: Buffer, offset: number, node: NodeConfig): void {
	const outer = parse(decision.packet)!;
	const l3 = outer.l4 + 8 + 8 + 14;
	const isInside = outer.l4 !== offset;
	const probe = isInside
		? parse(decision.packet, l3, decision.packet.readUInt16BE(l3 - 2))!
		: outer;
	if (core.length !== decision.packet.length) return;
	stampQuestion(probe, sentAt({ ...probe, frame: core }), node);
}

/** What the agent is told, and the proof that is kept. When traffic begins goes by when the kernel is
 * asked for a next hop, and so by milliseconds. */
async function compareProbes(
	{ records, pathProof, provenSender }: Decision,
	dataPath: DataPath,
	since: bigint,
	differ: Differ,
): Promise<void> {
	for (const record of records.filter(({ event }) => event !== ProbeEvent.TRAFFIC)) {
		const core = await dataPath.probeRecord();
		differ("it took too long", record.roundTrip > core.roundTrip, false);
		const { roundTrip } = core;
		for (const [field, value] of Object.entries({ ...record, roundTrip })) {
			differ(`probe record's ${field}`, value, core[field as keyof ProbeRecord]);
		}
	}
	if (provenSender !== undefined) {
		const { sourceMac } = dataPath.pathProof(provenSender.index);
		differ("proven sender", provenSender.mac, sourceMac);
	}
	if (pathProof === undefined) return;
	const { answeredAt, largeAnsweredAt } = dataPath.pathProof(pathProof.index);
	differ("proof is new", true, answeredAt >= since);
	differ("proof is large", pathProof.isLarge, answeredAt === largeAnsweredAt);
}

function compareBytes(what: string, model: Buffer, core: Buffer, differ: Differ): void {
	differ(`${what}'s length`, model.length, core.length);
	for (let i = 0; i < Math.min(model.length, core.length); i++) {
		if (model[i] === core[i]) continue;
		const part = (bytes: Buffer) => bytes.subarray(i - (i % 8), i - (i % 8) + 16).toString("hex");
		differ(`${what}'s bytes from ${i - (i % 8)}, first at ${i}`, part(model), part(core));
		return;
	}
}

/**
 * BPF_PROG_TEST_RUN makes GSO packets without a type, and bpf_skb_adjust_room refuses those
 * (bpf_skb_net_grow, ENOTSUPP): a tunnel's headers cannot be written here.
 */
function isRefusedByTestRun(decision: Decision, { gsoSize }: PacketContext): boolean {
	return Boolean(gsoSize) && decision.sent?.tunnel === true;
}

type Differ = (what: string, model: unknown, core: unknown) => void;

function compareVerdicts(decision: Decision, verdict: Verdict, differ: Differ): void {
	differ("action", actionName(decision.action), actionName(verdict.action));
	differ("drop reason", DropReasonName[decision.dropReason], DropReasonName[verdict.dropReason]);
	for (const field of ["path", "slowPathKind", "ifindex", "peer", "mtu"] as const) {
		differ(field, decision[field], verdict[field]);
	}
	const { service } = decision;
	const backend = service?.by === "flow" ? undefined : service?.backend;
	differ("backend", backend?.id ?? 0, verdict.backend);
	for (const direction of ["egress", "ingress"] as const) {
		const rule = decision.policy?.[direction]?.judgement?.rule ?? 0;
		differ(`${direction} rule`, rule, verdict[`${direction}Rule`]);
	}
}

/** Whether a next hop is still trusted is a matter of milliseconds, and changes nothing else. */
function actionName(action: number): string {
	return ActionName[action === Action.WIRE_NEIGHBOUR ? Action.WIRE : action] ?? `${action}`;
}

/** What is dropped, handed up or taken in has no packet; the rest has one. */
function leaves(action: number): boolean {
	const ends: number[] = [Action.DROP, Action.SLOW_PATH, Action.PROBE];
	return !ends.includes(action);
}

function hasNoMtu(kind: number): boolean {
	return kind === SlowPathKind.TTL_EXCEEDED || kind === SlowPathKind.UNRESOLVED;
}

function isAnswer(kind: number): boolean {
	return kind !== SlowPathKind.FRAGMENT && kind !== SlowPathKind.HOLD;
}

function compareFlow(decision: Decision, dataPath: DataPath, differ: Differ): void {
	if (decision.flow === undefined) return;
	const { flow } = decision.flow;
	for (const key of [originalKey(flow), replyKey(flow)]) {
		const found = dataPath.flow(key);
		differ("flow", flowText(flow), found && flowText(found.flow));
		if (decision.rules === undefined || found === undefined) continue;
		const rules = dataPath.flowRules(found.slot);
		differ("flow's rules", JSON.stringify(decision.rules.rules), JSON.stringify(rules));
	}
}

/** Of flags: where the core keeps what it knows. */
const UNSEEN_FLAGS: ReadonlySet<number> = new Set([FlowFlag.AT_HOME, FlowFlag.RULED]);

/** What a flow is, without slot and what follows from that, timestamps and caches. */
export function flowText(flow: Flow): string {
	const [key, reply] = [originalKey(flow), replyKey(flow)];
	const flags = Object.entries(FlowFlag)
		.filter(([, bit]) => !UNSEEN_FLAGS.has(bit) && flow.flags & bit)
		.map(([name]) => name);
	return [
		FlowStateName[flow.state],
		...flags,
		`${key.source} ${key.sourcePort} > ${key.destination} ${key.destinationPort}`,
		`protocol ${key.protocol}`,
		...(backendIdOf(flow) === 0 ? [] : [`backend ${backendIdOf(flow)}`]),
		`answered by ${reply.source} ${reply.sourcePort} > ${reply.destination} ${reply.destinationPort}`,
	].join(", ");
}
