/**
 * DEL while the agent is down. Pods must be able to go away then (a Node that is drained for an
 * upgrade, say), so the plugin leaves a note in RUN_DIR/deletions and reports success; the agent
 * works the notes off before it does anything else. Until then the address stays taken; the
 * interface goes with the Pod's namespace.
 *
 * No note is missed: the plugin tries the agent once more after it wrote one, and the agent reads
 * them after it listens and before each ADD.
 */
import { closeSync, fsyncSync, mkdirSync, openSync, renameSync, writeSync } from "node:fs";
import { readdir, readFile, rm } from "node:fs/promises";
import type { EndpointId } from "./endpoint.js";

function directoryOf(runDir: string): string {
	return `${runDir}/deletions`;
}

/** Ids have no comma; together they are shorter than a file name may be. */
function pathOf(runDir: string, { network, containerId, ifName }: EndpointId): string {
	return `${directoryOf(runDir)}/${network},${containerId},${ifName}.json`;
}

/** For the plugin. Throws what the file system says. */
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

/** The notes that are there. What cannot be read is none (it is overwritten by the next DEL). */
export async function notedDeletions(runDir: string): Promise<EndpointId[]> {
	const files = await readdir(directoryOf(runDir)).catch(() => []);
	const notes: EndpointId[] = [];
	for (const file of files) {
		if (!file.endsWith(".json")) continue;
		const text = await readFile(`${directoryOf(runDir)}/${file}`, "utf8").catch(() => "");
		const id = decode(text);
		if (id !== undefined) notes.push(id);
	}
	return notes;
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
