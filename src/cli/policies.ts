/** `fairway policies` */
import { agentSocket, ask } from "../api/client.js";
import type { PoliciesRequest, PolicyStatus } from "../api/messages.js";
import { type Column, table } from "../text/table.js";
import { EXIT_DONE, UsageError } from "./exit.js";
import { type ClientOptions, json, terminalWidth } from "./output.js";

/** @param policy "namespace/name", or the name of a ClusterNetworkPolicy; undefined: all of them */
export async function policiesCommand(
	policy: string | undefined,
	{ runDir, output }: ClientOptions,
): Promise<number> {
	const socket = agentSocket(runDir);
	const rows =
		policy === undefined
			? await ask<PolicyStatus[]>(socket, "GET", "/policies")
			: await ask<PolicyStatus[]>(socket, "POST", "/policies", { body: policiesRequest(policy) });
	process.stdout.write(output === "json" ? json(rows) : policiesText(rows, terminalWidth()));
	return EXIT_DONE;
}

/** @throws UsageError */
export function policiesRequest(text: string): PoliciesRequest {
	const [, namespace, name] = /^(?:([^/\s]+)\/)?([^/\s]+)$/.exec(text) ?? [];
	if (name === undefined)
		throw new UsageError(
			`Cannot show the policy ${JSON.stringify(text)}: expected NAMESPACE/NAME, or the name of a ClusterNetworkPolicy`,
		);
	return namespace === undefined ? { name } : { namespace, name };
}

const COLUMNS: readonly Column<PolicyStatus>[] = [
	{
		heading: "POLICY",
		shortest: 20,
		cell: ({ namespace, name }) => (namespace === null ? name : `${namespace}/${name}`),
	},
	{
		heading: "TIER",
		cell: ({ tier, priority }) => (tier === null ? "-" : `${tier} ${priority}`),
	},
	{ heading: "INGRESS PODS", align: "right", cell: ({ pods }) => pods.ingress },
	{ heading: "EGRESS PODS", align: "right", cell: ({ pods }) => pods.egress },
	{ heading: "RULES", align: "right", cell: ({ rules }) => rules },
	{ heading: "FLOWS ALLOWED", align: "right", cell: ({ allowed }) => allowed.flows },
	{ heading: "PACKETS DENIED", align: "right", cell: ({ denied }) => denied.packets },
	{ heading: "STATE", shortest: 12, cell: stateText },
];

function stateText({ isStaged, unusable, staged }: PolicyStatus): string {
	if (unusable !== null)
		return isStaged ? `unusable, staged: ${unusable}` : `unusable: ${unusable}`;
	if (!isStaged) return "enforced";
	return `staged: ${staged.flows} flow${staged.flows === 1 ? "" : "s"} would change`;
}

/** @param width columns of text that there are; undefined: nothing is cut */
export function policiesText(rows: readonly PolicyStatus[], width: number | undefined): string {
	if (rows.length === 0) return "No policy selects a Pod of this Node.\n";
	return table(COLUMNS, rows, { width });
}
