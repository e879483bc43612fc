/**
 * The wrapper of iproute2. Queries return the JSON that `ip -json` prints. Writes go through `ip -batch -`,
 * so that a thousand of them cost one process; each failed line is reported by itself.
 *
 * A namespace is entered with `nsenter --net=`, not with `ip netns exec`, which mounts a new /sys and so
 * hides bpffs.
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { parseListInTurns } from "./json_list.js";

/** A line of a batch that the kernel or iproute2 refused; the other lines took effect. */
export interface BatchFailure {
	/** The line as given. */
	command: string;
	/** The message of iproute2: "RTNETLINK answers: File exists". */
	message: string;
	/** The errno of the message, if it is a common one. */
	code: ErrorCode | undefined;
}

export type ErrorCode = keyof typeof messagesByCode;

/** The messages of iproute2 for the errors that callers distinguish. */
const messagesByCode = {
	EEXIST: [/File exists/, /already exists/, /Address already assigned/],
	ENODEV: [/Cannot find device/, /does not exist/, /No such device/],
	ESRCH: [/No such process/],
	ENOENT: [/No such file or directory/],
	EADDRNOTAVAIL: [/Cannot assign requested address/, /Address not found/],
	ENETUNREACH: [/Network is unreachable/, /No route to host/],
	ENETDOWN: [/Network is down/],
	EINVAL: [/Invalid argument/, /Invalid prefsrc/, /Nexthop has invalid gateway/],
	ERANGE: [/Numerical result out of range/],
	EOPNOTSUPP: [/Operation not supported/, /Unknown device type/],
	EPERM: [/Operation not permitted/],
} satisfies Record<string, RegExp[]>;

function codeOf(message: string): ErrorCode | undefined {
	for (const [code, patterns] of Object.entries(messagesByCode))
		if (patterns.some((pattern) => pattern.test(message))) return code as ErrorCode;
	return undefined;
}

/** Thrown if a command fails. `message` includes the output of iproute2. */
export class IpRouteError extends Error {
	override readonly name = "IpRouteError";
	readonly command: string;
	/** The output: "RTNETLINK answers: File exists". */
	readonly detail: string;
	readonly code: ErrorCode | undefined;

	constructor(command: string, detail: string) {
		super(`\`${command}\` failed: ${detail}`);
		this.command = command;
		this.detail = detail;
		this.code = codeOf(detail);
	}
}

interface Output {
	status: number | null;
	stdout: string;
	stderr: string;
}

/** A process that hangs on a kernel lock would keep every Pod from starting, and the agent from stopping. */
const TIMEOUT_MS = 20_000;
/** For blocking calls, during which nothing else runs. */
const BLOCKING_MS = 1_000;

/** Output of this many characters and more is parsed in pieces: thousands of routes are megabytes. */
const LONG = 64 * 1024;

/** Keeps the messages above in English, should iproute2 or ethtool ever be translated. */
const environment = (): NodeJS.ProcessEnv => ({ ...process.env, LC_ALL: "C" });

export class IpRoute {
	readonly netns: string | undefined;
	readonly timeoutMs: number;

	/**
	 * @param netns path of a network namespace ("/run/netns/x", "/proc/1/ns/net"); default: the current one.
	 * @param timeoutMs a process that takes longer is killed
	 */
	constructor(netns?: string, timeoutMs = TIMEOUT_MS) {
		this.netns = netns;
		this.timeoutMs = timeoutMs;
	}

	inNamespace(netns: string): IpRoute {
		return new IpRoute(netns, this.timeoutMs);
	}

	/** Runs `ip -json ARGS` and returns the printed objects; nothing found gives an empty list. */
	async query<T>(...args: string[]): Promise<T[]> {
		const output = await this.output("ip", ["-json", ...args]);
		if (output.status !== 0 || output.stdout.length < LONG) return parseObjects<T>(args, output);
		try {
			return existing(await parseListInTurns<T>(output.stdout));
		} catch {
			throw notJson(args, output.stdout);
		}
	}

	/** Like query, but blocking, for callers that cannot wait (a few ms each). */
	querySync<T>(...args: string[]): T[] {
		const [file, all] = this.inside("ip", ["-json", ...args]);
		const result = spawnSync(file, all, {
			...{ encoding: "utf8", env: environment(), timeout: BLOCKING_MS, killSignal: "SIGKILL" },
		});
		if (result.error !== undefined)
			throw new IpRouteError(`ip ${args.join(" ")}`, result.error.message);
		return parseObjects<T>(args, result);
	}

