/** Services, slices and Nodes for tests: random ones from a few names and addresses, so that they collide. */
import assert from "node:assert/strict";
import fc from "fast-check";
import type {
	EndpointRecord,
	EndpointSliceObject,
} from "../../src/cluster/endpoint_slice_object.js";
import type { ServiceCatalogReader } from "../../src/cluster/service_catalog.js";
import type { ServiceObject } from "../../src/cluster/service_object.js";
import type { NodeObject } from "../../src/cluster/snapshot.js";
import type { Config } from "../../src/config/config.js";
import { parseConfig } from "../../src/config/parse.js";
import type { Network } from "../../src/linux/network.js";
import { Backend, BackendState, FrontendKind, Service } from "../../src/tables/generated.js";
import type { HeldServiceMaps } from "../../src/tables/tables.js";

/** A catalog that is changed by hand. */
export class PaperCatalog implements ServiceCatalogReader {
	readonly services = new Map<string, ServiceObject>();
	readonly slices = new Map<string, EndpointSliceObject>();
	isSynced = true;

	keys() {
		return this.services.keys();
	}

	get(key: string) {
		const service = this.services.get(key);
		if (service === undefined) return undefined;
		const slices = [...this.slices.values()]
			.filter(({ namespace, service }) => `${namespace}/${service}` === key)
			.sort((a, b) => (a.name < b.name ? -1 : 1));
		return { service, slices };
	}

	/** Returns the key of the Service that has changed. */
	put(service: ServiceObject): string {
		const key = `${service.namespace}/${service.name}`;
		this.services.set(key, service);
		return key;
	}

	/** Returns the keys of the Services that have changed. */
	putSlice(slice: EndpointSliceObject): string[] {
		const before = this.slices.get(slice.name);
		this.slices.set(slice.name, slice);
		return [slice, ...(before === undefined ? [] : [before])].map(
			({ namespace, service }) => `${namespace}/${service}`,
		);
	}
}

export function serviceOf(parts: Partial<ServiceObject> = {}): ServiceObject {
	return {
		...{ namespace: "default", name: "web", type: "ClusterIP", clusterIPs: ["10.96.0.1"] },
		...{ externalIPs: [], loadBalancerIPs: [], sourceRanges: [] },
		ports: [{ name: "http", protocol: 6, port: 80, nodePort: 0, targetPort: 8080 }],
		...{ affinitySeconds: 0, internalLocal: false, externalLocal: false },
		...{ healthCheckNodePort: 0, proxyName: undefined, isHeadlessLabelled: false },
		...{ selector: [], publishNotReadyAddresses: false },
		...parts,
	};
}

export function endpointOf(address: string, parts: Partial<EndpointRecord> = {}): EndpointRecord {
	const isReady = parts.isReady ?? true;
	return {
		...{ address, isReady, isServing: isReady, isTerminating: false },
		...{ node: "", zone: "", hintZones: [], hintNodes: [] },
		...parts,
	};
}

export function sliceOf(
	endpoints: readonly EndpointRecord[],
	parts: Partial<EndpointSliceObject> = {},
): EndpointSliceObject {
	return {
		...{ namespace: "default", name: "web-1", service: "web", family: 4 },
		ports: [{ name: "http", protocol: 6, port: 8080 }],
		endpoints,
		...parts,
	};
}

export function configOf(text: string): Config {
	const parsed = parseConfig(text, "config.yaml");
	if ("errors" in parsed) throw new Error(JSON.stringify(parsed.errors));
	return parsed.config;
}

/** A configuration with Services, and with these changes of `fairwayProxy`. */
export function proxyConfig(proxy: Partial<Config["fairwayProxy"]> = {}): Config {
	const config = configOf("serviceCIDRs: [10.96.0.0/16, fd00:10:96::/112]");
	return { ...config, fairwayProxy: { ...config.fairwayProxy, enable: true, ...proxy } };
}

/** n0 is this Node. */
export function nodeOf(n: number, parts: Partial<NodeObject> = {}): NodeObject {
	return {
		name: `n${n}`,
		podCIDRs: [`10.100.${n}.0/24`, `fd00:10:100:${n}::/64`],
		internalIPs: [`172.16.0.${n + 1}`],
		transportAddresses: [`172.16.0.${n + 1}`],
		...parts,
	};
}

export const serviceNetwork: Network = {
	interfaces: [
		{
			...{ name: "eth0", index: 2, mac: "02:00:00:00:00:01", mtu: 1500, up: true },
			addresses: [{ address: "172.16.0.1", prefixLength: 24 }],
		},
	],
	routes: [{ prefix: "172.16.0.0/24", device: "eth0", metric: 0 }],
};

