/** TCP from a Pod or from outside: one long connection, or a new one for each request. */
import { join } from "node:path";
import type { Output, RunOptions } from "../../src/lab/namespace.js";
import { until } from "../../src/lab/until.js";
import { Daemon } from "./daemon.js";
import { folders, router } from "./layout.js";
import type { TestPod } from "./pods.js";

/** Where commands run: a Pod, or the router, which is outside the cluster. */
export interface Client {
	name: string;
	run(command: readonly string[], options?: RunOptions): Promise<Output>;
	spawn(name: string, command: readonly string[]): Promise<Daemon>;
}

export const outside: Client = {
	name: "outside",
	run: (command, options) => router.run(command, options),
	spawn: async (name, command) =>
		new Daemon(name, ["nsenter", `--net=${router.path}`, "--", ...command]),
};

const echo = join(folders.source, "node/echo.mjs");
const ECHO_PORT = 9000;

const inUrl = (address: string): string => (address.includes(":") ? `[${address}]` : address);
const scratch = (kind: string): string => `/run/${kind}-${process.hrtime.bigint()}`;

/** Serves long connections in a Pod, on port 9000. */
export async function serveEcho(pod: TestPod): Promise<void> {
	if (await isServed(pod)) return;
	await pod.spawn("echo", [process.execPath, echo, "serve", String(ECHO_PORT)]);
	await until(`${pod.name} serves long connections`, () => isServed(pod));
}

const isServed = async (pod: TestPod): Promise<boolean> =>
	(await pod.run(["ss", "-Hltn", `sport = :${ECHO_PORT}`])).stdout.includes("LISTEN");

/** One TCP connection that carries a byte each 10 ms, there and back. */
export class Connection {
	readonly #client: Client;
	readonly #daemon: Daemon;
	readonly #file: string;

	private constructor(client: Client, daemon: Daemon, file: string) {
		this.#client = client;
		this.#daemon = daemon;
		this.#file = file;
	}

	static async open(client: Client, address: string, port = ECHO_PORT): Promise<Connection> {
		const file = scratch("connection");
		const command = [process.execPath, echo, "connect", address, String(port), file];
		const daemon = await client.spawn("connection", command);
		await until(`a connection to ${address} is open`, async () => {
			const { status } = await client.run(["test", "-e", `${file}.pid`], { mayFail: true });
			return status === 0;
		});
		return new Connection(client, daemon, file);
	}

	/** Ends it. @returns bytes, the longest time without an answer, and why it ended before; null: it lived */
	async end(): Promise<{
		sent: number;
		received: number;
		longestGapMs: number;
		error: string | null;
	}> {
		await this.#client.run(["sh", "-c", `kill -INT $(cat ${this.#file}.pid)`]);
		await until("the connection's process has ended", () => !this.#daemon.running);
		const { stdout } = await this.#client.run(["cat", this.#file]);
		return JSON.parse(stdout);
	}
}

/** HTTP requests at a fixed rate, each by a connection of its own. */
export class Requests {
	readonly #client: Client;
	readonly #daemon: Daemon;
	readonly #file: string;

	private constructor(client: Client, daemon: Daemon, file: string) {
		this.#client = client;
		this.#daemon = daemon;
		this.#file = file;
	}

	/** @param rate requests a second */
	static async start(client: Client, address: string, port = 80, rate = 50): Promise<Requests> {
		const file = scratch("requests");
		const url = `http://${inUrl(address)}:${port}/hostname?[1-10000000]`;
		const curl = [
			// To standard error, which is not buffered.
			...["curl", "-s", "-w", "'%{stderr}%{http_code} %{errormsg}\\n'", "--max-time", "3"],
			...["--rate", `${rate}/s`, "-H", "'Connection: close'", `'${url}'`],
		].join(" ");
		const script = `echo $$ > ${file}.pid; exec ${curl} > /dev/null 2> ${file}`;
		const daemon = await client.spawn("requests", ["sh", "-c", script]);
		await until(`${address} answers requests`, async () => {
			const { stdout } = await client.run(["cat", file], { mayFail: true });
			return stdout.includes("200");
		});
		return new Requests(client, daemon, file);
	}

	/** Ends it. @returns the number of requests, and what was wrong with those that failed */
	async end(): Promise<{ sent: number; failures: string[] }> {
		await this.#client.run(["sh", "-c", `kill -INT $(cat ${this.#file}.pid)`]);
		await until("curl has ended", () => !this.#daemon.running);
		const { stdout } = await this.#client.run(["cat", this.#file]);
		const answers = stdout.split("\n").filter((line) => line !== "");
		return {
			sent: answers.length,
			failures: answers.filter((line) => !line.startsWith("200")),
		};
	}
}

/** Runs one HTTP request. @returns the body; undefined: no answer */
export async function request(
	client: Pick<Client, "run">,
	address: string,
	port = 80,
	path = "hostname",
): Promise<string | undefined> {
	const curl = ["curl", "-sSf", "--max-time", "3", `http://${inUrl(address)}:${port}/${path}`];
	const { status, stdout } = await client.run(curl, { mayFail: true });
	return status === 0 ? stdout : undefined;
}
