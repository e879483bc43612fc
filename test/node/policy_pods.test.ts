/**
 * New Pods under policies: closed from their first packet until their policies are in force, whatever becomes of the
 * agent, and never what the former owner of their address was.
 *
 *   node1  x/a, again and again; x/b z/c     node2  y/a      node3  y/b
 */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import t from "tap";
import { until } from "../../src/lab/until.js";
import { network, PolicyLab } from "../tools/policy_lab.js";
import { FAMILIES } from "../tools/service_manifest.js";

/** Room for five and six Pods. */
const POD_CIDRS = ["10.244.1.0/29", "fd00:10:244:1::/125"];
const ADDRESSES = {
	4: [2, 3, 4, 5, 6].map((host) => `10.244.1.${host}`),
	6: [2, 3, 4, 5, 6, 7].map((host) => `fd00:10:244:1::${host}`),
};
/** When the agent is killed, in milliseconds after ADD has begun, or as soon as the Pod has its record. */
const KILLS = [0, "recorded", 30, 90] as const;
const CALM_ROUNDS = 10;

const everywhere = (matchLabels: object) => ({
	namespaceSelector: {},
	podSelector: { matchLabels },
});
const both = (rule: { ingress: object[]; egress: object[] }) => ({
	policyTypes: ["Ingress", "Egress"],
	...rule,
});

