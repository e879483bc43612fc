/**
 * Two Nodes with a Pod each, served by one dataplane, and the points where the generator sends and the
 * sinks count:
 *
 *   pod1 ── node1 ── (node1 │ net1 │ node2) ── node2 ── pod2
 *       egress ──────▶ ×
 *                              ingress ─────────────────▶ ×
 *       end to end ────▶ XDP switch ────────────────────▶ ×
 *   pod1 ── node1 ── neighbour
 *       local ───────▶ ×
 *   pod1 ── node1 ── (node1 │ net1
 *     × ◀──────────── answers
 *
 * The ingress half receives what came out of the egress half, taken there as a sample, so every
 * dataplane gets its own packets.
 */

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { echoCommand } from "../../src/lab/echo.js";
import { Lab, type PodNetwork } from "../../src/lab/lab.js";
import type { Namespace } from "../../src/lab/namespace.js";
import type { Family } from "../../src/lab/subnet.js";
import { until } from "../../src/lab/until.js";
import { Cluster, type Settings as ClusterSettings } from "../../test/tools/cluster.js";
import { atEnd } from "./cleanup.js";
import { buildFrame, macBytes, type Variation } from "./frame.js";
import { openWays } from "./networks.js";
import { type Link, link, links, type Pktgen, type Sink, type Stream, setXdp } from "./pktgen.js";

export type Settings = Omit<ClusterSettings, "flows"> & {
	flows?: { max?: number; timeouts?: Record<string, number> };
};

export type Dataplane = { network: PodNetwork } | { fairway: Settings };

const OUTSIDE = "203.0.113.10/24, 2001:db8:113::10/64";

let sites = 0;

export class Site {
	readonly name: string;
	readonly lab: Lab;
	/** The directory of the manifests, which the agents watch. */
	readonly directory: string;
	private readonly outputs = new Map<string, Promise<number>>();

	private constructor(name: string, lab: Lab, directory: string) {
		this.name = name;
		this.lab = lab;
		this.directory = directory;
	}

	/**
	 * When this resolves, the Pods reach each other over these families. Fairway uses native XDP by
	 * default: the generator's frames are like those of a NIC's driver.
	 *
	 * @param neighbour a third Pod, on node1.
	 * @param objects more manifests, by file name; there before the agents start.
	 */
	static async up(
		name: string,
		dataplane: Dataplane,
		{
			families = [4],
			neighbour = false,
			objects = {},
		}: {
			families?: Family[];
			neighbour?: boolean;
			objects?: Record<string, readonly object[]>;
		} = {},
	): Promise<Site> {
		const directory = mkdtempSync(join(tmpdir(), "fairway-bench-"));
		atEnd(() => rmSync(directory, { recursive: true, force: true }));
		for (const [file, content] of Object.entries({ ...manifests(neighbour), ...objects }))
			writeFileSync(join(directory, file), text(content));
		const settings: Settings =
			"fairway" in dataplane ? { xdp: "native", ...dataplane.fairway } : {};
		writeFileSync(join(directory, "config.yaml"), JSON.stringify(settings));
		const lab = await Lab.prepare({
			name: `fwB-${process.pid}-${++sites}`,
			manifests: directory,
			...("network" in dataplane ? { network: dataplane.network } : {}),
		});
		atEnd(() => lab.down());
		await lab.start();
		if ("fairway" in dataplane) await new Cluster(lab, settings).settled();
		const site = new Site(name, lab, directory);
		for (const family of families) {
			await site.reach("pod1", "pod2", family);
			if (neighbour) await site.reach("pod1", "neighbour", family);
		}
		return site;
	}

	/** Resolves neighbours. @throws Error if no echo comes back. */
	async reach(from: string, to: string, family: Family): Promise<void> {
		const address = this.lab.address(to, family);
		await until(`${this.name}: ${to} answers ${from} over IPv${family}`, async () => {
			return (
				(await this.lab.run(from, echoCommand(address, 2, "-q"), { mayFail: true })).status === 0
			);
		});
	}

	namespace(machine: string): Namespace {
		return this.lab.namespace(machine);
	}

	/** The Node's end of a Pod's veth. */
	async hostSide(pod: string): Promise<Link> {
		const node = pod === "pod1" ? "node1" : "node2";
		const { peer } = await link(this.namespace(pod), "eth0");
		const found = (await links(this.namespace(node))).find(({ ifindex }) => ifindex === peer);
		if (found === undefined) throw new Error(`Cannot find the Node's end of ${pod}'s eth0`);
		return found;
	}

	/** Of a Node's interface in the underlay. */
	async macOf(node: "node1" | "node2"): Promise<Buffer> {
		return macBytes((await link(this.namespace(node), "eth0")).mac);
	}

