/**
 * What Fairway's numbers must say, beside what they say, from what the benches have recorded. Pure.
 *
 * Where less is not to be had on a machine, its floors show it: what the kernel or a program that
 * asks nothing takes for the same, measured in the same rounds.
 */
import type { Result } from "./recorded.js";
import type { Table } from "./report.js";
import { ratios, type Spread, shownSpread, spread } from "./statistics.js";

interface Claim {
	scenario: string;
	/** Of what the numbers are multiples, or their unit. */
	of: string;
	limit: number | undefined;
	/** More is better. */
	atLeast?: boolean;
	/** By way, all of which have to reach it. */
	measured: Record<string, Spread | undefined>;
	floors?: Record<string, Spread | undefined>;
	digits?: number;
}

type Sample = Record<string, number>;
type Field = (sample: Sample) => number;

const gigabits: Field = ({ received, elapsed }) => (received! * 8) / elapsed!;
const cpuPerByte: Field = ({ cpu, received }) => cpu! / received!;
const cpuPerOne: Field = ({ cpu, count }) => cpu! / count!;

const TUNNELS = ["geneve", "vxlan"] as const;
const NAMES = { geneve: "Geneve", vxlan: "VXLAN", direct: "direct" } as const;
const VXLAN = "kernel vxlan";
const FORWARDING = "kernel forwarding";
const PASSING = `${FORWARDING}, XDP that passes`;
const BARE = "bare redirects";
const NO_DATAPLANE = "plain veth pair";
const MS = 1000;

export function summary(results: readonly Result[]): Table {
	return {
		title: "What the numbers must say",
		columns: ["", "wanted", "measured", "reached", "floors here, measured alike"],
		rows: claims(new Numbers(results)).map((claim) => {
			const { scenario, measured, floors = {}, digits = 2 } = claim;
			const shown = (values: Record<string, Spread | undefined>): string =>
				Object.entries(values)
					.map(([name, value]) => `${name} ${value ? shownSpread(value, digits) : "–"}`.trim())
					.join("<br>");
			return [scenario, wanted(claim), shown(measured), reached(claim), shown(floors)];
		}),
	};
}

/** The same for who has no time: medians, in bold where they are as wanted, and one floor. */
export function shortSummary(results: readonly Result[]): Table {
	return {
		title: "What the numbers must say",
		columns: ["", "wanted", "measured", "floor"],
		rows: claims(new Numbers(results)).map((claim) => {
			const { scenario, measured, floors = {}, digits = 2 } = claim;
			const shown = (value: Spread | undefined) => value?.median.toFixed(digits) ?? "–";
			const ways = Object.entries(measured).map(([name, value]) => {
				const strong = isReached(claim, value) ? "**" : "";
				return `${name} ${strong}${shown(value)}${strong}`.trim();
			});
			const [floor = ""] = Object.entries(floors).map(([name, value]) => `${shown(value)} ${name}`);
			return [scenario, wanted(claim), ways.join(", "), floor];
		}),
	};
}

function wanted({ limit, atLeast = false, digits = 2, of }: Claim): string {
	return `${atLeast ? "≥" : "≤"} ${limit?.toFixed(digits) ?? "–"} ${of}`;
}

/** By the median, as it is shown. */
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

/** A value for each of some ways, by what a reader calls them. */
const each = <Way extends keyof typeof NAMES>(
	ways: readonly Way[],
	value: (way: Way) => Spread | undefined,
): Record<string, Spread | undefined> =>
	Object.fromEntries(ways.map((way) => [NAMES[way], value(way)]));

function claims(numbers: Numbers): Claim[] {
	const packets = (half: string, name: string, other: string) =>
		numbers.cpu("pods", `${half} 4 ${name}`, `${half} 4 ${other}`);
	const tunnel = (half: string, scenario: string, limit: number): Claim => ({
		scenario: `small packets in a tunnel, ${scenario}: CPU`,
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
		tunnel("out", "out half", 0.68),
		tunnel("in", "in half", 0.4),
		{
			scenario: "small packets direct, end to end: CPU",
			of: `of ${FORWARDING}`,
			limit: 0.7,
			measured: { "": packets("end", "Fairway direct", FORWARDING) },
			floors: { "bare redirect": packets("end", "bare redirect", FORWARDING) },
		},
		{
			scenario: "XDP strips and redirects: CPU",
			of: "of a bare redirect",
			limit: 1.6,
			measured: each(TUNNELS, (kind) => strip(`Fairway ${kind}`, kind)),
			floors: { "bare strip": strip("bare strip and redirect, geneve", "geneve") },
		},
		{
			scenario: "SNAT, 10,000 flows: CPU",
			of: "of nft masquerade",
			limit: 0.65,
			measured: { "": snat("Fairway SNAT") },
			floors: { "forwarded untranslated": snat(FORWARDING) },
		},
		...bulk(numbers, "tunnel", TUNNELS, VXLAN, 0.9),
		...bulk(numbers, "direct", ["direct"], FORWARDING, 0.85),
		{
			scenario: "TCP request and response in a tunnel: CPU",
			of: `of ${VXLAN}`,
			limit: 0.8,
			measured: each(TUNNELS, (kind) => exchange(`Fairway ${kind}`)),
			floors: Object.fromEntries(
				[BARE, FORWARDING, NO_DATAPLANE].map((name) => [name, exchange(name)]),
			),
		},
		...growth(numbers),
		...probes(numbers),
	];
}

/** TCP streams: as many bytes, for less CPU. */
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
		out: value("out"),
		in: value("in"),
	});
	const agent = (field: string, unit = 1) =>
		numbers.single("growth", ["agent", "1000 peers", field], unit);
	return [
		{
			scenario: "10,000 peers: CPU per packet",
			of: "of 10 peers",
			limit: 1.1,
			measured: halves((half) => numbers.cpu("growth", `${half} 10000 peers`, `${half} 10 peers`)),
		},
		{
			scenario: "1,000,000 flows: CPU per packet, less that of 1 flow",
			of: "ns, what one look-up misses in the caches",
			limit: numbers.missing(1_000_000),
			digits: 0,
			measured: halves((half) =>
				numbers.difference("growth", `${half} 1000000 flows`, `${half} 1 flows`),
			),
		},
		{
			scenario: "agent with 1,000 peers: resident",
			of: "MB",
			limit: 90,
			digits: 0,
			measured: { "": agent("agent") },
			floors: { "bare Node.js": numbers.single("growth", ["bare", "resident"], 1) },
		},
		{
			scenario: "agent with 1,000 peers: ready",
			of: "s",
			limit: 1.5,
			measured: { "after a restart": agent("adopting", MS), "at first": agent("cold", MS) },
			floors: { "bare Node.js": numbers.single("growth", ["bare", "starts"], MS) },
		},
	];
}

