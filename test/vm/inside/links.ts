/**
 * In a guest whose kernel has what this machine's may lack: ways out of a Node without an Ethernet header,
 * such a way between the Nodes, and SCTP.
 *
 *   pod1a, pod1b                                     pod2a
 *   node1 ─────────────── net1, wg8 ─────────────── node2
 *     ├ wg9     WireGuard  ─┐
 *     ├ ip6tnl9 IP in IPv6 ─┼ host
 *     └ ppp9    PPP        ─┘
 *
 * Its argument is the program of test/tools/sctp.c. Prints a line "row: JSON", a Row, for each thing it has tried,
 * and "end: JSON", an End.
 */
import { once } from "node:events";
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { echo } from "../../../src/lab/echo.js";
import { Lab } from "../../../src/lab/lab.js";
import { Namespace, run } from "../../../src/lab/namespace.js";
import { Station } from "../../../src/lab/stations.js";
import type { Family } from "../../../src/lab/subnet.js";
import { until } from "../../../src/lab/until.js";

export interface End {
	kernel: string;
	drops: Record<string, number>[];
	problems: string[];
}

export interface Row {
	shows: string;
	/** Echo requests that were answered, of PINGS. */
	answered?: number;
	/** TCP or SCTP: the data came whole; or why it did not come. */
	whole: boolean | string;
	/** As whom the other end sees the sender, and as whom it should. */
	seen: string;
	expected: string;
	/** Sizes of UDP datagrams that did not come back. */
	missing?: number[];
	corrupt?: number[];
}

type Addresses = Record<Family, string>;

const FAMILIES = [4, 6] as const;
const PINGS = 2;
const PORTS = { tcp: 5000, udp: 5001, sctp: 5002 };
const SCTP_BYTES = 300_000;
const SERVICE: Addresses = { 4: "10.96.0.9", 6: "fd00:96::9" };
const SERVICE_PORT = 38412;
const SERVICE_CIDRS = ["10.96.0.0/16", "fd00:96::/112"];
const PATIENCE_MS = 400_000;

/** Where a device of node1 leads: its address there, and the host's. */
interface Way {
	kind: string;
	device: string;
	node: Addresses;
	host: Addresses;
	mtu: number;
	/** Makes both ends, of one name, and sets them up. */
	make(node: Namespace, host: Namespace): Promise<void>;
}

const addressesOf = (n: number, end: number): Addresses => ({
	4: `10.9.${n}.${end}`,
	6: `fd00:9:${n}::${end}`,
});

const WAYS: Way[] = [
	{
		...{ kind: "WireGuard", device: "wg9", node: addressesOf(1, 1), host: addressesOf(1, 2) },
		mtu: 1420,
		make: (node, host) => wireguard([node, "wg9"], [host, "wg9"], 51_900),
	},
	{
		...{ kind: "IP in IPv6", device: "ip6tnl9", node: addressesOf(2, 1), host: addressesOf(2, 2) },
		mtu: 1400,
		async make(node, host) {
			// What carries it is a network of its own.
			await run(
				`ip -n ${node.name} link add eth8 type veth peer name eth8 netns ${host.name}`.split(" "),
			);
			for (const [space, end] of [
				[node, 1],
				[host, 2],
			] as const)
				await space.script(`ip address add fd00:8::${end}/64 dev eth8 nodad; ip link set eth8 up
					ip link add ip6tnl9 type ip6tnl mode any encaplimit none \
						local fd00:8::${end} remote fd00:8::${3 - end}`);
		},
	},
	{
		...{ kind: "PPP", device: "ppp9", node: addressesOf(3, 1), host: addressesOf(3, 2) },
		mtu: 1400,
		async make(node, host) {
			const common =
				"local noauth nodetach noccp novj nodefaultroute ipv6 ::1,::2 mtu 1400 mru 1400";
			const peer = `nsenter --net=${host.path} pppd notty ifname ppp9 passive ${common.replace("::1,::2", "::2,::1")}`;
			const options = `ifname ppp9 ${addressesOf(3, 1)[4]}:${addressesOf(3, 2)[4]} ${common}`;
			node.spawn(["pppd", ...options.split(" "), "pty", peer], { stdio: "ignore" }).unref();
			for (const space of [node, host])
				await until(
					`ppp9 of ${space.name} to be up`,
					async () => (await space.run(["ip", "-o", "link", "show", "up", "dev", "ppp9"])).stdout,
					PATIENCE_MS,
				);
		},
	},
];

