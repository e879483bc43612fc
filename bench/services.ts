/**
 * Services: what a packet and a connection cost by a Service's address, against the same without a Service,
 * against a bare translation by constants, against rules of kube-proxy's shape, with one Service and with ten
 * thousand, and against kube-proxy itself with one, where its program is built; what a change costs, and ten thousand
 * Services at once.
 *
 *   bench/services.ts [ROUNDS] [FRAMES] [SECONDS] [SERVICES]     default 7, 60000, 0.5, 10000
 */
import { bench } from "./tools/cleanup.js";
import { Comparison } from "./tools/comparison.js";
import { KubeProxy, PROXY_MODES, withoutKubeProxy } from "./tools/kube_proxy.js";
import { bareDnat, kernelForwarding, kubeProxyRules } from "./tools/networks.js";
import { Pktgen } from "./tools/pktgen.js";
import { publish, type Table } from "./tools/report.js";
import { type Changes, measureChanges } from "./tools/service_changes.js";
import { CLUSTER_IP, SERVICE_PORT, serviceManifests, withServices } from "./tools/service_plan.js";
import { answersOf, measureRefusals, outsideStream } from "./tools/service_streams.js";
import { type Dataplane, type Settings, Site } from "./tools/site.js";
import { ratios, shownSpread, spread } from "./tools/statistics.js";
import { type Exchanged, PORT, Traffic } from "./tools/traffic.js";

const rounds = Number(process.argv[2] ?? 7);
const frames = Number(process.argv[3] ?? 60_000);
const seconds = Number(process.argv[4] ?? 0.5);
const many = Number(process.argv[5] ?? 10_000);

const TOGETHER = [1, 1] as const;
const APART = [0, 1] as const;
const REQUEST_BYTES = 64;
/** Fewer than the flows, so that none is used twice in a round; then they expire. */
const FRESH = { frames: 7000, flows: 8192, pauseMs: 1500 };
const ANSWERED = [1, 10_000];

const kinds = {
	connect: (way: Traffic) => way.run("connect", seconds, [REQUEST_BYTES], TOGETHER),
	exchange: (way: Traffic) => way.run("exchange", seconds, [REQUEST_BYTES], TOGETHER),
	"1 stream": (way: Traffic) => way.run("stream", seconds, [1], APART),
	"8 streams": (way: Traffic) => way.run("stream", seconds, [8], APART),
};
type Kind = keyof typeof kinds;
const kindNames = Object.keys(kinds) as Kind[];

/** A site, and how its client asks. */
interface Way {
	name: string;
	site: Site;
	/** Else by pod2's own address. */
	service: boolean;
	/** The client is a process of node1, not pod1; only for connections. */
	host?: boolean;
}

const nameOf = (name: string, service: boolean): string => (service ? `${name}, Service` : name);

