/** Generators for property tests: random addresses, prefixes, Nodes, configurations. */
import fc from "fast-check";
import type { NodeObject } from "../../src/cluster/snapshot.js";
import type { CompileInput, PathVerdict } from "../../src/compile/compile.js";
import type { Config } from "../../src/config/config.js";
import { parseConfig } from "../../src/config/parse.js";
import type { Network, NetworkInterface, NetworkRoute } from "../../src/linux/network.js";
import { formatAddress } from "../../src/tables/address.js";
import { familyOf, makePrefix, type Prefix } from "../../src/tables/prefix.js";

/** The 16 bytes of an address, from a small range, so that prefixes nest and addresses collide. */
export const addressBytes: fc.Arbitrary<Uint8Array> = fc
	.tuple(
		fc.boolean(),
		fc.array(fc.constantFrom(0, 1, 2, 10, 128, 255), { minLength: 4, maxLength: 4 }),
	)
	.map(([v4, bytes]) => {
		const address = new Uint8Array(16);
		if (v4) address.set([0xff, 0xff], 10);
		else address.set([0xfd, bytes[3]!], 0);
		address.set(bytes, 12);
		// Never 0.x, 127.x or multicast, which no Node has.
		if (v4) address[12] = 10;
		return address;
	});

export const addressText: fc.Arbitrary<string> = addressBytes.map((bytes) => formatAddress(bytes));

export const prefix: fc.Arbitrary<Prefix> = fc
	.tuple(addressBytes, fc.double({ min: 0, max: 1, noNaN: true }))
	.map(([bytes, share]) =>
		makePrefix(bytes, Math.round(share * (familyOf(bytes) === 4 ? 32 : 128))),
	);

const podCidr: fc.Arbitrary<string> = fc
	.tuple(fc.boolean(), fc.nat(40), fc.constantFrom(0, 1, 2, 8))
	.map(([v4, subnet, shorter]) => {
		const bytes = new Uint8Array(16);
		if (v4) bytes.set([0xff, 0xff, 10, 244, subnet, 0], 10);
		else bytes.set([0xfd, 0, 0, 0x10, 2, 0x44, 0, subnet], 0);
		return makePrefix(bytes, (v4 ? 24 : 64) - shorter).text;
	});

/** Nodes as readNode returns them one by one: their claims may overlap. */
export function nodeObject(name: fc.Arbitrary<string>): fc.Arbitrary<NodeObject> {
	return fc
		.record({
			name,
			podCIDRs: fc.uniqueArray(podCidr, { minLength: 1, maxLength: 3 }),
			internalIPs: fc.uniqueArray(addressText, { maxLength: 3 }),
			annotated: fc.option(fc.uniqueArray(addressText, { minLength: 1, maxLength: 2 }), {
				freq: 3,
			}),
		})
		.map(({ annotated, ...node }) => ({
			...node,
			transportAddresses: annotated ?? node.internalIPs,
		}));
}

export const nodeName: fc.Arbitrary<string> = fc.nat(12).map((i) => `node${i}`);

const networkInterface: fc.Arbitrary<Omit<NetworkInterface, "index" | "name">> = fc.record({
	mac: fc.constant("02:00:00:00:00:01"),
	mtu: fc.constantFrom(1280, 1400, 1500, 9000),
	up: fc.boolean(),
	addresses: fc.array(
		fc.record({ address: addressText, prefixLength: fc.constantFrom(8, 16, 24, 32) }),
		{ maxLength: 3 },
	),
});

const names = ["lo", "eth0", "eth1", "fairway0", "br0"];

export const network: fc.Arbitrary<Network> = fc.record({
	interfaces: fc
		.array(networkInterface, { maxLength: 5 })
		.map((links) => links.map((link, i) => ({ ...link, name: names[i]!, index: i + 1 }))),
	routes: fc.array(
		fc
			.record({
				prefix: prefix.map(({ text }) => text),
				gateway: fc.option(addressText),
				device: fc.constantFrom(...names),
				metric: fc.nat(3),
			})
			.map(
				({ gateway, ...route }): NetworkRoute => (gateway === null ? route : { ...route, gateway }),
			),
		{ maxLength: 8 },
	),
});

function cidrs(maxLength: number): fc.Arbitrary<string[]> {
	return fc.array(
		prefix.map(({ text }) => text),
		{ maxLength },
	);
}

/** A possible result of probing a path. */
const verdict: fc.Arbitrary<PathVerdict> = fc.record({
	use: fc.constantFrom("direct", "tunnel", "down"),
	directMtu: fc.constantFrom(0, 1280, 1400, 1500),
	tunnelMtu: fc.constantFrom(0, 1280, 1400, 1450),
	words: fc.constant("So it was seen."),
	untunnelled: fc.constantFrom(undefined, "taken", "ending", "refused"),
});

