/** Sets of ports in the kernel's notation of ip_local_reserved_ports: "8080,9000-9100". */
import type { PortRange } from "../../tables/tables.js";

/** Ranges in ascending order that neither overlap nor touch. */
export type PortSet = readonly PortRange[];

export function parsePorts(text: string): PortSet {
	return united(
		text
			.trim()
			.split(",")
			.filter((part) => part !== "")
			.map((part) => {
				const [first = 0, last = first] = part.split("-").map(Number);
				return { first, last };
			}),
	);
}

export function formatPorts(ports: PortSet): string {
	return ports
		.map(({ first, last }) => (first === last ? `${first}` : `${first}-${last}`))
		.join(",");
}

/** Any ranges as a set. */
export function united(ranges: readonly PortRange[]): PortSet {
	const merged: PortRange[] = [];
	for (const next of [...ranges].sort((a, b) => a.first - b.first)) {
		const previous = merged.at(-1);
		if (previous !== undefined && next.first <= previous.last + 1)
			previous.last = Math.max(previous.last, next.last);
		else merged.push({ ...next });
	}
	return merged;
}

export function without(ports: PortSet, { first, last }: PortRange): PortSet {
	return ports.flatMap((range) =>
		[
			{ first: range.first, last: Math.min(range.last, first - 1) },
			{ first: Math.max(range.first, last + 1), last: range.last },
		].filter((part) => part.first <= part.last),
	);
}

export function within(ports: PortSet, { first, last }: PortRange): PortSet {
	return ports
		.map((range) => ({ first: Math.max(range.first, first), last: Math.min(range.last, last) }))
		.filter((part) => part.first <= part.last);
}

export function portsIn(ports: PortSet): number {
	return ports.reduce((sum, { first, last }) => sum + last - first + 1, 0);
}
