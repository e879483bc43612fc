/**
 * Describes a decision of the forwarder in the terms of `fairway peers` and `fairway status`: names instead of
 * numbers, one path, one reason.
 */
import { isDeepStrictEqual } from "node:util";
import type { ExplainAnswer, ExplainPolicy } from "../api/messages/explain.js";
import type { ExplainPath } from "../api/messages/paths.js";
import type { PeerView } from "../compile/compile.js";
import { originalKey, replyKey } from "../forwarder/flow.js";
import type { Decision } from "../forwarder/forwarder.js";
import { peerIndex } from "../forwarder/route.js";
import { HOST_DEVICE } from "../linux/names.js";
import type { Flow } from "../policy/interpreter.js";
import type { RuleName } from "../policy/policy_tables.js";
import { familyOf } from "../tables/address.js";
import {
	Action,
	DropReason,
	DropReasonName,
	FlowFlag,
	Hook,
	HookName,
	Path,
	PathName,
	RouteKind,
} from "../tables/generated.js";
import type { ExplainContext, Origin } from "./explain.js";
import { commonPolicy, policyAnswer } from "./explain_policy.js";
import type { Question } from "./explain_question.js";
import { serviceAnswer } from "./explain_service.js";

export async function explanation(
	question: Question,
	origin: Origin,
	decision: Decision,
	context: ExplainContext,
): Promise<ExplainAnswer> {
	const fates = (decision.backends ?? [{ backend: undefined, decision }]).map((one) => ({
		backend: one.backend?.address ?? question.destination,
		fate: fateOf(question, origin, one.decision, context),
		judged: judgedFlow(question, one.decision),
	}));
	const addresses = fates.flatMap(({ judged: { source, destination } }) => [source, destination]);
	const policies = await context.policies([...new Set(addresses)]);
	const judged = fates.map(({ backend, judged }) => ({
		backend,
		policy: policyAnswer(judged, policies),
	}));
	const policy = commonPolicy(judged);
	const explained = fates.map(({ fate }, i) => withPolicyReason(fate, judged[i]!.policy));
	return {
		...questionOf(question, HookName[origin.hook] ?? ""),
		...(decision.backends === undefined ? { ...explained[0]!, differing: [] } : common(explained)),
		...withFates(serviceAnswer(decision, context), decision, explained),
		policy,
		steps: stepsOf(question, origin, decision, context),
	};
}

/**
 * The tuple that policies judge: that of a known flow's first packet, else the packet's with its backend as
 * destination.
 */
function judgedFlow(question: Question, { flow: change, service }: Decision): Flow {
	const protocol = PROTOCOL_NUMBERS[question.protocol];
	if (change?.kind === "update") {
		const { source } = originalKey(change.flow);
		const { source: destination, sourcePort: port } = replyKey(change.flow);
		return { source, destination, protocol, port: question.protocol === "icmp" ? 0 : port };
	}
	const backend = service?.backend;
	return {
		...{ source: question.source, protocol },
		destination: backend?.address ?? question.destination,
		port: backend?.port ?? question.destinationPort,
	};
}

const PROTOCOL_NUMBERS = { tcp: 6, udp: 17, icmp: 1 } as const;

/** A denial is explained by the policy, not by numbers of tables. */
function withPolicyReason(fate: Fate, { egress, ingress }: ExplainPolicy): Fate {
	const { POLICY_EGRESS, POLICY_INGRESS } = DropReason;
	const direction =
		fate.drop === DropReasonName[POLICY_EGRESS]
			? egress
			: fate.drop === DropReasonName[POLICY_INGRESS]
				? ingress
				: undefined;
	return direction?.verdict === "deny" ? { ...fate, reason: direction.why } : fate;
}

type Fate = Pick<ExplainAnswer, "path" | "peer" | "reason" | "drop" | "snat" | "mtu" | "device">;

