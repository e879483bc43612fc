/** The links of this namespace by name and by index, from one query of the kernel. */
import { IFF } from "../linux/netlink.js";
import { readLinks } from "../linux/netlink_query.js";
import type { WireDevice } from "./programs/wire.js";

export class Links {
	readonly #byName = new Map<string, WireDevice>();
	readonly #byIndex = new Map<number, WireDevice>();

	constructor(links: readonly WireDevice[]) {
		for (const link of links) {
			this.#byName.set(link.name, link);
			this.#byIndex.set(link.ifindex, link);
		}
	}

	static async read(): Promise<Links> {
		const links = await readLinks();
		return new Links(
			links.map(({ name, index, mtu, flags, hasEthernet, kind }) => ({
				name,
				ifindex: index,
				mtu,
				up: (flags & IFF.UP) !== 0,
				hasEthernet,
				...(kind === undefined ? {} : { kind }),
			})),
		);
	}

	named(name: string): WireDevice | undefined {
		return this.#byName.get(name);
	}

	at(ifindex: number): WireDevice | undefined {
		return this.#byIndex.get(ifindex);
	}

	names(): string[] {
		return [...this.#byName.keys()];
	}

	all(): WireDevice[] {
		return [...this.#byName.values()];
	}
}
