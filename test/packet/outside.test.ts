/**
 * Packets to the outside when there is more than one way out: the kernel's routes decide device,
 * size and source address of each.
 *
 *   pod0 ┐            ┌ wire0 1500  192.168.1.11, fd00:192:168:1::11   default
 *        ├── Node ────┤
 *   pod1 ┘            └ wire1 1300  10.99.0.11, fd00:99::11            a second network, and rules
 */
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import t, { type Test } from "tap";
import type { FibAnswer, FibQuery } from "../../src/forwarder/forwarder.js";
import { parse } from "../../src/forwarder/packet.js";
import { Fib } from "../../src/reconcile/maps/fib.js";
import {
	DropReasonName,
	Limit,
	NodeFlag,
	RouteKind,
	SourceAddress,
} from "../../src/tables/generated.js";
import * as build from "./builder.js";
import { check } from "./check.js";
import { DataPath } from "./data_path.js";
import { inNamespace, ipBatch } from "./namespace.js";
import { fresh, fromPod } from "./table.js";
import * as world from "./world.js";

const { podA, podB, router } = world;
const WIRE1_MAC = "02:00:00:00:99:11";
const NEIGHBOUR_MAC = "02:00:00:00:99:05";

type Family = 4 | 6;
type Pair = { 4: string; 6: string };
const own: Pair = { 4: "10.99.0.11", 6: "fd00:99::11" };
/** On the second network; the one of which the kernel does not know the MAC; its gateway. */
const onLink: Pair = { 4: "10.99.0.5", 6: "fd00:99::5" };
const unresolved: Pair = { 4: "10.99.0.6", 6: "fd00:99::6" };
/** A neighbour for whom the kernel gives the device's own address, as for all on a device without ARP. */
const withoutArp: Pair = { 4: "10.99.0.7", 6: "fd00:99::7" };
/** An address of the Node on wire0 that only the route to `preferring` prefers. */
const preferred: Pair = { 4: "198.51.99.11", 6: "fd00:192:168:77::11" };
const preferring: Pair = { 4: "203.0.113.9", 6: "2001:db8:9::9" };
/** By wire0, with `mtu 1400` in the route. */
const narrow: Pair = { 4: "203.0.113.77", 6: "2001:db8:77::77" };
/** By wire1 for Pod B, for TCP to port 8080, and for DSCP 46. */
const ruled: Pair = { 4: "203.0.113.200", 6: "2001:db8:200::200" };
/** By wire0 and wire1 in equal shares. */
const shared: Pair = { 4: "203.0.113.222", 6: "2001:db8:222::222" };

function bits(family: Family): number {
	return family === 4 ? 32 : 128;
}

function makeSecondNetwork(): void {
	world.addDevice("wire1", WIRE1_MAC, [`${own[4]}/24`, `${own[6]}/64 nodad`]);
	ipBatch([
		"link set wire1 mtu 1300",
		...([4, 6] as const).flatMap((family) => [
			`neighbour add ${onLink[family]} lladdr ${NEIGHBOUR_MAC} dev wire1 nud permanent`,
			`neighbour add ${withoutArp[family]} lladdr ${WIRE1_MAC} dev wire1 nud permanent`,
			`address add ${preferred[family]}/${bits(family)} dev wire0 ${family === 6 ? "nodad preferred_lft 0" : ""}`,
			`route add ${preferring[family]} via ${router[family]} dev wire0 src ${preferred[family]}`,
			`route add ${narrow[family]} via ${router[family]} dev wire0 mtu 1400`,
			`route add ${ruled[family]} via ${onLink[family]} dev wire1 table 100`,
			`route add ${shared[family]} nexthop via ${router[family]} dev wire0 nexthop via ${onLink[family]} dev wire1`,
		]),
	]);
	for (const family of [4, 6] as const) {
		for (const rule of [
			`from ${podB[family]}`,
			`to ${ruled[family]} ipproto tcp dport 8080`,
			`to ${ruled[family]} tos 0x10`,
		])
			execFileSync("ip", [`-${family}`, "rule", "add", ...rule.split(" "), "lookup", "100"]);
		// By the ports, too (fib_multipath_hash_policy 1).
		writeFileSync(`/proc/sys/net/ipv${family}/fib_multipath_hash_policy`, "1");
	}
}

