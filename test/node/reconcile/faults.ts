/** Refused writes stay pending; removed objects are noticed and restored. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import t from "tap";
import { BpfLink, BpfMap, BpfObject, clsact, supportsTcx } from "#native";
import { FILTER_HANDLE, FILTER_PRIORITY, HOST_DEVICE } from "../../../src/linux/names.js";
import { Links } from "../../../src/reconcile/links.js";
import { Hooks } from "../../../src/reconcile/programs/hooks.js";
import { Pins } from "../../../src/reconcile/programs/pins.js";
import { Wire } from "../../../src/reconcile/programs/wire.js";
import { u32 } from "../../../src/tables/codec.js";
import { NodeConfig, RouteKind } from "../../../src/tables/generated.js";
import {
	buildObject,
	directory,
	ip,
	makeDevices,
	memoryLog,
	openReconciler,
	pinDir,
	podInterface,
	podLines,
	recordPods,
	tablesOf,
	until,
} from "./fixture.js";

interface Link {
	ifname: string;
	ifindex: number;
	xdp?: unknown;
}

const links = () => ip.query<Link>("link", "show");
const named = async (name: string) => (await links()).find(({ ifname }) => ifname === name);
const attached = (program: string, ifindex: number | undefined) =>
	existsSync(`${pinDir}/links/${program}-${ifindex}`);
const nextHopEpoch = () =>
	NodeConfig.decode(BpfMap.openPinned(`${pinDir}/maps/node_config`).lookup(Buffer.alloc(4))!)
		.nextHopEpoch;

await makeDevices(2);
recordPods(2);
const object = buildObject("small", {
	edit: (file, text) =>
		file === "tables.h"
			? text
					.replace("ROUTES_MAX = 65536", "ROUTES_MAX = 20")
					.replace("ENDPOINTS_MAX = 4096", "ENDPOINTS_MAX = 3")
			: text,
});
const log = memoryLog();
let reconciler = await openReconciler(object, { log });
t.teardown(() => reconciler.close());
const tables = tablesOf({ peers: 3, pods: 2 });
await reconciler.apply(tables);

t.test("a full map is a problem, and everything else works", async (t) => {
	const many = tablesOf({ peers: 15, pods: 2 }); // 31 routes
	const applied = await reconciler.apply(many);
	t.match(applied, { pending: 1, ready: true });
	t.match(reconciler.problems(), [
		/^Cannot write routes entry .*: the map is full \(20 entries\) \(and 10 more\)$/,
	]);
	t.ok(reconciler.tableReader.peer(29), "peers are all there");
	t.equal((await ip.query("-6", "route", "show", "dev", "fairway0", "proto", "170")).length, 15);

	const epoch = reconciler.tableReader.nodeConfig()?.routeEpoch;
	t.match(await reconciler.apply(many), { pending: 1 }, "only the rest is tried again");
	t.equal(reconciler.tableReader.nodeConfig()?.routeEpoch, epoch);

	// Room is made from outside; the retry writes the rest without another apply.
	const routes = BpfMap.openPinned(`${pinDir}/maps/routes`);
	routes.deleteBatch(routes.entries().keys.subarray(0, 11 * 20));
	await until(() => reconciler.problems().length === 0);
	t.match(await reconciler.apply(tables), { pending: 0 });
	t.same(reconciler.problems(), []);
	await reconciler.close();
	reconciler = await openReconciler(object, { log, lookEveryMs: 200 });
	await reconciler.apply(tables);
});

t.test(
	"a Pod is attached when its programs and all its entries are there, and not before",
	async (t) => {
		t.match(reconciler.podProblem("fairwayffffffff"), /no such interface/, "one that nobody knows");
		t.equal(reconciler.podProblem(podInterface(0)), undefined);
		const endpoint = (n: number) => ({ interface: podInterface(n), mac: "02:00:00:00:01:00" });
		const endpoints = new Map(tables.endpoints)
			.set("fd00:10:244:1::2", endpoint(0))
			.set("fd00:10:244:1::3", endpoint(1));
		t.match(await reconciler.apply({ ...tables, endpoints }), { pending: 1, ready: true });
		const full = /^Cannot write endpoints entry .*: the map is full \(3 entries\)/;
		const problems = [0, 1].map((n) => reconciler.podProblem(podInterface(n)));
		t.equal(
			problems.filter((problem) => problem !== undefined).length,
			1,
			"one of two had no room",
		);
		t.match(problems.find(Boolean), full);
		await reconciler.apply(tables);
		t.equal(reconciler.podProblem(podInterface(1)), undefined);

		// Programs that cannot be had now: no Pod may be believed attached.
		const { read } = Links;
		Links.read = () => Promise.reject(new Error("Cannot read links: no memory"));
		try {
			t.match(await reconciler.apply(tables), { ready: false });
			t.match(reconciler.podProblem(podInterface(1)), /Cannot read links: no memory/);
		} finally {
			Links.read = read;
		}
		await reconciler.apply(tables);
		t.equal(reconciler.podProblem(podInterface(1)), undefined);
	},
);

t.test("a pass that throws is a problem, and is run again", async (t) => {
	const { attach } = Wire.prototype;
	Wire.prototype.attach = () => Promise.reject(new Error("Cannot attach: no descriptors left"));
	try {
		t.match(await reconciler.apply(tables), { pending: 1, ready: false });
		t.match(reconciler.problems(), ["Cannot attach: no descriptors left"]);
		t.match(reconciler.podProblem(podInterface(0)), /no descriptors left/);
	} finally {
		Wire.prototype.attach = attach;
	}
	await until(() => reconciler.problems().length === 0);
	t.equal(reconciler.podProblem(podInterface(0)), undefined);
});

t.test("what others do without a message of the kernel's is found and put right", async (t) => {
	const { ifindex: pod } = (await named(podInterface(0))) ?? { ifindex: 0 };
	const filter = () => clsact.query(pod, "ingress", FILTER_PRIORITY, FILTER_HANDLE);
	t.ok(filter());
	clsact.detach(pod, "ingress", FILTER_PRIORITY, FILTER_HANDLE);
	t.notOk(filter());
	await until(() => filter() !== undefined);
	if (supportsTcx()) {
		const { ifindex } = (await named(HOST_DEVICE)) ?? { ifindex: 0 };
		const link = () => BpfLink.openPinned(`${pinDir}/links/from_host-${ifindex}`).info;
		t.equal(link().ifindex, ifindex);
		const before = link().id;
		BpfLink.openPinned(`${pinDir}/links/from_host-${ifindex}`).detach();
		t.equal(link().ifindex, 0);
		await until(() => link().ifindex === ifindex);
		t.not(link().id, before);
	}

	const map = (name: string) => BpfMap.openPinned(`${pinDir}/maps/${name}`);
	const peers = map("peers");
	const peer = peers.lookup(u32.encode(2));
	const epoch = reconciler.tableReader.nodeConfig()?.routeEpoch;
	peers.update(u32.encode(2), Buffer.alloc(peers.info.valueSize));
	peers.update(u32.encode(30_000), Buffer.alloc(peers.info.valueSize, 1));
	map("endpoints").delete(map("endpoints").entries().keys.subarray(0, 16));
	await until(
		() =>
			peers.lookup(u32.encode(2))?.equals(peer ?? Buffer.alloc(0)) === true &&
			peers.lookup(u32.encode(30_000))?.every((byte) => byte === 0) === true &&
			reconciler.tableReader.endpoint("10.244.1.2") !== undefined &&
			reconciler.tableReader.endpoint("10.244.1.3") !== undefined,
	);
	t.not(reconciler.tableReader.nodeConfig()?.routeEpoch, epoch, "flows look again");
	t.same(reconciler.problems(), []);
	t.ok(log.lines.some(({ message }) => message === "map entries were changed by someone else"));
});

t.test("a Pod's interface that is set down is set up again", async (t) => {
	await ip.run("link", "set", "dev", podInterface(0), "down");
	await until(async () => {
		const [link] = await ip.query<{ flags: string[] }>("link", "show", "dev", podInterface(0));
		return link?.flags.includes("UP") === true;
	});
	await until(async () => (await ip.query("route", "show", "10.244.1.2")).length === 1);
	await until(() => reconciler.problems().length === 0);
	t.equal(reconciler.podProblem(podInterface(0)), undefined);
});

t.test("the NIC is recreated: programs are attached again", async (t) => {
	const before = await named("eth0");
	t.ok(attached("from_wire", before?.ifindex));
	const changes: number[] = [];
	const watch = reconciler.watchNetwork(() => changes.push(1));
	await ip.run("link", "del", "dev", "eth0");
	await until(() => reconciler.problems().length > 0);
	t.match(reconciler.problems(), [/Cannot attach from_wire to eth0: there is no such interface/]);
	await until(() => changes.length > 0);
	t.notOk(attached("from_wire", before?.ifindex), "its links are gone");
	await ip.batch([
		"link add name eth0 type veth peer name wire0",
		"link set dev eth0 up",
		"link set dev wire0 up",
		"address add 192.168.1.1/24 dev eth0",
	]);
	await until(() => reconciler.problems().length === 0);
	const after = await named("eth0");
	t.not(after?.ifindex, before?.ifindex);
	t.ok(attached("from_wire", after?.ifindex));
	t.ok(after?.xdp);
	t.equal(reconciler.xdpMode(), "native");
	watch.close();
});

t.test("a Pod's interface is removed and recreated with the same name", async (t) => {
	const before = reconciler.tableReader.endpoint("10.244.1.3");
	const said = log.lines.length;
	await ip.run("link", "del", "dev", podInterface(1));
	await until(() => reconciler.tableReader.endpoint("10.244.1.3") === undefined);
	await reconciler.apply(tables);
	const loud = log.lines.slice(said).filter(({ level }) => level === "error" || level === "warn");
	t.same(loud, [], "that is how Pods end");
	t.same(reconciler.problems(), [], "and nothing is tried again");
	t.match(reconciler.podProblem(podInterface(1)), /is gone/);
	await ip.batch(podLines(1));
	await until(() => reconciler.tableReader.endpoint("10.244.1.3") !== undefined);
	const after = reconciler.tableReader.endpoint("10.244.1.3");
	t.not(after?.ifindex, before?.ifindex);
	await until(() =>
		(["ingress", "egress"] as const).every(
			(side) =>
				clsact.query(after?.ifindex ?? 0, side, FILTER_PRIORITY, FILTER_HANDLE) !== undefined,
		),
	);
	await until(async () => (await ip.query("route", "show", "10.244.1.3")).length === 1);
});

t.test("fairway0 is removed: it is recreated with its routes", async (t) => {
	await ip.run("link", "del", "dev", "fairway0");
	const routes = () => ip.query("route", "show", "dev", "fairway0", "proto", "170");
	await until(async () => (await named("fairway0")) !== undefined && (await routes()).length === 3);
	const index = (await named("fairway0"))?.ifindex;
	await until(() => reconciler.tableReader.nodeConfig()?.hostIfindex === index);
	await until(() => attached("from_host", index));
	t.same(reconciler.problems(), []);
});

t.test("link down removes routes: they are restored", async (t) => {
	const routes = async () => (await ip.query("route", "show", "proto", "170")).length;
	const before = await routes();
	await ip.batch([
		`link set dev ${podInterface(0)} down`,
		`link set dev ${podInterface(0)} up`,
		"route del 10.100.1.0/24 dev fairway0",
		"address del 10.244.1.1/32 dev fairway0",
	]);
	await until(async () => (await routes()) === before);
	await until(async () => {
		const text = JSON.stringify(await ip.query("address", "show", "dev", "fairway0"));
		return text.includes("10.244.1.1");
	});
	t.same(reconciler.problems(), []);
});

t.test("ip monitor is restarted if it dies, and nothing is missed", async (t) => {
	const child = readdirSync("/proc/self/task")
		.flatMap((task) => readChildren(task))
		.find(({ command }) => command.includes("monitor"));
	t.ok(child);
	process.kill(child?.pid ?? 0, "SIGKILL");
	await ip.run("route", "del", "10.100.2.0/24", "dev", "fairway0");
	await until(async () => (await ip.query("route", "show", "10.100.2.0/24")).length === 1);
});

t.test("next hops are resolved again when the kernel's answer may differ", async (t) => {
	const raised = async (what: string, ...lines: string[]) => {
		const before = nextHopEpoch();
		t.same(await ip.batch(lines), []);
		await until(() => nextHopEpoch() !== before);
		t.pass(what);
	};
	await raised("a route", "route add 203.0.113.0/24 via 192.168.1.9 dev eth0");
	t.same(await ip.batch(["neighbour add 192.168.1.9 lladdr 02:00:00:00:09:01 dev eth0"]), []);
	await raised(
		"a neighbour's MAC",
		"neighbour replace 192.168.1.9 lladdr 02:00:00:00:09:02 dev eth0",
	);
	await raised("its end", "neighbour del 192.168.1.9 dev eth0");
	await raised("a link", "link set dev eth0 mtu 1400");
});

t.test("an entry that cannot be encoded affects no other", async (t) => {
	const routes = new Map(tables.routes)
		.set("10.50.0.0/99", { kind: RouteKind.HOST, flags: 0, mtu: 0, peer: 0 })
		.set("10.51.0.0/16", { kind: RouteKind.HOST, flags: 0, mtu: 0, peer: 0xffffffff });
	t.match(await reconciler.apply({ ...tables, routes }), { pending: 1, ready: true });
	t.match(reconciler.problems(), [/10\.50\.0\.0\/99/]);
	t.equal(reconciler.tableReader.route("10.51.9.9")?.kind, RouteKind.HOST);
	t.match(await reconciler.apply(tables), { pending: 0 });
});

t.test("XDP refused by a device: a problem with native, not with auto", async (t) => {
	// A bridge has no native XDP.
	await ip.batch(["link add name br0 type bridge", "link set dev br0 up"]);
	const wireInterfaces = ["eth0", "br0"];
	const auto = { ...tables, wireInterfaces, xdp: "auto" as const };
	t.match(await reconciler.apply(auto), { pending: 0, ready: true });
	t.equal(reconciler.xdpMode(), "off", "the least of both");
	t.match(await reconciler.apply({ ...tables, wireInterfaces, xdp: "native" }), { pending: 1 });
	t.match(reconciler.problems(), [/Cannot attach from_wire_xdp \(native\) to br0/]);
	t.match(await reconciler.apply(tables), { pending: 0 });
	t.notOk(attached("from_wire", (await named("br0"))?.ifindex), "no longer a wire interface");
});

t.test("without tcx: filters of clsact", async (t) => {
	const loaded = BpfObject.open(object);
	loaded.load();
	const names = ["from_pod", "from_wire", "to_pod", "from_host"] as const;
	const programs = new Map(names.map((name) => [name, loaded.program(name)]));
	const pins = await Pins.open(`${directory}/pins/fairway/clsact`);
	const attached = new Hooks(pins, memoryLog(), false);
	await ip.batch(["link add name wire5 type veth peer name far5", "link set dev wire5 up"]);
	const device = { name: "wire5", ifindex: (await named("wire5"))?.ifindex ?? 0 };
	const hooks = [
		{ program: "from_wire", device },
		{ program: "from_host", device },
	] as const;
	t.same(attached.attach(hooks, programs), { writes: 2, failures: [] });
	t.same(attached.attach(hooks, programs), { writes: 0, failures: [] });
	const query = (direction: "ingress" | "egress") =>
		clsact.query(device.ifindex, direction, FILTER_PRIORITY, FILTER_HANDLE)?.programId;
	t.equal(query("ingress"), programs.get("from_wire")?.info.id);
	t.equal(query("egress"), programs.get("from_host")?.info.id);

	const next = new Map(programs).set("from_wire", programs.get("from_pod")!);
	t.same(attached.attach(hooks, next), { writes: 1, failures: [] }, "a filter is replaced");
	t.equal(query("ingress"), programs.get("from_pod")?.info.id);

	const later = new Hooks(pins, memoryLog(), false);
	later.adoptFilters([device]);
	const other = [{ program: "from_pod", device }] as const;
	t.same(later.attach(other, programs), { writes: 0, failures: [] }, "that very program");
	t.equal(later.sweep(other, []), 1, "a later agent knows the other one");
	t.equal(query("ingress"), programs.get("from_pod")?.info.id, "and leaves what is wanted");
	t.equal(query("egress"), undefined);
	t.equal(later.sweep([], []), 1);
	t.equal(query("ingress"), undefined);
	loaded.close();
});

function readChildren(task: string): { pid: number; command: string }[] {
	const pids = readText(`/proc/self/task/${task}/children`).trim();
	if (pids === "") return [];
	return pids.split(" ").map((pid) => ({
		pid: Number(pid),
		command: readText(`/proc/${pid}/cmdline`).replaceAll("\0", " "),
	}));
}

function readText(path: string): string {
	try {
		return readFileSync(path, "utf8");
	} catch {
		return ""; // The process has ended.
	}
}
