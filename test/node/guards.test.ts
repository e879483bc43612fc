/**
 * What Pods and third parties must not be able to do, and the drop counters for it.
 *
 *   pod1a pod1b           pod3a
 *      node1                node3
 *        └─ net1 ─ router ─ net2
 *                    │
 *                 outside     no peer of anyone
 */
import t, { type Test } from "tap";
import { until } from "../../src/lab/until.js";
import { frame, geneve, geneveOption, ip, udp, vlan, vxlan } from "../packet/builder.js";
import { Capture } from "../tools/capture.js";
import { type Cluster, startCluster, UDP_PORT } from "../tools/cluster.js";
import { dissect } from "../tools/dissect.js";
import { sendRaw } from "../tools/raw.js";
import { numbered } from "../tools/streams.js";

const MACS = { source: "02:00:00:00:00:99", destination: "02:fa:1c:00:00:01" };
const CRITICAL = 0x80;

/** Waits for the drops of one reason on one Node that an action causes. */
async function causes(
	cluster: Cluster,
	node: string,
	reason: string,
	count: number,
	act: () => Promise<unknown>,
): Promise<void> {
	const counted = async (): Promise<number> => (await cluster.drops(node))[reason] ?? 0;
	const before = await counted();
	await act();
	await until(`${count} ${reason} on ${node}`, async () => (await counted()) === before + count);
}

t.test("guards", async (t) => {
	const cluster = await startCluster(t, { trafficEncapMode: "hybrid" });
	const { lab } = cluster;
	await cluster.serve("pod1b", "pod3a");
	const pod3a = await lab.station("pod3a");
	const arrived = async (stream: number): Promise<number> =>
		(await pod3a.order("udpReport", { port: UDP_PORT, stream })).received;

	t.test("a Pod with another address", async (t) => {
		const capture = await Capture.start(lab, "node3");
		t.teardown(() => capture.remove());
		const strange = {
			4: ["10.244.1.200", lab.address("pod1b", 4), lab.address("node1", 4), "192.0.2.7"],
			6: ["fd00:10:244:1::c8", lab.address("pod1b", 6), lab.address("node1", 6), "2001:db8::7"],
		};
		const packets = ([4, 6] as const).flatMap((family) =>
			strange[family].map((source) => {
				const destination = lab.address("pod3a", family);
				return ip({ source, destination }, udp(4000, UDP_PORT, numbered(1)));
			}),
		);
		await causes(cluster, "node1", "spoofed_address", packets.length, () =>
			sendRaw(lab, "pod1a", packets),
		);
		await capture.stop();
		const seen = await dissect(capture.file, "udp.dstport == 5001", ["frame.number"]);
		t.same(seen, [], "none of it is on the wire");
	});

	t.test("a Pod with another MAC", async (t) => {
		const mac = await cluster.mac("pod1a");
		const known = await lab.run("pod1a", ["ip", "neigh", "show", "nud", "permanent"]);
		const set = (address: string) => async () => {
			await lab.run("pod1a", ["ip", "link", "set", "dev", "eth0", "address", address]);
			// The kernel has forgotten them with the MAC, and the Node would not believe this one's ARP.
			for (const [, to, lladdr] of known.stdout.matchAll(/^(\S+) dev eth0 lladdr (\S+)/gm))
				await lab.run("pod1a", [
					"ip",
					"neigh",
					"replace",
					to!,
					"lladdr",
					lladdr!,
					"dev",
					"eth0",
					"nud",
					"permanent",
				]);
		};
		t.teardown(set(mac));
		const station = await lab.station("pod1a");
		const host = lab.address("pod3a", 4);
		const payload = numbered(2).toString("base64");
		await set("02:00:00:00:00:77")();
		await causes(cluster, "node1", "spoofed_mac", 3, async () => {
			for (let i = 0; i < 3; i++) await station.order("udpSend", { host, port: UDP_PORT, payload });
		});
		t.equal(await arrived(2), 0);
		await set(mac)();
		await station.order("udpSend", { host, port: UDP_PORT, payload });
		await until("its own MAC works", async () => (await arrived(2)) === 1);
	});

	t.test("a Pod floods with random sources", async (t) => {
		await lab.run("pod1a", ["ip", "route", "add", "local", "10.200.0.0/16", "dev", "lo"]);
		const sources = Array.from({ length: 1000 }, (_, i) => `10.200.${i >> 8}.${i & 255}`);
		const station = await lab.station("pod1a");
		const host = lab.address("pod3a", 4);
		const flowsBefore = (await lab.agent("node1").status()).flows.used;
		await causes(cluster, "node1", "spoofed_address", sources.length, () =>
			station.order("udpFlood", { host, port: UDP_PORT, sources }),
		);
		const flows = (await lab.agent("node1").status()).flows.used;
		t.ok(flows <= flowsBefore + 10, `${flows - flowsBefore} flows were made by it`);
		t.match(
			await cluster.ping("pod1b", "pod3a", 4),
			" 3 received",
			"its neighbour is not troubled",
		);
	});

	t.test("a Pod that tells of other addresses leaves no neighbour on its Node", async (t) => {
		const gateway = "10.244.1.1";
		const { stdout } = await lab.run("pod1a", ["ip", "neigh", "show", gateway]);
		const mac = / lladdr (\S+)/.exec(stdout)?.[1] ?? "";
		await lab.run("pod1a", ["ip", "neigh", "del", gateway, "dev", "eth0"]);
		t.teardown(() =>
			lab.run("pod1a", [
				"ip",
				"neigh",
				"replace",
				gateway,
				"lladdr",
				mac,
				"dev",
				"eth0",
				"nud",
				"permanent",
			]),
		);
		await lab.run("pod1a", ["ip", "address", "add", "10.99.99.99/32", "dev", "eth0"]);
		const before = (await cluster.drops("node1")).spoofed_neighbour ?? 0;
		const forged = ["ping", "-n", "-c", "1", "-W", "1", "-I", "10.99.99.99", gateway];
		await lab.run("pod1a", forged, { mayFail: true });
		await lab.run("pod1a", ["ip", "address", "del", "10.99.99.99/32", "dev", "eth0"]);
		await until("spoofed_neighbour on node1", async () => {
			return ((await cluster.drops("node1")).spoofed_neighbour ?? 0) > before;
		});
		const known = await lab.run("node1", ["ip", "neigh", "show"]);
		t.notMatch(known.stdout, "10.99.99.99");
		const own = await lab.run("pod1a", ["ping", "-n", "-c", "1", "-W", "2", gateway], {
			mayFail: true,
		});
		t.match(own.stdout, " 1 received", "of its own it may tell");
	});

	t.test("tunnel packets that are not to be believed", (t) => tunnels(t, cluster, arrived));

	t.test("frames of a foreign VLAN", (t) => foreignVlan(t, cluster));

	t.test("a Pod cannot send tunnel packets as its Node", async (t) => {
		// SNAT would give them the address of node1, which node3 accepts.
		const station = await lab.station("pod1b");
		for (const family of [4, 6] as const)
			for (const [port, wrap] of [
				[6081, (inner: Buffer) => geneve({ vni: 1 }, inner)],
				[4789, (inner: Buffer) => vxlan(1, inner)],
				[7000, (inner: Buffer) => geneve({ vni: 1 }, inner)],
			] as const) {
				const [source, destination] = [lab.address("pod1a", family), lab.address("pod3a", family)];
				const stream = 10 * port + family;
				const forged = ip({ source, destination }, udp(4000, UDP_PORT, numbered(stream)));
				const payload = wrap(frame(MACS, forged)).toString("base64");
				const host = lab.address("node3", family);
				await causes(cluster, "node1", "tunnel_from_pod", 1, () =>
					station.order("udpSend", { host, port, payload }),
				);
				t.equal(await arrived(stream), 0, `port ${port}, IPv${family}`);
			}
	});
	t.end();
});

