/**
 * DEL while the agent is down. Pods must be able to end then (for example when a Node is drained for an
 * upgrade), so the plugin leaves a note in RUN_DIR/deletions and reports success. The agent processes the
 * notes before it does anything else. Until then the address stays in use; the interface disappears with
 * the Pod's namespace.
 *
 * No note is missed: the plugin tries the agent once more after writing one, and the agent reads the notes
 * after it starts to listen and before each ADD.
 */
import { closeSync, fsyncSync, mkdirSync, openSync, renameSync, writeSync } from "node:fs";
import { readdir, readFile, rm, stat } from "node:fs/promises";
import type { EndpointId } from "./endpoint.js";

/** A note that is being written. */
const ASIDE = /\.json\.\d+$/;
const ASIDE_MS = 60_000;

function directoryOf(runDir: string): string {
	return `${runDir}/deletions`;
}

/** Ids contain no comma, and together they fit into a file name. */
function pathOf(runDir: string, { network, containerId, ifName }: EndpointId): string {
	return `${directoryOf(runDir)}/${network},${containerId},${ifName}.json`;
}

/** Leaves a note, for the plugin. Throws file system errors. */
export function noteDeletion(runDir: string, id: EndpointId): void {
	mkdirSync(directoryOf(runDir), { mode: 0o700, recursive: true });
	const path = pathOf(runDir, id);
	const aside = `${path}.${process.pid}`;
	const file = openSync(aside, "w", 0o600);
	const { network, containerId, ifName } = id;
	writeSync(file, JSON.stringify({ network, containerId, ifName }));
	fsyncSync(file);
	closeSync(file);
	renameSync(aside, path);
}

export async function forgetDeletion(runDir: string, id: EndpointId): Promise<void> {
	await rm(pathOf(runDir, id), { force: true });
}

/** The existing notes. An unreadable one is ignored (the next DEL overwrites it). */
export async function notedDeletions(runDir: string): Promise<EndpointId[]> {
	const files = await readdir(directoryOf(runDir)).catch(() => []);
	const notes: EndpointId[] = [];
	for (const file of files) {
		// What a plugin that was killed left behind; one that still runs ends within a minute.
		if (ASIDE.test(file)) await rmIfOld(`${directoryOf(runDir)}/${file}`);
		if (!file.endsWith(".json")) continue;
		const text = await readFile(`${directoryOf(runDir)}/${file}`, "utf8").catch(() => "");
		const id = decode(text);
		if (id !== undefined) notes.push(id);
	}
	return notes;
}

async function rmIfOld(path: string): Promise<void> {
	const { mtimeMs } = await stat(path).catch(() => ({ mtimeMs: Number.POSITIVE_INFINITY }));
	if (Date.now() - mtimeMs > ASIDE_MS) await rm(path, { force: true });
}

function decode(text: string): EndpointId | undefined {
	try {
		const id = JSON.parse(text) as Partial<EndpointId> | null;
		const parts = [id?.network, id?.containerId, id?.ifName];
		return parts.every((part) => typeof part === "string") ? (id as EndpointId) : undefined;
	} catch {
		return undefined;
	}
}
