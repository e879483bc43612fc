/**
 * A decision in progress: what every hook needs to reach a verdict, and the verdicts.
 */
import {
	Action,
	DropReason,
	DropReasonName,
	EventCounter,
	type Flow,
	Hook,
	Limit,
	type NodeConfig,
	type PeerActivity,
	ProbeEvent,
	type ProbeRecord,
	SlowPathKind,
} from "../tables/generated.js";
import type { Candidate, Decision, PacketContext, RuleCount } from "./decision.js";
import { originalKey, replyKey } from "./flow.js";
import { type Packet, parse } from "./packet.js";
import type { TableReader } from "./table_reader.js";

export class Draft {
	/** enum hook */
	readonly hook: number;
	readonly frame: Buffer;
	readonly context: PacketContext;
	readonly tables: TableReader;
	readonly node: NodeConfig;
	readonly decision: Decision;

	constructor(
		hook: number,
		frame: Buffer,
		context: PacketContext,
		tables: TableReader,
		node: NodeConfig,
	) {
		this.hook = hook;
		this.frame = frame;
		this.context = context;
		this.tables = tables;
		this.node = node;
		this.decision = undecided(frame);
	}

	get now(): bigint {
		return this.context.now;
	}

	/** The frame's IP packet; undefined: none, or malformed. */
	parse(): Packet | undefined {
		return parse(this.frame, undefined, undefined, { big: this.isBig });
	}

	get isBig(): boolean {
		return (this.context.gsoSegments ?? 0) > 1;
	}

	note(stage: string, text: string): void {
		this.decision.steps.push({ stage, text });
	}

	/** Passes the packet to the Node's own stack. */
	pass(why: string): Decision {
		this.note("verdict", `passes to the Node: ${why}`);
		this.decision.action = Action.PASS;
		return this.decision;
	}

	drop(reason: number, why: string): Decision {
		this.note("verdict", `dropped as ${DropReasonName[reason]}: ${why}`);
		this.decision.action = Action.DROP;
		this.decision.dropReason = reason;
		return this.decision;
	}

	/**
	 * Hands the packet, unchanged, to the slow path. The packet itself ends here.
	 *
	 * @param reason enum drop_reason of REFUSED
	 */
	handUp(kind: number, packet: Packet, mtu: number, why: string, reason?: number): Decision {
		const { decision } = this;
		const answered = kind === SlowPathKind.REFUSED ? reason : ANSWERED.get(kind);
		// No error is sent about these (RFC 1812, 4.3.2.7; RFC 4443, 2.4).
		if (answered !== undefined && (packet.icmpError || packet.isLaterFragment))
			return this.drop(answered, why);
		this.copyUp(kind, packet, mtu);
		if (answered !== undefined) return this.drop(answered, why);
		decision.action = Action.SLOW_PATH;
		this.note("verdict", `goes up to the slow path: ${why}`);
		return decision;
	}

	/** Hands the slow path a copy of a packet that waits for its next hop; the packet itself goes on. */
	tellUnresolved(packet: Packet): void {
		if (packet.icmpError || packet.isLaterFragment) return;
		if (this.tables.endpoint(packet.key.source) === undefined) return;
		this.copyUp(SlowPathKind.UNRESOLVED, packet, 0);
	}

	/** Hands a copy to the slow path; the packet itself is decided separately. */
	copyUp(kind: number, packet: Packet, mtu: number): void {
		const { decision } = this;
		decision.slowPathKind = kind;
		decision.slowPathPacket = packet.frame.subarray(packet.l3, packet.l3 + packet.length);
		decision.mtu = mtu;
		this.event(EventCounter.SLOW_PATH);
	}

	event(counter: number): void {
		this.decision.events.push(counter);
	}

	/** Rule 0 stands for no rule and is not counted. */
	countRule(what: RuleCount["what"], rule: number): void {
		if (rule !== 0) this.decision.ruleCounts.push({ rule, what });
	}

	/** Adds a record for the agent that has only a kind. */
	tell(event: number, index: number): void {
		this.decision.records.push({ ...NO_RECORD, event, index });
	}

	/** Stamps `peer_activity`: the kernel has to resolve the next hop of a Pod's packet to a peer. */
	traffic(index: number): void {
		const { tables, now, decision } = this;
		const activity = tables.peerActivity(index) ?? NO_ACTIVITY;
		if (now - activity.sentAt > TRAFFIC_PAUSE_NS) this.tell(ProbeEvent.TRAFFIC, index);
		decision.activity = { index, activity: { ...activity, sentAt: now } };
	}

	/** A slot for a new flow; undefined: the table is full. */
	claimSlot(flow: Flow): number | undefined {
		const claim = this.tables.flowSlot(originalKey(flow), flow.endpoint, this.now);
		if (claim?.evicted !== undefined) this.event(EventCounter.FLOW_EVICTED_EARLY);
		return claim?.slot;
	}

	keepNew(slot: number, flow: Flow): void {
		this.decision.flow = { kind: "create", slot, flow, reply: replyKey(flow) };
	}

	/** Ends a flow: both its tuples are removed. */
	end(slot: number): void {
		this.decision.ended.push(slot);
	}

	choose(candidates: readonly Candidate[]): Candidate {
		const { choose } = this.context;
		if (choose === undefined) throw new Error("Cannot choose a backend: the context has no choice");
		return choose(candidates);
	}

	/** Stores the new state of a known flow. */
	keep(slot: number, flow: Flow): void {
		this.decision.flow = { kind: "update", slot, flow };
	}
}

/** The slow path kinds that are answered with an ICMP error, and the drop reason that counts the packet. */
const ANSWERED = new Map<number, number>([
	[SlowPathKind.TTL_EXCEEDED, DropReason.TTL_EXCEEDED],
	[SlowPathKind.TOO_BIG, DropReason.PACKET_TOO_BIG],
	[SlowPathKind.UNREACHABLE, DropReason.NO_ROUTE],
	[SlowPathKind.PROHIBITED, DropReason.NO_ROUTE],
	[SlowPathKind.NO_HOST, DropReason.NO_ENDPOINT],
]);

const TRAFFIC_PAUSE_NS = BigInt(Limit.TRAFFIC_PAUSE_MS) * 1_000_000n;

/** Counts of a peer without any traffic. */
export const NO_ACTIVITY: PeerActivity = { sentAt: 0n, greetedAt: 0n, answersUntil: 0n };

const NO_RECORD: ProbeRecord = {
	event: 0,
	wayThere: 0,
	wayBack: 0,
	announced: 0,
	index: 0,
	sequence: 0,
	length: 0,
	answerLength: 0,
	sentAt: 0n,
	roundTrip: 0n,
	sentPackets: 0,
	sentLarge: 0,
	receivedPackets: 0,
	receivedLarge: 0,
};

function undecided(frame: Buffer): Decision {
	return {
		action: Action.PASS,
		dropReason: DropReason.NONE,
		path: 0,
		slowPathKind: 0,
		ifindex: 0,
		peer: Limit.NO_PEER,
		mtu: 0,
		packet: frame,
		ruleCounts: [],
		ended: [],
		events: [],
		records: [],
		steps: [],
	};
}

/** Until the agent has written `node_config`: drops what Pods send and what leaves by fairway0; the rest passes. */
export function notConfigured(hook: number, frame: Buffer): Decision {
	const decision = undecided(frame);
	if (hook === Hook.FROM_POD || hook === Hook.FROM_HOST) {
		decision.action = Action.DROP;
		decision.dropReason = DropReason.NOT_CONFIGURED;
	}
	decision.steps.push({ stage: "verdict", text: "the agent has not configured this Node yet" });
	return decision;
}
