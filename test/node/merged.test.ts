/**
 * Merged packets: by GRO on ingress, or GSO packets of a sender. In a tunnel, which must be removed from all
 * segments at once, and onwards into another tunnel.
 *
 *   pod1a        pod2a               pod3a, which forwards to pod2a
 *   node1        node2               node3
 *     └─── net1 ───┘                   └ net2
 *            └──────────── router ───────┘
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { until } from "../../src/lab/until.js";
import { startCluster, TCP_PORT, UDP_PORT } from "../tools/cluster.js";

const FORWARDED_PORT = 6000;
const BUNDLE = { datagrams: 40, size: 500 };
const BYTES = 4_000_000;

/** Consecutive numbered datagrams in the format of stations (src/lab/station.ts). */
function bundle(stream: number): Buffer {
	const bytes = Buffer.alloc(BUNDLE.datagrams * BUNDLE.size);
	for (let n = 0; n < BUNDLE.datagrams; n++) {
		const at = n * BUNDLE.size;
		bytes.writeUInt32BE(0xfa1a_0001, at);
		bytes.writeUInt32BE(stream, at + 4);
		bytes.writeUInt32BE(n, at + 8);
	}
	return bytes;
}

t.test("merged packets", async (t) => {
	const cluster = await startCluster(t, { trafficEncapMode: "hybrid" });
	const { lab } = cluster;
	await cluster.serve("pod2a", "pod3a");
	const rules = ([4, 6] as const).map((family) => {
		const to = lab.address("pod2a", family);
		const target = family === 4 ? `${to}:${TCP_PORT}` : `[${to}]:${TCP_PORT}`;
		return `add rule inet nat pre meta nfproto ipv${family} tcp dport ${FORWARDED_PORT} dnat ip${family === 4 ? "" : "6"} to ${target}`;
	});
	await lab.namespace("pod3a").script(`
		sysctl -q -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
		nft add table inet nat
		nft 'add chain inet nat pre { type nat hook prerouting priority dstnat; }'
		nft 'add chain inet nat post { type nat hook postrouting priority srcnat; }'
		${rules.map((rule) => `nft '${rule}'`).join("\n")}
		nft 'add rule inet nat post tcp dport ${TCP_PORT} masquerade'
	`);
	const wire = async (state: "on" | "off"): Promise<void> => {
		for (const { name, subnet } of lab.topology.nodes)
			await lab
				.namespace(subnet)
				.script(
					`ethtool -K ${name} tx ${state}; ethtool -K ${name} tso ${state} gso ${state} || true`,
				);
	};
	const received = async (pod: string): Promise<{ packets: number; bytes: number }> => {
		const { stdout } = await lab.run(pod, ["ip", "-s", "-j", "link", "show", "dev", "eth0"]);
		const [link] = JSON.parse(stdout) as { stats64: { rx: { packets: number; bytes: number } } }[];
		return link?.stats64.rx ?? { packets: 0, bytes: 0 };
	};
	const checksumErrors = async (pod: string): Promise<number> => {
		const { stdout } = await lab.run(pod, ["nstat", "-asz", "TcpInCsumErrors"]);
		return Number(/TcpInCsumErrors\s+(\d+)/.exec(stdout)?.[1]);
	};
	const client = await lab.station("pod1a");
	let stream = 0;

	for (const tunnelType of ["geneve", "vxlan"] as const)
		for (const [xdp, offloads] of [
			["off", "off"],
			["off", "on"],
			["native", "off"],
		] as const) {
			await cluster.configure({ trafficEncapMode: "hybrid", tunnelType, xdp });
			await until(`XDP is ${xdp}`, async () => (await lab.agent("node3").status()).xdp === xdp);
			await wire(offloads);
			await t.test(`${tunnelType}, XDP ${xdp}, offloads ${offloads}`, async (t) => {
				for (const family of [4, 6] as const) {
					const host = lab.address("pod3a", family);
					const order = { host, bytes: BYTES, seed: 3, timeoutMs: 20_000 };
					const before = await received("pod3a");
					const direct = await client.order("tcpSend", { ...order, port: TCP_PORT });
					const after = await received("pod3a");
					t.match(direct, { whole: true, bytes: BYTES }, `TCP, IPv${family}`);
					const length = (after.bytes - before.bytes) / (after.packets - before.packets);
					// Packets from a veth with TSO are whole already or, if the router segments them, never merged.
					if (offloads === "off")
						t.ok(length > 2 * 1500, `merged when it comes to the Pod: ${length} bytes`);

					const forwarded = await client.order("tcpSend", { ...order, port: FORWARDED_PORT });
					t.match(
						forwarded,
						{ whole: true, bytes: BYTES, address: host },
						`through the Pod that forwards, IPv${family}`,
					);

					const file = join(lab.manifests, `bundle${++stream}`);
					writeFileSync(file, bundle(stream));
					const target = family === 4 ? `UDP4-SENDTO:${host}` : `UDP6-SENDTO:[${host}]`;
					const segments = `17:103:${BUNDLE.size}`; // SOL_UDP, UDP_SEGMENT
					const to = `${target}:${UDP_PORT},setsockopt-int=${segments}`;
					const whole = `${BUNDLE.datagrams * BUNDLE.size}`;
					await lab.run("pod1a", ["socat", "-u", "-b", whole, `OPEN:${file}`, to]);
					const station = await lab.station("pod3a");
					await until(`the bundle of UDP over IPv${family} arrives`, async () => {
						const report = await station.order("udpReport", { port: UDP_PORT, stream });
						return report.received === BUNDLE.datagrams && report.duplicates === 0;
					});
					t.pass(`each datagram of a bundle, IPv${family}`);
				}
			});
		}
	for (const pod of ["pod1a", "pod2a", "pod3a"]) t.equal(await checksumErrors(pod), 0, pod);
	t.same(await cluster.allDrops(), {});
});