/** What the kernel of this namespace says, as the rules and routes above have it. */
function fib(query: FibQuery): FibAnswer {
	const { destination, source, protocol, destinationPort, tos } = query;
	const family = destination.includes(":") ? 6 : 4;
	const second = {
		kind: "forward",
		ifindex: world.indexOf("wire1"),
		sourceMac: WIRE1_MAC,
		mtu: 1300,
		source: own[family],
	} as const;
	if (destination === onLink[family])
		return { ...second, nextHop: destination, destinationMac: NEIGHBOUR_MAC };
	if (destination === withoutArp[family])
		return { ...second, nextHop: destination, destinationMac: WIRE1_MAC };
	if (destination === unresolved[family]) return { ...second, nextHop: destination };
	const isRuled =
		source === podB[family] || (protocol === 6 && destinationPort === 8080) || tos === 0x10;
	if (destination === ruled[family] && isRuled)
		return { ...second, nextHop: onLink[family], destinationMac: NEIGHBOUR_MAC };
	const first = world.fib(query);
	if (destination !== preferring[family] || first.kind !== "forward") return first;
	return { ...first, source: preferred[family] };
}

/** The same of rtnetlink, which `explain` asks: it tells a route's MTU, which the programs have from `routes`. */
function asAgentAsks(query: FibQuery, answer: FibAnswer): FibAnswer {
	if (answer.kind !== "forward") return answer;
	const isNarrow = Object.values(narrow).includes(query.destination);
	return {
		...answer,
		mtu: isNarrow ? 1400 : answer.mtu,
		source: query.wantsSource ? answer.source : "",
	};
}

interface Case {
	shows: string;
	to: Pair;
	pod?: world.Pod;
	/** Of the IP packet. */
	length?: number;
	dontFragment?: boolean;
	trafficClass?: number;
	tcpPort?: number;
	device: "wire0" | "wire1";
	source?: Pair;
	/** It does not fit. */
	mtu?: number;
	/** Of the frame. */
	mac?: string;
}

const cases: Case[] = [
	{ shows: "the address of the device it leaves by", to: onLink, device: "wire1", source: own },
	{
		shows: "the address of the device, whose next hop is not resolved yet",
		to: unresolved,
		device: "wire1",
		source: own,
	},
	{
		shows: "no MAC where the device has no ARP: its own address may be none",
		to: withoutArp,
		device: "wire1",
		source: own,
		mac: "000000000000",
	},
	{
		shows: "the address that the route prefers",
		to: preferring,
		device: "wire0",
		source: preferred,
	},
	{ shows: "as large as the device takes", to: onLink, length: 1300, device: "wire1" },
	{ shows: "larger than the device takes", to: onLink, length: 1301, device: "wire1", mtu: 1300 },
	{
		shows: "larger than the device takes, its next hop not resolved yet",
		to: unresolved,
		length: 1400,
		device: "wire1",
		mtu: 1300,
	},
	{ shows: "as large as the route takes", to: narrow, length: 1400, device: "wire0" },
	{ shows: "larger than the route takes", to: narrow, length: 1401, device: "wire0", mtu: 1400 },
	{ shows: "no rule", to: ruled, device: "wire0", source: world.nodeAddress },
	{ shows: "a rule by source", to: ruled, pod: podB, device: "wire1", source: own },
	{ shows: "a rule by protocol and port", to: ruled, tcpPort: 8080, device: "wire1" },
	{ shows: "another port than the rule's", to: ruled, tcpPort: 8081, device: "wire0" },
	{ shows: "a rule by TOS", to: ruled, trafficClass: 0x10, device: "wire1" },
];

function packetOf(one: Case, family: Family) {
	const { pod = podA, to, length = 100, trafficClass = 0, tcpPort } = one;
	const headers = (family === 4 ? 20 : 40) + 8;
	const segment =
		tcpPort === undefined
			? build.udp(1000, 2000, Buffer.alloc(length - headers))
			: build.tcp(1000, tcpPort, { flags: build.SYN });
	return fromPod(
		pod,
		build.ip({ source: pod[family], destination: to[family], trafficClass }, segment),
	);
}

