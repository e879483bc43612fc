/**
 * TCP in both directions at once, at a fixed rate, until it is stopped. Each end writes as long as the
 * other accepts data, and records how much has arrived when.
 */
import { once } from "node:events";
import { createConnection, createServer, type Server, type Socket } from "node:net";
import type { BulkProgress, BulkTarget } from "./orders.js";
import { monotonic, Pauses } from "./tally.js";

/** Bytes a second in each direction: enough to show a stall, little enough to leave CPU to others. */
const RATE = 2_000_000;
const SLOT_MS = 50;
const TICK_MS = 5;
/** A client's first bytes: its stream and the rate, 32 bits each. */
const GREETING_BYTES = 8;

/** One end of a connection. */
class End {
	private readonly pauses = new Pauses();
	private readonly startMs = monotonic();
	private readonly slots: number[] = [];
	private readonly timer: NodeJS.Timeout;
	private received = 0;

	constructor(connection: Socket, rate: number) {
		this.pauses.add(this.startMs);
		const chunk = Buffer.alloc(65536);
		let sent = 0;
		this.timer = setInterval(() => {
			const due = Math.floor(((monotonic() - this.startMs) / 1000) * rate);
			while (sent < due && !connection.writableNeedDrain) {
				const bytes = Math.min(chunk.length, due - sent);
				connection.write(chunk.subarray(0, bytes));
				sent += bytes;
			}
			// Bytes that TCP did not accept in time are not sent later: a burst would hide the stall.
			sent = due;
		}, TICK_MS);
		connection.on("data", (data: Buffer) => this.add(data.length));
		connection.on("error", () => undefined).on("close", () => clearInterval(this.timer));
	}

	progress(): BulkProgress {
		const { longestMs, longestFromMs, last = this.startMs } = this.pauses;
		const waiting = monotonic() - last;
		const slots = Array.from(this.slots, (bytes) => bytes ?? 0);
		return {
			...{ received: this.received, startMs: this.startMs, slotMs: SLOT_MS, slots },
			longestStallMs: Math.max(longestMs, waiting),
			stalledFromMs: waiting > longestMs ? last : longestFromMs,
		};
	}

	private add(bytes: number): void {
		const now = monotonic();
		const slot = Math.floor((now - this.startMs) / SLOT_MS);
		this.slots[slot] = (this.slots[slot] ?? 0) + bytes;
		this.received += bytes;
		this.pauses.add(now);
	}
}

const clients = new Map<number, { connection: Socket; end: End }>();
/** By stream number, which the client chooses. */
const served = new Map<number, End>();

export async function bulkServe(port: number): Promise<Server> {
	const server = createServer((connection) => {
		connection.on("error", () => undefined);
		const greet = (): void => {
			const greeting = connection.read(GREETING_BYTES) as Buffer | null;
			if (greeting === null) return;
			connection.off("readable", greet);
			served.set(greeting.readUInt32BE(0), new End(connection, greeting.readUInt32BE(4)));
			connection.resume();
		};
		connection.on("readable", greet);
	});
	server.listen(port, "::");
	await once(server, "listening");
	return server;
}

export async function bulkStart({ host, port, rate = RATE }: BulkTarget): Promise<number> {
	const connection = createConnection({ host, port });
	await once(connection, "connect");
	const stream = Math.floor(Math.random() * 2 ** 32);
	const greeting = Buffer.alloc(GREETING_BYTES);
	greeting.writeUInt32BE(stream, 0);
	greeting.writeUInt32BE(rate, 4);
	connection.write(greeting);
	clients.set(stream, { connection, end: new End(connection, rate) });
	return stream;
}

/** Progress at the client's end of a stream, otherwise at the server's. */
export function bulkReport(stream: number): BulkProgress {
	const end = clients.get(stream)?.end ?? served.get(stream);
	if (end === undefined) throw new Error(`there is no TCP stream ${stream}`);
	return end.progress();
}

export function bulkStop(stream: number): void {
	clients.get(stream)?.connection.destroy();
	clients.delete(stream);
}