	output(pktgen: Pktgen, machine: string, device: string): Promise<number> {
		const key = `${machine} ${device}`;
		let output = this.outputs.get(key);
		if (output === undefined) {
			output = pktgen.output(this.namespace(machine), device);
			this.outputs.set(key, output);
		}
		return output;
	}

	/** A stream from pod1, to pod2 unless another address is given. From now on the Pod's veth accepts frames. */
	async fromPod(pktgen: Pktgen, options: FlowOptions): Promise<Stream> {
		const { family = 4, size = family === 4 ? 64 : 84, protocol = "udp", vary = {} } = options;
		const host = await this.hostSide("pod1");
		// Frames redirected into a veth need NAPI at its other end.
		await this.namespace("node1").run(["ethtool", "-K", host.name, "gro", "on"]);
		const { mac } = await link(this.namespace("pod1"), "eth0");
		const frame = buildFrame({
			sourceMac: mac,
			destinationMac: host.mac,
			source: this.lab.address("pod1", family),
			destination: options.destination ?? this.lab.address("pod2", family),
			protocol,
			size,
			...(options.sourcePort === undefined ? {} : { sourcePort: options.sourcePort }),
			...(options.destinationPort === undefined
				? {}
				: { destinationPort: options.destinationPort }),
		});
		return { frame, out: await this.output(pktgen, "pod1", "eth0"), vary };
	}

	/** The answers to a stream that leaves node1 as this IPv4 frame. */
	async answers(pktgen: Pktgen, { frame, vary }: Stream): Promise<Stream> {
		const answer = Buffer.from(frame);
		// Swapping keeps all checksums valid.
		for (const [field, other, length] of [
			[0, 6, 6],
			[26, 30, 4],
			[34, 36, 2],
		] as const) {
			frame.copy(answer, field, other, other + length);
			frame.copy(answer, other, field, field + length);
		}
		return {
			frame: answer,
			out: await this.output(pktgen, "net1", "node1"),
			vary: { ...vary, answers: true },
		};
	}

	/** The stream that node1 makes of a stream from pod1, for sending into node2. The sink at the switch stays. */
	async ontoWire(pktgen: Pktgen, stream: Stream): Promise<Stream> {
		await pktgen.setSink(this.namespace("net1"), "node1", "sample");
		const frame = await pktgen.sample(stream);
		await pktgen.setSink(this.namespace("net1"), "node1", "sink_tc");
		return { ...stream, frame, out: await this.output(pktgen, "net1", "node2") };
	}

	async sinkInPod(pktgen: Pktgen, sink: Sink | undefined, pod = "pod2"): Promise<void> {
		await pktgen.setSink(this.namespace(pod), "eth0", sink);
	}

	/** Forwards the generator's frames from node1's port to node2's without the bridge. */
	async switchByXdp(pktgen: Pktgen): Promise<void> {
		const net1 = this.namespace("net1");
		await pktgen.setSink(net1, "node1", undefined);
		const { ifindex } = await link(net1, "node2");
		await setXdp(net1, "node1", await openWays(pktgen, "switch_port", { to_ifindex: ifindex }));
	}
}

export interface FlowOptions {
	family?: Family;
	size?: number;
	protocol?: "udp" | "tcp";
	destination?: string;
	sourcePort?: number;
	destinationPort?: number;
	vary?: Variation;
}

/** As a file of manifests: documents of JSON. */
const text = (objects: readonly object[]): string =>
	objects.map((object) => JSON.stringify(object)).join("\n---\n");

function manifests(neighbour: boolean): Record<string, object[]> {
	const node = (n: number) => ({
		apiVersion: "v1",
		kind: "Node",
		metadata: { name: `node${n}` },
		spec: {
			podCIDR: `10.244.${n}.0/24`,
			podCIDRs: [`10.244.${n}.0/24`, `fd00:10:244:${n}::/64`],
		},
		status: {
			addresses: [
				{ type: "InternalIP", address: `192.168.1.${n}` },
				{ type: "InternalIP", address: `fd00:192:168:1::${n}` },
			],
		},
	});
	const pod = (name: string, n: number) => ({
		apiVersion: "v1",
		kind: "Pod",
		metadata: { name, namespace: "default" },
		spec: { nodeName: `node${n}`, containers: [{ name: "main", image: "none" }] },
	});
	const lab = {
		apiVersion: "v1",
		kind: "ConfigMap",
		metadata: { name: "fairway-lab", namespace: "kube-system" },
		data: { outside: OUTSIDE },
	};
	return {
		"lab.yaml": [lab],
		"nodes.yaml": [node(1), node(2)],
		"pods.yaml": [pod("pod1", 1), pod("pod2", 2), ...(neighbour ? [pod("neighbour", 1)] : [])],
	};
}
