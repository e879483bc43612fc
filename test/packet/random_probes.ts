/**
 * Random probes: requests of the Node's agent, requests of peers, and answers to the former, some of them with
 * wrong contents.
 */
import type { Decision } from "../../src/forwarder/forwarder.js";
import { Hook, Probe, ProbeKind } from "../../src/tables/generated.js";
import * as build from "./builder.js";
import type { Input } from "./check.js";
import { type Family, probeSegment, request } from "./probes.js";
import type { Random } from "./random.js";
import { tunnelled } from "./random_packets.js";
import * as world from "./world.js";

/** Maximum number of unanswered requests. */
const OPEN_MAX = 8;

interface Asked {
	peer: world.PeerFacts;
	family: Family;
	probe: Probe;
}

export class RandomProbes {
	readonly #random: Random;
	readonly #open: Asked[] = [];
	#asking: Omit<Asked, "probe"> | undefined;

	constructor(random: Random) {
		this.#random = random;
	}

	next(): Input {
		const random = this.#random;
		this.#asking = undefined;
		if (this.#open.length > 0 && random.chance(0.4)) return this.#answer(random.pick(this.#open));
		return random.chance(0.5) ? this.#ask() : this.#request();
	}

	/** Remembers what the core has sent, for its answer. */
	observe({ packet, probeOffset }: Decision): void {
		if (this.#asking === undefined || probeOffset === undefined) return;
		const probe = Probe.decode(packet, probeOffset + 8);
		this.#open.push({ ...this.#asking, probe });
		if (this.#open.length > OPEN_MAX) this.#open.shift();
	}

	#ask(): Input {
		const [peer, family] = this.#peer();
		this.#asking = { peer, family };
		const how = this.#how(world.gateway[family], peer.gateway[family], family);
		const packet = request(how, this.#length(), this.#wish());
		const { GATEWAY_MAC, indexOf } = world;
		const macs = { source: GATEWAY_MAC, destination: GATEWAY_MAC };
		return {
			hook: Hook.FROM_HOST,
			packet: build.frame(macs, packet),
			context: { ifindex: indexOf("fairway0") },
		};
	}

	#request(): Input {
		const random = this.#random;
		const [peer, family] = this.#peer();
		const length = this.#length();
		const answerLength = random.chance(0.7)
			? random.between(Math.min(96, length), length)
			: random.between(0, 2000);
		const how = this.#how(peer.gateway[family], world.gateway[family], family);
		const extra = { sentAt: BigInt(random.below(2 ** 32)), token: BigInt(random.below(2 ** 32)) };
		const probe = { ...this.#wish(), ...extra, length, answerLength };
		return this.#fromWire(peer, build.ip(how, probeSegment(family, length, probe)), family);
	}

	#answer({ peer, family, probe }: Asked): Input {
		const random = this.#random;
		const changes: Partial<Probe>[] = [
			{ token: probe.token ^ (1n << BigInt(random.below(64))) },
			{ wayBack: 1 - probe.wayBack },
			{ sentAt: probe.sentAt - 6_000_000_000n },
			{ kind: random.pick([0, ProbeKind.REQUEST, 3]) },
			{ magic: random.below(2 ** 32) },
		];
		const said = {
			...probe,
			kind: ProbeKind.ANSWER,
			receivedPackets: random.below(2 ** 32),
			receivedLarge: random.below(2 ** 32),
			...(random.chance(0.2) && random.pick(changes)),
		};
		const sender = random.chance(0.95) ? peer : random.pick(world.peers);
		const how = this.#how(sender.gateway[family], world.gateway[family], family);
		const packet = build.ip(how, probeSegment(family, this.#length(), said));
		return this.#fromWire(sender, packet, family);
	}

	#peer(): [world.PeerFacts, Family] {
		return [this.#random.pick(world.peers), this.#random.pick([4, 6] as const)];
	}

	#length(): number {
		return this.#random.pick([96, 100, 576, 1280, 1281, 1500, this.#random.between(96, 1600)]);
	}

	#how(source: string, destination: string, family: Family): build.IpOptions {
		const random = this.#random;
		const how: build.IpOptions = {
			source,
			destination,
			trafficClass: random.pick([0, 0, 2, 0xb8]),
		};
		if (random.chance(0.05)) how.options = Buffer.from([1, 1, 1, 0]);
		if (family === 6 && random.chance(0.05)) how.extensions = [build.extension(60)];
		if (random.chance(0.05)) how.source = world.nodeAddress[family];
		return how;
	}

	#wish(): Partial<Probe> {
		const random = this.#random;
		const way = () => (random.chance(0.03) ? random.below(256) : random.below(2));
		return {
			flags: random.below(2),
			wayThere: way(),
			wayBack: way(),
			sequence: random.below(2 ** 32),
			...(random.chance(0.03) && { kind: random.below(4) }),
			...(random.chance(0.03) && { magic: random.below(2 ** 32) }),
		};
	}

	#fromWire(peer: world.PeerFacts, packet: Buffer, family: Family): Input {
		const random = this.#random;
		const hook = random.pick([Hook.FROM_WIRE, Hook.FROM_WIRE, Hook.FROM_WIRE_XDP]);
		const macs = { source: peer.mac, destination: world.NODE_MAC };
		const whole = random.chance(0.5) ? tunnelled(random, peer, packet, family) : packet;
		return {
			hook,
			packet: build.frame(macs, whole),
			context: { ifindex: world.indexOf("wire0") },
		};
	}
}
