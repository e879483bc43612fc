import t from "tap";
import type { ExplainAnswer } from "../../src/api/messages/explain.js";
import { explainText } from "../../src/cli/explain.js";
import type { PeerView } from "../../src/compile/compile.js";
import type { ServicePortView } from "../../src/compile/services/view.js";
import { parse } from "../../src/forwarder/packet.js";
import { peerDifferences } from "../../src/observe/peer_differences.js";
import type { Cluster } from "../../src/policy/interpreter.js";
import type { RuleName } from "../../src/policy/policy_tables.js";
import { type ExplainContext, explain } from "../../src/report/explain.js";
import { type NamedService, readQuestion } from "../../src/report/explain_question.js";
import type { NamedPort } from "../../src/report/explain_service.js";
import { type ProbePacket, probePacket } from "../../src/report/sample_packet.js";
import { parseAddress } from "../../src/tables/address.js";
import { PathName as pathNames } from "../../src/tables/generated.js";
import { containsAddress, parsePrefix } from "../../src/tables/prefix.js";
import { serviceOf, servicePorts, TARGET_PORT } from "../packet/services.js";
import * as world from "../packet/world.js";
import { replaced } from "../tools/replaced.js";

// The tables of the packet tests' world; nothing is in the kernel.
Object.assign(world.ifindex, { fairway0: 9, wire0: 2, pod0: 3, pod1: 4 });

const peers: PeerView[] = world.peers.flatMap(({ id, path, transport, mtu }) =>
	([4, 6] as const).map((family) => ({
		id,
		node: `n${id + 1}`,
		family,
		podCIDRs: [family === 4 ? `10.244.${id + 1}.0/24` : `fd00:10:244:${id + 1}::/64`],
		transportAddress: transport[family],
		path: pathNames[path] as PeerView["path"],
		reason: `Because of rule ${id}.`,
		mtu,
	})),
);

/** What explain knows of policies; see the tests of explain_policy. */
const cluster: Cluster = {
	...{ nodes: [], namespaces: [], pods: [], policies: [], clusterPolicies: [] },
};
const rules = new Map<number, RuleName>();
const CLASS = 2;
const contains = (prefix: string, address: string) =>
	containsAddress(parsePrefix(prefix), parseAddress(address)!);

const text = (_: string, value: unknown) => (typeof value === "bigint" ? String(value) : value);
const tables = world.makeTables(64);
const context: ExplainContext = {
	tables,
	peer: (index: number) =>
		peers.find((peer) => peer.id * 2 + (peer.family === 6 ? 1 : 0) === index),
	self: {
		node: "n1",
		podCIDRs: ["10.244.1.0/24", "fd00:10:244:1::/64"],
		transport: { interface: "wire0", addresses: [world.nodeAddress[4]], mtu: 1500 },
		gateways: [world.gateway[4], world.gateway[6]],
		gatewayMac: world.GATEWAY_MAC,
		podMTU: 1500,
		snat: { address4: world.nodeAddress[4], address6: world.nodeAddress[6] },
	},
	endpoints: [world.podA, world.podB].map((pod, i) => ({
		network: "fairway",
		containerId: `c${i}`,
		ifName: "eth0",
		netns: `/run/netns/${pod.interface}`,
		addresses: [pod[4], pod[6]],
		gateways: [],
		mac: pod.mac,
		hostInterface: pod.interface,
		mtu: 1500,
		namespace: "default",
		name: `pod-${i}`,
		attachedAt: "",
	})),
	interfaces: [
		{ name: "wire0", index: 2, mac: world.NODE_MAC, mtu: 1500, up: true, addresses: [] },
	],
	names: {
		pod: (key) => pods[key] ?? [],
		service: (key) => services[key],
		servicesAt: () => [],
	},
	servicePort: ({ index }) => servicePort(index),
	places: {
		node: "n1",
		tables,
		peer: (index) => peers.find(({ id, family }) => id * 2 + (family === 6 ? 1 : 0) === index),
		nodes: new Map(),
	},
	rule: (id) => rules.get(id),
	policies: async () => ({
		...{ cluster, nodeName: "n1", tables, rule: (id) => rules.get(id) },
		atoms: (number) => (number === CLASS ? ["Pods with app=a of namespace default"] : []),
		nodeOf: (address) =>
			peers.find(({ podCIDRs }) => podCIDRs.some((one) => contains(one, address)))?.node,
	}),
};

