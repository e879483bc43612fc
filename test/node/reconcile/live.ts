/** The kernel state that `explain` and the slow path read: FIB, sockets, sysctls, counters. */
import { spawn } from "node:child_process";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { createServer } from "node:net";
import { fileURLToPath } from "node:url";
import t from "tap";
import { BpfMap, possibleCpus } from "#native";
import { NodeSockets } from "../../../src/linux/sockets.js";
import { sysctls } from "../../../src/reconcile/host/sysctls.js";
import { noMaps } from "../../../src/tables/changes.js";
import { u32 } from "../../../src/tables/codec.js";
import {
	Fragment,
	FragmentKey,
	NextHop,
	Path,
	PeerCounter,
} from "../../../src/tables/generated.js";
import {
	buildObject,
	ip,
	makeDevices,
	openReconciler,
	pinDir,
	recordPods,
	tablesOf,
	until,
} from "./fixture.js";

const pinned = (name: string) => BpfMap.openPinned(`${pinDir}/maps/${name}`);
/** A per-CPU value with a different part for each CPU. */
const perCpu = (of: (cpu: number) => Buffer) =>
	Buffer.concat(Array.from({ length: possibleCpus() }, (_, cpu) => of(cpu)));

await makeDevices(1);
recordPods(1);
// Strict on the NIC, and a reserved port, as in distributions.
await ip.command("sysctl", "-q", "-w", "net.ipv4.conf.eth0.rp_filter=1");
await ip.command("sysctl", "-q", "-w", "net.ipv4.ip_local_reserved_ports=8080");
const reconciler = await openReconciler(buildObject("plain"));
t.teardown(() => reconciler.close());
await reconciler.apply(tablesOf({ peers: 2, pods: 1 }));
const reader = reconciler.tableReader;

t.test("the kernel's FIB", async (t) => {
	t.same(
		await ip.batch([
			"route add default via 192.168.1.254 dev eth0",
			"route add unreachable 198.51.100.0/28",
			"route add blackhole 198.51.100.16/28",
			"route add prohibit 198.51.100.32/28",
			"route add default via fd00:1::fe dev eth0",
			"neighbour add 192.168.1.254 lladdr 02:00:00:00:00:fe dev eth0",
		]),
		[],
	);
	const [nic] = await ip.query<{ ifindex: number; address: string }>("link", "show", "dev", "eth0");
	const ask = (destination: string) =>
		reader.fib({
			source: "",
			destination,
			protocol: 0,
			sourcePort: 0,
			destinationPort: 0,
			tos: 0,
			wantsSource: true,
		});
	const to = { kind: "forward", ifindex: nic?.ifindex, sourceMac: nic?.address, mtu: 1500 };
	const via = { ...to, source: "192.168.1.1" };
	await until(() => ask("203.0.113.9").kind === "forward");
	t.same(ask("203.0.113.9"), {
		...via,
		nextHop: "192.168.1.254",
		destinationMac: "02:00:00:00:00:fe",
	});
	t.same(ask("192.168.1.77"), { ...via, nextHop: "192.168.1.77" }, "on the link, not known yet");
	t.same(ask("2001:db8::1"), { ...to, source: "fd00:1::1", nextHop: "fd00:1::fe" });
	t.same(ask("192.168.1.1"), { kind: "notForwarded" }, "an address of the Node");
	for (const address of ["198.51.100.1", "198.51.100.17", "198.51.100.33"])
		t.match(ask(address), { kind: "noRoute" }, address);
	await ip.run(
		"neighbour",
		"replace",
		"192.168.1.254",
		"lladdr",
		"02:00:00:00:00:fd",
		"dev",
		"eth0",
	);
	await until(() => {
		const answer = ask("203.0.113.9");
		return answer.kind === "forward" && answer.destinationMac === "02:00:00:00:00:fd";
	});
	await ip.run("route", "del", "default");
	await until(() => ask("203.0.113.9").kind === "notForwarded");
});

