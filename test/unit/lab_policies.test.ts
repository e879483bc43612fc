/** Connections of a lab that policies decide: what lab.yaml expects, what is measured, how it is shown. */
import t from "tap";
import type { ExplainPolicySide } from "../../src/api/messages/explain.js";
import type { Lab } from "../../src/lab/lab.js";
import { measureConnection, policyPairs } from "../../src/lab/policies.js";
import { measurementTable } from "../../src/lab/report.js";
import { buildTopology } from "../../src/lab/topology.js";

const node = (name: string, address: string) => ({
	...{ kind: "Node", metadata: { name }, spec: { podCIDRs: ["10.244.1.0/24"] } },
	status: { addresses: [{ type: "InternalIP", address }] },
});
const pod = (name: string, nodeName: string) => ({
	...{ kind: "Pod", metadata: { name }, spec: { nodeName } },
});
const topology = (connections: string) =>
	buildTopology(
		[
			...[node("n1", "192.168.1.1"), node("n2", "192.168.1.2"), pod("a", "n1"), pod("b", "n2")],
			{ kind: "ConfigMap", metadata: { name: "fairway-lab" }, data: { connections } },
		],
		"here",
	);

const side = (verdict: "allow" | "deny" | "none", by: ExplainPolicySide["by"]) =>
	({ verdict, by, why: `${verdict} by ${by}.` }) as ExplainPolicySide;

/** @param ingress as the receiver's Node judges it @param getsThrough what the connection does */
function lab(connections: string, ingress: "allow" | "deny", getsThrough: boolean): Lab {
	const agent = (by: ExplainPolicySide["by"], drop: string | null) => ({
		explain: async () => ({
			...{ drop, path: "direct", mtu: 1500, source: "10.244.1.2", snat: null, backends: [] },
			policy: {
				egress: side("none", by === "maps" ? "objects" : "maps"),
				ingress: side(ingress, by),
			},
		}),
	});
	const station = {
		order: async (order: string) => {
			if (order !== "tcpSend") return {};
			if (getsThrough) return { bytes: 1000, milliseconds: 1, address: "10.244.1.2" };
			throw new Error("TCP to b: no progress in 1500 ms");
		},
	};
	return {
		topology: topology(connections),
		hasFamily: (_: string, family: number) => family === 4,
		address: (name: string) => name,
		station: async () => station,
		agents: new Map<string, object>([
			["n1", agent("objects", null)],
			["n2", agent("maps", ingress === "deny" ? "policy_ingress" : null)],
		]),
	} as unknown as Lab;
}

t.test("expectations of lab.yaml", async (t) => {
	t.strictSame(topology("\n  a b 5432 denied\n  b a 80 allowed\n").connections, [
		{ from: "a", to: "b", port: 5432, expected: "denied" },
		{ from: "b", to: "a", port: 80, expected: "allowed" },
	]);
	t.throws(() => topology("a b 5432 maybe"), {
		message:
			'Cannot build a lab from here: expected FROM TO PORT allowed|denied in connections, got "a b 5432 maybe"',
	});
});

t.test("a connection that is denied as expected is no fault, and says by what", async (t) => {
	const measure = async (expected: string, ingress: "allow" | "deny", getsThrough: boolean) => {
		const one = lab(`a b 5432 ${expected}`, ingress, getsThrough);
		const pairs = policyPairs(one);
		t.equal(pairs.length, 1);
		return measureConnection(one, pairs[0]!);
	};
	const denied = await measure("denied", "deny", false);
	t.match(denied, { faults: [], denied: "policy_ingress", spread: "deny by maps." });
	t.match(
		measurementTable([denied], undefined),
		/a → b:5432 +│ v4 │ direct │ deny by maps .*│ +denied │/,
	);
	t.match(await measure("allowed", "allow", true), {
		...{ faults: [], throughput: 8_000_000, spread: "allow by maps." },
		denied: undefined,
	});
	t.strictSame((await measure("denied", "deny", true)).faults, [
		"a connection that policies deny got through",
	]);
	t.strictSame((await measure("allowed", "allow", false)).faults, [
		"TCP to b: no progress in 1500 ms",
	]);
});