/** What happens to the packet, with at most one backend. */
function fateOf(
	question: Question,
	origin: Origin,
	decision: Decision,
	context: ExplainContext,
): Fate {
	const destination = decision.service?.backend?.address ?? question.destination;
	const peer = context.peer(decision.peer * 2 + (familyOf(destination) === 6 ? 1 : 0));
	const dropped = decision.action === Action.DROP || decision.dropReason !== DropReason.NONE;
	const path = pathOf(origin, decision, peer, context);
	return {
		path,
		peer: peer?.node ?? null,
		reason:
			dropped && path !== "down" ? dropText(decision) : reasonOf(destination, path, peer, context),
		drop: dropped ? (DropReasonName[decision.dropReason] ?? null) : null,
		snat: dropped ? null : snatOf(question, decision),
		mtu: mtuOf(decision, path, context),
		device: dropped
			? null
			: deviceOf(
					path === "local" && decision.ifindex === 0 ? origin.ifindex : decision.ifindex,
					context,
				),
	};
}

/** Each of several backends, with what would happen to the packet. */
function withFates(
	answer: ReturnType<typeof serviceAnswer>,
	{ backends }: Decision,
	fates: readonly Fate[],
): ReturnType<typeof serviceAnswer> {
	if (backends === undefined) return answer;
	return {
		...answer,
		backends: answer.backends.map((backend, i) => {
			const { drop, snat, mtu, device } = fates[i]!;
			return { ...backend, fate: { drop, snat, mtu, device } };
		}),
	};
}

const FIELDS = ["path", "peer", "drop", "snat", "mtu", "device"] as const;

/** The value on which several backends agree; null if they differ. */
function common(fates: readonly Fate[]): Fate & Pick<ExplainAnswer, "differing"> {
	const [first] = fates as [Fate];
	const isSame = (field: keyof Fate) =>
		fates.every((fate) => isDeepStrictEqual(fate[field], first[field]));
	const same = <K extends keyof Fate>(field: K): Fate[K] | null =>
		isSame(field) ? first[field] : null;
	const paths = [...new Set(fates.map(({ path }) => path ?? "none"))];
	return {
		path: same("path"),
		peer: same("peer"),
		reason:
			same("reason") ?? `One of ${fates.length} endpoints, by the path ${paths.join(" or ")}.`,
		drop: same("drop"),
		snat: same("snat"),
		mtu: same("mtu"),
		device: same("device"),
		differing: FIELDS.filter((field) => !isSame(field)),
	};
}

/** The explanation of a packet that no hook sees. */
export async function unseen(
	question: Question,
	why: string,
	{ tables, policies }: ExplainContext,
): Promise<ExplainAnswer> {
	const { source, destination, destinationPort: port } = question;
	const flow = { source, destination, port, protocol: PROTOCOL_NUMBERS[question.protocol] };
	const toHost = tables.route(question.destination)?.kind === RouteKind.HOST;
	return {
		...questionOf(question, "none"),
		path: toHost ? "host" : "outside",
		peer: null,
		reason: sentence(why),
		drop: null,
		snat: null,
		mtu: null,
		device: null,
		...{ service: null, backend: null, backends: [], differing: [] },
		policy: policyAnswer(flow, await policies([source, destination])),
		steps: [
			...question.named.map((text) => ({ stage: "name", text })),
			{ stage: "source", text: why },
		],
	};
}

function questionOf(question: Question, hook: string) {
	const { source, destination, protocol, sourcePort, destinationPort } = question;
	return {
		source,
		destination,
		protocol,
		...(protocol === "icmp" ? {} : { sourcePort, destinationPort }),
		hook,
	};
}

function pathOf(
	origin: Origin,
	decision: Decision,
	peer: PeerView | undefined,
	{ tables }: ExplainContext,
): ExplainPath | null {
	if (peer !== undefined) {
		const path = decision.path || tables.peer(peerIndex(peer.id, peer.family))?.path;
		return (PathName[path ?? Path.DOWN] as ExplainPath | undefined) ?? "down";
	}
	switch (decision.action) {
		case Action.ENDPOINT:
			return "local";
		case Action.WIRE:
		case Action.WIRE_NEIGHBOUR:
			return "outside";
		case Action.HOST:
			return "host";
		case Action.PASS:
			// At to_pod, a passing packet reaches the Pod; elsewhere, the Node's own stack.
			return origin.hook === Hook.TO_POD ? "local" : "host";
		default:
			return null;
	}
}

