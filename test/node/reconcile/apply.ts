/** First apply, no change, small changes. */
import t, { type Test } from "tap";
import { BpfLink, BpfMap } from "#native";
import { maps, NodeConfig, Peer } from "../../../src/tables/generated.js";
import {
	buildObject,
	ip,
	makeDevices,
	memoryLog,
	openReconciler,
	pinDir,
	podInterface,
	recordPods,
	tablesOf,
} from "./fixture.js";

interface IpRouteEntry {
	dst: string;
	dev: string;
	prefsrc?: string;
	metrics?: { mtu: number }[];
}

const pinned = (name: string) => BpfMap.openPinned(`${pinDir}/maps/${name}`);
const nodeConfig = () => NodeConfig.decode(pinned("node_config").lookup(Buffer.alloc(4))!);
const routesOf170 = (family: string) =>
	ip.query<IpRouteEntry>(family, "route", "show", "proto", "170");

await makeDevices(2);
recordPods(2);
const log = memoryLog();
const reconciler = await openReconciler(buildObject("plain"), { log });
t.teardown(() => reconciler.close());
const tables = tablesOf({ peers: 3, pods: 2 });

t.test("before the first apply nothing is attached and no peer is known", async (t) => {
	t.same(reconciler.readings.adoptedPeers(), []);
	t.equal(reconciler.xdpMode(), "off");
	t.equal(reconciler.tableReader.nodeConfig(), undefined);
	const { interfaces, routes } = await reconciler.readNetwork();
	t.same(interfaces.map(({ name }) => name).sort(), ["eth0", "lo", "pod0", "pod1", "wire0"]);
	const nic = interfaces.find(({ name }) => name === "eth0");
	t.match(nic, { kind: "veth", mtu: 1500, up: true, mac: /^([0-9a-f]{2}:){5}[0-9a-f]{2}$/ });
	t.same(nic?.addresses[0], { address: "192.168.1.1", prefixLength: 24 });
	t.same(
		routes.find(({ prefix }) => prefix === "192.168.1.0/24"),
		{ prefix: "192.168.1.0/24", device: "eth0", source: "192.168.1.1", metric: 0 },
	);
});