async function tunnels(
	t: Test,
	cluster: Cluster,
	arrived: (stream: number) => Promise<number>,
): Promise<void> {
	const { lab } = cluster;
	for (const family of [4, 6] as const) {
		const source = lab.address("pod1a", family);
		const destination = lab.address("pod3a", family);
		const stream = 100 * family;
		const datagram = udp(4000, UDP_PORT, numbered(stream));
		const good = frame(MACS, ip({ source, destination }, datagram));
		const from = (address: string): Buffer =>
			frame(MACS, ip({ source: address, destination }, datagram));
		const to = (address: string): Buffer =>
			frame(MACS, ip({ source, destination: address }, datagram));
		const send = async (machine: string, port: number, payload: Buffer): Promise<void> => {
			const station = await lab.station(machine);
			const host = lab.address("node3", family);
			await station.order("udpSend", { host, port, payload: payload.toString("base64") });
		};
		const cases: [string, string, string, number, Buffer][] = [
			["from no peer", "tunnel_unknown_peer", "outside", 6081, geneve({ vni: 1 }, good)],
			["another VNI", "tunnel_bad_vni", "node1", 6081, geneve({ vni: 2 }, good)],
			["another version", "tunnel_malformed", "node1", 6081, geneve({ vni: 1, version: 1 }, good)],
			["OAM", "tunnel_malformed", "node1", 6081, geneve({ vni: 1, flags: 0x80 }, good)],
			[
				"no Ethernet",
				"tunnel_malformed",
				"node1",
				6081,
				geneve({ vni: 1, protocol: 0x0800 }, good),
			],
			["cut short", "tunnel_malformed", "node1", 6081, geneve({ vni: 1 }, good).subarray(0, 15)],
			[
				"a critical option",
				"tunnel_critical_option",
				"node1",
				6081,
				geneve({ vni: 1, flags: 0x40, options: geneveOption(CRITICAL | 1, 1) }, good),
			],
			[
				"another Node's Pod inside",
				"tunnel_wrong_source",
				"node1",
				6081,
				geneve({ vni: 1 }, from(lab.address("pod2a", family))),
			],
			[
				"the outside's address inside",
				"tunnel_wrong_source",
				"node1",
				6081,
				geneve({ vni: 1 }, from(lab.address("outside", family))),
			],
			[
				"to the outside",
				"tunnel_wrong_destination",
				"node1",
				6081,
				geneve({ vni: 1 }, to(lab.address("outside", family))),
			],
			[
				"to a Pod of another Node",
				"tunnel_wrong_destination",
				"node1",
				6081,
				geneve({ vni: 1 }, to(lab.address("pod2a", family))),
			],
		];
		for (const [what, reason, machine, port, payload] of cases) {
			await causes(cluster, "node3", reason, 1, () => send(machine, port, payload));
			t.equal(await arrived(stream), 0, `IPv${family}: ${what}`);
		}
		// What the same sender may send, to show that the above failed for the right reason.
		await send("node1", 6081, geneve({ vni: 1 }, good));
		await until("a good Geneve packet", async () => (await arrived(stream)) === 1);
		const option = { vni: 1, options: geneveOption(1, 2) };
		const second = frame(
			MACS,
			ip({ source, destination }, udp(4000, UDP_PORT, numbered(stream + 1))),
		);
		await send("node1", 6081, geneve(option, second));
		await until("an option that is not critical", async () => (await arrived(stream + 1)) === 1);
		const third = frame(
			MACS,
			ip({ source, destination }, udp(4000, UDP_PORT, numbered(stream + 2))),
		);
		// Tunnels here are Geneve: VXLAN of another kind is none of Fairway's, a peer's is.
		const flannel = Buffer.from(third);
		flannel.fill(0x9e, 0, 1);
		await send("node1", 4789, vxlan(1, flannel));
		await send("node1", 4789, vxlan(1, third));
		await until("VXLAN of a peer", async () => (await arrived(stream + 2)) === 1);
		t.pass(`IPv${family}: good ones arrive`);
	}
}

