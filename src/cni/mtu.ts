/**
 * Changes the MTU of running Pods without loss: no sender ever exceeds a receiver.
 *
 *  1 Routes limit every sender to the smaller of the two sizes, and growing devices grow.
 *  2 When that is done for all Pods, shrinking devices shrink, and the routes' limits are removed.
 *
 * Larger packets of connections that were opened before still arrive: the data path delivers to the Pod's
 * side without checking its MTU (bpf_redirect_peer).
 */
import type { BatchFailure, IpRoute } from "../linux/iproute.js";
import { ROUTE_PROTOCOL } from "../linux/names.js";
import type { Endpoint } from "./endpoint.js";
import { defaultPrefix, hostPrefix, isV6 } from "./result.js";

/** Namespaces changed in parallel; each costs a process. */
const PARALLEL = 4;

export interface MtuFailure {
	endpoint: Endpoint;
	message: string;
}

/** Sets both ends of these endpoints to `mtu`. An endpoint that no longer exists is not a failure. */
export async function changeMTU(
	ip: IpRoute,
	endpoints: readonly Endpoint[],
	mtu: number,
): Promise<MtuFailure[]> {
	const devices = await deviceMTUs(ip);
	const present = endpoints.filter(({ hostInterface }) => devices.has(hostInterface));
	const now = ({ hostInterface }: Endpoint) => devices.get(hostInterface) ?? mtu;
	const hold = (e: Endpoint): Lines => {
		const smaller = Math.min(now(e), mtu);
		const grow = now(e) < mtu;
		return {
			host: [...hostRoutes(e, smaller), ...(grow ? [deviceLine(e.hostInterface, mtu)] : [])],
			pod: [...podRoutes(e, smaller), ...(grow ? [deviceLine(e.ifName, mtu)] : [])],
		};
	};
	const release = (e: Endpoint): Lines => ({
		host: [deviceLine(e.hostInterface, mtu), ...hostRoutes(e)],
		pod: [deviceLine(e.ifName, mtu), ...podRoutes(e)],
	});
	return [
		// Senders before forwarders: a Pod with the old MTU would hit the Node's new limit.
		...(await podSides(ip, present, hold)),
		...(await hostSides(ip, present, hold)),
		...(await hostSides(ip, present, release)),
		...(await podSides(ip, present, release)),
	];
}

function deviceLine(name: string, mtu: number): string {
	return `link set dev ${name} mtu ${mtu}`;
}

async function deviceMTUs(ip: IpRoute): Promise<Map<string, number>> {
	const links = await ip.query<{ ifname: string; mtu: number }>("link", "show", "type", "veth");
	return new Map(links.map(({ ifname, mtu }) => [ifname, mtu]));
}

interface Lines {
	host: string[];
	pod: string[];
}

/** All host sides in one batch. */
async function hostSides(
	ip: IpRoute,
	endpoints: readonly Endpoint[],
	lines: (e: Endpoint) => Lines,
): Promise<MtuFailure[]> {
	const owner = new Map(endpoints.flatMap((e) => lines(e).host.map((line) => [line, e] as const)));
	return (await ip.batch([...owner.keys()])).flatMap((failure) => {
		const endpoint = owner.get(failure.command);
		return endpoint !== undefined && matters(failure) ? [{ endpoint, ...failure }] : [];
	});
}

async function podSides(
	ip: IpRoute,
	endpoints: readonly Endpoint[],
	lines: (e: Endpoint) => Lines,
): Promise<MtuFailure[]> {
	const failures: MtuFailure[] = [];
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

/** A Pod that has ended in the meantime has no device. */
function matters({ code }: BatchFailure): boolean {
	return code !== "ENODEV";
}

function hostRoutes(e: Endpoint, mtu?: number): string[] {
	return e.addresses.map(
		(address) =>
			`route replace ${hostPrefix(address)} dev ${e.hostInterface} proto ${ROUTE_PROTOCOL}${limit(address, mtu)}`,
	);
}

function podRoutes(e: Endpoint, mtu?: number): string[] {
	return e.addresses.map(
		(address, i) =>
			`route replace ${defaultPrefix(address)} via ${e.gateways[i]} dev ${e.ifName} onlink${limit(address, mtu)}`,
	);
}

/**
 * IPv6 raises a route's MTU with the device's unless it is locked. In IPv4 the lock means something else:
 * it would clear DF.
 */
function limit(address: string, mtu: number | undefined): string {
	return mtu === undefined ? "" : ` mtu ${isV6(address) ? "lock " : ""}${mtu}`;
}
