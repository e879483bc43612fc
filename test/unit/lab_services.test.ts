/** What the lab shows of Services: clients, endpoints, a row of the table. */
import t from "tap";
import type { ServiceStatus } from "../../src/api/messages/services.js";
import type { Lab } from "../../src/lab/lab.js";
import type { Measurement } from "../../src/lab/measure.js";
import { measurementTable } from "../../src/lab/report.js";
import { servicePairs } from "../../src/lab/services.js";

const pods: Record<string, { 4: string; 6: string }> = {
	pod1a: { 4: "10.244.1.2", 6: "fd00:1::2" },
	pod1b: { 4: "10.244.1.3", 6: "fd00:1::3" },
};
const backend = (address: string) => ({
	...{ address, port: 8080, node: "node1", state: "ready" as const, path: "local" as const },
});
const web: ServiceStatus = {
	...{ namespace: "default", name: "web", port: 80, portName: "", protocol: "TCP" },
	type: "NodePort",
	frontends: [
		{ address: "10.96.0.10", port: 80, kind: "clusterIP" },
		{ address: "0.0.0.0", port: 30080, kind: "nodePort" },
	],
	backends: [backend("10.244.1.3"), backend("fd00:1::3"), backend("203.0.113.9")],
	why: [],
	isFormer: false,
};

/** @param answers of the agents, look by look */
function lab(...answers: ServiceStatus[][][]): Lab {
	const agents = [0, 1].map((agent) => {
		let look = 0;
		const services = async () => answers[Math.min(look++, answers.length - 1)]?.[agent] ?? [];
		return [`node${agent + 1}`, { services }] as const;
	});
	return {
		agents: new Map<string, object>(agents),
		attachments: new Map(Object.entries(pods).map(([label, addresses]) => [label, { addresses }])),
		topology: {
			pods: Object.keys(pods).map((label) => ({ label })),
			nodes: [{ name: "node1", agent: true }],
			outside: undefined,
		},
		hasFamily: () => true,
		address: () => "192.168.1.1",
	} as unknown as Lab;
}

t.test("pairs of clients and Services, once all agents know the same endpoints", async (t) => {
	const none = { ...web, backends: [] };
	const udp = { ...web, protocol: "UDP" };
	const pairs = await servicePairs(
		lab(
			[[none], [none]],
			[[none], [web]],
			[
				[web, udp],
				[web, udp],
			],
		),
	);
	const machines = new Map([["10.244.1.3", "pod1b"]]);
	const rest = {
		to: "web:80",
		address: "10.96.0.10",
		port: 80,
		backends: machines,
		targetPort: 8080,
	};
	t.strictSame(
		pairs,
		[
			{ kind: "podToService", family: 4, from: "pod1a", ...rest },
			{ kind: "nodeToService", family: 4, from: "node1", ...rest },
		],
		"no endpoint is a client, and there is no IPv6 address",
	);
	t.same(await servicePairs(lab([[], []])), [], "Services are kube-proxy's");
});

t.test("the row of a Service: the paths to its endpoints, and who answered", async (t) => {
	const measured = {
		pair: { kind: "podToService", family: 4, from: "pod1a", to: "web:80" },
		explained: {
			...{ source: "10.244.1.2", path: null, snat: null, mtu: null, reason: "" },
			backends: [{ path: "local" }, { path: "geneve" }, { path: "geneve" }],
		},
		...{ roundTrip: null, lost: 0, throughput: 1e9, seenAs: "10.244.1.2", faults: [] },
		spread: "connections: pod1b 20, pod2b 20",
	} as unknown as Measurement;
	const text = measurementTable([measured], undefined);
	t.match(text, "Pod → Service");
	const line =
		/│ pod1a → web:80 │ v4 │ local\/geneve │ connections: pod1b 20, pod2b 20 │ +│ +– │ +– │/;
	t.match(text, line);
	const { spread: _, ...plain } = measured;
	t.match(measurementTable([{ ...plain, roundTrip: undefined }], undefined), "lost");
});
