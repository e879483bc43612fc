/** Compiler and evaluator against the interpreter, on random clusters, policies, changes and packets. */
import assert from "node:assert/strict";
import fc from "fast-check";
import t from "tap";
import type {
	HeldPolicyTables,
	PolicyChanges,
	PolicyTables,
} from "../../src/policy/policy_tables.js";
import { type Story, story } from "../tools/policy_clusters.js";
import { PolicySite } from "../tools/policy_site.js";
import { runsOf } from "../tools/random_runs.js";

const numRuns = runsOf("POLICY_RUNS", 500);
const seed = process.env.POLICY_SEED === undefined ? {} : { seed: Number(process.env.POLICY_SEED) };

function started({ start }: Story): PolicySite {
	// Half of them make their classes anew at nearly every change.
	const site = new PolicySite(undefined, start.length % 2 === 0 ? 0 : undefined);
	site.take(site.compile(start).writes);
	return site;
}

/** As an agent reads them from the kernel. */
function heldOf(tables: PolicyTables): HeldPolicyTables {
	const { identities, blocks, policies, portSets, rules, policyVerdicts } = tables;
	return {
		...{ identities: new Map(identities), blocks: new Map(blocks) },
		...{ policies: [...policies.keys()], portSets: [...portSets.keys()], rules: [...rules.keys()] },
		...{ policyVerdicts: new Map(policyVerdicts), classLimit: tables.classLimit.get(0) ?? 0 },
	};
}

t.test("the tables say of every packet what the objects mean, after every change", async (t) => {
	let cases = 0;
	fc.assert(
		fc.property(story, (told) => {
			const site = started(told);
			for (const flow of told.flows) site.check(flow);
			for (const change of told.changes) {
				site.take(site.compile([change]).writes);
				for (const flow of told.flows) site.check(flow);
				cases += told.flows.length;
			}
		}),
		{ numRuns, ...seed },
	);
	t.ok(cases >= numRuns * 10, `${cases} packets`);
});

/** Applies them one by one: each leaves every flow with the verdict of before or of after. */
function checkEach(site: PolicySite, { flows }: Story, compile: () => PolicyChanges, what: string) {
	const owners = flows.map((flow) => site.ownersOf(flow));
	const hairpins = flows.map((flow) => site.isHairpin(flow));
	const all = () => flows.map((flow, i) => site.verdicts(flow, hairpins[i]));
	const before = all();
	const changes = compile();
	const states = [...changes.writes].map((write) => {
		site.take([write]);
		return all();
	});
	const after = all();
	for (const state of states)
		for (const [i, now] of state.entries())
			for (const direction of ["egress", "ingress"] as const) {
				const [was, is] = [before[i]![direction], after[i]![direction]];
				// The Pod comes or goes, or who is who changes, which is not in these tables.
				if (was === undefined || is === undefined) continue;
				if (site.isHairpin(flows[i]!) !== hairpins[i]) continue;
				// One Pod took the address of one end from another and left the other: two changes.
				const owned = site.ownersOf(flows[i]!);
				if (owned.every((owner, end) => owner !== owners[i]![end])) continue;
				const possible = [was, is];
				const where = `${direction} ${JSON.stringify(flows[i])} ${what}`;
				assert.ok(
					possible.includes(now[direction] ?? "nothing"),
					`${where}: ${now[direction]}, not one of ${possible}`,
				);
			}
	return changes;
}

t.test(
	"each single write leaves the old verdict or the new one, and never an incomplete one",
	async () => {
		fc.assert(
			fc.property(story, (told) => {
				const site = started(told);
				for (const change of told.changes)
					checkEach(site, told, () => site.compile([change]), JSON.stringify(change));
			}),
			{ numRuns: Math.ceil(numRuns / 2), ...seed },
		);
	},
);

