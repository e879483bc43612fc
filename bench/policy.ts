/**
 * Network policy: what an established packet and a new flow cost under it, against none; with 10,000 policies, 10,000
 * rules, 10,000 prefixes and 100,000 Pods; what a flood costs that is denied; how long a change takes until it is in
 * force, and what it does to flows that run.
 *
 *   bench/policy.ts [ROUNDS] [FRAMES] [POLICIES] [PODS]     default 7, 60000, 10000, 100000
 */
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { bench } from "./tools/cleanup.js";
import { Comparison } from "./tools/comparison.js";
import { KubeRouter, measureFirewall, policiesOf, withoutKubeRouter } from "./tools/kube_router.js";
import { kernelForwarding } from "./tools/networks.js";
import { Pktgen, type Stream } from "./tools/pktgen.js";
import { measureAdd } from "./tools/policy_add.js";
import type { Stage } from "./tools/policy_agent.js";
import { enforce, measureChanges, PolicyTables } from "./tools/policy_changes.js";
import { measureCut, measureEpoch, type RunningFlows, synFrame } from "./tools/policy_flows.js";
import {
	crowd,
	denials,
	type Manifests,
	manyBlocks,
	manyPolicies,
	manyRules,
	PODS,
	PODS_FILE,
	tenPolicies,
} from "./tools/policy_plan.js";
import { publish, type Table } from "./tools/report.js";
import { Site } from "./tools/site.js";
import { quantile } from "./tools/statistics.js";

const rounds = Number(process.argv[2] ?? 7);
const frames = Number(process.argv[3] ?? 60_000);
const many = Number(process.argv[4] ?? 10_000);
const pods = Number(process.argv[5] ?? 100_000);
const FEW_PODS = 100;

/** Fewer than the flows, so that none is used twice in a round; then they expire. */
const FRESH = { frames: 7000, flows: 8192, pauseMs: 1500 };
const HALVES = ["out", "in"] as const;

