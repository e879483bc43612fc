/**
 * A known flow follows every change of the tables that it was learned from. Each case proves that a packet
 * is on the fast path, changes one thing like the agent or the kernel, checks the very next packet of the
 * flow, and then proves that it is on the fast path again.
 */
import t from "tap";
import { Hook, Path, RouteKind } from "../../src/tables/generated.js";
import {
	Conversation,
	HOOKS,
	hookText,
	intoPod,
	outwards,
	type Side,
	sides,
} from "./conversation.js";
import { DataPath } from "./data_path.js";
import { FAMILIES, type Family, Node, type PeerWay, WAYS, writePeer } from "./fast_path.js";
import { type Case, runCases } from "./fast_path_case.js";
import { inNamespace } from "./namespace.js";
import { fromPod, onWire } from "./table.js";
import * as world from "./world.js";

const { podA, podB, direct, geneve4, vxlan4, outside } = world;
const [, GENEVE, VXLAN] = WAYS as [PeerWay, PeerWay, PeerWay];

/** A peer with another address, as the agent writes it. */
function moved(peer: world.PeerFacts): world.PeerFacts {
	return {
		...peer,
		transport: { 4: "192.168.1.77", 6: "fd00:192:168:1::77" },
		mac: "02:00:00:00:01:77",
	};
}

function podCidr(peer: world.PeerFacts, family: Family): string {
	return family === 4 ? `10.244.${peer.id + 1}.0/24` : `fd00:10:244:${peer.id + 1}::/64`;
}

/** A Pod's own prefix. */
function own(address: string): string {
	return `${address}/${address.includes(":") ? 128 : 32}`;
}

/** Changes of a peer, in both directions, for any path. */
function peerCases(family: Family, way: PeerWay): Case[] {
	const talk = new Conversation(family, geneve4.pod);
	const after = moved(geneve4);
	const tunnel = way.path !== Path.DIRECT;
	const use = (peer: world.PeerFacts, owner?: number) => (node: Node) => {
		if (peer === after) node.neighbours(peer);
		node.change((wanted) => writePeer(wanted, way, peer, owner));
	};
	const elsewhere = (node: Node) =>
		node.change(({ routes }) => routes.set(podCidr(geneve4, family), toPeer(vxlan4)));
	const begin = {
		prepare: use(geneve4),
		start: [talk.out(), talk.from(way, geneve4, Hook.FROM_WIRE)],
	};
	const out = { ...begin, packet: talk.out(), before: talk.sent(way, geneve4) };
	return [
		{
			shows: "the peer has another address",
			...out,
			change: use(after),
			after: talk.sent(way, after),
		},
		{
			shows: "the peer's id belongs to another Node",
			...out,
			change: use(after, 99),
			after: talk.sent(way, after),
		},
		{
			shows: "its Pods have moved to another Node",
			...out,
			change: elsewhere,
			after: talk.sent(VXLAN, vxlan4),
		},
		{
			shows: "the way has become too narrow for the packet",
			...out,
			change: (node) =>
				node.change(({ peers }) => {
					for (const [index, peer] of peers) peers.set(index, { ...peer, mtu: 40 });
				}),
			after: { drop: "packet_too_big" },
		},
		...HOOKS.flatMap((hook): Case[] => {
			const back = {
				...begin,
				packet: talk.from(way, geneve4, hook),
				before: talk.delivered(),
			};
			return [
				{
					shows: `${hookText(hook)}: the peer has another address`,
					...back,
					change: use(after),
					after: tunnel ? { drop: "tunnel_unknown_peer" } : talk.delivered(),
					also: [talk.from(way, after, hook), talk.delivered()],
				},
				{
					shows: `${hookText(hook)}: its Pods have moved to another Node`,
					...back,
					change: elsewhere,
					after: tunnel ? { drop: "tunnel_wrong_source" } : talk.delivered(),
					also: [talk.from(VXLAN, vxlan4, hook), talk.delivered()],
				},
			];
		}),
	];
}

function toPeer({ id }: world.PeerFacts) {
	return { kind: RouteKind.PEER, flags: 0, mtu: 0, peer: id };
}

