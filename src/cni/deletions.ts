/**
 * DEL and GC while the agent is down. Pods must be able to end then (for example when a Node is drained for an
 * upgrade), so the plugin (cni/note.c) leaves a note in RUN_DIR/deletions and reports success. The agent
 * processes the notes before it does anything else. Until then the address stays in use; the interface
 * disappears with the Pod's namespace.
 *
 * No note is missed: the plugin tries the agent once more after writing one, and the agent reads the notes
 * after it starts to listen and before each ADD. A late note does no harm: it has the time of its call, and later
 * attachments are kept.
 */
import { readdir, readFile, rm, stat } from "node:fs/promises";
import type { EndpointId } from "./endpoint.js";
import { parseAttachments } from "./request.js";

/** A note that is being written. */
const ASIDE = /\.json\.\d+$/;
const ASIDE_MS = 60_000;

export interface Note {
	path: string;
	/** When the call began (see monotonicMs); infinite in notes of earlier versions. */
	at: number;
	/** DEL: this attachment. GC: all attachments of a network except `valid`. */
	remove: EndpointId | { network: string; valid: Omit<EndpointId, "network">[] };
}

/** CLOCK_MONOTONIC in milliseconds: no step of the Node's time of day changes the order of calls. */
export function monotonicMs(): number {
	return Number(process.hrtime.bigint() / 1_000_000n);
}

function directoryOf(runDir: string): string {
	return `${runDir}/deletions`;
}

export async function forgetNote({ path }: Note): Promise<void> {
	await rm(path, { force: true });
}

/** The existing notes. An unreadable one is ignored (the next call overwrites it). */
export async function readNotes(runDir: string): Promise<Note[]> {
	const files = await readdir(directoryOf(runDir)).catch(() => []);
	const notes: Note[] = [];
	for (const file of files) {
		const path = `${directoryOf(runDir)}/${file}`;
		// Left behind by a plugin that was killed; one that still runs ends within a minute.
		if (ASIDE.test(file)) await rmIfOld(path);
		if (!file.endsWith(".json")) continue;
		const text = await readFile(path, "utf8").catch(() => "");
		const note = decode(text);
		if (note !== undefined) notes.push({ path, ...note });
	}
	return notes;
}

async function rmIfOld(path: string): Promise<void> {
	const { mtimeMs } = await stat(path).catch(() => ({ mtimeMs: Number.POSITIVE_INFINITY }));
	if (Date.now() - mtimeMs > ASIDE_MS) await rm(path, { force: true });
}

function decode(text: string): Omit<Note, "path"> | undefined {
	try {
		const { at, network, containerId, ifName, validAttachments } = JSON.parse(text);
		if (typeof network !== "string") return undefined;
		const note = { at: typeof at === "number" ? at : Number.POSITIVE_INFINITY };
		if (validAttachments !== undefined)
			return { ...note, remove: { network, valid: parseAttachments(validAttachments) } };
		if (typeof containerId !== "string" || typeof ifName !== "string") return undefined;
		return { ...note, remove: { network, containerId, ifName } };
	} catch {
		return undefined;
	}
}
