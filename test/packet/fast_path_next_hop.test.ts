/**
 * The MAC and device of a known flow's packets. A neighbour message, or the agent, ends the trust in a cached
 * next hop at once; without either it expires.
 */
import t from "tap";
import { originalKey } from "../../src/forwarder/flow.js";
import { macWord } from "../../src/tables/address.js";
import { Limit, NextHop } from "../../src/tables/generated.js";
import * as build from "./builder.js";
import type { Input } from "./check.js";
import { HOOKS, hookText, outwards } from "./conversation.js";
import { compare, type Expected, FAMILIES, type Family, type Node } from "./fast_path.js";
import { type Case, runCases } from "./fast_path_case.js";
import {
	NEW_MAC,
	nodeWithSecond,
	type Route,
	routes,
	SECOND,
	secondUp,
} from "./fast_path_routes.js";
import { inNamespace } from "./namespace.js";
import { fromWire, onWire } from "./table.js";
import * as world from "./world.js";

const { outside, nodeAddress, router } = world;

/** The messages of a neighbour with a new MAC. */
function messages({ neighbour, index }: Route): [string, Buffer][] {
	const macs = { source: NEW_MAC, destination: "ff:ff:ff:ff:ff:ff" };
	if (neighbour.includes(":")) {
		const told = (type: number, destination: string) =>
			build.frame(
				macs,
				build.ip(
					{ source: neighbour, destination, ttl: 255 },
					build.icmp({ 4: 0, 6: type }, 0, 0, Buffer.alloc(24)),
				),
			);
		const all: [string, Buffer][] = [["an advertisement", told(136, "ff02::1")]];
		if (index === undefined) all.push(["a router's advertisement", told(134, "ff02::1")]);
		else all.push(["a peer's question", told(135, nodeAddress[6])]);
		return all;
	}
	const answer = build.arpRequest(macs, neighbour, nodeAddress[4]);
	answer.writeUInt16BE(2, 20);
	const all: [string, Buffer][] = [
		["an ARP answer", answer],
		["an ARP announcement", build.arpRequest(macs, neighbour, neighbour)],
	];
	if (index !== undefined)
		all.push(["a peer's question", build.arpRequest(macs, neighbour, nodeAddress[4])]);
	return all;
}

function neighbourCases(route: Route): Case[] {
	const { talk, neighbour, mac, sent } = route;
	const learned = (node: Node) => node.neighbour(neighbour, NEW_MAC, mac);
	const begin = { start: [talk.out()], packet: talk.out(), before: sent(mac) };
	const says = (frame: Buffer, hook: number): Input => ({
		...fromWire(frame),
		packet: frame,
		hook,
	});
	return [
		{
			shows: "another MAC, told by the agent",
			...begin,
			change: (node) => {
				learned(node);
				node.nextHopsChanged();
			},
			after: sent(NEW_MAC),
		},
		...HOOKS.flatMap((hook) =>
			messages(route).map(
				([message, frame]): Case => ({
					shows: `another MAC, told by ${message} at ${hookText(hook)}`,
					...begin,
					change: async (node) => {
						learned(node);
						await node.hears(says(frame, hook));
					},
					after: sent(NEW_MAC),
				}),
			),
		),
		...(route.index === undefined
			? []
			: [
					{
						shows: "another MAC, told a while ago",
						...begin,
						change: (node: Node) => {
							learned(node);
							node.settled(route.index ?? 0);
						},
						after: sent(NEW_MAC),
					},
				]),
	];
}