if (inNamespace(import.meta.url)) {
	world.makeNetwork();
	makeSecondNetwork();
	const dataPath = new DataPath({ flowSlots: 128 });
	const older = new DataPath({ flowSlots: 128, hasFibSource: false });
	t.teardown(() => {
		dataPath.close();
		older.close();
	});
	const flags = NodeFlag.CONFIGURED | NodeFlag.SNAT | NodeFlag.ROUTE_MTU;
	const begin = async (core: DataPath, t: Test) => {
		const tables = await fresh(core, { config: { flags } });
		tables.onFib((query) => {
			const answer = fib(query);
			t.same(new Fib().look(query), asAgentAsks(query, answer), JSON.stringify(query));
			return answer;
		});
		for (const family of [4, 6] as const) {
			const entry = { kind: RouteKind.OUTSIDE, flags: 0, mtu: 1400, peer: Limit.NO_PEER };
			tables.routes.set(`${narrow[family]}/${bits(family)}`, entry);
		}
		core.write(tables);
		return tables;
	};

	for (const family of [4, 6] as const)
		for (const one of cases)
			t.test(`IPv${family}: ${one.shows}`, async (t) => {
				const tables = await begin(dataPath, t);
				const input = packetOf(one, family);
				const { outcome, differences } = await check(dataPath, tables, input);
				t.same(differences, [], "the forwarder says the same");
				if (one.mtu !== undefined) {
					t.equal(outcome.verdict.mtu, one.mtu, "it does not fit");
					return;
				}
				t.equal(outcome.verdict.ifindex, world.indexOf(one.device));
				if (one.source) t.equal(sourceOf(outcome.packet, family), one.source[family]);
				if (one.mac) t.equal(outcome.packet.toString("hex", 0, 6), one.mac);
				// The next one, of a flow whose next hop is cached by now, takes the same way.
				const again = await check(dataPath, tables, input);
				t.same(again.differences, []);
				t.equal(again.outcome.verdict.ifindex, world.indexOf(one.device));
			});

	for (const family of [4, 6] as const) {
		t.test(`IPv${family}: the Node has no address of the family`, async (t) => {
			const tables = await fresh(older, { config: { snatAddress4: "", snatAddress6: "" } });
			tables.onFib((query) => ({ ...fib(query), source: "" }));
			const input = packetOf({ shows: "", to: ruled, device: "wire0" }, family);
			const { outcome, differences } = await check(older, tables, input);
			t.same(differences, []);
			t.equal(DropReasonName[outcome.verdict.dropReason], "no_snat_address");
		});

		t.test(
			`IPv${family}: where the FIB does not tell the source, the agent's table does`,
			async (t) => {
				const tables = await begin(older, t);
				const key = Buffer.alloc(4);
				key.writeUInt32LE(world.indexOf("wire1"));
				older
					.map("source_addresses")
					.update(key, SourceAddress.encode({ ipv4: own[4], ipv6: own[6] }));
				const { outcome, differences } = await check(
					older,
					tables,
					packetOf({ shows: "", to: onLink, device: "wire1" }, family),
				);
				t.same(differences, []);
				t.equal(sourceOf(outcome.packet, family), own[family]);
				const main = await check(
					older,
					tables,
					packetOf({ shows: "", to: ruled, device: "wire0" }, family),
				);
				t.equal(sourceOf(main.outcome.packet, family), world.nodeAddress[family]);
			},
		);

		t.test(
			`IPv${family}: flows to many destinations use both of two equal routes, each its own`,
			async (t) => {
				await begin(dataPath, t);
				const used = new Map<string, number>();
				for (let host = 0; host < 64; host++) {
					const source = podA[family];
					const destination = family === 4 ? shared[4] : shared[6];
					const input = fromPod(
						podA,
						build.ip({ source, destination }, build.udp(1000 + host, 2000, Buffer.alloc(8))),
					);
					const context = { ...input.context, now: process.hrtime.bigint() };
					const first = dataPath.run(input.hook, input.packet, context);
					const device = first.verdict.ifindex;
					const address = sourceOf(first.packet, family);
					const wanted =
						device === world.indexOf("wire1") ? own[family] : world.nodeAddress[family];
					t.equal(address, wanted, "the address of the device");
					for (let n = 0; n < 3; n++)
						t.equal(dataPath.run(input.hook, input.packet, context).verdict.ifindex, device);
					used.set(`${device}`, (used.get(`${device}`) ?? 0) + 1);
				}
				t.equal(used.size, 2, JSON.stringify([...used]));
			},
		);
	}
}

function sourceOf(frame: Buffer, family: Family): string | undefined {
	return parse(frame)?.key.source ?? `none of IPv${family}`;
}
