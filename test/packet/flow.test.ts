/** Flows over several packets: states, expiry, SNAT ports, a full table, next hops. */
import { execFileSync } from "node:child_process";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import t from "tap";
import { originalKey, replyKey } from "../../src/forwarder/flow.js";
import { parse } from "../../src/forwarder/packet.js";
import {
	Action,
	DropReason,
	DropReasonName,
	EventCounter,
	type Flow,
	FlowFlag,
	FlowState,
	FlowStateName,
	Limit,
	type Verdict,
} from "../../src/tables/generated.js";
import * as build from "./builder.js";
import { check, type Input } from "./check.js";
import { DataPath } from "./data_path.js";
import type { MemoryTables } from "./memory_tables.js";
import { inNamespace } from "./namespace.js";
import { fresh, fromHost, fromPod, fromWire } from "./table.js";
import * as world from "./world.js";

const { podA, podB, outside, nodeAddress, direct } = world;
const { SYN, ACK, FIN, RST } = build;
const DATA = Buffer.from("flow");

function snatPort(flow: Flow | undefined): number {
	return flow ? replyKey(flow).destinationPort : 0;
}

function nft(rules: string): void {
	execFileSync("nft", ["--file", "-"], { input: rules });
}

/** Netfilter translates what the Node itself sends from a port, as it would a container's. */
const translation = (protocol: string, from: number, ports: string) => `table ip fairway_test {
	chain out {
		type nat hook postrouting priority srcnat
		${protocol} sport ${from} snat to ${nodeAddress[4]}:${ports}
	}
}`;

const TRANSPORTS: [string, number, (port: number) => build.Segment][] = [
	["udp", 17, (port) => build.udp(port, 53)],
	["tcp", 6, (port) => build.tcp(port, 53, { flags: SYN })],
];

/** A packet of the Node's own, from this port: UDP, or the first of a TCP connection. */
async function speak(protocol: string, from: number, to: string, port: number) {
	if (protocol === "udp") {
		const socket = createSocket("udp4");
		socket.bind(from);
		await once(socket, "listening");
		await new Promise((resolve) => socket.send("x", port, to, resolve));
		return socket;
	}
	const socket = connect({ port, host: to, localPort: from });
	socket.on("error", () => {});
	// The SYN has left when another socket's system call has returned: connect() sends it.
	await new Promise((resolve) => setImmediate(resolve));
	return { close: () => socket.destroy() };
}

/** Runs packets through both sides and fails if they differ. */
class Node {
	readonly #t: typeof t | import("tap").Test;
	readonly dataPath: DataPath;
	readonly tables: MemoryTables;

	constructor(t: import("tap").Test, dataPath: DataPath, tables: MemoryTables) {
		this.#t = t;
		this.dataPath = dataPath;
		this.tables = tables;
	}

	async send(input: Input): Promise<{ verdict: Verdict; packet: Buffer; flow: Flow | undefined }> {
		const { outcome, decision, differences } = await check(this.dataPath, this.tables, input);
		this.#t.same(differences, [], "the forwarder says the same");
		const key = decision.flow && originalKey(decision.flow.flow);
		return { ...outcome, flow: key && this.dataPath.flow(key)?.flow };
	}

	/** Makes a flow older, on both sides. */
	age(flow: Flow, seconds: number): void {
		const lastSeen = flow.lastSeen - BigInt(Math.round(seconds * 1000)) * 1_000_000n;
		this.dataPath.writeFlow(originalKey(flow), { lastSeen });
		for (const [slot, known] of this.tables.slots.entries()) {
			if (
				known &&
				originalKey(known).source === originalKey(flow).source &&
				originalKey(known).sourcePort === originalKey(flow).sourcePort
			) {
				this.tables.slots[slot] = { ...known, lastSeen };
			}
		}
	}
}