const NAMES = ["a", "b", "c", "d"];
const serviceAddress = fc.constantFrom(
	...["192.0.2.1", "192.0.2.2", "fd00:1::1", "10.96.0.1", "10.96.0.2", "172.16.0.1"],
	...["172.16.0.2", "10.100.1.9", "172.16.0.9", "0.0.0.0", "fd00:10:96::1"],
);
const ports = fc
	.uniqueArray(
		fc.record({
			name: fc.constantFrom("http", "dns", "x"),
			protocol: fc.constantFrom(6, 17),
			port: fc.constantFrom(80, 81),
			nodePort: fc.constantFrom(0, 0, 30080, 30081, 60000),
			targetPort: fc.constant(1),
		}),
		{ minLength: 1, maxLength: 2, selector: ({ name }) => name },
	)
	.filter(
		(list) => new Set(list.map(({ protocol, port }) => `${protocol} ${port}`)).size === list.length,
	)
	.filter((list) => {
		const used = list.filter(({ nodePort }) => nodePort !== 0);
		return (
			new Set(used.map(({ protocol, nodePort }) => `${protocol} ${nodePort}`)).size === used.length
		);
	});

export const anyService: fc.Arbitrary<ServiceObject> = fc
	.record({
		name: fc.constantFrom(...NAMES),
		type: fc.constantFrom("ClusterIP" as const, "LoadBalancer" as const, "ExternalName" as const),
		four: fc.option(fc.constantFrom("10.96.0.1", "10.96.0.2", "10.99.0.1"), { freq: 5 }),
		six: fc.option(fc.constantFrom("fd00:10:96::1", "fd00:10:96::2")),
		externalIPs: fc.uniqueArray(serviceAddress, { maxLength: 2 }),
		loadBalancerIPs: fc.uniqueArray(serviceAddress, { maxLength: 2 }),
		sourceRanges: fc.uniqueArray(fc.constantFrom("10.0.0.0/8", "192.0.2.0/24", "fd00::/8"), {
			maxLength: 2,
		}),
		ports,
		affinitySeconds: fc.constantFrom(0, 0, 10),
		internalLocal: fc.boolean(),
		externalLocal: fc.boolean(),
		proxyName: fc.constantFrom(undefined, undefined, undefined, "other"),
		isHeadlessLabelled: fc.constantFrom(false, false, false, false, true),
		created: fc.option(fc.nat(2), { nil: undefined }),
	})
	.map(({ four, six, created, ...rest }) =>
		serviceOf({
			...rest,
			clusterIPs: [four, six].flatMap((address) => (address === null ? [] : [address])),
			...(created === undefined ? {} : { created }),
		}),
	);

const record: fc.Arbitrary<(family: 4 | 6) => EndpointRecord> = fc
	.record({
		four: fc.constantFrom(
			...["10.100.0.2", "10.100.0.3", "10.100.1.2", "10.100.1.3", "10.100.2.2", "172.16.0.1"],
			...["172.16.0.2", "192.0.2.1", "10.96.0.1", "0.0.0.0", "224.0.0.1", "198.51.100.1"],
		),
		six: fc.constantFrom("fd00:10:100:1::2", "fd00:10:100::2", "fd00:1::1", "::", "ff02::1"),
		isReady: fc.boolean(),
		isServing: fc.boolean(),
		isTerminating: fc.boolean(),
		node: fc.constantFrom("", "n0", "n1"),
		hintZones: fc.constantFrom([], ["z0"], ["z1"], ["z0", "z1"]),
		hintNodes: fc.constantFrom([], [], ["n0"], ["n1"]),
		target: fc.constantFrom(undefined, "default/pod"),
	})
	.map(
		({ four, six, target, ...rest }) =>
			(family) =>
				endpointOf(family === 4 ? four : six, {
					...rest,
					...(target === undefined ? {} : { target }),
				}),
	);

export const anySlice: fc.Arbitrary<EndpointSliceObject> = fc
	.record({
		name: fc.constantFrom("s0", "s1", "s2", "s3", "s4", "s5"),
		service: fc.constantFrom(...NAMES),
		family: fc.constantFrom(4 as const, 4 as const, 6 as const),
		ports: fc.uniqueArray(
			fc.record({
				name: fc.constantFrom("http", "dns", "x"),
				protocol: fc.constantFrom(6, 17),
				port: fc.constantFrom(8080, 8081),
			}),
			{ maxLength: 3, selector: ({ name }) => name },
		),
		endpoints: fc.array(record, { maxLength: 8 }),
	})
	.map(({ endpoints, ...rest }) =>
		sliceOf(
			endpoints.map((make) => make(rest.family)),
			rest,
		),
	);

