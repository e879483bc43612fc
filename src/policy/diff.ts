/**
 * What other policies would open and close, before they are applied: pairs of Pods with the ports, and how many
 * of the flows that live now are concerned. Pure.
 *
 *  1. Pods that no policy of either side tells apart are one group
 *  2. pairs of groups of which one end has other policies are judged on both sides, over all ports
 *  3. live flows are judged one by one, whatever their ends are
 */
import { impliedNamespace } from "../cluster/namespace_object.js";
import type { PodObject } from "../cluster/pod_object.js";
import { matches } from "../cluster/selector.js";
import type { Steps } from "../loop/turns.js";
import { type Cluster, type Flow, interpret } from "./interpreter.js";
import { NO_PORTS, positionOf } from "./port_space.js";

export interface DiffRow {
	/** "namespace/name" of a Pod, or an address. */
	from: string;
	to: string;
	/** A port, "FIRST-LAST", or null: every one of the protocol. */
	port: number | string | null;
	/** "tcp", "udp", "sctp", or "other". */
	protocol: string;
	/** Live flows. */
	flows: number;
}

export interface PolicyDiff {
	opened: DiffRow[];
	closed: DiffRow[];
	/** There are more rows of Pods than these. */
	isCut: boolean;
}

const ROWS_MAX = 10_000;
const PROTOCOLS = [6, 17, 132, 1];
const NAMES = ["tcp", "udp", "sctp", "other"];

interface Group {
	pods: PodObject[];
	/** Policies that select it are others after than before. */
	hasChanged: boolean;
}

/** @param before, after the same cluster with the policies of now, and with those that are proposed */
export function* diffPolicies(
	before: Cluster,
	after: Cluster,
	flows: readonly Flow[] = [],
): Steps<PolicyDiff> {
	const diff: PolicyDiff = { opened: [], closed: [], isCut: false };
	const groups = groupsOf(before, after);
	yield;
	const bounds = boundsOf(before, after);
	const rows = new Map<string, DiffRow>();
	const key = (kind: string, row: DiffRow) =>
		[kind, row.from, row.to, row.protocol, row.port].join(" ");
	const add = (kind: "opened" | "closed", row: DiffRow): void => {
		if (diff.opened.length + diff.closed.length >= ROWS_MAX) {
			diff.isCut = true;
			return;
		}
		diff[kind].push(row);
		rows.set(key(kind, row), row);
	};
	for (const from of groups)
		for (const to of groups) {
			if (!from.hasChanged && !to.hasChanged) continue;
			yield;
			const pair = pairOf(from, to);
			if (pair === undefined) continue;
			for (const { kind, protocol, port } of spansOf(before, after, pair, bounds))
				for (const a of from.pods)
					for (const b of to.pods) {
						if (a === b) continue;
						add(kind, { from: nameOf(a), to: nameOf(b), port, protocol, flows: 0 });
					}
		}
	for (const flow of flows) {
		yield;
		const [was, is] = [passes(before, flow), passes(after, flow)];
		if (was === is) continue;
		const kind = is ? "opened" : "closed";
		const index = PROTOCOLS.indexOf(flow.protocol);
		const protocol = NAMES[index < 0 ? 3 : index]!;
		const [from, to] = [ownerOf(before, flow.source), ownerOf(before, flow.destination)];
		const row = { from, to, port: protocol === "other" ? null : flow.port, protocol, flows: 1 };
		const wide = [row.port, null].map((port) => rows.get(key(kind, { ...row, port })));
		const known = wide.find((one) => one !== undefined) ?? rangeOf(diff[kind], row);
		if (known !== undefined) known.flows++;
		else {
			diff[kind].push(row);
			rows.set(key(kind, row), row);
		}
	}
	return diff;
}

/** The row with a range that has this port. */
function rangeOf(
	rows: readonly DiffRow[],
	{ from, to, protocol, port }: DiffRow,
): DiffRow | undefined {
	return rows.find((row) => {
		if (row.from !== from || row.to !== to || row.protocol !== protocol) return false;
		const [first, last] = typeof row.port === "string" ? row.port.split("-").map(Number) : [];
		return (
			first !== undefined && last !== undefined && Number(port) >= first && Number(port) <= last
		);
	});
}

function passes(cluster: Cluster, flow: Flow): boolean {
	const { egress, ingress } = interpret(cluster, flow);
	return egress.verdict !== "deny" && ingress.verdict !== "deny";
}

/** One Pod of each side, two different ones within a group. */
function pairOf(from: Group, to: Group): [PodObject, PodObject] | undefined {
	const a = from.pods[0]!;
	const b = to.pods.find((pod) => pod !== a);
	return b === undefined ? undefined : [a, b];
}

