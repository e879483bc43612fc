/**
 * Network policies that change under traffic, modes that change under policies, agents that are away.
 *
 *   net1: node1  x/a x/b, server z/c    net2: node3  y/b, server z/a
 *         node2  x/c, server y/a              node4  y/c z/b
 */
import t from "tap";
import { monotonic } from "../../src/lab/tally.js";
import { until } from "../../src/lab/until.js";
import { TCP_PORT, UDP_PORT } from "../tools/cluster.js";
import { exchange } from "../tools/exchange.js";
import { network, PolicyLab, SERVICE_PORT } from "../tools/policy_lab.js";
import { FAMILIES } from "../tools/service_manifest.js";
import type { Protocol, TrafficReport } from "../tools/traffic.js";

/** Of the Node of x/a, of another one on its network, and behind a tunnel. */
const SERVERS = ["z-c", "y-a", "z-a"];
const PROTOCOLS = ["tcp", "udp"] as const;
const FLIPS = 40;
/** DESIGN: a change is in force within one second. */
const IN_FORCE_MS = 1000;

const ingress = (...rules: object[]) => ({ policyTypes: ["Ingress"], ingress: rules });
const egress = (...rules: object[]) => ({ policyTypes: ["Egress"], egress: rules });
const everywhere = (podSelector: object) => ({ namespaceSelector: {}, podSelector });
const marked = (...values: string[]) => ({
	matchExpressions: [{ key: "pass", operator: "In", values }],
});
const IS_SERVER = { matchLabels: { server: "yes" } };

interface Running {
	what: string;
	from: string;
	to: string;
	id: number;
}