/** Frames from node2 to a Pod of node1, untagged and with a VLAN tag, direct and in a tunnel. */
async function foreignVlan(t: Test, cluster: Cluster): Promise<void> {
	const { lab } = cluster;
	const macs = { source: await cluster.mac("node2"), destination: await cluster.mac("node1") };
	const pod = await lab.station("pod1b");
	const send = async (bytes: Buffer): Promise<void> => {
		const onTheLink = ["sh", "-c", "base64 -d | socat -u - INTERFACE:node1"];
		await lab.run("net1", onTheLink, { input: bytes.toString("base64") });
	};
	// Before the Pod's own stack, which also accepts no frame of a VLAN.
	const seen = `table netdev guard {
		counter seen {}
		chain in { type filter hook ingress device eth0 priority 0; udp dport ${UDP_PORT} counter name seen; }
	}`;
	await lab.run("pod1b", ["nft", "-f", "-"], { input: seen });
	t.teardown(() => lab.run("pod1b", ["nft", "delete", "table", "netdev", "guard"]));
	let good = 0;
	for (const family of [4, 6] as const)
		for (const tunnelled of [false, true]) {
			const between = (from: string, to: string) => ({
				source: lab.address(from, family),
				destination: lab.address(to, family),
			});
			const stream = 1000 * family + (tunnelled ? 500 : 0);
			const packet = ip(between("pod2a", "pod1b"), udp(4000, UDP_PORT, numbered(stream)));
			const inTunnel = udp(50_000, 6081, geneve({ vni: 1 }, frame(MACS, packet)));
			const sent = frame(macs, tunnelled ? ip(between("node2", "node1"), inTunnel) : packet);
			// The second packet of a known flow takes the fast path.
			for (const tagged of [sent, sent, vlan(sent, 0)]) {
				await send(vlan(sent, 100));
				await send(tagged);
				good++;
			}
			await until("untagged frames, and one with a priority alone", async () => {
				const { received, duplicates } = await pod.order("udpReport", { port: UDP_PORT, stream });
				return received + duplicates === 3;
			});
			const counted = await lab.run("pod1b", ["nft", "list", "counter", "netdev", "guard", "seen"]);
			t.match(
				counted.stdout,
				`packets ${good} `,
				`IPv${family}${tunnelled ? ", in a tunnel" : ""}`,
			);
		}
}
