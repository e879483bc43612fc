/** The order in which the tables of network policy are written, with maps of paper that refuse at will. */
import assert from "node:assert/strict";
import fc from "fast-check";
import t from "tap";
import type { Evaluator } from "../../src/policy/evaluator.js";
import type { Flow } from "../../src/policy/interpreter.js";
import type { PolicyChanges, PolicyWrite } from "../../src/policy/policy_tables.js";
import { PolicyTables } from "../../src/reconcile/maps/policy_tables.js";
import type { PolicyOutcome } from "../../src/reconcile/maps/policy_writes.js";
import { PaperPolicyMaps } from "../tools/paper_policy_maps.js";
import { story } from "../tools/policy_clusters.js";
import { PolicySite } from "../tools/policy_site.js";
import { runsOf } from "../tools/random_runs.js";

const numRuns = runsOf("POLICY_RUNS", 60);

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
	t.match(await tables.change(changesOf(WRITES)), { writes: 9, problems: [] });
	t.same(maps.steps, ORDER);
	t.match(tables.rules.get(3), { policies: ["x/a"] });
	t.match(tables.policiesOf("10.0.0.9", "fairway1"), { egress: 1, ingress: 2 });
	t.equal(tables.policiesOf("10.0.0.9", "fairway2"), undefined, "another Pod's are not known");
});

/** What each refused write keeps from being written, beside itself. */
const HOLDS_UP: Record<string, string[]> = {
	"portSets 1": [`policyVerdicts ${2 * 2 ** 32 + 2}`, "policies 2", "endpoint 10.0.0.9"],
	"ruleCounters 3": [],
	[`policyVerdicts ${2 * 2 ** 32 + 2}`]: ["policies 2", "endpoint 10.0.0.9"],
	"policies 2": ["endpoint 10.0.0.9"],
	"classLimit 0": [],
	"identities 10.0.0.1": ["-policies 4"],
	"blocks 10.0.0.0/8": ["-policies 4"],
	"endpoint 10.0.0.9": [],
	route: [],
	"-policies 4": [],
};

t.test("a refused write holds up what depends on it and nothing else", async (t) => {
	for (const step of ORDER) {
		const maps = new PaperPolicyMaps();
		const tables = new PolicyTables(maps.tables, maps);
		maps.refuses = (one) => one === step;
		const { problems, held } = await tables.change(changesOf(WRITES));
		t.same(problems, [`no ${step}`], step);
		t.same(tables.problems, problems);
		const without = [step, ...HOLDS_UP[step]!];
		t.same(
			maps.steps,
			ORDER.filter((one) => !without.includes(one)),
			step,
		);
		t.same([...held], without.includes("endpoint 10.0.0.9") ? ["fairway1"] : [], step);
		const more: PolicyWrite = { step: 4, table: "identities", key: "10.0.0.2", value: 2 };
		await tables.change(changesOf([more], { route: false, peers: new Set() }));
		t.ok(maps.entries("identities").has("10.0.0.2"), `${step}: later changes do not wait`);
		maps.refuses = () => false;
		maps.steps.length = 0;
		t.match(await tables.change(), { problems: [], held: new Set() });
		t.same(
			maps.steps.filter((one) => one !== "route"),
			ORDER.filter((one) => without.includes(one) && one !== "route"),
			`${step}: the rest of it, in order`,
		);
		const isLate = step !== "-policies 4";
		t.equal(maps.steps.includes("route"), isLate, `${step}: flows of meanwhile look again`);
		t.same(tables.problems, []);
	}
});

