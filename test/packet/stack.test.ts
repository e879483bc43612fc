/**
 * Flows that go through the Node's own stack, which may translate them (kube-proxy): what Pods send
 * to serviceCIDRs, and the way back, whichever hook has first seen the stack's side of the flow. And
 * links that are no way to other Nodes, from which only answers are taken.
 */
import t, { type Test } from "tap";
import { parse } from "../../src/forwarder/packet.js";
import {
	Action,
	ActionName,
	DropReasonName,
	Hook,
	Limit,
	NodeFlag,
	RouteKind,
} from "../../src/tables/generated.js";
import * as build from "./builder.js";
import { check, type Input } from "./check.js";
import { DataPath } from "./data_path.js";
import type { MemoryTables } from "./memory_tables.js";
import { inNamespace } from "./namespace.js";
import { atXdp, fresh, fromHost, fromPod, fromWire, toPod, tunnelled } from "./table.js";
import * as world from "./world.js";

const { podA, podB, direct, geneve4, outside, nodeAddress, gateway, excluded } = world;
const service = { 4: "10.96.0.10", 6: "fd00:96::10" };
const FLAGS = NodeFlag.CONFIGURED | NodeFlag.SNAT | NodeFlag.STACK_SNAT;
type Family = 4 | 6;

if (inNamespace(import.meta.url)) {
	world.makeNetwork();
	const dataPath = new DataPath({ flowSlots: 128 });
	t.teardown(() => dataPath.close());

	for (const family of [4, 6] as const) {
		const scene = (shows: string, play: (stage: Stage) => Promise<void>) =>
			t.test(`IPv${family}: ${shows}`, async (t) => {
				const tables = await fresh(dataPath, { config: { flags: FLAGS } });
				const stack = { kind: RouteKind.STACK, flags: 0, mtu: 0, peer: Limit.NO_PEER };
				tables.routes.set(family === 4 ? "10.96.0.0/16" : "fd00:96::/112", stack);
				dataPath.write(tables);
				await play(new Stage(t, dataPath, tables, family));
			});

		scene("to a Service: to the Node's stack, the answer is of the same flow", async (stage) => {
			await stage.passes(fromPod(podA, stage.udp(podA[family], service[family])));
			await stage.passes(toPod(podA, stage.answer(service[family], podA[family])));
			stage.flows(1);
		});

		scene("a backend on this Node: its answers go back to the stack", async (stage) => {
			await stage.passes(toPod(podB, stage.udp(podA[family], podB[family])));
			await stage.passes(fromPod(podB, stage.answer(podB[family], podA[family])));
			stage.raiseEpoch();
			await stage.passes(fromPod(podB, stage.answer(podB[family], podA[family])));
		});

		scene("a backend for a client outside: its answers go back to the stack", async (stage) => {
			await stage.passes(toPod(podB, stage.udp(outside[family], podB[family])));
			await stage.passes(fromPod(podB, stage.answer(podB[family], outside[family])));
			stage.raiseEpoch();
			await stage.passes(fromPod(podB, stage.answer(podB[family], outside[family])));
		});

		for (const [peer, name] of [
			[direct, "directly"],
			[geneve4, "in a tunnel"],
		] as const)
			scene(`a backend on another Node: its answers, ${name}, go into the stack`, async (stage) => {
				const answer = (ttl = 64) => stage.answer(peer.pod[family], podA[family], ttl);
				const comes = () => {
					const packet = peer === direct ? answer() : tunnelled(peer, answer());
					return fromWire(packet, peer.mac);
				};
				await stage.leaves(fromHost(stage.udp(podA[family], peer.pod[family], 63)), "wire0");
				for (const epoch of ["before", "after"]) {
					await stage.enters(comes(), "fairway0", answer());
					await stage.passes(atXdp(comes()), epoch);
					stage.raiseEpoch();
				}
				const error = build.ip(
					{ source: peer.gateway[family], destination: podA[family] },
					build.unreachable(stage.udp(podA[family], peer.pod[family], 62)),
				);
				const told = peer === direct ? error : tunnelled(peer, error);
				await stage.enters(fromWire(told, peer.mac), "fairway0", error);
			});

		scene("a peer's Pod that speaks to a Pod itself is answered directly", async (stage) => {
			await stage.leaves(
				fromWire(stage.udp(direct.pod[family], podA[family]), direct.mac),
				podA.interface,
			);
			await stage.leaves(fromPod(podA, stage.answer(podA[family], direct.pod[family])), "wire0");
		});

		scene("a backend outside: the stack's packet gets the Node's address", async (stage) => {
			const sent = await stage.passes(toWire(stage.udp(podA[family], outside[family], 63)));
			const port = sent.key.sourcePort;
			t.equal(sent.key.source, nodeAddress[family]);
			stage.raiseEpoch();
			const back = build.ip(
				{ source: outside[family], destination: nodeAddress[family], ttl: 60 },
				build.udp(2000, port, DATA),
			);
			const returned = await stage.passes(fromWire(back));
			t.equal(returned.key.destination, podA[family], "turned back, for the stack");
			t.equal(returned.key.destinationPort, 1000);
			t.equal(returned.ttl, 60);
			const atLink = await stage.passes({ ...fromWire(back), hook: Hook.FROM_LINK });
			t.equal(atLink.key.destination, podA[family]);
			const again = await stage.passes(toWire(stage.udp(podA[family], outside[family], 63)));
			t.equal(again.key.sourcePort, port, "the same flow");
			const error = build.ip(
				{ source: world.router[family], destination: nodeAddress[family] },
				build.unreachable(sent.frame.subarray(14)),
			);
			const told = await stage.passes(fromWire(error));
			t.equal(told.key.destination, podA[family], "so is an error about it");
		});

		scene("what leaves and keeps its address", async (stage) => {
			const keeps = async (packet: Buffer) => {
				const out = await stage.passes(toWire(packet));
				t.equal(out.frame.subarray(14).toString("hex"), packet.toString("hex"));
			};
			await keeps(stage.udp(nodeAddress[family], outside[family]));
			await keeps(stage.udp(podA[family], direct.pod[family]));
			await keeps(stage.udp(podA[family], excluded[family]));
			await stage.leaves(fromPod(podA, stage.udp(podA[family], direct.pod[family])), "wire0");
			await keeps(stage.udp(podA[family], direct.pod[family], 63));
			const error = build.ip(
				{ source: podA[family], destination: outside[family] },
				build.unreachable(stage.udp(outside[family], podA[family])),
			);
			await stage.drops(toWire(error), "icmp_unrelated");
		});

		scene("a Pod's tunnel does not reach a peer by way of the stack", async (stage) => {
			const peer = { ...direct, outerFamily: family };
			const [source, destination] = [podA[family], direct.transport[family]];
			const plain = (port: number) =>
				toWire(build.ip({ source, destination }, build.udp(50000, port, DATA)));
			const forged = (port: number) => {
				const others = stage.udp(podB[family], direct.pod[family]);
				return toWire(tunnelled(peer, others, { port, outer: { source, destination } }));
			};
			await stage.drops(plain(Limit.GENEVE_PORT), "tunnel_from_pod");
			await stage.drops(forged(Limit.VXLAN_PORT), "tunnel_from_pod");
			await stage.passes(plain(7777), "no tunnel");
			await stage.drops(forged(7777), "tunnel_from_pod");
		});

		scene("a link's answer to a translated flow reaches the Pod", async (stage) => {
			const sent = await stage.leaves(
				fromPod(podA, stage.udp(podA[family], outside[family])),
				"wire0",
			);
			const back = (ttl: number) =>
				build.ip(
					{ source: outside[family], destination: nodeAddress[family], ttl },
					build.udp(2000, sent.key.sourcePort, DATA),
				);
			const fromLink = (packet: Buffer): Input => ({ ...fromWire(packet), hook: Hook.FROM_LINK });
			const got = await stage.leaves(fromLink(back(64)), podA.interface);
			t.equal(got.key.destination, podA[family]);
			t.equal(got.ttl, 63);
			await stage.drops(fromLink(back(1)), "ttl_exceeded");
			const error = build.ip(
				{ source: outside[family], destination: nodeAddress[family] },
				build.unreachable(sent.frame.subarray(14)),
			);
			await stage.leaves(fromLink(error), podA.interface);
			// All else is the stack's: new flows, tunnels, what is for Pods.
			await stage.passes(fromLink(stage.udp(outside[family], nodeAddress[family])));
			await stage.passes(fromLink(stage.udp(outside[family], podA[family])));
			await stage.passes(fromLink(stage.udp(direct.pod[family], gateway[family])));
			const inner = stage.udp(geneve4.pod[family], podA[family]);
			await stage.passes(fromLink(tunnelled(geneve4, inner)));
		});
	}
}

