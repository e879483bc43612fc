/**
 * The fast path from the wire to the wire: a client outside uses a Service by this Node, and the backend is a
 * peer's Pod. Both directions, by every path; and what ends it at once.
 */
import { equal } from "node:assert/strict";
import t from "tap";
import { BackendState, Hook, Path, PeerFlag } from "../../src/tables/generated.js";
import * as build from "./builder.js";
import type { Input } from "./check.js";
import { HOOKS, hookText, type Side, sides } from "./conversation.js";
import { DataPath } from "./data_path.js";
import { type Expected, FAMILIES, type Family } from "./fast_path.js";
import { inNamespace } from "./namespace.js";
import {
	NAMES,
	type PacketOptions,
	type Protocol,
	packetOf,
	reversed,
	Scene,
	TCP,
	type Tuple,
	UDP,
} from "./service_scene.js";
import { TARGET_PORT } from "./services.js";
import { fromWire, onWire } from "./table.js";
import * as world from "./world.js";

const { direct, geneve4, outside, nodeAddress, gateway } = world;
/** In the range of SNAT: a flow that is alone keeps it. */
const PORT = 50001;

/** A client outside that talks with a peer's Pod by this Node's NodePort. */
class Crossing {
	readonly scene: Scene;
	readonly #protocol: Protocol;
	readonly #side: Side;
	/** As the client sees it, and as the backend does. */
	readonly #original: Tuple;
	readonly #shown: Tuple;

