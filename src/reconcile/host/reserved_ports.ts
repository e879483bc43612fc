/**
 * The SNAT ports in net.ipv4.ip_local_reserved_ports (IPv6 goes by it, too): the kernel gives none of
 * them to a socket that asks for any port.
 *
 * The list is shared with others that reserve ports. RUN_DIR/reserved_ports.json remembers which
 * range of it is ours and which ports in that range others had before, so that a former range is
 * taken out again: after a change, and by `fairway cleanup`.
 */

import { readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { PortRange } from "../../tables/tables.js";
import {
	formatPorts,
	type PortSet,
	parsePorts,
	portsIn,
	united,
	within,
	without,
} from "./port_set.js";

/** Local ports that must stay for the Node's own connections: kubelet's, the runtime's, the agent's. */
const LOCAL_PORTS_LEAST = 4096;

/** What of the list is ours. */
export interface Reservation {
	range: PortRange;
	/** Ports of the range that others had reserved. */
	others: PortSet;
}

/** The list without what is ours. */
export function othersPorts(current: PortSet, ours: Reservation | undefined): PortSet {
	if (ours === undefined) return current;
	return united([...without(current, ours.range), ...ours.others]);
}

/**
 * The list with this range as ours in place of the former one, or the sentence that says why not.
 *
 * @param local ip_local_port_range
 */
export function reserve(
	current: PortSet,
	former: Reservation | undefined,
	range: PortRange,
	local: PortRange,
): { ports: PortSet; ours: Reservation } | { refusal: string } {
	const others = othersPorts(current, former);
	const ports = united([...others, range]);
	const free = portsIn([local]) - portsIn(within(ports, local));
	const text = `${range.first}-${range.last}`;
	if (free < LOCAL_PORTS_LEAST)
		return {
			refusal: `Cannot use ${text} as snat.portRange: expected at least ${LOCAL_PORTS_LEAST} of the local ports ${local.first}-${local.last} to remain for the Node, got ${free}`,
		};
	return { ports, ours: { range, others: within(others, range) } };
}

export class ReservedPorts {
	readonly #file: string;

	constructor(runDir: string) {
		this.#file = join(runDir, "reserved_ports.json");
	}

	/** What is ours; undefined: nothing, or a version that kept no record made it. */
	read(): Reservation | undefined {
		try {
			const { range, others } = JSON.parse(readFileSync(this.#file, "utf8"));
			const [ours] = parsePorts(String(range));
			return ours && { range: ours, others: parsePorts(String(others)) };
		} catch {
			return undefined;
		}
	}

	/** Before the list is written: what is then in it must be known to be ours. */
	write({ range, others }: Reservation): void {
		const text = JSON.stringify({ range: formatPorts([range]), others: formatPorts(others) });
		writeFileSync(`${this.#file}.new`, `${text}\n`, { mode: 0o600 });
		renameSync(`${this.#file}.new`, this.#file);
	}

	forget(): void {
		rmSync(this.#file, { force: true });
	}
}