/** The Services of the packet tests, as compile would show them. */
function servicePort(index: number): NamedPort | undefined {
	const found = servicePorts().find((one) => one.index === index);
	if (found === undefined) return undefined;
	const { name, family, protocol, backends, port } = found;
	const view: ServicePortView = {
		...{ name: "main", port, protocol, family, index, frontends: [], why: "All of them." },
		backends: backends.map(({ id, address, isLocal }) => ({
			...{ id, address, port: TARGET_PORT, node: "" },
			...{ isReady: true, isServing: true, isTerminating: false },
			...{ inClusterSet: true, inLocalSet: isLocal },
		})),
	};
	const facts = { namespace: "default", name, type: "NodePort" as const };
	return {
		service: { ...facts, ports: [view], localReady: 0, healthCheckNodePort: 0 },
		port: view,
	};
}

t.test("a Service: which it is, its endpoints, and what becomes of the packet", async (t) => {
	for (const family of [4, 6] as const) {
		const ask = async (name: string, more: object = {}) => {
			const { clusterIP } = serviceOf(name, family, 6);
			const packet = { source: world.podA[family], destination: clusterIP, protocol: "tcp" };
			return explain({ ...packet, destinationPort: 80, ...more }, context);
		};
		const self = await ask("self");
		t.match(self, {
			service: {
				...{ namespace: "default", name: "self", port: 80, portName: "main", type: "NodePort" },
				frontend: { address: serviceOf("self", family, 6).clusterIP, port: 80, kind: "clusterIP" },
				set: { name: "cluster", used: 1, of: 1, why: "All of them." },
			},
			backend: { address: world.podA[family], port: TARGET_PORT, node: "n1", path: "local" },
			...{ path: "local", drop: null, snat: { address: world.gateway[family] } },
		});
		const remote = await ask("remote", { destination: serviceOf("external", family, 6).clusterIP });
		t.match(remote, {
			...{ service: { name: "external" }, backend: null, drop: null, path: null, mtu: null },
			backends: [
				{ address: world.podB[family], path: "local", node: "n1" },
				{ address: world.geneve4.pod[family], path: "geneve", node: "n3" },
			],
			reason: "One of 2 endpoints, by the path local or geneve.",
			differing: ["path", "peer", "mtu", "device"],
		});
		t.match(remote.backends, [
			{ fate: { drop: null, snat: null, device: "pod1" } },
			{ fate: { drop: null, snat: null, device: "wire0" } },
		]);
		const shown = explainText(remote);
		t.match(shown, /, local, MTU \d+, out of pod1\n/);
		t.match(shown, /^Path +depends on the backend$/m);
		t.match(shown, /^SNAT +no$/m);
		const translated = explainText({
			...remote,
			differing: ["snat"],
			backends: remote.backends.map((backend, i) => ({
				...backend,
				fate: { ...backend.fate!, snat: i === 0 ? null : { address: "192.0.2.1", port: 50000 } },
			})),
		});
		t.match(translated, /^SNAT +depends on the backend$/m);
		t.match(translated, /, local, SNAT no\n/);
		t.match(translated, /, geneve, SNAT 192\.0\.2\.1:50000\n/);
		t.match(
			self.steps.find(({ stage }) => stage === "service")?.text,
			/is the cluster IP of Service default\/self$/,
		);
		t.match(await ask("empty"), {
			...{ service: { name: "empty", set: { used: 0, of: 0 } }, backend: null, backends: [] },
			...{ drop: "service_no_endpoints", snat: null, device: null },
			reason: "The Service has no endpoints.",
		});
		t.match(await ask("remote"), {
			...{ drop: "service_no_local_endpoints", service: { name: "remote" }, backend: null },
			service: { set: { name: "local", used: 0, of: 2, why: "None is on this Node." } },
		});
		t.match(await ask("policy"), {
			service: {
				set: { name: "local", used: 1, of: 3, why: "Those on this Node that are ready." },
			},
			...{ backend: { address: world.podB[family] }, path: "local", device: "pod1" },
		});
		t.match(await ask("self", { destinationPort: 81 }), {
			service: null,
			drop: "service_unknown_port",
		});
		const nowhere = family === 4 ? "10.96.9.9" : "fd00:10:96::9:9";
		t.match(await ask("self", { destination: nowhere }), { drop: "service_unknown_address" });
		const nodePort = { destination: world.nodeAddress[family], destinationPort: 30000 + 13 };
		t.match(await ask("self", nodePort), {
			service: { name: "self", port: 80, frontend: { port: 30013, kind: "nodePort" } },
			backend: { address: world.podA[family] },
		});
		const source = world.nodeAddress[family];
		t.match(await ask("policy", { source }), {
			...{ hook: "from_host", path: "local", service: { name: "policy" } },
			backend: { address: world.podB[family] },
		});
		const outside = { source: world.outside[family], destination: world.nodeAddress[family] };
		t.match(await ask("policy", { ...outside, destinationPort: 30000 + 14 }), {
			...{ hook: "from_wire", path: "local", service: { name: "policy", set: { name: "local" } } },
			backend: { address: world.podB[family], path: "local" },
		});
		t.match(await ask("self", { destination: world.podB[family] }), {
			...{ service: null, backend: null, backends: [] },
		});
	}
});

