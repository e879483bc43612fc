/**
 * Queries the kernel's FIB through `ip route get`, with the results of bpf_fib_lookup (a few milliseconds
 * each, blocking). Answers are cached briefly, and until the kernel reports a change.
 */
import type { FibAnswer, FibQuery } from "../forwarder/table_reader.js";
import { type IpRoute, IpRouteError } from "./iproute.js";

const KEEP_MS = 1000;
const KEEP_MOST = 4096;

interface RouteAnswer {
	type?: string;
	gateway?: string;
	via?: { host: string };
	dev?: string;
}

interface LinkAnswer {
	ifindex: number;
	ifname: string;
	address?: string;
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
		const key = query.destination;
		const now = performance.now();
		const kept = this.#answers.get(key);
		if (kept !== undefined && kept.until > now) return kept.answer;
		const answer = this.#ask(query.destination);
		if (this.#answers.size >= KEEP_MOST) this.#answers.clear();
		this.#answers.set(key, { answer, until: now + KEEP_MS });
		return answer;
	}

	/**
	 * As for a packet of the Node's own: asking for one that comes in would need a source that the
	 * kernel believes. Only rules that look at the incoming interface could tell the two apart.
	 */
	#ask(destination: string): FibAnswer {
		let route: RouteAnswer | undefined;
		try {
			[route] = this.#ip.querySync<RouteAnswer>("route", "get", destination);
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
			sourceMac: output.address ?? "",
			...(destinationMac === undefined ? {} : { destinationMac }),
		};
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
