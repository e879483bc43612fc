/** Networks of a lab's Node beside the one between the Nodes: a namespace behind a device of its own. */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Test } from "tap";
import type { Lab } from "../../src/lab/lab.js";
import { Namespace, run } from "../../src/lab/namespace.js";
import { Station } from "../../src/lab/stations.js";
import type { Family } from "../../src/lab/subnet.js";
import { TCP_PORT, UDP_PORT } from "./cluster.js";

export interface SideNetwork {
	/** "bridge": containers behind a bridge of the Node's. "nic": a second NIC. "tun": a VPN. */
	kind: "bridge" | "nic" | "tun";
	/** The device on the Node. */
	device: string;
	/** Of the Node and of the host there, each with prefix length. */
	node: Record<Family, string>;
	host: Record<Family, string>;
	mtu?: number;
	/** More addresses of the host's, without prefix length. */
	also?: string[];
}

/** What is there answers on TCP_PORT and UDP_PORT. It goes with the lab's Node, and with the test. */
export async function addSideNetwork(
	t: Test,
	lab: Lab,
	node: string,
	{ kind, device, node: own, host, mtu = 1500, also = [] }: SideNetwork,
): Promise<Station> {
	const side = new Namespace(`${lab.name}-${device}`);
	const here = lab.namespace(node);
	await run(["ip", "netns", "add", side.name]);
	t.teardown(() => run(["ip", "netns", "del", side.name], { mayFail: true }));
	await side.script(
		"ip link set lo up; sysctl -q -w net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0",
	);
	if (kind === "tun") await tunPair(t, [here, device], [side, "eth0"]);
	else await run(["ip", "-n", here.name, ...veth(kind, device, side)]);
	if (kind === "bridge")
		await here.script(
			`ip link add ${device} type bridge forward_delay 0; ip link set ${device}p master ${device} up`,
		);
	await here.script(`ip link set ${device} mtu ${mtu} up
		ip address add ${own[4]} dev ${device}
		ip address add ${own[6]} dev ${device} nodad`);
	const gateway = (family: Family) => own[family].slice(0, own[family].indexOf("/"));
	const routes =
		kind === "tun"
			? "ip route add default dev eth0; ip -6 route add default dev eth0"
			: kind === "bridge"
				? `ip route add default via ${gateway(4)}; ip -6 route add default via ${gateway(6)}`
				: "";
	await side.script(`ip link set eth0 mtu ${mtu} up
		ip address add ${host[4]} dev eth0
		ip address add ${host[6]} dev eth0 nodad
		${also.map((address) => `ip address add ${address} dev lo`).join("\n")}
		${routes}`);
	const station = await Station.start(device, side);
	t.teardown(() => station.close());
	await station.order("tcpServe", { port: TCP_PORT });
	await station.order("udpServe", { port: UDP_PORT });
	return station;
}

function veth(kind: "bridge" | "nic", device: string, side: Namespace): string[] {
	const name = kind === "bridge" ? `${device}p` : device;
	return `link add ${name} type veth peer name eth0 netns ${side.name}`.split(" ");
}

/** A tun device in each of two namespaces, which carry each other's packets. */
export async function tunPair(
	t: Test,
	...pair: [[Namespace, string], [Namespace, string]]
): Promise<void> {
	const directory = mkdtempSync(join(tmpdir(), "fairway-tun-"));
	const program = join(directory, "tun_pair");
	const source = new URL("tun_pair.c", import.meta.url).pathname;
	execFileSync("gcc", ["-O2", "-Wall", "-o", program, source]);
	const ends = pair.flatMap(([{ path }, device]) => [path, device]);
	const child: ChildProcess = spawn(program, ends, { stdio: ["pipe", "pipe", "inherit"] });
	t.teardown(async () => {
		child.stdin?.end();
		if (child.exitCode === null) await once(child, "exit");
		rmSync(directory, { recursive: true, force: true });
	});
	const [said] = await once(createInterface({ input: child.stdout! }), "line");
	if (said !== "ready") throw new Error(`Cannot make a tun device: expected ready, got ${said}`);
}
