/** Offloads of a wire interface that from_wire rests on, set with ethtool. They stay as they are. */
import type { IpRoute } from "./iproute.js";
import type { Log } from "./log.js";

export interface Offload {
	/** As `ethtool -k` names it. */
	feature: string;
	value: "on" | "off";
	reason: string;
}

export interface Situation {
	/** "veth" and so on; absent for hardware. */
	kind?: string | undefined;
	xdp: "native" | "generic" | "off";
	/** Pod packets may come in tunnels. */
	tunnels: boolean;
}

/** What differs from what a device has by itself. */
export function offloadsFor({ kind, xdp, tunnels }: Situation): Offload[] {
	const wanted: Offload[] = [];
	if (xdp === "native")
		wanted.push({
			feature: "generic-receive-offload",
			value: "on",
			reason: "XDP strips the tunnel and passes TCP up, to be merged; a veth does not by itself",
		});
	if (!tunnels) return wanted;
	// A merged packet that is stripped at tc stays marked as tunnelled. TCP does not mind; UDP that
	// has to be cut again, for a socket that wants single datagrams, is lost.
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

/** Writes what differs. What cannot be had is logged: it costs speed, or a sender's bundles. */
export async function applyOffloads(
	ip: IpRoute,
	device: string,
	wanted: readonly Offload[],
	log: Log,
): Promise<void> {
	try {
		const present = wanted.length > 0 ? await ip.command("ethtool", "-k", device) : "";
		for (const { feature, value, reason } of wanted) {
			const is = new RegExp(`^\\s*${feature}: (on|off)`, "m").exec(present)?.[1];
			if (is === undefined || is === value) continue;
			await ip.command("ethtool", "-K", device, feature, value);
			log.info({ interface: device, feature, from: is, to: value, reason }, "set an offload");
		}
	} catch (error) {
		const facts = { interface: device, error: (error as Error).message };
		log.warn(facts, "offloads of a wire interface are not as they should be");
	}
}
