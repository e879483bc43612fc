/**
 * What goes over the wire to a machine: tcpdump at the switch's port, on what leaves the switch,
 * where packets are cut to size and have their checksums. Dissected by tshark.
 */
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Lab } from "../../src/lab/lab.js";
import { run } from "../../src/lab/namespace.js";
import { familyOf, withoutLength } from "../../src/lab/subnet.js";
import { until } from "../../src/lab/until.js";

/** A field that occurs several times in a packet (outer first) has several values. */
export type Dissected<F extends string> = Record<F, string[]>;

export class Capture {
	private readonly lab: Lab;
	private readonly machine: string;
	private readonly directory: string;
	private readonly child: ChildProcess;
	/** By tcpdump, on standard error. */
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

	/** @param machine a Node, or "router"; of the latter the port in the first switch. */
	static async start(lab: Lab, machine: string): Promise<Capture> {
		const node = lab.topology.nodes.find(({ name }) => name === machine);
		const bridge = lab.namespace(node?.subnet ?? lab.topology.subnets[0]?.name ?? "");
		const directory = mkdtempSync(join(tmpdir(), "fairway-capture-"));
		const port = node === undefined ? machine : lab.underlay.machine(machine).port;
		const child = bridge.spawn(
			// The buffer is cut into slots of the snapshot length: with the default of 256 KB, 64 of them.
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

	/** Ends when all that was sent before is in the file. */
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

	/**
	 * The packets that a display filter passes, a field's values each.
	 *
	 * @param decode as tshark's -d, "udp.port==7000,geneve".
	 */
	async dissect<F extends string>(
		filter: string,
		fields: readonly F[],
		options: { preferences?: readonly string[]; decode?: readonly string[] } = {},
	): Promise<Dissected<F>[]> {
		const { preferences = [], decode = [] } = options;
		const { stdout } = await run([
			...["tshark", "-n", "-r", this.file, "-Y", filter, "-T", "fields", "-E", "occurrence=a"],
			...["-E", "aggregator=|", "-E", "separator=/t"],
			...[...CHECKS, ...preferences].flatMap((preference) => ["-o", preference]),
			...decode.flatMap((rule) => ["-d", rule]),
			...fields.flatMap((field) => ["-e", field]),
		]);
		return stdout
			.split("\n")
			.filter((line) => line !== "")
			.map((line) => {
				const values = line.split("\t");
				const entries = fields.map((f, i) => [f, (values[i] ?? "").split("|").filter(Boolean)]);
				return Object.fromEntries(entries) as Dissected<F>;
			});
	}

	/** A packet's bytes, to look at what should not be. */
	async bytes(number: string): Promise<string> {
		const filter = ["-Y", `frame.number == ${number}`, "-x"];
		return (await run(["tshark", "-n", "-r", this.file, ...filter])).stdout;
	}

	remove(): void {
		this.child.kill("SIGKILL");
		rmSync(this.directory, { recursive: true, force: true });
	}
}

const CHECKS = [
	"ip.check_checksum:TRUE",
	"udp.check_checksum:TRUE",
	"tcp.check_checksum:TRUE",
	"ip.defragment:FALSE",
	"ipv6.defragment:FALSE",
];
