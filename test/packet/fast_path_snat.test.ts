/**
 * SNAT of known flows: they keep their translation, new flows see a change at once, and a reused port leads to
 * its new owner.
 */
import t from "tap";
import { RouteFlag, RouteKind } from "../../src/tables/generated.js";
import * as build from "./builder.js";
import { Conversation, HOOKS, hookText, outwards } from "./conversation.js";
import { DataPath } from "./data_path.js";
import { type Expected, FAMILIES, type Family, Node } from "./fast_path.js";
import { type Case, runCases } from "./fast_path_case.js";
import { inNamespace } from "./namespace.js";
import { fromPod, fromWire, onWire } from "./table.js";
import * as world from "./world.js";

const { podA, podB, outside, nodeAddress } = world;
const NO_PEER = 0xffffffff;

/** Another address of the Node. */
const second = { 4: "192.168.1.112", 6: "fd00:192:168:1::1:12" };

function leaves(talk: Conversation): Expected {
	return { frame: onWire(world.ROUTER_MAC, talk.left) };
}

/** The Node has its second address besides, and its default route prefers it from now on. */
function useSecond(node: Node, family: Family): void {
	const answer = world.fib({ ...world.ANY_QUERY, destination: outside[family] });
	const address = `${second[family]}/${family === 4 ? 32 : 128} dev wire0`;
	const replaced = `route replace default via ${world.router[family]} dev wire0`;
	const source = second[family];
	if (answer.kind !== "forward") throw new Error("Cannot prefer an address: there is no route");
	node.routed(
		outside[family],
		{ ...answer, source },
		[`address add ${address} ${family === 6 ? "nodad" : ""}`, `${replaced} src ${source}`],
		[replaced, `address del ${address}`],
	);
	node.change((wanted) => {
		wanted.routes.set(prefix(second[family]), route(RouteKind.HOST));
	});
}

function route(kind: number) {
	return { kind, flags: 0, mtu: 0, peer: NO_PEER };
}

/** A single address as a prefix. */
function prefix(address: string): string {
	return `${address}/${address.includes(":") ? 128 : 32}`;
}

/** SNAT: a flow keeps its translation, and new flows see the change. */
function snatCases(family: Family): Case[] {
	const talk = outwards(family);
	const plain = new Conversation(family, outside);
	const later = { ports: [50002, 2000] as const };
	const begin = { start: [talk.out(), talk.back(HOOKS[0])] };
	const exclude = (node: Node) =>
		node.change(({ routes }) =>
			routes.set(prefix(outside[family]), {
				...route(RouteKind.OUTSIDE),
				flags: RouteFlag.NO_SNAT,
			}),
		);
	const added = (node: Node) => useSecond(node, family);
	const changes: [string, (node: Node) => void, Conversation][] = [
		["the destination is excluded from SNAT", exclude, plain.with(later)],
		["noSNAT", (node) => node.configure({ flags: 1 }), plain.with(later)],
		[
			"the Node has another address besides",
			added,
			outwards(family).with({ ...later, seen: { address: second[family] } }),
		],
		[
			"another range of ports",
			(node) => node.configure({ snatPortFirst: 61000, snatPortLast: 61000 }),
			outwards(family).with({ ...later, seen: { address: nodeAddress[family], port: 61000 } }),
		],
	];
	return changes.flatMap(([shows, change, next]): Case[] => [
		{
			shows,
			...begin,
			packet: talk.out(),
			before: leaves(talk),
			change,
			after: leaves(talk),
			also: [next.out(), leaves(next)],
		},
		...HOOKS.map(
			(hook): Case => ({
				shows: `${hookText(hook)}: ${shows}`,
				...begin,
				packet: talk.back(hook),
				before: talk.delivered(),
				change,
				after: talk.delivered(),
			}),
		),
	]);
}

