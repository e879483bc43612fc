/** What NetworkPolicy, ClusterNetworkPolicy and Namespace objects say after defaulting, and what is refused. */
import t, { type Test } from "tap";
import { FileObjects } from "../../src/cluster/file_objects.js";
import { type Reading, readObject } from "../../src/cluster/kinds.js";
import { matches, readSelector, selectorText } from "../../src/cluster/selector.js";
import type { Kind } from "../../src/cluster/store.js";
import { Store } from "../../src/cluster/store.js";
import { StoreMirror } from "../../src/kube/store_mirror.js";

const TCP_ALL = { protocol: 6, first: 0, last: 65535 };

function policy(spec: object, metadata: object = {}) {
	return { metadata: { namespace: "x", name: "p", ...metadata }, spec };
}

function clusterPolicy(spec: object) {
	const subject = { namespaces: {} };
	return { metadata: { name: "c" }, spec: { tier: "Admin", priority: 5, subject, ...spec } };
}

function read(kind: Kind, object: object) {
	return readObject(kind, object) as {
		record?: Record<string, unknown>;
		fault?: string;
		instead?: Record<string, unknown>;
	};
}

t.test("what a NetworkPolicy means after defaulting", async (t) => {
	const app = [{ key: "app", operator: "In", values: ["a"] }];
	const podSelector = { matchLabels: { app: "a" } };
	const rows: [what: string, spec: object, expected: object][] = [
		[
			"nothing but a selector isolates for ingress",
			{ podSelector },
			{ pods: app, ingress: [], egress: undefined },
		],
		["no selector selects all", {}, { pods: [], ingress: [] }],
		[
			"egress rules isolate for egress too",
			{ egress: [{}] },
			{ ingress: [], egress: [{ peers: undefined, ports: undefined }] },
		],
		["an empty list of egress rules does not", { egress: [] }, { ingress: [], egress: undefined }],
		[
			"an empty list of types is none",
			{ policyTypes: [], egress: [{}] },
			{ ingress: [], egress: [{}] },
		],
		[
			"Egress alone",
			{ policyTypes: ["Egress"], ingress: [{}] },
			{ ingress: undefined, egress: [] },
		],
		[
			"empty lists of peers and ports are all of them",
			{ ingress: [{ from: [], ports: [] }] },
			{ ingress: [{ peers: undefined, ports: undefined }] },
		],
		[
			"a Pod selector means the own namespace, an empty namespace selector all of them",
			{
				ingress: [
					{
						from: [
							{ podSelector },
							{ namespaceSelector: {} },
							{ namespaceSelector: {}, podSelector },
						],
					},
				],
			},
			{
				ingress: [
					{
						peers: [
							{ namespaces: undefined, pods: app },
							{ namespaces: [], pods: [] },
							{ namespaces: [], pods: app },
						],
					},
				],
			},
		],
		[
			"host bits and leading zeros are taken as upstream takes them",
			{ ingress: [{ from: [{ ipBlock: { cidr: "10.1.2.3/8", except: ["10.01.2.3/16"] } }] }] },
			{ ingress: [{ peers: [{ block: "10.0.0.0/8", except: ["10.1.0.0/16"] }] }] },
		],
		[
			"ports: by number, range, name, protocol alone; TCP where none is given",
			{
				ingress: [
					{
						ports: [
							{ port: 80 },
							{ port: 80, endPort: 90, protocol: "UDP" },
							{ port: "http", protocol: "SCTP" },
							{ protocol: "TCP" },
							{},
						],
					},
				],
			},
			{
				ingress: [
					{
						ports: [
							{ protocol: 6, first: 80, last: 80 },
							{ protocol: 17, first: 80, last: 90 },
							{ protocol: 132, name: "http" },
							TCP_ALL,
							TCP_ALL,
						],
					},
				],
			},
		],
	];
	for (const [what, spec, expected] of rows)
		t.match(read("NetworkPolicy", policy(spec)), { record: expected }, what);
	t.match(read("NetworkPolicy", policy({}, { annotations: { "fairway.dev/audit": "true" } })), {
		record: { audit: true },
	});
	t.match(read("NetworkPolicy", policy({}, { annotations: { "fairway.dev/audit": "yes" } })), {
		record: { audit: false },
	});
});

