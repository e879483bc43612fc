import assert from "node:assert/strict";
import fc from "fast-check";
import t from "tap";
import { configurationPage } from "../../scripts/configuration.js";
import { changedKeys } from "../../src/config/changes.js";
import { type Config, formatConfigError, tunnelPort } from "../../src/config/config.js";
import { parseConfig, parseConfigBytes, readConfig } from "../../src/config/parse.js";
import {
	type Environment,
	limitations,
	OVERRIDES,
	proxyWarnings,
} from "../../src/config/proxy_rule.js";
import { configSchema } from "../../src/config/schema.js";
import { ANY_PROXY, config, configText } from "../tools/arbitrary.js";

function parsed(text: string, environment: Environment = {}): Config {
	const result = parseConfig(text, "f.yaml", environment);
	if ("errors" in result) throw new Error(result.errors.map(formatConfigError).join("\n"));
	return result.config;
}

function errors(text: string, environment: Environment = {}): string[] {
	const result = parseConfig(text, "f.yaml", environment);
	return "errors" in result ? result.errors.map(formatConfigError) : [];
}

const DEFAULTS: Config = {
	trafficEncapMode: "encap",
	tunnelType: "geneve",
	tunnelPort: 0,
	tunnelVNI: 1,
	noSNAT: false,
	transportInterface: "",
	transportInterfaceCIDRs: [],
	hybrid: { direct: "proven", tryDirectCIDRs: [], neverDirectCIDRs: [] },
	probes: { failoverTime: 1000, holdTime: 5, holdTimeMax: 300 },
	defaultMTU: 0,
	xdp: "auto",
	snat: { portRange: { first: 49152, last: 65535 }, excludeCIDRs: [] },
	serviceCIDRs: [],
	fairwayProxy: {
		enable: true,
		proxyAll: true,
		nodePortAddresses: [],
		nodePortRange: { first: 30000, last: 32767 },
		skipServices: [],
		countFlows: [],
		proxyLoadBalancerIPs: true,
		serviceProxyName: "",
		externalIPs: false,
		externalClusterIP: false,
		defaultLoadBalancerMode: "nat",
		healthServer: ":10256",
	},
	flows: {
		max: 131072,
		timeouts: {
			tcpOpening: 240,
			tcpEstablished: 7440,
			tcpClosing: 240,
			tcpClosed: 240,
			udpOpening: 120,
			udpEstablished: 300,
			icmp: 60,
			sctpOpening: 60,
			sctpEstablished: 7440,
			sctpClosed: 10,
			other: 600,
		},
	},
	http: { health: "127.0.0.1:9479", metrics: "127.0.0.1:9480" },
	log: { level: "info" },
};

t.test("an empty file means the defaults", async (t) => {
	const rows = [
		"",
		"\n",
		"# only a comment\n",
		"---\n",
		"--- \n...\n",
		"{}",
		"snat:\nlog:\nhybrid:\nprobes:\nflows:\n  timeouts:\n",
	];
	for (const text of rows) t.same(parsed(text), DEFAULTS, JSON.stringify(text));
});

