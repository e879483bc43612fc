/**
 * Numbered UDP streams with echo, and TCP streams in both directions, to measure the cost of a change.
 *
 * Times are milliseconds of the machine's monotonic clock, as returned by `now`.
 */
import type { BulkProgress, Gap, UdpReport } from "../../src/lab/orders.js";
import type { Family } from "../../src/lab/subnet.js";
import { monotonic } from "../../src/lab/tally.js";
import { until } from "../../src/lab/until.js";
import { BULK_PORT, type Cluster, UDP_PORT } from "./cluster.js";

export interface Loss {
	/** "pod1a → pod3a IPv4" */
	what: string;
	sent: number;
	/** Packets that never reached the receiver. */
	lost: number;
	/** Packets that arrived, but whose echo did not. */
	lostOnReturn: number;
	duplicates: number;
	/** The first missing numbers. */
	missing: number[];
	/** Senders that the receiver saw, as "ADDRESS PORT". */
	senders: string[];
	/** The longest time between two arrivals, with or without loss. */
	longestGapMs: number;
	longestEchoGapMs: number;
	/** The periods of loss, one way and round trip. */
	outages: Gap[];
	echoOutages: Gap[];
}

export interface StreamOptions {
	/** Packets a second. Default 1000. */
	rate?: number;
	/** Bytes of payload. Default 64; `fullSize` fills an MTU. */
	size?: number;
	/** True: IPv4 without DF towards the receiver; the echo needs a matching server (`udpServe`). */
	fragmentable?: boolean;
}

/** The cost of a fault for one stream. */
export interface Cost {
	what: string;
	/** From the fault to the first packet after the last loss; 0: nothing was lost. */
	recoveredMs: number;
	lost: number;
}

/** The clock of all times in this file. */
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

	/** The receivers must have servers (Cluster.serve). Resolves when every stream flows in both directions. */
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

	/** Resolves when each stream has delivered this many more packets, in the current state. */
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

	/** The echoes of each stream so far. */
	async echoes(): Promise<UdpReport[]> {
		return Promise.all(
			this.running.map(async ({ from, stream }) =>
				(await this.cluster.lab.station(from)).order("udpEcho", { stream }),
			),
		);
	}

	/** Resolves when each stream has delivered this many more echoes: both directions work. */
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
 * The loss of each stream since a time, measured by its echo, so in both directions. The streams must
 * flow again (Streams.echoed): an outage that has not ended is not counted.
 *
 * @param untilMs ignores outages that began later.
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

/** TCP in both directions between pairs of machines, with the duration of stalls. */
export class BulkStreams {
	private readonly cluster: Cluster;
	private readonly running: Running[] = [];

	private constructor(cluster: Cluster) {
		this.cluster = cluster;
	}

	/**
	 * The receivers must have servers (Cluster.serve).
	 *
	 * @param rate bytes a second in each direction.
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
		// A server learns a stream's number from its first bytes.
		await until("every TCP stream to be known at both ends", () => streams.progress());
		await streams.goOn(1);
		return streams;
	}

	/** Resolves when this many more bytes have arrived at both ends of each stream. */
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
	/** The longer one of both directions. */
	longestStallMs: number;
}

/** The streams that lost packets. */
export function lossy(losses: readonly Loss[]): Loss[] {
	return losses.filter(
		({ lost, lostOnReturn, duplicates }) => lost + lostOnReturn + duplicates > 0,
	);
}

/** The payload of datagram 0 of a stream, in a station's format. */
export function numbered(stream: number, size = 16): Buffer {
	const payload = Buffer.alloc(size, stream & 0xff);
	payload.writeUInt32BE(0xfa1a0001, 0);
	payload.writeUInt32BE(stream, 4);
	payload.writeUInt32BE(0, 8);
	return payload;
}
