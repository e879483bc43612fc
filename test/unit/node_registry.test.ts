import assert from "node:assert/strict";
import fc from "fast-check";
import t from "tap";
import type { NodeReading } from "../../src/cluster/node_object.js";
import { type Candidate, NodeRegistry } from "../../src/cluster/node_registry.js";
import type { NodeObject } from "../../src/cluster/snapshot.js";
import { overlap, parsePrefix } from "../../src/tables/prefix.js";
import { nodeName, nodeObject } from "../tools/arbitrary.js";

/** "FILE NAME CIDR ADDRESS"; "-" as CIDR: none (skipped), "?": it is wrong. */
function candidate(row: string): Candidate {
	const [file = "", name = "", cidr = "", address] = row.split(" ");
	const addresses = address === undefined ? [] : [address];
	const reading: NodeReading =
		cidr === "-"
			? { name, skipped: "it has no pod CIDRs" }
			: cidr === "?"
				? { name, fault: "expected better" }
				: {
						node: { name, podCIDRs: [cidr], internalIPs: addresses, transportAddresses: addresses },
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
		"at the start the first in the directory is in",
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
		"a Node moves to another file",
		{ rows: ["f a 10.1.0.0/24"], nodes: "a=10.1.0.0/24" },
		{ rows: ["g a 10.1.0.0/24"], nodes: "a=10.1.0.0/24" },
	],
];

t.test("who is in", async (t) => {
	for (const [what, ...steps] of SCENARIOS) {
		const registry = new NodeRegistry();
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
		fc
			.record({ file: fc.constantFrom("f", "g"), node: nodeObject(nodeName) })
			.map(({ file, node }): Candidate => ({ file, reading: { node } })),
		{ maxLength: 12 },
	),
	{ minLength: 1, maxLength: 5 },
);

t.test(
	"random Nodes: no two collide, each is in a file, and who is unchanged stays in",
	async () => {
		fc.assert(
			fc.property(rounds, (rounds) => {
				const registry = new NodeRegistry();
				let before = new Map<string, NodeObject>();
				let files: Candidate[] = [];
				for (const candidates of rounds) {
					const { nodes, problems } = registry.update(candidates);
					const list = [...nodes.values()];
					for (const [i, a] of list.entries())
						for (const b of list.slice(i + 1)) assert.ok(!collide(a, b), `${a.name} and ${b.name}`);
					const names = new Set(
						candidates.map(({ reading }) => ("node" in reading ? reading.node.name : "")),
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
							list.filter(({ reading }) => "node" in reading && reading.node.name === name);
						const [was, is] = [says(files), says(candidates)];
						// One file said it, the same file says the same: it must be in.
						if (was.length !== 1 || is.length !== 1 || was[0]?.file !== is[0]?.file) continue;
						const reading = is[0]?.reading;
						if (
							reading &&
							"node" in reading &&
							JSON.stringify(reading.node) === JSON.stringify(node)
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
