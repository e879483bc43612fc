import assert from "node:assert/strict";
import fc from "fast-check";
import t from "tap";
import { Admission, admitAll } from "../../src/cluster/admission.js";
import { FileObjects } from "../../src/cluster/file_objects.js";
import type { Reading } from "../../src/cluster/kinds.js";
import type { NodeObject, Snapshot } from "../../src/cluster/snapshot.js";
import { Store } from "../../src/cluster/store.js";
import { overlap, parsePrefix } from "../../src/tables/prefix.js";
import { nodeName, nodeObject } from "../tools/arbitrary.js";

interface Candidate {
	file: string;
	reading: Reading<"Node">;
}

/** What a directory of manifests does with files, without the files. */
class Cluster {
	readonly store = new Store();
	readonly #objects = new FileObjects();
	readonly #admission: Admission;
	#files = new Set<string>();

	constructor(wasThere?: (name: string) => boolean) {
		this.#admission = new Admission(this.store, wasThere);
	}

	update(candidates: readonly Candidate[]): Snapshot {
		const files = new Map<string, Reading<"Node">[]>();
		for (const file of this.#files) files.set(file, []);
		for (const { file, reading } of candidates)
			files.set(file, [...(files.get(file) ?? []), reading]);
		this.#files = new Set(files.keys());
		const names = new Set<string>();
		for (const [file, readings] of files)
			for (const name of this.#objects.set(file, readings)) names.add(name);
		this.store.update((store) => {
			for (const name of names) {
				const holder = this.#objects.resolve(name);
				const key = name.slice("Node ".length);
				if (holder === undefined) store.remove("Node", key);
				else store.put("Node", key, holder.record as NodeObject, holder.file);
			}
			store.setSynced("Node", this.#objects.firstUnknown("Node") === undefined);
			store.report("files", this.#objects.problems());
		});
		const { nodes, ...snapshot } = this.#admission.update();
		return { ...snapshot, nodes: new Map([...nodes].sort()) };
	}
}

/**
 * "FILE NAME CIDR ADDRESS"; "-" as CIDR: none (skipped), "?": it is wrong; "NAME@TIME": created then.
 */
function candidate(row: string): Candidate {
	const [file = "", dated = "", cidr = "", address] = row.split(" ");
	const [name = "", created] = dated.split("@");
	const addresses = address === undefined ? [] : [address];
	const reading: Reading<"Node"> =
		cidr === "-"
			? { kind: "Node", key: name, skipped: "it has no pod CIDRs" }
			: cidr === "?"
				? { kind: "Node", key: name, fault: "expected better" }
				: {
						kind: "Node",
						key: name,
						record: {
							name,
							podCIDRs: [cidr],
							internalIPs: addresses,
							transportAddresses: addresses,
							...(created === undefined ? {} : { created: Number(created) }),
						},
					};
	return { file, reading };
}

/** Steps of candidates; after each: the Nodes that are in with their CIDRs, and the files with problems. */
const SCENARIOS: [
	what: string,
	...steps: { rows: string[]; nodes: string; problems?: RegExp[] }[],
][] = [
	[
		"Nodes come, change and go",
		{ rows: ["f a 10.1.0.0/24", "f b 10.2.0.0/24"], nodes: "a=10.1.0.0/24 b=10.2.0.0/24" },
		{ rows: ["f a 10.1.0.0/24", "f b 10.3.0.0/24"], nodes: "a=10.1.0.0/24 b=10.3.0.0/24" },
		{ rows: ["f b 10.3.0.0/24"], nodes: "b=10.3.0.0/24" },
		{ rows: [], nodes: "" },
	],
	[
		"a newcomer with another's pod CIDR waits until that one leaves",
		{ rows: ["f1 b 10.1.0.0/24"], nodes: "b=10.1.0.0/24" },
		{
			rows: ["f0 a 10.1.0.0/16", "f1 b 10.1.0.0/24"],
			nodes: "b=10.1.0.0/24",
			problems: [/f0: Cannot accept Node a: .*10\.1\.0\.0\/16 overlaps 10\.1\.0\.0\/24 of Node b$/],
		},
		{ rows: ["f0 a 10.1.0.0/16"], nodes: "a=10.1.0.0/16" },
	],
	[
		"at the start, without dates, the first by name is in",
		{
			rows: ["f0 a 10.1.0.0/24", "f1 b 10.1.0.0/24"],
			nodes: "a=10.1.0.0/24",
			problems: [/f1: .*Node b/],
		},
	],
	[
		"an InternalIP is one Node's",
		{ rows: ["f a 10.1.0.0/24 192.168.0.1"], nodes: "a=10.1.0.0/24" },
		{
			rows: ["f a 10.1.0.0/24 192.168.0.1", "g b 10.2.0.0/24 192.168.0.1"],
			nodes: "a=10.1.0.0/24",
			problems: [/192\.168\.0\.1 is an address of Node a/],
		},
		{
			rows: ["f a 10.1.0.0/24 192.168.0.9", "g b 10.2.0.0/24 192.168.0.1"],
			nodes: "a=10.1.0.0/24 b=10.2.0.0/24",
		},
	],
	[
		"a Node that would take another's pod CIDR keeps its own",
		{ rows: ["f a 10.1.0.0/24", "f b 10.2.0.0/24"], nodes: "a=10.1.0.0/24 b=10.2.0.0/24" },
		{
			rows: ["f a 10.2.0.0/24", "f b 10.2.0.0/24"],
			nodes: "a=10.1.0.0/24 b=10.2.0.0/24",
			problems: [/f: Cannot accept Node a: .*what it said before stays in force/],
		},
		{ rows: ["f a 10.2.0.0/24"], nodes: "a=10.2.0.0/24" },
	],
	[
		"two Nodes may change places",
		{ rows: ["f a 10.1.0.0/24", "f b 10.2.0.0/24"], nodes: "a=10.1.0.0/24 b=10.2.0.0/24" },
		{ rows: ["f a 10.2.0.0/24", "f b 10.1.0.0/24"], nodes: "a=10.2.0.0/24 b=10.1.0.0/24" },
	],
	[
		"a name in two files",
		{ rows: ["f2 a 10.2.0.0/24"], nodes: "a=10.2.0.0/24" },
		{
			rows: ["f1 a 10.1.0.0/24", "f2 a 10.2.0.0/24"],
			nodes: "a=10.2.0.0/24",
			problems: [/f1: Cannot accept Node a: expected it once, f2 has it already/],
		},
		{ rows: ["f1 a 10.1.0.0/24"], nodes: "a=10.1.0.0/24" },
	],
	[
		"a name twice in one file",
		{
			rows: ["f a 10.1.0.0/24", "f a 10.2.0.0/24"],
			nodes: "a=10.1.0.0/24",
			problems: [/f: .*this file has it twice/],
		},
	],
	[
		"a Node that goes wrong stays what it was",
		{ rows: ["f a 10.1.0.0/24"], nodes: "a=10.1.0.0/24" },
		{
			rows: ["f a ?"],
			nodes: "a=10.1.0.0/24",
			problems: [/f: Cannot accept Node a: expected better; what it said before stays/],
		},
		{ rows: ["f a 10.3.0.0/24"], nodes: "a=10.3.0.0/24" },
	],
	[
		"a Node that was never right",
		{
			rows: ["f a ?", "g b 10.1.0.0/24"],
			nodes: "b=10.1.0.0/24",
			problems: [/f: Cannot accept Node a: expected better$/],
		},
	],
	[
		"a Node without a name",
		{
			rows: ["f  ?", "f  ?"],
			nodes: "",
			problems: [/without a usable name/, /without a usable name/],
		},
	],
	[
		"a Node without pod CIDRs is skipped, and leaves when it loses them",
		{ rows: ["f a -"], nodes: "", problems: [/f: Cannot accept Node a: it has no pod CIDRs$/] },
		{ rows: ["f a 10.1.0.0/24"], nodes: "a=10.1.0.0/24" },
		{ rows: ["f a -"], nodes: "", problems: [/no pod CIDRs$/] },
	],
	[
		"the older Node is in, whoever was seen first",
		{ rows: ["f1 b@20 10.1.0.0/24"], nodes: "b=10.1.0.0/24" },
		{
			rows: ["f0 a@10 10.1.0.0/16", "f1 b@20 10.1.0.0/24"],
			nodes: "a=10.1.0.0/16",
			problems: [/f1: Cannot accept Node b: .*overlaps 10\.1\.0\.0\/16 of Node a$/],
		},
		{ rows: ["f1 b@20 10.1.0.0/24"], nodes: "b=10.1.0.0/24" },
	],
	[
		"a Node with a date was there before one without",
		{ rows: ["f a 10.1.0.0/24"], nodes: "a=10.1.0.0/24" },
		{
			rows: ["f a 10.1.0.0/24", "g b@10 10.1.0.0/24"],
			nodes: "b=10.1.0.0/24",
			problems: [/f: Cannot accept Node a/],
		},
	],
	[
		"of a name in two files the older object counts",
		{ rows: ["f1 a@20 10.1.0.0/24"], nodes: "a=10.1.0.0/24" },
		{
			rows: ["f1 a@20 10.1.0.0/24", "f2 a@10 10.2.0.0/24"],
			nodes: "a=10.2.0.0/24",
			problems: [/f1: .*expected it once, f2 has it already/],
		},
	],
	[
		"a Node moves to another file",
		{ rows: ["f a 10.1.0.0/24"], nodes: "a=10.1.0.0/24" },
		{ rows: ["g a 10.1.0.0/24"], nodes: "a=10.1.0.0/24" },
	],
];

t.test("who is in", async (t) => {
	for (const [what, ...steps] of SCENARIOS) {
		const registry = new Cluster();
		for (const [i, { rows, nodes, problems = [] }] of steps.entries()) {
			const result = registry.update(rows.map(candidate));
			const shown = [...result.nodes.values()].map((node) => `${node.name}=${node.podCIDRs}`);
			t.equal(shown.join(" "), nodes, `${what}, step ${i + 1}`);
			const said = result.problems.map(({ file, message }) => `${file}: ${message}`);
			t.equal(said.length, problems.length, `${what}: ${said.join(" | ")}`);
			for (const [j, problem] of problems.entries()) t.match(said[j], problem, what);
		}
	}
});

function collide(a: NodeObject, b: NodeObject): boolean {
	const addresses = (node: NodeObject) => [...node.internalIPs, ...node.transportAddresses];
	return (
		a.podCIDRs.some((x) => b.podCIDRs.some((y) => overlap(parsePrefix(x), parsePrefix(y)))) ||
		addresses(a).some((address) => addresses(b).includes(address))
	);
}

const rounds = fc.array(
	fc.array(
		fc.record({ file: fc.constantFrom("f", "g"), node: nodeObject(nodeName) }).map(
			({ file, node }): Candidate => ({
				file,
				reading: { kind: "Node", key: node.name, record: node },
			}),
		),
		{ maxLength: 12 },
	),
	{ minLength: 1, maxLength: 5 },
);

t.test(
	"random Nodes: no two collide, each is in a file, and who is unchanged stays in",
	async () => {
		fc.assert(
			fc.property(rounds, (rounds) => {
				const registry = new Cluster();
				let before: ReadonlyMap<string, NodeObject> = new Map();
				let files: Candidate[] = [];
				for (const candidates of rounds) {
					const { nodes, problems } = registry.update(candidates);
					const list = [...nodes.values()];
					for (const [i, a] of list.entries())
						for (const b of list.slice(i + 1)) assert.ok(!collide(a, b), `${a.name} and ${b.name}`);
					const names = new Set(
						candidates.map(({ reading }) => ("record" in reading ? reading.key : "")),
					);
					for (const { name } of list) assert.ok(names.has(name), `${name} is in no file`);
					// What is not in was refused by name.
					for (const name of names)
						assert.ok(
							nodes.has(name) || problems.some(({ message }) => message.includes(`Node ${name}:`)),
						);
					// The same again changes nothing.
					assert.deepEqual(registry.update(candidates).nodes, nodes);
					for (const [name, node] of before) {
						const says = (list: Candidate[]) =>
							list.filter(({ reading }) => "record" in reading && reading.key === name);
						const [was, is] = [says(files), says(candidates)];
						// One file said it, the same file says the same: it must be in.
						if (was.length !== 1 || is.length !== 1 || was[0]?.file !== is[0]?.file) continue;
						const reading = is[0]?.reading;
						if (
							reading &&
							"record" in reading &&
							JSON.stringify(reading.record) === JSON.stringify(node)
						)
							assert.deepEqual(nodes.get(name), node, `${name} was put out`);
					}
					before = nodes;
					files = candidates;
				}
			}),
			{ numRuns: 500 },
		);
	},
);

t.test("after a restart, the Node that the kernel has comes before one that is new", async (t) => {
	const rows = ["f a 10.1.0.0/24", "f b 10.1.0.0/24"].map(candidate);
	const in_ = (cluster: Cluster) => [...cluster.update(rows).nodes.keys()].join();
	t.equal(in_(new Cluster()), "a");
	t.equal(in_(new Cluster((name) => name === "b")), "b");
});

t.test("all Nodes are known when everything was understood once", async (t) => {
	const cluster = new Cluster();
	const rows: [rows: string[], synced: boolean][] = [
		[["f a 10.1.0.0/24", "g b ?"], false],
		[["f a ?", "g b ?"], false],
		[["f a ?", "g b 10.2.0.0/24"], true],
		[["f a ?", "g b ?"], true],
		[["f a ?", "g  ?"], false],
		[["f a 10.1.0.0/24", "g b 10.1.0.0/24"], true],
		[["f a 10.1.0.0/24", "g c ?"], false],
		[["f a 10.1.0.0/24"], true],
	];
	for (const [row, synced] of rows)
		t.equal(cluster.update(row.map(candidate)).synced, synced, row.join(", "));
});

const dated = fc
	.record({
		node: nodeObject(nodeName),
		created: fc.option(fc.nat(5), { nil: undefined }),
		uid: fc.constantFrom("x", "y"),
	})
	.map(
		({ node, created, uid }): NodeObject =>
			created === undefined ? node : { ...node, created, uid },
	);

t.test("random changes: what is found out bit by bit is what all of it says at once", async () => {
	const steps = fc.array(fc.record({ node: dated, gone: fc.boolean() }), { maxLength: 30 });
	fc.assert(
		fc.property(steps, (steps) => {
			const store = new Store();
			const admission = new Admission(store);
			let before: ReadonlyMap<string, NodeObject> = new Map();
			for (const { node, gone } of steps) {
				store.update((writer) => {
					if (gone) writer.remove("Node", node.name);
					else writer.put("Node", node.name, node);
				});
				const records = [...store.keys("Node")].map((name) => store.get("Node", name)!);
				const whole = admitAll(records, before);
				const { nodes, problems } = admission.update();
				assert.deepEqual(new Map(nodes), new Map([...whole.nodes].sort()));
				// For whom, if there are several, may differ.
				const refused = problems.map(({ message }) => /Node (\S+):/.exec(message)?.[1]);
				assert.deepEqual(refused.sort(), [...whole.refused.keys()].sort());
				const changed = admission.takeChanged();
				for (const name of new Set([...before.keys(), ...nodes.keys()]))
					assert.equal(changed.has(name), before.get(name) !== nodes.get(name));
				before = new Map(nodes);
			}
		}),
		{ numRuns: 500 },
	);
});

t.test("random Nodes with dates: agents that saw them in another order agree", async () => {
	const nodes = fc.uniqueArray(
		fc.tuple(dated, fc.nat(5)).map(([node, created]) => ({ ...node, created })),
		{ selector: ({ name }) => name, maxLength: 12 },
	);
	fc.assert(
		fc.property(nodes, fc.infiniteStream(fc.nat()), (nodes, random) => {
			const seen = (order: readonly NodeObject[]) => {
				const store = new Store();
				const admission = new Admission(store);
				for (const node of order) {
					store.update((writer) => writer.put("Node", node.name, node));
					admission.update();
				}
				return new Map(admission.update().nodes);
			};
			const keys = new Map(nodes.map((node) => [node, random.next().value]));
			const shuffled = [...nodes].sort((a, b) => keys.get(a)! - keys.get(b)!);
			assert.deepEqual(seen(shuffled), seen(nodes));
		}),
		{ numRuns: 300 },
	);
});
