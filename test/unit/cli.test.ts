import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import t from "tap";
import { AgentUnreachableError, ApiError, agentSocket } from "../../src/api/client.js";
import { type CheckAnswer, type CheckRequest, NO_SUCH_PEER } from "../../src/api/messages/check.js";
import type { EndpointStatus } from "../../src/api/messages/endpoints.js";
import type { ExplainAnswer } from "../../src/api/messages/explain.js";
import type { PathEvent } from "../../src/api/messages/paths.js";
import type { PeerStatus } from "../../src/api/messages/peers.js";
import type { Status } from "../../src/api/messages/status.js";
import { ApiServer, RequestError } from "../../src/api/server.js";
import { checkText } from "../../src/cli/check.js";
import { lineOf } from "../../src/cli/cleanup.js";
import { endpointsText } from "../../src/cli/endpoints.js";
import { eventsText } from "../../src/cli/events.js";
import { explainRequest, explainText, missingBrackets } from "../../src/cli/explain.js";
import { peersText, widePeersText } from "../../src/cli/peers.js";
import { statusText, waitUntilReady } from "../../src/cli/status.js";
import { OVERRIDES } from "../../src/config/proxy_rule.js";
import { check } from "../../src/report/check.js";
import { facts, table, wrap } from "../../src/text/table.js";
import { bytes, duration, milliseconds, percent } from "../../src/text/units.js";
import { type PaperNetwork, paperSurvey } from "../tools/paper_survey.js";

const root = fileURLToPath(new URL("../../", import.meta.url));

const status: Status = {
	node: "n1",
	ready: true,
	mode: "hybrid",
	tunnelType: "geneve",
	xdp: "native",
	podCIDRs: ["10.244.1.0/24", "fd00:10:244:1::/64"],
	transport: { interface: "eth0", addresses: ["192.168.1.11", "fd00:1::11"], mtu: 1500 },
	podMTU: 1500,
	snatAddresses: ["192.168.1.11"],
	version: "0.1.0",
	kernel: "6.18.0",
	libbpf: "1.1",
	pid: 4242,
	uptimeSeconds: 3700,
	peers: { nodes: 2, paths: { direct: 2, geneve: 1 } },
	probes: { sent: 100, answered: 98, late: 1, changes: 3 },
	endpoints: 3,
	services: {
		servedBy: ["Fairway serves all Services; kube-proxy is not needed."],
		count: 2,
		endpoints: { ready: 3, serving: 0, terminating: 1, unready: 0 },
		...{ ports: 4, frontends: 5, backends: 6, slots: 7, sourceRanges: 0 },
	},
	policies: {
		...{ synced: true, enforced: 3, staged: 1, unusable: 0, problems: 1 },
		pods: { open: 2, ruled: 1, notReady: 1 },
		...{ identities: 131072, blocks: 0, policies: 2, policyVerdicts: 3, portSets: 4, rules: 5 },
	},
	flows: { used: 12, max: 131072 },
	mapMemory: { total: 50 * 2 ** 20, perCpu: 6.5 * 2 ** 20, maps: { flows: 2 ** 24 } },
	drops: { spoofed_mac: 3, no_endpoint: 12345 },
	events: { mss_clamped: 7 },
	slowPath: { answered: 2 },
	eventLoop: { p50Ms: 0.1, p99Ms: 2, p999Ms: 8, maxMs: 12.3, seconds: 42 },
	sources: [
		{ kind: "Node", synced: true, stale: false, absent: false, ageSeconds: 4, reconnects: 0 },
		{ kind: "Service", synced: true, stale: true, absent: false, ageSeconds: 75, reconnects: 2 },
		{ kind: "Pod", synced: false, stale: true, absent: false, ageSeconds: null, reconnects: 0 },
		...["EndpointSlice", "Namespace"].map((kind) => ({
			...{ kind, synced: false, stale: false, absent: false, ageSeconds: 1, reconnects: 0 },
			missing: "bad.yaml cannot be read",
		})),
	],
	pending: 0,
	problems: ["pods.yaml: it is no YAML"],
	limitations: [],
};