t.test("values and their meaning", async (t) => {
	const rows: [text: string, part: object][] = [
		["trafficEncapMode: noEncap\nnoSNAT: true", { trafficEncapMode: "noEncap", noSNAT: true }],
		["trafficEncapMode: NOENCAP", { trafficEncapMode: "noEncap" }],
		["trafficEncapMode: Hybrid", { trafficEncapMode: "hybrid" }],
		["tunnelType: VxLAN", { tunnelType: "vxlan" }],
		["xdp: Off", { xdp: "off" }],
		["hybrid: {direct: SubNet}", { hybrid: { direct: "subnet", tryDirectCIDRs: [] } }],
		[
			"hybrid: {direct: Proven, tryDirectCIDRs: [FD00::/8, 10.0.0.0/8, fd00::/8]}",
			{ hybrid: { direct: "proven", tryDirectCIDRs: ["fd00::/8", "10.0.0.0/8"] } },
		],
		[
			"hybrid: {direct: subnet, neverDirectCIDRs: [10.0.0.0/8]}",
			{ hybrid: { direct: "subnet", neverDirectCIDRs: ["10.0.0.0/8"] } },
		],
		[
			"probes: {failoverTime: 300, holdTime: 300}",
			{ probes: { failoverTime: 300, holdTime: 300, holdTimeMax: 300 } },
		],
		["probes: {failoverTime: 60000, holdTime: 3600, holdTimeMax: 86400}", {}],
		["log: {level: DEBUG}", { log: { level: "debug" } }],
		["tunnelPort: 0x1771", { tunnelPort: 6001 }],
		["tunnelVNI: 16777215", { tunnelVNI: 16777215 }],
		["defaultMTU: 1280", { defaultMTU: 1280 }],
		["snat: {portRange: 1024-2048}", { snat: { portRange: { first: 1024, last: 2048 } } }],
		[
			"serviceCIDRs: [10.96.0.0/12, FD00:96::/112, 10.96.0.0/12]\nfairwayProxy: {enable: false}",
			{ serviceCIDRs: ["10.96.0.0/12", "fd00:96::/112"], fairwayProxy: { enable: false } },
		],
		[
			"fairwayProxy: {enable: true, nodePortRange: 1024-2048, skipServices: [kube-system/dns, FD00::0A, kube-system/dns], nodePortAddresses: [10.0.0.0/8], defaultLoadBalancerMode: NAT}",
			{
				fairwayProxy: {
					enable: true,
					nodePortRange: { first: 1024, last: 2048 },
					skipServices: ["kube-system/dns", "fd00::a"],
					nodePortAddresses: ["10.0.0.0/8"],
					defaultLoadBalancerMode: "nat",
				},
			},
		],
		[
			"fairwayProxy: {enable: false, healthServer: ':9480'}",
			{ fairwayProxy: { healthServer: ":9480" } },
		],
		[
			"fairwayProxy: {enable: true, healthServer: ''}\nhttp: {health: ':10256'}",
			{ fairwayProxy: { healthServer: "" } },
		],
		["snat: {portRange: '7-7'}", { snat: { portRange: { first: 7, last: 7 } } }],
		[
			"snat:\n  excludeCIDRs: [10.0.0.0/8, FD00::/8, 10.0.0.0/8]",
			{ snat: { excludeCIDRs: ["10.0.0.0/8", "fd00::/8"] } },
		],
		[
			"flows: {max: 1000, timeouts: {tcpClosed: 1}}",
			{ flows: { max: 1000, timeouts: { tcpClosed: 1, icmp: 60 } } },
		],
		[
			"transportInterface: eth0\r\ntransportInterfaceCIDRs:\r\n- 10.0.0.0/8\r\n",
			{ transportInterface: "eth0", transportInterfaceCIDRs: ["10.0.0.0/8"] },
		],
		["\uFEFFtunnelVNI: 3", { tunnelVNI: 3 }],
		['{"tunnelVNI": 4}', { tunnelVNI: 4 }],
		["snat: &s {portRange: 5-6}", { snat: { portRange: { first: 5, last: 6 } } }],
	];
	for (const [text, part] of rows) t.match(parsed(text), part, JSON.stringify(text));
});

t.test("tunnel port", async (t) => {
	const rows: [text: string, port: number][] = [
		["", 6081],
		["tunnelType: vxlan", 4789],
		["tunnelPort: 7000", 7000],
	];
	for (const [text, port] of rows) t.equal(tunnelPort(parsed(text)), port, text);
});

const KEYS =
	"trafficEncapMode, hybrid, probes, tunnelType, tunnelPort, tunnelVNI, noSNAT, transportInterface, transportInterfaceCIDRs, defaultMTU, xdp, snat, serviceCIDRs, fairwayProxy, flows, http, log";

