/** Compiler and evaluator against the interpreter, on random clusters, policies, changes and packets. */
import assert from "node:assert/strict";
import fc from "fast-check";
import t from "tap";
import { type Story, story } from "../tools/policy_clusters.js";
import { PolicySite } from "../tools/policy_site.js";

const numRuns = Number(process.env.POLICY_RUNS ?? 500);
const seed = process.env.POLICY_SEED === undefined ? {} : { seed: Number(process.env.POLICY_SEED) };

function started({ start }: Story): PolicySite {
	// Half of them make their classes anew at nearly every change.
	const site = new PolicySite(undefined, start.length % 2 === 0 ? 0 : undefined);
	site.take(site.compile(start).writes);
	return site;
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

t.test(
	"each single write leaves the old verdict or the new one, and never an incomplete one",
	async () => {
		fc.assert(
			fc.property(story, (told) => {
				const site = started(told);
				for (const change of told.changes) {
					const owners = told.flows.map((flow) => site.ownersOf(flow));
					const hairpins = told.flows.map((flow) => site.isHairpin(flow));
					const all = () => told.flows.map((flow, i) => site.verdicts(flow, hairpins[i]));
					const before = all();
					const states = site.compile([change]).writes.map((write) => {
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
								if (site.isHairpin(told.flows[i]!) !== hairpins[i]) continue;
								// One Pod took the address of one end from another and left the other: two changes.
								const owned = site.ownersOf(told.flows[i]!);
								if (owned.every((owner, end) => owner !== owners[i]![end])) continue;
								const possible = [was, is];
								const what = `${direction} ${JSON.stringify([told.flows[i], change])}`;
								assert.ok(
									possible.includes(now[direction] ?? "nothing"),
									`${what}: ${now[direction]}, not one of ${possible}`,
								);
							}
				}
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