const peers: PeerStatus[] = [
	{
		node: "n2",
		family: 4,
		podCIDRs: ["10.244.2.0/24"],
		transportAddress: "192.168.1.12",
		path: "direct",
		reason: "Same subnet 192.168.1.0/24.",
		mtu: 1500,
		packets: { direct: 1000, tunnel: 0 },
		bytes: { direct: 1536000, tunnel: 0 },
		received: { direct: 900, tunnel: 0 },
		since: "2026-11-28T10:00:00.000Z",
		changes: 2,
		roundTripMs: 0.214,
		loss: 0.02,
		probes: { sent: 100, answered: 98, late: 1 },
	},
	{
		node: "node-with-a-long-name",
		family: 6,
		podCIDRs: ["fd00:10:244:3::/64"],
		transportAddress: "",
		path: "down",
		reason: "No transport address.",
		mtu: 0,
		packets: { direct: 0, tunnel: 0 },
		bytes: { direct: 0, tunnel: 0 },
		received: { direct: 0, tunnel: 0 },
		since: "2026-11-28T10:03:00.000Z",
		changes: 0,
		roundTripMs: null,
		loss: null,
		probes: { sent: 0, answered: 0, late: 0 },
	},
];

const OPEN = {
	...({ verdict: "none", policy: null, rule: null, pod: null } as const),
	...{ tiers: [], class: null, staged: null },
};
const answer: ExplainAnswer = {
	source: "10.244.1.2",
	destination: "8.8.8.8",
	protocol: "tcp",
	sourcePort: 40000,
	destinationPort: 80,
	...{ service: null, backend: null, backends: [], differing: [] },
	hook: "from_pod",
	path: "outside",
	peer: null,
	reason: "8.8.8.8 is outside the cluster",
	drop: null,
	snat: { address: "192.168.1.11", port: 50000 },
	mtu: 1500,
	device: "eth0",
	policy: {
		egress: { ...OPEN, by: "maps", node: "n1", why: "No policy isolates the Pod." },
		ingress: { ...OPEN, by: "nobody", node: null, why: "8.8.8.8 is no Pod's." },
	},
	steps: [{ stage: "route", text: "8.8.8.8 is outside the cluster" }],
};

t.test("numbers and tables", async (t) => {
	t.strictSame([0, 1023, 1024, 1536, 1536000, 5e9].map(bytes), [
		"0 B",
		"1023 B",
		"1.0 KiB",
		"1.5 KiB",
		"1.5 MiB",
		"4.7 GiB",
	]);
	t.strictSame([0, 5, 65, 3600, 90061].map(duration), ["0s", "5s", "1m 5s", "1h 0m", "1d 1h"]);
	t.strictSame([null, 0.214, 9.5, 12.3].map(milliseconds), ["-", "0.21 ms", "9.50 ms", "12 ms"]);
	t.strictSame([null, 0, 0.0002, 0.005, 0.02, 1].map(percent), [
		"-",
		"0%",
		"0.1%",
		"0.5%",
		"2%",
		"100%",
	]);
	t.strictSame(wrap("one two three-and-four five", 9), ["one two", "three-and-four", "five"]);
	t.equal(
		table(
			[
				{ heading: "NAME", cell: (row: [string, number]) => row[0] },
				{ heading: "N", align: "right", cell: (row) => row[1] },
			],
			[
				["a", 1],
				["longer", 1000],
			],
		),
		"NAME       N\na          1\nlonger  1000\n",
	);
	t.equal(
		facts([
			["A", "1"],
			["Long", ["2", "3"]],
		]),
		"A     1\nLong  2\n      3\n",
	);
});