t.test("one mistake: its position, what was expected, what was found", async (t) => {
	const rows: [text: string, error: string][] = [
		["a: 1", `1:1: Cannot use a: unknown key, expected one of ${KEYS}`],
		[
			"\n  trafficEncapmode: encap",
			"2:3: Cannot use trafficEncapmode: unknown key, did you mean trafficEncapMode?",
		],
		[
			"snat:\n  portrange: 1-2",
			"2:3: Cannot use snat.portrange: unknown key, did you mean portRange?",
		],
		[
			"flows:\n  timeouts:\n    tcp: 5",
			"3:5: Cannot use flows.timeouts.tcp: unknown key, expected one of tcpOpening, tcpEstablished, tcpClosing, tcpClosed, udpOpening, udpEstablished, icmp, sctpOpening, sctpEstablished, sctpClosed, other",
		],
		["1: 2", `1:1: Cannot use 1: unknown key, expected one of ${KEYS}`],
		["<<: {tunnelVNI: 1}", `1:1: Cannot use <<: unknown key, expected one of ${KEYS}`],
		[
			"__proto__: {tunnelVNI: 2}",
			`1:1: Cannot use __proto__: unknown key, expected one of ${KEYS}`,
		],
		["constructor: 1", `1:1: Cannot use constructor: unknown key, expected one of ${KEYS}`],
		[
			"trafficEncapMode: foo",
			'1:19: Cannot use trafficEncapMode: expected encap, noEncap or hybrid, got "foo"',
		],
		[
			"trafficEncapMode: [encap]",
			"1:19: Cannot use trafficEncapMode: expected encap, noEncap or hybrid, got a list",
		],
		[
			"fairwayProxy: {nodePortRange: 40000-50000}",
			"1:31: Cannot use fairwayProxy.nodePortRange: expected no port of snat.portRange 49152-65535, got 40000-50000",
		],
		[
			"snat: {portRange: 32767-40000}",
			"1:1: Cannot use fairwayProxy.nodePortRange: expected no port of snat.portRange 32767-40000, got 30000-32767",
		],
		[
			"fairwayProxy: {defaultLoadBalancerMode: dsr}",
			'1:41: Cannot use fairwayProxy.defaultLoadBalancerMode: expected nat, got "dsr"',
		],
		[
			"fairwayProxy: {countFlows: [web]}",
			'1:29: Cannot use fairwayProxy.countFlows[0]: expected NAMESPACE/NAME of a Service, got "web"',
		],
		[
			"fairwayProxy: {skipServices: [a/b/c]}",
			'1:31: Cannot use fairwayProxy.skipServices[0]: expected NAMESPACE/NAME of a Service, or a cluster IP, got "a/b/c"',
		],
		[
			"fairwayProxy: {serviceProxyName: -a}",
			'1:34: Cannot use fairwayProxy.serviceProxyName: expected a label\'s value of at most 63 letters, digits, -, _ and ., got "-a"',
		],
		[
			"fairwayProxy: {healthServer: 10256}",
			'1:30: Cannot use fairwayProxy.healthServer: expected ADDRESS:PORT, [IPv6]:PORT, :PORT for every address, or "", got 10256',
		],
		[
			"fairwayProxy: {healthServer: ':9480'}",
			"1:30: Cannot use fairwayProxy.healthServer: expected another port than that of http.metrics 127.0.0.1:9480, got :9480",
		],
		[
			"serviceCIDRs: [10.96.0.1/12]",
			'1:16: Cannot use serviceCIDRs[0]: expected a CIDR without host bits (the network is 10.96.0.0/12), got "10.96.0.1/12"',
		],
		["tunnelType: gre", '1:13: Cannot use tunnelType: expected geneve or vxlan, got "gre"'],
		[
			"tunnelPort: '1'",
			'1:13: Cannot use tunnelPort: expected a whole number from 0 to 65535, got "1"',
		],
		[
			"tunnelPort: 65536",
			"1:13: Cannot use tunnelPort: expected a whole number from 0 to 65535, got 65536",
		],
		[
			"tunnelPort: -1",
			"1:13: Cannot use tunnelPort: expected a whole number from 0 to 65535, got -1",
		],
		[
			"tunnelPort: 1.5",
			"1:13: Cannot use tunnelPort: expected a whole number from 0 to 65535, got 1.5",
		],
		[
			"tunnelVNI: .nan",
			"1:12: Cannot use tunnelVNI: expected a whole number from 0 to 16777215, got NaN",
		],
		[
			"tunnelVNI: 16777216",
			"1:12: Cannot use tunnelVNI: expected a whole number from 0 to 16777215, got 16777216",
		],
		["noSNAT: yes", '1:9: Cannot use noSNAT: expected true or false, got "yes"'],
		["noSNAT:", "1:1: Cannot use noSNAT: expected true or false, got nothing"],
		[
			"defaultMTU: 1279",
			"1:13: Cannot use defaultMTU: expected 0 or a whole number from 1280 to 65535, got 1279",
		],
		[
			"defaultMTU: 65536",
			"1:13: Cannot use defaultMTU: expected 0 or a whole number from 1280 to 65535, got 65536",
		],
		[
			"transportInterface: 5",
			"1:21: Cannot use transportInterface: expected the name of an interface, got 5",
		],
		[
			"transportInterface: a/b",
			'1:21: Cannot use transportInterface: expected an interface\'s name without blanks and slashes, got "a/b"',
		],
		[
			"transportInterfaceCIDRs: 10.0.0.0/8",
			'1:26: Cannot use transportInterfaceCIDRs: expected a list of CIDRs, got "10.0.0.0/8"',
		],
		[
			"transportInterfaceCIDRs:\n- 10.0.0.0/8\n- 10.0.0.1/8",
			'3:3: Cannot use transportInterfaceCIDRs[1]: expected a CIDR without host bits (the network is 10.0.0.0/8), got "10.0.0.1/8"',
		],
		[
			"snat: {excludeCIDRs: [fd00::/129]}",
			'1:23: Cannot use snat.excludeCIDRs[0]: expected a CIDR with a prefix length from 0 to 128, got "fd00::/129"',
		],
		[
			"snat: {excludeCIDRs: [10]}",
			"1:23: Cannot use snat.excludeCIDRs[0]: expected a CIDR such as 10.0.0.0/8 or fd00::/8, got 10",
		],
		[
			"snat:\n  portRange: 9-1",
			'2:14: Cannot use snat.portRange: expected "FIRST-LAST" with ports from 1 to 65535, FIRST not above LAST, got "9-1"',
		],
		[
			"snat: {portRange: 0-1}",
			'1:19: Cannot use snat.portRange: expected "FIRST-LAST" with ports from 1 to 65535, FIRST not above LAST, got "0-1"',
		],
		[
			"snat: {portRange: 1-65536}",
			'1:19: Cannot use snat.portRange: expected "FIRST-LAST" with ports from 1 to 65535, FIRST not above LAST, got "1-65536"',
		],
		[
			"snat: {portRange: 40000}",
			'1:19: Cannot use snat.portRange: expected "FIRST-LAST" with ports from 1 to 65535, FIRST not above LAST, got 40000',
		],
		["snat: [1]", "1:7: Cannot use snat: expected a mapping of keys to values, got a list"],
		[
			"flows: {max: 63}",
			"1:14: Cannot use flows.max: expected a whole number from 64 to 8388608, got 63",
		],
		[
			"flows: {timeouts: {icmp: 0}}",
			"1:26: Cannot use flows.timeouts.icmp: expected a whole number from 1 to 604800, got 0",
		],
		[
			"hybrid: {direct: never}",
			'1:18: Cannot use hybrid.direct: expected proven or subnet, got "never"',
		],
		[
			"hybrid: {directCIDRs: []}",
			"1:10: Cannot use hybrid.directCIDRs: unknown key, did you mean tryDirectCIDRs?",
		],
		[
			"hybrid: {tryDirectCIDRs: [10.0.0.1/8]}",
			'1:27: Cannot use hybrid.tryDirectCIDRs[0]: expected a CIDR without host bits (the network is 10.0.0.0/8), got "10.0.0.1/8"',
		],
		[
			"hybrid:\n  neverDirectCIDRs:\n  - 10.0.0.0/8\n  - fd00::1/8",
			'4:5: Cannot use hybrid.neverDirectCIDRs[1]: expected a CIDR without host bits (the network is fd00::/8), got "fd00::1/8"',
		],
		[
			"hybrid: {neverDirectCIDRs: 10.0.0.0/8}",
			'1:28: Cannot use hybrid.neverDirectCIDRs: expected a list of CIDRs, got "10.0.0.0/8"',
		],
		[
			"hybrid:\n  direct: subnet\n  tryDirectCIDRs: [10.0.0.0/8]",
			"3:19: Cannot use hybrid.tryDirectCIDRs: expected hybrid.direct proven, because nothing else tells whether another subnet can be reached directly, got subnet",
		],
		[
			"probes: {failoverTime: 299}",
			"1:24: Cannot use probes.failoverTime: expected a whole number from 300 to 60000, got 299",
		],
		[
			"probes: {failoverTime: 60001}",
			"1:24: Cannot use probes.failoverTime: expected a whole number from 300 to 60000, got 60001",
		],
		[
			"probes: {holdTime: 0}",
			"1:20: Cannot use probes.holdTime: expected a whole number from 1 to 3600, got 0",
		],
		[
			"probes: {holdTimeMax: 86401}",
			"1:23: Cannot use probes.holdTimeMax: expected a whole number from 1 to 86400, got 86401",
		],
		[
			"probes: {holdTime: 301}",
			"1:20: Cannot use probes.holdTime: expected at most probes.holdTimeMax 300, got 301",
		],
		[
			"probes: {holdTimeMax: 4}",
			"1:9: Cannot use probes.holdTime: expected at most probes.holdTimeMax 4, got 5",
		],
		["probes: 1000", "1:9: Cannot use probes: expected a mapping of keys to values, got 1000"],
		[
			"noSNAT: true",
			"1:9: Cannot use noSNAT: expected false with trafficEncapMode encap, because Pod addresses mean nothing outside a tunnel, got true",
		],
		[
			"tunnelPort: 4789",
			"1:13: Cannot use tunnelPort: expected a port for geneve that is not the one of vxlan, got 4789",
		],
		[
			"http: {metrics: ':9479'}",
			"1:17: Cannot use http.metrics: expected another port than that of http.health 127.0.0.1:9479, got :9479",
		],
		[
			"http: {health: 'localhost:1'}",
			'1:16: Cannot use http.health: expected ADDRESS:PORT, [IPv6]:PORT, :PORT for every address, or "", got "localhost:1"',
		],
		[
			"tunnelType: vxlan\ntunnelPort: 6081",
			"2:13: Cannot use tunnelPort: expected a port for vxlan that is not the one of geneve, got 6081",
		],
		[
			"tunnelVNI: 1\ntunnelVNI: 1",
			"2:1: Cannot read the configuration as YAML: Map keys must be unique",
		],
		[
			"tunnelVNI: 1\n---\ntunnelVNI: 2",
			"2:1: Cannot read the configuration: expected one YAML document, got 2",
		],
		["- a", "1:1: Cannot read the configuration: expected a mapping of keys to values, got a list"],
		[
			"encap",
			'1:1: Cannot read the configuration: expected a mapping of keys to values, got "encap"',
		],
		[
			"? [a]\n: 1",
			"1:3: Cannot read the configuration: expected a plain key, got a list or mapping as key",
		],
		[
			"tunnelVNI: !!foo 1",
			"1:12: Cannot read the configuration as YAML: Unresolved tag: tag:yaml.org,2002:foo",
		],
		[
			"tunnelVNI: *a",
			"1:12: Cannot read the configuration: Unresolved alias (the anchor must be set before the alias): a",
		],
		[
			"tunnelVNI: 1\nb\u0000",
			"2:2: Cannot read the configuration as YAML: expected text, got the control character 0x00",
		],
	];
	for (const [text, error] of rows) t.same(errors(text), [`f.yaml:${error}`], JSON.stringify(text));
});

