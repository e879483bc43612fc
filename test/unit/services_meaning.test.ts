/** What Services, slices and Nodes mean: rows of what is served where, by which endpoints. */
import t from "tap";
import { type CompileInput, compile } from "../../src/compile/compile.js";
import { Compiler } from "../../src/compile/compiler.js";
import { isOurs } from "../../src/compile/services/is_ours.js";
import type { ServiceView } from "../../src/compile/services/view.js";
import { atOnce } from "../../src/loop/turns.js";
import {
	FrontendKind,
	FrontendKindName,
	NodeFlag,
	RouteFlag,
	RouteKind,
} from "../../src/tables/generated.js";
import type { Tables } from "../../src/tables/tables.js";
import {
	endpointOf,
	meaningOfServices,
	nodeOf,
	PaperCatalog,
	proxyConfig,
	serviceNetwork,
	serviceOf,
	sliceOf,
} from "../tools/services.js";

interface Case {
	service?: Parameters<typeof serviceOf>[0];
	others?: Parameters<typeof serviceOf>[0][];
	slices?: ReturnType<typeof sliceOf>[];
	proxy?: Parameters<typeof proxyConfig>[0];
	zone?: string;
	cidrs?: string[];
}

function inputOf({ service, others = [], slices = [], proxy = {}, zone, cidrs }: Case) {
	const catalog = new PaperCatalog();
	catalog.put(serviceOf(service));
	for (const other of others) catalog.put(serviceOf(other));
	for (const slice of slices) catalog.putSlice(slice);
	const labels = zone === undefined ? {} : { labels: ["topology.kubernetes.io/zone", zone] };
	const config = proxyConfig(proxy);
	const input: CompileInput = {
		config: cidrs === undefined ? config : { ...config, serviceCIDRs: cidrs },
		...{ network: serviceNetwork, nodeName: "n0", endpoints: [], peerIds: new Map([["n1", 0]]) },
		snapshot: {
			nodes: new Map([
				["n0", nodeOf(0, labels)],
				["n1", nodeOf(1)],
			]),
			catalog,
		},
	};
	return input;
}

function tablesOf(given: Case): { tables: Tables; problems: string[] } {
	const result = compile(inputOf(given));
	if (!result.ready) throw new Error(result.reason);
	return result;
}

function viewOf(given: Case): ServiceView {
	const result = atOnce(new Compiler().update(inputOf(given)));
	if (!result.ready) throw new Error(result.reason);
	return result.services.view("default/web")!;
}

const endpoint = endpointOf;
const ready = { isReady: true };
const unready = { isReady: false };
const leaving = { isReady: false, isServing: true, isTerminating: true };

