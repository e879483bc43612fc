/**
 * The kernel's FIB, asked with the results of bpf_fib_lookup. Blocks for some hundred microseconds. Answers are
 * kept briefly, and until the kernel reports a change.
 */
import { Protocol } from "../../forwarder/packet.js";
import type { FibAnswer, FibQuery } from "../../forwarder/table_reader.js";
import {
	lookUpLink,
	lookUpNeighbour,
	lookUpRoute,
	type RouteQuery,
} from "../../linux/route_query.js";

/** The MAC of a device without Ethernet. */
const NO_MAC = "00:00:00:00:00:00";
const KEEP_MS = 1000;
const KEEP_MOST = 4096;
/** Two bits of the TOS belong to ECN; no rule matches them. */
const DSCP_MASK = 0xfc;
const WITH_PORTS: readonly number[] = [Protocol.TCP, Protocol.UDP, Protocol.SCTP];

export class Fib {
	readonly #answers = new Map<string, { answer: FibAnswer; until: number }>();

	forget(): void {
		this.#answers.clear();
	}

	look(query: FibQuery): FibAnswer {
		const key = JSON.stringify(query);
		const now = performance.now();
		const kept = this.#answers.get(key);
		if (kept !== undefined && kept.until > now) return kept.answer;
		const answer = ask(query);
		if (this.#answers.size >= KEEP_MOST) this.#answers.clear();
		this.#answers.set(key, { answer, until: now + KEEP_MS });
		return answer;
	}
}

function ask(query: FibQuery): FibAnswer {
	const { destination } = query;
	const route = lookUpRoute(routeQuery(query));
	if (route === undefined || route.type === "other") return { kind: "notForwarded" };
	if (route.type !== "unicast") return { kind: "noRoute", type: route.type };
	const output = lookUpLink(route.output);
	if (output === undefined) return { kind: "notForwarded" };
	const nextHop = route.gateway || destination;
	const destinationMac = output.hasEthernet ? lookUpNeighbour(nextHop, output.index) : NO_MAC;
	return {
		kind: "forward",
		ifindex: output.index,
		nextHop,
		sourceMac: output.hasEthernet ? output.mac : NO_MAC,
		mtu: route.mtu ?? output.mtu,
		source: query.wantsSource ? source(destination, nextHop, output.index) : "",
		...(destinationMac === undefined ? {} : { destinationMac }),
	};
}

const ANY = { source: "", tos: 0, protocol: 0, sourcePort: 0, destinationPort: 0 };

/**
 * With an input interface the kernel accepts the packet's source; without one the source must be an address of the
 * Node.
 */
function routeQuery(query: FibQuery): RouteQuery {
	const { destination, source, protocol, sourcePort, destinationPort, tos, ifindex, isOutput } =
		query;
	// For output of its own, the kernel accepts only its own source addresses.
	if (isOutput && ifindex !== undefined) return { ...ANY, destination, output: ifindex };
	const known = WITH_PORTS.includes(protocol);
	return {
		...{ ...ANY, destination, source, tos: tos & DSCP_MASK },
		...(known ? { protocol, sourcePort, destinationPort } : {}),
		...(ifindex === undefined ? {} : { input: ifindex }),
	};
}

/**
 * The source of a packet that the Node itself sends by that next hop; "" for none. A route that only a policy rule
 * selects is not found without the fields that the rule matches; then the source towards the next hop counts.
 */
function source(destination: string, nextHop: string, output: number): string {
	const toThere = (address: string) => lookUpRoute({ ...ANY, destination: address, output });
	const own = toThere(destination);
	const isSame = own?.output === output && (own.gateway || destination) === nextHop;
	const found = (isSame ? own : toThere(nextHop))?.source ?? "";
	// Hosts beyond the link could not answer a link-local address.
	return /^fe[89ab].:/.test(found) ? "" : found;
}
