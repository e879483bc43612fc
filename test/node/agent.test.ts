/**
 * The life cycle of an agent, with the real process on real devices: two Nodes that share a link.
 *
 *   pod1              pod2
 *    │ eth0            │ eth0
 *   node1 ──────────── node2
 *   eth0 192.168.1.11  eth0 192.168.1.12
 *        fd00:1::11         fd00:1::12
 */

import {
	existsSync,
	mkdirSync,
	mkdtempSync,
	readdirSync,
	renameSync,
	rmSync,
	writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t from "tap";
import { BpfMap } from "#native";
import type { ExplainAnswer } from "../../src/api/messages/explain.js";
import type { PeerStatus } from "../../src/api/messages/peers.js";
import type { Status } from "../../src/api/messages/status.js";
import { Agent } from "../../src/lab/agent.js";
import { echoCommand } from "../../src/lab/echo.js";
import { Namespace, type Output, run } from "../../src/lab/namespace.js";
import { command } from "../../src/lab/repository.js";
import { until } from "../../src/lab/until.js";

const PREFIX = `fwg-${process.pid}`;
const PIN_ROOT = `/sys/fs/bpf/${PREFIX}`;

class Node {
	readonly number: number;
	readonly namespace: Namespace;
	readonly pod: Namespace;
	readonly agent: Agent;
	readonly pins: string;
	podAddresses: string[] = [];

	constructor(number: number, directory: string) {
		this.number = number;
		this.namespace = new Namespace(`${PREFIX}-node${number}`);
		this.pod = new Namespace(`${PREFIX}-pod${number}`);
		this.pins = `${PIN_ROOT}/node${number}`;
		this.agent = new Agent({
			node: `node${number}`,
			namespace: this.namespace,
			directory: join(directory, `node${number}`),
			pinDirectory: this.pins,
			config: join(directory, "config.yaml"),
			cluster: { manifests: join(directory, "manifests") },
			patienceMs: 60_000,
		});
	}

	/** Runs a `fairway` command on this Node. */
	fairway(...args: string[]): Promise<Output> {
		const at = ["--run-dir", this.agent.runDirectory];
		return this.namespace.run([command("fairway"), ...args, ...at], { mayFail: true });
	}

	async json<T>(...args: string[]): Promise<T> {
		const { stdout, stderr } = await this.fairway(...args, "-o", "json");
		if (stderr !== "") throw new Error(stderr);
		return JSON.parse(stdout) as T;
	}

	async attach(): Promise<void> {
		await run(["ip", "netns", "add", this.pod.name]);
		const { stdout } = await this.namespace.run([command("fairway-cni")], {
			input: JSON.stringify({
				cniVersion: "1.0.0",
				name: "fairway",
				type: "fairway-cni",
				socket: this.agent.socket,
			}),
			environment: {
				CNI_COMMAND: "ADD",
				CNI_CONTAINERID: this.pod.name,
				CNI_NETNS: this.pod.path,
				CNI_IFNAME: "eth0",
				CNI_PATH: "/opt/cni/bin",
			},
		});
		const { ips } = JSON.parse(stdout) as { ips: { address: string }[] };
		this.podAddresses = ips.map(({ address }) => address.replace(/\/\d+$/, ""));
	}

	/** Pings over both families; every echo must be answered. */
	async ping(other: Node, count = 3, size = 56): Promise<boolean> {
		const pings = other.podAddresses.map((address) =>
			this.pod.run(echoCommand(address, count, "-s", `${size}`), { mayFail: true }),
		);
		const results = await Promise.all(pings);
		return results.every(({ stdout }) => stdout.includes(" 0% packet loss"));
	}

	flowsMapId(): number {
		const map = BpfMap.openPinned(join(this.pins, "maps", "flows"));
		try {
			return map.info.id;
		} finally {
			map.close();
		}
	}

	/** Everything that Fairway has in this namespace and in its directories. */
	async traces(): Promise<string[]> {
		const { stdout } = await this.namespace.script(
			`ip -o link show | grep fairway || true
			ip -d -o link show | grep -w 'prog/xdp' || true
			ip route show table all proto 170
			ip -6 route show table all proto 170
			tc qdisc show | grep clsact || true`,
		);
		return [
			...stdout.split("\n").filter((line) => line !== ""),
			...(existsSync(this.pins) ? readdirSync(this.pins) : []),
			...(existsSync(this.agent.runDirectory) ? readdirSync(this.agent.runDirectory) : []),
		];
	}
}

function object(number: number, podCIDRs = cidrs(number)): string {
	return JSON.stringify({
		apiVersion: "v1",
		kind: "Node",
		metadata: { name: `node${number}` },
		spec: { podCIDRs },
		status: {
			addresses: [`192.168.1.${10 + number}`, `fd00:1::${10 + number}`].map((address) => ({
				type: "InternalIP",
				address,
			})),
		},
	});
}

const cidrs = (number: number) => [`10.244.${number}.0/24`, `fd00:10:244:${number}::/64`];

t.test("the life of an agent", async (t) => {
	const directory = mkdtempSync(join(tmpdir(), "fairway-agent-"));
	const nodes = [new Node(1, directory), new Node(2, directory)] as const;
	const [node1, node2] = nodes;
	t.teardown(async () => {
		for (const { agent, pod, namespace, pins } of nodes) {
			await agent.stop("SIGKILL");
			for (const { name } of [pod, namespace])
				await run(["ip", "netns", "del", name], { mayFail: true });
			rmSync(pins, { recursive: true, force: true });
		}
		rmSync(PIN_ROOT, { recursive: true, force: true });
		rmSync(directory, { recursive: true, force: true });
	});
	const configure = (text: string) => writeFileSync(join(directory, "config.yaml"), text);
	const manifest = (name: string, text: string) =>
		writeFileSync(join(directory, "manifests", name), text);
	mkdirSync(join(directory, "manifests"));
	configure("trafficEncapMode: hybrid\n");
	manifest("node1.json", object(1));

	for (const { namespace } of nodes) {
		await run(["ip", "netns", "add", namespace.name]);
		await namespace.run(["ip", "link", "set", "lo", "up"]);
	}
	await node1.namespace.run(
		`ip link add eth0 type veth peer name eth0 netns ${node2.namespace.name}`.split(" "),
	);
	for (const { number, namespace } of nodes)
		await namespace.script(
			`ip addr add 192.168.1.${10 + number}/24 dev eth0
			ip addr add fd00:1::${10 + number}/64 dev eth0 nodad
			ip link set eth0 up`,
		);

	await t.test("starts: ready with a Node object, waiting without", async (t) => {
		const waiting = node2.agent.start();
		await node1.agent.start();
		const status = await until("node2 says what it waits for", async () => {
			const now = await node2.json<Status>("status");
			return now.waitingFor?.includes("node2") ? now : undefined;
		});
		t.match(status, { ready: false, waitingFor: "a usable Node object named node2" });
		manifest("node2.json", object(2));
		await waiting;
		t.match(await node2.json<Status>("status"), {
			node: "node2",
			ready: true,
			mode: "hybrid",
			tunnelType: "geneve",
			podCIDRs: cidrs(2),
			transport: { interface: "eth0", addresses: ["192.168.1.12", "fd00:1::12"], mtu: 1500 },
			drops: {},
		});
		const direct = (peers: PeerStatus[]) =>
			peers.length === 2 && peers.every(({ path }) => path === "direct");
		await until("node1 has proven its paths to node2", async () =>
			direct(await node1.agent.peers()),
		);
		t.match(await node1.json<PeerStatus[]>("peers"), [
			{ node: "node2", family: 4, path: "direct", mtu: 1500 },
			{ node: "node2", family: 6, path: "direct", mtu: 1500 },
		]);
		const [ready] = node1.agent.lines().filter(({ msg }) => msg === "ready");
		t.comment(`node1 was ready after ${ready?.startMs} ms, with a node2 that waited`);
	});

	await t.test("a second agent is refused", async (t) => {
		const flags = ["agent", "--node-name", "node1", "--config", join(directory, "config.yaml")];
		flags.push("--manifests", join(directory, "manifests"));
		const sameRunDir = await node1.fairway(...flags, "--pin-dir", `${PIN_ROOT}/other`);
		t.match(sameRunDir, { status: 1, stderr: /run directory .* locked by another agent/ });
		const samePinDir = await node1.namespace.run(
			[command("fairway"), ...flags, "--run-dir", join(directory, "x"), "--pin-dir", node1.pins],
			{ mayFail: true },
		);
		t.match(samePinDir, { status: 1, stderr: /pin directory .* locked by another agent/ });
		t.equal((await node1.agent.status()).ready, true, "the first is not disturbed");
	});

	await t.test("a bad configuration at the start", async (t) => {
		const bad = join(directory, "bad.yaml");
		writeFileSync(bad, "tunnelType: gre\nxdp: maybe\n");
		const result = await node1.namespace.run(
			[command("fairway"), "agent", "--node-name", "node1", "--config", bad].concat(
				["--manifests", directory, "--run-dir", join(directory, "y")],
				["--pin-dir", `${PIN_ROOT}/y`],
			),
			{ mayFail: true },
		);
		t.match(result, { status: 2, stdout: "", stderr: /bad\.yaml:1:13: .*\n.*bad\.yaml:2:6: / });
		t.notOk(existsSync(`${PIN_ROOT}/y`) || existsSync(join(directory, "y")), "nothing is touched");
	});

	await t.test("Pods communicate, and the counters show the path", async (t) => {
		await Promise.all(nodes.map((node) => node.attach()));
		t.match(await node1.json("endpoints"), [
			{
				containerId: node1.pod.name,
				netns: node1.pod.path,
				addresses: node1.podAddresses,
				hostInterface: /^fairway[0-9a-f]{8}$/,
				mac: /^([0-9a-f]{2}:){5}[0-9a-f]{2}$/,
			},
		]);
		t.equal(await node1.ping(node2, 5), true);
		for (const peer of await node1.json<PeerStatus[]>("peers")) {
			t.match(peer.packets, { direct: 5, tunnel: 0 }, `IPv${peer.family}`);
			t.match(peer.bytes, { direct: 5 * (peer.family === 4 ? 84 : 104), tunnel: 0 });
		}
		t.match((await node1.fairway("status")).stdout, /^Node +node1, ready$/m);
		t.match((await node1.fairway("peers")).stdout, /^node2 +v4 .* direct /m);
	});

	await t.test("explain changes nothing", async (t) => {
		const [from = "", to = ""] = [node1.podAddresses[0], node2.podAddresses[0]];
		const { flows } = await node1.agent.status();
		const explain = (...args: string[]) => node1.json<ExplainAnswer>("explain", ...args);
		t.match(await explain(from, `${to}:443`), {
			path: "direct",
			peer: "node2",
			device: "eth0",
			mtu: 1500,
			drop: null,
			snat: null,
			reason: /\.$/,
		});
		t.match(await explain(from, "192.168.1.12", "--proto", "udp"), {
			path: "outside",
			snat: { address: "192.168.1.11" },
			device: "eth0",
		});
		t.match(await explain(from, "10.244.1.200", "--proto", "icmp"), { drop: "no_endpoint" });
		const [, from6 = ""] = node1.podAddresses;
		t.match(await explain(from6, `[${node2.podAddresses[1]}]:53`, "--proto", "udp"), {
			path: "direct",
			destinationPort: 53,
		});
		t.strictSame((await node1.agent.status()).flows, flows);
		t.match((await node1.fairway("explain", from, to)).stdout, /^Path +direct to node2$/m);
	});

	const havePodMtu = async (mtu: number): Promise<boolean> => {
		const links = await Promise.all(
			nodes.map(({ pod }) => pod.run(["ip", "-o", "link", "show", "eth0"])),
		);
		return links.every(({ stdout }) => stdout.includes(` mtu ${mtu} `));
	};

	await t.test("the configuration changes live", async (t) => {
		const reaches = (path: string) =>
			until(`every path is ${path}`, async () => {
				const peers = await Promise.all(nodes.map(({ agent }) => agent.peers()));
				return peers.flat().every((peer) => peer.path === path);
			});
		for (const tunnelType of ["geneve", "vxlan"]) {
			configure(`trafficEncapMode: encap\ntunnelType: ${tunnelType}\n`);
			await reaches(tunnelType);
			t.equal(await node1.ping(node2), true, tunnelType);
		}
		t.match(await node1.agent.status(), { mode: "encap", podMTU: 1430 });
		await until("the Pods that are there follow", () => havePodMtu(1430));

		configure("trafficEncapMode: encap\ntunnelType: vxlan\nnoSNAT: true\n");
		await until("a refusal", async () => (await node1.agent.status()).problems.length > 0);
		t.match(await node1.agent.status(), { mode: "encap", ready: true, problems: [/:3:/] });
		t.equal(await node1.ping(node2), true, "the former stays in force");

		// Like an editor.
		writeFileSync(join(directory, ".new"), "trafficEncapMode: hybrid\nlog: {level: debug}\n");
		renameSync(join(directory, ".new"), join(directory, "config.yaml"));
		await reaches("direct");
		t.strictSame((await node1.agent.status()).problems, []);
		t.equal(await node1.ping(node2), true);
	});

	await t.test("XDP in every mode", async (t) => {
		for (const xdp of ["generic", "off", "native"]) {
			configure(`trafficEncapMode: encap\nxdp: ${xdp}\n`);
			await until(`XDP is ${xdp}`, async () => {
				const all = await Promise.all(nodes.map(({ agent }) => agent.status()));
				return all.every((status) => status.xdp === xdp && status.mode === "encap");
			});
			await until("the Pods follow", () => havePodMtu(1430));
			t.equal(await node1.ping(node2), true, `${xdp}: what XDP delivers itself`);
			t.equal(await node1.ping(node2, 3, 2500), true, `${xdp}: what it leaves to tc`);
		}
		t.strictSame((await node2.agent.status()).drops, {});
	});

	await t.test("manifests break while it runs", async (t) => {
		manifest("node2.json", '{"kind": "Node", ');
		const { problems } = await until("a problem", async () => {
			const now = await node1.agent.status();
			return now.problems.length > 0 ? now : undefined;
		});
		t.match(problems, [/node2\.json/]);
		t.equal(await node1.ping(node2), true, "what it said before stays in force");
		manifest("node2.json", object(2));
		await until("no problem", async () => (await node1.agent.status()).problems.length === 0);
	});

	await t.test("killed: packets flow, and the next agent adopts", async (t) => {
		const flows = node1.flowsMapId();
		await node1.agent.stop("SIGKILL");
		t.equal(await node1.ping(node2), true, "without an agent");
		t.match(await node1.fairway("status"), { status: 1, stderr: /Cannot reach the agent/ });
		await node1.agent.start();
		t.equal(node1.flowsMapId(), flows, "the same flow table");
		t.equal((await node1.json<unknown[]>("endpoints")).length, 1, "it knows its Pods");
		t.equal(await node1.ping(node2), true);
		const [ready] = node1.agent.lines().filter(({ msg }) => msg === "ready");
		t.comment(`ready again after ${ready?.startMs} ms`);
	});

	await t.test("stopped: packets flow", async (t) => {
		const refused = await node1.fairway("cleanup", "--pin-dir", node1.pins);
		t.match(refused, { status: 1, stderr: /locked by a running agent/ });
		await node1.agent.stop("SIGTERM");
		t.ok(node1.agent.lines().some(({ msg }) => msg === "stopped"));
		t.equal(await node1.ping(node2), true, "without an agent");
	});

	await t.test("cleanup leaves nothing", async (t) => {
		t.not((await node1.traces()).length, 0);
		const { status, stderr } = await node1.fairway("cleanup", "--pin-dir", node1.pins);
		t.strictSame([status, stderr], [0, ""]);
		t.strictSame(await node1.traces(), []);
		t.notOk(existsSync(node1.pins));
		t.notOk(existsSync(node1.agent.runDirectory));
		const again = await node1.fairway("cleanup", "--pin-dir", node1.pins);
		t.strictSame([again.status, again.stderr], [0, ""], "once more is no error");
		t.equal((await node2.agent.status()).ready, true, "its neighbour is not disturbed");
		t.not((await node2.traces()).length, 0);
	});
});
