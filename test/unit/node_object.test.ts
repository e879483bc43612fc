import t from "tap";
import { DocumentReader, type DocumentReaderOptions } from "../../src/cluster/document_reader.js";
import { readObject, shareRecord } from "../../src/cluster/kinds.js";
import type { DocumentResult } from "../../src/cluster/manifest_document.js";
import { type DocumentCache, readManifest } from "../../src/cluster/manifest_file.js";
import { Turns } from "../../src/loop/turns.js";

/** The parts of a Node that a row tests. */
function object(spec: object, addresses: unknown = [], annotations: object = {}) {
	const internal = Array.isArray(addresses)
		? addresses.map((address) => ({ type: "InternalIP", address }))
		: addresses;
	return {
		kind: "Node",
		metadata: { name: "n", annotations },
		spec,
		status: { addresses: internal },
	};
}

const ANNOTATION = "fairway.dev/transport-addresses";

t.test("the content of a Node object", async (t) => {
	const rows: [what: string, object: Record<string, unknown>, node: object][] = [
		["one pod CIDR", object({ podCIDR: "10.244.1.0/24" }), { podCIDRs: ["10.244.1.0/24"] }],
		[
			"several",
			object({ podCIDR: "10.244.1.0/24", podCIDRs: ["10.244.1.0/24", "FD00:1::/64"] }),
			{ podCIDRs: ["10.244.1.0/24", "fd00:1::/64"] },
		],
		[
			"one that the cluster autoscaler is to remove",
			object({
				podCIDR: "10.244.1.0/24",
				taints: [{ key: "a" }, { key: "ToBeDeletedByClusterAutoscaler" }],
			}),
			{ isLeaving: true },
		],
		[
			"one that is being deleted",
			{
				...object({ podCIDR: "10.244.1.0/24", taints: [{ key: "a" }] }),
				metadata: { name: "n", deletionTimestamp: "2030-01-01T00:00:00Z" },
			},
			{ isLeaving: true },
		],
		[
			"the same twice",
			object({ podCIDRs: ["10.244.1.0/24", "10.244.1.0/24"] }),
			{ podCIDRs: ["10.244.1.0/24"] },
		],
		[
			"two of a family",
			object({ podCIDRs: ["10.244.1.0/24", "10.244.2.0/24"] }),
			{ podCIDRs: ["10.244.1.0/24", "10.244.2.0/24"] },
		],
		[
			"InternalIPs",
			object({ podCIDR: "10.244.1.0/24" }, ["192.168.1.1", "FD00::1"]),
			{ internalIPs: ["192.168.1.1", "fd00::1"], transportAddresses: ["192.168.1.1", "fd00::1"] },
		],
		[
			"no address",
			object({ podCIDR: "10.244.1.0/24" }),
			{ internalIPs: [], transportAddresses: [] },
		],
		[
			"annotated",
			object({ podCIDR: "10.244.1.0/24" }, ["192.168.1.1"], {
				[ANNOTATION]: " 10.9.0.1, fd09::1 ,10.9.0.1",
			}),
			{ internalIPs: ["192.168.1.1"], transportAddresses: ["10.9.0.1", "fd09::1"] },
		],
		[
			"annotated with nothing",
			object({ podCIDR: "10.244.1.0/24" }, ["192.168.1.1"], { [ANNOTATION]: " " }),
			{ transportAddresses: ["192.168.1.1"] },
		],
	];
	for (const [what, given, node] of rows)
		t.match(readObject("Node", given), { record: { name: "n", ...node } }, what);
	const other = {
		...object({ podCIDR: "10.0.0.0/24" }),
		status: {
			addresses: [
				{ type: "Hostname", address: "n" },
				{ type: "ExternalIP", address: "8.8.8.8" },
			],
		},
	};
	t.match(readObject("Node", other), { record: { internalIPs: [] } }, "other kinds of address");
});

t.test("valid, but without pod CIDRs", async (t) => {
	for (const spec of [{}, { podCIDR: "" }, { podCIDRs: [] }, { podCIDRs: null }])
		t.same(readObject("Node", object(spec)), {
			kind: "Node",
			key: "n",
			skipped: "it has no pod CIDRs",
		});
	t.match(readObject("Node", { metadata: { name: "n" } }), { skipped: /no pod CIDRs/ }, "no spec");
});

