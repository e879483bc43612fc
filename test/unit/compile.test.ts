import t from "tap";
import type { NodeObject } from "../../src/cluster/snapshot.js";
import {
	type CompileInput,
	type CompileResult,
	compile,
	type PathVerdict,
} from "../../src/compile/compile.js";
import { gatewayMac } from "../../src/compile/gateway_mac.js";
import { formatConfigError } from "../../src/config/config.js";
import { parseConfig } from "../../src/config/parse.js";
import type { Network } from "../../src/linux/network.js";
import {
	Limit,
	NodeFlag,
	PathName,
	type Peer,
	RouteFlag,
	RouteKind,
	RouteKindName,
} from "../../src/tables/generated.js";

/*
 *  n1  eth0 192.168.1.1/24  fd01::1/64 ─┐
 *  n2       192.168.1.2     fd01::2 ────┼─ .254 router ─┬─ n3  192.168.2.3  fd02::3
 *                                                       └─ n4  192.168.2.4 (IPv4 only)
 *                                                       └─ n5               fd02::5 (IPv6 only)
 */
function node(name: string, number: number, ...internalIPs: string[]): NodeObject {
	return {
		name,
		podCIDRs: [`10.244.${number}.0/24`, `fd00:10:244:${number}::/64`],
		internalIPs,
		transportAddresses: internalIPs,
	};
}

const n1 = node("n1", 1, "192.168.1.1", "fd01::1");
const n2 = node("n2", 2, "192.168.1.2", "fd01::2");
const n3 = node("n3", 3, "192.168.2.3", "fd02::3");
const n4 = node("n4", 4, "192.168.2.4");
const n5 = node("n5", 5, "fd02::5");

const NETWORK: Network = {
	interfaces: [
		{
			name: "lo",
			index: 1,
			mac: "",
			mtu: 65536,
			up: true,
			addresses: [
				{ address: "127.0.0.1", prefixLength: 8 },
				{ address: "::1", prefixLength: 128 },
			],
		},
		{
			name: "eth0",
			index: 2,
			mac: "02:00:00:00:00:01",
			mtu: 1500,
			up: true,
			addresses: [
				{ address: "192.168.1.1", prefixLength: 24 },
				{ address: "fd01::1", prefixLength: 64 },
				{ address: "fe80::1", prefixLength: 64 },
			],
		},
		{
			name: "eth1",
			index: 3,
			mac: "02:00:00:00:00:02",
			mtu: 9000,
			up: true,
			addresses: [{ address: "10.9.0.1", prefixLength: 16 }],
		},
		{
			name: "fairway0",
			index: 4,
			mac: "06:00:00:00:00:01",
			mtu: 1500,
			up: true,
			kind: "dummy",
			addresses: [{ address: "10.244.1.1", prefixLength: 32 }],
		},
		{
			name: "docker0",
			index: 5,
			mac: "02:00:00:00:00:03",
			mtu: 1500,
			up: true,
			kind: "bridge",
			addresses: [{ address: "172.17.0.1", prefixLength: 16 }],
		},
	],
	routes: [
		{ prefix: "0.0.0.0/0", gateway: "192.168.1.254", device: "eth0", metric: 0 },
		{ prefix: "192.168.1.0/24", device: "eth0", metric: 0 },
		{ prefix: "10.9.0.0/16", device: "eth1", metric: 0 },
		{ prefix: "172.17.0.0/16", device: "docker0", metric: 0 },
		{ prefix: "::/0", gateway: "fe80::ff", device: "eth0", metric: 1024 },
		{ prefix: "fd01::/64", device: "eth0", metric: 256 },
		// Routes of the reconciler must not be mistaken for the underlay.
		{ prefix: "192.168.1.2/32", device: "fairway0", metric: 0 },
	],
};

interface Case {
	config?: string;
	self?: NodeObject;
	peers?: NodeObject[];
	network?: Network;
	endpoints?: CompileInput["endpoints"];
	/** By "NODE/FAMILY". */
	verdicts?: Record<string, PathVerdict>;
}

function verdict(use: PathVerdict["use"], directMtu = 0, tunnelMtu = 0): PathVerdict {
	return { use, directMtu, tunnelMtu, words: "So it was seen.", untunnelled: undefined };
}

/** Verdicts that prove the direct paths to these peers at full size. */
function proven(...peers: string[]): Record<string, PathVerdict> {
	return Object.fromEntries(peers.map((peer) => [peer, verdict("direct", 1500)]));
}

function run({
	config = "",
	self = n1,
	peers = [n2, n3, n4, n5],
	network = NETWORK,
	endpoints = [],
	verdicts = {},
}: Case): CompileResult {
	const result = parseConfig(config, "test.yaml");
	if ("errors" in result) throw new Error(result.errors.map(formatConfigError).join("\n"));
	return compile({
		config: result.config,
		snapshot: { nodes: new Map([self, ...peers].map((node) => [node.name, node])) },
		network,
		nodeName: self.name,
		peerIds: new Map(peers.map(({ name }, i) => [name, i])),
		endpoints,
		verdicts: new Map(
			peers.flatMap(({ name }, i) =>
				([4, 6] as const).flatMap((family) => {
					const known = verdicts[`${name}/${family}`];
					return known === undefined ? [] : [[i * 2 + (family === 6 ? 1 : 0), known] as const];
				}),
			),
		),
	});
}

function ready(given: Case) {
	const result = run(given);
	if (!result.ready) throw new Error(result.reason);
	return result;
}

/** Rows for each peer and family: "n2/4 direct 192.168.1.2 1500". */
function paths(given: Case): string[] {
	return ready(given).peers.map(
		({ node, family, path, transportAddress, mtu }) =>
			`${node}/${family} ${path} ${transportAddress || "-"} ${mtu}`,
	);
}