await bench(async () => {
	const pktgen = await Pktgen.open();
	const packets: Way[] = [];
	const sockets: Way[] = [];
	const up = async (
		name: string,
		dataplane: Dataplane,
		into: readonly Way[][],
		asked: readonly boolean[],
		services = 1,
	): Promise<Site> => {
		const objects = "fairway" in dataplane ? serviceManifests(services) : {};
		const site = await Site.up(name, dataplane, { objects });
		for (const ways of into)
			for (const service of asked)
				ways.push({ name: asked.length > 1 ? nameOf(name, service) : name, site, service });
		return site;
	};
	const both = [packets, sockets];
	const kernel = await up("kernel forwarding", { network: kernelForwarding }, both, [false]);
	await up("bare DNAT", { network: bareDnat(pktgen, { tunnel: false }) }, both, [true]);
	await up("bare DNAT, geneve", { network: bareDnat(pktgen, { tunnel: true }) }, [packets], [true]);
	const peers = new Map<string, Site>();
	for (const rules of ["iptables-nft", "iptables-legacy", "nft"] as const)
		peers.set(rules, await up(rules, { network: kubeProxyRules(rules, 1) }, both, [true]));
	for (const rules of ["iptables-legacy", "nft"] as const)
		await up(`${rules}, ${many}`, { network: kubeProxyRules(rules, many) }, [sockets], [true]);
	const proxies = new Map<string, KubeProxy>();
	// With one Service; the rules of its shape show what ten thousand cost.
	if (withoutKubeProxy !== "") process.stderr.write(`${withoutKubeProxy}\n`);
	for (const mode of withoutKubeProxy === "" ? PROXY_MODES : []) {
		const name = `kube-proxy ${mode}`;
		const site = await up(name, { network: kernelForwarding }, both, [true]);
		proxies.set(name, await KubeProxy.start(site, mode, 1));
	}
	const ours = new Map<string, Site>();
	const fairway = async (name: string, settings: Settings, services = 1): Promise<void> => {
		const asked = services === 1 ? [false, true] : [true];
		const [native, auto] = [withServices(settings), withServices({ ...settings, xdp: "auto" })];
		ours.set(name, await up(name, { fairway: native }, [packets], asked, services));
		const closed = { ...auto, flows: { timeouts: { tcpClosed: 1 } } };
		const site = await up(name, { fairway: closed }, [sockets], asked, services);
		for (const service of services === 1 && name === "Fairway direct" ? [false, true] : [])
			sockets.push({ name: nameOf("Fairway, host", service), site, service, host: true });
	};
	await fairway("Fairway direct", { trafficEncapMode: "hybrid" });
	await fairway("Fairway geneve", { trafficEncapMode: "encap" });
	await fairway(`Fairway direct, ${many}`, { trafficEncapMode: "hybrid" }, many);
	const direct = ours.get("Fairway direct")!;

	const known = new Comparison(pktgen, rounds, frames);
	for (const { name, site, service } of packets) {
		const to = service ? { destination: CLUSTER_IP, destinationPort: SERVICE_PORT.udp } : {};
		const stream = await site.fromPod(pktgen, to);
		const wire = await site.ontoWire(pktgen, stream);
		await site.sinkInPod(pktgen, "sink_tc");
		known.add(`out ${name}`, stream);
		known.add(`in ${name}`, wire);
		if (site !== direct) continue;
		for (const flows of ANSWERED)
			known.add(`answers ${flows} ${name}`, await answersOf(pktgen, site, stream, wire, flows));
	}
	for (const [name, site] of [...peers, ["Fairway direct", direct] as const])
		known.add(`NodePort ${name}`, await outsideStream(pktgen, site));
	const outside = await direct.fromPod(pktgen, { destination: direct.lab.address("outside", 4) });
	known.add("SNAT Fairway direct", outside);
	await known.run();

	const fresh = new Comparison(pktgen, rounds, FRESH.frames, FRESH.pauseMs);
	const short = { timeouts: { udpOpening: 1 } };
	const settings = withServices({ trafficEncapMode: "hybrid", flows: short });
	const begun = await up("Fairway direct", { fairway: settings }, [], []);
	for (const [name, site, service] of [
		["kernel forwarding", kernel, false],
		["iptables-legacy", peers.get("iptables-legacy")!, true],
		["nft", peers.get("nft")!, true],
		["Fairway direct", begun, false],
		["Fairway direct, Service", begun, true],
	] as const) {
		if (service && site !== begun)
			await site
				.namespace("node1")
				.run(["sysctl", "-qw", "net.netfilter.nf_conntrack_udp_timeout=1"]);
		const to = service ? { destination: CLUSTER_IP, destinationPort: SERVICE_PORT.udp } : {};
		const stream = { ...(await site.fromPod(pktgen, to)), vary: { flows: FRESH.flows } };
		const wire = await site.ontoWire(pktgen, { ...stream, vary: {} });
		await site.sinkInPod(pktgen, "sink_tc");
		fresh.add(`new out ${name}`, stream);
		fresh.add(`new in ${name}`, { ...wire, vary: { flows: FRESH.flows } });
	}
	await fresh.run();

	const results = new Map<string, Exchanged[]>();
	const traffics = new Map<string, Traffic>();
	const servers = new Map<string, Traffic>();
	for (const { name, site, service, host } of sockets) {
		// Servers of their own: a connection by the Service's address and one without it may have the same
		// client port, and the server's state of the one would make it refuse the other for a second.
		const key = `${sockets.findIndex((way) => way.site === site)} ${service}`;
		const pod = site.namespace("pod1");
		const first = new Traffic(pod, site.namespace("pod2"), site.lab.address("pod2", 4), {
			firstPort: service ? PORT : PORT + 100,
		});
		const traffic = servers.get(key) ?? first;
		servers.set(key, traffic);
		const from = host ? traffic.from(site.namespace("node1")) : traffic;
		traffics.set(name, service ? from.at(CLUSTER_IP, SERVICE_PORT.tcp) : from);
	}
	const hosts = new Set(sockets.filter(({ host }) => host).map(({ name }) => name));
	for (let round = 0; round < rounds; round++) {
		const all = [...traffics];
		for (const kind of kindNames)
			for (const [name, traffic] of round % 2 === 0 ? all : all.toReversed()) {
				if (hosts.has(name) && kind !== "connect") continue;
				const key = `${kind} ${name}`;
				results.set(key, [...(results.get(key) ?? []), await kinds[kind](traffic)]);
			}
	}
	const refused = await measureRefusals(pktgen, direct);
	const proxyChanges = new Map<string, number[]>();
	for (const [name, proxy] of proxies) proxyChanges.set(name, await proxy.measureChanges());
	const changes = await measureChanges(ours.get(`Fairway direct, ${many}`)!, direct);

	const values = (kind: Kind, name: string, of: (one: Exchanged) => number): number[] =>
		(results.get(`${kind} ${name}`) ?? []).map(of);
	const cell = (kind: Kind, name: string, of: (one: Exchanged) => number, digits: number) =>
		shownSpread(spread(values(kind, name, of)), digits);
	const versus = (kind: Kind, name: string, other: string, of: (one: Exchanged) => number) =>
		shownSpread(ratios(values(kind, name, of), values(kind, other, of)), 2);
	const gigabits = ({ received, elapsed }: Exchanged) => (received * 8) / elapsed;
	const cpuPerBit = ({ cpu, received }: Exchanged) => cpu / (received * 8);
	const cpuPerOne = ({ cpu, count }: Exchanged) => cpu / count / 1000;
	const others = ["iptables-nft", "iptables-legacy", "nft", "bare DNAT", ...proxies.keys()];
	const own = (name: string): string =>
		name.endsWith(", Service") ? name.slice(0, -", Service".length) : name;
	const transactions = (kind: "connect" | "exchange", title: string): Table => ({
		title: `${title}, ${REQUEST_BYTES} bytes in each direction, both ends on one CPU`,
		columns: [
			...["", "CPU µs each", "÷ without"],
			...others.map((peer) => `÷ ${peer}`),
			...["p50 µs", "p99 µs"],
		],
		rows: sockets
			.filter(({ host }) => !host || kind === "connect")
			.map(({ name }) => [
				name,
				cell(kind, name, cpuPerOne, 1),
				own(name) === name ? "" : versus(kind, name, own(name), cpuPerOne),
				...others.map((peer) => versus(kind, name, peer, cpuPerOne)),
				cell(kind, name, ({ p50 }) => p50, 1),
				cell(kind, name, ({ p99 }) => p99, 1),
			]),
	});
	const streams = (kind: "1 stream" | "8 streams"): Table => ({
		title: `TCP, ${kind}, client and server on a CPU each`,
		columns: ["", "Gb/s", "÷ without", "CPUs per Gb/s", "÷ without", "÷ nft"],
		rows: sockets
			.filter(({ host }) => !host)
			.map(({ name }) => [
				name,
				cell(kind, name, gigabits, 1),
				own(name) === name ? "" : versus(kind, name, own(name), gigabits),
				cell(kind, name, cpuPerBit, 3),
				own(name) === name ? "" : versus(kind, name, own(name), cpuPerBit),
				versus(kind, name, "nft", cpuPerBit),
			]),
	});
	const packetRow = (name: string): string[] => [
		name,
		...["out", "in"].flatMap((half) => [
			known.cpu(`${half} ${name}`),
			own(name) === name ? "" : known.ratio(`${half} ${name}`, `${half} ${own(name)}`),
			known.ratio(`${half} ${name}`, `${half} nft`),
		]),
		known.ratio(`out ${name}`, `out bare DNAT${name.includes("geneve") ? ", geneve" : ""}`),
		known.ratio(`out ${name}`, "out iptables-legacy"),
		`${known.delivered(`out ${name}`)} ${known.delivered(`in ${name}`)}`,
	];
	const freshRow = (name: string): string[] => [
		name,
		...["new out", "new in"].flatMap((half) => [
			fresh.cpu(`${half} ${name}`),
			fresh.ratio(`${half} ${name}`, `${half} nft`),
			fresh.delivered(`${half} ${name}`),
		]),
	];
	publish({
		bench: "services",
		method:
			`IPv4; ${rounds} rounds, UDP in frames of 64 bytes, ${frames} frames each, TCP ${seconds} s each, the ways alternating; median (least–greatest). CPU: client, server and ksoftirqd. The Service that is asked has one endpoint, pod2 on the other Node; with ${many} Services, the others have ten each. ÷ without: the same to pod2's own address. ${withoutKubeProxy}`.trim(),
		tables: [
			{
				title: "Pod to Pod by a Service, established, UDP: CPU ns per packet",
				columns: [
					...["", "egress", "÷ without", "÷ nft", "ingress", "÷ without", "÷ nft"],
					...["egress ÷ bare DNAT", "egress ÷ iptables-legacy", "delivered"],
				],
				rows: packets.map(({ name }) => packetRow(name)),
			},
			{
				title: "Answers to the Pod, UDP: CPU ns per packet",
				columns: ["", ...ANSWERED.map((flows) => `${flows} flows`), "delivered"],
				rows: ["Fairway direct", "Fairway direct, Service"].map((name) => [
					name,
					...ANSWERED.map((flows) => known.cpu(`answers ${flows} ${name}`)),
					ANSWERED.map((flows) => known.delivered(`answers ${flows} ${name}`)).join(" "),
				]),
			},
			{
				title:
					"From the outside to a NodePort, the backend on the other Node, UDP: CPU ns per packet",
				columns: ["", "CPU", "÷ nft", "÷ Fairway SNAT of a Pod", "delivered"],
				rows: [...peers.keys(), "Fairway direct"].map((name) => [
					name,
					known.cpu(`NodePort ${name}`),
					known.ratio(`NodePort ${name}`, "NodePort nft"),
					known.ratio(`NodePort ${name}`, "SNAT Fairway direct"),
					known.delivered(`NodePort ${name}`),
				]),
			},
			{
				title: "New flows only, UDP: CPU ns per packet",
				columns: ["", "egress", "÷ nft", "delivered", "ingress", "÷ nft", "delivered"],
				rows: [
					...["kernel forwarding", "iptables-legacy", "nft"],
					...["Fairway direct", "Fairway direct, Service"],
				].map(freshRow),
			},
			transactions("connect", "TCP connect, request, response, close"),
			transactions("exchange", "TCP request and response"),
			streams("1 stream"),
			streams("8 streams"),
			{
				title: "A Service without endpoints: SYNs of one Pod",
				columns: ["sent", "refused", "a second of one CPU", "agent's CPU, ms"],
				rows: [
					[refused.sent, refused.refused, refused.rate, refused.agent].map((n) => n.toFixed(0)),
				],
			},
			changesTable(changes, proxyChanges),
		],
		data: {
			...{ ...known.data(), ...fresh.data(), ...Object.fromEntries(results) },
			...{ refused, changes, proxyChanges: Object.fromEntries(proxyChanges) },
		},
	});
});

function changesTable(
	{ latencies, restart, load, resident }: Changes,
	proxies: ReadonlyMap<string, readonly number[]>,
): Table {
	const at = (share: number, times: readonly number[] = latencies) => {
		const sorted = [...times].sort((a, b) => a - b);
		return sorted[Math.ceil(share * sorted.length) - 1]!.toFixed(0);
	};
	return {
		title: `The agent with ${many} Services`,
		columns: [
			...["", "one endpoint changes, until the last write: p50 ms", "p99 ms"],
			...["ready after restart ms", "first ready ms", "resident MB"],
		],
		rows: [
			[
				`${many} Services`,
				at(0.5),
				at(0.99),
				shownSpread(spread(restart.many)),
				shownSpread(spread(load.many)),
				resident.many.toFixed(0),
			],
			[
				...["1 Service", "", ""],
				...[restart.one, load.one].map((times) => shownSpread(spread(times))),
				resident.one.toFixed(0),
			],
			...[...proxies].map(([name, times]) => [
				...[`${name}, 1 Service`, at(0.5, times), at(0.99, times), "", "", ""],
			]),
		],
	};
}
