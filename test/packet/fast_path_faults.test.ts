/**
 * Typical faults of flow caches, tested with packets of established flows: fragments, more flows than slots,
 * unanswered flows, DSCP, TTL, checksum and length of the outer header, and tunnel packets that pretend to
 * belong to a known flow.
 */
import { equal, ok } from "node:assert/strict";
import t, { type Test } from "tap";
import { EventCounter, Path } from "../../src/tables/generated.js";
import * as build from "./builder.js";
import type { Input } from "./check.js";
import { Conversation, HOOKS, hookText, intoPod, type Side, sides } from "./conversation.js";
import { DataPath } from "./data_path.js";
import {
	compare,
	type Expected,
	FAMILIES,
	type Family,
	Node,
	type PeerWay,
	WAYS,
} from "./fast_path.js";
import { inNamespace } from "./namespace.js";
import { fromPod, fromWire, tunnelled } from "./table.js";
import * as world from "./world.js";

const { podA, podB, direct, geneve4, vxlan4, geneve6 } = world;
const [TC, XDP] = HOOKS;

/** Puts a flow on the fast path in both directions. */
async function establish(node: Node, { talk, sent, received }: Side): Promise<void> {
	await node.begin();
	await node.send(talk.out());
	await node.send(received(talk.answer, TC));
	await node.onFastPath(talk.out(), sent(talk.left));
	for (const hook of HOOKS) await node.onFastPath(received(talk.answer, hook), talk.delivered());
}

async function stillFast(node: Node, { talk, sent, received }: Side): Promise<void> {
	await node.onFastPath(talk.out(), sent(talk.left));
	for (const hook of HOOKS) await node.onFastPath(received(talk.answer, hook), talk.delivered());
	equal(node.dataPath.flows().length, 1, "one flow");
	equal(node.dataPath.event(EventCounter.UNTRACKED), 0n, "which every packet was found to be of");
}

async function fragments(node: Node, side: Side): Promise<void> {
	await establish(node, side);
	const { sent, received } = side;
	const talk = side.talk.with({ how: { dontFragment: false }, data: Buffer.alloc(3000, 7) });
	const parts = (packet: Buffer, id: number) => build.fragmented(packet, 800, id);
	const leaving = parts(talk.left, 1);
	for (const [i, fragment] of parts(talk.question, 1).entries())
		await node.expect(fromPod(podA, fragment), sent(leaving[i]!));
	for (const [id, hook] of [
		[2, TC],
		[3, XDP],
	] as const) {
		const arriving = parts(talk.received, id);
		for (const [i, fragment] of parts(talk.answer, id).entries()) {
			let input = received(fragment, hook);
			if (hook === XDP) {
				// XDP decapsulates; the TC program delivers.
				const { packet } = await node.send(input);
				input = { ...input, packet, hook: TC };
			}
			await node.expect(input, intoPod(arriving[i]!));
		}
	}
	await stillFast(node, side);
}

/** Every DSCP and ECN, packets of every length: unchanged inside, copied outside. */
async function trafficClasses(node: Node, side: Side): Promise<void> {
	await establish(node, side);
	const { sent, received } = side;
	for (let trafficClass = 0; trafficClass < 256; trafficClass += 3) {
		const data = Buffer.alloc((trafficClass * 5) % 1300, trafficClass);
		const talk = side.talk.with({ how: { trafficClass }, data });
		const outcome = await node.send(talk.out());
		compare(outcome, sent(talk.left));
		equal(outcome.mark, 0, "and no mark is made of it");
		for (const hook of HOOKS) {
			const { mark, ...came } = await node.send(received(talk.answer, hook));
			// Pod A's device takes all of them.
			compare({ ...came, mark }, talk.delivered());
			equal(mark ?? 0, 0);
		}
	}
	await stillFast(node, side);
}

async function hops(node: Node, side: Side): Promise<void> {
	await establish(node, side);
	const { sent, received } = side;
	for (const ttl of [255, 2, 1]) {
		const talk = side.talk.with({ how: { ttl } });
		const ended: Expected = { drop: "ttl_exceeded" };
		await node.expect(talk.out(), ttl > 1 ? sent(talk.left) : ended);
		for (const hook of HOOKS)
			await node.expect(received(talk.answer, hook), ttl > 1 ? talk.delivered() : ended);
	}
	await stillFast(node, side);
}

/** A flow in one direction only is found like an answered one. */
async function unanswered(node: Node, { talk, sent, received, translated }: Side): Promise<void> {
	await node.begin();
	for (let i = 0; i < 10; i++) await node.expect(talk.out(), sent(talk.left));
	await node.onFastPath(talk.out(), sent(talk.left));
	if (translated) return;
	for (const hook of HOOKS) {
		await node.begin();
		const input = received(talk.answer, hook);
		for (let i = 0; i < 10; i++) await node.expect(input, talk.delivered());
		await node.onFastPath(input, talk.delivered());
	}
}

