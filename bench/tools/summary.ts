/**
 * Fairway's performance targets beside what the benches have recorded. Pure.
 *
 * A floor shows the least that a machine allows: what the kernel, or a program without look-ups,
 * takes for the same work in the same rounds.
 */
import type { Claim } from "./claim.js";
import { cpuPerByte, cpuPerOne, type Field, gigabits, Numbers } from "./numbers.js";
import type { Result } from "./recorded.js";
import type { Table } from "./report.js";
import { type Spread, shownSpread, spread } from "./statistics.js";
import { kubernetes } from "./summary_kube.js";
import { networkPolicy } from "./summary_policy.js";
import { services } from "./summary_services.js";

const TUNNELS = ["geneve", "vxlan"] as const;
const NAMES = { geneve: "Geneve", vxlan: "VXLAN", direct: "direct" } as const;
const VXLAN = "kernel vxlan";
const FORWARDING = "kernel forwarding";
const PASSING = `${FORWARDING}, XDP that passes`;
const BARE = "bare redirects";
const NO_DATAPLANE = "plain veth pair";

export function summary(results: readonly Result[]): Table {
	return {
		title: "Targets",
		columns: ["", "target", "measured", "met", "floors, same run"],
		rows: claims(new Numbers(results)).map((claim) => {
			const { scenario, measured, floors = {}, digits = 2 } = claim;
			const shown = (values: Record<string, Spread | undefined>): string =>
				Object.entries(values)
					.map(([name, value]) => `${name} ${value ? shownSpread(value, digits) : "–"}`.trim())
					.join("<br>");
			return [scenario, target(claim), shown(measured), reached(claim), shown(floors)];
		}),
	};
}

/** The short form: medians, in bold where they meet the target, and one floor. */
export function shortSummary(results: readonly Result[]): Table {
	return {
		title: "Targets",
		columns: ["", "target", "measured", "floor"],
		rows: claims(new Numbers(results)).map((claim) => {
			const { scenario, measured, floors = {}, digits = 2 } = claim;
			const shown = (value: Spread | undefined) => value?.median.toFixed(digits) ?? "–";
			const ways = Object.entries(measured).map(([name, value]) => {
				const strong = isReached(claim, value) ? "**" : "";
				return `${name} ${strong}${shown(value)}${strong}`.trim();
			});
			const [floor = ""] = Object.entries(floors).map(([name, value]) => `${shown(value)} ${name}`);
			return [scenario, target(claim), ways.join(", "), floor];
		}),
	};
}

function target({ limit, atLeast = false, digits = 2, of }: Claim): string {
	return `${atLeast ? "≥" : "≤"} ${limit?.toFixed(digits) ?? "–"} ${of}`.trim();
}

/** Compares the median, rounded as it is shown. */
function isReached({ limit, atLeast, digits = 2 }: Claim, value: Spread | undefined): boolean {
	if (value === undefined || limit === undefined) return false;
	const [shown, most] = [value.median, limit].map((one) => Number(one.toFixed(digits)));
	return atLeast ? shown! >= most! : shown! <= most!;
}

function reached(claim: Claim): string {
	const ways = Object.entries(claim.measured);
	if (claim.limit === undefined || ways.some(([, value]) => value === undefined))
		return "not measured";
	const not = ways.filter(([, value]) => !isReached(claim, value)).map(([name]) => name);
	if (not.length === 0) return "yes";
	return not.length === ways.length ? "no" : `not by ${not.join(" and ")}`;
}

/** A value for each way, keyed by its display name. */
const each = <Way extends keyof typeof NAMES>(
	ways: readonly Way[],
	value: (way: Way) => Spread | undefined,
): Record<string, Spread | undefined> =>
	Object.fromEntries(ways.map((way) => [NAMES[way], value(way)]));

