/** After cleanup the kernel is as before Fairway, except for sysctls. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import t from "tap";
import { DirectoryLock } from "../../../src/linux/lock.js";
import { Pins } from "../../../src/reconcile/programs/pins.js";
import { Reconciler } from "../../../src/reconcile/reconciler.js";
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
	runDir,
	tablesOf,
	until,
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
		reserved: readFileSync("/proc/sys/net/ipv4/ip_local_reserved_ports", "utf8"),
	};
}

await makeDevices(0);
// Sysctls stay, and this one adds addresses: each prefix gets its router anycast address.
await ip.command("sysctl", "-q", "-w", "net.ipv6.conf.all.forwarding=1");
// Someone else's, one of them among the SNAT ports.
await ip.command("sysctl", "-q", "-w", "net.ipv4.ip_local_reserved_ports=8080,50000");
const object = buildObject("plain");

t.test("cleaning up without anything to remove succeeds", async (t) => {
	const before = await state();
	await Reconciler.cleanup({ pinDir, runDir, log: memoryLog() });
	t.same(await state(), before);
});

t.test("everything is removed, including Pods", async (t) => {
	const before = await state();
	await ip.batch([...podLines(0), ...podLines(1)]);
	recordPods(2);
	const reconciler = await openReconciler(object);
	const tables = { ...tablesOf({ peers: 5, pods: 2 }), xdp: "auto" as const };
	t.match(await reconciler.apply(tables), { pending: 0, ready: true });
	await ip.batch(["route add blackhole 10.99.0.0/16 proto 170 table 77"]);
	await reconciler.close();
	t.not(JSON.stringify(await state()), JSON.stringify(before), "there is something to remove");
	t.ok(existsSync(dirname(pinDir)));

	const present = await state();
	const preview = memoryLog();
	await Reconciler.cleanup({ pinDir, runDir, log: preview, isDryRun: true });
	t.same(await state(), present, "a dry run removes nothing");
	for (const name of [podInterface(1), "fairway0", "fairway1"])
		t.ok(
			preview.lines.some(({ facts }) => facts.interface === name),
			`what would be removed is said: ${name}`,
		);
	for (const act of ["detach a program", "remove routes", "give back the SNAT ports"])
		t.ok(
			preview.lines.some(({ message }) => message === `would ${act}`),
			act,
		);

	const log = memoryLog();
	const lock = DirectoryLock.take(pinDir);
	t.ok(lock, "held by this process alone, as `fairway cleanup` does");
	await Reconciler.cleanup({ pinDir, runDir, log });
	lock?.release();
	t.same(await state(), before);
	for (const name of [podInterface(1), "fairway0", "fairway1"])
		t.ok(
			log.lines.some(({ facts }) => facts.interface === name),
			`what is removed is said: ${name}`,
		);
	await Reconciler.cleanup({ pinDir, runDir, log });
	t.same(await state(), before, "and once more");
});

t.test("missing bpffs is mounted once", async (t) => {
	// In this process's own mount namespace.
	while (mounts().includes("/sys/fs/bpf")) await ip.command("umount", "--lazy", "/sys/fs/bpf");
	const directories = ["a/b", "a/c", "d"].map((name) => `/sys/fs/bpf/${name}`);
	await Promise.all(directories.map((directory) => Pins.open(directory)));
	t.equal(mounts().filter((path) => path === "/sys/fs/bpf").length, 1);
	for (const directory of directories) t.ok(existsSync(`${directory}/maps`), directory);
	await Pins.existing("/sys/fs/bpf/a/b")?.removeAll();
	t.notOk(existsSync("/sys/fs/bpf/a/b"));
	t.ok(existsSync("/sys/fs/bpf/a/c/links"), "another agent's pins stay");
	t.equal(Pins.existing("/sys/fs/bpf/e"), undefined);
	writeFileSync(join(directory, "file"), "");
	await t.rejects(Pins.open(join(directory, "file", "pins")), /ENOTDIR/);
});

t.test("Fairway starts again after cleanup", async (t) => {
	const reconciler = await openReconciler(object);
	t.same(reconciler.readings.adoptedPeers(), []);
	t.match(await reconciler.apply(tablesOf({ peers: 1, pods: 0 })), { pending: 0, ready: true });
	await reconciler.close();
});

t.test("programs are loaded early, and again for other knobs", async (t) => {
	for (const [guess, loads] of [
		["auto", 1],
		["generic", 2],
	] as const) {
		await Reconciler.cleanup({ pinDir, runDir, log: memoryLog() });
		const log = memoryLog();
		const loaded = () => log.lines.filter(({ message }) => message === "loaded BPF programs");
		const reconciler = await openReconciler(object, { log, xdp: guess });
		await until(() => loaded().length === 1);
		t.match(loaded()[0]?.facts, { vethWire: true, xdpGeneric: guess === "generic" });
		const tables = { ...tablesOf({ peers: 1, pods: 0 }), xdp: "auto" as const };
		t.match(await reconciler.apply(tables), { pending: 0, ready: true });
		t.equal(loaded().length, loads, guess);
		t.equal(Pins.existing(pinDir)?.programIdentities().length, 1, "the others are swept");
		await reconciler.close();
	}
});

t.test("closed while loading before the first apply: no program stays", async (t) => {
	await Reconciler.cleanup({ pinDir, runDir, log: memoryLog() });
	const log = memoryLog();
	await (await openReconciler(object, { log, xdp: "auto" })).close();
	t.ok(log.lines.some(({ message }) => message === "loaded BPF programs"));
	t.same(Pins.existing(pinDir)?.programIdentities(), []);
});
