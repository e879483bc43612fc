/**
 * A Node with established flows, whose tables are written like the agent's: by the reconciler's TableState,
 * including epochs. So a test shows the effect of a change on the very next packet, not that of an epoch
 * raised by hand.
 */
import { equal, fail, ok } from "node:assert/strict";
import { originalKey } from "../../src/forwarder/flow.js";
import type { FibAnswer } from "../../src/forwarder/forwarder.js";
import type { Packet } from "../../src/forwarder/packet.js";
import { parse } from "../../src/forwarder/packet.js";
import { atOnce } from "../../src/loop/turns.js";
import { Links } from "../../src/reconcile/links.js";
import { AgentTables } from "../../src/reconcile/maps/agent_tables.js";
import { TableState } from "../../src/reconcile/maps/table_state.js";
import { entriesOf } from "../../src/reconcile/programs/migration.js";
import {
	Action,
	ActionName,
	DropReasonName,
	Endpoint,
	EndpointPolicy,
	type Flow,
	FlowKey,
	Limit,
	maps,
	NextHop,
	type NodeConfig,
	Path,
	type Peer,
} from "../../src/tables/generated.js";
import { noServiceMaps, type Tables } from "../../src/tables/tables.js";
import { check, type Input } from "./check.js";
import { type DataPath, type Outcome, PEER_INDEXES } from "./data_path.js";
import type { MemoryTables } from "./memory_tables.js";
import { ipBatch } from "./namespace.js";
import * as world from "./world.js";

export type Family = 4 | 6;
export const FAMILIES: readonly Family[] = [4, 6];

/** The expected result of a packet. Frames are compared byte by byte. */
export type Expected =
	| { frame: Buffer | ((out: Packet) => Buffer); device?: string }
	| { drop: string }
	| { pass: true };

/** How a peer is reached: its entry in `peers`, and the resulting packets. */
export interface PeerWay {
	name: string;
	path: number;
	outerFamily: Family;
}

export const WAYS: readonly PeerWay[] = [
	{ name: "direct", path: Path.DIRECT, outerFamily: 4 },
	{ name: "Geneve", path: Path.GENEVE, outerFamily: 4 },
	{ name: "VXLAN", path: Path.VXLAN, outerFamily: 4 },
	{ name: "Geneve over IPv6", path: Path.GENEVE, outerFamily: 6 },
	{ name: "down", path: Path.DOWN, outerFamily: 4 },
];

/** The agent's entry in `peers`. */
export function peerEntry(way: PeerWay, peer: world.PeerFacts, family: Family): Peer {
	const isTunnel = way.path === Path.GENEVE || way.path === Path.VXLAN;
	const outer = isTunnel ? way.outerFamily : family;
	return {
		path: way.path,
		outerFamily: outer,
		port: way.path === Path.GENEVE ? Limit.GENEVE_PORT : isTunnel ? Limit.VXLAN_PORT : 0,
		vni: isTunnel ? world.VNI : 0,
		local: isTunnel ? world.nodeAddress[outer] : "",
		remote: peer.transport[outer],
		mtu: isTunnel ? 1430 : 1500,
		flags: 0,
		policyEpoch: 0,
		nodeHash: BigInt(peer.id),
	};
}
export function writePeer(
	wanted: Tables,
	way: PeerWay,
	peer: world.PeerFacts,
	owner = peer.id,
): void {
	for (const [address, id] of wanted.peerAddresses)
		if (id === peer.id) wanted.peerAddresses.delete(address);
	for (const family of FAMILIES) {
		const index = peer.id * 2 + (family === 6 ? 1 : 0);
		wanted.peers.set(index, { ...peerEntry(way, peer, family), nodeHash: BigInt(owner) });
		wanted.peerAddresses.set(peer.transport[family], peer.id);
	}
}

export class Node {
	readonly dataPath: DataPath;
	/** The forwarder's tables; its result for every packet is compared. */
	tables: MemoryTables;
	readonly #state: TableState;
	readonly #links: Links;
	#wanted: Tables;
	/** Differences of the kernel's answers from world.ts. */
	readonly #macs = new Map<string, string>();
	readonly #fib = new Map<string, FibAnswer>();
	readonly #undo: string[] = [];

