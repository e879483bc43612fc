/**
 * fairway1: makes the kernel merge tunnel packets (GRO) before from_wire sees them at TC.
 *
 * GRO looks into a UDP packet only if a tunnel's socket is open on its port; a vxlan device that is up
 * opens one for each family. This is the device's only purpose: a vnifilter without a VNI receives nothing.
 * This GRO requires only that the eight bytes of the tunnel headers are equal, so it also merges Geneve
 * without options, without a kernel module for Geneve. Packets with options are not merged.
 *
 * Without the device, TCP in tunnels is slower and everything else works. So a refusal by the kernel is
 * logged once and is not a problem.
 */

import type { IpRoute } from "../../linux/iproute.js";
import { GRO_DEVICE } from "../../linux/names.js";
import { IFF } from "../../linux/netlink.js";
import { readLink } from "../../linux/netlink_query.js";
import type { Log } from "../../text/log.js";

const RETRY_MS = 60_000;

export class GroDevice {
	readonly #ip: IpRoute;
	readonly #log: Log;
	/** The last port applied, successfully or not. */
	#port: number | undefined;
	#refusal: { message: string; at: number } | undefined;

	constructor(ip: IpRoute, log: Log) {
		this.#ip = ip;
		this.#log = log;
	}

	/** The device may have been changed, or its port freed: checks again with the next apply. */
	doubt(): void {
		// An attempt itself changes links, which causes doubt again.
		if (this.#refusal !== undefined && performance.now() - this.#refusal.at < RETRY_MS) return;
		this.#port = undefined;
	}

	/** Returns the number of writes. @param port the tunnels' port; 0: no device. */
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
				this.#log.warn({ port, err: message }, "GRO for tunnels unavailable; TCP may be slower");
			this.#refusal = { message, at: performance.now() };
			return 0;
		}
	}

	async #change(port: number): Promise<number> {
		const device = await readLink(GRO_DEVICE);
		if (device?.port === port && (device.flags & IFF.UP) !== 0) return 0;
		// The port of a vxlan device cannot be changed.
		if (device !== undefined) await this.#ip.run("link", "del", "dev", GRO_DEVICE);
		if (port === 0) {
			if (device === undefined) return 0;
			this.#log.info({ interface: GRO_DEVICE }, "removed the GRO device");
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
		this.#log.info({ interface: GRO_DEVICE, port }, "GRO for tunnels set up");
		return 1;
	}
}

export async function removeGroDevice(ip: IpRoute): Promise<boolean> {
	if ((await readLink(GRO_DEVICE)) === undefined) return false;
	await ip.run("link", "del", "dev", GRO_DEVICE);
	return true;
}