t.test("text for people", async (t) => {
	const shown = statusText(status);
	t.match(shown, /^Node +n1, ready$/m);
	t.match(
		shown,
		/^Policies +3 enforced, 1 staged; Pods: 1 ruled, 2 open, 1 closed until their policies are known$/m,
	);
	t.match(shown, /^Transport +eth0, 192\.168\.1\.11, fd00:1::11, MTU 1500$/m);
	t.match(shown, /^Probes +100 sent, 98 answered, 1 late; 3 path changes$/m);
	t.match(shown, /^Peers +2 \(paths: 2 direct, 1 geneve\)$/m);
	t.match(shown, /^ {2}no_endpoint +12345\n {2}spoofed_mac +3$/m, "most drops first");
	t.match(shown, /^Slow path\n.*\n {2}answered +2$/m);
	t.match(shown, / - pods\.yaml: it is no YAML/);
	t.match(shown, /^Mode +hybrid \(Geneve\)$/m);
	t.match(shown, /^Loop lag +p50 0\.10 ms, p99 2\.00 ms, max 12 ms within 42s$/m);
	t.match(shown, /^Pending writes +0$/m);
	t.match(
		shown,
		/EndpointSlice, Namespace incomplete, since bad.yaml cannot be read: what an earlier agent left stays/,
	);
	t.match(statusText({ ...status, drops: {} }), /^Drops: none$/m);
	t.match(
		statusText({ ...status, ready: false, waitingFor: "a Node object for n1" }),
		/^Node +n1, not ready\nWaiting for +a Node object for n1$/m,
	);

	const now = Date.parse("2026-11-28T10:03:04.000Z");
	const lines = peersText(peers, now, 120).trimEnd().split("\n");
	t.equal(lines.length, 3);
	const column = lines[0]?.indexOf("PATH") ?? -1;
	t.equal(lines[1]?.slice(column, column + 6), "direct");
	t.equal(lines[2]?.slice(column, column + 4), "down");
	t.notMatch(lines[1], "MiB");
	t.match(lines[1], / 3m 4s +2 +0\.21 ms +2% /);
	t.match(lines[2], / 4s +0 +- +- /);
	t.match(peersText([], now, 120), "There are no peers.");
	const wide = widePeersText(peers, now).split("\n");
	t.match(
		wide[0],
		/^NODE +IP +POD CIDRS +TRANSPORT .* DIRECT BYTES +TUNNEL PACKETS +TUNNEL BYTES +REASON$/,
	);
	t.match(wide[1], / 10\.244\.2\.0\/24 +192\.168\.1\.12 .* 1\.5 MiB /);

	const endpoint: EndpointStatus = {
		containerId: "0123456789abcdef",
		ifName: "eth0",
		netns: "/run/netns/p1",
		addresses: ["10.244.1.2", "fd00:10:244:1::2"],
		mac: "02:00:00:00:00:02",
		hostInterface: "fairway01234567",
		namespace: "default",
		name: "web-0",
	};
	t.match(endpointsText([endpoint]), /default\/web-0 +10\.244\.1\.2,fd00:10:244:1::2 /);
	const { namespace: _, name: __, ...nameless } = endpoint;
	t.match(endpointsText([nameless]), /^- /m);
	t.match(endpointsText([]), "There are no local Pods.");

	const explained = explainText(answer);
	t.match(explained, "tcp 10.244.1.2:40000 → 8.8.8.8:80, first hook from_pod");
	t.match(explained, /^SNAT +192\.168\.1\.11:50000$/m);
	t.match(explained, /^ +1 +route +8\.8\.8\.8 is outside the cluster$/m);
	t.match(explained, /^Verdict +forwarded$/m);
	const toService = explainText({
		...answer,
		service: {
			...{ namespace: "default", name: "web", port: 80, portName: "http", type: "NodePort" },
			frontend: { address: "10.96.0.10", port: 80, kind: "clusterIP" },
			set: { name: "cluster", used: 2, of: 3, why: "All 2 endpoints that are ready, of 3." },
			by: null,
		},
		backends: [
			{ address: "10.244.1.3", port: 8080, node: "n1", path: "local" },
			{ address: "fd00::9", port: 8080, node: "", path: "outside" },
		],
	});
	t.match(toService, /^Service +default\/web port http \(80\), NodePort, by its cluster IP$/m);
	t.match(
		toService,
		/^Endpoints +2 of 3, the cluster set\. All 2 endpoints that are ready, of 3\.$/m,
	);
	t.match(
		toService,
		/^Backend +one of\n +10\.244\.1\.3:8080 on n1, local\n +\[fd00::9\]:8080, outside$/m,
	);
	t.match(explainText({ ...answer, drop: "no_route" }), /^Verdict +dropped: no_route$/m);
});

const events: PathEvent[] = [
	{
		time: "2026-11-28T10:00:00.000Z",
		node: "n2",
		family: 4,
		from: null,
		to: "geneve",
		mtu: 1450,
		reason: "Not proven yet.",
	},
	{
		time: "2026-11-28T10:00:03.120Z",
		node: "n3",
		family: 6,
		from: "geneve",
		to: "direct",
		mtu: 1500,
		reason: "Proven.",
	},
];

/** A fake prober's Nodes n2, n3, ... */
function checked(mode: CheckAnswer["mode"], ...networks: PaperNetwork[]): Promise<CheckAnswer> {
	const surveys = networks.map((network, i) => paperSurvey(`n${i + 2}`, 4, network));
	return check(undefined, {
		node: "n1",
		mode,
		peers: surveys.map(({ node }) => node),
		hybridDirect: "proven",
		candidate: () => true,
		leftovers: async () => [],
		survey: async () => surveys,
	});
}

const tunnel = { there: 1450, back: 1450 };
const free: PaperNetwork = { direct: { there: 1500, back: 1500 }, tunnel };
const filtered: PaperNetwork = { direct: {}, tunnel };

