/** Ports of Services and EndpointSlices, with the API's defaults and rules. */
import { Fault, listOf, type Mapping, mapping, show } from "./fields.js";
import { intern } from "./labels.js";
import { Shared } from "./shared.js";

export interface ServicePort {
	/** "": the only one. */
	name: string;
	/** IP protocol number: 6, 17 or 132. */
	protocol: number;
	port: number;
	/** 0: none. */
	nodePort: number;
	/** Port of the Pods; a name is that of a container's port. */
	targetPort: number | string;
}

export interface SlicePort {
	name: string;
	/** IP protocol number: 6, 17 or 132. */
	protocol: number;
	port: number;
}

const PROTOCOLS: ReadonlyMap<unknown, number> = new Map([
	[undefined, 6],
	[null, 6],
	["TCP", 6],
	["UDP", 17],
	["SCTP", 132],
]);
const NAMES: ReadonlyMap<number, string> = new Map([
	[6, "TCP"],
	[17, "UDP"],
	[132, "SCTP"],
]);
/** RFC 1123 label, as required by the Kubernetes API. */
const PORT_NAME = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;
/** The API's limit for the ports of one EndpointSlice. */
const SLICE_PORTS_MAX = 100;

const servicePorts = new Shared<readonly ServicePort[]>();
const slicePorts = new Shared<readonly SlicePort[]>();

/** `spec.ports` of a Service. @param nodePorts the type has them @throws Fault */
export function readServicePorts(value: unknown, nodePorts: boolean): readonly ServicePort[] {
	const items = listOf(value, "spec.ports").map(mapping);
	const ports = items.map((item, i): ServicePort => {
		const where = `spec.ports[${i}]`;
		const port = readPort(item.port, `${where}.port`);
		return {
			name: readName(item.name, `${where}.name`),
			protocol: readProtocol(item.protocol, `${where}.protocol`),
			port,
			nodePort: nodePorts ? readOptionalPort(item.nodePort, `${where}.nodePort`) : 0,
			targetPort: readTargetPort(item.targetPort, port, `${where}.targetPort`),
		};
	});
	if (ports.length > 1 && ports.some(({ name }) => name === ""))
		throw new Fault("expected a name for each of several spec.ports, got one without");
	expectDistinct(ports, "name among spec.ports", ({ name }) => name);
	expectDistinct(ports, "port and protocol among spec.ports", (p) => `${p.port} ${p.protocol}`);
	expectDistinct(
		ports.filter(({ nodePort }) => nodePort !== 0),
		"nodePort and protocol among spec.ports",
		(p) => `${p.nodePort} ${p.protocol}`,
	);
	return servicePorts.one(ports);
}

/** `ports` of an EndpointSlice. One without a number stands for all of them: there is none. @throws Fault */
export function readSlicePorts(value: unknown): readonly SlicePort[] {
	const items = listOf(value, "ports").map(mapping);
	if (items.length > SLICE_PORTS_MAX)
		throw new Fault(`expected at most ${SLICE_PORTS_MAX} ports, got ${items.length}`);
	const ports = items.map((item, i): SlicePort => {
		return {
			name: readName(item.name, `ports[${i}].name`),
			protocol: readProtocol(item.protocol, `ports[${i}].protocol`),
			port: readOptionalPort(item.port, `ports[${i}].port`),
		};
	});
	expectDistinct(ports, "name among ports", ({ name }) => name);
	return shareSlicePorts(ports.filter(({ port }) => port !== 0));
}

export function shareServicePorts(ports: readonly ServicePort[]): readonly ServicePort[] {
	return servicePorts.one(ports);
}

export function shareSlicePorts(ports: readonly SlicePort[]): readonly SlicePort[] {
	return slicePorts.one(ports);
}

/** As objects have it; of another protocol, its number. */
export function protocolName(protocol: number): string {
	return NAMES.get(protocol) ?? String(protocol);
}

/** Absent and null mean TCP. @throws Fault */
export function readProtocol(value: unknown, where: string): number {
	const protocol = PROTOCOLS.get(value);
	if (protocol !== undefined) return protocol;
	throw new Fault(`expected TCP, UDP or SCTP as ${where}, got ${show(value)}`);
}

/** 1 to 65535. @throws Fault */
export function readPort(value: unknown, where: string): number {
	if (typeof value === "number" && Number.isInteger(value) && value > 0 && value < 65536)
		return value;
	throw new Fault(`expected a port from 1 to 65535 as ${where}, got ${show(value)}`);
}

/** Absent, null and 0 mean none, which is 0. @throws Fault */
export function readOptionalPort(value: unknown, where: string): number {
	return value === undefined || value === null || value === 0 ? 0 : readPort(value, where);
}

function readName(value: unknown, where: string): string {
	if (value === undefined || value === null || value === "") return "";
	if (typeof value === "string" && PORT_NAME.test(value)) return intern(value);
	throw new Fault(`expected a DNS label as ${where}, got ${show(value)}`);
}

/** The API takes the port itself where nothing is said. */
function readTargetPort(value: unknown, port: number, where: string): number | string {
	if (value === undefined || value === null || value === 0 || value === "") return port;
	if (typeof value !== "string") return readPort(value, where);
	// A text of digits is no name.
	return /^\d+$/.test(value) ? readPort(Number(value), where) : intern(value);
}

function expectDistinct<T>(items: readonly T[], what: string, keyOf: (item: T) => string): void {
	const seen = new Set<string>();
	for (const item of items) {
		const key = keyOf(item);
		if (seen.has(key)) throw new Fault(`expected each ${what} once, got ${show(key)} twice`);
		seen.add(key);
	}
}

/** A mapping of an object's field, which must be one if it is there. @throws Fault */
export function section(value: unknown, where: string): Mapping {
	if (value === undefined || value === null) return {};
	if (typeof value === "object" && !Array.isArray(value)) return value as Mapping;
	throw new Fault(`expected a mapping as ${where}, got ${show(value)}`);
}
