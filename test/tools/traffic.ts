/** Runs the traffic program (traffic.c) in machines of a lab. */
import { type ChildProcess, execFileSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Test } from "tap";
import type { Lab } from "../../src/lab/lab.js";

export type Protocol = "tcp" | "udp" | "icmp";

/** Of a flood, or of connections that are held. Times are of the machine's monotonic clock. */
export interface TrafficReport {
	begun: number;
	/** Messages. */
	sent: number;
	answered: number;
	/** TCP had to send something again. */
	late: number;
	refused: number;
	/** Of a flood: given up. */
	unanswered: number;
	open: number;
	/** Received data of connections that are held. */
	arrivals: number;
	/** The last arrivals: of the connection that has waited longest, and the newest one. */
	oldestMs: number;
	newestMs: number;
}

/** What one address has sent to one port of this machine. */
export interface Seen {
	protocol: "tcp" | "udp";
	port: number;
	address: string;
	messages: number;
	connections: number;
	firstMs: number;
	lastMs: number;
}

export interface Target {
	protocol: Protocol;
	host: string;
	port: number;
}

export class Traffic {
	private readonly child: ChildProcess;
	private readonly answers: ((line: string) => void)[] = [];
	private onProbe: (id: number, answer: "yes" | "refused") => void = () => undefined;
	private nextId = 1;

	private constructor(child: ChildProcess) {
		this.child = child;
		createInterface({ input: child.stdout! }).on("line", (line) => {
			const [word = "", id] = line.split(" ");
			if (id !== undefined && (word === "yes" || word === "refused"))
				this.onProbe(Number(id), word);
			else this.answers.shift()?.(line);
		});
	}

	/** Starts it in each of these machines, with servers on these ports, until the end of the test. */
	static async start(
		t: Test,
		lab: Lab,
		machines: readonly string[],
		ports: readonly number[],
	): Promise<Map<string, Traffic>> {
		const directory = mkdtempSync(join(tmpdir(), "fairway-traffic-"));
		const program = join(directory, "traffic");
		const source = new URL("traffic.c", import.meta.url).pathname;
		execFileSync("gcc", ["-O2", "-Wall", "-Werror", "-o", program, source]);
		const all = new Map<string, Traffic>();
		t.teardown(async () => {
			for (const one of all.values()) await one.end();
			rmSync(directory, { recursive: true, force: true });
		});
		for (const machine of machines) {
			const child = lab
				.namespace(machine)
				.spawn([program, ...ports.map(String)], { stdio: ["pipe", "pipe", "inherit"] });
			child.stdin?.on("error", () => undefined);
			const one = new Traffic(child);
			all.set(machine, one);
			await one.answer("");
		}
		return all;
	}

	/** @param heard is called for each answer until `endProbes`; ids are the caller's. */
	probe(targets: ReadonlyMap<number, Target>, heard: typeof this.onProbe): void {
		this.onProbe = heard;
		for (const [id, target] of targets) this.tell(`probe ${id} ${words(target)}`);
	}

	async endProbes(): Promise<void> {
		await this.answer("end");
		this.onProbe = () => undefined;
	}

	/** Begins connections at this rate, each for one byte and its echo. Returns its number. */
	flood(target: Target, rate: number, waitMs: number): number {
		this.tell(`flood ${this.nextId} ${words(target)} ${rate} ${waitMs}`);
		return this.nextId++;
	}

	/** Opens connections on which both sides send: this one so often, the server every 50 ms. */
	hold(target: Target, count: number, everyMs: number): number {
		this.tell(`hold ${this.nextId} ${words(target)} ${count} ${everyMs}`);
		return this.nextId++;
	}

	async report(id: number): Promise<TrafficReport> {
		return JSON.parse(await this.answer(`report ${id}`)) as TrafficReport;
	}

	async stop(id: number): Promise<TrafficReport> {
		return JSON.parse(await this.answer(`stop ${id}`)) as TrafficReport;
	}

	/** The UDP server stops sending back. */
	async quiet(): Promise<void> {
		await this.answer("quiet");
	}

	/** What the servers have received. */
	async seen(): Promise<Seen[]> {
		return JSON.parse(await this.answer("seen")) as Seen[];
	}

	async end(): Promise<void> {
		this.child.stdin?.end();
		if (this.child.exitCode === null && this.child.signalCode === null)
			await once(this.child, "exit");
	}

	private tell(line: string): void {
		this.child.stdin?.write(`${line}\n`);
	}

	private answer(line: string): Promise<string> {
		const said = new Promise<string>((resolve) => this.answers.push(resolve));
		if (line !== "") this.tell(line);
		return said;
	}
}

function words({ protocol, host, port }: Target): string {
	return `${protocol} ${host.includes(":") ? host : `::ffff:${host}`} ${port}`;
}
