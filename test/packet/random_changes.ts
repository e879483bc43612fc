/** Random changes of Services, whose endpoints come, go and end, frontends too; and of network policies. */
import type { Random } from "./random.js";
import type { RandomPolicies } from "./random_policies.js";
import { type ServicePort, servicePorts } from "./services.js";
import type { TableChange } from "./table_change.js";
import * as world from "./world.js";

export class RandomChanges {
	readonly #random: Random;
	readonly #policies: RandomPolicies | undefined;

	/** @param policies absent: every Pod is open */
	constructor(random: Random, policies: RandomPolicies | undefined) {
		this.#random = random;
		this.#policies = policies;
	}

	next(): TableChange[] {
		const random = this.#random;
		if (this.#policies !== undefined && random.chance(0.7))
			return [this.#ofPolicies(this.#policies)];
		const service = random.pick(servicePorts());
		const { index, family } = service;
		if (random.chance(0.7)) return [this.#sets(service)];
		if (random.chance(0.8)) {
			const of = random.pick(["clusterIP", "nodePort"] as const);
			return [{ kind: "frontend", service: index, of, isThere: random.chance(0.6) }];
		}
		const address = random.pick([world.outside, world.silent])[family];
		return [{ kind: "claim", service: index, address, port: random.pick([53, 80, 443, 5000]) }];
	}

	#ofPolicies(policies: RandomPolicies): TableChange {
		const random = this.#random;
		if (random.chance(0.2)) return { kind: "policies", policies: policies.next() };
		if (random.chance(0.5)) {
			const pod = random.pick(["A", "B"] as const);
			return { kind: "endpoint", pod, policies: policies.policiesOf() };
		}
		const { id, pod, gateway } = random.pick(world.peers);
		const address = random.pick([pod[4], pod[4], pod[6], pod[6], gateway[4], gateway[6]]);
		return { kind: "identity", peer: id, address, class: policies.classOf() };
	}

	#sets({ index, backends }: ServicePort): TableChange {
		const random = this.#random;
		const share = random.pick([0, 0.3, 0.7, 1]);
		const cluster = backends.filter(() => random.chance(share));
		const local = backends.filter(({ isLocal }) => isLocal && random.chance(share));
		const out = backends.filter((one) => !cluster.includes(one) && !local.includes(one));
		const ids = (some: typeof cluster) => some.map(({ id }) => id);
		const gone = ids(out.filter(() => random.chance(0.7)));
		return { kind: "sets", service: index, cluster: ids(cluster), local: ids(local), gone };
	}
}