t.test(
	"a NetworkPolicy that cannot be used is refused with the reason, and closes what it may select",
	async (t) => {
		const ports = (port: object) => ({ ingress: [{ ports: [port] }] });
		const from = (peer: object) => ({
			podSelector: { matchLabels: { app: "a" } },
			ingress: [{ from: [peer] }],
		});
		const rows: [spec: object, fault: RegExp, closed?: object][] = [
			[
				ports({ port: 80, protocol: "tcp" }),
				/^expected TCP, UDP or SCTP as spec.ingress\[0\].ports\[0\].protocol, got "tcp"$/,
			],
			[ports({ port: 80, protocol: "constructor" }), /expected TCP, UDP or SCTP/],
			[ports({ port: 80, protocol: "" }), /expected TCP, UDP or SCTP/],
			[ports({ endPort: 80 }), /expected a port beside .*endPort/],
			[ports({ port: "http", endPort: 80 }), /expected a numeric port beside .*endPort/],
			[ports({ port: 80, endPort: 79 }), /expected at least 80 as .*endPort, got 79/],
			[ports({ port: 0 }), /expected a port from 1 to 65535/],
			[ports({ port: "80" }), /expected a port's number or name/],
			[
				from({ podSelector: {}, ipBlock: { cidr: "10.0.0.0/8" } }),
				/expected either an ipBlock or selectors/,
			],
			[from({}), /expected podSelector, namespaceSelector or ipBlock as .*from\[0\], got none/],
			[
				from({ ipBlock: { cidr: "10.0.0.0/8", except: ["11.0.0.0/8"] } }),
				/expected a part of 10.0.0.0\/8 as .*except\[0\], got 11.0.0.0\/8/,
			],
			[from({ ipBlock: { cidr: "10.0.0.0/8", except: ["10.0.0.0/8"] } }), /expected a part of/],
			[from({ ipBlock: { cidr: "10.0.0.0/8", except: ["fd00::/64"] } }), /expected a part of/],
			[from({ ipBlock: { cidr: "10.0.0.0/33" } }), /expected a CIDR/],
			[
				from({ podSelector: { matchExpressions: [{ key: "a", operator: "Is" }] } }),
				/expected In, NotIn, Exists or DoesNotExist as .*operator, got "Is"/,
			],
			[
				from({ podSelector: { matchExpressions: [{ key: "a", operator: "In" }] } }),
				/expected at least one value as .*values of In, got none/,
			],
			[
				from({
					podSelector: { matchExpressions: [{ key: "a", operator: "Exists", values: ["b"] }] },
				}),
				/expected no values/,
			],
			[
				{ policyTypes: ["Ingres"] },
				/expected Ingress or Egress as spec.policyTypes\[0\], got "Ingres"/,
				{ ingress: [], egress: [] },
			],
			[
				{ podSelector: "all", policyTypes: ["Egress"] },
				/expected a mapping as spec.podSelector/,
				{ pods: [], ingress: undefined, egress: [] },
			],
		];
		for (const [spec, fault, closed = {}] of rows) {
			const reading = read("NetworkPolicy", policy(spec));
			t.match(reading.fault, fault);
			t.match(
				reading.instead,
				{ namespace: "x", name: "p", unusable: reading.fault, ...closed },
				String(fault),
			);
		}
		t.match(read("NetworkPolicy", policy(from({}))).instead, {
			pods: [{ key: "app", values: ["a"] }],
			ingress: [],
			egress: undefined,
		});
	},
);

t.test("what a ClusterNetworkPolicy means", async (t) => {
	const { record } = read(
		"ClusterNetworkPolicy",
		clusterPolicy({
			subject: { pods: { namespaceSelector: { matchLabels: { team: "a" } }, podSelector: {} } },
			ingress: [
				{
					name: "one",
					action: "Deny",
					from: [{ namespaces: {} }, { pods: { namespaceSelector: {}, podSelector: {} } }],
					protocols: [
						{ tcp: { destinationPort: { number: 80 } } },
						{ udp: { destinationPort: { range: { start: 5, end: 9 } } } },
						{ sctp: {} },
						{ destinationNamedPort: "web" },
					],
				},
			],
			egress: [
				{ action: "Accept", to: [{ networks: ["10.1.0.0/8"] }, { nodes: {} }] },
				{ action: "Pass", to: [{ domainNames: ["example.com"] }] },
			],
		}),
	);
	t.match(record, {
		...{ tier: "Admin", priority: 5 },
		subject: { namespaces: [{ key: "team", operator: "In", values: ["a"] }], pods: [] },
		ingress: [
			{
				...{ name: "one", action: "Deny", isUnknown: false },
				peers: [
					{ namespaces: [], pods: [] },
					{ namespaces: [], pods: [] },
				],
				ports: [
					{ protocol: 6, first: 80, last: 80 },
					{ protocol: 17, first: 5, last: 9 },
					{ protocol: 132, first: 0, last: 65535 },
					{ protocol: undefined, name: "web" },
				],
			},
		],
		egress: [
			{ peers: [{ networks: ["10.0.0.0/8"] }, { nodes: [] }], ports: undefined, isUnknown: false },
			{ action: "Pass", peers: [], isUnknown: true },
		],
	});
	for (const rule of [
		{ from: [{ robots: {} }] },
		{ from: [{ namespaces: {} }], protocols: [{ quic: {} }] },
		{ from: [{ nodes: {} }] },
	])
		t.match(
			read("ClusterNetworkPolicy", clusterPolicy({ ingress: [{ action: "Deny", ...rule }] }))
				.record,
			{ ingress: [{ isUnknown: true }] },
		);
});

t.test("a ClusterNetworkPolicy that cannot be used is refused with the reason", async (t) => {
	const peers = { from: [{ namespaces: {} }] };
	const many = Array.from({ length: 26 }, () => ({ action: "Deny", ...peers }));
	const rows: [spec: object, fault: RegExp][] = [
		[{ priority: 1001 }, /expected 0 to 1000 as spec.priority, got 1001/],
		[{ priority: undefined }, /expected 0 to 1000 as spec.priority, got nothing/],
		[{ tier: "admin" }, /expected Admin or Baseline as spec.tier, got "admin"/],
		[{ subject: {} }, /expected either namespaces or pods as spec.subject, got nothing/],
		[
			{ subject: { namespaces: {}, pods: {} } },
			/expected either namespaces or pods as spec.subject, got namespaces and pods/,
		],
		[
			{ ingress: [{ action: "Allow", ...peers }] },
			/expected Accept, Deny or Pass as spec.ingress\[0\].action, got "Allow"/,
		],
		[
			{ ingress: [{ action: "Deny", from: [] }] },
			/expected at least one peer as spec.ingress\[0\].from, got none/,
		],
		[{ ingress: [{ action: "Deny", ...peers, protocols: [] }] }, /expected at least one protocol/],
		[{ ingress: many }, /expected at most 25 as spec.ingress, got 26/],
	];
	for (const [spec, fault] of rows) {
		const reading = read("ClusterNetworkPolicy", clusterPolicy(spec));
		t.match(reading.fault, fault);
		const rules = "ingress" in spec ? 1 : 0;
		t.match(reading.instead, {
			unusable: reading.fault,
			ingress: { length: rules },
			egress: { length: 0 },
		});
	}
});

t.test("a Namespace has its name as a label, whatever its manifest says", async (t) => {
	t.strictSame(
		readObject("Namespace", {
			metadata: { name: "x", labels: { "kubernetes.io/metadata.name": "y", team: "a" } },
		}),
		{
			kind: "Namespace",
			key: "x",
			record: {
				name: "x",
				labels: ["kubernetes.io/metadata.name", "x", "team", "a"],
				audit: false,
			},
		},
	);
});

t.test(
	"selectors: NotIn and DoesNotExist match where the label is absent; an empty one matches all",
	async (t) => {
		const of = (...matchExpressions: object[]) => readSelector({ matchExpressions }, "it");
		const labels = ["app", "a", "tier", "web"];
		const rows: [selector: ReturnType<typeof of>, labelled: boolean, bare: boolean][] = [
			[of(), true, true],
			[of({ key: "app", operator: "In", values: ["b", "a"] }), true, false],
			[of({ key: "app", operator: "NotIn", values: ["a"] }), false, true],
			[of({ key: "app", operator: "NotIn", values: ["b"] }), true, true],
			[of({ key: "app", operator: "Exists" }), true, false],
			[of({ key: "app", operator: "DoesNotExist" }), false, true],
			[
				of({ key: "app", operator: "Exists" }, { key: "tier", operator: "In", values: ["db"] }),
				false,
				false,
			],
			[readSelector({ matchLabels: { app: "a", tier: "web" } }, "it"), true, false],
			[readSelector(null, "it"), true, true],
		];
		for (const [selector, labelled, bare] of rows) {
			t.equal(matches(selector, labels), labelled, selectorText(selector));
			t.equal(matches(selector, []), bare, selectorText(selector));
		}
		t.equal(
			selectorText(readSelector({ matchLabels: { b: "1", a: "2" } }, "it")),
			selectorText(
				of(
					{ key: "a", operator: "In", values: ["2"] },
					{ key: "b", operator: "In", values: ["1", "1"] },
				),
			),
			"one text for one meaning",
		);
	},
);

const GOOD = policy({ podSelector: { matchLabels: { app: "a" } }, ingress: [{}] });
const BAD = policy({
	podSelector: { matchLabels: { app: "b" } },
	ingress: [{ ports: [{ protocol: "X" }] }],
});
const WORSE = policy({
	podSelector: { matchLabels: { app: "c" } },
	ingress: [{ ports: [{ protocol: "Y" }] }],
});

t.test(
	"an unusable policy leaves in force what its object said before, else what it may select is closed",
	async (t) => {
		const store = new Store();
		const mirror = new StoreMirror(store, "NetworkPolicy");
		const record = () => store.get("NetworkPolicy", "x/p");
		mirror.change(BAD);
		t.match(record(), { unusable: /expected TCP/, pods: [{ values: ["b"] }], ingress: [] });
		t.match(store.problems(), [
			{ message: /^Cannot accept NetworkPolicy x\/p: expected TCP, UDP or SCTP as .*, got "X"$/ },
		]);
		mirror.change(WORSE);
		t.match(
			record(),
			{ unusable: /got "Y"/, pods: [{ values: ["c"] }] },
			"what stood in was never said",
		);
		mirror.change(GOOD);
		t.match(record(), { unusable: undefined, ingress: [{}] });
		t.strictSame(store.problems(), []);
		mirror.change(BAD);
		t.match(record(), { unusable: undefined, pods: [{ values: ["a"] }] });
		t.match(store.problems(), [{ message: /got "X"; what it said before stays in force$/ }]);
	},
);

t.test("of unusable objects the first are named and the others counted", async (t) => {
	const store = new Store();
	const mirror = new StoreMirror(store, "NetworkPolicy");
	const bad = (index: number) => ({ ...BAD, metadata: { namespace: "x", name: `p${index}` } });
	const named = () => store.problems().map(({ message }) => /x\/(p\d+):/.exec(message)?.[1]);
	const numbers = (first: number, last: number) =>
		Array.from({ length: last - first + 1 }, (_, i) => `p${first + i}`);
	for (let index = 10; index < 40; index++) mirror.change(bad(index));
	t.strictSame(named(), [...numbers(10, 29), undefined]);
	t.match(store.problems().at(-1), { message: /got 30 others$/ });
	mirror.change(bad(0));
	t.strictSame(named(), [...numbers(10, 29), undefined], "one that comes displaces none");
	mirror.change({ ...GOOD, metadata: { namespace: "x", name: "p12" } });
	mirror.remove(bad(31));
	mirror.remove(bad(11));
	t.strictSame(named(), ["p10", ...numbers(13, 30), "p32", undefined], "the next takes its place");
	for (let index = 13; index < 40; index++) mirror.remove(bad(index));
	t.strictSame(named(), ["p0", "p10"]);
	mirror.change(bad(50));
	t.strictSame(named(), ["p0", "p10", "p50"], "after all have been named");
	await mirror.clear();
	t.strictSame(named(), []);
	mirror.change(bad(10));
	t.strictSame(named(), ["p10"]);
});

/** Entries of maps that are gone through, and of arrays that are sorted. */
function countVisits(t: Test, run: () => void): number {
	let visits = 0;
	const iterator = Object.getPrototypeOf(new Map().keys()) as Iterator<unknown>;
	const { next } = iterator;
	const { sort } = Array.prototype;
	const restored = [
		t.intercept(iterator, "next", {
			value(this: Iterator<unknown>) {
				visits++;
				return next.call(this);
			},
		}),
		t.intercept(Array.prototype, "sort", {
			value(this: unknown[], compare: (a: unknown, b: unknown) => number) {
				visits += this.length;
				return sort.call(this, compare);
			},
		}),
	];
	run();
	for (const { restore } of restored) restore();
	return visits;
}

t.test("one more unusable object costs the same among many as among few", async (t) => {
	const mirror = new StoreMirror(new Store(), "NetworkPolicy");
	const bad = (index: number) => ({ ...BAD, metadata: { namespace: "x", name: `p${index}` } });
	const comeAndGo = (last: number, named: number) =>
		countVisits(t, () => {
			mirror.change(bad(last));
			mirror.remove(bad(last));
			mirror.remove(bad(named));
			mirror.change(bad(named));
		});
	for (let index = 0; index < 100; index++) mirror.change(bad(index));
	const few = comeAndGo(100, 0);
	t.ok(few > 0, "it counts");
	for (let index = 100; index < 2000; index++) mirror.change(bad(index));
	t.ok(comeAndGo(2000, 1) <= few, "no more among 2,000");
});

t.test(
	"an unusable policy in a file leaves in force what the file said before, else what it may select is closed",
	async (t) => {
		const objects = new FileObjects();
		const say = (object: object) => {
			objects.set("p.yaml", [readObject("NetworkPolicy", object) as Reading]);
			return objects.resolve("NetworkPolicy x/p")?.record;
		};
		t.match(say(BAD), { unusable: /expected TCP/ });
		t.equal(objects.firstUnknown("NetworkPolicy"), undefined, "what it may select is known");
		t.match(say(WORSE), { unusable: /got "Y"/ });
		t.match(say(GOOD), { unusable: undefined, ingress: [{}] });
		t.match(say(BAD), { unusable: undefined, pods: [{ values: ["a"] }] });
		t.match(objects.problems(), [{ message: /stays in force/ }]);
	},
);

t.test(
	"Pods of another part of a kind are passed over in slices, and removed in slices",
	async (t) => {
		const store = new Store();
		const pods = Array.from({ length: 60 }, (_, i) => ({
			...{
				apiVersion: "v1",
				kind: "Pod",
				metadata: { namespace: "x", name: `p${i}`, uid: `u${i}` },
			},
			spec: { nodeName: "n2", containers: [] },
			status: { podIP: `10.0.2.${i + 1}` },
		}));
		const others = new StoreMirror(store, "Pod", { name: "elsewhere", has: () => slow(true) });
		const here = new StoreMirror(store, "Pod", { name: "here", has: () => slow(false) });
		/** A look at a record takes 0.5 ms. */
		function slow(answer: boolean): boolean {
			for (const began = performance.now(); performance.now() - began < 0.5; );
			return answer;
		}
		for (const pod of pods) others.change(pod);
		const turnsOf = async (work: Promise<void>): Promise<number> => {
			let [turns, isDone] = [0, false];
			const done = work.then(() => {
				isDone = true;
			});
			while (!isDone) {
				await new Promise(setImmediate);
				turns++;
			}
			await done;
			return turns;
		};
		here.begin();
		const passed = await turnsOf(here.end());
		t.ok(passed >= 4, `${passed} turns of the event loop for the list`);
		t.equal(store.size("Pod"), 60);
		const removed = await turnsOf(others.clear());
		t.ok(removed >= 8, `${removed} turns to remove them`);
		t.equal(store.size("Pod"), 0);
	},
);
