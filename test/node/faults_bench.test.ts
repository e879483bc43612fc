/**
 * Verifies the fault injection of the other tests, with Fairway direct within subnets and in a tunnel otherwise:
 * each fault affects what it should and nothing else, and everything works again after it is undone.
 *
 *   pod1a                pod2a               pod3a
 *   node1                node2               node3
 *     └────── net1 ────────┘                   └ net2
 *               └──────────── router ────────────┘
 */
import t, { type Test } from "tap";
import { until } from "../../src/lab/until.js";
import { startCluster } from "../tools/cluster.js";
import { type Fault, Faults } from "../tools/faults.js";
import { BulkStreams, costSince, fullSize, now, Streams } from "../tools/streams.js";

type Pair = readonly [string, string];
const DIRECT: Pair = ["pod1a", "pod2a"];
const TUNNELLED: Pair = ["pod1a", "pod3a"];
const BACK: Pair = ["pod3a", "pod1a"];
const NODES: Pair = ["node1", "node2"];
const FAMILIES = [4, 6] as const;

t.test("faults", async (t) => {
	const cluster = await startCluster(t, {
		trafficEncapMode: "hybrid",
		tunnelType: "geneve",
		hybrid: { direct: "subnet" },
	});
	const { lab } = cluster;
	await cluster.serve("pod2a", "pod3a");

	/** Results by family. @param length length of an IP packet with DF; UDP and ping headers have the same size. */
	const pings = async ([from, to]: Pair, length?: number): Promise<boolean[]> =>
		Promise.all(
			FAMILIES.map(async (family) => {
				const size = length === undefined ? [] : ["-M", "do", "-s", `${fullSize(length, family)}`];
				const said = await cluster.ping(from, to, family, ...size);
				return !/ 0 received/.test(said);
			}),
		);
	const alive = async (t: Test, what: string, pair: Pair, length?: number): Promise<void> =>
		void t.same(await pings(pair, length), [true, true], `${what}: ${pair.join(" → ")}`);
	const dead = async (t: Test, what: string, pair: Pair, length?: number): Promise<void> =>
		void t.same(await pings(pair, length), [false, false], `${what}: not ${pair.join(" → ")}`);
	const undone = async (t: Test, fault: Fault, pair: Pair = DIRECT): Promise<void> => {
		await fault.undo();
		for (const family of FAMILIES)
			await until(
				`${pair.join(" → ")} IPv${family} after ${fault.name}`,
				async () => (await cluster.ping(...pair, family)).includes(" 3 received"),
				30_000,
			);
		t.pass(`${fault.name}, undone`);
	};

	t.test("source check of one Node", async (t) => {
		const fault = await new Faults(t, lab).sourceCheck("node2");
		const seen = async (): Promise<number> =>
			(await (await lab.station("pod2a")).order("udpReport", { port: 5001, stream: 77 })).received;
		await dead(t, "the answers of pod2a are dropped", DIRECT);
		await alive(t, "Nodes talk", NODES);
		await alive(t, "in a tunnel", TUNNELLED);
		t.ok((await fault.dropped()) > 0);
		const station = await lab.station("pod1a");
		const payload = Buffer.alloc(16);
		payload.writeUInt32BE(0xfa1a0001, 0);
		payload.writeUInt32BE(77, 4);
		const order = {
			host: lab.address("pod2a", 4),
			port: 5001,
			payload: payload.toString("base64"),
		};
		await station.order("udpSend", order);
		await until("the way to node2 is free", async () => (await seen()) === 1);
		t.pass("one way only");
		await undone(t, fault);
	});

	t.test("source and destination check of all Nodes", async (t) => {
		const faults = new Faults(t, lab);
		for (const alsoDestination of [false, true]) {
			const fault = await faults.sourceCheck("all", alsoDestination);
			await dead(t, fault.name, DIRECT);
			await alive(t, "Nodes talk", NODES);
			await alive(t, "in a tunnel", TUNNELLED);
			await undone(t, fault);
		}
	});

	t.test("a black hole for sizes", async (t) => {
		const faults = new Faults(t, lab);
		const fault = await faults.smallerMtu("node1", 1400);
		await alive(t, "as long as it may be", DIRECT, 1400);
		await dead(t, "one byte more", DIRECT, 1401);
		await dead(t, "as long as the link says", DIRECT, 1500);
		await alive(t, "with its tunnel, IPv4", TUNNELLED, 1330);
		await dead(t, "with its tunnel", TUNNELLED, 1351);
		await alive(t, "others", ["pod2a", "pod3a"], 1430);
		t.ok((await fault.dropped()) > 0);
		const order = { host: lab.address("pod2a", 4), port: 5000, bytes: 1e6, seed: 1 };
		const station = await lab.station("pod1a");
		const stuck = station.order("tcpSend", { ...order, timeoutMs: 1500 });
		await t.rejects(stuck, /no progress/, "TCP that a NIC cuts is as long as its pieces");
		await undone(t, fault);
		t.match(await station.order("tcpSend", order), { whole: true });
		await alive(t, "as long as the link says", DIRECT, 1500);
	});

	t.test("a black hole for sizes, one way", async (t) => {
		const fault = await new Faults(t, lab).smallerMtu("node2", 1400, "to");
		await dead(t, "to node2", DIRECT, 1500);
		const streams = await Streams.start(cluster, [["pod2a", "pod3a", 4]], {
			...{ rate: 200, size: fullSize(1450, 4), fragmentable: true },
		});
		await streams.goOn(100);
		t.same((await streams.stop())[0]?.lost, 0, "from node2 it is free");
		await undone(t, fault);
	});

	t.test("streams with DF and without", async (t) => {
		const { namespace } = lab.underlay.machine("net1");
		t.teardown(() => namespace.run(["nft", "delete", "table", "bridge", "df"], { mayFail: true }));
		await namespace.script(`nft -f - <<-end
			table bridge df {
				chain from {
					type filter hook prerouting priority 0;
					iifname "node1" ip daddr ${lab.address("pod2a", 4)} ip frag-off & 0x4000 != 0 counter
					iifname "node1" ip daddr ${lab.address("pod2a", 4)} ip frag-off & 0x4000 == 0 counter
				}
			}
		end`);
		const counts = async (): Promise<number[]> => {
			const { stdout } = await namespace.run(["nft", "list", "table", "bridge", "df"]);
			return [...stdout.matchAll(/counter packets (\d+)/g)].map(([, packets]) => Number(packets));
		};
		let [withBefore, withoutBefore] = await counts();
		for (const fragmentable of [false, true]) {
			const streams = await Streams.start(cluster, [[...DIRECT, 4]], {
				...{ rate: 200, size: fullSize(1500, 4), fragmentable },
			});
			const [loss] = await streams.stop();
			const [withDf, without] = await counts();
			const more = [withDf! - withBefore!, without! - withoutBefore!];
			t.same(
				more,
				fragmentable ? [0, loss!.sent] : [loss!.sent, 0],
				fragmentable ? "without" : "with",
			);
			[withBefore, withoutBefore] = [withDf, without];
		}
	});

	t.test("random loss", async (t) => {
		const faults = new Faults(t, lab);
		const fault = await faults.randomLoss("node2", 0.2, { direction: "to", what: "pods" });
		const streams = await Streams.start(cluster, [
			[...DIRECT, 4],
			[...TUNNELLED, 4],
		]);
		await streams.goOn(1000);
		const [bare, other] = await streams.stop();
		const share = bare!.lost / bare!.sent;
		t.ok(share > 0.1 && share < 0.3, `${share} of bare packets lost`);
		t.equal(other!.lost, 0, "none of those in a tunnel");
		t.equal(bare!.lostOnReturn, 0, "none on the way back");
		await undone(t, fault);
	});

	t.test("black holes", async (t) => {
		const faults = new Faults(t, lab);
		const bare = await faults.blackhole("node1", { peer: "node2", what: "pods" });
		await dead(t, bare.name, DIRECT);
		await alive(t, "Nodes talk", NODES);
		await undone(t, bare);
		const far = await faults.blackhole("node1", { peer: "node3", what: "all" });
		await dead(t, far.name, TUNNELLED);
		await alive(t, "others", DIRECT);
		await undone(t, far, TUNNELLED);
		const everything = await faults.blackhole("node2", { what: "all" });
		await dead(t, everything.name, NODES);
		await dead(t, everything.name, DIRECT);
		await undone(t, everything);
	});

	t.test("outage and flapping", async (t) => {
		const faults = new Faults(t, lab);
		const streams = await Streams.start(cluster, [[...DIRECT, 4]]);
		const bulk = await BulkStreams.start(cluster, [[...DIRECT, 4]], 500_000);
		const since = now();
		const fault = await faults.flapping(() => faults.blackhole("node2", { what: "pods" }), 600);
		await until("the outages to be seen by UDP and TCP", async () => {
			const [udp] = await streams.echoes();
			const [tcp] = await bulk.progress();
			return (
				udp!.outages.filter(({ lost }) => lost > 100).length >= 2 &&
				Math.min(udp!.longestPauseMs, tcp!.longestStallMs) >= 250 &&
				tcp!.there.slots.some((bytes) => bytes === 0)
			);
		});
		await fault.undo();
		t.ok((await fault.dropped()) > 0);
		await streams.echoed(500);
		await bulk.goOn(100_000);
		const losses = await streams.stop();
		const [cost] = costSince(losses, since);
		t.ok(cost!.lost >= 200 && cost!.recoveredMs >= 290, JSON.stringify(cost));
		await bulk.stop();
	});

	t.test("silent ARP", async (t) => {
		const fault = await new Faults(t, lab).silentArp("node2");
		await dead(t, "nobody finds node2", NODES);
		await dead(t, "nobody finds node2", DIRECT);
		await alive(t, "others", TUNNELLED);
		await alive(t, "others", BACK);
		await undone(t, fault, NODES);
		await undone(t, fault);
	});

	t.test("a new MAC", async (t) => {
		const before = await cluster.mac("node2");
		const fault = await new Faults(t, lab).newMac("node2");
		t.not(await cluster.mac("node2"), before);
		await undone(t, fault);
		t.equal(await cluster.mac("node2"), before);
	});

	t.test("a router that knows the Pods", async (t) => {
		const faults = new Faults(t, lab);
		const routes = async (): Promise<string> => (await lab.run("router", ["ip", "route"])).stdout;
		const fault = await faults.routerWithPods();
		t.match(await routes(), "10.244.1.0/24");
		await fault.undo();
		t.notMatch(await routes(), "10.244.1.0/24");
	});

	t.test("a Node reboots", async (t) => {
		const before = FAMILIES.map((family) => lab.address("pod2a", family));
		const fault = await new Faults(t, lab).stopNode("node2");
		await dead(t, "it is off", NODES);
		await dead(t, "it is off", DIRECT);
		await undone(t, fault);
		await cluster.settled();
		t.same(
			FAMILIES.map((family) => lab.address("pod2a", family)),
			before,
			"its Pods have the same addresses",
		);
	});

	t.test("nothing is left of the faults", async (t) => {
		for (const name of ["net1", "net2"]) {
			const { stdout } = await lab.namespace(name).script("nft list ruleset; ip -br link");
			t.notMatch(stdout, /fault/);
		}
	});
	t.end();
});
