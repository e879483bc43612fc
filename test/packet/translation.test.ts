/**
 * Flows whose destination, source or both are translated: the tuples that they have decide what leaves,
 * on the full path and on the fast one, in both directions, and in what ICMP errors quote. The flows are
 * written into the table, as whoever chooses a backend would begin them.
 */
import t, { type Test } from "tap";
import { NOTHING_REMEMBERED, tuplesOf } from "../../src/forwarder/flow.js";
import {
	ClaimBit,
	type Flow,
	FlowFlag,
	type FlowKey,
	FlowState,
	Hook,
} from "../../src/tables/generated.js";
import * as build from "./builder.js";
import type { Input } from "./check.js";
import { HOOKS, intoPod, sides } from "./conversation.js";
import { DataPath } from "./data_path.js";
import { type Expected, FAMILIES, type Family, Node } from "./fast_path.js";
import { inNamespace } from "./namespace.js";
import { fromPod, fromWire, onWire } from "./table.js";
import * as world from "./world.js";

const { podA, podB, outside, nodeAddress } = world;
/** In no service CIDR: these flows have no backend of a Service. */
const virtual = { 4: "10.97.0.10", 6: "fd00:10:97::a" };
const SLOT = 77;
const UDP = 17;
const TCP = 6;
const SCTP = 132;

const ESTABLISHED: Readonly<Record<number, number>> = {
	[UDP]: FlowState.UDP_ESTABLISHED,
	[TCP]: FlowState.TCP_ESTABLISHED,
	[SCTP]: FlowState.SCTP_ESTABLISHED,
};

/** An end of a flow: address and port. */
type End = readonly [address: string, port: number];
type Tuple = readonly [source: End, destination: End];

/** One direction: how its packets come to the Node, and how they leave it. */
interface Way {
	comes: (packet: Buffer, hook: number) => Input;
	leaves: (packet: Buffer) => Expected;
	/** The hooks that they may come by. */
	hooks: readonly number[];
}

interface Translation {
	name: string;
	flags: number;
	/** As the initiator's packets and the answers come in. */
	tuples: readonly [original: Tuple, reply: Tuple];
	ways: readonly [Way, Way];
}

const byPod = (pod: world.Pod): Pick<Way, "comes" | "hooks"> => ({
	comes: (packet) => fromPod(pod, packet),
	hooks: [Hook.FROM_POD],
});
const byWire: Pick<Way, "comes" | "hooks"> = {
	comes: (packet, hook) => ({ ...fromWire(packet), hook }),
	hooks: HOOKS,
};
const toOutside = (packet: Buffer): Expected => ({ frame: onWire(world.ROUTER_MAC, packet) });

function translations(family: Family): Translation[] {
	const [a, b] = [podA[family], podB[family]];
	const service: End = [virtual[family], 80];
	const node = nodeAddress[family];
	const original: Tuple = [[a, 50001], service];
	const toPeers = sides(family)
		.filter(({ translated }) => !translated)
		.map(
			({ name, sent, received }, i): Translation => ({
				name: `a Pod, to a backend of ${name}`,
				flags: FlowFlag.DNAT,
				tuples: [
					original,
					[
						[world.peers[i]!.pod[family], 8080],
						[a, 50001],
					],
				],
				ways: [
					{ ...byPod(podA), leaves: sent },
					{ comes: received, hooks: HOOKS, leaves: (packet) => intoPod(packet) },
				],
			}),
		);
	return [
		...toPeers,
		{
			name: "a Pod, to a backend on the same Node",
			flags: FlowFlag.DNAT,
			tuples: [
				original,
				[
					[b, 8080],
					[a, 50001],
				],
			],
			ways: [
				{ ...byPod(podA), leaves: (packet) => intoPod(packet, podB) },
				{ ...byPod(podB), leaves: (packet) => intoPod(packet) },
			],
		},
		{
			name: "a Pod, to a backend outside, with SNAT",
			flags: FlowFlag.DNAT | FlowFlag.SNAT,
			tuples: [
				original,
				[
					[outside[family], 8443],
					[node, 60001],
				],
			],
			ways: [
				{ ...byPod(podA), leaves: toOutside },
				{ ...byWire, leaves: (packet) => intoPod(packet) },
			],
		},
		{
			name: "a client outside, to a port of the Node",
			flags: FlowFlag.DNAT,
			tuples: [
				[
					[outside[family], 40000],
					[node, 30080],
				],
				[
					[a, 8080],
					[outside[family], 40000],
				],
			],
			ways: [
				{ ...byWire, leaves: (packet) => intoPod(packet) },
				{ ...byPod(podA), leaves: toOutside },
			],
		},
	];
}

function keyOf([source, destination]: Tuple, protocol: number): FlowKey {
	return {
		source: source[0],
		destination: destination[0],
		sourcePort: source[1],
		destinationPort: destination[1],
		protocol,
	};
}

