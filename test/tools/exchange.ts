/** Sends traffic of all kinds between two machines and verifies it. */
import type { Test } from "tap";
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