/** Changes of Pod A, in both directions, for any remote side. */
function podCases(family: Family, { talk, ...far }: Side): Case[] {
	const replaced: world.Pod = { ...podA, interface: podB.interface, mac: "0a:00:00:00:00:cc" };
	const sameDevice: world.Pod = { ...podA, mac: replaced.mac };
	const begin = { start: [talk.out(), far.received(talk.answer, Hook.FROM_WIRE)] };
	const out = { ...begin, packet: talk.out(), before: far.sent(talk.left) };
	const become = (pod: world.Pod | undefined) => (node: Node) =>
		node.change(({ endpoints }) => {
			endpoints.delete(podA[family]);
			if (pod) endpoints.set(podA[family], { interface: pod.interface, mac: pod.mac });
		});
	return [
		{
			shows: "the Pod is gone",
			...out,
			change: become(undefined),
			after: { drop: "spoofed_address" },
		},
		{
			shows: "the Pod is another one, with its address",
			...out,
			change: become(replaced),
			after: { drop: "spoofed_address" },
			also: [talk.out(replaced), far.sent(talk.left)],
		},
		{
			shows: "the Pod has another MAC",
			...out,
			change: become(sameDevice),
			after: { drop: "spoofed_mac" },
			also: [talk.out(sameDevice), far.sent(talk.left)],
		},
		...HOOKS.flatMap((hook): Case[] => {
			const back = { ...begin, packet: far.received(talk.answer, hook), before: talk.delivered() };
			const into = (shows: string, pod: world.Pod): Case => ({
				shows: `${hookText(hook)}: ${shows}`,
				...back,
				change: become(pod),
				after: talk.delivered(pod),
			});
			return [
				into("the Pod is another one, with its address", replaced),
				into("the Pod has another MAC", sameDevice),
				{
					shows: `${hookText(hook)}: the Pod is gone`,
					...back,
					change: become(undefined),
					// XDP leaves packets for the Node's own address that it cannot deliver to TC.
					after: far.translated && hook === HOOKS[1] ? { pass: true } : { drop: "no_endpoint" },
				},
				{
					shows: `${hookText(hook)}: the gateway has another MAC`,
					...back,
					change: (node) => node.configure({ gatewayMac: "0a:00:00:00:00:99" }),
					after: talk.delivered(podA, "0a:00:00:00:00:99"),
				},
			];
		}),
	];
}

/** Tunnel headers, and which the Node accepts. */
function headerCases(family: Family, way: PeerWay, peer: world.PeerFacts): Case[] {
	const talk = new Conversation(family, peer.pod);
	const begin = { start: [talk.out(), talk.from(way, peer, Hook.FROM_WIRE)] };
	const other = { vni: 0x00beef, port: 7777, gatewayMac: "0a:00:00:00:00:99" };
	const configured = (node: Node) =>
		node.change((wanted) => {
			for (const [index, entry] of wanted.peers)
				wanted.peers.set(index, { ...entry, vni: other.vni, port: other.port });
			const { port, ...rest } = other;
			wanted.nodeConfig = { ...wanted.nodeConfig, ...rest, genevePort: port, vxlanPort: port };
		});
	return [
		{
			shows: "another VNI, port and gateway MAC",
			...begin,
			packet: talk.out(),
			before: talk.sent(way, peer),
			change: configured,
			after: talk.sent(way, peer, other),
		},
		...HOOKS.map(
			(hook): Case => ({
				shows: `${hookText(hook)}: another VNI`,
				...begin,
				packet: talk.from(way, peer, hook),
				before: talk.delivered(),
				change: (node) => node.configure({ vni: other.vni }),
				after: { drop: "tunnel_bad_vni" },
				also: [talk.from(way, peer, hook, other.vni), talk.delivered()],
			}),
		),
	];
}

