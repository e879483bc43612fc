/** `fairway policies` */
import { agentSocket, ask } from "../api/client.js";
import type { PoliciesRequest, PolicyStatus } from "../api/messages/policies.js";
import type { Status } from "../api/messages/status.js";
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
	if (output === "json") process.stdout.write(json(rows));
	else if (rows.length > 0) process.stdout.write(policiesText(rows, terminalWidth()));
	else {
		const { policies } = await ask<Status>(socket, "GET", "/status");
		process.stdout.write(policies.synced ? NONE : NONE_YET);
	}
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

function stateText({ isFormer, ...policy }: PolicyStatus): string {
	return isFormer ? `${stateOf(policy)}, as an earlier agent left it` : stateOf(policy);
}

function stateOf({ isStaged, unusable, staged }: Omit<PolicyStatus, "isFormer">): string {
	if (unusable !== null)
		return isStaged ? `unusable, staged: ${unusable}` : `unusable: ${unusable}`;
	if (!isStaged) return "enforced";
	return `staged: ${staged.flows} flow${staged.flows === 1 ? "" : "s"} would change`;
}

const NONE = "No policy selects a Pod of this Node.\n";
const NONE_YET =
	"Not all objects have been read since the agent's start (`fairway status` names them). Policies that an earlier agent left are in force; their names are not known.\n";

/** @param width columns of text that there are; undefined: nothing is cut */
export function policiesText(rows: readonly PolicyStatus[], width: number | undefined): string {
	return table(COLUMNS, rows, { width });
}
