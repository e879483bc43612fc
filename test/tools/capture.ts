/**
 * Captures what goes over the wire to a machine: tcpdump at the switch port, on packets that leave the
 * switch, where they are segmented and checksummed.
 */
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Lab } from "../../src/lab/lab.js";
import { familyOf, withoutLength } from "../../src/lab/subnet.js";
import { until } from "../../src/lab/until.js";

export class Capture {
	private readonly lab: Lab;
	private readonly machine: string;
	private readonly directory: string;
	private readonly child: ChildProcess;
	/** The output of tcpdump on standard error. */
	private said = "";

	private constructor(lab: Lab, machine: string, directory: string, child: ChildProcess) {
		this.lab = lab;
		this.machine = machine;
		this.directory = directory;
		this.child = child;
		child.stderr?.setEncoding("utf8").on("data", (text: string) => {
			this.said += text;
		});
	}

	/** @param machine a Node, or "router": then the router's port on the first switch. */
	static async start(lab: Lab, machine: string): Promise<Capture> {
		const node = lab.topology.nodes.find(({ name }) => name === machine);
		const bridge = lab.namespace(node?.subnet ?? lab.topology.subnets[0]?.name ?? "");
		const directory = mkdtempSync(join(tmpdir(), "fairway-capture-"));
		const port = node === undefined ? machine : lab.underlay.machine(machine).port;
		const child = bridge.spawn(
			// The buffer consists of slots of the snapshot length: the default of 256 KB has only 64.
			["tcpdump", "-i", port, "-Q", "out", "-U", "-s", "1700", "-B", "32768"].concat([
				"-Z",
				"root",
				"--immediate-mode",
				"-w",
				join(directory, "wire.pcap"),
			]),
			{ stdio: ["ignore", "ignore", "pipe"] },
		);
		const capture = new Capture(lab, machine, directory, child);
		await until("tcpdump listening", () => capture.said.includes("listening on"));
		return capture;
	}

	get file(): string {
		return join(this.directory, "wire.pcap");
	}

	/** Resolves when everything sent before is in the file. */
	async stop(): Promise<void> {
		const marker = Buffer.from("fa1aca9fe0d0e0f0", "hex");
		const node = this.machine === "router" ? this.lab.topology.nodes[0]?.name : this.machine;
		const from = this.machine === "router" ? (node ?? "") : "router";
		const family = this.lab.hasFamily(node ?? "", 4) ? 4 : 6;
		const subnet = this.lab.topology.subnets[0];
		const router = subnet?.routers.find((address) => familyOf(address) === family) ?? "";
		const address =
			this.machine === "router" ? withoutLength(router) : this.lab.address(this.machine, family);
		const ping = ["ping", "-c", "1", "-W", "1", "-s", "32", "-p", marker.toString("hex"), address];
		await until("the marker in the capture", async () => {
			await this.lab.run(from, ping, { mayFail: true });
			return readFileSync(this.file).includes(marker);
		});
		this.child.kill("SIGINT");
		if (this.child.exitCode === null) await once(this.child, "close");
		const dropped = /(\d+) packets dropped by kernel/.exec(this.said)?.[1];
		if (dropped !== "0") throw new Error(`Cannot capture: expected every packet, ${this.said}`);
	}

	remove(): void {
		this.child.kill("SIGKILL");
		rmSync(this.directory, { recursive: true, force: true });
	}
}