t.test("text of a check", async (t) => {
	const fine = checkText(await checked("hybrid", free));
	t.equal(
		fine,
		[
			"PEER  IP  DIRECT  →small  ←small  →full  ←full  TUNNEL  →small  ←small  →full  ←full      RTT",
			"n2    v4  direct      ok      ok   1500   1500  geneve      ok      ok   1450   1450  0.21 ms",
			"",
			"What each mode would do (* active on n1)",
			"  encap:   1 peer in geneve",
			"* hybrid:  1 peer direct",
			"  noEncap: 1 peer direct",
			"",
		].join("\n"),
		"nothing about causes where nothing is wrong",
	);

	const silent: PaperNetwork = { direct: {}, tunnel: {} };
	const lacking: PaperNetwork = { direct: { none: "it has no IPv4 address" }, tunnel };
	const bad = checkText(await checked("noEncap", free, filtered, silent, lacking));
	t.match(bad, /^n3 +v4 +direct +FAIL +FAIL +FAIL +FAIL +geneve +ok +ok +1450 +1450 +0\.34 ms$/m);
	t.match(bad, /^n4 +v4 +direct +\? +\? +\? +\? +geneve +\? +\? +\? +\? +-$/m);
	t.match(bad, /^n5 +v4 +none +- +- +- +- +geneve +ok/m);
	t.match(bad, "* noEncap: 1 peer direct, 1 unverified; would break 2 peers: n3 (v4), n5 (v4)\n");
	t.match(
		bad,
		/^ {2}n3 v4, broken: The path direct fails: no packet gets there, and none comes back\.$/m,
	);
	t.match(bad, /^ {2}n4 v4, unverified: No probe answered yet/m);
	t.match(bad, /^- Packets with Node addresses get through.*\n( .*\n)* {2}Affects n3 v4 ↔\.$/m);
	t.match(bad, /^ +\$ aws ec2 modify-network-interface-attribute .*--no-source-dest-check$/m);
	t.notMatch(bad, "ip route add", "only what was found");
	const prose = bad.split("\n").filter((line) => !line.trimStart().startsWith("$"));
	t.ok(Math.max(...prose.map((line) => line.length)) <= 120, "120 columns, but for commands");

	const lossy = await checked("encap", { ...free, asked: 100 });
	for (const peer of lossy.peers) for (const cell of peer.cells) cell.answered = 97;
	const again = await check(undefined, {
		node: "n1",
		mode: "encap",
		peers: ["n2"],
		hybridDirect: "proven",
		candidate: () => true,
		leftovers: async () => [],
		survey: async () => lossy.peers,
	});
	t.match(checkText(again), /ok -3% +ok -3% +1500 -3%/);
	const none = await checked("encap");
	t.equal(checkText(none), "There are no peers.\n");
	const interfaces = ["cni0", "flannel.1", "a", "b", "c", "d", "e", "f", "g"];
	const flannel = {
		...{ cni: "flannel", interfaces, routes: 3, chains: ["FLANNEL-FWD"], files: [] },
		...{ tables: [], connections: 0 },
		advice: ["Remove them if flannel no longer runs on this Node.", "$ ip link del dev cni0"],
	};
	t.equal(
		checkText({ ...none, leftovers: [flannel] }),
		[
			"There are no peers.",
			"",
			"Left by others",
			"",
			"- flannel: 9 interfaces (cni0, flannel.1, a, b, c, d, e, f and 1 more); 3 routes by them; 1 iptables chain",
			"  (FLANNEL-FWD)",
			"  Remove them if flannel no longer runs on this Node.",
			"  $ ip link del dev cni0",
			"",
		].join("\n"),
	);
	const proxy = {
		...{ cni: "kube-proxy", interfaces: [], routes: 0, chains: [], files: [] },
		...{ tables: ["ip kube-proxy", "ip6 kube-proxy"], connections: 2, advice: [] },
	};
	t.match(
		checkText({ ...none, leftovers: [proxy] }),
		"- kube-proxy: 2 nftables tables (ip kube-proxy, ip6 kube-proxy); 2 translated connections\n",
	);

	const shown = eventsText(events);
	t.match(shown, /^2026-11-28T10:00:00\.000Z +n2 +v4 +- +geneve +1450 +Not proven yet\.$/m);
	t.match(shown, /n3 +v6 +geneve +direct +1500 +Proven\.\n$/);
	t.match(eventsText([]), "No path has changed.");
});