t.test("every mistake is reported, in the order of the file", async (t) => {
	const text = `trafficencapmode: hybrid
noSNAT: true
tunnelPort: x
snat:
  excludeCIDRs:
    - 10.0.0.1/8
    - fd00::/8
    - 5
  ports: 1
defaultMTU: 1
`;
	t.same(
		errors(text).map((error) => error.split(" ", 1)[0]),
		[
			"f.yaml:1:1:",
			"f.yaml:2:9:",
			"f.yaml:3:13:",
			"f.yaml:6:7:",
			"f.yaml:8:7:",
			"f.yaml:9:3:",
			"f.yaml:10:13:",
		],
	);
});

t.test("hostile files", async (t) => {
	const bomb = `a: &a [x,x,x,x,x,x,x,x,x]\n${"bcdefghi"
		.split("")
		.map((name, i) => `${name}: &${name} [${Array(9).fill(`*${"abcdefgh"[i]}`)}]`)
		.join("\n")}\n`;
	t.match(errors(bomb), [/Excessive alias count/], "aliases of aliases");
	t.match(errors("[".repeat(100_000)), [/at most 100 levels of nesting/], "deep flow");
	t.match(errors("- ".repeat(5_000)), [/at most 100 levels of nesting/], "deep blocks");
	t.match(errors("a: &a [*a]"), [/unknown key/], "an alias to itself");
	t.match(errors(`a: "${"x".repeat(2000)}`), [/Missing closing/], "an open quote");
	const bytes = (data: Uint8Array) => {
		const result = parseConfigBytes(data, "f.yaml");
		return "errors" in result ? result.errors.map(formatConfigError) : [];
	};
	t.match(bytes(Buffer.from([0x61, 0xff, 0xfe])), [/^f\.yaml: .*expected UTF-8/], "not UTF-8");
	t.match(bytes(Buffer.alloc(2 << 20, 0x20)), [/expected at most 1048576 bytes/], "too long");
	const unknown = Array.from({ length: 500 }, (_, i) => `key${i}: 1`);
	const many = errors(unknown.join("\n"));
	t.equal(many.length, 21, "a file that is no configuration does not flood status and log");
	t.match(many.at(-1), /21:1: Cannot use the configuration: 480 further errors from here on/);
	const absent = await readConfig("/does/not/exist.yaml");
	t.match(absent, { errors: [{ line: 1, column: 1, message: /ENOENT/ }] });
});