function probes(numbers: Numbers): Claim[] {
	const both = (field: Field) => ({
		"without traffic": numbers.samples("probes", "idle", field),
		"traffic to 50": numbers.samples("probes", "active", field),
	});
	const faults = ["source check, both ways", "source check, one way", "black hole for Pods"];
	// What is promised is promised of all of them, not of the median.
	const longest = (key: string) => {
		const lost = numbers.samples("failover", key, ({ recovered }) => recovered!);
		return lost && spread([lost.greatest]);
	};
	return [
		{
			scenario: "probing 1,000 peers: CPU of the agent",
			of: "% of a core",
			limit: 1,
			measured: both(({ cpu }) => 100 * cpu!),
		},
		{
			scenario: "probing 1,000 peers: on the wire, both directions",
			of: "kbit/s",
			limit: 500,
			digits: 0,
			measured: both(({ sent, received }) => (sent! + received!) / 1000),
		},
		...[1000, 500].map((limit) => ({
			scenario: `a direct path fails, failoverTime ${limit}: packets are lost for, at most`,
			of: "ms",
			limit,
			digits: 0,
			measured: Object.fromEntries(faults.map((name) => [name, longest(`${limit} ${name}`)])),
		})),
		{
			scenario: "ten minutes on busy cores, nothing wrong: paths that change",
			of: "of all",
			limit: 0,
			digits: 0,
			measured: { "": numbers.single("quiet", ["changes"], 1) },
		},
	];
}

/** The data of the results; what is not there is undefined. */
class Numbers {
	private readonly data: ReadonlyMap<string, unknown>;

	constructor(results: readonly Result[]) {
		this.data = new Map(results.map(({ bench, data }) => [bench, data]));
	}

	/** CPU per packet of a `Comparison`, paired by round. */
	cpu(bench: string, key: string, other: string): Spread | undefined {
		const [values, others] = [this.cpuPerPacket(bench, key), this.cpuPerPacket(bench, other)];
		return values && others && ratios(values, others);
	}

	/** The same, one less the other. */
	difference(bench: string, key: string, other: string): Spread | undefined {
		const [values, others] = [this.cpuPerPacket(bench, key), this.cpuPerPacket(bench, other)];
		return values && others && spread(values.map((value, round) => value - others[round]!));
	}

	/** Of samples by round. */
	ratio(bench: string, key: string, other: string, field: Field): Spread | undefined {
		const [samples, others] = [key, other].map((k) => this.find<Sample[]>(bench, [k]));
		return samples && others && ratios(samples.map(field), others.map(field));
	}

	samples(bench: string, key: string, field: Field): Spread | undefined {
		const samples = this.find<Sample[]>(bench, [key]);
		return samples && spread(samples.map(field));
	}

	single(bench: string, path: readonly string[], unit: number): Spread | undefined {
		const values = this.find<number | number[]>(bench, path);
		return values === undefined ? undefined : spread([values].flat().map((value) => value / unit));
	}

	/** What a look-up among this many flows takes longer than one among one, ns. */
	missing(flows: number): number | undefined {
		const looking = (among: number): number | undefined => {
			const [quick, nowhere] = ["look_quick", "look_nowhere"].map((program) =>
				this.find<number>("steps", [`${program} ${among}`, "median"]),
			);
			return quick !== undefined && nowhere !== undefined ? quick - nowhere : undefined;
		};
		const [many, one] = [looking(flows), looking(1)];
		return many !== undefined && one !== undefined ? many - one : undefined;
	}

	private cpuPerPacket(bench: string, key: string): number[] | undefined {
		return this.find<number[]>(bench, [key, "cpuPerPacket"]);
	}

	private find<T>(bench: string, path: readonly string[]): T | undefined {
		let value = this.data.get(bench);
		for (const key of path) value = (value as Record<string, unknown> | undefined)?.[key];
		return value as T | undefined;
	}
}
