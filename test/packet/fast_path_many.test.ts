/** Thousands of flows, and more than fit: untracked packets are forwarded correctly. */
import { ok } from "node:assert/strict";
import t from "tap";
import { EventCounter } from "../../src/tables/generated.js";
import { type Conversation, HOOKS, type Side, sides } from "./conversation.js";
import { DataPath } from "./data_path.js";
import { compare, FAMILIES, Node } from "./fast_path.js";
import { inNamespace } from "./namespace.js";
import * as world from "./world.js";

const [TC, XDP] = HOOKS;

/** The n-th flow of many. */
function nth(side: Side, n: number): Conversation {
	return side.talk.with({ ports: [1024 + n, 2000] });
}

if (inNamespace(import.meta.url)) {
	world.makeNetwork();

	t.test("5,000 flows, each of them known", async (t) => {
		const large = new DataPath({ flowSlots: 16384 });
		t.teardown(() => large.close());
		const node = new Node(large);
		await node.begin();
		const [bare, geneve] = sides(4) as [Side, Side];
		const all = Array.from({ length: 5000 }, (_, n) => ({ side: n % 2 ? bare : geneve, n }));
		const both = () => {
			for (const { side, n } of all) {
				const talk = nth(side, n);
				compare(node.run(talk.out()), side.sent(talk.left));
				compare(node.run(side.received(talk.answer, n % 3 ? TC : XDP)), talk.delivered());
			}
		};
		both();
		t.equal(large.flows().length, all.length);
		// Every one of them would be lost without its flow.
		node.withoutTables(both);
		t.equal(large.flows().length, all.length);
		t.equal(large.event(EventCounter.UNTRACKED), 0n);
		t.equal(large.event(EventCounter.FLOW_EVICTED_EARLY), 0n);
	});

	t.test("more flows than the table holds: all of them get through", async (t) => {
		const small = new DataPath({ flowSlots: 64 });
		t.teardown(() => small.close());
		const node = new Node(small);
		for (const family of FAMILIES) {
			await node.begin();
			const peers = sides(family).filter(({ translated }) => !translated);
			for (let round = 0; round < 2; round++)
				for (let n = 0; n < 400; n++) {
					const side = peers[n % peers.length]!;
					const talk = nth(side, n);
					compare(node.run(talk.out()), side.sent(talk.left));
					for (const hook of HOOKS)
						compare(node.run(side.received(talk.answer, hook)), talk.delivered());
				}
			t.ok(small.flows().length <= 64, `${small.flows().length} flows are known`);
			const untracked = small.event(EventCounter.UNTRACKED);
			ok(untracked > 0n, "the others are counted");
			t.pass(`IPv${family}: ${untracked} went without a flow`);
		}
	});
}
