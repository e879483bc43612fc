/**
 * A change of the MTU of running Pods that loses nothing.
 *
 *  1 Every device takes the larger size, while the routes keep senders at the old one.
 *  2 When all devices do, the routes let go.
 *
 * A device refuses packets above its MTU, so none is made smaller: connections that were opened
 * with the larger MSS would stall. Where the MTU shrinks, step 2 alone lowers that of the routes,
 * which is what senders go by, at once and for open connections too.
 */
import type { BatchFailure, IpRoute } from "../reconcile/iproute.js";
import type { Endpoint } from "./endpoint.js";
import { ROUTE_PROTOCOL } from "./plumbing.js";
import { defaultPrefix, hostPrefix, isV6 } from "./result.js";

/** Namespaces that are worked on at the same time; each costs a process. */
const PARALLEL = 4;

export interface MtuFailure {
	endpoint: Endpoint;
	message: string;
}

/** Brings both ends of all these endpoints to `mtu`. An endpoint that is gone is no failure. */
export async function changeMTU(
	ip: IpRoute,
	endpoints: readonly Endpoint[],
	mtu: number,
): Promise<MtuFailure[]> {
	const devices = await deviceMTUs(ip);
	const present = endpoints.filter(({ hostInterface }) => devices.has(hostInterface));
	const narrow = present.filter(({ hostInterface }) => (devices.get(hostInterface) ?? mtu) < mtu);
	return [
		...(await both(ip, narrow, (e) => {
			const now = devices.get(e.hostInterface);
			return {
				host: [...hostRoutes(e, now), `link set dev ${e.hostInterface} mtu ${mtu}`],
				pod: [...podRoutes(e, now), `link set dev ${e.ifName} mtu ${mtu}`],
			};
		})),
		...(await both(ip, present, (e) => {
			const limit = (devices.get(e.hostInterface) ?? mtu) > mtu ? mtu : undefined;
			return { host: hostRoutes(e, limit), pod: podRoutes(e, limit) };
		})),
	];
}

async function deviceMTUs(ip: IpRoute): Promise<Map<string, number>> {
	const links = await ip.query<{ ifname: string; mtu: number }>("link", "show", "type", "veth");
	return new Map(links.map(({ ifname, mtu }) => [ifname, mtu]));
}

/** All host sides in one batch, then the Pods. */
async function both(
	ip: IpRoute,
	endpoints: readonly Endpoint[],
	lines: (e: Endpoint) => { host: string[]; pod: string[] },
): Promise<MtuFailure[]> {
	const failures: MtuFailure[] = [];
	const owner = new Map(endpoints.flatMap((e) => lines(e).host.map((line) => [line, e] as const)));
	for (const failure of await ip.batch([...owner.keys()])) {
		const endpoint = owner.get(failure.command);
		if (endpoint !== undefined && matters(failure)) failures.push({ endpoint, ...failure });
	}
	const waiting = [...endpoints];
	const work = async (): Promise<void> => {
		for (let endpoint = waiting.pop(); endpoint !== undefined; endpoint = waiting.pop()) {
			try {
				const pod = await ip.inNamespace(endpoint.netns).batch(lines(endpoint).pod);
				for (const { message } of pod.filter(matters)) failures.push({ endpoint, message });
			} catch (error) {
				failures.push({ endpoint, message: (error as Error).message });
			}
		}
	};
	await Promise.all(Array.from({ length: PARALLEL }, work));
	return failures;
}

/** A Pod that went away meanwhile has no device. */
function matters({ code }: BatchFailure): boolean {
	return code !== "ENODEV";
}

function hostRoutes(e: Endpoint, mtu: number | undefined): string[] {
	return e.addresses.map(
		(address) =>
			`route replace ${hostPrefix(address)} dev ${e.hostInterface} proto ${ROUTE_PROTOCOL}${limit(address, mtu)}`,
	);
}

function podRoutes(e: Endpoint, mtu: number | undefined): string[] {
	return e.addresses.map(
		(address, i) =>
			`route replace ${defaultPrefix(address)} via ${e.gateways[i]} dev ${e.ifName} onlink${limit(address, mtu)}`,
	);
}

/**
 * IPv6 raises a route's MTU with the device's unless it is locked. The lock of IPv4 is another: it
 * would clear DF.
 */
function limit(address: string, mtu: number | undefined): string {
	return mtu === undefined ? "" : ` mtu ${isV6(address) ? "lock " : ""}${mtu}`;
}