t.test("the mode decides the path", async (t) => {
	const rows: [config: string, paths: string[]][] = [
		[
			"trafficEncapMode: encap",
			[
				"n2/4 geneve 192.168.1.2 1450",
				"n2/6 geneve fd01::2 1430",
				"n3/4 geneve 192.168.2.3 1450",
				"n3/6 geneve fd02::3 1430",
				"n4/4 geneve 192.168.2.4 1450",
				"n4/6 geneve 192.168.2.4 1450",
				"n5/4 geneve fd02::5 1430",
				"n5/6 geneve fd02::5 1430",
			],
		],
		[
			"trafficEncapMode: hybrid",
			[
				"n2/4 direct 192.168.1.2 1500",
				"n2/6 direct fd01::2 1500",
				"n3/4 geneve 192.168.2.3 1450",
				"n3/6 geneve fd02::3 1430",
				"n4/4 geneve 192.168.2.4 1450",
				"n4/6 geneve 192.168.2.4 1450",
				"n5/4 geneve fd02::5 1430",
				"n5/6 geneve fd02::5 1430",
			],
		],
		[
			"trafficEncapMode: noEncap",
			[
				"n2/4 direct 192.168.1.2 1500",
				"n2/6 direct fd01::2 1500",
				"n3/4 routed 192.168.2.3 1500",
				"n3/6 routed fd02::3 1500",
				"n4/4 routed 192.168.2.4 1500",
				"n4/6 down - 0",
				"n5/4 down - 0",
				"n5/6 routed fd02::5 1500",
			],
		],
		[
			"{trafficEncapMode: hybrid, tunnelType: vxlan, defaultMTU: 1440}",
			[
				"n2/4 direct 192.168.1.2 1440",
				"n2/6 direct fd01::2 1440",
				"n3/4 vxlan 192.168.2.3 1440",
				"n3/6 vxlan fd02::3 1430",
				"n4/4 vxlan 192.168.2.4 1440",
				"n4/6 vxlan 192.168.2.4 1440",
				"n5/4 vxlan fd02::5 1430",
				"n5/6 vxlan fd02::5 1430",
			],
		],
	];
	const verdicts = proven("n2/4", "n2/6", "n3/4");
	for (const [config, expected] of rows) t.same(paths({ config, verdicts }), expected, config);
});

function withRoute(...routes: Network["routes"]): Network {
	return { ...NETWORK, routes: [...routes, ...NETWORK.routes] };
}

