/** The maps of network policy on paper: they refuse at will, and an evaluator sees each single write. */
import { isDeepStrictEqual } from "node:util";
import { plainJudgement, plainVerdict } from "../../src/policy/entries.js";
import { Evaluator } from "../../src/policy/evaluator.js";
import type { EndpointPolicies, PolicyTableName } from "../../src/policy/policy_tables.js";
import type { AgentTables, EntryFailure } from "../../src/reconcile/maps/agent_tables.js";
import type { PolicyTarget } from "../../src/reconcile/maps/policy_tables.js";
import { ADDRESS_SIZE, formatAddress, parseAddress } from "../../src/tables/address.js";
import { u32 } from "../../src/tables/codec.js";
import type { Policy, PolicyVerdict, PortSet } from "../../src/tables/generated.js";

type MapName = Exclude<PolicyTableName, "rules" | "endpointPolicies"> | "ruleCounters";

export class PaperPolicyMaps implements PolicyTarget {
	readonly evaluator = new Evaluator();
	/** What was written: "table key", "-table key" for a removal, "route", "peers 1,2". */
	readonly steps: string[] = [];
	refuses: (step: string) => boolean = () => false;
	/** After each write. */
	onWrite: (step: string) => void = () => {};
	readonly tables: AgentTables;
	readonly #maps = new Map<MapName, Map<number | string, unknown>>();
	readonly #written = new Map<MapName, Map<number | string, unknown>>();

	constructor() {
		const names = ["identities", "blocks", "classLimit", "policies", "policyVerdicts"] as const;
		this.tables = Object.fromEntries(
			[...names, "portSets" as const, "ruleCounters" as const].map((name) => [
				name,
				this.#table(name),
			]),
		) as unknown as AgentTables;
	}

	entries(name: MapName): ReadonlyMap<number | string, unknown> {
		return this.#maps.get(name)!;
	}

	/** Somebody else writes, or removes where there is no value. */
	disturb(name: Exclude<MapName, "ruleCounters">, key: number | string, value?: unknown) {
		if (value === undefined) this.#maps.get(name)!.delete(key);
		else this.#maps.get(name)!.set(key, value);
		this.evaluator.apply({ step: 0, table: name, key, value: plain(name, value) });
	}

	putEndpoint(address: string, policies: EndpointPolicies | undefined) {
		return this.#write(`endpoint ${address}`, () => {
			this.evaluator.apply({ step: 5, table: "endpointPolicies", key: address, value: policies });
		});
	}

	raiseRouteEpoch() {
		return this.#write("route", () => {});
	}

	raisePolicyEpochs(ids: Iterable<number>) {
		return this.#write(`peers ${[...ids].sort()}`, () => {});
	}

	endpointPolicies(address: string) {
		return this.evaluator.tables.endpointPolicies.get(address);
	}

	policiesInUse() {
		const { endpointPolicies } = this.evaluator.tables;
		return [...endpointPolicies.values()].flatMap(({ egress, ingress }) => [egress, ingress]);
	}

	#write(step: string, act: () => void): EntryFailure<never>[] {
		if (this.refuses(step)) return [{ key: step as never, message: `no ${step}` }];
		act();
		this.steps.push(step);
		this.onWrite(step);
		return [];
	}

	#table(name: MapName) {
		const entries = new Map<number | string, unknown>();
		const written = new Map<number | string, unknown>();
		this.#maps.set(name, entries);
		this.#written.set(name, written);
		const apply = (key: number | string, value: unknown) => {
			if (name !== "ruleCounters")
				this.evaluator.apply({ step: 0, table: name, key, value: plain(name, value) });
		};
		const failures = (keys: readonly (number | string)[], write: (index: number) => string) =>
			keys.flatMap((key, index) => {
				const step = write(index);
				return step === "" ? [] : [{ key, message: `no ${step}` }];
			});
		const addressesOf = (keys: Buffer) =>
			Array.from({ length: keys.length / ADDRESS_SIZE }, (_, i) =>
				formatAddress(keys, i * ADDRESS_SIZE),
			);
		const indexed = (keys: readonly unknown[], failed: { key: unknown }[]) =>
			failed.map((failure) => ({ ...failure, index: keys.indexOf(failure.key) }));
		const table = {
			put: (some: readonly (readonly [number | string, unknown])[]) =>
				failures(
					some.map(([key]) => key),
					(index) => {
						const [key, value] = some[index]!;
						const refused = this.#write(`${name} ${key}`, () => {
							entries.set(key, value);
							written.set(key, value);
							apply(key, value);
						});
						return refused.length > 0 ? `${name} ${key}` : "";
					},
				),
			remove: (keys: readonly (number | string)[]) =>
				failures(keys, (index) => {
					const key = keys[index]!;
					const refused = this.#write(`-${name} ${key}`, () => {
						entries.delete(key);
						written.delete(key);
						apply(key, undefined);
					});
					return refused.length > 0 ? `-${name} ${key}` : "";
				}),
			async *adoptInSlices() {
				written.clear();
				for (const [key, value] of entries) written.set(key, value);
				for (const [key, value] of entries) yield new Map([[key, value]]);
			},
			countDiffering: async () => {
				const keys = new Set([...entries.keys(), ...written.keys()]);
				return [...keys].filter((key) => !isDeepStrictEqual(entries.get(key), written.get(key)))
					.length;
			},
			readAt: (keys: Iterable<number>) =>
				new Map([...keys].flatMap((key) => (entries.has(key) ? [[key, entries.get(key)]] : []))),
			// Of identities alone.
			putPairs: (keys: Buffer, values: Buffer) => {
				const addresses = addressesOf(keys);
				return indexed(
					addresses,
					table.put(addresses.map((key, i) => [key, values.readUInt32LE(4 * i)])),
				);
			},
			async *adoptPairs() {
				for await (const slice of table.adoptInSlices())
					for (const [key, value] of slice)
						yield { keys: parseAddress(key as string)!, values: u32.encode(value as number) };
			},
		};
		return table;
	}
}

/** As the compiler has it. */
function plain(name: MapName, value: unknown): unknown {
	if (value === undefined) return undefined;
	if (name === "policyVerdicts") return plainVerdict(value as PolicyVerdict);
	if (name === "policies") {
		const policy = value as Policy;
		return { verdict: plainVerdict(policy.verdict), hairpin: policy.hairpin };
	}
	if (name !== "portSets") return value;
	const { nextFrom, next, count, segments } = value as PortSet;
	return {
		segments: segments
			.slice(0, count)
			.map((one) => ({ from: one.from, judgement: plainJudgement(one.judgement) })),
		...(nextFrom === 0 ? {} : { nextFrom, next }),
	};
}
