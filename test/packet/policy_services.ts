/**
 * Services of a random cluster: Pods of any Node, Nodes and hosts outside are their backends, each by a port of its own;
 * clients ask by a cluster IP or a NodePort. What they are in a Node's tables, and what a client's packet may become.
 */
import fc from "fast-check";
import type { Decision } from "../../src/forwarder/forwarder.js";
import type { Flow } from "../../src/policy/interpreter.js";
import { familyOf } from "../../src/tables/address.js";
import { FrontendKind, Limit, RouteKind, ServiceFlag } from "../../src/tables/generated.js";
import { ADDRESSES, NUMBERS, type Story, story } from "../tools/policy_clusters.js";
import type { MemoryTables } from "./memory_tables.js";
import { setBackends } from "./services.js";

interface RandomService {
	family: 4 | 6;
	protocol: number;
	port: number;
	backends: readonly { address: string; port: number }[];
	/** Only backends of the client's own Node, or of the Node it came to. */
	isLocal: boolean;
}

interface Call {
	/** Of the addresses of its Service's family. */
	source: number;
	/** The number of its Service. */
	service: number;
	byNodePort: boolean;
}

/** A cluster with Services, and those who ask them. */
export interface ServedStory extends Story {
	services: readonly RandomService[];
	calls: readonly Call[];
}

/** What a client sends: straight to an address, or to a Service. */
export interface Attempt extends Flow {
	/** By a Service; `byNodePort`: at an address of the Node that it comes to. */
	service?: { byNodePort: boolean; backends: RandomService["backends"] };
	/** What is judged: itself, or a flow to each backend. */
	flows: readonly Flow[];
}

const IN_FAMILY = {
	4: ADDRESSES.filter((address) => familyOf(address) === 4),
	6: ADDRESSES.filter((address) => familyOf(address) === 6),
};
const PER_SERVICE = 8;

/** In the addresses of a family; half of them are of the Pods of the first Node, which come first. */
const place = fc.oneof(fc.nat(2), fc.nat(199));

const service: fc.Arbitrary<RandomService> = fc
	.record({
		...{ family: fc.constantFrom(4 as const, 6 as const), port: fc.constantFrom(...NUMBERS) },
		...{ protocol: fc.constantFrom(6, 6, 17, 132), isLocal: fc.nat(3).map((n) => n === 0) },
		backends: fc.uniqueArray(fc.record({ place, port: fc.constantFrom(...NUMBERS) }), {
			...{ minLength: 1, maxLength: 4, size: "max" as const },
			selector: ({ place }) => place,
		}),
	})
	.map(({ family, backends, ...rest }) => {
		const from = IN_FAMILY[family];
		const known = new Map(backends.map(({ place, port }) => [from[place % from.length]!, port]));
		return {
			...{ family, ...rest },
			backends: [...known].map(([address, port]) => ({ address, port })),
		};
	});

const call: fc.Arbitrary<Call> = fc.record({
	...{ source: place, service: fc.nat(99), byNodePort: fc.boolean() },
});

export const servedStory: fc.Arbitrary<ServedStory> = fc
	.record({
		told: story,
		services: fc.array(service, { minLength: 1, maxLength: 4, size: "max" }),
		calls: fc.array(call, { maxLength: 24, size: "max" }),
	})
	.map(({ told, services, calls }) => ({ ...told, services, calls }));

const clusterIP = (family: 4 | 6, number: number) =>
	family === 4 ? `10.96.0.${number + 10}` : `fd00:10:96::${number + 10}`;
const nodePort = (number: number) => 30_000 + number;

/** All that anybody sends on this Node. @param own its addresses; none: it is not known, and nobody is served */
export function attemptsOf(
	{ flows, services, calls }: ServedStory,
	own: readonly string[],
): Attempt[] {
	const straight = flows
		.filter(({ source, destination }) => familyOf(source) === familyOf(destination))
		.map((flow) => ({ ...flow, flows: [flow] }));
	const served = calls.flatMap(({ source: place, service, byNodePort }): Attempt[] => {
		const number = service % services.length;
		const { family, protocol, port, backends } = services[number]!;
		const source = IN_FAMILY[family][place % IN_FAMILY[family].length]!;
		const node = own.find((address) => familyOf(address) === family);
		if (own.length === 0 || (byNodePort && node === undefined)) return [];
		return [
			{
				...{ source, protocol, service: { byNodePort, backends } },
				destination: byNodePort ? node! : clusterIP(family, number),
				port: byNodePort ? nodePort(number) : port,
				flows: backends.map(({ address, port }) => ({
					...{ source, destination: address, protocol, port },
				})),
			},
		];
	});
	return [...straight, ...served];
}

/** The flow that is judged; undefined: its Service has no backend for it. */
export function judgedFlow({ service, flows }: Attempt, decision: Decision): Flow | undefined {
	if (service === undefined) return flows[0];
	const chosen = decision.service?.backend;
	return flows.find(
		({ destination, port }) => destination === chosen?.address && port === chosen.port,
	);
}

/** Of the tables: the Pods of this Node are what `endpoints` has. */
export function writeServices(tables: MemoryTables, services: readonly RandomService[]): void {
	const route = { kind: RouteKind.SERVICE, flags: 0, mtu: 0, peer: Limit.NO_PEER };
	tables.routes.set("10.96.0.0/16", route);
	tables.routes.set("fd00:10:96::/64", route);
	for (const [number, { family, protocol, port, backends, isLocal }] of services.entries()) {
		const index = number + 1;
		const all = backends.map((backend, i) => ({ ...backend, id: PER_SERVICE * index + i }));
		tables.services.set(index, {
			...{ clusterSet: 0n, localSet: 0n, nameHash: BigInt(index), affinity: 0 },
			flags: isLocal ? ServiceFlag.INTERNAL_LOCAL | ServiceFlag.EXTERNAL_LOCAL : 0,
		});
		for (const { id, address, port } of all)
			tables.backends.set(id, { address, port, service: index });
		const isHere = (address: string) =>
			tables.endpoints.has(address) || tables.route(address)?.kind === RouteKind.HOST;
		setBackends(tables, {
			index,
			backends: all.map(({ id, address }) => ({ id, address, isLocal: isHere(address) })),
		});
		const frontend = (address: string, port: number, kind: number) =>
			tables.frontends.set(`${address} ${protocol} ${port}`, { service: index, kind });
		const address = clusterIP(family, number);
		frontend(address, port, FrontendKind.CLUSTER_IP);
		tables.frontends.set(`${address} 0 0`, { service: 0, kind: FrontendKind.ADDRESS });
		frontend(family === 4 ? "0.0.0.0" : "::", nodePort(number), FrontendKind.NODE_PORT);
	}
}