t.test("the first apply creates everything", async (t) => {
	const applied = await reconciler.apply(tables);
	t.same(reconciler.problems(), []);
	t.match(applied, { pending: 0, ready: true });

	t.test("fairway0", async (t) => {
		const [device] = await ip.query<Record<string, unknown>>("address", "show", "dev", "fairway0");
		t.match(device, { address: "02:00:00:00:00:aa", mtu: 1500 });
		const addresses = (device?.addr_info ?? []) as {
			local: string;
			prefixlen: number;
			tentative?: boolean;
		}[];
		t.same(
			addresses.map(({ local, prefixlen, tentative }) => [local, prefixlen, tentative === true]),
			[
				["10.244.1.1", 32, false],
				["fd00:10:244:1::1", 128, false],
			],
		);
		const flags = device?.flags as string[];
		t.ok(flags.includes("NOARP") && flags.includes("UP"), flags.join(" "));
		t.equal(nodeConfig().hostIfindex, device?.ifindex);
	});

	t.test("maps", async (t) => {
		const {
			routeEpoch,
			nextHopEpoch,
			hostIfindex,
			flowHash,
			portHash,
			probeKey,
			strippedMac,
			...config
		} = nodeConfig();
		t.same(config, tables.nodeConfig);
		t.notSame(flowHash, portHash, "who knows SNAT ports knows no slots");
		t.equal(strippedMac & 3n, 2n, "a MAC that no NIC has");
		t.ok(probeKey[0] !== probeKey[1] && !probeKey.includes(0n), "a key that nobody knows");
		const way = Buffer.from([7, 0, 0, 0]);
		t.same(Peer.decode(pinned("peer_paths").lookup(way)!), tables.peerPaths.get(7));
		const gateway = maps.peerGateways.key.encode("10.100.2.1");
		t.same(pinned("peer_gateways").lookup(gateway), Buffer.from([2, 0, 0, 0]));
		t.equal(pinned("peer_addresses").entries().keys.length / maps.peerAddresses.keySize, 3);
		const index = Buffer.from([3, 0, 0, 0]);
		t.same(Peer.decode(pinned("peers").lookup(index)!), tables.peers.get(3));
		t.same(reconciler.tableReader.route("10.100.2.77"), { kind: 3, flags: 0, mtu: 0, peer: 2 });
		t.equal(reconciler.tableReader.route("8.8.8.8"), undefined);
		const [link] = await ip.query<{ ifindex: number }>("link", "show", "dev", podInterface(1));
		t.same(reconciler.tableReader.endpoint("10.244.1.3"), {
			ifindex: link?.ifindex,
			mac: "02:00:00:00:01:01",
			index: 2,
			egressPolicy: 0,
			ingressPolicy: 0,
		});
	});

	t.test("programs", async (t) => {
		t.equal(reconciler.xdpMode(), "native");
		const [nic] = await ip.query<{ ifindex: number; xdp?: unknown }>("link", "show", "dev", "eth0");
		t.ok(nic?.xdp, "the kernel says that XDP is on the NIC");
		const link = BpfLink.openPinned(`${pinDir}/links/from_wire-${nic?.ifindex}`);
		t.match(link.info, { ifindex: nic?.ifindex, attachType: 46 });
		t.ok(
			log.lines.some(({ facts }) => facts.interface === "eth0" && facts.xdp === "native"),
			"what was taken is logged",
		);
		t.match(
			log.lines.find(({ message }) => message === "loaded BPF programs")?.facts,
			{ vethWire: true, flowSlots: 1024 },
			"the NIC is a veth, and the programs know",
		);
		t.match(await ip.command("ethtool", "-k", "eth0"), /generic-receive-offload: on/);
	});

	t.test("kernel routes", async (t) => {
		const [v4, v6] = [await routesOf170("-4"), await routesOf170("-6")];
		t.same(v4.map(({ dst }) => dst).sort(), [
			"10.100.0.0/24",
			"10.100.1.0/24",
			"10.100.2.0/24",
			"10.244.1.2",
			"10.244.1.3",
		]);
		t.match(
			v6.find(({ dst }) => dst === "fd00:20:2::/64"),
			{ dev: "fairway0", prefsrc: "fd00:10:244:1::1", metrics: [{ mtu: 1450 }] },
		);
		const neighbours = await ip.query(
			"neighbour",
			"show",
			"nud",
			"permanent",
			"dev",
			podInterface(0),
		);
		t.match(neighbours, [{ dst: "10.244.1.2", lladdr: "02:00:00:00:01:00" }]);
		const mine = (await reconciler.readNetwork()).routes;
		t.notOk(
			mine.some(({ device }) => device === "fairway0"),
			"not part of the network's facts",
		);
	});

	t.test("sysctls", async (t) => {
		const value = (name: string) => ip.command("sysctl", "-n", name);
		t.equal((await value("net.ipv4.ip_forward")).trim(), "1");
		t.equal((await value("net.ipv6.conf.all.forwarding")).trim(), "1");
		t.equal((await value("net.ipv6.conf.eth0.accept_ra")).trim(), "2");
		t.equal((await value("net.ipv4.ip_local_reserved_ports")).trim(), "49152-65535");
	});
});

t.test("nothing changed: nothing is written", async (t) => {
	const before = nodeConfig();
	t.match(await reconciler.apply(tables), { writes: 0, pending: 0 });
	t.match(
		await reconciler.apply(tablesOf({ peers: 3, pods: 2 })),
		{ writes: 0 },
		"equal by content",
	);
	t.equal(nodeConfig().routeEpoch, before.routeEpoch);
});

t.test("a change of path is one write without a route epoch", async (t) => {
	const before = nodeConfig();
	const peers = new Map(tables.peers).set(2, { ...tables.peers.get(2)!, path: 1, mtu: 1500 });
	t.match(await reconciler.apply({ ...tables, peers }), { writes: 1, pending: 0 });
	t.equal(reconciler.tableReader.peer(2)?.path, 1);
	t.equal(nodeConfig().routeEpoch, before.routeEpoch);
});

