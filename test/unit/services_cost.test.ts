/** What one Service with thousands of ports or source ranges costs: no more than as many small Services. */
import t from "tap";
import { type Claim, type ServiceSpec, specOf } from "../../src/compile/services/claims.js";
import { noServiceChanges, Ports } from "../../src/compile/services/ports.js";
import { viewOf } from "../../src/compile/services/view.js";
import { noServiceMaps } from "../../src/tables/tables.js";
import { proxyConfig, serviceOf } from "../tools/services.js";

t.test("the view of a Service goes through its frontends once, however many ports it has", (t) => {
	const ports = Array.from({ length: 100 }, (_, i) => ({
		...{ name: `p${i}`, protocol: 6, port: i + 1, nodePort: 30000 + i, targetPort: i + 1 },
	}));
	const service = serviceOf({ type: "NodePort", clusterIPs: ["10.96.0.1"], ports });
	const spec = specOf(service, proxyConfig());
	let visits = 0;
	class Counted extends Map<string, number> {
		override *[Symbol.iterator]() {
			for (const entry of this.entries()) {
				visits++;
				yield entry;
			}
			return undefined;
		}
	}
	const claims = spec.claims.map(
		(claim): Claim => ({ ...claim, frontends: new Counted([...claim.frontends]) }),
	);
	visits = 0;
	const counted: ServiceSpec = { ...spec, claims };
	const area = new Ports();
	const view = viewOf({ service, slices: [] }, counted, {
		place: { nodeName: "n0", zone: "" },
		ports: spec.ports.map((port) => area.add(port)),
		...{ isUsable: () => true, ownsFrontend: () => true },
	});
	t.equal(visits, 200);
	t.match(view.ports[7]?.frontends, [
		{ address: "10.96.0.1", port: 8, kind: "clusterIP" },
		{ address: "0.0.0.0", port: 30007, kind: "nodePort" },
	]);
	t.end();
});

t.test("source ranges of an earlier agent are adopted in slices", (t) => {
	const service = { clusterSet: 0n, localSet: 0n, nameHash: 1n, affinity: 0, flags: 0 };
	const held = { ...noServiceMaps(), routes: new Map(), services: new Map([[1, service]]) };
	for (let i = 0; i < 10_000; i++) held.serviceRanges.set(`1 10.${i >> 8}.${i & 255}.0/24`, 1);
	const changes = noServiceChanges();
	let slices = 0;
	for (const _ of new Ports().adopt(held, changes, 0)) slices++;
	t.ok(slices >= 30, `${slices} slices`);
	t.equal(changes.serviceRanges.put.size, 10_000);
	t.end();
});
