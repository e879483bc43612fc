/** Sends traffic of all kinds between two machines and verifies it. */
import type { Test } from "tap";
import type { UdpTarget } from "../../src/lab/orders.js";
import type { Station } from "../../src/lab/stations.js";
import { until } from "../../src/lab/until.js";
import { type Cluster, TCP_PORT, UDP_PORT } from "./cluster.js";

/** The receiver must have servers (Cluster.serve). */
export async function exchange(
	t: Test,
	cluster: Cluster,
	from: string,
	to: string,
	options: { tcpBytes: number; sizes: number[] },
): Promise<void> {
	const { lab } = cluster;
	const client = await lab.station(from);
	for (const family of [4, 6] as const) {
		const host = lab.address(to, family);
		const pinged = await cluster.ping(from, to, family);
		const order = { host, port: TCP_PORT, bytes: options.tcpBytes, seed: 7, timeoutMs: 20_000 };
		const tcp = await client
			.order("tcpSend", order)
			.catch(({ message }: Error) => ({ whole: message, bytes: 0 }));
		const datagrams = { host, port: UDP_PORT, sizes: options.sizes, seed: 8 };
		const { missing, corrupt } = await client.order("udpExchange", datagrams);
		t.same(
			{ ping: / (\d+) received/.exec(pinged)?.[1], tcp: [tcp.whole, tcp.bytes], missing, corrupt },
			{ ping: "3", tcp: [true, options.tcpBytes], missing: [], corrupt: [] },
			`${from} → ${to} IPv${family}`,
		);
	}
}

/**
 * What a server sees of a datagram that is either answered or refused.
 *
 * @param refusals the refused packets so far. A packet that is only late is not among them.
 * @returns undefined: the datagram was refused.
 */
export async function answerOf(
	station: Station,
	target: UdpTarget,
	refusals: () => Promise<number>,
): Promise<{ address: string; port: number } | undefined> {
	const before = await refusals();
	const outcome = await until("an answer or a refusal", async () => {
		const order = { ...target, timeoutMs: 300 };
		const seen = await station.order("udpWho", order).catch(() => undefined);
		return seen ?? ((await refusals()) > before ? "refused" : undefined);
	});
	return outcome === "refused" ? undefined : outcome;
}
