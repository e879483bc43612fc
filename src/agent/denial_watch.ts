/**
 * Reads the core's notes of denied packets from time to time, while packets are denied: keeps them for
 * `fairway denials` and logs some of them.
 */
import { inTurns } from "../loop/turns.js";
import { type Denial, Denials } from "../observe/denials.js";
import type { RuleName } from "../policy/policy_tables.js";
import { denialRows } from "../report/denials.js";
import type { ClusterSource } from "../report/policy_cluster.js";
import { RateLimit } from "../slowpath/rate_limit.js";
import type { Log } from "../text/log.js";
import type { Kernel } from "./kernel.js";

export interface DenialWatchOptions {
	kernel: Pick<Kernel, "counters" | "denialNotes">;
	rule: (id: number) => RuleName | undefined;
	cluster: () => ClusterSource;
	log: Log;
	/** Between two looks; default: 2,000. */
	periodMs?: number;
}

const PERIOD_MS = 2_000;
/** Lines a minute, and at once. */
const LINES = { rate: 10 / 60, burst: 20 };

export class DenialWatch {
	readonly #options: DenialWatchOptions;
	readonly #denials = new Denials();
	readonly #lines = new RateLimit(LINES);
	readonly #timer: NodeJS.Timeout;
	/** Packets denied, when the core was last asked. */
	#dropped = -1n;
	#looking: Promise<void> | undefined;

	constructor(options: DenialWatchOptions) {
		this.#options = options;
		this.#timer = setInterval(() => void this.look(), options.periodMs ?? PERIOD_MS);
		this.#timer.unref();
	}

	/** The last one first, with all records of the core until now. */
	async list(): Promise<Denial[]> {
		await this.look();
		return this.#denials.list();
	}

	/** Never rejects. */
	look(): Promise<void> {
		this.#looking ??= this.#look()
			.catch((err) => this.#options.log.warn({ err }, "cannot read denied packets"))
			.finally(() => {
				this.#looking = undefined;
			});
		return this.#looking;
	}

	close(): void {
		clearInterval(this.#timer);
	}

	async #look(): Promise<void> {
		const { kernel, rule } = this.#options;
		const { drops } = kernel.counters();
		const dropped = BigInt(drops.policy_egress ?? 0) + BigInt(drops.policy_ingress ?? 0);
		if (dropped === this.#dropped) return;
		this.#dropped = dropped;
		const [now, clock] = [process.hrtime.bigint(), Date.now()];
		const fresh: Denial[] = [];
		for (const note of await kernel.denialNotes()) {
			const name = rule(note.rule);
			// The rule is an earlier agent's, or was removed.
			if (name === undefined) continue;
			const time = Math.round(clock - Number(now - note.at) / 1e6);
			const one = this.#denials.take({ ...note, time }, name);
			if (one !== undefined && this.#lines.take("", performance.now())) fresh.push(one);
		}
		if (fresh.length > 0) await this.#write(fresh);
	}

	async #write(fresh: readonly Denial[]): Promise<void> {
		const { cluster, log } = this.#options;
		for (const { first: _, last: __, noted: ___, ...facts } of await inTurns(
			denialRows(fresh, cluster()),
		))
			log.info(facts, "denied by network policy");
	}
}
