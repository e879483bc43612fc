/** What `fairway explain` prints of network policy: a line for each end, then each end tier by tier. */
import type { ExplainAnswer, ExplainPolicySide, ExplainTier } from "../api/messages/explain.js";

type Direction = "egress" | "ingress";
const DIRECTIONS: readonly Direction[] = ["egress", "ingress"];
const TITLES = { egress: "Egress", ingress: "Ingress" } as const;

/** Facts: "Egress", "allowed: Allowed by rule 0 of default/web: ..." */
export function policyFacts({ policy }: Pick<ExplainAnswer, "policy">): [string, string][] {
	return DIRECTIONS.map((direction) => {
		const side = policy[direction];
		return [TITLES[direction], `${verdictText(side)}. ${side.why}`];
	});
}

/** "forwarded", "dropped: policy_egress", and the verdict of another Node. */
export function verdictOf({ drop, policy, hook }: ExplainAnswer): string {
	if (drop !== null) return `dropped: ${drop}`;
	const { ingress, egress } = policy;
	const denied = [ingress, egress].find(
		({ verdict, by }) => verdict === "deny" && by === "objects",
	);
	if (denied === undefined) return "forwarded";
	const reason = denied === ingress ? "policy_ingress" : "policy_egress";
	const here = hook === "none" ? "" : "forwarded here; ";
	return `${here}${denied.node} drops it: ${reason}`;
}

function verdictText({ verdict, by, node }: ExplainPolicySide): string {
	if (by === "nobody") return "not judged";
	if (by === "unknown") return "unknown";
	const said = verdict === null ? "it depends" : VERDICTS[verdict];
	const where =
		node === null
			? ""
			: by === "maps"
				? `, by the live maps of ${node}`
				: `, by the objects that ${node} compiles`;
	return `${said}${where}`;
}

const VERDICTS = { allow: "allowed", deny: "denied", none: "open" } as const;

/** "" where no policy has anything to do with it. */
export function policyText({ policy }: Pick<ExplainAnswer, "policy">): string {
	const parts = DIRECTIONS.flatMap((direction) => sideText(direction, policy[direction]));
	return parts.length === 0 ? "" : `\nPolicies\n${parts.join("")}`;
}

function sideText(direction: Direction, side: ExplainPolicySide): string[] {
	const isSilent = side.tiers.every(({ outcome }) => outcome === "none");
	if (isSilent && side.class === null && side.staged === null) return [];
	const rows: [string, string][] = side.tiers.map((tier) => [tier.tier, tierText(tier)]);
	if (side.class !== null) {
		const { number, atoms } = side.class;
		const other = direction === "egress" ? "destination" : "source";
		rows.push([
			"Class",
			`${number}, of the ${other}: ${atoms.length === 0 ? "no rule names it" : atoms.join("; ")}`,
		]);
	}
	if (side.staged !== null)
		rows.push(["Staged", `would be ${VERDICTS[side.staged.verdict]}: ${side.staged.why}`]);
	const width = Math.max(...rows.map(([name]) => name.length));
	return [
		`  ${direction} of ${side.pod ?? "the Pod"}\n`,
		...rows.map(([name, text]) => `    ${name.padEnd(width)}  ${text}\n`),
	];
}

function tierText({ policies, outcome, policy, rule, says }: ExplainTier): string {
	const rules = `rule ${rule} of ${policy}`;
	switch (outcome) {
		case "none":
			return "no policy selects the Pod";
		case "noMatch":
			return `${listed(policies)}: no rule names the flow`;
		case "allow":
			return `${rules} allows it: ${says}${others(policies, policy)}`;
		case "deny":
			return `${rules} denies it: ${says}${others(policies, policy)}`;
		case "pass":
			return `${rules} leaves it to the next tiers: ${says}${others(policies, policy)}`;
		case "isolated":
			return `isolated by ${listed(policies)}; no rule allows it`;
		case "unusable":
			return `${policy} cannot be used, so the Pod is closed: ${says}`;
		case "itself":
			return `${listed(policies)}: a Pod reaches itself by a Service`;
		case "notAsked":
			return policies.length === 0 ? "not asked" : `not asked: ${listed(policies)}`;
	}
}

const NAMED_MOST = 5;

function others(policies: readonly string[], policy: string | null): string {
	const rest = policies.filter((one) => one !== policy);
	return rest.length === 0 ? "" : ` (also: ${listed(rest)})`;
}

function listed(policies: readonly string[]): string {
	if (policies.length <= NAMED_MOST) return policies.join(", ");
	return `${policies.slice(0, NAMED_MOST).join(", ")} and ${policies.length - NAMED_MOST} more`;
}