function reasonOf(
	destination: string,
	path: ExplainPath | null,
	peer: PeerView | undefined,
	{ endpoints, tables }: ExplainContext,
): string {
	if (peer !== undefined) return peer.reason;
	switch (path) {
		case "local": {
			const pod = endpoints.find(({ addresses }) => addresses.includes(destination));
			const name = pod?.name === undefined ? "a Pod" : `the Pod ${pod.namespace}/${pod.name}`;
			return `${destination} is ${name} of this Node.`;
		}
		case "outside":
			return `${destination} is in no pod CIDR of the cluster, the Node's own routes lead there.`;
		default:
			if (tables.route(destination)?.kind === RouteKind.STACK)
				return `${destination} is an address of Services: the Node's own stack handles them.`;
			return tables.route(destination)?.kind === RouteKind.HOST
				? `${destination} is an address of this Node.`
				: "It is left to the Node's own stack.";
	}
}

const DROPPED = /^dropped as \w+: /;

function dropText({ steps }: Decision): string {
	// The last step of a refusal says how the sender is told.
	const texts = steps.map(({ text }) => text);
	const why = texts.findLast((text) => DROPPED.test(text)) ?? texts.at(-1) ?? "";
	return sentence(why.replace(DROPPED, ""));
}

/** Turns a step's clause into a sentence; an address at its start keeps its spelling. */
function sentence(clause: string): string {
	const first = /^[a-z]+\b(?!:)/.test(clause) ? clause.charAt(0).toUpperCase() : clause.charAt(0);
	return `${first}${clause.slice(1)}.`;
}

/** The translation of the source, if the packet is in the original direction of a translated flow. */
function snatOf(question: Question, { flow: change }: Decision): ExplainAnswer["snat"] {
	const flow = change?.flow;
	if (flow === undefined || (flow.flags & FlowFlag.SNAT) === 0) return null;
	if (originalKey(flow).source !== question.source) return null;
	const { destination: address, destinationPort: port } = replyKey(flow);
	return question.protocol === "icmp" ? { address } : { address, port };
}

function mtuOf(
	{ mtu, outsideMtu }: Decision,
	path: ExplainPath | null,
	{ self }: ExplainContext,
): number | null {
	if (mtu !== 0) return mtu;
	if (path === "local") return self.podMTU;
	return path === "outside" ? (outsideMtu ?? null) : null;
}

function deviceOf(ifindex: number, context: ExplainContext): string | null {
	const { endpoints, interfaces, tables } = context;
	if (ifindex === 0) return null;
	const pod = endpoints.find(({ addresses }) =>
		addresses.some((address) => tables.endpoint(address)?.ifindex === ifindex),
	);
	if (pod !== undefined) return pod.hostInterface;
	if (ifindex === tables.nodeConfig()?.hostIfindex) return HOST_DEVICE;
	return interfaces.find(({ index }) => index === ifindex)?.name ?? `interface ${ifindex}`;
}

/** "rule 1 of default/web", "the isolation by default/deny" */
function ruleText({ policies, rule }: RuleName): string {
	return rule === null ? `the isolation by ${policies[0]}` : `rule ${rule} of ${policies[0]}`;
}

function stepsOf(
	question: Question,
	origin: Origin,
	{ steps, service }: Decision,
	context: ExplainContext,
): ExplainAnswer["steps"] {
	const named = service && context.servicePort(service);
	const inWords = (text: string) =>
		text
			.replace(
				/\binterface (\d+)/g,
				(_, index) => deviceOf(Number(index), context) ?? "no interface",
			)
			.replace(/\bservice (\d+)\b/g, (all, index) => {
				if (named === undefined || Number(index) !== service?.index) return all;
				const { namespace, name } = named.service;
				return `Service ${namespace}/${name}`;
			})
			.replace(/\brule (\d+)\b(?: of policy (\d+))?/g, (all, id, policy) => {
				const name = context.rule(Number(id));
				const where = policy === undefined ? "" : ` (policy ${policy})`;
				return name === undefined ? all : `${ruleText(name)}${where}`;
			})
			.replace(/\bpeer (\d+)/g, (all, id) => {
				const peer = context.peer(Number(id) * 2) ?? context.peer(Number(id) * 2 + 1);
				return peer === undefined ? all : `peer ${peer.node}`;
			});
	return [
		...question.named.map((text) => ({ stage: "name", text })),
		{ stage: "source", text: origin.why },
		// The first step says so.
		...steps
			.filter(({ stage }) => stage !== "source")
			.map(({ stage, text }) => ({ stage, text: inWords(text) })),
	];
}
