/**
 * Connections of a lab that network policies decide: lab.yaml has the expected results, written by hand.
 *
 *  1. both ends' agents know the policies
 *  2. a TCP connection: it gets through, or nothing is ever answered
 *  3. why: the Node of the end that denies it names policy and rule
 */
import type { ExplainAnswer } from "../api/messages/explain.js";
import type { Lab } from "./lab.js";
import type { Measurement } from "./measure.js";
import { nodeOf } from "./pairs.js";
import type { Family } from "./subnet.js";
import type { LabConnection } from "./topology.js";
import { until } from "./until.js";

export const policyKinds = {
	decidedByPolicy: "Pod → Pod, decided by policy",
} as const;

export type PolicyKind = keyof typeof policyKinds;

export interface PolicyPair {
	kind: PolicyKind;
	family: Family;
	/** Machines. */
	from: string;
	/** For people: name and port. */
	to: string;
	connection: LabConnection;
}

const IN_FORCE_MS = 10_000;
/** A denied packet is dropped silently. */
const SILENCE_MS = 1_500;
const BYTES = 16_000_000;

export function policyPairs(lab: Lab): PolicyPair[] {
	return lab.topology.connections.flatMap((connection) =>
		([4, 6] as const)
			.filter((family) =>
				[connection.from, connection.to].every((one) => lab.hasFamily(one, family)),
			)
			.map((family) => ({
				...{ kind: "decidedByPolicy" as const, family, from: connection.from },
				...{ to: `${connection.to}:${connection.port}`, connection },
			})),
	);
}

export async function measureConnection(lab: Lab, pair: PolicyPair): Promise<Measurement> {
	const { family } = pair;
	const { from, to, port, expected } = pair.connection;
	const host = lab.address(to, family);
	const faults: string[] = [];
	const explained = await explainAtBoth(lab, pair).catch((error: Error) => {
		faults.push(error.message);
		return undefined;
	});
	const server = await lab.station(to);
	await server.order("tcpServe", { port });
	let throughput: number | undefined;
	let seenAs: string | undefined;
	try {
		const client = await lab.station(from);
		const timeoutMs = expected === "denied" ? SILENCE_MS : 5_000;
		const bytes = expected === "denied" ? 1 : BYTES;
		const sent = await client
			.order("tcpSend", { host, port, bytes, seed: 1, timeoutMs })
			.catch((error: Error) => error);
		if (!(sent instanceof Error)) {
			throughput = (sent.bytes * 8) / (sent.milliseconds / 1000);
			seenAs = sent.address;
			if (expected === "denied") faults.push("a connection that policies deny got through");
		} else if (expected === "allowed") faults.push(sent.message.split("\n", 1)[0] ?? "");
	} finally {
		await server.order("close", { port });
	}
	const side = explained && decisive(explained, expected);
	if (explained !== undefined && side === undefined)
		faults.push(`explain names no policy by which it is ${expected}`);
	const denied = expected === "denied" && faults.length === 0;
	return {
		...{ pair, explained: explained?.[0], roundTrip: null, lost: 0, throughput, seenAs, faults },
		...{ spread: side?.why ?? "", counted: { direct: 0, tunnel: 0 } },
		...(denied ? { denied: dropOf(explained) ?? "" } : {}),
	};
}

/** The answers of both ends' Nodes, the sender's first; as soon as they are as expected, or after some time. */
async function explainAtBoth(
	lab: Lab,
	{ family, connection: { from, to, port, expected } }: PolicyPair,
): Promise<ExplainAnswer[]> {
	const request = {
		...{ source: lab.address(from, family), destination: lab.address(to, family) },
		...{ protocol: "tcp" as const, destinationPort: port },
	};
	const nodes = [...new Set([from, to].map((machine) => nodeOf(lab, machine) ?? ""))];
	const agents = nodes.flatMap((node) => lab.agents.get(node) ?? []);
	let last: ExplainAnswer[] = [];
	const look = async () => {
		last = await Promise.all(agents.map((agent) => agent.explain(request)));
		return decisive(last, expected) === undefined ? undefined : last;
	};
	return until("policies in force", look, IN_FORCE_MS).catch((error: Error) => {
		if (last.length > 0) return last;
		throw error;
	});
}

/** A Node's answer about its own Pod, where that decides; undefined: it is not as expected. */
function decisive(
	answers: readonly ExplainAnswer[],
	expected: LabConnection["expected"],
): ExplainAnswer["policy"]["egress"] | undefined {
	const own = answers
		.flatMap(({ policy }) => [policy.egress, policy.ingress])
		.filter(({ by }) => by === "maps");
	const denies = own.find(({ verdict }) => verdict === "deny");
	if (expected === "denied") return denies;
	return denies === undefined ? own.find(({ verdict }) => verdict === "allow") : undefined;
}

function dropOf(answers: readonly ExplainAnswer[] | undefined): string | undefined {
	return answers?.map(({ drop }) => drop).find((drop) => drop !== null) ?? undefined;
}