export const anyProxy: fc.Arbitrary<Partial<Config["fairwayProxy"]>> = fc.record(
	{
		proxyAll: fc.boolean(),
		nodePortAddresses: fc.constantFrom([], ["172.16.0.0/24"], ["10.0.0.0/8"]),
		skipServices: fc.constantFrom([], ["default/a"], ["10.96.0.1"]),
		proxyLoadBalancerIPs: fc.boolean(),
		serviceProxyName: fc.constantFrom("", "other"),
		externalIPs: fc.boolean(),
		externalClusterIP: fc.boolean(),
	},
	{ requiredKeys: [] },
);

/** What a Service's port is, whatever its indexes are. */
export interface PortMeaning {
	affinity: number;
	flags: number;
	/** "ADDRESS PORT", sorted. */
	cluster: string[];
	local: string[];
	ranges: string[];
	/** "ADDRESS PORT STATE" of those that serve, sorted. */
	serving: string[];
}

/** By key of the frontend: its kind and the hash of its Service's port. By such a hash: what it is. */
export interface ServicesMeaning {
	frontends: Map<string, { kind: number; hash: bigint }>;
	ports: Map<bigint, PortMeaning>;
}

/** Throws where the tables contradict themselves. */
export function meaningOfServices(maps: HeldServiceMaps): ServicesMeaning {
	const stateOf = (id: number) =>
		Number(((maps.backendStates.get(id >> 3) ?? 0n) >> BigInt((id & 7) * 8)) & 0xffn);
	const meaning: ServicesMeaning = { frontends: new Map(), ports: new Map() };
	const places = new Set<number>();
	for (const [index, service] of maps.services) {
		assert.ok(index > 0);
		assert.deepEqual(Service.decode(Service.encode(service)), service);
		assert.ok(!meaning.ports.has(service.nameHash), "one index each");
		const members = (word: bigint, bit: number) => {
			const ids: number[] = [];
			for (let at = 0; at < Number(word >> 32n); at++) {
				const place = Number(word & 0xffffffffn) + at;
				assert.ok(!places.has(place), "a place of its own");
				places.add(place);
				const id = maps.serviceSlots.get(place)!;
				assert.equal(maps.backends.get(id)?.service, index, "its own backend");
				assert.equal(stateOf(id) & (BackendState.SERVES | bit), BackendState.SERVES | bit);
				ids.push(id);
			}
			assert.equal(new Set(ids).size, ids.length, "each once");
			return ids.map((id) => textOf(maps.backends.get(id)!)).sort();
		};
		meaning.ports.set(service.nameHash, {
			...{ affinity: service.affinity, flags: service.flags },
			cluster: members(service.clusterSet, BackendState.IN_CLUSTER_SET),
			local: members(service.localSet, BackendState.IN_LOCAL_SET),
			...{ ranges: [], serving: [] },
		});
	}
	assert.deepEqual([...maps.serviceSlots.keys()].sort(), [...places].sort(), "no other places");
	for (const key of maps.serviceRanges.keys()) {
		const [index, range = ""] = key.split(" ");
		const service = maps.services.get(Number(index));
		assert.ok(service !== undefined, "a range of some Service");
		meaning.ports.get(service.nameHash)!.ranges.push(range);
	}
	for (const [id, backend] of maps.backends) {
		assert.deepEqual(Backend.decode(Backend.encode(backend)), backend);
		const state = stateOf(id);
		assert.notEqual(state, 0, "used, or it rests");
		if ((state & BackendState.RESTS) !== 0) assert.equal(state, BackendState.RESTS);
		else
			meaning.ports
				.get(maps.services.get(backend.service)!.nameHash)!
				.serving.push(`${textOf(backend)} ${state}`);
	}
	for (const [word, states] of maps.backendStates)
		for (let at = 0; at < 8; at++)
			if (((states >> BigInt(at * 8)) & 0xffn) !== 0n)
				assert.ok(maps.backends.has(word * 8 + at), "a state of a backend");
	for (const port of meaning.ports.values()) {
		port.ranges.sort();
		port.serving.sort();
	}
	for (const [key, { service, kind }] of maps.frontends) {
		const hash = maps.services.get(service)?.nameHash;
		if (kind === FrontendKind.ADDRESS) assert.equal(service, 0);
		else assert.ok(hash !== undefined, `${key} has a Service`);
		meaning.frontends.set(key, { kind, hash: hash ?? 0n });
	}
	return meaning;
}

function textOf({ address, port }: { address: string; port: number }): string {
	return `${address} ${port}`;
}
