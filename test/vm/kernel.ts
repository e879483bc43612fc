/**
 * Debian's kernels under QEMU, by vmrun and get-kernel of this directory. The guest sees this
 * machine's root read-only, so the checkout, Node.js and the build are there.
 *
 * How long a guest takes says more about the machine's load than about Fairway: there are time limits only so
 * that a guest that hangs ends some time.
 */
import { type ChildProcess, execFile } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { build } from "esbuild";
import { onInterrupt } from "../../src/lab/interrupt.js";

const run = promisify(execFile);
const top = fileURLToPath(new URL("../..", import.meta.url));
const tools = fileURLToPath(new URL(".", import.meta.url));
const unpacked = process.env.VM_KERNELS ?? "/var/cache/fairway-kernels";

/** "linux-image-6.12.117+deb12-amd64" of version "6.12": not the cloud, RT or unsigned variants. */
function isPackageOf(version: string, name: string): boolean {
	const rest = name.startsWith(`linux-image-${version}.`)
		? name.slice(`linux-image-${version}.`.length)
		: "";
	return /^\d[\d.+-]*(\+?deb\d+)?-amd64$/.test(rest);
}

/** The newest of the packages by their numbers. */
function newest(names: string[]): string | undefined {
	const numbers = (name: string) => (name.match(/\d+/g) ?? []).map(Number);
	return names
		.sort((left, right) => {
			const [a, b] = [numbers(left), numbers(right)];
			const differs = a.findIndex((number, index) => number !== b[index]);
			return differs < 0 ? 0 : a[differs]! - (b[differs] ?? 0);
		})
		.at(-1);
}

/** A directory with a kernel of this version: an existing one, otherwise Debian's newest. */
export async function kernel(version: string): Promise<string> {
	const kept = existsSync(unpacked) ? readdirSync(unpacked) : [];
	let name = newest(kept.filter((name) => isPackageOf(version, name)));
	if (name === undefined) {
		const { stdout } = await run("apt-cache", ["pkgnames", `linux-image-${version}.`]);
		name = newest(stdout.split("\n").filter((name) => isPackageOf(version, name)));
	}
	if (name === undefined)
		throw new Error(
			`Cannot boot Linux ${version}: apt has no package linux-image-${version}.*-amd64`,
		);
	const { stdout } = await run(`${tools}get-kernel`, [name]);
	return stdout.trim();
}

export interface Outcome {
	/** The command's status; 124: time-out, 125: the guest died. */
	status: number;
	/** Standard output and standard error of the command, mixed. */
	output: string;
	/** The messages of vmrun, with the guest's kernel log if it died. */
	notes: string;
}

/** tap ends a file that times out with SIGTERM: the guests end with it, by `exit`. */
onInterrupt(async () => undefined);

/** Seconds after which a guest is ended. */
const GUEST_SECONDS = 1500;
/** For tap: guests whose kernels may first have to be downloaded. */
export const TEST_MS = 2 * GUEST_SECONDS * 1000;

/**
 * A program of inside/ as one file of JavaScript, for emulation is slow at finding, translating and linking many.
 * It lies as deep below the top as src/lab, whose paths to other files hold.
 */
export async function bundle(name: string): Promise<string> {
	const source = join(tools, "inside", `${name}.ts`);
	const file = join(top, "build/vm", `${name}.mjs`);
	await build({
		...{ entryPoints: [source], outfile: file, bundle: true, format: "esm", platform: "node" },
		...{ external: ["#native"], logLevel: "warning" },
		banner: {
			js: 'import { createRequire as makeRequire } from "node:module"; const require = makeRequire(import.meta.url);',
		},
	});
	return file;
}

/**
 * Runs a command as root in a guest with the kernel of `kernel()`. Its writes are lost. `modules`
 * are loaded first, from the directory itself: the guest's kernel cannot call modprobe, and its
 * /usr/lib/modules is there only where this machine has one.
 */
export async function runIn(
	directory: string,
	command: string[],
	options: { modules?: string[] } = {},
): Promise<Outcome> {
	const modules = options.modules?.length
		? `modprobe -d '${directory}' -a ${options.modules.join(" ")}`
		: ":";
	const prepared = ["bash", "-c", `${modules} && exec "$@"`, "bash"];
	const env = {
		...process.env,
		VM_KERNEL: directory,
		VM_VERBOSE: "1",
		VM_TIMEOUT: String(GUEST_SECONDS),
		// On a busy machine, emulation is too slow for the kernel's timer check, which panics.
		VM_APPEND: "no_timer_check",
		// The options of the tap that runs this test must not reach the guest.
		NODE_OPTIONS: "",
	};
	let child: ChildProcess | undefined;
	const stop = () => child?.kill("SIGTERM");
	process.once("exit", stop);
	try {
		return await new Promise<Outcome>((resolve) => {
			child = execFile(
				`${tools}vmrun`,
				[...prepared, ...command],
				{ cwd: top, env, maxBuffer: 64 << 20 },
				(error, output, notes) =>
					resolve({ status: error ? Number(error.code ?? 125) : 0, output, notes }),
			);
		});
	} finally {
		process.off("exit", stop);
	}
}