const pods: Record<string, readonly string[]> = {
	"default/pod-0": [world.podA[4], world.podA[6]],
	"default/far": [world.direct.pod[6], world.direct.pod[4]],
	"default/both": [world.podB[4]],
};
const services: Record<string, NamedService> = {
	"default/both": {
		clusterIPs: ["10.96.0.1"],
		ports: [
			{ name: "dns", protocol: 17, port: 53 },
			{ name: "http", protocol: 6, port: 8080 },
			{ name: "quic", protocol: 17, port: 8080 },
		],
	},
	"kube-system/dns": {
		clusterIPs: ["fd00:10:96::a", "10.96.0.10"],
		ports: [{ name: "", protocol: 17, port: 53 }],
	},
	"default/headless": { clusterIPs: [], ports: [] },
};

t.test("names of Pods and Services are the ends of a packet", async (t) => {
	const ask = (destination: string, more: object = {}) =>
		readQuestion({ source: "default/pod-0", destination, ...more }, context.names);
	t.match(ask("default/far"), {
		source: world.podA[6],
		destination: world.direct.pod[6],
		protocol: "tcp",
		destinationPort: 80,
		named: [`Pod default/pod-0 has ${world.podA[6]}`, `Pod default/far has ${world.direct.pod[6]}`],
	});
	t.match(ask("8.8.8.8"), { source: world.podA[4], named: { length: 1 } }, "the address decides");
	t.match(ask("default/both"), {
		destination: "10.96.0.1",
		protocol: "tcp",
		destinationPort: 8080,
	});
	t.match(ask("pod/default/both"), { destination: world.podB[4], destinationPort: 80 });
	t.match(ask("default/both", { protocol: "udp" }), { destinationPort: 53 });
	t.match(ask("service/default/both", { destinationPort: "quic" }), { protocol: "udp" });
	t.match(ask("default/both", { destinationPort: 53 }), { protocol: "udp" });
	t.match(ask("default/both", { destinationPort: 9 }), { protocol: "tcp", destinationPort: 9 });
	t.match(ask("default/both", { protocol: "icmp" }), { destinationPort: 0 });
	t.match(ask("kube-system/dns"), {
		...{
			source: world.podA[6],
			destination: "fd00:10:96::a",
			protocol: "udp",
			destinationPort: 53,
		},
	});
	const bad: [string, object, number, RegExp][] = [
		["default/none", {}, 404, /expected a Pod or Service with an address .* got default\/none/],
		["service/default/pod-0", {}, 404, /expected a Service with an address/],
		["default/headless", {}, 400, /expected a Service with a cluster IP/],
		["default/both", { destinationPort: "smtp" }, 400, /dns \(53\), .* got smtp/],
		["kube-system/dns", { protocol: "tcp" }, 400, /expected a tcp port of .* \(53\), got none/],
		["10.0.0.1", { destinationPort: "http" }, 400, /expected a number as port of an address/],
	];
	for (const [destination, more, status, message] of bad)
		t.throws(() => ask(destination, more), { status, message }, destination);
	const source = "service/default/both";
	t.throws(() => readQuestion({ source, destination: "10.0.0.1" }, context.names), {
		message: /NAMESPACE\/NAME of a Pod as source|a Pod with an address as source|a Service with/,
	});
});