await bench(async () => {
	const pktgen = await Pktgen.open();
	const up = async (name: string, manifests: Manifests, timeouts = {}, pods = 0): Promise<Site> => {
		const site = await Site.up(
			name,
			{ fairway: { trafficEncapMode: "hybrid", flows: { timeouts } } },
			{ objects: Object.fromEntries(Object.entries(PODS_FILE).map(([k, v]) => [k, [...v]])) },
		);
		if (Object.keys(manifests).length > 0) await enforce(site, manifests, pods);
		return site;
	};
	const ways: [string, Manifests][] = [
		["none", {}],
		["10 policies", tenPolicies()],
		[`${many} policies`, manyPolicies(many)],
		[`${many} rules`, manyRules(many)],
		[`block among ${many}`, manyBlocks(many)],
	];

	const known = new Comparison(pktgen, rounds, frames);
	const fresh = new Comparison(pktgen, rounds, FRESH.frames, FRESH.pauseMs);
	const sites = new Map<string, Site>();
	const others: string[] = [];
	const short = { udpOpening: 1, tcpOpening: 1 };
	const add = async (name: string, site: Site, stream: Stream): Promise<void> => {
		const wire = await site.ontoWire(pktgen, { ...stream, vary: {} });
		await site.sinkInPod(pktgen, "sink_tc");
		known.add(`out ${name}`, { ...stream, vary: {} });
		known.add(`in ${name}`, wire);
		fresh.add(`out ${name}`, { ...stream, vary: { flows: FRESH.flows } });
		fresh.add(`in ${name}`, { ...wire, vary: { flows: FRESH.flows } });
	};
	for (const [name, manifests] of ways) {
		const site = await up(name, manifests, short);
		sites.set(name, site);
		await add(name, site, await site.fromPod(pktgen, {}));
	}

	const firewalls: [string, KubeRouter][] = [];
	const missing = [withoutKubeRouter].filter(Boolean);
	for (const [name, manifests] of [
		["kernel forwarding", {}],
		...(withoutKubeRouter === ""
			? [
					["kube-router, 10 policies", tenPolicies()] as const,
					[`kube-router, ${many} policies`, manyPolicies(many)] as const,
				]
			: []),
	] as const) {
		const site = await Site.up(name, { network: kernelForwarding });
		const policies = policiesOf(manifests);
		if (policies.length > 0) {
			const firewall = await KubeRouter.both(site, policies).catch((error: Error) => error);
			if (firewall instanceof Error) {
				missing.push(`${name} is left out: ${firewall.message}.`);
				continue;
			}
			firewalls.push([name, firewall]);
		}
		for (const node of ["node1", "node2"])
			await site.namespace(node).run(["sysctl", "-qw", "net.netfilter.nf_conntrack_udp_timeout=1"]);
		await add(name, site, await site.fromPod(pktgen, {}));
		others.push(name);
	}

	const syn = new Comparison(pktgen, rounds, FRESH.frames, FRESH.pauseMs);
	const allowed = sites.get("10 policies")!;
	const denied = await up("denied", denials(), short);
	const tcp = { protocol: "tcp", size: 64 } as const;
	const streams: Record<string, Stream> = {};
	for (const [name, site] of [
		["none", sites.get("none")!],
		["allowed", allowed],
		["denied", denied],
	] as const) {
		const stream = synFrame(await site.fromPod(pktgen, tcp));
		streams[name] = { ...stream, vary: { flows: FRESH.flows } };
		syn.add(`out ${name}`, streams[name]!);
		// The Node that denies receives the packets that a Node without policies sends.
		const from = name === "denied" ? allowed : site;
		const wire = await from.ontoWire(pktgen, synFrame(await from.fromPod(pktgen, tcp)));
		await site.sinkInPod(pktgen, "sink_tc");
		const frame = Buffer.from(wire.frame);
		(await site.macOf("node2")).copy(frame, 0);
		const out = await site.output(pktgen, "net1", "node2");
		syn.add(`in ${name}`, { frame, out, vary: { flows: FRESH.flows } });
	}

	const crowds: [string, Site][] = [];
	const spread = new Comparison(pktgen, rounds, FRESH.frames, FRESH.pauseMs);
	for (const [count, manifests] of [
		[FEW_PODS, { ...tenPolicies(), ...crowd(FEW_PODS) }],
		[pods, { ...manyPolicies(many), ...crowd(pods) }],
	] as const) {
		const site = await up(`${count} Pods`, manifests, short, count);
		crowds.push([`${count} Pods`, site]);
		const destinations = 2 ** Math.floor(Math.log2(Math.min(count, 65_536)));
		const stream = await site.fromPod(pktgen, { destination: PODS.first });
		// The sink at the switch counts them, since they have no receiver.
		await site.ontoWire(pktgen, stream);
		spread.add(`${count} Pods`, { ...stream, vary: { flows: FRESH.flows, destinations } });
	}

	await known.run();
	await fresh.run();
	await syn.run();
	await spread.run();

	const flows = await (async (): Promise<RunningFlows> => {
		const site = await up("running", tenPolicies());
		const stream = await site.fromPod(pktgen, {});
		await site.ontoWire(pktgen, stream);
		const epoch = await measureEpoch(pktgen, site, stream, rounds);
		const cut = await measureCut(pktgen, site, stream);
		return { epoch, cut };
	})();
	const slots = await (async () => {
		const used = async () => (await denied.lab.agent("node1").status()).flows.used;
		const tables = new PolicyTables(denied, "node1");
		const before = await used();
		const run = await pktgen.run(streams.denied!, FRESH.frames);
		const after = await used();
		tables.close();
		return { sent: run.sent, received: run.received, taken: Math.max(0, after - before) };
	})();
	const changes = await measureChanges(crowds[1]![1], pods);
	const [plain = [], judged = []] = await measureAdd([sites.get("none")!, crowds[1]![1]]);
	const agent = measureParts();
	const firewall: [string, number[]][] = [];
	for (const [name, one] of firewalls)
		await measureFirewall(one).then(
			(times) => firewall.push([name, times]),
			(error: Error) => missing.push(`${name}, a policy changes, is left out: ${error.message}.`),
		);

	const names = [...ways.map(([name]) => name), ...others];
	const table = (title: string, of: Comparison): Table => ({
		title,
		columns: [
			"",
			"egress",
			"÷ none",
			"÷ 10 policies",
			"÷ kube-router",
			"ingress",
			"÷ none",
			"÷ 10 policies",
			"÷ kube-router",
			"delivered",
		],
		rows: names.map((name) => [
			name,
			...HALVES.flatMap((half) => [
				of.cpu(`${half} ${name}`),
				of.ratio(`${half} ${name}`, `${half} none`),
				of.ratio(`${half} ${name}`, `${half} 10 policies`),
				of.ratio(`${half} ${name}`, `${half} kube-router, 10 policies`),
			]),
			HALVES.map((half) => of.delivered(`${half} ${name}`)).join(" "),
		]),
	});
	for (const sentence of missing) process.stderr.write(`${sentence}\n`);
	const ms = (values: readonly number[], share: number) => quantile(values, share).toFixed(0);
	publish({
		bench: "policy",
		method: `IPv4, direct, UDP in frames of 64 bytes; ${rounds} rounds of ${frames} frames, the ways alternating; median (least–greatest). pod1's egress and pod2's ingress are isolated, and allow each other by a range of ports. Changes: of a directory of manifests, from the rename of the file to the last write, without the 100 ms that the agent waits for the directory to be quiet.${missing.map((sentence) => ` ${sentence}`).join("")}`,
		tables: [
			table("Established: CPU ns per packet", known),
			table("New flows only: CPU ns per packet", fresh),
			{
				title: "TCP SYNs of new flows only: CPU ns per packet sent",
				columns: ["", "egress", "÷ allowed", "ingress", "÷ allowed", "delivered"],
				rows: ["none", "allowed", "denied"].map((name) => [
					name,
					...HALVES.flatMap((half) => [
						syn.cpuSent(`${half} ${name}`),
						syn.sentRatio(`${half} ${name}`, `${half} allowed`),
					]),
					HALVES.map((half) => syn.delivered(`${half} ${name}`)).join(" "),
				]),
			},
			{
				title: `New flows to Pods elsewhere, in turn: CPU ns per packet`,
				columns: ["", "egress", `÷ ${FEW_PODS} Pods`, "delivered"],
				rows: crowds.map(([name]) => [
					name,
					spread.cpu(name),
					spread.ratio(name, `${FEW_PODS} Pods`),
					spread.delivered(name),
				]),
			},
			{
				title: "Flows that run",
				columns: ["", ""],
				rows: [
					["flow slots taken by denied SYNs", `${slots.taken} of ${slots.sent}`],
					["judged anew, one flow: CPU ns", flows.epoch.each.toFixed(0)],
					[
						`epoch raised under ${flows.epoch.flows} flows: share of a CPU's second`,
						`${((100 * flows.epoch.each * flows.epoch.flows) / 1e9).toFixed(1)} %`,
					],
					[`deny under ${flows.cut.flows} flows: last packet after, ms`, ms(flows.cut.times, 0.5)],
				],
			},
			{
				title: `The agent with ${many} policies and ${pods} Pods: event to enforced, ms`,
				columns: ["", "p50", "p99"],
				rows: (
					[
						["a policy changes", changes.policy],
						["a Pod elsewhere comes or goes", changes.pod],
						[`a Namespace's label moves ${PODS.moving} Pods`, changes.namespace],
						...firewall.map(([name, times]) => [`${name}: a policy changes`, times] as const),
					] as const
				).map(([name, values]) => [name, ms(values, 0.5), ms(values, 0.99)]),
			},
			{
				title: "ADD of a Pod, in turn: ms",
				columns: ["", "p50", "p99"],
				rows: (
					[
						["without policies", plain],
						[`with ${many} policies and ${pods} Pods`, judged],
					] as const
				).map(([name, times]) => [name, ms(times, 0.5), ms(times, 0.99)]),
			},
			{
				title: `The agent of a directory with ${many} policies and ${pods} Pods`,
				columns: ["", "idle", "50 Pod events/s", "resident MB"],
				rows: [
					[
						"% of a core",
						(100 * changes.agent.idle).toFixed(1),
						(100 * changes.agent.events).toFixed(1),
						changes.agent.resident.toFixed(0),
					],
				],
			},
			{
				title:
					"The policy parts of an agent of an API server, with 10,000 policies, 100,000 Pods and 5,000 Nodes",
				columns: [
					...["", "CPU ms", "% of a core", "longest piece of the event loop, CPU ms"],
					...["longest pause for V8's heap, ms", "resident MB", "peak MB"],
				],
				rows: agent.map(({ what, cpu, ms, longest, resident, peak }) => [
					...[what, cpu.toFixed(0), ((100 * cpu) / ms).toFixed(1)],
					...[longest.piece.toFixed(1), longest.collection.toFixed(1)],
					...[resident.toFixed(0), peak.toFixed(0)],
				]),
			},
		],
		data: {
			...Object.fromEntries(Object.entries(known.data()).map(([k, v]) => [`established ${k}`, v])),
			...Object.fromEntries(Object.entries(fresh.data()).map(([k, v]) => [`new ${k}`, v])),
			...Object.fromEntries(Object.entries(syn.data()).map(([k, v]) => [`SYN ${k}`, v])),
			...Object.fromEntries(Object.entries(spread.data()).map(([k, v]) => [`new to ${k}`, v])),
			...{ flows, slots, changes, firewall, agent },
			add: { plain, judged },
		},
	});
});

/** Stage by stage, in namespaces of its own. */
function measureParts(): Stage[] {
	const program = fileURLToPath(new URL("policy_agent.ts", import.meta.url));
	const namespaces = ["--net", "--mount", "--propagation", "private"];
	const node = [process.execPath, "--import=tsx", program, "--json"];
	const { status, stdout, stderr } = spawnSync("unshare", [...namespaces, ...node], {
		...{ encoding: "utf8", maxBuffer: 2 ** 26 },
	});
	if (status !== 0) throw new Error(`Cannot measure the agent's parts: ${stderr}`);
	return stdout
		.trimEnd()
		.split("\n")
		.map((line) => JSON.parse(line) as Stage);
}
