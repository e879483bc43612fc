/** Properties of compile over random configurations, clusters and networks, plausible or not. */
import assert from "node:assert/strict";
import fc from "fast-check";
import t from "tap";
import { admitAll } from "../../src/cluster/admission.js";
import { type CompileInput, compile } from "../../src/compile/compile.js";
import { parseAddress } from "../../src/tables/address.js";
import {
	Limit,
	maps,
	Path,
	Peer,
	ProbeWay,
	type Route,
	RouteFlag,
	RouteKind,
} from "../../src/tables/generated.js";
import { containsAddress, overlap, parsePrefix } from "../../src/tables/prefix.js";
import { addressText, compileInput } from "../tools/arbitrary.js";

/** Longest match in the 128-bit space that both families share in the kernel's trie. */
function lookup(routes: ReadonlyMap<string, Route>, address: string): Route | undefined {
	const key = maps.routes.key;
	const wanted = parseAddress(address)!;
	let best: { bits: number; route: Route } | undefined;
	for (const [prefix, route] of routes) {
		const encoded = key.encode(prefix);
		const bits = encoded.readUInt32LE(0);
		const bytes = encoded.subarray(4);
		let same = true;
		for (let bit = 0; bit < bits && same; bit++)
			same = ((bytes[bit >> 3]! ^ wanted[bit >> 3]!) & (0x80 >> (bit & 7))) === 0;
		if (same && (best === undefined || bits > best.bits)) best = { bits, route };
	}
	return best?.route;
}

/** Only Nodes that a registry would accept together. */
function admitted(input: CompileInput): CompileInput {
	const { nodes } = admitAll(input.snapshot.nodes.values());
	return { ...input, snapshot: { nodes } };
}

t.test(
	"nothing makes it throw, it is the same twice, and it changes none of its input",
	async () => {
		fc.assert(
			fc.property(compileInput, (input) => {
				const before = structuredClone(input);
				const first = compile(input);
				assert.deepEqual(compile(input), first);
				assert.deepEqual(
					compile(structuredClone(input)),
					first,
					"nothing depends on what was before",
				);
				assert.deepEqual(structuredClone(input), before);
			}),
			{ numRuns: 500 },
		);
	},
);

t.test(
	"every peer's pod CIDR is routed to it, and nothing to a peer that is not there",
	async () => {
		let ready = 0;
		fc.assert(
			fc.property(compileInput.map(admitted), (input) => {
				const result = compile(input);
				if (!result.ready) return;
				ready++;
				const { tables } = result;
				for (const node of input.snapshot.nodes.values()) {
					const id = input.peerIds.get(node.name);
					for (const prefix of node.podCIDRs) {
						const route = tables.routes.get(prefix);
						if (node.name === input.nodeName) assert.equal(route?.kind, RouteKind.LOCAL_PODS);
						else assert.deepEqual([route?.kind, route?.peer], [RouteKind.PEER, id]);
					}
					if (id === undefined) continue;
					for (const address of node.transportAddresses)
						assert.ok(
							tables.peerAddresses.has(address) ||
								result.problems.length > 0 ||
								tables.routes.get(`${address}/${address.includes(":") ? 128 : 32}`)?.kind ===
									RouteKind.HOST,
						);
				}
				const known = new Set(
					[...input.snapshot.nodes.keys()].map((name) => input.peerIds.get(name)),
				);
				for (const { kind, peer } of tables.routes.values())
					assert.ok(kind === RouteKind.PEER ? known.has(peer) : peer === Limit.NO_PEER);
				for (const peer of tables.peerAddresses.values()) assert.ok(known.has(peer));
				for (const index of tables.peers.keys()) assert.ok(known.has(index >> 1));
				for (const [index, peer] of tables.peerPaths) {
					const native = peer.path === Path.DIRECT || peer.path === Path.ROUTED;
					assert.ok(tables.peers.has(index >> 1));
					assert.equal(native, (index & 1) === ProbeWay.DIRECT, "each way in its place");
					const { path, remote } = tables.peers.get(index >> 1)!;
					if (path === peer.path) assert.equal(remote, peer.remote, "asked where packets go");
				}
				for (const [gateway, id] of tables.peerGateways)
					assert.equal(lookup(tables.routes, gateway)?.peer, id, "in the peer's pod CIDR");
				for (const { path, remote, outerFamily, mtu } of tables.peers.values()) {
					const down = path === Path.NONE || path === Path.DOWN;
					// A peer that probes found down still has its address.
					assert.ok(down || remote !== "");
					assert.equal(outerFamily, remote === "" ? 0 : remote.includes(":") ? 6 : 4);
					assert.ok(down ? mtu === 0 : mtu > 1000 && mtu <= 9000);
				}
			}),
			{ numRuns: 500 },
		);
		assert.ok(ready > 50, `only ${ready} of 500 had a transport address`);
	},
);