t.test("peers fit 120 columns, in any family and with any name", async (t) => {
	const now = Date.parse("2026-11-28T10:03:04.000Z");
	const reason =
		"geneve: direct path drops our source address; is the source/destination check on?";
	const address = "fd00:1234:5678:9abc:def0:1234:5678:9abc";
	const names = ["n2", "ip-10-0-123-234.eu-central-1.compute.internal", "n".repeat(253)];
	for (const node of names) {
		const rows = ([4, 6] as const).map(
			(family): PeerStatus => ({
				...(peers[0] as PeerStatus),
				...{ node, family, reason, transportAddress: address, changes: 1234, roundTripMs: 123 },
			}),
		);
		const lines = peersText(rows, now + 1e9, 120)
			.trimEnd()
			.split("\n");
		t.ok(
			lines.every((line) => [...line].length <= 120),
			`${node.length} characters`,
		);
		t.match(lines[1], / direct path drops our/, "the reason without the path");
	}
	const [, short] = peersText(peers, now, 120).split("\n");
	t.match(short, / Same subnet 192\.168\.1\.0\/24\.$/, "not cut where there is room");
});

t.test("cleanup says what it removed", async (t) => {
	t.equal(lineOf({ link: "from_wire-2" }, "detached a program"), "detached a program: from_wire-2");
	t.equal(
		lineOf({ interface: "eth0", err: new Error("busy") }, "cannot set offloads"),
		"cannot set offloads: eth0, busy",
	);
	t.equal(lineOf({}, "removed fairway0"), "removed fairway0");
});

t.test("waiting until the agent is ready", async (t) => {
	const starting = { ...status, ready: false, waitingFor: "a Node object for n1" };
	const down = new AgentUnreachableError("/run/agent.sock", "ENOENT", "no such socket");
	/** What is seen at each look; the last of them for ever. */
	const looks = (...seen: (Status | Error)[]) => {
		let at = 0;
		return async () => {
			const now = seen[Math.min(at++, seen.length - 1)] as Status | Error;
			if (now instanceof Error) throw now;
			return now;
		};
	};
	const busy = new ApiError(503, "Cannot answer: the agent is starting");
	const ready = await waitUntilReady(looks(down, busy, starting, status), 60_000);
	t.strictSame(ready.status, status, "over a start of the agent");
	t.match(await waitUntilReady(looks(starting), 0), {
		status: { ready: false },
		why: "waiting for a Node object for n1",
	});
	t.match(await waitUntilReady(looks(down), 0), { status: undefined, why: /no such socket/ });
	const forbidden = new AgentUnreachableError("/run/agent.sock", "EACCES", "permission denied");
	await t.rejects(waitUntilReady(looks(forbidden), 60_000), { code: "EACCES" });
	await t.rejects(waitUntilReady(looks(new ApiError(500, "boom")), 60_000), { message: "boom" });
});

t.test("the ends of a packet", async (t) => {
	const rows: [string, string, object][] = [
		["10.0.0.1", "10.0.0.2", { source: "10.0.0.1", destination: "10.0.0.2" }],
		["10.0.0.1", "10.0.0.2:80", { destination: "10.0.0.2", destinationPort: 80 }],
		["10.0.0.1:5", "10.0.0.2:65535", { sourcePort: 5, destinationPort: 65535 }],
		["fd00::1", "fd00::2", { source: "fd00::1", destination: "fd00::2" }],
		["[fd00::1]", "[fd00::2]:443", { source: "fd00::1", destinationPort: 443 }],
		["default/a", "b/c", { source: "default/a", destination: "b/c" }],
		["default/a:7", "b/c:80", { sourcePort: 7, destination: "b/c", destinationPort: 80 }],
		["10.0.0.1", "service/b/c:http-2", { destination: "service/b/c", destinationPort: "http-2" }],
		["default/a", "[fd00::2]:53", { destination: "fd00::2", destinationPort: 53 }],
	];
	for (const [source, destination, wanted] of rows) {
		t.match(explainRequest(source, destination, "tcp"), wanted, `${source} ${destination}`);
	}
	const bad: [string, string, RegExp][] = [
		["10.0.0.1", "fd00::1", /one family/],
		["10.0.0", "10.0.0.1", /got 10\.0\.0/],
		["10.0.0.1", "10.0.0.2:", /the port ""/],
		["10.0.0.1", "10.0.0.2:0", /the port "0"/],
		["10.0.0.1", "10.0.0.2:65536", /the port "65536"/],
		["10.0.0.1", "10.0.0.2:http", /the port "http"/],
		["10.0.0.1", "[10.0.0.2]:80", /got 10\.0\.0\.2/],
		["10.0.0.1", "", /got no address/],
		["fe80::1%eth0", "fd00::1", /zone/],
		["web-0", "10.0.0.1", /got web-0/],
		["default/a", "node/b/c", /got node\/b\/c/],
		["default/a", "[b/c]:80", /got b\/c/],
		["default/a:http", "b/c", /expected a number as its port, got "http"/],
		["default/a", "b/c:99999", /the port "99999"/],
	];
	for (const [source, destination, wanted] of bad) {
		t.throws(() => explainRequest(source, destination, "tcp"), {
			name: "UsageError",
			message: wanted,
		});
	}
	t.throws(() => explainRequest("10.0.0.1", "10.0.0.2:80", "icmp"), { message: /ICMP/ });
});

