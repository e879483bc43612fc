/** `fairway denials`: from what the core has noted to what is listed and logged. */
import t from "tap";
import { DenialWatch } from "../../src/agent/denial_watch.js";
import { denialsText } from "../../src/cli/denials.js";
import { Store } from "../../src/cluster/store.js";
import { atOnce } from "../../src/loop/turns.js";
import { Denials } from "../../src/observe/denials.js";
import type { RuleName } from "../../src/policy/policy_tables.js";
import { denialRows } from "../../src/report/denials.js";
import type { PolicyDenial } from "../../src/tables/generated.js";

const isolation: RuleName = {
	...{ direction: "ingress", kind: "NetworkPolicy", policies: ["x/web", "x/z"], rule: null },
	...{ tier: "NetworkPolicy", action: "deny" },
};
const byRule: RuleName = {
	...{ ...isolation, kind: "ClusterNetworkPolicy", policies: ["guard"], rule: 1, tier: "Admin" },
};
const packet = {
	...{ time: 1000, source: "10.244.1.2", destination: "10.244.1.3" },
	...{ protocol: 6, destinationPort: 80 },
};
const cluster = {
	...{ store: new Store(), nodeName: "n1" },
	endpoints: [{ namespace: "x", name: "b", addresses: ["10.244.1.3"] }],
};

t.test(
	"denied packets are joined by source, destination, port and rule, up to a number",
	async (t) => {
		const denials = new Denials(2);
		t.ok(denials.take(packet, isolation), "new");
		t.equal(denials.take({ ...packet, time: 2000 }, { ...isolation }), undefined);
		t.match(denials.list(), [{ first: 1000, last: 2000, noted: 2, port: 80 }]);
		denials.take({ ...packet, time: 3000 }, byRule);
		denials.take({ ...packet, protocol: 1, destinationPort: 7, time: 4000 }, byRule);
		t.match(denials.list(), [
			{ protocol: 1, port: 0, last: 4000 },
			{ protocol: 6, rule: { rule: 1 } },
		]);
		t.equal(denials.list().length, 2, "the one that was silent longest made room");
	},
);

t.test("both ends have the names of their Pods", async (t) => {
	const denials = new Denials();
	denials.take(packet, isolation);
	denials.take({ ...packet, protocol: 58, destinationPort: 0, time: 5000 }, byRule);
	const rows = atOnce(denialRows(denials.list(), cluster));
	t.strictSame(rows, [
		{
			...{ source: "10.244.1.2", destination: "10.244.1.3", protocol: "icmp" },
			...{ sourcePod: null, destinationPod: "x/b", port: null, direction: "ingress" },
			...{ policy: "guard", rule: 1, noted: 1 },
			...{ first: "1970-01-01T00:00:05.000Z", last: "1970-01-01T00:00:05.000Z" },
		},
		{
			...{ source: "10.244.1.2", destination: "10.244.1.3", protocol: "tcp" },
			...{ sourcePod: null, destinationPod: "x/b", port: 80, direction: "ingress" },
			...{ policy: "x/web", rule: null, noted: 1 },
			...{ first: "1970-01-01T00:00:01.000Z", last: "1970-01-01T00:00:01.000Z" },
		},
	]);
	t.equal(
		denialsText(rows, 6000, undefined),
		`  LAST  FROM        TO   PORT    DIRECTION  BY                  NOTED
1s ago  10.244.1.2  x/b  icmp    ingress    rule 1 of guard         1
5s ago  10.244.1.2  x/b  80/tcp  ingress    isolation by x/web      1
`,
	);
	t.match(denialsText([], 0, undefined), /^Network policy has denied nothing/);
});

t.test(
	"the core is asked only while packets are denied, and a flood writes few lines",
	async (t) => {
		const drops: Record<string, bigint> = { policy_egress: 0n, policy_ingress: 0n };
		const notes: PolicyDenial[] = [];
		let asked = 0;
		const lines: object[] = [];
		const log = { info: (facts: object) => lines.push(facts), warn: t.fail } as never;
		const watch = new DenialWatch({
			kernel: {
				counters: () => ({ drops, events: {} }) as never,
				denialNotes: async () => {
					asked++;
					return notes.splice(0);
				},
			},
			rule: (id) => (id === 7 ? isolation : undefined),
			...{ cluster: () => cluster, log, periodMs: 2 ** 30 },
		});
		t.teardown(() => watch.close());
		t.strictSame(await watch.list(), []);
		await watch.look();
		t.equal(asked, 1, "at the start, and not again while nothing is denied");
		const { time: _, ...denied } = packet;
		const note = (port: number, rule: number): PolicyDenial => ({
			...{ ...denied, destinationPort: port, rule, at: process.hrtime.bigint() },
		});
		for (let port = 1; port <= 100; port++) notes.push(note(port, 7));
		notes.push(note(1, 8));
		drops.policy_ingress = 5000n;
		const list = await watch.list();
		t.equal(list.length, 100, "a rule that is not known any more is left out");
		t.ok(Math.abs((list[0]?.last ?? 0) - Date.now()) < 60_000, "with the time of day");
		t.equal(lines.length, 20);
		t.match(lines[0], { source: "10.244.1.2", destinationPod: "x/b", port: 1, policy: "x/web" });
	},
);