t.test("no text makes it throw, and error positions are within the text", async () => {
	const piece = fc.constantFrom(
		..."{ } [ ] : - ? , & * ! | > ' \" % @ # \n \t \u0000".split(" "),
		" ",
		"a",
		"&a ",
		"*a",
		"snat",
		"tunnelPort: ",
		"!!str",
		"10.0.0.0/8",
		"noSNAT: true\n",
		"---\n",
		"\r\n",
	);
	fc.assert(
		fc.property(fc.array(piece, { maxLength: 40 }), (pieces) => {
			const text = pieces.join("");
			const result = parseConfig(text, "f.yaml");
			if ("config" in result) return;
			assert.ok(result.errors.length > 0);
			const lines = text.split("\n").length;
			for (const { line, column, message } of result.errors)
				assert.ok(line >= 1 && line <= lines && column >= 1 && message.startsWith("Cannot "), text);
		}),
		{ numRuns: 2000 },
	);
});

t.test("a configuration survives writing and reading", async () => {
	fc.assert(
		fc.property(config, (given) => {
			const text = JSON.stringify(given, (_, value) =>
				value?.first === undefined ? value : `${value.first}-${value.last}`,
			);
			assert.deepEqual(parsed(text, ANY_PROXY), given);
			assert.deepEqual(changedKeys(given, parsed(text, ANY_PROXY)), []);
		}),
	);
});

