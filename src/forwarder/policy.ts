/**
 * Network policy (ARCHITECTURE, Network policy): the verdict on a flow's first packet, and again on a known flow after
 * something has changed.
 *
 *  1. lookUpPolicy   the tables: one direction of a Pod, the other end, a port
 *  2. admitNew       judges a packet without a flow, for each end that is a Pod of this Node: egress, then ingress
 *     admit          judges a packet with or without a flow; a known flow only where its verdict is not current
 *  3. admitFragment  a later fragment whose ports are unknown
 *
 * Addresses and ports are those after a Service's translation and before SNAT. Answers are never judged: like ICMP
 * errors, they follow their flow's verdict.
 */
import {
	DropReason,
	EndpointPolicy,
	type Flow,
	FlowDirection,
	FlowFlag,
	type FlowKey,
	type FlowRules,
	Hook,
	type Judgement as JudgementEntry,
	JudgementFlag,
	Limit,
	PolicyClass,
	type PolicyVerdict,
	PortPosition,
	RouteKind,
	SlowPathKind,
} from "../tables/generated.js";
import type { Decision, Judgement, PolicyDecision } from "./decision.js";
import type { Draft } from "./draft.js";
import { originalKey, replyKey } from "./flow.js";
import { type Packet, Protocol } from "./packet.js";
import { policyEpochOf, routeOf } from "./route.js";
import type { FlowEntry, PolicyReader, TableReader } from "./table_reader.js";

type Direction = "egress" | "ingress";

/** The input of the judgement of one direction. */
export interface PolicyQuestion {
	/** The judged Pod's policy: an index in `policies`, or enum endpoint_policy. */
	policy: number;
	/** Address of the other end. */
	peer: string;
	/** Both ends are the same Pod. */
	isHairpin: boolean;
	/** IPPROTO. */
	protocol: number;
	/** Destination port. */
	port: number;
}

/** 1. Looks the verdict up in the tables; the numbers are those of the look-up in ARCHITECTURE. */
export function lookUpPolicy(
	tables: PolicyReader,
	{ policy, peer, isHairpin, protocol, port }: PolicyQuestion,
): PolicyDecision {
	// 1
	if (policy === EndpointPolicy.NOT_READY)
		return { policy, dropReason: DropReason.POLICY_NOT_READY };
	if (policy === EndpointPolicy.OPEN)
		return { policy, dropReason: DropReason.NONE, judgement: OPEN };

	// 2
	const own = tables.policy(policy);
	const judging = isHairpin ? (own?.hairpin ?? NO_ENTRY) : policy;
	if (judging === EndpointPolicy.OPEN)
		return { policy: judging, dropReason: DropReason.NONE, judgement: OPEN };

	// 3
	const number = tables.identity(peer) ?? tables.block(peer) ?? PolicyClass.NONE;
	const found = { policy: judging, class: number };
	const entry = tables.policy(judging);
	const hasClass = number < tables.classLimit() && number !== PolicyClass.OVERFLOW;
	if (!hasClass || entry === undefined || entry.hairpin === NO_ENTRY)
		return { ...found, dropReason: DropReason.POLICY_INCOMPLETE };

	// 4
	const verdict = tables.policyVerdict(judging, number) ?? entry.verdict;
	const judgement = judgementOf(tables, verdict, positionOf(protocol, port));
	if (judgement === undefined) return { ...found, dropReason: DropReason.POLICY_INCOMPLETE };
	return { ...found, dropReason: DropReason.NONE, judgement };
}

/** The verdict of POLICY_OPEN: nothing isolates the Pod, and no rule names it. */
const OPEN: Judgement = { allow: true, rule: 0 };
/** The `hairpin` of an entry of `policies` that was never written. */
const NO_ENTRY = 0;

/** Undefined: the port set, or a part of it, is missing. */
function judgementOf(
	tables: PolicyReader,
	{ judgement, portSet }: PolicyVerdict,
	position: number,
): Judgement | undefined {
	if (portSet === 0) return readJudgement(judgement);
	let id = portSet;
	for (let parts = 0; parts < Limit.PORT_SET_PARTS; parts++) {
		const part = tables.portSet(id);
		if (part === undefined || part.count === 0) return undefined;
		if (part.nextFrom !== 0 && position >= part.nextFrom) {
			id = part.next;
			continue;
		}
		// The first segment is valid from the part's beginning, whatever its `from` says.
		const [first, ...others] = part.segments.slice(0, part.count);
		const last = others.filter(({ from }) => from <= position).at(-1) ?? first!;
		return readJudgement(last.judgement);
	}
	return undefined;
}

function readJudgement({ rule, stagedRule, flags }: JudgementEntry): Judgement {
	const has = (flag: number) => (flags & flag) !== 0;
	const now = { allow: has(JudgementFlag.ALLOW), rule };
	if (!has(JudgementFlag.STAGED)) return now;
	return { ...now, staged: { allow: has(JudgementFlag.STAGED_ALLOW), rule: stagedRule } };
}