t.test("every destination of a packet", async (t) => {
	const before = JSON.stringify([tables.slots, [...tables.peers], [...tables.nextHops]], text);
	for (const family of [4, 6] as const) {
		const podA = world.podA[family];
		const node = world.nodeAddress[family];
		// Title, source, destination, part of the answer.
		const rows: [string, string, string, Partial<ExplainAnswer>][] = [
			[
				"Pod to a peer's Pod, direct",
				podA,
				world.direct.pod[family],
				{ hook: "from_pod", path: "direct", peer: "n2", reason: "Because of rule 1.", mtu: 1500 },
			],
			[
				"Pod to a peer's Pod, Geneve",
				podA,
				world.geneve4.pod[family],
				{ path: "geneve", peer: "n3", mtu: 1450, device: "wire0", drop: null, snat: null },
			],
			["Pod to a peer's Pod, VXLAN", podA, world.vxlan4.pod[family], { path: "vxlan", peer: "n4" }],
			["Pod to a peer's Pod, routed", podA, world.routed.pod[family], { path: "routed" }],
			[
				"Pod to a peer that is down",
				podA,
				world.down.pod[family],
				{ path: "down", drop: "peer_down", reason: "Because of rule 6.", device: null },
			],
			[
				"Pod to a Pod of this Node",
				podA,
				world.podB[family],
				{ hook: "from_pod", path: "local", device: "pod1", peer: null, drop: null, snat: null },
			],
			["Pod to its own Node", podA, node, { path: "host", drop: null, device: null }],
			[
				"Pod to the outside",
				podA,
				world.outside[family],
				{ path: "outside", device: "wire0", drop: null, mtu: 1500, peer: null },
			],
			[
				"Pod to an excluded outside address",
				podA,
				world.excluded[family],
				{ path: "outside", snat: null, drop: null },
			],
			[
				"Pod to a Pod that does not exist",
				podA,
				family === 4 ? "10.244.1.99" : "fd00:10:244:1::99",
				{ path: null, drop: "no_endpoint", device: null },
			],
			[
				"Pod to where the kernel refuses",
				podA,
				world.unreachableHost[family],
				{ drop: "no_route", device: null, snat: null },
			],
			[
				"a peer's Pod to a Pod here",
				world.direct.pod[family],
				podA,
				{ hook: "from_wire", path: "local", device: "pod0", drop: null },
			],
			[
				"a peer's Pod to a Pod that does not exist",
				world.direct.pod[family],
				family === 4 ? "10.244.1.99" : "fd00:10:244:1::99",
				{ hook: "from_wire", drop: "no_endpoint" },
			],
			["an outside host to this Node", world.outside[family], node, { path: "host", drop: null }],
			[
				"this Node to a peer's Pod",
				node,
				world.geneve4.pod[family],
				{ hook: "from_host", path: "geneve", peer: "n3" },
			],
			[
				"this Node to its Pod",
				node,
				podA,
				{ hook: "to_pod", path: "local", device: "pod0", drop: null },
			],
			[
				"Pod to multicast on the link",
				podA,
				family === 4 ? "224.0.0.1" : "ff02::1",
				{ path: "host", drop: null },
			],
			["Pod to multicast", podA, family === 4 ? "239.1.1.1" : "ff0e::1", { drop: "multicast" }],
			["this Node to the outside", node, world.outside[family], { hook: "none", path: "outside" }],
		];
		for (const [name, source, destination, wanted] of rows) {
			for (const protocol of ["tcp", "udp", "icmp"] as const) {
				const answer = await explain({ source, destination, protocol }, context);
				t.match(answer, { source, destination, protocol, ...wanted }, `${name}, ${protocol}`);
				t.match(answer.reason, /^[A-Z0-9a-f].*\w\.$/, "the reason is a sentence");
				t.notMatch(JSON.stringify(answer.steps), /interface \d|peer \d/, "names, not numbers");
			}
		}
		const source = podA;
		const destination = world.outside[family];
		const udp = await explain({ source, destination, protocol: "udp", sourcePort: 50000 }, context);
		t.strictSame(udp.snat, { address: node, port: 50000 }, "the port is kept where it is free");
		const tcp = await explain(
			{ source, destination, protocol: "tcp", destinationPort: 443 },
			context,
		);
		t.match(tcp, { sourcePort: 40000, destinationPort: 443, snat: { address: node } });
		t.ok((tcp.snat?.port ?? 0) >= 49152, "else it is of the range");
		t.strictSame((await explain({ source, destination, protocol: "icmp" }, context)).snat, {
			address: node,
		});
		const toPeer = { source: node, destination: world.geneve4.pod[family], protocol: "tcp" };
		t.equal((await explain(toPeer, context)).snat?.address, world.gateway[family]);
	}
	const after = JSON.stringify([tables.slots, [...tables.peers], [...tables.nextHops]], text);
	t.equal(after, before, "explaining changes nothing");
});