function claims(numbers: Numbers): Claim[] {
	const packets = (half: string, name: string, other: string) =>
		numbers.cpu("pods", `${half} 4 ${name}`, `${half} 4 ${other}`);
	const tunnel = (half: string, scenario: string, limit: number): Claim => ({
		scenario: `small packets, tunnel, ${scenario}: CPU`,
		of: `of ${VXLAN}`,
		limit,
		measured: each(TUNNELS, (kind) => packets(half, `Fairway ${kind}`, VXLAN)),
		floors: { "bare tunnel": packets(half, "bare tunnel", VXLAN) },
	});
	const strip = (way: string, kind: string) => numbers.cpu("xdp", way, `bare redirect, ${kind}`);
	const snat = (way: string) => numbers.cpu("snat", `10000 ${way}`, "10000 nft masquerade");
	const exchange = (way: string) =>
		numbers.ratio("tcp", `exchange ${way}`, `exchange ${VXLAN}`, cpuPerOne);
	return [
		tunnel("end", "end to end", 0.5),
		{
			scenario: "small packets, tunnel, end to end: CPU",
			of: "of a bare tunnel",
			limit: 1.06,
			measured: each(TUNNELS, (kind) => packets("end", `Fairway ${kind}`, "bare tunnel")),
		},
		tunnel("out", "egress half", 0.68),
		tunnel("in", "ingress half", 0.4),
		{
			scenario: "small packets, direct, end to end: CPU",
			of: `of ${FORWARDING}`,
			limit: 0.7,
			measured: { "": packets("end", "Fairway direct", FORWARDING) },
			floors: { "bare redirect": packets("end", "bare redirect", FORWARDING) },
		},
		{
			scenario: "XDP decap and redirect: CPU",
			of: "of a bare redirect",
			limit: 1.6,
			measured: each(TUNNELS, (kind) => strip(`Fairway ${kind}`, kind)),
			floors: { "bare strip": strip("bare strip and redirect, geneve", "geneve") },
		},
		{
			scenario: "SNAT, 10,000 flows: CPU",
			of: "of nft masquerade",
			limit: 0.5,
			measured: { "": snat("Fairway SNAT") },
			floors: { "forwarded without NAT": snat(FORWARDING) },
		},
		...bulk(numbers, "tunnel", TUNNELS, VXLAN, 0.9),
		...bulk(numbers, "direct", ["direct"], FORWARDING, 0.85),
		{
			scenario: "TCP request/response, tunnel: CPU",
			of: `of ${VXLAN}`,
			limit: 0.8,
			measured: each(TUNNELS, (kind) => exchange(`Fairway ${kind}`)),
			floors: Object.fromEntries(
				[BARE, FORWARDING, NO_DATAPLANE].map((name) => [name, exchange(name)]),
			),
		},
		{
			scenario: "new SNAT flows: CPU",
			of: "of nft masquerade",
			limit: 0.6,
			measured: { "": numbers.cpu("snat", "new Fairway SNAT", "new nft masquerade") },
			floors: {
				"forwarded without NAT": numbers.cpu("snat", `new ${FORWARDING}`, "new nft masquerade"),
			},
		},
		...services(numbers),
		...networkPolicy(numbers),
		...growth(numbers),
		...kubernetes(numbers),
		...probes(numbers),
	];
}

/** TCP streams: no less throughput, less CPU per byte. */
function bulk(
	numbers: Numbers,
	path: string,
	ways: readonly (keyof typeof NAMES)[],
	other: string,
	cpu: number,
): Claim[] {
	return ["1 stream", "8 streams"].flatMap((streams) => {
		const claim = (what: string, limit: number, field: Field): Claim => {
			const of = (one: string) =>
				numbers.ratio("tcp", `${streams} ${one}`, `${streams} ${other}`, field);
			const floors = [NO_DATAPLANE, BARE, PASSING].map((name) => [name, of(name)]);
			const xdp = ways.map((way) => [`${NAMES[way]} with XDP`, of(`Fairway ${way}, XDP`)]);
			return {
				scenario: `TCP ${path}, ${streams}: ${what}`,
				of: `of ${other}`,
				limit,
				atLeast: field === gigabits,
				measured: each(ways, (way) => of(`Fairway ${way}`)),
				floors: Object.fromEntries([...floors, ...xdp]),
			};
		};
		return [claim("Gb/s", 1, gigabits), claim("CPU per byte", cpu, cpuPerByte)];
	});
}