/** The position of a port in the order of enum port_position. */
export function positionOf(protocol: number, port: number): number {
	switch (protocol) {
		case Protocol.TCP:
			return PortPosition.TCP + port;
		case Protocol.UDP:
			return PortPosition.UDP + port;
		case Protocol.SCTP:
			return PortPosition.SCTP + port;
		default:
			return PortPosition.NO_PORTS;
	}
}

/**
 * 2. Judges a packet without a flow.
 *
 * @param to its tuple towards a Service's backend
 * @returns a Decision: it is dropped
 */
export function admitNew(draft: Draft, { key }: Packet, to: FlowKey = key): Decision | undefined {
	const asks = { egress: draft.hook === Hook.FROM_POD, ingress: true };
	const policy = judge(draft.tables, { ...to, source: key.source }, asks);
	draft.decision.policy = policy;
	return refusedBy(draft, policy);
}

/**
 * 2. Judges a packet. A known flow is judged as it began, and only where it is not current.
 *
 * @param to the packet's tuple towards a Service's backend; its own where there is no Service
 * @returns the flow as it is now, undefined where there is none; a Decision: the packet is dropped
 */
export function admit(
	draft: Draft,
	packet: Packet,
	known: FlowEntry | undefined,
	to: FlowKey = packet.key,
): FlowEntry | undefined | Decision {
	if (known === undefined) return admitNew(draft, packet, to);
	const { tables, decision } = draft;
	const { flow, slot } = known;
	if (isCurrent(flow, draft)) return known;
	// A Pod's packet that the stack forwards was judged before it reached the stack.
	const asks = { egress: (flow.flags & FlowFlag.STACK) === 0, ingress: !isOfNode(draft, known) };
	const policy = judge(tables, tupleOfFlow(flow), asks);
	decision.policy = policy;
	const refused = refusedBy(draft, policy);
	if (packet.icmpError) return refused ?? known;
	const rules = rulesOf(policy);
	if (refused === undefined) {
		const before = tables.flowRules(slot);
		for (const direction of DIRECTIONS)
			if (rules[direction] !== before[direction]) draft.countRule("flows", rules[direction]);
	}
	const judged = refused
		? { ...flow, flags: flow.flags | FlowFlag.DENIED, routeEpoch: 0 }
		: { ...flow, flags: flow.flags & ~FlowFlag.DENIED };
	draft.keep(slot, judged);
	decision.rules = { slot, rules };
	return refused ?? { ...known, flow: dated(judged, draft) };
}

/**
 * Whether a held packet of a known flow may be sent: the flow's verdict still holds, or would be the same now. Counts
 * and writes nothing.
 *
 * @param draft of the hook where the packet came in
 */
export function mayGoOn(
	known: FlowEntry,
	draft: Pick<Draft, "hook" | "context" | "node" | "tables">,
): boolean {
	const { flow } = known;
	if ((flow.flags & FlowFlag.DENIED) !== 0) return false;
	if (isCurrent(flow, draft)) return true;
	const asks = { egress: (flow.flags & FlowFlag.STACK) === 0, ingress: !isOfNode(draft, known) };
	return Object.values(judge(draft.tables, tupleOfFlow(flow), asks)).every(isAllowed);
}

/** Marks the flow as judged with its peer's present addresses; written with the packet's other changes. */
function dated(flow: Flow, { tables }: Draft): Flow {
	if (!hasPeer(flow)) return flow;
	return { ...flow, remoteEpoch: policyEpochOf(flow.remote, tables) };
}

const DIRECTIONS: readonly Direction[] = ["egress", "ingress"];

/** True if the first packet's verdict still holds and the flow's ends are the same. */
export function isCurrent(flow: Flow, { node, tables }: Pick<Draft, "node" | "tables">): boolean {
	const { routeEpoch, remote, flags, remoteEpoch } = flow;
	if (routeEpoch !== node.routeEpoch || (flags & FlowFlag.DENIED) !== 0) return false;
	return !hasPeer(flow) || remoteEpoch === policyEpochOf(remote, tables);
}

/** Its remote side is a peer, or the Node's stack for a client on a peer. */
function hasPeer({ routeKind, remote }: Flow): boolean {
	return routeKind === RouteKind.PEER || (routeKind === RouteKind.HOST && remote !== 0);
}

/** True if the Node itself began the flow and does not only forward this packet. */
function isOfNode(
	draft: Pick<Draft, "hook" | "context" | "tables">,
	{ flow, direction }: FlowEntry,
): boolean {
	const { hook, tables } = draft;
	const isFromStack = hook === Hook.TO_POD || hook === Hook.FROM_HOST;
	if (isFromStack && direction === FlowDirection.ORIGINAL && !isOwn(draft)) return false;
	if (flow.flags & FlowFlag.FORWARDED) return false;
	if (flow.flags & FlowFlag.STACK) return true;
	return routeOf(originalKey(flow).source, tables).kind === RouteKind.HOST;
}

type Tuple = Pick<FlowKey, "source" | "destination" | "destinationPort" | "protocol">;

