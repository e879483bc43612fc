import assert from "node:assert/strict";
import fc from "fast-check";
import t from "tap";
import { compile } from "../../src/compile/compile.js";
import { applySteps, diff, diffMap, MAPS, type Step } from "../../src/tables/diff.js";
import type { Tables } from "../../src/tables/tables.js";
import { compileInput } from "../tools/arbitrary.js";

const tables: fc.Arbitrary<Tables> = compileInput
	.map((input) => compile(input))
	.filter((result) => result.ready)
	.map((result) => (result as { tables: Tables }).tables);

/** Rows for each step: "put routes 10.244.1.0/24". */
function shown(steps: Step[]): string[] {
	return steps.map((step) => {
		const keys =
			"entries" in step ? step.entries.map(([key]) => key) : "keys" in step ? step.keys : [];
		return [step.op, step.table, ...keys].join(" ");
	});
}

const peer = {
	path: 1,
	outerFamily: 4,
	port: 0,
	vni: 0,
	local: "",
	remote: "192.168.0.2",
	mtu: 1500,
	flags: 0,
	nodeHash: 5n,
};

function small(change: Partial<Tables> = {}): Tables {
	return {
		nodeConfig: {
			...{
				flags: 1,
				vni: 1,
				snatAddress4: "",
				snatAddress6: "",
				gatewayAddress4: "",
				gatewayAddress6: "",
			},
			...{
				gatewayMac: "06:00:00:00:00:01",
				snatPortFirst: 1,
				snatPortLast: 2,
				genevePort: 6081,
				vxlanPort: 0,
				wireMacs: [0n, 0n, 0n, 0n],
			},
			...{ transportMtu: 1500, slowPathRate: 1, flowTimeouts: [1, 2] },
		},
		peers: new Map([[0, peer]]),
		peerPaths: new Map([[0, peer]]),
		peerGateways: new Map([["10.244.2.1", 0]]),
		sourceAddresses: new Map(),
		peerAddresses: new Map([["192.168.0.2", 0]]),
		routes: new Map([["10.244.2.0/24", { kind: 3, flags: 0, mtu: 0, peer: 0 }]]),
		endpoints: new Map([
			["10.244.1.2", { mac: "06:00:00:00:00:02", interface: "fairway00000001" }],
		]),
		hostRoutes: new Map([
			["10.244.2.0/24", { prefix: "10.244.2.0/24", mtu: 1500, source: "10.244.1.1" }],
		]),
		gatewayAddresses: ["10.244.1.1"],
		gatewayMac: "06:00:00:00:00:01",
		wireInterfaces: ["eth0"],
		linkInterfaces: [],
		stackSnat: false,
		xdp: "auto",
		tunnelPort: 6081,
		...change,
	};
}

const none = {
	peers: new Map(),
	peerPaths: new Map(),
	peerAddresses: new Map(),
	peerGateways: new Map(),
	sourceAddresses: new Map(),
	routes: new Map(),
	endpoints: new Map(),
	hostRoutes: new Map(),
};

