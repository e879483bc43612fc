/** Services, compiled change by change: what comes out means the same as all of it compiled at once. */
import assert from "node:assert/strict";
import fc from "fast-check";
import t from "tap";
import { BackendState, RouteKind } from "../../src/tables/generated.js";
import type { HeldServiceMaps } from "../../src/tables/tables.js";
import { proxyConfig } from "../tools/services.js";
import { REST_MS, ServicesWorld, serviceChanges } from "../tools/services_world.js";

t.test("after any changes, the tables mean what those of the whole compile mean", async () => {
	fc.assert(
		fc.property(serviceChanges, (sequence) => {
			const world = new ServicesWorld();
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
		fc.property(serviceChanges, (sequence) => {
			const world = new ServicesWorld();
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

t.test(
	"a service CIDR that has a Node's Pods is refused by name, and the others are served",
	(t) => {
		const world = new ServicesWorld();
		world.config = { ...proxyConfig(), serviceCIDRs: ["10.0.0.0/8", "172.30.0.0/16"] };
		const [podCidr] = world.nodes.get("n0")!.podCIDRs;
		const { problems } = world.update();
		t.match(problems, [
			`Cannot serve the service CIDR 10.0.0.0/8: expected one apart from pod CIDRs, got one that overlaps ${podCidr} of this Node`,
		]);
		const { routes } = world.tables!;
		t.equal(routes.get("172.30.0.0/16")?.kind, RouteKind.SERVICE);
		t.equal(routes.get("10.0.0.0/8"), undefined);
		world.compare();
		t.end();
	},
);

t.test(
	"a service CIDR that has a Node's address is refused by name, and its endpoints are used",
	(t) => {
		const world = new ServicesWorld();
		const [address] = world.nodes.get("n0")!.internalIPs;
		const wide = `${address!.split(".")[0]}.0.0.0/8`;
		world.config = { ...proxyConfig(), serviceCIDRs: [wide, `${address}/32`, "172.30.0.0/16"] };
		const { problems } = world.update();
		t.match(problems, [
			`Cannot serve the service CIDR ${wide}: expected one apart from the addresses of Nodes, got one that holds ${address} of this Node`,
		]);
		const { routes } = world.tables!;
		t.equal(routes.get("172.30.0.0/16")?.kind, RouteKind.SERVICE);
		t.equal(routes.get(wide), undefined);
		world.compare();
		t.end();
	},
);

function stateOf(maps: HeldServiceMaps, id: number): number {
	return Number(((maps.backendStates.get(id >> 3) ?? 0n) >> BigInt((id & 7) * 8)) & 0xffn);
}