/** The device goes down, or another route leads elsewhere. */
function deviceCases(family: Family): Case[] {
	const talk = outwards(family);
	const { device, mac, routerMac } = SECOND;
	const leaves = (source: string, destination: string): Expected => ({
		frame: build.frame({ source, destination }, talk.left),
		device: source === mac ? device : "wire0",
	});
	// With the Node's main address: another one would begin the flow anew.
	const source = `src ${nodeAddress[family]}`;
	const route = `${outside[family]} via ${SECOND.router[family]} dev ${device} ${source}`;
	const there = {
		kind: "forward" as const,
		ifindex: world.indexOf(device),
		nextHop: SECOND.router[family],
		sourceMac: mac,
		destinationMac: routerMac,
		mtu: 1500,
		source: nodeAddress[family],
	};
	const back = {
		...there,
		ifindex: world.indexOf("wire0"),
		nextHop: router[family],
		sourceMac: world.NODE_MAC,
		destinationMac: world.ROUTER_MAC,
		mtu: 1500,
		source: nodeAddress[family],
	};
	const begin = { start: [talk.out()], packet: talk.out() };
	return [
		{
			shows: "a new route",
			...begin,
			before: leaves(world.NODE_MAC, world.ROUTER_MAC),
			change: (node) => {
				node.routed(outside[family], there, [`route add ${route}`], [`route del ${route}`]);
				node.nextHopsChanged();
			},
			after: leaves(mac, routerMac),
		},
		{
			shows: "the device goes down",
			prepare: (node) => node.routed(outside[family], there, [`route add ${route}`]),
			...begin,
			before: leaves(mac, routerMac),
			change: (node) => {
				node.routed(outside[family], back, [`link set ${device} down`], secondUp());
				node.nextHopsChanged();
			},
			after: leaves(world.NODE_MAC, world.ROUTER_MAC),
		},
		{
			shows: "the kernel refuses it",
			...begin,
			before: leaves(world.NODE_MAC, world.ROUTER_MAC),
			change: (node) => {
				const refused = `unreachable ${outside[family]}`;
				const noRoute = { kind: "noRoute" as const, type: "unreachable" as const };
				node.routed(outside[family], noRoute, [`route add ${refused}`], [`route del ${refused}`]);
				node.nextHopsChanged();
			},
			after: { drop: "no_route" },
		},
	];
}

if (inNamespace(import.meta.url)) {
	const node = nodeWithSecond(t);
	for (const family of FAMILIES) {
		for (const route of routes(family)) {
			runCases(t, node, `IPv${family}, ${route.name}`, neighbourCases(route));

			t.test(`IPv${family}, ${route.name}: another MAC, and nobody says so`, async (t) => {
				const { talk, neighbour, mac, sent } = route;
				await node.begin();
				await node.send(talk.out());
				await node.onFastPath(talk.out(), sent(mac));
				node.neighbour(neighbour, NEW_MAC, mac);
				const packet = talk.out();
				// Until the trust ends: by then the kernel has been asked, and nothing was deleted.
				const end = process.hrtime.bigint() + 100n * BigInt(Limit.NEXT_HOP_TRUST_MS) * 1_000_000n;
				while (process.hrtime.bigint() < end) {
					const outcome = node.run(packet);
					if (outcome.packet.subarray(0, 6).toString("hex") === mac.replaceAll(":", "")) continue;
					compare(outcome, sent(NEW_MAC));
					break;
				}
				await node.onFastPath(packet, sent(NEW_MAC));
				t.pass("the flow has healed by itself");
			});
		}
		runCases(t, node, `IPv${family}`, deviceCases(family));

		t.test(`IPv${family}: a new route, and nobody says so`, async (t) => {
			const talk = outwards(family);
			const { device, mac, routerMac } = SECOND;
			const via = `${outside[family]} via ${SECOND.router[family]} dev ${device}`;
			const route = `${via} src ${nodeAddress[family]}`;
			await node.begin();
			await node.send(talk.out());
			await node.onFastPath(talk.out(), { frame: onWire(world.ROUTER_MAC, talk.left) });
			node.kernel([`route add ${route}`], [`route del ${route}`]);
			// As if it had last been asked a second ago.
			const flow = node.flow(talk.out());
			const asked = (flow.asked - Limit.FLOW_ASKED_TRUST) & 0xffff;
			node.dataPath.writeFlow(originalKey(flow), { asked });
			compare(node.run(talk.out()), {
				frame: build.frame({ source: mac, destination: routerMac }, talk.left),
				device,
			});
			t.pass("the kernel is asked about each flow again after a second");
		});

		t.test(`IPv${family}: the gateway's place has another gateway`, async (t) => {
			const talk = outwards(family);
			const leaves = { frame: onWire(world.ROUTER_MAC, talk.left) };
			await node.begin();
			await node.send(talk.out());
			await node.onFastPath(talk.out(), leaves);
			const { remote } = node.flow(talk.out());
			const hop = node.dataPath.nextHop(remote);
			const place = Buffer.alloc(4);
			place.writeUInt32LE(remote);
			for (const other of [
				{ destinationMac: macWord(NEW_MAC) },
				{ ifindex: world.indexOf(SECOND.device) },
			]) {
				const checked = process.hrtime.bigint();
				node.dataPath.map("next_hops").update(place, NextHop.encode({ ...hop, ...other, checked }));
				compare(node.run(talk.out()), leaves);
				await node.onFastPath(talk.out(), leaves);
			}
			t.pass("the flow goes by its own");
		});
	}
}