/** A WireGuard device in each of two namespaces. Their sockets stay in the guest's own. */
async function wireguard(
	one: [Namespace, string],
	other: [Namespace, string],
	port: number,
): Promise<void> {
	const key = async () => {
		const secret = (await run(["wg", "genkey"])).stdout;
		return { secret, open: (await run(["wg", "pubkey"], { input: secret })).stdout.trim() };
	};
	const ends = [
		{ end: one, ...(await key()), port, device: `wg${port}` },
		{ end: other, ...(await key()), port: port + 1, device: `wg${port + 1}` },
	];
	for (const [i, { end, secret, port, device }] of ends.entries()) {
		const peer = ends[1 - i]!;
		const [space, name] = end;
		await run(["ip", "link", "add", device, "type", "wireguard"]);
		const file = join(directory, device);
		writeFileSync(file, secret, { mode: 0o600 });
		const settings = `listen-port ${port} private-key ${file} peer ${peer.open}`;
		const all = `endpoint 127.0.0.1:${peer.port} allowed-ips 0.0.0.0/0,::/0`;
		await run(["wg", "set", device, ...`${settings} ${all}`.split(" ")]);
		await run(["ip", "link", "set", device, "netns", space.name, "name", name]);
	}
}

function nodeManifest(number: number): object {
	return {
		...{ apiVersion: "v1", kind: "Node" },
		metadata: { name: `node${number}`, annotations: transports[number] ?? {} },
		spec: { podCIDRs: [`10.244.${number}.0/24`, `fd00:10:244:${number}::/64`] },
		status: {
			addresses: [`192.168.1.${number}`, `fd00:192:168:1::${number}`].map((address) => ({
				...{ type: "InternalIP", address },
			})),
		},
	};
}

/** Annotations of the Nodes, by number. */
const transports: Record<number, Record<string, string>> = {};

function podManifest(name: string): object {
	const metadata = { name, namespace: "default" };
	return { apiVersion: "v1", kind: "Pod", metadata, spec: { nodeName: `node${name[3]}` } };
}

/** An SCTP Service whose endpoint is this Pod. */
function serviceManifests(address: Addresses, node: string): object[] {
	return [
		{
			...{ apiVersion: "v1", kind: "Service", metadata: { name: "amf", namespace: "default" } },
			spec: {
				clusterIPs: Object.values(SERVICE),
				ports: [{ name: "n2", protocol: "SCTP", port: SERVICE_PORT }],
			},
		},
		...FAMILIES.map((family) => ({
			...{ apiVersion: "discovery.k8s.io/v1", kind: "EndpointSlice" },
			metadata: {
				...{ name: `amf-${family}`, namespace: "default" },
				labels: { "kubernetes.io/service-name": "amf" },
			},
			addressType: `IPv${family}`,
			ports: [{ name: "n2", protocol: "SCTP", port: PORTS.sctp }],
			endpoints: [{ addresses: [address[family]], nodeName: node, conditions: { ready: true } }],
		})),
	];
}

const directory = mkdtempSync(join(tmpdir(), "fairway-links-"));
const config = join(directory, "config.yaml");
const sctp = process.argv[2] ?? "sctp";

function write(file: string, ...objects: object[]): void {
	const text = objects.map((object) => JSON.stringify(object)).join("\n---\n");
	writeFileSync(join(directory, file), text);
}

const configure = (settings: object) =>
	writeFileSync(
		config,
		JSON.stringify({
			...{ tunnelType: "geneve", serviceCIDRs: SERVICE_CIDRS },
			...{ fairwayProxy: { enable: true, healthServer: "" } },
			// Emulation is slow: a late answer is no path that fails.
			probes: { failoverTime: 30_000 },
			...settings,
		}),
	);

/** Until the guest ends, which waits for nobody. */
async function serveSctp(space: Namespace): Promise<void> {
	const child = space.spawn([sctp, "serve", `${PORTS.sctp}`], {
		stdio: ["ignore", "pipe", "inherit"],
	});
	await once(createInterface({ input: child.stdout! }), "line");
	child.stdout?.destroy();
	child.unref();
}

/** Data over SCTP, from a Pod. */
async function overSctp(
	shows: string,
	from: string,
	host: string,
	expected: string,
	port = PORTS.sctp,
): Promise<Row> {
	const sent = await lab.run(from, [sctp, "send", host, `${port}`, `${SCTP_BYTES}`], {
		...{ mayFail: true, timeoutMs: PATIENCE_MS },
	});
	if (sent.status !== 0) return { shows, whole: sent.stderr.trim(), seen: "", expected };
	const { whole, address } = JSON.parse(sent.stdout) as { whole: boolean; address: string };
	return { shows, whole, seen: address, expected };
}

/** Echo, TCP and UDP of all sizes, from a Pod. */
async function traffic(
	shows: string,
	from: string,
	host: string,
	expected: string,
	mtu: number,
): Promise<Row> {
	const client = await lab.station(from);
	await until(
		`an answer of ${host}: ${shows}`,
		() => client.order("udpWho", { host, port: PORTS.udp, timeoutMs: 5000 }),
		PATIENCE_MS,
	);
	const { lost } = await echo(lab, from, host, PINGS, "-W", "60", "-i", "60");
	const tcp = { host, port: PORTS.tcp, bytes: 300_000, seed: 1, timeoutMs: 60_000 };
	const sent = await client.order("tcpSend", tcp).catch(({ message }: Error) => message);
	const sizes = [1, mtu - 48, 1440, 4000];
	const udp = { host, port: PORTS.udp, sizes, seed: 2, timeoutMs: 20_000 };
	const { missing, corrupt } = await client.order("udpExchange", udp);
	const [whole, seen] = typeof sent === "string" ? [sent, ""] : [sent.whole, sent.address];
	return { shows, answered: PINGS - lost, whole, seen, expected, missing, corrupt };
}

