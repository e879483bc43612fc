/**
 * fairway1: has the kernel merge what comes in tunnels (GRO) before from_wire at tc sees it.
 *
 * GRO looks into a UDP packet only where a tunnel's socket is open on its port; a vxlan device that
 * is up opens one for each family. That is all the device is for: a vnifilter without a VNI takes
 * nothing in. All that this GRO wants of a tunnel's header is that its eight bytes are alike, so it
 * merges Geneve without options as well, and no kernel needs a module for that; packets with
 * options stay as they are.
 *
 * Where there is no such device TCP in tunnels is slower, and all else the same: what the kernel
 * refuses is logged once, and no problem.
 */
import { type IpRoute, IpRouteError } from "./iproute.js";
import type { Log } from "./log.js";
import { GRO_DEVICE } from "./names.js";

const RETRY_MS = 60_000;

interface VxlanLink {
	flags: string[];
	linkinfo?: { info_data?: { port?: number } };
}

export class GroDevice {
	readonly #ip: IpRoute;
	readonly #log: Log;
	/** The port that was applied last, whatever came of it. */
	#port: number | undefined;
	#refusal: { message: string; at: number } | undefined;

	constructor(ip: IpRoute, log: Log) {
		this.#ip = ip;
		this.#log = log;
	}

	/** Someone may have changed it, or freed its port: it is looked at anew. */
	doubt(): void {
		// An attempt is itself a change of links, that is, a reason for doubt.
		if (this.#refusal !== undefined && Date.now() - this.#refusal.at < RETRY_MS) return;
		this.#port = undefined;
	}

	/** The number of writes. @param port of the tunnels; 0: no device. */
	async apply(port: number): Promise<number> {
		if (this.#port === port) return 0;
		this.#port = port;
		try {
			const writes = await this.#change(port);
			this.#refusal = undefined;
			return writes;
		} catch (error) {
			const { message } = error as Error;
			if (message !== this.#refusal?.message)
				this.#log.warn(
					{ port, error: message },
					"tunnel packets are not merged; TCP may be slower",
				);
			this.#refusal = { message, at: Date.now() };
			return 0;
		}
	}

	async #change(port: number): Promise<number> {
		const device = await readDevice(this.#ip);
		if (device?.linkinfo?.info_data?.port === port && device.flags.includes("UP")) return 0;
		// A vxlan device keeps its port for life.
		if (device !== undefined) await this.#ip.run("link", "del", "dev", GRO_DEVICE);
		if (port === 0) {
			if (device === undefined) return 0;
			this.#log.info({ device: GRO_DEVICE }, "removed the device that had tunnel packets merged");
			return 1;
		}
		const type = `type vxlan external vnifilter nolearning dstport ${port}`;
		await this.#ip.run("link", "add", "name", GRO_DEVICE, ...type.split(" "));
		try {
			await this.#ip.run("link", "set", "dev", GRO_DEVICE, "addrgenmode", "none", "up");
		} catch (error) {
			await this.#ip.run("link", "del", "dev", GRO_DEVICE);
			throw error;
		}
		this.#log.info({ device: GRO_DEVICE, port }, "the kernel merges tunnel packets on this port");
		return 1;
	}
}

async function readDevice(ip: IpRoute): Promise<VxlanLink | undefined> {
	try {
		return (await ip.query<VxlanLink>("-details", "link", "show", "dev", GRO_DEVICE))[0];
	} catch (error) {
		if (error instanceof IpRouteError && error.code === "ENODEV") return undefined;
		throw error;
	}
}

export async function removeGroDevice(ip: IpRoute): Promise<boolean> {
	if ((await readDevice(ip)) === undefined) return false;
	await ip.run("link", "del", "dev", GRO_DEVICE);
	return true;
}
