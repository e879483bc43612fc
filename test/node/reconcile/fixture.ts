/**
 * Shared by the reconciler's tests, which run in network and mount namespaces that end with the process: a failing
 * test leaves nothing behind.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { IpRoute } from "../../../src/linux/iproute.js";
import { Reconciler, type ReconcilerOptions } from "../../../src/reconcile/reconciler.js";
import { NodeFlag, Path, ProbeWay, RouteKind } from "../../../src/tables/generated.js";
import { noServiceMaps, type Tables } from "../../../src/tables/tables.js";

const bpf = fileURLToPath(new URL("../../../bpf", import.meta.url));
const here = fileURLToPath(new URL(".", import.meta.url));

export const directory = mkdtempSync(join(tmpdir(), "fairway-reconcile-"));

/** Outside /sys/fs/bpf, which the whole machine shares; gets a bpffs of its own. */
export const pinDir = join(directory, "pins", "fairway");
process.on("exit", () => {
	spawnSync("umount", [pinDir], { stdio: "ignore" });
	rmSync(directory, { recursive: true, force: true });
});

export const runDir = join(directory, "run");

/** Builds an object with stub programs; `edit` changes bpf/lib/tables.h or maps.h first. */
export function buildObject(
	name: string,
	options: { variant?: number; edit?: (file: "tables.h" | "maps.h", text: string) => string } = {},
): string {
	const source = join(directory, name);
	mkdirSync(join(source, "lib"), { recursive: true });
	cpSync(join(bpf, "tables.bpf.c"), join(source, "tables.bpf.c"));
	cpSync(join(here, "programs.bpf.c"), join(source, "programs.bpf.c"));
	for (const file of ["tables.h", "maps.h"] as const) {
		const text = readFileSync(join(bpf, "lib", file), "utf8");
		writeFileSync(join(source, "lib", file), options.edit?.(file, text) ?? text);
	}
	const machine = execFileSync("gcc", ["-print-multiarch"], { encoding: "utf8" }).trim();
	const flags = "-target bpf -O2 -g -mcpu=v3 -I. -idirafter".split(" ");
	for (const unit of ["tables", "programs"])
		execFileSync(
			process.env.CLANG ?? "clang-19",
			[
				...flags,
				`/usr/include/${machine}`,
				`-DVARIANT=${options.variant ?? 0}`,
				"-c",
				`${unit}.bpf.c`,
				"-o",
				`${unit}.o`,
			],
			{ cwd: source, stdio: ["ignore", "inherit", "inherit"] },
		);
	const object = join(source, "fairway.bpf.o");
	execFileSync("bpftool", ["gen", "object", object, "tables.o", "programs.o"], { cwd: source });
	return object;
}

export interface LogLine {
	level: string;
	facts: Record<string, unknown>;
	message: string;
}