t.test("probe paths are written and removed without a route epoch", async (t) => {
	await reconciler.apply(tables);
	const before = nodeConfig();
	const [key, first] = [7, tables.peerPaths.get(7)!];
	const peerPaths = new Map(tables.peerPaths).set(key - 1, { ...first, path: 1, mtu: 1500 });
	const peerGateways = new Map(tables.peerGateways).set("10.99.0.1", 1);
	t.match(await reconciler.apply({ ...tables, peerPaths, peerGateways }), {
		writes: 2,
		pending: 0,
	});
	t.equal(reconciler.tableReader.peerPath(6)?.path, 1);
	t.equal(reconciler.tableReader.peerGateway("10.99.0.1"), 1);
	t.match(await reconciler.apply(tables), { writes: 2, pending: 0 });
	t.notOk(reconciler.tableReader.peerPath(6)?.path, "an array's entry is cleared");
	t.equal(reconciler.tableReader.peerGateway("10.99.0.1"), undefined);
	t.equal(nodeConfig().routeEpoch, before.routeEpoch);
	t.same(nodeConfig().probeKey, before.probeKey);
});

t.test("a route, an endpoint, an owner of a peer id: a new route epoch each", async (t) => {
	await reconciler.apply(tables);
	let epoch = nodeConfig().routeEpoch;
	const raised = (t: Test, what: string) => {
		const now = nodeConfig().routeEpoch;
		t.equal(now, epoch + 1, what);
		epoch = now;
	};
	const routes = new Map(tables.routes).set("10.9.0.0/16", {
		kind: 2,
		flags: 0,
		mtu: 0,
		peer: 0xffffffff,
	});
	// The entry, and node_config.
	t.match(await reconciler.apply({ ...tables, routes }), { writes: 2 });
	raised(t, "a route came");
	await reconciler.apply(tables);
	raised(t, "it went");
	const endpoints = new Map(tables.endpoints);
	endpoints.delete("10.244.1.3");
	await reconciler.apply({ ...tables, endpoints });
	raised(t, "an endpoint went");
	t.same(await ip.query("route", "show", "10.244.1.3"), [], "and its route");
	const peers = new Map(tables.peers).set(2, { ...tables.peers.get(2)!, nodeHash: 99n });
	await reconciler.apply({ ...tables, endpoints, peers });
	raised(t, "an id changed its Node");
	await reconciler.apply(tables);
});

t.test("the other settings of XDP", async (t) => {
	await reconciler.apply({ ...tables, xdp: "generic" });
	t.equal(reconciler.xdpMode(), "generic");
	await reconciler.apply({ ...tables, xdp: "off" });
	t.equal(reconciler.xdpMode(), "off");
	const [nic] = await ip.query<{ xdp?: unknown }>("link", "show", "dev", "eth0");
	t.equal(nic?.xdp, undefined);
	await reconciler.apply({ ...tables, xdp: "native" });
	t.equal(reconciler.xdpMode(), "native");
	t.same(reconciler.problems(), []);
});

t.test("counters are named", async (t) => {
	const { drops, events } = reconciler.readings.counters();
	const peers = await reconciler.readings.peerCounters();
	t.equal(drops.spoofed_mac, 0n);
	t.notOk("none" in drops);
	t.type(events.untracked, "bigint");
	t.same([...peers.keys()].sort(), [0, 1, 2, 3, 4, 5]);
	t.match(peers.get(0), { directPackets: 0n, tunnelBytes: 0n });
});

t.test("a thousand Nodes, dual stack", async (t) => {
	const many = tablesOf({ peers: 1000, pods: 2 });
	t.match(await reconciler.apply(many), { pending: 0, ready: true });
	t.same(reconciler.problems(), []);
	t.same(reconciler.tableReader.route("10.103.231.9"), { kind: 3, flags: 0, mtu: 0, peer: 999 });
	t.equal((await routesOf170("-6")).length, 1000);
	t.match(await reconciler.apply(many), { writes: 0 });
	await reconciler.apply(tables);
	t.equal(reconciler.tableReader.peer(1999)?.path, 0);
	t.equal((await routesOf170("-6")).length, 3);
});
