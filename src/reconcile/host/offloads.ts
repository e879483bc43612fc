/** Sets the offloads of wire interfaces that from_wire depends on, as ethtool(8) does. They are never reset. */

import { change, type NetlinkError, setOffload } from "../../linux/netlink.js";
import type { Log } from "../../text/log.js";

export interface Offload {
	/** The name in `ethtool -k`. */
	feature: string;
	value: "on" | "off";
	reason: string;
}

export interface Situation {
	/** "veth" and so on; absent for hardware. */
	kind?: string | undefined;
	xdp: "native" | "generic" | "off";
	/** Pod packets may arrive in tunnels. */
	tunnels: boolean;
}

/** The settings that differ from a device's defaults. */
export function offloadsFor({ kind, xdp, tunnels }: Situation): Offload[] {
	const wanted: Offload[] = [];
	if (xdp === "native")
		wanted.push({
			feature: "generic-receive-offload",
			value: "on",
			reason: "XDP strips the tunnel and passes TCP up, to be merged; a veth does not by itself",
		});
	if (!tunnels) return wanted;
	// A merged packet that is decapsulated at TC stays marked as tunnelled. TCP works; UDP that has to be
	// segmented again, for a socket that expects single datagrams, is lost.
	if (kind === "veth")
		wanted.push({
			feature: "tx-udp-segmentation",
			value: "off",
			reason: "the other end is a wire's: it gets UDP in datagrams, not in bundles of them",
		});
	if (xdp !== "native")
		for (const feature of ["rx-udp-gro-forwarding", "rx-gro-list"])
			wanted.push({ feature, value: "off", reason: "UDP in tunnels cannot be cut again" });
	return wanted;
}

/** Writes differences. Failures are logged: they cost speed, or UDP GSO packets. */
export async function applyOffloads(
	device: string,
	wanted: readonly Offload[],
	log: Log,
): Promise<void> {
	for (const { feature, value, reason } of wanted)
		try {
			const [result] = await change([setOffload(device, feature, value === "on")]);
			if (result?.changed)
				log.info({ interface: device, feature, to: value, reason }, "set an offload");
		} catch (error) {
			// A kernel or a driver without it.
			if ((error as NetlinkError).code === "EOPNOTSUPP") continue;
			log.warn({ interface: device, err: error }, "cannot set offloads");
		}
}
