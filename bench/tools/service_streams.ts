/** Frames of bench/services.ts that are neither from Pod to Pod nor as the generator makes them. */
import { readFileSync } from "node:fs";
import { BpfMap } from "#native";
import { DropReason } from "../../src/tables/generated.js";
import { buildFrame, ETHERNET } from "./frame.js";
import { link, type Pktgen, type Stream } from "./pktgen.js";
import { EMPTY_CLUSTER_IP, NODE_PORT, SERVICE_PORT } from "./service_plan.js";
import type { Site } from "./site.js";

const SYNS = 100_000;
/** Of TCP behind IPv4. */
const FLAGS = ETHERNET + 20 + 12;
const CHECKSUM = ETHERNET + 20 + 16;

/** Answers to so many flows of a stream, which are begun here. `wire`: what node1 makes of the stream. */
export async function answersOf(
	pktgen: Pktgen,
	site: Site,
	stream: Stream,
	wire: Stream,
	flows: number,
): Promise<Stream> {
	await site.sinkInPod(pktgen, "sink_tc", "pod1");
	await pktgen.run({ ...stream, vary: { flows } }, flows * 2);
	const answers = await site.answers(pktgen, { ...wire, vary: { flows } });
	await pktgen.run(answers, flows * 2);
	return answers;
}

/** From the outside host to node1's NodePort; the sink at the switch is there. */
export async function outsideStream(pktgen: Pktgen, site: Site): Promise<Stream> {
	const { mac } = await link(site.namespace("node1"), "eth0");
	const gateway = await link(site.namespace("router"), "net1");
	const frame = buildFrame({
		...{ sourceMac: gateway.mac, destinationMac: mac, protocol: "udp", size: 64 },
		...{ source: site.lab.address("outside", 4), destination: site.lab.address("node1", 4) },
		destinationPort: NODE_PORT.udp,
	});
	return { frame, out: await site.output(pktgen, "net1", "node1") };
}

export interface Refusals {
	sent: number;
	/** As the data path counts them. */
	refused: number;
	/** SYNs a second of CPU time. */
	rate: number;
	/** CPU time of node1's agent meanwhile, ms. */
	agent: number;
}

/** SYNs of pod1 to a Service without endpoints. */
export async function measureRefusals(pktgen: Pktgen, site: Site): Promise<Refusals> {
	const to = { destination: EMPTY_CLUSTER_IP, destinationPort: SERVICE_PORT.tcp };
	const stream = await site.fromPod(pktgen, { ...to, protocol: "tcp", size: 64 });
	const frame = Buffer.from(stream.frame);
	const before = frame.readUInt16BE(FLAGS);
	const syn = (before & 0xf000) | 2;
	frame.writeUInt16BE(syn, FLAGS);
	// RFC 1624.
	const sum = (~frame.readUInt16BE(CHECKSUM) & 0xffff) + (~before & 0xffff) + syn;
	frame.writeUInt16BE(~((sum & 0xffff) + (sum >>> 16)) & 0xffff, CHECKSUM);
	const agent = site.lab.agent("node1");
	const { pid } = await agent.status();
	const drops = BpfMap.openPinned(`${agent.pinDirectory}/maps/drops`);
	const reason = Buffer.alloc(4);
	reason.writeUInt32LE(DropReason.SERVICE_NO_ENDPOINTS);
	const counted = () => {
		const values = drops.lookup(reason)!;
		let count = 0;
		for (let at = 0; at < values.length; at += 8) count += Number(values.readBigUInt64LE(at));
		return count;
	};
	const [refused, cpu] = [counted(), agentTime(pid)];
	const run = await pktgen.run({ ...stream, frame, vary: { flows: 8192 } }, SYNS);
	const result = {
		sent: run.sent,
		refused: counted() - refused,
		rate: (1e9 * run.sent) / run.cpu,
		agent: agentTime(pid) - cpu,
	};
	drops.close();
	return result;
}

/** User and system time of a process, ms. */
function agentTime(pid: number): number {
	const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
	const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
	return (Number(fields[11]) + Number(fields[12])) * 10;
}