if (inNamespace(import.meta.url)) {
	world.makeNetwork();
	const dataPath = new DataPath({ flowSlots: 64 });
	t.teardown(() => dataPath.close());
	const start = async (t: import("tap").Test, node: world.Variation = {}) =>
		new Node(t, dataPath, await fresh(dataPath, node));

	const out = (segment: build.Segment, pod = podA, destination = outside[4]) =>
		fromPod(pod, build.ip({ source: pod[4], destination }, segment));
	const back = (segment: build.Segment) =>
		fromWire(build.ip({ source: outside[4], destination: nodeAddress[4] }, segment));
	const state = (flow: Flow | undefined) => flow && FlowStateName[flow.state];

	t.test("a TCP connection from SYN to both FINs, and again", async (t) => {
		const node = await start(t);
		const steps: [Input, string][] = [];
		const there = (flags: number) => out(build.tcp(50001, 80, { flags }));
		const here = (flags: number) => back(build.tcp(80, 50001, { flags }));
		steps.push(
			[there(SYN), "tcp_opening"],
			[there(SYN), "tcp_opening"],
			[here(SYN | ACK), "tcp_opening"],
			[there(ACK), "tcp_established"],
			[there(FIN | ACK), "tcp_closing"],
			[here(ACK), "tcp_closing"],
			[here(FIN | ACK), "tcp_closed"],
			[there(ACK), "tcp_closed"],
			[there(SYN), "tcp_opening"],
			[here(SYN | ACK), "tcp_opening"],
			[here(RST), "tcp_closed"],
		);
		for (const [input, expected] of steps) t.equal(state((await node.send(input)).flow), expected);
		t.equal(dataPath.flows().length, 1);
	});

	t.test("an answered SYN establishes nothing before its originator goes on", async (t) => {
		const node = await start(t);
		const there = (flags: number) => out(build.tcp(50001, 80, { flags }));
		const here = (flags: number, payload = Buffer.alloc(0)) =>
			back(build.tcp(80, 50001, { flags, payload }));
		for (const input of [there(SYN), here(SYN | ACK), there(SYN), here(SYN | ACK), here(ACK, DATA)])
			t.equal(state((await node.send(input)).flow), "tcp_opening");
		node.age(dataPath.flows()[0]!, world.nodeConfig().flowTimeouts[FlowState.TCP_OPENING]! + 1);
		const { verdict } = await node.send(here(ACK));
		t.not(verdict.action, Action.ENDPOINT, "it has expired as a half-open one");
	});

	t.test("a reset of the originator does not establish a half-open connection", async (t) => {
		const node = await start(t);
		await node.send(out(build.tcp(50001, 80, { flags: SYN })));
		await node.send(back(build.tcp(80, 50001, { flags: SYN | ACK })));
		await node.send(out(build.tcp(50001, 80, { flags: RST })));
		const { flow } = await node.send(out(build.tcp(50001, 80, { flags: SYN })));
		t.equal(state(flow), "tcp_opening");
		const answered = await node.send(back(build.tcp(80, 50001, { flags: SYN | ACK })));
		t.equal(state(answered.flow), "tcp_opening");
	});

	t.test(
		"a connection that is picked up without its SYN is established by an answer",
		async (t) => {
			const node = await start(t);
			const began = await node.send(out(build.tcp(50001, 80, { flags: ACK })));
			t.equal(state(began.flow), "tcp_opening");
			const { flow } = await node.send(back(build.tcp(80, 50001, { flags: ACK })));
			t.equal(state(flow), "tcp_established");
		},
	);

	t.test(
		"where no port is free, a new connection takes that of a silent half-open one",
		async (t) => {
			const config = { snatPortFirst: 50100, snatPortLast: 50100 };
			const node = await start(t, { config });
			const opened = await node.send(out(build.tcp(1, 80, { flags: SYN })));
			const port = snatPort(opened.flow);
			await node.send(back(build.tcp(80, port, { flags: SYN | ACK })));
			node.age(dataPath.flows()[0]!, Limit.SNAT_SILENT_SECONDS + 1);
			const { flow } = await node.send(out(build.tcp(2, 80, { flags: SYN })));
			t.equal(snatPort(flow), port);
			await node.send(back(build.tcp(80, port, { flags: SYN | ACK })));
			await node.send(out(build.tcp(2, 80, { flags: ACK })));
			node.age(dataPath.flows()[0]!, Limit.SNAT_SILENT_SECONDS + 1);
			const { verdict } = await node.send(out(build.tcp(3, 80, { flags: SYN })));
			t.equal(
				DropReasonName[verdict.dropReason],
				"snat_ports_exhausted",
				"an established one keeps it",
			);
		},
	);

	t.test(
		"the reset that answers a forged ACK ends the connection, and its port is free",
		async (t) => {
			const config = { snatPortFirst: 50100, snatPortLast: 50100 };
			const node = await start(t, { config });
			const opened = await node.send(out(build.tcp(1, 80, { flags: SYN })));
			const port = snatPort(opened.flow);
			const there = (flags: number) => out(build.tcp(1, 80, { flags }));
			const here = (flags: number) => back(build.tcp(80, port, { flags }));
			for (const [input, expected] of [
				[here(SYN | ACK), "tcp_opening"],
				[there(ACK), "tcp_established"],
				[here(RST), "tcp_closed"],
				[there(ACK), "tcp_closed"],
				[here(RST), "tcp_closed"],
			] as const)
				t.equal(state((await node.send(input)).flow), expected);
			const { flow } = await node.send(out(build.tcp(2, 80, { flags: SYN })));
			t.equal(snatPort(flow), port);
		},
	);

	t.test("a SYN from the other side does not open a closed connection", async (t) => {
		const node = await start(t);
		await node.send(out(build.tcp(50001, 80, { flags: SYN })));
		await node.send(out(build.tcp(50001, 80, { flags: RST })));
		const { flow } = await node.send(back(build.tcp(80, 50001, { flags: SYN })));
		t.equal(state(flow), "tcp_closed");
	});

	t.test("a reset or FIN that the connection goes on after ends nothing", async (t) => {
		for (const [side, flags, expected] of [
			["here", RST, "tcp_closed"],
			["there", RST, "tcp_closed"],
			["here", FIN | ACK, "tcp_closing"],
			["there", FIN | ACK, "tcp_closing"],
		] as const) {
			const node = await start(t);
			const send = (from: "here" | "there", flags: number, payload = Buffer.alloc(0)) =>
				node.send(
					from === "there"
						? out(build.tcp(50001, 80, { flags, payload }))
						: back(build.tcp(80, 50001, { flags, payload })),
				);
			await send("there", SYN);
			await send("here", SYN | ACK);
			const { flow } = await send(side, flags);
			t.equal(state(flow), expected, "it may be the end");
			const other = side === "here" ? "there" : "here";
			t.equal(state((await send(other, ACK, DATA)).flow), expected, "the other side cannot know");
			t.equal(state((await send(side, ACK, DATA)).flow), "tcp_established", "it was not");
		}
	});

	t.test("a connection in which a stray reset was seen outlasts a silence", async (t) => {
		const timeouts = world.nodeConfig().flowTimeouts;
		timeouts[FlowState.TCP_CLOSED] = 60;
		const node = await start(t, { config: { flowTimeouts: timeouts } });
		await node.send(out(build.tcp(50001, 80, { flags: SYN })));
		await node.send(back(build.tcp(80, 50001, { flags: SYN | ACK })));
		await node.send(out(build.tcp(50001, 80, { flags: ACK })));
		const { flow } = await node.send(back(build.tcp(80, 50001, { flags: RST })));
		node.age(flow!, 50);
		const pushed = await node.send(back(build.tcp(80, 50001, { flags: ACK, payload: DATA })));
		t.equal(pushed.verdict.action, Action.ENDPOINT, "the server may speak first");
		t.equal(state(pushed.flow), "tcp_established");
	});

	t.test("an SCTP association goes on after a stray ABORT", async (t) => {
		const node = await start(t);
		await node.send(out(build.sctp(4, 5, 1)));
		await node.send(back(build.sctp(5, 4, 2)));
		t.equal(state((await node.send(back(build.sctp(5, 4, 6)))).flow), "sctp_closed");
		t.equal(state((await node.send(back(build.sctp(5, 4, 0)))).flow), "sctp_established");
	});

	t.test("a flow is kept for the whole of its time-out after its last packet", async (t) => {
		const node = await start(t);
		// last_seen may be a quarter of a second older than the last packet. What is left of that is short: a
		// try that took longer says nothing.
		for (let id = 9; ; id++) {
			const began = performance.now();
			const { flow } = await node.send(out(build.echo("request", id)));
			node.age(flow!, 60.2);
			const answer = await node.send(back(build.echo("reply", snatPort(flow))));
			if (performance.now() - began > 40) continue;
			t.equal(answer.verdict.action, Action.ENDPOINT);
			break;
		}
	});

	t.test("a Pod's port is the same outside port towards every destination", async (t) => {
		const node = await start(t);
		const seen = new Set<number>();
		for (let host = 1; host <= 20; host++) {
			const { flow } = await node.send(out(build.udp(3333, 53), podA, `198.51.100.${100 + host}`));
			seen.add(snatPort(flow));
		}
		t.equal(seen.size, 1);
	});

	t.test("UDP, ICMP, SCTP and the rest", async (t) => {
		const node = await start(t);
		t.equal(state((await node.send(out(build.udp(50002, 53)))).flow), "udp_opening");
		t.equal(state((await node.send(back(build.udp(53, 50002)))).flow), "udp_established");
		t.equal(state((await node.send(out(build.echo("request", 50003)))).flow), "icmp");
		t.equal(state((await node.send(back(build.echo("reply", 50003)))).flow), "icmp");
		t.equal(state((await node.send(out(build.sctp(4, 5, 1)))).flow), "sctp_opening");
		t.equal(state((await node.send(back(build.sctp(5, 4, 2)))).flow), "sctp_established");
		t.equal(state((await node.send(out(build.sctp(4, 5, 14)))).flow), "sctp_closed");
		t.equal(state((await node.send(out(build.protocol(47, DATA)))).flow), "other");
		t.equal(dataPath.tuples(), dataPath.expectedTuples(), "no entry is left");
	});

	t.test("an echo keeps its sequence and gets its identifier back", async (t) => {
		const node = await start(t);
		const { packet, flow } = await node.send(out(build.echo("request", 7, DATA)));
		t.not(snatPort(flow), 7);
		t.equal(parse(packet)?.key.sourcePort, snatPort(flow));
		const answer = await node.send(back(build.echo("reply", snatPort(flow), DATA)));
		const expected = build.ip(
			{ source: outside[4], destination: podA[4], ttl: 63 },
			build.echo("reply", 7, DATA),
		);
		t.equal(answer.packet.subarray(14).toString("hex"), expected.toString("hex"));
	});

	t.test("an expired flow is unknown to answers, and revived by who began it", async (t) => {
		const node = await start(t);
		const { flow } = await node.send(out(build.udp(50002, 53, DATA)));
		node.age(flow!, 31);
		const late = await node.send(back(build.udp(53, 50002, DATA)));
		t.equal(late.verdict.action, Action.PASS, "the answer is the Node's now");
		const again = await node.send(out(build.udp(50002, 53, DATA)));
		t.equal(snatPort(again.flow), 50002);
		t.equal(state(again.flow), "udp_opening");
		const answer = await node.send(back(build.udp(53, 50002, DATA)));
		t.equal(answer.verdict.action, Action.ENDPOINT);
		t.equal(dataPath.flows().length, 1);
	});

	t.test("an established flow lives longer than an unanswered one", async (t) => {
		const node = await start(t);
		await node.send(out(build.udp(50002, 53, DATA)));
		const { flow } = await node.send(back(build.udp(53, 50002, DATA)));
		node.age(flow!, 31);
		t.equal((await node.send(back(build.udp(53, 50002)))).verdict.action, Action.ENDPOINT);
	});

	t.test("two Pods from the same port to the same destination", async (t) => {
		const node = await start(t);
		const a = await node.send(out(build.udp(50005, 53)));
		const b = await node.send(out(build.udp(50005, 53), podB));
		t.equal(snatPort(a.flow), 50005);
		t.not(snatPort(b.flow), 50005);
		const toB = await node.send(back(build.udp(53, snatPort(b.flow))));
		t.equal(parse(toB.packet)?.key.destination, podB[4]);
		t.equal(parse(toB.packet)?.key.destinationPort, 50005);
		const elsewhere = await node.send(out(build.udp(50005, 54), podB));
		t.equal(snatPort(elsewhere.flow), 50005, "towards another port it is free");
	});

	t.test("a port that a socket of the Node holds is not taken", async (t) => {
		const node = await start(t, { config: { snatPortFirst: 50010, snatPortLast: 50011 } });
		const socket = createSocket("udp4");
		socket.bind(50010, nodeAddress[4]);
		await once(socket, "listening");
		node.tables.sockets.add(`17 ${nodeAddress[4]} 50010`);
		const { flow } = await node.send(out(build.udp(50010, 53)));
		t.equal(snatPort(flow), 50011);
		const { verdict } = await node.send(out(build.udp(50010, 53), podB));
		t.equal(DropReasonName[verdict.dropReason], "snat_ports_exhausted");
		socket.close();
		await once(socket, "close");
	});

	for (const [name, protocol, segment] of TRANSPORTS)
		t.test(`a port that netfilter gave to a connection is not taken: ${name}`, async (t) => {
			const node = await start(t);
			// As a container's that is masqueraded: its port at the Node has no socket.
			nft(translation(name, 41_000, "55000"));
			t.teardown(() => nft("delete table ip fairway_test"));
			const socket = await speak(name, 41_000, outside[4], 53);
			t.teardown(() => socket.close());
			node.tables.translations.add(`${protocol} ${nodeAddress[4]} 55000`);
			const { flow } = await node.send(out(segment(55000)));
			t.ok(flow);
			t.not(snatPort(flow), 55000);
		});

	for (const [name, protocol, segment] of TRANSPORTS)
		for (const began of ["before the flow", "after the flow", "after it, on the fast path"])
			t.test(`netfilter does not give a port that a flow has: ${name}, ${began}`, async (t) => {
				const node = await start(t);
				const track = () => {
					nft(translation(name, 41_001, "55100-55101"));
					t.teardown(() => nft("delete table ip fairway_test"));
				};
				if (began === "before the flow") track();
				const { flow } = await node.send(out(segment(55100)));
				t.equal(snatPort(flow), 55100);
				if (began !== "before the flow") {
					track();
					// After a silence, a packet for which the kernel is asked again tells netfilter.
					const ago = flow!.lastSeen - 2_000_000_000n;
					const asked = (flow!.asked - Limit.FLOW_ASKED_TRUST) & 0xffff;
					const again = began === "after the flow" ? { remote: 0 } : { asked };
					node.dataPath.writeFlow(originalKey(flow!), { lastSeen: ago, ...again });
					await node.send(out(segment(55100)));
				}
				const socket = await speak(name, 41_001, outside[4], 53);
				t.teardown(() => socket.close());
				// So it has taken the other one, which a second Pod then cannot have.
				node.tables.translations.add(`${protocol} ${nodeAddress[4]} 55101`);
				const second = await node.send(out(segment(55101), podB));
				t.ok(second.flow);
				t.not(snatPort(second.flow), 55101);
			});

	t.test("where netfilter does not track, a flow makes no entry for it", async (t) => {
		const node = await start(t);
		const entries = () =>
			Number(readFileSync("/proc/sys/net/netfilter/nf_conntrack_count", "latin1"));
		const before = entries();
		t.ok((await node.send(out(build.udp(55200, 53)))).flow);
		t.equal(entries(), before);
		nft(translation("udp", 41_002, "55300"));
		t.teardown(() => nft("delete table ip fairway_test"));
		t.ok((await node.send(out(build.udp(55201, 53)))).flow);
		t.equal(entries(), before + 1, "and where it does, one");
	});

	t.test("ports run out towards one destination, and come back when a flow expires", async (t) => {
		const node = await start(t, { config: { snatPortFirst: 50020, snatPortLast: 50022 } });
		const flows: Flow[] = [];
		for (let port = 1; port <= 3; port++) {
			flows.push((await node.send(out(build.udp(port, 53)))).flow!);
		}
		t.same(flows.map(snatPort).sort(), [50020, 50021, 50022]);
		const before = dataPath.drops(DropReason.SNAT_PORTS_EXHAUSTED);
		const { verdict } = await node.send(out(build.udp(4, 53)));
		t.equal(DropReasonName[verdict.dropReason], "snat_ports_exhausted");
		t.equal(dataPath.drops(DropReason.SNAT_PORTS_EXHAUSTED) - before, 1n, "and counted");
		node.age(flows[1]!, 31);
		const { flow } = await node.send(out(build.udp(4, 53)));
		t.equal(snatPort(flow), snatPort(flows[1]));
		t.equal(
			dataPath.flow(originalKey(flows[1]!)),
			undefined,
			"both tuples of the old flow are gone",
		);
	});

	t.test(
		"where no port is free, a Pod's new connection takes that of its own that is over",
		async (t) => {
			const node = await start(t, { config: { snatPortFirst: 50030, snatPortLast: 50032 } });
			const tcp = (port: number, flags: number, pod = podA) =>
				out(build.tcp(port, 80, { flags }), pod);
			const ports: number[] = [];
			for (const port of [1, 2, 3]) ports.push(snatPort((await node.send(tcp(port, SYN))).flow));
			t.same(ports.toSorted(), [50030, 50031, 50032]);
			const refused = async (input: Input, why: string) => {
				const { verdict } = await node.send(input);
				t.equal(DropReasonName[verdict.dropReason], "snat_ports_exhausted", why);
			};
			await refused(tcp(4, SYN), "all are open");
			await node.send(tcp(2, RST));
			await refused(tcp(4, ACK), "it begins no connection");
			await refused(tcp(4, SYN, podB), "it is another Pod's");
			node.tables.sockets.add(`6 ${nodeAddress[4]} ${ports[1]}`);
			const server = createServer().listen(ports[1], nodeAddress[4]);
			await once(server, "listening");
			await refused(tcp(4, SYN), "a socket of the Node has it by now");
			t.equal(dataPath.flows().length, 3, "for which no flow goes");
			node.tables.sockets.clear();
			server.close();
			await once(server, "close");
			const { flow } = await node.send(tcp(4, SYN));
			t.equal(snatPort(flow), ports[1]);
			t.equal(dataPath.flows().length, 3);
		},
	);

	for (const [kind, segment] of [
		["datagrams", (n) => build.udp(n, 53)],
		["echo requests", (n) => build.echo("request", n)],
	] satisfies [string, (n: number) => build.Segment][])
		t.test(
			`where no port is free, a Pod's new ${kind} take that of its own silent flow`,
			async (t) => {
				const node = await start(t, { config: { snatPortFirst: 50040, snatPortLast: 50042 } });
				const flows: Flow[] = [];
				for (const n of [1, 2, 3]) flows.push((await node.send(out(segment(n)))).flow!);
				const refused = async (input: Input, why: string) => {
					const { verdict } = await node.send(input);
					t.equal(DropReasonName[verdict.dropReason], "snat_ports_exhausted", why);
				};
				await refused(out(segment(4)), "all are in use");
				node.age(flows[1]!, Limit.SNAT_SILENT_SECONDS - 1);
				await refused(out(segment(4)), "a silence is short");
				node.age(flows[1]!, Limit.SNAT_SILENT_SECONDS + 1);
				await refused(out(segment(4), podB), "it is another Pod's");
				const { flow } = await node.send(out(segment(4)));
				t.equal(snatPort(flow), snatPort(flows[1]));
				t.equal(dataPath.flows().length, 3, "nothing is left of the silent one");
			},
		);

	for (const answered of [false, true])
		t.test(
			`a Pod does not keep all ports towards a destination: ${answered ? "answered" : "unanswered"} flows`,
			async (t) => {
				const many = Limit.FLOWS_FEW + 4;
				const config = { snatPortFirst: 50100, snatPortLast: 50100 + many - 1 };
				const node = await start(t, { config });
				for (let port = 1; port <= many; port++) {
					const { flow } = await node.send(out(build.udp(port, 53)));
					if (answered) await node.send(back(build.udp(53, snatPort(flow))));
				}
				const refused = async (input: Input, why: string) => {
					const { verdict } = await node.send(input);
					t.equal(DropReasonName[verdict.dropReason], "snat_ports_exhausted", why);
				};
				await refused(out(build.udp(99, 53)), "it takes none of its own");
				for (const port of [1, 2])
					t.ok((await node.send(out(build.udp(port, 53), podB))).flow, "another Pod has some");
				await refused(out(build.udp(3, 53), podB), "the first has not many more by now");
				t.equal(dataPath.flows().length, many);
				t.equal(dataPath.flowCount(2).flows, 2);
			},
		);

	t.test("a port that cannot be translated stays with the Pod that has it", async (t) => {
		const node = await start(t);
		const init = (port: number, pod = podA) => out(build.sctp(port, 5000), pod);
		for (let port = 1; port <= Limit.FLOWS_FEW + 4; port++) await node.send(init(port));
		const { verdict } = await node.send(init(1, podB));
		t.equal(DropReasonName[verdict.dropReason], "snat_ports_exhausted");
	});

	t.test("a silent flow keeps its port while others are free", async (t) => {
		const node = await start(t, { config: { snatPortFirst: 50050, snatPortLast: 50069 } });
		const first = (await node.send(out(build.udp(50050, 53)))).flow!;
		node.age(first, Limit.SNAT_SILENT_SECONDS + 1);
		for (let port = 1; port <= 19; port++) t.ok((await node.send(out(build.udp(port, 53)))).flow);
		t.ok(dataPath.flow(originalKey(first)));
	});

	/** Fills the table with what one Pod sends to the outside, and nobody answers. */
	const flood = async (node: Node, segment: (n: number) => build.Segment) => {
		for (let n = 1; n <= 6 * dataPath.flowSlots; n++) await node.send(out(segment(n)));
		t.ok(dataPath.flows().length > dataPath.flowSlots - 4, "the table is full");
	};
	const fullTableDrops = () => dataPath.drops(DropReason.FLOW_TABLE_FULL);

	for (const [kind, segment] of [
		["SYNs", (n) => build.tcp(n, 80, { flags: SYN })],
		["TCP packets from the middle of a connection", (n) => build.tcp(n, 80, { flags: ACK })],
		["echo requests", (n) => build.echo("request", n)],
		["datagrams", (n) => build.udp(n, 80)],
		["SCTP packets from the middle of an association", (n) => build.sctp(n, 80, 0)],
	] satisfies [string, (n: number) => build.Segment][])
		t.test(`a table full of one Pod's unanswered ${kind} refuses nobody`, async (t) => {
			const node = await start(t);
			await flood(node, segment);
			for (let port = 1; port <= 100; port++) {
				const { verdict, flow } = await node.send(out(build.tcp(port, 443, { flags: SYN }), podB));
				t.equal(DropReasonName[verdict.dropReason], "none");
				t.ok(flow, "and it is tracked");
			}
			t.equal(fullTableDrops(), 0n);
		});

	t.test("a table full of answered, half-open connections refuses nobody", async (t) => {
		const node = await start(t);
		for (let n = 1; n <= 2 * dataPath.flowSlots; n++) {
			const { flow } = await node.send(out(build.tcp(n, 80, { flags: SYN })));
			t.ok(flow);
			await node.send(back(build.tcp(80, snatPort(flow), { flags: SYN | ACK })));
		}
		t.equal(fullTableDrops(), 0n);
	});

	t.test("a table full of what came from the wire refuses no Pod", async (t) => {
		const node = await start(t);
		for (let n = 1; n <= 6 * dataPath.flowSlots; n++)
			await node.send(
				fromWire(
					build.ip(
						{ source: direct.pod[4], destination: podA[4] },
						build.tcp(n, 80, { flags: ACK }),
					),
				),
			);
		t.ok(dataPath.flows().length > dataPath.flowSlots - 4, "the table is full");
		for (let port = 1; port <= 100; port++) await node.send(out(build.udp(port, 443), podB));
		t.equal(fullTableDrops(), 0n);
	});

	t.test(
		"a Pod with many answered flows makes room for one with few, and not for itself",
		async (t) => {
			const node = await start(t);
			let answered = 0;
			for (let port = 1; port <= 6 * dataPath.flowSlots; port++) {
				const there = await node.send(out(build.udp(port, 53)));
				if (there.flow === undefined) continue;
				await node.send(back(build.udp(53, snatPort(there.flow))));
				answered++;
			}
			t.equal(answered, dataPath.flowSlots, "the table is full, and it is not at its own cost");
			t.ok(fullTableDrops() > 0n, "who has most is refused");
			const untracked = dataPath.event(EventCounter.UNTRACKED);
			await node.send(out(build.udp(7, 7), podA, direct.pod[4]));
			t.equal(dataPath.event(EventCounter.UNTRACKED) - untracked, 1n, "or goes untracked");
			const before = fullTableDrops();
			for (let port = 1; port <= 8; port++) {
				const there = await node.send(out(build.udp(port, 443), podB));
				await node.send(back(build.udp(443, snatPort(there.flow))));
			}
			t.equal(fullTableDrops(), before);
		},
	);

	t.test("a Pod's few unanswered flows outlast a flood of another's", async (t) => {
		const node = await start(t);
		const waiting: Flow[] = [];
		for (let port = 1; port <= 4; port++)
			waiting.push((await node.send(out(build.tcp(port, 443, { flags: SYN }), podB))).flow!);
		await flood(node, (n) => build.udp(n, 80));
		for (const flow of waiting) {
			const answer = await node.send(back(build.tcp(443, snatPort(flow), { flags: SYN | ACK })));
			t.equal(answer.verdict.action, Action.ENDPOINT);
		}
	});

	t.test("flows of a Pod are counted, and no count stays behind", async (t) => {
		const node = await start(t);
		for (let port = 1; port <= 300; port++) {
			const { flow } = await node.send(
				out(build.tcp(port, 80, { flags: SYN }), port % 3 ? podA : podB),
			);
			// Who has most of a full table is refused.
			if (flow === undefined) continue;
			const answer = (flags: number) => node.send(back(build.tcp(80, snatPort(flow), { flags })));
			if (port % 2 === 0) await answer(SYN | ACK);
			if (port % 5 === 0) await answer(RST);
			// No two are equally old, as the core's clock is coarse.
			node.age(flow, port % 7 === 0 ? 300 : (300 - port) / 100);
		}
		for (const index of [0, 1, 2, 3])
			t.same(dataPath.flowCount(index), node.tables.flowCount(index), `Pod ${index}`);
	});

	t.test("an unanswered flow makes room, with both its tuples", async (t) => {
		const node = await start(t);
		const first = await node.send(out(build.udp(1, 53)));
		node.age(first.flow!, 20);
		for (let port = 2; dataPath.event(EventCounter.FLOW_EVICTED_EARLY) === 0n; port++) {
			const { flow } = await node.send(out(build.udp(port, 53)));
			// Different ages, so that both clocks agree on the oldest.
			node.age(flow!, 20 - port * 0.2);
			t.ok(port < 200, "the table fills");
			if (port >= 200) break;
		}
		t.ok(dataPath.flows().length <= dataPath.flowSlots);
		t.equal(dataPath.tuples(), dataPath.expectedTuples());
	});

	t.test("both tuples always lead to the same flow", async (t) => {
		const node = await start(t);
		for (let port = 1; port < 150; port++) {
			const { flow } = await node.send(out(build.udp(port, 53)));
			node.age(flow!, port % 3 === 0 ? 40 : 0);
		}
		for (const flow of dataPath.flows()) {
			const there = dataPath.flow(originalKey(flow));
			const here = dataPath.flow(replyKey(flow));
			if (!there && !here) continue;
			t.same([there?.direction, here?.direction], [0, 1]);
			t.same(there?.flow, here?.flow);
		}
	});

	t.test("a route that changes is looked up again, a path that changes at once", async (t) => {
		const node = await start(t);
		const send = () => node.send(out(build.udp(9, 9, DATA), podA, direct.pod[4]));
		t.equal((await send()).verdict.peer, direct.id);
		node.tables.routes.delete("10.244.2.0/24");
		dataPath.write(node.tables);
		t.equal((await send()).verdict.peer, direct.id, "the flow remembers");
		node.tables.config = { ...node.tables.config, routeEpoch: 2 };
		dataPath.writeConfig(node.tables.config);
		t.equal((await send()).verdict.peer, 0xffffffff, "until the epoch is raised");
	});

	t.test("next hops: asked for, kept, and asked again after an epoch", async (t) => {
		const node = await start(t);
		const send = async () =>
			(await node.send(out(build.udp(9, 9, DATA), podA, direct.pod[4]))).verdict.action;
		t.equal(await send(), Action.WIRE_NEIGHBOUR);
		const kept = dataPath.nextHop(direct.id * 2);
		t.equal(kept.ifindex, world.indexOf("wire0"));
		// On a slow machine, two packets may take longer than a next hop is trusted.
		while ((await send()) !== Action.WIRE);
		node.tables.config = { ...node.tables.config, nextHopEpoch: 2 };
		dataPath.writeConfig(node.tables.config);
		t.equal(await send(), Action.WIRE_NEIGHBOUR);
		while ((await send()) !== Action.WIRE);
		t.equal(dataPath.nextHop(direct.id * 2).epoch, 2);
	});

	t.test("counters: packets as on the wire, bytes of the IP packets", async (t) => {
		const node = await start(t);
		const segment = build.tcp(1, 2, { flags: ACK, payload: Buffer.alloc(2000) });
		await node.send({
			...out(segment, podA, direct.pod[4]),
			context: { ifindex: world.indexOf(podA.interface), gsoSize: 1000, gsoSegments: 2 },
		});
		await node.send(out(build.udp(1, 2, DATA), podA, direct.pod[4]));
		await node.send(out(build.udp(1, 2, DATA), podA, world.vxlan4.pod[4]));
		t.match(dataPath.counter(direct.id * 2), {
			directPackets: 3n,
			directBytes: BigInt(2 * 40 + 2000 + 28 + DATA.length),
			tunnelPackets: 0n,
		});
		t.match(dataPath.counter(world.vxlan4.id * 2), {
			directPackets: 0n,
			tunnelPackets: 1n,
			tunnelBytes: BigInt(28 + DATA.length),
		});
	});

	t.test("fragments in order and out of it", async (t) => {
		const node = await start(t);
		const datagram = build.ip(
			{ source: podA[4], destination: outside[4], dontFragment: false },
			build.udp(50030, 53, Buffer.alloc(1000, 1)),
		);
		const [first, second, third] = build.fragmented(datagram, 400, 99).map((f) => fromPod(podA, f));
		t.equal((await node.send(second!)).verdict.action, Action.SLOW_PATH, "its ports are unknown");
		t.equal(parse((await node.send(first!)).packet)?.key.source, nodeAddress[4]);
		for (const later of [second!, third!]) {
			const { packet, flow } = await node.send(later);
			t.equal(parse(packet)?.key.source, nodeAddress[4]);
			t.ok(flow && flow.flags & FlowFlag.SNAT);
		}
	});

	t.test(
		"a Pod's first fragments are not displaced by another Pod's or by strangers'",
		async (t) => {
			const node = await start(t);
			const datagram = build.ip(
				{ source: podA[4], destination: outside[4], dontFragment: false },
				build.udp(50032, 53, Buffer.alloc(1000, 1)),
			);
			const [first, later] = build.fragmented(datagram, 400, 98).map((f) => fromPod(podA, f));
			await node.send(first!);
			const flood = (input: typeof first, source: number) => {
				// The datagram's identification is not in any checksum that is looked at.
				for (let id = 0; id < 20_000; id++) {
					input!.packet.writeUInt16BE(id, 14 + 4);
					input!.packet.writeUInt8(source, 14 + 19);
					dataPath.run(input!.hook, input!.packet, { ...input!.context, now: 0n });
				}
			};
			const firstOf = (source: string, destination: string) =>
				build.fragmented(
					build.ip({ source, destination, dontFragment: false }, build.udp(1, 2, Buffer.alloc(64))),
					64,
					1,
				)[0]!;
			flood(fromPod(podB, firstOf(podB[4], outside[4])), 9);
			flood(fromWire(firstOf(outside[4], podA[4])), 2);
			const { packet, flow } = await node.send(later!);
			t.equal(parse(packet)?.key.source, nodeAddress[4]);
			t.ok(flow && flow.flags & FlowFlag.SNAT);
		},
	);

	t.test("later IPv6 fragments name an extension header, and are their first one's", async (t) => {
		const node = await start(t);
		const datagram = build.ip(
			{
				source: podA[6],
				destination: outside[6],
				extensions: [build.extension(build.DESTINATION_OPTIONS, 0)],
			},
			build.udp(50031, 53, Buffer.alloc(1000, 1)),
		);
		const parts = build.fragmented(datagram, 400, 99).map((part) => fromPod(podA, part));
		const sources = [];
		for (const part of parts) {
			const { packet, flow } = await node.send(part);
			sources.push(parse(packet)?.key.source);
			t.ok(flow && flow.flags & FlowFlag.SNAT);
		}
		t.same(sources, [nodeAddress[6], nodeAddress[6], nodeAddress[6]]);
	});

	t.test("what a native packet does not take from a translated flow", async (t) => {
		const node = await start(t);
		const { flow } = await node.send(out(build.udp(50040, 53, DATA)));
		// The destination also reaches the Pod's own address, without translation.
		const native = build.ip(
			{ source: outside[4], destination: podA[4] },
			build.udp(53, 50040, DATA),
		);
		const untracked = dataPath.event(EventCounter.UNTRACKED);
		t.equal((await node.send(fromWire(native))).verdict.action, Action.ENDPOINT);
		t.equal(dataPath.event(EventCounter.UNTRACKED) - untracked, 1n);
		const again = await node.send(out(build.udp(50040, 53, DATA)));
		t.equal(parse(again.packet)?.key.sourcePort, snatPort(flow), "still translated");
	});

	t.test("a process of the Node is translated with a port of its own", async (t) => {
		const node = await start(t);
		const send = (port: number) =>
			node.send(
				fromHost(
					build.ip({ source: nodeAddress[4], destination: direct.pod[4] }, build.udp(port, 53)),
				),
			);
		const { flow } = await send(33000);
		t.equal(flow && replyKey(flow).destination, world.gateway[4]);
		t.ok(Number(snatPort(flow)) >= 49152);
		t.equal(flow?.state, FlowState.UDP_OPENING);
	});
}