t.test("the reason is a sentence", async (t) => {
	const annotated: NodeObject = { ...n2, transportAddresses: ["192.168.2.2", "192.168.1.2"] };
	const rows: [what: string, given: Case, peer: string, reason: string][] = [
		["encap", {}, "n2/4", "The mode is encap: always in a tunnel."],
		[
			"encap, the other family",
			{},
			"n4/6",
			"The mode is encap: always in a tunnel; n4 has no IPv6 transport address, so the tunnel goes over IPv4.",
		],
		[
			"same subnet",
			{ config: "trafficEncapMode: hybrid" },
			"n2/4",
			"192.168.1.2 is in this Node's subnet 192.168.1.0/24 on eth0, and the direct path is not proven yet.",
		],
		[
			"same subnet, unasked",
			{ config: "{trafficEncapMode: hybrid, hybrid: {direct: subnet}}" },
			"n2/4",
			"192.168.1.2 is in this Node's subnet 192.168.1.0/24 on eth0.",
		],
		[
			"same subnet, asked",
			{
				config: "trafficEncapMode: hybrid",
				verdicts: { "n2/4": { ...verdict("tunnel"), words: "geneve: because." } },
			},
			"n2/4",
			"geneve: because.",
		],
		[
			"same subnet, IPv6",
			{ config: "trafficEncapMode: hybrid" },
			"n2/6",
			"fd01::2 is in this Node's subnet fd01::/64 on eth0, and the direct path is not proven yet.",
		],
		[
			"forbidden",
			{ config: "{trafficEncapMode: hybrid, hybrid: {neverDirectCIDRs: [192.168.0.0/16]}}" },
			"n2/4",
			"192.168.1.2 is in 192.168.0.0/16, which hybrid.neverDirectCIDRs has.",
		],
		[
			"forbidden before it is allowed",
			{
				config:
					"{trafficEncapMode: hybrid, hybrid: {tryDirectCIDRs: [192.168.2.0/24], neverDirectCIDRs: [192.168.2.3/32]}}",
			},
			"n3/4",
			"192.168.2.3 is in 192.168.2.3/32, which hybrid.neverDirectCIDRs has.",
		],
		[
			"another subnet, to be tried",
			{ config: "{trafficEncapMode: hybrid, hybrid: {tryDirectCIDRs: [192.168.2.0/24]}}" },
			"n3/4",
			"192.168.2.3 is in another subnet, behind the gateway 192.168.1.254, and in 192.168.2.0/24, which hybrid.tryDirectCIDRs has, and the direct path is not proven yet.",
		],
		[
			"encap, and what was seen does not matter",
			{ verdicts: { "n2/4": verdict("direct", 1500, 1450) } },
			"n2/4",
			"The mode is encap: always in a tunnel.",
		],
		[
			"another subnet",
			{ config: "trafficEncapMode: hybrid" },
			"n3/4",
			"192.168.2.3 is in another subnet, behind the gateway 192.168.1.254.",
		],
		[
			"a family that the peer has not",
			{ config: "trafficEncapMode: hybrid" },
			"n4/6",
			"n4 has no IPv6 transport address, so the tunnel goes over IPv4.",
		],
		[
			"noEncap, same subnet",
			{ config: "trafficEncapMode: noEncap" },
			"n2/4",
			"The mode is noEncap and 192.168.1.2 is in this Node's subnet 192.168.1.0/24 on eth0.",
		],
		[
			"noEncap, another subnet",
			{ config: "trafficEncapMode: noEncap" },
			"n3/4",
			"The mode is noEncap and 192.168.2.3 is in another subnet, behind the gateway 192.168.1.254: the network routes Pod packets.",
		],
		[
			"noEncap, a family that the peer has not",
			{ config: "trafficEncapMode: noEncap" },
			"n4/6",
			"The mode is noEncap and n4 has no IPv6 transport address.",
		],
		[
			"a route with a gateway inside the subnet",
			{
				config: "trafficEncapMode: hybrid",
				network: withRoute({
					prefix: "192.168.1.2/32",
					gateway: "192.168.1.253",
					device: "eth0",
					metric: 0,
				}),
			},
			"n2/4",
			"192.168.1.2 is in this Node's subnet 192.168.1.0/24 on eth0, but the kernel's route to it has the gateway 192.168.1.253.",
		],
		[
			"a route by another device",
			{
				config: "trafficEncapMode: hybrid",
				network: withRoute({ prefix: "192.168.1.0/25", device: "eth1", metric: 0 }),
			},
			"n2/4",
			"192.168.1.2 is in this Node's subnet 192.168.1.0/24 on eth0, but the kernel's route to it leaves by eth1.",
		],
		[
			"on the link, but not in the subnet",
			{
				config: "trafficEncapMode: hybrid",
				network: withRoute({ prefix: "192.168.2.0/24", device: "eth0", metric: 0 }),
			},
			"n3/4",
			"192.168.2.3 is in another subnet, on the link eth0.",
		],
		[
			"no route at all",
			{ config: "trafficEncapMode: hybrid", network: { ...NETWORK, routes: [] } },
			"n3/4",
			"192.168.2.3 is in another subnet, and this Node has no route to it now.",
		],
		[
			"no route, but the same subnet",
			{ config: "trafficEncapMode: hybrid", network: { ...NETWORK, routes: [] } },
			"n2/4",
			"192.168.1.2 is in this Node's subnet 192.168.1.0/24 on eth0, and the direct path is not proven yet.",
		],
		[
			"of several addresses the one in the subnet",
			{ config: "trafficEncapMode: hybrid", peers: [annotated] },
			"n2/4",
			"192.168.1.2 is in this Node's subnet 192.168.1.0/24 on eth0, and the direct path is not proven yet.",
		],
		["no address at all", { peers: [node("n6", 6)] }, "n6/4", "n6 has no transport address."],
		[
			"this Node's own address",
			{ peers: [{ ...n2, transportAddresses: ["192.168.1.1"] }] },
			"n2/4",
			"The transport address 192.168.1.1 of n2 is one of this Node's own.",
		],
		[
			"no family in common",
			{
				peers: [n5],
				self: node("n1", 1, "192.168.1.1"),
				network: {
					...NETWORK,
					interfaces: [
						NETWORK.interfaces[0]!,
						{
							...NETWORK.interfaces[1]!,
							addresses: [{ address: "192.168.1.1", prefixLength: 24 }],
						},
					],
				},
			},
			"n5/4",
			"The Nodes have no family of transport addresses in common: 192.168.1.1 here, fd02::5 on n5.",
		],
	];
	for (const [what, given, peer, reason] of rows) {
		const found = ready(given).peers.find(({ node, family }) => `${node}/${family}` === peer);
		t.equal(found?.reason, reason, what);
	}
});

/** Rows for each entry: "0 direct 4 0 0 - 192.168.1.2 1500". */
function entries(table: ReadonlyMap<number, Peer>): string[] {
	return [...table].map(([index, peer]) => {
		const { path, outerFamily, port, vni, local, remote, mtu } = peer;
		return `${index} ${PathName[path]} ${outerFamily} ${port} ${vni} ${local || "-"} ${remote || "-"} ${mtu}`;
	});
}

