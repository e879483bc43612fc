/** Random changes of Services: endpoints come, go and end, frontends too. */
import type { Random } from "./random.js";
import { type ServicePort, servicePorts } from "./services.js";
import type { TableChange } from "./table_change.js";
import * as world from "./world.js";

export class RandomChanges {
	readonly #random: Random;

	constructor(random: Random) {
		this.#random = random;
	}

	next(): TableChange[] {
		const random = this.#random;
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
