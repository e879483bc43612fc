/**
 * etcd and API servers alone, without Nodes: what asks only for objects needs no more. They run in the network
 * namespace of this process, which is to be one of its own:
 *
 *   https://ADDRESS:PORT ─┬─ etcd 127.0.0.1:2379
 *   https://ADDRESS:PORT ─┘
 */
import { type ChildProcess, spawn } from "node:child_process";
import { generateKeyPairSync } from "node:crypto";
import { once } from "node:events";
import { closeSync, mkdirSync, mkdtempSync, openSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Access } from "../../src/kube/access.js";
import { ApiClient } from "../../src/kube/api_client.js";
import { systemClock } from "../../src/kube/clock.js";
import { until } from "../../src/lab/until.js";
import { Authority } from "../tools/fake_api/certificates.js";
import { program } from "./layout.js";

/** On 127.0.0.1, for its clients. */
export const ETCD_PORT = 2379;
const PATIENCE_MS = 60_000;
const PATCH = "application/merge-patch+json";

export class ApiAlone {
	readonly address: string;
	readonly directory = mkdtempSync(join(tmpdir(), "fairway-api-"));
	readonly authority = new Authority();
	readonly #running = new Map<string, ChildProcess>();

	/** @param address at which the servers listen; this machine has it */
	constructor(address: string) {
		this.address = address;
		const { certificate, key } = this.authority.issue("kube-apiserver", [address]);
		const account = generateKeyPairSync("ec", { namedCurve: "P-256" });
		const files = {
			"ca.crt": this.authority.certificate,
			"api.crt": certificate,
			"api.key": key,
			"account.key": account.privateKey.export({ type: "pkcs8", format: "pem" }),
			"account.pub": account.publicKey.export({ type: "spki", format: "pem" }),
		};
		for (const [name, text] of Object.entries(files)) writeFileSync(this.file(name), text);
		mkdirSync(this.file("data"), { mode: 0o700 });
	}

	file(name: string): string {
		return join(this.directory, name);
	}

	startEtcd(): void {
		this.#start("etcd", program("etcd"), [
			...[
				"--data-dir",
				this.file("data"),
				"--unsafe-no-fsync",
				"--quota-backend-bytes",
				`${8 << 30}`,
			],
			...["--listen-client-urls", `http://127.0.0.1:${ETCD_PORT}`],
			...["--advertise-client-urls", `http://127.0.0.1:${ETCD_PORT}`],
			...["--listen-peer-urls", "http://127.0.0.1:2380"],
		]);
	}

	/** Resolves when it is ready. */
	async startServer(port: number, ...more: string[]): Promise<void> {
		this.#start(`api-${port}`, program("kube-apiserver"), [
			...["--etcd-servers", `http://127.0.0.1:${ETCD_PORT}`, "--secure-port", String(port)],
			...["--advertise-address", this.address, "--bind-address", this.address],
			...["--endpoint-reconciler-type", "none", "--authorization-mode", "RBAC"],
			...["--tls-cert-file", this.file("api.crt"), "--tls-private-key-file", this.file("api.key")],
			...["--client-ca-file", this.file("ca.crt")],
			...["--service-account-issuer", "https://kubernetes.default.svc"],
			...["--service-account-key-file", this.file("account.pub")],
			...["--service-account-signing-key-file", this.file("account.key")],
			...["--service-cluster-ip-range", "10.96.0.0/16", "--shutdown-delay-duration", "0s"],
			...more,
		]);
		const user = new ApiUser(this.access(port));
		try {
			await until("ready", async () => (await user.ask("GET", "/readyz")) === 200, PATIENCE_MS);
		} finally {
			user.close();
		}
	}

	async end(...names: string[]): Promise<void> {
		for (const name of names) {
			const child = this.#running.get(name);
			this.#running.delete(name);
			if (child === undefined || child.exitCode !== null) continue;
			const ended = once(child, "exit");
			child.kill("SIGKILL");
			await ended;
		}
	}

	signal(name: string, signal: NodeJS.Signals): void {
		this.#running.get(name)?.kill(signal);
	}

	async close(): Promise<void> {
		await this.end(...this.#running.keys());
		rmSync(this.directory, { recursive: true });
	}

	/** Of an administrator, at the servers on these ports. */
	access(...ports: number[]): Access {
		const { certificate, key } = this.authority.issue("admin", [], "system:masters");
		const servers = ports.map((port) => new URL(`https://${this.address}:${port}`));
		return { servers, ca: this.authority.certificate, certificate, key };
	}

	#start(name: string, file: string, args: string[]): void {
		const log = openSync(this.file(`${name}.log`), "a");
		this.#running.set(name, spawn(file, args, { stdio: ["ignore", log, log] }));
		closeSync(log);
	}
}

/** Somebody else who uses the API. */
export class ApiUser {
	readonly #client: ApiClient;
	readonly #signal = new AbortController().signal;

	constructor(access: Access) {
		this.#client = new ApiClient({ access: async () => access, clock: systemClock });
	}

	/** Returns the status. */
	async ask(method: "GET" | "POST" | "DELETE" | "PATCH" | "PUT", path: string, body?: object) {
		const contentType = method === "PATCH" ? PATCH : "application/json";
		const call = { method, path, signal: this.#signal, contentType };
		const answer = await this.#client.send(body === undefined ? call : { ...call, body });
		for await (const _ of answer.body);
		return answer.status;
	}

	/** Returns the answer's JSON. @throws Error when its status is not 200 */
	async read(path: string): Promise<unknown> {
		const answer = await this.#client.send({ path, signal: this.#signal });
		const chunks: Buffer[] = [];
		for await (const chunk of answer.body) chunks.push(chunk);
		const text = Buffer.concat(chunks).toString();
		if (answer.status !== 200)
			throw new Error(`Cannot read ${path}: expected status 200, got ${answer.status}: ${text}`);
		return JSON.parse(text);
	}

	addNode(name: string, number: number, more: object = {}): Promise<number> {
		const podCIDR = `10.${100 + (number >> 8)}.${number & 255}.0/24`;
		const object = {
			...{ apiVersion: "v1", kind: "Node", metadata: { name } },
			spec: { podCIDR, podCIDRs: [podCIDR], ...more },
		};
		return this.ask("POST", "/api/v1/nodes", object);
	}

	removeNode(name: string): Promise<number> {
		return this.ask("DELETE", `/api/v1/nodes/${name}`);
	}

	close(): void {
		this.#client.close();
	}
}
