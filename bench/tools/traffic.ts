/** Socket traffic between two namespaces (bench/traffic.c), and its total CPU time. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface, type Interface } from "node:readline";
import type { Namespace } from "../../src/lab/namespace.js";
import { atEnd } from "./cleanup.js";
import { softirqTime } from "./cpu_time.js";
import { benchFile } from "./pktgen.js";

export const PORT = 5000;

export interface Exchanged {
	/** Bytes, transactions or datagrams sent by the client. */
	count: number;
	/** Bytes or datagrams received by the server. */
	received: number;
	/** Nanoseconds. */
	elapsed: number;
	/** CPU time of client, server and softirq threads, ns. */
	cpu: number;
	/** Microseconds; 0 if there are no answers. */
	p50: number;
	p99: number;
}

interface ServerReport {
	cpu: number;
	bytes: number;
	datagrams: number;
}

/** A server in one namespace for clients in another. It ends with the bench. */
export class Traffic {
	private readonly servers: Map<number, Promise<Server>>;
	private readonly client: Namespace;
	private readonly server: Namespace;
	private readonly address: string;
	/** Undefined: the server's own. */
	private readonly port: number | undefined;
	/** Of the server on CPU 0; that on CPU 1 has the next one. */
	private readonly firstPort: number;

	constructor(
		client: Namespace,
		server: Namespace,
		address: string,
		{
			servers = new Map(),
			port,
			firstPort = PORT,
		}: { servers?: Map<number, Promise<Server>>; port?: number; firstPort?: number } = {},
	) {
		this.client = client;
		this.server = server;
		this.address = address;
		this.servers = servers;
		this.port = port;
		this.firstPort = firstPort;
	}

	/** Traffic to the same servers at another of their addresses, or at a Service's address and port. */
	at(address: string, port?: number): Traffic {
		const { client, server, servers, firstPort } = this;
		const known = { servers, firstPort, ...(port === undefined ? {} : { port }) };
		return new Traffic(client, server, address, known);
	}

	/** Traffic of another client to the same servers. */
	from(client: Namespace): Traffic {
		const { server, address, servers, firstPort, port } = this;
		const known = { servers, firstPort, ...(port === undefined ? {} : { port }) };
		return new Traffic(client, server, address, known);
	}

	/** @param cpus CPUs of client and server; each pair of CPUs has a server of its own. */
	async run(
		what: "stream" | "exchange" | "connect" | "datagrams",
		seconds: number,
		numbers: readonly number[],
		cpus: readonly [number, number],
	): Promise<Exchanged> {
		const port = this.firstPort + cpus[1];
		let started = this.servers.get(port);
		if (started === undefined) {
			started = Server.start(this.server, port, cpus[1]);
			this.servers.set(port, started);
		}
		const server = await started;
		const before = { server: await server.report(), softirqs: softirqTime() };
		const args = [what, this.address, this.port ?? port, seconds, ...numbers].map(String);
		const program = await benchFile("traffic");
		const { stdout } = await this.client.run(["taskset", "-c", `${cpus[0]}`, program, ...args], {
			timeoutMs: seconds * 1000 + 15_000,
		});
		const client = JSON.parse(stdout) as Omit<Exchanged, "received">;
		const after = await server.report();
		const cpu = client.cpu + after.cpu - before.server.cpu + softirqTime() - before.softirqs;
		return {
			...client,
			received: what === "datagrams" ? after.datagrams : after.bytes,
			cpu,
		};
	}
}

class Server {
	private readonly child: ChildProcess;
	private readonly lines: Interface;

	private constructor(child: ChildProcess) {
		this.child = child;
		this.lines = createInterface({ input: child.stdout! });
	}

	static async start(namespace: Namespace, port: number, cpu: number): Promise<Server> {
		const program = await benchFile("traffic");
		const child = spawn(
			"nsenter",
			[`--net=${namespace.path}`, "taskset", "-c", `${cpu}`, program, "serve", `${port}`],
			// A session of its own: Ctrl-C reaches only the bench, which then ends the server.
			{ stdio: ["pipe", "pipe", "inherit"], detached: true },
		);
		atEnd(() => child.stdin?.end());
		const server = new Server(child);
		await once(server.lines, "line");
		return server;
	}

	/** The server's counts since the last report. */
	async report(): Promise<ServerReport> {
		const line = once(this.lines, "line");
		this.child.stdin?.write("\n");
		const [text] = (await line) as [string];
		return JSON.parse(text) as ServerReport;
	}
}
