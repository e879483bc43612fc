/**
 * The request of `explain`: which packet. The ends may be names of Pods, the destination also of a Service.
 *
 *  1. reads the request
 *  2. names to addresses and ports
 *  3. one family for both ends, one protocol
 */
import type { ExplainProtocol, ExplainRequest } from "../api/messages/explain.js";
import { RequestError } from "../api/server.js";
import { canonicalAddress, familyOf } from "../tables/address.js";

/** A complete packet. */
export interface Question {
	source: string;
	destination: string;
	protocol: ExplainProtocol;
	sourcePort: number;
	destinationPort: number;
	/** What the names were resolved to: clauses. */
	named: string[];
}

/** Resolves names of the cluster's objects, "namespace/name". */
export interface Names {
	/** Empty: there is no such Pod, or it has no address. */
	pod(key: string): readonly string[];
	service(key: string): NamedService | undefined;
	/** Keys of the Services that may have this address or NodePort. */
	servicesAt(address: string, port: number): Iterable<string>;
}

export interface NamedService {
	/** Cluster IPs, the preferred family first; empty: the Service is headless, or an ExternalName. */
	clusterIPs: readonly string[];
	ports: readonly { name: string; protocol: number; port: number }[];
}

/** One end of the packet: any of these addresses. */
interface End {
	addresses: readonly string[];
	/** As given in the request. */
	text: string;
	service?: NamedService;
	/** The object that has the addresses. */
	what?: string;
}

const SOURCE_PORT = 40000;
const DESTINATION_PORT = { tcp: 80, udp: 53, icmp: 0 } as const;
const PROTOCOLS: readonly unknown[] = ["tcp", "udp", "icmp"] satisfies ExplainProtocol[];
const NUMBERS = { tcp: 6, udp: 17 } as const;

/** @throws RequestError */
export function readQuestion(request: unknown, names: Names): Question {
	const given = (request ?? {}) as Partial<Record<keyof ExplainRequest, unknown>>;
	const asked = given.protocol;
	if (asked !== undefined && !PROTOCOLS.includes(asked))
		throw wrong(`expected the protocol tcp, udp or icmp, got ${JSON.stringify(asked)}`);
	const from = readEnd("source", given.source, names);
	const to = readEnd("destination", given.destination, names);
	const [source, destination] = commonFamily(from, to);
	const { service } = to;
	const { protocol, port } =
		service === undefined
			? addressPort(asked as ExplainProtocol | undefined, given.destinationPort)
			: servicePort(to.text, service, asked as ExplainProtocol | undefined, given.destinationPort);
	const named = [from, to].flatMap(({ what }, i) => {
		const address = i === 0 ? source : destination;
		return what === undefined ? [] : [`${what} has ${address}`];
	});
	const sourcePort = readPort(given.sourcePort) ?? SOURCE_PORT;
	return { source, destination, protocol, sourcePort, destinationPort: port, named };
}

/* ------------------------------------------------------ 2 */

function readEnd(end: "source" | "destination", value: unknown, names: Names): End {
	const text = typeof value === "string" ? value : "";
	const address = canonicalAddress(text);
	if (address !== undefined) return { addresses: [address], text };
	const [, kind, key] = /^(?:(pod|service)\/)?([^/\s]+\/[^/\s]+)$/.exec(text) ?? [];
	const either = end === "source" ? "a Pod" : "a Pod or Service";
	if (key === undefined)
		throw wrong(
			`expected an IP address or NAMESPACE/NAME of ${either} as ${end}, got ${JSON.stringify(value)}`,
		);
	const service = end === "source" || kind === "pod" ? undefined : names.service(key);
	if (service !== undefined) return serviceEnd(key, service);
	const addresses = kind === "service" ? [] : names.pod(key);
	if (addresses.length > 0) return { addresses, text: key, what: `Pod ${key}` };
	const wanted = kind === undefined ? either : `a ${kind === "pod" ? "Pod" : "Service"}`;
	throw new RequestError(
		404,
		`Cannot explain: expected ${wanted} with an address as ${end}, got ${key}, which this Node does not know`,
	);
}

function serviceEnd(key: string, service: NamedService): End {
	if (service.clusterIPs.length === 0)
		throw wrong(
			`expected a Service with a cluster IP as destination, got ${key}, whose name leads to its Pods directly`,
		);
	return { addresses: service.clusterIPs, text: key, service, what: `Service ${key}` };
}

/** The port of an address or a Pod. */
function addressPort(asked: ExplainProtocol | undefined, given: unknown) {
	const protocol = asked ?? "tcp";
	if (typeof given === "string")
		throw wrong(`expected a number as port of an address, got ${JSON.stringify(given)}`);
	return { protocol, port: readPort(given) ?? DESTINATION_PORT[protocol] };
}

/** The port of a Service by its number or name; if none is given, the first one of the protocol. */
function servicePort(
	key: string,
	{ ports }: NamedService,
	asked: ExplainProtocol | undefined,
	given: unknown,
): { protocol: ExplainProtocol; port: number } {
	if (asked === "icmp") return { protocol: "icmp", port: 0 };
	const wanted = typeof given === "string" ? given : readPort(given);
	const isWanted = ({ name, port }: { name: string; port: number }) =>
		wanted === undefined || wanted === name || wanted === port;
	for (const protocol of asked === undefined ? (["tcp", "udp"] as const) : [asked]) {
		const found = ports.find((one) => one.protocol === NUMBERS[protocol] && isWanted(one));
		if (found !== undefined) return { protocol, port: found.port };
	}
	// A port number that the Service does not have is explained as well.
	const protocol = asked ?? "tcp";
	if (typeof wanted === "number") return { port: wanted, protocol };
	const all = ports.map(({ name, port }) => (name === "" ? String(port) : `${name} (${port})`));
	throw wrong(
		`expected a ${asked ?? "tcp or udp"} port of Service ${key} (${all.join(", ")}), got ${wanted ?? "none"}`,
	);
}

/* ------------------------------------------------------ 3 */

/** The first address of the destination with a family that the source has as well. */
function commonFamily(from: End, to: End): [source: string, destination: string] {
	for (const destination of to.addresses) {
		const family = familyOf(destination);
		const source = from.addresses.find((address) => familyOf(address) === family);
		if (source !== undefined) return [source, destination];
	}
	const list = ({ addresses }: End) => addresses.join(", ");
	throw wrong(`expected addresses of one family, got ${list(from)} and ${list(to)}`);
}

function readPort(value: unknown): number | undefined {
	if (value === undefined) return undefined;
	if (typeof value !== "number" || !Number.isInteger(value) || value < 1 || value > 65535)
		throw wrong(`expected a port from 1 to 65535, got ${JSON.stringify(value)}`);
	return value;
}

function wrong(message: string): RequestError {
	return new RequestError(400, `Cannot explain: ${message}`);
}
