/** `GET /denials`: connections that network policy has denied lately on this Node, with the Pods at both ends. */
import type { DenialStatus } from "../api/messages/policies.js";
import type { Steps } from "../loop/turns.js";
import type { Denial } from "../observe/denials.js";
import { podAt } from "../policy/interpreter.js";
import { type ClusterSource, clusterAt } from "./policy_cluster.js";

const PROTOCOLS: Readonly<Record<number, string>> = {
	...{ 1: "icmp", 6: "tcp", 17: "udp", 58: "icmp", 132: "sctp" },
};

/** Names are the present ones: an address may belong to another Pod than at the time of the denial. */
export function* denialRows(
	denials: readonly Denial[],
	source: ClusterSource,
): Steps<DenialStatus[]> {
	if (denials.length === 0) return [];
	const addresses = denials.flatMap((one) => [one.source, one.destination]);
	const cluster = yield* clusterAt(source, addresses);
	const names = new Map<string, string | null>();
	for (const address of new Set(addresses)) {
		yield;
		const pod = podAt(cluster, address);
		names.set(address, pod === undefined ? null : `${pod.namespace}/${pod.name}`);
	}
	return denials.map((denial) => {
		const { source, destination, protocol, port, rule, first, last, noted } = denial;
		return {
			...{ source, destination, protocol: PROTOCOLS[protocol] ?? String(protocol) },
			...{ sourcePod: names.get(source) ?? null, destinationPod: names.get(destination) ?? null },
			port: port === 0 ? null : port,
			...{ direction: rule.direction, policy: rule.policies[0] ?? "", rule: rule.rule },
			...{ first: new Date(first).toISOString(), last: new Date(last).toISOString(), noted },
		};
	});
}
