/** Reads an EndpointSlice: some endpoints of a Service, all of one family, with the same ports. */
import { familyOf } from "../tables/address.js";
import {
	Fault,
	isName,
	listOf,
	type Mapping,
	mapping,
	nameOf,
	namespacedNameOf,
	readAddress,
	refuseLinkLocal,
	show,
	uidOf,
} from "./fields.js";
import { intern } from "./labels.js";
import { readSlicePorts, type SlicePort, shareSlicePorts } from "./service_ports.js";
import { NO_TEXTS, shareTexts } from "./shared.js";

export type { SlicePort } from "./service_ports.js";

export interface EndpointSliceObject {
	namespace: string;
	name: string;
	uid?: string;
	/** Name of its Service, in the same namespace; "": it says none. */
	service: string;
	family: 4 | 6;
	ports: readonly SlicePort[];
	endpoints: readonly EndpointRecord[];
	/** When what it says was caused (the change of a Pod or Service), ms since the epoch; absent: not said. */
	triggered?: number;
}

export interface EndpointRecord {
	/** Canonical. If the object has several, the first counts, as in kube-proxy. */
	address: string;
	isReady: boolean;
	isServing: boolean;
	isTerminating: boolean;
	/** Name of its Node; "": not said. */
	node: string;
	/** "": not said. */
	zone: string;
	/** Zones and Nodes whose clients it is meant for; empty: no hint. */
	hintZones: readonly string[];
	hintNodes: readonly string[];
	/** "namespace/name" of its Pod. */
	target?: string;
}

export const SERVICE_NAME_LABEL = "kubernetes.io/service-name";
const TRIGGER_ANNOTATION = "endpoints.kubernetes.io/last-change-trigger-time";
/** The API's limit for one EndpointSlice. */
const ENDPOINTS_MAX = 1000;
const NO_ENDPOINTS: readonly EndpointRecord[] = Object.freeze([]);
const NO_PORTS: readonly SlicePort[] = Object.freeze([]);

/** @throws Fault */
export function readEndpointSlice(object: Mapping): EndpointSliceObject {
	const metadata = mapping(object.metadata);
	const label = mapping(metadata.labels)[SERVICE_NAME_LABEL];
	const [namespace = ""] = namespacedNameOf(object).split("/");
	const uid = uidOf(object);
	const family = readAddressType(object.addressType);
	const triggered = Date.parse(text(mapping(metadata.annotations)[TRIGGER_ANNOTATION]));
	return {
		namespace: intern(namespace),
		name: nameOf(object),
		...(uid === undefined ? {} : { uid }),
		service: isName(label) ? label : "",
		// Host names are nothing that a packet could be sent to.
		family: family ?? 4,
		ports: family === undefined ? NO_PORTS : readSlicePorts(object.ports),
		endpoints: family === undefined ? NO_ENDPOINTS : readEndpoints(object, family),
		...(Number.isNaN(triggered) ? {} : { triggered }),
	};
}

/** One that was not read from an object, with what records have in common shared. */
export function shareEndpointSlice(slice: EndpointSliceObject): EndpointSliceObject {
	const { namespace, name, uid, service, family, ports, endpoints, triggered } = slice;
	const shared: EndpointSliceObject = {
		namespace: intern(namespace),
		name,
		service,
		family,
		ports: shareSlicePorts(ports),
		endpoints: endpoints.map(shareEndpoint),
	};
	if (uid !== undefined) shared.uid = uid;
	if (triggered !== undefined) shared.triggered = triggered;
	return shared;
}

function shareEndpoint(endpoint: EndpointRecord): EndpointRecord {
	const { address, isReady, isServing, isTerminating, target } = endpoint;
	const record: EndpointRecord = {
		address,
		isReady,
		isServing,
		isTerminating,
		node: intern(endpoint.node),
		zone: intern(endpoint.zone),
		hintZones: shareTexts(endpoint.hintZones),
		hintNodes: shareTexts(endpoint.hintNodes),
	};
	return target === undefined ? record : withTarget(record, target);
}

/** Undefined: host names. */
function readAddressType(value: unknown): 4 | 6 | undefined {
	if (value === "IPv4") return 4;
	if (value === "IPv6") return 6;
	if (value === "FQDN") return undefined;
	throw new Fault(`expected IPv4, IPv6 or FQDN as addressType, got ${show(value)}`);
}

function readEndpoints(object: Mapping, family: 4 | 6): readonly EndpointRecord[] {
	const items = listOf(object.endpoints, "endpoints").map(mapping);
	if (items.length > ENDPOINTS_MAX)
		throw new Fault(`expected at most ${ENDPOINTS_MAX} endpoints, got ${items.length}`);
	return items.length === 0 ? NO_ENDPOINTS : items.map((item, i) => readEndpoint(item, family, i));
}

function readEndpoint(item: Mapping, family: 4 | 6, index: number): EndpointRecord {
	const where = `endpoints[${index}]`;
	const addresses = listOf(item.addresses, `${where}.addresses`).map((value, i) => {
		const at = `${where}.addresses[${i}]`;
		const address = refuseLinkLocal(readAddress(value, at), at);
		if (familyOf(address) !== family)
			throw new Fault(`expected an IPv${family} address as ${at}, got ${address}`);
		return address;
	});
	const [address] = addresses;
	if (address === undefined) throw new Fault(`expected an address as ${where}.addresses, got none`);
	const conditions = mapping(item.conditions);
	const hints = mapping(item.hints);
	const isReady = flag(conditions.ready, true, `${where}.conditions.ready`);
	const target = readTarget(item.targetRef);
	const record: EndpointRecord = {
		address,
		isReady,
		isServing: flag(conditions.serving, isReady, `${where}.conditions.serving`),
		isTerminating: flag(conditions.terminating, false, `${where}.conditions.terminating`),
		node: text(item.nodeName),
		zone: text(item.zone),
		hintZones: names(hints.forZones, `${where}.hints.forZones`),
		hintNodes: names(hints.forNodes, `${where}.hints.forNodes`),
	};
	return target === undefined ? record : withTarget(record, target);
}

/** Written out: a spread or a property that is added later would cost every endpoint 40 bytes. */
function withTarget(record: EndpointRecord, target: string): EndpointRecord {
	const { address, isReady, isServing, isTerminating, node, zone, hintZones, hintNodes } = record;
	// biome-ignore format: one shape
	return { address, isReady, isServing, isTerminating, node, zone, hintZones, hintNodes, target };
}

function flag(value: unknown, otherwise: boolean, where: string): boolean {
	if (value === undefined || value === null) return otherwise;
	if (typeof value === "boolean") return value;
	throw new Fault(`expected true or false as ${where}, got ${show(value)}`);
}

function text(value: unknown): string {
	return typeof value === "string" ? intern(value) : "";
}

/** The names in `[{name}]`. */
function names(value: unknown, where: string): readonly string[] {
	if (value === undefined || value === null) return NO_TEXTS;
	return shareTexts(
		listOf(value, where).flatMap((item) => {
			const { name } = mapping(item);
			return typeof name === "string" && name !== "" ? [name] : [];
		}),
	);
}

function readTarget(value: unknown): string | undefined {
	const { kind, namespace, name } = mapping(value);
	if (kind !== "Pod" || !isName(name) || !isName(namespace)) return undefined;
	// In one piece: a template would keep its parts.
	return [namespace, name].join("/");
}