t.test("probe results and the choice of each mode", async (t) => {
	const tried = "{trafficEncapMode: hybrid, hybrid: {tryDirectCIDRs: [192.168.2.0/24]}}";
	const never = "{trafficEncapMode: hybrid, hybrid: {neverDirectCIDRs: [192.168.1.0/24]}}";
	const subnet = "{trafficEncapMode: hybrid, hybrid: {direct: subnet}}";
	const hybrid = "trafficEncapMode: hybrid";
	const noEncap = "trafficEncapMode: noEncap";
	const rows: [config: string, peer: string, PathVerdict | undefined, path: string][] = [
		[hybrid, "n2/4", undefined, "geneve 192.168.1.2 1450"],
		[hybrid, "n2/4", verdict("tunnel", 1500, 1450), "geneve 192.168.1.2 1450"],
		[hybrid, "n2/4", verdict("direct", 1500, 1450), "direct 192.168.1.2 1500"],
		[hybrid, "n2/6", verdict("direct", 1500, 1430), "direct fd01::2 1500"],
		[hybrid, "n2/4", verdict("direct", 1480, 1430), "direct 192.168.1.2 1480"],
		[hybrid, "n2/4", verdict("tunnel", 1380, 1390), "geneve 192.168.1.2 1390"],
		[hybrid, "n2/4", verdict("direct", 0, 0), "direct 192.168.1.2 1500"],
		// A size from before the interface's MTU was lowered.
		[hybrid, "n2/4", verdict("direct", 9000, 0), "direct 192.168.1.2 1500"],
		[hybrid, "n2/4", verdict("down", 1500, 1450), "down 192.168.1.2 0"],
		[hybrid, "n3/4", verdict("direct", 1500, 1450), "geneve 192.168.2.3 1450"],
		[hybrid, "n3/4", verdict("tunnel", 0, 1400), "geneve 192.168.2.3 1400"],
		[hybrid, "n3/4", verdict("down"), "down 192.168.2.3 0"],
		[tried, "n3/4", undefined, "geneve 192.168.2.3 1450"],
		[tried, "n3/4", verdict("direct", 1500, 1450), "routed 192.168.2.3 1500"],
		[tried, "n3/6", verdict("direct", 1500, 1430), "geneve fd02::3 1430"],
		[never, "n2/4", verdict("direct", 1500, 1450), "geneve 192.168.1.2 1450"],
		[never, "n2/6", verdict("direct", 1500, 1430), "direct fd01::2 1500"],
		[subnet, "n2/4", undefined, "direct 192.168.1.2 1500"],
		[subnet, "n2/4", verdict("down"), "direct 192.168.1.2 1500"],
		[subnet, "n3/4", verdict("direct", 1500, 1450), "geneve 192.168.2.3 1450"],
		["", "n2/4", undefined, "geneve 192.168.1.2 1450"],
		["", "n2/4", verdict("direct", 1500, 1400), "geneve 192.168.1.2 1400"],
		["", "n2/4", verdict("tunnel", 0, 1400), "geneve 192.168.1.2 1400"],
		["", "n2/4", verdict("down"), "down 192.168.1.2 0"],
		[noEncap, "n2/4", verdict("direct", 0, 0), "direct 192.168.1.2 1500"],
		[noEncap, "n2/4", verdict("direct", 1400, 0), "direct 192.168.1.2 1400"],
		[noEncap, "n2/4", verdict("down", 0, 0), "direct 192.168.1.2 1500"],
		[noEncap, "n3/4", verdict("direct", 1300, 0), "routed 192.168.2.3 1300"],
		[noEncap, "n4/6", verdict("direct", 1300, 0), "down - 0"],
	];
	for (const [config, peer, seen, path] of rows) {
		const verdicts: Case["verdicts"] = seen === undefined ? {} : { [peer]: seen };
		const result = ready({ config, verdicts });
		const row = paths({ config, verdicts }).find((row) => row.startsWith(`${peer} `));
		t.equal(row, `${peer} ${path}`, `${config} ${JSON.stringify(seen)}`);
		const view = result.peers.find(({ node, family }) => `${node}/${family}` === peer);
		const { mtu } = result.tables.peers.get(
			result.probed.find(({ node, family }) => `${node}/${family}` === peer)!.index,
		)!;
		t.equal(mtu, view?.mtu, "of the table and of the view");
	}
	const found = ready({ config: hybrid, verdicts: { "n2/4": verdict("direct", 1480) } });
	t.equal(found.tables.hostRoutes.get("10.244.2.0/24")?.mtu, 1480, "the Node's own packets fit");
});

t.test("both paths of every peer can be probed in any mode", async (t) => {
	const peers = [n2, n4];
	const rows = [
		"0 direct 4 0 0 - 192.168.1.2 1500",
		"1 geneve 4 6081 1 192.168.1.1 192.168.1.2 1450",
		"2 direct 6 0 0 - fd01::2 1500",
		"3 geneve 6 6081 1 fd01::1 fd01::2 1430",
		"4 routed 4 0 0 - 192.168.2.4 1500",
		"5 geneve 4 6081 1 192.168.1.1 192.168.2.4 1450",
		// n4 has no address for a direct path of IPv6.
		"7 geneve 4 6081 1 192.168.1.1 192.168.2.4 1450",
	];
	for (const mode of ["encap", "noEncap", "hybrid"]) {
		const given = { config: `trafficEncapMode: ${mode}`, peers };
		t.same(entries(ready(given).tables.peerPaths), rows, mode);
		const verdicts = { "n2/4": verdict("down", 1300, 1300), "n2/6": verdict("direct", 1300) };
		t.same(entries(ready({ ...given, verdicts }).tables.peerPaths), rows, "nor what was seen");
	}
	t.same(
		[
			...ready({ peers: [{ ...n2, podCIDRs: ["10.244.2.0/24", "10.244.9.0/24"] }, n5] }).tables
				.peerGateways,
		],
		[
			["10.244.2.1", 0],
			["10.244.9.1", 0],
			["10.244.5.1", 1],
			["fd00:10:244:5::1", 1],
		],
	);
	const probed = (config: string) =>
		ready({ config, peers: [n2, n4, n3] }).probed.map(
			({ index, node, family, source, destination, direct, tunnel, candidate }) =>
				`${index} ${node}/${family} ${source} ${destination} ${direct?.path} ${tunnel?.path} ${candidate}`,
		);
	t.same(probed("{trafficEncapMode: hybrid, hybrid: {tryDirectCIDRs: ['fd02::/64']}}"), [
		"0 n2/4 10.244.1.1 10.244.2.1 direct geneve true",
		"1 n2/6 fd00:10:244:1::1 fd00:10:244:2::1 direct geneve true",
		"4 n3/4 10.244.1.1 10.244.3.1 routed geneve false",
		"5 n3/6 fd00:10:244:1::1 fd00:10:244:3::1 routed geneve true",
		"2 n4/4 10.244.1.1 10.244.4.1 routed geneve false",
		"3 n4/6 fd00:10:244:1::1 fd00:10:244:4::1 undefined geneve false",
	]);
	const lonely = { ...n1, podCIDRs: ["10.244.1.0/24"] };
	t.same(
		ready({ self: lonely, peers: [n2] }).probed.map(({ index }) => index),
		[0],
		"none without a gateway address to ask from",
	);
});