/** Every agent reaches the others by this path, over this interface. */
async function settled(path: string, transport: string): Promise<void> {
	for (const [name, agent] of lab.agents)
		await until(
			`${name}: ${path} over ${transport}`,
			async () => {
				const status = await agent.status();
				const peers = await agent.peers();
				return (
					status.pending === 0 &&
					status.transport.interface === transport &&
					peers.length === 2 &&
					peers.every((peer) => peer.path === path)
				);
			},
			PATIENCE_MS,
		);
}

const nodes = () => write("nodes.yaml", nodeManifest(1), nodeManifest(2));
nodes();
write("pods.yaml", ...["pod1a", "pod1b", "pod2a"].map(podManifest));
configure({ trafficEncapMode: "encap" });
const lab = await Lab.up({ name: "links", manifests: directory, patienceMs: PATIENCE_MS });
const side = new Namespace("links-host");
await run(["ip", "netns", "add", side.name]);
const host = await Station.start("host", side);
try {
	const show = (row: Row) => process.stdout.write(`row: ${JSON.stringify(row)}\n`);
	const both = (machine: string): Addresses => ({
		4: lab.address(machine, 4),
		6: lab.address(machine, 6),
	});
	await side.script("ip link set lo up");
	for (const station of [host, await lab.station("pod2a")]) {
		await station.order("tcpServe", { port: PORTS.tcp });
		await station.order("udpServe", { port: PORTS.udp });
	}
	for (const space of [side, lab.namespace("pod1b"), lab.namespace("pod2a")])
		await serveSctp(space);
	write("service.yaml", ...serviceManifests(both("pod2a"), "node2"));

	// Ways out.
	for (const { kind, device, node: own, host, mtu, make } of WAYS) {
		await make(lab.namespace("node1"), side);
		for (const [space, addresses] of [
			[lab.namespace("node1"), own],
			[side, host],
		] as const)
			await space.script(`ip link set ${device} mtu ${mtu} up
				ip address replace ${addresses[4]}/24 dev ${device}
				ip address replace ${addresses[6]}/64 dev ${device} nodad`);
		for (const family of FAMILIES) {
			const shows = `out by ${kind}, IPv${family}`;
			show(await traffic(shows, "pod1a", host[family], own[family], mtu));
			if (kind === "WireGuard")
				show(await overSctp(`${shows}, SCTP`, "pod1a", host[family], own[family]));
		}
	}

	// SCTP between Pods, and by a Service.
	for (const [mode, path] of [
		["encap", "geneve"],
		["hybrid", "direct"],
	] as const) {
		configure({ trafficEncapMode: mode });
		await settled(path, "eth0");
		for (const family of FAMILIES) {
			const own = lab.address("pod1a", family);
			const to = (machine: string) => lab.address(machine, family);
			show(await overSctp(`SCTP, ${path}, IPv${family}`, "pod1a", to("pod2a"), own));
			if (path === "geneve")
				show(await overSctp(`SCTP, same Node, IPv${family}`, "pod1a", to("pod1b"), own));
			const shows = `SCTP by a Service, ${path}, IPv${family}`;
			show(await overSctp(shows, "pod1a", SERVICE[family], own, SERVICE_PORT));
		}
	}

	// The Nodes' own network.
	await wireguard([lab.namespace("node1"), "wg8"], [lab.namespace("node2"), "wg8"], 51_800);
	for (const n of [1, 2]) {
		const own = addressesOf(8, n);
		transports[n] = { "fairway.dev/transport-addresses": `${own[4]},${own[6]}` };
		await lab.namespace(`node${n}`).script(`ip link set wg8 mtu 1420 up
			ip address add ${own[4]}/24 dev wg8; ip address add ${own[6]}/64 dev wg8 nodad`);
	}
	nodes();
	for (const [mode, path] of [
		["encap", "geneve"],
		["hybrid", "direct"],
	] as const) {
		configure({ trafficEncapMode: mode, transportInterface: "wg8" });
		await settled(path, "wg8");
		for (const family of FAMILIES) {
			const own = lab.address("pod1a", family);
			const shows = `WireGuard between the Nodes, ${path}, IPv${family}`;
			show(await traffic(shows, "pod1a", lab.address("pod2a", family), own, 1350));
		}
	}

	const { kernel, problems } = await lab.agent("node1").status();
	const drops = await Promise.all(
		[...lab.agents.values()].map(async (a) => (await a.status()).drops),
	);
	process.stdout.write(`end: ${JSON.stringify({ kernel, drops, problems })}\n`);
} finally {
	host.close();
	await lab.down();
}
