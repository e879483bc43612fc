/**
 * The last good set: the objects of the cluster as last known, in RUN_DIR, for an agent that starts while
 * the API is unreachable.
 *
 *  1. a first line with the format and the API servers' addresses, then a line for each record
 *  2. a last line with their number: a file without it is incomplete and ignored
 *
 * It is read and written in slices, and replaced by rename.
 */
import { type FileHandle, open, rename, unlink } from "node:fs/promises";
import { shareRecord } from "../cluster/kinds.js";
import type { Kind, Records, Store, StoreReader } from "../cluster/store.js";
import { Turns } from "../loop/turns.js";
import type { Clock, Timer } from "./clock.js";

/** Raised with every change of the records. */
const FORMAT = 3;
/** The kinds from which the tables are compiled. */
const KINDS: readonly Kind[] = [
	"Node",
	"ServiceCIDR",
	"Service",
	"EndpointSlice",
	"Namespace",
	"NetworkPolicy",
	"ClusterNetworkPolicy",
];
/** Changes that come together are written together. */
const SETTLE_MS = 1000;
/** Between two writes. */
const PAUSE_MS = 10_000;
const CHUNK = 64 << 10;

export type KnownRecord = { [K in Kind]: [kind: K, key: string, record: Records[K]] }[Kind];

export interface Known {
	servers: string[];
	records: KnownRecord[];
}

/** Empty if there is no usable file. */
export async function readLastGood(file: string): Promise<Known> {
	const nothing: Known = { servers: [], records: [] };
	let handle: FileHandle | undefined;
	try {
		handle = await open(file, "r");
		const known: Known = { servers: [], records: [] };
		const turns = new Turns();
		let first = true;
		let complete = false;
		for await (const line of handle.readLines({ encoding: "utf8" })) {
			if (turns.due) await turns.pass();
			const value: unknown = JSON.parse(line);
			if (first) {
				const { format, servers } = value as { format?: number; servers?: string[] };
				if (format !== FORMAT) return nothing;
				known.servers = Array.isArray(servers) ? servers : [];
				first = false;
			} else if (Array.isArray(value)) known.records.push(shared(value as KnownRecord));
			else complete = (value as { records?: number }).records === known.records.length;
		}
		return complete ? known : nothing;
	} catch {
		return nothing;
	} finally {
		await handle?.close().catch(() => undefined);
	}
}

function shared<K extends Kind>([kind, key, record]: [K, string, Records[K]]): KnownRecord {
	const one = shareRecord(kind, record);
	// A Node's key is its name.
	return [kind, "name" in one && one.name === key ? one.name : key, one] as KnownRecord;
}

export interface LastGoodOptions {
	file: string;
	store: Store;
	servers: () => readonly string[];
	clock: Clock;
	onError: (error: Error) => void;
}

/** Writes the file a moment after something has changed. */
export class LastGood {
	readonly #options: LastGoodOptions;
	readonly #readers: StoreReader[];
	#servers = "";
	#timer: Timer | undefined;
	#writing: Promise<void> | undefined;
	#notBefore = 0;
	#changed = false;
	#closed = false;

	/** Marks the store's present content as written. */
	constructor(options: LastGoodOptions) {
		this.#options = options;
		this.#readers = KINDS.map((kind) => options.store.reader(kind));
		this.#look();
		this.#changed = false;
	}

	/** To be called when something may have changed. */
	notice(): void {
		this.#look();
		if (!this.#changed || this.#closed || this.#timer !== undefined) return;
		if (this.#writing !== undefined) return;
		const { clock } = this.#options;
		this.#timer = clock.after(Math.max(SETTLE_MS, this.#notBefore - clock.now()), () => {
			this.#timer = undefined;
			void this.#write();
		});
	}

	/** Writes what is left. */
	async close(): Promise<void> {
		this.#closed = true;
		this.#timer?.cancel();
		await this.#writing;
		this.#look();
		if (this.#changed) await this.#write();
	}

	#look(): void {
		for (const reader of this.#readers) if (reader.take().size > 0) this.#changed = true;
		const servers = this.#options.servers().join();
		if (servers !== this.#servers) this.#changed = true;
		this.#servers = servers;
	}

	#write(): Promise<void> {
		this.#changed = false;
		this.#writing = this.#writeFile()
			.catch((error: Error) => {
				this.#changed = true;
				this.#options.onError(error);
			})
			.finally(() => {
				this.#writing = undefined;
				this.#notBefore = this.#options.clock.now() + PAUSE_MS;
				this.notice();
			});
		return this.#writing;
	}

	async #writeFile(): Promise<void> {
		const { file, store, servers } = this.#options;
		const temporary = `${file}.new`;
		const turns = new Turns();
		const handle = await open(temporary, "w", 0o600);
		try {
			let text = `${JSON.stringify({ format: FORMAT, servers: servers() })}\n`;
			let records = 0;
			// A record that changes meanwhile is written as it was or as it is.
			for (const kind of KINDS)
				for (const key of [...store.keys(kind)]) {
					const record = store.get(kind, key);
					if (record === undefined) continue;
					text += `${JSON.stringify([kind, key, record])}\n`;
					records++;
					if (text.length >= CHUNK) {
						await handle.write(text);
						text = "";
					}
					if (turns.due) await turns.pass();
				}
			await handle.write(`${text}${JSON.stringify({ records })}\n`);
		} catch (error) {
			await handle.close();
			await unlink(temporary).catch(() => undefined);
			throw error;
		}
		await handle.close();
		await rename(temporary, file);
	}
}
