/** Targets of Services (bench/services.ts). Pure. */
import type { Claim } from "./claim.js";
import { cpuPerByte, cpuPerOne, type Field, gigabits, type Numbers } from "./numbers.js";
import { type Spread, spread } from "./statistics.js";

const WAYS = ["direct", "geneve"] as const;
type Way = (typeof WAYS)[number];

/** A value for each way, keyed by its display name. */
const each = (value: (way: Way) => Spread | undefined): Record<string, Spread | undefined> => ({
	direct: value("direct"),
	Geneve: value("geneve"),
});

/** By a Service's address. */
export function services(numbers: Numbers): Claim[] {
	const named = (way: Way) => `Fairway ${way}, Service`;
	const established = (other: (way: Way) => string) =>
		each((way) => numbers.cpu("services", `out ${named(way)}`, `out ${other(way)}`));
	const bare = (way: string) => (way === "geneve" ? "bare DNAT, geneve" : "bare DNAT");
	const one = (kind: string, name: string, other: string, field: Field = cpuPerOne) =>
		numbers.ratio("services", `${kind} ${name}`, `${kind} ${other}`, field);
	const sockets = (kind: string, other: (way: Way) => string) =>
		each((way) => one(kind, named(way), other(way)));
	const plain = (way: string) => `Fairway ${way}`;
	const rules = ["iptables-nft", "iptables-legacy", "nft"];
	const against = (value: (rule: string) => Spread | undefined) =>
		Object.fromEntries(rules.map((rule) => [rule, value(rule)]));
	const answers = (name: string) =>
		numbers.difference("services", `answers 10000 ${name}`, `answers 1 ${name}`);
	const [translated, direct] = [answers("Fairway direct, Service"), answers("Fairway direct")];
	const changes = numbers.single("services", ["changes", "latencies"], 1);
	return [
		{
			scenario: "Service, established, egress half: CPU",
			of: "of no Service",
			limit: 1.06,
			measured: established(plain),
		},
		{
			scenario: "Service, established, egress half: CPU",
			of: "of a bare translation",
			limit: 1.15,
			measured: established(bare),
		},
		{
			scenario: "Service, established, egress half, direct: CPU",
			of: "of kube-proxy's rules",
			limit: 0.65,
			measured: against((rule) => numbers.cpu("services", `out ${named("direct")}`, `out ${rule}`)),
			floors: against((rule) => numbers.cpu("services", "out bare DNAT", `out ${rule}`)),
		},
		{
			scenario: "Service, answers of 10,000 flows instead of 1: extra CPU",
			of: "of no Service's",
			limit: 1.8,
			measured: { "": translated && direct && spread([translated.median / direct.median]) },
		},
		{
			scenario: "Service, TCP request/response: CPU",
			of: "of no Service",
			limit: 1.05,
			measured: sockets("exchange", plain),
		},
		{
			scenario: "Service, TCP request/response, direct: CPU",
			of: "of kube-proxy's rules",
			limit: 0.8,
			measured: against((rule) => one("exchange", named("direct"), rule)),
			floors: against((rule) => one("exchange", "bare DNAT", rule)),
		},
		...["1 stream", "8 streams"].flatMap((kind) => [
			{
				scenario: `Service, TCP, ${kind}: Gb/s`,
				of: "of no Service",
				limit: 0.98,
				atLeast: true,
				measured: each((way) => one(kind, named(way), plain(way), gigabits)),
			},
			{
				scenario: `Service, TCP, ${kind}: CPU per byte`,
				of: "of no Service",
				limit: 1.03,
				measured: each((way) => one(kind, named(way), plain(way), cpuPerByte)),
			},
		]),
		{
			scenario: "Service, a TCP connection for each request: CPU",
			of: "of no Service",
			limit: 1.15,
			measured: {
				...sockets("connect", plain),
				host: one("connect", "Fairway, host, Service", "Fairway, host"),
			},
		},
		{
			scenario: "Service, a TCP connection for each request, direct: CPU",
			of: "of kube-proxy's rules",
			limit: 0.8,
			measured: against((rule) => one("connect", named("direct"), rule)),
			floors: against((rule) => one("connect", "bare DNAT", rule)),
		},
		{
			scenario: "10,000 Services, a TCP connection for each request: CPU",
			of: "of 1 Service",
			limit: 1.05,
			measured: { direct: one("connect", "Fairway direct, 10000", named("direct")) },
			floors: Object.fromEntries(
				["iptables-legacy", "nft"].map((rule) => [rule, one("connect", `${rule}, 10000`, rule)]),
			),
		},
		{
			scenario: "NodePort, the backend on another Node: CPU",
			of: "of nft masquerade and translation",
			limit: 0.65,
			measured: { direct: numbers.cpu("services", "NodePort Fairway direct", "NodePort nft") },
		},
		{
			scenario: "NodePort, the backend on another Node: CPU",
			of: "of a Pod's SNAT",
			limit: 1.2,
			measured: {
				direct: numbers.cpu("services", "NodePort Fairway direct", "SNAT Fairway direct"),
			},
		},
		{
			scenario: "one endpoint of 10,000 Services changes: until the last write, longest",
			of: "ms",
			limit: 100,
			digits: 0,
			measured: { "": changes && spread([changes.greatest]) },
		},
		...[
			{ what: "after a restart", path: "restart", limit: 1.5 },
			{ what: "at the first start", path: "load", limit: 3 },
		].map(({ what, path, limit }) => ({
			...{ scenario: `10,000 Services: agent ready ${what}, beyond that with one`, of: "s", limit },
			measured: { "": numbers.beyond("services", ["changes", path], 1000) },
		})),
		{
			scenario: "10,000 Services: agent's resident memory beyond that with one",
			of: "MB",
			limit: 60,
			digits: 0,
			measured: { "": numbers.beyond("services", ["changes", "resident"]) },
		},
		{
			scenario: "SYNs to a Service without endpoints: refused",
			of: "of those sent",
			limit: 1,
			atLeast: true,
			measured: { "": numbers.medians("services", ["refused", "refused"], ["refused", "sent"]) },
		},
		{
			scenario: "SYNs to a Service without endpoints, 100,000 of them: agent's CPU",
			of: "ms",
			limit: 10,
			digits: 0,
			measured: { "": numbers.single("services", ["refused", "agent"], 1) },
		},
	];
}