t.test("the sets: which endpoints, and why", async (t) => {
	const rows: [what: string, given: Case, cluster: string, local: string, why: RegExp][] = [
		[
			"ready ones",
			{ slices: [sliceOf([endpoint("10.100.0.2"), endpoint("10.100.1.2", unready)])] },
			"10.100.0.2",
			"",
			/^All 1 endpoint that is ready, of 2\.$/,
		],
		["none", {}, "", "", /^There are no endpoints\.$/],
		[
			"none ready",
			{ slices: [sliceOf([endpoint("10.100.0.2", unready)])] },
			"",
			"",
			/^None of 1 endpoint/,
		],
		[
			"terminating ones, since none is ready",
			{ slices: [sliceOf([endpoint("10.100.0.2", leaving), endpoint("10.100.1.2", unready)])] },
			"10.100.0.2",
			"",
			/terminating and still serving/,
		],
		[
			"no terminating one beside a ready one",
			{ slices: [sliceOf([endpoint("10.100.0.2", leaving), endpoint("10.100.1.2", ready)])] },
			"10.100.1.2",
			"",
			/./,
		],
		[
			"local policy: those of this Node",
			{
				service: { externalLocal: true },
				slices: [
					sliceOf([endpoint("10.100.0.2", { node: "n0" }), endpoint("10.100.1.2", { node: "n1" })]),
				],
			},
			"10.100.0.2 10.100.1.2",
			"10.100.0.2",
			/./,
		],
		[
			"local policy: each set falls back for itself",
			{
				service: { internalLocal: true },
				slices: [
					sliceOf([
						endpoint("10.100.0.2", { ...leaving, node: "n0" }),
						endpoint("10.100.1.2", { node: "n1" }),
					]),
				],
			},
			"10.100.1.2",
			"10.100.0.2",
			/./,
		],
		[
			"zone hints, all have some",
			{
				zone: "z0",
				slices: [
					sliceOf([
						endpoint("10.100.0.2", { hintZones: ["z0"] }),
						endpoint("10.100.1.2", { hintZones: ["z1"] }),
					]),
				],
			},
			"10.100.0.2",
			"",
			/zone z0/,
		],
		[
			"zone hints, one has none",
			{
				zone: "z0",
				slices: [sliceOf([endpoint("10.100.0.2", { hintZones: ["z0"] }), endpoint("10.100.1.2")])],
			},
			"10.100.0.2 10.100.1.2",
			"",
			/./,
		],
		[
			"zone hints, none for this zone",
			{ zone: "z2", slices: [sliceOf([endpoint("10.100.0.2", { hintZones: ["z0"] })])] },
			"10.100.0.2",
			"",
			/./,
		],
		[
			"zone hints of a terminating one do not matter",
			{
				zone: "z0",
				slices: [
					sliceOf([endpoint("10.100.0.2", { hintZones: ["z0"] }), endpoint("10.100.1.2", leaving)]),
				],
			},
			"10.100.0.2",
			"",
			/./,
		],
		[
			"Node hints before zone hints",
			{
				zone: "z0",
				slices: [
					sliceOf([
						endpoint("10.100.0.2", { hintNodes: ["n0"], hintZones: ["z1"] }),
						endpoint("10.100.1.2", { hintNodes: ["n1"], hintZones: ["z0"] }),
					]),
				],
			},
			"10.100.0.2",
			"",
			/this Node/,
		],
		[
			"hints do not limit the local set",
			{
				service: { internalLocal: true },
				zone: "z0",
				slices: [
					sliceOf([
						endpoint("10.100.0.2", { node: "n0", hintZones: ["z1"] }),
						endpoint("10.100.1.2", { hintZones: ["z0"] }),
					]),
				],
			},
			"10.100.1.2",
			"10.100.0.2",
			/./,
		],
		[
			"one endpoint in two slices, the better state counts",
			{
				slices: [
					sliceOf([endpoint("10.100.0.2", unready)], { name: "a" }),
					sliceOf([endpoint("10.100.0.2")], { name: "b" }),
				],
			},
			"10.100.0.2",
			"",
			/^All 1 endpoint, ready\.$/,
		],
		[
			"another port name is another's",
			{
				slices: [
					sliceOf([endpoint("10.100.0.2")], { ports: [{ name: "x", protocol: 6, port: 8080 }] }),
				],
			},
			"",
			"",
			/./,
		],
		[
			"another protocol is another's",
			{
				slices: [
					sliceOf([endpoint("10.100.0.2")], {
						ports: [{ name: "http", protocol: 17, port: 8080 }],
					}),
				],
			},
			"",
			"",
			/./,
		],
		[
			"an IPv6 slice is not for the IPv4 cluster IP",
			{ slices: [sliceOf([endpoint("fd00:10:100::2")], { family: 6 })] },
			"",
			"",
			/./,
		],
		[
			"a port of another number in each slice",
			{
				slices: [
					sliceOf([endpoint("10.100.0.2")], { name: "a" }),
					sliceOf([endpoint("10.100.1.2")], {
						name: "b",
						ports: [{ name: "http", protocol: 6, port: 9090 }],
					}),
				],
			},
			"10.100.0.2 10.100.1.2",
			"",
			/./,
		],
	];
	for (const [what, given, cluster, local, why] of rows) {
		const { ports } = viewOf(given);
		const addresses = (set: "inClusterSet" | "inLocalSet") =>
			ports[0]!.backends.filter((backend) => backend[set]).map(({ address }) => address);
		t.equal(addresses("inClusterSet").sort().join(" "), cluster, what);
		t.equal(addresses("inLocalSet").sort().join(" "), local, `${what}: local set`);
		t.match(ports[0]!.why, why, what);
	}
});