t.test("an IPv6 address that may be meant to have a port gets a hint", async (t) => {
	t.equal(
		missingBrackets("fd00::a:80"),
		"fd00::a:80 is an address without a port; port 80 of fd00::a is written [fd00::a]:80",
	);
	const clear = ["fd00::a", "fd00::5", "fd00::80", "fd00:1:2::a:f0", "[fd00::a]:80", "10.0.0.1:80"];
	for (const text of [...clear, "fd00:1:2:3:4:5:6:8080"])
		t.equal(missingBrackets(text), undefined, text);
});

interface Run {
	status: number;
	stdout: string;
	stderr: string;
}

function fairway(...args: string[]): Promise<Run> {
	return run(join(root, "bin/fairway"), ...args);
}

function run(file: string, ...args: string[]): Promise<Run> {
	return new Promise((resolve) => {
		execFile(file, args, (error, stdout, stderr) => {
			resolve({ status: error === null ? 0 : Number(error.code), stdout, stderr });
		});
	});
}

t.test("agent and cleanup require root", async (t) => {
	// Modules are loaded first, because an ordinary user may lack access to the checkout.
	const text = `
		const { agentCommand } = await import(${JSON.stringify(`${root}src/cli/agent.ts`)});
		const { cleanupCommand } = await import(${JSON.stringify(`${root}src/cli/cleanup.ts`)});
		process.setuid(65534);
		const options = { nodeName: "n1", config: "c", manifests: "m", runDir: "/r", pinDir: "/p" };
		for (const command of [agentCommand, cleanupCommand])
			await command(options).catch((error) => console.log(error.name, error.message));`;
	const { stdout } = await promisify(execFile)(
		process.execPath,
		["--import=tsx", "--input-type=module", "-e", text],
		{ cwd: root, env: { ...process.env, NODE_OPTIONS: "" } },
	);
	t.equal(
		stdout,
		"UsageError Cannot run the agent: must run as root\n" +
			"UsageError Cannot clean up: must run as root\n",
	);
});

