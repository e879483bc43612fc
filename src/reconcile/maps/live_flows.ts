/** The flows that live now, as network policy judges them. */
import type { BpfMap } from "#native";
import { liveGeneration, originalKey, replyKey } from "../../forwarder/flow.js";
import { isExpired } from "../../forwarder/flow_state.js";
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
	for await (const { values } of mapSlices(flows)) {
		const live: LiveFlow[] = [];
		for (let at = 0; at < values.length; at += Flow.size) {
			// Most of a table is empty, and decoding costs some µs.
			if (values.compare(NEVER_USED, 0, Flow.size, at, at + Flow.size) === 0) continue;
			const flow = Flow.decode(values, at);
			if (liveGeneration(flow.claim) === undefined) continue;
			if (node !== undefined && isExpired(flow, node, now)) continue;
			const { source, protocol } = originalKey(flow);
			const { source: destination, sourcePort } = replyKey(flow);
			const port = WITH_PORTS.has(protocol) ? sourcePort : 0;
			live.push({ source, destination, protocol, port });
		}
		yield live;
	}
}