/** The text of a valid configuration file. */
export const configText: fc.Arbitrary<string> = fc
	.record(
		{
			trafficEncapMode: fc.constantFrom("encap", "NoEncap", "HYBRID"),
			tunnelType: fc.constantFrom("geneve", "VXLAN"),
			hybrid: fc
				.record(
					{
						direct: fc.constantFrom("proven", "Subnet"),
						tryDirectCIDRs: cidrs(2),
						neverDirectCIDRs: cidrs(2),
					},
					{ requiredKeys: [] },
				)
				.map((hybrid) => (hybrid.direct === "Subnet" ? { ...hybrid, tryDirectCIDRs: [] } : hybrid)),
			probes: fc.record(
				{
					failoverTime: fc.constantFrom(300, 1000, 60_000),
					holdTime: fc.constantFrom(1, 5, 60),
					holdTimeMax: fc.constantFrom(60, 86_400),
				},
				{ requiredKeys: [] },
			),
			tunnelPort: fc.constantFrom(0, 7000, 65535),
			tunnelVNI: fc.nat(16777215),
			transportInterface: fc.constantFrom("", "eth0", "eth1", "nothere"),
			transportInterfaceCIDRs: cidrs(2),
			defaultMTU: fc.constantFrom(0, 1280, 1400, 9000),
			xdp: fc.constantFrom("auto", "native", "generic", "off"),
			snat: fc.record(
				{
					portRange: fc
						// Below are NodePorts.
						.tuple(fc.integer({ min: 32768, max: 65535 }), fc.integer({ min: 32768, max: 65535 }))
						.map(([a, b]) => `${Math.min(a, b)}-${Math.max(a, b)}`),
					excludeCIDRs: cidrs(4),
				},
				{ requiredKeys: [] },
			),
			fairwayProxy: fc.record(
				{
					enable: fc.boolean(),
					proxyAll: fc.boolean(),
					nodePortAddresses: cidrs(2),
					nodePortRange: fc.constantFrom("30000-32767", "20000-20099"),
					skipServices: fc.subarray(["default/a", "10.96.0.10", "fd00:96::a"]),
					proxyLoadBalancerIPs: fc.boolean(),
					serviceProxyName: fc.constantFrom("", "mesh"),
					externalIPs: fc.boolean(),
					externalClusterIP: fc.boolean(),
					healthServer: fc.constantFrom("", ":10256"),
				},
				{ requiredKeys: [] },
			),
			log: fc.record({ level: fc.constantFrom("info", "DEBUG") }),
		},
		{ requiredKeys: [] },
	)
	.chain((keys) =>
		fc.boolean().map((wanted) => {
			// noSNAT is refused with encap, which is also the default.
			const encap = (keys.trafficEncapMode ?? "encap") === "encap";
			return JSON.stringify(encap ? keys : { ...keys, noSNAT: wanted });
		}),
	);

/** Services by kube-proxy in every mode. */
export const ANY_PROXY = { ALLOW_NO_ENCAP_WITHOUT_FAIRWAY_PROXY: "true" };

export const config: fc.Arbitrary<Config> = configText.map((text) => {
	const result = parseConfig(text, "random.yaml", ANY_PROXY);
	if ("errors" in result) throw new Error(`${text}: ${JSON.stringify(result.errors)}`);
	return result.config;
});

/** Any input of compile, plausible or not; Nodes may overlap. */
export const compileInput: fc.Arbitrary<CompileInput> = fc
	.record({
		config,
		network,
		nodes: fc.uniqueArray(nodeObject(nodeName), { selector: ({ name }) => name, maxLength: 8 }),
		self: fc.nat(7),
		verdicts: fc.array(fc.tuple(fc.nat(15), verdict), { maxLength: 6 }),
		endpoints: fc.array(
			fc.record({
				addresses: fc.uniqueArray(addressText, { minLength: 1, maxLength: 2 }),
				mac: fc.constant("02:00:00:00:00:02"),
				hostInterface: fc.constant("fairway01234567"),
			}),
			{ maxLength: 4 },
		),
	})
	.map(({ nodes, self, verdicts, ...rest }) => {
		const nodeName = nodes[self % (nodes.length || 1)]?.name ?? "node0";
		const others = nodes.filter(({ name }) => name !== nodeName);
		return {
			...rest,
			verdicts: new Map(verdicts),
			nodeName,
			snapshot: { nodes: new Map(nodes.map((node) => [node.name, node])) },
			peerIds: new Map(others.map(({ name }, id) => [name, id])),
		};
	});
