/** Services joined with their EndpointSlices. */
import fc from "fast-check";
import t from "tap";
import { Admission } from "../../src/cluster/admission.js";
import { readObject } from "../../src/cluster/kinds.js";
import { ServiceCatalog } from "../../src/cluster/service_catalog.js";
import { Store } from "../../src/cluster/store.js";

type Step =
	| { kind: "Service"; name: string; version: number }
	| { kind: "EndpointSlice"; name: string; service: string; version: number };

/** Version 0: the object goes. */
function apply(store: Store, steps: readonly Step[], file?: string): void {
	store.update((writer) => {
		for (const step of steps) {
			const key = `default/${step.name}`;
			if (step.version === 0) writer.remove(step.kind, key);
			else {
				const reading = readObject(step.kind, objectOf(step));
				if (!("record" in reading)) throw new Error(JSON.stringify(reading));
				writer.put(step.kind, key, reading.record, file);
			}
		}
	});
}

function objectOf(step: Step): object {
	const { name, version } = step;
	if (step.kind === "Service") return { metadata: { name }, spec: { ports: [{ port: version }] } };
	const labels = step.service === "" ? {} : { "kubernetes.io/service-name": step.service };
	return {
		...{ metadata: { name, labels }, addressType: "IPv4" },
		endpoints: [{ addresses: [`10.0.0.${version}`] }],
	};
}

function contentOf(catalog: ServiceCatalog): object {
	return Object.fromEntries(
		[...catalog.keys()].sort().map((key) => {
			const { service, slices } = catalog.get(key)!;
			const ends = slices.map(({ name, endpoints }) => [name, endpoints[0]?.address]);
			return [key, [service.ports[0]?.port, ends]];
		}),
	);
}

const service = (name: string, version = 1): Step => ({ kind: "Service", name, version });
const slice = (name: string, of: string, version = 1): Step => {
	return { kind: "EndpointSlice", name, service: of, version };
};

t.test("slices come before, with and after their Service, and change it", async (t) => {
	const store = new Store();
	const catalog = new ServiceCatalog(store);
	const rows: [what: string, steps: Step[], content: object, changed: string[]][] = [
		["a slice first", [slice("s1", "a")], {}, []],
		["its Service", [service("a")], { "default/a": [1, [["s1", "10.0.0.1"]]] }, ["default/a"]],
		[
			"another slice, and a Service without any",
			[slice("s0", "a", 2), service("b")],
			{
				"default/a": [
					1,
					[
						["s0", "10.0.0.2"],
						["s1", "10.0.0.1"],
					],
				],
				"default/b": [1, []],
			},
			["default/a", "default/b"],
		],
		[
			"a slice is another Service's now",
			[slice("s0", "b", 2)],
			{ "default/a": [1, [["s1", "10.0.0.1"]]], "default/b": [1, [["s0", "10.0.0.2"]]] },
			["default/a", "default/b"],
		],
		[
			"a slice changes",
			[slice("s0", "b", 3)],
			{ "default/a": [1, [["s1", "10.0.0.1"]]], "default/b": [1, [["s0", "10.0.0.3"]]] },
			["default/b"],
		],
		[
			"a Service goes, its slice stays for a moment",
			[service("a", 0)],
			{ "default/b": [1, [["s0", "10.0.0.3"]]] },
			["default/a"],
		],
		[
			"a slice nobody has goes",
			[slice("s1", "a", 0)],
			{ "default/b": [1, [["s0", "10.0.0.3"]]] },
			[],
		],
		["a slice loses its label", [slice("s0", "", 3)], { "default/b": [1, []] }, ["default/b"]],
		["all", [slice("s0", "", 0), service("b", 0)], {}, ["default/b"]],
	];
	for (const [what, steps, content, changed] of rows) {
		apply(store, steps);
		catalog.update();
		t.strictSame(contentOf(catalog), content, what);
		t.strictSame([...catalog.takeChanged()].sort(), changed, what);
	}
	t.equal(catalog.takeChanged().size, 0);
});

const STEPS = fc.array(
	fc.oneof(
		fc.record({
			kind: fc.constant("Service" as const),
			name: fc.constantFrom("a", "b", "c"),
			version: fc.nat(3),
		}),
		fc.record({
			kind: fc.constant("EndpointSlice" as const),
			name: fc.constantFrom("s0", "s1", "s2", "s3"),
			service: fc.constantFrom("a", "b", "c", ""),
			version: fc.nat(3),
		}),
	),
	{ maxLength: 40 },
);

t.test("any order of changes ends where a new catalog begins, and names what changed", async () => {
	fc.assert(
		fc.property(STEPS, fc.array(fc.nat(5), { maxLength: 40 }), (steps, sizes) => {
			const store = new Store();
			const catalog = new ServiceCatalog(store);
			let left: readonly Step[] = steps;
			for (const size of [...sizes, steps.length]) {
				const entries = new Map([...catalog.keys()].map((key) => [key, catalog.get(key)]));
				apply(store, left.slice(0, size));
				left = left.slice(size);
				catalog.update();
				const changed = catalog.takeChanged();
				const fresh = new ServiceCatalog(store);
				fresh.update();
				t.strictSame(contentOf(catalog), contentOf(fresh));
				for (const key of new Set([...entries.keys(), ...catalog.keys()]))
					if (!changed.has(key)) t.equal(catalog.get(key), entries.get(key), `${key} is the same`);
			}
		}),
		{ numRuns: 200 },
	);
});

t.test("a slice of a file that no Service uses is a problem", async (t) => {
	const store = new Store();
	const admission = new Admission(store);
	const problems = () => admission.update().problems;
	apply(store, [slice("s1", "a")], "a.yaml");
	apply(store, [slice("s2", "")], "b.yaml");
	apply(store, [slice("s3", "a")]);
	t.strictSame(problems(), [], "not while there may be more");
	store.update((writer) => {
		writer.setSynced("Service", true);
		writer.setSynced("EndpointSlice", true);
	});
	t.strictSame(problems(), [
		{
			file: "a.yaml",
			message:
				"Cannot use EndpointSlice default/s1: expected the Service default/a that it is labelled with, got none",
		},
		{
			file: "b.yaml",
			message:
				"Cannot use EndpointSlice default/s2: expected its Service in the label kubernetes.io/service-name, got none",
		},
	]);
	t.ok(admission.update().catalog.isSynced);
	apply(store, [service("a"), slice("s2", "", 0)]);
	t.strictSame(problems(), []);
	t.strictSame([...admission.takeChangedServices()], ["default/a"]);
	apply(
		store,
		Array.from({ length: 25 }, (_, i) => slice(`t${i}`, `none${i}`)),
		"c.yaml",
	);
	t.equal(problems().length, 21);
	t.match(problems()[20], { message: /got 5 others without$/ });
});