/** Forged tunnel packets whose inner packet belongs to a known flow. */
function forgeries(family: Family, way: PeerWay, peer: world.PeerFacts) {
	const talk = new Conversation(family, peer.pod);
	const kind = way.path === Path.VXLAN ? "vxlan" : "geneve";
	const sender = { ...peer, outerFamily: way.outerFamily };
	const outer = way.outerFamily;
	const wrapped = (how: Parameters<typeof tunnelled>[2]) =>
		tunnelled(sender, talk.answer, { kind, ...how });
	const drops = (drop: string, how: Parameters<typeof tunnelled>[2]): [Buffer, Expected] => [
		wrapped(how),
		{ drop },
	];
	const geneve: Record<string, [Buffer, Expected]> = {
		"another version": drops("tunnel_malformed", { geneve: { version: 1 } }),
		OAM: drops("tunnel_malformed", { geneve: { flags: 0x80 } }),
		"no Ethernet inside": drops("tunnel_malformed", { geneve: { protocol: 0x0800 } }),
		"an option that must be known": drops("tunnel_critical_option", {
			geneve: { flags: 0x40, options: build.geneveOption(0x80, 1) },
		}),
		"an option that need not be known": [
			wrapped({ geneve: { options: build.geneveOption(1, 1) } }),
			talk.delivered(),
		],
	};
	const cases: Record<string, [Buffer, Expected]> = {
		"another VNI": drops("tunnel_bad_vni", { vni: world.VNI ^ 1 }),
		"another peer": drops("tunnel_wrong_source", {
			outer: { source: direct.transport[outer] },
		}),
		"no peer": drops("tunnel_unknown_peer", { outer: { source: world.silent[outer] } }),
		"an inner frame to a group": drops("tunnel_malformed", {
			macs: { source: peer.mac, destination: "01:00:5e:00:00:01" },
		}),
		"congestion on a packet without ECN": drops("tunnel_ecn", { outer: { trafficClass: 3 } }),
		"the other kind of tunnel": [
			wrapped({ kind: kind === "geneve" ? "vxlan" : "geneve" }),
			talk.delivered(),
		],
		"another address of the Node": [
			wrapped({ outer: { destination: world.gateway[outer] } }),
			talk.delivered(),
		],
		"another port": [wrapped({ port: 7777 }), talk.delivered()],
		...(kind === "geneve" && geneve),
	};
	return { talk, cases };
}

async function forged(t: Test, node: Node, family: Family, way: PeerWay, peer: world.PeerFacts) {
	const { talk, cases } = forgeries(family, way, peer);
	const good = (hook: number) => talk.from(way, peer, hook);
	await node.begin();
	await node.send(talk.out());
	for (const hook of HOOKS)
		for (const [what, [packet, expected]] of Object.entries(cases)) {
			await node.onFastPath(good(hook), talk.delivered());
			await node.expect({ ...fromWire(packet, peer.mac), hook }, expected);
			t.pass(`${hookText(hook)}: ${what}`);
		}
}

/** A known flow's packet, sent by another Pod of this Node. */
async function spoofed(node: Node, side: Side): Promise<void> {
	await establish(node, side);
	const { talk } = side;
	const stolen: Input = { ...talk.out(), packet: talk.out({ ...podA, mac: podB.mac }).packet };
	await node.expect(talk.out(podB), { drop: "spoofed_address" });
	await node.expect(stolen, { drop: "spoofed_mac" });
	await stillFast(node, side);
}

/** Shows which packets of these tests take the fast path and which the slow path. */
async function ways(node: Node, side: Side, family: Family): Promise<void> {
	await establish(node, side);
	const { talk, received, outerFamily } = side;
	ok(node.goesQuickWay(talk.out()), "out");
	for (const hook of HOOKS) {
		const isQuick = hook === XDP || outerFamily === undefined || outerFamily === family;
		equal(node.goesQuickWay(received(talk.answer, hook)), isQuick, `in, at ${hookText(hook)}`);
	}
	ok(!node.goesQuickWay(talk.with({ how: { ttl: 1 } }).out()), "the last hop");
}

/** Between two Pods of this Node: neither can send as the other, nor can anybody outside. */
async function neighbours(node: Node, family: Family): Promise<void> {
	await node.begin();
	const talk = new Conversation(family, podB);
	const [there, here] = [talk.out(), fromPod(podB, talk.answer)];
	const arrives = intoPod(talk.left, podB);
	await node.send(there);
	await node.send(here);
	const fast = async () => {
		await node.onFastPath(there, arrives);
		await node.onFastPath(here, talk.delivered());
		ok(node.goesQuickWay(there) && node.goesQuickWay(here));
	};
	await fast();
	for (const [packet, thief] of [
		[talk.question, podB],
		[talk.answer, podA],
	] as const) {
		await node.expect(fromPod(thief, packet), { drop: "spoofed_address" });
		const wire = { ...fromWire(packet), hook: TC };
		await node.expect(wire, { drop: "martian_source" });
		await node.expect({ ...wire, hook: XDP }, { drop: "martian_source" });
	}
	await node.expect(fromPod({ ...podB, mac: podA.mac }, talk.answer), { drop: "spoofed_mac" });
	await fast();
}

if (inNamespace(import.meta.url)) {
	world.makeNetwork();
	const dataPath = new DataPath({ flowSlots: 128 });
	t.teardown(() => dataPath.close());
	const node = new Node(dataPath);
	for (const family of FAMILIES) {
		for (const side of sides(family))
			t.test(`IPv${family}, ${side.name}`, async (t) => {
				await ways(node, side, family);
				t.pass("packets of a known flow go the quick way");
				await fragments(node, side);
				t.pass("fragments of a known flow arrive, and cost it nothing");
				await trafficClasses(node, side);
				t.pass("DSCP, ECN, lengths and checksums are each packet's own");
				await hops(node, side);
				t.pass("each packet loses a hop, and the last one is refused");
				await unanswered(node, side);
				t.pass("a flow that is never answered is on the fast path");
				await spoofed(node, side);
				t.pass("only its own Pod can send in a flow");
			});
		t.test(`IPv${family}, two Pods of this Node`, async (t) => {
			await neighbours(node, family);
			t.pass("neither can speak for the other");
		});
		const tunnels = [
			[WAYS[1]!, geneve4],
			[WAYS[2]!, vxlan4],
			[WAYS[3]!, geneve6],
		] as const;
		for (const [way, peer] of tunnels)
			t.test(`IPv${family}: what ${way.name} may not carry into a known flow`, (t) =>
				forged(t, node, family, way, peer),
			);
	}
}