/** A log that keeps its lines. */
export function memoryLog(): { lines: LogLine[] } & ReconcilerOptions["log"] {
	const lines: LogLine[] = [];
	const at = (level: string) => (facts: object, message: string) => {
		lines.push({ level, facts: facts as Record<string, unknown>, message });
	};
	return { lines, debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error") };
}

export const ip = new IpRoute();

/** Makes a NIC, eth0, whose other end is wire0, and Pods' veths, fairway<8 digits> to pod<n>. */
export async function makeDevices(pods = 1): Promise<void> {
	const lines = [
		"link set dev lo up",
		"link add name eth0 type veth peer name wire0",
		"link set dev eth0 up",
		"link set dev wire0 up",
		"address add 192.168.1.1/24 dev eth0",
		"address add fd00:1::1/64 dev eth0 nodad",
	];
	for (let n = 0; n < pods; n++) lines.push(...podLines(n));
	const failures = await ip.batch(lines);
	if (failures.length > 0) throw new Error(JSON.stringify(failures));
}

export function podInterface(n: number): string {
	return `fairway${n.toString(16).padStart(8, "0")}`;
}

export function podLines(n: number): string[] {
	return [
		`link add name ${podInterface(n)} type veth peer name pod${n}`,
		`link set dev ${podInterface(n)} up`,
		`link set dev pod${n} up`,
	];
}

/** Tables of a Node with this many dual-stack peers and Pods. */
export function tablesOf({ peers = 2, pods = 1 } = {}): Tables {
	const tables: Tables = {
		nodeConfig: {
			flags: NodeFlag.CONFIGURED | NodeFlag.SNAT,
			vni: 1,
			snatAddress4: "192.168.1.1",
			snatAddress6: "fd00:1::1",
			gatewayAddress4: "10.244.1.1",
			gatewayAddress6: "fd00:10:244:1::1",
			returnAddress4: "169.254.250.28",
			returnAddress6: "fd66:6169:7277::28",
			gatewayMac: "02:00:00:00:00:aa",
			snatPortFirst: 49152,
			snatPortLast: 65535,
			genevePort: 6081,
			vxlanPort: 0,
			wireMacs: [0n, 0n, 0n, 0n],
			transportMtu: 1500,
			slowPathRate: 1000,
			flowTimeouts: [1, 60, 7440, 240, 10, 30, 180, 60, 60, 7440, 10, 600],
		},
		peers: new Map(),
		peerPaths: new Map(),
		peerAddresses: new Map(),
		peerGateways: new Map(),
		sourceAddresses: new Map(),
		routes: new Map([
			["10.244.1.0/24", { kind: RouteKind.LOCAL_PODS, flags: 0, mtu: 0, peer: 0xffffffff }],
		]),
		endpoints: new Map(),
		hostRoutes: new Map(),
		...noServiceMaps(),
		gatewayAddresses: ["10.244.1.1", "fd00:10:244:1::1"],
		gatewayMac: "02:00:00:00:00:aa",
		wireInterfaces: ["eth0"],
		linkInterfaces: [],
		stackSnat: false,
		stackAnswers: false,
		xdp: "native",
		tunnelPort: 6081,
	};
	for (let n = 0; n < pods; n++)
		tables.endpoints.set(`10.244.1.${n + 2}`, {
			interface: podInterface(n),
			mac: `02:00:00:00:01:${n.toString(16).padStart(2, "0")}`,
		});
	for (let n = 0; n < peers; n++) {
		const remote = `172.16.${n >> 8}.${n & 255}`;
		tables.peerAddresses.set(remote, n);
		const prefixes = [
			`10.${100 + (n >> 8)}.${n & 255}.0/24`,
			`fd00:20:${(n + 1).toString(16)}::/64`,
		];
		prefixes.forEach((prefix, family) => {
			const index = n * 2 + family;
			const peer = {
				path: Path.GENEVE,
				outerFamily: 4,
				port: 6081,
				vni: 1,
				local: "192.168.1.1",
				remote,
				mtu: 1450,
				flags: 0,
				policyEpoch: 0,
				nodeHash: BigInt(n + 1),
			};
			tables.peers.set(index, peer);
			tables.peerPaths.set(index * 2 + ProbeWay.TUNNEL, peer);
			tables.peerGateways.set(
				prefix.replace(/(0|:)\/\d+$/, (_, end) => (end === "0" ? "1" : ":1")),
				n,
			);
			tables.routes.set(prefix, { kind: RouteKind.PEER, flags: 0, mtu: 0, peer: n });
			const source = family === 0 ? "10.244.1.1" : "fd00:10:244:1::1";
			tables.hostRoutes.set(prefix, { prefix, mtu: 1450, source });
		});
	}
	return tables;
}

export function openReconciler(
	objectPath: string,
	options: Partial<ReconcilerOptions> = {},
): Promise<Reconciler> {
	return Reconciler.open({
		pinDir,
		runDir,
		objectPath,
		flowsMax: 1024,
		log: memoryLog(),
		...options,
	});
}

/** Repeats a check on every turn of the event loop until it holds. The test's time limit ends it. */
export async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
	while (!(await holds())) await new Promise((resolve) => setImmediate(resolve));
}

/** Writes the CNI server's records of Pods 0 to n-1; an existing interface without one is an orphan. */
export function recordPods(pods: number): void {
	const records = join(runDir, "endpoints");
	rmSync(records, { recursive: true, force: true });
	mkdirSync(records, { recursive: true });
	for (let n = 0; n < pods; n++)
		writeFileSync(
			join(records, `pod${n}.json`),
			JSON.stringify({ hostInterface: podInterface(n) }),
		);
}
