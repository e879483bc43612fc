/**
 * Services, by whole Nodes: who reaches what, and what each side sees.
 *
 *   pod1a ─┐                     ┌ pod1b        on this Node
 *   node1 ─┤                     ├ pod2a        direct          ┐ or in tunnels
 *   pod2b ─┼─ node1: a Service ──┼ pod3a        in a tunnel     ┘
 *   outside┘                     ├ node1, node2 in the host network
 *                                └ outside
 */
import t, { type Test } from "tap";
import { until } from "../../src/lab/until.js";
import { startCluster, TCP_PORT } from "../tools/cluster.js";
import {
	balancerIp,
	clusterIp,
	FAMILIES,
	type Family,
	gatewayOf,
	nodePort,
	SERVICE_SETTINGS,
	serviceManifest,
} from "../tools/service_manifest.js";
import { addSideNetwork } from "../tools/side_network.js";

const BACKENDS = ["pod1b", "pod2a", "pod3a", "node1", "node2", "outside"] as const;
const HAIRPIN = 10;
const EMPTY = 11;
/** Endpoints on Nodes 1 and 2, external traffic policy Local. */
const EXTERNAL_LOCAL = 12;
/** An endpoint on Node 2 alone, both policies Local. */
const ELSEWHERE = 13;
/** Endpoints on Nodes 1 and 2, internal traffic policy Local. */
const INTERNAL_LOCAL = 14;
/** For Pods alone. */
const RANGES = 15;
/** What the Node's own endpoints see of its own processes. */
const RETURN = { 4: "169.254.250.28", 6: "fd66:6169:7277::28" } as const;

