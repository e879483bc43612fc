/** The flows that live now, as network policy judges them. */
import type { BpfMap } from "#native";
import { isExpired, liveGeneration, originalKey, replyKey } from "../../forwarder/flow.js";
import { backendIdOf } from "../../forwarder/service.js";
import type { NodeConfig } from "../../tables/generated.js";
import { Flow } from "../../tables/generated.js";
import { mapSlices } from "./map_slices.js";

/** What a policy judges: the source before SNAT, the destination after a Service's translation. */
export interface LiveFlow {
	source: string;
	destination: string;
	/** IPPROTO. */
	protocol: number;
	/** Destination port; 0 where the protocol has none. */
	port: number;
}

const WITH_PORTS: ReadonlySet<number> = new Set([6, 17, 132]);
const NEVER_USED = Buffer.alloc(Flow.size);

/**
 * In slices, yielding to the event loop in between. A flow that moves to another slot meanwhile may be missed or
 * seen twice.
 *
 * @param flows the map
 * @param node for the time-outs; undefined: none counts as expired
 * @param now ns, CLOCK_MONOTONIC
 */
export async function* liveFlows(
	flows: BpfMap,
	node: NodeConfig | undefined,
	now: bigint,
): AsyncGenerator<LiveFlow[]> {
	for await (const live of flowsNow(flows, node, now))
		yield live.map((flow): LiveFlow => {
			const { source, protocol } = originalKey(flow);
			const { source: destination, sourcePort } = replyKey(flow);
			const port = WITH_PORTS.has(protocol) ? sourcePort : 0;
			return { source, destination, protocol, port };
		});
}

/**
 * How many flows live now, by Service.
 *
 * @param services of backends, by their ids: what their flows are counted for; undefined: nothing
 */
export async function countServiceFlows(
	flows: BpfMap,
	node: NodeConfig | undefined,
	now: bigint,
	services: (backend: number) => string | undefined,
): Promise<Map<string, number>> {
	const counts = new Map<string, number>();
	for await (const live of flowsNow(flows, node, now))
		for (const flow of live) {
			const backend = backendIdOf(flow);
			const service = backend === 0 ? undefined : services(backend);
			if (service !== undefined) counts.set(service, (counts.get(service) ?? 0) + 1);
		}
	return counts;
}

async function* flowsNow(
	flows: BpfMap,
	node: NodeConfig | undefined,
	now: bigint,
): AsyncGenerator<Flow[]> {
	for await (const { values } of mapSlices(flows)) {
		const live: Flow[] = [];
		for (let at = 0; at < values.length; at += Flow.size) {
			// Most of a table is empty, and decoding costs some µs.
			if (values.compare(NEVER_USED, 0, Flow.size, at, at + Flow.size) === 0) continue;
			const flow = Flow.decode(values, at);
			if (liveGeneration(flow.claim) === undefined) continue;
			if (node !== undefined && isExpired(flow, node, now)) continue;
			live.push(flow);
		}
		yield live;
	}
}