t.test("every address gets the treatment of its longest prefix", async () => {
	fc.assert(
		fc.property(compileInput.map(admitted), addressText, (input, address) => {
			const result = compile(input);
			if (!result.ready) return;
			const bytes = parseAddress(address)!;
			const found = lookup(result.tables.routes, address);
			const inside = (prefix: string) => containsAddress(parsePrefix(prefix), bytes);
			const owner = [...input.snapshot.nodes.values()].find(({ podCIDRs }) =>
				podCIDRs.some(inside),
			);
			const excluded = input.config.snat.excludeCIDRs.some(inside);
			const local = result.tables.routes.get(`${address}/${address.includes(":") ? 128 : 32}`);
			if (local?.kind === RouteKind.HOST) assert.equal(found?.kind, RouteKind.HOST);
			else if (owner?.name === input.nodeName) assert.equal(found?.kind, RouteKind.LOCAL_PODS);
			else if (owner !== undefined) assert.equal(found?.peer, input.peerIds.get(owner.name));
			else {
				assert.equal(found?.kind ?? RouteKind.OUTSIDE, RouteKind.OUTSIDE);
				assert.equal(((found?.flags ?? 0) & RouteFlag.NO_SNAT) !== 0, excluded, address);
			}
		}),
		{ numRuns: 1000 },
	);
});

t.test("everything fits the kernel's tables", async () => {
	fc.assert(
		fc.property(compileInput, (input) => {
			const result = compile(input);
			if (!result.ready) return;
			const { tables } = result;
			for (const peer of [...tables.peers.values(), ...tables.peerPaths.values()])
				assert.deepEqual(Peer.decode(Peer.encode(peer)), peer);
			for (const [prefix, route] of tables.routes) {
				assert.equal(maps.routes.key.decode(maps.routes.key.encode(prefix)), prefix);
				assert.deepEqual(maps.routes.value.decode(maps.routes.value.encode(route)), route);
			}
			for (const address of tables.endpoints.keys()) assert.ok(parseAddress(address));
			const whole = {
				...tables.nodeConfig,
				routeEpoch: 0,
				nextHopEpoch: 0,
				hostIfindex: 0,
				flowHash: { word: [0, 0, 0, 0, 0, 0] },
				portHash: { word: [0, 0, 0, 0, 0, 0] },
				probeKey: [0n, 0n],
				strippedMac: 0n,
			};
			assert.deepEqual(maps.nodeConfig.value.decode(maps.nodeConfig.value.encode(whole)), whole);
			for (const { reason, path } of result.peers) {
				assert.match(reason, /^\S.*\.$/);
				assert.notEqual(path, undefined);
			}
		}),
	);
});

t.test("each mode uses only its paths", async () => {
	fc.assert(
		fc.property(compileInput, (input) => {
			const result = compile(input);
			if (!result.ready) return;
			const allowed = {
				encap: [input.config.tunnelType, "down"],
				noEncap: ["direct", "routed", "down"],
				hybrid: ["direct", "routed", input.config.tunnelType, "down"],
			}[input.config.trafficEncapMode];
			const { trafficEncapMode: mode, hybrid } = input.config;
			const inside = (cidrs: readonly string[], address: string) =>
				cidrs.some((cidr) => containsAddress(parsePrefix(cidr), parseAddress(address)!));
			for (const { id, path, family, transportAddress } of result.peers) {
				const verdict = input.verdicts?.get(id * 2 + (family === 6 ? 1 : 0));
				// noEncap leaves the tunnel when the peer has said that it takes direct packets.
				const leaves = mode === "noEncap" && verdict?.use === "tunnel";
				const paths = leaves ? [...allowed, input.config.tunnelType] : allowed;
				assert.ok((paths as string[]).includes(path), path);
				if (mode === "hybrid" && (path === "direct" || path === "routed")) {
					assert.ok(!inside(hybrid.neverDirectCIDRs, transportAddress), "never directly");
					if (path === "routed") assert.ok(inside(hybrid.tryDirectCIDRs, transportAddress));
					assert.ok(hybrid.direct === "subnet" || verdict?.use === "direct", "proven");
				}
				if (path === "direct" || path === "routed")
					assert.equal(transportAddress.includes(":"), family === 6);
			}
		}),
		{ numRuns: 500 },
	);
});

t.test("accepted pod CIDRs do not overlap", async () => {
	fc.assert(
		fc.property(compileInput.map(admitted), ({ snapshot }) => {
			const all = [...snapshot.nodes.values()].flatMap(({ name, podCIDRs }) =>
				podCIDRs.map((text) => ({ name, prefix: parsePrefix(text) })),
			);
			for (const a of all)
				for (const b of all) assert.ok(a.name === b.name || !overlap(a.prefix, b.prefix));
		}),
	);
});