t.test("Services", async (t) => {
	const cluster = await startCluster(t, SERVICE_SETTINGS);
	const { lab } = cluster;
	await cluster.serve("pod1a", ...BACKENDS);
	const two = [{ machine: "pod1b" }, { machine: "pod2a" }];
	cluster.write(
		"services.yaml",
		...BACKENDS.flatMap((machine, n) => serviceManifest(cluster, n + 1, [{ machine }])),
		...serviceManifest(cluster, HAIRPIN, [{ machine: "pod1a" }]),
		...serviceManifest(cluster, EMPTY, [{ machine: "pod1b", conditions: { ready: false } }]),
		...serviceManifest(cluster, EXTERNAL_LOCAL, two, { externalTrafficPolicy: "Local" }),
		...serviceManifest(cluster, ELSEWHERE, [{ machine: "pod2a" }], {
			...{ externalTrafficPolicy: "Local", internalTrafficPolicy: "Local" },
		}),
		...serviceManifest(cluster, INTERNAL_LOCAL, two, { internalTrafficPolicy: "Local" }),
		...serviceManifest(cluster, RANGES, [{ machine: "pod1b" }], {
			loadBalancerSourceRanges: ["10.244.0.0/16", "fd00:10:244::/48"],
		}),
	);
	// The network leads to Node 1 what is no Node's own.
	for (const family of FAMILIES) {
		const routers = lab.topology.outside?.routers.map((address) => address.split("/")[0] ?? "");
		const router = routers?.find((address) => address.includes(":") === (family === 6)) ?? "";
		const length = family === 4 ? 24 : 112;
		for (const address of [balancerIp(family, 0), clusterIp(family, 0)])
			for (const [machine, via] of [
				["router", lab.address("node1", family)],
				["outside", router],
			] as const)
				await lab.run(machine, [
					...["ip", `-${family}`, "route", "replace", `${address}/${length}`, "via", via],
				]);
	}
	const gateways = {
		4: await gatewayOf(cluster, "node1", 4),
		6: await gatewayOf(cluster, "node1", 6),
	};

	const tcp = async (from: string, host: string, port: number, timeoutMs = 3000) => {
		const station = await lab.station(from);
		return station.order("tcpSend", { host, port, bytes: 300_000, seed: 1, timeoutMs });
	};
	/** What a backend sees of a client: UDP and TCP, both whole. */
	const talk = async (what: string, from: string, host: string, ports = [80, 53]) => {
		const station = await lab.station(from);
		const [tcpPort = 0, udpPort = 0] = ports;
		const sent = await until(`${what}: TCP`, () => tcp(from, host, tcpPort));
		if (!sent.whole) throw new Error(`${what}: TCP data was changed`);
		if (udpPort === 0) return sent.address;
		const seen = await until(`${what}: UDP`, () =>
			station.order("udpWho", { host, port: udpPort, timeoutMs: 500, connected: true }),
		);
		return seen.address === sent.address ? sent.address : `${sent.address}, UDP ${seen.address}`;
	};
	const refused = async (t: Test, what: string, from: string, host: string, port: number) =>
		t.rejects(tcp(from, host, port, 30_000), /ECONNREFUSED/, `${what}: refused`);
	const silent = async (t: Test, what: string, from: string, host: string, port: number) =>
		t.rejects(tcp(from, host, port, 700), /no progress in 700 ms/, `${what}: no answer`);
	// A UDP server that answers from whatever address is best towards a Pod, answers from the gateway's
	// there, which no translation expects: with or without Fairway.
	const answersPods = (backend: string, family: Family) => backend !== "node1" || family === 4;

	for (const change of [
		{},
		{ trafficEncapMode: "encap", tunnelType: "vxlan" },
		{ trafficEncapMode: "encap" },
		{ trafficEncapMode: "noEncap" },
	] as const) {
		const { trafficEncapMode = "hybrid" } = change as { trafficEncapMode?: string };
		t.test(`${trafficEncapMode} ${"tunnelType" in change ? change.tunnelType : ""}`, async (t) => {
			await lab.underlay.setRouterKnowsPods(trafficEncapMode === "noEncap");
			await cluster.configure({ ...SERVICE_SETTINGS, ...change });
			for (const family of FAMILIES) {
				const node = lab.address("node1", family);
				const pod = lab.address("pod1a", family);
				const outside = lab.address("outside", family);
				for (const [index, backend] of BACKENDS.entries()) {
					const n = index + 1;
					const isPod = backend.startsWith("pod");
					const leaves = backend === "node2" || backend === "outside";
					const udp = answersPods(backend, family) ? 53 : 0;
					const ofPod = leaves ? node : pod;
					// A process of the Node answers by fairway0, whoever asks.
					const ofNode = backend === "node1" ? RETURN[family] : isPod ? gateways[family] : node;
					const isHere = backend === "pod1b" || backend === "node1";
					const ofOutside = isHere ? outside : ofNode;
					// What goes to the Node's own address has that as its source.
					const ofNodePort = backend === "pod1b" ? node : ofNode;
					const ports = [nodePort(n), udp === 0 ? 0 : nodePort(n)];
					const rows: [what: string, from: string, host: string, ports: number[], sees: string][] =
						[
							["cluster IP", "pod1a", clusterIp(family, n), [80, udp], ofPod],
							["cluster IP", "node1", clusterIp(family, n), [80, 53], ofNode],
							["load balancer IP", "pod1a", balancerIp(family, n), [80, udp], ofPod],
							["load balancer IP", "node1", balancerIp(family, n), [80, 53], ofNode],
							["load balancer IP", "outside", balancerIp(family, n), [80, 53], ofOutside],
							["NodePort", "outside", node, [nodePort(n), nodePort(n)], ofOutside],
							["NodePort of its Node", "pod1a", node, ports, ofPod],
							["its own NodePort", "node1", node, [nodePort(n), nodePort(n)], ofNodePort],
						];
					for (const [what, from, host, ports, sees] of rows) {
						const row = `IPv${family}, ${from} → ${what} → ${backend}`;
						t.equal(await talk(row, from, host, ports), sees, row);
					}
				}
				const v = `IPv${family}`;
				const hairpin = await talk(v, "pod1a", clusterIp(family, HAIRPIN));
				t.equal(hairpin, gateways[family], `${v}, a Pod to itself`);
				const far = await talk(v, "pod2b", node, [nodePort(1), nodePort(1)]);
				t.equal(far, lab.address("node2", family), `${v}, pod2b → NodePort of Node 1`);

				for (const from of ["pod1a", "node1"])
					for (const [what, host, port] of [
						["no endpoints", clusterIp(family, EMPTY), 80],
						["no such port", clusterIp(family, 1), 4444],
						["a load balancer IP without endpoints", balancerIp(family, EMPTY), 80],
					] as const)
						await refused(t, `${v}, ${from}, ${what}`, from, host, port);
				await refused(t, `${v}, outside, no endpoints`, "outside", node, nodePort(EMPTY));
				for (const from of ["pod1a", "node1"])
					await silent(t, `${v}, ${from}, internal Local`, from, clusterIp(family, ELSEWHERE), 80);
				for (const [what, host, port] of [
					["external Local", node, nodePort(ELSEWHERE)],
					["external Local", balancerIp(family, ELSEWHERE), 80],
					["outside the source ranges", balancerIp(family, RANGES), 80],
					["a cluster IP", clusterIp(family, 1), 80],
				] as const)
					await silent(t, `${v}, outside, ${what}`, "outside", host, port);
				t.equal(
					await talk(v, "pod1a", balancerIp(family, RANGES)),
					pod,
					`${v}, in the source ranges`,
				);
				const elsewhere = await talk(v, "pod1a", balancerIp(family, ELSEWHERE));
				t.equal(elsewhere, pod, `${v}, a Pod has the cluster set with external Local`);

				const byItself = await talk(v, "node1", node, [nodePort(ELSEWHERE), nodePort(ELSEWHERE)]);
				t.equal(
					byItself,
					node,
					`${v}, external Local keeps the Node's address, by its own NodePort`,
				);

				for (let n = 0; n < 5; n++) {
					const ports = [nodePort(EXTERNAL_LOCAL), nodePort(EXTERNAL_LOCAL)];
					const local = await talk(v, "outside", node, ports);
					t.equal(local, outside, `${v}, external Local keeps the client's address`);
					const internal = await talk(v, "node1", clusterIp(family, INTERNAL_LOCAL));
					t.equal(internal, gateways[family], `${v}, internal Local`);
				}
			}
		});
	}

	t.test("one port of a client outside, to the Node by a Service and directly", async (t) => {
		const station = await lab.station("outside");
		let localPort = 56_000;
		for (const family of FAMILIES) {
			const host = lab.address("node1", family);
			const ends = {
				directly: { host, port: TCP_PORT },
				"by NodePort": { host, port: nodePort(BACKENDS.indexOf("node1") + 1) },
			};
			for (const [one, other] of [
				["directly", "by NodePort"],
				["by NodePort", "directly"],
			] as const) {
				const what = `IPv${family}, first ${one}`;
				// The next port is what the second connection gets.
				localPort += 10;
				const order = { localPort, bytes: 1_000_000 };
				const slow = station.order("tcpSend", {
					...{ ...order, ...ends[one], seed: 1, rate: 250_000 },
				});
				const connected = ["ss", "-Htn", "state", "established", "sport", "=", `:${localPort}`];
				await until(
					"the first connection",
					async () => (await lab.run("outside", connected)).stdout !== "",
				);
				const quick = await station.order("tcpSend", { ...order, ...ends[other], seed: 2 });
				const address = lab.address("outside", family);
				t.match(quick, { whole: true, address }, `${what}, then ${other}`);
				t.not(quick.port, localPort, "which has another port at the Node");
				t.match(await slow, { whole: true, address, port: localPort }, "the first is whole, too");
			}
		}
	});

	for (const [index, kind] of (["bridge", "tun"] as const).entries())
		t.test(`a client behind a ${kind} of Node 1`, async (t) => {
			const addresses = (end: number) => ({
				4: `10.77.${index}.${end}/24`,
				6: `fd00:77:${index + 1}::${end}/64`,
			});
			const [node, host] = [addresses(1), addresses(2)];
			const network = { kind, device: `side${index}`, node, host };
			const client = await addSideNetwork(t, lab, "node1", network);
			for (const family of FAMILIES)
				for (const [backend, sees] of [
					["pod1b", host[family].split("/")[0]],
					["node1", host[family].split("/")[0]],
					["pod2a", gateways[family]],
				] as const) {
					const n = BACKENDS.indexOf(backend) + 1;
					for (const [what, address, port] of [
						["NodePort", lab.address("node1", family), nodePort(n)],
						["load balancer IP", balancerIp(family, n), 80],
					] as const) {
						const row = `IPv${family}, ${what} → ${backend}`;
						const order = { host: address, port, bytes: 300_000, seed: 1, timeoutMs: 3000 };
						const sent = await until(row, () => client.order("tcpSend", order));
						t.strictSame([sent.whole, sent.address], [true, sees], row);
					}
				}
		});
});