t.test(
	"an agent that starts beside an earlier one's tables leaves the old verdict or the new one with each write, and nothing of the earlier one in the end",
	async () => {
		fc.assert(
			fc.property(story, (told) => {
				const earlier = started(told);
				for (const change of told.changes.slice(1)) earlier.take(earlier.compile([change]).writes);
				const { tables } = earlier.evaluator;
				const missed = told.changes[0]!;
				const site = new PolicySite(earlier.objects, undefined, heldOf(tables), earlier.evaluator);
				const inUse = [...tables.policies.keys()];
				const first = () => {
					earlier.objects.apply(missed);
					return site.compileAll();
				};
				const { writes, hasGarbage } = checkEach(site, told, first, JSON.stringify(missed));
				assert.ok(hasGarbage || inUse.length === 0, "a round that removes them");
				// Their elements go with the Pods.
				const addresses = new Set(site.endpoints().flatMap(({ addresses }) => addresses));
				for (const address of tables.endpointPolicies.keys())
					if (!addresses.has(address)) tables.endpointPolicies.delete(address);
				for (const { table, key } of writes)
					if (table === "policies") assert.ok(!inUse.includes(key as number), "an id in use");
				for (let round = 0; round < 4; round++)
					checkEach(site, told, () => site.compile([]), `round ${round}`);
				const whole = new PolicySite(site.objects);
				whole.take(whole.compileAll().writes);
				for (const flow of told.flows) {
					site.check(flow);
					assert.deepEqual(site.verdicts(flow), whole.verdicts(flow));
				}
				const { policies, policyVerdicts, portSets, rules } = site.evaluator.tables;
				const sizes = ({ policies, portSets, rules }: PolicyTables) => [
					policies.size,
					portSets.size,
					rules.size,
				];
				assert.deepEqual(
					sizes({ policies, portSets, rules } as PolicyTables),
					sizes(whole.evaluator.tables),
				);
				for (const key of policyVerdicts.keys())
					assert.ok(policies.has(Math.floor(key / 2 ** 32)), "a verdict of a policy that has gone");
			}),
			{ numRuns: Math.ceil(numRuns / 2), ...seed },
		);
	},
);

t.test("what was allowed and is denied now raises the epoch of its flows", async (t) => {
	let raised = 0;
	fc.assert(
		fc.property(story, (told) => {
			const site = started(told);
			for (const change of told.changes) {
				const before = told.flows.map((flow) => site.verdicts(flow));
				const nodes = told.flows.map((flow) => site.nodesOf(flow));
				const { writes, epochs } = site.compile([change]);
				site.take(writes);
				for (const [i, flow] of told.flows.entries())
					for (const direction of ["egress", "ingress"] as const) {
						const [was, is] = [before[i]![direction], site.verdicts(flow)[direction]];
						if (was === undefined || is === undefined) continue;
						if (was.startsWith("deny") || was === "closed" || !is.startsWith("deny")) continue;
						const concerned = [...nodes[i]!, ...site.nodesOf(flow)];
						const has = epochs.route || concerned.some((node) => epochs.peers.has(node));
						assert.ok(has, `${was} became ${is}: ${JSON.stringify([flow, change])}`);
						raised++;
					}
			}
		}),
		{ numRuns: Math.ceil(numRuns / 2), ...seed },
	);
	t.ok(raised > 0, `${raised} packets`);
});

t.test("compiled change by change, the tables mean the same as compiled at once", async () => {
	fc.assert(
		fc.property(story, (told) => {
			const site = started(told);
			for (const change of told.changes) site.take(site.compile([change]).writes);
			// What is unused goes in the rounds after, and nothing is left behind.
			let last = site.compile([]);
			for (let round = 0; last.writes.length > 0 || last.hasGarbage; round++) {
				assert.ok(round < 5, "an end to it");
				site.take(last.writes);
				last = site.compile([]);
			}
			const whole = new PolicySite(site.objects);
			whole.take(whole.compileAll().writes);
			for (const flow of told.flows) assert.deepEqual(site.verdicts(flow), whole.verdicts(flow));
			const counts = (one: PolicySite) => {
				const { policies, rules, endpointPolicies } = one.evaluator.tables;
				return [policies.size, rules.size, endpointPolicies.size];
			};
			assert.deepEqual(counts(site), counts(whole));
		}),
		{ numRuns: Math.ceil(numRuns / 2), ...seed },
	);
});