	constructor(scene: Scene, protocol: Protocol, place: number) {
		const { family } = scene;
		const service = scene.service("mixed", protocol);
		const pod = world.peers[place]!.pod[family];
		scene.only(service, pod);
		this.scene = scene;
		this.#protocol = protocol;
		this.#side = sides(family)[place]!;
		const port = scene.service("mixed", protocol).nodePort;
		this.#original = [
			[outside[family], PORT],
			[nodeAddress[family], port],
		];
		this.#shown = [
			[gateway[family], PORT],
			[pod, TARGET_PORT],
		];
	}

	question(how: PacketOptions = {}, hook: number = Hook.FROM_WIRE): Input {
		return { ...fromWire(packetOf(this.#original, this.#protocol, how)), hook };
	}

	asked(how: PacketOptions = {}): Expected {
		return this.#side.sent(packetOf(this.#shown, this.#protocol, { ttl: 63, ...how }));
	}

	answer(how: PacketOptions = {}, hook: number = Hook.FROM_WIRE): Input {
		return this.#side.received(packetOf(reversed(this.#shown), this.#protocol, how), hook);
	}

	/** By another peer's path. */
	answerOf(side: Side): Input {
		return side.received(packetOf(reversed(this.#shown), this.#protocol), Hook.FROM_WIRE);
	}

	answered(how: PacketOptions = {}): Expected {
		const packet = packetOf(reversed(this.#original), this.#protocol, { ttl: 63, ...how });
		return { frame: onWire(world.ROUTER_MAC, packet) };
	}

	/** One packet in each direction. */
	async exchange(): Promise<void> {
		await this.scene.expect(this.question(), this.asked());
		await this.scene.expect(this.answer(), this.answered());
	}
}

/** The place of a peer's Pod with this path among the sides. */
const GENEVE = 1;
const DIRECT = 0;

if (inNamespace(import.meta.url)) {
	world.makeNetwork();
	const dataPath = new DataPath({ flowSlots: 128 });
	t.teardown(() => dataPath.close());

	for (const family of FAMILIES) {
		const crossing = (
			shows: string,
			protocol: Protocol,
			place: number,
			play: (crossing: Crossing) => Promise<void>,
		) =>
			t.test(`IPv${family}: ${NAMES[protocol]}: ${shows}`, async (t) => {
				await play(new Crossing(await Scene.begin(dataPath, family), protocol, place));
				t.pass("every packet");
			});

		for (const protocol of [UDP, TCP] as const) {
			for (const [place, side] of sides(family).entries()) {
				if (side.translated) continue;
				crossing(`by ${side.name}, both directions`, protocol, place, async (talk) => {
					const { scene } = talk;
					// What comes in a tunnel of the other family takes the full path at TC.
					const both = side.outerFamily === family;
					for (const _ of ["new", "of a new epoch"]) {
						await talk.exchange();
						// The first answer looks for the way to the client.
						await talk.exchange();
						equal(scene.isFast(talk.question()), true, "question");
						equal(scene.isFast(talk.answer()), both, "answer");
						await talk.exchange();
						for (const hook of HOOKS) {
							await scene.send(talk.question({}, hook));
							await scene.send(talk.answer({}, hook));
							const name = hookText(hook);
							equal(scene.isFast(talk.question({}, hook)), true, name);
							if (hook === Hook.FROM_WIRE_XDP)
								equal(scene.isFast(talk.answer({}, hook)), true, name);
						}
						scene.raiseEpoch();
					}
				});
			}

			crossing("the last hop, and what opens or closes", protocol, GENEVE, async (talk) => {
				await talk.exchange();
				await talk.exchange();
				await talk.scene.ends(talk.question({ ttl: 1 }), "ttl_exceeded", "ttl_exceeded");
				await talk.scene.ends(talk.answer({ ttl: 1 }), "ttl_exceeded", "ttl_exceeded");
				if (protocol === UDP) return;
				const closes = { flags: build.FIN | build.ACK };
				await talk.scene.expect(talk.question(closes), talk.asked(closes));
				await talk.exchange();
			});
		}

		crossing("a peer's other path is the next packet's", UDP, GENEVE, async (talk) => {
			const { scene } = talk;
			await talk.exchange();
			await talk.exchange();
			const index = indexOf(geneve4.id, family);
			scene.changePeer(index, { path: Path.DIRECT, mtu: 1500 });
			equal(scene.isFast(talk.question()), true);
			const { packet } = await scene.send(talk.question());
			equal(packet.readUInt16BE(12), family === 4 ? 0x0800 : 0x86dd);
			equal(packet.length, talk.question().packet.length, "without a tunnel");
			scene.changePeer(index, { path: Path.DOWN });
			await scene.ends(talk.question(), "peer_down");
		});

		crossing("what does not fit the peer's path", UDP, GENEVE, async (talk) => {
			await talk.exchange();
			await talk.exchange();
			talk.scene.changePeer(indexOf(geneve4.id, family), { mtu: 1280 });
			const large = talk.question({ data: Buffer.alloc(1300), dontFragment: true });
			await talk.scene.ends(large, "packet_too_big", "too_big");
		});

		crossing("answers in another peer's tunnel", UDP, GENEVE, async (talk) => {
			await talk.exchange();
			await talk.exchange();
			const other = talk.answerOf(sides(family)[2]!);
			equal(talk.scene.isFast(other), false);
			await talk.scene.ends(other, "tunnel_wrong_source");
		});

		crossing(
			"answers without the tunnel that their peer always uses",
			UDP,
			DIRECT,
			async (talk) => {
				await talk.exchange();
				await talk.exchange();
				talk.scene.changePeer(indexOf(direct.id, family), { flags: PeerFlag.TUNNELLED_ONLY });
				equal(talk.scene.isFast(talk.answer()), false);
				await talk.scene.ends(talk.answer(), "untunnelled");
			},
		);

		crossing("an endpoint that is gone", UDP, GENEVE, async (talk) => {
			const { scene } = talk;
			await talk.exchange();
			await talk.exchange();
			const gone = scene.backend(scene.service("mixed", UDP), geneve4.pod[family]);
			const again = new Crossing(scene, UDP, DIRECT);
			scene.state(gone, BackendState.RESTS);
			await again.exchange();
		});
	}
}

/** In `peers`. */
function indexOf(id: number, family: Family): number {
	return id * 2 + (family === 6 ? 1 : 0);
}
