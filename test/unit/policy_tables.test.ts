/** The order in which the tables of network policy are written, with maps of paper that refuse at will. */
import assert from "node:assert/strict";
import fc from "fast-check";
import t from "tap";
import type { Evaluator } from "../../src/policy/evaluator.js";
import type { Flow } from "../../src/policy/interpreter.js";
import type { PolicyChanges, PolicyWrite } from "../../src/policy/policy_tables.js";
import { PolicyTables } from "../../src/reconcile/maps/policy_tables.js";
import { PaperPolicyMaps } from "../tools/paper_policy_maps.js";
import { story } from "../tools/policy_clusters.js";
import { PolicySite } from "../tools/policy_site.js";

const numRuns = Number(process.env.POLICY_RUNS ?? 60);

const DENY = { judgement: { allow: false, rule: 3 } };
const WRITES: PolicyWrite[] = [
	{ step: 1, table: "portSets", key: 1, value: { segments: [{ from: 0, ...DENY }] } },
	{
		step: 1,
		table: "rules",
		key: 3,
		value: { direction: "ingress", policies: ["x/a"], rule: 0 },
	},
	{ step: 2, table: "policyVerdicts", key: 2 * 2 ** 32 + 2, value: { portSet: 1 } },
	{ step: 3, table: "policies", key: 2, value: { verdict: DENY, hairpin: 1 } },
	{ step: 3, table: "classLimit", key: 0, value: 3 },
	{ step: 4, table: "identities", key: "10.0.0.1", value: 2 },
	{ step: 4, table: "blocks", key: "10.0.0.0/8", value: 2 },
	{
		step: 5,
		table: "endpointPolicies",
		key: "10.0.0.9",
		value: { egress: 1, ingress: 2, endpoint: "fairway1" },
	},
	{ step: 7, table: "policies", key: 4, value: undefined },
];
const ORDER = [
	"portSets 1",
	"ruleCounters 3",
	`policyVerdicts ${2 * 2 ** 32 + 2}`,
	"policies 2",
	"classLimit 0",
	"identities 10.0.0.1",
	"blocks 10.0.0.0/8",
	"endpoint 10.0.0.9",
	"route",
	"-policies 4",
];

function changesOf(writes: PolicyWrite[], epochs = { route: true, peers: new Set<string>() }) {
	return { writes, epochs, hasGarbage: false, problems: [] } satisfies PolicyChanges;
}

t.test("changes are written step by step, epochs before what goes", async (t) => {
	const maps = new PaperPolicyMaps();
	const tables = new PolicyTables(maps.tables, maps);
	t.same(await tables.change(changesOf(WRITES)), { writes: 9, problems: [] });
	t.same(maps.steps, ORDER);
	t.match(tables.rules.get(3), { policies: ["x/a"] });
	t.match(tables.policiesOf("10.0.0.9", "fairway1"), { egress: 1, ingress: 2 });
	t.equal(tables.policiesOf("10.0.0.9", "fairway2"), undefined, "another Pod's are not known");
});

t.test(
	"after a refused write nothing of a later step is written, until it is accepted",
	async (t) => {
		for (const [at, step] of ORDER.entries()) {
			const maps = new PaperPolicyMaps();
			const tables = new PolicyTables(maps.tables, maps);
			maps.refuses = (one) => one === step;
			const { problems } = await tables.change(changesOf(WRITES));
			t.same(problems, [`no ${step}`], step);
			t.same(tables.problems, problems);
			const stepOf = (one: string) =>
				[2, 3, 5, 7, 8, 9, 10].findIndex((end) => ORDER.indexOf(one) < end);
			t.ok(
				maps.steps.every((one) => stepOf(one) <= stepOf(step)),
				`${step}: ${maps.steps}`,
			);
			// Later changes wait behind it.
			const more: PolicyWrite = { step: 4, table: "identities", key: "10.0.0.2", value: 2 };
			await tables.change(changesOf([more], { route: false, peers: new Set() }));
			t.notOk(maps.entries("identities").has("10.0.0.2"), `${step}: later changes wait`);
			maps.refuses = () => false;
			t.same((await tables.change()).problems, []);
			t.same(
				[...maps.steps].sort(),
				[...ORDER, "identities 10.0.0.2"].sort(),
				`${step}: all of it, once`,
			);
			t.ok(maps.steps.indexOf(step) >= at, `${step}: not before its turn`);
			t.same(tables.problems, []);
		}
	},
);

