/** After cleanup the kernel is as it was before Fairway, but for sysctls. */
import { existsSync, readFileSync } from "node:fs";
import { dirname } from "node:path";
import t from "tap";
import { Reconciler } from "../../../src/reconcile/reconciler.js";
import {
	buildObject,
	ip,
	makeDevices,
	memoryLog,
	openReconciler,
	pinDir,
	podInterface,
	podLines,
	recordPods,
	runDir,
	tablesOf,
} from "./fixture.js";

const mounts = () =>
	readFileSync("/proc/self/mountinfo", "utf8")
		.split("\n")
		.filter((line) => line.includes("- bpf "))
		.map((line) => line.split(" ")[4]);

interface Link {
	ifname: string;
	xdp?: unknown;
}

async function state() {
	const routes = async (family: string) =>
		(await ip.query<{ dst: string; dev: string }>(family, "route", "show", "table", "all"))
			.filter(({ dst }) => !dst.startsWith("fe80:") && dst !== "multicast" && dst !== "ff00::/8")
			.map(({ dst, dev }) => `${dst} ${dev}`)
			.sort();
	return {
		links: (await ip.query<Link>("link", "show")).map(({ ifname, xdp }) => [ifname, xdp]),
		qdiscs: await ip.command("tc", "qdisc", "show", "clsact"),
		routes4: await routes("-4"),
		routes6: await routes("-6"),
		mounts: mounts(),
		pins: existsSync(pinDir),
		records: existsSync(`${runDir}/endpoints`),
	};
}

await makeDevices(0);
// Sysctls stay, and with this one go addresses: each prefix gets its anycast address of routers.
await ip.command("sysctl", "-q", "-w", "net.ipv6.conf.all.forwarding=1");
const object = buildObject("plain");

t.test("what is not there is cleaned up already", async (t) => {
	const before = await state();
	await Reconciler.cleanup({ pinDir, runDir, log: memoryLog() });
	t.same(await state(), before);
});

t.test("everything goes, Pods included", async (t) => {
	const before = await state();
	await ip.batch([...podLines(0), ...podLines(1)]);
	recordPods(2);
	const reconciler = await openReconciler(object);
	t.match(await reconciler.apply(tablesOf({ peers: 5, pods: 2 })), { pending: 0, ready: true });
	await ip.batch(["route add blackhole 10.99.0.0/16 proto 170 table 77"]);
	await reconciler.close();
	t.not(JSON.stringify(await state()), JSON.stringify(before), "there is something to remove");
	t.ok(existsSync(dirname(pinDir)));

	const log = memoryLog();
	await Reconciler.cleanup({ pinDir, runDir, log });
	t.same(await state(), before);
	t.ok(
		log.lines.some(({ facts }) => facts.interface === podInterface(1)),
		"what is removed is said",
	);
	await Reconciler.cleanup({ pinDir, runDir, log });
	t.same(await state(), before, "and once more");
});

t.test("Fairway starts again after it", async (t) => {
	const reconciler = await openReconciler(object);
	t.same(reconciler.adoptedPeers(), []);
	t.match(await reconciler.apply(tablesOf({ peers: 1, pods: 0 })), { pending: 0, ready: true });
	await reconciler.close();
});
