/**
 * Explains what would happen to a packet: builds an ordinary packet and runs it through the forwarder over
 * the live tables. Sends and changes nothing.
 *
 *  1. the request: addresses, ports, names (explain_question.ts)
 *  2. the hook that would see the packet first, which follows from its source
 *  3. the forwarder's decision
 *  4. the answer (explanation.ts)
 */
import type { ExplainAnswer } from "../api/messages/explain.js";
import { RequestError } from "../api/server.js";
import type { Endpoint } from "../cni/endpoint.js";
import type { PeerView, SelfView } from "../compile/compile.js";
import { forward, type ServiceDecision, type TableReader } from "../forwarder/forwarder.js";
import type { NetworkInterface } from "../linux/network.js";
import type { RuleName } from "../policy/policy_tables.js";
import { macText } from "../tables/address.js";
import { Hook, RouteKind } from "../tables/generated.js";
import type { PolicyContext } from "./explain_policy.js";
import { type Names, type Question, readQuestion } from "./explain_question.js";
import type { NamedPort } from "./explain_service.js";
import { explanation, unseen } from "./explanation.js";
import { probePacket } from "./sample_packet.js";
import type { PlaceContext } from "./services.js";

/** The current state. */
export interface ExplainContext {
	tables: TableReader;
	self: SelfView;
	/** By index in peers. */
	peer: (index: number) => PeerView | undefined;
	endpoints: readonly Endpoint[];
	interfaces: readonly NetworkInterface[];
	names: Names;
	/** undefined: its name is not known, or it no longer exists. */
	servicePort: (service: ServiceDecision) => NamedPort | undefined;
	places: PlaceContext;
	/** The Pods, Nodes and policies that concern flows between these addresses. */
	policies: (addresses: readonly string[]) => Promise<PolicyContext>;
	/** The name of a rule of network policy by its id. */
	rule: (id: number) => RuleName | undefined;
}

/** The first hook of a packet. */
export interface Origin {
	hook: number;
	ifindex: number;
	sourceMac: string;
	destinationMac: string;
	/** A clause: "10.244.1.2 is a Pod of this Node". */
	why: string;
}

/** Source MAC of packets from the outside, a router's; no decision depends on it. */
const SOME_MAC = "02:00:00:00:00:01";

/** @throws RequestError */
export async function explain(request: unknown, context: ExplainContext): Promise<ExplainAnswer> {
	const question = readQuestion(request, context.names);
	const origin = originOf(question, context);
	if (typeof origin === "string") {
		return unseen(question, origin, context);
	}
	const frame = probePacket({ ...question, ...origin });
	const decision = forward(
		origin.hook,
		frame,
		{ ifindex: origin.ifindex, now: process.hrtime.bigint() },
		context.tables,
	);
	return explanation(question, origin, decision, context);
}

/** The first hook; a string: why no hook of Fairway sees the packet. */
function originOf(question: Question, context: ExplainContext): Origin | string {
	const { source, destination } = question;
	const { tables, self, endpoints, interfaces } = context;
	const pod = endpoints.find(({ addresses }) => addresses.includes(source));
	const entry = tables.endpoint(source);
	if (pod !== undefined && entry !== undefined) {
		return {
			hook: Hook.FROM_POD,
			ifindex: entry.ifindex,
			sourceMac: entry.mac,
			destinationMac: self.gatewayMac,
			why: `${source} is ${podName(pod)}`,
		};
	}
	const kind = tables.route(source)?.kind;
	if (kind === RouteKind.LOCAL_PODS) {
		throw new RequestError(
			404,
			`Cannot explain packets of ${source}: it is in a pod CIDR of this Node, but no local Pod has it`,
		);
	}
	const target = tables.route(destination)?.kind;
	const hostIfindex = tables.nodeConfig()?.hostIfindex ?? 0;
	if (kind === RouteKind.HOST) {
		const common = {
			sourceMac: self.gatewayMac,
			destinationMac: self.gatewayMac,
			why: `${source} is an address of this Node`,
		};
		// The kernel routes Services' addresses there as well.
		if (target === RouteKind.PEER || target === RouteKind.SERVICE) {
			return { hook: Hook.FROM_HOST, ifindex: hostIfindex, ...common };
		}
		const endpoint = tables.endpoint(destination);
		if (endpoint !== undefined) {
			return { hook: Hook.TO_POD, ifindex: endpoint.ifindex, ...common };
		}
		return `${source} is an address of this Node and ${destination} is no Pod's: the Node's own stack sends such packets as if Fairway were not there`;
	}
	const wire = interfaces.find(({ name }) => name === self.transport.interface);
	// As if it came from the peer itself: XDP marks a frame that it takes out of a peer's tunnel in this way.
	const strippedMac = tables.nodeConfig()?.strippedMac ?? 0n;
	const sentByPeer = kind === RouteKind.PEER && strippedMac !== 0n;
	return {
		hook: Hook.FROM_WIRE,
		ifindex: wire?.index ?? 0,
		sourceMac: sentByPeer ? macText(strippedMac) : SOME_MAC,
		destinationMac: wire?.mac || SOME_MAC,
		why:
			kind === RouteKind.PEER
				? `${source} is in a pod CIDR of another Node, its packets come in by ${self.transport.interface}`
				: `${source} is outside the cluster, its packets come in by ${self.transport.interface}`,
	};
}

function podName({ namespace, name, hostInterface }: Endpoint): string {
	const pod = name === undefined ? "a Pod of this Node" : `the Pod ${namespace}/${name}`;
	return `${pod}, behind ${hostInterface}`;
}