t.test("the Node's sockets", async (t) => {
	const asks = (protocol: number, destination: string, destinationPort: number) =>
		new NodeSockets().has({
			source: "203.0.113.9",
			sourcePort: 443,
			destination,
			destinationPort,
			protocol,
		});
	const server = createServer().listen(50_000, "192.168.1.1");
	await once(server, "listening");
	const datagrams = createSocket("udp6").bind(50_001, "::");
	await once(datagrams, "listening");
	t.teardown(() => {
		server.close();
		datagrams.close();
	});
	t.equal(asks(6, "192.168.1.1", 50_000), true);
	t.equal(asks(6, "192.168.1.2", 50_000), false, "another address");
	t.equal(asks(6, "192.168.1.1", 50_001), false, "another port");
	t.equal(asks(17, "192.168.1.1", 50_000), false, "another protocol");
	t.equal(asks(17, "192.168.1.1", 50_001), true, "bound to :: takes IPv4 too");
	t.equal(asks(17, "fd00:1::1", 50_001), true);
	t.equal(asks(132, "192.168.1.1", 50_000), false);
});

t.test("tables that the programs write", async (t) => {
	const key: FragmentKey = {
		source: "10.244.1.2",
		destination: "203.0.113.9",
		identification: 0x12345678,
		protocol: 17,
		owner: 1,
	};
	t.equal(reader.fragment(key), undefined);
	const ports: Fragment = { sourcePort: 5000, destinationPort: 53, protocol: 17 };
	pinned("fragments").update(FragmentKey.encode(key), Fragment.encode(ports));
	t.same(reader.fragment(key), ports);

	const hop = (checked: bigint): NextHop => ({
		checked,
		destinationMac: checked,
		sourceMac: 1n,
		ifindex: 2,
		epoch: 3,
	});
	pinned("next_hops").update(u32.encode(3), NextHop.encode(hop(5n)));
	t.same(reader.nextHop(3), hop(5n));

	const counter = {
		...{ directPackets: 1n, directBytes: 100n, tunnelPackets: 2n, tunnelBytes: 300n },
		...{ directLarge: 1n, receivedPackets: 5n, receivedLarge: 4n },
		...{ receivedTunnelPackets: 3n, receivedTunnelLarge: 2n },
	};
	pinned("peer_counters").update(
		u32.encode(1),
		perCpu(() => PeerCounter.encode(counter)),
	);
	const cpus = BigInt(possibleCpus());
	const sum = Object.entries(counter).map(([field, value]) => [field, value * cpus]);
	t.same((await reconciler.readings.peerCounters()).get(1), Object.fromEntries(sum));
	t.same(reader.peerCounts(1), {
		sentPackets: Number(cpus),
		sentLarge: Number(cpus),
		receivedPackets: 2 * Number(cpus),
		receivedLarge: 2 * Number(cpus),
	});
});

t.test("sysctls: strict reverse path checks are loosened, others are left alone", async (t) => {
	const value = (path: string) => readFileSync(`/proc/sys/net/${path}`, "utf8").trim();
	t.equal(value("ipv4/conf/eth0/rp_filter"), "2");
	t.equal(value("ipv4/conf/wire0/rp_filter"), "0", "not ours");
	t.equal(value("ipv4/ip_local_reserved_ports"), "8080,49152-65535");
	await ip.command("sysctl", "-q", "-w", "net.ipv6.conf.eth0.accept_ra=1");
	t.same(sysctls.node(), { changes: [], problems: [] });
	t.equal(
		value("ipv6/conf/eth0/accept_ra"),
		"1",
		"whoever set it while forwarding was on meant it",
	);
	t.same(sysctls.podInterface("fairwayffffffff").changes, [], "a device that is gone");
});

