/** The links of this namespace by name and by index, from one query of the kernel. */
import type { IpRoute } from "../linux/iproute.js";
import type { WireDevice } from "./programs/wire.js";

interface IpLink {
	ifindex: number;
	ifname: string;
	mtu: number;
	flags: string[];
	link_type?: string;
	linkinfo?: { info_kind?: string };
}

export class Links {
	readonly #byName = new Map<string, WireDevice>();
	readonly #byIndex = new Map<number, WireDevice>();

	constructor(links: readonly WireDevice[]) {
		for (const link of links) {
			this.#byName.set(link.name, link);
			this.#byIndex.set(link.ifindex, link);
		}
	}

	static async read(ip: IpRoute): Promise<Links> {
		const links = await ip.query<IpLink>("-details", "link", "show");
		return new Links(
			links.map(({ ifname, ifindex, mtu, flags, link_type, linkinfo }) => {
				const kind = linkinfo?.info_kind;
				return {
					name: ifname,
					ifindex,
					mtu,
					up: flags.includes("UP"),
					hasEthernet: link_type === "ether",
					...(kind === undefined ? {} : { kind }),
				};
			}),
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
