/** Conversations of a Pod, and the neighbour that the packets of each go to. */

import type { Test } from "tap";
import * as build from "./builder.js";
import { Conversation, outwards } from "./conversation.js";
import { DataPath } from "./data_path.js";
import { type Expected, FAMILIES, type Family, Node, type PeerWay, WAYS } from "./fast_path.js";
import * as world from "./world.js";

const { direct, geneve4, geneve6, vxlan4, router } = world;
const [BARE, GENEVE, VXLAN, GENEVE6] = WAYS as [PeerWay, PeerWay, PeerWay, PeerWay];
export const NEW_MAC = "02:00:00:00:01:e1";

/** A second NIC, in a network of its own. */
export const SECOND = {
	device: "wire1",
	mac: "02:00:00:00:09:11",
	routerMac: "02:00:00:00:09:01",
	router: { 4: "192.168.9.1", 6: "fd00:192:168:9::1" },
};

/** A conversation, the neighbour that its packets go to, and the frame with that one's MAC. */
export interface Route {
	name: string;
	talk: Conversation;
	neighbour: string;
	mac: string;
	sent: (mac: string, source?: string) => Expected;
	/** Its entry in next_hops; undefined: a gateway's. */
	index?: number;
}

export function routes(family: Family): Route[] {
	const peers = [
		[BARE, direct],
		[GENEVE, geneve4],
		[VXLAN, vxlan4],
		[GENEVE6, geneve6],
	] as const;
	const toPeers = peers.map(([way, peer]): Route => {
		const talk = new Conversation(family, peer.pod);
		const outer = way === BARE ? family : way.outerFamily;
		return {
			name: way.name,
			talk,
			neighbour: peer.transport[outer],
			mac: peer.mac,
			sent: (mac) => talk.sent(way, { ...peer, mac }),
			index: peer.id * 2 + (family === 6 ? 1 : 0),
		};
	});
	const talk = outwards(family);
	const sent = (destination: string, source = world.NODE_MAC): Expected => ({
		frame: build.frame({ source, destination }, talk.left),
		device: source === world.NODE_MAC ? "wire0" : SECOND.device,
	});
	return [
		...toPeers,
		{ name: "outside", talk, neighbour: router[family], mac: world.ROUTER_MAC, sent },
	];
}

/** What the second NIC loses when it is set down. */
export function secondUp(): string[] {
	const { device, routerMac } = SECOND;
	return [
		`link set ${device} up`,
		`address replace fd00:192:168:9::11/64 dev ${device} nodad`,
		...FAMILIES.map(
			(family) =>
				`neighbour replace ${SECOND.router[family]} lladdr ${routerMac} dev ${device} nud permanent`,
		),
	];
}

/** The Node of the drawing with a second NIC, in this process's network namespace. */
export function nodeWithSecond(t: Pick<Test, "teardown">): Node {
	world.makeNetwork();
	world.addDevice(SECOND.device, SECOND.mac, ["192.168.9.11/24"]);
	const dataPath = new DataPath({ flowSlots: 128 });
	t.teardown(() => dataPath.close());
	const node = new Node(dataPath);
	node.kernel(secondUp(), []);
	return node;
}
