/** Services, compiled change by change: what comes out means the same as all of it compiled at once. */
import assert from "node:assert/strict";
import fc from "fast-check";
import t from "tap";
import type { EndpointSliceObject } from "../../src/cluster/endpoint_slice_object.js";
import type { ServiceObject } from "../../src/cluster/service_object.js";
import type { NodeObject } from "../../src/cluster/snapshot.js";
import { type CompileInput, compile } from "../../src/compile/compile.js";
import { Compiler } from "../../src/compile/compiler.js";
import type { Config } from "../../src/config/config.js";
import { atOnce } from "../../src/loop/turns.js";
import { BackendState, Limit } from "../../src/tables/generated.js";
import { type HeldServiceMaps, SERVICE_MAPS, type Tables } from "../../src/tables/tables.js";
import {
	anyProxy,
	anyService,
	anySlice,
	meaningOfServices,
	nodeOf,
	PaperCatalog,
	proxyConfig,
	serviceNetwork,
} from "../tools/services.js";
import { takeIn } from "../tools/taken_tables.js";

const REST_MS = Limit.BACKEND_REST_SECONDS * 1000;

type Change =
	| { kind: "service"; service: ServiceObject }
	| { kind: "slice"; slice: EndpointSliceObject }
	| { kind: "serviceGone" | "sliceGone"; pick: number }
	| { kind: "node"; node: NodeObject }
	| { kind: "nodeGone"; name: string }
	| { kind: "proxy"; proxy: Partial<Config["fairwayProxy"]> }
	| { kind: "time"; ms: number }
	| { kind: "network" | "forgotten" | "restart" };

const node: fc.Arbitrary<NodeObject> = fc.oneof(
	fc
		.constantFrom("z0", "z1", "")
		.map((zone) => nodeOf(0, zone === "" ? {} : { labels: ["topology.kubernetes.io/zone", zone] })),
	fc.constantFrom(
		nodeOf(1),
		nodeOf(1, { internalIPs: ["192.0.2.1"], transportAddresses: ["172.16.0.2"] }),
		nodeOf(2),
		nodeOf(2, { podCIDRs: ["192.0.2.0/31"] }),
	),
);

const change: fc.Arbitrary<Change> = fc.oneof(
	{ weight: 8, arbitrary: anyService.map((service): Change => ({ kind: "service", service })) },
	{ weight: 10, arbitrary: anySlice.map((slice): Change => ({ kind: "slice", slice })) },
	{
		weight: 3,
		arbitrary: fc
			.tuple(fc.constantFrom("serviceGone" as const, "sliceGone" as const), fc.nat(9))
			.map(([kind, pick]): Change => ({ kind, pick })),
	},
	{ weight: 2, arbitrary: node.map((node): Change => ({ kind: "node", node })) },
	{
		weight: 1,
		arbitrary: fc.constantFrom("n1", "n2").map((name): Change => ({ kind: "nodeGone", name })),
	},
	{ weight: 1, arbitrary: anyProxy.map((proxy): Change => ({ kind: "proxy", proxy })) },
	{
		weight: 2,
		arbitrary: fc.constantFrom(1, 1000, REST_MS).map((ms): Change => ({ kind: "time", ms })),
	},
	{
		weight: 1,
		arbitrary: fc
			.constantFrom("network" as const, "forgotten" as const, "restart" as const)
			.map((kind): Change => ({ kind })),
	},
);
const changes = fc.array(fc.array(change, { maxLength: 4 }), { minLength: 1, maxLength: 10 });

