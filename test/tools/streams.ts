/** Numbered UDP streams with echo, to count what a change costs. */
import type { Family } from "../../src/lab/subnet.js";
import { until } from "../../src/lab/until.js";
import { type Cluster, UDP_PORT } from "./cluster.js";

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
}

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
		rate = 1000,
	): Promise<Streams> {
		const streams = new Streams(cluster);
		for (const [from, to, family] of pairs) {
			const station = await cluster.lab.station(from);
			const host = cluster.lab.address(to, family);
			const { stream } = await station.order("udpStream", { host, port: UDP_PORT, rate });
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
				const { sent, returned } = await sender.order("udpStop", { stream });
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
				};
			}),
		);
	}

	private async received({ to, stream }: Running): Promise<number> {
		const receiver = await this.cluster.lab.station(to);
		return (await receiver.order("udpReport", { port: UDP_PORT, stream })).received;
	}
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