/** The input that the flow's first packet was judged by. */
function tupleOfFlow(flow: Flow): Tuple {
	const { source: destination, sourcePort: destinationPort } = replyKey(flow);
	return { ...originalKey(flow), destination, destinationPort };
}

/** The ends of a tuple that are Pods of this Node. */
function judge(
	tables: TableReader,
	{ source, destination, destinationPort: port, protocol }: Tuple,
	asks: { egress: boolean; ingress: boolean },
): NonNullable<Decision["policy"]> {
	const from = asks.egress ? tables.endpoint(source) : undefined;
	const to = asks.ingress ? tables.endpoint(destination) : undefined;
	// Egress only where the packet comes from the Pod itself: elsewhere its address may be forged.
	const isHairpin = from !== undefined && from.index === to?.index;
	const question = { isHairpin, protocol, port };
	const policy: NonNullable<Decision["policy"]> = {};
	if (from) {
		const { egressPolicy } = from;
		policy.egress = lookUpPolicy(tables, { ...question, policy: egressPolicy, peer: destination });
		if (!isAllowed(policy.egress)) return policy;
	}
	if (to) {
		const { ingressPolicy } = to;
		policy.ingress = lookUpPolicy(tables, { ...question, policy: ingressPolicy, peer: source });
	}
	return policy;
}

function isAllowed({ judgement }: PolicyDecision): boolean {
	return judgement?.allow === true;
}

/** Drops the packet where a direction denies it. */
function refusedBy(draft: Draft, policy: NonNullable<Decision["policy"]>): Decision | undefined {
	countStaged(draft, policy);
	for (const direction of DIRECTIONS) {
		const one = policy[direction];
		if (one === undefined) continue;
		draft.note("policy", `${direction}: ${textOf(one)}`);
		if (isAllowed(one)) continue;
		const { judgement, dropReason } = one;
		if (judgement === undefined) return draft.drop(dropReason, textOf(one));
		draft.countRule("packets", judgement.rule);
		const reason = direction === "egress" ? DropReason.POLICY_EGRESS : DropReason.POLICY_INGRESS;
		return draft.drop(reason, `rule ${judgement.rule} denies it`);
	}
	return undefined;
}

function textOf({ policy, class: number, judgement, dropReason }: PolicyDecision): string {
	if (judgement === undefined)
		return dropReason === DropReason.POLICY_NOT_READY
			? "the Pod's policies are not known yet"
			: `policy ${policy} has no verdict for class ${number}`;
	if (number === undefined) return "nothing isolates the Pod, and no rule names it";
	const { allow, rule } = judgement;
	return `${allow ? "allowed" : "denied"} by rule ${rule} of policy ${policy}, for class ${number}`;
}

/** How the verdict would differ if staged policies were enforced. */
function countStaged(draft: Draft, policy: NonNullable<Decision["policy"]>): void {
	for (const direction of DIRECTIONS) {
		const { allow, staged } = policy[direction]?.judgement ?? OPEN;
		if (staged !== undefined && staged.allow !== allow) draft.countRule("staged", staged.rule);
	}
}

/** A new flow keeps the rules that allowed it. */
export function beginRules(draft: Draft, slot: number): void {
	const rules = rulesOf(draft.decision.policy ?? {});
	for (const direction of DIRECTIONS) draft.countRule("flows", rules[direction]);
	draft.decision.rules = { slot, rules };
}

function rulesOf(policy: NonNullable<Decision["policy"]>): FlowRules {
	const ruleOf = (direction: Direction) => policy[direction]?.judgement?.rule ?? 0;
	return { egress: ruleOf("egress"), ingress: ruleOf("ingress") };
}

/** The Node's own packets reach its Pods whatever the policies say. A packet that it forwards came in by some
 * interface, even if masquerade has made its source the Node's. */
export function isOwn({ context }: Pick<Draft, "context">): boolean {
	return (context.ingressIfindex ?? 0) === 0;
}

/** True if a flow that began in to_pod or from_host is to be judged again. */
export function forwardedFlag(draft: Draft): number {
	return isOwn(draft) ? 0 : FlowFlag.FORWARDED;
}

/**
 * 3. Without its ports a fragment cannot be judged, and its flow cannot be found. If nothing isolates the Pod, ports
 * do not matter.
 *
 * @returns a Decision: dropped, or held until the first fragment arrives
 */
export function admitFragment(
	draft: Draft,
	packet: Packet,
	policy: number | undefined,
	mayHold: boolean,
): Decision | undefined {
	if (!packet.portsUnknown || policy === undefined || policy === EndpointPolicy.OPEN)
		return undefined;
	if (policy === EndpointPolicy.NOT_READY)
		return draft.drop(DropReason.POLICY_NOT_READY, "the Pod's policies are not known yet");
	const why = "its first fragment, which has the ports that policies go by, has not arrived yet";
	if (mayHold) return draft.handUp(SlowPathKind.HOLD, packet, 0, why);
	return draft.drop(DropReason.FRAGMENT_UNKNOWN, why);
}