	constructor(dataPath: DataPath) {
		this.dataPath = dataPath;
		const names = Object.entries(world.ifindex);
		this.#links = new Links(
			names.map(([name, ifindex]) => ({ name, ifindex, mtu: 1500, up: true, hasEthernet: true })),
		);
		this.#state = new TableState(new AgentTables(dataPath.map));
		// Nothing isolates any Pod.
		const { OPEN } = EndpointPolicy;
		this.#state.policies.policiesOf = (_, endpoint) => ({ endpoint, egress: OPEN, ingress: OPEN });
		this.tables = world.makeTables(dataPath.flowSlots);
		this.#wanted = wantedTables(this.tables, this.#links);
	}

	/** Resets to the Node of world.ts, without learned state and with the kernel's original tables. */
	async begin(): Promise<void> {
		if (this.#undo.length > 0) ipBatch(this.#undo.splice(0).reverse());
		this.#fib.clear();
		this.#macs.clear();
		await this.dataPath.forget();
		this.tables = world.makeTables(this.dataPath.flowSlots);
		this.dataPath.writeProvenSenders(this.tables);
		const plain = world.makeTables(0);
		this.tables.onFib((query) => {
			const answer = this.#fib.get(query.destination) ?? plain.fib(query);
			const destinationMac = answer.kind === "forward" && this.#macs.get(answer.nextHop);
			return destinationMac ? { ...answer, destinationMac } : answer;
		});
		this.#wanted = wantedTables(plain, this.#links);
		this.change(() => undefined);
	}

	/** Applies a change like the agent. */
	change(edit: (wanted: Tables) => void): void {
		edit(this.#wanted);
		const host = world.indexOf("fairway0");
		// Tables are replaced, never changed.
		const wanted = structuredClone(this.#wanted);
		const { problems } = atOnce(this.#state.applySteps(wanted, this.#links, host));
		equal(problems.join(), "");
		const { peers, peerAddresses, routes, endpoints } = this.#wanted;
		const written = this.dataPath.map("endpoints");
		this.tables.config = this.#state.nodeConfig;
		replace(this.tables.peers, peers);
		replace(this.tables.peerAddresses, peerAddresses);
		replace(this.tables.routes, routes);
		replace(
			this.tables.endpoints,
			[...endpoints.keys()].map((address) => [
				address,
				// With the index that it was given when it was written.
				Endpoint.decode(written.lookup(maps.endpoints.key.encode(address))!),
			]),
		);
	}

	configure(change: Partial<Tables["nodeConfig"]>): void {
		this.change((wanted) => {
			wanted.nodeConfig = { ...wanted.nodeConfig, ...change };
		});
	}

	/** Runs `ip` commands on the Node; `undo` has those that revert them. */
	kernel(act: readonly string[], undo: readonly string[]): void {
		ipBatch([...act]);
		this.#undo.push(...[...undo].reverse());
	}

	/** The kernel learns another MAC of a neighbour, without telling Fairway. */
	neighbour(address: string, mac: string, before: string): void {
		const entry = (lladdr: string) =>
			`neighbour replace ${address} lladdr ${lladdr} dev wire0 nud permanent`;
		this.kernel([entry(mac)], [entry(before)]);
		this.#macs.set(address, mac);
	}

	/** Adds neighbour entries for a peer's addresses. */
	neighbours({ transport, mac }: world.PeerFacts): void {
		const entries = FAMILIES.map((family) => `${transport[family]} dev wire0`);
		this.kernel(
			entries.map((entry) => `neighbour replace ${entry} lladdr ${mac} nud permanent`),
			entries.map((entry) => `neighbour delete ${entry}`),
		);
		for (const family of FAMILIES) this.#macs.set(transport[family], mac);
	}

	/** Changes the kernel's routes, and so its answer for a destination. */
	routed(destination: string, answer: FibAnswer, act: string[], undo: string[] = []): void {
		this.kernel(act, undo);
		this.#fib.set(destination, answer);
	}

	/** Receives a neighbour message. */
	async hears(message: Input): Promise<void> {
		await this.expect(message, { pass: true });
		const settles = BigInt(Limit.NEXT_HOP_SETTLE_MS) * 1_000_000n;
		this.tables.settledUntil = process.hrtime.bigint() + settles;
	}

	/** Does what the agent does when `ip monitor` reports a route, link or neighbour. */
	nextHopsChanged(): void {
		this.#state.raiseNextHopEpoch();
		this.tables.config = this.#state.nodeConfig;
	}

	/** As if a neighbour message had arrived just after the next hop was cached, and had settled. */
	settled(index: number): void {
		const { checked } = this.dataPath.nextHop(index);
		const settle = Buffer.alloc(8);
		settle.writeBigUInt64LE(checked + 1n);
		this.dataPath.map("next_hop_settle").update(Buffer.alloc(4), settle);
		this.tables.settledUntil = process.hrtime.bigint();
		// The core's clock is coarse; its next tick is later.
		while (process.hrtime.bigint() < checked + 10_000_000n);
	}

	/** Runs one packet through the data path only. */
	run({ hook, packet, context }: Input): Outcome {
		return this.dataPath.run(hook, packet, { ...context, now: process.hrtime.bigint() });
	}

	/** The same, and whether the packet takes the fast path. */
	runTraced(input: Input): { outcome: Outcome; isFast: boolean } {
		return runTraced(this.dataPath, input);
	}

	/** As if the next hop of the packet's flow had been cached NEXT_HOP_TRUST_MS earlier. */
	endTrust(input: Input): void {
		const { remote } = this.flow(input);
		const trust = BigInt(Limit.NEXT_HOP_TRUST_MS) * 1_000_000n;
		const hop = this.dataPath.nextHop(remote);
		const place = Buffer.alloc(4);
		place.writeUInt32LE(remote);
		const old = { ...hop, checked: hop.checked - trust };
		this.dataPath.map("next_hops").update(place, NextHop.encode(old));
		this.tables.nextHops.set(remote, old);
	}

	/** As if the kernel had last been asked about the packet's flow so long ago that it has to be asked again. */
	endAnswer(input: Input): void {
		const flow = this.flow(input);
		const key = originalKey(flow);
		const asked = (flow.asked - Limit.FLOW_ASKED_TRUST) & 0xffff;
		this.dataPath.writeFlow(key, { asked });
		const text = FlowKey.encode(key).toString("hex");
		for (const [slot, flow] of this.tables.slots.entries())
			if (flow && FlowKey.encode(originalKey(flow)).toString("hex") === text)
				this.tables.slots[slot] = { ...flow, asked };
	}

	goesQuickWay(input: Input): boolean {
		return takesFastPath(this.dataPath, input);
	}

	/** Runs one packet through the data path and the forwarder. */
	async send(input: Input): Promise<Outcome> {
		const { outcome, differences } = await check(this.dataPath, this.tables, input);
		equal(differences.join("; "), "", "the forwarder says the same");
		return outcome;
	}

	/** Checks the exact result of one packet. */
	async expect(input: Input, expected: Expected): Promise<void> {
		compare(await this.send(input), expected);
	}

	/**
	 * Checks that a packet is on the fast path: its flow is known, its next hop cached. Meanwhile the tables
	 * that it was learned from are removed without telling the core, and it must still be forwarded.
	 */
	async onFastPath(input: Input, expected: Expected): Promise<void> {
		const before = this.flow(input);
		const flows = this.dataPath.flows().length;
		this.withoutTables(() => {
			renewTrust(this.dataPath);
			let outcome = this.run(input);
			// A next hop is occasionally resolved again: see the tests of next hops.
			while (outcome.verdict.action === Action.WIRE_NEIGHBOUR) outcome = this.run(input);
			compare(outcome, expected);
		});
		equal(this.flow(input).claim, before.claim, "the same flow, in the same slot");
		equal(this.dataPath.flows().length, flows, "and no other was made");
	}

	/** Removes the tables that flows are learned from during `act`, without telling the core. */
	withoutTables(act: () => void): void {
		const learnedFrom = ["routes", "endpoints", "peer_addresses"].map(this.dataPath.map);
		const entries = learnedFrom.map((map) => [...entriesOf(map)]);
		try {
			for (const [i, map] of learnedFrom.entries())
				for (const { key } of entries[i] ?? []) map.delete(key);
			act();
		} finally {
			for (const [i, map] of learnedFrom.entries())
				for (const { key, value } of entries[i] ?? []) map.update(key, value);
		}
	}

	/** Makes the packet's flow silent for longer than any time-out. */
	expire(input: Input): void {
		const flow = this.flow(input);
		const { lastSeen } = flow;
		const key = originalKey(flow);
		const ages = BigInt(Math.max(...this.tables.config.flowTimeouts) + 1) * 1_000_000_000n;
		const text = FlowKey.encode(key).toString("hex");
		this.dataPath.writeFlow(key, { lastSeen: lastSeen - ages });
		for (const [slot, flow] of this.tables.slots.entries())
			if (flow && FlowKey.encode(originalKey(flow)).toString("hex") === text)
				this.tables.slots[slot] = { ...flow, lastSeen: flow.lastSeen - ages };
	}

	/** The flow of a packet, or of the packet inside its tunnel. */
	flow(input: Input): Flow {
		const key = innermostKey(input.packet);
		const found = this.dataPath.flow(key);
		if (!found) fail(`no flow of ${key.source} ${key.sourcePort} > ${key.destination}`);
		return found.flow;
	}
}

/** The core's clock may be this much behind. */
const COARSE_NS = 10_000_000n;

/**
 * As if the kernel had just been asked about all next hops and gateways that are in force, so that the time which a
 * busy machine takes between two packets of a test does not end the trust in them.
 */
export function renewTrust(dataPath: DataPath): void {
	const now = process.hrtime.bigint() - COARSE_NS;
	const asked = Number((now >> BigInt(Limit.FLOW_ASKED_SHIFT)) & 0xffffn);
	const { nextHopEpoch } = dataPath.config;
	const settled = dataPath.map("next_hop_settle").lookup(Buffer.alloc(4))?.readBigUInt64LE() ?? 0n;
	const indexes = new Set(Array.from({ length: PEER_INDEXES * 2 }, (_, index) => index));
	for (const flow of dataPath.flows()) {
		if (flow.remote < Limit.NEXT_HOP_OUTSIDE) continue;
		indexes.add(flow.remote);
		if (flow.remoteEpoch === (nextHopEpoch & 0xffff))
			dataPath.writeFlow(originalKey(flow), { asked });
	}
	for (const index of indexes) {
		const hop = dataPath.nextHop(index);
		if (hop.checked > Limit.NEXT_HOP_WRITING && hop.epoch === nextHopEpoch)
			if (hop.checked >= settled && hop.checked < now)
				dataPath.writeNextHop(index, { ...hop, checked: now });
	}
}

/** Whether a packet takes the fast path. */
export function takesFastPath(dataPath: DataPath, input: Input): boolean {
	renewTrust(dataPath);
	const { outcome, isFast } = runTraced(dataPath, input);
	// The full path occasionally resolves a next hop again.
	if (outcome.verdict.action === Action.WIRE_NEIGHBOUR) return takesFastPath(dataPath, input);
	return isFast;
}

/** `isFast`: on the fast path (bpf/lib/established.h). The full path begins with `scratch`. */
function runTraced(dataPath: DataPath, { hook, packet, context }: Input) {
	const scratch = dataPath.map("scratch");
	const key = Buffer.alloc(4);
	const untouched = Buffer.alloc(scratch.lookup(key)?.length ?? 0, 0xa5);
	scratch.update(key, untouched);
	const outcome = dataPath.run(hook, packet, { ...context, now: process.hrtime.bigint() });
	const isFast = scratch.lookup(key)?.subarray(0, 64).equals(untouched.subarray(0, 64)) ?? false;
	return { outcome, isFast };
}

export function compare({ verdict, packet }: Outcome, expected: Expected): void {
	const action = ActionName[verdict.action];
	const drop = DropReasonName[verdict.dropReason];
	if ("drop" in expected) {
		equal(drop, expected.drop, `${action}`);
		return;
	}
	equal(drop, "none");
	if ("pass" in expected) {
		equal(action, "pass");
		return;
	}
	const { frame, device = "wire0" } = expected;
	ok(["wire", "wire_neighbour", "endpoint", "host"].includes(action ?? ""), `${action}`);
	equal(verdict.ifindex, world.indexOf(device), `by ${device}`);
	const read = parse(packet);
	if (!read) fail("what came out cannot be read");
	const wanted = typeof frame === "function" ? frame(read) : frame;
	equal(packet.toString("hex"), wanted.toString("hex"));
}

/** The key of the packet inside a tunnel, otherwise of the packet itself. */
function innermostKey(frame: Buffer): FlowKey {
	const outer = parse(frame);
	if (!outer) fail("the packet cannot be read");
	const ports: number[] = [Limit.GENEVE_PORT, Limit.VXLAN_PORT];
	const inner = ports.includes(outer.key.destinationPort)
		? parse(frame.subarray(outer.l4 + 16))
		: undefined;
	return (inner ?? outer).key;
}

function wantedTables(tables: MemoryTables, links: Links): Tables {
	const {
		routeEpoch,
		nextHopEpoch,
		hostIfindex,
		flowHash,
		portHash,
		probeKey,
		strippedMac,
		...nodeConfig
	}: NodeConfig = tables.config;
	return {
		nodeConfig,
		peers: new Map(tables.peers),
		peerPaths: new Map(tables.peerPaths),
		peerAddresses: new Map(tables.peerAddresses),
		peerGateways: new Map(tables.peerGateways),
		sourceAddresses: new Map(),
		routes: new Map(tables.routes),
		...noServiceMaps(),
		endpoints: new Map(
			[...tables.endpoints].map(([address, { ifindex, mac }]) => [
				address,
				{ interface: links.at(ifindex)?.name ?? "", mac },
			]),
		),
		hostRoutes: new Map(),
		gatewayAddresses: [],
		gatewayMac: nodeConfig.gatewayMac,
		wireInterfaces: [],
		linkInterfaces: [],
		stackSnat: false,
		stackAnswers: false,
		xdp: "auto",
		tunnelPort: 0,
	};
}

function replace<K, V>(map: Map<K, V>, entries: Iterable<readonly [K, V]>): void {
	const all = [...entries];
	map.clear();
	for (const [key, value] of all) map.set(key, value);
}