/** A cluster that changes, and a compiler that follows. */
class World {
	readonly catalog = new PaperCatalog();
	readonly nodes = new Map([0, 1].map((n) => [`n${n}`, nodeOf(n)]));
	compiler = new Compiler();
	tables: Tables | undefined;
	now = 0;
	network = serviceNetwork;
	config = proxyConfig();
	readonly #ids = new Map([
		["n1", 0],
		["n2", 1],
	]);

	get input(): CompileInput {
		const held = this.tables;
		return {
			...{ config: this.config, network: this.network, nodeName: "n0", peerIds: this.#ids },
			snapshot: { nodes: this.nodes, catalog: this.catalog },
			endpoints: [],
			now: this.now,
			...(held === undefined ? {} : { heldServices: () => held }),
		};
	}

	make(change: Change): void {
		const { catalog, compiler } = this;
		if (change.kind === "service") compiler.noteServices([catalog.put(change.service)]);
		else if (change.kind === "slice") compiler.noteServices(catalog.putSlice(change.slice));
		else if (change.kind === "serviceGone") {
			const key = [...catalog.services.keys()][change.pick];
			if (key === undefined) return;
			catalog.services.delete(key);
			compiler.noteServices([key]);
		} else if (change.kind === "sliceGone") {
			const slice = [...catalog.slices.values()][change.pick];
			if (slice === undefined) return;
			catalog.slices.delete(slice.name);
			compiler.noteServices([`${slice.namespace}/${slice.service}`]);
		} else if (change.kind === "node") {
			this.nodes.set(change.node.name, change.node);
			compiler.noteNodes([change.node.name]);
		} else if (change.kind === "nodeGone") {
			this.nodes.delete(change.name);
			compiler.noteNodes([change.name]);
		} else if (change.kind === "proxy") this.config = proxyConfig(change.proxy);
		else if (change.kind === "time") this.now += change.ms;
		else if (change.kind === "network") this.network = structuredClone(this.network);
		else if (change.kind === "forgotten") compiler.forget();
		else this.compiler = new Compiler();
	}

	update() {
		const result = atOnce(this.compiler.update(this.input));
		assert.ok(result.ready);
		this.tables = takeIn(this.tables, result.tables);
		return result;
	}

	/** Throws where what came out differs from what compile makes of the same. */
	compare(): void {
		const whole = compile(this.input);
		assert.ok(whole.ready);
		const result = this.update();
		const tables = this.tables!;
		assert.deepEqual(meaningOfServices(tables), meaningOfServices(whole.tables));
		assert.deepEqual(result.problems, whole.problems);
		const others = (tables: Tables) => {
			const copy: Partial<Tables> = { ...tables };
			for (const name of SERVICE_MAPS) delete copy[name];
			return copy;
		};
		assert.deepEqual(others(tables), others(whole.tables));
	}
}

t.test("after any changes, the tables mean what those of the whole compile mean", async () => {
	fc.assert(
		fc.property(changes, (sequence) => {
			const world = new World();
			world.compare();
			for (const together of sequence) {
				for (const change of together) world.make(change);
				world.compare();
				if (world.now % 2 === 0) world.compiler.applied();
			}
		}),
		{ numRuns: 1000 },
	);
});

t.test("an id of a backend is another's only after it has rested", async () => {
	fc.assert(
		fc.property(changes, (sequence) => {
			const world = new World();
			/** By id: what it is, and when it last served. */
			const known = new Map<number, { text: string; served: number }>();
			for (const together of sequence) {
				for (const change of together) world.make(change);
				world.update();
				world.compiler.applied();
				for (const [id, { service, address, port }] of world.tables!.backends) {
					const text = `${service} ${address} ${port}`;
					const before = known.get(id);
					if (before !== undefined && before.text !== text)
						assert.ok(world.now - before.served >= REST_MS, `${before.text} is ${text} now`);
					const serves = (stateOf(world.tables!, id) & BackendState.SERVES) !== 0;
					known.set(id, { text, served: serves ? world.now : (before?.served ?? 0) });
				}
			}
		}),
		{ numRuns: 500 },
	);
});

function stateOf(maps: HeldServiceMaps, id: number): number {
	return Number(((maps.backendStates.get(id >> 3) ?? 0n) >> BigInt((id & 7) * 8)) & 0xffn);
}