/** Keys of frontends with their kinds, those of whole addresses apart. */
function frontends({ frontends }: Tables): string[] {
	return [...frontends]
		.filter(([, { kind }]) => kind !== FrontendKind.ADDRESS)
		.map(([key, { kind }]) => `${key} ${FrontendKindName[kind]}`)
		.sort();
}

function routes({ routes }: Tables): string[] {
	const ofPeers: number[] = [RouteKind.PEER, RouteKind.LOCAL_PODS];
	return [...routes]
		.filter(
			([prefix, { kind }]) =>
				!ofPeers.includes(kind) &&
				!prefix.startsWith("10.100.") &&
				!prefix.startsWith("fd00:10:100:"),
		)
		.map(([prefix, { kind, flags }]) => `${prefix} ${kind} ${flags}`)
		.sort();
}

const { HOST, OUTSIDE, SERVICE, STACK } = RouteKind;
const CIDRS = [`10.96.0.0/16 ${SERVICE} 0`, `fd00:10:96::/112 ${SERVICE} 0`];
/** Its peers know its own address. */
const KNOWN = `172.16.0.1/32 ${HOST} ${RouteFlag.PEERS_KNOW}`;
const NODE = `172.16.0.1/32 ${HOST} ${RouteFlag.NODE_PORTS | RouteFlag.PEERS_KNOW}`;
const all = { type: "LoadBalancer" as const, loadBalancerIPs: ["192.0.2.1"] };
const withNodePort = [{ name: "http", protocol: 6, port: 80, nodePort: 30080, targetPort: 1 }];

