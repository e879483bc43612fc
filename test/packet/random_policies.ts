/** Random tables of network policy: every kind of verdict, port sets of many parts, blocks, hairpins, staged
 * judgements, classes and policies that are missing. */
import {
	EndpointPolicy,
	type Judgement,
	JudgementFlag,
	Limit,
	PolicyClass,
	type PolicyVerdict,
	PortPosition,
	type PortSegment,
	type PortSet,
} from "../../src/tables/generated.js";
import type { EndpointPolicies, Policies } from "./policies.js";
import type { Random } from "./random.js";
import { SERVICE_PORT, TARGET_PORT } from "./services.js";
import * as world from "./world.js";

/** Rules have ids below. */
export const RULES = 64;
const CLASSES = 8;
const POLICY_IDS = [2, 3, 4, 5, 6, 7, Limit.POLICIES_MAX - 1];
const PORT_SET_COUNT = 5;
const PORTS = [0, 1, 5, 53, 80, SERVICE_PORT, 443, 5000, TARGET_PORT, 49152, 60000, 65535];
const LINES = [PortPosition.TCP, PortPosition.UDP, PortPosition.SCTP];
const BLOCKS = [
	...["0.0.0.0/0", "10.0.0.0/8", "10.244.0.0/16", "10.244.1.0/24", "10.244.2.0/24"],
	...["192.168.1.0/24", "198.51.100.0/24", "198.51.100.7/32", "172.16.0.0/12"],
	...["::/0", "fd00::/8", "fd00:10:244::/48", "fd00:10:244:1::/64", "fd00:10:244:3::/64"],
	...["2001:db8::/32", "fd00:192:168:1::/64"],
];

/** The other ends that there are. */
function addresses(): string[] {
	const { podA, podB, peers, gateway, nodeAddress, outside, silent, excluded } = world;
	const pairs = [
		...[podA, podB, gateway, nodeAddress, outside, silent, excluded],
		...peers.flatMap((peer) => [peer.pod, peer.gateway, peer.transport]),
	];
	return pairs.flatMap((pair) => [pair[4], pair[6]]);
}

export class RandomPolicies {
	readonly #random: Random;
	/** How many are allowed. */
	readonly #share: number;

	constructor(random: Random) {
		this.#random = random;
		this.#share = random.pick([0.5, 0.75, 0.9]);
	}

	next(): Policies {
		const random = this.#random;
		const some = <T>(from: readonly T[], share: number) => from.filter(() => random.chance(share));
		const ids = POLICY_IDS.filter(() => random.chance(0.97));
		const portSets: Record<number, PortSet> = {};
		for (let set = 0; set < PORT_SET_COUNT; set++) this.#addPortSet(set, portSets);
		return {
			classLimit: random.chance(0.9) ? CLASSES : random.between(2, CLASSES),
			identities: Object.fromEntries(
				some(addresses(), 0.6).map((address) => [address, this.classOf()]),
			),
			blocks: Object.fromEntries(some(BLOCKS, 0.4).map((prefix) => [prefix, this.classOf()])),
			policies: Object.fromEntries(
				ids.map((id) => [id, { verdict: this.#verdict(), hairpin: this.#hairpin() }]),
			),
			verdicts: POLICY_IDS.flatMap((policy) =>
				some([0, 1, 2, 3, 4, 5, 6, 7], 0.4).map((number) => ({
					...{ policy, class: number },
					verdict: this.#verdict(),
				})),
			),
			portSets,
			endpoints: [this.policiesOf(), this.policiesOf()],
		};
	}

	policiesOf(): EndpointPolicies {
		return { egress: this.#policy(), ingress: this.#policy() };
	}

	#policy(): number {
		const random = this.#random;
		if (random.chance(0.04)) return EndpointPolicy.NOT_READY;
		return random.chance(0.3) ? EndpointPolicy.OPEN : random.pick(POLICY_IDS);
	}

	#hairpin(): number {
		const random = this.#random;
		return random.chance(0.4) ? EndpointPolicy.OPEN : random.pick(POLICY_IDS);
	}

	/** Of an address. */
	classOf(): number {
		const random = this.#random;
		return random.chance(0.03) ? PolicyClass.OVERFLOW : random.pick([0, 2, 3, 4, 5, 6, 7]);
	}

	#verdict(): PolicyVerdict {
		const random = this.#random;
		if (random.chance(0.6)) return { judgement: this.#judgement(), portSet: 0 };
		// A few have no port set.
		const portSet = firstId(random.below(PORT_SET_COUNT + (random.chance(0.05) ? 1 : 0)));
		return { judgement: this.#judgement(), portSet };
	}

	#judgement(): Judgement {
		const random = this.#random;
		const flags =
			(random.chance(this.#share) ? JudgementFlag.ALLOW : 0) |
			(random.chance(0.2) ? JudgementFlag.STAGED : 0) |
			(random.chance(0.5) ? JudgementFlag.STAGED_ALLOW : 0);
		return { rule: random.below(RULES), stagedRule: random.below(RULES), flags };
	}

	/** From one part to as many as there may be; a few are longer. */
	#addPortSet(set: number, portSets: Record<number, PortSet>): void {
		const random = this.#random;
		const starts = new Set<number>();
		for (const line of LINES)
			for (const port of PORTS) {
				if (random.chance(0.3)) starts.add(line + port);
				if (random.chance(0.2)) starts.add(line + Math.min(port + 1, 65535));
			}
		if (random.chance(0.5)) starts.add(PortPosition.NO_PORTS);
		const most = random.pick([1, 2, 16, 16]);
		starts.delete(0);
		const segments = [0, ...[...starts].sort((a, b) => a - b)].map((from) => ({
			...{ from, judgement: this.#judgement() },
		}));
		const parts: PortSegment[][] = [];
		while (segments.length > 0) parts.push(segments.splice(0, random.between(1, most)));
		for (const [i, part] of parts.entries()) {
			const rest = parts[i + 1];
			portSets[firstId(set) + i] = {
				nextFrom: rest?.[0]?.from ?? 0,
				next: rest ? firstId(set) + i + 1 : 0,
				count: part.length,
				segments: [...part, ...new Array(Limit.PORT_SET_SEGMENTS - part.length).fill(NOTHING)],
			};
		}
	}
}

const NOTHING: PortSegment = { from: 0, judgement: { rule: 0, stagedRule: 0, flags: 0 } };

/** Of a port set's parts. */
function firstId(set: number): number {
	return 1 + set * 100;
}