const DATA = Buffer.from("through the stack");

function toWire(packet: Buffer): Input {
	return { ...fromWire(packet), hook: Hook.TO_WIRE };
}

/** Packets one after the other, each through the programs and the forwarder. */
class Stage {
	readonly #test: Test;
	readonly #core: DataPath;
	readonly #tables: MemoryTables;
	readonly #family: Family;

	constructor(test: Test, core: DataPath, tables: MemoryTables, family: Family) {
		this.#test = test;
		this.#core = core;
		this.#tables = tables;
		this.#family = family;
	}

	udp(source: string, destination: string, ttl = 64): Buffer {
		return build.ip({ source, destination, ttl }, build.udp(1000, 2000, DATA));
	}

	answer(source: string, destination: string, ttl = 64): Buffer {
		return build.ip({ source, destination, ttl }, build.udp(2000, 1000, DATA));
	}

	/** As after any change of routes or endpoints. */
	raiseEpoch(): void {
		this.#tables.config = {
			...this.#tables.config,
			routeEpoch: this.#tables.config.routeEpoch + 1,
		};
		this.#core.writeConfig(this.#tables.config);
	}

	flows(count: number): void {
		this.#test.equal(this.#core.flows().length, count, "flows");
	}

	async passes(input: Input, what = "to the Node's stack") {
		return this.#plays(input, "pass", what);
	}

	/** Into a device as if received there, the packet as it came. */
	async enters(input: Input, device: string, packet: Buffer): Promise<void> {
		const out = await this.#plays(input, "host", `into ${device}`, device);
		this.#test.equal(out.frame.subarray(14).toString("hex"), packet.toString("hex"));
	}

	async leaves(input: Input, device: string) {
		const action = device === podA.interface ? "endpoint" : "wire";
		return this.#plays(input, action, `out of ${device}`, device);
	}

	async drops(input: Input, reason: string): Promise<void> {
		const { outcome, differences } = await check(this.#core, this.#tables, input);
		this.#test.same(differences, [], "the forwarder says the same");
		this.#test.equal(DropReasonName[outcome.verdict.dropReason], reason);
	}

	async #plays(input: Input, action: string, what: string, device?: string) {
		const { outcome, differences } = await check(this.#core, this.#tables, input);
		const { verdict, packet } = outcome;
		this.#test.same(differences, [], "the forwarder says the same");
		const name =
			ActionName[verdict.action === Action.WIRE_NEIGHBOUR ? Action.WIRE : verdict.action];
		this.#test.equal(name, action, what);
		if (device) this.#test.equal(verdict.ifindex, world.indexOf(device), what);
		const out = parse(packet);
		if (!out) throw new Error(`Cannot read the packet that came out over IPv${this.#family}`);
		return out;
	}
}
