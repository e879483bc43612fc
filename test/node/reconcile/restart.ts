/** An agent ends for any reason, and another one takes over its kernel objects. */
import { existsSync, readdirSync, rmSync } from "node:fs";
import t from "tap";
import { BpfLink, BpfMap, BpfProgram, clsact, supportsTcx } from "#native";
import { FILTER_HANDLE, FILTER_PRIORITY } from "../../../src/linux/names.js";
import { NodeConfig } from "../../../src/tables/generated.js";
import {
	buildObject,
	ip,
	makeDevices,
	memoryLog,
	openReconciler,
	pinDir,
	podInterface,
	podLines,
	recordPods,
	tablesOf,
} from "./fixture.js";

const object = buildObject("plain");
const tables = tablesOf({ peers: 3, pods: 2 });

/** Ids of every pinned object; an equal id means the same object. */
function ids(): Record<string, number> {
	const ids: Record<string, number> = {};
	for (const name of readdirSync(`${pinDir}/maps`))
		ids[name] = BpfMap.openPinned(`${pinDir}/maps/${name}`).info.id;
	for (const name of readdirSync(`${pinDir}/links`)) {
		const { id, programId } = BpfLink.openPinned(`${pinDir}/links/${name}`).info;
		ids[name] = id;
		ids[`${name} program`] = programId;
	}
	return ids;
}

const nodeConfig = () =>
	NodeConfig.decode(BpfMap.openPinned(`${pinDir}/maps/node_config`).lookup(Buffer.alloc(4))!);

await makeDevices(2);
recordPods(2);
const first = await openReconciler(object);
await first.apply(tables);
await first.close();

t.test("without changes nothing is written, loaded or replaced", async (t) => {
	const [before, config] = [ids(), nodeConfig()];
	const log = memoryLog();
	const second = await openReconciler(object, { log });
	t.same(
		second.readings.adoptedPeers().sort((a, b) => a.id - b.id),
		[0, 1, 2].map((id) => ({ id, nodeHash: BigInt(id + 1) })),
		"who had which peer id",
	);
	t.match(await second.apply(tables), { writes: 0, pending: 0, ready: true });
	t.same(ids(), before);
	t.same(nodeConfig().portHash, config.portHash, "SNAT ports are sought where they were");
	t.same(nodeConfig().strippedMac, config.strippedMac, "TC knows the work of XDP");
	t.same(nodeConfig().probeKey, config.probeKey, "questions that are under way are answered");
	t.equal(nodeConfig().routeEpoch, config.routeEpoch);
	t.notOk(
		log.lines.some(({ message }) => message === "loaded BPF programs"),
		"the verifier was not asked again",
	);
	t.equal(second.xdpMode(), "native");
	await second.close();
});

t.test("Pods keep the tcx links of an earlier version", { skip: !supportsTcx() }, async (t) => {
	const [pod] = await ip.query<{ ifindex: number }>("link", "show", "dev", podInterface(0));
	const ifindex = pod?.ifindex ?? 0;
	const filter = () => clsact.query(ifindex, "ingress", FILTER_PRIORITY, FILTER_HANDLE);
	const pin = `${pinDir}/links/from_pod-${ifindex}`;
	const programId = filter()?.programId ?? 0;
	const program = BpfProgram.openId(programId);
	const link = BpfLink.attach(program, ifindex, "tcx_ingress");
	link.pin(pin);
	const { id } = link.info;
	clsact.detach(ifindex, "ingress", FILTER_PRIORITY, FILTER_HANDLE);

	const later = await openReconciler(object);
	t.match(await later.apply(tables), { pending: 0, ready: true });
	t.match(BpfLink.openPinned(pin).info, { id, ifindex, programId });
	t.equal(filter(), undefined, "no packet meets the program twice");
	t.equal(later.podProblem(podInterface(0)), undefined);
	await later.close();

	link.detach();
	link.close();
	program.close();
	rmSync(pin);
	const last = await openReconciler(object);
	await last.apply(tables);
	t.match(filter(), { programId });
	await last.close();
});

t.test("leftovers are removed by the first apply, not before", async (t) => {
	await ip.batch([
		"route add 10.77.0.0/16 dev fairway0 proto 170",
		"route add fd00:77::/64 dev fairway0 proto 170",
		"route add blackhole 10.78.0.0/16 proto 170",
		"link add name wire9 type veth peer name far9",
		"link set dev wire9 up",
	]);
	const [wire9] = await ip.query<{ ifindex: number }>("link", "show", "dev", "wire9");
	const program = BpfProgram.openId(
		BpfLink.openPinned(
			`${pinDir}/links/${readdirSync(`${pinDir}/links`).find((n) => n.startsWith("from_wire-"))}`,
		).info.programId,
	);
	const stale = `${pinDir}/links/from_wire-${wire9?.ifindex}`;
	const link = BpfLink.attach(program, wire9?.ifindex ?? 0, "tcx_ingress");
	link.pin(stale);
	link.close();
	program.close();
	BpfMap.openPinned(`${pinDir}/maps/drops`).pin(`${pinDir}/maps/of_an_older_version`);

	// Pod 2 seems to be a Pod of the last agent whose record is gone.
	await ip.batch(podLines(2));
	recordPods(1);
	const log = memoryLog();
	const third = await openReconciler(object, { log });
	const left = async () => ({
		route4: (await ip.query("route", "show", "10.77.0.0/16")).length,
		route6: (await ip.query("-6", "route", "show", "fd00:77::/64")).length,
		blackhole: (await ip.query("route", "show", "10.78.0.0/16")).length,
		link: existsSync(stale),
		map: existsSync(`${pinDir}/maps/of_an_older_version`),
		pod: (await ip.query<{ ifname: string }>("link", "show")).some(
			({ ifname }) => ifname === podInterface(2),
		),
	});
	t.same(await left(), { route4: 1, route6: 1, blackhole: 1, link: true, map: true, pod: true });
	const one = tablesOf({ peers: 3, pods: 1 });
	t.match(await third.apply(one), { pending: 0 });
	t.same(await left(), { route4: 0, route6: 0, blackhole: 0, link: false, map: false, pod: false });
	t.match(
		log.lines.filter(({ message }) => message === "removing orphaned Pod interface"),
		[{ facts: { interface: podInterface(1) } }, { facts: { interface: podInterface(2) } }],
		"said by name",
	);
	t.ok(
		(await ip.query("link", "show", "dev", podInterface(0))).length === 1,
		"a Pod with its record stays",
	);
	await third.close();
});

t.test("an endpoint without its interface blocks nothing", async (t) => {
	const reconciler = await openReconciler(object);
	const applied = await reconciler.apply(tables); // Pod 1's interface was removed above.
	t.match(applied, { pending: 0, ready: true });
	t.equal(reconciler.tableReader.endpoint("10.244.1.3"), undefined);
	t.ok(reconciler.tableReader.endpoint("10.244.1.2"));
	await reconciler.close();
});

t.test("a pin that is not a link is removed", async (t) => {
	BpfMap.openPinned(`${pinDir}/maps/drops`).pin(`${pinDir}/links/nonsense`);
	const reconciler = await openReconciler(object);
	t.match(await reconciler.apply(tables), { pending: 0, ready: true });
	t.notOk(existsSync(`${pinDir}/links/nonsense`));
	await reconciler.close();
});
