/**
 * Endpoints on disk: one JSON file each under RUN_DIR/endpoints, named after the host interface. A record is
 * complete or absent, even after a power failure: written to a temporary file, synced, renamed.
 */
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { mkdir, open, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { type Endpoint, type EndpointId, endpointKey } from "./endpoint.js";

export class EndpointStore {
	readonly directory: string;
	#writes = 0;

	constructor(runDir: string) {
		this.directory = join(runDir, "endpoints");
	}

	/**
	 * Reads all records, oldest first. Blocks, because nothing can be done before.
	 *
	 * @returns `unreadable`: files that are not records; they are not removed
	 */
	load(): { endpoints: Endpoint[]; unreadable: string[] } {
		mkdirSync(this.directory, { recursive: true, mode: 0o700 });
		const endpoints: Endpoint[] = [];
		const unreadable: string[] = [];
		for (const file of readdirSync(this.directory).sort()) {
			const path = join(this.directory, file);
			// Left behind by an interrupted write.
			if (file.endsWith(".new")) rmSync(path, { force: true });
			if (!file.endsWith(".json")) continue;
			const endpoint = decode(readFileSync(path, "utf8"));
			if (endpoint !== undefined && `${endpoint.hostInterface}.json` === file)
				endpoints.push(endpoint);
			else unreadable.push(path);
		}
		endpoints.sort((a, b) => a.attachedAt.localeCompare(b.attachedAt));
		return { endpoints, unreadable };
	}

	async write(endpoint: Endpoint): Promise<void> {
		const path = this.#path(endpoint);
		const aside = `${path}.${this.#writes++}.new`;
		await mkdir(this.directory, { recursive: true, mode: 0o700 });
		const file = await open(aside, "w", 0o600);
		try {
			await file.writeFile(`${JSON.stringify(endpoint, undefined, 2)}\n`);
			await file.sync();
		} finally {
			await file.close();
		}
		await rename(aside, path);
		await this.#syncDirectory();
	}

	async remove(endpoint: Endpoint): Promise<void> {
		await rm(this.#path(endpoint), { force: true });
		await this.#syncDirectory();
	}

	/** The same, blocking: before anything else runs. */
	writeNow(endpoint: Endpoint): void {
		const path = this.#path(endpoint);
		const aside = `${path}.${this.#writes++}.new`;
		writeFileSync(aside, `${JSON.stringify(endpoint, undefined, 2)}\n`, { mode: 0o600 });
		renameSync(aside, path);
	}

	/** The record of this endpoint under one of these names, if there is one. */
	async removeRecordOf(id: EndpointId, hostInterfaces: readonly string[]): Promise<void> {
		for (const name of hostInterfaces) {
			const path = join(this.directory, `${name}.json`);
			const text = await readFile(path, "utf8").catch(() => "");
			const found = decode(text);
			if (found !== undefined && endpointKey(found) === endpointKey(id)) await rm(path);
		}
	}

	#path({ hostInterface }: Endpoint): string {
		return join(this.directory, `${hostInterface}.json`);
	}

	async #syncDirectory(): Promise<void> {
		const directory = await open(this.directory, "r");
		try {
			await directory.sync();
		} finally {
			await directory.close();
		}
	}
}

function decode(text: string): Endpoint | undefined {
	let value: unknown;
	try {
		value = JSON.parse(text);
	} catch {
		return undefined;
	}
	if (typeof value !== "object" || value === null) return undefined;
	const e = value as Partial<Endpoint>;
	const strings = [
		e.network,
		e.containerId,
		e.ifName,
		e.netns,
		e.mac,
		e.hostInterface,
		e.attachedAt,
	];
	const lists = [e.addresses, e.gateways];
	const whole =
		strings.every((s) => typeof s === "string") &&
		lists.every((l) => Array.isArray(l) && l.every((s) => typeof s === "string")) &&
		typeof e.mtu === "number";
	return whole ? (e as Endpoint) : undefined;
}