t.test("where a Service is reached, and the routes that lead there", async (t) => {
	const rows: [what: string, given: Case, frontends: string[], routes: string[]][] = [
		["a cluster IP", {}, ["10.96.0.1 6 80 cluster_ip"], [...CIDRS, NODE]],
		[
			"a cluster IP outside the CIDRs",
			{ cidrs: [] },
			["10.96.0.1 6 80 cluster_ip"],
			[`10.96.0.1/32 ${SERVICE} 0`, NODE],
		],
		[
			"both families",
			{
				service: {
					clusterIPs: ["10.96.0.1", "fd00:10:96::1"],
					ports: withNodePort,
					type: "NodePort",
				},
			},
			[
				"0.0.0.0 6 30080 node_port",
				"10.96.0.1 6 80 cluster_ip",
				":: 6 30080 node_port",
				"fd00:10:96::1 6 80 cluster_ip",
			],
			[...CIDRS, NODE],
		],
		[
			"a load balancer IP",
			{ service: all },
			["10.96.0.1 6 80 cluster_ip", "192.0.2.1 6 80 load_balancer"],
			[...CIDRS, `192.0.2.1/32 ${SERVICE} 0`, NODE],
		],
		[
			"one that is this Node's address",
			{ service: { ...all, loadBalancerIPs: ["172.16.0.1"] } },
			["10.96.0.1 6 80 cluster_ip", "172.16.0.1 6 80 load_balancer"],
			[
				...CIDRS,
				`172.16.0.1/32 ${HOST} ${RouteFlag.NODE_PORTS | RouteFlag.SERVICE_PORTS | RouteFlag.PEERS_KNOW}`,
			],
		],
		[
			"one that is another Node's address",
			{ service: { ...all, loadBalancerIPs: ["172.16.0.2"] } },
			["10.96.0.1 6 80 cluster_ip", "172.16.0.2 6 80 load_balancer"],
			[...CIDRS, NODE, `172.16.0.2/32 ${OUTSIDE} ${RouteFlag.SERVICE_PORTS}`],
		],
		[
			"one of a family without a cluster IP",
			{ service: { ...all, loadBalancerIPs: ["fd00:1::1"] } },
			["10.96.0.1 6 80 cluster_ip"],
			[...CIDRS, NODE],
		],
		[
			"proxyLoadBalancerIPs: false",
			{ service: all, proxy: { proxyLoadBalancerIPs: false } },
			["10.96.0.1 6 80 cluster_ip"],
			[...CIDRS, NODE],
		],
		[
			"external IPs are off",
			{ service: { externalIPs: ["192.0.2.9"] } },
			["10.96.0.1 6 80 cluster_ip"],
			[...CIDRS, NODE],
		],
		[
			"external IPs",
			{ service: { externalIPs: ["192.0.2.9"] }, proxy: { externalIPs: true } },
			["10.96.0.1 6 80 cluster_ip", "192.0.2.9 6 80 external_ip"],
			[...CIDRS, NODE, `192.0.2.9/32 ${SERVICE} 0`],
		],
		[
			"proxyAll: false",
			{
				service: { ...all, ports: withNodePort, externalIPs: ["192.0.2.9"] },
				proxy: { proxyAll: false, externalIPs: true },
			},
			["10.96.0.1 6 80 cluster_ip", "192.0.2.1 6 80 load_balancer"],
			[...CIDRS, KNOWN, `192.0.2.1/32 ${SERVICE} 0`, `192.0.2.9/32 ${STACK} 0`],
		],
		[
			"nodePortAddresses",
			{ proxy: { nodePortAddresses: ["192.168.0.0/16"] } },
			["10.96.0.1 6 80 cluster_ip"],
			[...CIDRS, KNOWN],
		],
		[
			"another proxy's",
			{ service: { ...all, proxyName: "other" } },
			[],
			[...CIDRS, `10.96.0.1/32 ${STACK} 0`, `192.0.2.1/32 ${STACK} 0`, NODE],
		],
		[
			"this proxy's name",
			{ service: { proxyName: "ours" }, proxy: { serviceProxyName: "ours" } },
			["10.96.0.1 6 80 cluster_ip"],
			[...CIDRS, NODE],
		],
		[
			"without the proxy's name",
			{ proxy: { serviceProxyName: "ours" } },
			[],
			[...CIDRS, `10.96.0.1/32 ${STACK} 0`, NODE],
		],
		[
			"labelled headless",
			{ service: { isHeadlessLabelled: true } },
			[],
			[...CIDRS, `10.96.0.1/32 ${STACK} 0`, NODE],
		],
		[
			"skipped by name",
			{ proxy: { skipServices: ["default/web"] } },
			[],
			[...CIDRS, `10.96.0.1/32 ${STACK} 0`, NODE],
		],
		[
			"skipped by address",
			{ proxy: { skipServices: ["10.96.0.1"] } },
			[],
			[...CIDRS, `10.96.0.1/32 ${STACK} 0`, NODE],
		],
		["headless", { service: { clusterIPs: [] } }, [], [...CIDRS, NODE]],
		[
			"enable: false",
			{ service: all, proxy: { enable: false } },
			[],
			[`10.96.0.0/16 ${STACK} 0`, KNOWN, `fd00:10:96::/112 ${STACK} 0`],
		],
	];
	for (const [what, given, wanted, ways] of rows) {
		const { tables, problems } = tablesOf(given);
		t.same(frontends(tables), wanted.sort(), what);
		t.same(routes(tables), ways.sort(), `${what}: routes`);
		t.same(problems, [], what);
		meaningOfServices(tables);
	}
});

