/**
 * Numbered UDP streams with echo, and TCP streams both ways, to count what a change costs.
 *
 * Times are milliseconds of the machine's monotonic clock, as `now` has it.
 */
import type { BulkProgress, Gap } from "../../src/lab/orders.js";
import type { Family } from "../../src/lab/subnet.js";
import { monotonic } from "../../src/lab/tally.js";
import { until } from "../../src/lab/until.js";
import { BULK_PORT, type Cluster, UDP_PORT } from "./cluster.js";

export interface Loss {
	/** "pod1a → pod3a IPv4" */
	what: string;
	sent: number;
	/** Never came to the receiver. */
	lost: number;
	/** Came, but the echo did not come back. */
	lostOnReturn: number;
	duplicates: number;
	/** The first numbers that never came. */
	missing: number[];
	/** Whom the receiver saw, "ADDRESS PORT" each. */
	senders: string[];
	/** The longest times between two arrivals, lost packets or not. */
	longestGapMs: number;
	longestEchoGapMs: number;
	/** The times in which packets were lost, on the way there and there and back. */
	outages: Gap[];
	echoOutages: Gap[];
}

export interface StreamOptions {
	/** Packets a second. Default 1000. */
	rate?: number;
	/** Bytes of payload. Default 64; `fullSize` is what fills an MTU. */
	size?: number;
	/** IPv4 without DF, there; the echo needs a server of its own kind (`udpServe`). */
	fragmentable?: boolean;
}

/** What a fault has cost one stream. */
export interface Cost {
	what: string;
	/** From the fault to the first packet that came again for good; 0: nothing was lost. */
	recoveredMs: number;
	lost: number;
}

/** The clock of all the times here. */
export const now = monotonic;

/** The payload that makes a UDP packet of this many bytes. */
export const fullSize = (mtu: number, family: Family): number => mtu - (family === 4 ? 28 : 48);

interface Running {
	what: string;
	from: string;
	to: string;
	stream: number;
}

export class Streams {
	private readonly cluster: Cluster;
	private readonly running: Running[] = [];

	private constructor(cluster: Cluster) {
		this.cluster = cluster;
	}

	/** The receivers must be served (Cluster.serve). Resolves when every stream flows both ways. */
	static async start(
		cluster: Cluster,
		pairs: readonly (readonly [string, string, Family])[],
		options: number | StreamOptions = {},
	): Promise<Streams> {
		const { rate = 1000, ...rest } = typeof options === "number" ? { rate: options } : options;
		const streams = new Streams(cluster);
		for (const [from, to, family] of pairs) {
			const station = await cluster.lab.station(from);
			const host = cluster.lab.address(to, family);
			const { stream } = await station.order("udpStream", {
				...{ host, port: UDP_PORT, rate },
				...rest,
			});
			streams.running.push({ what: `${from} → ${to} IPv${family}`, from, to, stream });
		}
		await streams.goOn(100);
		return streams;
	}

	/** Resolves when each stream has brought so many more: the state that it is called in carries them. */
	async goOn(more: number, timeoutMs = 15_000): Promise<void> {
		await Promise.all(
			this.running.map(async (running) => {
				const goal = (await this.received(running)) + more;
				await until(
					`${more} more of ${running.what}`,
					async () => (await this.received(running)) >= goal,
					timeoutMs,
				);
			}),
		);
	}

	async stop(): Promise<Loss[]> {
		return Promise.all(
			this.running.map(async ({ what, from, to, stream }) => {
				const sender = await this.cluster.lab.station(from);
				const { sent, returned, echo } = await sender.order("udpStop", { stream });
				const receiver = await this.cluster.lab.station(to);
				const report = await receiver.order("udpReport", { port: UDP_PORT, stream });
				return {
					what,
					sent,
					lost: sent - report.received,
					lostOnReturn: report.received - returned,
					duplicates: report.duplicates,
					missing: report.missing.slice(0, 10),
					senders: report.senders,
					longestGapMs: report.longestPauseMs,
					longestEchoGapMs: echo.longestPauseMs,
					outages: report.outages,
					echoOutages: echo.outages,
				};
			}),
		);
	}

