/**
 * What a lab has made, on disk from before it is made: whoever comes after a lab that was killed
 * finds it here and can remove all of it.
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
import { processesIn, run } from "./namespace.js";

const ROOT = "/run/fairway-lab";
const PINS = "/sys/fs/bpf/fairway-lab";

export interface State {
	name: string;
	/** Ends with this process; undefined: stays until `fairway lab down`. */
	owner: ProcessIdentity | undefined;
	/** Absolute. */
	manifests: string;
	config: string;
	/** Every namespace of this lab, made or still to be made. */
	namespaces: string[];
}

/** A pid may be used again; a pid with its start time is not. */
export interface ProcessIdentity {
	pid: number;
	/** Clock ticks since boot. */
	started: number;
}

export const labDirectory = (name: string): string => `${ROOT}/${name}`;
export const pinDirectory = (name: string): string => `${PINS}/${name}`;

/** @throws Error when a lab of this name is there already. */
export function createState(state: State): void {
	mkdirSync(ROOT, { recursive: true });
	try {
		mkdirSync(labDirectory(state.name));
	} catch (error) {
		// The last other lab has just gone, and ROOT with it.
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

/** Every lab on this machine that left its state. */
export function allStates(): State[] {
	try {
		return readdirSync(ROOT).flatMap((name) => readState(name) ?? []);
	} catch {
		return [];
	}
}

/** True when the process that a lab was to end with is no more. */
export function isAbandoned({ owner }: State): boolean {
	return owner !== undefined && identify(owner.pid)?.started !== owner.started;
}

export function identify(pid: number): ProcessIdentity | undefined {
	try {
		const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
		// The command's name is in brackets and may hold anything; start time is field 22.
		const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
		return fields[0] === "Z" ? undefined : { pid, started: Number(fields[19]) };
	} catch {
		return undefined;
	}
}

/**
 * Ends the processes in the lab's namespaces, then removes namespaces, pins and files. What is
 * not there any more is no error, so it may be called at any time and again.
 */
export async function remove(state: State): Promise<void> {
	await endProcesses(state.namespaces, "SIGTERM", 2_000);
	await endProcesses(state.namespaces, "SIGKILL", 10_000);
	const lines = state.namespaces.map((name) => `netns del ${name}\n`).join("");
	await run(["ip", "-force", "-batch", "-"], { input: lines, mayFail: true });
	rmSync(pinDirectory(state.name), { recursive: true, force: true });
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
			// It has ended by itself.
		}
	}
	const end = Date.now() + patienceMs;
	while (processesIn(namespaces).some((pid) => identify(pid)) && Date.now() < end) await delay(20);
}

/** Other labs may have theirs in it. */
function removeIfEmpty(directory: string): void {
	try {
		rmdirSync(directory);
	} catch (error) {
		const code = (error as NodeJS.ErrnoException).code ?? "";
		if (!["ENOTEMPTY", "ENOENT"].includes(code)) throw error;
	}
}