t.test("a verdict concerns its own peer and family", async (t) => {
	const { config } = parseConfig("trafficEncapMode: hybrid", "") as {
		config: CompileInput["config"];
	};
	const snapshot = { nodes: new Map([n1, n2, n3].map((node) => [node.name, node])) };
	const input = {
		...{ config, snapshot, network: NETWORK, nodeName: "n1", endpoints: [] },
		peerIds: new Map([
			["n2", 0],
			["n3", 1],
		]),
	};
	const of = (verdicts: Map<number, PathVerdict>) => {
		const result = compile({ ...input, verdicts });
		if (!result.ready) throw new Error(result.reason);
		return result.tables.peers;
	};
	const [direct, smaller] = [verdict("direct", 1500), verdict("direct", 1400)];
	const first = of(new Map([[0, direct]]));
	t.match(first.get(0), { path: 1, mtu: 1500 });
	const later = of(new Map([[0, smaller]]));
	t.match(later.get(0), { mtu: 1400 }, "another verdict");
	t.same(later.get(2), first.get(2), "another peer's entry stays");
	t.match(of(new Map([[0, verdict("down")]])).get(0), { path: 5, mtu: 0 });
	t.match(of(new Map([[1, direct]])).get(0), { path: 3, mtu: 1450 }, "the other family's");
	t.match(of(new Map()).get(0), { path: 3 }, "none");
});

t.test("an entry of the peers table", async (t) => {
	const { tables } = ready({
		config: "{trafficEncapMode: hybrid, tunnelPort: 7000, tunnelVNI: 5}",
		peers: [n2, n4, { ...n3, podCIDRs: ["fd00:10:244:3::/64"] }],
		verdicts: proven("n2/4", "n2/6"),
	});
	t.same(entries(tables.peers), [
		"0 direct 4 0 0 - 192.168.1.2 1500",
		"1 direct 6 0 0 - fd01::2 1500",
		"4 none 0 0 0 - - 0",
		"5 geneve 6 7000 5 fd01::1 fd02::3 1430",
		"2 geneve 4 7000 5 192.168.1.1 192.168.2.4 1450",
		"3 geneve 4 7000 5 192.168.1.1 192.168.2.4 1450",
	]);
	t.same(
		[...tables.peerAddresses],
		[
			["192.168.1.2", 0],
			["fd01::2", 0],
			["192.168.2.3", 2],
			["fd02::3", 2],
			["192.168.2.4", 1],
		],
	);
	t.equal(
		tables.peers.get(4)?.nodeHash,
		tables.peers.get(5)?.nodeHash,
		"an id is its Node's in both families",
	);
});

t.test("tunnels are accepted from every address of a peer", async (t) => {
	const peer = { ...n2, transportAddresses: ["10.9.0.2"] };
	t.same(
		[...ready({ peers: [peer] }).tables.peerAddresses.keys()],
		["10.9.0.2", "192.168.1.2", "fd01::2"],
	);
});

t.test("tunnels end at the addresses that peers know, and at the transport address", async (t) => {
	const ends = (given: Case) =>
		[...ready(given).tables.routes]
			.filter(([, { kind, flags }]) => kind === RouteKind.HOST && !(flags & RouteFlag.NO_TUNNELS))
			.map(([prefix]) => prefix)
			.sort();
	const known = ["10.244.1.1/32", "192.168.1.1/32", "fd00:10:244:1::1/128", "fd01::1/128"];
	t.same(ends({}), known, "not at docker0's and eth1's");
	t.same(
		ends({ config: "transportInterface: eth1" }),
		["10.244.1.1/32", "10.9.0.1/32", ...known.slice(1)],
		"a transport address that peers do not know is reported, and takes their tunnels",
	);
});

/** "192.168.1.1 eth0 1500", with the problems. */
function transport(given: Case): string {
	const result = run(given);
	if (!result.ready) return `not ready: ${result.reason}`;
	const { addresses, interface: name, mtu } = result.self.transport;
	return [`${addresses.join(",")} ${name} ${mtu}`, ...result.problems].join(" | ");
}

