/** A lab with Fairway for a test file: a copy of the example, which the test may change. */

import { cpSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import type { Test } from "tap";
import type { PeerStatus } from "../../src/api/messages/peers.js";
import { echoCommand } from "../../src/lab/echo.js";
import { onInterrupt } from "../../src/lab/interrupt.js";
import { Lab } from "../../src/lab/lab.js";
import { nodeOf } from "../../src/lab/pairs.js";
import { exampleDirectory } from "../../src/lab/repository.js";
import type { Family } from "../../src/lab/subnet.js";
import { until } from "../../src/lab/until.js";

export interface Settings {
	trafficEncapMode?: "encap" | "noEncap" | "hybrid";
	tunnelType?: "geneve" | "vxlan";
	tunnelPort?: number;
	tunnelVNI?: number;
	noSNAT?: boolean;
	hybrid?: { direct?: "proven" | "subnet"; tryDirectCIDRs?: string[]; neverDirectCIDRs?: string[] };
	probes?: { failoverTime?: number; holdTime?: number; holdTimeMax?: number };
	xdp?: "auto" | "native" | "generic" | "off";
	transportInterface?: string;
	defaultMTU?: number;
	snat?: { portRange?: string; excludeCIDRs?: string[] };
	serviceCIDRs?: readonly string[];
	fairwayProxy?: { enable?: boolean; proxyAll?: boolean; healthServer?: string };
	flows?: { max?: number };
	log?: { level?: string };
}

export const TCP_PORT = 5000;
export const UDP_PORT = 5001;
/** TCP in both directions (BulkStreams). */
export const BULK_PORT = 5002;
/** Bytes of a tunnel: outer IP, UDP, Geneve or VXLAN, and inner Ethernet headers. */
export const OVERHEAD = { 4: 50, 6: 70 } as const;

export class Cluster {
	readonly lab: Lab;
	settings: Settings;

	constructor(lab: Lab, settings: Settings) {
		this.lab = lab;
		this.settings = settings;
	}

	/** Writes the configuration in place; resolves when every agent reports it. */
	async configure(settings: Settings): Promise<void> {
		this.settings = settings;
		writeFileSync(this.lab.config, JSON.stringify(settings));
		await this.settled();
	}

	/** Writes a manifest file of this name. */
	write(file: string, ...objects: object[]): void {
		const text = objects.map((object) => JSON.stringify(object)).join("\n---\n");
		writeFileSync(join(this.lab.manifests, file), `${text}\n`);
	}

	/** Resolves when every agent has the mode, and the path that follows from it to every peer. */
	async settled(): Promise<void> {
		const { trafficEncapMode: mode = "encap" } = this.settings;
		for (const [node, agent] of this.lab.agents)
			await until(`${node} in mode ${mode} with all its paths`, async () => {
				const status = await agent.status();
				const peers = await agent.peers();
				return (
					status.ready &&
					status.mode === mode &&
					status.pending === 0 &&
					peers.length >= (this.lab.topology.nodes.length - 1) * 2 &&
					peers.every((peer) => peer.path === this.expectedPath(node, peer.node))
				);
			});
	}

	expectedPath(node: string, peer: string): PeerStatus["path"] {
		const { trafficEncapMode: mode = "encap", tunnelType = "geneve" } = this.settings;
		const near = this.sameSubnet(node, peer);
		if (mode === "noEncap") return near ? "direct" : "routed";
		return mode === "hybrid" && near ? "direct" : tunnelType;
	}

	sameSubnet(a: string, b: string): boolean {
		const subnet = (machine: string): string | undefined =>
			this.lab.topology.nodes.find(({ name }) => name === nodeOf(this.lab, machine))?.subnet;
		return subnet(a) === subnet(b);
	}

	tunnelPort(): number {
		const { tunnelPort = 0, tunnelType = "geneve" } = this.settings;
		return tunnelPort || (tunnelType === "geneve" ? 6081 : 4789);
	}

	/** Starts TCP and UDP servers on each of these machines. */
	async serve(...machines: string[]): Promise<void> {
		await Promise.all(
			machines.map(async (machine) => {
				const station = await this.lab.station(machine);
				await station.order("tcpServe", { port: TCP_PORT });
				await station.order("udpServe", { port: UDP_PORT });
				await station.order("bulkServe", { port: BULK_PORT });
			}),
		);
	}

	async mac(machine: string, device = "eth0"): Promise<string> {
		const { stdout } = await this.lab.run(machine, ["ip", "-j", "link", "show", "dev", device]);
		return (JSON.parse(stdout) as { address: string }[])[0]?.address ?? "";
	}

	async ping(from: string, to: string, family: Family, ...options: string[]): Promise<string> {
		const address = this.lab.address(to, family);
		return (await this.lab.run(from, echoCommand(address, 3, ...options), { mayFail: true }))
			.stdout;
	}

	/** An agent's drop counters, by reason. */
	async drops(node: string): Promise<Record<string, number>> {
		return (await this.lab.agent(node).status()).drops;
	}

	/** The drop counters of all Nodes together, only those that are not zero. */
	async allDrops(): Promise<Record<string, number>> {
		const sum: Record<string, number> = {};
		for (const node of this.lab.agents.keys())
			for (const [reason, packets] of Object.entries(await this.drops(node)))
				sum[reason] = (sum[reason] ?? 0) + packets;
		return sum;
	}
}

/**
 * What hardening templates put into a Node. Any `ct` expression also switches on connection tracking,
 * which collects fragments before the Node routes or sends them.
 */
const CONNECTION_TRACKING = `table inet hardened {${["input", "forward", "output"]
	.map(
		(hook) => `
	chain ${hook} {
		type filter hook ${hook} priority filter; policy accept;
		ct state invalid counter drop
	}`,
	)
	.join("")}
}
`;

export interface ClusterOptions {
	/** Every Node's netfilter tracks connections and drops what is invalid to it. Default: true, as in
	 * most Nodes in use; modes.test.ts shows the same traffic without. */
	connectionTracking?: boolean;
}

/**
 * Up until the end of the test file.
 *
 * @param change edits the copied manifests before the lab comes up.
 */
export async function startCluster(
	t: Test,
	settings: Settings,
	change: (directory: string) => void = () => undefined,
	{ connectionTracking = true }: ClusterOptions = {},
): Promise<Cluster> {
	const file = basename(process.argv[1] ?? "test", ".test.ts").slice(0, 12);
	const directory = mkdtempSync(join(tmpdir(), `fairway-${file}-`));
	cpSync(exampleDirectory, directory, { recursive: true });
	// A test that wants Services has its own.
	rmSync(join(directory, "services.yaml"));
	writeFileSync(join(directory, "config.yaml"), JSON.stringify(settings));
	change(directory);
	const lab = await Lab.prepare({ name: `fwl-${file}-${process.pid}`, manifests: directory });
	const remove = async (): Promise<void> => {
		await lab.down();
		rmSync(directory, { recursive: true, force: true });
	};
	t.teardown(remove);
	// tap ends a file that times out with SIGTERM.
	onInterrupt(remove);
	await lab.start();
	if (connectionTracking)
		await Promise.all(
			lab.topology.nodes.map(({ name }) =>
				lab.run(name, ["nft", "-f", "-"], { input: CONNECTION_TRACKING }),
			),
		);
	const cluster = new Cluster(lab, settings);
	await cluster.settled();
	return cluster;
}
