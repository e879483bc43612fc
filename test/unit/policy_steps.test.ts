/** What the compiler of network policy does between two steps is little, however much there is in all. */
import fc from "fast-check";
import t from "tap";
import type { NetworkPolicyObject } from "../../src/cluster/network_policy_object.js";
import { type Steps, sortInSteps } from "../../src/loop/turns.js";
import { PolicyCompiler, type PolicyKind } from "../../src/policy/compiler.js";
import { Owners } from "../../src/policy/owners.js";
import type { HeldPolicyTables } from "../../src/policy/policy_tables.js";
import { RoundWrites } from "../../src/policy/policy_writes.js";
import { type Painter, paintInSteps } from "../../src/policy/port_space.js";
import { buildInSteps } from "../../src/policy/rule_list.js";
import type { AgentTables, Table } from "../../src/reconcile/maps/agent_tables.js";
import { EntryWriter, plain } from "../../src/reconcile/maps/entry_writer.js";
import type { PolicyTarget } from "../../src/reconcile/maps/policy_tables.js";
import { PolicyWrites } from "../../src/reconcile/maps/policy_writes.js";
import { app, pod as podOf, policy } from "../tools/policy_stage.js";

const RULE = { tier: 1, action: "allow" } as const;

/** The most that a count grows in one step, and the result. */
function mostInStep<T>(steps: Steps<T>, count: () => number): { most: number; value: T } {
	let [most, last] = [0, count()];
	for (;;) {
		const { done, value } = steps.next();
		const now = count();
		most = Math.max(most, now - last);
		last = now;
		if (done === true) return { most, value: value as T };
	}
}

t.test("policies of a namespace with many are read and tried in small steps", async (t) => {
	let [reads, tries] = [0, 0];
	const policies = new Map<string, NetworkPolicyObject>();
	for (let i = 0; i < 3000; i++) {
		const one = policy(`p${i}`, { ingress: [] });
		// Each look at its selector counts; it selects nobody.
		Object.defineProperty(one, "pods", {
			get: () => {
				tries++;
				return app("nobody");
			},
		});
		policies.set(`x/p${i}`, one);
	}
	const pods = Array.from({ length: 20 }, (_, i) => podOf(`x/a${i}`, `10.244.1.${i + 2}`));
	const source = {
		get: (kind: PolicyKind, key: string) => {
			reads++;
			const found = kind === "NetworkPolicy" ? policies.get(key) : undefined;
			return (found ?? pods.find(({ name }) => kind === "Pod" && key === `x/${name}`)) as never;
		},
	};
	const compiler = new PolicyCompiler({ source, nodeName: "n1", unknownPods: "closed" });
	const endpoints = pods.map(({ namespace, name, addresses }) => {
		return { id: name, namespace, name, addresses };
	});
	const changed = { NetworkPolicy: policies.keys(), Pod: pods.map(({ name }) => `x/${name}`) };
	const first = mostInStep(compiler.update({ changed, endpoints }), () => reads);
	t.ok(first.most <= 20, `${first.most} reads`);
	tries = 0;
	const renewed = pods.map(({ name }) => `x/${name}`);
	const again = mostInStep(compiler.update({ changed: { Pod: renewed } }), () => tries);
	t.ok(tries >= 60_000, `${tries} tries in all`);
	t.ok(again.most <= 300, `${again.most} tries`);
});

t.test("what an earlier agent left is taken over and removed in small steps", async (t) => {
	const verdict = { judgement: { allow: true, rule: 0 } };
	const held: HeldPolicyTables = {
		...{ identities: new Map(), blocks: new Map(), policies: [2], portSets: [], rules: [] },
		policyVerdicts: new Map(
			Array.from({ length: 50_000 }, (_, i) => [2 * 2 ** 32 + i + 2, verdict] as const),
		),
		classLimit: 50_002,
	};
	const source = { get: () => undefined };
	const compiler = new PolicyCompiler({ source, nodeName: "n1", unknownPods: "closed", held });
	const stepsOf = (round: "first" | "second") => {
		const steps = compiler.update({ changed: {} });
		for (let count = 0; ; count++) {
			const { done, value } = steps.next();
			if (done !== true) continue;
			t.ok(count > 150, `${count} steps in the ${round} round`);
			return [...value.writes].filter(({ table }) => table === "policyVerdicts").length;
		}
	};
	t.equal(stepsOf("first"), 0);
	t.equal(stepsOf("second"), 50_000);
});

t.test("sorting in steps sorts as at once, with few comparisons in each", async (t) => {
	let comparisons = 0;
	const order = (a: { key: number }, b: { key: number }) => {
		comparisons++;
		return a.key - b.key;
	};
	for (const length of [0, 1, 1023, 1024, 1025, 5000, 20_000]) {
		const [all] = fc.sample(fc.array(fc.nat(999), { minLength: length, maxLength: length }), 1);
		const entries = all!.map((key, place) => ({ key, place }));
		const wanted = entries.toSorted((a, b) => a.key - b.key);
		comparisons = 0;
		const { most } = mostInStep(sortInSteps(entries, order), () => comparisons);
		t.strictSame(entries, wanted, `${length}, and equal ones keep their order`);
		t.ok(most <= 12_000, `${most} comparisons`);
	}
});