t.test("the transport address", async (t) => {
	const stranger = (address: string, known: string) =>
		`Peers do not know the transport address ${address}: expected it in the annotation fairway.dev/transport-addresses or as an InternalIP of Node n1, got ${known}`;
	const annotated: NodeObject = { ...n1, transportAddresses: ["10.9.0.1"] };
	const withSecond: Network = {
		...NETWORK,
		interfaces: NETWORK.interfaces.map((link) =>
			link.name === "eth0"
				? { ...link, addresses: [{ address: "192.168.1.77", prefixLength: 24 }, ...link.addresses] }
				: link,
		),
	};
	const onLoopback: Network = {
		...NETWORK,
		interfaces: NETWORK.interfaces.map((link) =>
			link.name === "lo"
				? { ...link, addresses: [{ address: "10.0.0.1", prefixLength: 32 }] }
				: link,
		),
	};
	const rows: [what: string, given: Case, transport: string][] = [
		["the InternalIPs", {}, "192.168.1.1,fd01::1 eth0 1500"],
		["the annotation", { self: annotated }, "10.9.0.1,fd01::1 eth1 1500"],
		["by interface", { config: "transportInterface: eth1", self: annotated }, "10.9.0.1 eth1 9000"],
		[
			"by interface, which peers do not know",
			{ config: "transportInterface: eth1" },
			`10.9.0.1 eth1 9000 | ${stranger("10.9.0.1", "192.168.1.1, fd01::1")}`,
		],
		[
			"by interface, which is not there",
			{ config: "transportInterface: eth7" },
			"192.168.1.1,fd01::1 eth0 1500 | Cannot take the transport address from transportInterface eth7: there is no such interface; the next rule applies",
		],
		[
			"by CIDR",
			{ config: "transportInterfaceCIDRs: [10.9.0.0/16]", self: annotated },
			"10.9.0.1 eth1 9000",
		],
		[
			"by CIDR, the other family of the same interface",
			{ config: "transportInterfaceCIDRs: [192.168.0.0/16]" },
			"192.168.1.1,fd01::1 eth0 1500",
		],
		[
			"by CIDR, the first interface",
			{ config: "transportInterfaceCIDRs: [10.0.0.0/8, 192.168.0.0/16]" },
			"192.168.1.1,fd01::1 eth0 1500",
		],
		[
			"by CIDR, where no address is",
			{ config: "transportInterfaceCIDRs: [10.10.0.0/16]" },
			"192.168.1.1,fd01::1 eth0 1500 | Cannot take the transport address from transportInterfaceCIDRs: no interface has an address in 10.10.0.0/16; the Node's own addresses are used",
		],
		[
			"interface before CIDR",
			{ config: "{transportInterface: eth0, transportInterfaceCIDRs: [10.9.0.0/16]}" },
			"192.168.1.1,fd01::1 eth0 1500",
		],
		[
			"of several on the interface the Node's own",
			{ config: "transportInterface: eth0", network: withSecond },
			"192.168.1.1,fd01::1 eth0 1500",
		],
		[
			"on the loopback interface",
			{ self: node("n1", 1, "10.0.0.1"), network: onLoopback },
			"10.0.0.1 eth0 1500",
		],
		[
			"an InternalIP that is on no interface",
			{ self: node("n1", 1, "192.168.1.1", "fd77::1") },
			"192.168.1.1 eth0 1500 | Cannot use fd77::1 of Node n1 as transport address: no interface of this Node has it",
		],
		[
			"none",
			{ self: node("n1", 1, "192.168.77.1") },
			"not ready: a transport address: Cannot use 192.168.77.1 of Node n1 as transport address: no interface of this Node has it",
		],
		[
			"not even declared",
			{ self: node("n1", 1) },
			"not ready: a transport address: the Node has none",
		],
	];
	for (const [what, given, expected] of rows)
		t.equal(transport({ peers: [], ...given }), expected, what);
});

t.test("waits without its own Node object", async (t) => {
	const result = run({});
	t.ok(result.ready);
	const { config } = parseConfig("", "") as { config: CompileInput["config"] };
	const input = { config, network: NETWORK, nodeName: "n9", peerIds: new Map(), endpoints: [] };
	const waiting = compile({ ...input, snapshot: { nodes: new Map([["n1", n1]]) } });
	t.same(waiting, {
		ready: false,
		reason: "a usable Node object named n9, the cluster has none",
		problems: [],
	});
});

/** Rows for each route: "10.244.1.1/32 host", followed by flags. */
function routes(given: Case): string[] {
	return [...ready(given).tables.routes].map(([prefix, { kind, flags, peer }]) =>
		[
			prefix,
			RouteKindName[kind],
			...(peer === Limit.NO_PEER ? [] : [peer]),
			...(flags & RouteFlag.NO_SNAT ? ["no_snat"] : []),
		].join(" "),
	);
}

t.test("routes", async (t) => {
	const own = [
		"10.244.1.1/32 host",
		"fd00:10:244:1::1/128 host",
		"192.168.1.1/32 host",
		"fd01::1/128 host",
		"10.9.0.1/32 host",
		"172.17.0.1/32 host",
		"10.244.1.0/24 local_pods",
		"fd00:10:244:1::/64 local_pods",
		"10.244.2.0/24 peer 0",
		"fd00:10:244:2::/64 peer 0",
	];
	const flagged = (...prefixes: string[]) =>
		own.map((row) => (prefixes.some((prefix) => row.startsWith(prefix)) ? `${row} no_snat` : row));
	const rows: [exclude: string, routes: string[]][] = [
		["", own],
		["203.0.113.0/24", [...own, "203.0.113.0/24 outside no_snat"]],
		// Nested prefixes keep their kind, which needs entries of their own.
		["10.244.0.0/16", [...flagged("10.244."), "10.244.0.0/16 outside no_snat"]],
		// A nested entry would hide the Pods' own.
		["10.244.1.128/25, 10.244.2.7/32, 192.168.1.1/32", flagged("192.168.1.1/")],
		["10.244.2.0/24", flagged("10.244.2.0/24")],
		["0.0.0.0/0", [...flagged("10.", "192.", "172."), "0.0.0.0/0 outside no_snat"]],
		// Both families share the trie, and IPv4 is inside ::/0.
		["'::/0'", [...flagged("fd"), "::/0 outside no_snat", "0.0.0.0/0 outside"]],
		[
			"'::/0', 0.0.0.0/0",
			[
				...flagged("fd", "10.", "192.", "172."),
				"::/0 outside no_snat",
				"0.0.0.0/0 outside no_snat",
			],
		],
		["'fd00::/8'", [...flagged("fd"), "fd00::/8 outside no_snat"]],
		["'::/64'", [...own, "::/64 outside no_snat", "0.0.0.0/0 outside"]],
	];
	for (const [exclude, expected] of rows)
		t.same(
			routes({ config: `snat: {excludeCIDRs: [${exclude}]}`, peers: [n2] }),
			expected,
			exclude,
		);
});

