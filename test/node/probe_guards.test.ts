/**
 * Only the peer's core can answer a request: forged answers from the Node network and from Pods are refused and
 * change nothing. And a peer that has never answered is another implementation, not a dead Node.
 *
 *       pod1a   pod2a             pod3a
 *       node1   node2             node3   node4, without Fairway
 *         └─ net1 ┘                 └─ net2 ┘
 *              └──── router, a stranger ──┘
 */
import { writeFileSync } from "node:fs";
import t from "tap";
import type { PeerStatus } from "../../src/api/messages/peers.js";
import { until } from "../../src/lab/until.js";
import { requestPacket, smallLength } from "../../src/probe/request.js";
import { ProbeKind } from "../../src/tables/generated.js";
import { ip, udp } from "../packet/builder.js";
import { startCluster } from "../tools/cluster.js";
import { withoutAgent } from "../tools/foreign_node.js";
import { sendRaw } from "../tools/raw.js";

const GATEWAYS = {
	4: { node1: "10.244.1.1", node2: "10.244.2.1" },
	6: { node1: "fd00:10:244:1::1", node2: "fd00:10:244:2::1" },
} as const;
const TIMES = 20;
const HASTY = { failoverTime: 300 };
/** For what must not take a late answer for a path that fails: the machine may be busy. */
const PATIENT = { failoverTime: 30_000 };
const PROBES_UNTIL_DOWN = 5;

t.test("guards of probes", async (t) => {
	const cluster = await startCluster(t, { trafficEncapMode: "encap" }, withoutAgent("node4"));
	const { lab } = cluster;
	const pathsTo = async (node: string, peer: string): Promise<PeerStatus[]> =>
		(await lab.agent(node).peers()).filter((view) => view.node === peer);
	const switchTo = async (mode: string, probes: object): Promise<void> => {
		writeFileSync(lab.config, JSON.stringify({ trafficEncapMode: mode, probes }));
		for (const [node, agent] of lab.agents)
			await until(`${node} in ${mode}`, async () => {
				const status = await agent.status();
				return status.mode === mode && status.pending === 0;
			});
	};
	const reached = async (path: string): Promise<void> => {
		for (const [node, peer] of [
			["node1", "node2"],
			["node2", "node1"],
		] as const)
			await until(`${path} from ${node} to ${peer}`, async () =>
				(await pathsTo(node, peer)).every((view) => view.path === path),
			);
	};
	const refused = async (node: string): Promise<number> =>
		(await cluster.drops(node)).probe_refused ?? 0;

	await t.test("a peer that never answers", async (t) => {
		const toNode4 = () => pathsTo("node3", "node4");
		await switchTo("hybrid", HASTY);
		await until("node3 to say why it goes by the tunnel", async () =>
			(await toNode4()).every(
				({ path, reason }) =>
					path === "geneve" &&
					reason === "geneve: node4 has answered no probe yet, so the direct path is not proven.",
			),
		);
		await switchTo("noEncap", HASTY);
		await until("node3 to go direct without proof", async () =>
			(await toNode4()).every(
				({ path, reason }) => path === "direct" && /node4 has answered no probe yet/.test(reason),
			),
		);
		await switchTo("encap", HASTY);
		const sent = async () => (await toNode4()).map(({ probes }) => probes.sent);
		const before = await sent();
		// Longer than it takes until a peer that has answered before is down.
		await until("more unanswered probes than make a peer down", async () =>
			(await sent()).every((count, i) => count >= before[i]! + PROBES_UNTIL_DOWN),
		);
		t.same(
			(await toNode4()).map(({ path }) => path),
			["geneve", "geneve"],
			"and it is not down",
		);
	});

	await switchTo("hybrid", PATIENT);
	await reached("direct");
	await lab.underlay.setRouterKnowsPods(true);
	const probe = (family: 4 | 6, kind: number, sequence: number, source?: string): Buffer => {
		const length = smallLength(family);
		const { node1, node2 } = GATEWAYS[family];
		const packet = requestPacket({
			...{ source: source ?? node2, destination: node1, there: "direct", back: "direct" },
			...{ length, answerLength: length, sequence, hello: true },
		});
		packet[(family === 4 ? 28 : 48) + 4] = kind;
		return packet;
	};
	const many = (make: (sequence: number) => Buffer): Buffer[] =>
		Array.from({ length: TIMES }, (_, i) => make(i));

	for (const family of [4, 6] as const) {
		await t.test(`forged answers from a third party, IPv${family}`, async (t) => {
			const before = await refused("node1");
			await sendRaw(
				lab,
				"router",
				many((i) => probe(family, ProbeKind.ANSWER, i)),
			);
			await until("each to be refused", async () => (await refused("node1")) === before + TIMES);
			const views = await pathsTo("node1", "node2");
			t.same(
				views.map(({ path }) => path),
				["direct", "direct"],
			);
		});

		await t.test(`forged requests in a peer's name, IPv${family}`, async (t) => {
			const mismatches = async () => (await cluster.drops("node1")).peer_mac_mismatch ?? 0;
			const before = await mismatches();
			await sendRaw(
				lab,
				"router",
				many((i) => probe(family, ProbeKind.REQUEST, i)),
			);
			await until(
				"each request to be dropped",
				async () => (await mismatches()) === before + TIMES,
			);
			const views = await pathsTo("node2", "node1");
			t.same(
				views.map(({ path }) => path),
				["direct", "direct"],
			);
		});

		await t.test(`probe requests from a Pod, IPv${family}`, async (t) => {
			const before = [await refused("node1"), await refused("node2")];
			const spoofed = (await cluster.drops("node2")).spoofed_address ?? 0;
			const own = lab.address("pod2a", family);
			await sendRaw(lab, "pod2a", [
				...many((i) => probe(family, ProbeKind.REQUEST, i, own)),
				...many((i) => probe(family, ProbeKind.ANSWER, i, own)),
				// With its Node's address.
				...many((i) => probe(family, ProbeKind.REQUEST, i)),
			]);
			await until(
				"what is in the Node's name to be dropped",
				async () => ((await cluster.drops("node2")).spoofed_address ?? 0) >= spoofed + TIMES,
			);
			t.same(
				[await refused("node1"), await refused("node2")],
				before,
				"with its own address it is a Pod's packet",
			);
		});
	}

	const dropped = async (reason: string): Promise<number> =>
		(await cluster.drops("node1"))[reason] ?? 0;
	const asPod2a = (family: 4 | 6): Buffer => {
		const [source, destination] = [lab.address("pod2a", family), lab.address("pod1a", family)];
		return ip({ source, destination }, udp(4000, 4001));
	};
	for (const family of [4, 6] as const)
		await t.test(`a stranger sends as a peer's Pod, IPv${family}`, async () => {
			const before = await dropped("peer_mac_mismatch");
			await sendRaw(
				lab,
				"router",
				many(() => asPod2a(family)),
			);
			await until(
				"each packet to be dropped",
				async () => (await dropped("peer_mac_mismatch")) === before + TIMES,
			);
		});
	await t.test("a stranger sends as the Pod of a peer that sends in tunnels only", async () => {
		await switchTo("encap", {});
		await reached("geneve");
		for (const family of [4, 6] as const) {
			const before = await dropped("untunnelled");
			// Until the peer's announcement counts, its MAC is what is asked for.
			await until("the peer's announcement to count", async () => {
				await sendRaw(lab, "router", [asPod2a(family)]);
				return (await dropped("untunnelled")) > before;
			});
		}
	});
});
