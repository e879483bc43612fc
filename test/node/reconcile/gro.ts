/** A NIC without XDP: fairway1 makes the kernel merge tunnel packets, and offloads are set for TC. */
import { execFileSync } from "node:child_process";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import t from "tap";
import { offloadsFor } from "../../../src/reconcile/host/offloads.js";
import {
	buildObject,
	ip,
	makeDevices,
	memoryLog,
	openReconciler,
	tablesOf,
	until,
} from "./fixture.js";

interface Link {
	ifindex: number;
	flags: string[];
	inet6_addr_gen_mode?: string;
	linkinfo?: { info_data?: Record<string, unknown> };
}

const device = async (): Promise<Link | undefined> =>
	(await ip.query<Link & { ifname: string }>("-details", "link", "show")).find(
		({ ifname }) => ifname === "fairway1",
	);
const port = async () => (await device())?.linkinfo?.info_data?.port;
/** Local addresses and ports of UDP sockets. */
const sockets = () =>
	execFileSync("ss", ["-Hlun"], { encoding: "utf8" })
		.split("\n")
		.flatMap((line) => line.trim().split(/\s+/)[3] ?? [])
		.sort();
const features = async () => {
	const text = await ip.command("ethtool", "-k", "eth0");
	const of = (name: string) => new RegExp(`^\\s*${name}: (on|off)`, "m").exec(text)?.[1];
	return ["rx-udp-gro-forwarding", "rx-gro-list", "tx-udp-segmentation"].map(of);
};

await makeDevices();
const log = memoryLog();
const reconciler = await openReconciler(buildObject("plain"), { log });
t.teardown(() => reconciler.close());
const tables = { ...tablesOf(), xdp: "auto" as const };
const said = (text: RegExp) => log.lines.filter(({ message }) => text.test(message)).length;

t.test("auto on a veth: no XDP, and tunnel packets are merged", async (t) => {
	await ip.command("ethtool", "-K", "eth0", "rx-udp-gro-forwarding", "on", "rx-gro-list", "on");
	t.match(await reconciler.apply(tables), { pending: 0, ready: true });
	t.equal(reconciler.xdpMode(), "off");
	t.equal(said(/it would copy every packet/), 1);
	t.match(await device(), { inet6_addr_gen_mode: "none" }, "no address, and none comes by itself");
	t.match((await device())?.linkinfo?.info_data, { port: 6081, external: true, vnifilter: true });
	t.same(sockets(), ["0.0.0.0:6081", "[::]:6081"], "GRO looks for a socket of either family");
	t.same(await features(), ["off", "off", "off"]);
	t.equal((await reconciler.apply(tables)).writes, 0, "nothing more to do");
	t.equal(said(/it would copy every packet/), 1);
});

t.test("fairway1 follows the port, the mode and XDP", async (t) => {
	await reconciler.apply({ ...tables, tunnelPort: 4789 });
	t.same(sockets(), ["0.0.0.0:4789", "[::]:4789"]);
	await reconciler.apply({ ...tables, tunnelPort: 0 });
	t.equal(await device(), undefined, "no tunnels");
	await reconciler.apply(tables);
	t.equal(await port(), 6081);
	await reconciler.apply({ ...tables, xdp: "native" });
	t.equal(await device(), undefined, "XDP strips tunnels before GRO");
	t.same(sockets(), []);
	await reconciler.apply({ ...tables, xdp: "off" });
	t.equal(await port(), 6081);
});

t.test("fairway1 is restored when it is removed or set down", async (t) => {
	await ip.run("link", "del", "dev", "fairway1");
	await until(async () => (await port()) === 6081);
	await ip.run("link", "set", "dev", "fairway1", "down");
	await until(async () => (await device())?.flags.includes("UP") === true);
	t.same(sockets(), ["0.0.0.0:6081", "[::]:6081"]);
});

t.test("a restart adopts fairway1", async (t) => {
	const before = (await device())?.ifindex;
	const second = await openReconciler(buildObject("plain"));
	await second.apply(tables);
	t.equal((await device())?.ifindex, before);
	await second.close();
});

t.test("a port in use is logged once and is not a problem", async (t) => {
	const holder = createSocket("udp4").bind(7000);
	t.teardown(() => holder.close());
	await once(holder, "listening");
	for (let n = 0; n < 3; n++)
		t.match(await reconciler.apply({ ...tables, tunnelPort: 7000 }), { pending: 0, ready: true });
	t.equal(await device(), undefined);
	t.equal(said(/^GRO for tunnels unavailable/), 1);
	t.same(reconciler.problems(), []);
	await reconciler.apply(tables);
	t.equal(await port(), 6081);
});

t.test("offloads, by situation", async (t) => {
	const wanted = (...[situation]: Parameters<typeof offloadsFor>) =>
		offloadsFor(situation).map(({ feature, value }) => `${feature} ${value}`);
	const unmerged = ["rx-udp-gro-forwarding off", "rx-gro-list off"];
	const merge = ["generic-receive-offload on"];
	const cut = ["tx-udp-segmentation off"];
	t.same(wanted({ xdp: "native", tunnels: true }), merge);
	t.same(wanted({ xdp: "off", tunnels: true }), unmerged);
	t.same(wanted({ xdp: "off", tunnels: false }), []);
	t.same(wanted({ kind: "veth", xdp: "native", tunnels: true }), [...merge, ...cut]);
	t.same(wanted({ kind: "veth", xdp: "generic", tunnels: true }), [...cut, ...unmerged]);
	t.same(wanted({ kind: "veth", xdp: "native", tunnels: false }), merge);
});