t.test("the list of changes", async (t) => {
	const rows: [from: string, to: string, changes: string[]][] = [
		["", "trafficEncapMode: hybrid", ['trafficEncapMode: "encap" → "hybrid"']],
		["snat: {portRange: 1-2}", "snat: {portRange: 1-3}", ['snat.portRange: "1-2" → "1-3"']],
		[
			"",
			"snat: {excludeCIDRs: [10.0.0.0/8]}\nlog: {level: warn}",
			['snat.excludeCIDRs: [] → ["10.0.0.0/8"]', 'log.level: "info" → "warn"'],
		],
		["flows: {timeouts: {icmp: 1}}", "", ["flows.timeouts.icmp: 1 → 60"]],
		["", "probes: {failoverTime: 500}", ["probes.failoverTime: 1000 → 500"]],
		[
			"hybrid: {tryDirectCIDRs: [10.0.0.0/8]}",
			"hybrid: {direct: subnet}",
			['hybrid.direct: "proven" → "subnet"', 'hybrid.tryDirectCIDRs: ["10.0.0.0/8"] → []'],
		],
		["tunnelPort: 0", "", []],
	];
	for (const [from, to, changes] of rows)
		t.same(
			changedKeys(parsed(from), parsed(to)).map(({ key, from, to }) => `${key}: ${from} → ${to}`),
			changes,
		);
});

