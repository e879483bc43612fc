/**
 * The Prometheus text format (version 0.0.4) of one sample, in pieces of some 16 KiB, so that a scrape of
 * thousands of peers does not block the event loop. A piece may be empty.
 */
import { metrics, type Sample } from "./metrics.js";
import { countPeers, peerMetrics } from "./peer_metrics.js";

const PIECE = 16 * 1024;

/** @param more further text in the same format */
export function* exposition(sample: Sample, more = ""): Generator<string, void> {
	let text = "";
	const counting = countPeers(sample.peers);
	let step = counting.next();
	for (; step.done !== true; step = counting.next()) yield text;
	const counts = step.value;
	for (const { name, type, help, labels, read } of metrics) {
		text += heading(name, type, help);
		for (const [values, value] of read(sample, counts)) {
			const pairs = labels.map((label) => `${label}="${escaped(values[label] ?? "")}"`);
			text += `${name}${pairs.length === 0 ? "" : `{${pairs.join(",")}}`} ${value}\n`;
		}
	}
	yield text + more;
	// The labels of a peer are the same for each metric.
	const known = sample.peers.map(
		({ node, family }) => `peer="${escaped(node)}",family="${family}"`,
	);
	for (const { name, type, help, readPeer } of peerMetrics) {
		text = heading(name, type, help);
		for (const [at, peer] of sample.peers.entries()) {
			for (const [path, value] of readPeer(peer))
				text += `${name}{${known[at]}${path === undefined ? "" : `,path="${path}"`}} ${value}\n`;
			if (text.length < PIECE) continue;
			yield text;
			text = "";
		}
		if (text !== "") yield text;
	}
}

function heading(name: string, type: string, help: string): string {
	return `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n`;
}

function escaped(value: string): string {
	return value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}
