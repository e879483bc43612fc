/**
 * The Node's NICs: which mode of XDP each takes, and the receive offload that goes with it.
 *
 * `auto` takes native XDP or none; generic XDP is slower than the TC program alone, so it is taken
 * only when asked for by name. A device that refuses is asked again when its MTU or driver, or the
 * setting, changes.
 */
import type { Attachments, Device, XdpMode } from "./attachments.js";
import type { Programs } from "./datapath.js";
import type { IpRoute } from "./iproute.js";
import type { Log } from "./log.js";

export type XdpSetting = "auto" | "native" | "generic" | "off";

export interface WireDevice extends Device {
	mtu: number;
	/** "veth" and so on; absent for hardware. */
	kind?: string;
}

interface Refusal {
	asked: string;
	message: string;
}

export class Wire {
	readonly #ip: IpRoute;
	readonly #attachments: Attachments;
	readonly #log: Log;
	readonly #refusals = new Map<number, Refusal>();
	#devices: readonly WireDevice[] = [];

	constructor(ip: IpRoute, attachments: Attachments, log: Log) {
		this.#ip = ip;
		this.#attachments = attachments;
		this.#log = log;
	}

	/** XDP on each device by the setting. A refusal is a problem only when the mode was asked for. */
	async attach(
		devices: readonly WireDevice[],
		setting: XdpSetting,
		programs: Programs,
	): Promise<{ writes: number; problems: string[] }> {
		this.#devices = devices;
		const problems: string[] = [];
		let writes = 0;
		for (const device of devices) {
			const before = this.#attachments.xdpMode(device.ifindex);
			writes += this.#attachOne(device, setting, programs);
			const after = this.#attachments.xdpMode(device.ifindex);
			const refusal = this.#refusals.get(device.ifindex);
			if (refusal !== undefined && setting !== "auto") problems.push(refusal.message);
			if (after !== before)
				this.#log.info({ interface: device.name, xdp: after }, "XDP mode of a wire interface");
			if (after === "native" && before !== "native") await this.#mergeReceived(device);
		}
		return { writes, problems };
	}

	#attachOne(device: WireDevice, setting: XdpSetting, programs: Programs): number {
		const mode: XdpMode = setting === "auto" ? "native" : setting;
		const asked = `${setting} ${device.kind ?? ""} ${device.mtu}`;
		const refused = this.#refusals.get(device.ifindex);
		if (refused?.asked === asked)
			return this.#attachments.attachXdp(device, "off", programs).writes;
		const { writes, failure } = this.#attachments.attachXdp(device, mode, programs);
		if (failure === undefined) {
			this.#refusals.delete(device.ifindex);
			return writes;
		}
		this.#refusals.set(device.ifindex, { asked, message: failure });
		const facts = { interface: device.name, setting, refusal: failure };
		this.#log.warn(facts, "XDP was refused; from_wire (TC) does all of it");
		return writes;
	}

	/** The least of the modes of all wire interfaces: what the Node as a whole can count on. */
	mode(): XdpMode {
		const modes = this.#devices.map(({ ifindex }) => this.#attachments.xdpMode(ifindex));
		if (modes.length === 0 || modes.includes("off")) return "off";
		return modes.includes("generic") ? "generic" : "native";
	}

	/**
	 * XDP strips the tunnel and passes TCP up; it is GRO that makes this pay. A veth has GRO off
	 * unless told, hardware has it on.
	 */
	async #mergeReceived({ name }: Device): Promise<void> {
		try {
			const features = await this.#ip.command("ethtool", "-k", name);
			if (!/^generic-receive-offload: off$/m.test(features)) return;
			await this.#ip.command("ethtool", "-K", name, "gro", "on");
			this.#log.info({ interface: name }, "switched generic receive offload on, for XDP");
		} catch (error) {
			const facts = { interface: name, error: (error as Error).message };
			this.#log.warn(facts, "generic receive offload could not be looked at; TCP may be slower");
		}
	}
}