	/** Resolves when each stream has brought so many more back: both directions carry it. */
	async echoed(more: number, timeoutMs = 15_000): Promise<void> {
		await Promise.all(
			this.running.map(async ({ what, from, stream }) => {
				const sender = await this.cluster.lab.station(from);
				const count = async () => (await sender.order("udpEcho", { stream })).received;
				const goal = (await count()) + more;
				await until(
					`${more} more echoes of ${what}`,
					async () => (await count()) >= goal,
					timeoutMs,
				);
			}),
		);
	}

	private async received({ to, stream }: Running): Promise<number> {
		const receiver = await this.cluster.lab.station(to);
		return (await receiver.order("udpReport", { port: UDP_PORT, stream })).received;
	}
}

/**
 * What each stream has lost since then, by the echo: both directions of it. Of streams that flow
 * again (Streams.echoed): what has not come again shows in no outage.
 *
 * @param untilMs outages that began later are another's.
 */
export function costSince(
	losses: readonly Loss[],
	sinceMs: number,
	untilMs = Number.POSITIVE_INFINITY,
): Cost[] {
	return losses.map(({ what, echoOutages }) => {
		const after = echoOutages.filter(({ fromMs, toMs }) => toMs >= sinceMs && fromMs < untilMs);
		const end = Math.max(...after.map(({ toMs }) => toMs), sinceMs);
		const lost = after.reduce((sum, outage) => sum + outage.lost, 0);
		return { what, recoveredMs: end - sinceMs, lost };
	});
}

/** TCP both ways between each of some pairs, and how long nothing came. */
export class BulkStreams {
	private readonly cluster: Cluster;
	private readonly running: Running[] = [];

	private constructor(cluster: Cluster) {
		this.cluster = cluster;
	}

	/**
	 * The receivers must be served (Cluster.serve).
	 *
	 * @param rate bytes a second each way.
	 */
	static async start(
		cluster: Cluster,
		pairs: readonly (readonly [string, string, Family])[],
		rate = 2_000_000,
	): Promise<BulkStreams> {
		const streams = new BulkStreams(cluster);
		for (const [from, to, family] of pairs) {
			const station = await cluster.lab.station(from);
			const host = cluster.lab.address(to, family);
			const { stream } = await station.order("bulkStart", { host, port: BULK_PORT, rate });
			streams.running.push({ what: `${from} → ${to} IPv${family}`, from, to, stream });
		}
		// A server knows a stream by its first bytes.
		await until("every TCP stream to be known at both ends", () => streams.progress());
		await streams.goOn(1);
		return streams;
	}

	/** Resolves when so many more bytes have come at both ends of each. */
	async goOn(bytes: number, timeoutMs = 30_000): Promise<void> {
		const before = await this.progress();
		await until(
			`${bytes} more bytes of TCP both ways`,
			async () => {
				const after = await this.progress();
				return after.every(({ there, back }, i) =>
					[
						there.received - before[i]!.there.received,
						back.received - before[i]!.back.received,
					].every((more) => more >= bytes),
				);
			},
			timeoutMs,
		);
	}

	async progress(): Promise<BulkLoss[]> {
		return Promise.all(
			this.running.map(async ({ what, from, to, stream }) => {
				const [back, there] = await Promise.all(
					[from, to].map(async (machine) =>
						(await this.cluster.lab.station(machine)).order("bulkReport", { stream }),
					),
				);
				const longestStallMs = Math.max(there!.longestStallMs, back!.longestStallMs);
				return { what, there: there!, back: back!, longestStallMs };
			}),
		);
	}

	async stop(): Promise<BulkLoss[]> {
		const progress = await this.progress();
		for (const { from, stream } of this.running)
			await (await this.cluster.lab.station(from)).order("bulkStop", { stream });
		return progress;
	}
}

export interface BulkLoss {
	what: string;
	there: BulkProgress;
	back: BulkProgress;
	/** Of both ways. */
	longestStallMs: number;
}

/** Those that lost something. */
export function lossy(losses: readonly Loss[]): Loss[] {
	return losses.filter(
		({ lost, lostOnReturn, duplicates }) => lost + lostOnReturn + duplicates > 0,
	);
}

/** The payload of datagram 0 of a stream, as a station counts it. */
export function numbered(stream: number, size = 16): Buffer {
	const payload = Buffer.alloc(size, stream & 0xff);
	payload.writeUInt32BE(0xfa1a0001, 0);
	payload.writeUInt32BE(stream, 4);
	payload.writeUInt32BE(0, 8);
	return payload;
}
