/** Measures real traffic between two machines of a lab, and compares it with what Fairway reports. */
import { once } from "node:events";
import type { ExplainAnswer } from "../api/messages/explain.js";
import type { PeerStatus } from "../api/messages/peers.js";
import { echo } from "./echo.js";
import type { Lab } from "./lab.js";
import { type Kind, nodeOf, type Pair } from "./pairs.js";
import type { PolicyKind } from "./policies.js";
import type { ServiceKind } from "./services.js";
import { until } from "./until.js";

export interface Measurement {
	pair: Omit<Pair, "kind"> & { kind: Kind | ServiceKind | PolicyKind };
	/** The answer of `fairway explain` on the sending Node; undefined: no agent, or no answer. */
	explained: ExplainAnswer | undefined;
	/**
	 * Mean round trip of the answered requests in milliseconds; undefined: no answer; null: a Service answers no
	 * echo requests.
	 */
	roundTrip: number | null | undefined;
	/** Echo requests without an answer. */
	lost: number;
	/** Bits a second received over one TCP connection. */
	throughput: number | undefined;
	/** The source address that the receiver saw. */
	seenAs: string | undefined;
	/** For a Service, the connections that each backend answered; for a policy's verdict, the reason. */
	spread?: string;
	/** The drop reason of a connection that a policy denies as expected. */
	denied?: string;
	/** The paths that the packets took, by the sending Node's counters. */
	counted: { direct: number; tunnel: number };
	/** Sentences; empty: no fault. */
	faults: string[];
}

const PINGS = 10;
const TCP_SECONDS = 1;
const IPERF_PORT = 5201;

export async function measure(lab: Lab, pair: Pair): Promise<Measurement> {
	const { from, to, family } = pair;
	const source = lab.address(from, family);
	const destination = lab.address(to, family);
	const agent = lab.agents.get(nodeOf(lab, from) ?? "");
	const faults: string[] = [];
	const note = (error: Error): undefined => {
		faults.push(error.message.split("\n", 1)[0] ?? "");
		return undefined;
	};
	const explained = await agent
		?.explain({ source, destination, protocol: "tcp", destinationPort: IPERF_PORT })
		.catch(note);
	const before = await agent?.peers();
	const echoes = await echo(lab, from, destination, PINGS);
	const throughput = await tcp(lab, from, to, destination).catch(note);
	const seenAs = await sourceSeenBy(lab, from, to, destination).catch(note);
	const peer = nodeOf(lab, to);
	const counted = difference(before, await agent?.peers(), peer, family);
	if (echoes.lost > 0) faults.push(`${echoes.lost} of ${PINGS} echo requests had no answer`);
	if (explained?.drop != null) faults.push(`explain says it is dropped: ${explained.reason}`);
	faults.push(...contradictions(explained, counted));
	return { pair, explained, ...echoes, throughput, seenAs, counted, faults };
}

async function tcp(lab: Lab, from: string, to: string, address: string): Promise<number> {
	const server = lab
		.namespace(to)
		.spawn(["iperf3", "-s", "-1", "-p", `${IPERF_PORT}`, "--forceflush"], {
			stdio: ["ignore", "pipe", "ignore"],
		});
	const ended = once(server, "exit");
	try {
		let said = "";
		server.stdout?.setEncoding("utf8").on("data", (text: string) => (said += text));
		await until("iperf3 listening", () => said.includes("listening"));
		const { stdout } = await lab.run(
			from,
			["iperf3", "-J", "-c", address, "-p", `${IPERF_PORT}`, "-t", `${TCP_SECONDS}`].concat(
				"--connect-timeout",
				"3000",
			),
			{ mayFail: true, timeoutMs: 15_000 },
		);
		const { error, end } = JSON.parse(stdout) as {
			error?: string;
			end?: { sum_received?: { bits_per_second: number } };
		};
		if (error !== undefined || !end?.sum_received?.bits_per_second)
			throw new Error(`TCP: ${error ?? "nothing arrived"}`);
		return end.sum_received.bits_per_second;
	} finally {
		server.kill("SIGKILL");
		await ended;
	}
}

async function sourceSeenBy(
	lab: Lab,
	from: string,
	to: string,
	host: string,
): Promise<string | undefined> {
	const [client, server] = await Promise.all([lab.station(from), lab.station(to)]);
	const { port } = await server.order("udpServe", { port: 5202 });
	try {
		return (await client.order("udpWho", { host, port, timeoutMs: 2000 })).address;
	} finally {
		await server.order("close", { port });
	}
}

function difference(
	before: PeerStatus[] | undefined,
	after: PeerStatus[] | undefined,
	node: string | undefined,
	family: number,
): { direct: number; tunnel: number } {
	const sum = (peers: PeerStatus[] = [], path: "direct" | "tunnel"): number =>
		peers
			.filter((peer) => peer.node === node && peer.family === family)
			.reduce((total, { packets }) => total + packets[path], 0);
	return {
		direct: sum(after, "direct") - sum(before, "direct"),
		tunnel: sum(after, "tunnel") - sum(before, "tunnel"),
	};
}

/** Differences between the explanation and the counters. */
function contradictions(
	explained: ExplainAnswer | undefined,
	{ direct, tunnel }: Measurement["counted"],
): string[] {
	if (explained?.peer == null) return [];
	const tunnelled = explained.path === "geneve" || explained.path === "vxlan";
	if (tunnelled ? tunnel > 0 && direct === 0 : direct > 0 && tunnel === 0) return [];
	return [
		`explain says ${explained.path}, but ${direct} packets went directly and ${tunnel} in a tunnel`,
	];
}