function spansOf(
	before: Cluster,
	after: Cluster,
	[a, b]: [PodObject, PodObject],
	bounds: readonly number[],
): { kind: "opened" | "closed"; protocol: string; port: DiffRow["port"] }[] {
	// Of the same family.
	const source = a.addresses.find((one) =>
		b.addresses.some((other) => isIpv6(one) === isIpv6(other)),
	);
	const destination = b.addresses.find(
		(one) => source !== undefined && isIpv6(one) === isIpv6(source),
	);
	if (source === undefined || destination === undefined) return [];
	const ports = b.ports.map(({ protocol, port }) =>
		positionOf({ TCP: 6, UDP: 17, SCTP: 132 }[protocol] ?? 1, port),
	);
	const starts = [...new Set([...bounds, ...ports, ...ports.map((at) => at + 1)])]
		.filter((at) => at <= NO_PORTS)
		.sort((x, y) => x - y);
	const found: ReturnType<typeof spansOf> = [];
	let open: { kind: "opened" | "closed"; from: number } | undefined;
	const end = (to: number): void => {
		if (open === undefined) return;
		const protocol = Math.floor(open.from / 65_536);
		const [first, last] = [open.from - protocol * 65_536, to - protocol * 65_536];
		const isAll = protocol === 3 || (first === 0 && last === 65_535);
		const port = isAll ? null : first === last ? first : `${first}-${last}`;
		found.push({ kind: open.kind, protocol: NAMES[protocol]!, port });
		open = undefined;
	};
	for (const at of starts) {
		const protocol = Math.floor(at / 65_536);
		const flow = {
			source,
			destination,
			protocol: PROTOCOLS[protocol]!,
			port: at - protocol * 65_536,
		};
		const [was, is] = [passes(before, flow), passes(after, flow)];
		const kind = was === is ? undefined : is ? "opened" : "closed";
		if (open !== undefined && (kind !== open.kind || at % 65_536 === 0)) end(at - 1);
		if (kind !== undefined && open === undefined) open = { kind, from: at };
	}
	end(NO_PORTS);
	return found;
}

/** Where verdicts of any policy may change, as positions; each protocol begins one. */
function boundsOf(...clusters: Cluster[]): number[] {
	const bounds = new Set(PROTOCOLS.map((protocol) => positionOf(protocol, 0)));
	for (const { policies, clusterPolicies } of clusters)
		for (const { ingress, egress } of [...policies, ...clusterPolicies])
			for (const { ports } of [...(ingress ?? []), ...(egress ?? [])])
				for (const port of ports ?? []) {
					if ("name" in port) continue;
					bounds.add(positionOf(port.protocol, port.first));
					bounds.add(positionOf(port.protocol, port.last) + 1);
				}
	return [...bounds];
}

/** Pods by labels, ports and, where blocks tell them apart, by address. */
function groupsOf(before: Cluster, after: Cluster): Group[] {
	const changed = changedPolicies(before, after);
	const namespaceOf = (name: string) =>
		before.namespaces.find((one) => one.name === name) ?? impliedNamespace(name);
	const hasBlocks = JSON.stringify([
		before.policies,
		after.policies,
		before.clusterPolicies,
		after.clusterPolicies,
	]).match(/"(block|networks)":/);
	const groups = new Map<string, Group>();
	for (const pod of before.pods) {
		if (pod.hostNetwork || pod.ended || pod.addresses.length === 0) continue;
		const key = JSON.stringify([
			pod.namespace,
			pod.labels,
			pod.ports,
			hasBlocks ? pod.addresses : pod.addresses.map(isIpv6),
		]);
		const known = groups.get(key);
		if (known !== undefined) {
			known.pods.push(pod);
			continue;
		}
		const hasChanged =
			changed.policies.some(
				({ namespace, pods }) => namespace === pod.namespace && matches(pods, pod.labels),
			) ||
			changed.clusterPolicies.some(
				({ subject }) =>
					matches(subject.namespaces, namespaceOf(pod.namespace).labels) &&
					matches(subject.pods, pod.labels),
			);
		groups.set(key, { pods: [pod], hasChanged });
	}
	return [...groups.values()];
}

/** Those that only one side has, in that form. */
function changedPolicies(before: Cluster, after: Cluster) {
	const differing = <T>(a: readonly T[], b: readonly T[]): T[] => {
		const [one, two] = [a, b].map((list) => new Set(list.map((policy) => JSON.stringify(policy))));
		return [
			...a.filter((policy) => !two!.has(JSON.stringify(policy))),
			...b.filter((policy) => !one!.has(JSON.stringify(policy))),
		];
	};
	return {
		policies: differing(before.policies, after.policies),
		clusterPolicies: differing(before.clusterPolicies, after.clusterPolicies),
	};
}

function ownerOf({ pods }: Cluster, address: string): string {
	const pod = pods.find(
		({ addresses, hostNetwork, ended }) => !hostNetwork && !ended && addresses.includes(address),
	);
	return pod === undefined ? address : nameOf(pod);
}

function nameOf({ namespace, name }: PodObject): string {
	return `${namespace}/${name}`;
}

function isIpv6(address: string): boolean {
	return address.includes(":");
}