t.test("invalid, with the reason", async (t) => {
	const good = { podCIDR: "10.244.1.0/24" };
	const rows: [object: Record<string, unknown>, fault: RegExp][] = [
		[
			object({ podCIDR: "10.244.1.1/24" }),
			/without host bits \(the network is 10\.244\.1\.0\/24\) as spec\.podCIDR, got "10\.244\.1\.1\/24"/,
		],
		[object({ podCIDRs: ["10.244.1.0/24", 5] }), /a CIDR as spec\.podCIDRs\[1\], got 5/],
		[object({ podCIDRs: "10.244.1.0/24" }), /a list as spec\.podCIDRs, got "10\.244\.1\.0\/24"/],
		[
			object({ podCIDR: "10.244.2.0/24", podCIDRs: ["10.244.1.0/24"] }),
			/spec\.podCIDR among spec\.podCIDRs, got 10\.244\.2\.0\/24/,
		],
		[
			object({ podCIDRs: ["10.244.0.0/16", "10.244.1.0/24"] }),
			/that do not overlap, got 10\.244\.0\.0\/16 and 10\.244\.1\.0\/24/,
		],
		[object({ podCIDR: "0.0.0.0/0" }), /unicast addresses as spec\.podCIDR, got 0\.0\.0\.0\/0/],
		[object({ podCIDR: "::/0" }), /unicast/],
		[object({ podCIDR: "224.0.0.0/24" }), /unicast/],
		[object({ podCIDR: "127.1.0.0/16" }), /unicast/],
		[object({ podCIDR: "fe80::/64" }), /unicast/],
		[
			object(good, ["nonsense"]),
			/an IPv4 or IPv6 address as status\.addresses\[0\]\.address, got "nonsense"/,
		],
		[object(good, ["192.168.1.1/24"]), /an IPv4 or IPv6 address/],
		[object(good, [{}]), /got a mapping/],
		[object(good, ["127.0.0.1"]), /a unicast address .* in 127\.0\.0\.0\/8/],
		[object(good, ["0.0.0.0"]), /a unicast address/],
		[object(good, ["ff02::1"]), /a unicast address/],
		[object(good, "x"), /a list as status\.addresses/],
		[
			object(good, [], { [ANNOTATION]: "10.0.0.1,x" }),
			/as annotation fairway\.dev\/transport-addresses, got "x"/,
		],
		[object(good, [], { [ANNOTATION]: 5 }), /separated by commas/],
		[{ metadata: {} }, /a DNS name as metadata\.name, got nothing/],
		[{ metadata: { name: "Not/A/Name" } }, /a DNS name .* got "Not\/A\/Name"/],
		[{ metadata: "x" }, /a DNS name/],
		[{}, /a DNS name/],
	];
	for (const [given, fault] of rows)
		t.match(readObject("Node", given), { fault }, JSON.stringify(given));
});

const NODE = (name: string) =>
	`apiVersion: v1\nkind: Node\nmetadata: {name: ${name}}\nspec: {podCIDR: 10.0.0.0/24}\n`;

const many = (count: number) => Array.from({ length: count }, (_, i) => `n${i}`).join(" ");
/** More than is parsed at once. */
const list = (count: number) =>
	`kind: List\nitems:\n${many(count)
		.split(" ")
		.map((name) => `- {kind: Node, metadata: {name: ${name}}, spec: {podCIDR: 10.0.0.0/24}}\n`)
		.join("")}`;

const reader = new DocumentReader();
t.teardown(() => reader.close());

async function read(text: string, cache: DocumentCache = new Map()) {
	const result = await readManifest(Buffer.from(text), cache, reader, new Turns());
	return typeof result === "function" ? result() : result;
}

async function names(text: string): Promise<string> {
	const result = await read(text);
	if ("fault" in result) return result.fault;
	return result.readings
		.map(({ key, ...reading }) => ("record" in reading ? key : `(${key})`))
		.join(" ");
}

