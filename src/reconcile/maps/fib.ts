/**
 * Queries the kernel's FIB through `ip route get`, with the results of bpf_fib_lookup (a few milliseconds
 * each, blocking). Answers are cached briefly, and until the kernel reports a change.
 */
import { Protocol } from "../../forwarder/packet.js";
import type { FibAnswer, FibQuery } from "../../forwarder/table_reader.js";
import { type IpRoute, IpRouteError } from "../../linux/iproute.js";

/** Of a device without Ethernet. */
const NO_MAC = "00:00:00:00:00:00";
const KEEP_MS = 1000;
const KEEP_MOST = 4096;

interface RouteAnswer {
	type?: string;
	prefsrc?: string;
	metrics?: { mtu?: number }[];
	gateway?: string;
	via?: { host: string };
	dev?: string;
}

interface LinkAnswer {
	ifindex: number;
	ifname: string;
	address?: string;
	mtu: number;
	link_type?: string;
}

export class Fib {
	readonly #ip: IpRoute;
	readonly #answers = new Map<string, { answer: FibAnswer; until: number }>();
	#links: LinkAnswer[] | undefined;

	constructor(ip: IpRoute) {
		this.#ip = ip;
	}

	forget(): void {
		this.#answers.clear();
		this.#links = undefined;
	}

	look(query: FibQuery): FibAnswer {
		const key = JSON.stringify(query);
		const now = performance.now();
		const kept = this.#answers.get(key);
		if (kept !== undefined && kept.until > now) return kept.answer;
		const answer = this.#ask(query);
		if (this.#answers.size >= KEEP_MOST) this.#answers.clear();
		this.#answers.set(key, { answer, until: now + KEEP_MS });
		return answer;
	}

	#ask(query: FibQuery): FibAnswer {
		const { destination } = query;
		let route: RouteAnswer | undefined;
		try {
			[route] = this.#ip.querySync<RouteAnswer>("route", "get", destination, ...this.#words(query));
		} catch (error) {
			const type = error instanceof IpRouteError ? refusal(error.detail) : undefined;
			return type === undefined ? { kind: "notForwarded" } : { kind: "noRoute", type };
		}
		if (route?.dev === undefined) return { kind: "notForwarded" };
		if (route.type === "blackhole" || route.type === "unreachable" || route.type === "prohibit")
			return { kind: "noRoute", type: route.type };
		// `ip route get` names no type for unicast.
		if (route.type !== undefined && route.type !== "unicast") return { kind: "notForwarded" };
		const device = route.dev;
		const output = this.#linkOf(({ ifname }) => ifname === device);
		if (output === undefined) return { kind: "notForwarded" };
		const nextHop = route.gateway ?? route.via?.host ?? destination;
		const destinationMac = this.#neighbour(nextHop, device);
		return {
			kind: "forward",
			ifindex: output.ifindex,
			nextHop,
			sourceMac: output.link_type === "ether" ? (output.address ?? "") : NO_MAC,
			mtu: route.metrics?.find(({ mtu }) => mtu !== undefined)?.mtu ?? output.mtu,
			source: query.wantsSource ? this.#source(destination, nextHop, device) : "",
			...(destinationMac === undefined ? {} : { destinationMac }),
		};
	}

	/**
	 * The question as `ip route get` takes it. It knows ports of TCP and UDP only. A packet that comes
	 * in by an interface has a source there that the kernel believes; without one the source must be
	 * the Node's own.
	 */
	#words(query: FibQuery): string[] {
		const { source, protocol, sourcePort, destinationPort, tos, ifindex, isOutput } = query;
		const words: string[] = [];
		const input = this.#linkOf((link) => link.ifindex === ifindex)?.ifname;
		// Of its own, the kernel believes only sources that it has.
		if (isOutput && input !== undefined) return ["oif", input];
		if (source !== "") words.push("from", source);
		if (input !== undefined) words.push("iif", input);
		// Two bits of the TOS are ECN's, and no rule's.
		if (tos >> 2 !== 0) words.push("tos", `0x${(tos & 0xfc).toString(16)}`);
		const name = { [Protocol.TCP]: "tcp", [Protocol.UDP]: "udp" }[protocol];
		if (name === undefined) return words;
		words.push("ipproto", name);
		if (sourcePort !== 0) words.push("sport", String(sourcePort));
		if (destinationPort !== 0) words.push("dport", String(destinationPort));
		return words;
	}

	/**
	 * What a packet of the Node's own has as its source by that next hop; "" for none. A route that only
	 * a rule leads to is not found without what the rule asks for; then it is what the next hop itself
	 * is sent.
	 */
	#source(destination: string, nextHop: string, device: string): string {
		const ask = (address: string): RouteAnswer | undefined => {
			try {
				return this.#ip.querySync<RouteAnswer>("route", "get", address, "oif", device)[0];
			} catch {
				return undefined;
			}
		};
		const own = ask(destination);
		const isSame = own?.dev === device && (own.gateway ?? own.via?.host ?? destination) === nextHop;
		const source = (isSame ? own : ask(nextHop))?.prefsrc ?? "";
		// Nobody beyond the link could answer a link-local address.
		return /^fe[89ab].:/.test(source) ? "" : source;
	}

	#neighbour(address: string, device: string): string | undefined {
		const show = ["neighbour", "show", "to", address, "dev", device];
		try {
			const [neighbour] = this.#ip.querySync<{ lladdr?: string; state?: string[] }>(...show);
			return neighbour?.state?.includes("FAILED") === true ? undefined : neighbour?.lladdr;
		} catch {
			return undefined;
		}
	}

	#linkOf(wanted: (link: LinkAnswer) => boolean): LinkAnswer | undefined {
		try {
			this.#links ??= this.#ip.querySync<LinkAnswer>("link", "show");
		} catch {
			return undefined;
		}
		return this.#links.find(wanted);
	}
}

/** What `ip route get` says of blackhole, unreachable and prohibit routes. */
/** The type of the route that the kernel refuses with. */
function refusal(detail: string): "blackhole" | "unreachable" | "prohibit" | undefined {
	if (detail.includes("Invalid argument")) return "blackhole";
	if (detail.includes("No route to host")) return "unreachable";
	return detail.includes("Permission denied") ? "prohibit" : undefined;
}