/** Changes of two communicating Pods of this Node. */
function localCases(family: Family): Case[] {
	const talk = new Conversation(family, podB);
	const begin = { start: [talk.out(), fromPod(podB, talk.answer)] };
	const out = { ...begin, packet: talk.out(), before: intoPod(talk.left, podB) };
	const back = { ...begin, packet: fromPod(podB, talk.answer), before: talk.delivered() };
	const mac = "0a:00:00:00:00:cc";
	const become = (pod: world.Pod, next: Partial<world.Pod> | undefined) => (node: Node) =>
		node.change(({ endpoints }) => {
			const { interface: name, mac } = { ...pod, ...next };
			if (next) endpoints.set(pod[family], { interface: name, mac });
			else endpoints.delete(pod[family]);
		});
	return [
		{
			shows: "the other one has moved to a peer",
			...out,
			change: (node) =>
				node.change(({ endpoints, routes }) => {
					endpoints.delete(podB[family]);
					routes.set(own(podB[family]), toPeer(geneve4));
				}),
			after: talk.sent(GENEVE, geneve4),
		},
		{
			shows: "the other one is gone",
			...out,
			change: become(podB, undefined),
			after: { drop: "no_endpoint" },
		},
		{
			shows: "the other one has another MAC",
			...out,
			change: become(podB, { mac }),
			after: intoPod(talk.left, { ...podB, mac }),
		},
		{
			shows: "the one that began is another one, with its address",
			...back,
			change: become(podA, { interface: "fairway0", mac }),
			after: intoPod(talk.received, { ...podA, interface: "fairway0", mac }),
		},
		{
			shows: "the one that began is gone",
			...out,
			change: become(podA, undefined),
			after: { drop: "spoofed_address" },
			also: [fromPod(podB, talk.answer), { drop: "no_endpoint" }],
		},
		{
			shows: "the one that answers has another MAC",
			...back,
			change: become(podB, { mac }),
			after: { drop: "spoofed_mac" },
			also: [fromPod({ ...podB, mac }, talk.answer), talk.delivered()],
		},
		{
			shows: "the gateway has another MAC",
			...out,
			change: (node) => node.configure({ gatewayMac: "0a:00:00:00:00:99" }),
			after: intoPod(talk.left, podB, "0a:00:00:00:00:99"),
		},
	];
}

/** An outside host becomes a peer: flows to it must not carry packets that it would accept as a tunnel. */
function newPeerCase(family: Family): Case {
	const talk = outwards(family).with({ ports: [50001, 6081] });
	const sent = { frame: onWire(world.ROUTER_MAC, talk.left) };
	return {
		shows: "the outside has become a peer",
		start: [talk.out()],
		packet: talk.out(),
		before: sent,
		change: (node) =>
			node.change(({ peerAddresses }) => peerAddresses.set(outside[family], direct.id)),
		after: { drop: "tunnel_from_pod" },
	};
}

if (inNamespace(import.meta.url)) {
	world.makeNetwork();
	const dataPath = new DataPath({ flowSlots: 128 });
	t.teardown(() => dataPath.close());
	const node = new Node(dataPath);
	const table = (name: string, cases: Case[]) => runCases(t, node, name, cases);

	for (const family of FAMILIES) {
		for (const way of WAYS)
			if (way.path !== Path.DOWN) table(`IPv${family}, ${way.name}`, peerCases(family, way));
		for (const side of sides(family)) table(`IPv${family}, ${side.name}`, podCases(family, side));
		table(`IPv${family}, Geneve`, headerCases(family, GENEVE, geneve4));
		table(`IPv${family}, VXLAN`, headerCases(family, VXLAN, vxlan4));
		table(`IPv${family}, on one Node`, localCases(family));
		table(`IPv${family}`, [newPeerCase(family)]);

		t.test(`IPv${family}: from every way to a peer to every other`, async (t) => {
			await node.begin();
			const talk = new Conversation(family, geneve4.pod);
			const use = (way: PeerWay) => node.change((wanted) => writePeer(wanted, way, geneve4));
			await node.send(talk.out());
			await node.send(talk.from(GENEVE, geneve4, Hook.FROM_WIRE));
			for (const from of WAYS)
				for (const to of WAYS) {
					for (const way of [from, to]) {
						use(way);
						await node.expect(talk.out(), talk.sent(way, geneve4));
						// Whatever is sent, everything that the peer may still send is accepted.
						for (const hook of HOOKS)
							for (const form of WAYS)
								if (form.path !== Path.DOWN)
									await node.expect(talk.from(form, geneve4, hook), talk.delivered());
					}
					if (to.path !== Path.DOWN) await node.onFastPath(talk.out(), talk.sent(to, geneve4));
					t.pass(`${from.name} to ${to.name}`);
				}
		});
	}
}
