/**
 * A next hop whose trust has ended, on the fast path: the next packet asks the kernel and goes the way that the
 * kernel gives, and no other packet takes the full path for it.
 */
import t, { type Test } from "tap";
import {
	Action,
	ActionName,
	DropReasonName,
	Path,
	PeerActivity,
} from "../../src/tables/generated.js";
import * as build from "./builder.js";
import type { Input } from "./check.js";
import { Conversation, outwards } from "./conversation.js";
import {
	compare,
	type Expected,
	FAMILIES,
	type Family,
	type Node,
	type PeerWay,
	WAYS,
	writePeer,
} from "./fast_path.js";
import { NEW_MAC, nodeWithSecond, routes, SECOND } from "./fast_path_routes.js";
import { inNamespace } from "./namespace.js";
import { onWire } from "./table.js";
import * as world from "./world.js";

const { geneve4, nodeAddress, outside } = world;

/** What a renewal does to one packet, through the data path and the forwarder. */
async function renewed(
	t: Test,
	node: Node,
	packet: Input,
	ends: ("trust" | "answer")[],
	expected: Expected,
	action: number,
): Promise<void> {
	const end = () => {
		for (const what of ends) what === "trust" ? node.endTrust(packet) : node.endAnswer(packet);
	};
	end();
	const { outcome, isFast } = node.runTraced(packet);
	compare(outcome, expected);
	t.ok(isFast, "on the fast path");
	// A gateway's own trust may end meanwhile: then its neighbour is asked, too.
	if (action === Action.WIRE_NEIGHBOUR)
		t.equal(ActionName[outcome.verdict.action], "wire_neighbour");
	await node.onFastPath(packet, expected);
	end();
	await node.expect(packet, expected);
}

/** The kernel's answer while a route leads to the second NIC. */
function there(family: Family) {
	return {
		kind: "forward" as const,
		ifindex: world.indexOf(SECOND.device),
		nextHop: SECOND.router[family],
		sourceMac: SECOND.mac,
		destinationMac: SECOND.routerMac,
		mtu: 1400,
		source: nodeAddress[family],
	};
}

if (inNamespace(import.meta.url)) {
	const node = nodeWithSecond(t);
	const { dataPath } = node;

	for (const family of FAMILIES) {
		for (const { name, talk, neighbour, mac, sent, index } of routes(family)) {
			const begin = async () => {
				await node.begin();
				await node.send(talk.out());
				await node.onFastPath(talk.out(), sent(mac));
			};

			t.test(`IPv${family}, ${name}: the trust ends`, async (t) => {
				await begin();
				await renewed(t, node, talk.out(), ["trust"], sent(mac), Action.WIRE_NEIGHBOUR);
			});

			t.test(
				`IPv${family}, ${name}: the neighbour has another MAC when the trust ends`,
				async (t) => {
					await begin();
					node.neighbour(neighbour, NEW_MAC, mac);
					await renewed(t, node, talk.out(), ["trust"], sent(NEW_MAC), Action.WIRE_NEIGHBOUR);
				},
			);

			t.test(`IPv${family}, ${name}: the neighbour is unknown when the trust ends`, async (t) => {
				await begin();
				const entry = `${neighbour} dev wire0`;
				node.kernel(
					[`neighbour delete ${entry}`],
					[`neighbour replace ${entry} lladdr ${mac} nud permanent`],
				);
				node.endTrust(talk.out());
				const { outcome, isFast } = node.runTraced(talk.out());
				t.notOk(isFast, "the full path waits for it");
				t.equal(ActionName[outcome.verdict.action], "wire_neighbour");
				t.equal(outcome.packet.subarray(0, 6).toString("hex"), "000000000000");
			});

			t.test(`IPv${family}, ${name}: the trust ends while tables have changed`, async (t) => {
				await begin();
				node.endTrust(talk.out());
				const { config } = node.tables;
				node.tables.config = { ...config, routeEpoch: config.routeEpoch + 1 };
				dataPath.writeConfig(node.tables.config);
				const { outcome } = node.runTraced(talk.out());
				compare(outcome, sent(mac));
				t.equal(ActionName[outcome.verdict.action], "wire_neighbour", "the kernel sees the packet");
			});

			if (index === undefined) continue;
			t.test(`IPv${family}, ${name}: traffic is noted with the renewal`, async (t) => {
				await begin();
				const key = Buffer.alloc(4);
				key.writeUInt32LE(index);
				const activity = node.dataPath.map("peer_activity");
				const before = PeerActivity.decode(activity.lookup(key)!);
				activity.update(key, PeerActivity.encode({ ...before, sentAt: 1n }));
				node.endTrust(talk.out());
				t.ok(node.runTraced(talk.out()).isFast);
				t.ok(PeerActivity.decode(activity.lookup(key)!).sentAt > 1n);
			});
		}

		for (const from of WAYS)
			for (const to of WAYS)
				if (from.path !== Path.DOWN && from !== to)
					t.test(`IPv${family}: from ${from.name} to ${to.name} when the trust ends`, async (t) => {
						const talk = new Conversation(family, geneve4.pod);
						const use = (way: PeerWay) => node.change((wanted) => writePeer(wanted, way, geneve4));
						await node.begin();
						use(from);
						await node.send(talk.out());
						await node.onFastPath(talk.out(), talk.sent(from, geneve4));
						use(to);
						node.endTrust(talk.out());
						const { outcome } = node.runTraced(talk.out());
						if (to.path === Path.DOWN)
							t.equal(DropReasonName[outcome.verdict.dropReason], "peer_down");
						else compare(outcome, talk.sent(to, geneve4));
						t.pass("by the present path");
					});

		const talk = outwards(family);
		const leaves = { frame: onWire(world.ROUTER_MAC, talk.left) };
		const begin = async () => {
			await node.begin();
			await node.send(talk.out());
			await node.onFastPath(talk.out(), leaves);
		};

		t.test(`IPv${family}, outside: the kernel's answer for the flow ends`, async (t) => {
			await begin();
			await renewed(t, node, talk.out(), ["answer"], leaves, Action.WIRE);
		});

		t.test(`IPv${family}, outside: both end`, async (t) => {
			await begin();
			await renewed(t, node, talk.out(), ["answer", "trust"], leaves, Action.WIRE_NEIGHBOUR);
		});

		t.test(`IPv${family}, outside: a new route when the answer ends`, async (t) => {
			await begin();
			const { device, mac, routerMac } = SECOND;
			const via = `${outside[family]} via ${SECOND.router[family]} dev ${device}`;
			const route = `${via} src ${nodeAddress[family]} mtu lock 1400`;
			node.routed(outside[family], there(family), [`route add ${route}`], [`route del ${route}`]);
			const frame = build.frame({ source: mac, destination: routerMac }, talk.left);
			await renewed(t, node, talk.out(), ["answer"], { frame, device }, Action.WIRE_NEIGHBOUR);
			t.equal(node.flow(talk.out()).mtu, 1400, "and with the route's MTU");
		});

		t.test(`IPv${family}, outside: the kernel refuses when the answer ends`, async (t) => {
			await begin();
			const route = `unreachable ${outside[family]}`;
			const refusal = { kind: "noRoute" as const, type: "unreachable" as const };
			node.routed(outside[family], refusal, [`route add ${route}`], [`route del ${route}`]);
			node.endAnswer(talk.out());
			await node.expect(talk.out(), { drop: "no_route" });
			t.pass("as on the full path");
		});
	}
}