interface Schema {
	type?: string;
	properties?: Record<string, Schema>;
	items?: Schema;
	enum?: string[];
	pattern?: string;
	minimum?: number;
	maximum?: number;
	maxLength?: number;
	additionalProperties?: boolean;
	default?: unknown;
	description?: string;
}

/** The part of JSON Schema that the configuration's schema uses. */
function conforms(schema: Schema, value: unknown): boolean {
	if (schema.enum)
		return schema.enum.some((name) => name.toLowerCase() === String(value).toLowerCase());
	if (schema.type === "object") {
		if (typeof value !== "object" || value === null) return false;
		return Object.entries(value).every(([key, inner]) => {
			const known = schema.properties?.[key];
			return known ? conforms(known, inner) : schema.additionalProperties !== false;
		});
	}
	if (schema.type === "array")
		return Array.isArray(value) && value.every((item) => conforms(schema.items ?? {}, item));
	if (schema.type === "integer")
		return (
			Number.isInteger(value) &&
			Number(value) >= (schema.minimum ?? 0) &&
			Number(value) <= (schema.maximum ?? 0)
		);
	if (schema.type === "string")
		return typeof value === "string" && new RegExp(schema.pattern ?? "").test(value);
	return schema.type === typeof value;
}

t.test("the JSON Schema has the same keys, types and defaults", async (t) => {
	const schema = configSchema() as Schema;
	const leaves = (at: Schema, value: unknown, path: string): void => {
		if (at.type === "object") {
			t.equal(at.additionalProperties, false, `${path} is closed`);
			const keys = Object.keys(value as object);
			t.same(Object.keys(at.properties ?? {}).sort(), keys.sort(), `keys of ${path}`);
			for (const key of keys)
				leaves(
					at.properties?.[key] ?? {},
					(value as Record<string, unknown>)[key],
					`${path}.${key}`,
				);
		} else t.same(at.default, value, `default of ${path}`);
		if (path !== "") t.type(at.description, "string", `description of ${path}`);
	};
	const { snat, fairwayProxy } = DEFAULTS;
	const written = {
		...DEFAULTS,
		snat: { ...snat, portRange: "49152-65535" },
		fairwayProxy: { ...fairwayProxy, nodePortRange: "30000-32767" },
	};
	leaves(schema, written, "");
	fc.assert(fc.property(configText, (text) => conforms(schema, JSON.parse(text))));
});

