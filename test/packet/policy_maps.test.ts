/** The tables of network policy in the kernel's maps: what others change there is found. */
import t from "tap";
import type { PolicyWrite } from "../../src/policy/policy_tables.js";
import { AgentTables } from "../../src/reconcile/maps/agent_tables.js";
import { PolicyTables } from "../../src/reconcile/maps/policy_tables.js";
import { u32 } from "../../src/tables/codec.js";
import { maps } from "../../src/tables/generated.js";
import { DataPath } from "./data_path.js";

const path = new DataPath({ flowSlots: 64 });
t.teardown(() => path.close());
const nothing = () => [];
const tables = new PolicyTables(new AgentTables(path.map), {
	...{ putEndpoint: nothing, raiseRouteEpoch: nothing, raisePolicyEpochs: nothing },
	...{ endpointPolicies: () => undefined, policiesInUse: nothing },
});

const judgement = { allow: false, rule: 7 };
const COUNT = 700;
const each = <T>(make: (n: number) => T) => Array.from({ length: COUNT }, (_, n) => make(n));
const WRITES: PolicyWrite[] = [
	...each((n) => ({
		...{ step: 1, table: "portSets" as const, key: n + 1 },
		value: { segments: [{ from: n, judgement }] },
	})),
	...each((n) => ({
		...{ step: 2, table: "policyVerdicts" as const, key: 2 * 2 ** 32 + n },
		value: { portSet: n + 1 },
	})),
	...each((n) => ({
		...{ step: 3, table: "policies" as const, key: n + 2 },
		value: { verdict: { judgement }, hairpin: 1 },
	})),
	{ step: 3, table: "classLimit", key: 0, value: COUNT },
	...each((n) => ({
		...{ step: 4, table: "identities" as const, key: `10.0.${n >> 8}.${n & 255}` },
		value: n,
	})),
	...each((n) => ({
		...{ step: 4, table: "blocks" as const, key: `fd00:${(n + 1).toString(16)}::/32` },
		value: n,
	})),
];
const changes = (writes: PolicyWrite[]) => ({
	...{ writes, epochs: { route: true, peers: new Set<string>() } },
	...{ hasGarbage: false, problems: [] },
});

t.test("what was written is as it was, also after a restart", async (t) => {
	t.equal(await tables.countDiffering(), 0, "nothing is known yet");
	await tables.adopt();
	t.same((await tables.change(changes(WRITES))).problems, []);
	t.equal(await tables.countDiffering(), 0);
	const later: PolicyWrite[] = [
		{ step: 4, table: "identities", key: "10.0.0.0", value: 9 },
		{ step: 4, table: "blocks", key: "fd00:1::/32", value: undefined },
		{ step: 7, table: "policies", key: 2, value: undefined },
		{ step: 7, table: "portSets", key: 1, value: undefined },
	];
	await tables.change(changes(later));
	t.equal(await tables.countDiffering(), 0, "after changes");
	const held = await tables.adopt();
	t.equal(held.identities.size, COUNT);
	t.equal(await tables.countDiffering(), 0, "adopted");
});

t.test("what others change, add, remove or empty is counted", async (t) => {
	const map = (name: string) => path.map(name);
	map("identities").update(maps.identities.key.encode("10.0.0.7"), u32.encode(99));
	t.equal(await tables.countDiffering(), 1, "another class");
	map("identities").update(maps.identities.key.encode("10.9.9.9"), u32.encode(1));
	t.equal(await tables.countDiffering(), 2, "an address of theirs");
	map("blocks").delete(maps.blocks.key.encode("fd00:2::/32"));
	t.equal(await tables.countDiffering(), 3, "a block that is gone");
	for (let id = 0; id < COUNT + 2; id++)
		map("policies").update(u32.encode(id), Buffer.alloc(maps.policies.value.size));
	t.equal(await tables.countDiffering(), 3 + COUNT - 1, "an array of zeros");
	const verdicts = maps.policyVerdicts.key;
	for (let n = 0; n < COUNT; n++) map("policy_verdicts").delete(verdicts.encode(2 * 2 ** 32 + n));
	t.equal(await tables.countDiffering(), 3 + COUNT - 1 + COUNT, "an empty table");
	const held = await tables.adopt();
	t.equal([...held.policyVerdicts].length, 0);
	t.equal(await tables.countDiffering(), 0, "adopted: the compiler begins beside it");
});
