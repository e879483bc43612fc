/** What the benches have recorded, as spreads for targets. Pure. */
import type { Result } from "./recorded.js";
import { ratios, type Spread, spread } from "./statistics.js";

export type Sample = Record<string, number>;
export type Field = (sample: Sample) => number;

export const gigabits: Field = ({ received, elapsed }) => (received! * 8) / elapsed!;
export const cpuPerByte: Field = ({ cpu, received }) => cpu! / received!;
export const cpuPerOne: Field = ({ cpu, count }) => cpu! / count!;

/** The recorded data. Every method returns undefined for what was not recorded. */
export class Numbers {
	private readonly data: ReadonlyMap<string, unknown>;

	constructor(results: readonly Result[]) {
		this.data = new Map(results.map(({ bench, data }) => [bench, data]));
	}

	/** Ratio of CPU per packet of two ways of a `Comparison`, paired by round. */
	cpu(bench: string, key: string, other: string): Spread | undefined {
		const [values, others] = [this.cpuPerPacket(bench, key), this.cpuPerPacket(bench, other)];
		return values && others && ratios(values, others);
	}

	/** Difference of CPU per packet, paired by round. */
	difference(bench: string, key: string, other: string): Spread | undefined {
		const [values, others] = [this.cpuPerPacket(bench, key), this.cpuPerPacket(bench, other)];
		return values && others && spread(values.map((value, round) => value - others[round]!));
	}

	/** Ratio of one field of two lists of samples, paired by round. */
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

	/** Ratio of the medians of two values, or lists of values, that were not measured in pairs. */
	medians(bench: string, path: readonly string[], other: readonly string[]): Spread | undefined {
		const [one, of] = [this.single(bench, path, 1), this.single(bench, other, 1)];
		return one && of && spread([one.median / of.median]);
	}

	/** As they were recorded. */
	values(bench: string, path: readonly string[]): number[] | undefined {
		return this.find<number[]>(bench, path);
	}

	/** Ratio of CPU per packet sent, whether or not it arrived. */
	cpuSent(bench: string, key: string, other: string): Spread | undefined {
		const [values, others] = [key, other].map((one) =>
			this.find<number[]>(bench, [one, "cpuPerSent"]),
		);
		return values && others && ratios(values, others);
	}

	/** Of a pair {many, one}, of values or of lists of values: the difference of the medians. */
	beyond(bench: string, path: readonly string[], unit = 1): Spread | undefined {
		const [many, one] = ["many", "one"].map((which) => this.single(bench, [...path, which], unit));
		return many && one && spread([many.median - one.median]);
	}

	/** How much longer a look-up takes among this many flows than among one, ns. */
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