t.test(
	"without Fairway's Services only in tunnels, unless the environment allows it",
	async (t) => {
		const refusal = (mode: string, at: string) =>
			`f.yaml:${at}: Cannot use fairwayProxy.enable: expected true with trafficEncapMode ${mode}, because egress policy would judge the addresses of Services and not those of the Pods behind them, got false (the environment variable ALLOW_NO_ENCAP_WITHOUT_FAIRWAY_PROXY=true makes this a warning)`;
		const without = (mode: string) =>
			`trafficEncapMode: ${mode}\nfairwayProxy: {enable: false}\nfoo: 1`;
		const unknown = `f.yaml:3:1: Cannot use foo: unknown key, expected one of ${KEYS}`;
		t.strictSame(errors(without("encap")), [unknown]);
		t.strictSame(errors(without("hybrid")), [refusal("hybrid", "2:24"), unknown]);
		t.strictSame(errors(without("NoEncap")), [refusal("noEncap", "2:24"), unknown]);
		t.strictSame(errors("trafficEncapMode: hybrid"), [], "it is true by default");
		const [ours, antreas] = OVERRIDES;
		const rows: [environment: Environment, allowed: boolean, warnings: RegExp[]][] = [
			...["1", "t", "T", "TRUE", "true", "True"].flatMap(
				(value): [Environment, boolean, RegExp[]][] => [
					[{ [ours]: value }, true, [/^fairwayProxy.enable is false in trafficEncapMode hybrid$/]],
					[{ [antreas]: value }, true, [/^fairwayProxy.enable is false/]],
				],
			),
			[{}, false, []],
			[{ [ours]: "" }, false, []],
			[
				{ [ours]: "yes" },
				false,
				[
					/^Cannot use the environment variable ALLOW_NO_ENCAP_WITHOUT_FAIRWAY_PROXY: expected 1, t, T, TRUE, true or True, got "yes"; it counts as false$/,
				],
			],
			[{ [ours]: " true" }, false, [/ALLOW_NO_ENCAP_WITHOUT_FAIRWAY_PROXY: .* got " true"/]],
			[
				{ [ours]: "tRue", [antreas]: "true" },
				true,
				[/ALLOW_NO_ENCAP_WITHOUT_FAIRWAY_PROXY: .* got "tRue"/, /^fairwayProxy.enable is false/],
			],
		];
		const hybrid = parsed("trafficEncapMode: hybrid\nfairwayProxy: {enable: false}", ANY_PROXY);
		for (const [environment, allowed, warnings] of rows) {
			const what = JSON.stringify(environment);
			t.strictSame(errors(without("hybrid"), environment).length, allowed ? 1 : 2, what);
			const given = proxyWarnings(hybrid, environment);
			t.equal(given.length, warnings.length, what);
			t.match(given, warnings, what);
		}
		t.strictSame(proxyWarnings(parsed(""), { [ours]: "true" }), [], "nothing to warn of");
		t.match(limitations(hybrid), [
			/^Egress NetworkPolicy judges the addresses of Services .*\.$/,
			/^Ingress NetworkPolicy sees a Node as the client .* fairwayProxy\.enable is false\.$/,
		]);
		const partly = "{proxyAll: false, proxyLoadBalancerIPs: false, skipServices: [default/own]}";
		t.match(limitations(parsed(`fairwayProxy: ${partly}`)), [
			/^Egress NetworkPolicy judges the addresses of NodePorts .* fairwayProxy\.proxyAll is false\.$/,
			/^Ingress NetworkPolicy sees a Node as the client .* fairwayProxy\.proxyAll is false\.$/,
			/^Egress NetworkPolicy judges the addresses of load balancer IPs/,
			/^Egress NetworkPolicy judges the addresses of some Services .* fairwayProxy\.skipServices/,
		]);
		t.strictSame(limitations(parsed("trafficEncapMode: hybrid")), []);
	},
);

t.test("the page of keys says what each list has, from the schema", (t) => {
	const rows = configurationPage()
		.split("\n")
		.filter((line) => line.includes("| list, "));
	const values = new Map(
		rows.map((row) => row.split(" | ").map((cell) => cell.trim()) as [string, string]),
	);
	t.equal(values.get("| `serviceCIDRs`"), "list, each a CIDR");
	t.equal(values.get("| `fairwayProxy.skipServices`"), "list, each NAMESPACE/NAME or a cluster IP");
	t.equal(values.get("| `fairwayProxy.countFlows`"), "list, each NAMESPACE/NAME");
	t.end();
});