t.test("the Node's own configuration", async (t) => {
	const rows: [config: string, part: object][] = [
		[
			"",
			{
				flags: NodeFlag.CONFIGURED | NodeFlag.SNAT | NodeFlag.SERVES_ALL,
				vni: 1,
				snatAddress4: "192.168.1.1",
				snatAddress6: "fd01::1",
				gatewayAddress4: "10.244.1.1",
				gatewayAddress6: "fd00:10:244:1::1",
				genevePort: 6081,
				vxlanPort: 0,
				transportMtu: 1500,
				snatPortFirst: 49152,
				snatPortLast: 65535,
			},
		],
		[
			"{trafficEncapMode: hybrid, noSNAT: true}",
			{ flags: NodeFlag.CONFIGURED | NodeFlag.SENDS_UNTUNNELLED | NodeFlag.SERVES_ALL },
		],
		["fairwayProxy: {enable: false}", { flags: NodeFlag.CONFIGURED | NodeFlag.SNAT }],
		["{tunnelPort: 7000, tunnelVNI: 9}", { genevePort: 7000, vxlanPort: 0, vni: 9 }],
		["{tunnelType: vxlan, tunnelPort: 7000}", { genevePort: 0, vxlanPort: 7000 }],
		["snat: {portRange: 1000-2000}", { snatPortFirst: 1000, snatPortLast: 2000 }],
		[
			"flows: {timeouts: {tcpOpening: 1, tcpEstablished: 2, tcpClosing: 3, tcpClosed: 4, udpOpening: 5, udpEstablished: 6, icmp: 7, sctpOpening: 8, sctpEstablished: 9, sctpClosed: 10, other: 11}}",
			{ flowTimeouts: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11] },
		],
	];
	for (const [config, part] of rows) t.match(ready({ config }).tables.nodeConfig, part, config);
	const tunnelPort = (config: string) => ready({ config }).tables.tunnelPort;
	t.equal(tunnelPort(""), 6081);
	t.equal(tunnelPort("{trafficEncapMode: hybrid, tunnelType: vxlan}"), 4789);
	t.equal(tunnelPort("{tunnelType: vxlan, tunnelPort: 7000}"), 7000);
	t.equal(tunnelPort("trafficEncapMode: noEncap"), 0, "none to be merged");
});

t.test("MTU of Pods", async (t) => {
	const withMtu = (mtu: number): Network => ({
		...NETWORK,
		interfaces: NETWORK.interfaces.map((link) => ({ ...link, mtu })),
	});
	const single: NodeObject = { ...n1, podCIDRs: ["10.244.1.0/24"] };
	const rows: [what: string, given: Case, mtu: number][] = [
		["encap, dual stack", {}, 1430],
		["encap, IPv4 Pods", { self: single }, 1450],
		[
			"encap, IPv4 transport",
			{ self: { ...n1, internalIPs: ["192.168.1.1"], transportAddresses: ["192.168.1.1"] } },
			1450,
		],
		[
			"encap, IPv6 transport",
			{ self: { ...single, internalIPs: ["fd01::1"], transportAddresses: ["fd01::1"] } },
			1430,
		],
		["hybrid", { config: "trafficEncapMode: hybrid" }, 1500],
		["noEncap", { config: "trafficEncapMode: noEncap" }, 1500],
		["jumbo frames", { network: withMtu(9000) }, 8930],
		["overridden", { config: "defaultMTU: 1300" }, 1300],
		["overridden by more", { config: "defaultMTU: 9000" }, 9000],
		["too little for IPv6", { network: withMtu(1300) }, 1280],
		["too little for IPv6, which Pods do not have", { self: single, network: withMtu(1300) }, 1250],
	];
	for (const [what, given, mtu] of rows) t.equal(ready(given).self.podMTU, mtu, what);
	t.match(ready({ network: withMtu(1300) }).problems, [/IPv6 needs at least 1280/]);
});

t.test("the SNAT address is on the interface of the default route", async (t) => {
	const leavesBy = (device: string, source?: string): Network => ({
		...NETWORK,
		routes: [
			{ prefix: "0.0.0.0/0", gateway: "10.9.0.254", device, metric: 0, ...(source && { source }) },
		],
	});
	const two = leavesBy("eth1");
	two.interfaces = two.interfaces.map((link) =>
		link.name === "eth1"
			? { ...link, addresses: [...link.addresses, { address: "10.9.0.99", prefixLength: 16 }] }
			: link,
	);
	const rows: [what: string, network: Network, address: string][] = [
		["the transport interface", NETWORK, "192.168.1.1"],
		["another", leavesBy("eth1"), "10.9.0.1"],
		[
			"with a preferred source",
			{ ...two, routes: leavesBy("eth1", "10.9.0.99").routes },
			"10.9.0.99",
		],
		[
			"the transport interface, another preferred source",
			leavesBy("eth0", "198.51.100.1"),
			"198.51.100.1",
		],
		["without addresses", leavesBy("tun7"), "192.168.1.1"],
		["no default route", { ...NETWORK, routes: [] }, "192.168.1.1"],
	];
	for (const [what, network, address] of rows)
		t.equal(ready({ network }).tables.nodeConfig.snatAddress4, address, what);
});