	/** Makes one change: `ip ARGS`. */
	async run(...args: string[]): Promise<void> {
		await this.command("ip", ...args);
	}

	/**
	 * Makes any number of changes in one process, in order, one line each without the leading "ip". Later
	 * lines are executed even if a line fails. Resolves with the failed lines.
	 */
	async batch(lines: readonly string[]): Promise<BatchFailure[]> {
		if (lines.length === 0) return [];
		const output = await this.output("ip", ["-force", "-batch", "-"], `${lines.join("\n")}\n`);
		const failures: BatchFailure[] = [];
		let said: string[] = [];
		for (const line of output.stderr.split("\n")) {
			const number = /^Command failed -:(\d+)$/.exec(line)?.[1];
			if (number === undefined) {
				if (line.trim() !== "") said.push(line.trim());
				continue;
			}
			const message = said.join("; ");
			failures.push({ command: lines[Number(number) - 1] ?? "", message, code: codeOf(message) });
			said = [];
		}
		// iproute2 stops at a line that it cannot parse, without its number, even with -force.
		if (output.status !== 0 && (failures.length === 0 || said.length > 0))
			throw new IpRouteError("ip -batch -", said.join("; ") || `exit status ${output.status}`);
		return failures;
	}

	/** Runs another tool (ethtool, tc, sysctl) in this namespace; resolves with its standard output. */
	async command(file: string, ...args: string[]): Promise<string> {
		const { status, stdout, stderr } = await this.output(file, args);
		if (status === 0) return stdout;
		throw new IpRouteError(`${file} ${args.join(" ")}`, stderr.trim() || `exit status ${status}`);
	}

	/** Starts a long-running command, such as `ip monitor`; the caller owns the process. */
	start(file: string, ...args: string[]): ChildProcess {
		const [inside, all] = this.inside(file, args);
		return spawn(inside, all, { env: environment(), stdio: ["ignore", "pipe", "pipe"] });
	}

	#ended(signal: NodeJS.Signals): string {
		return signal === "SIGKILL"
			? `ended by SIGKILL (the limit is ${this.timeoutMs} ms)`
			: `ended by ${signal}`;
	}

	private inside(file: string, args: string[]): [string, string[]] {
		if (this.netns === undefined) return [file, args];
		return ["nsenter", [`--net=${this.netns}`, "--", file, ...args]];
	}

	private output(file: string, args: string[], input?: string): Promise<Output> {
		const [inside, all] = this.inside(file, args);
		return new Promise((resolve, reject) => {
			// A process group of its own, so that its children are killed with it.
			const child = spawn(inside, all, { env: environment(), detached: true });
			const command = `${file} ${args.join(" ")}`;
			// Before its streams are used: when descriptors have run out, the child has none.
			child.on("error", (error) => reject(new IpRouteError(command, error.message)));
			if (child.pid === undefined) return;
			const group = -child.pid;
			const limit = setTimeout(() => process.kill(group, "SIGKILL"), this.timeoutMs);
			child.on("exit", () => clearTimeout(limit));
			let stdout = "";
			let stderr = "";
			child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
			child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
			child.on("close", (status, signal) => {
				if (signal === null) resolve({ status, stdout, stderr });
				else reject(new IpRouteError(command, this.#ended(signal)));
			});
			// A child that exits before it reads its input explains why on standard error.
			child.stdin.on("error", () => {});
			child.stdin.end(input);
		});
	}
}

function parseObjects<T>(args: string[], { status, stdout, stderr }: Output): T[] {
	if (status !== 0)
		throw new IpRouteError(`ip ${args.join(" ")}`, stderr.trim() || `exit status ${status}`);
	if (stdout.trim() === "") return [];
	try {
		return existing(JSON.parse(stdout) as T[]);
	} catch {
		throw notJson(args, stdout);
	}
}

/** iproute2 prints {} for objects that disappeared in the meantime. */
function existing<T>(objects: readonly T[]): T[] {
	return objects.filter((object) => Object.keys(object as object).length > 0);
}

function notJson(args: readonly string[], stdout: string): IpRouteError {
	return new IpRouteError(`ip ${args.join(" ")}`, `not JSON: ${stdout.slice(0, 100)}`);
}