t.test("what nobody may have is refused, and said", async (t) => {
	const other = { ...all, name: "other", clusterIPs: ["10.96.0.2"] };
	const rows: [what: string, given: Case, problem: RegExp, wanted: string[]][] = [
		[
			"another's cluster IP",
			{ others: [{ ...other, loadBalancerIPs: ["10.96.0.1"] }] },
			/^Cannot serve Service default\/other at 10\.96\.0\.1: it is the cluster IP of Service default\/web$/,
			["10.96.0.1 6 80 cluster_ip", "10.96.0.2 6 80 cluster_ip"],
		],
		[
			"a Pod's address",
			{ service: { ...all, loadBalancerIPs: ["10.100.1.7"] } },
			/at 10\.100\.1\.7: expected an address outside all pod CIDRs$/,
			["10.96.0.1 6 80 cluster_ip"],
		],
		[
			"no host's address",
			{ service: { ...all, loadBalancerIPs: ["224.0.0.1"] } },
			/expected an address that a host can have$/,
			["10.96.0.1 6 80 cluster_ip"],
		],
		[
			"a Node's address as a cluster IP",
			{ service: { clusterIPs: ["172.16.0.2"] } },
			/expected a cluster IP that is no Node's address$/,
			[],
		],
		[
			"a port that the older Service has",
			{ service: { ...all, created: 2 }, others: [{ ...other, created: 1 }] },
			/^Cannot serve TCP port 80 of Service default\/web at 192\.0\.2\.1: Service default\/other has it$/,
			["10.96.0.1 6 80 cluster_ip", "10.96.0.2 6 80 cluster_ip", "192.0.2.1 6 80 load_balancer"],
		],
		[
			"a NodePort that another has",
			{
				service: { type: "NodePort", ports: withNodePort },
				others: [{ ...other, loadBalancerIPs: [], ports: withNodePort }],
			},
			/^Cannot serve TCP NodePort 30080 of Service default\/web: Service default\/other has it$/,
			["0.0.0.0 6 30080 node_port", "10.96.0.1 6 80 cluster_ip", "10.96.0.2 6 80 cluster_ip"],
		],
		[
			"a NodePort among SNAT's",
			{ service: { type: "NodePort", ports: [{ ...withNodePort[0]!, nodePort: 50000 }] } },
			/^Cannot serve NodePort 50000 of Service default\/web: expected a port outside snat\.portRange, 49152-65535$/,
			["10.96.0.1 6 80 cluster_ip"],
		],
		[
			"a NodePort that may be the Node's own, outside of the range",
			{ service: { type: "NodePort", ports: [{ ...withNodePort[0]!, nodePort: 22 }] } },
			/^Cannot serve NodePort 22 of Service default\/web: expected a port of fairwayProxy\.nodePortRange, 30000-32767$/,
			["10.96.0.1 6 80 cluster_ip"],
		],
		[
			"an endpoint that is a Service's address, whatever its slice says of it",
			{
				others: [other],
				slices: [sliceOf([{ ...endpoint("192.0.2.1"), target: "default/web-0" }])],
			},
			/^Cannot use endpoint 192\.0\.2\.1 of Service default\/web: expected an address that is no Service's$/,
			["10.96.0.1 6 80 cluster_ip", "10.96.0.2 6 80 cluster_ip", "192.0.2.1 6 80 load_balancer"],
		],
		[
			"an endpoint that is a Service's address",
			{ others: [other], slices: [sliceOf([endpoint("192.0.2.1"), endpoint("10.96.0.2")])] },
			/^Cannot use endpoint (192\.0\.2\.1|10\.96\.0\.2) of Service default\/web: expected an address (that is no Service's|outside the service CIDRs)$/,
			["10.96.0.1 6 80 cluster_ip", "10.96.0.2 6 80 cluster_ip", "192.0.2.1 6 80 load_balancer"],
		],
		[
			"an endpoint that no host can be",
			{ slices: [sliceOf([endpoint("0.0.0.0")])] },
			/^Cannot use endpoint 0\.0\.0\.0 of Service default\/web: expected an address that a host can have$/,
			["10.96.0.1 6 80 cluster_ip"],
		],
	];
	for (const [what, given, problem, wanted] of rows) {
		const { tables, problems } = tablesOf(given);
		t.match(problems[0], problem, what);
		t.same(frontends(tables), wanted.sort(), what);
		t.equal(tables.backends.size, 0, `${what}: no endpoint is used`);
	}
});

t.test(
	"a Service names a few of many endpoints that cannot be used, and counts the others",
	async (t) => {
		const many = Array.from({ length: 1000 }, (_, i) => endpoint(`10.96.${i >> 8}.${i & 255}`));
		const { problems } = tablesOf({ slices: [sliceOf(many)] });
		t.equal(problems.length, 4);
		t.match(problems[0], /^Cannot use 997 more endpoints of Service default\/web: /);
	},
);

t.test("the kernel leads the Node's own processes to Services", async (t) => {
	const hosts = (given: Case) =>
		[...tablesOf(given).tables.hostRoutes.values()]
			.filter(({ prefix }) => !prefix.includes("100."))
			.filter(({ prefix }) => !prefix.startsWith("fd00:10:100:"))
			.map(({ prefix, source }) => `${prefix} ${source}`)
			.sort();
	const cidrs = ["10.96.0.0/16 10.100.0.1", "fd00:10:96::/112 fd00:10:100::1"];
	const back = ["169.254.250.28/32 172.16.0.1", "fd66:6169:7277::28/128 "];
	t.same(
		hosts({ service: all }),
		[back[0], ...[cidrs[0], "192.0.2.1/32 10.100.0.1", ...cidrs.slice(1), back[1]]].sort(),
	);
	t.same(
		hosts({ service: { ...all, loadBalancerIPs: ["172.16.0.1", "172.16.0.2"] } }),
		[...back, ...cidrs].sort(),
		"a Node's own address stays where it is",
	);
	t.same(hosts({ service: { ...all, proxyName: "other" } }), [...back, ...cidrs].sort());
	t.same(hosts({ service: all, proxy: { proxyAll: false } }), []);
	t.same(hosts({ service: all, proxy: { enable: false } }), []);
});

t.test("what the programs are told of the configuration", async (t) => {
	const { SERVES_ALL, SERVES_CLUSTER_IPS, STACK_SNAT } = NodeFlag;
	const rows: [Case, number][] = [
		[{}, SERVES_ALL],
		[{ proxy: { proxyAll: false } }, STACK_SNAT],
		[{ proxy: { externalClusterIP: true } }, SERVES_ALL | SERVES_CLUSTER_IPS],
		[{ service: { proxyName: "other" } }, SERVES_ALL | STACK_SNAT],
		[{ proxy: { enable: false } }, STACK_SNAT],
	];
	for (const [given, flags] of rows) {
		const { nodeConfig, stackSnat } = tablesOf(given).tables;
		t.equal(nodeConfig.flags & (SERVES_ALL | SERVES_CLUSTER_IPS | STACK_SNAT), flags);
		t.equal(stackSnat, (flags & STACK_SNAT) !== 0);
	}
	const own = { slices: [sliceOf([endpoint("172.16.0.1")])] };
	for (const [given, wanted] of [
		[{}, false],
		[own, true],
		[{ ...own, proxy: { proxyAll: false } }, false],
	] as const) {
		const { nodeConfig, stackAnswers } = tablesOf(given).tables;
		t.equal(stackAnswers, wanted, "to_wire turns answers of the Node itself back");
		t.equal((nodeConfig.flags & NodeFlag.STACK_ANSWERS) !== 0, wanted);
	}
});

t.test("isOurs is the same question for all", async (t) => {
	t.ok(isOurs(serviceOf(), proxyConfig()));
	t.notOk(isOurs(serviceOf({ type: "ExternalName" }), proxyConfig()));
	t.notOk(isOurs(serviceOf(), proxyConfig({ enable: false })));
});

t.test("until all is known nothing is removed, and nothing is written that is there", async (t) => {
	const slices = [sliceOf([endpoint("10.100.0.2"), endpoint("10.100.1.2")])];
	const first = tablesOf({ service: all, slices }).tables;
	const compiler = new Compiler();
	const input = inputOf({ slices: [sliceOf([endpoint("10.100.0.2")])] });
	const catalog = input.snapshot.catalog as PaperCatalog;
	catalog.isSynced = false;
	const services = new Map(catalog.services);
	catalog.services.clear();
	const update = () => {
		const result = atOnce(compiler.update({ ...input, heldServices: () => first }));
		if (!result.ready) throw new Error(result.reason);
		return result.tables.maps;
	};
	const nothing = update();
	t.same(nothing.frontends.put, first.frontends, "what an earlier agent left");
	t.same(nothing.backends.put, first.backends);
	t.same(nothing.services.put, first.services);
	t.ok(nothing.routes.put.has("192.0.2.1/32") && nothing.hostRoutes.put.has("192.0.2.1/32"));
	for (const [key, service] of services) catalog.services.set(key, service);
	compiler.noteServices(services.keys());
	const some = update();
	t.equal(
		some.serviceSlots.remove.size + some.frontends.remove.size,
		0,
		"the endpoint may be there",
	);
	catalog.isSynced = true;
	const known = update();
	t.same([...known.frontends.remove].sort(), ["192.0.2.1 0 0", "192.0.2.1 6 80"]);
	t.equal(known.serviceSlots.put.size + known.serviceSlots.remove.size > 0, true);
	t.notOk(known.routes.put.has("192.0.2.1/32"));
});
