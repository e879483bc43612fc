/** Network policy in the kernel's maps: from a version without it, over restarts, and back. */
import t from "tap";
import { BpfMap } from "#native";
import type { PolicyChanges, PolicyWrite } from "../../../src/policy/policy_tables.js";
import type { Reconciler } from "../../../src/reconcile/reconciler.js";
import { u32 } from "../../../src/tables/codec.js";
import { maps, Peer } from "../../../src/tables/generated.js";
import {
	buildObject,
	makeDevices,
	openReconciler,
	pinDir,
	podInterface,
	recordPods,
	tablesOf,
} from "./fixture.js";

const POD = "10.244.1.2";
const pinned = (name: string) => BpfMap.openPinned(`${pinDir}/maps/${name}`);
const tables = tablesOf({ peers: 2, pods: 1 });
const now = buildObject("now");
const withoutPolicy = buildObject("before", {
	edit: (file, text) =>
		file === "tables.h"
			? text
					.replace(/\t__u16 egress_policy;[^\n]*\n\t__u16 ingress_policy;/, "\t__u32 pad;")
					.replace("\t__u16 policy_epoch;", "\t__u16 pad2;")
			: text,
});

await makeDevices(1);
recordPods(1);
let reconciler: Reconciler;

async function start(object: string) {
	await reconciler?.close();
	reconciler = await openReconciler(object);
}

function policies(ingress: number) {
	const endpoint = podInterface(0);
	const value = { egress: 1, ingress, endpoint };
	return { step: 5, table: "endpointPolicies", key: POD, value } satisfies PolicyWrite;
}

function changes(writes: PolicyWrite[], ...peers: string[]): PolicyChanges {
	const epochs = { route: false, peers: new Set(peers) };
	return { writes, epochs, hasGarbage: false, problems: [] };
}

const element = () => {
	const { egressPolicy, ingressPolicy } = reconciler.tableReader.endpoint(POD) ?? {};
	return [egressPolicy, ingressPolicy];
};
const epochOf = (index: number) =>
	Peer.decode(pinned("peers").lookup(u32.encode(index))!).policyEpoch;

const judgement = { allow: false, rule: 7, staged: { allow: true, rule: 8 } };
const WRITES: PolicyWrite[] = [
	{
		step: 1,
		table: "portSets",
		key: 3,
		value: { segments: [{ from: 80, judgement }], nextFrom: 90, next: 4 },
	},
	{ step: 1, table: "rules", key: 7, value: { policies: ["x/a"] } },
	{ step: 2, table: "policyVerdicts", key: 5 * 2 ** 32 + 6, value: { portSet: 3 } },
	{ step: 3, table: "policies", key: 5, value: { verdict: { judgement }, hairpin: 1 } },
	{ step: 3, table: "classLimit", key: 0, value: 7 },
	{ step: 4, table: "identities", key: "10.244.2.9", value: 6 },
	{ step: 4, table: "blocks", key: "0.0.0.0/0", value: 2 },
	{ step: 4, table: "blocks", key: "fd00::/8", value: 6 },
	policies(5),
];

t.test("Pods of a version without policies stay open until their policies are known", async (t) => {
	await start(withoutPolicy);
	t.match(await reconciler.apply(tables), { ready: true });
	await start(now);
	t.same(element(), [1, 1], "before the new programs take over");
	t.match(await reconciler.apply(tables), { pending: 0, ready: true });
	t.same(element(), [1, 1]);
	const held = await reconciler.adoptPolicies();
	t.same([held.identities.size, [...held.policies], held.classLimit], [0, [1], 0]);
	t.match(await reconciler.changePolicies(changes(WRITES)), {
		...{ writes: WRITES.length, problems: [] },
	});
	t.same(element(), [1, 5]);
	t.match(await reconciler.apply(tables), { writes: 0 });
});

t.test("a restart finds what is in force, and changes nothing of it", async (t) => {
	await reconciler.changePolicies(changes([], "node"), () => 1);
	t.same([epochOf(2), epochOf(3)], [1, 1]);
	t.same([epochOf(0), epochOf(1)], [0, 0]);
	await start(now);
	t.same(element(), [1, 5]);
	t.match(await reconciler.apply(tables), { writes: 0 });
	t.same([epochOf(2), epochOf(3)], [1, 1], "not a write for it");
	const held = await reconciler.adoptPolicies();
	t.same([...held.identities], [["10.244.2.9", 6]]);
	t.same([...held.blocks].sort(), [
		["0.0.0.0/0", 2],
		["fd00::/8", 6],
	]);
	t.same(held.policyVerdicts, new Map([[5 * 2 ** 32 + 6, { portSet: 3 }]]));
	t.same([...held.policies].sort(), [1, 5]);
	t.same([...held.portSets], [3]);
	t.same([...held.rules].sort(), [0, 7, 8]);
	t.equal(held.classLimit, 7);
	const value = policies(5);
	await reconciler.changePolicies(changes([value], "node"), () => 1);
	t.same([epochOf(2), epochOf(3)], [2, 2], "epochs go on");
	t.same(element(), [1, 5]);
});

t.test("a full look finds what others have changed, and tells", async (t) => {
	await reconciler.close();
	reconciler = await openReconciler(now, { lookEveryMs: 50 });
	t.match(await reconciler.apply(tables), { writes: 0 });
	await reconciler.adoptPolicies();
	const told = new Promise<void>((resolve) => reconciler.watchPolicies(resolve));
	pinned("policy_verdicts").delete(maps.policyVerdicts.key.encode(5 * 2 ** 32 + 6));
	await told;
	const held = await reconciler.adoptPolicies();
	t.equal(held.policyVerdicts.size, 0);
});

t.test("counters of a rule begin with its id", async (t) => {
	const counters = pinned("rule_counters");
	const count = Buffer.alloc(maps.ruleCounters.valueSize, 1);
	counters.update(u32.encode(7), count);
	counters.update(u32.encode(9), count);
	const rule = (key: number): PolicyWrite => ({
		...{ step: 1, table: "rules", key },
		value: { policies: [`x/${key}`] },
	});
	await reconciler.changePolicies(changes([rule(7)]));
	t.same(await reconciler.ruleCounters(), new Map(), "from zero, and only of rules in force");
	counters.update(u32.encode(7), count);
	const all = await reconciler.ruleCounters();
	t.same([...all.keys()], [7]);
	t.match(all.get(7), { flows: 0x0101010101010101n });
	t.match(reconciler.policyRules.get(7), { policies: ["x/7"] });
	await reconciler.changePolicies(changes([{ ...rule(7), step: 7, value: undefined }]));
	t.equal(reconciler.policyRules.size, 0);
});

t.test("back to a version without policies, and forth", async (t) => {
	await start(withoutPolicy);
	t.match(await reconciler.apply(tables), { pending: 0, ready: true });
	t.equal(reconciler.podProblem(podInterface(0)), undefined);
	await start(now);
	t.same(element(), [1, 1], "nothing is closed that nobody would open");
	t.match(await reconciler.apply(tables), { pending: 0, ready: true });
	t.same(element(), [1, 1]);
});

t.teardown(() => reconciler.close());
