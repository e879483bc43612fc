/** The tables of Services in the kernel's maps: written, found again after a restart, and after others' changes. */
import t from "tap";
import { Compiler } from "../../src/compile/compiler.js";
import { atOnce } from "../../src/loop/turns.js";
import { Links } from "../../src/reconcile/links.js";
import { AgentTables } from "../../src/reconcile/maps/agent_tables.js";
import { TableState } from "../../src/reconcile/maps/table_state.js";
import { Wanted } from "../../src/reconcile/wanted.js";
import { u32 } from "../../src/tables/codec.js";
import { Backend, BackendState } from "../../src/tables/generated.js";
import { readAgain } from "../tools/read_again.js";
import {
	endpointOf,
	meaningOfServices,
	nodeOf,
	PaperCatalog,
	proxyConfig,
	serviceNetwork,
	serviceOf,
	sliceOf,
} from "../tools/services.js";
import { DataPath } from "./data_path.js";

const path = new DataPath({ flowSlots: 64 });
t.teardown(() => path.close());
const catalog = new PaperCatalog();

/** An agent's half: compiles, writes, and begins with what the maps hold. */
async function startAgent() {
	const state = new TableState(new AgentTables(path.map));
	await state.adopt();
	const compiler = new Compiler();
	const wanted = new Wanted((table, key) => {
		if (table !== "hostRoutes" && table !== "endpoints") state.check(table, key);
	});
	const nodes = new Map([0, 1].map((n) => [`n${n}`, nodeOf(n)]));
	const config = proxyConfig();
	const apply = async (...keys: string[]) => {
		compiler.noteServices(keys);
		const result = atOnce(
			compiler.update({
				...{ config, network: serviceNetwork, nodeName: "n0", endpoints: [], now: 0 },
				...{ peerIds: new Map([["n1", 0]]), snapshot: { nodes, catalog } },
				heldServices: () => state.services,
			}),
		);
		if (!result.ready) throw new Error(result.reason);
		atOnce(wanted.take(result.tables));
		const outcome = await state.apply(wanted.tables!, new Links([]), 1);
		compiler.applied();
		return outcome;
	};
	return { state, apply };
}

const addresses = (count: number) =>
	Array.from({ length: count }, (_, n) => endpointOf(`10.100.${n % 2}.${2 + n}`, { node: "n0" }));

t.test("they are written, and found again by their content", async (t) => {
	catalog.put(
		serviceOf({
			...{ type: "LoadBalancer", loadBalancerIPs: ["192.0.2.1"], externalLocal: true },
			...{ clusterIPs: ["10.96.0.1", "fd00:10:96::1"], sourceRanges: ["10.0.0.0/8", "fd00::/8"] },
			ports: [{ name: "http", protocol: 6, port: 80, nodePort: 30080, targetPort: 1 }],
		}),
	);
	catalog.put(serviceOf({ name: "other", clusterIPs: ["10.96.0.2"] }));
	catalog.putSlice(sliceOf(addresses(10)));
	catalog.putSlice(sliceOf(addresses(3), { name: "other-1", service: "other" }));
	const first = await startAgent();
	t.same((await first.apply("default/web", "default/other")).problems, []);
	const meaning = meaningOfServices(first.state.services);
	t.equal(meaning.ports.size, 3);
	const second = await startAgent();
	t.same(meaningOfServices(second.state.services), meaning, "the maps hold all of it");
	const { writes } = await second.apply("default/web", "default/other");
	t.equal(writes, 0, "a restarted agent has nothing to write");
	t.equal(await readAgain(second.state), 0);
});

t.test("one endpoint more, fewer or another is a handful of writes", async (t) => {
	const { state, apply } = await startAgent();
	await apply();
	for (const [what, count, most] of [
		["more", 11, 6],
		["fewer", 10, 6],
	] as const) {
		catalog.putSlice(sliceOf(addresses(count)));
		const { writes, problems } = await apply("default/web");
		t.same(problems, []);
		t.ok(writes > 0 && writes <= most, `${what}: ${writes} writes`);
	}
	const other = [...addresses(9), endpointOf("10.100.0.99", { node: "n0" })];
	catalog.putSlice(sliceOf(other));
	const { writes } = await apply("default/web");
	t.ok(writes > 0 && writes <= 6, `another: ${writes} writes`);
	meaningOfServices(state.services);
});

t.test("what others write into them is put right", async (t) => {
	const { state, apply } = await startAgent();
	await apply();
	const [id, backend] = [...state.services.backends].find(
		([, { address }]) => address === "10.100.0.99",
	)!;
	path
		.map("backends")
		.update(u32.encode(id), Backend.encode({ ...backend, address: "10.100.0.98" }));
	path.map("service_slots").update(u32.encode(0), u32.encode(77));
	t.equal(await readAgain(state), 2);
	t.equal((await apply()).writes, 2);
	t.equal(await readAgain(state), 0);
});

t.test("a Service that goes leaves nothing but ids that rest", async (t) => {
	const { state, apply } = await startAgent();
	await apply();
	catalog.services.clear();
	await apply("default/web", "default/other");
	const { frontends, services, serviceSlots, serviceRanges, backends } = state.services;
	t.same(
		[frontends, services, serviceSlots, serviceRanges].map(({ size }) => size),
		[0, 0, 0, 0],
	);
	t.ok(backends.size > 0);
	for (const word of state.services.backendStates.values())
		for (let at = 0n; at < 64n; at += 8n)
			t.ok([0, BackendState.RESTS].includes(Number((word >> at) & 0xffn) as 0), "it rests");
});