t.test("exit statuses", async (t) => {
	const directory = mkdtempSync(join(tmpdir(), "fairway-cli-"));
	t.teardown(() => rmSync(directory, { recursive: true, force: true }));
	const bad = join(directory, "bad.yaml");
	writeFileSync(bad, "trafficEncapMode: sideways\nnoSuchKey: 1\n");
	const good = join(directory, "good.yaml");
	writeFileSync(good, "trafficEncapMode: NOENCAP\n");
	const without = join(directory, "without.yaml");
	writeFileSync(without, "trafficEncapMode: hybrid\nfairwayProxy: {enable: false}\n");
	const agent = ["agent", "--node-name", "n1", "--run-dir", join(directory, "run")];

	// Arguments, exit status, and the text on standard error (2) or output (1).
	const rows: [string[], number, RegExp, 1 | 2][] = [
		[[], 2, /Usage: fairway/, 2],
		[["--help"], 0, /Usage: fairway/, 1],
		[["help"], 0, /Usage: fairway/, 1],
		[["--version"], 0, /^\d+\.\d+\.\d+$/m, 1],
		[["sail"], 2, /^fairway: unknown command 'sail'\nSee `fairway --help`\.\n$/, 2],
		[["--help"], 0, /Exit status:\n {2}0 /, 1],
		[["lab", "sail"], 2, /^fairway: Cannot run "sail"/, 2],
		[["status", "--no-such-option"], 2, /unknown option '--no-such-option'/, 2],
		[["status", "-o", "xml"], 2, /Allowed choices are text, json/, 2],
		[["status", "too", "much"], 2, /too many arguments.*\nSee `fairway status --help`\./, 2],
		[["policy", "check"], 2, /See `fairway policy check --help`\./, 2],
		[
			["policy", "check", "/none"],
			1,
			/Cannot read \/none: ENOENT: no such file or directory\n$/,
			2,
		],
		[["status", "--run-dir", directory], 1, /Cannot reach the agent at .*agent\.sock/, 2],
		[["peers", "--run-dir", directory, "-o", "json"], 1, /Cannot reach the agent/, 2],
		[["endpoints", "--run-dir", directory], 1, /Cannot reach the agent/, 2],
		[["check", "--run-dir", directory], 4, /Cannot reach the agent/, 2],
		[["status", "--wait", "0", "--run-dir", directory], 3, /not ready after 0 s: Cannot reach/, 2],
		[["status", "--wait", "soon"], 2, /Expected a number of seconds/, 2],
		[["peers", "--path", "sideways"], 2, /Allowed choices are direct, routed/, 2],
		[["peers", "-o", "xml"], 2, /Allowed choices are text, wide, json/, 2],
		[["check", "--peer", ""], 2, /Expected the name of a Node/, 2],
		[["check", "n2"], 2, /too many arguments/, 2],
		[["events", "--run-dir", directory], 1, /Cannot reach the agent/, 2],
		[["explain", "10.0.0.1", "10.0.0.2", "--run-dir", directory], 1, /Cannot reach the agent/, 2],
		[["explain", "10.0.0.1"], 2, /missing required argument 'destination'/, 2],
		[["explain", "x", "10.0.0.2"], 2, /got x/, 2],
		[["explain", "10.0.0.1", "10.0.0.2", "--proto", "gre"], 2, /Allowed choices/, 2],
		[["config"], 2, /Usage: fairway config/, 2],
		[["config", "validate"], 2, /missing required argument 'file'/, 2],
		[["config", "validate", good], 0, /good\.yaml: valid/, 1],
		[["config", "validate", good, "-o", "json"], 0, /"trafficEncapMode": "noEncap"/, 1],
		[["config", "validate", bad], 2, /bad\.yaml:1:19: [\s\S]*bad\.yaml:2:1: /, 2],
		[["config", "validate", bad, "-o", "json"], 2, /"valid": false/, 1],
		[
			["config", "validate", join(directory, "none")],
			2,
			/none: Cannot read the configuration: ENOENT: no such file or directory\n$/,
			2,
		],
		[
			["config", "validate", without],
			2,
			/without\.yaml:2:24: Cannot use fairwayProxy\.enable: /,
			2,
		],
		[
			[...agent, "--config", without, "--manifests", directory],
			...([2, /without\.yaml:2:24: Cannot use fairwayProxy\.enable: expected true/, 2] as const),
		],
		[["config", "schema"], 0, /"trafficEncapMode"/, 1],
		[["agent"], 2, /required option '--node-name <name>'/, 2],
		[[...agent, "--config", good], 2, /expected --manifests DIR, --kubeconfig FILE or/, 2],
		[[...agent, "--config", good, "--kubeconfig", "x"], 2, /Cannot use \S+x: ENOENT/, 2],
		[
			[...agent, "--config", good, "--kubeconfig", "x", "--manifests", directory],
			...([2, /expected one of --manifests DIR and --kubeconfig FILE, got both/, 2] as const),
		],
		[[...agent, "--config", bad, "--manifests", directory], 2, /bad\.yaml:1:19: [\s\S]*:2:1: /, 2],
	];
	for (const [args, exit, text, stream] of rows) {
		const result = await fairway(...args);
		const name = `fairway ${args.join(" ").replaceAll(directory, "DIR")}`;
		t.equal(result.status, exit, `${name} ends with ${exit}`);
		t.match(stream === 1 ? result.stdout : result.stderr, text, name);
		if (exit !== 0 && stream === 2) t.equal(result.stdout, "", `${name} prints nothing else`);
	}
	t.type(JSON.parse((await fairway("config", "schema")).stdout).properties, "object");

	const closed = `set -o pipefail; ${join(root, "bin/fairway")} config schema | true`;
	const unread = await run("bash", "-c", closed);
	t.strictSame(unread, { status: 0, stdout: "", stderr: "" }, "nobody reads its output");

	const [override] = OVERRIDES;
	process.env[override] = "true";
	t.teardown(() => delete process.env[override]);
	const warned = await fairway("config", "validate", without);
	t.match(warned, { status: 0, stderr: /without\.yaml: warning: fairwayProxy\.enable is false/ });

	const link = join(directory, "fairway");
	symlinkSync(join(root, "bin/fairway"), link);
	t.equal((await run(link, "--version")).status, 0, "works through a symbolic link");
});