t.test("invalid questions", async (t) => {
	const good = { source: "10.244.1.2", destination: "10.244.2.2", protocol: "tcp" };
	const rows: [unknown, number, RegExp][] = [
		[undefined, 400, /NAMESPACE\/NAME of a Pod as source, got undefined/],
		[{ ...good, protocol: "sctp" }, 400, /got "sctp"/],
		[
			{ ...good, source: "10.244.1" },
			400,
			/expected an IP address or .* as source, got "10\.244\.1"/,
		],
		[{ ...good, destination: 7 }, 400, /expected an IP address or .* as destination, got 7/],
		[{ ...good, destination: "fd00::1" }, 400, /one family/],
		[{ ...good, destinationPort: 65536 }, 400, /port from 1 to 65535, got 65536/],
		[{ ...good, sourcePort: "80" }, 400, /got "80"/],
		[{ ...good, source: "10.244.1.77" }, 404, /no local Pod has it/],
	];
	for (const [request, status, message] of rows) {
		await t.rejects(explain(request, context), { status, message });
	}
});

t.test("the packet built for a question", async (t) => {
	for (const family of [4, 6] as const) {
		for (const protocol of ["tcp", "udp", "icmp"] as const) {
			const probe: ProbePacket = {
				sourceMac: world.podA.mac,
				destinationMac: world.GATEWAY_MAC,
				source: world.podA[family],
				destination: world.outside[family],
				protocol,
				sourcePort: 40000,
				destinationPort: protocol === "icmp" ? 0 : 53,
			};
			const packet = parse(probePacket(probe));
			t.match(packet, {
				family,
				ttl: 64,
				dontFragment: true,
				key: { source: probe.source, destination: probe.destination, sourcePort: 40000 },
			});
			if (packet === undefined) return;
			t.equal(packet.frame.length, 14 + packet.length, "no byte too many");
			if (family === 4) t.equal(sum(packet.frame.subarray(14, 34)), 0xffff, "IPv4 checksum");
			const transport = packet.frame.subarray(packet.l4);
			const pseudo = Buffer.alloc(4);
			pseudo.writeUInt16BE(packet.key.protocol, 0);
			pseudo.writeUInt16BE(transport.length, 2);
			const addresses = packet.frame.subarray(
				14 + (family === 4 ? 12 : 8),
				14 + (family === 4 ? 20 : 40),
			);
			const covered = family === 4 && protocol === "icmp" ? [] : [addresses, pseudo];
			t.equal(sum(Buffer.concat([...covered, transport])), 0xffff, `${protocol} checksum`);
		}
	}
});

/** RFC 1071; the length is even. */
function sum(bytes: Buffer): number {
	let total = 0;
	for (let i = 0; i < bytes.length; i += 2) total += bytes.readUInt16BE(i);
	while (total > 0xffff) total = (total & 0xffff) + (total >>> 16);
	return total;
}

t.test("log lines about peers", async (t) => {
	const [first, second] = peers as [PeerView, PeerView];
	t.strictSame(peerDifferences(replaced(peers, peers)), []);
	t.match(peerDifferences(replaced([], [first, second])), [
		{ message: "peer added", facts: { peer: "n2", family: 4 } },
		{ message: "peer added", facts: { peer: "n2", family: 6 } },
	]);
	t.match(peerDifferences(replaced([first, second], [first])), [
		{ message: "peer removed", facts: { peer: "n2", family: 6 } },
	]);
	t.match(peerDifferences(replaced([first], [{ ...first, path: "geneve", reason: "New." }])), [
		{ message: "peer path changed", facts: { from: "direct", path: "geneve", reason: "New." } },
	]);
	t.match(peerDifferences(replaced([first], [{ ...first, mtu: 1400 }])), [
		{ message: "peer changed" },
	]);
	t.match(peerDifferences(replaced([first], [{ ...first, transportAddress: "192.168.1.99" }])), [
		{ message: "peer changed" },
	]);
	t.strictSame(peerDifferences(replaced([first], [{ ...first, reason: "Other words." }])), []);
});