function growth(numbers: Numbers): Claim[] {
	const halves = (value: (half: string) => Spread | undefined) => ({
		egress: value("out"),
		ingress: value("in"),
	});
	const peers = ["1000 peers", "10000 peers"];
	const restart = (count: string) =>
		numbers.medians("growth", ["agent", count, "adopting"], ["bare", "starts"]);
	return [
		{
			scenario: "10,000 peers: CPU per packet",
			of: "of 10 peers",
			limit: 1.05,
			measured: halves((half) => numbers.cpu("growth", `${half} 10000 peers`, `${half} 10 peers`)),
		},
		{
			scenario: "1,000,000 flows instead of 1: extra CPU per packet",
			of: "ns, the cache misses of one look-up",
			limit: numbers.missing(1_000_000),
			digits: 0,
			measured: halves((half) =>
				numbers.difference("growth", `${half} 1000000 flows`, `${half} 1 flows`),
			),
		},
		...peers.flatMap((count, i) => [
			{
				scenario: `agent with ${thousands(count)}: resident memory`,
				of: "MB",
				limit: [90, 150][i],
				digits: 0,
				measured: { "": numbers.single("growth", ["agent", count, "agent"], 1) },
				floors: { "bare Node.js": numbers.single("growth", ["bare", "resident"], 1) },
			},
			{
				scenario: `agent with ${thousands(count)}: ready after a restart`,
				of: "of a bare Node.js start",
				limit: [10, 20][i],
				digits: 0,
				measured: { "": restart(count) },
			},
		]),
		{
			scenario: "5,000 Nodes, 100 changes/s: lag of the agent's event loop, p99.9",
			of: "ms",
			limit: 10,
			digits: 1,
			measured: { "": numbers.single("lag", ["lags", "100 changes/s", "agent", "p999"], 1) },
			floors: {
				"idle Node.js": numbers.single("lag", ["lags", "100 changes/s", "idle", "p999"], 1),
			},
		},
	];
}

/** "1000 peers" as text. */
function thousands(count: string): string {
	return count.replace(/(\d)000\b/, "$1,000");
}

function probes(numbers: Numbers): Claim[] {
	const both = (field: Field) => ({
		idle: numbers.samples("probes", "idle", field),
		"traffic to 50 peers": numbers.samples("probes", "active", field),
	});
	const faults = ["source check, both ways", "source check, one way", "black hole for Pods"];
	// The target holds for the worst case, not for the median.
	const longest = (key: string) => {
		const lost = numbers.samples("failover", key, ({ recovered }) => recovered!);
		return lost && spread([lost.greatest]);
	};
	return [
		{
			scenario: "probing 1,000 peers: agent CPU",
			of: "% of a core",
			limit: 1,
			measured: both(({ cpu }) => 100 * cpu!),
		},
		{
			scenario: "probing 1,000 peers: bandwidth, both directions",
			of: "kbit/s",
			limit: 500,
			digits: 0,
			measured: both(({ sent, received }) => (sent! + received!) / 1000),
		},
		...[1000, 500].map((limit) => ({
			scenario: `failover, failoverTime ${limit}: longest loss`,
			of: "ms",
			limit,
			digits: 0,
			measured: Object.fromEntries(faults.map((name) => [name, longest(`${limit} ${name}`)])),
		})),
		{
			scenario: "false failovers in 10 min on busy cores",
			of: "",
			limit: 0,
			digits: 0,
			measured: { "": numbers.single("quiet", ["changes"], 1) },
		},
	];
}
