/** A cluster with Services that changes at random, and a compiler that follows. */
import assert from "node:assert/strict";
import fc from "fast-check";
import type { EndpointSliceObject } from "../../src/cluster/endpoint_slice_object.js";
import type { ServiceObject } from "../../src/cluster/service_object.js";
import type { NodeObject } from "../../src/cluster/snapshot.js";
import { type CompileInput, compile } from "../../src/compile/compile.js";
import { Compiler } from "../../src/compile/compiler.js";
import type { Config } from "../../src/config/config.js";
import { atOnce } from "../../src/loop/turns.js";
import { Limit } from "../../src/tables/generated.js";
import { SERVICE_MAPS, type Tables } from "../../src/tables/tables.js";
import {
	anyProxy,
	anyService,
	anySlice,
	meaningOfServices,
	nodeOf,
	PaperCatalog,
	proxyConfig,
	serviceNetwork,
} from "./services.js";
import { takeIn } from "./taken_tables.js";

export const REST_MS = Limit.BACKEND_REST_SECONDS * 1000;

export type ServiceChange =
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

const change: fc.Arbitrary<ServiceChange> = fc.oneof(
	{
		weight: 8,
		arbitrary: anyService.map((service): ServiceChange => ({ kind: "service", service })),
	},
	{ weight: 10, arbitrary: anySlice.map((slice): ServiceChange => ({ kind: "slice", slice })) },
	{
		weight: 3,
		arbitrary: fc
			.tuple(fc.constantFrom("serviceGone" as const, "sliceGone" as const), fc.nat(9))
			.map(([kind, pick]): ServiceChange => ({ kind, pick })),
	},
	{ weight: 2, arbitrary: node.map((node): ServiceChange => ({ kind: "node", node })) },
	{
		weight: 1,
		arbitrary: fc
			.constantFrom("n1", "n2")
			.map((name): ServiceChange => ({ kind: "nodeGone", name })),
	},
	{ weight: 1, arbitrary: anyProxy.map((proxy): ServiceChange => ({ kind: "proxy", proxy })) },
	{
		weight: 2,
		arbitrary: fc.constantFrom(1, 1000, REST_MS).map((ms): ServiceChange => ({ kind: "time", ms })),
	},
	{
		weight: 1,
		arbitrary: fc
			.constantFrom("network" as const, "forgotten" as const, "restart" as const)
			.map((kind): ServiceChange => ({ kind })),
	},
);
/** Several changes at once, time and again. */
export const serviceChanges = fc.array(fc.array(change, { maxLength: 4 }), {
	minLength: 1,
	maxLength: 10,
});

/** A cluster that changes, and a compiler that follows. */
export class ServicesWorld {
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

	make(change: ServiceChange): void {
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

	/** Throws where the result differs from that of `compile` for the same input. */
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