t.test("new Pods", async (t) => {
	const lab = await PolicyLab.start(t, {}, { node1: POD_CIDRS });
	const { lab: machines } = lab.cluster;
	const agent = machines.agent("node1");
	const pod = machines.pod("x-a");
	const traffic = (machine: string) => lab.traffic.get(machine)!;
	const own = ["x-b", "z-c"].flatMap((other) =>
		FAMILIES.map((family) => machines.address(other, family)),
	);
	/** Those that a new Pod may get. */
	const free = FAMILIES.flatMap((family) => ADDRESSES[family].filter((one) => !own.includes(one)));
	/** What these machines have received on UDP port 80 from these addresses. */
	const received = async (machine: string, from: readonly string[]) =>
		(await traffic(machine).seen()).filter(
			({ protocol, port, address }) => protocol === "udp" && port === 80 && from.includes(address),
		);
	const records = () => readdirSync(join(agent.runDirectory, "endpoints")).length;
	const attach = () =>
		until("the Pod is attached", async () => {
			try {
				await machines.attach(pod);
				return true;
			} catch {
				// As the kubelet does.
				await machines.detach(pod);
				return false;
			}
		});

	t.test(
		"no forbidden packet passes, either way, agent or not (antrea#197, kube-router#873, k3s#13432, aws-npa#186)",
		async (t) => {
			lab.policies.set(
				"x/deny",
				network(
					"x/deny",
					both({
						ingress: [{ from: [everywhere({ role: "peer" })], ports: [{ port: 80 }] }],
						egress: [
							{ to: [everywhere({ role: "peer" })], ports: [{ protocol: "UDP", port: 81 }] },
						],
					}),
				),
			);
			const peers = ["z-c", "y-a", "y-b"];
			for (const peer of peers) lab.pods[peer]!.labels.role = "peer";
			await lab.apply();
			const floods = [
				...peers.flatMap((peer) =>
					FAMILIES.map((family) => ["x-a", machines.address(peer, family)] as const),
				),
				...peers.flatMap((peer) => free.map((address) => [peer, address] as const)),
			].map(
				([from, host]) =>
					[from, traffic(from).flood({ protocol: "udp", host, port: 80 }, 200, 20)] as const,
			);
			/** What is allowed passes at once, at the same time nothing else has passed. */
			const check = async (what: string) => {
				const allowed = FAMILIES.flatMap((family) =>
					peers.flatMap((peer) => [
						lab.straight(peer, "x-a", family, "tcp", 80),
						lab.straight("x-a", peer, family, "udp", 81),
					]),
				);
				const answers = await lab.probe(allowed, () => true);
				const silent = allowed.filter((_, i) => answers[i] !== "yes").map(({ what }) => what);
				t.same(silent, [], `${what}: what is allowed passes`);
				t.same(await received("x-a", peerAddresses), [], `${what}: nothing else came to the Pod`);
				for (const peer of peers)
					t.same(await received(peer, free), [], `${what}: nothing else came to ${peer}`);
			};
			const peerAddresses = peers.flatMap((peer) =>
				FAMILIES.map((family) => machines.address(peer, family)),
			);
			for (let round = 0; round < CALM_ROUNDS; round++) {
				await machines.detach(pod);
				await machines.attach(pod);
				// The policies are in force when ADD returns: the first packet is answered.
				const first = FAMILIES.map((family) => {
					const { protocol, host, port } = lab.straight("z-c", "x-a", family, "tcp", 80);
					return traffic("z-c").flood({ protocol, host, port }, 200, 5000);
				});
				await until("some connections", async () => {
					const reports = await Promise.all(first.map((id) => traffic("z-c").report(id)));
					return reports.every(({ begun }) => begun >= 5);
				});
				for (const id of first) {
					const { late, refused, unanswered } = await traffic("z-c").stop(id);
					t.same({ late, refused, unanswered }, { late: 0, refused: 0, unanswered: 0 });
				}
			}
			await check("with its agent");
			for (const kill of KILLS) {
				await machines.detach(pod);
				const others = records();
				const adding = machines.attach(pod).then(
					() => true,
					() => false,
				);
				if (kill === "recorded") await until("the Pod's record", () => records() > others);
				else await delay(kill);
				await agent.stop("SIGKILL");
				const isAttached = await adding;
				await agent.start();
				if (!isAttached) await attach();
				await check(`agent killed (${kill}), ADD ${isAttached ? "done" : "failed"}`);
			}
			for (const [machine, id] of floods) await traffic(machine).stop(id);
			const { policy_incomplete: incomplete = 0 } = await lab.cluster.allDrops();
			t.equal(incomplete, 0, "no packet met incomplete tables");
		},
	);

	t.test(
		"an address that gets another Pod is no longer the former one (kube-router#1056, NPM#428, antrea#6507, cilium#35993)",
		async (t) => {
			lab.policies.clear();
			const serve = (name: string, ...ports: object[]) =>
				network(name, {
					podSelector: { matchLabels: { role: "peer" } },
					ingress: [
						{ from: [everywhere({ pod: "a" })] },
						{ from: [everywhere({ pod: "n" })], ports },
					],
				});
			for (const name of ["y/in", "z/in"]) lab.policies.set(name, serve(name, { port: 81 }));
			const former = FAMILIES.map((family) => machines.address("x-a", family));
			// Its object outlives it.
			lab.pods["x-a"]!.more = {
				metadata: { creationTimestamp: "2026-01-01T00:00:00Z" },
				status: { podIPs: former.map((ip) => ({ ip })) },
			};
			const next = { ...pod, name: "n" };
			await lab.apply();
			const asks = (port: number) =>
				FAMILIES.flatMap((family) =>
					["z-c", "y-a"].map((peer) => lab.straight("x-a", peer, family, "tcp", port)),
				);
			t.same(await lab.probe(asks(80), () => true), ["yes", "yes", "yes", "yes"], "before");

			const targets = FAMILIES.map((family) => machines.address("z-c", family));
			const floods = targets.map((host) =>
				traffic("x-a").flood({ protocol: "udp", host, port: 80 }, 500, 20),
			);
			await machines.detach(pod);
			const before = await received("z-c", free);
			machines.topology.pods.splice(machines.topology.pods.indexOf(pod), 1, next);
			await until("the next Pod has the address", async () => {
				await machines.attach(next);
				if (former.includes(machines.address("x-a", 4))) return true;
				await machines.detach(next);
				return false;
			});
			for (const id of floods) await traffic("x-a").stop(id);
			const counts = (seen: typeof before) =>
				seen.map(({ address, messages }) => [address, messages]);
			t.same(
				counts(await received("z-c", free)),
				counts(before),
				"no packet of the next Pod passes as one of the former",
			);
			const nothing = [undefined, undefined, undefined, undefined];
			const all = ["yes", "yes", "yes", "yes"];
			const local = [...asks(80), ...asks(81)].filter(({ host }) => targets.includes(host));
			t.same(await lab.probe(local, () => false), nothing, "before its object it has no labels");
			lab.extra = [
				{
					...{ apiVersion: "v1", kind: "Pod" },
					metadata: {
						...{ namespace: "x", name: "n", labels: { pod: "n" } },
						creationTimestamp: "2026-01-02T00:00:00Z",
					},
					spec: { nodeName: "node1", containers: [] },
				},
			];
			await lab.apply();
			t.same(
				await lab.probe(asks(81), () => true),
				all,
				"with its object it is itself, everywhere",
			);
			t.same(await lab.probe(asks(80), () => false), nothing, "and never the former Pod");
			// The former Pod's object goes at last.
			lab.pods["x-a"]!.more = {};
			await lab.apply();
			t.same(await lab.probe(asks(81), () => true), all, "when the former one's object goes");
			t.same(await lab.probe(asks(80), () => false), nothing, "nothing changes");
		},
	);
});