t.test("an agent of another version", async (t) => {
	const directory = mkdtempSync(join(tmpdir(), "fairway-cli-"));
	t.teardown(() => rmSync(directory, { recursive: true, force: true }));
	const at = ["--run-dir", directory];
	for (const [agent, is] of [
		["0.0.9", "version 0\\.0\\.9"],
		[undefined, "an earlier version"],
	] as const) {
		const options = agent === undefined ? {} : { version: agent };
		const handlers = { "GET /status": () => ({ status: 200, body: { node: "n1" } }) };
		const server = await ApiServer.open(directory, handlers, options);
		const note = `\\(the agent is ${is}, this command [0-9.]+: restart the agent, or use .*\\)`;
		t.match(await fairway("status", ...at), {
			...{ status: 1, stdout: "" },
			stderr: new RegExp(`^fairway: Cannot read the agent's answer: .*${note}\n$`),
		});
		const whole = await fairway("status", "-o", "json", ...at);
		t.strictSame(JSON.parse(whole.stdout), { node: "n1" }, "JSON is passed on as it is");
		t.match(await fairway("denials", ...at), {
			status: 1,
			stderr: new RegExp(`^fairway: Cannot GET /denials: .*${note}\n$`),
		});
		await server.close();
	}
});

t.test("an agent that answers", async (t) => {
	const directory = mkdtempSync(join(tmpdir(), "fairway-cli-"));
	t.teardown(() => rmSync(directory, { recursive: true, force: true }));
	const asked: unknown[] = [];
	const checks: unknown[] = [];
	let checkAnswer = await checked("hybrid", free, filtered);
	const server = await ApiServer.open(directory, {
		"GET /events": () => ({ status: 200, body: events }),
		"POST /check": (body) => {
			checks.push(body);
			if ((body as CheckRequest).peer?.includes("n9"))
				throw new RequestError(NO_SUCH_PEER, "Cannot check n9: no such");
			return { status: 200, body: checkAnswer };
		},
		"GET /status": () => ({ status: 200, body: status }),
		"GET /peers": () => ({ status: 200, body: peers }),
		"GET /endpoints": () => ({ status: 200, body: [] }),
		"POST /explain": (body) => {
			asked.push(body);
			return { status: 200, body: answer };
		},
	});
	t.teardown(() => server.close());
	t.equal(server.socketPath, agentSocket(directory));
	const at = ["--run-dir", directory];

	t.strictSame(JSON.parse((await fairway("status", "-o", "json", ...at)).stdout), status);
	const waited = await fairway("status", "--wait", "-o", "json", ...at);
	t.match(waited, { status: 0, stderr: "" }, "ready, so there is nothing to wait for");
	t.strictSame(JSON.parse(waited.stdout), status);
	t.strictSame(JSON.parse((await fairway("peers", "--output", "json", ...at)).stdout), peers);
	const matching = async (...args: string[]) =>
		JSON.parse((await fairway("peers", "-o", "json", ...args, ...at)).stdout) as PeerStatus[];
	t.strictSame(await matching("--peer", "n2"), peers.slice(0, 1));
	t.strictSame(await matching("--peer", "n2", "--peer", "n9", "--path", "down"), []);
	t.strictSame(await matching("--path", "down", "--path", "routed"), peers.slice(1));
	t.equal(
		(await fairway("peers", "--peer", "n9", ...at)).stdout,
		"No peer matches (there is no peer n9).\n",
	);
	t.strictSame(JSON.parse((await fairway("endpoints", "-o", "json", ...at)).stdout), []);
	t.equal((await fairway("status", ...at)).stdout, statusText(status));
	t.strictSame(JSON.parse((await fairway("events", "-o", "json", ...at)).stdout), events);
	t.equal(
		(await fairway("events", "--peer", "n9", ...at)).stdout,
		"No path to n9 has changed, or there is no such peer.\n",
	);
	t.equal((await fairway("events", ...at)).stdout, eventsText(events));

	const fine = await fairway("check", ...at);
	t.strictSame(fine, { status: 0, stdout: checkText(checkAnswer), stderr: "" });
	checkAnswer = await checked("noEncap", free, filtered);
	const loses = await fairway("check", "-o", "json", ...at);
	t.strictSame([loses.status, loses.stderr], [1, ""], "the active mode breaks a peer");
	t.strictSame(JSON.parse(loses.stdout), checkAnswer);
	const nobody = await fairway("check", "--peer", "n9", ...at);
	t.match(nobody, { status: 2, stdout: "", stderr: "fairway: Cannot check n9: no such\n" });
	await fairway("check", "--peer", "n2", "--peer", "n3", ...at);
	t.strictSame(checks, [{}, {}, { peer: ["n9"] }, { peer: ["n2", "n3"] }]);
	const explained = await fairway("explain", "fd00::1", "[fd00::2]:53", "--proto", "udp", ...at);
	t.equal(explained.stdout, explainText(answer));
	t.strictSame(asked, [
		{ source: "fd00::1", destination: "fd00::2", protocol: "udp", destinationPort: 53 },
	]);
});
