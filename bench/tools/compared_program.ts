/** A program that is compared with Fairway, on a Node of a site, with an API server of its own. */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { Namespace } from "../../src/lab/namespace.js";
import { atEnd } from "./cleanup.js";
import type { Change } from "./compared_api.js";

const top = fileURLToPath(new URL("../..", import.meta.url)).replace(/\/$/, "");

/** Why there are no rows of a program, as a sentence; "": there are. */
export function withoutProgram(name: string): string {
	const path = `build/kubernetes/bin/${name}`;
	if (existsSync(join(top, path))) return "";
	return `${name} is left out: expected ${path}, which \`npm run bench\` builds with Go 1.26, got none.`;
}

export class ComparedProgram {
	readonly #name: string;
	readonly #node: Namespace;
	readonly #api: ChildProcess;
	readonly #answers: AsyncIterator<string>;
	/** For files of the program. */
	readonly folder: string;
	readonly kubeconfig: string;

	private constructor(name: string, node: Namespace) {
		this.#name = name;
		this.#node = node;
		this.folder = mkdtempSync(join(tmpdir(), "fairway-bench-"));
		atEnd(() => rmSync(this.folder, { recursive: true, force: true }));
		this.kubeconfig = join(this.folder, "kubeconfig");
		const server = `${top}/bench/tools/compared_api.ts`;
		this.#api = this.#spawn([process.execPath, "--import=tsx", server, this.kubeconfig], {
			stdio: ["pipe", "pipe", "inherit"],
		});
		atEnd(() => this.#api.stdin?.end());
		this.#answers = createInterface({ input: this.#api.stdout! })[Symbol.asyncIterator]();
	}

	/** Starts the API server, with these objects. @param name the program's */
	static async prepare(
		name: string,
		node: Namespace,
		objects: readonly Change[],
	): Promise<ComparedProgram> {
		const program = new ComparedProgram(name, node);
		await program.#answered();
		for (const change of objects) await program.change(change);
		return program;
	}

	/** Starts the program. Its log is shown with COMPARED_LOG set. */
	run(args: readonly string[], environment: Record<string, string> = {}): void {
		const log = process.env.COMPARED_LOG === undefined ? "ignore" : "inherit";
		const variables = Object.entries(environment).map(([name, value]) => `${name}=${value}`);
		const path = `${top}/build/kubernetes/bin/${this.#name}`;
		const child = this.#spawn(["env", ...variables, path, ...args], {
			stdio: ["ignore", log, log],
		});
		atEnd(() => void child.kill());
	}

	/** Resolves when the API server has the change. */
	async change(change: Change): Promise<void> {
		this.#api.stdin?.write(`${JSON.stringify(change)}\n`);
		await this.#answered();
	}

	async #answered(): Promise<void> {
		const { done } = await this.#answers.next();
		if (done === true) throw new Error(`Cannot serve ${this.#name}: its API server ended`);
	}

	#spawn(command: string[], { stdio }: { stdio: ("pipe" | "ignore" | "inherit")[] }): ChildProcess {
		const inside = [`--net=/run/netns/${this.#node.name}`, ...command];
		return spawn("nsenter", inside, { cwd: top, stdio, detached: true });
	}
}
