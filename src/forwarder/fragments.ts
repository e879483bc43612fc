/**
 * The ports of fragments: a first fragment stores them in `fragments`, later ones read them there.
 */
import type { FragmentKey } from "../tables/generated.js";
import type { Decision } from "./decision.js";
import type { Packet } from "./packet.js";
import type { TableReader } from "./table_reader.js";

/** @param owner endpoint.index of the sending Pod, or enum fragment_owner */
export function fragmentKey({ key, identification, family }: Packet, owner: number): FragmentKey {
	return {
		source: key.source,
		destination: key.destination,
		identification,
		// The key of IPv6 fragments has no protocol: a later one has that of the first extension header (RFC 8200, 4.5).
		protocol: family === 4 ? key.protocol : 0,
		owner,
	};
}

/** Stores the ports and protocol of a first fragment, and fills in those of a later one. */
export function resolvePorts(
	packet: Packet,
	tables: TableReader,
	decision: Decision,
	owner: number,
): void {
	if (!packet.isFragment) return;
	if (packet.isLaterFragment) {
		const ports = tables.fragment(fragmentKey(packet, owner));
		if (ports === undefined) packet.portsUnknown = true;
		else Object.assign(packet.key, ports);
		return;
	}
	decision.fragment = {
		key: fragmentKey(packet, owner),
		ports: {
			sourcePort: packet.key.sourcePort,
			destinationPort: packet.key.destinationPort,
			protocol: packet.key.protocol,
		},
	};
}