t.test("the writes and their order", async (t) => {
	const rows: [what: string, from: Tables | undefined, to: Tables, steps: string[]][] = [
		["nothing", small(), small(), []],
		[
			"all of it, from nothing",
			undefined,
			small(),
			[
				"put gateway",
				"put peerPaths 0",
				"put peers 0",
				"put peerAddresses 192.168.0.2",
				"put peerGateways 10.244.2.1",
				"put endpoints 10.244.1.2",
				"put routes 10.244.2.0/24",
				"put hostRoutes 10.244.2.0/24",
				"put wire",
				"put nodeConfig",
			],
		],
		[
			"removals in reverse",
			small(),
			small(none),
			[
				"remove hostRoutes 10.244.2.0/24",
				"remove routes 10.244.2.0/24",
				"remove endpoints 10.244.1.2",
				"remove peerGateways 10.244.2.1",
				"remove peerAddresses 192.168.0.2",
				"remove peers 0",
				"remove peerPaths 0",
			],
		],
		["one path", small(), small({ peers: new Map([[0, { ...peer, path: 3 }]]) }), ["put peers 0"]],
		[
			"a way to ask",
			small(),
			small({ peerPaths: new Map([[1, { ...peer, path: 3 }]]) }),
			["put peerPaths 1", "remove peerPaths 0"],
		],
		[
			"whose a gateway is",
			small(),
			small({ peerGateways: new Map([["10.244.2.1", 1]]) }),
			["put peerGateways 10.244.2.1"],
		],
		[
			"a bigint",
			small(),
			small({ peers: new Map([[0, { ...peer, nodeHash: 6n }]]) }),
			["put peers 0"],
		],
		[
			"a number",
			small(),
			small({ peerAddresses: new Map([["192.168.0.2", 1]]) }),
			["put peerAddresses 192.168.0.2"],
		],
		[
			"a timeout",
			small(),
			small({ nodeConfig: { ...small().nodeConfig, flowTimeouts: [1, 3] } }),
			["put nodeConfig"],
		],
		["the XDP mode", small(), small({ xdp: "off" }), ["put wire"]],
		["the tunnels' port", small(), small({ tunnelPort: 0 }), ["put wire"]],
		["the gateway's MAC", small(), small({ gatewayMac: "06:00:00:00:00:09" }), ["put gateway"]],
		[
			"a put before a removal",
			small(),
			small({ routes: new Map([["10.244.3.0/24", { kind: 3, flags: 0, mtu: 0, peer: 0 }]]) }),
			["put routes 10.244.3.0/24", "remove routes 10.244.2.0/24"],
		],
	];
	for (const [what, from, to, steps] of rows) t.same(shown(diff(from, to)), steps, what);
});

t.test("differences of maps", async (t) => {
	const value = (path: number) => ({ path, list: [path] });
	const from = new Map([
		["a", value(1)],
		["b", value(2)],
		["c", value(3)],
	]);
	const to = new Map([
		["a", value(1)],
		["b", value(9)],
		["d", value(4)],
	]);
	t.same(diffMap(from, to), {
		put: [
			["b", value(9)],
			["d", value(4)],
		],
		remove: ["c"],
	});
	t.same(diffMap(new Map([["a", undefined]]), new Map([["b", undefined]])), {
		put: [["b", undefined]],
		remove: ["a"],
	});
	t.same(
		diffMap<string, object>(new Map([["a", { x: undefined }]]), new Map([["a", { y: undefined }]]))
			.put.length,
		1,
	);
});

t.test("random tables: diff(a, a) is empty, and a plus diff(a, b) is b", async () => {
	fc.assert(
		fc.property(tables, tables, (a, b) => {
			assert.deepEqual(diff(a, a), []);
			assert.deepEqual(diff(a, structuredClone(a)), []);
			const steps = diff(a, b);
			assert.deepEqual(applySteps(a, steps), b);
			for (const step of steps) {
				if ("entries" in step) assert.ok(step.entries.length > 0);
				if ("keys" in step) assert.ok(step.keys.length > 0);
			}
			const empty = { ...a, ...none };
			assert.deepEqual(applySteps(empty, diff(undefined, b)), b);
		}),
	);
});

t.test("random tables: no step leaves a route to a missing peer", async () => {
	fc.assert(
		fc.property(tables, tables, (a, b) => {
			let now = a;
			for (const step of diff(a, b)) {
				now = applySteps(now, [step]);
				for (const { kind, peer } of now.routes.values())
					if (kind === 3)
						assert.ok(now.peers.has(peer * 2), `peer ${peer} after ${step.op} ${step.table}`);
				for (const table of [now.peerAddresses, now.peerGateways])
					for (const peer of table.values()) assert.ok(now.peers.has(peer * 2));
			}
			assert.equal(MAPS.length, 8);
		}),
	);
});