const reversed = ([source, destination]: Tuple): Tuple => [destination, source];

function packetOf([source, destination]: Tuple, protocol: number, ttl: number): Buffer {
	const [from, to] = [source[1], destination[1]];
	const data = Buffer.from("both ways");
	const segment = {
		[UDP]: () => build.udp(from, to, data),
		[TCP]: () => build.tcp(from, to, { flags: build.ACK, payload: data }),
		[SCTP]: () => build.sctp(from, to, 3, data),
	}[protocol]!();
	return build.ip({ source: source[0], destination: destination[0], ttl }, segment);
}

/** The flow, answered, with nothing known of its ends. */
function begin(node: Node, { flags, tuples }: Translation, protocol: number): void {
	const [original, reply] = tuples.map((tuple) => keyOf(tuple, protocol)) as [FlowKey, FlowKey];
	const flow: Flow = {
		lastSeen: process.hrtime.bigint(),
		claim: ((9 << 1) | ClaimBit.IN_USE | ClaimBit.PUBLISHED) >>> 0,
		state: ESTABLISHED[protocol]!,
		flags: flags | FlowFlag.REPLIED,
		...tuplesOf(original, reply),
		endpoint: 1,
		...NOTHING_REMEMBERED,
	};
	node.dataPath.putFlow(SLOT, flow);
	node.tables.putFlow(SLOT, flow);
}

/** What comes in at XDP and is TCP goes up, for GRO and TC. */
const isDecidedAt = (hook: number, protocol: number) =>
	hook !== Hook.FROM_WIRE_XDP || protocol !== TCP;

async function packets(node: Node, translation: Translation, protocol: number): Promise<void> {
	const { tuples, ways } = translation;
	const exchange = async (act: (input: Input, expected: Expected) => Promise<void>) => {
		for (const [direction, way] of ways.entries()) {
			const comes = packetOf(tuples[direction]!, protocol, 64);
			const leaves = packetOf(reversed(tuples[direction ^ 1]!), protocol, 63);
			for (const hook of way.hooks.filter((hook) => isDecidedAt(hook, protocol)))
				await act(way.comes(comes, hook), way.leaves(leaves));
		}
	};
	await node.begin();
	begin(node, translation, protocol);
	await exchange((input, expected) => node.expect(input, expected));
	if (protocol !== SCTP) await exchange((input, expected) => node.onFastPath(input, expected));
	// What the agent changes, the full path finds again.
	node.change(({ routes }) => routes.delete("172.16.0.0/12"));
	await exchange((input, expected) => node.expect(input, expected));
}

/** Errors about packets of one direction travel in the other. */
async function errors(node: Node, translation: Translation, family: Family): Promise<void> {
	const { tuples, ways } = translation;
	await node.begin();
	begin(node, translation, UDP);
	for (const [direction, way] of ways.entries()) {
		const [came, goes] = [tuples[direction]!, reversed(tuples[direction ^ 1]!)];
		const about = packetOf(reversed(came), UDP, 63);
		const shown = packetOf(reversed(goes), UDP, 63);
		const router = family === 4 ? "203.0.113.254" : "2001:db8:ffff::1";
		const isFromOutside = way.hooks === HOOKS && came[0][0] === outside[family];
		for (const speaker of isFromOutside ? [undefined, router] : [undefined]) {
			const error = (source: string, tuple: Tuple, quoted: Buffer, ttl: number) =>
				build.ip({ source, destination: tuple[1][0], ttl }, build.timeExceeded(quoted));
			const comes = error(speaker ?? came[0][0], came, about, 64);
			const leaves = error(speaker ?? goes[0][0], goes, shown, 63);
			const hook = way.hooks[0]!;
			await node.expect(way.comes(comes, hook), way.leaves(leaves));
		}
	}
}

async function shown(t: Test, what: () => Promise<void>): Promise<void> {
	await what();
	t.pass("both ways");
}

if (inNamespace(import.meta.url)) {
	world.makeNetwork();
	const dataPath = new DataPath({ flowSlots: 128 });
	t.teardown(() => dataPath.close());
	const node = new Node(dataPath);
	for (const family of FAMILIES)
		for (const translation of translations(family)) {
			const name = `IPv${family}: ${translation.name}`;
			t.test(`${name}: UDP`, (t) => shown(t, () => packets(node, translation, UDP)));
			t.test(`${name}: TCP`, (t) => shown(t, () => packets(node, translation, TCP)));
			t.test(`${name}: SCTP, its CRC32c included`, (t) =>
				shown(t, () => packets(node, translation, SCTP)),
			);
			t.test(`${name}: ICMP errors`, (t) => shown(t, () => errors(node, translation, family)));
		}
}