t.test("each device has the source address that its routes say", async (t) => {
	const eth1 = 3;
	const withEth1 = (addresses: [string, number][], ...routes: Network["routes"]): Network => ({
		interfaces: NETWORK.interfaces.map((link) =>
			link.name === "eth1"
				? {
						...link,
						index: eth1,
						addresses: addresses.map(([address, prefixLength]) => ({ address, prefixLength })),
					}
				: link,
		),
		routes: [...NETWORK.routes, ...routes],
	});
	const by = (prefix: string, gateway: string, source?: string) => ({
		prefix,
		gateway,
		device: "eth1",
		metric: 0,
		...(source && { source }),
	});
	const addresses: [string, number][] = [
		["10.9.0.1", 24],
		["10.8.0.1", 24],
	];
	const rows: [what: string, network: Network, source: string][] = [
		["no route: the first address", withEth1(addresses), "10.9.0.1"],
		["its gateway's subnet", withEth1(addresses, by("172.16.0.0/12", "10.8.0.254")), "10.8.0.1"],
		[
			"the preferred source of its route",
			withEth1(addresses, by("172.16.0.0/12", "10.8.0.254", "192.168.1.1")),
			"192.168.1.1",
		],
		[
			"the widest of its routes",
			withEth1(addresses, by("172.16.0.0/12", "10.8.0.254"), by("0.0.0.0/0", "10.9.0.254")),
			"10.9.0.1",
		],
	];
	for (const [what, network, source] of rows)
		t.equal(ready({ network }).tables.sourceAddresses.get(eth1)?.ipv4, source, what);
	t.notOk(ready({ network: withEth1([]) }).tables.sourceAddresses.has(eth1), "none");
});

t.test("the outside has the MTUs of the kernel's routes", async (t) => {
	const via = { gateway: "192.168.1.254", device: "eth0", metric: 0 };
	const mtus = (...more: Network["routes"]) => {
		const { routes, nodeConfig } = ready({
			network: { ...NETWORK, routes: [...NETWORK.routes, ...more] },
			config: "snat: {excludeCIDRs: [203.0.113.64/28]}",
		}).tables;
		const found = [...routes].filter(([, { mtu }]) => mtu !== 0);
		t.equal(
			(nodeConfig.flags & NodeFlag.ROUTE_MTU) !== 0,
			found.length > 0,
			"the core looks for it",
		);
		return found.map(([prefix, { kind, mtu }]) => `${prefix} ${RouteKindName[kind]} ${mtu}`).sort();
	};
	t.same(mtus(), [], "none");
	t.same(
		mtus({ ...via, prefix: "203.0.113.0/24", mtu: 1300 }),
		["203.0.113.0/24 outside 1300", "203.0.113.64/28 outside 1300"],
		"what is excluded from SNAT in it has it, too",
	);
	t.same(
		mtus({ ...via, prefix: "203.0.113.0/24", mtu: 1300 }, { ...via, prefix: "203.0.113.64/26" }),
		["203.0.113.0/24 outside 1300"],
		"a route in it without one has the device's",
	);
});

t.test("interfaces that receive packets from other machines", async (t) => {
	const wires = (network: Network) => ready({ network }).tables.wireInterfaces;
	t.same(wires(NETWORK), ["eth0", "eth1"]);
	t.same(
		wires(
			withRoute({ prefix: "203.0.113.0/24", gateway: "172.17.0.9", device: "docker0", metric: 0 }),
		),
		["eth0", "eth1", "docker0"],
		"a bridge that is a way to a gateway",
	);
});

t.test("host routes, gateway and Pods", async (t) => {
	const { tables, self } = ready({
		config: "trafficEncapMode: noEncap",
		peers: [n2, n4],
		endpoints: [
			{
				addresses: ["10.244.1.2", "fd00:10:244:1::2"],
				mac: "02:00:00:00:00:07",
				hostInterface: "fairway00000001",
			},
			{ addresses: ["10.244.1.2"], mac: "02:00:00:00:00:08", hostInterface: "fairway00000002" },
			{
				addresses: ["10.244.1.1", "192.168.1.1"],
				mac: "02:00:00:00:00:09",
				hostInterface: "fairway00000003",
			},
		],
	});
	t.same(
		[...tables.hostRoutes.values()].map(({ prefix, mtu, source }) => `${prefix} ${mtu} ${source}`),
		[
			"10.244.2.0/24 1500 10.244.1.1",
			"fd00:10:244:2::/64 1500 fd00:10:244:1::1",
			"10.244.4.0/24 1500 10.244.1.1",
			// The path is down, but packets must not leave by the default route.
			"fd00:10:244:4::/64 1500 fd00:10:244:1::1",
			// What the Node's own endpoints of Services answer to.
			"169.254.250.28/32 1500 192.168.1.1",
			"fd66:6169:7277::28/128 1500 fd01::1",
		],
	);
	t.same(
		[...tables.endpoints].map(([address, { interface: name }]) => `${address} ${name}`),
		["10.244.1.2 fairway00000001", "fd00:10:244:1::2 fairway00000001"],
		"an address is one Pod's, and no Pod has the Node's",
	);
	t.same(tables.gatewayAddresses, ["10.244.1.1", "fd00:10:244:1::1"]);
	t.equal(tables.gatewayMac, gatewayMac("n1"));
	t.equal(self.gatewayMac, tables.gatewayMac);
	t.match(gatewayMac("n1"), /^06(:[0-9a-f]{2}){5}$/);
	t.not(gatewayMac("n1"), gatewayMac("n2"));
	const lonely = ready({ self: { ...n1, podCIDRs: ["10.244.1.0/24"] }, peers: [n2] });
	t.same(
		[...lonely.tables.hostRoutes.keys()],
		["10.244.2.0/24", "169.254.250.28/32"],
		"no route without a source address of the family",
	);
	t.equal(lonely.tables.nodeConfig.gatewayAddress6, "");
});

t.test("a Node without a peer id is a problem, not a crash", async (t) => {
	const { config } = parseConfig("", "") as { config: CompileInput["config"] };
	const snapshot = {
		nodes: new Map([
			["n1", n1],
			["n2", n2],
		]),
		problems: [],
	};
	const result = compile({
		config,
		snapshot,
		network: NETWORK,
		nodeName: "n1",
		peerIds: new Map(),
		endpoints: [],
	});
	t.match(result, {
		ready: true,
		peers: [],
		problems: [/Cannot serve Node n2: expected a peer id below 16384/],
	});
});
