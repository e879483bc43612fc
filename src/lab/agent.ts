/** The Fairway agent of one Node of the lab, started as a user would start it. */
import { closeSync, mkdirSync, openSync, readFileSync, statSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { agentSocket, ask } from "../api/client.js";
import type { EndpointStatus } from "../api/messages/endpoints.js";
import type { ExplainAnswer, ExplainRequest } from "../api/messages/explain.js";
import type { PeerStatus } from "../api/messages/peers.js";
import type { ServiceStatus } from "../api/messages/services.js";
import type { Status } from "../api/messages/status.js";
import type { Namespace } from "./namespace.js";
import { command } from "./repository.js";
import { identify } from "./state.js";

const STOP_MS = 60_000;

export interface AgentOptions {
	node: string;
	namespace: Namespace;
	/** The agent's run directory; the log is beside it. */
	directory: string;
	pinDirectory: string;
	config: string;
	/** Where the cluster's objects are: a directory of manifests, or the API. */
	cluster: { manifests: string } | { kubeconfig: string };
	/** How long the agent may take to become ready. */
	patienceMs: number;
}

export class Agent {
	readonly node: string;
	readonly runDirectory: string;
	readonly pinDirectory: string;
	readonly log: string;
	private readonly options: AgentOptions;
	private pid: number | undefined;
	/** Offset in the log where the lines of this start begin. */
	private logStart = 0;

	constructor(options: AgentOptions) {
		this.options = options;
		this.node = options.node;
		this.runDirectory = `${options.directory}/run`;
		this.pinDirectory = options.pinDirectory;
		this.log = `${options.directory}/agent.log`;
	}

	get socket(): string {
		return agentSocket(this.runDirectory);
	}

	/**
	 * @param root directory of another build of Fairway, for an upgrade; default: this one.
	 * @throws Error with the end of the log if the agent exits or does not become ready.
	 */
	async start(root?: string): Promise<void> {
		const { node, namespace, directory, config, cluster, patienceMs } = this.options;
		mkdirSync(directory, { recursive: true });
		const log = openSync(this.log, "a");
		this.logStart = statSync(this.log).size;
		const child = namespace.spawn(
			[
				command("fairway", root),
				...["agent", "--node-name", node, "--config", config],
				...("manifests" in cluster
					? ["--manifests", cluster.manifests]
					: ["--kubeconfig", cluster.kubeconfig, "--cni-conf-dir", ""]),
				...["--run-dir", this.runDirectory, "--pin-dir", this.pinDirectory],
			],
			// A session of its own: the agent outlives `fairway lab up`, and Ctrl-C reaches only the lab.
			{ stdio: ["ignore", log, log], detached: true },
		);
		closeSync(log);
		let ended: string | undefined;
		child.on("error", (error) => (ended = error.message));
		child.on("exit", (status, signal) => (ended = `it ended with ${signal ?? status}`));
		child.unref();
		this.pid = child.pid;
		const end = Date.now() + patienceMs;
		while (!this.lines().some(({ msg }) => msg === "ready")) {
			if (ended === undefined && Date.now() < end) {
				await delay(20);
				continue;
			}
			throw new Error(
				`Cannot start the agent of ${node}: expected "ready", but ${ended ?? `none came in ${patienceMs} ms`}\n${this.lastWords()}`,
			);
		}
	}

	/** The log lines since the last start. */
	lines(): { msg?: string; level?: number; [field: string]: unknown }[] {
		let text: string;
		try {
			text = readFileSync(this.log, "utf8").slice(this.logStart);
		} catch {
			return [];
		}
		return text.split("\n").flatMap((line) => {
			try {
				return [JSON.parse(line)];
			} catch {
				return [];
			}
		});
	}

	/** The last lines of the log, errors with their reason; lines that are not JSON are kept as they are. */
	private lastWords(): string {
		const words = this.lines().map((line) => {
			const { message } = (line.err ?? {}) as { message?: string };
			return [line.msg, message].filter(Boolean).join(": ");
		});
		if (words.length === 0) words.push(readFileSync(this.log, "utf8").slice(this.logStart).trim());
		return [...new Set(words)].slice(-5).join("\n");
	}

	/** Ends the process and waits until it has exited; forwarding continues. */
	async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
		const { pid } = this;
		if (pid === undefined || identify(pid) === undefined) return;
		process.kill(pid, signal);
		const end = Date.now() + STOP_MS;
		while (identify(pid) !== undefined) {
			if (Date.now() > end)
				throw new Error(
					`Cannot stop the agent of ${this.node}: expected its end after ${signal}, still there after ${STOP_MS} ms`,
				);
			await delay(10);
		}
		this.pid = undefined;
	}

	get running(): boolean {
		return this.pid !== undefined && identify(this.pid) !== undefined;
	}

	status(): Promise<Status> {
		return ask<Status>(this.socket, "GET", "/status");
	}

	peers(): Promise<PeerStatus[]> {
		return ask<PeerStatus[]>(this.socket, "GET", "/peers");
	}

	endpoints(): Promise<EndpointStatus[]> {
		return ask<EndpointStatus[]>(this.socket, "GET", "/endpoints");
	}

	/** Those that Fairway serves. */
	services(): Promise<ServiceStatus[]> {
		return ask<ServiceStatus[]>(this.socket, "GET", "/services");
	}

	explain(request: ExplainRequest): Promise<ExplainAnswer> {
		return ask<ExplainAnswer>(this.socket, "POST", "/explain", { body: request });
	}
}
