/**
 * The Node's NICs: the XDP mode of each, and the offloads that go with it.
 *
 * `auto` uses native XDP where the driver runs it on its own memory, and otherwise none: a veth copies each
 * packet into a page, which costs more than XDP saves (bench/tcp.ts), and generic XDP is slower than the TC
 * program alone. Both are used only if configured by name. A device that refuses is tried again when its MTU
 * or driver, or the setting, changes.
 */

import type { XdpMode, XdpSetting } from "../../tables/tables.js";
import type { Log } from "../../text/log.js";
import { applyOffloads, offloadsFor } from "../host/offloads.js";
import type { Programs } from "./datapath.js";
import type { Device, Hooks } from "./hooks.js";

export interface WireDevice extends Device {
	mtu: number;
	/** Set up by its administrator. */
	up: boolean;
	/** "veth" and so on; absent for hardware. */
	kind?: string;
	/** False: packets begin with their IP header there, which from_wire (TC) alone knows. */
	hasEthernet: boolean;
}

interface Refusal {
	asked: string;
	message: string;
}

export class Wire {
	readonly #hooks: Hooks;
	readonly #log: Log;
	readonly #refusals = new Map<number, Refusal>();
	/** Indexes of devices for which the reason for not using XDP has been logged. */
	readonly #spared = new Set<number>();
	/** By device index: the situation for which its offloads were last set. */
	readonly #prepared = new Map<number, string>();
	#devices: readonly WireDevice[] = [];

	constructor(hooks: Hooks, log: Log) {
		this.#hooks = hooks;
		this.#log = log;
	}

	/**
	 * Attaches XDP to each device by the setting. A refusal is a problem only if the mode was configured.
	 *
	 * @param tunnels Pod packets may arrive in tunnels.
	 */
	async attach(
		devices: readonly WireDevice[],
		setting: XdpSetting,
		tunnels: boolean,
		programs: Programs,
	): Promise<{ writes: number; problems: string[] }> {
		this.#devices = devices;
		const problems: string[] = [];
		let writes = 0;
		for (const device of devices) {
			const before = this.#hooks.xdpMode(device.ifindex);
			writes += this.#attachOne(device, setting, programs);
			const after = this.#hooks.xdpMode(device.ifindex);
			const refusal = this.#refusals.get(device.ifindex);
			if (refusal !== undefined && setting !== "auto") problems.push(refusal.message);
			if (after !== before)
				this.#log.info({ interface: device.name, xdp: after }, "XDP mode changed");
			const { ifindex, name, kind } = device;
			const situation = { kind, xdp: after, tunnels };
			if (this.#prepared.get(ifindex) === JSON.stringify(situation)) continue;
			this.#prepared.set(ifindex, JSON.stringify(situation));
			await applyOffloads(name, offloadsFor(situation), this.#log);
		}
		return { writes, problems };
	}

	#attachOne(device: WireDevice, setting: XdpSetting, programs: Programs): number {
		const mode = this.#modeFor(device, setting);
		const asked = `${setting} ${device.kind ?? ""} ${device.mtu}`;
		const refused = this.#refusals.get(device.ifindex);
		if (refused?.asked === asked) return this.#hooks.attachXdp(device, "off", programs).writes;
		const { writes, failure } = this.#hooks.attachXdp(device, mode, programs);
		if (failure === undefined) {
			this.#refusals.delete(device.ifindex);
			return writes;
		}
		this.#refusals.set(device.ifindex, { asked, message: failure });
		const facts = { interface: device.name, setting, refusal: failure };
		this.#log.warn(facts, "XDP attach failed, falling back to TC");
		return writes;
	}

	#modeFor(device: WireDevice, setting: XdpSetting): XdpMode {
		if (!device.hasEthernet) return "off";
		return setting === "auto" ? this.#best(device) : setting;
	}

	#best({ ifindex, name, kind }: WireDevice): XdpMode {
		if (kind !== "veth") return "native";
		if (!this.#spared.has(ifindex)) {
			this.#spared.add(ifindex);
			const facts = { interface: name, kind };
			this.#log.info(facts, "XDP skipped on veth: it would copy every packet");
		}
		return "off";
	}

	/** True if an interface has nothing that decapsulates before GRO. */
	get withoutXdp(): boolean {
		return this.#devices.some(({ ifindex }) => this.#hooks.xdpMode(ifindex) === "off");
	}

	/** The lowest mode of all wire interfaces, on which the Node as a whole can rely. */
	mode(): XdpMode {
		const modes = this.#devices.map(({ ifindex }) => this.#hooks.xdpMode(ifindex));
		if (modes.length === 0 || modes.includes("off")) return "off";
		return modes.includes("generic") ? "generic" : "native";
	}
}