t.test("epochs of Nodes that are no peers are all Nodes'", async (t) => {
	const maps = new PaperPolicyMaps();
	const tables = new PolicyTables(maps.tables, maps);
	const ids = new Map([
		["a", 1],
		["b", 2],
	]);
	const raise = (...names: string[]) =>
		tables.change(changesOf([], { route: false, peers: new Set(names) }), (name) => ids.get(name));
	await raise("a", "b");
	await raise("a", "c");
	t.same(maps.steps, ["peers 1,2", "route"]);
});

/** Allow, deny or why neither: rules have other ids after a restart. */
function verdicts(site: PolicySite, evaluator: Evaluator, flows: readonly Flow[]) {
	return flows.map((flow) => {
		const { source, destination, protocol, port } = flow;
		const hairpin = site.isHairpin(flow);
		const ask = (direction: "egress" | "ingress", local: string, peer: string) => {
			const answer = evaluator.judge({ direction, local, peer, hairpin, protocol, port });
			if (answer === undefined || typeof answer === "string") return answer;
			return answer.allow ? "allow" : "deny";
		};
		const { ingress } = site.expected(flow);
		return {
			egress: ask("egress", source, destination),
			ingress: ingress === undefined ? undefined : ask("ingress", destination, source),
		};
	});
}

t.test(
	"after a restart, each single write leaves the verdict of before or the new one, and no policy is left behind",
	async (t) => {
		let compared = 0;
		await fc.assert(
			fc.asyncProperty(story, fc.nat(80), async (told, end) => {
				const maps = new PaperPolicyMaps();
				const site = new PolicySite(undefined, told.start.length % 2 === 0 ? 0 : undefined);
				const before = new PolicyTables(maps.tables, maps);
				await before.adopt();
				await before.change(site.compile(told.start));
				for (const change of told.changes.slice(0, 2)) await before.change(site.compile([change]));
				const { objects } = site;
				const was = verdicts(site, maps.evaluator, told.flows);
				const hairpins = told.flows.map((flow) => site.isHairpin(flow));

				// What has happened while no agent ran.
				for (const change of told.changes.slice(2)) objects.apply(change);
				const whole = new PolicySite(objects);
				whole.take(whole.compileAll().writes);
				const is = verdicts(whole, whole.evaluator, told.flows);

				const restart = async (killedAt: number) => {
					const tables = new PolicyTables(maps.tables, maps);
					const held = await tables.adopt();
					const later = new PolicySite(objects, undefined, held);
					let writes = 0;
					maps.onWrite = (step) => {
						for (const [i, now] of verdicts(later, maps.evaluator, told.flows).entries())
							for (const direction of ["egress", "ingress"] as const) {
								const possible = [was[i]![direction], is[i]![direction]];
								// Its Pod comes or goes, which is not in these tables.
								if (possible.includes(undefined)) continue;
								if (later.isHairpin(told.flows[i]!) !== hairpins[i]) continue;
								compared++;
								assert.ok(
									possible.includes(now[direction]),
									`${step}: ${direction} ${JSON.stringify(told.flows[i])}: ${now[direction]}, not one of ${possible}`,
								);
							}
						if (++writes === killedAt) throw new Killed();
					};
					try {
						await tables.change(later.compileAll());
					} finally {
						maps.onWrite = () => {};
					}
					for (let more = later.compile([]); ; more = later.compile([])) {
						await tables.change(more);
						if (!more.hasGarbage && more.writes.length === 0) break;
					}
					// The element of a Pod that is gone is removed by others.
					for (const [i, now] of verdicts(later, maps.evaluator, told.flows).entries())
						for (const direction of ["egress", "ingress"] as const)
							if (is[i]![direction] !== undefined) assert.equal(now[direction], is[i]![direction]);
					const { evaluator } = whole;
					for (const name of ["policies", "portSets", "identities", "blocks"] as const)
						assert.equal(maps.entries(name).size, evaluator.tables[name].size, name);
				};
				await restart(end).catch((error: unknown) => {
					if (!(error instanceof Killed)) throw error;
				});
				await restart(0);
			}),
			{ numRuns },
		);
		t.ok(compared > 0, `${compared} verdicts`);
	},
);

class Killed extends Error {}