t.test("network policy under traffic", async (t) => {
	const lab = await PolicyLab.start(t);
	const { cluster } = lab;
	await cluster.lab.underlay.setRouterKnowsPods(true);
	for (const server of SERVERS) lab.pods[server]!.labels.server = "yes";
	const label = (pod: string, pass: string) => {
		lab.pods[pod]!.labels.pass = pass;
	};
	for (const pod of ["x-a", "y-c"]) label(pod, "both");
	label("x-b", "first");
	label("y-b", "second");
	label("z-b", "stopped");

	/** What the servers let in; `stopped` is stopped by its own egress policy. */
	const serve = (...values: string[]) => {
		for (const name of ["y/in", "z/in"])
			lab.policies.set(
				name,
				network(name, {
					podSelector: IS_SERVER,
					...ingress({ from: [everywhere(marked(...values, "stopped"))] }),
				}),
			);
	};
	const send = (name: string, pass: string, rule: object) =>
		lab.policies.set(name, network(name, { podSelector: marked(pass), ...egress(rule) }));
	const states = [
		() => {
			serve("both", "first");
			send("x/out", "both", { to: [everywhere(IS_SERVER)] });
			lab.policies.delete("y/other");
			send("z/out", "stopped", { ports: [{ port: 81 }] });
		},
		() => {
			serve("both", "second");
			const blocks = ["10.244.0.0/16", "fd00:10:244::/48"];
			send("x/out", "both", { to: blocks.map((cidr) => ({ ipBlock: { cidr } })) });
			lab.policies.set("y/other", network("y/other", { podSelector: marked("second") }));
			send("z/out", "stopped", { to: [everywhere({ matchLabels: { server: "no" } })] });
		},
	];
	const sum = (reports: readonly TrafficReport[], field: keyof TrafficReport) =>
		reports.reduce((total, report) => total + report[field], 0);

	/** New connections from each of these to each server, by both protocols and families. */
	const flood = (clients: string[], rate: number, waitMs: number, servers = SERVERS): Running[] =>
		clients.flatMap((from) =>
			servers.flatMap((to) =>
				FAMILIES.flatMap((family) =>
					PROTOCOLS.map((protocol) => {
						const { what, host, port } = lab.straight(from, to, family, protocol, 80);
						const id = lab.traffic.get(from)!.flood({ protocol, host, port }, rate, waitMs);
						return { what, from, to, id };
					}),
				),
			),
		);
	const floodServices = (from: string, rate: number): Running[] =>
		FAMILIES.flatMap((family) =>
			SERVERS.map((to) => {
				const { what, host } = lab.byService(from, to, family);
				const target = { protocol: "tcp" as Protocol, host, port: SERVICE_PORT };
				return { what, from, to, id: lab.traffic.get(from)!.flood(target, rate, 5000) };
			}),
		);
	const stop = (all: readonly Running[]): Promise<TrafficReport[]> =>
		Promise.all(all.map(({ from, id }) => lab.traffic.get(from)!.stop(id)));
	const reports = (all: readonly Running[]): Promise<TrafficReport[]> =>
		Promise.all(all.map(({ from, id }) => lab.traffic.get(from)!.report(id)));
	/** Those of which one connection was lost, or had to be asked for again. */
	const lost = async (all: readonly Running[]): Promise<string[]> => {
		const ended = await stop(all);
		return all.flatMap(({ what }, i) => {
			const { begun, late, refused, unanswered } = ended[i]!;
			return begun > 10 && late + refused + unanswered === 0
				? []
				: `${what}: ${JSON.stringify(ended[i])}`;
		});
	};
	/** Those of which one connection got through. */
	const passed = async (all: readonly Running[]): Promise<string[]> => {
		const ended = await stop(all);
		return all.flatMap(({ what }, i) => {
			const { begun, answered, refused } = ended[i]!;
			return begun > 10 && answered + refused === 0 ? [] : `${what}: ${JSON.stringify(ended[i])}`;
		});
	};
	/** What these servers have received from these Pods. */
	const received = async (from: string[], servers = SERVERS) => {
		const addresses = from.flatMap((pod) =>
			FAMILIES.map((family) => cluster.lab.address(pod, family)),
		);
		const seen = await Promise.all(servers.map((server) => lab.traffic.get(server)!.seen()));
		return seen.flat().filter(({ address, port }) => addresses.includes(address) && port === 80);
	};
	const incomplete = async (): Promise<number> => {
		const { policy_incomplete: one = 0, policy_not_ready: two = 0 } = await cluster.allDrops();
		return one + two;
	};

	t.test(
		"policies that change lose nothing that both allow, pass nothing that none does",
		async (t) => {
			states[0]!();
			await lab.apply();
			const both = [...flood(["x-a", "y-c"], 60, 5000), ...floodServices("x-a", 60)];
			const neither = flood(["x-c", "z-b"], 20, 200);
			const changing = flood(["x-b", "y-b"], 20, 200);
			let longest = 0;
			for (let i = 1; i <= FLIPS; i++) {
				states[i % 2]!();
				longest = Math.max(longest, await lab.apply());
			}
			t.same(await lost(both), [], "what both allow");
			t.same(await passed(neither), [], "what neither allows");
			t.same(await received(["x-c", "z-b"]), [], "nothing of it came");
			const changed = await stop(changing);
			t.ok(sum(changed, "answered") > 100, "what one allows passes while it is in force");
			t.ok(sum(changed, "unanswered") > 100, "and only then");
			t.comment(`a change was in force within ${longest.toFixed()} ms`);
			t.equal(await incomplete(), 0, "no packet met incomplete tables");
		},
	);

	t.test(
		"running connections are cut at both ends, go on when allowed, others do not notice",
		async (t) => {
			states[0]!();
			await lab.apply();
			const hold = (from: string): Running[] =>
				SERVERS.flatMap((to) =>
					FAMILIES.flatMap((family) =>
						PROTOCOLS.map((protocol) => {
							const { what, host, port } = lab.straight(from, to, family, protocol, 80);
							const id = lab.traffic.get(from)!.hold({ protocol, host, port }, 20, 50);
							return { what, from, to, id };
						}),
					),
				);
			const datagrams = async () =>
				(await received(["x-a"]))
					.filter(({ protocol }) => protocol === "udp")
					.reduce((total, { messages }) => total + messages, 0);
			const before = await datagrams();
			const kept = hold("x-a");
			const cut = hold("x-b");
			const all = [...kept, ...cut];
			/** Resolves when every connection of these has received something after this time. */
			const alive = (what: string, running: readonly Running[], since: number) =>
				until(what, async () =>
					(await reports(running)).every(
						({ begun, open, oldestMs }) => open === begun && oldestMs > since,
					),
				);
			await alive("every connection is there", all, monotonic());
			states[0]!();
			await lab.apply();
			await alive("every connection is allowed", all, monotonic());

			const changes: [what: string, cut: () => void, restore: () => void][] = [
				[
					"an ingress policy that no longer names the client",
					() => serve("both"),
					() => serve("both", "first"),
				],
				[
					"an egress policy of the client",
					() =>
						lab.policies.set(
							"x/cut",
							network("x/cut", { podSelector: marked("first"), ...egress() }),
						),
					() => lab.policies.delete("x/cut"),
				],
				["a client with other labels", () => label("x-b", "none"), () => label("x-b", "first")],
				[
					"servers with other labels",
					() => {
						for (const server of SERVERS) lab.pods[server]!.labels.server = "no";
					},
					() => {
						for (const server of SERVERS) lab.pods[server]!.labels.server = "yes";
					},
				],
			];
			for (const [what, change, restore] of changes) {
				if (what.startsWith("servers")) {
					send("x/cut", "first", { to: [everywhere(IS_SERVER)] });
					// Of those that are no servers any more nobody asks.
					send("x/out", "both", { to: [everywhere({})] });
					await lab.apply();
				}
				change();
				const begun = monotonic();
				await lab.apply();
				const applied = monotonic();
				await alive(`${what}: the others go on`, kept, applied + 1.5 * IN_FORCE_MS);
				const lastHeard = Math.max(...(await reports(cut)).map(({ newestMs }) => newestMs));
				const lastSeen = Math.max(...(await received(["x-b"])).map(({ lastMs }) => lastMs));
				t.ok(
					lastHeard < applied + IN_FORCE_MS,
					`${what}: answers end after ${(lastHeard - begun).toFixed()} ms`,
				);
				t.ok(
					lastSeen < applied + IN_FORCE_MS,
					`${what}: data ends after ${(lastSeen - begun).toFixed()} ms`,
				);
				restore();
				const restored = monotonic();
				await lab.apply();
				await alive(`${what}: those that were cut go on`, cut, restored);
			}
			lab.policies.delete("x/cut");
			const reported = await stop(all);
			const sent = kept.reduce(
				(total, { what }, i) => total + (what.includes("udp") ? reported[i]!.sent : 0),
				0,
			);
			t.equal((await datagrams()) - before, sent, "of the others no datagram is lost");
			for (const server of SERVERS) await lab.traffic.get(server)!.quiet();
			t.equal(await incomplete(), 0, "no packet met incomplete tables");
		},
	);

	t.test("blocks with Nodes' addresses mean the same while the mode changes", async (t) => {
		lab.policies.clear();
		const blocks = (...cidrs: string[]) =>
			ingress({ from: cidrs.map((cidr) => ({ ipBlock: { cidr } })) });
		lab.policies.set(
			"y/in",
			network("y/in", {
				podSelector: IS_SERVER,
				...blocks("192.168.1.1/32", "fd00:192:168:1::1/128"),
			}),
		);
		lab.policies.set(
			"z/in",
			network("z/in", {
				podSelector: { matchLabels: { pod: "a" } },
				...blocks("10.244.4.1/32", "fd00:10:244:4::1/128"),
			}),
		);
		await lab.apply();
		const allowed = [
			...flood(["node1"], 20, 5000, ["y-a"]),
			...flood(["node4"], 20, 5000, ["z-a"]),
		];
		const denied = [
			...flood(["node3", "node4"], 20, 200, ["y-a"]),
			...flood(["node1", "node2"], 20, 200, ["z-a"]),
		];
		for (const mode of ["encap", "noEncap", "hybrid"] as const)
			await cluster.configure({ ...cluster.settings, trafficEncapMode: mode });
		t.same(await lost(allowed), [], "the Node that the block names");
		t.same(await passed(denied), [], "other Nodes");
		t.equal(await incomplete(), 0, "no packet met incomplete tables");
	});

	t.test(
		"without its agent a Node does what the last policies say (antrea#3468, antrea#5698, cilium#5290, cilium#28645, antrea#666)",
		async (t) => {
			lab.policies.clear();
			states[0]!();
			await lab.apply();
			const allowed = [...flood(["x-a", "y-c"], 20, 5000), ...floodServices("x-a", 20)];
			const denied = flood(["z-b"], 20, 200);
			const away = ["node1", "node3"].map((node) => cluster.lab.agent(node));
			await Promise.all(away.map((agent) => agent.stop("SIGKILL")));
			// A policy goes that stops x/c at all servers.
			lab.policies.delete("y/in");
			lab.policies.delete("z/in");
			lab.write();
			const tries = SERVERS.map((server) => lab.straight("x-c", server, 4, "tcp", 80));
			await until("the policy is gone where there is an agent", async () => {
				const [, here] = await lab.probe(tries, (i) => i === 1, 1000);
				return here === "yes";
			});
			const [local, , far] = await lab.probe(tries, (i) => i === 1);
			t.same([local, far], [undefined, undefined], "and in force where there is none");
			await Promise.all(away.map((agent) => agent.start()));
			await lab.settled();
			t.same(await lab.probe(tries, () => true), ["yes", "yes", "yes"], "gone with the new agent");
			t.same(await lost(allowed), [], "what old and new allow loses nothing");
			t.same(await passed(denied), [], "what neither allows never passes");
			t.equal(await incomplete(), 0, "no packet met incomplete tables");
		},
	);

	t.test(
		"large, fragmented and merged packets, and ICMP errors, go with the flow that is allowed (cilium#26193, aws-npa#207, kube-router#685)",
		async (t) => {
			const { lab: machines } = cluster;
			const peers = ["x-b", "y-a", "z-a"];
			await cluster.serve(...peers, "outside");
			for (const peer of peers) lab.pods[peer]!.labels.peer = "yes";
			const IS_PEER = { matchLabels: { peer: "yes" } };
			const isA = { matchLabels: { pod: "a" } };
			lab.policies.clear();
			for (const space of ["x", "y", "z"])
				lab.policies.set(
					`${space}/deny`,
					network(`${space}/deny`, { policyTypes: ["Ingress", "Egress"] }),
				);
			lab.policies.set(
				"x/out",
				network("x/out", {
					podSelector: isA,
					...egress(
						{ to: [everywhere(IS_PEER)] },
						{
							to: [
								{ ipBlock: { cidr: "203.0.113.10/32" } },
								{ ipBlock: { cidr: "2001:db8:113::10/128" } },
							],
							ports: [{ port: TCP_PORT }, { protocol: "UDP", port: UDP_PORT }],
						},
					),
				}),
			);
			for (const space of ["x", "y", "z"])
				lab.policies.set(
					`${space}/in`,
					network(`${space}/in`, {
						podSelector: IS_PEER,
						...ingress({
							from: [{ namespaceSelector: { matchLabels: { team: "x" } }, podSelector: isA }],
						}),
					}),
				);
			await lab.apply();
			for (const { name, subnet } of machines.topology.nodes)
				await machines
					.namespace(subnet)
					.script(`ethtool -K ${name} tx off; ethtool -K ${name} tso off gso off || true`);
			const received = async (pod: string): Promise<{ packets: number; bytes: number }> => {
				const { stdout } = await machines.run(pod, [
					...["ip", "-s", "-j", "link", "show", "dev", "eth0"],
				]);
				const [link] = JSON.parse(stdout) as {
					stats64: { rx: { packets: number; bytes: number } };
				}[];
				return link?.stats64.rx ?? { packets: 0, bytes: 0 };
			};
			const before = await received("z-a");
			for (const peer of peers)
				await exchange(t, cluster, "x-a", peer, {
					tcpBytes: 3_000_000,
					sizes: [1, 1400, 1473, 3000, 20_000],
				});
			const after = await received("z-a");
			const length = (after.bytes - before.bytes) / (after.packets - before.packets);
			t.ok(length > 2 * 1500, `merged when it comes out of the tunnel: ${length} bytes a packet`);

			const stranger = await machines.station("x-c");
			const client = await machines.station("x-a");
			await machines.run("router", ["ip", "link", "set", "outside", "mtu", "1300"]);
			await machines.run("outside", ["ip", "link", "set", "eth0", "mtu", "1300"]);
			for (const family of FAMILIES) {
				const sizes = [10, 3000, 20_000];
				const port = UDP_PORT;
				const host = machines.address("y-a", family);
				const denied = { host, port, sizes, seed: 1, timeoutMs: 100, tries: 1 };
				const { missing } = await stranger.order("udpExchange", denied);
				t.same(
					missing,
					sizes,
					`a stranger's packets, IPv${family}: none comes, whole or in fragments`,
				);

				const far = machines.address("outside", family);
				const one = { host: far, port, sizes: [1400], seed: 1 };
				const exchanged = await client.order("udpExchange", one);
				t.same(
					exchanged,
					{ missing: [], corrupt: [], retried: [1400] },
					`IPv${family}: too big once`,
				);
				const { stdout } = await machines.run("x-a", ["ip", "route", "get", far]);
				t.match(stdout, "mtu 1300", `IPv${family}: the Pod has learned how big`);
			}
			t.equal(await incomplete(), 0, "no packet met incomplete tables");
		},
	);

	t.test(
		"masquerade of a proxy beside Fairway is no bypass (antrea#280, cilium#25650, cilium#46934, cilium#34517)",
		async (t) => {
			const { lab: machines } = cluster;
			const targets = ["x-a", "y-a"];
			const rules = FAMILIES.flatMap((family) =>
				targets.map((pod, i) => {
					const ip = family === 4 ? "ip" : "ip6";
					const to = machines.address(pod, family);
					const target = family === 4 ? `${to}:80` : `[${to}]:80`;
					const node = machines.address("node1", family);
					return `add rule inet proxy pre ${ip} daddr ${node} tcp dport ${31_000 + i} dnat ${ip} to ${target}`;
				}),
			);
			await machines.namespace("node1").script(`
			nft add table inet proxy
			nft 'add chain inet proxy pre { type nat hook prerouting priority dstnat; }'
			nft 'add chain inet proxy post { type nat hook postrouting priority srcnat; }'
			${rules.map((rule) => `nft '${rule}'`).join("\n")}
			nft 'add rule inet proxy post ct status dnat masquerade'
		`);
			t.teardown(() => machines.run("node1", ["nft", "delete", "table", "inet", "proxy"]));
			const asks = FAMILIES.flatMap((family) =>
				targets.map((_, i) => ({
					...{ from: "outside", protocol: "tcp" as const, port: 31_000 + i },
					host: machines.address("node1", family),
				})),
			);
			const own = FAMILIES.map((family) => lab.straight("node1", "x-a", family, "tcp", 80));
			const all = (answer: string | undefined) => asks.map(() => answer);
			lab.policies.clear();
			await lab.apply();
			t.same(await lab.probe(asks, () => true), all("yes"), "without a policy");
			const cidrs = ["192.168.1.1/32", "fd00:192:168:1::1/128"];
			const isA = { podSelector: { matchLabels: { pod: "a" } } };
			for (const [what, rules, answer] of [
				["a policy that denies all", [], undefined],
				[
					"one that allows the Node",
					[{ from: cidrs.map((cidr) => ({ ipBlock: { cidr } })) }],
					"yes",
				],
				[
					"one that allows the client",
					[{ from: [{ ipBlock: { cidr: "203.0.113.0/24" } }] }],
					undefined,
				],
			] as const) {
				for (const name of ["x/in", "y/in"])
					lab.policies.set(name, network(name, { ...isA, ...ingress(...rules) }));
				await lab.apply();
				t.same(await lab.probe(asks, () => answer === "yes"), all(answer), what);
				t.same(await lab.probe(own, () => true), ["yes", "yes"], `${what}: the Node itself`);
			}
		},
	);
});