t.test("the Nodes of a file, or its error", async (t) => {
	const rows: [what: string, text: string, nodes: string | RegExp][] = [
		["one", NODE("a"), "a"],
		["several documents", `${NODE("a")}---\n${NODE("b")}--- # c\n${NODE("c")}`, "a b c"],
		["nothing between separators", `---\n---\n# comment\n---\n${NODE("a")}---\n`, "a"],
		[
			"a document on the separator's line",
			`--- {kind: Node, metadata: {name: a}, spec: {podCIDR: 10.0.0.0/24}}\n---\n${NODE("b")}`,
			"a b",
		],
		["with an end marker", `${NODE("a")}...\n---\n${NODE("b")}...\n`, "a b"],
		["with a directive", `%YAML 1.2\n---\n${NODE("a")}`, "a"],
		["three dashes that separate nothing", `${NODE("a")}data: |\n  ---\n  x\n`, "a"],
		["JSON", JSON.stringify({ apiVersion: "v1", kind: "Node", metadata: { name: "a" } }), "(a)"],
		[
			"a List",
			`kind: List\napiVersion: v1\nitems:\n- {kind: Node, apiVersion: v1, metadata: {name: a}}\n- {kind: Secret, apiVersion: v1}\n`,
			"(a)",
		],
		[
			"a NodeList as the API gives it",
			JSON.stringify({ kind: "NodeList", apiVersion: "v1", items: [{ metadata: { name: "a" } }] }),
			"(a)",
		],
		[
			"other kinds",
			"apiVersion: v1\nkind: Secret\n---\nkind: ConfigMap\n---\nkind: Whatever\napiVersion: example.org/v1\n",
			"",
		],
		["a Node of another API", "apiVersion: example.org/v1\nkind: Node\nmetadata: {name: a}\n", ""],
		["CRLF", NODE("a").replaceAll("\n", "\r\n"), "a"],
		["empty", "", ""],
		["no object", "hello", /^1:1: expected a Kubernetes object with a kind, got "hello"$/],
		["a list", "- a\n- b\n", /^1:1: .* got a list$/],
		[
			"no kind",
			`${NODE("a")}---\nfoo: bar\n`,
			/^6:1: expected a Kubernetes object with a kind, got a mapping without one$/,
		],
		["broken YAML in the second document", `${NODE("a")}---\na: [\n`, /^7:1: expected YAML: /],
		["broken JSON", '{"kind": "Node",', /^1:\d+: expected YAML: /],
		["a duplicate key", "kind: Node\nkind: Node\n", /^2:1: expected YAML: Map keys must be unique/],
		["an alias to nothing", "kind: *a\n", /^1:1: expected YAML: Unresolved alias/],
		["nested too deeply", "[".repeat(10_000), /^1:\d+: expected YAML: .*levels of nesting/],
		["no text", "kind: Node\u0000", /control character/],
		[
			"a large document in the middle",
			`${NODE("a")}---\n${list(200)}---\n${NODE("b")}`,
			`a ${many(200)} b`,
		],
		[
			"a large JSON document",
			JSON.stringify({
				kind: "NodeList",
				items: Array.from({ length: 1000 }, (_, i) => ({
					metadata: { name: `n${i}` },
					spec: { podCIDR: "10.0.0.0/24" },
				})),
			}),
			many(1000),
		],
		[
			"a fault in a large document",
			`${NODE("a")}---\n${list(200)}  bad: [\n`,
			/^\d{3}:\d+: expected YAML: /,
		],
		[
			"too many documents",
			"---\n".repeat(70_000),
			/^1:1: expected at most 65536 documents, got more$/,
		],
	];
	for (const [what, text, nodes] of rows)
		if (typeof nodes === "string") t.equal(await names(text), nodes, what);
		else t.match(await names(text), nodes, what);
});

t.test("an unchanged document is not parsed again", async (t) => {
	const first = await read(`${NODE("a")}---\n${NODE("b")}`);
	if (!("cache" in first)) throw new Error(first.fault);
	const second = await read(`${NODE("a")}---\n${NODE("c")}`, first.cache);
	if (!("cache" in second)) throw new Error(second.fault);
	t.equal(second.readings[0], first.readings[0], "the very same reading");
	t.match(second.readings[1], { record: { name: "c" } });
});

t.test(
	"a document that the parser cannot cope with is refused, the next one is read",
	async (t) => {
		const rows: [what: string, options: DocumentReaderOptions, text: string, fault: RegExp][] = [
			["time", { timeoutMs: 1 }, list(2000), /^1:1: expected it to be parsed within 0\.001 s$/],
			[
				"memory",
				{ heapMiB: 96 },
				list(30_000),
				/^1:1: expected it to be parsed in 96 MiB of memory$/,
			],
			[
				"size",
				{ yamlMax: 10_000 },
				list(200),
				/^1:1: expected at most 10000 bytes of YAML .*got \d+/,
			],
			[
				"count",
				{},
				`kind: List\nitems: [${"{kind: Node},".repeat(66_000)}]`,
				/at most 65536 objects/,
			],
			["encoding", {}, `${"# \xff".repeat(2000)}`, /^1:1: expected UTF-8 text, got other bytes$/],
		];
		for (const [what, options, text, fault] of rows) {
			const reader = new DocumentReader(options);
			const bytes = (text: string) => new Uint8Array(Buffer.from(text, "latin1"));
			t.match(shown(await reader.readLarge(bytes(text))), fault, what);
			if (what !== "time")
				t.equal(shown(await reader.readLarge(bytes(NODE("a")))), "1 objects", what);
			await reader.close();
		}
		function shown(result: DocumentResult): string {
			if ("readings" in result) return `${result.readings.length} objects`;
			return `${result.line}:${result.column}: ${result.message}`;
		}
	},
);

t.test("a Node from a file says the same, and shares what Nodes have in common", async (t) => {
	const given = object({ podCIDR: "10.244.1.0/24" }, ["192.168.1.2", "fd00::2"]);
	Object.assign(given.metadata, { labels: { zone: "north" } });
	const reading = readObject("Node", given);
	if (!("record" in reading)) throw new Error("expected a usable Node");
	const { record } = reading;
	const copy = shareRecord(
		"Node",
		structuredClone({ ...record, transportAddresses: [...record.internalIPs] }),
	);
	t.same(copy, record);
	t.equal(copy.transportAddresses, copy.internalIPs, "one array, as where it was read");
	const annotated = { ...record, transportAddresses: ["10.9.9.9"] };
	t.same(shareRecord("Node", structuredClone(annotated)), annotated);
});