if (inNamespace(import.meta.url)) {
	world.makeNetwork();
	const dataPath = new DataPath({ flowSlots: 128 });
	t.teardown(() => dataPath.close());
	const node = new Node(dataPath);
	for (const family of FAMILIES) {
		runCases(t, node, `IPv${family}`, snatCases(family));

		for (const hook of HOOKS)
			t.test(`IPv${family}, ${hookText(hook)}: a port that another Pod has now`, async (t) => {
				await node.begin();
				// A single port, which only one flow can have.
				node.configure({ snatPortFirst: 61000, snatPortLast: 61000 });
				const seen = { address: nodeAddress[family], port: 61000 };
				const [a, b] = [
					outwards(family).with({ seen }),
					outwards(family).with({ seen, pod: podB }),
				];
				await node.send(a.out());
				await node.onFastPath(a.back(hook), a.delivered());
				await node.expect(b.out(), { drop: "snat_ports_exhausted" });
				node.expire(a.out());
				await node.expect(b.out(), leaves(b));
				await node.expect(b.back(hook), b.delivered());
				await node.onFastPath(b.out(), leaves(b));
				await node.expect(a.out(), { drop: "snat_ports_exhausted" });
				t.pass("the answer is the new owner's, and the old one has to begin anew");
			});

		t.test(
			`IPv${family}: the Node's address is another one, and the old one is gone`,
			async (t) => {
				await node.begin();
				const talk = outwards(family);
				await node.send(talk.out());
				await node.send(talk.back(HOOKS[0]));
				await node.onFastPath(talk.out(), leaves(talk));
				useSecond(node, family);
				node.change((wanted) => {
					wanted.routes.delete(prefix(nodeAddress[family]));
				});
				const error = build.ip(
					{ source: podA[family], destination: outside[family] },
					build.unreachable(talk.received),
				);
				await node.expect(fromPod(podA, error), { drop: "icmp_unrelated" });
				const anew = talk.with({ seen: { address: second[family] } });
				await node.expect(talk.out(), leaves(anew));
				for (const hook of HOOKS) await node.expect(anew.back(hook), anew.delivered());
				await node.onFastPath(talk.out(), leaves(anew));
				t.pass("the Pod's next packet has the new address, and is answered");
			},
		);

		// A UDP packet between two Nodes' own addresses may be one of a tunnel.
		for (const [protocol, isFast] of [
			["tcp", true],
			["udp", false],
		] as const)
			t.test(`IPv${family}: ${protocol} of a Pod with a peer's own address`, async (t) => {
				await node.begin();
				const { transport, mac } = world.direct;
				const own = [50001, 6443] as const;
				const packet = (source: string, destination: string, ports: readonly number[]) =>
					build.ip(
						{ source, destination },
						protocol === "udp"
							? build.udp(ports[0]!, ports[1]!, Buffer.from("to a Node"))
							: build.tcp(ports[0]!, ports[1]!, { flags: build.ACK }),
					);
				const out = fromPod(podA, packet(podA[family], transport[family], own));
				const back = packet(transport[family], nodeAddress[family], own.toReversed());
				for (const _ of ["new", "known"]) {
					await node.send(out);
					await node.send(fromWire(back, mac));
				}
				t.equal(node.goesQuickWay(out), isFast);
				t.equal(node.goesQuickWay(fromWire(back, mac)), isFast);
				await node.send(out);
				await node.send(fromWire(back, mac));
			});

		for (const [shows, change, seen] of [
			["noSNAT", (node: Node) => node.configure({ flags: 1 }), undefined],
			["another address", (node: Node) => useSecond(node, family), { address: second[family] }],
		] as const)
			t.test(`IPv${family}: ${shows}, seen by a flow that begins again`, async (t) => {
				await node.begin();
				const talk = outwards(family);
				await node.send(talk.out());
				change(node);
				await node.expect(talk.out(), leaves(talk));
				node.expire(talk.out());
				const anew = new Conversation(family, outside, seen && { seen });
				await node.expect(talk.out(), leaves(anew));
				await node.expect(anew.back(HOOKS[0]), anew.delivered());
				await node.onFastPath(talk.out(), leaves(anew));
				t.pass("an expired flow keeps nothing");
			});
	}
}