t.test("addresses of a class without verdicts of a policy in force are denied", async (t) => {
	const maps = new PaperPolicyMaps();
	const tables = new PolicyTables(maps.tables, maps);
	await tables.change(changesOf(WRITES));
	const verdict = `policyVerdicts ${2 * 2 ** 32 + 3}`;
	maps.refuses = (one) => one === verdict;
	const { problems, held } = await tables.change(
		changesOf([
			{ step: 2, table: "policyVerdicts", key: 2 * 2 ** 32 + 3, value: DENY },
			{ step: 2, table: "policyVerdicts", key: 2 * 2 ** 32 + 4, value: DENY },
			{ step: 3, table: "classLimit", key: 0, value: 5 },
			{ step: 4, table: "identities", key: "10.0.0.1", value: 3 },
			{ step: 4, table: "identities", key: "10.0.0.3", value: 4 },
			{ step: 4, table: "blocks", key: "10.1.0.0/16", value: 3 },
		]),
	);
	t.same(problems, [
		`no ${verdict}`,
		"The kernel has no verdicts for 10.0.0.1 and 1 more addresses and blocks: they are denied",
	]);
	t.equal(held.size, 0);
	const class3 = () => [
		maps.entries("identities").get("10.0.0.1"),
		maps.entries("blocks").get("10.1.0.0/16"),
	];
	t.same(class3(), [1, 1]);
	t.equal(maps.entries("identities").get("10.0.0.3"), 4);
	const written = maps.steps.length;
	await tables.change();
	t.equal(maps.steps.length, written, "they are not written again and again");
	maps.refuses = () => false;
	t.same((await tables.change()).problems, []);
	t.same(class3(), [3, 3]);
});

t.test("an address does not lose its entry to a block that the kernel refuses", async (t) => {
	const maps = new PaperPolicyMaps();
	const tables = new PolicyTables(maps.tables, maps);
	await tables.change(changesOf(WRITES));
	maps.refuses = (one) => one === "blocks 10.0.0.0/16";
	await tables.change(
		changesOf([
			{ step: 4, table: "identities", key: "10.0.0.1", value: undefined },
			{ step: 4, table: "identities", key: "10.9.0.1", value: undefined },
			{ step: 4, table: "blocks", key: "10.0.0.0/16", value: 2 },
			{ step: 4, table: "blocks", key: "10.0.0.0/8", value: undefined },
		]),
	);
	t.same([...maps.entries("identities").keys()], ["10.0.0.1"]);
	t.same([...maps.entries("blocks").keys()], ["10.0.0.0/8"]);
	maps.refuses = () => false;
	await tables.change();
	t.equal(maps.entries("identities").size, 0);
	t.same([...maps.entries("blocks").keys()], ["10.0.0.0/16"]);
});

t.test("an endpoint whose last policies go before it can have others is closed", async (t) => {
	const maps = new PaperPolicyMaps();
	const tables = new PolicyTables(maps.tables, maps);
	await tables.change(changesOf(WRITES));
	maps.refuses = (one) => one === "policies 5";
	const value = { egress: 1, ingress: 5, endpoint: "fairway1" };
	const outcome = await tables.change(
		changesOf([
			{ step: 3, table: "policies", key: 5, value: { verdict: DENY, hairpin: 1 } },
			{ step: 5, table: "endpointPolicies", key: "10.0.0.9", value },
		]),
	);
	t.match(outcome, { held: new Set(["fairway1"]), inUse: new Set([1, 2]) });
	t.match(maps.endpointPolicies("10.0.0.9"), { ingress: 2 }, "they stay");
	await tables.change(changesOf([{ step: 7, table: "policies", key: 2, value: undefined }]));
	t.match(maps.endpointPolicies("10.0.0.9"), { egress: 1, ingress: 0 });
	t.ok(maps.steps.lastIndexOf("endpoint 10.0.0.9") < maps.steps.indexOf("-policies 2"));
	maps.refuses = () => false;
	await tables.change();
	t.match(maps.endpointPolicies("10.0.0.9"), { egress: 1, ingress: 5 });
});

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

