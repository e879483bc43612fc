/** One apply of the agent, with a kernel and a prober of paper. */
import t from "tap";
import { Round, type RoundOptions } from "../../src/agent/round.js";
import type { PathVerdict } from "../../src/compile/compile.js";
import { parseConfig } from "../../src/config/parse.js";
import { PathEvents } from "../../src/observe/path_events.js";
import type { TableChanges } from "../../src/tables/changes.js";
import { Path } from "../../src/tables/generated.js";
import { noServiceMaps, type Tables } from "../../src/tables/tables.js";
import { takeIn } from "../tools/taken_tables.js";

const result = parseConfig("trafficEncapMode: hybrid", "config.yaml");
if ("errors" in result) throw new Error("the test's own configuration is invalid");
const { config } = result;

const node = (n: number) => ({
	name: `n${n}`,
	podCIDRs: [`10.244.${n}.0/24`],
	internalIPs: [`192.168.1.${n}`],
	transportAddresses: [`192.168.1.${n}`],
});

const network = {
	interfaces: [
		{
			name: "eth0",
			index: 2,
			mac: "02:00:00:00:00:01",
			mtu: 1500,
			up: true,
			addresses: [{ address: "192.168.1.1", prefixLength: 24 }],
		},
	],
	routes: [{ prefix: "192.168.1.0/24", device: "eth0", metric: 0 }],
};

const proven: PathVerdict = {
	use: "direct",
	directMtu: 1500,
	tunnelMtu: 1450,
	words: "So it was seen.",
	untunnelled: undefined,
};

t.test("applies with a path that fails meanwhile, and Nodes that come and have gone", async (t) => {
	const verdicts = new Map([
		[0, proven],
		[2, proven],
	]);
	const applied: Tables[] = [];
	let failed = false;
	let synced = false;
	const names = ["n1", "n2", "n3"];
	const ids = new Map([
		["n2", 0],
		["n3", 1],
	]);
	const prober = {
		get: (index: number) => {
			// Peer 1 is compiled after peer 0, whose path fails just then.
			if (index === 2 && !failed) {
				failed = true;
				verdicts.set(0, { ...proven, use: "tunnel" });
				round.onVerdict(0);
			}
			return verdicts.get(index);
		},
		change: async () => [],
		start: () => {},
	};
	const nothing = () => {};
	const age = { path: "direct" as const, since: 1, changes: 3 };
	const pathEvents = new PathEvents(2, { ages: { "n2/4": age, "gone/4": age }, events: [] });
	const logged: [object, string][] = [];
	const info = (fields: object, message: string) => logged.push([fields, message]);
	const round: Round = new Round({
		nodeName: "n1",
		log: { debug: nothing, info, warn: nothing, error: nothing },
		started: 0,
		onReady: nothing,
		onInForce: nothing,
		sources: {
			config,
			desired: async () => ({
				...{ config, network, changed: names, changedServices: new Set() },
				snapshot: {
					nodes: new Map(names.map((name) => [name, node(Number(name.slice(1)))])),
					problems: [],
					synced,
				},
			}),
		},
		kernel: {
			change: async (changes: TableChanges) => {
				applied.push(takeIn(undefined, changes));
				return { ready: true, writes: 1, pending: 0 };
			},
			putPath: nothing,
			serviceEntries: () => ({ ...noServiceMaps(), routes: new Map() }),
			problems: () => [],
			resizeFlows: async () => {},
			xdpMode: () => "native",
		},
		cni: () => ({ endpoints: () => [], updateMTU: async () => {} }),
		prober: () => prober,
		peerIds: {
			update: () => [],
			ids,
		},
		formerPeers: { missing: () => new Set() },
		problems: { update: nothing },
		pathEvents,
		pathMemory: { changed: nothing },
	} as unknown as RoundOptions);
	await round.apply();
	t.same(
		logged.map(([, message]) => message),
		["ready", "peer added", "peer added"],
	);
	t.ok(failed);
	t.equal(applied[0]?.peers.get(2)?.path, Path.DIRECT);
	t.equal(applied[0]?.peers.get(0)?.path, Path.GENEVE);

	// The Node "gone" was a peer of an earlier agent.
	const known = () => [...pathEvents.records().ages].map(([peer]) => peer);
	t.same(known(), ["n2/4", "gone/4", "n3/4"], "it may be among the Nodes that are still to come");
	synced = true;
	await round.apply();
	t.same(known(), ["n2/4", "n3/4"], "it went while no agent ran");
	t.match(pathEvents.age("n2", 4), { changes: 4 }, "the others keep their age");

	for (let n = 4; n < 250; n++) {
		names.push(`n${n}`);
		ids.set(`n${n}`, n);
	}
	logged.length = 0;
	await round.apply();
	t.same(logged, [[{ added: 246 }, "peers changed"]], "one line for many");
});
