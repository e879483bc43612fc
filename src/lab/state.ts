/**
 * The record of what a lab makes, written to disk before it is made, so that everything of a lab that
 * was killed can be found and removed.
 */
import {
	mkdirSync,
	readdirSync,
	readFileSync,
	renameSync,
	rmdirSync,
	rmSync,
	writeFileSync,
} from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { attachedPodsFile, removeAttachedPods } from "./attached_pods.js";
import { processesIn, run } from "./namespace.js";

const ROOT = "/run/fairway-lab";
const PINS = "/sys/fs/bpf/fairway-lab";

export interface State {
	name: string;
	/** The lab ends with this process; undefined: it stays until `fairway lab down`. */
	owner: ProcessIdentity | undefined;
	/** Absolute. */
	manifests: string;
	config: string;
	/** Every namespace of this lab, existing or planned. */
	namespaces: string[];
}

/** Pids are reused; a pid with its start time is unique. */
export interface ProcessIdentity {
	pid: number;
	/** Clock ticks since boot. */
	started: number;
}

export const labDirectory = (name: string): string => `${ROOT}/${name}`;
export const pinDirectory = (name: string): string => `${PINS}/${name}`;

/** @throws Error if a lab of this name exists. */
export function createState(state: State): void {
	mkdirSync(ROOT, { recursive: true });
	try {
		mkdirSync(labDirectory(state.name));
	} catch (error) {
		// The last other lab was removed just now, and ROOT with it.
		if ((error as NodeJS.ErrnoException).code === "ENOENT") {
			createState(state);
			return;
		}
		throw new Error(
			`Cannot bring up lab "${state.name}": expected none of that name, but ${labDirectory(state.name)} exists (see \`fairway lab down\`)`,
		);
	}
	writeState(state);
}

function writeState(state: State): void {
	const file = `${labDirectory(state.name)}/state.json`;
	writeFileSync(`${file}.new`, `${JSON.stringify(state, null, "\t")}\n`);
	renameSync(`${file}.new`, file);
}

export function readState(name: string): State | undefined {
	try {
		return JSON.parse(readFileSync(`${labDirectory(name)}/state.json`, "utf8")) as State;
	} catch {
		return undefined;
	}
}

/** Every lab on this machine that has a record. */
export function allStates(): State[] {
	try {
		return readdirSync(ROOT).flatMap((name) => readState(name) ?? []);
	} catch {
		return [];
	}
}

/** True if the lab should have ended with a process that no longer exists. */
export function isAbandoned({ owner }: State): boolean {
	return owner !== undefined && identify(owner.pid)?.started !== owner.started;
}

export function identify(pid: number): ProcessIdentity | undefined {
	try {
		const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
		// The command name is in parentheses and may contain anything; the start time is field 22.
		const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
		return fields[0] === "Z" ? undefined : { pid, started: Number(fields[19]) };
	} catch {
		return undefined;
	}
}

/**
 * Ends the processes in the lab's namespaces, then removes namespaces, pins and files. Idempotent:
 * an object that no longer exists is not an error.
 */
export async function remove(state: State): Promise<void> {
	await endProcesses(state.namespaces, "SIGTERM", 2_000);
	await endProcesses(state.namespaces, "SIGKILL", 10_000);
	const lines = state.namespaces.map((name) => `netns del ${name}\n`).join("");
	await run(["ip", "-force", "-batch", "-"], { input: lines, mayFail: true });
	rmSync(pinDirectory(state.name), { recursive: true, force: true });
	removeAttachedPods(attachedPodsFile(state.manifests, state.name));
	rmSync(labDirectory(state.name), { recursive: true, force: true });
	for (const shared of [PINS, ROOT]) removeIfEmpty(shared);
}

async function endProcesses(
	namespaces: readonly string[],
	signal: NodeJS.Signals,
	patienceMs: number,
): Promise<void> {
	for (const pid of processesIn(namespaces)) {
		try {
			process.kill(pid, signal);
		} catch {
			// It has exited by itself.
		}
	}
	const end = Date.now() + patienceMs;
	while (processesIn(namespaces).some((pid) => identify(pid)) && Date.now() < end) await delay(20);
}

/** Other labs may still use it. */
function removeIfEmpty(directory: string): void {
	try {
		rmdirSync(directory);
	} catch (error) {
		const code = (error as NodeJS.ErrnoException).code ?? "";
		if (!["ENOTEMPTY", "ENOENT"].includes(code)) throw error;
	}
}