t.test("rules with many ports are laid over each other in small steps", async (t) => {
	let reads = 0;
	const span = (from: number) => ({
		get from() {
			reads++;
			return from;
		},
		to: from,
	});
	// Every second port of a protocol by one rule, the others by as many rules as there are.
	const rules: Painter[] = [
		{ ...RULE, rule: 1, spans: Array.from({ length: 20_000 }, (_, i) => span(2 * i)) },
		...Array.from({ length: 10_000 }, (_, i) => ({
			...RULE,
			rule: 2 + i,
			spans: [span(4 * i + 1)],
		})),
	];
	const { most, value } = mostInStep(paintInSteps(rules), () => reads);
	t.ok(reads >= 60_000, `${reads} in all`);
	t.ok(most <= 600, `${most} in a step`);
	t.ok(value.length > 30_000);
});

t.test("ports of one rule that touch are one span, and are read in small steps", async (t) => {
	let reads = 0;
	const ports = Array.from({ length: 40_000 }, (_, i) => ({
		protocol: 6,
		get first() {
			reads++;
			return 40_000 - i;
		},
		last: 40_000 - i,
	}));
	const one = policy("p", { ingress: [{ peers: undefined, ports }] });
	const steps = buildInSteps(
		{ direction: "ingress", cluster: [], network: [{ policy: one, audit: false }], ownPorts: [] },
		{ atom: () => 1, rule: () => 1 },
	);
	const { most, value } = mostInStep(steps, () => reads);
	t.ok(reads >= 40_000, `${reads} in all`);
	t.ok(most <= 600, `${most} in a step`);
	t.strictSame(value.rules[0]?.spans, [{ from: 1, to: 40_000 }]);
});

t.test("pending writes are looked at in small steps", async (t) => {
	let looks = 0;
	const entries = new Map(Array.from({ length: 100_000 }, (_, i) => [i, i] as const));
	const table = { put: () => [], remove: () => [] } as unknown as Table<number, number>;
	const may = (key: number) => {
		looks++;
		return key % 1000 === 0;
	};
	const { most } = mostInStep(new EntryWriter().put(table, entries, plain, may), () => looks);
	t.equal(looks, 100_000);
	t.ok(most <= 2500, `${most} in a step`);
	t.equal(entries.size, 99_900, "what was written is pending no longer");
});

t.test("many writes of one round are taken in small steps", async (t) => {
	const writes = new RoundWrites();
	for (let id = 0; id < 50_000; id++)
		writes.add(2, "policyVerdicts", id, { judgement: { allow: true, rule: 0 } });
	const shared = { target: {} as PolicyTarget, rules: new Map(), endpoints: new Map() };
	const pending = new PolicyWrites({} as AgentTables, { ...shared, onEndpoints: () => {} });
	const epochs = { route: false, peers: new Set<string>() };
	let count = 0;
	for (const _ of pending.take({ writes, epochs, hasGarbage: false, problems: [] })) count++;
	t.ok(count >= 25, `${count} steps`);
});

t.test("addresses and blocks of an earlier agent are read in small steps", async (t) => {
	let reads = 0;
	class Counted<V> extends Map<string, V> {
		override *values() {
			for (const value of super.values()) {
				reads++;
				yield value;
			}
			return undefined;
		}
		override *[Symbol.iterator]() {
			for (const entry of super.entries()) {
				reads++;
				yield entry;
			}
			return undefined;
		}
	}
	const blocks = new Counted<number>();
	for (let i = 0; i < 20_000; i++) blocks.set(`10.${i >> 8}.${i & 255}.0/24`, 2);
	const identities = new Map<string, number>();
	for (let i = 0; i < 5000; i++) identities.set(`10.99.${i >> 8}.${i & 255}`, 3);
	const held: HeldPolicyTables = {
		...{ identities, blocks, policies: [], portSets: [], rules: [] },
		...{ policyVerdicts: new Map(), classLimit: 4 },
	};
	const source = { get: () => undefined };
	const compiler = new PolicyCompiler({ source, nodeName: "n1", unknownPods: "closed", held });
	t.equal(reads, 0, "none before the first step");
	const { most } = mostInStep(compiler.update({ changed: {} }), () => reads);
	t.ok(reads >= 40_000, `${reads} in all`);
	t.ok(most <= 2100, `${most} in a step`);
});

t.test("addresses that an earlier agent had are looked at again in small steps", async (t) => {
	const touched = t.capture(Owners.prototype, "touch", Owners.prototype.touch);
	let touches = 0;
	const identities = new Map<string, number>();
	for (let i = 0; i < 20_000; i++) identities.set(`10.${i >> 8}.${i & 255}.9`, 3);
	const held: HeldPolicyTables = {
		...{ identities, blocks: new Map(), policies: [], portSets: [], rules: [] },
		...{ policyVerdicts: new Map(), classLimit: 4 },
	};
	const source = { get: () => undefined };
	const compiler = new PolicyCompiler({ source, nodeName: "n1", unknownPods: "closed", held });
	const { most } = mostInStep(compiler.update({ changed: {} }), () => {
		touches += touched().length;
		return touches;
	});
	t.ok(touches >= 40_000, `${touches} in all`);
	t.ok(most <= 200, `${most} in a step`);
});