t.test(
	"while the kernel refuses some writes, a flow has the verdict of before or the new one, or is denied",
	async (t) => {
		let [compared, refused, held] = [0, 0, 0];
		await fc.assert(
			fc.asyncProperty(story, fc.integer({ min: 2, max: 6 }), async (told, share) => {
				const maps = new PaperPolicyMaps();
				const site = new PolicySite(undefined, told.start.length % 2 === 0 ? 0 : undefined);
				const tables = new PolicyTables(maps.tables, maps);
				await tables.adopt();
				await tables.change(site.compile(told.start));
				let outcome: PolicyOutcome | undefined;
				let now = verdicts(site, maps.evaluator, told.flows);
				maps.refuses = (step) =>
					/^(portSets|policyVerdicts|policies)/.test(step) && checksum(step) % share === 0;
				for (const change of told.changes) {
					const before = now;
					const changes = site.compile([change], outcome?.inUse);
					const wanted = told.flows.map((flow) => site.expected(flow));
					const waits = new Set<string>();
					const check = () => {
						now = verdicts(site, maps.evaluator, told.flows);
						for (const [i, { source, destination }] of told.flows.entries())
							for (const [direction, local] of [
								["egress", source],
								["ingress", destination],
							] as const) {
								const got = now[i]![direction];
								const is = wanted[i]![direction];
								if (is === undefined || waits.has(local)) continue;
								if (got === undefined || got.startsWith("policy_")) continue;
								if (is.startsWith("closed")) continue;
								compared++;
								const possible = [before[i]![direction], is.split(" ")[0]!.replace(",", "")];
								assert.ok(
									possible.some((one) => one === got || (one === "none" && got === "allow")),
									`${direction} ${JSON.stringify(told.flows[i])}: ${got}, not one of ${possible}`,
								);
							}
					};
					outcome = await tables.change(changes);
					for (const one of site.endpoints())
						if (outcome.held.has(one.id)) for (const address of one.addresses) waits.add(address);
					refused += outcome.problems.length;
					held += outcome.held.size;
					check();
				}
				maps.refuses = () => false;
				outcome = await tables.change();
				for (let more = site.compile([]); ; more = site.compile([])) {
					outcome = await tables.change(more);
					if (!more.hasGarbage && more.writes.length === 0) break;
				}
				assert.deepEqual(outcome.problems, []);
				for (const flow of told.flows) {
					const is = site.expected(flow);
					const [got] = verdicts(site, maps.evaluator, [flow]);
					for (const direction of ["egress", "ingress"] as const) {
						const text = is[direction]?.split(" ")[0]?.replace(",", "");
						if (text === undefined || text === "closed") continue;
						assert.equal(got![direction], text === "none" ? "allow" : text);
					}
				}
			}),
			{ numRuns },
		);
		t.ok(compared > 0 && refused > 0 && held > 0, `${compared} ${refused} ${held}`);
	},
);

t.test("what others changed is counted, and compiled anew beside what is left of it", async () => {
	await fc.assert(
		fc.asyncProperty(story, fc.integer({ min: 1, max: 4 }), async (told, share) => {
			const maps = new PaperPolicyMaps();
			const site = new PolicySite();
			const tables = new PolicyTables(maps.tables, maps);
			await tables.adopt();
			await tables.change(site.compile(told.start));
			for (const change of told.changes) await tables.change(site.compile([change]));
			assert.equal(await tables.countDiffering(), 0);
			let changed = 0;
			for (const name of [
				"identities",
				"blocks",
				"policies",
				"policyVerdicts",
				"portSets",
			] as const)
				for (const [key, value] of [...maps.entries(name)]) {
					if (checksum(`${name} ${key}`) % share !== 0) continue;
					changed++;
					if (name === "identities" && typeof value === "number" && share > 1)
						maps.disturb(name, key, value + 1);
					else maps.disturb(name, key);
				}
			assert.equal(await tables.countDiffering(), changed);
			const later = new PolicySite(site.objects, undefined, await tables.adopt());
			await tables.change(later.compileAll());
			for (let more = later.compile([]); ; more = later.compile([])) {
				await tables.change(more);
				if (!more.hasGarbage && more.writes.length === 0) break;
			}
			assert.equal(await tables.countDiffering(), 0);
			const whole = new PolicySite(site.objects);
			whole.take(whole.compileAll().writes);
			assert.deepEqual(
				verdicts(later, maps.evaluator, told.flows),
				verdicts(whole, whole.evaluator, told.flows),
			);
			for (const name of ["policies", "portSets", "identities", "blocks"] as const)
				assert.equal(maps.entries(name).size, whole.evaluator.tables[name].size, name);
		}),
		{ numRuns },
	);
});

function checksum(text: string): number {
	let sum = 7;
	for (const one of text) sum = (sum * 31 + one.charCodeAt(0)) % 65_521;
	return sum;
}

class Killed extends Error {}