t.test(
	"snat.portRange: a former range is given back, one that takes too much is not used",
	async (t) => {
		const reserved = () =>
			readFileSync("/proc/sys/net/ipv4/ip_local_reserved_ports", "utf8").trim();
		const tables = tablesOf({ peers: 3, pods: 2 });
		const withPorts = (snatPortFirst: number, snatPortLast: number) => ({
			...tables,
			nodeConfig: { ...tables.nodeConfig, snatPortFirst, snatPortLast },
		});
		t.match(await reconciler.apply(withPorts(62_000, 65_000)), { pending: 0 });
		t.equal(reserved(), "8080,62000-65000");
		t.match(await reconciler.apply(withPorts(1024, 65_535)), { pending: 1, ready: true });
		t.match(reconciler.problems(), [
			/^Cannot use 1024-65535 as snat\.portRange: .*, got 0; SNAT uses 62000-65000$/,
		]);
		t.equal(reserved(), "8080,62000-65000");
		t.match(reader.nodeConfig(), { snatPortFirst: 62_000, snatPortLast: 65_000 });
		t.match(await reconciler.apply(withPorts(50_000, 59_999)), { pending: 0 });
		t.equal(reserved(), "8080,50000-59999");
		t.match(reader.nodeConfig(), { snatPortFirst: 50_000, snatPortLast: 59_999 });
	},
);

t.test("a path changes at once, without an apply and while one is under way", async (t) => {
	const tables = tablesOf({ peers: 3, pods: 2 });
	t.match(await reconciler.apply(tables), { pending: 0 });
	const geneve = tables.peers.get(2)!;
	const direct = { ...geneve, path: Path.DIRECT, port: 0, vni: 0, local: "", mtu: 1500 };
	const path = (index: number) => reader.peer(index)?.path;
	reconciler.putPath(2, direct);
	t.equal(path(2), Path.DIRECT);
	t.equal(path(0), Path.GENEVE, "the others stay");
	const nothing = { whole: false as const, values: {}, maps: noMaps() };
	t.match(await reconciler.change(nothing), { writes: 0 }, "it is what is wanted from now on");
	t.equal(path(2), Path.DIRECT);

	// An apply with older knowledge does not take it back.
	const older = { ...tables, peers: new Map([...tables.peers, [2, direct] as const]) };
	const applied = reconciler.apply(older);
	reconciler.putPath(2, geneve);
	t.equal(path(2), Path.GENEVE);
	await applied;
	t.equal(path(2), Path.GENEVE);

	reconciler.putPath(2, { ...direct, nodeHash: 99n });
	t.equal(path(2), Path.GENEVE, "an entry that is another Node's is left alone");
	const epoch = reader.nodeConfig()?.nextHopEpoch;
	reconciler.putPath(2, { ...geneve, remote: "172.16.9.9" });
	t.equal(reader.nodeConfig()?.nextHopEpoch, epoch! + 1, "its next hop is asked for again");
});

t.test("ip monitor does not outlive an agent that is killed", async (t) => {
	const monitor = fileURLToPath(new URL("../../../src/linux/monitor.ts", import.meta.url));
	const iproute = fileURLToPath(new URL("../../../src/linux/iproute.ts", import.meta.url));
	const script = `
		const { NetworkMonitor } = await import(${JSON.stringify(monitor)});
		const { IpRoute } = await import(${JSON.stringify(iproute)});
		console.log(new NetworkMonitor(new IpRoute(), console).pid);`;
	const agent = spawn(process.execPath, ["--import=tsx", "--input-type=module", "--eval", script], {
		stdio: ["ignore", "pipe", "inherit"],
	});
	const [text] = await once(agent.stdout, "data");
	const child = Number(String(text));
	const runs = () =>
		existsSync(`/proc/${child}/cmdline`) && readFileSync(`/proc/${child}/cmdline`).length > 0;
	await until(() => readFileSync(`/proc/${child}/cmdline`, "utf8").startsWith("ip\0"));
	agent.kill("SIGKILL");
	await until(() => !runs());
	t.pass("it has ended");
});
